//! Vectors of `f32` and the choice of the widest ones this machine has.
//!
//! A [`Kernel`] is written once over [`Vector`] and compiled for AVX-512 with and without VNNI and AMX, AVX2 and plain arrays;
//! [`dispatch`] runs the best one. Everything on the way is `#[inline(always)]`, so the whole job, its `f64` loops included, is
//! compiled with the wide registers. Rust never contracts `a * b + c`, so those loops give the same bits everywhere.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicU8, Ordering};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

static LIMIT: AtomicU8 = AtomicU8::new(Simd::Auto as u8);

/// The widest vectors that kernels may use, widest first. What the machine lacks is passed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Simd {
    /// All that the machine has, tiles (AMX) among them.
    #[default]
    Auto,
    Avx512Vnni,
    Avx512,
    Avx2,
    /// None: plain code.
    Off,
}

impl Simd {
    pub const ALL: [Simd; 5] = [Simd::Auto, Simd::Avx512Vnni, Simd::Avx512, Simd::Avx2, Simd::Off];

    pub fn name(self) -> &'static str {
        match self {
            Simd::Auto => "auto",
            Simd::Avx512Vnni => "avx512-vnni",
            Simd::Avx512 => "avx512",
            Simd::Avx2 => "avx2",
            Simd::Off => "off",
        }
    }
}

/// Limits the vectors of the whole process from now on. Answers do not change, only the time.
pub fn limit(simd: Simd) {
    LIMIT.store(simd as u8, Ordering::Relaxed);
}

/// The limit as it is now.
pub fn limited() -> Simd {
    let now = LIMIT.load(Ordering::Relaxed);
    Simd::ALL.into_iter().find(|simd| *simd as u8 == now).unwrap_or_default()
}

/// What the kernels run on: `avx512-amx`, `avx512-vnni`, `avx512`, `avx2` or `portable`.
pub fn description() -> &'static str {
    match Level::with_tiles().simd() {
        Simd::Auto => "avx512-amx",
        Simd::Off => "portable",
        width => width.name(),
    }
}

/// What a [`Kernel`] is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// As VNNI, and products of words in tiles ([`tiles`](super::tiles)): for searches among many long points.
    #[cfg(target_arch = "x86_64")]
    Amx,
    /// AVX-512 and its products of 16-bit numbers, summed up by the same instruction.
    #[cfg(target_arch = "x86_64")]
    Vnni,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Portable,
}

impl Level {
    /// The best that is allowed now, without tiles.
    pub(super) fn now() -> Level {
        let limit = LIMIT.load(Ordering::Relaxed);
        let allowed = |level: &Level| level.simd() as u8 >= limit;
        Level::all().iter().copied().find(allowed).unwrap_or(Level::Portable)
    }

    /// The best that is allowed now. The system is asked for tiles, and threads are larger from then on: only for who uses them.
    pub(super) fn with_tiles() -> Level {
        #[cfg(target_arch = "x86_64")]
        if LIMIT.load(Ordering::Relaxed) == Simd::Auto as u8
            && Level::now() == Level::Vnni
            && super::tiles::available()
        {
            return Level::Amx;
        }
        Level::now()
    }

    /// The limit that allows it.
    fn simd(self) -> Simd {
        match self {
            #[cfg(target_arch = "x86_64")]
            Level::Amx => Simd::Auto,
            #[cfg(target_arch = "x86_64")]
            Level::Vnni => Simd::Avx512Vnni,
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => Simd::Avx512,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => Simd::Avx2,
            Level::Portable => Simd::Off,
        }
    }

    /// Whether its vectors have [`Vector::words`].
    pub(super) fn words(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return matches!(self, Level::Amx | Level::Vnni | Level::Avx2);
        #[cfg(not(target_arch = "x86_64"))]
        false
    }

    /// Whether products of words are made in tiles.
    pub(super) fn tiles(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return self == Level::Amx;
        #[cfg(not(target_arch = "x86_64"))]
        false
    }

    /// The level for work that has no use for tiles.
    pub(super) fn vectors(self) -> Level {
        #[cfg(target_arch = "x86_64")]
        if self == Level::Amx {
            return Level::Vnni;
        }
        self
    }

    /// All that this machine can run but tiles, best first.
    pub(super) fn all() -> &'static [Level] {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("popcnt")
                && is_x86_feature_detected!("bmi1");
            let avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            let vnni = is_x86_feature_detected!("avx512vnni") && is_x86_feature_detected!("avx512bw");
            if avx2 && avx512 && vnni {
                return &[Level::Vnni, Level::Avx512, Level::Avx2, Level::Portable];
            }
            if avx2 && avx512 {
                return &[Level::Avx512, Level::Avx2, Level::Portable];
            }
            if avx2 {
                return &[Level::Avx2, Level::Portable];
            }
        }
        &[Level::Portable]
    }
}

#[cfg(test)]
impl Level {
    /// [`Level::all`], and before them tiles if it has these, or has all but these: they are then emulated.
    pub(super) fn tested() -> Vec<Level> {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        if Level::all()[0] == Level::Vnni && super::tiles::emulation::available() {
            return [&[Level::Amx], Level::all()].concat();
        }
        Level::all().to_vec()
    }
}

