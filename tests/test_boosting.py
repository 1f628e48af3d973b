"""Objectives and metrics of boosting: they grow the trees of the libraries' own, and stop in the same round."""

import copy
import pickle
import warnings

import numpy as np
import pytest
from helpers import central_differences, loss_by_definition
from numpy.testing import assert_allclose, assert_array_equal

import cxent
from cxent.boosting import logistic_metric, logistic_objective, softmax_metric, softmax_objective

FACTORS = {"xgboost": 2, "lightgbm": 5 / 4, "exact": 1}


class Dataset:
    def __init__(self, label, weight=None):
        self.get_label = lambda: label
        self.get_weight = lambda: weight


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((600, 8))
    y = (x[:, 0] > 0).astype(int) + (x[:, 1] + 0.3 * rng.standard_normal(600) > 0.5)
    return x, y, rng.uniform(0.5, 2, 600)


@pytest.fixture(scope="module")
def two_classes(data):
    x, y, weight = data
    return x, (y > 1).astype(int), weight


@pytest.mark.parametrize("convention", FACTORS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("form", ["C", "F", "flat"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gradients_and_hessians_in_every_memory_layout(convention, weighted, form, dtype):
    rng = np.random.default_rng(0)
    scores = rng.standard_normal((50, 5)).astype(dtype)
    labels = rng.integers(0, 5, 50)
    weight = rng.random(50).astype(np.float32) if weighted else None
    given = scores.ravel(order="F") if form == "flat" else np.asarray(scores, order=form)
    grad, hess = softmax_objective(convention)(given, Dataset(labels.astype(np.float32), weight))
    _, expected_grad, _, expected_hess = loss_by_definition(scores, labels, sample_weight=weight, reduction="sum")
    expected_hess = FACTORS[convention] * expected_hess
    if form == "flat":
        expected_grad, expected_hess = (a.ravel(order="F") for a in (expected_grad, expected_hess))
    else:
        assert grad.flags[f"{form}_CONTIGUOUS"] and hess.flags[f"{form}_CONTIGUOUS"]
    assert grad.dtype == hess.dtype == dtype
    assert_allclose(grad, expected_grad, rtol=1e-5)
    assert_allclose(hess, expected_hess, rtol=1e-5)


def test_the_least_hessian_of_xgboost():
    _, hess = softmax_objective("xgboost")(np.float32([[200, 0]]), Dataset(np.float32([0]), np.float32([])))
    assert (hess == np.float32(1e-16)).all()


def test_bad_input():
    with pytest.raises(ValueError, match=r"^convention must .*got 'sklearn'"):
        softmax_objective("sklearn")
    with pytest.raises(ValueError, match=r"^labels must .*got 0.5"):
        softmax_objective("exact")(np.zeros((2, 2)), Dataset(np.float32([0.5, 1])))
    with pytest.raises(ValueError, match=r"^labels must .*got nan"):
        softmax_objective("exact")(np.zeros((2, 2)), Dataset(np.float32([np.nan, 1])))
    with pytest.raises(IndexError, match=r"^target\[1\] must .*got 2 \(num_class is 2\)$"):
        softmax_objective("exact")(np.zeros((2, 2)), Dataset(np.float32([0, 2])))
    for labels in (np.float32([]), np.float32([0, 1])):
        with pytest.raises(ValueError, match=rf"^scores must .*{len(labels)} labels.*got \(7,\)"):
            softmax_objective("exact")(np.zeros(7), Dataset(labels))
    with pytest.raises(ValueError, match=r"^workers must be positive"):
        softmax_objective("exact", workers=0)


def test_bad_options():
    with pytest.raises(ValueError, match=r"focal_gamma=2\.0 and label_smoothing=0\.1"):
        softmax_objective("exact", focal_gamma=2, label_smoothing=0.1)
    with pytest.raises(ValueError, match=r"^label_smoothing must .*got 2"):
        softmax_objective("exact", label_smoothing=2)
    for wrong, message in (
        ([1, -1], r"class_weight must be non-negative, got -1\.0"),
        ([1, np.nan], r"class_weight must be finite .*got nan"),
        ([[1, 2]], r"class_weight must be one-dimensional, got shape \(1, 2\)"),
        (2.0, r"class_weight must be one-dimensional, got shape \(\)"),
    ):
        with pytest.raises(ValueError, match=f"^{message}"):
            softmax_objective("exact", class_weight=wrong)
    with pytest.raises(TypeError, match=r"^class_weight must "):
        softmax_objective("exact", class_weight=["1", "2"])
    with pytest.raises(ValueError, match=r"^class_weight must have shape \(3,\), got \(2,\)"):
        softmax_objective("exact", class_weight=[1, 2])(np.zeros((2, 3)), Dataset([0, 1]))
    with pytest.raises(IndexError, match=r"got 3 \(classes_count is 3\)$"):
        softmax_objective("catboost").calc_ders_multi(np.zeros(3), 3.0, 1.0)


def test_the_convention_is_required():
    with pytest.raises(TypeError, match="convention"):
        softmax_objective()
    for convention in (None, 1, np.array(["xgboost", "exact"])):
        with pytest.raises(ValueError, match=r"^convention must .*got .*"):
            softmax_objective(convention)


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (0.0, ValueError, r"^labels must .*\(\)"),
        (np.zeros((2, 1)), ValueError, r"^labels must .*\(2, 1\)"),
        ([0j, 1j], TypeError, r"^labels must .*got complex128"),
        (["0", "1"], TypeError, r"^labels must .*got <U1"),
        ([0, None], TypeError, r"^labels must have a numeric dtype, got object"),
        ([True, False], TypeError, r"^labels must .*got bool"),
        ([0, 10**30], TypeError, r"^labels must have a numeric dtype, got object"),
        ([0, 1e300], ValueError, r"^labels must .*got 1e\+300"),
        ([0, np.inf], ValueError, r"^labels must .*got inf"),
        (np.array([0, 2**64 - 1], np.uint64), ValueError, r"^labels must .*got 18446744073709551615"),
        ([[0], [1, 2]], ValueError, r"^labels cannot be converted to an array, got list"),
    ],
)
def test_bad_labels(labels, error, message):
    with pytest.raises(error, match=message):
        softmax_objective("exact")(np.zeros((2, 3)), Dataset(labels))
    with pytest.raises(error, match=message):
        softmax_objective("exact")(labels, np.zeros((2, 3)))


@pytest.mark.parametrize(
    ("scores", "error", "message"),
    [
        (0.0, ValueError, r"^scores must .*2 labels.*got \(\)"),
        (np.zeros((3, 2)), ValueError, r"^scores must .*got \(3, 2\)"),
        (np.zeros((1, 2, 3)), ValueError, r"^scores must .*got \(1, 2, 3\)"),
        (np.zeros((2, 3), complex), TypeError, r"^scores must .*got complex128"),
        ([["0", "1"]] * 2, TypeError, r"^scores must .*got <U1"),
        ([[0.0], [1.0, 2.0]], ValueError, r"^scores cannot be converted to an array, got list"),
    ],
)
def test_bad_scores(scores, error, message):
    with pytest.raises(error, match=message):
        softmax_objective("exact")(scores, Dataset([0, 1]))


def test_bad_weights():
    with pytest.raises(ValueError, match=r"^sample_weight cannot be converted to an array, got list"):
        softmax_objective("exact")(np.zeros((2, 3)), Dataset([0, 1], [[1], [1, 2]]))
    with pytest.raises(TypeError, match=r"^sample_weight must .*got <U1"):
        softmax_objective("exact")(np.zeros((2, 3)), Dataset([0, 1], ["1", "2"]))


def test_lists():
    scores, labels = [[1.0, 2.0, 3.0], [0.0, 0.0, 1.0]], [0, 2]
    expected = softmax_objective("exact")(np.array(scores), Dataset(np.array(labels)))
    for found in (softmax_objective("exact")(scores, Dataset(labels)), softmax_objective("exact")(labels, scores)):
        assert_array_equal(found, expected)


def test_can_be_pickled():
    objective = softmax_objective("xgboost", workers=2)
    assert pickle.loads(pickle.dumps(objective)) == objective
    assert repr(objective).startswith("_SoftmaxObjective(convention='xgboost', class_weight=None, ")
    objective = softmax_objective("catboost", class_weight=np.float32([1, 2]), focal_gamma=2)
    assert (
        pickle.loads(pickle.dumps(objective)) == copy.deepcopy(objective) == objective != softmax_objective("catboost")
    )
    assert hash(objective) == hash(copy.deepcopy(objective))


@pytest.mark.parametrize("weighted", [False, True])
def test_xgboost_with_the_interface_of_scikit_learn(data, weighted):
    import xgboost

    x, y, weight = data
    weight = weight if weighted else None
    objective = softmax_objective("xgboost")
    settings = {"max_depth": 3, "base_score": 0.5, "n_jobs": 1}
    model = xgboost.XGBClassifier(n_estimators=5, objective=objective, **settings).fit(x, y, sample_weight=weight)
    matrix = xgboost.DMatrix(x, y, weight=weight)
    booster = xgboost.train({**settings, "num_class": 3}, matrix, 5, obj=objective)
    assert_array_equal(model.predict(x, output_margin=True), booster.predict(matrix, output_margin=True))


@pytest.mark.parametrize("weighted", [False, True])
def test_lightgbm_with_the_interface_of_scikit_learn(data, weighted):
    import lightgbm

    x, y, weight = data
    weight = weight if weighted else None
    settings = {"verbosity": -1, "num_threads": 1, "deterministic": True, "objective": softmax_objective("lightgbm")}
    model = lightgbm.LGBMClassifier(n_estimators=5, **settings).fit(x, y, sample_weight=weight)
    booster = lightgbm.train({**settings, "num_class": 3}, lightgbm.Dataset(x, y, weight=weight), 5)
    assert_array_equal(model.predict(x, raw_score=True), booster.predict(x, raw_score=True))


XGBOOST = {
    "plain": {},
    "dart": {"booster": "dart", "rate_drop": 0.3, "seed": 1},
    "bagging": {"subsample": 0.6, "colsample_bytree": 0.7, "seed": 1},
}


@pytest.mark.filterwarnings("ignore:.*booster=dart")  # (which XGBoost 3.4 infers, and 3.2 does not)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("way", XGBOOST)
def test_xgboost_grows_the_same_trees(data, two_classes, way, classes, weighted):
    import xgboost

    x, y, weight = data if classes == 3 else two_classes
    matrix = xgboost.DMatrix(x, y, weight=weight if weighted else None)
    settings = {"max_depth": 3, "disable_default_eval_metric": True, "nthread": 1, **XGBOOST[way]}
    if classes == 3:
        settings["num_class"], objective = 3, softmax_objective("xgboost")
        own = {"objective": "multi:softprob", "base_score": 0.0}
    else:
        objective, own = logistic_objective("xgboost"), {"objective": "binary:logistic", "base_score": 0.5}
    own = xgboost.train(settings | own, matrix, 10)
    ours = xgboost.train({**settings, "base_score": 0.0}, matrix, 10, obj=objective)
    assert splits_of_xgboost(ours) == splits_of_xgboost(own)
    assert_allclose(ours.predict(matrix, output_margin=True), own.predict(matrix, output_margin=True), atol=1e-4)


@pytest.mark.parametrize("classes", [2, 3])
def test_xgboost_grows_the_same_trees_with_weights_of_classes(data, two_classes, classes):
    import xgboost

    x, y, weight = data if classes == 3 else two_classes
    # (Other methods choose thresholds by the weights of the rows, of which those of classes are no part.)
    settings = {"max_depth": 3, "base_score": 0.0, "tree_method": "exact", "nthread": 1}
    if classes == 3:
        settings["num_class"], objective = 3, softmax_objective("xgboost", class_weight=[1, 4, 2])
        own = {"objective": "multi:softprob"}
        matrix = xgboost.DMatrix(x, y, weight=weight * np.array([1, 4, 2])[y])
    else:
        objective = logistic_objective("xgboost", pos_weight=4)
        own = {"objective": "binary:logistic", "base_score": 0.5, "scale_pos_weight": 4}
        matrix = xgboost.DMatrix(x, y, weight=weight)
    own = xgboost.train(settings | own, matrix, 10)
    ours = xgboost.train(settings, xgboost.DMatrix(x, y, weight=weight), 10, obj=objective)
    assert splits_of_xgboost(ours) == splits_of_xgboost(own)
    assert_allclose(ours.predict(matrix, output_margin=True), own.predict(matrix, output_margin=True), atol=1e-4)


def splits_of_xgboost(booster):
    lines = "\n".join(booster.get_dump()).splitlines()
    return [line.partition(" yes=")[0] if " yes=" in line else line.partition("=")[0] for line in lines]


LIGHTGBM = {
    "plain": {},
    "dart": {"boosting": "dart", "skip_drop": 1.0},
    "goss": {"data_sample_strategy": "goss", "learning_rate": 0.3},  # (it samples after 1 / learning_rate rounds)
    "bagging": {"bagging_fraction": 0.6, "bagging_freq": 1, "feature_fraction_bynode": 0.7},
}


def lightgbm_settings(classes):
    """Those of both, of the built-in objective, and our objective and metric."""
    settings = {"max_depth": 3, "boost_from_average": False, "verbosity": -1, "deterministic": True, "num_threads": 1}
    if classes == 2:
        return settings, {"objective": "binary", "metric": "binary_logloss"}, logistic_objective, logistic_metric
    settings["num_class"] = classes
    return settings, {"objective": "multiclass", "metric": "multi_logloss"}, softmax_objective, softmax_metric


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("way", LIGHTGBM)
def test_lightgbm_grows_the_same_trees(data, two_classes, way, classes, weighted):
    import lightgbm

    x, y, weight = data if classes == 3 else two_classes
    settings, own, objective, _ = lightgbm_settings(classes)

    def train(chosen):
        dataset = lightgbm.Dataset(x, y, weight=weight if weighted else None)
        return lightgbm.train({**settings, **LIGHTGBM[way], **chosen}, dataset, 10)

    own, ours = train(own), train({"objective": objective("lightgbm")})
    assert splits_of_lightgbm(ours) == splits_of_lightgbm(own)
    assert_allclose(ours.predict(x, raw_score=True), own.predict(x, raw_score=True), atol=1e-6)


@pytest.mark.parametrize("settings", [{"boosting": "dart", "skip_drop": 0.0}, {"feature_fraction": 0.5}], ids=str)
def test_lightgbm_draws_other_trees_and_features_with_any_objective_of_ones_own(data, settings):
    import lightgbm

    x, y, _ = data
    settings = {"boost_from_average": False, "verbosity": -1, "deterministic": True, "num_threads": 1, **settings}

    def squared_error(scores, dataset):
        return scores - dataset.get_label(), np.ones_like(scores)

    own, ours = (
        lightgbm.train({**settings, "objective": objective}, lightgbm.Dataset(x, y), 10).predict(x, raw_score=True)
        for objective in ("regression", squared_error)
    )
    assert np.abs(own - ours).max() > 1e-2


@pytest.mark.parametrize("classes", [2, 3])
def test_lightgbm_grows_the_same_trees_with_weights_of_classes(data, two_classes, classes):
    import lightgbm

    x, y, weight = data if classes == 3 else two_classes
    settings, own, objective, _ = lightgbm_settings(classes)
    of_classes = np.array([1, 4, 2])
    if classes == 2:
        own, ours = own | {"scale_pos_weight": 4}, objective("lightgbm", pos_weight=4)
        dataset = lightgbm.Dataset(x, y, weight=weight)
    else:
        ours = objective("lightgbm", class_weight=of_classes)
        dataset = lightgbm.Dataset(x, y, weight=weight * of_classes[y])
    own = lightgbm.train(settings | own, dataset, 10)
    ours = lightgbm.train({**settings, "objective": ours}, lightgbm.Dataset(x, y, weight=weight), 10)
    assert splits_of_lightgbm(ours) == splits_of_lightgbm(own)
    assert_allclose(ours.predict(x, raw_score=True), own.predict(x, raw_score=True), atol=1e-6)


def test_lightgbm_pins_a_class_without_rows_and_an_objective_cannot(two_classes):
    import lightgbm

    x, y, _ = two_classes
    settings, own, objective, _ = lightgbm_settings(3)
    own = lightgbm.train(settings | own, lightgbm.Dataset(x, y), 10).predict(x, raw_score=True)
    ours = lightgbm.train({**settings, "objective": objective("lightgbm")}, lightgbm.Dataset(x, y), 10)
    ours = ours.predict(x, raw_score=True)
    assert_allclose(own[:, 2], np.log(1e-15), rtol=1e-6)
    assert ours[:, 2].min() > -10
    assert np.abs(cxent.softmax(ours) - cxent.softmax(own)).max() > 1e-3


def splits_of_lightgbm(booster):
    def splits(node):
        if "split_feature" not in node:
            return []
        return [(node["split_feature"], node["threshold"]), splits(node["left_child"]), splits(node["right_child"])]

    return [splits(tree["tree_structure"]) for tree in booster.dump_model()["tree_info"]]


@pytest.mark.parametrize("convention", FACTORS)
@pytest.mark.parametrize("weighted", [False, True])
def test_two_classes(convention, weighted):
    scores, labels = np.linspace(-5, 5, 11), np.arange(11) % 2
    weight = np.arange(1.0, 12) if weighted else None
    w = (1 if weight is None else weight) * np.where(labels == 1, 3, 1)
    p = 1 / (1 + np.exp(-scores))
    objective = logistic_objective(convention, pos_weight=3)
    for grad, hess in (
        objective(scores, Dataset(labels.astype(np.float32), weight)),
        objective(labels, scores, weight),
        [a[:, 0] for a in objective(scores[:, np.newaxis], Dataset(labels, weight))],
    ):
        assert_allclose(grad, w * (p - labels), rtol=1e-12)
        assert_allclose(hess, w * p * (1 - p), rtol=1e-12)


LABELLED = np.repeat(np.arange(3), 40)
SCORED = np.random.default_rng(0).uniform(-6, 6, (120, 3))


@pytest.mark.parametrize("gamma", [0.5, 2, 30])
@pytest.mark.parametrize("classes", [2, 3])
def test_newton_steps_of_a_focal_loss_are_downhill_and_no_longer_than_those_of_the_plain_loss(classes, gamma):
    make = softmax_objective if classes == 3 else logistic_objective
    scores, labels = (SCORED, LABELLED) if classes == 3 else (SCORED[:, 0], LABELLED % 2)
    for convention, factor in (("xgboost", classes - 1), ("lightgbm", classes / 2), ("catboost", 1)):
        grad, exact = make("exact", focal_gamma=gamma)(labels, scores)
        plain_grad, plain_hess = make("exact")(labels, scores)
        found, hess = make(convention, focal_gamma=gamma)(labels, scores)
        hess /= factor
        assert_array_equal(found, grad)
        least = grad / plain_grad * plain_hess
        assert exact.min() < 0 < hess.min()
        assert (np.abs(grad / hess) <= np.abs(plain_grad / plain_hess) * (1 + 1e-9)).all()
        assert_allclose(hess, least + np.abs(exact - least), rtol=1e-9, atol=1e-15)  # (XGBoost's is 1e-16 at least)


@pytest.mark.parametrize("gamma", [1, 2, 5])
@pytest.mark.parametrize("library", ["xgboost", "lightgbm"])
def test_training_from_the_frequency_of_a_rare_class(library, gamma):
    """From there the rare rows are badly wrong: with a floor of 1e-16 scores reach hundreds."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2000, 6))
    y = (x[:, 0] + 0.5 * rng.standard_normal(2000) > 2.1).astype(int)
    start = float(np.log(y.mean() / (1 - y.mean())))
    objective = logistic_objective(library, focal_gamma=gamma)
    if library == "xgboost":
        import xgboost

        matrix = xgboost.DMatrix(x, y)
        booster = xgboost.train({"base_score": start, "nthread": 1}, matrix, 60, obj=objective)
        scores = booster.predict(matrix, output_margin=True)
    else:
        import lightgbm

        dataset = lightgbm.Dataset(x, y, init_score=np.full(2000, start))
        settings = {"objective": objective, "verbosity": -1, "num_threads": 1}
        scores = start + lightgbm.train(settings, dataset, 60).predict(x)
    before, after = (
        cxent.binary_cross_entropy(a, y, focal_gamma=gamma) for a in (np.full(2000, start), scores.astype(float))
    )
    assert after < 0.1 * before
    assert np.abs(scores).max() < 20


@pytest.mark.parametrize(
    "options", [{}, {"class_weight": [1, 0.5, 3]}, {"label_smoothing": 0.1}, {"focal_gamma": 2}], ids=str
)
def test_options_of_several_classes(options):
    of_loss = {"weight" if name == "class_weight" else name: value for name, value in options.items()}
    weight = np.linspace(0, 2, 120)
    _, grad, hess = cxent.cross_entropy_with_hess(SCORED, LABELLED, sample_weight=weight, reduction="sum", **of_loss)
    for convention, factor in (("exact", 1), ("catboost", 1), ("lightgbm", 1.5), ("xgboost", 2)):
        found = softmax_objective(convention, **options)(SCORED, Dataset(LABELLED.astype(np.float32), weight))
        assert_array_equal(found[0], grad)
        if convention == "exact" or "focal_gamma" not in options:
            assert_allclose(
                found[1], np.maximum(factor * hess, 1e-16 if convention == "xgboost" else -np.inf), rtol=1e-15
            )
    found = softmax_objective("xgboost-abs", **options)(SCORED, Dataset(LABELLED, weight))
    assert_array_equal(found, (grad, np.maximum(np.abs(grad), 1e-16)))


def test_with_two_classes_both_hessians_of_xgboost_are_one():
    for options in ({}, {"pos_weight": 2, "focal_gamma": 1}):
        found, expected = (
            logistic_objective(c, **options)(LABELLED % 2, SCORED[:, 0]) for c in ("xgboost-abs", "xgboost")
        )
        assert_array_equal(found, expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"class_weight": [1, 0.5, 3]},
        {"label_smoothing": 0.1},
        {"focal_gamma": 2},
        {"class_weight": [1, 2, 0], "focal_gamma": 1.5},
    ],
    ids=str,
)
def test_what_catboost_asks_of_an_objective_of_several_classes(options):
    exact = softmax_objective("exact", **options)
    for convention in ("exact", "catboost"):
        objective = softmax_objective(convention, **options)
        whole = objective(LABELLED, SCORED, np.full(120, 1.5))
        is_convex = []
        for k, (row, label, grad, diagonal) in enumerate(zip(SCORED, LABELLED, *whole, strict=True)):
            first, second = objective.calc_ders_multi(row, float(label), 1.5)  # one row, of floats
            assert_array_equal(-first, grad)
            assert_allclose(np.diag(-second), diagonal, rtol=1e-9, atol=1e-12)
            is_convex.append(np.linalg.eigvalsh(-second).min() > -1e-9)
            if k % 4 == 0 and (convention == "exact" or (is_convex[-1] and not exact.focal_gamma)):
                by_differences = central_differences(lambda x, y=label: exact([y], x[np.newaxis], [1.5])[0][0], row)
                assert_allclose(-second, by_differences, atol=1e-7)
        assert all(is_convex) == (convention == "catboost" or not exact.focal_gamma)


def test_what_catboost_asks_of_an_objective_of_two_classes_and_of_metrics():
    scores, labels, weight = SCORED[:, 0], LABELLED % 2, np.linspace(1, 2, 120)
    objective = logistic_objective("catboost", pos_weight=2)
    for given in (None, weight):
        found = objective.calc_ders_range(scores, labels.astype(np.float32), given)
        assert_array_equal(found, -np.transpose(objective(labels, scores, given)))
    for metric, approxes, target, loss in (
        (
            logistic_metric("catboost"),
            (scores,),
            labels,
            cxent.binary_cross_entropy(scores, labels, sample_weight=weight),
        ),
        (
            softmax_metric("catboost"),
            tuple(SCORED.T),
            LABELLED,
            cxent.cross_entropy(SCORED, LABELLED, sample_weight=weight),
        ),
    ):
        total, divisor = metric.evaluate(approxes, target.astype(np.float32), weight)
        assert_allclose((metric.get_final_error(total, divisor), divisor), (loss, weight.sum()), rtol=1e-12)
        assert metric.evaluate(approxes, target, None)[1] == 120
        assert metric.is_max_optimal() is False
        assert np.isnan(metric.get_final_error(0.0, 0.0))


def test_metrics_are_losses():
    rng = np.random.default_rng(0)
    scores, labels, weight = rng.standard_normal((9, 3)), rng.integers(0, 3, 9), rng.random(9)
    expected = float(cxent.cross_entropy(scores, labels, sample_weight=weight))
    dataset = Dataset(labels.astype(np.float32), weight)
    assert softmax_metric("xgboost")(scores, dataset) == ("cross_entropy", expected)
    assert softmax_metric("xgboost")(labels, scores, weight) == expected
    assert softmax_metric("lightgbm")(scores.ravel(order="F"), dataset) == ("cross_entropy", expected, False)
    assert softmax_metric("exact")(scores, Dataset(labels, np.float32([]))) == float(
        cxent.cross_entropy(scores, labels)
    )
    expected = float(cxent.binary_cross_entropy(scores[:, 0], labels > 0, sample_weight=weight))
    dataset = Dataset((labels > 0).astype(np.float32), weight)
    assert logistic_metric("xgboost")(scores[:, :1], dataset) == ("binary_cross_entropy", expected)
    assert logistic_metric("lightgbm")((labels > 0).astype(int), scores[:, 0], weight)[1:] == (expected, False)
    for made in (softmax_metric("exact"), logistic_metric("lightgbm", workers=2), logistic_objective("exact")):
        assert pickle.loads(pickle.dumps(made)) == made


def test_bad_input_of_two_classes():
    for make in (logistic_objective, logistic_metric, softmax_metric):
        with pytest.raises(ValueError, match=r"^convention must .*got 'sklearn'"):
            make("sklearn")
    for wrong in (-1, np.inf, np.nan):
        with pytest.raises(ValueError, match=r"^pos_weight must be a finite non-negative number, got"):
            logistic_objective("exact", pos_weight=wrong)
    with pytest.raises(TypeError, match=r"^pos_weight must be .* got \[1\]"):
        logistic_objective("exact", pos_weight=[1])
    for make in (logistic_objective, softmax_objective):
        for wrong in (-1, np.nan, 101):
            with pytest.raises(ValueError, match=r"^focal_gamma must be a number from 0 to 100, got"):
                make("exact", focal_gamma=wrong)
    with pytest.raises(ValueError, match=r"^scores must have shape \(2,\).*got \(2, 2\)"):
        logistic_objective("exact")(np.zeros((2, 2)), Dataset([0, 1]))
    with pytest.raises(ValueError, match=r"^target\[1\] must be 0 or 1, got 2"):
        logistic_objective("exact")(np.zeros(2), Dataset(np.float32([0, 2])))


@pytest.mark.parametrize("classes", [2, 3])
def test_xgboost_stops_in_the_same_round(data, two_classes, classes):
    import xgboost

    x, y, weight = two_classes if classes == 2 else data
    train, held_out = (
        xgboost.DMatrix(x[rows], y[rows], weight=weight[rows]) for rows in (slice(0, 400), slice(400, 600))
    )
    own = {"objective": "binary:logistic", "eval_metric": "logloss"}
    ours = {"objective": logistic_objective, "metric": logistic_metric}
    settings = {"max_depth": 4, "eta": 0.5, "base_score": 0.5, "nthread": 1}
    if classes == 3:
        own = {"objective": "multi:softprob", "eval_metric": "mlogloss", "num_class": 3}
        ours = {"objective": softmax_objective, "metric": softmax_metric}
        settings |= {"num_class": 3}
    stop = {"evals": [(held_out, "held_out")], "early_stopping_rounds": 5, "verbose_eval": False}
    a = xgboost.train(settings | own, train, 200, **stop)
    from_0 = {"disable_default_eval_metric": True, "base_score": 0.0}  # (a score; theirs is a probability)
    objective, metric = ours["objective"]("xgboost"), ours["metric"]("xgboost")
    b = xgboost.train(settings | from_0, train, 200, obj=objective, custom_metric=metric, **stop)
    assert a.best_iteration == b.best_iteration < 199
    assert_allclose(a.best_score, b.best_score, rtol=1e-4)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("way", ["plain", "goss", "bagging"])  # (in dart there is no early stopping)
def test_lightgbm_stops_in_the_same_round(data, two_classes, way, classes):
    import lightgbm

    x, y, weight = two_classes if classes == 2 else data
    settings, own, objective, metric = lightgbm_settings(classes)
    settings |= {"learning_rate": 0.5, "max_depth": 4} | LIGHTGBM[way]

    def train(chosen, **more):
        dataset = lightgbm.Dataset(x[:400], y[:400], weight=weight[:400])
        held_out = dataset.create_valid(x[400:], y[400:], weight=weight[400:])
        stop = lightgbm.early_stopping(5, verbose=False)
        return lightgbm.train(settings | chosen, dataset, 200, valid_sets=[held_out], callbacks=[stop], **more)

    a = train(own)
    b = train({"objective": objective("lightgbm"), "metric": "none"}, feval=metric("lightgbm"))
    assert a.best_iteration == b.best_iteration < 200
    assert_allclose(
        a.best_score["valid_0"][own["metric"]], b.best_score["valid_0"][metric("exact").__name__], rtol=1e-6
    )


@pytest.mark.parametrize("classes", [2, 3])
def test_probabilities_of_xgbclassifier_are_those_of_scores(data, two_classes, classes):
    import xgboost

    x, y, _ = two_classes if classes == 2 else data
    objective = (logistic_objective if classes == 2 else softmax_objective)("xgboost")
    settings = {"n_estimators": 5, "base_score": 0.5, "n_jobs": 1}  # with two classes a probability, for both
    own = xgboost.XGBClassifier(**settings).fit(x, y)
    ours = xgboost.XGBClassifier(objective=objective, **settings).fit(x, y)
    assert_allclose(ours.predict_proba(x), own.predict_proba(x), atol=1e-5)
    scores = ours.predict(x, output_margin=True)
    probs = cxent.sigmoid(scores) if classes == 2 else cxent.softmax(scores)
    assert_allclose(ours.predict_proba(x)[:, 1], probs if classes == 2 else probs[:, 1], atol=1e-6)


def test_lgbmclassifier_gives_scores_for_probabilities_and_warns(data):
    import lightgbm

    x, y, _ = data
    model = lightgbm.LGBMClassifier(n_estimators=2, objective=softmax_objective("lightgbm"), verbosity=-1, n_jobs=1)
    model.fit(x, y)
    with pytest.warns(UserWarning, match="Cannot compute class probabilities or labels"):
        assert_array_equal(model.predict_proba(x), model.predict(x, raw_score=True))


def test_the_metric_of_lightgbm_takes_scores_for_probabilities(data):
    import lightgbm

    x, y, _ = data
    settings, own, objective, metric = lightgbm_settings(3)
    settings |= {"objective": objective("lightgbm"), "metric": own["metric"]}
    history, dataset = {}, lightgbm.Dataset(x, y)
    booster = lightgbm.train(
        settings,
        dataset,
        20,
        valid_sets=[dataset],
        feval=metric("lightgbm"),
        callbacks=[lightgbm.record_evaluation(history)],
    )
    reported = history["training"]
    assert_allclose(reported["cross_entropy"][-1], cxent.cross_entropy(booster.predict(x), y), rtol=1e-6)
    assert abs(reported["multi_logloss"][-1] - reported["cross_entropy"][-1]) > 0.1


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("classes", [2, 3])
def test_xgbclassifier_takes_objective_and_metric(data, two_classes, classes, weighted):
    import xgboost

    x, y, weight = two_classes if classes == 2 else data
    objective, metric = (logistic_objective, logistic_metric) if classes == 2 else (softmax_objective, softmax_metric)
    weights = [weight[400:]] if weighted else None
    model = xgboost.XGBClassifier(
        n_estimators=4, objective=objective("xgboost"), eval_metric=metric("xgboost"), n_jobs=1
    ).fit(x[:400], y[:400], verbose=False, eval_set=[(x[400:], y[400:])], sample_weight_eval_set=weights)
    scores = model.predict(x[400:], output_margin=True)
    expected = metric("exact")(y[400:].astype(np.float32), scores, weights and weights[0])
    assert_allclose(model.evals_result()["validation_0"][metric("exact").__name__][-1], expected, rtol=1e-5)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("classes", [2, 3])
def test_lgbmclassifier_takes_objective_and_metric(data, two_classes, classes, weighted):
    import lightgbm

    x, y, weight = two_classes if classes == 2 else data
    objective, metric = (logistic_objective, logistic_metric) if classes == 2 else (softmax_objective, softmax_metric)
    weights = [weight[400:]] if weighted else None
    model = lightgbm.LGBMClassifier(n_estimators=4, objective=objective("lightgbm"), verbosity=-1, n_jobs=1)
    with warnings.catch_warnings():  # (LightGBM 4.7 has other names for the held-out data)
        warnings.simplefilter("ignore")
        model.fit(
            x[:400], y[:400], eval_metric=metric("lightgbm"), eval_set=[(x[400:], y[400:])], eval_sample_weight=weights
        )
    scores = model.predict(x[400:], raw_score=True)
    expected = metric("exact")(y[400:].astype(np.float32), scores, weights and weights[0])
    assert_allclose(model.evals_result_["valid_0"][metric("exact").__name__][-1], expected, rtol=1e-6)


def test_lgbmclassifier_weights_classes_itself(data):
    import lightgbm

    x, y, _ = data
    settings = {"n_estimators": 4, "verbosity": -1, "n_jobs": 1, "deterministic": True}
    weighted = lightgbm.LGBMClassifier(
        objective=softmax_objective("lightgbm"), class_weight={0: 1, 1: 4, 2: 2}, **settings
    ).fit(x, y)
    ours = lightgbm.LGBMClassifier(objective=softmax_objective("lightgbm", class_weight=[1, 4, 2]), **settings).fit(
        x, y
    )
    assert_allclose(weighted.predict(x, raw_score=True), ours.predict(x, raw_score=True), rtol=1e-6)
