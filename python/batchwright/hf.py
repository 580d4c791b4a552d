"""Plans in Hugging Face `datasets`: `iterable` is an `IterableDataset` whose rows come in the order of the plan's batches.

    ds = iterable(plan, "data/", ["text", "label"], epochs=1)
    for batch in ds.iter(batch_size=plan.batch_size // world_size): ...

Whoever takes Arrow or NumPy batches (`ds.with_format("numpy").iter(...)`) gets them without a Python object per row."""

from collections.abc import Iterator, Sequence
from typing import Any

from batchwright._core import Plan
from batchwright.steps import need
from batchwright.stream import Stream, arrow

need("datasets", "datasets")
pa = need("pyarrow", "pyarrow")

from datasets import DatasetInfo, Features, IterableDataset  # noqa: E402
from datasets.iterable_dataset import ArrowExamplesIterable  # noqa: E402

__all__ = ["iterable", "tables"]


def tables(stream: Stream) -> Iterator[Any]:
    """The batches of a stream as `pyarrow.Table`s; vectors are lists of one length."""
    for batch in stream:
        yield pa.table({name: arrow(values) for name, values in batch.items()})


class _Passes:
    """Tables of one pass after the other. No argument of a function: `datasets` takes lists among them for shards, and changes `columns`."""

    def __init__(self, plan: Plan, data: Any, columns: Sequence[str] | None, epoch: int, options: dict[str, Any]) -> None:
        self.plan, self.data, self.columns, self.epoch, self.options = plan, data, columns, epoch, options

    def __call__(self) -> Iterator[tuple[int, Any]]:
        epoch, self.epoch = self.epoch, self.epoch + self.options["epochs"]
        yield from enumerate(tables(Stream(self.plan, self.data, self.columns, epoch=epoch, **self.options)))


class _PlanDataset(IterableDataset):
    """An `IterableDataset` whose `set_epoch` is heard by the stream below it."""

    passes: _Passes

    def set_epoch(self, epoch: int) -> None:
        super().set_epoch(epoch)
        self.passes.epoch = epoch


def iterable(plan: Plan, data: Any, columns: Sequence[str] | None = None, *, epoch: int = 0, epochs: int = 1, **options: Any) -> IterableDataset:
    """Rows in the order of the plan's batches, of this rank: `.iter(batch_size=B)` and `.batch(B)`, with B the rank's rows of a batch, give
    the plan's batches (a short one may end each epoch, unless `rest="drop"`). A pass is `epochs` epochs, from that of `set_epoch`, else
    those after the pass before. Other arguments are those of `batchwright.stream.Stream`. One process reads: a `DataLoader` over it takes
    num_workers 0 or 1."""
    with Stream(plan, data, columns, epochs=1, **options) as first:
        schema = next(tables(first)).schema
    passes = _Passes(plan, data, columns, epoch, {**options, "epochs": epochs})
    dataset = _PlanDataset(ArrowExamplesIterable(passes, {}), info=DatasetInfo(features=Features.from_arrow_schema(schema)))
    dataset.passes = passes
    return dataset
