"""How often `check` raises a false alarm, and how often it sees a change. Everything is made up here, so that anyone can run it:

    cargo build --release --locked && python3 benches/drift.py [--draws 200] [--slow-draws 40] [--jobs CORES] [PACKAGES.parquet]

False alarms: both sides come from one distribution, which may be far from normal. Even draws are a vector of 8 numbers a row, odd
ones a table of 4 columns (one-hot: a vector, and two columns of text). A cell says how many checks ended with exit code 1 (drift), after a
slash those with 4 (cannot tell).

Power: 1000 new rows beside 20 000 planned ones; the share of draws with exit code 1, and with the finding that should say so.

With a file of sentence embeddings (columns `embedding`, `section`) a third table has what is seen over the number of new rows:
20 000 random rows make a plan, new ones are drawn from the others, changed, and appended as one file. Per cent of draws with drift, with
"cannot tell" after a slash, and in brackets in how many of the drifted ones the cause was named.

Needs numpy and pyarrow."""
import argparse
import collections
import functools
import json
import multiprocessing
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = pathlib.Path(__file__).resolve().parents[1]
PROGRAM = os.environ.pop("BATCHWRIGHT_BIN", ROOT / "target" / "release" / "batchwright")
SHAPES = [(3_000, 3_000), (20_000, 2_000)]
RESOLUTIONS = [1_000, 10_000]  # 10 000 is the default
SIZES = [100, 300, 600, 1000, 2000]


def vectors(x):
    x = np.ascontiguousarray(x, np.float32)
    return pa.table({"embedding": pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), x.shape[1])})


def numbers(x):
    return pa.table({f"c{j}": x[:, j] for j in range(x.shape[1])})


def blobs(rng, n, d):
    return rng.normal(0, 3, (3, d))[rng.integers(0, 3, n)] + rng.normal(0, 0.3, (n, d))


def outliers(rng, n, d):
    x, out = blobs(rng, n, d), rng.random(n) < 0.02
    x[out] = rng.normal(0, 10, (out.sum(), d))
    return x


def duplicates(rng, n, d):
    # Nine in ten are one row; or ten copies of every row there is.
    if d == 8:
        x = blobs(rng, n, d)
        x[rng.random(n) < 0.9] = x[0]
        return x
    return blobs(rng, n // 10, d)[rng.integers(0, n // 10, n)]


def one_hot(rng, n, d):
    shares = 0.7 ** np.arange(10)
    kind = rng.choice(10, n, p=shares / shares.sum())
    if d == 8:
        return vectors(np.eye(10)[kind])
    words = np.array([f"kind-{k}" for k in range(10)])
    return pa.table({"kind": words[kind], "other": words[rng.integers(0, 10, n)]})


DISTRIBUTIONS = {
    "normal": lambda rng, n, d: rng.normal(size=(n, d)),
    "t(2)": lambda rng, n, d: rng.standard_t(2, (n, d)),
    "lognormal(2)": lambda rng, n, d: rng.lognormal(0, 2, (n, d)),
    "Pareto(1.5)": lambda rng, n, d: rng.pareto(1.5, (n, d)),
    "2 % scattered outliers": outliers,
    "integers 0..5": lambda rng, n, d: rng.integers(0, 6, (n, d)).astype(float),
    "90 % duplicates": duplicates,
    "one-hot": one_hot,
}


def run(*arguments):
    return subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, text=True)


class Folder:
    """A plan of some rows, and checks of it with others appended."""

    def __init__(self, base, *settings):
        self.place = tempfile.TemporaryDirectory()
        self.data = pathlib.Path(self.place.name) / "data"
        self.data.mkdir()
        pq.write_table(base, self.data / "a.parquet", row_group_size=4000)
        made = run("plan", self.data, "-o", self.data.parent / "plan", "--epochs", 0, "--threads", 1, *settings)
        assert made.returncode == 0, made.stderr

    def check(self, new):
        """The exit code, the ids of the findings that drifted, the subjects of the diagnosis."""
        pq.write_table(new, self.data / "b.parquet")
        done = run("check", self.data.parent / "plan", self.data, "--quick", "--json", "--threads", 1)
        assert done.returncode in (0, 1, 4), done.stderr
        said = json.loads(done.stdout)
        drifted = [f["id"] for f in said["findings"] if f["answer"] == "drifted" and f["level"] == "error"]
        return done.returncode, drifted, [d["subject"] for d in said["diagnosis"]]


