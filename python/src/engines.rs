//! Engines as Python sees them, and Python's as the library does.

use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use batchwright::Error;
use batchwright::engine;
use batchwright::parts::folder::Folder as Files;
use batchwright::parts::{Chosen, Engine, Event};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::error::{Failure, Result};

/// Does a task of a job, both as an engine was given them, on so many threads (0: one per core), without the GIL. The result goes
/// to `tell.done` as it is; what fails in a task is in it. The last job stays open: the next of its tasks starts at once. Processes of
/// different releases do not work together.
#[pyfunction]
#[pyo3(signature = (job, task, threads = 1))]
pub fn run_task<'py>(py: Python<'py>, job: &[u8], task: &[u8], threads: usize) -> Bound<'py, PyBytes> {
    let result = py.detach(|| engine::run_task(job, task, threads));
    PyBytes::new(py, &result)
}

type Message = (Event, Sender<bool>);

/// What an engine reports to while it runs: at least every 100 ms. A call raises RuntimeError once the run has ended, by Ctrl-C or
/// because a task has failed: then the engine stops what it runs and lets the exception through.
#[pyclass(frozen, module = "batchwright._core")]
pub struct Tell {
    to: Mutex<Option<Sender<Message>>>,
}

impl Tell {
    fn send(&self, py: Python<'_>, event: Event) -> PyResult<()> {
        let to = self.to.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let heard = py.detach(move || {
            let (reply, answer) = channel();
            to?.send((event, reply)).ok()?;
            answer.recv().ok().filter(|&goes_on| goes_on)
        });
        heard
            .map(drop)
            .ok_or_else(|| PyRuntimeError::new_err("the run has ended: its tasks are no longer wanted"))
    }
}

#[pymethods]
impl Tell {
    /// The result of a task, by its place in the list. A second one of the same task is dropped.
    fn done(&self, py: Python<'_>, task: u32, result: &[u8]) -> PyResult<()> {
        self.send(py, Event::Done(task, result.to_vec()))
    }

    /// A task that was lost with its worker runs once more.
    fn retried(&self, py: Python<'_>, task: u32) -> PyResult<()> {
        self.send(py, Event::Retried(task))
    }

    /// So many tasks are at work now.
    fn running(&self, py: Python<'_>, tasks: u32) -> PyResult<()> {
        self.send(py, Event::Running(tasks))
    }
}

/// Tasks as files in a directory that all machines see: `batchwright work DIR` does them, on any of them. A worker that gives no
/// sign for `lease` seconds is lost, and its task free again. The same as `--engine folder:DIR`.
#[pyclass(frozen, module = "batchwright._core")]
pub struct Folder {
    path: PathBuf,
    lease: f64,
}

#[pymethods]
impl Folder {
    #[new]
    #[pyo3(signature = (path, lease = 60.0))]
    fn new(path: PathBuf, lease: f64) -> PyResult<Self> {
        if !(1.0..=1e6).contains(&lease) {
            let reason = format!("is {lease}, not between 1 and 1,000,000");
            let error = Error::config("lease", reason, "60 seconds suit most file systems");
            return Err(Failure::from(error).into());
        }
        Ok(Folder { path, lease })
    }

    #[getter]
    fn path(&self) -> PathBuf {
        self.path.clone()
    }

    #[getter]
    fn lease(&self) -> f64 {
        self.lease
    }

    fn __repr__(&self) -> String {
        format!("Folder({:?})", self.path.display().to_string())
    }
}

/// An object with `run(job, tasks, tell)`.
struct Given {
    name: String,
    object: Py<PyAny>,
}

/// The engine that a Python object is: any with a method `run(job, tasks, tell)`.
pub fn chosen(object: &Bound<'_, PyAny>) -> Result<Chosen> {
    let name = object.get_type().name()?.to_string();
    if let Ok(folder) = object.cast::<Folder>() {
        let Folder { path, lease } = folder.get();
        let files = Files::new(path.clone()).with_lease(Duration::from_secs_f64(*lease));
        return Ok(Chosen::given(name, Arc::new(files)));
    }
    if !object.getattr_opt("run")?.is_some_and(|run| run.is_callable()) {
        let help = "see batchwright.engines, for example engines.Executor or engines.Folder";
        return Err(
            Error::config("engine", format!("{name} has no method run(job, tasks, tell)"), help).into()
        );
    }
    Ok(Chosen::given(name.clone(), Arc::new(Given { name, object: object.clone().unbind() })))
}

/// The engine of this name that `batchwright.engines` has; None if it has none.
pub fn named(name: &str) -> batchwright::Result<Option<Arc<dyn Engine>>> {
    Python::attach(|py| {
        let found = py.import("batchwright.engines")?.call_method1("named", (name,))?;
        match found.is_none() {
            true => Ok(None),
            false => Ok(Some(chosen(&found)?.open()?)),
        }
    })
    .map_err(|failure: Failure| ours(name, failure))
}

/// What Python raised, as an error of the library.
fn ours(name: &str, failure: Failure) -> Error {
    let e = match failure {
        Failure::Ours(e) => return e,
        Failure::Python(e) => e,
    };
    Python::attach(|py| {
        let value = e.value(py);
        let kind = value.get_type().name().map(|kind| kind.to_string()).unwrap_or_default();
        // The text of ours ends with its help.
        let text = value.to_string();
        let (text, help) = text.split_once("\n  help: ").unwrap_or((&text, ""));
        match kind.as_str() {
            "ConfigError" => Error::config("run.engine", text, help),
            _ => Error::input(format!("engine {name}"), format!("{kind}: {text}"), help),
        }
    })
}

impl Engine for Given {
    fn run(
        &self,
        job: &[u8],
        tasks: &[Vec<u8>],
        tell: &mut dyn FnMut(Event) -> batchwright::Result<()>,
    ) -> batchwright::Result<()> {
        let (send, events) = channel::<Message>();
        let call = move || {
            Python::attach(|py| -> Result<()> {
                let tasks = PyList::new(py, tasks.iter().map(|task| PyBytes::new(py, task)))?;
                let tell = Py::new(py, Tell { to: Mutex::new(Some(send)) })?;
                let ran = self
                    .object
                    .bind(py)
                    .call_method1("run", (PyBytes::new(py, job), tasks, tell.clone_ref(py)));
                // An engine may keep it; nobody listens any more.
                tell.get().to.lock().unwrap_or_else(PoisonError::into_inner).take();
                ran?;
                Ok(())
            })
        };
        std::thread::scope(|scope| {
            let running = std::thread::Builder::new().name("engine".into()).spawn_scoped(scope, call);
            let running = running.map_err(Error::io("start", "a thread"))?;
            let mut ended = Ok(());
            for (event, reply) in events {
                if ended.is_ok() {
                    ended = tell(event);
                }
                let _ = reply.send(ended.is_ok());
            }
            match running.join() {
                Ok(ran) => ended.and(ran.map_err(|failure| ours(&self.name, failure))),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }
}
