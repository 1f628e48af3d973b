"""The kernels in pure NumPy: the reference for the compiled ones, and their fallback.

The same functions with the same arguments as ``entry.pyx``; the formulas are in ``losses.pxd``. Everything is computed
in float64 on arrays with the classes last, so that a row's bits depend on nothing but the row. `past_caches`, how
results are to be written, is the compiled ones' affair.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .reference_binary import binary_cross_entropy as binary_cross_entropy
from .reference_binary import log_sigmoid as log_sigmoid
from .reference_binary import sigmoid as sigmoid
from .reference_divergence import divergence as divergence
from .reference_rows import (
    Array,
    capped,
    chosen_rows,
    exponentials,
    finite_sum,
    hidden_in,
    limit,
    rows_of,
    shifted_by_max,
    store,
    sum_rows,
)
from .reference_scoring import finish_part as finish_part
from .reference_scoring import merge_parts as merge_parts
from .reference_scoring import token_logprobs as token_logprobs


@np.errstate(all="ignore")
def softmax(
    x: Array, mask: Array | None, temperature: float | Array, out: Array, past_caches: bool, threads: int
) -> None:
    rows, empty = chosen_rows(x, mask)
    e, rest = exponentials(*capped(rows, 0, temperature)[1:3])
    store(np.where(empty, 0, e / (1 + rest)), out)


@np.errstate(all="ignore")
def log_softmax(
    x: Array, mask: Array | None, temperature: float | Array, out: Array, past_caches: bool, threads: int
) -> None:
    rows, empty = chosen_rows(x, mask)
    _, shifted, lost, _ = capped(rows, 0, temperature)
    _, rest = exponentials(shifted, lost)
    store(np.where(empty, -np.inf, shifted - np.log1p(rest)), out)


@np.errstate(all="ignore")
def logsumexp(x: Array, mask: Array | None, out: Array, threads: int) -> None:
    m, shifted, lost = shifted_by_max(chosen_rows(x, mask)[0])
    _, rest = exponentials(shifted, lost)
    out[...] = np.where(np.isfinite(m), m + np.log1p(rest), m)[..., 0]


@np.errstate(all="ignore")
def softmax_backward(grad_output: Array, output: Array, mask: Array | None, out: Array, threads: int) -> None:
    hidden = hidden_in(mask)
    g, p = np.where(hidden, 0, rows_of(grad_output)), np.where(hidden, 0, rows_of(output))
    c, total = finite_sum(lambda c: c * g * p)
    store(p * (c * g - total) / c, out)


@np.errstate(all="ignore")
def log_softmax_backward(grad_output: Array, output: Array, mask: Array | None, out: Array, threads: int) -> None:
    hidden = hidden_in(mask)
    g, log_p = np.where(hidden, 0, rows_of(grad_output)), np.where(hidden, -np.inf, rows_of(output))
    c, total = finite_sum(lambda c: c * g)
    store((c * g - np.exp(log_p) * total) / c, out)


@np.errstate(all="ignore")
def logsumexp_factors(x: Array, b: Array, out: Array, sign: Array, threads: int) -> None:
    rows, factors = rows_of(x), rows_of(b)
    m = rows.max(axis=-1, keepdims=True)
    level = np.where(np.isfinite(m), m, 0)
    terms = factors * np.exp(rows - level)
    at_top = sum_rows(np.where(rows == m, terms, 0))
    others = sum_rows(np.where(rows == m, 0, terms))
    total = at_top + others
    ratio = others / at_top
    log_total = np.where(np.abs(ratio) < 0.5, np.log(np.abs(at_top)) + np.log1p(ratio), np.log(np.abs(total)))
    out[...] = (level + log_total)[..., 0]
    sign[...] = np.sign(total)[..., 0]


Options = tuple[int | None, float, float, float, float, float, float, float]


def _focal(gamma: float, p: Array, u: Array, loss: Array) -> tuple[Array, Array, Array]:
    """What a focal factor multiplies the loss by, the gradient, and k and h of the Hessian (see ``losses.pxd``)."""
    factor = u**gamma
    ratio = np.where(p == 0, 0, gamma * p * np.where(u == 0, 1, loss / u))
    curvature = np.where(p == 0, 0, gamma * p * factor * ((2 - loss) + (ratio - ratio / gamma)))
    return factor, factor * (1 + ratio), curvature


class _TargetRows(NamedTuple):
    """The target rows q', in two parts: that of every class, and that of one label."""

    counts: Array  # the rows' weights, 0 for those that do not count
    t: Array
    label: Array  # for class probabilities all 0, as is what is there
    at_label: Array


