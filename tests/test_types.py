"""What type checkers know of results: `mypy` and `pyright` check this file, and a test run that it is so."""

from __future__ import annotations

from typing import Any, assert_type

import numpy as np
import pytest
from numpy.typing import NDArray

import cxent
from cxent import sharded
from cxent._types import Config, Reduction

Array = NDArray[Any]
Scalar = np.floating[Any]

X = np.array([[2.0, 1.0, 0.0], [0.0, 0.0, 4.0]])
P = cxent.softmax(X)
Y = [0, 2]


def test_softmax_functions() -> None:
    assert_type(cxent.softmax(X), Array)
    assert_type(cxent.log_softmax(X, (0, 1), workers=np.int64(1)), Array)
    assert_type(cxent.softmax_backward(X, P, workers=2), Array)
    assert_type(cxent.softmax_jacobian(P, 0), Array)
    assert_type(cxent.logsumexp(X), Any)
    lse_and_sign = cxent.logsumexp(X, b=2.0, return_sign=True)
    assert_type(lse_and_sign, tuple[Any, Any])
    assert len(lse_and_sign) == 2


def test_scores() -> None:
    scores = cxent.token_logprobs(X, Y, top_k=np.int64(1))
    assert_type(scores, cxent.TokenLogprobs)
    assert_type(scores.logprob, Any)
    assert scores.top_ids is not None
    assert_type(scores.top_ids, Array)
    nll, tokens, value = cxent.perplexity(X, Y, temperature=2)
    assert_type((nll, tokens, value), tuple[float, float, float])
    assert type(tokens) is int


def test_comparisons() -> None:
    found = cxent.compare_logits(X, P, Y, quantiles=[0.5], chunk_bytes=np.int64(100), progress=lambda done, total: None)
    assert_type(found, cxent.Comparison)
    assert_type(found.kl_mean, cxent.Estimate)
    assert_type(found.log_ratio, cxent.Estimate | None)
    assert_type(found.prob_change_quantiles, Array | None)
    assert type(found.kl_mean.value) is float and type(found.tokens) is int


def test_calibration() -> None:
    fit = cxent.fit_temperature(X, Y, bounds=(1, 2.5))
    assert_type(fit, cxent.TemperatureFit)
    assert_type((fit.temperature, fit.converged), tuple[float, bool])
    found = cxent.reliability(X, Y, bins=3, temperature=fit.temperature)
    assert_type(found.confidence, Array)
    assert_type(found.count, Array)
    assert_type(found.ece, float)
    assert_type(cxent.binary_reliability(X, X > 0), cxent.Reliability)
    assert found.count.sum() == len(Y)


def test_divergences() -> None:
    loss = cxent.kl_divergence(X, X, direction="reverse", temperature=2, where=[True, True, False])
    assert_type(loss, Scalar)
    assert_type(cxent.kl_divergence(X, X, reduction="none"), Any)
    assert_type(cxent.kl_divergence_with_grad(X, X, sample_weight=[1, 2]), tuple[Scalar, Array])
    assert_type(cxent.js_divergence(X, X, reduction="sum", beta=np.float32(0.3)), Scalar)
    assert_type(cxent.js_divergence_with_grad(X, X, reduction="none", out=X.copy()), tuple[Any, Array])
    assert loss == 0


def test_parts() -> None:
    left = sharded.part(X[:, :2], Y, top_k=np.int64(1))
    whole = sharded.merge(left, sharded.part(X[:, 2:], Y, first_class=2, top_k=1))
    assert_type(whole, sharded.Part)
    assert_type(whole.top_ids, Array | None)
    assert_type(sharded.loss(whole), Scalar)
    assert_type(sharded.loss(whole, reduction="none"), Any)
    assert_type(sharded.logsumexp(whole), Any)
    assert_type(sharded.softmax(X[:, :2], whole), Array)
    assert_type(sharded.grad(X[:, :2], whole, Y, sample_weight=[1, 2]), Array)
    assert isinstance(sharded.loss(whole), np.floating)


