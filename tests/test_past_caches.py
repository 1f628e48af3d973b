"""Large results are written past the CPU's caches, while the next rows are computed: with the bits of small ones."""

import numpy as np
import pytest
from helpers import FLOATS, assert_all_same_bits

import cxent
from cxent import _layout

ROWS = [(rows, classes) for classes in (64, 300, 511, 512, 513, 1000, 4095, 4096) for rows in (1, 5, 40)]
LONG_ROWS = [(rows, classes) for classes in (4097, 4160, 5000, 20_001) for rows in (1, 2, 5)]
COLUMNS = [
    (outer, classes, inner) for outer in (1, 3) for classes in (1, 2, 21, 130) for inner in (2, 63, 64, 65, 200, 513)
] + [(2, 4096, 70), (2, 4097, 70)]


def results(x, axis, out):
    """The results of every function that can write past the caches, and the losses, by their names."""
    labels = np.arange(x.size // x.shape[axis]).reshape(np.delete(x.shape, axis)) % x.shape[axis]
    target = np.abs(np.flip(x, axis)) + x.dtype.type(1)
    weight = np.random.default_rng(1).random(x.shape[axis])
    found = {
        "softmax": cxent.softmax(x, axis, out=out).copy(),
        "log_softmax": cxent.log_softmax(x, axis, out=out).copy(),
        "softmax, masked": cxent.softmax(x, axis, where=x > 0, out=out).copy(),
        "log_softmax, masked": cxent.log_softmax(x, axis, where=x > 0, out=out).copy(),
    }
    for name, t in (("indices", labels), ("probabilities", target)):
        for options in ({}, {"weight": weight, "label_smoothing": 0.1}):
            loss, grad = cxent.cross_entropy_with_grad(x, t, axis=axis, reduction="sum", out=out, **options)
            found[f"loss, {name}, {list(options)}"] = loss
            found[f"gradient, {name}, {list(options)}"] = grad.copy()
    return found


FEW = [(40, 513), (5, 4096), (5, 5000), (1, 21, 65), (3, 130, 513), (2, 4096, 70)]
MORE = [shape for shape in ROWS + LONG_ROWS + COLUMNS if shape not in FEW]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", FEW + [pytest.param(shape, marks=pytest.mark.slow) for shape in MORE], ids=str)
def test_same_bits(shape, dtype, kernels, monkeypatch):
    if kernels.name == "python":
        pytest.skip("NumPy writes the results of the pure-NumPy kernels")
    x = np.random.default_rng(0).normal(size=shape, scale=3).astype(dtype)
    expected = results(x, 1, np.empty_like(x))
    monkeypatch.setattr(_layout, "_CACHE_BYTES", 0)
    for offset in (0, 1, 4, 15):  # of the results in a cache line
        memory = np.full(x.size + 64, 7, dtype)
        start = (-memory.ctypes.data % 64) // x.itemsize + offset
        out = memory[start : start + x.size].reshape(shape)
        assert_all_same_bits(results(x, 1, out), expected)
        assert (memory[:start] == 7).all() and (memory[start + x.size :] == 7).all()


SHAPES = [(40, 1000), (5, 5000), (3, 21, 200)]
OUTS = {
    "in place": np.copy,
    "every other number": lambda x: np.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)[..., ::2],
    "rows apart": lambda x: np.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)[..., : x.shape[-1]],
    "F order": lambda x: np.empty_like(x, order="F"),
}


@pytest.fixture(params=SHAPES, ids=str)
def x(request):
    return np.random.default_rng(0).normal(size=request.param).astype(np.float32)


@pytest.mark.parametrize("out", OUTS)
def test_outs(x, out, monkeypatch):
    expected = cxent.softmax(x, 1)
    monkeypatch.setattr(_layout, "_CACHE_BYTES", 0)
    target = OUTS[out](x)
    assert (cxent.softmax(target if out == "in place" else x, 1, out=target) == expected).all()


def test_with_threads(x, monkeypatch):
    large = np.repeat(x, 600_000 // x.size + 1, axis=0)
    expected = np.repeat(cxent.softmax(x, 1), len(large) // len(x), axis=0)
    monkeypatch.setattr(_layout, "_CACHE_BYTES", 0)
    assert (cxent.softmax(large, 1, workers=2) == expected).all()
