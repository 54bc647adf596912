"""The world around a run: the people who take up work, the events that come, and the time that passes.

A `Scene` does to one case, by the engine's commands, what a pattern's script says, and when the script is done whatever
is offered, first offered first done.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Final

from knhk.ports import Clock
from knhk.running import RunningCase

Outputs = Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]]

_START: Final = 1_767_225_600_000
"""Where the stories' time begins: 1 January 2026, UTC."""

_STEPS: Final = 10_000
"""Pieces of work that one run does at the most; no pattern comes near it with accepted variables."""


class StoryClock:
    """
    A clock that the story moves.

    Args:
        base: a clock that it goes along with; without one it stands still between the moves.
    """

    def __init__(self, base: Clock | None = None) -> None:
        self._base = base
        self._moved = 0

    def now(self) -> int:
        """Return milliseconds since the epoch, UTC."""
        return (_START if self._base is None else self._base.now()) + self._moved

    def advance(self, milliseconds: int) -> None:
        """Move on."""
        self._moved += milliseconds


class Scene:
    """
    One case and everybody around it.

    Attributes:
        data: the variables with which the run began.
    """

    def __init__(self, case: RunningCase, clock: StoryClock, data: Mapping[str, Any], outputs: Outputs) -> None:
        self._case = case
        self._clock = clock
        self._outputs = outputs
        self._left = _STEPS
        self.data = data

    # --- looking ------------------------------------------------------------------------------------------------------

    @property
    def open(self) -> list[str]:
        """The paths of the work that is offered or started, first offered first."""
        return [item.path for item in self._case.work_items()]

    # --- single moves -------------------------------------------------------------------------------------------------

    def start(self, path: str) -> None:
        """Somebody starts offered work."""
        self._case.start_task(path)

    def complete(self, path: str) -> None:
        """Somebody completes work (and starts it before, where it is only offered), with the output of its task."""
        task = path.rpartition("/")[2].partition("#")[0]
        output = self._outputs.get(task)
        self._case.complete_task(path, None if output is None else output(self._case.data))

    def event(self, name: str, times: int = 1) -> None:
        """Something happens outside, once or several times."""
        for _ in range(times):
            self._case.send_event(name)

    def wait(self, *, days: int) -> None:
        """Time passes for this case; no other case of the engine notices."""
        self._clock.advance(days * 86_400_000)
        self._case.tick(self._clock.now())

    def add_instance(self, path: str) -> None:
        """Somebody adds an instance to running work."""
        self._case.add_instance(path)

    def complete_instances(self, path: str) -> None:
        """Somebody declares a task with several instances done."""
        self._case.complete_instances(path)

    def cancel_case(self) -> None:
        """Somebody calls the whole case off, unless it has ended."""
        if self._case.state != "completed":
            self._case.cancel()

    # --- several moves ------------------------------------------------------------------------------------------------

    def step(self, *, except_for: Collection[str] = ()) -> bool:
        """Do the work that was offered first, all instances of a task one by one; returns whether there was any."""
        path = next((each for each in self.open if each not in except_for), None)
        if path is None or self._left <= 0:
            return False
        self._left -= 1
        if path in self._case.enabled:
            self.start(path)
        if path in self._case.running:
            self.complete(path)
        return True

    def finish(self, *, except_for: Collection[str] = ()) -> None:
        """Do whatever is offered, until nothing is."""
        while self.step(except_for=except_for):
            pass

    def in_order(self, paths: Iterable[str]) -> None:
        """
        Do these pieces of work in the order that is wished for, and everything else as soon as it is offered.

        What is not possible at its turn waits until it is; what never becomes possible is left out.
        """
        wished = [*paths]
        while True:
            self.finish(except_for=set(wished))
            now = set(self.open)
            path = next((each for each in wished if each in now), None)
            if path is None:
                return
            wished.remove(path)
            self.complete(path)
