"""
What one call of a store changes, folded: for each case, key and document what must be so before, and what is so after.

A call may hold several steps of one case, and several versions of one document.
A store that sends a call to a server compares each name with what is stored once, and writes each once.
What a call says about itself is judged here: a step that does not follow the one before it is refused without asking.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs

from knhk.errors import ConcurrentUpdate, IdempotencyConflict, QuarantinedCase
from knhk.ports import CaseHeader, Commit, Document, ItemRow
from knhk.stores.memory import overtaken, refuse_malformed, taken_over


@attrs.define(eq=False)
class CaseChange:
    """
    The steps of one case in one call.

    Args:
        header: the case after the last of them.
        expected: the version that has to be stored; 0: none.
        batches: those of its steps in order; the first makes version `expected` + 1.
        snapshot: the last one, and the version that it was made at.
        items: by number what each row is afterwards; None: it is gone.
    """

    header: CaseHeader
    expected: int
    batches: list[bytes] = attrs.field(factory=list)
    snapshot: tuple[bytes, int] | None = None
    items: dict[int, ItemRow | None] = attrs.field(factory=dict)


@attrs.define(eq=False)
class DocumentChange:
    """
    What one call makes of a document.

    Args:
        first: the write or the removal that comes first, for messages.
        expected: the version that has to be stored; 0: none.
        after: what is stored afterwards; None: nothing.
    """

    first: Document
    expected: int
    after: Document | None


@attrs.define(eq=False)
class Changes:
    """
    All that one call changes; every name is in it once.

    Args:
        cases: by case id.
        keys: by idempotency key the case that was created with it, and the digest.
        documents: by collection and key.
        held: what has to be stored as it was read, by collection and key.
    """

    cases: dict[str, CaseChange] = attrs.field(factory=dict)
    keys: dict[str, tuple[str, str]] = attrs.field(factory=dict)
    documents: dict[tuple[str, str], DocumentChange] = attrs.field(factory=dict)
    held: dict[tuple[str, str], Document] = attrs.field(factory=dict)

    def add_step(self, commit: Commit) -> None:
        """Add a step behind those that are there; raises what the port says where it contradicts them."""
        refuse_malformed(commit)
        header = commit.header
        case_id = header.case_id
        if commit.idempotency is not None:
            key, digest = commit.idempotency
            if key in self.keys:
                raise key_used(key)
            self.keys[key] = case_id, digest
        case = self.cases.get(case_id)
        if case is None:
            case = self.cases[case_id] = CaseChange(header, commit.expected)
        else:
            if case.header.quarantined:
                raise QuarantinedCase(f"case {case_id!r} is set aside: {case.header.quarantined}")
            if case.header.version != commit.expected:
                raise outrun(case_id, case.header.version, commit.expected)
            case.header = header
        case.batches.append(commit.batch)
        if commit.snapshot is not None:
            case.snapshot = commit.snapshot, header.version
        for each in commit.items:
            case.items[each.number] = each
        for number in commit.closed_items:
            case.items[number] = None
        self.add_documents(commit.documents, commit.removed, commit.held)

    def add_documents(
        self, documents: Sequence[Document], removed: Sequence[Document], held: Sequence[Document]
    ) -> None:
        """Add writes, removals, and what is held before them; raises ConcurrentUpdate where they contradict each other."""
        for each in held:
            self._hold(each)
        for each in documents:
            self._change(each, each.version - 1, each)
        for each in removed:
            self._change(each, each.version, None)

    def _hold(self, document: Document) -> None:
        name = document.collection, document.key
        changed = self.documents.get(name)
        before = self.held.get(name)
        if changed is not None:
            version = 0 if changed.after is None else changed.after.version
        else:
            version = document.version if before is None else before.version
        if document.version != version or version < 1:
            raise taken_over(document)
        if changed is None:
            self.held[name] = document

    def _change(self, document: Document, expected: int, after: Document | None) -> None:
        name = document.collection, document.key
        if expected < 0 or (after is None and expected < 1):
            raise overtaken(document, expected)
        changed = self.documents.get(name)
        if changed is None:
            self.documents[name] = DocumentChange(document, expected, after)
            return
        if expected != (0 if changed.after is None else changed.after.version):
            raise overtaken(document, expected)
        changed.after = after


def fold(
    commits: Iterable[Commit],
    documents: Sequence[Document] = (),
    removed: Sequence[Document] = (),
    held: Sequence[Document] = (),
) -> Changes:
    """Return what a call of `commit`, or one of `write`, changes; raises what the port says where it contradicts itself."""
    changes = Changes()
    for each in commits:
        changes.add_step(each)
    changes.add_documents(documents, removed, held)
    return changes


def key_used(key: str) -> IdempotencyConflict:
    """Say that an idempotency key is taken."""
    return IdempotencyConflict(f"idempotency key {key!r} was used before")


def outrun(case_id: str, stored: int, expected: int) -> ConcurrentUpdate:
    """Say that another version of a case is stored than the step expects."""
    return ConcurrentUpdate(f"case {case_id!r} is at version {stored}, not {expected}: reload it")
