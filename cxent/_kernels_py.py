"""The kernels in pure NumPy: the reference for the compiled ones, and their fallback.

The same functions with the same arguments as ``_kernels.pyx``, whose opening note has the formulas. Everything is
computed in float64 on arrays with the classes last, so that a row's bits depend on nothing but the row. `past_cache`,
how results are to be written, is the compiled ones' affair.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def _rows(x: Array) -> Array:
    """(outer, classes, inner) as (outer, inner, classes), contiguous, in float64."""
    return np.ascontiguousarray(np.moveaxis(x, 1, 2), dtype=np.float64)


def _store(rows: Array, out: Array) -> None:
    """(outer, inner, classes) into (outer, classes, inner), rounded to the dtype of `out`."""
    out[...] = np.moveaxis(rows, 2, 1)


def _sum(rows: Array) -> Array:
    """The sum over the last axis, which stays: pairwise to the end, since equal terms round alike in a longer run."""
    while (n := rows.shape[-1]) > 1:
        half = rows[..., n // 2 :].copy()
        half[..., : n // 2] += rows[..., : n // 2]
        rows = half
    return rows


def _exponentials(x: Array) -> tuple[Array, Array, Array, Array]:
    """m, x - m, exp(x - m), and rest = sum(exp(x - m)) - 1 summed over all classes but one maximum."""
    m = x.max(axis=-1, keepdims=True)
    shifted = x - m
    e = np.exp(shifted)
    far = shifted < -512
    below = _sum(np.where((shifted == 0) | far, 0, e))
    if far.any():  # terms too small to be numbers are summed 512 higher up, where they are
        below += np.exp(-512) * _sum(np.where(far, np.exp(shifted + 512), 0))
    maxima = np.count_nonzero(shifted == 0, axis=-1, keepdims=True)
    return m, shifted, e, (maxima - 1) + below


@np.errstate(all="ignore")
def softmax(x: Array, out: Array, past_cache: bool) -> None:
    _, _, e, rest = _exponentials(_rows(x))
    _store(e / (1 + rest), out)


@np.errstate(all="ignore")
def log_softmax(x: Array, out: Array, past_cache: bool) -> None:
    _, shifted, _, rest = _exponentials(_rows(x))
    _store(shifted - np.log1p(rest), out)


@np.errstate(all="ignore")
def logsumexp(x: Array, out: Array) -> None:
    m, _, _, rest = _exponentials(_rows(x))
    out[...] = np.where(np.isfinite(m), m + np.log1p(rest), m)[..., 0]


@np.errstate(all="ignore")
def softmax_backward(grad_output: Array, output: Array, out: Array) -> None:
    g, p = _rows(grad_output), _rows(output)
    _store(p * (g - _sum(g * p)), out)


@np.errstate(all="ignore")
def log_softmax_backward(grad_output: Array, output: Array, out: Array) -> None:
    g, log_p = _rows(grad_output), _rows(output)
    _store(g - np.exp(log_p) * _sum(g), out)


@np.errstate(all="ignore")
def cross_entropy_index(
    x: Array, labels: Array, divisor: float, losses: Array | None, grad: Array | None, past_cache: bool
) -> float:
    _, shifted, e, rest = _exponentials(_rows(x))
    label = labels[..., np.newaxis]
    shifted_y = np.take_along_axis(shifted, label, axis=-1)
    if grad is not None:
        # 1 - p_y without cancellation: the share of the other classes
        other = np.where(shifted_y == 0, rest, 1 + (rest - np.take_along_axis(e, label, axis=-1)))
        g = e / (divisor + divisor * rest)
        np.put_along_axis(g, label, -other / (divisor + divisor * rest), axis=-1)
        _store(g, grad)
    return _deliver((np.log1p(rest) - shifted_y)[..., 0], divisor, losses)


@np.errstate(all="ignore")
def cross_entropy_dense(
    x: Array, target: Array, divisor: float, losses: Array | None, grad: Array | None, past_cache: bool
) -> float:
    logits = _rows(x)
    m, shifted, e, rest = _exponentials(logits)
    q = _rows(target)
    weight = _sum(q)
    # Halves, because the difference of two large numbers may be too large.
    total = 2 * _sum(np.where(q == 0, 0, q * (logits / 2 - m / 2)))
    if grad is not None:
        share = weight / (1 + rest)
        # Where p is near 1, at one class, Q * p - q = (Q - q) - Q * rest / (1 + rest) keeps the digits.
        at_top = (shifted == 0) & (rest < 1)
        _store(np.where(at_top, (weight - q) - share * rest, share * e - q) / divisor, grad)
    return _deliver((weight * np.log1p(rest) - total)[..., 0], divisor, losses)


@np.errstate(all="ignore")
def from_probs_index(probs: Array, labels: Array, divisor: float, losses: Array | None, grad: Array | None) -> float:
    p = _rows(probs)
    label = labels[..., np.newaxis]
    p_y = np.take_along_axis(p, label, axis=-1)
    if grad is not None:
        g = np.zeros_like(p)
        np.put_along_axis(g, label, -1 / (divisor * p_y), axis=-1)
        _store(g, grad)
    return _deliver(-np.log(p_y)[..., 0], divisor, losses)


@np.errstate(all="ignore")
def from_probs_dense(probs: Array, target: Array, divisor: float, losses: Array | None, grad: Array | None) -> float:
    p, q = _rows(probs), _rows(target)
    loss = -_sum(np.where(q == 0, 0, q * np.log(p)))[..., 0]
    if grad is not None:
        _store(np.where(q == 0, 0, -q / (divisor * p)), grad)
    return _deliver(loss, divisor, losses)


def _deliver(loss: Array, divisor: float, losses: Array | None) -> float:
    """The divided sum of the row losses, and the losses themselves if they are wanted."""
    if losses is not None:
        losses[...] = loss
    return float((loss / divisor).sum())


def labels_in_range(labels: Array, classes: int) -> bool:
    return bool(((labels >= 0) & (labels < classes)).all())


# What compiled kernels have for small calls, where they save most of the time; here it would save nothing.


def small_softmax(x: object, axis: object, out: object) -> None:
    return None


def small_log_softmax(x: object, axis: object, out: object) -> None:
    return None


def small_logsumexp(x: object, axis: object) -> None:
    return None


def small_cross_entropy(logits: object, target: object, axis: object, out: object, mean: bool, with_grad: bool) -> None:
    return None
