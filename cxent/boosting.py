"""A softmax objective for gradient boosting, with gradients and Hessians as XGBoost and LightGBM want them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, SupportsIndex, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike

from ._arrays import scores_and_labels
from ._cross_entropy import cross_entropy_with_hess
from ._options import CONVENTIONS, one_of, thread_count
from ._types import Array, Convention

__all__ = ["softmax_objective"]

_LEAST_HESSIAN = 1e-16  # of XGBoost


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


@runtime_checkable
class _Dataset(Protocol):
    def get_label(self) -> ArrayLike: ...
    def get_weight(self) -> ArrayLike | None: ...


@dataclass(frozen=True)
class _SoftmaxObjective:
    convention: Convention
    workers: SupportsIndex | None

    def __call__(
        self, first: ArrayLike, second: ArrayLike | _Dataset, sample_weight: ArrayLike | None = None
    ) -> tuple[Array, Array]:
        if isinstance(second, _Dataset):
            return self._derivatives(first, second.get_label(), second.get_weight())
        return self._derivatives(second, first, sample_weight)

    def _derivatives(
        self, given_scores: ArrayLike, given_labels: ArrayLike, given_weight: ArrayLike | None
    ) -> tuple[Array, Array]:
        scores, labels, weight = scores_and_labels(given_scores, given_labels, given_weight)
        rows, is_flat = len(labels), scores.ndim == 1
        if not rows or not (scores.size % rows == 0 if is_flat else scores.ndim == 2 and len(scores) == rows):
            raise ValueError(
                f"scores must have shape ({rows}, C) for {rows} labels, or be flat with C scores per label, "
                f"got {scores.shape}"
            )
        by_row = scores.reshape(rows, -1, order="F") if is_flat else scores
        classes = by_row.shape[1]
        try:
            _, grad, hess = cross_entropy_with_hess(
                by_row,
                labels,
                sample_weight=None if weight is None or not weight.size else weight,  # XGBoost's may be empty
                reduction="sum",
                workers=self.workers,
            )
        except IndexError as error:
            raise IndexError(f"{error} (num_class is {classes})") from None
        with np.errstate(all="ignore"):  # as kernels compute: in half precision the least Hessian is 0
            if self.convention == "xgboost":
                hess *= 2
                np.maximum(hess, _LEAST_HESSIAN, out=hess)
            elif self.convention == "lightgbm":
                hess *= classes / max(classes - 1, 1)
        return (grad.ravel(order="F"), hess.ravel(order="F")) if is_flat else (grad, hess)
