"""Softmax, log-softmax, logsumexp, and the derivatives of the first two."""

from __future__ import annotations

from typing import Any, SupportsIndex, cast

import numpy as np
from numpy.typing import ArrayLike

from . import kernels
from ._arrays import Arrays, exponents_and_factors, gradients_and_results, logits_and
from ._layout import lay_out
from ._options import Axes, axes_and_threads, checked_temperature, single_axis
from ._results import result_of, rows_of
from ._targets import checked_mask
from ._types import Array, Axis, Out, Real, RowResults


def softmax(
    x: ArrayLike,
    axis: Axis = -1,
    *,
    temperature: Real = 1.0,
    where: ArrayLike | None = None,
    out: Out = None,
    workers: SupportsIndex | None = None,
) -> Array:
    """Probabilities from logits.

    ``p_j = exp(x_j - m) / sum_k exp(x_k - m)``, with m the largest logit of the row, of logits that were divided by the
    temperature.

    Parameters
    ----------
    x : array_like
        Logits, of any shape. float32 and float64 are computed as such, float16 and bfloat16
        (of ml_dtypes) in float32, integers and booleans in float64.
    axis : int, tuple of ints or None, default -1
        The class axis, or axes: the probabilities along them sum to 1. None stands for all axes. Any axis of an array
        in C or F order is reached without a copy; where the strides cannot be described as (outer, classes, inner),
        x is copied once.
    temperature : float, default 1
        What the logits are divided by, from 1e-30 to 1e30: a few rows at a time, without a copy of all.
    where : array_like of bool, optional
        Which logits take part, of a shape that broadcasts to that of x. The others have probability 0, whatever they
        are; a row without any is all 0.
    out : ndarray, optional
        Where to put the probabilities, with the shape and dtype of the result. It may be x itself: then nothing of the
        size of x is allocated. It may also have any strides, or overlap x in part, which takes a copy.
    workers : int, optional
        How many threads may share the rows, if there are many numbers; -1 stands for all CPUs that this process may
        use. By default `get_workers` of them, which is 1 unless it was set. The results have the same bits for any
        number.

    Returns
    -------
    ndarray
        The probabilities, in the shape of x: `out`, if given.

    Raises
    ------
    TypeError
        If x is complex, object, string, masked or of another floating type, `where` is not boolean, `out` has another
        dtype, or `axis` is neither an integer nor a tuple of integers nor None.
    ValueError
        If `where` does not broadcast to the shape of x, `out` has another shape or is read-only,
        or `workers` is 0 or below -CPUs.
    numpy.exceptions.AxisError
        If `axis` is out of range.

    See Also
    --------
    log_softmax : Its logarithm, without loss of digits.
    softmax_backward : The vector-Jacobian product.

    Notes
    -----
    A probability is within 4 units in the last place of the exact value for the logits as given (a temperature rounds
    them). Those below the
    smallest normal number may be 0. Half precision is rounded once, at the end. A row with NaN or +inf is NaN; -inf has
    probability 0; a row of -inf alone is NaN. The usual shift by the maximum, whose rounding is avoided here, is
    analysed in [1]_.

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
    axes, threads = axes_and_threads(axis, workers)
    divisor = 1.0 if type(temperature) is float and temperature == 1 else checked_temperature(temperature)
    if divisor == 1:
        result: Array | None = kernels.for_plain(x).plain_softmax(x, axes, where, out, threads)
        if result is not None:
            return result
    return _like_logits("softmax", x, axes, divisor, where, out, threads)


def log_softmax(
    x: ArrayLike,
    axis: Axis = -1,
    *,
    temperature: Real = 1.0,
    where: ArrayLike | None = None,
    out: Out = None,
    workers: SupportsIndex | None = None,
) -> Array:
    """Log-probabilities from logits.

    ``log p_j = (x_j - m) - log(sum_k exp(x_k - m))``, with m the largest logit of the row, of logits that were divided
    by the temperature.

    Parameters
    ----------
    x : array_like
        Logits, of any shape; dtypes as in `softmax`.
    axis : int, tuple of ints or None, default -1
        The class axis, or axes; as in `softmax`.
    temperature : float, default 1
        What the logits are divided by; as in `softmax`.
    where : array_like of bool, optional
        Which logits take part; as in `softmax`. The others have -inf, as all of a row without any.
    out : ndarray, optional
        Where to put the log-probabilities; as in `softmax`. It may be x itself.
    workers : int, optional
        As in `softmax`.

    Returns
    -------
    ndarray
        The log-probabilities, in the shape of x: `out`, if given.

    Raises
    ------
    TypeError, ValueError, numpy.exceptions.AxisError
        As in `softmax`.

    See Also
    --------
    log_softmax_backward : The vector-Jacobian product.

    Notes
    -----
    The logarithm is taken as ``log1p`` of the sum without its largest term, so that a probability of almost 1 has
    its exact logarithm and not 0. Special values as in `softmax`; the logarithm of probability 0 is -inf.

    Examples
    --------
    >>> import numpy as np
    >>> from cxent import log_softmax
    >>> log_softmax([1.0, 2.0, 3.0])
    array([-2.40760596, -1.40760596, -0.40760596])

    The digits of a confident prediction stay:

    >>> print(f"{log_softmax(np.float32([17, 0, 0]))[0]:.4e}")
    -8.2799e-08
    >>> log_softmax([1.0, 2.0, 3.0], where=[True, True, False])
    array([-1.31326169, -0.31326169,        -inf])
    """
    axes, threads = axes_and_threads(axis, workers)
    divisor = 1.0 if type(temperature) is float and temperature == 1 else checked_temperature(temperature)
    if divisor == 1:
        result: Array | None = kernels.for_plain(x).plain_log_softmax(x, axes, where, out, threads)
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
    """The logarithm of the sum of exponentials.

    ``lse = m + log(sum_k exp(x_k - m))``, with m the largest number of the row, and with factors
    ``log(sum_k b_k exp(x_k))``.

    Parameters
    ----------
    x : array_like
        Of any shape; dtypes as in `softmax`.
    axis : int, tuple of ints or None, default -1
        The axis, or axes, to sum over; None stands for all.
    keepdims : bool, default False
        Whether the axes summed over stay, with length one.
    b : array_like, optional
        Factors of the exponentials, of either sign, broadcast with x. Where one is 0, x takes no part.
    return_sign : bool, default False
        Whether to return the sign of the sum too, and the logarithm of its magnitude. Without it, that of a negative
        sum is NaN.
    where : array_like of bool, optional
        Which numbers take part, of a shape that broadcasts to that of x. Without any, a row is -inf.
    workers : int, optional
        As in `softmax`.

    Returns
    -------
    lse : ndarray or scalar
        One number per row, in the dtype in which x is computed (float32 for half precision), or the wider one of `b`.
        A Python number has no dtype and follows the other argument.
    sign : ndarray or scalar
        1, -1 or 0 per row, if `return_sign`; NaN where lse is.

    Raises
    ------
    TypeError, ValueError, numpy.exceptions.AxisError
        As in `softmax`, and if the shapes of x and `b` cannot be broadcast.

    Notes
    -----
    A row with NaN is NaN; otherwise a row with +inf is +inf, and a row of -inf alone is -inf, as in SciPy and PyTorch;
    so is the sum of no numbers. With factors the sum is taken in float64; where terms of both signs nearly cancel, so
    do digits.

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
    if b is None and where is None and not keepdims and not return_sign:
        result: RowResults | None = kernels.for_plain(x).plain_logsumexp(x, axes, threads)
        if result is not None:
            return result
    arrays = logits_and("x", x, axes, where=where) if b is None else exponents_and_factors(x, b, axes, where)
    mask = None if where is None else checked_mask(arrays.where, arrays.x.shape)
    lse, sign = _logsumexp(arrays, mask, threads) if b is None else _logsumexp_with_factors(arrays, mask, threads)
    if sign is not None and not return_sign:
        lse = np.where(sign < 0, np.nan, lse)[()]
    if sign is not None:
        with np.errstate(all="ignore"):
            lse, sign = lse.astype(arrays.result_dtype), sign.astype(arrays.result_dtype)
    elif return_sign:  # 0 where the logarithm is -inf
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
    """The gradient with respect to the logits, from the gradient with respect to their softmax.

    ``dL/dx_j = p_j * (g_j - sum_k g_k p_k)``: the product of g with `softmax_jacobian`, without the Jacobian.

    Parameters
    ----------
    grad_output : array_like
        The derivatives g of a scalar L with respect to the probabilities, in their shape.
    output : array_like
        The probabilities p that `softmax` returned.
    axis : int, tuple of ints or None, default -1
        The class axis, or axes, of the softmax.
    where : array_like of bool, optional
        The mask that `softmax` was given. The gradient is 0 elsewhere, whatever g is there.
    out : ndarray, optional
        Where to put the gradient; it may be one of the inputs.
    workers : int, optional
        As in `softmax`.

    Returns
    -------
    ndarray
        The gradient, in the wider of the two dtypes: `out`, if given. Half precision is computed from float32 copies.

    Raises
    ------
    ValueError
        If the two shapes differ.
    TypeError, ValueError, numpy.exceptions.AxisError
        As in `softmax`.

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
    """The gradient with respect to the logits, from the gradient with respect to their log-softmax.

    ``dL/dx_j = g_j - exp(l_j) * sum_k g_k``

    Parameters
    ----------
    grad_output : array_like
        The derivatives g of a scalar L with respect to the log-probabilities, in their shape.
    output : array_like
        The log-probabilities l that `log_softmax` returned.
    axis : int, tuple of ints or None, default -1
        The class axis, or axes, of the log-softmax.
    where : array_like of bool, optional
        The mask that `log_softmax` was given. The gradient is 0 elsewhere, whatever g is there.
    out : ndarray, optional
        Where to put the gradient; it may be one of the inputs.
    workers : int, optional
        As in `softmax`.

    Returns
    -------
    ndarray
        The gradient, in the wider of the two dtypes: `out`, if given. Half precision is computed from float32 copies.

    Raises
    ------
    ValueError
        If the two shapes differ.
    TypeError, ValueError, numpy.exceptions.AxisError
        As in `softmax`.

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
    """The Jacobian of the softmax, from the probabilities.

    ``dp_i/dx_j = p_i * (1 - p_j)`` if i = j, and ``-p_i * p_j`` if not.

    Parameters
    ----------
    p : array_like
        Probabilities, as `softmax` returned them; of at most 63 dimensions.
    axis : int, default -1
        The class axis of the softmax.

    Returns
    -------
    ndarray, shape (..., C, C)
        ``diag(p) - p p^T`` of every row: the other axes in their order, and then i and j. For a gradient alone,
        `softmax_backward` needs no C * C memory.

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
    function: str, x: ArrayLike, axes: Axes, temperature: float, where: ArrayLike | None, out: Out, threads: int
) -> Array:
    """What a kernel makes of logits, in their shape."""
    arrays = logits_and("x", x, axes, where=where, out=out)
    shape = arrays.shape
    mask = None if where is None else checked_mask(arrays.where, shape.whole)
    laid = lay_out(shape, [arrays.x, mask], outputs=[True], result_dtype=arrays.result_dtype, out=out)
    if shape.classes and shape.row_count:
        kernel = getattr(kernels.serving.of(arrays.dtype), function)
        kernel(*laid.inputs, temperature, *laid.outputs, laid.past_caches, threads)
    return cast(Array, result_of(laid))


def _logsumexp(arrays: Arrays, mask: Array | None, threads: int) -> tuple[RowResults, RowResults]:
    """The logsumexp of each row, and no sign."""
    laid = lay_out(arrays.shape, [arrays.x, mask], rows=[arrays.dtype, None])
    lse, _ = laid.rows
    if arrays.shape.classes:
        kernels.serving.of(arrays.dtype).logsumexp(*laid.inputs, lse, threads)
    else:
        lse.fill(-np.inf)
    lse, sign = rows_of(laid)
    return lse, sign


def _logsumexp_with_factors(arrays: Arrays, mask: Array | None, threads: int) -> tuple[RowResults, RowResults]:
    """The logarithm of the magnitude of sum(b * exp(x)), and the sign of that, in float64."""
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
    """The gradient that a backward kernel computes; in half precision from float32 copies."""
    arrays = gradients_and_results(grad_output, output, axes, where, out)
    shape = arrays.shape
    laid = lay_out(
        shape, [arrays.x, arrays.beside, checked_mask(arrays.where, shape.whole)],
        outputs=[True], result_dtype=arrays.result_dtype, dtype=arrays.dtype, out=out, in_place=2,
    )  # fmt: skip
    if shape.classes and shape.row_count:
        y, g, mask = laid.inputs
        getattr(kernels.serving.of(arrays.dtype), function)(g, y, mask, *laid.outputs, threads)
    return cast(Array, result_of(laid))
