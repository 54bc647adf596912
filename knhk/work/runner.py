"""The runner: in the background, what is due is done, and handlers run that wait, a bounded number at once.

One thread, the *dispatcher*, does what is due and looks into the store for work; so many others, the *workers*, take one case
after the other from the agenda, and make its attempts.
What this process does to its cases is heard at once; what others do is found at the next look.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, Protocol, Self

import attrs

from knhk._sharing import Sharing
from knhk.errors import ConcurrentUpdate, KnhkError, QuarantinedCase
from knhk.ports import CaseHeader, Clock, Store
from knhk.work.admission import CUT_OFF, Held
from knhk.work.agenda import Agenda
from knhk.work.attempt import call_within
from knhk.work.case_work import CaseWork, Job
from knhk.work.handlers import Handlers

_LOG = logging.getLogger("knhk.runner")

TURN: Final = 0.05
"""Seconds after which a case that has more to do lets others have their turn."""

PAGES: Final = 100
"""Pages of the store's list of waiting work that one look goes through."""

PROBATION: Final = 10.0
"""Seconds after which an attempt that follows one that was cut off is no suspect any more."""

KEEP: Final = 10.0
"""Seconds between records of what a handler says of its progress."""

DRAIN: Final = 30.0
"""Seconds that handlers have to end when the runner stops."""


class Listens(Protocol):
    """What a runner hears of commits: the case's header, and whether it has work that nobody does."""

    def __call__(self, header: CaseHeader, waits: bool, /) -> object:
        """Listen."""


@attrs.frozen(kw_only=True)
class Sources:
    """
    What a runner works on.

    Args:
        round: does everything that is due or waits in the calling thread; returns how much.
        upkeep: does what is due, no handlers; returns how much.
        runnable: lists the ids of cases with automatic work from behind an id, a page at a time.
        case: returns a case by its id.
        store, clock, handlers: of the engine.
        listeners: whom the engine tells of its commits.
        wakers: whom it calls when there is something to do that no case has for itself.
        loop: where asynchronous handlers run, or None.
        sharing: which of it is this engine's; None: all.
        joins: whether the engine is one of the instances on the store while the runner runs, and not for longer.
    """

    round: Callable[[], int]
    upkeep: Callable[[], int]
    runnable: Callable[[str], Sequence[str]]
    case: Callable[[str], CaseWork]
    store: Store
    clock: Clock
    handlers: Handlers
    listeners: list[Listens]
    wakers: list[Callable[[], object]]
    loop: asyncio.AbstractEventLoop | None = None
    sharing: Sharing | None = None
    joins: bool = False

    def is_ours(self, case_id: str) -> bool:
        """Whether the work of a case is to be done here."""
        return self.sharing is None or self.sharing.ownership.tenure(case_id) is not None


