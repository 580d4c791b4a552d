//! A round on its way from the files to batches: the units that it opens, and where each of their rows goes.
//!
//! A unit is read once. Its rows go straight to their positions in the batches of the round; those of a later round, which a
//! unit that is cut between two of them has, wait in a [`Leftover`] until that round is opened.

use std::sync::{Arc, Mutex, OnceLock};

use arrow_array::{Array, ArrayRef};
use arrow_select::interleave::interleave;

use super::{Nulls, Values};
use crate::kernels::scatter::{Batches, Block, NOWHERE, Part, Pool};
use crate::kit::error::{Error, Result};
use crate::source::{Arrays, Form, Gap, Sink};

/// Where the columns of [`Arrays`] lie in [`Batches`].
pub(super) struct Shape {
    pub arrays: Arrays,
    /// Bytes of a row of each column of the batches.
    pub widths: Vec<usize>,
    slots: Vec<Slot>,
    /// The column that says in which unit a row is and where there; None: all columns are numbers.
    origin: Option<usize>,
}

#[derive(Clone, Copy)]
enum Slot {
    /// Their column, and the one that says which of them there are.
    Numbers(usize, Option<usize>),
    /// Its number among the Arrow columns.
    Arrow(usize),
}

impl Shape {
    pub fn new(arrays: Arrays, nulls: Nulls) -> Shape {
        let (mut widths, mut slots, mut arrow) = (Vec::new(), Vec::new(), 0);
        let mut add = |width: usize| {
            widths.push(width);
            widths.len() - 1
        };
        for column in arrays.columns() {
            slots.push(match column.form.width() {
                Some(width) => {
                    let masked = nulls == Nulls::Mask && column.nullable;
                    Slot::Numbers(add(width), masked.then(|| add(1)))
                }
                None => {
                    arrow += 1;
                    Slot::Arrow(arrow - 1)
                }
            });
        }
        let origin = (arrow > 0).then(|| add(size_of::<u64>()));
        Shape { arrays, widths, slots, origin }
    }

    pub fn has_arrow(&self) -> bool {
        self.origin.is_some()
    }

    fn error(&self, row: u64, column: usize, reason: &str) -> Error {
        let (path, offset) = self.arrays.dataset().describe_row(row);
        let column = &self.arrays.columns()[column];
        let help = match &column.form {
            _ if reason.ends_with("null") || reason.contains("null at") => {
                "read the column with nulls=\"mask\", leave such rows out with --where, or fill them"
            }
            Form::Numbers { dims: Some(_), .. } => "name the column in `ragged` to read its rows as lists",
            _ => "leave the column out",
        };
        Error::input(path, reason, help).column(&column.name).row(offset)
    }
}

/// The rows of a unit that no round has taken yet.
pub(super) struct Leftover {
    /// Where the row of each slot of the unit is among those kept, or [`NOWHERE`].
    index: Vec<u32>,
    columns: Vec<Vec<u8>>,
    /// (column, slot, reason) of cells that are no numbers.
    gaps: Vec<(usize, usize, String)>,
    arrays: Vec<ArrayRef>,
}

/// Set once the unit has been read; None: it could not be.
pub(super) type Kept = Arc<OnceLock<Option<Leftover>>>;

/// A unit to be read for a round.
pub(super) struct Task {
    pub first_row: u64,
    pub part: Mutex<Option<Part>>,
    /// An earlier round has read it, or is about to.
    pub from: Option<Kept>,
    /// Where to put what later rounds need.
    pub keep: Option<Kept>,
}

pub(super) struct Round {
    pub epoch: u32,
    /// Number of the first batch.
    pub first: u64,
    /// Global row at each position.
    pub rows: Vec<u64>,
    /// Rows of a batch, but for the last.
    pub size: usize,
    pub bytes: u64,
    pub tasks: Vec<Task>,
    batches: Mutex<Option<Arc<Batches>>>,
    /// Arrow columns of each unit.
    arrays: Vec<OnceLock<Vec<ArrayRef>>>,
    /// The blocks of each batch, once all units have been read.
    blocks: OnceLock<Vec<Mutex<Option<Vec<Block>>>>>,
    pub ready: Mutex<Vec<Option<Vec<Values>>>>,
}

