//! Principal components of a sample (Pearson 1901): the space in which neighbours are looked for.

use rayon::prelude::*;

use crate::format::projection::Projection;
use crate::kernels::project::project;
use crate::kernels::{distance, eigen};
use crate::kit::error::Result;
use crate::kit::matrix::Matrix;
use crate::kit::progress::Progress;
use crate::kit::rng::Stream;

/// Above this side of a matrix the leading eigenvectors come from a keyed subspace iteration.
const DENSE: usize = 1024;

/// Numbers of components that estimators try.
pub const COMPONENTS: [usize; 5] = [8, 16, 32, 64, 128];

/// The number of components where nothing tells which is best: the largest of [`COMPONENTS`] not above 32 and below
/// `dims`, `dims` itself up to 32.
pub fn usual_components(dims: usize) -> usize {
    if dims <= 32 { dims } else { 32 }
}

/// The first `p` principal components of `points`, largest variance first; None if `p` is the number of dimensions
/// (a rotation would change no distance). Covariance and eigenvectors in f64. O(n d^2 + d^3) up to 1024 dimensions. Above,
/// s = min(n, d) is the side of the matrix (that of the rows' products where the rows are fewer): O(n d s), and O(s^2 p) a
/// step for its eigenvectors where s > 1024.
pub fn projection(points: &Matrix, p: usize, seed: u64, progress: &Progress) -> Result<Option<Projection>> {
    let (rows, dims) = (points.rows(), points.cols());
    if p >= dims {
        return Ok(None);
    }
    let mean = eigen::mean(points);
    let vectors = if dims > DENSE && rows < dims {
        let gram = eigen::gram(points, &mean, progress)?;
        let vectors = eigenvectors(gram, rows, p, seed, progress)?;
        eigen::axes(points, &mean, &vectors, p, progress)?
    } else {
        eigenvectors(eigen::covariance(points, &mean, progress)?, dims, p, seed, progress)?
    };
    let axes = Matrix::from_vec(p, dims, vectors[..p * dims].iter().map(|&x| x as f32).collect());
    Ok(Some(Projection::through(axes, &mean)))
}

/// At least the `p` leading eigenvectors of a symmetric matrix, if it has as many.
fn eigenvectors(matrix: Vec<f64>, side: usize, p: usize, seed: u64, progress: &Progress) -> Result<Vec<f64>> {
    let found = if side > DENSE {
        eigen::leading(&matrix, side, p, Stream::Subspace.key(seed, &[]), progress)?
    } else {
        eigen::symmetric(matrix, side, progress)?
    };
    Ok(found.vectors)
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
        let fitted = projection(&points, 1, 0, &Progress::default()).unwrap().unwrap();
        let axis = fitted.axes.row(0);
        assert!((axis[0].abs() - 0.5f32.sqrt()).abs() < 0.01 && axis[1].abs() < 0.01);
        let z = fitted.apply(&points);
        assert!(z.as_slice().iter().sum::<f32>().abs() / 600.0 < 1e-3);
        assert!(projection(&points, 3, 0, &Progress::default()).unwrap().is_none());
    }

    #[test]
    fn few_wide_rows_have_the_same_axes_on_any_threads() {
        let (rows, dims) = (20, DENSE + 76);
        let data = (0..rows * dims).map(|i| normal(key(5, &[i as u64])) as f32).collect();
        let points = Matrix::from_vec(rows, dims, data);
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| projection(&points, 32, 7, &Progress::default()).unwrap().unwrap())
        };
        let (one, three) = (on(1), on(3));
        assert_eq!(one, three);
        let z = one.apply(&points);
        // All that the rows tell, and nothing in the axes beyond.
        let square = |x: &[f32], y: &[f32]| {
            x.iter().zip(y).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum::<f64>()
        };
        let (kept, all) = (square(z.row(3), z.row(8)), square(points.row(3), points.row(8)));
        assert!((kept / all - 1.0).abs() < 1e-4, "{kept} of {all}");
    }

    #[test]
    fn usual_number_of_components() {
        assert_eq!([2, 32, 33, 768].map(usual_components), [2, 32, 32, 32]);
    }
}
