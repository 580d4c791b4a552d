//! The exact `k` nearest neighbours of every row of a sample.
//!
//! A block of rows is scored against all points (`ranking.rs`). A threshold per row, a quantile of its scores for a
//! sixteenth of the points, lets little more than `k` of them onto a shortlist; the `k`-th smallest score there and the
//! error bound say which of those could be neighbours, and the canonical distances of these are sorted. A row whose
//! shortlist came out too short is searched without one. Blocks run in parallel; no answer depends on how.

use rayon::prelude::*;

use super::distance::squared_inline;
use super::nearest::Centers;
use super::ranking::{Panels, Rows, at_most, limit};
use super::simd::{Aligned, Job, Level, PANEL, Vector, run_at};
use crate::matrix::Matrix;
use crate::rng::mix64;

/// Rows scored together, twelve tiles of AVX-512: all points pass them, from a far cache or from memory.
const BLOCK: usize = 168;
/// Rows whose thresholds are found together: their scores for the sampled points fill the L2 cache.
const SOME: usize = 56;
/// Candidates that are measured before one that was asked for.
const SOON: usize = 8;
/// One point in so many sets the thresholds.
const STRIDE: usize = 16;

/// `n x k`, row-major, each row ascending by (distance, index).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Neighbours {
    pub k: usize,
    /// Row numbers of the neighbours.
    pub index: Vec<u32>,
    /// Canonical Euclidean distances.
    pub distance: Vec<f64>,
}

/// The `k` nearest other rows of every row; `k < points.rows()`. O(n^2 p + n k (p + log k)), parallel over rows.
pub fn knn(points: &Matrix, k: usize) -> Neighbours {
    assert!(k == 0 || k < points.rows(), "{k} neighbours among {} rows", points.rows());
    search(points, points, k, true, Level::now())
}

/// The `k` nearest points of every query; `k <= points.rows()`. Costs as [`knn`].
pub fn knn_among(queries: &Matrix, points: &Matrix, k: usize) -> Neighbours {
    assert!(k <= points.rows(), "{k} neighbours among {} points", points.rows());
    search(queries, points, k, false, Level::now())
}

/// For every query the nearest point, ties to the lower row. Parallel over queries.
pub fn nearest_of(queries: &Matrix, points: &Matrix) -> Vec<u32> {
    const ROWS: usize = 1024;
    let centers = Centers::new(points);
    let mut out = vec![0; queries.rows()];
    out.par_chunks_mut(ROWS).enumerate().for_each(|(i, out)| {
        let p = queries.cols();
        centers.nearest(&queries.as_slice()[i * ROWS * p..][..out.len() * p], out);
    });
    out
}

fn search(queries: &Matrix, points: &Matrix, k: usize, skip_self: bool, level: Level) -> Neighbours {
    assert_eq!(queries.cols(), points.cols());
    let mut out =
        Neighbours { k, index: vec![0; queries.rows() * k], distance: vec![0.0; queries.rows() * k] };
    if k == 0 || queries.rows() == 0 {
        return out;
    }
    assert!(points.cols() > 0, "points without coordinates have no neighbours");
    // One point of every stride, at a keyed place: rows may come in a periodic order.
    let chosen = (0..points.rows() / STRIDE).map(|i| i * STRIDE + mix64(i as u64) as usize % STRIDE);
    let panels = Panels::new(points);
    let sample = panels.sample(&points.gather(chosen));
    let shared = Shared { queries, points, k, skip_self, panels, sample };
    let blocks = out.index.par_chunks_mut(BLOCK * k).zip(out.distance.par_chunks_mut(BLOCK * k));
    blocks.enumerate().for_each(|(b, (index, distance))| {
        run_at(level, Block { shared: &shared, first: b * BLOCK, index, distance });
    });
    out
}

/// What all blocks read.
struct Shared<'a> {
    queries: &'a Matrix,
    points: &'a Matrix,
    k: usize,
    skip_self: bool,
    panels: Panels,
    sample: Panels,
}

/// Queries `first ..`, as many as there are answers.
struct Block<'a> {
    shared: &'a Shared<'a>,
    first: usize,
    index: &'a mut [u32],
    distance: &'a mut [f64],
}

