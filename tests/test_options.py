"""The options of the losses in any combination, against their definitions and central differences."""

import numpy as np
import pytest
from helpers import (
    FLOATS,
    HALVES,
    assert_all_same_bits,
    assert_same_bits,
    central_differences,
    loss_by_definition,
    unchanged,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import arrays_like, logits_and_axes
from numpy.testing import assert_allclose, assert_array_equal

import cxent

DTYPES = [*HALVES, *FLOATS]
RTOL = {"float16": 1e-4, "bfloat16": 1e-4, "float32": 1e-4, "float64": 1e-12}
GRADIENT_RTOL = {**RTOL, "float16": 1e-3, "bfloat16": 8e-3}


@st.composite
def options(draw, classes, row_shape, by_label):
    """Any combination of the options, most often some of them."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    chosen = {"reduction": draw(st.sampled_from(["mean", "sum", "none"]))}
    if draw(st.booleans()):
        chosen["weight"] = draw(arrays_like((rng.random(classes) * (rng.random(classes) < 0.9)).astype(np.float32)))
    if draw(st.booleans()):
        zeros = rng.random(row_shape) < draw(st.sampled_from([0.0, 0.3, 1.0]))
        chosen["sample_weight"] = draw(arrays_like(np.where(zeros, 0, rng.random(row_shape)).astype(np.float32)))
    if by_label and draw(st.booleans()):
        chosen["ignore_index"] = draw(st.sampled_from([0, -100, 255, classes - 1]))
    if draw(st.booleans()):
        chosen["label_smoothing"] = draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))
    if draw(st.booleans()):
        chosen["z_loss"] = draw(st.sampled_from([0.0, 1e-4, 0.5]))
    if draw(st.booleans()):
        chosen["softcap"] = draw(st.sampled_from([None, 0.5, 5.0, 30.0]))
    if draw(st.booleans()):
        chosen["temperature"] = draw(st.sampled_from([0.25, 0.7, 1.0, 3.0]))
    return chosen


def target_for(draw, x, axis, by_label, chosen):
    rng = np.random.default_rng(1)
    if by_label:
        row_shape = np.delete(x.shape, axis)
        target = np.asarray(rng.integers(0, min(x.shape[axis], 100), row_shape))
        if "ignore_index" in chosen:
            target[rng.random(row_shape) < 0.3] = chosen["ignore_index"]
    else:
        target = rng.random(x.shape) * (rng.random(x.shape) < 0.8)
        target = target.astype(np.float32)
    return draw(arrays_like(target))


@given(st.data())
@settings(max_examples=2 * settings.default.max_examples)
def test_every_combination_against_the_definitions(data):
    x, axis = data.draw(logits_and_axes(DTYPES, max_size=4000))
    by_label = data.draw(st.booleans())
    chosen = data.draw(options(x.shape[axis], np.delete(x.shape, axis), by_label))
    target = target_for(data.draw, x, axis, by_label, chosen)
    with unchanged(x, target, *(v for v in chosen.values() if isinstance(v, np.ndarray))):
        check_against_the_definitions(x, target, axis, by_label, chosen)


def check_against_the_definitions(x, target, axis, by_label, chosen):
    loss, grad, lse, hess = loss_by_definition(x, target, axis=axis, **chosen)
    found, found_grad, found_lse = cxent.cross_entropy_with_grad(x, target, axis=axis, return_lse=True, **chosen)
    dtype = x.dtype.newbyteorder("=")
    row_dtype = np.float32 if dtype.itemsize == 2 else dtype
    rtol, grad_rtol = RTOL[dtype.name], GRADIENT_RTOL[dtype.name]
    # Sums of targets and squared logsumexps are the scale of what cancels.
    size = (1 + x.shape[axis] * (not by_label)) * (1 + chosen.get("z_loss", 0) * np.abs(lse).max(initial=0) ** 2)
    assert found_grad.dtype == dtype and np.asarray(found).dtype == np.asarray(found_lse).dtype == row_dtype
    assert_allclose(found_lse, lse, rtol=rtol, atol=rtol)
    assert_allclose(found, loss, rtol=rtol, atol=rtol * size)
    assert_allclose(found_grad.astype(float), grad, rtol=grad_rtol, atol=rtol * size)
    assert_array_equal(cxent.cross_entropy(x, target, axis=axis, **chosen), found)

    in_place = np.array(x, dtype)
    again, grad_in_place = cxent.cross_entropy_with_grad(in_place, target, axis=axis, out=in_place, **chosen)
    assert grad_in_place is in_place
    assert_array_equal(again, found)
    assert_array_equal(in_place, found_grad)

    chosen = {name: value for name, value in chosen.items() if name != "z_loss"}
    if chosen.pop("softcap", None) is None:
        plain_loss, plain_grad, _, hess = loss_by_definition(x, target, axis=axis, **chosen)
        found, found_grad, found_hess = cxent.cross_entropy_with_hess(x, target, axis=axis, **chosen)
        assert_allclose(found, plain_loss, rtol=rtol, atol=rtol * size)
        assert_allclose(found_grad.astype(float), plain_grad, rtol=grad_rtol, atol=rtol * size)
        assert_allclose(found_hess.astype(float), hess, rtol=grad_rtol, atol=rtol * size)


ALONE = {
    "nothing": {},
    "weight": {"weight": [0.5, 2.0, 0.0, 3.0, 1.0]},
    "sample_weight": {"sample_weight": [1.0, 0.0, 2.5]},
    "ignore_index": {"ignore_index": 2},
    "label_smoothing": {"label_smoothing": 0.2},
    "z_loss": {"z_loss": 0.3},
    "softcap": {"softcap": 2.0},
    "temperature": {"temperature": 0.4},
    "all": {
        "weight": [0.5, 2.0, 0.0, 3.0, 1.0],
        "sample_weight": [1.0, 0.5, 2.5],
        "label_smoothing": 0.2,
        "z_loss": 0.3,
        "softcap": 2.0,
        "temperature": 0.4,
    },
}


CASES = [(name, "indices") for name in ALONE] + [(name, "probabilities") for name in ALONE if name != "ignore_index"]
THREE_ROWS = np.random.default_rng(0).standard_normal((3, 5))
TARGETS = {"indices": np.array([1, 2, 4]), "probabilities": np.random.default_rng(1).random((3, 5))}


@pytest.mark.parametrize(("options", "target"), CASES)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_gradients_against_central_differences(options, target, reduction):
    target, options = TARGETS[target], {**ALONE[options], "reduction": reduction}
    _, grad = cxent.cross_entropy_with_grad(THREE_ROWS, target, **options)
    differences = central_differences(lambda x: cxent.cross_entropy(x, target, **options), THREE_ROWS)
    assert_allclose(grad, differences, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(("options", "target"), [case for case in CASES if case[0] not in ("z_loss", "softcap", "all")])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_hessians_against_central_differences(options, target, reduction):
    x, target, options = THREE_ROWS, TARGETS[target], {**ALONE[options], "reduction": reduction}
    _, grad, hess = cxent.cross_entropy_with_hess(x, target, **options)
    alone = cxent.cross_entropy_with_grad(x, target, **options)[1]
    assert_allclose(grad, alone, rtol=1e-14, atol=1e-15)  # Q p - q' cancels: the unit is that of the larger term
    columns = central_differences(lambda x: cxent.cross_entropy_with_grad(x, target, **options)[1], x)
    for place in np.ndindex(x.shape):
        assert hess[place] == pytest.approx(columns[place][place], rel=1e-5, abs=1e-8)
        v = np.zeros(x.shape)
        v[place] = 1
        assert_allclose(cxent.cross_entropy_hvp(x, target, v, **options), columns[place], rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("target", ["indices", "probabilities"])
@pytest.mark.parametrize("classes", [3, 100, 5000])
def test_options_off_change_no_bit(classes, target, reduction):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((70, classes)).astype(np.float32)
    target = rng.integers(0, classes, 70) if target == "indices" else rng.random(x.shape).astype(np.float32)
    off = {"ignore_index": None, "label_smoothing": 0, "z_loss": 0, "softcap": None, "temperature": 1}
    loss, grad = cxent.cross_entropy_with_grad(x, target, reduction=reduction)
    again, grad_again = cxent.cross_entropy_with_grad(x, target, reduction=reduction, **off)
    assert_same_bits(again, loss)
    assert_same_bits(grad_again, grad)


@pytest.mark.parametrize("options", [{"ignore_index": -1}, {"sample_weight": [1, 0, 1]}], ids=str)
@pytest.mark.parametrize("dtype", FLOATS)
def test_rows_that_do_not_count_may_hold_anything(dtype, options):
    x = np.array([[1.0, 2.0], [np.nan, np.inf], [3.0, 1.0]], dtype)
    labels = [0, -1 if "ignore_index" in options else 0, 1]
    loss, grad = cxent.cross_entropy_with_grad(x, labels, **options)
    expected, expected_grad = cxent.cross_entropy_with_grad(x[[0, 2]], [0, 1])
    assert loss == pytest.approx(expected, rel=1e-6)
    assert_allclose(grad[[0, 2]], expected_grad, rtol=1e-6)
    assert_array_equal(grad[1], 0)
    assert_array_equal(cxent.cross_entropy_with_hess(x, labels, **options)[2][1], 0)
    assert_array_equal(cxent.cross_entropy_hvp(x, labels, np.ones(x.shape), **options)[1], 0)


@pytest.mark.parametrize(
    "options", [{"ignore_index": 0}, {"sample_weight": [0, 0]}, {"sample_weight": [0, 0], "z_loss": 1.0}], ids=str
)
def test_no_row_counts(options):
    loss, grad = cxent.cross_entropy_with_grad(np.ones((2, 3)), [0, 0], **options)
    assert np.isnan(loss)
    assert_array_equal(grad, 0)
    loss, grad = cxent.cross_entropy_with_grad(np.ones((2, 3)), [0, 0], reduction="sum", **options)
    assert loss == 0
    assert_array_equal(grad, 0)


LABEL_DTYPES = [np.int8, np.uint8, np.int64, np.uint64]
TWO_ROWS = np.array([[1.0, 2.0], [3.0, 1.0]])


@pytest.mark.parametrize("ignored", ["least", "largest", 0, 100])
@pytest.mark.parametrize("dtype", LABEL_DTYPES)
def test_any_integer_may_be_ignored(dtype, ignored):
    info = np.iinfo(dtype)
    ignored = {"least": info.min, "largest": info.max}.get(ignored, ignored)
    found = cxent.cross_entropy(TWO_ROWS, np.array([1, ignored], dtype), ignore_index=int(ignored))
    assert found == cxent.cross_entropy(TWO_ROWS[:1], [1])


@pytest.mark.parametrize("dtype", LABEL_DTYPES)
def test_all_labels_may_be_ignored(dtype):
    assert np.isnan(cxent.cross_entropy(TWO_ROWS, np.array([1, 1], dtype), ignore_index=1))


@pytest.mark.parametrize("absent", [-(2**70), 2**70, 2**63, -100, 2])
@pytest.mark.parametrize("dtype", LABEL_DTYPES)
def test_what_is_ignored_may_be_absent(dtype, absent):
    """Also where the labels' dtype does not hold it."""
    labels = np.array([1, 0], dtype)
    assert cxent.cross_entropy(TWO_ROWS, labels, ignore_index=absent) == cxent.cross_entropy(TWO_ROWS, labels)


def test_what_is_ignored_must_be_that_integer():
    """A large unsigned label is no negative one, although both have the same bits."""
    with pytest.raises(IndexError, match=r"^target\[0\] must .*got 18446744073709551615"):
        cxent.cross_entropy(np.zeros((1, 2)), np.array([2**64 - 1], np.uint64), ignore_index=-1)
    with pytest.raises(IndexError, match=r"^target\[0\] must .*got -1"):
        cxent.cross_entropy(np.zeros((1, 2)), np.array([-1]), ignore_index=2**64 - 1)


@pytest.mark.parametrize("target", [[0], [[0.3, 0.0, 0.7]]], ids=["indices", "probabilities"])
@pytest.mark.parametrize(
    "options", [{}, {"label_smoothing": 0.1, "weight": [1, 0, 1]}, {"temperature": 2.0}, {"z_loss": 0.1}], ids=str
)
def test_zero_targets_at_logits_of_minus_infinity(options, target):
    loss, grad = cxent.cross_entropy_with_grad([[0.5, -np.inf, 1.0]], target, **options)
    assert np.isfinite(loss) and np.isfinite(grad).all() and grad[0, 1] == 0


def test_a_smoothed_target_at_a_logit_of_minus_infinity():
    loss, grad = cxent.cross_entropy_with_grad([[0.5, -np.inf, 1.0]], [0], label_smoothing=0.1)
    assert loss == np.inf and np.isfinite(grad).all()


def test_a_capped_infinite_logit_is_finite():
    loss, grad = cxent.cross_entropy_with_grad([[np.inf, -np.inf, 0.0]], [0], softcap=3.0)
    assert loss == pytest.approx(np.log1p(np.exp(-6) + np.exp(-3)))
    assert_array_equal(grad[0, :2], 0)


def test_logsumexp_of_infinite_rows():
    x = [[-np.inf, -np.inf], [np.inf, 0.0], [np.nan, np.inf], [0.0, 0.0]]
    _, lse = cxent.cross_entropy(x, [0, 0, 0, 0], reduction="none", return_lse=True)
    assert_array_equal(lse, cxent.logsumexp(x))


def loss_results(x, target, **options):
    """The results of a loss, by their names."""
    loss, grad, lse = cxent.cross_entropy_with_grad(x, target, return_lse=True, **options)
    return {"loss": loss, "gradient": grad, "logsumexp": lse}


@pytest.mark.parametrize("workers", [2, 3])
@pytest.mark.parametrize("target", ["indices", "probabilities"])
@pytest.mark.parametrize(
    ("shape", "axis"), [((400, 30), 1), ((7, 900), 0), ((3, 5000), 1), ((2, 21, 20, 30), 1)], ids=str
)
def test_options_have_the_same_bits_for_any_number_of_workers(shape, axis, target, workers, share_small_calls):
    share_small_calls(1000)
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape).astype(np.float32)
    rows = np.delete(shape, axis)
    options = {
        "weight": rng.random(shape[axis]),
        "sample_weight": rng.random(rows),
        "label_smoothing": 0.1,
        "z_loss": 0.1,
        "softcap": 4.0,
        "ignore_index": -1 if target == "indices" else None,
    }
    target = rng.integers(-1, shape[axis], rows) if target == "indices" else rng.random(shape)
    one, several = (loss_results(x, target, axis=axis, workers=n, **options) for n in (1, workers))
    assert_all_same_bits(several, one)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", [2, 3, 48, 49, 100, 4097])
