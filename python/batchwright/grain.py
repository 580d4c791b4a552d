"""Plans in Grain: `PlanMapDataset`, rows in plan order as a `MapDataset`, and `PlanIterator`, batches with a state that resumes on
another number of processes.

    ds = PlanMapDataset(plan, source, rank=jax.process_index(), world_size=jax.process_count())
    ds = ds.map(decode).batch(ds.batch_size).repeat(epochs).to_iter_dataset().mp_prefetch(...)

`StreamIterDataset` gives whole batches, read by threads in the order of the plan: an `IterDataset` with state.

Batch before `to_iter_dataset`: workers then take whole batches and none is lost. (`grain.DataLoader` makes batches in each worker and
drops what is left over; do not use it with a plan.) Index i of epoch e is i + e len(ds): `repeat` deals every epoch anew."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from batchwright._core import ConfigError, Plan
from batchwright.steps import Deal, check_one_size, check_source, check_state, divide, need, state
from batchwright.stream import Stream

need("grain", "grain")

import grain  # noqa: E402

__all__ = ["PlanIterator", "PlanMapDataset", "StreamIterDataset"]


class PlanMapDataset(grain.MapDataset):
    """Element i is `source[row]` for the i-th of this process's rows, in the order of the plan's batches: contiguous slices, as
    `.batch(ds.batch_size)` cuts them again. All that is needed is (plan, index), so it is the same in every worker.

    `extra`: what a row carries beside its values, of `row`, `centrality`, `modality`, `stratum`, `loss_weight`; elements must then be
    dictionaries. For `grain.experimental.ElasticIterator` take the whole stream (world_size=1) with `drop_last=True`."""

    def __init__(
        self,
        plan: Plan,
        source: Any,
        *,
        rank: int = 0,
        world_size: int = 1,
        batch_size: int | None = None,
        drop_last: bool = False,
        extra: Sequence[str] = (),
    ) -> None:
        super().__init__()
        if not 0 <= rank < world_size:
            raise ConfigError(f"rank {rank} of {world_size}: ranks count from 0 to world_size - 1")
        check_source(plan, source)
        check_one_size(plan, batch_size, "a MapDataset")
        self.plan, self.source, self.rank, self.world_size, self.extra = plan, source, rank, world_size, tuple(extra)
        self._deal = Deal(plan, batch_size, world_size=world_size, drop_last=drop_last)
        self._deal.warn_left_out()
        self.batch_size = self._deal.size // world_size
        """Rows of this process in a batch."""
        self.steps = self._deal.steps(0, 0, self._deal.size)
        """Batches of an epoch."""
        self._multiple = self._deal.size // self._deal.unit
        self._length = self._deal.rows_of(rank)
        self._local = threading.local()

    def __len__(self) -> int:
        return self._length

    def __str__(self) -> str:
        return f"PlanMapDataset(plan={self.plan.plan_id[:12]}, rank={self.rank}, world_size={self.world_size}, batch={self._deal.size})"

    def __getstate__(self) -> dict[str, Any]:
        return {name: v for name, v in self.__dict__.items() if name != "_local"}

    def __setstate__(self, saved: dict[str, Any]) -> None:
        self.__dict__.update(saved)
        self._local = threading.local()

    def _slice(self, epoch: int, step: int) -> np.ndarray:
        """This process's rows of a batch; each thread remembers its latest."""
        if getattr(self._local, "at", None) != (epoch, step):
            rows = self._deal.batch(epoch, step * self._multiple, self._deal.size)
            self._local.rows = rows[divide(len(rows), self.rank, self.world_size)]
            self._local.at = epoch, step
        return self._local.rows

    def row(self, index: int) -> int:
        """Which row of the source element `index` is."""
        epoch, i = divmod(index, self._length)
        step = min(i // self.batch_size, self.steps - 1)
        return int(self._slice(epoch, step)[i - step * self.batch_size])

    def _element(self, value: Any, row: int) -> Any:
        if not self.extra:
            return value
        if not isinstance(value, dict):
            raise ConfigError(f"extra={list(self.extra)} needs elements that are dictionaries, not {type(value).__name__}")
        for name in self.extra:
            column = np.array([row]) if name == "row" else getattr(self.plan, name)(np.array([row]))
            if column is not None:
                value = {**value, name: column[0]}
        return value

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self.slice(index)
        if not self._length:
            raise IndexError(index)
        row = self.row(index)
        return self._element(self.source[row], row)

    def _getitems(self, indices: Sequence[int]) -> list[Any]:
        rows = [self.row(i) for i in indices]
        fetch = getattr(self.source, "_getitems", None) or getattr(self.source, "__getitems__", None)
        values = fetch(rows) if fetch else [self.source[row] for row in rows]
        return [self._element(value, row) for value, row in zip(values, rows, strict=True)]


class PlanIterator:
    """Batches of several epochs, one after another, with `get_state` and `set_state`. The state is a number of global steps: it
    restores on another number of processes, as long as the global batch stays, and refuses another plan.

    `prepare`: what to do between rows and batches, a function of the MapDataset. `workers`: processes that read ahead."""

    def __init__(
        self,
        dataset: PlanMapDataset,
        epochs: int,
        *,
        prepare: Callable[[Any], Any] | None = None,
        workers: int = 0,
    ) -> None:
        self.dataset, self.epochs, self.workers = dataset, epochs, workers
        self._prepare = prepare or (lambda ds: ds)
        self.done = 0
        self._iterator: Any = None

    def __iter__(self) -> "PlanIterator":
        return self

    def _open(self) -> Any:
        ds = self._prepare(self.dataset).batch(self.dataset.batch_size).repeat(self.epochs)[self.done :]
        ds = ds.to_iter_dataset()
        if self.workers:
            from absl import flags

            if not flags.FLAGS.is_parsed():  # Grain's workers read absl's flags, which only programs under absl.app have parsed
                flags.FLAGS.mark_as_parsed()
            ds = ds.mp_prefetch(grain.MultiprocessingOptions(num_workers=self.workers))
        return iter(ds)

    def __next__(self) -> Any:
        if self.done >= self.epochs * self.dataset.steps:
            raise StopIteration
        if self._iterator is None:
            self._iterator = self._open()
        batch = next(self._iterator)
        self.done += 1
        return batch

    @property
    def step(self) -> tuple[int, int]:
        """(epoch, number in it) of the next batch."""
        return divmod(self.done, self.dataset.steps)

    def get_state(self) -> dict[str, Any]:
        epoch, step = self.step
        return state(self.dataset._deal, epoch, step, step * self.dataset._multiple)

    def set_state(self, saved: dict[str, Any]) -> None:
        check_state(self.dataset._deal, saved, 1)
        if saved["part"]:
            raise ConfigError("the state lies within a batch: save at the end of a step")
        self.close()
        self.done = saved["epoch"] * self.dataset.steps + saved["step"]

    def close(self) -> None:
        """Ends the workers."""
        if hasattr(self._iterator, "close"):
            self._iterator.close()
        self._iterator = None


class StreamIterDataset(grain.IterDataset):
    """Batches of `batchwright.stream.Stream`, whose arguments these are: dictionaries of arrays. Its iterators' states resume on another
    number of processes. Threads read already: `mp_prefetch` is not needed, and would read every batch in each of its processes."""

    def __init__(self, plan: Plan, data: Any, columns: Sequence[str] | None = None, **options: Any) -> None:
        super().__init__()
        self._arguments = (plan, data, columns, options)

    def __iter__(self) -> "_StreamIterator":
        plan, data, columns, options = self._arguments
        return _StreamIterator(Stream(plan, data, columns, **options))

    def __str__(self) -> str:
        return f"StreamIterDataset(plan={self._arguments[0].plan_id[:12]})"


class _StreamIterator(grain.DatasetIterator):
    def __init__(self, stream: Stream) -> None:
        super().__init__()
        self.stream = stream

    def __next__(self) -> Any:
        return {name: v if isinstance(v, np.ndarray) else v.tolist() for name, v in next(self.stream).items()}

    def get_state(self) -> dict[str, Any]:
        return self.stream.state_dict()

    def set_state(self, saved: dict[str, Any]) -> None:
        self.stream.load_state_dict(saved)

    def close(self) -> None:
        """Ends the threads."""
        self.stream.close()
