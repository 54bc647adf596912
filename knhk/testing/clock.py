"""A clock that stands still until it is told to move."""

from __future__ import annotations


class ManualClock:
    """
    A clock for tests.

    Args:
        start: milliseconds since the epoch.
    """

    def __init__(self, start: int = 1_000_000_000_000) -> None:
        self._now = start

    def now(self) -> int:
        """Return milliseconds since the epoch."""
        return self._now

    def advance(self, milliseconds: int) -> None:
        """Move on (or back, by a negative number: clocks do jump)."""
        self._now += milliseconds
