"""Tracing: what an engine does, told as spans to a port; nothing here knows who listens.

An engine without a tracer runs none of this.
With one, its cases and its store are those of `knhk.work.traced`, and what has to go on elsewhere (a message that waits to be sent,
the work of a case in another thread) carries its trace along as the headers of W3C Trace Context,
https://www.w3.org/TR/trace-context/.

The spans of one request, outermost first: ``case`` (a command, or a turn of automatic work), ``task`` (one attempt from the moment
it is handed out until its outcome is recorded), ``handler`` (the call), ``http`` (a request to the outside); ``store commit`` is
wherever a commit happens, ``webhook`` where a message is sent.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Final, Protocol

from knhk.ports import Commit
from knhk.work.outbound import Outbound, Response

Attributes = Mapping[str, str | int | float | bool]
"""What a span says, by name."""

Carrier = Mapping[str, str]
"""Where a span is, as headers: ``traceparent``, and ``tracestate`` where there is one."""

MOST_REMEMBERED: Final = 10_000
"""Cases of which it is known in whose trace they were last asked for something."""

SAME_TRACE: Final = 600_000
"""Milliseconds for which what a case does by itself belongs to the trace of the last request; later work is a trace of its own, with a link."""

_BY_ITSELF: Final[ContextVar[bool]] = ContextVar("by_itself", default=False)


class Span(Protocol):
    """Something that takes time, and is told when it has ended."""

    def describe(self, attributes: Attributes) -> None:
        """Say more of it."""

    def fail(self, error: BaseException) -> None:
        """Say that it failed, and of what."""

    def end(self) -> None:
        """Say that it is over."""

    def inside(self) -> AbstractContextManager[object]:
        """Make it the current span of the thread or task, for a while."""


class Tracer(Protocol):
    """Whoever is told of spans, from any thread; `knhk.telemetry.OpenTelemetryTracer` is one."""

    def begin(
        self,
        name: str,
        attributes: Attributes,
        *,
        kind: str = "internal",
        parent: Carrier | None = None,
        link: Carrier | None = None,
    ) -> Span:
        """
        Begin a span.

        Args:
            name: what it is, from a small set.
            attributes: what else is said of it.
            kind: ``internal``, ``server`` or ``client``.
            parent: where it belongs; None: to the current span, or to nothing.
            link: what led to it, although it is no part of that.
        """

    def carrier(self) -> dict[str, str]:
        """Return where the current span is; nothing where there is none."""

    def ids(self) -> tuple[str, str] | None:
        """Return the ids of the current trace and span, in hexadecimal; None where there is none."""


@contextmanager
def spanned(
    tracer: Tracer,
    name: str,
    attributes: Attributes,
    *,
    kind: str = "internal",
    parent: Carrier | None = None,
    link: Carrier | None = None,
) -> Iterator[Span]:
    """Let a span last as long as the block, and fail if it raises."""
    span = tracer.begin(name, attributes, kind=kind, parent=parent, link=link)
    try:
        with span.inside():
            yield span
    except BaseException as error:
        span.fail(error)
        raise
    finally:
        span.end()


class Tracing:
    """
    A tracer, and where it left each case.

    Args:
        tracer: is told of the spans.
        now: tells the time in milliseconds, and never runs backwards.
    """

    def __init__(self, tracer: Tracer, now: Callable[[], int]) -> None:
        self.tracer = tracer
        self._now = now
        self._last: OrderedDict[str, tuple[int, Carrier]] = OrderedDict()
        self._lock = threading.Lock()

    def remember(self, commits: Sequence[Commit]) -> None:
        """Note that somebody asked something of the cases of these commits, which is no work that they do by themselves."""
        carrier = self.tracer.carrier()
        if _BY_ITSELF.get() or not carrier:
            return
        with self._lock:
            for each in commits:
                self._last[each.header.case_id] = self._now(), carrier
                self._last.move_to_end(each.header.case_id)
            while len(self._last) > MOST_REMEMBERED:
                self._last.popitem(last=False)

    @contextmanager
    def case(self, case_id: str, what: str, attributes: Attributes, *, by_itself: bool = False) -> Iterator[Span]:
        """
        Let a span of a case last as long as the block.

        Args:
            case_id: the case.
            what: the command.
            attributes: what else is said.
            by_itself: whether nobody asked for it at this moment.
        """
        parent = link = None
        if self.tracer.ids() is None:
            at, carrier = self._last.get(case_id, (0, None))
            fresh = carrier is not None and self._now() - at < SAME_TRACE
            parent, link = (carrier, None) if fresh else (None, carrier)
        about = {"knhk.case_id": case_id, **attributes}
        token = _BY_ITSELF.set(by_itself or _BY_ITSELF.get())
        try:
            with spanned(self.tracer, f"case {what}", about, parent=parent, link=link) as span:
                yield span
        finally:
            _BY_ITSELF.reset(token)


class Requests(Protocol):
    """How requests are made; `knhk.work.outbound.Outbound` is one."""

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        timeout: float | None = None,
    ) -> Response:
        """Send a request and return what came back, as `Outbound.request`."""


class TracedRequests:
    """
    Makes requests that carry the current trace, each with a span; what may be secret of them, path and query, is not told.

    Args:
        outbound: makes them.
        tracer: is told.
    """

    def __init__(self, outbound: Outbound, tracer: Tracer) -> None:
        self._outbound = outbound
        self._tracer = tracer

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        timeout: float | None = None,
    ) -> Response:
        """Send a request and return what came back, as `Outbound.request`."""
        target = self._outbound.read(url)
        about: Attributes = {
            "http.request.method": method,
            "server.address": target.host,
            "server.port": target.port,
            "url.scheme": target.scheme,
        }
        with spanned(self._tracer, f"http {method}", about, kind="client") as span:
            given = headers or {}
            named = {name.lower() for name in given}
            # What the modeller wrote comes first.
            carried = {name: value for name, value in self._tracer.carrier().items() if name not in named}
            answer = self._outbound.request(method, url, headers={**carried, **given}, body=body, timeout=timeout)
            span.describe({"http.response.status_code": answer.status})
            return answer
