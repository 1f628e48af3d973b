"""The shorter way of small calls gives what the general way gives, and leaves to that all that is not plain."""

import ml_dtypes
import numpy as np
import pytest

import cxent

SHAPES = [(1,), (10,), (1, 10), (3, 1), (2, 3), (17, 10), (64, 48), (65, 7), (4, 49), (3, 300), (1, 5000), (30, 1000)]
BYTES = 1 << 18  # up to so many


def results(x, labels, q):
    for function in (cxent.softmax, cxent.log_softmax):
        yield function(x, out=np.empty_like(x))
    yield from cxent.cross_entropy_with_grad(x, labels, out=np.empty_like(x))
    for axis in {-1, x.ndim - 1}:
        yield cxent.softmax(x, axis)
        yield cxent.log_softmax(x, axis)
        yield cxent.softmax(x, axis, where=x > 0)
        yield cxent.log_softmax(x, axis, where=x > 0)
        yield cxent.logsumexp(x, axis)
        for target in (labels, q):
            for reduction in ("mean", "sum"):
                yield cxent.cross_entropy(x, target, axis=axis, reduction=reduction)
                yield from cxent.cross_entropy_with_grad(x, target, axis=axis, reduction=reduction)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_same_results_as_the_general_way(shape, dtype, close_the_short_way):
    rng = np.random.default_rng(0)
    x = (3 * rng.standard_normal(shape)).astype(dtype)
    labels = np.array(rng.integers(0, shape[-1], shape[:-1]))
    q = rng.random(shape).astype(dtype)
    short = list(results(x, labels, q))
    close_the_short_way()
    for a, b in zip(short, results(x, labels, q), strict=True):
        assert type(a) is type(b)
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())


def test_losses_too_large_for_the_dtype(close_the_short_way):
    x = np.array([[3e38, -3e38]] * 3, np.float32)
    labels = np.ones(3, int)
    assert cxent.cross_entropy(x, labels, reduction="sum") == np.inf
    close_the_short_way()
    assert cxent.cross_entropy(x, labels, reduction="sum") == np.inf


def short(kernels, x, target=None, axis=-1, out=None, where=None):
    """What the short way gives: None where it leaves a call to the general way."""
    kernels = kernels.of(x.dtype) if isinstance(x, np.ndarray) else kernels.float32
    if target is not None:
        return [kernels.small_cross_entropy(x, target, axis, out, True, with_grad) for with_grad in (True, False)]
    results = [kernels.small_softmax(x, axis, where, out), kernels.small_log_softmax(x, axis, where, out)]
    return results if out is not None else [*results, kernels.small_logsumexp(x, axis)]


class Named(np.ndarray):
    """A subclass, whose methods may do anything."""


