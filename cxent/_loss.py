"""Code shared by all losses: the weights of rows and classes, and the divisor of a mean."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np

from . import kernels
from ._arrays import Shape
from ._options import LossOptions
from ._types import Array

_Weights: TypeAlias = tuple[Array | None, Array | None]  # of classes, and of rows as (outer, inner)


Weighted: TypeAlias = tuple[Array | None, Array | None, kernels.Options]
"""The weights of classes, the weights of rows, and the options of a loss, as kernels take them."""


def weighted(
    options: LossOptions,
    shape: Shape,
    dtype: np.dtype[Any],
    labels: Array | None = None,
    by_class: Array | None = None,
    by_row: Array | None = None,
    divisors: tuple[float, float] | None = None,
) -> Weighted:
    """The weights and options of a loss, given labels as ``(outer, inner)``, or None for class probabilities.

    The divisors of a mean follow from the weights, unless the rows are only part of a mean.
    """
    if divisors is not None:
        options = options._replace(reduction="sum")
    exponent = 0
    if by_class is not None and shape.classes and (options.label_smoothing or labels is None):
        exponent = kernels.serving.of(dtype).exponent_for_products(by_class)
        by_class = scaled_weights(by_class, exponent)
    found = 2.0**exponent, 1.0
    if options.reduction == "mean":
        (by_class, by_row), found = _mean(options.ignore_index, shape, dtype, labels, by_class, by_row)
        if labels is None:  # then the divisor does not depend on class weights
            found = math.ldexp(found[0], exponent), found[1]
    if by_class is None and options.label_smoothing:
        by_class = np.ones(shape.classes, dtype)
    divisor, z_divisor = divisors or found
    for_kernel = kernels.Options(
        options.ignore_index,
        options.label_smoothing,
        options.focal_gamma,
        options.z_loss,
        options.softcap,
        options.temperature,
        divisor,
        z_divisor,
    )
    return by_class, by_row, for_kernel


def _mean(
    ignored: int | None,
    shape: Shape,
    dtype: np.dtype[Any],
    labels: Array | None,
    by_class: Array | None,
    by_row: Array | None,
) -> tuple[_Weights, tuple[float, float]]:
    """The weights of a mean, and the divisors of its sums: the sum of row weights times class weights over the rows
    that count, and the sum of the row weights alone, for the z terms.

    Weights are scaled by powers of two if their sums are too large or too small to divide by.
    """
    weights = by_class, by_row
    if by_row is None and (labels is None or (by_class is None and ignored is None)):
        return weights, (float(shape.row_count), float(shape.row_count))
    if shape.row_count == 0:
        return weights, (0.0, 0.0)
    divisor, z_divisor, row_exponent, class_exponent = kernels.serving.of(dtype).sums_of_weights(
        labels, by_row, None if labels is None else by_class, ignored
    )
    return (scaled_weights(by_class, class_exponent), scaled_weights(by_row, row_exponent)), (divisor, z_divisor)


def scaled_weights(weights: Array | None, exponent: int) -> Array | None:
    if weights is None or exponent == 0:
        return weights
    with np.errstate(over="ignore", under="ignore"):  # (possible in rows that do not count)
        return np.ldexp(weights, exponent)
