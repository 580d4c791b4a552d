//! A pre-trained network that judges levels. It does not look at the data itself: the grid of cells that halves of the
//! sample are compared in ([`grid`](super::grid)) is a table of scale-free numbers ([`table`]), and a small network
//! ([`network`]), trained on synthetic samples whose modes are known (examples/pretrain), says for every cell how likely no
//! other answer is better, and how likely the sample has one mode.
//!
//! 1. More than half of the probability on one mode: M = 1.
//! 2. Otherwise the likeliest cells label the sample, each on every block, and the answer is the labelling that is expected
//!    to agree best with the right one: the one with the largest sum of agreements with all of them, weighted by their
//!    probability.
//! 3. The confidence is the agreement with the truth (mean of NMI and ARI) that the network expects of that cell, the
//!    interval 5-95 % of its probability over M.
//!
//! Along curves the gate of [`consensus`](super::consensus) holds as well (see `CURVE`).
//!
//! docs/pretrained.md says what it was trained on and how it compares: it is an option, not the default.

pub mod table;
pub mod network;

use rayon::prelude::*;
use serde_json::json;

use super::grid::{
    Cell, FEWEST, Labelled, Member, distinct, ensemble, evidence, not_empty, object, one_mode,
};
use super::information::{Information, compared};
use crate::format::evidence::Criterion;
use crate::kit::error::Result;
use crate::kit::progress::Progress;
use crate::modalities::{Fit, ModalityEstimator, Sample, renumber};
use network::{Judgement, Network};
use table::Table;

/// Written by examples/pretrain.
const WEIGHTS: &[u8] = include_bytes!("pretrained/weights.bin");
/// The cells that label the sample hold this share of the probability on several modes; so many of them at most.
const LIKELY: f64 = 0.9;
const LEVELS: usize = 12;
/// Along a curve (intrinsic dimension below this) every fluctuation is a mode that halves find again: only cells whose
/// halves share more than those of a curve without modes do are answers there.
const CURVE: f64 = 1.5;

/// O(b n^2 sum p) for b blocks of n rows, whatever the dataset's size; the network itself takes milliseconds.
#[derive(Clone, Debug)]
pub struct Pretrained {
    pub network: Network,
}

impl Default for Pretrained {
    /// With the weights that come with the program.
    fn default() -> Self {
        Pretrained { network: Network::from_bytes(WEIGHTS).expect("the weights are those of this network") }
    }
}

impl ModalityEstimator for Pretrained {
    fn name(&self) -> &'static str {
        "pretrained"
    }

    fn fit(&self, sample: &Sample, seed: u64, progress: &Progress) -> Result<Fit> {
        not_empty(sample)?;
        let blocks: Vec<Vec<u32>> =
            sample.blocks.iter().map(|block| distinct(&sample.points, block)).collect();
        if blocks.iter().map(Vec::len).min().unwrap_or(0) < FEWEST {
            return one_mode(sample, &blocks, Vec::new(), seed, progress);
        }
        let table = Table::new(sample, &blocks, seed, progress, &mut |_, _, _| {})?;
        let judged = self
            .network
            .judge(&self.network.standardise(&table.numbers, &table.whole, |c| answer(&table.cells[c])));
        let view = View { blocks, table, judged };
        view.fit(sample, seed, progress)
    }
}

struct View {
    blocks: Vec<Vec<u32>>,
    table: Table,
    judged: Judgement,
}

