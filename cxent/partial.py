"""Logits whose classes are in several places: each reduces its part, the parts are merged, and what is wanted of the
whole is computed of the small arrays that remain.

A row's logits may be chunks of a file, blocks of a Dask array, or shards of a vocabulary in several processes. A
`Partial` has a few numbers for each row, whatever the number of classes::

    parts = [partial.reduce(x[:, a:b], target, first_class=a) for a, b in ...]   # each where its logits are
    whole = functools.reduce(partial.merge, parts)                               # small: may be sent
    loss = partial.loss(whole)
    grad = partial.grad(x[:, a:b], whole, target, first_class=a)                 # each its own part
"""

from __future__ import annotations

from typing import Any, SupportsIndex, overload

import numpy as np
from numpy.typing import ArrayLike

from . import kernels
from ._layout import as_stored, layout_of
from ._partial import (
    MOST_CLASSES,
    WITHOUT_TARGET,
    Partial,
    check,
    check_rows,
    check_same_rows,
    check_targets,
    checked_target,
    finished,
    in_dtype_of,
    largest_of,
    logits_at,
    logprob_of,
    ordered,
    scalar_or_none,
    temperature_of,
    top_of_part,
    weights_and_divisor,
    without_top,
)
from ._scoring import ScoreArrays
from ._types import Array, Combined, Out, PerRow, Real, Reduction, RowResults, Scalar
from ._validation import computed_dtype, floating_array, integer_in_range, loss_options, single_axis, thread_count

__all__ = [
    "Partial",
    "entropy",
    "grad",
    "larger",
    "log_softmax",
    "logprob",
    "logsumexp",
    "loss",
    "merge",
    "reduce",
    "softmax",
]


def reduce(
    logits: ArrayLike,
    target: ArrayLike | None = None,
    *,
    axis: SupportsIndex = -1,
    first_class: SupportsIndex = 0,
    top_k: SupportsIndex = 0,
    temperature: Real = 1.0,
    workers: SupportsIndex = 1,
) -> Partial:
    """What `merge` needs to know of a part of the classes, in one pass over their logits.

    With m the largest logit of the part, and ``d_j = (x_j - m) / temperature``: ``sumexp_m1 = sum_j exp(d_j) - 1``, and
    ``shifted = sum_j exp(d_j) * d_j``.

    Parameters
    ----------
    logits : array_like
        Logits of the classes from `first_class` on, which may be none; dtypes as in `cxent.softmax`.
    target : array_like of int, optional
        The class index of each row, in the shape of the logits without the class axis, or several candidates for each
        row in an axis more. They count from the first class of all parts, and may lie in any of these.
    axis : int, default -1
        The class axis.
    first_class : int, default 0
        The number of the first class of this part.
    top_k : int, default 0
        How many of the largest logits to keep, the same in all parts. Of equal ones the lower id comes first.
    temperature : float, default 1
        What logits are divided by, the same in all parts, from 1e-30 to 1e30. It changes neither maximum nor
        target_logit nor the largest.
    workers : int, default 1
        As in `cxent.softmax`.

    Returns
    -------
    Partial
        A named tuple of arrays in the rows' shape: maximum (-inf where there is none), sumexp_m1 (then -1), shifted,
        target_logit (NaN where the target is in another part; None without targets), and in an axis more top_ids and
        top_logits (-1 and -inf where there are no more classes; None if `top_k` is 0); and the temperature.

    Raises
    ------
    TypeError
        If the logits are no real numbers of a dtype above, or the target or an option is not an integer.
    ValueError
        If shapes do not match, an option is negative, or `workers` is 0 or below -CPUs.
    numpy.exceptions.AxisError
        If `axis` is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from cxent import partial
    >>> logits = np.array([[2.0, 1.0, 0.0, 5.0]])
    >>> left = partial.reduce(logits[:, :2], [3])
    >>> right = partial.reduce(logits[:, 2:], [3], first_class=2)
    >>> whole = partial.merge(left, right)
    >>> print(partial.loss(whole).round(6))
    0.072172
    """
    threads = thread_count(workers)
    first = integer_in_range(first_class, "first_class", MOST_CLASSES)
    k = integer_in_range(top_k, "top_k", MOST_CLASSES)
    checked_temperature = loss_options(-1, "sum", None, temperature=temperature).temperature
    x = floating_array(logits, "logits")
    layout = layout_of(x, single_axis(axis))
    class_axis = single_axis(axis) % x.ndim
    ids = None if target is None else checked_target(target, layout)
    dtype = computed_dtype(x.dtype)

    state = layout.empty_row_results(dtype, 3)
    scores = ScoreArrays.empty(layout, dtype, 0, min(k, layout.classes))._replace(state=state)
    if layout.row_count and layout.classes:
        no_ids = np.empty((*scores.entropy.shape, 0), np.int64)
        kernels.serving.of(x.dtype).token_logprobs(
            as_stored(layout.view(x)), no_ids, (None, 0.0, checked_temperature), *scores, threads
        )
    m, rest, shifted = (np.array(layout.row_results(state)[..., i]) for i in range(3))
    lse = np.asarray(layout.row_results(scores.lse))
    if not layout.classes:
        m[...] = lse[...] = -np.inf
    # Without a finite maximum: no sum where all are -inf, the largest term alone beside +inf, NaN beside NaN.
    infinite = np.isinf(m) & ~np.isnan(lse)
    rest[infinite] = np.where(m[infinite] < 0, -1, 0)
    shifted[infinite] = 0
    top_ids = top_logits = None
    if k:
        top_ids, top_logits = without_top(rest, m, *top_of_part(x, class_axis, layout, scores.top_id, m, first, k))
    target_logit = None
    if ids is not None:
        here = (ids >= first) & (ids < first + layout.classes)
        target_logit = np.where(
            here, logits_at(x, class_axis, np.where(here, ids - first, 0), layout), dtype.type(np.nan)
        )
    return Partial(m[()], rest[()], shifted[()], scalar_or_none(target_logit), top_ids, top_logits, checked_temperature)


