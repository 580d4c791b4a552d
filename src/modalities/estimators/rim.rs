//! RIM, reproducible-information modes: counts the modes that disjoint halves of the sample find independently.
//!
//! For every block of the sample, number of components p, neighbours k and prominence tau (a *cell* of the grid) the
//! modes are found three times: in the block and in its two halves ([`modes`](super::modes)). What the halves tell about
//! each other, I of H nats ([`Information`]), is averaged over the blocks. Cells whose halves share more than they
//! disagree about, R = 2I - H > 0, are evidence of modes; among those with nearly the largest R the one that reproduces
//! the largest share I / H of its information is chosen. No such cell: M = 1.
//!
//! What the statement leaves open is settled here: the ladder of k is cut for the smallest block, so that all blocks
//! have all cells; a half's k is at least 4; "at least 3 blocks" is a majority.

use rayon::prelude::*;
use serde_json::json;

use super::information::Information;
use super::modes::Field;
use super::neighbours::{Halves, Neighbours};
use crate::error::{Error, Result};
use crate::kernels::knn::nearest_of;
use crate::matrix::Matrix;
use crate::modalities::{Criterion, Fit, ModalityEstimator, Projection, Sample, pca, renumber};
use crate::progress::Progress;
use crate::rng::Stream;

/// Prominences tried, in nats.
const TAUS: [f64; 7] = [0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8];
/// A mode's prominence in standard errors of the log density (1 / sqrt k): tau sqrt(k) is at least this.
const Z0: f64 = 4.0;
/// Cells with an R within this share of the largest are as good.
const DELTA: f64 = 0.05;
/// Fewer distinct rows in a block show no modes.
const FEWEST: usize = 16;
/// Neighbours that make the graph.
const GRAPH: usize = 16;

/// The default estimator. O(blocks n^2 sum p) for blocks of n rows, whatever the dataset's size; one block's neighbour
/// lists are held at a time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rim;

impl ModalityEstimator for Rim {
    fn name(&self) -> &'static str {
        "rim"
    }

    fn fit(&self, sample: &Sample, seed: u64, progress: &Progress) -> Result<Fit> {
        if sample.rows.is_empty() {
            return Err(Error::Modalities {
                reason: "there are no rows to count modalities on".into(),
                help: "check `--where` and `--invalid`: they left no row".into(),
            });
        }
        let dims = sample.points.cols();
        let blocks: Vec<Vec<u32>> =
            sample.blocks.iter().map(|block| distinct(&sample.points, block)).collect();
        let rows = blocks.iter().map(Vec::len).min().unwrap_or(0);
        if rows < FEWEST {
            return Ok(one_mode(sample, &blocks, Vec::new(), seed));
        }
        let grid = Grid::new(rows, dims);
        let table = grid.look(sample, &blocks, seed, progress)?;
        let cells = grid.summary(&table);
        let evidence = evidence(&cells);
        match Choice::best(&cells) {
            None => Ok(one_mode(sample, &blocks, evidence, seed)),
            Some(choice) => Ok(choice.fit(sample, &blocks, &grid, &table, &cells, evidence, seed)),
        }
    }
}

/// The rows of a block less bit-identical copies (the lowest row of equal ones stays), ascending.
fn distinct(points: &Matrix, block: &[u32]) -> Vec<u32> {
    let bits = |i: u32| points.row(i as usize).iter().map(|x| x.to_bits());
    let mut rows = block.to_vec();
    rows.par_sort_unstable_by(|&i, &j| bits(i).cmp(bits(j)).then(i.cmp(&j)));
    rows.dedup_by(|later, first| bits(*later).eq(bits(*first)));
    rows.sort_unstable();
    rows
}

/// The cells (p, k, tau), p slowest.
struct Grid {
    dims: usize,
    components: Vec<usize>,
    ladder: Vec<usize>,
}

/// One block's view of a cell.
#[derive(Clone, Copy, Debug)]
struct Seen {
    modes: usize,
    /// Both halves have at least two modes.
    split: bool,
    halves: Information,
}

/// A cell over all blocks.
#[derive(Clone, Copy, Debug)]
struct Cell {
    index: usize,
    p: usize,
    k: usize,
    tau: f64,
    modes: usize,
    halves: Information,
    eligible: bool,
}

/// A block in one space.
struct Space {
    points: Matrix,
    neighbours: Neighbours,
}

