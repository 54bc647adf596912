"""The standard health service, https://grpc.io/docs/guides/health-checking/: as ready as ``/health/ready`` says, asked without a token."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from knhk.errors import MissingExtra
from knhk.rpc import SERVICE
from knhk.server.health import Health
from knhk.server.problems import Problem
from knhk.server.rpc.arriving import Arrivals
from knhk.server.rpc.messages import parsed
from knhk.server.rpc.statuses import code_of, text_of

try:
    import grpc
    from grpc_health.v1.health import HealthServicer
    from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
except ImportError as error:
    raise MissingExtra("grpc", "serving gRPC") from error

MOST_LISTENERS: Final = 200
"""Callers of `Watch` at once; none of them has a thread."""

LOOK: Final = 1.0
"""Seconds between looks for those who are told of changes."""

_THREADS: Final = 4
_KNOWN: Final = ("", SERVICE)


class Probe(HealthServicer):  # type: ignore[misc] # the library has no types
    """
    Answers `Check` with what is so now, and tells whoever watches within a second.

    Args:
        health: says what is so.
    """

    def __init__(self, health: Health) -> None:
        super().__init__()
        self._health = health
        self._listening: set[Callable[[Any], None]] = set()
        self._told: int | None = None
        self._changing = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._repeat, name="knhk-grpc-health", daemon=True)
        self.look()

    def start(self) -> None:
        """Tell whoever watches, from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Tell everybody that this instance ends, and nobody anything more."""
        self._over.set()
        self.look()
        with self._changing:
            listening = tuple(self._listening)
        for end in listening:
            end(None)

    def look(self) -> None:
        """Look how it is, and tell those who watch where that has changed."""
        ready = self._health.ready()[0] == 200
        status = HealthCheckResponse.SERVING if ready else HealthCheckResponse.NOT_SERVING
        with self._changing:
            if status != self._told:
                self._told = status
                for each in _KNOWN:
                    self.set(each, status)

    def Check(self, request: HealthCheckRequest, context: grpc.ServicerContext) -> Any:  # noqa: N802 - the library's name
        """Answer with what is so now; NOT_FOUND for a service that there is not."""
        self.look()
        return super().Check(request, context)

    def Watch(  # noqa: N802 - the library's name
        self,
        request: HealthCheckRequest,
        context: grpc.ServicerContext,
        send_response_callback: Callable[[Any], None],
    ) -> None:
        """Say how it is, and again whenever that changes; SERVICE_UNKNOWN for a service that there is not."""
        with self._changing:
            full = len(self._listening) >= MOST_LISTENERS
            if not full:
                self._listening.add(send_response_callback)
        if full:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many watch already")
        if not context.add_callback(lambda: self._listening.discard(send_response_callback)):
            self._listening.discard(send_response_callback)
        elif self._over.is_set():
            context.abort(grpc.StatusCode.UNAVAILABLE, "this instance ends")
        elif request.service in _KNOWN:
            super().Watch(request, context, send_response_callback)
        else:
            # The library would remember every name that anybody asks for.
            send_response_callback(HealthCheckResponse(status=HealthCheckResponse.SERVICE_UNKNOWN))

    def _repeat(self) -> None:
        while not self._over.wait(LOOK):
            self.look()


def probing(probe: Probe, arrivals: Arrivals) -> grpc.GenericRpcHandler:
    """Return what answers the health service: with threads of its own, so that neither it nor the others wait for each other."""
    threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="knhk-grpc-health")

    def check(messages: Iterator[bytes], context: grpc.ServicerContext) -> HealthCheckResponse:
        return probe.Check(_asked(arrivals, messages, context), context)

    def watch(
        messages: Iterator[bytes], context: grpc.ServicerContext, send_response_callback: Callable[[Any], None]
    ) -> None:
        probe.Watch(_asked(arrivals, messages, context), context, send_response_callback)

    # The names by which the library finds them.
    more = {"experimental_thread_pool": threads}
    check.__dict__.update(more)
    watch.__dict__.update(more, experimental_non_blocking=True)
    written = HealthCheckResponse.SerializeToString
    return grpc.method_handlers_generic_handler(
        "grpc.health.v1.Health",
        {
            "Check": grpc.stream_unary_rpc_method_handler(check, response_serializer=written),
            "Watch": grpc.stream_stream_rpc_method_handler(watch, response_serializer=written),
        },
    )


def _asked(arrivals: Arrivals, messages: Iterator[bytes], context: grpc.ServicerContext) -> HealthCheckRequest:
    try:
        return parsed(arrivals.message(messages, context), HealthCheckRequest)
    except Problem as problem:
        context.abort(code_of(problem), text_of(problem))
        raise AssertionError from None
