//! The local order: batches that are stratified and read at disk speed.
//!
//! Rows are read in units (row groups, about), each once an epoch. The rows of an epoch lie in S *streams*; every batch takes
//! B/S rows from each, so rank i of w (w divides S) reads the streams S i/w .. S (i + 1)/w alone. Time is cut into *rounds* of
//! about W units of each stream ([`rounds`](crate::batches::rounds)), and the rows of a round are dealt into its batches
//! exactly ([`halving`](crate::batches::halving)): every stratum within 1 of its round's share, every stream-stratum cell
//! within 1, every prefix of the tour within 1 (each + S / 2^24). The rest batch is such a part of the last round.
//!
//! Rounds are counted from the units' counts alone; rows are looked at when a batch of their round is asked for. Any batch
//! alone costs O(S x strata x log K) and, the first time, the rows of the units of its round.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock};

use rayon::prelude::*;

use crate::batches::batch::Batch;
use crate::batches::halving::{Counts, Dealing, Grid, Halver};
use crate::batches::rounds::{Piece, Rounds};
use crate::batches::strata::tour;
use crate::batches::units::RowStrata;
use crate::format::dendrogram::Merge;
use crate::format::units::Units;
use crate::kernels::gather::Wanted;
use crate::kernels::permute::Walk;
use crate::kernels::rows::RowIds;
use crate::kit::ids::NONE;
use crate::kit::rng::{Permutation, key, mix64};

/// Words of keys behind the epoch, after those of [`rounds`](crate::batches::rounds).
const CUT: u64 = 12;
const CELL: u64 = 13;
const FLIP: u64 = 14;
const WINDOW: u64 = 15;
/// The same as in the global order.
const LAYOUT: u64 = 5;

/// What must hold of a plan for rows to be dealt at all.
const COUNTED: &str = "units.arrow counts the strata that samples.arrow has; else the plan is damaged (`batchwright check` tells how)";

/// Rows of rounds that are kept beyond those of two rounds: what is dealt in parallel at a time.
const KEPT_ROWS: u64 = 1 << 19;

/// What all epochs of a plan in a local order share.
#[derive(Clone, Copy)]
pub struct LocalOrder<'a> {
    pub units: &'a Units,
    /// Of the rows of the units; they count the same.
    pub strata: &'a dyn RowStrata,
    /// Number of streams; divides the smallest batch size.
    pub streams: u64,
    /// Units of a stream in a round.
    pub window: u64,
}

/// The dealing of one epoch in a local order.
pub struct LocalDeal<'a> {
    pub(super) units: &'a Units,
    strata: &'a dyn RowStrata,
    /// Strata in tour order, and the place of each there.
    pub(super) tour: Vec<u32>,
    pub(super) place: Vec<u32>,
    pub(super) base: u64,
    pub(super) streams: usize,
    seed: u64,
    epoch: u32,
    /// Full batches, and all.
    pub(super) full: u64,
    len: u64,
    /// Rows of the rest batch.
    rest: u64,
    pub(super) rounds: Rounds,
    /// The rounds that were needed last.
    kept: Mutex<VecDeque<Arc<Round>>>,
}

/// The rows of a round by stream and place: counts, and the rows of those streams that were asked for.
pub(super) struct Round {
    number: usize,
    pub(super) grid: Grid,
    /// Cells of each stream (streams + 1).
    cells: Vec<usize>,
    /// Rows of the full batches of each cell: what the rest batch has comes after.
    pub(super) full: Counts,
    pub(super) rest: Counts,
    pub(super) dealing: Dealing,
    /// Where the rows of each cell begin in its stream's.
    starts: Vec<u64>,
    rows: Vec<OnceLock<Vec<u64>>>,
}

/// Rows of one cell that a batch takes.
struct Taken {
    stream: u32,
    place: u32,
    from: u64,
    count: u64,
    round: usize,
}

