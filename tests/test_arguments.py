"""One contract for every argument: what is accepted does not depend on the function, nor on earlier calls."""

import sys
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from helpers import loss_by_definition
from numpy.testing import assert_allclose, assert_array_equal

import cxent
from cxent.kernels import threads

X = np.zeros((2, 3))
LABELS = [0, 1]
SOFTMAXES = [cxent.softmax, cxent.log_softmax, cxent.logsumexp]
LOSSES = [
    cxent.cross_entropy,
    cxent.cross_entropy_with_grad,
    cxent.cross_entropy_with_hess,
    cxent.cross_entropy_from_probs,
    cxent.cross_entropy_from_probs_with_grad,
]


class Unhashable(float):
    __hash__ = None


NO_NUMBERS = [
    0j,
    1 + 0j,
    np.complex64(0),
    True,
    False,
    np.True_,
    np.False_,
    np.timedelta64(0, "D"),
    np.timedelta64(1, "s"),
    np.datetime64(0, "s"),
    np.zeros(()),
    np.ones(1),
    [1.0],
    {},
    "0",
    b"1",
]


@pytest.mark.parametrize("option", ["label_smoothing", "z_loss", "softcap", "temperature"])
@pytest.mark.parametrize("value", NO_NUMBERS, ids=lambda value: f"{type(value).__name__} {value}")
def test_what_is_no_number_is_refused_whatever_was_seen_before(option, value):
    accepted = {"label_smoothing": 0.0, "z_loss": 0.0, "softcap": 1.0, "temperature": 1.0}
    for _ in range(2):
        with pytest.raises(TypeError, match=rf"^{option} must be .*, got "):
            cxent.cross_entropy(X, LABELS, **{option: value})
        for number in (accepted[option], 1, 1.0):
            cxent.cross_entropy(X, LABELS, **{option: number})


def test_numbers_of_any_type():
    logits = np.random.default_rng(0).standard_normal((2, 3))
    expected = cxent.cross_entropy(logits, LABELS, label_smoothing=0.5, temperature=2.0)
    for half, two in (
        (np.float32(0.5), np.int8(2)),
        (Fraction(1, 2), 2),
        (np.float16(0.5), np.uint64(2)),
        (Unhashable(0.5), Unhashable(2)),
    ):
        assert cxent.cross_entropy(logits, LABELS, label_smoothing=half, temperature=two) == expected


NO_INTEGERS = [True, False, np.True_, 1.0, 0j, "1", np.timedelta64(1, "s"), np.ones(2, int), [0], {}]


@pytest.mark.parametrize("value", NO_INTEGERS, ids=lambda value: f"{type(value).__name__} {value}")
def test_what_is_no_integer(value):
    for _ in range(2):
        for function in SOFTMAXES:
            with pytest.raises(TypeError, match=r"^axis must .*got .*"):
                function(X, value)
            with pytest.raises(TypeError, match=r"^axis must .*got .*"):
                function(X, (0, value))
            with pytest.raises(TypeError, match=r"^workers must .*got .*"):
                function(X, workers=value)
        for function in LOSSES:
            for option in ("axis", "ignore_index", "workers"):
                with pytest.raises(TypeError, match=rf"^{option} must .*got .*"):
                    function(X, LABELS, **{option: value})
                function(X, LABELS, **{option: 1})
        with pytest.raises(TypeError, match=r"^axis must "):
            cxent.softmax_jacobian(X, value)
        with pytest.raises(TypeError, match=r"^axis must "):
            cxent.softmax_backward(X, X, value)
        with pytest.raises(TypeError, match=r"^workers must "):
            cxent.log_softmax_backward(X, X, workers=value)


class Raises:
    def __array__(self, dtype=None, copy=None):
        raise KeyError("no data")


