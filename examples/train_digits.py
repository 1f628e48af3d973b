"""Train a softmax classifier on handwritten digits, in NumPy, and look at what it costs to be wrong.

    pip install 'cxent[examples]' && python train_digits.py
"""

from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from tqdm import trange

import cxent

EPOCHS = 60
BATCH = 50
LEARNING_RATE = 0.3
FIGURE = Path("digits.png")

Array = NDArray[np.float32]


def load() -> tuple[Array, NDArray[np.int64], Array, NDArray[np.int64]]:
    """1,797 images of 8 x 8 pixels in 0..1, the last quarter held out: it was written by other people."""
    digits = load_digits()
    pixels = (digits.data / 16).astype(np.float32)
    split = len(pixels) * 3 // 4
    return pixels[:split], digits.target[:split], pixels[split:], digits.target[split:]


def train(
    pixels: Array, labels: NDArray[np.int64], held_out: Array, held_out_labels: NDArray[np.int64]
) -> tuple[Array, Array, list[float], list[float]]:
    """Stochastic gradient descent: the weights, the bias, and the loss and held-out accuracy after every epoch."""
    rng = np.random.default_rng(0)
    weights = np.zeros((pixels.shape[1], 10), np.float32)
    bias = np.zeros(10, np.float32)
    losses, accuracies = [], []
    for _ in (progress := trange(EPOCHS, unit="epoch")):
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
        progress.set_postfix(loss=f"{losses[-1]:.3f}", held_out=f"{accuracies[-1]:.1%}")
    return weights, bias, losses, accuracies
