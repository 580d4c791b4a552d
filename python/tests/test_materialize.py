"""`materialize` through the package: every format is read back by its own library, and has the rows in the order of the plan's batches."""

import decimal
import glob
import json
import os
import re
import subprocess
import sys

import harness
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import batchwright as bw

LIBRARIES = {"mds": "streaming", "webdataset": "webdataset", "array_record": "array_record", "lance": "lance", "litdata": "litdata"}
PACKAGES = {**{format: format for format in LIBRARIES}, "mds": "mosaicml-streaming", "lance": "pylance"}


def table():
    """The digits and beside them columns of other types."""
    digits = pq.read_table(harness.DIGITS)
    n = len(digits)
    i = np.arange(n)
    extra = {
        "int": pa.array(i - 900, pa.int32()),
        "wide": pa.array(i.astype(np.uint64) + 2**63),
        "half": pa.array(i.astype(np.float16) / 7),
        "float": pa.array(np.sin(i)),
        "truth": pa.array(i % 3 == 0),
        "vectors": pa.FixedSizeListArray.from_arrays(pa.array(np.sin(np.arange(3 * n))), 3),
        "flags": pa.FixedSizeListArray.from_arrays(pa.array(np.arange(2 * n) % 3 == 0), 2),
        "text": pa.array(["ä" * (x % 13) + str(x) for x in i]),
        "path": pa.array([str(harness.DIGITS) for _ in i]),
        "kind": pa.array([f"kind-{x % 4}" for x in i]).dictionary_encode(),
        "bytes": pa.array([bytes([x % 256]) * (x % 5) for x in i]),
        "tokens": pa.array([list(range(x % 4)) for x in i], pa.list_(pa.int32())),
        "pairs": pa.array([[x, -x] for x in i.tolist()], pa.list_(pa.int16())),
        "nested": pa.array([{"a": [str(x)] * (x % 3), "b": None if x % 2 else 0.1 * x} for x in i.tolist()]),
        "gaps": pa.array(np.where(i % 5, i, 0), pa.int64(), mask=i % 5 == 0),
        "spots": pa.array([None if x % 6 == 0 else [x / 3, x] for x in i.tolist()], pa.list_(pa.float32(), 2)),
        "words": pa.array([None if x % 11 == 0 else str(x) for x in i]),
        "holes": pa.array([None if x % 7 == 0 else [x, None] for x in i.tolist()], pa.list_(pa.int64())),
        "money": pa.array([decimal.Decimal(int(x)) / 4 for x in i], pa.decimal128(12, 2)),
        "time": pa.array(i, pa.timestamp("us", "UTC")),
    }
    for name, column in extra.items():
        digits = digits.append_column(name, column)
    return digits


