"""SciPy's own tests of softmax, log_softmax and logsumexp, from the installed SciPy, against cxent's."""

import math
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
from numpy.testing import assert_allclose

import cxent
from cxent import _dispatch

HERE = Path(__file__).parent


def test_suite(tmp_path):
    """Those left out, with reasons, are in scipy_with_cxent.py; they must fail as they say."""
    command = [sys.executable, "-m", "pytest", "--pyargs", "scipy.special.tests.test_logsumexp", "-q", "--tb=short"]
    environment = os.environ | {"CXENT_ISA": _dispatch.kernel_name, "PYTEST_ADDOPTS": ""}
    environment["PYTHONPATH"] = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    (tmp_path / "pytest.ini").write_text("[pytest]\n")  # SciPy's settings, not ours
    done = subprocess.run(
        [*command, "-p", "scipy_with_cxent", "-p", "no:cacheprovider", "-c", "pytest.ini"],
        env=environment, cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    counts = dict((word, int(n)) for n, word in re.findall(r"(\d+) (\w+)", done.stdout.splitlines()[-1]))
    assert counts["passed"] > 50 and "failed" not in counts


def test_what_scipy_tests_beside_an_empty_array():
    """The rest of its test_logsumexp."""
    a = np.arange(200.0)
    assert_allclose(cxent.logsumexp(a), np.log(np.sum(np.exp(a))))
    assert_allclose(cxent.logsumexp([1000.0, 1000.0]), 1000 + math.log(2))
    assert_allclose(cxent.logsumexp(np.full(1000, 10000)), 10000 + math.log(1000))
    x = np.full((2, 1_000_000), 1e-40)
    log_x = np.log(x)
    for axis in (None, 0, 1):
        assert_allclose(np.exp(cxent.logsumexp(log_x, axis)), x.sum(axis))
    for value in (np.inf, -np.inf, np.nan):
        np.testing.assert_equal(cxent.logsumexp([value]), value)
    assert cxent.logsumexp([-np.inf, -np.inf]) == -np.inf
    a = np.array([[1e10, 1e-10], [-1e10, -np.inf]])
    assert_allclose(cxent.logsumexp(a), [1e10, -1e10])
    assert_allclose(cxent.logsumexp(a, keepdims=True), [[1e10], [-1e10]])
    assert_allclose(cxent.logsumexp(a, (-1, -2)), 1e10)
