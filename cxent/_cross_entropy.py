"""Cross-entropy losses and their gradients, from logits and from probabilities."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _workers, kernels
from ._layout import Layout, as_stored, computed_dtype, exceeds_cache, layout_of, widened
from ._validation import (
    Array,
    class_weights,
    floating_array,
    integer_or_none,
    number,
    require_classes,
    row_weights,
    single_axis,
    target_view,
)

Reduction = Literal["mean", "sum", "none"]

_ALWAYS_FITS = 1e38


def cross_entropy(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    axis: int = -1,
    weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
    temperature: float = 1.0,
    reduction: Reduction = "mean",
    return_lse: bool = False,
    workers: int = 1,
) -> Any:
    """Cross-entropy of logits with class indices or class probabilities.

    ``loss = lse(x) - x_y`` for a class index y, and ``loss = Q * lse(x) - sum_j q_j x_j`` for class probabilities q,
    with ``Q = sum_j q_j``; lse is the `logsumexp`. The options make of this::

        x_j  = u_j / temperature, or with a cap  x_j = softcap * tanh(u_j / (temperature * softcap)),   u the logits
        q'_j = weight_j * ((1 - label_smoothing) * q_j + label_smoothing / C),   q one-hot for a class index
        loss = s * (sum_j q'_j * lse(x) - sum_j q'_j x_j) + s * z_loss * lse(x)^2,   s the row's sample_weight

    Parameters
    ----------
    logits : array_like
        Logits, of any shape with at least one class. float32 and float64 are computed as such, float16 and bfloat16
        (of ml_dtypes) in float32, integers and booleans in float64.
    target : array_like
        Told apart by its shape. That of the logits without the class axis: class indices, of any integer dtype, each
        from 0 to C-1. That of the logits: class probabilities or one-hot rows, of any real dtype, which need not sum
        to 1, and are not checked. Indices of another dtype than int64, and probabilities of another than that in which
        the logits are computed, are copied to it.
    axis : int, default -1
        The class axis. Any axis of an array in C or F order is reached without a copy; where strides cannot be
        described as (outer, classes, inner), the logits are copied once.
    weight : array_like of shape (C,), optional
        A weight for each class, of either sign; converted to the dtype in which the logits are computed.
    sample_weight : array_like, optional
        A weight for each row, of either sign, in the shape of the logits without the class axis; converted like
        `weight`. A row of weight 0 does not count, whatever its logits are.
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
    workers : int, default 1
        How many threads may share the rows, if there are many numbers; -1 stands for all CPUs that this process may
        use. The results have the same bits for any number.

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
        indices are not integers, or an option is not a number.
    ValueError
        If shapes do not match, there are rows without classes, an option is out of its range, weights are not finite,
        probabilities meet an `ignore_index`, the reduction is unknown, or `workers` is 0 or below -CPUs.
    IndexError
        If a class index is not in 0..C-1, nor `ignore_index`; it names the first. Negative indices do not wrap.
    numpy.exceptions.AxisError
        If `axis` is out of range.

    See Also
    --------
    cross_entropy_with_grad : the loss and its gradient.
    cross_entropy_with_hess : these and the diagonal of the Hessian.
    cross_entropy_from_probs : for predictions that are probabilities already.

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
    numbers = (label_smoothing, z_loss, softcap, temperature)
    loss, _, _, lse = _of_logits(
        logits, target, axis, weight, sample_weight, ignore_index, numbers, reduction, workers, return_lse=return_lse
    )
    return (loss, lse) if return_lse else loss


