//! Which stream reads which part of which unit in which round of an epoch of a local order.
//!
//! The units come in the order of [`alike`](crate::batches::units::alike): blocks of as many neighbours as there are rounds
//! are dealt one to each round, in keyed order, so every round holds about the mix of the whole data. Inside a round the
//! stream with the fewest rows takes the next unit; what a stream has too much in the end goes to those that lack rows.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::batches::layout::Layout;
use crate::format::units::Units;
use crate::kit::rng::{Permutation, key};

/// Second words of the keys of a local order; 1 to 6 are those of the global one.
const BLOCK: u64 = 10;
const SPREAD: u64 = 11;

/// Planned rows `from .. to` of a unit, counted in the keyed order of its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Piece {
    pub unit: u32,
    pub from: u32,
    pub to: u32,
}

impl Piece {
    pub fn rows(self) -> u64 {
        u64::from(self.to - self.from)
    }
}

/// The pieces of an epoch.
#[derive(Clone, Debug)]
pub struct Rounds {
    /// First batch of each round, and the number of full batches.
    pub starts: Vec<u64>,
    /// By stream, round, time.
    pieces: Vec<Piece>,
    /// Where those of a stream and round end.
    ends: Vec<usize>,
    /// By unit, from low to high, and where those of a unit begin.
    cuts: Vec<Piece>,
    offsets: Vec<usize>,
}

/// First batch of each round, and `batches`: as many rounds as the units fill windows, of equal length as far as can be.
pub fn starts(batches: u64, units: u64, streams: u64, window: u64) -> Vec<u64> {
    let rounds = units.div_ceil(window * streams).min(batches).max(1);
    let start = |t: u64| (u128::from(batches) * u128::from(t) / u128::from(rounds)) as u64;
    (0..=rounds).map(start).collect()
}

impl Rounds {
    /// Of an epoch in batches of `base` rows. O(units log streams).
    pub fn new(units: &Units, base: u64, streams: u64, window: u64, seed: u64, epoch: u32) -> Self {
        let rows: u64 = units.planned.iter().map(|&n| u64::from(n)).sum();
        let starts = starts(rows / base, units.with_rows() as u64, streams, window);
        let mut lists = sequence(units, streams as usize, starts.len() - 1, seed, epoch);
        equalise(&mut lists, rows);
        let mut rounds =
            Rounds { starts, pieces: Vec::new(), ends: Vec::new(), cuts: Vec::new(), offsets: Vec::new() };
        for list in lists {
            rounds.cut(&list, base / streams);
        }
        rounds.cuts = rounds.pieces.clone();
        rounds.cuts.sort_unstable();
        rounds.offsets =
            (0..=units.len()).map(|u| rounds.cuts.partition_point(|p| (p.unit as usize) < u)).collect();
        rounds
    }

    /// Number of rounds.
    pub fn number(&self) -> usize {
        self.starts.len() - 1
    }

    /// Number of full batches of a round.
    pub fn batches(&self, round: usize) -> u64 {
        self.starts[round + 1] - self.starts[round]
    }

    /// The round of a full batch.
    pub fn of(&self, batch: u64) -> usize {
        self.starts.partition_point(|&start| start <= batch) - 1
    }

    /// What a stream reads in a round, in order of time. The last round has the rows of the rest batch, too.
    pub fn pieces(&self, stream: usize, round: usize) -> &[Piece] {
        let at = stream * self.number() + round;
        let from = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.pieces[from..self.ends[at]]
    }

    /// The pieces that a unit is cut into, from low to high.
    pub fn cuts(&self, unit: u32) -> &[Piece] {
        &self.cuts[self.offsets[unit as usize]..self.offsets[unit as usize + 1]]
    }

