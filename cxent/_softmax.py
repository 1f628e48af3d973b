"""Softmax, log-softmax and logsumexp, and the derivatives of the first two."""

from __future__ import annotations

from typing import Any, SupportsIndex, cast

import numpy as np
from numpy.typing import ArrayLike

from . import kernels
from ._arrays import Arrays, exponents_and_factors, gradients_and_results, logits_and
from ._layout import lay_out
from ._options import Axes, axes_and_threads, single_axis, softmax_options
from ._results import result_of, rows_of
from ._targets import checked_mask, mask_and_temperatures
from ._types import Array, Axis, Out, RowResults, Temperature


def softmax(
    x: ArrayLike,
    axis: Axis = -1,
    *,
    temperature: Temperature = 1.0,
    where: ArrayLike | None = None,
    out: Out = None,
    workers: SupportsIndex | None = None,
) -> Array:
    r"""Probabilities from logits.

    .. math:: p_j = \frac{\exp(x_j)}{\sum_k \exp(x_k)}

    where the logits have been divided by the temperature.

    Parameters
    ----------
    x : array_like
        Logits, of any shape. float32 and float64 are computed in their own dtype, float16 and bfloat16 (from ml_dtypes)
        in float32, integers and booleans in float64.
    axis : int, tuple of ints or None, default -1
        Class axis or axes, along which the probabilities sum to 1. None means all axes. Any axis of an array in C or F
        order is used without a copy; an array whose strides do not fit a view (outer, classes, inner) is copied once.
    temperature : float or array_like, default 1
        Logits are divided by it, a few rows at a time, so no copy of the logits is made; from 1e-30 to 1e30. One number
        for all rows, or an array that broadcasts to the shape of x without the class axes: one for each row.
    where : array_like of bool, optional
        Which logits take part, in a shape that broadcasts to that of x. All others have probability 0, whatever they
        are. In a row without any, all probabilities are 0.
    out : ndarray, optional
        Where to put the probabilities, with the shape and dtype of the result. It may be x itself; then nothing of its
        size is allocated. It may also have any strides or partly overlap x, at the cost of a copy.
    workers : int, optional
        Number of threads that share the rows of large inputs; -1 means all CPUs that this process may use. The default
        is that of `get_workers`: 1, unless it was set. The results have the same bits for any number.

    Returns
    -------
    ndarray
        The probabilities, in the shape of x. It is `out`, if given.

    Raises
    ------
    TypeError
        If x is complex, object, string, masked or of another floating dtype, `where` is not boolean, `out` has another
        dtype than the result, or `axis` is not an integer, a tuple of integers or None.
    ValueError
        If `where` does not broadcast to the shape of x, or `temperature` to that of its rows, a temperature is out of
        range, `out` has another shape or is read-only, or `workers` is 0 or below minus the number of CPUs.
    numpy.exceptions.AxisError
        If `axis` is out of range.

    See Also
    --------
    log_softmax : The logarithm of the softmax, without loss of digits.
    softmax_backward : The vector-Jacobian product.

    Notes
    -----
    Probabilities are within 4 units in the last place of the exact value for the logits as given; a temperature adds
    its own rounding. Results below the smallest normal number may be 0. Half precision is rounded once, at the end. A
    row that contains NaN or +inf is NaN. A logit of -inf has probability 0, but a row of nothing but -inf is NaN.

    The usual shift by the maximum is analysed in [1]_; its rounding is avoided here.

    References
    ----------
    .. [1] P. Blanchard, D. J. Higham and N. J. Higham, "Accurately computing the log-sum-exp and softmax functions",
       IMA Journal of Numerical Analysis 41(4), 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from cxent import softmax
    >>> softmax([[1.0, 2.0, 3.0], [1000.0, 1000.0, -np.inf]])
    array([[0.09003057, 0.24472847, 0.66524096],
           [0.5       , 0.5       , 0.        ]])
    >>> softmax([1.0, 2.0, 3.0], where=[True, True, False])
    array([0.26894142, 0.73105858, 0.        ])
    """
    axes, threads, divisor = softmax_options(axis, workers, temperature)
    result: Array | None = kernels.for_plain(x).plain_softmax(x, axes, divisor, where, out, threads)
    if result is not None:
        return result
    return _like_logits("softmax", x, axes, divisor, where, out, threads)


