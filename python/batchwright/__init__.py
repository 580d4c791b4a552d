"""Plans of batchwright in Python: stratified batches, row weights and scores, and the decisions taken while training.

    import batchwright as bw

    plan = bw.Plan.open("digits.plan")
    epoch = plan.epoch(0)
    for i in range(len(epoch)):
        rows, weights = epoch.batch(i), epoch.weights(i, progress=0.25)

Only numpy is needed. `batchwright.torch`, `batchwright.grain` and `batchwright.training` import their framework when they are
imported themselves."""

from ._core import (
    Accumulator,
    Assignment,
    BatchwrightError,
    Column,
    ConfigError,
    Epoch,
    InputError,
    LoaderChoice,
    Places,
    Plan,
    PlanError,
    Ratchet,
    RowGroups,
    Score,
    Updates,
    __version__,
)
from .materialize import materialize

__all__ = [
    "Accumulator",
    "Assignment",
    "BatchwrightError",
    "Column",
    "ConfigError",
    "Epoch",
    "InputError",
    "LoaderChoice",
    "Places",
    "Plan",
    "PlanError",
    "Ratchet",
    "RowGroups",
    "Score",
    "Updates",
    "__version__",
    "materialize",
]
