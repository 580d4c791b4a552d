//! Rows to their positions in batches, written by many threads at once.
//!
//! A set of batches ([`Batches`]) is cut into [`Part`]s, each of which knows the position of each of its rows. Every position is
//! in one part alone, so threads that fill different parts never write to the same bytes, whatever they do.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// A row that has no position.
pub const NOWHERE: u32 = u32::MAX;

/// A piece of a region is a multiple of so many bytes, and aligned to it.
const GRAIN: usize = 64;

/// Memory from the system, all of it at once: being given page after page when they are first touched takes as long as writing
/// the rows that are in them. (Large pages would cost less still, or, where memory is in small pieces, four times as much.)
#[derive(Debug)]
struct Region {
    start: NonNull<u8>,
    /// Unmapped when the last block of it is gone.
    _map: memmap2::MmapMut,
}

// SAFETY: what `start` points to belongs to the blocks that are cut from it, each a part of its own; the map is only dropped.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    fn new(bytes: usize) -> Arc<Region> {
        let map = memmap2::MmapOptions::new().len(bytes).populate().map_anon();
        let mut map = map.unwrap_or_else(|e| panic!("{} MiB of memory for rows: {e}", bytes >> 20));
        Arc::new(Region { start: NonNull::new(map.as_mut_ptr()).expect("a map is somewhere"), _map: map })
    }
}

/// A region, and where in it a block is.
type Piece = (Arc<Region>, usize);

/// Memory that nobody uses any more, by length, for blocks of the same length.
#[derive(Debug, Default)]
pub struct Pool {
    free: Mutex<HashMap<usize, Vec<Piece>>>,
}

impl Pool {
    /// `number` blocks of `bytes` bytes each.
    fn take(self: &Arc<Self>, bytes: usize, number: usize) -> Vec<Block> {
        let room = bytes.next_multiple_of(GRAIN).max(GRAIN);
        let mut free = self.free.lock().expect("nobody panics with the lock");
        let free = free.entry(room).or_default();
        let more = number.saturating_sub(free.len());
        if more > 0 {
            let region = Region::new(more * room);
            free.extend((0..more).rev().map(|i| (region.clone(), i * room)));
        }
        let block = |(region, offset)| Block { region, offset, room, bytes, pool: self.clone() };
        free.split_off(free.len() - number).into_iter().rev().map(block).collect()
    }
}

/// The rows of one column of one batch, side by side; aligned to 64 bytes. Its memory goes back to the pool when it is dropped.
#[derive(Debug)]
pub struct Block {
    region: Arc<Region>,
    offset: usize,
    room: usize,
    bytes: usize,
    pool: Arc<Pool>,
}

impl Block {
    /// Of so many bytes, all zero.
    pub fn zeros(pool: &Arc<Pool>, bytes: usize) -> Block {
        let mut block = pool.take(bytes, 1).pop().expect("one was asked for");
        block.as_bytes_mut().fill(0);
        block
    }

    fn start(&self) -> *mut u8 {
        // SAFETY: inside the region, which this block is a part of.
        unsafe { self.region.start.as_ptr().add(self.offset) }
    }

    pub fn as_bytes(&self) -> &[u8] {
        // SAFETY: `room` bytes from `start` on are this block's alone, mapped as long as it has the region, and always some number.
        // Only a `Part` writes to a block that is shared, and none is left when a block leaves its `Batches`.
        unsafe { std::slice::from_raw_parts(self.start(), self.bytes) }
    }

    pub fn as_bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `as_bytes`, and borrowed alone.
        unsafe { std::slice::from_raw_parts_mut(self.start(), self.bytes) }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if let Ok(mut free) = self.pool.free.lock() {
            free.entry(self.room).or_default().push((self.region.clone(), self.offset));
        }
    }
}

/// Batches of rows of some columns of fixed width, on their way to be filled.
#[derive(Debug)]
pub struct Batches {
    /// Bytes of a row of each column.
    widths: Vec<usize>,
    /// Rows of a batch; the last has what is left.
    size: usize,
    rows: usize,
    /// Batch by batch, column by column.
    blocks: Vec<Block>,
    /// Positions that have a row.
    taken: usize,
    /// Rows times columns that have been written.
    written: AtomicU64,
}

