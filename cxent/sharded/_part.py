"""What `cxent.sharded` works with: the state of a part of the classes, its checks, and what follows from it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike

from .. import kernels
from .._layout import Layout, as_stored, exceeds_cache, layout_of, narrowed, widened
from .._types import Array, Out, Reduction, RowResults
from .._validation import (
    computed_dtype,
    floating_array,
    integer_in_range,
    one_of,
    plain_array,
    require_ids,
    row_weights,
    single_axis,
    thread_count,
)

MOST_CLASSES = 2**62
WITHOUT_TARGET = "p has no target_logit; accepted is what was reduced with a target"


class Part(NamedTuple):
    """What is known of rows from a part of their classes. What has no other description is in the rows' shape."""

    maximum: RowResults
    """The largest logit m; -inf where there is none."""
    sumexp_m1: RowResults
    """The sum of ``exp(x - m)`` less its largest term, which is 1; so it is -1 where there is none."""
    shifted: RowResults
    """The sum of ``exp(x - m) * (x - m)``, for the entropy."""
    lost: Array
    """What rounding has taken from these two sums, in an axis more: so merging any number of parts adds no error."""
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
    ranges: tuple[tuple[int, int], ...]
    """The classes, as pairs of a first class and the one after the last, in ascending order."""
    classes: int | None
    """How many classes there are in all parts; None if that was not said."""


def logprob_of(logits: RowResults, p: Part) -> RowResults:
    """The log-probabilities of logits of each row, of one or of several."""
    several = np.ndim(logits) > np.ndim(p.maximum)
    m, log_sum = (np.asarray(a)[..., np.newaxis] if several else a for a in (p.maximum, log_sum_of(p)))
    with np.errstate(all="ignore"):
        return in_dtype_of(p, (logits - m) / temperature_of(p) - log_sum + (m - m))


def log_sum_of(p: Part) -> Array:
    """``log1p(sumexp_m1)``, where the maximum is finite."""
    result: Array = kernels.serving.evaluate("log1p", np.where(np.equal(p.sumexp_m1, -1), 0, p.sumexp_m1))
    return result


def sum_of(numbers: Array) -> float:
    """The sum of an array of float64, whose bits depend on no CPU as those of NumPy's do."""
    return float(kernels.serving.float64.total_of(np.ascontiguousarray(numbers).reshape(-1)))


def merged(a: Part, b: Part) -> Part:
    """What is known from both parts of the same rows; the ranges are those of a."""
    shape = np.shape(a.maximum)
    dtype = np.result_type(a.maximum, b.maximum)
    of_a, of_b = (
        np.array([p.maximum, p.sumexp_m1, p.lost[..., 0], p.shifted, p.lost[..., 1]], dtype).reshape(5, -1)
        for p in (a, b)
    )
    out = np.empty_like(of_a)
    kernels.serving.of(dtype).merge_parts(of_a, of_b, a.temperature, out)
    m, rest, lost_rest, shifted, lost_shifted = out.reshape(5, *shape)
    target_logit: Array | None = None
    if a.target_logit is not None and b.target_logit is not None:
        target_logit = np.where(np.isnan(a.target_logit), b.target_logit, np.asarray(a.target_logit))
    top_ids = top_logits = None
    if a.top_ids is not None and a.top_logits is not None and b.top_ids is not None and b.top_logits is not None:
        top_ids, top_logits = largest_of(
            np.concatenate([a.top_ids, b.top_ids], axis=-1),
            np.concatenate([a.top_logits, b.top_logits], axis=-1),
            a.top_ids.shape[-1],
        )
        top_ids, top_logits = without_top(rest, m, top_ids, top_logits)
    return a._replace(
        maximum=m[()],
        sumexp_m1=rest[()],
        shifted=shifted[()],
        lost=np.stack([lost_rest, lost_shifted], axis=-1),
        target_logit=scalar_or_none(target_logit),
        top_ids=top_ids,
        top_logits=top_logits,
    )