impl Grid {
    fn new(rows: usize, dims: usize) -> Self {
        let mut components: Vec<usize> = pca::COMPONENTS.into_iter().filter(|&p| p < dims).collect();
        if dims <= 128 {
            components.push(dims);
        }
        let longest = (0.026 * rows as f64).max(16.0);
        let mut ladder: Vec<usize> = std::iter::successors(Some(16), |k| Some(2 * k))
            .take_while(|&k| k as f64 <= longest && 4 * k <= rows)
            .collect();
        if ladder.is_empty() {
            ladder.push((rows / 8).max(4));
        }
        Grid { dims, components, ladder }
    }

    /// The neighbours that a block's and a half's modes look at.
    fn lists(&self) -> (usize, usize) {
        let longest = self.ladder[self.ladder.len() - 1];
        let half = self.ladder.iter().map(|&k| half_k(k).max(half_graph(k))).max().unwrap_or(0);
        // A quarter more than needed, and 32: then nearly every row's list holds enough rows of its own half.
        (longest + longest / 4 + 32, half)
    }

    /// What every block sees in every cell. Equal blocks (small datasets) differ in their halves only and share the rest.
    fn look(
        &self,
        sample: &Sample,
        blocks: &[Vec<u32>],
        seed: u64,
        progress: &Progress,
    ) -> Result<Vec<Vec<Seen>>> {
        let groups: Vec<&[Vec<u32>]> = blocks.chunk_by(|a, b| a == b).collect();
        let stage =
            progress.stage("count modalities", "spaces", (groups.len() * self.components.len()) as u64);
        let mut table: Vec<Vec<Seen>> = Vec::new();
        for group in groups {
            let rows = &group[0];
            let points = gather(sample, rows);
            let projection = self.projection(&points, seed);
            let splits: Vec<Halves> = (table.len()..table.len() + group.len())
                .map(|b| {
                    let bit =
                        |i: usize| Stream::Half.key(seed, &[b as u64, sample.rows[rows[i] as usize]]) & 1;
                    Halves::new(rows.len(), |i| bit(i) == 1)
                })
                .collect();
            let mut seen = vec![Vec::new(); group.len()];
            for &p in &self.components {
                let space = self.space(&points, projection.as_ref(), p);
                let modes = self.modes(&space);
                for (split, seen) in splits.iter().zip(&mut seen) {
                    progress.check()?;
                    let halves = self.halves(&space, split);
                    let cells = modes.iter().zip(halves);
                    seen.extend(cells.map(|(&modes, (split, halves))| Seen { modes, split, halves }));
                }
                stage.advance(1)?;
            }
            table.extend(seen);
        }
        Ok(table)
    }

    /// The principal components of a block, as many as any cell uses; None if all cells use the points as they are.
    fn projection(&self, points: &Matrix, seed: u64) -> Option<Projection> {
        let most = self.components.iter().copied().filter(|&p| p < self.dims).max()?;
        pca::projection(points, most, seed)
    }

    /// A block in its first `p` components, or as it is if `p` is the number of dimensions.
    fn space(&self, points: &Matrix, projection: Option<&Projection>, p: usize) -> Space {
        let projection = projection.filter(|_| p < self.dims).map(|all| all.first(p));
        let points = pca::apply(projection.as_ref(), points);
        let neighbours = Neighbours::new(&points, self.lists().0.min(points.rows() - 1));
        Space { points, neighbours }
    }

    /// Number of modes of a block in every (k, tau).
    fn modes(&self, space: &Space) -> Vec<usize> {
        let at = |&k: &usize| {
            let field = Field::new(&space.neighbours, k, k.min(GRAPH));
            TAUS.par_iter().map(|&tau| field.count(tau, (k / 2).max(4))).collect::<Vec<_>>()
        };
        self.ladder.par_iter().map(at).collect::<Vec<_>>().concat()
    }

    /// In every (k, tau): do both halves have two modes or more, and what do they know of each other?
    fn halves(&self, space: &Space, split: &Halves) -> Vec<(bool, Information)> {
        let near = space.neighbours.within(split, &space.points, self.lists().1);
        if near.halves.iter().any(|half| half.k < 4) {
            // A half of a few rows finds nothing.
            return vec![(false, Information::default()); self.ladder.len() * TAUS.len()];
        }
        let points = [0, 1].map(|h| space.points.gather(split.rows[h].iter().map(|&i| i as usize)));
        let at = |&k: &usize| {
            let fields = [0, 1].map(|h| Field::new(&near.halves[h], half_k(k), half_graph(k)));
            let at = |&tau: &f64| {
                let [a, b] =
                    [0, 1].map(|h| fields[h].modes(tau, (k / 4).max(4), &near.halves[h], &points[h]));
                let carried = |labels: &[u32], to: usize| -> Vec<u32> {
                    near.across[to].iter().map(|&j| labels[j as usize]).collect()
                };
                let ways = [
                    Information::between(&a.labels, &carried(&b.labels, 0)),
                    Information::between(&b.labels, &carried(&a.labels, 1)),
                ];
                let halves = Information::mean(&ways).expect("there are two ways");
                (a.count() >= 2 && b.count() >= 2, halves)
            };
            TAUS.par_iter().map(at).collect::<Vec<_>>()
        };
        self.ladder.par_iter().map(at).collect::<Vec<_>>().concat()
    }

