//! Where tasks run that leave this process: the one trait that worker processes, clusters and job arrays implement.

use crate::kit::error::Result;

/// What an engine reports while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The result of a task, as `run_task` gave it. A second one of the same task is dropped.
    Done(u32, Vec<u8>),
    /// A task that was lost with its worker runs once more.
    Retried(u32),
    /// Tasks at work now.
    Running(u32),
}

/// Runs tasks anywhere, in any order: each is a call of [`run_task`](crate::engine::run_task) with the job and the task in
/// a process that sees the data.
pub trait Engine: Send + Sync {
    /// `tell` is called on the caller's thread, at least every 100 ms; where it fails, what runs is cancelled and the error is
    /// returned.
    ///
    /// # Errors
    /// Failures of the engine itself, and those of `tell`. What fails in a task is in its result.
    fn run(&self, job: &[u8], tasks: &[Vec<u8>], tell: &mut dyn FnMut(Event) -> Result<()>) -> Result<()>;
}
