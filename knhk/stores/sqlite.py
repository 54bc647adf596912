"""
The store in one SQLite file, which several processes may share.

One connection writes and one reads, each behind its lock, so that reading never waits for a commit's fsync.
Compare-and-swap happens inside the writing transaction, which is `IMMEDIATE`, or a single statement that writes: it has the
write lock before it looks.
What becomes of a connection after an error: `knhk.stores._line`; how a step is stored: `knhk.stores._steps`.
The tables and why they are so: `knhk.stores.migrations`.

Outcomes of every call: its result, a CommandError of the port, StoreFull (no space), StoreUnavailable (locked, read-only,
out of reach, an I/O error, closed), QuarantinedCase, or StoreError (damaged, not a store of this version, a value that
SQLite cannot hold); any other exception is our bug.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

from knhk.errors import (
    ConcurrentUpdate,
    IdempotencyConflict,
    KnhkError,
    QuarantinedCase,
    StoreError,
    UnknownCase,
    UnknownSpecification,
)
from knhk.ports import CaseHeader, Commit, Document, Durability, ItemRow, StoredCase, StoredSpecification, WholeCase
from knhk.stores._documents import (
    BY_DUE,
    BY_KEY,
    COLLECTIONS,
    FIND,
    after_prefix,
    check_held,
    read_document,
    store_documents,
)
from knhk.stores._group import Caller, GroupCommit
from knhk.stores._line import Line, code_of, explained, is_refused
from knhk.stores._steps import Batch, Row, batches, enable_steps, fit, is_refusal, rows_of, statement_of, store_rows
from knhk.stores._worklist import OF_CASE, find_items, read_item
from knhk.stores.memory import refuse_malformed, refuse_other_content
from knhk.stores.migrations import APPLICATION_ID, SCHEMA_VERSION, migrate

_SYNCHRONOUS: Final = {Durability.FULL: 2, Durability.NORMAL: 1, Durability.OFF: 0}
_MAX_INTEGER: Final = 2**63 - 1
_FIND_SPECIFICATION: Final = "SELECT id FROM specifications WHERE spec_id = ? AND version = ?"
_FIND_KEY: Final = (
    "SELECT cases.case_id, digest FROM idempotency JOIN cases ON cases.id = idempotency.case_row WHERE key = ?"
)
_KEYS: Final = (
    "SELECT key, cases.case_id, digest FROM idempotency CROSS JOIN cases ON cases.id = idempotency.case_row WHERE key > ?"
    " ORDER BY key LIMIT ?"
)
_SNAPSHOT: Final = (
    "INSERT OR REPLACE INTO snapshots (case_row, version, state) SELECT id, version, ? FROM cases WHERE case_id = ?"
)
_KEY: Final = "INSERT INTO idempotency (key, digest, case_row) SELECT ?, ?, id FROM cases WHERE case_id = ?"

_HEADERS: Final = (
    "SELECT case_id, spec_id, specifications.version, state, due, runnable, cases.version, quarantined, cases.id"
    " FROM cases JOIN specifications ON specifications.id = cases.spec"
)
_HEADER: Final = f"{_HEADERS} WHERE case_id = ?"
_CASES: Final = (
    # CROSS JOIN fixes the order of the loops: the cases by id, so that a page costs a page.
    _HEADERS.replace(" JOIN ", " CROSS JOIN ")
    + " WHERE case_id > ?1 AND (?2 IS NULL OR spec_id = ?2) AND (?3 IS NULL OR state = ?3) ORDER BY case_id LIMIT ?4"
)
_LAST_SNAPSHOT: Final = "SELECT version, state FROM snapshots WHERE case_row = ?"
_BATCHES: Final = "SELECT batch FROM journal WHERE case_row = ? AND version > ? ORDER BY version"
_QUARANTINE: Final = "UPDATE cases SET quarantined = ? WHERE case_id = ? AND quarantined IS NULL"
_DUE: Final = (
    "SELECT case_id FROM cases WHERE due IS NOT NULL AND state IN ('running', 'compensating') AND quarantined IS NULL AND due <= ?"
    " ORDER BY due, case_id LIMIT ?"
)
_RUNNABLE: Final = (
    "SELECT case_id FROM cases WHERE runnable AND state IN ('running', 'compensating') AND quarantined IS NULL AND case_id > ?"
    " ORDER BY case_id LIMIT ?"
)
_PUT_SPECIFICATION: Final = (
    "INSERT INTO specifications (spec_id, version, content_hash, text) VALUES (?, ?, ?, ?)"
    " ON CONFLICT (spec_id, version) DO NOTHING"
)
_SPECIFICATIONS: Final = "SELECT spec_id, version, content_hash, text FROM specifications"
_ALL_SPECIFICATIONS: Final = f"{_SPECIFICATIONS} ORDER BY id"
_SPECIFICATION: Final = f"{_SPECIFICATIONS} WHERE spec_id = ? AND version = ?"
_LATEST_SPECIFICATION: Final = f"{_SPECIFICATIONS} WHERE spec_id = ? ORDER BY id DESC LIMIT 1"


class SqliteStore:
    """
    Keeps cases in one SQLite file in WAL mode.

    Args:
        path: the file; made if it does not exist, in a directory that does.
        durability: what an acknowledged commit survives (``PRAGMA synchronous``, set and read back).
        busy_timeout_ms: how long a call waits for another process that writes.

    Raises:
        StoreError: the file is damaged, not KNHK's, newer than this version, or the durability cannot be had there.
        StoreUnavailable: it is locked or cannot be opened.
        StoreFull: there is no space to create it.
    """

    _application_id: ClassVar[int] = APPLICATION_ID

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        durability: Durability = Durability.FULL,
        busy_timeout_ms: int = 5000,
    ) -> None:
        self._path = _checked_path(os.fspath(path))
        self._durability = durability
        self._timeout_ms = busy_timeout_ms
        self._spec_rows: dict[tuple[str, str], int] = {}
        self._opened = False
        self._groups = GroupCommit(self._write)
        self._writer = Line(self._path, self._open_writer)
        try:
            self._reader = Line(self._path, self._open_reader)
        except BaseException:
            self._writer.close()
            raise

    @property
    def path(self) -> str:
        """Where the file is."""
        return self._path

    @property
    def durability(self) -> Durability:
        """What an acknowledged commit survives."""
        return self._durability

    def commit(self, commits: Sequence[Commit]) -> None:
        """Store all steps in one transaction, or none and raise."""
        self._groups.commit(commits, self._prepared(commits))

    def commit_each(self, calls: Sequence[Sequence[Commit]]) -> list[KnhkError | None]:
        """Store each call whole, or refuse it; they share one sync."""
        return self._groups.commit_each(calls, self._prepared)

    def load(self, case_id: str) -> StoredCase:
        """Read a case; raises UnknownCase, or QuarantinedCase with the reason."""
        with self._reader.transaction("BEGIN") as connection:
            header, row = _find(connection, case_id)
            if header.quarantined:
                raise QuarantinedCase(f"case {case_id!r} is set aside: {header.quarantined}")
            version, snapshot = connection.execute(_LAST_SNAPSHOT, (row,)).fetchone() or (0, None)
            return StoredCase(header=header, snapshot=snapshot, batches=_batches(connection, row, version))

    def history(self, case_id: str) -> tuple[bytes, ...]:
        """Read all batches of a case from its creation on."""
        with self._reader.transaction("BEGIN") as connection:
            return _batches(connection, _find(connection, case_id)[1], 0)

    def header(self, case_id: str) -> CaseHeader:
        """Read a case's header; raises UnknownCase."""
        with self._reader.transaction(None) as connection:
            return _find(connection, case_id)[0]

    def whole(self, case_id: str) -> WholeCase:
        """Read everything that is stored of a case; raises UnknownCase."""
        with self._reader.transaction("BEGIN") as connection:
            header, row = _find(connection, case_id)
            version, snapshot = connection.execute(_LAST_SNAPSHOT, (row,)).fetchone() or (0, None)
            return WholeCase(
                header=header,
                batches=_batches(connection, row, 0),
                snapshot=None if snapshot is None else (snapshot, version),
                items=tuple(map(read_item, connection.execute(OF_CASE, (case_id,)))),
            )

    def cases(
        self, *, spec_id: str | None = None, state: str | None = None, after: str = "", limit: int = 100
    ) -> Sequence[CaseHeader]:
        """List headers by ascending case id, from behind `after`."""
        return tuple(map(_header, self._read(_CASES, (after, spec_id, state, _limit(limit)))))

    def items(
        self,
        *,
        case_id: str | None = None,
        state: str | None = None,
        by: str | None = None,
        topics: Sequence[str] | None = None,
        audience: Sequence[str] | None = None,
        limit: int = 100,
        after: tuple[str, int] = ("", 0),
    ) -> Sequence[ItemRow]:
        """List open worklist rows by (case id, number), from behind `after`."""
        query, values = find_items(
            case_id=case_id, state=state, by=by, topics=topics, audience=audience, after=after, limit=_limit(limit)
        )
        return tuple(map(read_item, self._read(query, values)))

    def due(self, now: int, limit: int = 100) -> Sequence[str]:
        """List running cases whose earliest timer is not after `now`, earliest first."""
        return tuple(row[0] for row in self._read(_DUE, (now, _limit(limit))))

    def runnable(self, after: str = "", limit: int = 100) -> Sequence[str]:
        """List running cases with automatic work, by ascending id from behind `after`."""
        return tuple(row[0] for row in self._read(_RUNNABLE, (after, _limit(limit))))

    def find_idempotent(self, key: str) -> tuple[str, str] | None:
        """Return (case id, digest) stored with this key, or None."""
        found = self._read(_FIND_KEY, (key,))
        return (found[0][0], found[0][1]) if found else None

    def idempotency_keys(self, after: str = "", limit: int = 100) -> Sequence[tuple[str, str, str]]:
        """List (key, case id, digest) by ascending key, from behind `after`."""
        return tuple((row[0], row[1], row[2]) for row in self._read(_KEYS, (after, _limit(limit))))

    def write(
        self, documents: Sequence[Document], removed: Sequence[Document] = (), held: Sequence[Document] = ()
    ) -> None:
        """Write and remove documents in one transaction, or none and raise."""
        with self._writer.transaction("BEGIN IMMEDIATE") as connection:
            check_held(connection, held)
            store_documents(connection, documents, removed)

    def document(self, collection: str, key: str) -> Document | None:
        """Read a document, or None where there is none."""
        return next(map(read_document, self._read(FIND, (collection, key))), None)

    def documents(
        self, collection: str, *, due: int | None = None, prefix: str = "", after: str = "", limit: int = 100
    ) -> Sequence[Document]:
        """List a collection by ascending key, or what of it is due, earliest first."""
        if due is None:
            rows = self._read(BY_KEY, (collection, after, prefix, after_prefix(prefix), _limit(limit)))
        else:
            rows = self._read(BY_DUE, (collection, due, _limit(limit)))
        return tuple(map(read_document, rows))

    def collections(self) -> Sequence[str]:
        """List the collections that hold a document, in ascending order."""
        return tuple(row[0] for row in self._read(COLLECTIONS, ()))

    def quarantine(self, case_id: str, reason: str) -> None:
        """Set a damaged case aside; the first reason stays."""
        with self._writer.transaction("BEGIN IMMEDIATE") as connection:
            _find(connection, case_id)
            connection.execute(_QUARANTINE, (reason or "no reason was given", case_id))

    def put_specification(self, specification: StoredSpecification, documents: Sequence[Document] = ()) -> bool:
        """Store a registration with documents, or neither; the same again does nothing: False."""
        spec_id, version, content_hash = specification.spec_id, specification.version, specification.content_hash
        stored = self._read(_SPECIFICATION, (spec_id, version))
        if not stored:
            with self._writer.transaction("BEGIN IMMEDIATE") as connection:
                stored = connection.execute(_SPECIFICATION, (spec_id, version)).fetchall()
                if not stored:
                    connection.execute(_PUT_SPECIFICATION, (spec_id, version, content_hash, specification.text))
                    store_documents(connection, documents, ())
                    return True
        # It was there, or another was faster.
        refuse_other_content(specification, stored[0][2])
        return False

    def specification(self, spec_id: str, version: str | None = None) -> StoredSpecification:
        """Read one (the latest registered without a version); raises UnknownSpecification."""
        if version is None:
            rows, named = self._read(_LATEST_SPECIFICATION, (spec_id,)), ""
        else:
            rows, named = self._read(_SPECIFICATION, (spec_id, version)), f" version {version!r}"
        if not rows:
            raise UnknownSpecification(f"specification {spec_id!r}{named} is not registered")
        return _specification(rows[0])

    def specifications(self) -> Sequence[StoredSpecification]:
        """List all, in the order of registration."""
        return tuple(map(_specification, self._read(_ALL_SPECIFICATIONS, ())))

    def close(self) -> None:
        """Close the file; a closed store refuses further calls."""
        self._reader.close()
        self._writer.close()

    # --- inside -------------------------------------------------------------------------------------------------------

    def _write(self, group: Sequence[Caller]) -> None:
        """Store a group in one transaction, which is a single statement where that can say all of it."""
        shared = batches(group)
        if len(shared) == 1 and len(shared[0][0]) == len(group):
            if self._writer.execute(*statement_of(shared[0][1]), group):
                return
            shared = []
        with self._writer.transaction("BEGIN IMMEDIATE", group) as connection:
            self._store_group(connection, group, shared)

    def _store_group(
        self, connection: sqlite3.Connection, group: Sequence[Caller], shared: Sequence[Batch] = ()
    ) -> None:
        """Store the callers that share statements, and then each of the others, and of those that were refused, by itself."""
        stored: set[Caller] = set()
        for callers, rows in shared:
            try:
                connection.execute(*statement_of(rows))
            except (UnicodeEncodeError, OverflowError, sqlite3.Error) as error:
                if not (is_refused(error) and connection.in_transaction):
                    raise
            else:
                stored.update(callers)
        if len(group) == 1:
            for commit in group[0].commits:
                self._store_step(connection, commit)
        else:
            for caller in group:
                if caller not in stored:
                    self._store_one_of_many(connection, caller)

    def _store_one_of_many(self, connection: sqlite3.Connection, caller: Caller) -> None:
        connection.execute("SAVEPOINT caller")
        try:
            for commit in caller.commits:
                self._store_step(connection, commit)
        except (KnhkError, UnicodeEncodeError, OverflowError, sqlite3.Error) as error:
            if not (isinstance(error, KnhkError) or (is_refused(error) and connection.in_transaction)):
                raise
            connection.execute("ROLLBACK TO caller")
            caller.error = explained(error, self._path)
            caller.error.__cause__ = None if caller.error is error else error
        connection.execute("RELEASE caller")

    def _prepared(self, commits: Sequence[Commit]) -> list[Row] | None:
        """Return what `_write` wants of a caller; raises StoreError where a commit contradicts itself."""
        for commit in commits:
            refuse_malformed(commit)
        return self._plain_rows(commits)

    def _plain_rows(self, commits: Sequence[Commit]) -> list[Row] | None:
        """Return the rows of a caller whose steps are rows alone; None where a key, a snapshot or a document goes with them."""
        rows: list[Row] = []
        for commit in commits:
            spec = self._spec_rows.get((commit.header.spec_id, commit.header.spec_version))
            if spec is None or commit.idempotency or commit.snapshot is not None:
                return None
            if commit.documents or commit.removed or commit.held:
                return None
            rows += rows_of(commit, spec)
        return rows if fit(rows) else None

    def _store_step(self, connection: sqlite3.Connection, commit: Commit) -> None:
        header = commit.header
        case_id = header.case_id
        spec = self._spec_row(connection, header.spec_id, header.spec_version)
        if commit.held:
            check_held(connection, commit.held)
        if commit.idempotency is not None:
            key, digest = commit.idempotency
            if connection.execute(_FIND_KEY, (key,)).fetchone() is not None:
                raise IdempotencyConflict(f"idempotency key {key!r} was used before")
        try:
            store_rows(connection, commit, spec)
        except sqlite3.IntegrityError as error:
            if is_refusal(error):
                _refuse_step(connection, commit)
            raise
        if commit.idempotency is not None:
            connection.execute(_KEY, (key, digest, case_id))
        if commit.snapshot is not None:
            connection.execute(_SNAPSHOT, (commit.snapshot, case_id))
        if commit.documents or commit.removed:
            store_documents(connection, commit.documents, commit.removed)

    def _spec_row(self, connection: sqlite3.Connection, spec_id: str, version: str) -> int:
        # Registrations are never deleted, so a row once read stays right.
        row = self._spec_rows.get((spec_id, version))
        if row is None:
            found = connection.execute(_FIND_SPECIFICATION, (spec_id, version)).fetchone()
            if found is None:
                raise UnknownSpecification(f"specification {spec_id!r} version {version!r} is not registered")
            row = self._spec_rows[spec_id, version] = int(found[0])
        return row

    def _read(self, query: str, values: tuple[Any, ...]) -> list[Any]:
        with self._reader.transaction(None) as connection:
            return connection.execute(query, values).fetchall()

    def _open_writer(self) -> sqlite3.Connection:
        # Only the first time may a file be made or migrated: one that vanished later must not come back empty.
        connection = self._open("rw" if self._opened else "rwc", self._prepare_writer)
        self._opened = True
        return connection

    def _prepare_writer(self, connection: sqlite3.Connection) -> None:
        version = _stored_version(connection, self._path, self._application_id)
        if self._opened and version != SCHEMA_VERSION:
            raise StoreError(f"{self._path} was replaced while it was open: it has schema version {version}")
        self._set_journal_mode(connection)
        _set(connection, self._path, "synchronous", _SYNCHRONOUS[self._durability])
        # NOTE: macOS needs it, there fsync alone leaves data in the drive's cache; elsewhere it changes nothing.
        _set(connection, self._path, "fullfsync", int(self._durability is Durability.FULL))
        if version < SCHEMA_VERSION:
            migrate(connection, self._application_id)
        enable_steps(connection)

    def _open_reader(self) -> sqlite3.Connection:
        return self._open("rw", lambda connection: _set(connection, self._path, "query_only", 1))

    def _open(self, mode: str, prepare: Callable[[sqlite3.Connection], None]) -> sqlite3.Connection:
        # The locks of `Line` keep threads apart; transactions are begun and ended by name, never by the driver.
        connection = sqlite3.connect(
            f"{Path(self._path).as_uri()}?mode={mode}",
            uri=True,
            timeout=self._timeout_ms / 1000,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _set_journal_mode(self, connection: sqlite3.Connection) -> None:
        # The change to WAL does not wait as other statements do, and two processes may create the file together.
        deadline = time.monotonic() + self._timeout_ms / 1000
        while True:
            try:
                _set(connection, self._path, "journal_mode", "wal")
            except sqlite3.OperationalError as error:
                if code_of(error) != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                    raise
                time.sleep(0.005)
            else:
                return


def _checked_path(path: str) -> str:
    if path in {"", ":memory:"}:
        raise StoreError(f'{path!r} is not the path of a file: for a store in memory, give "memory:"')
    if "\0" in path:
        raise StoreError(f"{path!r} is not the path of a file")
    # The absolute path: connections are opened again later, when the working directory may be another.
    absolute = Path(path).absolute()
    if not absolute.parent.is_dir():
        raise StoreError(f"cannot open {absolute}: the directory {absolute.parent} does not exist; create it first")
    if absolute.is_dir():
        raise StoreError(f"cannot open {absolute}: it is a directory")
    return str(absolute)


def _stored_version(connection: sqlite3.Connection, path: str, application_id: int) -> int:
    """Return how many migrations the file has seen; refuse what is not a store of this version or an older one."""
    # One transaction, because somebody else may be creating the file; the caller closes the connection when we refuse.
    connection.execute("BEGIN")
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    connection.execute("COMMIT")
    if application != application_id:
        if application or version or tables:
            raise StoreError(f"{path} is an SQLite database of another program: give another path")
        return 0
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"{path} has schema version {version}, this version of KNHK reads up to {SCHEMA_VERSION}: "
            "it was written by a newer KNHK; upgrade this one"
        )
    return version


