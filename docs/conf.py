"""The documentation site: ``nox -s docs``, or ``sphinx-build -W docs build/docs``."""

import cxent

project = "cxent"
author = "The cxent developers"
copyright = "2026, the cxent developers"
version = release = cxent.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "numpydoc",
    "matplotlib.sphinxext.plot_directive",
]
highlight_language = "none"  # (formulas are no Python; examples are recognised as such)
nitpicky = False  # (numpydoc's types are words, such as array_like)
autosummary_generate = True
autodoc_typehints = "none"  # (the docstrings say the types; those of array_like are eight lines each)
numpydoc_show_class_members = False
# All but: not every function has relatives, or needs more words than a line; and summaries say what is returned.
numpydoc_validation_checks = {"all", "SA01", "ES01", "SS05"}
plot_html_show_source_link = False
plot_html_show_formats = False
plot_formats = [("svg", 100)]
plot_rcparams = {
    "svg.hashsalt": "cxent",
    "figure.figsize": (6, 3.5),
    "figure.constrained_layout.use": True,
    "axes.grid": True,
    "grid.alpha": 0.3,
}
plot_apply_rcparams = True

html_theme = "pydata_sphinx_theme"
html_title = "cxent"
html_theme_options = {
    "show_prev_next": True,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "navbar_persistent": [],
    "navbar_end": ["search-button", "theme-switcher"],
    "header_links_before_dropdown": 4,
}
# (These pages have none below them, and so nothing to navigate.)
PAGES = [
    "maths",
    "losses",
    "scoring",
    "large_vocabularies",
    "inputs",
    "threads",
    "recipes",
    "coming_from",
    "numbers",
    "speed",
    "design",
]
html_sidebars = {page: [] for page in PAGES}
html_show_sourcelink = False
