"""Executable reference of docs/splits.md (numpy only; reference.py beside it). Integers are exact: src/splits equals them bit for bit.
`python reference_splits.py` compares everything with brute force and prints 'N passed, 0 failed'."""
import sys
from itertools import product
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from reference import EpochPlan, key, perm_array  # noqa: E402

SPLIT = (1 << 40) + 15  # first word of the keys of splits (Stream::Split)
NONE = -1


# ---------------------------------------------------------------- 1 near-duplicates: what they are
def unit(x):
    """Rows scaled to length 1 (f64, rounded to f32); a row of zeros stays."""
    n = np.sqrt((x.astype(np.float64) ** 2).sum(1, keepdims=True))
    return np.where(n > 0, x / np.where(n > 0, n, 1), x).astype(np.float32)


def radius(cos):
    """The Euclidean threshold of a cosine, for rows of length 1."""
    return float(np.sqrt(2 - 2 * cos))


def squared(a, b):
    """Canonical squared distance of rows of f32: f64, eight lanes, fixed tree."""
    d = (a.astype(np.float64) - b.astype(np.float64)) ** 2
    d = np.concatenate([d, np.zeros((*d.shape[:-1], -d.shape[-1] % 8))], -1)
    lane = np.zeros((*d.shape[:-1], 8))
    for t in range(0, d.shape[-1], 8):
        lane = lane + d[..., t : t + 8]
    s = lane[..., 0::2] + lane[..., 1::2]
    s = s[..., 0::2] + s[..., 1::2]
    return s[..., 0] + s[..., 1]


def auto_radius(x, alpha=1e-4, k=10):
    """t of `auto` from sample rows that are all different: the median distance to the nearest neighbour times
    (alpha / ln 2)^(1/D), D the intrinsic dimension (Levina & Bickel 2005, inverses averaged: MacKay & Ghahramani)."""
    k = min(k, len(x) - 1)
    if k < 3:
        return 0.0, np.nan, np.nan
    r = np.sort(np.stack([np.sqrt(squared(x[i], x)) for i in range(len(x))]), 1)[:, 1 : k + 1]
    g = np.log(r[:, -1:] / np.maximum(r[:, :-1], 1e-12 * r[:, -1:])).sum(1) / (k - 2)
    dim, m = 1 / g.mean(), float(np.median(r[:, 0]))
    return m * (alpha / np.log(2)) ** (1 / dim), m, dim


def near_pairs(x, t):
    """All pairs i < j with canonical squared distance <= t^2: the definition."""
    out = [(i, j) for i in range(len(x)) for j in (i + 1 + np.flatnonzero(squared(x[i], x[i + 1 :]) <= t * t)).tolist()]
    return np.array(out, np.int64).reshape(-1, 2)


def cell_pairs(x, z, centers, t, slack=1e-5):
    """The same pairs, cell by cell. z: rows after any map that lengthens no distance (x itself, a projection). A row lives in the
    cell a of its nearest centre and visits b where |z - c_b|^2 - |z - c_a|^2 <= t |c_a - c_b|; a pair is looked at in a cell where
    one lives and the other lives or visits. Returns (pairs, cells a row is in on average, pairs looked at)."""
    z, c = z.astype(np.float64), centers.astype(np.float64)
    d = ((z[:, None] - c[None]) ** 2).sum(2)
    home = d.argmin(1)
    apart = np.sqrt(((c[:, None] - c[None]) ** 2).sum(2))
    room = slack * (1e-6 + (z**2).sum(1).max() + (c**2).sum(1).max())  # what rounding may hide
    here = d - d[np.arange(len(z)), home][:, None] <= t * (1 + slack) * apart[home] + room
    here[np.arange(len(z)), home] = False
    found, looked = set(), 0
    for a in range(len(c)):
        lives, all_ = np.flatnonzero(home == a), np.flatnonzero((home == a) | here[:, a])
        for i in lives:
            other = all_[(all_ > i) | (home[all_] != a)]
            other = other[((z[i] - z[other]) ** 2).sum(1) <= (t * (1 + slack)) ** 2 + room]  # the screen
            looked += len(all_)
            found |= {(min(i, j), max(i, j)) for j in other[squared(x[i], x[other]) <= t * t].tolist()}
    return np.array(sorted(found), np.int64).reshape(-1, 2), 1 + here.sum() / len(z), looked


