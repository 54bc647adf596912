"""
What a call of `commit` or `write` changes in etcd, thought out before it is sent.

A `Plan` has guards, the revisions that were seen of what the call depends on, and changes; etcd makes the changes if the guards
still hold, all of them or none.
What was seen may be remembered from before: then a plan that is refused, here or by etcd, is made again of what is read anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property

import attrs

from knhk.errors import ConcurrentUpdate, IdempotencyConflict, QuarantinedCase, UnknownCase, UnknownSpecification
from knhk.ports import CaseHeader, Commit, Document
from knhk.stores import _etcd_layout as layout
from knhk.stores import _etcd_messages as messages
from knhk.stores._etcd_layout import Kept, Keys
from knhk.stores._etcd_messages import api
from knhk.stores._ordered import number_key
from knhk.stores._rows import encode_row
from knhk.stores.memory import overtaken, taken_over


@attrs.frozen
class SeenCase:
    """
    A case as it was when it was last looked at.

    Args:
        revision: of its last write; 0: there is no such case.
        kept: what is under its key.
        rows: those of its open items that are known, and None for numbers that are known to have none.
        complete: whether all rows are known.
    """

    revision: int
    kept: Kept | None
    rows: Mapping[int, bytes | None]
    complete: bool = False

    def row(self, number: int) -> bytes | None:
        """Return a row, or None where there is none; KeyError where that is not known."""
        if self.complete or self.kept is None or number > self.kept.highest:
            return self.rows.get(number)
        return self.rows[number]

    def knows(self, numbers: Iterable[int]) -> bool:
        """Whether it is known of all these numbers which rows they have."""
        if self.complete or self.kept is None:
            return True
        return all(each > self.kept.highest or each in self.rows for each in numbers)


@attrs.frozen
class View:
    """
    What a plan is made of.

    Args:
        cases: by id.
        values: documents and idempotency keys by their key in etcd: the revision and the value; 0 and None: not there.
        registered: keys of specifications that are registered.
        revision: at which all of it was so; None: some of it was remembered, or assumed.
    """

    cases: Mapping[str, SeenCase]
    values: Mapping[bytes, tuple[int, bytes | None]]
    registered: frozenset[bytes]
    revision: int | None


@attrs.define
class Plan:
    """
    Changes and what they depend on.

    Args:
        guards: the revision of each key that must not have changed since it was seen.
        changes: values by key; None: the key goes.
        loose: pieces of large values that are under a lease until the changes are made.
        cases: how the cases are afterwards.
        values: how documents and idempotency keys are afterwards.
        revision: as in `View`.
    """

    guards: dict[bytes, int] = attrs.field(factory=dict)
    changes: dict[bytes, bytes | None] = attrs.field(factory=dict)
    loose: dict[bytes, int] = attrs.field(factory=dict)
    cases: dict[str, SeenCase] = attrs.field(factory=dict)
    values: dict[bytes, bytes | None] = attrs.field(factory=dict)
    revision: int | None = None

    @property
    def conditions(self) -> list[api.Compare]:
        """What has to hold for the changes to be made."""
        return [messages.unchanged(key, revision) for key, revision in (*self.loose.items(), *self.guards.items())]

    @property
    def operations(self) -> list[api.RequestOp]:
        """What makes the changes."""
        changed = self.changes.items()
        changes = [messages.delete(key) if value is None else messages.put(key, value) for key, value in changed]
        return [*changes, *map(messages.keep, self.loose)]

    @cached_property
    def body(self) -> api.TxnRequest:
        """The transaction that makes the changes if the conditions hold; once it was asked for nothing changes any more."""
        return messages.transaction(self.conditions, self.operations)


Store = Callable[[Plan, bytes], bytes]
"""Returns what is stored in place of a large value, having stored the value itself."""


class Planner:
    """
    Thinks out what steps change.

    Args:
        keys: of the namespace.
        spill: stores a large value and returns what stands in its place.
    """

    def __init__(self, keys: Keys, spill: Store) -> None:
        self._keys = keys
        self._spill = spill

    def plan(self, view: View, steps: Sequence[Commit | Documents]) -> Plan:
        """
        Return the plan of steps that are stored together.

        Raises:
            CommandError, QuarantinedCase: what is seen refuses one of them.
        """
        made = Plan(revision=view.revision)
        for each in steps:
            self._hold(made, view, each.held)
            if isinstance(each, Commit):
                self._step(made, view, each)
            self._write(made, view, each.documents, each.removed)
        return made

    def aside(self, case_id: str, seen: SeenCase, reason: str) -> Plan:
        """Return the plan that sets a case aside; nothing in it where it is so already."""
        made = Plan()
        if seen.kept is None:
            raise unknown(case_id)
        if not seen.kept.header.quarantined:
            header = attrs.evolve(seen.kept.header, quarantined=reason)
            self._put(made, seen, attrs.evolve(seen.kept, header=header), dict(seen.rows))
        return made

    # --- inside -------------------------------------------------------------------------------------------------------

    def _step(self, made: Plan, view: View, commit: Commit) -> None:
        header = commit.header
        case_id, expected = header.case_id, commit.expected
        if self._keys.key("s", header.spec_id, header.spec_version) not in view.registered:
            raise UnknownSpecification(
                f"specification {header.spec_id!r} version {header.spec_version!r} is not registered"
            )
        if commit.idempotency is not None:
            self._use_key(made, view, case_id, *commit.idempotency)
        seen = made.cases.get(case_id) or view.cases[case_id]
        if seen.kept is None:
            if expected:
                raise unknown(case_id)
        else:
            if seen.kept.header.quarantined:
                raise QuarantinedCase(f"case {case_id!r} is set aside: {seen.kept.header.quarantined}")
            if seen.kept.header.version != expected:
                message = f"case {case_id!r} is at version {seen.kept.header.version}, not {expected}: reload it"
                raise ConcurrentUpdate(message)
        before = Kept(header) if seen.kept is None else seen.kept
        snapshot_at, pieces = before.snapshot_at, before.pieces
        made.changes[self._keys.key("j", case_id, tail=number_key(header.version))] = self._spill(made, commit.batch)
        if commit.snapshot is not None:
            self._drop(made, before.pieces)
            stored = self._spill(made, commit.snapshot)
            made.changes[self._keys.key("x", case_id)] = stored
            snapshot_at, pieces = header.version, layout.pieces_of(stored)
        rows = dict(seen.rows)
        for item in commit.items:
            rows[item.number] = encode_row(item)
        for number in commit.closed_items:
            rows[number] = None
        highest = max([before.highest, *(each.number for each in commit.items)])
        self._put(made, seen, Kept(header, snapshot_at, highest, pieces), rows)

    def _put(self, made: Plan, seen: SeenCase, after: Kept, rows: dict[int, bytes | None]) -> None:
        """Change a case from what was seen of it to what it is afterwards."""
        keys, header = self._keys, after.header
        case_id, aside = header.case_id, bool(header.quarantined)
        key = keys.key("c", case_id)
        made.guards.setdefault(key, seen.revision)
        made.changes[key] = after.encode()
        if seen.kept is None or _listed(seen.kept.header) != _listed(header):
            before = set() if seen.kept is None else keys.lists(seen.kept)
            lists = keys.lists(after)
            made.changes |= dict.fromkeys(before - lists)
            made.changes |= dict.fromkeys(lists - before, b"")
        for number, row in rows.items():
            old = seen.row(number)
            if old == row and not aside:
                continue
            name = number_key(number)
            if old is not None:
                made.changes |= dict.fromkeys(
                    (keys.key("i", case_id, tail=name), *keys.row_lists(case_id, number, old))
                )
            if row is not None:
                where = (keys.key("i", case_id, tail=name), *keys.row_lists(case_id, number, row))
                made.changes |= dict.fromkeys((keys.key("q", case_id, tail=name),) if aside else where, row)
        made.cases[case_id] = SeenCase(seen.revision, after, rows, seen.complete or seen.kept is None)

    def _drop(self, made: Plan, pieces: tuple[str, int] | None) -> None:
        """Remove the pieces of a value, or leave them to their lease where they were not stored yet."""
        for key in layout.piece_keys(self._keys, pieces):
            if made.loose.pop(key, None) is None:
                made.changes[key] = None

    def _use_key(self, made: Plan, view: View, case_id: str, key: str, digest: str) -> None:
        name = self._keys.key("k", key)
        revision, value = view.values[name]
        if made.values.get(name, value) is not None:
            raise IdempotencyConflict(f"idempotency key {key!r} was used before")
        made.guards[name] = revision
        made.changes[name] = made.values[name] = layout.encode_texts(case_id, digest)

    def _hold(self, made: Plan, view: View, held: Iterable[Document]) -> None:
        for each in held:
            value = self._seen(made, view, each)
            if layout.version_of(value) != each.version or each.version < 1:
                raise taken_over(each)

    def _write(self, made: Plan, view: View, documents: Iterable[Document], removed: Iterable[Document]) -> None:
        for each in documents:
            before = self._seen(made, view, each)
            if layout.version_of(before) != each.version - 1 or each.version < 1:
                raise overtaken(each, each.version - 1)
            self._change(made, each, before, layout.encode_document(each, self._spill(made, each.value.encode())))
        for each in removed:
            before = self._seen(made, view, each)
            if layout.version_of(before) != each.version or each.version < 1:
                raise overtaken(each, each.version)
            self._change(made, each, before, None)

    def _seen(self, made: Plan, view: View, document: Document) -> bytes | None:
        """Return a document as it is behind the steps before, which depends on it from here on."""
        name = self._keys.key("d", document.collection, document.key)
        revision, value = view.values[name]
        made.guards[name] = revision
        return made.values.get(name, value)

    def _change(self, made: Plan, document: Document, before: bytes | None, after: bytes | None) -> None:
        collection, key = document.collection, document.key
        if before is not None:
            due = self._keys.due(collection, key, before)
            if due is not None:
                made.changes[due] = None
            self._drop(made, layout.pieces_of(layout.content_of(before)))
        name = self._keys.key("d", collection, key)
        made.changes[name] = made.values[name] = after
        if after is not None:
            due = self._keys.due(collection, key, after)
            if due is not None:
                made.changes[due] = b""


def _listed(header: CaseHeader) -> tuple[object, ...]:
    """Return what of a header says in which lists its case is."""
    return header.spec_id, header.state, header.due, header.runnable, header.quarantined


@attrs.frozen
class Documents:
    """A step without a case: what is written, removed and held."""

    documents: Sequence[Document]
    removed: Sequence[Document]
    held: Sequence[Document]


def unknown(case_id: str) -> UnknownCase:
    """Say that there is no such case."""
    return UnknownCase(f"case {case_id!r} is not in the store")
