"""Temperatures of least loss, and reliability: against SciPy, scikit-learn, mpmath, and plain loops in float64."""

import sys
import tracemalloc

import ml_dtypes
import numpy as np
import pytest
from helpers import FLOATS, HALVES, assert_same_bits, loss_by_definition, softmax_by_definition, words
from mpmath import mp, mpf
from test_scoring import little_memory

import cxent
from cxent import binary_reliability, fit_temperature, reliability


def labelled(rows, classes, scale=3.0, temperature=1.0, dtype=np.float64, seed=0):
    """Logits, and labels drawn from their softmax at a temperature."""
    rng = np.random.default_rng(seed)
    logits = (scale * rng.standard_normal((rows, classes))).astype(dtype)
    p = softmax_by_definition(logits.astype(np.float64) / temperature, -1)[0]
    return logits, (p.cumsum(axis=1) < rng.random((rows, 1))).sum(axis=1).clip(0, classes - 1)


def best_by_search(logits, target, **given):
    """The temperature and the loss that SciPy finds, in float64."""
    from scipy.optimize import minimize_scalar

    def loss(log_t):
        return float(loss_by_definition(logits, target, temperature=np.exp(log_t), **given)[0])

    found = minimize_scalar(loss, bounds=np.log([1e-3, 1e3]), method="bounded", options={"xatol": 1e-9})
    return np.exp(found.x), found.fun


CASES = {  # rows, classes, scale, temperature
    "as trained": (400, 10, 3, 1),
    "overconfident": (400, 10, 3, 2.5),
    "underconfident": (400, 10, 3, 0.2),
    "beyond 20": (1000, 10, 60, 40),
    "nearly noise": (1000, 5, 1, 30),
    "many classes": (50, 1000, 5, 3),
    "two classes": (300, 2, 1, 1),
    "nearly separable": (60, 3, 2, 0.1),
}


@pytest.mark.parametrize("dtype", [*FLOATS, *HALVES])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_temperature_of_scipy(case, dtype):
    pytest.importorskip("scipy")
    logits, target = labelled(*case, dtype)
    found = fit_temperature(logits, target)
    temperature, loss = best_by_search(logits, target)
    assert found.converged and found.iterations <= 16
    # Where x / T hardly varies, rounding errors of float32 are a larger part of the slope.
    nearly_noise = case == CASES["nearly noise"] and dtype is not np.float64
    np.testing.assert_allclose(found.temperature, temperature, rtol=1e-5 if nearly_noise else 1e-6)
    np.testing.assert_allclose(found.loss, loss, rtol=1e-6 if dtype is not np.float64 else 1e-12)
    before = cxent.cross_entropy(logits.astype(np.float64), target)
    np.testing.assert_allclose(found.loss_before, before, rtol=1e-6 if dtype is not np.float64 else 1e-12)
    assert found.loss <= found.loss_before
    assert [type(field) for field in found] == [float, float, float, int, bool]


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_slope_there_is_0(dtype):
    """Of exact sums, by mpmath: the derivative by 1/T, relative to that of its terms."""
    logits, target = labelled(40, 4, 2, 1.7, dtype)
    t = mpf(fit_temperature(logits, target).temperature)
    slope, curvature = mpf(0), mpf(0)
    for row, y in zip(logits, target, strict=True):
        x = [mpf(float(value)) for value in row]
        terms = [mp.exp(value / t) for value in x]
        total = mp.fsum(terms)
        mean = mp.fsum(a * b for a, b in zip(terms, x, strict=True)) / total
        slope += mean - x[y]
        curvature += mp.fsum(a * (b - mean) ** 2 for a, b in zip(terms, x, strict=True)) / total
    assert abs(slope / curvature * t) < (1e-6 if dtype == np.float32 else 1e-9)  # Newton's next step, relative


def test_the_temperature_of_scikit_learn():
    calibration = pytest.importorskip("sklearn.calibration")
    if not hasattr(calibration, "_TemperatureScaling"):
        pytest.skip("scikit-learn before 1.8 has no temperature scaling")
    logits, target = labelled(500, 10, 3, 2.5)
    weights = np.random.default_rng(1).random(500)
    for given in ({}, {"sample_weight": weights}):
        theirs = 1 / calibration._TemperatureScaling().fit(logits, target, **given).beta_
        np.testing.assert_allclose(fit_temperature(logits, target, **given).temperature, theirs, rtol=1e-6)


