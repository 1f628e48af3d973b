"""What is known of rows from a part of their classes, and how parts are merged."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike

from .. import kernels
from .._arrays import MISSING, Arrays, Shape, logits_and
from .._layout import lay_out
from .._options import PartOptions, part_options
from .._results import rows_of
from .._scoring import score_rows
from .._targets import targets_of_part
from .._types import Array, Real, RowResults

SCALE = 2.0**-256
"""What distances are multiplied by: that of 2^62 classes at the lowest temperature is then still a number."""


class Part(NamedTuple):
    """What is known of rows from a part of their classes. Unless stated otherwise, fields have the shape of the
    rows."""

    maximum: RowResults
    """The largest logit m; -inf if the part has no classes."""
    sumexp_m1: RowResults
    """The sum of ``exp((x - m) / temperature)`` minus 1, its largest term; -1 if the part has no classes."""
    shifted: RowResults
    """The sum of ``exp(d) * d`` with ``d = (x - m) / temperature``, for the entropy."""
    lost: Array
    """The rounding errors of these two sums, along one more axis, so that merging any number of parts adds no error."""
    target_logit: RowResults | None
    """The logit of the target, or of several candidates along one more axis; NaN where no part contains it. None
    without a target."""
    top_ids: Array | None
    """The ids of the largest logits in descending order, along one more axis, padded with -1 if too few classes take
    part. None if `top_k` is 0."""
    top_logits: Array | None
    """Their logits, padded with -inf."""
    temperature: float
    """The temperature, by which differences of logits are divided."""
    ranges: tuple[tuple[int, int], ...]
    """The classes, as pairs of the first class and the one after the last, in ascending order."""
    classes: int | None
    """The number of classes in all parts; None if not given."""
    distances: Array | None = None
    """The sum of ``(m - x) / temperature`` over the classes that take part, and its rounding error, along one more
    axis; in float64, and multiplied by ``2**-256``, so that no sum of finite logits is too large. None unless made
    `for_smoothing`."""
    counts: RowResults | None = None
    """The number of classes that take part; in float64. None unless made `for_smoothing`."""


def part(
    logits: ArrayLike,
    target: ArrayLike | None = None,
    *,
    axis: SupportsIndex = -1,
    where: ArrayLike | None = None,
    first_class: SupportsIndex = 0,
    top_k: SupportsIndex = 0,
    temperature: Real = 1.0,
    classes: SupportsIndex | None = None,
    for_smoothing: bool = False,
    workers: SupportsIndex | None = None,
) -> Part:
    r"""Summarise a part of the classes for `merge`, in one pass over their logits.

    .. math::

        d_j &= (x_j - m) / T \\
        \text{sumexp_m1} &= \sum_j \exp(d_j) - 1 \\
        \text{shifted} &= \sum_j \exp(d_j) \, d_j

    with the largest logit m of the part, and temperature T.

    Parameters
    ----------
    logits : array_like
        Logits of the classes from `first_class` on, possibly none; dtypes as in `cxent.softmax`.
    target : array_like of int, optional
        The class index of each row, in the shape of the logits without the class axis, or several candidates for each
        row, along one more axis. They count from the first class of all parts, and may lie in any part.
    axis : int, default -1
        Class axis.
    where : array_like of bool, optional
        Which classes of this part take part, in a shape that broadcasts to that of its logits. The logit of a target
        that does not is -inf.
    first_class : int, default 0
        Index of the first class of this part. Parts must not overlap.
    top_k : int, default 0
        How many of the largest logits to keep, the same in all parts. Among equal logits, lower ids come first.
    temperature : float, default 1
        Logits are divided by it, the same in all parts; from 1e-30 to 1e30. The fields maximum, target_logit and
        top_logits have not been divided.
    classes : int, optional
        Number of classes of all parts together, the same in all parts. Without it, missing last classes go unnoticed.
    for_smoothing : bool, default False
        Whether `loss` and `grad` are to be smoothed, the same in all parts. The sum of all logits that this needs takes
        a second pass.
    workers : int, optional
        Number of threads; -1 means all CPUs.

    Returns
    -------
    Part
        A named tuple, whose fields are described there.

    Raises
    ------
    TypeError
        If the logits have none of the dtypes of `cxent.softmax`, the target or an option is not an integer, or the mask
        is not boolean.
    ValueError
        If shapes do not match, an option is negative, the part exceeds `classes`, or `workers` is 0 or below minus the
        number of CPUs.
    numpy.exceptions.AxisError
        If `axis` is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from cxent import sharded
    >>> logits = np.array([[2.0, 1.0, 0.0, 5.0]])
    >>> left = sharded.part(logits[:, :2], [3])
    >>> right = sharded.part(logits[:, 2:], [3], first_class=2)
    >>> whole = sharded.merge(left, right)
    >>> print(sharded.loss(whole).round(6))
    0.072172
    """
    options = part_options(axis, workers, first_class, top_k, temperature, classes)
    first, total, k = options.first_class, options.classes, options.top_k
    arrays = logits_and(
        "logits", logits, options.axis, ids=MISSING if target is None else target, ids_name="target", where=where
    )
    x, shape, dtype = arrays.x, arrays.shape, arrays.dtype
    ids, _ = targets_of_part(arrays)
    if not isinstance(for_smoothing, bool | np.bool_):
        raise TypeError(f"for_smoothing must be a boolean, got {for_smoothing!r}")
    mask = arrays.where
    end = first + shape.classes
    if total is not None and total < shape.classes:
        raise ValueError(f"classes must be at least {shape.classes} for logits of {shape.classes} classes, got {total}")
    if total is not None and end > total:
        most = total - shape.classes
        raise ValueError(f"first_class must be at most {most} for {shape.classes} of {total} classes, got {first}")

    rows = [*score_rows(dtype, 0, min(k, shape.classes)), (dtype, 3)]
    laid = lay_out(shape, [x, mask], [np.empty((*shape.rows, 0), np.int64)], rows=rows)
    if shape.row_count and shape.classes:
        kernel = kernels.serving.of(dtype).token_logprobs
        given = kernels.ScoreOptions(None, 0.0, options.temperature)
        *rows, state = laid.rows
        kernel(*laid.inputs, *laid.row_inputs, given, *rows, None, state, options.threads)
    _, _, _, lse, top_id, _, state = rows_of(laid)
    m, rest, shifted = (np.array(state[..., i]) for i in range(3))
    lse = np.asarray(lse)
    if not shape.classes:
        m[...] = lse[...] = -np.inf
    m[np.isnan(m) & (lse == -np.inf)] = -np.inf  # (kernels return NaN for a row in which no class takes part)
    # Without a finite maximum, the sum is empty if all logits are -inf, the largest term alone if one is +inf, and NaN
    # if one is NaN.
    infinite = np.isinf(m) & ~np.isnan(lse)
    rest[infinite] = np.where(m[infinite] < 0, -1, 0)
    shifted[infinite] = 0
    top_ids = top_logits = None
    if k:
        top_ids, top_logits = without_top(rest, m, *top_of_part(arrays, mask, top_id, m, first, k))
    target_logit = None
    if ids is not None:
        here = (ids >= first) & (ids < end)
        target_logit = np.where(here, logits_at(arrays, np.where(here, ids - first, 0), mask), dtype.type(np.nan))
    distances = counts = None
    if for_smoothing:
        distances, counts = distances_of_part(arrays, m, rest, options)
    return Part(
        m[()],
        rest[()],
        shifted[()],
        np.zeros((*m.shape, 2), dtype),
        scalar_or_none(target_logit),
        top_ids,
        top_logits,
        options.temperature,
        ((first, end),) if shape.classes else (),
        total,
        distances,
        scalar_or_none(counts),
    )


def merge(*parts: Part) -> Part:
    r"""Merge parts: what is known of the same rows from the classes of all of them.

    The maximum of two parts is the larger one, :math:`m = \max(m_a, m_b)`. The sums of the other part are multiplied by
    :math:`\exp(d)`, and those of differences are shifted by d, where :math:`d = (m_a - m) / T`. Merging in another
    order gives the same result except for rounding.

    Parameters
    ----------
    *parts : Part
        One or more parts, with different classes of the same rows.

    Returns
    -------
    Part
        The part that has the classes of all.

    Raises
    ------
    TypeError
        If an argument is not a `Part`, or there is none.
    ValueError
        If two parts have classes in common, their rows have different shapes, only some have a target, they keep
        different numbers of largest logits, only some were made `for_smoothing`, or their temperatures or `classes`
        differ.

    Notes
    -----
    The rounding errors of the sums are kept beside them, and factors near 1 are applied without losing digits. So
    thousands of parts, merged in any order, at once or one by one, are as accurate as two.

    Examples
    --------
    >>> import functools
    >>> import numpy as np
    >>> from cxent import logsumexp, sharded
    >>> logits = np.random.default_rng(0).standard_normal((3, 90))
    >>> parts = [
    ...     sharded.part(logits[:, a : a + 30], first_class=a, classes=90)
    ...     for a in (0, 30, 60)
    ... ]
    >>> whole = sharded.merge(*parts)
    >>> np.allclose(sharded.logsumexp(whole), logsumexp(logits))
    True

    One by one, as they arrive:

    >>> whole = functools.reduce(sharded.merge, parts)
    """
    if not parts:
        raise TypeError("merge needs parts, got none")
    check_same_rows(parts)
    ranges = joined(pair for part in parts for pair in part.ranges)
    whole, *others = parts
    for part in others:
        whole = merged(whole, part)
    return whole._replace(ranges=ranges)


def merged(a: Part, b: Part) -> Part:
    """Two parts of the same rows as one, except for the ranges, which are those of a."""
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
        distances=merged_distances(a, b, m),
        counts=None if a.counts is None or b.counts is None else a.counts + b.counts,
    )


def distances_of_part(arrays: Arrays, m: Array, rest: Array, options: PartOptions) -> tuple[Array, Array]:
    """The sum of the distances to the largest logit, with an error of 0, and how many classes take part."""
    shape, mask = arrays.shape, arrays.where
    counts = np.full(shape.rows, float(shape.classes))
    if mask is not None:
        counts = np.count_nonzero(mask, axis=shape.class_axes).astype(np.float64)
    distances = np.zeros((*shape.rows, 2))
    if shape.row_count and shape.classes:
        with np.errstate(all="ignore"):
            means = smoothed_losses(arrays, options.temperature, options.threads)
            means = np.maximum(0, means - kernels.serving.evaluate("log1p", rest.astype(np.float64))) * SCALE
            too_large = np.isfinite(m) & ~np.isfinite(means)
            if too_large.any():  # (or there are logits of -inf)
                # At a higher temperature they are numbers, and the logarithm of the sum is nothing beside them.
                exponent = 4 - min(0, math.frexp(options.temperature)[1])
                lower = smoothed_losses(arrays, math.ldexp(options.temperature, exponent), options.threads)
                means = np.where(too_large, lower * math.ldexp(SCALE, exponent), means)
            distances[..., 0] = np.where(counts == 0, 0, np.where(m == -np.inf, np.inf, counts * means))
    return distances, counts


def smoothed_losses(arrays: Arrays, temperature: float, threads: int) -> Array:
    """The losses with a smoothing of 1, in float64: the mean distances of the logits to their logsumexp."""
    shape, dtype = arrays.shape, arrays.dtype
    laid = lay_out(shape, [arrays.x, arrays.where], [np.zeros(shape.rows, np.int64)], rows=[dtype])
    kernels.serving.of(dtype).cross_entropy(
        *laid.inputs, *laid.row_inputs, np.ones(shape.classes, dtype), None,
        kernels.Options(None, 1.0, 0.0, 0.0, 0.0, temperature, 1.0, 1.0), *laid.rows, None, None, None, False, threads,
    )  # fmt: skip
    return np.asarray(rows_of(laid)[0], np.float64)


def merged_distances(a: Part, b: Part, m: Array) -> Array | None:
    """Those of two parts to the larger of their maxima, m."""
    with np.errstate(all="ignore"):
        total, lost = np.zeros(m.shape), np.zeros(m.shape)
        for part in (a, b):
            if part.distances is None:
                return None
            before, counts = np.asarray(part.maximum, np.float64), np.asarray(part.counts)
            moved = (m.astype(np.float64) * SCALE - before * SCALE) / part.temperature
            moved = np.where((before == m) | (counts == 0), 0, counts * moved)
            for term in (part.distances[..., 0], moved):
                total, error = exact_sum(total, term)
                lost += error
            lost += part.distances[..., 1]
        total, lost = exact_sum(total, lost)
    return np.stack([total, lost], axis=-1)


def exact_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """The sum of two numbers, and its rounding error; 0 if that is infinite."""
    total = a + b
    added = total - a
    error = (a - (total - added)) + (b - added)
    return total, np.where(np.isinf(total), 0, error)


def logits_at(arrays: Arrays, ids: Array, mask: Array | None) -> Array:
    """The logits of classes of each row, in the dtype in which they are computed; -inf for those that take no part."""
    if not arrays.shape.classes:
        return np.zeros(ids.shape, arrays.dtype)
    logits = at_ids(arrays.x, arrays.shape, ids).astype(arrays.dtype, copy=False)
    return logits if mask is None else np.where(at_ids(mask, arrays.shape, ids), logits, arrays.dtype.type(-np.inf))


def at_ids(array: Array, shape: Shape, ids: Array) -> Array:
    """The elements for given classes of each row, of an array in the shape of the logits."""
    rows = np.moveaxis(array, shape.class_axes, (-1,))
    several = ids if ids.ndim > len(shape.rows) else ids[..., np.newaxis]
    return np.take_along_axis(rows, several, axis=-1).reshape(ids.shape)


def top_of_part(
    arrays: Arrays, mask: Array | None, found: Array | None, m: Array, first: int, k: int
) -> tuple[Array, Array]:
    """The ids and logits of the largest of a part, padded with -1 and -inf."""
    shape = arrays.shape
    ids = np.full((*shape.rows, k), -1, np.int64)
    logits = np.full((*shape.rows, k), -np.inf, arrays.dtype)
    if found is not None and shape.row_count:
        here = np.where((m == -np.inf)[..., np.newaxis], lowest(found.shape[-1], mask, shape), found)
        is_class = here >= 0
        ids[..., : here.shape[-1]] = np.where(is_class, first + here, -1)
        logits[..., : here.shape[-1]] = np.where(is_class, logits_at(arrays, np.maximum(here, 0), mask), -np.inf)
    return ids, logits


def lowest(k: int, mask: Array | None, shape: Shape) -> Array:
    """The lowest classes that take part, padded with -1."""
    if mask is None:
        return np.arange(k)
    chosen = np.moveaxis(mask, shape.class_axes, (-1,))
    order = np.argsort(~chosen, axis=-1, kind="stable")[..., :k]
    return np.where(np.take_along_axis(chosen, order, axis=-1), order, -1)


def without_top(rest: Array, m: Array, top_ids: Array, top_logits: Array) -> tuple[Array, Array]:
    """Replace ids by -1 and logits by NaN in rows without probabilities."""
    without = (np.isnan(rest) | (m == np.inf))[..., np.newaxis]
    return np.where(without, -1, top_ids), np.where(without, top_logits.dtype.type(np.nan), top_logits)


def largest_of(ids: Array, logits: Array, k: int) -> tuple[Array, Array]:
    """The k largest; among equals the lower id first, and -1 (no class) last."""
    order = np.lexsort((ids.astype(np.uint64), -logits), axis=-1)[..., :k]  # (as uint64, -1 is the largest)
    return np.take_along_axis(ids, order, axis=-1), np.take_along_axis(logits, order, axis=-1)


def scalar_or_none(array: Array | None) -> RowResults:
    return None if array is None else array[()]


def joined(ranges: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Ranges of classes in ascending order, with adjacent ones joined. Raises if any overlap."""
    found: list[tuple[int, int]] = []
    for first, end in sorted(ranges):
        if found and first < found[-1][1]:
            common = in_words([(first, min(end, found[-1][1]))])
            raise ValueError(f"parts must have different classes, got {common} in two of them")
        if found and first == found[-1][1]:
            found[-1] = found[-1][0], end
        else:
            found.append((first, end))
    return tuple(found)


