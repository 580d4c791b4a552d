"""Plans with Hugging Face Accelerate: `prepare` for a loader, `accumulator` for updates of several batches.

Accelerate deals whole lists of a batch sampler to its processes in turn, so it must get the micro view, in which the slices of all ranks
follow one another. A sampler that already knows its rank would lose half its batches on two processes, silently."""

from typing import Any

from batchwright._core import ConfigError
from batchwright.steps import need
from batchwright.torch import PlanBatchSampler
from batchwright.training import Accumulator

need("accelerate", "accelerate")

__all__ = ["accumulator", "prepare"]


def prepare(accelerator: Any, loader: Any) -> Any:
    """`accelerator.prepare(loader)`, if the loader's sampler fits the accelerator."""
    sampler = getattr(loader, "batch_sampler", None)
    if not isinstance(sampler, PlanBatchSampler):
        raise ConfigError("this loader has no sampler of a plan: pass DataLoader(batch_sampler=PlanBatchSampler(plan, view='micro', ...))")
    n = accelerator.num_processes
    split = accelerator.split_batches
    if split and (sampler.view != "global" or sampler.global_batch_size % n):
        raise ConfigError(f"split_batches=True cuts whole batches into {n}: make the sampler with view='global' and a batch size that divides")
    if split and sampler._deal.rows % sampler.global_batch_size and not sampler.drop_last:
        raise ConfigError("split_batches=True fills a short last batch with rows of the first: make the sampler with drop_last=True")
    if not split and (sampler.view != "micro" or sampler.world_size != n):
        raise ConfigError(
            f"{n} processes need PlanBatchSampler(plan, view='micro', world_size={n}); this one has view={sampler.view!r}, "
            f"world_size={sampler.world_size}, and would lose rows"
        )
    sampler.rank = accelerator.process_index
    return accelerator.prepare(loader)


def accumulator(accelerator: Any, plan: Any, model: Any, **settings: Any) -> Accumulator:
    """`training.Accumulator` with this accelerator's backward pass and gradient synchronisation; leave its own
    gradient_accumulation_steps at 1."""
    if accelerator.gradient_accumulation_steps != 1:
        raise ConfigError("gradients would be divided twice: make the Accelerator with gradient_accumulation_steps=1")
    return Accumulator(
        plan, model, backward=accelerator.backward, no_sync=lambda: accelerator.no_sync(model), **settings
    )
