"""Cross-entropy losses of predicted probabilities, and their gradients."""

from __future__ import annotations

from typing import Any, SupportsIndex

from numpy.typing import ArrayLike

from . import kernels
from ._arrays import logits_and
from ._layout import lay_out
from ._loss import weighted
from ._options import LossOptions, loss_options
from ._results import loss_of
from ._targets import checked_targets
from ._types import Array, Out, Reduction, RowResults


def cross_entropy_from_probs(
    probs: ArrayLike,
    target: ArrayLike,
    *,
    axis: SupportsIndex = -1,
    weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex | None = None,
    reduction: Reduction = "mean",
    workers: SupportsIndex | None = None,
) -> RowResults:
    """Cross-entropy of predicted probabilities with class indices or class probabilities.

    ``loss = -log(p_y)`` for a class index y, and ``loss = -sum_j q_j log(p_j)`` for class probabilities q. The weights,
    which `cross_entropy` explains, make of this::

        loss = -s * sum_j weight_j * q_j * log(p_j),   q one-hot for a class index, s the row's sample_weight

    Parameters
    ----------
    probs : array_like
        Predictions p, already normalised. Where there are logits, `cross_entropy` is faster and more accurate.
    target : array_like
        As in `cross_entropy`.
    axis : int, default -1
        The class axis.
    weight : array_like of shape (C,), optional
        A weight for each class.
    sample_weight : array_like, optional
        A weight for each row; a row of weight 0 does not count.
    ignore_index : int, optional
        Rows with this class index do not count.
    reduction : {"mean", "sum", "none"}, default "mean"
        How the losses of the rows are combined.
    workers : int, optional
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
    inf, where scikit-learn's ``log_loss`` clips it. Terms whose q is exactly 0 count as 0, whatever p is there.

    Examples
    --------
    >>> from cxent import cross_entropy_from_probs
    >>> probs = [[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]]
    >>> cross_entropy_from_probs(probs, [0, 1], reduction="none")
    array([0.69314718, 0.22314355])
    >>> print(cross_entropy_from_probs(probs, [0, 1], sample_weight=[1, 3]).round(8))
    0.34064446
    """
    options = loss_options(axis, reduction, ignore_index, workers)
    loss, _ = _of_probs(probs, target, weight, sample_weight, options)
    return loss


def cross_entropy_from_probs_with_grad(
    probs: ArrayLike,
    target: ArrayLike,
    *,
    axis: SupportsIndex = -1,
    weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex | None = None,
    reduction: Reduction = "mean",
    out: Out = None,
    workers: SupportsIndex | None = None,
) -> tuple[RowResults, Array]:
    """Cross-entropy of predicted probabilities, and its gradient with respect to them.

    ``dloss/dp_j = -s / D * weight_j * q_j / p_j``, and 0 where q_j is 0. `cross_entropy` explains s and D; without
    weights and with reduction "mean", ``s / D`` is one over the number of rows.

    Parameters
    ----------
    probs, target : array_like
        As in `cross_entropy_from_probs`.
    axis : int, default -1
        The class axis.
    weight : array_like of shape (C,), optional
        A weight for each class.
    sample_weight : array_like, optional
        A weight for each row; a row of weight 0 does not count.
    ignore_index : int, optional
        Rows with this class index do not count.
    reduction : {"mean", "sum", "none"}, default "mean"
        How the losses of the rows are combined. With "none" the gradient is that of their sum.
    out : ndarray, optional
        Where to put the gradient, with the shape and dtype of the predictions; it may be these themselves.
    workers : int, optional
        As in `cross_entropy`.

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
    options = loss_options(axis, reduction, ignore_index, workers)
    return _of_probs(probs, target, weight, sample_weight, options, with_grad=True, out=out)


def _of_probs(
    probs: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None,
    sample_weight: ArrayLike | None,
    options: LossOptions,
    *,
    with_grad: bool = False,
    out: Out = None,
) -> tuple[RowResults, Any]:
    """The loss of predicted probabilities, and the gradient if it is wanted."""
    found: tuple[RowResults, Any, None, None] | None = kernels.for_plain(probs).plain_from_probs(
        probs, target, weight, sample_weight, options, out, options.threads, with_grad
    )
    if found is not None:
        return found[:2]
    arrays = logits_and(
        "probs", probs, options.axis, target=target, weight=weight, sample_weight=sample_weight, out=out, widened=True
    )
    shape, dtype = arrays.shape, arrays.dtype
    labels, probabilities, by_class, by_row, _ = checked_targets(arrays, options.ignore_index)
    laid = lay_out(
        shape, [arrays.x, probabilities], [labels, by_row],
        rows=[dtype if options.reduction == "none" else None],
        outputs=[with_grad], result_dtype=arrays.result_dtype, dtype=dtype, out=out, read_later=[by_class],
    )  # fmt: skip
    p, probabilities = laid.inputs
    labels, by_row = laid.row_inputs
    by_class, by_row, given = weighted(options, shape, dtype, labels, by_class, by_row)
    total = 0.0
    if shape.row_count:
        target = probabilities if labels is None else labels
        kernel = kernels.serving.of(dtype).from_probs
        total = kernel(p, target, by_class, by_row, given, *laid.rows, *laid.outputs, options.threads)
    (loss,), (grad,) = loss_of(laid, total, given.divisor, dtype)
    return loss, grad
