//! Nearest neighbours of a block and of its two halves. The halves' lists are read off the block's list: a row's nearest
//! rows of its own half are the first ones in its list that belong to the half, so a list that holds enough of them is
//! certified; the few rows whose list does not are searched alone.

use rayon::prelude::*;

use crate::kernels::distance::squared_among;
use crate::kernels::knn;
use crate::kernels::logarithm::log_all;
use crate::kit::matrix::Matrix;

/// Distances are floored here before the logarithm is taken.
const SMALLEST: f64 = 1e-30;
/// Distances whose logarithms one thread takes at once.
const MANY: usize = 4096;

/// Each row's `k` nearest rows, self excluded, ascending by (distance, row).
#[derive(Clone, Debug)]
pub struct Neighbours {
    pub k: usize,
    /// rows x k.
    pub index: Vec<u32>,
    /// rows x k: natural logarithms of the Euclidean distances.
    pub log: Vec<f64>,
}

/// Which half every row of a block is in, and the rows of each half, ascending.
#[derive(Clone, Debug)]
pub struct Halves {
    half: Vec<bool>,
    /// A row's place within its half.
    place: Vec<u32>,
    pub rows: [Vec<u32>; 2],
}

/// The neighbours within the two halves.
#[derive(Clone, Debug)]
pub struct HalfNeighbours {
    pub halves: [Neighbours; 2],
    /// For each half, the nearest row of the other half (its place there) of every row.
    pub across: [Vec<u32>; 2],
}

impl Neighbours {
    /// `k` must be below the number of rows. O(n^2 d).
    pub fn new(points: &Matrix, k: usize) -> Self {
        let knn::Neighbours { k, index, mut distance } = knn::knn(points, k);
        distance.par_chunks_mut(MANY).for_each(logs);
        Neighbours { k, index, log: distance }
    }

    /// Lists that were found before; only their logarithms are computed. O(n k d).
    pub fn again(points: &Matrix, k: usize, index: Vec<u32>) -> Self {
        let mut log = vec![0.0; index.len()];
        let lists = index.par_chunks(k.max(1)).zip(log.par_chunks_mut(k.max(1)));
        lists.enumerate().for_each(|(i, (list, log))| {
            distances(points, i, list, log);
            logs(log);
        });
        Neighbours { k, index, log }
    }

    pub fn rows(&self) -> usize {
        self.index.len().checked_div(self.k).unwrap_or(0)
    }

    pub fn of(&self, row: usize) -> &[u32] {
        &self.index[row * self.k..][..self.k]
    }

    pub fn logs(&self, row: usize) -> &[f64] {
        &self.log[row * self.k..][..self.k]
    }

    /// The neighbours within each half, up to `k`, and the nearest row of the other one.
    pub fn within(&self, halves: &Halves, points: &Matrix, k: usize) -> HalfNeighbours {
        let own = |h: usize| self.of_half(halves, points, (h, h), k);
        let across = |h: usize| self.of_half(halves, points, (h, 1 - h), 1).index;
        HalfNeighbours { halves: [own(0), own(1)], across: [across(0), across(1)] }
    }

    /// For every row of the half `of` the `k` nearest others of the half `among` (fewer where it has no more), by their places
    /// there. O(n k) but for rows whose list is too short, O(n d) each.
    pub fn of_half(
        &self,
        halves: &Halves,
        points: &Matrix,
        (of, among): (usize, usize),
        k: usize,
    ) -> Neighbours {
        let (rows, others) = (&halves.rows[of], &halves.rows[among]);
        let k = k.min(others.len().saturating_sub(usize::from(of == among)));
        let (mut index, mut log) = (vec![0u32; rows.len() * k], vec![0.0; rows.len() * k]);
        // Chunks of no numbers are no chunks.
        let lists = index.par_chunks_mut(k.max(1)).zip(log.par_chunks_mut(k.max(1))).zip(rows);
        lists.with_min_len(64).for_each_init(Vec::new, |kept: &mut Vec<(u32, f64)>, ((index, log), &i)| {
            // Which rows are in the half is up to chance, so they are taken without a branch, some at a time.
            kept.resize(self.k + 1, (0, 0.0));
            let mut found = 0;
            for (n, (&j, &log)) in self.of(i as usize).iter().zip(self.logs(i as usize)).enumerate() {
                kept[found] = (j, log);
                found += usize::from(usize::from(halves.half[j as usize]) == among);
                if n % 16 == 15 && found >= k {
                    break;
                }
            }
            let alone = (found < k).then(|| nearest(points, i as usize, others, k));
            let listed = alone.as_ref().unwrap_or(kept);
            for ((index, log), &(j, l)) in index.iter_mut().zip(log).zip(listed) {
                (*index, *log) = (halves.place[j as usize], l);
            }
        });
        Neighbours { k, index, log }
    }
}

