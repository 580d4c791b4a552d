//! Scores that rank points by distance, in `f32`, with a proven error bound.
//!
//! The score of point `c` for row `x` is `|c|^2 - 2 x.c`, the squared distance without `|x|^2`. [`Panels`] holds the
//! points 32 at a time, transposed and times -2, each panel led by its `|c|^2`, so that a score is one chain of `p`
//! multiply-adds. Both sides are first moved by the points' mean if they lie far from the origin, which keeps the scores
//! small and the bound sharp.
//!
//! **The bound.** With `u = 2^-24`, `X >= |x|` and `C >= |c|` for every point, after the move:
//! - `|c|^2` is rounded once and passes `p` additions, a product one more rounding than those after it: the computed
//!   score is within `g(p + 4) (C^2 + 2 X C)` of the exact one, `g(n) = n u / (1 - n u)` (Higham 2002, section 3.1),
//!   plus `(4 p + 8) 2^-149` for underflow.
//! - The move rounds every coordinate by at most `u`, so a distance changes by at most `u (X + C)` and its square by
//!   `2 u (X + C)^2`.
//! - The canonical `f64` distance (and its square root) is within `(p / 8 + 16) 2^-53 (X + C)^2` of the exact one.
//!
//! Let `e` be the sum. A point can be canonically nearest only if its score is at most the smallest plus `2 e`; it can be
//! among the `k` nearest only if its score is at most the `k`-th smallest plus `2 e`. A [`Screen`]'s bound has fewer
//! coordinates, its last one up to 2^-22 too large, so it is within `e` of a number that is at most the exact score. If `C^2 + 2 X C` comes near the
//! largest `f32` there is no bound, and the row is settled without scores.
#![allow(unsafe_code)]

use super::simd::{Aligned, PANEL, Vector};
use crate::matrix::Matrix;

const UNIT: f64 = 1.0 / (1u64 << 24) as f64;

/// Points prepared for ranking.
#[derive(Clone, Debug)]
pub(super) struct Panels {
    points: usize,
    p: usize,
    /// The move: zeros, or the mean of the points.
    shift: Vec<f32>,
    moved: bool,
    /// Twice the error bound of a row, as a polynomial of its length.
    slack: [f64; 3],
    /// Rows this long have no bound: their scores might overflow.
    reach: f64,
    /// Panel after panel: a line of `|c|^2` (infinity where there is no point), then `p` lines of `-2 c`.
    data: Aligned<f32>,
}

impl Panels {
    /// Packs the points, moved if that makes them much shorter. O(n p).
    pub(super) fn new(points: &Matrix) -> Self {
        Panels::ordered(points, 0..points.rows())
    }

    /// [`Panels::new`] of the points in another order.
    pub(super) fn ordered(points: &Matrix, order: impl ExactSizeIterator<Item = usize>) -> Self {
        let zeros = vec![0.0; points.cols()];
        let mut mean = vec![0.0f64; points.cols()];
        for point in points.iter_rows() {
            mean.iter_mut().zip(point).for_each(|(m, &x)| *m += f64::from(x));
        }
        let mean: Vec<f32> = mean.iter().map(|m| (m / points.rows().max(1) as f64) as f32).collect();
        let moved = largest(points, &mean) < 0.5 * largest(points, &zeros);
        let shift = if moved { mean } else { zeros };
        Panels::pack(order.map(|i| points.row(i)), largest(points, &shift), shift, moved)
    }

    /// Some of the same points: their scores can be compared with those of all, and take the same [`Rows`].
    pub(super) fn sample(&self, points: &Matrix) -> Self {
        Panels::pack(points.iter_rows(), largest(points, &self.shift), self.shift.clone(), self.moved)
    }

