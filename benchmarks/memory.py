"""Peak memory that a call adds, in multiples of the logits, as the kernel counts it (Linux only)."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np
from cases import MEMORY_SHAPE, OPERATIONS, SHAPES, Call, Case
from formulations import installed
from machine import answer

TIMES = 3  # the least counts: at first JAX copies its inputs in the background

Peaks = dict[str, dict[str, float]]


def resident(field: str) -> int:
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split(field + ":")[1].split()[0])


def peak_of(call: Call) -> int:
    """In bytes. A result counts unless it goes to memory that was there."""
    result = call()  # what is allocated once, at the first call, does not count
    del result
    ctypes.CDLL(None).malloc_trim(0)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    result = call()  # kept: it counts
    del result
    return max(0, resident("VmHWM") - before)


def memory(shape: str = MEMORY_SHAPE) -> Peaks:
    """By operation and peer; the least of a peer's formulations counts."""
    case = Case(SHAPES[shape], "float32", 1)
    np.copyto(case.out, case.x)
    peaks: Peaks = {operation: {} for operation in OPERATIONS}
    for name, formulations in installed(case)[0].items():
        for operation, calls in formulations.items():
            if not isinstance(calls, str):
                least = min(peak_of(call) for call in calls for _ in range(TIMES))
                peaks[operation][name] = round(least / case.x.nbytes, 2)
    return peaks


if __name__ == "__main__":
    answer(memory)
