"""Checks of options: numbers and words.

The first step of a call. After it, the options are a plain record.
"""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple, SupportsIndex, TypeAlias, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike

from . import _workers
from ._types import Axis, Convention, Direction, Real, Reduction, Temperature

REDUCTIONS: tuple[Reduction, ...] = ("mean", "sum", "none")
CONVENTIONS: tuple[Convention, ...] = ("xgboost", "xgboost-abs", "lightgbm", "catboost", "exact")
MOST_CLASSES = 2**62

Axes: TypeAlias = int | tuple[int, ...] | None
"""The class axes, checked except for their range, which depends on the array."""

_Word = TypeVar("_Word", bound=str)


class LossOptions(NamedTuple):
    """The options of a loss, except for weights, which are arrays."""

    axis: int
    reduction: Reduction
    ignore_index: int | None
    label_smoothing: float
    focal_gamma: float
    z_loss: float
    softcap: float  # 0 means none
    temperature: float
    threads: int
    is_plain: bool  # a sum or a mean without other options


class BinaryOptions(NamedTuple):
    """The options of a two-class loss."""

    reduction: Reduction
    ignore_index: int | None
    label_smoothing: float
    focal_gamma: float
    threads: int


class DivergenceOptions(NamedTuple):
    """The options of a divergence."""

    comparison: str  # forward, reverse or jensen-shannon
    beta: float
    loss: LossOptions


class LayerOptions(NamedTuple):
    """The options of a linear layer's outputs."""

    loss: LossOptions
    chunk_bytes: int
    top_k: int


class ComparisonOptions(NamedTuple):
    """Those of a comparison of logits, a chunk of rows at a time."""

    scores: LossOptions
    chunk_bytes: int


class PartOptions(NamedTuple):
    """The options of a part of the classes."""

    axis: int
    first_class: int
    top_k: int
    temperature: float
    classes: int | None  # in all parts
    reduction: Reduction
    label_smoothing: float
    z_loss: float
    threads: int


def axes_and_threads(axis: Axis, workers: SupportsIndex | None) -> tuple[Axes, int]:
    """The checked options of functions that have no others."""
    if workers is None:
        workers = _default_workers()
    if type(axis) is int and type(workers) is int and workers == 1:  # in small calls every check counts
        return axis, 1
    return _axes(axis), thread_count(workers)


def loss_options(
    axis: SupportsIndex,
    reduction: Reduction,
    ignore_index: SupportsIndex | None,
    workers: SupportsIndex | None,
    label_smoothing: Real = 0.0,
    z_loss: Real = 0.0,
    softcap: Real | None = None,
    temperature: Real = 1.0,
    focal_gamma: Real = 0.0,
) -> LossOptions:
    """The checked options of a loss."""
    if workers is None:
        workers = _default_workers()
    threads = 1 if type(workers) is int and workers == 1 else thread_count(workers)
    if (  # none of them: in small calls every check counts
        type(label_smoothing) is type(focal_gamma) is type(z_loss) is type(temperature) is float
        and not (label_smoothing or focal_gamma or z_loss)
        and temperature == 1
        and softcap is None
        and ignore_index is None
        and type(axis) is int
        and isinstance(reduction, str)
    ):
        return _plain_options(axis, reduction, threads)
    given = axis, reduction, ignore_index, threads, label_smoothing, focal_gamma, z_loss, softcap, temperature
    try:
        return _known_options(*given)
    except Exception:  # an option is invalid, and perhaps not hashable: the check below raises its error
        pass
    return _checked_options(*given)


def binary_options(
    reduction: Reduction,
    ignore_index: SupportsIndex | None,
    workers: SupportsIndex | None,
    label_smoothing: Real,
    focal_gamma: Real,
) -> BinaryOptions:
    """The checked options of a two-class loss."""
    options = loss_options(-1, reduction, ignore_index, workers, label_smoothing, focal_gamma=focal_gamma)
    return BinaryOptions(
        options.reduction, options.ignore_index, options.label_smoothing, options.focal_gamma, options.threads
    )


