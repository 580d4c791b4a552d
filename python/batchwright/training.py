"""The decisions taken while training, attached to PyTorch: when gradients of several batches make an update (`Accumulator`), which batch
size comes next (`LoaderChoice`), the loss they are judged by (`Probe`), and `weighted_mean` for losses with row weights.

The decisions themselves are batchwright's compiled core (`Plan.accumulator`, `Plan.loader_choice`), which knows no framework; what is here
carries numbers across, and under data parallelism makes sure that every rank decides on the same ones. JAX has `batchwright.jax`.

    updates = Accumulator(plan, model)
    for step, batch in follow(loader):
        with updates.batch(step) as part:                              # DDP's no_sync where gradients are not needed yet
            loss = weighted_mean(row_losses, step.weights(progress))
            part.backward(loss)
        if part.ends_update:                                           # gradients are now sum(w_b g_b) / sum(w_b)
            optimizer.step()
            optimizer.zero_grad()
"""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from typing import Any, Literal

import numpy as np

from batchwright._core import ConfigError, Plan
from batchwright.steps import Step, divide, need

need("torch", "torch")

import torch  # noqa: E402
from torch import distributed  # noqa: E402

__all__ = ["Accumulator", "LoaderChoice", "Part", "Probe", "plot", "weighted_mean"]


def _world(group: Any = None) -> tuple[int, int]:
    """(ranks, this rank)."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_world_size(group), distributed.get_rank(group)
    return 1, 0


def _sum(values: Sequence[float], device: Any, group: Any = None) -> list[float]:
    """Summed over ranks, the same bits on each."""
    if _world(group)[0] == 1:
        return [float(v) for v in values]
    kind = torch.float32 if torch.device(device).type == "mps" else torch.float64
    tensor = torch.tensor(values, dtype=kind, device=device)
    distributed.all_reduce(tensor, group=group)
    return tensor.tolist()


def weighted_mean(losses: torch.Tensor, weights: Any, loss_weight: Any = None) -> torch.Tensor:
    """mean(w_i l_i loss_i) over the rows of a slice, shape (n,) each; `loss_weight` may be None. Divided by n, not by the sum of the
    weights: their mean is 1 over a modality, and dividing by their sum in each slice would undo that."""
    if losses.shape[:1] != (len(weights),) or losses.ndim != 1:
        raise ConfigError(
            f"losses of shape {tuple(losses.shape)} for {len(weights)} weights: one loss a row is needed, as reduction='none' gives them"
        )
    w = torch.as_tensor(np.asarray(weights), dtype=losses.dtype, device=losses.device)
    if loss_weight is not None:
        w = w * torch.as_tensor(np.asarray(loss_weight), dtype=losses.dtype, device=losses.device)
    return (w * losses).mean()


# ---------------------------------------------------------------------------------------------------------------- accumulation


class Part:
    """One micro-step of an update, as `Accumulator.batch` gives it."""

    def __init__(self, updates: "Accumulator", factor: float, ends_update: bool) -> None:
        self._updates, self.factor, self.ends_update = updates, factor, ends_update

    def backward(self, loss: torch.Tensor) -> None:
        """Adds this slice's gradient with its weight; `loss` is the mean over the slice."""
        self._updates._backward(loss * self.factor)


