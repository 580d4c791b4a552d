//! Consensus modes: the density modes that disjoint halves of the sample find independently, at the level on which all
//! blocks and the neighbouring levels agree best.
//!
//! The grid of cells (components p, neighbours k, prominence tau) and what halves tell about each other in every cell are
//! those of [`rim`](super::rim), see [`grid`](super::grid); k starts at 8 and tau goes up to 5.6. What differs is how the
//! grid is read:
//!
//! 1. **Is there more than one mode?** The information I of H nats that halves share is evidence only if it is more than
//!    halves of data with *one* mode share, and that is not nothing: cut a line, a disc or a ball into connected pieces at
//!    random, twice, and the two cuttings tell much about each other, the more the lower the dimension. The share rho = I/H
//!    that one-mode data of intrinsic dimension d reached in any cell is close to 0.8^d. So a cell counts if rho exceeds
//!    0.8^d + 0.1, or if its modes rise four standard errors above their passes (tau sqrt(k) >= 4) and the data is no curve;
//!    in any case rho must exceed 1/2.
//! 2. **At which level?** The one with the largest I rho^4: the most information, trusted as far as it is reproduced. A
//!    level with more modes wins only if it reproduces them.
//! 3. **Which labelling?** Every block labels the sample at every level that scores nearly as well (10 %); the labelling
//!    that agrees best with all the others is taken (the medoid of the ensemble), so M is not the whim of one block.
//! 4. **Modes too small for a block.** If some level shows 1.5 times the information of the best one, in cells whose halves
//!    are too small to reproduce it, the whole sample is looked at as one block with k <= 64, and its answer stands if its
//!    best score is 1.5 times that of the blocks. Otherwise the resolution stays what the user asked for.
//!
//! docs/modalities.md measures it beside rim and beside peers, on datasets it was built on and on held-out ones.

use rayon::prelude::*;
use serde_json::json;

use super::grid::{Cell, FEWEST, Grid, Labelled, Seen, distinct, evidence, gather, object, one_mode};
use super::information::Information;
use crate::error::{Error, Result};
use crate::modalities::{Criterion, Fit, ModalityEstimator, Projection, Sample, renumber};
use crate::progress::Progress;
use crate::rng::mix64;

/// Prominences tried, in nats.
const TAUS: [f64; 9] = [0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6];
/// Neighbours of the first cell.
const FIRST: usize = 8;
/// Neighbours of the last cell, as a share of a block's rows; and in the whole sample.
const LONGEST: f64 = 0.026;
const LONGEST_FINER: f64 = 64.0;
/// The share rho that data with one mode reaches, to the power of its intrinsic dimension, and the distance kept from it.
const ONE_MODE: f64 = 0.8;
const MARGIN: f64 = 0.1;
/// A mode's prominence in standard errors of the log density (1 / sqrt k) that is evidence of its own, and the dimension
/// from which on it is: along a curve every fluctuation is a mode.
const Z0: f64 = 4.0;
const CURVE: f64 = 1.5;
/// The score of a level is I rho^TRUST.
const TRUST: i32 = 4;
/// Levels within this share of the best score are as good; so many of them, at most, label the sample.
const DELTA: f64 = 0.1;
const LEVELS: usize = 15;
/// Rows on which labellings are compared, about.
const COMPARED: usize = 5000;
/// See step 4.
const FINER: f64 = 1.5;
/// A dataset of fewer rows is halved so often, not once a block.
const SMALL: usize = 1000;
const SMALL_HALVINGS: usize = 15;
/// Halvings of the whole sample in step 4.
const HALVINGS: usize = 3;

/// The default estimator. O(b n^2 sum p) for b blocks of n rows, and O((b n)^2 sum p) more where step 4 looks at the whole
/// sample, whatever the dataset's size. One block's neighbour lists are held at a time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Consensus;

