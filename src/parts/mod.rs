//! Work on rows in *parts*: fixed ranges of global row numbers, cut by row and never by thread, file or row group. This
//! is the only file that reduces in parallel.
//!
//! A [`Read`] prepares the rows of a part; a [`Pass`] summarises them. Partial results merge along one fixed tree (split
//! at the largest power of two below the length), so they are the same bits on one thread, on seven, or when an engine
//! gives tasks aligned runs of 2^k neighbouring parts (a whole sub-tree) and merges their results with the same tree.
//! A tuple of passes is a pass: statistics, assignment and fingerprints share one read.
//!
//! What leaves this process are *tasks*, bytes in and bytes out: an [`Engine`] runs them, [`folder`] is one of files. What is
//! in them is the business of [`engine`](crate::engine).

mod engine;
pub mod folder;
mod chosen;

pub use chosen::{Chosen, KEY};
pub use engine::{Engine, Event};

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::kit::error::{Error, Result};
use crate::kit::progress::{Progress, Stage};

/// Rows `first .. first + rows`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    pub index: usize,
    pub first: u64,
    pub rows: usize,
}

impl Part {
    pub fn range(&self) -> std::ops::Range<u64> {
        self.first..self.first + self.rows as u64
    }
}

/// Rows of a part when a row has `width` numbers: 16 384, fewer for wide rows so that a part stays below 16 MiB.
/// A function of the data alone: threads and memory must not change where parts are cut.
pub fn rows_per_part(width: usize) -> usize {
    let fits = (16 << 20) / (4 * width.max(1));
    (1usize << fits.max(1).ilog2()).clamp(256, 16_384)
}

/// All parts of a dataset of `rows` rows.
pub fn parts(rows: u64, width: usize) -> Vec<Part> {
    parts_of(rows, rows_per_part(width))
}

/// Parts of `step` rows each: for rows that cost far more than their reading.
pub fn parts_of(rows: u64, step: usize) -> Vec<Part> {
    let step = step as u64;
    (0..rows.div_ceil(step))
        .map(|i| Part { index: i as usize, first: i * step, rows: (rows - i * step).min(step) as usize })
        .collect()
}

/// Prepares the rows of a part. Reads nest: source columns, points, assigned points.
pub trait Read: Sync {
    /// Buffers are reused from part to part; everything in them must be overwritten.
    type Item: Default + Send;
    fn read(&self, part: &Part, into: &mut Self::Item) -> Result<()>;
    /// Bytes of a row as it is read, for the progress; 0 where they are too few to be told.
    fn row_bytes(&self) -> u64 {
        0
    }
}

/// Summarises parts. `partial` looks at nothing but the item; it may write per-row results to their place in a file.
pub trait Pass: Sync {
    type Item;
    type Partial: Send;
    type Output;
    fn partial(&self, item: &Self::Item) -> Result<Self::Partial>;
    /// `left` holds the earlier rows.
    fn merge(&self, left: Self::Partial, right: Self::Partial) -> Self::Partial;
    /// `all` is None for an empty dataset.
    fn finish(&self, all: Option<Self::Partial>) -> Result<Self::Output>;
}

macro_rules! tuple_of_passes {
    ($($name:ident $i:tt),+) => {
        impl<Item, $($name: Pass<Item = Item>),+> Pass for ($($name,)+) {
            type Item = Item;
            type Partial = ($($name::Partial,)+);
            type Output = ($($name::Output,)+);
            fn partial(&self, item: &Item) -> Result<Self::Partial> {
                Ok(($(self.$i.partial(item)?,)+))
            }
            fn merge(&self, left: Self::Partial, right: Self::Partial) -> Self::Partial {
                ($(self.$i.merge(left.$i, right.$i),)+)
            }
            fn finish(&self, all: Option<Self::Partial>) -> Result<Self::Output> {
                match all {
                    Some(all) => Ok(($(self.$i.finish(Some(all.$i))?,)+)),
                    None => Ok(($(self.$i.finish(None)?,)+)),
                }
            }
        }
    };
}
tuple_of_passes!(A 0, B 1);
tuple_of_passes!(A 0, B 1, C 2);
tuple_of_passes!(A 0, B 1, C 2, D 3);
tuple_of_passes!(A 0, B 1, C 2, D 3, E 4);
tuple_of_passes!(A 0, B 1, C 2, D 3, E 4, F 5);

