"""Assigning, k-means and dealing: batchwright beside faiss, scikit-learn, numpy and mosaicml-streaming, in one run.

    pip install -r benches/peers/requirements.txt
    python benches/peers/kernels.py                       # everything, one thread
    python benches/peers/kernels.py --only assign,deal --threads 2

Every measurement is a process of its own that reads its data first; programs take turns, --rounds (5) times over; medians.
`extra` is the memory that a program held at most beyond what it held with its data read (Linux).

- assign: --rows (1 000 000) rows of 384 `f32` to the nearest of k = 64, 256, 1024 of them. Beside `faiss.IndexFlatL2.search(x, 1)`;
  labels may differ where two centres are equally far in `f32` (the share that agrees is printed).
- kmeans: 262 144 of these rows, k = 256. scikit-learn's `KMeans(n_init=1)` (lloyd, 20 iterations at most), `faiss.Kmeans` of all rows and
  as it is by default, both of 20 iterations; ours of 20 and of 2 steps on the part that it trains on. `inertia` is of all rows.
- limits: what the machine does at most: numpy's matrix product of 4096 x 4096 `f32`, and copying 400 MB of memory.
- deal: an epoch of 100 000 000 rows in batches of 256, 50 strata of Zipf(1.1) sizes, batch after batch as samplers hand them
  out. The rows of the strata are in large pages, as numpy asks for its arrays; `small pages` are what the file of a plan is
  mapped in. `one array`: the batches are put into one (400 MB; numpy's has 800), whose memory is new, as numpy's is.
  numpy's and mosaicml-streaming's permutations know no strata.

The rows are a mixture of 300 Gaussians in 96 dimensions with shares 1 / rank^1.1, around 20 centres, mapped to 384, with noise, of
length 1: clustered, but not apart.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
from shared import benchmark

DIMS, ROWS_KMEANS, K = 384, 262_144, 256
DEALT, STRATA, BATCH = 100_000_000, 50, 256


def make(folder, rows):
    random = np.random.default_rng(0)
    latent = random.normal(size=(96, DIMS)).astype("f4") / np.sqrt(96)
    around = random.normal(size=(20, 96)).astype("f4") * 2
    centers = around[random.integers(0, 20, 300)] + random.normal(size=(300, 96)).astype("f4")
    share = 1 / np.arange(1, 301) ** 1.1
    with open(folder / "rows.f32", "wb") as file:
        for first in range(0, rows, 100_000):
            n = min(100_000, rows - first)
            z = centers[random.choice(300, n, p=share / share.sum())] + random.normal(size=(n, 96)).astype("f4") * 0.7
            x = z @ latent + random.normal(size=(n, DIMS)).astype("f4") * 0.1
            (x / np.linalg.norm(x, axis=1, keepdims=True)).astype("f4").tofile(file)
    x = np.memmap(folder / "rows.f32", "f4", "r", shape=(rows, DIMS))
    for k in (64, 256, 1024):
        np.array(x[random.choice(rows, k, replace=False)]).tofile(folder / f"centers{k}.f32")
    np.array(x[:ROWS_KMEANS]).tofile(folder / "some.f32")


def status(name):
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024


def one(what, folder, threads):
    """One measurement of a peer, in this process."""
    name, *rest = what.split(":")
    read = lambda file: np.fromfile(folder / file, "f4").reshape(-1, DIMS)
    more = {}
    if name == "faiss-assign":
        import faiss

        x, index = read("rows.f32"), faiss.IndexFlatL2(DIMS)
        index.add(read(f"centers{rest[0]}.f32"))
        faiss.omp_set_num_threads(threads)
        work = lambda: index.search(x, 1)[1][:, 0].astype("u4").tofile(folder / "peer.u32")
    elif name == "faiss-kmeans":
        import faiss

        x = read("some.f32")
        faiss.omp_set_num_threads(threads)
        options = {"max_points_per_centroid": len(x)} if rest[0] == "all" else {}
        found = faiss.Kmeans(DIMS, K, niter=20, seed=1, **options)
        work = lambda: found.train(x)
    elif name == "sklearn-kmeans":
        from sklearn.cluster import KMeans
        from threadpoolctl import threadpool_limits

        x = read("some.f32")

        def work():
            with threadpool_limits(threads):
                more["inertia"] = float(KMeans(K, n_init=1, max_iter=20, random_state=1).fit(x).inertia_)

    elif name == "numpy-product":
        from threadpoolctl import threadpool_limits

        x = np.ones((4096, 4096), "f4")

        def work():
            with threadpool_limits(threads):
                x @ x

    elif name == "numpy-copy":
        x = np.ones(100_000_000, "f4")
        y = np.zeros_like(x) + 1
        work = lambda: np.copyto(y, x)
    elif name == "numpy-deal":
        work = lambda: np.random.default_rng(1).permutation(DEALT)
    elif name == "streaming-deal":
        from streaming.base.shuffle import get_shuffle

        shards = np.full(DEALT // 100_000, 100_000, "i8")
        work = lambda: get_shuffle("py1s", shards, 1, 1, 0, 1 << 18)
    else:
        sys.exit(f"no peer `{name}`")
    # The peak so far is that of reading.
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    before, start = status("VmRSS"), time.perf_counter()
    work()
    seconds = time.perf_counter() - start
    extra = status("VmHWM") - before
    if name == "faiss-kmeans":
        more["inertia"] = float(found.index.search(x, 1)[0].sum())
    return {"seconds": seconds, "extra": extra, "more": more}


def compare(programs, rounds):
    """Medians of every program; they take turns. A program that fails is left out, and said to be."""
    seen = {name: [] for name in programs}
    for _ in range(rounds):
        for name, command in programs.items():
            done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            if done.returncode:
                print(f"{name}: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
            else:
                seen[name].append(json.loads(done.stdout.splitlines()[-1]))
    median = lambda all, key: statistics.median(m[key] for m in all)
    return {
        name: {"seconds": median(all, "seconds"), "extra": median(all, "extra"), "more": all[-1]["more"]}
        for name, all in seen.items()
        if all
    }


def table(what, ours, found, note=lambda name: ""):
    for name, m in found.items():
        ratio = m["seconds"] / found[ours]["seconds"]
        inertia = f"{m['more']['inertia']:.0f}" if "inertia" in m["more"] else ""
        cells = [what, name, f"{m['seconds']:.3f}", f"**{ratio:.2f}**", f"{m['extra'] / 2**20:.0f}", inertia or note(name)]
        print("| " + " | ".join(cells) + " |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="limits,assign,kmeans,deal")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--simd", default="auto", help="widest vectors that batchwright uses (batchwright plan --help)")
    parser.add_argument("--slow", action="store_true", help="scikit-learn too: a minute a round")
    parser.add_argument("--dir", help="where the data is written (3 GB)")
    parser.add_argument("--cargo", default="", help="flags for cargo, such as --no-default-features")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(one(args.one, pathlib.Path(args.dir), args.threads)))
        return
    only = args.only.split(",")
    program = benchmark("peers", args.cargo.split())
    with tempfile.TemporaryDirectory(dir=args.dir) as folder:
        folder = pathlib.Path(folder)
        if {"assign", "kmeans"} & set(only):
            make(folder, args.rows)
        threads = ["--threads", args.threads]
        own = [*threads, "--simd", args.simd]
        peer = lambda what: [sys.executable, __file__, "--one", what, "--dir", folder, *threads]
        print(f"{args.threads} thread(s), medians of {args.rounds}\n")
        print("| | program | seconds | times ours | extra MiB | |\n|---|---|---|---|---|---|")
        if "limits" in only:
            found = compare({"product": peer("numpy-product"), "copy": peer("numpy-copy")}, args.rounds)
            rate = 2 * 4096**3 / found["product"]["seconds"] / 1e9
            print(f"| limits | numpy product | {found['product']['seconds']:.3f} | | | {rate:.0f} GFLOP/s |")
            print(f"| limits | numpy copy | {found['copy']['seconds']:.3f} | | | {0.4 / found['copy']['seconds']:.1f} GB/s |", flush=True)
        if "assign" in only:
            for k in (64, 256, 1024):
                command = [program, "assign", folder / "rows.f32", DIMS, folder / f"centers{k}.f32", *own]
                ours = [*command, "--out", folder / "ours.u32"]
                found = compare({"batchwright": ours, "faiss flat": peer(f"faiss-assign:{k}")}, args.rounds)
                labels = [np.fromfile(folder / f"{who}.u32", "u4") for who in ("ours", "peer")]
                flops = 2 * args.rows * k * DIMS / found["batchwright"]["seconds"] / 1e9
                note = f"{flops:.0f} GFLOP/s, {np.mean(labels[0] == labels[1]):.6f} agree"
                table(f"assign, k = {k}", "batchwright", found, lambda name: note if name == "batchwright" else "")
        if "kmeans" in only:
            ours = [program, "kmeans", folder / "some.f32", DIMS, K, *own]
            programs = {"batchwright": ours, "batchwright, 2 steps": [*ours, "--steps", 2]}
            programs |= {"faiss, all rows": peer("faiss-kmeans:all"), "faiss, default": peer("faiss-kmeans:some")}
            if args.slow:
                programs["scikit-learn"] = peer("sklearn-kmeans")
            table("k-means", "batchwright", compare(programs, args.rounds))
        if "deal" in only:
            ours = [program, "deal", DEALT, STRATA, BATCH, *own]
            # numpy asks for large pages for its arrays.
            large = [*ours, "--large-pages"]
            programs = {"batchwright": large, "batchwright, small pages": ours}
            programs["batchwright, one array"] = [*large, "--array"]
            programs["numpy permutation"] = peer("numpy-deal")
            programs["mosaicml-streaming py1s"] = peer("streaming-deal")
            found = compare(programs, args.rounds)
            large = {name: m["more"]["large"] >> 20 for name, m in found.items() if m["more"].get("large")}
            table("deal", "batchwright", found, lambda name: f"{large[name]} MiB in large pages" if name in large else "")


if __name__ == "__main__":
    main()
