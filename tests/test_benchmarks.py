"""The benchmark measures what it says, with the peers that are installed, and its pages show what it measured."""

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.once

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture(autouse=True)
def import_path(monkeypatch):
    """The benchmark's modules."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def test_shapes_leave_no_wide_gap():
    import cases

    classes = sorted({s.shape[s.axis] for s in cases.SHAPES.values() if s.group == cases.LARGE})
    assert all(b <= 4 * a for a, b in pairwise(classes))
    assert set(cases.QUICK_SHAPES) <= set(cases.SHAPES)
    assert {"50 x 10", "3,000 x 257", "16 x 5,003", cases.MEMORY_SHAPE} <= set(cases.SHAPES)


def test_grid_of_shapes():
    import grid

    assert len(grid.shapes()) == 438
    assert max(rows * classes for rows, classes in grid.shapes()) <= grid.MOST_NUMBERS


def test_grid_marks_what_is_lost():
    pytest.importorskip("matplotlib")
    import grid

    rows = [
        {"dtype": "float32", "operation": "softmax", "rows": rows, "classes": classes, "ratio": 0.9 if rows == 8 else 2}
        for rows, classes in grid.shapes()
    ]
    figure = grid.draw(rows, "a title")
    assert len(figure.axes[0].texts) == sum(row["ratio"] < 1 for row in rows)


@pytest.mark.slow
def test_cells_of_the_grid():
    pytest.importorskip("torch")
    pytest.importorskip("onnxruntime")
    import cells

    (row,) = cells.cells([(3, 20)], ["float32"], ["softmax"])
    assert set(row["seconds"]) == {"cxent", "PyTorch", "ONNX Runtime"}
    best = min(row["seconds"]["PyTorch"], row["seconds"]["ONNX Runtime"])
    assert row["ratio"] == best / row["seconds"]["cxent"]


@pytest.mark.slow
def test_sizes_of_two_class_problems():
    for peer in ("torch", "jax", "scipy"):
        pytest.importorskip(peer)
    import cells
    import sizes

    assert {1, 10, 10**7} < set(sizes.SIZES)
    rows = cells.cells([(3,), (1_500,)], ["float64"], ["two-class loss+grad"])
    assert [row["rows"] for row in rows] == [3, 1_500]
    assert all(set(row["seconds"]) == {"cxent", "PyTorch", "JAX", "SciPy"} for row in rows)
    assert "| 1,500 |" in sizes.table(rows)


@pytest.mark.slow  # (the benchmark wants the newest of its peers, NumPy too)
@pytest.mark.filterwarnings("ignore")  # what peers warn of is theirs
@pytest.mark.parametrize(
    ("dtype", "shape", "axis"),
    [
        ("float32", (40, 30), -1),
        ("float32", (3, 5, 4), 1),
        ("float64", (3, 5, 4), 1),
        ("float16", (40, 30), -1),
        ("bfloat16", (40, 30), -1),
        ("float32", (1200,), -1),
        ("float64", (7,), -1),
        ("float16", (1200,), -1),
        ("bfloat16", (1200,), -1),
    ],
)
def test_every_peer_computes_it_or_says_why_not(dtype, shape, axis):
    pytest.importorskip("ml_dtypes")
    from cases import OPERATIONS, TWO_CLASS_OPERATIONS, Case, Shape
    from formulations import installed
    from reference import Reference, error_of, tolerance

    case = Case(Shape(shape, axis), dtype, 1)
    reference = Reference(case)
    operations = TWO_CLASS_OPERATIONS if len(shape) == 1 else OPERATIONS
    assert case.operations(OPERATIONS + TWO_CLASS_OPERATIONS) == case.operations(operations)
    for name, formulations in installed(case)[0].items():
        assert set(formulations) == set(operations), name
        for operation in case.operations(operations):
            calls = formulations[operation]
            assert calls, (name, operation)
            if not isinstance(calls, str):
                expected = reference.result(operation)
                errors = [error_of(call(), expected, dtype) for call in calls]
                assert max(errors) < tolerance(operation, dtype) / 4, (name, operation, errors)


def test_another_result_is_not_exact_enough():
    from reference import TOLERANCE, error_of

    expected = (np.array([0.25, 0.75]),)
    assert error_of(expected[0], expected, "float32") == 0
    for wrong in ([0.2501, 0.7499], [0.25, np.nan], [0.25, 0.75, 0.0]):
        assert not error_of(np.array(wrong), expected, "float32") <= TOLERANCE["float32"]


def test_a_row_whose_copy_strays_is_run_again(monkeypatch):
    import measure

    runs = []

    def fake(contenders, budget):
        runs.append(contenders)
        slow = 2.0 if contenders == "b" and runs.count("b") == 1 else 1.0
        return {measure.COPY: measure.Timing(slow, slow, slow)}

    monkeypatch.setattr(measure, "measure", fake)
    found = measure.measure_rows({name: name for name in "abc"}, 0.0)
    assert runs == ["a", "b", "c", "b"]
    assert [strayed for _, strayed in found.values()] == [0, 0, 0]
    assert measure.quartiles([1.0, 2.0, 3.0, 4.0, 5.0]) == (2.0, 3.0, 4.0)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux can pin a process")
@pytest.mark.slow
def test_runs_from_command_to_page(tmp_path):
    pytest.importorskip("matplotlib")
    command = [sys.executable, BENCHMARKS / "peers.py", "--threads", "1", "--budget", "0.01", "--dtypes", "float32"]
    selection = ["--shapes", "50 x 10", "--only", "softmax", "loss+grad", "--out", tmp_path]
    run = subprocess.run([*command, *selection], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    results = json.loads(next(tmp_path.glob("*.json")).read_text())
    page = next(tmp_path.glob("*.md")).read_text()
    assert len(results["rows"]) == 2
    for row in results["rows"]:
        known = set(row["seconds"]) | set(row["reasons"]) | set(results["missing"])
        assert known == {*"cxent NumPy SciPy scikit-learn PyTorch JAX".split(), "ONNX Runtime", "np.copyto", "exp"}
        assert set(row["quartiles"]) == set(row["seconds"])
        assert f"| {row['shape']} | {row['operation']} |" in page
    for name in results["missing"]:
        assert f"{name} is not installed and was left out" in run.stderr


def test_pages_are_those_of_the_results():
    from report import RESULTS, SUMMARIES, filled, index, report, stored

    everything = stored()
    assert everything
    for stem, results in everything.items():
        page = (RESULTS / f"{stem}.md").read_text()
        assert page == report(results, stem)
        for table in page.split("\n\n"):
            if table.startswith("|"):
                assert len({line.count("|") for line in table.splitlines()}) == 1
        assert all((RESULTS / f"{stem}-{chart}.svg").exists() for chart in results["charts"])
    assert (BENCHMARKS / "README.md").read_text() == index(everything)
    assert [path.name for path in SUMMARIES if path.read_text() != filled(path.read_text())] == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # what peers warn of is theirs
def test_calibration_and_comparison(monkeypatch):
    pytest.importorskip("matplotlib")
    import evaluation
    import metrics

    monkeypatch.setattr(metrics, "SHAPES", {operation: [(300, 7)] for operation in metrics.SHAPES})
    monkeypatch.setattr(metrics, "BLOCK", 700)  # blocks of 100 rows
    rows = metrics.metrics("time", 1, budget=0.0)
    for row in rows:
        assert set(row["seconds"]) | set(row["reasons"]) == set(evaluation.NAMES)
        assert row["seconds"]["cxent"] > 0
    lines = "\n".join(evaluation.page({1: rows}, [{**row, "bytes": {"cxent": 2e6}} for row in rows])).splitlines()
    for operation in metrics.SHAPES:
        assert sum(line.startswith(f"| {operation} | 300 x 7 |") for line in lines) == 2
        assert f"| {operation} | 300 x 7 | 2.0 | - | - | - | - |" in lines
    assert "- scikit-learn has no such function: compare logits." in lines


def test_another_metric_is_not_timed():
    import metrics

    metrics.require_right("a peer", metrics.FIT, (1.5,), (1.5001,))
    for wrong in (1.51, float("nan")):
        with pytest.raises(ValueError, match="a peer, fit temperature"):
            metrics.require_right("a peer", metrics.FIT, (wrong,), (1.5,))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # what peers warn of is theirs
def test_large_vocabularies(monkeypatch):
    pytest.importorskip("dask")
    pytest.importorskip("scipy")
    import chunked
    import layer

    for name, size in (("ROWS", 40), ("WIDTH", 8), ("CLASSES", 300)):
        monkeypatch.setattr(layer, name, size)
    seconds = layer.layer("time", 1)
    assert {"cxent", layer.PRODUCTS} <= set(seconds)
    assert all(len(sample) == 7 and min(sample) > 0 for sample in seconds.values())
    monkeypatch.setattr(chunked, "SHAPE", (8, 60))
    monkeypatch.setattr(chunked, "CHUNKS", (4, 20))
    for operation, samples in chunked.chunked("time", 1).items():
        assert min(samples["cxent"]) > 0, operation
    arrays = chunked.chunked("arrays", 1)
    assert arrays["logsumexp"]["cxent"] == arrays["loss"]["cxent"] == 0
    labels = np.arange(8)
    logits = 4 * np.sin(0.37 * labels[:, np.newaxis] + 0.001 * np.arange(60) * (1 + labels[:, np.newaxis] % 7))
    import dask.array as da

    given = da.from_array(logits.astype(np.float32), chunks=(4, 20))
    for operation, contenders in chunked.functions(labels).items():
        values = [np.asarray(function(given)) for function in contenders.values()]
        for value in values:
            np.testing.assert_allclose(value, values[0], rtol=1e-5, err_msg=operation)
