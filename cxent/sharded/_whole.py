"""Results of all classes, from merged parts."""

from __future__ import annotations

import itertools
import math
from typing import Any, SupportsIndex, cast

import numpy as np
from numpy.typing import ArrayLike

from .. import kernels
from .._arrays import Arrays, Shape, logits_and
from .._layout import lay_out
from .._options import part_options, single_axis
from .._results import result_of, scalar
from .._targets import check_mask, targets_of_part
from .._types import Array, Out, Real, Reduction, RowResults
from ._part import SCALE, Part, at_ids, in_words, logits_at

WITHOUT_TARGET = "p must be made with a target, got one without target_logit"


def logsumexp(p: Part) -> RowResults:
    r"""The logsumexp of each row.

    .. math:: \mathrm{lse} = m / T + \mathrm{log1p}(\text{sumexp_m1})

    Parameters
    ----------
    p : Part
        The merged part of all classes.

    Returns
    -------
    scalar or ndarray
        In the shape of the rows, in float32 or float64.

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
    r"""The entropy of the softmax of each row, in nats.

    .. math::

        & \mathrm{log1p}(\text{sumexp_m1}) \\
        & \quad - \text{shifted} / (1 + \text{sumexp_m1})

    Parameters
    ----------
    p : Part
        The merged part of all classes.

    Returns
    -------
    scalar or ndarray
        In the shape of the rows, in float32 or float64; NaN for rows without probabilities.

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
    r"""The log-probability of each row's target, or of each candidate.

    .. math:: \log p_y = (x_y - m) / T - \mathrm{log1p}(\text{sumexp_m1})

    Parameters
    ----------
    p : Part
        The merged part of all classes, with a target.

    Returns
    -------
    scalar or ndarray
        In the shape of the target, in float32 or float64; NaN where no part contains the target.

    Raises
    ------
    ValueError
        If `p` has no target.

    Examples
    --------
    >>> from cxent import sharded
    >>> sharded.logprob(sharded.part([[0.0, 0.0]], [1]))
    array([-0.69314718])
    """
    check_whole(p)
    return logprob_of(require_target(p), p)


def loss(
    p: Part,
    *,
    sample_weight: ArrayLike | None = None,
    label_smoothing: Real = 0.0,
    z_loss: Real = 0.0,
    reduction: Reduction = "mean",
) -> RowResults:
    r"""The cross-entropy.

    .. math::

        E &= (1 - \epsilon) (m - x_y) / T + \epsilon \, \text{distance} / n + \mathrm{log1p}(\text{sumexp_m1})
          + z \, \mathrm{lse}^2

    with label smoothing :math:`\epsilon`, the sum of the distances to the maximum and the number n of the classes that
    take part, and the factor z of the z-loss.

    It is computed from the distance to the maximum, not from the logsumexp, so it keeps its digits if all logits have a
    large offset in common.

    Parameters
    ----------
    p : Part
        The merged part of all classes, with one target for each row.
    sample_weight : array_like, optional
        Weight of each row. A row with weight 0 does not count, and its target need not be in any part.
    label_smoothing : float, default 0
        Share of the target that is spread evenly over the classes that take part; from 0 to 1. It needs parts made
        `for_smoothing`.
    z_loss : float, default 0
        Factor of the squared logsumexp, which is added to the loss of each row.
    reduction : {"mean", "sum", "none"}, default "mean"
        How the losses of the rows are combined.

    Returns
    -------
    scalar or ndarray
        The loss, in float32 or float64; with reduction "none", one per row.

    Raises
    ------
    TypeError, ValueError
        As in `cxent.cross_entropy`, and if `p` has no target or several candidates per row, if no part contains the
        target of a row that counts, or with label smoothing if `p` was not made `for_smoothing`.

    Examples
    --------
    >>> from cxent import sharded
    >>> print(sharded.loss(sharded.part([[1e8, 1e8 - 2]], [1])).round(6))
    2.126928
    """
    check_whole(p)
    require_target(p)
    options = part_options(-1, None, reduction=reduction, label_smoothing=label_smoothing, z_loss=z_loss)
    m = np.asarray(p.maximum)
    arrays = logits_and("p", m[..., np.newaxis], -1, sample_weight=sample_weight)
    weights, divisor = weights_and_divisor(p, targets_of_part(arrays)[1], options.reduction == "mean")
    weighted = weighted_losses(p, weights != 0, weights, options.label_smoothing, options.z_loss)
    if options.reduction == "none":
        return in_dtype_of(p, weighted)
    if not divisor:
        return scalar(math.nan, m.dtype)
    total = sum_of(weighted) / divisor
    if not math.isfinite(total):  # a mean of large losses may be a number where their sum is none
        total = sum_of(weighted_losses(p, weights != 0, weights / divisor, options.label_smoothing, options.z_loss))
    return scalar(total, m.dtype)


