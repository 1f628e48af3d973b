"""Cross-entropy losses of logits, and their derivatives."""

from __future__ import annotations

from typing import Any, SupportsIndex, TypeAlias, cast

import numpy as np
from numpy.typing import ArrayLike

from . import kernels
from ._arrays import logits_and
from ._layout import Laid, lay_out
from ._loss import weighted
from ._options import LossOptions, loss_options
from ._results import loss_of, result_of
from ._targets import checked_targets
from ._types import (
    Array,
    Out,
    Real,
    Reduction,
    RowResults,
)

_Results: TypeAlias = tuple[RowResults, Any, Any, RowResults]  # loss, grad, hess, lse


def cross_entropy(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    axis: SupportsIndex = -1,
    weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex | None = None,
    label_smoothing: Real = 0.0,
    z_loss: Real = 0.0,
    softcap: Real | None = None,
    temperature: Real = 1.0,
    reduction: Reduction = "mean",
    return_lse: bool = False,
    workers: SupportsIndex | None = None,
) -> Any:
    """Cross-entropy of logits with class indices or class probabilities.

    ``loss = lse(x) - x_y`` for a class index y, and ``loss = Q * lse(x) - sum_j q_j x_j`` for class probabilities q,
    with ``Q = sum_j q_j``; lse is the `logsumexp`. The options make of this::

        x_j  = u_j / temperature
               or, with a cap, softcap * tanh(u_j / (temperature * softcap))
        q'_j = weight_j * ((1 - label_smoothing) * q_j + label_smoothing / C)
        loss = s * (sum_j q'_j * lse(x) - sum_j q'_j x_j)
               + s * z_loss * lse(x)^2

    with u the logits, q one-hot for a class index, and s the row's sample_weight.

    Parameters
    ----------
    logits : array_like
        Logits, of any shape with at least one class. float32 and float64 are computed as such, float16 and bfloat16
        (of ml_dtypes) in float32, integers and booleans in float64.
    target : array_like
        Told apart by its shape. That of the logits without the class axis: class indices, of any integer dtype, each
        from 0 to C-1. That of the logits and a floating dtype: class probabilities, which need not sum to 1, and are
        not checked. That of the logits and an integer or boolean dtype: one-hot rows, one 1 in each and 0 elsewhere.
        Rows of another dtype than that in which the logits are computed are copied to it.
    axis : int, default -1
        The class axis. PyTorch's is 1: its logits of shape (N, C, d) with labels of shape (N, d) want ``axis=1``. If C
        equals d, the shapes match without it, and the mistake goes unnoticed. Any axis of an array in C
        or F order is reached without a copy; where strides cannot be described as (outer, classes, inner), the logits
        are copied once.
    weight : array_like of shape (C,), optional
        A weight for each class, of either sign; converted to the dtype in which the logits are computed.
    sample_weight : array_like, optional
        A weight for each row, of either sign, of a shape that broadcasts to that of the logits without the class axis;
        converted like `weight`. A row of weight 0 does not count, whatever its logits are.
    ignore_index : int, optional
        Rows with this class index do not count: their loss and their gradient are 0. It may be any integer, and is
        for class indices alone.
    label_smoothing : float, default 0
        From 0 to 1: how much of each target is spread evenly over all classes.
    z_loss : float, default 0
        The factor of the squared logsumexp, which keeps logits from drifting [2]_.
    softcap : float, optional
        The bound that logits approach smoothly [3]_, from 1e-30 to 1e30. An infinite logit then is a finite one: -inf
        becomes -softcap.
    temperature : float, default 1
        What logits are divided by, from 1e-30 to 1e30.
    reduction : {"mean", "sum", "none"}, default "mean"
        How the losses of the rows are combined. The mean divides their sum by D, and that of the z terms by Dz. For
        class indices D is the sum of ``s * weight_y``, and for probabilities that of s, as in PyTorch; Dz is the sum
        of s; all over the rows that count. Where D is 0, as over no rows, the mean is NaN.
    return_lse : bool, default False
        Whether to return the logsumexp of each row too, of x as above, also of rows that do not count.
    workers : int, optional
        How many threads may share the rows, if there are many numbers; -1 stands for all CPUs that this process may
        use. By default `get_workers` of them, which is 1 unless it was set. The results have the same bits for any
        number.

    Returns
    -------
    loss : scalar or ndarray
        The loss in the dtype in which the logits are computed; with reduction "none" one per row, in the shape of the
        logits without the class axis.
    lse : scalar or ndarray
        The logsumexp of each row, if `return_lse`.

    Raises
    ------
    TypeError
        If an array is complex, object, string or masked, the logits have another floating type than those above, class
        indices are not integers, or an option is not a number; booleans are rejected.
    ValueError
        If shapes do not match, integers in the shape of the logits are not one-hot, there are rows without classes, an
        option is out of its range, weights are not finite, probabilities meet an `ignore_index`, the reduction is
        unknown, or `workers` is 0 or below -CPUs.
    IndexError
        If a class index is not in 0..C-1, nor `ignore_index`; it names the first. Negative indices do not wrap.
    numpy.exceptions.AxisError
        If `axis` is out of range.

    See Also
    --------
    cross_entropy_with_grad : The loss and its gradient.
    cross_entropy_with_hess : These and the diagonal of the Hessian.
    cross_entropy_from_probs : For predictions that are probabilities already.

    Notes
    -----
    With m the largest logit, the loss is ``(m - x_y) + log1p(r)``, where r sums the exponentials of all the other
    ``x_j - m`` [1]_. A small loss therefore keeps all its digits. A term whose q' is exactly 0
    takes no part, so a logit of -inf costs nothing there. Sums over classes and rows are accumulated in float64.
    With a cap, differences of x are computed from those of u, so that they keep their digits. The slope of a
    saturated logit, ``1 - tanh(v)^2``, has an error of some ``2 |v|`` units in the last place.

    References
    ----------
    .. [1] P. Blanchard, D. J. Higham and N. J. Higham, "Accurately computing the log-sum-exp and softmax functions",
       IMA Journal of Numerical Analysis 41(4), 2021.
    .. [2] A. Chowdhery et al., "PaLM: Scaling Language Modeling with Pathways", Journal of Machine Learning Research
       24(240), 2023.
    .. [3] Gemma Team, "Gemma 2: Improving Open Language Models at a Practical Size", arXiv:2408.00118, 2024.

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

    The options:

    >>> print(cross_entropy(logits, [0, 2], weight=[1, 1, 3]).round(8))
    0.12888372
    >>> print(cross_entropy(logits, [0, 2], sample_weight=[1, 0]).round(8))
    0.40760596
    >>> print(cross_entropy(logits, [0, -100], ignore_index=-100).round(8))
    0.40760596
    >>> print(cross_entropy(logits, [0, 2], label_smoothing=0.1).round(8))
    0.40512447
    >>> print(cross_entropy(logits, [0, 2], z_loss=1e-2).round(8))
    0.33221949
    >>> print(cross_entropy(logits, [0, 2], softcap=2.0, temperature=0.5).round(8))
    0.41726788
    >>> loss, lse = cross_entropy(logits, [0, 2], return_lse=True)
    >>> lse
    array([2.40760596, 4.0359763 ])
    """
    options = loss_options(axis, reduction, ignore_index, workers, label_smoothing, z_loss, softcap, temperature)
    loss, _, _, lse = _of_logits(logits, target, weight, sample_weight, options, return_lse=return_lse)
    return (loss, lse) if return_lse else loss


