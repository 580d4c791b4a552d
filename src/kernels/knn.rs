//! The exact `k` nearest neighbours of every row of a sample.
//!
//! Points and queries are put in the order of their nearest pivots. A block of rows is scored against all points
//! (`ranking.rs`), or, where modes lie apart, against those that its screen lets through. A threshold per row, a quantile of
//! its scores for a sixteenth of the points, lets little more than `k` of them onto a shortlist; the `k`-th smallest score
//! there and the error bound say which of those could be neighbours, and the canonical distances of these are sorted. A row
//! whose shortlist came out too short is searched without one. Blocks run in parallel; no answer depends on how.

use rayon::prelude::*;

use super::distance::among;
use super::nearest::Centers;
use super::ranking::{Panels, Rows, Screen, Shortlist, any_at_most, limit};
use super::simd::{Aligned, Kernel, Level, PANEL, Vector, run_at};
use crate::kit::matrix::Matrix;
use crate::kit::rng::mix64;

/// Rows scored together, twelve tiles of AVX-512: all points pass them, from a far cache or from memory.
const BLOCK: usize = 168;
/// Rows whose thresholds are found together: their scores for the sampled points fill the L2 cache.
const SOME: usize = 56;
/// One point in so many sets the thresholds.
const STRIDE: usize = 16;
/// Scores of a row that are looked through at once.
const WIDTH: usize = 8 * PANEL;
/// Points are ordered by at most so many pivots, of so many points at least.
const PIVOTS: usize = 128;
const CELL: usize = 256;
/// After so many tiles a block knows whether its screen lets most of them through.
const ENOUGH: usize = 1024;

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
    nearest_of_prepared(queries, &Centers::new(points))
}

fn nearest_of_prepared(queries: &Matrix, centers: &Centers) -> Vec<u32> {
    const ROWS: usize = 1024;
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
    let some = |stride: usize| {
        points.gather((0..points.rows() / stride).map(|i| i * stride + mix64(i as u64) as usize % stride))
    };
    let pivots = Centers::at(level, &some((points.rows() / PIVOTS).max(CELL).min(points.rows())));
    let order = by_cell(points, &pivots);
    let asked = if skip_self { order.clone() } else { by_cell(queries, &pivots) };
    let at = |place: usize| order[place] as usize;
    let panels = Panels::ordered(level, points, at);
    let sample = panels.sample(&some(STRIDE));
    let screen = Screen::new(&panels, points, at);
    let shared = Shared { queries, points, order, asked, k, skip_self, panels, sample, screen };
    let answers = out.index.chunks_exact_mut(k).zip(out.distance.chunks_exact_mut(k));
    let mut answers: Vec<Option<Answer>> = answers.map(Some).collect();
    let taken = shared.asked.iter().map(|&i| answers[i as usize].take());
    let mut answers: Vec<Answer> = taken.map(|answer| answer.expect("every query is asked once")).collect();
    answers.par_chunks_mut(BLOCK).enumerate().for_each(|(b, answers)| {
        run_at(level, Block { shared: &shared, first: b * BLOCK, answers });
    });
    out
}

/// The neighbours of one query, and their distances.
type Answer<'a> = (&'a mut [u32], &'a mut [f64]);

/// The rows by their nearest pivot: neighbours lie together, and so in the same caches.
fn by_cell(rows: &Matrix, pivots: &Centers) -> Vec<u32> {
    let cell = nearest_of_prepared(rows, pivots);
    let mut order: Vec<u32> = (0..rows.rows() as u32).collect();
    // Stable: the rows of a cell stay in their order.
    order.par_sort_by_key(|&i| cell[i as usize]);
    order
}

/// What all blocks read.
struct Shared<'a> {
    queries: &'a Matrix,
    points: &'a Matrix,
    /// Points and queries by cell: the points of the panels, and whose answers come one after another.
    order: Vec<u32>,
    asked: Vec<u32>,
    k: usize,
    skip_self: bool,
    panels: Panels,
    sample: Panels,
    screen: Option<Screen>,
}

/// The queries `asked[first ..]`, as many as there are answers.
struct Block<'a, 'b> {
    shared: &'a Shared<'a>,
    first: usize,
    answers: &'a mut [Answer<'b>],
}

