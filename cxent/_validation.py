"""The one place where arguments are checked, whatever they are.

Also the rules of dtypes, which are these. float32 and float64 are computed as such, half precision in float32, integers
and booleans in float64. Where logits meet a target or weights, these are converted to the dtype in which the logits are
computed. Where two arrays meet as equals, the wider dtype is computed, and Python's numbers, having no dtype, follow
the other (NEP 50).
"""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, SupportsIndex, TypeVar

import numpy as np
from numpy.exceptions import AxisError
from numpy.typing import ArrayLike, DTypeLike

from . import _workers, kernels
from ._types import Array, Axis, Real, Reduction

if TYPE_CHECKING:
    from ._layout import Layout

REDUCTIONS: tuple[Reduction, ...] = ("mean", "sum", "none")

_Word = TypeVar("_Word", bound=str)
_FLOAT32 = np.dtype(np.float32)
_FLOAT64 = np.dtype(np.float64)
_INT64 = np.dtype(np.int64)
_REAL = "fiub"
_NUMBERS_OF_PYTHON = (bool, int, float)
_ACCEPTED = "accepted are float16, bfloat16, float32, float64, integers and booleans"


# Arrays and their dtypes


def floating_array(value: ArrayLike, name: str) -> Array:
    """`value` as an array that kernels can read: in its floating dtype, or else in float64."""
    if type(value) is np.ndarray and (value.dtype is _FLOAT32 or value.dtype is _FLOAT64) and value.flags.aligned:
        return value  # what small calls bring, which are short of time
    array = real_array(value, name)
    if array.dtype.kind in "iub":
        return array.astype(np.float64)
    if array.dtype.itemsize not in (2, 4, 8):
        raise TypeError(f"{name} has dtype {array.dtype}; {_ACCEPTED}: convert it with astype")
    return _readable(array, array.dtype.newbyteorder("="))


def computed_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype in which kernels compute with numbers of another: float32 for half precision."""
    return _FLOAT32 if dtype.itemsize == 2 else dtype


def common_dtype(given_a: ArrayLike, a: Array, given_b: ArrayLike, b: Array) -> np.dtype[Any]:
    """The dtype of what is computed of two arrays, and of what they were made of."""
    if a.dtype == b.dtype or type(given_b) in _NUMBERS_OF_PYTHON:
        return a.dtype
    if type(given_a) in _NUMBERS_OF_PYTHON:
        return b.dtype
    return np.result_type(computed_dtype(a.dtype), computed_dtype(b.dtype))


@lru_cache(maxsize=8)
def half_name(dtype: np.dtype[Any]) -> str | None:
    """The name of half precision; None for any other dtype. (NumPy takes its time to name one.)"""
    return dtype.name if dtype.name in ("float16", "bfloat16") else None


def mask_like(x: Array, where: ArrayLike | None) -> Array | None:
    """Which numbers of x take part, in its shape."""
    if where is None:
        return None
    mask = plain_array(where, "where")
    if mask.dtype != np.bool_:
        raise TypeError(f"where has dtype {mask.dtype}; accepted are booleans")
    return _broadcast(mask, x.shape, "where", "")


def check_out(out: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """An array of a kernel's results can be put there."""
    if type(out) is not np.ndarray and (not isinstance(out, np.ndarray) or isinstance(out, np.ma.MaskedArray)):
        raise TypeError(f"out is a {type(out).__name__}; accepted is a plain NumPy array")
    if out.dtype != dtype and (out.dtype.char != dtype.char or out.dtype.newbyteorder("=") != dtype):
        raise TypeError(f"out has dtype {out.dtype}; accepted is {dtype}")
    if out.shape != shape:
        raise ValueError(f"out has shape {out.shape}; accepted is {shape}")
    if not out.flags.writeable:
        raise ValueError("out is read-only; accepted is an array that can be written")


