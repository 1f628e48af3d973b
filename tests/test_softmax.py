"""softmax, log_softmax, logsumexp and their derivatives: every layout, special values, closed forms, peers."""

import re
import sys
import threading

import numpy as np
import pandas
import pytest
import scipy.special
from helpers import FLOATS, HALVES, RTOL, assert_same_bits, central_differences, softmax_by_definition, unchanged
from hypothesis import given
from hypothesis import strategies as st
from layouts import arrays_like, logits_and_axes
from numpy.testing import assert_allclose, assert_array_equal

import cxent

SOFTMAXES = [cxent.softmax, cxent.log_softmax]
FUNCTIONS = [*SOFTMAXES, cxent.logsumexp]
BACKWARD = {cxent.softmax: cxent.softmax_backward, cxent.log_softmax: cxent.log_softmax_backward}


@pytest.fixture(params=FLOATS)
def dtype(request):
    return request.param


@given(logits_and_axes())
def test_any_layout_and_axis(logits):
    x, axis = logits
    p, log_p, lse = softmax_by_definition(x, axis)
    rtol = RTOL[x.dtype.name]
    with unchanged(x):
        assert_allclose(cxent.softmax(x, axis), p, rtol=rtol, atol=1e-37)
        assert_allclose(cxent.log_softmax(x, axis), log_p, rtol=rtol, atol=rtol)
        assert_allclose(cxent.logsumexp(x, axis, keepdims=True), lse, rtol=rtol, atol=rtol)
        assert_same_bits(cxent.logsumexp(x, axis), cxent.logsumexp(x, axis, keepdims=True).squeeze(axis))


@given(logits_and_axes())
def test_results_are_new_arrays_in_the_logits_dtype(logits):
    x, axis = logits
    native = x.dtype.newbyteorder("=")
    for result in (cxent.softmax(x, axis), cxent.log_softmax(x, axis)):
        assert result.dtype == native and result.shape == x.shape
        assert result.flags.writeable and not np.shares_memory(result, x)
    assert cxent.logsumexp(x, axis).dtype == native
    for order in "CF":
        ordered = np.array(x, order=order)
        result = cxent.softmax(ordered, axis)
        assert result.flags[f"{order}_CONTIGUOUS"]


@given(logits_and_axes(), st.data())
def test_axes(logits, data):
    x, axis = logits
    rtol = RTOL[x.dtype.name]
    for axes in (tuple(data.draw(st.sets(st.integers(0, x.ndim - 1))) | {axis % x.ndim}), None):
        p, _, lse = softmax_by_definition(x, axes)
        assert_allclose(cxent.softmax(x, axes), p, rtol=rtol, atol=1e-37)
        in_any_order = axes and axes[::-1]
        assert_allclose(cxent.logsumexp(x, in_any_order, keepdims=True), lse, rtol=rtol, atol=rtol)


@given(logits_and_axes(dtypes=[np.float64]), st.data())
def test_derivatives_in_any_layout(logits, data):
    x, axis = logits
    g = data.draw(arrays_like(np.cos(np.arange(x.size)).reshape(x.shape)))
    p, log_p, _ = softmax_by_definition(x, axis)
    p_as, log_p_as = data.draw(arrays_like(p)), data.draw(arrays_like(log_p))
    expected = p * (g - (g * p).sum(axis=axis, keepdims=True))
    assert_allclose(cxent.softmax_backward(g, p_as, axis), expected, atol=1e-13)
    expected = g - p * g.sum(axis=axis, keepdims=True)
    assert_allclose(cxent.log_softmax_backward(g, log_p_as, axis), expected, atol=1e-12)


@pytest.mark.parametrize("forward", SOFTMAXES)
@pytest.mark.parametrize("shape", [(4, 7), (2, 70)])
@pytest.mark.parametrize("axis", [0, 1, None])
def test_derivatives_against_central_differences(shape, axis, forward):
    rng = np.random.default_rng(0)
    x, g = rng.standard_normal((2, *shape))
    grad = BACKWARD[forward](g, forward(x, axis), axis)
    by_each_number = central_differences(lambda x: forward(x, axis), x)
    assert_allclose(grad, np.tensordot(by_each_number, g, x.ndim), rtol=0, atol=1e-8)


def test_jacobian_is_what_backward_multiplies_with():
    rng = np.random.default_rng(0)
    x, g = rng.standard_normal((2, 3, 4, 6))
    p = cxent.softmax(x)
    jacobian = cxent.softmax_jacobian(p)
    assert jacobian.shape == (3, 4, 6, 6)
    assert_allclose(np.einsum("...i,...ij->...j", g, jacobian), cxent.softmax_backward(g, p), atol=1e-15)
    assert cxent.softmax_jacobian(p.astype(np.float32)).dtype == np.float32
    assert cxent.softmax_jacobian(np.ones((0, 3))).shape == (0, 3, 3)


