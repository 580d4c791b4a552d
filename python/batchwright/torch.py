"""Plans in PyTorch: samplers for `DataLoader` (and what builds one: Accelerate, Lightning, the Transformers Trainer), a dataset that
reads rows from Parquet, streams of whole batches (`StreamDataset`), and `follow`, which says what every batch that comes out of a loader
is.

    for step, batch in follow(DataLoader(StreamDataset(plan, "data/", ["image", "label"]), batch_size=None)):
        ...                                            # tensors of this rank's part of a batch

    sampler = PlanBatchSampler(plan)                       # rank and world size from torch.distributed where it runs
    loader = DataLoader(ParquetRows(plan, "data/"), batch_sampler=sampler, num_workers=4)
    for epoch in range(sampler.epoch, epochs):
        sampler.set_epoch(epoch)
        for step, batch in follow(loader):
            ...                                            # step.rows, step.weights(progress), step.scale, step.state()

All that changes from epoch to epoch lives in the sampler, in the main process; datasets are the same in every worker and every epoch.
A sampler is configuration; where a run stands is the state of its iterator, and that is a number of global steps: saved on 8 ranks it
resumes on 4."""

import os
import threading
import warnings
from bisect import bisect_right
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from copy import copy
from typing import Any, Literal

import numpy as np

from batchwright._core import ConfigError, Plan
from batchwright.steps import Deal, Step, check_one_size, check_state, divide, need, state
from batchwright.stream import PLAN_COLUMNS, Stream, arrow

need("torch", "torch")

import torch  # noqa: E402
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler, get_worker_info  # noqa: E402
from torch.utils.data.distributed import DistributedSampler  # noqa: E402

__all__ = [
    "ParquetRows",
    "PlanBatchSampler",
    "PlanSampler",
    "Rows",
    "StreamDataset",
    "StreamLoader",
    "collate",
    "follow",
    "prefetch_horizon",
    "with_rows",
]


def _distributed(world_size: int | None, rank: int | None) -> tuple[int, int]:
    """What was given, else torch.distributed's, else one process."""
    running = torch.distributed.is_available() and torch.distributed.is_initialized()
    if world_size is None:
        world_size = torch.distributed.get_world_size() if running else 1
    if rank is None:
        rank = torch.distributed.get_rank() if running and world_size > 1 else 0
    if not 0 <= rank < world_size:
        raise ConfigError(f"rank {rank} of {world_size}: ranks count from 0 to world_size - 1")
    return world_size, rank


