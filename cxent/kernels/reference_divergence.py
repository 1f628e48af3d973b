"""Divergences in pure NumPy; the formulas are in ``divergence.pxd``."""

from __future__ import annotations

import math

import numpy as np

from .reference_rows import Array, chosen_rows, store, sum_rows


def _two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """a + b, and what rounding has taken from it; of infinite numbers nothing."""
    total = a + b
    added = total - a
    lost = (a - (total - added)) + (b - added)
    return total, np.where(np.isfinite(lost), lost, 0)


def _entropy_term(a: Array, b: Array, d: Array) -> Array:
    """a (d + exp(-d) - 1) for d = log(a / b), which is not negative."""
    near = np.clip(d, -1, 1)
    series = np.zeros_like(d)
    for k in range(20, 1, -1):
        series = series * -near + 1 / math.factorial(k)
    return np.where(np.abs(d) > 1, (b - a) + np.where(a == 0, 0, a * d), a * (near * near) * series)


def _difference(a: Array, b: Array, d: Array) -> Array:
    """a - b for d = log(a / b), with the digits that d has."""
    change: Array = np.where(d > 0, -a, b) * np.expm1(-np.abs(d))
    return change


def _log_ratios(u: Array, v: Array, at_u: Array, at_v: Array, temperature: float) -> Array:
    """((u - v) - (at_u - at_v)) / temperature, with the rounding of both differences."""
    change, lost = _two_sum(u / 2, -v / 2)
    at, lost_at = _two_sum(at_u / 2, -at_v / 2)
    ratios: Array = (np.where(u == v, 0, change) - at) + (np.where(u == v, 0, lost) - lost_at)
    return ratios / (temperature / 2)


def _log_from_reference(d: Array, log_ratio: Array, at: Array, beta: float) -> Array:
    """log(q / m) less that at a reference, for the distances d of log(p / q) from it, and that ratio here and there."""
    m = beta * np.exp(at) + (1 - beta)
    w, rest = beta * np.exp(at) / m, (1 - beta) / m
    power = beta / m * np.exp(np.minimum(log_ratio, 600))
    rise = np.where(np.abs(d) <= 1, w * np.expm1(np.clip(d, -1, 1)), power - w)
    result: Array = -np.where(rise > -0.5, np.log1p(rise), np.log(power + rest))
    return result


def _around_mean(p: Array, values: Array) -> Array:
    """p (v - sum(p v))."""
    v = np.where(p == 0, 0, values)
    around: Array = p * (v - sum_rows(p * v))
    return around


@np.errstate(all="ignore")
def divergence(
    comparison: str,
    beta: float,
    x: Array,
    y: Array,
    mask: Array | None,
    row_weights: Array | None,
    temperature: float,
    divisor: float,
    losses: Array | None,
    grad: Array | None,
    threads: int,
) -> float:
    (u, empty), (v, _) = chosen_rows(x, mask), chosen_rows(y, mask)
    m_u, m_v = (np.where(empty, 0, a.max(axis=-1, keepdims=True)) for a in (u, v))
    e_p, e_q = (np.where(empty, 0, np.exp((a / 2 - m / 2) / (temperature / 2))) for a, m in ((u, m_u), (v, m_v)))
    d = _log_ratios(u, v, m_u, m_v, temperature)
    top = (v == m_v).argmax(axis=-1, keepdims=True)  # the reference, where q is largest
    u_r = np.take_along_axis(u, top, axis=-1)
    distances = _log_ratios(u, v, u_r, m_v, temperature)
    sum_p, sum_q = sum_rows(e_p), sum_rows(e_q)
    ratio = sum_rows(_difference(e_p, e_q, d)) / sum_q
    c = np.where(empty, 0, np.where(np.abs(ratio) < 0.5, np.log1p(ratio), np.log(sum_p) - np.log(sum_q)))
    d -= c
    computed = np.float64 if x.dtype == np.float64 else np.float32
    p, q = (np.where(empty | (r.astype(computed) == 0), 0, r) for r in (e_p / sum_p, e_q / sum_q))
    if comparison == "jensen-shannon":
        of_smaller, of_larger = np.where(d > 0, 1 - beta, beta), np.where(d > 0, beta, 1 - beta)
        ratio, less = np.exp(-np.abs(d)), np.expm1(-np.abs(d))
        fall, rise = of_smaller * less, -of_larger * less / ratio
        larger = -np.where(fall > -0.5, np.log1p(fall), np.log(of_smaller * ratio + of_larger))
        smaller = np.where(rise < 1, -np.log1p(rise), larger - np.abs(d))
        log_p, log_q = np.where(d > 0, larger, smaller), np.where(d > 0, smaller, larger)
        m = beta * p + (1 - beta) * q
        loss = beta * sum_rows(_entropy_term(p, m, log_p)) + (1 - beta) * sum_rows(_entropy_term(q, m, log_q))
        at = (u_r / 2 - m_u / 2) / (temperature / 2) - c
        slope = (1 - beta) * _around_mean(q, _log_from_reference(distances, d, at, beta))
    elif comparison == "reverse":
        loss = sum_rows(_entropy_term(q, p, -d))
        slope = _around_mean(q, -distances) + (c - c)  # NaN also where it is in a class that q lacks
    else:
        loss = sum_rows(_entropy_term(p, q, d))
        slope = -_difference(p, q, d)
    counts = np.ones_like(loss) if row_weights is None else row_weights[..., np.newaxis].astype(np.float64)
    scale = counts / divisor if divisor else np.zeros_like(counts)
    loss = np.where(counts == 0, 0, scale * loss)
    if losses is not None:
        losses[...] = loss[..., 0]
    if grad is not None:
        store(np.where(counts == 0, 0, scale / temperature * slope), grad)
    return float(loss.sum())
