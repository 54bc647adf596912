"""A worker elsewhere: takes external work from a service, does it in threads of this process, and says what became of it.

Three kinds of threads: whoever calls `Worker.run` claims; one thread for each piece of work calls its handler and reports; the
*keeper* extends leases.
"""

from __future__ import annotations

import inspect
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import attrs

from knhk._plain import plain_data
from knhk.client.claimed import LOG, ClaimedWork
from knhk.client.client import Client
from knhk.client.leases import Leases
from knhk.client.pacing import Pace
from knhk.client.results import Claim
from knhk.errors import (
    ClaimLost,
    ConcurrentUpdate,
    KnhkError,
    OutboundError,
    ResponseRefused,
    StoreError,
)
from knhk.work.failures import failure_of

Handler = Callable[[ClaimedWork], Mapping[str, Any] | None]
_H = TypeVar("_H", bound=Handler)

_FIRST_WAIT: Final = 0.2
_LONGEST_WAIT: Final = 10.0
_LONGEST_IDLE: Final = 2.0
_MOST_CLAIMS: Final = 100
_LONGEST_NAME: Final = 128
_LONGEST_RETRY_AFTER: Final = 31_536_000.0


@attrs.frozen(kw_only=True)
class _Task:
    run: Handler
    heartbeat: float | None
    non_retryable: tuple[type[BaseException], ...]


