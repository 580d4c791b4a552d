"""The ways to read that are compared: a generator each, registered under its name.

What a reader does before its first, bare `yield` are imports, before its second it opens its data: what a training run does once. Then
the clock runs: it puts rows in the order of an epoch and yields batches `(embedding, label, text)`: an n x 256 and an n array, of NumPy or
torch, and n texts in whatever form costs it least. Every reader is here in the fastest form that we found for it; README.md says what
was tried."""

from dataclasses import dataclass
from pathlib import Path

from data import COLUMNS, DIMS, vectors

BUFFER = 10_000  # rows that Hugging Face and WebDataset shuffle among
TOGETHER = 16  # batches that Lance takes at a time


@dataclass
class Job:
    """One measurement. `data`: the form of Parquet or the copy that is read; `workers`: processes that read, none if 0."""

    reader: str
    data: str
    folder: Path
    rows: int
    batch: int
    threads: int
    workers: int = 0
    seed: int = 1

    @property
    def path(self):
        return self.folder / (f"{self.data}.parquet" if READERS[self.reader].parquet else self.data)

    def plan(self, order):
        return str(self.folder / f"{self.data}.{order}.plan")

    def shuffled(self):
        """Row numbers of batches in random order."""
        import numpy as np

        order = np.random.default_rng(self.seed).permutation(self.rows)
        return [order[i : i + self.batch] for i in range(0, self.rows, self.batch)]


@dataclass
class Reader:
    """`data`: what it reads, one measurement each: forms of Parquet files or copies of its own. `workers`: more threads may also be
    worker processes; that is then a second measurement."""

    run: object
    title: str
    data: tuple
    parquet: bool
    workers: bool


READERS = {}
ALL = ("plain", "zstd", "one-group")


def reader(name, title, *data, parquet=False, workers=False):
    def register(run):
        READERS[name] = Reader(run, title, data, parquet, workers)
        return run

    return register


def load(dataset, job, **options):
    """torch's DataLoader, with processes that are still there when the epoch has ended: their memory is looked at then."""
    from torch.utils.data import DataLoader

    return DataLoader(dataset, num_workers=job.workers, persistent_workers=job.workers > 0, **options)


def divided(job, make):
    """Batches of `make(part, parts)`, from worker processes if there are any: every one makes the batches of its part of the data."""
    if not job.workers:
        yield from make(0, 1)
        return
    import torch

    class Parts(torch.utils.data.IterableDataset):
        def __iter__(self):
            info = torch.utils.data.get_worker_info()
            for embedding, label, text in make(info.id, info.num_workers):
                # Tensors are handed over in shared memory, arrays through a pipe.
                yield torch.from_numpy(embedding.copy()), torch.from_numpy(label.copy()), text

    yield from load(Parts(), job, batch_size=None)


def stack(rows):
    """Samples to a batch: faster than torch's own way. Vectors may be arrays, their bytes, or lists."""
    import numpy as np
    import torch

    vectors = [row["embedding"] for row in rows]
    if isinstance(vectors[0], bytes):
        embedding = np.frombuffer(bytearray().join(vectors), "f4").reshape(-1, DIMS)
    else:
        embedding = np.array(vectors, "f4") if isinstance(vectors[0], list) else np.stack(vectors)
    return torch.from_numpy(embedding), torch.tensor([row["label"] for row in rows]), [row["text"] for row in rows]


def arrow(batch):
    """Arrow rows, as a table or a batch."""
    if hasattr(batch, "combine_chunks"):
        batch = batch.combine_chunks().to_batches()[0]
    return vectors(batch), batch.column("label").to_numpy(), batch.column("text")


@reader("in-order", "pyarrow in file order, no shuffle", *ALL, parquet=True)
def in_order(job):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pa.set_cpu_count(job.threads)
    yield
    file = pq.ParquetFile(job.path, memory_map=True)
    yield
    yield from map(arrow, file.iter_batches(job.batch, columns=COLUMNS, use_threads=job.threads > 1))


