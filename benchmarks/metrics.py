"""Calibration and comparison of logits: the time and memory of cxent, and of the same formulas in its peers.

A formula computes some numbers for each row: of all rows at once, or of blocks of rows that fit the caches, whichever
is faster. What remains, with one number per row, is done in NumPy for every peer. Temperatures are found by Newton's
method, which needs fewer passes than the minimizers of SciPy and PyTorch. scikit-learn has functions of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from cases import Call
from machine import answer
from measure import measure
from memory import peak_of
from reference import BINS, QUANTILE, best_temperature, binned, calibration, compared, comparison

FIT, CALIBRATION, COMPARISON = "fit temperature", "top-label calibration", "compare logits"
SHAPES = {
    FIT: [(10_000, 10), (20_000, 1_000)],
    CALIBRATION: [(10_000, 10), (20_000, 1_000)],
    COMPARISON: [(10_000, 10), (512, 50_257)],
}
REFERENCES: dict[str, Callable[..., tuple[float, ...]]] = {
    FIT: best_temperature,
    CALIBRATION: calibration,
    COMPARISON: comparison,
}
TOLERANCE = 1e-3  # relative: the results are in float32, and small differences
BLOCK = 1 << 18  # numbers

Calls = dict[str, "list[Call] | str"]  # by operation: formulations, or why there is none
Row = dict[str, Any]


class Formulas(NamedTuple):
    """A peer's formulas, each of which returns numbers for each row, and how it converts an array of NumPy."""

    array: Callable[[Any], Any]
    moments: Callable[..., Any]
    """Of logits, labels and 1 / temperature: the derivatives of the loss in the latter, the first and the second."""
    confidences: Callable[..., Any]
    """Of logits and labels: the confidence, whether the prediction is correct, the Brier score, and the loss."""
    divergences: Callable[..., Any]
    """Of both logits and ids: the KL divergence, whether the top class is the same, and both log-probabilities."""


def of_scipy() -> Formulas:
    from reference import at_ids
    from scipy import special

    def moments(x: Any, y: Any, a: float) -> Any:
        p = special.softmax(a * x, 1)
        mean = np.vecdot(p, x)
        p *= x
        return mean - at_ids(x, y), np.vecdot(p, x) - mean * mean

    def confidences(x: Any, y: Any) -> Any:
        log_p = special.log_softmax(x, 1)
        at_label = at_ids(log_p, y)
        p = np.exp(log_p, out=log_p)
        return p.max(1), p.argmax(1) == y, np.vecdot(p, p) - 2 * np.exp(at_label) + 1, -at_label

    def divergences(x: Any, other: Any, ids: Any) -> Any:
        log_p, log_q = special.log_softmax(x, 1), special.log_softmax(other, 1)
        kl = np.vecdot(np.exp(log_p), log_p - log_q)
        return kl, x.argmax(1) == other.argmax(1), at_ids(log_p, ids), at_ids(log_q, ids)

    return Formulas(lambda array: array, moments, confidences, divergences)


def of_torch(threads: int) -> Formulas:
    import torch
    from torch.linalg import vecdot

    torch.set_num_threads(threads)

    def at_ids(x: Any, ids: Any) -> Any:
        return x.gather(1, ids.unsqueeze(1)).squeeze(1)

    def moments(x: Any, y: Any, a: float) -> Any:
        p = torch.softmax(a * x, 1)
        mean = vecdot(p, x)
        return mean - at_ids(x, y), vecdot(p.mul_(x), x) - mean * mean

    def confidences(x: Any, y: Any) -> Any:
        log_p = torch.log_softmax(x, 1)
        at_label = at_ids(log_p, y)
        p = log_p.exp_()
        confidence, top = p.max(1)
        return confidence, top == y, vecdot(p, p) - 2 * at_label.exp() + 1, -at_label

    def divergences(x: Any, other: Any, ids: Any) -> Any:
        log_p, log_q = torch.log_softmax(x, 1), torch.log_softmax(other, 1)
        kl = vecdot(log_p.exp(), log_p - log_q)
        return kl, x.argmax(1) == other.argmax(1), at_ids(log_p, ids), at_ids(log_q, ids)

    return Formulas(torch.from_numpy, moments, confidences, divergences)


