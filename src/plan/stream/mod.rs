//! The rows of a plan's batches, read from the data in the order of the plan by threads of its own.
//!
//! A plan in the local order is read round by round: each unit once, its rows straight to their positions in the batches, while
//! the batches of the round before are handed out ([`round`], [`crew`]). A plan in the global order is read once, into memory, and
//! every batch is gathered from there.

mod round;
mod crew;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use arrow_array::{Array, ArrayRef};
use arrow_schema::Schema;

use self::crew::{Crew, Order};
use self::round::{Resident, Shape, gathered};
use super::dealt::{Dealer, Dealt};
use super::reader::Plan;
use crate::batches::batch;
use crate::kernels::scatter::{Block, Pool};
use crate::kit::error::{Error, Result};
use crate::source::{ArrayColumn, Arrays, Dataset};

/// What a stream reads, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// In this order; none named: all.
    pub columns: Vec<String>,
    /// Columns of lists that are no vectors though their numbers could be.
    pub ragged: Vec<String>,
    pub rank: u64,
    pub world_size: u64,
    /// The first batch: of which epoch, and which of its batches of the smallest size.
    pub epoch: u32,
    pub batch: u64,
    /// How many epochs from there, the first one included; None: without end.
    pub epochs: Option<u32>,
    /// Threads that read; 0: as many as there are cores.
    pub threads: usize,
    /// Bytes of rows that are read ahead; None: what two rounds take.
    pub memory: Option<u64>,
    pub nulls: Nulls,
    /// Is the last batch of an epoch left out if it is short?
    pub drop_last: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            columns: Vec::new(),
            ragged: Vec::new(),
            rank: 0,
            world_size: 1,
            epoch: 0,
            batch: 0,
            epochs: None,
            threads: 0,
            memory: None,
            nulls: Nulls::Error,
            drop_last: false,
        }
    }
}

/// What is done about a null among numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Nulls {
    /// Reading ends with an error that names the row.
    #[default]
    Error,
    /// The number is 0, and a mask says that it is none.
    Mask,
}

/// Rows of one column of a batch.
#[derive(Debug)]
pub enum Values {
    /// Side by side as [`Form::Numbers`](crate::source::Form) says, and of columns that may have nulls under [`Nulls::Mask`] a byte a row: 0 where
    /// there is none.
    Numbers {
        bytes: Block,
        valid: Option<Block>,
    },
    Arrow(ArrayRef),
}

impl Values {
    fn numbers(&self) -> Option<(&Block, Option<&Block>)> {
        match self {
            Values::Numbers { bytes, valid } => Some((bytes, valid.as_ref())),
            Values::Arrow(_) => None,
        }
    }
}

/// One rank's rows of a batch.
#[derive(Debug)]
pub struct Batch {
    pub epoch: u32,
    /// Number in its epoch of the first batch of the smallest size that is in it.
    pub first: u64,
    /// Global row numbers.
    pub rows: Vec<u64>,
    /// In the order of the columns.
    pub columns: Vec<Values>,
}

/// What [`Stream::poll`] found.
#[derive(Debug)]
pub enum Next {
    Batch(Batch),
    End,
    /// The batch is not ready yet.
    Waiting,
}

/// One rank's rows of batch after batch, epoch after epoch. Threads read ahead from the moment that it is made, and end when it
/// is dropped.
pub struct Stream {
    crew: Crew,
    /// Batches of the smallest size that have been read, in order, with their place.
    ready: VecDeque<Batch>,
    resident: Option<Resident>,
    /// The place of the next batch.
    epoch: u32,
    batch: u64,
    /// The dealings of the epoch that were asked for, by size.
    dealt: HashMap<u64, Dealt>,
    dealing: batch::Batch,
}

impl Plan {
    /// The rows of the plan's batches, see [`Stream`]. Reads the columns' footers, and pages of those without a fixed width.
    ///
    /// # Errors
    /// If the data are not the plan's, a column cannot be read, ranks do not fit the local order ([`Plan::check_world_size`]), or
    /// the memory holds no round, or of a plan in the global order not all rows.
    pub fn stream(self: &Arc<Self>, data: &Dataset, options: &Options) -> Result<Stream> {
        Stream::new(&Dealer::new(self.clone())?, data, options)
    }
}

