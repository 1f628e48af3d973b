"""Objectives and metrics for gradient boosting, as XGBoost and LightGBM want them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, SupportsIndex, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike

from ._arrays import scores_and_labels
from ._binary import binary_cross_entropy, binary_cross_entropy_with_hess
from ._cross_entropy import cross_entropy, cross_entropy_with_hess
from ._options import CONVENTIONS, binary_options, one_of, thread_count
from ._types import Array, Convention, Real

__all__ = ["logistic_metric", "logistic_objective", "softmax_metric", "softmax_objective"]

_LEAST_HESSIAN = 1e-16  # of XGBoost

_Metric: TypeAlias = float | tuple[str, float] | tuple[str, float, bool]


def softmax_objective(convention: Convention, *, workers: SupportsIndex | None = None) -> _SoftmaxObjective:
    """The multiclass objective of ``xgboost.train(obj=...)`` and ``lightgbm.train({"objective": ...})``.

    ``grad_j = s * (p_j - y_j)`` and ``hess_j = factor * s * p_j * (1 - p_j)``, with p the softmax of the scores, y the
    one-hot class, and s the weight of the row.

    Parameters
    ----------
    convention : {"xgboost", "lightgbm", "exact"}
        The factor of the Hessian: that of the library's built-in objective, which is 2 for "xgboost" (and the Hessian
        is at least 1e-16) and C / (C - 1) for "lightgbm"; or 1, the mathematical one, for "exact".
    workers : int, optional
        As in `cross_entropy`.

    Returns
    -------
    callable
        ``objective(scores, dataset)``, which returns grad and hess. The dataset has ``get_label`` and ``get_weight``.
        Scores have the shape (rows, C), in C or F order, or are one class after another in a flat array, as those of
        LightGBM before version 4; grad and hess have the same form. Also ``objective(labels, scores, weight)``, as
        ``XGBClassifier(objective=...)`` and ``LGBMClassifier(objective=...)`` call it. It can be pickled.

    Raises
    ------
    ValueError
        If the convention is unknown. The objective raises what `cross_entropy_with_hess` does, and a ValueError if
        labels are not whole numbers, or not as many as rows of scores, and a TypeError if they are no numbers.

    See Also
    --------
    cxent.cross_entropy_with_hess : The loss, gradient and Hessian themselves.

    Notes
    -----
    A custom objective starts from one score for all classes, and the built-in ones from the classes' frequencies.
    Where these too are told to start from a constant, the trees are the same: ``base_score=0.5`` for XGBoost,
    ``boost_from_average=False`` for LightGBM. Both need ``num_class``. What such a model predicts is scores (for
    XGBoost with ``output_margin=True``), of which `cxent.softmax` makes probabilities.

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
    thread_count(workers)
    return _SoftmaxObjective(chosen, workers)


