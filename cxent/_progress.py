"""For functions that take rows a chunk at a time: the size of a chunk, and reports of progress."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TypeAlias

from ._types import Progress

CHUNK_BYTES = 48 << 20


Report: TypeAlias = Callable[[int, int], object] | None


def reporter(progress: Progress, total: int) -> Report:
    """What to call after each chunk, if anything: with the number of rows done and the number of all rows."""
    report = _report(progress, total)
    if total == 0 and report is not None:  # there are no chunks, but there may be a bar to close
        report(0, 0)
    return report


def _report(progress: Progress, total: int) -> Report:
    if progress is None or progress is False:
        return None
    if progress is not True:
        if not callable(progress):
            raise TypeError(f"progress must be a callable, a boolean or None, got {progress!r}")
        return progress
    try:
        tqdm = import_module("tqdm").tqdm
    except ImportError as error:
        raise ImportError("progress=True needs tqdm: install it, or pass a callable") from error
    bar = tqdm(total=total, unit=" rows")

    def show(done: int, total: int) -> None:
        bar.update(done - bar.n)
        if done == total:
            bar.close()

    return show
