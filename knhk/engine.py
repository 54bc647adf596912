"""The synchronous driver: apply the command, persist its records in one transaction, only then dispatch.

`Engine` owns what the pure core must not: a store, a clock, ids and the handlers.
Memory is a cache of the store (`knhk._cache`); what a user does with one case is in `knhk.running`.
"""

from __future__ import annotations

import hashlib
import json
import random
from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import islice
from typing import Any, Self, TypeVar

from knhk._cache import HOT, CaseCache
from knhk._compiled import Compiled, Kernel, choose_kernel
from knhk._migration import Renaming
from knhk._pipeline import Outcome
from knhk._schema import schema_problems
from knhk.analysis.soundness import AT_REGISTRATION, judge
from knhk.errors import (
    CommandError,
    DataError,
    DirectoryError,
    HandlerError,
    IdempotencyConflict,
    KnhkError,
    SpecificationError,
    UnknownCase,
)
from knhk.expr import Dialect
from knhk.limits import Limits
from knhk.migration import CaseMigration, MigrationReport, migrate_cases
from knhk.people import Directory
from knhk.ports import CaseHeader, Chance, Clock, Durability, IdSource, ItemRow, Store, StoredSpecification
from knhk.registration import Registration
from knhk.running import RunningCase
from knhk.spec import Retry, Specification
from knhk.stores import open_store
from knhk.system import SystemClock, TimeOrderedIds
from knhk.work.attempt import ticks
from knhk.work.breaker import Breaker, BreakerChange, read_policy
from knhk.work.claims import LEASE, Claim, ExternalWork, Span
from knhk.work.correspondence import Correspondence, Delivered, Message
from knhk.work.dead_letters import DeadLetters
from knhk.work.delivery import Delivery
from knhk.work.failures import raise_first
from knhk.work.handlers import Handlers
from knhk.work.metrics import Metrics
from knhk.work.outbound import Outbound
from knhk.work.ownership import Ownership
from knhk.work.policy import read_retry, read_span
from knhk.work.rounds import Rounds
from knhk.work.runner import Runner, Sources
from knhk.work.schedules import Schedules
from knhk.work.services import Services
from knhk.work.spans import TracedRequests, Tracer, Tracing
from knhk.work.times import schedule_problems
from knhk.work.traced import case_maker, traced_store
from knhk.work.webhooks import Webhooks
from knhk.work.worklist import Worklist, who_is

_T = TypeVar("_T")
_H = TypeVar("_H", bound=Callable[..., Any])


