"""
The connections of a PostgreSQL store, and what their errors mean.

A connection is made in the thread that wants it, when none is idle: so a server that is away is told at once, by every call,
and one that came back is noticed by the next call.
Each is asked first whether the server keeps what the durability promises; after a failover that may be another server.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from knhk.errors import KnhkError, StoreError, StoreFull, StoreUnavailable
from knhk.ports import Durability
from knhk.stores._postgres_session import Session
from knhk.stores._postgres_url import Address, psycopg

_DISK_FULL: Final = "53100"
# By the beginning of SQLSTATE: resources, a lock, the operator, a read-only server, deadlock, the system, the connection.
_UNAVAILABLE: Final = ("53", "55P03", "57", "25006", "40", "58", "08")
_DAMAGED: Final = "XX"
_NOT_ALLOWED: Final = "42501"

_PREPARE: Final = (
    "SELECT set_config('lock_timeout', %s, false),"
    " set_config('synchronous_commit',"
    "  CASE WHEN %s THEN CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on'"
    "   ELSE current_setting('synchronous_commit') END ELSE 'off' END, false),"
    # Plans may not depend on how large the tables were when a session began: they go by the indexes.
    " set_config('enable_seqscan', 'off', false), set_config('enable_hashjoin', 'off', false),"
    " set_config('enable_mergejoin', 'off', false), set_config('jit', 'off', false),"
    " current_setting('fsync'), current_setting('full_page_writes'), pg_is_in_recovery()"
)


class Connections:
    """
    At most so many connections as the address says.

    Args:
        address: where, and how many.
        durability: what the server has to keep.
    """

    def __init__(self, address: Address, durability: Durability) -> None:
        self.address = address
        self._durability = durability
        self._free = threading.Semaphore(address.connections)
        self._lock = threading.Lock()
        self._idle: list[Session] = []
        self._closed = False

    @contextmanager
    def use(self) -> Iterator[Session]:
        """Give a connection to one thread; errors of psycopg leave as ours, and a connection that broke is not used again."""
        self.check_open()
        if not self._free.acquire(timeout=self.address.timeout):
            raise StoreUnavailable(
                f"{self.address.named}: all {self.address.connections} connections are in use for {self.address.timeout:g} s; "
                "nothing was written, try again later or raise connections= in the URL"
            )
        connection: Session | None = None
        try:
            connection = self._take()
            yield connection
        except psycopg.Error as error:
            raise translated(error, self.address.named) from error
        except (UnicodeEncodeError, OverflowError) as error:
            raise StoreError(f"a value cannot be stored: {error}") from error
        finally:
            if connection is not None:
                self._give_back(connection)
            self._free.release()

    def suspect(self) -> None:
        """Close what is idle: a connection broke, and those that were open with it may have broken too."""
        with self._lock:
            idle, self._idle = self._idle, []
        for each in idle:
            each.close()

    def close(self) -> None:
        """Close all, those in use when they come back."""
        self._closed = True
        self.suspect()

    def check_open(self) -> None:
        """Raise StoreUnavailable where it is closed."""
        if self._closed:
            raise StoreUnavailable(f"the store in {self.address.named} is closed")

    def _take(self) -> Session:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        connection = Session.connect(autocommit=True, **self.address.parameters)
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _give_back(self, connection: Session) -> None:
        # Anything but idle: broken, or interrupted in the middle of something.
        if connection.idle:
            with self._lock:
                if not self._closed:
                    self._idle.append(connection)
                    return
        connection.close()

    def _prepare(self, connection: Session) -> None:
        full = self._durability is Durability.FULL
        patience = f"{round(self.address.timeout * 1000)}ms"
        found = connection.execute(_PREPARE, (patience, full)).fetchone()
        assert found is not None
        synchronous, fsync, whole_pages, standby = found[1], *found[-3:]
        named = self.address.named
        if standby:
            raise StoreUnavailable(
                f"{named} is a standby, which takes no writes: name the primary, or add target_session_attrs=read-write"
            )
        weak = [name for name, value in (("fsync", fsync), ("full_page_writes", whole_pages)) if value != "on"]
        if full and synchronous == "off":
            weak.append("synchronous_commit")
        if weak and self._durability is not Durability.OFF:
            settings = " and ".join(f"{each}=off" for each in weak)
            raise StoreError(
                f"{named} runs with {settings}, so durability {self._durability.value!r} cannot be had there: "
                "change the server, or open the store with durability 'off'"
            )


class Patience:
    """How long something is tried again, with growing pauses."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self._pause = 0.02

    def wait(self) -> bool:
        """Pause; False where there is no time for it any more."""
        left = self._end - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(self._pause, left))
        self._pause = min(self._pause * 2, 0.5)
        return True


def state_of(error: KnhkError) -> str:
    """Return the SQLSTATE of the server's error behind this one; "" where there is none."""
    cause: BaseException | None = error
    while isinstance(cause, KnhkError):
        cause = cause.__cause__
    return cause.sqlstate or "" if isinstance(cause, psycopg.Error) else ""


def broke(error: BaseException | None) -> bool:
    """Whether the connection was lost, or none came about, so that what was asked may or may not have been done."""
    if isinstance(error, KnhkError):
        error = error.__cause__
    if not isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return False
    # Nothing was said at all, the operator or the end of the server ended the session, or the way there.
    return not error.sqlstate or error.sqlstate.startswith(("57P", "08"))


def translated(error: psycopg.Error, named: str) -> KnhkError:
    """Return what an error of the server, or of the way there, means here."""
    state = error.sqlstate or ""
    said = " ".join(str(error).split())
    told = f"{said} ({state})" if state else said
    if state == _DISK_FULL:
        return StoreFull(f"no space is left for {named}: {told}; nothing was written, reading goes on")
    if state.startswith(_UNAVAILABLE) or broke(error):
        return StoreUnavailable(f"{named} is not available: {told}; nothing was written, try again later")
    if state.startswith(_DAMAGED):
        return StoreError(f"{named} is damaged: {told}; restore it from a backup")
    if state == _NOT_ALLOWED:
        return StoreError(f"{named} does not allow it: {told}; grant the user USAGE and CREATE on the schema")
    return StoreError(f"{named}: {told}")
