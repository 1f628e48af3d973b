"""Conversion to arrays, the rules for dtypes, and checks of `out`.

The second step of a call: arguments become NumPy arrays in native byte order, aligned, and in the right dtype if they
are computed with. Their meaning is not known here, and no array is laid out yet.

These are the rules for dtypes. float32 and float64 are computed in their own dtype, half precision in float32, and
integers and booleans in float64. Targets and weights are converted to the dtype in which the logits are computed. If
two arrays are on a par, the wider dtype is used; Python numbers have no dtype and take that of the other (NEP 50).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple, TypeGuard

import numpy as np
from numpy.exceptions import AxisError
from numpy.typing import ArrayLike, DTypeLike

from . import kernels
from ._options import Axes
from ._types import Array

_FLOAT32 = np.dtype(np.float32)
_FLOAT64 = np.dtype(np.float64)
_REAL = "fiub"
_NUMBERS_OF_PYTHON = (bool, int, float)
MISSING: Any = object()
"""The default of targets, since None is a wrong target."""
_REAL_DTYPE = "a real dtype (float16, bfloat16, float32, float64, integer or boolean)"


@dataclass(frozen=True, eq=False, slots=True)
class Shape:
    """The shape of logits: which axes hold the classes, and what remains for the rows.

    Each combination of shape and axes is cached as one object, so it is compared and hashed by identity.
    """

    whole: tuple[int, ...]
    class_axes: tuple[int, ...]  # ascending, non-negative
    rows: tuple[int, ...]  # without the class axes
    classes: int
    row_count: int


@dataclass
class Arrays:
    """The arrays of a call; optional ones are None if not given."""

    name: str  # of x, as an argument
    x: Array
    shape: Shape  # of x
    dtype: np.dtype[Any]  # in which x is computed
    result_dtype: np.dtype[Any]  # of results with the shape of x
    beside: Array | None = field(default=None, init=False)  # another array of that shape, in `dtype`
    target: Array | None = field(default=None, init=False)
    class_weights: Array | None = field(default=None, init=False)  # in `dtype`
    row_weights: Array | None = field(default=None, init=False)  # in `dtype`
    where: Array | None = field(default=None, init=False)
    temperatures: Array | None = field(default=None, init=False)  # of rows, in `dtype`
    are_converted: bool = field(default=False, init=False)  # not all of them are as they were given


class Layer(NamedTuple):
    """The arrays of a linear layer; `outputs` has a placeholder instead of the logits."""

    hidden: Array
    weight: Array
    bias: Array | None
    outputs: Arrays


def logits_and(
    name: str,
    x: ArrayLike,
    axis: Axes,
    *,
    target: ArrayLike = MISSING,
    ids: ArrayLike = MISSING,
    ids_name: str = "ids",
    weight: ArrayLike | None = None,
    weight_name: str = "weight",
    sample_weight: ArrayLike | None = None,
    where: ArrayLike | None = None,
    temperatures: ArrayLike | None = None,
    vector: ArrayLike | None = None,
    out: Array | None = None,
    widened: bool = False,
    at_least: np.dtype[Any] | None = None,
) -> Arrays:
    """Logits, and the arrays that come with them.

    The logits are converted if `at_least` requires a wider dtype, or, with `widened`, from half precision to float32.
    """
    given = _floating(x, name)
    result_dtype = given.dtype
    dtype = computed = _FLOAT32 if result_dtype.itemsize == 2 else result_dtype
    if at_least is not None and at_least != dtype:
        dtype = np.result_type(dtype, at_least)
    array = _converted(given, dtype) if widened or dtype is not computed else given
    shape = shape_of(given.shape, axis)
    arrays = Arrays(name, array, shape, dtype, result_dtype)
    if vector is not None:
        arrays.beside = _converted(_floating(vector, "v"), dtype)
        if arrays.beside.shape != given.shape:
            raise ValueError(f"v must have the shape of {name}, {given.shape}, got {arrays.beside.shape}")
    if target is not MISSING:
        arrays.target = _target(target, shape, dtype)
    elif ids is not MISSING:
        arrays.target = _native(ids, ids_name)
    if weight is not None:
        arrays.class_weights = _weights(weight, weight_name, dtype, "one per class")
    if sample_weight is not None:
        arrays.row_weights = _weights(sample_weight, "sample_weight", dtype, "one per row")
    if where is not None:
        arrays.where = plain_array(where, "where")
    if temperatures is not None:
        arrays.temperatures = _temperatures(temperatures, dtype)
    if out is not None:
        _check_out(out, given.shape, result_dtype)
    arrays.are_converted = not (
        array is x
        and (arrays.target is target or arrays.target is ids or arrays.target is None)
        and arrays.where is where
        and arrays.class_weights is weight
        and arrays.row_weights is sample_weight
        and arrays.temperatures is temperatures
    )
    return arrays


def gradients_and_results(
    grad_output: ArrayLike, output: ArrayLike, axis: Axes, where: ArrayLike | None, out: Array | None
) -> Arrays:
    """The inputs of a backward kernel, in the dtype in which it computes."""
    g, y = _floating(grad_output, "grad_output"), _floating(output, "output")
    if g.shape != y.shape:
        raise ValueError(f"grad_output must have the shape of output, {y.shape}, got {g.shape}")
    result_dtype = _common_dtype(grad_output, g, output, y)
    dtype = computed_dtype(result_dtype)
    if out is not None:
        _check_out(out, y.shape, result_dtype)
    arrays = Arrays("output", _converted(y, dtype), shape_of(y.shape, axis), dtype, result_dtype)
    arrays.beside = _converted(g, dtype)
    if where is not None:
        arrays.where = plain_array(where, "where")
    arrays.are_converted = not (arrays.x is output and arrays.beside is grad_output and arrays.where is where)
    return arrays


def logits_of_two(
    logits_p: ArrayLike,
    logits_q: ArrayLike,
    axis: Axes,
    sample_weight: ArrayLike | None,
    where: ArrayLike | None,
    out: Array | None,
) -> Arrays:
    """The logits that a divergence compares: q as x, and p beside it. Half precision is not converted."""
    p, q = _floating(logits_p, "logits_p"), _floating(logits_q, "logits_q")
    if p.shape != q.shape:
        raise ValueError(f"logits_p and logits_q must have the same shape, got {p.shape} and {q.shape}")
    dtype = computed_dtype(_common_dtype(logits_p, p, logits_q, q))
    p, q = (a if computed_dtype(a.dtype) == dtype else a.astype(dtype) for a in (p, q))
    arrays = Arrays("logits_q", q, shape_of(q.shape, axis), dtype, q.dtype)
    arrays.beside = p
    if sample_weight is not None:
        arrays.row_weights = _weights(sample_weight, "sample_weight", dtype, "one per row")
    if where is not None:
        arrays.where = plain_array(where, "where")
    if out is not None:
        _check_out(out, q.shape, q.dtype)
    arrays.are_converted = not (
        q is logits_q and p is logits_p and arrays.row_weights is sample_weight and arrays.where is where
    )
    return arrays


def logits_in_chunks(
    reference: ArrayLike, other: ArrayLike, axis: Axes, ids: ArrayLike | None, where: ArrayLike | None
) -> Arrays:
    """Logits that are compared a chunk at a time, the reference as x and the other beside it: both as they are, since
    memory maps are converted chunk by chunk. Their dtype is that of the comparison.
    """
    p, q = (_logits(*given) for given in ((reference, "reference"), (other, "other")))
    if p.shape != q.shape:
        raise ValueError(f"other must have the shape of reference, {p.shape}, got {q.shape}")
    dtype = np.result_type(*(_FLOAT64 if a.dtype.kind in "iub" else computed_dtype(a.dtype) for a in (p, q)))
    arrays = Arrays("reference", p, shape_of(p.shape, axis), dtype.newbyteorder("="), p.dtype)
    arrays.beside = q
    if ids is not None:
        arrays.target = _native(ids, "ids")
    if where is not None:
        arrays.where = plain_array(where, "where")
    return arrays


def exponents_and_factors(x: ArrayLike, b: ArrayLike, axis: Axes, where: ArrayLike | None) -> Arrays:
    """x, with b beside it, in float64. The shape is that of both, broadcast; the result has the dtype of both."""
    exponents, factors = _floating(x, "x"), _floating(b, "b")
    dtype = computed_dtype(_common_dtype(x, exponents, b, factors))
    try:
        # (NumPy 1 and 2 broadcast at most 32 dimensions here, although arrays can have 64.)
        same = exponents.shape == factors.shape
        shape = exponents.shape if same else np.broadcast(exponents, factors).shape
    except ValueError:
        shapes = f"b must have a shape that broadcasts with that of x, {exponents.shape}, got {factors.shape}"
        raise ValueError(shapes) from None
    arrays = Arrays("x", exponents.astype(np.float64), shape_of(shape, axis), _FLOAT64, dtype)
    arrays.beside = factors.astype(np.float64)
    if where is not None:
        arrays.where = plain_array(where, "where")
    return arrays


def layer_and(
    hidden: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None,
    *,
    target: ArrayLike = MISSING,
    ids: ArrayLike = MISSING,
    class_weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
) -> Layer:
    """A linear layer, and the arrays that come with its outputs."""
    h, w = _floating(hidden, "hidden"), _floating(weight, "weight")
    if h.ndim != 2:
        raise ValueError(f"hidden must have shape (N, D), got {h.shape}")
    n, d = h.shape
    if w.ndim != 2 or w.shape[1] != d:
        raise ValueError(
            f"weight must have shape (V, {d}) for hidden of shape {(n, d)}, got {w.shape}; V is the number of classes"
        )
    b = None if bias is None else _floating(bias, "bias")
    if b is not None and b.shape != w.shape[:1]:
        raise ValueError(f"bias must have shape {w.shape[:1]}, got {b.shape}")
    dtype = np.result_type(computed_dtype(h.dtype), computed_dtype(w.dtype))
    in_place_of_logits = np.broadcast_to(np.zeros((), dtype), (n, len(w)))
    outputs = logits_and(
        "logits",
        in_place_of_logits,
        -1,
        target=target,
        ids=ids,
        weight=class_weight,
        weight_name="class_weight",
        sample_weight=sample_weight,
    )
    return Layer(h, w, b, outputs)


def scores_and_labels(
    scores: ArrayLike, labels: ArrayLike, weight: ArrayLike | None
) -> tuple[Array, Array, Array | None]:
    """The arrays that a boosting library passes to an objective."""
    return (
        _floating(scores, "scores"),
        _whole_labels(labels),
        None if weight is None else plain_array(weight, "sample_weight"),
    )


def weights_of_classes(value: ArrayLike) -> tuple[float, ...]:
    """The `class_weight` of an objective, checked before its scores are known."""
    weights = _weights(value, "class_weight", _FLOAT64, "one per class")
    if weights.ndim != 1:
        raise ValueError(f"class_weight must be one-dimensional, got shape {weights.shape}")
    if (weights < 0).any():
        raise ValueError(f"class_weight must be non-negative, got {weights[weights < 0][0]}")
    return tuple(weights.tolist())


def numbers_of(x: ArrayLike, out: Array | None) -> tuple[Array, np.dtype[Any]]:
    """Numbers for an elementwise function, and the dtype in which it computes."""
    numbers = _floating(x, "x")
    if out is not None:
        _check_out(out, numbers.shape, numbers.dtype)
    return numbers, computed_dtype(numbers.dtype)


def two_class_logits_and(
    logits: ArrayLike,
    target: ArrayLike,
    pos_weight: ArrayLike | None,
    sample_weight: ArrayLike | None,
    out: Array | None,
) -> Arrays:
    """Logits that are each a two-class problem, and the arrays that come with them."""
    x = _floating(logits, "logits")
    dtype = computed_dtype(x.dtype)
    labels = _real(target, "target", "an integer or boolean dtype (labels 0 and 1) or a real one (probabilities)")
    if labels.dtype.kind in "iub" or labels.size == 0:
        labels = _native(labels, "target")
    else:
        labels = _converted(labels, dtype)
    if out is not None:
        _check_out(out, x.shape, x.dtype)
    arrays = Arrays("logits", x, shape_of(x.shape, None), dtype, x.dtype)
    arrays.target = labels
    if pos_weight is not None:
        arrays.class_weights = _weights(pos_weight, "pos_weight", dtype, "of the positive class")
    if sample_weight is not None:
        arrays.row_weights = _weights(sample_weight, "sample_weight", dtype, "one for each number or row")
    return arrays


def _shape_of(shape: tuple[int, ...], axis: Axes) -> Shape:
    """The `Shape` for these class axes."""
    axes = range(len(shape)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    for a in axes:
        if not -len(shape) <= a < len(shape):
            raise AxisError(a, len(shape))
    class_axes = tuple(sorted({a % len(shape) for a in axes}))
    if len(class_axes) < len(axes):
        raise ValueError(f"axis must name each axis at most once, got {axis!r}")
    rows = tuple(n for a, n in enumerate(shape) if a not in class_axes)
    return Shape(shape, class_axes, rows, math.prod(shape[a] for a in class_axes), math.prod(rows))


# Cached, since it takes longer than the kernel of a small call.
shape_of: Callable[[tuple[int, ...], Axes], Shape] = lru_cache(maxsize=256)(_shape_of)


def computed_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype in which kernels compute with numbers of this one: float32 for half precision."""
    return _FLOAT32 if dtype.itemsize == 2 else dtype


