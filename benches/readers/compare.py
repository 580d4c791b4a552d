"""Batches of 256 rows for training, read in every way that is there: batchwright beside pyarrow, Hugging Face datasets, litdata, Lance,
MosaicML Streaming, WebDataset and NumPy, in one run.

    pip install -r benches/readers/requirements.txt        # and batchwright itself; peers that are missing are left out, by name
    python benches/readers/compare.py                                            # 400 000 rows, one thread and two
    python benches/readers/compare.py --rows 1000000 --cold --rounds 7 --dir /data
    python benches/readers/compare.py --readers in-order,stream --threads 1      # of all: --help
    python benches/readers/compare.py --python mds=OTHER/bin/python              # mosaicml-streaming wants older packages

See README.md beside this file for what is measured, and how."""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict

from data import COPIES, PARQUET
from readers import READERS

HERE = pathlib.Path(__file__).resolve().parent
ORDERS = {"stream": "local", "stream-torch": "local", "rows": "global", "rows-cached": "global", "numpy-plan": "global"}
BASE = "in-order"
# Whose best `stream` is held against: those that shuffle and are not batchwright or an array in memory.
PEERS = [name for name in READERS if name not in ORDERS and name not in (BASE, "numpy")]


class Failed(Exception):
    pass


def call(command, timeout, folder, threads=None):
    """What the command printed."""
    more = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "cache"), "LITDATA_CACHE_DIR": str(folder / "cache")}
    if threads:
        names = ("OMP_NUM_THREADS", "RAYON_NUM_THREADS", "POLARS_MAX_THREADS", "TOKIO_WORKER_THREADS", "LANCE_CPU_THREADS")
        more |= dict.fromkeys(names, str(threads))
    try:
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=timeout, env=os.environ | more)
    except subprocess.TimeoutExpired:
        raise Failed(f"not done in {timeout} s") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit {done.returncode}"]
        raise Failed(lines[-1])
    return done.stdout


class Bench:
    def __init__(self, args, folder):
        self.args, self.folder = args, folder
        self.pythons = dict(item.split("=", 1) for item in args.python)
        self.gone, self.labels = {}, None

    def python(self, name):
        return next((path for start, path in self.pythons.items() if name.startswith(start)), sys.executable)

    def worker(self, reader, what, job, *flags):
        job = json.dumps({**job, "folder": str(self.folder)})
        return [self.python(reader), HERE / "measure.py", what, job, *flags]

    def leave_out(self, name, why):
        if name not in self.gone:
            self.gone[name] = why
            print(f"{name}: left out, {why}", file=sys.stderr, flush=True)

    def make(self, readers, forms):
        """Writes what is not there yet; a reader whose data cannot be written is left out."""
        wanted = {"plain": BASE, "numpy": BASE}  # all else is written from the one, and compared with the other
        wanted |= {form: BASE for form in forms}
        wanted |= {data: name for name in readers for data in READERS[name].data if data in COPIES}
        for data, name in wanted.items():
            if (self.folder / data).exists() or (self.folder / f"{data}.parquet").exists():
                continue
            self.say(f"writing {data}")
            try:
                call(self.worker(name, "write", {"name": data, "rows": self.args.rows}), None, self.folder)
            except Failed as why:
                for other in readers:
                    if data in READERS[other].data:
                        self.leave_out(other, str(why))
        for name in readers:
            for data in self.data_of(name, forms):
                if name in ORDERS and name not in self.gone:
                    self.plan(name, "plain" if data == "numpy" else data, ORDERS[name])
        os.sync()  # pages that are not written yet cannot be dropped

    def plan(self, name, data, order):
        out = self.folder / f"{data}.{order}.plan"
        if out.exists():
            return
        self.say(f"planning {out.name}")
        command = [self.python(name), "-m", "batchwright", "plan", self.folder / f"{data}.parquet", "-o", out, "--features", "embedding"]
        command += ["--label", "label", "--batch-size", self.args.batch, "--epochs", "0", "--locality", order, "-q"]
        command += self.args.plan_flags.split()
        try:
            call(command, None, self.folder)
        except Failed as why:
            self.leave_out(name, str(why))

    def data_of(self, name, forms):
        """What a reader is measured on."""
        return [data for data in READERS[name].data if data in forms or data in COPIES]

    def runs(self, readers, forms, threads):
        """(reader, data, worker processes), in the order in which they take turns."""
        for name in readers:
            for data in self.data_of(name, forms):
                for workers in (0, threads) if READERS[name].workers and threads > 1 else (0,):
                    if name not in self.gone:
                        yield name, data, workers

    def measure(self, what, run, threads):
        name, data, workers = run
        job = {"reader": name, "data": data, "rows": self.args.rows, "batch": self.args.batch, "threads": threads, "workers": workers}
        flags = ["--budget", self.args.budget, *(["--cold"] if self.args.cold else [])]
        try:
            out = call(self.worker(name, what, job, *flags), self.args.budget * 3 + 300, self.folder, threads)
        except Failed as why:
            self.leave_out(name, str(why))
            return None
        found = json.loads(out.splitlines()[-1])
        if found["still_cached"] > 0.01:
            print(f"{name}: {found['still_cached']:.0%} of its files could not be dropped from the page cache", file=sys.stderr)
        if found["complete"]:
            self.labels = self.labels or found["labels"]
            if (found["rows"], found["labels"]) != (self.args.rows, self.labels):
                self.leave_out(name, f"{found['rows']} rows of {self.args.rows}, labels that sum to {found['labels']}, not {self.labels}")
                return None
        if self.args.json:
            with open(self.args.json, "a") as file:
                file.write(json.dumps({"what": what, **job, **found}) + "\n")
        return found

    def check(self, run, threads):
        """What was found, where all rows are right; None where they are not."""
        found = self.measure("check", run, threads)
        if found is None:
            return None
        self.say(f"checked {describe(run)}: {found['rows']} rows" + ("" if found["complete"] else " (stopped)"))
        wrong = [f"{found[key]} {key}" for key in ("missing", "twice", "wrong") if found[key]]
        if wrong:
            self.leave_out(run[0], f"of {self.args.rows} rows " + ", ".join(wrong))
            return None
        return found

    def say(self, text):
        if not self.args.quiet:
            print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def note(used, found):
    for name, version in (found or {}).get("versions", {}).items():
        used[name].add(version)


