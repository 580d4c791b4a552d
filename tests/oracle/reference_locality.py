"""Executable reference for the local order of batches (numpy): what src/batches/{units,rounds,halving,local}.rs do. Integers are exact, bit for bit.
`python reference_locality.py` checks it by brute force and prints 'N passed, 0 failed'; with `--simulate` it prints a table of drifts."""
import heapq
import sys
from collections import defaultdict
from functools import wraps

import numpy as np

from reference import dendrogram, golden_stride, key, layout, mix64, perm_array, tour

# Words behind the epoch in keys; 1 to 6 belong to reference.py.
BLOCK, SPREAD, CUT, CELL, FLIP, WINDOW = 10, 11, 12, 13, 14, 15


# ---------------------------------------------------------------- plan time: units, their order, the window
def units_of(first, rows, unit_rows, borders=None):
    """Row groups (first row, rows) joined and cut into units of about `unit_rows` rows: neighbours are joined while they fit; a larger one is cut as
    equally as can be, each cut moved to the nearest of `borders` (rows at which pages of the largest column begin; ties: the lower). Two arrays."""
    f, n = [], []
    for a, r in zip(np.asarray(first).tolist(), np.asarray(rows).tolist()):
        if r > unit_rows:
            k = -(-r // unit_rows)
            cuts = {a + r * i // k for i in range(1, k)}
            if borders is not None and len(borders):
                i = np.clip(np.searchsorted(borders, sorted(cuts)), 1, len(borders) - 1) if len(borders) > 1 else np.zeros(len(cuts), int)
                cuts = {int(min((borders[j - 1] if j else borders[0], borders[j]), key=lambda x: (abs(x - c), x))) for c, j in zip(sorted(cuts), i)}
            cuts = [a, *sorted(c for c in cuts if a < c < a + r), a + r]
            f += cuts[:-1]
            n += [y - x for x, y in zip(cuts, cuts[1:])]
        elif n and r and n[-1] + r <= unit_rows and f[-1] + n[-1] == a:
            n[-1] += r
        elif r:
            f.append(a)
            n.append(r)
    return np.array(f, np.int64), np.array(n, np.int64)


def alike(counts):
    """Order of units in which neighbours have a similar composition. `counts`: units x groups (score groups), planned rows. A tree of
    medians: each set is sorted by the group whose share varies most over it (ties: the lower group, the lower unit) and halved."""
    counts = np.asarray(counts, np.float64)
    n = counts.sum(1)
    share = counts / np.maximum(n, 1)[:, None]
    out, todo = [], [np.flatnonzero(n > 0)]
    while todo:
        i = todo.pop()
        if len(i) > 2:
            x = share[i]
            mean = np.zeros(x.shape[1])
            for row in x:  # sums in the order of units: the same bits everywhere
                mean += row
            mean /= len(i)
            var = np.zeros(x.shape[1])
            for row in x:
                var += (row - mean) * (row - mean)
            g = int(np.argmax(var))
            if var[g] > 0:
                i = i[np.lexsort((i, x[:, g]))]
                todo += [np.sort(i[len(i) // 2 :]), np.sort(i[: len(i) // 2])]
                continue
        out += i.tolist()
    return out


def rounds(nb, units, streams, window):
    """Batches of each round: as many rounds as the units with planned rows fill windows, of equal length as far as can be."""
    nr = max(1, min(nb, -(-units // (window * streams))))
    return [nb * (t + 1) // nr - nb * t // nr for t in range(nr)]


# ---------------------------------------------------------------- halving: exact dealing over streams and strata at once
def halve(c, node_keys):
    """c: (nodes, streams, strata) counts, every stream's sum even. Splits each matrix into two that differ by at most one in every
    cell, not at all in a stream's sum, and by at most one in a stratum's sum. Odd cells have two partners: the neighbour in their stream
    and the neighbour in their stratum (what is left over there: the neighbour among the left-overs); along the cycles that this makes,
    cells go left and right in turn. The lowest cell of a cycle goes left if its bit is 0."""
    nodes, s, h = c.shape
    left = c >> 1
    node, stream, place = np.nonzero(c & 1)
    e = len(node)
    if e == 0:
        return left, c - left
    ids = np.arange(e)
    mate = ids ^ 1  # consecutive in a stream, each of which has an even number
    o = np.lexsort((stream, place, node))
    group = node[o] * h + place[o]
    start = np.flatnonzero(np.r_[True, group[1:] != group[:-1]])
    size = np.diff(np.r_[start, e])
    rank = ids - np.repeat(start, size)
    over = (np.repeat(size, size) % 2 == 1) & (rank == np.repeat(size, size) - 1)
    twin = np.empty(e, np.int64)
    for pairs in (o[~over], o[over]):
        twin[pairs[0::2]], twin[pairs[1::2]] = pairs[1::2], pairs[0::2]
    # Every cycle falls into two classes under two steps (mate, then twin): lowest member of each, by doubling.
    two, low, jump = twin[mate], ids.copy(), twin[mate]
    while True:
        nxt = np.minimum(low, low[jump])
        if (nxt == low).all() and (low[two] == low).all():
            break
        low, jump = nxt, jump[jump]
    lead = np.minimum(low, low[mate])
    cell = (stream * h + place)[lead].astype(np.uint64)
    flip = (_mix(node_keys[node[lead]] ^ cell) & np.uint64(1)).astype(bool)
    go = (low == lead) ^ flip
    left = left.copy()
    left[node[go], stream[go], place[go]] += 1
    return left, c - left


def _mix(z):
    with np.errstate(over="ignore"):
        z = z + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


BITS = 24


def part(c, q, flip_key):
    """(streams, strata) counts of q[s] rows of each stream out of c: shares in 2^-24ths (largest remainders in each stream, ties: the lower place), halved 24
    times down the left path. Products need 128 bits."""
    y = np.zeros_like(c)
    for i, row in enumerate(c.tolist()):
        n, want = sum(row), int(q[i]) << BITS
        if n:
            y[i] = [x * want // n for x in row]
            lack = want - int(y[i].sum())
            for p in sorted(range(len(row)), key=lambda p: (-(row[p] * want % n), p))[:lack]:
                y[i, p] += 1
    for j in range(BITS):
        y = halve(y[None], _mix(np.uint64(flip_key) ^ np.array([j], np.uint64)))[0][0]
    return y


def powers(c, k, flip_key):
    """The round's k batches as (first batch, 2^j, counts of these 2^j, key): one `part` for each bit of k but the lowest, the highest first."""
    left, first = k, 0
    for j in reversed(range(k.bit_length())):
        if k >> j & 1:
            x = c if left == 1 << j else part(c, (c.sum(1) // left) << j, int(_mix(np.uint64(flip_key) ^ np.uint64(j))))
            yield first, 1 << j, x, int(_mix(np.uint64(flip_key) ^ np.uint64(64 + j)))
            c, left, first = c - x, left - (1 << j), first + (1 << j)


def deal_round(c, k, flip_key):
    """(k, streams, strata) counts of the round's k batches (k from 1) out of the counts of the round, every stream's sum a multiple of k. Each power of two is halved:
    node 1 is the root, 2 i and 2 i + 1 the halves of i; its batch i is leaf 2^j + i."""
    out = []
    for _, size, x, at in powers(np.asarray(c, np.int64), k, flip_key):
        x = x[None]
        while len(x) < size:
            nodes = np.arange(len(x), 2 * len(x), dtype=np.uint64)
            a, b = halve(x, _mix(np.uint64(at) ^ nodes))
            x = np.stack([a, b], 1).reshape(-1, *x.shape[1:])
        out.append(x)
    return np.concatenate(out)


def deal_one(c, k, b, flip_key):
    """Counts of batch b of `deal_round` and of the batches before it, down one path."""
    before = np.zeros_like(c)
    for first, size, x, key_ in powers(c, k, flip_key):
        if b >= first + size:
            before = before + x
            continue
        at, node = b - first, 1
        while size > 1:
            size //= 2
            left, right = halve(x[None], _mix(np.uint64(key_) ^ np.array([node], np.uint64)))
            if at >= size:
                x, before, at, node = right[0], before + left[0], at - size, 2 * node + 1
            else:
                x, node = left[0], 2 * node
        return x, before


# ---------------------------------------------------------------- an epoch
def remembered(f):
    @wraps(f)
    def g(s, *a):
        if (f, *a) not in s.memo:
            s.memo[f, *a] = f(s, *a)
        return s.memo[f, *a]

    return g


class LocalEpoch:
    """first, rows: the units. stratum: of every global row, -1 if it is not planned; strata 0 .. h. order: `alike` (stored in the plan).
    b: rows of the smallest batch, streams divides b. window: units of a stream in a round."""

    def __init__(s, first, rows, stratum, h, b, streams, window, seed, epoch, z=None, order=None, drop_last=False):
        assert b % streams == 0
        s.first, s.rows, s.stratum, s.h = first, rows, stratum, h
        s.b, s.s, s.q, s.seed, s.epoch = b, streams, b // streams, seed, epoch
        s.tour = np.array(tour(z, h, seed, epoch) if z is not None else range(h))
        s.place = np.empty(h, np.int64)  # place of a stratum in the tour
        s.place[s.tour] = np.arange(h)
        s.counts = np.stack([np.bincount(s._strata(u)[s._strata(u) >= 0], minlength=h) for u in range(len(first))]) if len(first) else np.zeros((0, h), int)
        s.nu = s.counts.sum(1)
        s.n = int(s.nu.sum())
        s.nb, s.r = divmod(s.n, b)
        s.len = s.nb + (1 if s.r and not drop_last else 0)
        s.rounds = rounds(s.nb, int((s.nu > 0).sum()), streams, window)
        s.starts = np.cumsum([0] + s.rounds)  # first batch of each round
        s.order = alike(s.counts) if order is None else [u for u in order if s.nu[u]]
        s.memo = {}
        s._sequence()
        s._parts()

    def _strata(s, u):
        return s.stratum[s.first[u] : s.first[u] + s.rows[u]]

    # -- which stream reads which part of which unit, in which round
    def _sequence(s):
        """Units in the order of time, one stream's list each, every list of its exact number of rows: [(unit, from, to)], from and to in
        rows of the unit."""
        g = len(s.order)
        s.seq = [[] for _ in range(s.s)]
        if not g:
            return
        nr = len(s.rounds)
        nominal = [[] for _ in range(nr)]
        for i in range(0, g, nr):  # a block of units that are alike: at most one for every round
            perm = perm_array(nr, key(s.seed, s.epoch, BLOCK, i // nr))
            for j, u in enumerate(s.order[i : i + nr]):
                nominal[perm[j]].append(u)
        heap = [(0, i) for i in range(s.s)]  # the stream with the fewest rows takes the next unit; ties: the lower stream
        for t, units in enumerate(nominal):
            for p in layout(len(units), key(s.seed, s.epoch, SPREAD, t)) if units else []:
                have, i = heapq.heappop(heap)
                s.seq[i].append((units[p], 0, int(s.nu[units[p]])))
                heapq.heappush(heap, (have + int(s.nu[units[p]]), i))
        # What a stream has too much goes from its end to those that have too little, in the order of streams.
        target = [s.n * (i + 1) // s.s - s.n * i // s.s for i in range(s.s)]
        spare = []
        for i in range(s.s):
            over = sum(y - x for _, x, y in s.seq[i]) - target[i]
            cut = []
            while over > 0:
                u, x, y = s.seq[i].pop()
                keep = max(0, (y - x) - over)
                if keep:
                    s.seq[i].append((u, x, x + keep))
                cut.append((u, x + keep, y))
                over -= y - x - keep
            spare += cut[::-1]
        spare.reverse()
        for i in range(s.s):
            lack = target[i] - sum(y - x for _, x, y in s.seq[i])
            while lack > 0:
                u, x, y = spare.pop()
                take = min(lack, y - x)
                s.seq[i].append((u, x, x + take))
                if take < y - x:
                    spare.append((u, x + take, y))
                lack -= take

    def _parts(s):
        """Cuts the lists at the ends of rounds. parts[stream][round] = [(unit, from, to)]; the last round has the rows of the rest batch, too."""
        ends = [int(x) * s.q for x in s.starts[1:-1]]
        s.parts = [[[] for _ in s.rounds] for _ in range(s.s)]
        cuts = defaultdict(list)
        for i in range(s.s):
            at, t = 0, 0
            for u, x, y in s.seq[i]:
                while x < y:
                    while t < len(ends) and at >= ends[t]:
                        t += 1
                    z = y if t == len(ends) else min(y, x + ends[t] - at)
                    s.parts[i][t].append((u, x, z))
                    cuts[u].append((x, z))
                    at, x = at + z - x, z
        s.cuts = {u: sorted(v) for u, v in cuts.items()}

    # -- which rows of a unit a part has
    @remembered
    def part_counts(s, u):
        """{(from, to): rows of each place of the tour}: arithmetic, no row is looked at."""
        off = np.r_[0, np.cumsum(s.counts[u][s.tour])]
        out = {}
        for x, y in s.cuts[u]:
            rem, n = int(off[-1]), y - x
            phi = key(s.seed, s.epoch, CUT, u, x) % rem
            taken = (off * n + phi) // rem
            out[x, y] = np.diff(taken)
            off = off - taken
        assert off[-1] == 0
        return out

    @remembered
    def part_rows(s, u):
        """{(from, to): rows (global), place of each}: the same parts, row by row."""
        strata = s._strata(u)
        at = np.flatnonzero(strata >= 0)
        place = s.place[strata[at]]
        rows, places = [], []
        for t in range(s.h):
            cell = at[place == t]
            if len(cell):
                rows.append(cell[perm_array(len(cell), key(s.seed, s.epoch, CELL, u, int(s.tour[t])))])
                places.append(np.full(len(cell), t))
        rows, places = np.concatenate(rows) + s.first[u], np.concatenate(places)
        out = {}
        for x, y in s.cuts[u]:
            rem, n = len(rows), y - x
            phi = key(s.seed, s.epoch, CUT, u, x) % rem
            i = np.arange(rem)
            mine = ((i + 1) * n + phi) // rem > (i * n + phi) // rem
            out[x, y] = rows[mine], places[mine]
            rows, places = rows[~mine], places[~mine]
        return out

    # -- batches
    @remembered
    def round_counts(s, t):
        """(streams, strata in tour order) rows of round t."""
        c = np.zeros((s.s, s.h), np.int64)
        for i in range(s.s):
            for u, x, y in s.parts[i][t]:
                c[i] += s.part_counts(u)[x, y]
        return c

    @remembered
    def full_counts(s, t):
        """The same without the rest batch, and the rest batch: in the last round a `part` of what is left of every stream, else nothing."""
        c = s.round_counts(t)
        if t < len(s.rounds) - 1 or not s.r:
            return c, np.zeros_like(c)
        rest = part(c, c.sum(1) - s.rounds[t] * s.q, int(_mix(np.uint64(key(s.seed, s.epoch, FLIP, t)) ^ np.uint64(63)))) if s.rounds[t] else c
        return c - rest, rest

    @remembered
    def _round(s, t):
        """Counts of every full batch of the round, and where its rows begin in every cell."""
        x = deal_round(s.full_counts(t)[0], s.rounds[t], key(s.seed, s.epoch, FLIP, t))
        return x, np.cumsum(x, 0) - x

    def counts_of(s, b):
        """(streams, strata in tour order) of full batch b, by walking down the tree: O(streams x strata x log K), no row is read."""
        t = int(np.searchsorted(s.starts, b, side="right")) - 1
        return deal_one(s.full_counts(t)[0], s.rounds[t], b - int(s.starts[t]), key(s.seed, s.epoch, FLIP, t))

    @remembered
    def cell_rows(s, i, t):
        """Rows of stream i in round t: for every place of the tour, in the order in which they are dealt."""
        found = defaultdict(list)
        for u, x, y in s.parts[i][t]:
            rows, places = s.part_rows(u)[x, y]
            for p in np.unique(places):
                found[int(p)].append(rows[places == p])
        out = {}
        for p, pieces in found.items():
            rows = np.concatenate(pieces)
            out[p] = rows[perm_array(len(rows), key(s.seed, s.epoch, WINDOW, t, i, int(s.tour[p])))]
        return out

    def dealt(s, b, cells=None):
        """Batch b: for every stream (rows, place of each) in tour order."""
        t = len(s.rounds) - 1 if b == s.nb else int(np.searchsorted(s.starts, b, side="right")) - 1
        if b == s.nb:
            before, x = s.full_counts(t)
        else:
            x, before = s.counts_of(b) if cells is None else (a[b - s.starts[t]] for a in s._round(t))
        out = []
        for i in range(s.s):
            c = s.cell_rows(i, t) if cells is None else cells[i]
            out.append(_joined([(int(p), c[int(p)][before[i, p] : before[i, p] + x[i, p]]) for p in np.flatnonzero(x[i])]))
        return out

    def batch(s, c, k=1, deal=None):
        """Batch c of k times the smallest size, as written: the streams' parts one after another, each the union of its k parts brought
        into tour order and laid out anew. Rank i of w (w divides streams) takes rows len i // w .. len (i + 1) // w: its own streams."""
        d = [(deal or s.dealt)(j) for j in range(c * k, min((c + 1) * k, s.len))]
        out = []
        for i in range(s.s):
            rows, places = (np.concatenate([x[i][j] for x in d]) for j in (0, 1))
            if len(rows):
                out.append(rows[np.argsort(places, kind="stable")][layout(len(rows), key(s.seed, s.epoch, 5, k, c, i))])
        return np.concatenate(out) if out else np.zeros(0, np.int64)

    def epoch_batches(s):
        """All batches, round by round: what a reader does."""
        for t in range(len(s.rounds)):
            cells = [s.cell_rows(i, t) for i in range(s.s)]
            for b in range(int(s.starts[t]), int(s.starts[t + 1])):
                yield s.batch(b, deal=lambda j: s.dealt(j, cells))
        if s.len > s.nb:
            yield s.batch(s.nb)

    # -- what a plan reports
    def report(s, group=None):
        """drift: mean over all batches of the squared distance of their round's share from the data's, over score groups (`group` of each stratum; None: strata), in
        units of a random batch (0: as the global order); worst: rows by which a stratum of a batch, the rest batch too, misses its share; reads: units opened over units."""
        group = np.arange(s.h) if group is None else np.asarray(group)[s.tour]
        p = s.counts.sum(0)[s.tour] / max(1, s.n)
        fold = lambda v: np.bincount(group, v, s.h)  # noqa: E731
        drift, worst, reads = [], 0.0, 0
        for t, k in enumerate(s.rounds):
            full, rest = s.full_counts(t)
            if k:
                drift += [s.b * (fold(full.sum(0) / (k * s.b) - p) ** 2).sum() / max(1e-300, 1 - (fold(p) ** 2).sum())] * k
                worst = max(worst, np.abs(s._round(t)[0].sum(1) - s.b * p).max())
            worst = max(worst, np.abs(rest.sum(0) - rest.sum() * p).max())
        reads = sum(len({u for part_ in s.parts[i] for u, _, _ in part_}) for i in range(s.s))
        opened = [sum(len({u for u, _, _ in s.parts[i][t]}) for i in range(s.s)) for t in range(len(s.rounds))]
        return dict(drift=float(np.mean(drift)) if drift else 0.0, worst=float(worst), reads=reads / max(1, len(s.order)), opened=max(opened, default=0))


def _joined(cells):
    if not cells:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    return np.concatenate([r for _, r in cells]), np.concatenate([np.full(len(r), p) for p, r in cells])


# ---------------------------------------------------------------- materialise: where every row of epoch 0 goes
def destinations(epoch_batches, n_rows):
    """Row of the output that a global row becomes, -1 if it is not planned: the inverse of the batches one after another."""
    to, at = np.full(n_rows, -1, np.int64), 0
    for rows in epoch_batches:
        to[rows] = np.arange(at, at + len(rows))
        at += len(rows)
    return to


def buckets(n, bucket_rows, b):
    """Output rows at which the buckets of the external permutation begin: multiples of b, about `bucket_rows` rows each."""
    k = max(1, -(-n // bucket_rows))
    step = -(-n // k)
    step = -(-step // b) * b
    return list(range(0, n, step)) + [n]


def external_permutation(read_unit, units, to, n, bucket_rows, b):
    """Two passes: scatter every unit's rows into buckets of consecutive output rows, then order each bucket. Yields the buckets, rows in
    order. `read_unit(u)` gives (global rows, values)."""
    ends = buckets(n, bucket_rows, b)
    files = [[] for _ in ends[1:]]
    for u in range(units):
        rows, values = read_unit(u)
        d = to[rows]
        rows, values, d = rows[d >= 0], values[d >= 0], d[d >= 0]
        which = np.searchsorted(ends, d, side="right") - 1
        for f in np.unique(which):
            files[f].append((d[which == f], rows[which == f], values[which == f]))
    for f, pieces in enumerate(files):
        d, rows, values = (np.concatenate([p[j] for p in pieces]) for j in range(3))
        assert len(d) == ends[f + 1] - ends[f]
        out_rows, out = np.empty_like(rows), np.empty_like(values)
        out_rows[d - ends[f]], out[d - ends[f]] = rows, values
        yield out_rows, out


# ---------------------------------------------------------------- tests
PASSED = FAILED = 0


def check(ok, what):
    global PASSED, FAILED
    if ok:
        PASSED += 1
    else:
        FAILED += 1
        print("FAILED", what)


def random_case(rng, t):
    h = int(rng.choice([1, 2, 5, 20]))
    n = int(rng.integers(1, 1500))
    kind = t % 4  # shuffled, sorted, by source, one stratum in one place
    p = rng.dirichlet(np.full(h, rng.choice([0.2, 1, 10])))
    if kind == 2:
        sources = rng.dirichlet(np.full(h, 0.3), 8)
        stratum = np.concatenate([rng.choice(h, m, p=sources[i]) for i, m in enumerate(np.diff(np.r_[0, np.sort(rng.integers(0, n + 1, 7)), n]))])
    else:
        stratum = rng.choice(h, n, p=p)
        if kind == 1:
            stratum = np.sort(stratum)
    if t % 3 == 0:
        stratum = np.where(rng.random(n) < 0.1, -1, stratum)
    sizes, left = [], n
    while left:  # row groups of any size, some of one row, some empty of planned rows
        sizes.append(int(min(left, rng.choice([1, 20, 100, 200, 1000]))))
        left -= sizes[-1]
    first = np.cumsum([0] + sizes[:-1])
    streams = int(rng.choice([1, 2, 4, 8, 16]))
    b = streams * int(rng.integers(1, 9))
    f, r = units_of(first, sizes, int(rng.choice([16, 100, 5000])))
    z = dendrogram(rng.standard_normal((h, 3))) if h > 1 else None
    return f, r, stratum, h, b, streams, z


def test_halving(rng):
    for _ in range(300):
        nodes, s, h = int(rng.integers(1, 5)), int(rng.integers(1, 9)), int(rng.integers(1, 12))
        c = rng.integers(0, int(rng.choice([2, 3, 50])), (nodes, s, h))
        c[:, :, 0] += c.sum(2) & 1
        left, right = halve(c, rng.integers(0, 2**63, nodes).astype(np.uint64))
        ok = (left + right == c).all() and (np.abs(left - right) <= 1).all() and (left.sum(2) == right.sum(2)).all()
        d = left.sum(1) - right.sum(1)
        ok &= (np.abs(d) <= 1).all() and (np.abs(np.cumsum(d, 1)) <= 1).all()
        ok &= (np.abs(np.cumsum(left - right, 1)) <= 1).all()
        check(ok, "halving")


def test_epochs(rng, cases):
    for t in range(cases):
        f, r, stratum, h, b, streams, z = random_case(rng, t)
        n, units = int((stratum >= 0).sum()), len(f)
        w = int(rng.choice([1, 2, 4]))
        e = LocalEpoch(f, r, stratum, h, b, streams, w, 11, t, z)
        what = (t, n, units, h, b, streams, w)
        out = list(e.epoch_batches())
        check([len(x) for x in out] == [b] * (n // b) + ([n % b] if n % b else []), ("sizes", what))
        check(sorted(np.concatenate(out).tolist() if out else []) == np.flatnonzero(stratum >= 0).tolist(), ("every row once", what))
        some = sorted({int(x) for x in rng.integers(0, e.len, 4)}) if e.len else []
        check(all((e.batch(c) == out[c]).all() for c in some), ("any batch alone", what))
        for s2 in range(streams):
            check(sum(y - x for _, x, y in e.seq[s2]) == n * (s2 + 1) // streams - n * s2 // streams, ("rows of a stream", what))
        cover = defaultdict(list)
        for s2 in range(streams):
            for u, x, y in e.seq[s2]:
                cover[u].append((x, y))
        ok = all([0] + [y for _, y in sorted(v)] == [x for x, _ in sorted(v)] + [int(e.nu[u])] for u, v in cover.items())
        check(ok and sorted(cover) == [u for u in range(units) if e.nu[u]], ("parts cover their units", what))
        # counts of parts by arithmetic and by rows
        ok = True
        for u in e.cuts:
            a, rows = e.part_counts(u), e.part_rows(u)
            rem = e.counts[u][e.tour].astype(float)
            for part in e.cuts[u]:
                got = np.bincount(rows[part][1], minlength=h)
                ok &= (got == a[part]).all() and got.sum() == part[1] - part[0]
                ok &= (np.abs(got - rem * (part[1] - part[0]) / max(1, rem.sum())) < 1).all()
                rem -= got
        check(ok, ("parts of units", what))
        # composition: every stratum, batch, stream; tour prefixes; leading streams
        lab = stratum
        slack = 1 + streams / 2**24
        for j, kk in enumerate(e.rounds):
            c, rest = e.full_counts(j)
            check((c + rest == e.round_counts(j)).all() and (rest >= 0).all(), ("full and rest", what))
            if rest.any() and kk:
                d = rest - e.round_counts(j) * rest.sum(1, keepdims=True) / np.maximum(1, e.round_counts(j).sum(1, keepdims=True))
                check((np.abs(d) < slack).all(), ("rest within 1 of its share", what))
            x = np.zeros((kk, streams, h), int)
            for i in range(kk):
                for s2, part_ in enumerate(np.split(out[e.starts[j] + i], streams)):
                    x[i, s2] = np.bincount(e.place[stratum[part_]], minlength=h)
            if not kk:
                continue
            d = x.sum(1) - c.sum(0) / kk
            check((np.abs(d) < slack).all(), ("stratum within 1", what))
            check((np.abs(x - c / kk) < slack).all(), ("cell within 1", what))
            check((np.abs(np.cumsum(d, 1)) < slack).all(), ("tour prefixes within 1", what))
            check((np.abs(np.cumsum(x - c / kk, 1)) < slack + 1e-9).all(), ("leading streams within 1", what))
            if j < 2:
                for i in {0, kk // 2, kk - 1}:
                    check((e.counts_of(int(e.starts[j]) + i)[0] == x[i]).all(), ("counts alone", what))
        # a rank reads only its streams' units; slices as the loaders cut them
        for w in [w for w in (2, 4, 8) if streams % w == 0]:
            ok = True
            for i in range(w):
                mine = {u for s2 in range(streams * i // w, streams * (i + 1) // w) for u, _, _ in e.seq[s2]}
                for x in out:
                    rows = x[len(x) * i // w : len(x) * (i + 1) // w]
                    ok &= set((np.searchsorted(f, rows, side="right") - 1).tolist()) <= mine
            check(ok, ("ranks read their own units", what, w))
        # each unit of a stream is open in consecutive rounds: it is read once
        ok = True
        for s2 in range(streams):
            at = defaultdict(list)
            for j, part in enumerate(e.parts[s2]):
                for u in {u for u, _, _ in part}:
                    at[u].append(j)
            ok &= all(v == list(range(v[0], v[-1] + 1)) for v in at.values())
        check(ok, ("units are opened once", what))
        pairs = sum(len({u for u, _, _ in q}) for q in e.seq)
        check(pairs <= len(e.order) + 2 * streams, ("shared units", what, pairs))
        for kk in (2, 3):
            u = [e.batch(c, kk) for c in range(min(6, -(-e.len // kk)))]
            check(all(sorted(x) == sorted(np.concatenate(out[i * kk : i * kk + kk])) for i, x in enumerate(u)), ("unions", what))
        e2 = LocalEpoch(f, r, stratum, h, b, streams, w, 11, t, z, drop_last=True)
        check(e2.len == n // b, ("drop_last", what))
        # materialise
        to = destinations(out, len(stratum))
        values = rng.integers(0, 1 << 60, len(stratum))
        read = lambda u: (np.arange(f[u], f[u] + r[u]), values[f[u] : f[u] + r[u]])  # noqa: E731
        got = list(external_permutation(read, units, to, n, int(rng.integers(1, 500)), b)) if n else []
        flat = np.concatenate(out) if out else np.zeros(0, int)
        check(not n or ((np.concatenate([g[0] for g in got]) == flat).all() and (np.concatenate([g[1] for g in got]) == values[flat]).all()), ("materialise", what))
        check(all(len(g[0]) % b == 0 for g in got[:-1]), ("buckets hold whole batches", what))


def test_edges():
    none = LocalEpoch(*units_of([0], [50], 100), np.full(50, -1), 3, 8, 4, 1, 0, 0)
    check(none.len == 0 and list(none.epoch_batches()) == [], "no planned rows")
    few = LocalEpoch(*units_of([0], [5], 100), np.zeros(5, int), 1, 8, 4, 1, 0, 0)
    check([sorted(x) for x in few.epoch_batches()] == [[0, 1, 2, 3, 4]], "fewer rows than a batch")
    ones = LocalEpoch(np.arange(64), np.ones(64, int), np.arange(64) % 4, 4, 8, 4, 2, 0, 0)
    out = list(ones.epoch_batches())
    check(sorted(np.concatenate(out)) == list(range(64)) and all((np.abs(np.bincount(x % 4) - 2) <= 2).all() for x in out), "units of one row")
    f, r = units_of([0], [1_000_000], 1 << 14)
    check(len(f) == 62 and r.max() - r.min() <= 1 and r.sum() == 1_000_000, "a row group of a million rows is 62 units")
    f, r = units_of([0, 100, 200, 5000, 5100], [100, 100, 900, 100, 40000], 1000)
    check(f.tolist()[:3] == [0, 200, 5000] and r.tolist()[:3] == [200, 900, 100] and len(f) == 43 and r[3:].min() == 1000, "small row groups are joined, large ones cut")
    f, r = units_of([0], [10000], 1000, borders=np.arange(0, 10000, 1300))
    check(all(x % 1300 == 0 for x in f) and r.sum() == 10000, "cuts fall on page borders")
    check(rounds(13, 30, 4, 2) == [3, 3, 3, 4] and rounds(0, 9, 4, 2) == [0] and rounds(2, 1000, 1, 1) == [1, 1], "rounds")


def test_fairness(rng):
    """Over epochs every row comes in every batch alike, and meets rows of every other unit."""
    n, b, streams, h = 256, 32, 4, 5
    f, r = units_of(np.arange(0, n, 16), np.full(16, 16), 16)
    stratum = np.sort(rng.choice(h, n, p=[0.5, 0.2, 0.15, 0.1, 0.05]))
    hits, met, epochs = np.zeros((n, n // b)), np.zeros((16, 16)), 250
    for e in range(epochs):
        le = LocalEpoch(f, r, stratum, h, b, streams, 2, 3, e)
        for i, x in enumerate(le.epoch_batches()):
            hits[x, i] += 1
            u = np.bincount(x // 16, minlength=16)
            met += np.outer(u, u)
    expected = epochs * b / n
    z = (hits - expected) / np.sqrt(expected * (1 - b / n))
    check(abs(z.mean()) < 0.05 and 0.8 < z.std() < 1.25 and np.abs(z).max() < 5.5, ("every row in every batch alike", z.mean(), z.std(), np.abs(z).max()))
    check((met > 0).mean() > 0.75, ("rows of units of different blocks meet", (met > 0).mean()))


# ---------------------------------------------------------------- simulation
def simulate():
    """All batches count, the rest batch too. Plain orders cut the list of units into streams and rounds of equal length."""
    n, unit, b, streams, h = 1_000_000, 1024, 256, 16, 50
    rng = np.random.default_rng(1)
    p = 1 / np.arange(1, h + 1)
    p = rng.permutation(p / p.sum())
    shuffled = rng.choice(h, n, p=p)
    mix, size = rng.dirichlet(p * h * 0.3, 64), rng.dirichlet(np.full(64, 3.0))
    data = {"shuffled": shuffled, "by source": np.concatenate([rng.choice(h, m, p=mix[i]) for i, m in enumerate(rng.multinomial(n, size))]), "sorted": np.sort(shuffled)}
    f, r = units_of([0], [n], unit)
    print("drift: 0 as the global order; worst: rows by which a stratum misses its share in a batch (random batches: 11 to 14)")
    print("%-10s %3s | %s | reads, opened" % ("data", "W", "  ".join("%-26s" % x for x in ("files in order", "keyed order", "this"))))
    for name, stratum in data.items():
        for w in (1, 2, 4, 8, 16):
            cells = []
            for how in ("files", "keyed", "this"):
                e = LocalEpoch(f, r, stratum, h, b, streams, w, 5, 0)
                if how != "this":
                    order = np.arange(len(f)) if how == "files" else np.random.default_rng(w).permutation(len(f))
                    e.memo, at, target = {}, 0, [n * (i + 1) // streams for i in range(streams)]
                    e.seq, i = [[] for _ in range(streams)], 0
                    for u in order.tolist():
                        x, left = 0, int(r[u])
                        while left:
                            take = min(left, target[i] - at)
                            if take:
                                e.seq[i].append((u, x, x + take))
                            x, left, at = x + take, left - take, at + take
                            i += at == target[i] and i < streams - 1
                    e._parts()
                rep = e.report()
                cells.append("drift %6.3f worst %5.1f" % (rep["drift"], rep["worst"]))
            print("%-10s %3d | %s | %.3f %d" % (name, w, "  ".join("%-26s" % c for c in cells), rep["reads"], rep["opened"]), flush=True)


if __name__ == "__main__":
    if "--simulate" in sys.argv:
        simulate()
    else:
        g = np.random.default_rng(3)
        test_halving(g)
        test_edges()
        test_epochs(g, int(sys.argv[1]) if len(sys.argv) > 1 else 60)
        test_fairness(g)
        print(f"{PASSED} passed, {FAILED} failed")
        sys.exit(FAILED > 0)
