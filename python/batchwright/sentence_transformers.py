"""Plans with Sentence Transformers: batches for its Trainers, and a loss that masks false negatives.

    batches = plan_batches(plan)
    args = SentenceTransformerTrainingArguments(..., batch_sampler=batches, per_device_train_batch_size=64)
    trainer = SentenceTransformerTrainer(model, args, train_dataset=dataset, loss=loss, callbacks=[batches.callback])

Item i of the dataset is row i of the plan. A batch of the plan is a step of all processes; each takes its slice."""

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from batchwright._core import ConfigError, Plan
from batchwright.steps import check_one_size, check_source, need
from batchwright.torch import PlanBatchSampler
from batchwright.transformers import SetEpoch

need("sentence_transformers", "sentence-transformers")

import numpy as np  # noqa: E402
import torch  # noqa: E402
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss  # noqa: E402
from sentence_transformers.util import all_gather  # noqa: E402
from torch.utils.data import BatchSampler, SequentialSampler  # noqa: E402

__all__ = ["MaskedMultipleNegativesRankingLoss", "PlanBatches", "plan_batches", "with_groups"]

LABELS = ("label", "labels", "score", "scores")
"""Columns that the library's collator takes for labels, the first that is there; all others are tokenised."""

SEED = 42
"""What the Trainer passes as `seed` where nobody set one."""


def plan_batches(plan: Plan | Mapping[str, Plan], batch_size: int | None = None, drop_last: bool | None = None) -> "PlanBatches":
    """What to pass as `batch_sampler`: batches of `batch_size` rows over all processes, by default the plan's. A mapping of names to plans is
    for the `DatasetDict` with those names, on one process.

    `drop_last`: whether the short batch at the end of an epoch is left out, by default as `dataloader_drop_last` says, which the library turns
    on by itself on several processes. With False every row comes; the processes have equally many batches all the same."""
    return PlanBatches(plan, batch_size, drop_last)


class PlanBatches:
    """Gives a dataset with the plan's number of rows the plan's batches, and any other (one to evaluate on) its rows in order. The Trainer
    calls it, and must have its `callback`, which sets the epoch where the Trainer's own call does not reach, and refuses to train on a
    dataset that is not the plan's. `seed` and `generator` change nothing: batches follow from the plan's seed."""

    def __init__(self, plan: Plan | Mapping[str, Plan], batch_size: int | None = None, drop_last: bool | None = None) -> None:
        self.plans = dict(plan) if isinstance(plan, Mapping) else {"": plan}
        for name, each in self.plans.items():
            if not isinstance(each, Plan):
                raise ConfigError(f"plan_batches takes a batchwright.Plan or a mapping of names to plans, not a {type(each).__name__} {name}".rstrip())
        sizes = [each.rows for each in self.plans.values()]
        twice = next((rows for rows in sizes if sizes.count(rows) > 1), None)
        if twice is not None:
            raise ConfigError(f"two plans have {twice} rows: datasets are told apart by their number of rows, so train on one of them at a time")
        self.batch_size, self.drop_last = batch_size, drop_last
        self.callback, self._warned = _Callback(self), False

    def __call__(
        self,
        dataset: Any,
        batch_size: int,
        drop_last: bool,
        valid_label_columns: list[str] | None = None,
        generator: Any = None,
        seed: int | None = SEED,
    ) -> BatchSampler | PlanBatchSampler:
        plan = next((plan for plan in self.plans.values() if plan.rows == len(dataset)), None)
        if plan is None:
            if not self.callback.attached:
                raise ConfigError(f"{self._other(len(dataset))}; if it is there to be evaluated, add callbacks=[batches.callback] to the Trainer")
            return BatchSampler(SequentialSampler(dataset), batch_size, drop_last)
        if seed not in (SEED, None) and not self._warned:
            self._warned = True
            warnings.warn(f"seed={seed} leaves the batches as they are: they follow from the plan's seed, {plan.seed} (`plan --seed`)", stacklevel=2)
        return self._of(plan, batch_size, drop_last if self.drop_last is None else self.drop_last)

    def _of(self, plan: Plan, batch_size: int, drop_last: bool) -> PlanBatchSampler:
        ranks = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
        if ranks > 1 and not self.callback.attached:
            raise ConfigError(
                f"on {ranks} processes the Trainer's set_epoch does not reach the sampler after a restart: add callbacks=[batches.callback] to the Trainer"
            )
        if ranks > 1 and len(self.plans) > 1:
            raise ConfigError(
                f"lists of several datasets are dealt to {ranks} processes in turn, which would tear batches apart: train on one dataset, or in one process"
            )
        check_one_size(plan, self.batch_size, "the Trainer")
        # Accelerate deals lists to ranks in turn; several datasets ask for the length of a list, which that view may not have.
        view: Any = "micro" if ranks > 1 else "rank"
        sampler = PlanBatchSampler(plan, view=view, batch_size=self.batch_size, drop_last=drop_last)
        whole = sampler.global_batch_size
        if batch_size * ranks != whole:
            rows = plan.check_world_size(ranks, 1, whole)
            raise ConfigError(
                f"a batch of {whole} rows on {ranks} process(es) has {rows} rows for each, not {batch_size}: pass per_device_train_batch_size={rows} "
                f"(less where a process has several GPUs), or plan_batches(plan, batch_size={batch_size * ranks}) if the plan has that size"
            )
        return sampler

    def _other(self, rows: int) -> str:
        of = [f"{plan.rows}" + (f" ({name})" if name else "") for name, plan in self.plans.items()]
        return f"the dataset has {rows} rows, but the plan was made from {', '.join(of)}: pass the same rows in the same order"

    def __getstate__(self) -> dict[str, Any]:
        # The Trainer saves its arguments beside every checkpoint.
        return {"plans": self.plans, "batch_size": self.batch_size, "drop_last": self.drop_last}

    def __setstate__(self, saved: dict[str, Any]) -> None:
        self.__init__(saved["plans"], saved["batch_size"], saved["drop_last"])  # type: ignore[misc]