def log_softmax(
    x: ArrayLike,
    axis: Axis = -1,
    *,
    temperature: Temperature = 1.0,
    where: ArrayLike | None = None,
    out: Out = None,
    workers: SupportsIndex | None = None,
) -> Array:
    r"""Log-probabilities from logits.

    .. math:: \log p_j = x_j - \log \sum_k \exp(x_k)

    where the logits have been divided by the temperature.

    Parameters
    ----------
    x : array_like
        Logits, of any shape; dtypes as in `softmax`.
    axis : int, tuple of ints or None, default -1
        Class axis or axes; None means all axes.
    temperature : float or array_like, default 1
        Logits are divided by it; from 1e-30 to 1e30. One number, or one for each row, as in `softmax`.
    where : array_like of bool, optional
        Which logits take part, in a shape that broadcasts to that of x. All others have log-probability -inf.
    out : ndarray, optional
        Where to put the log-probabilities, with the shape and dtype of the result. It may be x itself.
    workers : int, optional
        Number of threads; -1 means all CPUs.

    Returns
    -------
    ndarray
        The log-probabilities, in the shape of x. It is `out`, if given.

    Raises
    ------
    TypeError, ValueError, numpy.exceptions.AxisError
        As in `softmax`.

    See Also
    --------
    log_softmax_backward : The vector-Jacobian product.

    Notes
    -----
    With m the largest logit, it is computed as :math:`(x_j - m) - \mathrm{log1p}(r)`, where r is the sum of
    :math:`\exp(x_k - m)` over all other classes. The logarithm of a probability of almost 1 therefore keeps its digits,
    and does not become 0. Special values are as in `softmax`; the logarithm of probability 0 is -inf.

    Examples
    --------
    >>> import numpy as np
    >>> from cxent import log_softmax
    >>> log_softmax([1.0, 2.0, 3.0])
    array([-2.40760596, -1.40760596, -0.40760596])

    A confident prediction keeps its digits:

    >>> print(f"{log_softmax(np.float32([17, 0, 0]))[0]:.4e}")
    -8.2799e-08
    >>> log_softmax([1.0, 2.0, 3.0], where=[True, True, False])
    array([-1.31326169, -0.31326169,        -inf])
    """
    axes, threads, divisor = softmax_options(axis, workers, temperature)
    result: Array | None = kernels.for_plain(x).plain_log_softmax(x, axes, divisor, where, out, threads)
    if result is not None:
        return result
    return _like_logits("log_softmax", x, axes, divisor, where, out, threads)


