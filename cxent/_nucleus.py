"""The nucleus of rows: how many of their most likely classes hold a share of the probability, and which.

No row is sorted as a whole. The kernel finds the largest logits of all rows; where their probabilities do not suffice,
it is asked for four times as many, and so on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from . import kernels
from ._arrays import Arrays
from ._types import Array

FEWEST = 32  # of the largest logits, where no more are asked for
_BLOCK_BYTES = 1 << 24


def with_nucleus(
    arrays: Arrays,
    mask: Array | None,
    temperature: float | Array,
    softcap: float,
    top_p: float,
    top_k: int,
    found: tuple[Array, Array],
    threads: int,
) -> tuple[Array, Array, Array]:
    """The size of the nucleus of each row; and for each row as many of its largest classes as that, or `top_k` if that
    is more, with their log-probabilities.

    `found` are the ids and log-probabilities of the largest classes of each row, in the rows' shape.
    """
    shape = arrays.shape
    rows = shape.row_count
    ids, logprobs = (a.reshape(rows, a.shape[-1]) for a in found)
    sizes, short = np.zeros(rows, np.int64), np.zeros(rows, np.bool_)
    for block in _blocks(rows, 8 * logprobs.shape[-1]):
        sizes[block], short[block] = _sizes(logprobs[block], top_p)
    more: list[tuple[Array, Array, Array]] = []
    k, unfinished = logprobs.shape[-1], np.flatnonzero(short)
    while k < shape.classes and unfinished.size:
        k = min(4 * k, shape.classes)
        still_short = []
        for block in _blocks(unfinished.size, shape.classes * (arrays.x.itemsize + 1) + 24 * k):
            chosen = unfinished[block]
            of_block = _largest(arrays, mask, temperature, softcap, chosen, k, threads)
            sizes[chosen], is_short = _sizes(of_block[1], top_p)
            done = ~is_short if k < shape.classes else np.ones_like(is_short)
            width = int(sizes[chosen[done]].max(initial=0))
            more.append((chosen[done], of_block[0][done, :width], of_block[1][done, :width]))
            still_short.append(chosen[~done])
        unfinished = np.concatenate(still_short)

    width = max(top_k, int(sizes.max(initial=0)))
    all_ids, all_logprobs = np.full((rows, width), -1, np.int64), np.full((rows, width), -np.inf, arrays.dtype)
    for chosen, some_ids, some_logprobs in [(np.arange(rows), ids, logprobs), *more]:
        filled = min(width, some_ids.shape[-1])
        all_ids[chosen, :filled], all_logprobs[chosen, :filled] = some_ids[:, :filled], some_logprobs[:, :filled]
    for block in _blocks(rows, width):
        beyond = np.arange(width) >= np.maximum(top_k, sizes[block, np.newaxis])
        all_ids[block][beyond], all_logprobs[block][beyond] = -1, -np.inf
    wide = (*shape.rows, width)
    return sizes.reshape(shape.rows), all_ids.reshape(wide), all_logprobs.reshape(wide)


def _blocks(rows: int, row_bytes: int) -> Iterator[slice]:
    """Blocks of rows that take little memory."""
    step = max(1, _BLOCK_BYTES // max(1, row_bytes))
    return (slice(a, min(a + step, rows)) for a in range(0, rows, step))


def _sizes(logprobs: Array, top_p: float) -> tuple[Array, Array]:
    """How many of the largest classes the nucleus of each row has, and whether it may have more than there are here.

    A class belongs to it if all before it hold less than `top_p`; if that is 1, whatever the rounding of their sum.
    """
    p = kernels.serving.evaluate("exp_any", logprobs.astype(np.float64))
    before = np.zeros_like(p)
    # (An accumulation adds one number after the other, so its bits do not depend on the CPU, as those of a sum do.)
    np.add.accumulate(p[:, :-1], axis=-1, out=before[:, 1:])
    belongs = (logprobs > -np.inf) & (before < (math.inf if top_p == 1 else top_p))
    return np.count_nonzero(belongs, axis=-1), belongs[:, -1]


def _largest(
    arrays: Arrays, mask: Array | None, temperature: float | Array, softcap: float, chosen: Array, k: int, threads: int
) -> tuple[Array, Array]:
    """The ids and log-probabilities of the largest classes of some rows."""
    shape, dtype = arrays.shape, arrays.dtype

    def rows_of(array: Array) -> Array:
        by_row = np.moveaxis(array, shape.class_axes, (-1,))
        copy = by_row[np.unravel_index(chosen, shape.rows)] if shape.rows else by_row[np.newaxis]
        return np.ascontiguousarray(kernels.stored(copy) if copy.itemsize <= 2 else copy)[..., np.newaxis]

    n = chosen.size
    of_rows = temperature if isinstance(temperature, float) else temperature.reshape(-1)[chosen, np.newaxis]
    ids, logprobs = np.empty((n, 1, k), np.int64), np.empty((n, 1, k), dtype)
    kernels.serving.of(dtype).token_logprobs(
        rows_of(arrays.x), None if mask is None else rows_of(mask), np.empty((n, 1, 0), np.int64),
        kernels.ScoreOptions(None, softcap, of_rows), np.empty((n, 1, 0), dtype), np.empty((n, 1, 0), np.int64),
        np.empty((n, 1), dtype), np.empty((n, 1), dtype), ids, logprobs, None, None, threads,
    )  # fmt: skip
    return ids[:, 0], logprobs[:, 0]
