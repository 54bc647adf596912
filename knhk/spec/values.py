"""Values of a document tree, read strictly: each reader checks one value, and notes what is wrong instead of raising.

A tree is what JSON gives: mappings, lists, text, numbers, true, false and null.
A reader takes the tree's value and its place, and returns the value for the model, or `BAD` after noting why not.
"""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Self

import attrs

from knhk.spec.durations import parse_duration
from knhk.spec.model import END, START
from knhk.spec.places import Report, inside, listed, shown

MAX_DEPTH: Final = 64
"""How deep lists and mappings may be nested."""

MAX_ELEMENTS: Final = 100_000
"""How many tasks, or conditions, or subnets a specification may have."""

MAX_FLOWS: Final = 1_000_000
"""How many flows a specification may have."""

MAX_MAPPED: Final = 1_000
"""How many members a mapping of a task may name."""

MAX_VALUES: Final = 4_000_000
"""How many values a text may hold, aliases expanded."""

MAX_SCHEMA_VALUES: Final = 100_000
"""How many values a data schema may hold."""

MAX_INTEGER: Final = 2**31 - 1
"""The largest count, weight or bound."""

MAX_TEXT: Final = 10_000
"""The longest text of a name or an expression, in characters."""

MAX_NAME: Final = 128
"""The longest id of an element, and the longest topic, event, role or handler name, in characters."""

SPECIFICATION_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
VERSION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")


class WrittenNumber(float):
    """A decimal number that remembers its spelling, because a version ``1.10`` is not ``1.1``."""

    __slots__ = ("spelling",)
    spelling: str

    def __new__(cls, spelling: str) -> Self:
        """Read a number from its spelling."""
        self = super().__new__(cls, spelling)
        self.spelling = spelling
        return self


class _Bad(enum.Enum):
    BAD = "bad"


BAD: Final = _Bad.BAD
"""What a reader returns instead of a value it has refused."""