impl Job for Block<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let Shared { queries, points, k, skip_self, panels, .. } = self.shared;
        let (k, p, count) = (*k, queries.cols(), self.index.len() / self.shared.k);
        let rows = &queries.as_slice()[self.first * p..(self.first + count) * p];
        let mut prepared = Rows::new::<V>(panels, count);
        prepared.fill::<V>(panels, rows);
        let thresholds = self.thresholds::<V>(rows);
        let mut shortlists: Vec<Vec<(f32, u32)>> = vec![Vec::with_capacity(4 * k); count];

        // As many panels at a time as stay in the L2 cache.
        let step = ((256 << 10) / panels.panel_bytes()).clamp(1, 8);
        let width = step * PANEL;
        let mut scores = Aligned::zeros(count.next_multiple_of(V::ROWS) * width);
        for first in (0..panels.len()).step_by(step) {
            let which = first..(first + step).min(panels.len());
            let used = which.len() * PANEL;
            prepared.scores::<V>(panels, which, scores.slice_mut(), width);
            for (r, shortlist) in shortlists.iter_mut().enumerate() {
                let scores = &scores.slice()[r * width..][..used];
                at_most::<V>(scores, thresholds[r].1, |j| {
                    shortlist.push((scores[j], (first * PANEL + j) as u32));
                });
            }
        }

        let (mut chosen, mut settled): (Vec<u32>, Vec<(u64, u32)>) = (Vec::new(), Vec::new());
        for (r, shortlist) in shortlists.iter_mut().enumerate() {
            let i = self.first + r;
            let own = if *skip_self { i } else { usize::MAX };
            // Panels end with infinite scores of points that are not there.
            shortlist.retain(|&(_, j)| (j as usize) < panels.points() && j as usize != own);
            chosen.clear();
            match candidates(shortlist, k, thresholds[r].0, prepared.slack[r]) {
                Some(limit) => chosen.extend(shortlist.iter().filter(|x| x.0 <= limit).map(|x| x.1)),
                None => chosen.extend((0..points.rows()).filter(|&j| j != own).map(|j| j as u32)),
            }
            settled.clear();
            for (t, &j) in chosen.iter().enumerate() {
                // The rows lie anywhere: ask for one while others are measured.
                if let Some(&soon) = chosen.get(t + SOON) {
                    let row = points.row(soon as usize);
                    row.chunks(16).for_each(|line| V::prefetch(line.as_ptr()));
                }
                // Of a distance >= 0, the bits are in the order of the numbers.
                let distance = squared_inline(queries.row(i), points.row(j as usize)).sqrt();
                settled.push((distance.to_bits(), j));
            }
            settled.sort_unstable();
            for (t, &(distance, j)) in settled[..k].iter().enumerate() {
                self.index[r * k + t] = j;
                self.distance[r * k + t] = f64::from_bits(distance);
            }
        }
    }
}

impl Block<'_> {
    /// For every row a score that probably a little more than `k` points reach, and the same plus the row's slack.
    #[inline(always)]
    fn thresholds<V: Vector>(&self, rows: &[f32]) -> Vec<(f32, f32)> {
        let Shared { queries, panels, sample, k, .. } = self.shared;
        let p = queries.cols();
        // Expected rank in the sample, four standard deviations, and the row itself.
        let rank = *k as f64 / STRIDE as f64;
        let rank = (rank + 4.0 * rank.sqrt()) as usize + 3;
        if rank >= sample.points() {
            return vec![(f32::INFINITY, f32::INFINITY); rows.len() / p];
        }
        let width = sample.len() * PANEL;
        let mut scores = Aligned::zeros(SOME.next_multiple_of(V::ROWS) * width);
        let mut out = Vec::with_capacity(rows.len() / p);
        let mut prepared = Rows::new::<V>(panels, SOME);
        for rows in rows.chunks(SOME * p) {
            prepared.fill::<V>(panels, rows);
            prepared.scores::<V>(sample, 0..sample.len(), scores.slice_mut(), width);
            let scores = scores.slice_mut().chunks_exact_mut(width);
            out.extend(scores.zip(&prepared.slack).map(|(scores, slack)| {
                let score = *scores[..sample.points()].select_nth_unstable_by(rank, f32::total_cmp).1;
                (score, limit(score, slack.unwrap_or(0.0)))
            }));
        }
        out
    }
}

