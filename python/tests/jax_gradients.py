"""One process of `test_jax.py`: an epoch of a plan with updates of several batches, each compared with sum(s g) / sum(s).

    python jax_gradients.py PLAN ADDRESS PROCESSES RANK"""

import json
import sys

import jax

plan_path, address, processes, rank = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
jax.config.update("jax_enable_x64", True)
if processes > 1:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(address, processes, rank)

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
from jax.sharding import Mesh, NamedSharding, PartitionSpec  # noqa: E402

import batchwright as bw  # noqa: E402
import harness  # noqa: E402
from batchwright.grain import PlanMapDataset  # noqa: E402
from batchwright.jax import accumulate, weighted_mean  # noqa: E402
from batchwright.steps import divide  # noqa: E402

plan = bw.Plan.open(plan_path)
table = pq.read_table(harness.DIGITS)
x = np.stack(table["embedding"].to_numpy()).astype(np.float64)
y = table["label"].to_numpy()

mesh = Mesh(np.array(jax.devices()), ("data",))
split, whole = NamedSharding(mesh, PartitionSpec("data")), NamedSharding(mesh, PartitionSpec())


def loss(params, x, y, w):
    logits = x @ params["w"] + params["b"]
    return weighted_mean(optax.softmax_cross_entropy_with_integer_labels(logits, y), w)


learning_rate = 0.5
optimizer = accumulate(optax.sgd(learning_rate))


@jax.jit
def train(params, state, x, y, w, weight, fire):
    # The mean over a batch that is spread over processes: the compiler puts the reduction in.
    gradients = jax.grad(loss)(params, x, y, w)
    updates, state = optimizer.update(gradients, state, params, weight=weight, fire=fire)
    return optax.apply_updates(params, updates), state


def spread(values, n):
    """This process's part of an array over all of them. They must be equally long, so the rest batch is filled up with rows of weight
    zero, and the weights make up for the larger mean."""
    return jax.make_array_from_process_local_data(split, values, (n, *values.shape[1:]))


params = {"w": jnp.zeros((64, 10)), "b": jnp.zeros(10)}
state = optimizer.init(params)
params, state = jax.device_put((params, state), whole)
host = jax.tree.map(np.asarray, params)
decide = plan.accumulator()
score, epoch = plan.score(), plan.epoch(0)
mine = PlanMapDataset(plan, range(plan.rows), rank=rank, world_size=processes)
steps = mine.batch(mine.batch_size)
worst, moved, group = 0.0, [], []
for i in range(len(steps)):
    batch, rows = epoch.batch(i), np.asarray(steps[i])
    assert rows.tolist() == batch[divide(len(batch), rank, processes)].tolist()
    n_eff, _ = score.n_eff(plan.histogram(batch))
    weight, fire = decide.feed(n_eff, len(batch))
    fire = fire or (i == len(steps) - 1 and decide.finish())
    each = -(-len(batch) // processes)
    filled = np.concatenate([rows, np.repeat(rows[:1], each - len(rows))])
    w = np.zeros(each)
    w[: len(rows)] = plan.weights_for(rows, 0.0) * (each * processes / len(batch))
    n = each * processes
    params, state = train(params, state, spread(x[filled], n), spread(y[filled], n), spread(w, n), weight, fire)
    group.append((batch, weight))
    now = jax.tree.map(lambda p: np.asarray(p.addressable_data(0)), params)
    if any((now[k] != host[k]).any() for k in now):
        moved.append(i)
    if fire:
        total = sum(s for _, s in group)
        local = jax.jit(jax.grad(loss))
        gradients = [(s, local(host, x[b], y[b], plan.weights_for(b, 0.0).astype(np.float64))) for b, s in group]
        for k in now:
            expected = sum(s * np.asarray(g[k]) for s, g in gradients) / total
            got = (host[k] - now[k]) / learning_rate
            worst = max(worst, float(np.linalg.norm(got - expected) / np.linalg.norm(expected)))
        host, group = now, []
print(json.dumps({"worst": worst, "moved": moved, "sum": float(now["w"].sum())}))
