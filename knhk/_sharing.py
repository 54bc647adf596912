"""What it takes for the cases in memory to be some of those of a store that several instances share.

What is in memory may be older than the store.
So whoever holds a case looks at its version first, but for commands of callers: what these write is refused where the case has
moved, and then they are done again on the case as it is.
A handler's attempt belongs to the work item, not to the case in memory: where another instance has moved the case while the
handler ran, the case is loaded again, takes the attempt over, and the outcome is recorded there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Final, TypeVar

import attrs

from knhk._resident import Resident
from knhk.errors import CommandError, ConcurrentUpdate, OwnershipLost
from knhk.ports import Commit, Document, Store
from knhk.work.attempt import Attempt
from knhk.work.ownership import Ownership

TRIES: Final = 16
"""How often a command is tried on a case that others move at the same time."""

_OTHERS: Final = "another instance has taken its work over"
_FIRST_PAUSE: Final = 0.005
_LONGEST_PAUSE: Final = 0.25

_T = TypeVar("_T")


class Sharing:
    """
    The part of a cache that knows of other instances.

    Args:
        ownership: who does the work of which cases.
        store: as the engine sees it.
    """

    def __init__(self, ownership: Ownership, store: Store) -> None:
        self.ownership = ownership
        self._store = store
        self._flights: dict[str, dict[int, Attempt]] = {}

    def waits_for_others(self, case_id: str) -> bool:
        """
        Whether a case has automatic work that is another instance's.

        Raises:
            CommandError: there is no instance at all that could do it.
        """
        if self.ownership.tenure(case_id) is not None:
            return False
        header = self._store.header(case_id)
        waits = header.runnable and not header.quarantined and header.state in ("running", "compensating")
        if waits and not self.ownership.anybody():
            raise CommandError(
                f"case {case_id} has automatic work, and no instance on the store does any: let one join (`Engine.serve`)"
            )
        return waits

    # --- attempts of handlers -----------------------------------------------------------------------------------------

    def stash(self, resident: Resident) -> None:
        """Remember the attempts under way of a case that is forgotten, for when it is loaded again."""
        if resident.in_flight:
            self._flights.setdefault(resident.header.case_id, {}).update(resident.in_flight)

    def adopt(self, resident: Resident) -> None:
        """Let a case that was loaded again have the attempts under way, as far as their work is still theirs."""
        for number, attempt in self._flights.pop(resident.header.case_id, {}).items():
            item = resident.case.state.items.get(number)
            if attempt.tenure is None or not self.ownership.holds(attempt.tenure):
                attempt.lose(_OTHERS)
            elif item is None or item.attempt != attempt.number - (not item.begun):
                # One that is replayable may have begun without a record.
                attempt.lose("its work is gone")
            else:
                resident.in_flight[number] = attempt
                resident.doubtful.pop(number, None)

    def let_go(self, case_id: str, number: int, attempt: Attempt) -> None:
        """Forget an attempt that nobody makes any more."""
        flights = self._flights.get(case_id, {})
        if flights.get(number) is attempt:
            del flights[number]

    def at_work(self) -> Iterator[str]:
        """Return the ids of the cases in which attempts are under way, of those that are not in memory."""
        for case_id, attempts in tuple(self._flights.items()):
            if any(each.tenure is not None and self.ownership.holds(each.tenure) for each in tuple(attempts.values())):
                yield case_id
            else:
                self._flights.pop(case_id, None)

    def lost(self, attempt: Attempt) -> bool:
        """Whether the work of an attempt is another instance's by now; it is told so."""
        if attempt.tenure is None or self.ownership.holds(attempt.tenure):
            return False
        attempt.lose(_OTHERS)
        return True


def under(commits: Sequence[Commit], tenure: Document | None) -> Sequence[Commit]:
    """Return commits of one case that are refused where the tenure has ended; as they are where there is none, or nothing."""
    if tenure is None or not commits:
        return commits
    return [*commits[:-1], attrs.evolve(commits[-1], held=(tenure,))]


def again(sharing: Sharing | None, part: Callable[[], _T]) -> _T:
    """Do a part that loads its case again where another instance has moved it meanwhile; alone, do it once."""
    tries = 1
    while True:
        try:
            return part()
        except OwnershipLost:
            raise
        except ConcurrentUpdate:
            if sharing is None or tries == TRIES:
                raise
            tries += 1


def elsewhere() -> suppress:
    """Return what leaves it at that where the work of a case has become another instance's."""
    return suppress(OwnershipLost)


def pauses(seconds: float | None) -> Iterator[float]:
    """Yield pauses that grow, one at least and so many seconds in all; None: without end."""
    pause, left = _FIRST_PAUSE, seconds
    yield pause if left is None else min(pause, left)
    while left is None or left > 0:
        yield pause if left is None else min(pause, left)
        left = None if left is None else left - pause
        pause = min(pause * 2, _LONGEST_PAUSE)
