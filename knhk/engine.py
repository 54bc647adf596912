"""The synchronous driver: apply the command, persist its records in one transaction, only then dispatch.

`Engine` owns what the pure core must not: a store, a clock, ids, locks and the handlers.
Cases are loaded when somebody asks for them and forgotten when others need the room: memory is a cache of the store.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Self, TypeVar

import attrs

from knhk._case_state import Phase
from knhk._kernel import Net
from knhk._lower import Kind, Program, lower
from knhk.case import Case, Limits
from knhk.errors import (
    CommandError,
    ConcurrentUpdate,
    DataError,
    HandlerError,
    IdempotencyConflict,
    JournalError,
    KnhkError,
    Problem,
    QuarantinedCase,
    SpecificationError,
    UnknownSpecification,
)
from knhk.journal import decode_batch, decode_snapshot, encode_batch, encode_snapshot, plain_data
from knhk.ports import CaseHeader, Clock, Commit, IdSource, ItemRow, Store, StoredCase, StoredSpecification
from knhk.spec import Specification
from knhk.stores import open_store
from knhk.workitem import WorkItem

SNAPSHOT_EVERY = 256
"""Records after which a case's next commit carries a snapshot, which bounds replay."""

Handler = Callable[["Work"], "Mapping[str, Any] | None"]
_T = TypeVar("_T")
_Handler = TypeVar("_Handler", bound=Callable[..., Any])


class SystemClock:
    """The machine's clock."""

    def now(self) -> int:
        """Return milliseconds since the epoch, UTC."""
        return time.time_ns() // 1_000_000


class TimeOrderedIds:
    """Ids that ascend with time (48 bits of milliseconds, 64 random bits, in hexadecimal), so that stores stay compact."""

    def next_id(self) -> str:
        """Return a new id."""
        return f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(8)}"


@attrs.frozen(kw_only=True)
class Registration:
    """What registering a specification gave: its name and content hash, and whether it was new."""

    spec_id: str
    version: str
    content_hash: str
    new: bool


@attrs.frozen(kw_only=True)
class Work:
    """
    What a handler is given.

    Args:
        case_id, task: where the work comes from; `task` is its path.
        idempotency_key: the same for every attempt at this piece of work, and for no other.
        attempt: 1 for the first; more when an earlier attempt failed or may have been cut off.
        data: a copy of the case's data.
        item, index: the element and position of a multiple instance, else None.
    """

    case_id: str
    task: str
    idempotency_key: str
    attempt: int
    data: dict[str, Any]
    item: Any = None
    index: int | None = None


@attrs.frozen
class _Compiled:
    program: Program
    kernels: tuple[Net, ...]


@attrs.define(eq=False)
class _Loaded:
    """
    A case in memory; its lock is held for every command.

    Args:
        recovered: items that an earlier process may have begun.
        since_snapshot: records since the last snapshot.
        stale: forgotten: the store knows better, whoever waited for the lock must load again.
        users: who holds it or waits for it; it stays in memory until they are done.
    """

    case: Case
    header: CaseHeader
    recovered: set[int] = attrs.field(factory=set)
    lock: threading.RLock = attrs.field(factory=threading.RLock)
    since_snapshot: int = 0
    stale: bool = False
    users: int = 0


