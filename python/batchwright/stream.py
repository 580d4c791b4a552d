"""The rows of a plan's batches, read from the files in the order of the plan: `Plan.stream` makes a `Stream`.

    for batch in plan.stream("data/", columns=["embedding", "label"], epochs=3):
        batch["embedding"]          # (n, dims) float32
        batch["row"]                # row numbers of the dataset, for plan.weights_for(batch["row"], progress)

Threads of their own read ahead. A plan in the local order (`batchwright plan --locality local`) is read at the speed of the disk and
needs the memory of two rounds; the rows of any other plan are read into memory once."""

import operator
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np

from batchwright import _core, steps
from batchwright._core import ConfigError, Plan
from batchwright.steps import Deal, Step, check_state, need

__all__ = ["PLAN_COLUMNS", "Stream"]

PLAN_COLUMNS = ("row", "centrality", "modality", "stratum", "loss_weight")
"""What a plan knows of a row; `row` is its number in the dataset."""


class Stream(Iterator[dict[str, Any]]):
    """This rank's rows of batch after batch, epoch after epoch: dictionaries of columns.

    `columns` are in the types that the files store: numbers and truth values of shape (n,), vectors (n, dims), anything else a
    `batchwright.Column`, which is an Arrow array (`pyarrow.array(column)`) and a sequence of Python objects. `extra` says which of
    `PLAN_COLUMNS` are in a batch too.

    data: the files, folders, patterns or URLs that the plan was made from.
    batch_size: rows of a batch over all ranks, the plan's recommended one by default; with `candidates` it may be changed (`choose`).
    epoch, epochs: the first epoch, and how many; None: without end.
    threads: how many read, all cores by default. memory: bytes that may be read ahead; what two rounds take by default.
    ragged: columns of lists that are to stay lists though their numbers could be vectors.
    nulls: "error" ends with an error that names the row; with "mask" null numbers are 0, and `NAME_valid` says where there is one.
    rest: what becomes of the last batch of an epoch if it is short: "short" hands it out, "drop" leaves it out, "pad" repeats its
    first row, and every batch has a column `weight`, float32: 0 for rows that repeat others.
    state: where to go on, see `state_dict`; `epoch` and `epochs` are still those of the run.

    Raises ConfigError, PlanError (other data), InputError. After an error no further batch is handed out."""

    def __init__(
        self,
        plan: Plan,
        data: Any,
        columns: Sequence[str] | None = None,
        *,
        rank: int = 0,
        world_size: int = 1,
        batch_size: int | None = None,
        candidates: bool = False,
        epoch: int = 0,
        epochs: int | None = None,
        threads: int | None = None,
        memory: int | None = None,
        ragged: Sequence[str] = (),
        nulls: Literal["error", "mask"] = "error",
        extra: Sequence[str] = ("row",),
        rest: Literal["short", "drop", "pad"] = "short",
        state: dict[str, Any] | None = None,
    ) -> None:
        for name, given, known in (("nulls", nulls, ("error", "mask")), ("rest", rest, ("short", "drop", "pad"))):
            if given not in known:
                raise ConfigError(f"{name} {given!r} is none of {', '.join(map(repr, known))}")
        unknown = [name for name in extra if name not in PLAN_COLUMNS]
        if unknown:
            raise ConfigError(f"extra column {unknown[0]!r} is none of {', '.join(PLAN_COLUMNS)}")
        self._deal = Deal(plan, batch_size, world_size=world_size, drop_last=rest == "drop", candidates=candidates)
        self._deal.warn_left_out()
        self.plan, self.data, self.rank, self.world_size = plan, data, _whole("rank", rank), world_size
        self.columns = None if columns is None else _names("columns", columns)
        self.ragged, self.nulls, self.extra, self.rest = _names("ragged", ragged), nulls, tuple(extra), rest
        self.epochs = None if epochs is None else _whole("epochs", epochs)
        self.threads = 0 if threads is None else _whole("threads", threads, 1)
        self._memory = None if memory is None else _whole("memory", memory)
        self._begin = _whole("epoch", epoch)
        self._epoch, self._step, self._unit = self._begin, 0, 0
        self._core: _core.Stream | None = None
        self._ended = False
        self.step: Step | None = None
        """What the batch is that was handed out last: its epoch, number, weights, scale, score."""
        if state is not None:
            self._go_to(state)
        self._open()

    def _open(self) -> None:
        left = None if self.epochs is None else max(0, self._begin + self.epochs - self._epoch)
        self._core = _core.Stream(
            self.plan, self.data, self.columns or [], self.ragged, self.rank, self.world_size, self._epoch, self._unit, left,
            self.threads, self._memory, self.nulls == "mask", self._deal.drop_last,
        )  # fmt: skip
        numbers, others = self._core.forms
        for name in (*self.extra, *(("weight",) if self.rest == "pad" else ())):
            if name in numbers or name in others:
                raise ConfigError(f"the dataset has a column {name!r} of its own: leave it out of `columns` or of `extra`")

    @property
    def memory(self) -> int:
        """Bytes that are read ahead at most."""
        assert self._core is not None
        return self._core.memory

    @property
    def batch_size(self) -> int:
        """Rows of a batch over all ranks, as chosen now."""
        return self._deal.size

    @property
    def steps_per_epoch(self) -> int:
        """Batches of this epoch, if the size stays."""
        return self._deal.steps(self._epoch, 0, self._deal.size)

    def __len__(self) -> int:
        """Batches that are left, if the size stays. TypeError of a stream without end."""
        if self.epochs is None:
            raise TypeError("a stream without `epochs` has no length")
        if self._ended:
            return 0
        epochs = range(self._epoch, self._begin + self.epochs)
        return sum(self._deal.steps(epoch, self._unit if epoch == self._epoch else 0, self._deal.size) for epoch in epochs)

    def __iter__(self) -> "Stream":
        return self

    def choose(self, batch_size: int) -> None:
        """From the next batch on, batches of this size, one of the plan's candidates. Smaller ones may lead up to the next place where the
        new size fits, so that every row is still dealt once. Call it on all ranks after the same batch."""
        self._deal.choose(batch_size)

    def __next__(self) -> dict[str, Any]:
        if self._ended or self._core is None:
            raise StopIteration
        deal = self._deal
        size = deal.size_at(self._epoch, self._unit, deal.size)
        n = deal.left(self._unit, size)
        if not n:
            self._epoch, self._step, self._unit = self._epoch + 1, 0, 0
            size = deal.size_at(self._epoch, 0, deal.size)
            n = deal.left(0, size)
        found = self._core.next(size // deal.unit) if n else None
        if found is None:
            self.close()
            raise StopIteration
        epoch, first, rows, batch = found
        assert (epoch, first) == (self._epoch, self._unit), "the reader and the plan count alike"
        self.step = Step(deal, epoch, self._step, first, size, n, self.rank, 0)
        for name in self.extra:
            values = rows.astype(np.int64) if name == "row" else getattr(self.plan, name)(rows)
            if values is not None:
                batch[name] = np.array(values)
        if self.rest == "pad":
            batch = _padded(batch, len(rows), size // self.world_size)
        self._step, self._unit = self._step + 1, self._unit + size // deal.unit
        return batch

    def close(self) -> None:
        """Ends the threads. A stream that has come to its end, or is not referred to any more, does so by itself."""
        self._ended = True
        if self._core is not None:
            self._core.close()

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def state_dict(self) -> dict[str, Any]:
        """Where the run stands after the batch that was handed out last, as samplers say it: it goes on from there on any number of ranks
        that the plan fits."""
        return steps.state(self._deal, self._epoch, self._step, self._unit)

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Goes on from this state. Reads only what is needed from there; `Stream(state=...)` does not begin elsewhere first."""
        self.close()
        self._go_to(saved)
        self._ended, self.step = False, None
        self._open()

    def _go_to(self, saved: dict[str, Any]) -> None:
        check_state(self._deal, saved, 1)
        if saved["part"]:
            raise ConfigError("the state lies within a batch: save at the end of a step")
        self._deal.size = saved["batch_size"]
        self._epoch, self._step, self._unit = saved["epoch"], saved["step"], saved["unit"]
        if not self._deal.left(self._unit, self._deal.size_at(self._epoch, self._unit, self._deal.size)):
            self._epoch, self._step, self._unit = self._epoch + 1, 0, 0

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_core": None}

    def __setstate__(self, saved: dict[str, Any]) -> None:
        self.__dict__.update(saved)
        if not self._ended:
            self._open()


def _whole(name: str, value: Any, least: int = 0) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise ConfigError(f"{name} {value!r} is no whole number") from None
    if number < least:
        raise ConfigError(f"{name} {number} is below {least}")
    return number


def _names(name: str, values: Any) -> list[str]:
    """A text is one name."""
    names = [values] if isinstance(values, str) else list(values)
    if not all(isinstance(each, str) for each in names):
        raise ConfigError(f"{name} are names of columns, not {values!r}")
    return names


def _padded(batch: dict[str, Any], n: int, size: int) -> dict[str, Any]:
    weight = np.zeros(size, np.float32)
    weight[:n] = 1
    if n < size:
        index = np.where(np.arange(size) < n, np.arange(size), 0)
        batch = {name: values[index] if isinstance(values, np.ndarray) else _taken(values, index) for name, values in batch.items()}
    return {**batch, "weight": weight}


def _taken(column: Any, index: np.ndarray) -> Any:
    cells = column.tolist()
    return [cells[i] for i in index]



def arrow(values: Any, valid: np.ndarray | None = None) -> Any:
    """A column of a batch as an Arrow array, null where it is not valid; vectors are lists of one length."""
    pa = need("pyarrow", "pyarrow")
    if not isinstance(values, np.ndarray):
        return pa.array(values)
    mask = None if valid is None else ~valid
    if values.ndim == 1:
        return pa.array(values, mask=mask)
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1], mask=None if mask is None else pa.array(mask))
