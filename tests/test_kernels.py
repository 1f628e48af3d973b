"""Which kernels serve a process: chosen, forced, missing."""

import inspect
import os
import re
import subprocess
import sys

import pytest
from conftest import BUILT, LEVELS, SUPPORTED

import cxent
from cxent import kernels as levels


def run(code, **environment):
    """Run a program in a new interpreter; what it printed, or its error."""
    environment = {k: v for k, v in os.environ.items() if k != "CXENT_ISA"} | environment
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


@pytest.mark.once
def test_the_fastest_kernels_of_this_cpu_serve():
    assert run("from cxent import kernels; print(kernels.serving.name)").strip() == SUPPORTED[-1]
    assert set(levels.supported()) <= {"python", *LEVELS}
    assert levels.available() == SUPPORTED


def test_forced():
    name = levels.serving.name
    printed = run("import sys, cxent; cxent.show_config(); print(sorted(sys.modules))", CXENT_ISA=name)
    assert f"kernels in use: {name} (forced by CXENT_ISA)" in printed
    assert ("'cxent.kernels.reference'" if name == "python" else f"'cxent.kernels.float32_{name}'") in printed


@pytest.mark.once
@pytest.mark.parametrize("wanted", ["avx2", "V4", "v2"])
def test_forced_to_what_there_is_not(wanted):
    printed = run("import cxent", CXENT_ISA=wanted)
    known = ", ".join(map(repr, levels.available()))
    assert f"ValueError: CXENT_ISA must be one of {known} here, got {wanted!r}" in printed


MISSING = """
import sys, warnings
for name in {missing}:
    sys.modules["cxent.kernels." + name] = None  # import raises ImportError
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import cxent
print(cxent.kernels.serving.name, len(caught), *(f"{{w.category.__name__}}: {{w.message}}" for w in caught))
print(cxent.softmax([0.0, 0.0]).tolist())
"""


@pytest.mark.once
@pytest.mark.parametrize(
    "missing", [["cpu"], ["float32"], [f"float64_{level}" for level in ("baseline", "v3", "v4")]], ids=str
)
def test_missing_extensions_are_one_warning(missing):
    printed = run(MISSING.format(missing=missing))
    assert printed.startswith("python 1 RuntimeWarning: cxent's compiled kernels are missing")
    assert "pip install" in printed
    assert printed.endswith("[0.5, 0.5]\n")


@pytest.mark.once
@pytest.mark.skipif("baseline" not in BUILT, reason="the baseline was not built")
def test_a_missing_level_falls_to_the_next():
    printed = run(MISSING.format(missing=["float32_v3", "float64_v4"]))
    assert printed.startswith("baseline 0\n")


def test_show_config(capsys):
    assert cxent.show_config() is None
    printed = capsys.readouterr().out
    assert printed.startswith(f"cxent {cxent.__version__}, NumPy ")
    assert f"kernels in use: {levels.serving.name}" in printed
    assert f"kernels available: {', '.join(levels.available())}" in printed


def test_kernel_modules_are_interchangeable():
    """The same functions in every one, each with as many parameters. (The shorter ways of plain arrays, which the
    reference has not, take any.)"""

    def parameters(function):
        with pytest.raises(TypeError) as caught:
            function()
        if inspect.isfunction(function):
            return len(inspect.signature(function).parameters)
        return int(re.search(r"takes exactly (\d+|one)", str(caught.value))[1].replace("one", "1"))

    def signatures(kernels):
        functions = {name: getattr(kernels, name) for name in dir(kernels) if name.islower() and name[0] != "_"}
        return {
            name: None if name.startswith("plain_") else parameters(f)
            for name, f in functions.items()
            if callable(f) and not (inspect.isfunction(f) and f.__module__.endswith("reference_rows"))
        }

    assert (
        signatures(levels.serving.float32)
        == signatures(levels.serving.float64)
        == signatures(levels.load("python").float32)
    )


@pytest.mark.once
def test_import_needs_numpy_alone():
    code = "import sys, numpy; before = set(sys.modules); import cxent; print(*sorted(set(sys.modules) - before))"
    imported = run(code).split()
    packages = {name.split(".")[0] for name in imported if not name.startswith(("_cython", "cython"))}
    assert packages - set(sys.stdlib_module_names) <= {"cxent", "numpy"}
