//! Calls that may take long: the work runs on threads of its own while the caller waits without the GIL and looks for
//! signals. Those threads end with the call, so a process may fork between calls.
//!
//! Python tells signals to its main thread alone. A call in another thread stops when Ctrl-C has ended the main one: the
//! process waits for the rest of its threads then, and nobody is left to interrupt them.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use batchwright::kit::progress::Progress;
use batchwright::parts::Local;
use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::prelude::*;

use crate::error::{Failure, Result};

/// How often signals are looked for.
const TICK: Duration = Duration::from_millis(50);
/// How often `tick` is called, in ticks.
const TICKS: u32 = 2;

/// Waits for `work`, calling `signal` for every signal that Python raises as an exception meanwhile, and for what `tick` raises, which
/// is called ten times a second. If `signal` says so (`Err`), the work is left alone: it stops by itself at the next look at its
/// switch, and its result is dropped.
pub fn attend<T: Send + 'static>(
    py: Python<'_>,
    work: impl FnOnce() -> T + Send + 'static,
    mut signal: impl FnMut(PyErr) -> PyResult<()>,
    mut tick: impl FnMut(Python<'_>) -> PyResult<()>,
) -> PyResult<T> {
    let (done, mut answer) = channel();
    let thread = std::thread::Builder::new().name("batchwright".into()).spawn(move || {
        // Nobody listens any more after an interrupt.
        let _ = done.send(work());
    })?;
    let mut ticks = 0_u32;
    loop {
        let (channel, answered) = py.detach(move || {
            let answered = answer.recv_timeout(TICK);
            (answer, answered)
        });
        answer = channel;
        match answered {
            Ok(value) => return Ok(value),
            Err(RecvTimeoutError::Timeout) => {
                py.check_signals().or_else(&mut signal)?;
                ticks = ticks.wrapping_add(1);
                if ticks.is_multiple_of(TICKS) {
                    tick(py).or_else(&mut signal)?;
                }
                if left_behind(py)? {
                    signal(PyKeyboardInterrupt::new_err("the main thread was interrupted"))?;
                }
            }
            Err(RecvTimeoutError::Disconnected) => match thread.join() {
                Err(panic) => std::panic::resume_unwind(panic),
                Ok(()) => unreachable!("the thread sends its answer before it ends"),
            },
        }
    }
}

/// Whether Ctrl-C has ended the main thread while this call in another one goes on.
fn left_behind(py: Python<'_>) -> PyResult<bool> {
    let main = py.import("threading")?.call_method0("main_thread")?;
    if main.call_method0("is_alive")?.extract()? {
        return Ok(false);
    }
    let last = py.import("sys")?.getattr_opt("last_type")?;
    Ok(last.is_some_and(|last| last.is(py.get_type::<PyKeyboardInterrupt>())))
}

/// Runs `work` on all cores; Ctrl-C ends the call with KeyboardInterrupt.
pub fn long<T: Send + 'static>(
    py: Python<'_>,
    work: impl FnOnce(&Local) -> batchwright::Result<T> + Send + 'static,
) -> Result<T> {
    let progress = Progress::default();
    let switch = progress.cancel_switch();
    let run = move || Local::scope(0, &progress, work);
    let stop = |e| {
        switch.store(true, Ordering::Relaxed);
        Err(e)
    };
    attend(py, run, stop, |_| Ok(()))?.map_err(Failure::Ours)
}
