"""Other ways to find the number of clusters, on the datasets of the benchmark.

    pip install -r benches/modalities/requirements.txt
    python benches/modalities/peers.py --data DIR --out RESULTS.tsv          # fits; goes on where RESULTS.tsv ends
    python benches/modalities/peers.py --data DIR --out RESULTS.tsv --markdown   # only the table of what is there

Every Parquet file below DIR with an `embedding` and integer `label*` columns (`packages`: `section`; not in the averages) x
every peer x `--seeds` (5). As in benches/modalities.rs a fit sees at most 10 000 rows, chosen by the seed, and M, |log2(M /
true)|, NMI (arithmetic mean), ARI and seconds are of those rows; of several labellings the one with the best ARI counts; the
spread is the standard deviation of log2 M over the seeds, averaged over datasets. What every peer needs besides:

- A peer with a limit of rows (see PEERS) is fitted to that many of the 10 000; the rows left out, and the rows that a
  density method calls noise, get the cluster of the nearest clustered row before NMI and ARI. No cluster at all is M = 1.
- Density and mixture methods see the first 32 principal components where there are more dimensions, all else the data as
  they are. BIRCH's threshold is absolute, so it sees data divided by their standard deviation over all columns.
- Numbers of clusters that are swept: all up to 20, then 24, 28, ... 60, never above a quarter of the rows.
- A method that draws nothing at random, on a dataset it sees whole, is run once and counted as equal for all seeds.
- A fit runs in a process of its own with two threads (matrix products with one: on the small matrices of a mixture two were
  fifty times slower on a busy machine), for `--budget` seconds (30) at most. One that took longer or failed
  has no numbers and is left out of the averages; the table says how many did finish.
"""

import argparse
import math
import multiprocessing
import os
import pathlib
import time
import warnings

# Read when the libraries are loaded. Threads that wait must not spin: the machine may have other work.
THREADS = 2
os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"), str(THREADS))
os.environ["OMP_WAIT_POLICY"] = "passive"

import numpy as np
import pyarrow.parquet as pq
from scipy.spatial import cKDTree

ROWS = 10_000
GRID = [*range(1, 21), *range(24, 61, 4)]


