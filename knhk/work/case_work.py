"""The handlers' work of one case: handed out, made, and its outcome recorded; for whoever drives cases."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import attrs

from knhk import _hot
from knhk._attempts import Failure
from knhk._cache import CaseCache
from knhk._codes import Phase
from knhk._resident import Resident
from knhk._sharing import again
from knhk.case import Case
from knhk.errors import CommandError, ConcurrentUpdate, DataError, HandlerError, KnhkError, LimitExceeded
from knhk.ports import Document
from knhk.spec import Http, Task
from knhk.work.admission import CUT_OFF, Held, Key, Permit
from knhk.work.attempt import Attempt, LostAttempt
from knhk.work.failures import failure_of
from knhk.work.handlers import Handlers, Work
from knhk.workitem import TRANSITIONS, ItemEntry

_LOG = logging.getLogger("knhk.work")


@attrs.frozen(eq=False)
class Job:
    """
    A handler's work that was handed out: finish it or fail it, in that order of hope.

    Args:
        resident: the case in memory that it belongs to.
        number, path, handler: the work item, where it stands, and the name of the function that it asks for, or the request.
        work: what the function is given.
        attempt: the attempt while it is made.
        permit: to be given back with the outcome.
        more: whether the case may have other work to hand out.
        refused: why the function cannot be given its data: the work fails without a call.
    """

    resident: Resident
    number: int
    path: str
    handler: str | Http
    work: Work
    attempt: Attempt
    permit: Permit | None = None
    more: bool = False
    refused: DataError | None = None

    def check(self) -> None:
        """Raise why the function cannot be called."""
        if self.refused is not None:
            raise self.refused

    @property
    def worker(self) -> str:
        """Who does the work, for messages."""
        if isinstance(self.handler, Http):
            return f"{self.handler.method} {self.handler.url}"
        return f"handler {self.handler!r}"

    @property
    def label(self) -> str:
        """Which attempt this is, for the log."""
        return f"case {self.work.case_id} {self.path} attempt {self.work.attempt}"

    def release(self, answered: bool | None) -> None:
        """Give back the permit: the handler's dependency answered, it failed, or (None) nothing is known."""
        if self.permit is not None:
            self.permit.end(answered)


