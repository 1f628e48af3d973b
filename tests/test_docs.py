"""The snippets of the README and of the pages, every docstring's example; every public name is documented and typed."""

import doctest
import importlib
import inspect
import re
from pathlib import Path

import pytest

import cxent
from cxent import (
    _binary,
    _compare,
    _config,
    _cross_entropy,
    _divergence,
    _from_probs,
    _linear,
    _scoring,
    _softmax,
    boosting,
    sharded,
)

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
WITH_SNIPPETS = [page for page in PAGES if ">>> " in page.read_text()]


@pytest.mark.parametrize(
    "module",
    [
        _softmax,
        _binary,
        _cross_entropy,
        _from_probs,
        _linear,
        _compare,
        _scoring,
        _divergence,
        _config,
        boosting,
        sharded._part,
        sharded._whole,
    ],
    ids=lambda m: m.__name__,
)
def test_docstrings(module):
    results = doctest.testmod(module)
    assert results.attempted > 0 and results.failed == 0


@pytest.mark.once
@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=pytest.mark.slow) if page.name == "boosting.md" else page for page in WITH_SNIPPETS],
    ids=lambda page: page.name,
)
def test_pages(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results = doctest.testfile(str(page), module_relative=False)
    assert results.attempted > 1 and results.failed == 0


def test_the_pages_are_there():
    assert len(WITH_SNIPPETS) >= 7


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_files_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target


FUNCTIONS = [getattr(cxent, name) for name in cxent.__all__ if name.islower() and name not in ("boosting", "sharded")]
FUNCTIONS += [getattr(boosting, name) for name in boosting.__all__]
FUNCTIONS += [getattr(sharded, name) for name in sharded.__all__ if name.islower()]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_public_functions(function):
    doc = inspect.getdoc(function)
    assert doc.split("\n")[0].endswith(".") and ">>> " in doc
    signature = inspect.signature(function)
    assert signature.return_annotation is not signature.empty
    for parameter in signature.parameters.values():
        assert parameter.annotation is not parameter.empty
        assert re.search(rf"^[*\w, ]*\b{parameter.name}\b[\w, ]*( : .+)?$", doc, re.MULTILINE)


@pytest.mark.once
@pytest.mark.parametrize("name", ["cxent", "cxent.sharded", "cxent.dask"])
def test_public_names(name):
    """What is not private is public: `dir` of a package shows no other names, but for packages in it."""
    if name == "cxent.dask":
        pytest.importorskip("dask")
    package = importlib.import_module(name)
    shown = {n for n, value in vars(package).items() if n[0] != "_" and not inspect.ismodule(value)}
    assert shown == {n for n in package.__all__ if not inspect.ismodule(getattr(package, n))}
    assert list(package.__all__) == sorted(package.__all__)
