//! The canonical arithmetic: what "distance" means in every file this crate writes.
//!
//! Element `t` is accumulated in lane `t % 8` in `f64`; the total is
//! `((l0 + l1) + (l2 + l3)) + ((l4 + l5) + (l6 + l7))`. Eight lanes are one AVX-512 register, two AVX2 registers or four
//! of SSE2 and NEON, so the order costs no machine anything.

use std::ops::Range;

use super::simd::{Kernel, Vector, dispatch, total};
use crate::kit::matrix::Matrix;

/// Squared Euclidean distance. The differences are formed in `f64`, without fused multiply-add. O(p).
#[inline]
pub fn squared(a: &[f32], b: &[f32]) -> f64 {
    squared_inline(a, b)
}

/// Dot product. A product of two `f32` is exact in `f64`, so a fused multiply-add would give the same bits. O(p).
#[inline]
pub fn dot(a: &[f32], b: &[f32]) -> f64 {
    dot_inline(a, b)
}

/// [`dot`], always inlined so that a caller compiled for wider vectors gets them.
#[inline(always)]
pub(super) fn dot_inline(a: &[f32], b: &[f32]) -> f64 {
    let ((a, a_tail), (b, b_tail)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut lanes = [0.0; 8];
    for (x, y) in a.iter().zip(b) {
        for i in 0..8 {
            lanes[i] += f64::from(x[i]) * f64::from(y[i]);
        }
    }
    for (lane, (&x, &y)) in lanes.iter_mut().zip(a_tail.iter().zip(b_tail)) {
        *lane += f64::from(x) * f64::from(y);
    }
    total(lanes)
}

/// [`squared`] of every row (row-major, as wide as the centres) to the centre that `of` names, appended to `out`; NaN where
/// `of` names none. O(n p), on the calling thread.
pub fn squared_to(rows: &[f32], centers: &Matrix, of: &[u32], out: &mut Vec<f64>) {
    assert_eq!(rows.len(), of.len() * centers.cols(), "one centre for every row");
    dispatch(SquaredTo { rows, centers, of, out });
}

struct SquaredTo<'a> {
    rows: &'a [f32],
    centers: &'a Matrix,
    of: &'a [u32],
    out: &'a mut Vec<f64>,
}

impl Kernel for SquaredTo<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let SquaredTo { rows, centers, of, out } = self;
        let p = centers.cols();
        out.extend(of.iter().enumerate().map(|(i, &of)| {
            let (row, of) = (&rows[i * p..(i + 1) * p], of as usize);
            if of < centers.rows() { squared_inline(row, centers.row(of)) } else { f64::NAN }
        }));
    }
}

/// [`squared`] of `row` to each of the points that `of` names. O(k p), on the calling thread.
pub fn squared_among(row: &[f32], points: &Matrix, of: &[u32], out: &mut [f64]) {
    assert_eq!(of.len(), out.len(), "one distance for every point");
    dispatch(SquaredAmong { row, points, of, out });
}

struct SquaredAmong<'a> {
    row: &'a [f32],
    points: &'a Matrix,
    of: &'a [u32],
    out: &'a mut [f64],
}

impl Kernel for SquaredAmong<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let SquaredAmong { row, points, of, out } = self;
        let each = |some: Range<usize>, squared: [f64; EIGHT]| {
            out[some.clone()].copy_from_slice(&squared[..some.len()]);
        };
        among::<V>(row, points, of.len(), |t| of[t], each);
    }
}

/// Points that are measured together.
const EIGHT: usize = 8;

/// Calls `each` with `0 .. count`, eight at a time, and [`squared`] of `row` to the points that `of` names there; the last
/// eight end with numbers of no point.
#[inline(always)]
pub(super) fn among<V: Vector>(
    row: &[f32],
    points: &Matrix,
    count: usize,
    of: impl Fn(usize) -> u32,
    mut each: impl FnMut(Range<usize>, [f64; EIGHT]),
) {
    let mut sums = [[0.0; 8]; EIGHT];
    for first in (0..count).step_by(EIGHT) {
        let some = first..count.min(first + EIGHT);
        for (sums, t) in sums.iter_mut().zip(some.clone()) {
            // Points lie anywhere: one is asked for while others are measured.
            if t + EIGHT < count {
                for line in points.row(of(t + EIGHT) as usize).chunks(16) {
                    V::prefetch(line.as_ptr());
                }
            }
            *sums = lanes(row, points.row(of(t) as usize));
        }
        each(some, V::totals(&sums));
    }
}