def _set(connection: sqlite3.Connection, path: str, pragma: str, value: str | int) -> None:
    """Set a pragma and read it back: SQLite ignores what it cannot do, and we promise what it says."""
    connection.execute(f"PRAGMA {pragma} = {value}").fetchall()
    actual = connection.execute(f"PRAGMA {pragma}").fetchone()[0]
    if actual != value:
        raise StoreError(f"cannot use {path}: PRAGMA {pragma} is {actual!r} after it was set to {value!r}")


def _refuse_step(connection: sqlite3.Connection, commit: Commit) -> None:
    """Say why a step found no row to change."""
    case_id = commit.header.case_id
    header, _ = _find(connection, case_id)
    if header.quarantined:
        raise QuarantinedCase(f"case {case_id!r} is set aside: {header.quarantined}")
    raise ConcurrentUpdate(f"case {case_id!r} is at version {header.version}, not {commit.expected}: reload it")


def _find(connection: sqlite3.Connection, case_id: str) -> tuple[CaseHeader, int]:
    row = connection.execute(_HEADER, (case_id,)).fetchone()
    if row is None:
        raise UnknownCase(f"case {case_id!r} is not in the store")
    return _header(row), row[8]


def _batches(connection: sqlite3.Connection, case_row: int, behind: int) -> tuple[bytes, ...]:
    return tuple(row[0] for row in connection.execute(_BATCHES, (case_row, behind)))


def _header(row: Sequence[Any]) -> CaseHeader:
    return CaseHeader(
        case_id=row[0],
        spec_id=row[1],
        spec_version=row[2],
        state=row[3],
        due=row[4],
        runnable=bool(row[5]),
        version=row[6],
        quarantined=row[7] or "",
    )


def _specification(row: Sequence[Any]) -> StoredSpecification:
    return StoredSpecification(spec_id=row[0], version=row[1], content_hash=row[2], text=row[3])


def _limit(limit: int) -> int:
    # To SQLite a negative limit is none.
    return min(max(limit, 0), _MAX_INTEGER)