class Accumulator:
    """Lets gradients of several batches grow into one update: sum(w_b g_b) / sum(w_b), g_b the mean gradient of batch b over all ranks,
    w_b = min(n_eff, 4 n) its effective rows.

    Whether an update is complete follows from which rows a batch has, so it is known before the backward pass, and gradients
    are reduced over ranks only then (`no_sync` of the model: DDP, FSDP). Batches of a plan bring a `Step`; for any other stream pass
    `rows=` (this rank's row numbers) or `histogram=` (this rank's rows of every score group): they are summed over ranks first, so
    that all ranks decide alike. The last batch of an epoch completes the update; streams that do not know theirs call `finish()`.

    It neither steps nor clips nor zeroes: those stay in the loop, after a part with `ends_update`. With torch.amp pass
    `backward=lambda loss: scaler.scale(loss).backward()`; with Accelerate `backward=accelerator.backward` and
    `no_sync=lambda: accelerator.no_sync(model)`."""

    def __init__(
        self,
        plan: Plan,
        model: Any,
        *,
        threshold: float | None = None,
        batch_size: int | None = None,
        backward: Callable[[torch.Tensor], None] | None = None,
        no_sync: Callable[[], Any] | None = None,
        group: Any = None,
    ) -> None:
        self.plan, self.model, self.group = plan, model, group
        self.core = plan.accumulator(batch_size, threshold)
        self._score = plan.score()
        self._backward: Callable[[torch.Tensor], Any] = backward or (lambda loss: loss.backward())
        self._no_sync: Callable[[], Any] = no_sync or getattr(model, "no_sync", None) or nullcontext
        self._now: tuple[float, bool] = (0.0, False)
        self._unreduced = False

    def batch(
        self,
        step: Step | None = None,
        *,
        rows: Any = None,
        histogram: Any = None,
        progress: float = 0.0,
        last: bool = False,
    ) -> "_Batch":
        """A context for the forward and backward pass of one micro-step. `progress`: share of the training done, which fades
        the modality share. `last`: this is the epoch's last batch (a `Step` knows)."""
        if sum(given is not None for given in (step, rows, histogram)) != 1:
            raise ConfigError("pass one of: a step of the plan, rows=, histogram=")
        world = _world(self.group)[0]
        if step is not None:
            if step.world_size != world:
                raise ConfigError(f"the step is one of {step.world_size} ranks, but {world} are running")
            if step.micro_step == 0:
                self.core.batch_size = step.batch_size
                self._feed(self.plan.histogram(step.batch), step.n, progress)
            scale, complete, last = step.scale, step.ends_batch, last or step.ends_epoch
        else:
            mine = np.asarray(self.plan.histogram(rows) if histogram is None else histogram, dtype=np.float64)
            n = float(len(rows)) if rows is not None else float(mine.sum())
            *total, n_all = _sum([*mine, n], self._device(), self.group)
            self._feed(np.asarray(total).round().astype(np.int64), round(n_all), progress)
            scale, complete = world * n / n_all, True
        weight, fire = self._now
        if last and complete and not fire:
            fire = self.core.finish()
            self._now = weight, fire
        ends = fire and complete
        return _Batch(self, Part(self, scale * weight / self.core.threshold, ends), world)

    def _feed(self, histogram: np.ndarray, n: int, progress: float) -> None:
        n_eff, _ = self._score.n_eff(histogram, progress)
        self._now = self.core.feed(n_eff, n)

    def _device(self) -> Any:
        return next((p.device for p in self.model.parameters()), "cpu")

    def _normalise(self) -> None:
        factor = self.core.threshold / self.core.total
        with torch.no_grad():
            for p in self.model.parameters():
                if p.grad is not None:
                    p.grad.mul_(factor)
        self._unreduced = False

    def finish(self) -> bool:
        """The epoch ends after a batch that was not known to be the last: reduces what waits over ranks and completes the update.
        True if there is one; the loop then steps. Not for models whose parameters are sharded: say `last=True` there."""
        if not self.core.finish():
            return False
        world, _ = _world(self.group)
        if world > 1 and self._unreduced:
            if type(self.model).__name__.startswith(("FullySharded", "FSDP")):
                raise ConfigError("gradients of a sharded model can only be reduced in a backward pass: pass last=True with the last batch")
            for p in self.model.parameters():  # all of them, in order: a rank may lack a gradient that another has
                if p.requires_grad:
                    p.grad = torch.zeros_like(p) if p.grad is None else p.grad
                    distributed.all_reduce(p.grad, group=self.group)
                    p.grad.div_(world)
        self._normalise()
        return True

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs between two updates."""
        if self.core.pending:
            raise ConfigError(
                f"an update is under way ({self.core.pending} batches): gradients are not part of a checkpoint, so save after a part with "
                "ends_update"
            )
        return self.core.state()

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        self.core.restore(saved)


class _Batch:
    def __init__(self, updates: Accumulator, part: Part, world: int) -> None:
        self._updates, self._part, self._stack = updates, part, ExitStack()
        self._wait = world > 1 and not part.ends_update

    def __enter__(self) -> Part:
        if self._wait:
            self._stack.enter_context(self._updates._no_sync())
            self._updates._unreduced = True
        return self._part

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self._stack.__exit__(kind, error, trace)
        if kind is None and self._part.ends_update:
            self._updates._normalise()


# ---------------------------------------------------------------------------------------------------------------- loader choice


class Probe:
    """The loss of the plan's probe rows: a fixed stratified set (held-out rows if the plan has some), in eval mode, without gradients.

    `loss(batch) -> tensor`: losses of shape (n,), or their mean, of what `collate` makes of dataset items. Each rank computes its share;
    the sum over ranks is the same on all. O(size) forward passes a call."""

    def __init__(
        self,
        plan: Plan,
        dataset: Any,
        model: torch.nn.Module,
        loss: Callable[[Any], torch.Tensor],
        *,
        size: int = 1024,
        batch_size: int = 256,
        collate: Callable[[Any], Any] | None = None,
        group: Any = None,
    ) -> None:
        self.rows, self.dataset, self.model, self.loss = plan.probe(size), dataset, model, loss
        self.batch_size, self.group = batch_size, group
        self.collate = collate or torch.utils.data.default_collate

    @torch.no_grad()
    def __call__(self) -> float:
        world, rank = _world(self.group)
        mine = self.rows[divide(len(self.rows), rank, world)].tolist()
        training = self.model.training
        self.model.eval()
        total, n = 0.0, 0.0
        device: Any = "cpu"
        try:
            for i in range(0, len(mine), self.batch_size):
                rows = mine[i : i + self.batch_size]
                fetch = getattr(self.dataset, "__getitems__", None)
                losses = self.loss(self.collate(fetch(rows) if fetch else [self.dataset[r] for r in rows]))
                total, n, device = total + float(losses.double().mean()) * len(rows), n + len(rows), losses.device
        finally:
            self.model.train(training)
        if n == 0:
            device = next((p.device for p in self.model.parameters()), "cpu")
        total, n = _sum([total, n], device, self.group)
        return total / n if n else math.nan


class LoaderChoice:
    """Lets a sampler with `candidates=True` change its batch size while training, segment by segment, by how fast a probe loss falls.

        choice = LoaderChoice(sampler, probe, epochs=20)
        for step, batch in follow(loader):
            ...
            choice.after(step)

    Cost is `"rows"` or `"seconds"` (the mean over ranks), time spent on the probe not counted. All ranks see one loss and one cost, and
    check that their samplers stand at the same place before they follow a decision. Policies and what they can and cannot do:
    docs/algorithms.md."""

    def __init__(
        self,
        sampler: Any,
        probe: Callable[[], float],
        *,
        epochs: float,
        policy: Literal["rate", "extrapolation", "ratchet"] = "rate",
        cost: Literal["rows", "seconds"] = "seconds",
        segment_rows: int | None = None,
        seed: int | None = None,
        group: Any = None,
    ) -> None:
        if cost not in ("rows", "seconds"):
            raise ConfigError(f"cost {cost!r} is none of 'rows', 'seconds'")
        self.sampler, self.probe, self.cost, self.group = getattr(sampler, "batches", sampler), probe, cost, group
        self.core = self.sampler.plan.loader_choice(epochs, policy=policy, seed=seed, segment_rows=segment_rows)
        self._rows, self._since, self._began = 0, 0.0, False

    @property
    def log(self) -> list[dict[str, Any]]:
        """One entry a segment, see `batchwright.LoaderChoice.log`."""
        return self.core.log

    @property
    def batch_size(self) -> int:
        return self.core.batch_size

    def begin(self) -> None:
        """Measures the loss before the first segment and sets its batch size: before the first batch is drawn. `after` does it late, if
        nobody did."""
        size = self.core.begin(self.probe())
        self._began = True
        self._follow(size)

    def _follow(self, size: int) -> None:
        live = self.sampler.live
        place = (size, live.epoch, live.step, live.part) if live is not None else (size, -1, 0, 0)
        world, _ = _world(self.group)
        if world > 1:
            device = "cuda" if distributed.get_backend(self.group) == "nccl" else "cpu"
            sums = _sum([*place, *(v * v for v in place)], device, self.group)
            if any(world * squares != total * total for total, squares in zip(sums[:4], sums[4:], strict=True)):
                raise ConfigError(
                    "the ranks' loaders stand at different batches: give all of them the same num_workers and prefetch_factor, and call "
                    "`after` for every step on every rank"
                )
        self.sampler.choose(size)
        self._rows, self._since = 0, time.perf_counter()

    def after(self, step: Step) -> dict[str, Any] | None:
        """One micro-step of the plan was trained on. At the end of a segment its entry of the log, else None."""
        if not step.ends_batch:
            return None
        if not self._began:
            self.begin()
            return None
        self._rows += step.n
        if not self.core.advance(step.n, step.batch_size):
            return None
        seconds = time.perf_counter() - self._since
        world, _ = _world(self.group)
        device = "cuda" if world > 1 and distributed.get_backend(self.group) == "nccl" else "cpu"
        cost = float(self._rows) if self.cost == "rows" else _sum([seconds], device, self.group)[0] / world
        self._follow(self.core.update(self.probe(), cost))
        return self.core.log[-1]

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint; what the running segment has cost so far is part of it."""
        return {"core": self.core.state(), "rows": self._rows, "seconds": time.perf_counter() - self._since, "began": self._began}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        self.core.restore(saved["core"])
        self._rows, self._began = saved["rows"], saved["began"]
        self._since = time.perf_counter() - saved["seconds"]
        if self._began:
            self.sampler.choose(self.core.batch_size)


