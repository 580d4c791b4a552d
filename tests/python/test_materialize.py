"""Copies in the order of the batches, read by the libraries that they are for."""
import json

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest

from conftest import FIXTURES

DATA = FIXTURES / "worked-example.parquet"


@pytest.fixture(scope="module")
def copy(batchwright, plan, tmp_path_factory):
    """A copy of the fixture, and what was said of it."""

    def make(*flags):
        out = tmp_path_factory.mktemp("copies") / "copy"
        done = batchwright("materialize", plan(DATA, "--label", "label", "--epochs", "1"), DATA, "-o", out, "--json", *flags)
        assert done.returncode == 0, done.stderr
        return out, json.loads(done.stdout)

    return make


@pytest.fixture(scope="module")
def order(plan):
    """Row numbers of epoch 0, batch after batch, as the plan's own file lists them."""
    folder = plan(DATA, "--label", "label", "--epochs", "1")
    size = json.loads((folder / "plan.json").read_text())["batch_size"]
    with pa.memory_map(str(folder / "batches" / f"size-{size}" / "epoch-0.arrow")) as file:
        rows = pa.ipc.open_file(file).read_all()["rows"]
    return np.concatenate([np.asarray(r) for r in rows.to_pylist()])


def test_arrow_files_are_mapped_and_equal_the_rows(copy, order):
    out, said = copy("--format", "arrow", "--file-size", "20kB")
    files = sorted(out.iterdir())
    assert len(files) == said["files"] > 2 and files[0].name == "part-00000.arrow"
    before = pa.total_allocated_bytes()
    table = pa.concat_tables(pa.ipc.open_file(pa.memory_map(str(file))).read_all() for file in files)
    assert pa.total_allocated_bytes() - before < 10_000, "the rows are where the files are"
    source = pq.read_table(DATA)
    copied = table.select(source.column_names)
    assert copied.equals(source.take(pa.array(order)))
    assert np.array_equal(table["row"], order)
    assert table.schema.metadata[b"batchwright.epoch"] == b"0"
    batches = [batch for file in files for batch in pa.ipc.open_file(pa.memory_map(str(file))).read_all().to_batches()]
    assert all(batch.num_rows % said["batch_size"] == 0 for batch in batches[:-1])
    assert said["plan"] is None and "Parquet" in said["no_plan"] and not out.with_name("copy.plan").exists()


def test_arrays_are_mapped_and_equal_the_rows(copy, order):
    out, said = copy("--format", "npy")
    source = pq.read_table(DATA).take(pa.array(order))
    note = json.loads((out / "copy.json").read_text())
    assert {c["name"] for c in note["columns"]} == {*source.column_names, "batch", "row"}
    assert {p.name for p in out.iterdir()} == {f for c in note["columns"] for f in c["files"]} | {"copy.json"}
    assert (note["rows"], note["epoch"]) == (len(order), 0)
    load = lambda name: np.load(out / f"{name}.npy", mmap_mode="r")
    embedding = load("embedding")
    assert isinstance(embedding, np.memmap) and embedding.flags.c_contiguous and embedding.ctypes.data % 64 == 0
    assert np.array_equal(embedding, np.stack(source["embedding"].to_numpy()))
    assert np.array_equal(load("row"), order)
    assert np.array_equal(load("batch"), np.arange(len(order)) // said["batch_size"])
    for name in set(source.column_names) - {"embedding"}:
        if pa.types.is_string(source.schema.field(name).type):
            offsets, text = load(f"{name}.offsets"), load(f"{name}.bytes")
            found = [text[a:b].tobytes().decode() for a, b in zip(offsets, offsets[1:])]
            assert found == source[name].to_pylist()
        else:
            assert np.array_equal(load(name), source[name])


def test_arrays_of_every_kind(batchwright, plan, tmp_path):
    random, n = np.random.default_rng(0), 600
    points = (random.integers(0, 3, (n, 1)) * 5 + random.normal(size=(n, 2))).astype("f4")
    kinds = {k: (np.arange(n) % 100).astype(k) for k in ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")}
    words = [f"größe {i}" if i % 3 else "" for i in range(n)]
    columns = {
        "points": pa.FixedSizeListArray.from_arrays(points.ravel(), 2),
        "lists": pa.array([[i, -i, 7] for i in range(n)], pa.large_list(pa.int16())),
        "truth": pa.array(np.arange(n) % 7 == 0),
        "truths": pa.FixedSizeListArray.from_arrays(pa.array(np.arange(3 * n) % 5 == 0), 3),
        "fixed": pa.array([i.to_bytes(5, "big") for i in range(n)], pa.binary(5)),
        "blob": pa.array([bytes(range(i % 50)) for i in range(n)]),
        "word": pa.array(words).dictionary_encode(),
        **kinds,
    }
    pq.write_table(pa.table(columns), tmp_path / "a.parquet", row_group_size=250)
    made = plan(tmp_path / "a.parquet", "--features", "points", "--resolution", "300")
    done = batchwright("materialize", made, tmp_path / "a.parquet", "-o", tmp_path / "out", "--format", "npy")
    assert done.returncode == 0, done.stderr
    load = lambda name: np.load(tmp_path / "out" / f"{name}.npy", mmap_mode="r")
    row = load("row")
    assert sorted(row) == list(range(n))
    for name, numbers in kinds.items():
        assert load(name).dtype == numbers.dtype and np.array_equal(load(name), numbers[row]), name
    assert np.array_equal(load("points"), points[row])
    assert load("lists").dtype == np.int16 and np.array_equal(load("lists"), np.stack([row, -row, row * 0 + 7], 1))
    assert load("truth").dtype == bool and np.array_equal(load("truth"), row % 7 == 0)
    assert np.array_equal(load("truths"), (np.arange(3 * n) % 5 == 0).reshape(n, 3)[row])
    assert load("fixed").shape == (n, 5) and all(bytes(x) == int(r).to_bytes(5, "big") for x, r in zip(load("fixed"), row))
    for name, of in [("blob", lambda r: bytes(range(r % 50))), ("word", lambda r: words[r].encode())]:
        offsets, text = load(f"{name}.offsets"), load(f"{name}.bytes")
        assert all(text[offsets[i] : offsets[i + 1]].tobytes() == of(r) for i, r in enumerate(row)), name


def test_only_the_order(batchwright, plan, order, tmp_path):
    folder = plan(DATA, "--label", "label", "--epochs", "1")
    done = batchwright("materialize", folder, "-o", tmp_path / "orders", "--only-list")
    assert done.returncode == 0 and "list" in done.stdout, done.stderr
    found = np.load(tmp_path / "orders" / "order-0.npy", mmap_mode="r")
    assert found.dtype == np.int64 and np.array_equal(found, order)
    for flags in (["--format", "npy"], ["--columns", "label"], ["--with", "modality"]):
        done = batchwright("materialize", folder, "-o", tmp_path / "other", "--only-list", *flags)
        assert done.returncode == 2 and "--only-list" in done.stderr, done.stderr
    assert batchwright("materialize", folder, "-o", tmp_path / "other").returncode == 2, "data must be named for a copy"
