"""Spans for OpenTelemetry: its API alone; whether and where spans are sent is for the program that uses KNHK to say.

``pip install 'knhk[otel]'``.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Final

from knhk.errors import MissingExtra
from knhk.work.spans import Attributes, Carrier, Span

try:
    from opentelemetry import trace
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError as error:
    raise MissingExtra("otel", "tracing with OpenTelemetry") from error

_KINDS: Final = {
    "internal": trace.SpanKind.INTERNAL,
    "server": trace.SpanKind.SERVER,
    "client": trace.SpanKind.CLIENT,
}
_PROPAGATOR: Final = TraceContextTextMapPropagator()
_LONGEST_MESSAGE: Final = 500


class OpenTelemetryTracer:
    """
    Tells of an engine's spans by OpenTelemetry: ``Engine(tracer=OpenTelemetryTracer())``.

    Args:
        provider: where the spans go; None: to the provider that the program has set for the whole process.
    """

    def __init__(self, provider: trace.TracerProvider | None = None) -> None:
        self._tracer = trace.get_tracer("knhk", tracer_provider=provider)

    def begin(
        self,
        name: str,
        attributes: Attributes,
        *,
        kind: str = "internal",
        parent: Carrier | None = None,
        link: Carrier | None = None,
    ) -> Span:
        """Begin a span, as `knhk.work.spans.Tracer.begin`; a parent that cannot be read is none."""
        context = None if parent is None else _read(parent)
        links = [] if link is None else [trace.Link(trace.get_current_span(_read(link)).get_span_context())]
        return _Span(self._tracer.start_span(name, context, _KINDS[kind], attributes, links))

    def carrier(self) -> dict[str, str]:
        """Return where the current span is."""
        found: dict[str, str] = {}
        _PROPAGATOR.inject(found)
        return found

    def ids(self) -> tuple[str, str] | None:
        """Return the ids of the current trace and span."""
        context = trace.get_current_span().get_span_context()
        return (f"{context.trace_id:032x}", f"{context.span_id:016x}") if context.is_valid else None


class _Span:
    """A span of OpenTelemetry's."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span

    def describe(self, attributes: Attributes) -> None:
        """Say more of it."""
        self._span.set_attributes(attributes)

    def fail(self, error: BaseException) -> None:
        """Say that it failed, and of what."""
        message = str(error)[:_LONGEST_MESSAGE]
        self._span.set_status(trace.Status(trace.StatusCode.ERROR, f"{type(error).__name__}: {message}"))
        self._span.set_attribute("error.type", type(error).__name__)

    def end(self) -> None:
        """Say that it is over."""
        self._span.end()

    def inside(self) -> AbstractContextManager[Any]:
        """Make it the current span."""
        return trace.use_span(self._span, end_on_exit=False, record_exception=False, set_status_on_exception=False)


def _read(carrier: Carrier) -> Context:
    # In a context of its own: a carrier that says nothing must not mean the current span.
    return _PROPAGATOR.extract(carrier, context=Context())
