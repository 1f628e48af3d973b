"""The helpers themselves: oracles against values that are known, and comparisons that must fail."""

import numpy as np
import pytest
from helpers import (
    assert_same_bits,
    assert_within_ulps,
    central_differences,
    exact_row,
    loss_by_definition,
    softmax_by_definition,
    ulp,
    ulps_off,
    unchanged,
)
from mpmath import mpf

pytestmark = pytest.mark.once


def test_exact_values():
    row = exact_row(np.log([1.0, 2.0, 4.0]))
    assert ulps_off(float(row.p[0]), mpf(1) / 7, mpf(1) / 7, np.float64) < 2


def test_units_in_the_last_place():
    assert ulp(1, np.float32) == mpf(2) ** -23
    assert ulp(1.5, np.float64) == mpf(2) ** -52
    assert ulp(0, np.float64) == mpf(2) ** -1074


def test_a_number_beyond_what_is_allowed():
    two_off = np.float32(1 + 2.0**-22)
    assert_within_ulps(two_off, [mpf(1)], [2])
    with pytest.raises(AssertionError, match=r"2\.00 ulp from 1\.0; allowed 1\.90"):
        assert_within_ulps(two_off, [mpf(1)], [1.9])


@pytest.mark.parametrize(
    "other",
    [np.array([0.0, 2.0]), np.array([-0.0, 1.0]), np.array([0.0, 1.0], np.float32), np.array([[0.0, 1.0]])],
    ids=["value", "sign of zero", "dtype", "shape"],
)
def test_other_bits(other):
    with pytest.raises(AssertionError, match="result"):
        assert_same_bits(other, np.array([0.0, 1.0]))


def test_an_input_that_changes():
    x = np.zeros(3)
    with pytest.raises(AssertionError, match=r"an input: other bits in 1 of 3, the first .*1\.0"), unchanged(x):
        x[1] = 1


def test_derivatives_of_a_product():
    x = np.array([[1.0, 2.0], [3.0, 4.0]])
    by_each_number = central_differences(lambda a: a[:, 0] * a[:, 1], x)
    np.testing.assert_allclose(by_each_number, [[[2, 0], [1, 0]], [[0, 4], [0, 3]]], rtol=1e-9, atol=1e-9)


def test_softmax_by_definition():
    x, mask = np.log([[1.0, 3.0], [1.0, 3.0], [1.0, 3.0]]), np.array([[True, True], [True, False], [False, False]])
    p, log_p, lse = softmax_by_definition(x, 1, mask)
    np.testing.assert_allclose(p, [[0.25, 0.75], [1, 0], [0, 0]])
    np.testing.assert_allclose(log_p, [[np.log(0.25), np.log(0.75)], [0, -np.inf], [-np.inf, -np.inf]])
    np.testing.assert_allclose(lse, [[np.log(4)], [0], [-np.inf]])


def test_loss_by_definition():
    """Of probabilities 1/4 and 3/4: -log p, p - y and p (1 - p)."""
    x = np.log([[1.0, 3.0], [1.0, 3.0]])
    loss, grad, lse, hess = loss_by_definition(x, [0, 1], sample_weight=[1, 3], reduction="sum")
    np.testing.assert_allclose(loss, np.log(4) + 3 * np.log(4 / 3))
    np.testing.assert_allclose(grad, [[-0.75, 0.75], [0.75, -0.75]])
    np.testing.assert_allclose(lse, np.log([4, 4]))
    np.testing.assert_allclose(hess, [[3 / 16, 3 / 16], [9 / 16, 9 / 16]])
