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
//! **In words.** Where the machine multiplies 16-bit integers faster than `f32` (twice as fast with AVX-512 VNNI, 1.4 times
//! with AVX2), longer rows and more than a few points are rounded to such integers (the points by one scale, a row by its
//! own), and their products are exact, of words or, in [`tiles`], of their bytes. With `r` at least the length of what a row
//! loses by that, `s` that of any point, a score is within `2 (r C + (X + r) s)` (Cauchy & Schwarz) and a few roundings,
//! `8 u (C^2 + 2 (X + r)(C + s))`, of the exact one. Both lengths are measured, not assumed.
//!
//! Let `e` be the sum. A point can be canonically nearest only if its score is at most the smallest plus `2 e`; it can be
//! among the `k` nearest only if its score is at most the `k`-th smallest plus `2 e`. A [`Screen`]'s bound exceeds the
//! exact score by less than its own `2 e`, one `e` for its chain and the other for its last coordinate, which is rounded up
//! by at most 2^-22: more than six `u C^2` are left of it. If `C^2 + 2 X C` comes near the
//! largest `f32` there is no bound, and the row is settled without scores.
#![allow(unsafe_code)]

use rayon::prelude::*;

use super::eigen;
use super::simd::{Aligned, Level, PANEL, Vector, WordTile};
use super::tiles;
use crate::kit::matrix::Matrix;

const UNIT: f64 = 1.0 / (1u64 << 24) as f64;

/// From so many coordinates and points on scores are computed in words.
const WORDS_FROM: (usize, usize) = (32, 64);
/// And from so many on in tiles, where the machine has them: a search among fewer is mostly something else.
const TILES_FROM: (usize, usize) = (128, 128);
/// Panels that are packed by one thread.
const TOGETHER: usize = 16;
/// A row is asked for so many rows ahead.
const SOON: usize = 8;
/// Scaled rows and points are at most so long: every product of two is below 2^31.
const WORD: f64 = 32766.0;

/// Points prepared for ranking.
#[derive(Clone, Debug)]
pub(super) struct Panels {
    points: usize,
    frame: Frame,
    data: Data,
}

/// What all points of one search, and its rows, have in common.
#[derive(Clone, Debug)]
struct Frame {
    /// The move: zeros, or the mean of the points.
    shift: Vec<f32>,
    moved: bool,
    /// At least the length of the longest point, after the move.
    longest: f64,
    /// Rows this long have no bound: their scores might overflow.
    reach: f64,
    words: bool,
    /// What searches run at; the layout of words depends on it.
    level: Level,
}

#[derive(Clone, Debug)]
enum Data {
    /// Panel after panel: a line of `|c|^2` (infinity where there is no point), then `p` lines of `-2 c`.
    Singles(Aligned<f32>),
    /// Panel after panel of two coordinates of each point side by side, times the scale, or in tiles; `|c|^2` of all (infinity
    /// where there is no point); and at least the length of what any point lost.
    Words { pairs: Aligned<i16>, squares: Aligned<f32>, scale: f32, lost: f64 },
}

impl Frame {
    /// `longest`: at least the length of the longest point, after the move.
    fn new(longest: f64, shift: Vec<f32>, moved: bool, words: bool, level: Level) -> Self {
        // From C^2 + 2 X C < f32::MAX / 4; not a number, and so never, if C is infinite.
        let reach = (0.25 * f64::from(f32::MAX) - longest * longest) / (2.0 * longest);
        Frame { shift, moved, longest, reach, words, level }
    }
}

impl Panels {
    /// Packs the points for searches at this level, moved if that makes them much shorter. O(n p), in parallel.
    pub(super) fn new(level: Level, points: &Matrix) -> Self {
        Panels::ordered(level, points, |place| place)
    }

    /// Whether tiles are worth it for so many points of so many coordinates.
    pub(super) fn in_tiles(points: &Matrix) -> bool {
        points.cols() >= TILES_FROM.0 && points.rows() >= TILES_FROM.1
    }

