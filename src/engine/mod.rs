//! Work on rows that may run in another process: a *job* is what all its tasks share, a *task* some neighbouring rows, and both
//! are bytes, as the result is. [`run`] and [`sample`] do the work on the threads of this process, or have an [`Engine`](crate::parts::Engine)
//! call [`run_task`] wherever it likes; the bytes of what comes of it are the same.
//!
//! 1. [`fault`]: errors as data
//! 2. [`rows`]: what is stored of every row, and where it goes
//! 3. [`assigning`]: rows of files to assigned rows
//! 4. [`passes`]: what is summed up of them, each a value
//! 5. [`sampling`]: chosen rows and fingerprints
//! 6. [`job`]: job, task and result as bytes; a worker's side
//! 7. `drive`: the side that waits: tasks, progress, errors in order, the top of the merge tree

pub mod fault;
pub mod rows;
pub mod assigning;
pub mod passes;
pub mod sampling;
pub mod job;
mod drive;

pub use assigning::{Assigning, Source};
pub use drive::{run, sample};
pub use job::{build, run_task};
pub use sampling::Sampling;
