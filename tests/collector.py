"""Collectors of OpenTelemetry on the loopback, over HTTP and gRPC, that read what they are sent."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from receiver import Answer, Got, Receiver

Request = trace_service_pb2.ExportTraceServiceRequest


class Collected:
    """What a collector was sent."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.requests: list[Any] = []
        self.arrived = threading.Event()
        self.hold: Callable[[], object] = lambda: None

    def take(self, request: Any) -> None:
        """Keep a request; `hold` may make its sender wait."""
        self.arrived.set()
        self.hold()
        self.requests.append(request)

    @property
    def spans(self) -> list[Any]:
        """All spans."""
        return [
            span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    @property
    def resource(self) -> dict[str, str]:
        """What the last request says of its sender."""
        attributes = self.requests[-1].resource_spans[0].resource.attributes
        return {each.key: each.value.string_value for each in attributes}


@contextmanager
def over_http() -> Iterator[Collected]:
    """Collect over HTTP."""

    def answer(got: Got) -> Answer:
        if got.path != "/v1/traces":
            return Answer(404)
        collected.take(Request.FromString(got.body))
        return Answer(200, {"Content-Type": "application/x-protobuf"})

    with Receiver(answer) as receiver:
        collected = Collected(receiver.url(""))
        yield collected


@contextmanager
def over_grpc() -> Iterator[Collected]:
    """Collect over gRPC."""

    class Servicer(trace_service_pb2_grpc.TraceServiceServicer):
        def Export(self, request: Any, context: Any) -> Any:
            collected.take(request)
            return trace_service_pb2.ExportTraceServiceResponse()

    server = grpc.server(ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Servicer(), server)
    collected = Collected(f"grpc://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
    server.start()
    try:
        yield collected
    finally:
        server.stop(None).wait()