def logsumexp(
    x: ArrayLike,
    axis: Axis = -1,
    *,
    keepdims: bool = False,
    b: ArrayLike | None = None,
    return_sign: bool = False,
    where: ArrayLike | None = None,
    workers: SupportsIndex | None = None,
) -> Any:
    r"""The logarithm of the sum of exponentials.

    .. math:: \mathrm{lse} = \log \sum_k b_k \exp(x_k)

    where b is 1 unless given.

    Parameters
    ----------
    x : array_like
        Numbers, of any shape; dtypes as in `softmax`.
    axis : int, tuple of ints or None, default -1
        Axis or axes to sum over; None means all axes.
    keepdims : bool, default False
        Whether to keep the axes summed over, with length one.
    b : array_like, optional
        Factors of the exponentials, of either sign, broadcast with x. Where b is 0, x takes no part.
    return_sign : bool, default False
        Whether to return the logarithm of the magnitude of the sum, and its sign. Otherwise a negative sum gives NaN.
    where : array_like of bool, optional
        Which numbers take part, in a shape that broadcasts to that of x. A row without any gives -inf.
    workers : int, optional
        Number of threads; -1 means all CPUs.

    Returns
    -------
    lse : ndarray or scalar
        One number per row, in the dtype in which x is computed (float32 for half precision) or that of `b`, whichever
        is wider. A Python number has no dtype of its own, and takes that of the other argument.
    sign : ndarray or scalar
        1, -1 or 0 per row, or NaN where lse is NaN; if `return_sign`.

    Raises
    ------
    TypeError, ValueError, numpy.exceptions.AxisError
        As in `softmax`, and if the shapes of x and `b` do not broadcast.

    Notes
    -----
    As in SciPy and PyTorch, a row with NaN gives NaN, any other row with +inf gives +inf, and a row of nothing but
    -inf, or of nothing at all, gives -inf. With factors, the sum is computed in float64; if positive and negative terms
    nearly cancel, digits are lost.

    Examples
    --------
    >>> import numpy as np
    >>> from cxent import logsumexp
    >>> print(logsumexp([1000.0, 1000.0]))
    1000.6931471805599
    >>> logsumexp(np.zeros((2, 4)), keepdims=True)
    array([[1.38629436],
           [1.38629436]])
    >>> lse, sign = logsumexp([1.0, 2.0], b=[1.0, -1.0], return_sign=True)
    >>> print(lse.round(8), sign)
    1.54132485 -1.0
    """
    axes, threads = axes_and_threads(axis, workers)
    are_alone = b is None and where is None and not keepdims and not return_sign
    if are_alone:
        result: RowResults | None = kernels.for_plain(x).plain_logsumexp(x, axes, threads)
        if result is not None:
            return result
    arrays = logits_and("x", x, axes, where=where) if b is None else exponents_and_factors(x, b, axes, where)
    if are_alone and arrays.are_converted:
        result = kernels.for_plain(arrays.x).plain_logsumexp(arrays.x, axes, threads)
        if result is not None:
            return result
    mask = None if where is None else checked_mask(arrays.where, arrays.x.shape)
    lse, sign = _logsumexp(arrays, mask, threads) if b is None else _logsumexp_with_factors(arrays, mask, threads)
    if sign is not None and not return_sign:
        lse = np.where(sign < 0, np.nan, lse)[()]
    if sign is not None:
        with np.errstate(all="ignore"):
            lse, sign = lse.astype(arrays.result_dtype), sign.astype(arrays.result_dtype)
    elif return_sign:  # 0 if the logarithm is -inf
        sign = np.where(np.isnan(lse), lse, lse != -np.inf).astype(lse.dtype)[()]
    if keepdims:
        shape = [1 if a in arrays.shape.class_axes else n for a, n in enumerate(arrays.shape.whole)]
        lse, sign = np.reshape(lse, shape), None if sign is None else np.reshape(sign, shape)
    return (lse, sign) if return_sign else lse


def softmax_backward(
    grad_output: ArrayLike,
    output: ArrayLike,
    axis: Axis = -1,
    *,
    where: ArrayLike | None = None,
    out: Out = None,
    workers: SupportsIndex | None = None,
) -> Array:
    r"""The gradient with respect to logits, given the gradient with respect to their softmax.

    .. math:: \partial L / \partial x_j = p_j \, (g_j - \sum_k g_k p_k)

    This is the product of g with `softmax_jacobian`, computed without the Jacobian.

    Parameters
    ----------
    grad_output : array_like
        Gradient g of a scalar L with respect to the probabilities, in their shape.
    output : array_like
        Probabilities p, as returned by `softmax`.
    axis : int, tuple of ints or None, default -1
        Class axis or axes of the softmax.
    where : array_like of bool, optional
        The mask that `softmax` was given. All other gradients are 0, whatever g is there.
    out : ndarray, optional
        Where to put the gradient. It may be one of the inputs.
    workers : int, optional
        Number of threads; -1 means all CPUs.

    Returns
    -------
    ndarray
        The gradient, in the wider of the two dtypes. It is `out`, if given. Half precision is computed from float32
        copies.

    Raises
    ------
    TypeError, ValueError, numpy.exceptions.AxisError
        As in `softmax`, and if the two shapes differ.

    Examples
    --------
    >>> from cxent import softmax, softmax_backward
    >>> p = softmax([1.0, 2.0, 3.0])
    >>> softmax_backward([1.0, 0.0, 0.0], p)
    array([ 0.08192507, -0.02203304, -0.05989202])
    """
    axes, threads = axes_and_threads(axis, workers)
    result: Array | None = kernels.for_plain(grad_output).plain_softmax_backward(
        grad_output, output, axes, where, out, threads
    )
    if result is not None:
        return result
    return _backward("softmax_backward", grad_output, output, axes, where, out, threads)


