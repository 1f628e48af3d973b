"""The one place where arguments are checked and become what kernels take.

Kernels take 3-D views ``(outer, classes, inner)`` of the logits and of what has their shape, and 2-D views
``(outer, inner)`` of labels and row results. ``Layout`` makes these views for all the arrays of one call, and only
NumPy's ``reshape`` decides whether a view is possible or a copy is needed.
"""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.exceptions import AxisError
from numpy.typing import ArrayLike, DTypeLike, NDArray

from . import _dispatch

Array = NDArray[Any]
Axis = int | Sequence[int] | None

_FLOAT32 = np.dtype(np.float32)
_FLOAT64 = np.dtype(np.float64)
_INT64 = np.dtype(np.int64)
_CACHE_BYTES = 1 << 25
_HALF_BITS = {"float16": np.dtype(np.uint16), "bfloat16": np.dtype(np.int16)}  # whose bits kernels take in these
_ACCEPTED = "accepted are float16, bfloat16, float32, float64, integers and booleans"


def floating_array(value: ArrayLike, name: str) -> Array:
    """`value` as an array that kernels can read: in its floating dtype, or else in float64."""
    if type(value) is np.ndarray and (value.dtype is _FLOAT32 or value.dtype is _FLOAT64) and value.flags.aligned:
        return value  # what small calls bring, which are short of time
    array = _real_array(value, name)
    if array.dtype.kind in "iub":
        return array.astype(np.float64)
    if array.dtype.itemsize not in (2, 4, 8):
        raise TypeError(f"{name} has dtype {array.dtype}; {_ACCEPTED}: convert it with astype")
    return _readable(array, array.dtype.newbyteorder("="))


