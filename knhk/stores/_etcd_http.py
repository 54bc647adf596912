"""
HTTP/1.1 with one server of an etcd cluster.

A step is a request of a kilobyte or two, for which a library that can do all of HTTP takes longer than the engine does for the
step: what is here is what etcd's gateway, or a proxy in front of it, needs of it (RFC 9112), on connections that are kept.
"""

from __future__ import annotations

import selectors
import ssl
from http.client import HTTPConnection, HTTPSConnection
from typing import IO, Final

_KEPT: Final = 32
_LINE: Final = 64 * 1024
"""Bytes that a line of an answer's head has at most."""


class Unsent(Exception):
    """The server took no connection, so that nothing can have been done."""


class Broken(Exception):
    """No answer came, or not all of one: whether the request was done is not known."""


class Server:
    """
    One server, to which there are as many connections as requests at the same time.

    Any thread may call it.

    Args:
        host, port: where it is.
        timeout: seconds that it may be silent.
        tls: how it is made sure who it is; None: it is not, and everybody on the way can read.

    Attributes:
        token: who is logged in, or "".
    """

    def __init__(self, host: str, port: int, timeout: float, tls: ssl.SSLContext | None) -> None:
        self._host, self._port, self._timeout, self._tls = host, port, timeout, tls
        self._shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._idle: list[_Connection] = []
        self._closed = False
        self.token = ""

    def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Return status and body of the answer to a JSON text; raises Unsent or Broken."""
        login = f"Authorization: {self.token}\r\n" if self.token else ""
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {self._shown}\r\nAccept-Encoding: identity\r\n{login}"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return self._exchange(head.encode("latin-1") + body)

    def get(self, path: str) -> tuple[int, bytes]:
        """Return status and body of what is under a path; raises Unsent or Broken."""
        return self._exchange(
            f"GET {path} HTTP/1.1\r\nHost: {self._shown}\r\nAccept-Encoding: identity\r\n\r\n".encode()
        )

    def close(self) -> None:
        """Close the connections, those in use when their answer is there."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    def _exchange(self, request: bytes) -> tuple[int, bytes]:
        connection = self._connection()
        try:
            status, body, stays = connection.exchange(request)
        except BaseException:
            # Whatever is still on its way belongs to nobody.
            connection.close()
            raise
        if stays and len(self._idle) < _KEPT:
            self._idle.append(connection)
        else:
            connection.close()
        if self._closed:
            self.close()
        return status, body

    def _connection(self) -> _Connection:
        while True:
            try:
                # The one that was used last: the others may have been closed for being idle.
                kept = self._idle.pop()
            except IndexError:
                return _Connection(self._line())
            if kept.quiet():
                return kept
            kept.close()

    def _line(self) -> HTTPConnection:
        if self._tls is None:
            return HTTPConnection(self._host, self._port, timeout=self._timeout)
        return HTTPSConnection(self._host, self._port, timeout=self._timeout, context=self._tls)


class _Connection:
    """A connection, for one request at a time."""

    def __init__(self, line: HTTPConnection) -> None:
        self._line = line
        try:
            line.connect()
        except (OSError, UnicodeError) as error:
            line.close()
            raise Unsent(str(error)) from error
        self._answers: IO[bytes] = line.sock.makefile("rb")
        self._watch = selectors.DefaultSelector()
        self._watch.register(line.sock, selectors.EVENT_READ)
        self._proven = False

    def quiet(self) -> bool:
        """Whether nothing has come that nobody asked for, such as its end."""
        return not self._watch.select(0)

    def exchange(self, request: bytes) -> tuple[int, bytes, bool]:
        """Send a request; return status and body of its answer, and whether another may follow."""
        try:
            self._line.sock.sendall(request)
            answer = self._answer()
        except ssl.SSLError as error:
            if not self._proven and "ALERT" in (error.reason or ""):
                # By TLS 1.3 a client learns only now that his certificate is refused.
                raise Unsent(str(error)) from error
            raise Broken(str(error)) from error
        except (OSError, ValueError) as error:
            raise Broken(str(error)) from error
        self._proven = True
        return answer

    def close(self) -> None:
        self._watch.close()
        self._answers.close()
        self._line.close()

    def _answer(self) -> tuple[int, bytes, bool]:
        version, status, *_ = self._read_line().split(None, 2)
        fields: dict[bytes, bytes] = {}
        while field := self._read_line():
            name, _, value = field.partition(b":")
            fields[name.lower()] = value.strip()
        stays = version == b"HTTP/1.1" and fields.get(b"connection", b"").lower() != b"close"
        if fields.get(b"transfer-encoding", b"").lower() == b"chunked":
            body = self._chunks()
        elif b"content-length" in fields:
            body = self._read(int(fields[b"content-length"]))
        else:
            body, stays = self._answers.read(), False
        return int(status), body, stays

    def _chunks(self) -> bytes:
        chunks: list[bytes] = []
        while length := int(self._read_line().partition(b";")[0], 16):
            chunks.append(self._read(length))
            self._read_line()
        while self._read_line():
            # What follows the last chunk says nothing of the answer.
            pass
        return b"".join(chunks)

    def _read(self, length: int) -> bytes:
        found = self._answers.read(length)
        if len(found) < length:
            raise Broken("the connection broke in the middle of the answer")
        return found

    def _read_line(self) -> bytes:
        line = self._answers.readline(_LINE)
        if not line.endswith(b"\n"):
            raise Broken("the connection broke before the answer" if len(line) < _LINE else "the answer is not HTTP")
        return line.rstrip(b"\r\n")