def binary_reliability_options(
    bins: SupportsIndex, ignore_index: SupportsIndex | None, workers: SupportsIndex | None, temperature: Real
) -> tuple[LossOptions, BinaryOptions, int]:
    """Those of reliability, as those of a two-class loss too."""
    options, count = reliability_options(-1, bins, ignore_index, workers, temperature)
    return options, BinaryOptions("none", options.ignore_index, 0.0, 0.0, options.threads), count


def kl_options(
    direction: Direction, axis: SupportsIndex, reduction: Reduction, temperature: Real, workers: SupportsIndex | None
) -> DivergenceOptions:
    """The checked options of a Kullback-Leibler divergence."""
    options = loss_options(axis, reduction, None, workers, temperature=temperature)
    return DivergenceOptions(one_of(("forward", "reverse"), direction, "direction"), 0.0, options)


def js_options(
    beta: Real, axis: SupportsIndex, reduction: Reduction, temperature: Real, workers: SupportsIndex | None
) -> DivergenceOptions:
    """The checked options of a Jensen-Shannon divergence."""
    options = loss_options(axis, reduction, None, workers, temperature=temperature)
    share = _real(beta, "beta", "a number between 0 and 1", lambda b: 0 < b < 1)
    return DivergenceOptions("jensen-shannon", share, options)


def score_options(
    axis: SupportsIndex,
    top_k: SupportsIndex,
    ignore_index: SupportsIndex | None,
    workers: SupportsIndex | None,
    softcap: Real | None,
    temperature: Temperature,
    top_p: Real | None = None,
) -> tuple[LossOptions, int, ArrayLike | None, float | None]:
    """The checked options of scores, and the number of largest logits to return; the temperatures of the rows, if each
    has its own; and the probability of the nucleus."""
    number, by_row = _number_and_rows(temperature, softcap)
    options = loss_options(axis, "sum", ignore_index, workers, softcap=softcap, temperature=number)
    k = top_k if type(top_k) is int else _integer(top_k, "top_k", "an integer")
    if top_p is None:
        return options, k, by_row, None
    return options, k, by_row, _real(top_p, "top_p", "a number above 0 and up to 1, or None", lambda p: 0 < p <= 1)


def softmax_options(
    axis: Axis, workers: SupportsIndex | None, temperature: Temperature
) -> tuple[Axes, int, float | ArrayLike]:
    """The checked options of a softmax: the axes, the number of threads, and the temperature, or those of the rows."""
    if workers is None:
        workers = _default_workers()
    if (  # in small calls every check counts
        type(axis) is int and type(workers) is int and workers == 1 and type(temperature) is float and temperature == 1
    ):
        return axis, 1, 1.0
    number, by_row = _number_and_rows(temperature)
    return _axes(axis), thread_count(workers), checked_temperature(number) if by_row is None else by_row


def _number_and_rows(temperature: Temperature, softcap: Real | None = None) -> tuple[Real, ArrayLike | None]:
    """One temperature for all rows, and None; or 1, and what is to be one for each row."""
    if type(temperature) is float:
        return temperature, None
    is_array = hasattr(temperature, "__array__") and not isinstance(temperature, np.generic)
    if not (is_array or isinstance(temperature, list | tuple)):
        return cast(Real, temperature), None
    if softcap is not None:
        raise ValueError(f"temperature must be one number with a softcap, got {type(temperature).__name__}")
    return 1.0, cast(ArrayLike, temperature)


def fit_options(
    axis: SupportsIndex, ignore_index: SupportsIndex | None, workers: SupportsIndex | None, bounds: tuple[Real, Real]
) -> tuple[LossOptions, float, float]:
    """The checked options of a fit of the temperature, and its lowest and highest one."""
    options = loss_options(axis, "sum", ignore_index, workers)
    expected = "two temperatures from 1e-30 to 1e30 in ascending order, (low, high)"
    try:
        given_low, given_high = bounds
    except (TypeError, ValueError):
        raise TypeError(f"bounds must be {expected}, got {bounds!r}") from None
    low, high = (_real(bound, "bounds", expected, lambda t: 1e-30 <= t <= 1e30) for bound in (given_low, given_high))
    if not low < high:
        raise ValueError(f"bounds must be {expected}, got {bounds!r}")
    return options, low, high


