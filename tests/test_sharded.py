"""Logits whose classes are in several places: against the same functions of the whole."""

import functools
import itertools
import pickle

import numpy as np
import pytest
from helpers import FLOATS, HALVES, assert_same_bits, exact_numbers, exact_row, ulps_off, unchanged, words
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp, mpf

import cxent
from cxent import sharded
from cxent.sharded._part import SCALE
from cxent.sharded._whole import logprob_of

CLASSES = [1, 2, 3, 10, 33, 100, 257, 1000]


def cut(logits, parts, axis=-1):
    """The logits in parts of several sizes, of which some are empty; and the first class of each."""
    classes = logits.shape[axis]
    rng = np.random.default_rng(parts)
    ends = np.sort(rng.integers(0, classes + 1, parts - 1))
    firsts = [0, *ends]
    return list(zip(np.split(logits, ends, axis=axis), firsts, strict=True))


def reduced(parts, target=None, **options):
    return functools.reduce(
        sharded.merge, [sharded.part(x, target, first_class=first, **options) for x, first in parts]
    )


def tolerance(dtype):
    return 1e-13 if np.dtype(dtype) == np.float64 else 4e-6


@pytest.mark.parametrize("parts", [1, 2, 5])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("dtype", [*FLOATS, *HALVES])
def test_what_the_whole_gives(dtype, axis, parts):
    rng = np.random.default_rng(0)
    for classes in CLASSES:
        shape = (23, classes) if axis else (classes, 23)
        x = (4 * rng.standard_normal(shape)).astype(dtype)
        y = rng.integers(0, classes, 23)
        pieces = cut(x, parts, axis)
        with unchanged(x, y):
            p = reduced(pieces, y, axis=axis)
        close = functools.partial(np.testing.assert_allclose, rtol=tolerance(dtype), atol=tolerance(dtype))
        scores = cxent.token_logprobs(x, y, axis=axis)
        close(sharded.logsumexp(p), scores.logsumexp)
        close(sharded.entropy(p), scores.entropy)
        close(sharded.logprob(p), scores.logprob)
        rank = 1 + sum(sharded.count_larger(part, p, axis=axis) for part, _ in pieces)
        np.testing.assert_array_equal(rank, scores.rank)
        loss, grad = cxent.cross_entropy_with_grad(x, y, axis=axis)
        close(sharded.loss(p), loss)
        assert sharded.loss(p).dtype == loss.dtype
        close(sharded.loss(p, reduction="none"), -scores.logprob)
        parts_of_grad = [sharded.grad(part, p, y, axis=axis, first_class=first) for part, first in pieces]
        found = np.concatenate(parts_of_grad, axis=axis)
        assert found.dtype == grad.dtype
        rough = 1e-2 if x.itemsize == 2 else tolerance(dtype)
        np.testing.assert_allclose(found.astype(float), grad.astype(float), rtol=rough, atol=rough / 100)
        for function in ("softmax", "log_softmax"):
            found = np.concatenate([getattr(sharded, function)(part, p, axis=axis) for part, _ in pieces], axis=axis)
            expected = getattr(cxent, function)(x, axis)
            assert found.dtype == expected.dtype
            np.testing.assert_allclose(found.astype(float), expected.astype(float), rtol=rough, atol=rough)


def masked_rows(shape, axis, rng):
    """A mask, with rows of which nothing, and of which the last class alone takes part."""
    mask = np.moveaxis(rng.random(shape) < 0.6, axis, -1)
    mask[0], mask[1] = False, False
    mask[1, -1] = True
    return np.moveaxis(mask, -1, axis)


@pytest.mark.parametrize("parts", [1, 2, 5])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("dtype", [*FLOATS, *HALVES])
def test_masks(dtype, axis, parts):
    """The numbers of the whole, with hidden classes, targets and candidates, and NaN where the mask is not set."""
    rng = np.random.default_rng(parts)
    for classes in CLASSES:
        shape = (23, classes) if axis else (classes, 23)
        mask = masked_rows(shape, axis, rng)
        x = np.where(mask, 4 * rng.standard_normal(shape), np.nan).astype(dtype)
        by_row = x if axis else x.T  # (a view)
        by_row[2, ::2] = np.where(np.isnan(by_row[2, ::2]), np.nan, -np.inf)
        y, ids = rng.integers(0, classes, 23), rng.integers(0, classes, (23, 3))
        k = min(classes, 4)
        pieces = list(zip(cut(x, parts, axis), (m for m, _ in cut(mask, parts, axis)), strict=True))

        def reduce(target, pieces=pieces, k=k):
            return functools.reduce(
                sharded.merge,
                [sharded.part(x, target, axis=axis, where=m, first_class=a, top_k=k) for (x, a), m in pieces],
            )

        with unchanged(x, mask, y):
            p = reduce(y)
        assert (p.maximum[0], p.sumexp_m1[0], p.shifted[0]) == (-np.inf, -1, 0)
        scores = cxent.token_logprobs(x, y, axis=axis, where=mask, top_k=k)
        close = functools.partial(np.testing.assert_allclose, rtol=tolerance(dtype), atol=tolerance(dtype))
        close(sharded.logsumexp(p), scores.logsumexp)
        close(sharded.entropy(p), scores.entropy)
        close(sharded.logprob(p), scores.logprob)
        close(sharded.logprob(reduce(ids)), cxent.token_logprobs(x, ids, axis=axis, where=mask).logprob)
        rank = 1 + sum(sharded.count_larger(x, p, axis=axis, where=m) for (x, _), m in pieces)
        has_rank = scores.rank < np.iinfo(np.int64).max
        np.testing.assert_array_equal(rank[has_rank], scores.rank[has_rank])
        has_top = ~np.isnan(scores.top_logprobs)
        np.testing.assert_array_equal(p.top_ids[has_top], scores.top_ids[has_top])
        for s in (None, np.where(np.arange(23) == 0, 0, 1)):
            options = {"sample_weight": s, "reduction": "sum"}
            loss, grad = cxent.cross_entropy_with_grad(x, y, axis=axis, where=mask, **options)
            close(sharded.loss(p, **options), loss)
            found = [
                sharded.grad(x, p, y, axis=axis, where=m, first_class=a, **options) for (x, a), m in pieces
            ]  # fmt: skip
            rough = 1e-2 if x.itemsize == 2 else tolerance(dtype)
            found = np.concatenate(found, axis=axis)
            assert found.dtype == grad.dtype
            np.testing.assert_allclose(found.astype(float), grad.astype(float), rtol=rough, atol=rough / 100)
        for function in ("softmax", "log_softmax"):
            found = [getattr(sharded, function)(x, p, axis=axis, where=m) for (x, _), m in pieces]
            found, expected = np.concatenate(found, axis=axis), getattr(cxent, function)(x, axis, where=mask)
            # (Where all that take part are -inf, and elsewhere, a part without any gives 0 in the place of NaN.)
            places = ~np.isnan(expected.astype(float)) | mask
            found, expected = (a[places].astype(float) for a in (found, expected))
            np.testing.assert_allclose(found, expected, rtol=rough, atol=rough)