ALL = ["embedding", "label", "int", "half", "float", "truth", "vectors", "flags", "pairs", "text", "path", "kind", "bytes"]
WITH_NULLS = ["gaps", "spots", "words", "holes", "money", "time", "nested", "tokens", "wide"]
HOLDS = {
    "mds": [*ALL, "wide", "tokens", "nested", "holes"],
    "webdataset": [*ALL, "wide", "tokens", "nested", "holes", "gaps"],
    "array_record": [*ALL, *WITH_NULLS],
    "lance": [*ALL, *WITH_NULLS],
    "litdata": [*ALL, "tokens"],
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("materialize") / "data"
    folder.mkdir()
    rows = table()
    pq.write_table(rows.slice(0, 700), folder / "a.parquet", row_group_size=200)
    pq.write_table(rows.slice(700), folder / "b.parquet", row_group_size=300)
    return folder


@pytest.fixture(scope="module")
def plan(data):
    flags = "--label label --batch-size 64 --candidates 32,64,128 --features embedding".split()
    return bw.Plan.open(harness.make_plan(data.parent / "plan", *flags, data=data))


# ---------------------------------------------------------------------------------------------------------------- read back


def read_mds(out, size):
    from streaming import StreamingDataset
    from streaming.base.util import clean_stale_shared_memory

    clean_stale_shared_memory()
    dataset = StreamingDataset(local=str(out), shuffle=False, batch_size=size)
    rows = list(dataset)
    assert len(rows) == len(dataset) and (dataset[5]["row"] == rows[5]["row"])
    return rows


def read_webdataset(out, size):
    import webdataset

    def row(sample):
        cells = {name.rpartition(".")[0]: value for name, value in sample.items() if name[0] != "_" and name != "json"}
        return {**cells, **sample["json"]}

    shards = sorted(glob.glob(f"{out}/*.tar"))
    return [row(sample) for sample in webdataset.WebDataset(shards, shardshuffle=False).decode()]


def read_array_record(out, size):
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    source = ArrayRecordDataSource(sorted(glob.glob(f"{out}/*.array_record")))
    schema = pa.ipc.read_schema(pa.memory_map(f"{out}/schema.arrow"))
    return [pa.ipc.read_record_batch(pa.py_buffer(source[i]), schema).to_pylist()[0] for i in range(len(source))]


def read_lance(out, size):
    import lance

    dataset = lance.dataset(str(out))
    rows = dataset.to_table()
    assert rows.take([3]).to_pylist() == dataset.take([3]).to_pylist()
    return rows.to_pylist()


def read_litdata(out, size):
    from litdata import StreamingDataset

    dataset = StreamingDataset(str(out), shuffle=False)
    rows = list(dataset)
    assert len(rows) == len(dataset) and dataset[5]["row"] == rows[5]["row"]
    return rows


def plain(value):
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value


def write(plan, data, out, format, **options):
    pytest.importorskip(LIBRARIES.get(format, "pyarrow"))
    return bw.materialize(plan, data, out, format=format, **options)


def left(folder):
    """What lies in a folder, hidden or not."""
    return sorted(os.listdir(folder))


@pytest.mark.parametrize("format", LIBRARIES)
def test_rows_come_back_in_the_order_of_the_batches(plan, data, tmp_path, format):
    extra = ("row", "batch", "stratum", "centrality")
    done = write(plan, data, tmp_path / "out", format, columns=HOLDS[format], extra=extra, epoch=3, batch_size=128, file_size=100_000)
    epoch = plan.epoch(3, 128)
    order = np.concatenate(list(epoch))
    rows = globals()[f"read_{format}"](tmp_path / "out", 128)
    expected = table().take(order).select(HOLDS[format]).to_pylist()
    assert len(rows) == len(order) == 1797
    for name in HOLDS[format]:
        assert [plain(row[name]) for row in rows] == [row[name] for row in expected], name
    assert [plain(row["row"]) for row in rows] == order.tolist()
    assert [plain(row["batch"]) for row in rows] == [i // 128 for i in range(1797)]
    assert [plain(row["stratum"]) for row in rows] == plan.stratum(order).tolist()
    assert [plain(row["centrality"]) for row in rows] == plan.centrality(order).tolist()
    if format != "lance" and format != "array_record":
        assert rows[0]["embedding"].dtype == np.float32 and rows[0]["vectors"].dtype == np.float64
    # What the note says, and what the function does, is what is there.
    note = json.loads((tmp_path / "out" / "batchwright.json").read_text())
    assert {name: note[name] for name in ("plan", "epoch", "batch_size", "format", "rows", "batches")} == {
        "plan": plan.plan_id, "epoch": 3, "batch_size": 128, "format": format, "rows": 1797, "batches": 15
    }  # fmt: skip
    assert [column["name"] for column in note["columns"]] == [*HOLDS[format], *extra]
    paths = [p for p in (tmp_path / "out").rglob("*") if p.is_file() and p.name != "batchwright.json"]
    assert sorted(note["files"]) == sorted(str(p.relative_to(tmp_path / "out")) for p in paths) and len(paths) == done["files"] > 3
    assert done["bytes"] == sum(p.stat().st_size for p in paths) and done["left_out"] == 0 and done["batches"] == 15
    assert left(tmp_path) == ["out"]


@pytest.mark.parametrize("format", ["webdataset", "array_record"])
def test_files_hold_whole_batches(plan, data, tmp_path, format):
    write(plan, data, tmp_path / "out", format, columns=["vectors"], file_size=60_000)
    read = globals()[f"read_{format}"]
    # Each file alone.
    sizes = []
    for i, path in enumerate(sorted((tmp_path / "out").glob("part-*"))):
        alone = tmp_path / str(i)
        alone.mkdir()
        for each in (path, *(tmp_path / "out").glob("schema.arrow")):
            (alone / each.name).symlink_to(each)
        sizes.append(len(read(alone, 64)))
    assert len(sizes) > 2 and not any(size % 64 for size in sizes[:-1]) and sum(sizes) == 1797


@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("mds", {"compression": "zstd"}),
        ("array_record", {"options": "group_size:1,uncompressed"}),
        ("lance", {"data_storage_version": "2.0"}),
        ("litdata", {"compression": "zstd"}),
        ("webdataset", {"threads": 1, "memory": 64 << 20, "ragged": ["pairs"]}),
    ],
)
def test_options_reach_who_writes(plan, data, tmp_path, format, options):
    plain_copy = write(plan, data, tmp_path / "plain", format, columns=["int", "pairs"])
    done = bw.materialize(plan, data, tmp_path / "out", format=format, columns=["int", "pairs"], **options)
    assert done["bytes"] != plain_copy["bytes"]
    rows = globals()[f"read_{format}"](tmp_path / "out", 64)
    expected = table().take(np.concatenate(list(plan.epoch(0)))).select(["int", "pairs"]).to_pylist()
    assert [{name: plain(row[name]) for name in ("int", "pairs")} for row in rows] == expected


