"""Waking workers that wait for external work, when this process offers any."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Offers:
    """
    Tells of commits after which external work is offered.

    Attributes:
        count: how many of them there were; whoever looked at the store after it read this has missed none.
    """

    def __init__(self) -> None:
        self.count = 0
        self._changed = threading.Condition()
        self._listeners: dict[Callable[[], object], None] = {}

    def tell(self) -> None:
        """Say that some work is offered now."""
        with self._changed:
            self.count += 1
            self._changed.notify_all()
            listeners = tuple(self._listeners)
        for listener in listeners:
            listener()

    def wait(self, seen: int, timeout: float) -> None:
        """Return when there were more commits than `seen`, or after so many seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self.count != seen, timeout)

    def listen(self, listener: Callable[[], object]) -> None:
        """Call a function, in whatever thread commits, after each of them, until `ignore`."""
        with self._changed:
            self._listeners[listener] = None

    def ignore(self, listener: Callable[[], object]) -> None:
        """Call it no more."""
        with self._changed:
            self._listeners.pop(listener, None)
