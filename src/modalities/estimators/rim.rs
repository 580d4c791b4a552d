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

use serde_json::json;

use super::grid::{Cell, FEWEST, Grid, Labelled, Seen, distinct, evidence, gather, least, object, one_mode};
use super::modes::Joined;
use crate::format::evidence::Criterion;
use crate::kit::error::{Error, Result};
use crate::kit::progress::Progress;
use crate::modalities::{Fit, ModalityEstimator, Sample, renumber};

/// Prominences tried, in nats.
const TAUS: [f64; 7] = [0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8];
/// A mode's prominence in standard errors of the log density (1 / sqrt k): tau sqrt(k) is at least this.
const Z0: f64 = 4.0;
/// Cells with an R within this share of the largest are as good.
const DELTA: f64 = 0.05;

/// The predecessor of the default estimator. O(blocks n^2 sum p) for blocks of n rows, whatever the dataset's size; one block's neighbour
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
            return one_mode(sample, &blocks, Vec::new(), seed, progress);
        }
        let ladder = (16, (0.026 * rows as f64).max(16.0));
        let grid = Grid::new(rows, dims, ladder, &TAUS, Joined::Either);
        let table = grid.look(sample, &blocks, seed, progress)?;
        let cells = grid.summary(&table);
        let evidence = evidence(&cells);
        match Choice::best(&cells) {
            None => one_mode(sample, &blocks, evidence, seed, progress),
            Some(choice) => choice.fit(sample, &blocks, &grid, &table, &cells, evidence, seed, progress),
        }
    }
}

fn eligible(cell: &Cell) -> bool {
    cell.tau * (cell.k as f64).sqrt() >= Z0
        && cell.modes >= 2
        && cell.split
        && cell.halves.reproducible() > 0.0
}

/// The chosen cell and those that were nearly as good.
struct Choice<'a> {
    cell: &'a Cell,
    rivals: Vec<&'a Cell>,
}

impl<'a> Choice<'a> {
    fn best(cells: &'a [Cell]) -> Option<Self> {
        let eligible = || cells.iter().filter(|c| eligible(c));
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
        progress: &Progress,
    ) -> Result<Fit> {
        let &Cell { p, k, tau, halves, .. } = self.cell;
        let block = self.block(table);
        let projection = grid.projection(&gather(sample, &blocks[block]), seed, progress)?;
        let block_in_space = grid.stand_in(sample, &blocks[block], projection.as_ref(), p, None);
        let Labelled { mut labels, prominence, .. } = block_in_space.label(self.cell, least(k));
        let modes = prominence.len();
        let old = renumber(&mut labels, modes);
        let of_blocks: Vec<usize> = table.iter().map(|block| block[self.cell.index].modes).collect();
        let details = json!({
            "p": p, "k": k, "tau": tau, "R": halves.reproducible(), "rep": halves.share(),
            "block": block, "blocks": of_blocks, "n_s": sample.blocks[block].len(),
        });
        Ok(Fit {
            labels,
            prominence: old.iter().map(|&m| prominence[m as usize] as f32).collect(),
            kind: vec!["mode".into(); modes],
            projection: block_in_space.space.projection,
            confidence: halves.share(),
            interval: self.interval(table, modes as u32),
            details: object(details),
            curve: curve(cells),
            evidence,
        })
    }
}

/// For every k the eligible cell that reproduces the largest share of its information: the share and its M.
fn curve(cells: &[Cell]) -> Vec<Criterion> {
    let mut ladder: Vec<usize> = cells.iter().map(|c| c.k).collect();
    ladder.sort_unstable();
    ladder.dedup();
    let best = |k: usize| {
        let eligible = cells.iter().filter(move |c| c.k == k && eligible(c));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::matrix::Matrix;
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
        let grid = |rows: usize, dims| {
            Grid::new(rows, dims, (16, (0.026 * rows as f64).max(16.0)), &TAUS, Joined::Either)
        };
        let ks = |rows| grid(rows, 2).ladder;
        assert_eq!(ks(10_000), [16, 32, 64, 128, 256]);
        assert_eq!((ks(600), ks(64), ks(63), ks(16)), (vec![16], vec![16], vec![7], vec![4]));
        assert_eq!(grid(100, 2).components, [2]);
        assert_eq!(grid(100, 64).components, [8, 16, 32, 64]);
        assert_eq!(grid(100, 384).components, [8, 16, 32, 64, 128]);
    }
}
