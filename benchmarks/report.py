"""Write every speed that a page shows from the measured results: ``python benchmarks/report.py``.

Each file in ``results`` is for one CPU and one set of kernels. It gets tables and charts of its own, and a line in the
``README.md`` in this folder. Pages that show some of the numbers (``SUMMARIES``) mark the place with two comments, such
as ``<!-- ratios of STEM -->`` and ``<!-- end -->``, and the text between them is written here.
"""

from __future__ import annotations

import json
import math
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

from cases import FEW, MEMORY_SHAPE
from ceilings import COPY, EXP
from measure import STRAYS
from rows import SHOWN_OPERATIONS, Results, Row, best_peer, peers_of, ratio_to, ratio_to_best, short, shown

HERE = Path(__file__).parent
RESULTS = HERE / "results"
SUMMARIES = [HERE.parent / "README.md", HERE.parent / "docs" / "speed.md"]

LEGEND = f"""\
Shapes are rows x classes, or the number of two-class problems. Speeds are in 10^9 elements (logits) per second; higher
is better. For arrays of fewer than {FEW:,} elements, times are in microseconds per call, lower is better, and results
are allocated. Each number is the median of interleaved runs, with the quartiles in parentheses. *Ratio* is cxent's
speed divided by that of the fastest peer; it is **bold** where the peer is faster.

Every row also has two upper bounds: *{COPY}* of the logits reads and writes what a softmax must (a loss writes less),
and *{EXP}* is the kernels' own exponential of as many numbers. The last two columns are cxent's speed divided by these
(with two cores, run in two threads where that is faster). A tilde means that the copy varied by more than {STRAYS:.0%}
however often the row was run, so something else was running on the machine.

"Soft" targets are class probabilities, all others class indices. "Smoothed" has class weights and label smoothing.
"Masked" has a mask of the logits' shape, in which 30% of the classes take no part. "Focal" has the factor (1 - p)^2.
"Scores" are log-probabilities of labels, with those of the ten most likely classes, or of logits divided by a
temperature for each row; cxent's time includes ranks and entropies. A dash: not computed.
"""

INDEX = """\
# Benchmarks

    pip install -e '.[bench]' && python benchmarks/peers.py

measures cxent and its peers in one run, on one core and on two. `[bench]` installs PyTorch, JAX, ONNX Runtime,
scikit-learn, SciPy and Matplotlib: about 6 GB on Linux, nearly all of it PyTorch with its CUDA libraries. If a CPU-only
build of PyTorch is installed first, pip keeps that, and the rest is about 0.7 GB.

Every peer gets its fastest formulation, preallocated output where it can take it, and an allocator that keeps freed
memory. Each result is compared with a float64 reference before it is timed. Runs are interleaved; the numbers are
medians with quartiles. Two upper bounds are given for comparison: a copy of the logits, and the exponential alone. All
rows are shown, including those where a peer is faster.

`--quick` takes two minutes and prints its tables. `--shapes`, `--only`, `--dtypes` and `--threads` select rows, `--out`
sets a folder for the tables. `CXENT_ISA=v3` measures as on a CPU without AVX-512, and limits PyTorch, JAX and NumPy in
the same way.

`python benchmarks/report.py` rewrites all tables and charts from `results/*.json`, including those in the main README
and on the page on speed.

| CPU | kernels | version | date | a peer is faster in | |
|---|---|---|---|---|---|
"""

OTHER_TABLES = {"large": "linear layers and Dask arrays", "evaluation": "calibration and comparison of logits"}