def softmax(
    logits: ArrayLike,
    p: Part,
    *,
    axis: SupportsIndex = -1,
    where: ArrayLike | None = None,
    out: Out = None,
    workers: SupportsIndex | None = None,
) -> Array:
    r"""The probabilities of a part of the classes.

    .. math:: p_j = \exp((x_j - m) / T) / (1 + \text{sumexp_m1})

    Parameters
    ----------
    logits : array_like
        Logits of this part of the classes.
    p : Part
        The merged part of all classes.
    axis : int, default -1
        Class axis.
    where : array_like of bool, optional
        The mask that `part` was given.
    out : ndarray, optional
        Where to put the result, with the shape and dtype of the logits. It may be the logits themselves.
    workers : int, optional
        Number of threads; -1 means all CPUs.

    Returns
    -------
    ndarray
        The probabilities, in the shape and dtype of the logits. It is `out`, if given.

    Raises
    ------
    TypeError, ValueError, numpy.exceptions.AxisError
        As in `cxent.softmax`, and if `p` has other rows.

    Examples
    --------
    >>> from cxent import sharded
    >>> left = sharded.part([[0.0]])
    >>> whole = sharded.merge(left, sharded.part([[0.0, 0.0, 0.0]], first_class=1))
    >>> sharded.softmax([[0.0]], whole)
    array([[0.25]])
    """
    arrays, p, threads = classes_of(p, logits, axis, where, out, workers)
    return finished(arrays, p, share_of(p), False, out, threads)


def log_softmax(
    logits: ArrayLike,
    p: Part,
    *,
    axis: SupportsIndex = -1,
    where: ArrayLike | None = None,
    out: Out = None,
    workers: SupportsIndex | None = None,
) -> Array:
    r"""The log-probabilities of a part of the classes.

    .. math:: \log p_j = (x_j - m) / T - \mathrm{log1p}(\text{sumexp_m1})

    Parameters
    ----------
    logits : array_like
        Logits of this part of the classes.
    p : Part
        The merged part of all classes.
    axis : int, default -1
        Class axis.
    where : array_like of bool, optional
        The mask that `part` was given.
    out : ndarray, optional
        Where to put the result, with the shape and dtype of the logits. It may be the logits themselves.
    workers : int, optional
        Number of threads; -1 means all CPUs.

    Returns
    -------
    ndarray
        The log-probabilities, in the shape and dtype of the logits. It is `out`, if given.

    Raises
    ------
    TypeError, ValueError, numpy.exceptions.AxisError
        As in `softmax`.

    Examples
    --------
    >>> from cxent import sharded
    >>> left = sharded.part([[0.0]])
    >>> whole = sharded.merge(left, sharded.part([[0.0, 0.0, 0.0]], first_class=1))
    >>> sharded.log_softmax([[0.0]], whole)
    array([[-1.38629436]])
    """
    arrays, p, threads = classes_of(p, logits, axis, where, out, workers)
    with np.errstate(all="ignore"):
        log_sum = log_sum_of(p) + (p.maximum - p.maximum)
    return finished(arrays, p, log_sum, True, out, threads)


