"""Repeats the evidence of docs/algorithms.md on choosing loaders, accumulating, and row weights, on handwritten digits.

    python python/benches/evidence.py [choice] [accumulation] [weights] [--seeds 5] [--data fixtures/digits.parquet]

Needs torch (one thread), pyarrow and the package. Every figure is a mean over seeds with its standard deviation; each seed trains
another initial model on other epochs of the plan."""

import argparse
import math
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import torch
from torch.nn.functional import cross_entropy

import batchwright as bw
from batchwright.torch import ParquetRows
from batchwright.training import weighted_mean

ROOT = pathlib.Path(__file__).resolve().parents[2]
SIZES = (32, 64, 128, 256, 512, 1024)


def make(folder, data, *flags):
    out = pathlib.Path(folder) / f"plan-{len(list(pathlib.Path(folder).iterdir()))}"
    subprocess.run([sys.executable, "-m", "batchwright", "plan", data, "-o", out, "--label", "label", "-q", *flags], check=True)
    plan = bw.Plan.open(out)
    columns = ParquetRows(plan, data, ["embedding", "label"], extra=()).__getitems__(range(plan.rows)).columns
    return plan, torch.from_numpy(columns["embedding"]), torch.from_numpy(columns["label"].astype(np.int64))


def network(seed, dims=64):
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(dims, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))


def index(rows):
    return torch.as_tensor(rows.astype(np.int64))


def cell(values):
    values = np.asarray(values, float)
    return f"{values.mean():.3f} +- {values.std(ddof=1):.3f}" if len(values) > 1 else f"{values.mean():.3f}"


# ------------------------------------------------------------------------------------------------- choosing a loader (section 3)


