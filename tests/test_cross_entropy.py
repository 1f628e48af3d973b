"""The losses and their gradients: every layout, kinds of target, reductions, special values, peers."""

import numpy as np
import pytest
from helpers import FLOATS, RTOL, assert_same_bits, central_differences, loss_by_definition, one_hot, unchanged
from hypothesis import given
from hypothesis import strategies as st
from layouts import arrays_like, logits_and_axes
from numpy.testing import assert_allclose, assert_array_equal
from sklearn._loss import HalfMultinomialLoss

import cxent

INTEGERS = [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64]
REDUCTIONS = ["mean", "sum", "none"]


@given(logits_and_axes(), st.sampled_from(REDUCTIONS), st.sampled_from(INTEGERS), st.data())
def test_class_indices_in_any_layout(logits, reduction, integer, data):
    x, axis = logits
    values = np.random.default_rng(0).integers(0, min(x.shape[axis], 100), np.delete(x.shape, axis))
    labels = data.draw(arrays_like(values.astype(integer)))
    expected_loss, expected_grad, *_ = loss_by_definition(x, labels, axis=axis, reduction=reduction)
    rtol = RTOL[x.dtype.name]
    with unchanged(x, labels):
        loss, grad = cxent.cross_entropy_with_grad(x, labels, axis=axis, reduction=reduction)
        assert_allclose(loss, expected_loss, rtol=rtol, atol=rtol)
        assert_allclose(grad, expected_grad, rtol=rtol, atol=rtol)
        assert grad.dtype == loss.dtype == x.dtype.newbyteorder("=") and grad.shape == x.shape
        assert_array_equal(cxent.cross_entropy(x, labels, axis=axis, reduction=reduction), loss)


TARGET_DTYPES = [*INTEGERS, bool, np.float16, np.float32, np.float64]


def target_rows(x, axis, dtype):
    """Probabilities, or one-hot rows, if the dtype can have no other."""
    rng = np.random.default_rng(0)
    if np.dtype(dtype).kind == "f":
        return rng.integers(0, 3, x.shape).astype(dtype)
    return one_hot(rng.integers(0, x.shape[axis], np.delete(x.shape, axis)), x.shape[axis], axis).astype(dtype)


@given(logits_and_axes(), st.sampled_from(REDUCTIONS), st.sampled_from(TARGET_DTYPES), st.data())
def test_class_probabilities_in_any_layout(logits, reduction, dtype, data):
    x, axis = logits
    target = data.draw(arrays_like(target_rows(x, axis, dtype)))
    expected_loss, expected_grad, *_ = loss_by_definition(x, target, axis=axis, reduction=reduction)
    rtol = RTOL[x.dtype.name]
    weight = 2 * x.shape[axis]
    with unchanged(x, target):
        loss, grad = cxent.cross_entropy_with_grad(x, target, axis=axis, reduction=reduction)
        assert_allclose(loss, expected_loss, rtol=rtol, atol=rtol)
        assert_allclose(grad, expected_grad, rtol=rtol, atol=rtol * weight)
        assert_array_equal(cxent.cross_entropy(x, target, axis=axis, reduction=reduction), loss)


@given(logits_and_axes(dtypes=[np.float64]), st.sampled_from(REDUCTIONS), st.booleans(), st.data())
def test_from_probabilities_in_any_layout(logits, reduction, indices, data):
    x, axis = logits
    p = data.draw(arrays_like(cxent.softmax(x, axis) + 1e-3))
    rng = np.random.default_rng(0)
    labels = rng.integers(0, x.shape[axis], np.delete(x.shape, axis))
    q = one_hot(labels, x.shape[axis], axis) if indices else rng.integers(0, 3, x.shape).astype(float)
    target = data.draw(arrays_like(labels if indices else q))
    rows, grad = -(q * np.log(p)).sum(axis=axis), -q / p
    expected_loss = {"none": rows, "sum": rows.sum(), "mean": rows.mean() if rows.size else np.nan}[reduction]
    expected_grad = grad / rows.size if reduction == "mean" and rows.size else grad
    loss, grad = cxent.cross_entropy_from_probs_with_grad(p, target, axis=axis, reduction=reduction)
    assert_allclose(loss, expected_loss, rtol=1e-13, atol=1e-13)
    assert_allclose(grad, expected_grad, rtol=1e-13, atol=1e-13)
    assert_array_equal(cxent.cross_entropy_from_probs(p, target, axis=axis, reduction=reduction), loss)


