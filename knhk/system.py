"""What the machine gives a driver where nobody hands in something else: its clock, and ids made from it."""

from __future__ import annotations

import secrets
import threading
import time


class SystemClock:
    """The machine's clock."""

    nanoseconds = staticmethod(time.time_ns)
    """Return nanoseconds since the epoch, UTC."""

    def now(self) -> int:
        """Return milliseconds since the epoch, UTC."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> int:
        """Return milliseconds since some time, never fewer than before."""
        return time.monotonic_ns() // 1_000_000


class TimeOrderedIds:
    """
    Ids that ascend: 48 bits of milliseconds, then 64 bits, in hexadecimal, so that stores stay compact.

    The 64 bits are random for the first id of a millisecond, and one more for each further id of this source.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._at = 0
        self._head = ""
        self._tail = 0

    def next_id(self) -> str:
        """Return a new id, greater than all before it."""
        now = time.time_ns() // 1_000_000
        with self._lock:
            if now > self._at:
                # The top bit is left free, so that counting on from here never runs over.
                self._at, self._head, self._tail = now, f"{now:012x}", secrets.randbits(63)
            else:
                self._tail += 1
            return f"{self._head}{self._tail:016x}"