    /// `c`: [`largest`] of the points.
    fn pack<'a>(
        points: impl ExactSizeIterator<Item = &'a [f32]>,
        c: f64,
        shift: Vec<f32>,
        moved: bool,
    ) -> Self {
        let (n, p) = (points.len(), shift.len());
        let lines = (p + 1) * PANEL;
        let mut data = Aligned::zeros(n.div_ceil(PANEL) * lines);
        let panels = data.slice_mut();
        panels.chunks_exact_mut(lines).for_each(|panel| panel[..PANEL].fill(f32::INFINITY));
        for (j, point) in points.enumerate() {
            let panel = &mut panels[j / PANEL * lines + j % PANEL..];
            let mut square = 0.0;
            for (t, (&c, &s)) in point.iter().zip(&shift).enumerate() {
                let c = c - s;
                panel[(t + 1) * PANEL] = -2.0 * c;
                square += f64::from(c) * f64::from(c);
            }
            panel[0] = square as f32;
        }
        // From C^2 + 2 X C < f32::MAX / 4; not a number, and so never, if C is infinite.
        let reach = (0.25 * f64::from(f32::MAX) - c * c) / (2.0 * c);
        Panels { points: n, p, slack: slack(p, c, moved), reach, shift, moved, data }
    }

    pub(super) fn points(&self) -> usize {
        self.points
    }

    /// Number of panels of 32 points.
    pub(super) fn len(&self) -> usize {
        self.points.div_ceil(PANEL)
    }

    /// Bytes of one panel.
    pub(super) fn panel_bytes(&self) -> usize {
        (self.p + 1) * PANEL * 4
    }

    /// Twice the bound `e` of the module doc for a row with `|x| <= reach`; `None` if there is none.
    #[inline(always)]
    fn slack(&self, reach: f64) -> Option<f64> {
        let [a, b, c] = self.slack;
        (reach < self.reach).then_some(a + reach * (b + reach * c))
    }
}

/// `2 e` of the module doc as a polynomial of `X`, for the longest point `c`.
fn slack(p: usize, c: f64, moved: bool) -> [f64; 3] {
    let p = p as f64;
    let n = (p + 4.0) * UNIT;
    let chain = n / (1.0 - n);
    let square = (p / 8.0 + 16.0) * 0.5 * f64::EPSILON + if moved { 2.001 * UNIT } else { 0.0 };
    let tiny = (4.0 * p + 8.0) * 2f64.powi(-149);
    // A millionth more than needed: the bound is computed in f64 too.
    [(chain + square) * c * c + tiny, 2.0 * (chain + square) * c, square].map(|x| 2.000_001 * x)
}

/// At least the length of the longest point, after the move.
fn largest(points: &Matrix, shift: &[f32]) -> f64 {
    let square = |c: &[f32]| c.iter().zip(shift).map(|(c, s)| f64::from(c - s).powi(2)).sum();
    points.iter_rows().map(square).fold(0.0, f64::max).sqrt() * (1.0 + 1e-9)
}

/// Rows prepared for ranking: whole tiles of them, moved, and far enough from each other in the cache. Where rows are so
/// already they are read from where they lie, else from a copy, filled up with zeros.
pub(super) struct Rows<'a> {
    stride: usize,
    data: Aligned<f32>,
    lying: Option<&'a [f32]>,
    /// [`Panels::slack`] of every row.
    pub(super) slack: Vec<Option<f64>>,
}

impl<'a> Rows<'a> {
    /// Room for `count` rows.
    pub(super) fn new<V: Vector>(panels: &Panels, count: usize) -> Self {
        // Rows 4 KiB apart would share a few cache sets.
        let stride = if panels.p.is_multiple_of(256) { panels.p + 16 } else { panels.p };
        let data = Aligned::zeros(count.next_multiple_of(V::ROWS) * stride);
        Rows { stride, data, lying: None, slack: Vec::with_capacity(count) }
    }