impl Halves {
    /// Row i is in the second half if `second(i)`.
    pub fn new(rows: usize, second: impl Fn(usize) -> bool) -> Self {
        let half: Vec<bool> = (0..rows).map(second).collect();
        let mut halves = [Vec::new(), Vec::new()];
        let mut place = Vec::with_capacity(rows);
        for (i, &h) in half.iter().enumerate() {
            let half: &mut Vec<u32> = &mut halves[usize::from(h)];
            place.push(half.len() as u32);
            half.push(i as u32);
        }
        Halves { half, place, rows: halves }
    }
}

/// The `k` rows `among` nearest to row `i` (not itself), with the logarithms of their distances.
fn nearest(points: &Matrix, i: usize, among: &[u32], k: usize) -> Vec<(u32, f64)> {
    let others: Vec<u32> = among.iter().copied().filter(|&j| j as usize != i).collect();
    let mut distance = vec![0.0; others.len()];
    distances(points, i, &others, &mut distance);
    let mut all: Vec<(f64, u32)> = distance.into_iter().zip(others).collect();
    all.sort_unstable_by(|x, y| x.0.total_cmp(&y.0).then(x.1.cmp(&y.1)));
    all.truncate(k);
    let mut log: Vec<f64> = all.iter().map(|x| x.0).collect();
    logs(&mut log);
    all.iter().map(|x| x.1).zip(log).collect()
}

/// Distances of row `i` to the rows `of`.
fn distances(points: &Matrix, i: usize, of: &[u32], out: &mut [f64]) {
    squared_among(points.row(i), points, of, out);
    out.iter_mut().for_each(|r| *r = r.sqrt());
}

/// Puts logarithms in the place of distances.
fn logs(distances: &mut [f64]) {
    distances.iter_mut().for_each(|r| *r = r.max(SMALLEST));
    log_all(distances);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::rng::mix64;

    #[test]
    fn lists_can_be_completed_again() {
        let data = (0..600u64).map(|i| (mix64(i) % 1000) as f32).collect();
        let points = Matrix::from_vec(200, 3, data);
        let found = Neighbours::new(&points, 12);
        let again = Neighbours::again(&points, 12, found.index.clone());
        assert!(again.log.iter().zip(&found.log).all(|(a, b)| a.to_bits() == b.to_bits()));
        assert_eq!((again.log.len(), again.k), (2400, 12));
    }

    #[test]
    fn halves_read_off_the_block_equal_halves_searched_alone() {
        // A grid: many equal distances.
        let data = (0..200u64).flat_map(|i| [(mix64(i) % 9) as f32, (mix64(i + 500) % 9) as f32]).collect();
        let points = Matrix::from_vec(200, 2, data);
        let halves = Halves::new(200, |i| mix64(i as u64 + 77) % 2 == 1);
        // A list of 12 is too short for many rows, so both ways are taken.
        let got = Neighbours::new(&points, 12).within(&halves, &points, 8);
        for h in 0..2 {
            let rows = &halves.rows[h];
            let half = points.gather(rows.iter().map(|&i| i as usize));
            let alone = Neighbours::new(&half, 8);
            assert_eq!(got.halves[h].index, alone.index);
            assert_eq!(got.halves[h].log, alone.log);
            let other = points.gather(halves.rows[1 - h].iter().map(|&i| i as usize));
            assert_eq!(got.across[h], knn::nearest_of(&half, &other));
        }
    }

    #[test]
    fn tiny_halves() {
        let points = Matrix::from_vec(3, 1, vec![0.0, 1.0, 5.0]);
        let got = Neighbours::new(&points, 2).within(&Halves::new(3, |i| i == 2), &points, 4);
        assert_eq!((got.halves[0].k, got.halves[1].k), (1, 0));
        assert_eq!(got.halves[0].index, [1, 0]);
        assert_eq!(got.across, [vec![0, 0], vec![1]]);
    }
}
