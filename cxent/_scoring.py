"""Scores of tokens under a language model, from its logits."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike

from . import kernels
from ._arrays import logits_and
from ._layout import RowMemory, lay_out
from ._options import loss_options, score_options
from ._results import rows_of
from ._targets import checked_ids
from ._types import Array, Real, RowResults


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
    """Ids of the `top_k` largest logits of each row in descending order, int64 of shape (..., top_k)."""
    top_logprobs: Array | None
    """Their log-probabilities, in the same shape and the dtype of `logprob`."""


class Perplexity(NamedTuple):
    """The result of `perplexity`."""

    nll: float
    """The sum of the negative log-likelihoods, in nats."""
    tokens: int
    """The number of tokens that count."""
    perplexity: float
    """``exp(nll / tokens)``."""


def score_rows(dtype: np.dtype[Any], candidates: int | None, top_k: int) -> list[RowMemory]:
    """Memory for the results of a scoring kernel: per id (one or several for each row), per row, and for the top k."""
    of_ids: list[RowMemory] = [dtype, np.int64] if candidates is None else [(dtype, candidates), (np.int64, candidates)]
    top: list[RowMemory] = [(np.int64, top_k), (dtype, top_k)] if top_k else [None, None]
    return [*of_ids, dtype, dtype, *top]


def token_logprobs(
    logits: ArrayLike,
    ids: ArrayLike,
    *,
    axis: SupportsIndex = -1,
    where: ArrayLike | None = None,
    top_k: SupportsIndex = 0,
    temperature: Real = 1.0,
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
    temperature : float, default 1
        Logits are divided by it; from 1e-30 to 1e30. Ranks do not depend on it.
    softcap : float, optional
        Bound that logits approach smoothly. Ranks do not depend on it.
    ignore_index : int, optional
        Ids with this value do not count: their logprob is 0, and they have no rank. A row without other ids has entropy
        0; its logsumexp and its top k are computed as usual.
    workers : int, optional
        Number of threads; -1 means all CPUs.

    Returns
    -------
    TokenLogprobs
        A named tuple of logprob, rank, entropy, logsumexp, top_ids and top_logprobs. The last two are None if `top_k`
        is 0. For one-dimensional logits, the results of the row are scalars.

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
    """
    options, k = score_options(axis, top_k, ignore_index, workers, softcap, temperature)
    found = kernels.for_plain(logits).plain_token_logprobs(logits, ids, where, options, k, options.threads)
    if found is not None:
        return TokenLogprobs(*found)
    arrays = logits_and("logits", logits, options.axis, ids=ids, where=where)
    shape, dtype = arrays.shape, arrays.dtype
    candidates, several, mask = checked_ids(arrays, options.ignore_index, top_k=k)
    laid = lay_out(shape, [arrays.x, mask], [candidates], rows=score_rows(dtype, several, k))
    if shape.row_count:
        given = kernels.ScoreOptions(options.ignore_index, options.softcap, options.temperature)
        kernel = kernels.serving.of(dtype).token_logprobs
        kernel(*laid.inputs, *laid.row_inputs, given, *laid.rows, None, None, options.threads)
    return TokenLogprobs(*rows_of(laid))


def perplexity(
    logits: ArrayLike,
    ids: ArrayLike,
    *,
    axis: SupportsIndex = -1,
    where: ArrayLike | None = None,
    temperature: Real = 1.0,
    softcap: Real | None = None,
    ignore_index: SupportsIndex | None = None,
    workers: SupportsIndex | None = None,
) -> Perplexity:
    r"""The perplexity of a text under a language model, from its logits.

    .. math:: \text{perplexity} = \exp(\text{nll} / \text{tokens}), \quad \text{nll} = -\sum \log p_y

    where the sum is over the tokens that count. Nothing of the size of the logits is allocated, so they may be a memory
    map larger than the memory.

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
    temperature : float, default 1
        Logits are divided by it.
    softcap : float, optional
        Bound that logits approach smoothly.
    ignore_index : int, optional
        Ids with this value do not count, for instance padding.
    workers : int, optional
        Number of threads; -1 means all CPUs.

    Returns
    -------
    Perplexity
        A named tuple of nll, tokens and perplexity, in float64. To combine texts, add up nll and tokens. Without tokens
        the perplexity is NaN.

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
    """
    options = loss_options(axis, "sum", ignore_index, workers, softcap=softcap, temperature=temperature)
    arrays = logits_and("logits", logits, options.axis, ids=ids, where=where)
    shape, ignored = arrays.shape, options.ignore_index
    labels, _, mask = checked_ids(arrays, ignored, several=False)
    laid = lay_out(shape, [arrays.x, mask], [labels[..., 0]])
    nll = 0.0
    if shape.row_count:
        given = kernels.Options(ignored, 0.0, 0.0, 0.0, options.softcap, options.temperature, 1.0, 1.0)
        nothing = [None] * 4
        kernel = kernels.serving.of(arrays.dtype).cross_entropy
        nll = kernel(*laid.inputs, *laid.row_inputs, None, None, given, *nothing, False, options.threads)
    tokens = labels.size if ignored is None else int(np.count_nonzero(labels != ignored))
    mean = np.float64(nll / tokens if tokens else math.nan)
    return Perplexity(nll, tokens, float(kernels.serving.evaluate("exp_any", mean)))
