"""
Group commit: callers that wait at the same time share one write.

Whoever comes while nobody writes, writes at once: a lone caller waits for nothing but its own sync, in its own thread.
Whoever comes meanwhile queues; when the write is done the first in the queue leads the next one, and takes along who queued
behind it.
So a group is whoever came while the previous write ran; no time is waited, and no group is overtaken.
Where several groups may be written at the same time, a further one begins beside others as soon as it has half of the callers
that there were lately: else there would be many small ones, each of which costs nearly as much.
Each waiter sleeps on a lock of its own, so that exactly those are woken whose outcome is known.
The leader wakes one of its group and each wakes the next: all at once they would only queue for the interpreter.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final

import attrs

from knhk.errors import KnhkError, StoreUnavailable
from knhk.ports import Commit

MAX_CALLERS: Final = 1024
"""Callers whose commits share one write at most."""

MAX_BYTES: Final = 4 * 1024 * 1024
"""Bytes of batches and snapshots from which on a group takes no further caller."""


@attrs.define(eq=False)
class Caller:
    """
    One call of `commit`, which is stored whole or not at all.

    Args:
        commits: its steps.
        prepared: what its store has made of them, for `write`.
        error: why it is refused, if it is; stands once it is settled.
        settled: whether its outcome is known.
        wake: held until the outcome is known or the caller is to lead.
        woken: whether somebody has let go of that, or is about to.
        waits: whether it has queued.
        begins: whether it leads because it could begin when it came.
        leads: whether it has taken up a group.
        next: whom it wakes when it is woken itself.
        company: further callers of the same thread, which go where it goes, each with an outcome of its own; they never wait.
    """

    commits: Sequence[Commit]
    prepared: Any = None
    error: BaseException | None = None
    settled: bool = False
    wake: threading.Lock = attrs.field(factory=threading.Lock)
    woken: bool = False
    waits: bool = False
    begins: bool = False
    leads: bool = False
    next: Caller | None = None
    company: Sequence[Caller] = ()

    @property
    def size(self) -> int:
        """Bytes of its batches and snapshots, and of those of its company."""
        own = sum(len(each.batch) + len(each.snapshot or b"") for each in self.commits)
        return own + sum(each.size for each in self.company)

    def call(self) -> None:
        """Wake it."""
        self.woken = True
        self.wake.release()

    def pass_on(self) -> None:
        """Wake the next, once."""
        following, self.next = self.next, None
        if following is not None:
            following.call()


def settle(group: Sequence[Caller]) -> None:
    """Say that a group's outcome is known: each caller is stored, or has its error."""
    for each in group:
        each.settled = True


