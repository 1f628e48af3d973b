"""A row has the same bits alone, in a batch, at any place in it, misaligned, strided, with `out` and in place."""

import numpy as np
import pytest

import cxent

DTYPES = [np.float32, np.float64]
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


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


@pytest.fixture(params=DTYPES, ids=["float32", "float64"])
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
        alone = outputs(x[i : i + 1], labels[i : i + 1])
        assert all(same(alone[name], batch[name][i : i + 1]) for name in batch)
    moved = outputs(x[::-1].copy(), labels[::-1])
    assert all(same(moved[name][::-1].copy(), batch[name]) for name in batch)
    large = outputs(np.concatenate([x] * 15), np.concatenate([labels] * 15))
    assert all(same(large[name][-len(x) :], batch[name]) for name in batch)


def test_misaligned(x):
    expected = outputs(x)
    for bytes_off in (x.itemsize, 3 * x.itemsize, 1, 6):
        found = outputs(misaligned(x, bytes_off))
        assert all(same(found[name], expected[name]) for name in expected)


def test_strided(x):
    n, classes = x.shape
    expected = outputs(x)
    wide = np.full((n, 3 * classes), np.nan, x.dtype)
    wide[:, 1::3] = x
    reversed_ = np.ascontiguousarray(x[:, ::-1])[:, ::-1]
    padded = np.full((n, classes + 5), np.nan, x.dtype)
    padded[:, 2:-3] = x
    for strided in (wide[:, 1::3], reversed_, padded[:, 2:-3], x[::-1].copy()[::-1], x.astype(x.dtype.newbyteorder())):
        found = outputs(strided)
        assert all(same(found[name], expected[name]) for name in expected)


def calls_with_out(x):
    """Every function with `out`: the input that `out` may be, and a call for the loss (or None) and the result."""
    labels = np.arange(len(x)) % x.shape[1]
    q = np.abs(x[:, ::-1]) + x.dtype.type(1)
    r = np.abs(x) + x.dtype.type(0.5)
    calls = [
        (x, lambda a, out: cxent.softmax(a, out=out)),
        (x, lambda a, out: cxent.log_softmax(a, out=out)),
        (x, lambda a, out: cxent.softmax_backward(a, q, out=out)),
        (q, lambda a, out: cxent.softmax_backward(x, a, out=out)),
        (x, lambda a, out: cxent.log_softmax_backward(a, -q, out=out)),
        (-q, lambda a, out: cxent.log_softmax_backward(x, a, out=out)),
        (x, lambda a, out: cxent.cross_entropy_with_grad(a, labels, out=out)),
        (x, lambda a, out: cxent.cross_entropy_with_grad(a, q, out=out)),
        (q, lambda a, out: cxent.cross_entropy_with_grad(x, a, out=out)),
        (q, lambda a, out: cxent.cross_entropy_from_probs_with_grad(a, labels, out=out)),
        (q, lambda a, out: cxent.cross_entropy_from_probs_with_grad(a, r, out=out)),
        (r, lambda a, out: cxent.cross_entropy_from_probs_with_grad(q, a, out=out)),
    ]

    def with_loss(function):
        def call(a, out):
            result = function(a, out)
            return result if isinstance(result, tuple) else (None, result)

        return call

    return [(a, with_loss(function)) for a, function in calls]


def test_with_out(x):
    n, classes = x.shape
    for a, call in calls_with_out(x):
        loss, expected = call(a, None)
        outs = [
            np.empty_like(a),
            np.empty_like(a, order="F"),
            np.empty((n, 2 * classes), a.dtype)[:, ::2],
            np.empty((n, classes), a.dtype)[::-1, ::-1],
            misaligned(a, 1),
            np.empty(a.shape, a.dtype.newbyteorder()),
            a.copy(),
        ]
        for out in outs:
            found_loss, found = call(a, out)
            assert found is out and found_loss == loss
            assert same(out.astype(a.dtype), expected)


def test_in_place(x):
    for a, call in calls_with_out(x):
        loss, expected = call(a, None)
        layouts = [a.copy(), a.copy(order="F"), np.repeat(a, 2, axis=1)[:, ::2], np.repeat(a, 2, axis=0)[::2]]
        for logits in [*layouts, misaligned(a, 1), a.astype(a.dtype.newbyteorder())]:
            found_loss, found = call(logits, logits)
            assert found is logits
            if logits.flags.f_contiguous and not logits.flags.c_contiguous:
                # Another layout, where terms that cancel are added in another order.
                tolerance = 50 * np.finfo(a.dtype).eps
                np.testing.assert_allclose(logits, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())
            else:
                assert found_loss == loss and same(logits.astype(a.dtype), expected)


def test_partly_overlapping_memory(x):
    n, classes = x.shape
    for a, call in calls_with_out(x):
        loss, expected = call(a, None)
        for off in (1, classes, n * classes // 2):
            for forwards in (True, False):
                memory = np.empty(n * classes + off, a.dtype)
                first, second = memory[: n * classes].reshape(n, classes), memory[off:].reshape(n, classes)
                source, out = (first, second) if forwards else (second, first)
                source[...] = a
                found_loss, found = call(source, out)
                assert found_loss == loss and same(found, expected)


def test_any_number_of_threads_at_once():
    from concurrent.futures import ThreadPoolExecutor

    x = np.random.default_rng(0).standard_normal((200, 300)).astype(np.float32)
    expected = outputs(x)
    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(lambda _: outputs(x), range(32)):
            assert all(same(found[name], expected[name]) for name in expected)
