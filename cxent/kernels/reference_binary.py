"""Two-class problems in pure NumPy: the formulas are in ``binary.pxd``."""

from __future__ import annotations

import numpy as np

from .reference_rows import Array, rows_of, store

BinaryOptions = tuple[int | None, float, float, float]


def _numbers(x: Array) -> Array:
    numbers: Array = rows_of(x.reshape(1, -1, 1))
    return numbers.reshape(x.shape)


def _store(numbers: Array, out: Array) -> None:
    store(numbers.reshape(1, 1, -1), out.reshape(1, -1, 1))


def _softplus(x: Array) -> Array:
    result: Array = np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))
    return result


def _logistic(x: Array) -> Array:
    e: Array = np.exp(-np.abs(x))
    result: Array = np.where(x < 0, e, 1) / (1 + e)
    return result


@np.errstate(all="ignore")
def sigmoid(x: Array, out: Array, threads: int) -> None:
    _store(_logistic(_numbers(x)), out)


@np.errstate(all="ignore")
def log_sigmoid(x: Array, out: Array, threads: int) -> None:
    _store(-_softplus(-_numbers(x)), out)


def _product(a: Array, b: Array) -> Array:
    return np.where(a == 0, 0, a * b)


@np.errstate(all="ignore")
def binary_cross_entropy(
    x: Array,
    target: Array,
    pos_weight: Array | None,
    weights: Array | None,
    options: BinaryOptions,
    losses: Array | None,
    grad: Array | None,
    hess: Array | None,
    threads: int,
) -> float | None:
    ignored, smoothing, gamma, divisor = options
    x = _numbers(x)
    w = np.ones_like(x) if weights is None else np.broadcast_to(weights, x.shape).astype(np.float64)
    q = target.astype(np.float64)
    if target.dtype.kind != "f" and not ((target == 0) | (target == 1) | (target == ignored)).all():
        return None
    if ignored is not None and target.dtype.kind != "f":
        w, q = np.where(target == ignored, 0, w), np.where(target == ignored, 0, q)
    a = np.ones_like(x) if pos_weight is None else np.broadcast_to(pos_weight, x.shape).astype(np.float64)
    if gamma:
        z = np.where(q == 1, x, -x)
        p, u, loss = _logistic(z), _logistic(-z), _softplus(-z)
        factor = np.where(q == 1, a, 1) * u**gamma
        infinite = max(1.0, gamma**2) * loss == np.inf
        slope = np.where(infinite, 1, gamma * p * loss + u)
        curvature = np.where(infinite, 0, p * (gamma**2 * p * loss + u * (2 * gamma + 1 - gamma * loss)))
        results = _product(factor, loss) + 0 * p, np.where(q == 1, -factor, factor) * slope, _product(factor, curvature)
    else:
        q = q - smoothing * q + smoothing / 2
        p, u = _logistic(x), _logistic(-x)
        of_one, of_zero = q * a, 1 - q
        loss = _product(of_one, _softplus(-x)) + _product(of_zero, _softplus(x)) + 0 * p  # (NaN where x is)
        results = loss, of_zero * p - of_one * u, (of_zero + of_one) * (p * u)
    scale = 1 / divisor if divisor != 0 else 0
    scaled = [np.where(w == 0, 0, result * w * scale) for result in results]
    if losses is not None:
        losses[...] = scaled[0]
    for result, out in zip(scaled[1:], (grad, hess), strict=True):
        if out is not None:
            _store(result, out)
    return float(np.sum(scaled[0]))
