"""Calibration and comparison of logits compared with the peers, float32.

    python benchmarks/evaluation.py [--threads 1 2] [--out FILE]

`fit_temperature`, `reliability` and `compare_logits`, scikit-learn's functions, and the same formulas in SciPy, PyTorch
and JAX (see ``metrics.py``): the time of each, and the peak memory that a call adds. Takes eight minutes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

from formulations import cxent_, jax_, numpy_, scipy_, sklearn_, torch_
from machine import ask, machine
from metrics import Row
from report import ratio, table
from rows import ratio_to_best

PEERS = [cxent_, scipy_, sklearn_, torch_, jax_]
NAMES = [peer.NAME for peer in PEERS]


def milliseconds(row: Row, name: str) -> str:
    if name not in row["seconds"]:
        return "-"
    text = f"{1e3 * row['seconds'][name]:.3g}"
    return f"**{text}**" if row["seconds"][name] < row["seconds"]["cxent"] else text


def megabytes(row: Row, name: str) -> str:
    return f"{row['bytes'][name] / 1e6:.1f}" if name in row["bytes"] else "-"


def lines_of(rows: list[Row], cell: Callable[[Row, str], str]) -> list[list[str]]:
    places = [[row["operation"], " x ".join(f"{n:,}" for n in row["shape"])] for row in rows]
    return [[*place, *(cell(row, name) for name in NAMES)] for place, row in zip(places, rows, strict=True)]


def page(timed: dict[int, list[Row]], peaks: list[Row]) -> Iterator[str]:
    head = ["operation", "rows x classes", *NAMES]
    for threads, rows in timed.items():
        yield f"\n## Milliseconds, {'one core' if threads == 1 else f'{threads} cores'}\n"
        lines = lines_of(rows, milliseconds)
        yield from table(
            [*head, "ratio"], [[*line, ratio(ratio_to_best(r))] for line, r in zip(lines, rows, strict=True)]
        )
    yield "\n## Memory\n\nMB that a call adds at its peak, one core.\n"
    yield from table(head, lines_of(peaks, megabytes))
    reasons: dict[tuple[str, str], None] = {}
    for row in peaks:
        reasons |= {(name, f"{reason}: {row['operation']}"): None for name, reason in row["reasons"].items()}
    yield "\n## Dashes\n"
    yield from (f"- {name} {reason}." for name, reason in reasons)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--out", type=Path, help="where to write the tables")
    chosen = parser.parse_args()
    about = machine({peer.NAME: peer.DISTRIBUTION for peer in [*PEERS, numpy_]})
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    timed = {n: ask("metrics", n, what="time", threads=n) for n in chosen.threads}
    peaks = ask("metrics", 1, keep_memory=False, what="memory", threads=1)
    lines = [
        f"# Calibration and comparison of logits on {about['cpu']}",
        "",
        f"float32, {about['kernels']} kernels, {versions}, {about['date']}.",
        "",
        "Each result agrees with a float64 reference. SciPy and scikit-learn use one core. *Ratio* is the time of the",
        "fastest peer divided by cxent's; **bold** where the peer is faster.",
        *page(timed, peaks),
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if chosen.out:
        chosen.out.write_text(text)


if __name__ == "__main__":
    main()
