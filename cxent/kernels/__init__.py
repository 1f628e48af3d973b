"""Which kernels serve this process.

The fastest that the CPU can run, or those that the environment variable ``CXENT_ISA`` names. Kernels of one level are
two modules, one for each dtype that is computed, as are the entry points to them; those in pure NumPy are one for all.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from functools import cache, lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

_ndarray = np.ndarray
_FLOAT64 = np.dtype(np.float64)
_STORAGE = {"float16": np.dtype(np.uint16), "bfloat16": np.dtype(np.int16), "bool": np.dtype(np.uint8)}


class Options(NamedTuple):
    """The options of a loss, in the order in which kernels take them."""

    ignored: int | None  # the label of rows that do not count
    label_smoothing: float
    focal_gamma: float
    z_loss: float
    softcap: float  # 0: none
    temperature: float
    divisor: float  # of the sum of the losses
    z_divisor: float  # of that of the z terms


class ScoreOptions(NamedTuple):
    """Those of scores, likewise."""

    ignored: int | None
    softcap: float
    temperature: float | Any  # a number, or an array of one for each row


class Kernels(NamedTuple):
    """The kernels of one level: the same functions, with the same parameters, in every module."""

    name: str
    float32: Any  # its entry points, or the module that is the reference
    float64: Any

    def of(self, dtype: np.dtype[Any]) -> Any:
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


def _half_name(dtype: np.dtype[Any]) -> str | None:
    """The name of half precision; None for any other dtype. (NumPy takes its time to name one.)"""
    return dtype.name if dtype.name in ("float16", "bfloat16") else None


half_name: Callable[[np.dtype[Any]], str | None] = lru_cache(maxsize=8)(_half_name)


def stored(array: Any) -> Any:
    """An array as kernels take it: half precision and booleans as their bits."""
    name = half_name(array.dtype) if array.itemsize == 2 else "bool" if array.dtype.kind == "b" else None
    return array if name is None else array.view(_STORAGE[name])


def for_plain(x: Any) -> Any:
    """Those whose ``plain_`` functions may take x: they compute plain arrays, past all checks and views of Python,
    and return None for what is none. (An array is plain if it is smaller than the caches, and its rows are evenly
    spaced in memory: in C order, for example, or of two axes with any strides.)
    """
    return serving[2] if type(x) is _ndarray and x.dtype is _FLOAT64 else serving[1]


# Slowest first: the name, and the x86-64 level that it needs (0: no compiled code at all).
_LEVELS = {
    "python": 0,
    "baseline": 1,
    "v3": 3,
    "v4": 4,
}


def load(name: str) -> Kernels:
    """The kernels of that name."""
    if name == "python":
        reference = import_module(".reference", __name__)
        return Kernels(name, reference, reference)
    return Kernels(name, *(_entry_points(dtype, name) for dtype in ("float32", "float64")))


def _new_entry_points(dtype: str, level: str) -> Any:
    """Those of a dtype, which compute with the kernels of a level."""
    kernels = import_module(f".{dtype}_{level}", __name__)
    return import_module(f".{dtype}", __name__).EntryPoints(kernels.level)


_entry_points: Callable[[str, str], Any] = cache(_new_entry_points)


def supported() -> list[str]:
    """The names of the kernels that this CPU can run, slowest first."""
    try:
        from .cpu import x86_level
    except ImportError:  # as with the kernels: without a compiled module there are the pure ones
        return ["python"]
    return [name for name, level in _LEVELS.items() if level <= x86_level()]


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
            raise ValueError(f"CXENT_ISA must be one of {', '.join(map(repr, available()))} here, got {wanted!r}")
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
