"""What a pattern's run listens to: variables with a default, a meaning, and what is accepted.

A variable that only the net's predicates read is `anything`: a value that does not fit is the engine's to refuse.
One that decides what the people in the story do is checked here, before a case exists.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from knhk._plain import plain_data
from knhk.errors import DataError


@attrs.frozen
class Variable:
    """
    One variable.

    Args:
        default: its value when nobody gives one.
        meaning: what it decides.
        fits: whether a value is accepted.
        accepted: what is, in words.
    """

    default: Any
    meaning: str
    fits: Callable[[Any], bool] = lambda _: True
    accepted: str = ""

    @property
    def text(self) -> str:
        """The meaning with what is accepted and the default."""
        accepted = f"; {self.accepted}" if self.accepted else ""
        return f"{self.meaning}{accepted} (default {json.dumps(self.default)})"


def anything(default: Any, meaning: str) -> Variable:
    """Return a variable for the net's predicates."""
    return Variable(default, meaning)


def whole(default: int, meaning: str, *, low: int = 0, high: int = 100) -> Variable:
    """Return a variable that is a whole number within bounds."""

    def fits(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high

    return Variable(default, meaning, fits, f"a whole number from {low} to {high}")


def one_of(meaning: str, default: str, *others: str) -> Variable:
    """Return a variable that is one of some words."""
    options = (default, *others)

    def fits(value: Any) -> bool:
        return isinstance(value, str) and value in options

    return Variable(default, meaning, fits, "one of " + ", ".join(map(json.dumps, options)))


def arrangement(meaning: str, *default: Any) -> Variable:
    """Return a variable that is a list of given entries, in any order."""
    entries = sorted(map(json.dumps, default))

    def fits(value: Any) -> bool:
        return isinstance(value, list) and sorted(map(json.dumps, value)) == entries

    listed = ", ".join(map(json.dumps, default))
    return Variable([*default], meaning, fits, f"a list of {listed} in any order")


def settle(
    known: Mapping[str, Variable], counted: Mapping[str, Any], given: Mapping[str, Any] | None
) -> dict[str, Any]:
    """
    Return the first data of a case: defaults, what was given, and what the run itself counts.

    Raises:
        DataError: it is not JSON, or a variable has a value that its pattern cannot act on.
    """
    plain = plain_data(given, "the given data")
    for name, value in plain.items():
        if name in counted:
            raise DataError("is counted by the run itself: leave it out", element=name, value=value)
        if name in known and not known[name].fits(value):
            raise DataError(f"must be {known[name].accepted}", element=name, value=value)
    defaults = {name: variable.default for name, variable in known.items()}
    return {**plain_data(defaults, "the defaults"), **plain, **counted}
