"""One attempt at a handler's work while it is made: its time, its heartbeats, and whether anybody still wants its result.

A function that runs in a thread cannot be stopped from outside.
So what bounds an attempt is its *fence*: once an attempt is lost (out of time, cancelled, handed back) its outcome is recorded
by others, and whatever its function returns later is refused and told to the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import threading
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final

from knhk.ports import Clock, Document
from knhk.spec.durations import format_duration

_LOG = logging.getLogger("knhk.work")

GLANCE: Final = 0.25
"""Seconds between looks at an attempt that has a time limit, since a clock may be moved under it."""


def ticks(clock: Clock) -> Callable[[], int]:
    """Return what measures spans of time: the clock's ``monotonic()`` where it has one, else its ``now()``."""
    measure: Callable[[], int] = getattr(clock, "monotonic", clock.now)
    return measure


class LostAttempt(Exception):
    """Nobody wants the result of an attempt any more; says why."""


class Attempt:
    """
    An attempt that is made now.

    Args:
        now: tells the time in milliseconds, and never runs backwards.
        timeout: how long it may take; None: no limit.
        heartbeat: how long it may be silent; None: no limit.

    Attributes:
        lost: why nobody wants its result any more; "" while somebody does.
        said: what its last heartbeat said.
        kept: what of that is on record.
        kept_at: when whoever looks after it last put that on record, by a clock of its own.
        when_lost: is called once when it is lost.
        number: which attempt at its work it is, from 1, where work is shared.
        tenure: the document under which it was begun, where work is shared.
    """

    __slots__ = (
        "_begun",
        "_heard",
        "_now",
        "heartbeat",
        "kept",
        "kept_at",
        "lost",
        "number",
        "said",
        "tenure",
        "timeout",
        "when_lost",
    )

    def __init__(self, now: Callable[[], int], *, timeout: int | None = None, heartbeat: int | None = None) -> None:
        self.number = 0
        self.tenure: Document | None = None
        self._now = now
        self.timeout = timeout
        self.heartbeat = heartbeat
        self._begun = self._heard = now() if timeout is not None or heartbeat is not None else 0
        self.lost = ""
        self.said: object = None
        self.kept: object = None
        self.kept_at = 0.0
        self.when_lost: Callable[[], object] | None = None

    @property
    def bounded(self) -> bool:
        """Whether it has a time limit at all."""
        return self.timeout is not None or self.heartbeat is not None

    def beat(self, said: object) -> None:
        """Note that its function is alive, and what it said, if anything."""
        if said is not None:
            self.said = said
        if self.heartbeat is not None:
            self._heard = self._now()

    def lose(self, why: str) -> None:
        """Let nobody want its result any more; the first reason stays."""
        if not self.lost:
            self.lost = why
            if self.when_lost is not None:
                self.when_lost()

    def left(self) -> int | None:
        """Return for how many milliseconds it may still go on unheard; None: without limit."""
        now = self._now()
        ends = [
            since + span
            for since, span in ((self._begun, self.timeout), (self._heard, self.heartbeat))
            if span is not None
        ]
        return min(ends) - now if ends else None

    def verdict(self) -> TimeoutError | None:
        """Return what it failed of, if its time is up."""
        now = self._now()
        if self.timeout is not None and now - self._begun >= self.timeout:
            return TimeoutError(f"no result within {format_duration(self.timeout)}")
        if self.heartbeat is not None and now - self._heard >= self.heartbeat:
            said = "" if self.said is None else f"; the last said {self.said!r}"
            return TimeoutError(f"no heartbeat for {format_duration(self.heartbeat)}{said}")
        return None

    def glance(self) -> float | None:
        """Return for how many seconds to wait before its time is looked at again; None: it has no limit."""
        left = self.left()
        return None if left is None else min(max(left, 0) / 1000 + 0.001, GLANCE)