def plain_array(value: ArrayLike, name: str) -> Array:
    """`value` as an array, whatever its dtype."""
    if type(value) is np.ndarray:
        return value
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array; accepted are plain arrays: fill it first with {name}.filled(...)")
    try:
        return np.asarray(value)
    except MemoryError:
        raise
    except Exception as error:  # lists of unequal length, tensors that need a gradient, whatever an __array__ raises
        found = ValueError if isinstance(error, ValueError) else TypeError
        message = f"{name} is a {type(value).__name__} of which NumPy makes no array: {error}"
        raise found(f"{message}; accepted is what np.asarray makes one of") from error


def real_array(value: ArrayLike, name: str, accepted: str = _ACCEPTED) -> Array:
    """`value` as an array of real numbers."""
    array = value if type(value) is np.ndarray else plain_array(value, name)
    if array.dtype.kind == "O":
        raise TypeError(
            f"{name} must have a numeric dtype, got object: convert it with astype(float), or, of a data frame with "
            "nullable columns, with to_numpy(float)"
        )
    if array.dtype.kind not in _REAL and half_name(array.dtype) is None:
        raise TypeError(f"{name} has dtype {array.dtype}; {accepted}")
    return array


def _readable(array: Array, dtype: DTypeLike) -> Array:
    """The array itself if kernels can read it, else a copy: in `dtype`, in native byte order, aligned."""
    if array.dtype == dtype and array.flags.aligned:
        return array
    with np.errstate(all="ignore"):
        return array.astype(dtype)


def _broadcast(array: Array, shape: tuple[int, ...], name: str, meaning: str) -> Array:
    try:
        return array if array.shape == shape else np.broadcast_to(array, shape)
    except ValueError:
        raise ValueError(
            f"{name} has shape {array.shape}; accepted is one that broadcasts to {shape}{meaning}"
        ) from None


# Targets and weights


class Indices(NamedTuple):
    """A target of class indices."""

    view: Array  # (outer, inner) of integers
    ignored: int | None  # the one whose rows do not count, which the labels' dtype may not have


class Probabilities(NamedTuple):
    """A target of class probabilities."""

    view: Array  # (outer, classes, inner)


Target = Indices | Probabilities


def checked_target(
    value: ArrayLike, layout: Layout, name: str, dtype: DTypeLike, ignore_index: int | None = None
) -> Target:
    """The target as kernels take it; `name` is that of the array that it belongs to."""
    target = plain_array(value, "target")
    if target.shape != layout.row_shape or target.dtype.kind not in "Of":
        target = real_array(
            target, "target", "accepted are integers (class indices) and real numbers (class probabilities)"
        )
    if target.shape == layout.shape:
        if ignore_index is not None:
            raise ValueError(
                f"ignore_index is {ignore_index} and target has shape {target.shape}, which is that of class "
                "probabilities; accepted is an ignore_index with class indices alone"
            )
        if target.dtype.kind in "iub":
            require_one_hot(target, layout, name)
        return Probabilities(layout.view(_readable(target, dtype)))
    if target.shape != layout.row_shape:
        of_torch = layout.shape[:1] + layout.shape[2:]
        hint = "; did you mean axis=1?" if target.shape == of_torch and len(layout.shape) > 1 else ""
        raise ValueError(
            f"target has shape {target.shape}; accepted for {name} of shape {layout.shape} are "
            f"{layout.row_shape} (class indices) and {layout.shape} (class probabilities){hint}"
        )
    require_integers(target, "target", "class indices")
    return _indices(target, "target", layout, ignore_index)


def require_one_hot(target: Array, layout: Layout, name: str) -> None:
    """Integers or booleans in the logits' shape have one 1 in each row, and 0 elsewhere."""
    axes = layout.class_axes
    is_one_hot = np.count_nonzero(target, axis=axes) == 1
    if target.dtype.kind != "b":
        is_one_hot &= np.count_nonzero(target == 1, axis=axes) == 1
    if is_one_hot.all():
        return
    row = np.argwhere(~is_one_hot)[0].tolist()
    remedies = [
        f"class indices must have shape {layout.row_shape}",
        "class probabilities must have a floating dtype: target.astype(float)",
    ]
    if layout.classes == 1 or layout.row_count == 1:
        both = "1 - probs, probs" if name == "probs" else f"0 * {name}, {name}"
        remedies.append(
            "labels 0 and 1 of a single score each belong to a binary cross-entropy: give both classes, as "
            f"np.stack([{both}], axis=-1)"
        )
    raise ValueError(
        f"target of dtype {target.dtype} in the shape of {name}, {layout.shape}, must be one-hot (one 1 in each row, 0 "
        f"elsewhere), got a row{f' {row}' if row else ''} that is not; {'; '.join(remedies)}"
    )


