"""NumPy: as written by hand, in place wherever that saves memory."""

from __future__ import annotations

from typing import Any

from cases import GAMMA, SMOOTHING, TOP, TWO_CLASS_OPERATIONS, Case, Formulations, without

NAME = "NumPy"
DISTRIBUTION = "numpy"
HALF = "computes half precision number by number"


def formulations(case: Case) -> Formulations:
    import numpy as np

    if case.half:
        return without(HALF)
    x, q, axis, teacher = case.x, case.q, case.axis, case.teacher
    y = np.expand_dims(case.labels, axis)
    w, w_of_row = case.along(case.weight), case.weight[y]
    even = SMOOTHING / x.shape[axis]
    hidden = ~case.mask
    t = np.expand_dims(case.temperatures, axis)

    def softmax(x: Any = x) -> tuple[Any, Any]:
        m = x.max(axis, keepdims=True)
        e = np.subtract(x, m, out=case.out)
        np.exp(e, out=e)
        total = e.sum(axis, keepdims=True)
        e /= total
        return e, m + np.log(total)

    def masked() -> Any:
        shown = np.empty_like(x) if case.out is None else case.out
        np.copyto(shown, x)
        np.copyto(shown, -np.inf, where=hidden)
        return shown

    def logsumexp(x: Any = x) -> Any:
        m = x.max(axis, keepdims=True)
        e = np.subtract(x, m, out=case.out)
        np.exp(e, out=e)
        return m + np.log(e.sum(axis, keepdims=True))

    def loss_and_grad(shown: Any = x) -> tuple[Any, Any]:
        p, lse = softmax(shown)
        loss = (lse - np.take_along_axis(x, y, axis)).mean()
        np.put_along_axis(p, y, np.take_along_axis(p, y, axis) - 1, axis)
        p /= case.rows
        return loss, p

    def smoothed_loss_and_grad() -> tuple[Any, Any]:
        p, lse = softmax()
        at_label = (1 - SMOOTHING) * w_of_row
        weight = at_label + even * case.weight.sum()
        loss = (weight * lse - at_label * np.take_along_axis(x, y, axis)).sum()
        loss -= even * np.tensordot(x, case.weight, (axis, 0)).sum()
        divisor = w_of_row.sum()
        p *= weight / divisor
        p -= even / divisor * w
        np.put_along_axis(p, y, np.take_along_axis(p, y, axis) - at_label / divisor, axis)
        return loss / divisor, p

    def focal_loss_and_grad() -> tuple[Any, Any]:
        p, lse = softmax()
        log_p = np.take_along_axis(x, y, axis) - lse
        at_label = np.exp(log_p)
        factor = (1 - at_label) ** GAMMA
        slope = (factor - GAMMA * (1 - at_label) ** (GAMMA - 1) * at_label * log_p) / case.rows
        p *= slope
        np.put_along_axis(p, y, np.take_along_axis(p, y, axis) - slope, axis)
        return -(factor * log_p).mean(), p

    def soft_loss_and_grad() -> tuple[Any, Any]:
        p, lse = softmax()
        loss = (lse - np.vecdot(q, x, axis=axis)[(slice(None),) * axis + (None,)]).mean()
        p -= q
        p /= case.rows
        return loss, p

    def scores() -> Any:
        lse = logsumexp()
        ids = np.take(np.argpartition(x, -TOP, axis), range(-TOP, 0), axis)
        np.take_along_axis(x, ids, axis).argsort(axis)
        return (np.take_along_axis(x, y, axis) - lse).squeeze(axis)

    def scores_with_temperatures() -> Any:
        z = np.divide(x, t, out=case.out)
        at_label = np.take_along_axis(z, y, axis)
        return (at_label - logsumexp(z)).squeeze(axis)

    def divergence_and_grad() -> tuple[Any, Any]:
        q, lse_q = softmax()
        m = teacher.max(axis, keepdims=True)
        log_p = teacher - m
        p = np.exp(log_p)
        total = p.sum(axis, keepdims=True)
        p /= total
        log_p -= x
        log_p += m - (m + np.log(total)) + lse_q
        loss = np.vdot(p, log_p) / case.rows
        q -= p
        q /= case.rows
        return loss, q

    return {
        "softmax": [lambda: softmax()[0]],
        "softmax, masked": [lambda: softmax(masked())[0]],
        "log_softmax": [lambda: np.subtract(x, logsumexp(), out=case.out)],
        "logsumexp": [lambda: logsumexp().squeeze(axis)],
        "loss": [lambda: (logsumexp() - np.take_along_axis(x, y, axis)).mean()],
        "loss+grad": [loss_and_grad],
        "loss, masked": [lambda: (logsumexp(masked()) - np.take_along_axis(x, y, axis)).mean()],
        "loss+grad, masked": [lambda: loss_and_grad(masked())],
        "loss+grad, smoothed": [smoothed_loss_and_grad],
        "focal loss+grad": [focal_loss_and_grad],
        "loss, soft": [lambda: (logsumexp().squeeze(axis) - np.vecdot(q, x, axis=axis)).mean()],
        "loss+grad, soft": [soft_loss_and_grad],
        "scores, top 10": [scores],
        "scores, temperatures": [scores_with_temperatures],
        "KL": [lambda: divergence_and_grad()[0]],
        "KL+grad": [divergence_and_grad],
    }


def of_two_classes(case: Case) -> Formulations:
    import numpy as np

    if case.half:
        return without(HALF, TWO_CLASS_OPERATIONS)
    x = case.x
    y = case.labels.astype(x.dtype)

    def exponentials() -> Any:
        e = np.abs(x, out=case.out)
        np.negative(e, out=e)
        return np.exp(e, out=e)

    def sigmoid() -> Any:
        p = np.negative(x, out=case.out)
        np.exp(p, out=p)
        p += 1
        return np.reciprocal(p, out=p)

    def log_sigmoid() -> Any:
        log_p = exponentials()
        np.log1p(log_p, out=log_p)
        return np.subtract(np.minimum(x, 0), log_p, out=log_p)

    def loss() -> Any:
        e = exponentials()
        return (np.log1p(e, out=e).sum() + np.maximum(x, 0).sum() - np.vdot(x, y)) / x.size

    def loss_and_grad() -> tuple[Any, Any]:
        total = loss()
        grad = sigmoid()
        grad -= y
        grad /= x.size
        return total, grad

    return {
        "sigmoid": [sigmoid],
        "log_sigmoid": [log_sigmoid],
        "two-class loss": [loss],
        "two-class loss+grad": [loss_and_grad],
    }
