"""Seconds per call from interleaved rounds, with quartiles; rows whose control strays are measured again.

Each round times every contender once, after untimed calls in which the previous one can finish its background work (JAX
frees its buffers on the same core). ``np.copyto`` is one of the contenders, as a control: it does the same in every row
of a shape, so if it is slower, faster or less steady than in other rows, something else ran on the machine.
"""

from __future__ import annotations

import statistics
import time
from typing import NamedTuple

from cases import Call
from ceilings import COPY

SETTLE_SECONDS = 0.03
STRAYS = 0.15  # relative to the control's median
AGAIN = 2  # at most so many times

Contenders = dict[str, list[Call]]


class Timing(NamedTuple):
    """Quartiles of the seconds per call."""

    lower: float
    median: float
    upper: float


def settle(call: Call) -> None:
    """Call untimed, at least once, until the previous contender has finished its background work."""
    end = time.perf_counter() + SETTLE_SECONDS
    call()
    while time.perf_counter() < end:
        call()


def timed(call: Call, repeat: int) -> float:
    start = time.perf_counter()
    for _ in range(repeat):
        call()
    return (time.perf_counter() - start) / repeat


def rounds(calls: dict[str, Call], count: int) -> dict[str, list[float]]:
    """The seconds of each call in each of some interleaved rounds, for calls that take long."""
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(count):
        for name, call in calls.items():
            samples[name].append(timed(call, 1))
    return samples


def quartiles(sample: list[float]) -> Timing:
    return Timing(*statistics.quantiles(sample, n=4, method="inclusive"))


def measure(contenders: Contenders, budget: float) -> dict[str, Timing]:
    """At least 5 and at most 31 interleaved rounds, as the budget allows; the fastest formulation counts."""
    calls = [(name, call) for name, formulations in contenders.items() for call in formulations]
    once = [timed(call, 1) for _, call in calls]
    repeats = [max(1, min(2000, int(1e-3 / seconds))) for seconds in once]
    rounds = max(5, min(31, int(budget / sum(max(2 * t, SETTLE_SECONDS) for t in once))))
    samples: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for sample, (_, call), repeat in zip(samples, calls, repeats, strict=True):
            settle(call)
            sample.append(timed(call, repeat))
    timings: dict[str, Timing] = {}
    for (name, _), sample in zip(calls, samples, strict=True):
        timing = quartiles(sample)
        if name not in timings or timing.median < timings[name].median:
            timings[name] = timing
    return timings


def straying(timings: dict[str, Timing], usual: float) -> float:
    """How far the control is from its usual median, or its quartiles from each other, relative to the median."""
    control = timings[COPY]
    return max(abs(control.median / usual - 1), (control.upper - control.lower) / 2 / control.median)


def measure_rows(tasks: dict[str, Contenders], budget: float) -> dict[str, tuple[dict[str, Timing], float]]:
    """For each operation on the same arrays, its timings, and how far the control strayed in the best run."""
    timings = {operation: measure(contenders, budget) for operation, contenders in tasks.items()}
    usual = statistics.median(t[COPY].median for t in timings.values()) if timings else 0.0
    for _ in range(AGAIN):
        for operation, contenders in tasks.items():
            if straying(timings[operation], usual) > STRAYS:
                again = measure(contenders, budget)
                timings[operation] = min(timings[operation], again, key=lambda t: straying(t, usual))
    return {operation: (t, straying(t, usual)) for operation, t in timings.items()}
