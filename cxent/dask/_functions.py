"""The functions of `cxent.dask`, which build task graphs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, SupportsIndex, TypeAlias

import dask.array as da
import numpy as np
from numpy.typing import ArrayLike

import cxent

from .. import sharded
from .._arrays import computed_dtype, logits_and, plain_array, shape_of
from .._options import LossOptions, loss_options, score_options, single_axis
from .._scoring import TokenLogprobs
from .._targets import checked_ids, checked_mask, checked_targets
from .._types import Array, Real, Reduction
from . import _chunks as chunk

DaskArray: TypeAlias = Any
"""A Dask array; Dask has no types."""

_from_numpy: Any = da.from_array  # (typed as if chunks could only be strings)


def softmax(x: DaskArray, axis: SupportsIndex = -1, *, where: ArrayLike | None = None) -> DaskArray:
    """Softmax of a Dask array.

    Parameters
    ----------
    x : dask.array.Array
        Logits, with chunks of known sizes; dtypes as in `cxent.softmax`.
    axis : int, default -1
        Class axis.
    where : array_like or dask.array.Array of bool, optional
        Which classes take part, in a shape that broadcasts to that of x.

    Returns
    -------
    dask.array.Array
        Probabilities, in the shape, dtype and chunks of x.

    Raises
    ------
    TypeError
        If x is not a Dask array, or has none of the dtypes of `cxent.softmax`, or the mask is not boolean.
    ValueError
        If chunks have unknown sizes, or the mask does not broadcast.
    numpy.exceptions.AxisError
        If `axis` is out of range.

    Examples
    --------
    >>> import dask.array as da
    >>> import numpy as np
    >>> from cxent.dask import softmax
    >>> x = da.from_array(np.zeros((2, 4)), chunks=(1, 2))
    >>> softmax(x).compute()
    array([[0.25, 0.25, 0.25, 0.25],
           [0.25, 0.25, 0.25, 0.25]])
    """
    return _of_every_class(cxent.softmax, sharded.softmax, x, axis, where)


def log_softmax(x: DaskArray, axis: SupportsIndex = -1, *, where: ArrayLike | None = None) -> DaskArray:
    """Log-softmax of a Dask array.

    Parameters
    ----------
    x : dask.array.Array
        Logits, with chunks of known sizes.
    axis : int, default -1
        Class axis.
    where : array_like or dask.array.Array of bool, optional
        Which classes take part, in a shape that broadcasts to that of x.

    Returns
    -------
    dask.array.Array
        Log-probabilities, in the shape, dtype and chunks of x.

    Raises
    ------
    TypeError, ValueError, numpy.exceptions.AxisError
        As in `softmax`.

    Examples
    --------
    >>> import dask.array as da
    >>> from cxent.dask import log_softmax
    >>> log_softmax(da.zeros((1, 2), chunks=1)).compute()
    array([[-0.69314718, -0.69314718]])
    """
    return _of_every_class(cxent.log_softmax, sharded.log_softmax, x, axis, where)


def logsumexp(x: DaskArray, axis: SupportsIndex = -1, *, where: ArrayLike | None = None) -> DaskArray:
    """Logsumexp of a Dask array.

    Parameters
    ----------
    x : dask.array.Array
        Numbers, with chunks of known sizes.
    axis : int, default -1
        Axis to sum over.
    where : array_like or dask.array.Array of bool, optional
        Which classes take part, in a shape that broadcasts to that of x.

    Returns
    -------
    dask.array.Array
        One number per row, in the shape of x without the class axis.

    Raises
    ------
    TypeError, ValueError, numpy.exceptions.AxisError
        As in `softmax`.

    Examples
    --------
    >>> import dask.array as da
    >>> from cxent.dask import logsumexp
    >>> logsumexp(da.zeros((1, 2), chunks=1)).compute()
    array([0.69314718])
    """
    x, axis, dtype = _logits(x, axis, "x")
    mask = _mask(where, x)
    if x.numblocks[axis] == 1:
        return _blocks(chunk.logsumexp, _rows(x, axis), (x, _all(x)), mask, dtype=computed_dtype(dtype), axis=axis)
    return _blocks(
        chunk.finish_rows, _rows(x, axis), (_reduced(x, axis, mask), _all(x)), dtype=computed_dtype(dtype),
        of_whole=sharded.logsumexp,
    )  # fmt: skip


def cross_entropy(
    logits: DaskArray,
    target: ArrayLike,
    *,
    axis: SupportsIndex = -1,
    where: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex | None = None,
    label_smoothing: Real = 0.0,
    z_loss: Real = 0.0,
    softcap: Real | None = None,
    temperature: Real = 1.0,
    reduction: Reduction = "mean",
) -> DaskArray:
    """Cross-entropy of a Dask array of logits.

    `cxent.cross_entropy` explains the options. Those that need whole rows require that each row is in one chunk.

    Parameters
    ----------
    logits : dask.array.Array
        Logits, with chunks of known sizes.
    target : array_like or dask.array.Array
        Class indices. If each row is in one chunk, also class probabilities or one-hot rows.
    axis : int, default -1
        Class axis.
    where : array_like or dask.array.Array of bool, optional
        Which classes take part, in a shape that broadcasts to that of the logits.
    weight : array_like of shape (C,), optional
        Weight of each class.
    sample_weight : array_like or dask.array.Array, optional
        Weight of each row. NaN in a Dask array is found when it is computed.
    ignore_index : int, optional
        Rows with this class index do not count.
    label_smoothing : float, default 0
        Fraction of each target that is spread evenly over all classes. With class weights, it needs whole rows.
    z_loss : float, default 0
        Factor of the squared logsumexp. With class weights, it needs whole rows.
    softcap : float, optional
        Bound that logits approach smoothly. Needs whole rows.
    temperature : float, default 1
        Logits are divided by it.
    reduction : {"mean", "sum", "none"}, default "mean"
        How the losses of the rows are combined.

    Returns
    -------
    dask.array.Array
        The loss, without axes; with reduction "none", one per row.

    Raises
    ------
    TypeError, ValueError, IndexError, numpy.exceptions.AxisError
        As in `cxent.cross_entropy` and in `softmax`, and if an option needs whole rows and classes are in several
        chunks. Errors in the values of Dask arrays are raised when these are computed.

    Examples
    --------
    >>> import dask.array as da
    >>> from cxent.dask import cross_entropy
    >>> print(cross_entropy(da.zeros((2, 4), chunks=(1, 2)), [0, 3]).compute().round(6))
    1.386294
    """
    options = loss_options(axis, reduction, ignore_index, 1, label_smoothing, z_loss, softcap, temperature)
    return _cross_entropy(logits, target, where, weight, sample_weight, options, with_grad=False)[0]


def cross_entropy_with_grad(
    logits: DaskArray,
    target: ArrayLike,
    *,
    axis: SupportsIndex = -1,
    where: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex | None = None,
    label_smoothing: Real = 0.0,
    z_loss: Real = 0.0,
    softcap: Real | None = None,
    temperature: Real = 1.0,
    reduction: Reduction = "mean",
) -> tuple[DaskArray, DaskArray]:
    """Cross-entropy of a Dask array of logits, and its gradient.

    Parameters
    ----------
    logits : dask.array.Array
        Logits, with chunks of known sizes.
    target : array_like or dask.array.Array
        Class indices. If each row is in one chunk, also class probabilities or one-hot rows.
    axis : int, default -1
        Class axis.
    where : array_like or dask.array.Array of bool, optional
        Which classes take part.
    weight : array_like of shape (C,), optional
        Weight of each class.
    sample_weight : array_like or dask.array.Array, optional
        Weight of each row.
    ignore_index : int, optional
        Rows with this class index do not count.
    label_smoothing : float, default 0
        Fraction of each target that is spread evenly over all classes. With class weights, it needs whole rows.
    z_loss : float, default 0
        Factor of the squared logsumexp. With class weights, it needs whole rows.
    softcap : float, optional
        Bound that logits approach smoothly. Needs whole rows.
    temperature : float, default 1
        Logits are divided by it.
    reduction : {"mean", "sum", "none"}, default "mean"
        How the losses of the rows are combined. With "none", the gradient is that of their sum.

    Returns
    -------
    loss : dask.array.Array
        The loss, as returned by `cross_entropy`.
    grad : dask.array.Array
        The gradient, in the shape, dtype and chunks of the logits. Compute both together, as in the example, so that
        the tasks they share run once.

    Raises
    ------
    TypeError, ValueError, IndexError, numpy.exceptions.AxisError
        As in `cross_entropy`.

    Examples
    --------
    >>> import dask
    >>> import dask.array as da
    >>> from cxent.dask import cross_entropy_with_grad
    >>> loss, grad = dask.compute(*cross_entropy_with_grad(da.zeros((2, 2), chunks=1), [0, 1]))
    >>> grad
    array([[-0.25,  0.25],
           [ 0.25, -0.25]])
    """
    options = loss_options(axis, reduction, ignore_index, 1, label_smoothing, z_loss, softcap, temperature)
    return _cross_entropy(logits, target, where, weight, sample_weight, options, with_grad=True)


def token_logprobs(
    logits: DaskArray,
    ids: ArrayLike,
    *,
    axis: SupportsIndex = -1,
    where: ArrayLike | None = None,
    top_k: SupportsIndex = 0,
    temperature: Real = 1.0,
    softcap: Real | None = None,
    ignore_index: SupportsIndex | None = None,
) -> TokenLogprobs:
    """Log-probabilities and ranks of tokens, and the entropy and the top k of each row, for a Dask array of logits.

    Parameters
    ----------
    logits : dask.array.Array
        Logits, with chunks of known sizes.
    ids : array_like or dask.array.Array of int
        One id, or several candidates, for each row.
    axis : int, default -1
        Class axis.
    where : array_like or dask.array.Array of bool, optional
        Which classes take part.
    top_k : int, default 0
        How many of the largest logits of each row to return.
    temperature : float, default 1
        Logits are divided by it.
    softcap : float, optional
        Bound that logits approach smoothly. Needs each row in one chunk.
    ignore_index : int, optional
        Ids with this value do not count.

    Returns
    -------
    TokenLogprobs
        A named tuple as from `cxent.token_logprobs`, but of Dask arrays. If classes are in several chunks, ranks need a
        second pass over the logits.

    Raises
    ------
    TypeError, ValueError, IndexError, numpy.exceptions.AxisError
        As in `cxent.token_logprobs` and in `cross_entropy`.

    Examples
    --------
    >>> import dask
    >>> import dask.array as da
    >>> from cxent.dask import token_logprobs
    >>> scores = token_logprobs(da.from_array([[2.0, 1.0, 0.0, 3.0]], chunks=(1, 2)), [0], top_k=2)
    >>> (rank, top_ids) = dask.compute(scores.rank, scores.top_ids)
    >>> rank, top_ids
    (array([2]), array([[3, 0]]))
    """
    options, k, _, _ = score_options(axis, top_k, ignore_index, 1, softcap, temperature)
    x, axis, dtype = _logits(logits, axis, "logits")
    given_ids = _given(ids, "ids")
    in_memory = logits_and("logits", _zeros(dtype, x.shape), axis, ids=_stand_in(given_ids))
    checked_ids(in_memory, options.ignore_index, top_k=k)
    mask = _mask(where, x)
    labels = _labels(given_ids, "ids", x, axis, options.ignore_index)
    rows, dtype = _rows(x, axis), computed_dtype(dtype)
    of_ids = _labels_of(labels, x, axis)
    candidates = {-2: labels.shape[-1]} if -2 in of_ids else {}
    if x.numblocks[axis] == 1:
        given = {"top_k": k, "temperature": temperature, "softcap": softcap, "ignore_index": ignore_index}
        scores = _blocks(
            chunk.scores, _all(x), (x, _all(x)), mask, (labels, of_ids), dtype=dtype, axis=axis, given=given
        )  # fmt: skip
    else:
        _refuse(x, axis, softcap=softcap)
        whole = _reduced(x, axis, mask, labels, top_k=k, temperature=options.temperature)
        larger = _blocks(
            chunk.count_larger, (*_all(x), *candidates), (x, _all(x)), mask, _firsts(x, axis), (whole, _all(x)),
            (labels, of_ids), dtype=np.int64, axis=axis, new_axes=candidates, adjust_chunks={axis: _one},
        ).sum(axis=axis)  # fmt: skip
        scores = _blocks(
            chunk.scores_of_whole, _all(x), (whole, _all(x)), (larger, of_ids), (labels, of_ids), dtype=dtype,
            ignored=options.ignore_index,
        )  # fmt: skip

    def field(number: int, dtype: Any, axes: tuple[int, ...], new_axes: dict[int, int]) -> DaskArray:
        return _blocks(chunk.field, axes, (scores, _all(x)), dtype=dtype, new_axes=new_axes, number=number)

    return TokenLogprobs(
        field(0, dtype, of_ids, candidates),
        field(1, np.int64, of_ids, candidates),
        field(2, dtype, rows, {}),
        field(3, dtype, rows, {}),
        field(4, np.int64, (*rows, -1), {-1: k}) if k else None,
        field(5, dtype, (*rows, -1), {-1: k}) if k else None,
    )


def _one(_: int) -> int:
    return 1


def _is_lazy(array: Any) -> bool:
    return isinstance(array, da.Array)


def _logits(x: Any, axis: SupportsIndex, name: str) -> tuple[DaskArray, int, np.dtype[Any]]:
    """The array, its class axis as a non-negative number, and its dtype in cxent."""
    if not _is_lazy(x):
        raise TypeError(
            f"{name} must be a dask.array.Array, got {type(x).__name__}: convert it with dask.array.from_array"
        )
    _check_chunks(x, name)
    (class_axis,) = shape_of(x.shape, single_axis(axis)).class_axes
    return x, class_axis, logits_and(name, np.empty(0, x.dtype), -1).result_dtype


def _zeros(dtype: Any, shape: tuple[int, ...]) -> Array:
    """An array that takes no memory, for checking arguments in place of a Dask array."""
    return np.broadcast_to(np.zeros((), dtype), shape)


def _check_chunks(array: DaskArray, name: str) -> None:
    if any(np.isnan(size) for sizes in array.chunks for size in sizes):
        raise ValueError(f"{name} must have chunks of known sizes: call {name}.compute_chunk_sizes() first")


def _all(x: DaskArray) -> tuple[int, ...]:
    """The labels of all axes, for `_blocks`."""
    return tuple(range(x.ndim))


def _rows(x: DaskArray, axis: int) -> tuple[int, ...]:
    return tuple(a for a in range(x.ndim) if a != axis)


def _labels_of(labels: DaskArray, x: DaskArray, axis: int) -> tuple[int, ...]:
    """The labels of the axes of class indices, which may have one more axis for several candidates."""
    return (*_rows(x, axis), *(-2 for _ in range(labels.ndim - x.ndim + 1)))


def _blocks(
    function: Callable[..., Any],
    out: tuple[int, ...],
    *arrays: tuple[DaskArray, tuple[int, ...] | None],
    dtype: Any,
    **options: Any,
) -> DaskArray:
    """A function applied to the blocks that lie at the same place along all axes that the arrays share. Arguments that
    are not arrays have None for axes."""
    flat = [part for pair in arrays for part in pair]
    meta = np.empty((0,) * len(out), dtype)
    return da.blockwise(function, out, *flat, meta=meta, align_arrays=False, concatenate=False, **options)


def _firsts(x: DaskArray, axis: int) -> tuple[DaskArray, tuple[int, ...]]:
    """The first class of each chunk."""
    sizes = x.chunks[axis]
    return _from_numpy(np.cumsum([0, *sizes[:-1]]), chunks=1), (axis,)


def _reduced(
    x: DaskArray,
    axis: int,
    mask: tuple[DaskArray, tuple[int, ...] | None],
    labels: DaskArray | None = None,
    **options: Any,
) -> DaskArray:
    """A `Part` of all classes for each block of rows."""
    arrays = [(x, _all(x)), mask, _firsts(x, axis)]
    if labels is not None:
        arrays.append((labels, _labels_of(labels, x, axis)))
    parts = _blocks(
        chunk.part, _all(x), *arrays, dtype=x.dtype, adjust_chunks={axis: _one}, axis=axis, classes=x.shape[axis],
        **options,
    )  # fmt: skip
    return da.reduction(
        parts, chunk.same, chunk.merge, axis=axis, keepdims=True, combine=chunk.merge, concatenate=False, dtype=x.dtype,
        meta=np.empty((0,) * x.ndim, x.dtype),
    )  # fmt: skip


def _of_every_class(
    whole_rows: Callable[..., Array], part: Callable[..., Array], x: DaskArray, axis: SupportsIndex, where: Any
) -> DaskArray:
    x, axis, dtype = _logits(x, axis, "x")
    mask = _mask(where, x)
    if x.numblocks[axis] == 1:
        return _blocks(chunk.softmax, _all(x), (x, _all(x)), mask, dtype=dtype, of_rows=whole_rows, axis=axis)
    whole = _reduced(x, axis, mask)
    return _blocks(
        chunk.finish_classes, _all(x), (x, _all(x)), mask, (whole, _all(x)), dtype=dtype, of_whole=part, axis=axis
    )  # fmt: skip


def _given(value: Any, name: str) -> Any:
    """A Dask array with known chunks, or the value as a NumPy array."""
    if not _is_lazy(value):
        return plain_array(value, name)
    _check_chunks(value, name)
    return value


def _stand_in(array: Any) -> Array:
    """An array that can be checked at once in place of another: for a Dask array, only its dtype and shape."""
    if not _is_lazy(array):
        checked: Array = array
        return checked
    return _zeros(array.dtype.newbyteorder("="), array.shape)


def _in_chunks(array: Any, x: DaskArray, axes: tuple[int, ...]) -> DaskArray:
    """An array with these axes of x, in the chunks of x; candidates are in one chunk."""
    array = array if _is_lazy(array) else _from_numpy(array, chunks=-1)
    return array.rechunk(tuple(x.chunks[a] if a >= 0 else (array.shape[-1],) for a in axes))


def _labels(labels: Any, name: str, x: DaskArray, axis: int, ignored: int | None) -> DaskArray:
    """Checked class indices, in the chunks of the rows. The values of a Dask array are checked in each chunk."""
    axes = _labels_of(labels, x, axis)
    array = _in_chunks(labels, x, axes)
    if not _is_lazy(labels):
        return array
    return _blocks(
        chunk.checked_labels, axes, (array, axes), dtype=array.dtype, label_name=f"a chunk's {name}",
        classes=x.shape[axis], ignored=ignored,
    )  # fmt: skip


def _mask(where: Any, x: DaskArray) -> tuple[DaskArray, tuple[int, ...] | None]:
    """A mask for `_blocks`, in the chunks of the logits, but in a single chunk along axes that are broadcast."""
    if where is None:
        return None, None
    given = _given(where, "where")
    checked_mask(_stand_in(given), x.shape)
    axes = _all(x)[x.ndim - given.ndim :]
    array = given if _is_lazy(given) else _from_numpy(given, chunks=-1)
    sizes = zip(axes, array.shape, strict=True)
    return array.rechunk(tuple(x.chunks[a] if n == x.shape[a] else (n,) for a, n in sizes)), axes


def _row_weights(value: Any, x: DaskArray, axis: int, dtype: np.dtype[Any]) -> DaskArray:
    """Checked weights of rows, in the chunks of the rows. The values of a Dask array are checked in each chunk."""
    rows = _rows(x, axis)
    row_shape = tuple(x.shape[a] for a in rows)

    def checked(weights: Array, shape: tuple[int, ...]) -> Any:
        logits = _zeros(dtype, (*shape, 1))
        return checked_targets(logits_and("logits", logits, -1, sample_weight=weights), None)[3]

    given = _given(value, "sample_weight")
    if not _is_lazy(given):
        return _in_chunks(checked(given, row_shape), x, rows)
    checked(np.ones(0, given.dtype), (0,))
    try:
        array = da.broadcast_to(given, row_shape)
    except ValueError:
        checked(np.ones(given.shape), row_shape)  # raises the error message
        raise
    return _blocks(chunk.checked_weights, rows, (_in_chunks(array, x, rows), rows), dtype=dtype, computed=dtype)


def _refuse(x: DaskArray, axis: int, together: str = "", **options: Any) -> None:
    """Refuse options that need all classes of a row in one chunk, perhaps only together with another."""
    for name, value in options.items():
        if value:
            raise ValueError(
                f"{name}{together} needs all classes in one chunk, got {name}={value!r} with "
                f"{x.numblocks[axis]} chunks along axis {axis}: use logits.rechunk({{{axis}: -1}})"
            )


def _reduction(function: Callable[..., Any], array: DaskArray) -> DaskArray:
    """One number from all blocks, reduced a few blocks at a time."""
    return da.reduction(array, function, function, dtype=np.float64, meta=np.empty((), np.float64))


def _total(array: DaskArray) -> DaskArray:
    return _reduction(chunk.total, array)


def _largest(array: DaskArray) -> DaskArray:
    return _reduction(chunk.largest, array)


def _constant(value: Any) -> DaskArray:
    return _from_numpy(np.asarray(value))


class _Weights(NamedTuple):
    """The weights of rows, all lazy. For a mean, they are scaled by powers of two where needed."""

    rows: DaskArray | None  # for the kernels; None if there are none
    class_exponent: DaskArray
    counted: DaskArray  # of each row before scaling, 0 if it is ignored
    products: DaskArray  # the weight of each row times that of its class
    divisor: DaskArray
    z_divisor: DaskArray


def _weights(
    labels: DaskArray | None, sample_weight: DaskArray | None, by_class: Array | None, x: DaskArray, axis: int,
    ignored: int | None, dtype: np.dtype[Any], is_mean: bool,
) -> _Weights:  # fmt: skip
    """The weights of rows with these labels, or with class probabilities."""
    rows = _rows(x, axis)
    counted, by_label = sample_weight, None
    if counted is None:
        counted = da.ones(tuple(x.shape[a] for a in rows), dtype, chunks=tuple(x.chunks[a] for a in rows))
    if labels is not None and ignored is not None:
        counted = _blocks(
            chunk.counted_weights, rows, (counted, rows), (labels, rows), dtype=dtype, ignored=ignored
        )  # fmt: skip
    if labels is not None and by_class is not None:
        by_label = _blocks(
            chunk.weights_of_labels, rows, (labels, rows), dtype=dtype, weight=by_class, ignored=ignored
        )  # fmt: skip

    def multiplied(row_exponent: DaskArray, class_exponent: DaskArray) -> tuple[DaskArray, DaskArray]:
        """The weights of rows in float64, without and with the weights of their classes."""
        of_rows = [(counted, rows), (row_exponent, ())]
        of_classes = [] if by_label is None else [(by_label, rows), (class_exponent, ())]
        without = _blocks(chunk.products, rows, *of_rows, dtype=np.float64)
        return without, _blocks(
            chunk.products, rows, *of_rows, *of_classes, dtype=np.float64
        ) if of_classes else without

    def sums(without: DaskArray, products: DaskArray) -> tuple[DaskArray, DaskArray]:
        z_divisor = _total(without)
        return z_divisor if products is without else _total(products), z_divisor

    row_exponent = class_exponent = _constant(0)
    products = multiplied(row_exponent, class_exponent)
    if not is_mean:
        divisors = (_constant(1.0), _constant(1.0))
    elif sample_weight is None and by_label is None and (labels is None or ignored is None):
        divisors = (_constant(float(math.prod(counted.shape))),) * 2
    else:
        found = [(total, ()) for total in sums(*products)]
        row_exponent = _blocks(chunk.exponent, (), (_largest(counted), ()), *found, dtype=np.int64)
        if by_label is not None and by_class is not None:
            heaviest = float(np.abs(by_class).max(initial=0))
            most = chunk.exponent_to_one(heaviest) + int(np.finfo(dtype).maxexp) - 2  # no weight becomes infinite
            class_exponent = _blocks(
                chunk.exponent, (), (_largest(by_label), ()), *found, dtype=np.int64, most=most
            )  # fmt: skip
        products = multiplied(row_exponent, class_exponent)
        divisors = sums(*products)
    scaled = None
    if sample_weight is not None:
        scaled = _blocks(chunk.scaled, rows, (counted, rows), (row_exponent, ()), dtype=dtype)
    return _Weights(scaled, class_exponent, counted, products[1], *divisors)


def _cross_entropy(
    logits: Any,
    target: Any,
    where: Any,
    weight: ArrayLike | None,
    sample_weight: Any,
    options: LossOptions,
    with_grad: bool,
) -> tuple[DaskArray, DaskArray]:
    """The loss, and the gradient, if requested."""
    x, axis, dtype = _logits(logits, options.axis, "logits")
    options = options._replace(axis=axis)
    computed, rows = computed_dtype(dtype), _rows(x, axis)
    in_parts = x.numblocks[axis] > 1
    # A target of the logits' shape is class probabilities, as elsewhere. The values of a Dask array are checked when
    # each chunk is computed.
    target = _given(target, "target")
    soft = target.shape == x.shape
    stand_in = _stand_in(target)
    if soft and _is_lazy(target):
        logits_and("logits", np.empty((0, 1), dtype), -1, target=np.empty((0, 1), target.dtype))
        stand_in = _zeros(computed, x.shape)
    in_memory = logits_and("logits", _zeros(dtype, x.shape), axis, target=stand_in, weight=weight)
    by_class = checked_targets(in_memory, options.ignore_index)[2]
    by_row = None if sample_weight is None else _row_weights(sample_weight, x, axis, computed)
    mask = _mask(where, x)
    if in_parts:
        _refuse(x, axis, softcap=options.softcap)
        if by_class is not None:
            _refuse(x, axis, " with class weights", label_smoothing=options.label_smoothing, z_loss=options.z_loss)
        if soft:
            raise ValueError(
                f"class probabilities need all classes in one chunk, got a target of shape {x.shape} with "
                f"{x.numblocks[axis]} chunks along axis {axis}: use logits.rechunk({{{axis}: -1}})"
            )
    target = (
        _in_chunks(target, x, _all(x)) if soft else _labels(target, "target", x, axis, options.ignore_index)
    )  # fmt: skip
    weights = _weights(
        None if soft else target, by_row, by_class, x, axis, options.ignore_index, computed,
        options.reduction == "mean",
    )  # fmt: skip
    combined = options.reduction != "none"
    one_per_block = dict.fromkeys(rows, _one) if combined else None
    grad = None
    if in_parts:
        shares = _blocks(
            chunk.quotients, rows, (weights.products, rows), (weights.divisor, ()), dtype=np.float64
        )  # fmt: skip
        smoothing = options.label_smoothing
        whole = _reduced(x, axis, mask, target, temperature=options.temperature, for_smoothing=smoothing > 0)
        loss = _blocks(
            chunk.losses, rows, (whole, _all(x)), (weights.counted, rows), (shares, rows), combined=combined,
            label_smoothing=smoothing, z_loss=options.z_loss, dtype=np.float64 if combined else computed,
            adjust_chunks=one_per_block,
        )  # fmt: skip
        if with_grad:
            grad = _blocks(
                chunk.grad, _all(x), (x, _all(x)), mask, _firsts(x, axis), (whole, _all(x)), (target, rows),
                (weights.counted, rows), (shares, rows), dtype=dtype, axis=axis, label_smoothing=smoothing,
                z_loss=options.z_loss,
            )  # fmt: skip
    else:
        of_rows = [] if weights.rows is None else [(weights.rows, rows)]
        both = _blocks(
            chunk.loss_and_grad, _all(x), (x, _all(x)), (target, _all(x) if soft else rows), mask,
            (weights.divisor, ()), (weights.z_divisor, ()), (weights.class_exponent, ()), *of_rows, dtype=dtype,
            with_grad=with_grad, weight=by_class, options=options,
        )  # fmt: skip
        loss = _blocks(
            chunk.loss_of, rows, (both, _all(x)), dtype=np.float64 if combined else computed, axes=len(rows),
            combined=combined, adjust_chunks=one_per_block,
        )  # fmt: skip
        if with_grad:
            grad = _blocks(chunk.grad_of, _all(x), (both, _all(x)), dtype=dtype)
    if combined:
        loss = _blocks(
            chunk.combined, (), (_total(loss), ()), (weights.divisor, ()), dtype=computed, result_dtype=computed
        )  # fmt: skip
    return loss, grad
