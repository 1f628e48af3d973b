"""The kernels in pure NumPy: the reference for the compiled ones, and their fallback.

The same functions with the same arguments as ``entry.pyx``; the formulas are in ``losses.pxd``. Everything is computed
in float64 on arrays with the classes last, so that a row's bits depend on nothing but the row. `past_caches`, how
results are to be written, is the compiled ones' affair.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def _rows(x: Array) -> Array:
    """(outer, classes, inner) as (outer, inner, classes), contiguous, in float64."""
    if x.dtype == np.uint16:  # the bits of float16
        x = x.view(np.float16)
    elif x.dtype == np.int16:  # the bits of bfloat16, which are the upper half of those of float32
        x = (x.astype(np.uint32) << 16).view(np.float32)
    return np.ascontiguousarray(np.moveaxis(x, 1, 2), dtype=np.float64)


def _store(rows: Array, out: Array) -> None:
    """(outer, inner, classes) into (outer, classes, inner), rounded to the dtype of `out`."""
    numbers = np.moveaxis(rows, 2, 1)
    if out.dtype == np.uint16:
        out.view(np.float16)[...] = numbers
    elif out.dtype == np.int16:
        bits = np.asarray(numbers, np.float32, order="C").view(np.uint32)
        nearest = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16  # of two the even one
        out.view(np.uint16)[...] = np.where(np.isnan(numbers), 0x7FC0, nearest)
    else:
        out[...] = numbers


def _sum(rows: Array) -> Array:
    """The sum over the last axis, which stays: pairwise to the end, since equal terms round alike in a longer run."""
    while (n := rows.shape[-1]) > 1:
        half = rows[..., n // 2 :].copy()
        half[..., : n // 2] += rows[..., : n // 2]
        rows = half
    return rows


def _finite_sum(terms: Callable[[float], Array]) -> tuple[float, Array]:
    """c, and the sum of terms that are multiples of it: 1/2, or less where the sum would be too large."""
    total = _sum(terms(0.5))
    return (0.5, total) if np.isfinite(total).all() else (2.0**-32, _sum(terms(2.0**-32)))


def _shifted(x: Array) -> tuple[Array, Array]:
    """The maximum m, and x - m."""
    m = x.max(axis=-1, keepdims=True)
    return m, x - m


def _exponentials(shifted: Array) -> tuple[Array, Array]:
    """exp(x - m), and rest = sum(exp(x - m)) - 1 summed over all classes but one maximum."""
    e = np.exp(shifted)
    far = shifted < -512
    below = _sum(np.where((shifted == 0) | far, 0, e))
    if far.any():  # terms too small to be numbers are summed 512 higher up, where they are
        below += np.exp(-512) * _sum(np.where(far, np.exp(shifted + 512), 0))
    maxima = np.count_nonzero(shifted == 0, axis=-1, keepdims=True)
    return e, (maxima - 1) + below


def _chosen(x: Array, mask: Array | None) -> tuple[Array, Array | bool]:
    """The rows, with -inf where the mask is not set, and whether it leaves nothing of a row."""
    rows = _rows(x)
    if mask is None:
        return rows, False
    chosen = _rows(mask) != 0
    return np.where(chosen, rows, -np.inf), ~chosen.any(axis=-1, keepdims=True)


@np.errstate(all="ignore")
def softmax(x: Array, mask: Array | None, out: Array, past_caches: bool, threads: int) -> None:
    rows, empty = _chosen(x, mask)
    e, rest = _exponentials(_shifted(rows)[1])
    _store(np.where(empty, 0, e / (1 + rest)), out)


@np.errstate(all="ignore")
def log_softmax(x: Array, mask: Array | None, out: Array, past_caches: bool, threads: int) -> None:
    rows, empty = _chosen(x, mask)
    _, shifted = _shifted(rows)
    _, rest = _exponentials(shifted)
    _store(np.where(empty, -np.inf, shifted - np.log1p(rest)), out)


@np.errstate(all="ignore")
def logsumexp(x: Array, mask: Array | None, out: Array, threads: int) -> None:
    m, shifted = _shifted(_chosen(x, mask)[0])
    _, rest = _exponentials(shifted)
    out[...] = np.where(np.isfinite(m), m + np.log1p(rest), m)[..., 0]


@np.errstate(all="ignore")
def softmax_backward(grad_output: Array, output: Array, out: Array, threads: int) -> None:
    g, p = _rows(grad_output), _rows(output)
    c, total = _finite_sum(lambda c: c * g * p)
    _store(p * (c * g - total) / c, out)


@np.errstate(all="ignore")
def log_softmax_backward(grad_output: Array, output: Array, out: Array, threads: int) -> None:
    g, log_p = _rows(grad_output), _rows(output)
    c, total = _finite_sum(lambda c: c * g)
    _store((c * g - np.exp(log_p) * total) / c, out)


def _capped(u: Array, cap: float, temperature: float) -> tuple[Array, Array, Array]:
    """The maximum m of x, x - m, and dx/du, for x = cap * tanh(u / (temperature * cap)), or u / temperature."""
    top, shifted = _shifted(u)
    if cap == 0:
        if temperature != 1:  # half differences, because the difference of two large numbers may be too large
            shifted = (u / 2 - top / 2) / (temperature / 2)
        return top / temperature, shifted, np.full_like(u, 1 / temperature)
    # tanh(v_m) - tanh(v) = sinh(v_m - v) / (cosh(v_m) cosh(v)), in exponentials of what is negative
    rate = 1 / (temperature * cap)
    e, e_top = np.exp(-2 * rate * np.abs(u)), np.exp(-2 * rate * np.abs(top))
    common = np.where(u > 0, e, np.where(top > 0, 1, e_top)) / ((1 + e) * (1 + e_top))
    shifted = np.where(u == top, 0, 2 * cap * common * np.expm1(2 * rate * shifted))
    return cap * np.tanh(rate * top), shifted, 4 * e / (1 + e) ** 2 / temperature


@np.errstate(all="ignore")
def logsumexp_factors(x: Array, b: Array, out: Array, sign: Array, threads: int) -> None:
    rows, factors = _rows(x), _rows(b)
    m = rows.max(axis=-1, keepdims=True)
    level = np.where(np.isfinite(m), m, 0)
    terms = factors * np.exp(rows - level)
    at_top = _sum(np.where(rows == m, terms, 0))
    others = _sum(np.where(rows == m, 0, terms))
    total = at_top + others
    ratio = others / at_top
    log_total = np.where(np.abs(ratio) < 0.5, np.log(np.abs(at_top)) + np.log1p(ratio), np.log(np.abs(total)))
    out[...] = (level + log_total)[..., 0]
    sign[...] = np.sign(total)[..., 0]


Options = tuple[int | None, float, float, float, float, float, float]


class _TargetRows(NamedTuple):
    """The target rows q', in two parts: that of every class, and that of one label."""

    counts: Array  # the rows' weights, 0 for those that do not count
    t: Array
    label: Array  # for class probabilities all 0, as is what is there
    at_label: Array