def layouts():
    logits, target = labelled(60, 7, 3, 2)
    yield "classes in front", np.ascontiguousarray(logits.T), target, 0
    yield "classes in the middle", logits.reshape(4, 15, 7).swapaxes(1, 2).copy(), target.reshape(4, 15), 1
    yield "F order", np.asfortranarray(logits), target, -1
    yield "every other", np.repeat(logits, 2, axis=1)[:, ::2], target, -1


@pytest.mark.parametrize(("logits", "target", "axis"), [case[1:] for case in layouts()], ids=[c[0] for c in layouts()])
def test_axes(logits, target, axis):
    plain, labels = labelled(60, 7, 3, 2)
    found, expected = fit_temperature(logits, target, axis=axis), fit_temperature(plain, labels)
    np.testing.assert_allclose(found[:3], expected[:3], rtol=1e-9)
    for a, b in zip(reliability(logits, target, axis=axis), reliability(plain, labels), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("axis", [-1, 0])
def test_rows_that_do_not_count(axis, dtype):
    """Whatever is in them; and a weight of 2 is as good as two rows."""
    logits, target = labelled(50, 5, 3, 2, dtype)
    times = np.arange(50) % 3
    many, labels = np.repeat(logits, times, axis=0), np.repeat(target, times)
    dirty = np.where(times[:, np.newaxis] == 0, dtype(np.nan), logits)
    ignored = np.where(times == 0, -1, target)
    ways = (
        (dirty, target, {"sample_weight": times}),
        (dirty, target, {"sample_weight": times * dtype(2.0**100)}),
        (dirty, ignored, {"sample_weight": times * dtype(2.0**-100), "ignore_index": -1}),
        (dirty, ignored, {"sample_weight": np.maximum(times, 1), "ignore_index": -1}),
    )
    rtol = 1e-5 if dtype == np.float32 else 1e-9
    fit, diagram = fit_temperature(many, labels), reliability(many, labels, bins=5)
    for x, y, given in ways:
        x = np.ascontiguousarray(x.T) if axis == 0 else x
        np.testing.assert_allclose(fit_temperature(x, y, axis=axis, **given)[:3], fit[:3], rtol=rtol)
        found = reliability(x, y, bins=5, axis=axis, **given)
        assert found.count.sum() == (times > 0).sum()
        for k in (0, 1, 3, 4, 5, 6):
            np.testing.assert_allclose(found[k], diagram[k], rtol=rtol)


@pytest.mark.parametrize("dtype", FLOATS)
def test_masks(dtype):
    logits, target = labelled(50, 6, 3, 2, dtype)
    wider = np.insert(logits, [1, 3], np.nan, axis=1)
    where = ~np.isnan(wider[0])
    labels = np.flatnonzero(where)[target]
    for mask in (where, np.tile(where, (50, 1))):
        np.testing.assert_allclose(
            fit_temperature(wider, labels, where=mask)[:3], fit_temperature(logits, target)[:3], rtol=1e-6
        )
        for a, b in zip(reliability(wider, labels, where=mask), reliability(logits, target), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5)


@pytest.mark.parametrize("shape", [(40_000, 3), (300, 10), (4, 20_000)])
def test_any_number_of_threads(shape, share_small_calls):
    logits, target = labelled(*shape, 2, 2, np.float32)
    share_small_calls(1000)
    binary = target > 0
    for call in (
        lambda **given: fit_temperature(logits, target, **given),
        lambda **given: reliability(logits, target, **given),
        lambda **given: binary_reliability(logits[:, 0], binary, **given),
    ):
        for found, expected in zip(call(workers=3), call(), strict=True):
            assert_same_bits(found, expected)


SEPARABLE = np.eye(4)[[0, 1, 2, 3, 0]]
WITHOUT_MINIMUM = {  # logits, target, the temperature that is found
    "every label has the largest logit": (SEPARABLE * 5, [0, 1, 2, 3, 0], 1e-3),
    "with losses that are 0 already": (SEPARABLE * 5000, [0, 1, 2, 3, 0], 1e-3),
    "with small logits": (SEPARABLE * 1e-3, [0, 1, 2, 3, 0], 1e-3),
    "every label has the smallest logit": (-SEPARABLE, [0, 1, 2, 3, 0], 1e3),
    "and large ones": (-SEPARABLE * 1e4, [0, 1, 2, 3, 0], 1e3),
    "equal logits": (np.full((5, 4), 3.0), [0, 1, 2, 3, 0], 1.0),
    "a NaN": ([[np.nan, 0.0], [0.0, 1.0]], [0, 1], np.nan),
    "a label that is impossible": ([[-np.inf, 0.0], [0.0, 1.0]], [0, 1], np.nan),
}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("logits", "target", "temperature"), WITHOUT_MINIMUM.values(), ids=WITHOUT_MINIMUM)
def test_what_has_no_minimum(logits, target, temperature, dtype):
    found = fit_temperature(np.asarray(logits, dtype), target)
    assert not found.converged and found.iterations <= 20
    np.testing.assert_equal(found.temperature, temperature)
    if temperature == temperature:
        assert found.loss <= found.loss_before


