#!/usr/bin/env python3
"""Mutates Parquet files of several writers and compares what the program makes of them with what pyarrow reads.

    python3 fuzz/mutate.py PROGRAM [--mutants 1000] [--seed 0] [--keep DIR]

An answer is right if the plan of the mutant is that of the cells that pyarrow reads from it with page checksums on, written anew;
or if the program refuses it with exit code 2 or 3. All else is printed and kept: another plan, a plan where pyarrow reads nothing, a panic,
a hang. Needs numpy and pyarrow; polars, duckdb, fastparquet and chdb (ClickHouse)
where they are installed; the program's own `synth` is a sixth writer.
"""
import argparse
import collections
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROWS = 200
# Of the plan: what its rows decide, and not how they are stored.
SAME = ["samples.arrow", "statistics.arrow", "prototypes.arrow"]
READ = """
import sys, pyarrow.parquet as pq
file = pq.ParquetFile(sys.argv[1], page_checksum_verification=True)
table = file.read(columns=sys.argv[3:])
table.validate(full=True)
pq.write_table(table, sys.argv[2])
"""


def tables():
    r = np.random.default_rng(0)
    kind = r.integers(0, 3, ROWS)
    vector = r.normal(size=(ROWS, 4)) + 5 * kind[:, None]
    fixed = pa.FixedSizeListArray.from_arrays(pa.array(vector.ravel(), pa.float32()), 4)
    lists = pa.array(vector.tolist(), pa.list_(pa.float64()))
    scalars = {"a": vector[:, 0], "b": kind, "c": [f"kind {k}" for k in kind], "d": kind > 0}
    return pa.table({"v": fixed, "kind": kind}), pa.table({"v": lists, "kind": kind}), pa.table(scalars)


def originals(where, program):
    fixed, lists, scalars = tables()
    out = []

    def name(what):
        out.append(f"{where}/{what}.parquet")
        return out[-1]

    for i, table in enumerate((fixed, lists, scalars)):
        pq.write_table(table, name(f"pyarrow-{i}"), write_page_checksum=True, write_page_index=True, row_group_size=120)
        pq.write_table(table, name(f"pyarrow-v2-{i}"), data_page_version="2.0", compression="zstd", use_dictionary=False, data_page_size=500)
        pq.write_table(table, name(f"pyarrow-plain-{i}"), compression="none", use_dictionary=False, store_schema=False, data_page_size=300)
    pq.write_table(scalars, name("pyarrow-delta"), use_dictionary=False, column_encoding={"b": "DELTA_BINARY_PACKED", "c": "DELTA_BYTE_ARRAY"})
    try:
        import polars
        for i, table in enumerate((lists, scalars)):
            polars.from_arrow(table).write_parquet(name(f"polars-{i}"))
    except ImportError:
        pass
    try:
        import duckdb
        for i, table in enumerate((lists, scalars)):
            duckdb.from_arrow(table).write_parquet(name(f"duckdb-{i}"))
    except ImportError:
        pass
    try:
        import fastparquet
        fastparquet.write(name("fastparquet"), scalars.to_pandas(), compression="GZIP")
    except ImportError:
        pass
    try:
        import chdb  # ClickHouse's own writer
        for i, table in enumerate((lists, scalars)):
            chdb.query(f"INSERT INTO FUNCTION file('{name(f'clickhouse-{i}')}', Parquet) SELECT * FROM file('{where}/pyarrow-{i + 1}.parquet')")
    except ImportError:
        pass
    # The writer of the parquet crate.
    synth = [program, "synth", "-o", name("arrow-rs"), "--rows", str(ROWS), "--dims", "4", "--modalities", "3", "-q"]
    subprocess.run(synth, check=True, capture_output=True)
    return out


def mutant(data, random):
    out = bytearray(data)
    # Half of them in the footer, which is a small part of the file.
    length = int.from_bytes(data[-8:-4], "little")
    low = max(0, len(out) - 8 - length) if random.random() < 0.5 else 0
    for _ in range(random.choice([1, 1, 1, 2, 4])):
        at = random.randrange(low, len(out))
        what = random.randrange(6)
        if what == 0:
            out[at] ^= 1 << random.randrange(8)
        elif what == 1:
            out[at] = random.choice([0, 1, 127, 128, 255])
        elif what == 2:
            out[at] = random.randrange(256)
        elif what == 3:
            del out[at : at + random.choice([1, 2, 4, 8])]
        elif what == 4:
            out[at:at] = out[at : at + random.choice([1, 2, 4, 8])]
        else:
            size = random.choice([4, 8])
            number = random.choice([-1, 1 << 30, (1 << 31) - 1, 0])
            out[at : at + size] = number.to_bytes(size, "little", signed=True)
        low = min(low, len(out) - 1)
    return bytes(out)


def plan(program, file, out):
    shutil.rmtree(out, ignore_errors=True)
    try:
        done = subprocess.run([program, "plan", file, "-o", out, "-q", "--threads", "1"], capture_output=True, text=True, timeout=30)
    except subprocess.TimeoutExpired:
        return "hang", ""
    said = done.stdout + done.stderr
    return ("panic" if "panicked" in said else done.returncode), said


def same(a, b):
    return all(open(f"{a}/{name}", "rb").read() == open(f"{b}/{name}", "rb").read() for name in SAME)


def judge(program, file, place):
    """None if the answer is right, else what is wrong with it; and the answer."""
    code, said = plan(program, file, f"{place}/plan")
    if code in (2, 3):
        return None, f"refused ({code})"
    if code != 0:
        return f"{code}: {said[:300]}", str(code)
    used = json.load(open(f"{place}/plan/plan.json"))["config"]["features"]["columns"]
    anew = f"{place}/anew.parquet"
    try:
        read = subprocess.run([sys.executable, "-c", READ, file, anew, *used], capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        return None, "pyarrow hangs"
    if read.returncode < 0:
        return None, "pyarrow crashes"
    if read.returncode != 0:
        return f"a plan where pyarrow says {read.stderr.strip().splitlines()[-1][:200]}", "pyarrow refuses"
    code, said = plan(program, anew, f"{place}/right")
    if code != 0:
        return f"the cells that pyarrow reads are refused ({code}): {said[:200]}", "refused anew"
    return (None, "equal") if same(f"{place}/plan", f"{place}/right") else ("another plan", "other")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--mutants", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", default="found")
    args = parser.parse_args()
    program = os.path.abspath(args.program)
    counts, wrong = collections.Counter(), 0
    with tempfile.TemporaryDirectory() as place:
        files = [(name, open(name, "rb").read()) for name in originals(place, program)]
        for name, _ in files:
            reason, answer = judge(program, name, place)
            assert reason is None and answer == "equal", f"{name} as it is: {reason or answer}"
        for i in range(args.mutants):
            draw = random.Random(f"{args.seed} {i}")
            name, data = draw.choice(files)
            file = f"{place}/mutant.parquet"
            with open(file, "wb") as out:
                out.write(mutant(data, draw))
            reason, answer = judge(program, file, place)
            counts[answer] += 1
            if reason:
                wrong += 1
                os.makedirs(args.keep, exist_ok=True)
                shutil.copy(file, f"{args.keep}/{args.seed}-{i}.parquet")
                print(f"mutant {i} of {os.path.basename(name)}: {' '.join(reason.split())}", flush=True)
    print(", ".join(f"{n} {answer}" for answer, n in counts.most_common()) + f"; {wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
