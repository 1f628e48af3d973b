"""The logistic function, and losses of two classes: beside exact values, differences and PyTorch."""

import numpy as np
import pytest
from helpers import FLOATS, HALVES, assert_same_bits, central_differences
from mpmath import mp, mpf
from numpy.testing import assert_allclose

import cxent

SCORES = [-1e4, -800.0, -90.0, -17.0, -2.5, -1e-3, -0.0, 1e-30, 0.3, 1.0, 3.0, 16.5, 40.0, 100.0, 1e4]


def softplus(x):
    return mp.log1p(mp.exp(x))


def exact_loss(x, label, pos_weight=1.0, smoothing=0.0, gamma=0.0):
    """The loss of a label by its definition, of mpf."""
    if gamma:
        z = x if label else -x
        return (mpf(pos_weight) if label else 1) * mp.exp(-gamma * softplus(z)) * softplus(-z)
    q = (1 - mpf(smoothing)) * label + mpf(smoothing) / 2
    return q * mpf(pos_weight) * softplus(-x) + (1 - q) * softplus(x)


def ulps(found, exact):
    """The errors, in units in the last place of the exact values, or of the smallest normal number."""
    dtype = found.dtype.type
    unit = [max(np.spacing(dtype(abs(float(value)))), np.finfo(dtype).tiny) for value in exact]
    return np.array([float(abs(mpf(float(a)) - b) / mpf(float(u))) for a, b, u in zip(found, exact, unit, strict=True)])


def random_scores(dtype, n=200):
    rng = np.random.default_rng(0)
    return np.concatenate([rng.standard_normal(n) * scale for scale in (0.1, 2, 20)] + [SCORES]).astype(dtype)


@pytest.mark.parametrize("dtype", FLOATS)
def test_logistic_functions_against_exact_values(dtype):
    x = random_scores(dtype)
    exact = [1 / (1 + mp.exp(-mpf(float(value)))) for value in x]
    assert ulps(cxent.sigmoid(x), exact).max() <= 3
    assert ulps(cxent.log_sigmoid(x), [-softplus(-mpf(float(value))) for value in x]).max() <= 2


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("dtype", FLOATS)
def test_losses_of_labels_keep_their_digits(dtype, label):
    x = random_scores(dtype)
    loss, grad, hess = cxent.binary_cross_entropy_with_hess(x, np.full(x.shape, label), reduction="none")
    points = [mpf(float(value)) for value in x]
    p = [1 / (1 + mp.exp(-point)) for point in points]
    assert ulps(loss, [exact_loss(point, label) for point in points]).max() <= 4
    assert (
        ulps(grad, [-1 / (1 + mp.exp(point)) if label else value for point, value in zip(points, p, strict=True)]).max()
        <= 4
    )
    assert ulps(hess, [value / (1 + mp.exp(point)) for point, value in zip(points, p, strict=True)]).max() <= 4


@pytest.mark.parametrize(
    "options",
    [{"pos_weight": 2.5}, {"label_smoothing": 0.1, "pos_weight": 0.25}, {"focal_gamma": 2}, {"focal_gamma": 0.5},
     {"focal_gamma": 7.25, "pos_weight": 3.0}],
    ids=str,
)  # fmt: skip
def test_options_against_exact_values(options):
    rng = np.random.default_rng(1)
    x, labels = rng.uniform(-12, 12, 60), rng.integers(0, 2, 60)
    found = cxent.binary_cross_entropy_with_hess(x, labels, reduction="none", **options)
    given = (options.get("pos_weight", 1.0), options.get("label_smoothing", 0.0), options.get("focal_gamma", 0.0))
    for order, result in enumerate(found):
        exact = [
            mp.diff(lambda t, label=label: exact_loss(t, int(label), *given), mpf(float(value)), order)
            for value, label in zip(x, labels, strict=True)
        ]
        assert_allclose(result, [float(value) for value in exact], rtol=2e-13, atol=1e-16)


