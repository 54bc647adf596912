"""A store in memory, for tests and trials: it keeps every promise of the port but durability."""

from __future__ import annotations

import bisect
import heapq
import operator
import threading
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Final

import attrs

from knhk.errors import (
    ConcurrentUpdate,
    IdempotencyConflict,
    KnhkError,
    OwnershipLost,
    QuarantinedCase,
    SpecificationConflict,
    StoreError,
    StoreUnavailable,
    UnknownCase,
    UnknownSpecification,
)
from knhk.ports import CaseHeader, Commit, Document, Durability, ItemRow, StoredCase, StoredSpecification, WholeCase

WORKING: Final = ("running", "compensating")
"""The state of the cases that have timers and automatic work."""


def one_by_one(commit: Callable[[Sequence[Commit]], None], calls: Sequence[Sequence[Commit]]) -> list[KnhkError | None]:
    """Do what `Store.commit_each` does where there is no wait to share."""
    outcomes: list[KnhkError | None] = []
    for commits in calls:
        try:
            commit(commits)
        except KnhkError as error:
            outcomes.append(error)
        else:
            outcomes.append(None)
    return outcomes


def refuse_malformed(commit: Commit) -> None:
    """Raise StoreError for a commit that contradicts itself, which no store may accept."""
    header = commit.header
    if commit.expected < 0 or header.version != commit.expected + 1:
        raise StoreError(
            f"case {header.case_id!r}: a commit on version {commit.expected} makes version {commit.expected + 1}, "
            f"its header says {header.version}"
        )
    for item in commit.items:
        if item.case_id != header.case_id:
            raise StoreError(f"a commit of case {header.case_id!r} holds a work item of case {item.case_id!r}")


def overtaken(document: Document, expected: int) -> ConcurrentUpdate:
    """Say that another version of a document is stored than the writer read (0: none)."""
    had = f"at version {expected}" if expected else "absent"
    return ConcurrentUpdate(f"{document.collection} {document.key!r} is not {had} any more: read it again")


def taken_over(document: Document) -> OwnershipLost:
    """Say that a document which is held is not stored any more as it was read."""
    return OwnershipLost(
        f"{document.collection} {document.key!r} is not at version {document.version} any more: nothing is written under it"
    )


def refuse_other_content(specification: StoredSpecification, content_hash: str) -> None:
    """Raise SpecificationConflict where what is registered under this id and version has another content hash."""
    if content_hash != specification.content_hash:
        raise SpecificationConflict(
            f"specification {specification.spec_id!r} version {specification.version!r} is registered with other content: "
            "give the new content a new version"
        )


_FEW: Final = 8
"""Batches, and work items, of a case that are kept in a tuple, which is half the size of a list or a dictionary of so few."""


@attrs.define(eq=False)
class _Kept:
    """
    All that is known of one case.

    Args:
        snapshot: the last one, and the version that it was made at.
        items: the open ones, in a dictionary by number where there are many.
    """

    header: CaseHeader
    batches: tuple[bytes, ...] | list[bytes] = ()
    snapshot: tuple[bytes, int] | None = None
    items: tuple[ItemRow, ...] | dict[int, ItemRow] = ()

    def add(self, batch: bytes) -> None:
        """Keep another batch, which is not one of the first few."""
        if isinstance(self.batches, tuple):
            self.batches = [*self.batches]
        self.batches.append(batch)

    def listed(self) -> list[ItemRow]:
        """Return the open items by number."""
        items = self.items.values() if isinstance(self.items, dict) else self.items
        return sorted(items, key=_by_number)


_by_number: Final = operator.attrgetter("number")


class _Opened:
    """The store's lock, which nobody gets once it is closed; a generator would do, and cost twice as much."""

    __slots__ = ("closed", "lock")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.closed = False

    def __enter__(self) -> None:
        self.lock.acquire()
        if self.closed:
            self.lock.release()
            raise self.refusal()

    def __exit__(self, *error: object) -> None:
        self.lock.release()

    @staticmethod
    def refusal() -> StoreUnavailable:
        """Say that it is closed; whoever is in a hurry asks for lock and closed himself."""
        return StoreUnavailable("the store is closed")


