"""JAX: jitted, with value_and_grad and with gradients by hand. It takes no preallocated output."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cases import GAMMA, SMOOTHING, TOP, Call, Case, Formulations

NAME = "JAX"
DISTRIBUTION = "jax"


def formulations(case: Case) -> Formulations:
    import jax

    jax.config.update("jax_enable_x64", True)
    import jax.numpy as jnp

    axis, rows = case.axis, case.rows
    x, y, q = jnp.asarray(case.x), jnp.asarray(case.labels, dtype="int32"), jnp.asarray(case.q)
    teacher = jnp.asarray(case.teacher)
    w, w_along, mask = jnp.asarray(case.weight), jnp.asarray(case.along(case.weight)), jnp.asarray(case.mask)
    even = SMOOTHING / x.shape[axis]
    t = jnp.asarray(case.temperatures)

    def loss(x: Any, y: Any, mask: Any = None) -> Any:
        at_label = jnp.take_along_axis(x, jnp.expand_dims(y, axis), axis).squeeze(axis)
        return (jax.nn.logsumexp(x, axis, where=mask) - at_label).mean()

    def filled_loss(x: Any, y: Any, mask: Any) -> Any:
        return loss(jnp.where(mask, x, -jnp.inf), y)

    def filled_loss_and_grad(x: Any, y: Any, mask: Any) -> tuple[Any, Any]:
        return loss_and_grad(jnp.where(mask, x, -jnp.inf), y)

    def loss_and_grad(x: Any, y: Any) -> tuple[Any, Any]:
        m = x.max(axis, keepdims=True)
        e = jnp.exp(x - m)
        total = e.sum(axis, keepdims=True)
        at_label = jnp.take_along_axis(x, jnp.expand_dims(y, axis), axis)
        return (m + jnp.log(total) - at_label).mean(), (e / total - jax.nn.one_hot(y, x.shape[axis], axis=axis)) / rows

    def smoothed_loss(x: Any, y: Any) -> Any:
        at_label = jnp.take_along_axis(x, jnp.expand_dims(y, axis), axis).squeeze(axis)
        weight = (1 - SMOOTHING) * w[y] + even * w.sum()
        losses = weight * jax.nn.logsumexp(x, axis) - (1 - SMOOTHING) * w[y] * at_label - even * (w_along * x).sum(axis)
        return losses.sum() / w[y].sum()

    def smoothed_loss_and_grad(x: Any, y: Any) -> tuple[Any, Any]:
        divisor = w[y].sum()
        target = ((1 - SMOOTHING) * jax.nn.one_hot(y, x.shape[axis], axis=axis, dtype=x.dtype) + even) * w_along
        weight = target.sum(axis, keepdims=True)
        return smoothed_loss(x, y), (weight * jax.nn.softmax(x, axis) - target) / divisor

    def focal_loss(x: Any, y: Any) -> Any:
        log_p = jnp.take_along_axis(jax.nn.log_softmax(x, axis), jnp.expand_dims(y, axis), axis)
        return -((1 - jnp.exp(log_p)) ** GAMMA * log_p).mean()

    def focal_loss_and_grad(x: Any, y: Any) -> tuple[Any, Any]:
        log_p = jax.nn.log_softmax(x, axis)
        chosen = jnp.take_along_axis(log_p, jnp.expand_dims(y, axis), axis)
        p = jnp.exp(chosen)
        slope = ((1 - p) ** GAMMA - GAMMA * (1 - p) ** (GAMMA - 1) * p * chosen) / rows
        grad = slope * (jnp.exp(log_p) - jax.nn.one_hot(y, x.shape[axis], axis=axis, dtype=x.dtype))
        return -((1 - p) ** GAMMA * chosen).mean(), grad

    def soft_loss(x: Any, q: Any) -> Any:
        return (jax.nn.logsumexp(x, axis) - (q * x).sum(axis)).mean()

    def soft_loss_and_grad(x: Any, q: Any) -> tuple[Any, Any]:
        return soft_loss(x, q), (jax.nn.softmax(x, axis) - q) / rows

    def scores(x: Any, y: Any) -> tuple[Any, Any]:
        log_p = jax.nn.log_softmax(x, axis)
        top = jax.lax.top_k(jnp.moveaxis(log_p, axis, -1), TOP)
        return jnp.take_along_axis(log_p, jnp.expand_dims(y, axis), axis).squeeze(axis), top

    def scores_with_temperatures(x: Any, y: Any, t: Any) -> Any:
        z = x / jnp.expand_dims(t, axis)
        at_label = jnp.take_along_axis(z, jnp.expand_dims(y, axis), axis).squeeze(axis)
        return at_label - jax.nn.logsumexp(z, axis)

    def divergence(x: Any, teacher: Any) -> Any:
        log_p, log_q = jax.nn.log_softmax(teacher, axis), jax.nn.log_softmax(x, axis)
        return (jnp.exp(log_p) * (log_p - log_q)).sum() / rows

    def divergence_and_grad(x: Any, teacher: Any) -> tuple[Any, Any]:
        log_p, log_q = jax.nn.log_softmax(teacher, axis), jax.nn.log_softmax(x, axis)
        p = jnp.exp(log_p)
        return (p * (log_p - log_q)).sum() / rows, (jnp.exp(log_q) - p) / rows

    def timed(function: Callable[..., Any], *arguments: Any) -> Call:
        compiled = jax.jit(function)  # at its first call, which is not timed
        return lambda: jax.block_until_ready(compiled(*arguments))

    scores_and_top = timed(scores, x, y)
    return {
        "softmax": [timed(lambda x: jax.nn.softmax(x, axis), x)],
        "softmax, masked": [timed(lambda x, mask: jax.nn.softmax(x, axis, where=mask), x, mask)],
        "log_softmax": [timed(lambda x: jax.nn.log_softmax(x, axis), x)],
        "logsumexp": [timed(lambda x: jax.nn.logsumexp(x, axis), x)],
        "loss": [timed(loss, x, y)],
        "loss+grad": [timed(jax.value_and_grad(loss), x, y), timed(loss_and_grad, x, y)],
        "loss, masked": [timed(loss, x, y, mask), timed(filled_loss, x, y, mask)],
        "loss+grad, masked": [
            timed(jax.value_and_grad(loss), x, y, mask),
            timed(jax.value_and_grad(filled_loss), x, y, mask),
            timed(filled_loss_and_grad, x, y, mask),
        ],
        "loss+grad, smoothed": [timed(jax.value_and_grad(smoothed_loss), x, y), timed(smoothed_loss_and_grad, x, y)],
        "focal loss+grad": [timed(jax.value_and_grad(focal_loss), x, y), timed(focal_loss_and_grad, x, y)],
        "loss, soft": [timed(soft_loss, x, q)],
        "loss+grad, soft": [timed(jax.value_and_grad(soft_loss), x, q), timed(soft_loss_and_grad, x, q)],
        "KL": [timed(divergence, x, teacher)],
        "KL+grad": [timed(jax.value_and_grad(divergence), x, teacher), timed(divergence_and_grad, x, teacher)],
        "scores, top 10": [lambda: scores_and_top()[0]],
        "scores, temperatures": [timed(scores_with_temperatures, x, y, t)],
    }


def of_two_classes(case: Case) -> Formulations:
    import jax

    jax.config.update("jax_enable_x64", True)
    import jax.numpy as jnp

    x, y = jnp.asarray(case.x), jnp.asarray(case.labels, dtype=case.x.dtype)

    def loss(x: Any, y: Any) -> Any:
        return (jax.nn.softplus(x) - x * y).mean()

    def loss_of_exponentials(x: Any, y: Any) -> Any:
        return (jnp.maximum(x, 0) + jnp.log1p(jnp.exp(-jnp.abs(x))) - x * y).mean()

    def loss_and_grad(x: Any, y: Any) -> tuple[Any, Any]:
        return loss_of_exponentials(x, y), (jax.nn.sigmoid(x) - y) / x.size

    def timed(function: Callable[..., Any], *arguments: Any) -> Call:
        compiled = jax.jit(function)  # at its first call, which is not timed
        return lambda: jax.block_until_ready(compiled(*arguments))

    return {
        "sigmoid": [timed(jax.nn.sigmoid, x)],
        "log_sigmoid": [timed(jax.nn.log_sigmoid, x)],
        "two-class loss": [timed(loss, x, y), timed(loss_of_exponentials, x, y)],
        "two-class loss+grad": [timed(jax.value_and_grad(loss), x, y), timed(loss_and_grad, x, y)],
    }
