//! The threads of a stream. Each takes the next unit of the earliest round that has one; where there is none, and the memory
//! allows it, it opens the next round.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Options;
use super::round::{Kept, Round, Shape};
use crate::batches::batch;
use crate::batches::local::LocalDeal;
use crate::batches::units::RowStrata;
use crate::kernels::scatter::{Batches, Pool};
use crate::kit::error::{Error, Result};
use crate::kit::guard::guarded;
use crate::kit::ids::NONE;
use crate::kit::text::bytes;
use crate::plan::dealt::{Dealer, Dealt};

/// Rows that are read at a time of a plan in the global order.
const STRETCH: u64 = 16 << 10;

/// What is read, in which order, with how much memory.
pub(super) struct Order {
    /// Of the rank; None: the plan is in the global order.
    pub streams: Option<Range<usize>>,
    /// Rank and number of ranks.
    pub ranks: (u64, u64),
    /// Batches of the smallest size in an epoch that are read.
    pub batches: u64,
    /// The epoch that is not read any more.
    pub last: Option<u32>,
    /// Bytes of rows that are read ahead at most.
    pub memory: u64,
    /// Bytes of a row in Arrow columns, about.
    arrow_bytes: u64,
    /// Epoch and batch that is read first.
    begin: (u32, u64),
}

impl Order {
    pub fn new(dealer: &Dealer, options: &Options, shape: &Shape, row_bytes: u64) -> Result<Order> {
        let epochs = dealer.epochs();
        let (rank, world_size) = (options.rank, options.world_size);
        let epoch = epochs.epoch(options.epoch, epochs.base);
        let planned: u64 = epochs.draws.map_or(epochs.members.len() as u64, |draws| draws.iter().sum());
        let rest = planned % epochs.base;
        // A rank without rows would have to wait for the others.
        let left_out = rest > 0 && !epochs.drop_last && (options.drop_last || rest < world_size);
        let batches = epoch.len() - u64::from(left_out);
        if options.batch > batches {
            let reason = format!("batch {} of an epoch of {batches}", options.batch);
            return Err(Error::config("batch", reason, "resume with a state of this plan"));
        }
        let numbers = Batches::bytes(&shape.widths, 1);
        let arrow_bytes = row_bytes.saturating_sub(numbers);
        let threads = threads(options) as u64;
        let (streams, least, two) = match epoch.local() {
            Some(local) => {
                let all = dealer.plan().reading()?.map_or(1, |reading| reading.streams);
                let streams = (all * rank / world_size) as usize..(all * (rank + 1) / world_size) as usize;
                let rounds = local.rounds();
                let largest = (0..rounds.number()).map(|t| rounds.batches(t)).max().unwrap_or(0);
                let round = ((largest * epochs.base + rest) / world_size + 1) * (numbers + arrow_bytes);
                let unit = dealer
                    .plan()
                    .units()?
                    .map_or(0, |(units, _)| units.rows.iter().copied().max().unwrap_or(0));
                let units = threads * u64::from(unit) * (numbers + arrow_bytes);
                (Some(streams), round + units, 2 * round + units)
            }
            None => {
                let all = dealer.plan().manifest().rows * (numbers + arrow_bytes);
                (None, all, all)
            }
        };
        let memory = options.memory.unwrap_or(if streams.is_some() {
            two
        } else {
            crate::config::Run::default().memory
        });
        if memory < least {
            return Err(too_small(streams.is_some(), memory, least));
        }
        let last = options.epochs.map(|n| options.epoch.saturating_add(n));
        let begin = (options.epoch, options.batch);
        Ok(Order { streams, ranks: (rank, world_size), batches, last, memory, arrow_bytes, begin })
    }

    fn ends(&self, epoch: u32) -> bool {
        self.batches == 0 || self.last.is_some_and(|last| epoch >= last)
    }
}

fn too_small(local: bool, memory: u64, least: u64) -> Error {
    let (memory, least) = (bytes(memory), bytes(least));
    let help = format!("allow {least}, or read fewer columns");
    if local {
        let reason = format!("{memory} hold no round of the plan, which takes {least}");
        return Error::config("memory", reason, help + ", or plan with a smaller --window");
    }
    let reason = format!(
        "the rows of this plan take {least}, and {memory} are allowed: a plan in the global order is read into memory"
    );
    let others = "; else plan with `--locality local`, which reads at the speed of the disk, or write the rows in the order of the \
                  batches with `batchwright materialize`";
    Error::config("memory", reason, help + others)
}

fn threads(options: &Options) -> usize {
    match options.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        n => n,
    }
}

