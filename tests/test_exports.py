"""What `import knhk` gives, and what it costs."""

from __future__ import annotations

import subprocess
import sys

import knhk


def test_all_is_sorted_and_resolves() -> None:
    """Every public name is listed once, in order, and exists."""
    assert sorted(knhk.__all__) == list(knhk.__all__)
    assert all(getattr(knhk, name) is not None for name in knhk.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    """A name that is not public is refused as Python refuses it."""
    assert not hasattr(knhk, "nonsense")


def test_the_version_comes_from_the_installed_package() -> None:
    """`knhk.__version__` is what pip knows."""
    assert knhk.__version__.startswith("1.0.0")


def test_importing_brings_no_optional_library() -> None:
    """`import knhk` loads neither extras nor slow libraries."""
    code = "import sys, knhk; print([m for m in ('click', 'rich', 'yaml', 'sqlite_utils', 'cel_expr_python', 'jsonschema_rs', 'urllib3', 'cronsim', 'opentelemetry', 'prometheus_client') if m in sys.modules])"

    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert result.stdout.strip() == "[]"
