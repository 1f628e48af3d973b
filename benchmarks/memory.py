"""Peak memory added by a call, in multiples of the logits, as reported by the kernel (Linux only)."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np
from cases import MEMORY_SHAPE, OPERATIONS, SHAPES, Call, Case
from formulations import installed
from machine import answer

TIMES = 3  # the lowest counts, since JAX copies its inputs in the background at first

Peaks = dict[str, dict[str, float]]


def resident(field: str) -> int:
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split(field + ":")[1].split()[0])


def peak_of(call: Call) -> int:
    """The peak in bytes. A result counts unless it is written to existing memory."""
    result = call()  # (one-time allocations of the first call do not count)
    del result
    ctypes.CDLL(None).malloc_trim(0)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak
    result = call()  # kept, so that it counts
    del result
    return max(0, resident("VmHWM") - before)


def memory(shape: str = MEMORY_SHAPE) -> Peaks:
    """By operation and peer; the formulation with the lowest peak counts."""
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