def computed_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype in which kernels compute with numbers of another: float32 for half precision."""
    return _FLOAT32 if dtype.itemsize == 2 else dtype


def widened(array: Array) -> Array:
    """The array in the dtype in which it is computed."""
    return array.astype(computed_dtype(array.dtype), copy=False)


def as_stored(array: Array) -> Array:
    """An array as kernels take it: half precision as its bits."""
    bits = _bits_of(array.dtype) if array.itemsize == 2 else None
    return array if bits is None else array.view(bits)


@lru_cache(maxsize=8)
def _bits_of(dtype: np.dtype[Any]) -> np.dtype[Any] | None:
    """The dtype of the bits of half precision; None for any other. (NumPy takes its time to name a dtype.)"""
    return _HALF_BITS.get(dtype.name)


def layout_of(x: Array, axis: Axis, name: str) -> Layout:
    """The layout of an array with at least one class."""
    layout = _layout(x.shape, x.strides, axis if type(axis) is int else _class_axes(axis, x.ndim))
    if layout.classes == 0:
        raise ValueError(f"{name} has shape {x.shape} and axis {axis}: no classes; accepted is at least one")
    return layout


def target_view(
    value: ArrayLike, layout: Layout, name: str, dtype: DTypeLike, ignore_index: int | None = None
) -> tuple[Array | None, Array | None, int | None]:
    """The target as kernels take it: labels ``(outer, inner)`` and the one that is ignored, or probabilities."""
    target = _real_array(
        value, "target", "accepted are integers (class indices) and real numbers (class probabilities)"
    )
    if target.shape == layout.shape:
        if ignore_index is not None:
            raise ValueError(
                f"ignore_index is {ignore_index} and target has shape {target.shape}, which is that of class "
                "probabilities; accepted is an ignore_index with class indices alone"
            )
        return None, layout.view(_readable(target, dtype)), None
    if target.shape != layout.row_shape:
        raise ValueError(
            f"target has shape {target.shape}; accepted for {name} of shape {layout.shape} are "
            f"{layout.row_shape} (class indices) and {layout.shape} (class probabilities)"
        )
    if target.dtype.kind not in "iu" and target.size:  # an empty list is float64 to NumPy
        raise TypeError(
            f"target has dtype {target.dtype} and shape {target.shape}, which is that of class indices; "
            "accepted for these are integers: convert it with astype(int)"
        )
    labels = layout.row_view(_readable(target, _INT64))
    ignored = _as_label(ignore_index, target.dtype)
    if not _dispatch.kernels.labels_in_range(labels, layout.classes, ignored):
        outside = np.argwhere(((target < 0) | (target >= layout.classes)) & (target != ignore_index))[0]
        place = f"[{', '.join(map(str, outside))}]" if target.ndim else ""
        found = target[tuple(outside)]
        if ignore_index is not None:
            or_ignored = f", and {ignore_index}, the ignore_index"
        elif found < 0 and name == "logits":
            or_ignored = f" (rows that shall not count: ignore_index={found})"
        else:
            or_ignored = ""
        raise IndexError(
            f"target{place} is {found}; accepted are class indices from 0 to {layout.classes - 1}{or_ignored}"
        )
    return labels, None, ignored


def mask_like(x: Array, where: ArrayLike | None) -> Array | None:
    """Which numbers of x take part, in its shape."""
    if where is None:
        return None
    if isinstance(where, np.ma.MaskedArray):
        raise TypeError("where is a masked array; accepted are plain arrays")
    mask = np.asarray(where)
    if mask.dtype != bool:
        raise TypeError(f"where has dtype {mask.dtype}; accepted are booleans")
    try:
        return mask if mask.shape == x.shape else np.broadcast_to(mask, x.shape)
    except ValueError:
        raise ValueError(f"where has shape {mask.shape}; accepted is one that broadcasts to {x.shape}") from None


def class_weights(value: ArrayLike, layout: Layout, dtype: DTypeLike) -> Array:
    """One weight for each class, in `dtype`."""
    return _weights(value, "weight", (layout.classes,), "one for each class", dtype)


def row_weights(value: ArrayLike, layout: Layout, dtype: DTypeLike) -> Array:
    """One weight for each row, as ``(outer, inner)``."""
    return layout.row_view(_weights(value, "sample_weight", layout.row_shape, "one for each row", dtype))


def integer_or_none(value: Any, name: str) -> int | None:
    try:
        return None if value is None else operator.index(value)
    except TypeError:
        raise TypeError(f"{name} is {value!r}; accepted are an integer and None") from None


def number(value: Any, name: str, accepted: str, accepts: Callable[[float], bool]) -> float:
    """A number that is accepted, as a float."""
    if not isinstance(value, numbers.Real):
        raise TypeError(f"{name} is {value!r}; accepted is {accepted}")
    try:
        as_float = float(value)
    except OverflowError:  # an integer too large
        as_float = math.inf
    if not accepts(as_float):
        raise ValueError(f"{name} is {value!r}; accepted is {accepted}")
    return as_float


def exceeds_cache(result: Array) -> bool:
    """Whether a result is so large that the CPU's caches would not hold it: kernels then write it past them."""
    return result.nbytes >= _CACHE_BYTES


def single_axis(axis: Any) -> int:
    """`axis` as one integer."""
    try:
        return operator.index(axis)
    except TypeError:
        raise TypeError(f"axis is {axis!r}; accepted is one integer") from None


class _Order:
    """An order of the axes of a shape."""

    def __init__(self, shape: tuple[int, ...], axes: list[int]) -> None:
        self._axes = axes
        self._shape = [shape[a] for a in axes]
        self._inverse = sorted(range(len(axes)), key=axes.__getitem__)
        self._is_natural = axes == self._inverse == sorted(axes)

    def apply(self, array: Array, shape: tuple[int, ...]) -> Array:
        """The array with its axes in this order, and then in `shape`."""
        return array.reshape(shape) if self._is_natural else array.transpose(self._axes).reshape(shape)

    def undo(self, array: Array) -> Array:
        """The inverse of `apply`."""
        array = array.reshape(self._shape)
        return array if self._is_natural else array.transpose(self._inverse)