def test_grain_reads_records(plan, data, tmp_path):
    grain = pytest.importorskip("grain")
    write(plan, data, tmp_path / "out", "array_record", columns=["int", "vectors"])
    schema = pa.ipc.read_schema(pa.memory_map(f"{tmp_path}/out/schema.arrow"))

    def decode(record):
        row = pa.ipc.read_record_batch(pa.py_buffer(record), schema)
        return {"int": row["int"].to_numpy()[0], "vectors": row["vectors"].flatten().to_numpy()}

    source = grain.sources.ArrayRecordDataSource(sorted(glob.glob(f"{tmp_path}/out/*.array_record")))
    batches = list(grain.MapDataset.source(source).map(decode).batch(64))
    expected = table()
    for batch, rows in zip(batches, plan.epoch(0), strict=True):
        assert batch["int"].tolist() == expected["int"].take(rows).to_pylist()
        assert batch["vectors"].tolist() == expected["vectors"].take(rows).to_pylist()


@pytest.mark.parametrize("format", ["parquet", "arrow", "npy"])
def test_the_command_writes_its_formats(plan, data, tmp_path, format, monkeypatch):
    monkeypatch.setenv("BATCHWRIGHT_THREADS", "no number")
    columns, extra = ["embedding", "label", "int", "truth"], ("batch", "row", "stratum")
    done = bw.materialize(plan, data, tmp_path / "out", format=format, columns=columns, extra=extra, epoch=1, threads=1, memory=1 << 30)
    order = np.concatenate(list(plan.epoch(1)))
    if format == "npy":
        load = {name: np.load(tmp_path / "out" / f"{name}.npy", mmap_mode="r") for name in [*columns, *extra]}
    else:
        opened = {"parquet": pq.read_table, "arrow": lambda path: pa.ipc.open_file(path).read_all()}[format]
        read = pa.concat_tables(opened(path) for path in sorted((tmp_path / "out").glob("part-*")))
        load = {name: np.array(read[name].to_pylist()) for name in read.column_names}
    expected = table().take(order)
    for name in columns:
        assert load[name].tolist() == expected[name].to_pylist()
    assert load["row"].tolist() == order.tolist() and load["stratum"].tolist() == plan.stratum(order).tolist()
    assert set(load) == {*columns, *extra} and done["rows"] == 1797 and done["added"] == list(extra)
    assert left(tmp_path) == (["out", "out.plan"] if format == "parquet" else ["out"])
    assert (done["plan"] == bw.Plan.open(tmp_path / "out.plan").plan_id) if format == "parquet" else done["plan"] is None


