"""SciPy: the functions of scipy.special, which take no preallocated output; gradients by hand, in place."""

from __future__ import annotations

from typing import Any

from cases import GAMMA, SMOOTHING, TOP, TWO_CLASS_OPERATIONS, Case, Formulations, without

NAME = "SciPy"
DISTRIBUTION = "scipy"
HALF = "computes half precision number by number"


def formulations(case: Case) -> Formulations:
    import numpy as np
    from scipy import special

    if case.half:
        return without(HALF)
    x, q, axis, teacher = case.x, case.q, case.axis, case.teacher
    y = np.expand_dims(case.labels, axis)
    w, w_of_row = case.along(case.weight), case.weight[y]
    even = SMOOTHING / x.shape[axis]
    t = np.expand_dims(case.temperatures, axis)

    def masked() -> Any:
        return np.where(case.mask, x, x.dtype.type(-np.inf))

    def loss_and_grad(x: Any = x) -> tuple[Any, Any]:
        log_p = special.log_softmax(x, axis)
        loss = -np.take_along_axis(log_p, y, axis).mean()
        p = np.exp(log_p, out=log_p)
        np.put_along_axis(p, y, np.take_along_axis(p, y, axis) - 1, axis)
        p /= case.rows
        return loss, p

    def smoothed_loss_and_grad() -> tuple[Any, Any]:
        log_p = special.log_softmax(x, axis)
        at_label = (1 - SMOOTHING) * w_of_row
        divisor = w_of_row.sum()
        loss = -(at_label * np.take_along_axis(log_p, y, axis)).sum()
        loss -= even * np.tensordot(log_p, case.weight, (axis, 0)).sum()
        p = np.exp(log_p, out=log_p)
        p *= (at_label + even * case.weight.sum()) / divisor
        p -= even / divisor * w
        np.put_along_axis(p, y, np.take_along_axis(p, y, axis) - at_label / divisor, axis)
        return loss / divisor, p

    def focal_loss_and_grad() -> tuple[Any, Any]:
        log_p = special.log_softmax(x, axis)
        chosen = np.take_along_axis(log_p, y, axis)
        at_label = np.exp(chosen)
        factor = (1 - at_label) ** GAMMA
        slope = (factor - GAMMA * (1 - at_label) ** (GAMMA - 1) * at_label * chosen) / case.rows
        p = np.exp(log_p, out=log_p)
        p *= slope
        np.put_along_axis(p, y, np.take_along_axis(p, y, axis) - slope, axis)
        return -(factor * chosen).mean(), p

    def soft_loss_and_grad() -> tuple[Any, Any]:
        log_p = special.log_softmax(x, axis)
        loss = -np.vecdot(q, log_p, axis=axis).mean()
        p = np.exp(log_p, out=log_p)
        p -= q
        p /= case.rows
        return loss, p

    def scores() -> Any:
        log_p = special.log_softmax(x, axis)
        ids = np.take(np.argpartition(log_p, -TOP, axis), range(-TOP, 0), axis)
        np.take_along_axis(log_p, ids, axis).argsort(axis)
        return np.take_along_axis(log_p, y, axis).squeeze(axis)

    def scores_with_temperatures() -> Any:
        return np.take_along_axis(special.log_softmax(np.divide(x, t, out=case.out), axis), y, axis).squeeze(axis)

    def divergence_and_grad() -> tuple[Any, Any]:
        p, q = special.softmax(teacher, axis), special.softmax(x, axis)
        loss = special.rel_entr(p, q).sum() / case.rows
        q -= p
        q /= case.rows
        return loss, q

    return {
        "softmax": [lambda: special.softmax(x, axis)],
        "softmax, masked": [lambda: special.softmax(masked(), axis)],
        "log_softmax": [lambda: special.log_softmax(x, axis)],
        "logsumexp": [lambda: special.logsumexp(x, axis)],
        "loss": [lambda: -np.take_along_axis(special.log_softmax(x, axis), y, axis).mean()],
        "loss+grad": [loss_and_grad],
        "loss, masked": [lambda: -np.take_along_axis(special.log_softmax(masked(), axis), y, axis).mean()],
        "loss+grad, masked": [lambda: loss_and_grad(masked())],
        "loss+grad, smoothed": [smoothed_loss_and_grad],
        "focal loss+grad": [focal_loss_and_grad],
        "loss, soft": [lambda: -np.vecdot(q, special.log_softmax(x, axis), axis=axis).mean()],
        "loss+grad, soft": [soft_loss_and_grad],
        "scores, top 10": [scores],
        "scores, temperatures": [scores_with_temperatures],
        "KL": [lambda: special.rel_entr(special.softmax(teacher, axis), special.softmax(x, axis)).sum() / case.rows],
        "KL+grad": [divergence_and_grad],
    }


def of_two_classes(case: Case) -> Formulations:
    import numpy as np
    from scipy import special

    if case.half:
        return without(HALF, TWO_CLASS_OPERATIONS)
    x, out = case.x, case.out
    y = case.labels.astype(x.dtype)
    signs = 2 * y - 1

    def loss() -> Any:
        z = np.multiply(signs, x, out=out)
        return -special.log_expit(z, out=z).mean()

    def loss_and_grad() -> tuple[Any, Any]:
        total = loss()
        grad = special.expit(x, out=out)
        grad -= y
        grad /= x.size
        return total, grad

    return {
        "sigmoid": [lambda: special.expit(x, out=out)],
        "log_sigmoid": [lambda: special.log_expit(x, out=out)],
        "two-class loss": [loss],
        "two-class loss+grad": [loss_and_grad],
    }
