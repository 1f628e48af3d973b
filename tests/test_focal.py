"""The focal factor of cross-entropy: against exact values, differences, definitions, and the formula of torchvision."""

from functools import cache

import numpy as np
import pytest
from helpers import FLOATS, HALVES, assert_all_same_bits, assert_same_bits, central_differences, ulp, words
from mpmath import mp, mpf
from numpy.testing import assert_allclose

import cxent

GAMMAS = [0.5, 1, 2, 2.5, 10, 100]


# Exact values


@cache
def exact_focal(x, label, gamma):
    """The loss, the gradient and the diagonal of the Hessian of a tuple of logits; the largest term of the latter, and
    what the exponent of a broken gamma is, from which digits go in exp."""
    x, gamma = [mpf(v) for v in x], mpf(gamma)
    others = mp.fsum(mp.exp(v - x[label]) for j, v in enumerate(x) if j != label)
    p_label = 1 / (1 + others)
    u, loss = others * p_label, mp.log1p(others)
    p = [mp.exp(v - x[label]) * p_label for v in x]
    k = u**gamma + gamma * u ** (gamma - 1) * p_label * loss
    terms = [gamma * u**gamma * p_label * t for t in (2, -loss, (gamma - 1) * p_label * loss / u)]
    grad, hess, units = [], [], []
    for j, v in enumerate(p):
        first, square = (k * v * u, u) if j == label else (k * v * (1 - v), v**2 / u)
        grad.append(-k * u if j == label else k * v)
        hess.append(first + mp.fsum(terms) * square)
        units.append(max(first, *(abs(t) * square for t in terms)))
    return u**gamma * loss, grad, hess, units, float((gamma - mp.floor(gamma)) * -mp.log(u))


def test_the_exact_values_are_those_of_the_definition():
    def loss(*z):
        total = mp.fsum(mp.exp(v) for v in z)
        return ((total - mp.exp(z[1])) / total) ** mpf(2.5) * -mp.log(mp.exp(z[1]) / total)

    z = (mpf(0.5), mpf(-1), mpf(2))
    exact = exact_focal((0.5, -1.0, 2.0), 1, 2.5)
    assert abs(loss(*z) - exact[0]) < 1e-40
    for j in range(3):
        for order in (1, 2):
            by_differences = mp.diff(loss, z, tuple(order if k == j else 0 for k in range(3)))
            assert abs(by_differences - exact[order][j]) < 1e-25


