"""The benchmark runs with the peers that are installed, and its report shows what it measured."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux can pin a process")
def test_runs_and_names_missing_peers():
    command = [sys.executable, BENCHMARKS / "peers.py", "--threads", "1", "--budget", "0.01", "--dtypes", "float32"]
    selection = ["--shapes", "1 x 10", "--operations", "softmax", "loss+grad"]
    run = subprocess.run([*command, *selection], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    for operation in ("softmax", "loss+grad"):
        assert f"1 x 10                      {operation}" in run.stderr
    for name, module in (("PyTorch", "torch"), ("JAX", "jax"), ("ONNX Runtime", "onnxruntime")):
        missing = f"{name} is not installed and was left out" in run.stderr
        assert missing == (importlib.util.find_spec(module) is None)


def test_readme_is_the_report_of_the_results(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from report import report

    results = json.loads((BENCHMARKS / "results.json").read_text())
    assert (BENCHMARKS / "README.md").read_text() == report(results)
