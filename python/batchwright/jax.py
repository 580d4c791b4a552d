"""Updates of several batches in JAX: `accumulate` wraps an optax optimizer, as `optax.MultiSteps` does, for batches that do not count alike.

    optimizer = accumulate(optax.adam(1e-3))
    opt_state = optimizer.init(params)
    updates, opt_state = optimizer.update(grads, opt_state, params, weight=w, fire=fire)       # inside jit; w and fire may be traced
    params = optax.apply_updates(params, updates)                                           # zero until the update is complete

weight and fire come from `Plan.accumulator().feed(n_eff, n)`, or from the plan: `epoch.updates().coefficient` and `.ends_update`. Under data
parallelism average gradients over devices first (`jax.lax.pmean`), or leave that to a sharded mean of the loss."""

from typing import Any, NamedTuple

from batchwright.steps import need

jax = need("jax", "jax")
jnp = need("jax.numpy", "jax")
optax = need("optax", "optax")

__all__ = ["AccumulateState", "accumulate", "weighted_mean"]


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
