"""`AsyncEngine`: the synchronous engine's few lines, with await.

The store and the token game run in worker threads of the engine's own, so that the event loop never waits for a disk, and
that cases which wait at the same time share its syncs; asynchronous handlers run on the loop, plain ones in a thread.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from datetime import timedelta
from functools import partial
from typing import Any, Final, Literal, Self, TypeVar

from knhk._cache import HOT
from knhk._compiled import Kernel
from knhk._sharing import elsewhere, pauses
from knhk.engine import Engine
from knhk.errors import (
    CommandError,
    ConcurrentUpdate,
    DirectoryError,
    HandlerError,
    KnhkError,
    QuarantinedCase,
    StoreUnavailable,
)
from knhk.events import Event
from knhk.expr import Dialect
from knhk.limits import Limits
from knhk.migration import CaseMigration, MigrationReport
from knhk.people import Directory
from knhk.ports import CaseHeader, Chance, Clock, IdSource, ItemRow, Store
from knhk.registration import Registration
from knhk.running import RunningCase, WorkItem
from knhk.spec import Retry, Specification
from knhk.spec.specification import PictureFormat
from knhk.work.admission import Held
from knhk.work.asynchronous import AsyncClaim, AsyncDeadLetters, AsyncExternalWork
from knhk.work.attempt import call_within, wake
from knhk.work.breaker import Breaker
from knhk.work.case_work import Job
from knhk.work.claims import LEASE, Span
from knhk.work.correspondence import Delivered
from knhk.work.failures import raise_first
from knhk.work.outbound import Outbound
from knhk.work.ownership import Ownership
from knhk.work.runner import DRAIN, Runner
from knhk.work.spans import Tracer
from knhk.work.worklist import Page, Place

_H = TypeVar("_H", bound=Callable[..., Any])
_T = TypeVar("_T")


MAX_WAITING: Final = 64
"""Calls that wait for the store at the same time, and so may share one of its syncs."""


class _Threads:
    """The threads in which an engine's calls wait for the store; made as they are needed."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(MAX_WAITING, thread_name_prefix="knhk")
        self._closed = False

    async def call(self, function: Callable[..., _T], *args: Any, **named: Any) -> _T:
        """Call a function in one of the threads; raises StoreUnavailable when they were closed."""
        if self._closed:
            raise StoreUnavailable("the engine is closed")
        # In the context of the caller, as asyncio.to_thread does it.
        run = partial(copy_context().run, function, *args, **named)
        return await asyncio.get_running_loop().run_in_executor(self._executor, run)

    def close(self) -> None:
        """Let the threads end when they have done what they were asked."""
        self._closed = True
        self._executor.shutdown(wait=False)


