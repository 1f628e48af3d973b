"""What all losses share: their arguments as kernels take them, what a mean is divided by, and the loss itself."""

from __future__ import annotations

import math
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from . import kernels
from ._layout import Layout, layout_of
from ._types import Array, RowResults, Scalar
from ._validation import (
    Indices,
    LossOptions,
    Target,
    checked_target,
    class_weights,
    computed_dtype,
    require_classes,
    row_weights,
)

_ALWAYS_FITS = 1e38

# ignored, label_smoothing, z_loss, softcap or 0, temperature, divisor, z_divisor: a plain tuple is made soonest.
KernelOptions: TypeAlias = tuple[int | None, float, float, float, float, float, float]

_Weights: TypeAlias = tuple[Array | None, Array | None]  # of the classes, and of the rows as (outer, inner)


class CheckedLoss(NamedTuple):
    """A target, its weights and its options, as kernels take them."""

    layout: Layout
    dtype: np.dtype[np.floating]  # in which it is computed
    target: Array  # labels (outer, inner), or probabilities (outer, classes, inner)
    class_weights: Array | None
    row_weights: Array | None
    options: KernelOptions
    row_losses: Array | None  # memory for them, if they are wanted

    def arrays(self) -> list[Array]:
        """What a kernel reads beside the logits."""
        return [a for a in (self.target, self.class_weights, self.row_weights) if a is not None]

    def compute(
        self,
        logits: Array,
        threads: int,
        *,
        lse: Array | None = None,
        grad: Array | None = None,
        hess: Array | None = None,
        past_caches: bool = False,
    ) -> float:
        """The sum of the losses of these logits; writes what else is wanted."""
        total: float = kernels.serving.of(self.dtype).cross_entropy(
            logits,
            self.target,
            self.class_weights,
            self.row_weights,
            self.options,
            self.row_losses,
            lse,
            grad,
            hess,
            past_caches,
            threads,
        )
        return total

    def of_rows(self, rows: slice | Array) -> CheckedLoss:
        """That of some rows; the losses of each row are copied if the rows are given by their numbers."""
        return self._replace(
            target=self.target[rows],
            row_weights=None if self.row_weights is None else self.row_weights[rows],
            row_losses=None if self.row_losses is None else self.row_losses[rows],
        )

    def counted(self) -> Array:
        """Which rows count, as ``(outer, inner)``: those that are not ignored and whose weight is not 0."""
        counted = np.ones(self.target.shape[::2] if self.target.ndim == 3 else self.target.shape, np.bool_)
        if self.target.ndim == 2 and self.options[0] is not None:
            counted &= self.target != self.options[0]
        if self.row_weights is not None:
            counted &= self.row_weights != 0
        return counted

    def reduced(self, total: float) -> RowResults:
        """The loss that the caller gets, of the sum that a kernel returns."""
        if self.row_losses is not None:
            return self.layout.row_results(self.row_losses)
        divisor = self.options[5]
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
    return weighted_loss(checked, layout, dtype, weight, sample_weight, given)


def weighted_loss(
    checked: Target,
    layout: Layout,
    dtype: np.dtype[np.floating],
    weight: ArrayLike | None,
    sample_weight: ArrayLike | None,
    given: LossOptions,
) -> CheckedLoss:
    """The same of a target that is checked."""
    ignored = checked.ignored if isinstance(checked, Indices) else None
    weights = (
        None if weight is None else class_weights(weight, layout.classes, dtype),
        None if sample_weight is None else row_weights(sample_weight, layout, dtype),
    )
    by_class, by_row = weights
    exponent = 0
    if by_class is not None and layout.classes and (given.label_smoothing or not isinstance(checked, Indices)):
        exponent = kernels.serving.of(dtype).exponent_for_products(by_class)
        by_class = _scaled(by_class, exponent)
    divisors = (2.0**exponent, 1.0)
    if given.reduction == "mean":
        (by_class, by_row), divisors = _mean(checked, by_class, by_row, layout, dtype)
        if not isinstance(checked, Indices):  # then the weights of classes are no part of the divisor
            divisors = math.ldexp(divisors[0], exponent), divisors[1]
    if by_class is None and given.label_smoothing:
        by_class = np.ones(layout.classes, dtype)
    return CheckedLoss(
        layout,
        dtype,
        checked.view,
        by_class,
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
    return (_scaled(by_class, class_exponent), _scaled(by_row, row_exponent)), (divisor, z_divisor)


def _scaled(weights: Array | None, exponent: int) -> Array | None:
    if weights is None or exponent == 0:
        return weights
    with np.errstate(over="ignore", under="ignore"):  # in rows that do not count
        return np.ldexp(weights, exponent)
