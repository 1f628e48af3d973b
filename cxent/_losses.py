"""What all losses share: how their options are checked, and made into what kernels take; how results are reduced."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from . import kernels
from ._layout import Layout, layout_of
from ._types import Array, RowResults, Scalar
from ._validation import (
    Indices,
    Target,
    checked_target,
    class_weights,
    computed_dtype,
    integer_or_none,
    one_of,
    real_number,
    require_classes,
    row_weights,
    single_axis,
)

_ALWAYS_FITS = 1e38

# (ignored, label_smoothing, z_loss, softcap or 0, temperature, divisor, z_divisor)
KernelOptions: TypeAlias = tuple[int | None, float, float, float, float, float, float]

_Weights: TypeAlias = tuple[Array | None, Array | None]  # of the classes, and of the rows as (outer, inner)


@dataclass(frozen=True)
class LossOptions:
    """The options of a loss, checked; all but the weights, which are arrays."""

    axis: int
    reduction: str
    ignore_index: int | None
    label_smoothing: float
    temperature: float
    z_loss: float
    softcap: float  # 0: none
    is_plain: bool  # whether it is the sum or the mean, without any option


def loss_options(
    axis: Any,
    reduction: Any,
    ignore_index: Any,
    label_smoothing: Any = 0.0,
    temperature: Any = 1.0,
    z_loss: Any = 0.0,
    softcap: Any = None,
) -> LossOptions:
    """The options of a loss, as they are given to a public function."""
    try:
        return _known_options(axis, reduction, ignore_index, label_smoothing, temperature, z_loss, softcap)
    except Exception:  # one is refused, or cannot be hashed, as some that are to be refused: the check names it
        pass
    return _checked_options(axis, reduction, ignore_index, label_smoothing, temperature, z_loss, softcap)


def _checked_options(
    axis: Any, reduction: Any, ignore_index: Any, label_smoothing: Any, temperature: Any, z_loss: Any, softcap: Any
) -> LossOptions:
    one_of(("mean", "sum", "none"), reduction, "reduction")
    axis = single_axis(axis)
    ignored = integer_or_none(ignore_index, "ignore_index")
    smoothing = real_number(label_smoothing, "label_smoothing", "a number from 0 to 1", lambda e: 0 <= e <= 1)
    z = real_number(z_loss, "z_loss", "a finite number from 0 on", lambda z: 0 <= z < math.inf)
    accepted = "a number from 1e-30 to 1e30"
    heat = real_number(temperature, "temperature", accepted, lambda t: 1e-30 <= t <= 1e30)
    cap = 0.0
    if softcap is not None:
        cap = real_number(softcap, "softcap", f"{accepted}, or None", lambda k: 1e-30 <= k <= 1e30)
    is_plain = reduction != "none" and ignored is None and smoothing == z == cap == 0 and heat == 1
    return LossOptions(axis, reduction, ignored, smoothing, heat, z, cap, is_plain)


# The checks would be a third of a small call. Equal numbers of two types are two keys: False is no 0.0.
_known_options = lru_cache(maxsize=64, typed=True)(_checked_options)


class CheckedLoss(NamedTuple):
    """A target, its weights and its options, as kernels take them."""

    layout: Layout
    dtype: np.dtype[np.floating]  # in which it is computed
    target: Array  # labels (outer, inner), or probabilities (outer, classes, inner)
    class_weights: memoryview | None  # no array: every part of a call has it whole
    row_weights: Array | None
    options: KernelOptions
    row_losses: Array | None  # memory for them, if they are wanted

    def arrays(self) -> list[Array]:
        """What a kernel reads beside the logits."""
        weights = None if self.class_weights is None else np.asarray(self.class_weights)
        return [a for a in (self.target, weights, self.row_weights) if a is not None]

    def reduced(self, total: float) -> RowResults:
        """The loss that the caller gets, of the sum that a kernel returns."""
        if self.row_losses is not None:
            return self.layout.row_results(self.row_losses)
        *_, divisor, _ = self.options
        return scalar(total if divisor else math.nan, self.dtype.type)


def checked_loss(
    x: Array,
    name: str,
    target: ArrayLike,
    weight: ArrayLike | None,
    sample_weight: ArrayLike | None,
    given: LossOptions,
) -> CheckedLoss:
    """A loss of x, which is the argument of that name."""
    layout = layout_of(x, given.axis)
    require_classes(layout, given.axis, name)
    dtype = computed_dtype(x.dtype)
    checked = checked_target(target, layout, name, dtype, given.ignore_index)
    ignored = checked.ignored if isinstance(checked, Indices) else None
    weights = (
        None if weight is None else class_weights(weight, layout.classes, dtype),
        None if sample_weight is None else row_weights(sample_weight, layout, dtype),
    )
    divisors = (1.0, 1.0)
    if given.reduction == "mean":
        weights, divisors = _mean(checked, *weights, layout, dtype)
    by_class, by_row = weights
    if by_class is None and given.label_smoothing:
        by_class = np.ones(layout.classes, dtype)
    return CheckedLoss(
        layout,
        dtype,
        checked.view,
        None if by_class is None else by_class.data,
        by_row,
        (ignored, given.label_smoothing, given.z_loss, given.softcap, given.temperature, *divisors),
        layout.empty_row_results(dtype) if given.reduction == "none" else None,
    )


def scalar(total: float, dtype: type[np.floating]) -> Scalar:
    """The total in the logits' dtype: inf, without a warning, if it is too large for that."""
    if abs(total) < _ALWAYS_FITS:  # the context below would be an eighth of a small call
        return dtype(total)
    with np.errstate(over="ignore"):
        return dtype(total)


def _mean(
    target: Target, by_class: Array | None, by_row: Array | None, layout: Layout, dtype: np.dtype[np.floating]
) -> tuple[_Weights, tuple[float, float]]:
    """The weights of a mean, and what its sums are divided by: the sum of the weights of the rows that count, times
    those of their classes; and the sum of the rows' alone, for the z terms.

    The weights are scaled by powers of two where their sums are too large or too small to divide by.
    """
    weights = by_class, by_row
    labels, ignored = target if isinstance(target, Indices) else (None, None)
    if by_row is None and (labels is None or (by_class is None and ignored is None)):
        return weights, (float(layout.row_count), float(layout.row_count))
    if layout.row_count == 0:
        return weights, (0.0, 0.0)
    divisor, z_divisor, row_exponent, class_exponent = kernels.serving.of(dtype).sums_of_weights(
        labels, by_row, None if labels is None else by_class, ignored
    )
    if row_exponent and by_row is not None:
        by_row = np.ldexp(by_row, row_exponent)
    if class_exponent and by_class is not None:
        by_class = np.ldexp(by_class, class_exponent)
    return (by_class, by_row), (divisor, z_divisor)
