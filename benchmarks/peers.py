"""cxent compared with its peers, each in its fastest form: elements per second and peak memory.

    pip install -e '.[bench]' && python benchmarks/peers.py

Measures on one core and on two, and writes ``results/<cpu>.json``, its tables and charts, and ``README.md``. With a
selection (``--quick``, ``--shapes``, ``--only``, ``--dtypes``, ``--threads``) it prints the tables instead, or writes
them to ``--out``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import cases
from formulations import PEERS
from machine import ask, machine
from report import RESULTS, report, write, write_index
from rows import Results, stem_of

OPERATIONS = cases.OPERATIONS + cases.TWO_CLASS_OPERATIONS


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few shapes and operations: two minutes")
    parser.add_argument("--shapes", nargs="+", choices=cases.SHAPES, metavar="SHAPE")
    parser.add_argument("--only", nargs="+", choices=OPERATIONS, metavar="OPERATION")
    parser.add_argument("--dtypes", nargs="+", choices=cases.DTYPES)
    parser.add_argument("--threads", nargs="+", type=int)
    parser.add_argument("--budget", type=float, help="seconds for one row of the table")
    parser.add_argument("--out", type=Path, metavar="FOLDER")
    return parser.parse_args()


def main() -> None:
    chosen = options()
    everything = not (chosen.quick or chosen.shapes or chosen.only or chosen.dtypes or chosen.threads)
    budget = chosen.budget or (0.5 if chosen.quick else 2.0)
    operations = chosen.only or (cases.QUICK_OPERATIONS if chosen.quick else OPERATIONS)
    labels = chosen.shapes or (cases.QUICK_SHAPES if chosen.quick else list(cases.SHAPES))
    selection: dict[str, Any] = {
        "shapes": [cases.SHAPES[label] for label in labels],
        "operations": operations,
        "dtypes": chosen.dtypes or (cases.QUICK_DTYPES if chosen.quick else cases.DTYPES),
    }
    parts = [
        ask("speed", cpus=n, threads=n, budget=budget, **selection)
        for n in chosen.threads or ([1] if chosen.quick else [1, 2])
    ]
    results: Results = {
        "machine": machine({peer.NAME: peer.DISTRIBUTION for peer in PEERS}),
        "missing": parts[0]["missing"],
        "charts": {},
        "memory": {},
        "rows": [row for part in parts for row in part["rows"]],
    }
    if everything:
        growth: dict[str, Any] = {
            "shapes": cases.SCALING,
            "operations": cases.SCALING_OPERATIONS,
            "dtypes": ["float32"],
        }
        results["scaling"] = ask("speed", cpus=1, threads=1, budget=budget, **growth)["rows"]
        results["memory"] = ask("memory", cpus=1, keep_memory=False)
    folder = chosen.out or (RESULTS if everything else None)
    if folder is None:
        print(report(results, ""))
    else:
        folder.mkdir(exist_ok=True)
        write(results, folder, stem_of(results["machine"]))
    if folder is not None and folder.resolve() == RESULTS.resolve():
        write_index()
    for name in results["missing"]:
        print(f"{name} is not installed and was left out", file=sys.stderr)


if __name__ == "__main__":
    main()