class Engine:
    """
    Runs cases on a store.

    Args:
        target: ``"memory:"``, a path of an SQLite file, ``"sqlite:///path"``, or a store.
        durability: ``full``, ``normal`` or ``off``; what an acknowledged command survives.
        limits: what one case may do.
        clock, ids: for tests.
        cache: how many cases stay in memory.
    """

    def __init__(
        self,
        target: str | Store = "memory:",
        *,
        durability: str = "full",
        limits: Limits | None = None,
        clock: Clock | None = None,
        ids: IdSource | None = None,
        cache: int = 10_000,
    ) -> None:
        self._store: Store = open_store(target, durability=durability) if isinstance(target, str) else target
        self._limits = limits if limits is not None else Limits()
        self._clock: Clock = clock if clock is not None else SystemClock()
        self._ids: IdSource = ids if ids is not None else TimeOrderedIds()
        self._cache = cache
        self._loaded: OrderedDict[str, _Loaded] = OrderedDict()
        self._compiled: dict[tuple[str, str], _Compiled] = {}
        self._handlers: dict[str, Handler] = {}
        self._lock = threading.RLock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the store back; what was acknowledged is in it."""
        self._store.close()

    # --- specifications and handlers ----------------------------------------------------------------------------------

    def register(self, specification: Specification) -> Registration:
        """
        Register a specification; the same again is the same registration.

        Raises:
            SpecificationError: it is not well-formed, or asks for what this version cannot do; lists every problem.
            SpecificationConflict: this id and version are registered with other content.
        """
        found = [*specification.problems(), *_beyond(specification)]
        if found:
            raise SpecificationError(found)
        key = (specification.id, specification.version)
        stored = {(each.spec_id, each.version) for each in self._store.specifications()}
        self._store.put_specification(
            StoredSpecification(
                spec_id=specification.id,
                version=specification.version,
                content_hash=specification.content_hash,
                text=specification.to_json(),
            )
        )
        # What runs is the registered text: a journal names tasks by number, and the same content may be written in another order.
        self._program(*key)
        return Registration(
            spec_id=key[0], version=key[1], content_hash=specification.content_hash, new=key not in stored
        )

    def handler(self, name: str) -> Callable[[_Handler], _Handler]:
        """Name a function as the handler of the tasks that ask for it: ``@engine.handler("charge")``."""

        def register(function: _Handler) -> _Handler:
            self._handlers[name] = function
            return function

        return register

    # --- cases --------------------------------------------------------------------------------------------------------

    def create_case(
        self,
        spec_id: str,
        data: Mapping[str, Any] | None = None,
        *,
        version: str | None = None,
        idempotency_key: str | None = None,
    ) -> RunningCase:
        """
        Create a case of a registered specification (the latest version, if none is named).

        With an idempotency key, the same request again returns the same case.

        Raises:
            UnknownSpecification: it is not registered.
            DataError: the data is not JSON.
            IdempotencyConflict: the key was used with another request.
        """
        stored = self._store.specification(spec_id, version)
        plain = plain_data(data, "the case data")
        digest = "" if idempotency_key is None else _digest(spec_id, version, plain)
        if idempotency_key is not None:
            found = self._known_request(idempotency_key, digest)
            if found is not None:
                return RunningCase(self, found)
        compiled = self._program(stored.spec_id, stored.version)
        case = Case(compiled.program, compiled.kernels, limits=self._limits)
        case.create(plain)
        case_id = self._ids.next_id()
        header = CaseHeader(case_id=case_id, spec_id=stored.spec_id, spec_version=stored.version, state="created")
        loaded = _Loaded(case, header)
        try:
            self._commit(loaded, idempotency=None if idempotency_key is None else (idempotency_key, digest))
        except IdempotencyConflict:
            # Somebody with the same key was faster; if the request is the same, so is the case.
            found = self._known_request(idempotency_key or "", digest)
            if found is None:
                raise
            return RunningCase(self, found)
        with self._lock:
            self._loaded[case_id] = loaded
            self._make_room()
        return RunningCase(self, case_id)

    def case(self, case_id: str) -> RunningCase:
        """Return a case by its id; raises UnknownCase."""
        self._store.header(case_id)
        return RunningCase(self, case_id)

    def cases(self, *, spec_id: str | None = None, state: str | None = None) -> Iterator[CaseHeader]:
        """List the cases by ascending id, a page at a time."""
        after = ""
        while page := self._store.cases(spec_id=spec_id, state=state, after=after):
            yield from page
            after = page[-1].case_id

    def work_items(self, *, state: str | None = None, by: str | None = None) -> Iterator[ItemRow]:
        """List the open work items of people and external workers over all cases."""
        after = ("", 0)
        while page := self._store.items(state=state, by=by, after=after):
            yield from page
            after = (page[-1].case_id, page[-1].number)

    def run_pending(self) -> int:
        """
        Do the automatic work that waits in any case, as after a restart; returns how many cases were driven.

        Raises:
            HandlerError, CommandError: why the first case that failed could not go on, after all the others were driven.
        """
        driven, after = 0, ""
        failures: list[KnhkError] = []
        while page := self._store.runnable(after):
            for case_id in page:
                try:
                    RunningCase(self, case_id).run()
                except (QuarantinedCase, ConcurrentUpdate):
                    # Set aside with its reason, or moved by another engine: both are in the store, and the rest goes on.
                    continue
                except (CommandError, HandlerError) as error:
                    failures.append(error)
                driven += 1
            after = page[-1]
        _raise_first(failures)
        return driven

    def tick(self, now: int | None = None) -> int:
        """
        Run the timers that are due, in deadline order over all cases; returns how many ran.

        Raises:
            DataError, CommandError: why the first case that failed could not go on, after all the others' timers ran.
        """
        at = self._clock.now() if now is None else now
        ran = 0
        failures: list[KnhkError] = []
        passed_over: set[str] = set()
        while page := [each for each in self._store.due(at, 100 + len(passed_over)) if each not in passed_over]:
            for case_id in page:
                try:
                    count = self._advance(case_id, at)
                except (QuarantinedCase, ConcurrentUpdate):
                    # Set aside with its reason, or moved by another engine: both are in the store, and the rest goes on.
                    count = 0
                except (CommandError, DataError) as error:
                    failures.append(error)
                    count = 0
                ran += count
                if not count:
                    passed_over.add(case_id)
        _raise_first(failures)
        return ran

    def evict(self, case_id: str | None = None) -> None:
        """Forget one case, or all, but for those in use: they are loaded again when somebody asks."""
        with self._lock:
            for each in list(self._loaded) if case_id is None else [case_id]:
                loaded = self._loaded.get(each)
                if loaded is not None and not loaded.users:
                    self._forget(each, loaded)

    # --- inside -------------------------------------------------------------------------------------------------------

    def _handler(self, name: str) -> Handler:
        handler = self._handlers.get(name)
        if handler is None:
            message = f"no handler {name!r} is registered"
            raise LookupError(message)
        return handler

    def _forget(self, case_id: str, loaded: _Loaded) -> None:
        with self._lock:
            loaded.stale = True
            if self._loaded.get(case_id) is loaded:
                del self._loaded[case_id]

    def _advance(self, case_id: str, at: int) -> int:
        with self._hold(case_id) as loaded:
            try:
                return loaded.case.advance(at=at)
            finally:
                # Timers that ran before one that could not have happened: they are kept.
                self._commit(loaded)

    def _known_request(self, key: str, digest: str) -> str | None:
        found = self._store.find_idempotent(key)
        if found is None:
            return None
        case_id, stored = found
        if stored != digest:
            message = f"idempotency key {key!r} was used with another request"
            raise IdempotencyConflict(message)
        return case_id

    def _program(self, spec_id: str, version: str) -> _Compiled:
        with self._lock:
            compiled = self._compiled.get((spec_id, version))
            if compiled is None:
                stored = self._store.specification(spec_id, version)
                compiled = self._compiled[spec_id, version] = _compile(Specification.from_json(stored.text))
            return compiled

    @contextlib.contextmanager
    def _hold(self, case_id: str) -> Iterator[_Loaded]:
        """Lock the case, loading it first where it is not in memory; while it is held it stays there."""
        while True:
            loaded = self._in_memory(case_id)
            try:
                with loaded.lock:
                    # A failed commit may have made it stale while we waited: then what we hold is not what is so.
                    if not loaded.stale:
                        yield loaded
                        return
            finally:
                with self._lock:
                    loaded.users -= 1
                    self._make_room()

    def _in_memory(self, case_id: str) -> _Loaded:
        """Return the case, counted as in use by one more."""
        with self._lock:
            loaded = self._loaded.get(case_id)
            if loaded is not None:
                self._loaded.move_to_end(case_id)
                loaded.users += 1
                return loaded
        fresh = self._load(case_id)
        with self._lock:
            loaded = self._loaded.setdefault(case_id, fresh)
            loaded.users += 1
            return loaded

    def _make_room(self) -> None:
        """Forget the cases that were used longest ago, beyond what the cache may hold; the caller has the lock."""
        if len(self._loaded) <= self._cache:
            return
        for case_id, loaded in list(self._loaded.items()):
            if len(self._loaded) <= self._cache:
                return
            if not loaded.users:
                self._forget(case_id, loaded)

    def _load(self, case_id: str) -> _Loaded:
        stored = self._store.load(case_id)
        try:
            compiled = self._program(stored.header.spec_id, stored.header.spec_version)
            case = Case(compiled.program, compiled.kernels, limits=self._limits)
            snapshot = None if stored.snapshot is None else decode_snapshot(stored.snapshot)
            _check_whole(stored, snapshot)
            records = [record for batch in stored.batches for record in decode_batch(batch)[1]]
            case.replay(None if snapshot is None else snapshot["state"], records)
        except (JournalError, UnknownSpecification) as error:
            reason = str(error)
            self._store.quarantine(case_id, reason)
            message = f"case {case_id} is set aside: {reason}"
            raise QuarantinedCase(message) from error
        return _Loaded(case, stored.header, set(case.state.work), since_snapshot=len(records))

    def _commit(self, loaded: _Loaded, *, idempotency: tuple[str, str] | None = None) -> None:
        """Persist what the case's last commands wrote; if that fails, forget the case: the store is what is so."""
        case = loaded.case
        records = case.take_records()
        if not records:
            return
        due = case.next_due()
        loaded.since_snapshot += len(records)
        snapshot = None
        if loaded.since_snapshot >= SNAPSHOT_EVERY:
            snapshot = encode_snapshot({"version": loaded.header.version + 1, "state": case.snapshot()})
            loaded.since_snapshot = 0
        header = attrs.evolve(
            loaded.header,
            state=case.state.phase.value,
            due=None if due is None or case.state.phase is not Phase.RUNNING else due[0],
            runnable=bool(case.state.work) and case.state.phase is Phase.RUNNING,
            version=loaded.header.version + 1,
        )
        rows, closed = _worklist(header.case_id, case)
        commit = Commit(
            header=header,
            expected=loaded.header.version,
            batch=encode_batch(self._clock.now(), records),
            snapshot=snapshot,
            items=tuple(rows),
            closed_items=tuple(closed),
            idempotency=idempotency,
        )
        try:
            self._store.commit([commit])
        except BaseException:
            self._forget(header.case_id, loaded)
            raise
        loaded.header = header