    /// [`Panels::new`] of the points in another order: `at` says which point comes at a place.
    pub(super) fn ordered(level: Level, points: &Matrix, at: impl Fn(usize) -> usize + Sync) -> Self {
        let zeros = vec![0.0; points.cols()];
        let mean: Vec<f32> = eigen::mean(points).into_iter().map(|mean| mean as f32).collect();
        let words = level.words() && points.cols() >= WORDS_FROM.0 && points.rows() >= WORDS_FROM.1;
        let level = if words && Panels::in_tiles(points) { level } else { level.vectors() };
        // In words shorter is sharper, so nearly any gain counts.
        let much = if words { 0.9 } else { 0.5 };
        let (about_mean, about_origin) = (largest(points, &mean), largest(points, &zeros));
        let frame = if about_mean < much * about_origin {
            Frame::new(about_mean, mean, true, words, level)
        } else {
            Frame::new(about_origin, zeros, false, words, level)
        };
        Panels::pack(points.rows(), |place| points.row(at(place)), frame)
    }

    /// Some of the same points: their scores can be compared with those of all, and take the same [`Rows`].
    pub(super) fn sample(&self, points: &Matrix) -> Self {
        Panels::pack(points.rows(), |i| points.row(i), self.frame.clone())
    }

    fn pack<'a>(count: usize, point: impl Fn(usize) -> &'a [f32] + Sync, frame: Frame) -> Self {
        let data = if frame.words { words(count, point, &frame) } else { singles(count, point, &frame) };
        Panels { points: count, frame, data }
    }

    pub(super) fn points(&self) -> usize {
        self.points
    }

    /// What searches run at.
    pub(super) fn level(&self) -> Level {
        self.frame.level
    }

    fn p(&self) -> usize {
        self.frame.shift.len()
    }

    /// Number of panels of 32 points.
    pub(super) fn len(&self) -> usize {
        self.points.div_ceil(PANEL)
    }

    /// Bytes of one panel.
    pub(super) fn panel_bytes(&self) -> usize {
        match self.data {
            Data::Singles(_) => (self.p() + 1) * PANEL * 4,
            Data::Words { .. } => words_of_panel(&self.frame) * 2 + PANEL * 4,
        }
    }

    /// Twice the bound `e` of the module doc for a row with `|x| <= reach` that loses at most `lost` in words; `None` if there
    /// is none.
    #[inline(always)]
    fn slack(&self, reach: f64, lost: f64) -> Option<f64> {
        let Frame { moved, longest: c, reach: most, .. } = self.frame;
        let p = self.p() as f64;
        let scores = match self.data {
            Data::Singles(_) => {
                let n = (p + 4.0) * UNIT;
                n / (1.0 - n) * (c * c + 2.0 * reach * c)
            }
            Data::Words { lost: s, .. } => {
                2.0 * (lost * c + (reach + lost) * s) + 8.0 * UNIT * (c * c + 2.0 * (reach + lost) * (c + s))
            }
        };
        let square = (p / 8.0 + 16.0) * 0.5 * f64::EPSILON + if moved { 2.001 * UNIT } else { 0.0 };
        let tiny = (4.0 * p + 8.0) * 2f64.powi(-149);
        // A millionth more than needed: the bound is computed in f64 too.
        (reach < most).then_some(2.000_001 * (scores + square * (reach + c) * (reach + c) + tiny))
    }
}

fn singles<'a>(count: usize, point: impl Fn(usize) -> &'a [f32] + Sync, frame: &Frame) -> Data {
    let lines = (frame.shift.len() + 1) * PANEL;
    let mut data = Aligned::zeros(count.div_ceil(PANEL) * lines);
    data.slice_mut().par_chunks_exact_mut(lines).with_min_len(TOGETHER).enumerate().for_each(|(i, panel)| {
        panel[..PANEL].fill(f32::INFINITY);
        for (j, place) in (i * PANEL..count.min((i + 1) * PANEL)).enumerate() {
            let mut square = 0.0;
            for (t, (&c, &s)) in point(place).iter().zip(&frame.shift).enumerate() {
                let c = c - s;
                panel[(t + 1) * PANEL + j] = -2.0 * c;
                square += f64::from(c) * f64::from(c);
            }
            panel[j] = square as f32;
        }
    });
    Data::Singles(data)
}

/// Words of a panel of points.
fn words_of_panel(frame: &Frame) -> usize {
    PANEL * frame.shift.len().next_multiple_of(if frame.level.tiles() { tiles::STEP } else { 2 })
}