def plot(log: Sequence[dict[str, Any]], path: Any = None) -> Any:
    """Draws a `LoaderChoice.log` with matplotlib: loss expected and observed, the size of every segment, and the surprise. Saves to `path`
    if given; returns the figure."""
    figures = need("matplotlib.figure", "matplotlib")
    figure = figures.Figure(figsize=(8, 7), layout="constrained")
    top, middle, bottom = figure.subplots(3, 1, sharex=True, height_ratios=(3, 2, 2))
    ends = np.cumsum([entry["rows"] + entry["other_rows"] for entry in log])
    column = lambda name: np.array([math.nan if e[name] is None else e[name] for e in log], float)  # noqa: E731
    top.plot(ends, column("observed"), label="observed")
    top.plot(ends, column("expected"), "--", label="expected")
    top.set(ylabel="probe loss", yscale="log")
    top.legend()
    middle.step(ends, column("batch_size"), where="pre")
    middle.set(ylabel="batch size", yscale="log")
    middle.set_yticks(sorted({e["batch_size"] for e in log}), labels=[str(s) for s in sorted({e["batch_size"] for e in log})])
    middle.minorticks_off()
    bottom.axhline(0, color="0.7")
    bottom.plot(ends, column("surprise"))
    bottom.set(ylabel="surprise", xlabel="rows")
    if path is not None:
        figure.savefig(path)
    return figure
