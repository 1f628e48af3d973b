"""A self-check of this installation: whether its kernels compute correct results, and how fast. See ``python -m
cxent``."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal, localcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from . import _golden, kernels
from ._cross_entropy import cross_entropy, cross_entropy_with_grad
from ._softmax import log_softmax, logsumexp, softmax

MOST_ULPS = 4  # as promised
ROWS = 8
CLASSES = [3, 10, 100, 257, 1000]
SPEEDS = [(1, 10), (1_000, 10), (1_000, 1_000)]


class Check(NamedTuple):
    """The result of checking the kernels of one level."""

    kernels: str
    passed: bool
    worst_error: float  # in units in the last place
    golden_hashes: int  # compared; 0 for kernels whose bits are not promised
    golden_failures: list[str]


class Speed(NamedTuple):
    """Speed in millions of logits per second."""

    call: str
    cxent: float
    numpy: float


@contextmanager
def _served_by(name: str) -> Iterator[None]:
    before = kernels.serving
    kernels.serving = kernels.load(name)
    try:
        yield
    finally:
        kernels.serving = before


@contextmanager
def _many_parts() -> Iterator[None]:
    """Split calls into as many parts as when the golden hashes were made."""
    from .kernels import threads

    before = threads.set_sizes(_golden.PART_SIZE, _golden.PART_SIZE)
    try:
        yield
    finally:
        threads.set_sizes(*before)


def _results(x: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    loss, grad = cross_entropy_with_grad(x, labels, reduction="none")
    return [softmax(x), log_softmax(x), logsumexp(x), np.asarray(loss), grad]


def _exact(row: np.ndarray[Any, Any], label: int) -> list[list[Decimal]]:
    """The results of `_results` for one row, to 40 digits."""
    with localcontext(prec=40):
        logits = [Decimal(x) for x in row.tolist()]
        m = max(logits)
        e = [(x - m).exp() for x in logits]
        total = sum(e, Decimal(0))
        lse = m + total.ln()
        p = [number / total for number in e]
        before, after = p[:label], p[label + 1 :]
        grad = [*before, -sum([*before, *after], Decimal(0)), *after]
        return [p, [x - lse for x in logits], [lse], [lse - logits[label]], grad]


def _ulps(found: Any, exact: Decimal, dtype: Any) -> float:
    """The error in units in the last place."""
    return float(abs(Decimal(float(found)) - exact) / Decimal(float(np.spacing(np.abs(dtype(exact))))))


def worst_error(name: str) -> float:
    """The largest error found, in units in the last place.

    Differences between the logits are exact, so their rounding does not count.
    """
    worst = 0.0
    for classes in CLASSES:
        x = np.round((_golden.uniform((ROWS, classes), classes) - 0.5) * 24 * 1024) / 1024
        labels = (_golden.uniform((ROWS,), 5) * classes).astype(int)
        expected = [_exact(row, label) for row, label in zip(x, labels.tolist(), strict=True)]
        for dtype in (np.float32, np.float64):
            with _served_by(name):
                found = _results(x.astype(dtype), labels)
            for row in range(ROWS):
                for results, exact in zip(found, expected[row], strict=True):
                    numbers = np.atleast_1d(results[row])
                    worst = max(worst, *(_ulps(n, e, dtype) for n, e in zip(numbers, exact, strict=True)))
    return worst


def golden_failures(name: str) -> tuple[int, list[str]]:
    """How many golden hashes were compared, and which of them differ."""
    expected = _golden.expected()
    compared, failures = 0, []
    with _served_by(name), _many_parts():
        for dtype in ("float32", "float64"):
            for layout in _golden.LAYOUTS:
                where = f"{dtype}, {layout}"
                found = _golden.hashes(dtype, layout, 1, CLASSES)
                compared += len(found)
                failures += [f"{where}, {call}" for call, value in found.items() if value != expected[where].get(call)]
    return compared, failures


def check(name: str) -> Check:
    """Check the kernels with this name."""
    error = worst_error(name)
    compared, failures = golden_failures(name) if name in kernels.fused() else (0, [])
    return Check(name, error <= MOST_ULPS and not failures, error, compared, failures)


def _numpy_softmax(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    e: np.ndarray[Any, Any] = np.exp(x - x.max(axis=-1, keepdims=True))
    e /= e.sum(axis=-1, keepdims=True)
    return e


def _numpy_loss(x: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> Any:
    shifted = x - x.max(axis=-1, keepdims=True)
    return np.mean(np.log(np.exp(shifted).sum(axis=-1)) - shifted[np.arange(len(x)), labels])


def _seconds(call: Callable[[], Any]) -> float:
    """The shortest of several runs."""
    call()
    least, end = float("inf"), time.perf_counter() + 0.03
    while time.perf_counter() < end:
        start = time.perf_counter()
        call()
        least = min(least, time.perf_counter() - start)
    return least


def speeds() -> list[Speed]:
    """The speed of cxent and of NumPy, for float32 on one thread."""
    found = []
    for rows, classes in SPEEDS:
        x = _golden.uniform((rows, classes), 1).astype(np.float32)
        labels = (_golden.uniform((rows,), 5) * classes).astype(int)
        pairs: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
            "softmax": (partial(softmax, x), partial(_numpy_softmax, x)),
            "cross_entropy": (partial(cross_entropy, x, labels), partial(_numpy_loss, x, labels)),
        }
        for function, (ours, theirs) in pairs.items():
            scale = x.size / 1e6
            found.append(Speed(f"{function}, {rows:,} x {classes:,}", scale / _seconds(ours), scale / _seconds(theirs)))
    return found


def cpu_name() -> str:
    """The name of the CPU, if the system provides it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