def log_softmax_backward(
    grad_output: ArrayLike,
    output: ArrayLike,
    axis: Axis = -1,
    *,
    where: ArrayLike | None = None,
    out: Out = None,
    workers: SupportsIndex | None = None,
) -> Array:
    r"""The gradient with respect to logits, given the gradient with respect to their log-softmax.

    .. math:: \partial L / \partial x_j = g_j - \exp(l_j) \sum_k g_k

    Parameters
    ----------
    grad_output : array_like
        Gradient g of a scalar L with respect to the log-probabilities, in their shape.
    output : array_like
        Log-probabilities l, as returned by `log_softmax`.
    axis : int, tuple of ints or None, default -1
        Class axis or axes of the log-softmax.
    where : array_like of bool, optional
        The mask that `log_softmax` was given. All other gradients are 0, whatever g is there.
    out : ndarray, optional
        Where to put the gradient. It may be one of the inputs.
    workers : int, optional
        Number of threads; -1 means all CPUs.

    Returns
    -------
    ndarray
        The gradient, in the wider of the two dtypes. It is `out`, if given. Half precision is computed from float32
        copies.

    Raises
    ------
    TypeError, ValueError, numpy.exceptions.AxisError
        As in `softmax`, and if the two shapes differ.

    Examples
    --------
    >>> from cxent import log_softmax, log_softmax_backward
    >>> log_p = log_softmax([1.0, 2.0, 3.0])
    >>> log_softmax_backward([-1.0, 0.0, 0.0], log_p)
    array([-0.90996943,  0.24472847,  0.66524096])
    """
    axes, threads = axes_and_threads(axis, workers)
    result: Array | None = kernels.for_plain(grad_output).plain_log_softmax_backward(
        grad_output, output, axes, where, out, threads
    )
    if result is not None:
        return result
    return _backward("log_softmax_backward", grad_output, output, axes, where, out, threads)


def softmax_jacobian(p: ArrayLike, axis: SupportsIndex = -1) -> Array:
    r"""The Jacobian of the softmax, from the probabilities.

    .. math:: \partial p_i / \partial x_j = p_i (\delta_{ij} - p_j)

    Parameters
    ----------
    p : array_like
        Probabilities, as returned by `softmax`; at most 63 dimensions.
    axis : int, default -1
        Class axis of the softmax.

    Returns
    -------
    ndarray, shape (..., C, C)
        :math:`\mathrm{diag}(p) - p p^T` for each row; the other axes come first, in their order. To compute a gradient,
        use `softmax_backward`, which needs no C x C memory.

    Raises
    ------
    TypeError, ValueError, numpy.exceptions.AxisError
        As in `softmax`.

    Examples
    --------
    >>> from cxent import softmax_jacobian
    >>> softmax_jacobian([0.5, 0.25, 0.25])
    array([[ 0.25  , -0.125 , -0.125 ],
           [-0.125 ,  0.1875, -0.0625],
           [-0.125 , -0.0625,  0.1875]])
    """
    class_axis = single_axis(axis)
    result: Array | None = kernels.for_plain(p).plain_softmax_jacobian(p, class_axis)
    if result is not None:
        return result
    arrays = logits_and("p", p, class_axis, widened=True)
    if arrays.x.ndim == 64:
        raise ValueError("p must have at most 63 dimensions, since the Jacobian has one more, got 64")
    rows = np.moveaxis(arrays.x, class_axis, -1)
    with np.errstate(all="ignore"):
        jacobian: Array = -rows[..., :, np.newaxis] * rows[..., np.newaxis, :]
        classes = rows.shape[-1]
        diagonals = jacobian.reshape(*rows.shape[:-1], classes * classes)[..., :: classes + 1]
        diagonals[...] = rows * (1 - rows)
        return jacobian.astype(arrays.result_dtype, copy=False)