impl ModalityEstimator for Consensus {
    fn name(&self) -> &'static str {
        "consensus"
    }

    fn fit(&self, sample: &Sample, seed: u64, progress: &Progress) -> Result<Fit> {
        if sample.rows.is_empty() {
            return Err(Error::Modalities {
                reason: "there are no rows to count modalities on".into(),
                help: "check `--where` and `--invalid`: they left no row".into(),
            });
        }
        let mut blocks: Vec<Vec<u32>> =
            sample.blocks.iter().map(|block| distinct(&sample.points, block)).collect();
        let rows = blocks.iter().map(Vec::len).min().unwrap_or(0);
        if rows < FEWEST {
            return Ok(one_mode(sample, &blocks, Vec::new(), seed));
        }
        if rows < SMALL && blocks.iter().all(|block| *block == blocks[0]) {
            // One small block: what its halves share depends on the halving, so there are more of them.
            blocks.resize(SMALL_HALVINGS, blocks[0].clone());
        }
        let view = View::new(sample, blocks, LONGEST * rows as f64, seed, progress)?;
        let seen = view.score();
        if sample.rows.len() > rows && view.hidden() > FINER * seen {
            let all: Vec<u32> = (0..sample.rows.len() as u32).collect();
            let union = vec![distinct(&sample.points, &all); HALVINGS];
            let finer = View::new(sample, union, LONGEST_FINER, seed, progress)?;
            if finer.score() > FINER * seen {
                return finer.fit(sample, seed, progress);
            }
        }
        view.fit(sample, seed, progress)
    }
}

/// Blocks of the sample and what they show in every cell of the grid.
struct View {
    blocks: Vec<Vec<u32>>,
    grid: Grid,
    table: Vec<Vec<Seen>>,
    cells: Vec<Cell>,
}

impl View {
    fn new(
        sample: &Sample,
        blocks: Vec<Vec<u32>>,
        longest: f64,
        seed: u64,
        progress: &Progress,
    ) -> Result<View> {
        let rows = blocks.iter().map(Vec::len).min().expect("a sample has blocks");
        let grid = Grid::new(rows, sample.points.cols(), FIRST, longest.max(16.0), &TAUS);
        let table = grid.look(sample, &blocks, seed, progress)?;
        let cells = grid.summary(&table);
        Ok(View { blocks, grid, table, cells })
    }

    /// The eligible cells that are nearly the best, best first; of equals the earlier one.
    fn levels(&self) -> Vec<&Cell> {
        let mut levels: Vec<&Cell> = self.cells.iter().filter(|c| eligible(c)).collect();
        levels.sort_by(|a, b| score(&b.halves).total_cmp(&score(&a.halves)));
        let most = levels.first().map_or(0.0, |c| score(&c.halves));
        levels.retain(|c| score(&c.halves) >= (1.0 - DELTA) * most);
        levels
    }

    /// Of the best level; 0 if there is none.
    fn score(&self) -> f64 {
        self.levels().first().map_or(0.0, |c| score(&c.halves))
    }

    /// The most information that halves share in any cell in which they share more than one-mode data would.
    fn hidden(&self) -> f64 {
        let beyond = |c: &&Cell| c.modes >= 2 && c.split && c.halves.share() > chance(c);
        self.cells.iter().filter(beyond).map(|c| c.halves.mutual).fold(0.0, f64::max)
    }

    fn fit(&self, sample: &Sample, seed: u64, progress: &Progress) -> Result<Fit> {
        let levels = self.levels();
        if levels.is_empty() {
            return Ok(one_mode(sample, &self.blocks, evidence(&self.cells), seed));
        }
        let mut ensemble = self.ensemble(sample, &levels, seed, progress)?;
        let Member { block, cell, projection, found } = ensemble.swap_remove(medoid(sample, &ensemble));
        let Labelled { mut labels, prominence } = found;
        let modes = prominence.len();
        let old = renumber(&mut labels, modes);
        let of_blocks: Vec<usize> = self.table.iter().map(|block| block[cell.index].modes).collect();
        let details = json!({
            "p": cell.p, "k": cell.k, "tau": cell.tau, "dimension": cell.dimension, "I": cell.halves.mutual,
            "rho": cell.halves.share(), "levels": levels.len(), "block": block, "blocks": of_blocks,
            "n_s": self.blocks[block].len(),
        });
        Ok(Fit {
            labels,
            prominence: old.iter().map(|&m| prominence[m as usize] as f32).collect(),
            kind: vec!["mode".into(); modes],
            projection,
            confidence: cell.halves.share(),
            interval: self.interval(&levels, modes as u32),
            details: object(details),
            curve: curve(&self.cells),
            evidence: evidence(&self.cells),
        })
    }