def calm(job):
    name, (m, n), resolution, draw = job
    rng = np.random.default_rng([draw, m, list(DISTRIBUTIONS).index(name)])
    rows = DISTRIBUTIONS[name](rng, m + n, 8 if draw % 2 == 0 else 4)
    if isinstance(rows, np.ndarray):
        rows = vectors(rows) if draw % 2 == 0 else numbers(rows)
    # Texts are features where they are named.
    features = ["--features", ",".join(rows.column_names)] if name == "one-hot" else []
    return Folder(rows.slice(0, m), "--resolution", resolution, *features).check(rows.slice(m))


def labelled(rng, n, share=0.11, d=8):
    """Normal rows of ten kinds, each about a place of its own; the first kind has this share."""
    kind = np.where(rng.random(n) < share, 0, rng.integers(1, 10, n))
    places = np.random.default_rng(7).normal(0, 3, (10, d))
    return places[kind] + rng.normal(size=(n, d)), kind


def with_kind(x, kind):
    return vectors(x).append_column("kind", pa.array([f"kind-{k}" for k in kind]))


def spread_of(x):
    low, high = np.percentile(x, [25, 75], axis=0)
    return (high - low) / 1.349


def shifted(name):
    def make(rng, d):
        x = DISTRIBUTIONS[name](rng, 21_000, d)
        new = x[20_000:].copy()
        new[:, 0] += 0.2 * spread_of(x[:, 0])
        as_table = vectors if d == 8 else numbers
        return as_table(x[:20_000]), as_table(new)

    return make


def doubled(rng, d):
    return with_kind(*labelled(rng, 20_000, d=d)), with_kind(*labelled(rng, 1_000, 0.22, d=d))


def new_rows(rng, d):
    (x, kind), (new, kinds) = labelled(rng, 20_000, d=d), labelled(rng, 1_000, d=d)
    new[:30] = 12 * np.ones(d) / np.sqrt(d) * np.sign(rng.normal(size=d)) + rng.normal(size=(30, d))
    return with_kind(x, kind), with_kind(new, kinds)


CHANGES = {
    **{f"{name}: one feature shifted by .2 sd (IQR / 1.349)": (shifted(name), None) for name in ["normal", "t(2)", "lognormal(2)", "Pareto(1.5)"]},
    "a class of 11 % doubled": (doubled, None),
    "3 % of a new kind, by far rows": (new_rows, "far-rows"),
}


def seen(job):
    name, resolution, draw = job
    rng = np.random.default_rng([draw, list(CHANGES).index(name)])
    base, new = CHANGES[name][0](rng, 8 if draw % 2 == 0 else 4)
    return Folder(base, "--resolution", resolution).check(new)


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


def moved_along(rest, n, rng):
    x = points(rest.take(rng.permutation(rest.num_rows)[:n])).copy()
    x[:, 0] += 0.2 * spread_of(points(rest)[:, 0])
    return replaced(rest.slice(0, n), x)


SCENARIOS = {
    "nothing (false alarms)": (lambda rest, n, rng: rest.take(rng.permutation(rest.num_rows)[:n]), None),
    "`libs` (11 %) twice as frequent": (lambda rest, n, rng: resampled(rest, n, rng, lambda s: 2.0 if s == "libs" else 1.0), "section=libs"),
    "`games` (2 %) twice as frequent": (lambda rest, n, rng: resampled(rest, n, rng, lambda s: 2.0 if s == "games" else 1.0), "section=games"),
    "`libs` gone": (lambda rest, n, rng: resampled(rest, n, rng, lambda s: 0.0 if s == "libs" else 1.0), "section=libs"),
    "`games` gone": (lambda rest, n, rng: resampled(rest, n, rng, lambda s: 0.0 if s == "games" else 1.0), "section=games"),
    "5 % of a new kind": (lambda rest, n, rng: new_kind(rest, n, rng, 0.05), "modalities"),
    "3 % of a new kind": (lambda rest, n, rng: new_kind(rest, n, rng, 0.03), "modalities"),
    "2 % of a new kind": (lambda rest, n, rng: new_kind(rest, n, rng, 0.02), "modalities"),
    "embeddings x 1.05": (lambda rest, n, rng: replaced(rest.slice(0, n), 1.05 * points(rest.slice(0, n))), "features"),
    "embeddings x 1.01": (lambda rest, n, rng: replaced(rest.slice(0, n), 1.01 * points(rest.slice(0, n))), "features"),
    "another model (rotation)": (lambda rest, n, rng: turned(rest.slice(0, n), rng), "features"),
}


