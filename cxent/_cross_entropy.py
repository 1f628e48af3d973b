"""Cross-entropy losses and their gradients, from logits and from probabilities."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _dispatch, _workers
from ._arrays import Array, exceeds_cache, floating_array, layout_of, single_axis, target_view

Reduction = Literal["mean", "sum", "none"]

_ALWAYS_FITS = 1e38


def cross_entropy(
    logits: ArrayLike, target: ArrayLike, *, axis: int = -1, reduction: Reduction = "mean", workers: int = 1
) -> Any:
    """Cross-entropy of logits with class indices or class probabilities.

    ``loss = lse(x) - x_y`` for a class index y, and ``loss = Q * lse(x) - sum_j q_j x_j`` for class probabilities q,
    with ``Q = sum_j q_j``; lse is the `logsumexp`.

    Parameters
    ----------
    logits : array_like
        Logits x, of any shape with at least one class. float32 and float64 are computed as such, integers and
        booleans in float64.
    target : array_like
        Told apart by its shape. That of the logits without the class axis: class indices, of any integer dtype, each
        from 0 to C-1. That of the logits: class probabilities or one-hot rows, of any real dtype, which need not sum
        to 1. Indices of another dtype than int64, and probabilities of another than the logits', are copied to it.
    axis : int, default -1
        The class axis. Any axis of an array in C or F order is reached without a copy; where strides cannot be
        described as (outer, classes, inner), the logits are copied once.
    reduction : {"mean", "sum", "none"}, default "mean"
        How the losses of the rows are combined. The mean divides by the number of rows; over zero rows it is NaN.
    workers : int, default 1
        How many threads may share the rows, if there are many numbers; -1 stands for all CPUs that this process may
        use. The results have the same bits for any number.

    Returns
    -------
    scalar or ndarray
        The loss in the dtype of the logits; with reduction "none" one per row, in the shape of the logits without the
        class axis.

    Raises
    ------
    TypeError
        If an array is complex, object, string or masked, the logits have another floating type than float32 and
        float64, or class indices are not integers.
    ValueError
        If the shapes do not match, there are no classes, the reduction is unknown, or `workers` is 0 or below -CPUs.
    IndexError
        If a class index is not in 0..C-1; it names the first. Negative indices do not wrap.
    numpy.exceptions.AxisError
        If `axis` is out of range.

    See Also
    --------
    cross_entropy_with_grad : the loss and its gradient.
    cross_entropy_from_probs : for predictions that are probabilities already.

    Notes
    -----
    With m the largest logit, the loss is ``(m - x_y) + log1p(r)``, where r sums the exponentials of all the other
    ``x_j - m`` [1]_. A small loss therefore keeps all its digits. A probability that is exactly 0
    takes no part, so a logit of -inf costs nothing there. Sums over classes and rows are accumulated in float64.

    References
    ----------
    .. [1] P. Blanchard, D. J. Higham and N. J. Higham, "Accurately computing the log-sum-exp and softmax functions",
       IMA Journal of Numerical Analysis 41(4), 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from cxent import cross_entropy
    >>> logits = np.array([[2.0, 1.0, 0.0], [0.0, 0.0, 4.0]])
    >>> cross_entropy(logits, [0, 2], reduction="none")
    array([0.40760596, 0.0359763 ])
    >>> print(cross_entropy(logits, np.eye(3)[[0, 2]]).round(8))
    0.22179113

    A confident and right prediction has a small loss, not none:

    >>> print(f"{cross_entropy(np.float32([17, 0, 0]), 0):.4e}")
    8.2799e-08
    """
    loss, _ = _evaluate("logits", logits, target, axis, reduction, with_grad=False, workers=workers)
    return loss


def cross_entropy_with_grad(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    axis: int = -1,
    reduction: Reduction = "mean",
    out: NDArray[Any] | None = None,
    workers: int = 1,
) -> tuple[Any, NDArray[Any]]:
    """Cross-entropy and its gradient with respect to the logits, in one pass.

    ``dloss/dx_j = Q * p_j - q_j``, with p the softmax of the logits, q the target row (for a class index: one-hot)
    and ``Q = sum_j q_j``. With reduction "mean" this is divided by the number of rows.

    Parameters
    ----------
    logits, target, axis, reduction, workers
        As in `cross_entropy`.
    out : ndarray, optional
        Where to put the gradient, with the shape and dtype of the logits. It may be the logits themselves: then
        nothing of their size is allocated.

    Returns
    -------
    loss : scalar or ndarray
        As `cross_entropy` returns it.
    grad : ndarray
        The gradient in the shape of the logits: `out`, if given.

    Raises
    ------
    TypeError, ValueError, IndexError, numpy.exceptions.AxisError
        As in `cross_entropy`, and if `out` has another shape or dtype or is read-only. Nothing is written then.

    Notes
    -----
    At the class where p is near 1 the gradient is computed from the sum of all the other probabilities, so that it
    keeps its digits where ``p - 1`` would be 0. ``Q * p - q`` is the gradient for any target row; the
    well-known ``p - q`` equals it only if the row sums to 1.

    Examples
    --------
    >>> import numpy as np
    >>> from cxent import cross_entropy_with_grad
    >>> logits = np.array([[2.0, 1.0, 0.0], [0.0, 0.0, 4.0]])
    >>> loss, grad = cross_entropy_with_grad(logits, [0, 2])
    >>> print(loss.round(8))
    0.22179113
    >>> grad
    array([[-0.16737952,  0.12236424,  0.04501529],
           [ 0.00883421,  0.00883421, -0.01766842]])
    """
    return _evaluate("logits", logits, target, axis, reduction, with_grad=True, out=out, workers=workers)


def cross_entropy_from_probs(
    probs: ArrayLike, target: ArrayLike, *, axis: int = -1, reduction: Reduction = "mean"
) -> Any:
    """Cross-entropy of predicted probabilities with class indices or class probabilities.

    ``loss = -log(p_y)`` for a class index y, and ``loss = -sum_j q_j log(p_j)`` for class probabilities q.

    Parameters
    ----------
    probs : array_like
        Predictions p, already normalised. Where there are logits, `cross_entropy` is faster and more accurate.
    target, axis, reduction
        As in `cross_entropy`.

    Returns
    -------
    scalar or ndarray
        The loss, as from `cross_entropy`.

    Raises
    ------
    TypeError, ValueError, IndexError, numpy.exceptions.AxisError
        As in `cross_entropy`.

    Notes
    -----
    The predictions are taken as they are, neither clipped nor normalised: a target's probability of 0 gives the loss
    inf. Terms whose q is exactly 0 count as 0, whatever p is there.

    Examples
    --------
    >>> from cxent import cross_entropy_from_probs
    >>> probs = [[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]]
    >>> cross_entropy_from_probs(probs, [0, 1], reduction="none")
    array([0.69314718, 0.22314355])
    """
    loss, _ = _evaluate("probs", probs, target, axis, reduction, with_grad=False)
    return loss


def cross_entropy_from_probs_with_grad(
    probs: ArrayLike,
    target: ArrayLike,
    *,
    axis: int = -1,
    reduction: Reduction = "mean",
    out: NDArray[Any] | None = None,
) -> tuple[Any, NDArray[Any]]:
    """Cross-entropy of predicted probabilities, and its gradient with respect to them.

    ``dloss/dp_j = -q_j / p_j``, and 0 where q_j is 0. With reduction "mean" this is divided by the number of rows.

    Parameters
    ----------
    probs, target, axis, reduction
        As in `cross_entropy_from_probs`.
    out : ndarray, optional
        Where to put the gradient, with the shape and dtype of the predictions; it may be these themselves.

    Returns
    -------
    loss : scalar or ndarray
        As `cross_entropy_from_probs` returns it.
    grad : ndarray
        The gradient in the shape of the predictions: `out`, if given. `softmax_backward` takes it on to the logits.

    Raises
    ------
    TypeError, ValueError, IndexError, numpy.exceptions.AxisError
        As in `cross_entropy_with_grad`.

    Examples
    --------
    >>> from cxent import cross_entropy_from_probs_with_grad
    >>> loss, grad = cross_entropy_from_probs_with_grad([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]], [0, 1])
    >>> print(loss.round(8))
    0.45814537
    >>> grad
    array([[-1.   ,  0.   ,  0.   ],
           [ 0.   , -0.625,  0.   ]])
    """
    return _evaluate("probs", probs, target, axis, reduction, with_grad=True, out=out)


def _evaluate(
    name: Literal["logits", "probs"],
    value: ArrayLike,
    target: ArrayLike,
    axis: int,
    reduction: Reduction,
    *,
    with_grad: bool,
    out: Array | None = None,
    workers: int = 1,
) -> tuple[Any, Any]:
    """The loss, and the gradient if it is wanted: check, make views, run the kernel, reduce."""
    if not isinstance(reduction, str) or reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction is {reduction!r}; accepted are 'mean', 'sum' and 'none'")
    threads = _workers.thread_count(workers)
    if name == "logits" and reduction != "none":
        small = _dispatch.kernels.small_cross_entropy(value, target, axis, out, reduction == "mean", with_grad)
        if small is not None:
            return _scalar(small[0], value.dtype), small[1]  # type: ignore[union-attr]  # it is an array
    x = floating_array(value, name)
    layout = layout_of(x, single_axis(axis), name)
    view = target_view(target, layout, name, x.dtype)
    grad = layout.output(out, x.dtype, in_place=[x], read_later=[view]) if with_grad else None
    losses = layout.empty_row_results(x.dtype) if reduction == "none" else None
    divisor = layout.row_count if reduction == "mean" else 1

    kernels = _dispatch.kernels
    kernel: Callable[..., float]
    arguments: list[Any] = [view, divisor, losses, grad]
    if name == "logits":
        kernel = kernels.cross_entropy_index if view.ndim == 2 else kernels.cross_entropy_dense
        arguments.append(grad is not None and exceeds_cache(grad))
    else:
        kernel = kernels.from_probs_index if view.ndim == 2 else kernels.from_probs_dense
    total = _workers.run(threads, kernel, layout.view(x), *arguments)

    if losses is not None:
        loss = layout.row_results(losses)
    else:
        loss = _scalar(total if divisor else math.nan, x.dtype)
    return loss, None if grad is None else layout.result(grad, out)


def _scalar(total: float, dtype: np.dtype[Any]) -> Any:
    """The total in the logits' dtype: inf, without a warning, if it is too large for that."""
    if abs(total) < _ALWAYS_FITS:  # the context below would be an eighth of a small call
        return dtype.type(total)
    with np.errstate(over="ignore"):
        return dtype.type(total)
