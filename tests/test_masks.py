"""`where=`: the same answer as from the row without the hidden classes; and the factors and signs of logsumexp."""

import itertools

import numpy as np
import pytest
import scipy.special
from helpers import (
    FLOATS,
    HALVES,
    assert_same_bits,
    exact_numbers,
    loss_by_definition,
    one_hot,
    softmax_by_definition,
    unchanged,
    words,
)
from hypothesis import given
from hypothesis import strategies as st
from layouts import arrays_like, logits_and_axes
from mpmath import mp
from numpy.testing import assert_allclose, assert_array_equal

import cxent

RTOL = {"float32": 1e-5, "float64": 1e-13}
FUNCTIONS = [cxent.softmax, cxent.log_softmax, cxent.logsumexp]


@given(logits_and_axes(max_size=3000), st.floats(0, 1), st.booleans(), st.data())
def test_masked_logits_take_no_part(logits, share, broadcast, data):
    x, axis = logits
    rng = np.random.default_rng(0)
    shape = x.shape[1:] if broadcast else x.shape
    where = data.draw(arrays_like(rng.random(shape) < share))
    mask = np.broadcast_to(where, x.shape)
    garbage = np.array(x, x.dtype.newbyteorder("="))
    garbage[~mask] = rng.choice([np.nan, np.inf, -np.inf, 1e30], np.count_nonzero(~mask))
    p, log_p, lse = softmax_by_definition(x, axis, where)
    rtol = RTOL[garbage.dtype.name]
    with unchanged(garbage, where):
        assert_allclose(cxent.softmax(garbage, axis, where=where), p, rtol=10 * rtol, atol=rtol)
        assert_allclose(cxent.log_softmax(garbage, axis, where=where), log_p, rtol=10 * rtol, atol=10 * rtol)
        assert_allclose(cxent.logsumexp(garbage, axis, where=where, keepdims=True), lse, rtol=rtol, atol=rtol)
    assert cxent.softmax(garbage, axis, where=where, out=garbage) is garbage
    assert_allclose(garbage, p, rtol=10 * rtol, atol=rtol)


OF_NOTHING = {cxent.softmax: 0.0, cxent.log_softmax: -np.inf, cxent.logsumexp: -np.inf}


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("axis", [0, 1, -1, None, (0, 1), (0,)], ids=str)
def test_all_and_nothing(axis, function):
    x = np.array([[1.0, 2.0], [3.0, 5.0]])
    assert_same_bits(function(x, axis, where=True), function(x, axis))
    assert_array_equal(function(x, axis, where=False), OF_NOTHING[function])


def test_infinite_logits_take_part():
    assert np.isnan(cxent.softmax([[-np.inf, -np.inf]], where=True)).all()


MASKED_SHAPES = [((n, c), 1) for c in (1, 3, 10, 48, 49, 100, 600, 4097) for n in (1, 3, 17, 70)]
MASKED_SHAPES += [((2, 5, 70), 1), ((2, 100, 17), 1), ((2, 4100, 3), 1), ((3, 40, 2), 0)]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(("shape", "axis"), MASKED_SHAPES, ids=str)
@pytest.mark.parametrize("masked", ["numbers", "classes", "rows"])
def test_a_masked_logit_is_one_of_minus_infinity(masked, shape, axis, dtype):
    rng = np.random.default_rng(0)
    x = (3 * rng.standard_normal(shape)).astype(dtype)
    mask_shape = {
        "numbers": shape,
        "classes": [n if a == axis else 1 for a, n in enumerate(shape)],
        "rows": [1 if a == axis else n for a, n in enumerate(shape)],
    }[masked]
    where = rng.random(mask_shape) < 0.7
    mask = np.broadcast_to(where, shape)
    infinite = np.where(mask, x, dtype(-np.inf))
    any_counts = mask.any(axis, keepdims=True)
    for function in (cxent.softmax, cxent.log_softmax):
        expected = np.where(any_counts, function(infinite, axis), dtype(OF_NOTHING[function]))
        assert_same_bits(function(x, axis, where=where), expected, function.__name__)
    assert_same_bits(cxent.logsumexp(x, axis, where=where), cxent.logsumexp(infinite, axis), "logsumexp")


@pytest.mark.parametrize("workers", [1, 2])
def test_masks_of_large_arrays(workers):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((700, 1000)).astype(np.float32)
    where = rng.random(x.shape) < 0.5
    expected = cxent.softmax(np.where(where, x, -np.inf).astype(np.float32))
    assert_array_equal(cxent.softmax(x, where=where, workers=workers), expected)
    assert_array_equal(cxent.softmax(x.T, 0, where=where.T, workers=workers), expected.T)


