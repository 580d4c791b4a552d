"""Streams through the package: the rows that the plan deals, with the values that PyArrow reads, for every framework and from any state."""

import datetime
import gc
import itertools
import os
import pathlib
import pickle
import signal
import warnings

import harness
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import batchwright as bw
from batchwright.steps import divide
from batchwright.stream import Stream


def table():
    """The digits and beside them columns of other types."""
    digits = pq.read_table(harness.DIGITS)
    n = len(digits)
    i = np.arange(n)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(3 * n, dtype=np.float64)), 3)
    extra = {
        "number": pa.array(i, pa.int32()),
        "half": pa.array(i.astype(np.float16)),
        "truth": pa.array(i % 3 == 0),
        "maybe": pa.array(np.where(i % 5, i, 0), pa.int64(), mask=i % 5 == 0),
        "vectors": vectors,
        "text": pa.array([None if x % 11 == 0 else "x" * (x % 13) + str(x) for x in i]),
        "kind": pa.array([f"kind-{x % 4}" for x in i]).dictionary_encode(),
        "list": pa.array([[x] * (x % 4) if x % 7 else None for x in i.tolist()], pa.list_(pa.int64())),
        "tokens": pa.array([[x, x + 1] for x in i.tolist()], pa.list_(pa.int32())),
        "time": pa.array([datetime.datetime(2026, 1, 1) + datetime.timedelta(hours=int(x)) for x in i]),
    }
    for name, column in extra.items():
        digits = digits.append_column(name, column)
    return digits


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stream") / "data"
    folder.mkdir()
    rows = table()
    pq.write_table(rows.slice(0, 700), folder / "a.parquet", row_group_size=200, compression="none", write_page_index=True)
    pq.write_table(rows.slice(700), folder / "b.parquet", row_group_size=300, compression="zstd")
    return folder


def features():
    names = pq.read_schema(harness.DIGITS).names
    return [name for name in names if name != "label"]


@pytest.fixture(scope="module", params=["local", "global"])
def plan(request, data):
    flags = "--label label --batch-size 64 --candidates 32,64,128".split() + ["--features", ",".join(features())]
    if request.param == "local":
        flags += "--locality local --unit-rows 64 --window 2".split()
    return bw.Plan.open(harness.make_plan(data.parent / request.param, *flags, data=data))