impl Kernel for Block<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let Shared { queries, points, order, asked, k, skip_self, panels, screen, .. } = self.shared;
        let (k, p, count) = (*k, queries.cols(), self.answers.len());
        let rows = queries.gather(asked[self.first..self.first + count].iter().map(|&i| i as usize));
        let mut prepared = Rows::new::<V>(panels, count);
        prepared.fill::<V>(panels, rows.as_slice());
        let thresholds = self.thresholds::<V>(rows.as_slice());
        let mut shortlists = vec![Shortlist::with_room(4 * k); count];

        let reduced = screen.as_ref().map(|screen| screen.reduced(rows.iter_rows()));
        let mut screen = screen.as_ref().zip(reduced.as_deref()).map(|(screen, reduced)| {
            let mut rows = Rows::new::<V>(&screen.panels, count);
            rows.fill::<V>(&screen.panels, reduced);
            (screen, rows)
        });
        // What the screen must let through: both bounds more than the scores that pass, see `ranking.rs`.
        let bound: Vec<f32> = screen.as_ref().map_or_else(Vec::new, |(_, rows)| {
            let slack = rows.slack.iter().zip(&prepared.slack);
            let both = slack.map(|(screen, score)| screen.zip(*score).map_or(f64::INFINITY, |(a, b)| a + b));
            thresholds.iter().zip(both).map(|(threshold, slack)| limit(threshold.1, slack)).collect()
        });
        let (mut tried, mut passed) = (0, 0);
        let mut scores = Aligned::zeros(V::ROWS * WIDTH);
        let scores = scores.slice_mut();
        let mut next = 0;
        while next < panels.len() {
            let which = next..(next + if screen.is_some() { 1 } else { WIDTH / PANEL }).min(panels.len());
            next = which.end;
            for first in (0..count).step_by(V::ROWS) {
                let tile = first..(first + V::ROWS).min(count);
                if let Some((screen, rows)) = &screen {
                    rows.tile::<V, false>(&screen.panels, which.start, first, scores, WIDTH);
                    let of = scores.chunks_exact(WIDTH).zip(&bound[tile.clone()]);
                    let any = of
                        .fold(false, |any, (scores, &bound)| any | any_at_most::<V>(&scores[..PANEL], bound));
                    tried += 1;
                    passed += usize::from(any);
                    if !any {
                        continue;
                    }
                }
                for (place, panel) in which.clone().enumerate() {
                    prepared.tile::<V, false>(panels, panel, first, &mut scores[place * PANEL..], WIDTH);
                }
                for (scores, r) in scores.chunks_exact(WIDTH).zip(tile) {
                    let scores = &scores[..which.len() * PANEL];
                    shortlists[r].extend::<V>(scores, thresholds[r].1, (which.start * PANEL) as u32);
                }
            }
            if tried >= ENOUGH && passed > tried - tried / 4 {
                screen = None;
            }
        }

        let (mut scratch, mut found) = (Vec::new(), Found::default());
        for (r, shortlist) in shortlists.iter_mut().enumerate() {
            let row = &rows.as_slice()[r * p..][..p];
            let own = if *skip_self { (self.first + r) as u32 } else { u32::MAX };
            // Panels end with infinite scores of points that are not there.
            shortlist.leave_out(panels.points() as u32, own);
            let all: Vec<u32>;
            let chosen = match candidates(shortlist, k, thresholds[r].0, prepared.slack[r], &mut scratch) {
                Some(limit) => {
                    shortlist.cut(limit);
                    shortlist.places()
                }
                None => {
                    all = (0..order.len() as u32).filter(|&place| place != own).collect();
                    &all
                }
            };
            found.all.clear();
            let of = |t: usize| order[chosen[t] as usize];
            among::<V>(row, points, chosen.len(), of, |some, squared| {
                found.all.extend(squared.map(|d| d.sqrt().to_bits()).into_iter().zip(some.map(of)));
            });
            found.sort();
            let (index, distance) = &mut self.answers[r];
            for ((index, to), found) in index.iter_mut().zip(distance.iter_mut()).zip(&found.sorted) {
                (*to, *index) = (f64::from_bits(found.0), found.1);
            }
        }
    }
}

/// Points with their distances: of a distance >= 0, the bits are in the order of the numbers.
#[derive(Debug, Default)]
struct Found {
    all: Vec<(u64, u32)>,
    sorted: Vec<(u64, u32)>,
    keys: Vec<u64>,
}

impl Found {
    /// Ascending. Single words sort several times as fast as pairs: the upper bits of a distance and a place in `all`;
    /// what these bits leave open, which is rarely anything, is sorted by all bits.
    fn sort(&mut self) {
        const PLACE: u64 = (1 << 24) - 1;
        let Found { all, sorted, keys } = self;
        sorted.clear();
        if all.len() as u64 > PLACE {
            sorted.extend_from_slice(all);
            return sorted.sort_unstable();
        }
        keys.clear();
        keys.extend(all.iter().zip(0..).map(|(&(distance, _), place)| distance & !PLACE | place));
        keys.sort_unstable();
        sorted.extend(keys.iter().map(|key| all[(key & PLACE) as usize]));
        for run in sorted.chunk_by_mut(|a, b| a.0 & !PLACE == b.0 & !PLACE) {
            if run.len() > 1 {
                run.sort_unstable();
            }
        }
    }
}