def merge(a: Partial, b: Partial) -> Partial:
    """What is known of the same rows from the classes of two parts together.

    ``m = max(m_a, m_b)``; the sums of the part with the smaller one are multiplied by ``exp(d)``, and those of
    differences are moved by d, with ``d = (m_a - m) / temperature``. In another order, merging gives the same but for
    roundings.

    Parameters
    ----------
    a, b : Partial
        Of different classes of the same rows.

    Returns
    -------
    Partial
        Of the classes of both.

    Raises
    ------
    TypeError
        If one is no `Partial`.
    ValueError
        If their rows have different shapes, one has a target and the other none, they keep different numbers of
        largest logits, or their temperatures differ.

    Examples
    --------
    >>> import functools
    >>> import numpy as np
    >>> from cxent import logsumexp, partial
    >>> logits = np.random.default_rng(0).standard_normal((3, 90))
    >>> parts = [partial.reduce(logits[:, a : a + 30], first_class=a) for a in (0, 30, 60)]
    >>> whole = functools.reduce(partial.merge, parts)
    >>> np.allclose(partial.logsumexp(whole), logsumexp(logits))
    True
    """
    check_same_rows(a, b)
    with np.errstate(all="ignore"):
        m_a, m_b = np.asarray(a.maximum), np.asarray(b.maximum)
        m = np.maximum(m_a, m_b)
        a_is_larger = m_a >= m_b
        larger_rest, smaller_rest = ordered(a_is_larger, a.sumexp_m1, b.sumexp_m1)
        larger_shifted, smaller_shifted = ordered(a_is_larger, a.shifted, b.shifted)
        step = (np.where(a_is_larger, m_b, m_a) - m) / m.dtype.type(a.temperature)
        factor = np.where(np.isnan(step), 1, np.exp(step)).astype(m.dtype)  # (both are infinite)
        total = 1 + smaller_rest
        rest = larger_rest + total * factor
        moved = smaller_shifted + np.where(factor == 0, 0, total * np.where(np.isnan(step), 0, step))
        shifted = larger_shifted + np.where(factor == 0, np.where(np.isnan(total), np.nan, 0), factor * moved)
    target_logit: Array | None = None
    if a.target_logit is not None and b.target_logit is not None:
        target_logit = np.where(np.isnan(a.target_logit), b.target_logit, np.asarray(a.target_logit))
    top_ids = top_logits = None
    if a.top_ids is not None and a.top_logits is not None and b.top_ids is not None and b.top_logits is not None:
        top_ids, top_logits = largest_of(
            np.concatenate([a.top_ids, b.top_ids], axis=-1),
            np.concatenate([a.top_logits, b.top_logits], axis=-1),
            a.top_ids.shape[-1],
        )
        top_ids, top_logits = without_top(rest, m, top_ids, top_logits)
    return Partial(
        m[()],
        rest.astype(m.dtype)[()],
        shifted.astype(m.dtype)[()],
        scalar_or_none(target_logit),
        top_ids,
        top_logits,
        a.temperature,
    )