def rows(dtype):
    rng = np.random.default_rng(0)
    for classes in (2, 3, 10, 49, 130):
        for spread in (0.1, 1, 5, 20):
            x = (spread * rng.standard_normal(classes)).astype(dtype)
            yield from ((x, label) for label in {int(x.argmax()), int(x.argmin()), classes // 2})
    for d in (-80, -5, 5, 17, 40, 69):  # p_y = 1 - 1e-30 at the last
        yield np.array([d, 0.3, -0.2], dtype), 0


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_digits(dtype, gamma):
    """1 - p_y keeps its own, whose error counts gamma times; a broken gamma takes a logarithm of it."""
    smallest = float(np.finfo(dtype).smallest_normal)
    for x, label in rows(dtype):
        loss, grad, hess, units, exponent = exact_focal(tuple(x.tolist()), label, gamma)
        found = cxent.cross_entropy_with_hess(x, label, focal_gamma=gamma, reduction="sum")
        allowed = 4 + 3 * gamma + 2 * exponent
        # (A probability below the smallest normal number may be 0, and its loss is some hundred.)
        lost = smallest * 100 * (1 + gamma)
        for value, exact, unit, times in (
            [(found[0], loss, loss, 1)]
            + [(*three, 1.5) for three in zip(found[1], grad, grad, strict=True)]
            + [(*three, 2.5) for three in zip(found[2], hess, units, strict=True)]
        ):
            off = abs(mpf(float(value)) - exact)
            assert off <= lost or off <= times * allowed * ulp(unit, dtype), (x, label, value, float(exact))


@pytest.mark.parametrize("dtype", FLOATS)
def test_hessians_can_be_negative(dtype):
    _, _, hess = cxent.cross_entropy_with_hess(np.array([-3, 0, 0.5], dtype), 0, focal_gamma=2.0, reduction="sum")
    assert hess[0] < 0 < hess[1]


# Definitions


def focal_by_definition(
    u, labels, gamma, *, where=None, weight=None, sample_weight=None, ignore_index=None, z_loss=0.0, softcap=None,
    temperature=1.0, reduction="mean",
):  # fmt: skip
    """The loss in long double, by its formula."""
    u = np.asarray(u).astype(np.longdouble)
    n, classes = u.shape
    x = u / temperature if softcap is None else softcap * np.tanh(u / (temperature * np.longdouble(softcap)))
    x = x if where is None else np.where(where, x, -np.inf)
    w = np.ones(classes) if weight is None else weight
    counts = np.ones(n, bool) if ignore_index is None else labels != ignore_index
    s = np.where(counts, 1 if sample_weight is None else sample_weight, 0).astype(np.longdouble)
    y = np.where(counts, labels, 0)
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    at_label = e[np.arange(n), y]
    of_others = np.where(np.arange(classes) == y[:, np.newaxis], 0, e).sum(axis=-1)
    losses = w[y] * (of_others / e.sum(axis=-1)) ** gamma * np.log1p(of_others / at_label)
    lse = x.max(axis=-1) + np.log(e.sum(axis=-1))
    d, d_z = ((s * w[y]).sum(), s.sum()) if reduction == "mean" else (1, 1)
    found = np.where(s == 0, 0, s / d * losses + z_loss * s / d_z * lse**2)
    return found if reduction == "none" else found.sum()


N, C = 7, 5
RNG = np.random.default_rng(1)
X, LABELS = 2 * RNG.standard_normal((N, C)), np.array([0, 1, 2, 3, 4, 2, 0])
WHERE = RNG.random((N, C)) < 0.6
WHERE[np.arange(N), LABELS] = True
OPTIONS = {
    "plain": {},
    "where": {"where": WHERE},
    "weight": {"weight": RNG.random(C) + 0.5},
    "sample_weight": {"sample_weight": RNG.random(N) - 0.3},
    "ignore_index": {"ignore_index": 2},
    "temperature": {"temperature": 1.7},
    "softcap": {"softcap": 3.0},
    "z_loss": {"z_loss": 0.1},
}
OPTIONS["all"] = {name: value for options in OPTIONS.values() for name, value in options.items()}


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("name", OPTIONS)
def test_options(name, gamma, reduction):
    """Together with all others: the loss by its definition, derivatives by differences of what they derive."""
    options = {"focal_gamma": gamma, "reduction": reduction, **OPTIONS[name]}
    loss, grad = cxent.cross_entropy_with_grad(X, LABELS, **options)
    given = {key: value for key, value in options.items() if key != "focal_gamma"}
    assert_allclose(loss, focal_by_definition(X, LABELS, gamma, **given).astype(float), rtol=1e-12)
    assert_allclose(cxent.cross_entropy(X, LABELS, **options), loss, rtol=1e-15)
    total = "sum" if reduction == "none" else reduction
    slopes = central_differences(lambda x: cxent.cross_entropy(x, LABELS, **{**options, "reduction": total}), X)
    assert_allclose(grad, slopes, rtol=1e-5, atol=1e-8)
    if "softcap" in options or "z_loss" in options:
        return
    same_loss, same_grad, hess = cxent.cross_entropy_with_hess(X, LABELS, **options)
    assert_allclose(same_loss, loss, rtol=1e-15)
    assert_allclose(same_grad, grad, rtol=1e-15)
    slopes = central_differences(lambda x: cxent.cross_entropy_with_grad(x, LABELS, **options)[1], X)
    diagonal = slopes.reshape(N * C, N * C).diagonal().reshape(N, C)
    assert_allclose(hess, diagonal, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("dtype", [np.float32, *HALVES])
def test_other_dtypes_and_axes(dtype, name, axis):
    options = {"focal_gamma": 2.0, "reduction": "none", **OPTIONS[name]}
    x = X.astype(dtype)
    loss, grad = cxent.cross_entropy_with_grad(x.astype(float), LABELS, **options)
    if axis == 0 and "where" in options:
        options["where"] = options["where"].T
    given = np.ascontiguousarray(x.T) if axis == 0 else x
    found, found_grad = cxent.cross_entropy_with_grad(given, LABELS, axis=axis, **options)
    found_grad = found_grad.T if axis == 0 else found_grad
    assert found_grad.dtype == dtype
    assert_allclose(found, loss, rtol=2e-5, atol=1e-6)
    eps = float(np.spacing(np.ones((), dtype)))
    assert_allclose(found_grad.astype(float), grad, rtol=max(eps, 2e-5), atol=1e-6)
    if dtype is not np.float32:  # as float32, rounded once more
        wide = x.astype(np.float32)
        assert_same_bits(found, cxent.cross_entropy(wide.T if axis == 0 else wide, LABELS, axis=axis, **options))


def test_the_formula_of_torchvision():
    """Two classes: the softmax of [0, x] is a sigmoid."""
    x, labels = np.linspace(-9, 9, 61), np.arange(61) % 2
    p = 1 / (1 + np.exp(-x))
    log_loss = np.logaddexp(0, x) - labels * x
    for gamma in GAMMAS:
        p_label = p * labels + (1 - p) * (1 - labels)
        expected = log_loss * (1 - p_label) ** gamma
        found = cxent.cross_entropy(np.stack([0 * x, x], axis=-1), labels, focal_gamma=gamma, reduction="none")
        assert_allclose(found, expected, rtol=1e-9 * (1 + gamma))
        binary = cxent.binary_cross_entropy(x, labels, focal_gamma=gamma, reduction="none")
        assert_allclose(found, binary, rtol=1e-14 * (10 + gamma), atol=1e-300)


def all_losses(x, labels, **options):
    results = {}
    for reduction in ("mean", "sum", "none"):
        given = {**options, "reduction": reduction}
        results[f"loss, {reduction}"] = cxent.cross_entropy(x, labels, **given)
        loss, grad, lse = cxent.cross_entropy_with_grad(x, labels, return_lse=True, **given)
        results |= {f"same loss, {reduction}": loss, f"grad, {reduction}": grad, f"lse, {reduction}": lse}
        if "softcap" not in given and "z_loss" not in given:
            results[f"hess, {reduction}"] = cxent.cross_entropy_with_hess(x, labels, **given)[2]
    return results


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("dtype", [*FLOATS, *HALVES])
def test_gamma_0_is_the_plain_loss(dtype, name):
    x, options = X.astype(dtype), OPTIONS[name]
    plain = all_losses(x, LABELS, **options)
    assert_all_same_bits(all_losses(x, LABELS, focal_gamma=0, **options), plain)
    for key, value in all_losses(x, LABELS, focal_gamma=1e-300, **options).items():  # and what is nearly 0, nearly
        assert_allclose(value.astype(float), plain[key].astype(float), rtol=8 * float(np.spacing(np.ones((), dtype))))


@pytest.mark.parametrize("gamma", [0.5, 1, 2, 100])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("classes", [3, 40, 200])
def test_special_values(classes, dtype, gamma):
    """Nothing is left where p_y is 1, all of it where p_y is 0, and NaN stays in its row."""
    x = np.zeros((5, classes), dtype)
    x[0, 1:] = -np.inf
    x[1, 0] = -np.inf
    x[2, 2] = np.nan
    x[3, 2] = np.inf
    x[4] = -np.inf
    loss, grad, hess = cxent.cross_entropy_with_hess(x, np.zeros(5, int), focal_gamma=gamma, reduction="none")
    np.testing.assert_array_equal(loss, [0, np.inf, np.nan, np.nan, np.nan])
    for values in (grad, hess):
        np.testing.assert_array_equal(values[0], 0)
        assert np.isnan(values[2:]).all()
    assert_allclose(grad[1, 0], -1, rtol=1e-5)
    assert_allclose(grad[1, 1:], 1 / (classes - 1), rtol=1e-5)
    assert not np.isnan(hess[1]).any()


@pytest.mark.parametrize("classes", [1, 5, 60, 300])
@pytest.mark.parametrize("dtype", FLOATS)
def test_rows_and_columns_agree(dtype, classes):
    """Alone, in a batch, in columns, in place, and with more threads."""
    rng = np.random.default_rng(classes)
    x, labels = (3 * rng.standard_normal((40, classes))).astype(dtype), rng.integers(0, classes, 40)
    options = {"focal_gamma": 1.5, "reduction": "none"}
    loss, grad, hess = cxent.cross_entropy_with_hess(x, labels, **options)
    for i in (0, 17, 39):
        for found, expected in zip(
            cxent.cross_entropy_with_hess(x[i], labels[i], **options), (loss[i], grad[i], hess[i]), strict=True
        ):
            assert_same_bits(found, expected)
    for found, expected in zip(
        cxent.cross_entropy_with_hess(x, labels, workers=2, **options), (loss, grad, hess), strict=True
    ):
        assert_same_bits(found, expected)
    columns = cxent.cross_entropy_with_hess(np.ascontiguousarray(x.T), labels, axis=0, **options)
    for found, expected in zip(columns, (loss, grad.T, hess.T), strict=True):
        eps = 30 * np.finfo(dtype).eps  # (the Hessian is a sum that cancels)
        assert_allclose(found, expected, rtol=eps, atol=eps * abs(expected).max())
    given = x.copy()
    assert cxent.cross_entropy_with_grad(given, labels, out=given, **options)[1] is given
    assert_same_bits(given, cxent.cross_entropy_with_grad(x, labels, **options)[1])


@pytest.mark.once
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"focal_gamma": -0.5}, ValueError, "focal_gamma must be a number from 0 to 100, got -0.5"),
        ({"focal_gamma": 100.5}, ValueError, "focal_gamma ... got 100.5"),
        ({"focal_gamma": np.nan}, ValueError, "focal_gamma ... got nan"),
        ({"focal_gamma": True}, TypeError, "focal_gamma ... got True"),
        ({"focal_gamma": "2"}, TypeError, "focal_gamma ... got '2'"),
        ({"focal_gamma": None}, TypeError, "focal_gamma ... got None"),
        ({"focal_gamma": 2, "label_smoothing": 0.1}, ValueError, "focal_gamma is 2.0 and label_smoothing is 0.1"),
        ({"focal_gamma": 2, "target": np.full((2, 3), 0.5)}, ValueError, "focal_gamma ... class indices, got"),
        ({"focal_gamma": 2, "target": np.eye(3, dtype=int)[:2]}, ValueError, "focal_gamma ... class indices"),
    ],
)  # fmt: skip
def test_bad_input(options, error, message):
    target = options.get("target", [0, 1])
    options = {name: value for name, value in options.items() if name != "target"}
    x = np.zeros((2, 3))
    for function in (cxent.cross_entropy, cxent.cross_entropy_with_grad, cxent.cross_entropy_with_hess):
        with pytest.raises(error, match=words(message)):
            function(x, target, **options)
    with pytest.raises(error, match=words(message)):
        cxent.cross_entropy_with_grad(x, target, out=x, **options)
    assert not x.any()
