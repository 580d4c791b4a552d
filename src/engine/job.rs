//! A job and its tasks as bytes, and the one function that does a task: what every engine calls in the processes that it has.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::assigning::Assigning;
use super::fault::Fault;
use super::passes::{Comparison, Kind, Passes, Summaries};
use super::rows::{CONTENT_BYTES, ROW_BYTES, Sink};
use super::sampling::{Sampled, Sampling};
use crate::features::{Encoder, Pretrained};
use crate::kernels::{self, Simd};
use crate::kit::error::{Error, Result};
use crate::kit::matrix::Matrix;
use crate::kit::progress::Progress;
use crate::modalities::assignment::Collect;
use crate::parts::{KEY, Local, Part, parts_of};
use crate::source::{Dataset, Description};
use crate::statistics::content::Content;

/// What all tasks share. Credentials are never in it: each process has its own.
#[derive(Serialize, Deserialize)]
pub struct Job {
    pub simd: Simd,
    pub data: Description,
    pub encoder: Option<Pretrained>,
    pub work: Work,
}

/// What is done with the rows of a task.
#[derive(Serialize, Deserialize)]
pub enum Work {
    /// They are assigned, and passes run over them.
    Rows { assigning: Box<Assigning>, kind: Kind, passes: Vec<u8> },
    /// Some are read, and their row groups' bytes fingerprinted.
    Sample(Sampling),
}

/// The rows of a task, with what has one entry a row: its own rows only.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Task {
    /// A run of neighbouring parts, 2^k of them but for the last task: a whole sub-tree of the merge tree.
    Parts {
        first: u64,
        count: u64,
        /// Bit `i % 64` of word `i / 64`: whether row i of the task is not left out. None: none is.
        keep: Option<Vec<u64>>,
        /// Rows that were encoded before.
        known: Option<(Vec<u64>, Matrix)>,
    },
    /// Row groups, ascending, and the chosen rows in them.
    Groups { groups: Vec<usize>, rows: Vec<u64> },
}

/// What a task has found.
#[derive(Serialize, Deserialize)]
pub struct Found {
    pub what: What,
    /// Columns in which numbers were rounded.
    pub rounded: Vec<String>,
    pub bytes_read: u64,
}

#[derive(Serialize, Deserialize)]
pub enum What {
    Parts {
        /// Rows' results from the task's first row on, compressed (zstd).
        rows: Vec<u8>,
        contents: Vec<u8>,
        /// The merged partial result of its parts.
        partial: Vec<u8>,
    },
    Sample(Sampled),
}

/// Processes work together if they are built from the same source: version, format and hash of the code.
pub fn build() -> String {
    format!(
        "{} (format {}, source {})",
        env!("CARGO_PKG_VERSION"),
        crate::format::FORMAT,
        env!("BATCHWRIGHT_SOURCE")
    )
}

fn encoded(value: &impl Serialize) -> Vec<u8> {
    postcard::to_stdvec(value).expect("plain data in memory")
}

fn decoded<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T> {
    postcard::from_bytes(bytes).map_err(|e| {
        Error::config(KEY, format!("{what} cannot be read: {e}"), "the engine must carry bytes as they are")
    })
}

impl Job {
    /// The build comes first, so that another one can say what is wrong.
    pub fn to_bytes(&self) -> Vec<u8> {
        [encoded(&build()), encoded(self)].concat()
    }

    fn from_bytes(bytes: &[u8]) -> Result<Job> {
        let (build, rest) = postcard::take_from_bytes::<String>(bytes).unwrap_or_default();
        let own = self::build();
        if build != own {
            return Err(Error::config(
                KEY,
                format!("a worker has batchwright {own}, the run was started by {build}"),
                "install the same release for all of them",
            ));
        }
        decoded("a job", rest)
    }
}

impl Task {
    pub fn to_bytes(&self) -> Vec<u8> {
        encoded(self)
    }
}

impl Found {
    /// What [`run_task`] gave.
    pub fn from_bytes(bytes: &[u8]) -> Result<Found> {
        decoded::<std::result::Result<Found, Fault>>("a result", bytes)?.map_err(Fault::error)
    }
}

/// A partial result as it came.
pub fn partial<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    decoded("a partial result", bytes)
}

/// A job that is open: the next task starts at once.
struct Open {
    hash: blake3::Hash,
    job: Job,
    encoder: Option<Encoder>,
    local: Local,
}

/// Does a task of a job on so many threads (0: one per core). The last job stays open, its encoder too: one job at a time
/// in a process. Never fails: what goes wrong is in the bytes.
pub fn run_task(job: &[u8], task: &[u8], threads: usize) -> Vec<u8> {
    encoded(&work(job, task, threads).map_err(Fault::from))
}

