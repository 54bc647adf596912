"""
The events of a case as they happen, until it has ended: over gRPC an instance tells them, over HTTP it is asked again and again.

As in `knhk.client.core` nothing is sent here and nobody waits.  Where a stream breaks, or a look is not answered, it goes on from
the last event, with another instance where there is one; so nothing is left out, and nothing comes twice.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from typing import Any, Final

import attrs

from knhk.client.core import FIRST_WAIT, LONGEST_WAIT, Answer, Core, Lost, Next, Request, Send, Wait
from knhk.client.pacing import Pace
from knhk.client.results import Event, read
from knhk.errors import KnhkError, OutboundError, ResponseRefused, StoreUnavailable

LISTEN: Final = 60.0
"""Seconds after which a stream is begun anew: one that broke without a sign is missed for no longer."""

_PAGE: Final = 1_000
_ENDED: Final = ("completed", "cancelled")


@attrs.frozen
class Found:
    """An event, for whoever watches."""

    event: Event


Steps = Generator[Send | Wait | Next | Found, Answer | Lost | None, bool]


class Watch:
    """
    What is to be done to hear of a case's events.

    Args:
        core: the endpoints.
        case_id: of the case.
        after: the sequence number of the last event that is known; 0: none is.
        every: seconds between looks, where nothing is told.
        streams: whether instances tell.

    Raises:
        ValueError: no event has such a number, or no time would be between looks.
    """

    def __init__(self, core: Core, case_id: str, *, after: int, every: float, streams: bool) -> None:
        if after < 0 or not every > 0:
            raise ValueError(f"after is 0 or a sequence number and every is above 0, not {after} and {every}")
        self._core = core
        self._path = f"/cases/{case_id}"
        self._case_id = case_id
        self._after = after
        self._every = every
        self._streams = streams
        self._seen = -1
        self._tried: set[str] = set()
        self._pace = Pace(FIRST_WAIT, LONGEST_WAIT, core.settings.chance)
        self._failing: float | None = None
        self._accepted = False

    def steps(self) -> Steps:
        """
        Yield what is to be done, and each event; returns when the case has ended.

        Raises:
            OutboundError, StoreUnavailable: no endpoint could answer for the time that a call may take.
            KnhkError: why the service does not tell.
        """
        while True:
            begun = self._core.settings.seconds()
            self._accepted = False
            try:
                ended = yield from (self._hear() if self._streams else self._look())
            except KnhkError as error:
                yield Wait(self._wait(error, begun))
                continue
            if ended:
                return True
            yield Wait(self._every)

    def _hear(self) -> Steps:
        """Hear what an instance tells until the case has ended."""
        request = Request(
            method="GET",
            path=f"{self._path}/history",
            query={"after": self._after},
            affinity=self._case_id,
            safe=True,
        )
        stream = yield from self._core.open(request, self._tried, LISTEN)
        try:
            while (said := (yield from stream.next())) is not None:
                self._worked()
                if said.content:
                    yield self._found(json.loads(said.content))
        finally:
            stream.close()
        return True

    def _look(self) -> Steps:
        """Ask for the events that have come since; returns whether the case has ended."""
        # The case before its events, so that what happens meanwhile is found at the next look.
        case = yield from self._ask("")
        if case["version"] != self._seen:
            cursor: str | None = str(self._after)
            while cursor is not None:
                page = yield from self._ask("/history", limit=_PAGE, cursor=cursor)
                for event in page["items"]:
                    yield self._found(event)
                cursor = page["next"]
            self._seen = case["version"]
        self._worked()
        return case["state"] in _ENDED

    def _ask(self, what: str, **query: Any) -> Generator[Send | Wait, Answer | Lost | None, Any]:
        request = Request(method="GET", path=self._path + what, query=query, affinity=self._case_id, safe=True)
        return (yield from self._core.call(request))

    def _found(self, event: Mapping[str, Any]) -> Found:
        found = read(Event, event)
        self._after = found.sequence
        return Found(found)

    def _worked(self) -> None:
        self._pace.worked()
        self._failing = None
        self._tried.clear()
        self._accepted = True

    def _wait(self, error: KnhkError, begun: float) -> float:
        """Return the wait before it goes on; raises the error where that would not help, or nothing has for too long."""
        settings = self._core.settings
        now = settings.seconds()
        if self._failing is None:
            self._failing = now if self._accepted else begun
        wait = self._pace.failed(error.retry_after if isinstance(error, OutboundError) else None)
        if not self._passes(error) or now + wait - self._failing > settings.timeout:
            raise error
        return wait

    def _passes(self, error: KnhkError) -> bool:
        if isinstance(error, ResponseRefused) and error.status == 401:
            # A token that counted when the stream began has run out; there may be a fresh one.
            return self._streams and self._accepted
        return isinstance(error, StoreUnavailable) or (isinstance(error, OutboundError) and error.retryable)
