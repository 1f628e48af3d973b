"""Configuration of the documentation site: ``nox -s docs``, or ``sphinx-build -W docs build/docs``.

The pages are Markdown, so that the repository's host renders them too. On the site, inline code that names a public
function becomes a link to it.
"""

from __future__ import annotations

import inspect
import re

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

import cxent
import cxent.dask

project = "cxent"
author = "The cxent developers"
copyright = "2026, the cxent developers"
version = release = cxent.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "numpydoc",
]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
exclude_patterns = ["generated/*.md"]
default_role = "py:obj"  # for single backticks in docstrings
nitpicky = False  # (numpydoc types such as array_like are not links)
autosummary_generate = True
autodoc_typehints = "none"  # (types are in the docstrings; that of ArrayLike would take eight lines)
maximum_signature_line_length = 70
numpydoc_show_class_members = False
# Not every function needs a See Also section or an extended summary, and summaries may be noun phrases.
numpydoc_validation_checks = {"all", "SA01", "ES01", "SS05"}
# Records, with a line per field.
numpydoc_validation_exclude = {
    r"\.(TokenLogprobs|Perplexity|Comparison|Estimate|TemperatureFit|Reliability|LinearGradients|Part)\b"
}

html_theme = "pydata_sphinx_theme"
html_title = "cxent"
html_static_path = ["_static"]
html_css_files = ["narrow.css"]
html_show_sourcelink = False
html_sidebars = {"**": ["captions.html"]}  # all pages, in their groups
templates_path = ["_templates"]
html_theme_options = {
    "show_prev_next": True,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "navbar_align": "right",
    "navbar_center": [],
    "navbar_end": ["theme-switcher"],
}


LOST = "\N{LARGE ORANGE SQUARE}"


def public_name(code: str) -> str | None:
    """The full name of the public function or record that inline code names: "softmax(x)" -> "cxent.softmax"."""
    found = re.fullmatch(r"(?:cxent\.)?(?:(sharded|dask|boosting)\.)?(\w+)(?:\(.*\))?", code)
    if not found:
        return None
    module = getattr(cxent, found[1]) if found[1] else cxent
    is_public = found[2] in module.__all__ and not inspect.ismodule(getattr(module, found[2]))
    return f"{module.__name__}.{found[2]}" if is_public else None


def link_code(app: Sphinx, doctree: nodes.document) -> None:
    if app.env.docname.startswith("generated/"):
        return
    for code in [*doctree.findall(nodes.literal)]:
        name = public_name(code.astext())
        if name and not isinstance(code.parent, (nodes.reference, nodes.title, addnodes.pending_xref)):
            link = addnodes.pending_xref("", refdomain="py", reftype="obj", reftarget=name, refexplicit=True)
            link["refdoc"] = app.env.docname
            code.replace_self(link)
            link += code


def colour_lost_cells(app: Sphinx, doctree: nodes.document) -> None:
    """Colour the cells that Markdown marks with an orange square, which not every font has."""
    for text in [*doctree.findall(nodes.Text)]:
        if LOST in text:
            is_cell = isinstance(text.parent.parent, nodes.entry)
            marked = nodes.inline("", text.replace(LOST, "").strip(), classes=["lost"])
            before, _, after = text.partition(LOST)
            legend = [nodes.Text(before), nodes.inline("", "Orange", classes=["lost"]), nodes.Text(after)]
            text.parent.replace(text, [marked] if is_cell else legend)


def change_markdown(app: Sphinx, page: str, source: list[str]) -> None:
    """Turn links to files outside of `docs` into downloads, and drop the empty line that doctest needs before a closing
    fence."""
    source[0] = re.sub(r"(?<!!)(\[[^\]]+\])\(\.\./", r"\1(path:../", source[0])
    source[0] = source[0].replace("\n\n```\n", "\n```\n")


def setup(app: Sphinx) -> None:
    app.connect("source-read", change_markdown)
    app.connect("doctree-read", link_code)
    app.connect("doctree-read", colour_lost_cells)
