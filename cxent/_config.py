"""What serves this process, for people and for programs to read."""

from __future__ import annotations

import os
import sys
from typing import Literal, overload

import numpy as np

from . import kernels
from ._types import Config
from ._validation import one_of


@overload
def show_config(mode: Literal["stdout"] = "stdout") -> None: ...
@overload
def show_config(mode: Literal["dicts"]) -> Config: ...
def show_config(mode: Literal["stdout", "dicts"] = "stdout") -> Config | None:
    """Print which kernels serve this process, and what else there is on this machine.

    The kernels are chosen once, at import: the fastest that the CPU can run. The environment variable
    ``CXENT_ISA`` forces one of ``python``, ``baseline``, ``v3`` (AVX2 and FMA) and ``v4`` (AVX-512).

    Parameters
    ----------
    mode : {"stdout", "dicts"}, default "stdout"
        Whether to print, or to return the same as dictionaries; as in `numpy.show_config`.

    Returns
    -------
    None or dict
        With mode "dicts": under "versions" those of cxent, numpy and python; under "kernels" those "in_use", whether
        they are "forced", and those "available", slowest first.

    Raises
    ------
    ValueError
        If the mode is unknown.

    Examples
    --------
    >>> import cxent
    >>> cxent.show_config()  # doctest: +ELLIPSIS
    cxent ...
    kernels in use: ...
    kernels available: python...
    >>> cxent.show_config(mode="dicts")["kernels"]["available"]  # doctest: +ELLIPSIS
    ['python'...]
    """
    from . import __version__

    chosen = one_of(("stdout", "dicts"), mode, "mode")
    versions = {"cxent": __version__, "numpy": np.__version__, "python": sys.version.split()[0]}
    forced, available = bool(os.environ.get("CXENT_ISA")), kernels.available()
    if chosen == "dicts":
        return {
            "versions": versions,
            "kernels": {"in_use": kernels.serving.name, "forced": forced, "available": available},
        }
    print(f"cxent {versions['cxent']}, NumPy {versions['numpy']}, Python {versions['python']}")
    print(f"kernels in use: {kernels.serving.name}{' (forced by CXENT_ISA)' if forced else ''}")
    print(f"kernels available: {', '.join(available)}")
    return None