def _common_dtype(given_a: ArrayLike, a: Array, given_b: ArrayLike, b: Array) -> np.dtype[Any]:
    """The dtype of a result computed from two arrays, given also the arguments they were made from."""
    if a.dtype == b.dtype or type(given_b) in _NUMBERS_OF_PYTHON:
        return a.dtype
    if type(given_a) in _NUMBERS_OF_PYTHON:
        return b.dtype
    return np.result_type(computed_dtype(a.dtype), computed_dtype(b.dtype))


def _floating(value: ArrayLike, name: str) -> Array:
    """`value` as an array that kernels can read: in its own floating dtype, otherwise in float64."""
    if type(value) is np.ndarray and (value.dtype is _FLOAT32 or value.dtype is _FLOAT64) and value.flags.aligned:
        return value  # (the fast path of small calls)
    array = _logits(value, name)
    if array.dtype.kind in "iub":
        return array.astype(np.float64)
    return _converted(array, array.dtype.newbyteorder("="))


def _logits(value: ArrayLike, name: str) -> Array:
    """`value` as an array of a dtype that can be converted to what kernels read."""
    array = _real(value, name, _REAL_DTYPE)
    if array.dtype.kind not in "iub" and array.dtype.itemsize not in (2, 4, 8):
        raise TypeError(f"{name} must have {_REAL_DTYPE}, got {array.dtype}: convert it with astype")
    return array


