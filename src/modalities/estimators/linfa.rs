//! The only file that sees the types of `linfa` 0.8 and `linfa-clustering`: matrices in, labels out.
//!
//! What it takes care of, beside the types:
//! - k-means starts by k-means++ only: linfa's parallel start gives other centres on another number of threads. One run, at
//!   most 50 steps; a run's inertia and labels are computed here (linfa reports those before its last step).
//! - A mixture's likelihood and labels are computed here, with the largest exponent taken out: linfa sums exponentials as
//!   they are, and fails where all of a row's underflow.
//! - DBSCAN's neighbours are searched for linearly: in 32 dimensions linfa's trees visit every row as well, and take longer.
//!   OPTICS needs them sorted, which linfa does in its k-d tree only.
//!
//! linfa's matrix products come from `matrixmultiply`, which chooses its code by the processor: fits of mixtures are the
//! same on any number of threads, but may differ in their last digits between kinds of processors.

use ::linfa::traits::{Fit, Transformer};
use ::linfa::{DatasetBase, ParamGuard};
use linfa_clustering::{Dbscan, GaussianMixtureModel, KMeans, KMeansInit, Optics};
use linfa_nn::CommonNearestNeighbour;
use linfa_nn::distance::L2Dist;
use ndarray::Array2;
use rand_xoshiro::Xoshiro256Plus;
use rand_xoshiro::rand_core::SeedableRng;

use super::frame::NOISE;
use crate::kernels::distance::squared;
use crate::kernels::knn::nearest_of;
use crate::kit::matrix::Matrix;
use crate::modalities::lloyd::Clusters;

/// Lloyd steps of a run.
const STEPS: u64 = 50;
/// Steps of expectation maximisation.
const EM_STEPS: u64 = 200;

fn array(points: &Matrix, scale: f64) -> Array2<f64> {
    let numbers = points.as_slice().iter().map(|&x| f64::from(x) * scale).collect();
    Array2::from_shape_vec((points.rows(), points.cols()), numbers).expect("rows x cols numbers")
}

fn generator(seed: u64) -> Xoshiro256Plus {
    Xoshiro256Plus::seed_from_u64(seed)
}

/// Up to `k` cells; None where linfa fails. O(n k^2 p) for the start and O(n k p) a step.
pub fn kmeans(points: &Matrix, k: usize, seed: u64) -> Option<Clusters> {
    let params = KMeans::params_with_rng(k, generator(seed))
        .init_method(KMeansInit::KMeansPlusPlus)
        .n_runs(1)
        .max_n_iterations(STEPS);
    let model = params.fit(&DatasetBase::from(array(points, 1.0))).ok()?;
    let centers = model.centroids().iter().map(|&x| x as f32).collect();
    let mut centers = Matrix::from_vec(k, points.cols(), centers);
    if centers.as_slice().iter().any(|x| !x.is_finite()) {
        return None;
    }
    let mut labels = nearest_of(points, &centers);
    // Centres of no row, and copies of others.
    let mut used: Vec<u32> = labels.clone();
    used.sort_unstable();
    used.dedup();
    for label in &mut labels {
        *label = used.binary_search(label).expect("a label in use") as u32;
    }
    centers = centers.gather(used.into_iter().map(|c| c as usize).collect::<Vec<_>>().into_iter());
    let inertia =
        labels.iter().zip(points.iter_rows()).map(|(&c, x)| squared(x, centers.row(c as usize))).sum();
    Some(Clusters { centers, labels, inertia })
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

/// The rows in the order of OPTICS, with the reachability distance of each; `least` > 1 (the row itself counts). Every
/// row reaches every other, so each reachability but those of rows alone is defined. O(n^2 (p + log n)).
pub fn optics(points: &Matrix, least: usize) -> Vec<(u32, f64)> {
    let x = array(points, 1.0);
    let diagonal: f64 = x
        .columns()
        .into_iter()
        .map(|c| c.iter().fold((f64::MAX, f64::MIN), |(low, high), &v| (low.min(v), high.max(v))))
        .map(|(low, high)| (high - low) * (high - low))
        .sum();
    let tolerance = (2.0 * diagonal.sqrt()).max(f64::MIN_POSITIVE.sqrt());
    // The core distance is read off the neighbours' list, which only the k-d tree sorts.
    let params = Optics::params_with(least, L2Dist, CommonNearestNeighbour::KdTree).tolerance(tolerance);
    let found = params.check().expect("the tolerance is positive and least above 1").transform(x.view());
    let reach = |d: &Option<f64>| d.unwrap_or(f64::INFINITY);
    found.iter().map(|row| (row.index() as u32, reach(row.reachability_distance()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modalities::estimators::tests::{agreement, mixture as blobs};
    use crate::modalities::lloyd;

    #[test]
    fn our_lloyd_and_linfa_agree_on_separated_modes() {
        for (n, dims, k) in [(300, 2, 3), (400, 8, 5), (500, 20, 7)] {
            let (sample, truth) = blobs(n, dims, k, 9.0);
            let best = |runs: Vec<Clusters>| {
                runs.into_iter().reduce(|a, b| if b.inertia < a.inertia { b } else { a }).unwrap()
            };
            let ours = best((0..8).map(|s| lloyd::kmeans(&sample.points, k, 100, s)).collect());
            let theirs = best((0..8).map(|s| kmeans(&sample.points, k, s).unwrap()).collect());
            assert_eq!(agreement(&ours.labels, &theirs.labels), 1.0);
            assert_eq!(agreement(&ours.labels, &truth), 1.0);
            // linfa counts a centre as one more row of its cell, so its centres are a little off.
            assert!(
                (theirs.inertia / ours.inertia - 1.0).abs() < 0.01,
                "{} {}",
                theirs.inertia,
                ours.inertia
            );
        }
    }

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
        // In the order of OPTICS the rows of a mode stand together, and the step to the other is the longest.
        let order = optics(&sample.points, 5);
        let mut rows: Vec<u32> = order.iter().map(|x| x.0).collect();
        let steps = rows.windows(2).filter(|w| truth[w[0] as usize] != truth[w[1] as usize]).count();
        assert_eq!(steps, 1);
        let longest = (1..200).max_by(|&a, &b| order[a].1.total_cmp(&order[b].1)).unwrap();
        assert_ne!(truth[rows[longest] as usize], truth[rows[longest - 1] as usize]);
        rows.sort_unstable();
        assert!(rows.into_iter().eq(0..200));
    }
}
