"""`python -m cxent`: what it prints, and that it finds kernels that are wrong."""

import json

import numpy as np
import pytest

import cxent
from cxent import __main__ as command
from cxent import _selfcheck

pytestmark = pytest.mark.once


@pytest.fixture
def briefly(monkeypatch):
    """A check of few classes, without speeds."""
    monkeypatch.setattr(_selfcheck, "CLASSES", [3, 10])
    monkeypatch.setattr(_selfcheck, "SPEEDS", [(1, 10)])


def test_report(capsys, monkeypatch):
    monkeypatch.setattr(_selfcheck, "SPEEDS", [(1, 10)])
    assert command.main(["--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["kernels"]["in_use"] == cxent.kernels.serving.name
    assert [check["kernels"] for check in found["checks"]] == [n for n in cxent.kernels.available() if n != "python"]
    for check in found["checks"]:
        assert check["passed"] and check["worst_error"] <= 4 and check["golden_failures"] == []
        assert (check["golden_hashes"] > 200) == (check["kernels"] in cxent.kernels.fused())
    assert all(speed["cxent"] > 0 < speed["numpy"] for speed in found["speeds"])


def test_report_for_people(briefly, capsys):
    assert command.main([]) == 0
    printed = capsys.readouterr().out
    assert f"kernels in use: {cxent.kernels.serving.name}" in printed
    for name in cxent.kernels.available():
        if name != "python":
            assert f"{name:8}     ok" in printed
    assert "FAILED" not in printed


def test_an_error_above_the_promise_is_found(briefly, monkeypatch, capsys):
    monkeypatch.setattr(_selfcheck, "worst_error", lambda name: 4.01)
    assert command.main([]) == 1
    assert "FAILED" in capsys.readouterr().out


def test_no_compiled_kernels_is_a_failure(briefly, monkeypatch, capsys):
    monkeypatch.setattr(cxent.kernels, "available", lambda: ["python"])
    assert command.main([]) == 1
    assert "FAILED: no compiled kernels" in capsys.readouterr().out
    assert command.main(["--json"]) == 1


def test_the_kernels_in_use_stay(briefly, capsys):
    before = cxent.kernels.serving
    command.main(["--json"])
    assert cxent.kernels.serving is before


@pytest.mark.skipif(cxent.kernels.available() == ["python"], reason="nothing is compiled")
def test_wrong_numbers_are_found(briefly, monkeypatch, capsys):
    name = cxent.kernels.available()[-1]
    monkeypatch.setattr(cxent.kernels, "available", lambda: ["python", name])
    original = _selfcheck._results

    def results(x, labels):
        found = original(x, labels)
        found[0] = found[0] * (1 if x.dtype == np.float64 else np.float32(1.00001))
        return found

    monkeypatch.setattr(_selfcheck, "_results", results)
    assert command.main([]) == 1
    assert f"{name:8} FAILED" in capsys.readouterr().out


def test_other_bits_are_found(briefly, monkeypatch, capsys):
    if not set(cxent.kernels.fused()) & set(cxent.kernels.available()):
        pytest.skip("no kernels of this machine have fused multiply-add")
    expected = _selfcheck._golden.expected()
    expected["float32, rows"]["10 softmax"] = "0" * 12
    monkeypatch.setattr(_selfcheck._golden, "expected", lambda: expected)
    assert command.main([]) == 1
    assert "different bits: float32, rows, 10 softmax" in capsys.readouterr().out
