"""Every operation in float64 by its definition: contenders must agree with it before they are timed."""

from __future__ import annotations

from typing import Any

import numpy as np
from cases import GAMMA, SMOOTHING, WIDE_DTYPES, Case

# In epsilons of the dtype. Peers round more often, and PyTorch and ONNX Runtime sum a row of 128,256 numbers in so few
# lanes that they lose 350 epsilons of float32; a wrong formula would be off by thousands. Half precision is computed in
# float32 and rounded.
TOLERANCE = {"float32": 1024.0, "float64": 1024.0, "float16": 16.0, "bfloat16": 16.0}
CANCELLING = 64.0  # factor for results that are small differences of probabilities
BINS = 15  # of confidences
QUANTILE = 0.99  # of divergences


def tolerance(operation: str, dtype: str) -> float:
    return TOLERANCE[dtype] * (CANCELLING if "KL" in operation else 1.0)


class Reference:
    """Results in float64 for the numbers of a case."""

    def __init__(self, case: Case) -> None:
        self.case = case
        if not case.two_classes:
            self.log_p, self.lse = log_softmax(case.x.astype(np.float64), case.axis)

    def result(self, operation: str) -> tuple[Any, ...]:
        case = self.case
        if case.two_classes:
            return self.two_class_result(operation)
        if operation == "softmax":
            return (np.exp(self.log_p),)
        if operation == "softmax, masked":
            return (np.exp(self.log_p_masked()),)
        if operation == "log_softmax":
            return (self.log_p,)
        if operation == "logsumexp":
            return (self.lse.squeeze(case.axis),)
        if operation == "scores, top 10":
            return (self.at_labels(self.log_p).squeeze(case.axis),)
        if operation == "scores, temperatures":
            divided = case.x.astype(np.float64) / np.expand_dims(case.temperatures.astype(np.float64), case.axis)
            return (self.at_labels(log_softmax(divided, case.axis)[0]).squeeze(case.axis),)
        if "KL" in operation:
            log_p = log_softmax(case.teacher.astype(np.float64), case.axis)[0]
            p = np.exp(log_p)
            loss = (p * (log_p - self.log_p)).sum() / case.rows
            return (loss, (np.exp(self.log_p) - p) / case.rows) if "grad" in operation else (loss,)
        target, divisor = self.target(operation)
        if "focal" in operation:
            log_p = self.at_labels(self.log_p)
            p = np.exp(log_p)
            slope = GAMMA * (1 - p) ** (GAMMA - 1) * p * log_p - (1 - p) ** GAMMA  # by log_p
            return -((1 - p) ** GAMMA * log_p).mean(), slope * (target - np.exp(self.log_p)) / divisor
        log_p = self.log_p_masked() if "masked" in operation else self.log_p
        loss = -(target * np.where(target == 0, 0, log_p)).sum() / divisor
        if "grad" not in operation:
            return (loss,)
        total = target.sum(case.axis, keepdims=True)
        return loss, (total * np.exp(log_p) - target) / divisor

    def log_p_masked(self) -> Any:
        case = self.case
        return log_softmax(np.where(case.mask, case.x.astype(np.float64), -np.inf), case.axis)[0]

    def at_labels(self, log_p: Any) -> Any:
        """That of the label of each row, with the class axis."""
        return np.take_along_axis(log_p, np.expand_dims(self.case.labels, self.case.axis), self.case.axis)

    def two_class_result(self, operation: str) -> tuple[Any, ...]:
        x, labels = self.case.x.astype(np.float64), self.case.labels
        p = 1 / (1 + np.exp(-x))
        if operation == "sigmoid":
            return (p,)
        if operation == "log_sigmoid":
            return (-np.logaddexp(0, -x),)
        loss = np.logaddexp(0, np.where(labels == 1, -x, x)).mean()
        return (loss, (p - labels) / x.size) if "grad" in operation else (loss,)

    def target(self, operation: str) -> tuple[Any, Any]:
        """The weights of the log-probabilities, and the divisor of the sum."""
        case = self.case
        if "soft" in operation.split():
            return case.q.astype(np.float64), case.rows
        target = np.zeros(case.x.shape)
        np.put_along_axis(target, np.expand_dims(case.labels, case.axis), 1.0, case.axis)
        if "smoothed" not in operation:
            return target, case.rows
        weight = case.weight.astype(np.float64)
        smooth = (1 - SMOOTHING) * target + SMOOTHING / case.classes
        return smooth * case.along(weight), weight[case.labels].sum()


