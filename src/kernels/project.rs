//! Rows onto axes, in the canonical order: the numbers are written to plans, so nothing here may be approximate.

use super::simd::{Aligned, Kernel, Vector, dispatch};
use crate::kit::matrix::Matrix;

/// Rows and axes whose sums are kept in registers together.
const TILE: (usize, usize) = (4, 4);

/// `out[i][j] = (dot(axes[j], rows[i]) - offset[j]) as f32`, in the canonical order: `rows` is `n x d`, `out` `n x p`.
/// O(n p d), on the calling thread.
pub fn project(axes: &Matrix, offset: &[f32], rows: &[f32], out: &mut [f32]) {
    let (d, p) = (axes.cols(), axes.rows());
    assert_eq!(rows.len() * p, out.len() * d, "one number for every row and axis");
    assert_eq!(p, offset.len());
    let each = |i: usize, first: usize, products: &[f64]| {
        let out = &mut out[i * p + first..][..products.len()];
        for ((out, product), &offset) in out.iter_mut().zip(products).zip(&offset[first..]) {
            *out = (product - f64::from(offset)) as f32;
        }
    };
    dispatch(Products { axes, rows, each });
}

/// `out[i][j] = dot(axes[j], rows[i])`, in the canonical order: `rows` is `n x d`, `out` `n x p`. O(n p d), on the calling
/// thread.
pub fn products(axes: &Matrix, rows: &[f32], out: &mut [f64]) {
    let (d, p) = (axes.cols(), axes.rows());
    assert_eq!(rows.len() * p, out.len() * d, "one number for every row and axis");
    let each = |i: usize, first: usize, products: &[f64]| {
        out[i * p + first..][..products.len()].copy_from_slice(products);
    };
    dispatch(Products { axes, rows, each });
}

/// Calls `each` with a row, the first of some axes and the row's products with these.
struct Products<'a, F> {
    axes: &'a Matrix,
    rows: &'a [f32],
    each: F,
}

impl<F: FnMut(usize, usize, &[f64])> Kernel for Products<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(mut self) {
        // Axes, and rows four at a time, in f64: `stride` numbers each, a whole number of lanes.
        let (d, p) = (self.axes.cols(), self.axes.rows());
        let stride = d.next_multiple_of(8);
        let mut axes = Aligned::zeros(p.next_multiple_of(TILE.1) * stride);
        widen(self.axes.as_slice(), d, axes.slice_mut(), stride);
        let mut tile = Aligned::zeros(TILE.0 * stride);
        for (t, rows) in self.rows.chunks(TILE.0 * d.max(1)).enumerate() {
            widen(rows, d, tile.slice_mut(), stride);
            let count = rows.len() / d;
            for group in (0..p).step_by(TILE.1) {
                let sums = dots::<V>(tile.slice(), &axes.slice()[group * stride..], stride);
                let axes = TILE.1.min(p - group);
                for (i, sums) in sums.as_chunks().0.iter().enumerate() {
                    let totals = V::totals(sums);
                    for (r, totals) in totals.as_chunks::<{ TILE.1 }>().0.iter().enumerate() {
                        let row = 2 * i + r;
                        if row < count {
                            (self.each)(t * TILE.0 + row, group, &totals[..axes]);
                        }
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
fn dots<V: Vector>(rows: &[f64], axes: &[f64], stride: usize) -> [[f64; 8]; TILE.0 * TILE.1] {
    // Slices of a length the compiler knows, so that no check stands between the sums and their registers.
    let steps = stride / 8;
    let rows: [&[[f64; 8]]; TILE.0] =
        std::array::from_fn(|r| &rows[r * stride..][..stride].as_chunks().0[..steps]);
    let axes: [&[[f64; 8]]; TILE.1] =
        std::array::from_fn(|a| &axes[a * stride..][..stride].as_chunks().0[..steps]);
    let mut sums = [[0.0; 8]; TILE.0 * TILE.1];
    let add = |sum: f64, x: f64, y: f64| if V::FUSED { x.mul_add(y, sum) } else { sum + x * y };
    if V::LANES == 16 {
        for t in 0..steps {
            let axes = axes.map(|axis| axis[t]);
            for (sums, row) in sums.as_chunks_mut::<{ TILE.1 }>().0.iter_mut().zip(rows) {
                for (sums, axis) in sums.iter_mut().zip(axes) {
                    for ((sum, x), y) in sums.iter_mut().zip(row[t]).zip(axis) {
                        *sum = add(*sum, x, y);
                    }
                }
            }
        }
        return sums;
    }
    // With fewer and narrower registers two axes and half the lanes at a time.
    for first in [0, 2] {
        let pair: [&[[f64; 8]]; 2] = [axes[first], axes[first + 1]];
        for half in [0, 1] {
            let mut part = [[[0.0; 4]; 2]; TILE.0];
            for t in 0..steps {
                let pair = pair.map(|axis| axis[t].as_chunks::<4>().0[half]);
                for (part, row) in part.iter_mut().zip(rows) {
                    let row = row[t].as_chunks::<4>().0[half];
                    for (sums, axis) in part.iter_mut().zip(pair) {
                        for ((sum, x), y) in sums.iter_mut().zip(row).zip(axis) {
                            *sum = add(*sum, x, y);
                        }
                    }
                }
            }
            for (r, part) in part.iter().enumerate() {
                for (a, part) in part.iter().enumerate() {
                    sums[r * TILE.1 + first + a][4 * half..][..4].copy_from_slice(part);
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
    use crate::kit::rng::{key, normal};

    #[test]
    fn every_number_is_canonical() {
        for (n, d, p) in [(1, 1, 1), (3, 7, 2), (9, 8, 5), (10, 41, 4), (4, 64, 9), (0, 3, 2)] {
            let random = |rows, seed| {
                let numbers = (0..rows * d).map(|i| normal(key(seed, &[i as u64])) as f32).collect();
                Matrix::from_vec(rows, d, numbers)
            };
            let (axes, rows) = (random(p, 1), random(n, 2));
            let offset: Vec<f32> = (0..p).map(|j| j as f32 - 0.3).collect();
            let mut out = Matrix::zeros(n, p);
            project(&axes, &offset, rows.as_slice(), out.as_mut_slice());
            for &level in simd::Level::all() {
                let mut again = vec![0.0; n * p];
                let each = |i: usize, first: usize, products: &[f64]| {
                    again[i * p + first..][..products.len()].copy_from_slice(products);
                };
                simd::run_at(level, Products { axes: &axes, rows: rows.as_slice(), each });
                for (i, j) in (0..n).flat_map(|i| (0..p).map(move |j| (i, j))) {
                    let product = dot(axes.row(j), rows.row(i));
                    assert_eq!(again[i * p + j].to_bits(), product.to_bits(), "{level:?}");
                }
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