def test_errors_of_the_command_are_those_of_the_library(plan, data, tmp_path):
    with pytest.raises(bw.ConfigError, match="there is no column `nope`(?s:.*)help: "):
        bw.materialize(plan, data, tmp_path / "out", columns=["nope", "int"])
    with pytest.raises(bw.PlanError, match="other data"):
        bw.materialize(plan, data / "a.parquet", tmp_path / "out")
    with pytest.raises(bw.InputError, match="null"):
        bw.materialize(plan, data, tmp_path / "out", format="npy", columns="gaps")
    with pytest.raises(bw.ConfigError, match="always has batch and row"):
        bw.materialize(plan, data, tmp_path / "out", extra="row")
    with pytest.raises(TypeError, match="'compression'.*no_plan"):
        bw.materialize(plan, data, tmp_path / "out", compression="zstd")
    assert left(tmp_path) == []
    bw.materialize(plan, data, tmp_path / "out", no_plan=True)
    with pytest.raises(bw.ConfigError, match="already exists"):
        bw.materialize(plan, data, tmp_path / "out", no_plan=True)
    bw.materialize(plan, data, tmp_path / "out", columns="int", no_plan=True, force=True)
    assert pq.read_schema(tmp_path / "out" / "part-00000.parquet").names == ["int", "batch", "row"] and left(tmp_path) == ["out"]


# ---------------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("format", "column", "error", "message"),
    [
        *((format, name, bw.ConfigError, rf"{name}.*{of}.*columns=") for format in ("mds", "webdataset", "litdata")
          for name, of in (("time", "timestamp"), ("money", "decimal"))),
        ("litdata", "wide", bw.ConfigError, "wide.*uint64.*columns="),
        ("litdata", "nested", bw.ConfigError, "nested.*columns="),
        ("mds", "gaps", bw.InputError, r"'gaps' is null in row (\d+),"),
        ("mds", "words", bw.InputError, r"'words' is null in row (\d+),"),
        ("webdataset", "words", bw.InputError, r"'words' is null in row (\d+),"),
        ("mds", "spots", bw.InputError, r"'spots' is null in row (\d+),"),
        ("webdataset", "spots", bw.InputError, r"'spots' is null in row (\d+),"),
        ("litdata", "gaps", bw.InputError, r"'gaps' is null in row (\d+),"),
        ("litdata", "holes", bw.InputError, r"'holes' is null in row (\d+),"),
    ],
)  # fmt: skip
def test_what_a_format_cannot_hold_is_named(plan, data, tmp_path, format, column, error, message):
    with pytest.raises(error, match=message) as caught:
        write(plan, data, tmp_path / "out", format, columns=["int", column])
    if error is bw.InputError:
        row = int(str(caught.value).split("row ")[1].split(",")[0])
        assert table()[column][row].as_py() is None
    assert left(tmp_path) == [], "a failing run left something behind"


def test_nulls_within_lists_are_told_by_their_row(tmp_path):
    """Beside lists that are whole and empty ones."""
    pytest.importorskip("litdata")
    digits = pq.read_table(harness.DIGITS)
    lists = [[7, None] if i == 1234 else [i] * (i % 3) for i in range(len(digits))]
    pq.write_table(digits.append_column("lists", pa.array(lists, pa.list_(pa.int32()))), tmp_path / "data.parquet")
    plan = bw.Plan.open(harness.make_plan(tmp_path / "plan", "--label", "label", data=tmp_path / "data.parquet"))
    with pytest.raises(bw.InputError, match="'lists' is null in row 1234,"):
        bw.materialize(plan, tmp_path / "data.parquet", tmp_path / "out", format="litdata")


def test_lance_names_the_column_that_it_cannot_hold(tmp_path):
    pytest.importorskip("lance")
    digits = pq.read_table(harness.DIGITS)
    odd = pa.array([[(str(i), i)] for i in range(len(digits))], pa.map_(pa.string(), pa.int64()))
    pq.write_table(digits.append_column("odd", odd), tmp_path / "data.parquet")
    plan = bw.Plan.open(harness.make_plan(tmp_path / "plan", "--label", "label", data=tmp_path / "data.parquet"))
    with pytest.raises(bw.ConfigError, match="'odd'.*map.*columns="):
        bw.materialize(plan, tmp_path / "data.parquet", tmp_path / "out", format="lance", data_storage_version="2.0")
    with pytest.raises(TypeError, match="no_such_option"):
        bw.materialize(plan, tmp_path / "data.parquet", tmp_path / "out", format="lance", no_such_option=1)
    assert left(tmp_path) == ["data.parquet", "plan"]
    bw.materialize(plan, tmp_path / "data.parquet", tmp_path / "out", format="lance", columns="label", data_storage_version="2.0")
    assert len(read_lance(tmp_path / "out", 64)) == 1797


