"""What a call allocates, in multiples of its logits."""

import tracemalloc

import numpy as np
import pytest

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


def test_axes_that_lie_together_are_not_copied():
    x = np.zeros((20, 30, 40, 50))
    for array, axis in ((x, (2, 3)), (x, (3, 2)), (x, (0, 1)), (x, (1, 2)), (x, None), (x.T, (0, 1)), (x.T, None)):
        assert allocated(lambda array=array, axis=axis: cxent.logsumexp(array, axis)) < x.nbytes / 2


LAYOUTS = {
    "rows": ((2000, 500), 1, "C"),
    "F order": ((2000, 500), 1, "F"),
    "classes in front": ((500, 2000), 0, "C"),
    "classes in the middle": ((4, 21, 100, 120), 1, "C"),
    "long rows": ((10, 100_000), 1, "C"),
    "long rows in F order": ((400, 5_000), 1, "F"),
}


@pytest.mark.parametrize(("shape", "axis", "order"), LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_peak(shape, axis, order, dtype):
    x = np.zeros(shape, dtype, order=order)
    labels = np.zeros(np.delete(shape, axis), np.int64)
    size = x.nbytes
    small = size / 10 + 10_000
    for in_place in (
        lambda: cxent.softmax(x, axis, out=x),
        lambda: cxent.log_softmax(x, axis, out=x),
        lambda: cxent.softmax_backward(x, x, axis, out=x),
        lambda: cxent.log_softmax_backward(x, x, axis, out=x),
        lambda: cxent.cross_entropy_with_grad(x, labels, axis=axis, out=x),
        lambda: cxent.cross_entropy_from_probs_with_grad(x, labels, axis=axis, out=x),
        lambda: cxent.cross_entropy(x, labels, axis=axis),
        lambda: cxent.cross_entropy(x, x, axis=axis),
        lambda: cxent.logsumexp(x, axis),
    ):
        assert allocated(in_place) < small
    for new in (
        lambda: cxent.softmax(x, axis),
        lambda: cxent.log_softmax(x, axis),
        lambda: cxent.cross_entropy_with_grad(x, labels, axis=axis),
        lambda: cxent.cross_entropy_with_grad(x, x, axis=axis),
    ):
        assert size <= allocated(new) < size + small
