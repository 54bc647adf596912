"""Calls over HTTP: which endpoint, how often, for how long; the only file here that knows the HTTP library (urllib3).

Retries are our own few lines and no library's, for each attempt may go to another endpoint, and all of them share one deadline.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode

import attrs

from knhk.client.balancing import Balancing, consistent, least_connections, round_robin
from knhk.client.problems import error_of, kind_of
from knhk.errors import KnhkError, MissingExtra, OutboundError, OutboundFailed, ResponseRefused, StoreUnavailable
from knhk.work.breaker import Breaker, BreakerPolicy

if TYPE_CHECKING:
    import urllib3

PREFIX: Final = "/api/v1"
_FIRST_WAIT: Final = 0.05
_LONGEST_WAIT: Final = 5.0
_LOOK_TIMEOUT: Final = 1.0
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


@attrs.frozen
class _Outcome:
    """What came of one attempt: an answer, or an error and whether another attempt is safe and may help."""

    answer: Any = None
    error: KnhkError | None = None
    again: bool = False


class Endpoint:
    """One instance of the service, as the client sees it: calls under way, readiness, breaker."""

    def __init__(self, url: str, now: Callable[[], float]) -> None:
        self.url = url
        self.under_way = 0
        self.ready = True
        self.looked_at = float("-inf")
        self.breaker = Breaker(url, _BREAKER, now=lambda: int(now() * 1000))


class Transport:
    """
    Sends calls to one of several endpoints.

    Args:
        urls: of the endpoints, without ``/api/v1``.
        token: returns the bearer token, or None where the service asks for none.
        balancing: how calls are spread.
        timeout: seconds that a call may take with all its attempts.
        attempts: how often a call is sent at the most.
        check_every: seconds for which an endpoint is believed to be ready; only asked where there are several.
        http: a pool of urllib3, for certificates of your own.
        seconds, sleep, chance: clock, waiting and chance.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        token: Callable[[], str | None],
        balancing: Balancing,
        timeout: float,
        attempts: int,
        check_every: float,
        http: urllib3.PoolManager | None = None,
        seconds: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        try:
            import urllib3  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise MissingExtra("client", "the client") from error
        if not urls:
            raise ValueError("a client needs at least one URL")
        for url in urls:
            if not url.startswith(("http://", "https://")):
                raise ValueError(f"{url!r} is no URL of a service: http://host:port or https://host:port")
        self._http = http or urllib3.PoolManager(maxsize=16, retries=False)
        self._failed = (urllib3.exceptions.HTTPError, OSError)
        self._unsent = (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError)
        self._timeout_of = urllib3.Timeout
        self.endpoints = {url.rstrip("/"): Endpoint(url.rstrip("/"), seconds) for url in urls}
        self._token, self._balancing, self.timeout = token, balancing, timeout
        self._attempts, self._check_every = attempts, check_every
        self._seconds, self._sleep, self._chance = seconds, sleep, chance
        self._lock = threading.Lock()
        self._turn = 0

    def close(self) -> None:
        """Close every connection."""
        self._http.clear()

    def call(self, request: Request, *, timeout: float | None = None) -> Any:
        """
        Make a call, again where that is safe and may help; returns the body of the answer, None where it has none.

        Raises:
            OutboundFailed: no answer came, or no endpoint takes calls.
            KnhkError: why the service did not do it.
        """
        end = self._seconds() + (self.timeout if timeout is None else timeout)
        tried: set[str] = set()
        for attempt in range(1, self._attempts + 1):
            endpoint = self._choose(request.affinity, tried)
            tried.add(endpoint.url)
            left = end - self._seconds()
            if left <= 0:
                raise OutboundFailed(f"{request.method} {request.path}: no time is left for it")
            outcome = self._attempt(endpoint, request, left)
            if outcome.error is None:
                return outcome.answer
            wait = self._wait(attempt, outcome.error, elsewhere=bool(set(self.endpoints) - tried))
            if not outcome.again or attempt == self._attempts or self._seconds() + wait >= end:
                raise outcome.error
            if wait:
                self._sleep(wait)
        raise OutboundFailed(f"{request.method} {request.path}: no attempt is allowed")

    def _wait(self, attempt: int, error: KnhkError, *, elsewhere: bool) -> float:
        """Return the wait before the next attempt: none to another endpoint, what is asked for, else growing with full jitter."""
        asked = error.retry_after if isinstance(error, OutboundError) else None
        limited = isinstance(error, ResponseRefused) and error.status == 429
        if elsewhere and not limited:
            return 0.0
        jitter = self._chance() * min(_FIRST_WAIT * 2.0**attempt, _LONGEST_WAIT)
        return jitter if asked is None else asked + jitter

    def _attempt(self, endpoint: Endpoint, request: Request, left: float) -> _Outcome:
        """Send once."""
        leave = endpoint.breaker.ask()
        if leave is None:
            return _Outcome(error=OutboundFailed(f"{endpoint.url} has failed too often and is left alone"), again=True)
        with self._lock:
            endpoint.under_way += 1
        answered: bool | None = None
        try:
            status, headers, body = self._send(endpoint, request, left)
            answered = status < 500 or bool(kind_of(body))
        except self._failed as error:
            answered = False
            with self._lock:
                endpoint.ready = False
            failure = OutboundFailed(f"{request.method} {endpoint.url}{request.path}: {error}")
            failure.__cause__ = error
            return _Outcome(error=failure, again=request.safe or isinstance(error, self._unsent))
        finally:
            leave.end(answered)
            with self._lock:
                endpoint.under_way -= 1
        if status < 300:
            return _Outcome(answer=body)
        kind = kind_of(body)
        if kind == "draining":
            with self._lock:
                endpoint.ready = False
        refused = error_of(
            request.path,
            status,
            body,
            keyed=request.key is not None,
            retry_after=_seconds_of(headers.get("Retry-After")),
        )
        # Whoever is over his rate, or asks an instance that ends, has had nothing done.
        untouched = kind in ("rate-limited", "draining")
        helps = isinstance(refused, StoreUnavailable) or (isinstance(refused, OutboundError) and refused.retryable)
        return _Outcome(error=refused, again=untouched or (helps and request.safe))

    def _send(self, endpoint: Endpoint, request: Request, left: float) -> tuple[int, Mapping[str, str], Any]:
        query = urlencode({name: value for name, value in request.query.items() if value is not None})
        address = endpoint.url + ("" if request.root else PREFIX) + quote(request.path) + (f"?{query}" if query else "")
        headers = {"Accept": "application/json, application/problem+json"}
        token = self._token()
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
        answer = self._http.request(
            request.method,
            address,
            body=content,
            headers=headers,
            timeout=self._timeout_of(total=left),
            retries=False,
            redirect=False,
        )
        return answer.status, answer.headers, _json(answer.data)

    def _choose(self, affinity: str, tried: set[str]) -> Endpoint:
        """Return the endpoint for a call: of those that are ready and were not tried, the first by the balancing."""
        if len(self.endpoints) == 1:
            return next(iter(self.endpoints.values()))
        for each in self.endpoints.values():
            self._look(each)
        with self._lock:
            turn = self._turn
            self._turn += 1
            loads = {each.url: each.under_way for each in self.endpoints.values()}
            ready = {url for url, each in self.endpoints.items() if each.ready}
        if self._balancing is Balancing.CONSISTENT_HASHING and affinity:
            order = consistent(loads, affinity)
        elif self._balancing is Balancing.LEAST_CONNECTIONS:
            order = least_connections(loads, turn)
        else:
            order = round_robin(tuple(loads), turn)

        def rank(url: str) -> tuple[bool, bool, bool]:
            return url in tried, url not in ready, self.endpoints[url].breaker.opens_in > 0

        return self.endpoints[min(order, key=rank)]

    def _look(self, endpoint: Endpoint) -> None:
        """Ask an endpoint whether it is ready, unless it has just said so, or somebody else asks now."""
        with self._lock:
            now = self._seconds()
            if now - endpoint.looked_at < self._check_every:
                return
            endpoint.looked_at = now
        try:
            answer = self._http.request(
                "GET",
                f"{endpoint.url}/health/ready",
                timeout=self._timeout_of(total=min(_LOOK_TIMEOUT, self.timeout)),
                retries=False,
                redirect=False,
            )
            ready = answer.status == 200
        except self._failed:
            ready = False
        with self._lock:
            endpoint.ready = ready


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
