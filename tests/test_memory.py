"""What a call allocates, in multiples of its logits."""

import tracemalloc

import numpy as np
import pytest

import cxent
from cxent import _dispatch


@pytest.fixture(autouse=True)
def compiled():
    if _dispatch.name == "python":
        pytest.skip("the pure-NumPy kernels work on copies")


def allocated(call):
    """The peak of what a call allocates, in bytes. The kernels' scratch memory counts too."""
    call()
    tracemalloc.start()
    call()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


LAYOUTS = {
    "rows": ((2000, 500), 1, "C"),
    "F order": ((2000, 500), 1, "F"),
    "classes in front": ((500, 2000), 0, "C"),
    "classes in the middle": ((4, 21, 100, 120), 1, "C"),
    "long rows": ((10, 100_000), 1, "C"),
    "long rows in F order": ((100, 20_000), 1, "F"),
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
