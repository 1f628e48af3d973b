"""Cross-entropy losses of logits, and their derivatives."""

from __future__ import annotations

from typing import Any, SupportsIndex, TypeAlias, cast

import numpy as np
from numpy.typing import ArrayLike

from . import kernels
from ._arrays import Arrays, logits_and
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
    where: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex | None = None,
    label_smoothing: Real = 0.0,
    focal_gamma: Real = 0.0,
    z_loss: Real = 0.0,
    softcap: Real | None = None,
    temperature: Real = 1.0,
    reduction: Reduction = "mean",
    return_lse: bool = False,
    workers: SupportsIndex | None = None,
) -> Any:
    r"""Cross-entropy of logits with class indices or class probabilities.

    The loss of a row is

    .. math:: E = \mathrm{lse}(x) - x_y

    for a class index y, and

    .. math:: E = Q \, \mathrm{lse}(x) - \sum_j q_j x_j, \quad Q = \sum_j q_j

    for class probabilities q, where lse is the `logsumexp`. With all options, for logits u,

    .. math::

        x_j  &= u_j / T \\
        q'_j &= w_j ((1 - \varepsilon) q_j + \varepsilon / C), \quad Q = \sum_j q'_j \\
        E    &= s (Q \, \mathrm{lse}(x) - \sum_j q'_j x_j) + s z \, \mathrm{lse}(x)^2

    with temperature T, or :math:`x_j = k \tanh(u_j / (k T))` with a softcap k, class weights w, label smoothing
    :math:`\varepsilon`, C classes, the row's sample weight s, and z the factor `z_loss`. For a class index, q is
    one-hot. A focal factor multiplies the first term of E.

    Parameters
    ----------
    logits : array_like
        Logits, of any shape with at least one class. float32 and float64 are computed in their own dtype, float16 and
        bfloat16 (from ml_dtypes) in float32, integers and booleans in float64.
    target : array_like
        The shape and the dtype say what it is. In the shape of the logits without the class axis: class indices from 0
        to C-1, of any integer dtype. In the shape of the logits, with a floating dtype: class probabilities, which need
        not sum to 1 and are not checked. In the shape of the logits, with an integer or boolean dtype: one-hot rows,
        with a single 1 in each and 0 elsewhere. Class probabilities are copied unless they have the dtype in which the
        loss is computed.
    axis : int, default -1
        Class axis. In PyTorch it is axis 1: logits of shape (N, C, d) with labels of shape (N, d) need ``axis=1`` here.
        If C equals d, the shapes match without it, and the mistake goes unnoticed. Any axis of an array in C or F order
        is used without a copy; logits whose strides do not fit a view (outer, classes, inner) are copied once.
    where : array_like of bool, optional
        Which classes take part, in a shape that broadcasts to that of the logits. The results are those of rows without
        the other classes: label smoothing is spread over those that take part, gradients of the others are 0, and a
        target there has the loss inf. A row without any class has the loss NaN, unless it does not count.
    weight : array_like of shape (C,), optional
        Weight of each class, of either sign. Converted to the dtype in which the loss is computed.
    sample_weight : array_like, optional
        Weight of each row, of either sign, in a shape that broadcasts to that of the logits without the class axis.
        Converted like `weight`. A row with weight 0 does not count, whatever its logits are.
    ignore_index : int, optional
        Rows with this class index do not count: their loss and their gradient are 0. Any integer will do. Only for
        class indices.
    label_smoothing : float, default 0
        Fraction of each target that is spread evenly over all classes, from 0 to 1.
    focal_gamma : float, default 0
        Exponent of the focal factor :math:`(1 - p_y)^\gamma` [4]_, from 0 to 100, which multiplies the loss of a class
        index y, without its z term: examples that are easy, with p_y near 1, then count little. Not for class
        probabilities, nor with label smoothing.
    z_loss : float, default 0
        Factor of the squared logsumexp, which keeps logits from drifting [2]_.
    softcap : float, optional
        Bound that logits approach smoothly [3]_, from 1e-30 to 1e30. It makes infinite logits finite: -inf becomes
        -softcap.
    temperature : float, default 1
        Logits are divided by it; from 1e-30 to 1e30.
    reduction : {"mean", "sum", "none"}, default "mean"
        How the losses of the rows are combined. The mean divides the sum of the losses by D, and the sum of the z terms
        by Dz. For class indices, D is the sum of :math:`s w_y`, as in PyTorch; for class probabilities, the sum of s.
        Dz is the sum of s. All sums are over the rows that count. If D is 0, for instance without rows, the mean is
        NaN.
    return_lse : bool, default False
        Whether to return the logsumexp of x for each row too, including rows that do not count.
    workers : int, optional
        Number of threads that share the rows of large inputs; -1 means all CPUs that this process may use. The default
        is that of `get_workers`: 1, unless it was set. The results have the same bits for any number.

    Returns
    -------
    loss : scalar or ndarray
        The loss, in the dtype in which it is computed; with reduction "none", one per row, in the shape of the logits
        without the class axis.
    lse : scalar or ndarray
        The logsumexp of each row, if `return_lse`.

    Raises
    ------
    TypeError
        If an array is complex, object, string or masked, the logits have a floating dtype other than those above, class
        indices are not integers, or an option is not a number. Booleans are rejected as numbers.
    ValueError
        If shapes do not match, integers in the shape of the logits are not one-hot, there are rows without classes, an
        option is out of range, weights are not finite, `ignore_index` is given with class probabilities, the reduction
        is unknown, or `workers` is 0 or below minus the number of CPUs.
    IndexError
        If a class index is neither in 0..C-1 nor `ignore_index`. The message names the first. Negative indices do not
        wrap.
    numpy.exceptions.AxisError
        If `axis` is out of range.

    See Also
    --------
    cross_entropy_with_grad : The loss and its gradient.
    cross_entropy_with_hess : The loss, its gradient and the diagonal of its Hessian.
    cross_entropy_from_probs : For predictions that are probabilities already.

    Notes
    -----
    With m the largest logit, the loss is computed as :math:`(m - x_y) + \mathrm{log1p}(r)`, where r is the sum of
    :math:`\exp(x_j - m)` over all other classes [1]_, so a small loss keeps all its digits. Terms with q' exactly 0 are
    skipped, so a logit of -inf costs nothing there. Sums over classes and rows are accumulated in float64. With a
    softcap, differences of x are computed from those of u, so that they keep their digits; the slope of a saturated
    logit, :math:`1 - \tanh(v)^2`, has an error of about :math:`2 |v|` units in the last place.

    With a focal factor, the error of :math:`1 - p_y`, which keeps its own digits, counts :math:`\gamma` times: the loss
    is within :math:`4 + 3 \gamma` units in the last place for a whole :math:`\gamma`.

    References
    ----------
    .. [1] P. Blanchard, D. J. Higham and N. J. Higham, "Accurately computing the log-sum-exp and softmax functions",
       IMA Journal of Numerical Analysis 41(4), 2021.
    .. [2] A. Chowdhery et al., "PaLM: Scaling Language Modeling with Pathways", Journal of Machine Learning Research
       24(240), 2023.
    .. [3] Gemma Team, "Gemma 2: Improving Open Language Models at a Practical Size", arXiv:2408.00118, 2024.
    .. [4] T.-Y. Lin et al., "Focal Loss for Dense Object Detection", IEEE International Conference on Computer Vision,
       2017.

    Examples
    --------
    >>> import numpy as np
    >>> from cxent import cross_entropy
    >>> logits = np.array([[2.0, 1.0, 0.0], [0.0, 0.0, 4.0]])
    >>> cross_entropy(logits, [0, 2], reduction="none")
    array([0.40760596, 0.0359763 ])
    >>> print(cross_entropy(logits, np.eye(3)[[0, 2]]).round(8))
    0.22179113

    A confident, correct prediction has a small loss, but not 0:

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
    >>> print(cross_entropy(logits, [0, 2], where=[True, False, True]).round(8))
    0.07253897
    >>> print(cross_entropy(logits, [0, 2], focal_gamma=2.0).round(8))
    0.02286136
    >>> print(cross_entropy(logits, [0, 2], z_loss=1e-2).round(8))
    0.33221949
    >>> print(cross_entropy(logits, [0, 2], softcap=2.0, temperature=0.5).round(8))
    0.41726788
    >>> loss, lse = cross_entropy(logits, [0, 2], return_lse=True)
    >>> lse
    array([2.40760596, 4.0359763 ])
    """
    options = loss_options(
        axis, reduction, ignore_index, workers, label_smoothing, z_loss, softcap, temperature, focal_gamma
    )
    loss, _, _, lse = _of_logits(logits, target, where, weight, sample_weight, options, return_lse=return_lse)
    return (loss, lse) if return_lse else loss