TWO_ROWS = np.array([[0, 1], [1, 0]])
SAME_NUMBERS = {
    "nested lists": TWO_ROWS.tolist(),
    "integers": TWO_ROWS,
    "bytes": TWO_ROWS.astype(np.uint8),
    "booleans": TWO_ROWS.astype(bool),
    "memoryview": memoryview(TWO_ROWS),
    "data frame": pandas.DataFrame({"a": [0.0, 1.0], "b": [1.0, 0.0]}),
    "data frame of integers": pandas.DataFrame(TWO_ROWS),
}


@pytest.mark.parametrize("function", SOFTMAXES)
@pytest.mark.parametrize("x", SAME_NUMBERS.values(), ids=SAME_NUMBERS)
def test_what_arrays_may_be(x, function):
    result = function(x)
    assert type(result) is np.ndarray
    assert_same_bits(result, function(TWO_ROWS.astype(float)))


def test_a_column_of_a_data_frame_may_be_labels():
    frame = pandas.DataFrame({"a": [0.0, 1.0], "b": [1.0, 0.0], "label": [1, 1]})
    loss, grad = cxent.cross_entropy_with_grad(frame[["a", "b"]], frame["label"])
    expected, expected_grad = cxent.cross_entropy_with_grad(TWO_ROWS.astype(float), np.array([1, 1]))
    assert loss == expected
    assert_same_bits(grad, expected_grad)


NARROW, WIDE = np.float32([0.25, 0.75]), np.float64([1.0, 2.0])


@pytest.mark.parametrize("backward", BACKWARD.values())
@pytest.mark.parametrize(("g", "output"), [(NARROW, WIDE), (WIDE, NARROW)], ids=["wider output", "wider gradient"])
def test_the_wider_dtype_of_a_backward_call(g, output, backward):
    assert_same_bits(backward(g, output), backward(g.astype(float), output.astype(float)))


@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_out_is_a_matrix():
    out = np.asmatrix(np.zeros((2, 3)))
    assert cxent.softmax([[1.0, 2.0, 3.0]] * 2, out=out) is out
    assert_array_equal(out, cxent.softmax([[1.0, 2.0, 3.0]] * 2))


def test_sums_of_a_backward_call_do_not_overflow():
    large = np.float32([3e38] * 3)
    grad = cxent.log_softmax_backward(large, np.float32([-np.inf, -0.7, -0.7]))
    assert grad[0] == large[0] and np.isfinite(grad).all()
    assert_array_equal(cxent.softmax_backward(np.float32([3e38, -3e38]), np.float32([1, 0])), 0)


def test_out_is_the_transpose_of_the_logits():
    x = np.random.default_rng(0).standard_normal((5, 5))
    expected = cxent.softmax(x)
    assert_array_equal(cxent.softmax(x, out=x.T), expected)
    assert_array_equal(x.T, expected)


BROADCAST = {
    "rows": np.broadcast_to(np.arange(5.0), (3, 4, 5)),
    "columns": np.broadcast_to(np.arange(5.0)[:, np.newaxis], (5, 4)),
    "a number": np.broadcast_to(1.0, (2, 3)),
}


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("x", BROADCAST.values(), ids=BROADCAST)
def test_broadcast(x, axis):
    assert_array_equal(cxent.softmax(x, axis), cxent.softmax(x.copy(), axis))
    assert_array_equal(cxent.logsumexp(x, axis), cxent.logsumexp(x.copy(), axis))


def test_memory_map(tmp_path):
    x = np.random.default_rng(0).standard_normal((10, 20)).astype(np.float32)
    np.save(tmp_path / "logits.npy", x)
    assert_array_equal(cxent.softmax(np.load(tmp_path / "logits.npy", mmap_mode="r")), cxent.softmax(x))
    mapped = np.load(tmp_path / "logits.npy", mmap_mode="r+")
    assert cxent.softmax(mapped, out=mapped) is mapped
    assert_array_equal(mapped, cxent.softmax(x))


def test_one_row_without_other_axes():
    assert cxent.softmax([1.0, 1.0]).tolist() == [0.5, 0.5]
    assert isinstance(cxent.logsumexp([1.0, 1.0]), np.float64)
    assert isinstance(cxent.logsumexp(np.float32([1, 1])), np.float32)
    assert cxent.logsumexp([1.0, 1.0], keepdims=True).shape == (1,)
    assert cxent.logsumexp(np.zeros((2, 3)), None, keepdims=True).shape == (1, 1)
    assert cxent.softmax(3.0, None).shape == () and cxent.softmax(3.0, None) == 1
    assert cxent.softmax([1.0, 2.0], ()).tolist() == [1, 1]  # no class axes: every number is a row
    assert cxent.logsumexp(3.0, axis=None) == 3


