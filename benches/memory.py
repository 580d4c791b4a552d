#!/usr/bin/env python3
"""Forecasts of memory against peaks: `plan`, `check` and `update` on small and odd datasets, one line a run.

    python benches/memory.py [--batchwright target/release/batchwright] [NAME ...]    # NAME: only settings that begin with it

The forecast is what the command says with `--memory 1MiB`; the peak is the process' largest resident set (Linux). A forecast is an
upper bound (the line ends with LOW where it is not), at most twice the peak in the median of peaks of 128 MiB and more;
below that it is at most 128 MiB above. Needs numpy and pyarrow; about 6 GB of disk for a moment.
"""

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

MIB = 1 << 20


def vectors(x):
    x = np.ascontiguousarray(x, "f4")
    return pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), x.shape[1])


def table(rows, dims, modalities=0, labels=0, texts=0, length=20, seed=0):
    r = np.random.default_rng(seed)
    centres = r.normal(0, 3, (5, dims))
    columns = {"v": vectors(centres[r.integers(0, 5, rows)] + r.normal(0, 0.5, (rows, dims)))}
    if modalities:
        columns["kind"] = pa.array(np.arange(rows) % modalities)
    if labels:
        columns["label"] = pa.array(np.arange(rows) % labels)
    for t in range(texts):
        words = [f"{t}-{k}".ljust(length, "x") for k in range(400)]
        columns[f"text{t}"] = pa.array(words).take(pa.array(r.integers(0, len(words), rows)))
    return pa.table(columns)


def settings():
    """(name, table's arguments, writer's arguments, plan's flags)."""
    for dims, rows in [(2, 2_000), (2, 200_000), (16, 50_000), (64, 100_000), (256, 20_000), (768, 20_000)]:
        yield f"dims-{dims}-rows-{rows}", dict(rows=rows, dims=dims), {}, []
    for dims, rows in [(2048, 3_000), (4096, 2_000), (8192, 200), (12_288, 200), (12_288, 1_500)]:
        yield f"wide-{dims}-rows-{rows}", dict(rows=rows, dims=dims), {}, []
    for m, dims in [(10, 64), (500, 64), (5_000, 64), (20_000, 4), (20_000, 64), (20_000, 128)]:
        yield (f"modalities-{m}-dims-{dims}", dict(rows=40_000, dims=dims, modalities=m), {},
               ["--modality-column", "kind"])
    for labels in (10, 1_000, 30_000):
        yield f"labels-{labels}", dict(rows=60_000, dims=64, labels=labels), {}, ["--label", "label"]
    for kib in (64, 1_024, 8_192, 65_536, 131_072):
        for threads in (1, 4, 8):
            writer = dict(data_page_size=kib << 10, use_dictionary=False, compression="zstd", row_group_size=32_768)
            yield f"pages-{kib}K-threads-{threads}", dict(rows=65_536, dims=512), writer, ["--threads", str(threads)]
    yield "texts-20", dict(rows=50_000, dims=16, texts=8), {}, []
    yield "texts-100000", dict(rows=2_000, dims=8, texts=1, length=100_000), {}, []
    yield "stratified", dict(rows=50_000, dims=64, labels=200), {}, ["--stratify-by", "modality,label"]
    yield "epochs", dict(rows=300_000, dims=8), {}, ["--epochs", "2"]
    yield "row-groups", dict(rows=100_000, dims=64), dict(row_group_size=500), ["--threads", "8"]


def run(*command):
    """Exit code, what it said, peak in bytes."""
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT)
        peak = 0
        # Not `ru_maxrss`, which begins with what this process held when it forked.
        while process.poll() is None:
            try:
                with open(f"/proc/{process.pid}/status") as status:
                    found = re.search(r"VmHWM:\s*(\d+) kB", status.read())
                peak = max(peak, int(found[1]) * 1024 if found else 0)
            except OSError:
                pass
            time.sleep(0.002)
        said.seek(0)
        return process.returncode, said.read(), peak


def measure(name, verb, command, ok, results):
    code, said, _ = run(*command, "--memory", "1MiB")
    told = re.search(r"needs up to (\d+) MiB", said)
    if not told:
        sys.exit(f"{name} {verb}: no forecast (exit {code}): {said}")
    forecast = int(told[1])
    code, said, peak = run(*command, "--memory", "64GiB")
    if code not in ok:
        sys.exit(f"{name} {verb}: exit {code}: {said}")
    peak /= MIB
    results.append((forecast, peak))
    low = "  LOW" if peak > forecast else ""
    print(f"{name:32} {verb:7} {forecast:8,} MiB {peak:10,.0f} MiB {forecast / peak:6.2f}{low}", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--batchwright", default="target/release/batchwright")
    parser.add_argument("names", nargs="*")
    given = parser.parse_args()
    program, results = os.path.abspath(given.batchwright), []
    print(f"{'setting':32} {'command':7} {'forecast':>12} {'peak':>14} {'ratio':>6}")
    for name, data, writer, flags in settings():
        if given.names and not any(name.startswith(n) for n in given.names):
            continue
        place = tempfile.mkdtemp()
        try:
            old, new = os.path.join(place, "a.parquet"), os.path.join(place, "b.parquet")
            plan, other = os.path.join(place, "plan"), os.path.join(place, "other")
            pq.write_table(table(**data), old, **writer)
            measure(name, "plan", [program, "plan", old, "-o", plan, "-q", *flags], (0,), results)
            threads = flags if flags[:1] == ["--threads"] else []
            # The same again: as many new rows as old ones.
            shutil.copyfile(old, new)
            measure(name, "check", [program, "check", plan, old, new, "-q", *threads], (0, 1, 4), results)
            measure(name, "update", [program, "update", plan, old, new, "-o", other, "-q", *threads], (0,), results)
        finally:
            shutil.rmtree(place)
    large = [f / p for f, p in results if p >= 128]
    small = [f - p for f, p in results if p < 128]
    low = sum(p > f for f, p in results)
    print(f"{len(results)} runs, {low} forecasts too low")
    if large:
        print(f"peaks of 128 MiB and more: ratio {statistics.median(large):.2f} in the median, {max(large):.2f} at most")
    if small:
        print(f"below: at most {max(small):,.0f} MiB above the peak")
    return 1 if low else 0


if __name__ == "__main__":
    sys.exit(main())
