"""The configuration: which kernels are in use, and the default number of threads."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Literal, SupportsIndex

import numpy as np

from . import _workers, kernels
from ._options import one_of, thread_count
from ._types import Config


def show_config(mode: Literal["stdout", "dicts"] = "stdout") -> Config | None:
    """Print which kernels are in use, and which are available on this machine.

    The kernels are chosen once, at import: the fastest that the CPU can run. The environment variable ``CXENT_ISA``
    forces one of ``python``, ``baseline``, ``v3`` (AVX2 and FMA) and ``v4`` (AVX-512).

    Parameters
    ----------
    mode : {"stdout", "dicts"}, default "stdout"
        Whether to print the information or to return it as dictionaries, as in `numpy.show_config`.

    Returns
    -------
    None or dict
        With mode "dicts": under "versions" the versions of cxent, numpy and python; under "kernels" those "in_use",
        whether they are "forced", and those "available", slowest first.

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


def get_workers() -> int:
    """The default number of threads: 1, or the value set by `set_workers` or ``CXENT_WORKERS``.

    Returns
    -------
    int
        The number of threads, at most one for each CPU that this process may use.

    Raises
    ------
    ValueError
        If ``CXENT_WORKERS`` is below minus the number of CPUs.

    See Also
    --------
    set_workers : Set the default for a block of code.

    Notes
    -----
    It works like `scipy.fft.get_workers`.

    Examples
    --------
    >>> import cxent
    >>> cxent.get_workers()
    1
    """
    return thread_count(None, "CXENT_WORKERS")


def set_workers(workers: SupportsIndex) -> AbstractContextManager[None]:
    """A context manager that sets the default number of threads, for calls without `workers`.

    It applies to the thread or asynchronous task that enters it. To set the default for a whole process, set
    ``CXENT_WORKERS`` in the environment before cxent is imported.

    Parameters
    ----------
    workers : int
        Number of threads; -1 means all CPUs that this process may use.

    Returns
    -------
    context manager
        To be used in a ``with`` statement.

    Raises
    ------
    TypeError, ValueError
        If `workers` is not an integer, 0, or below minus the number of CPUs.

    See Also
    --------
    get_workers : The current default.

    Notes
    -----
    It works like `scipy.fft.set_workers`. The results have the same bits for any number of threads.

    Examples
    --------
    >>> import numpy as np
    >>> import cxent
    >>> with cxent.set_workers(-1):
    ...     p = cxent.softmax(np.zeros((100_000, 10)))
    """
    if workers is None:  # (elsewhere None means the default)
        raise TypeError("workers must be an integer, got None")
    return _with_workers(thread_count(workers))


@contextmanager
def _with_workers(workers: int) -> Iterator[None]:
    before = _workers.default.set(workers)
    try:
        yield
    finally:
        _workers.default.reset(before)