def test_bounds():
    logits, target = labelled(400, 10, 3, 2.5)
    best = fit_temperature(logits, target)
    for bounds, temperature in (((0.1, 2), 2), ((3, 50), 3), ((1e-30, 1), 1), ((1, 2.0), 2)):
        found = fit_temperature(logits, target, bounds=bounds)
        assert found.temperature == temperature and not found.converged
        np.testing.assert_allclose(found.loss, cxent.cross_entropy(logits, target, temperature=temperature))
        assert found.loss_before == best.loss_before
    within = fit_temperature(logits, target, bounds=(2, 3))
    assert within.converged
    np.testing.assert_allclose(within.temperature, best.temperature, rtol=1e-9)


def test_classes_of_which_some_are_impossible():
    logits, target = labelled(200, 5, 3, 2)
    logits[::2, 4] = -np.inf
    logits[1::2, 3] = -1e300
    target = np.where(target == 4, 0, np.where(target == 3, 1, target))
    finite = np.where(np.abs(logits) > 1e6, -1e4, logits)
    np.testing.assert_allclose(fit_temperature(logits, target)[:3], fit_temperature(finite, target)[:3], rtol=1e-9)


def test_differences_that_overflow_in_float32():
    logits = np.float32([[1e38, -3e38, 0], [3e38, 0, 1e38]])
    found = fit_temperature(logits, [0, 1])
    assert found.loss_before < np.inf and found.temperature == 1e3
    assert fit_temperature(np.float32([[3e38, -3e38]]), [1]).loss < np.inf


def reliability_by_definition(p, target, bins, weights):
    """By a plain loop over the rows, in float64."""
    sums = np.zeros((bins, 3))
    count = np.zeros(bins, int)
    brier = loss = 0.0
    for row, y, weight in zip(p, target, weights, strict=True):
        top = int(row.argmax())
        place = next(b for b in range(bins) if row[top] <= (b + 1) / bins)
        count[place] += 1
        sums[place] += weight * np.array([1, row[top], top == y])
        brier += weight * sum((row[j] - (j == y)) ** 2 for j in range(len(row)))
        loss -= weight * np.log(row[y])
    total = sums[:, 0].sum()
    means = [sums[b, 1:] / sums[b, 0] if count[b] else [np.nan, np.nan] for b in range(bins)]
    confidence, accuracy = np.transpose(means)
    gaps = np.where(count > 0, abs(accuracy - confidence), 0)
    return confidence, accuracy, count, (gaps * sums[:, 0]).sum() / total, gaps.max(), brier / total, loss / total


@pytest.mark.parametrize("bins", [1, 4, 15])
@pytest.mark.parametrize("temperature", [1.0, 0.6, 3])
@pytest.mark.parametrize("dtype", [*FLOATS, *HALVES])
@pytest.mark.parametrize("shape", [(200, 2), (200, 10), (100, 300), (20, 1)])
def test_reliability(shape, dtype, temperature, bins):
    logits, target = labelled(*shape, 2, 1.5, dtype)
    weights = np.random.default_rng(1).random(shape[0]).astype(np.float32)
    p = softmax_by_definition(logits.astype(np.float64) / temperature, -1)[0]
    found = reliability(logits, target, bins=bins, temperature=temperature, sample_weight=weights)
    expected = reliability_by_definition(p, target, bins, weights.astype(np.float64))
    for value, exact in zip(found, expected, strict=True):
        np.testing.assert_allclose(value, exact, rtol=1e-12 if dtype is np.float64 else 2e-5, atol=1e-15)
    assert (found.confidence.dtype, found.accuracy.dtype, found.count.dtype) == (np.float64, np.float64, np.int64)
    assert {type(number) for number in found[3:]} == {float}