/// The score up to which points of the shortlist can be among the `k` nearest; `None` if it misses some of those.
fn candidates(shortlist: &mut [(f32, u32)], k: usize, threshold: f32, slack: Option<f64>) -> Option<f32> {
    let slack = slack?;
    if shortlist.len() < k {
        return None;
    }
    let kth = shortlist.select_nth_unstable_by(k - 1, |a, b| a.0.total_cmp(&b.0)).1.0;
    // The list holds every score up to threshold + slack.
    (kth <= threshold).then(|| limit(kth, slack))
}

#[cfg(test)]
mod tests {
    use super::super::naive;
    use super::*;
    use crate::rng::{key, normal};

    fn points(n: usize, p: usize, seed: u64) -> Matrix {
        Matrix::from_vec(n, p, (0..n * p).map(|i| normal(key(seed, &[i as u64])) as f32).collect())
    }

    fn check(queries: &Matrix, points: &Matrix, k: usize, own: bool) {
        let mut before = None;
        for &level in Level::all() {
            let got = search(queries, points, k, own, level);
            for i in 0..queries.rows() {
                let expected = naive::neighbours(queries.row(i), points, k, own.then_some(i));
                for (t, &(distance, j)) in expected.iter().enumerate() {
                    assert_eq!(
                        (got.index[i * k + t], got.distance[i * k + t]),
                        (j, distance),
                        "row {i}, place {t}"
                    );
                }
            }
            assert_eq!(got.index.len(), queries.rows() * k);
            assert!(before.is_none_or(|b| b == got));
            before = Some(got);
        }
    }

    #[test]
    fn equal_to_the_slow_twin() {
        for (n, p, k) in
            [(2, 1, 1), (5, 3, 4), (33, 2, 7), (64, 8, 63), (130, 17, 16), (700, 4, 16), (700, 16, 40)]
        {
            let m = points(n, p, 7);
            check(&m, &m, k, true);
            check(&points(23, p, 8), &m, k, false);
        }
    }

    #[test]
    fn duplicates_grids_and_far_points() {
        let grid = Matrix::from_vec(600, 2, (0..1200).map(|i| (key(1, &[i]) % 9) as f32).collect());
        check(&grid, &grid, 12, true);
        let same = Matrix::zeros(400, 3);
        check(&same, &same, 5, true);
        let mut far = points(500, 6, 3);
        far.as_mut_slice().iter_mut().for_each(|x| *x = *x * 1e-2 + 1e4);
        check(&far, &far, 9, true);
        let mut huge = points(60, 3, 3);
        huge.as_mut_slice().iter_mut().for_each(|x| *x *= 1e30);
        check(&huge, &huge, 9, true);
        // Two far clusters: thresholds from the sample of a row's own cluster alone.
        let mut two = points(600, 3, 5);
        two.as_mut_slice()[1500..].iter_mut().for_each(|x| *x += 1e3);
        check(&two, &two, 150, true);
    }

    #[test]
    fn odd_shapes() {
        let m = points(10, 4, 1);
        assert_eq!(knn(&m, 0), Neighbours::default());
        assert_eq!(knn(&m, 3), search(&m, &m, 3, true, Level::Portable));
        assert_eq!(knn_among(&m, &m, 3).index[3], 1, "a query that is a point finds itself");
        assert_eq!(knn_among(&Matrix::zeros(0, 4), &m, 3).index.len(), 0);
        assert_eq!(nearest_of(&m, &m), (0..10).collect::<Vec<u32>>());
        let queries = points(2100, 3, 4);
        let few = points(11, 3, 5);
        let expected: Vec<u32> = queries.iter_rows().map(|q| naive::nearest(q, &few).0).collect();
        assert_eq!(nearest_of(&queries, &few), expected);
    }
}
