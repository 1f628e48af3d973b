"""Check arrays too large for 32-bit indices: ``python tools/large.py`` (needs 12 GB of memory and some minutes).

One array has more than 2^31 elements, one a row of more than 2^31 bytes; both are computed in place. Results are
compared with those of short arrays of the same numbers. The exit status is 1 if any differs.
"""

from __future__ import annotations

import sys

import numpy as np

import cxent


def many_rows() -> bool:
    """2^31 + 2^21 elements of float16 in rows of 16, in which the same rows repeat."""
    rows, classes = (1 << 27) + (1 << 17), 16
    pattern = np.linspace(-3, 3, 1024 * classes).astype(np.float16).reshape(1024, classes)
    x = np.empty((rows, classes), np.float16)
    x.reshape(-1, 1024, classes)[:] = pattern
    labels = np.zeros(rows, np.uint8)
    expected, gradient = cxent.cross_entropy_with_grad(pattern, labels[:1024], reduction="sum")
    loss, found = cxent.cross_entropy_with_grad(x, labels, reduction="sum", out=x, workers=-1)
    same = all(np.array_equal(found[start : start + 1024], gradient) for start in (0, rows // 2048 * 1024, rows - 1024))
    close = abs(float(loss) / (float(expected) * (rows // 1024)) - 1) < 1e-6
    print(f"{x.size:,} elements: gradients {'the same' if same else 'DIFFER'}, loss {'close' if close else 'OFF'}")
    return same and close


def long_row() -> bool:
    """A row of 2^29 + 12,345 numbers of float32, all equal except one."""
    classes = (1 << 29) + 12_345
    x = np.zeros((1, classes), np.float32)
    x[0, -1] = np.log(np.float64(classes))
    p = cxent.softmax(x, out=x)
    top, rest = float(p[0, -1]), float(p[0, 12_345])
    expected_rest = 1 / (2 * classes - 1)
    close = abs(top / (classes * expected_rest) - 1) < 1e-5 and abs(rest / expected_rest - 1) < 1e-5
    print(f"a row of {x.nbytes:,} bytes: probabilities {'close' if close else 'OFF'}")
    return close


if __name__ == "__main__":
    sys.exit(not (many_rows() and long_row()))
