"""Executable form of composition: what a batch is made of beyond rows dealt one by one (numpy only). Rests on reference.py, and
equals its EpochPlan for chunks of one row."""
from fractions import Fraction
from math import ceil, lcm

import numpy as np

from reference import EpochPlan, key, layout, perm_array, rest_counts


class Deal(EpochPlan):
    """The deal of an epoch in chunks: `chunk` rows that stand together in the list, a divisor of the batch size. per_label: K of P x K
    batches (counts: see per_label_counts), None otherwise."""

    def __init__(s, members, b, seed, epoch, z=None, drop_last=False, counts=None, chunk=1, per_label=None):
        assert b % chunk == 0, "the chunk divides the batch size"
        super().__init__(members, b, seed, epoch, z, drop_last, counts)
        s.c, s.K, s.L, s.moved = per_label or chunk, per_label, None, {}
        if per_label:  # everything in chunks of K rows, so that none has two labels
            assert chunk == 1 and b % per_label == 0 and all(c % per_label == 0 and c <= n for c, n in zip(s.nh, s.n_members))
            s.rh = [per_label * r for r in rest_counts([c // per_label for c in s.nh], b // per_label, seed, s.epoch)]
            s.off = np.cumsum([0] + [s.nh[h] - s.rh[h] for h in s.order])

    def _members(s, h):
        """The rows that stratum h gives to the epoch, in order: first those of the rest batch."""
        if not s.K:
            return super()._members(h)
        if h not in s.perm:  # the next c rows of a circle that never changes, in an order of this epoch
            n, c = s.n_members[h], s.nh[h]
            at = (s.epoch * c + perm_array(c, key(s.seed, s.epoch, 9, h))) % max(n, 1)
            s.perm[h] = s.m[h][perm_array(n, key(s.seed, 0, 8, h))[at]] if c else s.m[h][:0]
        return s.perm[h]

    def listed(s):
        """The list that full batches are dealt from."""
        if s.L is None:
            s.L = np.concatenate([s._members(h)[s.rh[h] :] for h in s.order])
        return s.L

    def column(s, b):
        """Where full batch b starts in the list, in chunks."""
        return (s.rot + b * s.g) % s.nb

    def dealt(s, b):
        """(rows, tour place of each place's stratum) of batch b, in tour order; rows that were exchanged are where they came."""
        if b == s.nb:
            rows, t = super().dealt(b)
        else:
            q = ((np.arange(s.B // s.c)[:, None] * s.nb + s.column(b)) * s.c + np.arange(s.c)).ravel()
            rows, t = s.listed()[q], np.searchsorted(s.off, q, side="right") - 1
        rows = rows.copy()
        for place, row in s.moved.get(b, {}).items():
            rows[place] = row
        return rows, t

    def batch(s, i, k=1):
        """Batch i of size k B, as written: the chunks of k consecutive batches (the rest batch is cut into chunks too, the last one
        shorter) in tour order of their first rows, laid out as rows are for chunk 1; rows of a chunk stay together."""
        chunks = []
        for b in range(i * k, min((i + 1) * k, s.len)):
            rows, t = s.dealt(b)
            chunks += [(int(t[u]), rows[u : u + s.c]) for u in range(0, len(rows), s.c)]
        chunks = [u[1] for u in sorted(chunks, key=lambda u: u[0])]
        return np.concatenate([chunks[e] for e in layout(len(chunks), key(s.seed, s.epoch, 5, k, i))])


def counterpart(tx, ty):
    """Places of batch X -> places of batch Y (len(tx) <= len(ty)), tx and ty the strata of their rows: the i-th row of a stratum
    in X and the i-th of it in Y; what is left over, in order."""
    to, free = np.full(len(tx), -1), np.ones(len(ty), bool)
    for h in np.unique(tx):
        x, y = np.flatnonzero(tx == h), np.flatnonzero(ty == h)
        n = min(len(x), len(y))
        to[x[:n]] = y[:n]
        free[y[:n]] = False
    left = np.flatnonzero(to < 0)
    to[left] = np.flatnonzero(free)[: len(left)]
    return to


class NoDuplicates:
    """Makes a deal's batches free of rows that share a key, by exchanging rows. keys: row -> its keys, numbers >= 0; a row that is not
    there has none. multiples: the candidates' sizes over the smallest, each dividing the next larger. Fills deal.moved; `exchanged`
    counts. Where rows have one key each, a full union of the largest size has at most ceil(g / n) of the g rows of a key, n the number
    of such unions: one, if g <= n. Where they have several, no chain is begun, and what no exchange removes stays."""

    def __init__(s, deal, keys, multiples=(1,)):
        s.d, s.exchanged, s.chains, s.single = deal, 0, 0, all(len(k) <= 1 for k in keys.values())
        own = any(c != n for c, n in zip(deal.nh, deal.n_members))  # a row that is drawn twice is its own duplicate
        levels = [k for k in sorted({1, *multiples}, reverse=True) if k <= max(1, deal.nb)]
        assert all(a % b == 0 for a, b in zip(levels, levels[1:])), "each size divides the next larger one"
        place_of = {int(r): p for p, h in enumerate(deal.order) for r in deal.m[h]}
        s.rows = [deal.dealt(b)[0].copy() for b in range(deal.len)]
        s.strata = [np.array([place_of[int(r)] for r in x]) for x in s.rows]
        of = lambda r: tuple(keys.get(r) or ((-2 - r,) if own else ()))
        s.keys = [[of(int(r)) for r in x] for x in s.rows]
        dealt = [x.copy() for x in s.rows]
        s.at = {}  # where the rows of every key are: {(batch, place)}
        for b, all_ in enumerate(s.keys):
            for p, ks in enumerate(all_):
                for k in ks:
                    s.at.setdefault(k, set()).add((b, p))
        s.at = {k: v for k, v in s.at.items() if len(v) > 1}
        s._even(0, deal.len, levels)
        for b, x in enumerate(s.rows):
            deal.moved[b] = {int(p): int(x[p]) for p in np.flatnonzero(x != dealt[b])}

    def most(s, k):
        """Most rows of one key in a union of k batches."""
        return max((len([w for w in v if w[0] // k == u]) for v in s.at.values() for u in {w[0] // k for w in v}), default=1)

    def _even(s, lo, hi, levels):
        """Spreads every key evenly over the unions of levels[0] batches in lo..hi, then inside each over the smaller ones."""
        k, d = levels[0], s.d
        unions = [(a, min(a + k, hi)) for a in range(lo, hi, k)]
        full = [u for u in unions if u[1] - u[0] == k and u[1] <= d.nb]
        if full:
            inside = lambda x, u: [w for w in s.at.get(x, ()) if u[0] <= w[0] < u[1]]
            limit = lambda x: -(-len(inside(x, (lo, hi))) // len(full))
            for x in sorted(s.at):
                for u in unions:
                    while len(inside(x, u)) > limit(x) and s._move(x, u, full, inside, limit):
                        pass
        if len(levels) > 1:
            for u in unions:
                s._even(*u, levels[1:])

    def _move(s, x, u, full, inside, limit):
        """Takes one row of key x out of union u; False: no exchange does."""
        b, p = max(inside(x, u))
        slot = b - u[0]  # unions exchange rows between batches that stand at the same place in them
        rest = b == s.d.nb
        there = [v for v in full if v != u and len(inside(x, v)) < limit(x)]
        from_, n = 0 if rest else s.d.column(b), s.d.nb
        ahead = {v: (s.d.column(v[0] + slot) - from_) % n for v in there}
        there.sort(key=lambda v: (min(ahead[v], n - ahead[v]), ahead[v]))  # the nearest in the list first
        room = lambda k, v: k not in s.at or len(inside(k, v)) < limit(k)
        for v in there:
            y = v[0] + slot
            q = counterpart(s.strata[b], s.strata[y])[p]
            mine, other = s.keys[b][p], s.keys[y][q]
            fits = x not in other and all(k in mine or room(k, u) for k in other) and all(k in other or room(k, v) for k in mine)
            if fits and (not rest or s.strata[y][q] == s.strata[b][p]):
                s._exchange(b, p, y, q)
                return True
        if not s.single:
            return False
        # All partners would bring a duplicate of their own: exchange along a chain between u and v. It ends, since it uses every
        # place once, and leaves fewer duplicates than there were.
        s.chains += 1
        v, used = there[0], set()
        match = {c: counterpart(s.strata[c], s.strata[v[0] + c - u[0]]) for c in range(*u)}
        while True:
            y = v[0] + b - u[0]
            q = match[b][p]
            other = (s.keys[y][q] or (None,))[0]
            s._exchange(b, p, y, q)
            used.add((b, p))
            open_ = [w for w in inside(other, u) if w not in used] if other in s.at else []
            if not open_ or len(inside(other, u)) <= limit(other):
                return True
            b, p = max(open_)

    def _exchange(s, b, p, y, q):
        for of in (s.rows, s.strata, s.keys):
            of[b][p], of[y][q] = of[y][q], of[b][p]
        here, there = s.keys[b][p], s.keys[y][q]
        for ks, others, new, old in ((there, here, (y, q), (b, p)), (here, there, (b, p), (y, q))):
            for k in ks:
                if k not in others and k in s.at:
                    s.at[k].remove(old)
                    s.at[k].add(new)
        s.exchanged += 1


def per_label_counts(sizes, per_label, batch):
    """(rows that each label gives to an epoch, full batches): the most batches of P = batch / K different labels, K rows of each, that there
    can be. Labels with fewer than K rows give none."""
    p, u = batch // per_label, [n // per_label for n in sizes]
    lo, hi = 0, sum(u) // p
    while lo < hi:  # sum min(u, nb) - P nb rises, then falls: those nb where it is >= 0 are 0..nb*
        mid = (lo + hi + 1) // 2
        lo, hi = (mid, hi) if sum(min(x, mid) for x in u) >= p * mid else (lo, mid - 1)
    return [per_label * min(x, lo) for x in u], lo


# ---------------------------------------------------------------- sizes that change in training
class Sizes:
    """A training of `epochs` epochs of `rows` rows in batches of b. sizes: [(share of the training from which, size)], ascending, the first from 0;
    sizes are multiples of b. A size takes effect at the next batch of an epoch whose number is a multiple of K, the lcm of all sizes over b, or with
    the next epoch."""

    def __init__(s, rows, b, epochs, sizes, multiples=(1,), drop_last=False):
        s.B, s.epochs, s.sizes = b, epochs, [(Fraction(u), size) for u, size in sizes]
        s.len = rows // b if drop_last else -(-rows // b)
        s.K = lcm(*multiples, *(size // b for _, size in s.sizes))

    def place(s, u, e):
        """Batch of epoch e at which what begins at progress u begins."""
        t = ceil(u * s.epochs * s.len) - e * s.len
        return min(s.len, s.K * -(-max(t, 0) // s.K))

    def steps(s, e):
        """The batches of epoch e: (first batch of the smallest size, multiple)."""
        cuts = [s.place(u, e) for u, _ in s.sizes] + [s.len]
        return [(b, size // s.B) for a, end, (_, size) in zip(cuts, cuts[1:], s.sizes) for b in range(a, end, size // s.B)]


# ---------------------------------------------------------------- strata of numbers and of lists
def quantile_edges(sample, bins):
    """Lower edges of all bins but the first: values of the sorted sample at ranks floor(i n / bins); equal ones once, none at the minimum."""
    v = sorted(float(x) for x in sample if x is not None and x == x)
    return sorted({v[i * len(v) // bins] for i in range(1, bins)} - {v[0]}) if v else []


def quantile_bin(x, edges):
    """Number of edges <= x; None for null and NaN."""
    return None if x is None or x != x else int(np.searchsorted(edges, x, side="right"))


def rarest_label(lists, sample):
    """Stratum of every row: its label with the fewest rows in the sample (none: 0; ties: the first by its text); None for an empty list
    or null."""
    count = {}
    for x in sample:
        for t in set(x or ()):
            count[t] = count.get(t, 0) + 1
    return [min(set(x), key=lambda t: (count.get(t, 0), t)) if x else None for x in lists]
