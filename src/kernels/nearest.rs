//! The nearest of `k` centres for every row: ranked in `f32` (`ranking.rs`), settled by the canonical distance.

use super::distance::squared_inline;
use super::ranking::{Panels, Rows, at_most, limit, minimum};
use super::simd::{Aligned, Kernel, Level, PANEL, Vector, run_tiled_at};
use crate::kit::matrix::Matrix;

/// Centres prepared for many searches: packed once, O(k p) memory twice.
#[derive(Clone, Debug)]
pub struct Centers {
    centers: Matrix,
    panels: Panels,
}

impl Centers {
    /// Panics if there is no centre.
    pub fn new(centers: &Matrix) -> Self {
        let level = if Panels::in_tiles(centers) { Level::with_tiles() } else { Level::now() };
        Centers::at(level, centers)
    }

    /// For searches at this level.
    pub(super) fn at(level: Level, centers: &Matrix) -> Self {
        assert!(centers.rows() > 0, "at least one centre");
        Centers { centers: centers.clone(), panels: Panels::new(level, centers) }
    }

    /// For each of the `n` rows (row-major, `n x p`) the centre with the smallest canonical squared distance, ties to the
    /// lower index. Numbers must be finite. O(n k p), on the calling thread.
    pub fn nearest(&self, rows: &[f32], out: &mut [u32]) {
        self.search(rows, out, None);
    }

    /// [`Centers::nearest`] and the canonical squared distance to it.
    pub fn nearest_with_distance(&self, rows: &[f32], out: &mut [u32], distance: &mut [f64]) {
        assert_eq!(out.len(), distance.len());
        self.search(rows, out, Some(distance));
    }

    fn search(&self, rows: &[f32], out: &mut [u32], distance: Option<&mut [f64]>) {
        assert_eq!(rows.len(), out.len() * self.centers.cols(), "one answer a row");
        if rows.is_empty() {
            // No rows, or points without coordinates: all distances are 0.
            out.fill(0);
            distance.into_iter().for_each(|d| d.fill(0.0));
            return;
        }
        run_tiled_at(self.panels.level(), Search { centers: self, rows, out, distance });
    }
}

struct Search<'a> {
    centers: &'a Centers,
    rows: &'a [f32],
    out: &'a mut [u32],
    distance: Option<&'a mut [f64]>,
}

impl Kernel for Search<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(mut self) {
        let Centers { centers, panels, .. } = self.centers;
        let p = centers.cols();
        let width = panels.len() * PANEL;
        // Panels that stay in a cache while tiles of rows pass take one tile at a time; larger ones are read once per block of
        // tiles, whose scores (at most 256 KiB) stay in L2 instead.
        let kept = panels.len() * panels.panel_bytes() <= V::KEPT;
        let tiles = if kept { 1 } else { (64 << 10) / width / V::ROWS };
        let block = V::ROWS * tiles.clamp(1, 12);
        let mut prepared = Rows::new::<V>(panels, block);
        let mut scores = Aligned::zeros(block * width);
        for (b, rows) in self.rows.chunks(block * p).enumerate() {
            prepared.fill::<V>(panels, rows);
            prepared.scores::<V>(panels, 0..panels.len(), scores.slice_mut(), width);
            for (r, row) in rows.chunks_exact(p).enumerate() {
                let (best, known) = match prepared.slack[r] {
                    Some(slack) => settle::<V>(row, centers, &scores.slice()[r * width..][..width], slack),
                    None => {
                        let (best, distance) = scan(row, centers);
                        (best, Some(distance))
                    }
                };
                let i = b * block + r;
                self.out[i] = best;
                if let Some(distance) = &mut self.distance {
                    distance[i] = known.unwrap_or_else(|| squared_inline(row, centers.row(best as usize)));
                }
            }
        }
    }
}

/// The canonically nearest centre among those that the bound cannot exclude; its distance if it was needed.
#[inline(always)]
fn settle<V: Vector>(row: &[f32], centers: &Matrix, scores: &[f32], slack: f64) -> (u32, Option<f64>) {
    let mut best = (u32::MAX, None);
    at_most::<V>(scores, limit(minimum::<V>(scores), slack), |j| {
        if best.0 == u32::MAX {
            best.0 = j as u32;
            return;
        }
        let first = *best.1.get_or_insert_with(|| squared_inline(row, centers.row(best.0 as usize)));
        let other = squared_inline(row, centers.row(j));
        if other < first {
            best = (j as u32, Some(other));
        }
    });
    best
}