@pytest.mark.parametrize("target", ["indices", "probabilities"])
@pytest.mark.parametrize("option", [{}, {"z_loss": 0.1}, {"softcap": 3.0}, {"temperature": 0.7}], ids=str)
def test_a_row_has_the_same_bits_in_any_batch(option, target, classes, dtype):
    rng = np.random.default_rng(classes)
    x = (3 * rng.standard_normal((40, classes))).astype(dtype)
    target = rng.integers(0, classes, 40) if target == "indices" else rng.random(x.shape)
    sample_weight = rng.random(40)
    options = {"weight": rng.random(classes), "label_smoothing": 0.1, "reduction": "none", **option}
    batch = loss_results(x, target, sample_weight=sample_weight, **options)
    for i in (0, 17, 33, 39):
        row = slice(i, i + 1)
        alone = loss_results(x[row], target[row], sample_weight=sample_weight[row], **options)
        assert_all_same_bits(alone, {name: result[row] for name, result in batch.items()})


@pytest.mark.parametrize("smoothing", [0.5, 1.0])
@pytest.mark.parametrize("weighted", [True, False])
def test_a_smoothed_label_at_a_maximum_among_many(weighted, smoothing):
    """Its p is small: what is exact for a p near 1 would lose the digits."""
    x = 0.1 * np.random.default_rng(0).standard_normal(5000)
    label = int(x.argmax())
    options = {"label_smoothing": smoothing, "reduction": "sum"}
    if weighted:
        options["weight"] = (np.arange(5000) != label).astype(float)
    _, grad = cxent.cross_entropy_with_grad(x, label, **options)
    _, exact, _, _ = loss_by_definition(x, label, **options)
    assert_allclose(grad, exact, rtol=1e-13, atol=1e-15)
    if smoothing == 1:  # where nothing cancels
        assert grad[label] == pytest.approx(float(exact[label]), rel=1e-14, abs=0)


