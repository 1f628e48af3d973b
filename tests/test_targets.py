"""Targets: indices, one-hot rows and probabilities are told apart, and nothing natural is taken for another."""

from enum import StrEnum

import numpy as np
import pytest
from helpers import assert_same_bits

import cxent

HIDDEN = np.eye(3, dtype=np.float32)


def linear(function):
    """The function of a linear layer as one of its logits, which may be (N, 3)."""
    return lambda logits, target, **options: function(logits, HIDDEN, target, **options)


FUNCTIONS = {
    "cross_entropy": cxent.cross_entropy,
    "cross_entropy_with_grad": cxent.cross_entropy_with_grad,
    "cross_entropy_with_hess": cxent.cross_entropy_with_hess,
    "cross_entropy_hvp": lambda x, y, **options: cxent.cross_entropy_hvp(x, y, np.ones_like(x), **options),
    "cross_entropy_from_probs": cxent.cross_entropy_from_probs,
    "cross_entropy_from_probs_with_grad": cxent.cross_entropy_from_probs_with_grad,
    "linear_cross_entropy": linear(cxent.linear_cross_entropy),
    "linear_cross_entropy_with_grad": linear(cxent.linear_cross_entropy_with_grad),
}
ONE_HOT = np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0], [0, 1, 0]])


def flat(results):
    """All arrays of a result, however it nests them."""
    return [a for r in results for a in flat(r)] if isinstance(results, tuple) else [np.asarray(results, np.float64)]


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint64"])
@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_one_hot_rows_are_probabilities(function, dtype):
    x = np.random.default_rng(0).random((4, 3)).astype(np.float32)
    found = flat(function(x, ONE_HOT.astype(dtype)))
    for result, expected in zip(found, flat(function(x, ONE_HOT.astype(np.float32))), strict=True):
        assert_same_bits(result, expected)


NOT_ONE_HOT = {
    "none": np.zeros((4, 3), int),
    "two": ONE_HOT | np.eye(4, 3, dtype=int),
    "a two": 2 * ONE_HOT,
    "negative": ONE_HOT - 2 * (1 - ONE_HOT),
    "ignored row": np.where([[True], [False], [True], [True]], ONE_HOT, -100),
    "booleans": np.ones((4, 3), bool),
}


@pytest.mark.parametrize("target", NOT_ONE_HOT.values(), ids=NOT_ONE_HOT)
@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_integers_in_the_shape_of_the_logits_that_are_not_one_hot(function, target):
    x = np.random.default_rng(0).random((4, 3)).astype(np.float32)
    with pytest.raises(ValueError, match=r"must be one-hot \(one 1 in each row, 0 elsewhere\)") as raised:
        function(x, target)
    for remedy in ("class indices must have shape (4,)", "target.astype(float)"):
        assert remedy in str(raised.value)
    function(x, np.abs(target.astype(np.float32)))  # so are probabilities meant


@pytest.mark.once
@pytest.mark.parametrize("shape", [(6,), (6, 1)], ids=str)
def test_labels_of_two_classes_with_a_score_each(shape):
    scores, labels = np.linspace(-2, 2, 6).reshape(shape), np.arange(6).reshape(shape) % 2
    with pytest.raises(ValueError, match=r"binary_cross_entropy\(logits, target\)"):
        cxent.cross_entropy(scores, labels)
    both = cxent.binary_cross_entropy(scores, labels)  # as the message says
    assert np.isclose(both, np.mean(np.logaddexp(0, scores) - labels * scores))
    p = 1 / (1 + np.exp(-scores))
    with pytest.raises(ValueError, match=r"np.stack\(\[1 - probs, probs\], axis=-1\)"):
        cxent.cross_entropy_from_probs(p, labels)
    assert np.isclose(cxent.cross_entropy_from_probs(np.stack([1 - p, p], axis=-1), labels), both)


@pytest.mark.once
def test_class_indices_of_two_classes_with_a_score_each():
    scores, labels = np.linspace(-2, 2, 6).reshape(6, 1), np.arange(6) % 2
    remedy = r"got 1; .*binary_cross_entropy\(logits, target.reshape\(logits.shape\)\)$"
    with pytest.raises(IndexError, match=r"^target\[1\] must be a class index from 0 to 0, " + remedy):
        cxent.cross_entropy(scores, labels)
    cxent.binary_cross_entropy(scores, labels.reshape(scores.shape))  # as the message says
    with pytest.raises(IndexError, match=r"got 1; .*np.stack\(\[1 - probs, probs\], axis=-1\)$"):
        cxent.cross_entropy_from_probs(1 / (1 + np.exp(-scores)), labels)
    for bad in ([0, 2], [0, -1]):  # that are no labels of two classes
        with pytest.raises(IndexError, match="target") as raised:
            cxent.cross_entropy(np.zeros((2, 1)), bad)
        assert "binary" not in str(raised.value)
    with pytest.raises(IndexError, match=r"got 3$"):
        cxent.cross_entropy(np.zeros((2, 3)), [1, 3])


