"""A store in memory: for tests, and for cases that may be lost."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import attrs

from knhk.errors import (
    ConcurrentUpdate,
    IdempotencyConflict,
    QuarantinedCase,
    SpecificationConflict,
    StoreUnavailable,
    UnknownCase,
    UnknownSpecification,
)
from knhk.ports import CaseHeader, Commit, Durability, ItemRow, StoredCase, StoredSpecification


@attrs.define
class _Entry:
    header: CaseHeader
    batches: list[bytes] = attrs.field(factory=list)
    snapshot: bytes | None = None
    snapshot_at: int = 0
    items: dict[int, ItemRow] = attrs.field(factory=dict)


class MemoryStore:
    """Cases in dictionaries under one lock; nothing survives the process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cases: dict[str, _Entry] = {}
        self._keys: dict[str, tuple[str, str]] = {}
        self._specifications: dict[tuple[str, str], StoredSpecification] = {}
        self._closed = False

    @property
    def durability(self) -> Durability:
        """Nothing is promised."""
        return Durability.OFF

    def commit(self, commits: Sequence[Commit]) -> None:
        """Store all steps, or none and raise."""
        with self._lock:
            self._check_open()
            for commit in commits:
                self._check(commit)
            for commit in commits:
                self._apply(commit)

    def load(self, case_id: str) -> StoredCase:
        """Read a case from its last snapshot on."""
        with self._lock:
            entry = self._entry(case_id)
            if entry.header.quarantined:
                message = f"case {case_id} is set aside: {entry.header.quarantined}"
                raise QuarantinedCase(message)
            return StoredCase(
                header=entry.header, snapshot=entry.snapshot, batches=tuple(entry.batches[entry.snapshot_at :])
            )

    def history(self, case_id: str) -> tuple[bytes, ...]:
        """Read all batches of a case."""
        with self._lock:
            return tuple(self._entry(case_id).batches)

    def header(self, case_id: str) -> CaseHeader:
        """Read a case's header."""
        with self._lock:
            return self._entry(case_id).header

    def cases(
        self, *, spec_id: str | None = None, state: str | None = None, after: str = "", limit: int = 100
    ) -> Sequence[CaseHeader]:
        """List headers by ascending case id."""
        with self._lock:
            self._check_open()
            found = [
                entry.header
                for case_id, entry in sorted(self._cases.items())
                if case_id > after and spec_id in (None, entry.header.spec_id) and state in (None, entry.header.state)
            ]
            return found[:limit]

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
        with self._lock:
            self._check_open()
            found = [
                row
                for name, entry in sorted(self._cases.items())
                if case_id in (None, name)
                for number, row in sorted(entry.items.items())
                if (name, number) > after and state in (None, row.state) and by in (None, row.by)
            ]
            return found[:limit]

    def due(self, now: int, limit: int = 100) -> Sequence[str]:
        """List running cases whose earliest timer is due, earliest first."""
        with self._lock:
            self._check_open()
            found = sorted(
                (header.due, header.case_id)
                for header in (entry.header for entry in self._cases.values())
                if header.due is not None and header.due <= now and not header.quarantined
            )
            return [case_id for _, case_id in found[:limit]]

    def runnable(self, after: str = "", limit: int = 100) -> Sequence[str]:
        """List running cases with automatic work."""
        with self._lock:
            self._check_open()
            found = [
                case_id
                for case_id, entry in sorted(self._cases.items())
                if case_id > after and entry.header.runnable and not entry.header.quarantined
            ]
            return found[:limit]

    def find_idempotent(self, key: str) -> tuple[str, str] | None:
        """Return (case id, digest) stored with this key."""
        with self._lock:
            self._check_open()
            return self._keys.get(key)

    def quarantine(self, case_id: str, reason: str) -> None:
        """Set a damaged case aside."""
        with self._lock:
            entry = self._entry(case_id)
            entry.header = attrs.evolve(entry.header, quarantined=reason)

    def put_specification(self, specification: StoredSpecification) -> None:
        """Store a registration."""
        with self._lock:
            self._check_open()
            key = (specification.spec_id, specification.version)
            known = self._specifications.setdefault(key, specification)
            if known.content_hash != specification.content_hash:
                message = f"{key[0]} version {key[1]} is registered with other content: give this one a new version"
                raise SpecificationConflict(message)

    def specification(self, spec_id: str, version: str | None = None) -> StoredSpecification:
        """Read a specification, the latest registered without a version."""
        with self._lock:
            self._check_open()
            found = [
                each
                for each in self._specifications.values()
                if each.spec_id == spec_id and version in (None, each.version)
            ]
            if not found:
                message = f"no specification {spec_id!r}" + (f" version {version!r}" if version else "")
                raise UnknownSpecification(message)
            return found[-1]

    def specifications(self) -> Sequence[StoredSpecification]:
        """List all, in the order of registration."""
        with self._lock:
            self._check_open()
            return list(self._specifications.values())

    def close(self) -> None:
        """Refuse further calls."""
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            message = "the store is closed"
            raise StoreUnavailable(message)

    def _entry(self, case_id: str) -> _Entry:
        self._check_open()
        entry = self._cases.get(case_id)
        if entry is None:
            message = f"no case {case_id!r}"
            raise UnknownCase(message)
        return entry

    def _check(self, commit: Commit) -> None:
        case_id = commit.header.case_id
        entry = self._cases.get(case_id)
        stored = 0 if entry is None else entry.header.version
        if entry is None and commit.expected:
            message = f"no case {case_id!r}"
            raise UnknownCase(message)
        if stored != commit.expected:
            message = f"case {case_id} is at version {stored}, not {commit.expected}: reload it and try again"
            raise ConcurrentUpdate(message)
        if commit.idempotency is not None and commit.idempotency[0] in self._keys:
            message = f"idempotency key {commit.idempotency[0]!r} is taken"
            raise IdempotencyConflict(message)

    def _apply(self, commit: Commit) -> None:
        header = commit.header
        entry = self._cases.get(header.case_id)
        if entry is None:
            entry = self._cases[header.case_id] = _Entry(header)
        entry.header = attrs.evolve(header, quarantined=entry.header.quarantined)
        entry.batches.append(commit.batch)
        if commit.snapshot is not None:
            entry.snapshot, entry.snapshot_at = commit.snapshot, len(entry.batches)
        for row in commit.items:
            entry.items[row.number] = row
        for number in commit.closed_items:
            entry.items.pop(number, None)
        if commit.idempotency is not None:
            self._keys[commit.idempotency[0]] = (header.case_id, commit.idempotency[1])
