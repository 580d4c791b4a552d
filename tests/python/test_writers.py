"""The same rows, written by pyarrow, polars, DuckDB and arrow-rs in many forms, give the same plan."""
import hashlib
import math

import duckdb
import numpy as np
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_oracle import verify

ROWS, DIMS = 900, 24
# Tables of a plan that tell about the files, and not about the rows.
OF_THE_FILES = {"sources.arrow"}


@pytest.fixture(scope="module")
def numbers():
    """Three groups of rows; sixteenths below 16, which f16, f32 and f64 hold exactly."""
    random = np.random.default_rng(5)
    centres = random.normal(0, 3, (3, DIMS))
    rows = centres[random.integers(0, 3, ROWS)] + random.normal(0, 0.6, (ROWS, DIMS))
    return np.clip(np.round(rows * 16) / 16, -15, 15)


def table(numbers, kind="fixed", number="float32", nullable=True):
    flat = pa.array(numbers.astype(number).ravel())
    item = pa.field("element", flat.type, nullable=nullable)
    if kind == "fixed":
        column = pa.FixedSizeListArray.from_arrays(flat, type=pa.list_(item, DIMS))
    elif kind == "binary":
        column = pa.array([row.astype(number).tobytes() for row in numbers], pa.binary(DIMS * 4))
    else:
        offsets = np.arange(ROWS + 1) * DIMS
        large = kind == "large"
        offsets = pa.array(offsets, pa.int64() if large else pa.int32())
        made = pa.LargeListArray if large else pa.ListArray
        column = made.from_arrays(offsets, flat, type=(pa.large_list if large else pa.list_)(item))
    # Bytes are a vector only where they say of what.
    says = {"batchwright.element": "f32"} if kind == "binary" else None
    return pa.table([column], schema=pa.schema([pa.field("v", column.type, nullable=nullable, metadata=says)]))


def arrow(kind="fixed", number="float32", nullable=True, split=False, **options):
    def write(numbers, path):
        encoding = {("v" if kind == "binary" else "v.list.element"): "BYTE_STREAM_SPLIT"} if split else None
        pq.write_table(table(numbers, kind, number, nullable), path, column_encoding=encoding, **options)

    return write


def frame(kind, **options):
    def write(numbers, path):
        column = polars.Series("v", numbers.astype("f4"))
        if kind == "list":
            column = column.cast(polars.List(polars.Float32))
        column.to_frame().write_parquet(path, **options)

    return write


def database(kind, options):
    def write(numbers, path):
        rows = table(numbers, "list")  # read by the query, from the name of this variable
        duckdb.sql(f"COPY (SELECT v::{kind} AS v FROM rows) TO '{path}' (FORMAT parquet{options})")
        assert len(rows) == ROWS

    return write


PLAIN = {"use_dictionary": False, "compression": "none"}
WRITERS = {
    "pyarrow": arrow(),
    "pyarrow plain": arrow(**PLAIN),
    "pyarrow without nulls": arrow(nullable=False, **PLAIN),
    "pyarrow list": arrow("list", **PLAIN),
    "pyarrow large list, small groups": arrow("large", row_group_size=101, **PLAIN),
    "pyarrow binary": arrow("binary", **PLAIN),
    "pyarrow small pages, index": arrow(data_page_size=700, write_batch_size=8, write_page_index=True, **PLAIN),
    "pyarrow small pages, version 2": arrow(data_page_size=700, write_batch_size=8, data_page_version="2.0", **PLAIN),
    "pyarrow dictionary that overflows": arrow(dictionary_pagesize_limit=300, data_page_size=2000, write_batch_size=20),
    "pyarrow zstd": arrow(use_dictionary=False, compression="zstd"),
    "pyarrow zstd split": arrow(use_dictionary=False, compression="zstd", split=True),
    "pyarrow split, version 2": arrow(split=True, data_page_version="2.0", row_group_size=300, **PLAIN),
    "pyarrow lz4, version 2": arrow(use_dictionary=False, compression="lz4", data_page_version="2.0"),
    "pyarrow gzip": arrow(use_dictionary=False, compression="gzip"),
    "pyarrow brotli list": arrow("list", compression="brotli"),
    "pyarrow f16": arrow(number="float16", **PLAIN),
    "pyarrow f16 split zstd": arrow(number="float16", split=True, use_dictionary=False, compression="zstd"),
    "pyarrow f64": arrow(number="float64"),
    "pyarrow f64 split": arrow("list", number="float64", split=True, **PLAIN),
    "polars array": frame("array"),
    "polars array, uncompressed": frame("array", compression="uncompressed", row_group_size=250),
    "polars list, small pages": frame("list", compression="lz4", data_page_size=3000),
    "polars list, snappy": frame("list", compression="snappy", statistics=False),
    "duckdb list": database("FLOAT[]", ""),
    "duckdb array, zstd": database(f"FLOAT[{DIMS}]", ", CODEC zstd, ROW_GROUP_SIZE 300"),
    "duckdb list, uncompressed, version 2": database("FLOAT[]", ", CODEC uncompressed, PARQUET_VERSION v2"),
    "duckdb list of doubles": database("DOUBLE[]", ", CODEC lz4_raw"),
}


def digests(plan):
    tables = sorted(p for p in plan.rglob("*.arrow") if p.name not in OF_THE_FILES)
    return {str(p.relative_to(plan)): hashlib.sha256(p.read_bytes()).hexdigest() for p in tables}


@pytest.fixture(scope="module")
def plan_of(batchwright, numbers, tmp_path_factory):
    made = {}

    def make(name):
        if name not in made:
            directory = tmp_path_factory.mktemp("writers")
            data = directory / "rows.parquet"
            WRITERS[name](numbers, str(data))
            done = batchwright("plan", data, "-o", directory / "plan", "--features", "v", "--seed", 3, "--batch-size", 32)
            assert done.returncode == 0, done.stderr
            made[name] = directory / "plan", data
        return made[name]

    return make


@pytest.mark.parametrize("name", WRITERS)
def test_the_same_rows_give_the_same_plan(plan_of, name):
    expected, found = digests(plan_of("pyarrow")[0]), digests(plan_of(name)[0])
    assert len(expected) > 8 and "samples.arrow" in expected and "statistics.arrow" in expected
    assert found == expected


def test_the_plan_is_what_the_checker_computes(plan_of):
    plan, data = plan_of("duckdb array, zstd")
    done = verify(plan, data)
    assert done.returncode == 0 and ", 0 failed" in done.stdout, done.stdout[-2000:] + done.stderr


def test_other_rows_give_another_plan(batchwright, numbers, plan_of, tmp_path):
    changed = numbers.copy()
    changed[ROWS // 2, 3] += 1 / 16
    arrow()(changed, str(tmp_path / "rows.parquet"))
    done = batchwright("plan", tmp_path / "rows.parquet", "-o", tmp_path / "plan", "--features", "v", "--seed", 3, "--batch-size", 32)
    assert done.returncode == 0, done.stderr
    assert digests(tmp_path / "plan") != digests(plan_of("pyarrow")[0])


def test_numbers_are_exact_in_every_type(numbers):
    assert np.array_equal(numbers, numbers.astype("f2").astype("f8")) and math.isfinite(numbers.sum())