def require_integers(labels: Any, name: str, meaning: str) -> None:
    """Labels have an integer dtype; an empty list, which is float64 to NumPy, may be labels too."""
    dtype = labels.dtype
    if dtype.kind in "iu" or not labels.size:
        return
    has_nan = dtype.kind == "f" and isinstance(labels, np.ndarray) and bool(np.isnan(labels).any())
    if dtype.kind == "O" or has_nan:
        raise TypeError(
            f"{name} must have an integer dtype ({meaning}), got {dtype}{' with NaN' if has_nan else ''}: convert with "
            "astype(int), and fill missing labels before with a number that is no class, such as -100, giving "
            "ignore_index=-100"
        )
    raise TypeError(f"{name} must have an integer dtype ({meaning}), got {dtype}: convert it with astype(int)")


def checked_ids(value: ArrayLike, layout: Layout, ignore_index: int | None, several: bool = True) -> Indices:
    """Ids of classes as ``(outer, inner, k)``, of which there may be several for each row."""
    ids = plain_array(value, "ids")
    require_ids(ids, "ids", layout.row_shape, layout.shape, several)
    indices = _indices(ids, "ids", layout, ignore_index)
    one = ids.ndim == len(layout.row_shape)
    return Indices(indices.view[:, :, np.newaxis], indices.ignored) if one else indices


def require_ids(ids: Any, name: str, row_shape: tuple[int, ...], shape: tuple[int, ...], several: bool = True) -> None:
    """One integer for each row of logits of that shape, or several in an axis more."""
    if ids.shape != row_shape and not (several and ids.shape[:-1] == row_shape and ids.ndim > len(row_shape)):
        more = ", and one axis more for several candidates of each row" if several else ""
        raise ValueError(f"{name} has shape {ids.shape}; accepted for logits of shape {shape} are {row_shape}{more}")
    require_integers(ids, name, "ids of classes")


def _indices(target: Array, argument: str, layout: Layout, ignore_index: int | None) -> Indices:
    """Class indices as kernels take them; each is a class, or ignored."""
    labels = _readable(target, target.dtype.newbyteorder("=") if target.dtype.kind in "iu" else _INT64)
    indices = Indices(layout.row_view(labels), ignore_index)
    outer, inner, *several = indices.view.shape
    view = indices.view.reshape(outer * inner, *several) if several else indices.view
    if not kernels.serving.float64.labels_in_range(view, layout.classes, indices.ignored):
        raise IndexError(first_outside(target, argument, layout.classes, ignore_index))
    return indices


def whole_labels(value: ArrayLike) -> Array:
    """Class indices that may be given as floating-point numbers, as those of boosting libraries are."""
    labels = real_array(value, "labels", "accepted are whole numbers")
    if labels.dtype.kind == "b":
        raise TypeError("labels has dtype bool; accepted are whole numbers")
    if labels.ndim != 1:
        raise ValueError(f"labels has shape {labels.shape}; accepted is one label for each row, in one dimension")
    with np.errstate(invalid="ignore"):
        indices = labels.astype(np.int64)
    are_classes = (indices == labels) & (indices >= 0)
    if not are_classes.all():
        raise ValueError(f"label {labels[~are_classes][0]} is no class; accepted are whole numbers from 0 on")
    return indices


def class_weights(value: ArrayLike, classes: int, dtype: np.dtype[Any], name: str = "weight") -> Array:
    """One weight for each class, in `dtype`."""
    weights = _weights(value, name, dtype, "one for each class")
    if weights.shape != (classes,):
        raise ValueError(f"{name} must have shape {(classes,)}, one for each class, got {weights.shape}")
    return weights