/// A pass that may be absent.
impl<P: Pass> Pass for Option<P> {
    type Item = P::Item;
    type Partial = Option<P::Partial>;
    type Output = Option<P::Output>;
    fn partial(&self, item: &P::Item) -> Result<Self::Partial> {
        self.as_ref().map(|p| p.partial(item)).transpose()
    }
    fn merge(&self, left: Self::Partial, right: Self::Partial) -> Self::Partial {
        match (self, left, right) {
            (Some(p), Some(l), Some(r)) => Some(p.merge(l, r)),
            _ => None,
        }
    }
    fn finish(&self, all: Option<Self::Partial>) -> Result<Self::Output> {
        self.as_ref().map(|p| p.finish(all.flatten())).transpose()
    }
}

/// Rayon on this machine, and where tasks go that may leave it.
pub struct Local {
    pool: rayon::ThreadPool,
    progress: Progress,
    elsewhere: Option<Elsewhere>,
}

/// Where tasks run instead of here, and how many bytes one reads at most.
#[derive(Clone)]
pub struct Elsewhere {
    pub engine: Arc<dyn Engine>,
    pub task_bytes: u64,
}

impl Local {
    /// `threads` = 0 takes one thread per core.
    pub fn new(threads: usize, progress: Progress) -> Result<Self> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().map_err(|e| {
            Error::config("threads", format!("cannot start {threads} threads: {e}"), "ask for fewer threads")
        })?;
        Ok(Local { pool, progress, elsewhere: None })
    }

    /// Passes that can run elsewhere do so.
    pub fn with(mut self, elsewhere: Option<Elsewhere>) -> Self {
        self.elsewhere = elsewhere;
        self
    }

    /// None: everything runs here.
    pub fn elsewhere(&self) -> Option<&Elsewhere> {
        self.elsewhere.as_ref()
    }

    /// Runs `work` on the threads of a new engine, with all rayon iterators in it: rayon's global pool, whose threads a forked
    /// process would lack, is not started. The threads are told to end when `work` is done.
    pub fn scope<T: Send>(
        threads: usize,
        progress: &Progress,
        work: impl FnOnce(&Local) -> Result<T> + Send,
    ) -> Result<T> {
        let engine = Local::new(threads, progress.clone())?;
        engine.install(|| work(&engine))
    }

    pub fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Runs `work` inside this engine's thread pool, so that its rayon iterators use these threads.
    pub fn install<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.pool.install(work)
    }

    /// Runs passes over parts: an ordered map and the merge tree, nothing else.
    pub fn run<R: Read, P: Pass<Item = R::Item>>(
        &self,
        stage: &'static str,
        read: &R,
        pass: &P,
        parts: &[Part],
    ) -> Result<P::Output> {
        pass.finish(self.partial(stage, read, pass, parts)?)
    }

    /// [`run`](Local::run) up to the merged partial result; None without parts.
    pub fn partial<R: Read, P: Pass<Item = R::Item>>(
        &self,
        stage: &'static str,
        read: &R,
        pass: &P,
        parts: &[Part],
    ) -> Result<Option<P::Partial>> {
        let rows = parts.iter().map(|p| p.rows as u64).sum();
        let walk = Walk {
            read,
            pass,
            stage: self.progress.stage(stage, "rows", rows).reading(rows * read.row_bytes()),
            buffers: Mutex::new(Vec::new()),
            failed: AtomicUsize::new(usize::MAX),
        };
        if parts.is_empty() { Ok(None) } else { self.pool.install(|| walk.tree(parts)).map(Some) }
    }
}

