//! `linfa`'s k-means, with a given M or with the M that a criterion prefers ([`sweep`](super::sweep)): for comparing with
//! [`kmeans`](super::kmeans).
//!
//! On 2000 rows of the first block: the start looks at all pairs of a row and a centre for every centre, O(n k^2 p), so the
//! sweep ends at 40 cells.

use serde_json::json;

use super::frame::{Found, Frame, Scale};
use super::grid::object;
use super::linfa;
use super::sweep::{Sweep, too_few};
use crate::kit::error::Result;
use crate::kit::matrix::Matrix;
use crate::kit::progress::Progress;
use crate::kit::rng::key;
use crate::modalities::lloyd::Clusters;
use crate::modalities::{CriterionSpec, Fit, ModalityEstimator, Sample};

const ROWS: usize = 2000;
const MOST: usize = 40;
/// Runs, as of `kmeans`.
const RESTARTS: u64 = 4;

#[derive(Clone, Copy, Debug)]
pub struct LinfaKmeans {
    pub count: Option<u32>,
    pub criterion: CriterionSpec,
}

impl ModalityEstimator for LinfaKmeans {
    fn name(&self) -> &'static str {
        "linfa-kmeans"
    }

    fn fit(&self, sample: &Sample, seed: u64, progress: &Progress) -> Result<Fit> {
        // A given number may need all the rows there are.
        let rows = self.count.map_or(ROWS, |count| ROWS.max(10 * count as usize));
        let frame = Frame { rows, fixed: self.count.is_some(), ..Frame::default() };
        frame.fit(sample, seed, progress, |points, scale| match self.count {
            Some(count) => given(points, count as usize, seed, scale),
            None => {
                let method = |x: &Matrix, k: usize, seed: u64| best(x, k, seed);
                let sweep = Sweep { criterion: self.criterion, most: MOST, method: &method };
                let choice = sweep.choose(points, seed, progress)?;
                Ok(Found {
                    labels: choice.labels,
                    curve: choice.curve,
                    details: object(json!({ "criterion": self.criterion.name() })),
                    ..Found::default()
                })
            }
        })
    }
}

/// A run with all cells before one with less inertia.
fn best(points: &Matrix, k: usize, seed: u64) -> Option<Clusters> {
    let runs = (0..RESTARTS).filter_map(|r| linfa::kmeans(points, k, key(seed, &[r])));
    let rank = |c: &Clusters| (k - c.centers.rows(), c.inertia);
    runs.reduce(|best, run| if rank(&run) < rank(&best) { run } else { best })
}

fn given(points: &Matrix, count: usize, seed: u64, scale: Scale) -> Result<Found> {
    let few = || too_few(count, points.rows());
    if points.rows() < count {
        // A half need not hold as many.
        return if scale == Scale::Half {
            Ok(Found { labels: vec![0; points.rows()], ..Found::default() })
        } else {
            Err(few())
        };
    }
    match best(points, count, seed) {
        Some(best) if best.centers.rows() == count || scale == Scale::Half => Ok(Found {
            labels: best.labels,
            details: object(json!({ "inertia": best.inertia, "restarts": RESTARTS })),
            ..Found::default()
        }),
        _ => Err(few()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modalities::estimators::tests::{agreement, degenerate, mixture, same_on_any_threads};

    #[test]
    fn counts_or_takes_a_number() {
        let (sample, truth) = mixture(400, 16, 5, 4.0);
        let fit = |count, criterion| {
            LinfaKmeans { count, criterion }.fit(&sample, 2, &Progress::default()).unwrap()
        };
        for criterion in CriterionSpec::ALL {
            let found = fit(None, criterion);
            assert_eq!(found.kind.len(), 5, "{criterion:?} {:?}", found.curve);
            assert!(agreement(&found.labels, &truth) > 0.999);
        }
        let three = fit(Some(3), CriterionSpec::default());
        assert_eq!((three.kind.len(), three.interval), (3, (3, 3)));
        let points = Matrix::from_vec(40, 1, (0..40).map(|i| (i % 3) as f32).collect());
        let few = Sample { rows: (0..40).collect(), points, blocks: vec![(0..40).collect()] };
        let four = LinfaKmeans { count: Some(4), criterion: CriterionSpec::default() };
        assert!(four.fit(&few, 0, &Progress::default()).unwrap_err().to_string().contains("3 distinct rows"));
        let counting = LinfaKmeans { count: None, criterion: CriterionSpec::Silhouette };
        degenerate(&counting);
        same_on_any_threads(&counting);
    }
}
