"""Where requests are counted: by key, in the window that is and the one before (a storage of the library `limits`)."""

from __future__ import annotations

import threading
import time
from math import floor
from typing import Final

from limits.storage import MemoryStorage

TIDY_EACH: Final = 1.0
"""Seconds after which the counts of those who have gone are forgotten."""


class Windows(MemoryStorage):
    """
    Counts in memory, without a thread.

    The library's own storage starts a thread for its tidying whenever none runs, up to a hundred a second, which costs
    a request more than everything else that counting does.
    """

    STORAGE_SCHEME = ["knhk-windows"]  # noqa: RUF012 - as the library has it

    def __init__(self) -> None:
        super().__init__()
        self._counting = threading.Lock()
        self._counts: dict[str, tuple[int, int, int, int]] = {}
        self._tidied = time.time()

    def __len__(self) -> int:
        """How many keys have counts."""
        return len(self._counts)

    def acquire_sliding_window_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """
        Count a request, if that is not too many: those of the window before weigh as much as of it is in the last `expiry` seconds.

        Args:
            key: of whom.
            limit: so many within `expiry`.
            expiry: seconds of a window.
            amount: as how many it counts.

        Returns:
            Whether it was counted.
        """
        now = time.time()
        with self._counting:
            self._tidy(now)
            number, before, count = self._window(key, expiry, now)
            if floor(before * (1 - now / expiry % 1) + count) + amount > limit:
                return False
            self._counts[key] = number, before, count + amount, expiry
            return True

    def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        """Return what the window before and the present one have counted, each with the seconds for which that weighs."""
        now = time.time()
        with self._counting:
            _, before, count = self._window(key, expiry, now)
        left = (1 - now / expiry % 1) * expiry
        return before, left if before else 0.0, count, left + expiry

    def _window(self, key: str, expiry: int, now: float) -> tuple[int, int, int]:
        """Return the number of the present window, what the one before has counted, and what it has itself."""
        number = int(now // expiry)
        known, before, count, _ = self._counts.get(key, (number, 0, 0, expiry))
        if known == number:
            return number, before, count
        return number, count if known == number - 1 else 0, 0

    def _tidy(self, now: float) -> None:
        if 0 <= now - self._tidied < TIDY_EACH:
            return
        self._tidied = now
        gone = [key for key, (number, _, _, expiry) in self._counts.items() if now >= (number + 2) * expiry]
        for key in gone:
            del self._counts[key]
