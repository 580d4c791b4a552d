"""Streams from an object store: the same rows, few requests, and what goes wrong is told."""

import sys

import harness
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import batchwright as bw

sys.path.insert(0, str(harness.ROOT / "tests" / "python"))
from store import Store  # noqa: E402


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """Digits in two objects, and a plan of them in the local order."""
    rows = pq.read_table(harness.DIGITS)
    rows = rows.append_column("text", pa.array([f"row {i}" for i in range(len(rows))]))
    store, folder = Store(), tmp_path / "data"
    folder.mkdir()
    for name, part, index in (("a", rows.slice(0, 900), True), ("b", rows.slice(900), False)):
        pq.write_table(part, folder / f"{name}.parquet", row_group_size=100, write_page_index=index)
        store.objects[f"data/{name}.parquet"] = (folder / f"{name}.parquet").read_bytes()
    for name, value in store.environment().items():
        monkeypatch.setenv(name, value)
    flags = "--label label --batch-size 64 --locality local --unit-rows 100 --window 2".split()
    plan = bw.Plan.open(harness.make_plan(tmp_path / "plan", *flags, data=folder))
    try:
        plan.check_dataset("s3://bucket/data/")
    except bw.BatchwrightError as error:
        if "this build cannot" in str(error):
            pytest.skip("this build has no object stores (feature `cloud`)")
        raise
    yield store, plan, folder
    store.shutdown()


def equal(a, b):
    assert (a["row"] == b["row"]).all() and (a["embedding"] == b["embedding"]).all() and a["text"].tolist() == b["text"].tolist()


def test_the_same_rows_with_few_requests(bucket):
    store, plan, folder = bucket
    columns = ["embedding", "text"]
    local = list(plan.stream(folder, columns, epochs=1))
    stream = plan.stream("s3://bucket/data/", columns, epochs=1)
    begun, whole = store.gets, sum(len(data) for data in store.objects.values())
    sent = sum(stream_bytes(store))
    for one, two in zip(local, stream, strict=True):
        equal(one, two)
    # Columns that lie close together come in one request a row group, or a few where units are cut; every byte about once.
    assert store.gets - begun <= 60
    assert sum(stream_bytes(store)) - sent <= 2 * whole


def stream_bytes(store):
    for command, _, headers in store.asked:
        if command == "GET" and "Range" in headers:
            first, last = headers["Range"].removeprefix("bytes=").split("-")
            yield int(last) - int(first) + 1


def test_a_slow_store_is_read_ahead(bucket):
    """With 50 ms before every answer, threads have several requests under way."""
    store, plan, _ = bucket
    store.delay = 0.05
    stream, store.most_waiting = plan.stream("s3://bucket/data/", ["embedding"], epochs=1, threads=8), 0
    assert sum(len(batch["row"]) for batch in stream) == plan.rows_planned
    assert store.most_waiting >= 4


def test_a_store_that_fails_for_a_while_is_asked_again(bucket):
    store, plan, folder = bucket
    local = list(plan.stream(folder, ["embedding", "text"], epochs=1))
    stream = plan.stream("s3://bucket/data/", ["embedding", "text"], epochs=1, threads=1)
    store.refuse, store.cut = 2, 1
    for one, two in zip(local, stream, strict=True):
        equal(one, two)
    assert store.refuse == store.cut == 0


def test_an_object_that_changes_is_named(bucket):
    store, plan, _ = bucket
    stream = plan.stream("s3://bucket/data/", ["embedding"], epochs=3, threads=1)
    next(stream)
    for name, data in store.objects.items():
        store.objects[name] = data[:-1] + bytes([data[-1] ^ 1])
    with pytest.raises(bw.InputError, match=r"(?s)s3://bucket/data/[ab].parquet.*has changed"):
        list(stream)


def test_a_worker_that_was_forked_after_the_store_was_read(bucket):
    torch = pytest.importorskip("torch")
    from torch.utils.data import DataLoader

    from batchwright.torch import StreamDataset

    _, plan, _ = bucket
    next(plan.stream("s3://bucket/data/", ["embedding"]))
    dataset = StreamDataset(plan, "s3://bucket/data/", ["embedding"])
    rows = torch.cat([batch["row"] for batch in DataLoader(dataset, batch_size=None, num_workers=1, multiprocessing_context="fork")])
    assert len(np.unique(rows.numpy())) == plan.rows_planned
