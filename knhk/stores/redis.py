"""
The store on a Redis server, which several instances may share.

What one call of `commit` changes is changed by one script, which nothing comes between, and callers that wait at the same time
share one (`knhk.stores._group`).
The keys and scripts: `knhk.stores._redis_scripts`.

A reply may be lost after the script has run.
So each group of callers has a writer, which sends one after the other, and a number.
The script keeps the last number of each writer with what its callers were told, and who got no answer sends the same group
again: it is stored once, and its callers are told what became of it.
A group of the writer with a lower number is refused from then on, whatever still travels to the server.

Outcomes of every call: its result, a CommandError of the port, StoreFull (maxmemory, disk), StoreUnavailable (out of reach, a
replica, loading, busy, closed), QuarantinedCase, or StoreError (settings weaker than asked for, refused login, not a store of
this version, a text that is no Unicode); any other exception is our bug.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from typing import Any, Final

import attrs

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
from knhk.stores import _redis_scripts as scripts
from knhk.stores._group import Caller, GroupCommit, settle
from knhk.stores._lost import until_answered
from knhk.stores._ordered import NUMBER_LENGTH, number_key, read_number, storable
from knhk.stores._redis_commit import COMMIT
from knhk.stores._redis_layout import bring_up_to_date
from knhk.stores._redis_link import Link, read_address
from knhk.stores._redis_words import (
    UNSET,
    VERSION_LENGTH,
    add_documents,
    add_registration,
    add_step,
    pair,
    read_head,
    read_pair,
)
from knhk.stores._rows import decode_row
from knhk.stores.memory import overtaken, refuse_malformed, refuse_other_content, taken_over

_MOST: Final = 2**31
# While the server syncs one group, another is on its way; with more, groups are smaller and cost more than the wait.
_WRITERS: Final = 2
_VALUE_AT: Final = VERSION_LENGTH + len(UNSET)


class RedisStore:
    """
    Keeps cases on a Redis server, all keys of a namespace in one slot.

    Args:
        url: ``redis://`` or ``rediss://``, as the reference of stores has it.
        durability: what an acknowledged commit survives; refused where the server's settings do not give it.
        timeout_ms: how long a call waits for the server's answer.

    Raises:
        MissingExtra: the library is not installed.
        StoreError: the URL is not understood, the settings are weaker than the durability, or the layout is a newer one.
        StoreUnavailable: the server is out of reach.
    """

    def __init__(self, url: str, *, durability: Durability = Durability.FULL, timeout_ms: int = 5000) -> None:
        self._durability = durability
        self._link = Link(read_address(url), durability, timeout_ms / 1000)
        self._writers = [_Writer() for _ in range(_WRITERS)]
        self._groups = GroupCommit(self._write, leaders=_WRITERS)
        bring_up_to_date(self._link)

    @property
    def durability(self) -> Durability:
        """What an acknowledged commit survives."""
        return self._durability

    def commit(self, commits: Sequence[Commit]) -> None:
        """Store all steps in one transaction, or none and raise."""
        self._groups.commit(commits, _words_of(commits))

    def commit_each(self, calls: Sequence[Sequence[Commit]]) -> list[KnhkError | None]:
        """Store each call whole, or refuse it; they share one run of the script."""
        return self._groups.commit_each(calls, _words_of)

    def load(self, case_id: str) -> StoredCase:
        """Read a case; raises UnknownCase, or QuarantinedCase with the reason."""
        with storable():
            fields, snapshot, batches = self._link.run(scripts.LOAD, case_id.encode())
        header = _header(case_id, fields)
        if header.quarantined:
            raise QuarantinedCase(f"case {case_id!r} is set aside: {header.quarantined}")
        return StoredCase(
            header=header, snapshot=None if snapshot is None else snapshot[VERSION_LENGTH:], batches=tuple(batches)
        )

    def history(self, case_id: str) -> tuple[bytes, ...]:
        """Read all batches of a case from its creation on."""
        with storable():
            batches = self._link.ask("LRANGE", self._key("j:", case_id), 0, -1)
        if not batches:
            raise _unknown(case_id)
        return tuple(batches)

    def header(self, case_id: str) -> CaseHeader:
        """Read a case's header; raises UnknownCase."""
        with storable():
            return _header(case_id, self._link.ask("HMGET", self._key("h:", case_id), *scripts.HEADER))

    def whole(self, case_id: str) -> WholeCase:
        """Read everything that is stored of a case; raises UnknownCase."""
        with storable():
            fields, stored, batches, rows = self._link.run(scripts.WHOLE, case_id.encode())
        header, snapshot = _header(case_id, fields), None
        if stored is not None:
            snapshot = stored[VERSION_LENGTH:], int.from_bytes(stored[:VERSION_LENGTH], "big")
        return WholeCase(header=header, batches=tuple(batches), snapshot=snapshot, items=_items(rows))

    def cases(
        self, *, spec_id: str | None = None, state: str | None = None, after: str = "", limit: int = 100
    ) -> Sequence[CaseHeader]:
        """List headers by ascending case id, from behind `after`."""
        with storable():
            if spec_id is not None and state is not None:
                within = b"ids:b:" + pair(spec_id, state)
            elif spec_id is not None:
                within = b"ids:p:" + spec_id.encode()
            else:
                within = b"ids" if state is None else b"ids:s:" + state.encode()
            found = self._link.run(scripts.CASES, within, after.encode(), _limit(limit))
        return tuple(_header(case_id.decode(), fields) for case_id, fields in found)

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
        most = _limit(limit)
        with storable():
            first, behind = after[0].encode(), number_key(after[1])
            over = False
            if case_id is not None:
                own = case_id.encode()
                over = own < first
                if own > first:
                    first, behind = own, b""
            groups: list[list[bytes]] = []
            if state is not None:
                groups.append([b"i:s:" + state.encode()])
            if by:
                groups.append([b"i:b:" + by.encode()])
            if topics is not None:
                groups.append([b"i:t:" + each.encode() for each in dict.fromkeys(topics) if each])
            if audience is not None:
                groups.append([b"i:a:" + each.encode() for each in dict.fromkeys(audience)])
            if over or not most or not all(groups):
                self._link.refuse_closed()
                return ()
            words = [word for group in groups for word in (b"%d" % len(group), *group)]
            one, nobodys = (b"1" if each else b"" for each in (case_id is not None, by == ""))
            found = self._link.run(scripts.ITEMS, one, first, behind, most, nobodys, *words)
        return _items(found)[:most]

    def due(self, now: int, limit: int = 100) -> Sequence[str]:
        """List running cases whose earliest timer is not after `now`, earliest first."""
        with storable():
            upper = b"(" + number_key(now + 1)
            found = self._link.ask("ZRANGEBYLEX", self._key("due"), "-", upper, "LIMIT", 0, _limit(limit))
        return tuple(each[NUMBER_LENGTH:].decode() for each in found)

    def runnable(self, after: str = "", limit: int = 100) -> Sequence[str]:
        """List running cases with automatic work, by ascending id from behind `after`."""
        with storable():
            lower = b"(" + after.encode()
            found = self._link.ask("ZRANGEBYLEX", self._key("runnable"), lower, "+", "LIMIT", 0, _limit(limit))
        return tuple(each.decode() for each in found)

    def find_idempotent(self, key: str) -> tuple[str, str] | None:
        """Return (case id, digest) stored with this key, or None."""
        with storable():
            value = self._link.ask("HGET", self._key("keys"), key.encode())
        return None if value is None else read_pair(value)

    def idempotency_keys(self, after: str = "", limit: int = 100) -> Sequence[tuple[str, str, str]]:
        """List (key, case id, digest) by ascending key, from behind `after`."""
        with storable():
            found = self._link.run(scripts.KEYS_BEHIND, after.encode(), _limit(limit))
        return tuple((key.decode(), *read_pair(value)) for key, value in zip(found[::2], found[1::2], strict=True))

    def write(
        self, documents: Sequence[Document], removed: Sequence[Document] = (), held: Sequence[Document] = ()
    ) -> None:
        """Write and remove documents in one transaction, or none and raise."""
        _refuse_versions(documents, removed, held)
        words: list[bytes] = []
        with storable():
            add_documents(words, documents, removed, held)
        self._groups.commit((), words)

    def document(self, collection: str, key: str) -> Document | None:
        """Read a document, or None where there is none."""
        with storable():
            value = self._link.ask("HGET", self._key("d:", collection), key.encode())
        return None if value is None else _document(collection, key, value)

    def documents(
        self, collection: str, *, due: int | None = None, prefix: str = "", after: str = "", limit: int = 100
    ) -> Sequence[Document]:
        """List a collection by ascending key, or what of it is due, earliest first."""
        with storable():
            if due is not None:
                bounds: tuple[object, ...] = (b"dd:", b"-", b"(" + number_key(due + 1), _limit(limit), NUMBER_LENGTH)
            else:
                first, behind = prefix.encode(), after.encode()
                lower = b"(" + behind if behind >= first else b"[" + first
                # No byte of a text is 255.
                bounds = (b"dk:", lower, b"(" + first + b"\xff", _limit(limit), 0)
            found = self._link.run(scripts.DOCUMENTS, collection.encode(), *bounds)
        pairs = zip(found[::2], found[1::2], strict=True)
        return tuple(_document(collection, key.decode(), value) for key, value in pairs)

    def collections(self) -> Sequence[str]:
        """List the collections that hold a document, in ascending order."""
        return tuple(each.decode() for each in self._link.ask("ZRANGEBYLEX", self._key("collections"), "-", "+"))

    def quarantine(self, case_id: str, reason: str) -> None:
        """Set a damaged case aside; the first reason stays."""
        why = reason or "no reason was given"
        with storable():
            if not self._link.run(scripts.QUARANTINE, case_id.encode(), why.encode()):
                raise _unknown(case_id)

    def put_specification(self, specification: StoredSpecification, documents: Sequence[Document] = ()) -> bool:
        """Store a registration with documents, or neither; the same again does nothing: False."""
        spec_id, version = specification.spec_id, specification.version
        value = json.dumps([spec_id, version, specification.content_hash, specification.text])
        words: list[bytes] = []
        with storable():
            name = pair(spec_id, version)
            stored = self._link.ask("HGET", self._key("registrations"), name)
            if stored is None:
                _refuse_versions(documents, (), ())
                add_registration(words, name, spec_id, value, documents)
                try:
                    self._groups.commit((), words)
                except _Registered as faster:
                    stored = faster.stored
                else:
                    return True
        refuse_other_content(specification, _specification(stored).content_hash)
        return False

    def specification(self, spec_id: str, version: str | None = None) -> StoredSpecification:
        """Read one (the latest registered without a version); raises UnknownSpecification."""
        with storable():
            if version is None:
                stored, named = self._link.run(scripts.LATEST, spec_id.encode()), ""
            else:
                stored = self._link.ask("HGET", self._key("registrations"), pair(spec_id, version))
                named = f" version {version!r}"
        if stored is None:
            raise UnknownSpecification(f"specification {spec_id!r}{named} is not registered")
        return _specification(stored)

    def specifications(self) -> Sequence[StoredSpecification]:
        """List all, in the order of registration."""
        return tuple(map(_specification, self._link.run(scripts.REGISTRATIONS)))

    def close(self) -> None:
        """Close the connections; a closed store refuses further calls."""
        self._link.close()

    # --- inside -------------------------------------------------------------------------------------------------------

    def _key(self, name: str, rest: str = "") -> bytes:
        return f"{self._link.root}{name}{rest}".encode()

    def _write(self, group: Sequence[Caller]) -> None:
        """Store a group by one script, and learn what became of it even where its leader is interrupted meanwhile."""
        # As many leaders are here at most as there are writers.
        writer = self._writers.pop()
        try:
            self._write_as(writer, group)
        finally:
            self._writers.append(writer)

    def _write_as(self, writer: _Writer, group: Sequence[Caller]) -> None:
        writer.number += 1
        words: list[object] = [writer.name, writer.number, len(group)]
        for caller in group:
            words += (len(caller.prepared), *caller.prepared)

        def send() -> Any:
            return self._link.tell_script(COMMIT, *words)

        try:
            outcomes = until_answered(send, timeout=self._link.timeout)
        except KnhkError:
            raise
        except BaseException:
            self._settle(group, until_answered(send, timeout=self._link.timeout))
            raise
        self._settle(group, outcomes)

    def _settle(self, group: Sequence[Caller], outcomes: Any) -> None:
        if outcomes:
            for caller, outcome in zip(group, outcomes, strict=True):
                if outcome:
                    caller.error = _refusal([each.decode() for each in outcome[:3]], outcome)
        settle(group)


