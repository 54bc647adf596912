"""One round of an engine's automatic work over all cases: what is due, what waits, what is to be sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from knhk._cache import CaseCache
from knhk.errors import (
    CommandError,
    ConcurrentUpdate,
    DataError,
    DirectoryError,
    HandlerError,
    KnhkError,
    QuarantinedCase,
)
from knhk.running import RunningCase
from knhk.work.delivery import Delivery
from knhk.work.failures import raise_first
from knhk.work.schedules import Schedules
from knhk.work.worklets import settle


class Rounds:
    """
    Does the automatic work of all cases, as far as it is this engine's.

    A case that is set aside, or that another engine has moved, is passed over: both are in the store, and the rest goes on.
    What else fails is raised when the rest is done, the first of it.

    Args:
        cache: the cases.
        running: makes what a case is driven with.
        schedules: launches cases by themselves.
        delivery: sends messages.
    """

    def __init__(
        self,
        cache: CaseCache,
        running: Callable[[str], RunningCase],
        schedules: Schedules,
        delivery: Delivery,
    ) -> None:
        self._cache = cache
        self._running = running
        self._schedules = schedules
        self._delivery = delivery

    def whole(self) -> int:
        """Do everything that is due or waits; returns how much that was."""
        return self._all_of(lambda: self.tick(self._cache.clock.now()), self.run_pending, self._begin_to_deliver)

    def upkeep(self) -> int:
        """Do what is due, as far as it is not the work of handlers; returns how much that was."""
        # Messages go by themselves: a slow receiver must not make a timer late.
        return self._all_of(lambda: self.tick(self._cache.clock.now()), self._begin_to_deliver)

    def run_pending(self) -> int:
        """Do the automatic work that waits, as `Engine.run_pending`; returns how many cases were driven."""
        driven = 0
        failures: list[KnhkError] = []
        while True:
            for case_id in self.pending():
                try:
                    self._running(case_id).run(wait=0)
                except (QuarantinedCase, ConcurrentUpdate):
                    continue
                except (CommandError, HandlerError, DirectoryError) as error:
                    failures.append(error)
                driven += 1
            # The end of a worklet gives work to the case above it, which may come before it in the line.
            if not settle(self._cache, failures, at=self._cache.clock.now()):
                break
        raise_first(failures)
        return driven

    def pending(self) -> Iterator[str]:
        """List the ids of the cases in which automatic work waits, a page at a time."""
        self._cache.land()
        after = ""
        while page := self._cache.store.runnable(after):
            yield from filter(self._cache.is_ours, page)
            after = page[-1]

    def tick(self, at: int) -> int:
        """Do what is due by then, as `Engine.tick`; returns how much that was."""
        self._cache.land()
        ran = 0
        failures: list[KnhkError] = []
        passed_over: set[str] = set()
        while page := [each for each in self._cache.store.due(at, 100 + len(passed_over)) if each not in passed_over]:
            for case_id in page:
                count = self._tick_case(case_id, at, failures) if self._cache.is_ours(case_id) else 0
                ran += count
                if not count:
                    passed_over.add(case_id)
        ran += self._schedules.launch(at, failures)
        ran += settle(self._cache, failures, at=at)
        raise_first(failures)
        return ran

    # --- inside -------------------------------------------------------------------------------------------------------

    def _tick_case(self, case_id: str, at: int, failures: list[KnhkError]) -> int:
        try:
            count = self._running(case_id).tick(at)
            if not count and self._cache.catch_up(case_id):
                count = self._running(case_id).tick(at)
        except (QuarantinedCase, ConcurrentUpdate):
            return 0
        except (CommandError, DataError, DirectoryError) as error:
            failures.append(error)
            return 0
        return count

    def _begin_to_deliver(self) -> int:
        return self._delivery.begin(self._cache.clock.now)

    def _all_of(self, *parts: Callable[[], int]) -> int:
        done = 0
        failures: list[KnhkError] = []
        for part in parts:
            try:
                done += part()
            except KnhkError as error:
                failures.append(error)
        raise_first(failures)
        return done
