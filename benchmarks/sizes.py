"""Two-class functions at every size compared with the peers: from one number to ten million, on one core.

    python benchmarks/sizes.py [--dtypes float32 float64] [--only sigmoid ...]

The peers are PyTorch, JAX and SciPy in their fastest formulations, measured as in ``grid.py``. Prints a Markdown table
for each dtype and operation: cxent's time, and the times of the others relative to it. **Bold** marks a faster peer.
"""

from __future__ import annotations

import argparse

from cases import TWO_CLASS_OPERATIONS
from cells import PEERS_OF_TWO, Row
from formulations import cxent_
from machine import ask, machine
from rows import peers_of

SIZES = [*(m * 10**k for k in range(7) for m in (1, 2, 5)), 10**7, 3, 7, 17, 31, 129, 1_025, 40_003]


def table(rows: list[Row]) -> str:
    """A line for each size."""
    names = [module.NAME for module in PEERS_OF_TWO]
    lines = [f"| numbers | cxent, us | {' | '.join(names)} |", "|---" * (2 + len(names)) + "|"]
    for row in sorted(rows, key=lambda row: row["rows"]):
        own = row["seconds"]["cxent"]
        ratios = {name: seconds / own for name, seconds in peers_of(row).items()}
        cells = [f"**{ratios[n]:.2f}**" if ratios[n] < 1 else f"{ratios[n]:.2f}" for n in names]
        lines.append(f"| {row['rows']:,} | {1e6 * own:.3g} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtypes", nargs="+", default=["float32", "float64"])
    parser.add_argument("--only", nargs="+", default=TWO_CLASS_OPERATIONS, choices=TWO_CLASS_OPERATIONS)
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES)
    arguments = parser.parse_args()
    about = machine({module.NAME: module.DISTRIBUTION for module in [cxent_, *PEERS_OF_TWO]})
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    print(f"{about['cpu']}, {about['kernels']}, {versions}, {about['date']}")
    shapes = [(size,) for size in arguments.sizes]
    rows = ask("cells", 1, shapes=shapes, dtypes=arguments.dtypes, operations=arguments.only)
    for dtype, operation in dict.fromkeys((row["dtype"], row["operation"]) for row in rows):
        those = [row for row in rows if (row["dtype"], row["operation"]) == (dtype, operation)]
        lost = sum(row["ratio"] < 1 for row in those)
        print(f"\n{operation}, {dtype}: a peer is faster at {lost} of {len(those)} sizes\n\n{table(those)}")


if __name__ == "__main__":
    main()
