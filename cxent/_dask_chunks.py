"""What is done with one chunk of a Dask array, wherever it is: the tasks that `cxent.dask` puts together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import cxent

from . import partial
from ._cross_entropy import loss_of_part
from ._layout import narrowed
from ._partial import logprob_of
from ._scoring import TokenLogprobs
from ._types import Array
from ._validation import first_outside


def alone(block: Any) -> Any:
    """A block of an axis that results do not have comes in a list, of that block alone."""
    return block[0] if isinstance(block, list) else block


def logsumexp(x: list[Array], axis: int) -> Any:
    return cxent.logsumexp(x[0], axis)


def reduce(
    x: Array,
    first: Array,
    labels: Any = None,
    *,
    axis: int,
    top_k: int,
    temperature: float,
) -> partial.Partial:
    return partial.reduce(x, alone(labels), axis=axis, first_class=first[0], top_k=top_k, temperature=temperature)


def merge(parts: list[partial.Partial], axis: Any, keepdims: bool) -> partial.Partial:
    whole, *others = parts
    for part in others:
        whole = partial.merge(whole, part)
    return whole


def same(part: Any, axis: Any, keepdims: bool) -> Any:
    return part


def finish_rows(whole: list[partial.Partial], *, of_whole: Callable[..., Any]) -> Any:
    return of_whole(whole[0])


def finish_classes(x: Array, whole: partial.Partial, *, of_whole: Callable[..., Array], axis: int) -> Array:
    return of_whole(x, whole, axis=axis)


def shares(weights: Array, divisor: Array) -> Array:
    """What a row weighs in a mean; 0 in one over nothing."""
    return weights / divisor if divisor else np.zeros_like(weights)


def losses(whole: list[partial.Partial], weights: Array, divisor: Array, *, combined: bool) -> Any:
    """The losses of rows, weighted; what is to be combined in float64."""
    unweighted = partial.loss(whole[0], sample_weight=weights != 0, reduction="none")
    weighted = np.where(weights == 0, 0, unweighted * shares(weights, divisor))
    return weighted if combined else narrowed(weighted, unweighted.dtype)


def grad(
    x: Array, first: Array, whole: partial.Partial, labels: Array, weights: Array, divisor: Array, *, axis: int
) -> Array:
    return partial.grad(
        x, whole, labels, axis=axis, first_class=first[0], sample_weight=shares(weights, divisor), reduction="sum"
    )


def larger(x: Array, whole: partial.Partial, *, axis: int) -> Array:
    return np.expand_dims(partial.larger(x, whole, axis=axis), axis)


def scores(x: Array, ids: Any, *, axis: int, given: dict[str, Any]) -> TokenLogprobs:
    return cxent.token_logprobs(x, alone(ids), axis=axis, **given)


def scores_of_whole(whole: partial.Partial, larger: Any, ids: Any, *, ignored: int | None) -> TokenLogprobs:
    """The same of what is known of rows whose classes are in several chunks."""
    larger, ids = alone(larger), alone(ids)
    logprob = np.asarray(partial.logprob(whole))
    logprob = np.where(are(ids, ignored), np.zeros_like(logprob), logprob)
    rank = np.where(are(ids, ignored) | np.isnan(logprob), np.iinfo(np.int64).max, 1 + larger)
    row_is_ignored = are(ids, ignored)
    if ids.ndim > np.ndim(whole.maximum):  # several candidates a row, or none
        row_is_ignored = row_is_ignored.all(axis=-1) & (ids.shape[-1] > 0)
    entropy = np.where(row_is_ignored, 0, partial.entropy(whole)).astype(logprob.dtype)
    top_ids = top_logprobs = None
    if whole.top_ids is not None:
        top_logprobs = logprob_of(whole.top_logits, whole)
        top_ids = np.where(np.isnan(top_logprobs), -1, whole.top_ids)
    return TokenLogprobs(logprob[()], rank[()], entropy[()], partial.logsumexp(whole), top_ids, top_logprobs)


def field(scores: list[TokenLogprobs], *, number: int) -> Any:
    return scores[0][number]


def are(ids: Array, ignored: int | None) -> Any:
    return np.zeros(ids.shape, np.bool_) if ignored is None else ids == ignored


def checked_labels(labels: Array, *, label_name: str, classes: int, ignored: int | None) -> Array:
    if not (((labels >= 0) & (labels < classes)) | are(labels, ignored)).all():
        raise IndexError(first_outside(labels, label_name, classes, ignored))
    return labels


def weights_of_rows(labels: Array, sample_weight: Array, *, weight: Array | None, ignored: int | None) -> Array:
    """The weight of each row and of its class, 0 for those that do not count."""
    counts = ~are(labels, ignored)
    weights = np.where(counts, sample_weight, 0.0)
    return weights if weight is None else weights * np.where(counts, weight[np.where(counts, labels, 0)], 0.0)


def loss_and_grad(
    x: Array, target: Array, sample_weight: Array, divisor: Array, z_divisor: Array,
    *, with_grad: bool, weighted: bool, **options: Any,
) -> tuple[Any, Any]:  # fmt: skip
    divisors = float(divisor), float(z_divisor)
    options["sample_weight"] = sample_weight if weighted else None
    return loss_of_part(x, target, divisors, with_grad, **options)


def loss_of(both: list[tuple[Any, Any]], *, axes: int, combined: bool) -> Any:
    (loss, _), *_ = both
    return np.full((1,) * axes, loss) if combined else loss


def grad_of(both: tuple[Any, Any]) -> Any:
    return both[1]


def combined(total: Array, divisor: Array, *, result_dtype: np.dtype[Any]) -> Any:
    return narrowed(np.where(divisor == 0, np.nan, total), result_dtype)[()]