def test_masks_that_broadcast_in_place_and_with_workers(share_small_calls):
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal((300, 40)).astype(np.float32), rng.integers(0, 40, 300)
    mask = rng.random(40) < 0.6
    whole = np.array(np.broadcast_to(mask, x.shape))
    p = sharded.part(x, y, where=whole, top_k=2)
    calls = (
        lambda x, **given: sharded.grad(x, p, y, **given),
        lambda x, **given: sharded.softmax(x, p, **given),
        lambda x, **given: sharded.log_softmax(x, p, **given),
    )
    expected = [call(x, where=whole) for call in calls]
    share_small_calls(200)
    for found, same in zip(sharded.part(x, y, where=mask, top_k=2, workers=4), p, strict=True):
        assert_same_bits(found, same)
    for call, result in zip(calls, expected, strict=True):
        memory = np.zeros_like(x)
        inside = memory.view(bool).reshape(300, -1)[:, :40]
        inside[...] = whole
        given = x.copy()
        assert_same_bits(call(x, where=inside, out=memory), result)
        assert_same_bits(call(given, where=mask, out=given, workers=4), result)
    np.testing.assert_array_equal(sharded.count_larger(x, p, where=mask), sharded.count_larger(x, p, where=whole))


@pytest.mark.parametrize("parts", [2, 3, 7])
@pytest.mark.parametrize("classes", [5, 40, 300])
def test_the_largest(classes, parts):
    rng = np.random.default_rng(1)
    x = np.round(2 * rng.standard_normal((11, classes)), 1).astype(np.float32)  # with ties
    x[3, ::2] = -np.inf
    for k in (1, 4, 5):
        p = reduced(cut(x, parts), top_k=k)
        expected = cxent.token_logprobs(x, np.zeros(11, int), top_k=k)
        np.testing.assert_array_equal(p.top_ids, expected.top_ids)
        np.testing.assert_array_equal(p.top_logits, np.take_along_axis(x, expected.top_ids, axis=-1))
    few = sharded.part(x[:, :2], top_k=4)
    np.testing.assert_array_equal(few.top_ids[:, 2:], -1)
    np.testing.assert_array_equal(few.top_logits[:, 2:], -np.inf)


@pytest.mark.parametrize("temperature", [0.03, 0.7, 20.0])
@pytest.mark.parametrize("dtype", [*FLOATS, np.float16])
def test_temperature(dtype, temperature):
    rng = np.random.default_rng(6)
    x = (1000 + rng.integers(0, 8, (9, 300)) * 0.5).astype(dtype)
    y = rng.integers(0, 300, 9)
    pieces = cut(x, 4)
    p = reduced(pieces, y, top_k=3, temperature=temperature)
    scores = cxent.token_logprobs(x, y, top_k=3, temperature=temperature)
    rtol = 1e-12 if dtype is np.float64 else 2e-6
    for found, expected in (
        (sharded.logsumexp(p), scores.logsumexp),
        (sharded.entropy(p), scores.entropy),
        (sharded.logprob(p), scores.logprob),
        (logprob_of(p.top_logits, p), scores.top_logprobs),
    ):
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol)
    np.testing.assert_array_equal(p.top_ids, scores.top_ids)
    _, grad = cxent.cross_entropy_with_grad(x, y, temperature=temperature)
    found = np.hstack([sharded.grad(part, p, y, first_class=first) for part, first in pieces])
    rough = 2e-3 if dtype is np.float16 else 10 * rtol
    np.testing.assert_allclose(found.astype(float), grad.astype(float), rtol=rough, atol=rough / 1000)
    if dtype is not np.float16:
        wide = cxent.log_softmax(x.astype(float) / temperature)
        found = np.hstack([sharded.log_softmax(part, p) for part, _ in pieces])
        np.testing.assert_allclose(found, wide, rtol=rough, atol=rough)
        found = np.hstack([sharded.softmax(part, p) for part, _ in pieces])
        np.testing.assert_allclose(found, np.exp(wide), rtol=100 * rough, atol=1e-30)


