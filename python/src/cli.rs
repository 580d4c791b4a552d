//! The command line: the same Rust code as the stand-alone program.

use std::ffi::OsString;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::prelude::*;

use crate::engines;
use crate::wait::attend;

/// Runs the command line `batchwright`: the same program as the Rust binary. `argv[0]` is the program's name. Returns the exit
/// code. Writes to the process's standard output and error, not to `sys.stdout`.
#[pyfunction]
pub fn main(py: Python<'_>, argv: Vec<OsString>) -> PyResult<u8> {
    // What Python has written before belongs before what Rust writes.
    for stream in ["stdout", "stderr"] {
        let stream = py.import("sys")?.getattr(stream)?;
        if !stream.is_none() {
            stream.call_method0("flush")?;
        }
    }
    batchwright::kit::guard::quiet();
    let begun: Arc<Mutex<Option<Arc<AtomicBool>>>> = Arc::default();
    let begin = {
        let begun = begun.clone();
        move |run: batchwright::cli::Running| {
            *begun.lock().unwrap_or_else(PoisonError::into_inner) = Some(run.switch);
        }
    };
    attend(
        py,
        move || batchwright::cli::run(argv, begin, &engines::named),
        |interrupt| {
            let begun = begun.lock().unwrap_or_else(PoisonError::into_inner);
            match &*begun {
                Some(switch) if !switch.swap(true, Ordering::Relaxed) => {
                    batchwright::cli::stopping();
                    Ok(())
                }
                _ => Err(interrupt),
            }
        },
        |_| Ok(()),
    )
}