/// Work that can be compiled for any width. Implementations mark `run` with `#[inline(always)]`.
pub(super) trait Kernel {
    type Output;
    fn run<V: Vector>(self) -> Self::Output;
}

/// Runs the job on the best vectors that are allowed now.
pub(super) fn dispatch<J: Kernel>(job: J) -> J::Output {
    run_at(Level::now(), job)
}

/// As [`run_at`], and with tiles if the level has them: for jobs that multiply words.
pub(super) fn run_tiled_at<J: Kernel>(level: Level, job: J) -> J::Output {
    #[cfg(target_arch = "x86_64")]
    if level == Level::Amx {
        #[cfg(all(test, target_os = "linux"))]
        let available = super::tiles::emulation::available();
        #[cfg(not(all(test, target_os = "linux")))]
        let available = super::tiles::available();
        assert!(available && Level::all().contains(&Level::Vnni), "{level:?} on a machine without it");
        // SAFETY: this machine has the features, or has all but the tiles and these are emulated (just checked).
        return unsafe { x86::with_amx(job) };
    }
    run_at(level, job)
}

/// Runs the job at one of [`Level::all`].
pub(super) fn run_at<J: Kernel>(level: Level, job: J) -> J::Output {
    assert!(Level::all().contains(&level), "{level:?} on a machine without it");
    match level {
        #[cfg(target_arch = "x86_64")]
        Level::Amx => unreachable!("not one of them"),
        // SAFETY: this machine has the features (just checked).
        #[cfg(target_arch = "x86_64")]
        Level::Vnni => unsafe { x86::with_vnni(job) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { x86::with_avx512(job) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => unsafe { x86::with_avx2(job) },
        Level::Portable => job.run::<[f32; 8]>(),
    }
}

/// As [`dispatch`], for jobs whose multiply-adds must round once on every machine: their numbers are written.
#[cfg(feature = "encoder")]
pub(super) fn dispatch_fused<J: Kernel>(job: J) -> J::Output {
    run_fused_at(Level::now(), job)
}

/// As [`run_at`], with multiply-adds that round once.
#[cfg(feature = "encoder")]
pub(super) fn run_fused_at<J: Kernel>(level: Level, job: J) -> J::Output {
    if level == Level::Portable { job.run::<Fused>() } else { run_at(level, job) }
}

/// `LANES` numbers. The implementations are reached through [`run_at`] and [`run_tiled_at`] alone: that is what makes their
/// instructions safe to use.
pub(super) trait Vector: Copy {
    const LANES: usize;
    /// Rows of the register tile of `ranking.rs`; its width is two vectors.
    const ROWS: usize;
    /// Whether the machine has fused multiply-add (in software it would be slow).
    const FUSED: bool;
    /// Whether it has [`Vector::words`].
    const WORDS: bool = false;
    /// Words of a row that lie together in a tile of rows: a tile is then read from front to back, by offsets that are known.
    const BLOCK: usize = 16;
    /// Panels of so many bytes stay in a cache while tiles of rows pass them: in L2 where a tile has many rows, else in L1.
    const KEPT: usize = 32 << 10;
    fn splat(x: f32) -> Self;
    /// # Safety
    /// `from` can be read for `LANES` numbers.
    unsafe fn load(from: *const f32) -> Self;
    /// # Safety
    /// `to` can be written for `LANES` numbers.
    unsafe fn store(self, to: *mut f32);
    /// `self + x y`, rounded once or twice.
    fn add_product(self, x: Self, y: Self) -> Self;
    fn min(self, other: Self) -> Self;
    /// The sum, halves first.
    #[inline(always)]
    fn total(self) -> f32 {
        const { assert!(Self::LANES <= 16) };
        let mut all = [0.0f32; 16];
        // SAFETY: there are at least as many numbers.
        unsafe { self.store(all.as_mut_ptr()) };
        let eight: [f32; 8] = std::array::from_fn(|i| all[i] + all[i + 8]);
        let four: [f32; 4] = std::array::from_fn(|i| eight[i] + eight[i + 4]);
        (four[0] + four[2]) + (four[1] + four[3])
    }
    /// The smallest number.
    fn lowest(self) -> f32;
    /// [`total`] of each.
    #[inline(always)]
    fn totals(lanes: &[[f64; 8]; 8]) -> [f64; 8] {
        lanes.map(total)
    }
    /// Bit `i` says whether number `i` is at most that of `bound`.
    fn at_most(self, bound: Self) -> u32;
    /// Writes the numbers that are at most those of `bound`, and their places counted from `first`, one after another, and
    /// anything after them; returns how many there are.
    ///
    /// # Safety
    /// `numbers` and `places` can be written for `LANES` numbers.
    #[inline(always)]
    unsafe fn keep(self, bound: Self, first: u32, numbers: *mut f32, places: *mut u32) -> usize {
        let (mut kept, mut bits) = (0, self.at_most(bound));
        if bits != 0 {
            let mut lanes = [0.0; 16];
            const { assert!(Self::LANES <= 16) };
            // SAFETY: there are as many lanes, and no more than `LANES` bits.
            unsafe {
                self.store(lanes.as_mut_ptr());
                while bits != 0 {
                    let j = bits.trailing_zeros();
                    *numbers.add(kept) = lanes[j as usize];
                    *places.add(kept) = first + j;
                    kept += 1;
                    bits &= bits - 1;
                }
            }
        }
        kept
    }
    /// Writes those of `LANES` numbers that are above `last`, and their places, one after another, and anything after them;
    /// returns how many there are.
    ///
    /// # Safety
    /// All but `last` can be read or written for `LANES` numbers.
    #[inline(always)]
    unsafe fn above(
        numbers: *const u32,
        places: *const u32,
        last: u32,
        above: *mut u32,
        their_places: *mut u32,
    ) -> usize {
        let mut kept = 0;
        for i in 0..Self::LANES {
            // SAFETY: the caller's promise; no more are kept than were read before.
            unsafe {
                *above.add(kept) = *numbers.add(i);
                *their_places.add(kept) = *places.add(i);
                kept += usize::from(*numbers.add(i) > last);
            }
        }
        kept
    }
    /// Whether [`Vector::prefetch`] does anything.
    const PREFETCH: bool = false;
    /// Asks for a cache line soon. Any address will do.
    fn prefetch(_at: *const f32) {}
    /// The register tile with as many rows as this machine has registers for.
    ///
    /// # Safety
    /// As [`tile`].
    unsafe fn tile<const AHEAD: bool>(
        x: *const f32,
        stride: usize,
        p: usize,
        panel: *const f32,
        out: *mut f32,
        out_stride: usize,
    );

    /// As [`Vector::tile`], of products of 16-bit numbers, two coordinates at a time: exact integers, up to twice as fast.
    /// `out[r][j] = square[j] + weight[r] * sum_t x[r][t] * panel[t / 2][j][t % 2]` for two vectors of points; the sums must
    /// be below 2^31.
    ///
    /// # Safety
    /// Only where there are [`Vector::WORDS`]. `x` is `2 pairs` numbers of `ROWS` rows, [`Vector::BLOCK`] of each in turn (the
    /// last ones filled up), `panel` is `pairs` lines of [`PANEL`] pairs, `square` two vectors, `weight` `ROWS` numbers, and
    /// `out` as in [`tile`]. Tiles lie as [`tiles`](super::tiles) has them.
    #[inline(always)]
    unsafe fn words(_: &WordTile, _: *mut f32, _: usize) {
        unreachable!("asked for without WORDS")
    }
    /// The nearest integers (ties to even) of `len` numbers times `scale`, whole blocks, as row `place` of a tile of
    /// [`Vector::words`]; returns the sum of squares of what is left.
    ///
    /// # Safety
    /// Only where there are [`Vector::WORDS`], and `place` is below `ROWS`. `row` can be read for `len` numbers, the tile be
    /// written for `ROWS` times as many.
    #[inline(always)]
    unsafe fn to_words(_row: *const f32, _len: usize, _scale: f32, _tile: *mut i16, _place: usize) -> f32 {
        unreachable!("asked for without WORDS")
    }
}

/// What [`Vector::words`] multiplies.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "nothing else has such products"))]
pub(super) struct WordTile {
    pub(super) x: *const i16,
    pub(super) pairs: usize,
    pub(super) panel: *const i16,
    pub(super) square: *const f32,
    pub(super) weight: *const f32,
}

impl WordTile {
    /// Adds every pair of the rows, the first row's of which is given (those of the others are a block apart), times the
    /// panel's line of it.
    ///
    /// # Safety
    /// As [`Vector::words`].
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn each_pair<V: Vector>(&self, sums: &mut impl PairSums) {
        let (mut x, mut line) = (self.x, self.panel);
        let mut pairs = self.pairs;
        // SAFETY: what is stepped over was there.
        unsafe {
            while pairs >= V::BLOCK / 2 {
                for i in 0..V::BLOCK / 2 {
                    sums.add(x.add(2 * i), line.add(2 * PANEL * i));
                }
                (x, line) = (x.add(V::ROWS * V::BLOCK), line.add(PANEL * V::BLOCK));
                pairs -= V::BLOCK / 2;
            }
            for i in 0..pairs {
                sums.add(x.add(2 * i), line.add(2 * PANEL * i));
            }
        }
    }
}

/// The sums of [`Vector::words`]. Not a closure, for it must be inlined: alone it would be compiled for any processor.
#[cfg(target_arch = "x86_64")]
trait PairSums {
    /// # Safety
    /// `x` is a pair of the first row of a tile, `line` one of two vectors of points.
    unsafe fn add(&mut self, x: *const i16, line: *const i16);
}

/// One cache line of `i16`, two of `f32`, four of `f64`.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line<T>([T; 32]);

/// Numbers that start on a cache line, so that no vector load crosses one.
#[derive(Clone, Debug)]
pub(super) struct Aligned<T>(Vec<Line<T>>);

impl<T: Copy + Default> Aligned<T> {
    /// `len` zeros, and more up to a whole line.
    pub(super) fn zeros(len: usize) -> Self {
        Aligned(vec![Line([T::default(); 32]); len.div_ceil(32)])
    }

    #[inline(always)]
    pub(super) fn slice(&self) -> &[T] {
        const { assert!(size_of::<Line<T>>() == 32 * size_of::<T>()) };
        // SAFETY: a `Line` is 32 numbers without padding (just checked), in the order of `repr(C)`.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), self.0.len() * 32) }
    }

    #[inline(always)]
    pub(super) fn slice_mut(&mut self) -> &mut [T] {
        const { assert!(size_of::<Line<T>>() == 32 * size_of::<T>()) };
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), self.0.len() * 32) }
    }
}

