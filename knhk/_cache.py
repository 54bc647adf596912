"""Memory as a cache of the store: cases loaded when somebody asks, forgotten when others need the room.

A `Resident` is a case in memory.
Whoever works on one holds it: it is locked against others, stays in memory while it is held or pinned, and what its commands
wrote is committed before anything is acknowledged.
When a commit fails the resident is forgotten, because what the store holds is what is so.

The cases that were used last are residents; those that nobody has used for longer are rows of a few bytes (`knhk._arena`).
A new case, and one that a row was made into again, becomes a `Case` only when somebody needs one: one that goes all its way by
express never does.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any, Final, TypeVar

import attrs

from knhk import _hot
from knhk._arena import Arena, Rows, Still
from knhk._codes import Code, Phase
from knhk._commits import check_whole, commits_of, end_of
from knhk._compiled import Compiled, compile_specification
from knhk._express import Journey, depart, set_out, terms
from knhk._hold import Hold, SharedHold, UnseenHold
from knhk._kernel import Net
from knhk._pipeline import HeldForCommand, Outcome, Pipeline, Pipelines
from knhk._plain import plain_data
from knhk._recording import SNAPSHOT_EVERY, Recording
from knhk._resident import Resident
from knhk._sharing import Sharing, under
from knhk.case import Case
from knhk.errors import (
    ConcurrentUpdate,
    JournalError,
    QuarantinedCase,
    UnknownSpecification,
)
from knhk.expr import Dialect
from knhk.journal import decode_batch, decode_snapshot, encode_batch, encode_snapshot
from knhk.limits import Limits
from knhk.people import Directory
from knhk.ports import CaseHeader, Clock, Commit, Document, Store
from knhk.spec import Retry, Specification
from knhk.work.attempt import Attempt
from knhk.work.authority import Authority
from knhk.work.calls import open_worklets
from knhk.work.failed_rows import is_dead
from knhk.work.handlers import Work
from knhk.work.metrics import Metrics, Observed
from knhk.work.ownership import Ownership
from knhk.work.people import People

# Up to Python 3.11 a member of an enumeration costs as much to look up as a method to call.
_T = TypeVar("_T")

_COMPLETED: Final = Phase.COMPLETED.value
_CREATION: Final = Code.CREATED

HOT: Final = 1_000
"""Cases that stay as they are when nobody uses them any more; what was used longer ago is packed."""


class CaseCache:
    """
    The cases in memory, and the specifications they run.

    Args:
        store: what is so.
        clock: stamps commits.
        limits: what one case may do.
        size: how many cases stay in memory when nobody uses them.
        hot: how many of these stay as they are; the others are packed, or forgotten where they are over.
        dialect: the language of predicates.
        kernel: the class of nets that plays the token game.
        functions: the plain functions by handler name; they may become more.
        directory: who there is; None: nobody is asked for, and everybody may do everything.
        retry: what follows when a handler raises whose task says nothing of it.
        metrics: counts what specifications declare.
        timed: whether handlers have a time limit even where their tasks state none.
        ownership: who does the automatic work of which cases; None: this engine that of all.

    Attributes:
        sharing: what it takes to be one of several instances; None alone.
        people, authority: who may do what, and who judges that; None without a directory.
        plain: `plain_data` within the limit of this engine.
        offers, listeners, wakers, outbox: who hears of commits, as `knhk._recording` has them.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        functions: dict[str, Callable[[Work], Any]],
        limits: Limits,
        size: int,
        hot: int = HOT,
        dialect: Dialect = "subset",
        kernel: type[Net] = _hot.Net,
        retry: Retry | None = None,
        timed: bool = False,
        directory: Directory | None = None,
        metrics: Metrics | None = None,
        ownership: Ownership | None = None,
    ) -> None:
        self.sharing = None if ownership is None else Sharing(ownership, store)
        self.metrics = Metrics(dialect) if metrics is None else metrics
        self.people = None if directory is None else People(directory, store)
        self.authority = None if self.people is None else Authority(self.people)
        self._retry = retry
        self._timed = timed
        self.store = store
        self.clock = clock
        self._limits = limits
        self._size = size
        self._hot = min(hot, size)
        self._slack = self._hot // 32
        self._dialect = dialect
        self._kernel = kernel
        self.plain = partial(plain_data, limit=limits.payload)
        self._forgetful = bool(getattr(store, "forgetful", False))
        self._terms = terms(
            functions,
            clock,
            copy=partial(self.plain, what="the result"),
            forgetful=self._forgetful,
            steps=limits.steps,
        )
        self._residents: OrderedDict[str, Resident] = OrderedDict()
        self._rows = Rows()
        self._arenas: dict[tuple[str, str], Arena] = {}
        self._travelling: set[Resident] = set()
        self._compiled: dict[tuple[str, str], Compiled] = {}
        self._lock = threading.RLock()
        self._pipelines = Pipelines()
        self._recording = Recording(store, clock, self.compiled, people=self.people, metrics=self.metrics)
        self.offers, self.outbox = self._recording.offers, self._recording.outbox
        self.listeners, self.wakers = self._recording.listeners, self._recording.wakers

    def __len__(self) -> int:
        return len(self._residents) + len(self._rows)

    def compiled(self, spec_id: str, version: str) -> Compiled:
        """Return a registered specification, compiled from its stored text; raises UnknownSpecification."""
        found = self._compiled.get((spec_id, version))
        if found is None:
            # Without the lock, which others need while this reads and compiles; of two who did the first is kept.
            text = self.store.specification(spec_id, version).text
            specification = Specification.from_json(text, dialect=self._dialect)
            found = self._compiled.setdefault((spec_id, version), self.compile(specification))
            self.metrics.know(found)
        return found

    def compile(self, specification: Specification) -> Compiled:
        """Compile a well-formed specification as this engine runs it."""
        return compile_specification(
            specification,
            dialect=self._dialect,
            kernel=self._kernel,
            or_join_budget=self._limits.or_join_budget,
            # At the events that a metric names something has to be worked out.
            express=not self._timed and not specification.metrics,
        )

    def create(self, header: CaseHeader, data: dict[str, Any], idempotency: tuple[str, str] | None = None) -> None:
        """
        Commit a new case and keep it; in a pipeline once that is stored.

        Args:
            header: the case as its first commit makes it.
            data: its first data, which nobody else has.
            idempotency: (key, digest of the request), if it has one.

        Raises:
            DataError: the schema refuses the data.
            KnhkError: what the store's `commit` raises.
        """
        resident, commit = self._created(header, data, idempotency)
        self._store_new(resident, commit, by_command=True)

    def create_many(self, cases: Sequence[tuple[CaseHeader, dict[str, Any]]]) -> None:
        """Commit new cases in one transaction and keep them, as `create` does one."""
        created = [self._created(header, data) for header, data in cases]
        self.store.commit([commit for _, commit in created])
        with self._lock:
            for resident, _ in created:
                self._recording.counted(resident)
                self._residents[resident.header.case_id] = resident
            self._make_room()

    def _created(
        self, header: CaseHeader, data: dict[str, Any], idempotency: tuple[str, str] | None = None
    ) -> tuple[Resident, Commit]:
        """Return a new case, which has these data from now on, and the commit that creates it: it has no items yet."""
        arena = self._arenas.get((header.spec_id, header.spec_version))
        if arena is None:
            arena = self._arena(header, self.compiled(header.spec_id, header.spec_version))
        if arena.check is not None:
            arena.check(data)
        now = self.clock.now()
        batch = encode_batch(now, ((_CREATION, data),))
        resident = Resident.at_rest((arena.created, data, header, 1))
        documents: tuple[Document, ...] = ()
        if now >= self.outbox.look_at:
            resident.header = attrs.evolve(header, version=0)
            documents = self._recording.announce(resident, 1, [batch], now)
            resident.header = header
        if self.metrics.active and (counts := self.metrics.created(header, data)):
            resident.observed = Observed(waiting=counts)
        return resident, Commit(header, 0, batch, None, (), (), idempotency, documents)

    def launch(
        self,
        header: CaseHeader,
        data: Mapping[str, Any],
        *,
        idempotency: tuple[str, str] | None = None,
        documents: tuple[Document, ...] = (),
        removed: tuple[Document, ...] = (),
        above: tuple[str, int, int] | None = None,
        held: tuple[Document, ...] = (),
        by_command: bool = False,
    ) -> None:
        """
        Create a case and start it, in one commit that also writes and removes documents; where it cannot be started there is none.

        Args:
            header, data, idempotency: as in `create`.
            documents, removed: what is written and removed beside it.
            above: case id, item and depth of the work in whose place it runs, as a worklet.
            held: what must not have changed meanwhile.
            by_command: whether that may wait for the commits of a pipeline, as in `create`.

        Raises:
            DataError, CommandError: the case refuses the data, or cannot be started.
            KnhkError: what the store's `commit` raises.
        """
        compiled = self.compiled(header.spec_id, header.spec_version)
        # Where it is packed one day.
        self._arena(header, compiled)
        case = self.fresh(compiled)
        case.create(self.plain(data, "the data of the case"))
        if above is not None:
            case.stand_in(*above, at=self.clock.now())
        case.start(at=self.clock.now())
        # The end of a worklet is told in its last commit, which an express would not do.
        resident = Resident(case, attrs.evolve(header, version=0), None if above is not None else compiled.express)
        (commit,) = self._recording.commits(resident, (), documents, removed)
        self._store_new(resident, attrs.evolve(commit, idempotency=idempotency, held=held), by_command=by_command)

    def _store_new(self, resident: Resident, commit: Commit, *, by_command: bool) -> None:
        pipeline = self._pipelines.of_command() if by_command and self._pipelines else None
        if pipeline is None or not pipeline.take_new(resident, (commit,)):
            self.store.commit((commit,))
            self.admit(resident, (commit,))

    def admit(self, resident: Resident, commits: Sequence[Commit]) -> None:
        """Keep a new case, whose first commits are in the store now."""
        resident.header = commits[-1].header
        self._recording.counted(resident)
        with self._lock:
            self._residents[resident.header.case_id] = resident
            self._make_room()
        self._recording.tell_listeners(resident)
        self._recording.wake(commits)

    def embark(self, header: CaseHeader, data: dict[str, Any]) -> Resident:
        """
        Keep and pin a new case, of which the store hears with the first commit of what follows.

        Args:
            header: as in `create`, but at version 0.
            data: as in `create`.
        """
        arena = self._arena(header, self.compiled(header.spec_id, header.spec_version))
        if arena.check is not None:
            arena.check(data)
        resident = Resident.at_rest((arena.created, data, header, 0))
        resident.users = 1
        with self._lock:
            self._residents[header.case_id] = resident
            self._make_room()
        return resident

    def hold(self, case_id: str) -> Hold:
        """Lock the case, loading it first where it is not in memory: ``with cache.hold(case_id) as resident:``."""
        if self._pipelines:
            self._pipelines.step_aside()
        return Hold(self, case_id) if self.sharing is None else SharedHold(self, case_id)

    def hold_unseen(self, case_id: str) -> Hold:
        """Lock the case as it is in memory; whether the store has it so is found out by its commit, or in the end."""
        if self._pipelines:
            self._pipelines.step_aside()
        return Hold(self, case_id) if self.sharing is None else UnseenHold(self, case_id)

    def hold_for_command(self, case_id: str) -> Hold:
        """Hold as `hold_unseen`, in a pipeline until the outcome of the command's commit is known."""
        pipeline = self._pipelines.of_command() if self._pipelines else None
        return self.hold_unseen(case_id) if pipeline is None else HeldForCommand(self, case_id, pipeline)

    def pipeline(self, commands: Sequence[Callable[[], _T]]) -> list[Outcome[_T]]:
        """Do commands on several cases whose commits share a wait (`knhk._pipeline`); returns their outcomes."""
        return self._pipelines.run(Pipeline(self, shares=self.sharing is not None), commands)

    def is_current(self, resident: Resident) -> bool:
        """Whether a case in memory is as the store has it; it is forgotten where it is not."""
        resident.seen = self.store.header(resident.header.case_id).version == resident.header.version
        if not resident.seen:
            self.forget(resident)
        return resident.seen

    def refuse_moved(self, resident: Resident) -> None:
        """Raise ConcurrentUpdate where a case in memory is not as the store has it; it is forgotten then."""
        if not self.is_current(resident):
            raise ConcurrentUpdate(f"case {resident.header.case_id} has changed: read it again")

    def tenure(self, case_id: str) -> Document | None:
        """Return the document under which work of a case may be begun here; None: there is no need of one, or it is not ours."""
        return None if self.sharing is None else self.sharing.ownership.tenure(case_id)

    def is_ours(self, case_id: str) -> bool:
        """Whether the automatic work of a case is to be done here."""
        return self.sharing is None or self.sharing.ownership.tenure(case_id) is not None

    def at_work(self) -> list[str]:
        """Return the ids of the cases in which handlers are at work here."""
        with self._lock:
            found = [each for each, resident in self._residents.items() if resident.in_flight]
            return found if self.sharing is None else [*found, *self.sharing.at_work()]

    def glance(self, case_id: str) -> Still | None:
        """Return what a case is that stands still, without waiting for whoever has it; None where that takes a hold."""
        if self.sharing is not None:
            return None
        with self._lock:
            resident = self._residents.get(case_id)
            if resident is None or resident.journey is not None:
                return None
            self._residents.move_to_end(case_id)
            return resident.untouched

    def pin(self, case_id: str) -> Resident:
        """Return the case and keep it in memory until `unpin`."""
        with self._lock:
            resident = self._residents.get(case_id)
            if resident is not None:
                self._residents.move_to_end(case_id)
                resident.users += 1
                return resident
            still = self._rows.take(case_id) if self._rows.table else None
            if still is not None:
                resident = self._residents[case_id] = Resident.at_rest(still)
                resident.users += 1
                return resident
        if self._pipelines:
            # It may be one that waits to be stored.
            self._pipelines.flush()
        fresh = self._load(case_id)
        with self._lock:
            # Whoever was faster may have packed it already.
            still = None if case_id in self._residents else self._rows.take(case_id)
            resident = self._residents.setdefault(case_id, fresh if still is None else Resident.at_rest(still))
            if self.sharing is not None and resident is fresh:
                self.sharing.adopt(resident)
            resident.users += 1
            return resident

    def unpin(self, resident: Resident) -> None:
        """Take back one `pin`."""
        with self._lock:
            resident.users -= 1
            count = len(self._residents)
            if count > self._hot + self._slack or count + len(self._rows.table) > self._size:
                self._make_room()

    def evict(self, case_id: str | None = None) -> None:
        """Forget one case, or all, but for those in use."""
        with self._lock:
            if case_id is None:
                self._rows.drop_oldest(len(self._rows))
            else:
                self._rows.drop(case_id)
            for each in list(self._residents) if case_id is None else [case_id]:
                resident = self._residents.get(each)
                if resident is not None and not resident.users:
                    self.forget(resident)

    def forget(self, resident: Resident) -> None:
        """Let a case go although it may be in use: the store knows better."""
        with self._lock:
            if self.sharing is not None and not resident.stale:
                self.sharing.stash(resident)
            resident.stale = True
            if self._residents.get(resident.header.case_id) is resident:
                del self._residents[resident.header.case_id]

    def catch_up(self, case_id: str) -> bool:
        """Forget a case that another engine has moved in the store since it was loaded; returns whether it was so."""
        with self.hold(case_id) as resident:
            return not self.is_current(resident)

    def let_go(self, case_id: str, number: int, attempt: Attempt) -> None:
        """Forget an attempt that nobody makes any more, wherever its case is."""
        with self._lock:
            resident = self._residents.get(case_id)
            if resident is not None and resident.in_flight.get(number) is attempt:
                del resident.in_flight[number]
            if self.sharing is not None:
                self.sharing.let_go(case_id, number, attempt)

    def depart(self, resident: Resident) -> Journey | None:
        """Send an express on its way where the case has work for one; the caller holds the case and will `arrive`."""
        if resident.express is None or resident.in_flight or self.sharing is not None:
            return None
        case_id, lock = resident.header.case_id, resident.lock
        data = resident.first_data()
        if data is not None:
            stored = resident.header.version > 0
            journey: Journey | None = set_out(
                resident, data, resident.express, self._terms, case_id, lock, stored=stored
            )
        else:
            if resident.doubtful and not resident.doubtful.keys().isdisjoint(resident.case.state.work):
                return None
            journey = depart(
                resident, resident.express, self._terms, case_id=case_id, lock=lock, forgetful=self._forgetful
            )
        if journey is not None:
            resident.journey = journey
            self._travelling.add(resident)
        return journey

    def arrive(self, resident: Resident, outcome: int) -> bool:
        """
        Make the case the driver's again; False where the last result, or the start, was taken back.

        It is committed, but where the driver goes on at once on a store that lasts: its next commit has all of it.
        """
        journey = resident.journey
        if journey is None:
            return True
        now = self.clock.now()
        # What subscribers are told is made of a case.
        data = journey.end() if outcome == _hot.express.ENDED and now < self.outbox.look_at else None
        if data is not None:
            try:
                self._end(resident, journey, data, now)
            finally:
                # Only now, so that nobody who glances at it finds it where it began.
                resident.journey = None
                self._travelling.discard(resident)
            return True
        resident.journey = None
        self._travelling.discard(resident)
        good = journey.arrive(outcome, at=now)
        if not good and not resident.header.version and journey.express.job is None:
            # It cannot be started: then it is not stored either.
            return False
        if self._forgetful or outcome != _hot.express.STOPPED:
            self.commit(resident, cuts=journey.express.cuts)
        return good

    def _end(self, resident: Resident, journey: Journey, data: dict[str, Any], now: int) -> None:
        """Commit the end of a case that an express has brought there all the way."""
        batches = journey.batches(now)
        before = resident.header
        arena = self._arenas[before.spec_id, before.spec_version]
        since_snapshot = resident.since_snapshot + journey.express.length - journey.begun_at
        snapshot = None
        if since_snapshot >= SNAPSHOT_EVERY:
            since_snapshot = 0
            state = arena.end(data, journey.express.next_item)
            snapshot = encode_snapshot({"version": before.version + len(batches), "state": state})
        commits: Sequence[Commit]
        if len(batches) == 1:
            commits = (end_of(before, batches[0], _COMPLETED, snapshot),)
        else:
            commits = commits_of(before, batches, _COMPLETED, snapshot=snapshot)
        self._store(resident, commits)
        header = resident.header = commits[-1].header
        resident.since_snapshot = since_snapshot
        resident.still = arena.completed, data, header, since_snapshot

    def interrupt(self, resident: Resident, *, spare: bool) -> None:
        """An express ended in the middle of a handler: its item stays begun, or to spare it, is handed back."""
        if resident.journey is not None:
            self._land(resident)
            for number, attempt in resident.in_flight.items() if spare else ():
                if attempt.said is not None:
                    resident.case.progress(number, attempt.said, at=self.clock.now())
                resident.case.hand_back(number, at=self.clock.now())
            resident.in_flight.clear()
            self.commit(resident)

    def take_over(self, resident: Resident) -> bool:
        """Bring a case that the caller pinned and locked to where the driver would have; False where it is stale."""
        # A failed commit may have made it stale while we waited: then what we hold is not what is so.
        if resident.stale:
            return False
        if resident.journey is not None:
            self._land(resident)
        return True

    def land(self) -> None:
        """Bring every case of which an express has the work to where the store can tell of it."""
        if self._pipelines:
            self._pipelines.step_aside()
        for resident in tuple(self._travelling):
            with resident.lock:
                if resident.journey is not None and not resident.stale:
                    self._land(resident)

    def _land(self, resident: Resident) -> None:
        journey = resident.journey
        resident.journey = None
        self._travelling.discard(resident)
        if journey is not None:
            journey.land()
            work = journey.express.job[3]
            attempt = work._live = work._attempt() or Attempt(self.clock.now)
            resident.in_flight[journey.express.job[1]] = attempt
            self.commit(resident, cuts=journey.express.cuts)

    def commit(
        self,
        resident: Resident,
        *,
        cuts: Sequence[tuple[int, int]] = (),
        documents: tuple[Document, ...] = (),
        removed: tuple[Document, ...] = (),
    ) -> None:
        """
        Persist what the case's last commands wrote; the caller holds it.

        Args:
            resident: the case.
            cuts: lengths of the case's records, and when they had that length: a batch has one time.
            documents, removed: what is written and removed beside it, where there is anything to persist.
        """
        try:
            if self.people is not None:
                self._recording.share_out(resident)
            commits = self._recording.commits(resident, cuts, documents, removed)
        except BaseException:
            # Its records count as stored, and are not.
            self.forget(resident)
            raise
        if not commits:
            return
        if self._store(resident, commits):
            self._recording.stored(resident, commits)

    def stored(self, resident: Resident, commits: Sequence[Commit]) -> None:
        """Note that commits of a held case are in the store now, and tell whoever has to know."""
        resident.seen = True
        self._recording.stored(resident, commits)

    def commit_all(self, residents: Sequence[Resident], *, removed: tuple[Document, ...] = ()) -> None:
        """
        Persist what the last commands on several cases wrote, in one transaction or none of it; the caller holds them.

        Args:
            residents: the cases.
            removed: documents that go with it, where the first case has anything to persist.
        """
        prepared: list[tuple[Resident, list[Commit]]] = []
        try:
            for resident in residents:
                self._recording.share_out(resident)
                prepared.append((resident, self._recording.commits(resident, (), (), () if prepared else removed)))
            together = [commit for each, commits in prepared for commit in under(commits, each.tenure)]
            if together:
                self.store.commit(together)
        except BaseException:
            for resident in residents:
                self.forget(resident)
            raise
        for resident, commits in prepared:
            if commits:
                self._recording.stored(resident, commits)

    def _store(self, resident: Resident, commits: Sequence[Commit]) -> bool:
        """Store commits; False where they wait in a pipeline."""
        try:
            pipeline = self._pipelines.of_command() if self._pipelines else None
            if pipeline is not None and pipeline.take(resident, commits):
                return False
            self.store.commit(commits if resident.tenure is None else under(commits, resident.tenure))
        except BaseException:
            self.forget(resident)
            raise
        resident.seen = True
        return True

    def replace(self, resident: Resident, fresh: Resident) -> None:
        """Store a held case as another that goes on in its place, and forget it."""
        self._recording.share_out(fresh)
        self.store.commit(self._recording.commits(fresh, ()))
        self._recording.counted(fresh)
        self.forget(resident)

    def _make_room(self) -> None:
        """
        Pack the cases that were used longest ago, and forget those beyond what the cache may hold; the caller has the lock.

        That is done for some at a time, so that a few more than `hot` may stay as they are.
        """
        residents, rows = self._residents, self._rows.table
        surplus = len(residents) - self._hot
        if surplus > self._slack:
            # Those that cannot be packed are passed over, and not looked at again before all the others were.
            for resident in tuple(islice(residents.values(), surplus + 8)):
                self._pack(resident)
                if len(residents) <= self._hot:
                    break
        surplus = len(residents) + len(rows) - self._size
        if surplus <= 0:
            return
        if rows:
            # Many at a time: the beginning of a dictionary from which much was deleted is long in coming.
            self._rows.drop_oldest(surplus + self._size // 64)
            surplus = len(residents) + len(rows) - self._size
        if surplus > 0:
            idle = (resident for resident in self._residents.values() if not resident.users)
            for resident in tuple(islice(idle, surplus)):
                self.forget(resident)

    def _pack(self, resident: Resident) -> None:
        case_id = resident.header.case_id
        if not resident.is_idle:
            self._residents.move_to_end(case_id)
            return
        # Whoever asks for a case that is over gets it from the store: the room is for those that go on.
        over = resident.is_over
        still = None if over else resident.rest(self._arenas)
        if not over and still is None:
            self._residents.move_to_end(case_id)
            return
        resident.stale = True
        del self._residents[case_id]
        if still is not None:
            self._rows.add(still)

    def _arena(self, header: CaseHeader, compiled: Compiled) -> Arena:
        key = (header.spec_id, header.spec_version)
        found = self._arenas.get(key)
        if found is None:
            make = partial(self.fresh, compiled)
            fresh = Arena(make, spec_id=key[0], version=key[1], express=compiled.express, check=compiled.check)
            found = self._arenas.setdefault(key, fresh)
        return found

    def fresh(self, compiled: Compiled) -> Case:
        """Return a case of a specification in which nothing has happened yet."""
        return Case(compiled.program, compiled.kernels, limits=self._limits, check=compiled.check, retry=self._retry)

    def _load(self, case_id: str) -> Resident:
        stored = self.store.load(case_id)
        try:
            compiled = self.compiled(stored.header.spec_id, stored.header.spec_version)
            case = self._arena(stored.header, compiled).make()
            snapshot = None if stored.snapshot is None else decode_snapshot(stored.snapshot)
            check_whole(stored, snapshot)
            records = [record for batch in stored.batches for record in decode_batch(batch)[1]]
            case.replay(None if snapshot is None else snapshot["state"], records)
        except (JournalError, UnknownSpecification) as error:
            reason = str(error)
            self.store.quarantine(case_id, reason)
            message = f"case {case_id} is set aside: {reason}"
            raise QuarantinedCase(message) from error
        doubtful = {} if self._forgetful else dict.fromkeys(case.state.work)
        # Of what failed in an older history the store has no row: it gets one with the next commit.
        case.state.moved.update({each.number: None for each in case.state.items.values() if is_dead(case, each)})
        return Resident(
            case,
            stored.header,
            None if case.state.principal is not None else compiled.express,
            since_snapshot=len(records),
            doubtful=doubtful,
            shared=case.state.next_item - 1,
            worklets=open_worklets(case_id, case),
        )
