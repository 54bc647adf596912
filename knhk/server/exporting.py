"""Spans on their way to a collector, which may be slow, or down: then spans are lost and counted, and nobody waits.

What has ended waits in a bounded queue; one thread sends it in batches.
A span that finds the queue full, and a batch that the collector did not take in time, are dropped.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from prometheus_client.metrics_core import Metric  # noqa: TC002 - as the rest

from knhk.errors import MissingExtra
from knhk.server.endpoint import Endpoint
from knhk.server.figures import counted
from knhk.telemetry import OpenTelemetryTracer

try:
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
except ImportError as error:
    raise MissingExtra("otel", "sending spans") from error

_LOG: Final = logging.getLogger("knhk.server")

QUEUE: Final = 4_096
"""Spans that wait to be sent; further ones are dropped."""

BATCH: Final = 512
"""Spans that are sent at once."""

EVERY: Final = 1.0
"""Seconds for which a span waits for others at the most."""

PATIENCE: Final = 5.0
"""Seconds that the collector has to take a batch, tries again included."""

LAST: Final = 2.0
"""Seconds that what still waits when the service ends has to be sent."""


class Export(SpanExporter):
    """
    Sends batches, and counts.

    Args:
        make: makes what sends; called with the first batch, in the process that serves.
        address: of the collector, for the log.
        seconds: a monotonic clock.

    Attributes:
        sent, dropped: spans.
        down: whether the last batch was not taken.
        tried_at: when the last batch was sent, by the clock; None: none was.
    """

    def __init__(self, make: Callable[[], SpanExporter], address: str, seconds: Callable[[], float]) -> None:
        self._make = make
        self._address = address
        self._seconds = seconds
        self._inner: SpanExporter | None = None
        self._lock = threading.Lock()
        self._accepted = 0
        self._over = False
        self.sent = 0
        self.dropped = 0
        self.down = False
        self.tried_at: float | None = None

    @property
    def waiting(self) -> int:
        """How many spans wait, or are being sent."""
        return self._accepted - self.sent - self.dropped

    def accept(self) -> bool:
        """Return whether there is room for a span that has ended; where there is none it is dropped."""
        with self._lock:
            self._accepted += 1
            room = not self._over and self.waiting <= QUEUE
            self.dropped += not room
        return room

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch; what is not taken is dropped."""
        try:
            if self._inner is None:
                self._inner = self._make()
            taken = self._inner.export(spans) is SpanExportResult.SUCCESS
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not end the thread that sends
            _LOG.debug("a batch of spans met an error", exc_info=error)
            taken = False
        with self._lock:
            self.tried_at = self._seconds()
            turned, self.down = self.down is taken, not taken
            if not self._over:
                self.sent += len(spans) if taken else 0
                self.dropped += 0 if taken else len(spans)
        if turned and taken:
            _LOG.info("spans arrive again", extra={"collector": self._address})
        elif turned:
            _LOG.warning("spans are dropped: the collector does not take them", extra={"collector": self._address})
        return SpanExportResult.SUCCESS if taken else SpanExportResult.FAILURE

    def shutdown(self) -> None:
        """Send nothing more: what still waits is dropped, and a request that is under way is broken off."""
        with self._lock:
            self._over = True
            self.dropped += self.waiting
        if self._inner is not None:
            self._inner.shutdown()


class _Queue(BatchSpanProcessor):  # type: ignore[misc] # without the extra it is Any
    """Takes what has ended, as long as there is room."""

    def __init__(self, export: Export) -> None:
        super().__init__(
            export, max_queue_size=QUEUE + BATCH, schedule_delay_millis=EVERY * 1000, max_export_batch_size=BATCH
        )
        self._export = export

    def on_end(self, span: ReadableSpan) -> None:
        """Take a span."""
        if span.context is not None and span.context.trace_flags.sampled and self._export.accept():
            super().on_end(span)


class Exporting:
    """
    The service's spans, from where they are told to where they are sent.

    Args:
        endpoint: the collector.
        resource: what is said of this instance.
        seconds: a monotonic clock.

    Attributes:
        tracer: is told of the spans.
        export: counts them.
    """

    def __init__(self, endpoint: Endpoint, resource: Mapping[str, str], seconds: Callable[[], float]) -> None:
        self._endpoint = endpoint
        self._seconds = seconds
        # Without a hook at exit: the service ends its parts in order.
        self._provider = TracerProvider(resource=Resource.create(dict(resource)), shutdown_on_exit=False)
        self._queue: Any = None
        self.export = Export(self._make, endpoint.address, seconds)
        self.tracer = OpenTelemetryTracer(self._provider)

    def start(self) -> None:
        """Begin to send, in the process that serves: threads do not survive a fork."""
        # They say the same at every batch; `Export` says it once.
        logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)
        self._queue = _Queue(self.export)
        self._provider.add_span_processor(self._queue)

    def flush(self) -> None:
        """Send what waits now."""
        self._queue.force_flush()

    def close(self, patience: float) -> None:
        """Send what waits, for a moment and no longer."""
        if self._queue is None:
            return
        ending = threading.Thread(target=self._provider.shutdown, name="knhk-spans", daemon=True)
        ending.start()
        ending.join(min(patience, LAST))
        self.export.shutdown()

    def figures(self) -> Iterable[Metric]:
        """Return how many spans arrived, and how many were dropped."""
        outcomes: dict[tuple[str, ...], float] = {("sent",): self.export.sent, ("dropped",): self.export.dropped}
        yield counted("knhk_spans", "Spans by what became of them.", ("outcome",), outcomes)

    def health(self) -> dict[str, Any]:
        """Return what is said of the exporter: degraded while spans are dropped, which harms nothing else."""
        export = self.export
        age = None if export.tried_at is None else round(self._seconds() - export.tried_at, 3)
        return {
            "status": "degraded" if export.down else "up",
            "age": age,
            "detail": f"{export.sent} spans sent to {self._endpoint.address}, {export.dropped} dropped",
        }

    def _make(self) -> SpanExporter:
        endpoint = self._endpoint
        if endpoint.grpc:
            return GrpcExporter(endpoint=endpoint.address, insecure=not endpoint.secure, timeout=PATIENCE)
        return HttpExporter(endpoint=endpoint.url, timeout=PATIENCE)
