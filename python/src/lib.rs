//! `batchwright._core`: the library of batchwright as Python sees it. This crate carries values across and decides
//! nothing; the surface is documented in `batchwright/_core.pyi`.

mod arrays;
mod call;
mod cli;
mod engines;
mod epoch;
mod error;
mod plan;
mod runtime;
mod stream;
mod table;
mod wait;

use pyo3::prelude::*;

#[pymodule]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    error::register(module)?;
    module.add_function(wrap_pyfunction!(cli::main, module)?)?;
    module.add_function(wrap_pyfunction!(call::call, module)?)?;
    module.add_function(wrap_pyfunction!(call::keywords, module)?)?;
    module.add_function(wrap_pyfunction!(table::spool, module)?)?;
    module.add_function(wrap_pyfunction!(table::spool_arrays, module)?)?;
    module.add_function(wrap_pyfunction!(engines::run_task, module)?)?;
    module.add_class::<engines::Tell>()?;
    module.add_class::<engines::Folder>()?;
    module.add_class::<plan::Plan>()?;
    module.add_class::<plan::Folds>()?;
    module.add_class::<table::Table>()?;
    module.add_class::<plan::Assignment>()?;
    module.add_class::<plan::Places>()?;
    module.add_class::<plan::RowGroups>()?;
    module.add_class::<epoch::Epoch>()?;
    module.add_class::<epoch::Updates>()?;
    module.add_class::<stream::Stream>()?;
    module.add_class::<stream::Column>()?;
    module.add_class::<runtime::Score>()?;
    module.add_class::<runtime::Accumulator>()?;
    module.add_class::<runtime::Ratchet>()?;
    module.add_class::<runtime::LoaderChoice>()
}
