//! A plan's rows, read in its order: batches as arrays of NumPy, and everything that is no number as Arrow.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::ffi::{FFI_ArrowArray, FFI_ArrowSchema, to_ffi};
use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType;
use batchwright::Error;
use batchwright::kernels::scatter::Block;
use batchwright::plan::stream::{self, Next, Nulls, Options, Values};
use batchwright::source::{Dataset, Form};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyDict, PyList, PyString};

use crate::arrays;
use crate::error::Result;
use crate::plan::{Plan, paths};
use crate::wait::long;

/// How often signals are looked for while a batch is waited for.
const TICK: Duration = Duration::from_millis(50);

/// Epoch, number of the first batch of the smallest size, rows, columns.
type Handed<'py> = (u32, u64, Bound<'py, PyAny>, Bound<'py, PyDict>);

/// The compiled part of `batchwright.stream.Stream`.
#[pyclass(frozen, module = "batchwright._core")]
pub struct Stream {
    stream: Mutex<Option<stream::Stream>>,
    /// The process that has its threads: a forked child has a copy of everything else.
    process: u32,
    /// Ends the requests that its threads wait for.
    stop: Arc<AtomicBool>,
    columns: Vec<(String, Form)>,
    row_type: batchwright::kit::ids::RowType,
    memory: u64,
}

#[pymethods]
impl Stream {
    #[new]
    #[pyo3(signature = (plan, data, columns, ragged, rank, world_size, epoch, batch, epochs, threads, memory, mask, drop_last))]
    #[expect(clippy::too_many_arguments, reason = "one call, from stream.py, which gives all of them")]
    fn new(
        py: Python<'_>,
        plan: &Plan,
        data: &Bound<'_, PyAny>,
        columns: Vec<String>,
        ragged: Vec<String>,
        rank: u64,
        world_size: u64,
        epoch: u32,
        batch: u64,
        epochs: Option<u32>,
        threads: usize,
        memory: Option<u64>,
        mask: bool,
        drop_last: bool,
    ) -> Result<Stream> {
        let (opened, data) = (plan.opened()?, paths(data)?);
        let dealer = opened.dealer.clone();
        let core = opened.plan.clone();
        let row_type = core.manifest().row_type;
        let nulls = if mask { Nulls::Mask } else { Nulls::Error };
        let options = Options {
            columns,
            ragged,
            rank,
            world_size,
            epoch,
            batch,
            epochs,
            threads,
            memory,
            nulls,
            drop_last,
        };
        let (stream, stop) = long(py, move |engine| {
            let data = core.open_dataset(&data, Dataset::MEMORY, engine.progress())?;
            let stream = stream::Stream::new(&dealer, &data, &options)?;
            Ok((stream, engine.progress().cancel_switch()))
        })?;
        let columns = stream.columns().columns().iter();
        let columns = columns.map(|column| (column.name.clone(), column.form.clone())).collect();
        let memory = stream.memory();
        let process = std::process::id();
        Ok(Stream { stream: Mutex::new(Some(stream)), process, stop, columns, row_type, memory })
    }

    /// (epoch, number of the first batch of the smallest size, rows, columns) of the next batch; None: the last epoch has ended.
    fn next<'py>(&self, py: Python<'py>, k: u64) -> Result<Option<Handed<'py>>> {
        if self.process != std::process::id() {
            let reason = "the stream was made before this process was forked, and its threads are not here";
            return Err(Error::config("stream", reason, "make a stream in the process that reads it").into());
        }
        let Ok(mut held) = self.stream.try_lock() else {
            let reason = "another thread waits for a batch of this stream";
            return Err(Error::config("stream", reason, "give every thread a stream of its own").into());
        };
        let Some(stream) = held.as_mut() else { return Ok(None) };
        let batch = loop {
            match py.detach(|| stream.poll(k, TICK))? {
                Next::Batch(batch) => break batch,
                Next::End => {
                    let ended = held.take();
                    py.detach(move || drop(ended));
                    return Ok(None);
                }
                Next::Waiting => py.check_signals()?,
            }
        };
        drop(held);
        let rows = arrays::rows(py, batch.rows, self.row_type);
        let columns = PyDict::new(py);
        for ((name, form), values) in self.columns.iter().zip(batch.columns) {
            match (values, form) {
                (Values::Numbers { bytes, valid }, Form::Numbers { number, dims }) => {
                    columns.set_item(name, shaped(py, bytes, number, *dims)?)?;
                    if let Some(valid) = valid {
                        columns.set_item(
                            format!("{name}_valid"),
                            shaped(py, valid, &DataType::Boolean, None)?,
                        )?;
                    }
                }
                (Values::Arrow(array), _) => columns.set_item(name, Column(array))?,
                (Values::Numbers { .. }, Form::Arrow(_)) => unreachable!("a column has one form"),
            }
        }
        Ok(Some((batch.epoch, batch.first, rows, columns)))
    }

    /// Bytes that are read ahead at most.
    #[getter]
    fn memory(&self) -> u64 {
        self.memory
    }

    /// Names of the columns that are arrays of NumPy, and of those that are Arrow's.
    #[getter]
    fn forms(&self) -> (Vec<&str>, Vec<&str>) {
        let of = |numbers: bool| {
            let all = self.columns.iter().filter(|(_, form)| matches!(form, Form::Numbers { .. }) == numbers);
            all.map(|(name, _)| name.as_str()).collect()
        };
        (of(true), of(false))
    }

    /// Ends the threads. O(what they are at).
    fn close(&self, py: Python<'_>) {
        if self.process != std::process::id() {
            // There is nothing to wait for, and a lock may be held by a thread that is not here.
            return std::mem::forget(self.stream.try_lock().ok().and_then(|mut stream| stream.take()));
        }
        self.stop.store(true, Ordering::Relaxed);
        py.detach(|| drop(self.stream.lock().ok().and_then(|mut stream| stream.take())));
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // Its threads may wait for a server that another thread of Python is.
        Python::attach(|py| self.close(py));
    }
}