impl Stream {
    /// See [`Plan::stream`].
    pub fn new(dealer: &Dealer, data: &Dataset, options: &Options) -> Result<Stream> {
        let plan = dealer.plan();
        if options.rank >= options.world_size {
            let reason = format!("rank {} of {}", options.rank, options.world_size);
            return Err(Error::config("rank", reason, "ranks count from 0 to world_size - 1"));
        }
        plan.check_world_size(options.world_size)?;
        plan.check_dataset(data, false)?;
        plan.check_footers(data)?;
        let arrays = data.arrays(&options.columns, &options.ragged)?;
        let row_bytes = arrays.row_bytes()?;
        let shape = Shape::new(arrays, options.nulls);
        let order = Order::new(dealer, options, &shape, row_bytes)?;
        let crew = Crew::start(dealer.clone(), shape, order, options)?;
        let (ready, resident, dealt, dealing) = Default::default();
        Ok(Stream { crew, ready, resident, epoch: options.epoch, batch: options.batch, dealt, dealing })
    }

    pub fn columns(&self) -> &Arrays {
        &self.crew.shape().arrays
    }

    pub fn schema(&self) -> Schema {
        self.columns().schema()
    }

    /// Bytes of rows that are read ahead at most.
    pub fn memory(&self) -> u64 {
        self.crew.order().memory
    }

    /// The next batch of `k` batches of the smallest size; None: the last epoch has ended. Waits until it is there.
    pub fn next(&mut self, k: u64) -> Result<Option<Batch>> {
        loop {
            match self.poll(k, Duration::from_secs(3600))? {
                Next::Batch(batch) => return Ok(Some(batch)),
                Next::End => return Ok(None),
                Next::Waiting => {}
            }
        }
    }

    /// [`Stream::next`], which waits for `patience` at most.
    pub fn poll(&mut self, k: u64, patience: Duration) -> Result<Next> {
        assert!(k > 0, "a batch has rows");
        if self.crew.order().streams.is_none() {
            return self.poll_resident(k, patience);
        }
        loop {
            if let Some(front) = self.ready.front() {
                let (epoch, first) = (front.epoch, front.first);
                let whole = self.ready.iter().take_while(|batch| batch.epoch == epoch).count() as u64;
                let left = self.crew.order().batches - first;
                if whole >= k.min(left) {
                    return self.joined(k.min(left) as usize, k).map(Next::Batch);
                }
            }
            match self.crew.next_round(patience)? {
                crew::Taken::Waiting => return Ok(Next::Waiting),
                crew::Taken::End => return Ok(Next::End),
                crew::Taken::Round(round) => {
                    let mut rows = &round.rows[..];
                    let values =
                        std::mem::take(&mut *round.ready.lock().expect("nobody panics with the lock"));
                    for (i, columns) in (0..).zip(values) {
                        let (of, rest) = rows.split_at(round.size.min(rows.len()));
                        rows = rest;
                        let columns = columns.expect("the round is whole");
                        let (epoch, first) = (round.epoch, round.first + i);
                        self.ready.push_back(Batch { epoch, first, rows: of.to_vec(), columns });
                    }
                    self.crew.hold(round.bytes, self.ready.len() as u64);
                }
            }
        }
    }

