"""`where=` of the softmax functions, and the factors and signs of logsumexp."""

import numpy as np
import pytest
import scipy.special
from helpers import assert_same_bits, exact_numbers, softmax_by_definition, unchanged
from hypothesis import given
from hypothesis import strategies as st
from layouts import arrays_like, logits_and_axes
from mpmath import mp
from numpy.testing import assert_allclose, assert_array_equal

import cxent

RTOL = {"float32": 1e-5, "float64": 1e-13}
FUNCTIONS = [cxent.softmax, cxent.log_softmax, cxent.logsumexp]


@given(logits_and_axes(max_size=3000), st.floats(0, 1), st.booleans(), st.data())
def test_masked_logits_take_no_part(logits, share, broadcast, data):
    x, axis = logits
    rng = np.random.default_rng(0)
    shape = x.shape[1:] if broadcast else x.shape
    where = data.draw(arrays_like(rng.random(shape) < share))
    mask = np.broadcast_to(where, x.shape)
    garbage = np.array(x, x.dtype.newbyteorder("="))
    garbage[~mask] = rng.choice([np.nan, np.inf, -np.inf, 1e30], np.count_nonzero(~mask))
    p, log_p, lse = softmax_by_definition(x, axis, where)
    rtol = RTOL[garbage.dtype.name]
    with unchanged(garbage, where):
        assert_allclose(cxent.softmax(garbage, axis, where=where), p, rtol=10 * rtol, atol=rtol)
        assert_allclose(cxent.log_softmax(garbage, axis, where=where), log_p, rtol=10 * rtol, atol=10 * rtol)
        assert_allclose(cxent.logsumexp(garbage, axis, where=where, keepdims=True), lse, rtol=rtol, atol=rtol)
    assert cxent.softmax(garbage, axis, where=where, out=garbage) is garbage
    assert_allclose(garbage, p, rtol=10 * rtol, atol=rtol)


OF_NOTHING = {cxent.softmax: 0.0, cxent.log_softmax: -np.inf, cxent.logsumexp: -np.inf}


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("axis", [0, 1, -1, None, (0, 1), (0,)], ids=str)
def test_all_and_nothing(axis, function):
    x = np.array([[1.0, 2.0], [3.0, 5.0]])
    assert_same_bits(function(x, axis, where=True), function(x, axis))
    assert_array_equal(function(x, axis, where=False), OF_NOTHING[function])


def test_infinite_logits_take_part():
    assert np.isnan(cxent.softmax([[-np.inf, -np.inf]], where=True)).all()


MASKED_SHAPES = [((n, c), 1) for c in (1, 3, 10, 48, 49, 100, 600, 4097) for n in (1, 3, 17, 70)]
MASKED_SHAPES += [((2, 5, 70), 1), ((2, 100, 17), 1), ((2, 4100, 3), 1), ((3, 40, 2), 0)]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(("shape", "axis"), MASKED_SHAPES, ids=str)
@pytest.mark.parametrize("masked", ["numbers", "classes", "rows"])
def test_a_masked_logit_is_one_of_minus_infinity(masked, shape, axis, dtype):
    rng = np.random.default_rng(0)
    x = (3 * rng.standard_normal(shape)).astype(dtype)
    mask_shape = {
        "numbers": shape,
        "classes": [n if a == axis else 1 for a, n in enumerate(shape)],
        "rows": [1 if a == axis else n for a, n in enumerate(shape)],
    }[masked]
    where = rng.random(mask_shape) < 0.7
    mask = np.broadcast_to(where, shape)
    infinite = np.where(mask, x, dtype(-np.inf))
    any_counts = mask.any(axis, keepdims=True)
    for function in (cxent.softmax, cxent.log_softmax):
        expected = np.where(any_counts, function(infinite, axis), dtype(OF_NOTHING[function]))
        assert_same_bits(function(x, axis, where=where), expected, function.__name__)
    assert_same_bits(cxent.logsumexp(x, axis, where=where), cxent.logsumexp(infinite, axis), "logsumexp")


@pytest.mark.parametrize("workers", [1, 2])
def test_masks_of_large_arrays(workers):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((700, 1000)).astype(np.float32)
    where = rng.random(x.shape) < 0.5
    expected = cxent.softmax(np.where(where, x, -np.inf).astype(np.float32))
    assert_array_equal(cxent.softmax(x, where=where, workers=workers), expected)
    assert_array_equal(cxent.softmax(x.T, 0, where=where.T, workers=workers), expected.T)