def test_the_gil_is_released(kernels):
    """While one thread computes, another runs, though it waits for the GIL to be free and never asks for it."""
    x = np.zeros((2000, 1000, 1))
    started, finished = threading.Event(), threading.Event()

    def compute():
        started.set()
        for _ in range(10):  # long enough for the other to wake up
            kernels.of(x.dtype).softmax(x, None, 1.0, x, False, 1)
        finished.set()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(100)
    try:
        thread = threading.Thread(target=compute)
        thread.start()
        started.wait()
        assert not finished.is_set()
        thread.join()
    finally:
        sys.setswitchinterval(interval)


def test_zero_rows():
    assert cxent.softmax(np.empty((0, 3))).shape == (0, 3)
    assert cxent.log_softmax(np.empty((3, 0)), axis=0).shape == (3, 0)
    assert cxent.logsumexp(np.empty((2, 0, 3), np.float32)).shape == (2, 0)
    assert cxent.softmax_backward(np.empty((0, 3)), np.empty((0, 3))).shape == (0, 3)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("others", ["as they are", -np.inf, np.inf, np.nan])
@pytest.mark.parametrize("classes", [2, 3, 64, 200, 1000])
def test_nan_stays_in_its_row(dtype, classes, others, function):
    x = np.random.default_rng(0).standard_normal((5, classes)).astype(dtype)
    clean = function(x)
    for place in {0, 1, classes // 2, classes - 1}:
        y = x.copy()
        if others != "as they are":
            y[2] = others
        y[2, place] = np.nan
        result = function(y)
        assert np.isnan(result[2]).all()
        assert_array_equal(np.delete(result, 2, axis=0), np.delete(clean, 2, axis=0))


@pytest.mark.parametrize("classes", [2, 3, 64, 200, 1000])
def test_infinities(dtype, classes):
    x = np.zeros((4, classes), dtype)
    x[0, 1] = -np.inf
    x[1] = -np.inf
    x[2, 0] = np.inf
    x[3] = -np.inf
    x[3, 1] = 5
    p, log_p, lse = cxent.softmax(x), cxent.log_softmax(x), cxent.logsumexp(x)
    assert p[0, 1] == 0 and log_p[0, 1] == -np.inf
    assert_allclose(np.delete(p[0], 1), 1 / (classes - 1), rtol=1e-6)
    assert np.isnan(p[1]).all() and np.isnan(log_p[1]).all() and lse[1] == -np.inf
    assert np.isnan(p[2]).all() and np.isnan(log_p[2]).all() and lse[2] == np.inf
    assert p[3, 1] == 1 and (np.delete(p[3], 1) == 0).all()
    assert log_p[3, 1] == 0 and lse[3] == 5


def test_the_largest_and_smallest_numbers(dtype):
    info = np.finfo(dtype)
    x = np.array([info.max, -info.max, 0, info.smallest_subnormal], dtype)
    assert cxent.softmax(x).tolist() == [1, 0, 0, 0]
    assert cxent.logsumexp(x) == info.max
    assert_array_equal(cxent.log_softmax(x)[[0, 1]], np.array([0, -np.inf], dtype))  # -2 * max is beyond -max
    tiny = np.full(3, info.smallest_subnormal, dtype)
    assert_allclose(cxent.softmax(tiny), 1 / 3, rtol=1e-6)


def test_log_softmax_backward_beyond_log_probabilities(dtype):
    """Its `output` should be at most 0; what is not is no reason for garbage."""
    output = np.array([0.5, 100, 1000, 20, -1000, np.inf, -np.inf, np.nan], dtype)
    result = cxent.log_softmax_backward(np.array([-1] + [0] * 7, dtype), output)
    with np.errstate(over="ignore"):
        expected = np.exp(output)
    expected[0] -= 1
    assert_allclose(result, expected, rtol=1e-5)


@pytest.mark.parametrize("axis", [None, 0, 1, -1, (0, 2)], ids=str)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_against_scipy(function, axis):
    x = np.random.default_rng(0).standard_normal((3, 5, 7))
    assert_allclose(function(x, axis), getattr(scipy.special, function.__name__)(x, axis), rtol=1e-13)


WITHOUT_ELEMENTS = [((3, 0), -1), ((0, 3), 0), ((0,), None), ((2, 0, 3), (0, 1)), ((0, 3), 1), ((0, 0), 1)]


@pytest.mark.parametrize("function", SOFTMAXES)
@pytest.mark.parametrize(("shape", "axis"), WITHOUT_ELEMENTS, ids=str)
def test_an_empty_softmax(shape, axis, function):
    """As in SciPy, PyTorch and ONNX."""
    x = np.empty(shape, np.float32)
    for more in ({}, {"where": np.ones(shape, bool)}, {"out": np.empty_like(x)}):
        assert_same_bits(function(x, axis, **more), x)


@pytest.mark.parametrize(("shape", "axis"), WITHOUT_ELEMENTS, ids=str)
def test_the_logarithm_of_a_sum_of_nothing(shape, axis):
    """As in SciPy, PyTorch and ONNX."""
    x = np.empty(shape, np.float32)
    expected = np.full(x.sum(axis).shape, -np.inf, np.float32)
    for more in ({}, {"where": np.ones(shape, bool)}, {"b": x}):
        assert_same_bits(cxent.logsumexp(x, axis, **more), expected)
    lse, sign = cxent.logsumexp(x, axis, b=x, return_sign=True, keepdims=True)
    assert lse.shape == sign.shape == x.sum(axis, keepdims=True).shape and not sign.any()


@pytest.mark.parametrize("backward", BACKWARD.values())
def test_derivatives_without_elements(backward):
    assert backward(np.empty((3, 0)), np.empty((3, 0))).shape == (3, 0)
    assert cxent.softmax_jacobian(np.empty((3, 0))).shape == (3, 0, 0)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [(40, 3), (5, 100), (3, 300), (2, 5000)], ids=str)
