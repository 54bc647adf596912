"""Where a finding is, and the findings themselves: what the reader and the well-formedness check share.

A place is a path that a modeller can follow in his text: ``tasks.check.retry.max``, ``subnets.shipping.flows[3].when``.
Elements are named by their id, not by their position, wherever they have one; an id with unusual characters is quoted
(``tasks["a.b"].split``), so that a place has one reading.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Collection

from knhk.errors import Problem

MAX_PROBLEMS = 1_000
"""How many findings one report lists; what is beyond is counted."""

MAX_COMPARISONS = 20_000
"""How many names one report compares for spelling suggestions, since the names may be many, long and hostile."""

MAX_COMPARED = 128
"""The longest name for which a suggestion is looked for, in characters."""

_PLAIN = re.compile(r"[A-Za-z0-9_-]+")


def inside(place: str, name: str) -> str:
    """The place of the member or element `name` of what is at `place`."""
    if not _PLAIN.fullmatch(name):
        return f"{place}[{shown(name)}]"
    return f"{place}.{name}" if place else name


def shown(text: str) -> str:
    """A text of the modeller's in quotes, on one line and not too long."""
    return json.dumps(text if len(text) <= 60 else text[:57] + "...", ensure_ascii=not text.isprintable())


def listed(names: Collection[str], word: str = "or") -> str:
    """Names as an enumeration: ``"and", "xor" or "or"``."""
    *first, last = map(shown, names)
    return f"{', '.join(first)} {word} {last}" if first else last


class Report:
    """Findings, gathered in the order in which they are met."""

    def __init__(self) -> None:
        self._problems: list[Problem] = []
        self.count = 0
        self._comparisons = 0

    def add(self, place: str, message: str) -> None:
        """Note one finding."""
        self.count += 1
        if self.count <= MAX_PROBLEMS:
            self._problems.append(Problem(place, message))

    def did_you_mean(self, word: str, known: Collection[str]) -> str:
        """The end of a message about an unknown name: a suggestion where one is near, else nothing."""
        self._comparisons += len(known)
        if self.count >= MAX_PROBLEMS or self._comparisons > MAX_COMPARISONS or len(word) > MAX_COMPARED:
            return ""
        near = difflib.get_close_matches(word, known, n=1)
        return f"; did you mean {shown(near[0])}?" if near else ""

    def problems(self) -> tuple[Problem, ...]:
        """What was found; the last entry counts what is not listed."""
        beyond = self.count - len(self._problems)
        return (*self._problems, Problem("", f"and {beyond} more")) if beyond else tuple(self._problems)