def grad(
    logits: ArrayLike,
    p: Part,
    target: ArrayLike,
    *,
    axis: SupportsIndex = -1,
    where: ArrayLike | None = None,
    first_class: SupportsIndex = 0,
    sample_weight: ArrayLike | None = None,
    label_smoothing: Real = 0.0,
    z_loss: Real = 0.0,
    reduction: Reduction = "mean",
    out: Out = None,
    workers: SupportsIndex | None = None,
) -> Array:
    r"""The gradient of the cross-entropy with respect to the logits of a part of the classes.

    .. math::

        \partial E / \partial x_j = \frac{s}{D T} \left(
            (1 + 2 z \, \mathrm{lse}) p_j - (1 - \epsilon) y_j - \epsilon / n \right)

    with y one-hot at the target, the row's weight s, temperature T, the divisor D of the mean, or 1 with reduction
    "sum" or "none", and label smoothing and z-loss as in `loss`.

    Parameters
    ----------
    logits : array_like
        Logits of this part of the classes.
    p : Part
        The merged part of all classes, with the target.
    target : array_like of int
        The class index of each row, as given to `part`.
    axis : int, default -1
        Class axis.
    where : array_like of bool, optional
        The mask that `part` was given.
    first_class : int, default 0
        Index of the first class of this part.
    sample_weight : array_like, optional
        Weight of each row, as given to `loss`.
    label_smoothing, z_loss : float, default 0
        As given to `loss`.
    reduction : {"mean", "sum", "none"}, default "mean"
        How the losses of the rows are combined. With "none", the gradient is that of their sum.
    out : ndarray, optional
        Where to put the gradient, with the shape and dtype of the logits. It may be the logits themselves.
    workers : int, optional
        Number of threads; -1 means all CPUs.

    Returns
    -------
    ndarray
        The gradient, in the shape and dtype of the logits. It is `out`, if given.

    Raises
    ------
    TypeError, ValueError, numpy.exceptions.AxisError
        As in `part` and `loss`, and if `p` has other rows.

    Notes
    -----
    At the target, :math:`1 - p_y` is computed from the sum of all other probabilities, and keeps its digits, as in
    `cxent.cross_entropy_with_grad`. With label smoothing, half precision is computed from a float32 copy.

    Examples
    --------
    >>> from cxent import sharded
    >>> left, right = [[0.0]], [[0.0, 0.0, 0.0]]
    >>> whole = sharded.merge(sharded.part(left, [2]), sharded.part(right, [2], first_class=1))
    >>> sharded.grad(right, whole, [2], first_class=1)
    array([[ 0.25, -0.75,  0.25]])
    """
    check_whole(p)
    options = part_options(
        axis, workers, first_class, reduction=reduction, label_smoothing=label_smoothing, z_loss=z_loss
    )  # fmt: skip
    arrays = logits_and(
        "logits", logits, options.axis, ids=target, ids_name="target", sample_weight=sample_weight, where=where,
        out=out, at_least=np.asarray(p.maximum).dtype, widened=options.label_smoothing > 0,
    )  # fmt: skip
    ids, by_row = targets_of_part(arrays)
    weights, divisor = weights_and_divisor(p, by_row, options.reduction == "mean")
    with np.errstate(all="ignore"):
        shares = weights / divisor if divisor else np.zeros_like(weights)
    return weighted_grad(
        arrays, p, ids, weights != 0, shares, options.first_class, out, options.threads, options.label_smoothing,
        options.z_loss,
    )  # fmt: skip


def count_larger(logits: ArrayLike, p: Part, *, axis: SupportsIndex = -1, where: ArrayLike | None = None) -> Any:
    """How many logits of a part of the classes are larger than the target's.

    The sum over all parts, plus 1, is the rank of the target. In a row without probabilities (where `logprob` is NaN),
    or for a target that takes no part, the number is meaningless.

    Parameters
    ----------
    logits : array_like
        Logits of this part of the classes.
    p : Part
        The merged part of all classes, with a target.
    axis : int, default -1
        Class axis.
    where : array_like of bool, optional
        The mask that `part` was given.

    Returns
    -------
    scalar or ndarray
        The number, as int64, in the shape of the target.

    Raises
    ------
    TypeError, ValueError, numpy.exceptions.AxisError
        As in `softmax`, and if `p` has no target.

    Examples
    --------
    >>> from cxent import sharded
    >>> left, right = [[3.0]], [[1.0, 2.0, 5.0]]
    >>> whole = sharded.merge(sharded.part(left, [2]), sharded.part(right, [2], first_class=1))
    >>> 1 + sharded.count_larger(left, whole) + sharded.count_larger(right, whole)
    array([3])
    """
    arrays = logits_and("logits", logits, single_axis(axis), where=where)
    check_mask(arrays)
    mask = arrays.where
    check_rows(p, arrays.shape)
    targets = np.asarray(require_target(p))
    several = targets if targets.ndim > np.ndim(p.maximum) else targets[..., np.newaxis]
    rows = np.moveaxis(arrays.x, arrays.shape.class_axes, (-1,))
    chosen = True if mask is None else np.moveaxis(mask, arrays.shape.class_axes, (-1,))
    counts = [
        np.count_nonzero((rows > several[..., k, np.newaxis]) & chosen, axis=-1) for k in range(several.shape[-1])
    ]
    found = np.stack(counts, axis=-1) if counts else np.zeros(several.shape, np.int64)
    return found.reshape(targets.shape)[()]


