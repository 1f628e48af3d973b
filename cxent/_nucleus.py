"""The nucleus of rows: how many of their most likely classes hold a share of the probability, and which.

The kernel finds the largest logits of all rows; where their probabilities do not suffice, it is asked for four times as
many, and so on. A row is sorted as a whole only where that would be much of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from . import kernels
from ._arrays import Arrays
from ._softmax import log_softmax
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
    sizes, least = np.zeros(rows, np.int64), np.zeros(rows)
    for block in _blocks(rows, 8 * logprobs.shape[-1]):
        sizes[block], least[block] = _sizes(logprobs[block], top_p)
    more: list[tuple[Array, Array, Array]] = []
    k, unfinished = logprobs.shape[-1], np.flatnonzero(least)
    while k < shape.classes and unfinished.size:
        k = min(4 * k, shape.classes)
        find = _largest
        # (With a softcap, only the kernel that finds the largest logits has their log-probabilities.)
        if not softcap and (4 * k > shape.classes or 8 * least[unfinished].min() > shape.classes):
            find, k = _all_in_order, shape.classes
        still_short = []
        for block in _blocks(unfinished.size, 24 * k + shape.classes * (9 if find is _largest else 48)):
            chosen = unfinished[block]
            of_block = find(arrays, mask, temperature, softcap, chosen, k, threads)
            sizes[chosen], least[chosen] = _sizes(of_block[1], top_p)
            done = np.ones(chosen.size, np.bool_) if k == shape.classes else least[chosen] == 0
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
    """How many of the largest classes the nucleus of each row has; and where it may have more than there are here, at
    least how many it has, otherwise 0.

    A class belongs to it if all before it hold less than `top_p`; if that is 1, whatever the rounding of their sum.
    """
    p = kernels.serving.evaluate("exp_any", logprobs.astype(np.float64))
    before = np.zeros_like(p)
    # (An accumulation adds one number after the other, so its bits do not depend on the CPU, as those of a sum do.)
    np.add.accumulate(p[:, :-1], axis=-1, out=before[:, 1:])
    belongs = (logprobs > -np.inf) & (before < (math.inf if top_p == 1 else top_p))
    with np.errstate(all="ignore"):  # as if all others were as likely as the last
        least = p.shape[-1] + np.fmax(0, (top_p - before[:, -1]) / p[:, -1] - 1)
    return np.count_nonzero(belongs, axis=-1), np.where(belongs[:, -1], least, 0)


def _largest(
    arrays: Arrays, mask: Array | None, temperature: float | Array, softcap: float, chosen: Array, k: int, threads: int
) -> tuple[Array, Array]:
    """The ids and log-probabilities of the largest classes of some rows."""
    dtype, n = arrays.dtype, chosen.size
    x, takes_part = (
        None if a is None else kernels.stored(_rows(a, arrays, chosen))[..., np.newaxis] for a in (arrays.x, mask)
    )
    of_rows = _temperatures(temperature, chosen)
    of_rows = of_rows[:, np.newaxis] if isinstance(of_rows, np.ndarray) else of_rows
    ids, logprobs = np.empty((n, 1, k), np.int64), np.empty((n, 1, k), dtype)
    kernels.serving.of(dtype).token_logprobs(
        x, takes_part, np.empty((n, 1, 0), np.int64), kernels.ScoreOptions(None, softcap, of_rows),
        np.empty((n, 1, 0), dtype), np.empty((n, 1, 0), np.int64), np.empty((n, 1), dtype), np.empty((n, 1), dtype),
        ids, logprobs, None, None, threads,
    )  # fmt: skip
    return ids[:, 0], logprobs[:, 0]


def _all_in_order(
    arrays: Arrays, mask: Array | None, temperature: float | Array, softcap: float, chosen: Array, k: int, threads: int
) -> tuple[Array, Array]:
    """The same of all classes, without a softcap."""
    x = _rows(arrays.x, arrays, chosen).astype(arrays.dtype)
    takes_part = None if mask is None else _rows(mask, arrays, chosen)
    logprobs = log_softmax(x, temperature=_temperatures(temperature, chosen), where=takes_part, workers=threads)
    descending = np.negative(x, out=x) if takes_part is None else np.where(takes_part, -x, np.inf)
    # The fastest of NumPy's sorts leaves equal numbers in any order. Their places make it that of their ids.
    ids = np.argsort(descending, axis=-1)
    ordered = np.take_along_axis(descending, ids, axis=-1)
    places = np.zeros_like(ids)
    np.cumsum(ordered[:, 1:] != ordered[:, :-1], axis=-1, out=places[:, 1:])
    bits = k.bit_length()
    ids = np.sort(places << bits | ids, axis=-1) & ((1 << bits) - 1)
    return ids, np.take_along_axis(logprobs, ids, axis=-1)


def _rows(array: Array, arrays: Arrays, chosen: Array) -> Array:
    """A copy of some rows of an array in the shape of the logits."""
    rows = np.moveaxis(array, arrays.shape.class_axes, (-1,))
    return np.ascontiguousarray(
        rows[np.unravel_index(chosen, arrays.shape.rows)] if rows.ndim > 1 else rows[np.newaxis]
    )


def _temperatures(temperature: float | Array, chosen: Array) -> float | Array:
    """The temperature, or those of some rows."""
    return temperature.reshape(-1)[chosen] if isinstance(temperature, np.ndarray) else temperature
