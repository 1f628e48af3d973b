"""Cross-entropy losses of predicted probabilities, and their gradients."""

from __future__ import annotations

from typing import SupportsIndex, Unpack, overload

from numpy.typing import ArrayLike

from . import kernels
from ._layout import widened
from ._losses import checked_loss
from ._types import Array, Combined, Out, PerRow, Reduction, RowResults, Scalar, WeightOptions
from ._validation import LossOptions, floating_array, loss_options, thread_count


@overload
def cross_entropy_from_probs(
    probs: ArrayLike, target: ArrayLike, *, reduction: Combined = "mean", **options: Unpack[WeightOptions]
) -> Scalar: ...
@overload
def cross_entropy_from_probs(
    probs: ArrayLike, target: ArrayLike, *, reduction: PerRow, **options: Unpack[WeightOptions]
) -> RowResults: ...
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
        As in `cross_entropy`.
    weight, sample_weight, ignore_index, reduction : optional
        As in `cross_entropy`.
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
    options = loss_options(axis, reduction, ignore_index)
    loss, _ = _of_probs(probs, target, weight, sample_weight, options, thread_count(workers))
    return loss


@overload
def cross_entropy_from_probs_with_grad(
    probs: ArrayLike,
    target: ArrayLike,
    *,
    reduction: Combined = "mean",
    out: Out = None,
    **options: Unpack[WeightOptions],
) -> tuple[Scalar, Array]: ...
@overload
def cross_entropy_from_probs_with_grad(
    probs: ArrayLike, target: ArrayLike, *, reduction: PerRow, out: Out = None, **options: Unpack[WeightOptions]
) -> tuple[RowResults, Array]: ...
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
) -> tuple[RowResults, Array | None]:
    """Cross-entropy of predicted probabilities, and its gradient with respect to them.

    ``dloss/dp_j = -s / D * weight_j * q_j / p_j``, and 0 where q_j is 0. `cross_entropy` explains s and D; without
    weights and with reduction "mean", ``s / D`` is one over the number of rows.

    Parameters
    ----------
    probs, target : array_like
        As in `cross_entropy_from_probs`.
    axis : int, default -1
        As in `cross_entropy`.
    weight, sample_weight, ignore_index, reduction : optional
        As in `cross_entropy`.
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
    options = loss_options(axis, reduction, ignore_index)
    return _of_probs(probs, target, weight, sample_weight, options, thread_count(workers), with_grad=True, out=out)


def _of_probs(
    probs: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None,
    sample_weight: ArrayLike | None,
    options: LossOptions,
    threads: int,
    *,
    with_grad: bool = False,
    out: Out = None,
) -> tuple[RowResults, Array | None]:
    """The loss of predicted probabilities, and the gradient if it is wanted."""
    for module in kernels.serving[1:]:
        results: tuple[RowResults, Array | None, None, None] | None = module.plain_from_probs(
            probs, target, weight, sample_weight, options, out, threads, with_grad
        )
        if results is not None:
            return results[:2]
    given = floating_array(probs, "probs")
    p = widened(given)
    loss = checked_loss(p, "probs", target, weight, sample_weight, options)
    layout = loss.layout
    grad = None
    if with_grad:
        grad = layout.output(out, given.dtype, in_place=[given], read_later=loss.arrays(), computed=p.dtype)
    total = 0.0
    if layout.row_count > 0:
        total = kernels.serving.of(p.dtype).from_probs(
            layout.view(p),
            loss.target,
            loss.class_weights,
            loss.row_weights,
            loss.options,
            loss.row_losses,
            grad,
            threads,
        )
    return loss.reduced(total), None if grad is None else layout.result(grad, out, given.dtype)