def sweep(n, start):
    return [k for k in GRID if start <= k <= max(start, n // 4)]


def kmeans(x, k, seed, n_init=1):
    from sklearn.cluster import KMeans

    return KMeans(k, n_init=n_init, random_state=seed).fit(x)


def silhouette(x, labels, seed):
    """On at most 2 000 rows; -1 where it is not defined."""
    from sklearn.metrics import silhouette_score

    rows = np.random.default_rng(seed).permutation(len(x))[:2000]
    if not 1 < len(np.unique(labels[rows])) < len(rows):
        return -1.0
    return silhouette_score(x[rows], labels[rows])


def kmeans_silhouette(x, seed):
    fits = [kmeans(x, k, seed).labels_ for k in sweep(len(x), 2)]
    return max(fits, key=lambda labels: silhouette(x, labels, seed))


def kmeans_gap(x, seed):
    """Tibshirani, Walther & Hastie 2001: five uniform references in the box along the principal axes."""
    r = np.random.default_rng(seed)
    middle = x.mean(0)
    axes = np.linalg.svd(x - middle, full_matrices=False)[2]
    z = (x - middle) @ axes.T
    references = [r.uniform(z.min(0), z.max(0), z.shape) for _ in range(5)]
    before = None
    for k in sweep(len(x), 1):
        fit = kmeans(x, k, seed, 3)
        logs = np.log([kmeans(u, k, seed).inertia_ for u in references])
        gap, s = logs.mean() - math.log(fit.inertia_), logs.std() * math.sqrt(1 + 1 / len(logs))
        if before is not None and before[0] >= gap - s:
            return before[1]
        before = gap, fit.labels_
    return before[1]


def gaussian_mixture_bic(x, seed):
    """Full covariances; the sweep ends when five numbers in a row were no better."""
    from sklearn.mixture import GaussianMixture

    best, since = (math.inf, None), 0
    for k in sweep(len(x), 1):
        fit = GaussianMixture(k, random_state=seed, reg_covar=1e-6 * x.var()).fit(x)
        bic = fit.bic(x)
        best, since = ((bic, fit), 0) if bic < best[0] else (best, since + 1)
        if since == 5:
            break
    return best[1].predict(x)


def bayesian_mixture(x, seed):
    """Dirichlet process prior, 60 components; those count that are the likeliest of any row and weigh more than 1 / n."""
    from sklearn.mixture import BayesianGaussianMixture

    fit = BayesianGaussianMixture(
        n_components=max(1, min(60, len(x) // 4)), random_state=seed, reg_covar=1e-6 * x.var()
    ).fit(x)
    p = fit.predict_proba(x)
    p[:, fit.weights_ <= 1 / len(x)] = 0
    return p.argmax(1)


def hdbscan(x, seed):
    from sklearn.cluster import HDBSCAN

    return HDBSCAN(min_cluster_size=15, copy=True).fit_predict(x)


def dbscan(x, seed):
    """At least 2 d rows (64 at most), eps at the knee of the sorted distances to that neighbour (Ester et al. 1996)."""
    from sklearn.cluster import DBSCAN
    from sklearn.neighbors import NearestNeighbors

    least = min(2 * x.shape[1], 64, len(x) // 2)
    far = np.sort(NearestNeighbors(n_neighbors=least).fit(x).kneighbors()[0][:, -1])
    line = np.linspace(far[0], far[-1], len(far))
    return DBSCAN(eps=max(far[(line - far).argmax()], 1e-9), min_samples=least).fit_predict(x)


def optics(x, seed):
    from sklearn.cluster import OPTICS

    return OPTICS(min_samples=15).fit_predict(x)


def mean_shift(x, seed):
    from sklearn.cluster import MeanShift, estimate_bandwidth

    width = estimate_bandwidth(x, n_samples=500, random_state=seed)
    return MeanShift(bandwidth=width, bin_seeding=x.shape[1] <= 3).fit_predict(x)


def affinity_propagation(x, seed):
    from sklearn.cluster import AffinityPropagation

    return AffinityPropagation(random_state=seed).fit_predict(x)


def birch(x, seed):
    from sklearn.cluster import Birch

    return Birch(n_clusters=None).fit_predict(x / x.std())


def pyclustering_labels(process, n):
    process.process()
    labels = np.full(n, -1)
    for c, rows in enumerate(process.get_clusters()):
        labels[rows] = c
    return labels


def x_means(x, seed):
    from pyclustering.cluster.center_initializer import kmeans_plusplus_initializer
    from pyclustering.cluster.xmeans import xmeans

    start = kmeans_plusplus_initializer(x, 2, random_state=seed).initialize()
    return pyclustering_labels(xmeans(x.tolist(), start, kmax=60, random_state=seed), len(x))


def g_means(x, seed):
    from pyclustering.cluster.gmeans import gmeans

    return pyclustering_labels(gmeans(x.tolist(), k_init=1, k_max=60, random_state=seed), len(x))


def finch(x, seed):
    """The level with the best silhouette, up to 60 clusters."""
    from finch import FINCH

    levels = FINCH(x.astype(np.float32), distance="euclidean", verbose=False)[0].T
    fits = [level for level in levels if len(np.unique(level)) <= 60]
    return max(fits, key=lambda labels: silhouette(x, labels, seed)) if fits else levels[-1]


# name: function, rows at most, random, principal components at most
PEERS = {
    "kmeans-silhouette": (kmeans_silhouette, ROWS, True, None),
    "kmeans-gap": (kmeans_gap, 2000, True, None),
    "gaussian-mixture-bic": (gaussian_mixture_bic, 4000, True, 32),
    "bayesian-mixture": (bayesian_mixture, 4000, True, 32),
    "hdbscan": (hdbscan, ROWS, False, 32),
    "dbscan": (dbscan, ROWS, False, 32),
    "optics": (optics, 2500, False, 32),
    "mean-shift": (mean_shift, 1000, True, None),
    "affinity-propagation": (affinity_propagation, 1000, True, None),
    "birch": (birch, ROWS, False, None),
    "x-means": (x_means, ROWS, True, None),
    "g-means": (g_means, 2500, True, None),
    "finch-silhouette": (finch, ROWS, True, None),
}


def components(x, most):
    if most is None or x.shape[1] <= most:
        return x
    from sklearn.decomposition import PCA

    return PCA(most, svd_solver="covariance_eigh").fit_transform(x)


def score(m, found, classes):
    """(classes, |log2|, NMI, ARI) as benches/modalities/agreement.rs."""
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    k = len(np.unique(classes))
    return k, abs(math.log2(m / k)), normalized_mutual_info_score(classes, found), adjusted_rand_score(classes, found)


def fit(peer, x, truths, seed, pipe):
    from threadpoolctl import threadpool_limits

    warnings.filterwarnings("ignore")
    np.warnings = warnings  # pyclustering asks numpy for it
    method, rows, _, most = PEERS[peer]
    with threadpool_limits({"blas": 1, "openmp": THREADS}):
        start = time.perf_counter()
        z = components(x, most)
        chosen = np.random.default_rng([seed, 1]).permutation(len(z))[:rows] if len(z) > rows else np.arange(len(z))
        labels = np.full(len(z), -1)
        labels[chosen] = method(np.ascontiguousarray(z[chosen]), seed)
        clustered = labels >= 0
        m = max(1, len(np.unique(labels[clustered])))
        if not clustered.any():
            labels[:] = 0
        elif not clustered.all():
            labels[~clustered] = labels[clustered][cKDTree(z[clustered]).query(z[~clustered], workers=THREADS)[1]]
        seconds = time.perf_counter() - start
        pipe.send((m, *max((score(m, labels, t) for t in truths), key=lambda s: s[3]), seconds))


def libraries():
    """Loads them before the first fit, so that no fit's seconds hold it."""
    import finch  # noqa: F401
    import pyclustering.cluster.gmeans
    import pyclustering.cluster.xmeans  # noqa: F401
    import sklearn.cluster
    import sklearn.decomposition
    import sklearn.metrics
    import sklearn.mixture  # noqa: F401


def limited(budget, *args):
    """What `fit` sends, or why it sent nothing."""
    here, there = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=fit, args=(*args, there))
    process.start()
    there.close()
    try:
        return here.recv() if here.poll(budget) else "timeout"
    except EOFError:
        return "failed"
    finally:
        process.kill()
        process.join()


def load(path):
    t = pq.read_table(path)
    x = t["embedding"].combine_chunks()
    x = x.flatten().to_numpy(zero_copy_only=False).reshape(len(x), -1).astype(np.float64)
    names = [c for c in t.column_names if c.startswith("label") or c == "section"]
    return x, [np.unique(t[c].to_numpy(), return_inverse=True)[1] for c in names]


HEAD = ["dataset", "peer", "seed", "M", "true", "log2", "NMI", "ARI", "seconds", "rows"]


def run(args, files):
    libraries()
    done = set()
    if args.out.exists():
        done = {tuple(line.split("\t")[:3]) for line in args.out.read_text().splitlines()}
    with args.out.open("a", buffering=1) as out:
        if not done:
            print(*HEAD, sep="\t", file=out)
        for seed in range(args.seeds):
            for path in files:
                name = path.stem
                left = [p for p in args.peers if (name, p, str(seed)) not in done]
                if not left:
                    continue
                all_x, all_truths = load(path)
                n = len(all_x)
                rows = np.sort(np.random.default_rng(seed).permutation(n)[:ROWS])
                x, truths = all_x[rows], [t[rows] for t in all_truths]
                for peer in left:
                    _, limit, random, _ = PEERS[peer]
                    if seed > 0 and not random and n <= limit:
                        continue
                    got = limited(args.budget, peer, x, truths, seed)
                    if isinstance(got, str):
                        print(name, peer, seed, got, *"-----", len(x), sep="\t", file=out)
                    else:
                        m, true, log2, nmi, ari, seconds = got
                        numbers = f"{log2:.3f}\t{nmi:.3f}\t{ari:.3f}\t{seconds:.2f}"
                        print(name, peer, seed, m, true, numbers, len(x), sep="\t", file=out)


def table(args, files):
    """Averages over datasets of averages over seeds."""
    names = {p.stem for p in files if p.stem != "packages"}
    fits = {}
    for line in args.out.read_text().splitlines()[1:]:
        name, peer, _, *values = line.split("\t")
        if name in names:
            fits.setdefault(peer, {}).setdefault(name, []).append(values)
    rows = []
    for peer in args.peers:
        averages, asked, finished = [], 0, 0
        for runs in fits.get(peer, {}).values():
            good = np.array([[float(v) for v in r[:6]] for r in runs if r[0].isdigit()])
            asked, finished = asked + len(runs), finished + len(good)
            if len(good):
                # A single run says nothing about the spread, unless it is one that no seed changes.
                _, limit, random, _ = PEERS[peer]
                fixed = not random and int(runs[0][-1]) <= min(limit, ROWS - 1)
                spread = np.log2(good[:, 0]).std() if fixed or len(good) > 1 else math.nan
                averages.append([*good[:, 2:5].mean(0), spread, good[:, 5].mean()])
        if averages:
            with warnings.catch_warnings(action="ignore"):
                rows.append((peer, *np.nanmean(averages, axis=0), len(averages), f"{finished} of {asked}"))
    rows.sort(key=lambda r: r[1])
    head = ["", "abs. log2 error", "NMI", "ARI", "spread", "seconds a fit", "datasets", "fits finished"]
    start, gap, end = ("| ", " | ", " |") if args.markdown else ("", "\t", "")
    print(start + gap.join(head) + end)
    if args.markdown:
        print("|" + "---|" * len(head))
    for peer, log2, nmi, ari, spread, seconds, sets, finished in rows:
        spread = "-" if math.isnan(spread) else f"{spread:.2f}"
        cells = [peer, f"{log2:.2f}", f"{nmi:.3f}", f"{ari:.3f}", spread, f"{seconds:.1f}", str(sets), finished]
        print(start + gap.join(cells) + end)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--data", type=pathlib.Path, required=True)
    p.add_argument("--out", type=pathlib.Path, required=True, help="tab-separated results, added to")
    p.add_argument("--seeds", type=int, default=5)
    p.add_argument("--budget", type=float, default=30, help="seconds a fit")
    p.add_argument("--peers", type=lambda s: s.split(","), default=list(PEERS))
    p.add_argument("--only", default="", help="datasets whose name contains it")
    p.add_argument("--markdown", action="store_true", help="no fits, only the table, as Markdown")
    args = p.parse_args()
    files = [f for f in sorted(args.data.rglob("*.parquet")) if args.only in f.stem]
    if not args.markdown:
        run(args, files)
    table(args, files)


if __name__ == "__main__":
    main()
