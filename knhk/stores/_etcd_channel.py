"""
gRPC with one server of an etcd cluster, over HTTP/2 (RFC 9113) on connections that are kept.

A step is one call of a kilobyte or two. The libraries for gRPC and HTTP/2 take longer for it than the engine does for the step,
because they are made for many calls at a time on a connection; here is one at a time on each, and another connection where
several are made at the same time.
Only the compression of headers is a library's; the server is asked to do without what it remembers from block to block.
"""

from __future__ import annotations

import ssl
import struct
from collections.abc import Callable
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Final, NamedTuple
from urllib.parse import unquote

from knhk.errors import MissingExtra

try:
    from hpack import Decoder, Encoder, HPACKError, NeverIndexedHeaderTuple
except ImportError as error:
    raise MissingExtra("etcd", "a store on etcd") from error

OK: Final = 0
CANCELLED: Final = 1
UNKNOWN: Final = 2
DEADLINE_EXCEEDED: Final = 4
UNAVAILABLE: Final = 14
"""Statuses of gRPC."""

_KEPT: Final = 32
_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_FRAME: Final = 9
_LONGEST: Final = 16_384
"""Bytes that a frame to us may have."""

_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _LEAVING, _ROOM = 0, 1, 3, 4, 6, 7, 8
_ENDS, _ACKNOWLEDGES, _ENDS_HEADERS, _PADDED, _PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
_TABLE_SIZE, _PUSH, _FIRST_ROOM, _FRAME_SIZE = 1, 2, 4, 5
_REFUSED: Final = 7
_USUAL_ROOM: Final = 65_535
_MOST_ROOM: Final = 2**31 - 1
_LAST_STREAM: Final = 2**31 - 1
_NUMBER: Final = 0x7FFF_FFFF
"""The bits of a number; the one before them is reserved."""

_BLOCKS: Final = 16
"""Blocks of headers that are remembered; nearly all answers have the same two."""

# They come from what is in front of the server, which may have passed the call on.
_GATEWAYS: Final = (
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
)
_NONSENSE: Final = (OSError, ValueError, struct.error, HPACKError)
"""What a connection may come to, and what may come of it."""


class Unsent(Exception):
    """The server has not taken the call, so that nothing can have been done."""


class Broken(Exception):
    """No answer came, or not all of one: whether the call was done is not known."""


class Answer(NamedTuple):
    """The answer to a call: a status of gRPC, what it says of it, and the message where it is `OK`."""

    status: int
    said: str
    message: bytes


