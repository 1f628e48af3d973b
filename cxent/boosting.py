"""Objectives and metrics for gradient boosting with XGBoost, LightGBM and CatBoost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, SupportsIndex, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike

from ._arrays import scores_and_labels, weights_of_classes
from ._binary import binary_cross_entropy, binary_cross_entropy_with_hess
from ._cross_entropy import cross_entropy, cross_entropy_with_hess
from ._options import CONVENTIONS, binary_options, checked_pos_weight, loss_options, one_of, thread_count
from ._softmax import softmax
from ._types import Array, Combined, Convention, Real

__all__ = ["logistic_metric", "logistic_objective", "softmax_metric", "softmax_objective"]

_LEAST_HESSIAN = 1e-16  # as in XGBoost

_Metric: TypeAlias = Any
"""A number; a name and a number; or these and whether higher is better. (Typed libraries accept only one of these.)"""


def softmax_objective(
    convention: Convention,
    *,
    class_weight: ArrayLike | None = None,
    label_smoothing: Real = 0.0,
    focal_gamma: Real = 0.0,
    workers: SupportsIndex | None = None,
) -> _SoftmaxObjective:
    r"""A multiclass objective for XGBoost, LightGBM and CatBoost, with the options of a loss.

    .. math::

        \text{grad}_j &= s \, (p_j - y_j) \\
        \text{hess}_j &= f s \, p_j (1 - p_j)

    with p the softmax of the scores, y the one-hot class, s the weight of the row, and a factor f that depends on the
    convention. The options have the same effect as in `cxent.cross_entropy`.

    Parameters
    ----------
    convention : {"xgboost", "xgboost-abs", "lightgbm", "catboost", "exact"}
        Whose built-in objective to reproduce. The Hessian has the factor 2 with "xgboost", C / (C - 1) with "lightgbm",
        and 1 with "catboost" and "exact". With "xgboost-abs" it is ``abs(grad)``, as in XGBoost's development version;
        releases up to 3.4.1 need "xgboost". With both it is at least 1e-16.
    class_weight : array_like, optional
        Weight of each class, by which those of the rows are multiplied.
    label_smoothing : float, default 0
        Fraction of each label that is spread evenly over all classes, from 0 to 1.
    focal_gamma : float, default 0
        Exponent of the focal loss, from 0 to 100; not together with label smoothing. See the notes.
    workers : int, optional
        Number of threads; -1 means all CPUs.

    Returns
    -------
    callable
        ``objective(scores, dataset)``, which returns grad and hess, for ``xgboost.train(obj=...)`` and
        ``lightgbm.train({"objective": ...})``; the dataset has ``get_label`` and ``get_weight``. Or ``objective(labels,
        scores, weight)``, as ``XGBClassifier(objective=...)`` and ``LGBMClassifier(objective=...)`` call it. Scores
        have shape (rows, C), in C or F order, or are flat, one class after another, as in LightGBM before version 4;
        grad and hess have the same shape. ``CatBoost({"loss_function": ...})`` calls
        ``objective.calc_ders_multi(scores, label, weight)``, which returns the whole Hessian. The objective can be
        pickled.

    Raises
    ------
    TypeError
        If an option is not a number, or class weights are not numbers.
    ValueError
        If the convention is unknown, an option is out of range, class weights are negative or not finite, or
        `focal_gamma` is given with label smoothing. The objective itself raises what `cxent.cross_entropy_with_hess`
        raises, a ValueError if labels are not whole numbers, there is not one per row of scores, or there is not one
        class weight per class, and a TypeError if labels are not numbers.

    See Also
    --------
    softmax_metric : The loss as a metric, for early stopping.
    cxent.cross_entropy_with_hess : The loss, its gradient and its Hessian.

    Notes
    -----
    A custom objective starts from the same score for all classes; the built-in ones start from the class frequencies
    instead. If those are told to start from a constant, the trees are the same: pass ``base_score=0`` to XGBoost, or
    ``boost_from_average=False`` to LightGBM. All libraries need the number of classes. A model with a custom objective
    predicts scores (in XGBoost with ``output_margin=True``), which `cxent.softmax` turns into probabilities.

    The Hessian of a focal loss is ``a * H + b``, with H the Hessian of the plain loss, a the effect of the focal factor
    on the gradient, and b negative where a label is badly wrong. So the Hessian can be negative or near 0, and Newton
    steps, ``-grad / hess``, would go uphill or be unbounded. With all conventions but "exact", it is therefore replaced
    by ``a * H + abs(b)``, and no step is longer than that of the plain loss.

    Examples
    --------
    >>> import numpy as np
    >>> from cxent.boosting import softmax_objective
    >>> class Dataset:
    ...     def get_label(self):
    ...         return np.array([0.0, 2.0])
    ...
    ...     def get_weight(self):
    ...         return None
    >>> grad, hess = softmax_objective("lightgbm")(np.zeros((2, 3)), Dataset())
    >>> grad
    array([[-0.66666667,  0.33333333,  0.33333333],
           [ 0.33333333,  0.33333333, -0.66666667]])
    >>> hess
    array([[0.33333333, 0.33333333, 0.33333333],
           [0.33333333, 0.33333333, 0.33333333]])
    """
    chosen: Convention = one_of(CONVENTIONS, convention, "convention")
    options = loss_options(-1, "sum", None, workers, label_smoothing, focal_gamma=focal_gamma)
    weights = None if class_weight is None else weights_of_classes(class_weight)
    return _SoftmaxObjective(chosen, weights, options.label_smoothing, options.focal_gamma, workers)


def logistic_objective(
    convention: Convention,
    *,
    pos_weight: Real | None = None,
    focal_gamma: Real = 0.0,
    workers: SupportsIndex | None = None,
) -> _LogisticObjective:
    r"""A two-class objective for XGBoost, LightGBM and CatBoost, with a weight of label 1 and a focal factor.

    .. math::

        \text{grad} &= s \, (p - y) \\
        \text{hess} &= s \, p (1 - p)

    with p the `cxent.sigmoid` of the score, y the label 0 or 1, and s the weight of the row, times `pos_weight` if y is
    1.

    Parameters
    ----------
    convention : {"xgboost", "xgboost-abs", "lightgbm", "catboost", "exact"}
        Whose built-in objective to reproduce. With "xgboost" and "xgboost-abs", which differ only for more than two
        classes, the Hessian is at least 1e-16.
    pos_weight : float, optional
        Weight of label 1; in the libraries this is ``scale_pos_weight``.
    focal_gamma : float, default 0
        Exponent of the focal loss, from 0 to 100, which `cxent.binary_cross_entropy` explains. With all conventions but
        "exact", its Hessian is changed as for `softmax_objective`.
    workers : int, optional
        Number of threads; -1 means all CPUs.

    Returns
    -------
    callable
        ``objective(scores, dataset)`` or ``objective(labels, scores, weight)``, as for `softmax_objective`, but with
        one score per row; CatBoost calls ``objective.calc_ders_range(scores, labels, weights)``. It can be pickled.

    Raises
    ------
    TypeError
        If an option is not a number.
    ValueError
        If the convention is unknown, or an option is out of range. The objective itself raises what
        `cxent.binary_cross_entropy_with_hess` raises.

    See Also
    --------
    logistic_metric : The loss as a metric, for early stopping.

    Notes
    -----
    The trees are the same as with ``binary:logistic``, ``binary`` or ``Logloss`` if all start from probability 1/2. In
    LightGBM that is ``boost_from_average=False``. In XGBoost it is ``base_score=0.5`` with ``binary:logistic``, where
    the base score is a probability, and ``base_score=0`` with this objective, where it is a score. A model with this
    objective predicts scores, which `cxent.sigmoid` turns into probabilities.

    Examples
    --------
    >>> import numpy as np
    >>> from cxent.boosting import logistic_objective
    >>> grad, hess = logistic_objective("lightgbm")(np.array([1, 0]), np.array([0.0, 2.0]))
    >>> grad, hess
    (array([-0.5       ,  0.88079708]), array([0.25      , 0.10499359]))
    """
    chosen: Convention = one_of(CONVENTIONS, convention, "convention")
    options = binary_options("sum", None, workers, 0.0, focal_gamma)
    weight = None if pos_weight is None else checked_pos_weight(pos_weight)
    return _LogisticObjective(chosen, weight, options.focal_gamma, workers)


def softmax_metric(convention: Convention, *, workers: SupportsIndex | None = None) -> _SoftmaxMetric:
    """The mean cross-entropy of scores, for early stopping in XGBoost, LightGBM and CatBoost.

    With a custom objective, a model predicts scores. The libraries' own metrics take them for probabilities, so early
    stopping stops in the wrong round. This metric takes scores.

    Parameters
    ----------
    convention : {"xgboost", "xgboost-abs", "lightgbm", "catboost", "exact"}
        What the metric returns: with "xgboost" and "xgboost-abs" its name and value, with "lightgbm" also False, which
        says that lower is better, and with the others the value alone.
    workers : int, optional
        Number of threads; -1 means all CPUs.

    Returns
    -------
    callable
        ``metric(scores, dataset)``, for ``xgboost.train(custom_metric=...)`` and ``lightgbm.train(feval=...)``; or
        ``metric(labels, scores, weight)``, as ``XGBClassifier(eval_metric=...)`` and
        ``LGBMClassifier.fit(eval_metric=...)`` call it. For the former, "xgboost" returns the value alone. For
        ``CatBoost({"eval_metric": ...})`` it has ``evaluate``, ``get_final_error`` and ``is_max_optimal``. The metric
        can be pickled.

    Raises
    ------
    ValueError
        If the convention is unknown.

    See Also
    --------
    softmax_objective : The objective.

    Examples
    --------
    >>> import numpy as np
    >>> from cxent.boosting import softmax_metric
    >>> value = softmax_metric("exact")(np.array([0, 2]), np.zeros((2, 3)))
    >>> print(round(value, 6))
    1.098612
    """
    chosen: Convention = one_of(CONVENTIONS, convention, "convention")
    thread_count(workers)
    return _SoftmaxMetric(chosen, workers)


def logistic_metric(convention: Convention, *, workers: SupportsIndex | None = None) -> _LogisticMetric:
    """The mean two-class cross-entropy of scores, for use with `logistic_objective`.

    Parameters
    ----------
    convention : {"xgboost", "xgboost-abs", "lightgbm", "catboost", "exact"}
        What the metric returns, as for `softmax_metric`.
    workers : int, optional
        Number of threads; -1 means all CPUs.

    Returns
    -------
    callable
        The metric, called as for `softmax_metric`.

    Raises
    ------
    ValueError
        If the convention is unknown.

    See Also
    --------
    logistic_objective : The objective.

    Examples
    --------
    >>> import numpy as np
    >>> from cxent.boosting import logistic_metric
    >>> value = logistic_metric("exact")(np.array([1, 0]), np.array([2.0, -2.0]))
    >>> print(round(value, 6))
    0.126928
    """
    chosen: Convention = one_of(CONVENTIONS, convention, "convention")
    thread_count(workers)
    return _LogisticMetric(chosen, workers)


@runtime_checkable
class _Dataset(Protocol):
    def get_label(self) -> Any: ...  # (an array, or None before LightGBM knows them)
    def get_weight(self) -> Any: ...


def _given(
    first: ArrayLike, second: ArrayLike | _Dataset, sample_weight: ArrayLike | None
) -> tuple[Array, Array, Array | None]:
    """Scores, labels and weights of the rows, from the arguments of either form of call."""
    if isinstance(second, _Dataset):
        scores, labels, weight = scores_and_labels(first, second.get_label(), second.get_weight())
    else:
        scores, labels, weight = scores_and_labels(second, first, sample_weight)
    return scores, labels, None if weight is None or not weight.size else weight  # (XGBoost passes empty ones)


def _by_row(scores: Array, labels: Array) -> Array:
    """Multiclass scores in shape (rows, C)."""
    rows, is_flat = len(labels), scores.ndim == 1
    if not rows or not (scores.size % rows == 0 if is_flat else scores.ndim == 2 and len(scores) == rows):
        raise ValueError(
            f"scores must have shape ({rows}, C) for {rows} labels, or be flat with C scores per label, "
            f"got {scores.shape}"
        )
    return scores.reshape(rows, -1, order="F") if is_flat else scores


def _of_two_classes(scores: Array, labels: Array) -> Array:
    """Two-class scores, one per row."""
    if scores.shape not in (labels.shape, (*labels.shape, 1)):
        raise ValueError(f"scores must have shape {labels.shape}, one for each label, got {scores.shape}")
    return scores.reshape(-1)


def _change_hessian(
    grad: Array, hess: Array, plain: tuple[Array, Array] | None, convention: Convention, factor: float
) -> None:
    """Adapt the second derivatives to the convention; `plain` has the derivatives without the focal factor."""
    if convention == "exact":
        return
    with np.errstate(all="ignore"):  # (in half precision, the least Hessian is 0)
        if convention == "xgboost-abs":
            np.abs(grad, out=hess)
        elif plain is not None:  # least + abs(hess - least), where -grad / least is the step of the plain loss
            least = _ratio(grad, plain[0]) * plain[1]
            np.maximum(hess, 2 * least - hess, out=hess)
        if factor != 1:
            hess *= factor
        if convention in ("xgboost", "xgboost-abs"):
            np.maximum(hess, _LEAST_HESSIAN, out=hess)


def _ratio(grad: Array, plain: Array) -> Array:
    """The effect of a focal factor on a gradient; 0 where the plain gradient is 0."""
    return np.divide(grad, plain, out=np.zeros_like(plain), where=plain != 0)


@dataclass(frozen=True)
class _SoftmaxObjective:
    convention: Convention
    class_weight: tuple[float, ...] | None
    label_smoothing: float
    focal_gamma: float
    workers: SupportsIndex | None
    no_jit = True  # otherwise CatBoost compiles the methods with Numba, and marks the object

    def __call__(
        self, first: ArrayLike, second: ArrayLike | _Dataset, sample_weight: ArrayLike | None = None
    ) -> tuple[Array, Array]:
        scores, labels, weight = _given(first, second, sample_weight)
        by_row = _by_row(scores, labels)
        classes = by_row.shape[1]
        (grad, hess), plain = self._derivatives(by_row, labels, weight)
        factor = {"xgboost": 2.0, "lightgbm": classes / max(classes - 1, 1)}.get(self.convention, 1.0)
        _change_hessian(grad, hess, plain, self.convention, factor)
        return (grad.ravel(order="F"), hess.ravel(order="F")) if scores.ndim == 1 else (grad, hess)

    def calc_ders_multi(self, approxes: ArrayLike, target: float, weight: float) -> tuple[Array, Array]:
        """The gradient and the whole Hessian of the log-likelihood of one row, for CatBoost."""
        scores, labels, weights = scores_and_labels(np.reshape(approxes, (1, -1)), [target], [weight])
        (grad, diagonal), plain = self._derivatives(scores, labels, weights)
        label, class_weight, smoothing = labels[0], self.class_weight or (1.0,) * scores.size, self.label_smoothing
        size = weight * ((1 - smoothing) * class_weight[label] + smoothing * np.mean(class_weight))
        p = softmax(scores[0])
        hess = -size * np.outer(p, p)
        np.fill_diagonal(hess, (diagonal if plain is None else plain[1])[0])
        if plain is not None:
            # With u the gradient of the plain loss and H its Hessian, the Hessian of the focal loss is a H + b u u^T,
            # where b is negative if the label is badly wrong.
            u = plain[0][0]
            a = _ratio(grad[0], u)[label]
            more = diagonal[0, label] - a * hess[label, label]
            unit = _ratio(u, np.full(u.size, u[label]))
            hess = a * hess + (more if self.convention == "exact" else abs(more)) * np.outer(unit, unit)
        return -grad[0], -hess

    def _derivatives(
        self, scores: Array, labels: Array, sample_weight: Array | None
    ) -> tuple[tuple[Array, Array], tuple[Array, Array] | None]:
        """The gradient and the diagonal of the Hessian; with a focal factor, also those without it."""
        classes = scores.shape[1]
        options = self._options(classes, sample_weight)
        try:
            found = cross_entropy_with_hess(scores, labels, focal_gamma=self.focal_gamma, **options)[1:]
        except IndexError as error:
            number = "classes_count" if self.convention == "catboost" else "num_class"
            raise IndexError(f"{error} ({number} is {classes})") from None
        return found, cross_entropy_with_hess(scores, labels, **options)[1:] if self.focal_gamma else None

    def _options(self, classes: int, sample_weight: Array | None) -> dict[str, Any]:
        """The options of the loss, except for the focal factor."""
        if self.class_weight is not None and len(self.class_weight) != classes:
            raise ValueError(f"class_weight must have shape ({classes},), got ({len(self.class_weight)},)")
        return {
            "weight": self.class_weight,
            "sample_weight": sample_weight,
            "label_smoothing": self.label_smoothing,
            "reduction": "sum",
            "workers": self.workers,
        }


@dataclass(frozen=True)
class _LogisticObjective:
    convention: Convention
    pos_weight: float | None
    focal_gamma: float
    workers: SupportsIndex | None
    no_jit = True

    def __call__(
        self, first: ArrayLike, second: ArrayLike | _Dataset, sample_weight: ArrayLike | None = None
    ) -> tuple[Array, Array]:
        scores, labels, weight = _given(first, second, sample_weight)
        numbers = _of_two_classes(scores, labels)
        grad, hess = self._derivatives(numbers, labels, weight, self.focal_gamma)
        plain = self._derivatives(numbers, labels, weight, 0.0) if self.focal_gamma else None
        _change_hessian(grad, hess, plain, "xgboost" if self.convention == "xgboost-abs" else self.convention, 1.0)
        return grad.reshape(scores.shape), hess.reshape(scores.shape)

    def calc_ders_range(self, approxes: ArrayLike, targets: ArrayLike, weights: ArrayLike | None) -> Array:
        """Both derivatives of the log-likelihood of each row, for CatBoost."""
        return -np.stack(self(targets, approxes, weights), axis=-1)

    def _derivatives(
        self, scores: Array, labels: Array, sample_weight: Array | None, focal_gamma: float
    ) -> tuple[Array, Array]:
        _, grad, hess = binary_cross_entropy_with_hess(
            scores,
            labels,
            pos_weight=self.pos_weight,
            sample_weight=sample_weight,
            focal_gamma=focal_gamma,
            reduction="sum",
            workers=self.workers,
        )
        return grad, hess


@dataclass(frozen=True)
class _LossMetric:
    convention: Convention
    workers: SupportsIndex | None
    no_jit = True
    __name__ = "a loss"  # (used by XGBoost's scikit-learn interface)

    def __call__(
        self, first: ArrayLike, second: ArrayLike | _Dataset, sample_weight: ArrayLike | None = None
    ) -> _Metric:
        loss = self._loss(*_given(first, second, sample_weight), "mean")
        if self.convention == "lightgbm":
            return self.__name__, loss, False  # lower is better
        is_named = self.convention in ("xgboost", "xgboost-abs") and isinstance(second, _Dataset)
        return (self.__name__, loss) if is_named else loss

    def evaluate(
        self, approxes: Sequence[ArrayLike], target: ArrayLike, weight: ArrayLike | None
    ) -> tuple[float, float]:
        """The sum of the losses and the sum of the weights, for CatBoost, which passes scores by class."""
        scores, labels, weights = _given(target, np.concatenate(approxes), weight)
        size = len(labels) if weights is None else weights.sum(dtype=np.float64)
        return self._loss(scores, labels, weights, "sum"), float(size)

    def get_final_error(self, error: float, weight: float) -> float:
        """The mean."""
        return error / weight if weight else math.nan

    def is_max_optimal(self) -> bool:
        """Lower is better."""
        return False

    def _loss(self, scores: Array, labels: Array, sample_weight: Array | None, reduction: Combined) -> float:
        raise NotImplementedError


class _SoftmaxMetric(_LossMetric):
    __name__ = "cross_entropy"

    def _loss(self, scores: Array, labels: Array, sample_weight: Array | None, reduction: Combined) -> float:
        by_row = _by_row(scores, labels)
        return float(
            cross_entropy(by_row, labels, sample_weight=sample_weight, reduction=reduction, workers=self.workers)
        )


class _LogisticMetric(_LossMetric):
    __name__ = "binary_cross_entropy"

    def _loss(self, scores: Array, labels: Array, sample_weight: Array | None, reduction: Combined) -> float:
        numbers = _of_two_classes(scores, labels)
        return float(
            binary_cross_entropy(
                numbers, labels, sample_weight=sample_weight, reduction=reduction, workers=self.workers
            )
        )
