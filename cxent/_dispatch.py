"""Which kernel module serves this process.

The fastest that the CPU can run, or the one that the environment variable ``CXENT_ISA`` names.
"""

from __future__ import annotations

import os
import sys
import warnings
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

# Slowest first: the name, the x86-64 level that it needs (0: no compiled code at all), and its module.
_LEVELS = {
    "python": (0, "_kernels_py"),
    "baseline": (1, "_kernels"),
    "v3": (3, "_kernels_v3"),
    "v4": (4, "_kernels_v4"),
}


def load(name: str) -> ModuleType:
    """The kernel module of that name."""
    return import_module("." + _LEVELS[name][1], __package__)


def supported() -> list[str]:
    """The names of the kernel modules that this CPU can run, slowest first."""
    try:
        from ._cpu import x86_level
    except ImportError:  # as with the kernels: without a compiled module there is the pure one
        return ["python"]
    return [name for name, (level, _) in _LEVELS.items() if level <= x86_level()]


def available() -> list[str]:
    """Those of the supported kernel modules that are installed, slowest first."""
    names = []
    for name in supported():
        try:
            load(name)
        except ImportError:
            continue
        names.append(name)
    return names


def _choose(wanted: str) -> tuple[str, ModuleType]:
    if wanted:
        if wanted not in available():
            raise ValueError(f"CXENT_ISA is {wanted!r}, but this machine has: {', '.join(available())}")
        return wanted, load(wanted)
    for name in reversed(supported()):
        try:
            module = load(name)
        except ImportError:
            continue
        if name != "python":
            return name, module
    warnings.warn(
        "cxent's compiled kernels are missing, so the pure-NumPy ones are used, which are many times slower. "
        "To build them, install a C compiler and run `pip install .` in the source of cxent",
        RuntimeWarning,
        stacklevel=2,
    )
    return "python", load("python")


if TYPE_CHECKING:
    from . import _kernels

    kernel_name: str
    kernels = _kernels
else:
    kernel_name, kernels = _choose(os.environ.get("CXENT_ISA", ""))


def show_config() -> None:
    """Print which kernels serve this process, and what else there is on this machine.

    The kernels are chosen once, at import: the fastest that the CPU can run. The environment variable
    ``CXENT_ISA`` forces one of ``python``, ``baseline``, ``v3`` (AVX2 and FMA) and ``v4`` (AVX-512).

    Examples
    --------
    >>> import cxent
    >>> cxent.show_config()  # doctest: +ELLIPSIS
    cxent ...
    kernels in use: ...
    kernels available: python...
    """
    from . import __version__

    forced = " (forced by CXENT_ISA)" if os.environ.get("CXENT_ISA") else ""
    print(f"cxent {__version__}, NumPy {np.__version__}, Python {sys.version.split()[0]}")
    print(f"kernels in use: {kernel_name}{forced}")
    print(f"kernels available: {', '.join(available())}")
