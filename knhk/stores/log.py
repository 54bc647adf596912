"""
The store in an append-only log, which one process owns; SQLite beside it answers questions and is made from the log.

A group of callers is one transaction of the index, inside which compare-and-swap and keys are checked, and one frame of the
log.
The order is: the index's transaction is filled, the frame is written and synced, the transaction is committed without a sync.
So the log is what is so.
An index that is behind it (after a crash) is caught up from the place that its own last transaction recorded, one that is
ahead of it (a machine that lost power under a durability that does not sync) is made anew.
Where the index fails after the frame was written, the frame is taken back.

The index is a `SqliteStore` whose journal and snapshots hold places in the log instead of bytes; so everything but writing and
loading is that store's.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sqlite3
import threading
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Final

from knhk.errors import StoreError, StoreFull, StoreUnavailable
from knhk.ports import Commit, Document, Durability, StoredCase, StoredSpecification, WholeCase
from knhk.stores import _records
from knhk.stores._documents import check_held, store_documents
from knhk.stores._group import Caller
from knhk.stores._records import Documents, Place, Quarantine, Record
from knhk.stores._segments import SEGMENT_BYTES, Frame, Segments, sync_directory
from knhk.stores.memory import refuse_other_content
from knhk.stores.sqlite import _PUT_SPECIFICATION, _QUARANTINE, _SPECIFICATION, SqliteStore, _find

INDEX: Final = "index.db"
"""The file in the log's directory that can be made anew from the others."""

_REPLAY_FRAMES: Final = 1_000
_POSITION: Final = "SELECT segment, number, synced FROM position"
_MOVE: Final = "UPDATE position SET segment = ?, number = ?, synced = ?"
_NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_MAX_BYTES: Final = 2**30