def thinned(centers, t):
    """Centres in order, without those within t of an earlier one: many cells inside one heap of duplicates cost and gain nothing."""
    keep = []
    for c in centers:
        if not keep or ((np.array(keep) - c) ** 2).sum(1).min() > t * t:
            keep.append(c)
    return np.array(keep)


def components(n, pairs):
    """Group of every row: the lowest row that can be reached over pairs."""
    up = list(range(n))

    def root(i):
        while up[i] != i:
            up[i] = up[up[i]]
            i = up[i]
        return i

    for i, j in pairs:
        a, b = root(i), root(j)
        up[max(a, b)] = min(a, b)
    return np.array([root(i) for i in range(n)])


def keepers(n, pairs, order):
    """Keeper of every row. In `order` (a permutation, best first) a row is kept if no row kept before it is near; else its
    keeper is the first such row. Leader clustering (Hartigan 1975) = lexicographically first maximal independent set."""
    near = [[] for _ in range(n)]
    for i, j in pairs:
        near[i].append(j)
        near[j].append(i)
    rank = np.empty(n, int)
    rank[order] = np.arange(n)
    out = np.full(n, NONE)
    for i in order:
        kept = [j for j in near[i] if rank[j] < rank[i] and out[j] == j]
        out[i] = min(kept, key=lambda j: rank[j]) if kept else i
    return out


def listed_keepers(n, pairs, order, cap=8):
    """The same from at most `cap` near rows a row, so that memory is bounded however dense a heap is: of each row only the first
    near rows in the order are listed. A row all of whose listed are out, with its list cut, is looked up again among
    the rows that are not out. Returns (keepers, rows looked up again)."""
    near = [[] for _ in range(n)]
    rank = np.empty(n, int)
    rank[order] = np.arange(n)
    for i, j in pairs:
        near[i].append(j)
        near[j].append(i)

    def look(i, out_rows):
        e = sorted((j for j in near[i] if rank[j] < rank[i] and not out_rows[j]), key=lambda j: rank[j])
        return e[:cap], len(e) > cap

    out_rows, keeper, again = np.zeros(n, bool), np.full(n, NONE), 0
    lists = {i: look(i, out_rows) for i in range(n)}
    open_ = list(order)
    while open_:
        left = []
        for i in open_:
            e, cut = lists[i]
            for j in e:
                if keeper[j] == j:
                    keeper[i], out_rows[i] = j, True
                    break
                if keeper[j] == NONE:  # not decided yet
                    left.append(i)
                    break
            else:
                if cut:
                    left.append(i)
                else:
                    keeper[i] = i
        for i in left:
            e, cut = lists[i]
            if cut and all(out_rows[j] for j in e):
                lists[i] = look(i, out_rows)
                again += 1
        open_ = left
    return keeper, again


def appended_groups(group, near_new, first_new, n):
    """Groups after rows first_new .. n came in. Old rows keep theirs; near_new: pairs with at least one new row. New rows that hang together join the
    old group they are near; if they are near two, they are set aside (NONE), for a new row must not join old groups that may lie in two splits."""
    new = components(n, [p for p in near_new if min(p) >= first_new])
    touch = {}
    for i, j in near_new:
        if min(i, j) < first_new:
            touch.setdefault(int(new[max(i, j)]), set()).add(int(group[min(i, j)]))
    out = np.concatenate([group, np.arange(first_new, n)])
    for r in range(first_new, n):
        old = touch.get(int(new[r]), {int(new[r])})
        out[r] = min(old) if len(old) == 1 else NONE
    return out


