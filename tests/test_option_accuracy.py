"""The digits of every option alone, against exact values."""

import numpy as np
import pytest
from helpers import FLOATS, assert_within_ulps, exact_loss
from mpmath import mpf

import cxent

CLASSES = [1, 2, 3, 10, 49, 130]
ROWS = [(classes, spread) for classes in CLASSES for spread in (0.01, 1, 10)]

NUMBERS = {"label_smoothing": 0.1, "z_loss": 0.01, "softcap": 5.0, "temperature": 0.7}
LABELS = {"largest": np.argmax, "smallest": np.argmin, "middle": lambda x: len(x) // 2}


def row(classes, spread, dtype):
    rng = np.random.default_rng([classes, int(100 * spread)])
    return (spread * rng.standard_normal(classes)).astype(dtype), rng


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("classes", "spread"), ROWS)
@pytest.mark.parametrize("option", ["weight", *NUMBERS])
def test_class_indices(option, classes, spread, dtype, label):
    x, rng = row(classes, spread, dtype)
    options = {option: rng.uniform(0.1, 3, classes).astype(dtype) if option == "weight" else NUMBERS[option]}
    label = int(LABELS[label](x))
    exact = exact_loss(x, label, **options)
    loss, grad = cxent.cross_entropy_with_grad(x, label, reduction="sum", **options)
    # The rounding of the shift; that of the temperature is another one, and a cap is promised 16 ulp
    base, times = (16, 2) if option == "softcap" else (4, 2) if option == "temperature" else (4, 1)
    allowed = [base + times * max(shift, exact.gap) for shift in exact.shift]
    assert_within_ulps(loss, [exact.loss], [base + times * max(exact.shift[label], exact.gap, 1)])
    if option in ("label_smoothing", "z_loss"):
        assert_within_ulps(grad, exact.grad, [a + 4 for a in allowed], exact.units)
    else:
        assert_within_ulps(grad, exact.grad, allowed)  # the label's own digits, too
    if option in ("weight", "label_smoothing", "temperature"):
        _, _, hess = cxent.cross_entropy_with_hess(x, label, reduction="sum", **options)
        assert_within_ulps(hess, exact.hess, [a + 2 for a in allowed])


@pytest.mark.slow
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("option", ["weight", *NUMBERS])
def test_long_rows(option, dtype):
    test_class_indices(option, 4097, 1, dtype, "middle")
    test_class_probabilities(option, 4097, 1, dtype)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("classes", "spread"), ROWS)
@pytest.mark.parametrize("option", ["weight", *NUMBERS])
def test_class_probabilities(option, classes, spread, dtype):
    x, rng = row(classes, spread, dtype)
    options = {option: rng.uniform(0.1, 3, classes).astype(dtype) if option == "weight" else NUMBERS[option]}
    q = rng.dirichlet(np.ones(classes)).astype(dtype)
    exact = exact_loss(x, q, **options)
    loss, grad = cxent.cross_entropy_with_grad(x, q, reduction="sum", **options)
    base, times = (16, 2) if option == "softcap" else (8, 2)
    assert_within_ulps(loss, [exact.loss], [base + times * max(exact.gap, 1)])
    assert_within_ulps(grad, exact.grad, [base + times * max(shift, exact.gap) for shift in exact.shift], exact.units)


@pytest.mark.parametrize("dtype", FLOATS)
def test_sample_weights_and_ignored_rows(dtype):
    x, rng = row(40, 2, dtype)
    x = np.stack([x, x[::-1], 2 * x])
    sample_weight = rng.uniform(0.1, 3, 3).astype(dtype)
    labels = np.array([3, -7, 39])
    counting = {i: (mpf(float(sample_weight[i])), exact_loss(x[i], labels[i])) for i in (0, 2)}
    total = sum(s for s, _ in counting.values())
    loss, grad = cxent.cross_entropy_with_grad(x, labels, sample_weight=sample_weight, ignore_index=-7)
    assert_within_ulps(loss, [sum(s * exact.loss for s, exact in counting.values()) / total], [8])
    for i, (s, exact) in counting.items():
        allowed = [4 + max(shift, exact.gap) for shift in exact.shift]
        assert_within_ulps(grad[i], [s * g / total for g in exact.grad], allowed)
    assert not grad[1].any()


@pytest.mark.parametrize("label", range(3))
@pytest.mark.parametrize("u", [[8, 7, 6], [-8, -7, -6.5], [9, 5, -5]], ids=str)
@pytest.mark.parametrize("cap", [2.0, 30.0])
@pytest.mark.parametrize("dtype", FLOATS)
def test_capped_logits_that_are_saturated_keep_their_differences(dtype, cap, u, label):
    """Their tanh is 1 to all digits; what they differ in is not."""
    x = np.array(u, dtype) * dtype(cap)
    exact = exact_loss(x, label, softcap=cap)
    loss, grad = cxent.cross_entropy_with_grad(x, label, softcap=cap, reduction="sum")
    assert_within_ulps(loss, [exact.loss], [16 + 2 * max(exact.shift)])
    # The slope is computed from exp(-2 |u|) of these u, whose argument is rounded
    allowed = [16 + 4 * abs(v) + 2 * max(shift, exact.gap) for v, shift in zip(u, exact.shift, strict=True)]
    assert_within_ulps(grad, exact.grad, allowed, exact.units)