def reliability_options(
    axis: SupportsIndex,
    bins: SupportsIndex,
    ignore_index: SupportsIndex | None,
    workers: SupportsIndex | None,
    temperature: Real,
) -> tuple[LossOptions, int]:
    """The checked options of reliability, and the number of bins."""
    options = loss_options(axis, "sum", ignore_index, workers, temperature=temperature)
    count = _integer(bins, "bins", "a positive integer")
    if count < 1:
        raise ValueError(f"bins must be a positive integer, got {count}")
    return options, count


def layer_options(
    chunk_bytes: SupportsIndex,
    reduction: Reduction,
    ignore_index: SupportsIndex | None,
    workers: SupportsIndex | None,
    label_smoothing: Real = 0.0,
    z_loss: Real = 0.0,
    softcap: Real | None = None,
    temperature: Real = 1.0,
    top_k: SupportsIndex = 0,
) -> LayerOptions:
    """The checked options of a loss or scores of a linear layer's outputs."""
    options = loss_options(-1, reduction, ignore_index, workers, label_smoothing, z_loss, softcap, temperature)
    return LayerOptions(options, _chunk_size(chunk_bytes), _integer(top_k, "top_k", "an integer"))


def comparison_options(
    axis: SupportsIndex,
    temperature: Real,
    ignore_index: SupportsIndex | None,
    chunk_bytes: SupportsIndex,
    workers: SupportsIndex | None,
) -> ComparisonOptions:
    """Those of a comparison of two arrays of logits."""
    options = loss_options(axis, "none", ignore_index, workers, temperature=temperature)
    return ComparisonOptions(options, _chunk_size(chunk_bytes))


def _chunk_size(chunk_bytes: SupportsIndex) -> int:
    size = _integer(chunk_bytes, "chunk_bytes", "a positive integer")
    if size < 1:
        raise ValueError(f"chunk_bytes must be a positive integer, got {size}")
    return size


def part_options(
    axis: SupportsIndex,
    workers: SupportsIndex | None,
    first_class: SupportsIndex = 0,
    top_k: SupportsIndex = 0,
    temperature: Real = 1.0,
    classes: SupportsIndex | None = None,
    reduction: Reduction = "sum",
    label_smoothing: Real = 0.0,
    z_loss: Real = 0.0,
) -> PartOptions:
    """The checked options of a part of the classes."""
    threads = thread_count(workers)
    return PartOptions(
        single_axis(axis),
        _integer_in_range(first_class, "first_class", MOST_CLASSES),
        _integer_in_range(top_k, "top_k", MOST_CLASSES),
        checked_temperature(temperature),
        None if classes is None else _integer_in_range(classes, "classes", MOST_CLASSES),
        one_of(REDUCTIONS, reduction, "reduction"),
        _checked_smoothing(label_smoothing),
        _checked_z_loss(z_loss),
        threads,
    )


def _checked_options(
    axis: SupportsIndex,
    reduction: Reduction,
    ignore_index: SupportsIndex | None,
    threads: int,
    label_smoothing: Real,
    focal_gamma: Real,
    z_loss: Real,
    softcap: Real | None,
    temperature: Real,
) -> LossOptions:
    reduction = one_of(REDUCTIONS, reduction, "reduction")
    axis = single_axis(axis)
    if ignore_index is not None:
        ignore_index = _integer(ignore_index, "ignore_index", "an integer or None")
    label_smoothing = _checked_smoothing(label_smoothing)
    gamma = _real(focal_gamma, "focal_gamma", "a number from 0 to 100", lambda g: 0 <= g <= 100)
    if gamma and label_smoothing:
        raise ValueError(
            f"focal_gamma must be 0 with label smoothing, got focal_gamma={gamma} and label_smoothing={label_smoothing}"
        )
    z_loss = _checked_z_loss(z_loss)
    temperature = checked_temperature(temperature)
    if softcap is not None:
        softcap = _real(softcap, "softcap", "a number from 1e-30 to 1e30, or None", lambda k: 1e-30 <= k <= 1e30)
    is_plain = (reduction != "none" and ignore_index is None and softcap is None) and (
        label_smoothing == 0 and gamma == 0 and z_loss == 0 and temperature == 1
    )
    return LossOptions(
        axis, reduction, ignore_index, label_smoothing, gamma, z_loss, softcap or 0.0, temperature, threads, is_plain
    )