    /// The cells over all blocks: mean information, median number of modes.
    fn summary(&self, table: &[Vec<Seen>]) -> Vec<Cell> {
        let mut cells = Vec::new();
        for &p in &self.components {
            for &k in &self.ladder {
                for tau in TAUS {
                    let index = cells.len();
                    let seen: Vec<Seen> = table.iter().map(|block| block[index]).collect();
                    let mut modes: Vec<usize> = seen.iter().map(|s| s.modes).collect();
                    modes.sort_unstable();
                    let modes = modes[modes.len() / 2];
                    let information: Vec<Information> = seen.iter().map(|s| s.halves).collect();
                    let halves = Information::mean(&information).expect("there is a block");
                    let splits = seen.iter().filter(|s| s.split).count();
                    let eligible = tau * (k as f64).sqrt() >= Z0
                        && modes >= 2
                        && 2 * splits > seen.len()
                        && halves.reproducible() > 0.0;
                    cells.push(Cell { index, p, k, tau, modes, halves, eligible });
                }
            }
        }
        cells
    }
}

fn half_k(k: usize) -> usize {
    (k / 2).max(4)
}

fn half_graph(k: usize) -> usize {
    if k == 16 { 12 } else { half_k(k).min(GRAPH) }
}

fn gather(sample: &Sample, rows: &[u32]) -> Matrix {
    sample.points.gather(rows.iter().map(|&i| i as usize))
}

/// The chosen cell and those that were nearly as good.
struct Choice<'a> {
    cell: &'a Cell,
    rivals: Vec<&'a Cell>,
}

impl<'a> Choice<'a> {
    fn best(cells: &'a [Cell]) -> Option<Self> {
        let eligible = || cells.iter().filter(|c| c.eligible);
        let most = eligible().map(|c| c.halves.reproducible()).fold(0.0, f64::max);
        let rivals: Vec<&Cell> =
            eligible().filter(|c| c.halves.reproducible() >= (1.0 - DELTA) * most).collect();
        // The first of equals wins, so the later must be strictly better.
        let rank = |c: &Cell| (c.halves.share(), c.halves.reproducible());
        let cell = rivals.iter().copied().reduce(|best, c| if rank(c) > rank(best) { c } else { best })?;
        Some(Choice { cell, rivals })
    }

    /// The block that represents the cell: its number of modes nearest to the median, then the largest R.
    fn block(&self, table: &[Vec<Seen>]) -> usize {
        let seen = |b: usize| table[b][self.cell.index];
        let off = |b: usize| seen(b).modes.abs_diff(self.cell.modes);
        let better = |b: usize, best: usize| {
            let r = |b: usize| seen(b).halves.reproducible();
            off(b) < off(best) || off(b) == off(best) && r(b) > r(best)
        };
        (1..table.len()).fold(0, |best, b| if better(b, best) { b } else { best })
    }

    /// 5-95 % of M over the blocks and the cells that are nearly as good, by nearest rank outwards.
    fn interval(&self, table: &[Vec<Seen>], answer: u32) -> (u32, u32) {
        let counts = self.rivals.iter().flat_map(|c| table.iter().map(|block| block[c.index].modes as u32));
        let mut counts: Vec<u32> = counts.collect();
        counts.sort_unstable();
        let last = (counts.len() - 1) as f64;
        // The answer itself may be the odd one out: one block's count at one cell.
        let (low, high) = (counts[(0.05 * last).floor() as usize], counts[(0.95 * last).ceil() as usize]);
        (low.min(answer), high.max(answer))
    }

