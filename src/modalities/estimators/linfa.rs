//! The only file that sees the types of `linfa` 0.8 and `linfa-clustering`: matrices in, labels out.
//!
//! What it takes care of, beside the types:
//! - A mixture's likelihood and labels are computed here, with the largest exponent taken out: linfa sums exponentials as
//!   they are, and fails where all of a row's underflow.
//! - DBSCAN's neighbours are searched for linearly: in 32 dimensions linfa's trees visit every row as well, and take longer.
//!
//! linfa's matrix products come from `matrixmultiply`, which chooses its code by the processor: fits of mixtures are the
//! same on any number of threads, but may differ in their last digits between kinds of processors.

use ::linfa::traits::{Fit, Transformer};
use ::linfa::{DatasetBase, ParamGuard};
use linfa_clustering::{Dbscan, GaussianMixtureModel};
use linfa_nn::CommonNearestNeighbour;
use linfa_nn::distance::L2Dist;
use ndarray::Array2;
use rand_xoshiro::Xoshiro256Plus;
use rand_xoshiro::rand_core::SeedableRng;

use super::frame::NOISE;
use crate::kit::matrix::Matrix;

/// Steps of expectation maximisation.
const EM_STEPS: u64 = 200;

fn array(points: &Matrix, scale: f64) -> Array2<f64> {
    let numbers = points.as_slice().iter().map(|&x| f64::from(x) * scale).collect();
    Array2::from_shape_vec((points.rows(), points.cols()), numbers).expect("rows x cols numbers")
}

fn generator(seed: u64) -> Xoshiro256Plus {
    Xoshiro256Plus::seed_from_u64(seed)
}

/// A mixture of Gaussians with full covariances.
pub struct Mixture {
    /// The likeliest component of every row.
    pub labels: Vec<u32>,
    /// Sum over the rows of the logarithm of the density of the scaled points.
    pub log_likelihood: f64,
}

/// `k` components of `points` times `scale`; the reason where linfa fails. O(steps n k p^2), the start by ten k-means.
pub fn mixture(points: &Matrix, scale: f64, k: usize, seed: u64) -> Result<Mixture, String> {
    let x = array(points, scale);
    let params = GaussianMixtureModel::params_with_rng(k, generator(seed)).max_n_iterations(EM_STEPS);
    let data = DatasetBase::from(x);
    let model = params.fit(&data).map_err(|e| e.to_string())?;
    let p = points.cols();
    let mut components = Vec::new();
    for c in 0..k {
        let covariance = model.covariances().index_axis(ndarray::Axis(0), c).iter().copied().collect();
        let root = cholesky(covariance, p).ok_or("a covariance is singular")?;
        let log_determinant: f64 = (0..p).map(|j| libm::log(root[j * p + j])).sum();
        let constant = libm::log(model.weights()[c])
            - log_determinant
            - 0.5 * p as f64 * libm::log(std::f64::consts::TAU);
        components.push((model.means().row(c).to_vec(), root, constant));
    }
    let (mut labels, mut log_likelihood) = (Vec::with_capacity(points.rows()), 0.0);
    let mut logs = vec![0.0; k];
    for row in data.records().rows() {
        for (log, (mean, root, constant)) in logs.iter_mut().zip(&components) {
            let offset: Vec<f64> = row.iter().zip(mean).map(|(x, m)| x - m).collect();
            *log = constant - 0.5 * mahalanobis(root, offset);
        }
        let best = (0..k).fold(0, |best, c| if logs[c] > logs[best] { c } else { best });
        let sum: f64 = logs.iter().map(|log| libm::exp(log - logs[best])).sum();
        labels.push(best as u32);
        log_likelihood += logs[best] + libm::log(sum);
    }
    if !log_likelihood.is_finite() {
        return Err("the likelihood is not finite".into());
    }
    Ok(Mixture { labels, log_likelihood })
}

/// The lower root of a symmetric positive `p x p` matrix.
fn cholesky(mut a: Vec<f64>, p: usize) -> Option<Vec<f64>> {
    for i in 0..p {
        for j in 0..=i {
            let sum: f64 = a[i * p + j] - (0..j).map(|t| a[i * p + t] * a[j * p + t]).sum::<f64>();
            if i == j {
                if sum.is_nan() || sum <= 0.0 {
                    return None;
                }
                a[i * p + i] = sum.sqrt();
            } else {
                a[i * p + j] = sum / a[j * p + j];
            }
        }
    }
    Some(a)
}

/// |L^-1 x|^2.
fn mahalanobis(root: &[f64], mut x: Vec<f64>) -> f64 {
    let p = x.len();
    for i in 0..p {
        let known: f64 = (0..i).map(|j| root[i * p + j] * x[j]).sum();
        x[i] = (x[i] - known) / root[i * p + i];
    }
    x.iter().map(|x| x * x).sum()
}

/// Cluster of every row or [`NOISE`]. `eps` > 0, `least` > 1 (the row itself counts). O(n^2 p).
pub fn dbscan(points: &Matrix, eps: f64, least: usize) -> Vec<u32> {
    let params = Dbscan::params_with(least, L2Dist, CommonNearestNeighbour::LinearSearch).tolerance(eps);
    let labels = params.check().expect("eps is positive and least above 1").transform(&array(points, 1.0));
    labels.iter().map(|label| label.map_or(NOISE, |l| l as u32)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modalities::estimators::tests::{agreement, mixture as blobs};

    #[test]
    fn the_likelihood_is_that_of_the_density() {
        // One Gaussian: n (-p/2 log tau - p/2) - n/2 log |S| at the maximum.
        let (sample, _) = blobs(500, 3, 1, 0.0);
        let found = mixture(&sample.points, 1.0, 1, 1).unwrap();
        let x = array(&sample.points, 1.0);
        let mean = x.mean_axis(ndarray::Axis(0)).unwrap();
        let centred = &x - &mean;
        let covariance = centred.t().dot(&centred) / 500.0;
        let root = cholesky(covariance.iter().copied().collect(), 3).unwrap();
        let log_determinant: f64 = 2.0 * (0..3).map(|j| root[j * 3 + j].ln()).sum::<f64>();
        let expected = -0.5 * 500.0 * (3.0 * std::f64::consts::TAU.ln() + 3.0 + log_determinant);
        assert!((found.log_likelihood - expected).abs() < 0.1, "{} {expected}", found.log_likelihood);
        assert_eq!(found.labels, vec![0; 500]);
    }

    #[test]
    fn densities_are_followed() {
        let (sample, truth) = blobs(200, 2, 2, 20.0);
        let labels = dbscan(&sample.points, 1.5, 4);
        let kept: Vec<usize> = (0..200).filter(|&i| labels[i] != NOISE).collect();
        assert!(kept.len() > 190);
        let of = |labels: &[u32]| kept.iter().map(|&i| labels[i]).collect::<Vec<_>>();
        assert_eq!(agreement(&of(&labels), &of(&truth)), 1.0);
    }
}