def describe(run):
    name, data, workers = run
    return f"{name} on {data}" + (f", {workers} workers" if workers else "")


def rate(found):
    return found["rows"] / found["seconds"]


def middle(values):
    """Median, least and most, as text."""
    text = lambda value: f"{value:.2f}" if value > 0.1 else f"{value:.4f}"  # noqa: E731
    return f"**{text(statistics.median(values))}** ({text(min(values))} to {text(max(values))})"


def table(seen, checked):
    """`seen`: for every run what was measured, by round."""
    print("| reader | data | rows/s | times in order | open (s) | first batch (s) | processor (us a row) | peak (MiB) | own (MiB) | spread |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for run, rounds in seen.items():
        name, data, workers = run
        base = seen.get((BASE, data if data in PARQUET else "plain", 0), {})
        ratios = [rate(found) / rate(base[r]) for r, found in rounds.items() if r in base]
        median = lambda value: statistics.median(map(value, rounds.values()))  # noqa: E731
        title = READERS[name].title + (f", {workers} workers" if workers else "")
        if not all(found["complete"] for found in rounds.values()):
            title += f" (the first {median(lambda f: f['rows']):.0f} rows)"
        cells = [title, data, f"{median(rate):,.0f}".replace(",", " ")]
        cells += [middle(ratios) if ratios and name != BASE else "", *(f"{median(lambda f: f[key]):.3f}" for key in ("open", "first"))]
        cells += [f"{median(lambda f: 1e6 * f['cpu'] / f['rows']):.2f}"]
        cells += [f"{median(lambda f: f[key] / 2**20):.0f}" for key in ("peak", "own")]
        cells += [f"{checked[run]['spread']:.2f}" if checked.get(run) else ""]
        print("| " + " | ".join(cells) + " |", flush=True)


def ratios(seen):
    """The comparisons that docs/performance.md quotes."""
    at = lambda name, data: seen.get((name, data, 0), {})  # noqa: E731
    pairs = [("stream / in order, " + data, at("stream", data), at(BASE, data)) for data in PARQUET]
    best = defaultdict(dict)
    for (name, _, _), rounds in seen.items():
        for r, found in rounds.items():
            if name in PEERS and rate(found) > (rate(best[r]) if best[r] else 0):
                best[r] = {**found, "name": name}
    names = ", ".join(sorted({found["name"] for found in best.values()}))
    pairs += [(f"stream / best shuffling peer ({names})", at("stream", "plain"), best)]
    pairs += [("torch's DataLoader over the stream / stream", at("stream-torch", "plain"), at("stream", "plain"))]
    pairs += [("global plan over mapped arrays / random rows of them", at("numpy-plan", "numpy"), at("numpy", "numpy"))]
    found = [(title, [rate(over[r]) / rate(under[r]) for r in over if r in under]) for title, over, under in pairs]
    if any(both for _, both in found):
        print("\n| rows/s in the same round | times |\n|---|---|")
    for title, both in found:
        if both:
            print(f"| {title} | {middle(both)} |")


def run(args, folder):
    readers, forms = args.readers.split(","), args.forms.split(",")
    threads = [int(n) for n in args.threads.split(",")]
    bench = Bench(args, folder)
    bench.make(readers, forms)
    checked, used = {}, defaultdict(set)
    for each in dict.fromkeys(each for n in threads for each in bench.runs(readers, forms, n)):
        if not args.no_check and each[0] not in bench.gone:
            checked[each] = bench.check(each, max(threads))
            note(used, checked[each])
    state = "cold (files dropped from the page cache)" if args.cold else "warm"
    for n in threads:
        seen = defaultdict(dict)
        for r in range(0 if args.check else args.rounds):
            for each in bench.runs(readers, forms, n):
                found = bench.measure("measure", each, n)
                note(used, found)
                if found:
                    seen[each][r] = found
                    bench.say(f"round {r + 1}, {n} thread(s), {describe(each)}: {rate(found):,.0f} rows/s")
        if seen:
            print(f"\n{args.rows} rows, batches of {args.batch}, {n} processor(s), {state}, medians of {args.rounds} round(s)\n")
            right = {each: rounds for each, rounds in seen.items() if each[0] not in bench.gone}
            table(right, checked)
            ratios(right)
    if args.check:
        print("| reader | data | rows | rows/s, with the check | spread |\n|---|---|---|---|---|")
        for each, found in checked.items():
            if found:
                cells = [describe(each), each[1], str(found["rows"]), f"{rate(found):.0f}", f"{found['spread']:.2f}"]
                print("| " + " | ".join(cells) + " |")
    print("\n" + ", ".join(f"{name} {' and '.join(sorted(versions))}" for name, versions in used.items()))
    for name, why in bench.gone.items():
        print(f"- left out: {name}, {why}")
    return 1 if args.check and any(found is None for found in checked.values()) else 0


def main():
    names = "\n".join(f"  {name:18} {reader.title} ({', '.join(reader.data)})" for name, reader in READERS.items())
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=f"readers:\n{names}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--threads", default="1,2", help="processors that a measurement may use, one table each")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--readers", default=",".join(READERS), help="of those below")
    parser.add_argument("--forms", default=",".join(PARQUET), help=f"of Parquet files: {', '.join(PARQUET)}")
    parser.add_argument("--cold", action="store_true", help="drop a reader's files from the page cache first; else they are in it")
    parser.add_argument("--budget", type=float, default=20, help="seconds after which an epoch is not read to its end")
    parser.add_argument("--check", action="store_true", help="only check every reader's rows; exit 1 if one is wrong")
    parser.add_argument("--no-check", action="store_true", help="only measure")
    parser.add_argument("--dir", type=pathlib.Path, help="keep the data here, and take what is there; about 17 KB a row")
    parser.add_argument("--python", action="append", default=[], metavar="NAME=PATH", help="another interpreter for readers that begin so")
    parser.add_argument("--plan-flags", default="", help="more flags for `batchwright plan`, such as `--modality-column label`")
    parser.add_argument("--json", help="append every measurement to this file, one a line")
    parser.add_argument("--quiet", action="store_true")
    args = parser.parse_args()
    unknown = [name for name in args.readers.split(",") if name not in READERS] + [f for f in args.forms.split(",") if f not in PARQUET]
    if unknown:
        parser.error(f"no reader or form `{unknown[0]}`")
    with tempfile.TemporaryDirectory() as temporary:
        folder = (args.dir or pathlib.Path(temporary)).resolve() / f"rows-{args.rows}"
        folder.mkdir(parents=True, exist_ok=True)
        return run(args, folder)


if __name__ == "__main__":
    sys.exit(main())