impl Aligned<i16> {
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: 32 numbers without padding, as above; bytes may have any value, and so may numbers.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), self.0.len() * 64) }
    }
}

/// Numbers of a panel line: a panel is 32 points wide at every machine.
pub(super) const PANEL: usize = 32;

/// `out[r][j] = panel[0][j] + sum_t x[r][t] * panel[1 + t][j]` for `ROWS` rows and two vectors of points, in registers.
/// Twice as many loads as a square tile would need, but 28 of the 32 AVX-512 registers hold sums. With `AHEAD` the rows
/// after these are asked for meanwhile, a cache line a step: where there are few points, waiting for rows is half the time.
///
/// # Safety
/// `x` is `ROWS` rows of `p` numbers, `stride` apart; `panel` is `1 + p` lines, [`PANEL`] apart, and `out` is `ROWS`
/// rows, `out_stride` apart, of two vectors each.
#[inline(always)]
unsafe fn tile<V: Vector, const ROWS: usize, const AHEAD: bool>(
    x: *const f32,
    stride: usize,
    p: usize,
    panel: *const f32,
    out: *mut f32,
    out_stride: usize,
) {
    // SAFETY: the offsets below stay inside what the caller promises.
    unsafe {
        let mut left = [V::load(panel); ROWS];
        let mut right = [V::load(panel.add(V::LANES)); ROWS];
        let mut line = panel;
        for t in 0..p {
            line = line.add(PANEL);
            let (a, b) = (V::load(line), V::load(line.add(V::LANES)));
            if AHEAD {
                V::prefetch(x.wrapping_add(ROWS * stride + 16 * t));
            }
            for r in 0..ROWS {
                let x = V::splat(*x.add(r * stride + t));
                left[r] = left[r].add_product(x, a);
                right[r] = right[r].add_product(x, b);
            }
        }
        for r in 0..ROWS {
            left[r].store(out.add(r * out_stride));
            right[r].store(out.add(r * out_stride + V::LANES));
        }
    }
}