def logsumexp(p: Partial) -> RowResults:
    """The logsumexp of each row: ``m / temperature + log1p(sumexp_m1)``.

    Parameters
    ----------
    p : Partial
        Of all classes.

    Returns
    -------
    float32 or float64, or ndarray
        In the rows' shape.

    Examples
    --------
    >>> from cxent import partial
    >>> partial.logsumexp(partial.reduce([[0.0, 0.0]]))
    array([0.69314718])
    """
    check(p, "p")
    with np.errstate(all="ignore"):
        return in_dtype_of(p, p.maximum / temperature_of(p) + np.log1p(p.sumexp_m1))


def entropy(p: Partial) -> RowResults:
    """The entropy of each row's softmax in nats: ``log1p(sumexp_m1) - shifted / (1 + sumexp_m1)``.

    Parameters
    ----------
    p : Partial
        Of all classes.

    Returns
    -------
    float32 or float64, or ndarray
        In the rows' shape; NaN for rows without probabilities.

    Examples
    --------
    >>> from cxent import partial
    >>> partial.entropy(partial.reduce([[0.0, 0.0]]))
    array([0.69314718])
    """
    check(p, "p")
    with np.errstate(all="ignore"):
        return in_dtype_of(p, np.log1p(p.sumexp_m1) - p.shifted / (1 + p.sumexp_m1) + (p.maximum - p.maximum))


def logprob(p: Partial) -> RowResults:
    """The log-probability of each row's target, or of each candidate: ``(x_y - m) / temperature - log1p(sumexp_m1)``.

    Parameters
    ----------
    p : Partial
        Of all classes, with a target.

    Returns
    -------
    float32 or float64, or ndarray
        In the target's shape; NaN where the target is in none of the parts.

    Raises
    ------
    ValueError
        If `p` was reduced without a target.

    Examples
    --------
    >>> from cxent import partial
    >>> partial.logprob(partial.reduce([[0.0, 0.0]], [1]))
    array([-0.69314718])
    """
    check(p, "p")
    if p.target_logit is None:
        raise ValueError(WITHOUT_TARGET)
    return logprob_of(p.target_logit, p)


@overload
def loss(p: Partial, *, sample_weight: ArrayLike | None = None, reduction: Combined = "mean") -> Scalar: ...
@overload
def loss(p: Partial, *, sample_weight: ArrayLike | None = None, reduction: PerRow) -> RowResults: ...
def loss(p: Partial, *, sample_weight: ArrayLike | None = None, reduction: Reduction = "mean") -> RowResults:
    """The cross-entropy: ``(m - x_y) / temperature + log1p(sumexp_m1)`` of each row.

    It comes from the distance to the maximum, not from the logsumexp, and keeps its digits where all logits have a
    large offset in common.

    Parameters
    ----------
    p : Partial
        Of all classes, with one target for each row.
    sample_weight : array_like, optional
        As in `cxent.cross_entropy`. Of a row of weight 0 the target may be in none of the parts: so rows do not count.
    reduction : {"mean", "sum", "none"}, default "mean"
        As in `cxent.cross_entropy`.

    Returns
    -------
    float32 or float64, or ndarray
        The loss; with ``reduction="none"`` that of each row.

    Raises
    ------
    TypeError, ValueError
        As in `cxent.cross_entropy`, and if `p` was reduced without a target, or with several candidates, or if a row
        that counts has its target in none of the parts.

    Examples
    --------
    >>> from cxent import partial
    >>> print(partial.loss(partial.reduce([[1e8, 1e8 - 2]], [1])).round(6))
    2.126928
    """
    losses = -np.asarray(logprob(p))
    weights, divisor = weights_and_divisor(p, sample_weight, reduction)
    check_targets(p, weights)
    with np.errstate(all="ignore"):
        weighted = np.where(weights == 0, 0, weights * losses)
        if reduction == "none":
            return weighted.astype(losses.dtype)[()]
        return losses.dtype.type(weighted.sum() / divisor if divisor else np.nan)


