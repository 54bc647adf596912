"""One case, as its user sees it: commands, its work items, and a look at its state and history."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

import attrs

from knhk import _hot
from knhk._cache import CaseCache, Resident, item_row
from knhk._case_state import Phase
from knhk._kernel import Net
from knhk._lower import Program
from knhk._migration import Renaming
from knhk.case import Case
from knhk.errors import CommandError, ConcurrentUpdate, HandlerError, KnhkError
from knhk.events import Event
from knhk.history import narrate
from knhk.journal import plain_data
from knhk.migration import migrate_case, refuse
from knhk.ports import ItemRow
from knhk.work.authority import Request
from knhk.work.handlers import Handlers, Work
from knhk.work.people_item import PeopleItem
from knhk.workitem import TRANSITIONS, ItemState

_T = TypeVar("_T")

LONGEST_REASON: Final = 500
"""Characters of an error's text that the history keeps."""


@attrs.frozen
class Job:
    """A handler's work that was handed out: finish it or fail it, in that order of hope."""

    resident: Resident
    number: int
    path: str
    handler: str
    work: Work


class RunningCase:
    """
    One case.

    It is a name, not the case itself: any number of them may stand for the same case, in any thread.

    Attributes:
        id: the case's id.
    """

    __slots__ = ("__weakref__", "_cache", "_handlers", "id")

    def __init__(self, cache: CaseCache, handlers: Handlers, case_id: str) -> None:
        self._cache = cache
        self._handlers = handlers
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
    def marking(self) -> dict[str, dict[str, int]]:
        """The tokens: by path of the net (the root's is ``""``), by condition that holds any."""
        return self._look(lambda case: case.marking())

    @property
    def problems(self) -> list[str]:
        """What needs a person's eye, such as an OR-join that could not be decided within its budget."""
        return self._look(lambda case: case.problems())

    @property
    def next_due(self) -> int | None:
        """When something comes due (a timer, a retry, the end of a claim), in milliseconds since the epoch; None: nothing."""

        def earliest(case: Case) -> int | None:
            due = case.next_due() if case.state.phase is Phase.RUNNING else None
            return None if due is None else due.at

        return self._look(earliest)

    def work_items(self, *, state: str | None = None) -> list[WorkItem]:
        """Return the open work items of people and external workers, and failed ones of handlers, by number."""

        def rows(case: Case) -> list[ItemRow]:
            return [item_row(self.id, case, number) for number in sorted(case.state.items)]

        return [WorkItem(self, row) for row in self._look(rows) if state in (None, row.state)]

    def work_item(self, number: int) -> WorkItem:
        """Return an open work item by its number; raises UnknownWorkItem."""
        return WorkItem(self, self._look(lambda case: item_row(self.id, case, case.item(number).number)))

    def history(self) -> list[Event]:
        """Return what happened, from the creation on, in order."""
        with self._cache.hold(self.id) as resident:
            # What waits for the commit of what follows has happened too.
            self._cache.commit(resident)
            header = resident.header
        compiled = self._cache.compiled(header.spec_id, header.spec_version)

        def version(name: str) -> tuple[Program, Sequence[Net]]:
            other = self._cache.compiled(header.spec_id, name)
            return other.program, other.kernels

        return narrate(compiled.program, compiled.kernels, self._cache.store.history(self.id), version)

    # --- commands -----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Put the first token into the root net, and let everything happen that happens by itself."""
        self._do(lambda case, at: case.start(at=at))

    def run(self) -> RunningCase:
        """
        Start the case if needed, then do its automatic work until it waits or ends.

        A handler's attempt and the result of the one before it are committed before it starts; replayable tasks leave
        both to the commit of what follows.
        Work whose handler another thread runs at this moment is left to it.
        A handler that raised and is tried again by itself raises nothing here: `history` tells of the attempt, the other work
        is done, and the case waits (`next_due`); this, or `Engine.tick`, makes the next attempt when its wait is over.

        Raises:
            HandlerError: a handler raised at its last attempt; its item has failed, the other work was done first.
        """
        failures: list[KnhkError] = []
        resident = self._cache.pin(self.id)
        try:
            while True:
                if resident.express is not None:
                    ended, failure = self._go_by_express(resident)
                    if failure is not None:
                        failures.append(failure)
                    if ended:
                        break
                job = self.next_job()
                if job is None:
                    break
                try:
                    output = self._handlers.call(job.handler, job.work)
                except Exception as error:  # noqa: BLE001 - whatever user code raises is the failure of its item
                    failure = self.fail(job, error)
                except BaseException:
                    # Ctrl-C: the item stays begun, for the next attempt.
                    job.resident.in_flight.pop(job.number, None)
                    raise
                else:
                    failure = self.finish(job, output)
                if failure is not None:
                    failures.append(failure)
        finally:
            self._cache.unpin(resident)
        raise_first(failures)
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

    def migrate(
        self,
        version: str,
        *,
        tasks: Mapping[str, str] | None = None,
        conditions: Mapping[str, str] | None = None,
        nets: Mapping[str, str] | None = None,
    ) -> None:
        """
        Move the case to another registered version of its specification, as `Engine.migrate` does many.

        Raises:
            MigrationRefused: it has no place there, for all the reasons that it lists; it stays as it is.
            UnknownSpecification: there is no such version.
        """
        header = self._cache.store.header(self.id)
        target = self._cache.compiled(header.spec_id, version)
        renaming = Renaming(tasks=tasks or {}, conditions=conditions or {}, nets=nets or {})
        refuse(migrate_case(self._cache, header, target, renaming))

    def send_event(self, name: str, data: Mapping[str, Any] | None = None) -> int:
        """Deliver an event; returns how many running nets kept it."""
        plain = plain_data(data, "the event's data")
        return self._do(lambda case, at: case.send_event(name, plain, at=at))

    def tick(self, now: int | None = None) -> int:
        """
        Do what is due in this case, in deadline order, as `Engine.tick`; returns how much that was.

        Raises:
            DataError, LimitExceeded: a timer's task could not run; those that ran before it are kept.
        """
        with self._cache.hold(self.id) as resident:
            try:
                return resident.case.advance(at=self._cache.clock.now() if now is None else now)
            finally:
                self._cache.commit(resident)

    def start_task(self, path: str, *, by: str = "") -> None:
        """Start an offered task."""

        def start(case: Case, at: int) -> None:
            self._permit(case, case.item_at(path), Request("start", by))
            case.start_task(path, at=at, by=by)

        self._do(start)

    def complete_task(self, path: str, output: Mapping[str, Any] | None = None, *, by: str = "") -> None:
        """Complete a started task or instance (an offered one is started first)."""
        plain = plain_data(output, "the output")

        def complete(case: Case, at: int) -> None:
            self._permit(case, case.item_at(path), Request("complete", by))
            case.complete_task(path, plain, at=at, by=by)

        self._do(complete)

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
            failed = [item.number for item in case.state.items.values() if item.state is ItemState.FAILED]
            for number in failed:
                case.change_item(number, "retry", at=at)
            return len(failed)

        return self._do(retry)

    # --- handlers' work, for drivers ----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Keep the case in memory meanwhile: results of replayable tasks may wait there for the commit of what follows."""
        resident = self._cache.pin(self.id)
        try:
            yield
        finally:
            self._cache.unpin(resident)

    def handler(self, job: Job) -> Callable[[Work], Any]:
        """Return the function that a job asks for; raises LookupError."""
        return self._handlers.find(job.handler)

    def next_job(self) -> Job | None:
        """
        Start the case if needed and hand out its next automatic work, committed as begun; None when there is none.

        The caller must `finish` or `fail` the job.
        """
        with self._cache.hold(self.id) as resident:
            case = resident.case
            if case.state.phase is Phase.CREATED:
                case.start(at=self._cache.clock.now())
            if case.state.phase is Phase.RUNNING and case.state.deadlines:
                case.retry_due(at=self._cache.clock.now())
            number = self._next_number(resident)
            if number is None:
                self._cache.commit(resident)
                return None
            item = case.state.items[number]
            task = case.plan(item).task
            # The attempt is on record before the handler runs, in the commit that holds the result of the one before.
            attempt = case.begin_attempt(number, at=self._cache.clock.now())
            if not task.replayable:
                self._cache.commit(resident)
            resident.in_flight[number] = None
            index = item.instance - 1 if item.instance else None
            work = Work(self.id, case.path(item), number, attempt, case.state.data, case.state.element(item), index)
            # The case may go on while the handler looks.
            _ = work.data
            return Job(resident, number, work.task, task.handler or "", work)

    def finish(self, job: Job, output: object) -> HandlerError | None:
        """
        Record a handler's result; a result that the case refuses is a failed attempt, see `fail`.

        The result is committed with what follows: by the `next_job` that must come, or by any other command on the case.
        """
        try:
            with self._cache.hold(self.id) as resident:
                self._take_back(resident, job)
                if job.number in resident.case.state.items:
                    plain = plain_data(output, f"the result of handler {job.handler!r}")
                    resident.case.complete_item(job.number, plain, at=self._cache.clock.now())
        except (ValueError, CommandError) as error:
            if isinstance(error, ConcurrentUpdate):
                raise
            return self.fail(job, error)
        return None

    def fail(self, job: Job, error: Exception) -> HandlerError | None:
        """
        Record that a handler raised, unless its work is gone or its case suspended meanwhile.

        Returns the failure for the caller to raise; None where the work is tried again by itself.
        """
        with self._cache.hold(self.id) as resident:
            self._take_back(resident, job)
            again = False
            item = resident.case.state.items.get(job.number)
            may_fail = resident.case.state.phase in (Phase.RUNNING, Phase.FAILED)
            if may_fail and item is not None and (item.state, "fail") in TRANSITIONS:
                again = resident.case.fail_attempt(job.number, _told(error), at=self._cache.clock.now())
            self._cache.commit(resident)
        if again:
            return None
        failure = HandlerError(f"{job.path}: handler {job.handler!r} failed: {error}")
        failure.__cause__ = error
        return failure

    def _next_number(self, resident: Resident) -> int | None:
        if resident.case.state.phase is not Phase.RUNNING:
            return None
        return next((number for number in resident.case.state.work if number not in resident.in_flight), None)

    def _take_back(self, resident: Resident, job: Job) -> None:
        """Refuse a result that belongs to a case in memory which a failed commit has made worthless."""
        job.resident.in_flight.pop(job.number, None)
        if resident is not job.resident:
            message = f"case {self.id} failed in the store while handler {job.handler!r} ran; run the case again"
            raise ConcurrentUpdate(message)

    # --- by express ---------------------------------------------------------------------------------------------------

    def _go_by_express(self, resident: Resident) -> tuple[bool, HandlerError | None]:
        """
        Do the plain automatic work of a pinned case, as far as that goes.

        Returns:
            Whether the case has ended, and what failed for good.
        """
        with resident.lock:
            journey = self._cache.depart(resident) if self._cache.take_over(resident) else None
            if journey is None:
                # Nothing to do, or stale: the driver asks for the case by its id.
                return False, None
            express = journey.express
            try:
                outcome = express.go()
            except BaseException:
                self._cache.interrupt(resident)
                raise
            overtaken = outcome == _hot.express.OVERTAKEN
            done = not overtaken and self._cache.arrive(resident, outcome) and outcome != _hot.express.FAILED
            if done or express.job is None:
                return outcome == _hot.express.ENDED, None
            _, number, _, work = express.job
            job = Job(resident, number, work.task, express.handler, work)
        # Somebody was faster, the handler failed, or its result cannot be: the driver knows what follows.
        if express.error is not None:
            return False, self.fail(job, express.error)
        return False, self.finish(job, express.output)

    # --- inside -------------------------------------------------------------------------------------------------------

    def _permit(self, case: Case, number: int | None, request: Request) -> None:
        """Refuse a participant's request, where a directory is there to ask; the case itself refuses what is not open."""
        authority = self._cache.authority
        item = None if number is None else case.state.items.get(number)
        if authority is not None and item is not None:
            authority.check(case, item, request)
        elif authority is None and request.command in ("pile", "chain"):
            raise CommandError(f"cannot {request.command}: the engine has no directory (Engine(directory=...))")

    def _pile(self, number: int, by: str, *, piled: bool) -> None:
        people = self._cache.people
        task = self._look(lambda case: case.plan(case.item(number)).task.id)
        if people is not None:
            people.pile(f"{self._cache.store.header(self.id).spec_id}/{task}", by, piled=piled)

    def _look(self, question: Callable[[Case], _T]) -> _T:
        with self._cache.hold(self.id) as resident:
            return question(resident.case)

    def _do(self, command: Callable[[Case, int], _T]) -> _T:
        cache = self._cache
        with cache.hold(self.id) as resident:
            try:
                answer = command(resident.case, cache.clock.now())
            except CommandError:
                if cache.store.header(self.id).version == resident.header.version:
                    raise
                # Somebody else moved the case in the store: what was refused may be right there.
                cache.forget(resident)
            else:
                cache.commit(resident)
                return answer
        with cache.hold(self.id) as resident:
            answer = command(resident.case, cache.clock.now())
            cache.commit(resident)
            return answer


