"""Plans in Hugging Face `datasets`: `iterable` is an `IterableDataset` whose rows come in the order of the plan's batches.

    ds = iterable(plan, "data/", ["text", "label"], epochs=1)
    for batch in ds.iter(batch_size=plan.batch_size // world_size): ...

Whoever takes Arrow or NumPy batches (`ds.with_format("numpy").iter(...)`) gets them without a Python object per row."""

from collections.abc import Iterator, Sequence
from typing import Any

from batchwright._core import Plan
from batchwright.steps import need
from batchwright.stream import Stream

need("datasets", "datasets")
pa = need("pyarrow", "pyarrow")

import numpy as np  # noqa: E402
from datasets import Features, IterableDataset  # noqa: E402

__all__ = ["iterable", "tables"]


def tables(stream: Stream) -> Iterator[Any]:
    """The batches of a stream as `pyarrow.Table`s; vectors are lists of one length."""
    for batch in stream:
        yield pa.table({name: _arrow(values) for name, values in batch.items()})


def _arrow(values: Any) -> Any:
    if not isinstance(values, np.ndarray):
        return pa.array(values)
    if values.ndim == 1:
        return pa.array(values)
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])


def iterable(plan: Plan, data: Any, columns: Sequence[str] | None = None, **options: Any) -> IterableDataset:
    """Rows in the order of the plan's batches, of this rank: `.iter(batch_size=B)` and `.batch(B)`, with B the rank's rows of a batch, give
    the plan's batches (`rest="drop"`, or else a short one ends every epoch). Arguments are those of `batchwright.stream.Stream`; every
    pass begins anew. One process reads: a `DataLoader` over it takes num_workers 0 or 1."""
    from datasets.iterable_dataset import ArrowExamplesIterable

    first = Stream(plan, data, columns, **{**options, "epochs": 1})
    with first:
        schema = next(tables(first)).schema

    def batches() -> Iterator[tuple[int, Any]]:
        yield from enumerate(tables(Stream(plan, data, columns, **options)))

    return IterableDataset(ArrowExamplesIterable(batches, {}), info=_info(schema))


def _info(schema: Any) -> Any:
    from datasets import DatasetInfo

    return DatasetInfo(features=Features.from_arrow_schema(schema))
