"""A grid of shapes, rows by classes, compared with the peers: the ratio of speeds as a colour, on one core.

    python benchmarks/grid.py [--dtypes float32 float64] [--only softmax ...]

438 shapes, from 1 to 8,192 rows and from 2 to 128,256 classes, with at most 4.2 million numbers. The peers are PyTorch
and ONNX Runtime in their fastest formulations; all others are slower everywhere (see ``peers.py``). Rounds are
interleaved and the shortest time counts, so that other processes on the machine matter little. Shapes at which a peer
is faster are measured once more, and the better of the two ratios counts. Writes ``results/grid/<CPU>.json`` and a
picture.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

from cells import LOST, PEERS, Row
from formulations import cxent_
from machine import HERE, ask, machine
from rows import stem_of

OPERATIONS = ["softmax", "log_softmax", "loss", "loss+grad"]
ROWS = [1, 2, 4, 8, 16, 32, 64, 256, 1_024, 8_192]
CLASSES = [
    *range(2, 11), 12, 16, 17, 20, 24, 32, 33, 40, 48, 50, 64, 65, 80, 96, 100, 112, 120, 127, 128, 129, 192, 256, 257,
    384, 500, 512, 768, 1_000, 1_024, 2_000, 4_000, 8_192, 16_000, 32_000, 50_257, 65_536, 128_256,
]  # fmt: skip
MOST_NUMBERS = 1 << 22


def shapes() -> list[tuple[int, int]]:
    return [(rows, classes) for rows in ROWS for classes in CLASSES if rows * classes <= MOST_NUMBERS]


def draw(rows: list[Row], title: str) -> Any:
    """One panel per dtype and operation, with a cross where a peer is faster."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "cxent"
    import matplotlib.pyplot as plt
    import numpy as np
    from matplotlib.colors import TwoSlopeNorm

    panels = list(dict.fromkeys((row["dtype"], row["operation"]) for row in rows))
    size = (9, 0.6 + 1.7 * len(panels))
    figure, axes = plt.subplots(len(panels), 1, figsize=size, squeeze=False, layout="constrained")
    norm = TwoSlopeNorm(0, math.log2(0.5), math.log2(8))
    for axis, panel in zip(axes[:, 0], panels, strict=True):
        image = np.full((len(ROWS), len(CLASSES)), np.nan)
        for row in rows:
            if (row["dtype"], row["operation"]) == panel:
                place = ROWS.index(row["rows"]), CLASSES.index(row["classes"])
                image[place] = math.log2(row["ratio"])
                if row["ratio"] < LOST:
                    axis.text(place[1], place[0], "x", ha="center", va="center", fontsize=7)
        shown = axis.imshow(image, norm=norm, cmap="RdBu", aspect="auto")
        named = range(0, len(CLASSES), 4)  # (all names would be too small to read)
        axis.set_xticks(named, [f"{CLASSES[k]:,}" for k in named], fontsize=8)
        axis.set_yticks(range(0, len(ROWS), 3), [f"{n:,}" for n in ROWS[::3]], fontsize=8)
        axis.set_title(", ".join(panel), fontsize=10)
        axis.set_ylabel("rows", fontsize=8)
    axes[-1, 0].set_xlabel("classes", fontsize=9)
    bar = figure.colorbar(shown, ax=axes[:, 0], ticks=[-1, 0, 1, 2, 3], fraction=0.02)
    bar.ax.set_yticklabels(["1/2", "1", "2", "4", "8"], fontsize=8)
    figure.suptitle(title, fontsize=10)
    return figure


def draw_grid(results: dict[str, Any], path: Path) -> None:
    cpu = results["machine"]["cpu"]
    title = f"cxent's speed to that of the faster of PyTorch and ONNX Runtime\n{cpu}, one core (blue: cxent is faster)"
    draw(results["rows"], title).savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtypes", nargs="+", default=["float32", "float64"])
    parser.add_argument("--only", nargs="+", default=OPERATIONS, choices=OPERATIONS)
    arguments = parser.parse_args()
    about = machine({module.NAME: module.DISTRIBUTION for module in [cxent_, *PEERS]})
    rows = ask("cells", 1, shapes=shapes(), dtypes=arguments.dtypes, operations=arguments.only)
    for dtype, operation in dict.fromkeys((row["dtype"], row["operation"]) for row in rows):
        ratios = sorted(row["ratio"] for row in rows if (row["dtype"], row["operation"]) == (dtype, operation))
        lost = sum(ratio < LOST for ratio in ratios)
        median = ratios[len(ratios) // 2]
        print(f"{dtype} {operation}: {lost} of {len(ratios)} lost, from {ratios[0]:.2f}, median {median:.2f}")
    stem = HERE / "results" / "grid" / stem_of(about)
    results = {"machine": about, "rows": rows}
    stem.with_suffix(".json").write_text(json.dumps(results) + "\n")
    draw_grid(results, stem.with_suffix(".svg"))


if __name__ == "__main__":
    main()
