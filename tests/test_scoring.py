"""Scores of tokens: against their definitions, exact values, and the log-softmax."""

import sys
import tracemalloc
from time import thread_time

import numpy as np
import pytest
from helpers import (
    FLOATS,
    HALVES,
    RTOL,
    assert_same_bits,
    assert_within_ulps,
    exact_row,
    little_memory,
    ulp,
    ulps_off,
    unchanged,
)
from hypothesis import given
from hypothesis import strategies as st
from layouts import logits_and_axes
from mpmath import mp, mpf

import cxent
from cxent import _nucleus, perplexity, token_logprobs
from cxent import kernels as levels

# Around steps, stretches, the forms of batches, and counts that a vector cannot hold.
NO_RANK = np.iinfo(np.int64).max
CLASSES = [1, 2, 3, 10, 16, 63, 64, 65, 100, 127, 128, 129, 191, 192, 257, 1000, 5003]


def scores_by_definition(logits, ids, k=0, axis=-1, temperature=1.0, softcap=None):
    """Log-probabilities, ranks, entropies, logsumexps, and the top k, in float64 on rows with the classes last."""
    raw = np.moveaxis(np.asarray(logits, np.float64), axis, -1)
    x = raw / temperature if softcap is None else softcap * np.tanh(raw / (temperature * softcap))
    m = x.max(axis=-1, keepdims=True)
    lse = m + np.log(np.exp(x - m).sum(axis=-1, keepdims=True))
    log_p = x - lse
    at = np.asarray(ids, np.int64)[..., np.newaxis] if np.ndim(ids) < raw.ndim else np.asarray(ids, np.int64)
    logprob = np.take_along_axis(log_p, at, axis=-1)
    rank = 1 + (raw[..., np.newaxis, :] > np.take_along_axis(raw, at, axis=-1)[..., np.newaxis]).sum(axis=-1)
    with np.errstate(invalid="ignore"):
        entropy = -np.where(log_p == -np.inf, 0, np.exp(log_p) * log_p).sum(axis=-1)
    top_ids = np.argsort(-raw, axis=-1, kind="stable")[..., :k]
    top = np.take_along_axis(log_p, top_ids, axis=-1)
    shape = np.shape(ids)
    return logprob.reshape(shape), rank.reshape(shape), entropy, lse[..., 0], top_ids, top


