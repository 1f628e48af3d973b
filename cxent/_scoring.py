"""Scores of tokens under a language model, from its logits."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike

from . import kernels
from ._arrays import Arrays, logits_and
from ._layout import RowMemory, lay_out
from ._nucleus import FEWEST, with_nucleus
from ._options import LossOptions, loss_options, score_options
from ._results import rows_of
from ._targets import checked_ids
from ._types import Array, Real, RowResults, Temperature

_LOG_2 = 0.6931471805599453


class TokenLogprobs(NamedTuple):
    """The results of `token_logprobs`."""

    logprob: RowResults
    """Log-probabilities of the ids, in the shape of the ids: float64 for float64 logits and integers, else float32."""
    rank: RowResults
    """1 + the number of larger logits, so equal logits share a rank; the largest int64 where there is no rank. int64,
    in the shape of the ids."""
    entropy: RowResults
    """The entropy of each row in nats, 0 for a row whose ids are all ignored; in the shape of the rows and the dtype of
    `logprob`."""
    logsumexp: RowResults
    """The logsumexp of each row, in the same shape and dtype."""
    top_ids: Array | None
    """Ids of the largest logits of each row in descending order, int64 of shape (..., k): `top_k` of them, or the
    nucleus if that is larger. Where a row has fewer, -1."""
    top_logprobs: Array | None
    """Their log-probabilities, in the same shape and the dtype of `logprob`; -inf where there is no id."""
    nucleus: RowResults | None = None
    """How many of the largest logits of each row hold `top_p` of the probability: ``top_ids[row, :nucleus[row]]`` is
    the nucleus. int64, in the shape of the rows. None if `top_p` is."""


class Perplexity(NamedTuple):
    """The result of `perplexity`."""

    nll: float
    """The sum of the negative log-likelihoods, in nats; weighted, if there are weights."""
    tokens: float
    """The number of tokens that count; or the sum of their weights, if there are any."""
    perplexity: float
    """``exp(nll / tokens)``."""

    @property
    def bits_per_token(self) -> float:
        """``nll / tokens`` in bits. Its power of 2 is the perplexity."""
        return self.nll / _LOG_2 / self.tokens if self.tokens else math.nan

    def bits_per_byte(self, size: float) -> float:
        """`nll` in bits, divided by the size of the text in bytes.

        It can be compared between models with different tokens, unlike a perplexity. (With weights, give the weighted
        size.)
        """
        return self.nll / _LOG_2 / size if size else math.nan


def score_rows(dtype: np.dtype[Any], candidates: int | None, top_k: int, *, ranked: bool = True) -> list[RowMemory]:
    """Memory for the results of a scoring kernel: per id (one or several for each row), per row, and for the top k.
    Ranks and entropies are not computed unless `ranked`."""
    of_ids: list[RowMemory] = [dtype, np.int64] if candidates is None else [(dtype, candidates), (np.int64, candidates)]
    top: list[RowMemory] = [(np.int64, top_k), (dtype, top_k)] if top_k else [None, None]
    return [*of_ids, dtype, dtype, *top] if ranked else [of_ids[0], None, None, dtype, *top]


def scored(
    arrays: Arrays, mask: Array | None, candidates: Array, temperatures: Array | None, options: LossOptions,
    rows: list[RowMemory],
) -> list[Any]:  # fmt: skip
    """What a scoring kernel finds, of what `rows` is memory for."""
    laid = lay_out(arrays.shape, [arrays.x, mask], [candidates, temperatures], rows=rows)
    if arrays.shape.row_count:
        ids, of_rows = laid.row_inputs
        given = kernels.ScoreOptions(
            options.ignore_index, options.softcap, options.temperature if of_rows is None else of_rows
        )
        kernel = kernels.serving.of(arrays.dtype).token_logprobs
        kernel(*laid.inputs, ids, given, *laid.rows, None, None, options.threads)
    return list(rows_of(laid))


def token_logprobs(
    logits: ArrayLike,
    ids: ArrayLike,
    *,
    axis: SupportsIndex = -1,
    where: ArrayLike | None = None,
    top_k: SupportsIndex = 0,
    top_p: Real | None = None,
    temperature: Temperature = 1.0,
    softcap: Real | None = None,
    ignore_index: SupportsIndex | None = None,
    workers: SupportsIndex | None = None,
) -> TokenLogprobs:
    r"""Log-probabilities and ranks of tokens, and the entropy and the top k of each row, in one pass over the logits.

    .. math::

        \text{logprob} &= x_y - \mathrm{lse}(x) \\
        \text{entropy} &= -\sum_j p_j \log p_j

    for the id y, with p the softmax of the logits x of the row. Nothing of the size of the logits is allocated, so they
    may be a memory map larger than the memory.

    Parameters
    ----------
    logits : array_like
        Logits, of any shape with at least one class; dtypes as in `softmax`.
    ids : array_like of int
        One id for each row, in the shape of the logits without the class axis; or several candidates for each row,
        along one more axis at the end. Ids are from 0 to C-1.
    axis : int, default -1
        Class axis.
    where : array_like of bool, optional
        Which classes take part, in a shape that broadcasts to that of the logits. The others have no rank and are not
        among the top k, and their log-probability is -inf.
    top_k : int, default 0
        How many of the largest logits of each row to return, from 0 to C. Among equal logits, lower ids come first.
    top_p : float, optional
        Find the nucleus of each row: the fewest classes that together have this probability, the most likely first.
        Above 0, and up to 1, which means all classes with a log-probability above -inf.
    temperature : float or array_like, default 1
        Logits are divided by it; from 1e-30 to 1e30. One number, or an array that broadcasts to the shape of the rows:
        one for each. Ranks do not depend on it.
    softcap : float, optional
        Bound that logits approach smoothly. Ranks do not depend on it. It needs one temperature for all rows.
    ignore_index : int, optional
        Ids with this value do not count: their logprob is 0, and they have no rank. A row without other ids has entropy
        0; its logsumexp and its top k are computed as usual.
    workers : int, optional
        Number of threads; -1 means all CPUs.

    Returns
    -------
    TokenLogprobs
        A named tuple of logprob, rank, entropy, logsumexp, top_ids, top_logprobs and nucleus. The top ids and their
        log-probabilities are None if `top_k` is 0 and there is no `top_p`; nucleus is None without `top_p`. For
        one-dimensional logits, the results of the row are scalars. Results are of single rows and tokens, so there is
        no `sample_weight`; `perplexity` has one.

    Raises
    ------
    TypeError
        If the logits have none of the dtypes of `softmax`, the ids are not integers, or an option is not a number.
    ValueError
        If shapes do not match, there are rows without classes, an option is out of range, or `workers` is 0 or below
        minus the number of CPUs.
    IndexError
        If an id is neither in 0..C-1 nor `ignore_index`. The message names the first.
    numpy.exceptions.AxisError
        If `axis` is out of range.

    See Also
    --------
    perplexity : The perplexity of a whole text.

    Notes
    -----
    Equal logits share a rank, which happens often in half precision, so several ids of a row may have rank 1. The
    greedy choice is ``top_ids[..., 0]`` with ``top_k=1``, the lowest of these ids.

    Where there is no rank, it is ``np.iinfo(np.int64).max``, so that ``rank <= 5`` never counts it as a hit. There is
    none for ignored ids, nor in rows that contain NaN or +inf or nothing but -inf. Such rows have no probabilities:
    their log-probabilities and entropy are NaN, and their top ids are -1.

    Log-probabilities are within 4 units in the last place of the exact value for the logits as given; a temperature or
    a softcap adds its own rounding. With m the largest logit and r the sum of :math:`\exp(x_j - m)` over all other
    classes, the entropy is computed as :math:`\mathrm{log1p}(r) + \sum_j p_j (m - x_j)`, a sum without negative terms,
    so it keeps its digits where the row is confident.

    A class is in the nucleus if the classes before it have less than `top_p` together, which is a sum in float64 of the
    exponentials of log-probabilities in the dtype of the result. Rows whose 32 largest logits do not suffice are read
    again for four times as many or more, and so on; a row is sorted only if its nucleus may be a large part of it. The
    top ids take as much memory as the largest nucleus, times the number of rows; with ``top_p=1``, as all logits.

    Examples
    --------
    >>> import numpy as np
    >>> from cxent import token_logprobs
    >>> logits = np.array([[2.0, 1.0, 0.0], [0.0, 4.0, 0.0]])
    >>> scores = token_logprobs(logits, [0, 2], top_k=2)
    >>> scores.logprob
    array([-0.40760596, -4.0359763 ])
    >>> scores.rank
    array([1, 2])
    >>> scores.entropy
    array([0.83239558, 0.17732368])
    >>> scores.top_ids
    array([[0, 1],
           [1, 0]])

    Two candidates for each row:

    >>> token_logprobs(logits, [[0, 1], [1, 2]]).logprob
    array([[-0.40760596, -1.40760596],
           [-0.0359763 , -4.0359763 ]])

    How many classes have 0.9 of the probability, and which:

    >>> scores = token_logprobs(logits, [0, 2], top_p=0.9)
    >>> scores.nucleus
    array([2, 1])
    >>> scores.top_ids
    array([[ 0,  1],
           [ 1, -1]])
    """
    options, k, by_row, share = score_options(axis, top_k, ignore_index, workers, softcap, temperature, top_p)
    if share is None:
        found = kernels.for_plain(logits).plain_token_logprobs(
            logits, ids, where, options, options.temperature if by_row is None else by_row, k, options.threads
        )
        if found is not None:
            return TokenLogprobs(*found)
    arrays = logits_and("logits", logits, options.axis, ids=ids, where=where, temperatures=by_row)
    if share is None and arrays.are_converted:
        divisor = options.temperature if by_row is None else arrays.temperatures
        found = kernels.for_plain(arrays.x).plain_token_logprobs(
            arrays.x, arrays.target, arrays.where, options, divisor, k, options.threads
        )
        if found is not None:
            return TokenLogprobs(*found)
    candidates, several, mask, temperatures = checked_ids(arrays, options.ignore_index, top_k=k)
    largest = k if share is None else min(max(1, arrays.shape.classes), max(k, FEWEST))
    rows = score_rows(arrays.dtype, several, largest)
    scores = TokenLogprobs(*scored(arrays, mask, candidates, temperatures, options, rows))
    if share is None:
        return scores
    assert scores.top_ids is not None and scores.top_logprobs is not None
    nucleus, top_ids, top_logprobs = with_nucleus(
        arrays, mask, options.temperature if temperatures is None else temperatures, options.softcap, share, k,
        (scores.top_ids, scores.top_logprobs), options.threads,
    )  # fmt: skip
    return scores._replace(top_ids=top_ids, top_logprobs=top_logprobs, nucleus=nucleus[()])


def perplexity(
    logits: ArrayLike,
    ids: ArrayLike,
    *,
    axis: SupportsIndex = -1,
    where: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    temperature: Real = 1.0,
    softcap: Real | None = None,
    ignore_index: SupportsIndex | None = None,
    workers: SupportsIndex | None = None,
) -> Perplexity:
    r"""The perplexity of a text under a language model, from its logits.

    .. math::

        \text{perplexity} &= \exp(\text{nll} / \text{tokens}) \\
        \text{nll} &= -\sum s \log p_y

    where the sum is over the tokens that count, with weights s, which are 1 unless given. Nothing of the size of the
    logits is allocated, so they may be a memory map larger than the memory.

    Parameters
    ----------
    logits : array_like
        Logits, one row for each token; dtypes as in `softmax`.
    ids : array_like of int
        The tokens, in the shape of the logits without the class axis, from 0 to C-1.
    axis : int, default -1
        Class axis.
    where : array_like of bool, optional
        Which classes take part, in a shape that broadcasts to that of the logits.
    sample_weight : array_like, optional
        Weight of each token, in a shape that broadcasts to that of the ids. `tokens` is then the sum of the weights of
        the tokens that count.
    temperature : float, default 1
        Logits are divided by it. With one for each row, add up the log-probabilities of `token_logprobs`.
    softcap : float, optional
        Bound that logits approach smoothly.
    ignore_index : int, optional
        Ids with this value do not count, for instance padding.
    workers : int, optional
        Number of threads; -1 means all CPUs.

    Returns
    -------
    Perplexity
        A named tuple of nll, tokens and perplexity, in float64; bits_per_token, and bits_per_byte for a number of
        bytes, follow from them. To combine texts, add up nll and tokens. Without tokens, or where their weights add up
        to 0, the perplexity is NaN.

    Raises
    ------
    TypeError, ValueError, IndexError, numpy.exceptions.AxisError
        As in `token_logprobs`.

    Examples
    --------
    >>> import numpy as np
    >>> from cxent import perplexity
    >>> nll, tokens, value = perplexity(np.zeros((3, 50)), [7, 1, -1], ignore_index=-1)
    >>> tokens
    2
    >>> round(value, 6)
    50.0
    >>> result = perplexity(np.zeros((3, 256)), [250, 251, 252])  # three tokens of a text of six bytes
    >>> round(result.bits_per_token, 6), round(result.bits_per_byte(6), 6)
    (8.0, 4.0)
    """
    options = loss_options(axis, "sum", ignore_index, workers, softcap=softcap, temperature=temperature)
    ignored = options.ignore_index
    if sample_weight is None:
        total = kernels.for_plain(logits).plain_nll(logits, ids, where, options, options.threads)
        if total is not None:
            return _perplexity(total, _counted(ids, ignored))
    arrays = logits_and("logits", logits, options.axis, ids=ids, sample_weight=sample_weight, where=where)
    if sample_weight is None and arrays.are_converted:
        total = kernels.for_plain(arrays.x).plain_nll(arrays.x, arrays.target, arrays.where, options, options.threads)
        if total is not None:
            return _perplexity(total, _counted(arrays.target, ignored))
    shape = arrays.shape
    labels, _, mask, weights = checked_ids(arrays, ignored, several=False)
    laid = lay_out(shape, [arrays.x, mask], [labels[..., 0], weights])
    nll = 0.0
    if shape.row_count:
        given = kernels.Options(ignored, 0.0, 0.0, 0.0, options.softcap, options.temperature, 1.0, 1.0)
        nothing = [None] * 4
        kernel = kernels.serving.of(arrays.dtype).cross_entropy
        of_labels, of_rows = laid.row_inputs
        nll = kernel(*laid.inputs, of_labels, None, of_rows, given, *nothing, False, options.threads)
    tokens: float
    if weights is not None:
        counted = weights if ignored is None else np.where(labels[..., 0] == ignored, 0, weights)
        tokens = kernels.serving.float64.total_of(np.array(counted, np.float64).reshape(-1)) if counted.size else 0.0
    else:
        tokens = _counted(labels, ignored)
    return _perplexity(nll, tokens)


def _counted(labels: Any, ignored: int | None) -> int:
    """How many labels are not ignored."""
    return np.size(labels) if ignored is None else int(np.count_nonzero(labels != ignored))


def _perplexity(nll: float, tokens: float) -> Perplexity:
    mean = np.float64(nll / tokens if tokens else math.nan)
    return Perplexity(nll, tokens, float(kernels.serving.evaluate("exp_any", mean)))
