//! DBSCAN (Ester, Kriegel, Sander & Xu 1996; `linfa`): rows with enough neighbours within eps, and what they reach.
//!
//! min_points = 2 p, at most 64 and half of the rows; eps is the knee of the rows' sorted distances to that neighbour, the
//! one farthest below the straight line from the least to the largest. Noise takes the nearest cluster. On 4000 rows of
//! the first block in up to 32 principal components. One eps for all modes: it does not see modes of different density.
//! O(n^2 p).

use serde_json::json;

use super::frame::{Found, Frame, NOISE};
use super::grid::object;
use super::linfa;
use crate::format::evidence::Criterion;
use crate::kernels::knn;
use crate::kit::error::Result;
use crate::kit::matrix::Matrix;
use crate::kit::progress::Progress;
use crate::modalities::{Fit, ModalityEstimator, Sample};

const ROWS: usize = 4000;
/// Points of the curve.
const SHOWN: usize = 100;

#[derive(Clone, Copy, Debug, Default)]
pub struct Dbscan;

impl ModalityEstimator for Dbscan {
    fn name(&self) -> &'static str {
        "dbscan"
    }

    fn fit(&self, sample: &Sample, seed: u64, progress: &Progress) -> Result<Fit> {
        Frame { rows: ROWS, ..Frame::default() }.fit(sample, seed, progress, |points, _| {
            progress.check()?;
            Ok(clusters(points))
        })
    }
}

fn clusters(points: &Matrix) -> Found {
    let n = points.rows();
    let least = (2 * points.cols()).min(64).min(n / 2).max(2);
    // The row itself counts.
    let mut far: Vec<f64> =
        knn::knn(points, least - 1).distance.chunks_exact(least - 1).map(|row| row[least - 2]).collect();
    far.sort_unstable_by(f64::total_cmp);
    let (knee, eps) = knee(&far);
    let eps = eps.max(far[n - 1] * 1e-9).max(f64::MIN_POSITIVE.sqrt());
    let labels = linfa::dbscan(points, eps, least);
    let noise = labels.iter().filter(|&&l| l == NOISE).count();
    let point = |i: usize| Criterion { k: i as u32, criterion: "sorted distances".into(), value: far[i] };
    Found {
        details: object(json!({ "min_points": least, "eps": eps, "knee": knee, "noise": noise })),
        labels,
        curve: (0..n).step_by(n.div_ceil(SHOWN)).map(point).collect(),
        ..Found::default()
    }
}

/// The value farthest below the line from the first to the last, and its place.
fn knee(ascending: &[f64]) -> (usize, f64) {
    let last = ascending.len() - 1;
    let (first, rise) = (ascending[0], (ascending[last] - ascending[0]) / last.max(1) as f64);
    let below = |i: usize| first + rise * i as f64 - ascending[i];
    let at = (0..=last).fold(0, |best, i| if below(i) > below(best) { i } else { best });
    (at, ascending[at])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modalities::estimators::tests::{agreement, degenerate, mixture, same_on_any_threads};

    #[test]
    fn modes_of_one_density_are_found() {
        let (sample, truth) = mixture(600, 4, 4, 8.0);
        let fit = Dbscan.fit(&sample, 1, &Progress::default()).unwrap();
        assert_eq!(fit.kind.len(), 4, "{:?}", fit.details);
        assert!(agreement(&fit.labels, &truth) > 0.99 && fit.confidence > 0.9);
        assert_eq!(knee(&[0.0, 0.1, 0.2, 3.0, 6.0]), (2, 0.2));
        degenerate(&Dbscan);
        same_on_any_threads(&Dbscan);
    }
}
