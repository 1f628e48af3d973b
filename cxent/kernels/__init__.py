"""Which kernels serve this process.

The fastest that the CPU can run, or those that the environment variable ``CXENT_ISA`` names. Kernels of one level are
two modules, one for each dtype that is computed; those in pure NumPy are one for both.
"""

from __future__ import annotations

import os
import warnings
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np


class Kernels(NamedTuple):
    """The kernels of one level: the same functions, with the same parameters, in every module."""

    name: str
    float32: ModuleType
    float64: ModuleType

    def of(self, dtype: np.dtype[Any]) -> ModuleType:
        """Those that compute numbers of this dtype: half precision goes with float32."""
        return self.float64 if dtype.itemsize == 8 else self.float32

    def evaluate(self, function: str, x: Any) -> Any:
        """A function of every number of an array: exp and expm1 (of x <= 0), log, log1p, or exp_any, as kernels have
        them. (The bits of NumPy's depend on the CPU.)
        """
        x = np.asarray(x, order="C")
        result = np.empty_like(x)
        self.of(x.dtype).evaluate(function, x.reshape(-1), result.reshape(-1))
        return result


# Slowest first: the name, the x86-64 level that it needs (0: no compiled code at all), and its modules.
_LEVELS = {
    "python": (0, ("reference", "reference")),
    "baseline": (1, ("float32", "float64")),
    "v3": (3, ("float32_v3", "float64_v3")),
    "v4": (4, ("float32_v4", "float64_v4")),
}


def load(name: str) -> Kernels:
    """The kernels of that name."""
    return Kernels(name, *(import_module("." + module, __name__) for module in _LEVELS[name][1]))


def supported() -> list[str]:
    """The names of the kernels that this CPU can run, slowest first."""
    try:
        from .cpu import x86_level
    except ImportError:  # as with the kernels: without a compiled module there are the pure ones
        return ["python"]
    return [name for name, (level, _) in _LEVELS.items() if level <= x86_level()]


def fused() -> list[str]:
    """Those of the supported kernels that have fused multiply-add, and thus the bits that are promised."""
    try:
        from .cpu import baseline_is_fused
    except ImportError:
        return []
    return [name for name in supported() if name in ("v3", "v4") or (name == "baseline" and baseline_is_fused())]


def available() -> list[str]:
    """Those of the supported kernels that are installed, slowest first."""
    names = []
    for name in supported():
        try:
            load(name)
        except ImportError:
            continue
        names.append(name)
    return names


def _choose(wanted: str) -> Kernels:
    if wanted:
        if wanted not in available():
            raise ValueError(f"CXENT_ISA is {wanted!r}, but this machine has: {', '.join(available())}")
        return load(wanted)
    for name in reversed(supported()):
        try:
            kernels = load(name)
        except ImportError:
            continue
        if name != "python":
            return kernels
    remedy = "To build them, install a C compiler and run `pip install .` in the source of cxent"
    source = Path(__file__).parent.parent.parent
    if (source / "setup.py").exists():
        remedy = (
            f"Python found the source of cxent in {source} first: start it elsewhere, or run `pip install -e .` there"
        )
    warnings.warn(
        f"cxent's compiled kernels are missing, so the pure-NumPy ones are used, which are many times slower. {remedy}",
        RuntimeWarning,
        stacklevel=2,
    )
    return load("python")


serving = _choose(os.environ.get("CXENT_ISA", ""))