class AsyncEngine:
    """
    Runs cases on a store from an event loop; the arguments are those of `knhk.Engine`.

    Attributes:
        engine: the synchronous engine underneath, for what is quick and needs no await.
        external, dead_letters: as those of `knhk.Engine`, with await.
        metrics: that of `knhk.Engine`.
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
        self.engine = Engine(
            target,
            durability=durability,
            limits=limits,
            retry=retry,
            timeout=timeout,
            clock=clock,
            ids=ids,
            chance=chance,
            cache=cache,
            hot=hot,
            expressions=expressions,
            kernel=kernel,
            outbound=outbound,
            directory=directory,
            instance=instance,
            tracer=tracer,
            measured=measured,
        )
        self.metrics = self.engine.metrics
        self._threads = _Threads()
        self.external = AsyncExternalWork(self.engine.external, self.engine._cache.offers, self._threads.call)
        self.dead_letters = AsyncDeadLetters(self.engine.dead_letters, self._threads.call)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Give the store back; what was acknowledged is in it."""
        await asyncio.to_thread(self.engine.close)
        self._threads.close()

    def handler(self, name: str, *, concurrency: int | None = None) -> Callable[[_H], _H]:
        """Name a function, plain or asynchronous, as the handler of the tasks that ask for it, as `Engine.handler`."""
        return self.engine.handler(name, concurrency=concurrency)

    @property
    def breakers(self) -> Mapping[str, Breaker]:
        """The circuit breakers, by the name of their dependency."""
        return self.engine.breakers

    def breaker(self, name: str, **settings: Any) -> Breaker:
        """Say when the circuit breaker of a dependency opens and closes, as `Engine.breaker`."""
        return self.engine.breaker(name, **settings)

    async def register(self, specification: Specification) -> Registration:
        """Register a specification, as `Engine.register`."""
        return await self._threads.call(self.engine.register, specification)

    async def create_case(
        self,
        spec_id: str,
        data: Mapping[str, Any] | None = None,
        *,
        version: str | None = None,
        idempotency_key: str | None = None,
        start: bool = False,
    ) -> AsyncCase:
        """Create a case, as `Engine.create_case`."""
        case = await self._threads.call(
            self.engine.create_case, spec_id, data, version=version, idempotency_key=idempotency_key, start=start
        )
        return AsyncCase(case, self._threads)

    async def run_case(
        self,
        spec_id: str,
        data: Mapping[str, Any] | None = None,
        *,
        version: str | None = None,
        idempotency_key: str | None = None,
    ) -> AsyncCase:
        """Create a case and run it, as `Engine.run_case`."""
        case = await self.create_case(spec_id, data, version=version, idempotency_key=idempotency_key, start=True)
        await case.run()
        return case

    async def case(self, case_id: str) -> AsyncCase:
        """Return a case by its id; raises UnknownCase."""
        return AsyncCase(await self._threads.call(self.engine.case, case_id), self._threads)

    async def cases(self, *, spec_id: str | None = None, state: str | None = None) -> list[CaseHeader]:
        """List the cases by ascending id."""
        return await self._threads.call(lambda: list(self.engine.cases(spec_id=spec_id, state=state)))

    async def work_items(self, *, state: str | None = None, by: str | None = None) -> list[ItemRow]:
        """List the open work items over all cases."""
        return await self._threads.call(lambda: list(self.engine.work_items(state=state, by=by)))

    async def migrate(
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
        """Move open cases to another version, as `Engine.migrate`; `progress` is called in another thread."""
        renamed = {"tasks": tasks, "conditions": conditions, "nets": nets}
        return await self._threads.call(
            self.engine.migrate, spec_id, to=to, cases=cases, dry_run=dry_run, progress=progress, **renamed
        )

    async def claim(
        self,
        topics: str | Iterable[str],
        *,
        worker: str,
        max: int = 1,  # noqa: A002 - the word that users know
        lease: Span | None = LEASE,
        wait: Span | None = None,
    ) -> list[AsyncClaim]:
        """Take offered external work under a lease, as `Engine.claim`."""
        return await self.external.claim(topics, worker=worker, max=max, lease=lease, wait=wait)

    async def worklist(
        self,
        participant: str,
        queue: str = "offered",
        *,
        roles: Iterable[str] | None = None,
        after: Place | None = None,
        limit: int = 100,
    ) -> Page:
        """Return a page of a participant's work, as `Worklist.page` of `Engine.worklist`."""

        def page() -> Page:
            return self.engine.worklist(participant, roles=roles).page(queue, after=after, limit=limit)

        return await self._threads.call(page)

    async def run_pending(self) -> int:
        """Do the automatic work that waits in any case; returns how many cases were driven, as `Engine.run_pending`."""
        failures: list[KnhkError] = []
        driven = 0
        for case_id in await self._threads.call(lambda: list(self.engine.pending())):
            try:
                await AsyncCase(await self._threads.call(self.engine.case, case_id), self._threads).run()
            except (QuarantinedCase, ConcurrentUpdate):
                # As in the synchronous engine: what is so is in the store, and the rest goes on.
                continue
            except (CommandError, HandlerError, DirectoryError) as error:
                failures.append(error)
            driven += 1
        raise_first(failures)
        return driven

    def serve(self, *, workers: int = 64, interval: float = 0.5) -> AsyncRunner:
        """
        Return a runner that does what is due and what waits: ``async with engine.serve(workers=100): ...``, as `Engine.serve`.

        Asynchronous handlers run on the loop that enters it, plain ones in threads.
        """
        return AsyncRunner(self.engine, workers=workers, interval=interval)

    async def tick(self, now: int | None = None) -> int:
        """Run the timers that are due, as `Engine.tick`."""
        return await self._threads.call(self.engine.tick, now)

    async def send_event(
        self,
        name: str,
        data: Mapping[str, Any] | None = None,
        *,
        correlate: Mapping[str, Any] | None = None,
        spec_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> Delivered:
        """Deliver an event to the running cases that it is meant for, as `Engine.send_event`."""
        return await self._threads.call(
            self.engine.send_event,
            name,
            data,
            correlate=correlate,
            spec_id=spec_id,
            idempotency_key=idempotency_key,
        )

    async def deliver(self, now: int | None = None) -> int:
        """Send the messages of webhooks that are due, as `Engine.deliver`; the webhooks are in `engine.webhooks`."""
        return await self._threads.call(self.engine.deliver, now)


class AsyncRunner:
    """A `knhk.work.runner.Runner` whose asynchronous handlers run on the event loop that started it."""

    def __init__(self, engine: Engine, *, workers: int, interval: float) -> None:
        self._make = partial(Runner, workers=workers, interval=interval)
        self._engine = engine
        self._runner: Runner | None = None

    async def __aenter__(self) -> Runner:
        self._runner = self._make(self._engine._sources(asyncio.get_running_loop()))
        self._runner.start()
        return self._runner

    async def __aexit__(self, *error: object) -> None:
        await self.stop()

    async def stop(self, timeout: float = DRAIN) -> None:  # noqa: ASYNC109 - handlers are handed back then, not cancelled
        """Begin nothing more, and return when the handlers that run have ended, as `Runner.stop`."""
        if self._runner is not None:
            await asyncio.to_thread(self._runner.stop, timeout)


class AsyncCase:
    """One case, as `knhk.RunningCase`, with await."""

    def __init__(self, case: RunningCase, threads: _Threads) -> None:
        self._case = case
        self._threads = threads
        self.id = case.id

    def __repr__(self) -> str:
        return repr(self._case)

    async def state(self) -> str:
        """Return the case's state, as `RunningCase.state`."""
        return await self._threads.call(lambda: self._case.state)

    async def data(self) -> dict[str, Any]:
        """Return a copy of the case's data."""
        return await self._threads.call(lambda: self._case.data)

    async def enabled(self) -> list[str]:
        """Return the paths of the tasks that are offered."""
        return await self._threads.call(lambda: self._case.enabled)

    async def running(self) -> list[str]:
        """Return the paths of the started tasks and instances."""
        return await self._threads.call(lambda: self._case.running)

    async def marking(self) -> dict[str, dict[str, int]]:
        """Return the tokens, as `RunningCase.marking`."""
        return await self._threads.call(lambda: self._case.marking)

    async def next_due(self) -> int | None:
        """Return when something comes due, as `RunningCase.next_due`."""
        return await self._threads.call(lambda: self._case.next_due)

    async def problems(self) -> list[str]:
        """Return what needs a person's eye."""
        return await self._threads.call(lambda: self._case.problems)

    async def work_items(self, *, state: str | None = None) -> list[WorkItem]:
        """Return the open work items; their commands wait for the store, so call them in a thread."""
        return await self._threads.call(lambda: self._case.work_items(state=state))

    async def history(self) -> list[Event]:
        """Return what happened, in order."""
        return await self._threads.call(self._case.history)

    async def draw(
        self,
        format: PictureFormat = "svg",  # noqa: A002 - the word that users know
        *,
        overlay: Literal["tokens", "history", "none"] = "tokens",
        net: str | None = None,
    ) -> str:
        """Return a picture of the case, as `RunningCase.draw`."""
        return await self._threads.call(lambda: self._case.draw(format, overlay=overlay, net=net))

    async def start(self) -> None:
        """Put the first token into the root net."""
        await self._threads.call(self._case.start)

    async def run(self, *, wait: float | None = None) -> AsyncCase:
        """Start the case if needed, then do its automatic work, as `RunningCase.run`."""
        failures: list[KnhkError] = []
        sharing = self._case._cache.sharing
        if sharing is None:
            await self._run_here(failures)
        else:
            for pause in pauses(wait):
                with elsewhere():
                    await self._run_here(failures)
                if not await self._threads.call(sharing.waits_for_others, self.id):
                    break
                await asyncio.sleep(pause)
        raise_first(failures)
        return self

    async def _run_here(self, failures: list[KnhkError]) -> None:
        """Start the case if needed, and do its automatic work as far as it is to be done here."""
        with self._case.kept() as resident:
            await self._do_work(failures)
            if resident.worklets:
                await self._do_worklets(failures)

    async def _do_work(self, failures: list[KnhkError]) -> None:
        found = await self._threads.call(self._case.hand_out, failures)
        while found is not None:
            if isinstance(found, Held):
                if found.by_breaker:
                    break
                await self._freed(found)
                found = await self._threads.call(self._case.hand_out, failures)
                continue
            try:
                output = await self._call(found)
            except asyncio.CancelledError:
                # Whoever waited does not any more: the work is for the next that runs the case.
                await self._threads.call(self._case.hand_back, found, "the run was cancelled")
                raise
            except Exception as error:  # noqa: BLE001 - whatever user code raises is the failure of its item
                record: Callable[[], HandlerError | None] = partial(self._case.fail, found, error)
            else:
                record = partial(self._case.finish, found, output)
            found = await self._threads.call(self._record_and_next, record, failures)

    async def _do_worklets(self, failures: list[KnhkError]) -> None:
        """Do the work of the worklets that run in the place of the case's, as `RunningCase.run`."""
        told: dict[str, KnhkError] = {}
        news = True
        while news:
            found = await self._threads.call(self._case.settle, failures)
            for child in await self._threads.call(lambda: self._case.worklets):
                try:
                    await AsyncCase(self._case.sibling(child), self._threads).run()
                except (CommandError, HandlerError) as error:
                    told[child] = error
            news = found + await self._threads.call(self._case.settle, failures) > 0
            await self._do_work(failures)
        # What ended a worklet is told by the failure of the work that it stood for.
        failures += [told[child] for child in await self._threads.call(lambda: self._case.worklets) if child in told]

    async def cancel(self, *, compensate: bool = True) -> None:
        """Remove everything and end the case as cancelled, as `RunningCase.cancel`."""
        await self._threads.call(self._case.cancel, compensate=compensate)

    async def suspend(self) -> None:
        """Hold the case until `resume`."""
        await self._threads.call(self._case.suspend)

    async def resume(self) -> None:
        """Go on after `suspend`."""
        await self._threads.call(self._case.resume)

    async def migrate(
        self,
        version: str,
        *,
        tasks: Mapping[str, str] | None = None,
        conditions: Mapping[str, str] | None = None,
        nets: Mapping[str, str] | None = None,
    ) -> None:
        """Move the case to another version of its specification, as `RunningCase.migrate`."""
        await self._threads.call(self._case.migrate, version, tasks=tasks, conditions=conditions, nets=nets)

    async def send_event(self, name: str, data: Mapping[str, Any] | None = None) -> int:
        """Deliver an event; returns how many running nets kept it."""
        return await self._threads.call(self._case.send_event, name, data)

    async def start_task(self, path: str, *, by: str = "") -> None:
        """Start an offered task."""
        await self._threads.call(self._case.start_task, path, by=by)

    async def complete_task(self, path: str, output: Mapping[str, Any] | None = None, *, by: str = "") -> None:
        """Complete a started task or instance."""
        await self._threads.call(self._case.complete_task, path, output, by=by)

    async def cancel_task(self, path: str) -> None:
        """Abort a running task, or withdraw an enabled or waiting one."""
        await self._threads.call(self._case.cancel_task, path)

    async def add_instance(self, path: str, element: Any = None) -> None:
        """Start one more instance of a running dynamic multiple-instance task."""
        await self._threads.call(self._case.add_instance, path, element)

    async def close_instances(self, path: str) -> None:
        """Allow no further instances of a running dynamic multiple-instance task."""
        await self._threads.call(self._case.close_instances, path)

    async def complete_instances(self, path: str) -> None:
        """Force a multiple-instance task to complete."""
        await self._threads.call(self._case.complete_instances, path)

    async def retry_failed(self) -> int:
        """Give every failed item another attempt (made by the next `run`); returns how many there were."""
        return await self._threads.call(self._case.retry_failed)

    async def tick(self, now: int | None = None) -> int:
        """Run this case's timers that are due, as `RunningCase.tick`."""
        return await self._threads.call(self._case.tick, now)

    def _record_and_next(
        self, record: Callable[[], HandlerError | None], failures: list[KnhkError]
    ) -> Job | Held | None:
        # Together, because every change of threads costs more than the steps of most cases.
        failure = record()
        if failure is not None:
            failures.append(failure)
        return self._case.hand_out(failures)

    async def _freed(self, held: Held) -> None:
        """Wait, without a thread, until it is worth asking again for work that a limit held back."""
        loop, freed = asyncio.get_running_loop(), asyncio.Event()
        self._case._handlers.admission.when_freed(held, partial(wake, loop, freed))
        await freed.wait()

    async def _call(self, job: Job) -> Any:
        function = self._case.handler(job)
        if not inspect.iscoroutinefunction(function):
            return await asyncio.to_thread(self._case.call, job)
        if not job.attempt.bounded:
            return await function(job.work)
        return await call_within(function(job.work), job.attempt, name=job.label)
