"""``python -m cxent compare``: two files of logits, compared as by llama.cpp's ``llama-perplexity --kl-divergence``."""

from __future__ import annotations

import argparse
import io
import json
import math
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from ._compare import Comparison, Estimate, compare_logits
from ._progress import CHUNK_BYTES
from ._types import Array

# From the largest number to the smallest, as they are printed.
_NAMES = {
    1.0: "Maximum", 0.999: "99.9%", 0.99: "99.0%", 0.95: "95.0%", 0.9: "90.0%", 0.75: "75.0%", 0.5: "Median",
    0.25: "25.0%", 0.1: "10.0%", 0.05: " 5.0%", 0.01: " 1.0%", 0.001: " 0.1%", 0.0: "Minimum",
}  # fmt: skip
_OF_CHANGES_ALONE = (0.75, 0.25)


class _Failure(Exception):
    """What is wrong with the files or the options, in words for the user."""


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """The options of the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "compare",
        help="compare two files of logits, for instance before and after quantization",
        description="Compare logits with those of a reference, for the same tokens: KL divergence, perplexities, and "
        "the change of the probability of the right token. Files are read as memory maps, a part at a time.",
    )
    parser.add_argument(
        "base", type=Path, metavar="base.npy", help="the reference: logits, with classes on the last axis"
    )
    parser.add_argument("other", type=Path, metavar="other.npy", help="other logits of the same shape")
    parser.add_argument("--ids", type=Path, metavar="ids.npy", help="the right tokens, for perplexities")
    parser.add_argument(
        "--json",
        action="store_true",
        default=argparse.SUPPRESS,  # (or else this would undo a --json before the command)
        help="print one JSON object; what is infinite or no number is null",
    )
    parser.add_argument("--temperature", type=float, default=1.0, help="what logits are divided by (default: 1)")
    parser.add_argument("--ignore-index", type=int, metavar="ID", help="tokens with this id do not count")
    parser.add_argument("--workers", type=int, metavar="N", help="number of threads; -1 means all CPUs")
    parser.add_argument(
        "--chunk-bytes",
        type=int,
        default=CHUNK_BYTES,
        metavar="N",
        help="how much is read at a time (default: 48 MiB)",
    )
    parser.add_argument(
        "--dtype", choices=["bfloat16"], help="what 16-bit integers in the files of logits are the bits of"
    )
    return parser


def run(parser: argparse.ArgumentParser, chosen: argparse.Namespace) -> int:
    """Compare, and print the result. Bad files or options end the process with status 2."""
    try:
        reference, other = (_logits(path, chosen.dtype) for path in (chosen.base, chosen.other))
        ids = None if chosen.ids is None else _mapped(chosen.ids)
        try:
            found = compare_logits(
                reference,
                other,
                ids,
                temperature=chosen.temperature,
                ignore_index=chosen.ignore_index,
                quantiles=list(_NAMES),
                chunk_bytes=chosen.chunk_bytes,
                progress=sys.stderr.isatty() and find_spec("tqdm") is not None,
                workers=chosen.workers,
            )
        except (TypeError, ValueError, IndexError) as error:
            raise _Failure(str(error)) from error
    except _Failure as failure:
        parser.error(str(failure))  # (exits)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # not every terminal has a Δ
    print(_json(found) if chosen.json else _report(found))
    return 0


def _mapped(path: Path) -> Array:
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except OSError as error:
        raise _Failure(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, EOFError) as error:
        raise _Failure(f"cannot read {path}: it is no .npy file, or ends too soon ({error})") from error


def _logits(path: Path, dtype: str | None) -> Array:
    array = _mapped(path)
    if dtype == "bfloat16":
        # (np.save writes bfloat16 arrays as numbers without a meaning, of dtype V2.)
        if array.dtype.itemsize != 2 or array.dtype.kind not in "iuV":
            raise _Failure(f"with --dtype bfloat16, {path} must have dtype uint16, got {array.dtype}")
        try:
            return array.view(import_module("ml_dtypes").bfloat16)
        except ImportError as error:
            raise _Failure("--dtype bfloat16 needs ml_dtypes: install it") from error
    if array.dtype.kind != "f":
        hint = ": are these the bits of --dtype bfloat16?" if array.dtype.itemsize == 2 else ""
        raise _Failure(f"{path} must have dtype float16, float32 or float64, got {array.dtype}{hint}")
    return array


def _report(found: Comparison) -> str:
    """The same lines in the same order as llama.cpp's tool prints."""
    lines = []
    if found.correlation is not None:
        lines += [
            "====== Perplexity statistics ======",
            f"Mean PPL(Q)                   : {_pair(found.other_perplexity)}",
            f"Mean PPL(base)                : {_pair(found.reference_perplexity)}",
            f"Cor(ln(PPL(Q)), ln(PPL(base))): {100 * found.correlation:6.2f}%",
            f"Mean ln(PPL(Q)/PPL(base))     : {_pair(found.log_ratio)}",
            f"Mean PPL(Q)/PPL(base)         : {_pair(found.perplexity_ratio)}",
            f"Mean PPL(Q)-PPL(base)         : {_pair(found.perplexity_difference)}",
            "",
        ]
    lines += ["====== KL divergence statistics ======", f"Mean    KLD: {_pair(found.kl_mean)}"]
    lines += [
        f"{name:7} KLD: {value:10.6f}"
        for (fraction, name), value in zip(_NAMES.items(), found.kl_quantiles, strict=True)
        if fraction not in _OF_CHANGES_ALONE
    ]
    lines += ["", "====== Token probability statistics ======"]
    if found.prob_change_quantiles is not None:
        lines.append(f"Mean    Δp: {_percent(found.prob_change_mean)}")
        lines += [
            f"{name:7} Δp: {100 * value:6.3f}%"
            for name, value in zip(_NAMES.values(), found.prob_change_quantiles, strict=True)
        ]
        lines.append(f"RMS Δp    : {_percent(found.prob_change_rms)}")
    lines.append(f"Same top p: {_percent(found.same_top_mean)}")
    return "\n".join(lines)


def _pair(estimate: Estimate | None) -> str:
    assert estimate is not None
    return f"{estimate.value:10.6f} ± {estimate.error:10.6f}"


def _percent(estimate: Estimate | None) -> str:
    assert estimate is not None
    return f"{100 * estimate.value:6.3f} ± {100 * estimate.error:5.3f} %"


def _json(found: Comparison) -> str:
    """All but the numbers of each token."""
    of_tokens = {"kl", "same_top", "reference_logprob", "other_logprob", "prob_change"}
    numbers = {name: _plain(value) for name, value in found._asdict().items() if name not in of_tokens}
    return json.dumps({"quantiles": list(_NAMES), **numbers}, indent=2, allow_nan=False)


def _plain(value: Any) -> Any:
    """What JSON has for it."""
    if isinstance(value, Estimate):
        return {name: _plain(number) for name, number in value._asdict().items()}
    if isinstance(value, np.ndarray):
        return [_plain(number) for number in value.tolist()]
    return None if isinstance(value, float) and not math.isfinite(value) else value