def descend(plan, x, y, seed, rule, overhead, most, choose):
    """Trains until `most` is spent, a batch of n rows costing n + overhead. `choose(cost, loss)` is asked after every segment for the
    next size. Returns (cost, probe loss) after every segment."""
    model, probe = network(seed), index(plan.probe(1024))

    @torch.no_grad()
    def loss_of():
        return float(cross_entropy(model(x[probe]), y[probe]))

    curve, cost, epoch, unit = [(0.0, loss_of())], 0.0, 100 * seed, 0
    size = choose(0.0, curve[0][1])
    base, batches = plan.candidates[0], {}
    segment = rows = 0
    while cost < most:
        k = size // base
        if unit % k:  # smaller batches lead up to where the size fits
            k = next(j // base for j in reversed(plan.candidates) if j <= size and unit % (j // base) == 0 and j // base <= k - unit % k)
        at = epoch, k
        if at not in batches:
            batches = {key: value for key, value in batches.items() if key[0] == epoch}
            batches[at] = plan.epoch(epoch, k * base)
        if unit // k >= len(batches[at]):
            epoch, unit = epoch + 1, 0
            continue
        batch = batches[at].batch(unit // k)
        unit += k
        lr = {"constant": 0.1, "sqrt": 0.1 * math.sqrt(size / 64), "linear": 0.1 * size / 64}[rule]
        b = index(batch)
        for p, g in zip(model.parameters(), torch.autograd.grad(cross_entropy(model(x[b]), y[b]), list(model.parameters())), strict=True):
            p.data.sub_(lr * g)
        segment, rows = segment + len(batch) + overhead, rows + len(batch)
        cost += len(batch) + overhead
        if rows >= 1024:
            curve.append((cost, loss_of()))
            size = choose(segment, curve[-1][1])
            segment = rows = 0
    return np.array(curve)


class Policy:
    def __init__(self, plan, policy, seed, epochs):
        self.core = plan.loader_choice(epochs, policy=policy, seed=seed, segment_rows=1024)
        self.begun = False

    def __call__(self, cost, loss):
        if not self.begun:
            self.begun = True
            return self.core.begin(loss)
        return self.core.update(loss, cost)


def reach(curve, target, most):
    """Cost at which the smallest loss so far reaches the target; `most` if it never does (so ratios are at least these)."""
    below = np.flatnonzero(np.minimum.accumulate(curve[:, 1]) <= target)
    return curve[below[0], 0] if len(below) else most


def choice(folder, data, seeds):
    plan, x, y = make(folder, data, "--batch-size", "64", "--candidates", ",".join(map(str, SIZES)))
    print("\nChoosing among batch sizes 32 .. 1024: cost to reach the loss that the best fixed size has at 30 % and 70 % of a budget of 35 840,")
    print("relative to that size, known only afterwards. Blind pick: the mean over the six sizes. Runs that are not there at 2.5 times the")
    print(f"budget count as that. A batch of n rows costs n (samples) or n + 128 (time). {seeds} seeds, spread over seeds.\n")
    ways = ("rate", "extrapolation", "ratchet", "blind pick", "always 32")
    print(f"{'learning rate':14}{'cost':9}{'at':>5}{'best':>6}" + "".join(f"{w:>17}" for w in ways))
    every = {(w, f): [] for w in ways for f in (0.3, 0.7)}
    for rule in ("constant", "sqrt", "linear"):
        for name, overhead in (("samples", 0), ("time", 128)):
            budget = 35 * 1024.0
            most = 2.5 * budget
            results = {f: {w: [] for w in (*ways, "best")} for f in (0.3, 0.7)}
            for seed in range(seeds):
                fixed = {s: descend(plan, x, y, seed, rule, overhead, most, lambda *_, s=s: s) for s in plan.candidates}
                runs = {w: descend(plan, x, y, seed, rule, overhead, most, Policy(plan, w, seed, most / plan.rows)) for w in ways[:3]}
                for f in (0.3, 0.7):
                    at = {s: c[c[:, 0] <= f * budget, 1].min() for s, c in fixed.items()}
                    best = min(at, key=at.get)
                    target, base = at[best], reach(fixed[best], at[best], most)
                    for w, curve in runs.items():
                        results[f][w].append(reach(curve, target, most) / base)
                    results[f]["blind pick"].append(np.mean([reach(c, target, most) / base for c in fixed.values()]))
                    results[f]["always 32"].append(reach(fixed[32], target, most) / base)
                    results[f]["best"].append(best)
            for f, of in results.items():
                best = int(np.median(of["best"]))
                print(f"{rule:14}{name:9}{f:>5.0%}{best:>6}" + "".join(f"{cell(of[w]):>17}" for w in ways), flush=True)
                for w in ways:
                    every[w, f] += of[w]
    for f in (0.3, 0.7):
        print(f"{'all (geometric mean)':28}{f:>5.0%} " + "".join(f"{np.exp(np.mean(np.log(every[w, f]))):>17.2f}" for w in ways))


# --------------------------------------------------------------------------------------------- updates by information (section 4)


def flat_gradient(model, x, y, rows):
    loss = cross_entropy(model(x[rows]), y[rows])
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))]).double()


def streams(plan, rng):
    """Batches of 64 rows: drawn at random; each from few modalities; both, and of 16 to 128 rows."""
    modality = plan.modality(np.arange(plan.rows))

    def skewed(n):
        few = rng.choice(plan.modalities, rng.integers(1, 4), replace=False)
        pool = np.flatnonzero(np.isin(modality, few))
        return rng.choice(pool, min(n, len(pool)), replace=False)

    return {
        "random": lambda: rng.choice(plan.rows, 64, replace=False),
        "skewed": lambda: skewed(64),
        "mixed": lambda: skewed(rng.choice([16, 64, 128])) if rng.random() < 0.5 else rng.choice(plan.rows, rng.choice([16, 64, 128]), replace=False),
    }


def ranks(v):
    out = np.empty(len(v))
    out[np.argsort(v)] = np.arange(len(v))
    return out