class GroupCommit:
    """
    Gathers callers into groups.

    Args:
        write: stores a group and returns when it is durable; whom it refuses it gives an `error`.
            When it raises, nothing of the group is stored, unless it has settled it before.
        max_callers, max_bytes: where a group ends although more are waiting.
        leaders: how many groups may be written at the same time; with several, `write` is called by several threads, and whoever
            makes a further group large enough to begin leads it.
    """

    def __init__(
        self,
        write: Callable[[Sequence[Caller]], None],
        *,
        max_callers: int = MAX_CALLERS,
        max_bytes: int = MAX_BYTES,
        leaders: int = 1,
    ) -> None:
        self._write = write
        self._max_callers = max_callers
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._queue: deque[Caller] = deque()
        self._leaders = self._free = leaders
        self._under_way = 0
        self._crowd = 0

    def commit(self, commits: Sequence[Commit], prepared: Any = None) -> None:
        """Return when the steps are durable; raises what `write` refused them with, or what it raised."""
        self._commit(Caller(commits, prepared))

    def commit_each(
        self, calls: Sequence[Sequence[Commit]], prepare: Callable[[Sequence[Commit]], Any]
    ) -> list[KnhkError | None]:
        """
        Return when each of several calls is durable or refused: for each None, or why.

        Args:
            calls: the steps of each.
            prepare: makes of a call's steps what `write` wants of them, or raises why they are refused.
        """
        callers = [Caller(commits) for commits in calls]
        ready = []
        for each in callers:
            if not each.commits:
                continue
            try:
                each.prepared = prepare(each.commits)
            except KnhkError as error:
                each.error = error
            else:
                ready.append(each)
        for head, *company in self._trains(ready):
            head.company = company
            with suppress(KnhkError):
                # It is the head's own error, or one that all of them have.
                self._commit(head)
        return [_known(each.error) for each in callers]

    def _trains(self, callers: Sequence[Caller]) -> Iterator[list[Caller]]:
        """Yield callers together as far as one group may have them."""
        train: list[Caller] = []
        size = 0
        for each in callers:
            if train and (len(train) >= self._max_callers or size >= self._max_bytes):
                yield train
                train, size = [], 0
            train.append(each)
            size += each.size
        if train:
            yield train

    def _commit(self, caller: Caller) -> None:
        try:
            with self._lock:
                # What is noted of the caller is noted just before it is so, with nothing between that an interrupt could divide.
                if self._may_begin(len(self._queue) + 1):
                    caller.begins = True
                    self._free -= 1
                else:
                    caller.wake.acquire()
                    caller.waits = True
                    self._queue.append(caller)
            if caller.waits:
                caller.wake.acquire()
                caller.pass_on()
            if not caller.settled:
                self._lead(caller)
        except BaseException:
            if not caller.leads:
                self._leave(caller)
            raise
        if caller.error is not None:
            raise caller.error

    def _leave(self, caller: Caller) -> None:
        """
        Let a caller go that was interrupted before it took up a group.

        Still queued, it is as if it had never come; in a group, it is stored whole or not at all and nobody waits for the answer;
        where it was to lead, it must hand on what others wait for.
        """
        with self._lock:
            queued = caller in self._queue
            if queued:
                self._queue.remove(caller)
        if queued or not (caller.waits or caller.begins):
            return
        if caller.waits:
            # The interrupt may have come when it had just been woken: then nobody wakes it again.
            if not caller.woken:
                caller.wake.acquire()
            caller.pass_on()
        if not caller.settled:
            self._hand_on()

    def _lead(self, caller: Caller) -> None:
        heads = group = [caller]
        written = 0
        try:
            caller.leads = True
            with self._lock:
                self._gather(heads)
                written = len(heads)
                self._under_way += written
                self._crowd = max(self._under_way + len(self._queue), self._crowd * 7 // 8)
            group = [each for head in heads for each in (head, *head.company)]
            self._write(group)
            settle(group)
        except BaseException as error:
            for each in group:
                if not each.settled:
                    each.error = error if each is caller else another(error)
                    each.settled = True
            raise
        finally:
            self._hand_on(written)
            caller.pass_on()

    def _gather(self, heads: list[Caller]) -> None:
        if not self._queue:
            return
        count, size = 1 + len(heads[0].company), heads[0].size
        while self._queue and count < self._max_callers and size < self._max_bytes:
            following = self._queue.popleft()
            heads[-1].next = following
            heads.append(following)
            count += 1 + len(following.company)
            size += following.size

    def _hand_on(self, written: int = 0) -> None:
        """Let the first in the queue lead, or nobody where nobody waits or too few do beside another group."""
        with self._lock:
            self._under_way -= written
            self._free += 1
            heir = None
            if self._queue and self._may_begin(len(self._queue)):
                self._free -= 1
                heir = self._queue.popleft()
        if heir is not None:
            heir.call()

    def _may_begin(self, size: int) -> bool:
        """Whether a group that is as large now may begin."""
        return self._free == self._leaders or (self._free > 0 and 2 * size >= self._crowd)


def _known(error: BaseException | None) -> KnhkError | None:
    """Return why a caller is refused; raises what is no refusal but our bug."""
    if error is None or isinstance(error, KnhkError):
        return error
    raise error


def another(error: BaseException) -> BaseException:
    """Return an exception of its own for each caller: a traceback and notes are not for several threads."""
    if isinstance(error, KnhkError):
        own: BaseException = type(error)(*error.args)
    else:
        own = StoreUnavailable(
            f"the commit was abandoned, because another in its group met {error!r}; nothing was written"
        )
    own.__cause__ = error
    return own