def in_words(ranges: list[tuple[int, int]]) -> str:
    words = [f"{first}" if end == first + 1 else f"{first} to {end - 1}" for first, end in ranges]
    return f"class{'' if len(words) == 1 and ' ' not in words[0] else 'es'} {', '.join(words)}"


def check_same_rows(parts: Sequence[Part]) -> None:
    """Require parts of the same rows, made with the same options."""
    for part in parts:
        if not isinstance(part, Part):
            raise TypeError(f"parts must be Parts, as sharded.part returns them, got {type(part).__name__}")
    a, *others = parts
    for b in others:
        for what, of_a, of_b in (
            ("rows", np.shape(a.maximum), np.shape(b.maximum)),
            ("targets", _shape(a.target_logit), _shape(b.target_logit)),
            ("largest logits", _shape(a.top_ids), _shape(b.top_ids)),
            ("distances", _shape(a.distances), _shape(b.distances)),
        ):
            if of_a != of_b:
                raise ValueError(f"parts must have {what} of the same shape, got {of_a} and {of_b}")
        for name, one, other in (("temperature", a.temperature, b.temperature), ("classes", a.classes, b.classes)):
            if one != other:
                raise ValueError(f"parts must be made with the same {name}, got {one} and {other}")


def _shape(array: RowResults | None) -> tuple[int, ...] | None:
    return None if array is None else np.shape(array)
