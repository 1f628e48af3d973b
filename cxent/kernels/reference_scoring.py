"""Scores, and logits whose classes are in several places, in pure NumPy, as in ``scores.pxi``."""

from __future__ import annotations

import numpy as np

from .reference_rows import Array, capped, chosen_rows, exponentials, hidden_in, limit, store, sum_rows


@np.errstate(all="ignore")
def token_logprobs(
    x: Array,
    mask: Array | None,
    ids: Array,
    options: tuple[int | None, float, float | Array],
    logprob: Array,
    rank: Array | None,
    entropy: Array | None,
    lse: Array,
    top_id: Array | None,
    top_logprob: Array | None,
    moments: Array | None,
    state: Array | None,
    threads: int,
) -> None:
    ignored, cap, temperature = options
    logprob = logprob.reshape(ids.shape)  # (a view: memory in C order)
    u, empty = chosen_rows(x, mask)
    hidden = hidden_in(mask) & np.logical_not(empty)
    u_or_void = np.where(empty, np.nan, u)
    top = u_or_void.max(axis=-1, keepdims=True)
    m, shifted, lost, _ = capped(u_or_void, cap, temperature, hidden)
    e, rest = exponentials(shifted, lost)
    void = (
        m - m if cap else top - top
    )  # NaN for a row without probabilities, and else 0 (m may be too large a quotient)
    log_sum = np.log1p(rest) + void
    log_total = m + log_sum if cap else np.where(np.isfinite(m), m + log_sum, limit(u, u.max(axis=-1, keepdims=True)))
    lse[...] = np.where(empty, -np.inf, log_total)[..., 0]
    log_p = (shifted - log_sum).astype(lse.dtype)
    counted = ids != ignored
    id = np.where(counted, ids, 0).astype(np.int64)
    logprob[...] = np.where(counted, np.take_along_axis(log_p, id, axis=-1), 0)
    if rank is not None:
        rank = rank.reshape(ids.shape)
        for k in range(ids.shape[-1]):
            rank[..., k] = 1 + np.count_nonzero(u > np.take_along_axis(u, id[..., k : k + 1], axis=-1), axis=-1)
        chosen = np.take_along_axis(~(hidden | np.zeros_like(u, np.bool_)), id, axis=-1)
        rank[~counted | ~chosen | np.isnan(logprob)] = np.iinfo(np.int64).max
    if entropy is not None:
        entropy[...] = (log_sum - sum_rows(np.where(e == 0, 0, e * shifted)) / (1 + rest))[..., 0]
        if ids.shape[-1]:
            entropy[~counted.any(axis=-1)] = 0
    if top_id is not None and top_logprob is not None:
        order = np.argsort(-u, axis=-1, kind="stable")
        if mask is not None:  # the hidden ones come last, and are none
            last = np.take_along_axis(hidden | np.zeros_like(u, np.bool_), order, axis=-1)
            order = np.take_along_axis(np.where(last, -1, order), np.argsort(last, axis=-1, kind="stable"), axis=-1)
        top_id[...] = order[..., : top_id.shape[-1]]
        top_logprob[...] = np.where(top_id < 0, -np.inf, np.take_along_axis(log_p, top_id, axis=-1))
        without = np.isnan(log_sum[..., 0])
        top_id[without], top_logprob[without] = -1, np.nan
    if moments is not None:
        p = e / (1 + rest)
        d = np.where(p == 0, 0, shifted)
        mean = sum_rows(p * d)
        moments[...] = np.concatenate([sum_rows(p * (d - mean) ** 2), sum_rows(p**2)], axis=-1)
    if state is not None:
        state[...] = np.concatenate(
            [
                top,
                rest + void,
                sum_rows(np.where(e == 0, 0, e * shifted)),
            ],
            axis=-1,
        )


def _add(a: tuple[Array, Array], b: tuple[Array, Array]) -> tuple[Array, Array]:
    """The sum of two sums, each with what it lacks."""
    total = a[0] + b[0]
    added = total - a[0]
    return total, (a[1] + b[1]) + ((a[0] - (total - added)) + (b[0] - added))


def _times_exp(a: tuple[Array, Array], d: Array) -> tuple[Array, Array]:
    change, e, near = np.expm1(d), np.exp(d), d >= -0.5
    changed = _add(a, (a[0] * change, a[1] * change))
    return np.where(near, changed[0], a[0] * e), np.where(near, changed[1], a[1] * e)


@np.errstate(all="ignore")
def merge_parts(a: Array, b: Array, temperature: float, out: Array) -> None:
    a, b = a.astype(np.float64), b.astype(np.float64)
    high, low = np.where(a[0] >= b[0], a, b), np.where(a[0] >= b[0], b, a)
    m = np.where(np.isnan(a[0]), a[0], high[0])
    d = np.where(low[0] == m, 0, np.maximum(-2000, (low[0] / 2 - m / 2) / (temperature / 2)))
    of_low = _add((np.ones_like(m), np.zeros_like(m)), (low[1], low[2]))
    moved = _add((low[3], low[4]), (of_low[0] * d, of_low[1] * d))
    out[0] = m
    for at, total in (1, _times_exp(of_low, d)), (3, _times_exp(moved, d)):
        value, lost = _add((high[at], high[at + 1]), total)
        out[at] = value + lost
        out[at + 1] = lost - (out[at] - value)


@np.errstate(all="ignore")
def finish_part(
    x: Array,
    mask: Array | None,
    m: Array,
    b: Array,
    logarithms: bool,
    temperature: float,
    out: Array,
    past_caches: bool,
    threads: int,
) -> None:
    rows = (chosen_rows(x, mask)[0] / 2 - m[..., np.newaxis].astype(np.float64) / 2) / (temperature / 2)
    factor = b[..., np.newaxis].astype(np.float64)
    e = np.exp(rows)
    nothing = (factor == 0) | ((e == 0) & np.isinf(factor))
    store(rows - factor if logarithms else np.where(nothing, 0, factor * e), out)
