"""Batches of a local plan in JAX: as a Grain dataset with a state, or as arrays that are already divided among the devices.

    python examples/jax_grain.py [DATA.parquet] [--epochs 4]
    XLA_FLAGS=--xla_force_host_platform_device_count=2 python examples/jax_grain.py --sharded

Halfway the Grain run saves the state of its iterator, reads on, goes back, and shows that it gets the same batches again."""

import argparse
import pathlib
import subprocess
import sys
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import optax

import batchwright as bw

HERE = pathlib.Path(__file__).resolve().parent
COLUMNS = ["embedding", "label"]


def make_plan(data, out):
    command = [sys.executable, "-m", "batchwright", "plan", data, "-o", out, "--features", "embedding", "--label", "label"]
    subprocess.run([*command, "--batch-size", "64", "--locality", "local", "-q"], check=True)
    return bw.Plan.open(out)


def forward(params, x):
    return jax.nn.relu(x @ params["w1"] + params["b1"]) @ params["w2"] + params["b2"]


def loss(params, x, y):
    return optax.softmax_cross_entropy_with_integer_labels(forward(params, x), y).mean()


optimizer = optax.sgd(0.2, momentum=0.9)


@jax.jit
def train_step(params, state, x, y):
    value, gradients = jax.value_and_grad(loss)(params, x, y)
    updates, state = optimizer.update(gradients, state, params)
    return optax.apply_updates(params, updates), state, value


def initial():
    a, b = jax.random.split(jax.random.key(0))
    return {
        "w1": jax.random.normal(a, (64, 64)) / 8, "b1": jnp.zeros(64),
        "w2": jax.random.normal(b, (64, 10)) / 8, "b2": jnp.zeros(10),
    }  # fmt: skip


def through_grain(plan, data, epochs):
    from batchwright.grain import StreamIterDataset

    dataset = StreamIterDataset(plan, data, columns=COLUMNS, epochs=epochs)  # a grain.IterDataset: map, mp_prefetch and so on follow
    dataset = dataset.map(lambda batch: {name: batch[name] for name in (*COLUMNS, "row")})
    batches = iter(dataset)
    middle = epochs * plan.rows_planned // plan.batch_size // 2
    for i, batch in enumerate(batches):
        yield batch
        if i == middle:
            state = batches.get_state()  # Grain's checkpoints for Orbax hold this
            ahead = [next(batches)["row"] for _ in range(3)]
            batches.set_state(state)
            again = iter(dataset)
            again.set_state(state)
            same = all(np.array_equal(rows, next(again)["row"]) for rows in ahead)
            print(f"after step {i}: the state gives {'the same' if same else 'OTHER'} batches again")


def sharded(plan, data, epochs):
    from batchwright.jax import stream

    mesh = jax.sharding.Mesh(np.array(jax.local_devices()), ("data",))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    # A last batch that is shorter would be compiled once more, and may not divide among devices.
    yield from stream(plan, data, columns=COLUMNS, epochs=epochs, sharding=sharding, rest="drop")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="?", type=pathlib.Path, default=HERE.parent / "fixtures" / "digits.parquet")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--sharded", action="store_true", help="arrays divided among all devices of this process")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        plan = make_plan(options.data, pathlib.Path(folder) / "plan")
        batches = (sharded if options.sharded else through_grain)(plan, options.data, options.epochs)
        params = initial()
        state, losses = optimizer.init(params), []
        for batch in batches:
            params, state, value = train_step(params, state, jnp.asarray(batch["embedding"]), jnp.asarray(batch["label"]))
            losses.append(float(value))
        quarter = len(losses) // 4
        first, last = np.mean(losses[:quarter]), np.mean(losses[-quarter:])
        print(f"{len(losses)} steps on {jax.device_count()} device(s): loss {first:.3f} at first, {last:.3f} at last")


if __name__ == "__main__":
    main()
