"""Charts: speed relative to the best peer, and time against rows and classes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from cases import CLASSES, ROWS, SCALING_OPERATIONS
from matplotlib.patches import Patch
from rows import SHOWN_OPERATIONS, Results, Row, best_peer, peers_of, ratio_to_best, short, shown

OURS, LOST = "#1f5fa8", "#c4580a"
COLOURS = ["#d9822b", "#3b8f5a", "#8a5aa8", "#8c8c8c"]
BEST = 3  # peers in a panel of the second chart


def draw(results: Results, folder: Path, stem: str) -> dict[str, str]:
    """Write the charts for which there are results; returns their descriptions."""
    matplotlib.rcParams["svg.hashsalt"] = "cxent"
    drawn = {}
    for name, (text, figure) in {
        "speed": ("cxent's speed to that of the fastest of its peers, float32, one core", speeds(results)),
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


def speeds(results: Results) -> Any:
    """cxent's speed relative to its best peer: one panel per operation, one bar per shape."""
    rows = shown(results)
    if not rows:
        return None
    shapes = list(dict.fromkeys(shape for shape, _ in rows))[::-1]
    figure, axes = plt.subplots(2, 3, figsize=(10, 1.2 + 0.7 * len(shapes)), sharey=True, layout="constrained")
    for axis, (operation, name) in zip(axes.flat, SHOWN_OPERATIONS.items(), strict=False):
        for place, shape in enumerate(shapes):
            if row := rows.get((shape, operation)):
                ratio = ratio_to_best(row)
                axis.barh(place, ratio, 0.7, color=LOST if ratio < 1 else OURS)
                text = f" {short(ratio)}  ({best_peer(row)})"
                axis.text(ratio, place, text, va="center", fontsize=7, color=LOST if ratio < 1 else "black")
        axis.axvline(1, color="black", linewidth=0.8)
        axis.set_title(name, fontsize=10)
        axis.set_xlim(0, 8)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes[:, 0]:
        axis.set_yticks(range(len(shapes)), shapes)
        axis.set_ylabel("rows x classes", fontsize=8)
    figure.supxlabel("times as fast as the fastest peer (its name in parentheses): longer is better", fontsize=9)
    axes.flat[-1].set_axis_off()
    axes.flat[-1].legend(
        handles=[Patch(color=OURS, label="cxent is faster"), Patch(color=LOST, label="the peer is faster")],
        fontsize=8, loc="center", frameon=False,
    )  # fmt: skip
    return figure


def scaling(rows: list[Row]) -> Any:
    """Time against rows and against classes. A change of method shows as a kink, a proportional cost as a slope of
    1."""
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
    """cxent, the peers that are fastest overall, and a proportional line through cxent's last point."""
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
