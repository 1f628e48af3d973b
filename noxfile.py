#!/usr/bin/env -S uv run --script

# /// script
# dependencies = ["nox>=2025.2.9"]
# ///

"""Sessions for contributors: ``nox -s tests``, ``lint``, ``types``, ``docs``, ``wheel`` or ``bench``.

``nox`` alone runs the first three.
"""

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv|virtualenv"


@nox.session
def lint(session: nox.Session) -> None:
    """Style of Python, Cython, prose and workflows."""
    session.install("ruff", "cython-lint", "codespell", "zizmor")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("cython-lint", "cxent/kernels")
    session.run("codespell")
    session.run("zizmor", "--offline", ".github")


@nox.session
def types(session: nox.Session) -> None:
    """mypy in strict mode and pyright for the package and for calls as users write them; stubtest for the stubs."""
    session.install("mypy", "pyright", "pytest", ".[dask]")
    session.run("mypy")
    session.run("pyright")
    session.run("stubtest", "cxent", "--ignore-missing-stub")  # that of the compiled kernels


@nox.session
def tests(session: nox.Session) -> None:
    """The whole suite, on every kernel module that this CPU can run. Arguments are passed to pytest."""
    session.install(".[test]")
    session.run("pytest", "--full", *session.posargs)


@nox.session(default=False)
def docs(session: nox.Session) -> None:
    """The documentation site, in build/docs. Warnings are errors."""
    session.install(".[docs]")
    session.run("sphinx-build", "-W", "--keep-going", "-b", "html", "docs", "build/docs")


@nox.session(default=False)
def wheel(session: nox.Session) -> None:
    """An sdist and a wheel, checked as a package index would."""
    session.install("build", "twine", "check-wheel-contents", "check-sdist")
    session.run("python", "-m", "build")
    session.run("twine", "check", "--strict", "dist/*", external=False)
    session.run("check-wheel-contents", "dist")
    session.run("check-sdist", "--no-isolation")


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """cxent compared with its peers, in two minutes. Arguments are passed to the benchmark."""
    session.install(".[bench]")
    session.run("python", "benchmarks/peers.py", *(session.posargs or ["--quick"]))


if __name__ == "__main__":
    nox.main()
