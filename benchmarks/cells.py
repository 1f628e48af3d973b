"""The cells of the grid and of ``sizes.py``: shapes, dtypes and operations, measured in a separate process (see
``machine.py``).
"""

from __future__ import annotations

import math
import sys
import time
from typing import Any

from cases import Case, Shape
from formulations import cxent_, formulations_of, jax_, onnxruntime_, scipy_, torch_
from machine import answer

PEERS = [torch_, onnxruntime_]
PEERS_OF_TWO = [torch_, jax_, scipy_]  # of two-class problems
LOST = 0.97
ROUNDS, SECONDS = 9, 4e-4

Row = dict[str, Any]


def least_seconds(calls: dict[str, Any]) -> dict[str, float]:
    repeats = {}
    for name, call in calls.items():
        call()
        start = time.perf_counter()
        call()
        repeats[name] = max(1, int(SECONDS / (time.perf_counter() - start)))
    least = dict.fromkeys(calls, math.inf)
    for _ in range(ROUNDS):
        for name, call in calls.items():
            call()
            start = time.perf_counter()
            for _ in range(repeats[name]):
                call()
            least[name] = min(least[name], (time.perf_counter() - start) / repeats[name])
    return least


def cell(shape: tuple[int, ...], dtype: str, operations: list[str]) -> list[Row]:
    """The time of each contender for each operation, and the ratio to the best peer."""
    case = Case(Shape(shape), dtype, 1)
    peers = PEERS_OF_TWO if case.two_classes else PEERS
    formulations = {module.NAME: formulations_of(module, case) for module in [cxent_, *peers]}
    found = []
    for operation in operations:
        calls = {
            (name, k): call
            for name, peer in formulations.items()
            if not isinstance(peer[operation], str)
            for k, call in enumerate(peer[operation])
        }
        best: Row = {"ratio": 0.0}
        for _ in range(2):
            seconds: dict[str, float] = {}
            for (name, _), t in least_seconds(calls).items():
                seconds[name] = min(seconds.get(name, math.inf), t)
            ratio = min(t for name, t in seconds.items() if name != "cxent") / seconds["cxent"]
            if ratio > best["ratio"]:
                best = {"ratio": ratio, "seconds": seconds}
            if ratio >= 1:
                break
        found.append({"rows": case.rows, "classes": case.classes, "dtype": dtype, "operation": operation, **best})
    return found


def cells(shapes: list[tuple[int, ...]], dtypes: list[str], operations: list[str]) -> list[Row]:
    found: list[Row] = []
    for dtype in dtypes:
        for shape in shapes:
            found += cell(tuple(shape), dtype, operations)
            for row in found[-len(operations) :]:
                if row["ratio"] < LOST:
                    name = f"{row['dtype']} {row['operation']}, {' x '.join(f'{n:,}' for n in shape)}"
                    print(f"{name}: {row['ratio']:.2f}", file=sys.stderr, flush=True)
    return found


if __name__ == "__main__":
    answer(cells)