def _target(value: ArrayLike, shape: Shape, dtype: np.dtype[Any]) -> Array:
    """Class indices and integer one-hot rows in their own dtype, class probabilities in that of the logits."""
    if _is_native(value):
        return value
    target = plain_array(value, "target")
    if (
        target.shape != shape.rows or target.dtype.kind not in "Of"
    ):  # (for these, the check of labels has a better message)
        target = _real(target, "target", "an integer dtype (class indices) or a real one (class probabilities)")
    is_soft = target.shape == shape.whole and target.dtype.kind not in "iub"
    return _converted(target, dtype) if is_soft else _native(target, "target")


def _native(value: ArrayLike, name: str) -> Array:
    """`value` as an array that kernels can read, if it has integers."""
    if _is_native(value):
        return value
    array = plain_array(value, name)
    return _converted(array, array.dtype.newbyteorder("=")) if array.dtype.kind in "iu" else array


def _is_native(value: ArrayLike) -> TypeGuard[Array]:
    """Whether it is an array of integers that kernels can read."""
    return type(value) is np.ndarray and value.dtype.kind in "iu" and value.dtype.isnative and value.flags.aligned


def _whole_labels(value: ArrayLike) -> Array:
    """Class indices, which boosting libraries may pass as floating-point numbers."""
    labels = _real(value, "labels", "an integer or floating dtype")
    if labels.dtype.kind == "b":
        raise TypeError("labels must have an integer or floating dtype, got bool")
    if labels.ndim != 1:
        raise ValueError(f"labels must be one-dimensional, with one label per row, got shape {labels.shape}")
    with np.errstate(invalid="ignore"):
        indices = labels.astype(np.int64)
    are_classes = (indices == labels) & (indices >= 0)
    if not are_classes.all():
        raise ValueError(f"labels must be non-negative whole numbers, got {labels[~are_classes][0]}")
    return indices