impl Batches {
    /// `rows` rows in batches of `size`, the last of which may be short. What they hold is what the pool's memory held.
    pub fn new(pool: &Arc<Pool>, widths: Vec<usize>, size: usize, rows: usize) -> Batches {
        assert!(size > 0 && rows < NOWHERE as usize, "{rows} rows in batches of {size}");
        let number = rows.div_ceil(size);
        let mut columns: Vec<_> =
            widths.iter().map(|width| pool.take(size.min(rows) * width, number).into_iter()).collect();
        let mut blocks = Vec::with_capacity(number * widths.len());
        for batch in 0..number {
            let rows = size.min(rows - batch * size);
            for (width, free) in widths.iter().zip(&mut columns) {
                let mut block = free.next().expect("as many as there are batches");
                block.bytes = rows * width;
                blocks.push(block);
            }
        }
        Batches { widths, size, rows, blocks, taken: 0, written: AtomicU64::new(0) }
    }

    /// Bytes of `rows` rows.
    pub fn bytes(widths: &[usize], rows: u64) -> u64 {
        widths.iter().map(|&width| width as u64).sum::<u64>() * rows
    }

    /// Cuts them into parts of so many slots. `slots`: part and slot of the row at position 0, 1, .., None: no row belongs there.
    /// A slot that is not named has no position, and one that is named twice has the last. O(rows + slots).
    pub fn divide(
        mut self,
        lengths: &[usize],
        slots: impl Iterator<Item = Option<(usize, usize)>>,
    ) -> (Arc<Batches>, Vec<Part>) {
        let mut positions: Vec<Vec<u32>> = lengths.iter().map(|&slots| vec![NOWHERE; slots]).collect();
        // Every position is given once, which is what `Part::write` rests on.
        for (p, slot) in (0..self.rows as u32).zip(slots) {
            let Some((part, slot)) = slot else { continue };
            positions[part][slot] = p;
            self.taken += 1;
        }
        let of = Arc::new(self);
        let part = |position| Part { of: of.clone(), position };
        let parts = positions.into_iter().map(part).collect();
        (of, parts)
    }

    /// The blocks of each batch, column by column, once all parts are gone. None if a part is still there, or if not every row
    /// of every column was written.
    pub fn finish(self: Arc<Self>) -> Option<Vec<Vec<Block>>> {
        let this = Arc::into_inner(self)?;
        let columns = this.widths.len();
        let whole = this.written.into_inner() == (this.taken * columns) as u64;
        let batches = this.rows.div_ceil(this.size);
        let mut blocks = this.blocks.into_iter();
        whole.then(|| (0..batches).map(|_| blocks.by_ref().take(columns).collect()).collect())
    }
}

/// Some rows of [`Batches`], by slot: the only way to write to them. Each row of each column is to be written once.
#[derive(Debug)]
pub struct Part {
    of: Arc<Batches>,
    /// Position of the row in each slot, or [`NOWHERE`].
    position: Vec<u32>,
}

impl Part {
    /// Whether the row in this slot has a position.
    pub fn wants(&self, slot: usize) -> bool {
        self.position[slot] != NOWHERE
    }

    pub fn slots(&self) -> usize {
        self.position.len()
    }

