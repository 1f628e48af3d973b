"""Check that a million calls, some of which fail, leak no memory: ``python tools/leaks.py [calls]``.

After a tenth of the calls, the memory of the process must not grow by more than a megabyte, so a leak of two bytes per
call would show. The exit status is 1 if it does.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import cxent

ALLOWED_REFERENCES = 1000
ALLOWED = 1 << 20


def resident_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


def calls() -> Iterator[Callable[[], Any]]:
    """An endless sequence of calls: plain ones, with options, with other layouts, and with bad input."""
    x = np.linspace(-5, 5, 40, dtype=np.float32).reshape(4, 10)
    soft = cxent.softmax(x)
    labels = np.arange(4, dtype=np.int32)
    weight = np.linspace(0.5, 1.5, 10)
    options = {"weight": weight, "label_smoothing": 0.1, "z_loss": 1e-3, "softcap": 30.0, "return_lse": True}
    good = [
        lambda: cxent.softmax(x),
        lambda: cxent.softmax(x.T, axis=0, out=np.empty_like(x.T)),
        lambda: cxent.log_softmax(x.astype(np.float16), where=x > -4),
        lambda: cxent.logsumexp(x[::-1, ::2], b=2.0, return_sign=True),
        lambda: cxent.softmax_backward(x, soft),
        lambda: cxent.softmax_jacobian(soft),
        lambda: cxent.cross_entropy(x, labels, **options),
        lambda: cxent.cross_entropy_with_grad(x, soft, reduction="none"),
        lambda: cxent.cross_entropy_with_hess(x, labels),
        lambda: cxent.cross_entropy_hvp(x, labels, x),
        lambda: cxent.cross_entropy_from_probs_with_grad(soft, labels),
        lambda: cxent.token_logprobs(x, labels, top_k=2),
        lambda: cxent.perplexity(x, labels, ignore_index=1),
        lambda: cxent.fit_temperature(x, labels, ignore_index=1),
        lambda: cxent.reliability(x, labels, sample_weight=np.arange(len(x))),
        lambda: cxent.binary_reliability(x, x > 0),
        lambda: cxent.kl_divergence_with_grad(x, x[::-1], where=x > -4, reduction="none"),
        lambda: cxent.js_divergence(x, x[::-1].astype(np.float16)),
        lambda: cxent.sharded.grad(x, cxent.sharded.part(x, labels, top_k=2), labels),
        lambda: cxent.softmax([[1.0, 2.0], [3.0, 4.0]], workers=2),
    ]
    bad = [
        lambda: cxent.cross_entropy(x, labels + 7),
        lambda: cxent.cross_entropy(x, labels[:3]),
        lambda: cxent.softmax(x.astype(complex)),
        lambda: cxent.softmax(x, axis=5),
        lambda: cxent.softmax(x, out=np.empty(3, np.float32)),
        lambda: cxent.cross_entropy(x, labels, weight=weight[:3]),
        lambda: cxent.cross_entropy(x, labels, temperature=0.0),
        lambda: cxent.logsumexp(["a"]),
        lambda: cxent.token_logprobs(x, labels, top_k=1000),
        lambda: cxent.js_divergence(x, soft, beta=1),
    ]
    while True:
        yield from good
        for call in bad:
            yield lambda call=call: refused(call)


def refused(call: Callable[[], Any]) -> None:
    try:
        call()
    except (ValueError, TypeError, IndexError):
        return
    sys.exit("bad input was accepted")


def count_of_references() -> int:
    """The number of references to all objects, which only a debug build of Python counts."""
    return sys.gettotalrefcount() if hasattr(sys, "gettotalrefcount") else 0


def main() -> None:
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    before = references = 0
    for number, call in zip(range(wanted), calls(), strict=False):
        if number == wanted // 10:
            before, references = resident_bytes(), count_of_references()
        call()
    grown = resident_bytes() - before
    print(f"{wanted:,} calls on the {cxent.kernels.serving.name} kernels: the process grew by {grown / 1024:,.0f} kB")
    kept = count_of_references() - references
    if kept:
        print(f"references: {kept:+,}")
    sys.exit(grown > ALLOWED or kept > ALLOWED_REFERENCES)


if __name__ == "__main__":
    main()
