"""The gain from a second thread: right after the previous call, after a sleep, and after a matrix product of two
threads.

    python benchmarks/situations.py

Prints a Markdown table of the time with two threads divided by that with one, for cxent and PyTorch in the same
situation. Calls are interleaved, and each number is a ratio of medians.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "2")
os.environ.setdefault("OMP_NUM_THREADS", "2")

import numpy as np
from cases import Case, Shape
from formulations import cxent_, torch_
from machine import machine

SHAPES = [(4_096, 1_000), (16_384, 100)]
OPERATIONS = ["softmax", "loss+grad"]
ROUNDS = 101
MATRIX = np.random.default_rng(0).standard_normal((700, 700), np.float32)

SITUATIONS: dict[str, Callable[[], Any]] = {
    "at once": lambda: None,
    "after 2 ms": lambda: time.sleep(2e-3),
    "after 20 ms": lambda: time.sleep(2e-2),
    "after a matrix product": lambda: MATRIX @ MATRIX,
}


def seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def gains(module: Any, shape: tuple[int, int], operation: str) -> list[float]:
    """The time with two threads relative to one, in each situation."""
    calls = {}
    for threads in (1, 2):
        calls[threads] = module.formulations(Case(Shape(shape), "float32", threads))[operation][0]
    found = []
    for before in SITUATIONS.values():
        times: dict[int, list[float]] = {1: [], 2: []}
        for _ in range(ROUNDS):
            for threads, call in calls.items():
                if module is torch_:
                    import torch

                    torch.set_num_threads(threads)
                if before is SITUATIONS["at once"]:
                    call()
                before()
                times[threads].append(seconds(call))
        found.append(statistics.median(times[2]) / statistics.median(times[1]))
    return found


def main() -> None:
    about = machine({module.NAME: module.DISTRIBUTION for module in (cxent_, torch_)})
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    print(f"{about['cpu']}, {about['kernels']}, {versions}, {about['date']}\n")
    print("| | | " + " | ".join(SITUATIONS) + " |")
    print("|---|---|" + "---|" * len(SITUATIONS))
    for rows, classes in SHAPES:
        for operation in OPERATIONS:
            for module in (cxent_, torch_):
                numbers = " | ".join(f"{ratio:.2f}" for ratio in gains(module, (rows, classes), operation))
                print(f"| {operation}, {rows:,} x {classes:,} | {module.NAME} | {numbers} |", flush=True)


if __name__ == "__main__":
    main()
