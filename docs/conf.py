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
nitpicky = False  # (numpydoc's types are words, such as array_like)
autosummary_generate = True
numpydoc_show_class_members = False
# All but: not every function has relatives, or needs more words than a line; and summaries say what is returned.
numpydoc_validation_checks = {"all", "SA01", "ES01", "SS05"}
plot_html_show_source_link = False
plot_html_show_formats = False
plot_formats = [("svg", 100)]
plot_rcparams = {"svg.hashsalt": "cxent", "figure.figsize": (6, 3.5), "axes.grid": True, "grid.alpha": 0.3}
plot_apply_rcparams = True

html_theme = "pydata_sphinx_theme"
html_title = "cxent"
html_theme_options = {"show_prev_next": True, "navigation_with_keys": False, "secondary_sidebar_items": ["page-toc"]}
html_show_sourcelink = False