def logistic_objective(
    convention: Convention,
    *,
    pos_weight: Real | None = None,
    focal_gamma: Real = 0.0,
    workers: SupportsIndex | None = None,
) -> _LogisticObjective:
    """The two-class objective of ``xgboost.train(obj=...)`` and ``lightgbm.train({"objective": ...})``.

    ``grad = s * (p - y)`` and ``hess = s * p * (1 - p)``, with p the `cxent.sigmoid` of the score, y the label 0 or 1,
    and s the weight of the row, times `pos_weight` where y is 1.

    Parameters
    ----------
    convention : {"xgboost", "lightgbm", "exact"}
        Whose built-in objective it follows. With "xgboost" the Hessian is at least 1e-16.
    pos_weight : float, optional
        The weight of label 1: XGBoost's and LightGBM's ``scale_pos_weight``.
    focal_gamma : float, default 0
        The exponent of the focal loss, which `binary_cross_entropy` explains. Its second derivative can be negative,
        where a label is badly wrong; but with "exact", it is at least 1e-16 then.
    workers : int, optional
        As in `cross_entropy`.

    Returns
    -------
    callable
        ``objective(scores, dataset)`` or ``objective(labels, scores, weight)``, as that of `softmax_objective`, with
        one score for each row. It can be pickled.

    Raises
    ------
    ValueError
        If the convention is unknown, or an option is out of range. The objective raises what
        `binary_cross_entropy_with_hess` does.

    See Also
    --------
    logistic_metric : The loss, for early stopping.

    Notes
    -----
    The trees are those of ``binary:logistic`` and ``binary``, where all start from probability 1/2. For LightGBM that
    is ``boost_from_average=False``; for XGBoost ``base_score=0.5`` with ``binary:logistic``, whose base score is a
    probability, and ``base_score=0`` with this objective, where it is a score. Such a model predicts scores, of which
    `cxent.sigmoid` makes probabilities.

    Examples
    --------
    >>> import numpy as np
    >>> from cxent.boosting import logistic_objective
    >>> grad, hess = logistic_objective("lightgbm")(np.array([1, 0]), np.array([0.0, 2.0]))
    >>> grad, hess
    (array([-0.5       ,  0.88079708]), array([0.25      , 0.10499359]))
    """
    chosen: Convention = one_of(CONVENTIONS, convention, "convention")
    thread_count(workers)
    options = binary_options("sum", None, 1, 0.0, focal_gamma)
    weight = None if pos_weight is None else float(pos_weight)
    if weight is not None and not 0 <= weight < np.inf:
        raise ValueError(f"pos_weight must be a finite non-negative number, got {pos_weight!r}")
    return _LogisticObjective(chosen, weight, options.focal_gamma, workers)


def softmax_metric(convention: Convention, *, workers: SupportsIndex | None = None) -> _SoftmaxMetric:
    """The mean cross-entropy of scores, for ``xgboost.train(custom_metric=...)`` and ``lightgbm.train(feval=...)``.

    With a custom objective a model predicts scores. The libraries' own metrics take them for probabilities, so early
    stopping stops at the wrong round; this one takes them for what they are.

    Parameters
    ----------
    convention : {"xgboost", "lightgbm", "exact"}
        Whose metric it is: "xgboost" returns the name and the value, "lightgbm" also that lower is better; "exact" the
        value alone.
    workers : int, optional
        As in `cross_entropy`.

    Returns
    -------
    callable
        ``metric(scores, dataset)``; or ``metric(labels, scores, weight)``, as ``XGBClassifier(eval_metric=...)``, which
        wants the value alone, and ``LGBMClassifier.fit(eval_metric=...)`` call it. It can be pickled.

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
    """The mean two-class cross-entropy of scores, likewise.

    Parameters
    ----------
    convention : {"xgboost", "lightgbm", "exact"}
        Whose metric it is; as in `softmax_metric`.
    workers : int, optional
        As in `cross_entropy`.

    Returns
    -------
    callable
        As from `softmax_metric`.

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
    def get_label(self) -> ArrayLike: ...
    def get_weight(self) -> ArrayLike | None: ...


def _given(
    first: ArrayLike, second: ArrayLike | _Dataset, sample_weight: ArrayLike | None
) -> tuple[Array, Array, Array | None]:
    """Scores, labels and weights of the rows, of either form of a call."""
    if isinstance(second, _Dataset):
        scores, labels, weight = scores_and_labels(first, second.get_label(), second.get_weight())
    else:
        scores, labels, weight = scores_and_labels(second, first, sample_weight)
    return scores, labels, None if weight is None or not weight.size else weight  # (XGBoost's may be empty)


def _by_row(scores: Array, labels: Array) -> Array:
    """Scores of several classes as (rows, C)."""
    rows, is_flat = len(labels), scores.ndim == 1
    if not rows or not (scores.size % rows == 0 if is_flat else scores.ndim == 2 and len(scores) == rows):
        raise ValueError(
            f"scores must have shape ({rows}, C) for {rows} labels, or be flat with C scores per label, "
            f"got {scores.shape}"
        )
    return scores.reshape(rows, -1, order="F") if is_flat else scores


