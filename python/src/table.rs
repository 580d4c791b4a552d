//! Tables in memory, written where the passes can read them.

use std::path::PathBuf;

use std::sync::Arc;

use arrow_array::RecordBatchIterator;
use arrow_array::cast::AsArray;
use arrow_array::ffi_stream::{FFI_ArrowArrayStream, RecordBatchStreamReader};
use arrow_array::types::{
    ArrowPrimitiveType, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{
    Array, ArrayRef, BooleanArray, FixedSizeListArray, PrimitiveArray, RecordBatch, RecordBatchReader,
    StringArray,
};
use arrow_schema::{DataType, Field, SchemaRef};
use batchwright::Error;
use batchwright::format::Kind;
use batchwright::pipeline::spool::Spool;
use batchwright::plan as core;
use numpy::{
    Element, IntoPyArray, PyArrayDescrMethods, PyArrayMethods, PyUntypedArray, PyUntypedArrayMethods,
};
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyDict, PySlice};

use crate::arrays;
use crate::error::{Failure, Result};

/// Writes an Arrow stream (a capsule of `__arrow_c_stream__`) to a Parquet file; returns its rows. The stream is used up.
#[pyfunction]
pub fn spool(py: Python<'_>, stream: &Bound<'_, PyCapsule>, path: PathBuf) -> Result<u64> {
    let mut batches = arrays::stream(stream)?;
    py.detach(move || {
        let mut spool = Spool::create(&path, &batches.schema())?;
        while let Some(batch) = next(&mut batches)? {
            Python::attach(|py| py.check_signals())?;
            spool.push(&batch)?;
        }
        Ok(spool.finish()?)
    })
}

fn next(batches: &mut RecordBatchStreamReader) -> Result<Option<RecordBatch>> {
    let unreadable = |e| Error::input("the table", "ended with an error of whoever made it", "").because(e);
    batches.next().transpose().map_err(|e| Failure::Ours(unreadable(e)))
}

/// Rows of arrays that are taken at a time.
const BLOCK: isize = 8192;

