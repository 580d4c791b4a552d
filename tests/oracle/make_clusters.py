"""Writes clusters.json, what the unit tests of the estimators hdbscan and unimodality-forest compare with: the labels of
scikit-learn's HDBSCAN, and the dip of samples by its definition, a linear program.

    python tests/oracle/make_clusters.py        # needs numpy, scipy and scikit-learn"""
import json
import pathlib

import numpy as np
from scipy.optimize import linprog
from sklearn.cluster import HDBSCAN


def hdbscan(rng):
    """Whole numbers, so that both sides see the same; `least` is min_cluster_size and min_samples."""
    angle = rng.uniform(0, np.pi, 150)
    moons = np.r_[np.c_[np.cos(angle), np.sin(angle)], np.c_[1 - np.cos(angle), 0.5 - np.sin(angle)]] * 1000
    sets = [
        (moons + rng.normal(0, 60, moons.shape), 8),
        (np.r_[rng.normal(0, 100, (120, 3)), rng.normal(700, 300, (120, 3)), rng.normal([0, 900, 0], 40, (60, 3)), rng.uniform(-2000, 3000, (40, 3))], 15),
        (rng.normal(0, 1000, (250, 2)), 15),
        (np.r_[[rng.normal(c, 120, (25, 6)) for c in rng.normal(0, 600, (9, 6))]].reshape(-1, 6), 10),
        (rng.standard_t(2, (220, 4)) * 300 + rng.choice([0, 4000], (220, 1)), 15),
    ]
    for x, least in sets:
        x = x.round().astype(int)
        labels = HDBSCAN(min_cluster_size=least, min_samples=least, copy=True).fit_predict(x.astype(float))
        yield dict(dims=x.shape[1], least=least, points=x.ravel().tolist(), labels=labels.tolist())


def dip(x):
    """min over unimodal U of max |F_n - U|. For every place m of the mode: values of U at the sample (u_m twice, before and
    after a jump at the mode), convex before it and concave after it, within D of F_n on both sides of each of its steps."""
    n, best = len(x), 1.0
    for m in range(n):
        # u_0 .. u_m (before the jump), v_m .. v_{n-1}, D
        size = n + 2
        u, v, d = (lambda i: i), (lambda i: i + 1), n + 1
        a, b = [], []

        def at_most(terms, limit):
            row = np.zeros(size)
            for i, w in terms:
                row[i] += w
            a.append(row)
            b.append(limit)

        for i in range(n):
            # Just before x_i the sample stands at i / n, at x_i at (i + 1) / n.
            before, after = (u(i) if i <= m else v(i)), (u(i) if i < m else v(i))
            at_most([(before, 1), (d, -1)], i / n)
            at_most([(before, -1), (d, -1)], -i / n)
            at_most([(after, 1), (d, -1)], (i + 1) / n)
            at_most([(after, -1), (d, -1)], -(i + 1) / n)
        at_most([(u(m), 1), (v(m), -1)], 0)
        for i in range(1, m + 1):
            at_most([(u(i - 1), 1), (u(i), -1)], 0)
        for i in range(m, n - 1):
            at_most([(v(i), 1), (v(i + 1), -1)], 0)
        for i in range(1, m):
            # slope before i <= slope after i
            p, q = x[i] - x[i - 1], x[i + 1] - x[i]
            at_most([(u(i), q), (u(i - 1), -q), (u(i + 1), -p), (u(i), p)], 0)
        for i in range(m + 1, n - 1):
            p, q = x[i] - x[i - 1], x[i + 1] - x[i]
            at_most([(v(i), -q), (v(i - 1), q), (v(i + 1), p), (v(i), -p)], 0)
        cost = np.zeros(size)
        cost[d] = 1
        got = linprog(cost, np.array(a), np.array(b), bounds=[(0, 1)] * (n + 1) + [(0, None)])
        best = min(best, got.fun)
    return best


def dips(rng):
    for n in (2, 3, 4, 5, 7, 10, 15, 24):
        for kind in range(4):
            x = [rng.uniform(0, 1, n), rng.normal(0, 1, n), rng.normal(0, 1, n) + 4 * (np.arange(n) % 2), rng.exponential(1, n)][kind]
            x = np.unique(x.round(3))
            yield dict(x=x.tolist(), dip=dip(x))


def main():
    rng = np.random.default_rng(5)
    out = dict(hdbscan=list(hdbscan(rng)), dip=list(dips(rng)))
    path = pathlib.Path(__file__).parent / "clusters.json"
    path.write_text(json.dumps(out, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
