//! The slow twins: every fast path is tested against these.

use super::distance::squared;
use crate::kit::matrix::Matrix;

pub fn nearest(row: &[f32], centers: &Matrix) -> (u32, f64) {
    let mut best = (0, f64::INFINITY);
    for (j, center) in centers.iter_rows().enumerate() {
        let distance = squared(row, center);
        if distance < best.1 {
            best = (j as u32, distance);
        }
    }
    best
}

/// The `k` nearest of `points` to `query`, without row `skip`, by (distance, row).
pub fn neighbours(query: &[f32], points: &Matrix, k: usize, skip: Option<usize>) -> Vec<(f64, u32)> {
    let mut all: Vec<(f64, u32)> = (0..points.rows())
        .filter(|&j| Some(j) != skip)
        .map(|j| (squared(query, points.row(j)).sqrt(), j as u32))
        .collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    all.truncate(k);
    all
}
