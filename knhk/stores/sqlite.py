"""The embedded default: one SQLite file in WAL mode, no server.

Tables, compact on purpose (a case of a dozen commits costs about a kilobyte):

- ``cases``: one row a case, with what can be asked without loading it; partial indexes on due timers and waiting work
- ``journal``: one row a commit, the bytes that `knhk.journal` made
- ``snapshots``: the last snapshot of a case
- ``items``: the worklist, open items only
- ``idempotency``, ``specifications``

A commit is one transaction; the compare-and-swap on the version is its first statement.
WAL mode and ``synchronous`` are set and read back: a file system that cannot give them is refused at the start.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from knhk.errors import (
    ConcurrentUpdate,
    IdempotencyConflict,
    QuarantinedCase,
    SpecificationConflict,
    StoreError,
    StoreFull,
    StoreUnavailable,
    UnknownCase,
    UnknownSpecification,
)
from knhk.ports import CaseHeader, Commit, Durability, ItemRow, StoredCase, StoredSpecification

SCHEMA_VERSION: Final = 1

_SCHEMA: Final = """
CREATE TABLE specifications (
  id INTEGER PRIMARY KEY, spec_id TEXT NOT NULL, version TEXT NOT NULL, content_hash TEXT NOT NULL, text TEXT NOT NULL,
  UNIQUE (spec_id, version));
CREATE TABLE cases (
  id INTEGER PRIMARY KEY, case_id TEXT NOT NULL UNIQUE, spec INTEGER NOT NULL REFERENCES specifications (id),
  state TEXT NOT NULL, version INTEGER NOT NULL, due INTEGER, runnable INTEGER, quarantined TEXT);
CREATE INDEX cases_due ON cases (due) WHERE due IS NOT NULL;
CREATE INDEX cases_runnable ON cases (case_id) WHERE runnable IS NOT NULL;
CREATE TABLE journal (
  case_row INTEGER NOT NULL, version INTEGER NOT NULL, batch BLOB NOT NULL, PRIMARY KEY (case_row, version)) WITHOUT ROWID;