class _Callback(SetEpoch):
    """Knows the samplers below the loader that trains."""

    def __init__(self, batches: PlanBatches) -> None:
        super().__init__(lambda: self._samplers)
        self._batches, self._samplers = batches, []
        self.attached = False

    def on_init_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.attached = True

    def on_train_begin(self, args: Any, state: Any, control: Any, train_dataloader: Any = None, **_: Any) -> None:
        self._samplers = list(_innermost(train_dataloader.batch_sampler))
        for sampler in self._samplers:
            if not isinstance(sampler, PlanBatchSampler):
                rows = len(sampler.sampler) if hasattr(sampler, "sampler") else len(train_dataloader.dataset)
                raise ConfigError(self._batches._other(rows) + ("" if len(self._samplers) == 1 else "; a DatasetDict takes plan_batches({name: plan})"))


def _innermost(sampler: Any) -> Iterator[Any]:
    """The samplers inside those of Accelerate and of several datasets."""
    if isinstance(sampler, PlanBatchSampler):
        yield sampler
    elif hasattr(sampler, "batch_samplers"):
        for each in sampler.batch_samplers:
            yield from _innermost(each)
    elif hasattr(sampler, "batch_sampler"):
        yield from _innermost(sampler.batch_sampler)
    else:
        yield sampler


# ----------------------------------------------------------------------------------------------------------------- false negatives


def with_groups(dataset: Any, plan: Plan) -> Any:
    """The `datasets.Dataset` with the column `label`: `plan.group` of every row, what `MaskedMultipleNegativesRankingLoss` wants. The plan has
    one column `--no-duplicates`."""
    check_source(plan, dataset)
    taken = [name for name in LABELS if name in dataset.column_names]
    if taken:
        raise ConfigError(f"the dataset has a column {taken[0]!r}, which the library takes for labels: remove it with dataset.remove_columns, groups come in its place")
    return dataset.add_column("label", plan.group(np.arange(plan.rows)))


class MaskedMultipleNegativesRankingLoss(MultipleNegativesRankingLoss):
    """`MultipleNegativesRankingLoss` in which rows of one group are no negatives of each other: their similarities are -inf, in every
    direction. Labels are groups (`with_groups`), -1 a row of its own. A row's own negatives stay. With `gather_across_devices` groups are
    gathered too. While it evaluates, batches without labels are not masked."""

    def compute_loss_from_embeddings(self, embeddings: list[torch.Tensor], labels: torch.Tensor | None) -> torch.Tensor:
        if labels is None:
            if self.model.training:
                raise ConfigError("the batch has no groups to mask by: make the dataset with batchwright.sentence_transformers.with_groups")
            return super().compute_loss_from_embeddings(embeddings, labels)
        here, n = labels.view(-1), len(labels)
        first, everywhere = 0, here
        if self.gather_across_devices and torch.distributed.is_initialized():
            sizes = all_gather(torch.tensor([n], device=here.device))
            if (sizes != n).any():
                raise ConfigError(
                    f"the processes have batches of {sizes.tolist()} rows, which gather_across_devices cannot take: pass dataloader_drop_last=True"
                )
            everywhere = all_gather(here)
            first = n * torch.distributed.get_rank()
        rows = torch.arange(len(everywhere), device=here.device)

        def members(count: int) -> tuple[torch.Tensor, torch.Tensor]:
            """Rows and groups of so many embeddings: this process's, or everybody's, a row's documents of one kind after those of another."""
            local = count == n
            times = 1 if local else count // len(everywhere)
            return (rows[first : first + n] if local else rows).repeat(times), (here if local else everywhere).repeat(times)

        plain = self.similarity_fct

        def masked(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            (row_a, group_a), (row_b, group_b) = members(len(a)), members(len(b))
            same = (group_a[:, None] == group_b) & (group_a >= 0)[:, None] & (row_a[:, None] != row_b)
            return plain(a, b).masked_fill(same, -torch.inf)

        self.similarity_fct = masked
        try:
            return super().compute_loss_from_embeddings(embeddings, labels)
        finally:
            self.similarity_fct = plain
