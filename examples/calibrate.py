"""Calibrate a classifier of handwritten digits that was trained for too long.

A small network learns 100 digits by heart, so its probabilities are nearly all close to 1. Half of the other digits
serve to find the temperature of least loss, the other half to see how reliable the probabilities are. Prints the loss
of the digits that it learns from and of others, and the calibration before and after; saves calibration.png: how often
predictions are correct by their confidence, before and after.
"""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from tqdm import trange

import cxent

LEARNT, HIDDEN, LEARNING_RATE = 100, 100, 0.5
BINS = 10
FIGURE = Path("calibration.png")

Array = NDArray[np.float32]


class Digits(NamedTuple):
    """Images of 8 x 8 pixels in 0..1, and their labels."""

    pixels: Array
    labels: NDArray[np.int64]


def load() -> tuple[Digits, Digits, Digits]:
    """Digits to learn from, to find the temperature with, and to judge both."""
    pixels, labels = load_digits(return_X_y=True)
    pixels, rest, labels, rest_labels = train_test_split(
        (pixels / 16).astype(np.float32), labels, train_size=LEARNT, stratify=labels, random_state=0
    )
    half = len(rest) // 2
    return Digits(pixels, labels), Digits(rest[:half], rest_labels[:half]), Digits(rest[half:], rest_labels[half:])


class Network:
    """One hidden layer of rectified linear units."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.inner = rng.standard_normal((64, HIDDEN)).astype(np.float32) / 8
        self.outer = np.zeros((HIDDEN, 10), np.float32)

    def logits(self, pixels: Array) -> Array:
        return np.asarray(np.maximum(pixels @ self.inner, 0) @ self.outer)

    def learn(self, digits: Digits) -> float:
        """One step of gradient descent; returns the loss before."""
        hidden = np.maximum(digits.pixels @ self.inner, 0)
        logits = hidden @ self.outer
        loss, grad = cxent.cross_entropy_with_grad(logits, digits.labels, out=logits)
        of_hidden = (grad @ self.outer.T) * (hidden > 0)
        self.outer -= LEARNING_RATE * (hidden.T @ grad)
        self.inner -= LEARNING_RATE * (digits.pixels.T @ of_hidden)
        return float(loss)


def train(learnt: Digits, held_out: Digits, steps: int) -> Network:
    """Learn the same digits again and again."""
    network = Network()
    every = max(1, steps // 10)
    for step in (progress := trange(1, steps + 1, unit="step", disable=None)):
        loss = network.learn(learnt)
        if step % every == 0:
            other = cxent.cross_entropy(network.logits(held_out.pixels), held_out.labels)
            progress.write(f"step {step:4}: loss {loss:.4f}, of held-out digits {other:.4f}")
    return network


def draw(before: cxent.Reliability, after: cxent.Reliability, temperature: float) -> Figure:
    """Reliability diagrams: how often predictions are correct in each bin, and how many there are."""
    figure = Figure(figsize=(9, 5), layout="constrained")
    panels: Any = figure.subplots(2, 2, sharex=True, sharey="row", height_ratios=[3, 1])
    names = ("as trained", f"divided by temperature {temperature:.2f}")
    for column, (name, found) in enumerate(zip(names, (before, after), strict=True)):
        diagram, counts = panels[:, column]
        middles = (np.arange(BINS) + 0.5) / BINS
        diagram.bar(middles, np.nan_to_num(found.accuracy), 0.9 / BINS, color="tab:blue", label="correct")
        diagram.plot(found.confidence, found.confidence, "o", color="tab:orange", label="mean confidence")
        diagram.plot([0, 1], [0, 1], color="black", linewidth=0.8)
        diagram.set(title=f"{name}\nECE {found.ece:.1%}, loss {found.loss:.3f}", xlim=(0, 1), ylim=(0, 1.05))
        counts.bar(middles, found.count, 0.9 / BINS, color="tab:gray")
        counts.set(xlabel="confidence: the largest probability")
    panels[0, 0].set(ylabel="share of correct predictions")
    panels[0, 0].legend(loc="upper left")
    panels[1, 0].set(ylabel="digits")
    return figure


def main() -> None:
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1000, help="of gradient descent")
    steps = parser.parse_args().steps
    learnt, to_fit, to_judge = load()
    network = train(learnt, to_fit, steps)

    fit = cxent.fit_temperature(network.logits(to_fit.pixels), to_fit.labels)
    print(f"temperature {fit.temperature:.3f} after {fit.iterations} passes over {len(to_fit.labels)} digits")
    logits = network.logits(to_judge.pixels)
    before = cxent.reliability(logits, to_judge.labels, bins=BINS)
    after = cxent.reliability(logits, to_judge.labels, bins=BINS, temperature=fit.temperature)
    for name, found in (("before", before), ("after", after)):
        print(f"{name:6}: loss {found.loss:.4f}, ECE {found.ece:.2%}, Brier score {found.brier:.4f}")
    draw(before, after, fit.temperature).savefig(FIGURE, dpi=120)
    print(f"of {len(to_judge.labels)} other digits; reliability diagrams saved to {FIGURE}")


if __name__ == "__main__":
    main()
