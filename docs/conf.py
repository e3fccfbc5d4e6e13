"""Sphinx configuration; `make docs` builds `_build/html`, and a warning fails the build."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import generate  # noqa: E402

generate.write(HERE / "generated")

project = "selbench"
extensions = ["myst_parser", "sphinx_copybutton"]
exclude_patterns = ["_build", "generated/*.md", "package.md"]  # these are parts of pages
myst_heading_anchors = 3
smartquotes = False  # `--set` is two hyphens in prose, too

html_theme = "furo"
html_title = "selbench"
html_show_copyright = False
html_copy_source = False
html_static_path = ["static"]
html_css_files = ["tables.css"]