def softmax(
    logits: ArrayLike, p: Partial, *, axis: SupportsIndex = -1, out: Out = None, workers: SupportsIndex = 1
) -> Array:
    """The probabilities of a part of the classes: ``exp((x - m) / temperature) / (1 + sumexp_m1)``.

    Parameters
    ----------
    logits : array_like
        Those of the part.
    p : Partial
        Of all classes.
    axis : int, default -1
        The class axis.
    out : ndarray, optional
        Where to put the result, with the shape and dtype of the logits. It may be the logits themselves.
    workers : int, default 1
        As in `cxent.softmax`.

    Returns
    -------
    ndarray
        In the shape and dtype of the logits: `out`, if given.

    Raises
    ------
    TypeError, ValueError, numpy.exceptions.AxisError
        As in `cxent.softmax`, and if `p` has other rows.

    Examples
    --------
    >>> from cxent import partial
    >>> whole = partial.merge(partial.reduce([[0.0]]), partial.reduce([[0.0, 0.0, 0.0]], first_class=1))
    >>> partial.softmax([[0.0]], whole)
    array([[0.25]])
    """
    check(p, "p")
    with np.errstate(all="ignore"):
        share = 1 / (1 + np.asarray(p.sumexp_m1)) + (p.maximum - p.maximum)
    return finished(logits, p, share, False, axis, out, workers)


def log_softmax(
    logits: ArrayLike, p: Partial, *, axis: SupportsIndex = -1, out: Out = None, workers: SupportsIndex = 1
) -> Array:
    """The log-probabilities of a part of the classes: ``(x - m) / temperature - log1p(sumexp_m1)``.

    Parameters
    ----------
    logits : array_like
        Those of the part.
    p : Partial
        Of all classes.
    axis : int, default -1
        The class axis.
    out : ndarray, optional
        As in `softmax`.
    workers : int, default 1
        As in `cxent.softmax`.

    Returns
    -------
    ndarray
        In the shape and dtype of the logits: `out`, if given.

    Raises
    ------
    TypeError, ValueError, numpy.exceptions.AxisError
        As in `softmax`.

    Examples
    --------
    >>> from cxent import partial
    >>> whole = partial.merge(partial.reduce([[0.0]]), partial.reduce([[0.0, 0.0, 0.0]], first_class=1))
    >>> partial.log_softmax([[0.0]], whole)
    array([[-1.38629436]])
    """
    check(p, "p")
    with np.errstate(all="ignore"):
        log_sum = np.log1p(p.sumexp_m1) + (p.maximum - p.maximum)
    return finished(logits, p, log_sum, True, axis, out, workers)


