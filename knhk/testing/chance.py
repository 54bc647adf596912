"""Chance that leaves nothing to it."""

from __future__ import annotations


class FixedChance:
    """
    Draws the same number each time.

    Args:
        value: from 0 up to but not 1; with 0 every wait between attempts is the longest that its policy allows.
    """

    def __init__(self, value: float = 0.0) -> None:
        self._value = value

    def random(self) -> float:
        """Return the number."""
        return self._value
