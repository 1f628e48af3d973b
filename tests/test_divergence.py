"""Divergences of two softmaxes: against exact values, their definitions, and their limits."""

import numpy as np
import pytest
from helpers import FLOATS, HALVES, assert_same_bits, unchanged
from hypothesis import given
from hypothesis import strategies as st
from layouts import logits_and_axes
from mpmath import mp, mpf

import cxent
from cxent import js_divergence, js_divergence_with_grad, kl_divergence, kl_divergence_with_grad

CLASSES = [1, 2, 3, 10, 16, 17, 64, 65, 100, 257, 1000]
KINDS = {
    "forward": {"direction": "forward"},
    "reverse": {"direction": "reverse"},
    "half": {"beta": 0.5},
    "little": {"beta": 0.01},
    "much": {"beta": 0.999},
}


def with_grad(p, q, kind, **options):
    function = js_divergence_with_grad if "beta" in KINDS[kind] else kl_divergence_with_grad
    return function(p, q, **KINDS[kind], **options)


def alone(p, q, kind, **options):
    function = js_divergence if "beta" in KINDS[kind] else kl_divergence
    return function(p, q, **KINDS[kind], **options)


def exact(logits_p, logits_q, kind, temperature=1):
    """The divergence of one row and its gradient, by the definition."""

    def softmax_of(logits):
        x = [mpf(float(v)) / temperature for v in logits]
        top = max(x)
        e = [mp.exp(v - top) for v in x]
        total = mp.fsum(e)
        return [v / total for v in e]

    def entropy(a, b):
        return mp.fsum(v * mp.log(v / w) if w else mp.inf for v, w in zip(a, b, strict=True) if v)

    p, q = softmax_of(logits_p), softmax_of(logits_q)
    if kind == "forward":
        return entropy(p, q), [(b - a) / temperature for a, b in zip(p, q, strict=True)]
    beta = mpf(KINDS[kind].get("beta", 0))
    m = [beta * a + (1 - beta) * b for a, b in zip(p, q, strict=True)] if beta else p
    of_q = entropy(q, m)
    loss = beta * entropy(p, m) + (1 - beta) * of_q if beta else of_q
    logs = [mp.log(b / c) if b else 0 for b, c in zip(q, m, strict=True)]
    return loss, [(1 - beta) * b * (v - of_q) / temperature for b, v in zip(q, logs, strict=True)]


def by_definition(p, q, kind, axis=-1):
    """The divergences of rows in float64, without care for small ones."""
    p, q = (cxent.softmax(np.asarray(a, np.float64), axis) for a in (p, q))
    if kind == "forward":
        terms = p * np.log(p / q)
    elif kind == "reverse":
        terms = q * np.log(q / p)
    else:
        beta = KINDS[kind]["beta"]
        m = beta * p + (1 - beta) * q
        terms = beta * p * np.log(p / m) + (1 - beta) * q * np.log(q / m)
    return terms.sum(axis=axis)


@pytest.mark.parametrize("distance", [1e-6, 1e-4, 1e-2, 1.0, 10.0])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_exact_values(dtype, kind, distance):
    rng = np.random.default_rng(0)
    for classes in (2, 3, 10, 40, 100):
        p = (3 * rng.standard_normal(classes)).astype(dtype)
        q = (p + distance * rng.standard_normal(classes)).astype(dtype)
        loss, grad = with_grad(p, q, kind)
        true, slope = exact(p, q, kind)
        scale = max(map(abs, slope))
        eps = float(np.finfo(dtype).eps)
        assert abs(loss - true) <= 12 * eps * true
        reach = float(max(np.ptp(p), np.ptp(q)))  # the rounding of the shift
        assert all(abs(float(g) - s) <= (12 + reach) * eps * scale for g, s in zip(grad, slope, strict=True))
        assert_same_bits(alone(p, q, kind), loss)


