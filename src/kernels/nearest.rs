//! The nearest of `k` centres for every row.

use super::distance::squared;
use crate::matrix::Matrix;

/// Centres prepared for many searches.
#[derive(Clone, Debug)]
pub struct Centers {
    centers: Matrix,
}

impl Centers {
    pub fn new(centers: &Matrix) -> Self {
        assert!(centers.rows() > 0, "at least one centre");
        Centers { centers: centers.clone() }
    }

    pub fn nearest(&self, rows: &[f32], out: &mut [u32]) {
        for (row, out) in rows.chunks_exact(self.centers.cols().max(1)).zip(out) {
            *out = settle(row, &self.centers).0;
        }
    }

    pub fn nearest_with_distance(&self, rows: &[f32], out: &mut [u32], distance: &mut [f64]) {
        for ((row, out), distance) in rows.chunks_exact(self.centers.cols().max(1)).zip(out).zip(distance) {
            (*out, *distance) = settle(row, &self.centers);
        }
    }
}

fn settle(row: &[f32], centers: &Matrix) -> (u32, f64) {
    let mut best = (0, f64::INFINITY);
    for (j, center) in centers.iter_rows().enumerate() {
        let distance = squared(row, center);
        if distance < best.1 {
            best = (j as u32, distance);
        }
    }
    best
}
