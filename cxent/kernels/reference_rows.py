"""What the kernels in pure NumPy share: rows with the classes last in float64, their sums, and their exponentials."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def rows_of(x: Array) -> Array:
    """(outer, classes, inner) as (outer, inner, classes), contiguous, in float64."""
    if x.dtype == np.uint16:  # the bits of float16
        x = x.view(np.float16)
    elif x.dtype == np.int16:  # the bits of bfloat16, which are the upper half of those of float32
        x = (x.astype(np.uint32) << 16).view(np.float32)
    return np.ascontiguousarray(np.moveaxis(x, 1, 2), dtype=np.float64)


def store(rows: Array, out: Array) -> None:
    """(outer, inner, classes) into (outer, classes, inner), rounded to the dtype of `out`."""
    numbers = np.moveaxis(rows, 2, 1)
    if out.dtype == np.uint16:
        out.view(np.float16)[...] = numbers
    elif out.dtype == np.int16:
        bits = np.asarray(numbers, np.float32, order="C").view(np.uint32)
        nearest = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16  # of two the even one
        out.view(np.uint16)[...] = np.where(np.isnan(numbers), 0x7FC0, nearest)
    else:
        out[...] = numbers


def sum_rows(rows: Array) -> Array:
    """The sum over the last axis, which stays: pairwise to the end, since equal terms round alike in a longer run."""
    while (n := rows.shape[-1]) > 1:
        half = rows[..., n // 2 :].copy()
        half[..., : n // 2] += rows[..., : n // 2]
        rows = half
    return rows


def finite_sum(terms: Callable[[float], Array]) -> tuple[float, Array]:
    """c, and the sum of terms that are multiples of it: 1/2, or less where the sum would be too large."""
    total = sum_rows(terms(0.5))
    return (0.5, total) if np.isfinite(total).all() else (2.0**-32, sum_rows(terms(2.0**-32)))


def shifted_by_max(x: Array) -> tuple[Array, Array, Array]:
    """The maximum m, x - m, and what rounding has taken from that (Knuth's two-sum)."""
    m = x.max(axis=-1, keepdims=True)
    shifted = x - m
    taken = shifted - x
    lost = (x - (shifted - taken)) - (m + taken)
    return m, shifted, np.where(np.isfinite(lost), lost, 0)


def exponentials(shifted: Array, lost: Array | float = 0) -> tuple[Array, Array]:
    """exp(x - m), and rest = sum(exp(x - m)) - 1 summed over all classes but one maximum."""
    e = np.exp(shifted) * (1 + lost)
    far = shifted < -512
    below = sum_rows(np.where((shifted == 0) | far, 0, e))
    if far.any():  # terms too small to be numbers are summed 512 higher up, where they are
        below += np.exp(-512) * sum_rows(np.where(far, np.exp(shifted + 512) * (1 + lost), 0))
    maxima = np.count_nonzero(shifted == 0, axis=-1, keepdims=True)
    return e, (maxima - 1) + below


def hidden_in(mask: Array | None) -> Array | bool:
    """Where the mask is not set."""
    return False if mask is None else rows_of(mask) == 0


def chosen_rows(x: Array, mask: Array | None) -> tuple[Array, Array | bool]:
    """The rows, with -inf where the mask is not set, and whether it leaves nothing of a row."""
    rows = rows_of(x)
    if mask is None:
        return rows, False
    hidden = rows_of(mask) == 0
    return np.where(hidden, -np.inf, rows), hidden.all(axis=-1, keepdims=True)


def capped(
    u: Array, cap: float, temperature: float | Array, hidden: Array | bool = False
) -> tuple[Array, Array, Array, Array]:
    """The maximum m of x, x - m, what that lacks, and dx/du, for x = cap * tanh(u / (temperature * cap)), or
    u / temperature; x is -inf where it is hidden."""
    top, shifted, lost = shifted_by_max(u)
    if isinstance(temperature, np.ndarray):  # one for each row
        temperature = temperature[..., np.newaxis].astype(np.float64)
    if cap == 0:
        if isinstance(temperature, np.ndarray) or temperature != 1:  # (in halves, since differences may overflow)
            shifted, lost = (u / 2 - top / 2) / (temperature / 2), np.zeros_like(u)
        return top / temperature, shifted, lost, np.zeros_like(u) + 1 / temperature
    # tanh(v_m) - tanh(v) = sinh(v_m - v) / (cosh(v_m) cosh(v)), in exponentials of what is negative
    rate = 1 / (temperature * cap)
    e, e_top = np.exp(-2 * rate * np.abs(u)), np.exp(-2 * rate * np.abs(top))
    common = np.where(u > 0, e, np.where(top > 0, 1, e_top)) / ((1 + e) * (1 + e_top))
    shifted = np.where(u == top, 0, 2 * cap * common * np.expm1(2 * rate * shifted))
    shifted = np.where(hidden, -np.inf, shifted)
    return cap * np.tanh(rate * top), shifted, np.zeros_like(u), 4 * e / (1 + e) ** 2 / temperature


def limit(x: Array, m: Array) -> Array:
    """The logsumexp of rows with an infinite maximum."""
    return np.where(np.isnan(x).any(axis=-1, keepdims=True), np.nan, m)
