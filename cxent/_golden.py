"""The calls whose bits are promised to be the same on every machine, and hashes of their results.

`golden.json` holds the hashes by dtype and layout, number of classes, and group of calls. The inputs are computed from
integers by exact arithmetic, so they are the same on every machine too. All NaNs are equal, whatever their sign.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from importlib import import_module
from importlib.resources import files
from typing import Any

import numpy as np

import cxent

DTYPES: dict[str, Any] = {"float32": np.float32, "float64": np.float64, "float16": np.float16}
try:
    DTYPES["bfloat16"] = import_module("ml_dtypes").bfloat16
except ImportError:  # without it there are no bfloat16 arrays
    pass
# Around the widths of vectors and lanes, and around the sizes at which kernels change their method.
CLASSES = [1, 2, 3, 4, 5, 7, 8, 9, 10, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 127, 128, 129]
CLASSES += [257, 1000, 4095, 4096, 4097, 5003]
LAYOUTS = ["rows", "columns"]
DIGITS = 3  # of each hash: changed bits change a hundred of them
PART_SIZE = 1000  # small enough to split these calls into parts
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "weight": {"weight": True},
    "sample_weight": {"sample_weight": True},
    "ignore_index": {"ignore_index": 0},
    "label_smoothing": {"label_smoothing": 0.1},
    "z_loss": {"z_loss": 0.01},
    "softcap": {"softcap": 5.0},
    "temperature": {"temperature": 0.7},
}
OPTIONS["all"] = {
    name: value for options in OPTIONS.values() for name, value in options.items() if name != "ignore_index"
}
OPTIONS |= {
    "where": {"where": True},
    "where and label_smoothing": {"where": True, "label_smoothing": 0.1},
    "focal_gamma": {"focal_gamma": 2.5},
}


def expected() -> dict[str, dict[str, str]]:
    """The promised hashes, in the form that `hashes` returns."""
    stored: dict[str, dict[str, str]] = json.loads((files("cxent") / "golden.json").read_text())
    return {
        name: {
            f"{classes} {group}": digest
            for group, digests in groups.items()
            for classes, digest in zip(CLASSES, split_line(digests), strict=False)
        }
        for name, groups in stored.items()
    }


def split_line(digests: str) -> list[str]:
    """The hashes of a line, in the order of `CLASSES`. (The Jacobian is hashed for few of these.)"""
    return [digests[k : k + DIGITS] for k in range(0, len(digests), DIGITS)]


def text_of(found: dict[str, dict[str, str]]) -> str:
    """The inverse: the text of `golden.json`, which has one line for each group, with the hashes for all numbers of
    classes."""
    stored: dict[str, dict[str, str]] = {}
    for name, digests in found.items():
        for key, digest in digests.items():
            group = key.split(maxsplit=1)[1]
            lines = stored.setdefault(name, {})
            lines[group] = lines.get(group, "") + digest
    return json.dumps(stored, indent=0) + "\n"


def uniform(shape: tuple[int, ...], seed: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Numbers from 0 to 1 with 24 bits each, from the SplitMix64 generator."""
    with np.errstate(over="ignore"):
        z = np.arange(1, np.prod(shape, dtype=int) + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(
            seed
        )
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> np.uint64(31))) >> np.uint64(40)).astype(np.float64).reshape(shape) * 2.0**-24


