"""A row has the same bits alone, in a batch, at any place in it, misaligned, strided, with `out` and in place."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers import FLOATS, assert_all_same_bits, assert_same_bits

import cxent

CLASSES = [1, 2, 3, 7, 16, 63, 64, 65, 128, 200, 512, 513, 1000, 5000]


def outputs(x, target=None):
    """Every function of logits, row by row: the results whose bits are compared."""
    label = np.arange(len(x)) % x.shape[1] if target is None else target
    q = np.abs(x[:, ::-1]) + (np.arange(x.shape[1]) % 3 == 0)
    p = np.abs(x) + x.dtype.type(0.01)
    return {
        "softmax": cxent.softmax(x),
        "log_softmax": cxent.log_softmax(x),
        "logsumexp": cxent.logsumexp(x),
        "softmax, masked": cxent.softmax(x, where=x > -2),
        "softmax_backward": cxent.softmax_backward(q, p),
        "log_softmax_backward": cxent.log_softmax_backward(q, x),
        "loss, indices": cxent.cross_entropy(x, label, reduction="none"),
        "gradient, indices": cxent.cross_entropy_with_grad(x, label, reduction="none")[1],
        "loss, probabilities": cxent.cross_entropy(x, q, reduction="none"),
        "gradient, probabilities": cxent.cross_entropy_with_grad(x, q, reduction="none")[1],
        "loss of probabilities, indices": cxent.cross_entropy_from_probs(p, label, reduction="none"),
        "gradient of probabilities": cxent.cross_entropy_from_probs_with_grad(p, q, reduction="none")[1],
    }


@pytest.fixture(params=FLOATS)
def dtype(request):
    return request.param


@pytest.fixture(params=CLASSES)
def x(request, dtype):
    return (3 * np.random.default_rng(request.param).standard_normal((9, request.param))).astype(dtype)


def misaligned(x, bytes_off):
    """A copy that starts `bytes_off` bytes into a buffer."""
    buffer = np.empty(x.nbytes + 128, np.uint8)
    copy = buffer[bytes_off : bytes_off + x.nbytes].view(x.dtype).reshape(x.shape)
    copy[...] = x
    return copy


def test_alone_in_a_batch_and_at_any_place_in_it(x):
    batch = outputs(x)
    labels = np.arange(len(x)) % x.shape[1]
    for i in range(len(x)):
        row = slice(i, i + 1)
        assert_all_same_bits(outputs(x[row], labels[row]), {name: result[row] for name, result in batch.items()})
    moved = outputs(x[::-1].copy(), labels[::-1])
    assert_all_same_bits({name: result[::-1] for name, result in moved.items()}, batch)
    large = outputs(np.concatenate([x] * 15), np.concatenate([labels] * 15))
    assert_all_same_bits({name: result[-len(x) :] for name, result in large.items()}, batch)


@pytest.mark.parametrize("bytes_off", ["one number", "three numbers", 1, 6])
def test_misaligned(x, bytes_off):
    bytes_off = {"one number": x.itemsize, "three numbers": 3 * x.itemsize}.get(bytes_off, bytes_off)
    assert_all_same_bits(outputs(misaligned(x, bytes_off)), outputs(x))


def every_third_class(x):
    wide = np.full((len(x), 3 * x.shape[1]), np.nan, x.dtype)
    wide[:, 1::3] = x
    return wide[:, 1::3]


def amid_other_classes(x):
    padded = np.full((len(x), x.shape[1] + 5), np.nan, x.dtype)
    padded[:, 2:-3] = x
    return padded[:, 2:-3]


STRIDED = {
    "every third class": every_third_class,
    "amid other classes": amid_other_classes,
    "classes backwards": lambda x: np.ascontiguousarray(x[:, ::-1])[:, ::-1],
    "rows backwards": lambda x: x[::-1].copy()[::-1],
    "byte-swapped": lambda x: x.astype(x.dtype.newbyteorder()),
}


@pytest.mark.parametrize("strided", STRIDED.values(), ids=STRIDED)
def test_strided(x, strided):
    assert_all_same_bits(outputs(strided(x)), outputs(x))


def calls_with_out(x):
    """Every function with `out`: the input that `out` may be, and a call for the loss (or None) and the result."""
    labels = np.arange(len(x)) % x.shape[1]
    q = np.abs(x[:, ::-1]) + x.dtype.type(1)
    r = np.abs(x) + x.dtype.type(0.5)
    return {
        "softmax": (x, lambda a, out: (None, cxent.softmax(a, out=out))),
        "log_softmax": (x, lambda a, out: (None, cxent.log_softmax(a, out=out))),
        "softmax_backward": (x, lambda a, out: (None, cxent.softmax_backward(a, q, out=out))),
        "softmax_backward, output": (q, lambda a, out: (None, cxent.softmax_backward(x, a, out=out))),
        "log_softmax_backward": (x, lambda a, out: (None, cxent.log_softmax_backward(a, -q, out=out))),
        "log_softmax_backward, output": (-q, lambda a, out: (None, cxent.log_softmax_backward(x, a, out=out))),
        "indices": (x, lambda a, out: cxent.cross_entropy_with_grad(a, labels, out=out)),
        "probabilities": (x, lambda a, out: cxent.cross_entropy_with_grad(a, q, out=out)),
        "probabilities, target": (q, lambda a, out: cxent.cross_entropy_with_grad(x, a, out=out)),
        "from_probs, indices": (q, lambda a, out: cxent.cross_entropy_from_probs_with_grad(a, labels, out=out)),
        "from_probs, probabilities": (q, lambda a, out: cxent.cross_entropy_from_probs_with_grad(a, r, out=out)),
        "from_probs, target": (r, lambda a, out: cxent.cross_entropy_from_probs_with_grad(q, a, out=out)),
    }


OUTS = {
    "C order": np.empty_like,
    "F order": lambda a: np.empty_like(a, order="F"),
    "every other class": lambda a: np.empty((len(a), 2 * a.shape[1]), a.dtype)[:, ::2],
    "backwards": lambda a: np.empty(a.shape, a.dtype)[::-1, ::-1],
    "misaligned": lambda a: misaligned(a, 1),
    "byte-swapped": lambda a: np.empty(a.shape, a.dtype.newbyteorder()),
    "a copy of the input": np.copy,
}


@pytest.mark.parametrize("make_out", OUTS.values(), ids=OUTS)
def test_with_out(x, make_out):
    for name, (a, call) in calls_with_out(x).items():
        loss, expected = call(a, None)
        out = make_out(a)
        found_loss, found = call(a, out)
        assert found is out and found_loss == loss, name
        assert_same_bits(out.astype(a.dtype), expected, name)


IN_PLACE = {
    "C order": np.copy,
    "every other class": lambda a: np.repeat(a, 2, axis=1)[:, ::2],
    "every other row": lambda a: np.repeat(a, 2, axis=0)[::2],
    "misaligned": lambda a: misaligned(a, 1),
    "byte-swapped": lambda a: a.astype(a.dtype.newbyteorder()),
}


@pytest.mark.parametrize("layout", IN_PLACE.values(), ids=IN_PLACE)
def test_in_place(x, layout):
    for name, (a, call) in calls_with_out(x).items():
        loss, expected = call(a, None)
        logits = layout(a)
        found_loss, found = call(logits, logits)
        assert found is logits and found_loss == loss, name
        assert_same_bits(logits.astype(a.dtype), expected, name)


def test_in_place_in_f_order(x):
    """Terms that cancel are added in another order there."""
    tolerance = 50 * np.finfo(x.dtype).eps
    for name, (a, call) in calls_with_out(x).items():
        _, expected = call(a, None)
        logits = a.copy(order="F")
        assert call(logits, logits)[1] is logits
        atol = tolerance * np.abs(expected).max()
        np.testing.assert_allclose(logits, expected, rtol=tolerance, atol=atol, err_msg=name)


@pytest.mark.parametrize("direction", ["forwards", "backwards"])
@pytest.mark.parametrize("distance", ["one number", "one row", "half of it"])
def test_partly_overlapping_memory(x, distance, direction):
    shape, size = x.shape, x.size
    distance = {"one number": 1, "one row": shape[1], "half of it": size // 2}[distance]
    for name, (a, call) in calls_with_out(x).items():
        loss, expected = call(a, None)
        memory = np.empty(size + distance, a.dtype)
        first, second = memory[:size].reshape(shape), memory[distance:].reshape(shape)
        source, out = (first, second) if direction == "forwards" else (second, first)
        source[...] = a
        found_loss, found = call(source, out)
        assert found_loss == loss, name
        assert_same_bits(found, expected, name)


def test_any_number_of_threads_at_once():
    x = np.random.default_rng(0).standard_normal((200, 300)).astype(np.float32)
    expected = outputs(x)
    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(lambda _: outputs(x), range(32)):
            assert_all_same_bits(found, expected)