class Layout:
    """Where the rows of an array are: its class axes, and its other axes in the order in which they lie in memory.

    Axes with longer strides than the classes' are ``outer``, those with shorter ones ``inner``, so that an array in
    C order, in F order, or with its axes transposed is seen without a copy.
    """

    def __init__(self, shape: tuple[int, ...], strides: tuple[int, ...], axis: int | tuple[int, ...]) -> None:
        class_axes = _class_axes(axis, len(shape))

        def distance(a: int) -> float:  # between neighbours in memory; a broadcast axis counts as outermost
            return abs(strides[a]) or math.inf

        def size(axes: list[int]) -> int:
            return math.prod(shape[a] for a in axes)

        axes = sorted(range(len(shape)), key=distance, reverse=True)
        classes = [a for a in axes if a in class_axes]
        nearest = min(map(distance, classes), default=0)
        outer = [a for a in axes if a not in class_axes and distance(a) >= nearest]
        inner = [a for a in axes if a not in class_axes and distance(a) < nearest]
        row_axes = sorted(outer + inner)

        self.shape = shape
        self.row_shape = tuple(shape[a] for a in row_axes)
        self.keepdims_shape = tuple(1 if a in class_axes else n for a, n in enumerate(shape))
        self.classes = size(classes)
        self.row_count = size(row_axes)
        self._view_shape = (size(outer), size(classes), size(inner))
        self._row_view_shape = self._view_shape[::2]
        self._order = _Order(shape, outer + classes + inner)
        self._row_order = _Order(self.row_shape, [row_axes.index(a) for a in outer + inner])

    def view(self, array: Array) -> Array:
        """An array of the logits' shape as ``(outer, classes, inner)``; a copy if its strides allow no such view."""
        return self._order.apply(array, self._view_shape)

    def row_view(self, array: Array) -> Array:
        """An array of the rows' shape as ``(outer, inner)``."""
        return self._row_order.apply(array, self._row_view_shape)

    def empty_row_results(self, dtype: DTypeLike) -> Array:
        """Memory for one result per row, as ``(outer, inner)``."""
        return np.empty(self._row_view_shape, dtype)

    def row_results(self, row_view: Array) -> Any:
        """What the caller gets of one result per row; a scalar for a row without other axes."""
        results = self._row_order.undo(row_view)
        return results if results.ndim else results[()]

    def output(
        self,
        out: Array | None,
        dtype: np.dtype[Any],
        in_place: Sequence[Array],
        read_later: Sequence[Array] = (),
        computed: np.dtype[Any] | None = None,
    ) -> Array:
        """Memory for a kernel's result, as ``(outer, classes, inner)``: that of `out` where it is safe to write there.

        It is of `dtype`, or of the one that the kernel computes, from which `result` converts it.

        It is safe if kernels can write there, and if it overlaps no input or is exactly one of `in_place`, of which the
        kernel reads every element before it writes it. It reads those of `read_later` after it has written others.
        """
        computed = dtype if computed is None else computed
        if out is None:
            return np.empty(self._view_shape, computed)
        _check_out(out, self.shape, dtype)
        out = np.asarray(out)
        safe = (
            out.dtype == computed
            and out.flags.aligned
            and all(not np.may_share_memory(out, a) or _is_same(out, a) for a in in_place)
            and not any(np.may_share_memory(out, a) for a in read_later)
        )
        return self.view(out) if safe else np.empty(self._view_shape, computed)

    def result(self, output: Array, out: Array | None, dtype: np.dtype[Any]) -> Array:
        """What the caller gets of a kernel's output: `out`, if given; a scalar without axes."""
        if out is None:
            array = self._order.undo(output).astype(dtype, copy=False)
            return array if array.ndim else array[()]
        if not np.may_share_memory(output, out):
            out[...] = self._order.undo(output)
        return out


