"""Charts: speeds beside the best peer, and how time grows with rows and with classes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from cases import CLASSES, LARGE, ROWS, SCALING_OPERATIONS
from report import Results, Row, peers_of

OURS, THEIRS = "#1f5fa8", "#b9bec6"
COLOURS = ["#d9822b", "#3b8f5a", "#8a5aa8", "#8c8c8c"]
BEST = 3  # peers in a panel of the second chart


def draw(results: Results, folder: Path, stem: str) -> dict[str, str]:
    """Writes those for which there are results, and says what they show."""
    matplotlib.rcParams["svg.hashsalt"] = "cxent"
    drawn = {}
    for name, (text, figure) in {
        "speed": ("cxent and the fastest of its peers, float32, one core", speeds(results["rows"])),
        "scaling": ("time against rows and classes, float32, one core", scaling(results.get("scaling", []))),
    }.items():
        if figure is not None:
            figure.savefig(folder / f"{stem}-{name}.svg", metadata={"Date": None})
            plt.close(figure)
            drawn[name] = text
    return drawn


def of_one_core(rows: list[Row], group: str, operation: str) -> list[Row]:
    wanted = (1, "float32", group, operation)
    return [r for r in rows if (r["threads"], r["dtype"], r["group"], r["operation"]) == wanted and peers_of(r)]


def speeds(rows: list[Row]) -> Any:
    """cxent and its best peer at every shape past the caches."""
    operations = ("softmax", "loss", "loss+grad")
    panels = {operation: of_one_core(rows, LARGE, operation) for operation in operations}
    count = len(panels["softmax"])
    if count == 0 or any(len(panel) != count for panel in panels.values()):
        return None
    figure, axes = plt.subplots(1, 3, figsize=(10, 1 + 0.37 * count), sharey=True, layout="constrained")
    for axis, (operation, panel) in zip(axes, panels.items(), strict=True):
        for place, row in enumerate(reversed(panel)):
            peers = peers_of(row)
            best = min(peers, key=peers.__getitem__)
            ours, theirs = (row["elements"] / t / 1e9 for t in (row["seconds"]["cxent"], peers[best]))
            axis.barh(place + 0.2, ours, 0.38, color=OURS, label="cxent" if place == 0 else None)
            axis.barh(place - 0.2, theirs, 0.38, color=THEIRS, label="best peer" if place == 0 else None)
            axis.text(theirs, place - 0.2, f" {best}", va="center", fontsize=7)
            axis.text(ours, place + 0.2, f" {ours / theirs:.2g}x", va="center", fontsize=7)
        axis.set_title(operation, fontsize=10)
        axis.set_xlabel("10⁹ elements a second", fontsize=8)
        axis.margins(x=0.22)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_yticks(range(count), [row["shape"] for row in reversed(panels["softmax"])])
    axes[0].legend(fontsize=8, loc="lower right", frameon=False)
    return figure


def scaling(rows: list[Row]) -> Any:
    """Seconds against rows and against classes: a change of ways is a kink, a cost in proportion a slope of 1."""
    if not rows:
        return None
    figure, axes = plt.subplots(2, 2, figsize=(10, 7), sharey="row", layout="constrained")
    for line, operation in zip(axes, SCALING_OPERATIONS, strict=True):
        for axis, group in zip(line, (ROWS, CLASSES), strict=True):
            growth(axis, of_one_core(rows, group, operation), group)
            axis.set_title(f"{operation}, {'100 classes' if group == ROWS else '64 rows'}", fontsize=10)
        line[0].set_ylabel("seconds a call", fontsize=8)
    return figure


def growth(axis: Any, panel: list[Row], along: str) -> None:
    """cxent, the peers that are best on the whole, and a line in proportion through cxent's last point."""
    if not panel:
        return
    places = [row[along] for row in panel]
    everywhere = [name for name in peers_of(panel[0]) if all(name in row["seconds"] for row in panel)]
    logs = {name: sum(math.log(row["seconds"][name]) for row in panel) for name in everywhere}
    for name, colour in zip(["cxent", *sorted(logs, key=logs.__getitem__)[:BEST]], [OURS, *COLOURS], strict=False):
        seconds = [row["seconds"][name] for row in panel]
        wide = 2 if name == "cxent" else 1
        axis.loglog(places, seconds, color=colour, label=name, linewidth=wide, marker=".", zorder=wide + 1)
    last = panel[-1]["seconds"]["cxent"]
    line = [last * n / places[-1] for n in places]
    axis.loglog(places, line, ":", color="black", linewidth=0.8, label="in proportion")
    axis.set_xlabel(along, fontsize=8)
    axis.tick_params(labelsize=8)
    axis.legend(fontsize=8, frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
