//! Rows onto axes, in the canonical order: the numbers are written to plans, so nothing here may be approximate.

use super::distance::total;
use super::simd::{Aligned, Job, Vector, dispatch};
use crate::matrix::Matrix;

/// Rows and axes whose sums are kept in registers together.
const TILE: (usize, usize) = (4, 4);

/// `out[i][j] = (dot(axes[j], rows[i]) - offset[j]) as f32`, in the canonical order; `out` takes the shape `n x p`.
/// O(n p d), on the calling thread.
pub fn project(axes: &Matrix, offset: &[f32], rows: &Matrix, out: &mut Matrix) {
    assert_eq!(axes.cols(), rows.cols());
    assert_eq!(axes.rows(), offset.len());
    out.reset(rows.rows(), axes.rows());
    dispatch(Project { axes, offset, rows, out });
}

struct Project<'a> {
    axes: &'a Matrix,
    offset: &'a [f32],
    rows: &'a Matrix,
    out: &'a mut Matrix,
}

impl Job for Project<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        // Axes, and rows four at a time, in f64: `stride` numbers each, a whole number of lanes.
        let (d, p) = (self.axes.cols(), self.axes.rows());
        let stride = d.next_multiple_of(8);
        let mut axes = Aligned::zeros(p.next_multiple_of(TILE.1) * stride);
        widen(self.axes.as_slice(), d, axes.slice_mut(), stride);
        let mut tile = Aligned::zeros(TILE.0 * stride);
        for first in (0..self.rows.rows()).step_by(TILE.0) {
            let last = (first + TILE.0).min(self.rows.rows());
            widen(&self.rows.as_slice()[first * d..last * d], d, tile.slice_mut(), stride);
            for group in (0..p).step_by(TILE.1) {
                let sums = dots::<V>(tile.slice(), &axes.slice()[group * stride..], stride);
                for (i, sums) in (first..last).zip(&sums) {
                    for (j, sum) in (group..p).zip(sums) {
                        self.out.row_mut(i)[j] = (total(*sum) - f64::from(self.offset[j])) as f32;
                    }
                }
            }
        }
    }
}

/// Rows of `d` numbers in `f64`, `stride` apart. What lies between stays 0: a lane is never -0, so adding 0 to it changes
/// nothing.
#[inline(always)]
fn widen(rows: &[f32], d: usize, to: &mut [f64], stride: usize) {
    for (row, to) in rows.chunks_exact(d.max(1)).zip(to.chunks_exact_mut(stride.max(1))) {
        to[..d].iter_mut().zip(row).for_each(|(to, &x)| *to = f64::from(x));
    }
}

/// The lanes of all products of a tile of rows and axes. Products of two `f32` are exact in `f64`: fusing changes no bit.
#[inline(always)]
fn dots<V: Vector>(rows: &[f64], axes: &[f64], stride: usize) -> [[[f64; 8]; TILE.1]; TILE.0] {
    // Slices of a length the compiler knows, so that no check stands between the sums and their registers.
    let steps = stride / 8;
    let rows: [&[[f64; 8]]; TILE.0] =
        std::array::from_fn(|r| &rows[r * stride..][..stride].as_chunks().0[..steps]);
    let axes: [&[[f64; 8]]; TILE.1] =
        std::array::from_fn(|a| &axes[a * stride..][..stride].as_chunks().0[..steps]);
    let mut sums = [[[0.0; 8]; TILE.1]; TILE.0];
    for t in 0..steps {
        let axes = axes.map(|axis| axis[t]);
        for (sums, row) in sums.iter_mut().zip(rows) {
            for (sums, axis) in sums.iter_mut().zip(axes) {
                for ((sum, x), y) in sums.iter_mut().zip(row[t]).zip(axis) {
                    *sum = if V::FUSED { x.mul_add(y, *sum) } else { *sum + x * y };
                }
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::super::distance::dot;
    use super::super::simd;
    use super::*;
    use crate::rng::{key, normal};

    #[test]
    fn every_number_is_canonical() {
        for (n, d, p) in [(1, 1, 1), (3, 7, 2), (9, 8, 5), (10, 41, 4), (4, 64, 9), (0, 3, 2)] {
            let random = |rows, seed| {
                let numbers = (0..rows * d).map(|i| normal(key(seed, &[i as u64])) as f32).collect();
                Matrix::from_vec(rows, d, numbers)
            };
            let (axes, rows) = (random(p, 1), random(n, 2));
            let offset: Vec<f32> = (0..p).map(|j| j as f32 - 0.3).collect();
            let mut out = Matrix::default();
            project(&axes, &offset, &rows, &mut out);
            for &level in simd::Level::all() {
                let mut again = Matrix::zeros(n, p);
                simd::run_at(level, Project { axes: &axes, offset: &offset, rows: &rows, out: &mut again });
                assert_eq!(out, again, "{level:?}");
            }
            for i in 0..n {
                for (j, &offset) in offset.iter().enumerate() {
                    let expected = (dot(axes.row(j), rows.row(i)) - f64::from(offset)) as f32;
                    assert_eq!(out.row(i)[j].to_bits(), expected.to_bits());
                }
            }
        }
    }
}