CREATE TABLE snapshots (case_row INTEGER PRIMARY KEY, version INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE items (
  case_row INTEGER NOT NULL, number INTEGER NOT NULL, path TEXT NOT NULL, state TEXT NOT NULL, participant TEXT NOT NULL,
  roles TEXT NOT NULL, topic TEXT NOT NULL, PRIMARY KEY (case_row, number)) WITHOUT ROWID;
CREATE TABLE idempotency (key TEXT PRIMARY KEY, digest TEXT NOT NULL, case_row INTEGER NOT NULL) WITHOUT ROWID;
"""

_SYNCHRONOUS: Final = {Durability.FULL: 2, Durability.NORMAL: 1, Durability.OFF: 0}
_HEADER: Final = """SELECT c.case_id, s.spec_id, s.version, c.state, c.due, c.runnable, c.version, c.quarantined, c.id
 FROM cases c JOIN specifications s ON s.id = c.spec"""


class SqliteStore:
    """
    Cases in one SQLite file; several processes may open the same one.

    Args:
        path: the file; its folder must exist.
        durability: what an acknowledged commit survives.
        busy_timeout_ms: how long to wait for another process's transaction.

    Raises:
        StoreUnavailable: the file cannot be opened or written.
        StoreError: it is damaged, newer than this code, or cannot give the durability asked for.
    """

    def __init__(
        self, path: str | Path, *, durability: Durability = Durability.FULL, busy_timeout_ms: int = 5_000
    ) -> None:
        self._path = Path(path)
        self._durability = durability
        self._timeout = busy_timeout_ms
        self._lock = threading.RLock()
        self._closed = False
        self._connection: sqlite3.Connection | None = None
        if str(path) in ("", ":memory:") or not self._path.parent.is_dir():
            message = f"cannot open {str(path)!r}: its folder does not exist, or it names no file"
            raise StoreUnavailable(message)
        with self._using():
            pass

    @property
    def durability(self) -> Durability:
        """What an acknowledged commit survives."""
        return self._durability

    # --- writing ------------------------------------------------------------------------------------------------------

    def commit(self, commits: Sequence[Commit]) -> None:
        """Store all steps in one transaction, or none and raise."""
        with self._using() as connection, _transaction(connection):
            for commit in commits:
                self._apply(connection, commit)

    def quarantine(self, case_id: str, reason: str) -> None:
        """Set a damaged case aside."""
        with self._using() as connection, _transaction(connection):
            row = self._row(connection, case_id)
            connection.execute("UPDATE cases SET quarantined = ? WHERE id = ?", (reason, row))

    def put_specification(self, specification: StoredSpecification) -> None:
        """Store a registration; other content under the same version is refused."""
        each = specification
        with self._using() as connection, _transaction(connection):
            found = connection.execute(
                "SELECT content_hash FROM specifications WHERE spec_id = ? AND version = ?",
                (each.spec_id, each.version),
            ).fetchone()
            if found is None:
                connection.execute(
                    "INSERT INTO specifications (spec_id, version, content_hash, text) VALUES (?, ?, ?, ?)",
                    (each.spec_id, each.version, each.content_hash, each.text),
                )
            elif found[0] != each.content_hash:
                message = f"{each.spec_id} version {each.version} is registered with other content: give this one a new version"
                raise SpecificationConflict(message)

    def close(self) -> None:
        """Close the file; further calls are refused."""
        with self._lock:
            self._closed = True
            self._disconnect()

    # --- reading ------------------------------------------------------------------------------------------------------

    def load(self, case_id: str) -> StoredCase:
        """Read a case: its header, last snapshot and the batches since, as of one moment."""
        with self._using() as connection, _transaction(connection, write=False):
            row = connection.execute(f"{_HEADER} WHERE c.case_id = ?", (case_id,)).fetchone()
            if row is None:
                raise _unknown(case_id)
            header = _header(row)
            if header.quarantined:
                message = f"case {case_id} is set aside: {header.quarantined}"
                raise QuarantinedCase(message)
            snapshot = connection.execute(
                "SELECT version, body FROM snapshots WHERE case_row = ?", (row[8],)
            ).fetchone()
            since, body = (0, None) if snapshot is None else snapshot
            batches = connection.execute(
                "SELECT batch FROM journal WHERE case_row = ? AND version > ? ORDER BY version", (row[8], since)
            ).fetchall()
            return StoredCase(header=header, snapshot=body, batches=tuple(batch for (batch,) in batches))

    def history(self, case_id: str) -> tuple[bytes, ...]:
        """Read all batches of a case from its creation on."""
        with self._using() as connection:
            row = self._row(connection, case_id)
            found = connection.execute("SELECT batch FROM journal WHERE case_row = ? ORDER BY version", (row,))
            return tuple(batch for (batch,) in found)

    def header(self, case_id: str) -> CaseHeader:
        """Read a case's header."""
        with self._using() as connection:
            row = connection.execute(f"{_HEADER} WHERE c.case_id = ?", (case_id,)).fetchone()
            if row is None:
                raise _unknown(case_id)
            return _header(row)

    def cases(
        self, *, spec_id: str | None = None, state: str | None = None, after: str = "", limit: int = 100
    ) -> Sequence[CaseHeader]:
        """List headers by ascending case id."""
        with self._using() as connection:
            found = connection.execute(
                f"{_HEADER} WHERE c.case_id > ?1 AND (?2 IS NULL OR s.spec_id = ?2) AND (?3 IS NULL OR c.state = ?3)"
                " ORDER BY c.case_id LIMIT ?4",
                (after, spec_id, state, limit),
            )
            return [_header(row) for row in found]

    def items(
        self,
        *,
        case_id: str | None = None,
        state: str | None = None,
        by: str | None = None,
        limit: int = 100,
        after: tuple[str, int] = ("", 0),
    ) -> Sequence[ItemRow]:
        """List open worklist rows by (case id, number)."""
        with self._using() as connection:
            found = connection.execute(
                "SELECT c.case_id, i.number, i.path, i.state, i.participant, i.roles, i.topic"
                " FROM items i JOIN cases c ON c.id = i.case_row WHERE (c.case_id, i.number) > (?1, ?2)"
                " AND (?3 IS NULL OR c.case_id = ?3) AND (?4 IS NULL OR i.state = ?4) AND (?5 IS NULL OR i.participant = ?5)"
                " ORDER BY c.case_id, i.number LIMIT ?6",
                (*after, case_id, state, by, limit),
            )
            return [
                ItemRow(case_id=c, number=n, path=p, state=s, by=b, roles=tuple(json.loads(r)), topic=t)
                for c, n, p, s, b, r, t in found
            ]

    def due(self, now: int, limit: int = 100) -> Sequence[str]:
        """List running cases whose earliest timer is due, earliest first."""
        with self._using() as connection:
            found = connection.execute(
                "SELECT case_id FROM cases WHERE due IS NOT NULL AND due <= ? AND quarantined IS NULL"
                " ORDER BY due, case_id LIMIT ?",
                (now, limit),
            )
            return [case_id for (case_id,) in found]

    def runnable(self, after: str = "", limit: int = 100) -> Sequence[str]:
        """List running cases with automatic work."""
        with self._using() as connection:
            found = connection.execute(
                "SELECT case_id FROM cases WHERE runnable IS NOT NULL AND case_id > ? AND quarantined IS NULL"
                " ORDER BY case_id LIMIT ?",
                (after, limit),
            )
            return [case_id for (case_id,) in found]

    def find_idempotent(self, key: str) -> tuple[str, str] | None:
        """Return (case id, digest) stored with this key."""
        with self._using() as connection:
            found: tuple[str, str] | None = connection.execute(
                "SELECT c.case_id, i.digest FROM idempotency i JOIN cases c ON c.id = i.case_row WHERE i.key = ?",
                (key,),
            ).fetchone()
            return found

    def specification(self, spec_id: str, version: str | None = None) -> StoredSpecification:
        """Read a specification, the latest registered without a version."""
        with self._using() as connection:
            row = connection.execute(
                "SELECT spec_id, version, content_hash, text FROM specifications"
                " WHERE spec_id = ?1 AND (?2 IS NULL OR version = ?2) ORDER BY id DESC LIMIT 1",
                (spec_id, version),
            ).fetchone()
        if row is None:
            message = f"no specification {spec_id!r}" + (f" version {version!r}" if version else "")
            raise UnknownSpecification(message)
        return StoredSpecification(spec_id=row[0], version=row[1], content_hash=row[2], text=row[3])

    def specifications(self) -> Sequence[StoredSpecification]:
        """List all, in the order of registration."""
        with self._using() as connection:
            found = connection.execute("SELECT spec_id, version, content_hash, text FROM specifications ORDER BY id")
            return [StoredSpecification(spec_id=i, version=v, content_hash=h, text=t) for i, v, h, t in found]

    # --- inside -------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _using(self) -> Iterator[sqlite3.Connection]:
        """Lend the connection under the lock; speak of SQLite's errors in the store's words."""
        with self._lock:
            if self._closed:
                message = "the store is closed"
                raise StoreUnavailable(message)
            try:
                if self._connection is None:
                    self._connection = self._connect()
                yield self._connection
            except sqlite3.Error as error:
                translated = _translate(error, self._path)
                if not isinstance(translated, StoreFull):
                    # After an error of the file a retried sync may claim success for lost data: open it again.
                    self._disconnect()
                raise translated from error

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=self._timeout / 1000, isolation_level=None, check_same_thread=False
        )
        try:
            self._configure(connection)
            self._migrate(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _configure(self, connection: sqlite3.Connection) -> None:
        wanted = _SYNCHRONOUS[self._durability]
        mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        connection.execute(f"PRAGMA synchronous = {wanted}")
        level = connection.execute("PRAGMA synchronous").fetchone()[0]
        if mode != "wal" or level != wanted:
            message = f"{self._path}: journal_mode is {mode} and synchronous {level}; wal and {wanted} are needed"
            raise StoreError(message)

    def _migrate(self, connection: sqlite3.Connection) -> None:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            message = (
                f"{self._path} has schema {version}, which is newer than this KNHK ({SCHEMA_VERSION}): upgrade KNHK"
            )
            raise StoreError(message)
        if version == SCHEMA_VERSION:
            return
        with _transaction(connection):
            if connection.execute("PRAGMA user_version").fetchone()[0] == SCHEMA_VERSION:
                return
            for statement in _SCHEMA.split(";"):
                if statement.strip():
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _disconnect(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.close()

    def _row(self, connection: sqlite3.Connection, case_id: str) -> int:
        row = connection.execute("SELECT id FROM cases WHERE case_id = ?", (case_id,)).fetchone()
        if row is None:
            raise _unknown(case_id)
        return int(row[0])

    def _apply(self, connection: sqlite3.Connection, commit: Commit) -> None:
        row = self._put_header(connection, commit)
        version = commit.expected + 1
        connection.execute("INSERT INTO journal VALUES (?, ?, ?)", (row, version, commit.batch))
        if commit.snapshot is not None:
            connection.execute("INSERT OR REPLACE INTO snapshots VALUES (?, ?, ?)", (row, version, commit.snapshot))
        if commit.items:
            connection.executemany(
                "INSERT OR REPLACE INTO items VALUES (?, ?, ?, ?, ?, ?, ?)",
                [(row, i.number, i.path, i.state, i.by, json.dumps(i.roles), i.topic) for i in commit.items],
            )
        if commit.closed_items:
            connection.executemany(
                "DELETE FROM items WHERE case_row = ? AND number = ?", [(row, number) for number in commit.closed_items]
            )
        if commit.idempotency is not None:
            try:
                connection.execute("INSERT INTO idempotency VALUES (?, ?, ?)", (*commit.idempotency, row))
            except sqlite3.IntegrityError as error:
                message = f"idempotency key {commit.idempotency[0]!r} is taken"
                raise IdempotencyConflict(message) from error

    def _put_header(self, connection: sqlite3.Connection, commit: Commit) -> int:
        """Compare and swap the case's row; return its number."""
        header = commit.header
        values = (header.state, commit.expected + 1, header.due, 1 if header.runnable else None)
        if commit.expected == 0:
            spec = connection.execute(
                "SELECT id FROM specifications WHERE spec_id = ? AND version = ?", (header.spec_id, header.spec_version)
            ).fetchone()
            if spec is None:
                message = f"no specification {header.spec_id!r} version {header.spec_version!r}"
                raise UnknownSpecification(message)
            try:
                cursor = connection.execute(
                    "INSERT INTO cases (state, version, due, runnable, case_id, spec) VALUES (?, ?, ?, ?, ?, ?)",
                    (*values, header.case_id, spec[0]),
                )
            except sqlite3.IntegrityError as error:
                message = f"case {header.case_id} exists already"
                raise ConcurrentUpdate(message) from error
            return int(cursor.lastrowid or 0)
        row = self._row(connection, header.case_id)
        changed = connection.execute(
            "UPDATE cases SET state = ?, version = ?, due = ?, runnable = ? WHERE id = ? AND version = ?",
            (*values, row, commit.expected),
        ).rowcount
        if not changed:
            message = f"case {header.case_id} is no longer at version {commit.expected}: reload it and try again"
            raise ConcurrentUpdate(message)
        return row


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection, *, write: bool = True) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
        raise


def _header(row: tuple[Any, ...]) -> CaseHeader:
    return CaseHeader(
        case_id=row[0],
        spec_id=row[1],
        spec_version=row[2],
        state=row[3],
        due=row[4],
        runnable=row[5] is not None,
        version=row[6],
        quarantined=row[7] or "",
    )


def _unknown(case_id: str) -> UnknownCase:
    message = f"no case {case_id!r}"
    return UnknownCase(message)


def _translate(error: sqlite3.Error, path: Path) -> StoreError:
    """Say what SQLite's error means for the caller."""
    name = getattr(error, "sqlite_errorname", "") or ""
    message = f"{path}: {error}" + (f" ({name})" if name else "")
    if name.startswith("SQLITE_FULL"):
        return StoreFull(message)
    unavailable = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_IOERR", "SQLITE_PERM")
    if name.startswith(unavailable):
        return StoreUnavailable(message)
    return StoreError(message)