    /// Cuts the list of a stream, which has `share` rows in a batch, at the ends of rounds.
    fn cut(&mut self, list: &[Piece], share: u64) {
        let (mut round, mut at) = (0, 0);
        let last = self.number() - 1;
        for &Piece { unit, mut from, to } in list {
            while from < to {
                let end =
                    |round: usize| if round == last { u64::MAX } else { self.starts[round + 1] * share };
                while at >= end(round) {
                    self.ends.push(self.pieces.len());
                    round += 1;
                }
                let cut = u64::from(to).min((end(round) - at).saturating_add(from.into())) as u32;
                self.pieces.push(Piece { unit, from, to: cut });
                at += u64::from(cut - from);
                from = cut;
            }
        }
        (round..=last).for_each(|_| self.ends.push(self.pieces.len()));
    }
}

/// Units in the order of time, a list for each stream.
fn sequence(units: &Units, streams: usize, rounds: usize, seed: u64, epoch: u32) -> Vec<Vec<Piece>> {
    let word = |words: [u64; 2]| key(seed, &[epoch.into(), words[0], words[1]]);
    let ordered: Vec<u32> = (0..units.with_rows() as u32).collect();
    let mut dealt = vec![Vec::new(); rounds];
    for (block, of) in (0..).zip(ordered.chunks(rounds)) {
        let permutation = Permutation::new(rounds as u64, word([BLOCK, block]));
        (0..).zip(of).for_each(|(j, &unit)| dealt[permutation.index(j) as usize].push(unit));
    }
    let mut lists = vec![Vec::new(); streams];
    let mut fewest: BinaryHeap<_> = (0..streams).map(|stream| Reverse((0u64, stream))).collect();
    let (mut layout, mut positions) = (Layout::default(), Vec::new());
    for (round, of) in (0..).zip(&dealt) {
        let mut spread = vec![0; of.len()];
        if !of.is_empty() {
            layout.reset(of.len());
            positions.clear();
            layout.append(word([SPREAD, round]), 0, &mut positions);
            positions.iter().zip(of).for_each(|(&position, &unit)| spread[position as usize] = unit);
        }
        for unit in spread {
            let rows = units.planned[unit as usize];
            let Some(Reverse((have, stream))) = fewest.pop() else { continue };
            lists[stream].push(Piece { unit, from: 0, to: rows });
            fewest.push(Reverse((have + u64::from(rows), stream)));
        }
    }
    lists
}

/// What a stream has too much goes from its end to those that have too little, in the order of streams: N (i + 1) / S - N i / S
/// rows each.
fn equalise(lists: &mut [Vec<Piece>], rows: u64) {
    let streams = lists.len() as u64;
    let target = |i: u64| {
        let up_to = |i: u64| (u128::from(rows) * u128::from(i) / u128::from(streams)) as u64;
        up_to(i + 1) - up_to(i)
    };
    let have = |list: &[Piece]| list.iter().map(|piece| piece.rows()).sum::<u64>();
    let mut spare = Vec::new();
    for (i, list) in (0..).zip(lists.iter_mut()) {
        let mut over = have(list).saturating_sub(target(i));
        let mut cut = Vec::new();
        while over > 0 {
            let Some(Piece { unit, from, to }) = list.pop() else { break };
            let keep = u64::from(to - from).saturating_sub(over) as u32;
            if keep > 0 {
                list.push(Piece { unit, from, to: from + keep });
            }
            cut.push(Piece { unit, from: from + keep, to });
            over -= u64::from(to - from - keep);
        }
        spare.extend(cut.into_iter().rev());
    }
    spare.reverse();
    for (i, list) in (0..).zip(lists.iter_mut()) {
        let mut lack = target(i).saturating_sub(have(list));
        while lack > 0 {
            let Some(Piece { unit, from, to }) = spare.pop() else { break };
            let taken = u64::from(to - from).min(lack) as u32;
            list.push(Piece { unit, from, to: from + taken });
            if from + taken < to {
                spare.push(Piece { unit, from: from + taken, to });
            }
            lack -= u64::from(taken);
        }
    }
}
