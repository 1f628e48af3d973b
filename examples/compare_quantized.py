"""What int8 weights cost a language model: its predictions beside those of float32 weights, token by token.

Trains the model of train_language_model.py, rounds its weights to 8 bits (--bits), each row with a scale of its own,
and writes the logits of both for held-out text into memory maps, 0.8 GB of temporary files, which
cxent.compare_logits reads in parts.

Prints the statistics that llama.cpp's llama-perplexity prints, and saves quantized.png: a histogram of the divergence
by token, the change of the probability of the right word, and the words that lose most. It takes about a minute
and a half on two cores, and less with --steps 50.
"""

import argparse
import copy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from tqdm import tqdm
from train_language_model import CONTEXT, VOCABULARY, Array, Model, Words, load, train

import cxent

STEPS = 300
TOKENS = 4000
BITS = 8
CHUNK = 250  # tokens whose logits are written at a time
SHOWN = 14  # words
LEAST = 3  # times that a word must occur to be shown
FIGURE = Path("quantized.png")


def quantized(weights: Array, bits: int) -> Array:
    """The weights as integers of so many bits times a scale for each row, the largest number of the row being whole."""
    most = 2 ** (bits - 1) - 1
    scale = np.abs(weights).max(axis=1, keepdims=True) / most
    integers = np.round(weights / np.maximum(scale, 1e-30)).astype(np.int8)
    return integers * scale.astype(np.float32)


def with_quantized_weights(model: Model, bits: int) -> Model:
    """A copy of the model; its biases stay as they are."""
    other = copy.copy(model)
    other.embeddings = quantized(model.embeddings, bits)
    other.mixing = quantized(model.mixing.T, bits).T
    return other


def write_logits(path: Path, model: Model, contexts: Words) -> None:
    logits = np.lib.format.open_memmap(path, "w+", np.float32, (len(contexts), VOCABULARY))
    for start in tqdm(range(0, len(contexts), CHUNK), unit="chunk", disable=None):
        _, hidden = model.layers(contexts[start : start + CHUNK])
        logits[start : start + CHUNK] = hidden @ model.embeddings.T + model.bias
    logits.flush()


def losses_by_word(words: Words, found: cxent.Comparison) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """The words that lose most, their mean changes of log-probability, and how often they occur."""
    change = (found.other_logprob - found.reference_logprob).astype(np.float64)
    counts = np.bincount(words, minlength=VOCABULARY)
    means = np.bincount(words, change, VOCABULARY) / np.maximum(counts, 1)
    means[counts < LEAST] = 0
    worst = means.argsort()[:SHOWN]
    return worst, means[worst], counts[worst]


def report(found: cxent.Comparison) -> None:
    assert found.other_perplexity and found.reference_perplexity and found.perplexity_ratio  # (there are ids)
    assert found.prob_change_rms and found.correlation is not None
    print(f"perplexity {found.reference_perplexity.value:.2f} with float32 weights")
    print(f"perplexity {found.other_perplexity.value:.2f} with quantized weights")
    print(f"ratio {found.perplexity_ratio.value:.5f} ± {found.perplexity_ratio.error:.5f} (paired)")
    print(f"mean divergence {found.kl_mean.value:.2e} ± {found.kl_mean.error:.1e}, median {found.kl_quantiles[4]:.2e}")
    print(f"largest divergence {found.kl_quantiles[-1]:.2e}, smallest {found.kl_quantiles[0]:.2e}")
    print(f"root mean square change of the right word's probability: {found.prob_change_rms.value:.3%}")
    print(f"same most likely word: {found.same_top_mean.value:.2%}")


def draw(found: cxent.Comparison, words: Words, vocabulary: list[str], bits: int) -> Figure:
    """Histograms of the divergences and of the changes of probabilities, and the words that lose most."""
    figure = Figure(figsize=(15, 4.8), layout="constrained")
    axes: Any = figure.subplots(1, 3)
    divergences, changes, lost = axes

    kl = found.kl[found.kl > 0]
    divergences.hist(kl, np.geomspace(kl.min(), kl.max(), 50), color="tab:blue", edgecolor="white")
    divergences.axvline(found.kl_mean.value, color="tab:orange", label=f"mean {found.kl_mean.value:.1e}")
    divergences.set(xscale="log", xlabel="KL divergence in nats", ylabel="tokens", title=f"what {bits} bits change")
    divergences.legend()

    moved = 100 * np.abs(found.prob_change)
    probability = np.exp(found.reference_logprob)
    changes.scatter(probability, np.maximum(moved, 1e-6), s=4, alpha=0.4)
    changes.set(xscale="log", yscale="log", xlabel="probability of the right word", ylabel="its change, in points")
    changes.set_title("by how much the right word's probability moves")
    changes.grid(alpha=0.3)

    worst, means, counts = losses_by_word(words, found)
    labels = [f"{vocabulary[word]} ({count})" for word, count in zip(worst, counts, strict=True)]
    lost.barh(labels[::-1], means[::-1], color="tab:orange")
    lost.set(xlabel="mean change of the log-probability, in nats", title="words that lose most (times that they occur)")
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare a language model with its quantized weights.")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"of gradient descent (default: {STEPS})")
    parser.add_argument("--tokens", type=int, default=TOKENS, help=f"to compare (default: {TOKENS})")
    parser.add_argument("--bits", type=int, choices=range(2, 9), default=BITS, help=f"of a weight (default: {BITS})")
    options = parser.parse_args()

    vocabulary, training, held_out = load()
    counts = np.bincount(training, minlength=VOCABULARY) + 1
    model = Model(counts / counts.sum())
    train(model, training, held_out, options.steps)
    other = with_quantized_weights(model, options.bits)

    windows = sliding_window_view(held_out, CONTEXT + 1)[: options.tokens]
    contexts, words = windows[:, :-1], windows[:, -1]
    with TemporaryDirectory() as folder:
        files = Path(folder, "float32.npy"), Path(folder, "quantized.npy")
        for file, each in zip(files, (model, other), strict=True):
            write_logits(file, each, contexts)
        logits = [np.load(file, mmap_mode="r") for file in files]
        with tqdm(total=len(words), unit=" tokens", disable=None) as bar:
            found = cxent.compare_logits(
                *logits, words, progress=lambda done, total: bar.update(done - bar.n), workers=-1
            )
        del logits  # (Windows removes no file that is mapped)
    report(found)
    draw(found, words, vocabulary, options.bits).savefig(FIGURE, dpi=120)
    print(f"histograms and words saved to {FIGURE}")


if __name__ == "__main__":
    main()
