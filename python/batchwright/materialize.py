"""The rows of a plan written again, in the order of its batches: `batchwright materialize` as a function, and in the formats of other
loaders.

    bw.materialize(plan, "data/", "shards", format="mds", columns=["embedding", "label"])

Parquet, Arrow and `.npy` files are written by the command, everything else from the stream of batches (`batchwright.stream`) by the
library that reads it. Nothing is imported before it is needed."""

import io
import itertools
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from batchwright._core import BatchwrightError, ConfigError, InputError, Plan, PlanError
from batchwright.steps import need
from batchwright.stream import PLAN_COLUMNS, Stream, _names, _whole, arrow

__all__ = ["materialize"]

NOTE = "batchwright.json"
"""What made a copy, in its directory."""

COMMAND = ("parquet", "arrow", "npy")
"""Formats that the command writes."""


def materialize(
    plan: Plan,
    data: Any,
    out: str | os.PathLike[str],
    *,
    format: str = "parquet",
    epoch: int = 0,
    batch_size: int | None = None,
    columns: Sequence[str] | None = None,
    extra: Sequence[str] = ("batch", "row"),
    file_size: int = 64 << 20,
    force: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """Writes every row of an epoch once, in the order of the plan's batches, to the directory `out`.

    format: "parquet", "arrow", "npy"; "mds" (MosaicML), "webdataset" (tar), "array_record" (Grain), "lance", "litdata".
    data: the files, folders, patterns or URLs that the plan was made from. columns: all by default.
    extra: columns to add: "batch", the number of the batch in its epoch, and `batchwright.stream.PLAN_COLUMNS`.
    file_size: bytes of a file, about. force: replaces an older copy, and nothing else.
    options: `threads` and `memory` (bytes), as of a stream or of the command; `no_plan` of Parquet; `ragged` of a stream; `extensions` of
    "webdataset" (column of texts or bytes -> extension, such as {"image": "jpg"}); all others go to the library's writer (`MDSWriter`,
    `ArrayRecordWriter`, `lance.write_dataset`, `litdata.streaming.writer.BinaryWriter`).

    `out` appears in the end, whole; a run that fails or is interrupted leaves nothing. Returns what `batchwright materialize --json` says:
    rows, left_out, batches, batch_size, epoch, files, bytes, added, plan (id of the copy's own plan), no_plan, seconds. O(rows); one
    batch and one file are in memory beside what the stream reads ahead.

    Raises ConfigError (a column that the format cannot hold is named), InputError (a null that it cannot hold, with its row; the disk),
    PlanError (other data), and ModuleNotFoundError with what to install."""
    if not isinstance(plan, Plan):
        raise ConfigError(f"expected a batchwright.Plan, not {type(plan).__name__}: open one with batchwright.Plan.open(path)")
    if format not in (*COMMAND, *WRITERS):
        raise ConfigError(f"format {format!r} is none of {', '.join((*COMMAND, *WRITERS))}")
    extra = _names("extra", extra)
    unknown = [name for name in extra if name not in ("batch", *PLAN_COLUMNS)]
    if unknown:
        raise ConfigError(f"extra column {unknown[0]!r} is none of batch, {', '.join(PLAN_COLUMNS)}")
    columns = None if columns is None else _names("columns", columns)
    job = _Job(
        plan, data, os.fspath(out), format, _whole("epoch", epoch), batch_size, columns, extra, _whole("file_size", file_size, 1), force
    )
    return _command(job, options) if format in COMMAND else _copy(job, options)


@dataclass
class _Job:
    plan: Plan
    data: Any
    out: str
    format: str
    epoch: int
    batch_size: int | None
    columns: list[str] | None
    extra: list[str]
    file_size: int
    force: bool


# ---------------------------------------------------------------------------------------------------------------- the command


def _command(job: _Job, options: dict[str, Any]) -> dict[str, Any]:
    """`batchwright materialize` in a process of its own: one implementation of these formats."""
    unknown = options.keys() - {"threads", "memory", "no_plan"}
    if unknown:
        raise TypeError(f"materialize() of {job.format} has no option {min(unknown)!r}: it takes threads, memory and no_plan")
    with_ = [name for name in job.extra if name not in ("batch", "row")]
    if len(job.extra) - len(with_) < 2 or "loss_weight" in with_:
        raise ConfigError(f"extra of {job.format} always has batch and row, and can have modality, stratum and centrality")
    paths = [job.data] if isinstance(job.data, (str, os.PathLike)) else list(job.data)
    flags: list[Any] = ["--out", job.out, "--format", job.format, "--epoch", job.epoch, "--file-size", job.file_size, "--json"]
    # Settings of a shell or of a project's file are the command's, not the function's.
    flags += ["--config", os.devnull]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BATCHWRIGHT_")}
    for name, value in (("--batch-size", job.batch_size), ("--threads", options.get("threads")), ("--memory", options.get("memory"))):
        flags += [name, value] if value is not None else []
    if job.columns and len(job.columns) == 1 and "," in job.columns[0]:
        raise ConfigError(f"columns {job.columns[0]!r}: the command takes one name with commas for several: name another column, too")
    flags += [f"--columns={name}" for name in job.columns or []] + [f"--with={name}" for name in with_]
    flags += ["--force"] * bool(job.force) + ["--no-plan"] * bool(options.get("no_plan"))
    program = [sys.executable, "-m", "batchwright", "materialize", *map(str, flags), "--", job.plan.path, *(os.fspath(path) for path in paths)]
    process = subprocess.Popen(program, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        said, told = process.communicate()
    except BaseException:
        # It cleans up, as at Ctrl-C.
        process.terminate()
        process.communicate()
        raise
    if process.returncode:
        raise _failure(job, paths, process.returncode, told)
    if told.strip():
        warnings.warn(told.strip(), stacklevel=4)
    done: dict[str, Any] = json.loads(said)
    return done


def _failure(job: _Job, paths: list[Any], code: int, told: str) -> BaseException:
    """What the command ended with, as what the library raises."""
    text = told[told.rfind("error: ") + len("error: ") :].strip() if "error: " in told else told.strip()
    if code == 130:
        return KeyboardInterrupt()
    if code == 2:
        return ConfigError(text)
    if code != 3:
        return BatchwrightError(f"the command ended with {code}: {text}")
    try:
        Plan.open(job.plan.path).check_dataset(paths)
    except PlanError:
        return PlanError(text)
    except BatchwrightError:
        pass
    return InputError(text)


# ---------------------------------------------------------------------------------------------------------------- from the stream


@dataclass
class _Batch:
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
Writer = Callable[[Iterator[_Batch], Path, int, dict[str, Any]], Columns]


def _copy(job: _Job, options: dict[str, Any]) -> dict[str, Any]:
    begun = time.monotonic()
    if "://" in job.out:
        raise ConfigError(f"out {job.out} is no directory of this machine: write there first, then copy")
    out = Path(os.path.realpath(job.out))
    _check_replaceable(out, job.force)
    if not out.parent.is_dir():
        raise InputError(f"{out.parent} is not there: make the directory first")
    reading: dict[str, Any] = {name: options.pop(name) for name in ("threads", "memory", "ragged") if name in options}
    stream = _stream(job, reading)
    with stream:
        size, count = stream.batch_size, {"rows": 0, "batches": 0}
        # Beside `out`, so that a rename moves it into place.
        making = out.with_name(f".{out.name}.batchwright-{os.getpid()}-{next(_number)}")
        try:
            making.mkdir()
            columns = WRITERS[job.format](_batches(job, stream, count), making, job.file_size, options)
            note = {"plan": job.plan.plan_id, "epoch": job.epoch, "batch_size": size, "format": job.format, **count}
            files = sorted(str(path.relative_to(making)) for path in making.rglob("*") if not path.is_dir())
            total = sum((making / name).stat().st_size for name in files)
            (making / NOTE).write_text(json.dumps({**note, "columns": columns, "files": files}, indent=2) + "\n")
            _check_replaceable(out, job.force)
            _move(making, out)
        except OSError as error:
            raise InputError(f"cannot write {job.out}: {error}") from error
        finally:
            shutil.rmtree(making, ignore_errors=True)
    return {
        **count,
        "left_out": job.plan.rows - count["rows"],
        "batch_size": size,
        "epoch": job.epoch,
        "files": len(files),
        "bytes": total,
        "added": job.extra,
        "plan": None,
        "no_plan": f"none: plans are made of Parquet files, not of {job.format}",
        "seconds": time.monotonic() - begun,
    }


_number = itertools.count()


def _check_replaceable(out: Path, force: bool) -> None:
    """Only what a run has written may be replaced, and only on demand; an empty directory always."""
    if not os.path.lexists(out):
        return
    if not out.is_dir():
        raise ConfigError(f"out {out} exists and is no directory: choose another name")
    found = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_symlink() or not path.is_dir()}
    if not found:
        return
    try:
        own = {NOTE, *json.loads((out / NOTE).read_text())["files"]}
    except (OSError, ValueError, KeyError, TypeError):
        own = set()
    foreign = sorted(found - own)
    if foreign:
        raise ConfigError(f"out {out} is a directory and holds {foreign[0]}, which would be deleted: choose another name")
    if not force:
        raise ConfigError(f"out {out} exists already: choose another name, or replace it with force=True")


def _move(making: Path, out: Path) -> None:
    old = making.with_name(making.name + "-old")
    there = out.is_dir()
    if there:
        out.rename(old)
    try:
        making.rename(out)
    except BaseException:
        if there:
            old.rename(out)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _stream(job: _Job, reading: dict[str, Any]) -> Stream:
    of_plan = [name for name in job.extra if name != "batch"]
    missing = [name for name in of_plan if name == "loss_weight" and job.plan.loss_weight(np.zeros(0, np.int64)) is None]
    if missing:
        raise ConfigError("the plan does not skew shares, so every loss_weight is 1: leave it out of `extra`")
    need("pyarrow", "pyarrow")

    def opened(nulls: Any) -> Stream:
        return job.plan.stream(
            job.data, job.columns, batch_size=job.batch_size, epoch=job.epoch, epochs=1, nulls=nulls, extra=of_plan, **reading
        )

    stream = opened("mask")
    names = {name for form in stream._core.forms for name in form}  # type: ignore[union-attr]
    if "batch" in names and "batch" in job.extra:
        raise ConfigError("the dataset has a column 'batch' of its own: leave it out of `columns` or of `extra`")
    if any(f"{name}_valid" in names for name in names):
        # The mask of nulls would hide a column of that name.
        stream.close()
        stream = opened("error")
    return stream


def _batches(job: _Job, stream: Stream, count: dict[str, int]) -> Iterator[_Batch]:
    """The batches, at least one. `count` is kept up to date."""
    numbers, others = stream._core.forms  # type: ignore[union-attr]
    data = {*numbers, *others}
    for batch in stream:
        assert stream.step is not None
        n = len(next(iter(batch.values())))
        if "batch" in job.extra:
            batch["batch"] = np.full(n, stream.step.step, np.int64)
        order = [*(name for name in batch if name in data), *job.extra]
        masks = {name: batch[f"{name}_valid"] for name in data if f"{name}_valid" in batch.keys() - data}
        yield _Batch({name: batch[name] for name in order}, {name: mask for name, mask in masks.items() if not mask.all()}, stream)
        count["rows"] += n
        count["batches"] += 1
    if not count["batches"]:
        raise ConfigError(f"epoch {job.epoch} has no rows, and {job.format} cannot say what columns none has: take format='parquet'")


# ---------------------------------------------------------------------------------------------------------------- formats


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


def _present(batch: _Batch, name: str, format: str) -> Any:
    """The column's values, none of which is null."""
    values = batch.columns[name]
    if name in batch.valid:
        batch.refuse_nulls(name, batch.valid[name], format)
    if not isinstance(values, np.ndarray):
        array = arrow(values)
        if array.null_count:
            batch.refuse_nulls(name, np.asarray(array.is_valid()), format)
    return values


def _rows_of_json(batch: _Batch, name: str) -> list[Any]:
    """Cells as what JSON has; null as None."""
    values = batch.columns[name]
    cells: list[Any] = values.tolist()
    if name in batch.valid:
        cells = [cell if there else None for cell, there in zip(cells, batch.valid[name], strict=True)]
    return cells


def _first(batches: Iterator[_Batch]) -> tuple[_Batch, Iterator[_Batch]]:
    first = next(batches)
    return first, itertools.chain([first], batches)


def _rows(cells: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for row in zip(*cells.values(), strict=True):
        yield dict(zip(cells, row, strict=True))


def _mds(batches: Iterator[_Batch], out: Path, file_size: int, options: dict[str, Any]) -> Columns:
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

    def cells(batch: _Batch, name: str) -> Any:
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


def _webdataset(batches: Iterator[_Batch], out: Path, file_size: int, options: dict[str, Any]) -> Columns:
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

    def cells(batch: _Batch, name: str) -> list[bytes]:
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


def _record_batch(batch: _Batch) -> Any:
    pa = need("pyarrow", "pyarrow")
    return pa.RecordBatch.from_pydict({name: arrow(values, batch.valid.get(name)) for name, values in batch.columns.items()})


def _array_record(batches: Iterator[_Batch], out: Path, file_size: int, options: dict[str, Any]) -> Columns:
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


def _lance(batches: Iterator[_Batch], out: Path, file_size: int, options: dict[str, Any]) -> Columns:
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


def _litdata(batches: Iterator[_Batch], out: Path, file_size: int, options: dict[str, Any]) -> Columns:
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

    def cells(batch: _Batch, name: str) -> Any:
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


def _lists(batch: _Batch, name: str, lists: Any) -> list[np.ndarray]:
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