/// Writes arrays of NumPy of the same length, each with its name, to a Parquet file: one dimension makes a column of numbers or texts,
/// two a column of vectors. Returns the rows.
#[pyfunction]
pub fn spool_arrays(
    py: Python<'_>,
    columns: Vec<(String, Bound<'_, PyUntypedArray>)>,
    path: PathBuf,
) -> Result<u64> {
    let length = |array: &Bound<'_, PyUntypedArray>| array.shape().first().copied().unwrap_or(0);
    let Some((first, rows)) = columns.first().map(|(name, array)| (name, length(array))) else {
        return Err(Error::input("the table", "has no columns", "give arrays by column name").into());
    };
    if let Some((name, array)) = columns.iter().find(|(_, array)| length(array) != rows) {
        let reason = format!("has {} rows, but {first} has {rows}", length(array));
        return Err(Error::input("the table", reason, "give arrays of the same length").column(name).into());
    }
    let rows = rows as isize;
    let block = |first: isize| -> Result<RecordBatch> {
        let rows = PySlice::new(py, first, (first + BLOCK).min(rows), 1);
        let taken = columns.iter().map(|(name, array)| Ok((name, column(name, &array.get_item(&rows)?)?)));
        let taken = taken.collect::<Result<Vec<_>>>()?;
        let batch = RecordBatch::try_from_iter(taken);
        Ok(batch.expect("columns of as many rows"))
    };
    // One even where there are no rows: it has the schema.
    let begin = block(0)?;
    let mut spool = Spool::create(&path, &begin.schema())?;
    spool.push(&begin)?;
    for first in (BLOCK..rows).step_by(BLOCK as usize) {
        py.check_signals()?;
        spool.push(&block(first)?)?;
    }
    Ok(spool.finish()?)
}

/// Rows of an array as a column.
fn column(name: &str, any: &Bound<'_, PyAny>) -> Result<ArrayRef> {
    let array = any.cast::<PyUntypedArray>().map_err(PyErr::from)?;
    let dtype = array.dtype();
    let kind: String = dtype.getattr("kind")?.extract()?;
    match (kind.as_str(), dtype.itemsize(), array.ndim()) {
        (_, _, 0 | 3..) => Err(unsuited(name, array)),
        ("b", _, 1) => Ok(Arc::new(BooleanArray::from(any.extract::<Vec<bool>>()?))),
        ("O" | "U" | "T", _, 1) => {
            let texts: Vec<Option<String>> = any.call_method0("tolist")?.extract()?;
            Ok(Arc::new(StringArray::from(texts)))
        }
        ("f", 2, _) => {
            let bits = any.call_method1("view", ("uint16",))?;
            numbers::<u16, Float16Type>(&bits, half::f16::from_bits)
        }
        ("f", 4, _) => numbers::<f32, Float32Type>(any, |x| x),
        ("f", 8, _) => numbers::<f64, Float64Type>(any, |x| x),
        ("i", 1, _) => numbers::<i8, Int8Type>(any, |x| x),
        ("i", 2, _) => numbers::<i16, Int16Type>(any, |x| x),
        ("i", 4, _) => numbers::<i32, Int32Type>(any, |x| x),
        ("i", 8, _) => numbers::<i64, Int64Type>(any, |x| x),
        ("u", 1, _) => numbers::<u8, UInt8Type>(any, |x| x),
        ("u", 2, _) => numbers::<u16, UInt16Type>(any, |x| x),
        ("u", 4, _) => numbers::<u32, UInt32Type>(any, |x| x),
        ("u", 8, _) => numbers::<u64, UInt64Type>(any, |x| x),
        _ => Err(unsuited(name, array)),
    }
}

fn unsuited(name: &str, array: &Bound<'_, PyUntypedArray>) -> Failure {
    let reason = format!("an array of shape {:?} and type {}", array.shape(), array.dtype());
    let help = "give numbers, booleans or texts in one dimension, or vectors in two: shape (n, dims)";
    Error::input("the table", reason, help).column(name).into()
}

fn numbers<T, A>(any: &Bound<'_, PyAny>, convert: impl Fn(T) -> A::Native) -> Result<ArrayRef>
where
    T: Element + Copy,
    A: ArrowPrimitiveType,
{
    let array = any.cast::<numpy::PyArrayDyn<T>>().map_err(PyErr::from)?.readonly();
    let shape = array.shape().to_vec();
    let numbers = PrimitiveArray::<A>::from_iter_values(array.as_array().iter().map(|&x| convert(x)));
    if shape.len() == 1 {
        return Ok(Arc::new(numbers));
    }
    let item = Arc::new(Field::new("element", A::DATA_TYPE, false));
    let lists = FixedSizeListArray::try_new(item, shape[1] as i32, Arc::new(numbers), None);
    Ok(Arc::new(lists.map_err(|e| Error::input("the table", "has vectors of no numbers", "").because(e))?))
}

/// A table of a plan, mapped into memory: for whatever takes an Arrow stream (`polars.DataFrame(table)`, `pyarrow.table(table)`,
/// `pandas.DataFrame.from_arrow(table)`, DuckDB), any number of times.
#[pyclass(frozen, module = "batchwright")]
pub struct Table {
    name: &'static str,
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
}

impl Table {
    pub fn open(plan: &core::Plan, name: &str) -> Result<Table> {
        let tables = Kind::ALL.into_iter().filter(|kind| *kind != Kind::Batches);
        let Some(kind) = tables.clone().find(|kind| kind.name() == name) else {
            let names: Vec<&str> = tables.map(Kind::name).collect();
            return Err(Error::config("name", format!("{name:?} is not a table"), names.join(", ")).into());
        };
        let Some(reader) = plan.table(kind)? else {
            let why = kind.contract().absent;
            return Err(Error::config(
                "name",
                format!("this plan has no table {name}"),
                format!("it is absent if {why}"),
            )
            .into());
        };
        let batches = (0..reader.batches()).map(|i| reader.batch(i)).collect::<batchwright::Result<_>>()?;
        Ok(Table { name: kind.name(), schema: reader.schema().clone(), batches })
    }

    fn column(&self, name: &str) -> Result<Vec<ArrayRef>> {
        let Ok(index) = self.schema.index_of(name) else {
            let names: Vec<&str> = self.schema.fields().iter().map(|f| f.name().as_str()).collect();
            let reason = format!("{name:?} is not a column of {}", self.name);
            return Err(Error::config("name", reason, names.join(", ")).into());
        };
        Ok(self.batches.iter().map(|batch| batch.column(index).clone()).collect())
    }
}

#[pymethods]
impl Table {
    /// The Arrow PyCapsule interface.
    #[pyo3(signature = (requested_schema = None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        // A wish that need not be granted.
        drop(requested_schema);
        let batches = RecordBatchIterator::new(self.batches.clone().into_iter().map(Ok), self.schema.clone());
        PyCapsule::new_with_value(py, FFI_ArrowArrayStream::new(Box::new(batches)), c"arrow_array_stream")
    }

    fn __len__(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    #[getter]
    fn column_names(&self) -> Vec<&str> {
        self.schema.fields().iter().map(|f| f.name().as_str()).collect()
    }

    /// Type of every column by name, as Arrow writes it.
    #[getter]
    fn schema(&self) -> Vec<(&str, String)> {
        self.schema.fields().iter().map(|f| (f.name().as_str(), f.data_type().to_string())).collect()
    }

    /// A column of numbers, booleans or texts, shape (rows,), or of vectors, shape (rows, dims); a copy. Nulls are -1 among whole numbers, NaN
    /// among others, None among texts. Raises ConfigError for lists of several lengths: take them through Arrow.
    fn to_numpy<'py>(&self, py: Python<'py>, name: &str) -> Result<Bound<'py, PyAny>> {
        let parts = self.column(name)?;
        let data_type = self.schema.field_with_name(name).expect("it is there").data_type();
        if let DataType::FixedSizeList(item, dims) = data_type {
            let flat: Vec<ArrayRef> = parts.iter().map(|p| p.as_fixed_size_list().values().clone()).collect();
            let flat = flat_numpy(py, name, item.data_type(), &flat)?;
            return Ok(flat.call_method1("reshape", (-1, *dims))?);
        }
        flat_numpy(py, name, data_type, &parts)
    }

    fn __repr__(&self) -> String {
        format!("Table({}, {} rows: {})", self.name, self.__len__(), self.column_names().join(", "))
    }
}