FILES = """- [the errors of all libraries](results/accuracy.md)

| file | contents |
|---|---|
| `peers.py` | the command |
| `cases.py` | shapes, operations, dtypes, and the arrays of one case |
| `formulations/` | a file for each peer: its formulations of each operation, or why it has none |
| `reference.py` | every operation in float64, and the error of a result |
| `ceilings.py` | the upper bounds: the copy and the exponential |
| `measure.py` | interleaved rounds, quartiles, repeated rows |
| `machine.py` | the CPU, and pinned processes |
| `speed.py`, `memory.py` | the measurements in such a process |
| `grid.py`, `cells.py` | a separate command: 438 shapes, rows x classes, against PyTorch and ONNX Runtime |
| `sizes.py` | a separate command: two-class problems, from one number to ten million |
| `situations.py` | a separate command: the gain from a second thread after a sleep or a matrix product |
| `large.py` | a separate command: a linear layer, and Dask arrays |
| `layer.py`, `chunked.py` | the measurements in its processes |
| `evaluation.py`, `metrics.py` | a separate command: temperatures, calibration errors, comparison of logits |
| `accuracy.py` | a separate command: the errors of all libraries |
| `rows.py` | the interpretation of one row of results |
| `report.py`, `charts.py` | tables and charts from `results/*.json` |
"""


def lost(rows: list[Row]) -> str:
    return f"{sum(ratio_to_best(row) < 1 for row in rows)} of {len(rows)} rows"


def cell(row: Row, name: str) -> str:
    """A median, with its quartiles if there are any."""
    if name not in row["seconds"]:
        return "-"
    small = row["elements"] < FEW

    def number(seconds: float) -> str:
        return f"{1e6 * seconds:.3g}" if small else f"{row['elements'] / seconds / 1e9:.3g}"

    median = row["seconds"][name]
    text = number(median) + (" us" if small else "")
    if name in row.get("quartiles", {}):
        ends = row["quartiles"][name]
        text += " ({} to {})".format(*map(number, ends if small else reversed(ends)))
    if name not in (COPY, EXP) and ratio_to(median, row) < 1:
        return f"**{text}**"
    return f"~{text}" if name == COPY and row.get("strayed", 0) > STRAYS else text


