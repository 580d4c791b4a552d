"""Plans with the Transformers `Trainer`: a mixin.

    class PlanTrainer(PlanTrainerMixin, Trainer):
        pass

    trainer = PlanTrainer(model=model, args=args, train_dataset=ParquetRows(plan, "data/"), plan=plan)
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from batchwright._core import ConfigError, Plan
from batchwright.steps import check_one_size, check_source, need
from batchwright.torch import PlanBatchSampler
from batchwright.training import weighted_mean

need("transformers", "transformers accelerate")

import torch  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402
from transformers import TrainerCallback  # noqa: E402
from transformers.trainer_utils import seed_worker  # noqa: E402

__all__ = ["PlanTrainerMixin"]


class SetEpoch(TrainerCallback):
    """The Trainer's own `set_epoch` does not reach samplers behind the wrapper that skips batches after a resume on several ranks."""

    def __init__(self, samplers: Callable[[], Iterable[PlanBatchSampler]]) -> None:
        self._of = samplers

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        for sampler in self._of():
            sampler.set_epoch(int(state.epoch or 0))


if TYPE_CHECKING:
    from transformers import Trainer
else:
    Trainer = object


class PlanTrainerMixin(Trainer):
    """Trains on a plan's batches: an optimizer step is one batch, cut into world_size x gradient_accumulation_steps micro-batches, so
    per_device_train_batch_size follows from the plan and must agree with it. Resuming (`resume_from_checkpoint`) is exact.

    Items must be dictionaries; with the key `row` (`ParquetRows`, `with_rows`) and `weigh=True`, every row's loss counts with its weight
    at the progress of the training: `row_losses(outputs, labels)` then gives the losses, by default the cross entropy of
    `outputs.logits`."""

    def __init__(self, *args: Any, plan: Plan, batch_size: int | None = None, weigh: bool = False, **kwargs: Any) -> None:
        check_one_size(plan, batch_size, "the Trainer")
        self.plan, self.plan_batch_size, self.weigh = plan, batch_size or plan.batch_size, weigh
        if weigh:
            kwargs["compute_loss_func"] = self._weighted_loss
        super().__init__(*args, **kwargs)
        a = self.args
        if a.remove_unused_columns and weigh:
            raise ConfigError("row weights need the column `row`: pass TrainingArguments(remove_unused_columns=False)")
        rows = plan.check_world_size(a.world_size, a.gradient_accumulation_steps, self.plan_batch_size)
        if a.per_device_train_batch_size != rows:
            raise ConfigError(
                f"a batch of {self.plan_batch_size} rows on {a.world_size} processes with gradient_accumulation_steps="
                f"{a.gradient_accumulation_steps} has {rows} rows a device: pass per_device_train_batch_size={rows}"
            )
        self.add_callback(SetEpoch(lambda: [self.plan_sampler]))

    def get_train_dataloader(self) -> DataLoader:
        a = self.args
        self.plan_sampler = PlanBatchSampler(
            self.plan,
            view="micro",
            world_size=a.world_size,
            rank=a.process_index,
            micro_steps=a.gradient_accumulation_steps,
            batch_size=self.plan_batch_size,
            drop_last=a.dataloader_drop_last,
        )
        n, rank = a.dataloader_num_workers, a.process_index
        dataset: Any = self.train_dataset
        check_source(self.plan, dataset)
        loader: DataLoader[Any] = DataLoader(
            dataset,
            batch_sampler=self.plan_sampler,
            collate_fn=self._get_collator_with_removed_columns(self.data_collator, description="training"),
            num_workers=n,
            pin_memory=a.dataloader_pin_memory,
            persistent_workers=a.dataloader_persistent_workers,
            prefetch_factor=a.dataloader_prefetch_factor,
            worker_init_fn=_Seed(n, rank),
        )
        return self.accelerator.prepare(loader)

    @property
    def progress(self) -> float:
        """Share of the training done."""
        return min(1.0, self.state.global_step / self.state.max_steps) if self.state.max_steps else 0.0

    def row_losses(self, outputs: Any, labels: torch.Tensor) -> torch.Tensor:
        """Losses of shape (n,)."""
        logits = outputs["logits"] if isinstance(outputs, dict) else outputs[0]
        return torch.nn.functional.cross_entropy(logits, labels, reduction="none")

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        if self.weigh:
            if "row" not in inputs:
                raise ConfigError("items have no key `row`: make the dataset with ParquetRows or batchwright.torch.with_rows")
            inputs = dict(inputs)
            self._rows = inputs.pop("row").cpu().numpy()
        return super().compute_loss(model, inputs, *args, **kwargs)

    def _weighted_loss(self, outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        losses = self.row_losses(outputs, labels)
        mean = weighted_mean(losses, self.plan.weights_for(self._rows, self.progress), self.plan.loss_weight(self._rows))
        if num_items_in_batch is None:
            return mean / self.current_gradient_accumulation_steps
        # The Trainer counts the labels of all micro-batches and ranks of the step: exact also where slices differ by a row.
        return mean * len(losses) / num_items_in_batch


class _Seed:
    """`worker_init_fn` that can be sent to spawned workers."""

    def __init__(self, num_workers: int, rank: int) -> None:
        self.num_workers, self.rank = num_workers, rank

    def __call__(self, worker: int) -> None:
        seed_worker(worker, self.num_workers, self.rank)
