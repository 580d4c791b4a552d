//! A batch while it is dealt: its rows, where each goes, and the draws that say which row it is. Buffers that are used again.

use std::ops::Range;

use crate::batches::chunks::Cursor;
use crate::batches::layout::Layout;
use crate::kernels::permute::Walk;

/// A batch, as written, or several one after another. Reuse it: its buffers, and the layout of the last length, are kept.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Global row numbers.
    pub rows: Vec<u64>,
    pub(super) draws: Draws,
    /// Where the full batches of the smallest size stand in the list that they are dealt from, in chunks.
    pub(super) heads: Vec<u64>,
    /// The same with what is taken of the chunk there, where chunks have several rows.
    pub(super) cursors: Vec<Cursor>,
    /// Where the next rows, or chunks, of each batch go, as entries of `positions`.
    pub(super) next: Vec<usize>,
    /// Rows that were exchanged: where they are, and their strata.
    pub(super) exchanged: Vec<(u32, u32)>,
    /// Position of each row, or of each chunk's first row, in `rows`, batch by batch in tour order; of rows, then as many more as
    /// one batch draws from one stratum.
    pub(super) positions: Vec<u32>,
    pub(super) layout: Layout,
}

/// Draws of one or several batches, in tour order: all of a stratum lie together.
#[derive(Clone, Debug, Default)]
pub(super) struct Draws {
    /// Strata that were drawn from, and where the draws of each end.
    pub(super) groups: Vec<(u32, u32)>,
    pub(super) len: usize,
    /// Where the row goes in [`Batch::rows`]. Of this and the next, what is behind `len` is room.
    pub(super) to: Vec<u32>,
    /// Number of the draw, then its row in the stratum.
    pub(super) number: Vec<u32>,
    /// Draws that are not found yet, and their strata.
    pub(super) walking: Vec<(u32, u32)>,
    pub(super) walk: Walk,
}

impl Batch {
    /// Stratum of each row. O(rows), and only for who asks: a sampler hands out rows alone.
    pub fn strata(&self) -> Vec<u32> {
        let mut strata = vec![0; self.rows.len()];
        for (h, all) in self.draws.groups() {
            self.draws.to[all].iter().for_each(|&to| strata[to as usize] = h);
        }
        self.exchanged.iter().for_each(|&(to, h)| strata[to as usize] = h);
        strata
    }

    /// Empty, for [`Batch::push_stream`].
    pub(super) fn start_streams(&mut self) {
        self.rows.clear();
        self.draws.start(0);
    }

    /// Appends `rows` rows of a stream, in tour order with their strata, laid out by `shift`.
    pub(super) fn push_stream<'r>(
        &mut self,
        rows: usize,
        shift: u64,
        of: impl Iterator<Item = (u32, &'r [u64])>,
    ) {
        let first = self.rows.len();
        self.rows.resize(first + rows, 0);
        self.positions.clear();
        self.layout.reset(rows);
        self.layout.append(shift, first as u32, &mut self.positions);
        self.draws.to.truncate(first);
        self.draws.to.extend_from_slice(&self.positions);
        for (stratum, rows) in of {
            for (&row, &to) in rows.iter().zip(&self.draws.to[self.draws.len..]) {
                self.rows[to as usize] = row;
            }
            self.draws.len += rows.len();
            self.draws.close(stratum);
        }
    }

    /// Room for `rows` rows in batches of `size`, and where each goes, with `more` behind; `shift` of a batch, counted from 0.
    pub(super) fn lay_out(&mut self, rows: usize, size: usize, more: usize, shift: impl Fn(u64) -> u64) {
        self.rows.clear();
        self.rows.resize(rows, 0);
        self.next.clear();
        self.positions.clear();
        for (i, first) in (0..rows).step_by(size).enumerate() {
            self.next.push(first);
            self.layout.reset(size.min(rows - first));
            self.layout.append(shift(i as u64), first as u32, &mut self.positions);
        }
        self.positions.resize(rows + more, 0);
    }

    /// Room for `rows` rows in batches of `size`, and where each of their chunks begins; `shift` as in [`Batch::lay_out`].
    /// `short`: how many chunks of the last batch stand before the one that has fewer rows.
    pub(super) fn lay_out_chunks(
        &mut self,
        rows: usize,
        size: usize,
        chunk: usize,
        short: Option<usize>,
        shift: impl Fn(u64) -> u64,
    ) {
        self.rows.clear();
        self.rows.resize(rows, 0);
        self.next.clear();
        self.positions.clear();
        for (i, first) in (0..rows).step_by(size).enumerate() {
            let before = self.positions.len();
            let len = size.min(rows - first);
            self.next.push(before);
            self.layout.reset(len.div_ceil(chunk));
            self.layout.append(shift(i as u64), 0, &mut self.positions);
            let places = &mut self.positions[before..];
            let short = short.filter(|_| first + len == rows).map(|rank| places[rank]);
            let missing = (chunk - len % chunk) as u32;
            for place in places {
                let less = if short.is_some_and(|short| *place > short) { missing } else { 0 };
                *place = first as u32 + *place * chunk as u32 - less;
            }
        }
    }
}

impl Draws {
    /// None yet, and room for so many.
    pub(super) fn start(&mut self, room: usize) {
        self.groups.clear();
        self.len = 0;
        self.to.resize(room.max(self.to.len()), 0);
        self.number.resize(room.max(self.number.len()), 0);
    }

    /// Adds `count` draws. As many as `most` are written, which is the same for all batches: loops of one length are guessed.
    pub(super) fn push(&mut self, positions: &[u32], first: u32, step: u32, count: usize, most: usize) {
        let (to, number) = (&mut self.to[self.len..][..most], &mut self.number[self.len..][..most]);
        for (i, &position) in positions[..most].iter().enumerate() {
            to[i] = position;
            number[i] = step.wrapping_mul(i as u32).wrapping_add(first);
        }
        self.len += count;
    }

    /// Adds `count` draws that go one behind another and are one behind another.
    pub(super) fn extend(&mut self, to: u32, first: u32, count: usize) {
        let (positions, numbers) = (&mut self.to[self.len..][..count], &mut self.number[self.len..][..count]);
        positions.iter_mut().zip(to..).for_each(|(x, to)| *x = to);
        numbers.iter_mut().enumerate().for_each(|(i, x)| *x = first.wrapping_add(i as u32));
        self.len += count;
    }

    /// All draws since the last group are of this stratum.
    pub(super) fn close(&mut self, stratum: u32) {
        let before = self.groups.last().map_or(0, |group| group.1);
        if self.len as u32 > before {
            self.groups.push((stratum, self.len as u32));
        }
    }

    /// Strata and their draws.
    pub(super) fn groups(&self) -> impl Iterator<Item = (u32, Range<usize>)> + Clone {
        let starts = std::iter::once(0).chain(self.groups.iter().map(|group| group.1 as usize));
        self.groups.iter().zip(starts).map(|(&(h, end), start)| (h, start..end as usize))
    }
}
