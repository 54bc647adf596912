"""
The 43 workflow control-flow patterns, each with a canonical net and a story that runs it.

::

    import knhk

    pattern = knhk.patterns[4]               # or knhk.patterns["exclusive-choice"]
    run = pattern.execute({"amount": 7})
    run.outcome, run.trace, run.variables

This package can itself be subscripted, iterated and asked for its length, like the `Catalogue` that it holds: iteration
gives the numbers, `values` the patterns.
The numbers and names are those of the revised catalogue (Russell, ter Hofstede, van der Aalst & Mulyar, BPM Center
Report BPM-06-22, 2006), as published on workflowpatterns.com; ``Pattern.other_names`` has what else is in use.

The map: `_notation` and `_variables` are the words in which the entries are written, `_scene` plays the people, events
and time around a case, `_pattern` puts them together; `basic` to `course` are the entries.
"""

from __future__ import annotations

import sys
from collections.abc import ItemsView, Iterator, KeysView, ValuesView
from types import ModuleType

from knhk.patterns._catalogue import Catalogue
from knhk.patterns._pattern import Pattern, Run

__all__ = ("Catalogue", "Pattern", "Run", "patterns")

patterns = Catalogue()
"""The catalogue."""


class _CatalogueModule(ModuleType):
    """A module that answers as its catalogue does, so that ``knhk.patterns[4]`` is right however it was imported."""

    def __getitem__(self, key: int | str) -> Pattern:
        return patterns[key]

    def __iter__(self) -> Iterator[int]:
        return iter(patterns)

    def __len__(self) -> int:
        return len(patterns)

    def __contains__(self, key: object) -> bool:
        return key in patterns

    def get(self, key: int, default: Pattern | None = None) -> Pattern | None:
        """Return a pattern, or the default where there is none."""
        return patterns.get(key, default)

    def keys(self) -> KeysView[int]:
        """Return the numbers."""
        return patterns.keys()

    def values(self) -> ValuesView[Pattern]:
        """Return the patterns, by number."""
        return patterns.values()

    def items(self) -> ItemsView[int, Pattern]:
        """Return numbers and patterns."""
        return patterns.items()


sys.modules[__name__].__class__ = _CatalogueModule