def test_a_temperature_divides_the_logits(shape, dtype):
    """With masks, strides, in place, and where a quotient would be too large."""
    rng = np.random.default_rng(0)
    x = (rng.standard_normal(shape) * 8).astype(dtype)
    mask = rng.random(shape) < 0.7
    mask[0] = False
    for t in (0.25, 0.7, 3, 1e4):
        wide = x.astype(np.float64) / t
        for function in (cxent.softmax, cxent.log_softmax):
            scale = np.abs(wide).max() * 4 * np.finfo(dtype).eps  # (the quotients are rounded)
            assert_allclose(function(x, temperature=t), function(wide), rtol=scale + RTOL[x.dtype.name], atol=scale)
            found = function(x, temperature=t, where=mask)
            assert_allclose(found, function(wide, where=mask), rtol=scale + RTOL[x.dtype.name], atol=scale)
            y = np.asfortranarray(x)
            assert function(y, temperature=t, out=y) is y
            assert_allclose(y, function(x, temperature=t), rtol=scale + RTOL[x.dtype.name], atol=scale)
    large = np.array([[np.finfo(dtype).max, 0, -np.finfo(dtype).max]], dtype)
    assert (cxent.softmax(large, temperature=1e-3) == [1, 0, 0]).all()
    assert_same_bits(cxent.softmax(x, temperature=np.float64(1)), cxent.softmax(x))


@pytest.mark.once
@pytest.mark.parametrize("temperature", [0, -1, np.inf, np.nan, True, "1", None], ids=str)
def test_temperatures_that_are_none(temperature):
    with pytest.raises((TypeError, ValueError), match="temperature must be"):
        cxent.softmax([1.0, 2.0], temperature=temperature)


@pytest.mark.parametrize("function", SOFTMAXES)
@pytest.mark.parametrize("shape", [(7, 5), (3, 4, 150)])
@pytest.mark.parametrize("dtype", [*FLOATS, *HALVES])
def test_a_temperature_for_each_row(dtype, shape, function, share_small_calls):
    """The bits of each row with its own number, whatever the shape it is given in and wherever the result is put."""
    rng = np.random.default_rng(0)
    x = (5 * rng.standard_normal(shape)).astype(dtype)
    mask = rng.random(shape) < 0.7
    temperatures = rng.choice([0.25, 0.75, 2.0, 3.5], shape[:-1])
    for where in (None, mask):
        with unchanged(x, temperatures):
            found = function(x, temperature=temperatures, where=where)
        assert found.dtype == dtype
        for row in np.ndindex(shape[:-1]):
            of_row = None if where is None else where[row]
            assert_same_bits(found[row], function(x[row], temperature=temperatures[row], where=of_row))
        assert_same_bits(function(x, temperature=temperatures.astype(dtype), where=where), found)
        in_place = x.copy()
        function(in_place, temperature=temperatures.tolist(), where=where, out=in_place)
        assert_same_bits(in_place, found)
    across = function(np.moveaxis(x, -1, 0).copy(), axis=0, temperature=temperatures, where=np.moveaxis(mask, -1, 0))
    rtol = 1e-2 if x.itemsize == 2 else 1e-5
    assert_allclose(np.moveaxis(across, 0, -1).astype(float), found.astype(float), rtol=rtol, atol=1e-6)
    if x.itemsize > 2:
        p, log_p, _ = softmax_by_definition(x / temperatures[..., np.newaxis], -1)
        expected = p if function is cxent.softmax else log_p
        assert_allclose(function(x, temperature=temperatures), expected, rtol=RTOL[x.dtype.name], atol=1e-30)
    share_small_calls(20)
    assert_same_bits(function(x, temperature=temperatures, where=mask, workers=3), found)


