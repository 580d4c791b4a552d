"""Columns of other writers: indices of pandas, timestamps of 96 bits, UUIDs, tensors, files without rows."""
import datetime
import json
import uuid

import duckdb
import numpy as np
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROWS = 300


@pytest.fixture
def plan_of(batchwright, tmp_path):
    def make(*arguments):
        done = batchwright("plan", *arguments, "-o", tmp_path / "plan", "--force", "--epochs", 0)
        assert done.returncode == 0, done.stderr
        return json.loads((tmp_path / "plan" / "plan.json").read_text()), done

    return make


def features(made):
    return made[0]["config"]["features"]["columns"]


def numbers(columns=2):
    random = np.random.default_rng(3)
    centres = random.normal(0, 4, (3, columns))
    return centres[random.integers(0, 3, ROWS)] + random.normal(0, 0.3, (ROWS, columns))


def vectors(x, kind="f4"):
    flat = pa.array(np.ascontiguousarray(x, kind).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, x.shape[1])


def test_the_index_of_a_pandas_frame_is_no_feature(plan_of, tmp_path):
    shuffled = np.random.default_rng(0).permutation(ROWS)
    columns = {"a": numbers()[:, 0], "b": numbers()[:, 1]}
    # What pandas notes in a file: columns by name, a range as an object.
    for index in (["key"], [{"kind": "range", "name": None, "start": 0, "stop": ROWS, "step": 1}, "key"]):
        table = pa.table({**columns, "key": shuffled})
        notes = {"pandas": json.dumps({"index_columns": index, "columns": [], "pandas_version": "2.2.0"})}
        pq.write_table(table.replace_schema_metadata(notes), tmp_path / "a.parquet")
        assert features(plan_of(tmp_path / "a.parquet")) == ["a", "b"]
    for name, index in {"__index_level_0__": True, "Unnamed: 0": True, "Unnamed: x": False, "key": False}.items():
        pq.write_table(pa.table({**columns, name: shuffled}), tmp_path / "a.parquet")
        made = plan_of(tmp_path / "a.parquet")
        assert features(made) == ["a", "b"] + [name] * (not index)
        assert (f"`{name}` (the index" in made[1].stdout) == index
    assert features(plan_of(tmp_path / "a.parquet", "--features", "key")) == ["key"]