impl Vector for [f32; 8] {
    const LANES: usize = 8;
    const ROWS: usize = 2;
    const FUSED: bool = false;
    #[inline(always)]
    fn splat(x: f32) -> Self {
        [x; 8]
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's promise; an array of f32 has the alignment of f32.
        unsafe { *from.cast() }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { *to.cast() = self }
    }
    #[inline(always)]
    fn add_product(self, x: Self, y: Self) -> Self {
        std::array::from_fn(|i| self[i] + x[i] * y[i])
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        std::array::from_fn(|i| if other[i] < self[i] { other[i] } else { self[i] })
    }
    #[inline(always)]
    fn lowest(self) -> f32 {
        self.into_iter().fold(f32::INFINITY, f32::min)
    }
    #[inline(always)]
    fn at_most(self, bound: Self) -> u32 {
        (0..8).fold(0, |bits, i| bits | u32::from(self[i] <= bound[i]) << i)
    }
    #[inline(always)]
    unsafe fn tile<const AHEAD: bool>(
        x: *const f32,
        stride: usize,
        p: usize,
        panel: *const f32,
        out: *mut f32,
        out_stride: usize,
    ) {
        // SAFETY: the caller's promise.
        unsafe { tile::<Self, 2, AHEAD>(x, stride, p, panel, out, out_stride) }
    }
}

/// Plain numbers whose multiply-adds round once: by the machine where every one of its kind can, else in software.
#[cfg(feature = "encoder")]
#[derive(Clone, Copy)]
struct Fused([f32; 8]);

#[cfg(feature = "encoder")]
impl Vector for Fused {
    const LANES: usize = 8;
    const ROWS: usize = 2;
    const FUSED: bool = true;
    #[inline(always)]
    fn splat(x: f32) -> Self {
        Fused([x; 8])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's promise.
        Fused(unsafe { Vector::load(from) })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { self.0.store(to) }
    }
    #[inline(always)]
    fn add_product(self, x: Self, y: Self) -> Self {
        Fused(std::array::from_fn(|i| x.0[i].mul_add(y.0[i], self.0[i])))
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        Fused(Vector::min(self.0, other.0))
    }
    #[inline(always)]
    fn lowest(self) -> f32 {
        self.0.lowest()
    }
    #[inline(always)]
    fn at_most(self, bound: Self) -> u32 {
        self.0.at_most(bound.0)
    }
    #[inline(always)]
    unsafe fn tile<const AHEAD: bool>(
        x: *const f32,
        stride: usize,
        p: usize,
        panel: *const f32,
        out: *mut f32,
        out_stride: usize,
    ) {
        // SAFETY: the caller's promise.
        unsafe { tile::<Self, 2, AHEAD>(x, stride, p, panel, out, out_stride) }
    }
}

