"""Writes splits.json, what tests/splits.rs compares the Rust code with, from reference_splits.py.

    python tests/oracle/make_splits_vectors.py        # needs numpy"""
import json
import pathlib

import numpy as np

from reference import key
from reference_splits import NONE, components, leaks, purged, round_table, split_by_time, split_rows, totals




def shares(rng, splits):
    q = rng.integers(1, 10, splits)
    return [(int(v), int(q.sum())) for v in q]


def tables(rng):
    for i in range(150):
        h, s = int(rng.integers(1, 30)), int(rng.integers(2, 9))
        rows = rng.integers(1, 40, h)
        n = int(rows.sum())
        t = totals(n, shares(rng, s))
        if i % 5 == 4:  # sums of columns that are not whole
            u = int(rng.integers(2, 50))
            a = [[int(x) for x in rng.multinomial(int(r) * u, rng.dirichlet(np.ones(s)))] for r in rows]
        else:
            u, a = n, [[int(r) * x for x in t] for r in rows]
        yield dict(a=a, unit=u, key=key(i, 3), table=round_table(a, u, key(i, 3)).tolist())


def dealt(rng):
    for i in range(200):
        n, h, s = int(rng.integers(8, 400)), int(rng.integers(1, 20)), int(rng.integers(2, 6))
        stratum = rng.choice(h, n, p=rng.dirichlet(np.ones(h)))
        stratum = np.where(rng.random(n) < 0.1, NONE, stratum)
        label = rng.choice(4, n, p=[0.6, 0.2, 0.15, 0.05]) if rng.random() < 0.5 else None
        group = components(n, rng.integers(0, n, (int(rng.integers(0, n // 2 + 1)), 2))) if rng.random() < 0.6 else None
        q = shares(rng, s)
        old = None
        if rng.random() < 0.4:
            first, _ = split_rows(stratum, q, i, group=group, label=label)
            old = np.where(rng.random(n) < 0.5, first, NONE)
        split, total = split_rows(stratum, q, i, group=group, label=label, old=old)
        told = lambda x: None if x is None else x.tolist()
        yield dict(stratum=stratum.tolist(), label=told(label), group=told(group), old=told(old), seed=i, totals=total, split=told(split))


def times(rng):
    for _ in range(60):
        n, s, gap = int(rng.integers(5, 200)), int(rng.integers(2, 5)), int(rng.integers(0, 6))
        t = rng.integers(0, 40, n).astype(float)
        t[rng.random(n) < 0.1] = np.nan
        q = shares(rng, s)
        split = split_by_time(t, q, gap)
        yield dict(time=[None if np.isnan(x) else int(x) for x in t], gap=gap, totals=totals(int((~np.isnan(t)).sum()), q), split=split.tolist())


def leaking(rng):
    for _ in range(60):
        n, s = int(rng.integers(4, 80)), int(rng.integers(2, 5))
        group = components(n, rng.integers(0, n, (n // 3, 2)))
        split = rng.integers(0, s, n)
        split[rng.integers(0, n, 2)] = NONE
        yield dict(group=group.tolist(), split=split.tolist(), splits=s, leaks=[0] + [a for a, _ in leaks(split, group)], purged=purged(split, group).tolist())


if __name__ == "__main__":
    rng = np.random.default_rng(7)
    out = dict(tables=list(tables(rng)), dealt=list(dealt(rng)), times=list(times(rng)), leaking=list(leaking(rng)))
    pathlib.Path(__file__).with_name("splits.json").write_text(json.dumps(out, separators=(",", ":")) + "\n")