/// A round with what of it is to be done, is being done, and is done.
struct Open {
    round: Arc<Round>,
    /// Units that somebody has taken, and that have been read.
    taken: usize,
    read: usize,
    /// Batches of Arrow columns: those that somebody has taken, and that are in order.
    assembling: usize,
    assembled: usize,
    /// Units have been read, and blocks are the batches'.
    closed: bool,
    bytes: u64,
}

impl Open {
    fn is_ready(&self, arrow: bool) -> bool {
        self.closed && (!arrow || self.assembled == self.round.len())
    }
}

enum Work {
    Read(Arc<Round>, usize),
    Assemble(Arc<Round>, usize),
    OpenRound(u32, usize),
}

#[derive(Default)]
struct State {
    open: VecDeque<Open>,
    /// Of rounds that are being handed out: bytes of a batch, and batches.
    handing: (u64, u64),
    /// Epoch and round that is opened next; somebody is about it.
    next: Option<(u32, usize)>,
    opening: bool,
    kept: HashMap<u32, Kept>,
    failed: Option<Error>,
    stop: bool,
}

/// The dealing of an epoch, and of each unit that several rounds of the rank have, the last.
type EpochOfRank = (Dealt, Arc<BTreeMap<u32, usize>>);

struct Shared {
    dealer: Dealer,
    shape: Shape,
    order: Order,
    pool: Arc<Pool>,
    state: Mutex<State>,
    changed: Condvar,
    /// The one that was opened last.
    epoch: Mutex<Option<(u32, EpochOfRank)>>,
}

/// What [`Crew::next_round`] found.
pub(super) enum Taken {
    Round(Arc<Round>),
    End,
    Waiting,
}

pub(super) struct Crew {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Crew {
    pub fn start(dealer: Dealer, shape: Shape, order: Order, options: &Options) -> Result<Crew> {
        let (epoch, batch) = order.begin;
        let state = State { next: (!order.ends(epoch)).then_some((epoch, 0)), ..State::default() };
        let shared = Shared {
            dealer,
            shape,
            order,
            pool: Arc::default(),
            state: Mutex::new(state),
            changed: Condvar::new(),
            epoch: Mutex::new(None),
        };
        if shared.order.streams.is_some() && shared.state().next.is_some() {
            let next = if batch == shared.order.batches {
                Some((epoch + 1, 0)).filter(|next| !shared.order.ends(next.0))
            } else {
                let dealt = shared.dealt(epoch).0;
                let local = dealt.epoch().local().expect("it is dealt in the local order");
                let rounds = local.rounds();
                let full = *rounds.starts.last().unwrap_or(&0);
                Some((epoch, if batch >= full { rounds.number() - 1 } else { rounds.of(batch) }))
            };
            shared.state().next = next;
        }
        let mut crew = Crew { shared: Arc::new(shared), threads: Vec::new() };
        for _ in 0..threads(options) {
            let shared = crew.shared.clone();
            let thread = std::thread::Builder::new().name("batchwright-read".into());
            let started = thread.spawn(move || shared.work());
            crew.threads.push(started.map_err(|e| {
                let help = "allow the process more threads, or read with fewer";
                Error::config("threads", format!("a thread cannot be started: {e}"), help)
            })?);
        }
        Ok(crew)
    }

    pub fn shape(&self) -> &Shape {
        &self.shared.shape
    }

    pub fn order(&self) -> &Order {
        &self.shared.order
    }

    pub fn dealer(&self) -> &Dealer {
        &self.shared.dealer
    }

    pub fn pool(&self) -> &Arc<Pool> {
        &self.shared.pool
    }

    /// The next round, once it is ready. Waits for `patience` at most.
    pub fn next_round(&self, patience: Duration) -> Result<Taken> {
        let shared = &self.shared;
        let until = Instant::now() + patience;
        let mut state = shared.state();
        loop {
            if let Some(error) = state.failed.take() {
                state.stop = true;
                return Err(error);
            }
            if state.open.front().is_some_and(|open| open.is_ready(shared.assembles())) {
                let open = state.open.pop_front().expect("there is one");
                shared.changed.notify_all();
                return Ok(Taken::Round(open.round));
            }
            if state.stop || state.open.is_empty() && state.next.is_none() && !state.opening {
                return Ok(Taken::End);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Taken::Waiting);
            }
            state = shared.changed.wait_timeout(state, left).expect("nobody panics with the lock").0;
        }
    }

    /// A round is being handed out: `bytes` more in `batches` batches, which are all that have not been.
    pub fn hold(&self, bytes: u64, batches: u64) {
        let mut state = self.shared.state();
        let before = state.handing.0 * state.handing.1;
        state.handing = ((before + bytes).div_ceil(batches.max(1)), batches);
    }