LOSSES_AND_GRADIENTS = {
    "of logits": (cxent.cross_entropy, cxent.cross_entropy_with_grad),
    "of probabilities": (cxent.cross_entropy_from_probs, cxent.cross_entropy_from_probs_with_grad),
}


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("target", ["indices", "probabilities"])
@pytest.mark.parametrize("loss", LOSSES_AND_GRADIENTS)
def test_gradients_against_central_differences(loss, target, reduction, axis):
    rng = np.random.default_rng(0)
    shape = (3, 4, 5)
    x = rng.standard_normal(shape)
    if loss == "of probabilities":
        x = cxent.softmax(x, axis)
    target = rng.random(shape) if target == "probabilities" else rng.integers(0, shape[axis], np.delete(shape, axis))
    loss_of, with_grad = LOSSES_AND_GRADIENTS[loss]
    _, grad = with_grad(x, target, axis=axis, reduction=reduction)
    differences = central_differences(lambda x: loss_of(x, target, axis=axis, reduction=reduction), x)
    assert_allclose(grad, differences, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("reduction", "value"), [("mean", np.log(2)), ("sum", 4 * np.log(2))], ids=["mean", "sum"])
def test_reductions_return_scalars_of_the_dtype(reduction, value, dtype):
    loss = cxent.cross_entropy(np.zeros((4, 2), dtype), [0, 1, 1, 0], reduction=reduction)
    assert type(loss) is dtype
    assert loss == pytest.approx(value)


def test_a_row_alone_has_a_scalar_loss():
    loss, grad = cxent.cross_entropy_with_grad([0.0, 0.0], 1, reduction="none")
    assert type(loss) is np.float64 and grad.tolist() == [0.5, -0.5]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("target", [np.empty(0, int), np.empty((0, 3)), []], ids=["indices", "probabilities", "a list"])
def test_zero_rows(target, dtype):
    x = np.empty((0, 3), dtype)
    loss, grad = cxent.cross_entropy_with_grad(x, target)
    assert np.isnan(loss) and type(loss) is dtype and grad.shape == (0, 3)
    assert cxent.cross_entropy(x, target, reduction="sum") == 0
    assert_same_bits(cxent.cross_entropy(x, target, reduction="none"), np.empty(0, dtype))
    assert np.isnan(cxent.cross_entropy_from_probs(x, target))


@pytest.mark.parametrize("classes", [2, 3, 64, 200])
def test_special_values(classes):
    x = np.zeros((5, classes), np.float32)
    x[0, 1] = -np.inf
    x[1, 1] = np.nan
    x[2, 0] = np.inf
    x[3] = -np.inf
    loss, grad = cxent.cross_entropy_with_grad(x, [1, 0, 1, 0, 0], reduction="none")
    assert loss[0] == np.inf and np.isnan(loss[1:4]).all() and loss[4] == pytest.approx(np.log(classes))
    assert grad[0, 1] == -1 and grad[0, 0] == pytest.approx(1 / (classes - 1))
    assert np.isnan(grad[1:4]).all() and np.isfinite(grad[[0, 4]]).all()
    assert np.isnan(cxent.cross_entropy(x, [1, 0, 1, 0, 0]))
    assert cxent.cross_entropy(x[[0, 4]], [1, 0]) == np.inf
    # the same as one-hot rows; NaN logits show even where the target is 0
    dense = cxent.cross_entropy_with_grad(x, one_hot([1, 0, 1, 0, 0], classes, 1), reduction="none")
    assert_allclose(dense[0], loss, rtol=1e-6)
    assert_allclose(dense[1], grad, rtol=1e-6, atol=1e-7)


def test_a_probability_of_zero_takes_no_part():
    """0 * -inf is 0: an impossible class that the target rules out costs nothing."""
    x = np.array([[-np.inf, 0, 0], [-np.inf, 0, -np.inf]])
    q = np.array([[0, 0.5, 0.5], [0, 1, 0]])
    loss, grad = cxent.cross_entropy_with_grad(x, q, reduction="none")
    assert_allclose(loss, [np.log(2), 0])
    assert_array_equal(grad, 0)
    loss, grad = cxent.cross_entropy_from_probs_with_grad([[0, 0.5, 0.5]], [[0.0, 1.0, 0.0]], reduction="none")
    assert_allclose(loss, np.log(2))
    assert grad.tolist() == [[0, -2, 0]]
    assert cxent.cross_entropy_from_probs([0.0, 1.0], 0) == np.inf
    assert cxent.cross_entropy_from_probs([0.0, 1.0], 1) == 0


