"""What one row of the results shows: who is how fast, and where a peer is faster."""

from __future__ import annotations

import re
from typing import Any

from ceilings import COPY, EXP

Results = dict[str, Any]
Row = dict[str, Any]

SHOWN_SHAPES = ["1 x 10", "1,024 x 10", "256 x 1,000", "1,000,000 x 3", "4,096 x 1,000", "256 x 128,256"]
SHOWN_OPERATIONS = {
    "softmax": "softmax",
    "log_softmax": "log-softmax",
    "logsumexp": "logsumexp",
    "loss": "loss",
    "loss+grad": "loss and gradient",
}


def peers_of(row: Row) -> dict[str, float]:
    return {name: t for name, t in row["seconds"].items() if name not in ("cxent", COPY, EXP)}


def best_peer(row: Row) -> str:
    peers = peers_of(row)
    return min(peers, key=peers.__getitem__)


def ratio_to(other: float | None, row: Row) -> float:
    """cxent's speed relative to another's; NaN if either is missing."""
    return (other or float("nan")) / float(row["seconds"].get("cxent", "nan"))


def ratio_to_best(row: Row) -> float:
    return ratio_to(min(peers_of(row).values(), default=None), row)


def short(ratio: float) -> str:
    """Two digits from 1.1 on; below or nearer to 1, as many as are needed to tell it from 1."""
    return f"{ratio:.3f}" if 0.995 <= ratio < 1 else f"{ratio:.2f}" if ratio < 1.095 else f"{ratio:.1f}"


def shown(results: Results) -> dict[tuple[str, str], Row]:
    """The rows shown in charts and on the site, by shape and operation: float32 on one core."""
    found = {(r["shape"], r["operation"]): r for r in results["rows"] if (r["threads"], r["dtype"]) == (1, "float32")}
    keys = [(shape, operation) for shape in SHOWN_SHAPES for operation in SHOWN_OPERATIONS]
    return {key: found[key] for key in keys if key in found and peers_of(found[key])}


def stem_of(machine: dict[str, Any]) -> str:
    """A file name for a CPU and its kernels."""
    return re.sub(r"[^a-z0-9]+", "-", f"{machine['cpu']} {machine['kernels']}".lower()).strip("-")