class PlanBatchSampler(Sampler[list[int]]):
    """Lists of row numbers for `DataLoader(batch_sampler=...)`, in the order of a plan.

    `view` says what one list is: with `"rank"` this rank's slice of a batch (DDP, FSDP, Lightning with
    `use_distributed_sampler=False`), with `"global"` the whole batch of all ranks, with `"micro"` the slices of all ranks one after
    another: what Accelerate wants, which hands whole lists to its processes in turn. With `micro_steps` every slice is cut further, so
    that a step is that many lists; all of them are stratified.

    The length is exact, and the same on every rank. The last batch of an epoch may be short; `drop_last` leaves it out. With
    `candidates` the batch size may be chosen anew while it runs (`choose`)."""

    def __init__(
        self,
        plan: Plan,
        *,
        view: Literal["rank", "global", "micro"] = "rank",
        rank: int | None = None,
        world_size: int | None = None,
        epoch: int = 0,
        batch_size: int | None = None,
        micro_steps: int = 1,
        drop_last: bool = False,
        candidates: bool = False,
    ) -> None:
        if isinstance(plan, Sampler) or not isinstance(plan, Plan):
            raise ConfigError(
                f"PlanBatchSampler takes a plan, not a {type(plan).__name__}. If Lightning put its own sampler here: pass "
                "Trainer(use_distributed_sampler=False), the plan already divides batches among ranks"
            )
        if view not in ("rank", "global", "micro"):
            raise ConfigError(f"view {view!r} is none of 'rank', 'global', 'micro'")
        world_size, self.rank = (1, 0) if view == "global" else _distributed(world_size, rank)
        self.view, self.epoch, self.drop_last = view, _epoch(epoch), drop_last
        self._deal = Deal(
            plan, batch_size, world_size=world_size, micro_steps=micro_steps, drop_last=drop_last, candidates=candidates
        )
        self._parts = micro_steps * (world_size if view == "micro" else 1)
        self._told = False  # was set_epoch called since the last pass?
        self._resume: dict[str, Any] | None = None
        self._finished: int | None = None
        self.live: _Batches | None = None
        self._deal.warn_left_out()

    plan = property(lambda self: self._deal.plan)
    world_size = property(lambda self: self._deal.world_size)
    micro_steps = property(lambda self: self._deal.micro_steps)

    @property
    def sampler(self) -> "PlanBatchSampler":
        """What frameworks call `set_epoch` on: itself."""
        return self

    @property
    def global_batch_size(self) -> int:
        """Rows of a step over all ranks, as chosen now."""
        return self._deal.size

    @property
    def batch_size(self) -> int | None:
        """Rows of one list. None in the micro view where lists may be shorter or sizes may change, which is how Accelerate is told."""
        unit, size = self._deal.last(self.epoch)
        varies = len(self._deal.sizes) > 1 or self._deal.left(unit, size) % size
        if self.view == "micro" and varies:
            return None
        return self._deal.size // (self.world_size * self.micro_steps)

    @property
    def _multiple(self) -> int:
        return self._deal.size // self._deal.unit

    @property
    def rows_left_out(self) -> int:
        """Rows of an epoch that come in no list: a last batch that was dropped or has fewer rows than ranks and micro-steps."""
        return self._deal.rows_left_out(self.epoch)

    def set_epoch(self, epoch: int) -> None:
        """Deals this epoch from the next pass on."""
        self.epoch, self._told = _epoch(epoch), True

    def choose(self, batch_size: int) -> None:
        """From the next batch that is drawn on, steps of this size: one of the plan's candidates. Lists that workers have been sent
        (`prefetch_horizon`) keep their size, and smaller ones may lead up to the next place where the new size fits, so that every
        row is still dealt once. Call it on all ranks after the same step."""
        self._deal.choose(batch_size)

    def resume(self, saved: dict[str, Any]) -> None:
        """The next pass goes on from this state (`Step.state()`, or the state_dict of an iterator); sets `epoch`. A state at the end
        of an epoch begins the next one."""
        part = check_state(self._deal, saved, self._parts)
        self._deal.size = saved["batch_size"]
        self.epoch, self._told = saved["epoch"], False
        self._resume = {**saved, "part": part, "parts": self._parts}
        if not part and not self._deal.left(saved["unit"], self._deal.size_at(saved["epoch"], saved["unit"], self._deal.size)):
            self.epoch, self._resume = saved["epoch"] + 1, None

    def __iter__(self) -> "_Batches":
        return _Batches(self)

    def _begin(self, live: "_Batches") -> None:
        """A pass draws its first list."""
        if self.live is not live and live.fresh and self._finished == live.epoch and not self._told:
            warnings.warn(
                f"epoch {live.epoch} is dealt a second time: call set_epoch(epoch) before every pass, or all epochs have the same batches",
                stacklevel=4,
            )
        self.live, self._resume, self._told = live, None, False

    def __len__(self) -> int:
        """Lists of an epoch; while sizes change, those given out and those to come if the size stays."""
        live = self.live
        if live is None or len(self._deal.sizes) == 1 or self._deal.scheduled or live.done:
            return self._parts * self._deal.steps(self.epoch, 0, self._deal.size)
        ahead = live.unit + (live.size // self._deal.unit if live.part else 0)
        return self._parts * (live.step + bool(live.part) + self._deal.steps(live.epoch, ahead, self._deal.size))

    @property
    def _pass(self) -> "_Batches":
        if self.live is None:
            raise ConfigError("no pass has begun: iterate the loader first")
        return self.live

    @property
    def first(self) -> int:
        """Lists of this rank before the latest pass began: those of a run that was resumed."""
        return self._pass.first

    def step(self, delivered: int) -> Step:
        """What the list number `delivered` (from the beginning of the epoch, counted on this rank) of the latest pass is."""
        number, micro_step = divmod(delivered, self.micro_steps)
        return self._pass.place(number, micro_step)

    def _part(self, n: int, j: int) -> slice:
        """List `j` of a batch of n rows."""
        deal = self._deal
        rank, micro_step = (j % deal.world_size, j // deal.world_size) if self.view == "micro" else (self.rank, j)
        return divide(n, rank, deal.world_size, micro_step, deal.micro_steps)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "live": None}


def _epoch(epoch: int) -> int:
    if epoch != int(epoch) or epoch < 0:
        raise ConfigError(f"epoch {epoch!r}: epochs count from 0")
    return int(epoch)


class _Batches(Iterator[list[int]]):
    """One pass over an epoch."""

    def __init__(self, sampler: PlanBatchSampler) -> None:
        self.sampler, self.epoch, self.done, self.fresh = sampler, -1, False, True
        self.go_to(0, 0, 0)

    def _place(self) -> tuple[int, int, int, int]:
        """(epoch, step, unit, part) of the next list. Where a pass begins is settled when it draws its first, not before: loaders make more
        iterators than they use, and Lightning makes one before it sets the epoch."""
        if self.epoch >= 0:
            return self.epoch, self.step, self.unit, self.part
        sampler, saved = self.sampler, self.sampler._resume
        if saved is None:
            return sampler.epoch, 0, 0, 0
        if saved["epoch"] != sampler.epoch:
            raise ConfigError(
                f"the run resumes in epoch {saved['epoch']}, but set_epoch({sampler.epoch}) was called since: call set_epoch with the "
                "epoch of the state (with Accelerate: loader.set_epoch, before the first pass)"
            )
        return saved["epoch"], saved["step"], saved["unit"], saved["part"]

    def go_to(self, step: int, unit: int, part: int) -> None:
        self.step, self.unit, self.part = step, unit, part
        self.size = self.sampler._deal.size
        self._rows: np.ndarray | None = None
        # The slices of a batch of so many rows.
        self._cut, self._cuts = -1, [slice(0)]
        # Where runs of batches of one size begin: (step, unit, size).
        self._runs: list[tuple[int, int, int]] = []

    @property
    def first(self) -> int:
        """See `PlanBatchSampler.first`."""
        sampler = self.sampler
        step, part = self._began if self._runs else (self.step, self.part)
        return step * sampler.micro_steps + part // (sampler._parts // sampler.micro_steps)

    def __next__(self) -> list[int]:
        rows = self._draw() if self._rows is None else self._rows
        out = rows[self._cuts[self.part]].tolist()
        self.part += 1
        if self.part == len(self._cuts):
            self.step, self.unit, self.part = self.step + 1, self.unit + self.size // self.sampler._deal.unit, 0
            self._rows = None
        return out

    def _draw(self) -> np.ndarray:
        """Begins the next batch: its rows, and how they are cut into lists."""
        sampler, deal = self.sampler, self.sampler._deal
        if self.epoch < 0:
            self.fresh = sampler._resume is None
            self.epoch, *place = self._place()
            self.go_to(*place)
        if not self.part:  # one that was begun before a restart keeps its size
            self.size = deal.size_at(self.epoch, self.unit, deal.size)
        if not deal.left(self.unit, self.size):
            self.done, sampler._finished = True, self.epoch
            raise StopIteration
        if not self._runs:
            self._began = self.step, self.part
            sampler._begin(self)
        if not self._runs or self._runs[-1][2] != self.size:
            self._runs.append((self.step, self.unit, self.size))
        self._rows = rows = deal.batch(self.epoch, self.unit, self.size)
        if len(rows) != self._cut:
            self._cut = len(rows)
            self._cuts = [sampler._part(len(rows), j) for j in range(sampler._parts)]
        return rows

    def place(self, number: int, micro_step: int) -> Step:
        deal = self.sampler._deal
        at = bisect_right(self._runs, number, key=lambda run: run[0]) - 1
        if at < 0:
            raise ConfigError(f"step {number} came before this pass")
        step, unit, size = self._runs[at]
        unit += (number - step) * (size // deal.unit)
        n = deal.left(unit, size)
        if not n:
            raise ConfigError(f"the epoch ends before step {number}")
        return Step(deal, self.epoch, number, unit, size, n, self.sampler.rank, micro_step)

    def state_dict(self) -> dict[str, Any]:
        epoch, step, unit, part = self._place()
        saved = state(self.sampler._deal, epoch, step, unit, part, self.sampler._parts)
        return {**saved, "batch_size": self.size} if part else saved

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        sampler = self.sampler
        told = sampler.epoch if sampler._told else None
        sampler.resume(saved)
        going_on, sampler._resume = sampler._resume, None
        if going_on and told is not None and told != saved["epoch"]:
            warnings.warn(f"the state is of epoch {saved['epoch']}, not of epoch {told}: the pass goes on in the former", stacklevel=2)
        self.epoch, self.fresh = saved["epoch"], False
        self.go_to(saved["step"], saved["unit"], going_on["part"] if going_on else 0)


class PlanSampler(DistributedSampler):
    """Row numbers one by one, this rank's slices of the plan's batches one after another, for loaders that make their own batches:
    `DataLoader(sampler=sampler, batch_size=sampler.batch_size)`. Being a `DistributedSampler`, Lightning leaves it alone.

    Argument names and order are those of torch where they mean the same."""

    def __init__(
        self,
        plan: Plan,
        num_replicas: int | None = None,
        rank: int | None = None,
        *,
        epoch: int = 0,
        batch_size: int | None = None,
        drop_last: bool = False,
    ) -> None:
        check_one_size(plan, batch_size, "a sampler of single rows")
        num_replicas, rank = _distributed(num_replicas, rank)
        self.batches = PlanBatchSampler(
            plan, rank=rank, world_size=num_replicas, batch_size=batch_size, drop_last=drop_last, epoch=epoch
        )
        # Only the length of a dataset is asked for.
        super().__init__(range(plan.rows), num_replicas, rank, shuffle=True, seed=plan.seed, drop_last=drop_last)  # type: ignore[arg-type]
        self.num_samples = self.batches._deal.rows_of(rank)
        self.total_size = plan.rows_planned - self.batches.rows_left_out

    @property
    def epoch(self) -> int:
        return self.batches.epoch if hasattr(self, "batches") else 0

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self.batches.epoch = _epoch(epoch)

    @property
    def batch_size(self) -> int:
        """Rows of this rank in a batch: what the loader's `batch_size` must be."""
        return self.batches.global_batch_size // self.batches.world_size

    def set_epoch(self, epoch: int) -> None:
        """Deals this epoch from the next pass on."""
        self.batches.set_epoch(epoch)

    def resume(self, saved: dict[str, Any]) -> None:
        """See `PlanBatchSampler.resume`."""
        self.batches.resume(saved)

    def __iter__(self) -> "_Flat":
        return _Flat(iter(self.batches))

    def __len__(self) -> int:
        return self.num_samples


class _Flat(Iterator[int]):
    """Rows of a pass one by one. The state is the batches' and how many rows of the next were taken."""

    def __init__(self, batches: _Batches) -> None:
        self.batches, self._taken = batches, 0
        self._rows: list[int] = []
        self._before = batches.state_dict()

    def __next__(self) -> int:
        if self._taken == len(self._rows):
            before = self.batches.state_dict()
            self._rows, self._taken, self._before = next(self.batches), 0, before
        self._taken += 1
        return self._rows[self._taken - 1]

    def state_dict(self) -> dict[str, Any]:
        if self._taken == len(self._rows):
            return self.batches.state_dict()
        return {**self._before, "taken": self._taken}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        taken = saved.get("taken", 0)
        if taken and saved["world_size"] != self.batches.sampler.world_size:
            raise ConfigError("the state lies within a batch: give the loader batch_size=sampler.batch_size, and save between batches")
        self.batches.load_state_dict({**saved, "taken": 0})
        self._rows, self._taken = [], 0
        if taken:
            self._before = self.batches.state_dict()
            self._rows, self._taken = next(self.batches), taken


def _planned(loader: Any) -> tuple[PlanBatchSampler, int]:
    """The sampler at the bottom of a loader, and how many lists a wrapper skips."""
    sampler, skipped = getattr(loader, "batch_sampler", None), 0
    while sampler is not None and not isinstance(sampler, (PlanBatchSampler, PlanSampler)):
        skipped += getattr(sampler, "skip_batches", 0)
        inner = getattr(sampler, "batch_sampler", None)
        sampler = getattr(sampler, "sampler", None) if inner is None else inner
    if isinstance(sampler, PlanSampler):
        if loader.batch_sampler.batch_size != sampler.batch_size:
            raise ConfigError(
                f"the loader makes batches of {loader.batch_sampler.batch_size} rows, but this rank's part of a batch of the plan has "
                f"{sampler.batch_size}: pass batch_size=sampler.batch_size"
            )
        sampler = sampler.batches
    if sampler is None:
        raise ConfigError("this loader has no sampler of a plan: pass DataLoader(batch_sampler=PlanBatchSampler(plan))")
    return sampler, skipped


def follow(loader: Any) -> Iterator[tuple[Step, Any]]:
    """The batches of a loader (also one that Accelerate prepared), each with the `Step` that says which rows of which batch it is.
    Steps are known by counting, whatever the number of workers; use it where batches come in order."""
    dataset = getattr(loader, "dataset", None)
    if isinstance(dataset, StreamDataset):
        for step, batch in zip(dataset._steps(), loader):
            dataset._saved = None
            yield step, batch
        return
    sampler, delivered = _planned(loader)
    began = False
    for batch in loader:
        if not began:
            delivered, began = delivered + sampler.first, True
        yield sampler.step(delivered), batch
        delivered += 1


def prefetch_horizon(loader: Any) -> int:
    """How many lists the workers of a loader have been sent before they are used: a new batch size takes effect after so many."""
    return (getattr(loader, "num_workers", 0) or 0) * (getattr(loader, "prefetch_factor", None) or 2)


# -------------------------------------------------------------------------------------------------------------------- streams


class StreamDataset(IterableDataset):
    """This rank's part of batch after batch, read in the order of the plan: dictionaries of tensors, whole batches, for
    `DataLoader(dataset, batch_size=None)`. Columns that are no numbers come as `pyarrow.Array`s (`to_pylist()` makes Python objects).

    Rank and world size are those of torch.distributed where it runs. One pass is `epochs` epochs (default: one) from that of
    `set_epoch`; a pass over several epochs does not wait between them. The reading is done by threads, so `num_workers` is 0, or 1 for a
    process of its own: more workers of an IterableDataset would each give other batches, see `StreamLoader`.

    `map`: a function of a whole batch, called in the reading process, with `map_threads` in as many threads; batches stay in order.
    Other arguments are those of `batchwright.stream.Stream`."""

    def __init__(
        self,
        plan: Plan,
        data: Any,
        columns: Sequence[str] | None = None,
        *,
        rank: int | None = None,
        world_size: int | None = None,
        epochs: int | None = 1,
        map: Callable[[dict[str, Any]], Any] | None = None,
        map_threads: int = 0,
        **options: Any,
    ) -> None:
        self.world_size, self.rank = _distributed(world_size, rank)
        self.plan, self.data, self.columns, self.epochs, self.options = plan, data, columns, epochs, options
        self.epoch = _epoch(options.pop("epoch", 0))
        self.map, self.map_threads = map, map_threads
        self._parts = 1
        self._saved: dict[str, Any] | None = None
        self.stream: Stream | None = None
        """That of the pass that began last in this process."""
        known = ("batch_size", "candidates")
        rest = options.get("rest", "short")
        deal = {name: value for name, value in options.items() if name in known}
        self._deal = Deal(plan, world_size=self.world_size, drop_last=rest == "drop", **deal)

    @property
    def batch_size(self) -> int:
        """Rows of this rank in a batch."""
        return self._deal.size // self.world_size

    def set_epoch(self, epoch: int) -> None:
        """Passes begin with this epoch from now on."""
        self.epoch = _epoch(epoch)

    def resume(self, saved: dict[str, Any]) -> None:
        """The next pass goes on from this state (`Step.state()` or `state_dict`), and sets `epoch`."""
        check_state(self._deal, saved, 1)
        self.epoch, self._saved = saved["epoch"], saved

    def state_dict(self) -> dict[str, Any]:
        """Where the pass stands that began last in this process."""
        if self.stream is None:
            return self._going_on() or state(self._deal, self.epoch, 0, 0)
        return self.stream.state_dict()

    load_state_dict = resume

    def __len__(self) -> int:
        if self.epochs is None:
            raise TypeError("a dataset without `epochs` has no length")
        return sum(self._deal.steps(epoch, 0, self._deal.size) for epoch in range(self.epoch, self.epoch + self.epochs))

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        part, workers = (0, 1) if worker is None else (worker.id, worker.num_workers)
        if workers != self._parts and workers > 1:
            raise ConfigError(
                f"{workers} workers of a StreamDataset would each read all batches: pass num_workers=0 or 1 (threads read already), or "
                "StreamLoader(dataset, num_workers=...), which divides every batch among workers"
            )
        epoch, saved, self._saved = self.epoch, self._going_on(), None
        self.stream = stream = Stream(
            self.plan,
            self.data,
            self.columns,
            rank=self.rank * self._parts + part,
            world_size=self.world_size * self._parts,
            epoch=epoch,
            epochs=self.epochs,
            state=saved,
            **self.options,
        )
        return _in_order(self._batch, stream, self.map_threads)

    def _batch(self, batch: dict[str, Any]) -> Any:
        # No lists: torch would look at each of their cells once more.
        out = {name: torch.from_numpy(v) if isinstance(v, np.ndarray) else arrow(v) for name, v in batch.items()}
        return out if self.map is None else self.map(out)

    def _steps(self) -> Iterator[Step]:
        """What the batches of the next pass are."""
        deal, saved = self._deal, self._going_on() or state(self._deal, self.epoch, 0, 0)

        def steps(epoch: int, step: int, unit: int) -> Iterator[Step]:
            while True:
                size = deal.size_at(epoch, unit, deal.size)
                n = deal.left(unit, size)
                if not n:
                    epoch, step, unit = epoch + 1, 0, 0
                    size = deal.size_at(epoch, 0, deal.size)
                    n = deal.left(0, size)
                yield Step(deal, epoch, step, unit, size, n, self.rank, 0)
                step, unit = step + 1, unit + size // deal.unit

        return steps(saved["epoch"], saved["step"], saved["unit"])

    def _going_on(self) -> dict[str, Any] | None:
        """The state that the next pass begins with, unless `set_epoch` has gone on since."""
        return self._saved if self._saved is not None and self._saved["epoch"] == self.epoch else None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "stream": None}


def _in_order(f: Callable[[Any], Any], items: Iterator[Any], threads: int) -> Iterator[Any]:
    """f of every item, in threads, in order."""
    if not threads:
        yield from map(f, items)
        return
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[Any]] = deque()
        for item in items:
            waiting.append(pool.submit(f, item))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