class RunningCase:
    """
    One case, as its user sees it: commands, and a look at its state.

    It is a name, not the case itself: any number of them may stand for the same case, in any thread.
    """

    def __init__(self, engine: Engine, case_id: str) -> None:
        self._engine = engine
        self.id = case_id

    def __repr__(self) -> str:
        return f"<case {self.id}>"

    # --- looking ------------------------------------------------------------------------------------------------------

    @property
    def state(self) -> str:
        """created, running, suspended, completed, cancelled, failed or deadlocked."""
        return self._look(lambda case: case.state.phase.value)

    @property
    def data(self) -> dict[str, Any]:
        """A copy of the case's data."""
        return self._look(lambda case: plain_data(case.state.data, "the case data"))

    @property
    def enabled(self) -> list[str]:
        """The paths of the tasks that are offered for starting."""
        return self._look(lambda case: case.enabled())

    @property
    def running(self) -> list[str]:
        """The paths of the started tasks and instances."""
        return self._look(lambda case: case.running())

    @property
    def problems(self) -> list[str]:
        """What needs a person's eye, such as an OR-join that could not be decided within its budget."""
        return self._look(lambda case: case.problems())

    # --- commands -----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Put the first token into the root net, and let everything happen that happens by itself."""
        self._do(lambda case, at: case.start(at=at))

    def run(self) -> RunningCase:
        """
        Start the case if needed, then do its automatic work until it waits or ends.

        Each handler's result is committed before the next handler starts, except that results of replayable tasks may
        share the commit of what follows.

        Raises:
            HandlerError: a handler raised; its item has failed, the other work was done first.
        """
        failures: list[KnhkError] = []
        with self._engine._hold(self.id) as loaded:
            if loaded.case.state.phase is Phase.CREATED:
                loaded.case.start(at=self._engine._clock.now())
            while (item := self._next_work(loaded)) is not None:
                failure = self._perform(loaded, item)
                if failure is not None:
                    failures.append(failure)
            self._engine._commit(loaded)
        _raise_first(failures)
        return self

    def cancel(self) -> None:
        """Remove everything and end the case as cancelled."""
        self._do(lambda case, at: case.cancel(at=at))

    def suspend(self) -> None:
        """Hold the case until `resume`."""
        self._do(lambda case, at: case.suspend(at=at))

    def resume(self) -> None:
        """Go on after `suspend`."""
        self._do(lambda case, at: case.resume(at=at))

    def send_event(self, name: str, data: Mapping[str, Any] | None = None) -> int:
        """Deliver an event; returns how many running nets kept it."""
        plain = plain_data(data, "the event's data")
        return self._do(lambda case, at: case.send_event(name, plain, at=at))

    def start_task(self, path: str, *, by: str = "") -> None:
        """Start an offered task."""
        self._do(lambda case, at: case.start_task(path, at=at, by=by))

    def complete_task(self, path: str, output: Mapping[str, Any] | None = None, *, by: str = "") -> None:
        """Complete a started task or instance (an offered one is started first)."""
        plain = plain_data(output, "the output")
        self._do(lambda case, at: case.complete_task(path, plain, at=at, by=by))

    def cancel_task(self, path: str) -> None:
        """Abort a running task, or withdraw an enabled or waiting one."""
        self._do(lambda case, at: case.cancel_task(path, at=at))

    def add_instance(self, path: str, element: Any = None) -> None:
        """Start one more instance of a running dynamic multiple-instance task."""
        self._do(lambda case, at: case.add_instance(path, element, at=at))

    def close_instances(self, path: str) -> None:
        """Allow no further instances of a running dynamic multiple-instance task."""
        self._do(lambda case, at: case.close_instances(path, at=at))

    def complete_instances(self, path: str) -> None:
        """Force a multiple-instance task to complete."""
        self._do(lambda case, at: case.complete_instances(path, at=at))

    def retry_failed(self) -> int:
        """Give every failed item another attempt (made by the next `run`); returns how many there were."""

        def retry(case: Case, at: int) -> int:
            failed = [item.number for item in case.state.items.values() if item.state.value == "failed"]
            for number in failed:
                case.change_item(number, "retry", at=at)
            return len(failed)

        return self._do(retry)

    # --- inside -------------------------------------------------------------------------------------------------------

    def _look(self, question: Callable[[Case], _T]) -> _T:
        with self._engine._hold(self.id) as loaded:
            return question(loaded.case)

    def _do(self, command: Callable[[Case, int], _T]) -> _T:
        engine = self._engine
        with engine._hold(self.id) as loaded:
            try:
                answer = command(loaded.case, engine._clock.now())
            except CommandError:
                if engine._store.header(self.id).version == loaded.header.version:
                    raise
                # Somebody else moved the case in the store: what was refused may be right there.
                engine._forget(self.id, loaded)
            else:
                engine._commit(loaded)
                return answer
        with engine._hold(self.id) as loaded:
            answer = command(loaded.case, engine._clock.now())
            engine._commit(loaded)
            return answer

    def _check_current(self, loaded: _Loaded) -> None:
        """Refuse to go on with a case that a command inside its handler could not commit."""
        if loaded.stale:
            message = f"case {self.id}: a command inside the handler failed in the store; run the case again"
            raise ConcurrentUpdate(message)

    def _next_work(self, loaded: _Loaded) -> WorkItem | None:
        if loaded.case.state.phase is not Phase.RUNNING:
            return None
        number = next(iter(loaded.case.state.work), None)
        return None if number is None else loaded.case.state.items[number]

    def _perform(self, loaded: _Loaded, item: WorkItem) -> HandlerError | None:
        """Run one handler and record what came of it; the caller holds the case."""
        engine, case = self._engine, loaded.case
        task = case.plan(item).task
        name = task.handler or ""
        path = case.path(item)
        if item.number in loaded.recovered:
            loaded.recovered.discard(item.number)
            case.begin_attempt(item.number, at=engine._clock.now())
        if not task.replayable:
            engine._commit(loaded)
        work = Work(
            case_id=self.id,
            task=path,
            idempotency_key=f"{self.id}:{item.number}",
            attempt=item.attempt + 1,
            data=plain_data(case.state.data, "the case data"),
            item=case.state.element(item),
            index=item.instance - 1 if item.instance else None,
        )
        try:
            output = plain_data(engine._handler(name)(work), f"the result of handler {name!r}")
            self._check_current(loaded)
            if item.number in case.state.items:
                case.complete_task(path, output, at=engine._clock.now())
        except Exception as error:  # noqa: BLE001 - whatever user code raises becomes the item's failure and is raised below
            self._check_current(loaded)
            # A handler may have cancelled its own work: then there is no item any more that could fail.
            if item.number in case.state.items:
                case.change_item(item.number, "fail", at=engine._clock.now())
                engine._commit(loaded)
            failure = HandlerError(f"{path}: handler {name!r} failed: {error}")
            failure.__cause__ = error
            return failure
        if not task.replayable:
            engine._commit(loaded)
        return None


