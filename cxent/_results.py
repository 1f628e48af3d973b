"""What the caller gets of what kernels wrote: the last step of a call."""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np

from ._layout import Laid
from ._types import Array, RowResults, Scalar

_ALWAYS_FITS = 1e38


def result_of(laid: Laid) -> Any:
    """The first result in the shape of the inputs; a scalar for what has no axes."""
    if laid.copies:
        _copy(laid)
    result = laid.results[0]
    return result if result.ndim or result is laid.out else result[()]


def rows_of(laid: Laid) -> list[RowResults]:
    """The results of rows, likewise."""
    rows = laid.row_results
    for k, a in enumerate(rows):
        if a is not None and a.ndim == 0:
            rows[k] = a[()]
    return rows


def loss_of(laid: Laid, total: float, divisor: float, dtype: np.dtype[Any]) -> tuple[list[RowResults], list[Any]]:
    """The results of rows and those in the shape of the inputs; the loss, the first of the former, is the total that
    a kernel returned, unless that of each row is wanted.
    """
    if laid.copies:
        _copy(laid)
    rows = rows_of(laid)
    if rows[0] is None:
        rows[0] = scalar(total if divisor else math.nan, dtype)
    return rows, laid.results


def scalar(total: float, dtype: np.dtype[Any]) -> Scalar:
    """The total in the logits' dtype: inf, without a warning, if it is too large for that."""
    if abs(total) < _ALWAYS_FITS:  # the context below would be an eighth of a small call
        return cast(Scalar, dtype.type(total))
    with np.errstate(over="ignore"):
        return cast(Scalar, dtype.type(total))


def _copy(laid: Laid) -> None:
    for memory, result in laid.copies:
        with np.errstate(all="ignore"):  # what is too large becomes infinite, as in a kernel
            result[...] = memory


def narrowed(array: Array, dtype: np.dtype[Any]) -> Array:
    """An array in a dtype that may be narrower: what is too large becomes infinite."""
    if array.dtype == dtype:
        return array
    with np.errstate(all="ignore"):
        return array.astype(dtype)
