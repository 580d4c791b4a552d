//! k-means: keyed k-means++ starts (Arthur & Vassilvitskii 2007) and Lloyd's steps (Lloyd 1982). Deterministic: choices
//! are looked up by key, sums are f64 in row order. Rows are searched in parallel, and summed in parallel by coordinate,
//! which keeps the order.
//!
//! More than [`ALL`] rows are not all needed to find the centres: the start is chosen on [`STARTED`] rows a cell and
//! trained on [`TRAINED`], and [`LAST`] steps over all rows follow (as in FAISS, Johnson, Douze & Jegou 2021). The start
//! is then the greedy one of Arthur & Vassilvitskii, since one bad start is no longer mended by many steps.

use rayon::prelude::*;

use crate::kernels::distance::{closer, squared, squared_to};
use crate::kernels::knn::nearest_of;
use crate::kernels::moments::add_columns;
use crate::kit::matrix::Matrix;
use crate::kit::rng::{key, uniform};

/// So many rows are all used in every step.
pub const ALL: usize = 1 << 16;
/// Rows a cell on which the start of a larger set is chosen, and on which it is trained.
const STARTED: usize = 64;
const TRAINED: usize = 256;
/// Steps over all rows of a larger set.
const LAST: usize = 3;
/// Coordinates that are summed together: they fill the L2 cache with the sums of a thousand cells.
const COLUMNS: usize = 64;
/// Rows that one thread measures at a time.
const PIECE: usize = 1024;

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
/// O(steps n k p); the start costs O(n k p) at worst, far less on clustered rows. Of more than [`ALL`] rows only a part
/// takes part in most steps, see the module: O((256 steps k + n) k p).
///
/// An emptied cell is started anew at the row farthest from its centre (ties: the lower row). Panics without rows.
pub fn kmeans(points: &Matrix, k: usize, steps: usize, seed: u64) -> Clusters {
    assert!(points.rows() > 0 && k > 0, "k-means needs rows and at least one cell");
    if points.rows() <= ALL.max(2 * TRAINED * k) {
        return lloyd(points, plus_plus(points, k, 1, seed), steps);
    }
    let candidates = 2 + libm::log(k as f64) as usize;
    let start = plus_plus(&some(points, STARTED * k, seed), k, candidates, seed);
    let trained = lloyd(&some(points, TRAINED * k, seed), start, steps);
    lloyd(points, trained.centers, LAST.min(steps))
}

/// `count` rows at keyed places of equal stretches.
fn some(points: &Matrix, count: usize, seed: u64) -> Matrix {
    let n = points.rows();
    points.gather((0..count).map(|i| {
        let (from, to) = (i * n / count, (i + 1) * n / count);
        from + (uniform(key(seed, &[count as u64, i as u64])) * (to - from) as f64) as usize
    }))
}

/// At most `steps` steps from these centres.
fn lloyd(points: &Matrix, mut centers: Matrix, steps: usize) -> Clusters {
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
    let inertia = distances(points, &centers, &labels).concat().into_iter().sum();
    Clusters { centers, labels, inertia }
}

/// Squared distances to the centres that `labels` name, in pieces.
fn distances(points: &Matrix, centers: &Matrix, labels: &[u32]) -> Vec<Vec<f64>> {
    let measure = |(i, labels): (usize, &[u32])| {
        let mut out = Vec::with_capacity(labels.len());
        let p = points.cols();
        let rows = &points.as_slice()[i * PIECE * p..][..labels.len() * p];
        squared_to(rows, centers, labels, &mut out);
        out
    };
    labels.par_chunks(PIECE).enumerate().map(measure).collect()
}

/// Means of the cells (f64 in row order, rounded once) and their numbers of rows; an empty cell's mean is 0.
pub fn means(points: &Matrix, labels: &[u32], cells: usize) -> (Matrix, Vec<u64>) {
    let width = points.cols();
    let mut rows = vec![0u64; cells];
    labels.iter().for_each(|&c| rows[c as usize] += 1);
    let sum = |first: usize| {
        let columns = COLUMNS.min(width - first);
        let mut sums = vec![0.0f64; cells * columns];
        add_columns(points, first, labels, &mut sums, columns);
        sums
    };
    let blocks: Vec<Vec<f64>> =
        (0..width).step_by(COLUMNS).collect::<Vec<_>>().into_par_iter().map(sum).collect();
    let mut means = Matrix::zeros(cells, width);
    for (c, &n) in rows.iter().enumerate() {
        let sums = blocks.iter().flat_map(|block| {
            let columns = block.len() / cells;
            &block[c * columns..(c + 1) * columns]
        });
        means.row_mut(c).iter_mut().zip(sums).for_each(|(mean, s)| *mean = (s / n.max(1) as f64) as f32);
    }
    (means, rows)
}