@pytest.mark.parametrize("offset", [0.0, 4096.0])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [2, 10, 100, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_small_divergence_has_its_digits(size, kind, offset):
    rng = np.random.default_rng(1)
    p = (rng.standard_normal(1000) * 3 + offset).astype(np.float32)
    step = np.spacing(np.float32(offset)) if offset else np.float32(2e-6)
    q = p + rng.integers(-2, 3, 1000).astype(np.float32) * step
    true = exact(p[:size], q[:size], kind)[0]
    found = alone(p[:size], q[:size], kind)
    assert true < (1e-10 if not offset else 1e-5)
    assert abs(found - true) <= 1e-5 * true


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("classes", [3, 40, 300])
def test_an_offset_between_the_two_costs_no_digits(classes, kind):
    """The differences of the logits are no numbers of their dtype then."""
    rng = np.random.default_rng(9)
    q = (3 * rng.standard_normal(classes)).astype(np.float32)
    p = (q + 100.3 + 1e-3 * rng.standard_normal(classes)).astype(np.float32)
    for a, b in ((p, q), (q, p)):
        true = exact(a, b, kind)[0]
        assert abs(alone(a, b, kind) - true) <= 2e-6 * true


def assert_close_gradient(p, q, kind, reach, temperature=1.0):
    """Within 16 ulp of the largest number, and the rounding of the shift."""
    grad = with_grad(p, q, kind, temperature=temperature)[1]
    with mp.workprec(400):
        slope = exact(p, q, kind, temperature)[1]
    scale = max(map(abs, slope))
    bound = (16 + reach / temperature) * float(np.finfo(q.dtype).eps) * scale
    assert all(abs(float(g) - s) <= bound for g, s in zip(grad, slope, strict=True))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("p", "q"),
    [
        ([0.1, 0.2, 0.5], [0.1 + 3e-8, 0.2, -np.inf]),
        ([0.1, 0.2, 0.3, 12], [0.1 + 1e-5, 0.2, 0.3 - 1e-5, -30]),
        ([0, 0.25, 0.5], [0, 0.25 + 2**-20, -np.inf]),
        ([0, 0.25, 0.5, 3], [0, 0.25 + 2**-20, -np.inf, -40]),
        ([0, 0.25, -np.inf, -300], [100.3, 100.55, 100.1, 99]),
        ([-50, -50.25, 0], [0, -0.25 + 2**-20, -60]),
        ([-np.inf, -np.inf, 0, 1], [1, 0.5, 0, 0]),
    ],
)
def test_gradient_where_q_is_p_but_for_some_classes(p, q, dtype, kind):
    p, q = np.array(p, dtype), np.array(q, dtype)
    lacked = kind == "reverse" and (np.isneginf(p) & np.isfinite(q)).any()
    if not lacked:  # (the divergence is infinite then)
        for temperature in (1.0, 2.0):
            assert_close_gradient(p, q, kind, 60 if p.min() < -40 or q.max() > 40 else 3, temperature)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("classes", [3, 17, 130])
def test_gradient_where_the_rest_is_nearly_proportional(classes, dtype, kind):
    rng = np.random.default_rng(10)
    for distance in (1e-6, 1e-3):
        p = (0.5 * rng.standard_normal(classes)).astype(dtype)
        q = (p + distance * rng.standard_normal(classes)).astype(dtype)
        p[0], q[0] = rng.choice([0, 3, 15]), rng.choice([-np.inf, -20, -60])
        if classes > 3:
            p[1] = -5
        assert_close_gradient(p, q, kind, 6)


@pytest.mark.parametrize("temperature", [1.0, 0.3, 5.0])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [*FLOATS, *HALVES])
def test_equal_logits_have_no_divergence(dtype, kind, temperature):
    rng = np.random.default_rng(2)
    for classes in CLASSES:
        x = (5 * rng.standard_normal((5, classes))).astype(dtype)
        loss, grad = with_grad(x, x, kind, temperature=temperature, reduction="none")
        assert not loss.any()
        assert not grad.any()
        assert grad.dtype == dtype