def accumulation(folder, data, seeds):
    plan, x, y = make(folder, data, "--batch-size", "64")
    score, every = plan.score(), torch.arange(plan.rows)
    print(f"\nUpdates of about {plan.information_threshold:g} effective rows: squared error of sum(w g) / sum(w), w = n_eff, relative to that of the")
    print("plain mean of the same batches (weighted / plain; below 1 is better) and of the row-weighted mean; and the rank correlation of")
    print(f"n_eff, and of n alone, with the smallness of a batch's error. 60 updates, {seeds} seeds, spread over seeds.\n")
    print(f"{'model':14}{'stream':9}{'weighted/plain':>18}{'weighted/rows':>18}{'rank corr n_eff':>18}{'rank corr n':>18}")
    for state, epochs, progress in (("initial", 0, 0.0), ("mid", 1, 0.25), ("late", 30, 0.9)):
        table = {}
        for seed in range(seeds):
            model = network(seed)
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            for e in range(epochs):
                for batch in plan.epoch(1000 * seed + e):
                    optimizer.zero_grad()
                    cross_entropy(model(x[index(batch)]), y[index(batch)]).backward()
                    optimizer.step()
            full = flat_gradient(model, x, y, every)
            for name, draw in streams(plan, np.random.default_rng(seed)).items():
                plain = weighted = by_rows = 0.0
                seen, errors = [], []
                for _ in range(60):
                    core, window = plan.accumulator(), []
                    fire = False
                    while not fire:
                        rows = draw()
                        n_eff, _ = score.n_eff(plan.histogram(rows), progress)
                        w, fire = core.feed(n_eff, len(rows))
                        window.append((w, len(rows), flat_gradient(model, x, y, torch.as_tensor(rows))))
                        seen.append((n_eff, len(rows)))
                        errors.append(float((window[-1][2] - full).square().sum()))
                    mean = lambda weights: sum(w * g for w, (_, _, g) in zip(weights, window, strict=True)) / sum(weights)  # noqa: B023, E731
                    error = lambda weights: float((mean(weights) - full).square().sum())  # noqa: B023, E731
                    weighted += error([w for w, _, _ in window])
                    plain += error([1.0] * len(window))
                    by_rows += error([n for _, n, _ in window])
                n_eff, n = np.array(seen).T
                rho = lambda v: np.corrcoef(ranks(v), ranks(-np.array(errors)))[0, 1] if np.ptp(v) else math.nan  # noqa: B023, E731
                table.setdefault(name, []).append((weighted / plain, weighted / by_rows, rho(n_eff), rho(n)))
        for name, values in table.items():
            columns = np.array(values).T
            print(f"{state:14}{name:9}" + "".join(f"{cell(c) if not np.isnan(c).any() else '-':>18}" for c in columns), flush=True)


# ------------------------------------------------------------------------------------------------------- row weights (section 5)


def weights(folder, data, seeds):
    print("\nRow weights of strength b, 10 epochs: held-out accuracy in points minus that of uniform weights from the same start and batches.")
    print(f"{3 * seeds} pairs (seeds), mean +- standard error; 20 % of the rows are held out.\n")
    for schedule in ("centre-to-periphery", "centre-then-uniform", "periphery-late"):
        for b in (1, 4):
            flags = ["--batch-size", "64", "--holdout", "0.2", "--weights", schedule, "--weight-strength", str(b)]
            plan, x, y = make(folder, data, *flags)
            held, differences, losses = index(plan.holdout()), [], []
            for seed in range(3 * seeds):
                result = []
                for use in (True, False):
                    model = network(seed)
                    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
                    for e in range(10):
                        epoch = plan.epoch(10 * seed + e)
                        for i in range(len(epoch)):
                            rows = index(epoch.batch(i))
                            rowwise = cross_entropy(model(x[rows]), y[rows], reduction="none")
                            progress = (e + i / len(epoch)) / 10
                            optimizer.zero_grad()
                            (weighted_mean(rowwise, epoch.weights(i, progress)) if use else rowwise.mean()).backward()
                            optimizer.step()
                    with torch.no_grad():
                        out = model(x[held])
                    result.append((100 * float((out.argmax(1) == y[held]).double().mean()), float(cross_entropy(out, y[held]))))
                differences.append(result[0][0] - result[1][0])
                losses.append(result[0][1] - result[1][1])
            error = lambda v: f"{np.mean(v):+.3f} +- {np.std(v, ddof=1) / math.sqrt(len(v)):.3f}"  # noqa: E731
            print(f"{schedule:22} b = {b}   accuracy {error(differences):>18}   loss {error(losses):>18}", flush=True)


PARTS = {"choice": choice, "accumulation": accumulation, "weights": weights}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", help=", ".join(PARTS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--data", type=pathlib.Path, default=ROOT / "fixtures" / "digits.parquet")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for part in options.parts or PARTS:
            PARTS[part](folder, options.data, options.seeds)


if __name__ == "__main__":
    main()