    /// Takes the next rows; at most as many as there is room for.
    #[inline(always)]
    pub(super) fn fill<V: Vector>(&mut self, panels: &Panels, rows: &'a [f32]) {
        self.slack.clear();
        let p = panels.p;
        let stays = !panels.moved && self.stride == p && rows.len().is_multiple_of(V::ROWS * p);
        self.lying = stays.then_some(rows);
        let mut copies = self.data.slice_mut().chunks_exact_mut(self.stride);
        for row in rows.chunks_exact(p) {
            let square = if stays {
                square(row)
            } else {
                shift(row, &panels.shift, &mut copies.next().expect("there is room")[..p])
            };
            // At most p + 4 roundings of a sum of squares, and squares that underflow to nothing.
            let reach = f64::from(square).sqrt() * (1.0 + 2.0 * (p as f64 + 8.0) * UNIT)
                + (p as f64).sqrt() * 2f64.powi(-70);
            self.slack.push(panels.slack(reach));
        }
    }

    /// Scores of the rows for the panels `which`: row `i` of `out` starts at `i * stride` and has 32 numbers a panel.
    #[inline(always)]
    pub(super) fn scores<V: Vector>(
        &self,
        panels: &Panels,
        which: std::ops::Range<usize>,
        out: &mut [f32],
        stride: usize,
    ) {
        for (place, panel) in which.enumerate() {
            for first in (0..self.slack.len()).step_by(V::ROWS) {
                let out = &mut out[first * stride + place * PANEL..];
                // The rows of the next tile, once for every tile.
                if place == 0 {
                    self.tile::<V, true>(panels, panel, first, out, stride);
                } else {
                    self.tile::<V, false>(panels, panel, first, out, stride);
                }
            }
        }
    }

    /// Scores of the tile of rows that starts at `first` for one panel: 32 numbers a row, `stride` apart.
    #[inline(always)]
    pub(super) fn tile<V: Vector, const AHEAD: bool>(
        &self,
        panels: &Panels,
        panel: usize,
        first: usize,
        out: &mut [f32],
        stride: usize,
    ) {
        let p = panels.p;
        let lines = (p + 1) * PANEL;
        let x = self.lying.unwrap_or(self.data.slice());
        assert!(panel < panels.len() && PANEL <= stride && (V::ROWS - 1) * stride + PANEL <= out.len());
        assert!((first + V::ROWS) * self.stride <= x.len() && p <= self.stride);
        let (x, data, out) = (x.as_ptr(), panels.data.slice().as_ptr(), out.as_mut_ptr());
        for part in (0..PANEL).step_by(2 * V::LANES) {
            // SAFETY: by the assertions, a tile's rows of x and of out exist, and so does the panel.
            unsafe {
                let x = x.add(first * self.stride);
                let data = data.add(panel * lines + part);
                if AHEAD && part == 0 {
                    V::tile::<true>(x, self.stride, p, data, out.add(part), stride);
                } else {
                    V::tile::<false>(x, self.stride, p, data, out.add(part), stride);
                }
            }
        }
    }
}

/// A lower bound of scores from a few coordinates: the others of a row and of a point count as if they were parallel
/// (Cauchy & Schwarz), so each side needs only their length, which becomes one coordinate more. Where modes lie apart, most
/// points are seen to be far from a row in those coordinates in which the points vary most.
#[derive(Clone, Debug)]
pub(super) struct Screen {
    /// Coordinates that are looked at, and the others.
    columns: [Vec<usize>; 2],
    shift: Vec<f32>,
    pub(super) panels: Panels,
}

impl Screen {
    /// From so many coordinates on it is worth it.
    const FROM: usize = 32;
    /// Coordinates looked at: this share of them, and at most so many.
    const SHARE: usize = 4;
    const MOST: usize = 16;

    /// Of the points of `panels`, in the same order. O(n p).
    pub(super) fn new(
        panels: &Panels,
        points: &Matrix,
        order: impl ExactSizeIterator<Item = usize>,
    ) -> Option<Self> {
        if panels.p < Screen::FROM {
            return None;
        }
        let (mut sum, mut square) = (vec![0.0f64; panels.p], vec![0.0f64; panels.p]);
        for point in points.iter_rows() {
            for ((sum, square), &x) in sum.iter_mut().zip(&mut square).zip(point) {
                *sum += f64::from(x);
                *square += f64::from(x) * f64::from(x);
            }
        }
        let n = points.rows() as f64;
        let variance = |t: &usize| square[*t] - sum[*t] * sum[*t] / n;
        let mut columns: Vec<usize> = (0..panels.p).collect();
        columns.sort_by(|a, b| variance(b).total_cmp(&variance(a)));
        let others = columns.split_off((panels.p / Screen::SHARE).min(Screen::MOST));
        let width = columns.len() + 1;
        let mut screen =
            Screen { columns: [columns, others], shift: panels.shift.clone(), panels: panels.clone() };
        let reduced = Matrix::from_vec(n as usize, width, screen.reduced(order.map(|i| points.row(i))));
        let zeros = vec![0.0; width];
        screen.panels = Panels::pack(reduced.iter_rows(), largest(&reduced, &zeros), zeros, false);
        Some(screen)
    }