def in_dtype_of(p: Part, results: Any) -> RowResults:
    """Results in the dtype of the state. (NumPy 1 makes float64 of a float32 scalar and a Python number.)"""
    return narrowed(np.asarray(results), np.asarray(p.maximum).dtype)[()]


def temperature_of(p: Part) -> Any:
    """In the dtype of the state."""
    return np.asarray(p.maximum).dtype.type(p.temperature)


def finished(
    logits: ArrayLike, p: Part, factor: Array, logarithms: bool, axis: SupportsIndex, out: Out, workers: Any
) -> Array:
    """What a kernel makes of a part, and of m and another number of each row."""
    threads = thread_count(workers)
    x = floating_array(logits, "logits")
    layout = layout_of(x, single_axis(axis))
    check_rows(p, layout)
    dtype = np.result_type(computed_dtype(x.dtype), p.maximum)  # (another part may have been of float64)
    given = x.dtype
    if dtype != computed_dtype(given):
        x = x.astype(dtype)  # (wider)
    m = layout.row_view(np.asarray(p.maximum, dtype))
    result = layout.output(out, given, in_place=[x], read_later=[m], computed=x.dtype)
    if result.size:
        kernels.serving.of(dtype).finish_part(
            as_stored(layout.view(x)),
            m,
            layout.row_view(narrowed(np.asarray(factor), dtype)),
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


def scalar_or_none(array: Array | None) -> RowResults:
    return None if array is None else array[()]


def weights_and_divisor(p: Part, sample_weight: ArrayLike | None, reduction: Reduction) -> tuple[Array, float]:
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
    with np.errstate(all="ignore"):
        weights = np.ldexp(weights, -np.frexp(largest)[1])  # (a mean is the same of their multiples, which have a sum)
    return weights, sum_of(weights)


def weighted_losses(p: Part, counts: Array, weights: Array) -> Array:
    """The weighted losses of rows in float64; 0 where a row does not count."""
    losses = -np.asarray(logprob_of(require_target(p), p))
    check_targets(p, counts)
    with np.errstate(all="ignore"):
        weighted = weights * np.where((weights == 0) & ~np.isnan(losses), 0, losses)
        return np.where(counts, weighted, 0)


def weighted_grad(
    logits: ArrayLike,
    p: Part,
    target: ArrayLike,
    counts: Array,
    weights: Array,
    *,
    axis: SupportsIndex,
    first_class: SupportsIndex,
    out: Out = None,
    workers: SupportsIndex | None = None,
) -> Array:
    """The gradient of the weighted losses of the rows that count, with respect to the logits of a part."""
    first = integer_in_range(first_class, "first_class", MOST_CLASSES)
    x = floating_array(logits, "logits")
    layout = layout_of(x, single_axis(axis))
    check_rows(p, layout)
    ids = checked_target(target, layout)
    check_targets(p, counts)
    here = (ids >= first) & (ids < first + layout.classes)
    if ids.shape == np.shape(p.maximum):
        logit = logits_at(x, single_axis(axis) % x.ndim, np.where(here, ids - first, 0), layout)
        others = here & (logit != p.target_logit) & ~np.isnan(logit)
    else:
        others = np.ones(1, np.bool_)
    if others.any():
        raise ValueError("target is another than that with which p was reduced; accepted is the same, one for each row")
    with np.errstate(all="ignore"):
        m, rest = np.asarray(p.maximum), np.asarray(p.sumexp_m1)
        scale = weights / p.temperature
        share = share_of(p)
        distance = (np.asarray(p.target_logit) - m) / temperature_of(p)
        e = kernels.serving.evaluate("exp", distance)
        of_others = np.where(distance == 0, rest, 1 + (rest - e))
        without = ~counts | ((scale == 0) & ~np.isnan(share))
        at_target = np.where(without, 0, -scale * (of_others * share))
        factor = np.where(without, 0, scale * share)
    result = finished(x, p, factor, False, axis, out, workers)
    by_row, here, ids, at_target = (
        array[np.newaxis] for array in (np.moveaxis(result, single_axis(axis) % x.ndim, -1), here, ids, at_target)
    )  # (NumPy finds no places in an array without axes)
    rows = np.nonzero(here)
    with np.errstate(all="ignore"):
        by_row[(*rows, ids[rows] - first)] = at_target[rows]
    return result


def share_of(p: Part) -> Array:
    """The probability of the largest logit; NaN for rows without probabilities."""
    with np.errstate(all="ignore"):
        share: Array = 1 / (1 + np.asarray(p.sumexp_m1)) + (p.maximum - p.maximum)
    return share


def require_target(p: Part) -> RowResults:
    if p.target_logit is None:
        raise ValueError(WITHOUT_TARGET)
    return p.target_logit


def check_targets(p: Part, counts: Array) -> None:
    """Each row that counts has one target, in one of the parts."""
    targets = np.asarray(require_target(p))
    if targets.shape != np.shape(p.maximum):
        raise ValueError(f"p has targets of shape {targets.shape}; accepted is one for each row")
    missing = np.isnan(targets) & ~np.isnan(np.asarray(p.sumexp_m1)) & counts
    if missing.any():
        place = "".join(f"[{i}]" for i in np.argwhere(missing)[0])
        raise ValueError(f"the target of row {place} is in none of the parts; accepted are rows of sample_weight 0")


def check(p: Part, name: str) -> None:
    if not isinstance(p, Part):
        raise TypeError(f"{name} is a {type(p).__name__}; accepted is a Part, of sharded.part")


def check_whole(p: Part) -> None:
    """No class is missing. (Whether the last ones are is known only if their number was said.)"""
    check(p, "p")
    ends = [(0, 0), *p.ranges, *([] if p.classes is None else [(p.classes, p.classes)])]
    missing = [(end, first) for (_, end), (first, _) in itertools.pairwise(ends) if end < first]
    if missing:
        raise ValueError(f"p must be of all classes, got one without {in_words(missing)}: merge it with their parts")


def joined(ranges: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Ranges of classes in ascending order, neighbours as one; refuses those that overlap."""
    found: list[tuple[int, int]] = []
    for first, end in sorted(ranges):
        if found and first < found[-1][1]:
            common = in_words([(first, min(end, found[-1][1]))])
            raise ValueError(f"parts must be of different classes, got {common} in two of them")
        if found and first == found[-1][1]:
            found[-1] = found[-1][0], end
        else:
            found.append((first, end))
    return tuple(found)


def in_words(ranges: list[tuple[int, int]]) -> str:
    words = [f"{first}" if end == first + 1 else f"{first} to {end - 1}" for first, end in ranges]
    return f"class{'' if len(words) == 1 and ' ' not in words[0] else 'es'} {', '.join(words)}"


def check_rows(p: Part, layout: Layout) -> None:
    check_whole(p)
    if np.shape(p.maximum) != layout.row_shape:
        raise ValueError(
            f"p has rows of shape {np.shape(p.maximum)}, and logits of shape {layout.shape} have {layout.row_shape}; "
            "accepted are equal rows"
        )


def check_same_rows(parts: Sequence[Part]) -> None:
    """Parts of the same rows, reduced alike."""
    for part in parts:
        if not isinstance(part, Part):
            raise TypeError(f"parts must be Parts, of sharded.part, got {type(part).__name__}")
    a, *others = parts
    for b in others:
        for what, of_a, of_b in (
            ("rows", np.shape(a.maximum), np.shape(b.maximum)),
            ("targets", _shape(a.target_logit), _shape(b.target_logit)),
            ("largest logits", _shape(a.top_ids), _shape(b.top_ids)),
        ):
            if of_a != of_b:
                raise ValueError(f"parts must have {what} of one shape, got {of_a} and {of_b}")
        for name, one, other in (("temperature", a.temperature, b.temperature), ("classes", a.classes, b.classes)):
            if one != other:
                raise ValueError(f"parts must be reduced with the same {name}, got {one} and {other}")


def _shape(array: RowResults | None) -> tuple[int, ...] | None:
    return None if array is None else np.shape(array)