def test_candidates():
    rng = np.random.default_rng(2)
    x = rng.standard_normal((3, 4, 50))
    ids = rng.integers(0, 50, (3, 4, 6))
    pieces = cut(x, 4)
    p = reduced(pieces, ids)
    expected = cxent.token_logprobs(x, ids)
    np.testing.assert_allclose(sharded.logprob(p), expected.logprob, rtol=1e-13)
    np.testing.assert_array_equal(1 + sum(sharded.count_larger(part, p) for part, _ in pieces), expected.rank)


@given(st.data())
def test_any_order_of_merging(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    x = rng.standard_normal((5, 60)) * data.draw(st.sampled_from([0.1, 3.0, 100.0])) + data.draw(
        st.sampled_from([0.0, 1e8])
    )
    y = rng.integers(0, 60, 5)
    parts = [sharded.part(part, y, first_class=first, top_k=3) for part, first in cut(x, 6)]
    order = data.draw(st.permutations(range(6)))
    a = functools.reduce(sharded.merge, [parts[i] for i in order])
    left, right = order[:3], order[3:]
    b = sharded.merge(
        functools.reduce(sharded.merge, [parts[i] for i in right]),
        functools.reduce(sharded.merge, [parts[i] for i in left]),
    )
    for name in set(sharded.Part._fields) - {"lost", "classes", "distances", "counts"}:
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=1e-13, atol=1e-300)
    np.testing.assert_allclose(sharded.loss(a), cxent.cross_entropy(x, y), rtol=1e-13)


@pytest.mark.parametrize("dtype", FLOATS)
def test_small_losses_keep_their_digits(dtype):
    x = np.array([[17, 0, 0], [0, 18, 2]], dtype)
    y = [0, 1]
    p = reduced([(x[:, :1], 0), (x[:, 1:], 1)], y)
    loss, grad = cxent.cross_entropy_with_grad(x, y, reduction="none")
    np.testing.assert_allclose(sharded.loss(p, reduction="none"), loss, rtol=1e-6)
    found = np.hstack(
        [sharded.grad(x[:, :1], p, y, reduction="none"), sharded.grad(x[:, 1:], p, y, first_class=1, reduction="none")]
    )
    np.testing.assert_allclose(found, grad, rtol=1e-6)
    np.testing.assert_allclose(sharded.entropy(p), cxent.token_logprobs(x, y).entropy, rtol=1e-6)


def test_a_large_offset():
    x = np.array([[0.0, -1.0, -2.0, -3.0]])
    p = reduced(cut(x + 1e8, 3), [2])
    np.testing.assert_allclose(sharded.loss(p), cxent.cross_entropy(x, [2]), rtol=1e-15)
    x = np.array([[0, 64, 128, 0]], np.float32)
    p = reduced(cut(x + np.float32(1e9), 2), [2])
    assert sharded.loss(p) == cxent.cross_entropy(x, [2])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("classes", [4, 40, 300])
