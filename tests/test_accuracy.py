"""Every digit promised, against exact values: 4 ulp."""

import numpy as np
import pytest
from helpers import FLOATS, assert_within_ulps, exact_numbers, exact_row
from mpmath import mp, mpf

import cxent

# Around the lanes of the kernels (64) and their blocks (512), and the smallest.
CLASSES = [1, 2, 3, 10, 63, 64, 65, 130, 511, 513]
SPREADS = [0.01, 1, 10, 60]
ROWS = [(classes, spread) for classes in CLASSES for spread in SPREADS]
LABELS = {"largest": np.argmax, "smallest": np.argmin, "middle": lambda x: len(x) // 2}


def logits(classes, spread, dtype):
    rng = np.random.default_rng([classes, int(100 * spread)])
    return (spread * rng.standard_normal(classes) + rng.choice([0, 100])).astype(dtype)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("classes", "spread"), ROWS)
def test_softmax_log_softmax_and_logsumexp(classes, spread, dtype):
    x = logits(classes, spread, dtype)
    row = exact_row(x)
    allowed = [4] * classes
    assert_within_ulps(cxent.softmax(x), row.p, allowed)
    assert_within_ulps(cxent.log_softmax(x), row.log_p, allowed)
    unit = max(abs(row.max), row.log_sum, abs(row.lse))
    assert_within_ulps(cxent.logsumexp(x), [row.lse], [4], [unit])


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("classes", "spread"), ROWS)
def test_class_indices(classes, spread, dtype, label):
    x = logits(classes, spread, dtype)
    row = exact_row(x)
    label = int(LABELS[label](x))
    loss, grad = cxent.cross_entropy_with_grad(x, label)
    assert_within_ulps(loss, [-row.log_p[label]], [4])
    true = list(row.p)
    # 1 - p_y as the sum of the others, so that the exact value has its digits too
    true[label] = -mp.fsum(p for j, p in enumerate(row.p) if j != label)
    assert_within_ulps(grad, true, [4] * len(x))
    assert cxent.cross_entropy(x, label) == loss


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("classes", "spread"), ROWS)
@pytest.mark.parametrize("target", ["soft", "one-hot", "not summing to 1"])
def test_class_probabilities(classes, spread, dtype, target):
    x = logits(classes, spread, dtype)
    rng = np.random.default_rng(classes)
    q = {
        "soft": rng.dirichlet(np.ones(classes)),
        "one-hot": np.eye(classes)[int(x.argmax())],
        "not summing to 1": 3 * rng.random(classes) * (rng.random(classes) < 0.5),
    }[target].astype(dtype)
    row = exact_row(x)
    exact_q = exact_numbers(q)
    total = mp.fsum(exact_q)
    loss, grad = cxent.cross_entropy_with_grad(x, q)
    exact_loss = mp.fsum(-a * b for a, b in zip(exact_q, row.log_p, strict=True))
    assert_within_ulps(loss, [exact_loss], [4])
    true = [total * p - v for p, v in zip(row.p, exact_q, strict=True)]
    units = [max(total * p, v) for p, v in zip(row.p, exact_q, strict=True)]
    assert_within_ulps(grad, true, [4] * len(x), units, weight=max(total, 1))
    if target == "one-hot":  # the target's gradient keeps its own digits
        label = int(x.argmax())
        assert_within_ulps(grad[label], [-row.rest / row.sum], [4])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("classes", [2, 10, 513])
def test_from_probabilities(classes, dtype):
    rng = np.random.default_rng(classes)
    p = rng.dirichlet(np.ones(classes)).astype(dtype)
    q = (rng.random(classes) * (rng.random(classes) < 0.7)).astype(dtype)
    exact_p, exact_q = (exact_numbers(p), exact_numbers(q))
    label = classes // 2
    loss, grad = cxent.cross_entropy_from_probs_with_grad(p, label)
    assert_within_ulps(loss, [-mp.log(exact_p[label])], [4])
    assert_within_ulps(grad[label], [-1 / exact_p[label]], [4])
    loss, grad = cxent.cross_entropy_from_probs_with_grad(p, q)
    assert_within_ulps(loss, [-mp.fsum(b * mp.log(a) for a, b in zip(exact_p, exact_q, strict=True) if b)], [4])
    assert_within_ulps(grad, [-b / a for a, b in zip(exact_p, exact_q, strict=True)], [4] * classes)


