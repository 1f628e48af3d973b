"""The functions of `cxent.sharded`."""

from __future__ import annotations

import math
from typing import Any, SupportsIndex, overload

import numpy as np
from numpy.typing import ArrayLike

from .. import kernels
from .._layout import as_stored, layout_of
from .._losses import scalar
from .._scoring import ScoreArrays
from .._types import Array, Combined, Out, PerRow, Real, Reduction, RowResults, Scalar
from .._validation import computed_dtype, floating_array, integer_in_range, loss_options, single_axis, thread_count
from ._part import (
    MOST_CLASSES,
    Part,
    check_rows,
    check_same_rows,
    check_whole,
    checked_target,
    finished,
    in_dtype_of,
    joined,
    log_sum_of,
    logits_at,
    logprob_of,
    merged,
    require_target,
    scalar_or_none,
    share_of,
    sum_of,
    temperature_of,
    top_of_part,
    weighted_grad,
    weighted_losses,
    weights_and_divisor,
    without_top,
)


def part(
    logits: ArrayLike,
    target: ArrayLike | None = None,
    *,
    axis: SupportsIndex = -1,
    first_class: SupportsIndex = 0,
    top_k: SupportsIndex = 0,
    temperature: Real = 1.0,
    classes: SupportsIndex | None = None,
    workers: SupportsIndex | None = None,
) -> Part:
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
        The number of the first class of this part, the same in no two parts that have any.
    top_k : int, default 0
        How many of the largest logits to keep, the same in all parts. Of equal ones the lower id comes first.
    temperature : float, default 1
        What logits are divided by, the same in all parts, from 1e-30 to 1e30. It changes neither maximum nor
        target_logit nor the largest.
    classes : int, optional
        How many classes all parts have together, the same in all parts. Without it, what is finished cannot notice
        that the last classes are missing.
    workers : int, optional
        As in `cxent.softmax`.

    Returns
    -------
    Part
        A named tuple of arrays in the rows' shape: maximum (-inf where there is none), sumexp_m1 (then -1), shifted,
        target_logit (NaN where the target is in another part; None without targets), and in an axis more lost (what
        rounding takes from both sums as parts are merged), top_ids and top_logits (-1 and -inf where there are no more
        classes; None if `top_k` is 0); the temperature; the ranges of the classes, and `classes`.

    Raises
    ------
    TypeError
        If the logits are no real numbers of a dtype above, or the target or an option is not an integer.
    ValueError
        If shapes do not match, an option is negative, the part goes beyond `classes`, or `workers` is 0 or below -CPUs.
    numpy.exceptions.AxisError
        If `axis` is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from cxent import sharded
    >>> logits = np.array([[2.0, 1.0, 0.0, 5.0]])
    >>> left = sharded.part(logits[:, :2], [3])
    >>> right = sharded.part(logits[:, 2:], [3], first_class=2)
    >>> whole = sharded.merge(left, right)
    >>> print(sharded.loss(whole).round(6))
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
    total = None if classes is None else integer_in_range(classes, "classes", MOST_CLASSES)
    end = first + layout.classes
    if total is not None and total < layout.classes:
        raise ValueError(
            f"classes must be at least {layout.classes} for logits of {layout.classes} classes, got {total}"
        )
    if total is not None and end > total:
        most = total - layout.classes
        raise ValueError(f"first_class must be at most {most} for {layout.classes} of {total} classes, got {first}")
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
        here = (ids >= first) & (ids < end)
        target_logit = np.where(
            here, logits_at(x, class_axis, np.where(here, ids - first, 0), layout), dtype.type(np.nan)
        )
    return Part(
        m[()],
        rest[()],
        shifted[()],
        np.zeros((*m.shape, 2), dtype),
        scalar_or_none(target_logit),
        top_ids,
        top_logits,
        checked_temperature,
        ((first, end),) if layout.classes else (),
        total,
    )