class Engine:
    """
    Runs cases on a store.

    Args:
        target: a store's URL as `knhk.stores.open_store` takes it, such as ``"memory:"`` or the path of an SQLite file; or a store.
        durability: ``full``, ``normal`` or ``off``; what an acknowledged command survives.
        limits: what one case may do.
        retry: what follows when a handler raises whose task states no policy: a `knhk.spec.Retry`, or a mapping as a
            specification has it; None: its work fails at once.
        timeout: how long one attempt of a handler may take whose task states none, as ``"30s"`` or a timedelta; None: no limit.
        clock, ids, chance: for tests; what tells the time, names cases, and draws the waits between attempts.
        cache: how many cases stay in memory while nobody uses them.
        hot: how many of these stay ready for use; of the others those that are not over are packed, a few bytes beside their
            data, and unpacked when somebody asks for them.
        expressions: the language of predicates: ``"subset"``, or ``"full"`` for all of CEL (``pip install 'knhk[cel]'``).
        kernel: ``"reference"`` or ``"compiled"``; ``"auto"`` takes the compiled one where it was built.
        directory: who works here (`knhk.Organisation`, or your own); None: the names of people are taken as they are given.
        outbound: what webhooks and tasks that call a service may reach; None: whatever is public.
        instance: where several engines share the store: a name that no other has, or a `knhk.work.ownership.Ownership`, which
            its maker starts and stops; None: this engine does all automatic work.
        measured: whether the attempts of handlers are counted in `metrics` too; no case goes by express then.
        tracer: is told of spans (`knhk.telemetry.OpenTelemetryTracer`); no case goes by express then.

    Attributes:
        ownership: which automatic work is this engine's; None: all.
        webhooks: who is told of what happens (`knhk.work.webhooks.Webhooks`).
        external: the work of external tasks (`knhk.work.claims.ExternalWork`).
        dead_letters: work that has failed for good, and messages that did not arrive (`knhk.work.dead_letters.DeadLetters`).
        schedules: which cases are launched by themselves (`knhk.work.schedules.Schedules`).
        metrics: what is counted of the cases (`knhk.work.metrics.Metrics`).
    """

    def __init__(
        self,
        target: str | Store = "memory:",
        *,
        durability: str = "full",
        limits: Limits | None = None,
        retry: Retry | Mapping[str, Any] | None = None,
        timeout: str | timedelta | None = None,
        clock: Clock | None = None,
        ids: IdSource | None = None,
        chance: Chance | None = None,
        cache: int = 10_000,
        hot: int = HOT,
        expressions: Dialect = "subset",
        kernel: Kernel = "auto",
        outbound: Outbound | None = None,
        directory: Directory | None = None,
        instance: str | Ownership | None = None,
        tracer: Tracer | None = None,
        measured: bool = False,
    ) -> None:
        self._store: Store = open_store(target, durability=durability) if isinstance(target, str) else target
        self._clock: Clock = clock if clock is not None else SystemClock()
        self._ids: IdSource = ids if ids is not None else TimeOrderedIds()
        self._expressions = expressions
        self._joins = isinstance(instance, str)
        self.ownership = Ownership(self._store, instance, clock=clock) if isinstance(instance, str) else instance
        span = None if timeout is None else read_span(timeout, "timeout")
        policy = None if retry is None else read_retry(retry)
        draws: Chance = chance if chance is not None else random.Random()  # noqa: S311 - of waits, not of secrets
        self._outbound = outbound if outbound is not None else Outbound()
        self._tracing = None if tracer is None else Tracing(tracer, ticks(self._clock))
        requests = self._outbound if tracer is None else TracedRequests(self._outbound, tracer)
        services = Services(requests, self._clock, dialect=expressions)
        self._handlers = Handlers(ticks(self._clock), draws, services=services, timeout=span)
        self.metrics = Metrics(expressions, measured=measured)
        self._cache = CaseCache(
            self._store if self._tracing is None else traced_store(self._store, self._tracing),
            self._clock,
            limits=limits if limits is not None else Limits(),
            size=cache,
            hot=hot,
            dialect=expressions,
            kernel=choose_kernel(kernel),
            functions=self._handlers.plain,
            retry=policy,
            # An express tells nobody of the attempts that it makes.
            timed=measured
            or tracer is not None
            or span is not None
            or (policy is not None and policy.deadline is not None),
            directory=directory,
            ownership=self.ownership,
            metrics=self.metrics,
        )
        if self.ownership is not None:
            self.ownership.busy.append(self._cache.at_work)
        self._running = case_maker(self._cache, self._handlers, self._tracing)
        self._delivery = Delivery(self._store, requests, draw=draws.random, ownership=self.ownership, tracer=tracer)
        if tracer is not None:
            self._cache.outbox.carrier = tracer.carrier
        self.external = ExternalWork(self._cache, self._handlers)
        self._correspondence = Correspondence(self._cache)
        self.schedules = Schedules(self._cache, self._clock, self._new_header)
        self._rounds = Rounds(self._cache, self._running, self.schedules, self._delivery)
        self.webhooks = Webhooks(self._store, self._clock, self._ids, self._outbound, self._cache.outbox)
        self.dead_letters = DeadLetters(self._cache, self._handlers, self.webhooks)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def clock(self) -> Clock:
        """What tells this engine the time."""
        return self._clock

    @property
    def store(self) -> Store:
        """Where the cases are kept."""
        return self._store

    @property
    def directory(self) -> Directory | None:
        """Who works here, as far as this engine was told."""
        return None if self._cache.people is None else self._cache.people.directory.directory

    def close(self) -> None:
        """Give the store back; what was acknowledged is in it."""
        self._delivery.close()
        self._store.close()

    # --- specifications and handlers ----------------------------------------------------------------------------------

    def register(self, specification: Specification) -> Registration:
        """
        Register a specification; the same again is the same registration.

        Its soundness is looked at for 0.2 seconds at most; what is not sound is registered all the same.

        Raises:
            SpecificationError: it is not well-formed, or the schema of its data cannot be used; lists every problem.
            SpecificationConflict: this id and version are registered with other content.
            MissingExtra: it has a schema for its data, or a cron expression, and the library for that is not installed.
        """
        self._refuse_ill_formed(specification)
        key = (specification.id, specification.version)
        new = self._store.put_specification(
            StoredSpecification(
                spec_id=specification.id,
                version=specification.version,
                content_hash=specification.content_hash,
                text=specification.to_json(),
            )
        )
        # What runs is the registered text: a journal names tasks by number, and the same content may be written in another order.
        compiled = self._cache.compiled(*key)
        self.schedules.keep(specification.id)
        return Registration(
            spec_id=key[0],
            version=key[1],
            content_hash=specification.content_hash,
            new=new,
            soundness=judge(compiled.program, budget=AT_REGISTRATION),
        )

    def handler(self, name: str, *, concurrency: int | None = None) -> Callable[[_H], _H]:
        """
        Name a function as the handler of the tasks that ask for it: ``@engine.handler("charge")``.

        Args:
            name: under which tasks ask for it.
            concurrency: how many of it this engine runs at once, over all tasks and cases; None: no limit.
        """
        return self._handlers.register(name, concurrency=concurrency)

    @property
    def breakers(self) -> Mapping[str, Breaker]:
        """The circuit breakers, by the name of their dependency."""
        return self._handlers.admission.breakers

    def breaker(
        self,
        name: str,
        *,
        window: str | timedelta | None = None,
        rate: float | None = None,
        minimum_calls: int | None = None,
        open_for: str | timedelta | None = None,
        probes: int | None = None,
        on_change: Callable[[BreakerChange], object] | None = None,
    ) -> Breaker:
        """
        Say when the circuit breaker of a dependency opens and closes; it begins closed.

        A breaker that a task names and nobody described has the defaults of `knhk.work.breaker.BreakerPolicy`.

        Args:
            name: as tasks name it: ``"breaker": "payments"``.
            window: how far back calls count.
            rate: the part of the calls that must have failed for it to open.
            minimum_calls: how many calls the window must hold before their rate says anything.
            open_for: how long nothing goes through.
            probes: how many calls go through while it is half-open, over all threads.
            on_change: is told of each change of its state.

        Raises:
            ValueError: a figure is out of its bounds.
        """
        policy = read_policy(window=window, rate=rate, minimum_calls=minimum_calls, open_for=open_for, probes=probes)
        return self._handlers.admission.breakers.describe(name, policy, on_change)

    # --- cases --------------------------------------------------------------------------------------------------------

    def create_case(
        self,
        spec_id: str,
        data: Mapping[str, Any] | None = None,
        *,
        version: str | None = None,
        idempotency_key: str | None = None,
        start: bool = False,
    ) -> RunningCase:
        """
        Create a case of a registered specification (the latest version, if none is named).

        With an idempotency key, the same request again returns the same case.

        Args:
            spec_id, version: of the specification.
            data: the case's first data, a JSON object; None: an empty one.
            idempotency_key: names the request.
            start: whether to start it too, in the same commit.

        Raises:
            UnknownSpecification: it is not registered.
            DataError: the data is not JSON, or not as the specification's schema says; with `start`, or what happens by itself
                fails. There is no case then.
            IdempotencyConflict: the key was used with another request.
        """
        stored = self._store.specification(spec_id, version)
        plain = self._cache.plain(data, "the case data")
        digest = "" if idempotency_key is None else _digest(spec_id, version, plain)
        if idempotency_key is not None:
            found = self._known_request(idempotency_key, digest)
            if found is not None:
                return self._running(found)
        header = self._new_header(stored)
        named = None if idempotency_key is None else (idempotency_key, digest)
        try:
            if start:
                self._cache.launch(header, plain, idempotency=named, by_command=True)
            else:
                self._cache.create(header, plain, named)
        except IdempotencyConflict:
            # Somebody with the same key was faster; if the request is the same, so is the case.
            found = self._known_request(idempotency_key or "", digest)
            if found is None:
                raise
            return self._running(found)
        return self._running(header.case_id)

    def run_case(
        self,
        spec_id: str,
        data: Mapping[str, Any] | None = None,
        *,
        version: str | None = None,
        idempotency_key: str | None = None,
    ) -> RunningCase:
        """
        Create a case and run it, as `create_case` and `RunningCase.run`, with one commit fewer.

        With an idempotency key, the same request again returns the same case, and goes on with it.
        A case that cannot even be started is not created.

        Raises:
            UnknownSpecification, DataError, IdempotencyConflict: as `create_case` with ``start=True``.
            HandlerError: as `RunningCase.run`.
        """
        if idempotency_key is None and self.ownership is None:
            stored = self._store.specification(spec_id, version)
            plain = self._cache.plain(data, "the case data")
            resident = self._cache.embark(self._new_header(stored, version=0), plain)
            try:
                return self._running(resident.header.case_id)._run(resident)
            finally:
                if not resident.header.version:
                    # Nothing came of it, so nobody has heard of it.
                    self._cache.forget(resident)
        return self.create_case(spec_id, data, version=version, idempotency_key=idempotency_key, start=True).run()

    def create_many(
        self, spec_id: str, rows: Iterable[Mapping[str, Any] | None], *, version: str | None = None, together: int = 500
    ) -> list[RunningCase]:
        """
        Create a case for each row of data, many in one commit.

        Args:
            spec_id, version: as in `create_case`.
            rows: the first data of each case.
            together: how many cases share a commit, which creates all of them or, where one is refused, none.

        Returns:
            The cases, in the order of the rows.

        Raises:
            UnknownSpecification, DataError: as `create_case`; the cases of the commits before are there.
        """
        stored = self._store.specification(spec_id, version)
        cases: list[RunningCase] = []
        remaining = iter(rows)
        while some := list(islice(remaining, max(together, 1))):
            created = [(self._new_header(stored), self._cache.plain(data, "the case data")) for data in some]
            self._cache.create_many(created)
            cases += [self._running(header.case_id) for header, _ in created]
        return cases

    def pipeline(self, commands: Iterable[Callable[[], _T]], *, together: int = 64) -> list[Outcome[_T]]:
        """
        Do commands on many cases, in their order, and let what they did share the waits of the store.

        ``engine.pipeline([partial(case.complete_task, "approve") for case in cases])`` is as many commands as by themselves,
        each with an outcome of its own, but waits for the disk, or for the server, once for `together` of them.
        When it returns, what every command without an error did is durable.

        Args:
            commands: each gives one command to one case (`RunningCase`, `WorkItem`) and returns its result; the commands on
                one case are done in their order.
                Their cases are locked until what they did is stored: a command must not wait for another thread.
            together: how many commands share a wait at most.

        Returns:
            Of each command, in their order, what became of it: `knhk.Outcome.result` returns its result, or raises its error.
        """
        outcomes: list[Outcome[_T]] = []
        remaining = iter(commands)
        while some := list(islice(remaining, max(together, 1))):
            outcomes += self._cache.pipeline(some)
        return outcomes

    def run_many(self, cases: Iterable[RunningCase], *, threads: int | None = None) -> int:
        """
        Run many cases, as `RunningCase.run` does one; return how many there were.

        Args:
            cases: of this engine.
            threads: how many cases at a time; None: 64 where commits wait for a disk and so can share the wait, else 1.

        Raises:
            HandlerError, CommandError: why the first case that failed could not go on, after all the others were run.
        """
        if threads is None:
            threads = 64 if self._store.durability is Durability.FULL else 1
        failures: list[KnhkError] = []

        def run(case: RunningCase) -> None:
            try:
                case.run()
            except (CommandError, DataError, HandlerError, DirectoryError) as error:
                failures.append(error)

        if threads <= 1:
            count = sum(1 for _ in map(run, cases))
        else:
            with ThreadPoolExecutor(threads, thread_name_prefix="knhk-run") as pool:
                count = sum(1 for _ in pool.map(run, cases))
        raise_first(failures)
        return count

    def migrate(
        self,
        spec_id: str,
        *,
        to: str | Specification,
        cases: Iterable[str] | None = None,
        tasks: Mapping[str, str] | None = None,
        conditions: Mapping[str, str] | None = None,
        nets: Mapping[str, str] | None = None,
        dry_run: bool = False,
        progress: Callable[[CaseMigration], None] | None = None,
    ) -> MigrationReport:
        """
        Move open cases to another registered version of their specification; those that have no place there stay.

        Each case moves by itself, all or nothing, while others work on the rest; a repeated call goes on where one was cut off.

        Args:
            spec_id: which specification.
            to: the version to move to; a specification is registered first, but for a dry run.
            cases: the ids of the cases; None: all that are open and have another version.
            tasks, conditions, nets: what is called otherwise there: old name to new (`knhk._migration.Renaming`).
            dry_run: change nothing, and tell what would become of each.
            progress: called with each case's fate.

        Raises:
            UnknownSpecification, UnknownCase: there is no such version, or no such case.
            CommandError: a case, or the new version, is of another specification.
            SpecificationError, SpecificationConflict: as `register`.
        """
        target = (
            self._cache.compiled(spec_id, to) if isinstance(to, str) else self._target(spec_id, to, dry_run=dry_run)
        )
        self._cache.land()
        headers = self.cases(spec_id=spec_id) if cases is None else [self._header_of(each, spec_id) for each in cases]
        renaming = Renaming(tasks=tasks or {}, conditions=conditions or {}, nets=nets or {})
        fates = migrate_cases(self._cache, headers, target, renaming, dry_run=dry_run, progress=progress)
        version = target.program.specification.version
        return MigrationReport(spec_id=spec_id, target=version, dry_run=dry_run, cases=tuple(fates))

    def case(self, case_id: str) -> RunningCase:
        """Return a case by its id; raises UnknownCase."""
        try:
            self._store.header(case_id)
        except UnknownCase:
            # A handler may ask for its own case while that is created and run at once.
            self._cache.land()
            self._store.header(case_id)
        return self._running(case_id)

    def cases(self, *, spec_id: str | None = None, state: str | None = None, after: str = "") -> Iterator[CaseHeader]:
        """List the cases by ascending id, from behind `after`, a page at a time."""
        self._cache.land()
        while page := self._store.cases(spec_id=spec_id, state=state, after=after):
            yield from page
            after = page[-1].case_id

    def work_items(self, *, state: str | None = None, by: str | None = None) -> Iterator[ItemRow]:
        """List the open work items of people and external workers over all cases, and of handlers those that failed for good."""
        self._cache.land()
        after = ("", 0)
        while page := self._store.items(state=state, by=by, after=after):
            yield from page
            after = (page[-1].case_id, page[-1].number)

    def worklist(self, participant: str, *, roles: Iterable[str] | None = None) -> Worklist:
        """
        Return the work of a participant: what is offered to him, and what is allocated to, started or suspended by him.

        Args:
            participant: his id.
            roles: what he is, where no directory says so.

        Raises:
            Forbidden: the directory does not know him, or not these roles of his.
            DirectoryError: the directory failed.
        """
        people = self._cache.people
        found = who_is(None if people is None else people.directory, participant, roles)
        return Worklist(self._store, found, self._cache.land)

    def claim(
        self,
        topics: str | Iterable[str],
        *,
        worker: str,
        max: int = 1,  # noqa: A002 - the word that users know
        lease: Span | None = LEASE,
        wait: Span | None = None,
    ) -> list[Claim]:
        """Take offered external work under a lease, as `external.claim` of `knhk.work.claims.ExternalWork`."""
        return self.external.claim(topics, worker=worker, max=max, lease=lease, wait=wait)

    def run_pending(self) -> int:
        """
        Do the automatic work that waits in any case, as after a restart; returns how many cases were driven.

        Raises:
            HandlerError, CommandError: why the first case that failed could not go on, after all the others were driven.
        """
        return self._rounds.run_pending()

    def pending(self) -> Iterator[str]:
        """List the ids of the cases in which automatic work waits, as far as it is this engine's, a page at a time."""
        return self._rounds.pending()

    def serve(self, *, workers: int = 8, interval: float = 0.5) -> Runner:
        """
        Return a runner that does what is due and what waits in the background: ``with engine.serve(workers=4): ...``.

        An engine that was given the name of an instance is one of those on its store while the runner runs.

        Args:
            workers: how many handlers run at once, of different cases or of one.
            interval: seconds between looks at the store for what other processes did; of this one it hears at once.

        Raises:
            ValueError: there must be at least one worker.
        """
        return Runner(self._sources(), workers=workers, interval=interval)

    def tick(self, now: int | None = None) -> int:
        """
        Do what is due, in deadline order over all cases; returns how much that was.

        Timers run, cases of schedules and worklets are launched, results of worklets taken, failed work that is tried again
        becomes work for `run_pending`, and external work whose claim has ended is offered again.

        Raises:
            DataError, CommandError, HandlerError: why the first case that failed could not go on, after all the others' timers
                ran.
        """
        return self._rounds.tick(self._clock.now() if now is None else now)

    def deliver(self, now: int | None = None) -> int:
        """
        Send the messages of `webhooks` that are due; returns how many arrived.

        What does not arrive is due again after its wait, or dead after its last attempt, and raises nothing here.

        Raises:
            StoreError: the store could not say, or keep, what became of a message.
        """
        self._cache.outbox.refresh(self._clock.now())
        return self._delivery.deliver(self._clock.now if now is None else lambda: now)

    def send_event(
        self,
        name: str,
        data: Mapping[str, Any] | None = None,
        *,
        correlate: Mapping[str, Any] | None = None,
        spec_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> Delivered:
        """
        Deliver an event to the running cases that it is meant for.

        Those are the cases that listen to an event of this name, whose trigger's `correlate` holds, and whose data have what
        the argument `correlate` says.
        A trigger that says ``data.x == event.y`` finds its cases by an index; for any other, all running cases of its
        specification are looked at.

        Args:
            name, data: the event.
            correlate: members that the data of a case must have, with these values; None: any data.
            spec_id: the specification whose cases are meant; None: all.
            idempotency_key: the same event again, with the same key, is kept once by each case.

        Returns:
            Which cases kept it, and which could not be asked.

        Raises:
            DataError: the data is not JSON.
            IdempotencyConflict: the key was used with another event.
        """
        self._cache.land()
        event = Message(name, self._cache.plain(data, "the event's data"), dict(correlate or {}), spec_id)
        return self._correspondence.deliver(event, idempotency_key)

    def evict(self, case_id: str | None = None) -> None:
        """Forget one case, or all, but for those in use: they are loaded again when somebody asks."""
        self._cache.evict(case_id)

    # --- inside -------------------------------------------------------------------------------------------------------

    def _sources(self, loop: AbstractEventLoop | None = None) -> Sources:
        def runnable(after: str) -> Sequence[str]:
            self._cache.land()
            return self._store.runnable(after)

        return Sources(
            round=self._rounds.whole,
            upkeep=self._rounds.upkeep,
            runnable=runnable,
            case=self._running,
            store=self._store,
            clock=self._clock,
            handlers=self._handlers,
            listeners=self._cache.listeners,
            wakers=self._cache.wakers,
            loop=loop,
            sharing=self._cache.sharing,
            joins=self._joins,
        )

    def _new_header(self, specification: StoredSpecification, version: int = 1) -> CaseHeader:
        """Return a new case as its first commit makes it."""
        case_id = self._ids.next_id()
        return CaseHeader(case_id, specification.spec_id, specification.version, "created", None, False, version)

    def _refuse_ill_formed(self, specification: Specification) -> None:
        found = [*specification.problems(dialect=self._expressions)]
        if specification.data is not None:
            found += schema_problems(specification.data)
        if not found:
            found += schedule_problems(specification)
        if found:
            raise SpecificationError(found)

    def _target(self, spec_id: str, specification: Specification, *, dry_run: bool) -> Compiled:
        """Return the version to migrate to, registered unless nothing is to change."""
        if specification.id != spec_id:
            message = f"the new version is of specification {specification.id!r}, not {spec_id!r}; nothing was migrated"
            raise CommandError(message)
        registered = {(each.spec_id, each.version) for each in self._store.specifications()}
        if not dry_run or (spec_id, specification.version) in registered:
            # One that is registered with other content is refused here, in a dry run too.
            self.register(specification)
            return self._cache.compiled(spec_id, specification.version)
        self._refuse_ill_formed(specification)
        return self._cache.compile(specification)

    def _header_of(self, case_id: str, spec_id: str) -> CaseHeader:
        header = self._store.header(case_id)
        if header.spec_id != spec_id:
            message = f"case {case_id} is of specification {header.spec_id!r}, not {spec_id!r}; nothing was migrated"
            raise CommandError(message)
        return header

    def _known_request(self, key: str, digest: str) -> str | None:
        found = self._store.find_idempotent(key)
        if found is None:
            return None
        case_id, stored = found
        if stored != digest:
            message = f"idempotency key {key!r} was used with another request"
            raise IdempotencyConflict(message)
        return case_id


def _digest(spec_id: str, version: str | None, data: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps([spec_id, version, data], sort_keys=True).encode()).hexdigest()
