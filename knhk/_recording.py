"""What a step of a case is in the store with all that goes with it, and who is told once it is there.

A commit has the records of the case and, beside them, what is worked out from where the case has come to: a snapshot now and then,
the rows of the worklist, the entries of the index of events, what subscribers are told, what is asked for of worklets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from knhk._codes import Phase
from knhk._commits import batches_of, commits_of, worklist_of
from knhk._compiled import Compiled
from knhk._questions import next_due
from knhk._resident import Resident
from knhk.journal import encode_snapshot
from knhk.ports import CaseHeader, Clock, Commit, Document, Store
from knhk.work.calls import WORKLETS, calls_of, open_worklets
from knhk.work.correlation import reindex
from knhk.work.metrics import Metrics
from knhk.work.offers import Offers
from knhk.work.outbox import Outbox
from knhk.work.people import People
from knhk.workitem import ItemState

# Up to Python 3.11 a member of an enumeration costs as much to look up as a method to call.
_LIVE: Final = (Phase.RUNNING, Phase.COMPENSATING)
_OVER: Final = (Phase.COMPLETED, Phase.CANCELLED)
_OFFERED: Final = ItemState.OFFERED.value

SNAPSHOT_EVERY: Final = 256
"""Records after which a case's next commit carries a snapshot, which bounds replay."""


class Recording:
    """
    Makes the commits of cases; whoever calls it holds the case.

    Args:
        store: what is looked at for what is there already; nothing is written here.
        clock: stamps commits.
        compiled: the specification of this id and version, as it runs.
        people: to whom work is given; None: nobody is asked for.
        metrics: counts what specifications declare.

    Attributes:
        offers: wakes the workers that wait for external work.
        listeners: are told of every commit after which a case has work that nobody does.
        wakers: are called after a commit that asks for something of worklets.
        outbox: makes what subscribers are told of a commit.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        compiled: Callable[[str, str], Compiled],
        *,
        people: People | None,
        metrics: Metrics,
    ) -> None:
        self._store = store
        self._clock = clock
        self._compiled = compiled
        self._people = people
        self._metrics = metrics
        self.offers = Offers()
        self.listeners: list[Callable[[CaseHeader, bool], object]] = []
        self.wakers: list[Callable[[], object]] = []
        self.outbox = Outbox(store)

    def share_out(self, resident: Resident) -> None:
        """Give away the work of people that came up; what that decides is in the commit of what made it come up."""
        if self._people is not None and resident.case.state.next_item - 1 > resident.shared:
            resident.shared = self._people.share_out(
                resident.case,
                case_id=resident.header.case_id,
                spec_id=resident.header.spec_id,
                after=resident.shared,
                at=self._clock.now(),
            )

    def commits(
        self,
        resident: Resident,
        cuts: Sequence[tuple[int, int]],
        documents: tuple[Document, ...] = (),
        removed: tuple[Document, ...] = (),
    ) -> list[Commit]:
        """Return what a case's last commands are in the store, nothing where they wrote nothing; the case counts it as stored."""
        case = resident.case
        taken = case._taken
        records = case.take_records()
        if not records:
            return []
        now = self._clock.now()
        batches = batches_of(records, taken, cuts, now)
        if now >= self.outbox.look_at:
            documents += self.announce(resident, len(records), batches, now)
        if self._metrics.active:
            now_is = self._compiled(resident.header.spec_id, resident.header.spec_version)
            seen = self._metrics.see(resident.observed, now_is, case, resident.header, len(records), batches)
            resident.observed = seen
        if case._program.keyed:
            indexed, gone = reindex(self._store, resident.header.case_id, case.state)
            documents, removed = documents + indexed, removed + gone
        if case._program.calls or resident.worklets or case.state.principal is not None:
            documents += self._calls(resident, resident.header.version + len(batches), now)
        resident.still = None
        phase = case.state.phase
        running = phase in _LIVE
        due = next_due(case.state) if running else None
        resident.since_snapshot += len(records)
        snapshot = None
        if resident.since_snapshot >= SNAPSHOT_EVERY:
            version = resident.header.version + len(batches)
            snapshot = encode_snapshot({"version": version, "state": case.snapshot()})
            resident.since_snapshot = 0
        rows, closed = worklist_of(resident.header.case_id, case) if case.state.moved else ((), ())
        if phase in _OVER:
            case.drop_records()
        return commits_of(
            resident.header,
            batches,
            phase._value_,
            due=None if due is None else due.at,
            runnable=running and bool(case.state.work),
            snapshot=snapshot,
            items=rows,
            closed=closed,
            documents=documents,
            removed=removed,
        )

    def announce(self, resident: Resident, fresh: int, batches: Sequence[bytes], now: int) -> tuple[Document, ...]:
        """Return what subscribers are told of a commit of so many fresh records, which is stored with it."""
        before = resident.header
        compiled = self._compiled(before.spec_id, before.spec_version)
        documents, resident.told = self.outbox.messages(
            compiled.program,
            compiled.kernels,
            resident.case,
            before=before,
            told=resident.told,
            fresh=fresh,
            batches=batches,
            now=now,
        )
        return documents

    def stored(self, resident: Resident, commits: Sequence[Commit]) -> None:
        """Tell whoever has to know of what is in the store now."""
        resident.header, resident.tenure = commits[-1].header, None
        if resident.observed is not None:
            self.counted(resident)
        for row in commits[-1].items:
            if row.topic and row.state == _OFFERED:
                self.offers.tell()
                break
        for number, attempt in resident.in_flight.items():
            if number not in resident.case.state.items:
                attempt.lose("its work is gone")
        if self.listeners:
            self.tell_listeners(resident)
        if self.wakers:
            self.wake(commits)

    def wake(self, commits: Sequence[Commit]) -> None:
        """Tell those who drive worklets, where the commits ask for something of them."""
        documents = commits[-1].documents
        if documents and any(each.collection == WORKLETS for each in documents):
            for wake in self.wakers:
                wake()

    def counted(self, resident: Resident) -> None:
        """What was worked out for a commit counts, now that it is in the store."""
        if resident.observed is not None:
            resident.observed.settle()

    def tell_listeners(self, resident: Resident) -> None:
        """Tell of a case that has work, or will have some by itself, as it is stored now."""
        header = resident.header
        if header.runnable or header.due is not None:
            waits = len(resident.case.state.work) > len(resident.in_flight)
            for listener in self.listeners:
                listener(header, waits)

    def _calls(self, resident: Resident, version: int, now: int) -> tuple[Document, ...]:
        """Return what a commit that gives the case this version says of worklets."""
        before, known = resident.header, resident.worklets
        resident.worklets = open_worklets(before.case_id, resident.case)
        return tuple(calls_of(before, resident.case, known, version, now))
