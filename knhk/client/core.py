"""Which endpoint a call goes to, how often it is sent and for how long: all of a call but the sending, for every kind of transport.

`Core.call` is a generator: it yields what is to be done (`Send`, `Wait`) and is sent what came of it (`Answer`, `Lost`); nothing
here opens a socket or waits.  Brett Cannon, "Network protocols, sans I/O", 2016.

Retries are our own few lines and no library's, for each attempt may go to another endpoint, and all of them share one deadline.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote, urlencode

import attrs

from knhk.client.balancing import Balancing, consistent, least_connections, round_robin
from knhk.client.pacing import Budget, jittered
from knhk.client.problems import error_of, kind_of
from knhk.errors import KnhkError, OutboundError, OutboundFailed, ResponseRefused, StoreUnavailable
from knhk.work.breaker import Breaker, BreakerPolicy, Pass

PREFIX: Final = "/api/v1"
FIRST_WAIT: Final = 0.1
LONGEST_WAIT: Final = 5.0
_LOOK_TIMEOUT: Final = 1.0
_LONGEST_BETWEEN_LOOKS: Final = 5.0
_BREAKER: Final = BreakerPolicy(window=10_000, minimum_calls=5, open_for=2_000)


@attrs.frozen(kw_only=True)
class Request:
    """
    A call to make.

    Args:
        method, path: below ``/api/v1``, or at the root where `root` says so.
        query: parts of the query; those that are None are left out.
        body: a JSON value, or None for no body.
        key: the ``Idempotency-Key``.
        expected: the version for ``If-Match``.
        affinity: the case that it is about, for consistent hashing; "" for none.
        safe: whether it may be sent again when it is not known what became of it.
    """

    method: str
    path: str
    query: Mapping[str, Any] = attrs.field(factory=dict)
    body: Any = None
    key: str | None = None
    expected: int | None = None
    affinity: str = ""
    safe: bool = False
    root: bool = False


@attrs.frozen(kw_only=True)
class Settings:
    """
    How calls are made.

    Args:
        token: returns the bearer token, or None where the service asks for none.
        balancing: how calls are spread.
        timeout: seconds that a call may take with all its attempts.
        attempts: how often a call is sent at the most.
        check_every: seconds for which an endpoint is believed to be ready; only asked where there are several.
        seconds, chance: clock and chance.
    """

    token: Callable[[], str | None] = lambda: None
    balancing: Balancing = Balancing.ROUND_ROBIN
    timeout: float = 30.0
    attempts: int = 4
    check_every: float = 0.5
    seconds: Callable[[], float] = time.monotonic
    chance: Callable[[], float] = random.random


@attrs.frozen(kw_only=True)
class Send:
    """
    What a transport is to send.

    Args:
        endpoint: to whom.
        method, url, headers, content: as HTTP has it.
        timeout: within how many seconds it has to be answered.
        request: what is asked, for transports that say it in their own way; None: whether the endpoint is ready.
        streams: whether there is more than one answer: `Next` asks for each.
    """

    endpoint: str
    method: str
    url: str
    headers: Mapping[str, str] = attrs.field(factory=dict)
    content: bytes | None = None
    timeout: float
    request: Request | None = None
    streams: bool = False


@attrs.frozen
class Next:
    """The next answer to what was sent last is wanted; None: there is no more."""


@attrs.frozen
class Wait:
    """For how many seconds a transport is to wait."""

    seconds: float


@attrs.frozen
class Answer:
    """What was answered."""

    status: int
    headers: Mapping[str, str]
    content: bytes


@attrs.frozen
class Lost:
    """Why no answer came; `sent` is False where nothing was sent for certain."""

    error: Exception
    sent: bool


Steps = Generator[Send | Wait, Answer | Lost | None, Any]


@attrs.frozen
class _Outcome:
    """What came of one attempt: an answer, or an error, whether another attempt is safe and may help, and whether nothing was done."""

    answer: Any = None
    error: KnhkError | None = None
    again: bool = False
    untouched: bool = False


class Endpoint:
    """One instance of the service, as the client sees it: calls under way, readiness, breaker."""

    def __init__(self, url: str, now: Callable[[], float]) -> None:
        self.url = url
        self.under_way = 0
        self.ready = True
        self.look_at = float("-inf")
        self.silent = 0
        self.breaker = Breaker(url, _BREAKER, now=lambda: int(now() * 1000))


class Stream:
    """
    The answers of an endpoint to one call; to be closed.

    Args:
        core: whose.
        endpoint, request: who is asked what.
        leave: of its breaker.
    """

    def __init__(self, core: Core, endpoint: Endpoint, request: Request, leave: Pass) -> None:
        self._core = core
        self._endpoint = endpoint
        self._request = request
        self._leave = leave

    def next(self) -> Generator[Next, Answer | Lost | None, Answer | None]:
        """Return the next answer, or None where that was all; raises KnhkError: why there is no more."""
        said = yield Next()
        self._leave.end(_counts(said))
        if said is None or (isinstance(said, Answer) and said.status < 300):
            return said
        error = self._core.outcome(self._endpoint, self._request, said).error
        assert error is not None
        raise error

    def close(self) -> None:
        """Hear no more."""
        self._leave.end(None)
        self._core.leave(self._endpoint)


class Core:
    """
    The endpoints of a client and what is known of them; any number of calls may be under way, in threads or tasks.

    Args:
        urls: of the endpoints, without ``/api/v1``.
        settings: how calls are made.
        schemes: with what the URLs of the transport begin.

    Raises:
        ValueError: there is no URL, or one begins otherwise.
    """

    def __init__(self, urls: Sequence[str], settings: Settings, schemes: Sequence[str] = ("http", "https")) -> None:
        if not urls:
            raise ValueError("a client needs at least one URL")
        for url in urls:
            if url.partition("://")[0] not in schemes or not url.partition("://")[2]:
                likely = " or ".join(f"{each}://host:port" for each in schemes)
                raise ValueError(f"{url!r} is no URL of a service: {likely}")
        self.settings = settings
        self.endpoints = {url.rstrip("/"): Endpoint(url.rstrip("/"), settings.seconds) for url in urls}
        self._budget = Budget()
        self._lock = threading.Lock()
        self._turn = 0

    def call(self, request: Request, within: float | None = None) -> Steps:
        """
        Make a call, again where that is safe and may help; returns the body of the answer, None where it has none.

        Args:
            request: what is asked.
            within: seconds that it may take with all its attempts; None: the settings'.

        Raises:
            OutboundFailed: no answer came, or no endpoint takes calls.
            KnhkError: why the service did not do it.
        """
        settings = self.settings
        end = settings.seconds() + (settings.timeout if within is None else within)
        tried: set[str] = set()
        self._budget.called()
        for attempt in range(1, settings.attempts + 1):
            endpoint = yield from self._choose(request.affinity, tried)
            tried.add(endpoint.url)
            left = end - settings.seconds()
            if left <= 0:
                raise OutboundFailed(f"{request.method} {request.path}: no time is left for it")
            outcome = yield from self._attempt(endpoint, request, left)
            if outcome.error is None:
                return outcome.answer
            elsewhere = bool(self.endpoints.keys() - tried)
            wait = self._wait(attempt, outcome.error, elsewhere=elsewhere)
            last = attempt == settings.attempts or settings.seconds() + wait >= end
            if not outcome.again or last or not ((outcome.untouched and elsewhere) or self._budget.retry()):
                raise outcome.error
            if wait:
                yield Wait(wait)
        raise OutboundFailed(f"{request.method} {request.path}: no attempt is allowed")

    def open(self, request: Request, tried: set[str], timeout: float) -> Generator[Send | Wait, Any, Stream]:
        """
        Begin a call with many answers, and return them.

        Args:
            request: what is asked.
            tried: the endpoints that are asked only where all have been; the one that is asked is added.
            timeout: seconds after which it ends.

        Raises:
            OutboundFailed: the endpoint is left alone for a while.
        """
        endpoint = yield from self._choose(request.affinity, tried)
        tried.add(endpoint.url)
        leave = self._enter(endpoint)
        if leave is None:
            raise _left_alone(endpoint)
        stream = Stream(self, endpoint, request, leave)
        try:
            yield attrs.evolve(self._sent(endpoint, request, timeout), streams=True)
        except BaseException:
            stream.close()
            raise
        return stream

    def _wait(self, attempt: int, error: KnhkError, *, elsewhere: bool) -> float:
        """Return the wait before the next attempt: none to another endpoint, what is asked for, else growing with full jitter."""
        asked = error.retry_after if isinstance(error, OutboundError) else None
        limited = isinstance(error, ResponseRefused) and error.status == 429
        if elsewhere and not limited:
            return 0.0
        return (asked or 0.0) + jittered(attempt, FIRST_WAIT, LONGEST_WAIT, self.settings.chance())

    # --- one attempt --------------------------------------------------------------------------------------------------

    def _attempt(self, endpoint: Endpoint, request: Request, left: float) -> Generator[Send, Any, _Outcome]:
        """Send once."""
        leave = self._enter(endpoint)
        if leave is None:
            return _Outcome(error=_left_alone(endpoint), again=True, untouched=True)
        answered: bool | None = None
        try:
            said: Answer | Lost = yield self._sent(endpoint, request, left)
            answered = _counts(said)
        finally:
            # Where nobody waits for the answer any more, it says nothing of the endpoint.
            leave.end(answered)
            self.leave(endpoint)
        return self.outcome(endpoint, request, said)

    def _enter(self, endpoint: Endpoint) -> Pass | None:
        """Count a call, and return its breaker's leave; None where it gives none."""
        leave = endpoint.breaker.ask()
        if leave is not None:
            with self._lock:
                endpoint.under_way += 1
        return leave

    def leave(self, endpoint: Endpoint) -> None:
        """Count a call no more."""
        with self._lock:
            endpoint.under_way -= 1

    def outcome(self, endpoint: Endpoint, request: Request, said: Answer | Lost) -> _Outcome:
        """Return what came of a call to an endpoint that said this."""
        if isinstance(said, Lost):
            endpoint.ready = False
            failure = OutboundFailed(f"{request.method} {endpoint.url}{request.path}: {said.error}")
            failure.__cause__ = said.error
            return _Outcome(error=failure, again=request.safe or not said.sent, untouched=not said.sent)
        body = _json(said.content)
        return _Outcome(answer=body) if said.status < 300 else self._refused(endpoint, request, said, body)

    def _refused(self, endpoint: Endpoint, request: Request, answer: Answer, body: Any) -> _Outcome:
        kind = kind_of(body)
        if kind == "draining":
            endpoint.ready = False
        refused = error_of(
            request.path,
            answer.status,
            body,
            keyed=request.key is not None,
            retry_after=_seconds_of(answer.headers.get("Retry-After")),
        )
        # Whoever is over his rate, or asks an instance that ends, has had nothing done.
        untouched = kind in ("rate-limited", "draining")
        helps = isinstance(refused, StoreUnavailable) or (isinstance(refused, OutboundError) and refused.retryable)
        return _Outcome(error=refused, again=untouched or (helps and request.safe), untouched=untouched)

    def _sent(self, endpoint: Endpoint, request: Request, left: float) -> Send:
        query = urlencode({name: value for name, value in request.query.items() if value is not None})
        headers = {"Accept": "application/json, application/problem+json"}
        token = self.settings.token()
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        if request.key is not None:
            headers["Idempotency-Key"] = request.key
        if request.expected is not None:
            headers["If-Match"] = f'"{request.expected}"'
        content = None
        if request.body is not None:
            headers["Content-Type"] = "application/json"
            content = json.dumps(request.body, allow_nan=False).encode()
        prefix = "" if request.root else PREFIX
        url = f"{endpoint.url}{prefix}{quote(request.path)}{f'?{query}' if query else ''}"
        return Send(
            endpoint=endpoint.url,
            method=request.method,
            url=url,
            headers=headers,
            content=content,
            timeout=left,
            request=request,
        )

    # --- the endpoints ------------------------------------------------------------------------------------------------

    def _choose(self, affinity: str, tried: set[str]) -> Generator[Send, Any, Endpoint]:
        """Return the endpoint for a call: of those that are ready and were not tried, the first by the balancing."""
        if len(self.endpoints) == 1:
            return next(iter(self.endpoints.values()))
        for each in self.endpoints.values():
            yield from self._look(each)
        with self._lock:
            turn = self._turn
            self._turn += 1
            loads = {each.url: each.under_way for each in self.endpoints.values()}
            ready = {url for url, each in self.endpoints.items() if each.ready}
        balancing = self.settings.balancing
        if balancing is Balancing.CONSISTENT_HASHING and affinity:
            order = consistent(loads, affinity)
        elif balancing is Balancing.LEAST_CONNECTIONS:
            order = least_connections(loads, turn)
        else:
            order = round_robin(tuple(loads), turn)

        def rank(url: str) -> tuple[bool, bool, bool]:
            return url in tried, url not in ready, self.endpoints[url].breaker.opens_in > 0

        return self.endpoints[min(order, key=rank)]

    def _look(self, endpoint: Endpoint) -> Generator[Send, Any, None]:
        """Ask an endpoint whether it is ready, unless it has just said so, or somebody else asks now."""
        settings = self.settings
        with self._lock:
            now = settings.seconds()
            if now < endpoint.look_at:
                return
            endpoint.look_at = now + settings.check_every
        timeout = min(_LOOK_TIMEOUT, settings.timeout)
        said: Answer | Lost = yield Send(
            endpoint=endpoint.url, method="GET", url=f"{endpoint.url}/health/ready", timeout=timeout
        )
        with self._lock:
            endpoint.ready = isinstance(said, Answer) and said.status == 200
            # One that takes its time to say nothing is asked more seldom: each call that asks waits for it.
            endpoint.silent = min(endpoint.silent + 1, 16) if isinstance(said, Lost) and said.sent else 0
            pause = min(settings.check_every * 2.0**endpoint.silent, _LONGEST_BETWEEN_LOOKS)
            endpoint.look_at = now + max(pause, settings.check_every)


def _counts(said: Answer | Lost | None) -> bool:
    """Whether an endpoint has answered as one does that works."""
    return said is None or (isinstance(said, Answer) and (said.status < 500 or bool(kind_of(_json(said.content)))))


def _left_alone(endpoint: Endpoint) -> OutboundFailed:
    return OutboundFailed(f"{endpoint.url} has failed too often and is left alone")


def _json(content: bytes) -> Any:
    """Return an answer's body; None for none, and for what is no JSON, which a status below 300 never is."""
    if not content.strip():
        return None
    try:
        return json.loads(content)
    except ValueError:
        return None


def _seconds_of(text: str | None) -> float | None:
    """Return the seconds of ``Retry-After``; a date counts as none, for KNHK sends seconds."""
    return float(text) if text is not None and text.isascii() and text.isdecimal() else None
