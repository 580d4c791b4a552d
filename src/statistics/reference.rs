//! The mean embedding of the full data: what other data (drifted files, a stream's batches) are compared with.
//!
//! R = 128 random Fourier features (Rahimi & Recht 2007) `phi_r(z) = sqrt(2) cos(w_r . z + phase_r)` of the projected row
//! z. Their mean over a set of rows stands for its distribution under a Gaussian kernel whose width is the median
//! distance of the sample; the squared distance of two means estimates their MMD, and the covariance gives its
//! distribution where nothing has changed (Gretton et al. 2012). O(rows x R (p + R)) time, O(R^2) memory.

use serde::{Deserialize, Serialize};

use crate::kernels::project::products;
use crate::kernels::sketches::{add_products, cosines};
use crate::kit::error::Result;
use crate::kit::ids::NONE;
use crate::kit::matrix::Matrix;
use crate::kit::rng::{Stream, normal, uniform};
use crate::modalities::Assigned;
use crate::parts::Pass;

/// Number of random features.
pub const R: usize = 128;
/// Row pairs whose median distance sets the scale.
const PAIRS: u64 = 10_000;
/// Rows whose features are made before the covariance takes them in.
const BLOCK: usize = 64;

/// The pass.
#[derive(Serialize, Deserialize)]
pub struct Reference {
    frequencies: Matrix,
    phases: Vec<f32>,
}

/// One random feature, as in `reference.arrow`.
#[derive(Clone, Debug, PartialEq)]
pub struct RandomFeature {
    /// p numbers, per unit of the projected space.
    pub frequency: Vec<f32>,
    /// In [0, 2 pi).
    pub phase: f32,
    /// Mean over all rows of the plan, in [-sqrt 2, sqrt 2].
    pub mean: f64,
    /// Population covariance with each of the R features.
    pub covariance: Vec<f64>,
}

/// Mergeable sums of the features and of their products (upper triangle, row-major).
#[derive(Serialize, Deserialize)]
pub struct Sums {
    rows: u64,
    sum: Vec<f64>,
    products: Vec<f64>,
}

impl Reference {
    /// `sample`: rows of the fit sample in the projected space.
    pub fn new(sample: &Matrix, seed: u64) -> Self {
        let scale = median_distance(sample, seed);
        let p = sample.cols();
        let frequency = |i: usize| {
            let (r, j) = ((i / p) as u64, (i % p) as u64);
            (normal(Stream::Frequency.key(seed, &[1, r, j])) / scale) as f32
        };
        // A uniform number just below 1 may round to 2 pi as f32; the next lower f32 is as good.
        let phase = |r: usize| {
            let phase = (std::f64::consts::TAU * uniform(Stream::Frequency.key(seed, &[2, r as u64]))) as f32;
            phase.min(std::f32::consts::TAU.next_down())
        };
        Reference {
            frequencies: Matrix::from_vec(R, p, (0..R * p).map(frequency).collect()),
            phases: (0..R).map(phase).collect(),
        }
    }

    /// The features of an earlier pass: R x p frequencies and R phases.
    pub fn again(frequencies: Matrix, phases: Vec<f32>) -> Self {
        assert!(frequencies.rows() == R && phases.len() == R, "R random features");
        Reference { frequencies, phases }
    }

    /// The R features of every row of `z`, one row after the other.
    fn features(&self, z: &[f32], out: &mut [f64]) {
        products(&self.frequencies, z, out);
        for out in out.chunks_exact_mut(R) {
            out.iter_mut().zip(&self.phases).for_each(|(o, &phase)| *o += f64::from(phase));
        }
        cosines(out);
        out.iter_mut().for_each(|o| *o *= std::f64::consts::SQRT_2);
    }
}

/// Median Euclidean distance over keyed pairs of different rows; pairs of equal rows are passed over. 1 if all are equal.
fn median_distance(sample: &Matrix, seed: u64) -> f64 {
    let n = sample.rows() as u64;
    if n < 2 {
        return 1.0;
    }
    let mut distances: Vec<f64> = (0..PAIRS)
        .map(|i| {
            let a = Stream::Frequency.key(seed, &[0, i, 0]) % n;
            let b = (a + 1 + Stream::Frequency.key(seed, &[0, i, 1]) % (n - 1)) % n;
            let (a, b) = (sample.row(a as usize), sample.row(b as usize));
            a.iter()
                .zip(b)
                .map(|(a, b)| (f64::from(*a) - f64::from(*b)) * (f64::from(*a) - f64::from(*b)))
                .sum::<f64>()
        })
        .filter(|d| *d > 0.0)
        .collect();
    distances.sort_unstable_by(f64::total_cmp);
    if distances.is_empty() { 1.0 } else { distances[distances.len() / 2].sqrt() }
}

