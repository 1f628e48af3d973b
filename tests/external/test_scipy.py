"""SciPy's own tests of its softmax and logistic functions, from the installed SciPy, against cxent's."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cxent import kernels

HERE = Path(__file__).parent


@pytest.mark.slow
@pytest.mark.parametrize(("module", "least"), [("test_logsumexp", 50), ("test_logit", 6)])
def test_suite(tmp_path, module, least):
    """Those left out, with reasons, are in scipy_with_cxent.py; they must fail as they say."""
    command = [sys.executable, "-m", "pytest", "--pyargs", f"scipy.special.tests.{module}", "-q", "--tb=short"]
    environment = os.environ | {"CXENT_ISA": kernels.serving.name, "PYTEST_ADDOPTS": ""}
    environment["PYTHONPATH"] = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    (tmp_path / "pytest.ini").write_text("[pytest]\n")  # SciPy's settings, not ours
    done = subprocess.run(
        [*command, "-p", "scipy_with_cxent", "-p", "no:cacheprovider", "-c", "pytest.ini"],
        env=environment, cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    counts = dict((word, int(n)) for n, word in re.findall(r"(\d+) (\w+)", done.stdout.splitlines()[-1]))
    assert counts["passed"] >= least and "failed" not in counts
