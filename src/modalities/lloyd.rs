//! k-means: keyed k-means++ starts (Arthur & Vassilvitskii 2007) and Lloyd's steps (Lloyd 1982). Deterministic: choices
//! are looked up by key, sums are f64 in row order, only the search for the nearest centre runs in parallel.

use rayon::prelude::*;

use crate::kernels::distance::squared;
use crate::kernels::knn::nearest_of;
use crate::matrix::Matrix;
use crate::rng::{key, uniform};

/// Centres and what they hold.
#[derive(Clone, Debug)]
pub struct Clusters {
    /// At most as many as asked for: never more than the distinct rows, and none is empty.
    pub centers: Matrix,
    /// The nearest centre of every row.
    pub labels: Vec<u32>,
    /// Sum of the rows' squared distances to their centres.
    pub inertia: f64,
}

/// Up to `k` cells of the rows of `points` after at most `steps` Lloyd steps (fewer if no row changes its cell).
/// O(steps n k p); the start costs O(n k p) at worst, far less on clustered rows.
///
/// An emptied cell is started anew at the row farthest from its centre (ties: the lower row). Panics without rows.
pub fn kmeans(points: &Matrix, k: usize, steps: usize, seed: u64) -> Clusters {
    assert!(points.rows() > 0 && k > 0, "k-means needs rows and at least one cell");
    let mut centers = plus_plus(points, k, seed);
    let mut labels = nearest_of(points, &centers);
    for _ in 0..steps {
        let cells = centers.rows();
        let (means, rows) = means(points, &labels, cells);
        centers = means;
        restart_empty(points, &labels, &rows, &mut centers);
        let new = nearest_of(points, &centers);
        let settled = new == labels;
        labels = new;
        if settled {
            break;
        }
    }
    drop_empty(&mut centers, &mut labels);
    let inertia =
        labels.iter().zip(points.iter_rows()).map(|(&c, x)| squared(x, centers.row(c as usize))).sum();
    Clusters { centers, labels, inertia }
}

/// Means of the cells (f64 in row order, rounded once) and their numbers of rows; an empty cell's mean is 0.
pub fn means(points: &Matrix, labels: &[u32], cells: usize) -> (Matrix, Vec<u64>) {
    let width = points.cols();
    let mut sums = vec![0.0f64; cells * width];
    let mut rows = vec![0u64; cells];
    for (&c, x) in labels.iter().zip(points.iter_rows()) {
        rows[c as usize] += 1;
        let sum = &mut sums[c as usize * width..][..width];
        for (s, &x) in sum.iter_mut().zip(x) {
            *s += f64::from(x);
        }
    }
    let data = sums
        .chunks_exact(width.max(1))
        .zip(&rows)
        .flat_map(|(sum, &n)| sum.iter().map(move |s| (s / n.max(1) as f64) as f32))
        .collect();
    (Matrix::from_vec(cells, width, data), rows)
}

/// The first centre is a random row, each next one a row drawn with probability proportional to its squared distance to
/// the centres so far; ends early when every row is a centre.
fn plus_plus(points: &Matrix, k: usize, seed: u64) -> Matrix {
    let n = points.rows();
    let mut chosen = vec![((uniform(key(seed, &[0])) * n as f64) as usize).min(n - 1)];
    // Squared distance to the nearest centre so far, and which one that is.
    let mut nearest: Vec<(f64, u32)> =
        (0..n).into_par_iter().map(|i| (squared(points.row(i), points.row(chosen[0])), 0)).collect();
    while chosen.len() < k {
        let total: f64 = nearest.iter().map(|x| x.0).sum();
        if total <= 0.0 {
            break;
        }
        let target = uniform(key(seed, &[chosen.len() as u64])) * total;
        let next = draw(&nearest, target);
        let center = points.row(next);
        let apart: Vec<f64> = chosen.iter().map(|&c| squared(points.row(c), center)).collect();
        let number = chosen.len() as u32;
        chosen.push(next);
        nearest.par_iter_mut().enumerate().with_min_len(1024).for_each(|(i, best)| {
            // Triangle inequality: a centre twice as far from mine as I am cannot be nearer (the slack covers rounding).
            if apart[best.1 as usize] < 4.000_001 * best.0 {
                let d = squared(points.row(i), center);
                if d < best.0 {
                    *best = (d, number);
                }
            }
        });
    }
    points.gather(chosen.into_iter())
}

