"""How a batch of a plan is divided among ranks and micro-steps, and what a training loop needs to know about its part.

No framework is imported here; `batchwright.torch` and `batchwright.grain` share this arithmetic.

A batch of n rows is cut into contiguous slices: rank i of W takes rows[n i // W : n (i + 1) // W], and micro-step a of A takes the same
kind of slice of that. A plan lays its batches out so that such slices hold their share of every stratum. The short batch at the end of
an epoch is cut alike; if it cannot give every slice a row it is left out, on every rank."""

import importlib
import warnings
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from batchwright._core import ConfigError, Plan, PlanError

STATE_VERSION = 1

READ_AHEAD = 1 << 14
"""Rows that are dealt at once, at most, where batches are asked for in order."""


def need(module: str, package: str) -> Any:
    """Imports a framework, or says what to install."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name.split(".")[0]):
            raise
        reason = f"this part of batchwright needs {package}: pip install {package}"
        raise ModuleNotFoundError(reason, name=error.name, path=error.path) from None


def check_source(plan: Plan, source: Any) -> None:
    """Refuses a dataset whose item i cannot be row i of the plan."""
    n = len(source) if hasattr(source, "__len__") else "no number of"
    if n != plan.rows:
        raise ConfigError(f"the dataset has {n} rows, but the plan was made from {plan.rows}: pass the same rows in the same order")


def divide(n: int, rank: int, world_size: int, micro_step: int = 0, micro_steps: int = 1) -> slice:
    """The slice of a batch of n rows that belongs to one micro-step of one rank."""
    first, end = n * rank // world_size, n * (rank + 1) // world_size
    mine = end - first
    return slice(first + mine * micro_step // micro_steps, first + mine * (micro_step + 1) // micro_steps)


def check_one_size(plan: Plan, batch_size: int | None, who: str) -> None:
    """Refuses plans whose batch size changes, for loaders that have one for good."""
    if batch_size is None and plan.size_schedule(0) is not None:
        raise ConfigError(
            f"the batch size of this plan changes in training (--size-schedule), which {who} cannot follow: pass batch_size for one size, or use "
            "PlanBatchSampler or a stream in a loop of your own"
        )


class Deal:
    """The batches of a plan that a run uses, counted in units: batches of the smallest candidate size. A batch of k units begins at a
    unit that k divides, so sizes may change within an epoch and every row is still dealt once. Without a `batch_size` the sizes are those
    of the plan's schedule, if it has one."""

    def __init__(
        self,
        plan: Plan,
        batch_size: int | None = None,
        *,
        world_size: int = 1,
        micro_steps: int = 1,
        drop_last: bool = False,
        candidates: bool = False,
    ) -> None:
        if not isinstance(plan, Plan):
            raise ConfigError(f"expected a batchwright.Plan, not {type(plan).__name__}: open one with batchwright.Plan.open(path)")
        self.plan, self.drop_last, self.chosen = plan, drop_last, candidates
        self.world_size, self.micro_steps = world_size, micro_steps
        self.unit = plan.candidates[0]
        size = plan.batch_size if batch_size is None else batch_size
        # (first unit, size) of the runs of equal batches by epoch, where the plan says when which size holds.
        self._schedule: dict[int, list[tuple[int, int]]] = {}
        self.scheduled = batch_size is None and plan.size_schedule(0) is not None
        if candidates and plan.size_schedule(0) is not None:
            raise ConfigError("the plan says when which batch size holds (--size-schedule), so that no run may choose: leave candidates out")
        if candidates and size not in plan.candidates:
            raise ConfigError(f"batch size {size} is none of the plan's candidates {plan.candidates}")
        if size < 1 or size % self.unit:
            raise ConfigError(
                f"batch size {size} is no multiple of {self.unit}, the smallest candidate of the plan: choose a multiple of it, since larger "
                "batches are unions of smaller ones"
            )
        self.sizes = plan.candidates if candidates else [size]
        if self.scheduled:
            self.sizes = sorted({each for _, each in plan.manifest["schedule"]["sizes"]})
        if plan.no_duplicates and size not in plan.candidates:
            raise ConfigError(
                f"batch size {size} is none of the plan's candidates {plan.candidates}: duplicates ({', '.join(plan.no_duplicates)}) are "
                "kept apart in those sizes only"
            )
        for each in self.sizes:
            plan.check_world_size(world_size, micro_steps, each)
        self.size = size
        self._epochs: dict[tuple[int, int], Any] = {}
        # What was dealt last, latest first: (epoch, size, first batch, end, rows). More than one, because whoever asks what a batch was
        # comes after the workers that were sent it.
        self._dealt: tuple[tuple[int, int, int, int, np.ndarray], ...] = ()

    @cached_property
    def rows(self) -> int:
        """Rows of an epoch of the plan."""
        epoch = self.plan.epoch(0, self.unit)
        return (len(epoch) - 1) * self.unit + len(epoch.batch(len(epoch) - 1)) if len(epoch) else 0

    def left(self, unit: int, size: int) -> int:
        """Rows of the batch of `size` rows that begins at a unit; 0 if there is none, or not enough rows for one."""
        n = min(size, self.rows - unit * self.unit)
        return 0 if n < self.world_size * self.micro_steps or (self.drop_last and n < size) else n

    def choose(self, batch_size: int) -> None:
        """Batches of this size from the next on, see `PlanBatchSampler.choose`."""
        if batch_size != self.size and not self.chosen:
            raise ConfigError("the batch size is not for the run to choose: pass candidates=True to choose among the plan's")
        if batch_size not in self.sizes:
            raise ConfigError(f"batch size {batch_size} is none of the plan's candidates {self.sizes}")
        self.size = batch_size

    def sizes_of(self, epoch: int) -> list[tuple[int, int]]:
        """(first unit, size) of the runs of equal batches that the schedule gives an epoch."""
        if epoch not in self._schedule:
            if len(self._schedule) > 8:
                self._schedule.clear()
            self._schedule[epoch] = self.plan.size_schedule(epoch) or []
        return self._schedule[epoch]

    def size_at(self, epoch: int, unit: int, size: int) -> int:
        """The size of the batch at `unit`: what the schedule says, else `size`, or smaller ones that lead up to the next place where it
        fits."""
        if self.scheduled:
            runs = self.sizes_of(epoch)
            return runs[bisect_right(runs, unit, key=lambda run: run[0]) - 1][1]
        k, best = size // self.unit, self.unit
        if unit % k == 0:
            return size
        room = k - unit % k
        for each in self.sizes:
            j = each // self.unit
            if each < size and unit % j == 0 and j <= room:
                best = each
        return best

    def steps(self, epoch: int, unit: int, size: int) -> int:
        """Batches from `unit` to the end of the epoch."""
        count, runs = 0, [(max(first, unit), each) for first, each in self.sizes_of(epoch)] if self.scheduled else []
        while not self.scheduled and unit % (size // self.unit):
            each = self.size_at(epoch, unit, size)
            if not self.left(unit, each):
                return count
            unit, count = unit + each // self.unit, count + 1
        runs = runs or [(unit, size)]
        ends = [first for first, _ in runs[1:]] + [-(-self.rows // self.unit)]
        for (first, each), end in zip(runs, ends, strict=True):
            k = each // self.unit
            steps = max(0, -(-(end - first) // k))
            # Only the last one may be short, and is left out then if it has too few rows.
            count += steps - bool(steps and not self.left(first + (steps - 1) * k, each))
        return count

    def last(self, epoch: int) -> tuple[int, int]:
        """(unit, size) of the last batch of an epoch, if it is handed out or not."""
        first, size = self.sizes_of(epoch)[-1] if self.scheduled else (0, self.size)
        k = size // self.unit
        return first + max(0, -(-(-(-self.rows // self.unit) - first) // k) - 1) * k, size

    def rows_of(self, rank: int) -> int:
        """Rows that a rank is given in an epoch, if the size stays."""
        full = self.rows // self.size
        last = divide(self.left(full * (self.size // self.unit), self.size), rank, self.world_size)
        return full * (self.size // self.world_size) + last.stop - last.start

    def batch(self, epoch: int, unit: int, size: int) -> np.ndarray:
        """Rows of the batch. O(size + strata), less where batches are asked for in order: they are then dealt several at once, in runs that
        grow."""
        i = unit // (size // self.unit)
        ahead = 1
        for of_epoch, of_size, first, end, rows in self._dealt:
            if of_epoch == epoch and of_size == size:
                if first <= i < end:
                    return rows[(i - first) * size : (i - first + 1) * size]
                if i == end:
                    ahead = max(1, min(2 * (end - first), READ_AHEAD // size))
        dealt = self._epochs.get((epoch, size))
        if dealt is None:
            if len(self._epochs) > 8:
                self._epochs.clear()
            dealt = self._epochs[epoch, size] = self.plan.epoch(epoch, size)
        end = min(i + ahead, len(dealt))
        rows = dealt.rows(i, end)
        self._dealt = ((epoch, size, i, end, rows), *self._dealt[:3])
        return rows[:size]

    def rows_left_out(self, epoch: int) -> int:
        """Rows of an epoch that are in no batch, if the size stays."""
        unit, size = self.last(epoch)
        out = 0 if self.left(unit, size) else self.rows - unit * self.unit
        return out + self.plan.rows_planned - self.rows

    def warn_left_out(self) -> None:
        """Says so if rows are left out that nobody asked to be dropped."""
        unit, size = self.last(0)
        rest = self.rows - unit * self.unit
        if 0 < rest < self.world_size * self.micro_steps and not self.drop_last:
            warnings.warn(
                f"the last batch of every epoch has only {rest} rows for {self.world_size} ranks x {self.micro_steps} micro-steps "
                "and is left out; other rows are in it in every epoch",
                stacklevel=4,
            )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_epochs": {}, "_dealt": (), "_schedule": {}}


def state(deal: Deal, epoch: int, step: int, unit: int, part: int = 0, parts: int = 1) -> dict[str, Any]:
    """Where a run stands: `step` batches of `epoch` are done, and `part` of `parts` slices of the next."""
    return {
        "version": STATE_VERSION,
        "plan": deal.plan.plan_id,
        "epoch": epoch,
        "step": step,
        "unit": unit,
        "batch_size": deal.size,
        "world_size": deal.world_size,
        "part": part,
        "parts": parts,
    }


def check_state(deal: Deal, saved: Any, parts: int) -> int:
    """Refuses a state of another plan, another global batch, or one in the middle of a batch that is now cut otherwise. Returns how
    many of `parts` slices of the next batch are done."""
    if not isinstance(saved, dict) or not {"version", "plan", "epoch", "step", "unit", "batch_size", "part", "parts"} <= saved.keys():
        raise ConfigError("this is not the state of a batchwright sampler: pass what its iterator's state_dict() gave")
    if saved["version"] > STATE_VERSION:
        raise ConfigError(f"the state was written by a newer batchwright (version {saved['version']}, this one reads {STATE_VERSION})")
    if saved["plan"] != deal.plan.plan_id:
        raise PlanError(
            f"the state belongs to plan {saved['plan'][:12]}, but this is plan {deal.plan.plan_id[:12]} at {deal.plan.path}: "
            "open the plan that the run began with, or begin a new run"
        )
    if saved["batch_size"] not in deal.sizes:
        raise ConfigError(
            f"the state is of batches of {saved['batch_size']} rows, not {deal.size}: another world size is fine as long as the global "
            f"batch stays; pass batch_size={saved['batch_size']}"
        )
    part, inside = divmod(saved["part"] * parts, saved["parts"])
    if saved["part"] and (inside or saved.get("world_size") != deal.world_size):
        raise ConfigError(
            f"the state lies within a batch ({saved['part']} of {saved['parts']} parts of it are done), which is cut into {parts} parts "
            "here: save at the end of a step, or resume with the same world size and micro-steps"
        )
    return part


@dataclass(frozen=True)
class Step:
    """One micro-step of this rank: a slice of one batch of the plan."""

    deal: Deal
    epoch: int
    step: int
    """Number of the batch in its epoch."""
    unit: int
    batch_size: int
    """Size that the batch was drawn with; the last one of an epoch may have fewer rows, see `n`."""
    n: int
    """Rows of the batch over all ranks and micro-steps."""
    rank: int
    micro_step: int

    @property
    def plan(self) -> Plan:
        return self.deal.plan

    @property
    def world_size(self) -> int:
        return self.deal.world_size

    @property
    def slice(self) -> slice:
        """This rank's rows of `batch` in this micro-step."""
        return divide(self.n, self.rank, self.deal.world_size, self.micro_step, self.deal.micro_steps)

    @cached_property
    def batch(self) -> np.ndarray:
        """All rows of the batch. O(batch size + strata), computed when first asked for."""
        return self.deal.batch(self.epoch, self.unit, self.batch_size)

    @property
    def rows(self) -> np.ndarray:
        """The rows that this rank was given, in their order."""
        return self.batch[self.slice]

    @property
    def scale(self) -> float:
        """Factor of this slice's mean loss: summed over micro-steps and averaged over ranks (what data parallelism does), the
        gradients are then that of the mean over the whole batch, also where slices differ by a row. world_size x rows / n."""
        part = self.slice
        return self.deal.world_size * (part.stop - part.start) / self.n

    @property
    def ends_batch(self) -> bool:
        """Is it the batch's last micro-step?"""
        return self.micro_step == self.deal.micro_steps - 1

    @property
    def ends_epoch(self) -> bool:
        """Is it the last of the epoch (if the size stays)?"""
        after = self.unit + self.batch_size // self.deal.unit
        return self.ends_batch and not self.deal.left(after, self.deal.size_at(self.epoch, after, self.batch_size))

    def weights(self, progress: float) -> np.ndarray:
        """Weight of each of this rank's rows at this share of the training, float32. Where the plan normalises by batch their mean is
        1 over the whole batch."""
        return self.plan.weights_for(self.batch, progress)[self.slice]

    @property
    def loss_weight(self) -> np.ndarray | None:
        """p_h / q_h of each of this rank's rows, where the plan skews shares on purpose."""
        return self.plan.loss_weight(self.rows)

    def n_eff(self, progress: float = 0.0) -> float:
        """What the whole batch is worth, in random rows."""
        return self.plan.score().n_eff(self.plan.histogram(self.batch), progress)[0]

    def state(self) -> dict[str, Any]:
        """Where the run stands once this micro-step is done: what `resume` of a sampler takes."""
        if self.ends_batch:
            return state(self.deal, self.epoch, self.step + 1, self.unit + self.batch_size // self.deal.unit)
        return {
            **state(self.deal, self.epoch, self.step, self.unit, self.micro_step + 1, self.deal.micro_steps),
            "batch_size": self.batch_size,
        }