def test_a_mask_may_be_where_the_results_go():
    x = np.random.default_rng(0).standard_normal((40, 100))
    memory = np.zeros_like(x)
    where = memory.view(bool)[:, :100]
    where[...] = x > 0
    expected = cxent.softmax(x, where=x > 0)
    assert_array_equal(cxent.softmax(x, where=where, out=memory), expected)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_bad_masks(function):
    x = np.zeros((2, 3))
    with pytest.raises(ValueError, match=r"^where must .*got \(2,\)"):
        function(x, where=[True, False])
    with pytest.raises(ValueError, match=r"^where must .*got \(2, 2, 3\)"):
        function(x, where=np.ones((2, 2, 3), bool))
    with pytest.raises(TypeError, match=r"^where must .*got int64"):
        function(x, where=[1, 0, 1])
    assert_array_equal(x, 0)


@given(logits_and_axes(dtypes=[np.float64], max_size=3000), st.booleans(), st.booleans())
def test_factors_and_signs_against_scipy(logits, signed, keepdims):
    x, axis = logits
    rng = np.random.default_rng(0)
    b = rng.uniform(-1 if signed else 0, 1, x.shape) * (rng.random(x.shape) < 0.9)
    lse, sign = cxent.logsumexp(x, axis, b=b, keepdims=keepdims, return_sign=True)
    expected, expected_sign = scipy.special.logsumexp(x.astype(float), axis, b=b, keepdims=keepdims, return_sign=True)
    # Where terms of both signs cancel, digits go.
    total = scipy.special.logsumexp(x.astype(float), axis, b=np.abs(b), keepdims=keepdims)
    safe = np.asarray(expected > total - 6) | (np.asarray(total) == -np.inf)
    assert_allclose(np.where(safe, lse, 0), np.where(safe, expected, 0), rtol=1e-10, atol=1e-10)
    assert_array_equal(np.where(safe, sign, 0), np.where(safe, expected_sign, 0))
    assert np.shape(lse) == np.shape(sign) == np.shape(expected)
    found = np.asarray(cxent.logsumexp(x, axis, b=b, keepdims=keepdims))
    assert_array_equal(found, np.where(np.asarray(sign) < 0, np.nan, lse))


@pytest.mark.parametrize("classes", [1, 2, 10, 100])
def test_factors_against_exact_values(classes):
    rng = np.random.default_rng(classes)
    x, b = 5 * rng.standard_normal(classes), rng.uniform(-1, 1, classes)
    exact = mp.fsum(v * mp.exp(u) for u, v in zip(exact_numbers(x), exact_numbers(b), strict=True))
    lse, sign = cxent.logsumexp(x, b=b, return_sign=True)
    assert sign == (1 if exact > 0 else -1)
    assert lse == pytest.approx(float(mp.log(abs(exact))), rel=1e-13, abs=1e-13)


@pytest.mark.parametrize(
    ("x", "b", "lse", "sign"),
    [
        ([1.0, 1.0], [1.0, -1.0], -np.inf, 0),
        ([1.0, 2.0], [0.0, 0.0], -np.inf, 0),
        ([1.0, np.nan], [1.0, 0.0], 1.0, 1),
        ([1.0, np.nan], [1.0, 1.0], np.nan, np.nan),
        ([np.inf, 1.0], [-1.0, 1.0], np.inf, -1),
        ([np.inf, np.inf], [-1.0, 1.0], np.nan, np.nan),
        ([-np.inf, -np.inf], [1.0, -1.0], -np.inf, 0),
        ([0.0, -40.0], [1.0, 1.0], np.exp(-40), 1),
    ],
)
def test_special_sums(x, b, lse, sign):
    found, found_sign = cxent.logsumexp(x, b=b, return_sign=True)
    assert_array_equal([found, found_sign], [lse, sign])


def test_factors_do_not_go_with_a_large_maximum():
    assert cxent.logsumexp([1000.0, 1000.0], b=[1, -(1 - 1e-12)]) == pytest.approx(
        1000 + np.log(1 - (1 - 1e-12)), rel=1e-15
    )
    b = np.float32([1, -0.999])
    assert cxent.logsumexp(np.float32([50, 50]), b=b) == np.float32(50 + np.log(1 + float(b[1])))