@reader("stream", "**batchwright, stream of a local plan**", *ALL, parquet=True)
def stream(job):
    import batchwright
    import pyarrow as pa

    yield
    plan = batchwright.Plan.open(job.plan("local"))
    yield
    for batch in plan.stream([str(job.path)], columns=COLUMNS, epochs=1, threads=job.threads):
        yield batch["embedding"], batch["label"], pa.array(batch["text"])


@reader("stream-torch", "batchwright, the same through torch's DataLoader", "plain", parquet=True)
def stream_torch(job):
    import batchwright
    from batchwright.torch import StreamDataset

    yield
    plan = batchwright.Plan.open(job.plan("local"))
    dataset = StreamDataset(plan, [str(job.path)], columns=COLUMNS, epochs=1, threads=job.threads)
    yield
    for batch in load(dataset, job, batch_size=None):
        yield batch["embedding"], batch["label"], batch["text"]


def parquet_rows(job, cache_bytes):
    import batchwright
    from batchwright.torch import ParquetRows, PlanBatchSampler, collate

    yield
    plan = batchwright.Plan.open(job.plan("global"))
    rows = ParquetRows(plan, [str(job.path)], COLUMNS, extra=(), cache_bytes=cache_bytes)
    loader = load(rows, job, batch_sampler=PlanBatchSampler(plan), collate_fn=collate)
    yield
    for batch in loader:
        yield batch["embedding"], batch["label"], batch["text"]


@reader("rows-cached", "batchwright, ParquetRows and a global plan, all row groups cached", "plain", parquet=True)
def rows_cached(job):
    yield from parquet_rows(job, 1 << 40)