def test_a_mask_may_be_where_the_results_go():
    x = np.random.default_rng(0).standard_normal((40, 100))
    memory = np.zeros_like(x)
    where = memory.view(bool)[:, :100]
    where[...] = x > 0
    expected = cxent.softmax(x, where=x > 0)
    assert_array_equal(cxent.softmax(x, where=where, out=memory), expected)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_bad_masks(function):
    x = np.zeros((2, 3))
    with pytest.raises(ValueError, match=r"^where must .*got \(2,\)"):
        function(x, where=[True, False])
    with pytest.raises(ValueError, match=r"^where must .*got \(2, 2, 3\)"):
        function(x, where=np.ones((2, 2, 3), bool))
    with pytest.raises(TypeError, match=r"^where must .*got int64"):
        function(x, where=[1, 0, 1])
    assert_array_equal(x, 0)


@given(logits_and_axes(dtypes=[np.float64], max_size=3000), st.booleans(), st.booleans())
def test_factors_and_signs_against_scipy(logits, signed, keepdims):
    x, axis = logits
    rng = np.random.default_rng(0)
    b = rng.uniform(-1 if signed else 0, 1, x.shape) * (rng.random(x.shape) < 0.9)
    lse, sign = cxent.logsumexp(x, axis, b=b, keepdims=keepdims, return_sign=True)
    expected, expected_sign = scipy.special.logsumexp(x.astype(float), axis, b=b, keepdims=keepdims, return_sign=True)
    # Where terms of both signs cancel, digits go.
    total = scipy.special.logsumexp(x.astype(float), axis, b=np.abs(b), keepdims=keepdims)
    safe = np.asarray(expected > total - 6) | (np.asarray(total) == -np.inf)
    assert_allclose(np.where(safe, lse, 0), np.where(safe, expected, 0), rtol=1e-10, atol=1e-10)
    assert_array_equal(np.where(safe, sign, 0), np.where(safe, expected_sign, 0))
    assert np.shape(lse) == np.shape(sign) == np.shape(expected)
    found = np.asarray(cxent.logsumexp(x, axis, b=b, keepdims=keepdims))
    assert_array_equal(found, np.where(np.asarray(sign) < 0, np.nan, lse))


@pytest.mark.parametrize("classes", [1, 2, 10, 100])
def test_factors_against_exact_values(classes):
    rng = np.random.default_rng(classes)
    x, b = 5 * rng.standard_normal(classes), rng.uniform(-1, 1, classes)
    exact = mp.fsum(v * mp.exp(u) for u, v in zip(exact_numbers(x), exact_numbers(b), strict=True))
    lse, sign = cxent.logsumexp(x, b=b, return_sign=True)
    assert sign == (1 if exact > 0 else -1)
    assert lse == pytest.approx(float(mp.log(abs(exact))), rel=1e-13, abs=1e-13)


@pytest.mark.parametrize(
    ("x", "b", "lse", "sign"),
    [
        ([1.0, 1.0], [1.0, -1.0], -np.inf, 0),
        ([1.0, 2.0], [0.0, 0.0], -np.inf, 0),
        ([1.0, np.nan], [1.0, 0.0], 1.0, 1),
        ([1.0, np.nan], [1.0, 1.0], np.nan, np.nan),
        ([np.inf, 1.0], [-1.0, 1.0], np.inf, -1),
        ([np.inf, np.inf], [-1.0, 1.0], np.nan, np.nan),
        ([-np.inf, -np.inf], [1.0, -1.0], -np.inf, 0),
        ([0.0, -40.0], [1.0, 1.0], np.exp(-40), 1),
    ],
)
def test_special_sums(x, b, lse, sign):
    found, found_sign = cxent.logsumexp(x, b=b, return_sign=True)
    assert_array_equal([found, found_sign], [lse, sign])


def test_factors_do_not_go_with_a_large_maximum():
    assert cxent.logsumexp([1000.0, 1000.0], b=[1, -(1 - 1e-12)]) == pytest.approx(
        1000 + np.log(1 - (1 - 1e-12)), rel=1e-15
    )
    b = np.float32([1, -0.999])
    assert cxent.logsumexp(np.float32([50, 50]), b=b) == np.float32(50 + np.log(1 + float(b[1])))


def test_signs_without_factors():
    lse, sign = cxent.logsumexp([[0.0, 0.0], [-np.inf, -np.inf], [np.inf, 0.0], [np.nan, 0.0]], return_sign=True)
    assert_array_equal(sign, [1, 0, 1, np.nan])
    assert_array_equal(lse, cxent.logsumexp([[0.0, 0.0], [-np.inf, -np.inf], [np.inf, 0.0], [np.nan, 0.0]]))


def test_factors_that_do_not_fit():
    with pytest.raises(ValueError, match=r"^b must .*got \(3,\)"):
        cxent.logsumexp([1, 2], b=[1, 2, 3])
    with pytest.raises(TypeError, match=r"^b must .*got complex128"):
        cxent.logsumexp([1, 2], b=[1j, 2])
