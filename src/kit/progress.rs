//! What a long run tells its caller, and how the caller stops it. Stages hold a [`Progress`], open a [`Stage`] for each
//! long piece of work and advance it; whoever listens ([`Observer`]: the command line's bars, a Python callback) is
//! told. A cancelled run ends with [`Error::Interrupted`] at the next advance.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::kit::error::{Error, Result};

/// Listens to stages. Called from worker threads, so it must be quick.
pub trait Observer: Send + Sync {
    /// `unit` names what is counted: "rows", "bytes", "blocks", "batches".
    fn begin(&self, stage: &'static str, unit: &'static str, total: u64);
    fn advance(&self, stage: &'static str, by: u64);
    /// What all of a stage reads, for a rate in bytes beside that of its unit.
    fn reads(&self, _stage: &'static str, _bytes: u64) {}
    /// Tasks of the stage at work elsewhere now.
    fn running(&self, _stage: &'static str, _tasks: u32) {}
    fn end(&self, stage: &'static str);
    /// Something the user should know though the run goes on.
    fn warn(&self, message: &str);
}

/// Cheap to clone; all clones share the observer and the cancel switch.
#[derive(Clone, Default)]
pub struct Progress {
    observer: Option<Arc<dyn Observer>>,
    cancelled: Arc<AtomicBool>,
}

impl Progress {
    pub fn new(observer: Arc<dyn Observer>) -> Self {
        Progress { observer: Some(observer), cancelled: Arc::default() }
    }

    /// The same switch, and nobody listens: for the stages inside a stage.
    pub fn silent(&self) -> Self {
        Progress { observer: None, cancelled: self.cancelled.clone() }
    }

    /// The switch: set it to true from a signal handler to stop the run.
    pub fn cancel_switch(&self) -> Arc<AtomicBool> {
        self.cancelled.clone()
    }

    /// Err([`Error::Interrupted`]) once the switch is set. Call it in every long loop.
    pub fn check(&self) -> Result<()> {
        if self.cancelled.load(Ordering::Relaxed) { Err(Error::Interrupted) } else { Ok(()) }
    }

    pub fn stage(&self, name: &'static str, unit: &'static str, total: u64) -> Stage<'_> {
        if let Some(o) = &self.observer {
            o.begin(name, unit, total);
        }
        Stage { progress: self, name }
    }

    pub fn warn(&self, message: &str) {
        if let Some(o) = &self.observer {
            o.warn(message);
        }
    }
}

/// One long piece of work; ends when dropped.
pub struct Stage<'a> {
    progress: &'a Progress,
    name: &'static str,
}

impl Stage<'_> {
    /// Says how many bytes all of the stage reads; 0: unknown.
    pub fn reading(self, bytes: u64) -> Self {
        if let (Some(o), true) = (&self.progress.observer, bytes > 0) {
            o.reads(self.name, bytes);
        }
        self
    }

    /// Says how many tasks are at work elsewhere now.
    pub fn running(&self, tasks: u32) {
        if let Some(o) = &self.progress.observer {
            o.running(self.name, tasks);
        }
    }

    pub fn advance(&self, by: u64) -> Result<()> {
        if let Some(o) = &self.progress.observer {
            o.advance(self.name, by);
        }
        self.progress.check()
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        if let Some(o) = &self.progress.observer {
            o.end(self.name);
        }
    }
}