def _weights(value: ArrayLike, name: str, dtype: np.dtype[Any], meaning: str) -> Array:
    """Finite weights, in C order."""
    given = _real(value, name, f"a real dtype ({meaning})")
    weights = np.asarray(_converted(given, dtype), order="C")
    if not kernels.serving.of(dtype).are_finite(weights if weights.ndim == 1 else weights.reshape(-1)):
        wrong = given[~np.isfinite(weights)].flat[0]
        raise ValueError(f"{name} must be finite in {dtype}, got {wrong}")
    return weights


def _temperatures(value: ArrayLike, dtype: np.dtype[Any]) -> Array:
    """Temperatures of rows, all in range."""
    given = _real(value, "temperature", "a real dtype (one number for each row)")
    if given.dtype.kind == "b":
        raise TypeError("temperature must have a real dtype (one number for each row), got bool")
    temperatures = _converted(given, dtype)
    is_right = (temperatures >= dtype.type(1e-30)) & (temperatures <= dtype.type(1e30))
    if not is_right.all():
        place = np.argwhere(~is_right)[0]
        at = f"[{', '.join(map(str, place))}]" if given.ndim else ""
        raise ValueError(f"temperature{at} must be a number from 1e-30 to 1e30, got {given[tuple(place)]}")
    return temperatures


