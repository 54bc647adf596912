"""External work for workers elsewhere: claimed in batches under a lease, extended, completed, failed, given back.

A claim is committed before it is handed out, and fenced by its token: a worker that died, or comes back after its lease has
ended, changes nothing any more.
Leases without fences are not enough: Kleppmann, "How to do distributed locking", 2016.
"""

from __future__ import annotations

import itertools
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import timedelta
from typing import Any, Final, TypeVar

import attrs

from knhk._attempts import Failure
from knhk._cache import CaseCache
from knhk._codes import Phase
from knhk._resident import Resident
from knhk.case import Case
from knhk.errors import (
    ClaimLost,
    CommandError,
    ConcurrentUpdate,
    DataError,
    IllegalTransition,
    QuarantinedCase,
    UnknownCase,
    UnknownWorkItem,
)
from knhk.ports import ItemRow
from knhk.running import RunningCase
from knhk.spec.durations import milliseconds, parse_duration
from knhk.work.failures import failure_of, shortened
from knhk.work.handlers import Handlers
from knhk.workitem import ItemState

_LOG = logging.getLogger("knhk.work")
_T = TypeVar("_T")

Span = str | int | timedelta
"""A span of time: ``"30s"``, whole milliseconds, or a timedelta."""

LEASE: Final = "30s"
"""How long a claim is held where the worker does not say."""

LOOK_EVERY: Final = 0.5
"""Seconds between looks at the store while a worker waits, for what other processes offer."""

_TOGETHER: Final = 100
"""Cases whose claims share a commit."""

_TRIES: Final = 5
"""How often a command on a case is tried that other engines move at the same time."""