ARRAYS = {
    "where": lambda a: cxent.softmax(X, where=a),
    "where of log_softmax": lambda a: cxent.log_softmax(X, where=a),
    "where of logsumexp": lambda a: cxent.logsumexp(X, where=a),
    "where with factors": lambda a: cxent.logsumexp(X, where=a, b=2.0),
    "x": cxent.softmax,
    "b": lambda a: cxent.logsumexp(X, b=a),
    "grad_output": lambda a: cxent.softmax_backward(a, X),
    "output": lambda a: cxent.log_softmax_backward(X, a),
    "p": cxent.softmax_jacobian,
    "logits": lambda a: cxent.cross_entropy(a, LABELS),
    "probs": lambda a: cxent.cross_entropy_from_probs(a, LABELS),
    "target": lambda a: cxent.cross_entropy(X, a),
    "v": lambda a: cxent.cross_entropy_hvp(X, LABELS, a),
    "weight": lambda a: cxent.cross_entropy_from_probs(X, LABELS, weight=a),
    "sample_weight": lambda a: cxent.cross_entropy(X, LABELS, sample_weight=a),
    "logits_p": lambda a: cxent.kl_divergence(a, X),
    "logits_q": lambda a: cxent.js_divergence_with_grad(X, a),
    "where of kl_divergence": lambda a: cxent.kl_divergence(X, X, where=a),
    "sample_weight of js_divergence": lambda a: cxent.js_divergence(X, X, sample_weight=a),
    "logits of a part": cxent.sharded.part,
    "labels": lambda a: cxent.boosting.softmax_objective("exact")(a, X),
    "scores": lambda a: cxent.boosting.softmax_objective("exact")(LABELS, a),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_every_array_goes_the_same_way(name):
    argument = name.split()[0]
    for bad, error in (([[1], [1, 2]], ValueError), (Raises(), TypeError)):
        message = rf"^{argument} cannot be converted to an array, got {type(bad).__name__}"
        with pytest.raises(error, match=message):
            ARRAYS[name](bad)
    with pytest.raises(TypeError, match=rf"^{argument} must not be a masked array"):
        ARRAYS[name](np.ma.masked_array(X, X == 1))
    for bad in (X.astype(object), X.astype(str), X.astype("M8[s]")):
        with pytest.raises(TypeError, match=rf"^{argument} must have .*dtype.*, got "):
            ARRAYS[name](bad)


@pytest.mark.parametrize("name", ARRAYS)
def test_a_tensor_that_needs_a_gradient(name):
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match=rf"^{name.split()[0]} cannot be converted to an array, got Tensor"):
        ARRAYS[name](torch.zeros((2, 3), requires_grad=True))


@pytest.mark.skipif(not hasattr(np.dtypes, "StringDType"), reason="this NumPy has no StringDType")
def test_out_of_strings():
    for dtype in ("U3", "S8", np.dtypes.StringDType(), "V8", object):
        out = np.zeros((2, 3), dtype)
        with pytest.raises(TypeError, match=r"^out must .*got .*"):
            cxent.softmax(X, out=out)
        with pytest.raises(TypeError, match=r"^out must .*got .*"):
            cxent.cross_entropy_with_grad(X, LABELS, out=out)


@pytest.mark.skipif(int(np.__version__.split(".")[0]) < 2, reason="this NumPy has 32 dimensions")
@pytest.mark.parametrize("axis", [-1, 0, 30])
def test_64_dimensions(axis):
    shape = [1] * 64
    shape[axis] = 3
    flat = np.random.default_rng(0).standard_normal(3)
    x = flat.reshape(shape)
    labels = np.ones([1] * 63, int)
    assert_array_equal(cxent.softmax(x, axis).ravel(), cxent.softmax(flat))
    assert_array_equal(cxent.softmax(x, axis, where=x == x, out=np.empty_like(x)).ravel(), cxent.softmax(flat))
    assert_array_equal(cxent.logsumexp(x, axis, b=x).ravel(), cxent.logsumexp(flat, b=flat))
    assert_array_equal(cxent.logsumexp(x, axis, keepdims=True).shape, (1,) * 64)
    assert_array_equal(cxent.softmax_backward(x, x, axis).ravel(), cxent.softmax_backward(flat, flat))
    for found, expected in zip(
        cxent.cross_entropy_with_grad(x, labels, axis=axis, sample_weight=labels, weight=[1, 2, 3]),
        cxent.cross_entropy_with_grad(flat, 1, weight=[1, 2, 3]),
        strict=True,
    ):
        assert_allclose(np.ravel(found), np.ravel(expected), rtol=1e-14)
    with pytest.raises(IndexError, match=r"^target\[0, 0.* got 7"):
        cxent.cross_entropy(x, labels * 7, axis=axis)
    with pytest.raises(ValueError, match=r"^p must .*got 64"):
        cxent.softmax_jacobian(x, axis)


