"""Rows so long that a float32 can neither count their classes nor add a term to their sum."""

import numpy as np
import pytest

import cxent

pytestmark = pytest.mark.slow


@pytest.fixture
def classes(kernels):
    """More than 2^24 in each lane of a sum; the pure kernels work on copies in float64."""
    return (1 << 21) + 5 if kernels.name == "python" else (1 << 28) + 5


def test_a_row_of_equal_numbers(classes):
    assert cxent.logsumexp(np.zeros(classes, np.float32)) == np.float32(np.log(classes))


def test_equal_numbers_and_a_larger_one(classes):
    """Each term is rounded alike when it is added."""
    x = np.zeros(classes, np.float32)
    x[classes // 2] = 1
    exact = 1 + np.log1p((classes - 1) * np.exp(-1))
    assert abs(cxent.logsumexp(x) - exact) <= 2 * np.spacing(np.float32(exact))
    loss = cxent.cross_entropy(x, classes - 1)
    assert abs(loss - exact) <= 2 * np.spacing(np.float32(exact))


def test_probabilities_of_equal_numbers(classes):
    x = np.zeros(classes, np.float32)
    p = cxent.softmax(x, out=x)
    exact = 1 / classes
    assert abs(float(p[0]) - exact) <= 2 * np.spacing(np.float32(exact)) and p[-1] == p[0]


def test_a_row_of_more_than_2_to_the_32_terms(kernels):
    """They share a page of zeros, but for the pages that are written."""
    if kernels.name in ("python", "baseline"):
        pytest.skip("many seconds, or tens of gigabytes")
    classes = (1 << 32) + 5
    try:
        x = np.zeros(classes, np.float32)
    except MemoryError:
        pytest.skip("no room for an array of 16 GB, even one of zeros")
    x[12_345] = 1
    exact = 1 + np.log1p((classes - 1) * np.exp(-1))
    assert abs(cxent.logsumexp(x) - exact) <= 4 * np.spacing(np.float32(exact))