def merge(*parts: Part) -> Part:
    """What is known of the same rows from the classes of several parts together.

    Of two: ``m = max(m_a, m_b)``; the sums of the part with the smaller one are multiplied by ``exp(d)``, and those of
    differences are moved by d, with ``d = (m_a - m) / temperature``. In another order, merging gives the same but for
    roundings.

    Parameters
    ----------
    *parts : Part
        Of different classes of the same rows; one or more.

    Returns
    -------
    Part
        Of the classes of all.

    Raises
    ------
    TypeError
        If one is no `Part`, or there is none.
    ValueError
        If two have classes in common, their rows have different shapes, one has a target and another none, they keep
        different numbers of largest logits, or their temperatures or `classes` differ.

    Notes
    -----
    What rounding takes from a sum is kept beside it, and a factor near 1 changes no digits that it need not: thousands
    of parts, merged in any order, at once or one after the other, are as accurate as two.

    Examples
    --------
    >>> import functools
    >>> import numpy as np
    >>> from cxent import logsumexp, sharded
    >>> logits = np.random.default_rng(0).standard_normal((3, 90))
    >>> parts = [sharded.part(logits[:, a : a + 30], first_class=a, classes=90) for a in (0, 30, 60)]
    >>> whole = sharded.merge(*parts)
    >>> np.allclose(sharded.logsumexp(whole), logsumexp(logits))
    True

    One after the other, as they come:

    >>> whole = functools.reduce(sharded.merge, parts)
    """
    if not parts:
        raise TypeError("merge needs parts, got none")
    check_same_rows(parts)
    ranges = joined(pair for part in parts for pair in part.ranges)
    whole, *others = parts
    for part in others:
        whole = merged(whole, part)
    return whole._replace(ranges=ranges)


def logsumexp(p: Part) -> RowResults:
    """The logsumexp of each row: ``m / temperature + log1p(sumexp_m1)``.

    Parameters
    ----------
    p : Part
        Of all classes.

    Returns
    -------
    float32 or float64, or ndarray
        In the rows' shape.

    Examples
    --------
    >>> from cxent import sharded
    >>> sharded.logsumexp(sharded.part([[0.0, 0.0]]))
    array([0.69314718])
    """
    check_whole(p)
    with np.errstate(all="ignore"):
        return in_dtype_of(p, p.maximum / temperature_of(p) + log_sum_of(p))


def entropy(p: Part) -> RowResults:
    """The entropy of each row's softmax in nats: ``log1p(sumexp_m1) - shifted / (1 + sumexp_m1)``.

    Parameters
    ----------
    p : Part
        Of all classes.

    Returns
    -------
    float32 or float64, or ndarray
        In the rows' shape; NaN for rows without probabilities.

    Examples
    --------
    >>> from cxent import sharded
    >>> sharded.entropy(sharded.part([[0.0, 0.0]]))
    array([0.69314718])
    """
    check_whole(p)
    with np.errstate(all="ignore"):
        return in_dtype_of(p, log_sum_of(p) - p.shifted / (1 + p.sumexp_m1) + (p.maximum - p.maximum))


def logprob(p: Part) -> RowResults:
    """The log-probability of each row's target, or of each candidate: ``(x_y - m) / temperature - log1p(sumexp_m1)``.

    Parameters
    ----------
    p : Part
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
    >>> from cxent import sharded
    >>> sharded.logprob(sharded.part([[0.0, 0.0]], [1]))
    array([-0.69314718])
    """
    check_whole(p)
    return logprob_of(require_target(p), p)


@overload
def loss(p: Part, *, sample_weight: ArrayLike | None = None, reduction: Combined = "mean") -> Scalar: ...
@overload
def loss(p: Part, *, sample_weight: ArrayLike | None = None, reduction: PerRow) -> RowResults: ...
def loss(p: Part, *, sample_weight: ArrayLike | None = None, reduction: Reduction = "mean") -> RowResults:
    """The cross-entropy: ``(m - x_y) / temperature + log1p(sumexp_m1)`` of each row.

    It comes from the distance to the maximum, not from the logsumexp, and keeps its digits where all logits have a
    large offset in common.

    Parameters
    ----------
    p : Part
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
    >>> from cxent import sharded
    >>> print(sharded.loss(sharded.part([[1e8, 1e8 - 2]], [1])).round(6))
    2.126928
    """
    check_whole(p)
    require_target(p)
    weights, divisor = weights_and_divisor(p, sample_weight, reduction)
    weighted = weighted_losses(p, weights != 0, weights)
    if reduction == "none":
        return in_dtype_of(p, weighted)
    return scalar(sum_of(weighted) / divisor if divisor else math.nan, np.asarray(p.maximum).dtype.type)


def softmax(
    logits: ArrayLike, p: Part, *, axis: SupportsIndex = -1, out: Out = None, workers: SupportsIndex | None = None
) -> Array:
    """The probabilities of a part of the classes: ``exp((x - m) / temperature) / (1 + sumexp_m1)``.

    Parameters
    ----------
    logits : array_like
        Those of the part.
    p : Part
        Of all classes.
    axis : int, default -1
        The class axis.
    out : ndarray, optional
        Where to put the result, with the shape and dtype of the logits. It may be the logits themselves.
    workers : int, optional
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
    >>> from cxent import sharded
    >>> whole = sharded.merge(sharded.part([[0.0]]), sharded.part([[0.0, 0.0, 0.0]], first_class=1))
    >>> sharded.softmax([[0.0]], whole)
    array([[0.25]])
    """
    check_whole(p)
    return finished(logits, p, share_of(p), False, axis, out, workers)