def of_jax() -> Formulas:
    import jax
    import jax.numpy as jnp

    def at_ids(x: Any, ids: Any) -> Any:
        return jnp.take_along_axis(x, ids[:, jnp.newaxis], 1)[:, 0]

    def moments(x: Any, y: Any, a: Any) -> Any:
        p = jax.nn.softmax(a * x, 1)
        mean = (p * x).sum(1)
        return mean - at_ids(x, y), (p * x * x).sum(1) - mean * mean

    def confidences(x: Any, y: Any) -> Any:
        log_p = jax.nn.log_softmax(x, 1)
        at_label, p = at_ids(log_p, y), jnp.exp(log_p)
        return p.max(1), x.argmax(1) == y, (p * p).sum(1) - 2 * jnp.exp(at_label) + 1, -at_label

    def divergences(x: Any, other: Any, ids: Any) -> Any:
        log_p, log_q = jax.nn.log_softmax(x, 1), jax.nn.log_softmax(other, 1)
        kl = (jnp.exp(log_p) * (log_p - log_q)).sum(1)
        return kl, x.argmax(1) == other.argmax(1), at_ids(log_p, ids), at_ids(log_q, ids)

    return Formulas(jnp.asarray, jax.jit(moments), jax.jit(confidences), jax.jit(divergences))


def over_blocks(formula: Callable[..., Any], arrays: tuple[Any, ...], rows: int) -> Callable[..., list[Any]]:
    """The formula's numbers for all rows, computed for so many at a time."""
    blocks = [tuple(array[i : i + rows] for array in arrays) for i in range(0, len(arrays[0]), rows)]

    def call(*options: float) -> list[Any]:
        parts = [formula(*block, *options) for block in blocks]
        return [np.concatenate([np.asarray(part) for part in column]) for column in zip(*parts, strict=True)]

    return call


def newton(moments: Callable[..., list[Any]]) -> tuple[float]:
    """Newton's method as a user would write it: it doubles the digits at each step."""
    a, step = 1.0, 1.0
    while abs(step) > 1e-4 * a:
        slope, curvature = (float(each.mean(dtype=np.float64)) for each in moments(a))
        step = slope / curvature
        a -= step
    return (1 / a,)


