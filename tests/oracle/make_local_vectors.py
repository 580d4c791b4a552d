"""Writes local.json, what tests/local.rs compares the Rust code with, from reference_locality.py.

    python tests/oracle/make_local_vectors.py        # needs numpy and scipy"""
import json
import pathlib

import numpy as np

import reference_locality as ref
from reference import mix64


def units(rng):
    """Row groups with gaps between them, so that neighbours do not always touch."""
    for case in range(60):
        rows = [int(x) for x in rng.choice([0, 1, 7, 100, 900, 5000], rng.integers(1, 12))]
        gaps = rng.integers(0, 2, len(rows)) * rng.integers(0, 50, len(rows))
        first = (np.cumsum([0] + rows[:-1]) + np.cumsum(gaps)).tolist()
        unit = int(rng.choice([1, 16, 300, 1000, 20000]))
        borders = sorted({int(x) for x in rng.integers(0, first[-1] + rows[-1] + 1, rng.choice([0, 1, 2, 40]))})
        f, n = ref.units_of(first, rows, unit, np.array(borders))
        yield dict(groups=list(zip(first, rows)), unit_rows=unit, borders=borders, first=f.tolist(), rows=n.tolist())


def orders(rng):
    for case in range(30):
        n, g = int(rng.integers(0, 60)), int(rng.integers(1, 9))
        counts = rng.integers(0, int(rng.choice([2, 30, 2000])), (n, g))
        yield dict(groups=g, counts=counts.ravel().tolist(), order=[int(x) for x in ref.alike(counts)] if n else [])


def dealings(rng):
    """Sparse tables, too; every stream has a multiple of k rows."""
    for case in range(60):
        s, h, k = int(rng.integers(1, 9)), int(rng.choice([1, 3, 12, 90])), int(rng.choice([1, 2, 3, 4, 7, 8, 13, 37, 64]))
        c = rng.integers(0, int(rng.choice([2, 5, 400])), (s, h)) * (rng.random((s, h)) < rng.choice([0.2, 1]))
        c[:, int(rng.integers(h))] += -c.sum(1) % k
        flip = int(rng.integers(1 << 63))
        out = ref.deal_round(c, k, flip)
        for b in {0, k // 2, k - 1}:
            x, before = ref.deal_one(c, k, b, flip)
            assert (x == out[b]).all() and (before == out[:b].sum(0)).all()
        q = [int(x) for x in (rng.random(s) * (c.sum(1) + 1)).astype(int)]
        yield dict(counts=c.tolist(), k=k, key=flip, digest=digest(out.ravel()), last=out[-1].tolist(), q=q, part=ref.part(c, q, flip).tolist())


def digest(numbers):
    d = 0
    for x in numbers:
        d = mix64(d ^ int(x))
    return d


def epochs(rng):
    for case in range(48):
        first, rows, stratum, h, b, streams, z = ref.random_case(rng, case)
        window, seed, epoch, drop = int(rng.choice([1, 2, 4])), int(rng.integers(1 << 62)), int(rng.integers(5)), bool(rng.random() < 0.2)
        e = ref.LocalEpoch(first, rows, stratum, h, b, streams, window, seed, epoch, z, drop_last=drop)
        group = rng.integers(0, max(1, h // 2), h)
        sizes = {}
        for k in (1, 2, 3):
            out = [e.batch(c, k).tolist() for c in range(-(-e.len // k))]
            sizes[str(k)] = out if len(stratum) < 150 else [digest(x) for x in out]
        yield dict(first=first.tolist(), rows=rows.tolist(), stratum=stratum.tolist(), strata=h, base=b, streams=streams, window=window, seed=seed, epoch=epoch,
                   drop_last=drop, merges=None if z is None else z.tolist(), order=[int(u) for u in e.order], rounds=e.rounds,
                   pieces=[[[list(map(int, p)) for p in t] for t in s] for s in e.parts] if len(stratum) < 400 else None, sizes=sizes, group=group.tolist(), report=told(e, group), plain=told(e))


def told(e, group=None):
    """What Rust reports: the rows of the units that a round opens, not their number."""
    opened = [sum(int(e.rows[u]) for s in range(e.s) for u in {u for u, _, _ in e.parts[s][t]}) for t in range(len(e.rounds))]
    return e.report(group) | dict(opened_rows=max(opened, default=0))


def main():
    drawn = dict(units=units, orders=orders, dealings=dealings, epochs=epochs)
    out = {k: list(f(np.random.default_rng(i))) for i, (k, f) in enumerate(drawn.items())}
    text = "{" + ",\n".join(f'"{k}": ' + "[\n" + ",\n".join(json.dumps(x, separators=(",", ":")) for x in v) + "\n]" for k, v in out.items()) + "}\n"
    (pathlib.Path(__file__).parent / "local.json").write_text(text)


if __name__ == "__main__":
    main()
