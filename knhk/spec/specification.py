"""`Specification`: the model's data together with reading, checking and writing it."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import attrs

from knhk.errors import MissingExtra, Problem, SpecificationError
from knhk.expr import Dialect
from knhk.spec.content import content_hash
from knhk.spec.document import read_document, to_document
from knhk.spec.files import read_file
from knhk.spec.json_text import read_json, write_json
from knhk.spec.model import SpecificationData
from knhk.spec.verdict import Budget, Verdict
from knhk.spec.wellformed import draft_problems, problems
from knhk.spec.yaml_text import read_yaml, write_yaml

PictureFormat = Literal["svg", "mermaid", "dot"]
"""The language of a picture."""


@attrs.frozen(kw_only=True)
class Specification(SpecificationData):
    """
    A workflow specification: a root net, the subnets that composite tasks stand for, and a schema for the case data.

    What is loaded with the class methods is well-formed; what is constructed directly is as its maker left it, and
    `problems` tells.
    """

    @classmethod
    def load(cls, path: str | Path, *, dialect: Dialect = "subset") -> Specification:
        """
        Load a file and check it.

        Args:
            path: a file that ends in ``.json``, ``.yaml`` or ``.yml``.
            dialect: the expression language: what the core compiles itself, or all of CEL (``"full"``, extra ``cel``).

        Raises:
            OSError: the file cannot be read.
            ParseError: its text cannot be read.
            SpecificationError: it is not well-formed; `problems` has every finding with its place.
            MissingExtra: it is YAML, and PyYAML is not installed.
        """
        return cls.from_dict(read_file(path), dialect=dialect)

    @classmethod
    def from_json(cls, text: str | bytes, *, dialect: Dialect = "subset") -> Specification:
        """Read a JSON text and check it; raises as `load`."""
        return cls.from_dict(read_json(text), dialect=dialect)

    @classmethod
    def from_yaml(cls, text: str | bytes, *, dialect: Dialect = "subset") -> Specification:
        """Read a YAML text and check it; raises as `load`."""
        return cls.from_dict(read_yaml(text), dialect=dialect)

    @classmethod
    def from_dict(cls, tree: object, *, dialect: Dialect = "subset") -> Specification:
        """
        Read a document tree and check it.

        Args:
            tree: the document as JSON values; nothing of it is kept.
            dialect: the expression language.

        Raises:
            SpecificationError: it is not well-formed; `problems` has every finding with its place.
        """
        draft = read_document(tree)
        specification = cls(**draft.attributes)
        found = draft_problems(specification, draft, dialect=dialect)
        if found:
            raise SpecificationError(found)
        return specification

    def problems(self, *, dialect: Dialect = "subset") -> tuple[Problem, ...]:
        """Everything that keeps the specification from being registered; none: it is well-formed."""
        return problems(self, dialect=dialect)

    def verify(
        self, *, data: Mapping[str, Any] | None = None, budget: Budget | None = None, dialect: Dialect = "subset"
    ) -> Verdict:
        """Decide whether it is sound: see `knhk.analysis.verify`, which this calls."""
        # NOTE: the verifier plays the token game, which lies above this layer; a method is where users look for it.
        verdict: Verdict = import_module("knhk.analysis.soundness").verify(
            self, data=data, budget=budget, dialect=dialect
        )
        return verdict

    def draw(
        self,
        format: PictureFormat = "svg",  # noqa: A002 - the word that users know
        *,
        net: str | None = None,
        frequencies: Mapping[str, int] | None = None,
    ) -> str:
        """Return a picture of its nets: see `knhk.formats.draw`, which this calls."""
        picture: str = import_module("knhk.formats.picture").draw(self, format, net=net, frequencies=frequencies)
        return picture

    def _repr_svg_(self) -> str | None:
        """Return what a notebook shows; None, which is the text, where SVG cannot be made."""
        try:
            return self.draw()
        except (MissingExtra, ValueError):
            return None

    @property
    def content_hash(self) -> str:
        """The content as one name: SHA-256 over the canonical form, in hexadecimal."""
        return content_hash(self)

    def to_dict(self) -> dict[str, Any]:
        """The canonical document tree."""
        return to_document(self)

    def to_json(self, *, indent: int | None = 2) -> str:
        """The canonical document as JSON text."""
        return write_json(self.to_dict(), indent=indent)

    def to_yaml(self) -> str:
        """The canonical document as YAML text."""
        return write_yaml(self.to_dict())