# ---------------------------------------------------------------- 2 splits: counts
def totals(n, shares):
    """Rows of each split: largest remainder of n q_s, ties to the later split; shares are exact fractions (numerator, denominator)."""
    num, den = zip(*shares)
    den = int(np.lcm.reduce(np.array(den, dtype=object)))
    w = [a * (den // b) for a, b in shares]
    assert sum(w) == den, "shares must sum to 1"
    out = [n * a // den for a in w]
    for s in sorted(range(len(w)), key=lambda s: (-(n * w[s] % den), -s))[: n - sum(out)]:
        out[s] += 1
    return out


def round_table(a, u, k):
    """Unbiased controlled rounding of a / u (integers a >= 0; every row sum a multiple of u): each entry becomes its floor or its ceiling, row
    sums stay, column sums too where they are whole (else floor or ceiling), and the expectation over k is a / u. Dependent
    rounding (Gandhi et al. 2006) with rows in order: at most S - 1 rows are open at a time, so what one row has too much the next ones
    make up; two columns: the ordered pivotal method (Deville & Tille 1998). O(H S^2) for H rows, S columns."""
    x = [[v // u for v in r] for r in a]
    f, step = {}, 0  # open rows: row -> {column: fraction, in units of 1 / u}; a forest of rows and columns

    def tree_path(start, goals):
        """[start, row, column, .., row, goal] in the forest; None if no goal is in start's tree."""
        seen, queue = {start: [start]}, [start]
        for c in queue:
            for h in f:
                if c in f[h] and (len(seen[c]) < 2 or seen[c][-2] != h):
                    for e in f[h]:
                        if e not in seen:
                            seen[e] = seen[c] + [h, e]
                            queue.append(e)
        return next((seen[g] for g in goals if g in seen and g != start), None)

    def push(path):
        """Moves rows along [column, row, column, ..]: + in the first entry, - in the next, until one is whole."""
        nonlocal step
        entry = [(path[i + 1], path[i], 1) if i % 2 == 0 else (path[i], path[i + 1], -1) for i in range(len(path) - 1)]
        up = min(u - g[h][c] if sign > 0 else g[h][c] for h, c, sign in entry)
        down = min(g[h][c] if sign > 0 else u - g[h][c] for h, c, sign in entry)
        by = up if key(k, step) * (up + down) >> 64 < down else -down  # up with probability down / (up + down)
        step += 1
        for h, c, sign in entry:
            g[h][c] += sign * by
            if g[h][c] in (0, u):
                x[h][c] += g[h].pop(c) // u
        for h in {h for h, _, _ in entry}:
            if not g[h]:
                del g[h]
                f.pop(h, None)

    for h, r in enumerate(a):
        assert sum(r) % u == 0
        new = {c: v % u for c, v in enumerate(r) if v % u}
        g = f | {h: new} if new else f
        while h in g:
            cols = sorted(g[h])
            path = next((p for i, c in enumerate(cols) if (p := tree_path(c, cols[i + 1 :]))), None)
            if path is None:
                f[h] = g[h]
                break
            push(path + [h, path[0]])
    g = f
    while f:  # column sums that are not whole: between two columns with one open entry each
        ends = [c for c in range(len(a[0])) if sum(c in r for r in f.values()) == 1]
        push(next(p for i, c in enumerate(ends) if (p := tree_path(c, ends[i + 1 :]))))
    return np.array(x, np.int64).reshape(len(a), -1)


def level(need, rows, u):
    """y >= 0 in units of 1 / u with sum `rows` u that comes nearest to `need` (least squares): need less one level, cut off at 0; what division
    leaves goes to the first in the order of need."""
    order = sorted(range(len(need)), key=lambda s: (-need[s], s))
    for m in range(len(need), 0, -1):
        low, rest = divmod(sum(need[s] for s in order[:m]) - rows * u, m)
        if m == 1 or need[order[m - 1]] - low - (rest > 0) >= 0:
            y = [0] * len(need)
            for i, s in enumerate(order[:m]):
                y[s] = need[s] - low - (i >= m - rest)
            return y


# ---------------------------------------------------------------- 2 splits: rows
def place_groups(groups, hist, x, target, rows, n, k):
    """Split of every group of several rows, the largest first (ties by key): where it raises
    sum over cells of (x - target)^2 / rows  +  sum over splits of (X - Target)^2 / n   least (ties: the earlier split).
    hist: group -> (cells, counts); x, target: cells x splits; rows: of every cell. Changes x. O(entries of hist x S)."""
    total, t_total, out = x.sum(0).astype(float), target.sum(0), {}
    for g in sorted(groups, key=lambda g: (-int(hist[g][1].sum()), key(k, g))):
        h, c = hist[g]
        m = int(c.sum())
        cost = ((2 * (x[h] - target[h]) + c[:, None]) * (c / rows[h])[:, None]).sum(0) + m * (2 * (total - t_total) + m) / n
        s = int(np.argmin(cost))
        x[h, s] += c
        total[s] += m
        out[g] = s
    return out


def split_rows(stratum, shares, seed, group=None, label=None, old=None):
    """(split of every row, rows wanted of each split). stratum: of every row, numbered as the dendrogram's leaves stand; NONE: the row is in no split.
    group: rows with one number stay together (None: each row alone). label: shares are settled label by label first. old: splits that rows have
    already (NONE: none yet) and keep; free rows of a group join the split of its lowest row that has one."""
    stratum = np.asarray(stratum)
    n_all, S = len(stratum), len(shares)
    used = stratum != NONE
    n, total = int(used.sum()), totals(int(used.sum()), shares)
    label = np.zeros(n_all, int) if label is None else np.asarray(label)
    cells = sorted(set(zip(label[used].tolist(), stratum[used].tolist())))
    number = {c: i for i, c in enumerate(cells)}
    cell = np.array([number.get(c, NONE) if u else NONE for c, u in zip(zip(label.tolist(), stratum.tolist()), used)])
    rows = np.bincount(cell[used], minlength=len(cells))
    labels = sorted({c[0] for c in cells})
    block = {o: [i for i, c in enumerate(cells) if c[0] == o] for o in labels}
    weight = {o: int(rows[block[o]].sum()) for o in labels}
    want = round_table([[weight[o] * t for t in total] for o in labels], n, key(seed, SPLIT, 1))
    want = {o: w.tolist() for o, w in zip(labels, want)}
    target = np.array([[int(rows[i]) * t / weight[c[0]] for t in want[c[0]]] for i, c in enumerate(cells)])

    out = np.full(n_all, NONE) if old is None else np.where(used, old, NONE)
    if group is not None and old is not None:
        for g in np.unique(np.asarray(group)[used]):
            mine = np.flatnonzero(used & (np.asarray(group) == g))
            settled = mine[out[mine] != NONE]
            if len(settled):
                out[mine[out[mine] == NONE]] = out[settled[0]]
    x = np.zeros((len(cells), S), np.int64)
    np.add.at(x, (cell[out != NONE], out[out != NONE]), 1)
    free = used & (out == NONE)
    if group is not None:
        size = np.bincount(np.asarray(group)[free], minlength=n_all)
        several = free & (size[group] > 1)
        member = {}
        for r in np.flatnonzero(several).tolist():
            member.setdefault(int(group[r]), []).append(r)
        hist = {g: np.unique(cell[m], return_counts=True) for g, m in member.items()}
        for g, s in place_groups(list(member), hist, x, target, rows, n, key(seed, SPLIT, 2)).items():
            out[member[g]] = s
        free &= ~several
    alone = np.bincount(cell[free], minlength=len(cells))  # rows of their own: dealt
    for o in labels:
        w, a = weight[o], []
        for i in block[o]:
            need = [int(rows[i]) * t - w * int(x[i, s]) for s, t in enumerate(want[o])]
            a.append(level(need, int(alone[i]), w))
        for s in range(1, S):  # what groups took too much or too little of in one cell is spread over all, in proportion to what can move
            lack = w * (want[o][s] - int(x[block[o], s].sum())) - sum(y[s] for y in a)
            room = [y[0] if lack > 0 else y[s] for y in a]
            move, all_room, at, done = min(abs(lack), sum(room)), sum(room), 0, 0
            for y, r in zip(a, room):
                at += r
                by = (move * at // all_room if all_room else 0) - done
                done += by
                y[s], y[0] = (y[s] + by, y[0] - by) if lack > 0 else (y[s] - by, y[0] + by)
        table = round_table(a, w, key(seed, SPLIT, 3, o))
        for i, counts in zip(block[o], table.tolist()):
            mine = np.flatnonzero(free & (cell == i))
            place = perm_array(len(mine), key(seed, SPLIT, 4, *cells[i]))
            last = np.repeat(np.arange(S)[::-1], counts[::-1])  # the last split takes the first places
            out[mine] = last[place]
    return out, total


def held_out(split):
    """Rows that batches are not dealt from: `--holdout X` is `--split train=1-X,holdout=X`."""
    return np.flatnonzero(split > 0)


def fold_members(members, split, fold):
    """Members of the strata for training without fold `fold`: the same strata, fewer rows, some strata perhaps empty."""
    return [m[split[m] != fold] for m in members]


def split_by_time(time, shares, gap=0):
    """Earliest rows first. Equal times are never cut: those at a boundary go to the earlier split. Rows less than `gap` after the last time
    before a boundary are set aside, and so are rows without a time (NaN)."""
    time = np.asarray(time, float)
    have = np.flatnonzero(~np.isnan(time))
    o = have[np.argsort(time[have], kind="stable")]
    out, at, done = np.full(len(time), NONE), 0, 0
    for s, m in enumerate(totals(len(have), shares)):
        done += m
        end = max(done, at)
        while 0 < end < len(o) and time[o[end]] == time[o[end - 1]]:
            end += 1
        part = o[at:end]
        out[part[time[part] - time[o[at - 1]] >= gap] if at else part] = s
        at = end
    return out


# ---------------------------------------------------------------- 3 leakage
def leaks(split, group):
    """Per split s > 0: (rows in a group that an earlier split has rows of too, rows in the split)."""
    out = []
    for s in range(1, int(split.max()) + 1):
        before = np.unique(group[(split != NONE) & (split < s)])
        mine = split == s
        out.append((int(np.isin(group[mine], before).sum()), int(mine.sum())))
    return out


def purged(split, group):
    """The earlier split gives way: rows whose group a later split has rows of are set aside. No group is in two splits then."""
    last = np.full(len(split), NONE)
    np.maximum.at(last, group, split)
    return np.where(split < last[group], NONE, split)


def near_between(x_new, x_old, t):
    """Pairs (new row, old row) with canonical squared distance <= t^2: what `check` looks for among held-out rows."""
    return [(i, j) for i in range(len(x_new)) for j in np.flatnonzero(squared(x_new[i], x_old) <= t * t).tolist()]


# ---------------------------------------------------------------- tests
passed = failed = 0


def test(what, ok, detail=""):
    global passed, failed
    passed, failed = passed + bool(ok), failed + (not ok)
    print(f"{'ok    ' if ok else 'FAILED'}  {what} {detail}")


def clouds(rng, n, d):
    """Rows in heaps of very different width, some equal, some far out."""
    c = rng.standard_normal((int(rng.integers(1, 6)), d)) * rng.choice([0.3, 1, 5])
    x = c[rng.integers(0, len(c), n)] + rng.standard_normal((n, d)) * rng.choice([0, 0.01, 0.1, 1], (n, 1))
    x[rng.integers(0, n, n // 8)] = x[rng.integers(0, n, n // 8)]
    return x.astype(np.float32)


def test_duplicates(rng):
    same = superset = kept = listed = grouped = later = True
    home_only = looked_up = 0
    for _ in range(120):
        n, d = int(rng.integers(2, 90)), int(rng.choice([1, 2, 5, 17]))
        x = clouds(rng, n, d) if rng.random() < 0.8 else rng.integers(0, 3, (n, d)).astype(np.float32)
        t = float(rng.choice([0.0, 0.02, 0.15, 0.5, 1.0, 2.0]))
        want = [(i, j) for i in range(n) for j in range(i + 1, n) if ((x[i].astype(float) - x[j]) ** 2).sum() <= t * t]
        pairs = near_pairs(x, t)
        same &= [tuple(p) for p in pairs.tolist()] == want
        centers = x[rng.choice(n, int(rng.integers(1, min(n, 9) + 1)), replace=rng.random() < 0.3)]
        q, _ = np.linalg.qr(rng.standard_normal((d, d)))
        z = (x @ q[:, : max(1, d // 2)]).astype(np.float32)  # a projection lengthens no distance
        for space in (x, z):
            c = space[rng.choice(n, len(centers))] if rng.random() < 0.5 else thinned(space[rng.choice(n, len(centers))], t)
            got, _, _ = cell_pairs(x, space, c, t)
            superset &= got.tolist() == pairs.tolist()
            home = ((space[:, None] - c[None]) ** 2).sum(2).argmin(1)
            home_only += sum(home[i] != home[j] for i, j in want)
        order = rng.permutation(n)
        rank = np.argsort(order)
        k = keepers(n, rng.permutation(pairs), order)
        near = {(i, j) for i, j in want} | {(j, i) for i, j in want}
        kept &= all(k[i] != i or k[j] != j for i, j in want)  # no two keepers are near
        for i in range(n):  # every other row has the first near keeper before it
            best = min((j for j in range(n) if (i, j) in near and k[j] == j and rank[j] < rank[i]), key=lambda j: rank[j], default=i)
            kept &= k[i] == best
        for cap in (1, 2, 8):
            got, again = listed_keepers(n, pairs, order, cap)
            listed &= (got == k).all()
            looked_up += again
        g = components(n, rng.permutation(pairs))
        reach = np.eye(n, dtype=bool)
        for i, j in want:
            reach[i, j] = reach[j, i] = True
        for _ in range(7):
            reach = reach @ reach
        grouped &= (g == reach.argmax(1)).all()
        first_new = int(rng.integers(1, n + 1))  # rows appended come last in the order: old keepers stay
        o = np.concatenate([[r for r in order if r < first_new], [r for r in order if r >= first_new]]).astype(int)
        old = keepers(first_new, [p for p in want if p[1] < first_new], o[:first_new])
        later &= (keepers(n, want, o)[:first_new] == old).all()
        g_old = components(first_new, [p for p in want if p[1] < first_new])
        g_new = appended_groups(g_old, np.array([p for p in want if p[1] >= first_new], np.int64).reshape(-1, 2), first_new, n)
        later &= (g_new[:first_new] == g_old).all()
        later &= all(g_new[i] == g_new[j] or NONE in (g_new[i], g_new[j]) for i, j in want)
    test("near pairs are those of the double loop", same)
    test("cell by cell, in feature space and projected: the same pairs", superset, f"({home_only} pairs lie in two cells)")
    test("keepers: none near another, every other row near its keeper, the first in the order", kept)
    test("keepers from lists of 1, 2, 8 near rows are the same", listed, f"({looked_up} rows looked up again)")
    test("groups are the connected components", grouped)
    test("appended rows change no keeper and no group of old rows, and join no two", later)
    c = thinned(rng.random((200, 2)), 0.2)
    test("thinned centres lie apart", len(c) > 5 and all(((c[i] - c[:i]) ** 2).sum(1).min() > 0.04 for i in range(1, len(c))))
    x = rng.standard_normal((2000, 6)).astype(np.float32)
    t, m, dim = auto_radius(x)
    share = np.mean([np.partition(squared(x[i], x), 1)[1] <= t * t for i in range(len(x))])
    test("auto: few rows of even data are that near", share <= 2e-3 and 4.5 < dim < 7, f"({share:.4f} of 2000, D {dim:.1f}, t {t:.3f} of {m:.3f})")
    test("auto scales with the data", abs(auto_radius(x[:300] * 8)[0] / auto_radius(x[:300])[0] - 8) < 1e-5)
    u = unit(rng.standard_normal((50, 9)).astype(np.float32))
    test("radius of a cosine", all((squared(u[0], u[i]) <= radius(0.5) ** 2) == (float(u[0] @ u[i]) >= 0.5) for i in range(1, 50)))


def random_shares(rng, S):
    q = rng.integers(1, 10, S)
    return [(int(v), int(q.sum())) for v in q]


def counts(a, b, na, nb):
    c = np.zeros((na, nb))
    np.add.at(c, (a, b), 1)
    return c


def test_splits(rng):
    test("totals: largest remainder", totals(10, [(8, 10), (1, 10), (1, 10)]) == [8, 1, 1] and totals(5, [(1, 2), (1, 2)]) == [2, 3] and totals(0, [(1, 1)]) == [0])
    worst, exact, ordered = 0.0, True, 0.0
    for t in range(200):
        H, S = int(rng.integers(1, 40)), int(rng.integers(2, 8))
        nh = rng.integers(1, 30, H)
        n = int(nh.sum())
        T = totals(n, random_shares(rng, S))
        a = [[int(v) * w for w in T] for v in nh]
        x = round_table(a, n, key(t, 1))
        exact &= (x.sum(1) == nh).all() and (x.sum(0) == T).all()
        worst = max(worst, np.abs(x - np.array(a) / n).max())
        ordered = max(ordered, np.abs(np.cumsum(x - np.array(a) / n, 0)).max() / (S - 1))
    test("rounding: rows and columns exact, every entry within 1", exact and worst < 1, f"(worst {worst:.3f})")
    test("rounding: any run of strata from the first on is within S - 1", ordered < 1, f"(worst {ordered:.3f} (S - 1))")
    nh = [1, 2, 3, 7, 1, 5]
    T = totals(19, [(8, 10), (1, 10), (1, 10)])
    a = [[v * w for w in T] for v in nh]
    mean = np.mean([round_table(a, 19, key(t, 2)) for t in range(8000)], 0)
    test("rounding is unbiased", np.abs(mean - np.array(a) / 19).max() < 0.025, f"(off by {np.abs(mean - np.array(a) / 19).max():.4f})")

    w = dict(stratum=0.0, label=0.0, cell=0.0, append=0.0, append2=0.0)
    exact = stays = whole = again = True
    for t in range(120):
        n, H, S = int(rng.integers(20, 500)), int(rng.integers(1, 25)), int(rng.integers(2, 6))
        st, lab, shares = rng.choice(H, n, p=rng.dirichlet(np.ones(H))), rng.choice(4, n, p=[0.6, 0.2, 0.15, 0.05]), random_shares(rng, S)
        out, T = split_rows(st, shares, t)
        c, q = counts(st, out, H, S), np.array(T) / n
        exact &= (c.sum(0) == T).all()
        w["stratum"] = max(w["stratum"], np.abs(c - c.sum(1, keepdims=True) * q).max())
        again &= (split_rows(st, shares, t)[0] == out).all()
        o, _ = split_rows(st, shares, t, label=lab)
        exact &= (np.bincount(o, minlength=S) == T).all()
        for name, of, k in (("label", lab, 4), ("cell", lab * H + st, 4 * H)):
            c = counts(of, o, k, S)
            w[name] = max(w[name], np.abs(c - c.sum(1, keepdims=True) * q).max())
        n2 = int(rng.integers(1, 300))
        st2 = np.concatenate([st, rng.choice(H, n2)])
        o2, T2 = split_rows(st2, shares, t, old=np.concatenate([out, np.full(n2, NONE)]))
        stays &= (o2[:n] == out).all() and (o2 != NONE).all()
        c = counts(st2, o2, H, S)
        which = "append2" if S == 2 else "append"
        w[which] = max(w[which], np.abs(c - c.sum(1, keepdims=True) * np.array(T2) / len(st2)).max())
        g = np.arange(n)
        for _ in range(int(rng.integers(0, 12))):
            m = rng.choice(n, int(rng.integers(2, 9)), replace=False)
            g[np.isin(g, g[m])] = g[np.isin(g, g[m])].min()
        o, _ = split_rows(st, shares, t, group=g)
        whole &= all(len(set(o[g == v].tolist())) == 1 for v in np.unique(g)) and (o != NONE).all()
    test("split: totals exact", exact)
    test("split: every stratum within 1", w["stratum"] < 1, f"(worst {w['stratum']:.3f})")
    test("split by label, then stratum: label within 1, both within 2", w["label"] < 1 and w["cell"] < 2, f"(worst {w['label']:.3f}, {w['cell']:.3f})")
    test("split: the same again", again)
    test("appended rows: old rows stay; strata within 1 (two splits), 2 (more)", stays and w["append2"] < 1 and w["append"] < 2, f"(worst {w['append2']:.3f}, {w['append']:.3f})")
    test("groups are never cut", whole)
    st = np.repeat([0, 1, 2], [3, 4, 6])
    hit = np.mean([split_rows(st, [(3, 4), (1, 4)], t)[0] for t in range(4000)], 0)
    test("every row has the same chance", np.abs(hit - 3 / 13).max() < 0.03, f"(wanted {3 / 13:.3f}, got {hit.min():.3f} .. {hit.max():.3f})")

    ratio, share = [], 0.0
    for t in range(40):  # greedy against all S^G placements
        H, S, G = int(rng.integers(1, 4)), int(rng.integers(2, 4)), int(rng.integers(3, 8))
        sizes = rng.integers(2, 9, G)
        g, st = np.repeat(np.arange(G), sizes), rng.integers(0, H, int(sizes.sum()))
        n, first_row = len(g), np.concatenate([[0], np.cumsum(sizes)[:-1]])
        shares = random_shares(rng, S)
        T = totals(n, shares)
        rows = np.bincount(st, minlength=H)
        target = rows[:, None] * np.array(T) / n

        def cost(o):
            c = counts(st, o, H, S)
            return ((c - target) ** 2 / np.maximum(rows, 1)[:, None]).sum() + ((c.sum(0) - T) ** 2).sum() / n

        got = cost(split_rows(st, shares, t, group=first_row[g])[0])
        best = min(cost(np.array(p)[g]) for p in product(range(S), repeat=G))
        mean = np.mean([cost(rng.integers(0, S, G)[g]) for _ in range(50)])
        ratio.append((got - best) / max(mean - best, 1e-9))
    test("groups: greedy is near the best of all placements", np.mean(ratio) < 0.05, f"(0 best, 1 random: mean {np.mean(ratio):.3f}, worst {max(ratio):.3f})")
    g = np.concatenate([np.zeros(300, int), np.arange(300, 1000)])
    o, T = split_rows(rng.integers(0, 10, 1000), [(8, 10), (1, 10), (1, 10)], 0, group=g)
    test("a group larger than a split goes where it fits; shares hold", set(o[:300].tolist()) == {0} and np.bincount(o).tolist() == T, str(T))

    st = np.repeat(np.arange(20), 50)  # groups of 9 in strata that owe the last split 5 rows: others give less, and the shares hold
    g = np.arange(1000)
    for h in range(20):
        for c in range(5):
            g[h * 50 + 9 * c : h * 50 + 9 * c + 9] = h * 50 + 9 * c
    o, T = split_rows(st, [(8, 10), (1, 10), (1, 10)], 0, group=g)
    test("groups that take more than a stratum's share: the shares hold", np.bincount(o).tolist() == T, str(np.bincount(o)))

    st = rng.integers(0, 6, 500)
    o, _ = split_rows(st, [(1, 5)] * 5, 3)
    mem, good = [np.flatnonzero(st == h) for h in range(6)] + [np.array([7])], True
    st[7], mem = 6, [np.flatnonzero(np.where(np.arange(500) == 7, 6, st) == h) for h in range(7)]
    for f in range(5):
        m = fold_members(mem, o, f)
        P = EpochPlan(m, 32, 1, 0)
        b = [P.batch(i) for i in range(len(P))]
        flat, p = np.concatenate(b), np.array([len(x) for x in m]) / sum(len(x) for x in m)
        good &= sorted(flat.tolist()) == np.flatnonzero(o != f).tolist()
        good &= all(np.abs(np.bincount(st[x], minlength=7) - len(x) * p).max() < 1 for x in b)
    test("folds: one set of strata, exact batches without each fold", good)
    y = rng.integers(0, 40, 300).astype(float)
    y[5] = np.nan
    o = split_by_time(y, [(8, 10), (1, 10), (1, 10)], gap=2)
    good = all(y[o == a].max() + 2 <= y[o == b].min() for a, b in ((0, 1), (1, 2))) and o[5] == NONE and (o == 0).sum() >= 239
    o = split_by_time(y, [(1, 2), (1, 2)])
    good &= y[o == 0].max() < y[o == 1].min() and sum(o == NONE) == 1 and 149 <= (o == 0).sum() <= 149 + (y == y[o == 0].max()).sum()
    test("by time: in order, ties together, the gap kept", good)


def test_leaks(rng):
    good = True
    for _ in range(60):
        n, S = int(rng.integers(3, 80)), int(rng.integers(2, 5))
        g = components(n, rng.integers(0, n, (n // 3, 2)))
        o = rng.integers(0, S, n)
        o[rng.integers(0, n, 2)] = NONE
        want = [(sum(o[i] == s and any(g[j] == g[i] and 0 <= o[j] < s for j in range(n)) for i in range(n)), int((o == s).sum())) for s in range(1, int(o.max()) + 1)]
        good &= leaks(o, g) == want
        p = purged(o, g)
        good &= all(x[0] == 0 for x in leaks(p, g)) and (p[o == o.max()] == o.max()).all() and ((p == o) | (p == NONE)).all()
    test("leaks are those of the double loop; after purging there are none and the last split is whole", good)
    x = clouds(rng, 60, 4)
    test("new rows near old ones", sorted(near_between(x[40:], x[:40], 0.2)) == sorted((j - 40, i) for i, j in near_pairs(x, 0.2).tolist() if i < 40 <= j))


if __name__ == "__main__":
    generator = np.random.default_rng(0)
    for f in (test_duplicates, test_splits, test_leaks):
        f(generator)
    print(f"{passed} passed, {failed} failed")
    sys.exit(failed > 0)
