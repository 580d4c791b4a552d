//! Errors of the library as Python's exceptions.

use batchwright::Error;
use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::prelude::*;
use pyo3::types::PyType;

/// What a method fails with.
pub enum Failure {
    Ours(Error),
    Python(PyErr),
}

pub type Result<T> = std::result::Result<T, Failure>;

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        Failure::Ours(e)
    }
}

impl From<PyErr> for Failure {
    fn from(e: PyErr) -> Self {
        Failure::Python(e)
    }
}

impl From<Failure> for PyErr {
    fn from(failure: Failure) -> Self {
        let error = match failure {
            Failure::Python(e) => return e,
            Failure::Ours(e) => e,
        };
        let class = match &error {
            Error::Config { .. } => "ConfigError",
            Error::Plan { .. } => "PlanError",
            Error::Interrupted => return PyKeyboardInterrupt::new_err(()),
            // Input, Io, Modalities, and what a later version adds
            _ => "InputError",
        };
        Python::attach(|py| raise(py, class, &error)).unwrap_or_else(|e| e)
    }
}

fn raise(py: Python<'_>, class: &str, error: &Error) -> PyResult<PyErr> {
    let class = py.import(MODULE)?.getattr(class)?.cast_into::<PyType>()?;
    let value = class.call1((text(error),))?;
    value.setattr("help", batchwright::kit::text::clean(error.help()))?;
    Ok(PyErr::from_value(value))
}

/// What happened, why, and what to do about it.
fn text(error: &Error) -> String {
    let line = |(what, text): (&str, String)| match what {
        "error" => text,
        what => format!("\n  {what}: {text}"),
    };
    error.lines().into_iter().map(line).collect()
}

const MODULE: &str = "batchwright._errors";

/// Makes the exceptions names of `_core`, too.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let errors = module.py().import(MODULE)?;
    for name in ["BatchwrightError", "ConfigError", "InputError", "PlanError"] {
        module.add(name, errors.getattr(name)?)?;
    }
    Ok(())
}