struct Walk<'a, R: Read, P> {
    read: &'a R,
    pass: &'a P,
    stage: Stage<'a>,
    buffers: Mutex<Vec<R::Item>>,
    /// The earliest part that failed so far: later parts need not start, and the error told is always the first one's.
    failed: AtomicUsize,
}

impl<R: Read, P: Pass<Item = R::Item>> Walk<'_, R, P> {
    fn tree(&self, parts: &[Part]) -> Result<P::Partial> {
        if let [part] = parts {
            return self.leaf(part);
        }
        let middle = parts.len().next_power_of_two() / 2;
        let (left, right) = rayon::join(|| self.tree(&parts[..middle]), || self.tree(&parts[middle..]));
        match (left, right) {
            (Ok(left), Ok(right)) => Ok(self.pass.merge(left, right)),
            (Err(Error::Interrupted), Err(error)) | (Err(error), _) | (_, Err(error)) => Err(error),
        }
    }

    /// Leaves use no rayon: a waiting leaf would steal another and hold two buffers.
    fn leaf(&self, part: &Part) -> Result<P::Partial> {
        if self.failed.load(Ordering::Relaxed) < part.index {
            return Err(Error::Interrupted);
        }
        self.work(part).inspect_err(|_| {
            self.failed.fetch_min(part.index, Ordering::Relaxed);
        })
    }

    fn work(&self, part: &Part) -> Result<P::Partial> {
        self.stage.advance(0)?;
        let mut item = self.buffers.lock().expect("no panic while holding").pop().unwrap_or_default();
        self.read.read(part, &mut item)?;
        let partial = self.pass.partial(&item)?;
        self.buffers.lock().expect("no panic while holding").push(item);
        self.stage.advance(part.rows as u64)?;
        Ok(partial)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Harmonic;
    impl Read for Harmonic {
        type Item = Vec<f64>;
        fn read(&self, part: &Part, into: &mut Vec<f64>) -> Result<()> {
            into.clear();
            into.extend(part.range().map(|r| 1.0 / (r as f64 + 1.0)));
            Ok(())
        }
    }
    struct Sum;
    impl Pass for Sum {
        type Item = Vec<f64>;
        type Partial = f64;
        type Output = f64;
        fn partial(&self, item: &Vec<f64>) -> Result<f64> {
            Ok(item.iter().sum())
        }
        fn merge(&self, left: f64, right: f64) -> f64 {
            left + right
        }
        fn finish(&self, all: Option<f64>) -> Result<f64> {
            Ok(all.unwrap_or(0.0))
        }
    }

    #[test]
    fn threads_and_tasks_do_not_change_a_bit() {
        let all: Vec<Part> = (0..173).map(|i| Part { index: i, first: i as u64 * 100, rows: 100 }).collect();
        let run = |threads, parts: &[Part]| {
            Local::new(threads, Progress::default())
                .unwrap()
                .run("test", &Harmonic, &(Sum, Sum), parts)
                .unwrap()
        };
        let one = run(1, &all);
        for threads in [2, 3, 7] {
            assert_eq!(one.0.to_bits(), run(threads, &all).0.to_bits());
        }
        // Tasks of eight neighbouring parts, merged by the same tree.
        let tasks: Vec<f64> = all.chunks(8).map(|c| run(1, c).1).collect();
        fn tree(x: &[f64]) -> f64 {
            match x {
                [x] => *x,
                _ => {
                    let middle = x.len().next_power_of_two() / 2;
                    tree(&x[..middle]) + tree(&x[middle..])
                }
            }
        }
        assert_eq!(one.1.to_bits(), tree(&tasks).to_bits());
    }

    #[test]
    fn cancelled_runs_end() {
        let local = Local::new(2, Progress::default()).unwrap();
        local.progress().cancel_switch().store(true, std::sync::atomic::Ordering::Relaxed);
        let got = local.run("test", &Harmonic, &Sum, &parts(100_000, 4));
        assert!(matches!(got, Err(Error::Interrupted)));
    }
}