    /// The first `n` batches that are ready as one of `k` times the smallest size.
    fn joined(&mut self, n: usize, k: u64) -> Result<Batch> {
        self.crew.release(n as u64);
        if k == 1 {
            return Ok(self.ready.pop_front().expect("one is ready"));
        }
        let parts: Vec<Batch> = self.ready.drain(..n).collect();
        let Batch { epoch, first, .. } = parts[0];
        let streams = self.crew.order().streams.clone().expect("a plan in the local order has streams");
        let dealt = self.dealt(epoch, k);
        let order = dealt.epoch().local().expect("it is dealt in the local order");
        order.run_of(streams, first / k..first / k + 1, k, &mut self.dealing);
        let rows = self.dealing.rows.clone();
        let mut at: HashMap<u64, (usize, usize)> = HashMap::with_capacity(rows.len());
        for (part, batch) in parts.iter().enumerate() {
            at.extend(batch.rows.iter().enumerate().map(|(i, &row)| (row, (part, i))));
        }
        let of: Vec<(usize, usize)> = rows.iter().map(|row| at[row]).collect();
        let shape = self.crew.shape();
        let columns = (0..shape.arrays.columns().len())
            .map(|column| {
                let of_parts: Vec<&Values> = parts.iter().map(|batch| &batch.columns[column]).collect();
                union(&of_parts, &of, &shape.arrays.columns()[column], self.crew.pool())
            })
            .collect::<Result<_>>()?;
        Ok(Batch { epoch, first, rows, columns })
    }

    fn dealt(&mut self, epoch: u32, k: u64) -> Dealt {
        if self.epoch != epoch {
            self.epoch = epoch;
            self.dealt.clear();
        }
        let dealer = self.crew.dealer();
        let size = dealer.epochs().base * k;
        self.dealt.entry(k).or_insert_with(|| dealer.epoch(epoch, size)).clone()
    }

    /// A batch of a plan in the global order.
    fn poll_resident(&mut self, k: u64, patience: Duration) -> Result<Next> {
        if self.resident.is_none() {
            match self.crew.next_round(patience)? {
                crew::Taken::Waiting => return Ok(Next::Waiting),
                crew::Taken::End => return Ok(Next::End),
                crew::Taken::Round(round) => {
                    self.resident = Some(round.resident().expect("the round is whole"));
                }
            }
        }
        let order = self.crew.order();
        if self.batch >= order.batches {
            (self.epoch, self.batch) = (self.epoch + 1, 0);
            self.dealt.clear();
        }
        if order.last.is_some_and(|last| self.epoch >= last) || order.batches == 0 {
            return Ok(Next::End);
        }
        let (epoch, first, rank) = (self.epoch, self.batch, order.ranks);
        let dealt = self.dealt(epoch, k);
        dealt.epoch().run(first / k..first / k + 1, &mut self.dealing);
        let rows = &self.dealing.rows;
        let slice = rows.len() as u64 * rank.0 / rank.1..rows.len() as u64 * (rank.0 + 1) / rank.1;
        let rows = rows[slice.start as usize..slice.end as usize].to_vec();
        let resident = self.resident.as_ref().expect("it has just been read");
        let columns = resident.gather(self.crew.shape(), self.crew.pool(), &rows)?;
        self.batch += k;
        Ok(Next::Batch(Batch { epoch, first, rows, columns }))
    }
}

/// Rows of one column by (part, row in it).
fn union(parts: &[&Values], of: &[(usize, usize)], column: &ArrayColumn, pool: &Arc<Pool>) -> Result<Values> {
    let copy = |width: usize, blocks: Option<Vec<&Block>>| {
        let blocks = blocks?;
        let mut out = Block::zeros(pool, width * of.len());
        for (to, &(part, i)) in out.as_bytes_mut().chunks_exact_mut(width).zip(of) {
            to.copy_from_slice(&blocks[part].as_bytes()[i * width..(i + 1) * width]);
        }
        Some(out)
    };
    if let (Some(width), Some(all)) = (
        column.form.width(),
        parts.iter().map(|values| values.numbers()).collect::<Option<Vec<(&Block, Option<&Block>)>>>(),
    ) {
        let bytes = copy(width, Some(all.iter().map(|of| of.0).collect())).expect("there are blocks");
        return Ok(Values::Numbers { bytes, valid: copy(1, all.iter().map(|of| of.1).collect()) });
    }
    let arrays: Vec<&dyn Array> = parts
        .iter()
        .filter_map(|values| match values {
            Values::Arrow(array) => Some(array.as_ref()),
            Values::Numbers { .. } => None,
        })
        .collect();
    Ok(Values::Arrow(gathered(&arrays, of, &column.name)?))
}