def _target_rows(
    target: Array,
    class_weights: Array | None,
    row_weights: Array | None,
    options: Options,
    rows: Array,
    mask: Array | None = None,
) -> _TargetRows:
    """Those that belong to the rows of a call's logits."""
    ignored, smoothing, *_ = options
    counts = np.ones_like(rows[..., :1])
    if row_weights is not None:
        counts *= row_weights[..., np.newaxis]
    w = np.ones_like(rows)
    if class_weights is not None:
        w *= np.asarray(class_weights)
    chosen = ~(hidden_in(mask) | np.zeros_like(rows, np.bool_))
    even = chosen * smoothing / np.count_nonzero(chosen, axis=-1, keepdims=True)
    if target.ndim == 3:
        t = rows_of(target)
        t = t if class_weights is None else w * ((1 - smoothing) * t + even)
        return _TargetRows(counts, t, np.zeros(counts.shape, np.int64), np.zeros_like(counts))
    counted = (target != ignored)[..., np.newaxis]
    counts[~counted] = 0
    label = np.where(counted, target[..., np.newaxis], 0).astype(np.int64)
    return _TargetRows(counts, even * w, label, (1 - smoothing) * np.take_along_axis(w, label, axis=-1))


@np.errstate(all="ignore")
def cross_entropy(
    x: Array,
    mask: Array | None,
    target: Array,
    class_weights: Array | None,
    row_weights: Array | None,
    options: Options,
    losses: Array | None,
    lse: Array | None,
    grad: Array | None,
    hess: Array | None,
    past_caches: bool,
    threads: int,
) -> float:
    _, smoothing, gamma, z, cap, temperature, divisor, z_divisor = options
    u, empty = chosen_rows(x, mask)
    hidden = hidden_in(mask) & np.logical_not(empty)
    u = np.where(empty, np.nan, u)
    m, shifted, lost, slope = capped(u, cap, temperature, hidden)
    e, rest = exponentials(shifted, lost)
    share = 1 / (1 + rest)
    counts, t, label, at_label = _target_rows(target, class_weights, row_weights, options, u, mask)

    def difference(c: float) -> Array:
        return c * u - c * m if cap == 0 and temperature == 1 else c * shifted

    c, total = finite_sum(lambda c: np.where(t == 0, 0, t * difference(c)))
    weight = sum_rows(t)
    loss = c * weight * np.log1p(rest) - total
    if target.ndim == 2:
        distance = np.take_along_axis(difference(c), label, axis=-1)
        loss = loss + np.where(at_label == 0, 0, at_label * (c * np.log1p(rest) - distance))
        weight = weight + at_label

    factor = focal_slope = np.ones_like(weight)
    curvature = not_p_label = np.zeros_like(weight)
    not_p = np.where(shifted == 0, rest, 1 + (rest - e)) * share
    if gamma:
        not_p_label, p_label = (np.take_along_axis(a, label, axis=-1) for a in (not_p, share * e))
        label_loss = np.log1p(rest) - np.take_along_axis(difference(1), label, axis=-1)
        factor, focal_slope, curvature = _focal(gamma, p_label, not_p_label, label_loss)
        loss = factor * loss
    log_sum = m + np.log1p(rest) if cap else np.where(np.isfinite(m), m + np.log1p(rest), limit(u, m))
    log_sum = np.where(empty, -np.inf, log_sum)
    scale, z_scale = (counts / n if n else np.zeros_like(counts) for n in (divisor, z_divisor))
    loss = np.where(counts == 0, 0, scale / c * loss + (z * (z_scale * log_sum**2) if z else 0))
    if lse is not None:
        lse[...] = log_sum[..., 0]
    if grad is not None:
        # Where p is near 1, at one class, Q * p - q' = (Q - q') - Q * rest / (1 + rest) keeps the digits.
        at_top = (shifted == 0) & (rest < 1)
        g = np.where(at_top, (weight - t) - weight * rest * share, weight * share * e - t)
        if target.ndim == 2:
            at = label == np.arange(u.shape[-1])
            if smoothing == 0:  # then the same is so at the label, whatever p is there
                g = np.where(at, -weight * not_p, g)
            else:
                g = np.where(at, np.where(at_top, g - at_label, weight * share * e - (t + at_label)), g)
        g = scale * focal_slope * g + (z * (2 * z_scale * log_sum * share * e) if z else 0)
        g = np.where(hidden & ~np.isnan(share), 0, slope * g)
        store(np.where(counts == 0, 0, g), grad)
    if hess is not None:
        p = share * e
        h = p * focal_slope * np.where(shifted == 0, rest * share, 1 - p)
        if gamma:
            at = label == np.arange(u.shape[-1])
            with_label = p * curvature * np.where(p == 0, 0, p / not_p_label)
            h = np.where(at, not_p_label * (focal_slope * p + curvature), h + with_label)
        store(np.where(counts == 0, 0, slope**2 * scale * weight * h), hess)
    if losses is not None:
        losses[...] = loss[..., 0]
    return float(loss.sum())