impl Sums {
    fn new() -> Self {
        Sums { rows: 0, sum: vec![0.0; R], products: vec![0.0; R * R] }
    }

    /// Adds up to [`BLOCK`] rows of features.
    fn add(&mut self, block: &[f64]) {
        self.rows += (block.len() / R) as u64;
        for row in block.chunks_exact(R) {
            self.sum.iter_mut().zip(row).for_each(|(s, x)| *s += x);
        }
        add_products(block, R, &mut self.products);
    }
}

impl Pass for Reference {
    type Item = Assigned;
    type Partial = Sums;
    /// R random features; none for an empty plan.
    type Output = Vec<RandomFeature>;

    fn partial(&self, item: &Assigned) -> Result<Sums> {
        let mut sums = Sums::new();
        let planned = item.z().iter_rows().zip(&item.modality).filter(|(_, m)| **m != NONE).map(|(z, _)| z);
        let (mut z, mut block) = (Vec::new(), vec![0.0; BLOCK * R]);
        let mut flush = |z: &mut Vec<f32>, rows: usize| {
            self.features(z, &mut block[..rows * R]);
            sums.add(&block[..rows * R]);
            z.clear();
        };
        let mut rows = 0;
        for row in planned {
            z.extend_from_slice(row);
            rows += 1;
            if rows == BLOCK {
                flush(&mut z, rows);
                rows = 0;
            }
        }
        flush(&mut z, rows);
        Ok(sums)
    }

    fn merge(&self, mut left: Sums, right: Sums) -> Sums {
        left.rows += right.rows;
        left.sum.iter_mut().zip(&right.sum).for_each(|(a, b)| *a += b);
        left.products.iter_mut().zip(&right.products).for_each(|(a, b)| *a += b);
        left
    }

    fn finish(&self, all: Option<Sums>) -> Result<Vec<RandomFeature>> {
        let Some(all) = all.filter(|a| a.rows > 0) else { return Ok(Vec::new()) };
        let n = all.rows as f64;
        let mean: Vec<f64> = all.sum.iter().map(|s| s / n).collect();
        let covariance = |i: usize, j: usize| {
            let product = all.products[i.min(j) * R + i.max(j)];
            let c = product / n - mean[i] * mean[j];
            if i == j { c.max(0.0) } else { c }
        };
        Ok((0..R)
            .map(|r| RandomFeature {
                frequency: self.frequencies.row(r).to_vec(),
                phase: self.phases[r],
                mean: mean[r],
                covariance: (0..R).map(|j| covariance(r, j)).collect(),
            })
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::fixtures::Data;

    #[test]
    fn equals_the_textbook() {
        let data = Data::random(301, 5);
        let pass = Reference::new(&data.points, 7);
        let got = data.run(&pass, 100, 2);
        let n = data.planned().count() as f64;
        let phi: Vec<Vec<f64>> = data
            .planned()
            .map(|i| {
                let z = data.points.row(i);
                let phase = |f: &RandomFeature| {
                    f.frequency.iter().zip(z).map(|(w, z)| f64::from(*w) * f64::from(*z)).sum::<f64>()
                        + f64::from(f.phase)
                };
                got.iter().map(|f| 2f64.sqrt() * phase(f).cos()).collect()
            })
            .collect();
        let mean: Vec<f64> = (0..R).map(|r| phi.iter().map(|x| x[r]).sum::<f64>() / n).collect();
        for r in 0..R {
            assert!((got[r].mean - mean[r]).abs() < 1e-12);
            assert!((0.0..std::f32::consts::TAU).contains(&got[r].phase));
            for j in (0..R).step_by(7) {
                let c = phi.iter().map(|x| (x[r] - mean[r]) * (x[j] - mean[j])).sum::<f64>() / n;
                assert!((got[r].covariance[j] - c).abs() < 1e-12, "{r} {j}");
                assert_eq!(got[r].covariance[j], got[j].covariance[r]);
            }
        }
        assert_eq!(got, data.run(&pass, 100, 1));
    }

    #[test]
    fn scale_is_the_median_distance() {
        // Two points, many copies: all pairs of different points are 5 apart.
        let rows = Matrix::from_vec(40, 2, [0.0, 0.0, 3.0, 4.0].repeat(20));
        assert_eq!(median_distance(&rows, 1), 5.0);
        assert_eq!(median_distance(&Matrix::zeros(10, 2), 1), 1.0);
        let wide = Reference::new(&Matrix::from_vec(40, 2, [0.0, 0.0, 30.0, 40.0].repeat(20)), 1);
        let near = Reference::new(&rows, 1);
        for (a, b) in wide.frequencies.as_slice().iter().zip(near.frequencies.as_slice()) {
            assert!((a * 10.0 - b).abs() <= 1e-6 * b.abs());
        }
    }
}