def _checked_plain_options(axis: int, reduction: Reduction, threads: int) -> LossOptions:
    return _checked_options(axis, reduction, None, threads, 0.0, 0.0, 0.0, None, 1.0)


# Cached, since the checks would take a third of a small call. Typed, since False is not 0.0.
_plain_options: Callable[[int, Reduction, int], LossOptions] = lru_cache(maxsize=64)(_checked_plain_options)
_known_options: Callable[..., LossOptions] = lru_cache(maxsize=64, typed=True)(_checked_options)


def checked_temperature(value: object) -> float:
    """`temperature` as a number."""
    return _real(value, "temperature", "a number from 1e-30 to 1e30", lambda t: 1e-30 <= t <= 1e30)


def _checked_smoothing(value: object) -> float:
    return _real(value, "label_smoothing", "a number from 0 to 1", lambda e: 0 <= e <= 1)


def _checked_z_loss(value: object) -> float:
    return _real(value, "z_loss", "a finite non-negative number", lambda z: 0 <= z < math.inf)


def checked_pos_weight(value: object) -> float:
    """`pos_weight` as a number."""
    return _real(value, "pos_weight", "a finite non-negative number", lambda a: 0 <= a < math.inf)


def _real(value: object, name: str, expected: str, accepts: Callable[[float], bool]) -> float:
    """The number as a float."""
    if isinstance(value, bool | np.timedelta64) or not isinstance(value, numbers.Real):
        if getattr(value, "size", None) == 1 and not isinstance(value, np.generic):
            raise TypeError(f"{name} must be {expected}, got an array of one number: pass {name}.item()")
        raise TypeError(f"{name} must be {expected}, got {value!r}")
    try:
        number = float(value)
    except OverflowError:  # an integer that is too large
        number = math.inf
    if not accepts(number):
        raise ValueError(f"{name} must be {expected}, got {value!r}")
    return number


def _integer_in_range(value: SupportsIndex, name: str, most: int) -> int:
    """An integer from 0 to `most`."""
    expected = f"an integer from 0 to {most}"
    number = _integer(value, name, expected)
    if not 0 <= number <= most:
        raise ValueError(f"{name} must be {expected}, got {number}")
    return number


def single_axis(axis: SupportsIndex) -> int:
    """`axis` as one integer."""
    return _integer(axis, "axis", "an integer")


def _axes(axis: Axis) -> Axes:
    if axis is None:
        return None
    expected = "an integer, a tuple of integers or None"
    if isinstance(axis, tuple):
        return tuple(_integer(a, "axis", expected) for a in axis)
    return _integer(axis, "axis", expected)


_default_workers = _workers.default.get  # (looked up once, to save time in small calls)


def thread_count(workers: SupportsIndex | None, name: str = "workers") -> int:
    """`workers` as a number of threads, at most one per CPU; -1 means all CPUs, -2 all but one, and so on.

    None means the default, which `set_workers` sets.
    """
    if workers is None:
        workers = _default_workers()
    if type(workers) is int and workers == 1:  # in small calls every check counts
        return 1
    count = _integer(workers, name, "an integer")
    cpus = _workers.usable_cpus()
    if count == 0 or count < -cpus:
        raise ValueError(f"{name} must be positive, or from -1 (all CPUs) down to {-cpus}, got {count}")
    return min(count, cpus) if count > 0 else cpus + 1 + count


def one_of(choices: tuple[_Word, ...], value: object, name: str) -> _Word:
    """The choice that equals the value, which may be a string of any type, for instance a member of a StrEnum."""
    if isinstance(value, str):
        for choice in choices:
            if value == choice:
                return choice
    *first, last = map(repr, choices)
    raise ValueError(f"{name} must be {', '.join(first)} or {last}, got {value!r}")


def _integer(value: SupportsIndex, name: str, expected: str) -> int:
    if type(value) is int:
        return value
    try:
        if isinstance(value, bool | np.bool_ | np.timedelta64):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be {expected}, got {value!r}") from None