    /// The sample as every block labels it at the best levels. O(blocks rows n sum p).
    fn ensemble<'a>(
        &self,
        sample: &Sample,
        levels: &[&'a Cell],
        seed: u64,
        progress: &Progress,
    ) -> Result<Vec<Member<'a>>> {
        let different = |b: &usize| *b == 0 || self.blocks[*b] != self.blocks[*b - 1];
        let blocks: Vec<usize> = (0..self.blocks.len()).filter(different).collect();
        let levels = &levels[..levels.len().min(LEVELS)];
        let spaces: Vec<usize> =
            self.grid.components.iter().copied().filter(|&p| levels.iter().any(|c| c.p == p)).collect();
        let stage = progress.stage("compare labellings", "spaces", (blocks.len() * spaces.len()) as u64);
        let mut members = Vec::new();
        for block in blocks {
            let rows = &self.blocks[block];
            let components = self.grid.projection(&gather(sample, rows), seed);
            for &p in &spaces {
                let stand_in = self.grid.stand_in(sample, rows, components.as_ref(), p);
                for &cell in levels.iter().filter(|c| c.p == p) {
                    progress.check()?;
                    let found = stand_in.label(cell);
                    let projection = stand_in.space.projection.clone();
                    members.push(Member { block, cell, projection, found });
                }
                stage.advance(1)?;
            }
        }
        Ok(members)
    }

    /// 5-95 % of M over the blocks and the levels that are nearly as good, by nearest rank outwards.
    fn interval(&self, levels: &[&Cell], answer: u32) -> (u32, u32) {
        let counts = levels.iter().flat_map(|c| self.table.iter().map(|block| block[c.index].modes as u32));
        let mut counts: Vec<u32> = counts.collect();
        counts.sort_unstable();
        let last = (counts.len() - 1) as f64;
        // The answer itself may be the odd one out: one block's count at one level.
        let (low, high) = (counts[(0.05 * last).floor() as usize], counts[(0.95 * last).ceil() as usize]);
        (low.min(answer), high.max(answer))
    }
}

/// One labelling of the whole sample.
struct Member<'a> {
    block: usize,
    cell: &'a Cell,
    projection: Option<Projection>,
    found: Labelled,
}

/// The member whose labels share the most with those of all others, on some rows chosen by key; of equals the first.
/// O(members^2 COMPARED).
fn medoid(sample: &Sample, ensemble: &[Member]) -> usize {
    let every = (sample.rows.len() / COMPARED).max(1) as u64;
    let rows: Vec<usize> =
        (0..sample.rows.len()).filter(|&i| mix64(sample.rows[i]).is_multiple_of(every)).collect();
    let labels: Vec<Vec<u32>> =
        ensemble.iter().map(|m| rows.iter().map(|&i| m.found.labels[i]).collect()).collect();
    let pairs: Vec<(usize, usize)> = (0..ensemble.len()).flat_map(|i| (0..i).map(move |j| (i, j))).collect();
    let shares: Vec<f64> =
        pairs.par_iter().map(|&(i, j)| Information::between(&labels[i], &labels[j]).share()).collect();
    let mut agreement = vec![0.0; ensemble.len()];
    for (&(i, j), share) in pairs.iter().zip(shares) {
        agreement[i] += share;
        agreement[j] += share;
    }
    (0..ensemble.len()).fold(0, |best, i| if agreement[i] > agreement[best] { i } else { best })
}

/// Whether halves agree on more than pieces of one-mode data would, and on more than they disagree about.
fn eligible(c: &Cell) -> bool {
    let share = c.halves.share();
    let steep = c.tau * (c.k as f64).sqrt() >= Z0 && c.dimension >= CURVE;
    c.modes >= 2 && c.split && share > 0.5 && (share > chance(c) || steep)
}

/// The share that halves of one-mode data stay below.
fn chance(c: &Cell) -> f64 {
    libm::pow(ONE_MODE, c.dimension) + MARGIN
}

fn score(halves: &Information) -> f64 {
    halves.mutual * halves.share().powi(TRUST)
}

