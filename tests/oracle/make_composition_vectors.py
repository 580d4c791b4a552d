"""Writes composition.json, what tests/composition.rs compares the Rust code with, from reference_composition.py.

    python tests/oracle/make_composition_vectors.py        # needs numpy"""
import json
import pathlib

import numpy as np

from reference import EpochPlan, draws, mix64
from reference_composition import Deal, NoDuplicates, Sizes, per_label_counts, quantile_bin, quantile_edges, rarest_label


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


def keyed(rng, members, b):
    """Keys of rows: pairs, users, neighbours, one that nearly all have, as many rows as there are batches, several of a row."""
    n = sum(map(len, members))
    kind, keys = str(rng.choice(["pairs", "users", "inside", "huge", "tight", "several"])), np.full(n, -1)
    if kind == "pairs":
        p = rng.permutation(n)[: n // 3 * 2]
        keys[p] = np.arange(len(p)) // 2
    elif kind == "users":
        keys = rng.integers(0, max(1, n // int(rng.choice([3, 10]))), n)
    elif kind == "inside":
        group = 0
        for x in members:
            for i in range(0, len(x) - 3, 4):
                keys[x[i : i + int(rng.integers(2, 5))]] = group
                group += 1
    elif kind == "huge":
        keys[rng.permutation(n)[: n // 2]] = 0
    elif kind == "tight":
        keys = np.arange(n) // max(1, n // b)
    else:
        values = max(1, n // 2)
        return {r: sorted({int(k) for k in rng.integers(0, values, int(rng.integers(1, 4)))}) for r in range(n)}
    return {r: [int(k)] for r, k in enumerate(keys) if k >= 0}


def duplicates(rng):
    for _ in range(160):
        members, z = case(rng, 250)
        n = sum(map(len, members))
        b = int(rng.integers(1, max(2, min(n + 3, 60))))
        c = int(rng.choice(divisors(b))) if rng.random() < 0.4 else 1
        counts = draws([len(x) for x in members], 0.5) if rng.random() < 0.15 else None
        multiples = [(1,), (1, 2), (1, 2, 4), (1, 3)][int(rng.integers(4))]
        deal = Deal(members, b, int(rng.integers(1 << 60)), int(rng.integers(4)), z, bool(rng.random() < 0.2), counts, c)
        keys = keyed(rng, members, b)
        s = NoDuplicates(deal, keys, multiples)
        most = [s.most(1), s.most(max(k for k in multiples if k <= max(1, deal.nb)))]
        yield told(members, z, deal) | dict(keys=sorted(keys.items()), multiples=multiples, made=s.exchanged, chains=s.chains, most=most)
    members = [np.arange(0, 200), np.arange(200, 300), np.arange(300, 800), np.arange(800, 850), np.arange(850, 1000)]
    deal = Deal(members, 48, 42, 0)
    keys = {r: [r * 7919 % 1000 // 8] for r in range(1000)}
    s = NoDuplicates(deal, keys, (1, 2))
    yield told(members, None, deal, (1, 2)) | dict(keys=sorted(keys.items()), multiples=[1, 2], made=s.exchanged, chains=s.chains, most=[s.most(1), s.most(2)])


def labels(rng):
    made = 0
    while made < 80:
        members, z = case(rng, 400)
        k, p = int(rng.integers(2, 6)), int(rng.integers(1, 9))
        counts, nb = per_label_counts([len(x) for x in members], k, k * p)
        if nb == 0:
            continue
        made += 1
        deal = Deal(members, k * p, int(rng.integers(1 << 60)), int(rng.integers(5)), z, bool(rng.random() < 0.2), counts, per_label=k)
        assert deal.nb == nb
        yield told(members, z, deal) | dict(counts=counts, full=nb)
    members = [np.arange(0, 200), np.arange(200, 300), np.arange(300, 800), np.arange(800, 850), np.arange(850, 1000)]
    counts, nb = per_label_counts([len(x) for x in members], 4, 16)
    yield told(members, None, Deal(members, 16, 42, 1, counts=counts, per_label=4), (1, 2)) | dict(counts=counts, full=nb)


def sizes(rng):
    made = 0
    while made < 120:
        rows, b, epochs = int(rng.integers(1, 900)), int(rng.integers(1, 30)), int(rng.integers(1, 6))
        multiples = [(1, 2, 4), (1, 3), (1, 2, 3)][int(rng.integers(3))]
        cuts = [0, *sorted(int(u) for u in rng.choice(np.arange(1, 100), int(rng.integers(0, 3)), replace=False))]
        changes = [(f"{u / 100}", b * int(rng.choice(multiples))) for u in cuts]
        run = Sizes(rows, b, epochs, changes, multiples, bool(rng.random() < 0.3))
        begins = [min(((e, p) for e in range(epochs) if (p := run.place(u, e)) < run.len), default=None) for u, _ in run.sizes]
        if None in begins or len(set(begins)) < len(begins):
            continue  # a size without a batch is an error
        made += 1
        yield dict(length=run.len, epochs=epochs, changes=changes, candidates=[b * k for k in multiples], steps=[run.steps(e) for e in range(epochs + 2)])


def bins(rng):
    for i in range(60):
        n, q = int(rng.integers(1, 200)), int(rng.integers(2, 12))
        v = [round(float(x), 3) for x in (rng.normal(size=n) if i % 2 else rng.integers(0, 5, n))]
        v = [None if rng.random() < 0.05 else x for x in v]
        edges = quantile_edges(v, q)
        yield dict(values=v, bins=q, edges=edges, of=[quantile_bin(x, edges) for x in v])


def rarest(rng):
    for _ in range(60):
        n = int(rng.integers(1, 80))
        lists = [None if rng.random() < 0.05 else [f"t{x}" for x in rng.choice(30, int(rng.integers(0, 5)), p=rng.dirichlet(np.full(30, 0.5)))] for _ in range(n)]
        sample = lists[: int(rng.integers(1, n + 1))]
        yield dict(lists=lists, sample=sample, of=rarest_label(lists, sample))


def main():
    drawn = dict(chunks=chunks, duplicates=duplicates, labels=labels, sizes=sizes, bins=bins, rarest=rarest)
    out = {k: list(f(np.random.default_rng(i))) for i, (k, f) in enumerate(drawn.items())}
    text = "{" + ",\n".join(f'"{k}": ' + "[\n" + ",\n".join(json.dumps(x, separators=(",", ":")) for x in v) + "\n]" for k, v in out.items()) + "}\n"
    (pathlib.Path(__file__).parent / "composition.json").write_text(text)


if __name__ == "__main__":
    main()