impl Round {
    /// `units`: first row, rows, and what goes to and comes from other rounds. `slots`: unit and row in it of each position.
    pub fn new(
        shape: &Shape,
        pool: &Arc<Pool>,
        (epoch, first, size): (u32, u64, usize),
        rows: Vec<u64>,
        positions: usize,
        units: Vec<(u64, usize, Option<Kept>, Option<Kept>)>,
        slots: impl Iterator<Item = Option<(usize, usize)>>,
    ) -> Round {
        let batches = Batches::new(pool, shape.widths.clone(), size, positions);
        let lengths: Vec<usize> = units.iter().map(|unit| unit.1).collect();
        let (batches, parts) = batches.divide(&lengths, slots);
        let task = |((first_row, _, from, keep), part)| {
            let part = Mutex::new(Some(part));
            Task { first_row, part, from, keep }
        };
        let tasks: Vec<Task> = units.into_iter().zip(parts).map(task).collect();
        let number = positions.div_ceil(size);
        Round {
            epoch,
            first,
            rows,
            size,
            bytes: Batches::bytes(&shape.widths, positions as u64),
            arrays: tasks.iter().map(|_| OnceLock::new()).collect(),
            tasks,
            batches: Mutex::new(Some(batches)),
            blocks: OnceLock::new(),
            ready: Mutex::new((0..number).map(|_| None).collect()),
        }
    }

    /// Number of batches.
    pub fn len(&self) -> usize {
        self.ready.lock().expect("nobody panics with the lock").len()
    }

    /// Reads a unit, or takes what an earlier round has left of it.
    pub fn read(&self, shape: &Shape, number: usize) -> Result<()> {
        let task = &self.tasks[number];
        let part = task.part.lock().expect("nobody panics with the lock").take();
        let mut part = part.expect("a unit is read once");
        if let Some(origin) = shape.origin {
            let of: Vec<u8> = (0..part.slots() as u64)
                .flat_map(|slot| ((number as u64) << 32 | slot).to_ne_bytes())
                .collect();
            part.write(origin, 0, &of);
        }
        let arrays = match &task.from {
            Some(kept) => match kept.wait() {
                Some(leftover) => leftover.fill(shape, &mut part, task.first_row)?,
                None => return Err(Error::Interrupted),
            },
            None => {
                let done = Filling::read(shape, &mut part, task);
                if let (Some(keep), Err(_)) = (&task.keep, &done) {
                    drop(keep.set(None));
                }
                done?
            }
        };
        drop(self.arrays[number].set(arrays));
        Ok(())
    }

    /// After the last unit: false if a row is missing.
    pub fn close(&self, shape: &Shape) -> bool {
        let batches = self.batches.lock().expect("nobody panics with the lock").take();
        let Some(blocks) = batches.and_then(Batches::finish) else { return false };
        if shape.origin.is_none() {
            let mut ready = self.ready.lock().expect("nobody panics with the lock");
            for (to, blocks) in ready.iter_mut().zip(blocks) {
                *to = Some(shape.values(blocks, &[]));
            }
            return true;
        }
        let blocks = blocks.into_iter().map(|of| Mutex::new(Some(of))).collect();
        self.blocks.set(blocks).is_ok()
    }

    /// Brings the Arrow columns of a batch into order.
    pub fn assemble(&self, shape: &Shape, batch: usize) -> Result<()> {
        let blocks = self.blocks.get().expect("all units have been read");
        let blocks = blocks[batch].lock().expect("nobody panics with the lock").take();
        let blocks = blocks.expect("a batch is assembled once");
        let origin = shape.origin.expect("there are Arrow columns");
        let (words, _) = blocks[origin].as_bytes().as_chunks::<8>();
        let of: Vec<(usize, usize)> = words.iter().map(|&word| unpacked(word)).collect();
        let arrays = self.gather(shape, &of)?;
        let values = shape.values(blocks, &arrays);
        self.ready.lock().expect("nobody panics with the lock")[batch] = Some(values);
        Ok(())
    }

