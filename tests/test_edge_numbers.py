"""Numbers at the edge of what a dtype can hold: a result that is finite is found, and nothing warns.

Warnings are errors in all tests.
"""

import numpy as np
import pytest
from helpers import exact_numbers
from mpmath import mp, mpf

import cxent

LARGEST = {dtype: float(np.finfo(dtype).max) for dtype in (np.float32, np.float64)}
LARGE = {np.float32: 3e38, np.float64: 1.7e308}


@pytest.fixture(params=[np.float32, np.float64], ids=["float32", "float64"])
def dtype(request):
    return request.param


def close(found, expected, rtol=1e-6):
    np.testing.assert_allclose(np.asarray(found, np.float64), np.asarray(expected, np.float64), rtol=rtol)


# --- weights that are hardly numbers ------------------------------------------------------------------------------


def test_a_logsumexp_beside_a_large_loss():
    """Its square is too large, and not asked for."""
    logits = [[1e155, 0, 0], [3.0, 0, 0]]
    loss, lse = cxent.cross_entropy(logits, [1, 0], return_lse=True, ignore_index=-1, reduction="none")
    close(loss, [1e155, np.log1p(2 * np.exp(-3))])
    close(lse, [1e155, 3 + np.log1p(2 * np.exp(-3))])


@pytest.mark.parametrize("weight", [1e-39, 1e-30, 1e30])
def test_mean_with_class_weights_of_any_size(weight):
    loss, grad = cxent.cross_entropy_with_grad(np.zeros((2, 2), np.float32), [0, 0], weight=[weight, weight])
    close(loss, np.log(2))
    close(grad, [[-0.25, 0.25]] * 2)


@pytest.mark.parametrize("weight", [5e-324, 5e-309, 1e-200, 1e200, 1.7e308])
@pytest.mark.parametrize("argument", ["weight", "sample_weight", "both"])
def test_mean_with_float64_weights_of_any_size(weight, argument):
    given = {name: [weight] * 2 for name in ("weight", "sample_weight") if argument in (name, "both")}
    loss, grad = cxent.cross_entropy_with_grad(np.zeros((2, 2)), [0, 1], **given)
    close(loss, np.log(2))
    close(grad, [[-0.25, 0.25], [0.25, -0.25]])


@pytest.mark.parametrize("weight", [5e-309, 1.7e308])
def test_mean_over_probabilities_with_weights_of_any_size(weight):
    loss, grad = cxent.cross_entropy_with_grad(np.zeros((2, 2)), [[0.5, 0.5], [1, 0]], sample_weight=[weight] * 2)
    close(loss, np.log(2))
    close(grad, [[0, 0], [-0.25, 0.25]])


def test_a_class_that_outweighs_the_labels():
    """Smoothing gives it a share, which weights scaled for the others must not make infinite."""
    light = float(np.float32(1e-39))
    loss = cxent.cross_entropy(np.zeros((2, 2), np.float32), [0, 0], weight=[1e-39, 1.0], label_smoothing=0.1)
    close(loss, np.log(2) * (0.9 + 0.05 + 0.05 / light))


def test_weights_of_both_signs_whose_sum_is_too_large_on_the_way():
    weights = np.array([1.7e308, 1.7e308, -1.7e308])
    losses = cxent.cross_entropy(np.arange(6.0).reshape(3, 2), [0, 1, 1], reduction="none")
    close(cxent.cross_entropy(np.arange(6.0).reshape(3, 2), [0, 1, 1], sample_weight=weights), losses[0])


# --- differences that are too large where the loss is not ---------------------------------------------------------


@pytest.mark.parametrize(
    "label, options, factor", [(0, {"label_smoothing": 0.1}, 0.1), (1, {"temperature": 10.0}, 0.2)]
)
def test_half_of_a_difference_is_no_infinity(label, options, factor, dtype):
    large = LARGE[dtype]
    close(cxent.cross_entropy(np.array([large, -large], dtype), label, **options), factor * float(dtype(large)))


def test_a_small_weight_of_a_large_loss(dtype):
    large = LARGE[dtype]
    logits = np.array([large, -large], dtype)
    close(cxent.cross_entropy(logits, 1, weight=[1, 1e-3], reduction="sum"), 2e-3 * float(dtype(large)))


def test_the_mean_of_a_loss_that_is_too_large_alone(dtype):
    large = LARGE[dtype]
    logits = np.array([[large, -large], [0, 0]], dtype)
    close(cxent.cross_entropy(logits, [1, 0]), float(dtype(large)))


@pytest.mark.parametrize("classes", [100, 1000])
def test_a_sum_of_differences_that_is_too_large(classes, dtype):
    large = LARGE[dtype] / 2
    logits = np.full(classes, -large, dtype)
    logits[0] = large
    expected = 0.1 * (classes - 1) / classes * 2 * float(dtype(large))
    close(cxent.cross_entropy(logits, 0, label_smoothing=0.1), expected)
    target = np.full(classes, 0.1 / classes)
    target[0] += 0.9
    close(cxent.cross_entropy(logits, target.astype(dtype)), expected, rtol=1e-5)


