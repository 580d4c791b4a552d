//! The grid of cells that estimators of density modes look at: number of components p, neighbours k, prominence tau. In
//! every cell the modes of each block are found three times, in the block and in its two keyed halves, and what the halves
//! tell about each other is the cell's evidence.

use rayon::prelude::*;
use serde_json::json;

use super::information::Information;
use super::modes::{Field, Joined, median};
use super::neighbours::{Halves, Neighbours};
use crate::format::evidence::Criterion;
use crate::format::projection::Projection;
use crate::kernels::knn::nearest_of;
use crate::kit::error::{Error, Result};
use crate::kit::matrix::Matrix;
use crate::kit::progress::Progress;
use crate::kit::rng::Stream;
use crate::modalities::{Fit, Sample, pca};

/// Fewer distinct rows in a block show no modes.
pub const FEWEST: usize = 16;
/// Neighbours that make the graph.
pub const GRAPH: usize = 16;

/// The rows of a block less bit-identical copies (the lowest row of equal ones stays), ascending.
pub fn distinct(points: &Matrix, block: &[u32]) -> Vec<u32> {
    let bits = |i: u32| points.row(i as usize).iter().map(|x| x.to_bits());
    let mut rows = block.to_vec();
    rows.par_sort_unstable_by(|&i, &j| bits(i).cmp(bits(j)).then(i.cmp(&j)));
    rows.dedup_by(|later, first| bits(*later).eq(bits(*first)));
    rows.sort_unstable();
    rows
}

/// The cells (p, k, tau), p slowest.
#[derive(Clone, Debug)]
pub struct Grid {
    pub dims: usize,
    pub components: Vec<usize>,
    pub ladder: Vec<usize>,
    pub taus: &'static [f64],
    pub joined: Joined,
    /// Lists are at least so long.
    pub longest: usize,
}

/// One block's view of a cell.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    pub modes: usize,
    /// Both halves have at least two modes.
    pub split: bool,
    pub halves: Information,
    /// Intrinsic dimension of the block at this k.
    pub dimension: f64,
}

/// A cell over all blocks.
#[derive(Clone, Copy, Debug)]
pub struct Cell {
    /// Its place in the grid.
    pub index: usize,
    pub p: usize,
    pub k: usize,
    pub tau: f64,
    /// Median over the blocks.
    pub modes: usize,
    /// Mean over the blocks.
    pub halves: Information,
    /// Most blocks have two modes or more in both halves.
    pub split: bool,
    /// Median over the blocks.
    pub dimension: f64,
}

/// A block in one space.
pub struct Space {
    pub points: Matrix,
    pub projection: Option<Projection>,
    pub neighbours: Neighbours,
}

/// The principal components of every block; None where all cells use the points as they are.
pub type Components = Vec<Option<Projection>>;

impl Grid {
    /// For blocks of `rows` rows: p = 8, 16, .. and `dims` itself, k = `first`, 2 `first`, .. while k <= `longest` and
    /// k <= rows / 4, never empty.
    pub fn new(
        rows: usize,
        dims: usize,
        (first, longest): (usize, f64),
        taus: &'static [f64],
        joined: Joined,
    ) -> Self {
        let mut components: Vec<usize> = pca::COMPONENTS.into_iter().filter(|&p| p < dims).collect();
        if dims <= 128 {
            components.push(dims);
        }
        let mut ladder: Vec<usize> = std::iter::successors(Some(first), |k| Some(2 * k))
            .take_while(|&k| k as f64 <= longest && 4 * k <= rows)
            .collect();
        if ladder.is_empty() {
            ladder.push((rows / 8).max(4));
        }
        Grid { dims, components, ladder, taus, joined, longest: 0 }
    }

    /// The neighbours that a block's and a half's modes look at.
    fn lists(&self) -> (usize, usize) {
        let longest = self.ladder[self.ladder.len() - 1];
        let half = self.ladder.iter().map(|&k| half_k(k).max(half_graph(k))).max().unwrap_or(0);
        // A quarter more than needed, and 32: then nearly every row's list holds enough rows of its own half.
        ((longest + longest / 4 + 32).max(self.longest), half)
    }