    /// Cells of the Arrow columns by unit and row in it.
    fn gather(&self, shape: &Shape, of: &[(usize, usize)]) -> Result<Vec<ArrayRef>> {
        let units: Vec<&Vec<ArrayRef>> =
            self.arrays.iter().map(|of| of.get().expect("all units have been read")).collect();
        let columns = shape.arrays.columns().iter().filter(|column| column.form.width().is_none());
        columns
            .enumerate()
            .map(|(i, column)| {
                let parts: Vec<&dyn Array> = units.iter().map(|arrays| arrays[i].as_ref()).collect();
                gathered(&parts, of, &column.name)
            })
            .collect()
    }

    /// The rows of a global plan, all of which are in the one round; `rows` are positions.
    pub fn resident(&self) -> Option<Resident> {
        let batches = self.batches.lock().expect("nobody panics with the lock").take()?;
        let blocks = batches.finish()?.into_iter().next().unwrap_or_default();
        let arrays = self.arrays.iter().filter_map(|of| of.get().cloned()).collect();
        Some(Resident { blocks, arrays })
    }
}

fn unpacked(word: [u8; 8]) -> (usize, usize) {
    let word = u64::from_ne_bytes(word);
    ((word >> 32) as usize, word as u32 as usize)
}

/// Cells of several arrays by (array, index).
pub(super) fn gathered(parts: &[&dyn Array], of: &[(usize, usize)], column: &str) -> Result<ArrayRef> {
    interleave(parts, of).map_err(|e| {
        let reason =
            format!("a batch of {} rows of column `{column}` is too large for one array: {e}", of.len());
        Error::config("batch_size", reason, "choose smaller batches, or leave the column out")
    })
}

impl Shape {
    fn values(&self, blocks: Vec<Block>, arrays: &[ArrayRef]) -> Vec<Values> {
        let mut blocks: Vec<Option<Block>> = blocks.into_iter().map(Some).collect();
        let mut take = |at: usize| blocks[at].take().expect("each column has its own");
        (self.slots.iter())
            .map(|slot| match *slot {
                Slot::Numbers(at, valid) => Values::Numbers { bytes: take(at), valid: valid.map(&mut take) },
                Slot::Arrow(i) => Values::Arrow(arrays[i].clone()),
            })
            .collect()
    }
}

/// All rows of the dataset, in memory.
pub(super) struct Resident {
    blocks: Vec<Block>,
    arrays: Vec<Vec<ArrayRef>>,
}

impl Resident {
    /// Rows by their numbers.
    pub fn gather(&self, shape: &Shape, pool: &Arc<Pool>, rows: &[u64]) -> Result<Vec<Values>> {
        let block = |at: usize| {
            let width = shape.widths[at];
            let mut out = Block::zeros(pool, width * rows.len());
            let positions = rows.iter().map(|&row| row as usize);
            if width > 0 {
                crate::kernels::scatter::gather(
                    self.blocks[at].as_bytes(),
                    width,
                    positions,
                    out.as_bytes_mut(),
                );
            }
            out
        };
        let of: Vec<(usize, usize)> = match shape.origin {
            Some(at) => block(at).as_bytes().as_chunks::<8>().0.iter().map(|&word| unpacked(word)).collect(),
            None => Vec::new(),
        };
        (shape.slots.iter().zip(shape.arrays.columns()))
            .map(|(slot, column)| match *slot {
                Slot::Numbers(at, valid) => Ok(Values::Numbers { bytes: block(at), valid: valid.map(block) }),
                Slot::Arrow(i) => {
                    let parts: Vec<&dyn Array> = self.arrays.iter().map(|of| of[i].as_ref()).collect();
                    Ok(Values::Arrow(gathered(&parts, &of, &column.name)?))
                }
            })
            .collect()
    }
}

