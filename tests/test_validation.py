"""What kernels are given: on x86 they could read misaligned memory, elsewhere not."""

import numpy as np
import pytest

from cxent._layout import layout_of
from cxent._validation import Indices, Probabilities, checked_target, floating_array


@pytest.fixture
def misaligned():
    array = np.zeros(8 * 6 + 1, np.uint8)[1:].view(np.float64).reshape(2, 3)
    assert not array.flags.aligned
    return array


@pytest.mark.once
def test_inputs_are_aligned_and_native(misaligned):
    x = np.zeros((2, 3))
    assert floating_array(x, "x") is x
    for array in (misaligned, x.astype(">f8"), x.astype("<f8")):
        readable = floating_array(array, "x")
        assert readable.flags.aligned and readable.dtype.isnative and readable.dtype == np.float64


@pytest.mark.once
def test_targets_are_aligned_and_native(misaligned):
    x = np.zeros((2, 3))
    layout = layout_of(x, -1)
    labels = misaligned.view(np.int64)[:, 0]
    for target, kind, shape, dtype in (
        (labels, Indices, (2, 1), np.int64),
        (labels.astype(">i2"), Indices, (2, 1), np.int16),
        (misaligned, Probabilities, (2, 3, 1), np.float64),
    ):
        checked = checked_target(target, layout, "logits", x.dtype)
        assert isinstance(checked, kind)
        view = checked.view
        assert view.flags.aligned and view.dtype.isnative and (view.shape, view.dtype) == (shape, dtype)


@pytest.mark.once
def test_outputs_are_aligned_and_native(misaligned):
    layout = layout_of(np.zeros((2, 3)), -1)
    aligned = np.zeros((2, 3))
    assert np.shares_memory(layout.output(aligned, aligned.dtype, in_place=[]), aligned)
    for out in (misaligned, aligned.astype(">f8")):
        output = layout.output(out, aligned.dtype, in_place=[])
        assert output.flags.aligned and output.dtype.isnative
        output[...] = 5
        assert layout.result(output, out, np.dtype(np.float64)) is out and (out == 5).all()