def test_labels_of_classes_in_axis_1():
    """PyTorch's shapes with the default axis."""
    labels = np.zeros((4, 7), int)
    for function in LOSSES:
        with pytest.raises(ValueError, match=r"^target must .*got \(4, 7\); did you mean axis=1\?$"):
            function(np.ones((4, 3, 7)), labels)
        with pytest.raises(ValueError, match=r"^target must .*\(class probabilities\).*got .*\)$"):
            function(np.ones((4, 3, 7)), np.zeros((7, 4), int))
    with pytest.raises(ValueError, match=r"did you mean axis=1\?$"):
        cxent.cross_entropy_hvp(np.ones((4, 3, 7, 5)), np.zeros((4, 7, 5), int), np.ones((4, 3, 7, 5)))
    with pytest.raises(ValueError, match=r"did you mean axis=1\?$"):
        cxent.cross_entropy(np.ones((4, 3)), np.zeros(4, int), axis=0)
    with pytest.raises(ValueError, match=r"^target must .*got \(2,\)$"):
        cxent.cross_entropy(np.ones(3), np.zeros(2, int))


# Options of the losses of probabilities


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("soft", [False, True])
def test_weights_of_losses_of_probabilities(dtype, reduction, soft):
    """Those of logits are the logarithms of probabilities, and the gradient goes through the softmax."""
    rng = np.random.default_rng(0)
    p = np.moveaxis(rng.dirichlet(np.ones(5), (3, 4)), -1, 1).astype(dtype)
    exact = p.astype(np.float64)
    exact /= exact.sum(axis=1, keepdims=True)
    q = np.moveaxis(rng.dirichlet(np.ones(5), (3, 4)), -1, 1)
    target = q if soft else rng.integers(0, 5, (3, 4))
    chosen = {"weight": [1, 2, 0, 3, -0.5], "sample_weight": rng.uniform(0.5, 2, (3, 1)), "reduction": reduction}
    if not soft:
        chosen["ignore_index"] = 3
    everywhere = {**chosen, "sample_weight": np.broadcast_to(chosen["sample_weight"], (3, 4))}
    expected, expected_grad, _, _ = loss_by_definition(np.log(exact), target, axis=1, **everywhere)
    loss, grad = cxent.cross_entropy_from_probs_with_grad(p, target, axis=1, **chosen)
    tolerance = {np.float64: 1e-13, np.float32: 1e-6, np.float16: 2e-3}.get(dtype, 2e-2)
    alone = cxent.cross_entropy_from_probs(p, target, axis=1, **chosen)
    assert_array_equal(alone, loss)
    assert_allclose(loss, expected.astype(float), rtol=tolerance, atol=tolerance)
    assert grad.dtype == dtype
    through = cxent.softmax_backward(grad.astype(np.float64), exact, 1)
    assert_allclose(through, expected_grad.astype(float), rtol=5 * tolerance, atol=5 * tolerance)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_that_do_not_count(dtype):
    p = np.array([[0.5, 0.5], [0.0, np.nan], [0.25, 0.75]], dtype)
    loss, grad = cxent.cross_entropy_from_probs_with_grad(p, [0, -1, 1], ignore_index=-1)
    assert_allclose(loss, -(np.log(0.5) + np.log(0.75)) / 2, rtol=1e-6)
    assert_array_equal(grad[1], 0)
    loss, grad = cxent.cross_entropy_from_probs_with_grad(p, [-1, -1, -1], ignore_index=-1)
    assert np.isnan(loss) and not grad.any()
    loss, grad = cxent.cross_entropy_from_probs_with_grad(p, [0, 0, 1], sample_weight=[1, 0, 1], reduction="none")
    assert loss[1] == 0 and not grad[1].any()
    with pytest.raises(ValueError, match=r"^ignore_index must .*got -1 .*\(3, 2\)"):
        cxent.cross_entropy_from_probs(p, p, ignore_index=-1)