@pytest.mark.parametrize("dtype", FLOATS)
def test_two_maxima(dtype):
    """The gradient is mended at a single maximum alone; nothing around the row is touched."""
    memory = np.full((3, 7), 9, dtype)
    x = memory[1, 1:4]
    x[...] = [-np.inf, 2, 2]
    loss, _ = cxent.cross_entropy_with_grad(x, np.array([0, 1, 0], dtype), out=x)
    assert loss == pytest.approx(np.log(2))
    assert x.tolist() == pytest.approx([0, -0.5, 0.5], rel=2 * float(np.finfo(dtype).eps))
    memory[1, 1:4] = 9
    assert (memory == 9).all()


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_a_loss_beyond_float32_is_inf(reduction):
    assert cxent.cross_entropy(np.float32([[3e38, -3e38]]), [1], reduction=reduction) == np.inf


def test_the_mean_of_large_losses_does_not_overflow():
    assert cxent.cross_entropy([[1e308, 0.0]] * 4, [1] * 4) == 1e308


def test_nothing_is_raised_after_out_is_written():
    x = np.float32([[3e38, 0]] * 4)
    with np.errstate(all="raise"):
        loss, _ = cxent.cross_entropy_with_grad(x, [1] * 4, reduction="sum", out=x)
    assert loss == np.inf


def test_a_target_row_of_zeros_has_no_loss():
    loss, grad = cxent.cross_entropy_with_grad(np.array([[1.0, 2.0, 40.0]]), np.zeros((1, 3)))
    assert loss == 0 and not grad.any()


def test_a_target_that_is_nan_shows():
    loss, grad = cxent.cross_entropy_with_grad(np.zeros((2, 3)), [[0, 1, np.nan], [0, 1, 0]], reduction="none")
    assert np.isnan(loss).tolist() == [True, False]
    assert np.isnan(grad).all(axis=1).tolist() == [True, False]


@pytest.mark.parametrize("labels", ["largest", "any"])
@pytest.mark.parametrize("dtype", FLOATS)
def test_one_hot_rows_are_class_indices(dtype, labels):
    """To the last digits of confident rows, which p - y loses."""
    rng = np.random.default_rng(0)
    x = (15 * rng.standard_normal((50, 20))).astype(dtype)
    labels = x.argmax(1) if labels == "largest" else rng.integers(0, 20, 50)
    by_index = cxent.cross_entropy_with_grad(x, labels, reduction="none")
    dense = cxent.cross_entropy_with_grad(x, one_hot(labels, 20), reduction="none")
    rtol = 4 * np.finfo(dtype).eps
    assert_allclose(dense[0], by_index[0], rtol=rtol)
    assert_allclose(dense[1], by_index[1], rtol=rtol)


def test_overlapping_labels():
    """Labels that lie in the memory of `out` are read before it is written."""
    memory = np.zeros((4, 2))
    labels = memory.view(np.int64)[:, 0]
    labels[...] = [0, 1, 1, 0]
    logits = np.random.default_rng(0).standard_normal((4, 2))
    expected = cxent.cross_entropy_with_grad(logits, labels.copy())
    loss, grad = cxent.cross_entropy_with_grad(logits, labels, out=memory)
    assert loss == expected[0]
    assert_array_equal(grad, expected[1])


def test_against_scikit_learn():
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((20, 4)), rng.integers(0, 4, 20)
    loss, grad = HalfMultinomialLoss(n_classes=4).loss_gradient(labels.astype(float), x)
    found = cxent.cross_entropy_with_grad(x, labels, reduction="none")
    assert_allclose(found[0], loss, rtol=1e-13)
    assert_allclose(found[1], grad, atol=1e-15)


@pytest.mark.parametrize("dtype", FLOATS)
def test_logits_farther_apart_than_the_largest_number(dtype):
    far = 0.9 * np.finfo(dtype).max
    losses = cxent.cross_entropy(
        np.array([[-far, far, 0]], dtype), np.array([[0.125, 0.75, 0.125]], dtype), reduction="none"
    )
    assert_allclose(losses, 0.375 * dtype(far), rtol=4 * np.finfo(dtype).eps)
