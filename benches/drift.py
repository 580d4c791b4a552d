"""How often `check` raises a false alarm and how often it sees a change, over the number of new rows.

    cargo build --release --locked && python3 benches/drift.py ../shared/data/packages.parquet [--seeds 20]

Per seed: a random 20 000 of the 24 000 rows make a plan; new rows are drawn from the other 4000, changed, and appended as one
file. Prints a Markdown table of the share of seeds with exit code 1 (drift), and with 4 (cannot tell) after a slash, and in how
many of the drifted ones the cause was named. Needs numpy and pyarrow."""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = pathlib.Path(__file__).resolve().parents[1]
PROGRAM = os.environ.get("BATCHWRIGHT_BIN", ROOT / "target" / "release" / "batchwright")
SIZES = [100, 300, 600, 1000, 2000]


def points(table):
    return np.asarray(table["embedding"].combine_chunks().values).reshape(table.num_rows, -1)


def replaced(table, x):
    column = pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(x, np.float32).ravel()), x.shape[1])
    return table.set_column(table.column_names.index("embedding"), "embedding", column).cast(table.schema)


def resampled(rest, n, rng, weight):
    w = np.array([weight(s) for s in rest["section"].to_pylist()])
    return rest.take(rng.choice(rest.num_rows, n, replace=False, p=w / w.sum()))


def new_kind(rest, n, rng, share):
    table = rest.take(rng.permutation(rest.num_rows)[:n])
    k = max(1, round(share * n))
    x = points(table).copy()
    y = rng.normal(size=384) + 0.6 * rng.normal(size=(k, 384))
    x[:k] = y / np.linalg.norm(y, axis=1, keepdims=True)
    return replaced(table, x)


def turned(table, rng):
    return replaced(table, points(table) @ np.linalg.qr(rng.normal(size=(384, 384)))[0])


SCENARIOS = {
    "nothing (false alarms)": (lambda rest, n, rng: rest.take(rng.permutation(rest.num_rows)[:n]), None),
    "`libs` (11 %) twice as frequent": (lambda rest, n, rng: resampled(rest, n, rng, lambda s: 2.0 if s == "libs" else 1.0), "section=libs"),
    "`games` (2 %) twice as frequent": (lambda rest, n, rng: resampled(rest, n, rng, lambda s: 2.0 if s == "games" else 1.0), "section=games"),
    "`libs` gone": (lambda rest, n, rng: resampled(rest, n, rng, lambda s: 0.0 if s == "libs" else 1.0), "section=libs"),
    "`games` gone": (lambda rest, n, rng: resampled(rest, n, rng, lambda s: 0.0 if s == "games" else 1.0), "section=games"),
    "5 % of a new kind": (lambda rest, n, rng: new_kind(rest, n, rng, 0.05), "modalities"),
    "2 % of a new kind": (lambda rest, n, rng: new_kind(rest, n, rng, 0.02), "modalities"),
    "embeddings x 1.05": (lambda rest, n, rng: replaced(rest.slice(0, n), 1.05 * points(rest.slice(0, n))), "features"),
    "embeddings x 1.01": (lambda rest, n, rng: replaced(rest.slice(0, n), 1.01 * points(rest.slice(0, n))), "features"),
    "another model (rotation)": (lambda rest, n, rng: turned(rest.slice(0, n), rng), "features"),
}


def run(*arguments):
    return subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, text=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("data")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=0)
    a = parser.parse_args()
    table = pq.read_table(a.data)
    found = {name: {n: [0, 0, 0] for n in SIZES} for name in SCENARIOS}
    for seed in range(a.seeds):
        print(f"seed {seed + 1} of {a.seeds}", file=sys.stderr)
        rng = np.random.default_rng(1000 + seed)
        order = rng.permutation(table.num_rows)
        base, rest = table.take(order[:20_000]), table.take(order[20_000:])
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            (folder / "data").mkdir()
            pq.write_table(base, folder / "data" / "a.parquet", row_group_size=4000)
            made = run("plan", folder / "data", "-o", folder / "plan", "--label", "section", "--resolution", 1000, "--epochs", 0, "--threads", a.threads)
            assert made.returncode == 0, made.stderr
            for name, (change, subject) in SCENARIOS.items():
                for n in SIZES:
                    pq.write_table(change(rest, n, rng), folder / "data" / "b.parquet")
                    done = run("check", folder / "plan", folder / "data", "--quick", "--json", "--threads", a.threads)
                    assert done.returncode in (0, 1, 4), done.stderr
                    cell = found[name][n]
                    cell[0] += done.returncode == 1
                    cell[1] += done.returncode == 4
                    cell[2] += done.returncode == 1 and subject in [d["subject"] for d in json.loads(done.stdout)["diagnosis"]]
    percent = lambda k: f"{100 * k / a.seeds:.0f}"
    print("| new rows | " + " | ".join(map(str, SIZES)) + " |")
    print("|---|" + "---|" * len(SIZES))
    for name, cells in found.items():
        row = []
        for n in SIZES:
            drifted, unknown, named = cells[n]
            text = percent(drifted) + (f" / {percent(unknown)}" if unknown else "")
            row.append(text if SCENARIOS[name][1] is None or not drifted else f"{text} ({named} of {drifted})")
        print(f"| {name} | " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
