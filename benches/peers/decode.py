"""Reading a vector column: batchwright beside pyarrow, arrow-rs and polars, in one run.

    pip install -r benches/peers/requirements.txt
    python benches/peers/decode.py                                    # every form of file, one thread
    python benches/peers/decode.py --cases plain,zstd-bss --threads 2
    python benches/peers/decode.py --file data.parquet --column embedding

Writes one file after the other (--rows 262144 x --dims 384 of `f32`, 403 MB; --dir, default a temporary directory) with pyarrow,
reads it once so that it is in the page cache, then measures the readers in turn, --rounds (5) times over. Every
measurement is a process of its own, which says how long the reading alone took and how much memory it held at most. GB/s are
of the column as `f32`, whatever the file stores; medians. `copy` is the same number of bytes copied from the mapped file
into a block of 4 MiB, so `of copy` is the share of what the memory allows. Every reader has --threads (1).

The readers do not do the same work. batchwright ends with rows of `f32` in a buffer that is used again; pyarrow and arrow-rs make
batches of 32 768 rows of Arrow lists and drop them; polars makes one data frame. That is the choice each offers to a program that
reads vectors once.
"""

import argparse
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

from shared import benchmark

BATCH = 32_768
# Rows of a row group, where the case says nothing else.
GROUP = 32_768
COLUMN = "v"

# What pyarrow is told beside the table; `list`, `nullable` and `number` are how the column is made.
CASES = {
    "plain": {},
    "plain-nonnull": {"nullable": False},
    "list": {"list": "list"},
    "plain-v2": {"data_page_version": "2.0"},
    "one-group": {"row_group_size": 1 << 20},
    "binary": {"list": "binary"},
    "snappy": {"compression": "snappy"},
    "lz4": {"compression": "lz4"},
    "zstd": {"compression": "zstd"},
    "zstd-v2": {"compression": "zstd", "data_page_version": "2.0"},
    "bss": {"bss": True},
    "zstd-bss": {"compression": "zstd", "bss": True},
    "zstd3-bss": {"compression": "zstd", "compression_level": 3, "bss": True},
    "zstd-bss-v2": {"compression": "zstd", "bss": True, "data_page_version": "2.0"},
    "f16": {"number": "float16"},
    "f16-zstd-bss": {"number": "float16", "compression": "zstd", "bss": True},
    "f64": {"number": "float64"},
    "default": {"compression": "snappy", "use_dictionary": True, "row_group_size": 1 << 20},
}


def write(path, case, rows, dims):
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    case = dict(case)
    nullable, kind, number = case.pop("nullable", True), case.pop("list", "fixed"), case.pop("number", "float32")
    options = {"compression": "none", "use_dictionary": False, "row_group_size": GROUP, **case}
    random = np.random.default_rng(1)

    def column(rows):
        flat = (random.standard_normal(rows * dims, dtype="f4") / np.float32(dims**0.5)).astype(number)
        if kind == "binary":
            return pa.FixedSizeBinaryArray.from_buffers(pa.binary(dims * 4), rows, [None, pa.py_buffer(flat)])
        item = pa.field("element", pa.from_numpy_dtype(flat.dtype), nullable=nullable)
        if kind == "fixed":
            return pa.FixedSizeListArray.from_arrays(pa.array(flat), type=pa.list_(item, dims))
        offsets = pa.array(np.arange(rows + 1, dtype="i4") * dims)
        return pa.ListArray.from_arrays(offsets, pa.array(flat), type=pa.list_(item))

    schema = pa.schema([pa.field(COLUMN, column(1).type, nullable=nullable)])
    if options.pop("bss", False):
        options["column_encoding"] = {(COLUMN if kind == "binary" else f"{COLUMN}.list.element"): "BYTE_STREAM_SPLIT"}
    group = options.pop("row_group_size")
    with pq.ParquetWriter(path, schema, **options) as writer:
        for first in range(0, rows, group):
            writer.write_table(pa.table([column(min(group, rows - first))], schema=schema), row_group_size=group)


