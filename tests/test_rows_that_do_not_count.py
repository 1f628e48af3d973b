"""A row that is ignored, or whose sample weight is 0, adds nothing to a result, whatever its numbers are.

Every function with a loss has the same bits as with zeros in the place of these rows, but for their own logsumexps.
"""

from itertools import product

import ml_dtypes
import numpy as np
import pytest
from helpers import assert_same_bits

import cxent
from cxent import boosting, sharded

N = 9
LEFT_OUT = [2, 5, 8]
IGNORED = -7
OPTIONS = {"label_smoothing": 0.1, "temperature": 0.5}
MORE_OPTIONS = {**OPTIONS, "z_loss": 0.1, "softcap": 5.0}


def numbers(rng, dtype, classes):
    """Ordinary numbers, and the same with others in the rows that are left out: NaN, infinite, or one of each."""
    good = rng.standard_normal((N, classes)).astype(dtype)
    good[LEFT_OUT] = 0
    bad = good.copy()
    bad[2], bad[5], bad[8] = np.nan, -np.inf, 3
    bad[8, 0], bad[8, -1], bad[8, 1] = np.inf, -np.inf, np.nan
    return good, bad


def losses(x, vector, target, given, reduction):
    """Of the losses of logits, with and without options."""
    for options in ({}, {"weight": np.arange(1, x.shape[given["axis"]] + 1) / 4}, OPTIONS, MORE_OPTIONS):
        options = {**options, **given, "reduction": reduction}
        loss, lse = cxent.cross_entropy(x, target, return_lse=True, **options)
        yield from (loss, np.delete(lse, LEFT_OUT), *cxent.cross_entropy_with_grad(x, target, **options))
        if "softcap" not in options:
            yield from cxent.cross_entropy_with_hess(x, target, **options)
            yield cxent.cross_entropy_hvp(x, target, vector, **options)


def losses_of_probabilities(x, vector, target, given, reduction):
    given = {**given, "reduction": reduction}
    p = abs(x)
    yield cxent.cross_entropy_from_probs(p, target, **given)
    yield from cxent.cross_entropy_from_probs_with_grad(p, target, **given)


def divergences(x, vector, target, given, reduction):
    """Of x, and from it: of the vectors, which are not left out where x is, but not of numbers either."""
    for name, directions in (("kl", ({}, {"direction": "reverse"})), ("js", ({},))):
        for options in directions:
            for pair in ((x, vector), (vector, x)):
                options = {**options, **given, "reduction": reduction}
                yield getattr(cxent, f"{name}_divergence")(*pair, **options)
                yield from getattr(cxent, f"{name}_divergence_with_grad")(*pair, **options)


def losses_of_parts(x, vector, target, given, reduction):
    given = dict(given)
    axis = given.pop("axis")
    parts = np.array_split(x, 2, axis)
    first = parts[0].shape[axis]
    left, right = (
        sharded.part(part, target, axis=axis, first_class=start) for part, start in zip(parts, (0, first), strict=True)
    )
    whole = sharded.merge(left, right)
    yield sharded.loss(whole, reduction=reduction, **given)
    yield sharded.grad(parts[0], whole, target, axis=axis, reduction=reduction, **given)
    yield sharded.grad(parts[1], whole, target, axis=axis, first_class=first, reduction=reduction, **given)


def objectives(x, vector, target, given, reduction):
    for convention in ("exact", "xgboost", "lightgbm"):
        yield from boosting.softmax_objective(convention)(target, x, given["sample_weight"])


