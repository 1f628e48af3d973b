"""A softmax objective for gradient boosting, with gradients and Hessians as XGBoost and LightGBM want them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ._cross_entropy import cross_entropy_with_hess

Array = NDArray[Any]
Objective = Callable[[Array, Any], tuple[Array, Array]]

_LEAST_HESSIAN = 1e-16  # of XGBoost


def softmax_objective(convention: Literal["xgboost", "lightgbm", "exact"] = "exact", *, workers: int = 1) -> Objective:
    """The multiclass objective of ``xgboost.train(obj=...)`` and ``lightgbm.train({"objective": ...})``.

    ``grad_j = s * (p_j - y_j)`` and ``hess_j = factor * s * p_j * (1 - p_j)``, with p the softmax of the scores, y the
    one-hot class, and s the weight of the row.

    Parameters
    ----------
    convention : {"xgboost", "lightgbm", "exact"}, default "exact"
        The factor of the Hessian: 1 for "exact"; 2 for "xgboost", and at least 1e-16; C / (C - 1) for "lightgbm". With
        its own convention a library grows the trees of its built-in objective.
    workers : int, default 1
        As in `cross_entropy`.

    Returns
    -------
    callable
        ``objective(scores, dataset)``, which returns grad and hess. The dataset has ``get_label`` and ``get_weight``.
        Scores have the shape (rows, C), in C or F order, or are one class after another in a flat array, as those of
        LightGBM before version 4; grad and hess have the same form.

    Raises
    ------
    ValueError
        If the convention is unknown. The objective raises what `cross_entropy_with_hess` does, and a ValueError if
        labels are not whole numbers.

    See Also
    --------
    cxent.cross_entropy_with_hess : the loss, gradient and Hessian themselves.

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
    if convention not in ("xgboost", "lightgbm", "exact"):
        raise ValueError(f"convention is {convention!r}; accepted are 'xgboost', 'lightgbm' and 'exact'")

    def objective(scores: Array, dataset: Any) -> tuple[Array, Array]:
        labels = _class_indices(dataset.get_label())
        weight = dataset.get_weight()
        by_row = scores.reshape(len(labels), -1, order="F") if scores.ndim == 1 else scores
        _, grad, hess = cross_entropy_with_hess(
            by_row,
            labels,
            sample_weight=None
            if weight is None or not len(weight)
            else weight,  # XGBoost's are empty if there are none
            reduction="sum",
            workers=workers,
        )
        classes = by_row.shape[1]
        if convention == "xgboost":
            hess *= 2
            np.maximum(hess, _LEAST_HESSIAN, out=hess)
        elif convention == "lightgbm":
            hess *= classes / max(classes - 1, 1)
        return (grad.ravel(order="F"), hess.ravel(order="F")) if scores.ndim == 1 else (grad, hess)

    return objective


def _class_indices(labels: Any) -> Array:
    """Class indices, which these libraries keep as floating-point numbers."""
    indices = np.asarray(labels).astype(np.int64)
    if not (indices == labels).all():
        raise ValueError(f"label {np.asarray(labels)[indices != labels][0]} is no class; accepted are whole numbers")
    return indices