# A layout depends on these few integers alone, and costs more than the kernel of a small call.
_layout = lru_cache(maxsize=256)(Layout)


def _real_array(value: ArrayLike, name: str, accepted: str = _ACCEPTED) -> Array:
    try:
        array = value if type(value) is np.ndarray else np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:  # lists of unequal length, tensors that need a gradient
        kind = ValueError if isinstance(error, ValueError) else TypeError
        raise kind(f"{name} is a {type(value).__name__} of which NumPy makes no array: {error}") from None
    if array is not value and isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array; accepted are plain arrays: fill it first with {name}.filled(...)")
    if array.dtype.kind not in "fiub" and _bits_of(array.dtype) is None:
        raise TypeError(f"{name} has dtype {array.dtype}; {accepted}")
    return array


def _weights(value: ArrayLike, name: str, shape: tuple[int, ...], meaning: str, dtype: DTypeLike) -> Array:
    array = given = _real_array(value, name, f"accepted are real numbers, {meaning}")
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}; accepted is {shape}, {meaning}")
    if array.dtype != dtype:
        with np.errstate(over="ignore"):
            array = array.astype(dtype)
    weights = np.ascontiguousarray(_readable(array, dtype)).reshape(shape)
    if not _dispatch.kernels.are_weights(weights.reshape(-1)):
        wrong = given[~(np.isfinite(weights) & (weights >= 0))].flat[0]
        raise ValueError(f"{name} has {wrong}; accepted are finite numbers from 0 on, in {weights.dtype}")
    return weights


def _as_label(ignore_index: int | None, dtype: np.dtype[Any]) -> int | None:
    """As it is found among labels of that dtype in int64, where large ones wrap; None if it cannot be there."""
    if ignore_index is None or dtype.kind not in "iu" or not np.iinfo(dtype).min <= ignore_index <= np.iinfo(dtype).max:
        return None
    return ignore_index if ignore_index < 2**63 else ignore_index - 2**64


def _readable(array: Array, dtype: DTypeLike) -> Array:
    """The array itself if kernels can read it, else a copy: in `dtype`, in native byte order, aligned."""
    return array if array.dtype == dtype and array.flags.aligned else array.astype(dtype)


def _class_axes(axis: Axis, ndim: int) -> tuple[int, ...]:
    if axis is None:
        return tuple(range(ndim))
    try:
        axes = [operator.index(a) for a in (axis if isinstance(axis, tuple | list) else (axis,))]
    except TypeError:
        raise TypeError(f"axis is {axis!r}; accepted are an integer, a tuple of integers, and None") from None
    for a in axes:
        if not -ndim <= a < ndim:
            raise AxisError(a, ndim)
    class_axes = tuple(sorted({a % ndim for a in axes}))
    if len(class_axes) < len(axes):
        raise ValueError(f"axis is {axis!r}; accepted is each axis at most once")
    return class_axes


def _check_out(out: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    if type(out) is not np.ndarray and (not isinstance(out, np.ndarray) or isinstance(out, np.ma.MaskedArray)):
        raise TypeError(f"out is a {type(out).__name__}; accepted is a plain NumPy array")
    if out.dtype != dtype and out.dtype.newbyteorder("=") != dtype:
        raise TypeError(f"out has dtype {out.dtype}; accepted is {dtype}")
    if out.shape != shape:
        raise ValueError(f"out has shape {out.shape}; accepted is {shape}")
    if not out.flags.writeable:
        raise ValueError("out is read-only; accepted is an array that can be written")


def _is_same(a: Array, b: Array) -> bool:
    """Whether two arrays have the same elements at the same addresses."""
    return a is b or (
        a.__array_interface__["data"] == b.__array_interface__["data"]
        and (a.shape, a.strides, a.dtype) == (b.shape, b.strides, b.dtype)
    )