def cross_entropy_with_grad(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    axis: SupportsIndex = -1,
    where: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex | None = None,
    label_smoothing: Real = 0.0,
    focal_gamma: Real = 0.0,
    z_loss: Real = 0.0,
    softcap: Real | None = None,
    temperature: Real = 1.0,
    reduction: Reduction = "mean",
    return_lse: bool = False,
    out: Out = None,
    workers: SupportsIndex | None = None,
) -> tuple[Any, ...]:
    r"""Cross-entropy and its gradient with respect to the logits, in one pass.

    .. math:: \partial E / \partial x_j = Q p_j - q_j

    with p the softmax of the logits, q the target row (one-hot for a class index) and Q its sum. Reduction "mean"
    divides by the number of rows. With all options, in the symbols of `cross_entropy`,

    .. math::

        \partial E / \partial x_j &= \frac{s}{D} (Q p_j - q'_j) \\
        &\quad + \frac{s}{D_z} 2 z \, \mathrm{lse}(x) p_j \\
        \partial E / \partial u_j &= \frac{1}{T} (1 - (x_j / k)^2) \, \partial E / \partial x_j

    A focal factor multiplies the first term by :math:`v^{\gamma} + \gamma v^{\gamma-1} p_y E_0`, with
    :math:`v = 1 - p_y` and the row's loss without options :math:`E_0`.

    Parameters
    ----------
    logits : array_like
        Logits, of any shape with at least one class.
    target : array_like
        Class indices, class probabilities or one-hot rows; `cross_entropy` says how they are told apart.
    axis : int, default -1
        Class axis.
    where : array_like of bool, optional
        Which classes take part.
    weight : array_like of shape (C,), optional
        Weight of each class.
    sample_weight : array_like, optional
        Weight of each row. A row with weight 0 does not count.
    ignore_index : int, optional
        Rows with this class index do not count.
    label_smoothing : float, default 0
        Fraction of each target that is spread evenly over all classes, from 0 to 1.
    focal_gamma : float, default 0
        Exponent of the focal factor, from 0 to 100.
    z_loss : float, default 0
        Factor of the squared logsumexp that is added to the loss.
    softcap : float, optional
        Bound that logits approach smoothly.
    temperature : float, default 1
        Logits are divided by it.
    reduction : {"mean", "sum", "none"}, default "mean"
        How the losses of the rows are combined. With "none", the gradient is that of their sum.
    return_lse : bool, default False
        Whether to return the logsumexp of each row too.
    out : ndarray, optional
        Where to put the gradient, with the shape and dtype of the logits. It may be the logits themselves; then nothing
        of their size is allocated.
    workers : int, optional
        Number of threads; -1 means all CPUs.

    Returns
    -------
    loss : scalar or ndarray
        The loss, as returned by `cross_entropy`.
    grad : ndarray
        The gradient, in the shape of the logits. It is `out`, if given.
    lse : scalar or ndarray
        The logsumexp of each row, if `return_lse`.

    Raises
    ------
    TypeError, ValueError, IndexError, numpy.exceptions.AxisError
        As in `cross_entropy`, and if `out` has another shape or dtype or is read-only. Then nothing has been written.

    Notes
    -----
    At the class where p is near 1, the gradient is computed from the sum of all other probabilities. It keeps its
    digits where ``p - 1`` would be 0. :math:`Q p - q` is the gradient for any target row; the well-known :math:`p - q`
    is correct only if the row sums to 1.

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
    options = loss_options(
        axis, reduction, ignore_index, workers, label_smoothing, z_loss, softcap, temperature, focal_gamma
    )
    loss, grad, _, lse = _of_logits(
        logits, target, where, weight, sample_weight, options, return_lse=return_lse, with_grad=True, out=out
    )
    return (loss, grad, lse) if return_lse else (loss, grad)


def cross_entropy_with_hess(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    axis: SupportsIndex = -1,
    where: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex | None = None,
    label_smoothing: Real = 0.0,
    focal_gamma: Real = 0.0,
    temperature: Real = 1.0,
    reduction: Reduction = "mean",
    out: Out = None,
    workers: SupportsIndex | None = None,
) -> tuple[RowResults, Array, Array]:
    r"""Cross-entropy, its gradient, and the diagonal of its Hessian with respect to the logits, in one pass.

    .. math:: \partial^2 E / \partial u_j^2 = \frac{s}{D T^2} Q p_j (1 - p_j)

    with p the softmax of the logits. Without options Q is the sum of the target row, which is 1 for a class index, and
    reduction "mean" divides by the number of rows. `cross_entropy` explains the symbols. With a focal factor, and
    :math:`v = 1 - p_y`, :math:`E` being the loss without it and :math:`\delta` one-hot,

    .. math::

        k &= v^{\gamma} + \gamma v^{\gamma-1} p_y E \\
        r &= \gamma v^{\gamma-1} p_y (2 - E + (\gamma - 1) p_y E / v)

        \partial^2 (v^\gamma E) / \partial x_j^2 = k p_j (1 - p_j) + r (p_j - \delta_j)^2

    Parameters
    ----------
    logits : array_like
        Logits, of any shape with at least one class.
    target : array_like
        Class indices, class probabilities or one-hot rows; `cross_entropy` says how they are told apart.
    axis : int, default -1
        Class axis.
    where : array_like of bool, optional
        Which classes take part.
    weight : array_like of shape (C,), optional
        Weight of each class.
    sample_weight : array_like, optional
        Weight of each row. A row with weight 0 does not count.
    ignore_index : int, optional
        Rows with this class index do not count.
    label_smoothing : float, default 0
        Fraction of each target that is spread evenly over all classes, from 0 to 1.
    focal_gamma : float, default 0
        Exponent of the focal factor, from 0 to 100. With it, numbers of the Hessian can be negative.
    temperature : float, default 1
        Logits are divided by it.
    reduction : {"mean", "sum", "none"}, default "mean"
        How the losses of the rows are combined. With "none", the derivatives are those of their sum.
    out : ndarray, optional
        Where to put the gradient, with the shape and dtype of the logits. It may be the logits themselves.
    workers : int, optional
        Number of threads; -1 means all CPUs.

    Returns
    -------
    loss : scalar or ndarray
        The loss, as returned by `cross_entropy`.
    grad : ndarray
        The gradient, in the shape of the logits. It is `out`, if given.
    hess : ndarray
        The diagonal of the Hessian, in the same shape.

    Raises
    ------
    TypeError, ValueError, IndexError, numpy.exceptions.AxisError
        As in `cross_entropy_with_grad`.

    See Also
    --------
    cross_entropy_hvp : The product of the whole Hessian with a vector.
    cxent.boosting.softmax_objective : These derivatives as an objective for gradient boosting.

    Notes
    -----
    Where p is near 1, ``1 - p`` is computed as the sum of all other probabilities, and keeps its digits.

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
    options = loss_options(
        axis, reduction, ignore_index, workers, label_smoothing, temperature=temperature, focal_gamma=focal_gamma
    )
    loss, grad, hess, _ = _of_logits(
        logits, target, where, weight, sample_weight, options, with_grad=True, with_hess=True, out=out
    )
    return loss, grad, hess