@pytest.mark.parametrize("classes", [2, 10, 130])
@pytest.mark.parametrize("dtype", FLOATS)
def test_softmax_backward(dtype, classes):
    rng = np.random.default_rng(classes)
    p = rng.dirichlet(np.ones(classes)).astype(dtype)
    g = rng.standard_normal(classes).astype(dtype)
    pairs = list(zip(exact_numbers(p), exact_numbers(g), strict=True))
    mean, size = mp.fsum(a * b for a, b in pairs), mp.fsum(abs(a * b) for a, b in pairs)
    true, units = [a * (b - mean) for a, b in pairs], [a * max(abs(b), size) for a, b in pairs]
    assert_within_ulps(cxent.softmax_backward(g, p), true, [4] * classes, units)


@pytest.mark.parametrize("classes", [2, 10, 130])
@pytest.mark.parametrize("dtype", FLOATS)
def test_log_softmax_backward(dtype, classes):
    rng = np.random.default_rng(classes)
    log_p = np.log(rng.dirichlet(np.ones(classes))).astype(dtype)
    g = rng.standard_normal(classes).astype(dtype)
    pairs = [(mp.exp(v), b) for v, b in zip(exact_numbers(log_p), exact_numbers(g), strict=True)]
    total, size = mp.fsum(b for _, b in pairs), mp.fsum(abs(b) for _, b in pairs)
    true, units = [b - a * total for a, b in pairs], [max(abs(b), a * size) for a, b in pairs]
    assert_within_ulps(cxent.log_softmax_backward(g, log_p), true, [4 + abs(float(v)) for v in log_p], units)


@pytest.mark.parametrize("rest", ["the least", 3e-5])
@pytest.mark.parametrize("dtype", FLOATS)
def test_jacobian_keeps_the_digits_of_a_confident_row(dtype, rest):
    rest = np.finfo(dtype).epsneg if rest == "the least" else rest
    p = np.array([1 - dtype(rest), rest], dtype)
    exact_p = exact_numbers(p)
    for i, row in enumerate(cxent.softmax_jacobian(p)):
        assert_within_ulps(row, [exact_p[i] * ((i == j) - exact_p[j]) for j in range(2)], [4, 4])


@pytest.mark.parametrize("target", [0, np.array([1, 0, 0], np.float32)], ids=["index", "one-hot"])
def test_small_losses_keep_their_digits(target):
    """What float32 peers return as 0."""
    x = np.array([17, 0, 0], np.float32)
    loss, grad = cxent.cross_entropy_with_grad(x, target)
    assert loss.dtype == grad.dtype == np.float32
    assert loss == pytest.approx(8.2798751e-8, rel=1e-6)
    assert grad[0] == pytest.approx(-8.2798745e-8, rel=1e-6)
    assert grad[1] == grad[2] == pytest.approx(4.1399372e-8, rel=1e-6)
    assert cxent.log_softmax(x)[0] == -loss


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("gap", [5, 17, 30, 80, 87, 88, 90, 93, 95, 700, 709, 714])
def test_confident_rows_among_many_classes(dtype, gap):
    """Thousands of small terms beside a large one; even terms that are too small each, and make a normal number."""
    x = np.zeros(3000, dtype)
    x[1234] = gap
    row = exact_row(x)
    loss, grad = cxent.cross_entropy_with_grad(x, 1234)
    assert_within_ulps(loss, [row.log_sum], [4])
    assert_within_ulps(grad[1234], [-row.rest / row.sum], [4])
    assert_within_ulps(cxent.log_softmax(x)[1234], [-row.log_sum], [4])
    # the same as a one-hot row
    loss, grad = cxent.cross_entropy_with_grad(x, np.arange(3000) == 1234)
    assert_within_ulps(loss, [row.log_sum], [4])
    assert_within_ulps(grad[1234], [-row.rest / row.sum], [4])


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("classes", [3, 65, pytest.param(513, marks=pytest.mark.slow)])
def test_gradients_of_soft_targets_and_means(classes, reduction):
    """The most roundings that a gradient passes through. (In millions of such rows the worst number was 6 ulp off.)"""
    rng = np.random.default_rng(classes)
    x = 0.001 * rng.standard_normal((20, classes))
    labels = rng.integers(0, classes, len(x))
    q = 0.9 * np.eye(classes)[labels] + 0.1 / classes
    divisor = len(x) if reduction == "mean" else 1
    _, soft = cxent.cross_entropy_with_grad(x, q, reduction=reduction)
    _, hard = cxent.cross_entropy_with_grad(x, labels, reduction=reduction)
    for i, row in enumerate(map(exact_row, x)):
        exact_q = exact_numbers(q[i])
        total = mp.fsum(exact_q)
        true = [(total * p - v) / divisor for p, v in zip(row.p, exact_q, strict=True)]
        units = [max(total * p, v) / divisor for p, v in zip(row.p, exact_q, strict=True)]
        assert_within_ulps(soft[i], true, [4] * classes, units)
        true = [(p - (j == labels[i])) / divisor for j, p in enumerate(row.p)]
        assert_within_ulps(hard[i], true, [4] * classes)


