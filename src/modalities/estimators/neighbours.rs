//! Nearest neighbours of a block and of its two halves. The halves' lists are read off the block's list: a row's nearest
//! rows of its own half are the first ones in its list that belong to the half, so a list that holds enough of them is
//! certified; the few rows whose list does not are searched alone.

use rayon::prelude::*;

use crate::kernels::distance::squared;
use crate::kernels::knn;
use crate::matrix::Matrix;

/// Distances are floored here before the logarithm is taken.
const SMALLEST: f64 = 1e-30;

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
        let found = knn::knn(points, k);
        Neighbours { k, index: found.index, log: found.distance.into_par_iter().map(log).collect() }
    }

    /// Lists that were found before; only their logarithms are computed. O(n k d).
    pub fn again(points: &Matrix, k: usize, index: Vec<u32>) -> Self {
        let of = |(i, list): (usize, &[u32])| -> Vec<f64> {
            list.iter().map(|&j| log(squared(points.row(i), points.row(j as usize)).sqrt())).collect()
        };
        let log = index.par_chunks(k.max(1)).enumerate().flat_map_iter(of).collect();
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

    /// The neighbours within each half: up to `k` (fewer in a half of `k` rows or fewer). O(n k) but for rows whose
    /// list is too short, O(n d) each.
    pub fn within(&self, halves: &Halves, points: &Matrix, k: usize) -> HalfNeighbours {
        let [a, b] = [false, true].map(|half| self.of_half(halves, points, half, k));
        HalfNeighbours { halves: [a.0, b.0], across: [a.1, b.1] }
    }

    fn of_half(&self, halves: &Halves, points: &Matrix, half: bool, k: usize) -> (Neighbours, Vec<u32>) {
        let rows = &halves.rows[usize::from(half)];
        let k = k.min(rows.len().saturating_sub(1));
        let place = |j: u32| halves.place[j as usize];
        // For every row of the half: its neighbours in the half, and the nearest row of the other.
        let found: Vec<(Vec<(u32, f64)>, u32)> = rows
            .par_iter()
            .with_min_len(64)
            .map(|&i| {
                let i = i as usize;
                let list = || self.of(i).iter().zip(self.logs(i)).map(|(&j, &log)| (j, log));
                let mut own = Vec::with_capacity(k);
                own.extend(
                    list()
                        .filter(|&(j, _)| halves.half[j as usize] == half)
                        .take(k)
                        .map(|(j, l)| (place(j), l)),
                );
                if own.len() < k {
                    own = nearest(points, i, rows, k).into_iter().map(|(j, l)| (place(j), l)).collect();
                }
                let other = list().find(|&(j, _)| halves.half[j as usize] != half).map(|(j, _)| j);
                let other = other.or_else(|| {
                    nearest(points, i, &halves.rows[usize::from(!half)], 1).first().map(|&(j, _)| j)
                });
                (own, other.map_or(0, place))
            })
            .collect();
        let index = found.iter().flat_map(|(own, _)| own.iter().map(|x| x.0)).collect();
        let log = found.iter().flat_map(|(own, _)| own.iter().map(|x| x.1)).collect();
        (Neighbours { k, index, log }, found.iter().map(|x| x.1).collect())
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
    let others = among.iter().filter(|&&j| j as usize != i);
    let mut all: Vec<(f64, u32)> =
        others.map(|&j| (squared(points.row(i), points.row(j as usize)).sqrt(), j)).collect();
    all.sort_unstable_by(|x, y| x.0.total_cmp(&y.0).then(x.1.cmp(&y.1)));
    all.truncate(k);
    all.into_iter().map(|(r, j)| (j, log(r))).collect()
}

fn log(distance: f64) -> f64 {
    libm::log(distance.max(SMALLEST))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::mix64;

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