    /// What every block sees in every cell, and its components. Equal blocks (small datasets) differ in their halves only and
    /// share the rest. `told` gets every block (the number of the first of equal ones) in every space (p), whose neighbour
    /// lists are most of the work, and its halves.
    pub fn look(
        &self,
        sample: &Sample,
        blocks: &[Vec<u32>],
        seed: u64,
        progress: &Progress,
        mut told: impl FnMut(usize, usize, Space, &[Halves]) -> Result<()> + Send,
    ) -> Result<(Vec<Vec<Seen>>, Components)> {
        let groups: Vec<&[Vec<u32>]> = blocks.chunk_by(|a, b| a == b).collect();
        let stage =
            progress.stage("count modalities", "spaces", (groups.len() * self.components.len()) as u64);
        let gathered = |group: &&[Vec<u32>]| {
            let points = gather(sample, &group[0]);
            let projection = self.projection(&points, seed, progress)?;
            Ok::<_, Error>((points, projection))
        };
        let mut look =
            |first: usize, group: &[Vec<u32>], points: &Matrix, projection: Option<&Projection>| {
                let rows = &group[0];
                let splits: Vec<Halves> = (first..first + group.len())
                    .map(|b| {
                        let bit =
                            |i: usize| Stream::Half.key(seed, &[b as u64, sample.rows[rows[i] as usize]]) & 1;
                        Halves::new(rows.len(), |i| bit(i) == 1)
                    })
                    .collect();
                let mut seen = vec![Vec::new(); group.len()];
                for &p in &self.components {
                    let space = self.space(points, projection, p, None);
                    progress.check()?;
                    let modes = self.modes(&space);
                    for (split, seen) in splits.iter().zip(&mut seen) {
                        progress.check()?;
                        let halves = self.halves(&space, split);
                        let cells = modes.iter().zip(halves);
                        seen.extend(cells.map(|(&(modes, dimension), (split, halves))| Seen {
                            modes,
                            split,
                            halves,
                            dimension,
                        }));
                    }
                    told(first, p, space, &splits)?;
                    stage.advance(1)?;
                }
                Ok(seen)
            };
        let (mut table, mut components) = (Vec::new(), Components::new());
        let mut next = groups.first().map(gathered);
        for (g, group) in groups.iter().enumerate() {
            let Some((points, projection)) = next.take().transpose()? else { break };
            // Eigenvectors take one thread: those of the next block meanwhile.
            let (seen, ahead) = rayon::join(
                || look(table.len(), group, &points, projection.as_ref()),
                || groups.get(g + 1).map(gathered),
            );
            table.extend(seen?);
            components.resize(table.len(), projection);
            next = ahead;
        }
        Ok((table, components))
    }

    /// The principal components of a block, as many as any cell uses; None if all cells use the points as they are.
    pub fn projection(&self, points: &Matrix, seed: u64, progress: &Progress) -> Result<Option<Projection>> {
        let most = self.components.iter().copied().filter(|&p| p < self.dims).max();
        most.map_or(Ok(None), |most| pca::projection(points, most, seed, progress))
    }

    /// A block in its first `p` components, or as it is if `p` is the number of dimensions. `known` are its neighbour lists,
    /// if they were found before.
    pub fn space(
        &self,
        points: &Matrix,
        projection: Option<&Projection>,
        p: usize,
        known: Option<&[u32]>,
    ) -> Space {
        let projection = projection.filter(|_| p < self.dims).map(|all| all.first(p));
        let points = pca::apply(projection.as_ref(), points);
        let k = self.lists().0.min(points.rows() - 1);
        let neighbours = match known {
            Some(index) => Neighbours::again(&points, k, index.to_vec()),
            None => Neighbours::new(&points, k),
        };
        Space { points, projection, neighbours }
    }

    /// Number of modes and intrinsic dimension of a block in every (k, tau).
    fn modes(&self, space: &Space) -> Vec<(usize, f64)> {
        let at = |&k: &usize| {
            let field = Field::new(&space.neighbours, k, k.min(GRAPH), self.joined);
            let count = |&tau: &f64| (field.count(tau, least(k)), field.dimension());
            self.taus.par_iter().map(count).collect::<Vec<_>>()
        };
        self.ladder.par_iter().map(at).collect::<Vec<_>>().concat()
    }