def cross_entropy_with_grad(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    axis: SupportsIndex = -1,
    weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex | None = None,
    label_smoothing: Real = 0.0,
    z_loss: Real = 0.0,
    softcap: Real | None = None,
    temperature: Real = 1.0,
    reduction: Reduction = "mean",
    return_lse: bool = False,
    out: Out = None,
    workers: SupportsIndex | None = None,
) -> tuple[Any, ...]:
    """Cross-entropy and its gradient with respect to the logits, in one pass.

    ``dloss/dx_j = Q * p_j - q_j``, with p the softmax of the logits, q the target row (for a class index: one-hot)
    and ``Q = sum_j q_j``. With reduction "mean" this is divided by the number of rows. The options, which
    `cross_entropy` explains, make of this::

        dloss/dx_j = s / D * (sum_k q'_k * p_j - q'_j)
                     + s / Dz * 2 * z_loss * lse(x) * p_j
        dloss/du_j = (1 - (x_j / softcap)^2) / temperature * dloss/dx_j

    Parameters
    ----------
    logits, target : array_like
        As in `cross_entropy`.
    axis : int, default -1
        The class axis.
    weight : array_like of shape (C,), optional
        A weight for each class.
    sample_weight : array_like, optional
        A weight for each row; a row of weight 0 does not count.
    ignore_index : int, optional
        Rows with this class index do not count.
    label_smoothing : float, default 0
        How much of each target is spread evenly over all classes, from 0 to 1.
    z_loss : float, default 0
        The factor of the squared logsumexp, which is added to the loss.
    softcap : float, optional
        The bound that logits approach smoothly.
    temperature : float, default 1
        What logits are divided by.
    reduction : {"mean", "sum", "none"}, default "mean"
        How the losses of the rows are combined. With "none" the gradient is that of their sum.
    return_lse : bool, default False
        Whether to return the logsumexp of each row too.
    out : ndarray, optional
        Where to put the gradient, with the shape and dtype of the logits. It may be the logits themselves: then
        nothing of their size is allocated.
    workers : int, optional
        As in `cross_entropy`.

    Returns
    -------
    loss : scalar or ndarray
        As `cross_entropy` returns it.
    grad : ndarray
        The gradient in the shape of the logits: `out`, if given.
    lse : scalar or ndarray
        The logsumexp of each row, if `return_lse`.

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
    >>> loss, grad = cross_entropy_with_grad(logits, [0, -1], ignore_index=-1, label_smoothing=0.1)
    >>> grad
    array([[-0.26809238,  0.21139514,  0.05669724],
           [ 0.        ,  0.        ,  0.        ]])
    """
    options = loss_options(axis, reduction, ignore_index, workers, label_smoothing, z_loss, softcap, temperature)
    loss, grad, _, lse = _of_logits(
        logits, target, weight, sample_weight, options, return_lse=return_lse, with_grad=True, out=out
    )
    return (loss, grad, lse) if return_lse else (loss, grad)