def row_weights(value: ArrayLike, layout: Layout, dtype: np.dtype[Any]) -> Array:
    """One weight for each row, as ``(outer, inner)``."""
    weights = _weights(value, "sample_weight", dtype, "one for each row")
    return layout.row_view(_broadcast(weights, layout.row_shape, "sample_weight", ", one for each row"))


def require_classes(layout: Layout, axis: SupportsIndex, name: str) -> None:
    """A row without classes has no label."""
    if layout.classes == 0 and layout.row_count > 0:
        raise ValueError(f"{name} has shape {layout.shape} and axis {axis}: no classes; accepted is at least one")


def _weights(value: ArrayLike, name: str, dtype: np.dtype[Any], meaning: str) -> Array:
    given = real_array(value, name, f"accepted are real numbers, {meaning}")
    weights = np.asarray(_readable(given, dtype), order="C")
    if not kernels.serving.of(dtype).are_finite(weights if weights.ndim == 1 else weights.reshape(-1)):
        wrong = given[~np.isfinite(weights)].flat[0]
        raise ValueError(f"{name} has {wrong}; accepted are finite numbers, in {dtype}")
    return weights


def first_outside(target: Array, argument: str, classes: int, ignore_index: int | None) -> str:
    """What is wrong with class indices of which one is no class."""
    place = np.argwhere(((target < 0) | (target >= classes)) & (target != ignore_index))[0]
    found = target[tuple(place)]
    if ignore_index is not None:
        more = f", and {ignore_index}, the ignore_index"
        if ignore_index < 0 and target.dtype.kind == "u":
            more += f", which {target.dtype} cannot be: convert with astype(int) before filling"
    else:
        more = f" (rows that shall not count: ignore_index={found})" if found < 0 else ""
    at = f"[{', '.join(map(str, place))}]" if target.ndim else ""
    return f"{argument}{at} is {found}; accepted are class indices from 0 to {classes - 1}{more}"


# Options


@dataclass(frozen=True, slots=True)
class LossOptions:
    """The options of a loss, checked; all but the weights, which are arrays."""

    axis: int
    reduction: Reduction
    ignore_index: int | None
    label_smoothing: float
    temperature: float
    z_loss: float
    softcap: float  # 0: none
    is_plain: bool  # whether the loss is a sum or a mean without any option


def loss_options(
    axis: SupportsIndex,
    reduction: Reduction,
    ignore_index: SupportsIndex | None,
    label_smoothing: Real = 0.0,
    temperature: Real = 1.0,
    z_loss: Real = 0.0,
    softcap: Real | None = None,
) -> LossOptions:
    """The options of a loss, of those that a public function is given."""
    try:
        return _known_options(axis, reduction, ignore_index, label_smoothing, temperature, z_loss, softcap)
    except Exception:  # one is refused, or cannot be hashed, as some that are to be refused: the check names it
        pass
    return _checked_options(axis, reduction, ignore_index, label_smoothing, temperature, z_loss, softcap)


def _checked_options(
    axis: SupportsIndex,
    reduction: Reduction,
    ignore_index: SupportsIndex | None,
    label_smoothing: Real,
    temperature: Real,
    z_loss: Real,
    softcap: Real | None,
) -> LossOptions:
    reduction = one_of(REDUCTIONS, reduction, "reduction")
    axis = single_axis(axis)
    ignore_index = integer_or_none(ignore_index, "ignore_index")
    label_smoothing = real_number(label_smoothing, "label_smoothing", "a number from 0 to 1", lambda e: 0 <= e <= 1)
    z_loss = real_number(z_loss, "z_loss", "a finite number from 0 on", lambda z: 0 <= z < math.inf)
    accepted = "a number from 1e-30 to 1e30"
    temperature = real_number(temperature, "temperature", accepted, lambda t: 1e-30 <= t <= 1e30)
    if softcap is not None:
        softcap = real_number(softcap, "softcap", f"{accepted}, or None", lambda k: 1e-30 <= k <= 1e30)
    is_plain = (reduction != "none" and ignore_index is None and softcap is None) and (
        label_smoothing == 0 and z_loss == 0 and temperature == 1
    )
    return LossOptions(axis, reduction, ignore_index, label_smoothing, temperature, z_loss, softcap or 0.0, is_plain)