impl Block<'_, '_> {
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
        let (mut few, mut scratch) = (Shortlist::default(), Vec::new());
        for rows in rows.chunks(SOME * p) {
            prepared.fill::<V>(panels, rows);
            prepared.scores::<V>(sample, 0..sample.len(), scores.slice_mut(), width);
            for (scores, slack) in scores.slice().chunks_exact(width).zip(&prepared.slack) {
                let score = nth::<V>(scores, sample.points(), rank, &mut few, &mut scratch);
                out.push((score, limit(score, slack.unwrap_or(0.0))));
            }
        }
        out
    }
}

/// The score of rank `rank`, from 0, among the first `len`; infinite ones follow them. An eighth of them tells about where it
/// is: few are below, and only these are put in order.
#[inline(always)]
fn nth<V: Vector>(
    scores: &[f32],
    len: usize,
    rank: usize,
    few: &mut Shortlist,
    scratch: &mut Vec<f32>,
) -> f32 {
    let mut select = |of: &[f32], rank: usize| {
        scratch.clear();
        scratch.extend_from_slice(of);
        *scratch.select_nth_unstable_by(rank, f32::total_cmp).1
    };
    let eighth = rank as f64 / 8.0;
    let about = (eighth + 4.0 * eighth.sqrt()) as usize + 3;
    if about < len / 8 {
        few.clear();
        few.extend::<V>(scores, select(&scores[..len / 8], about), 0);
        if few.scores().len() > rank {
            return select(few.scores(), rank);
        }
    }
    select(&scores[..len], rank)
}

/// The score up to which points of the shortlist can be among the `k` nearest; `None` if it misses some of those.
fn candidates(
    shortlist: &Shortlist,
    k: usize,
    threshold: f32,
    slack: Option<f64>,
    scratch: &mut Vec<f32>,
) -> Option<f32> {
    let slack = slack?;
    if shortlist.scores().len() < k {
        return None;
    }
    scratch.clear();
    scratch.extend_from_slice(shortlist.scores());
    let kth = *scratch.select_nth_unstable_by(k - 1, f32::total_cmp).1;
    // The list holds every score up to threshold + slack.
    (kth <= threshold).then(|| limit(kth, slack))
}

#[cfg(test)]
mod tests {
    use super::super::naive;
    use super::*;
    use crate::kit::rng::{key, normal};

    fn points(n: usize, p: usize, seed: u64) -> Matrix {
        Matrix::from_vec(n, p, (0..n * p).map(|i| normal(key(seed, &[i as u64])) as f32).collect())
    }

    fn check(queries: &Matrix, points: &Matrix, k: usize, own: bool) {
        let neighbours = |i| naive::neighbours(queries.row(i), points, k, own.then_some(i));
        let expected: Vec<(f64, u32)> = (0..queries.rows()).flat_map(neighbours).collect();
        for &level in Level::all() {
            let got = search(queries, points, k, own, level);
            let found: Vec<(f64, u32)> = got.distance.into_iter().zip(got.index).collect();
            assert_eq!(found.len(), expected.len());
            for (place, (found, expected)) in found.iter().zip(&expected).enumerate() {
                assert_eq!(found, expected, "row {}, place {}, {level:?}", place / k, place % k);
            }
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
        for p in [2, 33] {
            let of = (0..600 * p as u64).map(|i| (key(1, &[i]) % 9) as f32).collect();
            let grid = Matrix::from_vec(600, p, of);
            check(&grid, &grid, 12, true);
        }
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
    fn screens_and_cells() {
        // Modes far apart in a few coordinates, one of them of very different size: most tiles are screened.
        let (n, p) = (3000, 40);
        let mut modes = points(n, p, 6);
        for (i, row) in modes.as_mut_slice().chunks_mut(p).enumerate() {
            let mode = key(9, &[i as u64]) % 7;
            row.iter_mut().for_each(|x| *x = *x * if mode == 3 { 8.0 } else { 1.0 } + 100.0);
            row.iter_mut().skip(p - 5).for_each(|x| *x += 20.0 * mode as f32);
        }
        check(&modes, &modes, 30, true);
        check(&points(50, p, 2), &modes, 30, false);
        // One mode: the screen lets all through and is given up.
        let one = points(n, p, 6);
        check(&one, &one, 30, true);
        // Huge coordinates among those that are not looked at: no bound.
        let mut huge = points(600, p, 3);
        huge.as_mut_slice().iter_mut().step_by(p + 3).for_each(|x| *x *= 1e25);
        check(&huge, &huge, 9, true);
    }

    #[test]
    fn sorted_by_all_bits() {
        // Distances whose upper bits are alike, and equal ones.
        let numbers =
            |n: u64| (0..n).map(|i| ((1.0f64).to_bits() + key(1, &[i]) % 40, (key(2, &[i]) % 97) as u32));
        let mut found = Found { all: numbers(300).collect(), ..Found::default() };
        let mut expected = found.all.clone();
        expected.sort_unstable();
        found.sort();
        assert_eq!(found.sorted, expected);
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