def test_linear_layers() -> None:
    loss = cxent.linear_cross_entropy(X, X, [0, 1], class_weight=[1, 2], progress=lambda done, total: None)
    assert_type(loss, Scalar)
    assert_type(cxent.linear_cross_entropy(X, X, [0, 1], reduction="none"), Any)
    assert_type(cxent.linear_cross_entropy(X, X, [0, 1], return_lse=True), tuple[Scalar, Any])
    with_grad = cxent.linear_cross_entropy_with_grad(X, X, [0, 1], bias=[0, 1], chunk_bytes=np.int64(100))
    assert_type(with_grad, tuple[Scalar, cxent.LinearGradients])
    assert_type(with_grad[1].bias, Array | None)
    with_lse = cxent.linear_cross_entropy_with_grad(X, X, [0, 1], reduction="none", return_lse=True)
    assert_type(with_lse, tuple[Any, cxent.LinearGradients, Any])
    assert_type(cxent.linear_token_logprobs(X, X, [0, 1], progress=False), cxent.TokenLogprobs)
    assert loss > 0


def test_losses() -> None:
    loss = cxent.cross_entropy(X, Y)
    assert_type(loss, Scalar)
    assert isinstance(loss, np.floating)
    assert_type(
        cxent.cross_entropy(X, Y, reduction="sum", axis=np.int64(1), weight=[1, 2, 3], softcap=np.float32(5)), Scalar
    )
    assert_type(cxent.cross_entropy(X, Y, reduction="none"), Any)
    with_lse = cxent.cross_entropy(X, Y, return_lse=True, label_smoothing=0)
    assert_type(with_lse, tuple[Scalar, Any])
    assert isinstance(with_lse[0], np.floating)
    assert_type(cxent.cross_entropy(X, Y, reduction="none", return_lse=True), tuple[Any, Any])


def test_losses_with_derivatives() -> None:
    with_grad = cxent.cross_entropy_with_grad(X, Y, out=X.copy(), z_loss=1e-4)
    assert_type(with_grad, tuple[Scalar, Array])
    assert len(with_grad) == 2
    assert_type(cxent.cross_entropy_with_grad(X, Y, reduction="none"), tuple[Any, Array])
    with_lse = cxent.cross_entropy_with_grad(X, Y, reduction="sum", return_lse=True)
    assert_type(with_lse, tuple[Scalar, Array, Any])
    assert len(with_lse) == 3
    assert_type(cxent.cross_entropy_with_grad(X, Y, reduction="none", return_lse=True), tuple[Any, Array, Any])
    with_hess = cxent.cross_entropy_with_hess(X, Y, temperature=2)
    assert_type(with_hess, tuple[Scalar, Array, Array])
    assert len(with_hess) == 3
    assert_type(cxent.cross_entropy_with_hess(X, Y, reduction="none"), tuple[Any, Array, Array])
    assert_type(cxent.cross_entropy_hvp(X, Y, X), Array)


def test_losses_of_probabilities() -> None:
    assert_type(cxent.cross_entropy_from_probs(P, Y, sample_weight=2.0, workers=-1), Scalar)
    assert_type(cxent.cross_entropy_from_probs(P, Y, reduction="none", ignore_index=-1), Any)
    assert_type(cxent.cross_entropy_from_probs_with_grad(P, Y, out=P.copy()), tuple[Scalar, Array])
    assert_type(cxent.cross_entropy_from_probs_with_grad(P, Y, reduction="none"), tuple[Any, Array])


@pytest.mark.parametrize("return_lse", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_options_known_at_run_time_alone(return_lse: bool, reduction: Reduction) -> None:
    found = cxent.cross_entropy_with_grad(X, Y, reduction=reduction, return_lse=return_lse)
    assert_type(found, tuple[Any, ...])
    assert len(found) == 2 + return_lse
    assert_type(cxent.cross_entropy(X, Y, reduction=reduction, return_lse=return_lse), Any)
    assert_type(cxent.logsumexp(X, return_sign=return_lse), Any)


def test_everything_else() -> None:
    assert_type(cxent.show_config("dicts"), Config)
    objective = cxent.boosting.softmax_objective("exact", class_weight=[1, 2, 3], focal_gamma=np.float32(2))
    assert_type(objective(Y, X), tuple[Array, Array])
    assert_type(cxent.boosting.logistic_objective("xgboost-abs", pos_weight=2)([1, 0], P[:, 0]), tuple[Array, Array])
    assert_type(cxent.boosting.softmax_metric("catboost").evaluate(list(X.T), Y, None), tuple[float, float])
