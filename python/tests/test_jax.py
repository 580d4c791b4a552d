"""Updates of several batches in JAX, in one process and in two."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("optax")
pytest.importorskip("jax")

HERE = pathlib.Path(__file__).parent


def check(results, plan):
    updates = plan.epoch(0).updates()
    for one in results:
        assert one["worst"] < 1e-6, one["worst"]
        assert one["moved"] == np.flatnonzero(updates.ends_update).tolist(), "parameters move when an update is complete, and only then"
        assert one["sum"] == results[0]["sum"]


def launch(plan_path, processes):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    run = lambda rank: subprocess.Popen(  # noqa: E731
        [sys.executable, str(HERE / "jax_gradients.py"), str(plan_path), address, str(processes), str(rank)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )
    running = [run(rank) for rank in range(processes)]
    done = [process.communicate(timeout=300) for process in running]
    for process, (_, errors) in zip(running, done, strict=True):
        assert process.returncode == 0, errors[-3000:]
    return [json.loads(out.splitlines()[-1]) for out, _ in done]


@pytest.mark.parametrize("processes", [1, 2])
def test_gradients(plan, plan_path, processes):
    check(launch(plan_path, processes), plan)


def test_weights_and_misfits():
    import jax.numpy as jnp

    from batchwright.jax import weighted_mean

    losses, w = jnp.array([1.0, 2.0, 3.0]), np.array([0.5, 1.0, 1.5], np.float32)
    assert np.isclose(weighted_mean(losses, w), (0.5 + 2 + 4.5) / 3)
    assert np.isclose(weighted_mean(losses, w, [2, 2, 2]), 2 * (0.5 + 2 + 4.5) / 3)


def test_half_precision_gradients_sum_in_single():
    """100 gradients of 1e-3 in bfloat16, whose sum in bfloat16 would stop growing."""
    import jax
    import jax.numpy as jnp
    import optax

    from batchwright.jax import accumulate

    params = {"w": jnp.zeros(3, jnp.bfloat16)}
    optimizer = accumulate(optax.sgd(1.0))
    state = optimizer.init(params)
    step = jax.jit(lambda s, w, fire: optimizer.update({"w": jnp.full(3, 1e-3, jnp.bfloat16)}, s, params, weight=w, fire=fire))
    for i in range(1000):
        updates, state = step(state, 1.0, i == 999)
    assert updates["w"].dtype == jnp.bfloat16
    assert np.allclose(np.asarray(updates["w"], np.float32), -1e-3, rtol=1e-2)
    assert float(state.weight) == 0
