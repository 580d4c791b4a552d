#!/usr/bin/env python3
"""What `materialize` costs: its time over that of reading and writing the same files once with pyarrow, in turn.

    python benches/materialize.py [--batchwright target/release/batchwright] [--rows 2000000] [--memory 1GiB] [--turns 3]

Rows of 384 f32 numbers, a label and a short text, in files of the codec that a copy has (zstd, numbers of vectors with their bytes
apart). The peer reads them batch by batch, with its threads, and writes them with the same codec in row groups of as many rows,
in file order: no permutation. Both write to the same disk and make it durable. The goal is a ratio of at most 2.3 at 2 000 000 rows
(3 GB) and a memory limit of 1 GiB, where the rows go through working files; the peak is the largest resident set of the program.
Needs numpy and pyarrow, and a machine that does nothing else; disk for four times the rows.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from memory import run, vectors

DIMS, FILE_ROWS, GROUP = 384, 250_000, 16_384
GOAL = 2.3
CODEC = dict(compression="zstd", compression_level=1, use_dictionary=["label", "text"], column_encoding={"v.list.element": "BYTE_STREAM_SPLIT"},
             write_statistics=["label", "text"])


def write_data(folder, rows):
    random = np.random.default_rng(0)
    centres = random.normal(0, 3, (20, DIMS)).astype("f4")
    for n, first in enumerate(range(0, rows, FILE_ROWS)):
        count = min(FILE_ROWS, rows - first)
        kind = random.integers(0, 20, count)
        points = random.standard_normal((count, DIMS), "f4")
        points *= 0.5
        points += centres[kind]
        table = pa.table({"v": vectors(points), "label": kind, "text": [f"row {first + i} of {kind[i]}" for i in range(count)]})
        pq.write_table(table, os.path.join(folder, f"{n:03}.parquet"), row_group_size=GROUP, **CODEC)


def copy_once(data, out):
    """Reads and writes all rows once, in file order; seconds."""
    os.mkdir(out)
    begun = time.perf_counter()
    for name in sorted(os.listdir(data)):
        file = pq.ParquetFile(os.path.join(data, name))
        place = os.path.join(out, name)
        with pq.ParquetWriter(place, file.schema_arrow, **CODEC) as writer:
            for batch in file.iter_batches(GROUP):
                writer.write_batch(batch, row_group_size=GROUP)
        with open(place, "rb+") as written:
            os.fsync(written.fileno())
    return time.perf_counter() - begun


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--batchwright", default="target/release/batchwright")
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--memory", default="1GiB")
    parser.add_argument("--turns", type=int, default=3)
    given = parser.parse_args()
    program, place = os.path.abspath(given.batchwright), tempfile.mkdtemp()
    path = lambda name: os.path.join(place, name)
    try:
        os.mkdir(path("data"))
        write_data(path("data"), given.rows)
        # How modalities are found makes no difference here.
        plan = [program, "plan", path("data"), "-o", path("plan"), "-q", "--features", "v", "--modality-column", "label", "--epochs", "0"]
        subprocess.run(plan, check=True)
        command = [program, "materialize", path("plan"), path("data"), "-o", path("copy"), "--no-plan", "-q", "--memory", given.memory]
        ours, theirs, peaks = [], [], []
        for turn in range(given.turns):
            begun = time.perf_counter()
            code, said, peak = run(*command)
            if code != 0:
                sys.exit(said)
            ours.append(time.perf_counter() - begun)
            peaks.append(peak / 2**20)
            theirs.append(copy_once(path("data"), path("peer")))
            size = lambda folder: sum(os.path.getsize(os.path.join(path(folder), f)) for f in os.listdir(path(folder))) / 2**20
            print(f"turn {turn}: materialize {ours[-1]:.1f} s ({size('copy'):,.0f} MiB, peak {peaks[-1]:,.0f} MiB), "
                  f"read and write {theirs[-1]:.1f} s ({size('peer'):,.0f} MiB), ratio {ours[-1] / theirs[-1]:.2f}", flush=True)
            shutil.rmtree(path("copy"))
            shutil.rmtree(path("peer"))
        ratio = statistics.median(a / b for a, b in zip(ours, theirs))
        print(f"{given.rows:,} rows, memory {given.memory}: ratio {ratio:.2f} in the median (goal: {GOAL}), peak {max(peaks):,.0f} MiB")
        return 1 if ratio > GOAL else 0
    finally:
        shutil.rmtree(place)


if __name__ == "__main__":
    sys.exit(main())