    /// So many batches have been handed out.
    pub fn release(&self, batches: u64) {
        let mut state = self.shared.state();
        state.handing.1 = state.handing.1.saturating_sub(batches);
        self.shared.changed.notify_all();
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.shared.state().stop = true;
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with the lock")
    }

    /// Whether batches have columns to be brought into order when a round has been read.
    fn assembles(&self) -> bool {
        self.shape.has_arrow() && self.order.streams.is_some()
    }

    fn work(&self) {
        let mut dealing = batch::Batch::default();
        while let Some(work) = self.take() {
            let done = guarded(|| self.carry_out(&work, &mut dealing)).unwrap_or_else(|panic| {
                let help = "report this: reading must not end so";
                Err(Error::input(
                    self.shape.arrays.dataset().root(),
                    format!("cannot be read: {panic}"),
                    help,
                ))
            });
            // The round must have one owner when it is handed out.
            drop(work);
            if let Err(error) = done {
                let mut state = self.state();
                // What others find after the first error is of no interest.
                if state.failed.is_none() && !state.stop {
                    state.failed = Some(error);
                }
                state.stop = true;
            }
            self.changed.notify_all();
        }
    }

    /// The next thing to do; waits where there is nothing. None: all is done.
    fn take(&self) -> Option<Work> {
        let mut state = self.state();
        loop {
            if state.stop {
                return None;
            }
            for open in &mut state.open {
                if open.taken < open.round.tasks.len() {
                    open.taken += 1;
                    return Some(Work::Read(open.round.clone(), open.taken - 1));
                }
                if open.closed && self.assembles() && open.assembling < open.round.len() {
                    open.assembling += 1;
                    return Some(Work::Assemble(open.round.clone(), open.assembling - 1));
                }
            }
            if let Some((epoch, round)) = state.next
                && !state.opening
                && self.has_room(&state)
            {
                state.opening = true;
                return Some(Work::OpenRound(epoch, round));
            }
            state = self.changed.wait(state).expect("nobody panics with the lock");
        }
    }

    /// Whether another round fits beside those that are there: it takes as much as the largest of them.
    fn has_room(&self, state: &State) -> bool {
        let Some(largest) = state.open.iter().map(|open| open.bytes).max() else {
            // One at least is read while another one is handed out.
            return true;
        };
        let held: u64 = state.open.iter().map(|open| open.bytes).sum();
        held + state.handing.0 * state.handing.1 + largest <= self.order.memory
    }

    fn carry_out(&self, work: &Work, dealing: &mut batch::Batch) -> Result<()> {
        match work {
            Work::Read(round, unit) => {
                round.read(&self.shape, *unit)?;
                self.was_read(round)
            }
            Work::Assemble(round, batch) => {
                round.assemble(&self.shape, *batch)?;
                let mut state = self.state();
                find(&mut state.open, round).assembled += 1;
                Ok(())
            }
            Work::OpenRound(epoch, number) => {
                let (round, next) = match &self.order.streams {
                    Some(streams) => self.open_local(*epoch, *number, streams, dealing),
                    None => (self.open_all()?, None),
                };
                let bytes = round.bytes + self.order.arrow_bytes * round.rows.len() as u64;
                let empty = round.tasks.is_empty();
                let open = Open {
                    round: Arc::new(round),
                    taken: 0,
                    read: 0,
                    assembling: 0,
                    assembled: 0,
                    closed: empty,
                    bytes,
                };
                let mut state = self.state();
                (state.next, state.opening) = (next, false);
                // A round without rows is none.
                if !empty {
                    state.open.push_back(open);
                }
                Ok(())
            }
        }
    }

    /// A unit has been read; the last one closes the round.
    fn was_read(&self, round: &Arc<Round>) -> Result<()> {
        let last = {
            let mut state = self.state();
            let open = find(&mut state.open, round);
            open.read += 1;
            open.read == round.tasks.len()
        };
        if last && self.order.streams.is_some() && !round.close(&self.shape) {
            let help = "the data have changed while they were read, or the plan is damaged (`batchwright check` tells which)";
            let reason =
                format!("epoch {}: a row of the batches from {} on was not read", round.epoch, round.first);
            return Err(Error::input(self.shape.arrays.dataset().root(), reason, help));
        }
        if last {
            find(&mut self.state().open, round).closed = true;
        }
        Ok(())
    }