class CaseWork:
    """What `knhk.running.RunningCase` does with the work of handlers."""

    __slots__ = ("__weakref__", "_cache", "_handlers", "id")

    def __init__(self, cache: CaseCache, handlers: Handlers, case_id: str) -> None:
        self._cache = cache
        self._handlers = handlers
        self.id = case_id

    @contextlib.contextmanager
    def kept(self) -> Iterator[Resident]:
        """Keep the case in memory meanwhile: results of replayable tasks may wait there for the commit of what follows."""
        resident = self._cache.pin(self.id)
        try:
            yield resident
        finally:
            self._cache.unpin(resident)

    def handler(self, job: Job) -> Callable[[Work], Any]:
        """Return the function that a job asks for; raises LookupError, or DataError where it cannot be given its data."""
        job.check()
        return self._handlers.find(job.handler)

    def call(self, job: Job) -> Any:
        """
        Call a job's plain function in this thread, or where its attempt has a time limit in one of its own.

        Raises:
            DataError: it cannot be given its data.
            LookupError, TypeError: there is no such function, or it is asynchronous.
            TimeoutError: its time is up.
            Exception: what it raised.
        """
        job.check()
        function = self._handlers.find_plain(job.handler)
        if job.attempt.bounded:
            return self._handlers.watch.call(function, job.work, job.attempt, name=job.label)
        return function(job.work)

    def next_job(self, failures: list[KnhkError]) -> Job | None:
        """
        Hand out the case's next automatic work, as `hand_out`; wait for a place where a limit holds all of it back.

        Returns:
            The job, or None where there is none or a breaker holds it back.
        """
        while True:
            found = self.hand_out(failures)
            if not isinstance(found, Held):
                return found
            if found.by_breaker:
                return None
            self._handlers.admission.wait(found)

    def hand_out(self, failures: list[KnhkError], *, apart: bool = False) -> Job | Held | None:
        """
        Start the case if needed and hand out its next automatic work, committed as begun.

        Args:
            failures: is told of work that failed instead of being handed out again.
            apart: whether what the end of a process cut off is handed out one at a time over all cases.

        Returns:
            A job, which the caller must `finish`, `fail` or `hand_back`; what holds back all that there is; None: there is none,
            or it is another instance's.
        """
        return again(self._cache.sharing, partial(self._hand_out, failures, apart=apart))

    def _hand_out(self, failures: list[KnhkError], *, apart: bool) -> Job | Held | None:
        tenure = self._cache.tenure(self.id)
        with self._cache.hold_unseen(self.id) as resident:
            case = resident.case
            if self._cache.sharing is not None:
                if tenure is None:
                    # The routing is anybody's; what handlers do, and what is due, is for the owner.
                    if case.state.phase is Phase.CREATED:
                        case.start(at=self._cache.clock.now())
                        self._cache.commit(resident)
                    return None
                resident.work_under(tenure)
            if case.state.phase is Phase.CREATED:
                case.start(at=self._cache.clock.now())
            if case.state.phase in (Phase.RUNNING, Phase.COMPENSATING) and case.state.deadlines:
                case.retry_due(at=self._cache.clock.now())
            passed_over: dict[int, None] = {}
            held: Held | None = None
            while (number := self._next_number(resident, passed_over)) is not None:
                item = case.state.items[number]
                path = case.path(item)
                why = case.end_cut_off(number, at=self._cache.clock.now())
                if why:
                    failures.append(HandlerError(f"{path}: {why}"))
                if number not in case.state.work:
                    continue
                permit = self._permit(resident, item, apart=apart)
                if not isinstance(permit, Held):
                    return self._begin(resident, item, permit, tenure)
                held = held or permit
                passed_over[number] = None
            self._cache.commit(resident)
            failures += map(HandlerError, case.take_unchosen())
            return held

    def finish(self, job: Job, output: object) -> HandlerError | None:
        """
        Record a handler's result; a result that the case refuses is a failed attempt, see `fail`.

        The result is committed with what follows: by the `next_job` that must come, or by any other command on the case.
        That of an attempt that was lost meanwhile is refused, and told to the log.
        """
        try:
            again(self._cache.sharing, partial(self._finish, job, output))
        except (ValueError, CommandError) as error:
            if isinstance(error, ConcurrentUpdate):
                self._let_go(job)
                raise
            return self.fail(job, error, answered=True)
        except BaseException:
            self._let_go(job)
            raise
        finally:
            job.release(True)
        return None

    def _finish(self, job: Job, output: object) -> None:
        with self._cache.hold_unseen(self.id) as resident:
            if self._take_back(resident, job):
                if job.number in resident.case.state.items:
                    plain = self._cache.plain(output, f"the result of {job.worker}")
                    resident.case.complete_item(job.number, plain, at=self._cache.clock.now())
                self._settle(resident, job)
                self._count(job, "completed")

    def fail(self, job: Job, error: BaseException, *, answered: bool = False) -> HandlerError | None:
        """
        Record that a handler raised, unless its work is gone or its case suspended meanwhile.

        Args:
            job: what failed.
            error: what it raised.
            answered: whether the dependency that it needs is without blame.

        Returns:
            The failure for the caller to raise; None where the work is tried again by itself.
        """
        failure = failure_of(error, draw=self._handlers.chance.random())
        unknown = isinstance(error, LostAttempt)
        try:
            final, blameless = again(self._cache.sharing, partial(self._fail, job, error, failure))
            answered = answered or blameless
        finally:
            self._let_go(job)
            job.release(None if unknown else answered)
        if not final:
            return None
        raised = HandlerError(f"{job.path}: {job.worker} failed: {error}")
        raised.__cause__ = error
        return raised

    def _fail(self, job: Job, error: BaseException, failure: Failure) -> tuple[bool, bool]:
        """Record a failure; returns whether nothing follows by itself, and whether the dependency is without blame."""
        with self._cache.hold_unseen(self.id) as resident:
            # Whoever made it run out of time has lost it, and tells so here.
            if not self._take_back(resident, job, lost=isinstance(error, TimeoutError)):
                return False, False
            case, item = resident.case, resident.case.state.items.get(job.number)
            followed = blameless = False
            self._keep(resident, job)
            frozen = case.state.undoing is not None and item is not None and item.undoes is None
            if item is not None and (frozen or case.state.phase is Phase.SUSPENDED):
                case.hand_back(job.number, at=self._cache.clock.now())
            elif item is not None and case.state.phase in (Phase.RUNNING, Phase.FAILED, Phase.COMPENSATING):
                blameless = not case.is_retryable(item, failure)
                if (item.state, "fail") in TRANSITIONS:
                    followed = case.fail_attempt(job.number, failure, at=self._cache.clock.now())
            self._cache.commit(resident)
            self._settle(resident, job)
            self._count(job, "retried" if followed else "failed")
            return not followed, blameless

    def flush(self) -> None:
        """Commit what `finish` recorded, where no `hand_out` follows."""
        with self._cache.hold(self.id) as resident:
            self._cache.commit(resident)

    def hand_back(self, job: Job, why: str) -> None:
        """Take an attempt back that is not over: it counts towards no maximum, its result is refused, another may be begun."""
        try:
            again(self._cache.sharing, partial(self._hand_back, job, why))
        finally:
            job.attempt.lose(why)
            self._forget(job)
            self._let_go(job)
            job.release(None)

    def _hand_back(self, job: Job, why: str) -> None:
        with self._cache.hold(self.id) as resident:
            shared = self._cache.sharing is not None
            mine = resident.in_flight.get(job.number) is job.attempt if shared else resident is job.resident
            if job.attempt.lost or not mine:
                return
            if not shared:
                job.attempt.lose(why)
                self._forget(job)
            self._keep(resident, job)
            resident.work_under(job.attempt.tenure)
            if job.number in resident.case.state.items:
                resident.case.hand_back(job.number, at=self._cache.clock.now())
            self._cache.commit(resident)
            self._count(job, "handed_back")

    def keep(self, job: Job) -> None:
        """Put on record what the handler said of its progress, while it runs."""
        with self._cache.hold(self.id) as resident:
            if resident.in_flight.get(job.number) is job.attempt:
                resident.work_under(job.attempt.tenure)
                self._keep(resident, job)
                self._cache.commit(resident)

    def abandon(self, job: Job) -> None:
        """Let an attempt go that nobody makes any more, without a word in the history: it stays begun, and counts."""
        job.attempt.lose("nobody makes it any more")
        self._forget(job)
        self._let_go(job)
        job.release(None)

    # --- inside -------------------------------------------------------------------------------------------------------

    def _count(self, job: Job, outcome: str) -> None:
        metrics = self._cache.metrics
        if metrics.measured:
            metrics.attempt(job.handler if isinstance(job.handler, str) else "http", outcome)

    def _breakers_due(self, case: Case) -> list[int]:
        """When the breakers that hold back waiting work let probes through."""
        breakers = self._handlers.admission.breakers
        names = {case.plan(case.state.items[number]).task.breaker for number in case.state.work}
        waits = [breakers[name].opens_in for name in names if name is not None and name in breakers]
        return [self._cache.clock.now() + wait for wait in waits if wait]

    def _next_number(self, resident: Resident, passed_over: dict[int, None]) -> int | None:
        state = resident.case.state
        if state.phase is Phase.COMPENSATING and state.undoing is not None:
            number = state.undoing.item
            free = number in state.work and number not in resident.in_flight and number not in passed_over
            return number if free else None
        if state.phase is not Phase.RUNNING:
            return None
        busy = resident.in_flight
        return next((number for number in state.work if number not in busy and number not in passed_over), None)

    def _permit(self, resident: Resident, item: ItemEntry, *, apart: bool) -> Permit | Held | None:
        task = resident.case.plan(item).task
        most = self._handlers.limits.get(task.handler or "")
        suspect = apart and item.begun
        if most is None and task.concurrency is None and task.breaker is None and not suspect:
            return None
        limits: list[tuple[Key, int]] = []
        if suspect:
            limits.append((CUT_OFF, 1))
        if most is not None:
            limits.append((("handler", task.handler or ""), most))
        if task.concurrency is not None:
            header, net = resident.header, resident.case.state.nets[item.net]
            limits.append((("task", header.spec_id, header.spec_version, net.plan.name, task.id), task.concurrency))
        return self._handlers.admission.ask(limits, task.breaker)

    def _begin(self, resident: Resident, item: ItemEntry, permit: Permit | None, tenure: Document | None) -> Job:
        """Put the attempt on record before its handler runs, in the commit that holds the result of the one before."""
        case, number = resident.case, item.number
        task = case.plan(item).task
        try:
            now = self._cache.clock.now()
            made = case.begin_attempt(number, at=now)
            attempt = Attempt(self._handlers.ticks, timeout=self._timeout(task, item, now), heartbeat=task.heartbeat)
            attempt.number, attempt.tenure = made, tenure
            resident.in_flight[number] = attempt
            # What a process began and did not end without a record would never be counted; and a handler finds its own case.
            if not task.replayable or number in resident.doubtful or not resident.header.version:
                resident.doubtful.pop(number, None)
                self._cache.commit(resident)
            elif not resident.seen:
                # Before it counts as under way: nobody is to be called for work that is gone.
                self._cache.refuse_moved(resident)
            index = item.instance - 1 if item.instance else None
            refused: DataError | None = None
            data: dict[str, Any] = {}
            try:
                data = case.work_data(number)
            except DataError as error:
                refused = error
            work = Work(self.id, case.path(item), number, made, data, case.state.element(item), index)
            work._live = attempt
            work._undoes = item.undoes
            work._progress = item.progress
            # The case may go on while the handler looks.
            _ = work.data
        except BaseException:
            begun = resident.in_flight.pop(number, None)
            if begun is not None:
                self._cache.let_go(self.id, number, begun)
            if permit is not None:
                permit.end(None)
            raise
        more = len(case.state.work) > len(resident.in_flight)
        return Job(resident, number, work.task, task.handler or task.http or "", work, attempt, permit, more, refused)

    def _timeout(self, task: Task, item: ItemEntry, now: int) -> int | None:
        """Return how long an attempt may take: what its task says, else the engine, and not beyond its last moment."""
        spans = [self._handlers.timeout if task.timeout is None else task.timeout]
        if item.until is not None and item.until > now:
            spans.append(item.until - now)
        return min((span for span in spans if span is not None), default=None)

    def _take_back(self, resident: Resident, job: Job, *, lost: bool = False) -> bool:
        """
        Take the place of an attempt away; False where somebody else has recorded its outcome.

        Raises:
            ConcurrentUpdate: it belongs to a case in memory which a failed commit has made worthless.
        """
        if self._cache.sharing is not None:
            return self._is_under_way(resident, job, lost=lost)
        taken = self._forget(job)
        if resident is not job.resident:
            message = f"case {self.id} failed in the store while {job.worker} ran; run the case again"
            raise ConcurrentUpdate(message)
        if job.attempt.lost and not (lost and taken) and job.number in resident.case.state.items:
            _LOG.warning("%s: its outcome is refused: %s", job.label, job.attempt.lost)
            return False
        return True

    def _is_under_way(self, resident: Resident, job: Job, *, lost: bool) -> bool:
        """Whether an attempt's outcome may be recorded in a case that others may have moved; it stays under way until it is."""
        mine = resident.in_flight.get(job.number) is job.attempt
        if mine and (lost or not job.attempt.lost):
            resident.work_under(job.attempt.tenure)
            return True
        if job.number in resident.case.state.items:
            _LOG.warning("%s: its outcome is refused: %s", job.label, job.attempt.lost or "others have its work")
        self._let_go(job)
        return False

    def _settle(self, resident: Resident, job: Job) -> None:
        """Where others may move the case, commit an outcome while it can still be told again."""
        if self._cache.sharing is not None:
            self._cache.commit(resident)
            resident.in_flight.pop(job.number, None)

    def _let_go(self, job: Job) -> None:
        """Forget an attempt whose outcome is recorded, or never will be; alone, `_forget` has done so."""
        if self._cache.sharing is not None:
            self._cache.let_go(self.id, job.number, job.attempt)

    def _keep(self, resident: Resident, job: Job) -> None:
        attempt, case = job.attempt, resident.case
        said = attempt.said
        if said is None or said is attempt.kept or job.number not in case.state.items:
            return
        attempt.kept = said
        try:
            self._cache.plain({"progress": said}, f"the progress of {job.label}")
        except LimitExceeded as error:
            _LOG.warning("%s: its progress is not kept: %s", job.label, error)
            return
        if case.state.phase in (Phase.RUNNING, Phase.FAILED, Phase.SUSPENDED):
            case.progress(job.number, said, at=self._cache.clock.now())

    def _forget(self, job: Job) -> bool:
        mine = job.resident.in_flight.get(job.number) is job.attempt
        if mine:
            del job.resident.in_flight[job.number]
        return mine

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
            except BaseException as error:
                self._cache.interrupt(resident, spare=isinstance(error, KeyboardInterrupt))
                raise
            overtaken = outcome == _hot.express.OVERTAKEN
            done = not overtaken and self._cache.arrive(resident, outcome) and outcome != _hot.express.FAILED
            if done or express.job is None:
                return outcome == _hot.express.ENDED, None
            _, number, _, work = express.job
            attempt = work._attempt() or Attempt(self._handlers.ticks)
            job = Job(resident, number, work.task, express.handler, work, attempt)
        # Somebody was faster, the handler failed, or its result cannot be: the driver knows what follows.
        if express.error is not None:
            return False, self.fail(job, express.error)
        return False, self.finish(job, express.output)