def cross_entropy_with_grad(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    axis: int = -1,
    weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
    temperature: float = 1.0,
    reduction: Reduction = "mean",
    return_lse: bool = False,
    out: NDArray[Any] | None = None,
    workers: int = 1,
) -> Any:
    """Cross-entropy and its gradient with respect to the logits, in one pass.

    ``dloss/dx_j = Q * p_j - q_j``, with p the softmax of the logits, q the target row (for a class index: one-hot)
    and ``Q = sum_j q_j``. With reduction "mean" this is divided by the number of rows. The options, which
    `cross_entropy` explains, make of this::

        dloss/dx_j = s / D * (sum_k q'_k * p_j - q'_j) + s / Dz * 2 * z_loss * lse(x) * p_j
        dloss/du_j = (1 - (x_j / softcap)^2) / temperature * dloss/dx_j

    Parameters
    ----------
    logits, target, axis, workers
        As in `cross_entropy`.
    weight, sample_weight, ignore_index, label_smoothing, z_loss, softcap, temperature, reduction, return_lse
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
    numbers = (label_smoothing, z_loss, softcap, temperature)
    loss, grad, _, lse = _of_logits(
        logits, target, axis, weight, sample_weight, ignore_index, numbers, reduction, workers,
        return_lse=return_lse, with_grad=True, out=out,
    )  # fmt: skip
    return (loss, grad, lse) if return_lse else (loss, grad)


def cross_entropy_with_hess(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    axis: int = -1,
    weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    temperature: float = 1.0,
    reduction: Reduction = "mean",
    out: NDArray[Any] | None = None,
    workers: int = 1,
) -> tuple[Any, NDArray[Any], NDArray[Any]]:
    """Cross-entropy, its gradient, and the diagonal of its Hessian with respect to the logits, in one pass.

    ``d2loss/dx_j2 = s / D * Q * p_j * (1 - p_j)``, with ``Q = sum_k q'_k``; divided by the squared temperature, too.
    `cross_entropy` explains s, D and q'.

    Parameters
    ----------
    logits, target, axis, workers
        As in `cross_entropy`.
    weight, sample_weight, ignore_index, label_smoothing, temperature, reduction
        As in `cross_entropy`.
    out : ndarray, optional
        Where to put the gradient; as in `cross_entropy_with_grad`.

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
    cross_entropy_hvp : the product of the whole Hessian with a vector.
    cxent.boosting.softmax_objective : for gradient boosting, which wants these.

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
    numbers = (label_smoothing, 0.0, None, temperature)
    loss, grad, hess, _ = _of_logits(
        logits, target, axis, weight, sample_weight, ignore_index, numbers, reduction, workers,
        with_grad=True, with_hess=True, out=out,
    )  # fmt: skip
    return loss, grad, hess


