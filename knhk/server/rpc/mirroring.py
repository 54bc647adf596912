"""Reflection, where it is switched on: what the published description says, and nothing else that this process has loaded."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, Final

from knhk.errors import MissingExtra
from knhk.rpc import SERVICE

try:
    import grpc
    from google.protobuf.descriptor_pool import DescriptorPool
    from grpc_health.v1 import health_pb2
    from grpc_reflection.v1alpha import reflection_pb2
    from grpc_reflection.v1alpha.reflection import SERVICE_NAME, ReflectionServicer

    from knhk.rpc import workflow_engine_pb2
except ImportError as error:
    raise MissingExtra("grpc", "serving gRPC") from error

MOST_STREAMS: Final = 4
"""Callers at once, each with a thread."""

LONGEST: Final = 10.0
"""Seconds that one may ask for."""


class Mirror(ReflectionServicer):  # type: ignore[misc] # the library has no types
    """Tells a few callers at a time, for a while, what the service is."""

    def __init__(self) -> None:
        pool = DescriptorPool()
        for each in (workflow_engine_pb2, health_pb2, reflection_pb2):
            pool.AddSerializedFile(each.DESCRIPTOR.serialized_pb)
        super().__init__((SERVICE, "grpc.health.v1.Health", SERVICE_NAME), pool=pool)
        self._places = threading.BoundedSemaphore(MOST_STREAMS)

    def ServerReflectionInfo(  # noqa: N802 - the library's name
        self, request_iterator: Iterator[Any], context: grpc.ServicerContext
    ) -> Iterator[Any]:
        """Answer questions about names and files."""
        if not self._places.acquire(blocking=False):
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many ask already")
        ending = threading.Timer(LONGEST, context.cancel)
        ending.daemon = True
        ending.start()
        try:
            yield from super().ServerReflectionInfo(request_iterator, context)
        finally:
            ending.cancel()
            self._places.release()
