//! Numbers from and to NumPy.

use arrow_array::ffi_stream::{FFI_ArrowArrayStream, RecordBatchStreamReader};
use batchwright::Error;
use batchwright::kernels::rows::RowIds;
use batchwright::kernels::scatter::Block;
use batchwright::kit::ids::RowType;
use batchwright::kit::matrix::Matrix;
use numpy::ndarray::ArrayView1;
use numpy::{
    Element, IntoPyArray, PyArray1, PyArray2, PyArrayMethods, PyUntypedArray, PyUntypedArrayMethods,
};
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyDict};

use crate::error::Result;

/// Any array-like as an array of NumPy.
fn asarray<'py>(any: &Bound<'py, PyAny>, dtype: Option<&str>) -> Result<Bound<'py, PyUntypedArray>> {
    let py = any.py();
    let options = PyDict::new(py);
    if let Some(dtype) = dtype {
        options.set_item("dtype", dtype)?;
    }
    let array = py.import("numpy")?.call_method("asarray", (any,), Some(&options))?;
    Ok(array.cast_into::<PyUntypedArray>().map_err(PyErr::from)?)
}

/// One-dimensional whole numbers >= 0; `name` is the argument's.
pub fn counts(name: &str, any: &Bound<'_, PyAny>) -> Result<Vec<u64>> {
    fn read<T: Element + Copy>(
        any: &Bound<'_, PyAny>,
        f: impl Fn(T) -> Option<u64>,
    ) -> Option<Option<Vec<u64>>> {
        let array = any.cast::<PyArray1<T>>().ok()?.readonly();
        Some(array.as_array().iter().map(|&x| f(x)).collect())
    }
    let known = |any: &Bound<'_, PyAny>| {
        read::<u32>(any, |x| Some(x.into()))
            .or_else(|| read::<u64>(any, Some))
            .or_else(|| read::<i64>(any, |x| u64::try_from(x).ok()))
    };
    let found = match known(any) {
        Some(found) => found,
        None => {
            let array = asarray(any, None)?;
            let kind: String = array.dtype().getattr("kind")?.extract()?;
            let whole = matches!(kind.as_str(), "i" | "u") || array.len() == 0;
            if array.ndim() != 1 || !whole {
                let reason = format!("an array of shape {:?} and type {}", array.shape(), array.dtype());
                return Err(Error::config(name, reason, "give whole numbers in one dimension").into());
            }
            let to = if kind == "u" { "uint64" } else { "int64" };
            known(asarray(array.as_any(), Some(to))?.as_any()).flatten()
        }
    };
    found.ok_or_else(|| Error::config(name, "one of them is negative", "numbers count from 0").into())
}

/// Two-dimensional numbers as `f32`.
pub fn points(any: &Bound<'_, PyAny>) -> Result<Matrix> {
    let cast = |x: f64| x as f32;
    let (shape, data) = if let Ok(array) = any.cast::<PyArray2<f64>>() {
        let array = array.readonly();
        (array.shape().to_vec(), array.as_array().iter().map(|&x| cast(x)).collect())
    } else {
        let array = asarray(any, Some("float32"))?;
        let Ok(array) = array.cast::<PyArray2<f32>>() else {
            let reason = format!("an array of shape {:?}", array.shape());
            return Err(Error::config("points", reason, "give one point a row: shape (n, dims)").into());
        };
        let array = array.readonly();
        (array.shape().to_vec(), array.as_array().iter().copied().collect::<Vec<f32>>())
    };
    Ok(Matrix::from_vec(shape[0], shape[1], data))
}

/// An array that owns its numbers.
pub fn array<T: Element>(py: Python<'_>, numbers: Vec<T>) -> Py<PyArray1<T>> {
    numbers.into_pyarray(py).unbind()
}

/// A read-only array of row numbers in the plan's type.
pub fn rows<'py>(py: Python<'py>, rows: Vec<u64>, row_type: RowType) -> Bound<'py, PyAny> {
    match row_type {
        RowType::U32 => {
            read_only(rows.into_iter().map(|row| row as u32).collect::<Vec<_>>().into_pyarray(py))
        }
        RowType::U64 => read_only(rows.into_pyarray(py)),
    }
}

/// The same array, closed for writing.
pub fn read_only<T: Element>(array: Bound<'_, PyArray1<T>>) -> Bound<'_, PyAny> {
    array.readwrite().make_nonwriteable();
    array.into_any()
}

/// A read-only view of row numbers that `owner` keeps alive and in their place; None if they do not lie together.
pub fn view<'py>(numbers: RowIds<'_>, owner: Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    match numbers {
        RowIds::U32(x) => Some(read_only(borrowed(x, owner))),
        RowIds::U64(x) => Some(read_only(borrowed(x, owner))),
        RowIds::Chunks32 { .. } | RowIds::Chunks64 { .. } => None,
    }
}

/// The same of real numbers.
pub fn real_view<'py>(numbers: &[f32], owner: Bound<'py, PyAny>) -> Bound<'py, PyAny> {
    read_only(borrowed(numbers, owner))
}

#[expect(unsafe_code, reason = "a view of a mapped file has no other way into NumPy")]
fn borrowed<'py, T: Element>(numbers: &[T], owner: Bound<'py, PyAny>) -> Bound<'py, PyArray1<T>> {
    // SAFETY: `numbers` lie in a mapped file of the plan. Its buffer is owned by `owner`, a frozen `Epoch` that never lets go of
    // it, and the array holds a reference to `owner`. Nobody writes: callers make the array read-only before they hand it out.
    unsafe { PyArray1::borrow_from_array(&ArrayView1::from(numbers), owner) }
}

/// The batches of an Arrow stream, by the PyCapsule interface.
#[expect(unsafe_code, reason = "the interface hands out a pointer")]
pub fn stream(capsule: &Bound<'_, PyCapsule>) -> Result<RecordBatchStreamReader> {
    let pointer = capsule.pointer_checked(Some(c"arrow_array_stream"))?;
    // SAFETY: a capsule of this name holds an ArrowArrayStream (Arrow's PyCapsule interface), and moving it out marks it as released,
    // so that the capsule's destructor leaves it alone.
    let stream = unsafe { FFI_ArrowArrayStream::from_raw(pointer.as_ptr().cast()) };
    RecordBatchStreamReader::try_new(stream)
        .map_err(|e| Error::input("the table", "has a schema that cannot be read", "").because(e).into())
}

/// Owns the memory of an array of NumPy.
#[pyclass(frozen, module = "batchwright._core")]
struct Memory {
    _block: Block,
}

/// The bytes of a block, without copying.
#[expect(unsafe_code, reason = "memory that is not NumPy's has no other way into it")]
pub fn of_block(py: Python<'_>, mut block: Block) -> Result<Bound<'_, PyArray1<u8>>> {
    let bytes = block.as_bytes_mut();
    let (start, length) = (bytes.as_mut_ptr(), bytes.len());
    let owner = Bound::new(py, Memory { _block: block })?.into_any();
    // SAFETY: the block's memory stays where it is until `owner`, which the array holds a reference to, is dropped; nobody but
    // the array has it, so it may be written to.
    Ok(unsafe {
        PyArray1::borrow_from_array(&ArrayView1::from(std::slice::from_raw_parts(start, length)), owner)
    })
}