impl View {
    fn fit(&self, sample: &Sample, seed: u64, progress: &Progress) -> Result<Fit> {
        let Table { grid, cells, seen, .. } = &self.table;
        let levels = self.levels();
        if levels.is_empty() || self.judged.one > 0.5 {
            let mut fit = one_mode(sample, &self.blocks, self.evidence(), seed, progress)?;
            fit.confidence = self.judged.one;
            fit.interval = self.interval(1);
            fit.details.insert("reason".into(), "one mode is likelier than several".into());
            return Ok(fit);
        }
        let stand_in = |block: usize, p| {
            grid.stand_in(sample, &self.blocks[block], self.table.components[block].as_ref(), p, None)
        };
        let mut ensemble = ensemble(grid, &self.blocks, &levels, stand_in, progress)?;
        let Member { block, cell, projection, found } =
            ensemble.swap_remove(self.expected_best(sample, &ensemble));
        let Labelled { mut labels, prominence, .. } = found;
        let modes = prominence.len();
        let old = renumber(&mut labels, modes);
        let of_blocks: Vec<usize> = seen.iter().map(|block| block[cell.index].modes).collect();
        let details = json!({
            "p": cell.p, "k": cell.k, "tau": cell.tau, "rho": cell.halves.share(), "probability_one": self.judged.one,
            "probability": self.judged.best[cell.index], "levels": levels.len(), "block": block, "blocks": of_blocks,
            "n_s": self.blocks[block].len(),
        });
        Ok(Fit {
            labels,
            prominence: old.iter().map(|&m| prominence[m as usize] as f32).collect(),
            kind: vec!["mode".into(); modes],
            projection,
            confidence: self.judged.agreement[cell.index],
            interval: self.interval(modes as u32),
            details: object(details),
            curve: curve(&grid.ladder, cells, &self.judged),
            evidence: self.evidence(),
        })
    }

    /// The likeliest cells, likeliest first; of equals the earlier one.
    fn levels(&self) -> Vec<&Cell> {
        let mut levels: Vec<&Cell> = self.table.cells.iter().filter(|c| answer(c)).collect();
        let p = |c: &Cell| self.judged.best[c.index];
        levels.sort_by(|a, b| p(b).total_cmp(&p(a)));
        let all: f64 = levels.iter().map(|c| p(c)).sum();
        let mut sum = 0.0;
        let enough = levels.iter().position(|c| {
            sum += p(c);
            sum >= LIKELY * all
        });
        levels.truncate(enough.map_or(LEVELS, |i| i + 1).min(LEVELS));
        levels
    }

    /// The member with the largest expected agreement with the right answer, on some rows chosen by key; of equals the
    /// first. O(members^2 COMPARED).
    fn expected_best(&self, sample: &Sample, ensemble: &[Member]) -> usize {
        let rows = compared(sample);
        let labels: Vec<Vec<u32>> =
            ensemble.iter().map(|m| rows.iter().map(|&i| m.found.labels[i]).collect()).collect();
        let expected = |i: usize| {
            let share = |j: usize| {
                let likely = self.judged.best[ensemble[j].cell.index];
                likely * if i == j { 1.0 } else { Information::between(&labels[i], &labels[j]).share() }
            };
            (0..ensemble.len()).map(share).sum::<f64>()
        };
        let expected: Vec<f64> = (0..ensemble.len()).into_par_iter().map(expected).collect();
        (0..ensemble.len()).fold(0, |best, i| if expected[i] > expected[best] { i } else { best })
    }

    /// 5-95 % of the probability over M, a cell's shared by the counts of its blocks.
    fn interval(&self, answer: u32) -> (u32, u32) {
        let seen = &self.table.seen;
        let share = 1.0 / seen.len() as f64;
        let mut counts = vec![(1, self.judged.one)];
        for cell in &self.table.cells {
            let likely = self.judged.best[cell.index] * share;
            counts.extend(seen.iter().map(|block| (block[cell.index].modes.max(1) as u32, likely)));
        }
        counts.sort_by_key(|c| c.0);
        let all: f64 = counts.iter().map(|c| c.1).sum();
        let quantile = |q: f64| {
            let mut sum = 0.0;
            let at = counts.iter().find(|c| {
                sum += c.1;
                sum >= q * all
            });
            at.map_or(answer, |c| c.0)
        };
        (quantile(0.05).min(answer), quantile(0.95).max(answer))
    }

    /// The table, and what the network made of it.
    fn evidence(&self) -> Vec<Criterion> {
        let judged = self.table.cells.iter().filter(|c| answer(c)).flat_map(|c| {
            let of =
                [("probability", self.judged.best[c.index]), ("agreement", self.judged.agreement[c.index])];
            let criterion = |name| format!("p={} tau={} {name}", c.p, c.tau);
            of.map(|(name, value)| Criterion { k: c.k as u32, criterion: criterion(name), value })
        });
        evidence(&self.table.cells).into_iter().chain(judged).collect()
    }
}

