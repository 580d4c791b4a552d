"""Folds with groups, compared with scikit-learn's StratifiedGroupKFold: how far strata are from their share, and sizes from theirs.

    python benches/splits.py packages.parquet --text package --label section [--program target/release/batchwright]

Groups are rows whose text begins alike (up to the first -, _, . or digit). Needs pyarrow and scikit-learn. Prints a table in Markdown: seconds, root mean
square of a stratum's rows in a fold from its share, worst size in per cent of the rows. `batchwright` plans as a whole: its seconds are those of the stage
that deals, in which columns are read, too."""
import argparse
import json
import pathlib
import re
import subprocess
import tempfile
import time

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
from sklearn.model_selection import StratifiedGroupKFold


def deviation(split, strata, folds):
    counts = np.zeros((strata.max() + 1, folds))
    np.add.at(counts, (strata, split), 1)
    size = np.bincount(split, minlength=folds)
    off = counts - counts.sum(1, keepdims=True) / folds
    return np.sqrt((off**2).mean()), np.abs(size - len(split) / folds).max() / len(split) * 100


def ours(program, data, folds, by, seed, work):
    out = work / f"{folds}-{by}-{seed}"
    flags = ["--folds", folds, "--group", "group", "--split-by", by, "--seed", seed, "--epochs", 0, "--features", "embedding", "--progress", "none", "-q"]
    subprocess.run([program, "plan", data, "-o", out, *map(str, flags)], check=True)
    with pa.OSFile(str(out / "splits.arrow")) as f:
        split = pa.ipc.open_file(f).read_all()["split"].to_numpy().astype(int)
    with pa.OSFile(str(out / "samples.arrow")) as f:
        strata = pa.ipc.open_file(f).read_all()["stratum"].to_numpy().astype(int)
    stages = {s["stage"]: s["seconds"] for s in json.loads((out / "run.json").read_text())["stages"]}
    return split, strata, stages["rank"]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("data")
    p.add_argument("--text", default="package")
    p.add_argument("--label", default="section")
    p.add_argument("--program", default="target/release/batchwright")
    p.add_argument("--seeds", type=int, default=3)
    a = p.parse_args()
    rows = pq.read_table(a.data)
    prefix = [re.split(r"[-_.0-9]", text)[0] or text for text in rows[a.text].to_pylist()]
    label = np.unique(rows[a.label].to_numpy(zero_copy_only=False), return_inverse=True)[1]
    group = np.unique(prefix, return_inverse=True)[1]
    print(f"{len(rows)} rows, {group.max() + 1} groups, the largest of {np.bincount(group).max()}\n")
    print("| folds by | batchwright: s; rms; worst size | StratifiedGroupKFold |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        data = work / "rows.parquet"
        pq.write_table(rows.append_column("group", pa.array(group)), data)
        for folds, by in ((5, a.label), (5, "strata"), (10, "strata")):
            cells = {"a": [], "b": []}
            for seed in range(a.seeds):
                split, strata, seconds = ours(a.program, data, folds, by, seed, work)
                strata = label if by == a.label else strata
                cells["a"].append((seconds, *deviation(split, strata, folds)))
                begin = time.perf_counter()
                theirs = np.empty(len(rows), int)
                for f, (_, test) in enumerate(StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(strata, strata, group)):
                    theirs[test] = f
                cells["b"].append((time.perf_counter() - begin, *deviation(theirs, strata, folds)))
            text = ["{:.2f}; {:.2f}; {:.3f} %".format(*np.mean(c, 0)) for c in cells.values()]
            print(f"| {folds} by {by} | {text[0]} | {text[1]} |", flush=True)


if __name__ == "__main__":
    main()
