"""Scores of tokens: what language models are judged by, from their logits."""

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
    """What `token_logprobs` returns."""

    logprob: RowResults
    """Log-probabilities of the ids: float32 or float64, as the logits are computed, in the shape of the ids."""
    rank: RowResults
    """1 + the number of larger logits, so that equal logits share a rank; the largest int64 where there is none. int64,
    in the shape of the ids."""
    entropy: RowResults
    """The entropy of each row in nats; 0 for a row whose ids are all ignored. In the rows' shape and the dtype of
    `logprob`."""
    logsumexp: RowResults
    """The logsumexp of each row, likewise."""
    top_ids: Array | None
    """Those of the `top_k` largest logits of each row in descending order, int64 of shape (..., top_k)."""
    top_logprobs: Array | None
    """Their log-probabilities, of shape (..., top_k), in the dtype of `logprob`."""


class Perplexity(NamedTuple):
    """What `perplexity` returns."""

    nll: float
    """The negative log-likelihoods, summed, in nats."""
    tokens: int
    """How many tokens count."""
    perplexity: float
    """``exp(nll / tokens)``."""


def score_rows(dtype: np.dtype[Any], candidates: int | None, top_k: int) -> list[RowMemory]:
    """The results of a scoring kernel: of the id of each row, or of several; of each row; and of the top k."""
    of_ids: list[RowMemory] = [dtype, np.int64] if candidates is None else [(dtype, candidates), (np.int64, candidates)]
    top: list[RowMemory] = [(np.int64, top_k), (dtype, top_k)] if top_k else [None, None]
    return [*of_ids, dtype, dtype, *top]


def token_logprobs(
    logits: ArrayLike,
    ids: ArrayLike,
    *,
    axis: SupportsIndex = -1,
    top_k: SupportsIndex = 0,
    temperature: Real = 1.0,
    softcap: Real | None = None,
    ignore_index: SupportsIndex | None = None,
    workers: SupportsIndex | None = None,
) -> TokenLogprobs:
    """Log-probabilities and ranks of tokens, and the entropy and the top k of each row, in one pass over the logits.

    ``logprob = (x_y - m) - log1p(r)`` for the id y, with m the largest of the row's C logits and r the sum of the other
    ``exp(x_j - m)``; ``entropy = -sum_j p_j log(p_j)`` with p the softmax. Nothing of the size of the logits is
    allocated: they may be a memory map that is larger than the memory.

    Parameters
    ----------
    logits : array_like
        Logits, of any shape with at least one class; dtypes as in `softmax`.
    ids : array_like of int
        One id for each row, in the shape of the logits without the class axis; or several candidates for each row, in
        that shape and one axis more at the end. Each is from 0 to C-1.
    axis : int, default -1
        The class axis.
    top_k : int, default 0
        How many of each row's largest logits to return, from 0 to C. Of equal ones the lower id comes first.
    temperature : float, default 1
        What logits are divided by, from 1e-30 to 1e30. It changes no rank.
    softcap : float, optional
        The bound that logits approach smoothly, as in `cross_entropy`. It changes no rank.
    ignore_index : int, optional
        An id that does not count: its logprob is 0 and its rank the largest int64. A row whose ids are all ignored has
        entropy 0; its logsumexp and its top k are those of any row.
    workers : int, optional
        As in `softmax`.

    Returns
    -------
    TokenLogprobs
        A named tuple of logprob, rank, entropy, logsumexp, top_ids and top_logprobs. The last two are None if `top_k`
        is 0. What is of one row without other axes is a scalar.

    Raises
    ------
    TypeError
        If the logits are no real numbers of a dtype above, the ids are not integers, or an option is not a number.
    ValueError
        If shapes do not match, there are rows without classes, an option is out of its range, or `workers` is 0 or
        below -CPUs.
    IndexError
        If an id is not in 0..C-1, nor `ignore_index`; it names the first.
    numpy.exceptions.AxisError
        If `axis` is out of range.

    See Also
    --------
    perplexity : Of a whole text.

    Notes
    -----
    Several ids of a row have rank 1 if their logits are equal and no other is larger, as happens in half precision. The
    greedy choice is ``top_ids[..., 0]`` with ``top_k=1``, the lowest of them.

    Where there is no rank it is ``np.iinfo(np.int64).max``, which no ``rank <= 5`` takes for a hit: for ids that are
    ignored, and in rows without probabilities. These have NaN or +inf, or -inf alone: their log-probabilities and their
    entropy are NaN, and their top ids -1.

    A log-probability is within 4 units in the last place of the exact value for the logits as given; with a temperature
    or a softcap their rounding counts too. The entropy is a sum of positive terms alone,
    ``log1p(r) + sum_j p_j (m - x_j)``, so that it keeps its digits where the row is confident.

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
    found = kernels.for_plain(logits).plain_token_logprobs(logits, ids, options, k, options.threads)
    if found is not None:
        return TokenLogprobs(*found)
    arrays = logits_and("logits", logits, options.axis, ids=ids)
    shape, dtype = arrays.shape, arrays.dtype
    candidates, several = checked_ids(arrays, options.ignore_index, top_k=k)
    laid = lay_out(shape, [arrays.x], [candidates], rows=score_rows(dtype, several, k))
    if shape.row_count:
        given = kernels.ScoreOptions(options.ignore_index, options.softcap, options.temperature)
        kernel = kernels.serving.of(dtype).token_logprobs
        kernel(*laid.inputs, *laid.row_inputs, given, *laid.rows, None, options.threads)
    return TokenLogprobs(*rows_of(laid))


def perplexity(
    logits: ArrayLike,
    ids: ArrayLike,
    *,
    axis: SupportsIndex = -1,
    temperature: Real = 1.0,
    softcap: Real | None = None,
    ignore_index: SupportsIndex | None = None,
    workers: SupportsIndex | None = None,
) -> Perplexity:
    """The perplexity of a text under the logits of a language model.

    ``perplexity = exp(nll / tokens)``, with ``nll = -sum log p_y`` over the tokens that count. Nothing of the size of
    the logits is allocated: they may be a memory map that is larger than the memory.

    Parameters
    ----------
    logits : array_like
        Logits, one row for each token; dtypes as in `softmax`.
    ids : array_like of int
        The tokens, in the shape of the logits without the class axis. Each is from 0 to C-1.
    axis : int, default -1
        The class axis.
    temperature, softcap : float, optional
        As in `cross_entropy`.
    ignore_index : int, optional
        An id that does not count, as that of padding.
    workers : int, optional
        As in `softmax`.

    Returns
    -------
    Perplexity
        A named tuple of nll, tokens and perplexity, in float64. Texts are joined by adding the first two. Without
        tokens the perplexity is NaN.

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
    arrays = logits_and("logits", logits, options.axis, ids=ids)
    shape, ignored = arrays.shape, options.ignore_index
    labels, _ = checked_ids(arrays, ignored, several=False)
    laid = lay_out(shape, [arrays.x], [labels[..., 0]])
    nll = 0.0
    if shape.row_count:
        given = kernels.Options(ignored, 0.0, 0.0, options.softcap, options.temperature, 1.0, 1.0)
        nothing = [None] * 4
        kernel = kernels.serving.of(arrays.dtype).cross_entropy
        nll = kernel(*laid.inputs, *laid.row_inputs, None, None, given, *nothing, False, options.threads)
    tokens = labels.size if ignored is None else int(np.count_nonzero(labels != ignored))
    mean = np.float64(nll / tokens if tokens else math.nan)
    return Perplexity(nll, tokens, float(kernels.serving.evaluate("exp_any", mean)))