@pytest.mark.parametrize("gap", [15, 30, 80])
@pytest.mark.parametrize("dtype", FLOATS)
def test_logsumexp_near_zero(dtype, gap):
    assert_within_ulps(cxent.logsumexp(np.array([0, -gap], dtype)), [mp.log1p(mp.exp(-gap))], [4])


@pytest.mark.parametrize("dtype", FLOATS)
def test_down_to_the_smallest_normal_number(dtype):
    """Probabilities above it are there, with their digits; below it they may be 0, but are never garbage."""
    smallest = np.finfo(dtype).smallest_normal
    last = -float(mp.log(float(smallest)))
    x = np.array([0, *np.linspace(last - 9, last + 9, 400)], dtype) * dtype(-1)
    row = exact_row(x)
    allowed = [4] * len(x)
    assert_within_ulps(cxent.softmax(x), row.p, allowed)
    grad = cxent.cross_entropy_with_grad(x, 0)[1]
    assert_within_ulps(grad[1:], row.p[1:], allowed[1:])
    assert_within_ulps(grad[0], [-row.rest / row.sum], [4])
    far = np.array([0, -1e3, -1e4, -1e30, -np.inf], dtype)
    assert cxent.softmax(far).tolist() == [1, 0, 0, 0, 0]


FAR = {  # rows, classes, spread, offset: where the rounding of x - m costs 18 to 64 ulp, and others
    "10 classes of spread 20": (20_000, 10, 20, 0),
    "1,000 classes of spread 6": (200, 1_000, 6, 0),
    "128,256 classes of spread 3": (1, 128_256, 3, 0),
    "100 classes near 20": (2_000, 100, 1, 20),
    "100 classes near -1,000": (2_000, 100, 1, -1_000),
    "33 classes near 9,000": (2_000, 33, 3, 9_000),
    "300 classes near 65,536, on both sides": (100, 300, 6, 65_536),
    "300 classes of spread 10^6": (100, 300, 1e6, 0),
    "20 classes near 10^7": (2_000, 20, 60, 1e7),
}


