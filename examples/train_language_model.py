"""Train a small language model on the source code of Python's standard library, in NumPy.

The model predicts a word, one of 25,000, from the three words before it. The logits of one batch would take 100 MB;
cxent.linear_cross_entropy_with_grad computes their loss and gradients in parts.

Prints the perplexity of held-out files, compared with that of word frequencies alone, and saves language_model.png: the
loss curve, and some words with those whose embeddings are closest. Takes about three minutes on two idle cores, less
with --steps 200.
"""

import argparse
import re
import sysconfig
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from tqdm import tqdm, trange

import cxent

VOCABULARY = 25_000
CONTEXT = 3  # words before the predicted one
WIDTH = 96  # of embeddings and hidden layer
STEPS = 1200
EVALUATIONS = 10
BATCH = 1024
HELD_OUT = 10_000  # predictions
LEARNING_RATE = 0.1
SHOWN = ["true", "raise", "list", "three", "should", "windows", "read", "seconds"]
NEIGHBOURS = 5
FREQUENT = 5000  # only these may be neighbours, since the embeddings of rarer words have hardly changed
FIGURE = Path("language_model.png")

Array = NDArray[np.float32]
Words = NDArray[np.int32]
Neighbours = dict[str, dict[str, float]]


def load() -> tuple[list[str], Words, Words]:
    """The vocabulary, with the most frequent word first, and the words of the training and the held-out files.

    Words are indices into the vocabulary, whose last entry stands for all other words.
    """
    folder = Path(sysconfig.get_paths()["stdlib"])
    paths = [path for path in sorted(folder.rglob("*.py")) if not {"site-packages", "dist-packages"} & {*path.parts}]
    numbers: dict[str, int] = {}
    files = []
    for path in tqdm(paths, unit="file", disable=None):
        words = re.findall("[a-z]+", path.read_text(encoding="utf-8", errors="ignore").lower())
        files.append(np.array([numbers.setdefault(word, len(numbers)) for word in words], np.int32))
    order = np.random.default_rng(0).permutation(len(files))
    held_out, training = (np.concatenate([files[i] for i in part]) for part in np.split(order, [len(files) // 20]))

    by_frequency = np.bincount(training, minlength=len(numbers)).argsort()[::-1]
    vocabulary = np.array([*numbers])[by_frequency[: VOCABULARY - 1]].tolist()
    indices = np.empty(len(numbers), np.int32)
    indices[by_frequency] = np.minimum(np.arange(len(numbers)), VOCABULARY - 1)
    return [*vocabulary, "(rare)"], indices[training], indices[held_out]


class Model:
    """The tanh of mixed embeddings of the preceding words, with an output layer that shares the embeddings.

    Trained with Adagrad.
    """

    def __init__(self, frequencies: NDArray[np.float64]) -> None:
        rng = np.random.default_rng(0)
        self.embeddings = rng.normal(0, 0.1, (VOCABULARY, WIDTH)).astype(np.float32)
        self.mixing = rng.normal(0, (CONTEXT * WIDTH) ** -0.5, (CONTEXT * WIDTH, WIDTH)).astype(np.float32)
        self.bias = np.log(frequencies).astype(np.float32)
        self.parameters = self.embeddings, self.mixing, self.bias
        self.squares = [np.full_like(parameter, 1e-7) for parameter in self.parameters]

    def layers(self, contexts: Words) -> tuple[Array, Array]:
        """The embeddings of each row's words, concatenated, and the hidden layer."""
        embedded = self.embeddings[contexts].reshape(len(contexts), -1)
        return embedded, np.tanh(embedded @ self.mixing)

    def loss(self, windows: Words) -> float:
        """The mean loss of the last word of each row, in nats."""
        _, hidden = self.layers(windows[:, :-1])
        loss = cxent.linear_cross_entropy(hidden, self.embeddings, windows[:, -1], bias=self.bias, workers=-1)
        return float(loss)

    def learn(self, windows: Words, learning_rate: float) -> float:
        """Take a step of gradient descent, and return the loss before it."""
        contexts, targets = windows[:, :-1], windows[:, -1]
        embedded, hidden = self.layers(contexts)
        loss, grad = cxent.linear_cross_entropy_with_grad(hidden, self.embeddings, targets, bias=self.bias, workers=-1)
        assert grad.bias is not None  # (since a bias is given)
        mixed_grad = grad.hidden * (1 - hidden**2)
        np.add.at(grad.weight, contexts, (mixed_grad @ self.mixing.T).reshape(*contexts.shape, WIDTH))
        grads = grad.weight, embedded.T @ mixed_grad, grad.bias
        for parameter, squares, parameter_grad in zip(self.parameters, self.squares, grads, strict=True):
            squares += parameter_grad**2
            parameter -= learning_rate * parameter_grad / np.sqrt(squares)
        return float(loss)


def train(model: Model, training: Words, held_out: Words, steps: int) -> tuple[list[float], dict[int, float]]:
    """Return the loss of every step, and the held-out loss after some of them. The learning rate falls to 0."""
    rng = np.random.default_rng(0)
    windows = sliding_window_view(training, CONTEXT + 1)
    held_out_windows = rng.permutation(sliding_window_view(held_out, CONTEXT + 1))[:HELD_OUT]
    losses = []
    held_out_losses = {0: model.loss(held_out_windows)}
    for step in (progress := trange(1, steps + 1, unit="step", disable=None)):
        batch = windows[rng.integers(len(windows), size=BATCH)]
        losses.append(model.learn(batch, LEARNING_RATE * (1 - step / steps)))
        if step % max(1, steps // EVALUATIONS) == 0:
            held_out_losses[step] = model.loss(held_out_windows)
            progress.write(f"step {step:4}: held-out perplexity {np.exp(held_out_losses[step]):.1f}")
    return losses, held_out_losses


def neighbours(model: Model, vocabulary: list[str]) -> Neighbours:
    """The words with the closest embeddings, and their cosine similarities."""
    embeddings = model.embeddings[:FREQUENT]
    embeddings = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    found = {}
    for word in SHOWN:
        similarities = embeddings @ embeddings[vocabulary.index(word)]
        nearest = similarities.argsort()[::-1][1 : NEIGHBOURS + 1]
        found[word] = {vocabulary[i]: float(similarities[i]) for i in nearest}
    return found


def draw(losses: list[float], held_out: dict[int, float], baseline: float, nearest: Neighbours) -> Figure:
    """The loss curve, and a table of words and their neighbours."""
    figure = Figure(figsize=(14, 6), layout="constrained")
    axes: Any = figure.subplots(1, 2, width_ratios=[1, 1.3])
    curve, table = axes

    curve.plot(range(1, len(losses) + 1), losses, color="tab:blue", alpha=0.3, lw=0.8, label="training batches")
    curve.plot(held_out.keys(), held_out.values(), "o-", color="tab:orange", label="held-out files")
    curve.axhline(baseline, color="tab:gray", ls="--", label="held-out files, by word frequencies alone")
    curve.set(xlabel="step", ylabel="cross-entropy in nats", title="the cost of the next word", xlim=(0, len(losses)))
    curve.legend(loc="upper right", bbox_to_anchor=(1, 0.87))
    curve.grid(alpha=0.3)

    table.imshow([list(row.values()) for row in nearest.values()], cmap="Blues", vmin=0, vmax=1.3, aspect="auto")
    for y, row in enumerate(nearest.values()):
        for x, (word, similarity) in enumerate(row.items()):
            table.text(x, y, f"{word}\n{similarity:.2f}", ha="center", va="center", size=min(11, 150 / len(word)))
    table.set_title("words whose embeddings are nearest, and their cosine similarities")
    table.set_yticks(range(len(nearest)), nearest.keys(), weight="bold", size="large")
    table.set_xticks([])
    table.tick_params(length=0)
    table.spines[:].set_visible(False)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a small language model.")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"of gradient descent (default: {STEPS})")
    steps = parser.parse_args().steps

    vocabulary, training, held_out = load()
    counts = np.bincount(training, minlength=VOCABULARY) + 1
    frequencies = counts / counts.sum()
    baseline = float(-np.log(frequencies[held_out]).mean())
    print(f"{len(training):,} words to train on, of {len(vocabulary):,} types, and {len(held_out):,} held out")
    print(f"held-out perplexity {np.exp(baseline):.1f} by word frequencies alone")

    model = Model(frequencies)
    losses, held_out_losses = train(model, training, held_out, steps)
    draw(losses, held_out_losses, baseline, neighbours(model, vocabulary)).savefig(FIGURE, dpi=120)
    print(f"loss curve and neighbours saved to {FIGURE}")


if __name__ == "__main__":
    main()