def exact_focal_terms(x, label, gamma):
    """The loss, its gradient, and the three terms of its second derivative, of mpf."""
    z = x if label else -x
    p, u, loss = 1 / (1 + mp.exp(-z)), 1 / (1 + mp.exp(z)), softplus(-z)
    factor = u**gamma
    return (
        factor * loss,
        (-1 if label else 1) * factor * (gamma * p * loss + u),
        factor * p * np.array([gamma**2 * p * loss, u * (2 * gamma + 1), -u * gamma * loss]),
    )


@pytest.mark.parametrize("gamma", [0.1, 0.5, 1, 2, 2.5, 7.25, 30, 100])
@pytest.mark.parametrize("dtype", FLOATS)
def test_focal_losses_keep_their_digits(kernels, dtype, gamma):
    """An error of p counts as often as it is multiplied; second derivatives cancel, in units of the largest term."""
    x = random_scores(dtype, 25)
    x = x[np.abs(x) < 80]  # (of others the smaller p is no normal number in float32)
    # (The reference takes the power by an exponential, whose argument is rounded.)
    rounded = gamma * np.abs(x.astype(np.float64)) if kernels.name == "python" else np.zeros(x.shape)
    for label in (0, 1):
        found = cxent.binary_cross_entropy_with_hess(x, np.full(x.shape, label), reduction="none", focal_gamma=gamma)
        exact = [exact_focal_terms(mpf(float(value)), label, mpf(gamma)) for value in x]
        for derivative in (0, 1):
            errors = ulps(found[derivative], [each[derivative] for each in exact])
            assert (errors <= 8 + 2.5 * gamma + rounded).all()
        units = [np.spacing(dtype(float(max(abs(each[2]))))) for each in exact]
        errors = [abs(mpf(float(a)) - sum(each[2])) for a, each in zip(found[2], exact, strict=True)]
        allowed = (8 + 7 * gamma + rounded) * units
        assert all(error <= mpf(float(a)) + 1e-37 for error, a in zip(errors, allowed, strict=True))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("alpha", [-1, 0.25])
@pytest.mark.parametrize("gamma", [0, 0.5, 2, 5])
def test_focal_loss_by_the_formula_of_torchvision(gamma, alpha, reduction):
    """``torchvision.ops.sigmoid_focal_loss``; its alpha weighs label 1, and 1 - alpha label 0."""
    rng = np.random.default_rng(7)
    x, labels = rng.uniform(-9, 9, (20, 3)), rng.integers(0, 2, (20, 3))
    p = 1 / (1 + np.exp(-x))
    p_t = p * labels + (1 - p) * (1 - labels)
    losses = (np.logaddexp(0, x) - x * labels) * (1 - p_t) ** gamma
    options, factor = {}, 1.0
    if alpha >= 0:
        losses = (alpha * labels + (1 - alpha) * (1 - labels)) * losses
        options, factor = {"pos_weight": alpha / (1 - alpha)}, 1 - alpha
    expected = {"mean": losses.mean(), "sum": losses.sum(), "none": losses}[reduction]
    found = cxent.binary_cross_entropy(x, labels, focal_gamma=gamma, reduction=reduction, **options)
    assert_allclose(factor * found, expected, rtol=1e-11)