fn words<'a>(count: usize, point: impl Fn(usize) -> &'a [f32] + Sync, frame: &Frame) -> Data {
    const ROUND: f64 = (3u64 << 51) as f64;
    let (lines, in_tiles) = (words_of_panel(frame), frame.level.tiles());
    let panels = count.div_ceil(PANEL);
    let (mut pairs, mut squares) = (Aligned::<i16>::zeros(panels * lines), Aligned::zeros(panels * PANEL));
    let scale = word_scale(frame.longest);
    let steps = lines / PANEL / tiles::STEP;
    let pack = |(i, (panel, squares)): (usize, (&mut [u8], &mut [f32]))| {
        squares.fill(f32::INFINITY);
        let mut lost = 0.0f64;
        for (j, place) in (i * PANEL..count.min((i + 1) * PANEL)).enumerate() {
            let (mut square, mut rest) = (0.0, 0.0);
            for (t, (&c, &s)) in point(place).iter().zip(&frame.shift).enumerate() {
                let c = f64::from(c - s);
                let scaled = c * f64::from(scale);
                // The nearest integer: a call for each would take longer than all else.
                let word = scaled + ROUND - ROUND;
                let [lower, upper] = (word as i16).to_le_bytes();
                let [at_upper, at_lower] = if in_tiles {
                    tiles::point(steps, t, j)
                } else {
                    let at = 2 * (t / 2 * 2 * PANEL + j * 2 + t % 2);
                    [at + 1, at]
                };
                (panel[at_upper], panel[at_lower]) = (upper, lower);
                square += c * c;
                rest += (scaled - word).powi(2);
            }
            squares[j] = square as f32;
            lost = lost.max(rest.sqrt());
        }
        lost
    };
    let parts = pairs.bytes_mut().par_chunks_exact_mut(2 * lines).with_min_len(TOGETHER);
    let parts = parts.zip(squares.slice_mut().par_chunks_exact_mut(PANEL)).enumerate();
    let lost = parts.map(pack).collect::<Vec<_>>().into_iter().fold(0.0, f64::max);
    // The product of a coordinate and the scale is rounded in f64.
    let lost = lost * (1.0 + 1e-9) / f64::from(scale) + frame.longest * 2f64.powi(-50);
    Data::Words { pairs, squares, scale, lost }
}

/// Sums of the squares of every column: of blocks of rows, added in their order.
fn column_squares(points: &Matrix) -> Vec<f64> {
    let add = |mut sums: Vec<f64>, more: Vec<f64>| {
        sums.iter_mut().zip(more).for_each(|(sum, x)| *sum += x);
        sums
    };
    let zeros = || vec![0.0; points.cols()];
    let of_block = |rows: &[f32]| {
        rows.chunks_exact(points.cols()).fold(zeros(), |mut sums, row| {
            sums.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x) * f64::from(x));
            sums
        })
    };
    let blocks = points.as_slice().par_chunks((TOGETHER * PANEL * points.cols()).max(1));
    blocks.map(of_block).collect::<Vec<_>>().into_iter().fold(zeros(), add)
}

/// Makes something of this length as long as words allow; within bounds, so that no product of two scales overflows. Short
/// ones then lose much of their length, which is measured, and longer ones have no bound.
fn word_scale(length: f64) -> f32 {
    (WORD / length).clamp(2f64.powi(-60), 2f64.powi(60)) as f32
}

/// At least the length of the longest point, after the move.
fn largest(points: &Matrix, shift: &[f32]) -> f64 {
    let square = |c: &[f32]| c.iter().zip(shift).map(|(c, s)| f64::from(c - s).powi(2)).sum();
    let longest = |rows: &[f32]| rows.chunks_exact(points.cols()).map(square).fold(0.0, f64::max);
    let blocks = points.as_slice().par_chunks((TOGETHER * PANEL * points.cols()).max(1));
    blocks.map(longest).collect::<Vec<_>>().into_iter().fold(0.0, f64::max).sqrt() * (1.0 + 1e-9)
}

/// Rows prepared for ranking: whole tiles of them, moved, and far enough from each other in the cache. Where rows are so
/// already they are read from where they lie, else from a copy, filled up with zeros.
pub(super) struct Rows<'a> {
    stride: usize,
    data: Aligned<f32>,
    lying: Option<&'a [f32]>,
    words: Aligned<i16>,
    /// What the products of words are worth.
    weight: Vec<f32>,
    /// [`Panels::slack`] of every row.
    pub(super) slack: Vec<Option<f64>>,
}

