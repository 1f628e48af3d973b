"""Large vocabularies: the loss of a linear layer, and Dask arrays whose classes are in chunks, beside the peers.

    python benchmarks/large.py [--out FILE]

Prints two tables. Of a linear layer: the time of the loss and its three gradients, in multiples of the three matrix
products alone, which interleaved runs have beside them, and the memory that a call adds to its inputs. Of Dask: the
time, the memory, and how many arrays of the logits' size tasks made. SciPy computes Dask arrays with SCIPY_ARRAY_API=1.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["SCIPY_ARRAY_API"] = "1"
THREADS = 2
os.environ.setdefault("OMP_NUM_THREADS", str(THREADS))
os.environ.setdefault("OPENBLAS_NUM_THREADS", str(THREADS))

import numpy as np  # noqa: E402 (it reads the lines above when it is imported)
from cases import Call  # noqa: E402
from machine import machine  # noqa: E402
from memory import peak_of  # noqa: E402

ROWS, WIDTH, CLASSES = 2048, 768, 50_257
CHUNKED = (2048, 65_536)
CHUNKS = (512, 8_192)
ROUNDS = 5


class Layer:
    """Hidden states, weights and labels, and memory for what the products make of them."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.hidden = rng.standard_normal((ROWS, WIDTH), np.float32)
        self.weight = rng.standard_normal((CLASSES, WIDTH), np.float32) / np.float32(WIDTH**0.5)
        self.labels = rng.integers(0, CLASSES, ROWS)

    def products(self) -> Call:
        logits = np.empty((ROWS, CLASSES), np.float32)
        grads = np.empty_like(self.hidden), np.empty_like(self.weight)

        def call() -> None:
            np.matmul(self.hidden, self.weight.T, out=logits)
            np.matmul(logits, self.weight, out=grads[0])
            np.matmul(logits.T, self.hidden, out=grads[1])

        return call

    def calls(self) -> dict[str, Call]:
        """By name; a peer that is not installed is left out."""
        import cxent

        found: dict[str, Call] = {
            "cxent": lambda: cxent.linear_cross_entropy_with_grad(
                self.hidden, self.weight, self.labels, workers=THREADS
            )
        }
        try:
            import torch
            from torch.nn.functional import cross_entropy, linear
        except ImportError:
            return found
        torch.set_num_threads(THREADS)
        hidden, weight = (torch.from_numpy(array).requires_grad_() for array in (self.hidden, self.weight))
        labels = torch.from_numpy(self.labels)

        def gradients(loss: Any) -> tuple[Any, ...]:
            return torch.autograd.grad(loss, (hidden, weight))

        found["PyTorch, all logits"] = lambda: gradients(cross_entropy(linear(hidden, weight), labels))
        try:
            from torch.nn.functional import linear_cross_entropy
            from torch.nn.modules.linear_cross_entropy_options import LinearCrossEntropyOptions
        except ImportError:
            return found
        options = LinearCrossEntropyOptions()
        found["PyTorch, in chunks"] = lambda: gradients(linear_cross_entropy(hidden, weight, labels, options=options))
        return found


def linear_table() -> list[str]:
    layer = Layer()
    calls = layer.calls()
    peaks = {name: peak_of(call) / 1e6 for name, call in calls.items()}
    everyone = {"the three products": layer.products(), **calls}
    seconds = interleaved(everyone)
    results = 4 * WIDTH * (ROWS + CLASSES) / 1e6
    lines = [
        f"A linear layer with {ROWS:,} rows, {WIDTH} dimensions and {CLASSES:,} classes in float32, with "
        f"{THREADS} threads: loss and gradients.",
        "",
        "| | seconds | to the products | MB beside inputs and gradients |",
        "|---|---|---|---|",
    ]
    for name, sample in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(sample, seconds["the three products"], strict=True))
        memory = f"{peaks[name] - results:.0f}" if name in peaks else "-"
        lines.append(f"| {name} | {statistics.median(sample):.2f} | {ratio:.2f} | {memory} |")
    return lines


def interleaved(calls: dict[str, Call]) -> dict[str, list[float]]:
    """Seconds of each call in each round."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for name in calls:
        calls[name]()
    for _ in range(ROUNDS):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def dask_table() -> list[str]:
    import dask.array as da
    from dask.callbacks import Callback
    from scipy import special

    import cxent.dask

    def made(block_info: Any = None) -> Any:
        """Logits that follow from their places."""
        rows, classes = (np.arange(*bounds, dtype=np.float32) for bounds in block_info[None]["array-location"])
        return 4 * np.sin(0.37 * rows[:, np.newaxis] + 0.001 * classes * (1 + rows[:, np.newaxis] % 7))

    chunks = da.core.normalize_chunks(CHUNKS, CHUNKED)
    logits = da.map_blocks(made, chunks=chunks, dtype=np.float32, meta=np.empty((0, 0), np.float32))
    labels = np.arange(CHUNKED[0])

    def loss_of_scipy(x: Any) -> Any:
        return -da.take_along_axis(special.log_softmax(x, axis=-1), labels[:, np.newaxis], axis=-1).mean()

    pairs: dict[str, tuple[Callable[..., Any], Callable[..., Any] | None]] = {
        "logsumexp": (cxent.dask.logsumexp, lambda x: special.logsumexp(x, axis=-1)),
        "softmax, its largest": (
            lambda x: cxent.dask.softmax(x).max(axis=-1),
            lambda x: special.softmax(x, axis=-1).max(axis=-1),
        ),
        "loss": (
            lambda x: cxent.dask.cross_entropy(x, labels),
            loss_of_scipy if hasattr(da, "take_along_axis") else None,
        ),
        "loss and gradient, its largest": (lambda x: cxent.dask.cross_entropy_with_grad(x, labels)[1].max(), None),
    }
    lines = [
        f"A Dask array of {CHUNKED[0]:,} x {CHUNKED[1]:,} logits in float32, in chunks of "
        f"{CHUNKS[0]:,} x {CHUNKS[1]:,}, with {THREADS} threads. "
        "Arrays: of the logits' size, made by tasks, the logits among them.",
        "",
        "| | cxent: seconds | arrays | MB | SciPy: seconds | arrays | MB |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, functions in pairs.items():
        cells = [name]
        for function in functions:
            if function is None:
                cells += ["-", "-", "-"]
                continue
            made_bytes = 0

            def count(_key: Any, result: Any, *_: Any) -> None:
                nonlocal made_bytes
                if isinstance(result, np.ndarray) and result.size >= np.prod(CHUNKS):
                    made_bytes += result.nbytes

            def compute(function: Callable[..., Any] = function) -> Any:
                return function(logits).compute(scheduler="threads", num_workers=THREADS)

            with Callback(posttask=count):
                compute()
            peak = peak_of(compute) / 1e6
            seconds = statistics.median(interleaved({"": compute})[""])
            cells += [f"{seconds:.2f}", f"{made_bytes / logits.nbytes:.0f}", f"{peak:.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure large vocabularies.")
    parser.add_argument("--out", type=Path, help="where to write the tables")
    out = parser.parse_args().out
    of = machine({"NumPy": "numpy", "SciPy": "scipy", "PyTorch": "torch", "Dask": "dask"})
    versions = ", ".join(f"{name} {version}" for name, version in of["versions"].items())
    lines = [f"# Large vocabularies on {of['cpu']}", "", f"Kernels {of['kernels']}, {versions}, {of['date']}.", ""]
    lines += [*linear_table(), "", *dask_table(), ""]
    print("\n".join(lines))
    if out:
        out.write_text("\n".join(lines))


if __name__ == "__main__":
    main()
