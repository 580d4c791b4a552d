"""Files of other loaders, each written by its own library from batches of a stream, in their order."""

import io
import itertools
import json
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from batchwright._core import ConfigError, InputError
from batchwright.steps import need
from batchwright.stream import Stream, arrow


@dataclass
class Batch:
    """One batch: the columns in their order, with nulls apart."""

    columns: dict[str, Any]
    valid: dict[str, np.ndarray]
    """Of numbers and vectors with nulls, where they are not null."""
    stream: Stream

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def refuse_nulls(self, name: str, valid: np.ndarray, format: str) -> None:
        if not valid.all():
            step = self.stream.step
            assert step is not None
            row = step.rows[int(np.argmin(valid))]
            raise InputError(
                f"column {name!r} is null in row {row}, which {format} cannot say: write the data without nulls, leave the column out "
                "(columns=), or take format lance, array_record or parquet"
            )


Columns = list[dict[str, str]]
Writer = Callable[[Iterator[Batch], Path, int, dict[str, Any]], Columns]


def _kind(values: Any) -> str:
    """What cells are to formats of single rows: number, vector, text, bytes, list (of numbers), nested (what JSON says); else the type."""
    if isinstance(values, np.ndarray):
        return "number" if values.ndim == 1 else "vector"
    pa = need("pyarrow", "pyarrow")
    types, of = pa.types, pa.array(values).type
    if types.is_string(of) or types.is_large_string(of) or types.is_string_view(of):
        return "text"
    if types.is_binary(of) or types.is_large_binary(of) or types.is_binary_view(of) or types.is_fixed_size_binary(of):
        return "bytes"
    if (types.is_list(of) or types.is_large_list(of)) and (types.is_integer(of.value_type) or types.is_floating(of.value_type)):
        return "list"
    return "nested" if _says_json(of) else str(of)


def _says_json(of: Any) -> bool:
    """Does JSON say values of this type so that they are read back equal?"""
    types = need("pyarrow", "pyarrow").types
    if types.is_struct(of):
        return all(_says_json(field.type) for field in of)
    if types.is_list(of) or types.is_large_list(of) or types.is_fixed_size_list(of):
        return _says_json(of.value_type)
    texts = types.is_string(of) or types.is_large_string(of) or types.is_string_view(of)
    return bool(texts or types.is_integer(of) or types.is_floating(of) or types.is_boolean(of))


def _cannot(name: str, kind: str, format: str) -> ConfigError:
    return ConfigError(
        f"column {name!r} ({kind}) cannot be held by {format}: name the columns to copy without it (columns=), or take format lance, "
        "array_record or parquet"
    )


def _present(batch: Batch, name: str, format: str) -> Any:
    """The column's values, none of which is null."""
    values = batch.columns[name]
    if name in batch.valid:
        batch.refuse_nulls(name, batch.valid[name], format)
    if not isinstance(values, np.ndarray):
        array = arrow(values)
        if array.null_count:
            batch.refuse_nulls(name, np.asarray(array.is_valid()), format)
    return values


def _rows_of_json(batch: Batch, name: str) -> list[Any]:
    """Cells as what JSON has; null as None."""
    values = batch.columns[name]
    cells: list[Any] = values.tolist()
    if name in batch.valid:
        cells = [cell if there else None for cell, there in zip(cells, batch.valid[name], strict=True)]
    return cells


def _first(batches: Iterator[Batch]) -> tuple[Batch, Iterator[Batch]]:
    first = next(batches)
    return first, itertools.chain([first], batches)


