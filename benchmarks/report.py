"""``README.md`` and the chart from ``results.json``: ``python benchmarks/report.py``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent

INTRODUCTION = """# Benchmarks

    pip install -e '.[bench]' && python benchmarks/peers.py

These tables are those of version 0.1, whose kernels were others; they stay until they are measured again.

cxent beside its peers in one run. Every peer has its fastest formulation, preallocated output where it can take it, and
an allocator that keeps freed memory; `peers.py` has them all. Runs are interleaved; the numbers are medians.

Speeds are in 10^9 elements (logits) a second; 1 x 10 is in microseconds a call, results allocated. *Ratio* is cxent's
speed to that of the best peer, and *copy* its speed to that of `np.copyto` of the logits, which reads and writes what
a softmax must (with two cores, over two threads where that is faster). **Bold** is where a peer is faster. "Soft"
targets are probabilities, the others class indices; "smoothed" has class weights and label smoothing; "masked" has a
mask of the logits' shape. A dash: the peer has no such operation, or not for this dtype or axis. (NumPy, SciPy,
scikit-learn and ONNX Runtime do not compute half precision, or number by number.)
"""


def peers_of(row: dict[str, Any]) -> dict[str, float]:
    return {name: t for name, t in row["seconds"].items() if name not in ("cxent", "np.copyto")}


def ratio_to_best(row: dict[str, Any]) -> float:
    return float(min(peers_of(row).values()) / row["seconds"]["cxent"])


def speed_table(rows: list[dict[str, Any]], names: list[str]) -> Iterator[str]:
    yield "| shape | operation | " + " | ".join(names) + " | np.copyto | ratio | copy |"
    yield "|---" * (len(names) + 5) + "|"
    for row in rows:
        small = row["elements"] < 1000

        def cell(name: str, row: dict[str, Any] = row, small: bool = small) -> str:
            if name not in row["seconds"]:
                return "-"
            seconds = row["seconds"][name]
            text = f"{1e6 * seconds:.3g} us" if small else f"{row['elements'] / seconds / 1e9:.3g}"
            return f"**{text}**" if name != "np.copyto" and seconds < row["seconds"]["cxent"] else text

        ratio = ratio_to_best(row)
        yield (
            f"| {row['shape']} | {row['operation']} | "
            + " | ".join(cell(name) for name in [*names, "np.copyto"])
            + f" | {f'{ratio:.2f}' if ratio >= 1 else f'**{ratio:.2f}**'} "
            + f"| {row['seconds']['np.copyto'] / row['seconds']['cxent']:.2f} |"
        )


def memory_table(memory: dict[str, dict[str, float]], names: list[str]) -> Iterator[str]:
    yield "| operation | " + " | ".join(names) + " |"
    yield "|---" * (len(names) + 1) + "|"
    for operation, peaks in memory.items():
        yield f"| {operation} | " + " | ".join(f"{peaks[n]:.2f}" if n in peaks else "-" for n in names) + " |"


def report(results: dict[str, Any]) -> str:
    machine = results["machine"]
    names = list(machine["versions"])
    lines = [INTRODUCTION]
    lines.append(
        f"{machine['cpu']}, {machine['kernels']} kernels, Python {machine['python']}, "
        + ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
        + f"; {machine['date']}."
    )
    if results["missing"]:
        lines.append(f"\nNot installed, and left out: {', '.join(results['missing'])}.")
    for threads in sorted({row["threads"] for row in results["rows"]}):
        for dtype in dict.fromkeys(row["dtype"] for row in results["rows"] if row["threads"] == threads):
            rows = [row for row in results["rows"] if row["threads"] == threads and row["dtype"] == dtype]
            where = "one core" if threads == 1 else f"{threads} cores, `workers={threads}`"
            lost = sum(ratio_to_best(row) < 1 for row in rows)
            lines.append(f"\n## {dtype}, {where}\n\nA peer is faster in {lost} of {len(rows)} rows.\n")
            lines.extend(speed_table(rows, names))
    lines.append(
        "\n## Memory\n\nPeak memory that one call adds, in multiples of the logits, 512 x 32,000 in float32. A result"
        "\ncounts unless it goes to memory that was there.\n"
    )
    lines.extend(memory_table(results["memory"], names))
    return "\n".join(lines) + "\n"


def chart(results: dict[str, Any], path: Path) -> None:
    """cxent and its best peer at every shape but the smallest: float32, one core."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "cxent"
    import matplotlib.pyplot as plt

    rows = [r for r in results["rows"] if r["threads"] == 1 and r["dtype"] == "float32" and r["elements"] > 1000]
    shapes = list(dict.fromkeys(row["shape"] for row in rows))
    figure, panels = plt.subplots(1, 3, figsize=(10, 3.6), sharey=True, layout="constrained")
    for panel, operation in zip(panels, ("softmax", "loss", "loss+grad"), strict=True):
        for place, shape in enumerate(reversed(shapes)):
            row = next(r for r in rows if r["shape"] == shape and r["operation"] == operation)
            peers = peers_of(row)
            best = min(peers, key=peers.__getitem__)
            ours, theirs = (row["elements"] / t / 1e9 for t in (row["seconds"]["cxent"], peers[best]))
            panel.barh(place + 0.2, ours, 0.38, color="#1f5fa8", label="cxent" if place == 0 else None)
            panel.barh(place - 0.2, theirs, 0.38, color="#b9bec6", label="best peer" if place == 0 else None)
            panel.text(theirs, place - 0.2, f" {best}", va="center", fontsize=7)
            panel.text(ours, place + 0.2, f" {ours / theirs:.2g}x", va="center", fontsize=7)
        panel.set_title(operation, fontsize=10)
        panel.set_xlabel("10⁹ elements a second", fontsize=8)
        panel.margins(x=0.22)
        panel.tick_params(labelsize=8)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_yticks(range(len(shapes)), list(reversed(shapes)))
    panels[0].legend(fontsize=8, loc="lower right", frameon=False)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def write(results: dict[str, Any], folder: Path) -> None:
    (folder / "README.md").write_text(report(results))
    chart(results, folder / "speed.svg")


if __name__ == "__main__":
    write(json.loads((HERE / "results.json").read_text()), HERE)