def test_signs_without_factors():
    lse, sign = cxent.logsumexp([[0.0, 0.0], [-np.inf, -np.inf], [np.inf, 0.0], [np.nan, 0.0]], return_sign=True)
    assert_array_equal(sign, [1, 0, 1, np.nan])
    assert_array_equal(lse, cxent.logsumexp([[0.0, 0.0], [-np.inf, -np.inf], [np.inf, 0.0], [np.nan, 0.0]]))


def test_factors_that_do_not_fit():
    with pytest.raises(ValueError, match=r"^b must .*got \(3,\)"):
        cxent.logsumexp([1, 2], b=[1, 2, 3])
    with pytest.raises(TypeError, match=r"^b must .*got complex128"):
        cxent.logsumexp([1, 2], b=[1j, 2])


# Losses and scores: the same answer as from the row without the hidden classes

OPTIONS = {
    "plain": {},
    "weight": {"weight": True},
    "sample_weight": {"sample_weight": True},
    "ignore_index": {"ignore_index": True},
    "label_smoothing": {"label_smoothing": 0.2},
    "temperature": {"temperature": 0.7},
    "softcap": {"softcap": 3.0},
    "z_loss": {"z_loss": 0.1},
    "focal": {"focal_gamma": 2.0},
    "many": {"weight": True, "sample_weight": True, "ignore_index": True, "label_smoothing": 0.1, "temperature": 1.3},
    "more": {"weight": True, "label_smoothing": 0.1, "temperature": 0.5, "softcap": 5.0, "z_loss": 0.1},
    "focal and more": {"focal_gamma": 0.5, "weight": True, "sample_weight": True, "temperature": 2.0},
}
ROWS = 6
NO_CLASS = np.iinfo(np.int64).max


class Masked:
    """Logits of which each row has some hidden classes with garbage in their place, and what belongs to them."""

    def __init__(self, classes, dtype):
        rng = self.rng = np.random.default_rng(classes)
        self.mask = rng.random((ROWS, classes)) < 0.7
        self.mask[np.arange(ROWS), rng.integers(0, classes, ROWS)] = True
        self.x = (3 * rng.standard_normal((ROWS, classes))).astype(dtype)
        self.labels = np.array([rng.choice(np.flatnonzero(row)) for row in self.mask])
        self.garbage = self.with_garbage(self.x)
        self.targets = {
            "labels": self.labels,
            "probabilities": np.where(self.mask, rng.random((ROWS, classes)), 0).astype(dtype),
            "one-hot": one_hot(self.labels, classes).astype(int),
        }
        self.weight = (rng.random(classes) + 0.5).astype(dtype)
        self.sample_weight = (rng.random(ROWS) - 0.3).astype(dtype)

    def with_garbage(self, x):
        garbage = x.copy()
        hidden = np.count_nonzero(~self.mask)
        garbage[~self.mask] = self.rng.choice([np.nan, np.inf, -np.inf, 6e4, 0], hidden).astype(x.dtype)
        return garbage

    def given(self, options, target):
        """The options as a function takes them."""
        given = {k: v for k, v in options.items() if k != "ignore_index" or target == "labels"}
        for name in {"weight", "sample_weight"} & given.keys():
            given[name] = getattr(self, name)
        if "ignore_index" in given:
            given["ignore_index"] = int(self.labels[2])
        return given

    def row(self, i, given, target):
        """Row i without its hidden classes, its target, and its options."""
        chosen = self.mask[i]
        given = dict(given)
        y = self.targets[target][i : i + 1]
        if target == "labels":
            y = np.where(y == given.get("ignore_index"), y, np.cumsum(chosen)[y] - 1)
            if given.pop("ignore_index", None) == self.labels[i]:
                y, given["ignore_index"] = np.array([-1]), -1
        else:
            y = y[:, chosen]
        if "weight" in given:
            given["weight"] = given["weight"][chosen].astype(float)
        if "sample_weight" in given:
            given["sample_weight"] = given["sample_weight"][i : i + 1]
        return self.x[i : i + 1, chosen].astype(float), y, given

    def expected(self, given, target):
        """The loss, the gradient and the logsumexp of each row, the Hessian, and what it makes of a vector."""
        loss, lse, (grad, hess) = np.zeros(ROWS), np.zeros(ROWS), np.zeros((2, ROWS, self.x.shape[1]))
        for i, chosen in enumerate(self.mask):
            x, y, options = self.row(i, given, target)
            if "focal_gamma" in options:
                loss[i], grad[i, chosen], lse[i] = (
                    np.squeeze(a)
                    for a in cxent.cross_entropy_with_grad(x, y, reduction="sum", return_lse=True, **options)
                )
                hess[i, chosen] = cxent.cross_entropy_with_hess(x, y, reduction="sum", **options)[2]
                continue
            found = loss_by_definition(x, y, reduction="sum", **options)
            loss[i], grad[i, chosen], lse[i], hess[i, chosen] = (np.squeeze(a) for a in found)
        return loss, grad, lse, hess

    def product(self, given, target, vector):
        """H v of each row."""
        found = np.zeros(self.x.shape)
        for i, chosen in enumerate(self.mask):
            x, y, options = self.row(i, given, target)
            found[i, chosen] = cxent.cross_entropy_hvp(
                x, y, vector[i : i + 1, chosen].astype(float), reduction="sum", **options
            )
        return found


