"""gRPC as the store on etcd speaks it, with an HTTP/2 server of other hands, and with one that breaks off or talks nonsense."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator, Sequence

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest
from hpack import Encoder, NeverIndexedHeaderTuple
from servers import free_port

from knhk.stores import _etcd_channel as channel
from knhk.stores._etcd_channel import Answer, Broken, Server, Unsent, _frame

Said = Callable[[int], bytes]
"""What is said to a call, given its stream."""

GREETING = _frame(4, 0, 0, b"")
LARGE = b"x" * 300_000


class Listening:
    """A server of which each connection is served by a thread of its own; it remembers them."""

    def __init__(self, serve: Callable[[socket.socket], None]) -> None:
        self._serve = serve
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.connections: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                line, _ = self._listener.accept()
                self.connections.append(line)
                threading.Thread(target=self._talk, args=(line,), daemon=True).start()

    def _talk(self, line: socket.socket) -> None:
        with line, contextlib.suppress(OSError, EOFError):
            self._serve(line)

    def close(self) -> None:
        """Break every connection, and take no more."""
        for each in (self._listener, *self.connections):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


@contextlib.contextmanager
def asking(serve: Callable[[socket.socket], None], timeout: float = 30) -> Iterator[tuple[Listening, Server]]:
    """A server, and who asks it."""
    listening = Listening(serve)
    server = Server("127.0.0.1", listening.port, timeout, None)
    try:
        yield listening, server
    finally:
        server.close()
        listening.close()


def read(line: socket.socket, size: int) -> bytes:
    """So many bytes; raises EOFError where they do not come."""
    found = b""
    while len(found) < size:
        more = line.recv(size - len(found))
        if not more:
            raise EOFError
        found += more
    return found


def scripted(
    *answers: Said | None, greeting: bytes = GREETING, ending: bool = False
) -> Callable[[socket.socket], None]:
    """Say the next of the answers to each call; None: nothing; `ending`: every connection ends behind its answer."""
    left = list(answers)

    def serve(line: socket.socket) -> None:
        read(line, 24)
        line.sendall(greeting)
        while True:
            head = read(line, 9)
            read(line, int.from_bytes(head[:3], "big"))
            if head[3] == 0 and head[4] & 1 and (said := left.pop(0)) is not None:
                line.sendall(said(int.from_bytes(head[5:], "big")))
                if ending:
                    return

    return serve


def block(**fields: str) -> bytes:
    """A block of headers; ``status`` is that of HTTP."""
    named = {":status": "200", **{name.replace("_", "-"): value for name, value in fields.items()}}
    return Encoder().encode([NeverIndexedHeaderTuple(*each) for each in named.items()])


def good(stream: int) -> bytes:
    """An answer in three frames."""
    return said(b"ok")(stream)


def said(message: bytes, **fields: str) -> Said:
    """An answer with this message, and what its trailers say; of its own length unless that is in it."""

    def answer(stream: int) -> bytes:
        data = message if message[:1] == b"\0" else b"\0" + len(message).to_bytes(4, "big") + message
        trailers = Encoder().encode(
            [NeverIndexedHeaderTuple(name.replace("_", "-"), value) for name, value in fields.items()]
            or [NeverIndexedHeaderTuple("grpc-status", "0")]
        )
        return _frame(1, 4, stream, block()) + _frame(0, 0, stream, data) + _frame(1, 5, stream, trailers)

    return answer


# --- an implementation of other hands ---------------------------------------------------------------------------------


class Echo:
    """Answers each call with its message, by a library that takes nothing that HTTP/2 does not allow."""

    def __init__(self, room: int, changed: int) -> None:
        self._room, self._changed = room, changed
        self.heads: list[dict[bytes, bytes]] = []
        self.pongs = 0

    def serve(self, line: socket.socket) -> None:
        """Serve one connection."""
        state = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        state.local_settings = h2.settings.Settings(client=False, initial_values={4: self._room})
        state.initiate_connection()
        line.sendall(state.data_to_send())
        heard: dict[int, bytes] = {}
        while data := line.recv(65_536):
            for event in state.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    self.heads.append(dict(event.headers))
                    heard[event.stream_id] = b""
                    state.ping(b"are you?")
                elif isinstance(event, h2.events.DataReceived):
                    heard[event.stream_id] += event.data
                    if self._changed:
                        state.update_settings({4: self._changed})
                        self._changed = 0
                    state.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, h2.events.PingAckReceived):
                    self.pongs += 1
                elif isinstance(event, h2.events.StreamEnded):
                    self._answer(state, event.stream_id, heard.pop(event.stream_id))
            line.sendall(state.data_to_send())

    def _answer(self, state: h2.connection.H2Connection, stream: int, data: bytes) -> None:
        state.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")])
        for at in range(0, len(data), 10_000):
            state.send_data(stream, data[at : at + 10_000], pad_length=9)
        state.send_headers(stream, [("grpc-status", "0"), ("grpc-message", "")], end_stream=True)


@pytest.mark.parametrize(("room", "changed"), [(65_535, 0), (1_000, 0), (50_000, 700), (700, 50_000)])
def test_messages_come_as_they_were_sent(room: int, changed: int) -> None:
    """Messages small and large go and come whole, however little the server takes at a time, on one connection."""
    echo = Echo(room, changed)
    with asking(echo.serve) as (listening, server):
        server.token = "secret"
        answers = [server.call("KV/Txn", message) for message in (b"", b"abc", LARGE, b"d")]

        assert [Answer(channel.OK, "", each) for each in (b"", b"abc", LARGE, b"d")] == answers
        assert 1 == len(listening.connections)
        assert echo.pongs
        assert {b":path": b"/etcdserverpb.KV/Txn", b"token": b"secret"}.items() <= echo.heads[0].items()
        assert f"127.0.0.1:{listening.port}".encode() == echo.heads[0][b":authority"]


def test_more_than_a_connection_has_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection gets its room back before it is used up."""
    monkeypatch.setattr(channel, "_MOST_ROOM", 400_000)
    with asking(Echo(65_535, 0).serve) as (listening, server):
        half = LARGE[:150_000]
        assert [half] * 9 == [server.call("KV/Txn", half).message for _ in range(9)]

        assert 1 == len(listening.connections)


