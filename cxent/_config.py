"""What serves this process, for people to read."""

from __future__ import annotations

import os
import sys

import numpy as np

from . import kernels


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
    print(f"kernels in use: {kernels.serving.name}{forced}")
    print(f"kernels available: {', '.join(kernels.available())}")