/// The numbers of a block without copying, one row an entry: shape (n,) or (n, dims).
fn shaped<'py>(
    py: Python<'py>,
    block: Block,
    number: &DataType,
    dims: Option<usize>,
) -> Result<Bound<'py, PyAny>> {
    let array = arrays::of_block(py, block)?;
    let name = match number {
        DataType::Boolean => "bool",
        DataType::Int8 => "int8",
        DataType::Int16 => "int16",
        DataType::Int32 => "int32",
        DataType::Int64 => "int64",
        DataType::UInt8 => "uint8",
        DataType::UInt16 => "uint16",
        DataType::UInt32 => "uint32",
        DataType::UInt64 => "uint64",
        DataType::Float16 => "float16",
        DataType::Float32 => "float32",
        _ => "float64",
    };
    let typed = array.call_method1("view", (name,))?;
    Ok(match dims {
        Some(dims) => typed.call_method1("reshape", ((-1, dims),))?,
        None => typed,
    })
}

/// Cells that are no numbers: an Arrow array, without copying, for whatever takes one (`pyarrow.array(column)`,
/// `polars.Series(column)`), and a sequence of Python objects.
#[pyclass(frozen, sequence, module = "batchwright")]
pub struct Column(ArrayRef);

#[pymethods]
impl Column {
    fn __len__(&self) -> usize {
        self.0.len()
    }

    fn __repr__(&self) -> String {
        format!("Column({} cells of {})", self.0.len(), self.0.data_type())
    }

    /// The Arrow PyCapsule interface.
    #[pyo3(signature = (requested_schema = None))]
    fn __arrow_c_array__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<(Bound<'py, PyCapsule>, Bound<'py, PyCapsule>)> {
        // A wish that need not be granted.
        drop(requested_schema);
        let failed = |e: arrow_schema::ArrowError| PyValueError::new_err(e.to_string());
        let (array, schema): (FFI_ArrowArray, FFI_ArrowSchema) = to_ffi(&self.0.to_data()).map_err(failed)?;
        let schema = PyCapsule::new_with_value(py, schema, c"arrow_schema")?;
        Ok((schema, PyCapsule::new_with_value(py, array, c"arrow_array")?))
    }

    /// Python objects: texts as `str`, nulls as None, anything else as PyArrow makes it.
    fn tolist<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let (py, array) = (slf.py(), &slf.get().0);
        let texts = |cells: &mut dyn Iterator<Item = Option<&str>>| {
            let cells: Vec<_> = cells.map(|cell| cell.map(|text| PyString::new(py, text))).collect();
            Ok(PyList::new(py, cells)?.into_any())
        };
        match array.data_type() {
            DataType::Utf8 => texts(&mut array.as_string::<i32>().iter()),
            DataType::LargeUtf8 => texts(&mut array.as_string::<i64>().iter()),
            DataType::Utf8View => texts(&mut array.as_string_view().iter()),
            _ => py.import("pyarrow")?.call_method1("array", (slf,))?.call_method0("to_pylist"),
        }
    }

    fn __iter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Ok(Self::tolist(slf)?.try_iter()?.into_any())
    }

    fn __getitem__<'py>(slf: &Bound<'py, Self>, index: isize) -> PyResult<Bound<'py, PyAny>> {
        Self::tolist(slf)?.get_item(index)
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, (Bound<'py, PyAny>,))> {
        let arrow = slf.py().import("pyarrow")?;
        Ok((arrow.getattr("array")?, (arrow.call_method1("array", (slf,))?.call_method0("to_pylist")?,)))
    }
}