def test_temperatures_of_rows_broadcast():
    x = np.random.default_rng(0).standard_normal((4, 3, 6))
    for temperature in ([0.5, 1, 2], [[0.5], [1], [2], [1]], np.full((), 3.0), [2.0], np.float32([[1, 2, 3]])):
        whole = np.broadcast_to(np.asarray(temperature, float), (4, 3))
        assert_allclose(
            cxent.softmax(x, temperature=temperature), cxent.softmax(x / whole[..., np.newaxis]), rtol=1e-13
        )
    of_two_axes = cxent.log_softmax(x, (0, 2), temperature=[0.5, 1, 2])
    assert_allclose(of_two_axes, cxent.log_softmax(x / np.array([0.5, 1, 2])[:, np.newaxis], (0, 2)), rtol=1e-13)
    assert_allclose(cxent.softmax(x, None, temperature=np.array(2.0)), cxent.softmax(x / 2, None), rtol=1e-13)
    assert cxent.softmax(np.zeros((0, 3)), temperature=np.ones(0)).shape == (0, 3)


@pytest.mark.parametrize("temperature", [1e-30, 1e30])
def test_extreme_temperatures_of_rows(temperature):
    x = np.array([[1, 2, 3], [0, 0, -1]], np.float32)
    assert_same_bits(
        cxent.softmax(x, temperature=[temperature, temperature]), cxent.softmax(x, temperature=temperature)
    )


@pytest.mark.parametrize(
    ("temperature", "error", "message"),
    [
        ([1.0, 0.0], ValueError, "temperature[1] must be a number from 1e-30 to 1e30, got 0.0"),
        ([[-1], [2]], ValueError, "temperature[0, 0] must be a number from 1e-30 to 1e30, got -1"),
        (np.array([1, np.nan]), ValueError, "temperature[1] must be a number from 1e-30 to 1e30, got nan"),
        (np.array([np.inf, 1]), ValueError, "temperature[0] must be a number from 1e-30 to 1e30, got inf"),
        (np.array(1e31), ValueError, "temperature must be a number from 1e-30 to 1e30, got 1e+31"),
        (np.ones(3), ValueError, "temperature must have a shape that broadcasts to (2,) (one per row), got (3,)"),
        (
            np.ones((2, 1)),
            ValueError,
            "temperature must have a shape that broadcasts to (2,) (one per row), got (2, 1)",
        ),
        ([True, True], TypeError, "temperature must have a real dtype (one number for each row), got bool"),
        (np.ones(2, complex), TypeError, "temperature must have ..., got complex128"),
        (["1", "2"], TypeError, "temperature must have ..., got <U1"),
        ("warm", TypeError, "temperature must be a number from 1e-30 to 1e30, got 'warm'"),
        (None, TypeError, "temperature must be a number from 1e-30 to 1e30, got None"),
        (True, TypeError, "temperature must be a number from 1e-30 to 1e30, got True"),
        (0, ValueError, "temperature must be a number from 1e-30 to 1e30, got 0"),
    ],
)
def test_bad_temperatures(temperature, error, message):
    x = np.zeros((2, 3))
    for call in (*SOFTMAXES, lambda x, temperature: cxent.token_logprobs(x, [0, 1], temperature=temperature)):
        with pytest.raises(error, match="^" + re.escape(message).replace(re.escape("..."), ".*")):
            call(x, temperature=temperature)


def test_temperatures_of_rows_have_no_cap():
    with pytest.raises(ValueError, match=r"^temperature must be one number with a softcap, got ndarray"):
        cxent.token_logprobs(np.zeros((2, 3)), [0, 1], temperature=np.ones(2), softcap=3.0)
    with pytest.raises(TypeError, match=r"^temperature must be a number"):
        cxent.perplexity(np.zeros((2, 3)), [0, 1], temperature=np.ones(2))
