"""What is done with one chunk of a Dask array, wherever it is: the tasks that `cxent.dask` puts together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import cxent

from . import partial
from ._cross_entropy import loss_of_part
from ._layout import narrowed, widened
from ._scoring import TokenLogprobs
from ._types import Array
from ._validation import computed_dtype, first_outside, floating_array


def alone(block: Any) -> Any:
    """A block of an axis that results do not have comes in a list, of that block alone."""
    return block[0] if isinstance(block, list) else block


def logsumexp(x: list[Array], axis: int) -> Any:
    return cxent.logsumexp(x[0], axis)


def divided(x: Array, temperature: float) -> Array:
    return x if temperature == 1 else widened(x) / computed_dtype(x.dtype).type(temperature)


def reduce(
    x: Array,
    first: Array,
    labels: Any = None,
    *,
    axis: int,
    classes: int,
    top_k: int,
    temperature: float,
    ignored: int | None,
) -> partial.Partial:
    if labels is not None:
        labels = alone(labels)
        check_labels(labels, "labels", classes, ignored)
    x = divided(floating_array(x, "logits"), temperature)
    return partial.reduce(x, labels, axis=axis, first_class=first[0], top_k=top_k)


def merge(parts: list[partial.Partial], axis: Any, keepdims: bool) -> partial.Partial:
    whole, *others = parts
    for part in others:
        whole = partial.merge(whole, part)
    return whole


def same(part: Any, axis: Any, keepdims: bool) -> Any:
    return part


def finish_rows(whole: list[partial.Partial], *of_rows: Array, of_whole: Callable[..., Any], **options: Any) -> Any:
    return of_whole(whole[0], *of_rows, **options)


def finish_classes(x: Array, whole: partial.Partial, *, of_whole: Callable[..., Array], axis: int) -> Array:
    return of_whole(floating_array(x, "logits"), whole, axis=axis)


def losses(whole: partial.Partial, weights: Array) -> Any:
    return partial.loss(whole, sample_weight=weights, reduction="none")


def grad(
    x: Array, first: Array, whole: partial.Partial, labels: Array, weights: Array, divisor: Array,
    *, axis: int, temperature: float,
) -> Array:  # fmt: skip
    x = floating_array(x, "logits")
    scale = temperature * float(divisor)
    shares = np.divide(weights, scale, dtype=np.float64) if scale else np.zeros_like(weights)
    grad = partial.grad(
        divided(x, temperature), whole, labels,
        axis=axis, first_class=first[0], sample_weight=shares, reduction="sum",
    )  # fmt: skip
    return narrowed(grad, x.dtype)


def larger(x: Array, whole: partial.Partial, *, axis: int, temperature: float = 1.0) -> Array:
    return np.expand_dims(partial.larger(divided(floating_array(x, "logits"), temperature), whole, axis=axis), axis)


def scores(x: Array, ids: Any, *, axis: int, given: dict[str, Any]) -> TokenLogprobs:
    return cxent.token_logprobs(x, alone(ids), axis=axis, **given)


def scores_of_whole(whole: partial.Partial, larger: Any, ids: Any, *, ignored: int | None) -> TokenLogprobs:
    """The same of what is known of rows whose classes are in several chunks."""
    larger, ids = alone(larger), alone(ids)
    with np.errstate(all="ignore"):
        log_sum = np.asarray(np.log1p(whole.sumexp_m1) + (whole.maximum - whole.maximum))[..., np.newaxis]
        top_ids = top_logprobs = None
        if whole.top_ids is not None:
            top_ids = np.where(np.isnan(log_sum), -1, whole.top_ids)
            top_logprobs = (whole.top_logits - np.asarray(whole.maximum)[..., np.newaxis]) - log_sum
    logprob = np.where(are(ids, ignored), 0, partial.logprob(whole))
    rank = np.where(are(ids, ignored) | np.isnan(logprob), 0, 1 + larger)
    return TokenLogprobs(logprob, rank, partial.entropy(whole), partial.logsumexp(whole), top_ids, top_logprobs)


def field(scores: list[TokenLogprobs], *, number: int) -> Any:
    return scores[0][number]


def are(ids: Array, ignored: int | None) -> Any:
    return np.zeros(ids.shape, np.bool_) if ignored is None else ids == ignored


def check_labels(labels: Array, name: str, classes: int, ignored: int | None) -> None:
    if not (((labels >= 0) & (labels < classes)) | are(labels, ignored)).all():
        raise IndexError(first_outside(labels, name, classes, ignored))


def weights_of_rows(
    labels: Array, sample_weight: Array, *, weight: Array | None, ignored: int | None, classes: int
) -> Array:
    """The weight of each row and of its class, 0 for those that do not count."""
    check_labels(labels, "target", classes, ignored)
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
