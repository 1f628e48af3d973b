"""Upper bounds for every contender: a copy of the logits (memory), and cxent's own exp of as many numbers
(arithmetic)."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from typing import Any

import numpy as np
from cases import Call, Case

COPY, EXP = "np.copyto", "exp"


def ceilings(case: Case) -> dict[str, list[Call]]:
    """The copy keeps the dtype; the exp of half precision is computed in float32, as in all functions."""
    import cxent

    computed = np.dtype("float32" if case.half else case.x.dtype)
    kernels = cxent.kernels.serving.of(computed)
    numbers = case.x.astype(computed).ravel()
    numbers -= numbers.max()  # at most 0, as in a softmax
    return {
        COPY: over_threads(lambda x, out: np.copyto(out, x), case.x.ravel(), case.threads),
        EXP: over_threads(partial(kernels.evaluate, "exp"), numbers, case.threads),
    }


def over_threads(function: Callable[[Any, Any], None], x: Any, threads: int) -> list[Call]:
    """As a single call, and split over the threads."""
    out = np.empty_like(x)
    whole = partial(function, x, out)
    if threads == 1 or x.size < 1000:
        return [whole]
    parts = list(zip(np.array_split(x, threads), np.array_split(out, threads), strict=True))
    executor = ThreadPoolExecutor(threads - 1)

    def in_parts() -> None:
        others = [executor.submit(function, *part) for part in parts[1:]]
        function(*parts[0])
        wait(others)

    return [whole, in_parts]
