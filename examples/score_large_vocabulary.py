"""Score a text from logits in a memory map, 128,256 for each token, a few rows at a time.

    python score_large_vocabulary.py [logits.npy ids.npy]

Reads logits of shape (tokens, classes) and the ids of the tokens from files written by numpy.save. Without arguments,
it makes up a model and a text, in 0.8 GB of temporary files. That text is drawn at a temperature above 1, so the model
is overconfident.

Prints how well the model predicts the text and how much memory that took, and saves scores.png: histograms of ranks
and entropies, and the cost of each token against its entropy. For a calibrated model, both are equal on average.

Takes about ten seconds on two cores, and needs Linux or macOS.
"""

import argparse
import resource
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from tqdm import tqdm

import cxent

TOKENS = 3000
CLASSES = 128_256
WIDTH = 64
TEXT_TEMPERATURE = 1.2
TEMPERATURES = [0.8, 1.0, 1.2, 1.4]
CHUNK = 25  # tokens at a time
FIGURE = Path("scores.png")

Ids = NDArray[np.int64]


def make(logits: Path, ids: Path, tokens: int) -> None:
    """Write the logits of a made-up model, and a text with a few frequent words, following Zipf's law."""
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((WIDTH, CLASSES), np.float32)
    bias = -np.log(np.arange(10, CLASSES + 10, dtype=np.float32))
    text = []
    with open(logits, "wb") as file, tqdm(total=tokens, unit=" tokens made", disable=None) as progress:
        header = {"descr": "<f2", "fortran_order": False, "shape": (tokens, CLASSES)}
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, tokens, CHUNK):
            rows = min(CHUNK, tokens - start)
            spread = rng.uniform(2, 12, (rows, 1)).astype(
                np.float32
            )  # the model is confident about some tokens, unsure about others
            hidden = spread * rng.standard_normal((rows, WIDTH), np.float32) / WIDTH**0.5
            chunk = (hidden @ weight + bias).astype(np.float16)
            chunk.tofile(file)
            cumulative = cxent.softmax(chunk / np.float32(TEXT_TEMPERATURE), workers=-1).cumsum(
                axis=1, dtype=np.float64
            )
            drawn = rng.random((rows, 1)) * cumulative[:, -1:]
            text.append((cumulative < drawn).sum(axis=1))
            progress.update(rows)
    np.save(ids, np.concatenate(text))


def score(logits: Path, ids: Ids) -> tuple[cxent.TokenLogprobs, dict[float, float]]:
    """The scores of all tokens, and the perplexity of the text at several temperatures."""
    parts = []
    nll = dict.fromkeys(TEMPERATURES, 0.0)
    with tqdm(total=len(ids), unit=" tokens", disable=None) as progress:
        for start in range(0, len(ids), CHUNK):
            chunk_ids = ids[start : start + CHUNK]
            mapped = np.load(
                logits, mmap_mode="r"
            )  # (reopened each time, since pages that were read stay in memory as long as the map)
            chunk = mapped[start : start + CHUNK]
            parts.append(cxent.token_logprobs(chunk, chunk_ids, top_k=5, workers=-1))
            for temperature in TEMPERATURES:
                nll[temperature] += cxent.perplexity(chunk, chunk_ids, temperature=temperature, workers=-1).nll
            progress.update(len(chunk_ids))
    scores = cxent.TokenLogprobs(*(np.concatenate(part) for part in zip(*parts, strict=True) if part[0] is not None))
    return scores, {temperature: float(np.exp(total / len(ids))) for temperature, total in nll.items()}


def report(scores: cxent.TokenLogprobs, perplexities: dict[float, float]) -> None:
    assert scores.top_logprobs is not None  # (since top_k is given)
    for temperature, perplexity in perplexities.items():
        print(f"perplexity {perplexity:.2f} at temperature {temperature}")
    print(f"mean cost {-scores.logprob.mean():.3f} nats, mean entropy {scores.entropy.mean():.3f} nats")
    print(f"tokens of rank 1: {np.mean(scores.rank == 1):.1%}, largest rank: {scores.rank.max():,}")
    expected = np.exp(scores.top_logprobs).sum(axis=1).mean()
    print(f"tokens within the top 5: {np.mean(scores.rank <= 5):.1%}, the model expects {expected:.1%}")


def draw(scores: cxent.TokenLogprobs) -> Figure:
    """Histograms of ranks and entropies; the cost of each token against its entropy, with the mean cost by entropy."""
    figure = Figure(figsize=(15, 4.8), layout="constrained")
    axes: Any = figure.subplots(1, 3, width_ratios=[1, 1, 1.2])
    ranks, entropies, costs = axes
    cost = -scores.logprob
    most_unsure, most_costly = scores.entropy.max(), np.quantile(cost, 0.995)

    ranks.hist(scores.rank, 2.0 ** np.arange(int(scores.rank.max()).bit_length() + 1), edgecolor="white")
    ranks.set(xscale="log", xlabel="rank of the token (1: the largest logit)", ylabel="tokens", title="ranks")
    entropies.hist(scores.entropy, 30, edgecolor="white")
    entropies.set(xlabel="entropy in nats", ylabel="tokens", title="how unsure the model is")

    shown = (0, most_unsure, 0, most_costly)
    costs.hexbin(scores.entropy, cost, gridsize=30, bins="log", cmap="Blues", vmin=0.3, extent=shown)
    costs.plot([0, most_unsure], [0, most_unsure], "--", color="tab:gray", label="a calibrated model")
    groups = np.array_split(scores.entropy.argsort(), 12)
    means = [[scores.entropy[group].mean(), cost[group].mean()] for group in groups]
    costs.plot(*np.transpose(means), "o-", color="tab:orange", label="this model, mean of a twelfth of the tokens")
    costs.set(xlabel="entropy in nats", ylabel="negative log-likelihood in nats", title="what tokens cost")
    costs.legend(loc="upper left")
    return figure


def peak_megabytes() -> float:
    """The peak memory of this process, including the parts of mapped files that it has read."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description="Score a text from logits in a memory map.")
    parser.add_argument("files", type=Path, nargs="*", metavar="logits.npy ids.npy", help="from numpy.save")
    parser.add_argument("--tokens", type=int, default=TOKENS, help=f"of the text that is made up (default: {TOKENS})")
    options = parser.parse_args()

    with TemporaryDirectory() as folder:
        logits, ids_file = options.files or (Path(folder, "logits.npy"), Path(folder, "ids.npy"))
        if not options.files:
            make(logits, ids_file, options.tokens)
        ids = np.load(ids_file)
        scores, perplexities = score(logits, ids)
        size = logits.stat().st_size / 1e6
    report(scores, perplexities)
    print(f"peak resident memory {peak_megabytes():.0f} MB, for {size:.0f} MB of logits")
    draw(scores).savefig(FIGURE, dpi=120)
    print(f"histograms saved to {FIGURE}")


if __name__ == "__main__":
    main()