/// A unit while it is read.
struct Filling<'a> {
    shape: &'a Shape,
    part: &'a mut Part,
    first_row: u64,
    left: Option<Leftover>,
    arrays: Vec<ArrayRef>,
}

impl<'a> Filling<'a> {
    fn read(shape: &'a Shape, part: &'a mut Part, task: &Task) -> Result<Vec<ArrayRef>> {
        let slots = part.slots();
        let left = task.keep.as_ref().map(|_| Leftover::new(shape, part));
        let mut filling = Filling { shape, part, first_row: task.first_row, left, arrays: Vec::new() };
        shape.arrays.read(task.first_row..task.first_row + slots as u64, &mut filling)?;
        if let (Some(keep), Some(mut left)) = (&task.keep, filling.left) {
            left.arrays.clone_from(&filling.arrays);
            drop(keep.set(Some(left)));
        }
        Ok(filling.arrays)
    }

    fn column(&mut self, at: usize, slot: usize, rows: &[u8]) {
        self.part.write(at, slot, rows);
        if let Some(left) = &mut self.left {
            left.add(at, self.shape.widths[at], slot, rows);
        }
    }
}

impl Sink for Filling<'_> {
    fn numbers(&mut self, column: usize, first: u64, rows: &[u8], gaps: &[Gap]) -> Result<()> {
        let Slot::Numbers(at, valid) = self.shape.slots[column] else { unreachable!("numbers have a width") };
        let slot = (first - self.first_row) as usize;
        if let Some(valid) = valid {
            let mut there = vec![1; rows.len() / self.shape.widths[at]];
            gaps.iter().for_each(|gap| there[gap.0] = 0);
            self.column(valid, slot, &there);
        } else {
            if let Some((i, reason)) = gaps.iter().find(|gap| self.part.wants(slot + gap.0)) {
                return Err(self.shape.error(first + *i as u64, column, reason));
            }
            if let Some(left) = &mut self.left {
                left.gaps.extend(gaps.iter().map(|(i, reason)| (column, slot + i, reason.clone())));
            }
        }
        // Under a mask a row of another length is no null, but an error.
        let other = |gap: &&Gap| self.part.wants(slot + gap.0) && !gap.1.contains("null");
        if let Some((i, reason)) = gaps.iter().find(other) {
            return Err(self.shape.error(first + *i as u64, column, reason));
        }
        self.column(at, slot, rows);
        Ok(())
    }

    fn array(&mut self, _: usize, rows: ArrayRef) -> Result<()> {
        self.arrays.push(rows);
        Ok(())
    }
}

impl Leftover {
    /// For the rows that the part has no position for.
    fn new(shape: &Shape, part: &Part) -> Leftover {
        let mut kept = 0;
        let of = |slot| {
            if part.wants(slot) {
                return NOWHERE;
            }
            kept += 1;
            kept - 1
        };
        let index = (0..part.slots()).map(of).collect();
        let columns = shape.widths.iter().map(|width| vec![0; width * kept as usize]).collect();
        Leftover { index, columns, gaps: Vec::new(), arrays: Vec::new() }
    }

    fn add(&mut self, at: usize, width: usize, slot: usize, rows: &[u8]) {
        if width == 0 {
            return;
        }
        for (row, &i) in rows.chunks_exact(width).zip(&self.index[slot..]) {
            if i != NOWHERE {
                self.columns[at][i as usize * width..][..width].copy_from_slice(row);
            }
        }
    }

    fn fill(&self, shape: &Shape, part: &mut Part, first_row: u64) -> Result<Vec<ArrayRef>> {
        if let Some((column, slot, reason)) = self.gaps.iter().find(|gap| part.wants(gap.1)) {
            return Err(shape.error(first_row + *slot as u64, *column, reason));
        }
        for (at, &width) in shape.widths.iter().enumerate().filter(|(at, _)| Some(*at) != shape.origin) {
            for (slot, &i) in self.index.iter().enumerate() {
                if part.wants(slot) {
                    part.write(at, slot, &self.columns[at][i as usize * width..][..width]);
                }
            }
        }
        Ok(self.arrays.clone())
    }
}