def cross_entropy_hvp(
    logits: ArrayLike,
    target: ArrayLike,
    v: ArrayLike,
    *,
    axis: SupportsIndex = -1,
    where: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex | None = None,
    label_smoothing: Real = 0.0,
    temperature: Real = 1.0,
    reduction: Reduction = "mean",
    out: Out = None,
    workers: SupportsIndex | None = None,
) -> Array:
    r"""The product of the Hessian of the cross-entropy with a vector, row by row.

    .. math:: (H v)_j = \frac{s}{D T^2} Q p_j (v_j - \sum_k p_k v_k)

    with p the softmax of the logits; `cross_entropy` explains the other symbols. The Hessian itself, C x C numbers per
    row, is never formed.

    Parameters
    ----------
    logits : array_like
        Logits, of any shape with at least one class.
    target : array_like
        Class indices, class probabilities or one-hot rows; `cross_entropy` says how they are told apart.
    v : array_like
        The vectors, in the shape of the logits.
    axis : int, default -1
        Class axis.
    where : array_like of bool, optional
        Which classes take part.
    weight : array_like of shape (C,), optional
        Weight of each class.
    sample_weight : array_like, optional
        Weight of each row. A row with weight 0 does not count.
    ignore_index : int, optional
        Rows with this class index do not count.
    label_smoothing : float, default 0
        Fraction of each target that is spread evenly over all classes, from 0 to 1.
    temperature : float, default 1
        Logits are divided by it.
    reduction : {"mean", "sum", "none"}, default "mean"
        How the losses of the rows are combined. With "none", the Hessian is that of their sum.
    out : ndarray, optional
        Where to put the product, with the shape and dtype of the logits. It may be the logits themselves.
    workers : int, optional
        Number of threads; -1 means all CPUs.

    Returns
    -------
    ndarray
        The product, in the shape of the logits. It is `out`, if given.

    Raises
    ------
    TypeError, ValueError, IndexError, numpy.exceptions.AxisError
        As in `cross_entropy_with_grad`, and if `v` has another shape than the logits.

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
        "logits", logits, options.axis, target=target, weight=weight, sample_weight=sample_weight, where=where,
        vector=v, out=out,
    )  # fmt: skip
    shape = arrays.shape
    labels, probabilities, by_class, by_row, mask = checked_targets(arrays, options.ignore_index)
    laid = lay_out(
        shape, [arrays.x, arrays.beside, probabilities, mask], [labels, by_row],
        outputs=[True], result_dtype=arrays.result_dtype, out=out, read_later=[by_class],
    )  # fmt: skip
    x, vectors, probabilities, mask = laid.inputs
    labels, by_row = laid.row_inputs
    weights = weighted(options, shape, arrays.dtype, labels, by_class, by_row)
    if shape.row_count:
        target = probabilities if labels is None else labels
        kernels.serving.of(arrays.dtype).hessian_product(
            x, mask, vectors, target, *weights, *laid.outputs, options.threads
        )
    return cast(Array, result_of(laid))


def _of_logits(
    logits: ArrayLike,
    target: ArrayLike,
    where: ArrayLike | None,
    weight: ArrayLike | None,
    sample_weight: ArrayLike | None,
    options: LossOptions,
    *,
    return_lse: bool = False,
    with_grad: bool = False,
    with_hess: bool = False,
    out: Out = None,
) -> _Results:
    """The loss of logits, with the gradient, the Hessian and the logsumexp as requested."""
    found: _Results | None = kernels.for_plain(logits).plain_cross_entropy(
        logits, target, where, weight, sample_weight, options, out, options.threads, return_lse, with_grad, with_hess
    )
    if found is not None:
        return found
    arrays = logits_and(
        "logits", logits, options.axis, target=target, weight=weight, sample_weight=sample_weight, where=where, out=out
    )
    if arrays.are_converted:
        found = kernels.for_plain(arrays.x).plain_cross_entropy(
            arrays.x, arrays.target, arrays.where, arrays.class_weights, arrays.row_weights, options, out,
            options.threads, return_lse, with_grad, with_hess,
        )  # fmt: skip
        if found is not None:
            return found
    computed = _computed(arrays, options, return_lse=return_lse, with_grad=with_grad, with_hess=with_hess, out=out)
    (loss, lse), (grad, hess) = loss_of(*computed)
    return loss, grad, hess, lse


def loss_of_part(
    logits: Array,
    target: Array,
    where: ArrayLike | None,
    weight: ArrayLike | None,
    sample_weight: ArrayLike | None,
    options: LossOptions,
    divisors: tuple[float, float],
    *,
    with_grad: bool,
) -> tuple[RowResults, Array | None]:
    """The loss of some of the rows, as a float64 sum divided by the divisors of a mean over more rows, or one per row
    with ``reduction="none"``; and the gradient, if requested."""
    arrays = logits_and(
        "logits", logits, options.axis, target=target, weight=weight, sample_weight=sample_weight, where=where
    )
    laid, total, *_ = _computed(arrays, options, divisors, with_grad=with_grad)
    (loss, _), (grad, _) = loss_of(laid, total, 1.0, np.dtype(np.float64))
    return loss, grad


def _computed(
    arrays: Arrays,
    options: LossOptions,
    divisors: tuple[float, float] | None = None,
    *,
    return_lse: bool = False,
    with_grad: bool = False,
    with_hess: bool = False,
    out: Out = None,
) -> tuple[Laid, float, float, np.dtype[Any]]:
    """The arrays of a call after its kernel has run, the sum of the losses, the divisor of that sum, and its dtype."""
    shape, dtype = arrays.shape, arrays.dtype
    labels, probabilities, by_class, by_row, mask = checked_targets(
        arrays, options.ignore_index, focal_gamma=options.focal_gamma
    )
    laid = lay_out(
        shape, [arrays.x, probabilities, mask], [labels, by_row],
        rows=[dtype if options.reduction == "none" else None, dtype if return_lse else None],
        outputs=[with_grad, with_hess], result_dtype=arrays.result_dtype, out=out, read_later=[by_class],
    )  # fmt: skip
    x, probabilities, mask = laid.inputs
    labels, by_row = laid.row_inputs
    by_class, by_row, given = weighted(options, shape, dtype, labels, by_class, by_row, divisors)
    total = 0.0
    if shape.row_count:
        target = probabilities if labels is None else labels
        kernel = kernels.serving.of(dtype).cross_entropy
        total = kernel(
            x, mask, target, by_class, by_row, given, *laid.rows, *laid.outputs, laid.past_caches, options.threads
        )
    return laid, total, given.divisor, dtype