fn work(job: &[u8], task: &[u8], threads: usize) -> Result<Found> {
    static LAST: Mutex<Option<(usize, Arc<Open>)>> = Mutex::new(None);
    let mut last: MutexGuard<'_, Option<(usize, Arc<Open>)>> =
        LAST.lock().unwrap_or_else(PoisonError::into_inner);
    let hash = blake3::hash(job);
    let open = match last.take().filter(|(on, _)| *on == threads) {
        Some((_, open)) if open.hash == hash => open,
        before => Arc::new(Open::new(hash, job, threads, before.and_then(|(_, open)| open.encoder.clone()))?),
    };
    *last = Some((threads, open.clone()));
    drop(last);
    kernels::limit(open.job.simd);
    let task: Task = decoded("a task", task)?;
    open.local.install(|| open.run(&task))
}

impl Open {
    fn new(hash: blake3::Hash, job: &[u8], threads: usize, before: Option<Encoder>) -> Result<Open> {
        let job = Job::from_bytes(job)?;
        let encoder = job.encoder.as_ref().map(|pretrained| pretrained.open(before)).transpose()?;
        Ok(Open { hash, job, encoder, local: Local::new(threads, Progress::default())? })
    }

    fn run(&self, task: &Task) -> Result<Found> {
        let (what, dataset) = match (&self.job.work, task) {
            (Work::Rows { assigning, kind, passes }, task @ Task::Parts { .. }) => match kind {
                Kind::Summaries => self.parts::<Summaries>(assigning, passes, task),
                Kind::Comparison => self.parts::<Comparison>(assigning, passes, task),
                Kind::Content => self.parts::<Content>(assigning, passes, task),
                Kind::Collect => self.parts::<Collect>(assigning, passes, task),
            }?,
            (Work::Sample(sampling), Task::Groups { groups, rows }) => {
                let dataset = self.job.data.open(groups.iter().copied())?;
                let all: Vec<usize> = (0..dataset.row_groups().len()).collect();
                let encoder = self.encoder.as_ref();
                let (raw, prints) = sampling.read("sample", &dataset, encoder, &all, rows, &self.local)?;
                (What::Sample(Sampled::new(raw, prints)?), dataset)
            }
            _ => return Err(misplaced()),
        };
        let (rounded, bytes_read) = (dataset.rounded().into_iter().collect(), dataset.bytes_read());
        Ok(Found { what, rounded, bytes_read })
    }

    fn parts<P: Passes>(&self, assigning: &Assigning, passes: &[u8], task: &Task) -> Result<(What, Dataset)> {
        let Task::Parts { first, count, keep, known } = task else { return Err(misplaced()) };
        let mut pass: P = decoded("the passes of a job", passes)?;
        let data = &self.job.data;
        let all = parts_of(data.rows(), assigning.step());
        let parts: &[Part] = all.get(*first as usize..(first + count) as usize).unwrap_or_default();
        let (Some(first), Some(last)) = (parts.first(), parts.last()) else { return Err(misplaced()) };
        let (first, range) = (first.first, first.first..last.first + last.rows as u64);
        let dataset = data.open(data.groups(&range))?;
        let held = Sink::held(first);
        pass.put_into(held.clone());
        let bit = |words: &Vec<u64>, i: u64| words[(i / 64) as usize] >> (i % 64) & 1 == 1;
        let keep = |row: u64| keep.as_ref().is_none_or(|words| bit(words, row - first));
        let known = known.as_ref().map(|(rows, embeddings)| (&rows[..], embeddings));
        let partial =
            assigning.partial(&dataset, self.encoder.as_ref(), &keep, known, &pass, parts, &self.local)?;
        let (rows, contents) = held.take();
        let (rows, contents) = (compressed(&rows), compressed(&contents));
        Ok((What::Parts { rows, contents, partial: encoded(&partial.expect("a task has parts")) }, dataset))
    }
}

fn misplaced() -> Error {
    Error::config(KEY, "a task is not one of its job", "the engine must carry bytes as they are")
}

fn compressed(bytes: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(bytes, 1).expect("memory is all it takes")
}

/// Records of `rows` rows; none where there are none.
fn records(bytes: &[u8], rows: usize, width: usize) -> Result<Vec<u8>> {
    let all = zstd::bulk::decompress(bytes, rows * width).unwrap_or_default();
    if all.is_empty() || all.len() == rows * width {
        return Ok(all);
    }
    Err(Error::config(KEY, "a result is cut off", "the engine must carry bytes as they are"))
}

/// Puts the rows' results of a task of `rows` rows to their place.
pub fn put(sink: &Sink, first: u64, rows: usize, results: &[u8], contents: &[u8]) -> Result<()> {
    let contents = records(contents, rows, CONTENT_BYTES)?;
    sink.put(first, &records(results, rows, ROW_BYTES)?, &contents)
}