class Server:
    """
    One server, to which there are as many connections as calls at the same time.

    Any thread may call it.

    Args:
        host, port: where it is.
        timeout: seconds that it may be silent.
        tls: given the name of a protocol, how it is made sure who it is; None: it is not, and everybody on the way can read.

    Attributes:
        token: who is logged in, or "".
    """

    def __init__(self, host: str, port: int, timeout: float, tls: Callable[[str], ssl.SSLContext] | None) -> None:
        self._host, self._port, self._timeout = host, port, timeout
        self._tls = None if tls is None else tls("h2")
        self._plain_tls = None if tls is None else tls("http/1.1")
        self._heads: dict[tuple[str, str], bytes] = {}
        self._idle: list[_Connection] = []
        self._closed = False
        self.token = ""

    def call(self, method: str, message: bytes) -> Answer:
        """Call a method, such as ``KV/Txn``; raises Unsent or Broken."""
        head = self._heads.get((method, self.token)) or self._head(method, self.token)
        connection = self._connection()
        try:
            answer = connection.call(head, message)
        except BaseException:
            # Whatever is still on its way belongs to nobody.
            connection.close()
            raise
        if connection.lasts and len(self._idle) < _KEPT:
            self._idle.append(connection)
        else:
            connection.close()
        if self._closed:
            self.close()
        return answer

    def metrics(self) -> bytes | None:
        """Return the figures that the server tells of itself, or None where it does not."""
        line = self._line(self._plain_tls)
        try:
            line.request("GET", "/metrics")
            said = line.getresponse()
            return said.read() if said.status == HTTPStatus.OK else None
        except (OSError, HTTPException):
            return None
        finally:
            line.close()

    def close(self) -> None:
        """Close the connections, those in use when their answer is there."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    def _head(self, method: str, token: str) -> bytes:
        """Return the block of headers of a call, which nothing before it on the connection changes."""
        where = f"[{self._host}]" if ":" in self._host else self._host
        fields = [
            (":method", "POST"),
            (":scheme", "http" if self._tls is None else "https"),
            (":path", f"/etcdserverpb.{method}"),
            (":authority", f"{where}:{self._port}"),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            *([("token", token)] if token else []),
        ]
        head = Encoder().encode([NeverIndexedHeaderTuple(*each) for each in fields])
        if len(self._heads) >= _BLOCKS:
            # Of logins that have ended.
            self._heads.clear()
        self._heads[method, token] = head
        return head

    def _connection(self) -> _Connection:
        while True:
            try:
                # The one that was used last: the others may have been closed for being idle.
                kept = self._idle.pop()
            except IndexError:
                return _Connection(self._line(self._tls))
            if kept.usable():
                return kept
            kept.close()

    def _line(self, tls: ssl.SSLContext | None) -> HTTPConnection:
        """Return what connects; of HTTP/1.1 it is used for its connecting only, but for the metrics."""
        if tls is None:
            return HTTPConnection(self._host, self._port, timeout=self._timeout)
        return HTTPSConnection(self._host, self._port, timeout=self._timeout, context=tls)


class _Connection:
    """A connection, for one call at a time; raises Unsent where it cannot be made."""

    def __init__(self, line: HTTPConnection) -> None:
        self._line = line
        # What is to be sent with the next call: nobody waits for it, and sent by itself it would cost both sides a turn.
        self._owed = b""
        self._come = bytearray()
        self._headers = Decoder()
        # So the same block says the same wherever it stands.
        self._headers.header_table_size = self._headers.max_allowed_table_size = 0
        self._blocks: dict[bytes, dict[bytes, bytes]] = {}
        self._frame_size = _LONGEST
        self._first_room = _USUAL_ROOM
        self._room = _USUAL_ROOM
        self._stream_room = 0
        self._eaten = 0
        self._stream = -1
        self._fields: dict[bytes, bytes] = {}
        self._parts: list[bytes] = []
        self._ended = True
        self.lasts = True
        try:
            self._greet()
        except (*_NONSENSE, Broken) as error:
            self.close()
            raise Unsent(str(error)) from error
        except BaseException:
            self.close()
            raise

    def usable(self) -> bool:
        """Whether another call may be made, after all that has come meanwhile."""
        self._line.sock.settimeout(0)
        try:
            while True:
                self._take()
        except (BlockingIOError, ssl.SSLWantReadError):
            return self.lasts
        except (*_NONSENSE, Broken):
            return False
        finally:
            self._line.sock.settimeout(self._line.timeout)

    def call(self, head: bytes, message: bytes) -> Answer:
        """Make a call; raises Unsent or Broken."""
        self._stream += 2
        self._stream_room = self._first_room
        self._fields, self._parts, self._ended = {}, [], False
        self.lasts = self._stream < _LAST_STREAM
        try:
            self._send(head, b"\0" + len(message).to_bytes(4, "big") + message)
            while not self._ended:
                self._take()
            return self._answer()
        except _NONSENSE as error:
            raise Broken(str(error)) from error

    def close(self) -> None:
        self._line.close()

    # --- what is sent -------------------------------------------------------------------------------------------------

    def _greet(self) -> None:
        """Connect, and learn what the server takes; by TLS 1.3 it is only then that it has accepted our certificate."""
        self._line.connect()
        settings = struct.pack(">HIHIHI", _TABLE_SIZE, 0, _PUSH, 0, _FIRST_ROOM, _MOST_ROOM)
        room = (_MOST_ROOM - _USUAL_ROOM).to_bytes(4, "big")
        self._line.sock.sendall(_PREFACE + _frame(_SETTINGS, 0, 0, settings) + _frame(_ROOM, 0, 0, room))
        if self._take() != _SETTINGS:
            raise Broken("the server does not speak HTTP/2")

    def _send(self, head: bytes, data: bytes) -> None:
        """Send a call, as much at a time as the server has room for."""
        self._owed += _frame(_HEADERS, _ENDS_HEADERS, self._stream, head)
        at = 0
        while at < len(data):
            size = min(len(data) - at, self._frame_size, self._room, self._stream_room)
            if size <= 0:
                self._pay()
                self._take()
                if self._ended:
                    # It answers without having heard all of it, as where that is too much, and may still expect the rest.
                    self.lasts = False
                    return
                continue
            ends = _ENDS if at + size == len(data) else 0
            self._owed += _frame(_DATA, ends, self._stream, data[at : at + size])
            at += size
            self._room -= size
            self._stream_room -= size
        self._pay()

    def _pay(self) -> None:
        """Send what there is to be sent."""
        if self._owed:
            owed, self._owed = self._owed, b""
            self._line.sock.sendall(owed)

    # --- what comes ---------------------------------------------------------------------------------------------------

    def _answer(self) -> Answer:
        status = int(self._fields.get(b":status", b"0"))
        if status != HTTPStatus.OK:
            return Answer(UNAVAILABLE if status in _GATEWAYS else UNKNOWN, f"HTTP status {status}", b"")
        if b"grpc-status" not in self._fields:
            raise Broken("the answer has no status")
        code = int(self._fields[b"grpc-status"])
        if code != OK:
            return Answer(code, unquote(self._fields.get(b"grpc-message", b"").decode()), b"")
        message = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        if message[:1] != b"\0" or int.from_bytes(message[1:5], "big") != len(message) - 5:
            raise Broken("the answer is not one message")
        return Answer(OK, "", message[5:])

    def _take(self) -> int:
        """Take the next frame; returns its kind."""
        kind, flags, stream, payload = self._next()
        ours = stream == self._stream and not self._ended
        if kind == _DATA:
            self._eat(len(payload))
            if ours:
                self._parts.append(_bare(flags, payload))
                self._ended = bool(flags & _ENDS)
        elif kind == _HEADERS:
            block = _bare(flags, payload)
            while not flags & _ENDS_HEADERS:
                _, more, _, rest = self._next()
                flags |= more & _ENDS_HEADERS
                block += rest
            if ours:
                self._fields |= self._read(block)
                self._ended = bool(flags & _ENDS)
        elif kind == _ROOM:
            self._widen(stream, int.from_bytes(payload, "big") & _NUMBER)
        elif kind == _SETTINGS and not flags & _ACKNOWLEDGES:
            self._settle(payload)
            self._owed += _frame(_SETTINGS, _ACKNOWLEDGES, 0, b"")
        elif kind == _PING and not flags & _ACKNOWLEDGES:
            self._owed += _frame(_PING, _ACKNOWLEDGES, 0, payload)
        elif kind == _RESET and ours:
            code = int.from_bytes(payload, "big")
            raise (Unsent if code == _REFUSED else Broken)(f"the server has given up the call, with code {code}")
        elif kind == _LEAVING:
            self.lasts = False
            if not self._ended and int.from_bytes(payload[:4], "big") & _NUMBER < self._stream:
                raise Unsent("the server is about to end")
        return kind

    def _next(self) -> tuple[int, int, int, bytes]:
        """Return kind, flags, stream and payload of the next frame."""
        come = self._come
        while len(come) < _FRAME:
            self._receive()
        length = come[0] << 16 | come[1] << 8 | come[2]
        if length > _LONGEST:
            raise Broken("the server does not speak HTTP/2")
        end = _FRAME + length
        while len(come) < end:
            self._receive()
        kind, flags, stream = struct.unpack_from(">BBI", come, 3)
        payload = bytes(come[_FRAME:end])
        del come[:end]
        return kind, flags, stream, payload

    def _receive(self) -> None:
        found = self._line.sock.recv(65_536)
        if not found:
            raise Broken("the connection ended")
        self._come += found

    def _read(self, block: bytes) -> dict[bytes, bytes]:
        """Return the fields of a block of headers."""
        known = self._blocks.get(block)
        if known is None:
            known = dict(self._headers.decode(block, raw=True))
            if len(self._blocks) < _BLOCKS:
                self._blocks[block] = known
        return known

    def _widen(self, stream: int, more: int) -> None:
        if stream == 0:
            self._room += more
        elif stream == self._stream:
            self._stream_room += more

    def _settle(self, settings: bytes) -> None:
        for name, value in struct.iter_unpack(">HI", settings):
            if name == _FIRST_ROOM:
                self._stream_room += value - self._first_room
                self._first_room = value
            elif name == _FRAME_SIZE:
                self._frame_size = value

    def _eat(self, size: int) -> None:
        """Give the server the room again that an answer has taken of what the connection has."""
        self._eaten += size
        if self._eaten > _MOST_ROOM // 2:
            self._owed += _frame(_ROOM, 0, 0, self._eaten.to_bytes(4, "big"))
            self._eaten = 0
            self._pay()


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + struct.pack(">BBI", kind, flags, stream) + payload


def _bare(flags: int, payload: bytes) -> bytes:
    """Return what a frame of data or headers holds, without padding and priority."""
    if flags & _PADDED:
        payload = payload[1 : len(payload) - payload[0]]
    # Of data this flag is never set.
    return payload[5:] if flags & _PRIORITY else payload
