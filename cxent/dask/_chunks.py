"""The tasks of `cxent.dask`: what is done with one chunk of a Dask array, wherever it is.

The weights of rows in a mean take several steps, each over all chunks: first the sums of the weights and the largest
weight; then, if these sums are too large or too small to divide by, powers of two to scale the weights by; then the
sums of the scaled weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

import cxent

from .. import sharded
from .._arrays import logits_and, shape_of
from .._cross_entropy import loss_of_part
from .._options import LossOptions, part_options
from .._results import narrowed
from .._scoring import TokenLogprobs
from .._targets import checked_targets, first_outside, targets_of_part
from .._types import Array
from ..sharded._part import at_ids
from ..sharded._whole import logprob_of, sum_of, weighted_grad, weighted_losses

quietly = np.errstate(all="ignore")
"""No floating-point warnings, as in kernels, whatever NumPy is set to do."""


HIDDEN = 2**62
"""More than any number of classes: the number of larger logits reported for a candidate that takes no part."""


def exponent_to_one(x: float) -> int:
    """The k for which x * 2^k is from 1 to 2; 0 for 0."""
    return 1 - math.frexp(x)[1] if x else 0


def alone(block: Any) -> Any:
    """The block itself: along an axis that the result does not have, Dask passes blocks in lists, here of one block."""
    return block[0] if isinstance(block, list) else block


def softmax(x: Array, mask: Array | None, *, of_rows: Callable[..., Array], axis: int) -> Array:
    return of_rows(x, axis, where=mask)


def logsumexp(x: list[Array], mask: Any, axis: int) -> Any:
    return cxent.logsumexp(x[0], axis, where=alone(mask))


def part(
    x: Array,
    mask: Array | None,
    first: Array,
    labels: Any = None,
    *,
    axis: int,
    **options: Any,
) -> sharded.Part:
    return sharded.part(x, alone(labels), axis=axis, where=mask, first_class=first[0], **options)


def merge(parts: list[sharded.Part], axis: Any, keepdims: bool) -> sharded.Part:
    return sharded.merge(*parts)


def same(part: Any, axis: Any, keepdims: bool) -> Any:
    return part


def finish_rows(whole: list[sharded.Part], *, of_whole: Callable[..., Any]) -> Any:
    return of_whole(whole[0])


def finish_classes(
    x: Array, mask: Array | None, whole: sharded.Part, *, of_whole: Callable[..., Array], axis: int
) -> Array:
    return of_whole(x, whole, axis=axis, where=mask)


def losses(
    whole: list[sharded.Part], weights: Array, shares: Array,
    *, combined: bool, label_smoothing: float, z_loss: float,
) -> Any:  # fmt: skip
    """The weighted losses of rows, or their sum in float64 if they are to be combined."""
    weighted = weighted_losses(whole[0], weights != 0, shares, label_smoothing, z_loss)
    if combined:
        return np.full((1,) * weighted.ndim, sum_of(weighted))
    return narrowed(weighted, np.asarray(whole[0].maximum).dtype)


def grad(
    x: Array, mask: Array | None, first: Array, whole: sharded.Part, labels: Array, weights: Array, shares: Array,
    *, axis: int, label_smoothing: float, z_loss: float,
) -> Array:  # fmt: skip
    options = part_options(axis, None, first[0])
    arrays = logits_and(
        "logits", x, axis, ids=labels, ids_name="target", where=mask, at_least=np.asarray(whole.maximum).dtype,
        widened=label_smoothing > 0,
    )  # fmt: skip
    ids, _ = targets_of_part(arrays)
    return weighted_grad(
        arrays, whole, ids, weights != 0, shares, options.first_class, None, options.threads, label_smoothing, z_loss
    )


def count_larger(
    x: Array, mask: Array | None, first: Array, whole: sharded.Part, ids: Any, *, axis: int
) -> Array:  # fmt: skip
    larger = np.asarray(sharded.count_larger(x, whole, axis=axis, where=mask))
    if mask is not None:
        shape, places = shape_of(x.shape, axis), alone(ids) - first[0]
        here = (places >= 0) & (places < shape.classes)
        chosen = at_ids(np.broadcast_to(mask, x.shape), shape, np.where(here, places, 0))
        larger = np.where(here & ~chosen, HIDDEN, larger)
    return np.expand_dims(larger, axis)


def scores(x: Array, mask: Array | None, ids: Any, *, axis: int, given: dict[str, Any]) -> TokenLogprobs:
    return cxent.token_logprobs(x, alone(ids), axis=axis, where=mask, **given)


def scores_of_whole(whole: sharded.Part, larger: Any, ids: Any, *, ignored: int | None) -> TokenLogprobs:
    """The scores of rows whose classes are in several chunks."""
    larger, ids = alone(larger), alone(ids)
    logprob = np.asarray(sharded.logprob(whole))
    logprob = np.where(are(ids, ignored), np.zeros_like(logprob), logprob)
    without = are(ids, ignored) | np.isnan(logprob) | (larger >= HIDDEN)
    rank = np.where(without, np.iinfo(np.int64).max, 1 + larger)
    row_is_ignored = are(ids, ignored)
    if ids.ndim > np.ndim(whole.maximum):  # several candidates a row, or none
        row_is_ignored = row_is_ignored.all(axis=-1) & (ids.shape[-1] > 0)
    entropy = np.where(row_is_ignored, 0, sharded.entropy(whole)).astype(logprob.dtype)
    top_ids = top_logprobs = None
    if whole.top_ids is not None:
        top_logprobs = logprob_of(whole.top_logits, whole)
        top_ids = np.where(np.isnan(top_logprobs), -1, whole.top_ids)
    return TokenLogprobs(logprob[()], rank[()], entropy[()], sharded.logsumexp(whole), top_ids, top_logprobs)


def field(scores: list[TokenLogprobs], *, number: int) -> Any:
    return scores[0][number]


def are(ids: Array, ignored: int | None) -> Any:
    return np.zeros(ids.shape, np.bool_) if ignored is None else ids == ignored


def checked_labels(labels: Array, *, label_name: str, classes: int, ignored: int | None) -> Array:
    if not (((labels >= 0) & (labels < classes)) | are(labels, ignored)).all():
        raise IndexError(first_outside(labels, label_name, classes, ignored))
    return labels


def checked_weights(weights: Array, *, computed: np.dtype[Any]) -> Array:
    """The weights of rows, in the dtype in which their logits are computed."""
    logits = np.broadcast_to(np.zeros((), computed), (*weights.shape, 1))
    checked = checked_targets(logits_and("logits", logits, -1, sample_weight=weights), None)[3]
    return np.asarray(checked)


def counted_weights(weights: Array, labels: Array, *, ignored: int | None) -> Array:
    """The weights of rows, 0 for those that are ignored."""
    return np.where(are(labels, ignored), weights.dtype.type(0), weights)


def weights_of_labels(labels: Array, *, weight: Array, ignored: int | None) -> Array:
    """The weight of each row's class, 0 for rows that do not count."""
    ignoring = are(labels, ignored)
    return np.where(ignoring, weight.dtype.type(0), weight[np.where(ignoring, 0, labels)])