    #[expect(clippy::too_many_arguments, reason = "called once, where all of it is at hand")]
    fn fit(
        &self,
        sample: &Sample,
        blocks: &[Vec<u32>],
        grid: &Grid,
        table: &[Vec<Seen>],
        cells: &[Cell],
        evidence: Vec<Criterion>,
        seed: u64,
    ) -> Fit {
        let &Cell { p, k, tau, halves, .. } = self.cell;
        let block = self.block(table);
        // The block's space is made again: keeping the labels of every cell would cost more than this one.
        let points = gather(sample, &blocks[block]);
        let projection = grid.projection(&points, seed).filter(|_| p < grid.dims).map(|all| all.first(p));
        let space = grid.space(&points, projection.as_ref(), p);
        let field = Field::new(&space.neighbours, k, k.min(GRAPH));
        let modes = field.modes(tau, (k / 2).max(4), &space.neighbours, &space.points);

        let mut labels = carry(sample, &blocks[block], &space.points, projection.as_ref(), &modes.labels);
        let rise = field.prominence(&modes);
        let old = renumber(&mut labels, modes.count());
        let of_blocks: Vec<usize> = table.iter().map(|block| block[self.cell.index].modes).collect();
        let details = json!({
            "p": p, "k": k, "tau": tau, "R": halves.reproducible(), "rep": halves.share(),
            "block": block, "blocks": of_blocks, "n_s": sample.blocks[block].len(),
        });
        Fit {
            labels,
            prominence: old.iter().map(|&m| rise[m as usize] as f32).collect(),
            kind: vec!["mode".into(); modes.count()],
            projection,
            confidence: halves.share(),
            interval: self.interval(table, modes.count() as u32),
            details: object(details),
            curve: curve(cells),
            evidence,
        }
    }
}

/// Labels of all rows of the sample: rows of the block have theirs, others take that of the nearest row of the block.
fn carry(
    sample: &Sample,
    block: &[u32],
    space: &Matrix,
    projection: Option<&Projection>,
    labels: &[u32],
) -> Vec<u32> {
    let others: Vec<usize> =
        (0..sample.rows.len()).filter(|&i| block.binary_search(&(i as u32)).is_err()).collect();
    let mut all = vec![0; sample.rows.len()];
    for (&i, &label) in block.iter().zip(labels) {
        all[i as usize] = label;
    }
    if !others.is_empty() {
        let z = pca::apply(projection, &sample.points.gather(others.iter().copied()));
        for (i, j) in others.into_iter().zip(nearest_of(&z, space)) {
            all[i] = labels[j as usize];
        }
    }
    all
}

/// No reproducible modes: all rows are one modality, in the usual number of components of the first block.
fn one_mode(sample: &Sample, blocks: &[Vec<u32>], evidence: Vec<Criterion>, seed: u64) -> Fit {
    let p = pca::usual_components(sample.points.cols());
    let block = blocks.first().filter(|block| !block.is_empty());
    let projection = block.and_then(|block| pca::projection(&gather(sample, block), p, seed));
    let details = json!({
        "p": p, "block": 0, "blocks": vec![1; blocks.len()], "n_s": sample.blocks.first().map_or(0, Vec::len),
        "reason": "no reproducible modes",
    });
    Fit {
        labels: vec![0; sample.rows.len()],
        prominence: vec![f32::NAN],
        kind: vec!["mode".into()],
        projection,
        // Nothing was reproduced.
        confidence: 0.0,
        interval: (1, 1),
        details: object(details),
        curve: Vec::new(),
        evidence,
    }
}

/// The whole table, four numbers a cell.
fn evidence(cells: &[Cell]) -> Vec<Criterion> {
    let numbers = |c: &Cell| {
        let name = format!("p={} tau={}", c.p, c.tau);
        let k = c.k as u32;
        [
            ("I", c.halves.mutual),
            ("H", c.halves.entropy),
            ("R", c.halves.reproducible()),
            ("M", c.modes as f64),
        ]
        .map(|(number, value)| Criterion { k, criterion: format!("{name} {number}"), value })
    };
    cells.iter().flat_map(numbers).collect()
}

/// For every k the eligible cell that reproduces the largest share of its information: the share and its M.
fn curve(cells: &[Cell]) -> Vec<Criterion> {
    let mut ladder: Vec<usize> = cells.iter().map(|c| c.k).collect();
    ladder.sort_unstable();
    ladder.dedup();
    let best = |k: usize| {
        let eligible = cells.iter().filter(move |c| c.k == k && c.eligible);
        eligible.reduce(|best, c| if c.halves.share() > best.halves.share() { c } else { best })
    };
    let numbers = |c: &Cell| {
        [("rep", c.halves.share()), ("M", c.modes as f64)].map(|(name, value)| Criterion {
            k: c.k as u32,
            criterion: name.into(),
            value,
        })
    };
    ladder.into_iter().filter_map(best).flat_map(numbers).collect()
}