impl<'a> Rows<'a> {
    /// Room for `count` rows.
    pub(super) fn new<V: Vector>(panels: &Panels, count: usize) -> Self {
        let (p, count) = (panels.p(), count.next_multiple_of(V::ROWS));
        let (stride, singles, words) = if panels.frame.words {
            let whole = p.next_multiple_of(V::BLOCK);
            (whole, whole, count * whole)
        } else {
            // Rows 4 KiB apart, or a small part of that, would share a few cache sets.
            let stride = if p.is_multiple_of(256) { p + 16 } else { p };
            (stride, count * stride, 0)
        };
        Rows {
            stride,
            data: Aligned::zeros(singles),
            lying: None,
            words: Aligned::zeros(words),
            weight: vec![0.0; count],
            slack: Vec::with_capacity(count),
        }
    }

    /// Takes the next rows; at most as many as there is room for. O(rows p).
    #[inline(always)]
    pub(super) fn fill<V: Vector>(&mut self, panels: &Panels, rows: &'a [f32]) {
        self.slack.clear();
        let (p, shifts) = (panels.p(), panels.frame.shift.as_slice());
        if let Data::Words { scale: of_points, .. } = panels.data {
            // A tile is blocks of its rows in turn.
            let (words, whole) = (self.words.slice_mut(), self.stride);
            assert!(V::WORDS && rows.len() / p <= self.weight.len());
            for (i, (row, weight)) in rows.chunks_exact(p).zip(&mut self.weight).enumerate() {
                let moved = &mut self.data.slice_mut()[..whole];
                let (tile, place) = (i / V::ROWS, i % V::ROWS);
                let words = &mut words[tile * V::ROWS * whole..][..V::ROWS * whole];
                let reach = length(shift::<V>(row, shifts, moved), p);
                let scale = word_scale(reach);
                *weight = (-2.0 / (f64::from(scale) * f64::from(of_points))) as f32;
                // What rounding leaves is exact; scaling before it is one rounding of every coordinate.
                // SAFETY: there are so many numbers, zeros after the row's own, and a tile of as many for each row.
                let rest = unsafe { V::to_words(moved.as_ptr(), whole, scale, words.as_mut_ptr(), place) };
                let lost = length(rest, p) / f64::from(scale) + 1.01 * UNIT * reach;
                let fits = reach * f64::from(scale) <= WORD * (1.0 + 4.0 * UNIT);
                self.slack.push(panels.slack(reach, lost).filter(|_| fits));
            }
            return;
        }
        let stays = !panels.frame.moved && self.stride == p && rows.len().is_multiple_of(V::ROWS * p);
        self.lying = stays.then_some(rows);
        let mut copies = self.data.slice_mut().chunks_exact_mut(self.stride);
        for row in rows.chunks_exact(p) {
            let square = if stays {
                square::<V>(row)
            } else {
                shift::<V>(row, shifts, &mut copies.next().expect("there is room")[..p])
            };
            self.slack.push(panels.slack(length(square, p), 0.0));
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
        let p = panels.p();
        assert!(panel < panels.len() && PANEL <= stride && (V::ROWS - 1) * stride + PANEL <= out.len());
        assert!(p <= self.stride && first + V::ROWS <= self.weight.len());
        let out = out.as_mut_ptr();
        match &panels.data {
            Data::Singles(data) => {
                let lines = (p + 1) * PANEL;
                let x = self.lying.unwrap_or(self.data.slice());
                assert!((first + V::ROWS) * self.stride <= x.len());
                let (x, data) = (x.as_ptr(), data.slice().as_ptr());
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
            Data::Words { pairs, squares, .. } => {
                let pairs_of_row = p.div_ceil(2);
                assert!(V::WORDS && (V::BLOCK == tiles::STEP) == panels.level().tiles());
                assert!(2 * pairs_of_row <= self.stride && first.is_multiple_of(V::ROWS));
                assert!((first + V::ROWS) * self.stride <= self.words.slice().len());
                for part in (0..PANEL).step_by(2 * V::LANES) {
                    // SAFETY: the panel exists, and by the assertions a tile's rows of words, weights and out do; a row has
                    // zeros up to a whole block.
                    unsafe {
                        let of = WordTile {
                            x: self.words.slice().as_ptr().add(first * self.stride),
                            pairs: pairs_of_row,
                            panel: pairs
                                .slice()
                                .as_ptr()
                                .add(panel * words_of_panel(&panels.frame) + 2 * part),
                            square: squares.slice().as_ptr().add(panel * PANEL + part),
                            weight: self.weight.as_ptr().add(first),
                        };
                        V::words(&of, out.add(part), stride);
                    }
                }
            }
        }
    }
}

/// At least the length whose square was summed up in `f32`: at most p + 4 roundings, and squares that underflow to nothing.
#[inline(always)]
fn length(square: f32, p: usize) -> f64 {
    f64::from(square).sqrt() * (1.0 + 2.0 * (p as f64 + 8.0) * UNIT) + (p as f64).sqrt() * 2f64.powi(-70)
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

    /// Of the points of `panels`, in the same order. O(n p), in parallel.
    pub(super) fn new(panels: &Panels, points: &Matrix, at: impl Fn(usize) -> usize + Sync) -> Option<Self> {
        let (p, n) = (panels.p(), points.rows());
        if p < Screen::FROM {
            return None;
        }
        let (mean, square) = (eigen::mean(points), column_squares(points));
        let variance = |t: &usize| square[*t] - n as f64 * mean[*t] * mean[*t];
        let mut columns: Vec<usize> = (0..p).collect();
        columns.sort_by(|a, b| variance(b).total_cmp(&variance(a)));
        let others = columns.split_off((p / Screen::SHARE).min(Screen::MOST));
        let width = columns.len() + 1;
        let columns = [columns, others];
        let shift = panels.frame.shift.clone();
        let some = |first: usize| {
            let places = first..n.min(first + TOGETHER * PANEL);
            reduced(&columns, &shift, places.map(|place| points.row(at(place))))
        };
        let firsts: Vec<usize> = (0..n).step_by(TOGETHER * PANEL).collect();
        let all: Vec<Vec<f32>> = firsts.into_par_iter().map(some).collect();
        let all = Matrix::from_vec(n, width, all.concat());
        let zeros = vec![0.0; width];
        let frame = Frame::new(largest(&all, &zeros), zeros, false, false, panels.level());
        let panels = Panels::pack(n, |i| all.row(i), frame);
        Some(Screen { columns, shift, panels })
    }

    /// The coordinates of rows that are looked at, after the move, and at least the length of the others.
    pub(super) fn reduced<'a>(&self, rows: impl Iterator<Item = &'a [f32]>) -> Vec<f32> {
        reduced(&self.columns, &self.shift, rows)
    }
}

/// [`Screen::reduced`].
fn reduced<'a>(
    [columns, others]: &[Vec<usize>; 2],
    shift: &[f32],
    rows: impl Iterator<Item = &'a [f32]>,
) -> Vec<f32> {
    let mut out = Vec::new();
    for row in rows {
        let moved = |&t: &usize| row[t] - shift[t];
        out.extend(columns.iter().map(moved));
        let length = others.iter().map(|t| f64::from(moved(t)).powi(2)).sum::<f64>().sqrt();
        out.push(((length * (1.0 + 1e-9)) as f32).next_up());
    }
    out
}

