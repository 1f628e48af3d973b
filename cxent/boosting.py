"""Objectives and metrics for gradient boosting with XGBoost and LightGBM."""

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

_LEAST_HESSIAN = 1e-16  # as in XGBoost

_Metric: TypeAlias = float | tuple[str, float] | tuple[str, float, bool]


def softmax_objective(convention: Convention, *, workers: SupportsIndex | None = None) -> _SoftmaxObjective:
    r"""A multiclass objective for ``xgboost.train(obj=...)`` and ``lightgbm.train({"objective": ...})``.

    .. math::

        \text{grad}_j &= s \, (p_j - y_j) \\
        \text{hess}_j &= f s \, p_j (1 - p_j)

    with p the softmax of the scores, y the one-hot class, s the weight of the row, and a factor f that depends on the
    convention.

    Parameters
    ----------
    convention : {"xgboost", "lightgbm", "exact"}
        Whose built-in objective to reproduce. The Hessian has the factor 2 with "xgboost" (and is at least 1e-16),
        C / (C - 1) with "lightgbm", and 1, as in the mathematical definition, with "exact".
    workers : int, optional
        Number of threads; -1 means all CPUs.

    Returns
    -------
    callable
        ``objective(scores, dataset)``, which returns grad and hess; the dataset has ``get_label`` and ``get_weight``.
        Or ``objective(labels, scores, weight)``, as ``XGBClassifier(objective=...)`` and
        ``LGBMClassifier(objective=...)`` call it. Scores have shape (rows, C), in C or F order, or are flat, one class
        after another, as in LightGBM before version 4. grad and hess have the same shape as the scores. The objective
        can be pickled.

    Raises
    ------
    ValueError
        If the convention is unknown. The objective itself raises what `cross_entropy_with_hess` raises, a ValueError if
        labels are not whole numbers or there is not one per row of scores, and a TypeError if they are not numbers.

    See Also
    --------
    softmax_metric : The loss as a metric, for early stopping.
    cxent.cross_entropy_with_hess : The loss, its gradient and its Hessian.

    Notes
    -----
    A custom objective starts from the same score for all classes; the built-in ones start from the class frequencies
    instead. If those are told to start from a constant, the trees are the same: pass ``base_score=0.5`` to XGBoost, or
    ``boost_from_average=False`` to LightGBM. Both need ``num_class``. A model with a custom objective predicts scores
    (in XGBoost with ``output_margin=True``), which `cxent.softmax` turns into probabilities.

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
    r"""A two-class objective for ``xgboost.train(obj=...)`` and ``lightgbm.train({"objective": ...})``.

    .. math::

        \text{grad} &= s \, (p - y) \\
        \text{hess} &= s \, p (1 - p)

    with p the `cxent.sigmoid` of the score, y the label 0 or 1, and s the weight of the row, times `pos_weight` if y is
    1.

    Parameters
    ----------
    convention : {"xgboost", "lightgbm", "exact"}
        Whose built-in objective to reproduce. With "xgboost" the Hessian is at least 1e-16.
    pos_weight : float, optional
        Weight of label 1; in XGBoost and LightGBM this is ``scale_pos_weight``.
    focal_gamma : float, default 0
        Exponent of the focal loss, which `cxent.binary_cross_entropy` explains. Its second derivative can be negative
        where a label is badly wrong; with "xgboost" and "lightgbm" it is raised to 1e-16.
    workers : int, optional
        Number of threads; -1 means all CPUs.

    Returns
    -------
    callable
        ``objective(scores, dataset)`` or ``objective(labels, scores, weight)``, as for `softmax_objective`, but with
        one score per row. It can be pickled.

    Raises
    ------
    ValueError
        If the convention is unknown, or an option is out of range. The objective itself raises what
        `cxent.binary_cross_entropy_with_hess` raises.

    See Also
    --------
    logistic_metric : The loss as a metric, for early stopping.

    Notes
    -----
    The trees are the same as with ``binary:logistic`` or ``binary`` if all start from probability 1/2. In LightGBM that
    is ``boost_from_average=False``. In XGBoost it is ``base_score=0.5`` with ``binary:logistic``, where the base score
    is a probability, and ``base_score=0`` with this objective, where it is a score. A model with this objective
    predicts scores, which `cxent.sigmoid` turns into probabilities.

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

    With a custom objective, a model predicts scores. The libraries' own metrics take them for probabilities, so early
    stopping stops in the wrong round. This metric takes scores.

    Parameters
    ----------
    convention : {"xgboost", "lightgbm", "exact"}
        What the metric returns: with "xgboost" its name and value, with "lightgbm" also False, which says that lower is
        better, and with "exact" the value alone.
    workers : int, optional
        Number of threads; -1 means all CPUs.

    Returns
    -------
    callable
        ``metric(scores, dataset)``, or ``metric(labels, scores, weight)``, as ``XGBClassifier(eval_metric=...)`` and
        ``LGBMClassifier.fit(eval_metric=...)`` call it; for the former, "xgboost" returns the value alone. The metric
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
    convention : {"xgboost", "lightgbm", "exact"}
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
    def get_label(self) -> ArrayLike: ...
    def get_weight(self) -> ArrayLike | None: ...


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


def _reported(value: float, name: str, convention: Convention, *, of_dataset: bool) -> _Metric:
    """The metric in the form that the library expects."""
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
        with np.errstate(all="ignore"):  # (in half precision, the least Hessian is 0)
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
    __name__ = "cross_entropy"  # (used by XGBoost's scikit-learn interface)

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
