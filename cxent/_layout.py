"""How checked arrays become the views that kernels take, and results what the caller gets.

Kernels take 3-D views ``(outer, classes, inner)`` of the logits and of what has their shape, and 2-D views
``(outer, inner)`` of labels and row results. ``Layout`` makes these views for all the arrays of one call, and only
NumPy's ``reshape`` decides whether a view is possible or a copy is needed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ._types import Array, Axis, RowResults
from ._validation import check_out, class_axes_of, computed_dtype, half_name

_CACHE_BYTES = 1 << 25
_HALF_BITS = {"float16": np.dtype(np.uint16), "bfloat16": np.dtype(np.int16)}  # whose bits kernels take in these


def widened(array: Array) -> Array:
    """The array in the dtype in which it is computed."""
    return array.astype(computed_dtype(array.dtype), copy=False)


def narrowed(array: Array, dtype: np.dtype[Any]) -> Array:
    """The inverse: what is too large becomes infinite, as in a kernel, without a warning or an error of NumPy's."""
    if array.dtype == dtype:
        return array
    with np.errstate(all="ignore"):
        return array.astype(dtype)


def as_stored(array: Array) -> Array:
    """An array as kernels take it: half precision as its bits."""
    name = half_name(array.dtype) if array.itemsize == 2 else None
    return array if name is None else array.view(_HALF_BITS[name])


def layout_of(x: Array, axis: Axis) -> Layout:
    """The layout of an array, whose axes are checked."""
    return _layout(x.shape, x.strides, axis if type(axis) is int else class_axes_of(axis, x.ndim))


def exceeds_cache(result: Array) -> bool:
    """Whether a result is so large that the CPU's caches would not hold it: kernels then write it past them."""
    return result.nbytes >= _CACHE_BYTES


class _Order:
    """An order of the axes of a shape."""

    def __init__(self, shape: tuple[int, ...], axes: list[int]) -> None:
        self._axes = axes
        self._shape = [shape[a] for a in axes]
        self._inverse = sorted(range(len(axes)), key=axes.__getitem__)
        self._is_natural = axes == self._inverse == sorted(axes)

    def apply(self, array: Array, shape: tuple[int, ...]) -> Array:
        """The array with its axes in this order, and then in `shape`; axes beyond these stay at the end."""
        n = len(self._axes)
        shape += array.shape[n:]
        return array.reshape(shape) if self._is_natural else _first_axes(array, self._axes).reshape(shape)

    def undo(self, array: Array, ndim: int) -> Array:
        """The inverse of `apply`, of what has `ndim` dimensions now, and axes beyond these."""
        array = array.reshape((*self._shape, *array.shape[ndim:]))
        return array if self._is_natural else _first_axes(array, self._inverse)


def _first_axes(array: Array, axes: list[int]) -> Array:
    """The array with its first axes in this order."""
    return array.transpose((*axes, *range(len(axes), array.ndim)))


class Layout:
    """Where the rows of an array are: its class axes, and its other axes in the order in which they lie in memory.

    Axes with longer strides than the classes' are ``outer``, those with shorter ones ``inner``, so that an array in
    C order, in F order, or with its axes transposed is seen without a copy.
    """

    def __init__(self, shape: tuple[int, ...], strides: tuple[int, ...], axis: int | tuple[int, ...]) -> None:
        class_axes = class_axes_of(axis, len(shape))

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
        self.class_axes = class_axes
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
        """An array of the rows' shape as ``(outer, inner)``; with k numbers for each row, ``(outer, inner, k)``."""
        return self._row_order.apply(array, self._row_view_shape)

    def empty_row_results(self, dtype: DTypeLike, *count: int) -> Array:
        """Memory for one result per row, as ``(outer, inner)``, or for `count` as ``(outer, inner, count)``."""
        return np.empty(self._row_view_shape + count, dtype)

    def row_results(self, row_view: Array) -> RowResults:
        """What the caller gets of one result per row, or of several; a scalar for a row without other axes."""
        results = self._row_order.undo(row_view, 2)
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
        check_out(out, self.shape, dtype)
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
            array = narrowed(self._order.undo(output, 3), dtype)
            return array if array.ndim else array[()]
        if not np.may_share_memory(output, out):
            out[...] = narrowed(self._order.undo(output, 3), dtype)
        return out


def _is_same(a: Array, b: Array) -> bool:
    """Whether two arrays have the same elements at the same addresses."""
    return a is b or (
        a.__array_interface__["data"] == b.__array_interface__["data"]
        and (a.shape, a.strides, a.dtype) == (b.shape, b.strides, b.dtype)
    )


# A layout depends on these few integers alone, and costs more than the kernel of a small call.
_layout = lru_cache(maxsize=256)(Layout)