@np.errstate(all="ignore")
def hessian_product(
    x: Array,
    mask: Array | None,
    v: Array,
    target: Array,
    class_weights: Array | None,
    row_weights: Array | None,
    options: Options,
    out: Array,
    threads: int,
) -> None:
    *_, temperature, divisor, _ = options
    u, empty = chosen_rows(x, mask)
    u, vector = np.where(empty, np.nan, u), np.where(hidden_in(mask), 0, rows_of(v))
    _, shifted, lost, _ = capped(u, 0, temperature)
    e, rest = exponentials(shifted, lost)
    p = e / (1 + rest)
    counts, t, _, at_label = _target_rows(target, class_weights, row_weights, options, u, mask)
    weight = sum_rows(t) + at_label
    # H v is that of v less any number: less that at the maximum, it keeps its digits where p is near 1.
    vector = vector - np.take_along_axis(vector, u.argmax(axis=-1, keepdims=True), axis=-1)
    scale = counts * weight / temperature / temperature / divisor if divisor else 0 * counts
    store(np.where(counts == 0, 0, scale * (p * (vector - sum_rows(p * vector)))), out)


@np.errstate(all="ignore")
def from_probs(
    probs: Array,
    target: Array,
    class_weights: Array | None,
    row_weights: Array | None,
    options: Options,
    losses: Array | None,
    grad: Array | None,
    threads: int,
) -> float:
    p = rows_of(probs)
    counts, t, label, at_label = _target_rows(target, class_weights, row_weights, options, p)
    q = np.where(counts == 0, 0, counts * (t + np.where(label == np.arange(p.shape[-1]), at_label, 0)))
    *_, divisor, _ = options
    loss = -sum_rows(np.where(q == 0, 0, q * np.log(p)))[..., 0] / divisor
    if grad is not None:
        store(np.where(q == 0, 0, -q / (divisor * p)), grad)
    if losses is not None:
        losses[...] = loss
    return float(loss.sum())


@np.errstate(all="ignore")
def convert(x: Array, out: Array, threads: int) -> None:
    store(rows_of(x), out)


def labels_in_range(labels: Array, classes: int, ignored: int | None) -> bool:
    return bool((((labels >= 0) & (labels < classes)) | (labels == ignored)).all())


def are_finite(values: Array) -> bool:
    return bool(np.isfinite(values).all())


@np.errstate(all="ignore")
def total_of(values: Array) -> float:
    return float(values.astype(np.float64).sum())


def exponent_for_products(values: Array) -> int:
    largest = np.abs(values).max()
    if values.dtype == np.float64 or largest == 0 or 2.0**-60 <= largest <= 2.0**60:
        return 0
    return _exponent_to_one(values)


@np.errstate(all="ignore")
def sums_of_weights(
    labels: Array | None, row_weights: Array | None, class_weights: Array | None, ignored: int | None
) -> tuple[float, float, int, int]:
    if labels is None:
        assert row_weights is not None
        labels = np.zeros(row_weights.shape, np.int64)
    counts = labels != ignored
    labels = labels.astype(np.int64)
    rows = np.where(counts, 1.0 if row_weights is None else row_weights, 0.0)
    all_weights = np.ones(1) if class_weights is None else class_weights.astype(np.float64)
    weights = all_weights[np.where(counts & (class_weights is not None), labels, 0)]
    sums = [float((rows * weights).sum()), float(rows.sum())]
    if all(2.0**-20 <= abs(total) <= 2.0**60 for total in sums):
        return sums[0], sums[1], 0, 0
    limit = 1022 if class_weights is None or class_weights.dtype == np.float64 else 126
    row_exponent = _exponent_to_one(rows)
    class_exponent = min(_exponent_to_one(weights[counts]), _exponent_to_one(all_weights) + limit)
    rows, weights = np.ldexp(rows, row_exponent), np.ldexp(weights, class_exponent)
    return float((rows * weights).sum()), float(rows.sum()), row_exponent, class_exponent


def _exponent_to_one(x: Array) -> int:
    """k, so that the largest magnitude times 2^k is from 1 to 2; 0 for 0."""
    largest = np.abs(x).max(initial=0)
    return 1 - int(np.frexp(largest)[1]) if largest else 0


@np.errstate(all="ignore")
def evaluate(function: str, x: Array, out: Array) -> None:
    functions = {"expm1": np.expm1, "log": np.log, "log1p": np.log1p}
    out[...] = functions.get(function, np.exp)(x.astype(np.float64))


def _no_shorter_way(*_: object) -> None:
    """What compiled kernels have for plain arrays, to which the general way is long; here it is not."""


plain_softmax = plain_log_softmax = plain_logsumexp = plain_softmax_jacobian = _no_shorter_way
plain_softmax_backward = plain_log_softmax_backward = _no_shorter_way
plain_cross_entropy = plain_from_probs = plain_divergence = _no_shorter_way
plain_token_logprobs = plain_nll = _no_shorter_way
plain_sigmoid = plain_binary_cross_entropy = _no_shorter_way
