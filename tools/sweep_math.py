"""The worst errors of the kernels' functions, in units in the last place: ``python tools/sweep_math.py``.

For float32: exp and the exponential of rows for every argument from -200 to 0, expm1 from -20 to 0, log1p from 0 to
10^6, and log for every positive number, compared with float64. For float64: random arguments, compared with x86's
80-bit long double.
"""

from __future__ import annotations

import argparse

import numpy as np

import cxent


def worst(function: str, x: np.ndarray, wide: type) -> tuple[float, float]:
    """The worst error of results that are normal numbers, and its argument."""
    out = np.empty_like(x)
    cxent.kernels.serving.of(x.dtype).evaluate(function, x, out)
    exact = getattr(np, function.replace("exponential", "exp"))(x.astype(wide))
    if function == "exponential" and x.dtype == np.float32:
        exact *= 1.08771492767  # (the exponential of rows has this factor, which cancels)
    normal = np.abs(exact) >= np.finfo(x.dtype).smallest_normal
    size = np.abs(exact)
    ulp = np.exp2(np.floor(np.log2(np.where(normal, size, 1)))) * np.finfo(x.dtype).eps
    error = np.where(normal, np.abs(out - exact) / ulp, 0)
    place = int(error.argmax())
    return float(error[place]), float(x[place])


def floats(low: float, high: float, every: int) -> np.ndarray:
    """Every float32 number from low to high, which have the same sign, in blocks."""
    bits = np.sort(np.abs(np.array([low, high], np.float32)).view(np.uint32))
    step = 1 << 22
    for start in range(int(bits[0]), int(bits[1]) + 1, step * every):
        stop = min(start + step * every, int(bits[1]) + 1)
        x = np.arange(start, stop, every, dtype=np.uint32).view(np.float32)
        yield -x if low < 0 or high < 0 else x


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="use only every n-th float32 argument")
    every = parser.parse_args().every
    print(f"kernels: {cxent.kernels.serving.name}")
    for function, low, high in (
        ("exp", -200.0, -0.0),
        ("exponential", -200.0, -0.0),
        ("expm1", -20.0, -0.0),
        ("log1p", 0.0, 1e6),
        ("log", 1e-45, 3e38),
    ):
        error, place = max(worst(function, x, np.float64) for x in floats(low, high, every))
        print(f"float32 {function:11} {low:g} to {high:g}: {error:.3f} ulp at {place!r}")
    rng = np.random.default_rng(0)
    size = 10**7 // every
    for function, x in (
        ("exp", rng.uniform(-708, 0, size)),
        ("exp", rng.uniform(-1, 0, size)),
        ("exponential", rng.uniform(-700, 0, size)),
        ("expm1", -(2.0 ** rng.uniform(-50, 6, size))),
        ("log1p", 2.0 ** rng.uniform(-60, 40, size)),
        ("log", 2.0 ** rng.uniform(-1000, 1000, size)),
        ("log", rng.uniform(0.5, 2, size)),
    ):
        error, place = worst(function, x, np.longdouble)
        print(f"float64 {function:11} {x.min():.3g} to {x.max():.3g}: {error:.3f} ulp at {place!r}")


if __name__ == "__main__":
    main()
