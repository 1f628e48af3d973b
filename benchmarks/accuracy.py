"""The worst errors of cxent and its peers on some rows of float32, in units in the last place.

    pip install -e '.[bench]' && python benchmarks/accuracy.py

Writes ``results/accuracy.md``, which ``docs/pictures.py`` draws. The exact results are computed in `numpy.longdouble`
(on x86-64, 11 bits more than float64).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from cases import Case, Shape
from formulations import installed
from report import RESULTS, table

OPERATIONS = ["softmax", "log_softmax", "loss", "loss+grad"]
QUANTITIES = {
    "softmax": "probabilities",
    "log_softmax": "log-probabilities",
    "loss": "loss",
    "loss+grad": "gradient at the target",
}
ROWS = {
    "[17, 0, 0], target 0": (np.array([17.0, 0, 0]), 0),
    "10 classes, all near 10,000": (np.random.default_rng(0).standard_normal(10) + 10_000, 3),
    "10 classes of spread 20": (20 * np.random.default_rng(3).standard_normal(10), 3),
    "1,000 classes": (3 * np.random.default_rng(1).standard_normal(1_000), 7),
    "1,000 classes of spread 6": (6 * np.random.default_rng(4).standard_normal(1_000), 7),
    "128,256 classes": (3 * np.random.default_rng(2).standard_normal(128_256), 7),
}


def exact(x: Any, label: int) -> dict[str, Any]:
    """Each quantity in extended precision, without losing digits of numbers just below 1."""
    wide = x.astype(np.longdouble)
    e = np.exp(wide - wide.max())
    others = np.delete(e, wide.argmax()).sum()
    p = e / (1 + others)
    log_p = (wide - wide.max()) - np.log1p(others)
    return {"softmax": p, "log_softmax": log_p, "loss": -log_p[label], "loss+grad": -np.delete(p, label).sum()}


def ulps(found: Any, expected: Any) -> float:
    """The worst error in units in the last place of the exact value; infinite if no digit is correct."""
    found, expected = np.ravel(found).astype(np.longdouble), np.ravel(expected)
    unit = np.spacing(np.maximum(np.abs(expected), np.finfo(np.float32).tiny).astype(np.float32))
    wrong = np.abs(found - expected) >= np.abs(expected)
    return float(np.max(np.where(wrong & (np.abs(expected) > unit), np.inf, np.abs(found - expected) / unit)))


def errors(x: Any, label: int) -> dict[str, dict[str, float]]:
    """For each quantity, the error of each peer in its most accurate formulation."""
    case = Case(Shape((1, len(x))), "float32", 1)
    case.x[0], case.labels[0] = x, label
    expected = exact(case.x[0], label)
    found: dict[str, dict[str, float]] = {operation: {} for operation in OPERATIONS}
    for name, formulations in installed(case)[0].items():
        for operation in OPERATIONS:
            calls = formulations[operation]
            if not isinstance(calls, str):
                results = [np.asarray(call()[1])[0, label] if "grad" in operation else call() for call in calls]
                found[operation][name] = min(ulps(result, expected[operation]) for result in results)
    return found


def text(error: float | None) -> str:
    return (
        "-"
        if error is None
        else "no correct digits"
        if np.isinf(error)
        else f"{error:.1f}"
        if error < 99
        else f"{error:,.0f}"
    )


HEAD = """\
# Errors

The worst error in float32, in units in the last place of the exact result, by `python benchmarks/accuracy.py`. A dash:
not computed. "No correct digits": the error is as large as the result, which is usually 0 then.

"""


def main() -> None:
    names: list[str] = []
    lines = []
    for row, (x, label) in ROWS.items():
        for operation, found in errors(x, label).items():
            names += [name for name in found if name not in names]
            lines.append((row, operation, found))
    cells = [
        [row, QUANTITIES[operation], *(text(found.get(name)) for name in names)] for row, operation, found in lines
    ]
    page = HEAD + "\n".join(table(["row", "result", *names], cells)) + "\n"
    (RESULTS / "accuracy.md").write_text(page)
    print(page)


if __name__ == "__main__":
    main()
