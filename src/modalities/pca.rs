//! Principal components of a sample (Pearson 1901): the space in which neighbours are looked for.

use rayon::prelude::*;

use crate::format::projection::Projection;
use crate::kernels::project::project;
use crate::kernels::{distance, eigen};
use crate::kit::matrix::Matrix;
use crate::kit::rng::Stream;

/// Above this many dimensions the leading eigenvectors come from a keyed subspace iteration.
const DENSE: usize = 1024;

/// Numbers of components that estimators try.
pub const COMPONENTS: [usize; 5] = [8, 16, 32, 64, 128];

/// The number of components where nothing tells which is best: the largest of [`COMPONENTS`] not above 32 and below
/// `dims`, `dims` itself up to 32.
pub fn usual_components(dims: usize) -> usize {
    if dims <= 32 { dims } else { 32 }
}

/// The first `p` principal components of `points`, largest variance first; None if `p` is the number of dimensions
/// (a rotation would change no distance). Covariance and eigenvectors in f64. O(n d^2 + d^3); above 1024 dimensions
/// the eigenvectors cost O(d^2 p) a step instead.
pub fn projection(points: &Matrix, p: usize, seed: u64) -> Option<Projection> {
    let dims = points.cols();
    if p >= dims {
        return None;
    }
    let mean = eigen::mean(points);
    let covariance = eigen::covariance(points, &mean);
    let vectors = if dims > DENSE {
        eigen::leading(&covariance, dims, p, Stream::Subspace.key(seed, &[])).vectors
    } else {
        eigen::symmetric(covariance, dims).vectors
    };
    let axes = Matrix::from_vec(p, dims, vectors[..p * dims].iter().map(|&x| x as f32).collect());
    Some(Projection::through(axes, &mean))
}

impl Projection {
    /// The projection onto `axes` that puts `mean` at the origin.
    fn through(axes: Matrix, mean: &[f64]) -> Self {
        // Centring is for the numbers' sake only (f32 keeps more digits near 0), so a rounded mean will do.
        let mean: Vec<f32> = mean.iter().map(|&x| x as f32).collect();
        let offset = axes.iter_rows().map(|axis| distance::dot(axis, &mean) as f32).collect();
        Projection { axes, offset }
    }

    /// Its first `p` coordinates.
    pub fn first(&self, p: usize) -> Projection {
        Projection { axes: self.axes.gather(0..p), offset: self.offset[..p].to_vec() }
    }

    /// The coordinates of all rows, in parallel. O(n d p).
    pub fn apply(&self, rows: &Matrix) -> Matrix {
        const TOGETHER: usize = 1024;
        let mut out = Matrix::zeros(rows.rows(), self.axes.rows());
        let parts = out.as_mut_slice().par_chunks_mut((TOGETHER * self.axes.rows()).max(1));
        parts
            .zip(rows.as_slice().par_chunks((TOGETHER * rows.cols()).max(1)))
            .for_each(|(out, rows)| self.apply_to(rows, out));
        out
    }

    /// The coordinates of rows that lie one after the other, on the calling thread. O(n d p).
    pub fn apply_to(&self, rows: &[f32], out: &mut [f32]) {
        project(&self.axes, &self.offset, rows, out);
    }
}

/// The rows in the space of an optional projection.
pub(crate) fn apply(projection: Option<&Projection>, rows: &Matrix) -> Matrix {
    projection.map_or_else(|| rows.clone(), |p| p.apply(rows))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::rng::{key, normal};

    #[test]
    fn the_first_component_is_the_longest_direction() {
        let data: Vec<f32> = (0..600)
            .flat_map(|i| {
                let [a, b, c] = [0, 1, 2].map(|j| normal(key(4, &[i, j])));
                [(5.0 * a + 7.0) as f32, (0.5 * b) as f32, (5.0 * a + 0.1 * c) as f32]
            })
            .collect();
        let points = Matrix::from_vec(600, 3, data);
        let fitted = projection(&points, 1, 0).unwrap();
        let axis = fitted.axes.row(0);
        assert!((axis[0].abs() - 0.5f32.sqrt()).abs() < 0.01 && axis[1].abs() < 0.01);
        let z = fitted.apply(&points);
        assert!(z.as_slice().iter().sum::<f32>().abs() / 600.0 < 1e-3);
        assert!(projection(&points, 3, 0).is_none());
    }

    #[test]
    fn usual_number_of_components() {
        assert_eq!([2, 32, 33, 768].map(usual_components), [2, 32, 32, 32]);
    }
}