/// The first centre is a random row, each next one a row drawn with probability proportional to its squared distance to
/// the centres so far: of `candidates` such rows the one that leaves the smallest sum of them (ties: the first). Ends early
/// when every row is a centre.
fn plus_plus(points: &Matrix, k: usize, candidates: usize, seed: u64) -> Matrix {
    let n = points.rows();
    let mut chosen = vec![((uniform(key(seed, &[0])) * n as f64) as usize).min(n - 1)];
    let first = points.gather(chosen.iter().copied());
    // Squared distance to the nearest centre so far, and which one that is.
    let mut nearest: Vec<(f64, u32)> =
        distances(points, &first, &vec![0; n]).concat().into_iter().map(|d| (d, 0)).collect();
    while chosen.len() < k {
        let total: f64 = nearest.iter().map(|x| x.0).sum();
        if total <= 0.0 {
            break;
        }
        let number = chosen.len() as u32;
        let draw_one = |c: u64| {
            // The first candidate has the key of the only one.
            let words = [u64::from(number), c];
            draw(&nearest, uniform(key(seed, &words[..if c == 0 { 1 } else { 2 }])) * total)
        };
        let drawn: Vec<usize> = (0..candidates as u64).map(draw_one).collect();
        let all: Vec<Moved> = drawn.iter().map(|&next| moved(points, &chosen, next, &nearest)).collect();
        let mut best = 0;
        for (c, moved) in all.iter().enumerate() {
            if moved.gain > all[best].gain {
                best = c;
            }
        }
        chosen.push(drawn[best]);
        for &(i, d) in all[best].rows.iter().flatten() {
            nearest[i as usize] = (d, number);
        }
    }
    points.gather(chosen.into_iter())
}

/// Rows that a new centre would be nearest to, in pieces, and what the sum of squared distances would lose.
struct Moved {
    rows: Vec<Vec<(u32, f64)>>,
    gain: f64,
}

fn moved(points: &Matrix, chosen: &[usize], next: usize, nearest: &[(f64, u32)]) -> Moved {
    let center = points.row(next);
    let apart: Vec<f64> = chosen.iter().map(|&c| squared(points.row(c), center)).collect();
    let one = |(piece, nearest): (usize, &[(f64, u32)])| {
        // Triangle inequality: a centre twice as far from mine as I am cannot be nearer (the slack covers rounding).
        let close = |best: &(f64, u32)| apart[best.1 as usize] < 4.000_001 * best.0;
        let rows = nearest.iter().enumerate().filter(|(_, best)| close(best));
        let rows = rows.map(|(i, best)| ((piece * PIECE + i) as u32, best.0));
        closer(points, rows, center)
    };
    let rows: Vec<Vec<(u32, f64)>> = nearest.par_chunks(PIECE).enumerate().map(one).collect();
    let gain = |row: &(u32, f64)| nearest[row.0 as usize].0 - row.1;
    Moved { gain: rows.iter().flatten().map(gain).sum(), rows }
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
    let mut far: Vec<(f64, usize)> =
        distances(points, centers, labels).concat().into_iter().zip(0..).collect();
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
    use crate::kit::rng::normal;

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
        let got = plus_plus(&points, 40, 1, 3);
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

    #[test]
    fn many_rows_are_trained_on_a_part() {
        let points = blobs(ALL + 1000, 7);
        let found = kmeans(&points, 7, 20, 5);
        for i in 7..points.rows() {
            assert_eq!(found.labels[i], found.labels[i % 7]);
        }
        // The last steps are those of all rows: nothing moves any more.
        let (means, rows) = means(&points, &found.labels, 7);
        assert_eq!(
            (found.labels == nearest_of(&points, &means), rows.iter().sum()),
            (true, ALL as u64 + 1000)
        );
        assert_eq!(means, found.centers);
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        let points = Matrix::from_vec(
            ALL + 500,
            3,
            (0..3 * (ALL + 500)).map(|i| normal(key(4, &[i as u64])) as f32).collect(),
        );
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| kmeans(&points, 9, 4, 1))
        };
        let (one, three) = (run(1), run(3));
        assert_eq!((one.centers, one.labels), (three.centers, three.labels));
        assert_eq!(one.inertia.to_bits(), three.inertia.to_bits());
    }

    #[test]
    fn of_several_candidates_the_best_is_taken() {
        let points = blobs(2000, 12);
        let cost = |centers: &Matrix| {
            let near = nearest_of(&points, centers);
            distances(&points, centers, &near).concat().iter().sum::<f64>()
        };
        let mean =
            |candidates| (0..20).map(|s| cost(&plus_plus(&points, 12, candidates, s))).sum::<f64>() / 20.0;
        assert!(mean(5) < 0.8 * mean(1), "{} {}", mean(5), mean(1));
    }
}
