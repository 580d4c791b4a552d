"""The rows of a plan written again, in the order of its batches: `batchwright materialize` as a function, and in the formats of other
loaders.

    bw.materialize(plan, "data/", "shards", format="mds", columns=["embedding", "label"])

Parquet, Arrow and `.npy` files are written by the command, everything else from the stream of batches (`batchwright.stream`) by the
library that reads it. Nothing is imported before it is needed."""

import itertools
import json
import os
import shutil
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from batchwright._calls import call, settings
from batchwright._core import BatchwrightError, ConfigError, InputError, Plan, PlanError
from batchwright._formats import WRITERS, Batch
from batchwright.steps import need
from batchwright.stream import PLAN_COLUMNS, Stream, _names, _whole

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
    if plan._fold is not None:
        raise ConfigError(f"the plan without fold {plan._fold} is not on disk: materialize takes the one that was opened")
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
    """The command's verb: one implementation of these formats."""
    unknown = options.keys() - {"threads", "memory", "no_plan"}
    if unknown:
        raise TypeError(f"materialize() of {job.format} has no option {min(unknown)!r}: it takes threads, memory and no_plan")
    more = [name for name in job.extra if name not in ("batch", "row")]
    if len(job.extra) - len(more) < 2 or "loss_weight" in more:
        raise ConfigError(f"extra of {job.format} always has batch and row, and can have modality, stratum and centrality")
    given = settings({name: options.get(name) for name in ("threads", "memory")})
    params = {"epoch": job.epoch, "batch_size": job.batch_size, "format": job.format, "columns": job.columns or [], "with": more}
    beside = None if options.get("no_plan") else job.out.rstrip(os.sep) + ".plan"
    params |= {"file_bytes": job.file_size, "plan": beside}
    done: dict[str, Any] = call("materialize", given, None, plan=job.plan, data=job.data, out=job.out, force=job.force, materialize=params)
    return done


# ---------------------------------------------------------------------------------------------------------------- from the stream


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


def _batches(job: _Job, stream: Stream, count: dict[str, int]) -> Iterator[Batch]:
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
        yield Batch({name: batch[name] for name in order}, {name: mask for name, mask in masks.items() if not mask.all()}, stream)
        count["rows"] += n
        count["batches"] += 1
    if not count["batches"]:
        raise ConfigError(f"epoch {job.epoch} has no rows, and {job.format} cannot say what columns none has: take format='parquet'")