def _like_logits(
    function: str,
    x: ArrayLike,
    axes: Axes,
    temperature: float | ArrayLike,
    where: ArrayLike | None,
    out: Out,
    threads: int,
) -> Array:
    """The result of a kernel that returns an array of the logits' shape."""
    by_row = None if isinstance(temperature, float) else temperature
    arrays = logits_and("x", x, axes, temperatures=by_row, where=where, out=out)
    if arrays.are_converted:
        divisor = temperature if by_row is None else arrays.temperatures
        shorter = getattr(kernels.for_plain(arrays.x), f"plain_{function}")
        result: Array | None = shorter(arrays.x, axes, divisor, arrays.where, out, threads)
        if result is not None:
            return result
    shape = arrays.shape
    mask, temperatures = mask_and_temperatures(arrays)
    laid = lay_out(
        shape, [arrays.x, mask], [temperatures],
        outputs=[True], result_dtype=arrays.result_dtype, out=out,
    )  # fmt: skip
    if shape.classes and shape.row_count:
        kernel = getattr(kernels.serving.of(arrays.dtype), function)
        (of_rows,) = laid.row_inputs
        kernel(*laid.inputs, temperature if of_rows is None else of_rows, *laid.outputs, laid.past_caches, threads)
    return cast(Array, result_of(laid))


def _logsumexp(arrays: Arrays, mask: Array | None, threads: int) -> tuple[RowResults, RowResults]:
    """The logsumexp of each row, and None for its sign."""
    laid = lay_out(arrays.shape, [arrays.x, mask], rows=[arrays.dtype, None])
    lse, _ = laid.rows
    if arrays.shape.classes:
        kernels.serving.of(arrays.dtype).logsumexp(*laid.inputs, lse, threads)
    else:
        lse.fill(-np.inf)
    lse, sign = rows_of(laid)
    return lse, sign


def _logsumexp_with_factors(arrays: Arrays, mask: Array | None, threads: int) -> tuple[RowResults, RowResults]:
    """The logarithm of the magnitude of sum(b * exp(x)), and the sign of that sum, in float64."""
    x, b = arrays.x, arrays.beside
    assert b is not None
    b = b if mask is None else np.where(mask, b, 0)
    x = np.where(b == 0, -np.inf, x)
    laid = lay_out(arrays.shape, [x, np.broadcast_to(b, arrays.shape.whole)], rows=[arrays.dtype, arrays.dtype])
    lse, sign = laid.rows
    if arrays.shape.classes:
        kernels.serving.float64.logsumexp_factors(*laid.inputs, lse, sign, threads)
    else:
        lse.fill(-np.inf)
        sign.fill(0)
    lse, sign = rows_of(laid)
    return lse, sign


def _backward(
    function: str,
    grad_output: ArrayLike,
    output: ArrayLike,
    axes: Axes,
    where: ArrayLike | None,
    out: Out,
    threads: int,
) -> Array:
    """The gradient that a backward kernel computes; for half precision, from float32 copies."""
    arrays = gradients_and_results(grad_output, output, axes, where, out)
    if arrays.are_converted and arrays.dtype == arrays.result_dtype:
        shorter = getattr(kernels.for_plain(arrays.x), f"plain_{function}")
        result: Array | None = shorter(arrays.beside, arrays.x, axes, arrays.where, out, threads)
        if result is not None:
            return result
    shape = arrays.shape
    laid = lay_out(
        shape, [arrays.x, arrays.beside, checked_mask(arrays.where, shape.whole)],
        outputs=[True], result_dtype=arrays.result_dtype, dtype=arrays.dtype, out=out, in_place=2,
    )  # fmt: skip
    if shape.classes and shape.row_count:
        y, g, mask = laid.inputs
        getattr(kernels.serving.of(arrays.dtype), function)(g, y, mask, *laid.outputs, threads)
    return cast(Array, result_of(laid))
