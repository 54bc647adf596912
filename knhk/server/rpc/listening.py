"""The port of gRPC: opened, served with explicit limits, and closed in order."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final

from knhk.errors import MissingExtra
from knhk.rpc import SERVICE
from knhk.server.configuration import Configuration, ConfigurationError, variable
from knhk.server.gate import Gate
from knhk.server.health import Health
from knhk.server.rpc.gate import MOST_WATCHES, RpcGate
from knhk.server.rpc.methods import METHODS, Method
from knhk.server.rpc.mirroring import MOST_STREAMS, Mirror
from knhk.server.rpc.probing import Probe, probing
from knhk.server.rpc.watching import watch

try:
    import grpc
    from grpc_reflection.v1alpha.reflection_pb2_grpc import add_ServerReflectionServicer_to_server
except ImportError as error:
    raise MissingExtra("grpc", "serving gRPC") from error

MOST_BYTES: Final = 4 * 1024 * 1024
"""Bytes that a message has at the most, as clients expect."""

_THREADS: Final = 16
"""For calls that are no streams, each of which has one of its own."""

_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MOST_BYTES),
    ("grpc.max_concurrent_streams", 100),
    ("grpc.max_metadata_size", 16_384),
    ("grpc.absolute_max_metadata_size", 32_768),
    # Messages are read as they are, not compressed.
    ("grpc.compression_enabled_algorithms_bitset", 1),
    # A connection that nobody uses is closed; of one with a silent stream it is asked whether there is somebody.
    ("grpc.max_connection_idle_ms", 300_000),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
)
_MOST_CALLS: Final = 1_000


class RpcServer:
    """
    Serves the operations over gRPC.

    Args:
        settings: the configuration.
        gate: of another protocol, to the service.
        health: says whether it is ready.

    Attributes:
        port: which, once it is open.
    """

    def __init__(self, settings: Configuration, gate: Gate[Any, Any], health: Health) -> None:
        self._settings = settings
        self._gate = RpcGate.beside(gate)
        self._health = health
        self._server: grpc.Server | None = None
        self._probe: Probe | None = None
        self._serves = False
        self._ended: threading.Event | None = None
        self.port = 0

    def listen(self, *, shared: bool = False) -> None:
        """
        Open the port.

        Args:
            shared: whether other processes serve on it too; `Reservation` keeps it for them.

        Raises:
            ConfigurationError: it cannot be opened.
        """
        settings = self._settings
        where = _address(settings)
        server = grpc.server(
            ThreadPoolExecutor(_THREADS + MOST_WATCHES + MOST_STREAMS, thread_name_prefix="knhk-grpc"),
            handlers=[_Calls(self._gate)],
            options=[*_OPTIONS, ("grpc.so_reuseport", int(shared))],
            maximum_concurrent_rpcs=_MOST_CALLS,
        )
        self._probe = Probe(self._health)
        server.add_generic_rpc_handlers((probing(self._probe, self._gate.arrivals),))
        if settings.grpc_reflection:
            add_ServerReflectionServicer_to_server(Mirror(), server)
        try:
            if settings.tls_cert:
                self.port = server.add_secure_port(where, _credentials(settings))
            else:
                self.port = server.add_insecure_port(where)
        except RuntimeError as error:
            raise _taken(settings) from error
        self._server = server

    def start(self) -> None:
        """Serve what comes in at the port that was opened."""
        assert self._server is not None
        assert self._probe is not None
        self._server.start()
        self._serves = True
        self._probe.start()
        self._gate.arrivals.start()

    def refuse(self, patience: float) -> None:
        """Take no more calls, and let those that run end within so many seconds; returns at once."""
        if self._serves and self._server is not None and self._ended is None:
            assert self._probe is not None
            self._probe.stop()
            self._ended = self._server.stop(patience)

    def stop(self, patience: float) -> None:
        """End: what runs has so many seconds."""
        self.refuse(patience)
        if self._ended is not None:
            self._ended.wait(patience + 1.0)
            self._gate.arrivals.stop()


class Reservation:
    """
    Keeps the port for processes that serve on it together, and picks it where that is left open.

    Args:
        settings: the configuration.

    Attributes:
        port: which.

    Raises:
        ConfigurationError: it cannot be had.
    """

    def __init__(self, settings: Configuration) -> None:
        family = socket.AF_INET6 if ":" in settings.api_host else socket.AF_INET
        port = settings.grpc_port or 0
        try:
            # Nobody else may have it, not even somebody who would share it.
            with socket.socket(family) as alone:
                alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                alone.bind((settings.api_host, port))
                port = alone.getsockname()[1]
            self._socket = socket.socket(family)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            self._socket.bind((settings.api_host, port))
        except OSError as error:
            raise _taken(settings) from error
        self.port: int = port


def _address(settings: Configuration) -> str:
    host = f"[{settings.api_host}]" if ":" in settings.api_host else settings.api_host
    return f"{host}:{settings.grpc_port}"


def _taken(settings: Configuration) -> ConfigurationError:
    names = f"{variable('api_host')}, {variable('grpc_port')}"
    return ConfigurationError([f"{names}: cannot listen on {_address(settings)}"])


class _Calls(grpc.GenericRpcHandler):  # type: ignore[misc] # the library has no types
    """Every method of the service, and what has its name and is none."""

    def __init__(self, gate: RpcGate) -> None:
        # As if calls were streams: their messages are waited for when it is known who sends them.
        unary, stream = grpc.stream_unary_rpc_method_handler, grpc.stream_stream_rpc_method_handler
        self._handlers: dict[str, grpc.RpcMethodHandler] = {
            method.path: stream(partial(watch, gate, method)) if method.streams else unary(_answering(gate, method))
            for method in METHODS.values()
        }
        self._unknown = unary(_answering(gate, None))

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """Return what answers a call; None where it is none of this service's."""
        path = handler_call_details.method
        handler = self._handlers.get(path)
        return self._unknown if handler is None and path.startswith(f"/{SERVICE}/") else handler


def _answering(gate: RpcGate, method: Method | None) -> Callable[[Iterator[bytes], grpc.ServicerContext], bytes]:
    return lambda messages, context: gate.ask(method, messages, context)[1].raw


def _credentials(settings: Configuration) -> grpc.ServerCredentials:
    pair = (Path(settings.tls_key).read_bytes(), Path(settings.tls_cert).read_bytes())
    if not settings.tls_client_ca:
        return grpc.ssl_server_credentials([pair])
    authority = Path(settings.tls_client_ca).read_bytes()
    return grpc.ssl_server_credentials([pair], root_certificates=authority, require_client_auth=True)
