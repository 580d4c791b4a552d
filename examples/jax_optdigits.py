"""Batches of a plan in JAX through Grain, updates by information with optax, on handwritten digits; planned against shuffled.

    python examples/jax_optdigits.py [DATA.parquet] [--seeds 5] [--epochs 4]

The data that comes with the repository is the test part of Optical Recognition of Handwritten Digits; the whole of it works alike. A planned
batch is worth more than a random one, so the same rule makes more updates of it: their number is part of the comparison."""

import argparse
import pathlib
import subprocess
import sys
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pyarrow.parquet as pq

import batchwright as bw
from batchwright.grain import PlanIterator, PlanMapDataset
from batchwright.jax import accumulate, weighted_mean

HERE = pathlib.Path(__file__).resolve().parent


class Digits:
    """A Grain source: random access to rows."""

    def __init__(self, path):
        table = pq.read_table(path, columns=["embedding", "label"])
        self.x = np.stack(table["embedding"].to_numpy()).astype(np.float32)
        self.y = table["label"].to_numpy()

    def __len__(self):
        return len(self.x)

    def __getitem__(self, row):
        return {"x": self.x[row], "y": self.y[row], "row": row}


def forward(params, x):
    return jax.nn.relu(x @ params["w1"] + params["b1"]) @ params["w2"] + params["b2"]


def loss(params, batch, w):
    return weighted_mean(optax.softmax_cross_entropy_with_integer_labels(forward(params, batch["x"]), batch["y"]), w)


optimizer = accumulate(optax.sgd(0.2, momentum=0.9))


@jax.jit
def train_step(params, state, batch, w, weight, fire):
    gradients = jax.grad(loss)(params, batch, w)
    updates, state = optimizer.update(gradients, state, params, weight=weight, fire=fire)
    return optax.apply_updates(params, updates), state


def initial(seed):
    a, b = jax.random.split(jax.random.key(seed))
    return {
        "w1": jax.random.normal(a, (64, 64)) / 8, "b1": jnp.zeros(64),
        "w2": jax.random.normal(b, (64, 10)) / 8, "b2": jnp.zeros(10),
    }  # fmt: skip


def shuffled(source, rows, size, epochs, seed):
    rng = np.random.default_rng(seed)
    for _ in range(epochs):
        order = rng.permutation(rows)
        for i in range(0, len(order), size):
            at = order[i : i + size]
            yield {"x": source.x[at], "y": source.y[at], "row": at}


def train(plan, source, seed, epochs, planned):
    params = initial(seed)
    state = optimizer.init(params)
    decide, score = plan.accumulator(), plan.score()
    held_out = plan.holdout()
    if planned:
        batches = PlanIterator(PlanMapDataset(plan, source), epochs * (seed + 1))
        batches.done = seed * epochs * batches.dataset.steps  # every seed trains on other batches
    else:
        batches = shuffled(source, plan.epoch(0).rows(), plan.batch_size, epochs, seed)
    steps, losses, count = -(-plan.rows_planned // plan.batch_size), [], 0
    for i, batch in enumerate(batches):
        rows = np.asarray(batch.pop("row"))
        # The same rule for both: a shuffled batch is scored by the modalities of its rows, as a planned one is.
        weight, fire = decide.feed(score.n_eff(plan.histogram(rows), i / (epochs * steps))[0], len(rows))
        if (i + 1) % steps == 0:
            fire = decide.finish() or fire
        count += fire
        params, state = train_step(params, state, batch, np.ones(len(rows), np.float32), weight, fire)
        if (i + 1) % steps == 0:
            losses.append(float(loss(params, {"x": source.x[held_out], "y": source.y[held_out]}, np.ones(len(held_out), np.float32))))
    return losses + [count]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="?", type=pathlib.Path, default=HERE.parent / "fixtures" / "digits.parquet")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=4)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "plan"
        command = [sys.executable, "-m", "batchwright", "plan", options.data, "-o", out, "--label", "label", "--holdout", "0.2", "-q"]
        subprocess.run([*command, "--batch-size", "32"], check=True)
        plan, source = bw.Plan.open(out), Digits(options.data)
        print(f"{plan.rows_planned} rows, {plan.modalities} modalities, updates at {plan.information_threshold:g} effective rows")
        print(f"held-out loss after each epoch, mean +- standard deviation over {options.seeds} seeds\n")
        for name, planned in (("shuffled", False), ("planned", True)):
            results = np.array([train(plan, source, seed, options.epochs, planned) for seed in range(options.seeds)])
            *cells, _ = (f"{m:.3f} +- {s:.3f}" for m, s in zip(results.mean(0), results.std(0, ddof=1), strict=True))
            print(f"{name:10}" + "".join(f"{cell:>17}" for cell in cells) + f"{results[:, -1].mean():9.1f} updates")


if __name__ == "__main__":
    main()