def test_batches_hold_what_pyarrow_reads(plan, data):
    rows, epoch = table(), plan.epoch(1)
    stream = plan.stream(data, epoch=1, epochs=1, nulls="mask", threads=2)
    assert len(stream) == len(epoch)
    for i, batch in enumerate(stream):
        assert (batch["row"] == epoch.batch(i)).all() and batch["row"].dtype == np.int64
        expected = rows.take(batch["row"])
        for name in rows.column_names:
            column, values = expected[name].combine_chunks(), batch[name]
            if isinstance(values, bw.Column):
                got = pa.array(values)
                plain = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
                assert got.equals(plain) and values.tolist() == plain.to_pylist() and len(values) == len(column)
                continue
            assert values.flags.writeable and values.flags.c_contiguous
            if pa.types.is_fixed_size_list(column.type) or pa.types.is_list(column.type):
                flat = column.flatten().to_numpy(zero_copy_only=False)
                assert values.shape == (len(column), len(flat) // len(column)) and values.dtype == flat.dtype
                assert values.tobytes() == flat.tobytes()
            elif column.null_count or f"{name}_valid" in batch:
                valid = np.asarray(column.is_valid())
                there = batch.get(f"{name}_valid", np.ones(len(column), bool))
                assert (there == valid).all() and (values[~valid] == 0).all()
                assert (values[valid] == column.drop_null().to_numpy(zero_copy_only=False)).all()
            else:
                flat = column.to_numpy(zero_copy_only=False)
                assert values.dtype == flat.dtype and values.tobytes() == flat.tobytes()
    assert stream.step.ends_epoch and next(stream, None) is None and len(stream) == 0
    assert batch["tokens"].shape[1] == 2, "lists of one length are vectors"


@pytest.mark.parametrize("size", [32, 128])
def test_ranks_and_states(plan, data, size):
    """1, 4 and 2 ranks one after another, from one epoch into the next: every row once an epoch, as the plan deals it."""
    per_epoch = len(plan.epoch(0, size))
    cuts, seen, saved = [(1, 0, 7), (4, 7, per_epoch + 5), (2, per_epoch + 5, 2 * per_epoch)], [], None
    for world_size, first, end in cuts:
        states = []
        for rank in range(world_size):
            stream = Stream(plan, data, "number", rank=rank, world_size=world_size, batch_size=size, epochs=2)
            if saved and rank % 2:
                stream.load_state_dict(saved)
            elif saved:
                stream = Stream(plan, data, "number", rank=rank, world_size=world_size, batch_size=size, epochs=2, state=saved)
            for at in range(first, end):
                epoch, index = divmod(at, per_epoch)
                batch, whole = next(stream), plan.epoch(epoch, size).batch(index)
                assert (batch["row"] == whole[divide(len(whole), rank, world_size)]).all()
                assert (batch["number"] == batch["row"]).all()
                assert (stream.step.epoch, stream.step.step) == (epoch, index) and (stream.step.rows == batch["row"]).all()
                seen.append(batch["row"])
            states.append(stream.state_dict())
            assert states[-1] == stream.step.state()
            stream.close()
        assert all(state == {**states[0], "world_size": world_size} for state in states)
        saved = states[0]
    rows, counts = np.unique(np.concatenate(seen), return_counts=True)
    assert len(rows) == plan.rows_planned and (counts == 2).all()


def test_sizes_change(plan, data):
    stream = plan.stream(data, ["number"], batch_size=32, candidates=True, epochs=1)
    sizes, seen = itertools.cycle([128, 32, 64, 64]), []
    for batch in stream:
        seen.append(batch["row"])
        assert (batch["number"] == batch["row"]).all()
        assert (plan.epoch(0, stream.step.batch_size).batch(stream.step.unit * 32 // stream.step.batch_size) == batch["row"]).all()
        stream.choose(next(sizes))
    assert len(np.unique(np.concatenate(seen))) == sum(map(len, seen)) == plan.rows_planned
    with pytest.raises(bw.ConfigError, match="candidates"):
        stream.choose(48)
    with pytest.raises(bw.ConfigError, match="candidates=True"):
        plan.stream(data, ["number"], epochs=1).choose(32)


@pytest.mark.parametrize("locality", [(), ("--locality", "local")], ids=["global", "local"])
def test_size_schedule(data, tmp_path, locality):
    """Streams follow the plan's schedule, on two ranks and after a restart on one."""
    flags = "--features", "embedding", "--train-epochs", "2", "--size-schedule", "0:32,0.3:64,0.6:128", "--epochs", "0", *locality
    plan = bw.Plan.open(harness.make_plan(tmp_path / "plan", *flags, data=data))
    steps = plan.manifest["schedule"]["steps"]
    seen, states = [[], []], []
    for rank in range(2):
        stream = plan.stream(data, ["number"], rank=rank, world_size=2, epochs=2)
        assert len(stream) == sum(steps)
        for number, batch in enumerate(stream):
            assert plan.locate_step(number) == (stream.step.epoch, stream.step.unit, stream.step.batch_size)
            assert (batch["number"] == batch["row"]).all()
            seen[stream.step.epoch].append(batch["row"])
            states.append(stream.state_dict())
    for rows in seen:
        assert sorted(np.concatenate(rows)) == list(range(plan.rows))
    at = steps[0] + 2
    rest = list(plan.stream(data, ["number"], epochs=2, state=states[at]))
    assert len(rest) == steps[1] - 3
    done = [rows for rank in range(2) for rows in seen[1][rank * steps[1] : rank * steps[1] + 3]]
    assert sorted(np.concatenate([*done, *(b["row"] for b in rest)])) == list(range(plan.rows))


def test_the_rest(plan, data):
    short = [len(b["row"]) for b in plan.stream(data, ["text"], epochs=1)]
    assert short == [64] * 28 + [5]
    assert [len(b["row"]) for b in plan.stream(data, ["text"], epochs=2, rest="drop")] == [64] * 56
    padded = list(plan.stream(data, ["text", "number"], epochs=1, rest="pad"))
    assert all(len(b["text"]) == len(b["number"]) == len(b["weight"]) == 64 for b in padded)
    assert padded[-1]["weight"].tolist() == [1] * 5 + [0] * 59 and padded[-1]["weight"].dtype == np.float32
    assert (padded[-1]["number"][5:] == padded[-1]["number"][0]).all()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert [len(b["row"]) for b in plan.stream(data, "number", rank=3, world_size=8, epochs=1)] == [8] * 28
    assert "only 5 rows for 8 ranks" in str(told[0].message)


def test_extra_columns(plan, data):
    batch = next(plan.stream(data, "number", extra=("row", "modality", "stratum", "centrality")))
    assert (batch["modality"] == plan.modality(batch["row"])).all() and (batch["stratum"] == plan.stratum(batch["row"])).all()
    assert (batch["centrality"] == plan.centrality(batch["row"])).all()
    assert list(next(plan.stream(data, "number", extra=()))) == ["number"]
    # What a batch weighs at some progress.
    stream = plan.stream(data, "number")
    batch = next(stream)
    assert (stream.step.weights(0.5) == plan.weights_for(batch["row"], 0.5)).all()


def test_batches_stay_what_they_are(plan, data):
    """Whatever a stream reads after them, and when it is gone."""
    stream = plan.stream(data, ["number", "vectors", "text"], epochs=2)
    batches = list(stream)
    del stream
    gc.collect()
    for batch in batches:
        assert (batch["number"] == batch["row"]).all() and (batch["vectors"][:, 0] == 3 * batch["row"]).all()
        batch["number"] += 1
    assert (batches[0]["number"] == batches[0]["row"] + 1).all()


def test_streams_end_their_threads_and_pickle(plan, data):
    stream = plan.stream(data, "number", threads=3)
    next(stream)
    assert len(own_threads()) == 3
    again = pickle.loads(pickle.dumps(stream))
    assert (next(again)["row"] == next(stream)["row"]).all()
    again.close()
    with stream:
        pass
    assert next(stream, None) is None
    del stream, again
    gc.collect()
    assert not own_threads()


def test_a_forked_child_lets_go_of_a_stream(plan, data):
    """It has no threads of it: nothing waits for them, and nothing is read."""
    stream = plan.stream(data, "number", threads=2)
    next(stream)
    child = os.fork()
    if not child:
        signal.alarm(20)
        try:
            next(stream)
        except bw.ConfigError as error:
            del stream
            gc.collect()
            os._exit(7 if "forked" in str(error) else 8)
        os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert (next(stream)["row"] == plan.epoch(0).batch(1)).all()


def own_threads():
    """Threads of this process that read streams, as the system sees them: other libraries' come and go."""
    names = (pathlib.Path("/proc/self/task") / task / "comm" for task in os.listdir("/proc/self/task"))
    return [name for path in names if path.exists() and (name := path.read_text()).startswith("batchwright-r")]


def test_what_cannot_be_right_is_refused(plan, data, tmp_path):
    with pytest.raises(bw.InputError, match="(?s)maybe.*is null.*mask"):
        list(plan.stream(data, "maybe", epochs=1))
    for options, message in [
        ({"columns": "numbr"}, "number"),
        ({"nulls": "skip"}, "'mask'"),
        ({"rest": "keep"}, "'pad'"),
        ({"extra": ["rows"]}, "centrality"),
        ({"rank": 2, "world_size": 2}, "rank"),
        ({"batch_size": 100}, "no multiple of 32"),
        ({"batch_size": 0}, "no multiple of 32"),
        ({"threads": 0}, "threads 0"),
        ({"epochs": -1}, "epochs -1"),
        ({"memory": 1}, "(?s)KiB.*allow .*KiB"),
        ({"ragged": "text", "columns": "number"}, "ragged"),
    ]:
        with pytest.raises(bw.BatchwrightError, match=message):
            plan.stream(data, **options)
    with pytest.raises(bw.PlanError, match="other data"):
        plan.stream(data / "a.parquet")
    rows = table()
    for name, part in (("a", rows.slice(0, 700)), ("b", rows.slice(700))):
        size = 200 if name == "a" else 300
        pq.write_table(part.append_column("row", pa.array(range(len(part)))), tmp_path / f"{name}.parquet", row_group_size=size)
    with pytest.raises(bw.PlanError, match="(?s)another version of a.parquet.*check"):
        plan.stream(tmp_path)


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_bytes_that_changed_are_found_by_the_checksum_of_their_page(tmp_path, compression):
    rows = pa.table({"embedding": table()["embedding"], "label": table()["label"]})
    file = tmp_path / "rows.parquet"
    pq.write_table(rows, file, row_group_size=300, compression=compression, write_page_checksum=True, use_dictionary=False)
    flags = "--label label --batch-size 64 --locality local --unit-rows 64 --window 2".split()
    plan = bw.Plan.open(harness.make_plan(tmp_path / "plan", *flags, data=file))
    assert sum(len(batch["row"]) for batch in plan.stream(file, ["embedding"], epochs=1)) == len(rows)
    chunk, data = pq.ParquetFile(file).metadata.row_group(3).column(0), bytearray(file.read_bytes())
    data[chunk.data_page_offset + chunk.total_compressed_size // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(bw.InputError, match="(?s)rows.parquet.*embedding.*row group 3.*checksum"):
        list(plan.stream(file, ["embedding"], epochs=1))


def test_ragged_lists_on_demand(plan, data):
    batch = next(plan.stream(data, "tokens", ragged="tokens"))
    assert isinstance(batch["tokens"], bw.Column) and batch["tokens"][0] == [batch["row"][0], batch["row"][0] + 1]


# ---------------------------------------------------------------------------------------------------------------- frameworks


@pytest.mark.parametrize("workers", [0, 1])
def test_torch(plan, data, workers):
    torch = pytest.importorskip("torch")
    from torch.utils.data import DataLoader

    from batchwright.torch import StreamDataset, follow

    dataset = StreamDataset(plan, data, ["vectors", "text", "number"], map=lambda b: {**b, "double": 2 * b["number"]}, map_threads=2)
    loader, seen = DataLoader(dataset, batch_size=None, num_workers=workers), []
    texts = table()["text"].combine_chunks()
    assert len(loader) == len(plan.epoch(0))
    for epoch in range(2):
        dataset.set_epoch(epoch)
        for step, batch in follow(loader):
            assert torch.is_tensor(batch["vectors"]) and batch["vectors"].dtype == torch.float64
            assert batch["text"].to_pylist() == texts.take(batch["row"].numpy()).to_pylist()
            assert (step.rows == batch["row"].numpy()).all() and step.epoch == epoch
            assert (batch["double"] == 2 * batch["row"]).all()
            seen.append(batch["row"])
    rows, counts = np.unique(torch.cat(seen).numpy(), return_counts=True)
    assert len(rows) == plan.rows_planned and (counts == 2).all()
    # In the middle of an epoch.
    dataset.set_epoch(0)
    state = next(itertools.islice(follow(loader), 3, None))[0].state()
    dataset.resume(state)
    rest = [step.step for step, _ in follow(loader)]
    assert rest == list(range(4, len(plan.epoch(0))))
    dataset.set_epoch(1)
    assert [step.step for step, _ in follow(loader)][0] == 0


def test_torch_workers_divide_a_batch_or_are_refused(plan, data):
    torch = pytest.importorskip("torch")
    from torch.utils.data import DataLoader

    from batchwright.torch import StreamDataset, StreamLoader, follow

    dataset = StreamDataset(plan, data, ["number", "text"], rest="drop")
    with pytest.raises(bw.ConfigError, match="StreamLoader"):
        next(iter(DataLoader(dataset, batch_size=None, num_workers=2)))
    whole = list(DataLoader(dataset, batch_size=None))
    parts = list(StreamLoader(dataset, num_workers=2))
    assert len(parts) == len(whole) == len(StreamLoader(dataset, num_workers=2))
    for a, b in zip(whole, parts, strict=True):
        assert torch.equal(a["row"], b["row"]) and a["text"].equals(b["text"])
    assert [step.step for step, _ in follow(StreamLoader(dataset, num_workers=2))] == list(range(28))


def test_jax(plan, data):
    jax = pytest.importorskip("jax")
    from jax.sharding import NamedSharding, PartitionSpec

    from batchwright.jax import stream

    sharding = NamedSharding(jax.make_mesh((1,), ("data",)), PartitionSpec("data"))
    for options in ({}, {"sharding": sharding}):
        with stream(plan, data, ["number", "text"], epochs=1, rest="drop", **options).stream as inner:
            assert inner.world_size == 1
        batches = stream(plan, data, ["number", "text"], epochs=1, rest="drop", **options)
        for i, batch in enumerate(batches):
            assert isinstance(batch["number"], jax.Array) and (np.asarray(batch["number"]) == plan.epoch(0).batch(i)).all()
        assert i == 27
    saved = batches.state_dict()
    batches.load_state_dict({**saved, "epoch": 0, "step": 2, "unit": 4})
    assert (np.asarray(next(batches)["row"]) == plan.epoch(0).batch(2)).all()
    batches.close()


def test_grain(plan, data):
    pytest.importorskip("grain")
    from batchwright.grain import StreamIterDataset

    iterator = iter(StreamIterDataset(plan, data, ["number", "text"], epochs=1).map(lambda b: {**b, "twice": 2 * b["number"]}))
    first = [next(iterator) for _ in range(3)]
    state = iterator.get_state()
    fourth = next(iterator)
    assert (fourth["twice"] == 2 * plan.epoch(0).batch(3)).all() and isinstance(first[0]["text"], list)
    again = iter(StreamIterDataset(plan, data, ["number", "text"], epochs=1).map(lambda b: {**b, "twice": 2 * b["number"]}))
    again.set_state(state)
    assert (next(again)["row"] == fourth["row"]).all()


def test_hugging_face(plan, data):
    pytest.importorskip("datasets")
    from batchwright.hf import iterable

    dataset = iterable(plan, data, ["number", "text", "vectors"], epochs=1)
    assert set(dataset.features) == {"number", "text", "vectors", "row"}
    for i, batch in enumerate(dataset.with_format("arrow").iter(batch_size=64)):
        rows = plan.epoch(0).batch(i)
        assert batch["number"].to_pylist() == rows.tolist()
        assert batch["vectors"].to_pylist() == [[3.0 * row, 3.0 * row + 1, 3.0 * row + 2] for row in rows.tolist()]
    assert i == 28
    assert next(dataset.with_format("numpy").iter(batch_size=64))["vectors"].shape == (64, 3)
    dataset.set_epoch(1)
    row = next(iter(dataset))
    assert row["number"] == plan.epoch(1).batch(0)[0] and len(row["vectors"]) == 3
    assert next(iter(dataset))["number"] == plan.epoch(2).batch(0)[0], "the next pass deals the next epoch"


def test_rows_that_are_slow_to_read_are_told(plan, data):
    pytest.importorskip("torch")
    from batchwright.torch import ParquetRows

    rows = ParquetRows(plan, data, ["number", "vectors", "text"], cache_bytes=1000)
    with pytest.warns(UserWarning, match="(?s)decodes about.*--locality local.*materialize.*cache_bytes="):
        rows.__getitems__(plan.epoch(0).batch(0)[:2])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows.__getitems__(plan.epoch(0).batch(1)[:2])
        ParquetRows(plan, data, ["number", "vectors", "text"]).__getitems__(plan.epoch(0).batch(0))
