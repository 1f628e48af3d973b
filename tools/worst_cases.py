"""The worst errors found with random rows: ``python tools/worst_cases.py [rows of each kind]``.

Rows of 2 to 5,003 classes with spreads from 0.01 to 60, around 0, 100 and -1,000. Errors are in units in the last place
(ulp) of the exact result, computed in `numpy.longdouble`, which on x86-64 has 11 bits more than float64.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

import cxent

CLASSES = [2, 3, 10, 33, 127, 128, 1_000, 5_003]
SPREADS = [0.01, 1, 10, 60]
COLUMNS = ["softmax", "log_softmax", "logsumexp", "loss", "gradient", "hessian"]


def worst_error(found: Any, exact: Any, unit: Any = None) -> float:
    """The worst error in ulp of results above the smallest normal number."""
    finfo = np.finfo(found.dtype)
    size = np.abs(exact if unit is None else unit)
    ulp = np.spacing(np.maximum(size, finfo.tiny).astype(found.dtype)).astype(np.longdouble)
    error = np.abs(found.astype(np.longdouble) - exact) / ulp
    return float(np.max(np.where(size >= finfo.tiny, error, 0)))


def worst(x: Any, labels: Any) -> list[float]:
    wide = x.astype(np.longdouble)
    rows = np.arange(len(x))
    m = wide.max(1, keepdims=True)
    e = np.exp(wide - m)
    at_top = wide.argmax(1)
    others = e.copy()
    others[rows, at_top] = 0
    rest = others.sum(1, keepdims=True)  # without the 1 of the maximum
    p, log_p, log_sum = e / (1 + rest), (wide - m) - np.log1p(rest), np.log1p(rest)
    # 1 - p is the sum of the others at the maximum; elsewhere p is at most 1/2, so 1 - p keeps its digits
    without = 1 - p
    without[rows, at_top] = (rest / (1 + rest))[:, 0]
    grad = p.copy()
    grad[rows, labels] = -without[rows, labels]
    loss = -log_p[rows, labels]
    found_loss, found_grad, found_hess = cxent.cross_entropy_with_hess(x, labels, reduction="none")
    return [
        worst_error(cxent.softmax(x), p),
        worst_error(cxent.log_softmax(x), log_p),
        worst_error(cxent.logsumexp(x), (m + log_sum)[:, 0], np.maximum(np.abs(m), log_sum)[:, 0]),
        worst_error(found_loss, loss),
        worst_error(found_grad, grad),
        worst_error(found_hess, p * without),
    ]


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    print("| | " + " | ".join(COLUMNS) + " |")
    print("|---" * (len(COLUMNS) + 1) + "|")
    for dtype in (np.float32, np.float64):
        rng = np.random.default_rng(0)
        found = []
        for classes in CLASSES:
            for spread in SPREADS:
                for offset in (0, 100, -1_000):
                    x = (offset + spread * rng.standard_normal((count, classes))).astype(dtype)
                    found.append(worst(x, rng.integers(0, classes, count)))
        print(f"| {dtype.__name__} | " + " | ".join(f"{error:.2f}" for error in np.max(found, axis=0)) + " |")


if __name__ == "__main__":
    main()