def one(reader, path, column, threads):
    """One measurement in this process: seconds and peak memory of reading the column."""
    if reader.startswith("pyarrow"):
        import pyarrow as pa
        import pyarrow.parquet as pq

        pa.set_cpu_count(threads)
        file = pq.ParquetFile(path, memory_map=reader == "pyarrow-map")
        rows, start = 0, time.perf_counter()
        for batch in file.iter_batches(columns=[column], batch_size=BATCH, use_threads=threads > 1):
            rows += batch.num_rows
    else:
        os.environ["POLARS_MAX_THREADS"] = str(threads)
        import polars

        start = time.perf_counter()
        rows = polars.scan_parquet(path).select(column).collect(engine="streaming").height
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": seconds, "rows": rows, "peak_rss": peak}


def measure(reader, path, column, threads, program):
    if reader in ("page", "fallback", "arrow", "copy", "read"):
        command = [program, path, column, "--path", reader, "--threads", threads]
    else:
        command = [sys.executable, __file__, "--one", reader, "--file", path, "--column", column, "--threads", threads]
    return json.loads(subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, check=True, text=True).stdout)


def compare(path, column, readers, rounds, threads, program):
    """Median seconds, bytes and peak memory of every reader; the readers take turns."""
    with open(path, "rb") as file:
        while file.read(16 << 20):
            pass
    seen = {reader: [] for reader in readers}
    for _ in range(rounds):
        for reader in readers:
            seen[reader].append(measure(reader, path, column, threads, program))
    median = lambda all, key: statistics.median(m[key] for m in all)
    return {r: {key: median(all, key) for key in all[0] if key != "path"} for r, all in seen.items()}


def row(name, found):
    ours = found["page"]
    rate = lambda reader: ours["bytes"] / found[reader]["seconds"] / 1e9
    copy = found["copy"]["bytes"] / found["copy"]["seconds"] / 1e9
    peers = [r for r in found if r not in ("page", "copy")]
    cells = [name, f"{rate('page'):.2f}", f"{copy:.2f}", f"{rate('page') / copy:.2f}"]
    cells += [f"{rate(p):.2f}" for p in peers]
    cells += [f"**{found[p]['seconds'] / ours['seconds']:.1f}**" for p in peers]
    cells += [f"{found[r]['peak_rss'] / 2**20:.0f}" for r in ("page", *peers)]
    return "| " + " | ".join(cells) + " |"


def header(peers):
    names = ["file", "batchwright", "copy", "of copy", *peers, *(f"x {p}" for p in peers), *(f"MiB {r}" for r in ("batchwright", *peers))]
    return "| " + " | ".join(names) + " |\n|" + "---|" * len(names)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default=",".join(CASES), help=f"of {', '.join(CASES)}")
    parser.add_argument("--readers", default="pyarrow,arrow,polars", help="beside ours: pyarrow, pyarrow-map, arrow, polars, fallback, read")
    parser.add_argument("--rows", type=int, default=262_144)
    parser.add_argument("--dims", type=int, default=384)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dir", help="where the files are written")
    parser.add_argument("--file", help="a file that is there, instead of the cases")
    parser.add_argument("--column", default=COLUMN)
    parser.add_argument("--keep", action="store_true", help="leave the files in --dir, and take those that are there")
    parser.add_argument("--cargo", default="", help="flags for cargo, such as --no-default-features")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(one(args.one, args.file, args.column, args.threads)))
        return
    peers = args.readers.split(",")
    program = benchmark("decode", args.cargo.split())
    print(f"{args.threads} thread(s), GB/s of f32, medians of {args.rounds}\n\n{header(peers)}", flush=True)
    readers = ["page", "copy", *peers]
    if args.file:
        print(row(pathlib.Path(args.file).name, compare(args.file, args.column, readers, args.rounds, args.threads, program)))
        return
    with tempfile.TemporaryDirectory(dir=args.dir) as temporary:
        for name in args.cases.split(","):
            path = pathlib.Path(args.dir if args.keep else temporary, f"decode-{name}.parquet")
            if not path.exists():
                write(path, CASES[name], args.rows, args.dims)
            print(row(name, compare(path, COLUMN, readers, args.rounds, args.threads, program)), flush=True)
            if not args.keep:
                path.unlink()


if __name__ == "__main__":
    main()
