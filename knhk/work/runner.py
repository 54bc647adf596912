"""The runner: in the background, run the timers that are due and do the automatic work that waits."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Self

from knhk.errors import KnhkError

_LOG = logging.getLogger("knhk.runner")


class Runner:
    """
    A thread that repeats a round until it is stopped.

    A round that fails is logged and the next one tries again: one broken case must not stop the others, nor the runner.

    Args:
        round_: what one round does; returns how much it did.
        interval: seconds between rounds in which nothing was to be done.

    Attributes:
        failures: how many rounds failed.
    """

    def __init__(self, round_: Callable[[], int], *, interval: float) -> None:
        self._round = round_
        self._interval = interval
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="knhk-runner", daemon=True)
        self.failures = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wake(self) -> None:
        """Do not wait for the interval to pass."""
        self._wake.set()

    def stop(self) -> None:
        """Finish the round that runs now, then end; returns when the thread has ended."""
        self._stopping = True
        self._wake.set()
        self._thread.join()

    def step(self) -> int:
        """Do one round; returns how much it did, 0 also when it failed."""
        try:
            return self._round()
        except KnhkError:
            self.failures += 1
            _LOG.exception("a round of the runner failed; the next one tries again")
            return 0

    def _run(self) -> None:
        while not self._stopping:
            if not self.step():
                self._wake.wait(self._interval)
                self._wake.clear()