class StreamLoader:
    """The batches of a `StreamDataset` read by several processes, for transforms in Python that need more than one: each of
    `num_workers` reads its part of every batch, and the parts are joined. They must divide the streams of a rank (`check_world_size`).
    `options` are those of `DataLoader`."""

    def __init__(self, dataset: StreamDataset, num_workers: int, **options: Any) -> None:
        dataset.plan.check_world_size(dataset.world_size * num_workers, 1, dataset._deal.size)
        self.dataset, self._options = dataset, {"num_workers": num_workers, **options}
        self.num_workers = num_workers

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[Any]:
        parts = copy(self.dataset)
        parts._parts, parts.stream, self.dataset._saved = self.num_workers, None, None
        joined: list[Any] = []
        for part in DataLoader(parts, batch_size=None, **self._options):
            joined.append(part)
            if len(joined) == self.num_workers:
                yield {name: _concatenated([part[name] for part in joined]) for name in joined[0]}
                joined = []


def _concatenated(parts: list[Any]) -> Any:
    return torch.cat(parts) if isinstance(parts[0], torch.Tensor) else need("pyarrow", "pyarrow").concat_arrays(parts)


# ------------------------------------------------------------------------------------------------------------------- datasets


class with_rows(Dataset):  # noqa: N801 - used like a function
    """A map-style dataset whose items say which row they are: dictionaries get the key `row`, anything else becomes (item, row)."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    @staticmethod
    def _tag(item: Any, row: int) -> Any:
        return {**item, "row": row} if isinstance(item, dict) else (item, row)

    def __getitem__(self, row: int) -> Any:
        return self._tag(self.dataset[row], row)

    def __getitems__(self, rows: Sequence[int]) -> list[Any]:
        if hasattr(self.dataset, "__getitems__"):
            return [self._tag(item, row) for item, row in zip(self.dataset.__getitems__(rows), rows, strict=True)]
        return [self[row] for row in rows]


class Rows(Sequence):
    """Rows of a `ParquetRows`, column by column: `columns` maps names to arrays of shape (n, ...). As a sequence, dictionaries."""

    def __init__(self, columns: dict[str, Any], n: int) -> None:
        self.columns, self._n = columns, n

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, i: Any) -> Any:
        if not -self._n <= i < self._n:
            raise IndexError(i)
        return {name: values[i] for name, values in self.columns.items()}


def collate(rows: Any) -> Any:
    """For `DataLoader(collate_fn=collate)`: turns whole columns of a `ParquetRows` into tensors, without a dictionary per row. What
    torch's own collate function makes of it is the same, and slower."""
    if not isinstance(rows, Rows):
        return torch.utils.data.default_collate(rows)
    as_is = lambda v: not isinstance(v, np.ndarray) or v.dtype == object  # noqa: E731
    return {name: list(v) if as_is(v) else torch.from_numpy(v) for name, v in rows.columns.items()}


