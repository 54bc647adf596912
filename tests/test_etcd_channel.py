"""gRPC with a server of etcd's API that refuses, is silent, goes away or is none: what was surely not sent, and what nobody knows."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from servers import free_port

from knhk.errors import StoreUnavailable
from knhk.stores import _etcd_messages as messages
from knhk.stores._etcd_channel import Refused, Server, Unsent
from knhk.stores._etcd_link import Link, read_address
from knhk.stores._etcd_messages import RANGE, api

LARGE = b"x" * 6_000_000
ASKED = messages.keys_from(b"k")

Judge = Callable[[api.RangeRequest, grpc.ServicerContext], api.RangeResponse]


class Api(grpc.GenericRpcHandler):
    """A member that greets, and to a question does what a test says; it remembers from where it was asked."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self.peers: list[str] = []

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        if details.method == "/etcdserverpb.Maintenance/Status":
            return grpc.unary_unary_rpc_method_handler(lambda *_: api.StatusResponse().SerializeToString())
        return grpc.unary_unary_rpc_method_handler(self._answer, api.RangeRequest.FromString)

    def _answer(self, request: api.RangeRequest, context: grpc.ServicerContext) -> bytes:
        self.peers.append(context.peer())
        return self._judge(request, context).SerializeToString()


@contextlib.contextmanager
def asking(judge: Judge, timeout: float = 30, host: str = "127.0.0.1") -> Iterator[tuple[Api, Server]]:
    """A member, and who asks it."""
    member = Api(judge)
    options = [("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)]
    with ThreadPoolExecutor(4) as pool:
        serving = grpc.server(pool, [member], options=options)
        port = serving.add_insecure_port(f"[{host}]:0" if ":" in host else f"{host}:0")
        serving.start()
        server = Server(host, port, timeout, None)
        try:
            yield member, server
        finally:
            server.close()
            serving.stop(0).wait()


def echo(request: api.RangeRequest, context: grpc.ServicerContext) -> api.RangeResponse:
    """Answer with the key."""
    return api.RangeResponse(kvs=[api.KeyValue(key=request.key)])


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_messages_of_any_size(host: str) -> None:
    """Messages beyond what gRPC takes by default go and come, on one connection; an address with colons is an address."""
    try:
        socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError:
        pytest.skip(f"this machine has no {host}")
    with asking(echo, host=host) as (member, server):
        assert [b"k", LARGE] == [server.call(RANGE, messages.keys_from(each)).kvs[0].key for each in (b"k", LARGE)]
        assert 1 == len(set(member.peers))


@pytest.mark.parametrize(
    ("code", "judged"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, True),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, True),
        (grpc.StatusCode.UNIMPLEMENTED, True),
        (grpc.StatusCode.UNAVAILABLE, False),
        (grpc.StatusCode.CANCELLED, False),
        (grpc.StatusCode.INTERNAL, False),
        (grpc.StatusCode.UNKNOWN, False),
    ],
)
def test_refusals(code: grpc.StatusCode, judged: bool) -> None:
    """A judgement of the server comes with its words; where it is none, nobody knows, and the next call has a new connection."""

    def refuse(request: api.RangeRequest, context: grpc.ServicerContext) -> api.RangeResponse:
        if len(member.peers) == 1:
            context.abort(code, "no leaderé")
        return api.RangeResponse(more=True)

    with asking(refuse) as (member, server):
        with pytest.raises(Refused) as caught:
            server.call(RANGE, ASKED)
        assert ("no leaderé", judged) == (caught.value.said, caught.value.judged)

        assert server.call(RANGE, ASKED).more
        assert judged == (len(set(member.peers)) == 1)


def test_server_that_falls_silent() -> None:
    """A call without an answer in time may have been done; the next does not wait for the same connection."""
    late = threading.Event()

    def wait(request: api.RangeRequest, context: grpc.ServicerContext) -> api.RangeResponse:
        if len(member.peers) == 2:
            late.wait()
        return api.RangeResponse(more=True)

    with asking(wait) as (member, server):
        server.call(RANGE, ASKED)
        server._timeout = 0.05
        with pytest.raises(Refused) as caught:
            server.call(RANGE, ASKED)
        server._timeout = 30
        assert server.call(RANGE, ASKED).more
        late.set()

        assert not caught.value.judged
        assert 2 == len(set(member.peers))


@pytest.mark.parametrize("greeting", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_server_that_never_greets(greeting: bytes) -> None:
    """Of a call to who is silent from the beginning, or speaks something else, nothing was sent."""
    with socket.create_server(("127.0.0.1", 0)) as listener, contextlib.ExitStack() as held:

        def talk() -> None:
            with contextlib.suppress(OSError):
                while True:
                    line, _ = listener.accept()
                    held.enter_context(line)
                    with contextlib.suppress(OSError):
                        line.sendall(greeting)

        talking = threading.Thread(target=talk, daemon=True)
        talking.start()
        with pytest.raises(Unsent):
            Server("127.0.0.1", listener.getsockname()[1], 0.2, None).call(RANGE, ASKED)
        listener.shutdown(socket.SHUT_RDWR)
        talking.join()


@pytest.mark.parametrize("host", ["127.0.0.1", "no..name"])
def test_server_that_takes_no_connection(host: str) -> None:
    """Where nobody listens, or no host can have that name, nothing was sent."""
    with pytest.raises(Unsent):
        Server(host, free_port(), 30, None).call(RANGE, ASKED)


def test_server_that_is_closed() -> None:
    """On a channel that was closed nothing is sent, nor on one that was made while the server was closed."""
    with asking(echo) as (member, server):
        server.call(RANGE, ASKED)
        server.close()
        with pytest.raises(Unsent, match="closed"):
            server.call(RANGE, ASKED)
        server._channel = None
        with pytest.raises(Unsent, match="closed"):
            server.call(RANGE, ASKED)

        assert 1 == len(member.peers)


def test_authorities_of_the_system() -> None:
    """etcds:// without files trusts whom the system trusts, and makes no connection before the first call."""
    link = Link(read_address(f"etcds://127.0.0.1:{free_port()}"), 30)
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        link.ask(RANGE, ASKED)
    link.close()
