//! The verbs of the command line as one function: a request and a result as JSON, what listens as a callable.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use batchwright::cli::{self, Request};
use batchwright::kit::progress::{Observer, Progress};
use pyo3::prelude::*;

use crate::engines;
use crate::error::{Failure, Result};
use crate::wait::attend;

/// The settings of a verb as JSON: a list of {name, key, value, choices, list, help, heading}, in the order of its help.
#[pyfunction]
pub fn keywords(verb: &str) -> String {
    serde_json::to_string(&cli::keywords(verb)).expect("plain values")
}

/// Runs a verb: (what it prints with `--json`, warnings). `listen` is called with a list of (stage, unit, done, total), ten times
/// a second at most; what it raises ends the run. `engine`: an object of `batchwright.engines`.
#[pyfunction]
#[pyo3(signature = (verb, request, listen = None, engine = None))]
pub fn call(
    py: Python<'_>,
    verb: String,
    request: &str,
    listen: Option<Py<PyAny>>,
    engine: Option<Bound<'_, PyAny>>,
) -> Result<(String, Vec<String>)> {
    batchwright::kit::guard::quiet();
    let request: Request =
        serde_json::from_str(request).map_err(|e| batchwright::Error::config(&*verb, format!("{e}"), ""))?;
    let engine = engine.map(|object| engines::chosen(&object)).transpose()?;
    let heard = Arc::<Heard>::default();
    let progress = Progress::new(heard.clone());
    let switch = progress.cancel_switch();
    // An exception of `listen` or a signal: the run is asked to end, and it is raised once it has.
    let mut raised = None;
    let named = verb.clone();
    let work = move || cli::call(&verb, &request, engine, &progress);
    let stop = |e| {
        raised.get_or_insert(e);
        switch.store(true, Ordering::Relaxed);
        Ok(())
    };
    let tick = |py: Python<'_>| match &listen {
        Some(listen) => listen.call1(py, (heard.stages(),)).map(drop),
        None => Ok(()),
    };
    let done = attend(py, work, stop, tick)?;
    match (done, raised) {
        (_, Some(e)) => Err(Failure::Python(e)),
        (Err(e), None) => Err(Failure::Ours(e)),
        (Ok(value), None) => {
            let warnings = heard.warnings().iter().map(|text| cli::in_keywords(&named, text)).collect();
            Ok((value.to_string(), warnings))
        }
    }
}

/// What a run has said so far.
#[derive(Default)]
struct Heard {
    stages: Mutex<Vec<(&'static str, &'static str, u64, u64)>>,
    warnings: Mutex<Vec<String>>,
}

impl Heard {
    fn stages(&self) -> Vec<(&'static str, &'static str, u64, u64)> {
        self.stages.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn warnings(&self) -> MutexGuard<'_, Vec<String>> {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, stage: &str, change: impl FnOnce(&mut (&'static str, &'static str, u64, u64))) {
        let mut stages = self.stages.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stage) = stages.iter_mut().rev().find(|s| s.0 == stage) {
            change(stage);
        }
    }
}

impl Observer for Heard {
    fn begin(&self, stage: &'static str, unit: &'static str, total: u64) {
        self.stages.lock().unwrap_or_else(PoisonError::into_inner).push((stage, unit, 0, total));
    }

    fn advance(&self, stage: &'static str, by: u64) {
        self.change(stage, |stage| stage.2 += by);
    }

    fn end(&self, stage: &'static str) {
        self.change(stage, |stage| stage.2 = stage.3);
    }

    fn warn(&self, message: &str) {
        self.warnings().push(message.into());
    }
}