def test_weights_of_probabilities_beside_scikit_learn():
    from sklearn import metrics

    rng = np.random.default_rng(0)
    p, y, s = rng.dirichlet(np.ones(4), 50), rng.integers(0, 4, 50), rng.uniform(0.1, 2, 50)
    expected = metrics.log_loss(y, p, sample_weight=s, labels=range(4))
    assert_allclose(cxent.cross_entropy_from_probs(p, y, sample_weight=s), expected)


def test_weights_of_probabilities_beside_torch():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    p, y, w = rng.dirichlet(np.ones(4), 50), rng.integers(0, 4, 50), rng.uniform(0.1, 2, 4)
    given = torch.tensor(p, requires_grad=True)
    expected = torch.nn.functional.nll_loss(given.log(), torch.tensor(y), torch.tensor(w), ignore_index=2)
    expected.backward()
    loss, grad = cxent.cross_entropy_from_probs_with_grad(p, y, weight=w, ignore_index=2)
    assert_allclose(loss, expected.item())
    assert_allclose(grad, given.grad.numpy())


def as_tuple(results):
    return results if isinstance(results, tuple) else (results,)


@pytest.mark.parametrize("function", LOSSES)
def test_sample_weights_are_broadcast(function):
    rng = np.random.default_rng(0)
    x = rng.dirichlet(np.ones(3), (4, 5))
    labels = rng.integers(0, 3, (4, 5))
    for weight in (2.0, [0.5], rng.random(5), rng.random((4, 1)), np.float32(3)):
        full = np.broadcast_to(weight, (4, 5)).copy()
        for order in "CF":
            expected = function(np.asarray(x, order=order), labels, sample_weight=full)
            found = function(np.asarray(x, order=order), labels, sample_weight=weight)
            for a, b in zip(as_tuple(found), as_tuple(expected), strict=True):
                assert_array_equal(a, b)
    empty = function(np.ones((0, 3)), np.zeros(0, int), sample_weight=1.0, reduction="none")
    assert as_tuple(empty)[0].shape == (0,)


# Workers everywhere


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("shape", "axis"), [((3000, 3), 1), ((7, 5000), 1), ((7, 900), 0), ((2, 21, 20, 30), 1)])
def test_same_bits_for_any_number_of_workers(share_small_calls, shape, axis, dtype):
    share_small_calls(1000)
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape).astype(dtype)
    p, b = cxent.softmax(x, axis), rng.standard_normal(shape).astype(dtype)
    rows = np.delete(shape, axis)
    labels, s = rng.integers(0, shape[axis], rows), rng.random(rows)
    w = rng.random(shape[axis])

    def results(workers):
        yield cxent.softmax_backward(x, p, axis, workers=workers)
        yield cxent.log_softmax_backward(p, x, axis, workers=workers)
        in_place = x.copy()
        yield cxent.softmax_backward(in_place, p, axis, out=in_place, workers=workers)
        yield from cxent.logsumexp(x, axis, b=b, return_sign=True, workers=workers)
        for target in (labels, b):
            for reduction in ("mean", "sum", "none"):
                chosen = {"weight": w, "sample_weight": s, "reduction": reduction, "workers": workers}
                yield cxent.cross_entropy_from_probs(p, target, axis=axis, **chosen)
                yield from cxent.cross_entropy_from_probs_with_grad(p, target, axis=axis, **chosen)

    for number in (2, 3, -1):
        for one, several in zip(results(1), results(number), strict=True):
            assert np.asarray(one).tobytes() == np.asarray(several).tobytes()