def test_edges_of_bins():
    """A bin holds its upper edge."""
    p = np.array([[0.5, 0.5], [0.75, 0.25], [1.0, 0.0]])
    with np.errstate(divide="ignore"):
        logits = np.log(p)
    found = reliability(logits, [0, 0, 0], bins=4)
    assert found.confidence[1] <= 0.5 and found.count.sum() == 3 and found.count[3] == 1
    assert reliability([[0.0, 0.0]], [1], bins=2).count.tolist() == [1, 0]  # exactly a half; and a tie is class 0
    assert reliability([[0.0, 0.0]], [1], bins=2).accuracy[0] == 0


@pytest.mark.parametrize("dtype", FLOATS)
def test_small_brier_scores_keep_their_digits(dtype):
    gap = 20.0 if dtype == np.float32 else 40.0
    logits = np.array([[gap, 0, 0], [0, gap, 0]], dtype)
    rest = np.exp(-gap) / (1 + 2 * np.exp(-gap))  # of each of the others
    found = reliability(logits, [0, 1]).brier
    np.testing.assert_allclose(found, 6 * rest**2, rtol=1e-5)


def test_the_scores_of_scikit_learn():
    metrics, calibration = pytest.importorskip("sklearn.metrics"), pytest.importorskip("sklearn.calibration")
    scores = np.random.default_rng(0).standard_normal(500) * 2
    labels = (np.random.default_rng(1).random(500) < cxent.sigmoid(scores / 1.5)).astype(int)
    weights = np.random.default_rng(2).random(500)
    p = cxent.sigmoid(scores)
    accuracy, confidence = calibration.calibration_curve(labels, p, n_bins=10)
    found = binary_reliability(scores, labels, bins=10)
    assert (found.count > 0).all()
    np.testing.assert_allclose(found.accuracy, accuracy)
    np.testing.assert_allclose(found.confidence, confidence)
    weighted = binary_reliability(scores, labels, sample_weight=weights)
    np.testing.assert_allclose(weighted.brier, metrics.brier_score_loss(labels, p, sample_weight=weights))
    np.testing.assert_allclose(weighted.loss, metrics.log_loss(labels, p, sample_weight=weights))


@pytest.mark.parametrize("dtype", [*FLOATS, *HALVES])
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_two_classes(temperature, dtype):
    """The same numbers as of two logits, where they mean the same."""
    rng = np.random.default_rng(0)
    scores = (2 * rng.standard_normal((30, 4))).astype(dtype)
    labels = rng.integers(0, 2, (30, 4))
    labels[3], scores[3] = -1, np.nan
    weights = np.arange(30) % 3
    scores[weights == 0] = np.inf
    given = {"temperature": temperature, "ignore_index": -1}
    found = binary_reliability(scores, labels, bins=6, sample_weight=weights, **given)
    pairs = np.stack([np.zeros_like(scores), scores], axis=-1)
    both = reliability(pairs, labels, bins=6, sample_weight=weights[:, np.newaxis], **given)
    np.testing.assert_allclose([2 * found.brier, found.loss], [both.brier, both.loss], rtol=1e-5)
    assert found.count.sum() == both.count.sum() == 4 * ((weights > 0).sum() - (weights[3] > 0))
    counts = (labels >= 0) & (weights > 0)[:, np.newaxis]
    p = 1 / (1 + np.exp(-np.where(counts, scores.astype(np.float64), 0) / temperature))
    places = np.where(counts, np.ceil(6 * p).astype(int) - 1, -1)
    w = np.broadcast_to(weights[:, np.newaxis], places.shape)
    for b in range(6):
        inside = places == b
        assert found.count[b] == inside.sum()
        if inside.any():
            np.testing.assert_allclose(found.confidence[b], np.average(p[inside], weights=w[inside]), rtol=1e-5)
            np.testing.assert_allclose(found.accuracy[b], np.average(labels[inside], weights=w[inside]), rtol=1e-12)


def test_a_nan_that_counts_is_seen():
    found = reliability([[np.nan, 0.0], [1.0, 0.0]], [0, 0], bins=3)
    assert np.isnan(found[3:]).all() and np.isnan(found.confidence[2])
    found = binary_reliability([np.nan, 0.0], [0, 0], bins=3)
    assert np.isnan(found[3:]).all() and np.isnan(found.confidence[2])


