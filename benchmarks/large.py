"""Large vocabularies compared with the peers: the loss of a linear layer, and Dask arrays with classes in several
chunks.

    python benchmarks/large.py [--out FILE]

For the layer: the time, also relative to its three matrix products alone, and the memory besides inputs and gradients.
For Dask: the time, the memory, and the number of arrays of the logits' size passed between tasks. Runs are interleaved.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chunked import CHUNKS, SHAPE
from layer import CLASSES, PRODUCTS, ROWS, WIDTH
from machine import ask, machine

THREADS = 2


def answers(script: str, what: str) -> Any:
    """Time is measured with an allocator that keeps freed memory, so that nobody waits for pages."""
    return ask(script, THREADS, keep_memory=what == "time", what=what, threads=THREADS)


def layer_table() -> Iterator[str]:
    seconds, peaks = answers("layer", "time"), answers("layer", "memory")
    yield f"A linear layer with {ROWS:,} rows, {WIDTH} dimensions and {CLASSES:,} classes: loss and gradients."
    yield ""
    yield "| | seconds | relative to the products | MB besides inputs and gradients |"
    yield "|---|---|---|---|"
    for name, sample in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(sample, seconds[PRODUCTS], strict=True))
        memory = f"{peaks[name] / 1e6:.0f}" if name in peaks else "-"
        yield f"| {name} | {statistics.median(sample):.2f} | {ratio:.2f} | {memory} |"


def chunked_table() -> Iterator[str]:
    seconds, peaks, arrays = (answers("chunked", what) for what in ("time", "memory", "arrays"))
    yield f"A Dask array of {SHAPE[0]:,} x {SHAPE[1]:,} logits in chunks of {CHUNKS[0]:,} x {CHUNKS[1]:,}."
    yield ""
    names = ("cxent", "SciPy")
    yield f"| | {' | '.join(f'{name}: seconds | MB | arrays' for name in names)} |"
    yield "|---" * 7 + "|"
    for operation, samples in seconds.items():
        cells = [operation]
        for name in names:
            if name not in samples:
                cells += ["-", "-", "-"]
                continue
            cells += [f"{statistics.median(samples[name]):.2f}", f"{peaks[operation][name] / 1e6:.0f}"]
            cells.append(f"{arrays[operation][name]:.0f}")
        yield f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure large vocabularies.")
    parser.add_argument("--out", type=Path, help="where to write the tables")
    out = parser.parse_args().out
    of = machine({"NumPy": "numpy", "SciPy": "scipy", "PyTorch": "torch", "Dask": "dask"})
    versions = ", ".join(f"{name} {version}" for name, version in of["versions"].items())
    lines = [
        f"# Large vocabularies on {of['cpu']}",
        "",
        f"float32, if nothing else is said, with {THREADS} threads, kernels {of['kernels']}, {versions}, {of['date']}.",
        "",
        *layer_table(),
        "",
        *chunked_table(),
        "",
    ]
    print("\n".join(lines))
    if out:
        out.write_text("\n".join(lines))


if __name__ == "__main__":
    main()
