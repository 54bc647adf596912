"""YAML text to tree and back: the part of YAML that means the same to everybody.

The tree is made from PyYAML's events, not by its constructors, so nothing but maps, lists, text, numbers, true, false
and null can come out, and the work is bounded: nesting, and the size with all aliases expanded.

Plain scalars are read by the core schema of YAML 1.2, in which ``on``, ``010`` and ``12:30`` are text.
The words that YAML 1.1 takes for true and false (``yes``, ``no``, ``on``, ``off``) are refused unless quoted, because
what their author meant cannot be known.
Decimal numbers remember their spelling, so that ``version: 1.10`` stays what it is.
Anchors, aliases and the merge key ``<<`` are understood, tags (except ``!!str``) are not.
"""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Iterable
from typing import Any, Final, NoReturn

import attrs

from knhk.errors import MissingExtra, ParseError, Problem
from knhk.spec.json_text import MAX_DIGITS, decoded, position
from knhk.spec.places import Report, inside, shown
from knhk.spec.values import MAX_DEPTH, MAX_VALUES, WrittenNumber, described

_CONSTANTS: Final = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_AMBIGUOUS: Final = frozenset(
    f(each) for each in ("yes", "no", "on", "off") for f in (str.lower, str.capitalize, str.upper)
)
_INTEGER: Final = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,19})|0x[0-9a-fA-F]{1,16}|0o[0-7]{1,21}")
_DECIMAL: Final = re.compile(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE: Final = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_TEXT_TAGS: Final = frozenset({"!", "tag:yaml.org,2002:str"})
_MERGE: Final = "<<"


def _library() -> Any:
    try:
        return importlib.import_module("yaml")
    except ImportError:
        raise MissingExtra("yaml", "reading and writing YAML") from None


def _resolved(word: str) -> Any:
    """What a plain scalar means."""
    if word in _CONSTANTS:
        return _CONSTANTS[word]
    if len(word) > MAX_DIGITS:
        return word
    if _INTEGER.fullmatch(word):
        return int(word, 0)
    return WrittenNumber(word) if _DECIMAL.fullmatch(word) else word


@attrs.define
class _Frame:
    """A list or a map that is being read."""

    value: list[Any] | dict[str, Any]
    anchor: str | None
    size: int = 1
    height: int = 1
    at_key: bool = True
    key: str | None = None
    merging: bool = False
    merged: list[dict[str, Any]] = attrs.field(factory=list)

    def place(self, outer: str) -> str:
        """The place of the value that comes next."""
        if isinstance(self.value, list):
            return f"{outer}[{len(self.value)}]"
        return outer if self.key is None else inside(outer, self.key)


@attrs.frozen
class _Anchored:
    """A value that aliases may name, with its size and height in full."""

    value: Any
    size: int
    height: int


class _Composer:
    """Events to a tree; iterative, so that no text can exhaust the stack."""

    def __init__(self) -> None:
        self.report = Report()
        self.frames: list[_Frame] = []
        self.anchors: dict[str, _Anchored | None] = {}
        self.root: Any = None
        self.documents = 0

    def compose(self, events: Iterable[Any]) -> Any:
        """Read all events of a text that holds one document."""
        for event in events:
            kind = type(event).__name__
            if kind == "ScalarEvent":
                self._scalar(event)
            elif kind in ("MappingStartEvent", "SequenceStartEvent"):
                self._open({} if kind == "MappingStartEvent" else [], event)
            elif kind in ("MappingEndEvent", "SequenceEndEvent"):
                self._close(event)
            elif kind == "AliasEvent":
                self._alias(event)
            elif kind == "DocumentStartEvent":
                self.documents += 1
                if self.documents > 1:
                    self._stop(event, "a second document begins; a text holds one specification")
        if self.report.count:
            raise ParseError(self.report.problems())
        return self.root

    def _add(self, event: Any, message: str, *, place: str | None = None) -> None:
        mark = event.start_mark
        place = self._place() if place is None else place
        where = f"{place}: " if place else ""
        self.report.add(f"line {mark.line + 1}, column {mark.column + 1}", where + message)

    def _stop(self, event: Any, message: str) -> NoReturn:
        """A finding after which reading on makes no sense."""
        self._add(event, message)
        raise ParseError(self.report.problems())

    def _place(self) -> str:
        place = ""
        for frame in self.frames:
            place = frame.place(place)
        return place

    def _scalar(self, event: Any) -> None:
        word = event.value
        value: Any = word
        plain = event.implicit[0]
        if event.tag is not None and event.tag not in _TEXT_TAGS:
            self._add(event, f"the tag {shown(event.tag)} is not understood")
        elif plain and event.tag is None:
            frame = self.frames[-1] if self.frames else None
            if word == _MERGE and frame is not None and isinstance(frame.value, dict) and frame.at_key:
                frame.key, frame.at_key, frame.merging = _MERGE, False, True
                return
            if word in _AMBIGUOUS:
                self._add(
                    event, f"{word} is true or false to some readers of YAML, and text to others: put it in quotes"
                )
            if _NOT_FINITE.fullmatch(word):
                self._add(event, f"{word} is not a finite number")
            value = _resolved(word)
            if isinstance(value, WrittenNumber) and (math.isinf(value) or word.lstrip("+-").isdigit()):
                self._add(event, "the number is too large")
        if event.anchor is not None:
            self.anchors[event.anchor] = _Anchored(value, 1, 0)
        self._put(event, value, 1, 0)

    def _open(self, value: Any, event: Any) -> None:
        if len(self.frames) >= MAX_DEPTH:
            self._stop(event, f"nested deeper than {MAX_DEPTH}")
        frame = self.frames[-1] if self.frames else None
        if frame is not None and isinstance(frame.value, dict) and frame.at_key:
            self._stop(event, "the name of a member must be text, not a list or a map")
        if not event.implicit:
            self._add(event, f"the tag {shown(str(event.tag))} is not understood")
        if event.anchor is not None:
            self.anchors[event.anchor] = None
        self.frames.append(_Frame(value, event.anchor))

    def _close(self, event: Any) -> None:
        frame = self.frames.pop()
        if frame.merged and isinstance(frame.value, dict):
            for each in frame.merged:
                for name, value in each.items():
                    frame.value.setdefault(name, value)
        if frame.anchor is not None:
            self.anchors[frame.anchor] = _Anchored(frame.value, frame.size, frame.height)
        self._put(event, frame.value, frame.size, frame.height)

    def _alias(self, event: Any) -> None:
        if event.anchor not in self.anchors:
            self._stop(event, f"there is no anchor {shown(event.anchor)} before this alias")
        anchored = self.anchors[event.anchor]
        if anchored is None:
            self._stop(event, f"the alias {shown(event.anchor)} stands inside of what it stands for")
        if len(self.frames) + anchored.height > MAX_DEPTH:
            self._stop(event, f"nested deeper than {MAX_DEPTH}")
        self._put(event, anchored.value, anchored.size, anchored.height)

    def _put(self, event: Any, value: Any, size: int, height: int) -> None:
        """A finished value into the list or map that is open."""
        if not self.frames:
            self.root = value
            return
        frame = self.frames[-1]
        frame.size += size
        frame.height = max(frame.height, height + 1)
        if frame.size > MAX_VALUES:
            self._stop(event, f"more than {MAX_VALUES:,} values, aliases expanded")
        if isinstance(frame.value, list):
            frame.value.append(value)
        elif frame.at_key:
            self._put_key(event, frame, frame.value, value)
        else:
            if frame.merging:
                self._put_merged(event, frame, value)
            elif frame.key is not None:
                frame.value[frame.key] = value
            frame.key, frame.at_key, frame.merging = None, True, False

    def _put_key(self, event: Any, frame: _Frame, members: dict[str, Any], key: Any) -> None:
        frame.at_key = False
        if not isinstance(key, str):
            self._add(event, f"the name of a member must be text, not {described(key)}; put it in quotes")
        elif key in members:
            self._add(event, f"the member {shown(key)} is there twice")
        else:
            members[key] = None
            frame.key = key

    def _put_merged(self, event: Any, frame: _Frame, value: Any) -> None:
        """The value of ``<<``: a map, or several of which the first wins."""
        maps = value if isinstance(value, list) else [value]
        if not all(isinstance(each, dict) for each in maps):
            self._add(event, "what << merges must be a map, or a list of maps")
            return
        frame.merged.extend(maps)


def read_yaml(text: str | bytes) -> Any:
    """
    Read a YAML text that holds one document.

    Args:
        text: a text, or its UTF-8 bytes.

    Returns:
        The tree, of JSON's values; decimal numbers are floats that remember their spelling.

    Raises:
        ParseError: it is not YAML, or says something that not every reader understands alike; findings have line and
            column.
        MissingExtra: PyYAML is not installed.
    """
    yaml = _library()
    text = decoded(text).removeprefix("\ufeff")
    composer = _Composer()
    try:
        return composer.compose(yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        offset = getattr(error, "position", None)
        place = f"line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
        if not place and isinstance(offset, int):
            place = position(text, offset)
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
        raise ParseError([*composer.report.problems(), Problem(place, f"not YAML: {problem}")]) from None


def _represent_text(dumper: Any, value: str) -> Any:
    """Text in quotes wherever it could be taken for something else, also by this module's own rules."""
    ambiguous = not isinstance(_resolved(value), str) or value in _AMBIGUOUS
    style = '"' if not value.isprintable() else "'" if ambiguous else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


def write_yaml(tree: object) -> str:
    """
    Write a tree as YAML text, with members in the order of the tree.

    Raises:
        MissingExtra: PyYAML is not installed.
    """
    yaml = _library()
    base = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    dumper: Any = type("Dumper", (base,), {"ignore_aliases": lambda *_: True})
    dumper.add_representer(str, _represent_text)
    written = yaml.dump(tree, Dumper=dumper, sort_keys=False, allow_unicode=True, default_flow_style=False, width=120)
    return str(written)
