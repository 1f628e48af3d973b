"""Hypothesis strategies for arrays as users have them: any shape, dtype, order and strides."""

import math

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

# Zeros, ones, primes, and the neighbours of vector, tile and lane sizes.
SIZES = st.sampled_from([0, 1, 2, 3, 5, 7, 15, 16, 17, 31, 63, 64, 65, 127, 130])


@st.composite
def shapes_and_axes(draw, classes_at_least=1, max_size=20_000):
    """A shape of one to four axes, and the class axis (which is not empty)."""
    shape = draw(st.lists(SIZES, min_size=1, max_size=4).map(tuple))
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    assume(math.prod(shape) <= max_size and shape[axis] >= classes_at_least)
    return shape, axis


@st.composite
def arrays_like(draw, values):
    """The same values in another memory layout: axes permuted, strided either way, byte-swapped, read-only."""
    axes = draw(st.permutations(range(values.ndim)))
    steps = draw(st.lists(st.sampled_from([1, 1, 1, 2, -1, -3]), min_size=values.ndim, max_size=values.ndim))
    memory = np.zeros([values.shape[a] * abs(step) for a, step in zip(axes, steps, strict=True)], values.dtype)
    array = memory[(..., *(slice(None, None, step) for step in steps))].transpose(np.argsort(axes))
    array[...] = values
    if draw(st.integers(0, 9)) == 0:
        array = array.astype(array.dtype.newbyteorder())
    array.flags.writeable = draw(st.booleans())
    return array


@st.composite
def logits_and_axes(draw, dtypes=(np.float32, np.float64), **limits):
    """Logits of one of the dtypes in any layout, and their class axis."""
    shape, axis = draw(shapes_and_axes(**limits))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = draw(st.sampled_from([0.1, 1, 10]))
    values = (scale * rng.standard_normal(shape)).astype(draw(st.sampled_from(dtypes)))
    return draw(arrays_like(values)), axis