STRIDED_LABELS = {
    "in one piece": np.copy,
    "every other number": lambda labels: labels.repeat(2)[::2],
    "backwards": lambda labels: labels[::-1].copy()[::-1],
}
SUMMED_WEIGHTS = [{"ignore_index": 2}, {"weight": [1.0, 2, 3, 4, 5]}]


@pytest.mark.parametrize("strided", STRIDED_LABELS.values(), ids=STRIDED_LABELS)
@pytest.mark.parametrize("options", SUMMED_WEIGHTS, ids=str)
def test_sums_of_weights_with_strided_labels(options, strided):
    x = np.random.default_rng(0).standard_normal((1300, 5))
    labels = np.arange(1300) % 5
    found = cxent.cross_entropy(x, strided(labels), **options)
    assert found == cxent.cross_entropy(x, labels, **options)
    assert found == pytest.approx(float(loss_by_definition(x, labels, **options)[0]), rel=1e-12)


@pytest.mark.parametrize("options", SUMMED_WEIGHTS, ids=str)
def test_sums_of_weights_with_labels_in_f_order(options):
    x = np.random.default_rng(0).standard_normal((1300, 5))
    labels = np.arange(1300) % 5
    expected = cxent.cross_entropy(x, labels, **options)
    columns = np.moveaxis(x.reshape(4, 325, 5), -1, 1)
    found = cxent.cross_entropy(columns, np.asfortranarray(labels.reshape(4, 325)), axis=1, **options)
    assert found == pytest.approx(float(expected), rel=1e-13)