def test_arguments_are_checked(plan, data, tmp_path):
    for options, message in [
        ({"format": "csv"}, "'csv' is none of parquet.*webdataset"),
        ({"extra": ["rows"]}, "'rows' is none of batch, row"),
        ({"extra": "loss_weight", "format": "webdataset"}, "loss_weight is 1"),
        ({"epoch": -1}, "epoch -1"),
        ({"file_size": 0}, "file_size 0"),
        ({"columns": "numbr", "format": "webdataset"}, "numbr"),
        ({"batch_size": 100, "format": "webdataset", "columns": "int"}, "100"),
        ({"format": "webdataset", "columns": "int", "extensions": {"int": "jpg"}}, "'int' .number. is written as json"),
        ({"format": "webdataset", "columns": "int", "extensions": {"text": "jpg"}}, "no column 'text'"),
    ]:
        with pytest.raises(bw.ConfigError, match=message):
            bw.materialize(plan, data, tmp_path / "out", **options)
    with pytest.raises(bw.ConfigError, match="directory of this machine"):
        bw.materialize(plan, data, "s3://bucket/out", format="webdataset")
    with pytest.raises(bw.InputError, match="make the directory"):
        bw.materialize(plan, data, tmp_path / "no" / "out", format="webdataset")
    with pytest.raises(bw.ConfigError, match=r"Plan.open\(path\)"):
        bw.materialize(str(plan.path), data, tmp_path / "out")
    with pytest.raises(bw.PlanError, match="other data"):
        bw.materialize(plan, data / "a.parquet", tmp_path / "out", format="webdataset")
    with pytest.raises(TypeError, match="'compression'.*extensions"):
        bw.materialize(plan, data, tmp_path / "out", format="webdataset", compression="zstd")
    assert left(tmp_path) == []


def test_names_that_a_tar_file_cannot_have(tmp_path):
    digits = pq.read_table(harness.DIGITS)
    texts = pa.array(["a"] * len(digits))
    for name, columns in (("slash", ["a/b"]), ("case", ["Text", "text"])):
        rows = digits
        for column in columns:
            rows = rows.append_column(column, texts)
        pq.write_table(rows, tmp_path / f"{name}.parquet")
        plan = bw.Plan.open(harness.make_plan(tmp_path / name, "--features", "embedding", data=tmp_path / f"{name}.parquet"))
        with pytest.raises(bw.ConfigError, match=f"'{columns[0]}'.*no slash and no case"):
            bw.materialize(plan, tmp_path / f"{name}.parquet", tmp_path / "out", format="webdataset")
    assert "out" not in left(tmp_path)


def test_names_that_the_data_has_already(tmp_path):
    digits = pq.read_table(harness.DIGITS)
    i = np.arange(len(digits))
    rows = digits.append_column("batch", pa.array(i)).append_column("label_valid", pa.array(i % 2 == 0))
    pq.write_table(rows, tmp_path / "data.parquet")
    plan = bw.Plan.open(harness.make_plan(tmp_path / "plan", "--features", "embedding", data=tmp_path / "data.parquet"))
    with pytest.raises(bw.ConfigError, match="'batch' of its own"):
        bw.materialize(plan, tmp_path / "data.parquet", tmp_path / "out", format="webdataset")
    pytest.importorskip("webdataset")
    bw.materialize(plan, tmp_path / "data.parquet", tmp_path / "out", format="webdataset", extra="row")
    for row in read_webdataset(tmp_path / "out", 0):
        assert row["batch"] == row["row"] and row["label_valid"] is (row["row"] % 2 == 0)


def test_bytes_of_images_get_their_extension(plan, data, tmp_path):
    wds = pytest.importorskip("webdataset")
    bw.materialize(plan, data, tmp_path / "out", format="webdataset", columns=["bytes"], extra=["row"], extensions={"bytes": "jpg"})
    rows = list(wds.WebDataset([str(tmp_path / "out" / "part-00000.tar")], shardshuffle=False))
    assert {name for name in rows[0] if name[:2] != "__"} == {"json", "jpg"}
    assert rows[7]["__key__"] == "000000000007" and rows[7]["jpg"] == table()["bytes"][json.loads(rows[7]["json"])["row"]].as_py()


# ---------------------------------------------------------------------------------------------------------------- old copies, failures


