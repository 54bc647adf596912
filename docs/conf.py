"""How Sphinx builds the documentation: ``make docs``."""

import sys
from importlib import metadata
from pathlib import Path
from typing import Any

# A program that is not installed beside its documentation is documented from the tree.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

project = "KNHK"
author = "The KNHK authors"
project_copyright = author
release = metadata.version("knhk")
version = release

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"KNHK {release}"

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

# Docstrings write `names` in single backticks: they are code.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
# The store conformance suite needs it, its documentation does not.
autodoc_mock_imports = ["pytest"]
maximum_signature_line_length = 88
napoleon_attr_annotations = False

# References that lead out of these pages: the standard library, what is private, and the shapes of keyword arguments.
nitpick_ignore_regex = [
    ("py:.*", r"Net|knhk\.work\.handlers\.Handlers|knhk\.spec\.builder\.([A-Za-z]+Document|Worklets)"),
    ("py:.*", r"(collections|pathlib|os|datetime|enum|typing|asyncio|contextlib|types|opentelemetry)\..*"),
    ("py:.*", r"(.*\.)?_[A-Za-z_]+(\..*)?"),
    ("py:.*", r"(urllib3|httpx|grpc)\..*|knhk\.client\.results\.T"),
]


HIDDEN = "\0"


def hide_colons(_app: Any, what: str, _name: str, _object: Any, _options: Any, lines: list[str]) -> None:
    """Our docstrings name no types, so what stands before a colon is not one, as Napoleon would think."""
    for number, line in enumerate(lines):
        if what == "property" or (number and lines[number - 1] == "Returns:"):
            lines[number] = line.replace(":", HIDDEN)


def show_colons(_app: Any, _what: str, _name: str, _object: Any, _options: Any, lines: list[str]) -> None:
    """Napoleon has been here: put the colons back."""
    lines[:] = [line.replace(HIDDEN, ":") for line in lines]


def setup(app: Any) -> None:
    """Stand before and behind Napoleon."""
    app.connect("autodoc-process-docstring", hide_colons, priority=100)
    app.connect("autodoc-process-docstring", show_colons, priority=900)
