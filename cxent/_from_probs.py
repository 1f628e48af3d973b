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
    r"""Cross-entropy of predicted probabilities with class indices or class probabilities.

    .. math:: E = -s \sum_j w_j q_j \log p_j

    with target q (one-hot for a class index), class weights w, and the row's sample weight s. For a class index y and
    without weights this is :math:`-\log p_y`.

    Parameters
    ----------
    probs : array_like
        Predictions p, already normalised. If you have logits, `cross_entropy` is faster and more accurate.
    target : array_like
        Class indices, class probabilities or one-hot rows; `cross_entropy` says how they are told apart.
    axis : int, default -1
        Class axis.
    weight : array_like of shape (C,), optional
        Weight of each class.
    sample_weight : array_like, optional
        Weight of each row. A row with weight 0 does not count.
    ignore_index : int, optional
        Rows with this class index do not count.
    reduction : {"mean", "sum", "none"}, default "mean"
        How the losses of the rows are combined.
    workers : int, optional
        Number of threads; -1 means all CPUs.

    Returns
    -------
    scalar or ndarray
        The loss, as returned by `cross_entropy`.

    Raises
    ------
    TypeError, ValueError, IndexError, numpy.exceptions.AxisError
        As in `cross_entropy`.

    Notes
    -----
    Predictions are neither clipped nor normalised: if the target has probability 0, the loss is inf. (scikit-learn's
    ``log_loss`` clips it.) Terms with q exactly 0 count as 0, whatever p is.

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
    r"""Cross-entropy of predicted probabilities, and its gradient with respect to them.

    .. math:: \partial E / \partial p_j = -\frac{s}{D} w_j q_j / p_j

    and 0 where :math:`q_j` is 0; `cross_entropy` explains the symbols. Without weights and with reduction "mean",
    :math:`s / D` is one over the number of rows.

    Parameters
    ----------
    probs : array_like
        Predictions p, already normalised.
    target : array_like
        Class indices, class probabilities or one-hot rows; `cross_entropy` says how they are told apart.
    axis : int, default -1
        Class axis.
    weight : array_like of shape (C,), optional
        Weight of each class.
    sample_weight : array_like, optional
        Weight of each row. A row with weight 0 does not count.
    ignore_index : int, optional
        Rows with this class index do not count.
    reduction : {"mean", "sum", "none"}, default "mean"
        How the losses of the rows are combined. With "none", the gradient is that of their sum.
    out : ndarray, optional
        Where to put the gradient, with the shape and dtype of the predictions. It may be the predictions themselves.
    workers : int, optional
        Number of threads; -1 means all CPUs.

    Returns
    -------
    loss : scalar or ndarray
        The loss, as returned by `cross_entropy`.
    grad : ndarray
        The gradient, in the shape of the predictions. It is `out`, if given. `softmax_backward` turns it into the
        gradient with respect to logits.

    Raises
    ------
    TypeError, ValueError, IndexError, numpy.exceptions.AxisError
        As in `cross_entropy_with_grad`.

    Examples
    --------
    >>> from cxent import cross_entropy_from_probs_with_grad
    >>> probs = [[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]]
    >>> loss, grad = cross_entropy_from_probs_with_grad(probs, [0, 1])
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
    """The loss of predicted probabilities, and its gradient, if requested."""
    found: tuple[RowResults, Any, None, None] | None = kernels.for_plain(probs).plain_from_probs(
        probs, target, weight, sample_weight, options, out, options.threads, with_grad
    )
    if found is not None:
        return found[:2]
    arrays = logits_and(
        "probs", probs, options.axis, target=target, weight=weight, sample_weight=sample_weight, out=out, widened=True
    )
    if arrays.are_converted and arrays.dtype == arrays.result_dtype:
        found = kernels.for_plain(arrays.x).plain_from_probs(
            arrays.x, arrays.target, arrays.class_weights, arrays.row_weights, options, out, options.threads, with_grad
        )
        if found is not None:
            return found[:2]
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
