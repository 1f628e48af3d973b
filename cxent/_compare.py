"""Two arrays of logits for the same tokens, compared a chunk of rows at a time: what quantization changed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any, NamedTuple, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike

from . import kernels
from ._arrays import Arrays, Shape, logits_and, logits_in_chunks, plain_array
from ._divergence import kl_divergence
from ._options import ComparisonOptions, LossOptions, comparison_options
from ._progress import CHUNK_BYTES, Report, reporter
from ._scoring import score_rows, scored
from ._targets import checked_ids, checked_targets
from ._types import Array, Progress, Real, RowResults

_QUANTILES = (0, 0.01, 0.05, 0.1, 0.5, 0.9, 0.95, 0.99, 0.999, 1)


class Estimate(NamedTuple):
    """A number that is estimated from tokens, and its standard error."""

    value: float
    """The mean over tokens, or a function of such means."""
    error: float
    """Its standard error, from the sample standard deviation; NaN for fewer than two tokens."""


class Comparison(NamedTuple):
    """The results of `compare_logits`. What needs ids is None without them."""

    kl: RowResults
    """The KL divergence of each token in nats, in the shape of the rows: float64 if either array is computed in
    float64, else float32. 0 for tokens that do not count."""
    same_top: RowResults
    """Whether both arrays have the same largest logit, for each token; the lowest index counts among equal logits.
    False for rows without probabilities, and for tokens that do not count."""
    tokens: int
    """The number of tokens that count."""
    kl_mean: Estimate
    """The mean of `kl`."""
    kl_quantiles: Array
    """The quantiles of `kl`, in float64 and the order of `quantiles`; between two tokens they are interpolated
    linearly."""
    same_top_mean: Estimate
    """The fraction of tokens with the same top class."""
    reference_logprob: RowResults = None
    """The log-probability of each id under the reference, as `token_logprobs` returns it."""
    other_logprob: RowResults = None
    """The same under the other logits."""
    prob_change: RowResults = None
    """The probability of each id under the other logits, minus that under the reference; float64."""
    reference_perplexity: Estimate | None = None
    """The perplexity of the ids under the reference, PPL(base)."""
    other_perplexity: Estimate | None = None
    """The perplexity under the other logits, PPL(Q)."""
    log_ratio: Estimate | None = None
    """ln(PPL(Q) / PPL(base)): the mean of the differences of log-probabilities, token by token, with their standard
    error."""
    perplexity_ratio: Estimate | None = None
    """PPL(Q) / PPL(base), with the standard error that follows from `log_ratio`."""
    perplexity_difference: Estimate | None = None
    """PPL(Q) - PPL(base); its error too is of paired differences."""
    correlation: float | None = None
    """The correlation of the log-probabilities of both; NaN if those of either are all equal."""
    prob_change_mean: Estimate | None = None
    """The mean of `prob_change`."""
    prob_change_rms: Estimate | None = None
    """The root of the mean square of `prob_change`."""
    prob_change_quantiles: Array | None = None
    """The quantiles of `prob_change`, as those of `kl`."""


def compare_logits(
    reference: ArrayLike,
    other: ArrayLike,
    ids: ArrayLike | None = None,
    *,
    axis: SupportsIndex = -1,
    where: ArrayLike | None = None,
    temperature: Real = 1.0,
    ignore_index: SupportsIndex | None = None,
    quantiles: ArrayLike = _QUANTILES,
    chunk_bytes: SupportsIndex = CHUNK_BYTES,
    progress: Progress = None,
    workers: SupportsIndex | None = None,
) -> Comparison:
    r"""How far the predictions of other logits are from those of a reference, for instance after quantization.

    For each token, with p the softmax of the reference and q that of the other logits, the Kullback-Leibler divergence

    .. math:: \mathrm{KL}(p, q) = \sum_j p_j \log \frac{p_j}{q_j}

    and with ids the change of the probability of the right token. The arrays are read in chunks of rows, so they may be
    memory maps larger than the memory.

    Parameters
    ----------
    reference, other : array_like
        Logits of the same shape, one row for each token; dtypes as in `softmax`, and each its own.
    ids : array_like of int, optional
        The right tokens, in the shape of the logits without the class axis, from 0 to C-1.
    axis : int, default -1
        Class axis.
    where : array_like of bool, optional
        Which classes take part, in a shape that broadcasts to that of the logits.
    temperature : float, default 1
        Both logits are divided by it.
    ignore_index : int, optional
        Tokens whose id has this value do not count, for instance padding.
    quantiles : array_like of float, optional
        Which quantiles are returned, from 0 (the minimum) to 1 (the maximum).
    chunk_bytes : int, default 48 MiB
        How many bytes of both arrays are read at a time. As much memory is allocated if they have to be converted,
        otherwise none. A chunk has at least one row, or two or three if rows lie side by side in memory.
    progress : callable or bool, optional
        Called after each chunk as ``progress(rows_done, rows)``. True shows a progress bar, which needs tqdm.
    workers : int, optional
        Number of threads; -1 means all CPUs.

    Returns
    -------
    Comparison
        A named tuple: numbers for each token, and their means with standard errors and quantiles. For one-dimensional
        logits, the results of the row are scalars.

    Raises
    ------
    TypeError, ValueError, IndexError, numpy.exceptions.AxisError
        As in `token_logprobs`, and if the shapes of `reference` and `other` differ, a quantile is not from 0 to 1,
        `chunk_bytes` is below 1, or there is an `ignore_index` without ids.
    ImportError
        If `progress` is True and tqdm is not installed.

    See Also
    --------
    kl_divergence : The divergence alone, with weights and a gradient.
    token_logprobs : Ranks and entropies as well, for one array of logits.

    Notes
    -----
    No divergence is negative, and between equal logits it is exactly 0. A class that only `other` excludes, by a logit
    of -inf, makes it infinite. The numbers of each token have the same bits for any `chunk_bytes` and `workers`. Means,
    errors and quantiles are computed from them in float64.

    A standard error is that of a mean of n independent tokens, :math:`s / \sqrt{n}` with s the sample standard
    deviation. Those of `log_ratio`, `perplexity_ratio` and `perplexity_difference` are paired: both models see the same
    tokens, so what makes a token hard for both cancels. The means, errors and quantiles are defined as in llama.cpp's
    ``llama-perplexity --kl-divergence``.

    Examples
    --------
    >>> import numpy as np
    >>> from cxent import compare_logits
    >>> rng = np.random.default_rng(0)
    >>> logits = rng.standard_normal((1000, 50))
    >>> coarse = np.round(logits * 4) / 4
    >>> found = compare_logits(logits, coarse, rng.integers(0, 50, 1000), quantiles=[0.5, 0.99])
    >>> print(f"{found.kl_mean.value:.4f}", found.kl_quantiles.round(4))
    0.0025 [0.0025 0.0037]
    >>> value, error = found.perplexity_ratio
    >>> print(f"{value:.4f} ± {error:.4f}")
    0.9996 ± 0.0023
    >>> print(f"{found.same_top_mean.value:.1%} have the same top class")
    86.5% have the same top class
    """
    options = comparison_options(axis, temperature, ignore_index, chunk_bytes, workers)
    fractions = _fractions(quantiles)
    arrays = logits_in_chunks(reference, other, options.scores.axis, ids, where)
    ignored = options.scores.ignore_index
    counted: Any = ...  # an index of the rows: all of them
    if ids is not None:
        labels, _, arrays.where, _ = checked_ids(arrays, ignored, several=False)
        arrays.target = labels[..., 0]
        if ignored is not None:
            counted = arrays.target != ignored
    else:
        if ignored is not None:
            raise ValueError(f"ignore_index is {ignored}, and there are no ids to ignore")
        *_, arrays.where = checked_targets(arrays, None)
    of_tokens = _of_tokens(arrays, counted, options, reporter(progress, arrays.shape.row_count))
    with np.errstate(all="ignore"):  # some may be infinite, or NaN
        return _summary(of_tokens, counted, fractions)


class _OfTokens(NamedTuple):
    """What is computed of each token, in the shape of the rows."""

    kl: Array
    same_top: Array
    logprobs: tuple[Array, Array] | None  # under the reference, and under the other logits


def _of_tokens(arrays: Arrays, counted: Any, options: ComparisonOptions, report: Report) -> _OfTokens:
    shape, dtype, scores = arrays.shape, arrays.dtype, options.scores
    reference, other, ids, mask = arrays.x, arrays.beside, arrays.target, arrays.where
    assert other is not None
    (axis,) = shape.class_axes
    of_tokens = _OfTokens(
        np.empty(shape.rows, dtype),
        np.empty(shape.rows, np.bool_),
        None if ids is None else (np.empty(shape.rows, _dtype(reference)), np.empty(shape.rows, _dtype(other))),
    )
    if ids is None:
        ids = np.broadcast_to(np.int64(0), shape.rows)  # the top class of a row comes with the score of an id: any
    row_bytes = 2 * max(1, shape.classes) * dtype.itemsize
    done = 0
    for rows in _blocks(shape, (reference, other), options.chunk_bytes // row_bytes):
        place = (*rows[:axis], slice(None), *rows[axis:])
        p, q, labels = reference[place], other[place], ids[rows]
        where = None if mask is None else mask[place]
        of_tokens.kl[rows] = kl_divergence(
            p, q, axis=axis, temperature=scores.temperature, where=where, reduction="none", workers=scores.threads
        )
        (of_p, p_top), (of_q, q_top) = (_logprobs_and_tops(x, labels, where, scores) for x in (p, q))
        of_tokens.same_top[rows] = ((p_top == q_top) & (p_top >= 0))[..., 0]  # (-1 in rows without probabilities)
        if of_tokens.logprobs is not None:
            of_tokens.logprobs[0][rows], of_tokens.logprobs[1][rows] = of_p, of_q
        done += labels.size
        if report is not None:
            report(done, shape.row_count)
    if scores.ignore_index is not None:
        of_tokens.kl[~counted], of_tokens.same_top[~counted] = 0, False
    return of_tokens


def _logprobs_and_tops(x: Array, ids: Array, where: Array | None, options: LossOptions) -> tuple[Array, Array]:
    """The log-probability of each id, and the first of the largest logits."""
    arrays = logits_and("logits", x, options.axis, ids=ids, where=where)
    candidates, _, mask, _ = checked_ids(arrays, options.ignore_index)
    rows = score_rows(arrays.dtype, None, 1, ranked=False)
    logprob, _, _, _, top_ids, _ = scored(arrays, mask, candidates, None, options, rows)
    return logprob, np.asarray(top_ids)


def _dtype(logits: Array) -> np.dtype[Any]:
    """That of scores of these logits."""
    return np.dtype(np.float64 if logits.dtype.kind in "iub" or logits.dtype.itemsize == 8 else np.float32)


def _blocks(shape: Shape, both: Sequence[Array], most: int) -> Iterator[tuple[slice, ...]]:
    """All rows, in blocks of about as many that lie near each other in the first array: slices of the axes of rows.

    Where rows lie side by side, kernels compute them as columns, and a single one as a row, whose sums have another
    order. So none is left alone there: the last digits would depend on the blocks.
    """
    if shape.row_count == 0:
        return
    (class_axis,) = shape.class_axes
    axes = [a for a in range(len(shape.whole)) if a != class_axis]
    kept_together: set[int] = set()
    for array in both:
        strides = [abs(stride) for stride in array.strides]
        inner = [(strides[a], a) for a in axes if shape.whole[a] > 1 and 0 < strides[a] < strides[class_axis]]
        kept_together.update(a for _, a in sorted(inner)[:1])
    parts: dict[int, list[slice]] = {}
    for a in sorted(axes, key=lambda a: abs(both[0].strides[a])):
        n, least = shape.whole[a], 2 if a in kept_together else 1
        count = max(1, min(-(-n // max(1, most)), n // least))
        parts[a] = [slice(n * k // count, n * (k + 1) // count) for k in range(count)]
        most //= -(-n // count)
    for block in product(*(parts[a] for a in reversed(parts))):
        by_axis = dict(zip(reversed(parts), block, strict=True))
        yield tuple(by_axis[a] for a in axes)


def _summary(of_tokens: _OfTokens, counted: Any, fractions: Array) -> Comparison:
    kl, same_top = of_tokens.kl[counted], of_tokens.same_top[counted]
    without_ids = Comparison(
        of_tokens.kl[()], of_tokens.same_top[()], kl.size, _mean(kl), _quantiles_of(kl, fractions), _mean(same_top)
    )
    if of_tokens.logprobs is None:
        return without_ids

    p, q = (kernels.serving.evaluate("exp", logprob.astype(np.float64)) for logprob in of_tokens.logprobs)
    change = np.asarray(q - p)
    base, new = (-logprob[counted].astype(np.float64) for logprob in of_tokens.logprobs)
    base_perplexity, new_perplexity = _exp(_mean(base)), _exp(_mean(new))
    log_ratio = _mean(new - base)
    difference = _mean(new_perplexity.value * new - base_perplexity.value * base)  # to the first order
    changes = change[counted]
    square = _mean(changes**2)
    rms = math.sqrt(square.value)
    return without_ids._replace(
        reference_logprob=of_tokens.logprobs[0][()],
        other_logprob=of_tokens.logprobs[1][()],
        prob_change=change[()],
        reference_perplexity=base_perplexity,
        other_perplexity=new_perplexity,
        log_ratio=log_ratio,
        perplexity_ratio=_exp(log_ratio),
        perplexity_difference=Estimate(new_perplexity.value - base_perplexity.value, difference.error),
        correlation=_correlation(base, new),
        prob_change_mean=_mean(changes),
        prob_change_rms=Estimate(rms, square.error / (2 * rms) if rms else square.error),
        prob_change_quantiles=_quantiles_of(changes, fractions),
    )


def _mean(numbers: Array) -> Estimate:
    n, numbers = numbers.size, numbers.astype(np.float64, copy=False)
    mean = float(numbers.mean()) if n else math.nan
    error = math.sqrt(float(np.square(numbers - mean).sum()) / (n - 1) / n) if n > 1 else math.nan
    return Estimate(mean, error)


def _exp(mean: Estimate) -> Estimate:
    """The exponential of what is estimated; its error is that of the first order."""
    value = float(kernels.serving.evaluate("exp_any", np.float64(mean.value)))
    return Estimate(value, value * mean.error)


def _correlation(a: Array, b: Array) -> float:
    if a.size == 0:
        return math.nan
    a, b = a - a.mean(), b - b.mean()
    return float(np.sum(a * b) / np.sqrt(np.sum(a * a) * np.sum(b * b)))


def _quantiles_of(numbers: Array, fractions: Array) -> Array:
    """As `numpy.quantile` has them, but for infinite numbers, between which it finds NaN."""
    if numbers.size == 0 or np.isnan(numbers).any():
        return np.full(fractions.shape, math.nan)
    places = fractions * (numbers.size - 1)
    below = places.astype(np.int64)
    above = np.minimum(below + 1, numbers.size - 1)
    ordered = np.partition(numbers, np.union1d(below, above), axis=None)  # twice as fast as a sort
    low, high = (ordered[k].astype(np.float64) for k in (below, above))
    part = places - below
    return np.where((part == 0) | (low == high), low, low + part * (high - low))


def _fractions(quantiles: ArrayLike) -> Array:
    fractions = plain_array(quantiles, "quantiles")
    if fractions.size and fractions.dtype.kind not in "iuf":
        raise TypeError(f"quantiles must be numbers from 0 to 1, got {fractions.dtype}")
    if fractions.ndim != 1:
        raise ValueError(f"quantiles must be one-dimensional, got shape {fractions.shape}")
    inside = (fractions >= 0) & (fractions <= 1)
    if not inside.all():
        raise ValueError(f"quantiles must be numbers from 0 to 1, got {fractions[~inside][0]}")
    return fractions.astype(np.float64)