def _compile(specification: Specification) -> _Compiled:
    program = lower(specification)
    return _Compiled(program, tuple(Net(each.tables) for each in program.nets))


def _beyond(specification: Specification) -> Sequence[Problem]:
    """What a well-formed specification may ask for and this version refuses rather than ignores."""
    found = []
    if specification.data is not None:
        found.append(Problem("data", "case data is not checked against a schema by this version: remove it"))
    for name, net in specification.nets().items():
        prefix = f"subnets.{name}.tasks" if name else "tasks"
        found += [
            Problem(f"{prefix}.{task.id}.retry", "handlers are not retried by themselves by this version: remove it")
            for task in net.tasks
            if task.retry is not None
        ]
    return found


def _check_whole(stored: StoredCase, snapshot: Mapping[str, Any] | None) -> None:
    """Refuse a history that misses commits: a case that went back in time must not go on."""
    since = 0 if snapshot is None else snapshot.get("version")
    if not isinstance(since, int) or since + len(stored.batches) != stored.header.version:
        message = (
            f"the history has {len(stored.batches)} commits behind {since}, its header says {stored.header.version}"
        )
        raise JournalError(message)


def _raise_first(failures: Sequence[KnhkError]) -> None:
    """Raise the first failure, saying of the others what they were."""
    if not failures:
        return
    for other in failures[1:]:
        failures[0].add_note(f"and also: {other}")
    raise failures[0]


def _digest(spec_id: str, version: str | None, data: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps([spec_id, version, data], sort_keys=True).encode()).hexdigest()


def _worklist(case_id: str, case: Case) -> tuple[list[ItemRow], list[int]]:
    """Return the worklist rows that the case's last records changed, and the numbers of those that went."""
    rows: list[ItemRow] = []
    closed: list[int] = []
    for number in sorted(case.state.moved):
        item = case.state.items.get(number)
        if item is None:
            closed.append(number)
            continue
        plan = case.plan(item)
        if plan.kind is Kind.HANDLER:
            continue
        manual, external = plan.task.manual, plan.task.external
        rows.append(
            ItemRow(
                case_id=case_id,
                number=number,
                path=case.path(item),
                state=item.state.value,
                by=item.by,
                roles=() if manual is None else manual.roles,
                topic="" if external is None else external.topic,
            )
        )
    case.state.moved.clear()
    return rows, closed
