"""float16 and bfloat16: widened, computed as float32, and rounded once."""

import ml_dtypes
import numpy as np
import pytest
from helpers import HALVES, assert_all_same_bits, assert_same_bits, unchanged
from hypothesis import given
from layouts import logits_and_axes
from numpy.testing import assert_allclose, assert_array_equal

import cxent

# Half a unit in the last place, and what float32 adds; and the smallest number, of which half may be lost
RELATIVE = {"float16": 2.0**-11 * 1.01, "bfloat16": 2.0**-8 * 1.01}
ABSOLUTE = {"float16": 2.0**-25 * 1.01, "bfloat16": 1e-38}


def assert_rounded(found, exact):
    name = found.dtype.name
    assert_allclose(found.astype(float), exact, rtol=RELATIVE[name], atol=ABSOLUTE[name])


@pytest.mark.parametrize("dtype", HALVES)
def test_every_number_is_widened_exactly(dtype):
    x = np.arange(2**16, dtype=np.uint16).view(dtype)
    for rows in (x[:, np.newaxis], x[:, np.newaxis].repeat(2, 1)[:, ::2], x[np.newaxis]):
        lse = cxent.logsumexp(rows, axis=1 if rows.shape[1] == 1 else 0)
        assert lse.dtype == np.float32
        assert_array_equal(lse, x.astype(np.float32))


@pytest.mark.parametrize("dtype", HALVES)
def test_numbers_are_narrowed_to_the_nearest(dtype):
    """As NumPy narrows them. The gradient of two equal logits is half of the row's weight: any number in float32."""
    rng = np.random.default_rng(0)
    exact = np.arange(2**15, dtype=np.uint16).view(dtype).astype(np.float32)
    exact = exact[np.isfinite(exact)]
    between = exact[1:] / 2 + exact[:-1] / 2  # of two as near the even one
    weights = np.concatenate([exact, between, np.nextafter(between, 0), np.nextafter(between, np.float32(np.inf))])
    weights = np.concatenate([weights, np.ldexp(rng.random(10_000, np.float32), rng.integers(-150, 128, 10_000))])
    weights = 2 * weights[weights < 1e38]
    grad, wide = (
        cxent.cross_entropy_with_grad(
            np.zeros((len(weights), 2), numbers), np.zeros(len(weights), int), sample_weight=weights, reduction="sum"
        )[1]
        for numbers in (dtype, np.float32)
    )
    with np.errstate(over="ignore"):
        expected = wide.astype(dtype)
    np.testing.assert_allclose(wide, np.stack([-weights / 2, weights / 2], axis=-1), rtol=3e-7, atol=2e-38)
    assert_array_equal(grad, expected)