def logprob_of(logits: RowResults, p: Part) -> RowResults:
    """The log-probabilities of logits, one or several for each row."""
    several = np.ndim(logits) > np.ndim(p.maximum)
    m, log_sum = (np.asarray(a)[..., np.newaxis] if several else a for a in (p.maximum, log_sum_of(p)))
    temperature = temperature_of(p)
    with np.errstate(all="ignore"):
        difference = logits - m
        quotient = difference / temperature
        if np.isinf(difference).any():  # of halves, it is a number
            quotient = np.where(np.isinf(difference), (logits / 2 - m / 2) / (temperature / 2), quotient)
        return in_dtype_of(p, quotient - log_sum + (m - m))


def log_sum_of(p: Part) -> Array:
    """``log1p(sumexp_m1)``, where the maximum is finite."""
    result: Array = kernels.serving.evaluate("log1p", np.where(np.equal(p.sumexp_m1, -1), 0, p.sumexp_m1))
    return result


def sum_of(numbers: Array) -> float:
    """The sum of a float64 array. Unlike NumPy's, its bits do not depend on the CPU."""
    return float(kernels.serving.float64.total_of(np.ascontiguousarray(numbers).reshape(-1)))


def in_dtype_of(p: Part, results: Any) -> RowResults:
    """Results in the dtype of the part. (NumPy 1 turns a float32 scalar and a Python number into float64.)"""
    with np.errstate(all="ignore"):
        return np.asarray(results).astype(np.asarray(p.maximum).dtype, copy=False)[()]


def temperature_of(p: Part) -> Any:
    """The temperature in the dtype of the part."""
    return np.asarray(p.maximum).dtype.type(p.temperature)


def classes_of(
    p: Part,
    logits: ArrayLike,
    axis: SupportsIndex,
    where: ArrayLike | None,
    out: Out,
    workers: SupportsIndex | None,
) -> tuple[Arrays, Part, int]:
    """A part of the classes, checked; what is known of all of them; and the number of threads."""
    check_whole(p)
    options = part_options(axis, workers)
    arrays = logits_and("logits", logits, options.axis, where=where, out=out, at_least=np.asarray(p.maximum).dtype)
    check_mask(arrays)
    return arrays, with_probabilities_of_nothing(p, arrays), options.threads


def with_probabilities_of_nothing(p: Part, arrays: Arrays) -> Part:
    """p, with a logit of 0 elsewhere in rows without classes that take part, so that probabilities here are 0 and not
    NaN.

    (If all classes that take part are in other parts and have the logit -inf, p has the same numbers. Then only those
    parts have NaN.)"""
    check_rows(p, arrays.shape)
    mask, m = arrays.where, np.asarray(p.maximum)
    if mask is None:
        return p
    empty = (m == -np.inf) & ~mask.any(axis=arrays.shape.class_axes)
    zero = m.dtype.type(0)
    return p._replace(maximum=np.where(empty, zero, m), sumexp_m1=np.where(empty, zero, p.sumexp_m1))


