"""The logistic function and two-class losses: each logit is a problem of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, SupportsIndex, cast

import numpy as np
from numpy.typing import ArrayLike

from . import kernels
from ._arrays import numbers_of, two_class_logits_and
from ._loss import scaled_weights
from ._options import BinaryOptions, binary_options, thread_count
from ._results import narrowed, scalar
from ._targets import checked_binary_targets, require_binary_labels
from ._types import Array, Out, Real, Reduction, RowResults


def sigmoid(x: ArrayLike, *, out: Out = None, workers: SupportsIndex | None = None) -> Array:
    r"""The logistic function of each number.

    .. math:: p = \frac{1}{1 + \exp(-x)}

    This is the probability of the positive class, if x is its logit. Both tails keep their digits.

    Parameters
    ----------
    x : array_like
        Numbers, of any shape. float32 and float64 are computed in their own dtype, float16 and bfloat16 in float32,
        integers and booleans in float64.
    out : ndarray, optional
        Where to put the result, with the shape and dtype of x. It may be x itself.
    workers : int, optional
        Number of threads; -1 means all CPUs.

    Returns
    -------
    ndarray or scalar
        The function of each number, in the dtype of x (float64 for integers). It is `out`, if given.

    Raises
    ------
    TypeError
        If x is complex, object, string, masked or of another floating dtype, or `out` has another dtype than the
        result.
    ValueError
        If `out` has another shape than x or is read-only, or `workers` is 0 or below minus the number of CPUs.

    See Also
    --------
    log_sigmoid : The logarithm of the logistic function.
    binary_cross_entropy : The loss for labels 0 and 1.

    Notes
    -----
    With :math:`e = \exp(-|x|)`, it is computed as :math:`1 / (1 + e)` or :math:`e / (1 + e)`. The error is below 3
    units in the last place. Results below the smallest normal number may be 0.

    Examples
    --------
    >>> from cxent import sigmoid
    >>> sigmoid([-800.0, 0.0, 2.0])
    array([0.        , 0.5       , 0.88079708])
    """
    threads = thread_count(workers)
    found: Array | None = kernels.for_plain(x).plain_sigmoid(x, out, threads, False)
    return _logistic("sigmoid", x, out, threads) if found is None else found


def log_sigmoid(x: ArrayLike, *, out: Out = None, workers: SupportsIndex | None = None) -> Array:
    r"""The logarithm of the logistic function of each number.

    .. math:: \log p = -\log(1 + \exp(-x))

    It keeps its digits where p is nearly 1, and is x where p is too small to be a number.

    Parameters
    ----------
    x : array_like
        Numbers, of any shape; dtypes as in `sigmoid`.
    out : ndarray, optional
        Where to put the result, with the shape and dtype of x. It may be x itself.
    workers : int, optional
        Number of threads; -1 means all CPUs.

    Returns
    -------
    ndarray or scalar
        The function of each number, in the dtype of x (float64 for integers). It is `out`, if given.

    Raises
    ------
    TypeError, ValueError
        As in `sigmoid`.

    Notes
    -----
    It is computed as :math:`\min(x, 0) - \mathrm{log1p}(\exp(-|x|))`. The error is below 2 units in the last place;
    results below the smallest normal number may be 0.

    Examples
    --------
    >>> from cxent import log_sigmoid
    >>> log_sigmoid([-800.0, 0.0, 40.0])
    array([-8.00000000e+02, -6.93147181e-01, -4.24835426e-18])
    """
    threads = thread_count(workers)
    found: Array | None = kernels.for_plain(x).plain_sigmoid(x, out, threads, True)
    return _logistic("log_sigmoid", x, out, threads) if found is None else found


def binary_cross_entropy(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    pos_weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex | None = None,
    label_smoothing: Real = 0.0,
    focal_gamma: Real = 0.0,
    reduction: Reduction = "mean",
    workers: SupportsIndex | None = None,
) -> RowResults:
    r"""Cross-entropy of logits with labels 0 and 1, or with probabilities of the positive class.

    Each logit x is a two-class problem of its own, as in multi-label classification. Its loss is

    .. math::

        q' &= (1 - \varepsilon) q + \varepsilon / 2 \\
        E  &= s q' w \log(1 + \exp(-x)) \\
           &\quad + s (1 - q') \log(1 + \exp(x))

    with target q, label smoothing :math:`\varepsilon`, weight w of the positive class, and sample weight s.

    Parameters
    ----------
    logits : array_like
        Logits of the positive class, of any shape: for instance the ``decision_function`` of a two-class scikit-learn
        classifier, or one logit for each of several labels. Dtypes as in `sigmoid`.
    target : array_like
        Labels 0 and 1 (integers or booleans), or probabilities of the positive class (floats, which are not checked),
        in the shape of the logits. For labels -1 and 1, pass ``target > 0``.
    pos_weight : array_like, optional
        Weight of the positive class: one number, or one for each number of the last axis.
    sample_weight : array_like, optional
        Weights of either sign, in the shape of the logits, or without its last axis: one per row. A logit or row with
        weight 0 does not count, whatever it is.
    ignore_index : int, optional
        Logits with this label do not count. Only for labels.
    label_smoothing : float, default 0
        Fraction of each target that is replaced by 1/2, from 0 to 1.
    focal_gamma : float, default 0
        Exponent of the focal loss [1]_, from 0 to 100: the loss is multiplied by :math:`(1 - p_t)^\gamma`, where
        :math:`p_t` is the probability of the label. Only for labels without smoothing.
    reduction : {"mean", "sum", "none"}, default "mean"
        How the losses are combined. The mean divides their sum by the sum of the sample weights of all logits that
        count. (PyTorch divides by the number of logits, whatever their weights.) The divisor does not depend on
        `pos_weight`.
    workers : int, optional
        Number of threads; -1 means all CPUs.

    Returns
    -------
    scalar or ndarray
        The loss, in the dtype in which it is computed; with reduction "none", one per logit.

    Raises
    ------
    TypeError
        If an array is complex, object, string or masked, or an option is not a number.
    ValueError
        If shapes do not match, a label is neither 0, 1 nor `ignore_index`, an option is out of range, weights are not
        finite, or `focal_gamma` or `ignore_index` is given with probabilities, or `focal_gamma` with smoothing.

    See Also
    --------
    binary_cross_entropy_with_grad : The loss and its gradient.
    cross_entropy : The loss for one class out of several.

    Notes
    -----
    :math:`\log(1 + \exp(x))` is computed as :math:`\max(x, 0) + \mathrm{log1p}(\exp(-|x|))`, so a small loss keeps its
    digits. Without a focal factor, the loss of a label, its gradient and its Hessian are within 4 units in the last
    place. A power multiplies the error of its base: with a focal factor, the loss and its gradient are within
    :math:`8 + 2.5 \gamma` units.

    References
    ----------
    .. [1] T.-Y. Lin et al., "Focal loss for dense object detection", arXiv:1708.02002, 2017.

    Examples
    --------
    >>> from cxent import binary_cross_entropy
    >>> scores = [2.0, -1.0, 40.0]
    >>> binary_cross_entropy(scores, [1, 0, 1], reduction="none")
    array([1.26928011e-01, 3.13261688e-01, 4.24835426e-18])
    >>> print(binary_cross_entropy(scores, [1, 0, 0], pos_weight=2.0).round(6))
    13.522373
    """
    options = binary_options(reduction, ignore_index, workers, label_smoothing, focal_gamma)
    return _of_labels(logits, target, pos_weight, sample_weight, options, 0)[0]


def binary_cross_entropy_with_grad(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    pos_weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex | None = None,
    label_smoothing: Real = 0.0,
    focal_gamma: Real = 0.0,
    reduction: Reduction = "mean",
    out: Out = None,
    workers: SupportsIndex | None = None,
) -> tuple[RowResults, Array]:
    r"""Cross-entropy of logits with labels 0 and 1, and its gradient with respect to the logits.

    .. math:: \partial E / \partial x = \frac{s}{D} ((1 - q') p - q' w (1 - p))

    with p the `sigmoid` of x, and without a focal factor. D is the divisor of the mean, or 1 with reduction "sum" or
    "none"; `binary_cross_entropy` explains the other symbols.

    Parameters
    ----------
    logits : array_like
        Logits of the positive class, of any shape.
    target : array_like
        Labels 0 and 1, or probabilities of the positive class, in the shape of the logits.
    pos_weight : array_like, optional
        Weight of the positive class.
    sample_weight : array_like, optional
        Weight of each logit, or of each row.
    ignore_index : int, optional
        Logits with this label do not count.
    label_smoothing : float, default 0
        Fraction of each target that is replaced by 1/2, from 0 to 1.
    focal_gamma : float, default 0
        Exponent of the focal loss.
    reduction : {"mean", "sum", "none"}, default "mean"
        How the losses are combined. With "none", the gradient is that of their sum.
    out : ndarray, optional
        Where to put the gradient, with the shape and dtype of the logits. It may be the logits themselves.
    workers : int, optional
        Number of threads; -1 means all CPUs.

    Returns
    -------
    loss : scalar or ndarray
        The loss, as returned by `binary_cross_entropy`.
    grad : ndarray
        The gradient, in the shape of the logits. It is `out`, if given.

    Raises
    ------
    TypeError, ValueError
        As in `binary_cross_entropy`, and if `out` has another shape or dtype than the logits, or is read-only.

    Examples
    --------
    >>> from cxent import binary_cross_entropy_with_grad
    >>> loss, grad = binary_cross_entropy_with_grad([2.0, -1.0], [1, 0])
    >>> print(loss.round(6), grad.round(6))
    0.220095 [-0.059601  0.134471]
    """
    options = binary_options(reduction, ignore_index, workers, label_smoothing, focal_gamma)
    loss, (grad, _) = _of_labels(logits, target, pos_weight, sample_weight, options, 1, out)
    return loss, grad


def binary_cross_entropy_with_hess(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    pos_weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex | None = None,
    label_smoothing: Real = 0.0,
    focal_gamma: Real = 0.0,
    reduction: Reduction = "mean",
    out: Out = None,
    workers: SupportsIndex | None = None,
) -> tuple[RowResults, Array, Array]:
    r"""Cross-entropy of logits with labels 0 and 1, its gradient, and its second derivative.

    .. math:: \partial^2 E / \partial x^2 = \frac{s}{D} (1 - q' + q' w) \, p (1 - p)

    without a focal factor. The Hessian is diagonal, so this is all of it. With a focal factor, the second derivative
    can be negative where a label is badly wrong.

    Parameters
    ----------
    logits : array_like
        Logits of the positive class, of any shape.
    target : array_like
        Labels 0 and 1, or probabilities of the positive class, in the shape of the logits.
    pos_weight : array_like, optional
        Weight of the positive class.
    sample_weight : array_like, optional
        Weight of each logit, or of each row.
    ignore_index : int, optional
        Logits with this label do not count.
    label_smoothing : float, default 0
        Fraction of each target that is replaced by 1/2, from 0 to 1.
    focal_gamma : float, default 0
        Exponent of the focal loss.
    reduction : {"mean", "sum", "none"}, default "mean"
        How the losses are combined. With "none", the derivatives are those of their sum.
    out : ndarray, optional
        Where to put the gradient, with the shape and dtype of the logits. It may be the logits themselves.
    workers : int, optional
        Number of threads; -1 means all CPUs.

    Returns
    -------
    loss : scalar or ndarray
        The loss, as returned by `binary_cross_entropy`.
    grad : ndarray
        The gradient, in the shape of the logits. It is `out`, if given.
    hess : ndarray
        The second derivative for each logit.

    Raises
    ------
    TypeError, ValueError
        As in `binary_cross_entropy_with_grad`.

    Examples
    --------
    >>> from cxent import binary_cross_entropy_with_hess
    >>> loss, grad, hess = binary_cross_entropy_with_hess([2.0, -1.0], [1, 0], reduction="sum")
    >>> hess.round(6)
    array([0.104994, 0.196612])
    """
    options = binary_options(reduction, ignore_index, workers, label_smoothing, focal_gamma)
    loss, (grad, hess) = _of_labels(logits, target, pos_weight, sample_weight, options, 2, out)
    return loss, grad, hess


def _logistic(function: str, x: ArrayLike, out: Out, threads: int) -> Array:
    """`sigmoid` or `log_sigmoid` of any array."""
    given, dtype = numbers_of(x, out)
    numbers = np.ascontiguousarray(given)
    result = _memory(out, numbers, given)
    if numbers.size:
        kernel = getattr(kernels.serving.of(dtype), function)
        kernel(kernels.stored(numbers), kernels.stored(result), threads)
    results: Array = _given_back(result, out, given.shape)
    return results


def _of_labels(
    logits: ArrayLike,
    target: ArrayLike,
    pos_weight: ArrayLike | None,
    sample_weight: ArrayLike | None,
    options: BinaryOptions,
    derivatives: int,
    out: Out = None,
) -> tuple[RowResults, tuple[Any, Any]]:
    """The loss, and as many of its derivatives as requested."""
    if pos_weight is None and sample_weight is None:
        found = kernels.for_plain(logits).plain_binary_cross_entropy(
            logits, target, options, out, derivatives > 0, derivatives > 1
        )
        if found is not None:
            return found[0], found[1:]
    arrays = two_class_logits_and(logits, target, pos_weight, sample_weight, out)
    labels, by_column, weights = checked_binary_targets(arrays, options, checks_labels=out is not None)
    given, dtype = arrays.x, arrays.dtype
    columns = given.shape[-1] if given.ndim else 1
    x = np.ascontiguousarray(given).reshape(given.size // max(columns, 1), columns)
    labels = np.ascontiguousarray(labels).reshape(x.shape)
    weights = None if weights is None else np.broadcast_to(weights, given.shape).reshape(x.shape)
    losses = np.empty(x.shape, dtype) if options.reduction == "none" else None
    grad = _memory(out, x, given, (labels, weights, by_column)).reshape(x.shape) if derivatives else None
    hess = np.empty_like(x) if derivatives > 1 else None
    is_soft = labels.dtype.kind == "f"
    weights, divisor = _weights_of_mean(x, None if is_soft else labels, weights, options, dtype)
    total: Any = 0.0
    if x.size:
        total = kernels.serving.of(dtype).binary_cross_entropy(
            kernels.stored(x),
            labels if is_soft else kernels.stored(labels),
            by_column,
            weights,
            (options.ignore_index, options.label_smoothing, options.focal_gamma, divisor),
            losses,
            None if grad is None else kernels.stored(grad),
            None if hess is None else kernels.stored(hess),
            options.threads,
        )
    if total is None:
        require_binary_labels(cast(Array, arrays.target), options.ignore_index)
        raise ValueError("target must not change while the loss is computed")
    loss: Any = scalar(total if divisor else math.nan, dtype)
    if losses is not None:
        loss = losses.reshape(given.shape)[()]
    results = (
        None if grad is None else _given_back(grad, out, given.shape),
        None if hess is None else hess.reshape(given.shape)[()],
    )
    return loss, results


def _memory(out: Out, x: Array, given: Array, others: Sequence[Array | None] = ()) -> Array:
    """Memory for a result like x: `out` if a kernel can write there while it reads x (`given` itself or a copy) and
    `others`."""
    if out is None or not (out.flags.c_contiguous and out.flags.aligned and out.dtype == x.dtype):
        return np.empty_like(x)
    is_safe = (out is given or not np.may_share_memory(out, x)) and not any(
        a is not None and np.may_share_memory(out, a) for a in others
    )
    return np.asarray(out) if is_safe else np.empty_like(x)


def _given_back(result: Array, out: Out, shape: tuple[int, ...]) -> Any:
    """The result for the caller: `out`, if given, and a scalar instead of an array without axes."""
    result = result.reshape(shape)
    if out is None:
        return result[()]
    if not np.may_share_memory(result, out):
        out[...] = narrowed(result, out.dtype)
    return out


def _weights_of_mean(
    x: Array, labels: Array | None, weights: Array | None, options: BinaryOptions, dtype: np.dtype[Any]
) -> tuple[Array | None, float]:
    """The weights, and the divisor of the sum of the losses."""
    if options.reduction != "mean":
        return weights, 1.0
    if (weights is None and options.ignore_index is None) or x.size == 0:
        return weights, float(x.size)
    of_labels = None if labels is None else kernels.stored(labels)
    divisor, _, exponent, _ = kernels.serving.of(dtype).sums_of_weights(of_labels, weights, None, options.ignore_index)
    return scaled_weights(weights, exponent), divisor