@attrs.define
class _Writer:
    """
    What sends one group after the other.

    Args:
        name: by which the script knows it.
        number: that of its last group.
    """

    name: str = attrs.field(factory=lambda: secrets.token_hex(8))
    number: int = 0


class _Registered(StoreError):
    """
    Somebody else has stored a registration of this name.

    Args:
        stored: what is registered.
    """

    def __init__(self, stored: bytes) -> None:
        super().__init__("another was faster to register it")
        self.stored = stored


def _words_of(commits: Sequence[Commit]) -> list[bytes]:
    """Return what the script is told of a caller; raises StoreError where a commit contradicts itself."""
    for commit in commits:
        refuse_malformed(commit)
        if commit.documents or commit.removed or commit.held:
            _refuse_versions(commit.documents, commit.removed, commit.held)
    words: list[bytes] = []
    with storable():
        for commit in commits:
            add_step(words, commit)
    return words


def _refuse_versions(documents: Sequence[Document], removed: Sequence[Document], held: Sequence[Document]) -> None:
    """Raise for a version that none ever has."""
    for each in held:
        if each.version < 1:
            raise taken_over(each)
    for each in documents:
        if each.version < 1:
            raise overtaken(each, each.version - 1)
    for each in removed:
        if each.version < 1:
            raise overtaken(each, each.version)