def plain_array(value: ArrayLike, name: str) -> Array:
    """`value` as an array of any dtype."""
    if type(value) is np.ndarray:
        return value
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name} must not be a masked array: fill it first with {name}.filled(...)")
    try:
        return np.asarray(value)
    except MemoryError:
        raise
    except Exception as error:  # lists of unequal length, tensors that need a gradient, anything __array__ raises
        found = ValueError if isinstance(error, ValueError) else TypeError
        raise found(f"{name} cannot be converted to an array, got {type(value).__name__}: {error}") from error


def _real(value: ArrayLike, name: str, expected: str) -> Array:
    """`value` as an array of real numbers."""
    array = value if type(value) is np.ndarray else plain_array(value, name)
    if array.dtype.kind == "O":
        raise TypeError(
            f"{name} must have a numeric dtype, got object: convert it with astype(float), or, for a data frame with "
            "nullable columns, with to_numpy(float)"
        )
    if array.dtype.kind not in _REAL and kernels.half_name(array.dtype) is None:
        raise TypeError(f"{name} must have {expected}, got {array.dtype}")
    return array


def _converted(array: Array, dtype: DTypeLike) -> Array:
    """The array itself if kernels can read it, otherwise a copy in `dtype`, native byte order, and aligned."""
    if array.dtype == dtype and array.flags.aligned:
        return array
    with np.errstate(all="ignore"):
        return array.astype(dtype)


def _check_out(out: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Require that a result of this shape and dtype can be written to `out`."""
    if type(out) is not np.ndarray and (not isinstance(out, np.ndarray) or isinstance(out, np.ma.MaskedArray)):
        raise TypeError(f"out must be a NumPy array, not masked, got {type(out).__name__}")
    if out.dtype != dtype and (out.dtype.char != dtype.char or out.dtype.newbyteorder("=") != dtype):
        raise TypeError(f"out must have dtype {dtype}, got {out.dtype}")
    if out.shape != shape:
        raise ValueError(f"out must have shape {shape}, got {out.shape}")
    if not out.flags.writeable:
        raise ValueError("out must be writable, got a read-only array")