# --- what else a server may say ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (said(b"", grpc_status="9", grpc_message="no%20leader%C3%A9"), Answer(9, "no leaderé", b"")),
        (lambda stream: _frame(1, 5, stream, block(grpc_status="7", grpc_message="no")), Answer(7, "no", b"")),
        (
            lambda stream: (
                _frame(1, 1 | 8 | 32, stream, b"\2" + b"\0" * 5 + block(grpc_status="7")[:3] + b"\0\0")
                + _frame(9, 4, stream, block(grpc_status="7")[3:])
            ),
            Answer(7, "", b""),
        ),
        (lambda stream: _frame(99, 0, 0, b"?") + _frame(2, 0, stream, b"\0" * 5) + good(stream), Answer(0, "", b"ok")),
        (lambda stream: _frame(1, 5, stream, block(**{":status": "503"})), Answer(14, "HTTP status 503", b"")),
        (lambda stream: _frame(1, 5, stream, block(**{":status": "404"})), Answer(2, "HTTP status 404", b"")),
    ],
)
def test_shapes_of_an_answer(answer: Said, expected: Answer) -> None:
    """Refusals, headers in several frames and what an extension may say are understood, and the connection is kept."""
    with asking(scripted(answer, good)) as (listening, server):
        assert [expected, Answer(0, "", b"ok")] == [server.call("KV/Txn", b"") for _ in range(2)]

        assert 1 == len(listening.connections)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (lambda _: b"", Broken),
        (lambda stream: good(stream)[:-5], Broken),
        (lambda _: b"HTTP/1.1 400 Bad Request\r\n\r\n", Broken),
        (said(b"", other="x"), Broken),
        (said(b"\0\0\0\0\7short"), Broken),
        (said(b"", grpc_status="fine"), Broken),
        (lambda stream: _frame(1, 5, stream, b"\xff\xff\xff"), Broken),
        (lambda stream: _frame(4, 0, 0, b"odd") + good(stream), Broken),
        (lambda stream: _frame(3, 0, stream, b"\0\0\0\2"), Broken),
        (lambda stream: _frame(3, 0, stream, b"\0\0\0\7"), Unsent),
        (lambda _: _frame(7, 0, 0, b"\0" * 8), Unsent),
    ],
)
def test_answers_that_break_off_or_make_no_sense(answer: Said, error: type[Exception]) -> None:
    """Who gets half an answer, or none that can be understood, is told so, and the next call is made anew."""
    with asking(scripted(answer, good, ending=True)) as (listening, server):
        with pytest.raises(error):
            server.call("KV/Txn", b"")
        assert b"ok" == server.call("KV/Txn", b"").message

        assert 2 == len(listening.connections)