class WorkItem(PeopleItem):
    """
    An open piece of work of a case, as it was when somebody looked.

    Attributes:
        number: unique in its case.
        path: where it stands: ``ship/pick``, ``notify#2``.
        state: offered, allocated, started, suspended or failed.
        by: the participant it is allocated to or was started by; "" for nobody.
        roles, topic: who may do it.
        audience: whom it is offered to, each as ``role:clerk`` or ``participant:ann``.
        priority: what its escalation has made of it; 0 at first.
    """

    def __init__(self, case: RunningCase, row: ItemRow) -> None:
        self._case = case
        self.case_id = row.case_id
        self.number = row.number
        self.path = row.path
        self.state = row.state
        self.by = row.by
        self.roles: Sequence[str] = row.roles
        self.topic = row.topic
        self.audience: Sequence[str] = row.audience
        self.priority = int(row.details.get("priority", 0))

    @property
    def draft(self) -> dict[str, Any]:
        """What was saved of its output."""

        def saved(case: Case) -> dict[str, Any]:
            post = case.state.people.posts.get(self.number)
            return {} if post is None or post.draft is None else plain_data(post.draft, "the draft")

        return self._case._look(saved)

    def __repr__(self) -> str:
        return f"<work item {self.number} {self.path} {self.state}>"

    def start(self, *, by: str = "") -> None:
        """Take the work up; a multiple-instance task starts all its instances, each an item of its own."""
        self._ask(Request("start", by), lambda case, at: case.start_item(self.number, at=at, by=by), gone="started")

    def complete(self, output: Mapping[str, Any] | None = None, *, by: str = "") -> None:
        """Complete the work (an offered item is started first); `output` joins the case's data."""
        plain = plain_data(output, "the output")
        self._ask(Request("complete", by), lambda case, at: case.complete_item(self.number, plain, at=at, by=by))

    def suspend(self, *, by: str = "") -> None:
        """Lay started work aside."""
        self._ask(Request("suspend", by), lambda case, at: case.change_item(self.number, "suspend", at=at))

    def resume(self, *, by: str = "") -> None:
        """Take suspended work up again."""
        self._ask(Request("resume", by), lambda case, at: case.change_item(self.number, "resume", at=at))

    def fail(self, reason: str = "", *, by: str = "") -> None:
        """
        Say that started work has failed.

        Where its task has a retry policy and attempts remain, it is tried again by itself after the wait: external work is
        offered again.
        Else it stays open until it is retried or its case cancelled.
        """

        def failed(case: Case, at: int) -> None:
            case.fail_attempt(self.number, _shortened(reason), at=at)

        self._ask(Request("fail", by), failed)

    def retry(self, *, by: str = "") -> None:
        """Start failed work once more."""
        self._ask(Request("retry", by), lambda case, at: case.change_item(self.number, "retry", at=at))

    def _pile(self, by: str, *, piled: bool) -> None:
        self._case._pile(self.number, by, piled=piled)

    def _ask(self, request: Request, command: Callable[[Case, int], None], *, gone: str = "completed") -> None:
        """Do a command of a participant, if he may give it."""

        def permitted(case: Case, at: int) -> None:
            self._case._permit(case, self.number, request)
            command(case, at)

        self._do(permitted, gone=gone)

    def _do(self, command: Callable[[Case, int], None], *, gone: str = "completed") -> None:
        def then_look(case: Case, at: int) -> ItemRow | None:
            command(case, at)
            return item_row(self.case_id, case, self.number) if self.number in case.state.items else None

        row = self._case._do(then_look)
        if row is not None:
            self.state, self.by = row.state, row.by
        else:
            self.state = gone


def _told(error: Exception) -> str:
    """Say what an attempt failed of, in a form that the journal holds; whatever the error's own text does."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - the text of an error is user code too
        text = "its text cannot be made"
    return _shortened(f"{type(error).__name__}: {text}" if text else type(error).__name__)


def _shortened(text: str) -> str:
    whole = text.encode("utf-8", "replace").decode()
    return whole if len(whole) <= LONGEST_REASON else f"{whole[:LONGEST_REASON]}..."


def raise_first(failures: Sequence[KnhkError]) -> None:
    """Raise the first failure, saying of the others what they were."""
    if not failures:
        return
    for other in failures[1:]:
        failures[0].add_note(f"and also: {other}")
    raise failures[0]