def test_a_loss_that_is_too_large_is_infinite(dtype):
    large = LARGE[dtype]
    assert cxent.cross_entropy(np.array([large, -large], dtype), 1) == np.inf


# --- infinities that must not become NaN --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target, options, at_label", [([1], {}, -1), ([[0.0, 1.0]], {}, -1), ([1], {"label_smoothing": 0.1}, -0.95)]
)
def test_z_loss_that_is_too_large(target, options, at_label):
    """Where p is 0, an infinite slope leaves the gradient alone."""
    logits = np.array([[3e38, 0]], np.float32)
    target = np.array(target, np.float32 if np.ndim(target) == 2 else int)
    _, grad = cxent.cross_entropy_with_grad(logits, target, z_loss=1.0, **options)
    close(grad, [[np.inf, at_label]])


@pytest.mark.parametrize("classes", [2, 6, 60, 1000])
def test_backward_where_the_sum_is_too_large_on_the_way(classes, dtype):
    g = np.full(classes, LARGEST[dtype] / 2, dtype)
    g[::2] *= -1
    g[: classes // 2] = LARGEST[dtype] / 2
    scaled = g.astype(np.longdouble) / LARGEST[dtype]
    p = np.full(classes, 1 / classes, dtype)
    expected = scaled - scaled.sum() / classes
    grad = cxent.log_softmax_backward(g, np.log(p))
    np.testing.assert_allclose(grad / LARGEST[dtype], expected.astype(np.float64), rtol=1e-5, atol=1e-5)
    grad = cxent.softmax_backward(g, p)
    np.testing.assert_allclose(grad * (classes / LARGEST[dtype]), expected.astype(np.float64), rtol=1e-5, atol=1e-5)


# --- a softcap that leaves little -----------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [3, 10])
@pytest.mark.parametrize("softcap", [1e-3, 30.0])
def test_gradient_of_an_even_target_below_a_softcap(classes, softcap):
    """p and 1 / C are nearly the same: their difference has the error of p, not of itself."""
    rng = np.random.default_rng(classes)
    for scale in (1e-4, 1e-3, 1e-2):
        u = (scale * rng.standard_normal(classes)).astype(np.float32)
        _, grad = cxent.cross_entropy_with_grad(u, 0, softcap=softcap, label_smoothing=1.0)
        tanh = [mp.tanh(v / mpf(softcap)) for v in exact_numbers(u)]
        e = [mp.exp(mpf(softcap) * t) for t in tanh]
        total = mp.fsum(e)
        for found, t, e_c in zip(exact_numbers(grad), tanh, e, strict=True):
            slope, p = 1 - t**2, e_c / total
            error = abs(found - slope * (p - mpf(1) / classes))
            assert error <= 16 * np.finfo(np.float32).eps * slope * max(p, mpf(1) / classes)


# --- nothing warns ------------------------------------------------------------------------------------------------


def test_gradients_too_large_for_float16_are_infinite():
    _, grad = cxent.cross_entropy_from_probs_with_grad(np.array([1e-6, 1], np.float16), 0)
    assert grad[0] == -np.inf
    g = np.array([6e4, -6e4, 6e4, 6e4], np.float16)
    assert cxent.log_softmax_backward(g, np.log(np.full(4, 0.25)).astype(np.float16))[1] == -np.inf
    product = cxent.cross_entropy_hvp(np.zeros(4, np.float16), 0, g, temperature=0.01)
    assert np.isinf(product).all()


def test_targets_and_vectors_too_large_for_float32():
    for target in ([1e300, 0], [1e300, -1e300]):
        assert not np.isfinite(cxent.cross_entropy(np.zeros(2, np.float32), np.array(target)))
    assert np.isnan(cxent.cross_entropy_hvp(np.zeros(2, np.float32), 0, np.array([1e300, 0]))).all()


def test_jacobian_of_what_are_no_probabilities():
    assert np.isnan(cxent.softmax_jacobian([np.inf, 1, 0])[0, 2])
    assert cxent.softmax_jacobian(np.array([3e38, 1], np.float32))[0, 0] == -np.inf


# --- options whose products and quotients float32 cannot hold ------------------------------------------------------

SIZES = [1e-30, 1e-20, 1e-10, 1.0, 1e10, 1e20, 1e30]
LOGITS = np.array([[0, 1, -2, 1e-30], [1e10, 3, 0, -1e10], [1e-38, 0, 1e-40, 5], [30, 29.5, 1, 0]], np.float32)


def close_to_wide(call):
    """What the call gives of LOGITS is what it gives of them in float64, as far as float32 can hold that."""
    found, wide = call(LOGITS), call(LOGITS.astype(np.float64))
    for given, expected in zip(found, wide, strict=True):
        with np.errstate(over="ignore"):
            expected = np.asarray(expected).astype(np.float32)
        if given is None:
            continue
        largest = np.abs(expected[np.isfinite(expected)]).max(initial=0)
        np.testing.assert_allclose(given, expected, rtol=1e-4, atol=1e-5 * largest + 1e-44)


@pytest.mark.parametrize("softcap", [None, *SIZES])
@pytest.mark.parametrize("temperature", SIZES)
def test_any_temperature_with_any_softcap(temperature, softcap):
    options = {"temperature": temperature, "softcap": softcap}
    for more in ({}, {"z_loss": 1e-3, "reduction": "sum"}, {"sample_weight": [1e18] * 4}):
        close_to_wide(lambda x, more=more: cxent.cross_entropy_with_grad(x, [1, 0, 2, 1], **options, **more))
    close_to_wide(lambda x: cxent.token_logprobs(x, [1, 0, 2, 1], **options))


@pytest.mark.parametrize("temperature", SIZES)
def test_hessians_at_any_temperature(temperature):
    for reduction in ("sum", "mean"):
        options = {"temperature": temperature, "reduction": reduction}
        close_to_wide(lambda x, options=options: cxent.cross_entropy_with_hess(x, [1, 0, 2, 1], **options))
        close_to_wide(lambda x, options=options: [cxent.cross_entropy_hvp(x, [1, 0, 2, 1], x * 0 + 1, **options)])


def test_a_z_loss_that_float32_cannot_hold():
    """Its gradient can be held, where the logsumexp is small."""
    x = np.float32([[np.log(0.25), np.log(0.75)]])
    loss, grad = cxent.cross_entropy_with_grad(x, [0], z_loss=1e39)
    assert np.isfinite(loss) and np.isfinite(grad).all()
    loss, grad = cxent.cross_entropy_with_grad(np.float32([[0.0]]), [0], z_loss=1e308)
    assert loss == 0 and grad == 0


def test_weights_that_are_too_large_for_a_gradient_of_0():
    """Where it is 0 for a dtype, it stays so whatever it is multiplied by."""
    x, y = np.float32([[5, 1, 2]]), np.float32([[1, 1, 2]])
    options = {"temperature": 1e-3, "sample_weight": [1e37], "reduction": "sum"}
    for _, grad in (
        cxent.js_divergence_with_grad(x, y, **options),
        cxent.kl_divergence_with_grad(x, x, direction="reverse", **options),
        cxent.cross_entropy_with_grad(x, [0], **options),
    ):
        assert not np.isnan(grad).any()
    part = cxent.sharded.part(x, [0], temperature=1e-30)
    assert not np.isnan(cxent.sharded.grad(x, part, [0], sample_weight=[1e10], reduction="sum")).any()


OPPOSITES = [
    ([1e-36, 1, 1], 1e36),
    ([1, 1e-36, 1e30], 1e36),
    ([1e35, 1e30, 1e35], 1e-36),
    ([1e-30] * 3, 1e38),
    ([1e-38] * 3, 1e38),
    ([1e30, 1e20, 1e30], 1e-38),
]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0, 1e-3, 1])
@pytest.mark.parametrize("temperature", [1, 1e-3])
@pytest.mark.parametrize("target", [[0], [1], [2], [[0.2, 0.3, 0.5]]], ids=str)
@pytest.mark.parametrize("by_class, by_row", OPPOSITES, ids=str)
def test_weights_of_opposite_extremes(by_class, by_row, target, temperature, smoothing, reduction):
    """What is in range is right, though the weights' parts of it are not in range."""
    x = np.array([[20 if smoothing == 0 and np.ndim(target) == 1 else 2, 0, 1]], np.float32)
    weights = {"weight": np.float32(by_class), "sample_weight": np.float32([by_row])}
    options = {**weights, "temperature": temperature, "label_smoothing": smoothing, "reduction": reduction}

    def close_to_exact(call):
        found = call(x, np.array(target, np.float32) if np.ndim(target) == 2 else target)
        wide = call(x.astype(np.float64), np.array(target) if np.ndim(target) == 2 else target)
        for given, expected in zip(found, wide, strict=True):
            with np.errstate(over="ignore"):
                expected = np.asarray(expected).astype(np.float32)
            if np.isfinite(expected).all():
                largest = np.abs(expected).max()
                np.testing.assert_allclose(given, expected, rtol=2e-6, atol=2e-6 * largest + 1e-44)

    close_to_exact(lambda x, y: cxent.cross_entropy_with_grad(x, y, **options))
    close_to_exact(lambda x, y: cxent.cross_entropy_with_hess(x, y, **options))
    close_to_exact(lambda x, y: [cxent.cross_entropy_hvp(x, y, x * 0 + [[1, 2, 4]], **options)])
    probs = {**weights, "reduction": reduction}
    close_to_exact(lambda x, y: cxent.cross_entropy_from_probs_with_grad(cxent.softmax(x / 20), y, **probs))