@functools.cache
def packages(path):
    return pq.read_table(path)


def embedded(job):
    """All scenarios of one draw: {(scenario, new rows): (exit code, whether the cause was named)}."""
    path, draw = job
    table, rng = packages(path), np.random.default_rng(1000 + draw)
    order = rng.permutation(table.num_rows)
    rest = table.take(order[20_000:])
    folder = Folder(table.take(order[:20_000]), "--label", "section", "--resolution", 1000)
    found = {}
    for name, (change, subject) in SCENARIOS.items():
        for n in SIZES:
            code, _, subjects = folder.check(change(rest, n, rng))
            found[name, n] = (code, subject in subjects)
    return found


def each(pool, f, jobs):
    """Results in order, with a line of progress."""
    out = []
    for i, result in enumerate(pool.imap(f, jobs, chunksize=1), 1):
        out.append(result)
        print(f"\r{f.__name__} {i} of {len(jobs)}", end="\n" if i == len(jobs) else "", file=sys.stderr, flush=True)
    return out


def row(*cells):
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def false_alarms(pool, draws, slow_draws, only):
    cells = [(shape, resolution) for shape in SHAPES for resolution in RESOLUTIONS]
    # The last cell counts modalities in a sample of 10 000 rows, for each draw anew.
    of_cell = [draws] * (len(cells) - 1) + [slow_draws]
    heads = (f"{m:_} + {n:_}, resolution {r:_}, {k} draws".replace("_", " ") for ((m, n), r), k in zip(cells, of_cell))
    row("exit 1 / exit 4", *heads)
    row(*["---"] * (1 + len(cells)))
    why = collections.Counter()
    for name in [d for d in DISTRIBUTIONS if only in d]:
        jobs = [(name, shape, resolution, draw) for (shape, resolution), k in zip(cells, of_cell) for draw in range(k)]
        results = iter(each(pool, calm, jobs))
        texts = []
        for i in range(len(cells)):
            of = [next(results) for _ in range(of_cell[i])]
            alarms, unknown = sum(r[0] == 1 for r in of), sum(r[0] == 4 for r in of)
            texts.append(f"{alarms} / {unknown}" if unknown else alarms)
            why.update((name, cells[i], finding) for r in of for finding in r[1])
        row(name, *texts)
    for (name, cell, finding), count in why.items():
        print(f"    {name}, {cell}: {finding} {count}", file=sys.stderr)


def power(pool, draws, slow_draws, only):
    of_cell = [draws, slow_draws]
    row("per cent", *(f"resolution {r:_}, {k} draws".replace("_", " ") for r, k in zip(RESOLUTIONS, of_cell)))
    row(*["---"] * (1 + len(RESOLUTIONS)))
    for name, (_, finding) in CHANGES.items():
        if only not in name:
            continue
        results = each(pool, seen, [(name, r, draw) for r, k in zip(RESOLUTIONS, of_cell) for draw in range(k)])
        hit = lambda r: r[0] == 1 and (finding is None or finding in r[1])  # noqa: E731
        row(name, *(f"{100 * sum(map(hit, of)) / len(of):.0f}" for of in (results[:draws], results[draws:])))


def real(pool, draws, path):
    results = each(pool, embedded, [(path, draw) for draw in range(draws)])
    row("new rows", *SIZES)
    row(*["---"] * (1 + len(SIZES)))
    for name, (_, subject) in SCENARIOS.items():
        texts = []
        for n in SIZES:
            of = [r[name, n] for r in results]
            drifted, unknown = [named for code, named in of if code == 1], sum(code == 4 for code, _ in of)
            text = f"{100 * len(drifted) / draws:.0f}" + (f" / {100 * unknown / draws:.0f}" if unknown else "")
            texts.append(text if subject is None or not drifted else f"{text} ({sum(drifted)} of {len(drifted)})")
        row(name, *texts)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?")
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--slow-draws", type=int, help="of the last columns, which take ten times as long; --draws if not given")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--only", default="", help="distributions and changes with this in their name")
    a = parser.parse_args()
    slow_draws = a.draws if a.slow_draws is None else a.slow_draws
    with multiprocessing.Pool(a.jobs) as pool:
        false_alarms(pool, a.draws, slow_draws, a.only)
        print()
        power(pool, a.draws, slow_draws, a.only)
        if a.data:
            print()
            real(pool, min(a.draws, 20), a.data)


if __name__ == "__main__":
    main()