class Worker:
    """
    Does external work of the topics for which it has functions, until it is stopped.

    Args:
        client: where the work comes from.
        name: who does it, for the history; host and process where none is given.
        concurrency: how many pieces of work are done at once; no more than there are free hands for is claimed.
        lease: seconds for which work is claimed, and extended when a third of them has passed; a worker that dies is replaced
            after so long.
        wait: seconds, at most 20, that the service may let a claim wait for work; `stop` may take as long.
        drain: seconds that handlers have to end when the worker stops; then their work is given back.
        seconds, chance: clock and chance.
    """

    def __init__(
        self,
        client: Client,
        *,
        name: str = "",
        concurrency: int = 8,
        lease: float = 30.0,
        wait: float = 5.0,
        drain: float = 30.0,
        seconds: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        if concurrency < 1:
            raise ValueError(f"a worker needs at least 1 hand, not {concurrency}")
        for what, span in (("lease", lease), ("wait", wait), ("drain", drain)):
            if not span > 0:
                raise ValueError(f"{what} must be longer than nothing, not {span}")
        self.name = name or f"{socket.gethostname()}-{os.getpid()}"[-_LONGEST_NAME:]
        self.concurrency, self.lease, self.wait, self.drain = concurrency, lease, wait, drain
        self._client, self._seconds, self._chance = client, seconds, chance
        self._tasks: dict[str, _Task] = {}
        self._running: dict[str, ClaimedWork] = {}
        self._leases = Leases()
        self._changed = threading.Condition()
        self._stopping = self._over = False

    @property
    def topics(self) -> tuple[str, ...]:
        """Whose work it does."""
        return tuple(self._tasks)

    @property
    def running(self) -> tuple[ClaimedWork, ...]:
        """What it has."""
        with self._changed:
            return tuple(self._running.values())

    def task(
        self,
        *topics: str,
        heartbeat: float | None = None,
        non_retryable: type[BaseException] | tuple[type[BaseException], ...] = (),
    ) -> Callable[[_H], _H]:
        """
        Name a function as what does the work of these topics.

        It is given a `ClaimedWork` and returns what joins the case's data, or None; it runs in several threads at once.
        An exception is a failed attempt: the task's retry policy says what follows, but for its attributes ``retryable`` that
        is False and ``retry_after`` in seconds.

        Args:
            topics: one or several.
            heartbeat: seconds within which the function has to call `ClaimedWork.heartbeat` for its lease to be extended; None:
                it is extended until the function returns.
            non_retryable: exceptions that no further attempt helps against.

        Raises:
            ValueError: there is no topic, it has a function already, or the function is asynchronous.
        """
        if not topics or not all(topics):
            raise ValueError("name the topics whose work the function does")
        twice = [each for each in topics if each in self._tasks]
        if twice:
            raise ValueError(f"topic {twice[0]!r} has a function already")
        never = non_retryable if isinstance(non_retryable, tuple) else (non_retryable,)

        def decorate(function: _H) -> _H:
            if not callable(function) or inspect.iscoroutinefunction(function):
                kind = "asynchronous: a worker calls plain functions" if callable(function) else "no function"
                raise ValueError(f"what is to do the work of topic {topics[0]!r} is {kind}")
            task = _Task(run=function, heartbeat=heartbeat, non_retryable=never)
            self._tasks.update(dict.fromkeys(topics, task))
            return function

        return decorate

    def run(self, *topics: str) -> None:
        """
        Take work and do it until `stop`; returns when what ran has ended, or was given back.

        A service that is out of reach is asked again, with growing waits.

        Args:
            topics: only of these; of all that have functions where none is named.

        Raises:
            ValueError: no function does any work, or that of a topic which is named.
            KnhkError: why the service refuses the very first claim, where asking again does not help.
        """
        if not self._tasks:
            raise ValueError("no function does any work: name one with @worker.task(topic)")
        for each in topics:
            if each not in self._tasks:
                raise ValueError(f"no function does the work of topic {each!r}; there are {', '.join(self._tasks)}")
        keeper = threading.Thread(target=self._keep_on, name="knhk-keeper", daemon=True)
        keeper.start()
        try:
            self._take(topics or self.topics)
        finally:
            self._end()
            keeper.join()

    def stop(self) -> None:
        """Claim nothing more; any thread may say so, and `run` returns when the work is done or given back."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    # --- claiming -----------------------------------------------------------------------------------------------------

    def _take(self, topics: tuple[str, ...]) -> None:
        """Claim as long as it is not stopped."""
        pace = Pace(_FIRST_WAIT, _LONGEST_WAIT, self._chance)
        idle = Pace(_FIRST_WAIT, _LONGEST_IDLE, self._chance)
        known = False
        while (free := self._free()) > 0:
            asked = self._seconds()
            try:
                claims = self._client.work.claim(
                    *topics, worker=self.name, max=min(free, _MOST_CLAIMS), lease=self.lease, wait=self.wait
                )
            except KnhkError as error:
                if not known and not _may_pass(error):
                    raise
                wait = pace.failed(_asked(error))
                LOG.warning("no work can be claimed, again in %.1f s: %s", wait, error)
                self._pause(wait, lambda: self._stopping)
                continue
            known = True
            pace.worked()
            for claim in claims:
                self._begin(claim)
            if claims:
                idle.worked()
            elif self._seconds() - asked < self.wait / 2:
                # Where as many wait as the service lets, it answers at once.
                self._pause(idle.failed(), lambda: self._stopping)

    def _free(self) -> int:
        """Wait for a free hand; returns how many there are, 0 where no work is to be taken any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or len(self._running) < self.concurrency)
            return 0 if self._stopping else self.concurrency - len(self._running)

    def _pause(self, seconds: float, over: Callable[[], bool]) -> None:
        with self._changed:
            self._changed.wait_for(over, seconds)

    def _begin(self, claim: Claim) -> None:
        """Begin claimed work, or give it back where the worker stops."""
        work = ClaimedWork(claim, self._seconds)
        with self._changed:
            begins = not self._stopping
            if begins:
                self._running[work.id] = work
                self._leases.hold(work.id, claim.lease, self._seconds())
                self._changed.notify_all()
        if begins:
            threading.Thread(target=self._do, args=(work,), name=f"knhk-work-{work.id}", daemon=True).start()
        else:
            self._give_back(work)

    # --- doing --------------------------------------------------------------------------------------------------------

    def _do(self, work: ClaimedWork) -> None:
        """Call the function of claimed work, and report."""
        try:
            self._report(work, self._outcome(work))
        except KnhkError:
            # The lease ends, and the work is offered again.
            LOG.exception("%r cannot be reported", work)
        finally:
            with self._changed:
                self._running.pop(work.id, None)
                self._leases.drop(work.id)
                self._changed.notify_all()

    def _outcome(self, work: ClaimedWork) -> Callable[[], object]:
        """Call the function; returns what tells the service of it."""
        task = self._tasks[work.topic]
        try:
            output = _checked(work, task.run(work))
        except BaseException as error:
            # Whatever the user's code raises is the failure of its attempt.
            work.log.warning("failed", exc_info=error)
            return self._failure(work, error, task.non_retryable)
        return lambda: self._client.work.complete(work.claim, output)

    def _failure(
        self, work: ClaimedWork, error: BaseException, never: tuple[type[BaseException], ...] = ()
    ) -> Callable[[], object]:
        failure = failure_of(error, draw=0.0)
        after = min(failure.after / 1000, _LONGEST_RETRY_AFTER)
        return lambda: self._client.work.fail(
            work.claim,
            failure.text,
            error=failure.kinds[0][:_LONGEST_NAME],
            retryable=failure.retryable and not isinstance(error, never),
            retry_after=after or None,
        )

    def _report(self, work: ClaimedWork, tell: Callable[[], object]) -> None:
        """Tell the service what became of work, as often as it takes, as long as the lease is held."""
        pace = Pace(_FIRST_WAIT, self.lease / 10, self._chance)
        refused = False
        work.reporting = True
        while not work.lost:
            try:
                tell()
            except ClaimLost as error:
                self._lose(work, str(error))
            except KnhkError as error:
                if _may_pass(error) or _is_unauthenticated(error):
                    wait = pace.failed(_asked(error))
                    work.log.warning("cannot be reported, again in %.1f s: %s", wait, error)
                    self._pause(wait, lambda: work.lost != "")
                elif refused:
                    raise
                else:
                    # What the function returned is not taken: that is a failed attempt too.
                    work.log.warning("is refused: %s", error)
                    refused, tell = True, self._failure(work, error)
            else:
                return
        work.log.warning("its result is dropped: %s", work.lost)

    def _lose(self, work: ClaimedWork, why: str) -> None:
        """Note that the work is not this worker's any more."""
        with self._changed:
            if not work.lost:
                work.lost = why
                self._leases.drop(work.id)
                self._changed.notify_all()
                LOG.warning("%r is lost: %s", work, why)

    # --- keeping ------------------------------------------------------------------------------------------------------

    def _keep_on(self) -> None:
        while True:
            with self._changed:
                # New leases are noticed in time, for each is at least as long as what is waited for at most.
                pause = self._leases.next_in(self._seconds())
                if not self._over:
                    self._changed.wait(pause)
                if self._over:
                    return
            self.keep()

    def keep(self) -> None:
        """Extend the leases that are due; the keeper calls this when the time has come."""
        with self._changed:
            now = self._seconds()
            ended = [self._running[each] for each in self._leases.ended(now)]
            due = [self._running[each] for each in self._leases.due(now)]
        for work in ended:
            self._lose(work, "its lease has ended")
        for work in due:
            if not self._extend(work):
                return

    def _extend(self, work: ClaimedWork) -> bool:
        """Extend a lease; returns whether the service can be reached."""
        within = self._tasks[work.topic].heartbeat
        if within is not None and self._seconds() - work.heard > within:
            work.log.warning("nothing was heard of its function for %g s: its lease is not extended", within)
            with self._changed:
                self._leases.leave(work.id)
            return True
        try:
            kept = self._client.work.extend(work.claim, self.lease, timeout=self.lease / 6)
        except ClaimLost as error:
            if work.reporting:
                # It may be what the report has just done; the report will be told otherwise.
                with self._changed:
                    self._leases.leave(work.id)
            else:
                self._lose(work, str(error))
        except KnhkError as error:
            work.log.warning("its lease cannot be extended: %s", error)
            with self._changed:
                self._leases.again(work.id, self._seconds())
            return not isinstance(error, OutboundError)
        else:
            with self._changed:
                if work.id in self._leases:
                    self._leases.hold(work.id, kept.lease, self._seconds())
        return True

    # --- ending -------------------------------------------------------------------------------------------------------

    def _end(self) -> None:
        """Let what runs end in time, give the rest back, and let the keeper go."""
        with self._changed:
            self._stopping = True
            self._changed.wait_for(lambda: not self._running, self.drain)
            left = list(self._running.values())
        for work in left:
            self._lose(work, f"the worker stopped, and its function did not end within {self.drain:g} s")
            self._give_back(work)
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def _give_back(self, work: ClaimedWork) -> None:
        try:
            self._client.work.release(work.claim)
        except KnhkError as error:
            work.log.warning("cannot be given back, and is offered again when its lease ends: %s", error)


def _checked(work: ClaimedWork, returned: object) -> dict[str, Any]:
    """Return what a function returned as JSON data."""
    if returned is not None and not isinstance(returned, Mapping):
        kind = type(returned).__name__
        raise TypeError(f"the function of topic {work.topic!r} has to return a mapping or None, not {kind}")
    return plain_data(returned, "the output")


def _may_pass(error: KnhkError) -> bool:
    """Whether what was refused may be done when it is asked again."""
    if isinstance(error, OutboundError):
        return error.retryable
    return isinstance(error, (StoreError, ConcurrentUpdate))


def _is_unauthenticated(error: KnhkError) -> bool:
    """Whether a fresh token may help."""
    return isinstance(error, ResponseRefused) and error.status == 401


def _asked(error: KnhkError) -> float | None:
    """Return the wait that a refusal asks for."""
    return error.retry_after if isinstance(error, OutboundError) else None
