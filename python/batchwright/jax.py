"""Plans in JAX: `stream` reads batches as (sharded) arrays, and `accumulate` makes updates of several batches.

    for batch in stream(plan, "data/", ["image", "label"], epochs=3, sharding=NamedSharding(mesh, P("data"))):
        params, opt_state, loss = step(params, opt_state, batch["image"], batch["label"])

Updates of several batches: `accumulate` wraps an optax optimizer, as `optax.MultiSteps` does, for batches that do not count alike.

    optimizer = accumulate(optax.adam(1e-3))
    opt_state = optimizer.init(params)
    updates, opt_state = optimizer.update(grads, opt_state, params, weight=w, fire=fire)       # inside jit; w and fire may be traced
    params = optax.apply_updates(params, updates)                                           # zero until the update is complete

weight and fire come from `Plan.accumulator().feed(n_eff, n)`, or from the plan: `epoch.updates().coefficient` and `.ends_update`. Under data
parallelism average gradients over devices first (`jax.lax.pmean`), or leave that to a sharded mean of the loss."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from batchwright._core import ConfigError, Plan
from batchwright.steps import need
from batchwright.stream import Stream

jax = need("jax", "jax")
jnp = need("jax.numpy", "jax")
optax = need("optax", "optax")

__all__ = ["AccumulateState", "JaxStream", "accumulate", "stream", "weighted_mean"]


class JaxStream(Iterator[dict[str, Any]]):
    """See `stream`. `stream.stream` is the `batchwright.stream.Stream` below, with `step`, `state_dict` and `load_state_dict`."""

    def __init__(self, inner: Stream, sharding: Any) -> None:
        self.stream, self.sharding = inner, sharding

    def __next__(self) -> dict[str, Any]:
        batch = next(self.stream)
        if self.sharding is None:
            return {name: jnp.asarray(v) if isinstance(v, np.ndarray) else v for name, v in batch.items()}
        put = lambda v: jax.make_array_from_process_local_data(self.sharding, v)  # noqa: E731
        return {name: put(v) if isinstance(v, np.ndarray) else v for name, v in batch.items()}

    def state_dict(self) -> dict[str, Any]:
        return self.stream.state_dict()

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        self.stream.load_state_dict(saved)

    def close(self) -> None:
        """Ends the threads."""
        self.stream.close()


def stream(plan: Plan, data: Any, columns: Sequence[str] | None = None, *, sharding: Any = None, **options: Any) -> JaxStream:
    """Batches as `jax.Array`s; columns that are no numbers stay what they are in `batchwright.stream.Stream`, whose arguments these are.
    Every process reads its part of each batch (by default `rank` is `jax.process_index()`); `sharding` puts the parts of all processes
    together as one global array, rows along its first axis. Shapes that never change need `rest="drop"` or `"pad"`.

    JAX takes 64-bit numbers for 32-bit ones unless `jax_enable_x64` is set: a plan of more than 2^31 rows is
    refused then, unless `extra` leaves `row` out."""
    options.setdefault("rank", jax.process_index())
    options.setdefault("world_size", jax.process_count())
    inner = Stream(plan, data, columns, **options)
    if not jax.config.jax_enable_x64 and "row" in inner.extra and plan.rows > 1 << 31:
        inner.close()
        raise ConfigError("row numbers of this plan need 64 bits: set jax_enable_x64, or leave `row` out of `extra`")
    return JaxStream(inner, sharding)



class AccumulateState(NamedTuple):
    """`gradients` = sum(w_b g_b) and `weight` = sum(w_b) of the batches of the running update."""

    gradients: Any
    weight: Any
    inner: Any


def accumulate(optimizer: Any) -> Any:
    """A `GradientTransformationExtraArgs` whose updates are zero until `fire`, and then those of `optimizer` for the gradient
    sum(w_b g_b) / sum(w_b). Sums are float32, or wider where the gradients are. The optimizer's state moves only then. Pass
    weight=1.0, fire=True for a single batch."""
    optimizer = optax.with_extra_args_support(optimizer)

    def wide(p: Any) -> Any:
        return jnp.zeros(jnp.shape(p), jnp.promote_types(jnp.result_type(p), jnp.float32))

    def init(params: Any) -> AccumulateState:
        return AccumulateState(jax.tree.map(wide, params), jnp.zeros((), jnp.float32), optimizer.init(params))

    def update(gradients: Any, state: AccumulateState, params: Any = None, *, weight: Any, fire: Any, **extra: Any) -> Any:
        total = state.weight + weight
        summed = jax.tree.map(lambda s, g: s + weight * g.astype(s.dtype), state.gradients, gradients)

        def step(_: Any) -> Any:
            mean = jax.tree.map(lambda s, g: (s / total).astype(g.dtype), summed, gradients)
            updates, inner = optimizer.update(mean, state.inner, params, **extra)
            updates = jax.tree.map(lambda u, g: u.astype(g.dtype), updates, gradients)
            return updates, AccumulateState(jax.tree.map(jnp.zeros_like, summed), jnp.zeros_like(total), inner)

        def wait(_: Any) -> Any:
            return jax.tree.map(jnp.zeros_like, gradients), AccumulateState(summed, total, state.inner)

        return jax.lax.cond(jnp.asarray(fire), step, wait, None)

    return optax.GradientTransformationExtraArgs(init, update)


def weighted_mean(losses: Any, weights: Any, loss_weight: Any = None) -> Any:
    """mean(w_i l_i loss_i) over rows, shape (n,) each; see `batchwright.training.weighted_mean`."""
    w = jnp.asarray(weights, losses.dtype)
    return jnp.mean(losses * w if loss_weight is None else losses * w * jnp.asarray(loss_weight, losses.dtype))
