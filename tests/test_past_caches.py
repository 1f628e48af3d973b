"""Large results are written past the CPU's caches, while the next pack is computed: with the bits of small ones."""

import numpy as np
import pytest

import cxent
from cxent import _layout

ROWS = [(rows, classes) for classes in (64, 255, 256, 257, 300, 1000, 4095, 4096) for rows in (1, 5, 40)]
LONG_ROWS = [(rows, classes) for classes in (4097, 4160, 5000, 20_001) for rows in (1, 2, 5)]
COLUMNS = [
    (outer, classes, inner) for outer in (1, 3) for classes in (1, 2, 21, 130) for inner in (2, 63, 64, 65, 200, 513)
] + [(2, 4096, 70), (2, 4097, 70)]


def results(x, axis, out):
    """The results of every function that can write past the caches, and the losses."""
    labels = np.arange(x.size // x.shape[axis]).reshape(np.delete(x.shape, axis)) % x.shape[axis]
    target = np.abs(np.flip(x, axis)) + x.dtype.type(1)
    weight = np.random.default_rng(1).random(x.shape[axis])
    yield cxent.softmax(x, axis, out=out).copy(), None
    yield cxent.log_softmax(x, axis, out=out).copy(), None
    yield cxent.softmax(x, axis, where=x > 0, out=out).copy(), None
    yield cxent.log_softmax(x, axis, where=x > 0, out=out).copy(), None
    for t in (labels, target):
        for chosen in ({}, {"weight": weight, "label_smoothing": 0.1}):
            loss, grad = cxent.cross_entropy_with_grad(x, t, axis=axis, reduction="sum", out=out, **chosen)
            yield grad.copy(), loss


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", ROWS + LONG_ROWS + COLUMNS, ids=str)
def test_same_bits(shape, dtype, monkeypatch):
    x = np.random.default_rng(0).normal(size=shape, scale=3).astype(dtype)
    expected = list(results(x, 1, np.empty_like(x)))
    monkeypatch.setattr(_layout, "_CACHE_BYTES", 0)
    for offset in (0, 1, 4, 15):  # of the results in a cache line
        memory = np.full(x.size + 64, 7, dtype)
        start = (-memory.ctypes.data % 64) // x.itemsize + offset
        out = memory[start : start + x.size].reshape(shape)
        for (found, found_loss), (wanted, wanted_loss) in zip(results(x, 1, out), expected, strict=True):
            assert found.tobytes() == wanted.tobytes() and found_loss == wanted_loss
        assert (memory[:start] == 7).all() and (memory[start + x.size :] == 7).all()


@pytest.mark.parametrize("shape", [(40, 1000), (5, 5000), (3, 21, 200)], ids=str)
def test_in_place_strided_and_threaded(shape, monkeypatch):
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    expected = cxent.softmax(x, 1)
    monkeypatch.setattr(_layout, "_CACHE_BYTES", 0)
    wide = np.zeros((*shape[:-1], 2 * shape[-1]), np.float32)
    for out in (x.copy(), wide[..., ::2], wide[..., : shape[-1]], np.empty_like(x, order="F")):
        assert (cxent.softmax(x, 1, out=out) == expected).all()
    large = np.repeat(x, 600_000 // x.size + 1, axis=0)
    assert (cxent.softmax(large, 1, workers=2) == np.repeat(expected, len(large) // len(x), axis=0)).all()
    in_place = x.copy()
    assert (cxent.softmax(in_place, 1, out=in_place) == expected).all()
