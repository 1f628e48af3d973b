"""The rows of the tables: all shapes, dtypes and operations, measured in a separate process (see ``machine.py``)."""

from __future__ import annotations

import sys
from typing import Any

from cases import WIDE_DTYPES, Case, Shape
from ceilings import COPY, EXP, ceilings
from formulations import installed
from machine import answer
from measure import Contenders, measure_rows
from reference import Reference, error_of, tolerance

Row = dict[str, Any]
WRONG = "is not exact enough to be timed"


def speed(threads: int, shapes: list[Any], operations: list[str], dtypes: list[str], budget: float) -> dict[str, Any]:
    """The rows, and the names of the peers that are not installed. Half precision is measured on one core only."""
    rows: list[Row] = []
    missing: list[str] = []
    for dtype in dtypes if threads == 1 else [d for d in dtypes if d in WIDE_DTYPES]:
        for shape in (Shape(tuple(sizes), axis, group) for sizes, axis, group in shapes):
            case = Case(shape, dtype, threads)
            about = {"threads": threads, "dtype": dtype, "group": shape.group, "shape": shape.label}
            found, missing = rows_of(case, operations, budget)
            rows += [{**about, **row} for row in found]
            for row in rows[-len(found) :]:
                print(line_of(row), file=sys.stderr, flush=True)
    return {"rows": rows, "missing": missing}


def rows_of(case: Case, operations: list[str], budget: float) -> tuple[list[Row], list[str]]:
    peers, missing = installed(case)
    reference = Reference(case)
    limits = ceilings(case)
    tasks: dict[str, Contenders] = {}
    rows: dict[str, Row] = {}
    for operation in case.operations(operations):
        expected = reference.result(operation)
        row = {"operation": operation, "elements": case.x.size, "rows": case.rows, "classes": case.classes}
        rows[operation] = {**row, "reasons": {}, "errors": {}}
        tasks[operation] = {}
        for name, formulations in peers.items():
            calls = formulations[operation]
            if isinstance(calls, str):
                rows[operation]["reasons"][name] = calls
                continue
            errors = [error_of(call(), expected, case.x.dtype.name) for call in calls]
            allowed = tolerance(operation, case.x.dtype.name)
            good = [call for call, error in zip(calls, errors, strict=True) if error <= allowed]
            rows[operation]["errors"][name] = [float(f"{error:.3g}") for error in errors]
            if good:
                tasks[operation][name] = good
            else:
                rows[operation]["reasons"][name] = WRONG
        tasks[operation] |= limits
    for operation, (timings, strayed) in measure_rows(tasks, budget).items():
        rows[operation]["seconds"] = {name: timing.median for name, timing in timings.items()}
        rows[operation]["quartiles"] = {name: [timing.lower, timing.upper] for name, timing in timings.items()}
        rows[operation]["strayed"] = round(strayed, 3)
    return list(rows.values()), missing


def line_of(row: Row) -> str:
    """One row, to print as it is measured."""
    seconds = row["seconds"]
    rates = "  ".join(f"{name} {row['elements'] / t / 1e9:.3g}" for name, t in seconds.items())
    best = min((name for name in seconds if name not in ("cxent", COPY, EXP)), key=seconds.__getitem__, default="cxent")
    ratio = seconds[best] / seconds.get("cxent", float("nan"))
    faults = "".join(f"  {name} {WRONG}: {row['errors'][name]}" for name, r in row["reasons"].items() if r == WRONG)
    place = f"{row['threads']} {row['dtype']} {row['shape']:27s} {row['operation']:20s}"
    return f"{place} {ratio:6.2f} x {best:13s} {rates}{faults}"


if __name__ == "__main__":
    answer(speed)