def cross_entropy_with_hess(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    axis: SupportsIndex = -1,
    weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex | None = None,
    label_smoothing: Real = 0.0,
    temperature: Real = 1.0,
    reduction: Reduction = "mean",
    out: Out = None,
    workers: SupportsIndex | None = None,
) -> tuple[RowResults, Array, Array]:
    """Cross-entropy, its gradient, and the diagonal of its Hessian with respect to the logits, in one pass.

    ``d2loss/dx_j2 = s / D * Q * p_j * (1 - p_j)``, with ``Q = sum_k q'_k``; divided by the squared temperature, too.
    `cross_entropy` explains s, D and q'.

    Parameters
    ----------
    logits, target : array_like
        As in `cross_entropy`.
    axis : int, default -1
        The class axis.
    weight : array_like of shape (C,), optional
        A weight for each class.
    sample_weight : array_like, optional
        A weight for each row; a row of weight 0 does not count.
    ignore_index : int, optional
        Rows with this class index do not count.
    label_smoothing : float, default 0
        How much of each target is spread evenly over all classes, from 0 to 1.
    temperature : float, default 1
        What logits are divided by.
    reduction : {"mean", "sum", "none"}, default "mean"
        How the losses of the rows are combined. With "none" the derivatives are those of their sum.
    out : ndarray, optional
        Where to put the gradient; as in `cross_entropy_with_grad`.
    workers : int, optional
        As in `cross_entropy`.

    Returns
    -------
    loss : scalar or ndarray
        As `cross_entropy` returns it.
    grad : ndarray
        The gradient in the shape of the logits: `out`, if given.
    hess : ndarray
        The diagonal of the Hessian, in the same shape.

    Raises
    ------
    TypeError, ValueError, IndexError, numpy.exceptions.AxisError
        As in `cross_entropy_with_grad`.

    See Also
    --------
    cross_entropy_hvp : The product of the whole Hessian with a vector.
    cxent.boosting.softmax_objective : For gradient boosting, which wants these.

    Notes
    -----
    Where p is near 1, ``1 - p`` is the sum of all the other probabilities, and keeps its digits.

    Examples
    --------
    >>> import numpy as np
    >>> from cxent import cross_entropy_with_hess
    >>> logits = np.array([[2.0, 1.0, 0.0], [0.0, 0.0, 4.0]])
    >>> loss, grad, hess = cross_entropy_with_hess(logits, [0, 2], reduction="sum")
    >>> hess
    array([[0.22269543, 0.18483645, 0.08192507],
           [0.01735625, 0.01735625, 0.03408815]])
    """
    options = loss_options(axis, reduction, ignore_index, workers, label_smoothing, temperature=temperature)
    loss, grad, hess, _ = _of_logits(
        logits, target, weight, sample_weight, options, with_grad=True, with_hess=True, out=out
    )
    return loss, grad, hess