class MemoryStore:
    """Keeps cases in dictionaries under one lock; its durability is `OFF`."""

    def __init__(self) -> None:
        self._opened = _Opened()
        self._cases: dict[str, _Kept] = {}
        self._ids: list[str] = []
        self._due: dict[str, int] = {}
        self._runnable: set[str] = set()
        self._owners: dict[str, dict[str, int]] = {}
        self._keys: dict[str, tuple[str, str]] = {}
        self._specifications: dict[tuple[str, str], StoredSpecification] = {}
        self._latest: dict[str, StoredSpecification] = {}
        self._documents: dict[str, dict[str, Document]] = {}

    forgetful = True

    @property
    def durability(self) -> Durability:
        """Nothing is promised."""
        return Durability.OFF

    def commit(self, commits: Sequence[Commit]) -> None:
        """Store all steps, or none and raise."""
        with self._opened.lock:
            if self._opened.closed:
                raise self._opened.refusal()
            if len(commits) == 1 and self._apply_plain(commits[0]):
                return
            self._validate(commits)
            for commit in commits:
                self._apply(commit)

    def commit_each(self, calls: Sequence[Sequence[Commit]]) -> list[KnhkError | None]:
        """Store each call whole, or refuse it."""
        return one_by_one(self.commit, calls)

    def load(self, case_id: str) -> StoredCase:
        """Read a case; raises UnknownCase, or QuarantinedCase with the reason."""
        with self._opened:
            kept = self._kept(case_id)
            if kept.header.quarantined:
                raise QuarantinedCase(f"case {case_id!r} is set aside: {kept.header.quarantined}")
            snapshot, since = kept.snapshot or (None, 0)
            return StoredCase(header=kept.header, snapshot=snapshot, batches=tuple(kept.batches[since:]))

    def history(self, case_id: str) -> tuple[bytes, ...]:
        """Read all batches of a case from its creation on."""
        with self._opened:
            return tuple(self._kept(case_id).batches)

    def header(self, case_id: str) -> CaseHeader:
        """Read a case's header; raises UnknownCase."""
        with self._opened:
            return self._kept(case_id).header

    def whole(self, case_id: str) -> WholeCase:
        """Read everything that is stored of a case; raises UnknownCase."""
        with self._opened:
            kept = self._kept(case_id)
            return WholeCase(
                header=kept.header, batches=tuple(kept.batches), snapshot=kept.snapshot, items=tuple(kept.listed())
            )

    def cases(
        self, *, spec_id: str | None = None, state: str | None = None, after: str = "", limit: int = 100
    ) -> Sequence[CaseHeader]:
        """List headers by ascending case id, from behind `after`."""
        with self._opened:
            headers = (self._cases[each].header for each in self._ids[bisect.bisect_right(self._ids, after) :])
            found = (
                each
                for each in headers
                if (spec_id is None or each.spec_id == spec_id) and (state is None or each.state == state)
            )
            return tuple(islice(found, max(limit, 0)))

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
        with self._opened:
            if by:
                cases = sorted(each for each in self._owners.get(by, ()) if each >= after[0])
            else:
                cases = self._ids[bisect.bisect_left(self._ids, after[0]) :]
            if case_id is not None:
                cases = [each for each in cases if each == case_id]
            found = (
                item
                for kept in map(self._cases.__getitem__, cases)
                if not kept.header.quarantined
                for item in kept.listed()
                if (item.case_id, item.number) > after
                and (state is None or item.state == state)
                and (by is None or item.by == by)
                and (topics is None or (item.topic and item.topic in topics))
                and (audience is None or not set(audience).isdisjoint(item.audience))
            )
            return tuple(islice(found, max(limit, 0)))

    def due(self, now: int, limit: int = 100) -> Sequence[str]:
        """List running cases whose earliest timer is not after `now`, earliest first."""
        with self._opened:
            found = ((due, case_id) for case_id, due in self._due.items() if due <= now)
            return tuple(case_id for _, case_id in heapq.nsmallest(limit, found))

    def runnable(self, after: str = "", limit: int = 100) -> Sequence[str]:
        """List running cases with automatic work, by ascending id from behind `after`."""
        with self._opened:
            return tuple(heapq.nsmallest(limit, (each for each in self._runnable if each > after)))

    def find_idempotent(self, key: str) -> tuple[str, str] | None:
        """Return (case id, digest) stored with this key, or None."""
        with self._opened:
            return self._keys.get(key)

    def idempotency_keys(self, after: str = "", limit: int = 100) -> Sequence[tuple[str, str, str]]:
        """List (key, case id, digest) by ascending key, from behind `after`."""
        with self._opened:
            found = heapq.nsmallest(limit, (each for each in self._keys if each > after))
            return tuple((each, *self._keys[each]) for each in found)

    def write(
        self, documents: Sequence[Document], removed: Sequence[Document] = (), held: Sequence[Document] = ()
    ) -> None:
        """Write and remove documents together, or none and raise."""
        with self._opened:
            if held:
                self._validate_held(held, {})
            self._validate_documents(documents, removed, {})
            self._apply_documents(documents, removed)

    def document(self, collection: str, key: str) -> Document | None:
        """Read a document, or None where there is none."""
        with self._opened:
            return self._documents.get(collection, {}).get(key)

    def documents(
        self, collection: str, *, due: int | None = None, prefix: str = "", after: str = "", limit: int = 100
    ) -> Sequence[Document]:
        """List a collection by ascending key, or what of it is due, earliest first."""
        with self._opened:
            found = self._documents.get(collection, {}).values()
            if due is not None:
                timed = ((each.due, each.key) for each in found if each.due is not None and each.due <= due)
                return tuple(self._documents[collection][key] for _, key in heapq.nsmallest(limit, timed))
            keys = (each.key for each in found if each.key > after and each.key.startswith(prefix))
            return tuple(self._documents[collection][key] for key in heapq.nsmallest(limit, keys))

    def collections(self) -> Sequence[str]:
        """List the collections that hold a document, in ascending order."""
        with self._opened:
            return tuple(sorted(name for name, kept in self._documents.items() if kept))

    def quarantine(self, case_id: str, reason: str) -> None:
        """Set a damaged case aside; the first reason stays."""
        with self._opened:
            kept = self._kept(case_id)
            if not kept.header.quarantined:
                kept.header = attrs.evolve(kept.header, quarantined=reason or "no reason was given")
                self._index(kept.header)

    def put_specification(self, specification: StoredSpecification, documents: Sequence[Document] = ()) -> bool:
        """Store a registration with documents, or neither; the same again does nothing: False."""
        with self._opened:
            key = (specification.spec_id, specification.version)
            stored = self._specifications.get(key)
            if stored is not None:
                refuse_other_content(specification, stored.content_hash)
                return False
            self._validate_documents(documents, (), {})
            self._specifications[key] = self._latest[key[0]] = specification
            self._apply_documents(documents, ())
            return True

    def specification(self, spec_id: str, version: str | None = None) -> StoredSpecification:
        """Read one (the latest registered without a version); raises UnknownSpecification."""
        with self._opened.lock:
            if self._opened.closed:
                raise self._opened.refusal()
            stored = self._latest.get(spec_id) if version is None else self._specifications.get((spec_id, version))
            if stored is not None:
                return stored
        named = "" if version is None else f" version {version!r}"
        raise UnknownSpecification(f"specification {spec_id!r}{named} is not registered")

    def specifications(self) -> Sequence[StoredSpecification]:
        """List all, in the order of registration."""
        with self._opened:
            return tuple(self._specifications.values())

    def close(self) -> None:
        """Forget everything; a closed store refuses further calls."""
        with self._opened.lock:
            self._opened.closed = True
            for each in (
                self._cases,
                self._ids,
                self._due,
                self._runnable,
                self._keys,
                self._specifications,
                self._latest,
                self._documents,
            ):
                each.clear()

    def _kept(self, case_id: str) -> _Kept:
        kept = self._cases.get(case_id)
        if kept is None:
            raise UnknownCase(f"case {case_id!r} is not in the store")
        return kept

    def _validate(self, commits: Sequence[Commit]) -> None:
        """Raise if any of the commits cannot be applied after those before it; after this, applying cannot fail."""
        before: dict[str, CaseHeader] = {}
        keys: set[str] = set()
        written: dict[tuple[str, str], int] = {}
        for commit in commits:
            header = commit.header
            if commit.items or header.version != commit.expected + 1 or commit.expected < 0:
                refuse_malformed(commit)
            case_id = header.case_id
            if (header.spec_id, header.spec_version) not in self._specifications:
                raise UnknownSpecification(
                    f"specification {header.spec_id!r} version {header.spec_version!r} is not registered"
                )
            if commit.idempotency is not None:
                key = commit.idempotency[0]
                if key in self._keys or key in keys:
                    raise IdempotencyConflict(f"idempotency key {key!r} was used before")
                keys.add(key)
            last = before.get(case_id)
            if last is None:
                kept = self._cases.get(case_id)
                last = None if kept is None else kept.header
            stored = 0 if last is None else last.version
            if last is None and commit.expected:
                raise UnknownCase(f"case {case_id!r} is not in the store")
            if last is not None and last.quarantined:
                raise QuarantinedCase(f"case {case_id!r} is set aside")
            if stored != commit.expected:
                raise ConcurrentUpdate(f"case {case_id!r} is at version {stored}, not {commit.expected}: reload it")
            before[case_id] = header
            if commit.held:
                self._validate_held(commit.held, written)
            if commit.documents or commit.removed:
                self._validate_documents(commit.documents, commit.removed, written)

    def _validate_held(self, held: Sequence[Document], written: Mapping[tuple[str, str], int]) -> None:
        """Raise if any of the documents is not stored as it was read, after those that `written` has versions of."""
        for each in held:
            stored = self._documents.get(each.collection, {}).get(each.key)
            version = written.get((each.collection, each.key), 0 if stored is None else stored.version)
            if version != each.version or version < 1:
                raise taken_over(each)

    def _validate_documents(
        self, documents: Sequence[Document], removed: Sequence[Document], written: dict[tuple[str, str], int]
    ) -> None:
        """Raise if any of the documents is not as expected after those before it, whose versions are in `written`."""
        expected = [(each, each.version - 1, each.version) for each in documents]
        expected += [(each, each.version, 0) for each in removed]
        for each, before, afterwards in expected:
            key = (each.collection, each.key)
            stored = self._documents.get(each.collection, {}).get(each.key)
            if written.get(key, 0 if stored is None else stored.version) != before or max(before, afterwards) < 1:
                raise overtaken(each, before)
            written[key] = afterwards

    def _apply_documents(self, documents: Sequence[Document], removed: Sequence[Document]) -> None:
        for each in documents:
            self._documents.setdefault(each.collection, {})[each.key] = each
        for each in removed:
            del self._documents[each.collection][each.key]

    def _apply_plain(self, commit: Commit) -> bool:
        """
        Apply a commit that does no more than begin a case or go on with it, as most do; of any other nothing is done: False.

        What it does is what `_validate` and `_apply` do, without the questions that such a commit does not raise.
        """
        if commit.documents or commit.removed or commit.held or commit.idempotency is not None:
            return False
        header, expected = commit.header, commit.expected
        case_id = header.case_id
        for item in commit.items:
            if item.case_id != case_id:
                return False
        if header.version != expected + 1:
            return False
        kept = self._cases.get(case_id)
        if kept is None:
            ids = self._ids
            if expected or (header.spec_id, header.spec_version) not in self._specifications:
                return False
            if ids and case_id < ids[-1]:
                return False
            kept = self._cases[case_id] = _Kept(header, (commit.batch,))
            ids.append(case_id)
            if commit.snapshot is not None:
                kept.snapshot = commit.snapshot, header.version
            if commit.items:
                self._change_items(kept, commit)
            if header.runnable or header.due is not None:
                self._index(header)
            return True
        before = kept.header
        if before.version != expected or before.quarantined:
            return False
        if before.spec_version != header.spec_version or before.spec_id != header.spec_id:
            return False
        kept.header = header
        if len(kept.batches) < _FEW:
            kept.batches = (*kept.batches, commit.batch)
        else:
            kept.add(commit.batch)
        if commit.snapshot is not None:
            kept.snapshot = commit.snapshot, header.version
        if commit.items or commit.closed_items:
            self._change_items(kept, commit)
        if before.runnable or header.runnable or before.due is not None or header.due is not None:
            self._index(header)
        return True

    def _apply(self, commit: Commit) -> None:
        header = commit.header
        kept = self._cases.get(header.case_id)
        if kept is None:
            kept = self._cases[header.case_id] = _Kept(header)
            if self._ids and header.case_id < self._ids[-1]:
                bisect.insort(self._ids, header.case_id)
            else:
                self._ids.append(header.case_id)
        kept.header = header
        if len(kept.batches) < _FEW:
            kept.batches = (*kept.batches, commit.batch)
        else:
            kept.add(commit.batch)
        if commit.snapshot is not None:
            kept.snapshot = commit.snapshot, header.version
        if commit.items or commit.closed_items:
            self._change_items(kept, commit)
        if commit.idempotency is not None:
            key, digest = commit.idempotency
            self._keys[key] = (header.case_id, digest)
        if commit.documents or commit.removed:
            self._apply_documents(commit.documents, commit.removed)
        self._index(header)

    def _change_items(self, kept: _Kept, commit: Commit) -> None:
        """Change a case's items, and note in which cases a participant has any."""
        items = kept.items
        if not isinstance(items, dict):
            items = {each.number: each for each in items}
        for each in commit.items:
            had = items.get(each.number)
            items[each.number] = each
            if each.by:
                self._own(each, 1)
            if had is not None and had.by:
                self._own(had, -1)
        for number in commit.closed_items:
            had = items.pop(number, None)
            if had is not None and had.by:
                self._own(had, -1)
        kept.items = items if len(items) > _FEW else tuple(items.values())

    def _own(self, item: ItemRow, change: int) -> None:
        """Count the items that a participant has in a case."""
        cases = self._owners.setdefault(item.by, {})
        cases[item.case_id] = cases.get(item.case_id, 0) + change
        if not cases[item.case_id]:
            del cases[item.case_id]
        if not cases:
            del self._owners[item.by]

    def _index(self, header: CaseHeader) -> None:
        case_id = header.case_id
        works = header.state in WORKING and not header.quarantined
        if works and header.due is not None:
            self._due[case_id] = header.due
        elif case_id in self._due:
            del self._due[case_id]
        if works and header.runnable:
            self._runnable.add(case_id)
        else:
            self._runnable.discard(case_id)