class Runner:
    """
    Does due and waiting work in the background until it is stopped.

    What fails is logged, and the rest goes on: one broken case must not stop the others, nor the runner.

    Args:
        sources: what it works on.
        workers: how many handlers run at once.
        interval: seconds between looks at the store, for what other processes did.

    Attributes:
        workers: as above.
        failures: how many rounds, or attempts at work that is not tried again, failed.
    """

    def __init__(self, sources: Sources, *, workers: int, interval: float) -> None:
        if workers < 1:
            message = f"a runner needs at least 1 worker, not {workers}"
            raise ValueError(message)
        self.workers = workers
        self.failures = 0
        self._sources = sources
        self._interval = interval
        self._agenda = Agenda(sources.handlers.admission)
        self._wake = threading.Event()
        self._stopping = False
        self._cursor = ""
        self._more = False
        self._next_look = 0
        self._lock = threading.Lock()
        self._running: dict[Job, tuple[CaseWork, float]] = {}
        self._dispatcher = threading.Thread(target=self._dispatch, name="knhk-runner", daemon=True)
        self._threads = [
            threading.Thread(target=self._work, name=f"knhk-worker-{number}", daemon=True)
            for number in range(1, workers + 1)
        ]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    @property
    def busy(self) -> int:
        """How many handlers run now."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """How many cases wait for a worker."""
        return len(self._agenda)

    @property
    def stuck(self) -> int:
        """How many threads of this engine are stuck in handlers that ran out of time; none of them is a worker."""
        return self._sources.handlers.watch.stuck

    def start(self) -> None:
        """
        Begin.

        Raises:
            CommandError: another instance on the store has the engine's name.
        """
        if self._sources.joins and self._sources.sharing is not None:
            self._sources.sharing.ownership.start()
        self._sources.handlers.watch.many = max(self.workers, 2)
        self._sources.listeners.append(self._heard)
        self._sources.wakers.append(self.wake)
        for thread in (self._dispatcher, *self._threads):
            thread.start()

    def wake(self) -> None:
        """Look at what is due and into the store without waiting for the interval to pass."""
        self._wake.set()

    def stop(self, timeout: float = DRAIN) -> None:
        """
        Begin nothing more, and return when the handlers that run have ended.

        Args:
            timeout: for so many seconds they are waited for.  Then their work is handed back: the attempts do not count,
                others may begin it, `Work.cancelled` tells the handlers, and what they still return is refused.
        """
        end = time.monotonic() + timeout
        self._stopping = True
        instance = None if self._sources.sharing is None or not self._sources.joins else self._sources.sharing.ownership
        if instance is not None:
            instance.drain()
        if self._heard in self._sources.listeners:
            self._sources.listeners.remove(self._heard)
            self._sources.wakers.remove(self.wake)
        self._agenda.close()
        self._wake.set()
        if self._dispatcher.ident is None:
            return
        self._dispatcher.join()
        for thread in self._threads:
            thread.join(max(end - time.monotonic(), 0))
        for job, (case, _) in tuple(self._running.items()):
            _LOG.warning("%s did not end within %g s: its work is handed back", job.label, timeout)
            self._guarded(partial(case.hand_back, job, "the runner stopped"))
        if instance is not None:
            self._guarded(instance.stop)

    def step(self) -> int:
        """Do one round in the calling thread; returns how much it did, 0 also when it failed."""
        return self._guarded(self._sources.round) or 0

    # --- the dispatcher -----------------------------------------------------------------------------------------------

    def _dispatch(self) -> None:
        while not self._stopping:
            self._guarded(self._sources.upkeep)
            self._guarded(self._refill)
            self._guarded(self._look_after)
            if not self._stopping:
                self._wake.wait(self._guarded(self._pause) or self._interval)
                self._wake.clear()

    def _refill(self) -> None:
        """Put cases of the store into the line, from where the last look ended, as long as it is short."""
        for _ in range(PAGES):
            if self._stopping or len(self._agenda) >= 4 * self.workers:
                return
            page = self._sources.runnable(self._cursor)
            for case_id in page:
                if case_id not in self._agenda and self._sources.is_ours(case_id):
                    self._agenda.offer(case_id)
            self._more = bool(page)
            self._cursor = page[-1] if page else ""
            if not page:
                return

    def _look_after(self) -> None:
        """See to what is held back, to suspects that have stood their time, and to work whose case is over elsewhere."""
        for key in self._agenda.holding():
            _, room = self._sources.handlers.admission.room(key)
            self._agenda.let_go(key, self.workers if room is None else min(room, self.workers))
        for job, (case, since) in tuple(self._running.items()):
            if job.permit is not None and time.monotonic() - since >= PROBATION:
                job.permit.end_key(CUT_OFF)
            if job.attempt.said is not job.attempt.kept and time.monotonic() - job.attempt.kept_at >= KEEP:
                job.attempt.kept_at = time.monotonic()
                self._guarded(partial(case.keep, job))
            if self._sources.sharing is not None and self._sources.sharing.lost(job.attempt):
                continue
            if self._sources.store.header(job.work.case_id).state in ("completed", "cancelled"):
                job.attempt.lose("its case is over")

    def _pause(self) -> float:
        """Return for how many seconds nothing is due here, at the most the interval."""
        now = self._sources.clock.now()
        self._next_look = now + int(self._interval * 1000)
        store = self._sources.store
        times = [store.header(case_id).due for case_id in store.due(self._next_look)]
        times += [now + held for held in self._sources.handlers.admission.breakers_open_for()]
        soonest = min((at for at in times if at is not None and at > now), default=self._next_look)
        self._next_look = min(self._next_look, soonest)
        return max((self._next_look - now) / 1000, 0.001)

    def _heard(self, header: CaseHeader, waits: bool, /) -> None:
        """Hear of a commit of this process, in the thread that made it, which holds the case."""
        if waits and header.runnable and self._sources.is_ours(header.case_id):
            self._agenda.offer(header.case_id)
        if header.due is not None and header.due < self._next_look:
            self._next_look = header.due
            self._wake.set()

    # --- the workers --------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while (case_id := self._agenda.take()) is not None:
            if self._more and len(self._agenda) < self.workers:
                self._wake.set()
            self._guarded(partial(self._take_turn, self._sources.case(case_id)))

    def _take_turn(self, case: CaseWork) -> None:
        """Make attempts at the work of one case until it has none, or others want their turn."""
        end = time.monotonic() + TURN
        with case.kept():
            while True:
                failures: list[KnhkError] = []
                found = case.hand_out(failures, apart=True)
                for failure in failures:
                    self._note(failure)
                if isinstance(found, Held):
                    self._agenda.hold(case.id, found)
                if found is None or isinstance(found, Held):
                    return
                if found.more:
                    self._agenda.offer(case.id)
                self._make(case, found)
                if self._stopping or (len(self._agenda) and time.monotonic() >= end):
                    case.flush()
                    # Where it has more to do, that commit has put it into the line.
                    return

    def _make(self, case: CaseWork, job: Job) -> None:
        with self._lock:
            self._running[job] = case, time.monotonic()
        try:
            output = self._call(case, job)
        except BaseException as error:  # noqa: BLE001 - whatever user code raises is the failure of its item
            failure = case.fail(job, error)
            if job.attempt.lost and not isinstance(error, TimeoutError):
                # It was let go, and did well to stop.
                failure = None
        else:
            failure = case.finish(job, output)
        finally:
            with self._lock:
                del self._running[job]
        if failure is not None:
            self._note(failure)

    def _call(self, case: CaseWork, job: Job) -> Any:
        function = case.handler(job)
        if self._sources.loop is None or not inspect.iscoroutinefunction(function):
            return case.call(job)
        made = call_within(function(job.work), job.attempt, name=job.label)
        return asyncio.run_coroutine_threadsafe(made, self._sources.loop).result()

    def _note(self, failure: KnhkError) -> None:
        self.failures += 1
        _LOG.error("%s", failure, exc_info=failure)

    def _guarded(self, part: Callable[[], Any]) -> Any:
        """Do a part, and let no failure of it stop the runner."""
        try:
            return part()
        except (QuarantinedCase, ConcurrentUpdate) as error:
            # Set aside with its reason, or moved by another engine: both are in the store, and the rest goes on.
            _LOG.info("a case is left alone: %s", error)
            return None
        except KnhkError:
            self.failures += 1
            _LOG.exception("a round of the runner failed; the next one tries again")
            return None
