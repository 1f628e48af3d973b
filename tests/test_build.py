"""`setup.py`: what it asks of a compiler, and what it says where there is none. Needs Cython and setuptools."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
pytest.importorskip("Cython")
pytest.importorskip("setuptools", minversion="77")
pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(not (ROOT / "setup.py").exists(), reason="tested away from the source"),
    pytest.mark.skipif(sys.platform == "win32", reason="distutils finds Visual Studio by itself"),
]

# Compiles nothing, and writes down what it was asked. One flag it does not take, of one it warns, as Clang does; of
# all others it says that it was built by somebody, as some do.
COMPILER = """#!{python} -IS
import os, sys
with open({log!r}, "a") as log:
    print(*sys.argv[1:], file=log)
print("built by somebody")
refused = [flag for flag in sys.argv if flag in {refused!r} or flag.startswith("/clang:") and not {clang_cl}]
if refused:
    sys.exit(f"error: unknown argument: {{refused[0]}}")
if {ignored!r} in sys.argv:
    print("warning: optimization flag {ignored} is not supported", file=sys.stderr)
if any(word.endswith(".c") and {without!r} in open(word).read() for word in sys.argv):
    sys.exit("error: not found: {without}")
if "-o" in sys.argv:
    open(sys.argv[sys.argv.index("-o") + 1], "w").close()
"""


ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "CXENT_BUILD_LEVELS"}

# What `setup.py build_ext` does before it compiles: it asks the compiler, and prints the flags of each module.
FIT = """
import json, runpy, sys
from setuptools._distutils.ccompiler import new_compiler
setup, compiler = runpy.run_path("setup.py"), new_compiler(compiler="unix")
compiler.set_executables(compiler_so=sys.argv[1])
fitted = setup["fit"](setup["modules"](sys.argv[2:] or setup["LEVELS"]), compiler)
print(json.dumps({module.name.rpartition(".")[2]: module.extra_compile_args for module in fitted}))
"""


def made_compiler(tmp_path, refused=(), ignored="-none", without="nothing that is there", clang_cl=False):
    """Such a compiler, and where it writes what it was asked."""
    log, compiler = tmp_path / "log", tmp_path / "compiler"
    options = {"refused": refused, "ignored": ignored, "without": without, "clang_cl": clang_cl}
    compiler.write_text(COMPILER.format(python=sys.executable, log=str(log), **options))
    compiler.chmod(0o755)
    log.touch()
    return str(compiler), log


def fitted(tmp_path, *levels, **options):
    """The flags of each module with such a compiler, and what was printed."""
    command = [sys.executable, "-c", FIT, made_compiler(tmp_path, **options)[0], *levels]
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stdout


def build(tmp_path, levels=None, **options):
    """What `setup.py build_ext` does with such a compiler, and what the compiler was asked."""
    compiler, log = made_compiler(tmp_path, **options)
    done = run(tmp_path, compiler, {} if levels is None else {"CXENT_BUILD_LEVELS": levels})
    return done, log.read_text().splitlines()


def run(tmp_path, compiler, environment):
    environment = ENVIRONMENT | {"CC": compiler, "LDSHARED": compiler, "CFLAGS": ""} | environment
    command = [sys.executable, "setup.py", "build_ext", f"--build-lib={tmp_path}/lib", f"--build-temp={tmp_path}/temp"]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_flags_that_the_compiler_does_not_know_are_left_out(tmp_path):
    done, asked = build(tmp_path, "baseline", refused=["-fno-ipa-cp-clone"], ignored="-fno-unswitch-loops")
    assert done.returncode == 0, done.stdout + done.stderr
    compiled = [line for line in asked if "float32_baseline.c" in line and " -c " in line]
    assert len(compiled) == 1
    flags = compiled[0].split()
    assert {"-fno-ipa-cp-clone", "-fno-unswitch-loops"} & set(flags) == set()
    assert {"-O3", "-ffp-contract=off", "-fno-math-errno", "-fno-tree-vectorize", "-g0"} <= set(flags)
    assert "is not supported" not in done.stdout + done.stderr  # nor is the user told of flags


@pytest.mark.skipif("x86_64" not in os.uname().machine, reason="there is one level here")
def test_a_level_that_the_compiler_does_not_know(tmp_path):
    names = ["-march=x86-64-v4", "-march=x86_64_v4"]
    done, asked = build(tmp_path, "baseline,v4", refused=names)
    assert done.returncode != 0
    assert done.stderr.endswith("CXENT_BUILD_LEVELS has 'v4', but this compiler has no -march=x86-64-v4\n")
    assert not [line for line in asked if "float32_v4.c" in line or "float32_baseline.c" in line]


@pytest.mark.skipif("x86_64" not in os.uname().machine, reason="there is one level here")
def test_flags_are_spelled_as_the_compiler_wants_them(tmp_path):
    """Zig has other names of levels, and clang-cl wants a prefix; the fake one wants both."""
    refused = ["-march=x86-64-v3", "-march=x86-64", "/clang:-march=x86-64-v3", "/clang:-march=x86-64"]
    flags, _ = fitted(tmp_path, "v3", refused=[*refused, "-ffp-contract=off"], clang_cl=True)
    assert {"/clang:-ffp-contract=off", "-march=x86_64_v3"} <= set(flags["float32_v3"])
    assert "-march=x86_64" in flags["cpu"]


def test_without_vectors_the_build_says_what_that_costs(tmp_path):
    flags, printed = fitted(tmp_path, without="no vectors")
    assert "the kernels compute one number at a time" in printed
    assert {"float32", "float32_baseline"} <= set(flags)
    assert not [name for name in flags if name.startswith("float32_v")]


@pytest.mark.parametrize("without", ["compiler", "headers"])
def test_without_a_compiler_the_last_line_says_how_to_get_one(without, tmp_path):
    if without == "compiler":
        done = run(tmp_path, str(tmp_path / "no_compiler"), {})
    else:
        done, _ = build(tmp_path, without="Python.h")
        assert "not found: Python.h" in done.stdout
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("cxent needs a C compiler and Python's C headers")
    for name in ("Debian", "Fedora", "macOS", "Windows", "apt install gcc", "xcode-select --install"):
        assert name in last