def finished(
    arrays: Arrays, p: Part, factor: Array, logarithms: bool, out: Out, threads: int, less: Array | None = None
) -> Array:
    """The result of the kernel that finishes a part, given m and another number of each row; `less` a third number,
    where the mask is set."""
    check_rows(p, arrays.shape)
    shape, dtype = arrays.shape, arrays.dtype
    mask = arrays.where
    with np.errstate(all="ignore"):
        m, factor = np.asarray(p.maximum, dtype), np.asarray(factor).astype(dtype, copy=False)
        less = None if less is None else np.asarray(less).astype(dtype)
    laid = lay_out(
        shape, [arrays.x, mask], [m, factor, less],
        outputs=[True], result_dtype=arrays.result_dtype, dtype=arrays.x.dtype, out=out,
    )  # fmt: skip
    if shape.classes and shape.row_count:
        m, factor, less = laid.row_inputs
        kernels.serving.of(dtype).finish_part(
            *laid.inputs, m, factor, logarithms, p.temperature, *laid.outputs, laid.past_caches, threads
        )
        if less is not None:
            (memory,), (_, chosen) = laid.outputs, laid.inputs
            with np.errstate(all="ignore"):
                np.subtract(
                    memory, less[:, np.newaxis], out=memory, where=True if chosen is None else chosen.view(bool)
                )
    return cast(Array, result_of(laid))


def weights_and_divisor(p: Part, sample_weight: Array | None, is_mean: bool) -> tuple[Array, float]:
    """The weights of the rows in float64, and the divisor of the sum of their losses."""
    weights = np.ones(np.shape(p.maximum)) if sample_weight is None else sample_weight.astype(np.float64)
    if not is_mean:
        return weights, 1.0
    largest = np.abs(weights).max(initial=0)
    with np.errstate(all="ignore"):
        weights = np.ldexp(
            weights, -np.frexp(largest)[1]
        )  # (scaling does not change a mean, but their sum cannot overflow)
    return weights, sum_of(weights)


def weighted_losses(p: Part, counts: Array, weights: Array, label_smoothing: float = 0.0, z_loss: float = 0.0) -> Array:
    """The weighted losses of the rows in float64; 0 for rows that do not count."""
    losses = -np.asarray(logprob_of(require_target(p), p))
    check_targets(p, counts)
    with np.errstate(all="ignore"):
        if label_smoothing:
            distances, of_row = require_distances(p)
            m = np.asarray(p.maximum)
            spread = log_sum_of(p) + distances[..., 0] / of_row / SCALE + (m - m)
            losses = spread if label_smoothing == 1 else (1 - label_smoothing) * losses + label_smoothing * spread
        if z_loss:
            losses = losses + z_loss * wide_lse(p) ** 2
        weighted = weights * np.where((weights == 0) & ~np.isnan(losses), 0, losses)
        too_large = np.isinf(losses) & (weights != 0)
        if too_large.any():  # a part of them may not be
            weighted = np.where(too_large, weights * scaled_losses(p, label_smoothing, z_loss) / SCALE, weighted)
        return np.where(counts, weighted, 0)


def scaled_losses(p: Part, label_smoothing: float, z_loss: float) -> Array:
    """Losses that are too large for their dtype, multiplied by `SCALE`. (Beside them, ``log1p(sumexp_m1)`` is
    nothing.)"""
    m, target = (np.asarray(a, np.float64) * SCALE for a in (p.maximum, require_target(p)))
    losses = (m - target) / p.temperature
    if label_smoothing:
        distances, of_row = require_distances(p)
        spread = distances[..., 0] / of_row
        losses = spread if label_smoothing == 1 else (1 - label_smoothing) * losses + label_smoothing * spread
    return losses + z_loss * SCALE * wide_lse(p) ** 2 if z_loss else losses


