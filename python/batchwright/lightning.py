"""Plans with Lightning: a callback that follows the plan's batches, and updates of several batches under manual optimization.

The loader: `DataLoader(ds, sampler=s, batch_size=s.batch_size)` with a `PlanSampler`, which Lightning leaves alone, or a `PlanBatchSampler`
and `Trainer(use_distributed_sampler=False)`. A `StatefulDataLoader` puts its place in the epoch into Lightning's checkpoints."""

from collections.abc import Callable
from typing import Any

from batchwright._core import ConfigError
from batchwright.steps import need
from batchwright.torch import _planned
from batchwright.training import Accumulator, LoaderChoice

need("lightning.pytorch", "lightning")

from lightning.pytorch import Callback  # noqa: E402

__all__ = ["PlanCallback", "Unsized", "accumulator"]


class Unsized:
    """A loader without a length: Lightning then ends an epoch where the loader does. It fixes the number of batches of an epoch before
    training otherwise, and would cut epochs short when a `LoaderChoice` takes smaller batches."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader

    def __iter__(self) -> Any:
        return iter(self.loader)

    def __getattr__(self, name: str) -> Any:
        if name == "loader":
            raise AttributeError(name)
        return getattr(self.loader, name)


class PlanCallback(Callback):
    """Sets `module.plan_step` (a `Step`) and `module.plan_progress` (share of the training done) before every training step, and lets a
    `training.LoaderChoice` change the batch size.

    `choice`: a function of the module that makes one, called when training starts. Its sampler is the loader's, which is `Unsized`."""

    def __init__(self, choice: Callable[[Any], LoaderChoice] | None = None) -> None:
        self._make = choice
        self.choice: LoaderChoice | None = None
        self._restored: dict[str, Any] | None = None
        self._first: int | None = None

    def on_train_start(self, trainer: Any, module: Any) -> None:
        self._first = None  # a restart in mid-epoch begins without on_train_epoch_start
        # Resuming at the end of an epoch, Lightning has made its iterator, and workers their first batches, before it sets the epoch.
        sampler, _ = _planned(trainer.train_dataloader)
        if sampler.live is not None and sampler.live.epoch != trainer.current_epoch:
            sampler.set_epoch(trainer.current_epoch)
            iter(trainer.fit_loop._data_fetcher)
        if self._make is not None:
            if trainer.fit_loop.max_batches != float("inf"):
                raise ConfigError(
                    "Lightning has fixed the number of batches of an epoch, which changes with their size: pass "
                    "batchwright.lightning.Unsized(loader)"
                )
            self.choice = self._make(module)
            if self._restored is None:
                self.choice.begin()
            else:
                self.choice.load_state_dict(self._restored)

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        self._first = None

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        sampler, skipped = _planned(trainer.train_dataloader)
        if self._first is None:
            # Lightning counts on after a restart in mid-epoch, and so does a pass that was resumed; a fresh loader does neither.
            self._first = skipped + sampler.first - batch_idx
        module.plan_step = sampler.step(self._first + batch_idx)
        if module.plan_step.epoch != trainer.current_epoch:
            raise ConfigError(f"the loader deals epoch {module.plan_step.epoch}, but Lightning trains epoch {trainer.current_epoch}")
        steps = trainer.estimated_stepping_batches
        epochs = trainer.max_epochs
        if epochs is not None and epochs > 0:
            done = module.plan_step.unit * module.plan_step.deal.unit / max(1, module.plan_step.deal.rows)
            module.plan_progress = min(1.0, (trainer.current_epoch + done) / epochs)
        else:
            module.plan_progress = min(1.0, trainer.global_step / steps) if steps and steps != float("inf") else 0.0

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.choice is not None:
            self.choice.after(module.plan_step)

    def state_dict(self) -> dict[str, Any]:
        return {} if self.choice is None else {"choice": self.choice.state_dict()}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        self._restored = saved.get("choice")


def accumulator(module: Any, plan: Any, **settings: Any) -> Accumulator:
    """`training.Accumulator` for a LightningModule with `automatic_optimization = False`: make it in `on_train_start`, use it in
    `training_step`."""
    if module.automatic_optimization:
        raise ConfigError("Lightning would step by itself: set self.automatic_optimization = False in the module")
    return Accumulator(
        plan,
        module,
        backward=module.manual_backward,
        no_sync=getattr(module.trainer.strategy.model, "no_sync", None),
        **settings,
    )
