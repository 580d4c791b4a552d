//! A mixture of Gaussians with full covariances (`linfa`), with a given M or the M of the best BIC (Schwarz 1978).
//!
//! On 2000 rows of the first block, in up to 16 principal components, divided by their standard deviation (linfa sums
//! exponentials as they are, which wants numbers near 1). The sweep is 1, 2, .. 20, 24, .. and ends where five numbers in
//! a row were no better; a number that linfa cannot fit is one of those. BIC is that of k (1 + p + p (p + 1) / 2) - 1
//! parameters. A mode that is no Gaussian gets several components, so M is the number of Gaussians rather than of modes.
//!
//! O(steps n k p^2) for each k, and linfa's start, ten k-means.

use serde_json::json;

use super::frame::{Found, Frame, Scale};
use super::grid::object;
use super::linfa::{self, Mixture};
use super::sweep::{ladder, too_few};
use crate::format::evidence::Criterion;
use crate::kit::error::{Error, Result};
use crate::kit::matrix::Matrix;
use crate::kit::progress::Progress;
use crate::modalities::{Fit, ModalityEstimator, Sample};

const ROWS: usize = 2000;
const COMPONENTS: usize = 16;
const MOST: usize = 60;
const PATIENCE: usize = 5;

#[derive(Clone, Copy, Debug)]
pub struct GaussianMixture {
    pub count: Option<u32>,
}

impl ModalityEstimator for GaussianMixture {
    fn name(&self) -> &'static str {
        "gaussian-mixture"
    }

    fn fit(&self, sample: &Sample, seed: u64, progress: &Progress) -> Result<Fit> {
        let fixed = self.count.is_some();
        let frame = Frame { rows: ROWS, components: COMPONENTS, fixed, ..Frame::default() };
        frame.fit(sample, seed, progress, |points, scale| match self.count {
            Some(count) => given(points, count as usize, seed, scale),
            None => best(points, seed, progress),
        })
    }
}

fn best(points: &Matrix, seed: u64, progress: &Progress) -> Result<Found> {
    let scale = scale(points);
    let mut found = Found { labels: vec![0; points.rows()], ..Found::default() };
    let (mut least, mut since) = (f64::INFINITY, 0);
    for k in ladder(points.rows(), MOST) {
        progress.check()?;
        since += 1;
        if let Ok(fit) = linfa::mixture(points, scale, k, seed) {
            let value = bic(points, &fit, k);
            found.curve.push(Criterion { k: k as u32, criterion: "bic".into(), value });
            if value < least {
                (least, since, found.labels) = (value, 0, fit.labels);
            }
        }
        if since == PATIENCE {
            break;
        }
    }
    Ok(found)
}

fn given(points: &Matrix, count: usize, seed: u64, of: Scale) -> Result<Found> {
    let fit = match points.rows() < count {
        true => Err(too_few(count, points.rows())),
        false => linfa::mixture(points, scale(points), count, seed).map_err(|reason| Error::Modalities {
            reason: format!("linfa cannot fit {count} Gaussians: {reason}"),
            help: "ask for fewer modalities, or use `--estimator kmeans`".into(),
        }),
    };
    match fit {
        Ok(fit) => Ok(Found {
            details: object(json!({ "bic": bic(points, &fit, count) })),
            labels: fit.labels,
            ..Found::default()
        }),
        // A half need not hold as many.
        Err(_) if of == Scale::Half => Ok(Found { labels: vec![0; points.rows()], ..Found::default() }),
        Err(e) => Err(e),
    }
}

/// 1 / standard deviation over all coordinates.
fn scale(points: &Matrix) -> f64 {
    let numbers = points.as_slice().iter().map(|&x| f64::from(x));
    let n = points.as_slice().len() as f64;
    let mean = numbers.clone().sum::<f64>() / n;
    let variance = numbers.map(|x| (x - mean) * (x - mean)).sum::<f64>() / n;
    if variance > 0.0 { 1.0 / variance.sqrt() } else { 1.0 }
}

fn bic(points: &Matrix, fit: &Mixture, k: usize) -> f64 {
    let (p, k) = (points.cols() as f64, k as f64);
    let parameters = k * (1.0 + p + p * (p + 1.0) / 2.0) - 1.0;
    -2.0 * fit.log_likelihood + parameters * libm::log(points.rows() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modalities::estimators::tests::{agreement, degenerate, mixture, same_on_any_threads};

    #[test]
    fn gaussians_are_counted() {
        let fit = |k, count| {
            let (sample, truth) = mixture(600, 4, k, 6.0);
            (GaussianMixture { count }.fit(&sample, 2, &Progress::default()).unwrap(), truth)
        };
        let (four, truth) = fit(4, None);
        assert_eq!(four.kind.len(), 4, "{:?}", four.curve);
        assert!(agreement(&four.labels, &truth) > 0.99 && four.curve.len() >= 4 + PATIENCE);
        assert_eq!(fit(1, None).0.kind.len(), 1);
        let (two, _) = fit(4, Some(2));
        assert_eq!((two.kind.len(), two.interval), (2, (2, 2)));
        degenerate(&GaussianMixture { count: None });
        same_on_any_threads(&GaussianMixture { count: None });
    }

    #[test]
    fn far_apart_rows_do_not_underflow() {
        // Rows at a hundred standard deviations: the exponentials of linfa alone would all be 0 in wide data.
        let (sample, truth) = mixture(400, 16, 3, 100.0);
        let fit = GaussianMixture { count: None }.fit(&sample, 2, &Progress::default()).unwrap();
        assert_eq!(fit.kind.len(), 3, "{:?}", fit.curve);
        assert!(agreement(&fit.labels, &truth) > 0.999);
    }
}
