#!/usr/bin/env python3
"""How soon a run ends after Ctrl-C: SIGINT at many moments of large runs, one line a run.

    python benches/interrupt.py [--batchwright target/release/batchwright] [--moments 12] [NAME ...]

Each run is timed once whole; then it is started anew and interrupted at moments spread over that time. The line tells the
longest wait and the moment of it; LATE: more than a second. Needs numpy and pyarrow, and a machine that does nothing else.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import pyarrow.parquet as pq
from memory import table

LIMIT = 1.0
ESTIMATORS = ["consensus", "kmeans", "hdbscan", "gaussian-mixture", "pretrained", "dbscan"]


def runs(place, program):
    """(name, command, what to remove before it runs again)."""
    path = lambda name: os.path.join(place, name)
    write = lambda name, **data: pq.write_table(table(**data), path(name))
    write("wide.parquet", rows=1_500, dims=12_288)
    write("dense.parquet", rows=40_000, dims=1_024)
    write("small.parquet", rows=60_000, dims=64, seed=1)
    write("more.parquet", rows=60_000, dims=64, seed=2)
    write("long.parquet", rows=4_000_000, dims=4)
    write("many.parquet", rows=44_000, dims=64, modalities=20_000)
    out = ["-o", path("out"), "-q"]
    plan = lambda name, *flags: [program, "plan", path(name), *out, "--memory", "16GiB", *flags]
    yield "plan wide", plan("wide.parquet"), "out"
    yield "plan dense", plan("dense.parquet"), "out"
    yield "plan long", plan("long.parquet", "--epochs", "4"), "out"
    yield "plan many", plan("many.parquet", "--modality-column", "kind"), "out"
    for estimator in ESTIMATORS:
        yield f"plan {estimator}", plan("small.parquet", "--estimator", estimator), "out"
    old = path("old")
    subprocess.run([program, "plan", path("small.parquet"), "-o", old, "-q"], check=True)
    both = [path("small.parquet"), path("more.parquet")]
    yield "check", [program, "check", old, *both, "-q"], None
    yield "update", [program, "update", old, *both, *out], "out"
    yield "update --refit", [program, "update", old, *both, *out, "--refit"], "out"
    yield "report", [program, "report", old, "-o", path("report.html")], "report.html"


def begin(command):
    # Also where this runs in the background and ignores it.
    reset = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=reset)


def remove(path):
    shutil.rmtree(path, ignore_errors=True)
    if os.path.exists(path):
        os.remove(path)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--batchwright", default="target/release/batchwright")
    parser.add_argument("--moments", type=int, default=12)
    parser.add_argument("names", nargs="*")
    given = parser.parse_args()
    program, late, place = os.path.abspath(given.batchwright), 0, tempfile.mkdtemp()
    try:
        for name, command, out in runs(place, program):
            if given.names and not any(name.startswith(n) for n in given.names):
                continue
            start = time.monotonic()
            begin(command).wait()
            whole, waits = time.monotonic() - start, []
            for i in range(given.moments):
                if out:
                    remove(os.path.join(place, out))
                moment = whole * (i + 0.5) / given.moments
                process = begin(command)
                time.sleep(moment)
                sent = time.monotonic()
                process.send_signal(signal.SIGINT)
                process.wait()
                waits.append((time.monotonic() - sent, moment))
            if out:
                remove(os.path.join(place, out))
            wait, moment = max(waits)
            late += wait > LIMIT
            print(f"{name:28} {whole:6.1f} s whole; at most {wait:5.2f} s, sent at {moment:6.1f} s{'  LATE' * (wait > LIMIT)}", flush=True)
    finally:
        shutil.rmtree(place)
    return 1 if late else 0


if __name__ == "__main__":
    sys.exit(main())