def _of_two_classes(scores: Array, labels: Array) -> Array:
    """Scores of two classes, one for each row."""
    if scores.shape not in (labels.shape, (*labels.shape, 1)):
        raise ValueError(f"scores must have shape {labels.shape}, one for each label, got {scores.shape}")
    return scores.reshape(-1)


def _reported(value: float, name: str, convention: Convention, *, of_dataset: bool) -> _Metric:
    """A metric as the library wants it."""
    if convention == "lightgbm":
        return name, value, False  # lower is better
    return (name, value) if convention == "xgboost" and of_dataset else value


@dataclass(frozen=True)
class _SoftmaxObjective:
    convention: Convention
    workers: SupportsIndex | None

    def __call__(
        self, first: ArrayLike, second: ArrayLike | _Dataset, sample_weight: ArrayLike | None = None
    ) -> tuple[Array, Array]:
        scores, labels, weight = _given(first, second, sample_weight)
        by_row = _by_row(scores, labels)
        classes = by_row.shape[1]
        try:
            _, grad, hess = cross_entropy_with_hess(
                by_row, labels, sample_weight=weight, reduction="sum", workers=self.workers
            )
        except IndexError as error:
            raise IndexError(f"{error} (num_class is {classes})") from None
        with np.errstate(all="ignore"):  # as kernels compute: in half precision the least Hessian is 0
            if self.convention == "xgboost":
                hess *= 2
                np.maximum(hess, _LEAST_HESSIAN, out=hess)
            elif self.convention == "lightgbm":
                hess *= classes / max(classes - 1, 1)
        return (grad.ravel(order="F"), hess.ravel(order="F")) if scores.ndim == 1 else (grad, hess)


@dataclass(frozen=True)
class _LogisticObjective:
    convention: Convention
    pos_weight: float | None
    focal_gamma: float
    workers: SupportsIndex | None

    def __call__(
        self, first: ArrayLike, second: ArrayLike | _Dataset, sample_weight: ArrayLike | None = None
    ) -> tuple[Array, Array]:
        scores, labels, weight = _given(first, second, sample_weight)
        _, grad, hess = binary_cross_entropy_with_hess(
            _of_two_classes(scores, labels),
            labels,
            pos_weight=self.pos_weight,
            sample_weight=weight,
            focal_gamma=self.focal_gamma,
            reduction="sum",
            workers=self.workers,
        )
        if self.convention == "xgboost" or (self.convention == "lightgbm" and self.focal_gamma):
            with np.errstate(all="ignore"):
                np.maximum(hess, _LEAST_HESSIAN, out=hess)
        return grad.reshape(scores.shape), hess.reshape(scores.shape)


@dataclass(frozen=True)
class _SoftmaxMetric:
    convention: Convention
    workers: SupportsIndex | None
    __name__ = "cross_entropy"  # (which XGBoost's interface of scikit-learn asks for)

    def __call__(
        self, first: ArrayLike, second: ArrayLike | _Dataset, sample_weight: ArrayLike | None = None
    ) -> _Metric:
        scores, labels, weight = _given(first, second, sample_weight)
        loss = cross_entropy(_by_row(scores, labels), labels, sample_weight=weight, workers=self.workers)
        return _reported(float(loss), self.__name__, self.convention, of_dataset=isinstance(second, _Dataset))


@dataclass(frozen=True)
class _LogisticMetric:
    convention: Convention
    workers: SupportsIndex | None
    __name__ = "binary_cross_entropy"

    def __call__(
        self, first: ArrayLike, second: ArrayLike | _Dataset, sample_weight: ArrayLike | None = None
    ) -> _Metric:
        scores, labels, weight = _given(first, second, sample_weight)
        scores = _of_two_classes(scores, labels)
        loss = binary_cross_entropy(scores, labels, sample_weight=weight, workers=self.workers)
        return _reported(float(loss), self.__name__, self.convention, of_dataset=isinstance(second, _Dataset))