@pytest.mark.once
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_one_hot_along_any_axis(axis):
    x = np.random.default_rng(0).random((3, 3, 3))
    target = np.moveaxis(np.eye(3, dtype=int)[np.arange(9).reshape(3, 3) % 3], -1, axis)
    assert cxent.cross_entropy(x, target, axis=axis) == cxent.cross_entropy(x, target.astype(float), axis=axis)
    target[0, 0, 0] ^= 1
    with pytest.raises(ValueError, match="one-hot"):
        cxent.cross_entropy(x, target, axis=axis)


@pytest.mark.once
@pytest.mark.parametrize("lazy", [False, True], ids=["target in memory", "target in a Dask array"])
def test_one_hot_rows_in_dask(lazy):
    da = pytest.importorskip("dask.array")
    dask = pytest.importorskip("cxent.dask")
    x = np.random.default_rng(0).random((4, 3))
    logits = da.from_array(x, chunks=(2, 3))

    def loss(target):
        return dask.cross_entropy(logits, da.from_array(target, chunks=(1, 3)) if lazy else target).compute()

    assert np.isclose(loss(ONE_HOT), cxent.cross_entropy(x, ONE_HOT), rtol=1e-14)
    assert np.isclose(loss(ONE_HOT.astype(bool)), cxent.cross_entropy(x, ONE_HOT), rtol=1e-14)
    for target in NOT_ONE_HOT.values():
        with pytest.raises(ValueError, match=r"must be one-hot \(one 1 in each row, 0 elsewhere\)"):
            loss(target)


@pytest.mark.once
def test_one_row_and_no_rows():
    assert cxent.cross_entropy([1.0, 2.0], [0, 1]) == cxent.cross_entropy([1.0, 2.0], 1)
    assert cxent.cross_entropy(np.zeros((0, 3)), np.zeros((0, 3), int), reduction="none").shape == (0,)
    with pytest.raises(ValueError, match=r"got a row that is not; class indices must have shape \(\)"):
        cxent.cross_entropy([1.0, 2.0, 0.5], [0, 1, 1])


@pytest.mark.once
def test_missing_labels():
    x = np.zeros((3, 4))
    missing = {"float64 with NaN": np.array([0, np.nan, 1]), "object": np.array([0, None, 1], object)}
    for found, labels in missing.items():
        for function, name in ((cxent.cross_entropy, "target"), (cxent.token_logprobs, "ids")):
            message = f"{name} must have an integer dtype .*, got {found}: fill missing labels"
            with pytest.raises(TypeError, match=message):
                function(x, labels)
    with pytest.raises(TypeError, match=r"got float64: convert it with astype\(int\)"):
        cxent.cross_entropy(x, np.array([0.0, 1.0, 2.0]))
    filled = np.array([0, -100, 1])
    assert np.isclose(cxent.cross_entropy(x, filled, ignore_index=-100), np.log(4))


@pytest.mark.once
def test_data_frames_with_nullable_columns():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": pd.array([1.0, 2.0], "Float64"), "b": pd.array([3.0, None], "Float64")})
    with pytest.raises(TypeError, match=r"^x must have a numeric dtype, got object: .* to_numpy\(float\)"):
        cxent.softmax(frame.astype(object))
    assert np.isnan(cxent.softmax(frame.to_numpy(float, na_value=np.nan))[1]).all()


class Word(StrEnum):
    """Words as members of an enumeration, as configurations have them."""

    NONE = "none"
    REVERSE = "reverse"
    EXACT = "exact"
    DICTS = "dicts"


@pytest.mark.parametrize("string", [str, np.str_, Word], ids=lambda string: string.__name__)
def test_words_of_any_type_of_string(string):
    x = np.random.default_rng(0).random((4, 3))
    y = np.arange(4) % 3
    assert cxent.cross_entropy(x, y, reduction=string("none")).shape == (4,)
    assert cxent.cross_entropy_from_probs(x, y, reduction=string("none")).shape == (4,)
    part = cxent.sharded.part(x, y)
    assert cxent.sharded.loss(part, reduction=string("none")).shape == (4,)
    reverse = cxent.kl_divergence(x, -x, direction=string("reverse"), reduction=string("none"))
    assert_same_bits(reverse, cxent.kl_divergence(x, -x, direction="reverse", reduction="none"))
    assert cxent.boosting.softmax_objective(string("exact"))(y, x)[0].shape == (4, 3)
    assert cxent.show_config(mode=string("dicts"))["versions"]