@reader("rows", "batchwright, the same with a cache of an eighth of the file", "plain", parquet=True)
def rows_uncached(job):
    yield from parquet_rows(job, job.path.stat().st_size // 8)


class Mapped:
    """The arrays of `data.write_numpy`, mapped into memory."""

    def __init__(self, job):
        import numpy as np
        import pyarrow as pa

        self.embedding = np.memmap(job.path / "embedding.f32", "f4", "r").reshape(-1, DIMS)
        self.label = np.memmap(job.path / "label.i64", "i8", "r")
        offsets, texts = (pa.py_buffer(np.memmap(job.path / name, "u1", "r")) for name in ("text.i64", "text.utf8"))
        self.text = pa.Array.from_buffers(pa.large_string(), len(self.label), [None, offsets, texts])

    def take(self, rows):
        import pyarrow as pa

        return self.embedding[rows], self.label[rows], self.text.take(pa.array(rows))


@reader("numpy", "NumPy, random rows of mapped arrays", "numpy")
def numpy(job):
    import numpy  # noqa: F401
    import pyarrow  # noqa: F401

    yield
    mapped = Mapped(job)
    yield
    yield from map(mapped.take, job.shuffled())


@reader("numpy-plan", "batchwright, a global plan over the same arrays", "numpy")
def numpy_plan(job):
    import batchwright
    import pyarrow  # noqa: F401

    yield
    mapped, plan = Mapped(job), batchwright.Plan.open(str(job.folder / "plain.global.plan"))
    yield
    yield from map(mapped.take, plan.epoch(0))


def hf_stream(job, kind, files):
    import datasets
    import pyarrow as pa

    pa.set_cpu_count(job.threads)
    # Else it sleeps for five seconds at the end of every epoch over Parquet, for a fault of older pyarrow.
    datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN = 0
    yield
    rows = datasets.load_dataset(kind, data_files=files, split="train", streaming=True).reshard()
    yield

    def part(i, n):
        mine = rows.shard(n, i) if n > 1 else rows
        return map(arrow, mine.shuffle(seed=job.seed, buffer_size=BUFFER).with_format("arrow").iter(job.batch))

    yield from divided(job, part)


@reader("hf-stream", "Hugging Face, streaming of Arrow files", "hf", workers=True)
def hf_stream_arrow(job):
    yield from hf_stream(job, "arrow", sorted(map(str, job.path.glob("*.arrow"))))


@reader("hf-stream-parquet", "Hugging Face, streaming of Parquet", "plain", parquet=True, workers=True)
def hf_stream_parquet(job):
    yield from hf_stream(job, "parquet", str(job.path))


@reader("hf-map", "Hugging Face, map-style", "hf", workers=True)
def hf_map(job):
    import datasets
    import pyarrow as pa

    pa.set_cpu_count(job.threads)
    yield
    rows = datasets.load_from_disk(str(job.path)).with_format("arrow")
    yield
    batches = job.shuffled()
    yield from divided(job, lambda i, n: (arrow(rows[batch]) for batch in batches[i::n]))


def litdata_loader(job, **options):
    import litdata

    dataset = litdata.StreamingDataset(str(job.path), shuffle=True, drop_last=False, seed=job.seed, **options)
    persistent = {"persistent_workers": True} if job.workers else {}
    return litdata.StreamingDataLoader(dataset, batch_size=job.batch, num_workers=job.workers, collate_fn=stack, **persistent)


@reader("litdata", "litdata, optimised copy; blocks of 256 rows are shuffled", "litdata", workers=True)
def litdata(job):
    import litdata  # noqa: F401

    yield
    loader = litdata_loader(job)
    yield
    yield from loader


@reader("litdata-full", "litdata, optimised copy; rows of a chunk are shuffled", "litdata-arrays", workers=True)
def litdata_full(job):
    import litdata  # noqa: F401

    yield
    loader = litdata_loader(job, item_shuffle_window="full", batch_decode="all")
    yield
    yield from loader


@reader("litdata-parquet", "litdata, Parquet", "litdata-parquet")
def litdata_parquet(job):
    import litdata  # noqa: F401
    import polars  # noqa: F401
    from litdata.streaming.item_loader import ParquetLoader

    yield
    loader = litdata_loader(job, item_loader=ParquetLoader(low_memory=False, columns=COLUMNS))
    yield
    yield from loader


def lance_take(job, together):
    import lance
    import pyarrow as pa

    yield
    rows = lance.dataset(str(job.path))
    yield
    batches = job.shuffled()
    for i in range(0, len(batches), together):
        some = batches[i : i + together]
        taken, first = rows.take(pa.array([row for batch in some for row in batch.tolist()]), columns=COLUMNS), 0
        for batch in some:
            yield arrow(taken.slice(first, len(batch)))
            first += len(batch)


@reader("lance", "Lance, `take` of 256 rows", "lance")
def lance(job):
    yield from lance_take(job, 1)


@reader("lance-together", f"Lance, `take` of {TOGETHER} batches", "lance")
def lance_together(job):
    yield from lance_take(job, TOGETHER)


@reader("mds", "MosaicML Streaming, MDS", "mds", workers=True)
def mds(job):
    from streaming import StreamingDataset
    from streaming.base.util import clean_stale_shared_memory

    clean_stale_shared_memory()
    yield
    dataset = StreamingDataset(local=str(job.path), shuffle=True, shuffle_seed=job.seed, batch_size=job.batch)
    loader = load(dataset, job, batch_size=job.batch, collate_fn=stack)
    yield
    yield from loader


@reader("mds-random", "MosaicML Streaming, MDS, random rows by their number", "mds")
def mds_random(job):
    from streaming import StreamingDataset
    from streaming.base.util import clean_stale_shared_memory

    clean_stale_shared_memory()
    yield
    rows = StreamingDataset(local=str(job.path), batch_size=job.batch)
    yield
    for batch in job.shuffled():
        yield stack([rows[row] for row in batch.tolist()])


@reader("webdataset", "WebDataset", "webdataset", workers=True)
def webdataset(job):
    import webdataset

    yield
    files = sorted(map(str, job.path.glob("*.tar")))
    rows = webdataset.WebDataset(files, shardshuffle=len(files), seed=job.seed).shuffle(BUFFER).decode()
    rows = rows.map(lambda row: {"embedding": row["npy"], "label": row["cls"], "text": row["txt"]})
    loader = load(rows.batched(job.batch, collation_fn=stack), job, batch_size=None)
    yield
    yield from loader