def results(dtype: Any, layout: str, classes: int, workers: int) -> Iterator[tuple[str, list[Any]]]:
    """The results of all calls for one dtype, layout and number of classes, with the name of their group."""
    rows = max(3, min(70, 6000 // classes))
    shape, axis = ((rows, classes), 1) if layout == "rows" else ((2, classes, rows), 1)
    row_shape = tuple(np.delete(shape, axis))
    x = ((uniform(shape, 1) - 0.5) * 24).astype(dtype)
    x[0] *= dtype(4)  # one confident row, or several
    without = (1,) if layout == "rows" else (1, 0)  # a row without probabilities
    np.moveaxis(x, axis, -1)[without] = -np.inf
    q = uniform(shape, 2).astype(dtype)
    g = (uniform(shape, 3) - 0.5).astype(dtype)
    mask = uniform(shape, 4) < 0.7
    labels = (uniform(row_shape, 5) * classes).astype(np.int64)
    weight = uniform((classes,), 6) + 0.25
    sample_weight = uniform(row_shape, 7) - 0.25

    p = cxent.softmax(x, axis, workers=workers)
    log_p = cxent.log_softmax(x, axis, workers=workers)
    yield "softmax", [p, log_p, cxent.logsumexp(x, axis, workers=workers)]
    yield (
        "masked",
        [
            cxent.softmax(x, axis, where=mask, workers=workers),
            cxent.log_softmax(x, axis, where=mask, workers=workers),
            cxent.logsumexp(x, axis, where=mask, workers=workers),
            *cxent.logsumexp(x, axis, b=g, return_sign=True),
        ],
    )
    yield "backward", [cxent.softmax_backward(g, p, axis), cxent.log_softmax_backward(g, log_p, axis)]
    if classes <= 17:
        yield "jacobian", [cxent.softmax_jacobian(np.moveaxis(p, axis, -1))]
    for name, chosen in OPTIONS.items():
        given = dict(chosen, axis=axis, workers=workers)
        given |= {"weight": weight} if "weight" in chosen else {}
        given |= {"sample_weight": sample_weight} if "sample_weight" in chosen else {}
        given |= {"where": mask} if "where" in chosen else {}
        found: list[Any] = []
        for target in (labels, q):
            if target is q and chosen.keys() & {"ignore_index", "focal_gamma"}:
                continue
            for reduction in ("none", "mean"):
                found += cxent.cross_entropy_with_grad(x, target, return_lse=True, reduction=reduction, **given)
            found.append(cxent.cross_entropy(x, target, reduction="sum", **given))
            if not chosen.keys() & {"z_loss", "softcap"}:
                found += cxent.cross_entropy_with_hess(x, target, **given)
                given.pop("focal_gamma", None)  # (cross_entropy_hvp does not take it)
                found.append(cxent.cross_entropy_hvp(x, target, g, **given))
        yield f"loss, {name}", found
    ids = (uniform((*row_shape, 2), 8) * classes).astype(np.int64)
    found = []
    for name in ("plain", "temperature", "softcap"):
        found += cxent.token_logprobs(x, ids, axis=axis, top_k=min(classes, 5), workers=workers, **OPTIONS[name])[:6]
    for temperature in (1.0, 0.7):
        part = cxent.sharded.part(x, axis=axis, temperature=temperature, workers=workers)
        found += [part.maximum, part.sumexp_m1, part.shifted, cxent.sharded.softmax(x, part, axis=axis)]
    yield "scores", found
    yield (
        "masked scores",
        [
            *cxent.token_logprobs(x, ids, axis=axis, where=mask, top_k=min(classes, 5), softcap=5.0)[:6],
            cxent.softmax_backward(g, p, axis, where=mask),
            cxent.log_softmax_backward(g, log_p, axis, where=mask),
        ],
    )
    counts = uniform(row_shape, 9) + 0.25
    counts[without] = 0
    temperatures = 0.5 + 16 * uniform(row_shape, 10)  # (with the highest, nearly all classes are in the nucleus)
    yield (
        "temperatures",
        [
            cxent.softmax(x, axis, temperature=temperatures, workers=workers),
            cxent.log_softmax(x, axis, temperature=temperatures, where=mask, workers=workers),
            *cxent.token_logprobs(x, ids, axis=axis, temperature=temperatures, workers=workers)[:4],
            *cxent.token_logprobs(x, labels, axis=axis, temperature=temperatures, top_p=0.9, workers=workers),
            *cxent.token_logprobs(x, labels, axis=axis, where=mask, top_p=1.0, workers=workers),
        ],
    )
    given = {"axis": axis, "sample_weight": counts, "workers": workers}
    often_right = np.where(uniform(row_shape, 11) < 0.5, np.argmax(x, axis), labels)
    yield (
        "calibration",
        [
            *cxent.perplexity(x, labels, softcap=5.0, **given),
            *cxent.fit_temperature(x, often_right, **given),
            *cxent.reliability(x, often_right, temperature=3.0, **given),
            *cxent.binary_reliability(x, mask & (x > -np.inf), temperature=3.0, bins=7, workers=workers),
        ],
    )
    shards = [(np.take(x, range(*ends), axis), ends[0]) for ends in ((0, classes // 2), (classes // 2, classes))]
    parts = [
        cxent.sharded.part(
            shard, labels, axis=axis, first_class=first, temperature=0.7, for_smoothing=True, workers=workers
        )
        for shard, first in shards
    ]
    whole = cxent.sharded.merge(*parts)
    chosen = {"label_smoothing": 0.1, "z_loss": 0.01, "sample_weight": counts}
    yield (
        "sharded",
        [
            cxent.sharded.loss(whole, **chosen),
            cxent.sharded.loss(whole, reduction="none"),
            *(
                cxent.sharded.grad(shard, whole, labels, axis=axis, first_class=first, workers=workers, **chosen)
                for shard, first in shards
            ),
        ],
    )
    other = (x * dtype(0.75) + g).astype(dtype)
    compared = cxent.compare_logits(
        x, other, np.where(counts == 0, -100, labels), axis=axis, ignore_index=-100, workers=workers
    )
    yield (
        "comparison",  # (NumPy computes means and their errors: their bits are not promised)
        [
            compared.kl, compared.same_top, compared.kl_quantiles, compared.reference_logprob, compared.other_logprob,
            compared.prob_change,
        ],
    )  # fmt: skip
    yield (
        "divergences",
        [
            *cxent.kl_divergence_with_grad(x, other, axis=axis, reduction="none", workers=workers),
            *cxent.kl_divergence_with_grad(x, other, axis=axis, direction="reverse", temperature=0.7, where=mask),
            *cxent.js_divergence_with_grad(x, other, axis=axis, beta=0.3, sample_weight=sample_weight),
        ],
    )
    yield (
        "binary",
        [
            cxent.sigmoid(x, workers=workers),
            cxent.log_sigmoid(x, workers=workers),
            *cxent.binary_cross_entropy_with_hess(x, mask, label_smoothing=0.1, workers=workers),
            *cxent.binary_cross_entropy_with_hess(x, mask, focal_gamma=2.5, reduction="none", workers=workers),
            *cxent.binary_cross_entropy_with_grad(x, q, sample_weight=np.abs(g), reduction="sum", workers=workers),
            cxent.binary_cross_entropy(np.moveaxis(x, axis, -1), np.moveaxis(mask, axis, -1), pos_weight=weight),
        ],
    )
    predicted = q + dtype(0.125)
    yield (
        "from_probs",
        [
            array
            for target in (labels, q)
            for reduction in ("none", "mean")
            for array in cxent.cross_entropy_from_probs_with_grad(predicted, target, axis=axis, reduction=reduction)
        ],
    )


def hashes(dtype: str, layout: str, workers: int, chosen: Sequence[int] = CLASSES) -> dict[str, str]:
    """A hash of the bits, by number of classes and group."""
    found = {}
    for classes in chosen:
        for group, arrays in results(DTYPES[dtype], layout, classes, workers):
            digest = hashlib.sha256()
            for array in map(np.array, arrays):
                if array.dtype.kind != "i":
                    array[np.isnan(array)] = np.nan
                digest.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
            found[f"{classes} {group}"] = digest.hexdigest()[:DIGITS]
    return found