@pytest.mark.parametrize(
    "options",
    [{}, {"pos_weight": [0.5, 2, 0]}, {"label_smoothing": 0.2}, {"label_smoothing": 1, "pos_weight": 3},
     {"focal_gamma": 0.5}, {"focal_gamma": 2, "pos_weight": [0.5, 2, 0]}, {"focal_gamma": 30}],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_derivatives_by_differences(options, reduction):
    rng = np.random.default_rng(8)
    x, labels, w = rng.uniform(-4, 4, (7, 3)), rng.integers(0, 2, (7, 3)), rng.standard_normal((7, 3))
    call = {"sample_weight": w, "reduction": reduction, **options}
    _, grad, hess = cxent.binary_cross_entropy_with_hess(x, labels, **call)
    shift = np.full_like(x, 1e-5)
    above, below = (cxent.binary_cross_entropy_with_grad(x + s, labels, **call)[1] for s in (shift, -shift))
    assert_allclose(hess, (above - below) / 2e-5, rtol=1e-6, atol=1e-9)
    total = central_differences(lambda y: np.sum(cxent.binary_cross_entropy(y, labels, **call)), x, 1e-5)
    assert_allclose(grad, total, rtol=1e-6, atol=1e-8)


def test_second_derivatives_of_a_focal_loss_can_be_negative():
    _, _, hess = cxent.binary_cross_entropy_with_hess([-4.0], [1], focal_gamma=2)
    assert hess[0] < 0


def test_probabilities_as_targets():
    rng = np.random.default_rng(2)
    x, q = rng.standard_normal((5, 7)) * 5, rng.random((5, 7))
    loss, grad, hess = cxent.binary_cross_entropy_with_hess(x, q, reduction="none")
    p = 1 / (1 + np.exp(-x))
    assert_allclose(loss, -(q * np.log(p) + (1 - q) * np.log1p(-p)), rtol=1e-10)
    assert_allclose(grad, p - q, rtol=1e-12, atol=1e-15)
    assert_allclose(hess, p / (1 + np.exp(x)), rtol=1e-12)


def test_two_classes_are_a_cross_entropy_of_two_logits():
    x, labels = np.linspace(-9, 9, 31), np.arange(31) % 2
    both = np.stack([np.zeros_like(x), x], axis=-1)
    assert_allclose(cxent.binary_cross_entropy(x, labels), cxent.cross_entropy(both, labels), rtol=1e-14)
    assert_allclose(cxent.sigmoid(x), cxent.softmax(both)[:, 1], rtol=1e-14)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_weights_and_what_does_not_count(reduction):
    rng = np.random.default_rng(3)
    x, labels = rng.standard_normal((6, 4)), rng.integers(0, 2, (6, 4))
    weights, by_row = rng.standard_normal((6, 4)), rng.standard_normal(6)
    labels[1, 2], x[1, 2] = -100, np.nan
    weights[3, 0], x[3, 0] = 0, np.nan
    counts = ~np.isnan(x)
    for given in (weights, by_row):
        w = np.broadcast_to(given if given.ndim == 2 else given[:, np.newaxis], x.shape)
        if given.ndim == 1:
            x[3, 0] = 0.5
            counts = ~np.isnan(x)
        loss, grad, hess = cxent.binary_cross_entropy_with_hess(
            x, labels, sample_weight=given, ignore_index=-100, reduction=reduction
        )
        known = np.nan_to_num(x)
        terms = np.where(counts, w * (np.logaddexp(0, known) - labels * known), 0)
        d = w[counts].sum() if reduction == "mean" else 1
        p = 1 / (1 + np.exp(-known))
        assert_allclose(loss, terms if reduction == "none" else terms.sum() / d, rtol=1e-12)
        assert_allclose(grad, np.where(counts, w / d * (p - labels), 0), rtol=1e-12)
        assert_allclose(hess, np.where(counts, w / d * p * (1 - p), 0), rtol=1e-12)


def test_the_mean_of_nothing():
    loss, grad = cxent.binary_cross_entropy_with_grad([np.nan, 2.0], [-1, -1], ignore_index=-1)
    assert np.isnan(loss) and (grad == 0).all()
    loss, grad = cxent.binary_cross_entropy_with_grad(np.zeros((0, 3)), np.zeros((0, 3), int))
    assert np.isnan(loss) and grad.shape == (0, 3)
    assert cxent.binary_cross_entropy(np.zeros((3, 0)), np.zeros((3, 0), bool), reduction="sum") == 0


@pytest.mark.parametrize("dtype", FLOATS)
def test_special_values(dtype):
    x = np.array([np.inf, -np.inf, np.inf, -np.inf, np.nan], dtype)
    labels = [1, 0, 0, 1, 1]
    np.testing.assert_array_equal(cxent.sigmoid(x), [1, 0, 1, 0, np.nan])
    np.testing.assert_array_equal(cxent.log_sigmoid(x), [0, -np.inf, 0, -np.inf, np.nan])
    for gamma in (0, 2, 0.5):
        loss, grad, _ = cxent.binary_cross_entropy_with_hess(x, labels, reduction="none", focal_gamma=gamma)
        np.testing.assert_array_equal(loss, [0, 0, np.inf, np.inf, np.nan])
        np.testing.assert_array_equal(grad, [0, 0, 1, -1, np.nan])


@pytest.mark.parametrize(("dtype", "gamma"), [(np.float32, 1e-30), (np.float64, 1e-170)])
def test_infinite_logits_with_a_tiny_focal_exponent(dtype, gamma):
    """The square of the exponent is 0 in this dtype, and the loss infinite."""
    x = np.array([np.inf, -np.inf, np.inf], dtype)
    _, grad, hess = cxent.binary_cross_entropy_with_hess(x, [0, 1, 1], reduction="sum", focal_gamma=gamma)
    np.testing.assert_array_equal(grad, [1, -1, 0])
    np.testing.assert_array_equal(hess, 0)


@pytest.mark.parametrize("dtype", HALVES)
def test_half_precision(dtype):
    x = np.linspace(-8, 8, 77).astype(dtype)
    labels = np.arange(77) % 2
    wide = x.astype(np.float32)
    assert_same_bits(cxent.sigmoid(x), cxent.sigmoid(wide).astype(dtype))
    loss, grad = cxent.binary_cross_entropy_with_grad(x, labels)
    expected, expected_grad = cxent.binary_cross_entropy_with_grad(wide, labels)
    assert loss.dtype == np.float32 and loss == expected
    assert_same_bits(grad, expected_grad.astype(dtype))


@pytest.mark.parametrize("size", [1, 7, 17, 1024, 1025, 40_003])
@pytest.mark.parametrize("dtype", FLOATS)
def test_same_bits_anywhere(dtype, size):
    """In any place, layout and number of workers, with or without `out`."""
    rng = np.random.default_rng(4)
    x, labels, w = rng.standard_normal(size).astype(dtype) * 9, rng.integers(0, 2, size), rng.random(size)
    call = {"reduction": "none", "sample_weight": w, "pos_weight": 3}
    expected = cxent.binary_cross_entropy_with_hess(x, labels, **call)
    wide = np.zeros((size, 3), dtype)
    wide[:, 1] = x
    for changed in (
        cxent.binary_cross_entropy_with_hess(wide[:, 1], labels.astype(np.int8), workers=-1, **call),
        cxent.binary_cross_entropy_with_hess(x.copy(), labels, out=np.empty((size, 2), dtype)[:, 0], **call),
    ):
        for a, b in zip(changed, expected, strict=True):
            assert_same_bits(a, b)
    call["sample_weight"] = w[::-1]
    for a, b in zip(cxent.binary_cross_entropy_with_hess(x[::-1], labels[::-1], **call), expected, strict=True):
        assert_same_bits(a[::-1], b)
    total = [cxent.binary_cross_entropy(x, labels, sample_weight=w, workers=n) for n in (1, -1)]
    assert_same_bits(*total)
    for function in (cxent.sigmoid, cxent.log_sigmoid):
        alone = function(x)
        assert_same_bits(function(wide[:, 1], workers=-1), alone)
        assert_same_bits(function(x[-1:]), alone[-1:])
        y = x.copy()
        assert function(y, out=y) is y
        assert_same_bits(y, alone)


def test_any_order_and_shape():
    x = np.arange(24.0).reshape(2, 3, 4) / 5 - 2
    labels = x > 0
    expected = cxent.binary_cross_entropy_with_grad(x, labels)[1]
    for order in (np.asfortranarray, lambda a: a.transpose(2, 0, 1).copy().transpose(1, 2, 0)):
        y = order(x)
        assert_same_bits(cxent.binary_cross_entropy_with_grad(y, order(labels))[1], expected)
        _, grad = cxent.binary_cross_entropy_with_grad(y, labels, out=y)
        assert grad is y
        assert_same_bits(grad, expected)
    assert cxent.sigmoid(0.0) == 0.5 and np.ndim(cxent.sigmoid(0.0)) == 0
    loss, grad = cxent.binary_cross_entropy_with_grad(2.0, 1)
    assert loss == cxent.binary_cross_entropy([2.0], [1]) and np.ndim(grad) == 0
    overlapping = np.zeros(11)
    overlapping[1:] = np.arange(10)
    assert_same_bits(cxent.sigmoid(overlapping[1:], out=overlapping[:-1]), cxent.sigmoid(np.arange(10.0)))


@pytest.mark.parametrize("dtype", ["bool", "i1", "u1", "<i2", ">u2", "<i4", ">i4", "<u4", "<i8", ">i8", "<u8"])
def test_labels_of_any_dtype(dtype):
    rng = np.random.default_rng(9)
    x, labels = rng.standard_normal((4, 9)), rng.integers(0, 2, (4, 9))
    given = labels.astype(dtype)
    for options in ({}, {"ignore_index": 1, "pos_weight": np.arange(9.0)}, {"focal_gamma": 2}):
        expected = cxent.binary_cross_entropy_with_hess(x, labels, **options)
        for a, b in zip(cxent.binary_cross_entropy_with_hess(x, given, **options), expected, strict=True):
            assert_same_bits(a, b)
    largest = np.iinfo(given.dtype).max if given.dtype.kind in "iu" else 1
    if largest > 1:
        given[2, 3] = largest
        with pytest.raises(ValueError, match=rf"target\[2, 3\] must be 0 or 1, got {largest}"):
            cxent.binary_cross_entropy(x, given)


def test_any_byte_but_0_is_true():
    x = np.random.default_rng(9).standard_normal((2, 4))
    labels = np.array([[0, 1, 2, 255], [128, 0, 0, 3]], np.uint8)
    _, expected = cxent.binary_cross_entropy_with_grad(x, labels != 0)
    in_place = x.copy()
    for given, out in ((x, None), (x, np.empty_like(x)), (in_place, in_place)):
        _, grad = cxent.binary_cross_entropy_with_grad(given, labels.view(bool), out=out)
        assert_same_bits(grad, expected)


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_arrays_of_any_memory(tmp_path, reduction):
    """Byte-swapped, read-only, broadcast, in a file, not aligned; inputs stay as they are."""
    rng = np.random.default_rng(10)
    x, q, w, a = rng.standard_normal((4, 9)), rng.random((4, 9)), rng.random((4, 9)), rng.random(9)

    def results(x, q, w, a, out=None):
        options = {"sample_weight": w, "pos_weight": a, "reduction": reduction, "out": out}
        return cxent.binary_cross_entropy_with_hess(x, q, **options)

    expected = results(x, q, w, a)
    in_file = np.memmap(tmp_path / "numbers", np.float64, "w+", shape=x.shape)
    in_file[...] = x
    frozen = [array.copy() for array in (x, q, w, a)]
    for array in frozen:
        array.flags.writeable = False
    for given in (
        [array.astype(">f8") for array in (x, q, w, a)],
        frozen,
        [in_file, q, w, a],
        [array.tolist() for array in (x, q, w, a)],
        [x, q.astype(np.longdouble), w.astype(np.longdouble), a],
    ):
        for found, each in zip(results(*given), expected, strict=True):
            assert_same_bits(found, each)
    assert_same_bits(frozen[0], x)
    for out in (np.empty(x.shape, ">f8"), np.empty(x.nbytes + 1, np.uint8)[1:].view(float).reshape(x.shape), in_file):
        found = results(in_file, q, w, a, out)
        assert found[1] is out
        assert_same_bits(out.astype(float), expected[1])
        assert_same_bits(found[0], expected[0])
    row, column = np.broadcast_to(x[0], x.shape), np.broadcast_to(w[:, :1], x.shape)
    for found, each in zip(results(row, q, column, a), results(row.copy(), q, column.copy(), a), strict=True):
        assert_same_bits(found, each)


def test_results_in_the_place_of_inputs():
    """Of a part of the logits, and where they overlap the target or the weights."""
    rng = np.random.default_rng(6)
    whole = rng.standard_normal((9, 2100))
    x, labels = whole[2:5], rng.integers(0, 2, (3, 2100))
    memory = rng.random(3 * 2100 + 1)
    q, w = memory[1:].reshape(3, 2100).copy(), rng.random((3, 2100))
    expected = cxent.binary_cross_entropy_with_grad(x, q, sample_weight=w)[1]
    overlapping = memory[1:].reshape(3, 2100), memory[:-1].reshape(3, 2100)
    assert_same_bits(
        cxent.binary_cross_entropy_with_grad(x, overlapping[0], sample_weight=w, out=overlapping[1])[1], expected
    )
    assert_same_bits(cxent.binary_cross_entropy_with_grad(x, q, sample_weight=w, out=w)[1], expected)
    expected = cxent.binary_cross_entropy_with_grad(x, labels)[1]
    _, grad = cxent.binary_cross_entropy_with_grad(x, labels, out=x)
    assert grad is x
    assert_same_bits(whole[2:5], expected)


@pytest.mark.once
@pytest.mark.parametrize(
    ("error", "words", "args", "options"),
    [
        (ValueError, "target must have the shape", ([1.0, 2.0], [1]), {}),
        (ValueError, r"target\[1\] must be 0 or 1, got -1; .*target > 0", ([1.0, 2.0], [1, -1]), {}),
        (ValueError, r"target\[0, 1\] must be 0 or 1, or -100", ([[1.0, 2.0]], [[0, 2]]), {"ignore_index": -100}),
        (ValueError, "ignore_index needs labels", ([1.0], [0.5]), {"ignore_index": 0}),
        (ValueError, "focal_gamma needs labels", ([1.0], [0.5]), {"focal_gamma": 2}),
        (ValueError, "focal_gamma", ([1.0], [1]), {"focal_gamma": 2, "label_smoothing": 0.1}),
        (ValueError, "focal_gamma", ([1.0], [1]), {"focal_gamma": 101}),
        (TypeError, "focal_gamma must be .*, got False", ([1.0], [1]), {"focal_gamma": False}),
        (TypeError, "label_smoothing must be .*, got False", ([1.0], [1]), {"label_smoothing": False}),
        (ValueError, "reduction must be", ([1.0], [1]), {"reduction": ["mean"]}),
        (TypeError, "ignore_index must be", ([1.0], [1]), {"ignore_index": True}),
        (ValueError, r"pos_weight .* shape \(2,\)", ([1.0, 2.0], [1, 0]), {"pos_weight": [1, 2, 3]}),
        (ValueError, r"sample_weight .* \(1, 2\) or \(1,\)", ([[1.0, 2.0]], [[1, 0]]), {"sample_weight": [1, 2]}),
        (ValueError, "pos_weight", ([1.0], [1]), {"pos_weight": np.inf}),
        (ValueError, "pos_weight must not be negative", ([1.0], [1]), {"pos_weight": -1}),
        (ValueError, "out", ([1.0], [1]), {"out": np.zeros(2)}),
        (TypeError, "out", ([1.0], [1]), {"out": np.zeros(1, np.float32)}),
        (TypeError, "target", ([1.0], ["1"]), {}),
        (TypeError, "logits", ([1j], [1]), {}),
    ],
)  # fmt: skip
def test_mistakes(error, words, args, options):
    with pytest.raises(error, match=words):
        cxent.binary_cross_entropy_with_grad(*args, **options)


def test_beside_pytorch():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    rng = np.random.default_rng(5)
    x, labels = rng.standard_normal((50, 4)) * 4, rng.integers(0, 2, (50, 4))
    pos_weight, w = rng.random(4) + 0.5, rng.random((50, 4))
    t = torch.tensor(x, requires_grad=True)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        t,
        torch.tensor(labels, dtype=torch.float64),
        torch.tensor(w),
        pos_weight=torch.tensor(pos_weight),
        reduction="sum",
    )
    expected.backward()
    loss, grad = cxent.binary_cross_entropy_with_grad(
        x, labels, pos_weight=pos_weight, sample_weight=w, reduction="sum"
    )
    assert_allclose(loss, expected.item(), rtol=1e-13)
    assert_allclose(grad, t.grad.numpy(), rtol=1e-12, atol=1e-16)
