"""Files with a specification: the suffix says the format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from knhk.errors import ParseError, Problem
from knhk.spec.json_text import read_json
from knhk.spec.yaml_text import read_yaml

READERS = {".json": read_json, ".yaml": read_yaml, ".yml": read_yaml}
"""What reads a text, by suffix."""


def read_file(path: str | Path) -> Any:
    """
    Read a file as a document tree.

    Args:
        path: a file that ends in ``.json``, ``.yaml`` or ``.yml``.

    Raises:
        OSError: it cannot be read.
        ParseError: its text cannot be read; places begin with the file's name.
        MissingExtra: it is YAML, and PyYAML is not installed.
    """
    file = Path(path)
    reader = READERS.get(file.suffix.lower())
    if reader is None:
        raise ParseError([Problem(file.name, f"the suffix must be one of {', '.join(READERS)}, not {file.suffix!r}")])
    try:
        return reader(file.read_bytes())
    except ParseError as error:
        places = (f"{file.name}, {each.place}" if each.place else file.name for each in error.problems)
        found = tuple(Problem(place, each.message) for place, each in zip(places, error.problems, strict=True))
        raise ParseError(found) from None
