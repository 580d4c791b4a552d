"""Writes composition.json, what tests/composition.rs compares the Rust code with, from reference_composition.py.

    python tests/oracle/make_composition_vectors.py        # needs numpy"""
import json
import pathlib

import numpy as np

from reference import EpochPlan, draws, mix64
from reference_composition import Deal


def tree(m, rng):
    """A random dendrogram of m leaves."""
    nodes, z = list(range(m)), []
    while len(nodes) > 1:
        a, b = sorted(rng.choice(len(nodes), 2, replace=False))
        r, l = nodes.pop(b), nodes.pop(a)
        z.append([l, r, len(z), 0])
        nodes.append(m + len(z) - 1)
    return z or None


def case(rng, most):
    """Random strata: few or many, even or skewed, one, tiny."""
    m = int(rng.choice([1, 2, 3, 7, 20, 60]))
    n = int(rng.integers(m, most))
    lab = np.concatenate([np.arange(m), rng.choice(m, n - m, p=rng.dirichlet(np.full(m, rng.choice([0.1, 0.5, 1, 10]))))])
    rng.shuffle(lab)
    return [np.flatnonzero(lab == h) for h in range(m)], tree(m, rng) if rng.random() < 0.7 else None


def divisors(n):
    return [d for d in range(1, n + 1) if n % d == 0]


def digest(numbers):
    d = 0
    for x in numbers:
        d = mix64(d ^ int(x))
    return d


def told(members, z, deal, sizes=(1, 2, 3)):
    """A vector: what a deal is made of, and its batches, those of many rows as digests."""
    many = sum(map(len, members)) > 150
    out = {str(k): [digest(b) if many else b.tolist() for b in (deal.batch(i, k) for i in range(deal.batches(k)))] for k in sizes}
    sized = [len(x) for x in members]
    return dict(members=[x.tolist() for x in members], merges=z, base=deal.B, chunk=deal.c, seed=deal.seed, epoch=deal.epoch, drop_last=deal.len == deal.nb,
                counts=None if deal.nh == sized else deal.nh, sizes=out)


def chunks(rng):
    for _ in range(120):
        members, z = case(rng, 400)
        n = sum(map(len, members))
        b = int(rng.integers(1, n + 5))
        c = int(rng.choice(divisors(b)))
        counts = draws([len(x) for x in members], float(rng.choice([0, 0.5, 1.3]))) if rng.random() < 0.25 else None
        seed, epoch, drop = int(rng.integers(1 << 60)), int(rng.integers(5)), bool(rng.random() < 0.2)
        deal = Deal(members, b, seed, epoch, z, drop, counts, c)
        if c == 1:
            old = EpochPlan(members, b, seed, epoch, z, drop, counts)
            assert all((old.batch(i, k) == deal.batch(i, k)).all() for k in (1, 2) for i in range(old.batches(k)))
        yield told(members, z, deal)
    # The worked example of the documents.
    members = [np.arange(0, 200), np.arange(200, 300), np.arange(300, 800), np.arange(800, 850), np.arange(850, 1000)]
    for c in (8, 48):
        yield told(members, None, Deal(members, 48, 42, 0, chunk=c), (1, 2))


def main():
    drawn = dict(chunks=chunks)
    out = {k: list(f(np.random.default_rng(i))) for i, (k, f) in enumerate(drawn.items())}
    text = "{" + ",\n".join(f'"{k}": ' + "[\n" + ",\n".join(json.dumps(x, separators=(",", ":")) for x in v) + "\n]" for k, v in out.items()) + "}\n"
    (pathlib.Path(__file__).parent / "composition.json").write_text(text)


if __name__ == "__main__":
    main()
