//! Points as rows of `f32`, row-major and contiguous: row `i` is `data[i * cols .. (i + 1) * cols]`.

use serde::{Deserialize, Serialize};

/// Row-major `rows x cols`. [`Matrix::reset`] keeps the allocation, so a worker reuses one buffer for all its parts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Matrix {
    rows: usize,
    cols: usize,
    data: Vec<f32>,
}

impl Matrix {
    pub fn zeros(rows: usize, cols: usize) -> Self {
        Matrix { rows, cols, data: vec![0.0; rows * cols] }
    }

    pub fn from_vec(rows: usize, cols: usize, data: Vec<f32>) -> Self {
        assert_eq!(
            data.len(),
            rows * cols,
            "a {rows} x {cols} matrix has {} numbers, not {}",
            rows * cols,
            data.len()
        );
        Matrix { rows, cols, data }
    }

    /// Changes the shape; numbers kept from before are unspecified, all must be overwritten.
    pub fn reset(&mut self, rows: usize, cols: usize) {
        self.rows = rows;
        self.cols = cols;
        self.data.resize(rows * cols, 0.0);
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn cols(&self) -> usize {
        self.cols
    }

    #[inline]
    pub fn row(&self, i: usize) -> &[f32] {
        &self.data[i * self.cols..(i + 1) * self.cols]
    }

    #[inline]
    pub fn row_mut(&mut self, i: usize) -> &mut [f32] {
        &mut self.data[i * self.cols..(i + 1) * self.cols]
    }

    pub fn as_slice(&self) -> &[f32] {
        &self.data
    }

    pub fn as_mut_slice(&mut self) -> &mut [f32] {
        &mut self.data
    }

    pub fn iter_rows(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        (0..self.rows).map(|i| self.row(i))
    }

    /// The rows named by `index`, in that order.
    pub fn gather(&self, index: impl ExactSizeIterator<Item = usize>) -> Matrix {
        let mut out =
            Matrix { rows: index.len(), cols: self.cols, data: Vec::with_capacity(index.len() * self.cols) };
        for i in index {
            out.data.extend_from_slice(self.row(i));
        }
        out
    }
}