PLAIN = np.ones((4, 10), np.float32)
NOT_PLAIN = {
    "a list": PLAIN.tolist(),
    "a scalar": np.float32(1),
    "no dimension": PLAIN[0, 0, ...],
    "three dimensions": PLAIN[np.newaxis],
    "no rows": PLAIN[:0],
    "no classes": PLAIN[:, :0],
    "strided": PLAIN[:, ::2],
    "F order": np.asfortranarray(PLAIN),
    "byte-swapped": PLAIN.astype(PLAIN.dtype.newbyteorder()),
    "misaligned": np.zeros(161, np.uint8)[1:].view(np.float32).reshape(4, 10),
    "integers": np.ones((4, 10), np.int64),
    "booleans": PLAIN.astype(bool),
    "bfloat16, byte-swapped": (bfloat16 := PLAIN.astype(ml_dtypes.bfloat16)).astype(bfloat16.dtype.newbyteorder()),
    "float8": PLAIN.astype(ml_dtypes.float8_e5m2),
    "complex": PLAIN.astype(complex),
    "objects": PLAIN.astype(object),
    "a subclass": PLAIN.view(Named),
    "masked": np.ma.masked_array(PLAIN),
    "large": np.ones((1, BYTES // 4 + 1), np.float32),
}


@pytest.mark.parametrize("x", NOT_PLAIN.values(), ids=NOT_PLAIN)
def test_what_is_not_plain_goes_the_general_way(kernels, x):
    assert not any(short(kernels, x)) and not any(short(kernels, x, np.zeros(4, int))) and not any(short(kernels, x, x))
    assert short(kernels, PLAIN.copy(), out=x) == [None, None]
    assert short(kernels, PLAIN.copy(), np.zeros(4, int), out=x)[0] is None


@pytest.mark.parametrize("axis", [0, -2, 2, None, (1,), 1.0, True, np.int64(1), "last"], ids=str)
def test_other_axes_go_the_general_way(kernels, axis):
    assert not any(short(kernels, PLAIN, axis=axis)) and not any(short(kernels, PLAIN, np.zeros(4, int), axis=axis))


TARGETS = {
    "too few labels": np.zeros(3, int),
    "a label too large": np.array([0, 0, 10, 0]),
    "a negative label": np.array([0, -1, 0, 0]),
    "labels as a column": np.zeros((4, 1), int),
    "other integers": np.zeros(4, np.int32),
    "labels that are not integers": np.zeros(4, np.float32),
    "integers in the shape of probabilities": np.ones((4, 10), int),
    "another dtype": np.ones((4, 10)),
    "another shape": np.ones((10, 4), np.float32),
    "a list": [0, 0, 0, 0],
}


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_other_targets_go_the_general_way(kernels, target):
    assert not any(short(kernels, PLAIN, target))


def test_other_outputs_go_the_general_way(kernels):
    memory = np.ones(60, np.float32)
    x = memory[:40].reshape(4, 10)
    read_only = PLAIN.copy()
    read_only.flags.writeable = False
    for out in (read_only, memory[4:44].reshape(4, 10), np.ones((4, 10)), np.ones((10, 4), np.float32), memory[:40]):
        assert short(kernels, x, out=out) == [None, None]
        assert short(kernels, x, np.zeros(4, int), out=out)[0] is None
    target = np.ones((4, 10), np.float32)
    assert short(kernels, x, target, out=target)[0] is None


MASKS = {
    "a list": (PLAIN > 0).tolist(),
    "a scalar": True,
    "one row": PLAIN[0] > 0,
    "one column": PLAIN[:, :1] > 0,
    "integers": np.ones((4, 10), np.int64),
    "bytes": np.ones((4, 10), np.uint8),
    "numbers": PLAIN,
    "transposed": np.ones((10, 4), bool).T,
}


@pytest.mark.parametrize("where", MASKS.values(), ids=MASKS)
def test_other_masks_go_the_general_way(kernels, where):
    assert short(kernels, PLAIN, out=np.empty_like(PLAIN), where=where) == [None, None]


def test_a_mask_in_the_memory_of_the_results_goes_the_general_way(kernels):
    out = np.empty_like(PLAIN)
    where = out.view(bool).reshape(-1)[:40].reshape(4, 10)
    assert short(kernels, PLAIN, out=out, where=where) == [None, None]


def test_plain_arrays_go_the_short_way(kernels):
    if kernels.name == "python":
        pytest.skip("the pure kernels have no shorter way")
    largest = np.ones((1, BYTES // 4), np.float32)
    read_only = PLAIN.copy()
    read_only.flags.writeable = False
    halves = [PLAIN.astype(dtype) for dtype in (np.float16, ml_dtypes.bfloat16)]
    for x in (PLAIN, PLAIN.astype(float), *halves, PLAIN[1:3], PLAIN[0], largest, read_only):
        assert not any(result is None for result in short(kernels, x))
        for target in (np.zeros(x.shape[:-1], int), x):
            (loss, grad), (same_loss, no_grad) = short(kernels, x, target, axis=x.ndim - 1)
            assert np.isfinite(loss) and loss == same_loss
            assert grad.shape == x.shape and no_grad is None
        out = np.empty_like(x)
        for where in (None, x > 0):
            assert all(result is out for result in short(kernels, x, out=out, where=where))
        in_place = x.copy()
        assert all(result is in_place for result in short(kernels, in_place, out=in_place))
