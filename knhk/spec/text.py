"""Specifications from texts and trees, and back, by form alone.

These functions refuse what cannot be read, and leave the question whether the nets are well-formed to
`knhk.spec.problems`: for tools that report on ill-formed nets, repair or draw them.
Who wants to run a specification takes the class methods of `Specification`, which check everything.
"""

from __future__ import annotations

from pathlib import Path

from knhk.errors import SpecificationError
from knhk.spec.document import read_document
from knhk.spec.files import read_file
from knhk.spec.json_text import read_json
from knhk.spec.specification import Specification
from knhk.spec.yaml_text import read_yaml


def from_document(tree: object) -> Specification:
    """
    Read a document tree.

    Args:
        tree: the document as JSON values; nothing of it is kept.

    Raises:
        SpecificationError: its form is wrong; `problems` has every finding with its place.
    """
    draft = read_document(tree)
    if draft.problems:
        raise SpecificationError(draft.problems)
    return Specification(**draft.attributes)


def parse_json(text: str | bytes) -> Specification:
    """Read a JSON text; ParseError if it is none, SpecificationError if its form is wrong."""
    return from_document(read_json(text))


def parse_yaml(text: str | bytes) -> Specification:
    """Read a YAML text; ParseError if it is none, SpecificationError if its form is wrong."""
    return from_document(read_yaml(text))


def load(path: str | Path) -> Specification:
    """Read a file by its suffix (``.json``, ``.yaml``, ``.yml``); raises as `parse_json`, and OSError."""
    return from_document(read_file(path))


def dump_json(specification: Specification, *, indent: int | None = 2) -> str:
    """The canonical document as JSON text."""
    return specification.to_json(indent=indent)


def dump_yaml(specification: Specification) -> str:
    """The canonical document as YAML text."""
    return specification.to_yaml()