/// Sum of squares, in lanes.
#[inline(always)]
fn square<V: Vector>(row: &[f32]) -> f32 {
    let mut sums = V::splat(0.0);
    let parts = row.chunks_exact(V::LANES);
    let tail: f32 = parts.remainder().iter().map(|x| x * x).sum();
    for part in parts {
        // SAFETY: a part is a vector.
        let x = unsafe { V::load(part.as_ptr()) };
        sums = sums.add_product(x, x);
    }
    sums.total() + tail
}

/// `to = row - shift`; its sum of squares, in lanes.
#[inline(always)]
fn shift<V: Vector>(row: &[f32], shift: &[f32], to: &mut [f32]) -> f32 {
    assert!(row.len() == shift.len() && row.len() <= to.len());
    let whole = row.len() / V::LANES * V::LANES;
    let (mut sums, minus) = (V::splat(0.0), V::splat(-1.0));
    for t in (0..whole).step_by(V::LANES) {
        // SAFETY: a vector from t on lies inside all three.
        unsafe {
            let x = V::load(row.as_ptr().add(t)).add_product(V::load(shift.as_ptr().add(t)), minus);
            x.store(to.as_mut_ptr().add(t));
            sums = sums.add_product(x, x);
            // Where there are few points, waiting for rows is half the time.
            V::prefetch(row.as_ptr().wrapping_add(SOON * row.len() + t));
        }
    }
    let mut tail = 0.0;
    for t in whole..row.len() {
        to[t] = row[t] - shift[t];
        tail += to[t] * to[t];
    }
    sums.total() + tail
}