/// For every k the best level: its score and its M.
fn curve(cells: &[Cell]) -> Vec<Criterion> {
    let mut ladder: Vec<usize> = cells.iter().map(|c| c.k).collect();
    ladder.sort_unstable();
    ladder.dedup();
    let best = |k: usize| {
        let there = cells.iter().filter(move |c| c.k == k && eligible(c));
        there.reduce(|best, c| if score(&c.halves) > score(&best.halves) { c } else { best })
    };
    let numbers = |c: &Cell| {
        [("score", score(&c.halves)), ("M", c.modes as f64)].map(|(name, value)| Criterion {
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
    use crate::matrix::Matrix;
    use crate::modalities::estimators::tests::{agreement, mixture};
    use crate::rng::{key, normal, uniform};

    fn fit(sample: &Sample) -> Fit {
        Consensus.fit(sample, 1, &Progress::default()).unwrap()
    }

    /// All rows in each of five blocks.
    fn whole(points: Matrix) -> Sample {
        let n = points.rows() as u32;
        Sample { rows: (0..u64::from(n)).collect(), blocks: vec![(0..n).collect(); 5], points }
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
        }
    }

    #[test]
    fn touching_modes_are_counted_where_a_mode_alone_would_not_be_steep() {
        // Four Gaussians in three dimensions, a hundred rows each: rim finds one mode.
        let at = [[0.0, 0.0, 0.0], [5.0, 0.0, 0.0], [2.5, 4.3, 0.0], [2.5, 1.4, 4.1]];
        let number = |i: usize, j: usize| at[i % 4][j] + normal(key(3, &[i as u64, j as u64]));
        let data = (0..400).flat_map(|i| (0..3).map(move |j| number(i, j) as f32)).collect();
        let fit = fit(&whole(Matrix::from_vec(400, 3, data)));
        assert_eq!(fit.kind.len(), 4, "{:?}", fit.details);
    }

    #[test]
    fn data_with_one_mode_is_one_modality() {
        let gauss = |i: usize, j: usize| normal(key(8, &[i as u64, j as u64]));
        type Number<'a> = &'a dyn Fn(usize, usize) -> f64;
        let kinds: [(&str, Number); 4] = [
            ("Gaussian", &gauss),
            ("uniform", &|i, j| uniform(key(9, &[i as u64, j as u64]))),
            ("heavy-tailed", &|i, j| {
                gauss(i, j) / ((0..3).map(|t| gauss(i, 100 + t).powi(2)).sum::<f64>() / 3.0).sqrt()
            }),
            // A closed curve: pieces of it are found again and again, and are no modes.
            ("circle", &|i, j| {
                let angle = std::f64::consts::TAU * uniform(key(10, &[i as u64]));
                if j == 0 { angle.cos() } else { angle.sin() }
            }),
        ];
        for (name, number) in kinds {
            for dims in [2, 16] {
                if name == "circle" && dims != 2 {
                    continue;
                }
                let data = (0..1500).flat_map(|i| (0..dims).map(move |j| number(i, j) as f32)).collect();
                let fit = fit(&whole(Matrix::from_vec(1500, dims, data)));
                assert_eq!((fit.kind.len(), fit.interval), (1, (1, 1)), "{name} d={dims}: {:?}", fit.details);
            }
        }
    }

    #[test]
    fn modes_too_small_for_a_block_are_found_in_the_whole_sample() {
        let (mut sample, truth) = mixture(6000, 24, 60, 1.6);
        sample.blocks = (0..5).map(|b| (0..1200).map(|i| 5 * i + b).collect()).collect();
        let fit = fit(&sample);
        assert_eq!(fit.kind.len(), 60, "{:?}", fit.details);
        assert!(agreement(&fit.labels, &truth) > 0.99);
        assert_eq!(fit.details["n_s"], 6000);
    }

    #[test]
    fn degenerate_samples_are_one_modality() {
        let same = fit(&whole(Matrix::from_vec(200, 3, vec![7.0; 600])));
        assert_eq!((same.kind.len(), same.projection), (1, None));
        let few = fit(&whole(Matrix::from_vec(200, 1, (0..200).map(|i| (i % 15) as f32).collect())));
        assert_eq!(few.kind.len(), 1);
        fit(&whole(Matrix::from_vec(16, 2, mixture(16, 2, 2, 20.0).0.points.as_slice().to_vec())));
        assert!(Consensus.fit(&Sample::default(), 1, &Progress::default()).is_err());
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
}