def close(found, expected, dtype):
    expected = np.asarray(expected, float)
    size = np.abs(expected).max(initial=0, where=np.isfinite(expected))
    rtol = RTOL[np.dtype(dtype).name]
    assert_allclose(np.asarray(found, float), expected, rtol=3 * rtol, atol=rtol * size)


@pytest.mark.parametrize("classes", [1, 2, 3, 10, 17, 49, 100, 130, 600])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("target", ["labels", "probabilities", "one-hot"])
@pytest.mark.parametrize("name", OPTIONS)
def test_losses_are_those_of_rows_without_hidden_classes(name, target, dtype, classes):
    if "focal_gamma" in OPTIONS[name] and target != "labels":
        pytest.skip("a focal loss is one of labels")
    case = Masked(classes, dtype)
    given = case.given(OPTIONS[name], target)
    y, options = case.targets[target], {"where": case.mask, "reduction": "none", **given}
    with unchanged(case.garbage, case.mask):
        loss, grad, lse = cxent.cross_entropy_with_grad(case.garbage, y, return_lse=True, **options)
    expected = case.expected(given, target)
    for found, wanted in zip((loss, grad, lse), expected, strict=False):
        close(found, wanted, dtype)
    assert not grad[~case.mask].any()
    assert_same_bits(cxent.cross_entropy(case.garbage, y, **options), loss)
    for reduction in ("sum", "mean"):
        options["reduction"] = reduction
        total, grad_of_total = cxent.cross_entropy_with_grad(case.garbage, y, **options)
        s = given.get("sample_weight", np.ones(ROWS)).astype(float)
        if target == "labels":
            s = np.where(case.labels == given.get("ignore_index"), 0, s)
            w = given.get("weight", np.ones(classes))[case.labels]
        else:
            w = np.ones(ROWS)
        d = (s * w).sum() if reduction == "mean" else 1
        if d == 0:  # all rows are ignored
            assert np.isnan(total)
            assert not grad_of_total.any()
        elif "z_loss" not in given or reduction == "sum":
            close(total * d, expected[0].sum(), dtype)
            close(grad_of_total.astype(float) * d, expected[1], dtype)
        assert not grad_of_total[~case.mask].any()
    if "softcap" in given or "z_loss" in given:
        return
    options["reduction"] = "sum"
    _, same, hess = cxent.cross_entropy_with_hess(case.garbage, y, **options)
    close(same, expected[1], dtype)
    close(hess, expected[3], dtype)
    assert not hess[~case.mask].any()
    if "focal_gamma" not in given:
        vector = case.rng.standard_normal(case.x.shape).astype(dtype)
        product = cxent.cross_entropy_hvp(case.garbage, y, case.with_garbage(vector), **options)
        close(product, case.product(given, target, vector), dtype)
        assert not product[~case.mask].any()


@pytest.mark.parametrize("classes", [2, 10, 49, 130])
@pytest.mark.parametrize("dtype", [*FLOATS, *HALVES])
@pytest.mark.parametrize("name", OPTIONS)
def test_a_label_that_is_hidden(name, dtype, classes):
    """Its loss is infinite, its gradient finite and 0 where the label is."""
    case = Masked(classes, np.float32)
    x = case.garbage.astype(dtype)
    mask = case.mask.copy()
    mask[np.arange(ROWS), case.labels] = False
    mask[np.arange(ROWS), (case.labels + 1) % classes] = True
    x[np.arange(ROWS), (case.labels + 1) % classes] = 0.5
    given = case.given({k: v for k, v in OPTIONS[name].items() if k != "ignore_index"}, "labels")
    signs = np.sign(given.get("sample_weight", np.ones(ROWS)))
    for target in (case.labels, one_hot(case.labels, classes).astype(int)):
        if target.ndim == 2 and "focal_gamma" in given:
            continue
        loss, grad = cxent.cross_entropy_with_grad(x, target, where=mask, reduction="none", **given)
        assert_array_equal(loss, signs * np.inf)
        assert np.isfinite(grad.astype(float)).all()
        assert not grad[~mask].any()
        if "softcap" not in given and "z_loss" not in given:
            _, _, hess = cxent.cross_entropy_with_hess(x, target, where=mask, reduction="none", **given)
            assert np.isfinite(hess.astype(float)).all()
            assert not hess[~mask].any()
    if classes > 2:  # and where a part of a row of probabilities is hidden
        q = np.where(np.arange(classes) == case.labels[:, np.newaxis], 0.25, 0.75 * mask)
        loss, grad = cxent.cross_entropy_with_grad(
            x, q, where=mask, reduction="none", **{k: v for k, v in given.items() if k != "focal_gamma"}
        )
        assert_array_equal(loss, signs * np.inf)
        assert np.isfinite(grad.astype(float)).all()
        assert not grad[~mask].any()