/// The smallest of a whole number of vectors, lane by lane.
#[inline(always)]
fn least<V: Vector>(scores: &[f32]) -> V {
    let mut least = V::splat(f32::INFINITY);
    for part in scores.chunks_exact(V::LANES) {
        // SAFETY: a part has as many numbers as a vector.
        least = least.min(unsafe { V::load(part.as_ptr()) });
    }
    least
}

/// Smallest of a whole number of vectors.
#[inline(always)]
pub(super) fn minimum<V: Vector>(scores: &[f32]) -> f32 {
    least::<V>(scores).lowest()
}

/// Whether a score, of a whole number of vectors, is at most the limit.
#[inline(always)]
pub(super) fn any_at_most<V: Vector>(scores: &[f32], limit: f32) -> bool {
    least::<V>(scores).at_most(V::splat(limit)) != 0
}

/// Calls `found` with the place of every score `<= limit`, in order. No score may be NaN.
#[inline(always)]
pub(super) fn at_most<V: Vector>(scores: &[f32], limit: f32, mut found: impl FnMut(usize)) {
    let bound = V::splat(limit);
    // Few scores pass: four vectors are asked at once.
    for (i, four) in scores.chunks(4 * V::LANES).enumerate() {
        if !any_at_most::<V>(four, limit) {
            continue;
        }
        for (t, part) in four.chunks_exact(V::LANES).enumerate() {
            // SAFETY: a part has as many numbers as a vector.
            let mut bits = unsafe { V::load(part.as_ptr()) }.at_most(bound);
            while bits != 0 {
                found((4 * i + t) * V::LANES + bits.trailing_zeros() as usize);
                bits &= bits - 1;
            }
        }
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

    /// Leaves out places that are not below `end`, and `other`. The places must be ascending.
    pub(super) fn leave_out(&mut self, end: u32, other: u32) {
        debug_assert!(self.places().is_sorted());
        self.len = self.places().partition_point(|&place| place < end);
        if let Ok(at) = self.places().binary_search(&other) {
            self.score.copy_within(at + 1..self.len, at);
            self.place.copy_within(at + 1..self.len, at);
            self.len -= 1;
        }
    }

    /// Leaves out scores above the limit. Without a branch, as above.
    #[inline(always)]
    pub(super) fn cut(&mut self, limit: f32) {
        let (scores, places) = (&mut self.score[..self.len], &mut self.place[..self.len]);
        let mut kept = 0;
        for i in 0..scores.len() {
            let (score, place) = (scores[i], places[i]);
            (scores[kept], places[kept]) = (score, place);
            kept += usize::from(score <= limit);
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

#[cfg(test)]
mod tests {
    use super::super::simd::{Kernel, run_tiled_at};
    use super::*;
    use crate::kit::rng::{key, normal};

    struct Scores<'a>(&'a Panels, &'a [f32]);

    impl Kernel for Scores<'_> {
        type Output = Vec<u32>;

        #[inline(always)]
        fn run<V: Vector>(self) -> Vec<u32> {
            let Scores(panels, rows) = self;
            let (count, width) = (rows.len() / panels.p(), panels.len() * PANEL);
            let mut prepared = Rows::new::<V>(panels, count);
            let mut scores = Aligned::zeros(count.next_multiple_of(V::ROWS) * width);
            prepared.fill::<V>(panels, rows);
            prepared.scores::<V>(panels, 0..panels.len(), scores.slice_mut(), width);
            scores.slice()[..count * width].iter().map(|x| x.to_bits()).collect()
        }
    }

    #[test]
    fn scores_in_tiles_are_those_in_words() {
        let levels = Level::tested();
        if !levels[0].tiles() {
            return; // without AVX-512 there is nothing that tiles could be emulated beside
        }
        for (n, p, k) in [(16, 128, 128), (37, 200, 300), (5, 384, 140)] {
            let numbers = |n, seed| (0..n * p).map(move |i| normal(key(seed, &[i as u64])) as f32 + 0.5);
            let points = |n, seed| Matrix::from_vec(n, p, numbers(n, seed).collect());
            let (rows, points) = (points(n, 1), points(k, 2));
            let [tiles, words] = [levels[0], levels[0].vectors()].map(|level| {
                let panels = Panels::new(level, &points);
                assert_eq!(panels.level(), level);
                run_tiled_at(level, Scores(&panels, rows.as_slice()))
            });
            assert_eq!(tiles, words, "{n} rows, {p} coordinates, {k} points");
        }
        let few = Panels::new(levels[0], &Matrix::zeros(127, 128));
        assert!(!few.level().tiles(), "not worth it");
    }
}