def by_formulas(formulas: Formulas, operation: str, arrays: tuple[Any, ...]) -> list[Call]:
    count, classes = arrays[0].shape
    own = tuple(map(formulas.array, arrays))
    formula, finish = {
        FIT: (formulas.moments, newton),
        CALIBRATION: (formulas.confidences, lambda call: binned(*call())),
        COMPARISON: (formulas.divergences, lambda call: compared(*call())),
    }[operation]
    sizes = dict.fromkeys((count, min(count, max(1, BLOCK // classes))))
    return [partial(finish, over_blocks(formula, own, rows)) for rows in sizes]


def by_cxent(operation: str, arrays: tuple[Any, ...], threads: int) -> list[Call]:
    import cxent

    def compare() -> tuple[float, ...]:
        found = cxent.compare_logits(*arrays, quantiles=[QUANTILE], workers=threads)
        estimates = found.kl_mean, found.same_top_mean, found.perplexity_ratio, found.prob_change_rms
        kl, same_top, ratio, rms = (estimate.value for estimate in estimates)
        return kl, found.kl_quantiles[0], same_top, ratio, rms

    return [
        {
            FIT: lambda: cxent.fit_temperature(*arrays, workers=threads)[:1],
            CALIBRATION: lambda: cxent.reliability(*arrays, bins=BINS, workers=threads)[-4:],
            COMPARISON: compare,
        }[operation]
    ]


def by_sklearn(operation: str, arrays: tuple[Any, ...]) -> list[Call] | str:
    """What ``CalibratedClassifierCV(method="temperature")`` fits, without the classifier around it; metrics of
    probabilities."""
    from sklearn.calibration import _TemperatureScaling, calibration_curve
    from sklearn.metrics import brier_score_loss, log_loss
    from sklearn.utils.extmath import softmax

    if operation == COMPARISON:
        return "has no such function"
    x, y = arrays
    if operation == FIT:
        return [lambda: (1 / _TemperatureScaling().fit(x, y).beta_,)]
    labels = np.arange(x.shape[1])

    def calibration() -> tuple[float, ...]:
        p = softmax(x)
        confidence = p.max(1)
        accuracy, mean_confidence = calibration_curve(p.argmax(1) == y, confidence, n_bins=BINS)
        counts = np.histogram(confidence, BINS, (0, 1))[0]
        gaps = abs(accuracy - mean_confidence)
        ece = np.average(gaps, weights=counts[counts > 0])
        return ece, gaps.max(), brier_score_loss(y, p, labels=labels), log_loss(y, p, labels=labels)

    return [calibration]


def arrays_of(operation: str, shape: tuple[int, int]) -> tuple[Any, ...]:
    """Logits and labels drawn with a temperature of 1.5; to be compared, with other logits near them."""
    rng = np.random.default_rng(0)
    x = 3 * rng.standard_normal(shape, np.float32)
    labels = (x / np.float32(1.5) + rng.gumbel(size=shape).astype(np.float32)).argmax(1)
    if operation == COMPARISON:
        return x, x + np.float32(0.1) * rng.standard_normal(shape, np.float32), labels
    return x, labels


def contenders_of(operation: str, arrays: tuple[Any, ...], threads: int) -> Calls:
    makers: dict[str, Callable[[], list[Call] | str]] = {
        "cxent": lambda: by_cxent(operation, arrays, threads),
        "SciPy": lambda: by_formulas(of_scipy(), operation, arrays),
        "scikit-learn": lambda: by_sklearn(operation, arrays),
        "PyTorch": lambda: by_formulas(of_torch(threads), operation, arrays),
        "JAX": lambda: by_formulas(of_jax(), operation, arrays),
    }
    found: Calls = {}
    for name, make in makers.items():
        try:
            found[name] = make()
        except ImportError as error:
            found[name] = f"is not installed, or too old ({error})"
    return found


def require_right(name: str, operation: str, found: Any, expected: tuple[float, ...]) -> None:
    errors = [abs(a / b - 1) for a, b in zip(found, expected, strict=True)]
    if not max(errors) <= TOLERANCE:
        raise ValueError(f"{name}, {operation}: {found} instead of {expected}")


def metrics(what: str, threads: int, budget: float = 2.0) -> list[Row]:
    """For each operation and shape the seconds of each contender, checked before; or its peak in bytes."""
    rows: list[Row] = []
    for operation, shapes in SHAPES.items():
        for shape in shapes:
            arrays = arrays_of(operation, shape)
            contenders = contenders_of(operation, arrays, threads)
            calls = {name: calls for name, calls in contenders.items() if not isinstance(calls, str)}
            row: Row = {"operation": operation, "shape": shape}
            row["reasons"] = {name: reason for name, reason in contenders.items() if isinstance(reason, str)}
            if what == "memory":
                row["bytes"] = {name: min(map(peak_of, those)) for name, those in calls.items()}
            else:
                expected = REFERENCES[operation](*arrays)
                for name, those in calls.items():
                    for call in those:
                        require_right(name, operation, call(), expected)
                row["seconds"] = {name: timing.median for name, timing in measure(calls, budget).items()}
            rows.append(row)
    return rows


if __name__ == "__main__":
    answer(metrics)