    /// Writes the rows in slots `first ..` of a column, side by side in `rows`; those without a position are left out. O(bytes).
    pub fn write(&mut self, column: usize, first: usize, rows: &[u8]) {
        let width = self.of.widths[column];
        if width == 0 {
            let some = self.position[first..].iter().filter(|&&p| p != NOWHERE).count();
            self.of.written.fetch_add(some as u64, Ordering::Relaxed);
            return;
        }
        let n = rows.len() / width;
        assert!(rows.len() == n * width, "whole rows");
        match width {
            1 => self.copy::<1>(column, first, rows),
            2 => self.copy::<2>(column, first, rows),
            4 => self.copy::<4>(column, first, rows),
            8 => self.copy::<8>(column, first, rows),
            _ => self.each(column, first, n, |i, to| {
                let from = &rows[i * width..(i + 1) * width];
                // SAFETY: `to` is good for `width` bytes, see `each`, and no part of `rows`.
                unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to, width) };
            }),
        }
    }

    fn copy<const N: usize>(&mut self, column: usize, first: usize, rows: &[u8]) {
        let (rows, _) = rows.as_chunks::<N>();
        self.each(column, first, rows.len(), |i, to| {
            // SAFETY: `to` is good for N bytes, see `each`; bytes need no alignment.
            unsafe { to.cast::<[u8; N]>().write(rows[i]) };
        });
    }

    /// Calls `f` with the number of every one of `n` rows that has a position, and where its `widths[column]` bytes are.
    fn each(&mut self, column: usize, first: usize, n: usize, f: impl Fn(usize, *mut u8)) {
        let Batches { widths, size, blocks, written, .. } = &*self.of;
        let (width, columns) = (widths[column], widths.len());
        let mut count = 0;
        for (i, &p) in self.position[first..first + n].iter().enumerate() {
            if p != NOWHERE {
                let block = &blocks[p as usize / size * columns + column];
                let start = p as usize % size * width;
                assert!(start + width <= block.bytes, "positions lie in their batches");
                // SAFETY: inside the block, by the line above. Nobody else reads or writes these bytes: the position is in this
                // part alone (`Batches::divide`), which is borrowed mutably, and blocks are read when no part is left.
                f(i, unsafe { block.start().add(start) });
                count += 1;
            }
        }
        written.fetch_add(count, Ordering::Relaxed);
    }
}

/// Rows of `width` > 0 bytes at `positions` of `from`, side by side. O(bytes).
pub fn gather(from: &[u8], width: usize, positions: impl Iterator<Item = usize>, into: &mut [u8]) {
    into.chunks_exact_mut(width)
        .zip(positions)
        .for_each(|(to, p)| to.copy_from_slice(&from[p * width..(p + 1) * width]));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(width: usize, slots: std::ops::Range<usize>) -> Vec<u8> {
        slots.flat_map(|slot| std::iter::repeat_n(slot as u8, width)).collect()
    }

    #[test]
    fn threads_fill_batches() {
        let (pool, widths) = (Arc::new(Pool::default()), vec![4, 24, 1, 2, 8]);
        for round in 0..3 {
            // 50 rows in batches of 8, of 100 slots in four parts: position p has the row in slot (37 p + round) mod 100.
            let slot = |p: usize| (37 * p + round) % 100;
            let batches = Batches::new(&pool, widths.clone(), 8, 50);
            let (all, parts) = batches.divide(&[25; 4], (0..50).map(|p| Some((slot(p) / 25, slot(p) % 25))));
            std::thread::scope(|scope| {
                for (number, mut part) in parts.into_iter().enumerate() {
                    let widths = &widths;
                    scope.spawn(move || {
                        for (column, &width) in widths.iter().enumerate() {
                            for start in (0..25).step_by(10) {
                                let end = (start + 10).min(25);
                                part.write(
                                    column,
                                    start,
                                    &rows(width, number * 25 + start..number * 25 + end),
                                );
                            }
                        }
                    });
                }
            });
            let done = all.finish().expect("all parts are gone and all rows are there");
            assert_eq!(done.len(), 7);
            for (batch, blocks) in done.iter().enumerate() {
                let positions = batch * 8..(batch * 8 + 8).min(50);
                for (block, &width) in blocks.iter().zip(&widths) {
                    let expected: Vec<u8> =
                        positions.clone().flat_map(|p| std::iter::repeat_n(slot(p) as u8, width)).collect();
                    assert_eq!(block.as_bytes(), expected);
                }
            }
        }
        let free: usize = pool.free.lock().unwrap().values().map(Vec::len).sum();
        assert_eq!(free, 7 * 5, "memory is used again");
    }

    #[test]
    fn nothing_is_handed_out_that_was_not_written() {
        let pool = Arc::new(Pool::default());
        let (all, mut parts) = Batches::new(&pool, vec![4], 2, 3).divide(&[3], (0..3).map(|p| Some((0, p))));
        parts[0].write(0, 0, &[1; 8]);
        assert!(all.clone().finish().is_none(), "a part is left");
        drop(parts);
        assert!(all.finish().is_none(), "a row is missing");
    }
}