def test_pandas_itself(plan_of, tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(numbers(), columns=["a", "b"])
    for index in (frame.sample(frac=1, random_state=0).index, pandas.date_range("2024-01-01", periods=ROWS, freq="h", name="when")):
        frame.set_index(index).to_parquet(tmp_path / "a.parquet")
        assert features(plan_of(tmp_path / "a.parquet")) == ["a", "b"]


def int96(path, times, **columns):
    """As Spark and Hive write them: nothing says in which unit."""
    pq.write_table(
        pa.table({"when": pa.array(times, pa.timestamp("us")), **columns}),
        path,
        use_deprecated_int96_timestamps=True,
        store_schema=False,
    )


def test_times_of_96_bits_are_what_they_say(plan_of, tmp_path):
    times = [datetime.datetime(2024, 1, 1 + i % 3) for i in range(ROWS)]
    int96(tmp_path / "a.parquet", times, a=numbers()[:, 0])
    made = plan_of(tmp_path / "a.parquet", "--features", "a", "--stratify-by", "when")
    values = lambda: pa.ipc.open_file(tmp_path / "plan" / "strata.arrow").schema.metadata[b"values"]
    assert made[0]["strata"] == 3 and b"2024-01-02T00:00:00" in values()
    # Nanoseconds end in 2262, and "for ever" is often written as the year 9999.
    times[7] = datetime.datetime(9999, 12, 31)
    int96(tmp_path / "a.parquet", times, a=numbers()[:, 0])
    made = plan_of(tmp_path / "a.parquet", "--features", "a", "--stratify-by", "when")
    assert made[0]["strata"] == 4 and b"9999-12-31T00:00:00" in values() and b"2024-01-02T00:00:00" in values()


def test_uuids_name_rows_and_are_not_told_otherwise(plan_of, tmp_path):
    ids = [uuid.UUID(int=i) for i in range(ROWS)]
    table = pa.table({"id": pa.array([i.bytes for i in ids], pa.uuid()), "v": vectors(numbers(4))})
    pq.write_table(table, tmp_path / "a.parquet")
    shown = lambda: pa.ipc.open_file(tmp_path / "plan" / "sample.arrow").read_all().to_pydict()
    told = lambda: set(pa.ipc.open_file(tmp_path / "plan" / "profile.arrow").read_all()["column"].to_pylist())
    plan_of(tmp_path / "a.parquet", "--id", "id")
    sample = shown()
    assert sample["id"] == [str(ids[row]) for row in sample["row"]]
    pq.write_table(table.append_column("k", pa.array([1] * ROWS)), tmp_path / "a.parquet")
    plan_of(tmp_path / "a.parquet")
    assert told() == {"k"}


def test_vectors_of_other_writers(plan_of, tmp_path):
    x = np.round(numbers(4) * 10)
    frame = polars.DataFrame({"v": polars.Series(x.astype("i2"), dtype=polars.Array(polars.Int16, 4)), "p": x[:, 0]})
    frame.write_parquet(tmp_path / "a.parquet")
    assert features(plan_of(tmp_path / "a.parquet")) == ["v"]
    rows = pa.table({"v": vectors(x), "p": x[:, 0]})  # read by the query, from the name of this variable
    duckdb.sql(f"COPY (SELECT v::SMALLINT[4] AS v, p FROM rows) TO '{tmp_path / 'a.parquet'}' (FORMAT parquet)")
    assert len(rows) == ROWS
    # DuckDB writes arrays as lists, whose type fixes no length.
    assert features(plan_of(tmp_path / "a.parquet")) == ["p"]
    assert features(plan_of(tmp_path / "a.parquet", "--features", "v")) == ["v"]
    tensors = pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.float32(), [2, 2]), vectors(x))
    pq.write_table(pa.table({"v": tensors, "p": x[:, 0]}), tmp_path / "a.parquet")
    made = plan_of(tmp_path / "a.parquet")
    assert features(made) == ["v"] and made[0]["dims"] == 4


def test_files_without_rows_agree_with_everything(plan_of, tmp_path):
    pq.write_table(pa.table({"v": vectors(numbers()), "k": [1] * ROWS}), tmp_path / "a.parquet")
    pq.write_table(pa.table({}), tmp_path / "0.parquet")
    pq.write_table(pa.table({"v": pa.nulls(0), "other": pa.array([], pa.string())}), tmp_path / "b.parquet")
    made = plan_of(tmp_path / "a.parquet", tmp_path / "0.parquet", tmp_path / "b.parquet", "--label", "k")
    assert made[0]["rows_planned"] == ROWS and "not read" not in made[1].stdout


def test_where_a_dataset_lies_is_not_in_its_plan(batchwright, plan_of, tmp_path):
    ids = set()
    for place in ("runs/seed=3", "plain"):
        (tmp_path / place).mkdir(parents=True)
        pq.write_table(pa.table({"a": numbers()[:, 0], "b": numbers()[:, 1]}), tmp_path / place / "t.parquet")
        made = plan_of(tmp_path / place / "t.parquet")
        assert features(made) == ["a", "b"]
        ids.add(made[0]["plan"])
    assert len(ids) == 1
    for day in "34":
        (tmp_path / f"days/day={day}").mkdir(parents=True)
        pq.write_table(pa.table({"a": numbers()[:, 0]}), tmp_path / f"days/day={day}/t.parquet")
    made = plan_of(tmp_path / "days")
    assert features(made) == ["a"] and "`day` (a key of folders)" in made[1].stdout
    assert features(plan_of(tmp_path / "days", "--features", "a,day")) == ["a", "day"]


def test_bytes_of_a_plan_are_read_as_it_says(batchwright, plan_of, tmp_path):
    cells = [row.astype("f4").tobytes() for row in numbers(4)]
    pq.write_table(pa.table({"v": pa.array(cells, pa.binary(16))}), tmp_path / "a.parquet")
    made = plan_of(tmp_path / "a.parquet", "--as", "f32")
    assert made[0]["config"]["features"]["as"] == "f32" and made[0]["dims"] == 4
    done = batchwright("check", tmp_path / "plan", tmp_path / "a.parquet")
    assert done.returncode == 0, done.stdout