@attrs.define(eq=False)
class Claim:
    """
    External work that a worker has until its lease ends.

    Args:
        id: names the work: ``case:number``.
        token: names this attempt at it; whoever gives an older one is refused.
        case_id, number, path: the work item, and where it stands: ``ship/label``, ``notify#2``.
        topic, worker: under which it was offered, and who has it.
        attempt: 1 for the first; more when an earlier one failed or its lease ended.
        data: a copy of what the work is given.
        item, index: the element and position of a multiple instance, else None.
        deadline: when the lease ends, in milliseconds since the epoch.
    """

    id: str
    token: str
    case_id: str
    number: int
    path: str
    topic: str
    worker: str
    attempt: int
    data: dict[str, Any]
    item: Any
    index: int | None
    deadline: int
    _work: ExternalWork = attrs.field(repr=False)

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt at this piece of work, and for no other."""
        return self.id

    def complete(self, output: Mapping[str, Any] | None = None) -> None:
        """Complete the work, as `ExternalWork.complete`."""
        self._work.complete(self.id, self.token, output)

    def fail(
        self, reason: str = "", *, error: str = "", retry_after: Span | None = None, retryable: bool = True
    ) -> bool:
        """Say that the attempt failed, as `ExternalWork.fail`."""
        return self._work.fail(self.id, self.token, reason, error=error, retry_after=retry_after, retryable=retryable)

    def extend(self, lease: Span | None = LEASE) -> int:
        """Keep the work for so long from now on, as `ExternalWork.extend`."""
        self.deadline = self._work.extend(self.id, self.token, lease)
        return self.deadline

    def release(self) -> None:
        """Give the work back, as `ExternalWork.release`."""
        self._work.release(self.id, self.token)


class ExternalWork:
    """
    The work of external tasks over all cases; an engine has it as `external`.

    Every command on a claim names the work and the token that `claim` gave; a `Claim` does so by itself.

    Args:
        cache, handlers: of the engine.
    """

    def __init__(self, cache: CaseCache, handlers: Handlers) -> None:
        self._cache = cache
        self._handlers = handlers
        self._turns = itertools.count()

    def claim(
        self,
        topics: str | Iterable[str],
        *,
        worker: str,
        max: int = 1,  # noqa: A002 - the word that users know
        lease: Span | None = LEASE,
        wait: Span | None = None,
    ) -> list[Claim]:
        """
        Take offered work, the oldest cases' first, and of several topics a piece of each in turn.

        The claims are committed, those of many cases together, before they are returned.
        A lease is never longer than the `timeout` of its task, nor goes beyond the `deadline` of its retry policy.
        Of a task with several instances each is a claim of its own.

        Args:
            topics: one, or several.
            worker: who asks, for the history.
            max: how many claims at the most.
            lease: how long they are held; None: the `timeout` of the task, or 30 s where it has none.
            wait: how long to wait for work where there is none; None: return at once.

        Returns:
            The claims, none where nothing is offered.

        Raises:
            ValueError: there is no topic, no worker, `max` is less than 1, or a span of time is none.
        """
        wanted = tuple(dict.fromkeys([topics] if isinstance(topics, str) else topics))
        if not wanted or not all(wanted):
            raise ValueError("name the topics whose work is wanted")
        if not worker:
            raise ValueError("say which worker asks for work")
        if max < 1:
            raise ValueError(f"max is at least 1, not {max}")
        span = span_of(lease, "lease")
        end = time.monotonic() + (span_of(wait, "wait") or 0) / 1000
        while True:
            seen = self._cache.offers.count
            claims = self._claim_now(wanted, worker, max, span)
            left = end - time.monotonic()
            if claims or left <= 0:
                return claims
            self._cache.offers.wait(seen, min(left, LOOK_EVERY))

    def complete(self, work: str, token: str, output: Mapping[str, Any] | None = None) -> None:
        """
        Complete claimed work; `output` joins the case's data.

        Raises:
            ClaimLost: the lease has ended, somebody else has the work, or it is gone; nothing happened.
            DataError: the case refuses the output, or the output mapping fails on it; the claim stays.
        """
        plain = self._cache.plain(output, "the output")

        def complete(case: Case, number: int, attempt: int, at: int) -> None:
            item = case.check_claim(number, attempt, "complete", at=at)
            case.complete_item(number, plain, at=at, by=item.by)

        self._do(work, token, "complete", complete)

    def fail(
        self,
        work: str,
        token: str,
        reason: str = "",
        *,
        error: str = "",
        retry_after: Span | None = None,
        retryable: bool = True,
    ) -> bool:
        """
        Say that an attempt failed; what follows is for the retry policy of the task, then for its error flows.

        Args:
            work, token: the claim.
            reason: what people are told of it.
            error: the name that error flows and the policy may have for it; "" is ``Failed``.
            retry_after: the least wait before the next attempt.
            retryable: whether another attempt may help.

        Returns:
            Whether it is taken care of; else the item is a dead letter now.

        Raises:
            ClaimLost: as `complete`.
        """
        after = span_of(retry_after, "retry_after") or 0
        failure = Failure(
            text=shortened(reason),
            kinds=(error,) if error else (),
            retryable=retryable,
            after=after,
            draw=self._handlers.chance.random(),
        )
        return self._do(
            work, token, "fail", lambda case, number, attempt, at: case.fail_claimed(number, attempt, failure, at=at)
        )

    def extend(self, work: str, token: str, lease: Span | None = LEASE) -> int:
        """
        Keep claimed work for so long from now on, under the rules of `claim`.

        Returns:
            When the lease ends, in milliseconds since the epoch.

        Raises:
            ClaimLost: as `complete`.
        """
        span = span_of(lease, "lease")
        return self._do(
            work, token, "extend", lambda case, number, attempt, at: case.extend_claim(number, attempt, span, at=at)
        )

    def release(self, work: str, token: str) -> None:
        """
        Give claimed work back: it is offered again at once, and the attempt does not count.

        Raises:
            ClaimLost: as `complete`.
        """
        self._do(work, token, "release", lambda case, number, attempt, at: case.release_claim(number, attempt, at=at))

    def left(self, deadline: int) -> float:
        """Return how many seconds are left until a lease ends; 0 where it has ended."""
        return max(deadline - self._cache.clock.now(), 0) / 1000

    # --- inside -------------------------------------------------------------------------------------------------------

    def _do(self, work: str, token: str, command: str, change: Callable[[Case, int, int, int], _T]) -> _T:
        """Do a command of whoever has a claim; what others do to its case at the same time does not matter."""
        case_id, number, attempt = _read(work, token, command)
        case = RunningCase(self._cache, self._handlers, case_id)
        tries = 0
        while True:
            tries += 1
            try:
                return case._do(lambda each, at: change(each, number, attempt, at))
            except ConcurrentUpdate:
                if tries == _TRIES:
                    raise
            except UnknownCase as error:
                message = f"cannot {command} work {work!r}: {error}"
                raise ClaimLost(message, status="unknown", command=command) from error

    def _claim_now(self, topics: Sequence[str], worker: str, most: int, lease: int | None) -> list[Claim]:
        self._cache.land()
        turn = next(self._turns) % len(topics)
        offered = [self._offered(topic, most) for topic in (*topics[turn:], *topics[:turn])]
        claims: list[Claim] = []
        while len(claims) < most:
            rows = list(itertools.islice(_in_turn(offered), min(most - len(claims), _TOGETHER)))
            if not rows:
                break
            claims += self._take(rows, worker, most - len(claims), lease)
        return claims

    def _offered(self, topic: str, most: int) -> Iterator[ItemRow]:
        """List what is offered under a topic, by the store's index, a page at a time."""
        after = ("", 0)
        limit = min(max(most, 10), 500)
        while page := self._cache.store.items(topics=[topic], state=ItemState.OFFERED.value, after=after, limit=limit):
            yield from page
            after = (page[-1].case_id, page[-1].number)

    def _take(self, rows: Sequence[ItemRow], worker: str, most: int, lease: int | None) -> list[Claim]:
        """Claim these if they are still there: all in one commit, or where others move their cases, each in its own."""
        claims: list[Claim] = []
        # By id, so that two who take many hold them in the same order.
        order = sorted({row.case_id for row in rows})
        doubtful: list[ItemRow] = []
        residents: dict[str, Resident] = {}
        try:
            with ExitStack() as held:
                for case_id in order:
                    try:
                        residents[case_id] = held.enter_context(self._cache.hold(case_id))
                    except (QuarantinedCase, UnknownCase):
                        continue
                for row in rows:
                    resident = residents.get(row.case_id)
                    if resident is None or len(claims) >= most or resident.case.state.phase is Phase.SUSPENDED:
                        continue
                    taken = self._begin(resident.case, row, worker, most - len(claims), lease)
                    if taken is None:
                        doubtful.append(row)
                    else:
                        claims += taken
                self._cache.commit_all(list(residents.values()))
        except ConcurrentUpdate:
            claims, doubtful = [], list(rows)
        except BaseException:
            # What was begun in memory alone has nobody.
            for each in residents.values():
                self._cache.forget(each)
            raise
        for row in doubtful:
            if len(claims) < most:
                claims += self._take_one(row, worker, most - len(claims), lease)
        return claims

    def _take_one(self, row: ItemRow, worker: str, most: int, lease: int | None) -> list[Claim]:
        def begin(case: Case, _: int) -> list[Claim]:
            taken = self._begin(case, row, worker, most, lease)
            if taken is None:
                # What is in memory may be older than the store: the case looks there, and asks again.
                raise CommandError(f"work item {row.number} of case {row.case_id} is not offered any more")
            return taken

        try:
            return RunningCase(self._cache, self._handlers, row.case_id)._do(begin)
        except (CommandError, QuarantinedCase):
            # Somebody else was faster, or holds the case: the work is his.
            return []

    def _begin(self, case: Case, row: ItemRow, worker: str, most: int, lease: int | None) -> list[Claim] | None:
        """Start an item in memory; None where it is not offered there."""
        now = self._cache.clock.now()
        try:
            numbers = case.claim_item(row.number, by=worker, lease=lease, most=most, at=now)
        except (IllegalTransition, UnknownWorkItem):
            return None
        except (DataError, CommandError) as error:
            _LOG.warning("case %s %s cannot be started for %r: %s", row.case_id, row.path, worker, error)
            return []
        claims = []
        for number in numbers:
            item = case.state.items[number]
            try:
                data = self._cache.plain(case.work_data(number), "the case data")
            except DataError as error:
                case.fail_attempt(number, failure_of(error, draw=self._handlers.chance.random()), at=now)
                continue
            claims.append(
                Claim(
                    id=f"{row.case_id}:{number}",
                    token=f"{number}.{item.attempt}",
                    case_id=row.case_id,
                    number=number,
                    path=case.path(item),
                    topic=row.topic,
                    worker=worker,
                    attempt=item.attempt,
                    data=data,
                    item=case.state.element(item),
                    index=item.instance - 1 if item.instance else None,
                    deadline=case.state.deadlines[number],
                    work=self,
                )
            )
        return claims