    /// The dealing of an epoch, and the last round of each unit that several rounds of the rank have.
    fn dealt(&self, epoch: u32) -> EpochOfRank {
        let mut held = self.epoch.lock().expect("nobody panics with the lock");
        if let Some((_, of_rank)) = held.as_ref().filter(|held| held.0 == epoch) {
            return of_rank.clone();
        }
        let dealt = self.dealer.epoch(epoch, self.dealer.epochs().base);
        let mut last = BTreeMap::new();
        if let (Some(local), Some(streams)) = (dealt.epoch().local(), self.order.streams.clone()) {
            let rounds = local.rounds();
            for stream in streams {
                for round in 0..rounds.number() {
                    for piece in rounds.pieces(stream, round).iter().filter(|p| rounds.cuts(p.unit).len() > 1)
                    {
                        let last = last.entry(piece.unit).or_insert(round);
                        *last = round.max(*last);
                    }
                }
            }
        }
        let of_rank = (dealt, Arc::new(last));
        *held = Some((epoch, of_rank.clone()));
        of_rank
    }

    /// A round of a plan in the local order, and what comes after it.
    fn open_local(
        &self,
        epoch: u32,
        number: usize,
        streams: &Range<usize>,
        dealing: &mut batch::Batch,
    ) -> (Round, Option<(u32, usize)>) {
        let (dealt, last) = self.dealt(epoch);
        let local: &LocalDeal<'_> = dealt.epoch().local().expect("it is dealt in the local order");
        let rounds = local.rounds();
        let is_last = number + 1 == rounds.number();
        let end = if is_last { self.order.batches } else { rounds.starts[number + 1] };
        let begun = if epoch == self.order.begin.0 { self.order.begin.1 } else { 0 };
        let batches = rounds.starts[number].max(begun)..end;
        let rows = if batches.is_empty() {
            Vec::new()
        } else {
            local.run_of(streams.clone(), batches.clone(), 1, dealing);
            std::mem::take(&mut dealing.rows)
        };
        let mut units: Vec<u32> =
            streams.clone().flat_map(|s| rounds.pieces(s, number)).map(|piece| piece.unit).collect();
        // In the order of rows, so that neighbours find their pages where the one before has left them.
        let (all, _) = self.dealer.plan().units().ok().flatten().expect("they have been read");
        units.sort_unstable_by_key(|&unit| all.first_row[unit as usize]);
        units.dedup();
        let firsts: Vec<u64> = units.iter().map(|&unit| all.first_row[unit as usize]).collect();
        let slots = rows.iter().map(|&row| {
            let unit = firsts.partition_point(|&first| first <= row) - 1;
            Some((unit, (row - firsts[unit]) as usize))
        });
        let tasks: Vec<_> = {
            let mut state = self.state();
            let kept = &mut state.kept;
            let task = |&unit: &u32| {
                let later = last.get(&unit).is_some_and(|&last| last > number);
                let from = if later { kept.get(&unit).cloned() } else { kept.remove(&unit) };
                let keep = (later && from.is_none()).then(Kept::default);
                if let Some(keep) = &keep {
                    kept.insert(unit, keep.clone());
                }
                (all.first_row[unit as usize], all.rows[unit as usize] as usize, from, keep)
            };
            if rows.is_empty() { Vec::new() } else { units.iter().map(task).collect() }
        };
        let size = (self.dealer.epochs().base / self.order.ranks.1) as usize;
        let place = (epoch, batches.start, size);
        let round = Round::new(&self.shape, &self.pool, place, rows.clone(), rows.len(), tasks, slots);
        let next = if is_last { (epoch + 1, 0) } else { (epoch, number + 1) };
        (round, Some(next).filter(|next| !self.order.ends(next.0)))
    }

    /// All rows of a plan in the global order, each at its number.
    fn open_all(&self) -> Result<Round> {
        let plan = self.dealer.plan();
        let rows = plan.manifest().rows;
        let starts: Vec<u64> = (0..rows).step_by(STRETCH as usize).collect();
        let units = starts.iter().map(|&first| (first, (rows - first).min(STRETCH) as usize, None, None));
        let mut strata = vec![0; rows as usize];
        plan.samples()?.read(0, &mut strata);
        let slots = (0..rows).zip(&strata).map(|(row, &stratum)| {
            (stratum != NONE).then_some(((row / STRETCH) as usize, (row % STRETCH) as usize))
        });
        let place = (0, 0, rows as usize);
        Ok(Round::new(&self.shape, &self.pool, place, Vec::new(), rows as usize, units.collect(), slots))
    }
}

fn find<'a>(open: &'a mut VecDeque<Open>, round: &Arc<Round>) -> &'a mut Open {
    let found = open.iter_mut().find(|open| Arc::ptr_eq(&open.round, round));
    found.expect("a round stays open until it has been read")
}