def cross_entropy_hvp(
    logits: ArrayLike,
    target: ArrayLike,
    v: ArrayLike,
    *,
    axis: SupportsIndex = -1,
    weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex | None = None,
    label_smoothing: Real = 0.0,
    temperature: Real = 1.0,
    reduction: Reduction = "mean",
    out: Out = None,
    workers: SupportsIndex | None = None,
) -> Array:
    """The product of the Hessian of the cross-entropy with a vector, row by row.

    ``(H v)_j = s / D * Q * p_j * (v_j - sum_k p_k v_k)``, with ``Q = sum_k q'_k``; divided by the squared temperature,
    too. `cross_entropy` explains s, D and q'. The Hessian itself, C * C numbers a row, is not computed.

    Parameters
    ----------
    logits, target : array_like
        As in `cross_entropy`.
    v : array_like
        The vectors, in the shape of the logits.
    axis : int, default -1
        The class axis.
    weight : array_like of shape (C,), optional
        A weight for each class.
    sample_weight : array_like, optional
        A weight for each row; a row of weight 0 does not count.
    ignore_index : int, optional
        Rows with this class index do not count.
    label_smoothing : float, default 0
        How much of each target is spread evenly over all classes, from 0 to 1.
    temperature : float, default 1
        What logits are divided by.
    reduction : {"mean", "sum", "none"}, default "mean"
        How the losses of the rows are combined. With "none" the product is that with the Hessian of their sum.
    out : ndarray, optional
        Where to put the product, with the shape and dtype of the logits. It may be the logits themselves.
    workers : int, optional
        As in `cross_entropy`.

    Returns
    -------
    ndarray
        The product in the shape of the logits: `out`, if given.

    Raises
    ------
    TypeError, ValueError, IndexError, numpy.exceptions.AxisError
        As in `cross_entropy_with_grad`, and if `v` has another shape.

    Examples
    --------
    >>> from cxent import cross_entropy_hvp
    >>> logits = [[2.0, 1.0, 0.0], [0.0, 0.0, 4.0]]
    >>> cross_entropy_hvp(logits, [0, 2], [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], reduction="sum")
    array([[ 0.22269543, -0.1628034 , -0.05989202],
           [-0.01704408, -0.01704408,  0.03408815]])
    """
    options = loss_options(axis, reduction, ignore_index, workers, label_smoothing, temperature=temperature)
    arrays = logits_and(
        "logits", logits, options.axis, target=target, weight=weight, sample_weight=sample_weight, vector=v, out=out
    )
    shape = arrays.shape
    labels, probabilities, by_class, by_row, _ = checked_targets(arrays, options.ignore_index)
    laid = lay_out(
        shape, [arrays.x, arrays.beside, probabilities], [labels, by_row],
        outputs=[True], result_dtype=arrays.result_dtype, out=out, read_later=[by_class],
    )  # fmt: skip
    x, vectors, probabilities = laid.inputs
    labels, by_row = laid.row_inputs
    weights = weighted(options, shape, arrays.dtype, labels, by_class, by_row)
    if shape.row_count:
        target = probabilities if labels is None else labels
        kernels.serving.of(arrays.dtype).hessian_product(x, vectors, target, *weights, *laid.outputs, options.threads)
    return cast(Array, result_of(laid))