def described(value: object) -> str:
    """What a value is, for a message: ``the text "abc"``, ``a list``."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"the text {shown(value)}"
    if isinstance(value, int | float):
        short = isinstance(value, float) or abs(value) < 10**18
        return f"the number {value!r}" if short else "the number with too many digits"
    if isinstance(value, Mapping):
        return "a map"
    return "a list" if isinstance(value, Sequence) else f"a Python {type(value).__name__}"


class Reading:
    """
    One document while it is read.

    Attributes:
        report: what was found.
        damaged: places of elements (tasks, conditions, flows) of which something could not be read.
        incomplete: places of nets of which an element could not be read at all.
    """

    def __init__(self) -> None:
        self.report = Report()
        self.damaged: set[str] = set()
        self.incomplete: set[str] = set()
        self._values = 0

    def refuse(self, place: str, message: str) -> Any:
        """Note a finding and return `BAD`."""
        self.report.add(place, message)
        return BAD

    def members(self, tree: object, place: str, table: Members, *, required: Sequence[str] = ()) -> Any:
        """A map of members, each read as its table says, as the keyword arguments of a class of the model; or `BAD`."""
        if not isinstance(tree, Mapping):
            return self.refuse(place, f"must be a map of members, not {described(tree)}")
        values = {}
        for name, value in tree.items():
            member = table.get(name) if isinstance(name, str) else None
            if member is None:
                self._unknown_member(name, place, table)
                continue
            read = member.read(self, value, inside(place, name))
            if read is not BAD:
                values[member.attribute] = read
        for name in required:
            if name not in tree:
                self.report.add(place, f"the member {shown(name)} is missing")
        return values

    def _unknown_member(self, name: object, place: str, table: Members) -> None:
        if not isinstance(name, str):
            self.report.add(place, f"the name of a member must be text, not {described(name)}; put it in quotes")
            return
        hint = self.report.did_you_mean(name, table) or f"; there may be {listed(sorted(table), 'and')}"
        self.report.add(inside(place, name), f"unknown member{hint}")

    def json(self, value: object, place: str, depth: int = 1) -> Any:
        """A copy of any JSON value, for the data schema; or `BAD`."""
        self._values += 1
        if self._values > MAX_SCHEMA_VALUES:
            first = self._values == MAX_SCHEMA_VALUES + 1
            return self.refuse(place, f"more than {MAX_SCHEMA_VALUES:,} values") if first else BAD
        if isinstance(value, str):
            return value if _encodable(value) else self.refuse(place, "holds half of a surrogate pair")
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int):
            return value if -(2**63) <= value < 2**64 else self.refuse(place, "the number does not fit into 64 bits")
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else self.refuse(place, "must be a finite number")
        if depth > MAX_DEPTH:
            return self.refuse(place, f"nested deeper than {MAX_DEPTH}")
        if isinstance(value, Mapping):
            return self._json_map(value, place, depth)
        if isinstance(value, list | tuple):
            items = [self.json(each, f"{place}[{number}]", depth + 1) for number, each in enumerate(value)]
            return BAD if any(each is BAD for each in items) else items
        return self.refuse(place, f"must be a JSON value, not {described(value)}")

    def _json_map(self, value: Mapping[Any, Any], place: str, depth: int) -> Any:
        copy = {}
        for name, each in value.items():
            if not isinstance(name, str):
                self.report.add(place, f"the name of a member must be text, not {described(name)}; put it in quotes")
            elif not _encodable(name):
                self.report.add(place, "the name of a member holds half of a surrogate pair")
            else:
                copy[name] = self.json(each, inside(place, name), depth + 1)
        return BAD if len(copy) < len(value) or any(each is BAD for each in copy.values()) else copy


Read = Callable[[Reading, object, str], Any]
"""A reader: the reading, the tree's value and its place, to the model's value or `BAD`."""


@attrs.frozen
class Member:
    """Under which attribute of the model a member is kept, and how it is read."""

    attribute: str
    read: Read


Members = Mapping[str, Member]
"""The members that a map may have, by name."""


def _encodable(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= each <= "\udfff" for each in text)


def _not_text(value: object, what: str) -> str:
    quotes = "; put it in quotes" if isinstance(value, bool | int | float) else ""
    return f"must be {what}, not {described(value)}{quotes}"


def text(*, longest: int = MAX_TEXT) -> Read:
    """A reader of text, the empty one included."""

    def read(reading: Reading, value: object, place: str) -> Any:
        if not isinstance(value, str):
            return reading.refuse(place, _not_text(value, "text"))
        if len(value) > longest:
            return reading.refuse(place, f"longer than {longest} characters")
        return value if _encodable(value) else reading.refuse(place, "holds half of a surrogate pair")

    return read


def _name_problem(value: str, forbidden: str) -> str:
    if not value:
        return "must not be empty"
    if len(value) > MAX_NAME:
        return f"longer than {MAX_NAME} characters"
    bad = next((each for each in value if each in forbidden or not each.isprintable()), None)
    return f"must not contain {shown(bad)}" if bad is not None else ""


def name(*, forbidden: str = "", pattern: re.Pattern[str] | None = None, reserved: Sequence[str] = ()) -> Read:
    """A reader of a name: printable characters on one line, or what `pattern` allows."""

    def read(reading: Reading, value: object, place: str) -> Any:
        if not isinstance(value, str):
            return reading.refuse(place, _not_text(value, "text"))
        problem = _name_problem(value, forbidden)
        if not problem and pattern is not None and not pattern.fullmatch(value):
            problem = f"{shown(value)} does not match {pattern.pattern}"
        if not problem and value in reserved:
            problem = f"{shown(value)} is reserved: the net has this condition without being told"
        return reading.refuse(place, problem) if problem else value

    return read


TASK_ID: Final = name(forbidden=" /#>", reserved=(START, END))
CONDITION_ID: Final = name(forbidden=" /#", reserved=(START, END))
SUBNET_NAME: Final = name(forbidden=" /#")


def whole(least: int, most: int = MAX_INTEGER) -> Read:
    """A reader of a whole number within bounds."""

    def read(reading: Reading, value: object, place: str) -> Any:
        if isinstance(value, bool) or not isinstance(value, int):
            return reading.refuse(place, f"must be a whole number, not {described(value)}")
        if not least <= value <= most:
            return reading.refuse(place, f"must be {least} to {most}, not {described(value)}")
        return value

    return read


def number(least: float, most: float) -> Read:
    """A reader of a number within bounds, kept as a float."""

    def read(reading: Reading, value: object, place: str) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return reading.refuse(place, f"must be a number, not {described(value)}")
        if not least <= value <= most:
            return reading.refuse(place, f"must be {least:g} to {most:g}, not {described(value)}")
        return float(value)

    return read


def truth(reading: Reading, value: object, place: str) -> Any:
    """Read true or false."""
    return value if isinstance(value, bool) else reading.refuse(place, f"must be true or false, not {described(value)}")


def duration(reading: Reading, value: object, place: str) -> Any:
    """Read a duration as milliseconds."""
    if not isinstance(value, str):
        return reading.refuse(place, f'must be a duration such as "250ms", "30s" or "3d", not {described(value)}')
    try:
        return parse_duration(value)
    except ValueError as error:
        return reading.refuse(place, f"{shown(value)} is not a duration: {error}")


def choice(kind: type[enum.Enum]) -> Read:
    """A reader of one of an enumeration's values."""
    values = {each.value: each for each in kind}

    def read(reading: Reading, value: object, place: str) -> Any:
        if isinstance(value, str) and value in values:
            return values[value]
        return reading.refuse(place, f"must be {listed(list(values))}, not {described(value)}")

    return read


def names(one: Read) -> Read:
    """A reader of a list of names, each at most once."""

    def read(reading: Reading, value: object, place: str) -> Any:
        if not isinstance(value, list | tuple):
            return reading.refuse(place, f"must be a list, not {described(value)}")
        items = [one(reading, each, f"{place}[{number}]") for number, each in enumerate(value)]
        if any(each is BAD for each in items):
            return BAD
        seen: set[str] = set()
        for each_number, each in enumerate(items):
            if each in seen:
                return reading.refuse(f"{place}[{each_number}]", f"{shown(each)} is in the list twice")
            seen.add(each)
        return tuple(items)

    return read
