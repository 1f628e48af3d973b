"""Find a rare digit with boosted trees: XGBoost and LightGBM, with the plain and with the focal loss.

One image in twenty is an 8. Each model is trained with an objective and a metric from cxent, and stops when the loss on
held-out images no longer falls. Prints what it finds among test images, and saves boosted.png: the held-out loss by
round, and precision and recall for all thresholds.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import lightgbm
import numpy as np
import xgboost
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.metrics import average_precision_score, precision_recall_curve, precision_score, recall_score
from sklearn.model_selection import train_test_split
from tqdm import tqdm

import cxent
from cxent.boosting import logistic_metric, logistic_objective

RARE = 8
ROUNDS = 400
PATIENCE = 20
THREADS = 1  # more are slower on so few rows
# A focal loss has small Hessians, for which XGBoost's defaults, 1 for both, are too large. These are LightGBM's.
SMALL_HESSIANS = {"lambda": 0.0, "min_child_weight": 1e-3}
LEARNING_RATE = 0.2
GAMMAS = {"plain": 0.0, "focal": 2.0}
FIGURE = Path("boosted.png")

Array = NDArray[np.float64]


class Rows(NamedTuple):
    pixels: Array
    labels: NDArray[np.int64]  # 1: the rare digit


class Trained(NamedTuple):
    losses: list[float]  # of the held-out rows, by round
    scores: Array  # of the test rows


def load() -> tuple[Rows, Rows, Rows]:
    """Half of the images for training, a quarter for early stopping, a quarter for tests; every other 8 is left out."""
    pixels, digits = load_digits(return_X_y=True)
    is_rare = digits == RARE
    kept = ~is_rare | (np.cumsum(is_rare) % 2 == 0)
    pixels, labels = pixels[kept], is_rare[kept].astype(np.int64)
    pixels, others, labels, other_labels = train_test_split(
        pixels, labels, test_size=0.5, stratify=labels, random_state=0
    )
    held_out, test, held_out_labels, test_labels = train_test_split(
        others, other_labels, test_size=0.5, stratify=other_labels, random_state=0
    )
    return Rows(pixels, labels), Rows(held_out, held_out_labels), Rows(test, test_labels)


def with_xgboost(train: Rows, held_out: Rows, test: Rows, gamma: float, rounds: int, progress: tqdm[Any]) -> Trained:
    class Progress(xgboost.callback.TrainingCallback):
        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
            progress.update()
            return False

    history: dict[str, Any] = {}
    booster = xgboost.train(
        {
            "eta": LEARNING_RATE,
            "nthread": THREADS,
            "max_depth": 4,
            "base_score": 0.0,
            "disable_default_eval_metric": True,
            **SMALL_HESSIANS,
        },
        xgboost.DMatrix(train.pixels, train.labels),
        rounds,
        obj=logistic_objective("xgboost", focal_gamma=gamma),
        custom_metric=logistic_metric("xgboost"),
        evals=[(xgboost.DMatrix(held_out.pixels, held_out.labels), "held_out")],
        evals_result=history,
        early_stopping_rounds=PATIENCE,
        callbacks=[Progress()],
        verbose_eval=False,
    )
    best = (0, booster.best_iteration + 1)
    scores = booster.predict(xgboost.DMatrix(test.pixels), output_margin=True, iteration_range=best)
    return Trained(history["held_out"]["binary_cross_entropy"], scores)


def with_lightgbm(train: Rows, held_out: Rows, test: Rows, gamma: float, rounds: int, progress: tqdm[Any]) -> Trained:
    history: dict[str, Any] = {}
    objective = logistic_objective("lightgbm", focal_gamma=gamma)
    dataset = lightgbm.Dataset(train.pixels, train.labels)
    booster = lightgbm.train(
        {
            "learning_rate": LEARNING_RATE,
            "num_threads": THREADS,
            "max_depth": 4,
            "objective": objective,
            "metric": "none",
            "verbosity": -1,
        },
        dataset,
        rounds,
        valid_sets=[dataset.create_valid(held_out.pixels, held_out.labels)],
        valid_names=["held_out"],
        feval=logistic_metric("lightgbm"),
        callbacks=[
            lightgbm.early_stopping(PATIENCE, verbose=False),
            lightgbm.record_evaluation(history),
            lambda _: progress.update(),
        ],
    )
    scores = np.asarray(booster.predict(test.pixels, raw_score=True))  # of the best round
    return Trained(history["held_out"]["binary_cross_entropy"], scores)


LIBRARIES: dict[str, Callable[[Rows, Rows, Rows, float, int, tqdm[Any]], Trained]] = {
    "XGBoost": with_xgboost,
    "LightGBM": with_lightgbm,
}


def report(name: str, trained: Trained, labels: NDArray[np.int64]) -> str:
    """The loss, and what is found with a probability above 1/2."""
    probabilities = cxent.sigmoid(trained.scores)
    found = probabilities > 0.5
    return (
        f"{name:14}: best round {np.argmin(trained.losses) + 1:3}, held-out loss {min(trained.losses):.4f}; "
        f"test precision {precision_score(labels, found, zero_division=0):.2f}, "
        f"recall {recall_score(labels, found):.2f}, "
        f"average precision {average_precision_score(labels, probabilities):.3f}"
    )


def draw(models: dict[str, Trained], labels: NDArray[np.int64]) -> Figure:
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    curves, tradeoff = figure.subplots(1, 2)
    for name, trained in models.items():
        style: Any = {
            "color": "tab:blue" if "XGBoost" in name else "tab:orange",
            "linestyle": "--" if "focal" in name else "-",
        }
        best = int(np.argmin(trained.losses))
        rounds = range(1, len(trained.losses) + 1)
        curves.plot(rounds, trained.losses, label=name, **style)
        curves.plot(best + 1, trained.losses[best], "o", color=style["color"])
        precision, recall, thresholds = precision_recall_curve(labels, cxent.sigmoid(trained.scores))
        tradeoff.step(recall, precision, where="post", label=name, **style)
        half = min(int(np.searchsorted(thresholds, 0.5)), len(thresholds) - 1)
        tradeoff.plot(recall[half], precision[half], "o", color=style["color"])
    curves.set(xlabel="round", ylabel="held-out cross-entropy", yscale="log", title="the loss, and its best round")
    tradeoff.set(xlabel="recall", ylabel="precision", title="the rare digit (dots: at a probability of 1/2)")
    for axes in (curves, tradeoff):
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description="Find a rare digit with boosted trees.")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"at most so many (default: {ROUNDS})")
    rounds = parser.parse_args().rounds
    train, held_out, test = load()
    print(f"{train.labels.mean():.1%} of {len(train.labels)} images to train on are the digit {RARE}")
    models = {}
    for library, fit in LIBRARIES.items():
        for loss, gamma in GAMMAS.items():
            name = f"{library}, {loss}"
            with tqdm(total=rounds, unit="round", desc=name, disable=None, leave=False) as progress:
                models[name] = fit(train, held_out, test, gamma, rounds, progress)
            print(report(name, models[name], test.labels))
    draw(models, test.labels).savefig(FIGURE, dpi=120)
    print(f"losses, precision and recall saved to {FIGURE}")


if __name__ == "__main__":
    main()