def log_softmax(x: Any, axis: int) -> tuple[Any, Any]:
    """The log-softmax, and the logsumexp of each row."""
    m = x.max(axis, keepdims=True)
    shifted = x - m
    log_total = np.log(np.exp(shifted).sum(axis, keepdims=True))
    return shifted - log_total, m + log_total


def epsilon(dtype: str) -> float:
    if dtype in WIDE_DTYPES:
        return float(np.finfo(dtype).eps)
    import ml_dtypes

    return float(ml_dtypes.finfo(dtype).eps)


def error_of(found: Any, expected: tuple[Any, ...], dtype: str) -> float:
    """The largest error in epsilons of the dtype, NaN if the result has NaN.

    It is relative to the number itself and to the mean size of all numbers, so cancellation in a gradient does not
    count."""
    found = found if len(expected) > 1 else (found,)
    worst = 0.0
    for a, b in zip(found, expected, strict=True):
        # (bfloat16 in NumPy comes from ml_dtypes.)
        a = np.asarray(a.double() if hasattr(a, "double") else a).astype(np.float64)
        if a.shape != np.shape(b):
            return float("nan")
        size = np.abs(b)
        worst = max(worst, float((np.abs(a - b) / (size + size.mean())).max()), key=lambda e: (e != e, e))
    return worst / epsilon(dtype)


def best_temperature(x: Any, labels: Any) -> tuple[float]:
    """The temperature of least cross-entropy, by Newton's method in its reciprocal."""
    x = x.astype(np.float64)
    a, step = 1.0, 1.0
    while abs(step) > 1e-9 * a:
        p = np.exp(log_softmax(a * x, 1)[0])
        mean = (p * x).sum(1)
        step = float((mean - at_ids(x, labels)).mean() / ((p * x * x).sum(1) - mean * mean).mean())
        a -= step
    return (1 / a,)


def calibration(x: Any, labels: Any) -> tuple[float, ...]:
    log_p = log_softmax(x.astype(np.float64), 1)[0]
    p = np.exp(log_p)
    losses = -at_ids(log_p, labels)
    brier = ((p - (np.arange(p.shape[1]) == labels[:, np.newaxis])) ** 2).sum(1)
    return binned(p.max(1), x.argmax(1) == labels, brier, losses)


def comparison(x: Any, other: Any, ids: Any) -> tuple[float, ...]:
    log_p, log_q = (log_softmax(each.astype(np.float64), 1)[0] for each in (x, other))
    kl = (np.exp(log_p) * (log_p - log_q)).sum(1)
    return compared(kl, x.argmax(1) == other.argmax(1), at_ids(log_p, ids), at_ids(log_q, ids))


def at_ids(x: Any, ids: Any) -> Any:
    return np.take_along_axis(x, ids[:, np.newaxis], 1)[:, 0]


def binned(confidence: Any, correct: Any, brier: Any, losses: Any) -> tuple[float, ...]:
    """The expected and the maximum calibration error, the Brier score and the loss, from numbers for each row."""
    places = np.searchsorted(np.arange(1, BINS) / BINS, confidence)
    gaps = abs(np.bincount(places, correct - confidence.astype(np.float64), BINS))
    counts = np.bincount(places, minlength=BINS)
    largest = (gaps[counts > 0] / counts[counts > 0]).max()
    return tuple(map(float, (gaps.sum() / len(places), largest, mean_of(brier), mean_of(losses))))


def compared(kl: Any, same_top: Any, log_p: Any, log_q: Any) -> tuple[float, ...]:
    """The mean and a quantile of the divergences, how often the top class is the same, the ratio of the perplexities,
    and the root mean square of the changes of probability, from numbers for each row."""
    log_p, log_q = log_p.astype(np.float64), log_q.astype(np.float64)
    change = np.exp(log_q) - np.exp(log_p)
    ratio = np.exp((log_p - log_q).mean())
    found = mean_of(kl), np.quantile(kl, QUANTILE), mean_of(same_top), ratio, np.sqrt((change**2).mean())
    return tuple(map(float, found))


def mean_of(numbers: Any) -> float:
    return float(numbers.mean(dtype=np.float64))