def exact_softmax(x):
    """In long double, with a relative error below 2^-60."""
    wide = x.astype(np.longdouble)
    e = np.exp(wide - wide.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


@pytest.mark.skipif(np.finfo(np.longdouble).nmant < 63, reason="long double has no more digits than float64")
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("rows", FAR)
def test_no_digit_is_lost_to_a_shift(rows, dtype):
    """Probabilities, and the gradient everywhere but at the label: 4 ulp, wherever the logits are."""
    count, classes, spread, offset = FAR[rows]
    rng = np.random.default_rng(1)
    x = (spread * rng.standard_normal((count, classes)) + offset).astype(dtype)
    labels = rng.integers(0, classes, count)
    p = exact_softmax(x)
    ulp = np.spacing(np.maximum(p, np.finfo(dtype).smallest_normal).astype(dtype))
    _, grad = cxent.cross_entropy_with_grad(x, labels, reduction="sum")
    elsewhere = labels[:, np.newaxis] != np.arange(classes)
    normal = p > np.finfo(dtype).smallest_normal
    assert (np.abs(cxent.softmax(x) - p)[normal] <= 4 * ulp[normal]).all()
    assert (np.abs(grad - p)[normal & elsewhere] <= 4 * ulp[normal & elsewhere]).all()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("classes", [5, 20, 300])
@pytest.mark.parametrize("sign", [1, -1])
def test_rows_of_every_size(sign, classes, dtype):
    """Near every power of 10, with a maximum in any place, and ties of it."""
    rng = np.random.default_rng(classes)
    step = {5: 1, 20: 4, 300: 7}[classes]  # (exact values of long rows take their time)
    for power in range(-3, 38 if dtype == np.float32 else 300, step):
        x = (sign * 10.0**power * (1 + rng.standard_normal(classes) / 1024)).astype(dtype)
        place = [0, classes // 2, classes - 1][power % 3]
        x[place] = x.max()
        row = exact_row(x)
        assert_within_ulps(cxent.softmax(x), row.p, [4] * classes)
        loss, grad = cxent.cross_entropy_with_grad(x, place)
        assert_within_ulps(loss, [-row.log_p[place]], [4])
        true = [p if j != place else p - 1 for j, p in enumerate(row.p)]
        assert_within_ulps(grad, true, [4] * classes)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("classes", [7, 40, 300])
@pytest.mark.parametrize("huge", [1e4, 7e4, 1e9, 1e30, -1e4, -7e4, -1e9, -1e30])
def test_rows_with_one_huge_number(huge, classes, dtype):
    rng = np.random.default_rng(classes)
    for place in (0, classes // 2, classes - 1):
        x = rng.standard_normal(classes).astype(dtype)
        x[place] = huge
        row = exact_row(x)
        assert_within_ulps(cxent.softmax(x), row.p, [4] * classes)
        assert_within_ulps(cxent.log_softmax(x), row.log_p, [4] * classes)


@pytest.mark.parametrize("dtype", FLOATS)
def test_equal_logits_share_one_whole(dtype):
    """Of one class the probability is 1; of two, four or eight equal ones 1/2, 1/4 and 1/8."""
    values = np.random.default_rng(0).uniform(-100, 100, (500, 1)).astype(dtype)
    for classes in (1, 2, 4, 8, 32, 128):
        assert (cxent.softmax(np.repeat(values, classes, axis=1)) == dtype(1 / classes)).all()
    two = cxent.softmax(np.hstack([values, values - 200, values]))
    assert (two[:, ::2] == dtype(0.5)).all()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("offset", [-3e4, 0, 3e4])
def test_shift_comes_first(dtype, offset):
    """The digits of a loss do not go to a large common offset."""
    x = np.array([0.5, 0, -0.25], dtype) + dtype(offset)
    row = exact_row(x)
    assert_within_ulps(cxent.cross_entropy(x, 2), [-row.log_p[2]], [4])
    assert_within_ulps(cxent.log_softmax(x), row.log_p, [4, 4, 4])


@pytest.mark.parametrize("dtype", FLOATS)
def test_long_rows(dtype):
    """Equal terms are the hardest for a plain sum: every addition rounds the same way."""
    classes = 128_256
    rng = np.random.default_rng(0)
    for value in rng.uniform(-1, 0, 8):
        x = np.full(classes, value, dtype)
        x[0] = 0
        below = mp.exp(mpf(float(x[1]))) * (classes - 1)
        allowed = 2 if dtype == np.float32 else 4
        assert_within_ulps(cxent.softmax(x)[:1], [1 / (1 + below)], [allowed])
        assert_within_ulps(cxent.log_softmax(x)[:1], [-mp.log1p(below)], [allowed])


def test_a_mean_over_many_float32_rows_is_accumulated_in_float64():
    x = np.zeros((10_000_000 // 8, 2), np.float32)
    assert cxent.cross_entropy(x, np.zeros(len(x), np.int8)) == np.float32(np.log(2))


def test_a_mean_over_many_float64_rows():
    x = np.zeros((100_003, 3))
    assert abs(cxent.cross_entropy(x, np.zeros(len(x), np.int8)) - np.log(3)) <= 2 * np.spacing(np.log(3))


@pytest.mark.parametrize("dtype", FLOATS)
def test_small_gradients_keep_their_digits(dtype):
    """A small target row, or the mean over many rows, makes small gradients, not rough ones."""
    x = np.array([0.5, -0.25, 0.125, 0], dtype)
    row = exact_row(x)
    q = np.array([0, 1, 0, 0], dtype) * dtype(float(np.finfo(dtype).smallest_normal) * 1e4)
    _, grad = cxent.cross_entropy_with_grad(x, q)
    assert_within_ulps(grad[[0, 2, 3]], [exact_numbers(q)[1] * row.p[j] for j in (0, 2, 3)], [5, 5, 5])


@pytest.mark.parametrize("classes", [3, 64, 100, 130, 257])
def test_probabilities_just_below_one(classes):
    """Their unit is half of that of the sum. (80-bit arithmetic is exact enough.)"""
    x = np.random.default_rng(1).standard_normal((5_000, classes))
    x[:, 0] += 16 + 4 * np.random.default_rng(10).random(len(x))
    wide = x.astype(np.longdouble)
    e = np.exp(wide - wide.max(axis=1, keepdims=True))
    exact_p = e[:, 0] / e.sum(axis=1)
    found = cxent.softmax(x)[:, 0]
    assert (np.abs(found - exact_p) <= 4 * np.spacing(exact_p.astype(float))).all()