def wake(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    """Set an event of a loop from any thread; on a loop that is closed nobody is left to wake."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(event.set)


async def call_within(function: Coroutine[Any, Any, Any], attempt: Attempt, *, name: str) -> Any:
    """
    Await a coroutine for as long as its attempt may take and somebody wants its result, then cancel it and go on without it.

    Raises:
        TimeoutError: its time is up.
        LostAttempt: nobody wants its result any more.
        Exception: what it raised.
    """
    loop, lost = asyncio.get_running_loop(), asyncio.Event()
    attempt.when_lost = partial(wake, loop, lost)
    task, waiter = asyncio.ensure_future(function), asyncio.ensure_future(lost.wait())
    try:
        while True:
            await asyncio.wait({task, waiter}, timeout=attempt.glance(), return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            error = LostAttempt(attempt.lost) if attempt.lost else attempt.verdict()
            if error is not None:
                attempt.lose(str(error))
                task.add_done_callback(partial(_came_back, name=name, why=attempt.lost))
                task.cancel()
                raise error
    except asyncio.CancelledError:
        task.cancel()
        await asyncio.wait({task})
        raise
    finally:
        attempt.when_lost = None
        waiter.cancel()


def _came_back(task: asyncio.Future[Any], *, name: str, why: str) -> None:
    """Tell of what a coroutine still did after its time was up; that it was cancelled is as it should be."""
    if not task.cancelled():
        error = task.exception()
        said = "" if error is None else f", raising {error!r}"
        _LOG.warning("%s came back after its attempt had failed (%s)%s: its result is refused", name, why, said)


class Watch:
    """
    Calls functions whose attempts have a time limit, each in a thread of its own, and leaves those that do not come back.

    Attributes:
        stuck: threads that were left and have not come back; each holds whatever its function holds.
        many: how many of them are too many, which is told to the log as an error.
    """

    def __init__(self, *, many: int = 8) -> None:
        self.many = many
        self.stuck = 0
        self._lock = threading.Lock()

    def call(self, function: Callable[[Any], Any], work: Any, attempt: Attempt, *, name: str) -> Any:
        """
        Call a function and return what it returns.

        Raises:
            TimeoutError: its time is up; the thread is left alone, and its result will be refused.
            LostAttempt: nobody wants its result any more; as before.
            Exception: what the function raised.
        """
        this = _Call()
        context = contextvars.copy_context()

        def run() -> None:
            try:
                this.output = context.run(function, work)
            except BaseException as error:  # noqa: BLE001 - it is raised where it was asked for
                this.error = error
            finally:
                self._come_back(this, attempt, name)

        threading.Thread(target=run, name=f"knhk-{name}", daemon=True).start()
        while not this.finished.wait(attempt.glance()):
            error = LostAttempt(attempt.lost) if attempt.lost else attempt.verdict()
            if error is not None and self._leave(this, attempt, error, name):
                raise error
        if this.error is not None:
            raise this.error
        return this.output

    def _leave(self, call: _Call, attempt: Attempt, error: Exception, name: str) -> bool:
        with self._lock:
            if call.finished.is_set():
                return False
            call.left = True
            attempt.lose(str(error))
            self.stuck += 1
            stuck = self.stuck
        if stuck >= self.many:
            _LOG.error(
                "%d threads are stuck in handlers that ran out of time, the last in %s: "
                "they hold what their functions hold until these return; give what these call a timeout of its own",
                stuck,
                name,
            )
        return True

    def _come_back(self, call: _Call, attempt: Attempt, name: str) -> None:
        with self._lock:
            call.finished.set()
            self.stuck -= call.left
        if call.left:
            _LOG.warning("%s came back after its attempt had failed (%s): its result is refused", name, attempt.lost)


class _Call:
    """A function that was called in a thread: whether it has come back, with what, and whether that is too late."""

    __slots__ = ("error", "finished", "left", "output")

    def __init__(self) -> None:
        self.finished = threading.Event()
        self.output: Any = None
        self.error: BaseException | None = None
        self.left = False