    /// In every (k, tau): do both halves have two modes or more, and what do they know of each other?
    fn halves(&self, space: &Space, split: &Halves) -> Vec<(bool, Information)> {
        let near = space.neighbours.within(split, &space.points, self.lists().1);
        if near.halves.iter().any(|half| half.k < 4) {
            // A half of a few rows finds nothing.
            return vec![(false, Information::default()); self.ladder.len() * self.taus.len()];
        }
        let points = [0, 1].map(|h| space.points.gather(split.rows[h].iter().map(|&i| i as usize)));
        let at = |&k: &usize| {
            let field = |h: usize| Field::new(&near.halves[h], half_k(k), half_graph(k), self.joined);
            let fields: [Field; 2] = rayon::join(|| field(0), || field(1)).into();
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
            self.taus.par_iter().map(at).collect::<Vec<_>>()
        };
        self.ladder.par_iter().map(at).collect::<Vec<_>>().concat()
    }

    /// The cells over all blocks.
    pub fn summary(&self, table: &[Vec<Seen>]) -> Vec<Cell> {
        let mut cells = Vec::new();
        for &p in &self.components {
            for &k in &self.ladder {
                for &tau in self.taus {
                    let index = cells.len();
                    let seen: Vec<Seen> = table.iter().map(|block| block[index]).collect();
                    let mut modes: Vec<usize> = seen.iter().map(|s| s.modes).collect();
                    modes.sort_unstable();
                    let mut dimension: Vec<f64> = seen.iter().map(|s| s.dimension).collect();
                    let information: Vec<Information> = seen.iter().map(|s| s.halves).collect();
                    cells.push(Cell {
                        index,
                        p,
                        k,
                        tau,
                        modes: modes[modes.len() / 2],
                        halves: Information::mean(&information).expect("there is a block"),
                        split: 2 * seen.iter().filter(|s| s.split).count() > seen.len(),
                        dimension: median(&mut dimension),
                    });
                }
            }
        }
        cells
    }

    /// A block in its first `p` components as a stand-in for the whole sample. Made again unless its neighbour lists are
    /// `known`: keeping those of all blocks while looking would cost more memory than the few that are asked for are
    /// worth. O(rows n p).
    pub fn stand_in(
        &self,
        sample: &Sample,
        block: &[u32],
        projection: Option<&Projection>,
        p: usize,
        known: Option<&[u32]>,
    ) -> StandIn {
        let space = self.space(&gather(sample, block), projection, p, known);
        let own = |i: usize| block.binary_search(&(i as u32)).ok();
        let others: Vec<usize> = (0..sample.rows.len()).filter(|&i| own(i).is_none()).collect();
        let mut place: Vec<u32> =
            (0..sample.rows.len()).map(|i| own(i).map_or(u32::MAX, |at| at as u32)).collect();
        if !others.is_empty() {
            let z = pca::apply(space.projection.as_ref(), &sample.points.gather(others.iter().copied()));
            for (i, j) in others.into_iter().zip(nearest_of(&z, &space.points)) {
                place[i] = j;
            }
        }
        StandIn { space, place, joined: self.joined }
    }
}

/// A block and, for every row of the sample, the block's row that stands for it: itself, or else the nearest.
pub struct StandIn {
    pub space: Space,
    place: Vec<u32>,
    joined: Joined,
}

impl StandIn {
    /// The modes of one cell with at least so many rows of the block, on all rows of the sample.
    pub fn label(&self, cell: &Cell, least: usize) -> Labelled {
        let Space { points, neighbours, .. } = &self.space;
        let field = Field::new(neighbours, cell.k, cell.k.min(GRAPH), self.joined);
        let modes = field.modes(cell.tau, least, neighbours, points);
        Labelled {
            labels: self.place.iter().map(|&j| modes.labels[j as usize]).collect(),
            prominence: field.prominence(&modes),
            passes: field.passes(&modes),
        }
    }
}

/// One labelling of the whole sample.
pub struct Member<'a> {
    pub block: usize,
    pub cell: &'a Cell,
    pub projection: Option<Projection>,
    pub found: Labelled,
}

/// The sample as every different block labels it at these levels; `stand_in`: a block in its first p components.
/// O(blocks rows n sum p).
pub fn ensemble<'a>(
    grid: &Grid,
    blocks: &[Vec<u32>],
    levels: &[&'a Cell],
    stand_in: impl Fn(usize, usize) -> StandIn,
    progress: &Progress,
) -> Result<Vec<Member<'a>>> {
    let different = |b: &usize| *b == 0 || blocks[*b] != blocks[*b - 1];
    let blocks: Vec<usize> = (0..blocks.len()).filter(different).collect();
    let spaces: Vec<usize> =
        grid.components.iter().copied().filter(|&p| levels.iter().any(|c| c.p == p)).collect();
    let stage = progress.stage("compare labellings", "spaces", (blocks.len() * spaces.len()) as u64);
    let mut members = Vec::new();
    for block in blocks {
        for &p in &spaces {
            let stand_in = stand_in(block, p);
            for &cell in levels.iter().filter(|c| c.p == p) {
                progress.check()?;
                let found = stand_in.label(cell, least(cell.k));
                members.push(Member { block, cell, projection: stand_in.space.projection.clone(), found });
            }
            stage.advance(1)?;
        }
    }
    Ok(members)
}