    /// The coordinates of rows that are looked at, after the move, and at least the length of the others.
    pub(super) fn reduced<'a>(&self, rows: impl Iterator<Item = &'a [f32]>) -> Vec<f32> {
        let [columns, others] = &self.columns;
        let mut out = Vec::new();
        for row in rows {
            let moved = |&t: &usize| row[t] - self.shift[t];
            out.extend(columns.iter().map(moved));
            let length = others.iter().map(|t| f64::from(moved(t)).powi(2)).sum::<f64>().sqrt();
            out.push((length * (1.0 + 1e-9)) as f32);
            let last = out.last_mut().expect("one was pushed");
            *last = last.next_up();
        }
        out
    }
}

/// Whether a score, of a whole number of vectors, is at most the limit.
#[inline(always)]
pub(super) fn any_at_most<V: Vector>(scores: &[f32], limit: f32) -> bool {
    let mut least = V::splat(f32::INFINITY);
    for part in scores.chunks_exact(V::LANES) {
        // SAFETY: a part has as many numbers as a vector.
        least = least.min(unsafe { V::load(part.as_ptr()) });
    }
    least.at_most(V::splat(limit)) != 0
}

/// Sum of squares, in lanes.
#[inline(always)]
fn square(row: &[f32]) -> f32 {
    let mut sums = [0.0f32; 16];
    let (row, tail) = row.as_chunks::<16>();
    for x in row {
        for i in 0..16 {
            sums[i] += x[i] * x[i];
        }
    }
    tail.iter().for_each(|x| sums[0] += x * x);
    sum(sums)
}

/// `to = row - shift`; its sum of squares, in lanes.
#[inline(always)]
fn shift(row: &[f32], shift: &[f32], to: &mut [f32]) -> f32 {
    let mut sums = [0.0f32; 16];
    let ((row, row_tail), (shift, shift_tail)) = (row.as_chunks::<16>(), shift.as_chunks::<16>());
    let (to, to_tail) = to.as_chunks_mut::<16>();
    for ((to, x), s) in to.iter_mut().zip(row).zip(shift) {
        for i in 0..16 {
            to[i] = x[i] - s[i];
            sums[i] += to[i] * to[i];
        }
    }
    for ((to, x), s) in to_tail.iter_mut().zip(row_tail).zip(shift_tail) {
        *to = x - s;
        sums[0] += *to * *to;
    }
    sum(sums)
}

/// Halves first: shorter than one after the other.
#[inline(always)]
fn sum(lanes: [f32; 16]) -> f32 {
    let eight: [f32; 8] = std::array::from_fn(|i| lanes[i] + lanes[i + 8]);
    let four: [f32; 4] = std::array::from_fn(|i| eight[i] + eight[i + 4]);
    (four[0] + four[2]) + (four[1] + four[3])
}

/// Smallest of a whole number of vectors.
#[inline(always)]
pub(super) fn minimum<V: Vector>(scores: &[f32]) -> f32 {
    let mut best = V::splat(f32::INFINITY);
    for part in scores.chunks_exact(V::LANES) {
        // SAFETY: a chunk has that many numbers.
        best = best.min(unsafe { V::load(part.as_ptr()) });
    }
    best.lowest()
}

