"""A case in memory: the case itself or what stands for it, its lock, and what is under way."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, Final, Self

import attrs

from knhk._arena import Arena, Still
from knhk._codes import Phase
from knhk._express import Journey
from knhk.case import Case
from knhk.errors import InternalError
from knhk.ports import CaseHeader, Document
from knhk.work.attempt import Attempt
from knhk.work.metrics import Observed
from knhk.work.outbox import Told

# Up to Python 3.11 a member of an enumeration costs as much to look up as a method to call.
_CREATED: Final = Phase.CREATED
_OVER: Final = frozenset({Phase.COMPLETED.value, Phase.CANCELLED.value})
_Lock: Final = type(threading.RLock())
# Itself, not the function that asks each time which kind of lock there is.


@attrs.define(eq=False)
class Resident:
    """
    A case in memory that somebody uses, or used not long ago.

    Args:
        case: the case, once somebody needed it; None: `still` says all.
        header: as its last commit made it; one that was packed has forgotten what is due and whether work waits.
        still: what the case was when it was last packed, created or brought to its end by express; None once that has changed.
        express: what an express needs to know of its net, or None.
        journey: the express that is under way; whoever holds the case meanwhile finds it landed.
        in_flight: the attempts of the items whose handler runs now.
        doubtful: items whose handler may have been called by a process that ended, without a record of it.
        since_snapshot: records since the last snapshot.
        shared: the last item that was looked at for somebody to give it to.
        stale: forgotten: whoever waited for the lock must load again.
        users: who holds it, waits for it or pinned it; it stays in memory until they are done.
        told: the case as subscribers know it, where there are any.
        tenure: the document under which its automatic work that is not committed yet was done; None where nothing is shared.
        depth: how often whoever has its lock has taken it, where work is shared.
        bound: how many of them expect it to stay at a version.
        seen: whether they know that the store has it as it is here.
        worklets: the ids of the cases that ran in the place of its work at its last commit, by item.
        observed: the case as it is counted, where it is.
    """

    _case: Case | None
    header: CaseHeader
    express: Any = None
    still: Still | None = None
    journey: Journey | None = attrs.field(default=None, init=False)
    in_flight: dict[int, Attempt] = attrs.field(factory=dict, init=False)
    doubtful: dict[int, None] = attrs.field(factory=dict)
    lock: threading.RLock = attrs.field(factory=_Lock, init=False)
    since_snapshot: int = 0
    shared: int = 0
    stale: bool = attrs.field(default=False, init=False)
    users: int = attrs.field(default=0, init=False)
    told: Told | None = attrs.field(default=None, init=False)
    tenure: Document | None = attrs.field(default=None, init=False)
    depth: int = attrs.field(default=0, init=False)
    bound: int = attrs.field(default=0, init=False)
    seen: bool = attrs.field(default=True, init=False)
    worklets: dict[int, str] = attrs.field(factory=dict)
    observed: Observed | None = attrs.field(default=None, init=False)

    @classmethod
    def at_rest(cls, still: Still) -> Self:
        """Return a case that stands still, of which nobody has needed more yet."""
        return cls(None, still[2], still[0].arena.express, still, {}, still[3])

    @property
    def case(self) -> Case:
        """The case, which is made where nobody has needed it before; the caller holds it."""
        if self._case is None:
            outline, data, _, since_snapshot = self._still()
            self._case = outline.case(data)
            if not since_snapshot:
                # Of a case that is only being created the store has nothing yet.
                self._case._taken = 0
            # What came up in a case that was packed was looked at before it was.
            self.shared = self._case.state.next_item - 1
        return self._case

    @property
    def state(self) -> str:
        """Where the case is in its life, by name."""
        return self._still()[0].state if self._case is None else self._case.state.phase.value

    @property
    def data(self) -> dict[str, Any]:
        """The case's data: read them, never change them."""
        return self._still()[1] if self._case is None else self._case.state.data

    @property
    def untouched(self) -> Still | None:
        """What the case is, where nobody has needed it since it was created, unpacked or brought to its end by express."""
        return self.still if self._case is None else None

    def first_data(self) -> dict[str, Any] | None:
        """Return the data of a case that was created and of which nothing has been needed since; None for any other."""
        still = self.still
        return still[1] if self._case is None and still is not None and still[0].phase is _CREATED else None

    def work_under(self, tenure: Document | None) -> None:
        """Let the next commit hold the tenure under which work is done; what is owed under an earlier one is held to that."""
        if self.tenure is None:
            self.tenure = tenure

    @property
    def is_over(self) -> bool:
        """Whether nothing can happen in the case any more, as far as that is committed."""
        return self.header.state in _OVER

    @property
    def is_idle(self) -> bool:
        """Whether nobody uses the case, nothing is under way, and nothing is owed to the store."""
        if self.users or self.journey is not None or self.in_flight or self.doubtful:
            return False
        return self._case is None or not self._case.owes

    def rest(self, arenas: Mapping[tuple[str, str], Arena]) -> Still | None:
        """Return what a row can say of an idle case; None where it would not say all."""
        case = self._case
        if case is None or self.still is not None:
            return self.still
        if not case.state.in_order or self.worklets or case.state.principal is not None:
            return None
        header = self.header
        arena = arenas[header.spec_id, header.spec_version]
        return arena.outline(case.state), case.state.data, header, self.since_snapshot

    def _still(self) -> Still:
        if self.still is None:
            message = f"case {self.header.case_id} is neither a case nor at rest"
            raise InternalError(message)
        return self.still