def grad(
    logits: ArrayLike,
    p: Partial,
    target: ArrayLike,
    *,
    axis: SupportsIndex = -1,
    first_class: SupportsIndex = 0,
    sample_weight: ArrayLike | None = None,
    reduction: Reduction = "mean",
    out: Out = None,
    workers: SupportsIndex = 1,
) -> Array:
    """The gradient of the cross-entropy with respect to the logits of a part of the classes.

    ``s / D * p_j``, less ``s / D`` at the target, where it is in this part, divided by the temperature; s is the row's
    weight, and D what the mean divides by, or else 1.

    Parameters
    ----------
    logits : array_like
        Those of the part.
    p : Partial
        Of all classes, with the target.
    target : array_like of int
        As in `reduce`.
    axis, first_class : int, optional
        As in `reduce`.
    sample_weight, reduction : optional
        As in `loss`. With ``reduction="none"`` the gradient is that of the sum.
    out : ndarray, optional
        Where to put the gradient, with the shape and dtype of the logits. It may be the logits themselves.
    workers : int, default 1
        As in `cxent.softmax`.

    Returns
    -------
    ndarray
        In the shape and dtype of the logits: `out`, if given.

    Raises
    ------
    TypeError, ValueError, numpy.exceptions.AxisError
        As in `reduce` and `loss`, and if `p` has other rows.

    Notes
    -----
    At the target it is ``-s / D * (1 - p_y)``, with the digits of the sum of the others, as in
    `cxent.cross_entropy_with_grad`.

    Examples
    --------
    >>> from cxent import partial
    >>> left, right = [[0.0]], [[0.0, 0.0, 0.0]]
    >>> whole = partial.merge(partial.reduce(left, [2]), partial.reduce(right, [2], first_class=1))
    >>> partial.grad(right, whole, [2], first_class=1)
    array([[ 0.25, -0.75,  0.25]])
    """
    first = integer_in_range(first_class, "first_class", MOST_CLASSES)
    x = floating_array(logits, "logits")
    layout = layout_of(x, single_axis(axis))
    check_rows(p, layout)
    ids = checked_target(target, layout)
    weights, divisor = weights_and_divisor(p, sample_weight, reduction)
    check_targets(p, weights)
    here = (ids >= first) & (ids < first + layout.classes)
    if ids.shape == np.shape(p.maximum):
        logit = logits_at(x, single_axis(axis) % x.ndim, np.where(here, ids - first, 0), layout)
        others = here & (logit != p.target_logit) & ~np.isnan(logit)
    else:
        others = np.ones(1, np.bool_)
    if others.any():
        raise ValueError("target is another than that with which p was reduced; accepted is the same, one for each row")
    with np.errstate(all="ignore"):
        scale = weights / divisor / p.temperature if divisor else np.zeros_like(weights)
        m, rest = np.asarray(p.maximum), np.asarray(p.sumexp_m1)
        share = 1 / (1 + rest) + (m - m)
        distance = (np.asarray(p.target_logit) - m) / temperature_of(p)
        of_others = np.where(distance == 0, rest, 1 + (rest - np.exp(distance)))
        at_target = np.where(scale == 0, 0, -scale * (of_others * share))
        factor = np.where(scale == 0, 0, scale * share)
    result = finished(x, p, factor, False, axis, out, workers)
    by_row, here, ids, at_target = (
        array[np.newaxis] for array in (np.moveaxis(result, single_axis(axis) % x.ndim, -1), here, ids, at_target)
    )  # (NumPy finds no places in an array without axes)
    rows = np.nonzero(here)
    with np.errstate(over="ignore"):
        by_row[(*rows, ids[rows] - first)] = at_target[rows]
    return result


def larger(logits: ArrayLike, p: Partial, *, axis: SupportsIndex = -1) -> Any:
    """How many logits of a part are larger than the target's; summed over the parts, and 1 added, its rank.

    Of a row without probabilities (see `logprob`, which is NaN then) the number means nothing.

    Parameters
    ----------
    logits : array_like
        Those of the part.
    p : Partial
        Of all classes, with a target.
    axis : int, default -1
        The class axis.

    Returns
    -------
    int64, or ndarray
        In the target's shape.

    Raises
    ------
    TypeError, ValueError, numpy.exceptions.AxisError
        As in `softmax`, and if `p` was reduced without a target.

    Examples
    --------
    >>> from cxent import partial
    >>> left, right = [[3.0]], [[1.0, 2.0, 5.0]]
    >>> whole = partial.merge(partial.reduce(left, [2]), partial.reduce(right, [2], first_class=1))
    >>> 1 + partial.larger(left, whole) + partial.larger(right, whole)
    array([3])
    """
    x = floating_array(logits, "logits")
    layout = layout_of(x, single_axis(axis))
    check_rows(p, layout)
    if p.target_logit is None:
        raise ValueError(WITHOUT_TARGET)
    targets = np.asarray(p.target_logit)
    several = targets if targets.ndim > np.ndim(p.maximum) else targets[..., np.newaxis]
    rows = np.moveaxis(x, single_axis(axis) % x.ndim, -1)
    counts = [np.count_nonzero(rows > several[..., k, np.newaxis], axis=-1) for k in range(several.shape[-1])]
    found = np.stack(counts, axis=-1) if counts else np.zeros(several.shape, np.int64)
    return found.reshape(targets.shape)[()]