def cross_entropy_hvp(
    logits: ArrayLike,
    target: ArrayLike,
    v: ArrayLike,
    *,
    axis: int = -1,
    weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    temperature: float = 1.0,
    reduction: Reduction = "mean",
    out: NDArray[Any] | None = None,
    workers: int = 1,
) -> NDArray[Any]:
    """The product of the Hessian of the cross-entropy with a vector, row by row.

    ``(H v)_j = s / D * Q * p_j * (v_j - sum_k p_k v_k)``, with ``Q = sum_k q'_k``; divided by the squared temperature,
    too. `cross_entropy` explains s, D and q'. The Hessian itself, C * C numbers a row, is not computed.

    Parameters
    ----------
    logits, target, axis, workers
        As in `cross_entropy`.
    v : array_like
        The vectors, in the shape of the logits.
    weight, sample_weight, ignore_index, label_smoothing, temperature, reduction
        As in `cross_entropy`.
    out : ndarray, optional
        Where to put the product, with the shape and dtype of the logits. It may be the logits themselves.

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
    threads = _workers.thread_count(workers)
    x = floating_array(logits, "logits")
    vector = floating_array(v, "v")
    if vector.shape != x.shape:
        raise ValueError(f"v has shape {vector.shape}; accepted is that of logits, {x.shape}")
    _check_reduction(reduction)
    numbers = _check_numbers(label_smoothing, 0.0, None, temperature)
    given = _given(x, target, axis, weight, sample_weight, ignore_index, numbers, reduction)
    layout = given.layout
    with np.errstate(over="ignore"):
        vector = vector.astype(computed_dtype(x.dtype), copy=False)
    product = layout.output(out, x.dtype, in_place=[x], read_later=[vector, *given.arrays()])
    if product.size:
        _workers.run(
            threads,
            kernels.serving.of(x.dtype).hessian_product,
            as_stored(layout.view(x)),
            layout.view(vector),
            given.target,
            given.class_weights,
            given.row_weights,
            given.options,
            as_stored(product),
        )
    return layout.result(product, out, x.dtype)


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
    loss, _ = _of_probs(probs, target, axis, reduction)
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
    return _of_probs(probs, target, axis, reduction, with_grad=True, out=out)


class _Numbers(NamedTuple):
    """The options that are numbers."""

    label_smoothing: float
    z_loss: float
    softcap: float  # 0: none
    temperature: float


_OFF = _Numbers(0.0, 0.0, 0.0, 1.0)


def _check_numbers(label_smoothing: Any, z_loss: Any, softcap: Any, temperature: Any) -> _Numbers:
    numbers = _Numbers(
        number(label_smoothing, "label_smoothing", "a number from 0 to 1", lambda e: 0 <= e <= 1),
        number(z_loss, "z_loss", "a finite number from 0 on", lambda z: 0 <= z < math.inf),
        0.0
        if softcap is None
        else number(softcap, "softcap", "a number from 1e-30 to 1e30, or None", lambda k: 1e-30 <= k <= 1e30),
        number(temperature, "temperature", "a number from 1e-30 to 1e30", lambda t: 1e-30 <= t <= 1e30),
    )
    return _OFF if numbers == _OFF else numbers


_checked_numbers = lru_cache(maxsize=64)(_check_numbers)  # the checks would be a third of a small call


def _of_logits(
    logits: ArrayLike,
    target: ArrayLike,
    axis: int,
    weight: ArrayLike | None,
    sample_weight: ArrayLike | None,
    ignore_index: int | None,
    numbers: tuple[Any, Any, Any, Any],
    reduction: Reduction,
    workers: int,
    *,
    return_lse: bool = False,
    with_grad: bool = False,
    with_hess: bool = False,
    out: Array | None = None,
) -> tuple[Any, Any, Any, Any]:
    """The loss of logits, and what is wanted beside it of gradient, Hessian and logsumexp.

    Check, make views, run the kernel, reduce.
    """
    _check_reduction(reduction)
    threads = _workers.thread_count(workers)
    try:
        checked = _checked_numbers(*numbers)
    except TypeError:  # what cannot be hashed is no number either
        checked = _check_numbers(*numbers)
    if (
        checked is _OFF
        and weight is None
        and sample_weight is None
        and ignore_index is None
        and reduction != "none"
        and not (return_lse or with_hess)
    ):
        for module in kernels.serving[1:]:
            small = module.small_cross_entropy(logits, target, axis, out, reduction == "mean", with_grad)
            if small is not None:
                return _scalar(small[0], computed_dtype(logits.dtype)), small[1], None, None  # type: ignore[union-attr]

    x = floating_array(logits, "logits")
    given = _given(x, target, axis, weight, sample_weight, ignore_index, checked, reduction)
    layout = given.layout
    grad = layout.output(out, x.dtype, in_place=[x], read_later=given.arrays()) if with_grad else None
    hess = layout.output(None, x.dtype, in_place=[x]) if with_hess else None
    row_dtype = computed_dtype(x.dtype)
    losses = layout.empty_row_results(row_dtype) if reduction == "none" else None
    lse = layout.empty_row_results(row_dtype) if return_lse else None
    total = 0.0
    if layout.row_count > 0:
        total = _workers.run(
            threads,
            kernels.serving.of(x.dtype).cross_entropy,
            as_stored(layout.view(x)),
            given.target,
            given.class_weights,
            given.row_weights,
            given.options,
            losses,
            lse,
            None if grad is None else as_stored(grad),
            None if hess is None else as_stored(hess),
            grad is not None and exceeds_cache(grad),
        )
    return (
        _scalar(total if given.options.divisor else math.nan, row_dtype)
        if losses is None
        else layout.row_results(losses),
        None if grad is None else layout.result(grad, out, x.dtype),
        None if hess is None else layout.result(hess, None, x.dtype),
        None if lse is None else layout.row_results(lse),
    )


def _of_probs(
    probs: ArrayLike,
    target: ArrayLike,
    axis: int,
    reduction: Reduction,
    *,
    with_grad: bool = False,
    out: Array | None = None,
) -> tuple[Any, Any]:
    """The loss of predicted probabilities, and the gradient if it is wanted."""
    _check_reduction(reduction)
    given = floating_array(probs, "probs")
    p = widened(given)
    layout = layout_of(p, single_axis(axis))
    require_classes(layout, axis, "probs")
    labels, q, _ = target_view(target, layout, "probs", p.dtype)
    read_later = [a for a in (labels, q) if a is not None]
    grad = (
        layout.output(out, given.dtype, in_place=[given], read_later=read_later, computed=p.dtype)
        if with_grad
        else None
    )
    losses = layout.empty_row_results(p.dtype) if reduction == "none" else None
    divisor = float(layout.row_count) if reduction == "mean" else 1.0
    total = 0.0
    if layout.row_count > 0:
        kernel = kernels.serving.of(p.dtype).from_probs
        options = _Options(None, *_OFF, divisor, divisor)
        total = kernel(layout.view(p), q if labels is None else labels, None, None, options, losses, grad)
    loss = _scalar(total if divisor else math.nan, p.dtype) if losses is None else layout.row_results(losses)
    return loss, None if grad is None else layout.result(grad, out, given.dtype)


def _check_reduction(reduction: Any) -> None:
    if not isinstance(reduction, str) or reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction is {reduction!r}; accepted are 'mean', 'sum' and 'none'")


class _Options(NamedTuple):
    """The options as kernels take them, and what the sums of a mean are divided by."""

    ignored: int | None
    label_smoothing: float
    z_loss: float
    softcap: float
    temperature: float
    divisor: float
    z_divisor: float


class _Given(NamedTuple):
    """A checked target, its weights and options, as kernels take them."""

    layout: Layout
    target: Array  # labels (outer, inner), or probabilities (outer, classes, inner)
    class_weights: memoryview | None  # no array: every part of a call has it whole
    row_weights: Array | None
    options: _Options

    def arrays(self) -> list[Array]:
        weights = None if self.class_weights is None else np.asarray(self.class_weights)
        return [a for a in (self.target, weights, self.row_weights) if a is not None]


def _given(
    x: Array,
    target: ArrayLike,
    axis: int,
    weight: ArrayLike | None,
    sample_weight: ArrayLike | None,
    ignore_index: int | None,
    numbers: _Numbers,
    reduction: Reduction,
) -> _Given:
    layout = layout_of(x, single_axis(axis))
    require_classes(layout, axis, "logits")
    dtype = computed_dtype(x.dtype)
    ignore_index = integer_or_none(ignore_index, "ignore_index")
    labels, probs, ignored = target_view(target, layout, "logits", dtype, ignore_index)
    by_class = None if weight is None else class_weights(weight, layout, dtype)
    by_row = None if sample_weight is None else row_weights(sample_weight, layout, dtype)
    if reduction != "mean":
        divisor, z_divisor = 1.0, 1.0
    elif by_row is None and (labels is None or (by_class is None and ignored is None)):
        divisor = z_divisor = float(layout.row_count)
    elif layout.row_count == 0:
        divisor = z_divisor = 0.0
    else:
        divisor, z_divisor, row_exponent, class_exponent = kernels.serving.of(dtype).sums_of_weights(
            labels, by_row, None if labels is None else by_class, ignored
        )
        if row_exponent and by_row is not None:
            by_row = np.ldexp(by_row, row_exponent)
        if class_exponent and by_class is not None:
            by_class = np.ldexp(by_class, class_exponent)
    if by_class is None and numbers.label_smoothing:
        by_class = np.ones(layout.classes, dtype)
    checked = probs if labels is None else labels
    assert checked is not None
    options = _Options(ignored, *numbers, divisor, z_divisor)
    return _Given(layout, checked, None if by_class is None else by_class.data, by_row, options)


def _scalar(total: float, dtype: np.dtype[Any]) -> Any:
    """The total in the logits' dtype: inf, without a warning, if it is too large for that."""
    if abs(total) < _ALWAYS_FITS:  # the context below would be an eighth of a small call
        return dtype.type(total)
    with np.errstate(over="ignore"):
        return dtype.type(total)
