"""What a call allocates, in multiples of its logits."""

import tracemalloc

import numpy as np
import pytest
from helpers import FLOATS

import cxent


@pytest.fixture(autouse=True)
def compiled(kernels):
    if kernels.name == "python":
        pytest.skip("the pure-NumPy kernels work on copies")


def allocated(call):
    """The peak of what a call allocates, in bytes. The kernels' scratch memory counts too."""
    call()
    tracemalloc.start()
    call()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


VIEWS = {
    "rows backwards": lambda x: x[::-1],
    "classes backwards": lambda x: x[:, ::-1],
    "every other row": lambda x: x[::2],
    "every other class": lambda x: x[:, ::2],
    "a part of the classes": lambda x: x[:, 3:-3],
    "channels last": lambda x: np.moveaxis(x.reshape(4, 500, 500), 0, -1),
    "broadcast rows": lambda x: np.broadcast_to(x.reshape(1, -1)[:, :1000], (1000, 1000)),
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_views_are_not_copied(view):
    x = view(np.zeros((1000, 1000), np.float32))
    assert allocated(lambda: cxent.logsumexp(x)) < x.nbytes / 2
    if x.flags.writeable:
        assert allocated(lambda: cxent.softmax(x, out=x)) < x.nbytes / 10


@pytest.mark.parametrize("axes", [(2, 3), (3, 2), (0, 1), (1, 2), None], ids=str)
@pytest.mark.parametrize("order", ["C", "F"])
def test_axes_that_lie_together_are_not_copied(order, axes):
    x = np.zeros((20, 30, 40, 50), order=order)
    assert allocated(lambda: cxent.logsumexp(x, axes)) < x.nbytes / 2


LAYOUTS = {
    "rows": ((2000, 500), 1, "C"),
    "F order": ((2000, 500), 1, "F"),
    "classes in front": ((500, 2000), 0, "C"),
    "classes in the middle": ((4, 21, 100, 120), 1, "C"),
    "long rows": ((10, 100_000), 1, "C"),
    "long rows in F order": ((400, 5_000), 1, "F"),
}


IN_PLACE = {
    "softmax": lambda x, labels, axis: cxent.softmax(x, axis, out=x),
    "log_softmax": lambda x, labels, axis: cxent.log_softmax(x, axis, out=x),
    "softmax_backward": lambda x, labels, axis: cxent.softmax_backward(x, x, axis, out=x),
    "log_softmax_backward": lambda x, labels, axis: cxent.log_softmax_backward(x, x, axis, out=x),
    "gradient": lambda x, labels, axis: cxent.cross_entropy_with_grad(x, labels, axis=axis, out=x),
    "from_probs": lambda x, labels, axis: cxent.cross_entropy_from_probs_with_grad(x, labels, axis=axis, out=x),
    "loss, indices": lambda x, labels, axis: cxent.cross_entropy(x, labels, axis=axis),
    "loss, probabilities": lambda x, labels, axis: cxent.cross_entropy(x, x, axis=axis),
    "logsumexp": lambda x, labels, axis: cxent.logsumexp(x, axis),
}
DIVERGENCES = {
    "KL": lambda x, axis: cxent.kl_divergence(x, x, axis=axis),
    "KL, gradient": lambda x, axis: cxent.kl_divergence_with_grad(x, x, axis=axis, out=x),
    "Jensen-Shannon, gradient": lambda x, axis: cxent.js_divergence_with_grad(x, x, axis=axis, out=x),
}
NEW = {
    "softmax": lambda x, labels, axis: cxent.softmax(x, axis),
    "log_softmax": lambda x, labels, axis: cxent.log_softmax(x, axis),
    "gradient, indices": lambda x, labels, axis: cxent.cross_entropy_with_grad(x, labels, axis=axis),
    "gradient, probabilities": lambda x, labels, axis: cxent.cross_entropy_with_grad(x, x, axis=axis),
}


@pytest.fixture(params=LAYOUTS.values(), ids=LAYOUTS)
def logits(request, dtype):
    """Logits, labels, and the axis."""
    shape, axis, order = request.param
    return np.zeros(shape, dtype, order=order), np.zeros(np.delete(shape, axis), np.int64), axis


@pytest.mark.parametrize("call", IN_PLACE.values(), ids=IN_PLACE)
@pytest.mark.parametrize("dtype", FLOATS)
def test_nothing_of_the_size_of_the_logits(call, logits):
    assert allocated(lambda: call(*logits)) < logits[0].nbytes / 10 + 10_000


@pytest.mark.parametrize("call", DIVERGENCES.values(), ids=DIVERGENCES)
@pytest.mark.parametrize("dtype", FLOATS)
def test_four_batches_of_rows(call, logits):
    x, _, axis = logits
    row_bytes = x.shape[axis] * x.itemsize
    batch = row_bytes * (1 if row_bytes > 1 << 18 else 16)
    assert allocated(lambda: call(x, axis)) < x.nbytes / 10 + 10_000 + 4 * batch


@pytest.mark.parametrize("call", NEW.values(), ids=NEW)
@pytest.mark.parametrize("dtype", FLOATS)
def test_the_result_alone(call, logits):
    size = logits[0].nbytes
    assert size <= allocated(lambda: call(*logits)) < size + size / 10 + 10_000


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_long_row_needs_no_memory_of_its_size(dtype, kernels):
    if kernels.name == "python":
        pytest.skip("the pure-NumPy kernels work on copies")
    x, labels = np.zeros((1, 1 << 20), dtype), [0]
    for out in (np.zeros_like(x), x):
        for call in (
            lambda out=out: cxent.softmax(x, out=out),
            lambda out=out: cxent.log_softmax(x, out=out),
            lambda out=out: cxent.cross_entropy_with_grad(x, labels, out=out),
            lambda: cxent.logsumexp(x),
        ):
            call()  # (once, for what is made once)
            tracemalloc.start()
            call()
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert peak < x.nbytes / 16


@pytest.mark.parametrize("call", IN_PLACE.values(), ids=IN_PLACE)
def test_long_rows_side_by_side_are_gathered_once(call):
    """Their tile holds the rows that there are, no more."""
    x = np.zeros((3, 50_000), np.float32, order="F")
    assert allocated(lambda: call(x, np.zeros(3, np.int64), 1)) < 2.1 * x.nbytes
