"""
One connection to an SQLite file: who may use it, what its errors mean, and whether it can still be trusted.

After an error that casts doubt on a connection (an fsync that failed may report success when it is retried) it is closed, and
the next use opens the file anew and reads back what it really holds.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

from knhk.errors import KnhkError, StoreError, StoreFull, StoreUnavailable
from knhk.stores._group import Caller, settle

_UNAVAILABLE: Final = frozenset(
    {
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
    }
)
_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
# After these a connection is as good as before; after all others it is replaced.
_HARMLESS: Final = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CONSTRAINT,
        sqlite3.SQLITE_TOOBIG,
    }
)

# These concern one statement; the transaction around it stands.
_REFUSED: Final = frozenset({sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_TOOBIG})
_UNFIT: Final = (UnicodeEncodeError, OverflowError)


class Line:
    """
    One connection, its lock, and the judgement whether it can still be trusted.

    Args:
        path: for messages.
        opening: opens the connection; called again after an error that casts doubt on it.
    """

    def __init__(self, path: str, opening: Callable[[], sqlite3.Connection]) -> None:
        self._path = path
        self._opening = opening
        self._lock = threading.Lock()
        self._closed = False
        self._connection: sqlite3.Connection | None = None
        with self.transaction(None):
            pass

    @contextmanager
    def transaction(self, begin: str | None, group: Sequence[Caller] = ()) -> Iterator[sqlite3.Connection]:
        """
        Give the connection inside a transaction (None: each statement by itself), and translate what goes wrong.

        The callers of `group` are settled once the transaction is.
        """
        committing = False
        with self._lock:
            try:
                connection = self._trusted()
                if begin is not None:
                    connection.execute(begin)
                yield connection
                if begin is not None:
                    committing = True
                    connection.execute("COMMIT")
                settle(group)
            except BaseException as error:
                # An interrupt may arrive when the transaction is over and before we could say so.
                if committing and not isinstance(error, sqlite3.Error) and not connection.in_transaction:
                    settle(group)
                seen = self._judged(error)
                if seen is not error:
                    raise seen from error
                raise

    def execute(self, statement: str, values: Sequence[Any], group: Sequence[Caller]) -> bool:
        """
        Run one statement that changes something, as a transaction of its own, and settle the callers of `group`.

        Returns False where it was refused for what it says, and nothing is changed.
        """
        connection, before = None, 0
        with self._lock:
            try:
                connection = self._trusted()
                before = connection.total_changes
                connection.execute(statement, values)
                settle(group)
            except BaseException as error:
                if is_refused(error):
                    return False
                # An interrupt may arrive here too when all is done and before we could say so.
                if connection and not isinstance(error, sqlite3.Error) and connection.total_changes != before:
                    settle(group)
                seen = self._judged(error)
                if seen is not error:
                    raise seen from error
                raise
        return True

    def close(self) -> None:
        """Close the connection for good."""
        with self._lock:
            self._closed = True
            self._drop()

    def _trusted(self) -> sqlite3.Connection:
        if self._closed:
            raise StoreUnavailable(f"the store {self._path} is closed")
        if self._connection is None:
            self._connection = self._opening()
        return self._connection

    def _judged(self, error: BaseException) -> BaseException:
        """Leave no transaction open, and no connection that is in doubt; returns what callers are to see of an error."""
        self._undo(doubtful=isinstance(error, sqlite3.Error) and code_of(error) not in _HARMLESS)
        return explained(error, self._path) if isinstance(error, (sqlite3.Error, *_UNFIT)) else error

    def _undo(self, *, doubtful: bool) -> None:
        connection = self._connection
        if connection is None:
            return
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            doubtful = True
        if doubtful:
            self._drop()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()


def code_of(error: sqlite3.Error) -> int:
    """Return the kind of an error, without its details; the driver's own errors have none."""
    return int(getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)) & 0xFF


def is_refused(error: BaseException) -> bool:
    """Say whether an error is about what one statement says, and not about the transaction around it or the file."""
    return isinstance(error, _UNFIT) or (isinstance(error, sqlite3.Error) and code_of(error) in _REFUSED)


def explained(error: Exception, path: str) -> KnhkError:
    """Return what callers are told of an error of SQLite, or of a value that it cannot hold; an error of ours is told as it is."""
    if isinstance(error, KnhkError):
        return error
    if not isinstance(error, sqlite3.Error):
        return StoreError(f"a value cannot be stored: {error}")
    code = code_of(error)
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    if code == sqlite3.SQLITE_FULL:
        return StoreFull(f"no space is left for {path}: {error} ({name}); nothing was written, reading goes on")
    if code in _UNAVAILABLE:
        return StoreUnavailable(f"{path} is not available: {error} ({name}); nothing was written, try again later")
    if code in _DAMAGED:
        return StoreError(f"{path} is damaged or not an SQLite database: {error} ({name}); restore it from a backup")
    return StoreError(f"{path}: {error} ({name})")
