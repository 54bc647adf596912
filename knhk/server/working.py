"""What workers elsewhere and dead letters are asked for, of one engine; `knhk.server.service` says whose."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from knhk.engine import Engine
from knhk.server import shapes
from knhk.server.problems import Problem
from knhk.work.claims import LEASE, Claim
from knhk.work.dead_letter import DeadLetter
from knhk.work.dead_messages import is_message

MOST_RUNS: Final = 5
"""Cases whose work calls do at once; for further ones the background does it."""

MOST_JUDGED: Final = 3
"""Verifications at once; further ones are refused for now."""

PLACE_WITHIN: Final = 1.0
"""Seconds that a call waits for a place among these."""

MOST_POLLS: Final = 6
"""Calls that wait for work at once, each with a thread; further ones are answered at once."""

_LOOK: Final = 1.0


class Places:
    """
    Lets a bounded number of calls take long, so that threads are left for all others, probes above all.

    Args:
        count: so many at once.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._free = threading.BoundedSemaphore(count)

    def take(self) -> bool:
        """Take a place; False where none became free in time."""
        return self._free.acquire(timeout=PLACE_WITHIN)

    def give(self) -> None:
        """Give a place back."""
        self._free.release()

    @contextmanager
    def one(self) -> Iterator[None]:
        """Have a place for as long as this lasts; raises Problem where none became free in time."""
        if not self.take():
            detail = f"{self._count} calls of this kind, which take long, are under way"
            raise Problem(kind="rate-limited", detail=detail, headers={"Retry-After": "1"})
        try:
            yield
        finally:
            self.give()


class Polls:
    """Lets a bounded number of calls wait for work, until the instance ends."""

    def __init__(self) -> None:
        self._places = threading.BoundedSemaphore(MOST_POLLS)
        self._over = threading.Event()

    def end(self) -> None:
        """Let nobody wait any more."""
        self._over.set()

    def pause(self, seconds: float) -> bool:
        """Wait so long; returns whether the instance ends, so that nobody should go on waiting."""
        return self._over.wait(seconds)

    def poll(self, claim: Callable[[float], list[Claim]], seconds: float, left: Callable[[], float]) -> list[Claim]:
        """
        Claim, and wait for something to claim, where there is a place to wait in.

        Args:
            claim: claims, and waits so many seconds.
            seconds: to wait.
            left: how many seconds the caller still waits; 0 where he has gone, and nothing more is claimed for him.
        """
        claims = claim(0.0)
        if claims or seconds <= 0 or not self._places.acquire(blocking=False):
            return claims
        try:
            end = time.monotonic() + seconds
            while not claims and not self._over.is_set() and (wait := min(end - time.monotonic(), left())) > 0:
                claims = claim(min(wait, _LOOK))
        finally:
            self._places.release()
        return claims


def claim_work(
    engine: Engine, polls: Polls, body: shapes.ClaimWork, worker: str, left: Callable[[], float]
) -> shapes.Page:
    """Take external work under a lease."""

    def claim(wait: float) -> list[Claim]:
        return engine.external.claim(
            body.topics,
            worker=worker,
            max=body.max,
            lease=_span(body.lease),
            wait=_whole(wait) if wait else None,
        )

    claims = polls.poll(claim, body.wait, left)
    if claims and left() <= 0:
        # He went while he waited: it is somebody else's at once, and not only when the lease has ended.
        for each in claims:
            each.release()
        raise Problem(kind="deadline")
    return shapes.Page(items=[_claim(each, engine.external.left(each.deadline)) for each in claims], next=None)


def fail_work(engine: Engine, work: str, body: shapes.FailWork) -> shapes.Failed:
    """Say that claimed work has failed."""
    after = _whole(body.retry_after) if body.retry_after else None
    handled = engine.external.fail(
        work, body.token, body.reason, error=body.error, retry_after=after, retryable=body.retryable
    )
    return shapes.Failed(handled=handled)


def extend_work(engine: Engine, work: str, body: shapes.ExtendWork) -> shapes.Extended:
    """Keep claimed work for longer."""
    deadline = engine.external.extend(work, body.token, _span(body.lease))
    return shapes.Extended(deadline=_time(deadline), lease=engine.external.left(deadline))


def list_letters(engine: Engine, wanted: Mapping[str, str | None], *, limit: int, after: str) -> shapes.Page:
    """List work that has failed for good, and messages that did not arrive."""
    case, _, number = after.rpartition(":")
    place = after if is_message(after) or (case and number.isdecimal() and len(number) <= 12) else ""
    found = engine.dead_letters.list(**wanted, after=place, limit=limit + 1)
    items = [_letter(each) for each in found[:limit]]
    return shapes.Page(items=items, next=items[-1].id if len(found) > limit else None)


def show_letter(engine: Engine, letter_id: str) -> shapes.WholeDeadLetter:
    """Return work that has failed for good with what it was given, or a message that did not arrive with what it says."""
    found = engine.dead_letters.get(letter_id)
    return shapes.WholeDeadLetter(**_told(found), data=found.data, item=found.item, index=found.index)


def _span(seconds: float | None) -> str | timedelta:
    return LEASE if seconds is None else _whole(seconds)


def _whole(seconds: float) -> timedelta:
    """Return a span of time, at least a millisecond, which is what the engine counts in."""
    return timedelta(milliseconds=max(1, round(seconds * 1000)))


def _time(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _claim(claim: Claim, lease: float) -> shapes.Claim:
    return shapes.Claim(
        id=claim.id,
        token=claim.token,
        case_id=claim.case_id,
        number=claim.number,
        path=claim.path,
        topic=claim.topic,
        worker=claim.worker,
        attempt=claim.attempt,
        deadline=_time(claim.deadline),
        lease=lease,
        data=claim.data,
        item=claim.item,
        index=claim.index,
    )


def _letter(letter: DeadLetter) -> shapes.DeadLetter:
    return shapes.DeadLetter(**_told(letter))


def _told(letter: DeadLetter) -> dict[str, Any]:
    """Return what is told of a dead letter wherever one is."""
    told = {name: getattr(letter, name) for name in shapes.DeadLetter.__struct_fields__}
    return {**told, "at": None if letter.at is None else _time(letter.at)}