def _refusal(words: Sequence[str], outcome: Sequence[bytes]) -> KnhkError:
    """Return what a caller is told whose steps were refused."""
    kind, name = words[:2]
    if kind == "specification":
        return UnknownSpecification(f"specification {name!r} version {words[2]!r} is not registered")
    if kind == "registered":
        return _Registered(outcome[1])
    if kind == "key":
        return IdempotencyConflict(f"idempotency key {name!r} was used before")
    if kind == "unknown":
        return _unknown(name)
    if kind == "aside":
        return QuarantinedCase(f"case {name!r} is set aside: {words[2]}")
    if kind == "case":
        return ConcurrentUpdate(f"case {name!r} is at version {words[2]}, not {int(outcome[3])}: reload it")
    expected = int.from_bytes(outcome[3], "big")
    document = Document(collection=name, key=words[2], value="", version=expected)
    return taken_over(document) if kind == "held" else overtaken(document, expected)


def _unknown(case_id: str) -> UnknownCase:
    return UnknownCase(f"case {case_id!r} is not in the store")


def _header(case_id: str, fields: Sequence[bytes | None]) -> CaseHeader:
    version, head = fields
    if version is None or head is None:
        raise _unknown(case_id)
    aside, state, spec_id, spec_version, due, runnable = read_head(head)
    return CaseHeader(
        case_id=case_id,
        spec_id=spec_id.decode(),
        spec_version=spec_version.decode(),
        state=state.decode(),
        due=read_number(due) if due else None,
        runnable=bool(runnable),
        version=int(version),
        quarantined=aside.decode(),
    )


def _items(found: Sequence[bytes]) -> tuple[ItemRow, ...]:
    return tuple(decode_row(name, row) for name, row in sorted(zip(found[::2], found[1::2], strict=True)))


def _document(collection: str, key: str, value: bytes) -> Document:
    timed = value[VERSION_LENGTH]
    return Document(
        collection=collection,
        key=key,
        value=value[_VALUE_AT:].decode(),
        due=read_number(value[VERSION_LENGTH + 1 : _VALUE_AT]) if timed else None,
        version=int.from_bytes(value[:VERSION_LENGTH], "big"),
    )


def _specification(value: bytes) -> StoredSpecification:
    spec_id, version, content_hash, text = json.loads(value)
    return StoredSpecification(spec_id=spec_id, version=version, content_hash=content_hash, text=text)


def _limit(limit: int) -> int:
    # To Redis a negative limit is none.
    return min(max(limit, 0), _MOST)
