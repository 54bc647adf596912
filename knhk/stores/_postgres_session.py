"""
A connection to PostgreSQL, with a way to call a function that is called for every step.

What a cursor of psycopg does for each call (queries, adapters, rows) costs three times what libpq needs for it.
So such a call gives libpq its parameters as bytes, and waits in libpq too; it raises psycopg's errors as a cursor does, and in
the main thread can be interrupted as a cursor can.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Final

import attrs

from knhk.stores._postgres_url import psycopg

_TEXT: Final = 0
_BINARY: Final = 1
_BYTEA: Final = 17
_IDLE: Final = psycopg.pq.TransactionStatus.IDLE
_FAILED: Final = psycopg.pq.ExecStatus.FATAL_ERROR
_LENGTH: Final = struct.Struct("!i").pack


@attrs.define(eq=False)
class Request:
    """
    A call of a function that writes.

    Args:
        function: its name.
        texts: its parameters behind the writer and the number of its transaction: numbers, texts or JSON, all as text, or NULL.
        last: its last parameter: bytes, or an array of them.
        held: where documents are held, what `hold_3` is given before it is called.
    """

    function: str
    texts: Sequence[str | None]
    last: bytes | Sequence[bytes]
    held: Sequence[str] = ()


class Session(psycopg.Connection[tuple[Any, ...]]):
    """A connection of a store."""

    @cached_property
    def _callable(self) -> dict[bytes, Sequence[int]]:
        """Of each function that is prepared the formats of its parameters."""
        return {}

    @property
    def idle(self) -> bool:
        """Whether it is open, and in the middle of nothing."""
        return self.pgconn.transaction_status == _IDLE

    def call(self, schema: str, writer: int, transaction: int, request: Request) -> bytes:
        """
        Call a function that writes.

        Args:
            schema: always the same on one connection.
            writer, transaction: its first parameters.
            request: which, and its others; prepared the first time.

        Returns:
            The JSON text that it returns.

        Raises:
            psycopg.Error: as a cursor raises it.
            UnicodeEncodeError: a text cannot be said in the encoding of the connection.
        """
        encoding = self._encoding
        last = request.last
        said: list[bytes | None] = [b"%d" % writer, b"%d" % transaction]
        said += [None if each is None else each.encode(encoding) for each in request.texts]
        said.append(last if isinstance(last, bytes) else _array(last))
        held, name = request.held, request.function.encode()
        if held:
            name += b" held"
            said += [each.encode(encoding) for each in held]
        formats = self._callable.get(name)
        if formats is None:
            marks = [f"${number}" for number in range(1, len(said) + 1)]
            own, rest = marks[: len(said) - len(held)], marks[len(said) - len(held) :]
            first = f' FROM "{schema}".hold_3({", ".join(rest)})' if held else ""
            self.pgconn.send_prepare(name, f'SELECT "{schema}".{request.function}({", ".join(own)}){first}'.encode())
            self._answered()
            formats = self._callable[name] = (*[_TEXT] * (len(own) - 1), _BINARY, *[_TEXT] * len(held))
        if threading.current_thread() is threading.main_thread():
            # The one thread that signals interrupt; libpq would not hear of them.
            self.pgconn.send_query_prepared(name, said, formats)
            result = self._answered()
        else:
            result = self._judged(self.pgconn.exec_prepared(name, said, formats))  # type: ignore[arg-type]  # which has None too
        answer = result.get_value(0, 0)
        assert answer is not None
        return answer

    @cached_property
    def _encoding(self) -> str:
        return self.info.encoding

    def _answered(self) -> psycopg.pq.abc.PGresult:
        return self._judged(self.wait(psycopg.generators.execute(self.pgconn))[-1])

    def _judged(self, result: psycopg.pq.abc.PGresult) -> psycopg.pq.abc.PGresult:
        if result.status != _FAILED:
            return result
        error = psycopg.errors.error_from_result(result, self._encoding)
        # Without a state the server has not said it: the connection broke.
        raise error if error.sqlstate else psycopg.OperationalError(str(error))


def _array(blobs: Sequence[bytes]) -> bytes:
    """Return a ``bytea[]`` as the protocol has it: dimensions, whether there are NULLs, the type; size, first index; elements."""
    if not blobs:
        return struct.pack("!iiI", 0, 0, _BYTEA)
    parts = [struct.pack("!iiIii", 1, 0, _BYTEA, len(blobs), 1)]
    for each in blobs:
        parts += _LENGTH(len(each)), each
    return b"".join(parts)
