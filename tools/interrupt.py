"""Check that Ctrl-C during long calls leaves the process usable: ``python tools/interrupt.py [interrupts]``.

An interrupt is raised when the call in which it occurs has ended. The next call, on the same threads, must return
correct results.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

import numpy as np

import cxent


def main() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # (a shell's background ignores it)
    times = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((4_000, 1_000)).astype(np.float32)
    labels = rng.integers(0, 1_000, 4_000)
    out = np.empty_like(logits)
    expected_loss, expected_grad = cxent.cross_entropy_with_grad(logits, labels)
    wrong = 0
    for _ in range(times):
        timer = threading.Timer(rng.uniform(0, 0.03), os.kill, (os.getpid(), signal.SIGINT))
        try:
            timer.start()
            while True:
                cxent.cross_entropy_with_grad(logits, labels, out=out, workers=2)
        except KeyboardInterrupt:
            timer.join()
        out[:] = 0
        loss, grad = cxent.cross_entropy_with_grad(logits, labels, out=out, workers=2)
        wrong += not (loss == expected_loss and np.array_equal(grad, expected_grad))
    print(f"{times} interrupts, {wrong} wrong results afterwards")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