/// Calls `found` with the place of every score `<= limit`, in order. No score may be NaN.
#[inline(always)]
pub(super) fn at_most<V: Vector>(scores: &[f32], limit: f32, mut found: impl FnMut(usize)) {
    let bound = V::splat(limit);
    let mut look = |first: usize, part: &[f32]| {
        // SAFETY: a part has as many numbers as a vector.
        let mut bits = unsafe { V::load(part.as_ptr()) }.at_most(bound);
        while bits != 0 {
            found(first + bits.trailing_zeros() as usize);
            bits &= bits - 1;
        }
    };
    // Few scores pass: four vectors are asked at once.
    let fours = scores.chunks_exact(4 * V::LANES);
    let rest = fours.remainder();
    for (i, four) in fours.enumerate() {
        // SAFETY: there are four vectors.
        let [a, b, c, d] = [0, 1, 2, 3].map(|t| unsafe { V::load(four.as_ptr().add(t * V::LANES)) });
        if a.min(b).min(c.min(d)).at_most(bound) != 0 {
            for (t, part) in four.chunks_exact(V::LANES).enumerate() {
                look((4 * i + t) * V::LANES, part);
            }
        }
    }
    let first = scores.len() - rest.len();
    for (t, part) in rest.chunks_exact(V::LANES).enumerate() {
        look(first + t * V::LANES, part);
    }
}

/// Scores that passed a threshold, and whose they are, ascending.
#[derive(Clone, Debug, Default)]
pub(super) struct Shortlist {
    score: Vec<f32>,
    place: Vec<u32>,
    len: usize,
}

impl Shortlist {
    pub(super) fn with_room(len: usize) -> Self {
        Shortlist { score: vec![0.0; len], place: vec![0; len], len: 0 }
    }

    pub(super) fn clear(&mut self) {
        self.len = 0;
    }

    pub(super) fn scores(&self) -> &[f32] {
        &self.score[..self.len]
    }

    pub(super) fn places(&self) -> &[u32] {
        &self.place[..self.len]
    }

    /// Appends the scores `<= limit`, which have the places `first ..`. Without a branch for each: nobody can guess which
    /// pass. There must be a whole number of vectors, and no NaN.
    #[inline(always)]
    pub(super) fn extend<V: Vector>(&mut self, scores: &[f32], limit: f32, first: u32) {
        let most = self.len + scores.len() + V::LANES;
        if most > self.score.len() {
            self.score.resize(2 * most, 0.0);
            self.place.resize(2 * most, 0);
        }
        let (bound, mut len, mut place) = (V::splat(limit), self.len, first);
        for part in scores.chunks_exact(V::LANES) {
            // SAFETY: a part is a vector; there is room for one more than all that are there.
            unsafe {
                let (score, places) = (self.score.as_mut_ptr().add(len), self.place.as_mut_ptr().add(len));
                len += V::load(part.as_ptr()).keep(bound, place, score, places);
            }
            place += V::LANES as u32;
        }
        self.len = len;
    }

    /// Leaves out places that are not below `end`, and `other`.
    #[inline(always)]
    pub(super) fn leave_out(&mut self, end: u32, other: u32) {
        self.retain(|_, place| place < end && place != other);
    }

    /// Leaves out scores above the limit.
    #[inline(always)]
    pub(super) fn cut(&mut self, limit: f32) {
        self.retain(|score, _| score <= limit);
    }

    /// Without a branch, as above.
    #[inline(always)]
    fn retain(&mut self, stays: impl Fn(f32, u32) -> bool) {
        let (scores, places) = (&mut self.score[..self.len], &mut self.place[..self.len]);
        let mut kept = 0;
        for i in 0..scores.len() {
            let (score, place) = (scores[i], places[i]);
            (scores[kept], places[kept]) = (score, place);
            kept += usize::from(stays(score, place));
        }
        self.len = kept;
    }
}

/// The smallest `f32` that is at least `score + slack`.
#[inline(always)]
pub(super) fn limit(score: f32, slack: f64) -> f32 {
    let exact = f64::from(score) + slack;
    let rounded = exact as f32;
    if f64::from(rounded) < exact { rounded.next_up() } else { rounded }
}