@pytest.mark.parametrize("classes", [3, 130])
def test_a_label_that_has_no_share(classes):
    """Where smoothing takes all, it matters neither that a label is hidden, nor what else is infinite there."""
    x = np.random.default_rng(0).standard_normal((4, classes))
    x[:, 0] = -np.inf
    for mask, target in itertools.product((x[0] != 0.5, x != -np.inf, x[0] != -np.inf), (0, 1)):
        chosen = np.broadcast_to(mask, x.shape)[0]
        loss, grad = cxent.cross_entropy_with_grad(x, [target] * 4, where=mask, label_smoothing=1.0, reduction="none")
        expected = cxent.cross_entropy_with_grad(
            x[:, chosen], np.ones((4, chosen.sum())) / chosen.sum(), reduction="none"
        )
        assert_allclose(loss, expected[0], rtol=1e-13)
        assert_allclose(grad[:, chosen], expected[1], rtol=1e-12, atol=1e-15)
        assert not grad[:, ~chosen].any()


@pytest.mark.parametrize("classes", [1, 3, 17, 130])
@pytest.mark.parametrize("dtype", [*FLOATS, *HALVES])
@pytest.mark.parametrize("name", OPTIONS)
def test_a_row_without_any_class(name, dtype, classes):
    """NaN if it counts, 0 if not; and a logsumexp of -inf."""
    case = Masked(classes, np.float32)
    x, mask = case.garbage.astype(dtype), case.mask.copy()
    mask[1] = mask[4] = False
    weights = np.ones(ROWS)
    weights[4] = 0
    for target, y in case.targets.items():
        given = case.given({k: v for k, v in OPTIONS[name].items() if k != "ignore_index"}, target)
        if target != "labels" and "focal_gamma" in given:
            continue
        given |= {"sample_weight": weights, "where": mask, "reduction": "none"}
        loss, grad, lse = cxent.cross_entropy_with_grad(x, y, return_lse=True, **given)
        assert np.isnan(loss).tolist() == [i == 1 for i in range(ROWS)]
        assert np.isnan(grad.astype(float)).all(axis=1).tolist() == [i == 1 for i in range(ROWS)]
        assert loss[4] == 0
        assert not grad[4].any()
        assert_array_equal(lse[[1, 4]], -np.inf)
        assert np.isfinite(np.delete(lse, [1, 4])).all()
        if target == "labels":
            ignoring = {**given, "sample_weight": None, "ignore_index": -7}
            loss, grad = cxent.cross_entropy_with_grad(x, np.where(weights == 0, -7, y), **ignoring)
            assert loss[4] == 0
            assert not grad[4].any()
        if "softcap" not in given and "z_loss" not in given:
            _, _, hess = cxent.cross_entropy_with_hess(x, y, **given)
            assert np.isnan(hess[1].astype(float)).all()
            assert not hess[4].any()
            if "focal_gamma" not in given:
                product = cxent.cross_entropy_hvp(x, y, x.astype(dtype), **given)
                assert np.isnan(product[1].astype(float)).all()
                assert not product[4].any()