def test_special_values(dtype, classes):
    rng = np.random.default_rng(3)
    x = rng.standard_normal((7, classes)).astype(dtype)
    x[0, : classes // 2] = -np.inf  # a part without probabilities
    x[1, 1] = np.nan
    x[2, -1] = np.inf
    x[3] = -np.inf
    x[4, [0, -1]] = np.inf
    x[5, 0], x[5, -1] = np.nan, np.inf
    y = np.full(7, classes - 2)
    half = classes // 2
    pieces = [(x[:, :half], 0), (x[:, half:], half), (x[:, :0], 0)]
    for some in itertools.permutations(pieces):
        p = reduced(some, y, top_k=2)
        scores = cxent.token_logprobs(x, y, top_k=2)
        np.testing.assert_allclose(sharded.logsumexp(p), scores.logsumexp, rtol=1e-6)
        np.testing.assert_allclose(sharded.logprob(p), scores.logprob, rtol=1e-6)
        np.testing.assert_allclose(sharded.entropy(p), scores.entropy, rtol=1e-6)
        np.testing.assert_array_equal(p.top_ids[[0, 1, 2, 4, 5, 6]], scores.top_ids[[0, 1, 2, 4, 5, 6]])
        _, grad = cxent.cross_entropy_with_grad(x, y, reduction="none")
        found = np.hstack([sharded.grad(part, p, y, first_class=a, reduction="none") for part, a in pieces[:2]])
        np.testing.assert_allclose(found, grad, rtol=1e-5, atol=1e-7)
        for function in ("softmax", "log_softmax"):
            found = np.hstack([getattr(sharded, function)(part, p) for part, _ in pieces[:2]])
            np.testing.assert_allclose(found, getattr(cxent, function)(x), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_rows_that_do_not_count(reduction):
    rng = np.random.default_rng(4)
    x = rng.standard_normal((6, 20)).astype(np.float32)
    x[2, 3] = np.nan
    y = np.array([3, -100, 5, 19, 7, -100])
    s = np.array([1, 0, 0, -0.5, 2, 0], np.float32)
    pieces = cut(x, 3)
    p = reduced(pieces, y)
    options = {"reduction": reduction, "sample_weight": s}
    loss, grad = cxent.cross_entropy_with_grad(x, y, ignore_index=-100, **options)
    np.testing.assert_allclose(sharded.loss(p, **options), loss, rtol=1e-5)
    found = np.hstack([sharded.grad(part, p, y, first_class=first, **options) for part, first in pieces])
    np.testing.assert_allclose(found, grad, rtol=1e-5, atol=1e-7)
    assert not found[s == 0].any()
    if reduction == "mean":
        assert np.isnan(sharded.loss(p, sample_weight=0 * s))
        assert not sharded.grad(pieces[0][0], p, y, sample_weight=0 * s).any()


def test_in_place_and_with_workers(share_small_calls):
    rng = np.random.default_rng(5)
    x = rng.standard_normal((300, 40)).astype(np.float32)
    y = rng.integers(0, 40, 300)
    left, right = x[:, :15].copy(), x[:, 15:].copy()
    p = reduced([(left, 0), (right, 15)], y, top_k=2)
    grad = sharded.grad(right, p, y, first_class=15)
    probabilities = sharded.softmax(left, p)
    share_small_calls(200)
    again = reduced([(left, 0), (right, 15)], y, top_k=2, workers=4)
    for found, expected in zip(again, p, strict=True):
        assert_same_bits(found, expected)
    assert_same_bits(sharded.softmax(left, p, workers=4), probabilities)
    assert sharded.grad(right, p, y, first_class=15, out=right, workers=4) is right
    assert_same_bits(right, grad)
    assert sharded.log_softmax(left, p, out=left) is left


def test_parts_of_several_dtypes():
    a, b = np.array([[2.0**24 + 1]]), np.array([[2.0**24]], np.float32)
    p = sharded.merge(sharded.part(a, [1]), sharded.part(b, [1], first_class=1))
    share = cxent.softmax([1.0, 0.0])
    for part, expected in ((a, share[0]), (b, share[1])):
        found = sharded.softmax(part, p)
        assert found.dtype == part.dtype
        np.testing.assert_allclose(found, [[expected]], rtol=1e-6)
        np.testing.assert_allclose(sharded.log_softmax(part, p), [[np.log(expected)]], rtol=1e-6)
    np.testing.assert_allclose(sharded.grad(b, p, [1], first_class=1, out=b), [[-share[0]]], rtol=1e-6)


def parts_in_orders(n, dtype):
    rng = np.random.default_rng(7)
    x = rng.standard_normal(3 * n)
    yield x.astype(dtype)
    yield np.sort(x).astype(dtype)  # each part has a larger maximum than the last
    yield np.sort(20 * x).astype(dtype)
    yield np.append(np.array([17.0, 0, 0]), x[3:] - 20).astype(dtype)


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("n", [30, pytest.param(300, marks=pytest.mark.slow)])
def test_many_parts_are_as_accurate_as_one(n, dtype, at_once):
    for x in parts_in_orders(n, dtype):
        parts = [sharded.part(x[3 * k : 3 * k + 3], 0, first_class=3 * k) for k in range(n)]
        p = sharded.merge(*parts) if at_once else functools.reduce(sharded.merge, parts)
        exact = exact_row(x)
        y = mpf(float(x[0]))
        m_y = exact.max - y
        shifted = mp.fsum(e * exact.sum * (v - exact.max) for e, v in zip(exact.p, exact_numbers(x), strict=True))
        for found, expected, unit in (
            (p.sumexp_m1, exact.rest, exact.rest),
            (p.shifted, shifted, shifted),
            (sharded.loss(p), m_y + exact.log_sum, m_y + exact.log_sum),
            (sharded.logsumexp(p), exact.lse, max(abs(exact.max), exact.log_sum)),
            (sharded.entropy(p), exact.log_sum - shifted / exact.sum, exact.log_sum - shifted / exact.sum),
        ):
            assert ulps_off(found, expected, unit, dtype) <= 4


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("dtype", [*FLOATS, *HALVES])
def test_smoothing_and_z_loss(dtype, axis, masked):
    """The loss and the gradient of the whole, in parts of several sizes, merged in any order."""
    rng = np.random.default_rng(11)
    for classes, parts, temperature in ((1, 2, 1.0), (3, 2, 0.7), (33, 5, 1.0), (257, 4, 3.0)):
        shape = (23, classes) if axis else (classes, 23)
        mask = masked_rows(shape, axis, rng) if masked else np.ones(shape, bool)
        x = np.where(mask, 4 * rng.standard_normal(shape), np.nan).astype(dtype)
        y, s = rng.integers(0, classes, 23), rng.random(23) - 0.1
        s[[0, 5]] = 0
        pieces = list(zip(cut(x, parts, axis), (m for m, _ in cut(mask, parts, axis)), strict=True))
        given = [{"axis": axis, "where": m if masked else None} for _, m in pieces]
        made = [
            sharded.part(x, y, first_class=a, temperature=temperature, for_smoothing=True, **g)
            for ((x, a), _), g in zip(pieces, given, strict=True)
        ]
        merged = [sharded.merge(*made), functools.reduce(sharded.merge, [made[i] for i in rng.permutation(parts)])]
        for p, (smoothing, z), reduction in itertools.product(
            merged, ((0.1, 0), (0, 0.01), (0.3, 0.1), (1, 0)), ("mean", "sum", "none")
        ):
            options = {"label_smoothing": smoothing, "z_loss": z, "sample_weight": s, "reduction": reduction}
            loss, grad = cxent.cross_entropy_with_grad(
                x, y, axis=axis, where=mask if masked else None, temperature=temperature, **options
            )  # fmt: skip
            rtol = tolerance(dtype)
            found = sharded.loss(p, **options)
            assert found.dtype == loss.dtype
            np.testing.assert_allclose(found, loss, rtol=10 * rtol, atol=rtol)
            found = np.concatenate(
                [
                    sharded.grad(x, p, y, first_class=a, **options, **g)
                    for ((x, a), _), g in zip(pieces, given, strict=True)
                ],
                axis=axis,
            )
            assert found.dtype == grad.dtype
            rough = 1e-2 if x.itemsize == 2 else 10 * rtol
            np.testing.assert_allclose(
                found.astype(float),
                grad.astype(float),
                rtol=rough,
                atol=rough / 10 * max(1, np.abs(grad.astype(float)).max()),
            )


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("dtype", FLOATS)
def test_smoothed_losses_of_many_parts_are_as_accurate_as_those_of_one(dtype, at_once):
    n = 60
    for x in parts_in_orders(n, dtype):
        parts = [sharded.part(x[3 * k : 3 * k + 3], 0, first_class=3 * k, for_smoothing=True) for k in range(n)]
        p = sharded.merge(*parts) if at_once else functools.reduce(sharded.merge, parts)
        exact = exact_row(x)
        distance = mp.fsum(exact.max - v for v in exact_numbers(x))
        assert ulps_off(p.distances[0] / SCALE, distance, distance, dtype) <= 8
        assert p.counts == 3 * n
        for smoothing in (0.1, 0.5, 1.0):
            e = mpf(smoothing)
            true = -(1 - e) * exact.log_p[0] - e * mp.fsum(exact.log_p) / len(x)
            assert ulps_off(sharded.loss(p, label_smoothing=smoothing), true, true, dtype) <= 8


@pytest.mark.slow
def test_distances_are_merged_without_an_error():
    """Of 4,096 parts, the sum of what is known of them."""
    rng = np.random.default_rng(12)
    x = np.sort(rng.standard_normal((4096, 1, 4)), axis=0)
    parts = [sharded.part(row, [0], first_class=4 * k, for_smoothing=True) for k, row in enumerate(x)]
    p = functools.reduce(sharded.merge, parts)
    top = max(mpf(float(part.maximum[0])) for part in parts)
    exact = mp.fsum(
        mpf(float(part.distances[0, 0] / SCALE)) + 4 * (top - mpf(float(part.maximum[0]))) for part in parts
    )  # fmt: skip
    assert ulps_off(p.distances[0, 0] / SCALE, exact, exact, np.float64) <= 3


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("temperature", [0.7, 1.0, 50.0])
@pytest.mark.parametrize("dtype", FLOATS)
def test_logits_near_the_largest_number(dtype, temperature, parts):
    """A loss that is a number is one here, although sums, differences and even losses of single rows are none."""
    largest = float(np.finfo(dtype).max)
    for classes, scale in ((4, 0.05), (40, 0.3), (300, 0.99)):
        x = (np.random.default_rng(classes).uniform(-1, 1, (5, classes)) * scale * largest).astype(dtype)
        x[1, 1:], x[1, 0] = 0.99 * largest, -0.99 * largest
        x[2], x[3] = x[2, 0], 1e-30 * x[3]
        y = np.array([1, 0, 2, 3, 1])
        pieces = cut(x, parts)
        p = reduced(pieces, y, temperature=temperature, for_smoothing=True)
        at_label, mean = [], []  # of the distances of a row's logits from the largest
        for row, label in zip(map(exact_numbers, x), y, strict=True):
            top = max(row)
            at_label.append((top - row[label]) / mpf(temperature))
            mean.append(mp.fsum(top - v for v in row) / classes / mpf(temperature))
        for smoothing in (0.0, 0.1, 0.6, 1.0):
            e = mpf(smoothing)
            exact = [(1 - e) * a + e * b for a, b in zip(at_label, mean, strict=True)]
            for reduction, expected in (("none", exact), ("mean", [mp.fsum(exact) / 5])):
                options = {"label_smoothing": smoothing, "reduction": reduction}
                expected = np.array([float(v) if v <= largest else np.inf for v in expected])
                found = sharded.loss(p, **options)
                is_large = (expected > 0.01 * largest) & (expected != np.inf)  # (otherwise other terms count too)
                np.testing.assert_array_equal(np.isnan(found), False)
                np.testing.assert_allclose(
                    np.ravel(found)[is_large].astype(float), expected[is_large], rtol=tolerance(dtype)
                )
                np.testing.assert_array_equal(np.isinf(np.ravel(found)), expected == np.inf)
                if temperature >= 1:  # (otherwise quotients are infinite in the whole)
                    loss, grad = cxent.cross_entropy_with_grad(x, y, temperature=temperature, **options)
                    np.testing.assert_allclose(found, loss, rtol=tolerance(dtype), atol=tolerance(dtype))
                    parts_of_grad = [sharded.grad(part, p, y, first_class=a, **options) for part, a in pieces]
                    np.testing.assert_allclose(np.hstack(parts_of_grad), grad, atol=tolerance(dtype))


@pytest.mark.parametrize("dtype", FLOATS)
def test_smoothing_where_logits_are_infinite(dtype):
    """As in the whole: a class that takes part and is impossible costs an infinite loss, in whatever part it is."""
    x = np.array([[1, 2, -np.inf, 0], [1, -np.inf, -np.inf, 3], [np.nan, 0, 1, 2], [0, np.inf, 1, 0]], dtype)
    hidden = x != -np.inf
    y = [1, 0, 1, 0]
    for where in (None, hidden):
        cuts = ((0, 2), (2, 3), (3, 4))
        masks = [None if where is None else where[:, a:b] for a, b in cuts]
        made = [
            sharded.part(x[:, a:b], y, first_class=a, where=m, for_smoothing=True)
            for (a, b), m in zip(cuts, masks, strict=True)
        ]
        for order in itertools.permutations(made):
            p = functools.reduce(sharded.merge, order)
            options = {"label_smoothing": 0.1, "reduction": "none"}
            loss, grad = cxent.cross_entropy_with_grad(x, y, where=where, **options)
            np.testing.assert_allclose(sharded.loss(p, **options), loss, rtol=1e-5)
            found = [
                sharded.grad(x[:, a:b], p, y, first_class=a, where=m, **options)
                for (a, b), m in zip(cuts, masks, strict=True)
            ]
            np.testing.assert_allclose(np.hstack(found), grad, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("dtype", [*FLOATS, np.float16])
def test_smoothed_gradients_in_place_and_with_workers(dtype, share_small_calls):
    rng = np.random.default_rng(13)
    x, y = rng.standard_normal((300, 40)).astype(dtype), rng.integers(0, 40, 300)
    p = sharded.part(x, y, for_smoothing=True)
    options = {"label_smoothing": 0.1, "z_loss": 0.01}
    mask = np.ones(40, bool)
    grad = sharded.grad(x, p, y, **options)
    assert_same_bits(sharded.grad(x, p, y, where=mask, **options), grad)
    share_small_calls(200)
    again = sharded.part(x, y, for_smoothing=True, workers=4)
    assert_same_bits(again.distances, p.distances)
    memory = x.copy()
    assert sharded.grad(memory, p, y, out=memory, workers=4, **options) is memory
    assert_same_bits(memory, grad)


def test_without_smoothing_nothing_changes():
    x, y = np.random.default_rng(14).standard_normal((5, 30)), np.arange(5)
    p, q = sharded.part(x, y), sharded.part(x, y, for_smoothing=True)
    assert p.distances is None and p.counts is None
    for name in set(sharded.Part._fields) - {"distances", "counts"}:
        assert_same_bits(getattr(p, name), getattr(q, name))
    assert_same_bits(sharded.loss(p), sharded.loss(q))
    assert_same_bits(sharded.grad(x, p, y), sharded.grad(x, q, y))
    assert type(sharded.part(x[0], 0, for_smoothing=True).counts) is np.float64
    no_rows = sharded.part(x[:0], y[:0], for_smoothing=True)
    assert (no_rows.distances.shape, no_rows.counts.shape) == ((0, 2), (0,))


def test_parts_know_their_classes():
    x = np.random.default_rng(8).standard_normal((3, 12))
    parts = [sharded.part(x[:, a:b], first_class=a, classes=12) for a, b in ((8, 12), (0, 3), (3, 3), (3, 8))]
    p = sharded.merge(*parts[:3])
    assert (p.ranges, p.classes) == (((0, 3), (8, 12)), 12)
    p = sharded.merge(p, parts[3])
    assert p.ranges == ((0, 12),)
    np.testing.assert_allclose(sharded.logsumexp(p), cxent.logsumexp(x), rtol=1e-15)
    assert sharded.merge(p) == p


@pytest.mark.parametrize("dtype", [*FLOATS, np.float16])
def test_out_that_overlaps_the_state(dtype):
    rng = np.random.default_rng(9)
    rows, classes = 300, 150
    x, y = rng.standard_normal((rows, classes)).astype(dtype), rng.integers(0, classes, rows)
    s = rng.random(rows)
    p = sharded.part(x, y)
    expected = sharded.softmax(x, p), sharded.log_softmax(x, p), sharded.grad(x, p, y, sample_weight=s)
    calls = (sharded.softmax, sharded.log_softmax, lambda x, p, out: sharded.grad(x, p, y, sample_weight=s, out=out))
    for call, result in zip(calls, expected, strict=True):
        for name in ("maximum", "sumexp_m1", "shifted", "target_logit"):
            out = np.zeros((rows, classes), dtype)
            inside = out.reshape(-1).view(p.maximum.dtype)[10 : 10 + rows]  # in the rows that are written first
            inside[...] = getattr(p, name)
            found = call(x, p._replace(**{name: inside}), out=out)
            assert found is out
            assert_same_bits(found, result)


def test_numpy_raises_nothing_half_way():
    with np.errstate(all="raise"):
        x = np.array([[0, -12, 3], [1, 2, -np.inf]], np.float16)
        left, right = sharded.part(x[:, :2], [0, 1]), sharded.part(x[:, 2:], [0, 1], first_class=2)
        for p in (sharded.merge(left, right), sharded.merge(right, left)):
            for s in ([1e-8, 1], [1e-44, 1e-44], [1e-44, 0], [3e38, 1]):
                for reduction in ("sum", "mean", "none"):
                    options = {"sample_weight": s, "reduction": reduction}
                    _, grad = cxent.cross_entropy_with_grad(x, [0, 1], **options)
                    assert not np.isnan(sharded.loss(p, **options)).any()
                    found = [sharded.grad(x[:, :2], p, [0, 1], **options),
                             sharded.grad(x[:, 2:], p, [0, 1], first_class=2, **options)]  # fmt: skip
                    np.testing.assert_allclose(np.hstack(found).astype(float), grad.astype(float), 2e-3, 1e-7)
        x = np.array([[1.0, -800.0, 3e308], [-3e308, 0, 1]])
        p = sharded.merge(sharded.part(x[:, :2], [0, 1]), sharded.part(x[:, 2:], [0, 1], first_class=2))
        for s in ([1e-300, 1e-300], [1e308, 1e308]):
            sharded.loss(p, sample_weight=s)
            sharded.grad(x[:, :2], p, [0, 1], sample_weight=s)
        sharded.logsumexp(p), sharded.entropy(p), sharded.softmax(x[:, :2], p)


@pytest.mark.parametrize("weight", [3e38, 1e-44, 1e308])
def test_extreme_weights(weight):
    dtype = np.float64 if weight > 1e300 else np.float32
    x = np.array([[1, 2], [1, 2]], dtype)
    s = np.full(2, weight, dtype)
    p = sharded.part(x, [0, 0])
    loss, grad = cxent.cross_entropy_with_grad(x, [0, 0], sample_weight=s)
    np.testing.assert_allclose(sharded.loss(p, sample_weight=s), loss, rtol=1e-6)
    np.testing.assert_allclose(sharded.grad(x, p, [0, 0], sample_weight=s), grad, rtol=1e-6)


@pytest.mark.once
def test_one_row_has_scalars():
    p = sharded.merge(sharded.part([1.0, 2.0], 2), sharded.part([3.0], 2, first_class=2))
    assert isinstance(p.maximum, np.float64)
    assert isinstance(sharded.loss(p, reduction="none"), np.float64)
    np.testing.assert_allclose(sharded.logsumexp(p), cxent.logsumexp([1.0, 2.0, 3.0]), rtol=1e-15)
    np.testing.assert_allclose(sharded.grad([3.0], p, 2, first_class=2), [cxent.softmax([1.0, 2, 3])[2] - 1])


@pytest.mark.once
def test_no_rows():
    p = reduced(cut(np.ones((0, 6)), 2), np.zeros(0, int), top_k=2)
    assert p.maximum.shape == (0,)
    assert p.top_ids.shape == (0, 2)
    assert np.isnan(sharded.loss(p))
    assert sharded.grad(np.ones((0, 3)), p, np.zeros(0, int)).shape == (0, 3)


@pytest.mark.once
def test_a_part_can_be_sent():
    p = sharded.part(np.ones((3, 4), np.float32), [0, 1, 9], top_k=2)
    for found, expected in zip(pickle.loads(pickle.dumps(p)), p, strict=True):
        assert_same_bits(found, expected)


PART = np.ones((2, 3))
UNEQUAL = np.arange(6.0).reshape(2, 3)


@pytest.mark.once
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: sharded.part(PART, [0]), ValueError, "target ... got (1,)"),
        (lambda: sharded.part(PART, where=[1, 0, 1]), TypeError, "where must have dtype bool, got int64"),
        (lambda: sharded.part(PART, where=[True, False]), ValueError, "where ... broadcasts to (2, 3), got (2,)"),
        (lambda: sharded.softmax(PART, sharded.part(PART), where=[1, 0, 1]), TypeError, "where ... got int64"),
        (lambda: sharded.log_softmax(PART, sharded.part(PART), where=[True] * 2), ValueError, "where ... got (2,)"),
        (
            lambda: sharded.grad(PART, sharded.part(PART, [0, 1]), [0, 1], where=[1, 0, 1], out=PART),
            TypeError,
            "where ... got int64",
        ),
        (
            lambda: sharded.count_larger(PART, sharded.part(PART, [0, 1]), where=[True] * 2),
            ValueError,
            "where ... got (2,)",
        ),
        (lambda: sharded.part(PART, [0.0, 1.0]), TypeError, "target must have an integer dtype"),
        (
            lambda: sharded.part(PART, first_class=-1),
            ValueError,
            "first_class ... got -1",
        ),
        (lambda: sharded.part(PART, top_k=-1), ValueError, "top_k ... got -1"),
        (lambda: sharded.part(PART, top_k=1.5), TypeError, "top_k ... got 1.5"),
        (lambda: sharded.part(PART, axis=2), np.exceptions.AxisError, "axis 2 is out of bounds"),
        (lambda: sharded.part(PART, workers=0), ValueError, "workers must be positive"),
        (
            lambda: sharded.merge(sharded.part(PART), sharded.part(PART[:1])),
            ValueError,
            "parts must have rows of the same shape, got (2,) and (1,)",
        ),
        (
            lambda: sharded.merge(sharded.part(PART, [0, 1]), sharded.part(PART)),
            ValueError,
            "parts must have targets of the same shape, got (2,) and None",
        ),
        (
            lambda: sharded.merge(sharded.part(PART, top_k=1), sharded.part(PART, top_k=2)),
            ValueError,
            "parts must have largest logits of the same shape, got (2, 1) and (2, 2)",
        ),
        (lambda: sharded.part(PART, temperature=0), ValueError, "temperature ... got 0"),
        (
            lambda: sharded.merge(sharded.part(PART), sharded.part(PART, temperature=2)),
            ValueError,
            "parts must be made with the same temperature, got 1.0 and 2.0",
        ),
        (
            lambda: sharded.merge(sharded.part(PART), PART),
            TypeError,
            "parts must be Parts ... got ndarray",
        ),
        (lambda: sharded.merge(), TypeError, "merge needs parts, got none"),
        (
            lambda: sharded.merge(sharded.part(PART, classes=6), sharded.part(PART, first_class=3)),
            ValueError,
            "parts must be made with the same classes, got 6 and None",
        ),
        (
            lambda: sharded.merge(sharded.part(PART), sharded.part(PART, first_class=2)),
            ValueError,
            "parts must have different classes, got class 2 in two of them",
        ),
        (
            lambda: sharded.merge(*(sharded.part(PART, first_class=first) for first in (3, 6, 4))),
            ValueError,
            "parts must have different classes, got classes 4 to 5 in two of them",
        ),
        (
            lambda: sharded.logsumexp(sharded.part(PART, first_class=2)),
            ValueError,
            "p must have all classes, got one without classes 0 to 1: merge it with the missing parts",
        ),
        (
            lambda: sharded.entropy(sharded.merge(sharded.part(PART), sharded.part(PART, first_class=4))),
            ValueError,
            "p must have all classes, got one without class 3: merge it with the missing parts",
        ),
        (
            lambda: sharded.loss(sharded.part(PART, [0, 1], first_class=1, classes=7)),
            ValueError,
            "p must have all classes, got one without classes 0, 4 to 6: merge it with the missing parts",
        ),
        (
            lambda: sharded.softmax(PART, sharded.part(PART, classes=4)),
            ValueError,
            "p must have all classes, got one without class 3: merge it with the missing parts",
        ),
        (
            lambda: sharded.grad(PART, sharded.part(PART, [0, 1], classes=4), [0, 1]),
            ValueError,
            "p must have all classes, got one without class 3: merge it with the missing parts",
        ),
        (
            lambda: sharded.part(PART, first_class=2, classes=4),
            ValueError,
            "first_class must be at most 1 for 3 of 4 classes, got 2",
        ),
        (
            lambda: sharded.part(PART, classes=2),
            ValueError,
            "classes must be at least 3 for logits of 3 classes, got 2",
        ),
        (lambda: sharded.loss(sharded.part(PART)), ValueError, "p must ... target_logit"),
        (
            lambda: sharded.loss(sharded.part(PART, [0, 1]), label_smoothing=0.1),
            ValueError,
            "p must be made with for_smoothing=True ... got one without distances",
        ),
        (
            lambda: sharded.grad(PART, sharded.part(PART, [0, 1]), [0, 1], label_smoothing=0.1),
            ValueError,
            "p must be made with for_smoothing=True ... got one without distances",
        ),
        (lambda: sharded.part(PART, for_smoothing=0.1), TypeError, "for_smoothing must be a boolean, got 0.1"),
        (
            lambda: sharded.merge(sharded.part(PART), sharded.part(PART, first_class=3, for_smoothing=True)),
            ValueError,
            "parts must have distances of the same shape, got None and (2, 2)",
        ),
        (
            lambda: sharded.loss(sharded.part(PART, [0, 1]), label_smoothing=1.5),
            ValueError,
            "label_smoothing must ... got 1.5",
        ),
        (lambda: sharded.loss(sharded.part(PART, [0, 1]), z_loss=-1), ValueError, "z_loss must ... got -1"),
        (
            lambda: sharded.loss(sharded.part(PART, [[0, 1], [1, 2]])),
            ValueError,
            "p ... got targets of shape (2, 2)",
        ),
        (
            lambda: sharded.loss(sharded.part(PART, [0, 7])),
            ValueError,
            "the target of row [1] ... sample_weight 0",
        ),
        (
            lambda: sharded.loss(sharded.part(PART, [0, 1]), reduction="median"),
            ValueError,
            "reduction ... got 'median'",
        ),
        (
            lambda: sharded.grad(PART, sharded.part(PART), [0, 1]),
            ValueError,
            "p must ... target_logit",
        ),
        (lambda: sharded.part(PART, first_class=2**63), ValueError, "first_class ... got 9223372036854775808"),
        (lambda: sharded.logsumexp((1.0, 0.0)), TypeError, "p ... got tuple"),
        (lambda: sharded.softmax(PART, 1.0), TypeError, "p ... got float"),
        (
            lambda: sharded.grad(PART, sharded.part(PART, [0, 7]), [0, 7]),
            ValueError,
            "the target of row [1] ... sample_weight 0",
        ),
        (
            lambda: sharded.grad(UNEQUAL, sharded.part(UNEQUAL, [0, 1]), [0, 2]),
            ValueError,
            "target must be the one",
        ),
        (
            lambda: sharded.grad(UNEQUAL, sharded.part(UNEQUAL, [[0, 1], [1, 2]]), [0, 2], out=UNEQUAL),
            ValueError,
            "p ... got targets of shape (2, 2)",
        ),
        (
            lambda: sharded.softmax(PART, sharded.part(PART[:1])),
            ValueError,
            "p ... (2,) ... (2, 3), got (1,)",
        ),
        (
            lambda: sharded.count_larger(PART, sharded.part(PART)),
            ValueError,
            "p must ... target_logit",
        ),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=words(message)):
        call()
