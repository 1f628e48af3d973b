"""CatBoost with our objectives and metrics: the trees and the rounds of its own."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import cxent
from cxent.boosting import logistic_metric, logistic_objective, softmax_metric, softmax_objective

catboost = pytest.importorskip("catboost", reason="CatBoost is not installed: pip install '.[catboost]'")

pytestmark = [pytest.mark.once, pytest.mark.slow]

RNG = np.random.default_rng(0)
X = RNG.standard_normal((300, 6))
OF_THREE = (X[:, 0] > 0).astype(int) + (X[:, 1] + 0.5 * RNG.standard_normal(300) > 0.5)
OF_TWO = (OF_THREE > 1).astype(int)
WEIGHT = RNG.uniform(0.5, 2, 300)
SETTINGS = {"depth": 3, "learning_rate": 0.7, "verbose": False, "allow_writing_files": False, "thread_count": 1}
# With an objective of one's own, CatBoost never halves its steps, and takes one step a leaf and another way of bagging.
ALIKE = {"leaf_estimation_backtracking": "No", "leaf_estimation_iterations": 1, "bootstrap_type": "Bayesian"}

CASES = {
    2: (OF_TWO, {"loss_function": "Logloss"}, logistic_objective, logistic_metric, {}),
    3: (OF_THREE, {"loss_function": "MultiClass"}, softmax_objective, softmax_metric, {"classes_count": 3}),
}


def scores_of(model):
    """Scores, of which any constant of a row is taken away."""
    scores = model.predict(X, prediction_type="RawFormulaVal")
    return scores if scores.ndim == 1 else scores - scores.mean(axis=1, keepdims=True)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("classes", CASES)
@pytest.mark.parametrize("settings", [{}, {"leaf_estimation_method": "Gradient"}, {"bootstrap_type": "MVS"}], ids=str)
def test_the_same_trees_and_the_same_round(classes, weighted, settings):
    labels, own, objective, metric, more = CASES[classes]
    settings = {**SETTINGS, **ALIKE, **more, **settings, "iterations": 40}
    train, held_out = (
        catboost.Pool(X[rows], labels[rows], weight=WEIGHT[rows] if weighted else None)
        for rows in (slice(0, 200), slice(200, 300))
    )
    ours = {"loss_function": objective("catboost"), "eval_metric": metric("catboost")}
    a, b = (
        catboost.CatBoost({**settings, **chosen}).fit(train, eval_set=held_out, early_stopping_rounds=3)
        for chosen in (own, ours)
    )
    assert a.best_iteration_ == b.best_iteration_
    assert a.tree_count_ == b.tree_count_ <= 40
    assert_allclose(scores_of(b), scores_of(a), atol=1e-9)
    (best,) = a.best_score_["validation"].values()
    assert_allclose(list(b.best_score_["validation"].values()), best, rtol=1e-9)
    loss = metric("exact")(labels[200:], b.predict(held_out), WEIGHT[200:] if weighted else None)
    assert_allclose(loss, best, rtol=1e-6)


@pytest.mark.parametrize("classes", CASES)
def test_focal_losses_fall(classes):
    labels, _, objective, metric, more = CASES[classes]
    settings = {**SETTINGS, **more, "iterations": 20, "eval_metric": metric("catboost")}
    model = catboost.CatBoost({**settings, "loss_function": objective("catboost", focal_gamma=2)}).fit(X, labels)
    loss = cxent.binary_cross_entropy if classes == 2 else cxent.cross_entropy
    losses = [
        loss(model.predict(X, prediction_type="RawFormulaVal", ntree_end=trees), labels, focal_gamma=2)
        for trees in (1, 5, 20)
    ]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.3 * losses[0]


@pytest.mark.parametrize("classes", CASES)
def test_the_classifier_has_probabilities(classes):
    labels, _, objective, metric, more = CASES[classes]
    settings = {**SETTINGS, **more, "iterations": 3, "eval_metric": metric("catboost")}
    model = catboost.CatBoostClassifier(loss_function=objective("catboost"), **settings).fit(X, labels)
    scores = model.predict(X, prediction_type="RawFormulaVal")
    probs = model.predict_proba(X)
    assert_allclose(probs if classes == 3 else probs[:, 1], (cxent.softmax if classes == 3 else cxent.sigmoid)(scores))
    assert_array_equal(
        catboost.CatBoost({**settings, "loss_function": objective("catboost")}).fit(X, labels).predict(X), scores
    )
