//! Rows onto axes, in the canonical order: the numbers are written to plans, so nothing here may be approximate.

use super::distance::total;
use super::simd::{Job, Vector, dispatch};
use crate::matrix::Matrix;

/// Eight `f64`, one for every lane of the canonical sum, on a cache line of their own.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Lanes([f64; 8]);

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
        let steps = self.axes.cols().div_ceil(8);
        let p = self.axes.rows();
        let axes = widen(self.axes, 0..p.next_multiple_of(TILE.1), steps);
        for first in (0..self.rows.rows()).step_by(TILE.0) {
            let rows = widen(self.rows, first..first + TILE.0, steps);
            for group in (0..p).step_by(TILE.1) {
                let sums = dots::<V>(&rows, &axes[group * steps..][..TILE.1 * steps], steps);
                for (i, sums) in (first..self.rows.rows()).zip(&sums) {
                    for (j, sum) in (group..p).zip(sums) {
                        self.out.row_mut(i)[j] = (total(*sum) - f64::from(self.offset[j])) as f32;
                    }
                }
            }
        }
    }
}

/// Rows in `f64`, in steps of eight, with zeros where there is no number: a lane is never -0, so adding 0 changes nothing.
#[inline(always)]
fn widen(matrix: &Matrix, which: std::ops::Range<usize>, steps: usize) -> Vec<Lanes> {
    let mut out = vec![Lanes([0.0; 8]); which.len() * steps];
    for (i, out) in which.zip(out.chunks_exact_mut(steps.max(1))) {
        if i < matrix.rows() {
            let (whole, tail) = matrix.row(i).as_chunks::<8>();
            let (out_whole, out_tail) = out.split_at_mut(whole.len());
            for (out, x) in out_whole.iter_mut().zip(whole) {
                *out = Lanes(x.map(f64::from));
            }
            for out in out_tail {
                out.0.iter_mut().zip(tail).for_each(|(out, &x)| *out = f64::from(x));
            }
        }
    }
    out
}

/// The lanes of all products of a tile of rows and axes. Products of two `f32` are exact in `f64`: fusing changes no bit.
#[inline(always)]
fn dots<V: Vector>(rows: &[Lanes], axes: &[Lanes], steps: usize) -> [[[f64; 8]; TILE.1]; TILE.0] {
    // Slices of a length the compiler knows, so that no check stands between the sums and their registers.
    let rows: [&[Lanes]; TILE.0] = std::array::from_fn(|r| &rows[r * steps..][..steps]);
    let axes: [&[Lanes]; TILE.1] = std::array::from_fn(|a| &axes[a * steps..][..steps]);
    let mut sums = [[[0.0; 8]; TILE.1]; TILE.0];
    for t in 0..steps {
        let axes = axes.map(|axis| axis[t].0);
        for (sums, row) in sums.iter_mut().zip(rows) {
            for (sums, axis) in sums.iter_mut().zip(axes) {
                for ((sum, x), y) in sums.iter_mut().zip(row[t].0).zip(axis) {
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
            let (mut out, mut portable) = (Matrix::default(), Matrix::zeros(n, p));
            project(&axes, &offset, &rows, &mut out);
            simd::portable(Project { axes: &axes, offset: &offset, rows: &rows, out: &mut portable });
            assert_eq!(out, portable);
            for i in 0..n {
                for j in 0..p {
                    let expected = (dot(axes.row(j), rows.row(i)) - f64::from(offset[j])) as f32;
                    assert_eq!(out.row(i)[j].to_bits(), expected.to_bits());
                }
            }
        }
    }
}