class LogStore(SqliteStore):
    """
    Keeps cases in a directory of log segments with an SQLite index.

    Args:
        path: the directory; made if it does not exist, in a directory that does.
        durability: what an acknowledged commit survives; `FULL` syncs the log before it is acknowledged.
        segment_bytes: the size of a segment, which is filled with zeros when it is begun.

    Raises:
        StoreError: the log is damaged before its unfinished end, or is not a log of this version.
        StoreUnavailable: another process has it open, or it cannot be opened.
        StoreFull: there is no space to create it.
    """

    _application_id: ClassVar[int] = 0x4B4E484C

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        durability: Durability = Durability.FULL,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        self._directory = _made(Path(path))
        self._promise = durability
        self._segment_bytes = segment_bytes
        self._frame = bytearray()
        self._frame_place = (0, 0)
        self._encoded: dict[int, bytes] = {}
        self._order = threading.Lock()
        self._ownership = _owned(self._directory)
        try:
            self._open_index()
            try:
                if not self._catch_up():
                    self._make_anew()
            except BaseException:
                super().close()
                raise
        except BaseException as error:
            os.close(self._ownership)
            if isinstance(error, OSError):
                raise self._failed(error) from error
            raise

    @property
    def durability(self) -> Durability:
        """What an acknowledged commit survives."""
        return self._promise

    def _prepared(self, commits: Sequence[Commit]) -> None:
        for commit in commits:
            if len(commit.batch) + len(commit.snapshot or b"") > _MAX_BYTES:
                raise StoreError(f"case {commit.header.case_id!r}: a step is larger than {_MAX_BYTES} bytes")
        super()._prepared(commits)

    def load(self, case_id: str) -> StoredCase:
        """Read a case; raises UnknownCase, QuarantinedCase with the reason, or StoreError where the log is damaged."""
        stored = super().load(case_id)
        snapshot = None if stored.snapshot is None else self._fetch(stored.snapshot)
        return StoredCase(header=stored.header, snapshot=snapshot, batches=tuple(map(self._fetch, stored.batches)))

    def history(self, case_id: str) -> tuple[bytes, ...]:
        """Read all batches of a case from its creation on; raises StoreError where the log is damaged."""
        return tuple(map(self._fetch, super().history(case_id)))

    def whole(self, case_id: str) -> WholeCase:
        """Read everything that is stored of a case; raises UnknownCase, or StoreError where the log is damaged."""
        found = super().whole(case_id)
        return WholeCase(
            header=found.header,
            batches=tuple(map(self._fetch, found.batches)),
            snapshot=None if found.snapshot is None else (self._fetch(found.snapshot[0]), found.snapshot[1]),
            items=found.items,
        )

    def quarantine(self, case_id: str, reason: str) -> None:
        """Set a damaged case aside; the first reason stays."""
        record = Quarantine(case_id, reason or "no reason was given")
        with self._logged(record) as connection:
            _find(connection, case_id)
            connection.execute(_QUARANTINE, (record.reason, case_id))

    def write(
        self, documents: Sequence[Document], removed: Sequence[Document] = (), held: Sequence[Document] = ()
    ) -> None:
        """Write and remove documents in one transaction, or none and raise."""
        record = Documents(tuple(documents), tuple(removed))
        with self._logged(record) as connection:
            check_held(connection, held)
            store_documents(connection, record.documents, record.removed)

    def put_specification(self, specification: StoredSpecification, documents: Sequence[Document] = ()) -> bool:
        """Store a registration with documents, or neither; the same again does nothing: False."""
        key = (specification.spec_id, specification.version)
        stored = self._read(_SPECIFICATION, key)
        if not stored:
            beside = [Documents(tuple(documents), ())] if documents else []
            with self._logged(specification, *beside) as connection:
                stored = connection.execute(_SPECIFICATION, key).fetchall()
                if not stored:
                    _put(connection, specification)
                    store_documents(connection, documents, ())
                    return True
                self._frame.clear()
        # It was there, or another thread was faster.
        refuse_other_content(specification, stored[0][2])
        return False

    def close(self) -> None:
        """Close the log; a closed store refuses further calls, and another may open it."""
        with self._order:
            if self._ownership < 0:
                return
            super().close()
            try:
                self._segments.close()
            except OSError as error:
                raise StoreUnavailable(f"{self._directory} was not synced when it was closed: {error}") from error
            finally:
                os.close(self._ownership)
                self._ownership = -1

    # --- writing ------------------------------------------------------------------------------------------------------

    def _write(self, group: Sequence[Caller]) -> None:
        """Store a group: its transaction in the index, around its frame in the log."""
        encoded = {id(commit): _records.encode(commit) for caller in group for commit in caller.commits}
        with self._framed(group, sum(map(len, encoded.values()))) as connection:
            self._encoded = encoded
            self._store_group(connection, group)

    def _plain_rows(self, commits: Sequence[Commit]) -> None:
        """Where the bytes of a step are is known when its frame is made."""

    def _store_one_of_many(self, connection: sqlite3.Connection, caller: Caller) -> None:
        before = len(self._frame)
        super()._store_one_of_many(connection, caller)
        if caller.error is not None:
            del self._frame[before:]

    def _store_step(self, connection: sqlite3.Connection, commit: Commit) -> None:
        segment, begin = self._frame_place
        self._frame += self._encoded[id(commit)]
        super()._store_step(connection, _records.placed(commit, segment, begin + len(self._frame)))

    @contextlib.contextmanager
    def _logged(self, *records: Record) -> Iterator[sqlite3.Connection]:
        """Give the index inside a transaction that stands with the records."""
        encoded = b"".join(map(_records.encode, records))
        with self._framed([Caller(())], len(encoded)) as connection:
            self._frame = bytearray(encoded)
            yield connection

    @contextlib.contextmanager
    def _framed(self, group: Sequence[Caller], most: int) -> Iterator[sqlite3.Connection]:
        """Give the index inside a transaction, and write what is in the frame then before it is committed."""
        with self._order:
            begun_at, count = self._segments.offset, self._segments.number
            try:
                with self._writer.transaction("BEGIN IMMEDIATE", group) as connection:
                    self._frame_place = self._segments.room(most)
                    self._frame = bytearray()
                    begun_at = self._segments.offset
                    yield connection
                    if self._frame:
                        self._segments.append(bytes(self._frame))
                        connection.execute(_MOVE, self._segments.position())
            except BaseException as error:
                if self._segments.number > count and not group[0].settled:
                    self._segments.take_back(begun_at)
                if isinstance(error, OSError):
                    raise self._failed(error) from error
                raise

    def _failed(self, error: OSError) -> StoreError:
        name = os.strerror(error.errno or 0)
        if error.errno in _NO_SPACE:
            return StoreFull(f"no space is left for {self._directory}: {name}; nothing was written, reading goes on")
        return StoreUnavailable(f"{self._directory} is not available: {name}; nothing was written, try again later")

    # --- reading ------------------------------------------------------------------------------------------------------

    def _fetch(self, place_bytes: bytes) -> bytes:
        place = Place.decode(place_bytes)
        try:
            found = self._segments.read(place.segment, place.offset, place.length)
        except OSError as error:
            raise StoreUnavailable(f"segment {place.segment} of {self._directory} cannot be read: {error}") from error
        if zlib.crc32(found) != place.checksum or len(found) != place.length:
            raise StoreError(
                f"segment {place.segment} of {self._directory} is damaged at offset {place.offset}: the checksum does not "
                "fit; restore the directory from a backup, or quarantine the case"
            )
        return found

    # --- opening ------------------------------------------------------------------------------------------------------

    def _open_index(self) -> None:
        index = Durability.OFF if self._promise is Durability.OFF else Durability.NORMAL
        try:
            super().__init__(self._directory / INDEX, durability=index)
        except StoreError as error:
            error.add_note(f"{INDEX} in {self._directory} is made anew from the log when it is removed")
            raise
        with self._writer.transaction("BEGIN IMMEDIATE") as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS position (segment INTEGER, number INTEGER, synced INTEGER)")
            if connection.execute(_POSITION).fetchone() is None:
                connection.execute("INSERT INTO position VALUES (0, 0, 0)")

    def _catch_up(self) -> bool:
        """Bring the index up to the log's end; False when it holds what the log does not."""
        with self._writer.transaction(None) as connection:
            segment, number, synced = connection.execute(_POSITION).fetchone()
        self._segments = Segments(self._directory, sync=self._promise is Durability.FULL, size=self._segment_bytes)
        frames = self._segments.scan(segment, synced)
        while batch := [frame for _, frame in zip(range(_REPLAY_FRAMES), frames, strict=False)]:
            with self._writer.transaction("BEGIN IMMEDIATE") as connection:
                for frame in batch:
                    if frame.number > number + 1:
                        raise StoreError(f"{self._directory} is damaged: frame {number + 1} is missing from its log")
                    if frame.number == number + 1:
                        self._apply(connection, frame)
                        number = frame.number
                connection.execute(_MOVE, (batch[-1].segment, number, max(synced, self._segments.synced)))
        return bool(self._segments.number >= number)

    def _make_anew(self) -> None:
        self._segments.close()
        super().close()
        for each in self._directory.glob(f"{INDEX}*"):
            each.unlink()
        self._open_index()
        self._catch_up()

    def _apply(self, connection: sqlite3.Connection, frame: Frame) -> None:
        records = list(_records.decode(frame.payload))
        ends = [begin for begin, _ in records[1:]] + [len(frame.payload)]
        for (_, record), end in zip(records, ends, strict=True):
            if isinstance(record, Commit):
                placed = _records.placed(record, frame.segment, frame.offset + end)
                super()._store_step(connection, placed)
            elif isinstance(record, StoredSpecification):
                _put(connection, record)
            elif isinstance(record, Documents):
                store_documents(connection, record.documents, record.removed)
            else:
                connection.execute(_QUARANTINE, (record.reason, record.case_id))