# The checks would be a third of a small call. Equal numbers of two types are two keys: False is no 0.0.
_known_options: Callable[..., LossOptions] = lru_cache(maxsize=64, typed=True)(_checked_options)


def real_number(value: object, name: str, accepted: str, accepts: Callable[[float], bool]) -> float:
    """A number that is accepted, as a float."""
    if isinstance(value, bool | np.timedelta64) or not isinstance(value, numbers.Real):
        if getattr(value, "size", None) == 1 and not isinstance(value, np.generic):
            raise TypeError(f"{name} must be {accepted}, got an array of one number: pass {name}.item()")
        raise TypeError(f"{name} is {value!r}; accepted is {accepted}")
    try:
        number = float(value)
    except OverflowError:  # an integer too large
        number = math.inf
    if not accepts(number):
        raise ValueError(f"{name} is {value!r}; accepted is {accepted}")
    return number


def integer_or_none(value: SupportsIndex | None, name: str) -> int | None:
    return None if value is None else _integer(value, name, "accepted are an integer and None")


def integer_in_range(value: SupportsIndex, name: str, most: int) -> int:
    """An integer from 0 to `most`."""
    accepted = f"accepted is an integer from 0 to {most}"
    number = _integer(value, name, accepted)
    if not 0 <= number <= most:
        raise ValueError(f"{name} is {number}; {accepted}")
    return number


def positive_integer(value: SupportsIndex, name: str) -> int:
    """An integer from 1 on."""
    accepted = "accepted is a positive integer"
    number = _integer(value, name, accepted)
    if number < 1:
        raise ValueError(f"{name} is {number}; {accepted}")
    return number


def single_axis(axis: SupportsIndex) -> int:
    """`axis` as one integer."""
    return _integer(axis, "axis", "accepted is one integer")


def class_axes_of(axis: Axis, ndim: int) -> tuple[int, ...]:
    """The class axes in ascending order, none of them negative."""
    if axis is None:
        return tuple(range(ndim))
    accepted = "accepted are an integer, a tuple of integers, and None"
    axes = [_integer(a, "axis", accepted) for a in (axis if isinstance(axis, tuple) else (axis,))]
    for a in axes:
        if not -ndim <= a < ndim:
            raise AxisError(a, ndim)
    class_axes = tuple(sorted({a % ndim for a in axes}))
    if len(class_axes) < len(axes):
        raise ValueError(f"axis is {axis!r}; accepted is each axis at most once")
    return class_axes


_default_workers = _workers.default.get  # (looked up once, for small calls)


def thread_count(workers: SupportsIndex | None, name: str = "workers") -> int:
    """`workers` as a number of threads, at most one a CPU; negative numbers count down from all CPUs, which are -1.

    None is the default, which `set_workers` sets.
    """
    if workers is None:
        workers = _default_workers()
    if type(workers) is int and workers == 1:  # in small calls every check counts
        return 1
    count = _integer(workers, name, "accepted is an integer")
    cpus = _workers.usable_cpus()
    if count == 0 or count < -cpus:
        raise ValueError(f"{name} must be a positive number, or from -1 (all CPUs) to {-cpus}, got {count}")
    return min(count, cpus) if count > 0 else cpus + 1 + count


def one_of(choices: tuple[_Word, ...], value: object, name: str) -> _Word:
    """The one of several words that the value is: a string of any type, such as a member of a StrEnum."""
    if isinstance(value, str):
        for choice in choices:
            if value == choice:
                return choice
    *first, last = map(repr, choices)
    raise ValueError(f"{name} is {value!r}; accepted are {', '.join(first)} and {last}")


def _integer(value: SupportsIndex, name: str, accepted: str) -> int:
    if type(value) is int:
        return value
    try:
        if isinstance(value, bool | np.bool_ | np.timedelta64):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} is {value!r}; {accepted}") from None
