//! OPTICS (Ankerst, Breunig, Kriegel & Sander 1999; `linfa`): rows in the order in which they are reached, with the
//! distance of each; modes are the valleys of that plot.
//!
//! min_points = 15. linfa's tolerance bounds who can reach whom; here every row can reach every other, which is what the plot
//! is worth looking at for, and the number of rows bounds the cost instead: 2000 of the first block, in up to 32 principal
//! components.
//!
//! The valleys are those of Sander, Qin, Lu, Niu & Kovarsky (2003): the plot is split at its local maxima (of 15 rows on
//! either side), the highest first; a split counts where the mean reachability on both sides is at most 0.75 of the
//! maximum. A side of fewer than 15 rows or half a percent of them is noise. Clusters are the parts that are not split
//! further. O(n^2 (p + log n)).

use serde_json::json;

use super::frame::{Found, Frame, NOISE, Scale};
use super::grid::object;
use super::linfa;
use crate::format::evidence::Criterion;
use crate::kit::error::Result;
use crate::kit::matrix::Matrix;
use crate::kit::progress::Progress;
use crate::modalities::{Fit, ModalityEstimator, Sample};

const ROWS: usize = 2000;
/// min_points, and the same on a half.
const LEAST: usize = 15;
const LEAST_HALF: usize = 8;
/// Mean reachability of a side, as a share of the maximum between the sides.
const RATIO: f64 = 0.75;
/// Points of the curve.
const SHOWN: usize = 200;

#[derive(Clone, Copy, Debug, Default)]
pub struct Optics;

impl ModalityEstimator for Optics {
    fn name(&self) -> &'static str {
        "optics"
    }

    fn fit(&self, sample: &Sample, seed: u64, progress: &Progress) -> Result<Fit> {
        Frame { rows: ROWS, ..Frame::default() }.fit(sample, seed, progress, |points, scale| {
            progress.check()?;
            Ok(clusters(points, if scale == Scale::Whole { LEAST } else { LEAST_HALF }))
        })
    }
}

fn clusters(points: &Matrix, least: usize) -> Found {
    let n = points.rows();
    let order = linfa::optics(points, least);
    let reach: Vec<f64> = order.iter().map(|x| x.1).collect();
    let mut labels = vec![NOISE; n];
    for (c, &(from, to)) in valleys(&reach, least.max(n / 200)).iter().enumerate() {
        for &(row, _) in &order[from..to] {
            labels[row as usize] = c as u32;
        }
    }
    let noise = labels.iter().filter(|&&l| l == NOISE).count();
    let point = |i: usize| Criterion { k: i as u32, criterion: "reachability".into(), value: reach[i] };
    Found {
        details: object(json!({ "min_points": least, "noise": noise })),
        labels,
        curve: (0..n).step_by(n.div_ceil(SHOWN)).map(point).filter(|c| c.value.is_finite()).collect(),
        ..Found::default()
    }
}

/// The parts of the plot that are modes, as ranges of places, ascending.
fn valleys(reach: &[f64], least: usize) -> Vec<(usize, usize)> {
    let n = reach.len();
    // Place 0 is where the order begins: its reachability says nothing.
    let is_peak = |&i: &usize| {
        let around = i.saturating_sub(least).max(1)..(i + least + 1).min(n);
        reach[around].iter().all(|&r| r <= reach[i])
    };
    let mut peaks: Vec<usize> = (1..n).filter(is_peak).collect();
    peaks.sort_by(|&a, &b| reach[b].total_cmp(&reach[a]).then(a.cmp(&b)));
    let mut out = Vec::new();
    let mut open = vec![(0, n, peaks)];
    while let Some((from, to, peaks)) = open.pop() {
        // The first split that counts.
        let mut split = None;
        for (t, &peak) in peaks.iter().enumerate() {
            let sides = [(from, peak), (peak, to)];
            // The reachability of a side's first row belongs to the peak, or to what came before.
            let mean =
                |(a, b): (usize, usize)| reach[a + 1..b].iter().sum::<f64>() / (b - a - 1).max(1) as f64;
            let big = sides.map(|(a, b)| b - a >= least);
            let low = sides.map(|side| mean(side) <= RATIO * reach[peak]);
            if (0..2).all(|s| low[s] || !big[s]) && big.contains(&true) {
                split = Some((t, sides, big));
                break;
            }
        }
        match split {
            None => out.push((from, to)),
            Some((t, sides, big)) => {
                for (side, _) in sides.into_iter().zip(big).filter(|x| x.1) {
                    let inside = peaks[t + 1..].iter().copied().filter(|&p| side.0 < p && p < side.1);
                    open.push((side.0, side.1, inside.collect()));
                }
            }
        }
    }
    out.sort_unstable();
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modalities::estimators::tests::{agreement, degenerate, mixture, same_on_any_threads};

    #[test]
    fn modes_are_valleys() {
        let (sample, truth) = mixture(600, 4, 4, 8.0);
        let fit = Optics.fit(&sample, 1, &Progress::default()).unwrap();
        assert_eq!(fit.kind.len(), 4, "{:?}", fit.details);
        assert!(agreement(&fit.labels, &truth) > 0.99 && fit.confidence > 0.9);
        degenerate(&Optics);
        same_on_any_threads(&Optics);
    }

    #[test]
    fn the_plot_is_split_where_both_sides_are_low() {
        let flat = |level: f64, rows: usize| vec![level; rows];
        let plot = [flat(1.0, 20), vec![5.0], flat(1.0, 20), vec![2.0], flat(1.6, 20)].concat();
        // The second peak is no higher than its right side by enough.
        assert_eq!(valleys(&plot, 5), [(0, 20), (20, 62)]);
        let plot = [flat(1.0, 20), vec![5.0], flat(1.0, 20), vec![2.0], flat(1.1, 20)].concat();
        assert_eq!(valleys(&plot, 5), [(0, 20), (20, 41), (41, 62)]);
        assert_eq!(valleys(&flat(1.0, 30), 5), [(0, 30)]);
    }
}