@given(st.data())
def test_never_negative(data):
    size = data.draw(st.integers(1, 40))
    numbers = st.floats(-100, 100, width=32)
    p = np.array(data.draw(st.lists(numbers, min_size=size, max_size=size)), np.float32)
    q = p + np.array(data.draw(st.lists(st.sampled_from([0, 1e-7, 1e-3, 5, -80]), min_size=size, max_size=size)))
    for kind in KINDS:
        assert alone(p, q.astype(np.float32), kind) >= 0


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [*FLOATS, *HALVES])
def test_axes_and_dtypes(dtype, kind, axis):
    rng = np.random.default_rng(3)
    for classes in CLASSES:
        shape = [3, 5]
        shape.insert(axis, classes)
        p, q = (2 * rng.standard_normal((2, *shape))).astype(dtype)
        with unchanged(p, q):
            loss, grad = with_grad(p, q, kind, axis=axis, reduction="none")
        assert loss.dtype == (np.float64 if dtype is np.float64 else np.float32)
        tolerance = 1e-12 if dtype is np.float64 else 1e-4
        np.testing.assert_allclose(loss, by_definition(p, q, kind, axis), rtol=tolerance, atol=tolerance / 100)
        assert grad.dtype == dtype
        assert grad.shape == q.shape
        again, of_moved = with_grad(np.moveaxis(p, axis, -1).copy(), np.moveaxis(q, axis, -1).copy(), kind)
        assert np.isclose(again, loss.mean(), rtol=1e-4, atol=1e-6)
        close = np.moveaxis(of_moved.astype(float), -1, axis) * 15
        atol = {"float64": 1e-14, "float32": 1e-6}.get(grad.dtype.name, 1e-2)
        np.testing.assert_allclose(grad.astype(float), close, rtol=1e-2, atol=atol)


