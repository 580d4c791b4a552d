//! The `k` nearest neighbours of every row.

use rayon::prelude::*;

use super::distance::squared;
use super::nearest::Centers;
use crate::matrix::Matrix;

/// `n x k`, row-major, each row ascending by (distance, index).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Neighbours {
    pub k: usize,
    /// Row numbers of the neighbours.
    pub index: Vec<u32>,
    /// Canonical Euclidean distances.
    pub distance: Vec<f64>,
}

pub fn knn(points: &Matrix, k: usize) -> Neighbours {
    search(points, points, k, true)
}

pub fn knn_among(queries: &Matrix, points: &Matrix, k: usize) -> Neighbours {
    search(queries, points, k, false)
}

fn search(queries: &Matrix, points: &Matrix, k: usize, skip_self: bool) -> Neighbours {
    let rows: Vec<Vec<(f64, u32)>> = (0..queries.rows())
        .into_par_iter()
        .map(|i| {
            let mut all: Vec<(f64, u32)> = (0..points.rows())
                .filter(|&j| !(skip_self && i == j))
                .map(|j| (squared(queries.row(i), points.row(j)).sqrt(), j as u32))
                .collect();
            all.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            all.truncate(k);
            all
        })
        .collect();
    let all = || rows.iter().flatten();
    Neighbours { k, index: all().map(|x| x.1).collect(), distance: all().map(|x| x.0).collect() }
}

/// For every query the nearest point, ties to the lower row.
pub fn nearest_of(queries: &Matrix, points: &Matrix) -> Vec<u32> {
    let mut out = vec![0; queries.rows()];
    Centers::new(points).nearest(queries.as_slice(), &mut out);
    out
}
