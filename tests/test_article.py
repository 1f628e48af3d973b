"""The article "Softmax and Cross-entropy", equation by equation.

The article writes E for the loss, y for the label, ŷ = softmax(logits) for the prediction.
"""

import numpy as np
import pytest
from helpers import central_differences, one_hot
from numpy.testing import assert_allclose

import cxent


@pytest.fixture
def logits():
    return 2 * np.random.default_rng(0).standard_normal((6, 5))


@pytest.fixture
def labels():
    return one_hot([0, 3, 2, 4, 1, 0], 5)


def test_loss_of_one_row_at_a_time(logits, labels):
    """E = -y log(ŷ), as in the article's ``loss(pred, labels)``: one number a row."""
    pred = cxent.softmax(logits)
    article = np.multiply(labels, -np.log(pred)).sum(1)
    rows = cxent.cross_entropy_from_probs(pred, labels, reduction="none")
    assert_allclose(rows, article, rtol=1e-14)
    for row, p, y in zip(rows, pred, labels, strict=True):
        assert cxent.cross_entropy_from_probs(p, y) == row
    assert_allclose(cxent.cross_entropy(logits, labels, reduction="none"), article, rtol=1e-13)


def test_cost_is_low_near_the_truth_and_high_far_from_it():
    near, far = [0.05, 0.9, 0.05], [0.8, 0.1, 0.1]
    assert cxent.cross_entropy_from_probs(near, 1) == pytest.approx(0.1053605)
    assert cxent.cross_entropy_from_probs(far, 1) == pytest.approx(2.3025851)
    # ever lower the more the logit of the truth stands out, ever higher the more another does
    gaps = np.linspace(-40, 40, 81)
    losses = cxent.cross_entropy(np.stack([gaps, np.zeros_like(gaps)], axis=1), np.zeros(81, int), reduction="none")
    assert (np.diff(losses) < 0).all()
    assert losses[0] == pytest.approx(40)
    assert 0 < losses[-1] < 1e-17


def test_eq_1_the_jacobian_of_the_softmax(logits):
    """∂ŷ_i/∂logits_j = ŷ_i (1 - ŷ_j) if i = j, and -ŷ_j ŷ_i if not."""
    p = cxent.softmax(logits)
    jacobian = cxent.softmax_jacobian(p)
    for row in range(len(p)):
        for i in range(5):
            for j in range(5):
                branch = p[row, i] * (1 - p[row, j]) if i == j else -p[row, j] * p[row, i]
                assert jacobian[row, i, j] == pytest.approx(branch, rel=1e-14)


def test_eq_1_is_the_derivative(logits):
    for row in logits:
        jacobian = cxent.softmax_jacobian(cxent.softmax(row))
        assert_allclose(jacobian, central_differences(cxent.softmax, row).T, atol=1e-9)


def test_eq_2_the_chain_rule_equals_eq_3_the_fused_gradient(logits, labels):
    """∂E/∂logits = -(y/ŷ) ∂ŷ/∂logits = ŷ - y."""
    p = cxent.softmax(logits)
    _, minus_y_over_p = cxent.cross_entropy_from_probs_with_grad(p, labels, reduction="none")
    assert_allclose(minus_y_over_p, -labels / p, rtol=1e-14)
    eq_2 = np.einsum("ni,nij->nj", minus_y_over_p, cxent.softmax_jacobian(p))
    _, eq_3 = cxent.cross_entropy_with_grad(logits, labels, reduction="none")
    assert_allclose(eq_2, eq_3, atol=1e-14)
    assert_allclose(eq_3, p - labels, atol=1e-14)
    assert_allclose(cxent.softmax_backward(minus_y_over_p, p), eq_3, atol=1e-14)
    _, by_index = cxent.cross_entropy_with_grad(logits, labels.argmax(1), reduction="none")
    assert_allclose(by_index, eq_3, rtol=1e-14)


def test_eq_3_in_general_for_labels_that_do_not_sum_to_one(logits):
    """The article lets y + sum(y_t) be 1; where it is Q, the gradient is Q ŷ - y."""
    y = np.random.default_rng(1).random(logits.shape) * 3
    total = y.sum(axis=1, keepdims=True)
    p = cxent.softmax(logits)
    _, grad = cxent.cross_entropy_with_grad(logits, y, reduction="sum")
    assert_allclose(grad, total * p - y, atol=1e-13)
    assert np.abs(grad - (p - y)).max() > 0.1
    chain = np.einsum("ni,nij->nj", -y / p, cxent.softmax_jacobian(p))
    assert_allclose(grad, chain, atol=1e-13)
    differences = central_differences(lambda x: cxent.cross_entropy(x, y, reduction="sum"), logits)
    assert_allclose(grad, differences, rtol=0, atol=1e-7)


def test_the_loss_is_convex_in_the_logits(labels):
    """The reason the article gives for the log beside the exp."""
    rng = np.random.default_rng(2)
    for _ in range(50):
        a, b = 5 * rng.standard_normal((2, 6, 5))
        t = rng.random()
        at_a, at_b, between = (cxent.cross_entropy(x, labels, reduction="none") for x in (a, b, t * a + (1 - t) * b))
        assert (between <= t * at_a + (1 - t) * at_b + 1e-12).all()
    # its Hessian, the Jacobian of eq. 1, has no negative eigenvalue
    assert np.linalg.eigvalsh(cxent.softmax_jacobian(cxent.softmax(a))).min() > -1e-15


@pytest.mark.parametrize("y", [0, 1])
def test_two_classes_are_logistic_regression(y):
    """Softmax over [0, z] is the sigmoid of z, and its cross-entropy the logistic loss."""
    z = np.linspace(-30, 30, 61)
    logits = np.stack([np.zeros_like(z), z], axis=1)
    sigmoid = 1 / (1 + np.exp(-z))
    assert_allclose(cxent.softmax(logits)[:, 1], sigmoid, rtol=1e-14)
    loss, grad = cxent.cross_entropy_with_grad(logits, np.full(len(z), y), reduction="none")
    assert_allclose(loss, np.logaddexp(0, -z if y else z), rtol=1e-13)
    assert_allclose(grad[:, 1], sigmoid - y, atol=1e-15)