def test_one_row():
    logits = np.array([2.0, 1.5, 0.0])
    found = fit_temperature(logits, 1)
    assert found.converged
    np.testing.assert_allclose(cxent.softmax(logits, temperature=found.temperature) @ logits, 1.5, rtol=1e-9)
    assert reliability([2.0, 1.0, 0.0], 1, bins=1).count.tolist() == [1]
    assert binary_reliability(2.0, 1, bins=1).count.tolist() == [1]


X, Y = np.zeros((2, 5)), [0, 1]
BAD = {
    "no bins": (dict(bins=0), ValueError, "bins must be a positive integer, got 0"),
    "half a bin": (dict(bins=1.5), TypeError, "bins must be a positive integer, got 1.5"),
    "bins that are a boolean": (dict(bins=True), TypeError, "bins must be a positive integer, got True"),
    "a temperature of 0": (dict(temperature=0), ValueError, "temperature must ... got 0"),
    "bounds in the wrong order": (dict(bounds=(2, 1)), ValueError, "bounds must be two ... ascending ... got (2, 1)"),
    "equal bounds": (dict(bounds=(1, 1)), ValueError, "bounds must ... got (1, 1)"),
    "a bound of 0": (dict(bounds=(0, 1)), ValueError, "bounds must ... got 0"),
    "a bound below 0": (dict(bounds=(-1, 1)), ValueError, "bounds must ... got -1"),
    "a bound that is infinite": (dict(bounds=(1, np.inf)), ValueError, "bounds must ... got inf"),
    "a bound that is NaN": (dict(bounds=(np.nan, 1)), ValueError, "bounds must ... got nan"),
    "one bound": (dict(bounds=1), TypeError, "bounds must be two ... got 1"),
    "three bounds": (dict(bounds=(1, 2, 3)), TypeError, "bounds must be two ... got (1, 2, 3)"),
    "bounds that are no numbers": (dict(bounds="ab"), TypeError, "bounds must ... got 'a'"),
    "a negative weight": (dict(sample_weight=[1, -1]), ValueError, "sample_weight must be non-negative, got -1"),
    "a weight that is NaN": (dict(sample_weight=[1, np.nan]), ValueError, "sample_weight must be finite ... nan"),
    "weights of another shape": (dict(sample_weight=[1, 1, 1]), ValueError, "sample_weight must ... got (3,)"),
    "weights that are 0": (dict(sample_weight=[0, 0]), ValueError, "logits must have at least one row that counts"),
    "rows that are all ignored": (dict(target=[-1, -1], ignore_index=-1), ValueError, "at least one row that counts"),
    "no rows": (dict(logits=np.zeros((0, 5)), target=[]), ValueError, "at least one row that counts, got none of 0"),
    "class probabilities": (dict(target=X), ValueError, "target must be class indices of shape (2,), got shape (2, 5)"),
    "targets of another shape": (dict(target=[0, 1, 2]), ValueError, "target must have shape (2,) ... got (3,)"),
    "targets that are no integers": (dict(target=[0.0, 1.0]), TypeError, "target must have an integer dtype"),
    "a class too large": (dict(target=[0, 5]), IndexError, "target[1] must ... got 5"),
    "no such axis": (dict(axis=2), np.exceptions.AxisError, "axis 2"),
    "no workers": (dict(workers=0), ValueError, "workers must be positive"),
    "a mask that is none": (dict(where=[1, 0, 1, 1, 1]), TypeError, "where must have dtype bool, got int64"),
    "no classes": (dict(logits=np.zeros((2, 0))), ValueError, "logits must have at least one class"),
    "complex logits": (dict(logits=X.astype(complex)), TypeError, "logits must ... got complex128"),
}


@pytest.mark.parametrize(("given", "error", "message"), BAD.values(), ids=BAD)
def test_bad_input(given, error, message):
    for function in (fit_temperature, reliability):
        own = {"bounds"} if function is reliability else {"bins", "temperature"}
        if not own & set(given):
            with pytest.raises(error, match=words(message)):
                function(**{"logits": X, "target": Y, **given})


