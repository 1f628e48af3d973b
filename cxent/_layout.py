"""Views of arrays for kernels, and memory for results.

The fourth step of a call, taken once for all of its arrays. Kernels take 3-D views ``(outer, classes, inner)`` of the
logits and of arrays with their shape, and 2-D views ``(outer, inner)`` of labels and results per row. Whether a view is
possible or a copy is needed is left to NumPy's ``reshape``. The caller gets a view of the same memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from . import kernels
from ._arrays import Shape
from ._types import Array

_CACHE_BYTES = 1 << 25  # larger results are written past the CPU's caches

RowMemory: TypeAlias = DTypeLike | tuple[DTypeLike, int] | None
"""The dtype of results per row; with a number if there are several per row, which get an axis of their own."""


@dataclass
class Laid:
    """The arrays of a call as kernels take them, and the results as the caller gets them."""

    inputs: list[Any]  # (outer, classes, inner)
    row_inputs: list[Any]  # (outer, inner), or with several numbers for each row (outer, inner, k)
    rows: list[Any]  # likewise
    row_results: list[Array | None]
    outputs: list[Any]  # (outer, classes, inner)
    results: list[Any]
    past_caches: bool  # whether outputs are large enough to be written past the caches
    out: Array | None = field(default=None, init=False)  # the caller's `out`
    # From the memory that a kernel writes to the result, if they differ.
    copies: tuple[tuple[Array, Array], ...] = field(default=(), init=False)


def lay_out(
    shape: Shape,
    inputs: Sequence[Array | None],
    row_inputs: Sequence[Array | None] = (),
    *,
    rows: Sequence[RowMemory] = (),
    outputs: Sequence[bool] = (),
    result_dtype: np.dtype[Any] | None = None,
    dtype: np.dtype[Any] | None = None,
    out: Array | None = None,
    in_place: int = 1,
    read_later: Sequence[Array | None] = (),
) -> Laid:
    """Lay out all arrays of a call, following the memory order of the first input.

    Parameters
    ----------
    shape : Shape
        Shape of the inputs.
    inputs, row_inputs : sequence of ndarray or None
        Arrays in that shape, and arrays in the shape of its rows, possibly with one more axis.
    rows : sequence of RowMemory
        The results per row that a kernel writes.
    outputs : sequence of bool
        For each result in the shape of the inputs, whether it is requested.
    result_dtype, dtype : dtype
        The dtype of these results, and the dtype in which the kernel writes them, if it differs.
    out : ndarray, optional
        Where to put the first of them. The kernel writes there directly if it can, and if `out` either overlaps no
        input or is exactly an input that may be overwritten.
    in_place : int
        How many of the first inputs may be overwritten: kernels read each of their elements before they write it.
    read_later : sequence of ndarray or None
        Other arrays that the kernel reads.
    """
    # (Loops, since the frames of comprehensions would slow down small calls.)
    layout: Layout = _layout(shape, inputs[0].strides)  # type: ignore[union-attr]  # the first is an array
    dtype = result_dtype if dtype is None else dtype
    past_caches = dtype is not None and layout.size * dtype.itemsize >= _CACHE_BYTES
    laid = Laid([], [], [], [], [], [], past_caches)
    for a in inputs:
        if a is not None:
            a = layout.view(a)
            a = kernels.stored(a) if a.itemsize <= 2 else a
        laid.inputs.append(a)
    for a in row_inputs:
        laid.row_inputs.append(None if a is None else layout.row_view(a))
    for of_row in rows:
        memory, result = (None, None) if of_row is None else layout.row_memory(of_row)
        laid.rows.append(memory)
        laid.row_results.append(result)
    for is_wanted in outputs:
        if not is_wanted:
            laid.outputs.append(None)
            laid.results.append(None)
            continue
        others = () if out is None else (*inputs[in_place:], *row_inputs, *read_later)
        if out is None or not _is_safe(out, dtype, inputs[:in_place], others):
            memory = np.empty(layout.view_shape, dtype)
        else:
            memory = layout.view(np.asarray(out))
        result = in_axes = layout.of_view(memory)
        if out is not None or dtype is not result_dtype:
            result = np.empty_like(in_axes, result_dtype) if out is None else out
            laid.out = laid.out if out is None else out
            if not np.may_share_memory(memory, result):
                laid.copies += ((in_axes, result),)
        laid.outputs.append(kernels.stored(memory) if memory.itemsize <= 2 else memory)
        laid.results.append(result)
        out = None  # all other outputs are allocated
    return laid


def _is_safe(
    out: Array, dtype: np.dtype[Any] | None, in_place: Sequence[Array | None], others: Sequence[Array | None]
) -> bool:
    """Whether a kernel can write to `out` while it reads these arrays."""
    return (
        out.dtype == dtype
        and out.flags.aligned
        and all(a is None or not np.may_share_memory(out, a) or _is_same(out, a) for a in in_place)
        and not any(a is not None and np.may_share_memory(out, a) for a in others)
    )


def _is_same(a: Array, b: Array) -> bool:
    """Whether two arrays have the same elements at the same addresses."""
    return a is b or (
        a.__array_interface__["data"] == b.__array_interface__["data"]
        and (a.shape, a.strides, a.dtype) == (b.shape, b.strides, b.dtype)
    )


class Layout:
    """Where the rows of an array lie in memory: its class axes, and its other axes in memory order.

    Axes with longer strides than the classes are ``outer``, axes with shorter strides ``inner``. So an array in C
    order, in F order or with transposed axes can be viewed without a copy."""

    def __init__(self, shape: Shape, strides: tuple[int, ...]) -> None:
        whole, class_axes = shape.whole, shape.class_axes

        def distance(a: int) -> float:  # between neighbours; a broadcast axis counts as outermost
            return abs(strides[a]) or math.inf

        def size(axes: list[int]) -> int:
            return math.prod(whole[a] for a in axes)

        axes = sorted(range(len(whole)), key=distance, reverse=True)
        classes = [a for a in axes if a in class_axes]
        nearest = min(map(distance, classes), default=0)
        outer = [a for a in axes if a not in class_axes and distance(a) >= nearest]
        inner = [a for a in axes if a not in class_axes and distance(a) < nearest]
        row_axes = sorted(outer + inner)

        self.size = size(axes)
        self.view_shape = (size(outer), size(classes), size(inner))
        self._row_view_shape = self.view_shape[::2]
        self._axes = [*outer, *classes, *inner]
        self._row_axes = [row_axes.index(a) for a in outer + inner]
        self._shape_in_order = tuple(whole[a] for a in self._axes)
        self._rows_in_order = tuple(shape.rows[a] for a in self._row_axes)
        self._inverse = _inverse(self._axes)
        self._row_inverse = _inverse(self._row_axes)

    def view(self, array: Array) -> Array:
        """An array of the logits' shape as ``(outer, classes, inner)``; a copy if its strides do not allow a view."""
        return (array if self._inverse is None else array.transpose(self._axes)).reshape(self.view_shape)

    def of_view(self, view: Array) -> Array:
        """The inverse of `view`."""
        array = view.reshape(self._shape_in_order)
        return array if self._inverse is None else array.transpose(self._inverse)

    def row_view(self, array: Array) -> Array:
        """An array of the rows' shape as ``(outer, inner)``; with k numbers per row, ``(outer, inner, k)``."""
        several = array.shape[len(self._row_axes) :]
        if self._row_inverse is not None:
            array = array.transpose(*self._row_axes, *range(len(self._row_axes), array.ndim))
        return array.reshape(self._row_view_shape + several)

    def row_memory(self, wanted: DTypeLike | tuple[DTypeLike, int]) -> tuple[Array, Array]:
        """Memory for results per row, and the same memory in the rows' shape."""
        dtype, several = (wanted[0], wanted[1:]) if isinstance(wanted, tuple) else (wanted, ())
        memory = np.empty(self._row_view_shape + several, dtype)
        array = memory.reshape(self._rows_in_order + several)
        if self._row_inverse is not None:
            array = array.transpose(*self._row_inverse, *range(len(self._row_axes), array.ndim))
        return memory, array


def _inverse(order: list[int]) -> list[int] | None:
    """The inverse of a permutation of axes; None for the identity."""
    return None if order == sorted(order) else sorted(range(len(order)), key=order.__getitem__)


# Cached, since it takes longer than the kernel of a small call.
_layout = lru_cache(maxsize=256)(Layout)