def linear_losses(x, vector, target, given, reduction):
    """Of x as the hidden states."""
    classes = 5 if target.ndim == 1 else target.shape[1]
    rng = np.random.default_rng(1)
    weight, bias = rng.standard_normal((classes, x.shape[1])).astype(x.dtype), rng.standard_normal(classes)
    given = {name: value for name, value in given.items() if name != "axis"}
    for options in ({}, MORE_OPTIONS, {"bias": bias}, {"chunk_bytes": 12 * classes, "bias": bias}):
        options = {**options, **given, "reduction": reduction}
        for return_lse in (False, True):
            loss, gradients, *lse = cxent.linear_cross_entropy_with_grad(
                x, weight, target, return_lse=return_lse, **options
            )
            yield cxent.linear_cross_entropy(x, weight, target, **options)
            yield from (loss, *gradients[: 2 + ("bias" in options)], *(np.delete(array, LEFT_OUT) for array in lse))


def scores(x, vector, target, given, reduction):
    """Those of the tokens alone: ranks and entropies are of the logits."""
    ignore, axis = given["ignore_index"], given["axis"]
    yield np.array(cxent.perplexity(x, target, axis=axis, ignore_index=ignore))
    yield cxent.token_logprobs(x, target, axis=axis, ignore_index=ignore).logprob
    if axis == -1:
        weight = np.random.default_rng(1).standard_normal((5, x.shape[1])).astype(x.dtype)
        yield cxent.linear_token_logprobs(x, weight, target, ignore_index=ignore).logprob


WAYS = ("ignored", "of weight 0", "of weight 0, with probabilities")
FUNCTIONS = {  # with the ways in which their rows can be left out, and whether the classes can be in another axis
    losses: (WAYS, True),
    losses_of_probabilities: (WAYS, True),
    divergences: (WAYS[1:2], True),
    losses_of_parts: (WAYS[1:2], True),
    objectives: (WAYS[1:2], False),
    linear_losses: (WAYS, False),
    scores: (WAYS[:1], True),
}
CASES = [(function, way) for function, (ways, _) in FUNCTIONS.items() for way in ways]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize(("function", "way"), CASES, ids=lambda value: getattr(value, "__name__", value))
def test_rows_that_do_not_count(function, way, dtype):
    rng = np.random.default_rng(0)
    reductions = ("mean", "sum", "none") if dtype in (np.float32, np.float64) else ("mean",)
    for classes, axis, reduction in product((5, 140), (-1, 0) if FUNCTIONS[function][1] else (-1,), reductions):
        good, bad = numbers(rng, dtype, classes)
        vectors = numbers(rng, dtype, classes)
        target = rng.integers(0, 5, N)
        given = {"axis": axis}
        targets = [target, target]
        if way == "ignored":
            target[LEFT_OUT] = given["ignore_index"] = IGNORED
        else:
            given["sample_weight"] = rng.random(N) + 0.5
            given["sample_weight"][LEFT_OUT] = 0
        if "probabilities" in way:
            targets = [abs(array) for array in numbers(rng, np.float64, classes)]
        if axis == 0:
            arrays = [np.ascontiguousarray(array.T) for array in (good, bad, *vectors)]
            targets = [np.ascontiguousarray(array.T) for array in targets]
        else:
            arrays = [good, bad, *vectors]
        expected = list(function(arrays[0], arrays[2], targets[0], given, reduction))
        found = list(function(arrays[1], arrays[3], targets[1], given, reduction))
        assert len(found) == len(expected) > 0
        for place, (a, b) in enumerate(zip(found, expected, strict=True)):
            assert_same_bits(a, b, f"{place} of {classes} classes in axis {axis}, {reduction}")
            assert function is objectives or np.isfinite(np.asarray(b, np.float64)).all()


def test_rows_of_classes_of_weight_0_count():
    """Their loss is 0 times that of a row without numbers, which is none."""
    x = np.float32([[0, 1, 2], [np.nan, 0, 0]])
    loss, gradients = cxent.linear_cross_entropy_with_grad(
        x, np.eye(3, dtype=np.float32), [0, 1], class_weight=[1, 0, 1], reduction="none"
    )
    assert np.isnan(loss).tolist() == [False, True]
    assert np.isnan(gradients.weight).all()