@given(logits_and_axes(dtypes=HALVES))
def test_softmax_functions_in_any_layout(logits):
    x, axis = logits
    wide, dtype = x.astype(float), x.dtype.newbyteorder("=")
    g = np.sin(np.arange(x.size).reshape(x.shape)).astype(dtype)
    for function, backward in (
        (cxent.softmax, cxent.softmax_backward),
        (cxent.log_softmax, cxent.log_softmax_backward),
    ):
        with unchanged(x):
            found = function(x, axis)
        assert found.dtype == dtype and found.shape == x.shape
        assert_rounded(found, function(wide, axis))
        out = np.empty(x.shape, dtype)
        assert function(x, axis, out=out) is out
        assert_array_equal(out, found)
        in_place = np.array(x, dtype)
        assert function(in_place, axis, out=in_place) is in_place
        assert_rounded(in_place, function(wide, axis))
        expected = backward(g.astype(np.float32), found.astype(np.float32), axis).astype(dtype)
        assert_same_bits(backward(g, found, axis), expected)
    with unchanged(x):
        lse = cxent.logsumexp(x, axis)
    assert lse.dtype == np.float32
    assert_allclose(lse, cxent.logsumexp(wide, axis), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize(
    "shape", [(70, 3), (70, 48), (9, 100), (40, 1000), (3, 5000), (2, 21, 130), (2, 5000, 40)], ids=str
)
def test_a_row_has_the_same_bits_in_any_batch_and_for_any_number_of_workers(dtype, shape, share_small_calls):
    share_small_calls(100)
    x = (3 * np.random.default_rng(0).standard_normal(shape)).astype(dtype)
    labels = np.zeros(np.delete(shape, 1), int)

    def results(x, labels, workers=1):
        loss, grad = cxent.cross_entropy_with_grad(x, labels, axis=1, reduction="none", workers=workers)
        return {
            "softmax": cxent.softmax(x, 1, workers=workers),
            "log_softmax": cxent.log_softmax(x, 1, workers=workers),
            "logsumexp": cxent.logsumexp(x, 1, workers=workers),
            "loss": loss,
            "gradient": grad,
        }

    batch = results(x, labels)
    assert_all_same_bits(results(x[-1:], labels[-1:]), {name: result[-1:] for name, result in batch.items()})
    assert_all_same_bits(results(x, labels, 3), batch)


@pytest.mark.parametrize("dtype", HALVES)
def test_a_sum_over_more_classes_than_float16_knows(dtype):
    log_p = cxent.log_softmax(np.zeros(128_256, dtype))
    assert (log_p == dtype(-np.log(128_256))).all()
    x = np.full((2, 128_256), 60_000, dtype)
    assert_allclose(cxent.logsumexp(x), x[:, 0].astype(float) + np.log(128_256), rtol=1e-6)


@pytest.mark.parametrize("dtype", HALVES)
def test_losses_of_more_rows_than_float16_knows(dtype):
    assert cxent.cross_entropy(np.zeros((70_000, 3), dtype), np.zeros(70_000, int)) == np.float32(np.log(3))
    loss = cxent.cross_entropy(np.full((2000, 2), [60_000, -60_000], dtype), np.ones(2000, int), reduction="sum")
    assert loss.dtype == np.float32 and loss == pytest.approx(2 * 2000 * float(dtype(60_000)), rel=1e-6)


@pytest.mark.parametrize("dtype", HALVES)
def test_small_losses_keep_their_digits(dtype):
    loss, grad = cxent.cross_entropy_with_grad(np.array([17, 0, 0], dtype), 0)
    assert loss.dtype == np.float32 and loss == pytest.approx(8.2798751e-8, rel=1e-6)
    assert grad.dtype == dtype and grad[0] == dtype(-8.2798745e-8) != 0


@pytest.mark.parametrize("function", [cxent.softmax, cxent.log_softmax, cxent.logsumexp])
@pytest.mark.parametrize("dtype", HALVES)
def test_special_values(dtype, function):
    x = np.array([[np.nan, 1, 2], [np.inf, 1, 2], [-np.inf, 0, 0], [-np.inf] * 3, [1, 2, 3]], dtype)
    assert_allclose(function(x).astype(float), function(x.astype(float)), rtol=1e-2)


@pytest.fixture(params=HALVES)
def x(request):
    return np.random.default_rng(0).standard_normal((4, 5)).astype(request.param)


def test_masks_and_factors(x):
    wide, mask = x.astype(float), np.random.default_rng(1).random((4, 5)) < 0.5
    mask[0] = False
    assert_rounded(cxent.softmax(x, where=mask), cxent.softmax(wide, where=mask))
    assert_rounded(cxent.log_softmax(x, where=mask), cxent.log_softmax(wide, where=mask))
    assert_allclose(cxent.logsumexp(x, b=x), cxent.logsumexp(wide, b=wide), rtol=1e-5)


def test_jacobian(x):
    p = cxent.softmax(x)
    assert_rounded(cxent.softmax_jacobian(p), cxent.softmax_jacobian(p.astype(float)))


@pytest.mark.parametrize("target", ["indices", "probabilities"])
def test_losses_of_probabilities_and_products_with_the_hessian(x, target):
    p = cxent.softmax(x)
    target = p if target == "probabilities" else np.array([0, 3, 4, 1])
    wide, wide_target = x.astype(float), target.astype(float) if target is p else target
    loss, grad = cxent.cross_entropy_from_probs_with_grad(p, target)
    expected, expected_grad = cxent.cross_entropy_from_probs_with_grad(p.astype(float), wide_target)
    assert loss.dtype == np.float32 and loss == pytest.approx(expected, rel=1e-5)
    assert_rounded(grad, expected_grad)
    assert_rounded(cxent.cross_entropy_hvp(x, target, x), cxent.cross_entropy_hvp(wide, wide_target, wide))


def test_other_floats():
    with pytest.raises(TypeError, match=r"^x must .*got float8_e4m3fn"):
        cxent.softmax(np.ones(3, ml_dtypes.float8_e4m3fn))


def test_out_of_another_dtype():
    with pytest.raises(TypeError, match=r"^out must .*got float32"):
        cxent.softmax(np.ones(3, np.float16), out=np.empty(3, np.float32))
    with pytest.raises(TypeError, match=r"^out must .*got float16"):
        cxent.softmax(np.ones(3, ml_dtypes.bfloat16), out=np.empty(3, np.float16))


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("classes", [3, 60])
def test_any_nan_stays_one(dtype, classes):
    """Cut off, the bits of this one would be those of -0."""
    q = np.full((40, classes), 0x7FFFFFFF, np.uint32).view(np.float32)
    _, grad = cxent.cross_entropy_with_grad(np.zeros((40, classes), dtype), q)
    assert np.isnan(grad.astype(float)).all()
