"""What `cxent.partial` works with: the state of a part of the classes, its checks, and what follows from it."""

from __future__ import annotations

from typing import Any, NamedTuple, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike

from . import kernels
from ._layout import Layout, as_stored, exceeds_cache, layout_of, widened
from ._types import Array, Out, Reduction, RowResults
from ._validation import (
    computed_dtype,
    floating_array,
    one_of,
    plain_array,
    require_ids,
    row_weights,
    single_axis,
    thread_count,
)

MOST_CLASSES = 2**62
WITHOUT_TARGET = "p has no target_logit; accepted is what was reduced with a target"


class Partial(NamedTuple):
    """What is known of rows from a part of their classes. Each is an array in the rows' shape."""

    maximum: RowResults
    """The largest logit m; -inf where there is none."""
    sumexp_m1: RowResults
    """The sum of ``exp(x - m)`` less its largest term, which is 1; so it is -1 where there is none."""
    shifted: RowResults
    """The sum of ``exp(x - m) * (x - m)``, for the entropy."""
    target_logit: RowResults | None
    """The logit of the target, with several candidates in an axis more; NaN where it is in none of the parts. None
    without a target."""
    top_ids: Array | None
    """The ids of the largest logits in descending order, in an axis more; -1 where there are no more classes. None if
    they were not wanted."""
    top_logits: Array | None
    """Their logits."""
    temperature: float
    """What differences of logits are divided by."""


def logprob_of(logits: RowResults, p: Partial) -> RowResults:
    """The log-probabilities of logits of each row, of one or of several."""
    several = np.ndim(logits) > np.ndim(p.maximum)
    m, rest = (np.asarray(a)[..., np.newaxis] if several else a for a in (p.maximum, p.sumexp_m1))
    with np.errstate(all="ignore"):
        return in_dtype_of(p, (logits - m) / temperature_of(p) - np.log1p(rest) + (m - m))


def in_dtype_of(p: Partial, results: Any) -> RowResults:
    """Results in the dtype of the state. (NumPy 1 makes float64 of a float32 scalar and a Python number.)"""
    return np.asarray(results, np.asarray(p.maximum).dtype)[()]


def temperature_of(p: Partial) -> Any:
    """In the dtype of the state."""
    return np.asarray(p.maximum).dtype.type(p.temperature)


def finished(
    logits: ArrayLike, p: Partial, factor: Array, logarithms: bool, axis: SupportsIndex, out: Out, workers: Any
) -> Array:
    """What a kernel makes of a part, and of m and another number of each row."""
    threads = thread_count(workers)
    x = floating_array(logits, "logits")
    layout = layout_of(x, single_axis(axis))
    check_rows(p, layout)
    dtype = np.result_type(computed_dtype(x.dtype), p.maximum)  # (another part may have been of float64)
    given = x.dtype
    if dtype != computed_dtype(given):
        x = x.astype(dtype)
    result = layout.output(out, given, in_place=[x], computed=x.dtype)
    if result.size:
        kernels.serving.of(dtype).finish_part(
            as_stored(layout.view(x)),
            layout.row_view(np.asarray(p.maximum, dtype)),
            layout.row_view(np.asarray(factor, dtype)),
            logarithms,
            p.temperature,
            as_stored(result),
            exceeds_cache(result),
            threads,
        )
    return layout.result(result, out, given)


def checked_target(target: ArrayLike, layout: Layout) -> Array:
    """Class indices in int64, of the rows' shape, or of one axis more."""
    ids = plain_array(target, "target")
    require_ids(ids, "target", layout.row_shape, layout.shape)
    return ids.astype(np.int64)


def logits_at(x: Array, axis: int, ids: Array, layout: Layout) -> Array:
    """The logits of classes of each row, in the dtype in which they are computed."""
    rows = np.moveaxis(x, axis, -1)
    if not layout.classes:
        return np.zeros(ids.shape, computed_dtype(x.dtype))
    several = ids if ids.ndim > len(layout.row_shape) else ids[..., np.newaxis]
    return widened(np.take_along_axis(rows, several, axis=-1).reshape(ids.shape))


