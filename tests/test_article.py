"""The article "Softmax and Cross-entropy", equation by equation.

The article writes E for the loss, y for the label, ŷ = softmax(logits) for the prediction.
"""

import numpy as np
import pytest
from numpy.testing import assert_allclose

import cxent


@pytest.fixture
def logits():
    return 2 * np.random.default_rng(0).standard_normal((6, 5))


@pytest.fixture
def one_hot():
    return np.eye(5)[[0, 3, 2, 4, 1, 0]]


def test_loss_of_one_row_at_a_time(logits, one_hot):
    """E = -y log(ŷ), as in the article's ``loss(pred, labels)``: one number a row."""
    pred = cxent.softmax(logits)
    article = np.multiply(one_hot, -np.log(pred)).sum(1)
    rows = cxent.cross_entropy_from_probs(pred, one_hot, reduction="none")
    assert_allclose(rows, article, rtol=1e-14)
    for row, p, y in zip(rows, pred, one_hot, strict=True):
        assert cxent.cross_entropy_from_probs(p, y) == row
    assert_allclose(cxent.cross_entropy(logits, one_hot, reduction="none"), article, rtol=1e-13)


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
    jacobian = cxent.softmax_jacobian(cxent.softmax(logits))
    h = 1e-6
    for j in range(5):
        step = h * np.eye(5)[j]
        difference = (cxent.softmax(logits + step) - cxent.softmax(logits - step)) / (2 * h)
        assert_allclose(jacobian[:, :, j], difference, atol=1e-9)


def test_eq_2_the_chain_rule_equals_eq_3_the_fused_gradient(logits, one_hot):
    """∂E/∂logits = -(y/ŷ) ∂ŷ/∂logits = ŷ - y."""
    p = cxent.softmax(logits)
    _, minus_y_over_p = cxent.cross_entropy_from_probs_with_grad(p, one_hot, reduction="none")
    assert_allclose(minus_y_over_p, -one_hot / p, rtol=1e-14)
    eq_2 = np.einsum("ni,nij->nj", minus_y_over_p, cxent.softmax_jacobian(p))
    _, eq_3 = cxent.cross_entropy_with_grad(logits, one_hot, reduction="none")
    assert_allclose(eq_2, eq_3, atol=1e-14)
    assert_allclose(eq_3, p - one_hot, atol=1e-14)
    assert_allclose(cxent.softmax_backward(minus_y_over_p, p), eq_3, atol=1e-14)
    _, by_index = cxent.cross_entropy_with_grad(logits, one_hot.argmax(1), reduction="none")
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
    h = 1e-6
    for place in np.ndindex(logits.shape):
        step = np.zeros_like(logits)
        step[place] = h
        above, below = (cxent.cross_entropy(logits + s, y, reduction="sum") for s in (step, -step))
        assert grad[place] == pytest.approx((above - below) / (2 * h), abs=1e-7)


def test_the_loss_is_convex_in_the_logits(one_hot):
    """The reason the article gives for the log beside the exp."""
    rng = np.random.default_rng(2)
    for _ in range(50):
        a, b = 5 * rng.standard_normal((2, 6, 5))
        t = rng.random()
        between = cxent.cross_entropy(t * a + (1 - t) * b, one_hot, reduction="none")
        chord = t * cxent.cross_entropy(a, one_hot, reduction="none") + (1 - t) * cxent.cross_entropy(
            b, one_hot, reduction="none"
        )
        assert (between <= chord + 1e-12).all()
    # its Hessian, the Jacobian of eq. 1, has no negative eigenvalue
    assert np.linalg.eigvalsh(cxent.softmax_jacobian(cxent.softmax(a))).min() > -1e-15


def test_two_classes_are_logistic_regression():
    """Softmax over [0, z] is the sigmoid of z, and its cross-entropy the logistic loss."""
    z = np.linspace(-30, 30, 61)
    logits = np.stack([np.zeros_like(z), z], axis=1)
    assert_allclose(cxent.softmax(logits)[:, 1], 1 / (1 + np.exp(-z)), rtol=1e-14)
    for y in (0, 1):
        labels = np.full(len(z), y)
        loss, grad = cxent.cross_entropy_with_grad(logits, labels, reduction="none")
        logistic = np.logaddexp(0, -z if y else z)
        assert_allclose(loss, logistic, rtol=1e-13)
        assert_allclose(grad[:, 1], 1 / (1 + np.exp(-z)) - y, atol=1e-15)