def every_result(x, y, mask, axis=-1, workers=1):
    """Results with this mask of what takes one."""
    given = {"axis": axis, "where": mask, "workers": workers}
    by_class = np.arange(1, x.shape[axis] + 1) / 8
    yield from cxent.cross_entropy_with_grad(x, y, reduction="none", return_lse=True, **given)
    yield from cxent.cross_entropy_with_grad(x, y, weight=by_class, label_smoothing=0.1, softcap=4.0, **given)
    for options in ({}, {"softcap": 4.0}, {"temperature": 0.7, "ignore_index": 0}):
        yield from cxent.cross_entropy_with_grad(x, y, label_smoothing=0.1, **options, **given)
        yield cxent.cross_entropy(x, y, label_smoothing=0.1, **options, **given)
    yield from cxent.cross_entropy_with_hess(x, y, temperature=0.7, focal_gamma=1.5, **given)
    yield cxent.cross_entropy_hvp(x, y, x, label_smoothing=0.1, **given)
    yield from cxent.token_logprobs(x, y, top_k=min(3, x.shape[axis]), temperature=0.5, **given)[:6]
    yield from map(np.float64, cxent.perplexity(x, y, **given))
    for function, forward in (
        (cxent.softmax_backward, cxent.softmax),
        (cxent.log_softmax_backward, cxent.log_softmax),
    ):
        yield function(x, forward(x, axis, where=mask), axis, where=mask, workers=workers)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("shape", "axis"), [((9, 7), -1), ((9, 7), 0), ((4, 60, 5), 1), ((3, 2, 300), 2), ((7,), 0)])
def test_masks_that_broadcast(shape, axis, dtype):
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape).astype(dtype)
    y = rng.integers(0, shape[axis], np.delete(shape, axis))
    one_row = [1 if a != axis % len(shape) else n for a, n in enumerate(shape)]
    for mask_shape in ((), shape[-1:], one_row, [1] * len(shape), (*shape[:-1], 1), (1, *shape[1:])):
        mask = rng.random(mask_shape) < 0.7
        whole = np.array(np.broadcast_to(mask, shape))
        expected = list(every_result(x, y, whole, axis))
        for same in (mask, mask.tolist(), np.asfortranarray(whole), np.repeat(whole, 2, axis=-1)[..., ::2]):
            for found, wanted in zip(every_result(x, y, same, axis), expected, strict=True):
                assert_same_bits(found, wanted)
        for found, wanted in zip(every_result(np.asfortranarray(x), y, mask, axis), expected, strict=True):
            assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("classes", [3, 17, 40, 130, 600])
@pytest.mark.parametrize("dtype", [*FLOATS, *HALVES])
@pytest.mark.parametrize("number", [0.0, -np.inf, np.inf, np.nan], ids=str)
def test_masks_in_any_order_beside_special_numbers(number, dtype, classes):
    """Hidden or not, in an empty row or not, at the label or not."""
    rng = np.random.default_rng(classes)
    rows = 40
    x = rng.standard_normal((rows, classes)).astype(dtype)
    y = rng.integers(0, classes, rows)
    mask = rng.random((rows, classes)) < 0.7
    mask[5] = mask[-1] = False
    x[np.arange(rows), rng.integers(0, classes, rows)] = np.where(np.arange(rows) % 3, x[:, 0], dtype(number))
    columns = np.asfortranarray(mask)
    for options in ({}, {"softcap": 4.0}, {"temperature": 0.7, "ignore_index": 0}, {"z_loss": 1e38}):
        given = {"label_smoothing": 0.1, "reduction": "none", **options}
        spread = np.empty((rows, 2 * classes), dtype)[:, ::2]
        expected = cxent.cross_entropy_with_grad(x, y, where=columns, **given)
        for out in (None, spread, x.copy()):
            found = cxent.cross_entropy_with_grad(x, y, where=mask, out=out, **given)
            for a, b in zip(found, expected, strict=True):
                assert_same_bits(a, b)
        assert_same_bits(cxent.cross_entropy(x, y, where=mask, **given), expected[0])
        assert_same_bits(cxent.cross_entropy_with_grad(x.copy(), y, where=mask, **given)[1], expected[1])


@pytest.mark.parametrize("classes", [3, 40, 200])
@pytest.mark.parametrize("dtype", FLOATS)
def test_plain_arrays_with_masks_and_workers(dtype, classes, close_the_short_way, share_small_calls):
    rng = np.random.default_rng(classes)
    x, y, mask = (
        rng.standard_normal((30, classes)).astype(dtype),
        rng.integers(0, classes, 30),
        rng.random((30, classes)),
    )
    mask = mask < 0.6
    expected = list(every_result(x, y, mask))
    share_small_calls(50)
    for found, wanted in zip(every_result(x, y, mask, workers=4), expected, strict=True):
        assert_same_bits(found, wanted)
    close_the_short_way()
    for found, wanted in zip(every_result(x, y, mask), expected, strict=True):
        assert_same_bits(found, wanted)


