"""`Catalogue`: the 43 patterns by number."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping

from knhk.patterns._pattern import Pattern, slug_of
from knhk.patterns.basic import PATTERNS as BASIC
from knhk.patterns.branching import PATTERNS as BRANCHING
from knhk.patterns.cancelling import PATTERNS as CANCELLING
from knhk.patterns.course import PATTERNS as COURSE
from knhk.patterns.instances import PATTERNS as INSTANCES
from knhk.patterns.partial import PATTERNS as PARTIAL
from knhk.patterns.state import PATTERNS as STATE

_EVERY = (*BASIC, *BRANCHING, *PARTIAL, *INSTANCES, *STATE, *CANCELLING, *COURSE)


class Catalogue(Mapping[int, Pattern]):
    """
    The patterns: a mapping from their numbers, in this order, to `Pattern` objects.

    A pattern is also found by its name, or another one under which it is published, written as in addresses:
    ``patterns["exclusive-choice"]``.
    """

    def __init__(self) -> None:
        self._by_number = {each.number: each for each in sorted(_EVERY, key=lambda each: each.number)}
        self._by_slug = {slug_of(name): each for each in _EVERY for name in (*each.other_names, each.name)}

    def __repr__(self) -> str:
        return f"<the {len(self)} patterns>"

    def __len__(self) -> int:
        return len(self._by_number)

    def __iter__(self) -> Iterator[int]:
        return iter(self._by_number)

    def __getitem__(self, key: int | str) -> Pattern:
        """
        Return a pattern by its number or name.

        Raises:
            KeyError: there is none; says what there is.
        """
        found: Pattern | None = None
        if isinstance(key, str):
            found = self._by_slug.get(slug_of(key))
        elif type(key) is int:
            # Not isinstance: True is no number of a pattern.
            found = self._by_number.get(key)
        if found is None:
            raise KeyError(self._missing(key))
        return found

    def _missing(self, key: object) -> str:
        known = f"they are numbered 1 to {len(self)}"
        if isinstance(key, str):
            close = difflib.get_close_matches(slug_of(key), self._by_slug, n=1)
            known = f"did you mean {close[0]!r}?" if close else f'{known}, and named as "exclusive-choice"'
        return f"there is no pattern {key!r}: {known}"
