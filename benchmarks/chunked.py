"""Time, memory and passes over the data for Dask arrays with classes in several chunks, compared with SciPy."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

os.environ["SCIPY_ARRAY_API"] = "1"  # (read when SciPy is imported; makes it accept Dask arrays)

import numpy as np
from machine import answer
from measure import rounds
from memory import peak_of

SHAPE = (2048, 65_536)
CHUNKS = (512, 8_192)


def made(block_info: Any = None) -> Any:
    """Logits that are computed from their positions."""
    rows, classes = (np.arange(*bounds, dtype=np.float32) for bounds in block_info[None]["array-location"])
    return 4 * np.sin(0.37 * rows[:, np.newaxis] + 0.001 * classes * (1 + rows[:, np.newaxis] % 7))


def functions(labels: Any) -> dict[str, dict[str, Callable[..., Any]]]:
    """By operation and contender: functions of the lazy logits."""
    import dask.array as da
    from scipy import special

    import cxent.dask

    one_hot = da.from_array(labels[:, np.newaxis], chunks=(CHUNKS[0], 1)) == da.arange(SHAPE[1], chunks=CHUNKS[1])

    def loss(x: Any) -> Any:
        return (special.logsumexp(x, axis=-1) - da.where(one_hot, x, 0).sum(axis=-1)).mean()

    return {
        "logsumexp": {"cxent": cxent.dask.logsumexp, "SciPy": lambda x: special.logsumexp(x, axis=-1)},
        "softmax, the largest": {
            "cxent": lambda x: cxent.dask.softmax(x).max(axis=-1),
            "SciPy": lambda x: special.softmax(x, axis=-1).max(axis=-1),
        },
        "log-softmax, the largest": {
            "cxent": lambda x: cxent.dask.log_softmax(x).max(axis=-1),
            "SciPy": lambda x: special.log_softmax(x, axis=-1).max(axis=-1),
        },
        "loss": {"cxent": lambda x: cxent.dask.cross_entropy(x, labels), "SciPy": loss},
        "loss and gradient, the largest": {
            "cxent": lambda x: cxent.dask.cross_entropy_with_grad(x, labels)[1].max(axis=-1)
        },
    }


def chunked(what: str, threads: int) -> dict[str, dict[str, Any]]:
    """By operation and contender: the seconds of each round, the peak in bytes, or the number of arrays passed between
    tasks."""
    import dask
    import dask.array as da
    from dask.callbacks import Callback

    chunks = da.core.normalize_chunks(CHUNKS, SHAPE)
    logits = da.map_blocks(made, chunks=chunks, dtype=np.float32, meta=np.empty((0, 0), np.float32))

    def call(function: Callable[..., Any]) -> Callable[[], Any]:
        return lambda: dask.compute(function(logits), scheduler="threads", num_workers=threads)

    def arrays(function: Callable[[], Any]) -> float:
        """Of the logits' size, that one task makes for others."""
        sizes: list[int] = []
        with Callback(posttask=lambda _key, result, *_: sizes.append(getattr(result, "nbytes", 0))):
            function()
        block = 4 * np.prod(CHUNKS)
        return float(sum(size for size in sizes if size >= block) / logits.nbytes)

    found: dict[str, dict[str, Any]] = {}
    for operation, contenders in functions(np.arange(SHAPE[0])).items():
        calls = {name: call(function) for name, function in contenders.items()}
        if what == "time":
            found[operation] = rounds(calls, 7)
        else:
            found[operation] = {
                name: peak_of(each) if what == "memory" else arrays(each) for name, each in calls.items()
            }
    return found


if __name__ == "__main__":
    answer(chunked)
