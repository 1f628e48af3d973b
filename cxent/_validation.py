"""The one place where arguments are checked, whatever they are."""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.exceptions import AxisError
from numpy.typing import ArrayLike, DTypeLike, NDArray

from . import kernels

if TYPE_CHECKING:
    from ._layout import Layout

Array = NDArray[Any]
Axis = int | Sequence[int] | None

_FLOAT32 = np.dtype(np.float32)
_FLOAT64 = np.dtype(np.float64)
_INT64 = np.dtype(np.int64)
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


@lru_cache(maxsize=8)
def half_name(dtype: np.dtype[Any]) -> str | None:
    """The name of half precision; None for any other dtype. (NumPy takes its time to name one.)"""
    return dtype.name if dtype.name in ("float16", "bfloat16") else None


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
    if not kernels.serving.float64.labels_in_range(labels, layout.classes, ignored):
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


def require_classes(layout: Layout, axis: Axis, name: str) -> None:
    """A row without classes has no label."""
    if layout.classes == 0 and layout.row_count > 0:
        raise ValueError(f"{name} has shape {layout.shape} and axis {axis}: no classes; accepted is at least one")


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


def single_axis(axis: Any) -> int:
    """`axis` as one integer."""
    try:
        return operator.index(axis)
    except TypeError:
        raise TypeError(f"axis is {axis!r}; accepted is one integer") from None


def _real_array(value: ArrayLike, name: str, accepted: str = _ACCEPTED) -> Array:
    try:
        array = value if type(value) is np.ndarray else np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:  # lists of unequal length, tensors that need a gradient
        kind = ValueError if isinstance(error, ValueError) else TypeError
        raise kind(f"{name} is a {type(value).__name__} of which NumPy makes no array: {error}") from None
    if array is not value and isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array; accepted are plain arrays: fill it first with {name}.filled(...)")
    if array.dtype.kind not in "fiub" and half_name(array.dtype) is None:
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
    if not kernels.serving.of(weights.dtype).are_finite(weights.reshape(-1)):
        wrong = given[~np.isfinite(weights)].flat[0]
        raise ValueError(f"{name} has {wrong}; accepted are finite numbers, in {weights.dtype}")
    return weights


def _as_label(ignore_index: int | None, dtype: np.dtype[Any]) -> int | None:
    """As it is found among labels of that dtype in int64, where large ones wrap; None if it cannot be there."""
    if ignore_index is None or dtype.kind not in "iu":
        return None
    numbers = 256**dtype.itemsize  # (np.iinfo takes 2 microseconds, a fifth of a small call)
    lowest = 0 if dtype.kind == "u" else -(numbers // 2)
    if not lowest <= ignore_index < lowest + numbers:
        return None
    return ignore_index if ignore_index < 2**63 else ignore_index - 2**64


def _readable(array: Array, dtype: DTypeLike) -> Array:
    """The array itself if kernels can read it, else a copy: in `dtype`, in native byte order, aligned."""
    return array if array.dtype == dtype and array.flags.aligned else array.astype(dtype)


def class_axes_of(axis: Axis, ndim: int) -> tuple[int, ...]:
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


def check_out(out: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    if type(out) is not np.ndarray and (not isinstance(out, np.ndarray) or isinstance(out, np.ma.MaskedArray)):
        raise TypeError(f"out is a {type(out).__name__}; accepted is a plain NumPy array")
    if out.dtype != dtype and out.dtype.newbyteorder("=") != dtype:
        raise TypeError(f"out has dtype {out.dtype}; accepted is {dtype}")
    if out.shape != shape:
        raise ValueError(f"out has shape {out.shape}; accepted is {shape}")
    if not out.flags.writeable:
        raise ValueError("out is read-only; accepted is an array that can be written")