/// Modes of the sample.
pub struct Labelled {
    /// Of every row.
    pub labels: Vec<u32>,
    /// Of every mode, in nats.
    pub prominence: Vec<f64>,
    /// Modes that meet, see [`Field::passes`].
    pub passes: Vec<(u32, u32)>,
}

/// Rows that a block's mode has at least.
pub fn least(k: usize) -> usize {
    (k / 2).max(4)
}

fn half_k(k: usize) -> usize {
    (k / 2).max(4)
}

fn half_graph(k: usize) -> usize {
    if matches!(k, 8 | 16) { 12 } else { half_k(k).min(GRAPH) }
}

pub fn not_empty(sample: &Sample) -> Result<()> {
    if sample.rows.is_empty() {
        return Err(Error::Modalities {
            reason: "there are no rows to count modalities on".into(),
            help: "check `--where` and `--invalid`: they left no row".into(),
        });
    }
    Ok(())
}

pub fn gather(sample: &Sample, rows: &[u32]) -> Matrix {
    sample.points.gather(rows.iter().map(|&i| i as usize))
}

/// 5-95 % of what was counted, by nearest rank outwards. The answer itself may be the odd one out: one block's count at one
/// level.
pub fn range(mut counts: Vec<u32>, answer: u32) -> (u32, u32) {
    counts.sort_unstable();
    let last = (counts.len() - 1) as f64;
    let (low, high) = (counts[(0.05 * last).floor() as usize], counts[(0.95 * last).ceil() as usize]);
    (low.min(answer), high.max(answer))
}

/// No reproducible modes: all rows are one modality, in the usual number of components of the first block.
pub fn one_mode(
    sample: &Sample,
    blocks: &[Vec<u32>],
    evidence: Vec<Criterion>,
    seed: u64,
    progress: &Progress,
) -> Result<Fit> {
    let p = pca::usual_components(sample.points.cols());
    let block = blocks.first().filter(|block| !block.is_empty());
    let projection = match block {
        Some(block) => pca::projection(&gather(sample, block), p, seed, progress)?,
        None => None,
    };
    let details = json!({
        "p": p, "block": 0, "blocks": vec![1; blocks.len()], "n_s": sample.blocks.first().map_or(0, Vec::len),
        "reason": "no reproducible modes",
    });
    Ok(Fit {
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
    })
}

/// The whole table, four numbers a cell.
pub fn evidence(cells: &[Cell]) -> Vec<Criterion> {
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

pub fn object(value: serde_json::Value) -> serde_json::Map<String, serde_json::Value> {
    match value {
        serde_json::Value::Object(map) => map,
        _ => unreachable!("details are written as an object"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_dropped_and_the_lowest_row_stays() {
        let points = Matrix::from_vec(5, 1, vec![2.0, 1.0, 2.0, 0.0, -0.0]);
        assert_eq!(distinct(&points, &[0, 1, 2, 3, 4]), [0, 1, 3, 4]);
        assert_eq!(distinct(&points, &[1, 2]), [1, 2]);
    }

    #[test]
    fn ladder_and_components() {
        let grid = |rows: usize, dims| {
            Grid::new(rows, dims, (16, (0.026 * rows as f64).max(16.0)), &[1.0], Joined::Both)
        };
        let ks = |rows| grid(rows, 2).ladder;
        assert_eq!(ks(10_000), [16, 32, 64, 128, 256]);
        assert_eq!((ks(600), ks(64), ks(63), ks(16)), (vec![16], vec![16], vec![7], vec![4]));
        assert_eq!(grid(100, 2).components, [2]);
        assert_eq!(grid(100, 64).components, [8, 16, 32, 64]);
        assert_eq!(grid(100, 384).components, [8, 16, 32, 64, 128]);
    }

    #[test]
    fn the_interval_holds_the_answer() {
        assert_eq!(range((1..=101).collect(), 50), (6, 96));
        assert_eq!(range(vec![4, 3, 5], 9), (3, 9));
    }
}