def test_every_function_shares_its_rows(kernels, share_small_calls):
    if kernels.name == "python":
        pytest.skip("the pure kernels know no threads")
    share_small_calls(10)
    x, labels = np.ones((100, 3)), np.zeros(100, int)
    part = cxent.sharded.part(x, labels)
    for call in (
        lambda: cxent.softmax(x, workers=3),
        lambda: cxent.softmax(x.T, 0, workers=3),
        lambda: cxent.log_softmax(x, workers=3),
        lambda: cxent.logsumexp(x, workers=3),
        lambda: cxent.softmax_backward(x, x, workers=3),
        lambda: cxent.log_softmax_backward(x, x, workers=3),
        lambda: cxent.logsumexp(x, b=x, workers=3),
        lambda: cxent.cross_entropy(x, labels, workers=3),
        lambda: cxent.cross_entropy(x.T, labels, axis=0, workers=3),
        lambda: cxent.cross_entropy_from_probs(x, labels, workers=3),
        lambda: cxent.cross_entropy_from_probs_with_grad(x, labels, workers=3),
        lambda: cxent.cross_entropy_hvp(x, labels, x, workers=3),
        lambda: cxent.token_logprobs(x, labels, workers=3),
        lambda: cxent.perplexity(x, labels, workers=3),
        lambda: cxent.kl_divergence(x, x, workers=3),
        lambda: cxent.js_divergence_with_grad(x, x, workers=3),
        lambda: cxent.sharded.part(x, labels, workers=3),
        lambda: cxent.sharded.softmax(x, part, workers=3),
        lambda: cxent.sharded.grad(x, part, labels, workers=3),
    ):
        before = threads.shared_jobs()
        call()
        assert threads.shared_jobs() == before + 1


# One rule of dtypes


def test_python_numbers_follow_the_other_dtype():
    half = np.zeros(3, np.float16)
    for x, b, dtype in (
        (np.float32([1, 2]), 2.0, np.float32),
        (np.float32([1, 2]), 2, np.float32),
        (np.float32([1, 2]), True, np.float32),
        (np.float64([1, 2]), 2.0, np.float64),
        (half, 2.0, np.float32),
        (half, half, np.float32),
        (half.astype(ml_dtypes.bfloat16), half, np.float32),
        (half, np.float64(2), np.float64),
        (np.float32([1, 2]), np.float64(2), np.float64),
        (np.float32([1, 2]), np.int32(2), np.float64),
        (np.float32([1, 2]), [2.0, 1.0], np.float64),
        (1.0, np.float32([1, 2]), np.float32),
        ([1, 2], 2, np.float64),
    ):
        assert cxent.logsumexp(x, b=b).dtype == dtype
    assert cxent.logsumexp(1.0, None, b=2).dtype == np.float64
    assert cxent.softmax_backward(1.0, np.float32(1), ()).dtype == np.float32


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_jacobian_along_any_axis(axis, dtype):
    p = cxent.softmax(np.random.default_rng(0).standard_normal((2, 3, 4)), axis).astype(dtype)
    rows = np.moveaxis(p, axis, -1)
    jacobian = cxent.softmax_jacobian(p, axis)
    assert jacobian.dtype == dtype
    assert_array_equal(jacobian, cxent.softmax_jacobian(rows))
    assert jacobian.shape == (*rows.shape, rows.shape[-1])
    expected = rows[..., np.newaxis] * np.eye(rows.shape[-1]) - rows[..., np.newaxis] * rows[..., np.newaxis, :]
    assert_allclose(jacobian, expected, rtol=1e-2 if dtype == np.float16 else 1e-5, atol=1e-7)


def test_show_config(kernels):
    config = cxent.show_config(mode="dicts")
    assert config["versions"] == {
        "cxent": cxent.__version__,
        "numpy": np.__version__,
        "python": sys.version.split()[0],
    }
    assert config["kernels"]["in_use"] == kernels.name
    assert config["kernels"]["available"] == cxent.kernels.available()
    assert type(config["kernels"]["forced"]) is bool
    for mode in ("dict", None, ["dicts"]):
        with pytest.raises(ValueError, match=r"^mode must .*got .*"):
            cxent.show_config(mode)