@pytest.mark.parametrize("classes", [3, 60])
def test_a_weight_too_small_for_the_gradient(classes):
    """Divided, it is 0: so is the gradient, and not NaN."""
    x = np.zeros((2, classes), np.float32)
    x[:, 1] = 10
    q = np.eye(classes, dtype=np.float32)[[0, 1]]
    _, grad = cxent.cross_entropy_with_grad(x, q, sample_weight=np.float32([1e-45, 3]), z_loss=0.1)
    assert (np.abs(grad[0]) < 1e-44).all() and np.isfinite(grad).all()


def test_products_with_the_hessian_keep_their_digits():
    product = cxent.cross_entropy_hvp([[60.0, 0, 0]], [0], [[1.0, 0, 0]])
    _, _, hess = cxent.cross_entropy_with_hess([[60.0, 0, 0]], [0])
    assert product[0, 0] == pytest.approx(hess[0, 0], rel=1e-14)
    assert product.sum() == pytest.approx(0, abs=1e-40)


def test_products_with_the_hessian_of_logits_far_apart():
    far_apart = np.float32([[1e38, 1e38, 0]])
    assert_allclose(cxent.cross_entropy_hvp(far_apart, [0], [[1.0, 0, 0]], temperature=0.1), [[25, -25, 0]])