/// All centres by the canonical distance: for rows too large for scores.
fn scan(row: &[f32], centers: &Matrix) -> (u32, f64) {
    let mut best = (0, f64::INFINITY);
    for (j, center) in centers.iter_rows().enumerate() {
        let distance = squared_inline(row, center);
        if distance < best.1 {
            best = (j as u32, distance);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::super::naive;
    use super::*;
    use crate::kit::rng::{key, normal};

    /// Coordinates and points for which scores are in `f32`, in words, and in tiles of them.
    const SHAPES: [(usize, usize); 3] = [(7, 40), (35, 90), (150, 130)];

    fn points(n: usize, p: usize, seed: u64) -> Matrix {
        Matrix::from_vec(n, p, (0..n * p).map(|i| normal(key(seed, &[i as u64])) as f32).collect())
    }

    /// Against the slow twin, at every level this machine can run or emulate.
    fn check(rows: &Matrix, centers: &Matrix) {
        let n = rows.rows();
        for level in Level::tested() {
            let prepared = Centers::at(level, centers);
            let (mut out, mut distance) = (vec![9; n], vec![0.0; n]);
            prepared.nearest_with_distance(rows.as_slice(), &mut out, &mut distance);
            for i in 0..n {
                let (best, squared) = naive::nearest(rows.row(i), centers);
                assert_eq!((out[i], distance[i].to_bits()), (best, squared.to_bits()), "row {i}, {level:?}");
            }
            let mut alone = vec![9; n];
            prepared.nearest(rows.as_slice(), &mut alone);
            assert_eq!(alone, out);
        }
    }

    #[test]
    fn equal_to_the_slow_twin() {
        for p in [1, 2, 3, 8, 15, 16, 17, 33, 64] {
            for k in [1, 2, 5, 16, 31, 32, 33, 70] {
                check(&points(29, p, 1), &points(k, p, 2));
            }
        }
        check(&points(40, 256, 1), &points(600, 256, 2)); // several tiles a block
        check(&points(37, 129, 1), &points(145, 129, 2)); // rows and points that fill no tile
    }

    #[test]
    fn ties_go_to_the_lower_centre() {
        let mut centers = points(6, 5, 3);
        for j in [3, 4] {
            let first = centers.row(1).to_vec();
            centers.row_mut(j).copy_from_slice(&first);
        }
        check(&points(50, 5, 4), &centers);
        // A grid: very many exact ties.
        let grid = |n: usize, p: usize, m: u64| {
            Matrix::from_vec(n, p, (0..n * p).map(|i| (key(m, &[i as u64]) % 3) as f32).collect())
        };
        check(&grid(100, 4, 1), &grid(70, 4, 2));
        check(&grid(100, 33, 1), &grid(70, 33, 2));
        check(&grid(40, 130, 1), &grid(150, 130, 2));
    }

    #[test]
    fn near_ties_far_from_the_origin() {
        // Here every f32 score is rounding noise; only the bound keeps the answers right.
        let offsets = [(1e3, 1e-3), (1e4, 1e-2), (1e6, 1.0), (-300.0, 1e-4)];
        for ((offset, spread), (p, k)) in offsets.into_iter().flat_map(|o| SHAPES.map(|shape| (o, shape))) {
            let far = |n, seed| {
                let mut m = points(n, p, seed);
                m.as_mut_slice().iter_mut().for_each(|x| *x = *x * spread + offset);
                m
            };
            check(&far(60, 5), &far(k, 6));
            let mut two_sides = far(k, 5);
            two_sides.as_mut_slice().iter_mut().step_by(2).for_each(|x| *x = -*x);
            check(&far(60, 5), &two_sides);
        }
    }

    #[test]
    fn extreme_numbers() {
        let scales = [1e19f32, 3e37, 1e-20, 1e-38, 1e-44];
        for (scale, (p, k)) in scales.into_iter().flat_map(|s| SHAPES.map(|shape| (s, shape))) {
            let scaled = |n, seed| {
                let mut m = points(n, p, seed);
                m.as_mut_slice().iter_mut().for_each(|x| *x *= scale);
                m
            };
            check(&scaled(20, 1), &scaled(k, 2));
            check(&points(20, p, 1), &scaled(k, 2));
            check(&scaled(20, 1), &points(k, p, 2));
        }
        for (p, k) in SHAPES {
            check(&points(5, p, 1), &Matrix::zeros(k, p));
            check(&Matrix::zeros(5, p), &Matrix::zeros(k, p));
            check(&Matrix::zeros(5, p), &points(k, p, 1));
        }
        // All of a row's length in one coordinate, and rows of very different length.
        for (p, k) in SHAPES {
            let mut spikes = points(k + 10, p, 7);
            for (i, row) in spikes.as_mut_slice().chunks_mut(p).enumerate() {
                row.iter_mut().for_each(|x| *x *= 10f32.powi(i as i32 % 9 - 4));
                row[i % p] = 1e3 * if i % 2 == 0 { 1.0 } else { -1.0 };
            }
            check(&spikes, &points(k, p, 8));
            check(&points(60, p, 8), &spikes);
            check(&spikes, &spikes);
        }
    }

    #[test]
    fn empty_shapes() {
        let none: [f32; 0] = [];
        Centers::new(&Matrix::zeros(2, 3)).nearest(&none, &mut []);
        let (mut out, mut distance) = ([7; 4], [7.0; 4]);
        Centers::new(&Matrix::zeros(2, 0)).nearest_with_distance(&none, &mut out, &mut distance);
        assert_eq!((out, distance), ([0; 4], [0.0; 4]));
    }
}