/// The row where the running sum of weights passes `target`; the last row of positive weight if rounding keeps it below.
fn draw(weights: &[(f64, u32)], target: f64) -> usize {
    let mut sum = 0.0;
    let mut last = 0;
    for (i, &(w, _)) in weights.iter().enumerate() {
        if w > 0.0 {
            sum += w;
            last = i;
            if sum > target {
                break;
            }
        }
    }
    last
}

fn restart_empty(points: &Matrix, labels: &[u32], rows: &[u64], centers: &mut Matrix) {
    let empty: Vec<usize> = (0..rows.len()).filter(|&c| rows[c] == 0).collect();
    if empty.is_empty() {
        return;
    }
    let mut far: Vec<(f64, usize)> = (0..points.rows())
        .into_par_iter()
        .map(|i| (squared(points.row(i), centers.row(labels[i] as usize)), i))
        .collect();
    far.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    for (&c, &(_, i)) in empty.iter().zip(&far) {
        centers.row_mut(c).copy_from_slice(points.row(i));
    }
}

fn drop_empty(centers: &mut Matrix, labels: &mut [u32]) {
    let mut used = vec![false; centers.rows()];
    for &c in labels.iter() {
        used[c as usize] = true;
    }
    if used.iter().all(|&u| u) {
        return;
    }
    let stays: Vec<usize> = (0..used.len()).filter(|&c| used[c]).collect();
    for c in labels.iter_mut() {
        *c = stays.binary_search(&(*c as usize)).expect("a used cell stays") as u32;
    }
    *centers = centers.gather(stays.into_iter());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::normal;

    fn blobs(n: usize, k: usize) -> Matrix {
        let data = (0..n)
            .flat_map(|i| {
                let c = i % k;
                [(20 * c) as f64, (c * c) as f64]
                    .into_iter()
                    .enumerate()
                    .map(move |(j, m)| (m + normal(key(9, &[i as u64, j as u64]))) as f32)
            })
            .collect();
        Matrix::from_vec(n, 2, data)
    }

    #[test]
    fn separated_blobs_are_found() {
        let points = blobs(400, 4);
        let found =
            (0..4).map(|s| kmeans(&points, 4, 50, s)).min_by(|a, b| a.inertia.total_cmp(&b.inertia)).unwrap();
        for i in 4..400 {
            assert_eq!(found.labels[i], found.labels[i % 4]);
        }
        assert_eq!(found.labels, nearest_of(&points, &found.centers));
        let (means, rows) = means(&points, &found.labels, 4);
        assert_eq!(rows, [100; 4]);
        assert_eq!(means, found.centers);
    }

    #[test]
    fn skipping_by_the_triangle_inequality_changes_nothing() {
        let points = blobs(300, 5);
        let got = plus_plus(&points, 40, 3);
        // The same draws with every distance computed.
        let mut d = vec![(f64::INFINITY, 0); 300];
        for (t, c) in got.iter_rows().enumerate() {
            if t > 0 {
                let total: f64 = d.iter().map(|x| x.0).sum();
                let i = draw(&d, uniform(key(3, &[t as u64])) * total);
                assert_eq!(points.row(i), c);
            }
            for (d, x) in d.iter_mut().zip(points.iter_rows()) {
                d.0 = d.0.min(squared(x, c));
            }
        }
    }

    #[test]
    fn never_more_cells_than_distinct_rows() {
        let points = Matrix::from_vec(6, 1, vec![1.0, 1.0, 2.0, 2.0, 2.0, 5.0]);
        let found = kmeans(&points, 5, 10, 0);
        assert_eq!(found.centers.rows(), 3);
        assert_eq!(found.inertia, 0.0);
    }

    #[test]
    fn an_empty_cell_restarts_at_the_farthest_row() {
        let points = Matrix::from_vec(4, 1, vec![0.0, 1.0, 9.0, 1.0]);
        let mut centers = Matrix::from_vec(2, 1, vec![1.0, 7.0]);
        restart_empty(&points, &[0; 4], &[4, 0], &mut centers);
        assert_eq!(centers.as_slice(), [1.0, 9.0]);
    }
}