def _put(connection: sqlite3.Connection, specification: StoredSpecification) -> None:
    values = (specification.spec_id, specification.version, specification.content_hash, specification.text)
    connection.execute(_PUT_SPECIFICATION, values)


def _made(directory: Path) -> Path:
    """Make the directory where it is missing, durably."""
    absolute = directory.absolute()
    if not absolute.parent.is_dir():
        raise StoreError(f"cannot open {absolute}: the directory {absolute.parent} does not exist; create it first")
    if absolute.exists() and not absolute.is_dir():
        raise StoreError(f"cannot open {absolute}: a log is a directory, and this is none")
    try:
        absolute.mkdir(exist_ok=True)
        sync_directory(absolute.parent)
    except OSError as error:
        raise StoreUnavailable(f"cannot make {absolute}: {error}") from error
    return absolute


def _owned(directory: Path) -> int:
    """Lock the directory for this process, or say who has it; returns the file that holds the lock."""
    path = directory / "owner"
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
    except OSError as error:
        raise StoreUnavailable(f"cannot open {path}: {error}") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        owner = os.pread(file, 100, 0).decode(errors="replace").strip() or "another process"
        os.close(file)
        raise StoreUnavailable(
            f"{directory} is in use by {owner}: one process owns a log; close it there first"
        ) from error
    # Only for the message above: the lock holds without it, on a full disk as well.
    with contextlib.suppress(OSError):
        os.ftruncate(file, 0)
        os.pwrite(file, f"process {os.getpid()}\n".encode(), 0)
    return file
