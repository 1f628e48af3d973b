"""Train a softmax classifier on handwritten digits, in NumPy.

Prints the loss and the held-out accuracy of every epoch, and saves digits.png: the loss curve, and digits whose
cross-entropy is low (the prediction is near the truth) or high (it is far from it).
"""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from tqdm import trange

import cxent

EPOCHS = 30
BATCH = 50
LEARNING_RATE = 0.5
FIGURE = Path("digits.png")

Array = NDArray[np.float32]


def load() -> tuple[Array, NDArray[np.int64], Array, NDArray[np.int64]]:
    """1,797 images of 8 x 8 pixels in 0..1 with their digits, a quarter of them held out."""
    pixels, labels = load_digits(return_X_y=True)
    pixels, held_out, labels, held_out_labels = train_test_split(
        (pixels / 16).astype(np.float32), labels, test_size=0.25, stratify=labels, random_state=0
    )
    return pixels, labels, held_out, held_out_labels


def train(
    pixels: Array, labels: NDArray[np.int64], held_out: Array, held_out_labels: NDArray[np.int64]
) -> tuple[Array, Array, list[float], list[float]]:
    """Stochastic gradient descent. Returns the weights, the bias, and the loss and held-out accuracy after every
    epoch."""
    rng = np.random.default_rng(0)
    weights = np.zeros((pixels.shape[1], 10), np.float32)
    bias = np.zeros(10, np.float32)
    losses, accuracies = [], []
    for epoch in (progress := trange(1, EPOCHS + 1, unit="epoch", disable=None)):
        epoch_losses = []
        for batch in np.array_split(rng.permutation(len(pixels)), len(pixels) // BATCH):
            logits = pixels[batch] @ weights + bias
            loss, grad = cxent.cross_entropy_with_grad(logits, labels[batch], out=logits)
            weights -= LEARNING_RATE * (pixels[batch].T @ grad)
            bias -= LEARNING_RATE * grad.sum(axis=0)
            epoch_losses.append(float(loss))
        predicted = (held_out @ weights + bias).argmax(axis=1)
        losses.append(float(np.mean(epoch_losses)))
        accuracies.append(float(np.mean(predicted == held_out_labels)))
        progress.write(f"epoch {epoch:2}: loss {losses[-1]:.4f}, held-out accuracy {accuracies[-1]:.1%}")
    return weights, bias, losses, accuracies


def draw(losses: list[float], pixels: Array, labels: NDArray[np.int64], logits: Array) -> Figure:
    """The loss curve, and digits with low, typical and high loss, with their probabilities."""
    probabilities = cxent.softmax(logits)
    costs = cxent.cross_entropy(logits, labels, reduction="none")
    by_cost = costs.argsort()
    shown = {
        "low cost: near the truth": by_cost[0],
        "typical cost": by_cost[len(by_cost) // 2],
        "high cost: far from the truth": by_cost[-1],
    }
    figure = Figure(figsize=(11, 6), layout="constrained")
    curve_side, digit_side = figure.subfigures(1, 2, width_ratios=[1, 1.2])

    curve = curve_side.subplots()
    curve.plot(range(1, len(losses) + 1), losses)
    curve.set(xlabel="epoch", ylabel="mean cross-entropy", title="the cost of the training digits", ylim=(0, None))
    curve.grid(alpha=0.3)

    grid: Any = digit_side.subplots(len(shown), 2, width_ratios=[1, 2.5])
    for (image, bars), (meaning, i) in zip(grid, shown.items(), strict=True):
        image.imshow(pixels[i].reshape(8, 8), cmap="gray_r")
        image.set(xticks=[], yticks=[], title=f"the digit {labels[i]}")
        colors = ["tab:green" if digit == labels[i] else "tab:gray" for digit in range(10)]
        bars.bar(range(10), probabilities[i], color=colors)
        bars.set(xticks=range(10), ylim=(0, 1.05), title=f"{meaning}\n(cross-entropy {costs[i]:.2g})")
        bars.get_xticklabels()[labels[i]].set(color="tab:green", weight="bold")
    grid[-1, 1].set_xlabel("predicted probability of each digit (green: the truth)")
    return figure


def main() -> None:
    pixels, labels, held_out, held_out_labels = load()
    weights, bias, losses, accuracies = train(pixels, labels, held_out, held_out_labels)
    draw(losses, held_out, held_out_labels, held_out @ weights + bias).savefig(FIGURE, dpi=120)
    print(f"held-out accuracy {accuracies[-1]:.1%} after {EPOCHS} epochs; loss curve and digits saved to {FIGURE}")


if __name__ == "__main__":
    main()
