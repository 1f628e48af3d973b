"""The digits of every option alone, against exact values."""

from functools import cache

import numpy as np
import pytest
from exact import numbers
from mpmath import mp, mpf
from test_accuracy import check

import cxent

DTYPES = [np.float32, np.float64]
CLASSES = [1, 2, 3, 10, 49, 130]
ROWS = [(classes, spread) for classes in CLASSES for spread in (0.01, 1, 10)] + [(4097, 1)]

NUMBERS = {"label_smoothing": 0.1, "z_loss": 0.01, "softcap": 5.0, "temperature": 0.7}


def evaluate(u, target, *, weight=None, **given):
    """loss, gradient, Hessian, the units of the gradient, |x_j - x_m|, and its least, all exact."""
    w = np.ones_like(u) if weight is None else weight
    q = np.arange(len(u)) == target if np.ndim(target) == 0 else target
    return _evaluate(*(tuple(a.tolist()) for a in (u, q, w)), **given)


@cache  # for all kernel modules
def _evaluate(u, q, w, *, label_smoothing=0.0, z_loss=0.0, softcap=None, temperature=1.0):
    classes = len(u)
    u, q, w = numbers(u), numbers(q), numbers(w)
    e, z, t = mpf(float(label_smoothing)), mpf(float(z_loss)), mpf(float(temperature))
    x, slope = [v / t for v in u], [1 / t] * classes
    if softcap is not None:
        k = mpf(float(softcap))
        x, slope = [k * mp.tanh(v / (t * k)) for v in u], [mp.sech(v / (t * k)) ** 2 / t for v in u]
    m = max(x)
    terms = [mp.exp(v - m) for v in x]
    total = mp.fsum(terms)
    top = x.index(m)
    rest = mp.fsum(term for j, term in enumerate(terms) if j != top)
    lse = m + mp.log1p(rest)
    q = [a * ((1 - e) * b + e / classes) for a, b in zip(w, q, strict=True)]
    size = mp.fsum(q)
    losses = [b * ((m - v) + mp.log1p(rest)) for b, v in zip(q, x, strict=True)]
    loss = mp.fsum(losses) + z * lse**2
    p = [term / total for term in terms]
    far = [rest / total if j == top else 1 - v for j, v in enumerate(p)]
    # (Q - q) - Q (1 - p) is Q p - q, with the digits of a p near 1
    grad = [
        s * (((size - b) - size * f if j == top else size * v - b) + 2 * z * lse * v)
        for j, (s, b, v, f) in enumerate(zip(slope, q, p, far, strict=True))
    ]
    units = [s * (size * v + b + abs(2 * z * lse * v)) for s, b, v in zip(slope, q, p, strict=True)]
    hess = [s**2 * size * v * f for s, v, f in zip(slope, p, far, strict=True)]
    return loss, grad, hess, units, [float(m - v) for v in x], float(min((m - v for v in x if v < m), default=0))


def row(classes, spread, dtype):
    rng = np.random.default_rng([classes, int(100 * spread)])
    return (spread * rng.standard_normal(classes)).astype(dtype), rng


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("classes", "spread"), ROWS)
@pytest.mark.parametrize("option", ["weight", *NUMBERS])
def test_class_indices(option, classes, spread, dtype):
    x, rng = row(classes, spread, dtype)
    value = rng.uniform(0.1, 3, classes).astype(dtype) if option == "weight" else NUMBERS[option]
    for label in {int(x.argmax()), int(x.argmin()), classes // 2}:
        exact_loss, grad, hess, units, shift, gap = evaluate(x, label, **{option: value})
        loss, found = cxent.cross_entropy_with_grad(x, label, reduction="sum", **{option: value})
        # The rounding of the shift; that of the temperature is another one, and a cap is promised 16 ulp
        base, times = (16, 2) if option == "softcap" else (4, 2) if option == "temperature" else (4, 1)
        allowed = [base + times * max(s, gap) for s in shift]
        check(loss, [exact_loss], [base + times * max(shift[label], gap, 1)])
        if option in ("label_smoothing", "z_loss"):
            check(found, grad, [a + 4 for a in allowed], units)
        else:
            check(found, grad, allowed)  # the label's own digits, too
        if option in ("weight", "label_smoothing", "temperature"):
            _, _, found = cxent.cross_entropy_with_hess(x, label, reduction="sum", **{option: value})
            check(found, hess, [a + 2 for a in allowed])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("classes", "spread"), ROWS)
@pytest.mark.parametrize("option", ["weight", *NUMBERS])
def test_class_probabilities(option, classes, spread, dtype):
    x, rng = row(classes, spread, dtype)
    value = rng.uniform(0.1, 3, classes).astype(dtype) if option == "weight" else NUMBERS[option]
    q = rng.dirichlet(np.ones(classes)).astype(dtype)
    exact_loss, grad, _, units, shift, gap = evaluate(x, q, **{option: value})
    loss, found = cxent.cross_entropy_with_grad(x, q, reduction="sum", **{option: value})
    base, times = (16, 2) if option == "softcap" else (8, 2)
    check(loss, [exact_loss], [base + times * max(gap, 1)])
    check(found, grad, [base + times * max(s, gap) for s in shift], units)


@pytest.mark.parametrize("dtype", DTYPES)
def test_sample_weights_and_ignored_rows(dtype):
    x, rng = row(40, 2, dtype)
    x = np.stack([x, x[::-1], 2 * x])
    s = rng.uniform(0.1, 3, 3).astype(dtype)
    labels = np.array([3, -7, 39])
    exact = [evaluate(values, label) for values, label in zip(x, labels, strict=True)]
    total = mpf(float(s[0])) + mpf(float(s[2]))
    loss, grad = cxent.cross_entropy_with_grad(x, labels, sample_weight=s, ignore_index=-7)
    check(loss, [(mpf(float(s[0])) * exact[0][0] + mpf(float(s[2])) * exact[2][0]) / total], [8])
    for i in (0, 2):
        allowed = [4 + max(shift, exact[i][5]) for shift in exact[i][4]]
        check(grad[i], [mpf(float(s[i])) * g / total for g in exact[i][1]], allowed)
    assert not grad[1].any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cap", [2.0, 30.0])
def test_capped_logits_that_are_saturated_keep_their_differences(dtype, cap):
    """Their tanh is 1 to all digits; what they differ in is not."""
    for u in ([8 * cap, 7 * cap, 6 * cap], [-8 * cap, -7 * cap, -6.5 * cap], [9 * cap, 5 * cap, -5 * cap]):
        x = np.array(u, dtype)
        for label in range(3):
            exact_loss, grad, _, units, shift, gap = evaluate(x, label, softcap=cap)
            loss, found = cxent.cross_entropy_with_grad(x, label, softcap=cap, reduction="sum")
            check(loss, [exact_loss], [16 + 2 * max(shift)])
            # the slope is computed from exp(-2 |u| / cap), whose argument is rounded
            check(found, grad, [16 + 4 * abs(v) / cap + 2 * max(s, gap) for v, s in zip(u, shift, strict=True)], units)