impl<'a> LocalDeal<'a> {
    /// `base`: rows of the smallest batch, a multiple of the streams. `dendrogram`: as for [`Deal::new`](crate::batches::deal::Deal::new). O(units log streams + strata).
    pub fn new(
        order: LocalOrder<'a>,
        number_of_strata: usize,
        base: u64,
        seed: u64,
        epoch: u32,
        dendrogram: &[Merge],
        drop_last: bool,
    ) -> Self {
        let LocalOrder { units, strata, streams, window } = order;
        assert!(base > 0 && base.is_multiple_of(streams), "streams divide a batch");
        let rounds = Rounds::new(units, base, streams, window, seed, epoch);
        let rows: u64 = units.planned.iter().map(|&n| u64::from(n)).sum();
        let tour = tour(dendrogram, number_of_strata, seed, epoch);
        let mut place = vec![NONE; number_of_strata];
        (0..).zip(&tour).for_each(|(p, &h)| place[h as usize] = p);
        let (full, rest) = (rows / base, rows % base);
        LocalDeal {
            units,
            strata,
            tour,
            place,
            base,
            streams: streams as usize,
            seed,
            epoch,
            full,
            len: full + u64::from(!drop_last && rest > 0),
            rest,
            rounds,
            kept: Mutex::default(),
        }
    }

    /// Batches of `k` times the smallest size; the last may be short.
    pub fn batches(&self, k: u64) -> u64 {
        self.len.div_ceil(k)
    }

    /// Which stream reads which unit when.
    pub fn rounds(&self) -> &Rounds {
        &self.rounds
    }

    fn word(&self, words: &[u64]) -> u64 {
        words.iter().fold(key(self.seed, &[self.epoch.into()]), |k, &w| mix64(k ^ w))
    }

    /// Several batches, one after another, as [`Deal::run`](crate::batches::deal::Deal::run): each the parts of its streams one
    /// after another, each the union of its `k` parts brought into tour order and laid out anew. Rank i of w, where w divides
    /// the streams, finds the rows of its own streams in its contiguous part.
    pub fn run(&self, batches: Range<u64>, k: u64, into: &mut Batch) {
        self.run_of(0..self.streams, batches, k, into);
    }

    /// [`LocalDeal::run`], of some streams alone: the rows of the others are not looked at.
    pub fn run_of(&self, streams: Range<usize>, batches: Range<u64>, k: u64, into: &mut Batch) {
        let all = batches.start * k..(batches.end * k).min(self.len);
        assert!(batches.end <= self.batches(k) && !all.is_empty(), "{batches:?} of {}", self.batches(k));
        let rounds = self.ready(streams.clone(), &all);
        into.start_streams();
        let mut halver = Halver::default();
        let mut union: Vec<Taken> = Vec::new();
        let mut take = |round: usize, batch: u64, counts: &Counts, before: &[u64]| {
            let of: &Round = &rounds[round];
            union.extend((counts.iter()).filter_map(|(cell, count)| {
                let (stream, place) = (of.grid.stream[cell as usize], of.grid.place[cell as usize]);
                let from = of.starts[cell as usize] + before[cell as usize];
                streams.contains(&(stream as usize)).then_some(Taken { stream, place, from, count, round })
            }));
            if (batch + 1).is_multiple_of(k) || batch + 1 == all.end {
                if k > 1 {
                    union.sort_by_key(|taken| (taken.stream, taken.place));
                }
                self.lay_out(&union, &rounds, batch / k, k, into);
                union.clear();
            }
        };
        for (i, round) in rounds.iter().enumerate() {
            let first = self.rounds.starts[round.number];
            let end = self.rounds.starts[round.number + 1];
            let within = all.start.max(first) - first..all.end.min(end).saturating_sub(first);
            if !within.is_empty() {
                round.dealing.each(&round.grid, within, &mut halver, |b, counts, before| {
                    take(i, first + b, counts, before);
                });
            }
        }
        if all.end > self.full {
            let round = &rounds[rounds.len() - 1];
            let mut before = vec![0; round.grid.len()];
            round.full.iter().for_each(|(cell, rows)| before[cell as usize] = rows);
            take(rounds.len() - 1, self.full, &round.rest, &before);
        }
    }

    /// Appends a batch to `into`, stream by stream.
    fn lay_out(&self, union: &[Taken], rounds: &[Arc<Round>], batch: u64, k: u64, into: &mut Batch) {
        for of in union.chunk_by(|a, b| a.stream == b.stream) {
            let stream = of[0].stream as usize;
            let rows: u64 = of.iter().map(|taken| taken.count).sum();
            let shift = self.word(&[LAYOUT, k, batch, stream as u64]);
            into.push_stream(
                rows as usize,
                shift,
                of.iter().map(|taken| {
                    let all = rounds[taken.round].rows[stream].get().expect("the round is ready");
                    let stratum = self.tour[taken.place as usize];
                    (stratum, &all[taken.from as usize..(taken.from + taken.count) as usize])
                }),
            );
        }
    }

