"""How long to wait before the next try: waits that grow, with full jitter, so that many who failed together do not come back together.

Full jitter: Brooker, "Exponential backoff and jitter", 2015.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import attrs


def jittered(attempt: int, first: float, most: float, chance: float) -> float:
    """
    Return a wait in seconds, anything from 0 to twice as long for each attempt as for the one before.

    Args:
        attempt: how many attempts there were, from 1.
        first, most: the longest wait after the first attempt, and after any.
        chance: a number from 0 up to but not 1, drawn by chance.
    """
    return chance * min(first * 2.0 ** min(attempt - 1, 60), most)


@attrs.define
class Pace:
    """
    The waits of whoever tries for ever.

    Args:
        first, most: in seconds, as `jittered` has them.
        chance: draws a number from 0 up to but not 1.
        failures: how many there were in a row.
    """

    first: float
    most: float
    chance: Callable[[], float]
    failures: int = 0

    def failed(self, asked: float | None = None) -> float:
        """Note a failure; returns the wait before the next try, at least what is asked for."""
        self.failures += 1
        return (asked or 0.0) + jittered(self.failures, self.first, self.most, self.chance())

    def worked(self) -> None:
        """Note a success: the next wait is a short one."""
        self.failures = 0


class Budget:
    """
    Bounds what repetition adds to the load: a tenth of the calls, and a reserve for the first ones.

    What fails for everybody is not made worse by everybody's repeating it.
    """

    def __init__(self, part: float = 0.1, reserve: float = 10.0) -> None:
        self._part, self._reserve = part, reserve
        self._left = reserve
        self._lock = threading.Lock()

    def called(self) -> None:
        """Note that a call begins."""
        with self._lock:
            self._left = min(self._left + self._part, self._reserve)

    def retry(self) -> bool:
        """Return whether a call may be sent once more."""
        with self._lock:
            if self._left < 1:
                return False
            self._left -= 1
            return True
