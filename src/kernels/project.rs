//! Rows onto axes.

use super::distance::dot;
use crate::matrix::Matrix;

/// `out[i][j] = (dot(axes[j], rows[i]) - offset[j]) as f32`, in the canonical order; `out` takes the shape `n x p`.
pub fn project(axes: &Matrix, offset: &[f32], rows: &Matrix, out: &mut Matrix) {
    assert_eq!(axes.cols(), rows.cols());
    assert_eq!(axes.rows(), offset.len());
    out.reset(rows.rows(), axes.rows());
    for i in 0..rows.rows() {
        for (j, out) in out.row_mut(i).iter_mut().enumerate() {
            *out = (dot(axes.row(j), rows.row(i)) - f64::from(offset[j])) as f32;
        }
    }
}