def _rows(cells: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for row in zip(*cells.values(), strict=True):
        yield dict(zip(cells, row, strict=True))


def _mds(batches: Iterator[Batch], out: Path, file_size: int, options: dict[str, Any]) -> Columns:
    """MosaicML shards. Truth values are uint8, lists and structs JSON."""
    streaming = need("streaming", "mosaicml-streaming")
    first, batches = _first(batches)
    encodings, kinds = {}, {}
    for name, values in first.columns.items():
        kind = kinds[name] = _kind(values)
        if kind in ("number", "vector"):
            dtype = "uint8" if values.dtype == bool else values.dtype.name
            encodings[name] = dtype if kind == "number" else f"ndarray:{dtype}:{values.shape[1]}"
        elif kind in ("text", "bytes"):
            encodings[name] = {"text": "str"}.get(kind, kind)
        elif kind in ("list", "nested"):
            encodings[name] = "json"
        else:
            raise _cannot(name, kind, "mds")

    def cells(batch: Batch, name: str) -> Any:
        if kinds[name] in ("list", "nested"):
            return _rows_of_json(batch, name)
        values = _present(batch, name, "mds")
        if isinstance(values, np.ndarray):
            return values.view(np.uint8) if values.dtype == bool else values
        return values.tolist()

    writer = streaming.MDSWriter(columns=encodings, out=str(out), **{"size_limit": file_size, **options})
    try:
        for batch in batches:
            for row in _rows({name: cells(batch, name) for name in encodings}):
                writer.write(row)
    except BaseException:
        writer.cancel_future_jobs()
        raise
    writer.finish()
    return [{"name": name, "as": encoding} for name, encoding in encodings.items()]


def _webdataset(batches: Iterator[Batch], out: Path, file_size: int, options: dict[str, Any]) -> Columns:
    """Tar files of whole batches. A row is `KEY.json` with its numbers, truth values, lists and structs, and a file for each of its
    vectors (`KEY.NAME.npy`), texts (`KEY.NAME.txt`) and bytes (`KEY.NAME.bin`); KEY is its number in the copy."""
    extensions = dict(options.pop("extensions", {}))
    if options:
        raise TypeError(f"materialize() of webdataset has no option {min(options)!r}: it takes extensions, threads, memory and ragged")
    first, batches = _first(batches)
    members, kinds = {}, {}
    for name, values in first.columns.items():
        kind = kinds[name] = _kind(values)
        if kind not in ("number", "vector", "text", "bytes", "list", "nested"):
            raise _cannot(name, kind, "webdataset")
        suffix = {"vector": "npy", "text": "txt", "bytes": "bin"}.get(kind)
        if suffix:
            members[name] = f"{name}.{suffix}"
        if name in extensions:
            if kind not in ("text", "bytes"):
                raise ConfigError(f"extensions: column {name!r} ({kind}) is written as {members.get(name, 'json')}: name texts and bytes only")
            members[name] = extensions.pop(name)
    if extensions:
        raise ConfigError(f"extensions: there is no column {min(extensions)!r} in the copy")
    # Readers split at the first dot behind the last slash, and fold case.
    folded = ["json", *(suffix.lower() for suffix in members.values())]
    for name, suffix in members.items():
        if "/" in suffix or folded.count(suffix.lower()) > 1:
            raise ConfigError(
                f"column {name!r} cannot be a file {suffix!r} of webdataset, which knows no slash and no case: leave it out (columns=), "
                "or rename it in the data"
            )

    def cells(batch: Batch, name: str) -> list[bytes]:
        values = _present(batch, name, "webdataset")
        if isinstance(values, np.ndarray):
            return _npy(values)
        return [cell.encode() for cell in values.tolist()] if kinds[name] == "text" else values.tolist()

    in_json = [name for name in kinds if name not in members]
    position, files, tar = 0, 0, None
    try:
        for batch in batches:
            if tar is None:
                tar = tarfile.open(out / f"part-{files:05}.tar", "w")  # noqa: SIM115
                files += 1
            texts = [json.dumps(row).encode() for row in _rows({name: _rows_of_json(batch, name) for name in in_json})]
            whole = {"json": texts} if texts else {}
            whole |= {suffix: cells(batch, name) for name, suffix in members.items()}
            for row in _rows(whole):
                for suffix, content in row.items():
                    member = tarfile.TarInfo(f"{position:012}.{suffix}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
                position += 1
            if tar.offset >= file_size:
                tar.close()
                tar = None
    finally:
        if tar is not None:
            tar.close()
    return [{"name": name, "as": members.get(name, f"json: {name}")} for name in kinds]


def _npy(values: np.ndarray) -> list[bytes]:
    """A `.npy` file for every row."""
    file = io.BytesIO()
    np.save(file, values[0])
    header = file.getvalue()[: file.tell() - values[0].nbytes]
    return [header + row.tobytes() for row in values]


def _record_batch(batch: Batch) -> Any:
    pa = need("pyarrow", "pyarrow")
    return pa.RecordBatch.from_pydict({name: arrow(values, batch.valid.get(name)) for name, values in batch.columns.items()})


def _array_record(batches: Iterator[Batch], out: Path, file_size: int, options: dict[str, Any]) -> Columns:
    """Files of whole batches, a record a row: an Arrow IPC message of a record batch of one row, whose schema is in `schema.arrow`."""
    module = need("array_record.python.array_record_module", "array_record")
    first, batches = _first(batches)
    schema = _record_batch(first).schema
    (out / "schema.arrow").write_bytes(schema.serialize())
    # Groups of one record are what random access asks for.
    options = {"options": "group_size:1", **options}
    files, size, writer = 0, 0, None
    try:
        for batch in batches:
            if writer is None:
                writer = module.ArrayRecordWriter(str(out / f"part-{files:05}.array_record"), **options)
                files, size = files + 1, 0
            table = _record_batch(batch)
            for i in range(len(batch)):
                record = table.slice(i, 1).serialize().to_pybytes()
                writer.write(record)
                size += len(record)
            if size >= file_size:
                writer.close()
                writer = None
    finally:
        if writer is not None:
            writer.close()
    return [{"name": field.name, "as": str(field.type)} for field in schema]


def _lance(batches: Iterator[Batch], out: Path, file_size: int, options: dict[str, Any]) -> Columns:
    """A Lance data set, in Arrow's types; dictionaries become their values."""
    lance, pa = need("lance", "pylance"), need("pyarrow", "pyarrow")
    first, batches = _first(batches)
    table = _record_batch(first)
    failed: list[BaseException] = []

    def read() -> Iterator[Any]:
        try:
            for batch in batches:
                yield _record_batch(batch)
        except BaseException as error:
            # Lance would say that something failed.
            failed.append(error)
            raise

    def holds(column: Any) -> bool:
        try:
            lance.write_dataset(pa.table({"column": column}), "memory://column", **options)
        except Exception:
            return False
        return True

    try:
        reader = pa.RecordBatchReader.from_batches(table.schema, read())
        lance.write_dataset(reader, str(out), **{"max_bytes_per_file": file_size, **options})
    except Exception:
        if failed:
            raise failed[0] from None
        refused = [field for field in table.schema if not holds(table.column(field.name))]
        # Else it is the options or the disk.
        if refused and holds([0]):
            raise ConfigError(
                f"column {refused[0].name!r} ({refused[0].type}) cannot be held by lance: name the columns to copy without it (columns=), "
                "or take format parquet"
            ) from None
        raise
    return [{"name": field.name, "as": str(field.type)} for field in table.schema]


def _litdata(batches: Iterator[Batch], out: Path, file_size: int, options: dict[str, Any]) -> Columns:
    """Chunks of LitData. Vectors and lists of numbers are arrays, numbers and truth values Python's."""
    need("litdata", "litdata")
    module = need("litdata.streaming.writer", "litdata")
    texts = need("litdata.streaming.serializers", "litdata").StringSerializer
    distributed = need("torch", "torch").distributed
    if distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1:
        raise ConfigError("the writer of litdata waits for all ranks: materialize before torch.distributed begins, in one process")

    class Texts(texts):  # type: ignore[misc,valid-type]
        def can_serialize(self, data: Any) -> bool:
            """Also where a text happens to be the path of a file, whose content LitData would store."""
            return isinstance(data, str)

    first, batches = _first(batches)
    kinds = {name: _kind(values) for name, values in first.columns.items()}
    for name, kind in kinds.items():
        if kind not in ("number", "vector", "text", "bytes", "list"):
            raise _cannot(name, kind, "litdata")
        if kind == "number" and first.columns[name].dtype == np.uint64:
            raise _cannot(name, "uint64", "litdata")

    def cells(batch: Batch, name: str) -> Any:
        values = _present(batch, name, "litdata")
        if kinds[name] == "vector":
            return values
        return _lists(batch, name, arrow(values)) if kinds[name] == "list" else values.tolist()

    writer = module.BinaryWriter(str(out), **{"chunk_bytes": file_size, "serializers": {"str": Texts()}, **options})
    position = 0
    for batch in batches:
        for row in _rows({name: cells(batch, name) for name in kinds}):
            writer[position] = row
            position += 1
    writer.done()
    writer.merge(1)
    of = {"number": "number", "vector": "array", "list": "array", "text": "str", "bytes": "bytes"}
    return [{"name": name, "as": of[kind]} for name, kind in kinds.items()]


def _lists(batch: Batch, name: str, lists: Any) -> list[np.ndarray]:
    """An array for every list of numbers."""
    flat = lists.flatten()
    lengths = np.asarray(lists.value_lengths())
    ends = np.cumsum(lengths)
    if flat.null_count:
        at = int(np.argmin(np.asarray(flat.is_valid())))
        batch.refuse_nulls(name, np.arange(len(lists)) != int(np.searchsorted(ends, at, side="right")), "litdata")
    return np.split(flat.to_numpy(zero_copy_only=False), ends[:-1])


WRITERS: dict[str, Writer] = {
    "mds": _mds,
    "webdataset": _webdataset,
    "array_record": _array_record,
    "lance": _lance,
    "litdata": _litdata,
}
"""Formats that are written from the stream. A writer takes the batches, the directory, bytes of a file and options, and says what each
column has become."""