@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("dtype", [*FLOATS, *HALVES])
@pytest.mark.parametrize("axis", [0, 1])
def test_scores(dtype, classes, axis):
    rng = np.random.default_rng(classes)
    logits = np.round(3 * rng.standard_normal((37, classes) if axis else (classes, 37)), 1).astype(dtype)  # with ties
    ids = rng.integers(0, classes, 37)
    k = min(classes, 7)
    with unchanged(logits, ids):
        found = token_logprobs(logits, ids, axis=axis, top_k=k)
    logprob, rank, entropy, lse, top_ids, top = scores_by_definition(logits, ids, k, axis)
    computed = np.float64 if dtype is np.float64 else np.float32
    assert found.logprob.dtype == found.entropy.dtype == found.logsumexp.dtype == found.top_logprobs.dtype == computed
    rtol = RTOL[np.dtype(computed).name]
    np.testing.assert_allclose(found.logprob, logprob, rtol=rtol, atol=rtol)
    np.testing.assert_array_equal(found.rank, rank)
    np.testing.assert_allclose(found.entropy, entropy, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(found.logsumexp, lse, rtol=rtol)
    np.testing.assert_array_equal(found.top_ids, top_ids)
    np.testing.assert_allclose(found.top_logprobs, top, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("k", [1, 2, 10, 16, 17, 50, 60, 64, 100, 128])
@pytest.mark.parametrize("classes", [128, 129, 159, 160, 257, 1000, 5003])
@pytest.mark.parametrize("dtype", FLOATS)
def test_the_largest_of_any_row(dtype, classes, k):
    rng = np.random.default_rng(k)
    rows = {
        "all different": rng.standard_normal(classes),
        "with ties": np.round(rng.standard_normal(classes), 1),
        "few values": rng.integers(0, 3, classes),
        "equal": np.zeros(classes),
        "rising": np.arange(classes),
        "falling": -np.arange(classes),
        "the largest side by side": np.where(np.arange(classes) // 70 == 1, 5, rng.standard_normal(classes)),
        "mostly -inf": np.where(rng.random(classes) < 0.95, -np.inf, rng.standard_normal(classes)),
        "half -inf": np.where(rng.random(classes) < 0.5, -np.inf, rng.standard_normal(classes)),
        "the last": np.where(np.arange(classes) > classes - 20, 7 + rng.random(classes), 0),
        "up and down": -np.abs(np.arange(classes) - classes / 2),
        "teeth": np.arange(classes) % 32 + np.arange(classes) / 1024,
        "rising in some lanes": np.where(np.arange(classes) % 32 < 9, np.arange(classes), 0),
        "rising to equal ones": np.minimum(np.arange(classes), 90),
    }
    x = np.stack(list(rows.values())).astype(dtype)
    found = token_logprobs(x, np.zeros(len(x), int), top_k=k)
    for name, ids, expected in zip(rows, found.top_ids, np.argsort(-x, axis=-1, kind="stable"), strict=True):
        np.testing.assert_array_equal(ids, expected[:k], err_msg=name)
    capped = np.where(rng.random(x.shape) < 0.1, np.inf, x)  # (infinite ones are numbers with a cap)
    ids = token_logprobs(capped, np.zeros(len(x), int), top_k=k, softcap=5.0).top_ids
    np.testing.assert_array_equal(ids, np.argsort(-capped, axis=-1, kind="stable")[:, :k])


@given(st.data())
def test_any_layout(data):
    logits, axis = data.draw(logits_and_axes())
    rows = np.delete(logits.shape, axis % logits.ndim)
    classes = logits.shape[axis]
    candidates = data.draw(st.sampled_from([None, 0, 1, 3]))
    shape = tuple(rows) if candidates is None else (*rows, candidates)
    ids = (
        np.random.default_rng(1)
        .integers(0, classes, shape)
        .astype(data.draw(st.sampled_from("bHiqQ" if classes <= 128 else "HiqQ")))
    )
    k = data.draw(st.integers(0, min(classes, 5)))
    found = token_logprobs(logits, ids, axis=axis, top_k=k)
    expected = scores_by_definition(logits, ids, k, axis)
    np.testing.assert_allclose(found.logprob, expected[0], rtol=3e-5, atol=3e-5)
    np.testing.assert_array_equal(found.rank, expected[1])
    assert np.shape(found.entropy) == np.shape(found.logsumexp) == tuple(rows)
    assert found.top_ids is None if k == 0 else found.top_ids.shape == (*rows, k)


@pytest.mark.parametrize("options", [{"temperature": 0.3}, {"softcap": 5.0}, {"temperature": 2.0, "softcap": 30.0}])
@pytest.mark.parametrize("classes", [10, 257, 1000])
def test_options(options, classes):
    rng = np.random.default_rng(0)
    logits = 8 * rng.standard_normal((20, classes))
    ids = rng.integers(0, classes, (20, 4))
    found = token_logprobs(logits, ids, top_k=3, **options)
    for value, expected in zip(found[:6], scores_by_definition(logits, ids, 3, **options), strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-12, atol=1e-12)


def test_ranks_are_of_the_logits_themselves():
    scores = token_logprobs([40.0, 41.0, 42.0], [0, 1, 2], softcap=1.0, top_k=3)  # all of them 1.0 with the cap
    assert scores.rank.tolist() == [3, 2, 1]
    assert scores.top_ids.tolist() == [2, 1, 0]


@pytest.mark.parametrize("classes", [5, 100, 300])
def test_an_infinite_logit_with_a_cap_is_the_largest(classes):
    row = np.random.default_rng(0).standard_normal(classes)
    row[[1, 3]] = np.inf
    scores = token_logprobs([row, row[::-1]], [3, 0], softcap=30.0, top_k=3)
    order = np.argsort(-row, kind="stable")
    assert scores.top_ids[0].tolist() == order[:3].tolist()
    assert scores.top_ids[1, :2].tolist() == [classes - 4, classes - 2]
    assert scores.rank[0] == 1
    np.testing.assert_allclose(scores.logprob[0], -np.log(2), rtol=1e-6)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("gap", [0, 1, 17, 40, 80])
@pytest.mark.parametrize("offset", [0, 1000])
def test_confident_rows_keep_their_digits(dtype, gap, offset):
    row = np.array([offset, offset - gap, offset - gap - 1], dtype)
    found = token_logprobs(row, [0, 1, 2], top_k=3)
    x = [mpf(float(number)) for number in row]
    lse = mp.log(sum(map(mp.exp, x)))
    log_p = [number - lse for number in x]
    entropy = -sum(mp.exp(number) * number for number in log_p)
    assert ulps_off(found.entropy, entropy, entropy, dtype) <= 6
    assert_within_ulps(found.logprob, log_p, [4 + gap] * 3)
    assert_same_bits(found.top_logprobs, found.logprob)


@pytest.mark.parametrize("classes", [5, 130, 3000])
@pytest.mark.parametrize("dtype", FLOATS)
def test_log_probabilities_are_those_of_log_softmax(dtype, classes):
    rng = np.random.default_rng(0)
    logits = (5 * rng.standard_normal((50, classes))).astype(dtype)
    ids = rng.integers(0, classes, (50, 3))
    found = token_logprobs(logits, ids)
    log_p = cxent.log_softmax(logits)
    np.testing.assert_allclose(found.logprob, np.take_along_axis(log_p, ids, axis=-1), rtol=4 * np.finfo(dtype).eps)
    np.testing.assert_allclose(found.logsumexp, cxent.logsumexp(logits), rtol=2 * np.finfo(dtype).eps)


@pytest.mark.parametrize("order", ["ascending", "descending", "equal", "mixed"])
@pytest.mark.parametrize("classes", [90, 1000])
@pytest.mark.parametrize("k", [1, 2, 5, 64, 90])
def test_top_k_of_any_order(k, classes, order):
    row = {
        "ascending": np.arange(classes),
        "descending": -np.arange(classes),
        "equal": np.zeros(classes),
        "mixed": np.random.default_rng(0).integers(0, 9, classes),
    }[order].astype(np.float32)
    found = token_logprobs(row, 0, top_k=k)
    np.testing.assert_array_equal(found.top_ids, np.argsort(-row, kind="stable")[:k])
    assert_same_bits(found.top_logprobs, token_logprobs(row, found.top_ids).logprob)


def test_all_of_a_row():
    row = np.random.default_rng(0).standard_normal(300)
    found = token_logprobs(row, np.arange(300), top_k=300)
    assert sorted(found.rank.tolist()) == list(range(1, 301))
    np.testing.assert_array_equal(found.top_ids, np.argsort(-row))


@pytest.mark.parametrize("classes", [3, 200])
@pytest.mark.parametrize("wrong", ["nan", "inf", "-inf"])
def test_rows_without_probabilities(wrong, classes):
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((30, classes))
    ids = rng.integers(0, classes, 30)
    right = token_logprobs(logits, ids, top_k=2)
    logits[7] = -np.inf if wrong == "-inf" else logits[7]
    logits[7, 2] = float(wrong)
    found = token_logprobs(logits, ids, top_k=2)
    others = np.arange(30) != 7
    for value, before in zip(found[:6], right[:6], strict=True):
        assert_same_bits(value[others], before[others])
    assert np.isnan(found.logprob[7]) and np.isnan(found.entropy[7]) and np.isnan(found.top_logprobs[7]).all()
    assert found.rank[7] == NO_RANK and found.top_ids[7].tolist() == [-1, -1]
    np.testing.assert_array_equal(found.logsumexp[7], float(wrong))


def test_impossible_classes():
    found = token_logprobs([[0.0, -np.inf, 0.0]], [[0, 1, 2]], top_k=3)
    np.testing.assert_allclose(found.logprob, [[-np.log(2), -np.inf, -np.log(2)]])
    assert found.rank.tolist() == [[1, 3, 1]]
    assert found.top_ids.tolist() == [[0, 2, 1]]
    np.testing.assert_allclose(found.entropy, np.log(2))


def test_ignored_ids():
    found = token_logprobs(np.eye(3), [[0, -1], [-1, 1], [2, 2]], ignore_index=-1, top_k=1)
    assert found.rank.tolist() == [[1, NO_RANK], [NO_RANK, 1], [1, 1]]
    assert (found.logprob == 0).tolist() == [[False, True], [True, False], [False, False]]
    assert found.top_ids.tolist() == [[0], [1], [2]]


@pytest.mark.parametrize("candidates", [None, 1, 3, 60])
@pytest.mark.parametrize(("shape", "axis"), [((5, 7), -1), ((5, 150), -1), ((7, 5), 0)])
def test_rows_that_are_ignored_add_nothing(shape, axis, candidates):
    """Whatever is in them; and no rank takes them for a hit."""
    logits = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    rows = np.moveaxis(logits, axis, -1)
    rows[2], rows[3, 1] = -np.inf, np.nan
    ids = np.ones(5 if candidates is None else (5, candidates), np.int64)
    all_rows = token_logprobs(logits, ids, axis=axis)
    ids[[0, 2, 3]] = -100
    if candidates == 3:
        ids[1, 1] = -100  # (this row has others)
    ignored = ids == -100
    found = token_logprobs(logits, ids, axis=axis, ignore_index=-100)
    assert (found.logprob[ignored] == 0).all() and (found.rank[ignored] == NO_RANK).all()
    assert not (found.rank[ignored] <= shape[axis]).any()
    assert found.entropy[[0, 2, 3]].tolist() == [0, 0, 0]
    assert_same_bits(found.entropy[[1, 4]], all_rows.entropy[[1, 4]])
    assert_same_bits(found.logprob[~ignored], all_rows.logprob[~ignored])
    np.testing.assert_array_equal(found.rank[~ignored], all_rows.rank[~ignored])
    np.testing.assert_array_equal(found.logsumexp, all_rows.logsumexp)


def test_rows_without_candidates_keep_their_entropy():
    found = token_logprobs(np.zeros((2, 4)), np.zeros((2, 0), int), ignore_index=-1)
    np.testing.assert_allclose(found.entropy, np.log(4))


@pytest.mark.parametrize("dtype", [*FLOATS, *HALVES])
def test_equal_logits_share_a_rank(dtype):
    """So rank 1 need not be the greedy choice, which is the lowest of these ids."""
    logits = np.array([[0, 2, 2, 1], [3, 3, 3, 3]], dtype)
    found = token_logprobs(logits, [[0, 1, 2, 3]] * 2, top_k=1)
    assert found.rank.tolist() == [[4, 1, 1, 3], [1, 1, 1, 1]]
    assert (found.top_ids == [[0, 1, 2, 3]]).tolist() == [[False, True, False, False], [True, False, False, False]]


@pytest.mark.parametrize("dtype", [*FLOATS, np.float16])
@pytest.mark.parametrize(("classes", "axis"), [(40, 1), (300, 0), (1000, 1), (1017, 1), (4999, 1)])
def test_ranks_of_many_candidates(classes, axis, dtype):
    """Those of one at a time, in any order of the ids, with ties, repeated ids, -inf, and rows without ranks."""
    rng = np.random.default_rng(classes)
    rows = np.stack([rng.standard_normal(classes), rng.integers(0, 5, classes), np.arange(classes), np.zeros(classes)])
    rows = np.concatenate([rows, np.where(rng.random((1, classes)) < 0.5, -np.inf, rows[:1]), rows[:2]]).astype(dtype)
    rows[5, classes // 2], rows[6] = np.nan, -np.inf
    for count in (48, 63, 64, 300):
        ids = rng.integers(-1, classes, (len(rows), count))
        found = token_logprobs(np.moveaxis(rows, -1, axis), ids, axis=axis, ignore_index=-1)
        at = np.take_along_axis(rows, np.maximum(ids, 0), axis=-1)
        rank = 1 + (rows[:, np.newaxis] > at[..., np.newaxis]).sum(axis=-1)
        rank[(ids < 0) | (np.arange(len(rows)) >= 5)[:, np.newaxis]] = NO_RANK
        np.testing.assert_array_equal(found.rank, rank)


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_bound_that_is_documented(dtype):
    """4 ulp, half an ulp of x_y - m, and half an ulp of every x_j - m times p_j."""
    rng = np.random.default_rng(0)
    rows = [rng.normal(0, spread, classes) for spread in (0.1, 3, 30) for classes in (2, 3, 10, 140)]
    rows += [np.array([gap, 0]) + rng.random(2) for gap in rng.uniform(0, 85, 20)]  # nearly certain
    rows += [np.array([81.227425, 0.8149]), np.array([1e4, 1e4 - 80.3, 1e4 - 77.7])]
    for x in (row.astype(dtype) for row in rows):
        exact = exact_row(x)
        roundings = [ulp(mpf(float(v)) - exact.max, dtype) / 2 if v != x.max() else 0 for v in x]
        of_sum = mp.fsum(p * rounding for p, rounding in zip(exact.p, roundings, strict=True))
        ids = np.unique([x.argmax(), x.argmin(), len(x) // 2])
        results = {
            "token_logprobs": token_logprobs(x, ids).logprob,
            "log_softmax": cxent.log_softmax(x)[ids],
            "cross_entropy": -cxent.cross_entropy(np.tile(x, (len(ids), 1)), ids, reduction="none"),
        }
        for name, found in results.items():
            for value, y in zip(found, ids, strict=True):
                true = exact.log_p[y]
                bound = 4 * ulp(true, dtype) + roundings[y] + of_sum
                assert abs(mpf(float(value)) - true) <= bound, (name, x, y)


@pytest.mark.parametrize("shape", [(300, 10), (40, 1000), (3, 20_000)])
def test_any_number_of_threads(shape, share_small_calls):
    rng = np.random.default_rng(0)
    logits = rng.standard_normal(shape).astype(np.float32)
    ids = rng.integers(0, shape[1], (shape[0], 2))
    share_small_calls(1000)
    alone = token_logprobs(logits, ids, top_k=5)
    for value, expected in zip(token_logprobs(logits, ids, top_k=5, workers=3), alone, strict=True):
        assert_same_bits(value, expected)


def test_scalars():
    found = token_logprobs([1.0, 2.0, 3.0], 2)
    assert isinstance(found.logprob, np.float64) and isinstance(found.rank, np.int64)
    assert found.top_ids is found.top_logprobs is None


def test_empty():
    found = token_logprobs(np.zeros((0, 4)), np.zeros((0, 3), int), top_k=2)
    assert (found.logprob.shape, found.rank.shape, found.entropy.shape) == ((0, 3), (0, 3), (0,))
    assert found.top_ids.shape == found.top_logprobs.shape == (0, 2)
    assert token_logprobs(np.zeros((2, 4)), np.zeros((2, 0), int)).logprob.shape == (2, 0)


def test_perplexity():
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((6, 20, 50)).astype(np.float32)
    ids = rng.integers(0, 50, (6, 20))
    ids[:, 15:] = -1
    nll, tokens, value = perplexity(logits, ids, ignore_index=-1, temperature=0.9)
    logprob = token_logprobs(logits, ids, ignore_index=-1, temperature=0.9).logprob
    assert tokens == 90
    np.testing.assert_allclose(nll, -logprob.sum(dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(value, np.exp(nll / 90))
    assert (type(nll), type(tokens), type(value)) == (float, int, float)


def test_perplexity_of_what_is_impossible_and_of_nothing():
    assert perplexity([[0.0, -np.inf]], [1]) == (np.inf, 1, np.inf)
    assert perplexity([[0.0, -1e6]], [1]).perplexity == np.inf
    nll, tokens, value = perplexity(np.zeros((0, 5)), np.zeros(0, int))
    assert (nll, tokens) == (0, 0) and np.isnan(value)


def nucleus_by_definition(logits, top_p, axis=-1, where=True, temperature=1.0, softcap=None):
    """The size of the nucleus of each row; and how far the sums before and after its last class are from `top_p`."""
    x = np.moveaxis(np.where(where, np.asarray(logits, np.float64), np.nan), axis, -1)
    x = x / np.asarray(temperature, np.float64)[..., np.newaxis]
    x = x if softcap is None else softcap * np.tanh(x / softcap)
    x = np.where(np.isnan(x), -np.inf, x)
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    p = -np.sort(-e / e.sum(axis=-1, keepdims=True), axis=-1)
    sums = np.cumsum(p, axis=-1)
    return 1 + (sums < top_p).sum(axis=-1), np.abs(sums - top_p).min(axis=-1)


@pytest.mark.parametrize("classes", [1, 5, 33, 130, 700, 3000])
@pytest.mark.parametrize("top_p", [0.03, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("dtype", [*FLOATS, *HALVES])
@pytest.mark.parametrize("axis", [0, 1])
def test_the_nucleus(dtype, classes, top_p, axis):
    rng = np.random.default_rng(classes)
    spread = np.linspace(0.1, 8, 24)  # from rows of which nearly all classes belong to it to those of which few do
    rows = (spread[:, np.newaxis] * rng.standard_normal((24, classes))).astype(dtype)
    logits = rows if axis else np.ascontiguousarray(rows.T)
    ids, k = rng.integers(0, classes, 24), min(classes, 3)
    for options in (
        {},
        {"softcap": 4.0},
        {"temperature": rng.uniform(0.3, 3, 24)},
        {"where": rng.random(logits.shape) < 0.7},
    ):
        if "where" in options:
            np.moveaxis(options["where"], axis, -1)[:, 0] = True
        with unchanged(logits, ids):
            found = token_logprobs(logits, ids, axis=axis, top_k=k, top_p=top_p, **options)
        expected, margin = nucleus_by_definition(logits, top_p, axis, **options)
        sure = margin > (1e-12 if dtype is np.float64 else 2e-6)
        assert sure.sum() > 4
        assert found.nucleus.dtype == np.int64
        np.testing.assert_array_equal(found.nucleus[sure], expected[sure])
        width = max(k, found.nucleus.max())
        assert found.top_ids.shape == found.top_logprobs.shape == (24, width)
        without = token_logprobs(logits, ids, axis=axis, top_k=width, **options)
        here = np.arange(width) < np.maximum(k, found.nucleus)[:, np.newaxis]
        np.testing.assert_array_equal(found.top_ids, np.where(here, without.top_ids, -1))
        rtol = RTOL[found.top_logprobs.dtype.name]
        np.testing.assert_allclose(
            found.top_logprobs, np.where(here, without.top_logprobs, -np.inf), rtol=rtol, atol=rtol
        )
        if axis:
            assert_same_bits(found.top_logprobs[here], without.top_logprobs[here])
        for name in ("logprob", "rank", "entropy", "logsumexp"):
            assert_same_bits(getattr(found, name), getattr(without, name))


def test_the_nucleus_of_exact_numbers():
    """Probabilities of 1/2, 1/4, 1/8, 1/16, 1/16, of which no sum is rounded in the oracle."""
    p = [mpf(1) / 2, mpf(1) / 4, mpf(1) / 8, mpf(1) / 16, mpf(1) / 16]
    x = np.array([float(mp.log(v)) for v in p])[[3, 0, 4, 1, 2]]
    for top_p in (0.01, 0.49, 0.51, 0.74, 0.76, 0.87, 0.88, 0.93, 0.94, 0.99):
        size = next(n for n in range(1, 6) if mp.fsum(p[:n]) >= top_p)
        found = token_logprobs(x, 0, top_p=top_p)
        assert found.nucleus == size
        assert found.top_ids.tolist() == [1, 3, 4, 0, 2][:size]


@pytest.mark.parametrize("classes", [4, 40, 200])
@pytest.mark.parametrize("dtype", FLOATS)
def test_a_nucleus_of_all(dtype, classes):
    """With 1, every class that has a log-probability, however small; those that take no part have none."""
    x = np.linspace(0, -80, classes).astype(dtype) * np.array([[1], [0], [30]], dtype)
    x[1, 1] = -np.inf
    where = np.arange(classes) != 2
    found = token_logprobs(x, [0, 0, 0], top_p=1, where=where)
    assert found.nucleus.tolist() == [classes - 1, classes - 2, classes - 1]
    assert found.top_ids.shape == (3, classes - 1)
    assert found.top_ids[1, -1] == -1 and found.top_logprobs[1, -1] == -np.inf


@pytest.mark.parametrize("classes", [5, 301])
def test_the_nucleus_of_rows_without_probabilities(classes):
    x = np.zeros((5, classes))
    x[1], x[2, 1], x[3, 2] = -np.inf, np.nan, np.inf
    found = token_logprobs(x, np.zeros(5, int), top_p=0.5)
    half = -(-classes // 2)
    assert found.nucleus.tolist() == [half, 0, 0, 0, half]
    assert (found.top_ids[1:4] == -1).all() and (found.top_ids[0] == np.arange(half)).all()
    empty = token_logprobs(x[:2], [0, 0], top_p=0.5, where=np.zeros(classes, bool))
    assert empty.nucleus.tolist() == [0, 0] and empty.top_ids.shape == (2, 0)


def test_the_nucleus_of_one_row_and_of_none():
    found = token_logprobs(np.zeros(100, np.float32), 3, top_p=0.495)
    assert isinstance(found.nucleus, np.int64) and found.nucleus == 50
    assert found.top_ids.tolist() == list(range(50))
    for shape in ((0, 4), (3, 0, 4), (0, 0)):
        found = token_logprobs(np.zeros(shape), np.zeros(shape[:-1], int), top_p=0.5)
        assert found.nucleus.shape == shape[:-1] and found.top_ids.shape == (*shape[:-1], 0)
    assert token_logprobs(np.zeros((2, 3)), [0, 0]).nucleus is None


@pytest.mark.parametrize("dtype", [*FLOATS, *HALVES])
def test_a_nucleus_that_is_most_of_a_row_is_sorted(dtype, monkeypatch):
    """Also with equal logits and hidden classes; the kernel is asked for a small part of the row at most."""
    rng = np.random.default_rng(0)
    logits = (np.round(rng.standard_normal((5, 2000)) * 8) / 8).astype(dtype)  # with many ties
    logits[3] = 0
    logits[4, 5] = 60  # a peaked row among them
    ids = np.zeros(5, int)
    asked = []
    largest = _nucleus._largest
    monkeypatch.setattr(_nucleus, "_largest", lambda *given: (asked.append(given[5]), largest(*given))[1])
    for options in (
        {},
        {"temperature": 3.0},
        {"temperature": rng.uniform(1, 3, 5)},
        {"where": rng.random((5, 2000)) < 0.8},
    ):
        found = token_logprobs(logits, ids, top_p=0.97, **options)
        expected = token_logprobs(logits, ids, top_k=2000, **options)
        assert found.nucleus.max() > 1000
        for row, size in enumerate(found.nucleus):
            assert_same_bits(found.top_ids[row, :size], expected.top_ids[row, :size])
            assert_same_bits(found.top_logprobs[row, :size], expected.top_logprobs[row, :size])
    assert max(asked, default=0) <= 2000 // 4


@pytest.mark.slow
def test_a_nucleus_takes_little_memory(kernels, monkeypatch):
    """Beside its result: some blocks of rows."""
    if kernels.name == "python":
        pytest.skip("the pure-NumPy kernels work on copies")
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((400, 20_000)).astype(np.float32)
    monkeypatch.setattr("cxent._nucleus._BLOCK_BYTES", 1 << 20)
    call = lambda: token_logprobs(logits, np.zeros(400, int), top_p=0.3)  # noqa: E731
    whole = call()
    tracemalloc.start()
    call()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * (whole.top_ids.nbytes + whole.top_logprobs.nbytes) + (4 << 20) < logits.nbytes
    monkeypatch.setattr("cxent._nucleus._BLOCK_BYTES", 1 << 26)
    for found, expected in zip(call(), whole, strict=True):
        assert_same_bits(found, expected)


@pytest.mark.parametrize("shape", [(6, 10), (6, 300), (2, 3, 40)])
@pytest.mark.parametrize("dtype", [*FLOATS, *HALVES])
def test_a_temperature_for_each_row(dtype, shape, share_small_calls):
    """The bits of each row with its own number."""
    rng = np.random.default_rng(0)
    logits = (4 * rng.standard_normal(shape)).astype(dtype)
    ids = rng.integers(0, shape[-1], (*shape[:-1], 2))
    temperatures = rng.choice([0.25, 0.75, 2.0, 3.5], shape[:-1])
    found = token_logprobs(logits, ids, temperature=temperatures, top_k=3)
    for row in np.ndindex(shape[:-1]):
        alone = token_logprobs(logits[row], ids[row], temperature=temperatures[row], top_k=3)
        for value, expected in zip(found[:6], alone[:6], strict=True):
            assert_same_bits(value[row], expected)
    by_definition = scores_by_definition(logits.astype(float) / temperatures[..., np.newaxis], ids, 3)
    for value, expected in zip(found[:6], by_definition, strict=True):
        if value.dtype != np.int64:
            np.testing.assert_allclose(value, expected, rtol=3e-5, atol=3e-5)
    across = token_logprobs(np.moveaxis(logits, -1, 0).copy(), ids, axis=0, temperature=temperatures, top_k=3)
    np.testing.assert_allclose(across.logprob, found.logprob, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(across.entropy, found.entropy, rtol=1e-5, atol=1e-6)
    share_small_calls(100)
    for value, expected in zip(
        token_logprobs(logits, ids, temperature=temperatures, top_k=3, workers=3), found, strict=True
    ):
        assert_same_bits(value, expected)


def test_weights_of_tokens():
    rng = np.random.default_rng(0)
    for dtype in (np.float32, np.float64):
        logits = rng.standard_normal((6, 20, 50)).astype(dtype)
        ids = rng.integers(0, 50, (6, 20))
        ids[:, 15:] = -1
        s = rng.random((6, 1)).astype(dtype)
        s[2] = 0
        logits[2] = np.nan  # (rows that do not count)
        result = perplexity(logits, ids, ignore_index=-1, sample_weight=s)
        logprob = token_logprobs(logits, ids, ignore_index=-1).logprob
        counted = (s * np.ones(20))[:, :15]
        nll = -np.where(counted == 0, 0, counted * logprob[:, :15]).sum(dtype=np.float64)
        np.testing.assert_allclose(result.nll, nll, rtol=1e-6)
        np.testing.assert_allclose(result.tokens, counted.sum(dtype=np.float64), rtol=1e-12)
        np.testing.assert_allclose(result.perplexity, np.exp(result.nll / result.tokens), rtol=1e-12)
        assert type(result.tokens) is float
    assert np.isnan(perplexity(np.zeros((2, 3)), [0, 1], sample_weight=[1, -1]).perplexity)
    assert perplexity(np.zeros((0, 3)), np.zeros(0, int), sample_weight=np.zeros(0)).tokens == 0


def test_bits():
    logits, ids = np.random.default_rng(0).standard_normal((40, 256)), np.arange(40)
    result = perplexity(logits, ids)
    bits = -np.log2(np.exp(token_logprobs(logits, ids).logprob)).sum()
    np.testing.assert_allclose(result.bits_per_token, bits / 40, rtol=1e-12)
    np.testing.assert_allclose(2**result.bits_per_token, result.perplexity, rtol=1e-12)
    np.testing.assert_allclose(result.bits_per_byte(57), bits / 57, rtol=1e-12)
    nothing = perplexity(np.zeros((0, 5)), np.zeros(0, int))
    assert np.isnan(nothing.bits_per_token) and np.isnan(nothing.bits_per_byte(0))


BAD = {
    "ids of another shape": (dict(ids=[0, 1, 2]), ValueError, "ids must have shape"),
    "ids that are no integers": (dict(ids=[0.0, 1.0]), TypeError, "ids must have an integer dtype"),
    "an id too large": (dict(ids=[0, 5]), IndexError, r"ids\[1\] must .*got 5"),
    "a candidate too large": (dict(ids=[[0, 1], [2, -3]]), IndexError, r"ids\[1, 1\] must .*got -3"),
    "top_k too large": (dict(top_k=6), ValueError, "top_k must .*got 6"),
    "top_k below 0": (dict(top_k=-1), ValueError, "top_k must .*got -1"),
    "top_k no integer": (dict(top_k=1.5), TypeError, "top_k must .*got 1.5"),
    "top_k a boolean": (dict(top_k=True), TypeError, "top_k must .*got True"),
    "top_p above 1": (dict(top_p=1.5), ValueError, "top_p must be a number above 0 and up to 1, or None, got 1.5"),
    "top_p of 0": (dict(top_p=0), ValueError, "top_p must .*got 0"),
    "top_p NaN": (dict(top_p=np.nan), ValueError, "top_p must .*got nan"),
    "top_p no number": (dict(top_p="0.9"), TypeError, "top_p must .*got '0.9'"),
    "no temperature": (dict(temperature=0), ValueError, "temperature must .*got 0"),
    "no softcap": (dict(softcap=-1), ValueError, "softcap must .*got -1"),
    "no such axis": (dict(axis=2), np.exceptions.AxisError, "axis 2"),
    "no workers": (dict(workers=0), ValueError, "workers must be positive"),
    "complex logits": (dict(logits=np.zeros((2, 5), complex)), TypeError, "logits must .*got complex128"),
    "no classes": (dict(logits=np.zeros((2, 0))), ValueError, "^logits must have at least one class"),
}


@pytest.mark.parametrize(("given", "error", "message"), BAD.values(), ids=BAD)
def test_bad_input(given, error, message):
    with pytest.raises(error, match=message):
        token_logprobs(**{"logits": np.zeros((2, 5)), "ids": [0, 1], **given})
    if not {"top_k", "top_p"} & set(given) and np.ndim(given.get("ids", 0)) < 2:
        with pytest.raises(error, match=message):
            perplexity(**{"logits": np.zeros((2, 5)), "ids": [0, 1], **given})


def test_a_text_has_one_token_a_row():
    with pytest.raises(ValueError, match=r"ids must .*got \(2, 2\)"):
        perplexity(np.zeros((2, 5)), [[0, 1], [2, 3]])


def test_nothing_of_the_size_of_the_logits_is_allocated(kernels):
    if kernels.name == "python":
        pytest.skip("the pure-NumPy kernels work on copies")
    logits = np.zeros((50, 100_000), np.float32)
    for call in (lambda: token_logprobs(logits, np.zeros(50, int), top_k=10), lambda: perplexity(logits, [0] * 50)):
        call()
        tracemalloc.start()
        call()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 3 * logits[0].nbytes  # (a row at a time)


def seconds(call):
    """The least of a few times, of this thread alone."""
    times = []
    for _ in range(7):
        start = thread_time()
        call()
        times.append(thread_time() - start)
    return min(times)


with_a_fine_clock = pytest.mark.skipif(sys.platform == "win32", reason="the clock of a thread has steps of 16 ms")


@with_a_fine_clock
def test_many_candidates_cost_little_more_than_one(kernels):
    """(With a look at the row for each, 1,000 take some 70 times as long as one.)"""
    if kernels.name == "python":
        pytest.skip("NumPy looks at the row for each")
    row = np.random.default_rng(0).standard_normal((1, 128_000)).astype(np.float32)
    ids = np.random.default_rng(1).integers(0, 128_000, (1, 1000))
    assert seconds(lambda: token_logprobs(row, ids)) < 30 * seconds(lambda: token_logprobs(row, ids[:, :1]))


@with_a_fine_clock
@pytest.mark.parametrize(("shape", "axis", "k"), [((1, 128_000), 1, 50), ((1, 128_000), 1, 1000), ((4096, 16), 0, 20)])
def test_no_order_of_a_row_makes_the_top_k_slow(shape, axis, k, kernels):
    """(With parts that are runs of a row, or a heap that is offered one class after the other, one takes 5 to 20 times
    as long as another.)
    """
    if kernels.name == "python":
        pytest.skip("NumPy sorts all rows")
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    ids = np.zeros(np.delete(shape, axis), int)
    at_random = seconds(lambda: token_logprobs(x, ids, axis=axis, top_k=k))
    ascending = np.sort(x, axis=axis)
    descending = np.flip(ascending, axis).copy()
    for rows in (ascending, descending, np.minimum(ascending, descending), np.zeros_like(x)):
        assert seconds(lambda rows=rows: token_logprobs(rows, ids, axis=axis, top_k=k)) < 4 * at_random


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits what a process may allocate, as Linux does")
def test_a_memory_map_is_read_in_place(kernels, tmp_path):
    """2 GB of logits, where a process may have 64 MB beyond what it has: what it reads stays the file's."""
    if kernels.name == "python":
        pytest.skip("the pure-NumPy kernels work on copies")
    logits = np.memmap(tmp_path / "logits", np.float32, "w+", shape=(4000, 128_256))  # (a file without contents)
    logits[3999, 7] = 5
    with little_memory():
        found = token_logprobs(logits, np.full(4000, 7), top_k=1)
        total = perplexity(logits, np.full(4000, 7))
    assert found.top_ids[-1] == 7 and found.rank[-1] == 1
    np.testing.assert_allclose(total.nll, -found.logprob.sum(dtype=np.float64), rtol=1e-6)


@pytest.mark.once
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_a_memory_map_larger_than_memory(kernels, tmp_path):
    """A file of 4 GB, where a process may have 64 MB beyond what it has."""
    if kernels.name == "python":
        pytest.skip("the pure-NumPy kernels work on copies")
    rows = 16_000
    logits = np.memmap(tmp_path / "logits", np.float16, "w+", shape=(rows, 128_256))
    logits[-1, 7] = 5
    with little_memory():
        total = perplexity(logits, np.full(rows, 7), workers=-1)
        last = token_logprobs(logits[-2:], [7, 7], top_k=1)
    np.testing.assert_allclose(total.nll, (rows - 1) * np.log(128_256) - last.logprob[1], rtol=1e-6)
    assert last.rank.tolist() == [1, 1]


def moments_of(kernels, x, temperature=1.0, where=None):
    """The variance of the logits under their probabilities, and the sum of the squares of these, as kernels have it."""
    rows = len(x)
    shape = (rows, 1)
    memory = [np.empty((*shape, 0), x.dtype), np.empty((*shape, 0), np.int64), np.empty(shape, x.dtype)]
    memory += [np.empty(shape, x.dtype), None, None, np.empty((*shape, 2), x.dtype)]
    mask = None if where is None else where.view(np.uint8)[:, :, np.newaxis]
    ids = np.empty((*shape, 0), np.int64)
    options = levels.ScoreOptions(None, 0.0, temperature)
    kernels.of(x.dtype).token_logprobs(x[:, :, np.newaxis], mask, ids, options, *memory, None, 1)
    return memory[-1][:, 0].T


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("classes", [3, 130])
def test_rows_without_probabilities_have_no_moments(kernels, classes, dtype):
    x = np.zeros((6, classes), dtype)
    where = np.ones(x.shape, bool)
    x[0, 1], x[1, 2], x[2], where[3] = np.nan, np.inf, -np.inf, False
    for temperature in (1.0, 2.0, np.full((6, 1), 2, dtype)):
        variance, squares = moments_of(kernels, x, temperature, where)
        np.testing.assert_array_equal(np.isnan(variance), [True] * 4 + [False] * 2)
        np.testing.assert_array_equal(np.isnan(squares), [True] * 4 + [False] * 2)


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_variance_far_below_the_square_of_the_mean_keeps_its_digits(kernels, dtype):
    """The mean is that of the distances from the largest logit, which one class of many has."""
    x = np.full((2, 50_000), -4, dtype)
    x[:, 7] = 0
    x[1, :7] = -5
    exact = x.astype(np.longdouble)
    p = np.exp(exact) / np.exp(exact).sum(axis=1, keepdims=True)
    mean = (p * exact).sum(axis=1, keepdims=True)
    variance, squares = moments_of(kernels, x)
    np.testing.assert_allclose(variance, (p * (exact - mean) ** 2).sum(axis=1), rtol=8 * np.finfo(dtype).eps)
    np.testing.assert_allclose(squares, (p * p).sum(axis=1), rtol=8 * np.finfo(dtype).eps)
