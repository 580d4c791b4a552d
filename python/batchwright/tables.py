"""What `data` may be: paths as the command takes them, or a table in memory.

A table is written once to a Parquet file beside the plan, which goes when the call ends: its rows are read twice, in parts and by number,
as those of any file are. The file depends on the values alone, so the same rows give the same plan from pandas, polars, Arrow or files."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from batchwright import _core
from batchwright._core import InputError

__all__ = ["TABLE", "VECTORS", "inputs", "is_table", "write"]

TABLE = "table.parquet"
"""Name of the file that a table is written to: what a plan of it names as its data."""
VECTORS = "vector"
"""Name of the column that an array of shape (n, dims) becomes."""
ROWS = 65_536
"""Rows that a Hugging Face dataset is read by."""


def is_table(data: Any) -> bool:
    """Whether it is a table, and not paths."""
    if isinstance(data, (str, os.PathLike)):
        return False
    return not (isinstance(data, Sequence) and all(isinstance(one, (str, os.PathLike)) for one in data))


@contextmanager
def inputs(data: Any, beside: str | None) -> Iterator[list[str]]:
    """Paths of the data for a call: a table's are those of a file in a temporary folder, in the folder of `beside` if that is given."""
    if data is None:
        yield []
    elif isinstance(data, (str, os.PathLike)):
        yield [_text(data)]
    elif not is_table(data):
        yield [_text(one) for one in data]
    else:
        parent = None if beside is None else os.path.dirname(os.path.abspath(beside))
        folder = tempfile.mkdtemp(prefix=".batchwright-table-", dir=parent if parent and os.path.isdir(parent) else None)
        try:
            path = os.path.join(folder, TABLE)
            write(data, path)
            yield [path]
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _text(path: str | os.PathLike[str]) -> str:
    return os.fsdecode(path)


def write(data: Any, path: str | os.PathLike[str]) -> int:
    """Writes a table to a Parquet file and returns its rows. O(rows); a row group of 65 536 rows or 128 MiB is in memory beside it.

    Raises InputError for what is no table, with what to give instead, and for a column that Parquet cannot hold."""
    arrays = _arrays(data)
    if arrays is not None:
        return _core.spool_arrays(arrays, os.fspath(path))
    return _core.spool(_stream(data), os.fspath(path))


def _arrays(data: Any) -> list[tuple[str, np.ndarray[Any, Any]]] | None:
    if isinstance(data, Mapping) and not _is_hugging_face(data, "DatasetDict", "IterableDatasetDict"):
        return [(str(name), _array(str(name), column)) for name, column in data.items()]
    if isinstance(data, np.ndarray) or hasattr(data, "__array_interface__") or _is_tensor(data):
        array = _array(VECTORS, data)
        if array.ndim != 2:
            raise InputError(f"data is an array of shape {array.shape}: expected (n, dims), or a dict of arrays by column name")
        return [(VECTORS, array)]
    return None


def _array(name: str, column: Any) -> np.ndarray[Any, Any]:
    if _is_tensor(column):
        column = column.detach().cpu()
        # NumPy has no bfloat16.
        column = column.float() if "bfloat16" in str(column.dtype) else column
        column = column.numpy()
    array = np.asarray(column)
    if array.dtype.kind == "O" and array.ndim == 1 and len(array) and not isinstance(array[0], (str, type(None))):
        raise InputError(f"column {name!r} holds {type(array[0]).__name__} objects: give numbers, booleans, texts, or vectors of shape (n, dims)")
    return array


def _is_tensor(data: Any) -> bool:
    return type(data).__module__.partition(".")[0] == "torch" and hasattr(data, "detach")


def _is_hugging_face(data: Any, *names: str) -> bool:
    return any(c.__module__.partition(".")[0] == "datasets" and c.__name__ in names for c in type(data).__mro__)


def _stream(data: Any) -> Any:
    """The Arrow stream of a table: asked for once, for it may be good for one reading."""
    if _is_hugging_face(data, "DatasetDict", "IterableDatasetDict"):
        raise InputError(f"data is a {type(data).__name__}: name one of its splits, such as data[{next(iter(data), 'train')!r}]")
    if _is_hugging_face(data, "IterableDataset"):
        raise InputError("data is an IterableDataset, which has no row numbers: give a Dataset, or the Parquet files that it reads")
    if _is_hugging_face(data, "Dataset"):
        return _hugging_face(data).__arrow_c_stream__()
    if type(data).__module__.partition(".")[0] == "polars" and hasattr(data, "collect"):
        raise InputError("data is a LazyFrame, which has no rows yet: give data.collect()")
    if not hasattr(data, "__arrow_c_stream__") and hasattr(data, "to_reader"):
        return data.to_reader().__arrow_c_stream__()
    if not hasattr(data, "__arrow_c_stream__") and hasattr(data, "scanner"):
        return data.scanner().to_reader().__arrow_c_stream__()
    if not hasattr(data, "__arrow_c_stream__"):
        known = "paths, a data frame, an Arrow table or stream, a Hugging Face Dataset, an array of shape (n, dims), or a dict of arrays"
        raise InputError(f"data is {type(data).__name__}: expected {known}")
    try:
        return data.__arrow_c_stream__()
    except ImportError as e:
        raise InputError(f"a {type(data).__module__.partition('.')[0]} data frame gives its rows through pyarrow: pip install pyarrow") from e


def _hugging_face(data: Any) -> Any:
    """Its rows as they stand after select, shuffle and filter: `.data` has those before."""
    import pyarrow

    tables = (pyarrow.table(part) for part in data.with_format("arrow").iter(batch_size=ROWS))
    first = next(tables, None)
    if first is None:
        return data.features.arrow_schema.empty_table()

    def batches() -> Iterator[Any]:
        yield from first.to_batches()
        for table in tables:
            yield from table.cast(first.schema).to_batches()

    return pyarrow.RecordBatchReader.from_batches(first.schema, batches())