    /// Finds the rounds of some batches of `k` times the smallest size, on the current rayon pool, so that whoever deals these
    /// batches then finds them ready.
    pub fn prepare(&self, batches: Range<u64>, k: u64) {
        let all = batches.start * k..(batches.end * k).min(self.len);
        for number in self.rounds_of(&all) {
            let round = self.round(number);
            (0..self.streams).into_par_iter().for_each(|stream| self.find(&round, stream));
        }
    }

    /// The rounds that `batches` are in, with the rows of `streams`: in the calling thread, for a process that deals batches may
    /// fork, and threads would not come along.
    fn ready(&self, streams: Range<usize>, batches: &Range<u64>) -> Vec<Arc<Round>> {
        self.rounds_of(batches)
            .map(|number| {
                let round = self.round(number);
                streams.clone().for_each(|stream| self.find(&round, stream));
                round
            })
            .collect()
    }

    fn rounds_of(&self, batches: &Range<u64>) -> Range<usize> {
        if batches.is_empty() {
            return 0..0;
        }
        let last = self.rounds.number() - 1;
        let of = |batch: u64| if batch >= self.full { last } else { self.rounds.of(batch) };
        of(batches.start)..of(batches.end - 1) + 1
    }

    /// Finds the rows of a stream of a round, if nobody has. Whoever does it at the same time finds the same.
    fn find(&self, round: &Round, stream: usize) {
        if round.rows[stream].get().is_none() {
            drop(round.rows[stream].set(self.rows(round, stream)));
        }
    }

    /// A round, counted; kept with those before. No lock is held meanwhile, since a waiting thread of a pool could be given
    /// work that waits for itself.
    fn round(&self, number: usize) -> Arc<Round> {
        let kept = || self.kept.lock().expect("nobody panics with the lock");
        if let Some(round) = kept().iter().find(|round| round.number == number) {
            return Arc::clone(round);
        }
        let round = Arc::new(self.counted(number, &mut Halver::default()));
        let mut kept = kept();
        if let Some(other) = kept.iter().find(|round| round.number == number) {
            return Arc::clone(other);
        }
        kept.push_back(Arc::clone(&round));
        let rows = self.rounds.batches(number).max(1) * self.base;
        while kept.len() as u64 > 2 + KEPT_ROWS.div_ceil(rows) {
            kept.pop_front();
        }
        round
    }

    /// Counts a round: no row is looked at. O(strata seen in its units).
    pub(super) fn counted(&self, number: usize, halver: &mut Halver) -> Round {
        let mut grid = Grid { places: self.tour.len() as u32, ..Grid::default() };
        let (mut counts, mut starts, mut cells) = (Counts::default(), Vec::new(), vec![0]);
        let mut sums = vec![0u64; self.tour.len()];
        let mut unit = Vec::new();
        for stream in 0..self.streams {
            let mut places = Vec::new();
            for &piece in self.rounds.pieces(stream, number) {
                self.piece_counts(piece, &mut unit);
                for &(place, rows) in unit.iter().filter(|&&(_, rows)| rows > 0) {
                    if sums[place as usize] == 0 {
                        places.push(place);
                    }
                    sums[place as usize] += rows;
                }
            }
            places.sort_unstable();
            let mut start = 0;
            for place in places {
                let rows = std::mem::take(&mut sums[place as usize]);
                counts.push(grid.len() as u32, rows);
                grid.stream.push(stream as u32);
                grid.place.push(place);
                starts.push(start);
                start += rows;
            }
            cells.push(grid.len());
        }
        let batches = self.rounds.batches(number);
        let flip = self.word(&[FLIP, number as u64]);
        let (full, rest) = if number + 1 < self.rounds.number() || self.rest == 0 {
            (counts, Counts::default())
        } else if batches == 0 {
            (Counts::default(), counts)
        } else {
            let share = batches * self.base / self.streams as u64;
            let rest: Vec<u64> =
                counts.by_stream(&grid, self.streams).iter().map(|rows| rows - share).collect();
            let rest = halver.part(&grid, &counts, &rest, mix64(flip ^ 63));
            (counts.without(&rest), rest)
        };
        let dealing = Dealing::new(&grid, full.clone(), batches, flip, halver);
        let rows = (0..self.streams).map(|_| OnceLock::new()).collect();
        Round { number, grid, cells, full, rest, dealing, starts, rows }
    }