def _in_turn(lists: list[Iterator[ItemRow]]) -> Iterator[ItemRow]:
    """Yield from each in turn, so that no topic waits for another; what ended is dropped."""
    while lists:
        for each in tuple(lists):
            row = next(each, None)
            if row is None:
                lists.remove(each)
            else:
                yield row


def _read(work: str, token: str, command: str) -> tuple[str, int, int]:
    """Return the case, the number and the attempt that a claim names; raises ClaimLost where it is none."""
    case_id, _, number = work.rpartition(":")
    of, _, attempt = token.partition(".")
    if not case_id or of != number or not (number.isdecimal() and attempt.isdecimal()):
        message = f"cannot {command} work {work!r}: {token!r} is no token of it"
        raise ClaimLost(message, status="unknown", command=command)
    return case_id, int(number), int(attempt)


def span_of(span: Span | None, what: str) -> int | None:
    """Return a span of time in milliseconds, None for none; raises ValueError where it is not longer than nothing."""
    if span is None:
        return None
    if isinstance(span, bool) or (isinstance(span, float) and not math.isfinite(span)):
        raise ValueError(f"{what} is a span of time, not {span!r}")
    length = span if isinstance(span, int) else parse_duration(span) if isinstance(span, str) else milliseconds(span)
    if length <= 0:
        raise ValueError(f"{what} must be longer than nothing, not {span}")
    return length