fn flat_numpy<'py>(
    py: Python<'py>,
    name: &str,
    data_type: &DataType,
    parts: &[ArrayRef],
) -> Result<Bound<'py, PyAny>> {
    fn whole<'py, A: ArrowPrimitiveType>(py: Python<'py>, parts: &[ArrayRef]) -> Bound<'py, PyAny>
    where
        A::Native: Element + TryInto<i64>,
    {
        let cells = || parts.iter().flat_map(|p| p.as_primitive::<A>().iter());
        match parts.iter().any(|p| p.null_count() > 0) {
            true => {
                let cell = |x: Option<A::Native>| x.and_then(|x| x.try_into().ok()).unwrap_or(-1);
                cells().map(cell).collect::<Vec<i64>>().into_pyarray(py).into_any()
            }
            false => cells().flatten().collect::<Vec<_>>().into_pyarray(py).into_any(),
        }
    }
    fn real<'py, A: ArrowPrimitiveType>(
        py: Python<'py>,
        parts: &[ArrayRef],
        nan: A::Native,
    ) -> Bound<'py, PyAny>
    where
        A::Native: Element,
    {
        let cells = parts.iter().flat_map(|p| p.as_primitive::<A>().iter());
        cells.map(|x| x.unwrap_or(nan)).collect::<Vec<_>>().into_pyarray(py).into_any()
    }
    Ok(match data_type {
        DataType::Boolean => {
            let cells = parts.iter().flat_map(|p| p.as_boolean().iter());
            cells.map(|x| x.unwrap_or(false)).collect::<Vec<_>>().into_pyarray(py).into_any()
        }
        DataType::UInt8 => whole::<UInt8Type>(py, parts),
        DataType::UInt16 => whole::<UInt16Type>(py, parts),
        DataType::UInt32 => whole::<UInt32Type>(py, parts),
        DataType::UInt64 => whole::<UInt64Type>(py, parts),
        DataType::Int32 => whole::<Int32Type>(py, parts),
        DataType::Int64 => whole::<Int64Type>(py, parts),
        DataType::Float32 => real::<Float32Type>(py, parts, f32::NAN),
        DataType::Float64 => real::<Float64Type>(py, parts, f64::NAN),
        DataType::Utf8 => {
            let cells: Vec<Option<&str>> = parts.iter().flat_map(|p| p.as_string::<i32>().iter()).collect();
            let options = PyDict::new(py);
            options.set_item("dtype", "object")?;
            py.import("numpy")?.call_method("array", (cells,), Some(&options))?
        }
        other => {
            let reason = format!("the column {name:?} is {other}");
            let help = "take it through Arrow: pyarrow.table(table) or polars.DataFrame(table)";
            return Err(Error::config("name", reason, help).into());
        }
    })
}
