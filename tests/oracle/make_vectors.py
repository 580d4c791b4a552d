"""Writes vectors.json, what tests/reference.rs compares the Rust code with, from reference.py.

    python tests/oracle/make_vectors.py        # needs numpy and scipy"""
import json
import pathlib

import numpy as np

import reference as ref

NOTE = [200, 100, 500, 50, 150]


def permutations():
    for n in (1, 2, 3, 5, 17, 64, 65, 1000, 4096, 4097, 100003):
        k = ref.key(7, n)
        yield dict(n=n, key=k, index=[ref.perm_index(i, n, k) for i in range(0, n, max(1, n // 40))])
    for bits in (32, 33, 40):
        n, k = (1 << bits) - 5, ref.key(8, bits)
        yield dict(n=n, key=k, step=n // 20, index=[ref.perm_index(i * (n // 20), n, k) for i in range(20)])


def batch_sizes(rng):
    for _ in range(40):
        counts = np.ceil(rng.dirichlet(np.full(rng.integers(1, 60), rng.choice([0.1, 1, 10]))) * 10 ** rng.uniform(2, 7)).astype(int).tolist()
        coverage, multiple = float(rng.choice([0.5, 0.9, 0.99, 1.0])), int(rng.choice([1, 8, 12]))
        b, per = ref.batch_size(counts, coverage, multiple=multiple)
        yield dict(counts=counts, coverage=coverage, multiple=multiple, size=b, samples_per_modality=per)


def dendrograms(rng):
    for n, d in ((2, 1), (3, 2), (7, 3), (30, 5), (50, 2), (16, 1)):
        x = rng.standard_normal((n, d)).round(6)
        if n in (7, 16):
            x = x.round(0)  # ties
        z = ref.dendrogram(x)
        yield dict(centers=x.tolist(), merges=z.tolist(), tours=[ref.tour(z, n, 3, e) for e in range(3)])


def draws(rng):
    yield dict(sizes=NOTE, tau=0.5, counts=ref.draws(NOTE, 0.5))
    for _ in range(40):
        sizes = rng.integers(1, 1000, rng.integers(1, 300) if rng.random() < 0.2 else rng.integers(1, 20)).tolist()
        tau = float(rng.choice([0.0, 0.5, 1.0, 0.3]))
        yield dict(sizes=sizes, tau=tau, counts=ref.draws(sizes, tau))
        shares = rng.integers(0, 7, len(sizes)) / 10
        shares[0] += 0.1
        yield dict(sizes=sizes, shares=shares.tolist(), counts=ref.draws(sizes, 1.0, shares))


def rests(rng):
    for _ in range(60):
        counts = rng.integers(1, 200, rng.integers(1, 12)).tolist()
        base, seed, epoch = int(rng.integers(1, sum(counts) + 1)), int(rng.integers(100)), int(rng.integers(9))
        yield dict(counts=counts, base=base, seed=seed, epoch=epoch, rest=ref.rest_counts(counts, base, seed, epoch))


def deals(rng):
    """Row numbers are 3 x place + stratum, so that members are spread and the stratum can be read off."""
    cases = [(NOTE, 48, 42, 0, False, None), (NOTE, 64, 1, 3, True, None), (NOTE, 64, 9, 2, False, 0.5), (NOTE, 37, 9, 5, False, 0.0)]
    for m, n in ((1, 40), (2, 90), (7, 333), (20, 500), (50, 400), (50, 60)):
        counts = (1 + rng.multinomial(n - m, rng.dirichlet(np.full(m, 0.7)))).tolist()
        cases.append((counts, int(rng.integers(1, n // 2)), int(rng.integers(1 << 62)), int(rng.integers(5)), bool(rng.random() < 0.3), None))
    cases += [([5, 3, 2], 16, 0, 0, False, None), ([5, 3, 2], 10, 0, 1, False, None), ([100, 1], 8, 2, 1, False, 0.0), ([4, 4], 1, 2, 0, False, None)]
    for sizes, base, seed, epoch, drop, tau in cases:
        place = ref.perm_array(sum(sizes), 5)
        off = np.cumsum([0] + sizes)
        members = [np.sort(place[a:b]) * 3 + h % 3 for h, (a, b) in enumerate(zip(off, off[1:]))]
        m = len(sizes)
        z = ref.dendrogram(rng.standard_normal((m, 3))) if m > 1 and rng.random() < 0.8 else None
        counts = ref.draws(sizes, tau) if tau is not None else None
        p = ref.EpochPlan(members, base, seed, epoch, z, drop, counts)
        ks = (1, 2, 3) if sum(sizes) < 400 else (1, 4)
        yield dict(members=[x.tolist() for x in members], base=base, seed=seed, epoch=epoch, drop_last=drop, counts=counts,
                   merges=None if z is None else z.tolist(), sizes={str(k): [p.batch(c, k).tolist() for c in range(p.batches(k))] for k in ks})


def scores(rng):
    for a in (0.0, 0.5, 0.9):
        counts = rng.integers(1, 1000, rng.integers(2, 20))
        s = ref.Score(counts, a)
        for _ in range(5):
            hist = rng.binomial(counts, 0.1)
            hist[0] += 1
            yield dict(counts=counts.tolist(), a=a, hist=hist.tolist(), want=list(map(float, s.n_eff(hist))))


def accumulators(rng):
    for t, b in ((128, 32), (400, 100), (1000, 7)):
        acc = ref.Accumulator(t, int(8 * np.ceil(t / b)))
        n_eff = (rng.lognormal(np.log(b) - 1, 1.5, 80)).round(4).tolist()
        yield dict(threshold=t, batch_size=b, n_eff=n_eff, fed=[list(acc.feed(x, b)) for x in n_eff])


def weights(rng):
    c, u = (np.arange(9) + 0.5) / 9, np.linspace(0, 1, 7)
    for kind in ("centre-to-periphery", "centre-then-uniform", "periphery-late", "off"):
        for b in (1.0, -0.5, 4.0):
            bt = [ref.beta(float(x), b, kind) for x in u]
            yield dict(schedule=kind, strength=b, progress=u.tolist(), beta=bt, c=c.tolist(), weight=[ref.weight(c, x).tolist() for x in bt], kish=[float(ref.kish(x)) for x in bt])


def centralities(rng):
    for n in (1, 2, 100):
        d = rng.integers(0, max(2, n // 3), n).astype(np.float32)
        yield dict(distance=d.tolist(), want=ref.centrality(d, np.zeros(n, int)).tolist())


def choices(rng):
    """Losses fall quickly, then slowly, with noise; now and then one is no number, which counts as 50 x the one before."""
    for candidates, reward, seed in ((1, "rate", 0), (2, "rate", 3), (3, "rate", 1), (6, "rate", 2**63 + 5), (3, "extrapolation", 1), (4, "extrapolation", 9)):
        policy, loss, segments = ref.LoaderPolicy(candidates, seed, reward=reward), 2.3, []
        for t in range(120):
            k = policy.choose()
            after = float(loss * np.exp(-rng.uniform(0, 0.3) / (1 + t / 10)) + rng.normal(0, 0.02 * (t > 60))) if t % 37 != 36 else 50 * loss
            cost = float(rng.uniform(0.5, 2) * (1 + k))
            said = policy.update(k, loss, after, cost)
            segments.append(dict(candidate=k, observed=None if t % 37 == 36 else after, cost=cost, reward=float(said["rate"]), expected=said["expected"]))
            loss = after
        yield dict(candidates=candidates, reward=reward, seed=seed, loss=2.3, segments=segments)


def ratchets(rng):
    for candidates in (1, 2, 5):
        ratchet, loss, segments = ref.Ratchet(candidates), 2.3, []
        for t in range(80):
            after = float(loss * np.exp(rng.normal(-0.05 if t % 20 < 8 else 0.05, 0.1)))
            segments.append(dict(candidate=ratchet.choose(), observed=after, cost=float(rng.uniform(1, 3))))
            ratchet.update(ratchet.choose(), loss, after, segments[-1]["cost"])
            loss = after
        yield dict(candidates=candidates, loss=2.3, segments=segments)


def main():
    plain = dict(permutations=permutations(), keys=[dict(words=w, key=ref.key(*w)) for w in ([0], [42, 1, 2], [2**64 - 1, 2**63])])
    drawn = dict(batch_sizes=batch_sizes, dendrograms=dendrograms, draws=draws, rests=rests, deals=deals, scores=scores,
                 accumulators=accumulators, weights=weights, centralities=centralities, choices=choices, ratchets=ratchets)
    strides = [[nb, ref.golden_stride(nb)] for nb in (1, 2, 3, 4, 10, 97, 1000, 123456, (1 << 40) + 7)]
    out = {k: list(v) for k, v in plain.items()} | {k: list(f(np.random.default_rng(i))) for i, (k, f) in enumerate(drawn.items())}
    out["strides"] = strides
    text = "{" + ",\n".join(f'"{k}": ' + "[\n" + ",\n".join(json.dumps(x, separators=(",", ":")) for x in v) + "\n]" for k, v in out.items()) + "}\n"
    (pathlib.Path(__file__).parent / "vectors.json").write_text(text)


if __name__ == "__main__":
    main()
