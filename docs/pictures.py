"""Draw the pictures of the pages: ``python docs/pictures.py``, with ``--examples`` those of the examples too.

They are committed, so that the repository's host shows them. Needs `pip install -e '.[examples]'`; the examples take
about four minutes on two cores.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import FancyArrowPatch, Rectangle
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

import cxent

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "pictures"
EXAMPLES = [
    "train_digits",
    "train_language_model",
    "parallel_vocabulary",
    "score_large_vocabulary",
    "train_boosted",
    "compare_quantized",
    "calibrate",
]
STYLE = {
    "svg.hashsalt": "cxent",
    "figure.figsize": (7, 3.5),
    "figure.constrained_layout.use": True,
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.alpha": 0.3,
}
BLUE, ORANGE, GREEN, GRAY = "#1f5fa8", "#c4580a", "#2e7d4f", "#8a8f98"


def cost() -> Any:
    """Two predictions for the same label, and their cost."""
    predictions = {"near the truth": [0.05, 0.9, 0.05], "far from it": [0.8, 0.1, 0.1]}
    figure, axes = plt.subplots(1, 2, sharey=True)
    for axis, (name, p) in zip(axes, predictions.items(), strict=True):
        axis.bar(["a", "b (true)", "c"], p, color=[GRAY, BLUE, GRAY])
        axis.set_title(f"{name}: cost {cxent.cross_entropy_from_probs(p, 1):.2f}")
    axes[0].set_ylabel("probability")
    return figure


def two_classes() -> Any:
    """The two-class loss and its derivative."""
    u = np.linspace(-8, 8, 200)
    logits = np.stack([u, np.zeros_like(u)], axis=1)
    losses, grad = cxent.cross_entropy_with_grad(logits, np.zeros(200, int), reduction="none")
    figure, axis = plt.subplots()
    axis.plot(u, losses, color=BLUE, label="cross-entropy")
    axis.plot(u, grad[:, 0], color=ORANGE, label="its derivative")
    axis.set_xlabel("logit of the true class (the other is 0)")
    axis.legend()
    return figure


def gradient() -> Any:
    """The probabilities and the gradient for four classes."""
    logits = np.array([1.0, 2.5, 0.5, 1.5])
    _, grad = cxent.cross_entropy_with_grad(logits, 3)
    places = np.arange(4)
    figure, axis = plt.subplots()
    axis.bar(places - 0.2, cxent.softmax(logits), 0.4, color=BLUE, label="probability")
    axis.bar(places + 0.2, grad, 0.4, color=ORANGE, label="gradient")
    axis.set_xticks(places, ["a", "b", "c", "d (true)"])
    axis.axhline(0, color="black", linewidth=0.8)
    axis.legend()
    return figure


def smoothing_and_temperature() -> Any:
    """The effect of both options on three classes."""
    u = np.linspace(-4, 12, 200)
    logits = np.stack([u, np.zeros_like(u), np.zeros_like(u)], axis=1)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5))
    for smoothing, colour in ((0.0, BLUE), (0.1, ORANGE), (0.3, GREEN)):
        losses = cxent.cross_entropy(logits, np.zeros(200, int), label_smoothing=smoothing, reduction="none")
        left.plot(u, losses, color=colour, label=f"label_smoothing={smoothing}")
        if smoothing:
            left.plot(u[losses.argmin()], losses.min(), "o", color=colour)
    left.set(xlabel="logit of the target (the others are 0)", ylabel="loss", ylim=(0, 5))
    left.legend()
    temperatures = np.geomspace(0.1, 10, 200)
    p = cxent.softmax(np.array([2.0, 1.0, 0.0]) / temperatures[:, np.newaxis])
    for k, colour in enumerate((BLUE, ORANGE, GREEN)):
        right.semilogx(temperatures, p[:, k], color=colour, label=f"logit {2 - k}")
    right.axvline(1, color="black", linewidth=0.8)
    right.set(xlabel="temperature", ylabel="probability", ylim=(0, 1), xticks=[0.1, 1, 10])
    right.set_xticklabels(["0.1", "1", "10"])
    right.legend()
    return figure


def reliability() -> Any:
    """How often predictions are correct, by confidence, before and after the calibration on the page."""
    x, y = load_digits(return_X_y=True)
    x, x_rest, y, y_rest = train_test_split(x / 16, y, train_size=200, stratify=y, random_state=0)
    logits = LogisticRegression(C=1000, max_iter=1000).fit(x, y).decision_function(x_rest)
    half = len(y_rest) // 2
    best = cxent.fit_temperature(logits[:half], y_rest[:half]).temperature
    figure, axis = plt.subplots(figsize=(5, 4.5))
    axis.plot([0, 1], [0, 1], color="black", linewidth=0.8, label="calibrated")
    for temperature, colour, name in ((1, ORANGE, "as trained"), (best, BLUE, f"temperature {best:.1f}")):
        found = cxent.reliability(logits[half:], y_rest[half:], temperature=temperature)
        axis.plot(found.confidence, found.accuracy, "o-", color=colour, label=name)
    axis.set(xlabel="confidence: the largest probability", ylabel="share of correct predictions")
    axis.set(xlim=(0, 1.02), ylim=(0, 1.02))
    axis.legend()
    return figure


def results_of_accuracy() -> Iterator[tuple[str, str, str, float | None]]:
    """Row, result, library and error from the table of ``benchmarks/accuracy.py``; the error is None if no digit is
    correct."""
    table = (ROOT / "benchmarks" / "results" / "accuracy.md").read_text()
    head, _, *lines = [
        [c.strip() for c in line.strip("|").split("|")] for line in table.splitlines() if line[:1] == "|"
    ]
    for row, result, *cells in lines:
        for name, cell in zip(head[2:], cells, strict=True):
            if cell != "-":
                yield row, result, name, None if cell.startswith("no") else float(cell.replace(",", ""))


def errors() -> Any:
    """The errors of all libraries, as dots."""
    results = list(results_of_accuracy())
    names = list(dict.fromkeys(name for _, _, name, _ in results))[::-1]
    quantities = list(dict.fromkeys(result for _, result, _, _ in results))
    edge = 3e7
    figure, axes = plt.subplots(1, len(quantities), figsize=(11, 3.4), sharey=True)
    for axis, quantity in zip(axes, quantities, strict=True):
        counts: dict[tuple[str, float], int] = {}
        for _, result, name, error in results:
            if result == quantity:
                place = edge if error is None else max(error, 0.1)
                level = counts[name, place] = counts.get((name, place), 0) + 1
                colour = BLUE if name == "cxent" else ORANGE if error is None else GRAY
                axis.plot(place, names.index(name) + 0.14 * (level - 1), "o", color=colour, markersize=5)
        axis.axvline(4, color=BLUE, linewidth=0.8, linestyle="--")
        axis.set_xscale("log")
        axis.set_xlim(0.05, 1e8)
        axis.set_xticks([0.1, 1, 10, 1e3, 1e5, edge], ["≤0.1", "1", "10", "10³", "10⁵", "none\ncorrect"], fontsize=8)
        axis.minorticks_off()
        axis.set_title(quantity, fontsize=10)
    axes[0].set_yticks(range(len(names)), names)
    axes[0].set_ylim(-0.5, len(names))
    figure.supxlabel("error in ulp (dashed: 4 ulp, what cxent promises)", fontsize=9)
    return figure


def box(axis: Any, x: float, y: float, width: float, height: float, text: str, colour: str, size: int = 9) -> None:
    axis.add_patch(Rectangle((x, y), width, height, facecolor=colour, edgecolor="white", alpha=0.85, linewidth=2))
    axis.text(x + width / 2, y + height / 2, text, ha="center", va="center", color="white", fontsize=size)


def arrow(axis: Any, start: tuple[float, float], end: tuple[float, float]) -> None:
    axis.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=12, color="black", linewidth=1))


def boxes(width: float, height: float) -> tuple[Any, Any]:
    figure, axis = plt.subplots(figsize=(width, height))
    axis.set(xlim=(0, width), ylim=(0, height))
    axis.set_axis_off()
    return figure, axis


def shards() -> Any:
    """Two processes, from logits to gradients."""
    figure, axis = boxes(8, 3.6)
    for y, name, colour in ((2.1, "process 1", BLUE), (0.3, "process 2", GREEN)):
        axis.text(0.05, y + 0.55, name, fontsize=9, va="center")
        box(axis, 1.0, y, 1.9, 1.1, "logits of\nits classes", colour)
        box(axis, 3.5, y + 0.2, 0.8, 0.7, "part", colour)
        box(axis, 5.0, y + 0.2, 0.9, 0.7, "whole", GRAY)
        box(axis, 6.6, y, 1.3, 1.1, "loss,\ngradient of\nits classes", colour, 8)
        arrow(axis, (2.95, y + 0.55), (3.45, y + 0.55))
        arrow(axis, (4.35, y + 0.55), (4.95, y + 0.55))
        arrow(axis, (5.95, y + 0.55), (6.55, y + 0.55))
    arrow(axis, (4.3, 2.3), (5.0, 1.25))
    arrow(axis, (4.3, 1.2), (5.0, 2.25))
    for x, text in ((1.95, "rows x classes"), (3.9, "6 numbers a row"), (5.45, "merge"), (7.25, "rows x classes")):
        axis.text(x, 3.4, text, ha="center", fontsize=8, color="black")
    return figure


def chunks() -> Any:
    """Chunks of rows, and chunks of rows and classes."""
    figure, axis = boxes(9, 3.4)
    axis.text(1.25, 3.15, "chunks of rows", ha="center", fontsize=10)
    for k, colour in enumerate((BLUE, GREEN, ORANGE)):
        y = 2.1 - 0.9 * k
        box(axis, 0.1, y, 1.6, 0.8, "whole rows", colour)
        box(axis, 2.1, y, 0.9, 0.8, "result", colour, 8)
        arrow(axis, (1.72, y + 0.4), (2.08, y + 0.4))
    axis.plot([3.35, 3.35], [0.1, 3.2], color="black", linewidth=0.5)
    axis.text(4.6, 3.15, "chunks of rows and classes", ha="center", fontsize=10)
    for k, colour in enumerate((BLUE, GREEN, ORANGE)):
        y = 2.1 - 0.9 * k
        for j in range(2):
            box(axis, 3.7 + 0.85 * j, y, 0.8, 0.8, "", colour)
        box(axis, 5.8, y + 0.42, 0.6, 0.36, "part", colour, 7)
        box(axis, 5.8, y + 0.02, 0.6, 0.36, "part", colour, 7)
        box(axis, 6.8, y + 0.2, 0.7, 0.4, "merged", GRAY, 7)
        box(axis, 7.95, y, 0.95, 0.8, "result", colour, 8)
        arrow(axis, (5.4, y + 0.4), (5.78, y + 0.4))
        arrow(axis, (6.42, y + 0.4), (6.78, y + 0.4))
        arrow(axis, (7.52, y + 0.4), (7.93, y + 0.4))
    return figure


DRAWN = [cost, two_classes, gradient, smoothing_and_temperature, reliability, errors, shards, chunks]


def main() -> None:
    plt.rcParams.update(STYLE)
    for draw in DRAWN:
        draw().savefig(FOLDER / f"{draw.__name__}.svg", metadata={"Date": None})
    if "--examples" in sys.argv:
        for example in EXAMPLES:
            subprocess.run([sys.executable, ROOT / "examples" / f"{example}.py"], cwd=FOLDER, check=True)


if __name__ == "__main__":
    main()