def test_server_that_is_silent() -> None:
    """A server that says nothing in time breaks the call; its late answer is nobody's."""
    with asking(scripted(None, good), timeout=0.05) as (listening, server):
        with pytest.raises(Broken, match="timed out"):
            server.call("KV/Txn", b"")

        assert b"ok" == server.call("KV/Txn", b"").message
        assert 2 == len(listening.connections)


def test_answer_before_the_whole_call() -> None:
    """A server that refuses a call before it has heard all of it is understood, and not asked on that connection again."""

    def serve(line: socket.socket) -> None:
        read(line, 24)
        line.sendall(GREETING)
        stream = 0
        while not stream:
            head = read(line, 9)
            read(line, int.from_bytes(head[:3], "big"))
            stream = int.from_bytes(head[5:], "big")
        line.sendall(_frame(1, 5, stream, block(grpc_status="8", grpc_message="too large")))
        line.recv(1 << 20)

    with asking(serve) as (_, server):
        assert Answer(8, "too large", b"") == server.call("KV/Txn", LARGE)
        assert not server._idle


@pytest.mark.parametrize("greeting", [b"HTTP/1.1 400 Bad Request\r\n\r\n", _frame(6, 0, 0, b"\0" * 8), b""])
def test_server_that_speaks_something_else(greeting: bytes) -> None:
    """Where the greeting is not that of HTTP/2, or does not come, nothing is sent."""
    with asking(scripted(greeting=greeting), timeout=0.05) as (_, server), pytest.raises(Unsent):
        server.call("KV/Txn", b"")


@pytest.mark.parametrize("host", ["127.0.0.1", "no..name"])
def test_server_that_takes_no_connection(host: str) -> None:
    """Where nobody listens, or no host can have that name, nothing was sent."""
    with pytest.raises(Unsent):
        Server(host, free_port(), 30, None).call("KV/Txn", b"")


# --- between two calls ------------------------------------------------------------------------------------------------


def test_connection_that_ended_while_idle() -> None:
    """A connection that the server has ended in the meantime is found out before a call is made on it."""
    with asking(scripted(good, good, ending=True)) as (listening, server):
        server.call("KV/Txn", b"")
        assert b"" == server._idle[0]._line.sock.recv(1, socket.MSG_PEEK)

        assert b"ok" == server.call("KV/Txn", b"").message
        assert 2 == len(listening.connections)


def test_server_that_is_about_to_end() -> None:
    """A server that says farewell behind an answer is not asked on that connection again."""
    with asking(scripted(lambda stream: good(stream) + _frame(7, 0, 0, b"\0\0\0\1" + b"\0" * 4), good)) as (
        listening,
        server,
    ):
        assert [b"ok"] * 2 == [server.call("KV/Txn", b"").message for _ in range(2)]
        assert 2 == len(listening.connections)


def test_streams_that_are_used_up() -> None:
    """A connection whose numbers are used up is not used again."""
    with asking(scripted(good, good, good)) as (listening, server):
        server.call("KV/Txn", b"")
        server._idle[0]._stream = 2**31 - 3
        assert [b"ok"] * 2 == [server.call("KV/Txn", b"").message for _ in range(2)]

        assert 2 == len(listening.connections)


def test_server_that_is_closed_meanwhile() -> None:
    """A connection that is in use when the server is closed is closed behind its answer."""
    with asking(scripted(good)) as (_, server):
        server._closed = True
        server.call("KV/Txn", b"")

        assert not server._idle


def test_logins_are_not_kept() -> None:
    """What is put together for a call is remembered, but not for ever for logins that have ended; an address with colons is in brackets."""
    server = Server("::1", 2379, 30, None)
    for number in range(40):
        server._head("KV/Txn", str(number))

    assert len(server._heads) < 20
    assert 1 == len({server._head("KV/Txn", "1") for _ in range(2)})