/// The one order in which eight lanes become a number.
#[inline(always)]
pub(super) fn total(l: [f64; 8]) -> f64 {
    ((l[0] + l[1]) + (l[2] + l[3])) + ((l[4] + l[5]) + (l[6] + l[7]))
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::super::tiles::{self, Configured, Sums};
    use super::{Kernel, PairSums, Vector, WordTile, tile};
    use std::arch::x86_64::*;
    use std::mem::MaybeUninit;

    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx2,fma,popcnt,bmi1")]
    pub fn with_avx512<J: Kernel>(job: J) -> J::Output {
        job.run::<Wide<SINGLES>>()
    }

    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512bw,avx512vnni,avx2,fma,popcnt,bmi1")]
    pub fn with_vnni<J: Kernel>(job: J) -> J::Output {
        job.run::<Wide<VNNI>>()
    }

    /// # Safety
    /// The machine must have tiles too, and have been asked for them.
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512bw,avx512vnni,avx2,fma,popcnt,bmi1")]
    pub unsafe fn with_amx<J: Kernel>(job: J) -> J::Output {
        // SAFETY: the caller's promise.
        let _configured = unsafe { Configured::new() };
        job.run::<Wide<AMX>>()
    }

    /// AVX-512, without products of 16-bit numbers, with them, or with tiles of them.
    #[derive(Clone, Copy)]
    pub struct Wide<const WORDS: u8>(__m512);
    const SINGLES: u8 = 0;
    const VNNI: u8 = 1;
    const AMX: u8 = 2;

    #[target_feature(enable = "avx2,fma,popcnt,bmi1")]
    pub fn with_avx2<J: Kernel>(job: J) -> J::Output {
        job.run::<__m256>()
    }

    // SAFETY, for every `unsafe` of the two implementations: the instructions exist, because `run_at` and `run_tiled_at`
    // alone name these types after they have found the features; the pointers are the caller's promise.

    impl<const WORDS: u8> Vector for Wide<WORDS> {
        const LANES: usize = 16;
        const ROWS: usize = if WORDS == AMX { tiles::SIDE } else { 14 };
        const FUSED: bool = true;
        const WORDS: bool = WORDS != SINGLES;
        const BLOCK: usize = if WORDS == AMX { tiles::STEP } else { 16 };
        // With tiles it is the panel that must come from L1.
        const KEPT: usize = if WORDS == AMX { 0 } else { 512 << 10 };
        #[inline(always)]
        fn splat(x: f32) -> Self {
            // SAFETY: see the top of this module.
            Wide(unsafe { _mm512_set1_ps(x) })
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: see the top of this module.
            Wide(unsafe { _mm512_loadu_ps(from) })
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: see the top of this module.
            unsafe { _mm512_storeu_ps(to, self.0) }
        }
        #[inline(always)]
        fn add_product(self, x: Self, y: Self) -> Self {
            // SAFETY: see the top of this module.
            Wide(unsafe { _mm512_fmadd_ps(x.0, y.0, self.0) })
        }
        #[inline(always)]
        fn min(self, other: Self) -> Self {
            // SAFETY: see the top of this module.
            Wide(unsafe { _mm512_min_ps(self.0, other.0) })
        }
        #[inline(always)]
        fn lowest(self) -> f32 {
            // SAFETY: see the top of this module.
            unsafe { _mm512_reduce_min_ps(self.0) }
        }
        #[inline(always)]
        fn totals(lanes: &[[f64; 8]; 8]) -> [f64; 8] {
            // Eight sums side by side: neighbouring lanes, then pairs of lanes, then halves.
            // SAFETY: see the top of this module; an array of eight f64 can be read as such.
            unsafe {
                let at = |i: usize| _mm512_loadu_pd(lanes[i].as_ptr());
                let two = |i: usize| {
                    let (a, b) = (at(i), at(i + 1));
                    _mm512_add_pd(_mm512_unpacklo_pd(a, b), _mm512_unpackhi_pd(a, b))
                };
                let halves = |a: __m512d, b: __m512d| {
                    let low = _mm512_shuffle_f64x2::<0b10_00_10_00>(a, b);
                    let high = _mm512_shuffle_f64x2::<0b11_01_11_01>(a, b);
                    _mm512_add_pd(low, high)
                };
                let all = halves(halves(two(0), two(2)), halves(two(4), two(6)));
                let mut out = [0.0; 8];
                _mm512_storeu_pd(out.as_mut_ptr(), all);
                out
            }
        }
        #[inline(always)]
        fn at_most(self, bound: Self) -> u32 {
            // SAFETY: see the top of this module.
            unsafe { u32::from(_mm512_cmp_ps_mask::<_CMP_LE_OQ>(self.0, bound.0)) }
        }
        #[inline(always)]
        unsafe fn keep(self, bound: Self, first: u32, numbers: *mut f32, places: *mut u32) -> usize {
            // SAFETY: see the top of this module; both are written for 16 numbers.
            unsafe {
                let kept = _mm512_cmp_ps_mask::<_CMP_LE_OQ>(self.0, bound.0);
                let lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
                let all = _mm512_add_epi32(_mm512_set1_epi32(first as i32), lanes);
                _mm512_storeu_ps(numbers, _mm512_maskz_compress_ps(kept, self.0));
                _mm512_storeu_si512(places.cast(), _mm512_maskz_compress_epi32(kept, all));
                kept.count_ones() as usize
            }
        }
        #[inline(always)]
        unsafe fn above(
            numbers: *const u32,
            places: *const u32,
            last: u32,
            above: *mut u32,
            their_places: *mut u32,
        ) -> usize {
            // SAFETY: see the top of this module.
            unsafe {
                let numbers = _mm512_loadu_si512(numbers.cast());
                let kept = _mm512_cmpgt_epu32_mask(numbers, _mm512_set1_epi32(last as i32));
                // Together in a register first: some machines write lanes of a register to memory one by one.
                _mm512_storeu_si512(above.cast(), _mm512_maskz_compress_epi32(kept, numbers));
                let places = _mm512_loadu_si512(places.cast());
                _mm512_storeu_si512(their_places.cast(), _mm512_maskz_compress_epi32(kept, places));
                kept.count_ones() as usize
            }
        }
        const PREFETCH: bool = true;
        #[inline(always)]
        fn prefetch(at: *const f32) {
            // SAFETY: every processor of this kind has the instruction, and it never faults.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) }
        }
        #[inline(always)]
        unsafe fn tile<const AHEAD: bool>(
            x: *const f32,
            stride: usize,
            p: usize,
            panel: *const f32,
            out: *mut f32,
            out_stride: usize,
        ) {
            const { assert!(WORDS == AMX || Self::ROWS == 14) };
            assert!(WORDS != AMX, "tiles are for words");
            // SAFETY: see the top of this module.
            unsafe { tile::<Self, 14, AHEAD>(x, stride, p, panel, out, out_stride) }
        }

        #[inline(always)]
        unsafe fn words(of: &WordTile, out: *mut f32, out_stride: usize) {
            if WORDS == AMX {
                // SAFETY: see the top of this module, and `Vector::words`: only called with AMX.
                return unsafe { words_in_tiles(of, out, out_stride) };
            }
            // SAFETY: see the top of this module, and `Vector::words`: only called with VNNI.
            unsafe {
                let mut sums =
                    WideSums { left: [_mm512_setzero_si512(); _], right: [_mm512_setzero_si512(); _] };
                of.each_pair::<Self>(&mut sums);
                let WideSums { left, right } = sums;
                let (a, b) = (_mm512_loadu_ps(of.square), _mm512_loadu_ps(of.square.add(16)));
                for r in 0..left.len() {
                    let weight = _mm512_set1_ps(*of.weight.add(r));
                    let out = out.add(r * out_stride);
                    _mm512_storeu_ps(out, _mm512_fmadd_ps(_mm512_cvtepi32_ps(left[r]), weight, a));
                    _mm512_storeu_ps(out.add(16), _mm512_fmadd_ps(_mm512_cvtepi32_ps(right[r]), weight, b));
                }
            }
        }

        #[inline(always)]
        unsafe fn to_words(row: *const f32, len: usize, scale: f32, tile: *mut i16, place: usize) -> f32 {
            const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
            // SAFETY: see the top of this module, and `Vector::to_words`.
            unsafe {
                let (scale, mut sums) = (_mm512_set1_ps(scale), _mm512_setzero_ps());
                for t in (0..len).step_by(16) {
                    let scaled = _mm512_mul_ps(_mm512_loadu_ps(row.add(t)), scale);
                    let word = _mm512_roundscale_ps::<NEAREST>(scaled);
                    let rest = _mm512_sub_ps(scaled, word);
                    sums = _mm512_fmadd_ps(rest, rest, sums);
                    let words = _mm512_cvtps_epi32(word);
                    if WORDS == AMX {
                        let [upper, lower] = tiles::row(t, place).map(|at| tile.cast::<u8>().add(at));
                        _mm_storeu_si128(upper.cast(), _mm512_cvtepi32_epi8(_mm512_srai_epi32::<8>(words)));
                        _mm_storeu_si128(lower.cast(), _mm512_cvtepi32_epi8(words));
                    } else {
                        let to = tile.add(t * Self::ROWS + place * Self::BLOCK);
                        _mm256_storeu_si256(to.cast(), _mm512_cvtepi32_epi16(words));
                    }
                }
                _mm512_reduce_add_ps(sums)
            }
        }
    }

    struct WideSums {
        left: [__m512i; 14],
        right: [__m512i; 14],
    }

    impl PairSums for WideSums {
        #[inline(always)]
        unsafe fn add(&mut self, x: *const i16, line: *const i16) {
            // SAFETY: see the top of this module, and `PairSums::add`.
            unsafe {
                let a = _mm512_loadu_si512(line.cast());
                let b = _mm512_loadu_si512(line.add(32).cast());
                for (r, (left, right)) in self.left.iter_mut().zip(&mut self.right).enumerate() {
                    let x = _mm512_set1_epi32(x.add(r * Wide::<VNNI>::BLOCK).cast::<i32>().read_unaligned());
                    *left = add_products(*left, x, a);
                    *right = add_products(*right, x, b);
                }
            }
        }
    }

    struct NarrowSums {
        left: [__m256i; 6],
        right: [__m256i; 6],
    }

    impl PairSums for NarrowSums {
        #[inline(always)]
        unsafe fn add(&mut self, x: *const i16, line: *const i16) {
            // SAFETY: see the top of this module, and `PairSums::add`.
            unsafe {
                let a = _mm256_loadu_si256(line.cast());
                let b = _mm256_loadu_si256(line.add(16).cast());
                for (r, (left, right)) in self.left.iter_mut().zip(&mut self.right).enumerate() {
                    let x = _mm256_set1_epi32(x.add(r * __m256::BLOCK).cast::<i32>().read_unaligned());
                    *left = _mm256_add_epi32(*left, _mm256_madd_epi16(x, a));
                    *right = _mm256_add_epi32(*right, _mm256_madd_epi16(x, b));
                }
            }
        }
    }

    /// `sum + x y`, the products of both 16-bit halves added. Written out, because LLVM 22 makes two instructions of the
    /// intrinsic to shorten the chain of sums: that halves the speed where many chains are under way.
    #[inline]
    #[target_feature(enable = "avx512f,avx512vnni")]
    fn add_products(mut sum: __m512i, x: __m512i, y: __m512i) -> __m512i {
        // SAFETY: see the top of this module; registers only.
        unsafe {
            std::arch::asm!(
                "vpdpwssd {sum}, {x}, {y}",
                sum = inout(zmm_reg) sum, x = in(zmm_reg) x, y = in(zmm_reg) y,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        sum
    }

    /// [`Vector::words`] in tiles: sums of products of bytes, put together to the sums of products of words.
    ///
    /// # Safety
    /// As there.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn words_in_tiles(of: &WordTile, out: *mut f32, out_stride: usize) {
        let steps = (2 * of.pairs).div_ceil(tiles::STEP);
        let mut sums = MaybeUninit::<Sums>::uninit();
        for half in 0..2 {
            // SAFETY: the caller's promise; `products` writes all sums.
            unsafe {
                let points = of.panel.cast::<u8>().add(half * steps * tiles::BYTES);
                tiles::products(of.x.cast(), points, steps, &mut sums);
                let sum = sums.as_ptr().cast::<i32>();
                let square = _mm512_loadu_ps(of.square.add(16 * half));
                for r in 0..tiles::SIDE {
                    let of_bytes =
                        |which: usize| _mm512_load_si512(sum.add((which * tiles::SIDE + r) * 16).cast());
                    // 256 (256 uu + (ul + lu)) + ll: what overflows on the way comes back.
                    let mixed = _mm512_add_epi32(of_bytes(1), of_bytes(2));
                    let upper = _mm512_add_epi32(_mm512_slli_epi32::<8>(of_bytes(0)), mixed);
                    let all = _mm512_add_epi32(_mm512_slli_epi32::<8>(upper), of_bytes(3));
                    let weight = _mm512_set1_ps(*of.weight.add(r));
                    let score = _mm512_fmadd_ps(_mm512_cvtepi32_ps(all), weight, square);
                    _mm512_storeu_ps(out.add(r * out_stride + 16 * half), score);
                }
            }
        }
    }

    /// For every set of lanes, one byte for each of them, ascending: AVX2 has no instruction that moves some lanes together.
    static KEPT_LANES: [u64; 256] = {
        let mut all = [0; 256];
        let mut set = 0;
        while set < 256 {
            let (mut lane, mut kept) = (0, 0);
            while lane < 8 {
                if set >> lane & 1 == 1 {
                    all[set] |= lane << (8 * kept);
                    kept += 1;
                }
                lane += 1;
            }
            set += 1;
        }
        all
    };

    impl Vector for __m256 {
        const LANES: usize = 8;
        const ROWS: usize = 6;
        const FUSED: bool = true;
        const WORDS: bool = true;
        #[inline(always)]
        fn splat(x: f32) -> Self {
            // SAFETY: see the top of this module.
            unsafe { _mm256_set1_ps(x) }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: see the top of this module.
            unsafe { _mm256_loadu_ps(from) }
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: see the top of this module.
            unsafe { _mm256_storeu_ps(to, self) }
        }
        #[inline(always)]
        fn add_product(self, x: Self, y: Self) -> Self {
            // SAFETY: see the top of this module.
            unsafe { _mm256_fmadd_ps(x, y, self) }
        }
        #[inline(always)]
        fn min(self, other: Self) -> Self {
            // SAFETY: see the top of this module.
            unsafe { _mm256_min_ps(self, other) }
        }
        #[inline(always)]
        fn lowest(self) -> f32 {
            let mut lanes = [0.0f32; 8];
            // SAFETY: see the top of this module.
            unsafe { self.store(lanes.as_mut_ptr()) };
            lanes.lowest()
        }
        #[inline(always)]
        fn at_most(self, bound: Self) -> u32 {
            // SAFETY: see the top of this module.
            unsafe { _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_LE_OQ>(self, bound)) as u32 }
        }
        #[inline(always)]
        unsafe fn keep(self, bound: Self, first: u32, numbers: *mut f32, places: *mut u32) -> usize {
            // SAFETY: see the top of this module; both are written for 8 numbers.
            unsafe {
                let bits = self.at_most(bound);
                let lanes = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(KEPT_LANES[bits as usize] as i64));
                let all = _mm256_add_epi32(_mm256_set1_epi32(first as i32), lanes);
                _mm256_storeu_ps(numbers, _mm256_permutevar8x32_ps(self, lanes));
                _mm256_storeu_si256(places.cast(), all);
                bits.count_ones() as usize
            }
        }
        #[inline(always)]
        unsafe fn above(
            numbers: *const u32,
            places: *const u32,
            last: u32,
            above: *mut u32,
            their_places: *mut u32,
        ) -> usize {
            // SAFETY: see the top of this module.
            unsafe {
                let numbers = _mm256_loadu_si256(numbers.cast());
                let places = _mm256_loadu_si256(places.cast());
                // There is no comparison of numbers without a sign, but their maximum.
                let last = _mm256_set1_epi32(last as i32);
                let others = _mm256_cmpeq_epi32(_mm256_max_epu32(numbers, last), last);
                let kept = !_mm256_movemask_ps(_mm256_castsi256_ps(others)) as usize & 0xFF;
                let lanes = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(KEPT_LANES[kept] as i64));
                _mm256_storeu_si256(above.cast(), _mm256_permutevar8x32_epi32(numbers, lanes));
                _mm256_storeu_si256(their_places.cast(), _mm256_permutevar8x32_epi32(places, lanes));
                kept.count_ones() as usize
            }
        }
        const PREFETCH: bool = true;
        #[inline(always)]
        fn prefetch(at: *const f32) {
            // SAFETY: every processor of this kind has the instruction, and it never faults.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) }
        }
        #[inline(always)]
        unsafe fn tile<const AHEAD: bool>(
            x: *const f32,
            stride: usize,
            p: usize,
            panel: *const f32,
            out: *mut f32,
            out_stride: usize,
        ) {
            // SAFETY: see the top of this module.
            unsafe { tile::<Self, 6, AHEAD>(x, stride, p, panel, out, out_stride) }
        }

        #[inline(always)]
        unsafe fn words(of: &WordTile, out: *mut f32, out_stride: usize) {
            // SAFETY: see the top of this module, and `Vector::words`.
            unsafe {
                let mut sums =
                    NarrowSums { left: [_mm256_setzero_si256(); _], right: [_mm256_setzero_si256(); _] };
                of.each_pair::<Self>(&mut sums);
                let NarrowSums { left, right } = sums;
                let (a, b) = (_mm256_loadu_ps(of.square), _mm256_loadu_ps(of.square.add(8)));
                for r in 0..left.len() {
                    let weight = _mm256_set1_ps(*of.weight.add(r));
                    let out = out.add(r * out_stride);
                    _mm256_storeu_ps(out, _mm256_fmadd_ps(_mm256_cvtepi32_ps(left[r]), weight, a));
                    _mm256_storeu_ps(out.add(8), _mm256_fmadd_ps(_mm256_cvtepi32_ps(right[r]), weight, b));
                }
            }
        }

        #[inline(always)]
        unsafe fn to_words(row: *const f32, len: usize, scale: f32, tile: *mut i16, place: usize) -> f32 {
            const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
            // SAFETY: see the top of this module, and `Vector::to_words`.
            unsafe {
                let (scale, mut sums) = (_mm256_set1_ps(scale), _mm256_setzero_ps());
                for t in (0..len).step_by(8) {
                    let scaled = _mm256_mul_ps(_mm256_loadu_ps(row.add(t)), scale);
                    let word = _mm256_round_ps::<NEAREST>(scaled);
                    let rest = _mm256_sub_ps(scaled, word);
                    sums = _mm256_fmadd_ps(rest, rest, sums);
                    let eight = _mm256_cvtps_epi32(word);
                    let words =
                        _mm_packs_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256::<1>(eight));
                    let to =
                        t / Self::BLOCK * Self::BLOCK * Self::ROWS + place * Self::BLOCK + t % Self::BLOCK;
                    _mm_storeu_si128(tile.add(to).cast(), words);
                }
                sums.total()
            }
        }
    }
}