def _target_rows(
    target: Array, class_weights: Array | None, row_weights: Array | None, options: Options, rows: Array
) -> _TargetRows:
    """Those that belong to the rows of a call's logits."""
    ignored, smoothing, *_ = options
    counts = np.ones_like(rows[..., :1])
    if row_weights is not None:
        counts *= row_weights[..., np.newaxis]
    w = np.ones_like(rows)
    if class_weights is not None:
        w *= np.asarray(class_weights)
    even = smoothing / rows.shape[-1]
    if target.ndim == 3:
        t = _rows(target)
        t = t if class_weights is None else w * ((1 - smoothing) * t + even)
        return _TargetRows(counts, t, np.zeros(counts.shape, np.int64), np.zeros_like(counts))
    label = target.astype(np.int64)[..., np.newaxis]
    if ignored is not None:
        counts[label == ignored] = 0
        label = np.where(label == ignored, 0, label)
    return _TargetRows(counts, even * w, label, (1 - smoothing) * np.take_along_axis(w, label, axis=-1))


@np.errstate(all="ignore")
def cross_entropy(
    x: Array,
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
    _, smoothing, z, cap, temperature, divisor, z_divisor = options
    u = _rows(x)
    m, shifted, slope = _capped(u, cap, temperature)
    e, rest = _exponentials(shifted)
    share = 1 / (1 + rest)
    counts, t, label, at_label = _target_rows(target, class_weights, row_weights, options, u)

    def difference(c: float) -> Array:
        return c * u - c * m if cap == 0 and temperature == 1 else c * shifted

    c, total = _finite_sum(lambda c: np.where(t == 0, 0, t * difference(c)))
    weight = _sum(t)
    loss = c * weight * np.log1p(rest) - total
    if target.ndim == 2:
        distance = np.take_along_axis(difference(c), label, axis=-1)
        loss = loss + np.where(at_label == 0, 0, at_label * (c * np.log1p(rest) - distance))
        weight = weight + at_label

    log_sum = m + np.log1p(rest) if cap else np.where(np.isfinite(m), m + np.log1p(rest), _limit(u, m))
    scale, z_scale = (counts / n if n else np.zeros_like(counts) for n in (divisor, z_divisor))
    loss = np.where(counts == 0, 0, scale / c * loss + (z * z_scale * log_sum**2 if z else 0))
    if lse is not None:
        lse[...] = log_sum[..., 0]
    if grad is not None:
        # Where p is near 1, at one class, Q * p - q' = (Q - q') - Q * rest / (1 + rest) keeps the digits.
        at_top = (shifted == 0) & (rest < 1)
        g = np.where(at_top, (weight - t) - weight * rest * share, weight * share * e - t)
        if target.ndim == 2:
            at = label == np.arange(u.shape[-1])
            if smoothing == 0:  # then the same is so at the label, whatever p is there
                far = np.where(shifted == 0, rest, 1 + (rest - e)) * share
                g = np.where(at, -weight * far, g)
            else:
                g = np.where(at, np.where(at_top, g - at_label, weight * share * e - (t + at_label)), g)
        g = scale * g + (2 * z * z_scale * log_sum * share * e if z else 0)
        _store(np.where(counts == 0, 0, slope * g), grad)
    if hess is not None:
        far = np.where(shifted == 0, rest * share, 1 - share * e)
        _store(np.where(counts == 0, 0, slope**2 * scale * weight * share * e * far), hess)
    if losses is not None:
        losses[...] = loss[..., 0]
    return float(loss.sum())


@np.errstate(all="ignore")
def token_logprobs(
    x: Array,
    ids: Array,
    options: tuple[int | None, float, float],
    logprob: Array,
    rank: Array,
    entropy: Array,
    lse: Array,
    top_id: Array | None,
    top_logprob: Array | None,
    threads: int,
) -> None:
    ignored, cap, temperature = options
    u = _rows(x)
    m, shifted, _ = _capped(u, cap, temperature)
    e, rest = _exponentials(shifted)
    log_sum = np.log1p(rest) + (m - m)  # NaN for a row without probabilities
    entropy[...] = (log_sum - _sum(np.where(e == 0, 0, e * shifted)) / (1 + rest))[..., 0]
    lse[...] = (m + log_sum if cap else np.where(np.isfinite(m), m + log_sum, _limit(u, m)))[..., 0]
    log_p = (shifted - log_sum).astype(lse.dtype)
    counted = ids != ignored
    id = np.where(counted, ids, 0).astype(np.int64)
    logprob[...] = np.where(counted, np.take_along_axis(log_p, id, axis=-1), 0)
    for k in range(ids.shape[-1]):
        rank[..., k] = 1 + np.count_nonzero(u > np.take_along_axis(u, id[..., k : k + 1], axis=-1), axis=-1)
    rank[~counted | np.isnan(logprob)] = 0
    if top_id is not None and top_logprob is not None:
        top_id[...] = np.argsort(-u, axis=-1, kind="stable")[..., : top_id.shape[-1]]
        top_logprob[...] = np.take_along_axis(log_p, top_id, axis=-1)
        top_id[np.isnan(log_sum[..., 0])] = -1


def _limit(x: Array, m: Array) -> Array:
    """The logsumexp of rows with an infinite maximum."""
    return np.where(np.isnan(x).any(axis=-1, keepdims=True), np.nan, m)


@np.errstate(all="ignore")
def hessian_product(
    x: Array,
    v: Array,
    target: Array,
    class_weights: Array | None,
    row_weights: Array | None,
    options: Options,
    out: Array,
    threads: int,
) -> None:
    _, _, _, _, temperature, divisor, _ = options
    u, vector = _rows(x), _rows(v)
    _, shifted, _ = _capped(u, 0, temperature)
    e, rest = _exponentials(shifted)
    p = e / (1 + rest)
    counts, t, _, at_label = _target_rows(target, class_weights, row_weights, options, u)
    weight = _sum(t) + at_label
    # H v is that of v less any number: less that at the maximum, it keeps its digits where p is near 1.
    vector = vector - np.take_along_axis(vector, u.argmax(axis=-1, keepdims=True), axis=-1)
    scale = counts * weight / temperature / temperature / divisor if divisor else 0 * counts
    _store(np.where(counts == 0, 0, scale * (p * (vector - _sum(p * vector)))), out)


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
    p = _rows(probs)
    counts, t, label, at_label = _target_rows(target, class_weights, row_weights, options, p)
    q = counts * (t + np.where(label == np.arange(p.shape[-1]), at_label, 0))
    divisor = options[5]
    loss = -_sum(np.where(q == 0, 0, q * np.log(p)))[..., 0] / divisor
    if grad is not None:
        _store(np.where(q == 0, 0, -q / (divisor * p)), grad)
    if losses is not None:
        losses[...] = loss
    return float(loss.sum())


def labels_in_range(labels: Array, classes: int, ignored: int | None) -> bool:
    labels = labels.astype(np.int64)
    return bool((((labels >= 0) & (labels < classes)) | (labels == ignored)).all())


def are_finite(values: Array) -> bool:
    return bool(np.isfinite(values).all())


@np.errstate(all="ignore")
def sums_of_weights(
    labels: Array | None, row_weights: Array | None, class_weights: Array | None, ignored: int | None
) -> tuple[float, float, int, int]:
    if labels is None:
        assert row_weights is not None
        labels = np.zeros(row_weights.shape, np.int64)
    labels = labels.astype(np.int64)
    counts = labels != ignored
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
    out[...] = {"exp": np.exp, "expm1": np.expm1, "log": np.log, "log1p": np.log1p}[function](x.astype(np.float64))


# What compiled kernels have for plain arrays, to which the general way is long; here it is not.


def plain_softmax(x: object, axis: object, where: object, out: object, threads: int) -> None:
    return None


def plain_log_softmax(x: object, axis: object, where: object, out: object, threads: int) -> None:
    return None


def plain_softmax_backward(grad_output: object, output: object, axis: object, out: object, threads: int) -> None:
    return None


def plain_log_softmax_backward(grad_output: object, output: object, axis: object, out: object, threads: int) -> None:
    return None


def plain_softmax_jacobian(p: object, axis: object) -> None:
    return None


def plain_logsumexp(x: object, axis: object, threads: int) -> None:
    return None


def plain_cross_entropy(
    logits: object,
    target: object,
    weight: object,
    row_weight: object,
    options: object,
    out: object,
    threads: int,
    with_lse: bool,
    with_grad: bool,
    with_hess: bool,
) -> None:
    return None


def plain_from_probs(
    probs: object,
    target: object,
    weight: object,
    row_weight: object,
    options: object,
    out: object,
    threads: int,
    with_grad: bool,
) -> None:
    return None
