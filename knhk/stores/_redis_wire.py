"""
How a command goes to a Redis server and its answer comes back, on a connection that the library has made.

Where it can be, a call is one send and one receive on the socket: what the library does around them costs as much as what it asks
the system for, and its timeouts ask the system once more before each.
By TLS, and where the parts that this is made of are missing, the library does it.
"""

from __future__ import annotations

import select
import socket
import struct
from typing import Any, Final

from knhk.errors import MissingExtra

try:
    from redis import exceptions
except ImportError as error:
    raise MissingExtra("redis", "a store on Redis") from error
try:
    from hiredis import Reader, pack_command
except ImportError:
    # The extra has it; without it the library packs and reads, more slowly.
    Reader, pack_command = None, None  # type: ignore[assignment,misc]

_AT_ONCE: Final = 65536
_MORE: Final = object()
_MICROSECONDS: Final = 1_000_000
# Seconds and microseconds, as systems of 64 bits have them; on one of 32 bits they may be longer than this says.
_INTERVAL: Final = struct.Struct("@ll")
_KNOWN: Final = hasattr(select, "poll") and _INTERVAL.size == 16


class Wire:
    """
    A connection, by the library's own means.

    Args:
        connection: connected and checked; nobody else's from now on.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def is_usable(self) -> bool:
        """Whether the server has not ended it meanwhile: then it is known that nothing was sent."""
        try:
            return not self._connection.can_read()
        except (exceptions.ConnectionError, exceptions.TimeoutError):
            return False

    def call(self, command: tuple[object, ...]) -> Any:
        """
        Send a command and return its answer.

        Raises:
            ResponseError: the answer is an error, and the connection as good as before.
            RedisError: any other; the connection is to be closed.
                After a ConnectionError or a TimeoutError it is not known whether the command was done.
        """
        packed = self._connection.pack_command(*command) if pack_command is None else [_packed(command)]
        self._connection.send_packed_command(packed, check_health=False)
        return self._connection.read_response()

    def close(self) -> None:
        """End the connection."""
        self._connection.disconnect()


class _Direct(Wire):
    """
    A connection without TLS, whose calls wait in the system alone.

    Args:
        connection: as above.
        plain: its socket.
        timeout: seconds that a send or a receive may take.
    """

    def __init__(self, connection: Any, plain: socket.socket, timeout: float) -> None:
        super().__init__(connection)
        plain.setblocking(True)
        longest = _INTERVAL.pack(*divmod(max(round(timeout * _MICROSECONDS), 1), _MICROSECONDS))
        for which in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            plain.setsockopt(socket.SOL_SOCKET, which, longest)
        self._send, self._receive = plain.sendall, plain.recv
        # The kinds of errors that the library knows are told apart by their first word as well.
        self._reader = Reader(
            protocolError=exceptions.InvalidResponse, replyError=exceptions.ResponseError, notEnoughData=_MORE
        )
        poll = select.poll()
        poll.register(plain, select.POLLIN)
        self._poll = poll.poll

    def is_usable(self) -> bool:
        # Nobody has asked anything: what can be read is the end, or an answer to nobody.
        return not (self._poll(0) or self._reader.has_data())

    def call(self, command: tuple[object, ...]) -> Any:
        reader = self._reader
        try:
            self._send(_packed(command))
            reader.feed(self._received())
            while (answer := reader.gets()) is _MORE:
                reader.feed(self._received())
        except BlockingIOError as error:
            raise exceptions.TimeoutError("no answer in time") from error
        except OSError as error:
            raise exceptions.ConnectionError(str(error)) from error
        if isinstance(answer, exceptions.ResponseError):
            raise answer
        return answer

    def _received(self) -> bytes:
        data = self._receive(_AT_ONCE)
        if not data:
            raise exceptions.ConnectionError("Connection closed by server.")
        return data


def wire(connection: Any, timeout: float) -> Wire:
    """Return the shorter way that there is."""
    plain = getattr(connection, "_sock", None)
    if _KNOWN and pack_command is not None and type(plain) is socket.socket:
        return _Direct(connection, plain, timeout)
    return Wire(connection)


def _packed(command: tuple[object, ...]) -> bytes:
    """Return what is sent, packed in C as it is: the library looks at each argument of a group's thousands first."""
    return pack_command(command)  # type: ignore[arg-type,no-any-return]  # its stub says a tuple of one