def top_of_part(
    x: Array, axis: int, layout: Layout, found: Array | None, m: Array, first: int, k: int
) -> tuple[Array, Array]:
    """The ids and logits of the largest of a part, and -1 and -inf for what there is no class for."""
    ids = np.full((*layout.row_shape, k), -1, np.int64)
    logits = np.full((*layout.row_shape, k), -np.inf, computed_dtype(x.dtype))
    if found is not None and layout.row_count:
        here = np.asarray(layout.row_results(found))
        here = np.where((m == -np.inf)[..., np.newaxis], np.arange(here.shape[-1]), here)  # (the lower of equal ones)
        ids[..., : here.shape[-1]] = first + here
        logits[..., : here.shape[-1]] = logits_at(x, axis, np.maximum(here, 0), layout)
    return ids, logits


def without_top(rest: Array, m: Array, top_ids: Array, top_logits: Array) -> tuple[Array, Array]:
    """No ids, and NaN, where a row has no probabilities."""
    without = (np.isnan(rest) | (m == np.inf))[..., np.newaxis]
    return np.where(without, -1, top_ids), np.where(without, top_logits.dtype.type(np.nan), top_logits)


def largest_of(ids: Array, logits: Array, k: int) -> tuple[Array, Array]:
    """The k largest, the lower id first among equals, and what is no class last."""
    order = np.lexsort((ids.astype(np.uint64), -logits), axis=-1)[..., :k]  # (-1 is the largest there)
    return np.take_along_axis(ids, order, axis=-1), np.take_along_axis(logits, order, axis=-1)


def ordered(a_is_larger: Array, a: RowResults, b: RowResults) -> tuple[Array, Array]:
    """The numbers of the parts with the larger and the smaller maximum."""
    of_a, of_b = np.asarray(a), np.asarray(b)
    return np.where(a_is_larger, of_a, of_b), np.where(a_is_larger, of_b, of_a)


def scalar_or_none(array: Array | None) -> RowResults:
    return None if array is None else array[()]


def weights_and_divisor(p: Partial, sample_weight: ArrayLike | None, reduction: Reduction) -> tuple[Array, float]:
    """The rows' weights in float64, and what the sum of their losses is divided by."""
    one_of(("mean", "sum", "none"), reduction, "reduction")
    m = np.asarray(p.maximum)
    weights = np.ones(m.shape)
    if sample_weight is not None:
        rows = layout_of(m[..., np.newaxis], -1)
        weights = np.asarray(rows.row_results(row_weights(sample_weight, rows, m.dtype))).astype(np.float64)
    if reduction != "mean":
        return weights, 1.0
    largest = np.abs(weights).max(initial=0)
    weights = np.ldexp(weights, -np.frexp(largest)[1])  # (a mean is the same of their multiples, which have a sum)
    return weights, float(weights.sum())


def check_targets(p: Partial, weights: Array) -> None:
    """Each row that counts has one target, in one of the parts."""
    if p.target_logit is None:
        raise ValueError(WITHOUT_TARGET)
    if np.shape(p.target_logit) != np.shape(p.maximum):
        raise ValueError(f"p has targets of shape {np.shape(p.target_logit)}; accepted is one for each row")
    missing = np.isnan(np.asarray(p.target_logit)) & ~np.isnan(np.asarray(p.sumexp_m1)) & (weights != 0)
    if missing.any():
        place = "".join(f"[{i}]" for i in np.argwhere(missing)[0])
        raise ValueError(f"the target of row {place} is in none of the parts; accepted are rows of sample_weight 0")


def check(p: Partial, name: str) -> None:
    if not isinstance(p, Partial):
        raise TypeError(f"{name} is a {type(p).__name__}; accepted is a Partial, of partial.reduce")


def check_rows(p: Partial, layout: Layout) -> None:
    check(p, "p")
    if np.shape(p.maximum) != layout.row_shape:
        raise ValueError(
            f"p has rows of shape {np.shape(p.maximum)}, and logits of shape {layout.shape} have {layout.row_shape}; "
            "accepted are equal rows"
        )


def check_same_rows(a: Partial, b: Partial) -> None:
    check(a, "a")
    check(b, "b")
    for field, of_a, of_b in (
        ("rows", a.maximum, b.maximum),
        ("targets", a.target_logit, b.target_logit),
        ("largest logits", a.top_ids, b.top_ids),
    ):
        found = ["none" if array is None else f"shape {np.shape(array)}" for array in (of_a, of_b)]
        if found[0] != found[1]:
            raise ValueError(f"a has {field} of {found[0]}, and b of {found[1]}; accepted are equal ones")
    if a.temperature != b.temperature:
        raise ValueError(f"a has the temperature {a.temperature}, and b {b.temperature}; accepted are equal ones")
