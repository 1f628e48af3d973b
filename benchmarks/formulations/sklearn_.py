"""scikit-learn: the compiled loss (a private one) of its gradient boosting and logistic regression."""

from __future__ import annotations

from typing import Any

from cases import TWO_CLASS_OPERATIONS, Case, Formulations, without

NAME = "scikit-learn"
DISTRIBUTION = "scikit-learn"


def formulations(case: Case) -> Formulations:
    import numpy as np
    from sklearn._loss import HalfMultinomialLoss

    if case.half:
        return without("has no half precision")
    if case.axis != case.x.ndim - 1:
        return without("has no axis")
    x, n = case.x, case.rows
    y = case.labels.astype(x.dtype)
    loss = HalfMultinomialLoss(n_classes=x.shape[1])
    losses, grad = np.empty(n, x.dtype), np.empty_like(x)

    shown, hidden = np.empty_like(x), ~case.mask

    def masked() -> Any:
        np.copyto(shown, x)
        np.copyto(shown, -np.inf, where=hidden)
        return shown

    def loss_of(x: Any) -> Any:
        return loss.loss(y, x, loss_out=losses, n_threads=case.threads).mean()

    def loss_and_grad(x: Any) -> tuple[Any, Any]:
        loss.loss_gradient(y, x, loss_out=losses, gradient_out=grad, n_threads=case.threads)
        return losses.mean(), np.divide(grad, n, out=grad)

    return {
        **without("has the losses of class indices alone"),
        "loss": [lambda: loss_of(x)],
        "loss+grad": [lambda: loss_and_grad(x)],
        "loss, masked": [lambda: loss_of(masked())],
        "loss+grad, masked": [lambda: loss_and_grad(masked())],
    }


def of_two_classes(case: Case) -> Formulations:
    import numpy as np
    from sklearn._loss import HalfBinomialLoss

    if case.half:
        return without("has no half precision", TWO_CLASS_OPERATIONS)
    x, n, threads = case.x, case.rows, case.threads
    y = case.labels.astype(x.dtype)
    loss = HalfBinomialLoss()
    losses, grad = np.empty_like(x), np.empty_like(x)

    def loss_and_grad() -> tuple[Any, Any]:
        loss.loss_gradient(y, x, loss_out=losses, gradient_out=grad, n_threads=threads)
        return losses.mean(), np.divide(grad, n, out=grad)

    return {
        **without("has the losses alone", TWO_CLASS_OPERATIONS),
        "two-class loss": [lambda: loss.loss(y, x, loss_out=losses, n_threads=threads).mean()],
        "two-class loss+grad": [loss_and_grad],
    }