def test_only_an_own_copy_is_replaced_and_only_on_demand(plan, data, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    options = {"format": "webdataset", "columns": ["int"]}
    bw.materialize(plan, data, out, **options)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(bw.ConfigError, match="force=True"):
        bw.materialize(plan, data, out, **options)
    bw.materialize(plan, data, out, **options, epoch=1, force=True)
    assert json.loads((out / "batchwright.json").read_text())["epoch"] == 1
    assert (out / "part-00000.tar").read_bytes() != before["part-00000.tar"]
    bw.materialize(plan, data, out, **options, force=True)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before, "the same rows give the same bytes"
    (out / "notes.txt").write_text("mine")
    with pytest.raises(bw.ConfigError, match="notes.txt, which would be deleted"):
        bw.materialize(plan, data, out, **options, force=True)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(bw.ConfigError, match="no directory"):
        bw.materialize(plan, data, tmp_path / "file", **options, force=True)
    # A link stays one.
    (tmp_path / "link").symlink_to(tmp_path / "new")
    bw.materialize(plan, data, tmp_path / "link", **options)
    assert (tmp_path / "link").is_symlink() and (tmp_path / "new" / "part-00000.tar").is_file()
    assert left(tmp_path) == ["file", "link", "new", "out"]


@pytest.mark.parametrize("format", LIBRARIES)
@pytest.mark.parametrize("error", [KeyboardInterrupt, bw.InputError])
def test_a_run_that_ends_early_leaves_the_old_copy_and_nothing_else(plan, data, tmp_path, format, error, monkeypatch):
    pytest.importorskip(LIBRARIES[format])
    out, options = tmp_path / "out", {"format": format, "columns": ["int", "vectors"], "file_size": 4096}
    bw.materialize(plan, data, out, **options)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    ordinary, seen = bw.stream.Stream.__next__, []

    def fails(stream):
        if len(seen) == 20:
            raise error("in the middle")
        seen.append(left(tmp_path))
        return ordinary(stream)

    monkeypatch.setattr(bw.stream.Stream, "__next__", fails)
    with pytest.raises(error, match="in the middle"):
        bw.materialize(plan, data, out, **options, epoch=1, force=True)
    assert any(len(names) == 2 for names in seen), "it writes beside the output"
    assert left(tmp_path) == ["out"] and {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_a_full_disk_is_an_input_error(plan, data, tmp_path, monkeypatch):
    import tarfile

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tarfile.TarFile, "addfile", full)
    with pytest.raises(bw.InputError, match="cannot write .*out: .*No space left"):
        bw.materialize(plan, data, tmp_path / "out", format="webdataset", columns="int")
    assert left(tmp_path) == []


@pytest.mark.parametrize("format", [format for format in LIBRARIES if format != "webdataset"])
def test_a_library_that_is_not_there_is_named(plan, data, tmp_path, format):
    code = (
        f"import sys; sys.modules[{LIBRARIES[format]!r}] = None; import batchwright as bw\n"
        f"bw.materialize(bw.Plan.open({plan.path!r}), {str(data)!r}, {str(tmp_path / 'out')!r}, format={format!r}, columns='int')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ModuleNotFoundError") and last.endswith(f"pip install {PACKAGES[format]}"), done.stderr
    assert left(tmp_path) == []


def test_the_page(plan_path, tmp_path, monkeypatch):
    """The blocks of docs/materialize.md run, and a copy of a copy has the rows."""
    pytest.importorskip("webdataset")
    (tmp_path / "digits.plan").symlink_to(plan_path)
    (tmp_path / "fixtures").symlink_to(harness.ROOT / "fixtures")
    monkeypatch.chdir(tmp_path)
    text = (harness.ROOT / "docs" / "materialize.md").read_text()
    blocks = re.findall(r"<!-- example -->\n```python\n(.*?)```", text, re.S)
    names = {}
    exec("\n".join(blocks), names)
    done = names["done"]
    assert (done["rows"], done["batches"]) == (1797, 29)
    digits = pq.read_table(harness.DIGITS)
    order = np.concatenate(list(bw.Plan.open("digits.plan").epoch(0)))
    local = bw.Plan.open("shards.plan")
    again = order[np.concatenate(list(local.epoch(0)))]
    for out, rows in (("shards.wds", order), ("shards.tars", again)):
        read = read_webdataset(out, 0)
        assert [row["row"] for row in read] == rows.tolist()
        assert (np.stack([row["embedding"] for row in read]) == np.array(digits["embedding"].to_pylist())[rows]).all()