    /// Rows of each place that a unit has, ascending.
    fn places(&self, unit: u32, into: &mut Vec<(u32, u64)>) {
        into.clear();
        into.extend(self.units.cells(unit as usize).map(|(h, n)| (self.place[h as usize], u64::from(n))));
        into.sort_unstable();
    }

    /// Rows of each place that a piece has of a unit: arithmetic, no row is looked at. O(strata of the unit x its pieces).
    fn piece_counts(&self, piece: Piece, into: &mut Vec<(u32, u64)>) {
        self.places(piece.unit, into);
        let cuts = self.rounds.cuts(piece.unit);
        if cuts.len() == 1 {
            return;
        }
        let mut left: Vec<u64> = into.iter().map(|&(_, rows)| rows).collect();
        for &cut in cuts {
            let Cut { of, rows, phase } = self.cut(cut, left.iter().sum());
            let (mut end, mut taken) = (0, phase / of);
            for ((_, got), left) in into.iter_mut().zip(&mut left) {
                end += *left;
                let up_to =
                    ((u128::from(end) * u128::from(rows) + u128::from(phase)) / u128::from(of)) as u64;
                *got = up_to - taken;
                *left -= *got;
                taken = up_to;
            }
            if cut == piece {
                return;
            }
        }
    }

    /// How a piece is taken out of the `left` rows that the pieces before it have left.
    fn cut(&self, piece: Piece, left: u64) -> Cut {
        let unit = self.units.number[piece.unit as usize];
        let phase = self.word(&[CUT, unit.into(), piece.from.into()]) % left;
        Cut { of: left, rows: piece.rows(), phase }
    }

    /// The rows of a stream in a round: cell by cell, each in the order in which it is dealt.
    fn rows(&self, round: &Round, stream: usize) -> Vec<u64> {
        let cells = round.cells[stream]..round.cells[stream + 1];
        let starts = &round.starts[cells.clone()];
        let places = &round.grid.place[cells];
        let pieces = self.rounds.pieces(stream, round.number);
        let total: u64 = pieces.iter().map(|piece| piece.rows()).sum();
        let mut next = vec![0; self.tour.len()];
        places.iter().zip(starts).for_each(|(&place, &start)| next[place as usize] = start);
        let mut found = vec![0; total as usize];
        let mut reading = Reading::new(self.tour.len());
        for &piece in pieces {
            self.piece_rows(piece, &mut reading, |place, rows| {
                let at = next[place as usize] as usize;
                found[at..at + rows.len()].copy_from_slice(rows);
                next[place as usize] += rows.len() as u64;
            });
        }
        let ends = || starts.iter().skip(1).chain([&total]);
        let permutations: Vec<Permutation> = (places.iter().zip(starts).zip(ends()))
            .map(|((&place, &start), &end)| {
                let stratum = self.tour[place as usize];
                let words = [WINDOW, round.number as u64, stream as u64, stratum.into()];
                Permutation::new(end - start, self.word(&words))
            })
            .collect();
        for (cell, (start, end)) in starts.iter().zip(ends()).enumerate() {
            reading.work.numbers.extend(0..(end - start) as u32);
            reading.work.close(cell);
        }
        reading.work.find(&permutations, starts, RowIds::U64(&found))
    }