@pytest.mark.parametrize("temperature", [1e-30, 1e30])
def test_products_with_the_hessian_at_the_last_temperatures(temperature):
    x = np.random.default_rng(0).standard_normal((2, 3))
    _, _, hess = cxent.cross_entropy_with_hess(x, [0, 1], temperature=temperature)
    product = cxent.cross_entropy_hvp(x, [0, 1], [[1.0, 0, 0], [0, 1, 0]], temperature=temperature)
    assert_allclose(product[[0, 1], [0, 1]], hess[[0, 1], [0, 1]], rtol=1e-12)


@pytest.mark.parametrize("options", [{"ignore_index": 1}, {"weight": [1, 0, 1]}, {"sample_weight": [0, 0]}], ids=str)
def test_products_of_rows_that_do_not_count(options):
    product = cxent.cross_entropy_hvp([[1.0, 2, 3], [0, 5, 1]], [1, 1], [[1.0, 0, 0], [0, 1, 0]], **options)
    assert_array_equal(product, 0)


def test_products_of_a_row_without_weight_and_with_a_target_that_is_nan():
    x, v = [[1.0, 2, 3], [0, 5, 1]], [[1.0, 0, 0], [0, 1, 0]]
    product = cxent.cross_entropy_hvp(x, [[0.1, 0.2, 0.7], [np.nan, 0, 1]], v, sample_weight=[1, 0])
    assert_array_equal(product[1], 0)


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("target", ["indices", "probabilities"])
@pytest.mark.parametrize("dtype", FLOATS)
def test_weights_of_either_sign(dtype, target, reduction):
    """As in PyTorch and scikit-learn: physicists' simulated events have negative ones."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 5)).astype(dtype)
    options = {"weight": rng.normal(0.5, 1, 5), "sample_weight": rng.normal(0.5, 1, 40), "label_smoothing": 0.1}
    target = rng.integers(0, 5, 40) if target == "indices" else rng.random((40, 5))
    loss, grad = cxent.cross_entropy_with_grad(x, target, reduction=reduction, **options)
    expected, expected_grad, *_ = loss_by_definition(x, target, reduction=reduction, **options)
    tolerance = 200 * np.finfo(dtype).eps
    assert_allclose(loss, expected.astype(float), rtol=tolerance, atol=tolerance)
    assert_allclose(grad, expected_grad.astype(float), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_mean_of_weights_whose_sum_is_zero(dtype):
    assert np.isnan(cxent.cross_entropy(np.ones((2, 5), dtype), [0, 1], sample_weight=[1, -1]))


@pytest.mark.parametrize("weight", [0.0, -0.0, 1.0])
def test_a_row_with_nan_has_no_loss_whatever_its_class_weighs(weight):
    """(Found by a fuzz against the pure kernels: the loss was 0, beside a gradient of NaN.)"""
    x = np.float32([[np.nan, 1.0], [2.0, 1.0]])
    loss, grad = cxent.cross_entropy_with_grad(x, [0, 0], weight=[weight, 1.0], reduction="none")
    assert np.isnan(loss).tolist() == [True, False]
    assert np.isnan(grad).tolist() == [[True, True], [False, False]]