@given(st.data())
def test_any_layout(data):
    p, axis = data.draw(logits_and_axes())
    q = np.roll(p, 1, axis=axis) * 0.5
    q = np.asarray(q, p.dtype if p.dtype.kind == "f" else np.float64)
    kind = data.draw(st.sampled_from(list(KINDS)))
    found = alone(p, q, kind, axis=axis, reduction="none")
    np.testing.assert_allclose(found, by_definition(p, q, kind, axis), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("classes", [3, 20, 300])
def test_central_differences(classes, kind, temperature):
    rng = np.random.default_rng(4)
    p, q = 2 * rng.standard_normal((2, 2, classes))
    s = np.array([0.5, 2.0])
    options = {"temperature": temperature, "sample_weight": s}
    loss, grad = with_grad(p, q, kind, **options)
    h = 1e-5
    for j in range(min(classes, 20)):
        step = np.zeros_like(q)
        step[1, j] = h
        slope = (alone(p, q + step, kind, **options) - alone(p, q - step, kind, **options)) / (2 * h)
        assert np.isclose(grad[1, j], slope, rtol=1e-6, atol=1e-9)
    rows = alone(p, q, kind, temperature=temperature, reduction="none")
    assert np.isclose(loss, (rows * s).sum() / s.sum(), rtol=1e-12)


@pytest.mark.parametrize("classes", [5, 50, 300])
@pytest.mark.parametrize("kind", KINDS)
def test_masks(kind, classes):
    rng = np.random.default_rng(5)
    p, q = 2 * rng.standard_normal((2, 6, classes))
    mask = rng.random((6, classes)) < 0.6
    mask[2] = False
    mask[:, 1] |= np.arange(6) != 2
    p[:, 0] = np.where(mask[:, 0], p[:, 0], np.nan)  # what takes no part may be anything
    loss, grad = with_grad(p, q, kind, where=mask, reduction="none")
    assert loss[2] == 0
    assert not grad[2].any()
    assert not grad[~mask].any()
    for r in (0, 1, 3, 4, 5):
        part, slope = with_grad(p[r, mask[r]], q[r, mask[r]], kind)
        np.testing.assert_allclose(loss[r], part, rtol=1e-12)
        np.testing.assert_allclose(grad[r, mask[r]], slope, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("classes", [4, 40, 300])
@pytest.mark.parametrize("kind", KINDS)
def test_special_values(kind, classes):
    rng = np.random.default_rng(6)
    p, q = 2 * rng.standard_normal((2, 7, classes)).astype(np.float32)
    plain, slope = with_grad(p, q, kind, reduction="none")
    p[0, 1] = q[0, 1] = -np.inf  # a class that both lack
    p[1, 1] = -np.inf
    q[2, 1] = -np.inf
    p[3, 0] = np.nan
    q[4, 0] = np.inf
    p[5] = -np.inf
    loss, grad = with_grad(p, q, kind, reduction="none")
    assert np.isfinite(loss[0])
    assert np.isfinite(grad[0]).all()
    assert (grad[0, 1], np.isfinite(loss[1])) == (0, kind != "reverse")
    assert np.isfinite(loss[2]) == (kind != "forward")
    assert np.isfinite(grad[2]).all()
    assert np.isnan(loss[3:6]).all()
    assert np.isnan(grad[3:6]).all()
    assert_same_bits(loss[6], plain[6])
    assert_same_bits(grad[6], slope[6])
    weighted, slope = with_grad(p, q, kind, sample_weight=[1, 0, 1, 0, 0, 0, 1], reduction="none")
    assert not weighted[[1, 3, 4, 5]].any()
    assert not slope[[1, 3, 4, 5]].any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_finite_where_probabilities_underflow(dtype, kind):
    p = np.array([[0.0, -1e4, -2e4], [-1e30, 0.0, 3.0]], dtype)
    q = np.array([[-2e4, -1e4, 0.0], [0.0, -1e30, 3.0]], dtype)
    loss, grad = with_grad(p, q, kind, reduction="none")
    assert np.isfinite(loss).all()
    assert (loss > 0).all()
    assert np.isfinite(grad).all()


@pytest.mark.parametrize("kind", ["half", "little", "much"])
def test_distributions_apart(kind):
    beta = KINDS[kind]["beta"]
    found = alone([0.0, -np.inf, -np.inf], [-np.inf, 0.0, 0.0], kind)
    assert np.isclose(found, -beta * np.log(beta) - (1 - beta) * np.log1p(-beta), rtol=1e-14)


@pytest.mark.parametrize("kind", KINDS)
def test_large_differences_are_no_overflow(kind):
    p = np.array([3e38, -3e38, 0.0], np.float32)
    assert np.isfinite(alone(p, p, kind))
    loss, grad = with_grad(p, -p, kind, temperature=1e30)
    assert np.isfinite(loss)
    assert np.isfinite(grad).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("classes", [3, 70, 300])
def test_same_bits_in_any_batch(classes, kind, share_small_calls):
    rng = np.random.default_rng(7)
    p, q = 3 * rng.standard_normal((2, 130, classes)).astype(np.float32)
    loss, grad = with_grad(p, q, kind, reduction="none")
    some = slice(17, 60)
    part, slope = with_grad(p[some].copy(), q[some].copy(), kind, reduction="none")
    assert_same_bits(part, loss[some])
    assert_same_bits(slope, grad[some])
    for out in (q.copy(), p.copy(), np.empty_like(q)):
        inputs = (out, q) if np.array_equal(out, p) else (p, out) if np.array_equal(out, q) else (p, q)
        found, slope = with_grad(*inputs, kind, reduction="none", out=out)
        assert slope is out
        assert_same_bits(found, loss)
        assert_same_bits(slope, grad)
    total = alone(p, q, kind, reduction="sum")
    share_small_calls(200)
    found, slope = with_grad(p, q, kind, reduction="none", workers=4)
    assert_same_bits(found, loss)
    assert_same_bits(slope, grad)
    assert np.isclose(alone(p, q, kind, reduction="sum", workers=4), total, rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_result_in_the_memory_of_other_inputs(kind):
    rng = np.random.default_rng(8)
    p, q = rng.standard_normal((2, 400, 5))
    weights, mask = rng.random(400) + 0.5, rng.random((400, 5)) < 0.7
    options = {"sample_weight": weights, "where": mask, "reduction": "none"}
    loss, grad = with_grad(p, q, kind, **options)
    out = np.zeros((400, 5))
    for name in ("sample_weight", "where"):
        inside = (
            out.view(options[name].dtype).reshape(-1)[1000 : 1000 + options[name].size].reshape(options[name].shape)
        )
        inside[...] = options[name]
        found, slope = with_grad(p, q, kind, out=out, **{**options, name: inside})
        assert_same_bits(found, loss)
        assert_same_bits(slope, grad)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("beta", [1e-300, 1e-50, 1e-44, 1 - 1e-16])
def test_a_beta_that_is_nearly_none(dtype, beta):
    for p, q in (([0, -np.inf], [-np.inf, 0]), ([0, -200], [-200, 0]), ([1, 2], [2, 1])):
        loss, grad = js_divergence_with_grad(np.array(p, dtype), np.array(q, dtype), beta=beta)
        assert 0 <= loss < 1e-10
        assert np.isfinite(grad).all()


@pytest.mark.once
def test_dtypes_that_differ():
    p = np.array([[1.0, 2.0, 3.0]])
    for dtype in (np.float32, np.float16):
        q = np.array([[3.0, 1.0, 0.0]], dtype)
        loss, grad = kl_divergence_with_grad(p, q)
        assert (loss.dtype, grad.dtype) == (np.float64, np.float64)
    q = np.array([[3.0, 1.0, 0.0]], np.float16)
    loss, grad = kl_divergence_with_grad(p.astype(np.float32), q)
    assert (loss.dtype, grad.dtype) == (np.float32, np.float16)


@pytest.mark.once
def test_no_rows():
    assert np.isnan(kl_divergence(np.ones((0, 3)), np.ones((0, 3))))
    assert kl_divergence(np.ones((0, 3)), np.ones((0, 3)), reduction="sum") == 0
    loss, grad = js_divergence_with_grad(np.ones((0, 3)), np.ones((0, 3)), reduction="none")
    assert loss.shape == (0,)
    assert grad.shape == (0, 3)


@pytest.mark.once
@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"direction": "backward"}, ValueError, "direction must .*got 'backward'"),
        ({"beta": 0.0}, ValueError, "beta must .*got 0.0"),
        ({"beta": 1}, ValueError, "beta must .*got 1"),
        ({"beta": "half"}, TypeError, "beta must .*got 'half'"),
        ({"temperature": 0}, ValueError, "temperature must .*got 0"),
        ({"reduction": "batchmean"}, ValueError, "reduction must .*got 'batchmean'"),
        ({"logits_q": np.ones((2, 4))}, ValueError, r"logits_p and logits_q must .*got \(2, 3\) and \(2, 4\)"),
        ({"logits_p": np.ones((2, 3), complex)}, TypeError, "logits_p must .*got complex128"),
        ({"where": [1, 0, 1]}, TypeError, "where must .*got int64"),
        ({"where": [True, False]}, ValueError, r"where must .*got \(2,\)"),
        ({"sample_weight": [1.0, 2.0, 3.0]}, ValueError, r"sample_weight must .*got \(3,\)"),
        ({"sample_weight": [1.0, np.inf]}, ValueError, "sample_weight must .*got inf"),
        ({"axis": 2}, np.exceptions.AxisError, "axis 2 is out of bounds"),
        ({"workers": 0}, ValueError, "workers must be positive"),
        ({"out": np.ones((2, 3), np.float32)}, TypeError, "out must .*got float32"),
    ],
)
def test_bad_input(changed, error, message):
    function = js_divergence_with_grad if "beta" in changed else kl_divergence_with_grad
    arguments = {"logits_p": np.ones((2, 3)), "logits_q": np.zeros((2, 3)), **changed}
    with pytest.raises(error, match=message):
        function(arguments.pop("logits_p"), arguments.pop("logits_q"), **arguments)
