"""Results for the caller, from the memory that kernels have written: the last step of a call."""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np

from ._layout import Laid
from ._types import Array, RowResults, Scalar

_ALWAYS_FITS = 1e38


def result_of(laid: Laid) -> Any:
    """The first result in the shape of the inputs; a scalar instead of an array without axes."""
    if laid.copies:
        _copy(laid)
    result = laid.results[0]
    return result if result.ndim or result is laid.out else result[()]


def rows_of(laid: Laid) -> list[RowResults]:
    """The results per row, with scalars instead of arrays without axes."""
    rows = laid.row_results
    for k, a in enumerate(rows):
        if a is not None and a.ndim == 0:
            rows[k] = a[()]
    return rows


def loss_of(laid: Laid, total: float, divisor: float, dtype: np.dtype[Any]) -> tuple[list[RowResults], list[Any]]:
    """The results per row, the first of which is the loss, and the results in the shape of the inputs.

    Unless losses per row are requested, the loss is the total that the kernel returned.
    """
    if laid.copies:
        _copy(laid)
    rows = rows_of(laid)
    if rows[0] is None:
        rows[0] = scalar(total if divisor else math.nan, dtype)
    return rows, laid.results


def scalar(total: float, dtype: np.dtype[Any]) -> Scalar:
    """The total in the dtype of the logits; if it is too large for that, inf without a warning."""
    if abs(total) < _ALWAYS_FITS:  # the context below would take an eighth of a small call
        return cast(Scalar, dtype.type(total))
    with np.errstate(over="ignore"):
        return cast(Scalar, dtype.type(total))


def _copy(laid: Laid) -> None:
    for memory, result in laid.copies:
        with np.errstate(all="ignore"):  # numbers that are too large become infinite, as in kernels
            result[...] = memory


def narrowed(array: Array, dtype: np.dtype[Any]) -> Array:
    """An array in a dtype that may be narrower; numbers that are too large become infinite."""
    if array.dtype == dtype:
        return array
    with np.errstate(all="ignore"):
        return array.astype(dtype)
