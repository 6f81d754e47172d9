"""Settings of the documentation site: `sphinx-build -W --keep-going -b html docs build/site`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

from fp16engine import __version__

project = "fp16engine"
author = "fp16engine contributors"
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_argparse_cli",
    "docstrings",
    "repository_links",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_extensions", "_static"]
default_role = "code"  # `x` in a docstring is code, as in Markdown

myst_heading_anchors = 4  # links to headings, by GitHub's names for them
suppress_warnings = ["myst.header"]  # an included page starts with its own first heading

autosummary_generate = False
autodoc_default_options = {"members": True}
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False
autodoc_mock_imports = ["torch"]  # described without PyTorch, the same on every machine
autodoc_typehints = "signature"
toc_object_entries_show_parents = "hide"
python_maximum_signature_line_length = 80
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_custom_sections = ["Rounding", "Source", ("Call", "params_style")]

html_theme = "furo"
html_title = f"fp16engine {version}"
html_copy_source = False
html_use_index = False  # the search finds names, and the API pages list them
html_domain_indices = False
html_show_sphinx = False
html_show_copyright = False  # LICENSE says it
html_static_path = ["_static"]
html_css_files = ["drawings.css"]
