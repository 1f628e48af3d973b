"""Call from many threads at once, on the same inputs: ``python tools/stress_threads.py [seconds]``.

Each thread makes random calls with one to four workers, and compares all bits with the result of a single call. Some
calls get helper threads, some find them busy, and some come from a process that has just forked. The exit status is 1
if any result differs.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from typing import Any

import numpy as np

import cxent
from cxent.kernels import threads

THREADS = 6


def jobs() -> list[tuple[str, tuple[Any, ...], dict[str, Any]]]:
    generator = np.random.default_rng(0)
    found: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
    for shape in ((40, 257), (700, 10), (64, 1000), (3, 40_000)):
        x = generator.standard_normal(shape, dtype=np.float32)
        labels = generator.integers(0, shape[1], shape[0])
        found += [(name, (x,), {}) for name in ("softmax", "log_softmax", "logsumexp")]
        found.append(("cross_entropy_with_grad", (x, labels), {}))
        found.append(("cross_entropy", (x, labels), {"label_smoothing": 0.1, "z_loss": 1e-3}))
    return found


def arrays(result: Any) -> list[Any]:
    return [np.asarray(part) for part in (result if isinstance(result, tuple) else (result,))]


def same_bits(result: Any, expected: list[Any]) -> bool:
    return all(np.array_equal(a, b, equal_nan=True) for a, b in zip(arrays(result), expected, strict=True))


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    threads.set_sizes(2_000, 2_000)  # so that small calls are shared too
    work = [(name, given, options, arrays(getattr(cxent, name)(*given, **options))) for name, given, options in jobs()]
    end = time.monotonic() + seconds
    counts, wrong = [0] * THREADS, [0] * THREADS

    def call_at_random(number: int) -> None:
        chance = random.Random(number)
        while time.monotonic() < end:
            name, given, options, expected = chance.choice(work)
            result = getattr(cxent, name)(*given, **options, workers=chance.randint(1, 4))
            wrong[number] += not same_bits(result, expected)
            counts[number] += 1

    running = [threading.Thread(target=call_at_random, args=(number,)) for number in range(THREADS)]
    for thread in running:
        thread.start()
    forks = failed_forks = 0
    while time.monotonic() < end:
        child = os.fork()
        if child == 0:
            name, given, options, expected = work[forks % len(work)]
            os._exit(not same_bits(getattr(cxent, name)(*given, **options, workers=3), expected))
        failed_forks += os.waitpid(child, 0)[1] != 0
        forks += 1
        time.sleep(0.05)
    for thread in running:
        thread.join()
    print(f"{sum(counts):,} calls from {THREADS} threads, {sum(wrong)} wrong; {forks} forks, {failed_forks} failed")
    sys.exit(bool(sum(wrong) or failed_forks))


if __name__ == "__main__":
    main()