def largest(x: Array, axis: Any, keepdims: bool) -> Any:
    return np.abs(x).max(axis=axis, keepdims=keepdims, initial=0)


def exponent(largest: Array, divisor: Array, z_divisor: Array, *, most: int | None = None) -> Any:
    """The k for which the largest weight times 2^k is from 1 to 2, but no more than `most`; 0 if the sums of the
    weights can be divided by as they are. (Like `sums_of_weights` of the kernels.)"""
    if all(2.0**-20 <= abs(total) <= 2.0**60 for total in (divisor, z_divisor)):
        return np.int64(0)
    k = exponent_to_one(float(largest))
    return np.int64(k if most is None else min(k, most))


@quietly
def scaled(x: Array, exponent: Array) -> Array:
    return np.ldexp(x, exponent)


@quietly
def products(weights: Array, row_exponent: Array, by_label: Any = None, class_exponent: Any = None) -> Array:
    """The weights of rows times those of their classes, in float64."""
    rows = np.ldexp(weights.astype(np.float64), row_exponent)
    return rows if by_label is None else rows * np.ldexp(by_label.astype(np.float64), class_exponent)


@quietly
def quotients(weights: Array, divisor: Array) -> Array:
    """The share of each row in a mean; 0 if the divisor is 0."""
    return weights / divisor if divisor else np.zeros_like(weights)


@quietly
def total(x: Array, axis: Any, keepdims: bool) -> Any:
    """The sum of an array; with `keepdims` as two numbers, the second of which is the rounding error of the first."""
    value = sum_of(x)
    if not keepdims or x.ndim == 0:
        return np.float64(value)
    lost = sum_of(np.append(x, -value))
    return np.reshape([value, lost if math.isfinite(value) else 0.0], (1,) * (x.ndim - 1) + (2,))


def loss_and_grad(
    x: Array, target: Array, mask: Array | None, divisor: Array, z_divisor: Array, class_exponent: Array,
    sample_weight: Any = None,
    *, with_grad: bool, weight: Array | None, options: LossOptions,
) -> tuple[Any, Any]:  # fmt: skip
    by_class = None if weight is None else scaled(weight, class_exponent)
    divisors = float(divisor), float(z_divisor)
    return loss_of_part(x, target, mask, by_class, sample_weight, options, divisors, with_grad=with_grad)


def loss_of(both: list[tuple[Any, Any]], *, axes: int, combined: bool) -> Any:
    (loss, _), *_ = both
    return np.full((1,) * axes, loss) if combined else loss


def grad_of(both: tuple[Any, Any]) -> Any:
    return both[1]


def combined(total: Array, divisor: Array, *, result_dtype: np.dtype[Any]) -> Any:
    return narrowed(np.where(divisor == 0, np.nan, total), result_dtype)[()]
