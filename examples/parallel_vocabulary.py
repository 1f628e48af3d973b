"""Train a next-word model in two processes, each of which has the logits of half of the words, in NumPy.

The model predicts a word, one of 8,192, from the word before it: the logits are products of that word's embedding with
the weights of all words. Each process learns the embeddings and weights of its own words. To get the loss and its
gradient, it reduces its half of each row of logits to six numbers, and sends them to the other process.

Prints the loss as it falls, and how close the results are to those of a single process after the same steps, and saves
parallel_vocabulary.png, which shows both loss curves. Takes about 15 seconds on two cores, less with --steps 50.
"""

import argparse
import multiprocessing
import os
import re
import sysconfig
from collections import Counter
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import TypeVar

import numpy as np
from matplotlib.figure import Figure
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from tqdm import tqdm

import cxent
from cxent import sharded

VOCABULARY = 8192
HALF = VOCABULARY // 2
WIDTH = 64
BATCH = 512
STEPS = 400
LEARNING_RATE = 30
FIGURE = Path("parallel_vocabulary.png")

Array = NDArray[np.float32]
Words = NDArray[np.int32]
T = TypeVar("T")


def load() -> Words:
    """The words of modules of Python's standard library, as numbers. The last number stands for all rare words."""
    paths = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    words = re.findall("[a-z]+", " ".join(path.read_text(encoding="utf-8", errors="ignore") for path in paths).lower())
    numbers = {word: i for i, (word, _) in enumerate(Counter(words).most_common(VOCABULARY - 1))}
    return np.array([numbers.get(word, VOCABULARY - 1) for word in words], np.int32)


def start(text: Words, steps: int) -> NDArray[np.void]:
    """Everything that the processes share, in one record."""
    layout = [
        ("pairs", np.int32, (steps, BATCH, 2)),  # a word and the next one
        ("rates", np.float32, (steps,)),
        ("embeddings", np.float32, (VOCABULARY, WIDTH)),
        ("weight", np.float32, (VOCABULARY, WIDTH)),
        ("losses", np.float32, (steps,)),
        ("weight_grad", np.float32, (VOCABULARY, WIDTH)),  # this and the next are from the last step
        ("hidden_grads", np.float32, (2, BATCH, WIDTH)),  # one from each process; their sum is the gradient
    ]
    rng = np.random.default_rng(0)
    record = np.zeros((), layout)
    record["pairs"] = sliding_window_view(text, 2)[rng.integers(len(text) - 1, size=(steps, BATCH))]
    record["rates"] = np.linspace(LEARNING_RATE, 0, steps, endpoint=False)
    record["embeddings"] = rng.normal(0, 0.3, (VOCABULARY, WIDTH))
    return record


def exchange(process: int, other: Connection, mine: T) -> tuple[T, T]:
    """The data of process 0 and of process 1, in this order in both. Each waits for the other."""
    if process == 0:
        other.send(mine)
        return mine, other.recv()
    received = other.recv()  # (if both sent first, both could block on a full pipe)
    other.send(mine)
    return received, mine


def train_half(process: int, other: Connection, memory: SharedMemory, layout: np.dtype[np.void]) -> None:
    """The work of one process. It changes only those rows of the model that belong to its words."""
    shared = np.ndarray((), layout, buffer=memory.buf)
    first = process * HALF
    own = slice(first, first + HALF)
    embeddings, weight, weight_grad = shared["embeddings"], shared["weight"][own], shared["weight_grad"][own]
    for step, rate in enumerate(tqdm(shared["rates"], unit="step", disable=process or None)):
        before, target = shared["pairs"][step].T
        hidden = embeddings[before]
        logits = hidden @ weight.T
        whole = sharded.merge(
            *exchange(process, other, sharded.part(logits, target, first_class=first, classes=VOCABULARY))
        )
        loss = shared["losses"][step] = sharded.loss(whole)
        grad = sharded.grad(logits, whole, target, first_class=first, out=logits)
        weight_grad[:] = grad.T @ hidden
        shared["hidden_grads"][process] = grad @ weight
        weight -= rate * weight_grad
        exchange(process, other, None)  # now both have written their gradients of the hidden states
        here = before // HALF == process
        np.subtract.at(embeddings, before[here], rate * shared["hidden_grads"][:, here].sum(axis=0))
        exchange(process, other, None)  # now both have updated their embeddings
        if process == 0 and (step + 1) % max(1, len(shared["rates"]) // 10) == 0:
            tqdm.write(f"step {step + 1:4}: loss {loss:.4f}")


def train_in_two(record: NDArray[np.void]) -> NDArray[np.void]:
    """The record after both processes have finished."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # their matrix products must not compete for cores
    spawn = multiprocessing.get_context("spawn")
    memory = SharedMemory(create=True, size=record.nbytes)
    try:
        shared = np.ndarray((), record.dtype, buffer=memory.buf)
        shared[()] = record
        ends = spawn.Pipe()
        arguments = [(process, end, memory, record.dtype) for process, end in enumerate(ends)]
        processes = [spawn.Process(target=train_half, args=each, daemon=True) for each in arguments]
        for process in processes:
            process.start()
        for end in ends:
            end.close()  # only one process keeps it open, so if it stops, the other does not wait forever
        for process in processes:
            process.join()
        if any(process.exitcode for process in processes):
            raise RuntimeError("a process failed")
        return shared.copy()
    finally:
        memory.close()
        memory.unlink()


def train_in_one(record: NDArray[np.void]) -> NDArray[np.void]:
    """The record after the same steps in a single process, which has all logits."""
    record = record.copy()
    embeddings, weight, weight_grad = record["embeddings"], record["weight"], record["weight_grad"]
    for step, rate in enumerate(tqdm(record["rates"], unit="step", disable=None)):
        before, target = record["pairs"][step].T
        hidden = embeddings[before]
        logits = hidden @ weight.T
        record["losses"][step], grad = cxent.cross_entropy_with_grad(logits, target, out=logits)
        weight_grad[:] = grad.T @ hidden
        record["hidden_grads"][0] = grad @ weight
        weight -= rate * weight_grad
        np.subtract.at(embeddings, before, rate * record["hidden_grads"][0])
    return record


def draw(in_two: Array, in_one: Array) -> Figure:
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    curves = figure.subplots()
    curves.plot(in_one, color="tab:orange", alpha=0.5, lw=5, label="one process, with all logits")
    curves.plot(in_two, color="tab:blue", lw=1, label="two processes, with half of the logits each")
    curves.set(xlabel="step", ylabel="cross-entropy in nats", title="the cost of the next word")
    curves.legend()
    curves.grid(alpha=0.3)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a model of the next word in two processes.")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"of gradient descent (default: {STEPS})")
    record = start(load(), parser.parse_args().steps)

    in_two = train_in_two(record)
    row = sharded.part(np.zeros(HALF, np.float32), 0)
    sent = sum(number.nbytes for number in row[:5])  # maximum, two sums and their rounding errors, target logit
    print(f"each process sent {sent} bytes of each row, whose logits have {4 * VOCABULARY:,}")
    in_one = train_in_one(record)
    results = [(each["losses"], each["weight_grad"], each["hidden_grads"].sum(axis=0)) for each in (in_one, in_two)]
    names = "losses", "last gradients of weights", "last gradients of hidden states"
    for name, expected, found in zip(names, *results, strict=True):
        print(f"{name} of up to {abs(expected).max():.1e} differ by at most {abs(found - expected).max():.1e}")
    draw(in_two["losses"], in_one["losses"]).savefig(FIGURE, dpi=120)
    print(f"loss curves saved to {FIGURE}")


if __name__ == "__main__":
    main()