BAD_OF_TWO_CLASSES = {
    "no bins": (dict(bins=0), ValueError, "bins must be a positive integer, got 0"),
    "a temperature of 0": (dict(temperature=0), ValueError, "temperature must ... got 0"),
    "probabilities": (dict(target=[0.0, 0.5]), TypeError, "target must have an integer or boolean dtype ... float64"),
    "a label of 2": (dict(target=[0, 2]), ValueError, "target[1] must be 0 or 1, got 2"),
    "labels of another shape": (dict(target=[0]), ValueError, "target must have the shape of logits, (2,), got (1,)"),
    "a negative weight": (dict(sample_weight=[1, -1]), ValueError, "sample_weight must be non-negative, got -1"),
    "weights that are 0": (dict(sample_weight=[0, 0]), ValueError, "logits must have at least one logit that counts"),
    "nothing": (dict(logits=[], target=[]), ValueError, "at least one logit that counts, got none of 0"),
}


@pytest.mark.parametrize(("given", "error", "message"), BAD_OF_TWO_CLASSES.values(), ids=BAD_OF_TWO_CLASSES)
def test_bad_input_of_two_classes(given, error, message):
    with pytest.raises(error, match=words(message)):
        binary_reliability(**{"logits": [0.0, 1.0], "target": [0, 1], **given})


@pytest.mark.parametrize("shape", [(1000, 5000), (2_000_000, 2)])
@pytest.mark.parametrize("axis", [-1, 0])
def test_nothing_of_the_size_of_the_logits_is_allocated(shape, axis, kernels):
    if kernels.name == "python":
        pytest.skip("the pure-NumPy kernels work on copies")
    logits = np.zeros(shape, np.float32)
    logits[::3, 0] = 1
    logits = np.ascontiguousarray(logits.T) if axis == 0 else logits
    target = np.zeros(shape[0], np.int64)
    weights = np.ones(len(logits), np.float32)
    for call in (
        lambda: fit_temperature(logits, target, axis=axis, bounds=(0.5, 2)),
        lambda: reliability(logits, target, axis=axis),
        lambda: binary_reliability(logits, np.broadcast_to(np.uint8(1), logits.shape), sample_weight=weights),
    ):
        tracemalloc.start()
        call()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 4e6 < logits.nbytes / 3


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits what a process may allocate, as Linux does")
def test_a_memory_map_is_read_in_place(kernels, tmp_path):
    """Half a gigabyte of logits, where a process may have 64 MB beyond what it has."""
    if kernels.name == "python":
        pytest.skip("the pure-NumPy kernels work on copies")
    logits = np.memmap(tmp_path / "logits", np.float16, "w+", shape=(2000, 128_256))  # (a file without contents)
    logits[:, 7] = 20
    target = np.where(np.arange(2000) % 4 == 0, 5, 7)
    with little_memory():
        fit = fit_temperature(logits, target)
        found = reliability(logits, target, temperature=fit.temperature)
    # At the best temperature, the mean logit is that of the labels: three quarters of 20.
    assert fit.converged and found.count.sum() == 2000
    np.testing.assert_allclose(found.confidence[found.count > 0], 0.75, rtol=1e-5)
    assert found.ece < 1e-5


def test_halves_are_computed_in_float32():
    logits, target = labelled(300, 20, 3, 2, np.float16)
    for a, b in zip(reliability(logits, target), reliability(logits.astype(np.float32), target), strict=True):
        assert_same_bits(a, b)
    assert fit_temperature(logits, target) == fit_temperature(logits.astype(np.float32), target)
    wide = logits.astype(ml_dtypes.bfloat16)
    assert fit_temperature(wide, target) == fit_temperature(wide.astype(np.float32), target)


def test_logits_of_onnxruntime(tmp_path):
    """A classifier that ONNX Runtime runs: its outputs go in as they are."""
    ort, onnx = pytest.importorskip("onnxruntime"), pytest.importorskip("onnx")
    helper = onnx.helper
    rng = np.random.default_rng(0)
    features = rng.standard_normal((400, 6)).astype(np.float32)
    weights = rng.standard_normal((6, 4)).astype(np.float32)
    node = helper.make_node("Gemm", ["features", "weights"], ["logits"], alpha=3.0)
    graph = helper.make_graph(
        [node],
        "classifier",
        [helper.make_tensor_value_info("features", onnx.TensorProto.FLOAT, [None, 6])],
        [helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, [None, 4])],
        [onnx.numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"features": features})
    p = cxent.softmax(features @ weights)
    target = (p.cumsum(axis=1) < rng.random((400, 1))).sum(axis=1).clip(0, 3)
    fit = fit_temperature(logits, target)
    assert fit.converged and 2.2 < fit.temperature < 4
    assert reliability(logits, target, temperature=fit.temperature).ece < reliability(logits, target).ece
