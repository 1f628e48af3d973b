"""Time and memory of the loss and gradients of a linear layer, compared with its three matrix products alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from cases import Call
from machine import answer
from measure import rounds
from memory import peak_of

ROWS, WIDTH, CLASSES = 2048, 768, 50_257
PRODUCTS = "the three products"
HALVES = ("float16", "bfloat16")


def products(hidden: Any, weight: Any) -> Call:
    """The matrix products, with preallocated output."""
    logits = np.empty((len(hidden), len(weight)), np.float32)
    grads = np.empty_like(hidden), np.empty_like(weight)

    def call() -> None:
        np.matmul(hidden, weight.T, out=logits)
        np.matmul(logits, weight, out=grads[0])
        np.matmul(logits.T, hidden, out=grads[1])

    return call


def of_torch(hidden: Any, weight: Any, labels: Any, threads: int) -> dict[str, Call]:
    """PyTorch's formulations, as far as they are available."""
    try:
        import torch
        from torch.nn.functional import cross_entropy, linear
    except ImportError:
        return {}
    torch.set_num_threads(threads)
    hidden, weight = (torch.from_numpy(array).requires_grad_() for array in (hidden, weight))
    labels = torch.from_numpy(labels)

    def gradients(loss: Any) -> Any:
        return torch.autograd.grad(loss, (hidden, weight))

    found: dict[str, Call] = {"PyTorch, all logits": lambda: gradients(cross_entropy(linear(hidden, weight), labels))}
    try:
        from torch.nn.functional import linear_cross_entropy
        from torch.nn.modules.linear_cross_entropy_options import LinearCrossEntropyOptions
    except ImportError:
        return found
    options = LinearCrossEntropyOptions()
    found["PyTorch, in chunks"] = lambda: gradients(linear_cross_entropy(hidden, weight, labels, options=options))
    return found


def of_cxent(hidden: Any, weight: Any, labels: Any, threads: int) -> Call:
    import cxent

    return lambda: cxent.linear_cross_entropy_with_grad(hidden, weight, labels, workers=threads)


def layer(what: str, threads: int) -> dict[str, Any]:
    """The seconds of each round, or the peak in bytes besides inputs and gradients."""
    import ml_dtypes  # noqa: F401 (registers bfloat16 with NumPy)

    rng = np.random.default_rng(0)
    hidden = rng.standard_normal((ROWS, WIDTH), np.float32)
    weight = rng.standard_normal((CLASSES, WIDTH), np.float32) / np.float32(WIDTH**0.5)
    labels = rng.integers(0, CLASSES, ROWS)
    calls = {"cxent": of_cxent(hidden, weight, labels, threads), **of_torch(hidden, weight, labels, threads)}
    result_bytes = dict.fromkeys(calls, hidden.nbytes + weight.nbytes)
    for dtype in HALVES:
        arrays = hidden.astype(dtype), weight.astype(dtype)
        name = f"cxent, {dtype}"
        calls[name] = of_cxent(*arrays, labels, threads)
        result_bytes[name] = sum(array.nbytes for array in arrays)
    if what == "memory":
        return {name: peak_of(call) - result_bytes[name] for name, call in calls.items()}
    return rounds({PRODUCTS: products(hidden, weight), **calls}, 7)


if __name__ == "__main__":
    answer(layer)