@pytest.mark.parametrize("dtype", [*FLOATS, *HALVES])
@pytest.mark.parametrize("classes", [5, 40, 200])
def test_gradients_in_the_place_of_the_logits_or_of_the_mask(classes, dtype):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((20, classes)).astype(dtype), rng.integers(0, classes, 20)
    mask = rng.random(x.shape) < 0.6
    memory = np.zeros_like(x)
    inside = memory.view(bool).reshape(20, -1)[:, :classes]
    calls = (
        lambda x, mask, out: cxent.cross_entropy_with_grad(x, y, where=mask, out=out)[1],
        lambda x, mask, out: cxent.cross_entropy_with_grad(x, y, where=mask, label_smoothing=0.1, out=out)[1],
        lambda x, mask, out: cxent.cross_entropy_with_hess(x, y, where=mask, out=out)[1],
        lambda x, mask, out: cxent.cross_entropy_hvp(x, y, x, where=mask, out=out),
        lambda x, mask, out: cxent.softmax_backward(x, x, where=mask, out=out),
        lambda x, mask, out: cxent.log_softmax_backward(x, x, where=mask, out=out),
    )
    for call in calls:
        expected = call(x, mask, None)
        inside[...] = mask
        assert call(x, inside, memory) is memory
        assert_same_bits(memory, expected)
        given = x.copy()
        assert call(given, mask, given) is given
        assert_same_bits(given, expected)


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("dtype", HALVES)
def test_half_precision_is_that_of_float32_rounded(dtype, name, kernels):
    if kernels.name == "python":
        pytest.skip("the reference computes in float64, and rounds once")
    for classes in (3, 40, 200):
        case = Masked(classes, np.float32)
        x = case.garbage.astype(dtype)
        given = {"where": case.mask, "reduction": "none", **case.given(OPTIONS[name], "labels")}
        loss, grad = cxent.cross_entropy_with_grad(x, case.labels, **given)
        expected, expected_grad = cxent.cross_entropy_with_grad(x.astype(np.float32), case.labels, **given)
        assert_same_bits(loss, expected)
        assert_same_bits(grad, expected_grad.astype(dtype))


