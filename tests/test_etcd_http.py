"""HTTP/1.1 as the store on etcd speaks it: every shape of an answer, and answers that break off, never come or make no sense."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator, Sequence

import pytest
from servers import free_port

from knhk.stores._etcd_http import Broken, Server, Unsent

KEPT = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class Script:
    """
    A server that reads requests, each in one piece, and gives the next of its answers; None: it gives none.

    Attributes:
        heard: the requests.
        connections: those that were made to it.
    """

    def __init__(self, answers: Sequence[bytes | None], ending: bool) -> None:
        self._answers = list(answers)
        self._ending = ending
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.heard: list[bytes] = []
        self.connections: list[socket.socket] = []
        self.ended = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                line, _ = self._listener.accept()
                self.connections.append(line)
                threading.Thread(target=self._serve, args=(line,), daemon=True).start()

    def _serve(self, line: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while heard := line.recv(65536):
                self.heard.append(heard)
                answer = self._answers.pop(0)
                if answer is None:
                    continue
                line.sendall(answer)
                if self._ending:
                    line.close()
                    self.ended.set()
                    return

    def close(self) -> None:
        """Break every connection, and take no more."""
        for each in (self._listener, *self.connections):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


@contextlib.contextmanager
def scripted(*answers: bytes | None, ending: bool = False, timeout: float = 30) -> Iterator[tuple[Script, Server]]:
    """A script, and who asks it; `ending`: every connection ends behind its answer."""
    script = Script(answers, ending)
    server = Server("127.0.0.1", script.port, timeout, None)
    try:
        yield script, server
    finally:
        server.close()
        script.close()


def test_requests_share_a_connection() -> None:
    """What is asked one after the other goes over one connection, with length, host and login, each in one piece."""
    with scripted(KEPT, KEPT) as (script, server):
        server.token = "secret"
        assert (200, b"{}") == server.post("/v3/kv/txn", b'{"a":1}') == server.get("/metrics")

        head, _, body = script.heard[0].partition(b"\r\n\r\n")
        assert 1 == len(script.connections)
        assert b'{"a":1}' == body
        assert f"Host: 127.0.0.1:{script.port}".encode() in head
        assert {b"POST /v3/kv/txn HTTP/1.1", b"Content-Length: 7", b"Authorization: secret"} <= set(head.split(b"\r\n"))
        assert script.heard[1].startswith(b"GET /metrics HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("answer", "connections"),
    [
        (b"HTTP/1.1 503 Not Now\r\ncontent-length:3\r\n\r\nabc", 1),
        (b"HTTP/1.1 503\r\nTransfer-Encoding: chunked\r\n\r\n1;x=y\r\na\r\n2\r\nbc\r\n0\r\nLast: z\r\n\r\n", 1),
        (b"HTTP/1.1 503 Not Now\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc", 2),
        (b"HTTP/1.0 503 Not Now\r\nContent-Length: 3\r\n\r\nabc", 2),
    ],
)
def test_shapes_of_an_answer(answer: bytes, connections: int) -> None:
    """An answer is read to its end however that is marked, and the connection is kept where the server keeps it."""
    with scripted(answer, KEPT) as (script, server):
        assert (503, b"abc") == server.post("/", b"")
        assert (200, b"{}") == server.post("/", b"")

        assert connections == len(script.connections)


def test_answer_that_ends_with_its_connection() -> None:
    """An answer without a length is what comes until the connection ends."""
    with scripted(b"HTTP/1.1 200 OK\r\n\r\nabc", ending=True) as (_, server):
        assert (200, b"abc") == server.post("/", b"")


def test_connection_that_ended_while_idle() -> None:
    """A connection that the server has closed in the meantime is found out before a request is sent on it."""
    with scripted(KEPT, KEPT, ending=True) as (script, server):
        server.post("/", b"")
        assert script.ended.wait(30)
        server.post("/", b"")

        assert 2 == len(script.connections) == len(script.heard)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nlong\r\nabc",
        b"HTTP/1.1 fine OK\r\nContent-Length: 0\r\n\r\n",
        b"hello\r\n\r\n",
        b"x" * 100_000,
    ],
)
def test_answers_that_break_off_or_make_no_sense(answer: bytes) -> None:
    """Whoever gets half an answer, or something else, does not know what became of his request; the next is asked anew."""
    with scripted(answer, KEPT, ending=True) as (script, server):
        with pytest.raises(Broken):
            server.post("/", b"")
        assert (200, b"{}") == server.post("/", b"")

        assert 2 == len(script.connections)


def test_server_that_is_silent() -> None:
    """A server that says nothing in time breaks the request; its late answer is nobody's."""
    with scripted(None, KEPT, timeout=0.05) as (script, server):
        with pytest.raises(Broken, match="timed out"):
            server.post("/", b"")

        assert (200, b"{}") == server.post("/", b"")
        assert 2 == len(script.connections)


@pytest.mark.parametrize("host", ["127.0.0.1", "no..name"])
def test_server_that_takes_no_connection(host: str) -> None:
    """Where nobody listens, or no host can have that name, nothing was sent."""
    with pytest.raises(Unsent):
        Server(host, free_port(), 30, None).post("/", b"")


def test_address_of_version_6() -> None:
    """An address with colons stands in brackets where a port follows it."""
    assert "[::1]:2379" == Server("::1", 2379, 30, None)._shown


def test_server_that_is_closed_meanwhile() -> None:
    """A connection that is in use when the server is closed is closed behind its answer."""
    with scripted(KEPT) as (_, server):
        server._closed = True
        server.post("/", b"")

        assert not server._idle