def log_softmax(
    logits: ArrayLike, p: Part, *, axis: SupportsIndex = -1, out: Out = None, workers: SupportsIndex | None = None
) -> Array:
    """The log-probabilities of a part of the classes: ``(x - m) / temperature - log1p(sumexp_m1)``.

    Parameters
    ----------
    logits : array_like
        Those of the part.
    p : Part
        Of all classes.
    axis : int, default -1
        The class axis.
    out : ndarray, optional
        As in `softmax`.
    workers : int, optional
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
    >>> from cxent import sharded
    >>> whole = sharded.merge(sharded.part([[0.0]]), sharded.part([[0.0, 0.0, 0.0]], first_class=1))
    >>> sharded.log_softmax([[0.0]], whole)
    array([[-1.38629436]])
    """
    check_whole(p)
    with np.errstate(all="ignore"):
        log_sum = log_sum_of(p) + (p.maximum - p.maximum)
    return finished(logits, p, log_sum, True, axis, out, workers)


def grad(
    logits: ArrayLike,
    p: Part,
    target: ArrayLike,
    *,
    axis: SupportsIndex = -1,
    first_class: SupportsIndex = 0,
    sample_weight: ArrayLike | None = None,
    reduction: Reduction = "mean",
    out: Out = None,
    workers: SupportsIndex | None = None,
) -> Array:
    """The gradient of the cross-entropy with respect to the logits of a part of the classes.

    ``s / D * p_j``, less ``s / D`` at the target, where it is in this part, divided by the temperature; s is the row's
    weight, and D what the mean divides by, or else 1.

    Parameters
    ----------
    logits : array_like
        Those of the part.
    p : Part
        Of all classes, with the target.
    target : array_like of int
        As in `part`.
    axis, first_class : int, optional
        As in `part`.
    sample_weight, reduction : optional
        As in `loss`. With ``reduction="none"`` the gradient is that of the sum.
    out : ndarray, optional
        Where to put the gradient, with the shape and dtype of the logits. It may be the logits themselves.
    workers : int, optional
        As in `cxent.softmax`.

    Returns
    -------
    ndarray
        In the shape and dtype of the logits: `out`, if given.

    Raises
    ------
    TypeError, ValueError, numpy.exceptions.AxisError
        As in `part` and `loss`, and if `p` has other rows.

    Notes
    -----
    At the target it is ``-s / D * (1 - p_y)``, with the digits of the sum of the others, as in
    `cxent.cross_entropy_with_grad`.

    Examples
    --------
    >>> from cxent import sharded
    >>> left, right = [[0.0]], [[0.0, 0.0, 0.0]]
    >>> whole = sharded.merge(sharded.part(left, [2]), sharded.part(right, [2], first_class=1))
    >>> sharded.grad(right, whole, [2], first_class=1)
    array([[ 0.25, -0.75,  0.25]])
    """
    check_whole(p)
    weights, divisor = weights_and_divisor(p, sample_weight, reduction)
    with np.errstate(all="ignore"):
        shares = weights / divisor if divisor else np.zeros_like(weights)
    return weighted_grad(
        logits, p, target, weights != 0, shares, axis=axis, first_class=first_class, out=out, workers=workers
    )  # fmt: skip


def count_larger(logits: ArrayLike, p: Part, *, axis: SupportsIndex = -1) -> Any:
    """How many logits of a part are larger than the target's; summed over the parts, and 1 added, its rank.

    Of a row without probabilities (see `logprob`, which is NaN then) the number means nothing.

    Parameters
    ----------
    logits : array_like
        Those of the part.
    p : Part
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
    >>> from cxent import sharded
    >>> left, right = [[3.0]], [[1.0, 2.0, 5.0]]
    >>> whole = sharded.merge(sharded.part(left, [2]), sharded.part(right, [2], first_class=1))
    >>> 1 + sharded.count_larger(left, whole) + sharded.count_larger(right, whole)
    array([3])
    """
    x = floating_array(logits, "logits")
    layout = layout_of(x, single_axis(axis))
    check_rows(p, layout)
    targets = np.asarray(require_target(p))
    several = targets if targets.ndim > np.ndim(p.maximum) else targets[..., np.newaxis]
    rows = np.moveaxis(x, single_axis(axis) % x.ndim, -1)
    counts = [np.count_nonzero(rows > several[..., k, np.newaxis], axis=-1) for k in range(several.shape[-1])]
    found = np.stack(counts, axis=-1) if counts else np.zeros(several.shape, np.int64)
    return found.reshape(targets.shape)[()]