def table(head: list[str], lines: list[list[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield "|---" * len(head) + "|"
    for line in lines:
        yield f"| {' | '.join(line)} |"


def ratio(number: float) -> str:
    if number != number:
        return "-"
    return f"{number:.2f}" if number >= 1 else f"**{number:.2f}**"


def share(number: float) -> str:
    return "-" if number != number else f"{number:.2f}"


def speed_table(rows: list[Row], names: list[str]) -> Iterator[str]:
    head = ["shape", "operation", *names, COPY, EXP, "ratio", "copy", "of exp"]
    lines = []
    for row in rows:
        ceilings = [share(ratio_to(row["seconds"].get(name), row)) for name in (COPY, EXP)]
        cells = [cell(row, name) for name in [*names, COPY, EXP]]
        lines.append([row["shape"], row["operation"], *cells, ratio(ratio_to_best(row)), *ceilings])
    return table(head, lines)


def speed_sections(rows: list[Row], names: list[str]) -> Iterator[str]:
    """A section for each number of threads and dtype, with one table for each group of shapes."""
    for threads, dtype in dict.fromkeys((row["threads"], row["dtype"]) for row in rows):
        those = [row for row in rows if (row["threads"], row["dtype"]) == (threads, dtype)]
        where = "one core" if threads == 1 else f"{threads} cores, `workers={threads}`"
        yield f"\n## {dtype}, {where}\n\nA peer is faster in {lost(those)}."
        for group in dict.fromkeys(row["group"] for row in those):
            yield f"\n### {group[:1].upper()}{group[1:]}: {dtype}, {where}\n"
            yield from speed_table([row for row in those if row["group"] == group], names)


def memory_section(memory: dict[str, dict[str, float]], names: list[str]) -> Iterator[str]:
    yield (
        f"\n## Memory\n\nPeak memory that one call adds, in multiples of the logits, {MEMORY_SHAPE} in float32. A"
        "\nresult counts unless it goes to memory that was there.\n"
    )
    lines = [[o, *(f"{peaks[n]:.2f}" if n in peaks else "-" for n in names)] for o, peaks in memory.items()]
    yield from table(["operation", *names], lines)


def error_section(rows: list[Row], names: list[str]) -> Iterator[str]:
    """The worst error over all shapes. A formulation that is not timed counts too: its reason is given."""
    worst: dict[tuple[str, str], dict[str, float]] = {}
    for row in rows:
        peers = worst.setdefault((row["dtype"], row["operation"]), {})
        for name, errors in row.get("errors", {}).items():
            peers[name] = max(peers.get(name, 0.0), *errors)
    if any(worst.values()):
        yield (
            "\n## Errors\n\nThe largest difference from the float64 reference in any of these arrays, in epsilons of"
            "\nthe dtype, relative to the number and the mean size of its array. The reference is rounded too.\n"
        )
        lines = [[*key, *(f"{e[n]:.2g}" if n in e else "-" for n in names)] for key, e in worst.items()]
        yield from table(["dtype", "operation", *names], lines)


def reason_section(rows: list[Row]) -> Iterator[str]:
    """The reasons for dashes in the tables."""
    dashes: dict[tuple[str, str], dict[str, None]] = {}
    for row in rows:
        for name, reason in row.get("reasons", {}).items():
            dashes.setdefault((name, reason), {})[row["operation"]] = None
    if dashes:
        yield "\n## Dashes\n"
    for (name, reason), operations in dashes.items():
        yield f"- {name} {reason}: {'; '.join(operations)}."


def report(results: Results, stem: str) -> str:
    """The page of one CPU; its charts are in the same folder."""
    machine, rows = results["machine"], results["rows"]
    names = list(machine["versions"])
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    lines = [f"# {machine['cpu']}, {machine['kernels']} kernels\n"]
    if "note" in machine:
        lines.append(f"**{machine['note']}**\n")
    lines.append(f"Python {machine['python']}, {versions}; {machine['date']}.\n")
    if machine.get("limits"):
        lines.append("Limited by " + ", ".join(f"`{n}={v}`" for n, v in machine["limits"].items()) + ".\n")
    if results["missing"]:
        lines.append(f"Not installed, and left out: {', '.join(results['missing'])}.\n")
    lines.append(LEGEND)
    lines += [f"![{text}]({stem}-{name}.svg)\n" for name, text in results["charts"].items()]
    lines.append(f"A peer is faster in {lost(rows)}.")
    lines += speed_sections(rows, names)
    if results["memory"]:
        lines += memory_section(results["memory"], names)
    lines += error_section(rows, names)
    lines += reason_section(rows)
    return "\n".join(lines).rstrip() + "\n"


def index(everything: dict[str, Results]) -> str:
    """``README.md``: an overview of all results."""
    lines = []
    for stem, results in everything.items():
        machine = results["machine"]
        version = machine["versions"]["cxent"] + (", earlier kernels" if "note" in machine else "")
        cells = [machine["cpu"], machine["kernels"], version, machine["date"], lost(results["rows"])]
        lines.append(f"| {' | '.join(cells)} | [tables](results/{stem}.md) |\n")
    lines.append("\nOther tables:\n\n")
    for name, contents in OTHER_TABLES.items():
        stems = [stem for stem in everything if (RESULTS / f"{stem}-{name}.md").exists()]
        cpus = [f"[{everything[stem]['machine']['cpu']}](results/{stem}-{name}.md)" for stem in stems]
        if cpus:
            lines.append(f"- {contents}: {', '.join(cpus)}\n")
    return INDEX + "".join(lines) + FILES


def wrapped(text: str) -> str:
    return textwrap.fill(text, 120, subsequent_indent="  " if text.startswith("- ") else "", break_on_hyphens=False)


LOST = "\N{LARGE ORANGE SQUARE} "  # coloured in every Markdown renderer


def ratio_lines(results: Results) -> Iterator[str]:
    """cxent's speed relative to the best peer, for the rows shown in the chart."""
    rows = shown(results)
    lines = []
    for shape in dict.fromkeys(shape for shape, _ in rows):
        ratios = {name: ratio_to_best(rows[shape, name]) for name in SHOWN_OPERATIONS if (shape, name) in rows}
        cells = [(LOST if r < 1 else "") + short(r) for r in (ratios.get(n, math.nan) for n in SHOWN_OPERATIONS)]
        lines.append([shape, *cells])
    return table(["rows x classes", *SHOWN_OPERATIONS.values()], lines)


def loss_lines(results: Results) -> Iterator[str]:
    """Every row in which a peer is faster, by dtype and threads."""
    rows = [row for row in results["rows"] if peers_of(row)]
    for threads, dtype in dict.fromkeys((row["threads"], row["dtype"]) for row in rows):
        those = [row for row in rows if (row["threads"], row["dtype"]) == (threads, dtype)]
        losses: dict[tuple[str, str], list[str]] = {}
        for row in those:
            if (ratio := ratio_to_best(row)) < 1:
                losses.setdefault((best_peer(row), row["operation"]), []).append(f"{row['shape']} ({short(ratio)})")
        named = "; ".join(f"{peer}, {operation}: {', '.join(places)}" for (peer, operation), places in losses.items())
        where = "one core" if threads == 1 else f"{threads} threads"
        yield wrapped(f"- **{dtype}, {where}: {lost(those)}.** {named}")


def grid_lines(results: Results) -> Iterator[str]:
    """At how many shapes of the grid a peer is faster, by more than the noise, and by how much at most."""
    from grid import LOST as LEAST
    from grid import OPERATIONS

    rows = results["rows"]
    lines = []
    for dtype in dict.fromkeys(row["dtype"] for row in rows):
        cells = []
        for operation in OPERATIONS:
            ratios = [row["ratio"] for row in rows if (row["dtype"], row["operation"]) == (dtype, operation)]
            cells.append(f"{sum(r < LEAST for r in ratios)} of {len(ratios)} (from {short(min(ratios))})")
        lines.append([dtype, *cells])
    return table(["", *map(SHOWN_OPERATIONS.__getitem__, OPERATIONS)], lines)


def source_lines(results: Results) -> Iterator[str]:
    """The CPU, date and versions of these results."""
    machine = results["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    yield wrapped(f"{machine['cpu']}, `{machine['kernels']}` kernels, {machine['date']}; {versions}.")


FILLED = {"ratios": ratio_lines, "losses": loss_lines, "grid": grid_lines, "source": source_lines}


def filled(page: str) -> str:
    """The page with the results filled into its marked places."""

    def block(found: re.Match[str]) -> str:
        what, path = found[1], RESULTS / f"{found[2]}.json"
        lines = FILLED[what](json.loads(path.read_text()))
        return f"<!-- {what} of {found[2]} -->\n\n" + "\n".join(lines) + "\n\n<!-- end -->"

    return re.sub(r"<!-- (\w+) of (\S+) -->\n.*?<!-- end -->", block, page, flags=re.DOTALL)


def write_grids() -> None:
    """Draw the results of ``grid.py``."""
    from grid import draw_grid

    for path in sorted((RESULTS / "grid").glob("*.json")):
        draw_grid(json.loads(path.read_text()), path.with_suffix(".svg"))


def write(results: Results, folder: Path, stem: str) -> None:
    """Write the results, tables and charts of one CPU."""
    from charts import draw

    results["charts"] = draw(results, folder, stem)
    (folder / f"{stem}.json").write_text(json.dumps(results, indent=1) + "\n")
    (folder / f"{stem}.md").write_text(report(results, stem))


def stored() -> dict[str, Results]:
    return {path.stem: json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))}


def write_index() -> None:
    (HERE / "README.md").write_text(index(stored()))


if __name__ == "__main__":
    for stem, results in stored().items():
        write(results, RESULTS, stem)
    write_index()
    write_grids()
    for path in SUMMARIES:
        path.write_text(filled(path.read_text()))