fn object(value: serde_json::Value) -> serde_json::Map<String, serde_json::Value> {
    match value {
        serde_json::Value::Object(map) => map,
        _ => unreachable!("details are written as an object"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modalities::estimators::tests::{agreement, mixture};

    fn fit(sample: &Sample) -> Fit {
        Rim.fit(sample, 1, &Progress::default()).unwrap()
    }

    #[test]
    fn separated_mixtures_are_counted() {
        for (dims, k) in [(2, 4), (16, 5)] {
            let (sample, truth) = mixture(600, dims, k, if dims == 2 { 14.0 } else { 4.0 });
            let fit = fit(&sample);
            assert_eq!(fit.kind.len(), k, "dims {dims}: {:?}", fit.details);
            assert!(agreement(&fit.labels, &truth) > 0.98);
            assert!(fit.confidence > 0.8 && fit.interval.0 <= k as u32 && k as u32 <= fit.interval.1);
            assert!(fit.prominence.iter().all(|x| x.is_finite() && *x > 0.0));
            // One cell's four numbers for every p, k = 16 and the seven taus.
            assert_eq!(fit.evidence.len(), 4 * 7 * if dims == 2 { 1 } else { 2 });
        }
    }

    #[test]
    fn one_gaussian_is_one_modality() {
        for dims in [2, 16] {
            let fit = fit(&mixture(600, dims, 1, 0.0).0);
            assert_eq!((fit.kind.len(), fit.interval), (1, (1, 1)), "{:?}", fit.details);
        }
    }

    #[test]
    fn degenerate_samples_are_one_modality() {
        let sample = |points: Matrix| Sample {
            rows: (0..points.rows() as u64).collect(),
            blocks: vec![(0..points.rows() as u32).collect(); 5],
            points,
        };
        let same = fit(&sample(Matrix::from_vec(200, 3, vec![7.0; 600])));
        assert_eq!((same.kind.len(), same.projection), (1, None));
        let few = fit(&sample(Matrix::from_vec(200, 1, (0..200).map(|i| (i % 15) as f32).collect())));
        assert_eq!(few.kind.len(), 1);
        let one = fit(&sample(Matrix::from_vec(1, 40, vec![1.0; 40])));
        assert_eq!((one.labels, one.projection.unwrap().axes.rows()), (vec![0], 32));
        // Sixteen rows: the smallest ladder, halves of about eight.
        fit(&sample(Matrix::from_vec(16, 2, mixture(16, 2, 2, 20.0).0.points.as_slice().to_vec())));
        assert!(Rim.fit(&Sample::default(), 1, &Progress::default()).is_err());
    }

    #[test]
    fn copies_are_dropped_and_the_lowest_row_stays() {
        let points = Matrix::from_vec(5, 1, vec![2.0, 1.0, 2.0, 0.0, -0.0]);
        assert_eq!(distinct(&points, &[0, 1, 2, 3, 4]), [0, 1, 3, 4]);
        assert_eq!(distinct(&points, &[1, 2]), [1, 2]);
    }

    #[test]
    fn rows_outside_the_chosen_block_take_the_label_of_the_nearest_row() {
        let (mut sample, truth) = mixture(1500, 12, 3, 6.0);
        sample.blocks = (0..5).map(|b| (0..300).map(|i| 5 * i + b).collect()).collect();
        let fit = fit(&sample);
        assert_eq!(fit.kind.len(), 3, "{:?}", fit.details);
        assert!(agreement(&fit.labels, &truth) > 0.99);
    }

    #[test]
    fn threads_do_not_change_the_fit() {
        let (sample, _) = mixture(400, 10, 3, 3.0);
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let fit = pool.install(|| fit(&sample));
            (fit.labels, fit.evidence, fit.details, fit.projection, fit.interval)
        };
        assert_eq!(run(1), run(3));
    }

    #[test]
    fn ladder_and_components() {
        let ks = |rows| Grid::new(rows, 2).ladder;
        assert_eq!(ks(10_000), [16, 32, 64, 128, 256]);
        assert_eq!((ks(600), ks(64), ks(63), ks(16)), (vec![16], vec![16], vec![7], vec![4]));
        assert_eq!(Grid::new(100, 2).components, [2]);
        assert_eq!(Grid::new(100, 64).components, [8, 16, 32, 64]);
        assert_eq!(Grid::new(100, 384).components, [8, 16, 32, 64, 128]);
    }
}