@pytest.mark.parametrize("candidates", [None, 4])
@pytest.mark.parametrize("classes", [1, 3, 10, 49, 130, 600])
@pytest.mark.parametrize("dtype", [*FLOATS, *HALVES])
def test_scores(dtype, classes, candidates):
    """Ranks, entropies and the largest, also where hidden classes tie with some of -inf that take part."""
    case = Masked(classes, np.float32)
    x = np.round(case.garbage, 1).astype(dtype)
    chosen = np.flatnonzero(case.mask[1])
    x[1, chosen[len(chosen) // 2 :]] = -np.inf
    x[1, chosen[0]] = 1
    x[2, case.mask[2]] = -np.inf
    ids = case.labels if candidates is None else case.rng.integers(0, classes, (ROWS, candidates))
    k = min(classes, 5)
    options = {"temperature": 0.8, "softcap": 20.0} if dtype is np.float64 else {}
    found = cxent.token_logprobs(x, ids, where=case.mask, top_k=k, **options)
    several = ids.reshape(ROWS, -1)
    for i, row in enumerate(case.mask):
        (names,) = np.nonzero(row)
        hidden = ~row[several[i]]
        alone = cxent.token_logprobs(
            x[i, row].astype(float), np.where(hidden, 0, np.cumsum(row)[several[i]] - 1), top_k=min(k, len(names)),
            **options,
        )  # fmt: skip
        without = np.isnan(alone.entropy)
        close(found.logsumexp[i], alone.logsumexp, np.float32)
        close(found.entropy[i], alone.entropy, np.float32)
        close(np.atleast_1d(found.logprob[i]), np.where(hidden & ~without, -np.inf, alone.logprob), np.float32)
        assert_array_equal(np.atleast_1d(found.rank[i]), np.where(hidden, NO_CLASS, alone.rank))
        n = len(alone.top_ids)
        assert_array_equal(found.top_ids[i, :n], np.where(alone.top_ids < 0, -1, names[alone.top_ids]))
        assert_array_equal(found.top_ids[i, n:], -1)
        close(found.top_logprobs[i, :n], alone.top_logprobs, np.float32)
        assert_array_equal(found.top_logprobs[i, n:], np.nan if without else -np.inf)


@pytest.mark.parametrize("dtype", FLOATS)
def test_scores_of_a_row_without_any_class(dtype):
    for classes in (1, 20, 200):
        mask = np.ones((3, classes), bool)
        mask[1] = False
        found = cxent.token_logprobs(np.ones((3, classes), dtype), [0, 0, 0], where=mask, top_k=1)
        assert np.isnan([found.logprob[1], found.entropy[1], found.top_logprobs[1, 0]]).all()
        assert (found.rank[1], found.top_ids[1, 0], found.logsumexp[1]) == (NO_CLASS, -1, -np.inf)
        assert_array_equal(found.rank[[0, 2]], 1)


def test_perplexity():
    case = Masked(30, np.float64)
    found = cxent.perplexity(case.garbage, case.labels, where=case.mask, temperature=0.7)
    expected = -cxent.token_logprobs(case.garbage, case.labels, where=case.mask, temperature=0.7).logprob.sum()
    assert_allclose([found.nll, found.perplexity], [expected, np.exp(expected / ROWS)], rtol=1e-13)
    case.mask[0, case.labels[0]] = False
    assert cxent.perplexity(case.garbage, case.labels, where=case.mask).perplexity == np.inf


@pytest.mark.parametrize("classes", [1, 3, 17, 49, 130, 600])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("axis", [-1, 0])
def test_backward_functions(axis, dtype, classes):
    """Of rows without the hidden classes; where the output and the gradient are garbage there."""
    case = Masked(classes, dtype)
    case.mask[3] = False
    g = case.rng.standard_normal(case.x.shape).astype(dtype)
    for backward, forward in (
        (cxent.softmax_backward, cxent.softmax),
        (cxent.log_softmax_backward, cxent.log_softmax),
    ):
        output = forward(case.garbage, where=case.mask)
        given = [case.with_garbage(g), case.with_garbage(output), case.mask]
        if axis == 0:
            given = [np.ascontiguousarray(array.T) for array in given]
        found = backward(*given[:2], axis, where=given[2])
        found = found.T if axis == 0 else found
        for i, row in enumerate(case.mask):
            close(found[i, row], backward(g[i, row].astype(float), forward(case.x[i, row].astype(float))), dtype)
        assert not found[~case.mask].any()


def test_a_mask_of_everything_changes_nothing():
    rng = np.random.default_rng(0)
    for classes in (1, 10, 100, 300):
        x, y = rng.standard_normal((9, classes)), rng.integers(0, classes, 9)
        for found, expected in zip(every_result(x, y, True), every_result(x, y, None), strict=True):
            assert_allclose(found, expected, rtol=1e-13, atol=1e-15)


MASKED_FUNCTIONS = {
    "cross_entropy": lambda **mask: cxent.cross_entropy(np.zeros((2, 3)), [0, 1], **mask),
    "cross_entropy_with_grad": lambda **mask: cxent.cross_entropy_with_grad(np.zeros((2, 3)), [0, 1], **mask),
    "cross_entropy_with_hess": lambda **mask: cxent.cross_entropy_with_hess(np.zeros((2, 3)), [0, 1], **mask),
    "cross_entropy_hvp": lambda **mask: cxent.cross_entropy_hvp(np.zeros((2, 3)), [0, 1], np.ones((2, 3)), **mask),
    "token_logprobs": lambda **mask: cxent.token_logprobs(np.zeros((2, 3)), [0, 1], **mask),
    "perplexity": lambda **mask: cxent.perplexity(np.zeros((2, 3)), [0, 1], **mask),
    "softmax_backward": lambda **mask: cxent.softmax_backward(np.zeros((2, 3)), np.ones((2, 3)), **mask),
    "log_softmax_backward": lambda **mask: cxent.log_softmax_backward(np.zeros((2, 3)), np.ones((2, 3)), **mask),
}


@pytest.mark.parametrize("name", MASKED_FUNCTIONS)
def test_bad_masks_of_losses_and_scores(name):
    for where, error, message in (
        ([1, 0, 1], TypeError, "where must have dtype bool, got int64"),
        (np.ones((2, 3)), TypeError, "where ... got float64"),
        ("yes", TypeError, "where ... got <U3"),
        (np.ma.masked_array([True] * 3, [False] * 3), TypeError, "where must not be a masked array"),
        (np.ones(2, bool), ValueError, "where must have a shape that broadcasts to (2, 3), got (2,)"),
        (np.ones((1, 2, 3), bool), ValueError, "where ... got (1, 2, 3)"),
        (np.ones((3, 3), bool), ValueError, "where ... got (3, 3)"),
    ):
        with pytest.raises(error, match=words(message)):
            MASKED_FUNCTIONS[name](where=where)
