"""Stratified batches, row weights and scores for training, planned from the data itself.

    import batchwright as bw

    plan = bw.plan("data/*.parquet", "plan", features="embedding")
    for rows in plan.epoch(0):
        ...
    bw.check(plan, "data/*.parquet").raise_if_drifted()

Only numpy is needed. `batchwright.torch`, `batchwright.jax` and the others import their framework, at their first use."""

import importlib
from typing import TYPE_CHECKING, Any

from ._core import (
    Accumulator,
    Assignment,
    BatchwrightError,
    Column,
    ConfigError,
    Epoch,
    Folds,
    InputError,
    LoaderChoice,
    Places,
    Plan,
    PlanError,
    Ratchet,
    RowGroups,
    Score,
    Table,
    Updates,
    __version__,
)
from ._errors import BatchwrightWarning
from .functions import check, diff, encode, estimate, modalities, plan, report, update
from .materialize import materialize
from .results import DriftError

if TYPE_CHECKING:
    from . import accelerate, engines, grain, hf, jax, lightning, stream, torch, training, transformers

__all__ = [
    "Accumulator",
    "Assignment",
    "BatchwrightError",
    "BatchwrightWarning",
    "Column",
    "ConfigError",
    "DriftError",
    "Epoch",
    "Folds",
    "InputError",
    "LoaderChoice",
    "Places",
    "Plan",
    "PlanError",
    "Ratchet",
    "RowGroups",
    "Score",
    "Table",
    "Updates",
    "__version__",
    "accelerate",
    "check",
    "diff",
    "encode",
    "engines",
    "estimate",
    "grain",
    "hf",
    "jax",
    "lightning",
    "materialize",
    "modalities",
    "plan",
    "report",
    "stream",
    "torch",
    "training",
    "transformers",
    "update",
]

_MODULES = {"accelerate", "engines", "grain", "hf", "jax", "lightning", "stream", "torch", "training", "transformers"}
"""Imported when they are first asked for: each takes its framework with it."""


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