def _of_logits(
    logits: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None,
    sample_weight: ArrayLike | None,
    options: LossOptions,
    *,
    return_lse: bool = False,
    with_grad: bool = False,
    with_hess: bool = False,
    out: Out = None,
) -> _Results:
    """The loss of logits, and what is wanted beside it of gradient, Hessian and logsumexp."""
    found: _Results | None = kernels.for_plain(logits).plain_cross_entropy(
        logits, target, weight, sample_weight, options, out, options.threads, return_lse, with_grad, with_hess
    )
    if found is not None:
        return found
    computed = _computed(
        logits, target, weight, sample_weight, options, return_lse=return_lse, with_grad=with_grad, with_hess=with_hess,
        out=out,
    )  # fmt: skip
    (loss, lse), (grad, hess) = loss_of(*computed)
    return loss, grad, hess, lse


def loss_of_part(
    logits: Array,
    target: Array,
    weight: ArrayLike | None,
    sample_weight: ArrayLike | None,
    options: LossOptions,
    divisors: tuple[float, float],
    *,
    with_grad: bool,
) -> tuple[RowResults, Array | None]:
    """The sum of the losses of some of the rows, in float64, divided by what a mean over more rows is divided by; with
    ``reduction="none"`` the losses. And the gradient, if it is wanted.
    """
    laid, total, *_ = _computed(logits, target, weight, sample_weight, options, divisors, with_grad=with_grad)
    (loss, _), (grad, _) = loss_of(laid, total, 1.0, np.dtype(np.float64))
    return loss, grad


def _computed(
    logits: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None,
    sample_weight: ArrayLike | None,
    options: LossOptions,
    divisors: tuple[float, float] | None = None,
    *,
    return_lse: bool = False,
    with_grad: bool = False,
    with_hess: bool = False,
    out: Out = None,
) -> tuple[Laid, float, float, np.dtype[Any]]:
    """The arrays of a call once they are computed, the sum of the losses, what it is divided by, and its dtype."""
    arrays = logits_and(
        "logits", logits, options.axis, target=target, weight=weight, sample_weight=sample_weight, out=out
    )
    shape, dtype = arrays.shape, arrays.dtype
    labels, probabilities, by_class, by_row, _ = checked_targets(arrays, options.ignore_index)
    laid = lay_out(
        shape, [arrays.x, probabilities], [labels, by_row],
        rows=[dtype if options.reduction == "none" else None, dtype if return_lse else None],
        outputs=[with_grad, with_hess], result_dtype=arrays.result_dtype, out=out, read_later=[by_class],
    )  # fmt: skip
    x, probabilities = laid.inputs
    labels, by_row = laid.row_inputs
    by_class, by_row, given = weighted(options, shape, dtype, labels, by_class, by_row, divisors)
    total = 0.0
    if shape.row_count:
        target = probabilities if labels is None else labels
        kernel = kernels.serving.of(dtype).cross_entropy
        total = kernel(x, target, by_class, by_row, given, *laid.rows, *laid.outputs, laid.past_caches, options.threads)
    return laid, total, given.divisor, dtype