    /// The rows of a piece by place: `f` is called for every place of the tour that has some, in order. O(rows of the unit).
    fn piece_rows(&self, piece: Piece, reading: &mut Reading, mut f: impl FnMut(u32, &[u64])) {
        let unit = piece.unit as usize;
        let mut places = std::mem::take(&mut reading.places);
        self.places(piece.unit, &mut places);
        let starts: Vec<u64> =
            places.iter().scan(0, |end, &(_, n)| Some(std::mem::replace(end, *end + n))).collect();
        let planned: u64 = places.iter().map(|&(_, n)| n).sum();
        let first = self.units.first_row[unit];
        reading.strata.resize(self.units.rows[unit] as usize, 0);
        self.strata.read(first, &mut reading.strata);
        // The rows of the unit by place, ascending inside.
        reading.rows.clear();
        reading.rows.resize(planned as usize, 0);
        places
            .iter()
            .zip(&starts)
            .for_each(|(&(place, _), &start)| reading.next[place as usize] = start as u32);
        for (row, &stratum) in (first..).zip(&reading.strata) {
            if stratum != NONE {
                let next = &mut reading.next[self.place[stratum as usize] as usize];
                *reading.rows.get_mut(*next as usize).expect(COUNTED) = row;
                *next += 1;
            }
        }
        for (&(place, n), &start) in places.iter().zip(&starts) {
            assert_eq!(u64::from(reading.next[place as usize]), start + n, "{COUNTED}");
            reading.next[place as usize] = NONE;
        }
        let permutations: Vec<Permutation> = (places.iter())
            .map(|&(place, n)| {
                let words = [CELL, self.units.number[unit].into(), self.tour[place as usize].into()];
                Permutation::new(n, self.word(&words))
            })
            .collect();
        // Which rows of the unit, in keyed order, are the piece's.
        let mut left = planned;
        let cut = |&cut: &Piece| {
            let found = self.cut(cut, left);
            left -= cut.rows();
            found
        };
        let cuts = self.rounds.cuts(piece.unit).iter().take_while(|cut| **cut <= piece);
        let cuts: Vec<Cut> = cuts.map(cut).collect();
        let (this, before) = cuts.split_last().expect("a piece is one of its unit's");
        let work = &mut reading.work;
        let mut at = 0;
        for j in 0..this.rows {
            let i = before.iter().rev().fold(this.taken(j), |i, cut| cut.left(i));
            while starts.get(at + 1).is_some_and(|&next| i >= next) {
                work.close(at);
                at += 1;
            }
            work.numbers.push((i - starts[at]) as u32);
        }
        work.close(at);
        let mut from = 0;
        let groups = work.groups.clone();
        let rows = work.find(&permutations, &starts, RowIds::U64(&reading.rows));
        for (at, to) in groups {
            f(places[at as usize].0, &rows[from..to as usize]);
            from = to as usize;
        }
        reading.places = places;
    }
}

/// `rows` rows out of `of`, evenly spread: row i is taken if floor(((i + 1) rows + phase) / of) is more than at i.
#[derive(Clone, Copy)]
struct Cut {
    of: u64,
    rows: u64,
    phase: u64,
}

impl Cut {
    /// Row `j` of those that are taken.
    fn taken(self, j: u64) -> u64 {
        ((u128::from(j + 1) * u128::from(self.of) - u128::from(self.phase)).div_ceil(u128::from(self.rows))
            - 1) as u64
    }

    /// Row `j` of those that are left.
    fn left(self, j: u64) -> u64 {
        ((u128::from(j) * u128::from(self.of) + u128::from(self.phase)) / u128::from(self.of - self.rows))
            as u64
    }
}

/// Buffers for the rows of units.
#[derive(Default)]
struct Reading {
    strata: Vec<u32>,
    rows: Vec<u64>,
    next: Vec<u32>,
    places: Vec<(u32, u64)>,
    work: Work,
}

impl Reading {
    fn new(places: usize) -> Self {
        Reading { next: vec![NONE; places], ..Reading::default() }
    }
}

/// Rows that are wanted of some cells: their positions in the cells' permutations.
#[derive(Default)]
struct Work {
    numbers: Vec<u32>,
    groups: Vec<(u32, u32)>,
    to: Vec<u32>,
    walk: Walk,
}

impl Work {
    /// All numbers since the last group are of this cell.
    fn close(&mut self, cell: usize) {
        let before = self.groups.last().map_or(0, |group| group.1);
        if self.numbers.len() as u32 > before {
            self.groups.push((cell as u32, self.numbers.len() as u32));
        }
    }

    /// The rows that are wanted, cell after cell. `starts`: of the cells in `rows`. Nothing is wanted any more then.
    fn find(&mut self, permutations: &[Permutation], starts: &[u64], rows: RowIds<'_>) -> Vec<u64> {
        let mut found = vec![0; self.numbers.len()];
        let known = self.to.len() as u32;
        self.to.extend(known..(self.numbers.len() as u32).max(known));
        let wanted = Wanted {
            numbers: &mut self.numbers,
            groups: &self.groups,
            permutations: Some(permutations),
            firsts: starts,
            to: &self.to,
            walk: &mut self.walk,
        };
        rows.gather(wanted, &mut found);
        self.numbers.clear();
        self.groups.clear();
        found
    }
}
