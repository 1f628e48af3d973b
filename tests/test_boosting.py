"""Objectives and metrics of boosting: they grow the trees of the libraries' own, and stop in the same round."""

import pickle
import warnings

import numpy as np
import pytest
from helpers import loss_by_definition
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
    assert repr(objective) == "_SoftmaxObjective(convention='xgboost', workers=2)"


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


@pytest.mark.parametrize("weighted", [False, True])
def test_xgboost_grows_the_same_trees(data, weighted):
    import xgboost

    x, y, weight = data
    matrix = xgboost.DMatrix(x, y, weight=weight if weighted else None)
    settings = {"num_class": 3, "max_depth": 3, "base_score": 0.0, "disable_default_eval_metric": True, "nthread": 1}
    own = xgboost.train({**settings, "objective": "multi:softprob"}, matrix, 10)
    ours = xgboost.train(settings, matrix, 10, obj=softmax_objective("xgboost"))
    assert splits_of_xgboost(ours) == splits_of_xgboost(own)
    assert_allclose(ours.predict(matrix, output_margin=True), own.predict(matrix, output_margin=True), atol=1e-4)


def splits_of_xgboost(booster):
    lines = "\n".join(booster.get_dump()).splitlines()
    return [line.partition(" yes=")[0] if " yes=" in line else line.partition("=")[0] for line in lines]


@pytest.mark.parametrize("weighted", [False, True])
def test_lightgbm_grows_the_same_trees(data, weighted):
    import lightgbm

    x, y, weight = data
    settings = {
        "num_class": 3,
        "max_depth": 3,
        "boost_from_average": False,
        "verbosity": -1,
        "deterministic": True,
        "num_threads": 1,
    }

    def train(objective):
        dataset = lightgbm.Dataset(x, y, weight=weight if weighted else None)
        return lightgbm.train({**settings, "objective": objective}, dataset, 10)

    own, ours = train("multiclass"), train(softmax_objective("lightgbm"))
    assert splits_of_lightgbm(ours) == splits_of_lightgbm(own)
    assert_allclose(ours.predict(x, raw_score=True), own.predict(x, raw_score=True), atol=1e-6)


def splits_of_lightgbm(booster):
    def splits(node):
        if "split_feature" not in node:
            return []
        return [(node["split_feature"], node["threshold"]), splits(node["left_child"]), splits(node["right_child"])]

    return [splits(tree["tree_structure"]) for tree in booster.dump_model()["tree_info"]]


@pytest.fixture(scope="module")
def two_classes(data):
    x, y, weight = data
    return x, (y > 1).astype(int), weight


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


def test_second_derivatives_of_a_focal_loss_have_a_floor():
    scores, labels = np.array([-4.0, 2.0]), np.array([1, 1])
    exact = logistic_objective("exact", focal_gamma=2)(labels, scores)[1]
    assert exact[0] < 0 < exact[1]
    for convention in ("xgboost", "lightgbm"):
        assert_array_equal(logistic_objective(convention, focal_gamma=2)(labels, scores)[1], [1e-16, exact[1]])


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
    for wrong in ({"pos_weight": -1}, {"pos_weight": np.inf}, {"focal_gamma": -1}):
        with pytest.raises(ValueError, match=f"^{next(iter(wrong))} must"):
            logistic_objective("exact", **wrong)
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
def test_lightgbm_stops_in_the_same_round(data, two_classes, classes):
    import lightgbm

    x, y, weight = two_classes if classes == 2 else data
    settings = {
        "max_depth": 4, "learning_rate": 0.5, "boost_from_average": False, "verbosity": -1, "num_threads": 1,
        "deterministic": True,
    }  # fmt: skip
    own = {"objective": "binary", "metric": "binary_logloss"}
    ours = (logistic_objective, logistic_metric)
    if classes == 3:
        own = {"objective": "multiclass", "metric": "multi_logloss"}
        settings["num_class"], ours = 3, (softmax_objective, softmax_metric)

    def train(chosen, **more):
        dataset = lightgbm.Dataset(x[:400], y[:400], weight=weight[:400])
        held_out = dataset.create_valid(x[400:], y[400:], weight=weight[400:])
        stop = lightgbm.early_stopping(5, verbose=False)
        return lightgbm.train(settings | chosen, dataset, 200, valid_sets=[held_out], callbacks=[stop], **more)

    a = train(own)
    b = train({"objective": ours[0]("lightgbm"), "metric": "none"}, feval=ours[1]("lightgbm"))
    assert a.best_iteration == b.best_iteration < 200
    assert_allclose(
        next(iter(a.best_score["valid_0"].values())), b.best_score["valid_0"][ours[1]("exact").__name__], rtol=1e-6
    )


def test_metrics_with_the_interface_of_scikit_learn(two_classes):
    import lightgbm
    import xgboost

    x, y, _ = two_classes
    model = xgboost.XGBClassifier(
        n_estimators=4, objective=logistic_objective("xgboost"), eval_metric=logistic_metric("xgboost"), n_jobs=1
    ).fit(x[:400], y[:400], verbose=False, eval_set=[(x[400:], y[400:])])
    found = model.evals_result()["validation_0"]["binary_cross_entropy"][-1]
    scores = model.predict(x[400:], output_margin=True)
    assert_allclose(found, cxent.binary_cross_entropy(scores, y[400:]), rtol=1e-5)
    model = lightgbm.LGBMClassifier(n_estimators=4, objective=logistic_objective("lightgbm"), verbosity=-1, n_jobs=1)
    with warnings.catch_warnings():  # (LightGBM 4.7 has another name for it)
        warnings.simplefilter("ignore")
        model.fit(x[:400], y[:400], eval_metric=logistic_metric("lightgbm"), eval_set=[(x[400:], y[400:])])
    found = model.evals_result_["valid_0"]["binary_cross_entropy"][-1]
    assert_allclose(found, cxent.binary_cross_entropy(model.predict(x[400:], raw_score=True), y[400:]), rtol=1e-6)