def weighted_grad(
    arrays: Arrays,
    p: Part,
    ids: Array | None,
    counts: Array,
    weights: Array,
    first: int,
    out: Out = None,
    threads: int = 1,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
) -> Array:
    """The gradient of the weighted losses of the rows that count, with respect to the logits of a part."""
    shape = arrays.shape
    assert ids is not None
    check_rows(p, shape)
    check_targets(p, counts)
    mask = arrays.where
    here = (ids >= first) & (ids < first + shape.classes)
    places = np.where(here, ids - first, 0)
    if ids.shape == np.shape(p.maximum):
        logit = logits_at(arrays, places, mask)
        others = here & (logit != p.target_logit) & ~np.isnan(logit)
    else:
        others = np.ones(1, np.bool_)
    if others.any():
        raise ValueError("target must be the one that p was made with")
    with np.errstate(all="ignore"):
        m, rest = np.asarray(p.maximum), np.asarray(p.sumexp_m1)
        scale = weights / p.temperature
        share = share_of(p)
        distance = (np.asarray(p.target_logit) - m) / temperature_of(p)
        e = kernels.serving.evaluate("exp", distance)
        of_others = np.where(distance == 0, rest, 1 + (rest - e))
        without = ~counts | ((scale == 0) & ~np.isnan(share))
        at_target = -scale * (of_others * share)
        of_p, less = scale * share, None
        if label_smoothing:
            _, of_row = require_distances(p)
            less = np.where(without, 0, scale * label_smoothing / of_row)
            at_target = at_target + scale * label_smoothing * ((of_row - 1) / of_row)
        if z_loss:
            from_z = 2 * z_loss * scale * wide_lse(p) * share
            of_p, at_target = of_p + from_z, at_target + from_z * e
        at_target = np.where(without, 0, at_target)
        if mask is not None and shape.classes:
            at_target = np.where(at_ids(mask, shape, places) | np.isnan(at_target), at_target, 0)
        factor = np.where(without, 0, of_p)
    result = finished(arrays, p, factor, False, out, threads, less)
    by_row, here, ids, at_target = (
        array[np.newaxis] for array in (np.moveaxis(result, shape.class_axes, (-1,)), here, ids, at_target)
    )  # (np.nonzero does not take an array without axes)
    rows = np.nonzero(here)
    with np.errstate(all="ignore"):
        by_row[(*rows, ids[rows] - first)] = at_target[rows]
    return result


def share_of(p: Part) -> Array:
    """The probability of the largest logit; NaN for rows without probabilities."""
    with np.errstate(all="ignore"):
        share: Array = 1 / (1 + np.asarray(p.sumexp_m1)) + (p.maximum - p.maximum)
    return share


def wide_lse(p: Part) -> Array:
    """The logsumexp in float64."""
    m = np.asarray(p.maximum, np.float64)
    lse: Array = m / p.temperature + log_sum_of(p) + (m - m)
    return lse


def require_distances(p: Part) -> tuple[Array, Array]:
    """What label smoothing needs: the sum of the distances to the maximum, and the number of classes."""
    if p.distances is None or p.counts is None:
        raise ValueError("p must be made with for_smoothing=True for label_smoothing, got one without distances")
    return p.distances, np.asarray(p.counts)


def require_target(p: Part) -> RowResults:
    if p.target_logit is None:
        raise ValueError(WITHOUT_TARGET)
    return p.target_logit


def check_targets(p: Part, counts: Array) -> None:
    """Require one target for each row that counts, in one of the parts."""
    targets = np.asarray(require_target(p))
    if targets.shape != np.shape(p.maximum):
        raise ValueError(f"p must have one target per row, got targets of shape {targets.shape}")
    missing = np.isnan(targets) & ~np.isnan(np.asarray(p.sumexp_m1)) & counts
    if missing.any():
        place = "".join(f"[{i}]" for i in np.argwhere(missing)[0])
        raise ValueError(f"the target of row {place} must be in one of the parts, unless the row has sample_weight 0")


def check(p: Part, name: str) -> None:
    if not isinstance(p, Part):
        raise TypeError(f"{name} must be a Part, as sharded.part returns it, got {type(p).__name__}")


def check_whole(p: Part) -> None:
    """Require that no class is missing. (Missing last classes are noticed only if the number of classes is known.)"""
    check(p, "p")
    ends = [(0, 0), *p.ranges, *([] if p.classes is None else [(p.classes, p.classes)])]
    missing = [(end, first) for (_, end), (first, _) in itertools.pairwise(ends) if end < first]
    if missing:
        raise ValueError(
            f"p must have all classes, got one without {in_words(missing)}: merge it with the missing parts"
        )


def check_rows(p: Part, shape: Shape) -> None:
    check_whole(p)
    if np.shape(p.maximum) != shape.rows:
        raise ValueError(
            f"p must have rows of shape {shape.rows} for logits of shape {shape.whole}, got {np.shape(p.maximum)}"
        )