/// Of the rows, each with a squared distance, those that are nearer to `center`, with the smaller [`squared`] distance.
pub fn closer(points: &Matrix, rows: impl Iterator<Item = (u32, f64)>, center: &[f32]) -> Vec<(u32, f64)> {
    dispatch(Closer { points, rows, center })
}

struct Closer<'a, I> {
    points: &'a Matrix,
    rows: I,
    center: &'a [f32],
}

impl<I: Iterator<Item = (u32, f64)>> Kernel for Closer<'_, I> {
    type Output = Vec<(u32, f64)>;

    #[inline(always)]
    fn run<V: Vector>(self) -> Vec<(u32, f64)> {
        let mut out = Vec::new();
        for (i, before) in self.rows {
            let now = squared_inline(self.points.row(i as usize), self.center);
            if now < before {
                out.push((i, now));
            }
        }
        out
    }
}

/// [`squared`], always inlined so that a caller compiled for wider vectors gets them.
#[inline(always)]
pub(super) fn squared_inline(a: &[f32], b: &[f32]) -> f64 {
    total(lanes(a, b))
}

/// What [`squared`] is the [`total`] of.
#[inline(always)]
fn lanes(a: &[f32], b: &[f32]) -> [f64; 8] {
    debug_assert_eq!(a.len(), b.len());
    let ((a, a_tail), (b, b_tail)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut lanes = [0.0; 8];
    for (x, y) in a.iter().zip(b) {
        for i in 0..8 {
            let difference = f64::from(x[i]) - f64::from(y[i]);
            lanes[i] += difference * difference;
        }
    }
    for (lane, (&x, &y)) in lanes.iter_mut().zip(a_tail.iter().zip(b_tail)) {
        let difference = f64::from(x) - f64::from(y);
        *lane += difference * difference;
    }
    lanes
}

#[cfg(test)]
mod tests {
    use super::super::simd::{Level, run_at};
    use super::*;

    #[test]
    fn the_order_is_the_documented_one() {
        for p in [0usize, 1, 7, 8, 9, 20, 64, 67] {
            let a: Vec<f32> = (0..p).map(|t| (t as f32 * 0.7).sin() * 1e3).collect();
            let b: Vec<f32> = (0..p).map(|t| (t as f32 * 1.3).cos()).collect();
            let (mut s, mut d) = ([0.0f64; 8], [0.0f64; 8]);
            for t in 0..p {
                let e = a[t] as f64 - b[t] as f64;
                s[t % 8] += e * e;
                d[t % 8] += a[t] as f64 * b[t] as f64;
            }
            assert_eq!(squared(&a, &b).to_bits(), total(s).to_bits());
            assert_eq!(dot(&a, &b).to_bits(), total(d).to_bits());
        }
        assert_eq!(total([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0]), 255.0);
        assert_eq!(total([1e16, 1.0, -1e16, 1.0, 0.0, 0.0, 0.0, 0.0]), 0.0);
    }

    #[test]
    fn every_level_measures_alike() {
        let m =
            |n: usize, s: f32| Matrix::from_vec(n, 21, (0..n * 21).map(|i| (i as f32 * s).sin()).collect());
        let (rows, centers, of) = (m(9, 0.7), m(4, 1.3), [0, 3, 1, u32::MAX, 2, 2, 0, 4, 1]);
        for &level in Level::all() {
            let mut out = Vec::new();
            run_at(level, SquaredTo { rows: rows.as_slice(), centers: &centers, of: &of, out: &mut out });
            for (i, &c) in of.iter().enumerate() {
                let plain = if c < 4 { squared(rows.row(i), centers.row(c as usize)) } else { f64::NAN };
                assert!(out[i] == plain || c >= 4 && out[i].is_nan(), "{level:?}");
            }
            let (row, of) = (centers.row(2), [3, 0, 8, 8, 1, 2, 4, 7, 5, 6, 3]);
            let mut out = [f64::NAN; 11];
            run_at(level, SquaredAmong { row, points: &rows, of: &of, out: &mut out });
            assert_eq!(out, of.map(|j| squared(row, rows.row(j as usize))), "{level:?}");
        }
    }
}