@pytest.mark.once
@pytest.mark.parametrize("number", [np.array([2.0]), np.array(2.0)], ids=["one axis", "no axis"])
def test_options_that_are_arrays_of_one_number(number):
    for name in ("temperature", "softcap", "z_loss", "label_smoothing"):
        with pytest.raises(TypeError, match=rf"got an array of one number: pass {name}.item\(\)"):
            cxent.cross_entropy([1.0, 2.0], 0, **{name: number})


INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("ignored", [-100, 255, 2**31, 2**63, 2**64 - 1, -(2**63)])
def test_any_ignored_label_both_ways(ignored, dtype, close_the_short_way):
    """One that the labels' dtype cannot be ignores nothing, and does not change the way of the computation."""
    x = np.random.default_rng(0).standard_normal((9, 40)).astype(np.float32)
    labels = (np.arange(9) * 3).astype(dtype)
    limits = np.iinfo(dtype)
    counts = np.ones(9, bool)
    if limits.min <= ignored <= limits.max:
        labels[4] = ignored
        counts[4] = False
    calls = {
        "gradient": lambda x: cxent.cross_entropy_with_grad(x, labels, ignore_index=ignored),
        "scores": lambda x: cxent.token_logprobs(x, labels, ignore_index=ignored)[:3],
    }
    short = {name: call(x) for name, call in calls.items()}
    strided = np.repeat(x, 2, axis=0)[::2]
    close_the_short_way()
    for name, call in calls.items():
        for given, general, of_strided in zip(short[name], call(x), call(strided), strict=True):
            assert_same_bits(given, general, name)
            assert_same_bits(given, of_strided, name)
    plain = cxent.cross_entropy_with_grad(x[counts], labels[counts])
    assert np.allclose(short["gradient"][0], plain[0]) and np.allclose(short["gradient"][1][counts], plain[1])
    found = cxent.perplexity(x, labels, ignore_index=ignored)
    assert found.tokens == counts.sum()
    x[~counts] = np.nan
    weight = np.eye(40, dtype=np.float32)
    loss, gradients = cxent.linear_cross_entropy_with_grad(x, weight, labels, ignore_index=ignored)
    assert np.allclose(loss, plain[0]) and np.isfinite(gradients.weight).all()


@pytest.mark.once
def test_padding_of_unsigned_ids():
    ids, mask = np.array([0, 1], np.uint16), np.array([True, False])
    with pytest.raises(IndexError, match=r"uint16 cannot hold -100, so convert with astype\(int\)"):
        cxent.token_logprobs(np.zeros((2, 3)), np.where(mask, ids, np.uint16(65436)), ignore_index=-100)
    found = cxent.token_logprobs(np.zeros((2, 3)), np.where(mask, ids.astype(int), -100), ignore_index=-100)
    assert found.logprob[1] == 0


@pytest.mark.parametrize("dtype", ["int64", "uint8"])
@pytest.mark.parametrize("classes", [5, 40, 300])
def test_labels_that_change_after_the_check(classes, dtype, kernels):
    """What lies around the arrays stays as it is; no more can be promised. (The reference raises IndexError.)"""
    if kernels.name == "python":
        pytest.skip("NumPy checks each index itself")
    rng = np.random.default_rng(0)
    around = rng.standard_normal((3, 4, classes, 1)).astype(np.float32)
    x, before = around[1], around.copy()
    weight = np.ones(classes, np.float32)
    for label in (classes, classes + 3, np.iinfo(dtype).max if classes < 256 else 255, 0):
        labels = np.full((4, 1), label).astype(dtype)
        for options in ((None, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0), (3, 0.1, 0.0, 0.0, 0.0, 2.0, 1.0, 1.0)):
            module = kernels.float32
            module.cross_entropy(x, None, labels, weight, None, options, None, None, x, None, False, 1)
            module.from_probs(np.abs(x), labels, None, None, options, None, x, 1)
            module.sums_of_weights(labels, None, weight, 3)
        results = [np.empty((4, 1, 1), d) for d in (np.float32, np.int64)] + [np.empty((4, 1), np.float32)] * 2
        module.token_logprobs(x, None, labels[..., np.newaxis], (None, 0.0, 1.0), *results, None, None, None, None, 1)
        assert_same_bits(around[[0, 2]], before[[0, 2]])
        around[1] = before[1]