class ParquetRows(Dataset):
    """The planned Parquet files as a map-style dataset: item i is the dictionary of global row i.

    `columns`: which to read (default: all). `extra`: what else a row should carry, of `row`, `centrality`, `modality`, `stratum`,
    `loss_weight`. Numbers come as NumPy scalars, vectors as arrays, everything else as Python objects; nulls in numbers as NaN.

    Row groups are read whole and kept, the least recently used dropped above `cache_bytes` in each process. Random rows of a dataset that
    does not fit the cache read a row group for nearly every row, which the first batch warns of: read such data with `StreamDataset`. Files
    are opened at the first use in each
    process and no thread is started, so workers may be forked or spawned."""

    def __init__(
        self,
        plan: Plan,
        paths: Any,
        columns: Sequence[str] | None = None,
        *,
        extra: Sequence[str] = ("row",),
        cache_bytes: int = 256 << 20,
    ) -> None:
        need("pyarrow.parquet", "pyarrow")
        unknown = [name for name in extra if name not in PLAN_COLUMNS]
        if unknown:
            raise ConfigError(f"extra column {unknown[0]!r} is none of {', '.join(PLAN_COLUMNS)}")
        self.plan, self.extra, self.cache_bytes = plan, tuple(extra), cache_bytes
        self.files = list(plan.check_dataset(paths))
        groups = plan.row_groups()
        self._file, self._group = np.asarray(groups.file), np.asarray(groups.row_group)
        self._first = np.asarray(groups.first_row).astype(np.int64)
        self._open()
        schema = self._reader(0).schema_arrow
        self.columns = list(schema.names if columns is None else columns)
        for name in self.columns:
            if name not in schema.names:
                raise ConfigError(f"{self.files[0]} has no column {name!r}: it has {', '.join(schema.names)}")
            if name in self.extra:
                raise ConfigError(f"the dataset has a column {name!r} of its own: leave it out of `columns` or of `extra`")
        self._warned = False
        self._open()

    def _warn(self, n: int) -> None:
        """Of what a batch of n random rows costs where the cache does not hold the columns."""
        self._warned = True
        total = 0
        for file in range(len(self.files)):
            about = self._reader(file).metadata
            for group in range(about.num_row_groups):
                chunks = (about.row_group(group).column(i) for i in range(about.num_columns))
                total += sum(c.total_uncompressed_size for c in chunks if c.path_in_schema.split(".")[0] in self.columns)
        groups, missing = len(self._group), 1 - self.cache_bytes / max(total, 1)
        if missing <= 0 or groups < 2:
            return
        # Row groups that n rows fall into on average, those that are not kept, and what the rows themselves take.
        opened = groups * (1 - (1 - 1 / groups) ** n) * missing
        decoded, own = opened * total / groups, max(1.0, total * n / max(1, self.plan.rows))
        if decoded < 4 * own:
            return
        mib = lambda size: f"{size / 2**20:.0f} MiB"  # noqa: E731
        warnings.warn(
            f"random rows of these files are slow to read: a batch of {n} rows takes {mib(own)} and decodes about {mib(decoded)}, for the "
            f"cache holds {mib(self.cache_bytes)} of {mib(total)}. Plan with `--locality local` and read with StreamDataset, or write the "
            f"rows in the order of the batches with `batchwright materialize`, or give cache_bytes={total} of memory to each process",
            stacklevel=4,
        )

    def _open(self) -> None:
        self._process = os.getpid()
        self._readers: dict[int, Any] = {}
        self._cache: OrderedDict[int, tuple[dict[str, Any], int]] = OrderedDict()
        self._held = 0
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {name: v for name, v in self.__dict__.items() if name not in ("_process", "_readers", "_cache", "_held", "_lock")}

    def __setstate__(self, saved: dict[str, Any]) -> None:
        self.__dict__.update(saved)
        self._open()

    def _reader(self, file: int) -> Any:
        if file not in self._readers:
            source = self.files[file]
            if "://" in source:
                filesystem, path = need("pyarrow.fs", "pyarrow").FileSystem.from_uri(source)
                source = filesystem.open_input_file(path)
            self._readers[file] = need("pyarrow.parquet", "pyarrow").ParquetFile(source, memory_map=isinstance(source, str))
        return self._readers[file]

    def _load(self, group: int) -> dict[str, Any]:
        """The columns of a row group, from the cache or the file."""
        if group in self._cache:
            self._cache.move_to_end(group)
            return self._cache[group][0]
        table = self._reader(int(self._file[group])).read_row_group(int(self._group[group]), columns=self.columns, use_threads=False)
        columns = {name: _to_numpy(table[name]) for name in self.columns}
        size = table.nbytes
        while self._cache and self._held + size > self.cache_bytes:
            self._held -= self._cache.popitem(last=False)[1][1]
        self._cache[group], self._held = (columns, size), self._held + size
        return columns

    def __len__(self) -> int:
        return self.plan.rows

    def __getitem__(self, row: int) -> dict[str, Any]:
        if not -len(self) <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        return self.__getitems__([row % len(self)])[0]

    def __getitems__(self, rows: Sequence[int]) -> Rows:
        if self._process != os.getpid():  # a fork: file positions are shared with the parent, the cache is not worth its memory twice
            self._open()
        wanted = np.asarray(rows, dtype=np.int64)
        if len(wanted) and not (0 <= wanted.min() and wanted.max() < len(self)):
            raise IndexError(f"rows {wanted.min()} to {wanted.max()} of {len(self)}")
        if not self._warned and len(wanted) > 1:
            self._warn(len(wanted))
        groups = np.searchsorted(self._first, wanted, side="right") - 1
        order = np.argsort(groups, kind="stable")
        back = np.empty(len(rows), np.int64)
        back[order] = np.arange(len(rows))
        pieces: dict[str, list[Any]] = {name: [] for name in self.columns}
        with self._lock:
            for run in np.split(order, np.flatnonzero(np.diff(groups[order])) + 1) if len(rows) else []:
                group = int(groups[run[0]])
                columns, at = self._load(group), wanted[run] - self._first[group]
                for name in self.columns:
                    pieces[name].append(columns[name][at])
        out: dict[str, Any] = {name: _join(piece)[back] for name, piece in pieces.items()} if len(rows) else {}
        for name in self.extra:
            values = wanted if name == "row" else getattr(self.plan, name)(wanted)
            if values is not None:
                out[name] = np.array(values)
        return Rows(out, len(rows))


def _join(pieces: list[Any]) -> Any:
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


def _to_numpy(column: Any) -> np.ndarray:
    """Numbers as they are, vectors of one length as a matrix, everything else as objects."""
    pa = need("pyarrow", "pyarrow")
    kind = column.type
    values = column.combine_chunks()
    if isinstance(values, pa.ChunkedArray):
        values = values.chunk(0) if values.num_chunks else pa.array([], kind)
    vector = pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind)
    if vector and pa.types.is_primitive(kind.value_type) and not values.null_count and len(values):
        flat, n = values.flatten(), len(values)
        width = kind.list_size if pa.types.is_fixed_size_list(kind) else len(flat) // n
        even = pa.types.is_fixed_size_list(kind) or (np.diff(values.offsets.to_numpy()) == width).all()
        if even and not flat.null_count and width * n == len(flat):
            return flat.to_numpy(zero_copy_only=False).reshape(n, width)
    if pa.types.is_primitive(kind) and not pa.types.is_temporal(kind):
        return values.to_numpy(zero_copy_only=False)
    out = np.empty(len(values), object)
    out[:] = [np.asarray(v) if isinstance(v, list) else v for v in values.to_pylist()]
    return out