/// Whether a cell may be the answer.
fn answer(c: &Cell) -> bool {
    c.modes >= 2 && (c.dimension >= CURVE || c.halves.share() > libm::pow(0.8, c.dimension) + 0.1)
}

/// For every k its probability, and the M of its likeliest cell.
fn curve(ladder: &[usize], cells: &[Cell], judged: &Judgement) -> Vec<Criterion> {
    let p = |c: &Cell| judged.best[c.index];
    let of = |k: usize| {
        let there = || cells.iter().filter(move |c| c.k == k && answer(c));
        let best = there().reduce(|best, c| if p(c) > p(best) { c } else { best })?;
        let numbers = [("probability", there().map(p).sum()), ("M", best.modes as f64)];
        Some(numbers.map(|(name, value)| Criterion { k: k as u32, criterion: name.into(), value }))
    };
    ladder.iter().copied().filter_map(of).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::matrix::Matrix;
    use crate::kit::rng::{key, normal, uniform};
    use crate::modalities::estimators::tests::{agreement, mixture};

    fn fit(sample: &Sample) -> Fit {
        Pretrained::default().fit(sample, 1, &Progress::default()).unwrap()
    }

    /// All rows in each of five blocks.
    fn whole(points: Matrix) -> Sample {
        let n = points.rows() as u32;
        Sample { rows: (0..u64::from(n)).collect(), blocks: vec![(0..n).collect(); 5], points }
    }

    #[test]
    fn the_committed_weights_are_those_of_this_network_and_small() {
        assert!(Network::from_bytes(WEIGHTS).is_some(), "train again: examples/pretrain");
        assert!(WEIGHTS.len() < 400_000, "{} bytes in every binary", WEIGHTS.len());
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
    fn data_with_one_mode_is_one_modality() {
        let gauss = |i: usize, j: usize| normal(key(8, &[i as u64, j as u64]));
        type Number<'a> = &'a dyn Fn(usize, usize) -> f64;
        let kinds: [(&str, Number); 3] = [
            ("Gaussian", &gauss),
            ("cube", &|i, j| uniform(key(9, &[i as u64, j as u64]))),
            ("exponential", &|i, j| -(1.0 - uniform(key(9, &[i as u64, j as u64]))).ln()),
        ];
        let angle = |i: usize| std::f64::consts::TAU * uniform(key(9, &[i as u64]));
        let circle = (0..900).flat_map(|i| [angle(i).cos() as f32, angle(i).sin() as f32]).collect();
        let fit_circle = fit(&whole(Matrix::from_vec(900, 2, circle)));
        assert_eq!(fit_circle.kind.len(), 1, "a circle: {:?}", fit_circle.details);
        for (name, number) in kinds {
            for dims in [2, 16] {
                let data = (0..900).flat_map(|i| (0..dims).map(move |j| number(i, j) as f32)).collect();
                let fit = fit(&whole(Matrix::from_vec(900, dims, data)));
                assert_eq!(fit.kind.len(), 1, "{name} in {dims} dimensions: {:?}", fit.details);
                assert!(fit.confidence > 0.5);
            }
        }
    }

    #[test]
    fn degenerate_samples_are_one_modality() {
        assert_eq!(fit(&whole(Matrix::from_vec(200, 3, vec![7.0; 600]))).kind.len(), 1);
        let few = Matrix::from_vec(200, 1, (0..200).map(|i| (i % 15) as f32).collect());
        assert_eq!(fit(&whole(few)).kind.len(), 1);
        // Sixteen rows: the smallest ladder, halves of about eight.
        fit(&whole(mixture(16, 2, 2, 20.0).0.points));
        assert!(Pretrained::default().fit(&Sample::default(), 1, &Progress::default()).is_err());
    }

    #[test]
    fn blocks_that_differ_and_any_number_of_threads() {
        let (mut sample, truth) = mixture(1500, 12, 3, 6.0);
        sample.blocks = (0..5).map(|b| (0..300).map(|i| 5 * i + b).collect()).collect();
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let fit = pool.install(|| fit(&sample));
            (fit.labels, fit.evidence, fit.details, fit.projection, fit.interval)
        };
        let one = run(1);
        assert!(agreement(&one.0, &truth) > 0.99, "{:?}", one.2);
        assert_eq!(one, run(3));
    }
}
