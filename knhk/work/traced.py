"""An engine's cases and store as they are where somebody listens to its spans (`knhk.work.spans`)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial, wraps
from typing import Any, TypeVar, cast

from knhk._cache import CaseCache
from knhk._resident import Resident
from knhk.case import Case
from knhk.errors import HandlerError, KnhkError
from knhk.ports import Commit, Store
from knhk.running import RunningCase
from knhk.spec import Http
from knhk.work.admission import Held
from knhk.work.case_work import Job
from knhk.work.handlers import Handlers, Work
from knhk.work.spans import Span, Tracing, spanned

_T = TypeVar("_T")


class TracedCase(RunningCase):
    """A case whose commands and attempts are told as spans."""

    __slots__ = ("_tasks", "_tracing")

    def __init__(self, cache: CaseCache, handlers: Handlers, case_id: str, tracing: Tracing) -> None:
        super().__init__(cache, handlers, case_id)
        self._tracing = tracing
        self._tasks: dict[int, Span] = {}

    def _run(
        self, resident: Resident, wait: float | None = None, until: Callable[[], bool] | None = None
    ) -> RunningCase:
        """Do the case's automatic work, as `RunningCase.run`."""
        with self._span("run", by_itself=True):
            return super()._run(resident, wait, until)

    def tick(self, now: int | None = None) -> int:
        """Do what is due in this case, as `RunningCase.tick`."""
        with self._span("tick", by_itself=True):
            return super().tick(now)

    @contextmanager
    def kept(self) -> Iterator[Resident]:
        """Keep the case in memory for a turn of automatic work."""
        with self._span("run", by_itself=True), super().kept() as resident:
            yield resident

    def hand_out(self, failures: list[KnhkError], *, apart: bool = False) -> Job | Held | None:
        """Hand out the case's next automatic work; its task's span begins."""
        found = super().hand_out(failures, apart=apart)
        if isinstance(found, Job):
            work = found.work
            about: dict[str, str | int] = {
                "knhk.workflow_id": found.resident.header.spec_id,
                "knhk.case_id": self.id,
                "knhk.task": work.task,
                "knhk.attempt": work.attempt,
            }
            self._tasks[found.number] = self._tracing.tracer.begin(f"task {_last(work.task)}", about)
        return found

    def handler(self, job: Job) -> Callable[[Work], Any]:
        """Return the function that a job asks for; an asynchronous one tells of its call."""
        function = super().handler(job)
        if not inspect.iscoroutinefunction(function):
            return function

        @wraps(function)
        async def traced(work: Work) -> Any:
            with self._handling(job):
                return await function(work)

        return traced

    def call(self, job: Job) -> Any:
        """Call a job's plain function; the call has a span."""
        with self._handling(job):
            return super().call(job)

    def finish(self, job: Job, output: object) -> HandlerError | None:
        """Record a handler's result; its task's span ends."""
        try:
            return super().finish(job, output)
        finally:
            self._end(job)

    def fail(self, job: Job, error: BaseException, *, answered: bool = False) -> HandlerError | None:
        """Record that a handler raised; its task's span fails."""
        try:
            return super().fail(job, error, answered=answered)
        finally:
            self._end(job, error)

    def hand_back(self, job: Job, why: str) -> None:
        """Take an attempt back that is not over; its task's span ends."""
        try:
            super().hand_back(job, why)
        finally:
            self._end(job)

    def abandon(self, job: Job) -> None:
        """Let an attempt go that nobody makes any more; its task's span ends."""
        super().abandon(job)
        self._end(job)

    def _do(self, command: Callable[[Case, int], _T], name: str = "command") -> _T:
        with self._span(name):
            return super()._do(command, name)

    @contextmanager
    def _span(self, what: str, *, by_itself: bool = False) -> Iterator[None]:
        """Let a span last, and the case stay in memory for its specification's name."""
        resident = self._cache.pin(self.id)
        try:
            about = {"knhk.workflow_id": resident.header.spec_id}
            with self._tracing.case(self.id, what, about, by_itself=by_itself):
                yield
        finally:
            self._cache.unpin(resident)

    @contextmanager
    def _handling(self, job: Job) -> Iterator[None]:
        about: dict[str, str | int] = {"knhk.case_id": self.id, "knhk.attempt": job.work.attempt}
        if isinstance(job.handler, Http):
            name = "handler http"
        else:
            name = f"handler {job.handler}"
            about["knhk.handler"] = job.handler
        with ExitStack() as inside:
            task = self._tasks.get(job.number)
            if task is not None:
                inside.enter_context(task.inside())
            inside.enter_context(spanned(self._tracing.tracer, name, about))
            yield

    def _end(self, job: Job, error: BaseException | None = None) -> None:
        span = self._tasks.pop(job.number, None)
        if span is not None:
            if error is not None:
                span.fail(error)
            span.end()


class _TracedStore:
    """A store that tells of its commits; whatever else is asked of it goes to the one underneath."""

    def __init__(self, store: Store, tracing: Tracing) -> None:
        self._store = store
        self._tracing = tracing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def commit(self, commits: Sequence[Commit]) -> None:
        """Store all steps in one transaction, or none and raise."""
        tracer = self._tracing.tracer
        with ExitStack() as inside:
            about: dict[str, str | int] = {"knhk.commits": len(commits)}
            if commits:
                header = commits[0].header
                about |= {"knhk.case_id": header.case_id, "knhk.workflow_id": header.spec_id}
                if not commits[0].expected:
                    inside.enter_context(spanned(tracer, "case create", about))
            # Before the commit: whoever hears of it goes on with the case at once.
            self._tracing.remember(commits)
            inside.enter_context(spanned(tracer, "store commit", about))
            self._store.commit(commits)

    def commit_each(self, calls: Sequence[Sequence[Commit]]) -> list[KnhkError | None]:
        """Store each call whole, or refuse it; all of them are one span."""
        for commits in calls:
            self._tracing.remember(commits)
        about: dict[str, str | int] = {"knhk.commits": sum(map(len, calls))}
        with spanned(self._tracing.tracer, "store commit", about):
            return self._store.commit_each(calls)


def traced_store(store: Store, tracing: Tracing) -> Store:
    """Return a store that tells of its commits."""
    return cast("Store", _TracedStore(store, tracing))


def case_maker(cache: CaseCache, handlers: Handlers, tracing: Tracing | None) -> Callable[[str], RunningCase]:
    """Return what gives a case by its id: one that is told of where somebody listens."""
    if tracing is None:
        return partial(RunningCase, cache, handlers)
    return partial(TracedCase, cache, handlers, tracing=tracing)


def _last(path: str) -> str:
    """Return the task of a path, without where it stands and which instance it is: the names of spans are few."""
    return path.rpartition("/")[2].partition("#")[0]
