"""
The store on an etcd cluster, which several instances may share.

What one call of `commit` changes is one transaction of etcd, on the condition that nothing it depends on has changed since it
was looked at (`knhk.stores._etcd_plan`); callers that wait at the same time share a request (`knhk.stores._etcd_writer`).
What was last seen of a case is remembered, so that a step of a case that nobody else moves is one request; what is remembered
is never the reason for a refusal, and never what a reader is told.

Outcomes of every call: its result, a CommandError of the port, StoreFull (the quota of the cluster), StoreUnavailable (out of
reach, no leader, closed), QuarantinedCase, or StoreError (a cluster weaker than asked for, refused login, a newer layout, a
step that is too large, a text that is no Unicode); any other exception is our bug.
"""

from __future__ import annotations

import heapq
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Final, TypeVar

from knhk.errors import (
    ConcurrentUpdate,
    KnhkError,
    QuarantinedCase,
    SpecificationConflict,
    StoreError,
    UnknownSpecification,
)
from knhk.ports import CaseHeader, Commit, Document, Durability, ItemRow, StoredCase, StoredSpecification, WholeCase
from knhk.stores import _etcd_layout as layout
from knhk.stores import _etcd_link as link
from knhk.stores._etcd_layout import Kept, Keys, behind
from knhk.stores._etcd_link import Compacted, Link, Pair, read_address
from knhk.stores._etcd_memory import Memory
from knhk.stores._etcd_plan import Documents, Plan, Planner, SeenCase, View, unknown
from knhk.stores._etcd_writer import Overtaken, Writer
from knhk.stores._group import GroupCommit
from knhk.stores._ordered import NUMBER_LENGTH, number_key, read_number, storable, text_key
from knhk.stores.memory import refuse_malformed

_ATTEMPTS: Final = 100
_PAGE: Final = 500
_ROWS: Final = 100
_MOST: Final = 2**31
_WHOLE_UP_TO: Final = 32 * 1024
_PIECE: Final = 512 * 1024
_LOOSE_FOR: Final = 600
"""Seconds for which the pieces of a large value wait for their step."""

_Found = TypeVar("_Found")


class EtcdStore:
    """
    Keeps cases in an etcd cluster.

    Args:
        url: ``etcd://`` or ``etcds://``, as the reference of stores has it.
        durability: what an acknowledged commit survives; etcd syncs before it answers, and one that is seen not to is refused
            for ``full``.
        timeout_ms: how long a request waits for its answer.

    Raises:
        MissingExtra: the library is not installed.
        StoreError: the URL is not understood, the cluster is too old or does not sync, or the layout is a newer one.
        StoreUnavailable: the cluster is out of reach.
    """

    def __init__(self, url: str, *, durability: Durability = Durability.FULL, timeout_ms: int = 5000) -> None:
        address = read_address(url)
        self._durability = durability
        self._link = Link(address, timeout_ms / 1000)
        self._keys = Keys(address.namespace)
        self._memory = Memory()
        self._planner = Planner(self._keys, self._spill)
        self._writer = Writer(self._link, self._keys)
        self._groups = GroupCommit(self._writer.write)
        self._link.check(durability, lambda: self._groups.commit((), Plan()))
        written = self._get(self._keys.key("f"))
        if written is not None and int(written) > layout.FORMAT:
            raise StoreError(
                f"{address.shown} namespace {address.namespace} has layout {int(written)}, this version of KNHK reads up to "
                f"{layout.FORMAT}: it was written by a newer KNHK; upgrade this one"
            )

    @property
    def durability(self) -> Durability:
        """What an acknowledged commit survives."""
        return self._durability

    def commit(self, commits: Sequence[Commit]) -> None:
        """Store all steps in one transaction, or none and raise."""
        for commit in commits:
            refuse_malformed(commit)
        with storable():
            self._store(commits, commits)

    def load(self, case_id: str) -> StoredCase:
        """Read a case; raises UnknownCase, or QuarantinedCase with the reason."""
        with storable():
            return self._consistent(partial(self._load, case_id))

    def history(self, case_id: str) -> tuple[bytes, ...]:
        """Read all batches of a case from its creation on."""
        with storable():
            return self._consistent(partial(self._history, case_id))

    def header(self, case_id: str) -> CaseHeader:
        """Read a case's header; raises UnknownCase."""
        with storable():
            return self._kept(case_id)[0].header

    def whole(self, case_id: str) -> WholeCase:
        """Read everything that is stored of a case; raises UnknownCase."""
        with storable():
            return self._consistent(partial(self._whole, case_id))

    def cases(
        self, *, spec_id: str | None = None, state: str | None = None, after: str = "", limit: int = 100
    ) -> Sequence[CaseHeader]:
        """List headers by ascending case id, from behind `after`."""
        self._link.refuse_closed()
        with storable():
            return self._consistent(partial(self._cases, spec_id, state, after, _limit(limit)))

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
        self._link.refuse_closed()

        def wanted(row: ItemRow) -> bool:
            return (
                (state is None or row.state == state)
                and (by is None or row.by == by)
                and (topics is None or (row.topic != "" and row.topic in topics))
                and (audience is None or not set(audience).isdisjoint(row.audience))
            )

        if audience is not None:
            lists: list[tuple[str, ...]] = [("ia", each) for each in dict.fromkeys(audience)]
        elif topics is not None:
            lists = [("it", each) for each in dict.fromkeys(topics) if each]
        elif by:
            lists = [("ib", by)]
        else:
            lists = [("i",) if state is None else ("is", state)]
        with storable():
            own = b"" if case_id is None else text_key(case_id)
            first = text_key(after[0]) + number_key(after[1]) + b"\0"
            return self._consistent(partial(self._items, lists, own, first, wanted, _limit(limit)))

    def due(self, now: int, limit: int = 100) -> Sequence[str]:
        """List running cases whose earliest timer is not after `now`, earliest first."""
        with storable():
            first = self._keys.key("u")
            found = self._consistent(partial(self._pairs, first, first + number_key(now + 1), _limit(limit)))
        return tuple(self._keys.case_of(each.key, numbers=1) for each in found)

    def runnable(self, after: str = "", limit: int = 100) -> Sequence[str]:
        """List running cases with automatic work, by ascending id from behind `after`."""
        with storable():
            first, end = self._keys.key("r", after) + b"\0", behind(self._keys.key("r"))
            found = self._consistent(partial(self._pairs, first, end, _limit(limit)))
        return tuple(self._keys.case_of(each.key) for each in found)

    def find_idempotent(self, key: str) -> tuple[str, str] | None:
        """Return (case id, digest) stored with this key, or None."""
        with storable():
            value = self._get(self._keys.key("k", key))
        if value is None:
            return None
        case_id, digest = layout.decode_texts(value)
        return case_id, digest

    def idempotency_keys(self, after: str = "", limit: int = 100) -> Sequence[tuple[str, str, str]]:
        """List (key, case id, digest) by ascending key, from behind `after`."""
        with storable():
            first, end = self._keys.key("k", after) + b"\0", behind(self._keys.key("k"))
            found = self._consistent(partial(self._pairs, first, end, _limit(limit)))
        rows = ((self._keys.case_of(each.key), *layout.decode_texts(each.value)) for each in found)
        return tuple((key, case_id, digest) for key, case_id, digest in rows)

    def write(
        self, documents: Sequence[Document], removed: Sequence[Document] = (), held: Sequence[Document] = ()
    ) -> None:
        """Write and remove documents in one transaction, or none and raise."""
        with storable():
            self._store((), (Documents(documents, removed, held),))

    def document(self, collection: str, key: str) -> Document | None:
        """Read a document, or None where there is none."""
        with storable():
            return self._consistent(partial(self._document, collection, key))

    def documents(
        self, collection: str, *, due: int | None = None, prefix: str = "", after: str = "", limit: int = 100
    ) -> Sequence[Document]:
        """List a collection by ascending key, or what of it is due, earliest first."""
        with storable():
            most = _limit(limit)
            if due is not None:
                first = self._keys.key("e", collection)
                return self._consistent(partial(self._due_documents, collection, first + number_key(due + 1), most))
            start, begin = self._keys.key("d", collection, after) + b"\0", self._keys.key("d", collection)
            # A prefix is the beginning of a key without its end.
            begin += text_key(prefix)[:-2]
            return self._consistent(partial(self._documents, collection, max(start, begin), behind(begin), most))

    def collections(self) -> Sequence[str]:
        """List the collections that hold a document, in ascending order."""
        return self._consistent(self._collections)

    def quarantine(self, case_id: str, reason: str) -> None:
        """Set a damaged case aside; the first reason stays."""
        why = reason or "no reason was given"
        with storable():
            for _ in range(_ATTEMPTS):
                seen = self._consistent(partial(self._seen_whole, case_id))
                plan = self._planner.aside(case_id, seen, why)
                if not plan.changes or self._write(plan):
                    return
        raise _too_busy()

    def put_specification(self, specification: StoredSpecification) -> None:
        """Store a registration; the same again does nothing."""
        spec_id, version = specification.spec_id, specification.version
        with storable():
            name = self._keys.key("s", spec_id, version)
            stored = self._read(name)
            for _ in range(_ATTEMPTS):
                if stored is not None:
                    break
                if self._write(self._registration(name, specification)):
                    return
                stored = self._read(name)
            else:
                raise _too_busy()
        if layout.decode_specification(stored).content_hash != specification.content_hash:
            raise SpecificationConflict(
                f"specification {spec_id!r} version {version!r} is registered with other content: "
                "give the new content a new version"
            )

    def specification(self, spec_id: str, version: str | None = None) -> StoredSpecification:
        """Read one (the latest registered without a version); raises UnknownSpecification."""
        with storable():
            if version is None:
                latest, named = self._get(self._keys.key("l", spec_id)), ""
                stored = None if latest is None else self._read(self._keys.key("s", *layout.decode_texts(latest)))
            else:
                stored, named = self._read(self._keys.key("s", spec_id, version)), f" version {version!r}"
        if stored is None:
            raise UnknownSpecification(f"specification {spec_id!r}{named} is not registered")
        return layout.decode_specification(stored)

    def specifications(self) -> Sequence[StoredSpecification]:
        """List all, in the order of registration."""
        return self._consistent(self._specifications)

    def close(self) -> None:
        """Close the connections; a closed store refuses further calls."""
        self._link.close()

    # --- writing ------------------------------------------------------------------------------------------------------

    def _store(self, commits: Sequence[Commit], steps: Sequence[Commit | Documents]) -> None:
        """Store steps together, thought out anew as long as others change what they depend on."""
        self._link.refuse_closed()
        if not steps:
            return
        fresh = False
        for _ in range(_ATTEMPTS):
            view = self._consistent(partial(self._view, steps, fresh=fresh))
            try:
                plan = self._planner.plan(view, steps)
            except KnhkError:
                if view.revision is not None:
                    raise
                fresh = True
                continue
            if view.revision is None and len(plan.guards) > self._link.address.operations // 3:
                # So many guards are ranges of keys, which need one revision at which all was seen.
                fresh = True
                continue
            if self._write(plan, commits):
                return
            fresh = True
        raise _too_busy()

    def _write(self, plan: Plan, commits: Sequence[Commit] = ()) -> bool:
        """Write a plan; False where what it depends on has changed."""
        try:
            self._groups.commit(commits, plan)
        except Overtaken:
            self._memory.forget(plan)
            return False
        except BaseException:
            self._memory.forget(plan)
            raise
        self._memory.learn(plan)
        return True

    def _spill(self, plan: Plan, value: bytes) -> bytes:
        """Return what is stored in place of a value: itself, or where its pieces are, which are stored now."""
        if len(value) <= _WHOLE_UP_TO:
            return layout.whole(value)
        token = secrets.token_hex(8)
        pieces = [value[at : at + _PIECE] for at in range(0, len(value), _PIECE)]
        lease = str(self._link.ask("/lease/grant", {"TTL": str(_LOOSE_FOR)})["ID"])
        for key, piece in zip(layout.piece_keys(self._keys, (token, len(pieces))), pieces, strict=True):
            # Nobody else has this key, so that it may be written again where an answer was lost.
            answer = self._link.ask("/kv/txn", link.transaction((), [link.put(key, piece, lease)]))
            plan.loose[key] = int(answer["header"]["revision"])
        return layout.in_pieces(token, len(pieces))

    def _view(self, steps: Sequence[Commit | Documents], *, fresh: bool) -> View:
        """Return what steps depend on: remembered or assumed where that may be, else as it is at one revision."""
        wanted = _Wanted(self._keys, steps)
        cases: dict[str, SeenCase] = {}
        values: dict[bytes, tuple[int, bytes | None]] = {}
        if not fresh:
            cases = wanted.remembered_cases(self._memory)
            values = wanted.remembered_values(self._memory)
        unseen = [each for each in wanted.numbers if each not in cases]
        names = [
            *(each for each in wanted.specifications if not self._memory.registered(each)),
            *(each for each in wanted.values if each not in values),
            *(self._keys.key("c", each) for each in unseen),
            *(
                self._keys.key("i", each, tail=number_key(number))
                for each in unseen
                if each not in wanted.aside
                for number in wanted.numbers[each]
            ),
        ]
        found, revision = self._fetch(names) if names else ({}, 0)
        self._memory.register(name for name in wanted.specifications if name in found)
        for name in names:
            if name in wanted.values:
                pair = found.get(name)
                values[name] = (0, None) if pair is None else (pair.revision, pair.value)
        for case_id in unseen:
            cases[case_id] = self._seen(case_id, found, wanted.numbers[case_id], revision, case_id in wanted.aside)
        registered = frozenset(filter(self._memory.registered, wanted.specifications))
        return View(cases, values, registered, revision if fresh else None)

    def _seen(
        self, case_id: str, found: dict[bytes, Pair], numbers: Iterable[int], revision: int, complete: bool
    ) -> SeenCase:
        pair = found.get(self._keys.key("c", case_id))
        if pair is None:
            return SeenCase(0, None, {})
        if complete:
            rows: dict[int, bytes | None] = dict(self._rows("i", case_id, revision))
        else:
            named = {number: found.get(self._keys.key("i", case_id, tail=number_key(number))) for number in numbers}
            rows = {number: None if row is None else row.value for number, row in named.items()}
        return SeenCase(pair.revision, Kept.decode(case_id, pair.value), rows, complete)

    def _seen_whole(self, case_id: str) -> SeenCase:
        found, revision = self._fetch([self._keys.key("c", case_id)])
        return self._seen(case_id, found, (), revision, complete=True)

    def _registration(self, name: bytes, specification: StoredSpecification) -> Plan:
        keys, plan = self._keys, Plan()
        last = self._link.ask(
            "/kv/range", link.keys_from(keys.key("o"), behind(keys.key("o")), limit=1, backwards=True)
        )
        placed = link.pairs(last.get("kvs", ()))
        number = read_number(placed[0].key[-NUMBER_LENGTH:]) + 1 if placed else 1
        place = keys.key("o", tail=number_key(number))
        texts = layout.encode_texts(specification.spec_id, specification.version)
        plan.guards = {name: 0, place: 0}
        plan.changes = {
            name: self._spill(plan, layout.encode_specification(specification)),
            place: texts,
            keys.key("l", specification.spec_id): texts,
            keys.key("f"): b"%d" % layout.FORMAT,
        }
        return plan

    # --- reading ------------------------------------------------------------------------------------------------------

    def _consistent(self, ask: Callable[[], _Found]) -> _Found:
        """Return what several requests find at one revision; asked again where that was compacted away meanwhile."""
        for _ in range(_ATTEMPTS):
            try:
                return ask()
            except Compacted:
                continue
        raise _too_busy()

    def _fetch(self, names: Sequence[bytes], revision: int = 0) -> tuple[dict[bytes, Pair], int]:
        """Return what is under these keys at one revision, and that."""
        found: dict[bytes, Pair] = {}
        most = self._link.address.operations
        for at in range(0, len(names), most):
            reads = [link.read(each, revision=revision) for each in names[at : at + most]]
            answer = self._link.ask("/kv/txn", link.transaction((), reads))
            revision = revision or int(answer["header"]["revision"])
            for each in answer["responses"]:
                found |= {pair.key: pair for pair in link.pairs(each["response_range"].get("kvs", ()))}
        return found, revision

    def _range(self, first: bytes, end: bytes, revision: int = 0, *, page: int = _PAGE) -> Iterator[Pair]:
        """Return the keys from here up to but not `end`, at one revision, page by page."""
        more = first < end
        while more:
            asked = link.keys_from(first, end, limit=min(page, _PAGE), revision=revision)
            answer = self._link.ask("/kv/range", asked)
            revision = revision or int(answer["header"]["revision"])
            found = link.pairs(answer.get("kvs", ()))
            yield from found
            more = bool(answer.get("more")) and bool(found)
            first = found[-1].key + b"\0" if found else first

    def _pairs(self, first: bytes, end: bytes, most: int, revision: int = 0) -> tuple[Pair, ...]:
        """Return so many of them."""
        self._link.refuse_closed()
        return tuple(islice(self._range(first, end, revision, page=most), most)) if most else ()

    def _get(self, name: bytes) -> bytes | None:
        pair = self._fetch([name])[0].get(name)
        return None if pair is None else pair.value

    def _read(self, name: bytes) -> bytes | None:
        """Return a value that may be in pieces, or None where there is none."""
        return self._consistent(partial(self._read_at, name, 0))

    def _read_at(self, name: bytes, revision: int) -> bytes | None:
        found, revision = self._fetch([name], revision)
        return self._gathered(found[name].value, revision) if name in found else None

    def _gathered(self, stored: bytes, revision: int) -> bytes:
        pieces = layout.pieces_of(stored)
        if pieces is None:
            return stored[1:]
        first = self._keys.key("y", pieces[0])
        found: list[bytes] = []
        for name in layout.piece_keys(self._keys, pieces):
            got, _ = self._fetch([name], revision)
            if name not in got:
                raise StoreError(
                    f"{self._link.address.shown} is damaged: a piece of a value is missing under {first!r}"
                )
            found.append(got[name].value)
        return b"".join(found)

    def _kept(self, case_id: str) -> tuple[Kept, int]:
        name = self._keys.key("c", case_id)
        found, revision = self._fetch([name])
        if name not in found:
            raise unknown(case_id)
        return Kept.decode(case_id, found[name].value), revision

    def _load(self, case_id: str) -> StoredCase:
        name, first = self._keys.key("c", case_id), self._keys.key("j", case_id)
        # Most cases are short and have no snapshot: then one request is enough.
        reads = [link.read(name), {"request_range": link.keys_from(first, behind(first), limit=_ROWS)}]
        answer = self._link.ask("/kv/txn", link.transaction((), reads))
        found, batches = (each["response_range"] for each in answer["responses"])
        revision = int(answer["header"]["revision"])
        if "kvs" not in found:
            raise unknown(case_id)
        kept = Kept.decode(case_id, link.pairs(found["kvs"])[0].value)
        if kept.header.quarantined:
            raise QuarantinedCase(f"case {case_id!r} is set aside: {kept.header.quarantined}")
        if not kept.snapshot_at and not batches.get("more"):
            own = tuple(self._gathered(each.value, revision) for each in link.pairs(batches["kvs"]))
            return StoredCase(header=kept.header, snapshot=None, batches=own)
        snapshot = self._read_at(self._keys.key("x", case_id), revision) if kept.snapshot_at else None
        return StoredCase(
            header=kept.header, snapshot=snapshot, batches=self._batches(kept, kept.snapshot_at, revision)
        )

    def _history(self, case_id: str) -> tuple[bytes, ...]:
        kept, revision = self._kept(case_id)
        return self._batches(kept, 0, revision)

    def _whole(self, case_id: str) -> WholeCase:
        kept, revision = self._kept(case_id)
        snapshot = self._read_at(self._keys.key("x", case_id), revision) if kept.snapshot_at else None
        letters = "q" if kept.header.quarantined else "i"
        rows = ((text_key(case_id) + number_key(number), row) for number, row in self._rows(letters, case_id, revision))
        return WholeCase(
            header=kept.header,
            batches=self._batches(kept, 0, revision),
            snapshot=None if snapshot is None else (snapshot, kept.snapshot_at),
            items=tuple(layout.decode_row(name, row) for name, row in rows),
        )

    def _batches(self, kept: Kept, behind_version: int, revision: int) -> tuple[bytes, ...]:
        case_id = kept.header.case_id
        first = self._keys.key("j", case_id, tail=number_key(behind_version + 1))
        end = behind(self._keys.key("j", case_id))
        return tuple(self._gathered(each.value, revision) for each in self._range(first, end, revision))

    def _rows(self, letters: str, case_id: str, revision: int) -> Iterator[tuple[int, bytes]]:
        first = self._keys.key(letters, case_id)
        for each in self._range(first, behind(first), revision):
            yield read_number(each.key[-NUMBER_LENGTH:]), each.value

    def _cases(self, spec_id: str | None, state: str | None, after: str, most: int) -> tuple[CaseHeader, ...]:
        if spec_id is None and state is None:
            first, end = self._keys.key("c", after) + b"\0", behind(self._keys.key("c"))
            found = self._pairs(first, end, most)
            return tuple(Kept.decode(self._keys.case_of(each.key), each.value).header for each in found)
        texts = [each for each in (spec_id, state) if each is not None]
        letters = "b" if len(texts) > 1 else "t" if spec_id is None else "p"
        first, end = self._keys.key(letters, *texts, after) + b"\0", behind(self._keys.key(letters, *texts))
        ids: list[str] = []
        revision = 0
        if most:
            _, revision = self._fetch([self._keys.key("f")])
            ids = [self._keys.case_of(each.key, len(texts)) for each in self._pairs(first, end, most, revision)]
        pairs, _ = self._fetch([self._keys.key("c", each) for each in ids], revision)
        return tuple(Kept.decode(each, pairs[self._keys.key("c", each)].value).header for each in ids)

    def _items(
        self,
        lists: Sequence[tuple[str, ...]],
        own: bytes,
        first: bytes,
        wanted: Callable[[ItemRow], bool],
        most: int,
    ) -> tuple[ItemRow, ...]:
        """Return rows of all the lists, each once: of one case where that is named, and not before the first."""
        if not most or not lists:
            return ()
        _, revision = self._fetch([self._keys.key("f")])
        begins = [self._keys.key(letters, *texts) for letters, *texts in lists]
        pages = (
            islice(
                self._rows_behind(len(begin), max(begin + own, begin + first), behind(begin + own), revision, wanted),
                most,
            )
            for begin in begins
        )
        found = heapq.merge(*map(list, pages), key=lambda each: each[0])
        return tuple(islice(dict(found).values(), most))

    def _rows_behind(
        self, length: int, first: bytes, end: bytes, revision: int, wanted: Callable[[ItemRow], bool]
    ) -> Iterator[tuple[bytes, ItemRow]]:
        for each in self._range(first, end, revision, page=_ROWS):
            row = layout.decode_row(each.key[length:], each.value)
            if wanted(row):
                yield each.key[length:], row

    def _document(self, collection: str, key: str) -> Document | None:
        name = self._keys.key("d", collection, key)
        found, revision = self._fetch([name])
        return self._told(collection, key, found[name].value, revision) if name in found else None

    def _told(self, collection: str, key: str, value: bytes, revision: int) -> Document:
        return layout.decode_document(collection, key, value, self._gathered(layout.content_of(value), revision))

    def _documents(self, collection: str, first: bytes, end: bytes, most: int) -> tuple[Document, ...]:
        _, revision = self._fetch([self._keys.key("f")])
        found = self._pairs(first, end, most, revision)
        return tuple(self._told(collection, self._keys.case_of(each.key, 1), each.value, revision) for each in found)

    def _due_documents(self, collection: str, end: bytes, most: int) -> tuple[Document, ...]:
        first = self._keys.key("e", collection)
        _, revision = self._fetch([self._keys.key("f")])
        texts = [each.key[len(first) + NUMBER_LENGTH :] for each in self._pairs(first, end, most, revision)]
        names = [self._keys.key("d", collection, tail=each) for each in texts]
        found, _ = self._fetch(names, revision)
        return tuple(self._told(collection, self._keys.case_of(each, 1), found[each].value, revision) for each in names)

    def _collections(self) -> tuple[str, ...]:
        self._link.refuse_closed()
        _, revision = self._fetch([self._keys.key("f")])
        first, end = self._keys.key("d"), behind(self._keys.key("d"))
        names: list[str] = []
        # The first key of each collection, then what is behind all of them.
        while found := self._pairs(first, end, 1, revision):
            names.append(self._keys.case_of(found[0].key))
            first = behind(self._keys.key("d", names[-1]))
        return tuple(names)

    def _specifications(self) -> tuple[StoredSpecification, ...]:
        first = self._keys.key("o")
        names = [self._keys.key("s", *layout.decode_texts(each.value)) for each in self._range(first, behind(first))]
        found, revision = self._fetch(names)
        return tuple(layout.decode_specification(self._gathered(found[each].value, revision)) for each in names)


class _Wanted:
    """
    What has to be seen for steps.

    Args:
        keys: of the namespace.
        steps: what is to be stored.

    Attributes:
        specifications: keys of those that have to be registered.
        numbers: by case, of the items that it changes or closes.
        aside: cases that are set aside, of which all rows have to be seen.
        values: by key of a document or idempotency key, whether it is expected not to be there.
    """

    def __init__(self, keys: Keys, steps: Sequence[Commit | Documents]) -> None:
        self._keys = keys
        self._created: dict[str, bool] = {}
        self.specifications: dict[bytes, None] = {}
        self.numbers: dict[str, dict[int, None]] = {}
        self.aside: set[str] = set()
        self.values: dict[bytes, bool] = {}
        for each in steps:
            for document in each.held:
                self._look_at(document, absent=False)
            for document in each.documents:
                self._look_at(document, absent=document.version == 1)
            for document in each.removed:
                self._look_at(document, absent=False)
            if isinstance(each, Commit):
                self._look_at_case(each)

    def _look_at(self, document: Document, *, absent: bool) -> None:
        self.values.setdefault(self._keys.key("d", document.collection, document.key), absent)

    def _look_at_case(self, commit: Commit) -> None:
        header = commit.header
        self.specifications[self._keys.key("s", header.spec_id, header.spec_version)] = None
        self._created.setdefault(header.case_id, not commit.expected)
        numbers = self.numbers.setdefault(header.case_id, {})
        numbers |= dict.fromkeys((*(each.number for each in commit.items), *commit.closed_items))
        if header.quarantined:
            self.aside.add(header.case_id)
        if commit.idempotency is not None:
            self.values.setdefault(self._keys.key("k", commit.idempotency[0]), True)

    def remembered_cases(self, memory: Memory) -> dict[str, SeenCase]:
        """Return what is remembered well enough of these cases; one that is created is taken not to be there."""
        found: dict[str, SeenCase] = {}
        for case_id, numbers in self.numbers.items():
            seen = memory.case(case_id)
            if seen is None and self._created[case_id]:
                seen = SeenCase(0, None, {})
            if (
                seen is not None
                and seen.knows(numbers)
                and (case_id not in self.aside or seen.complete or seen.kept is None)
            ):
                found[case_id] = seen
        return found

    def remembered_values(self, memory: Memory) -> dict[bytes, tuple[int, bytes | None]]:
        """Return what is remembered of these values; one that is created is taken not to be there."""
        found: dict[bytes, tuple[int, bytes | None]] = {}
        for name, absent in self.values.items():
            value = memory.value(name)
            if value is not None or absent:
                found[name] = value or (0, None)
        return found


def _limit(limit: int) -> int:
    return min(max(limit, 0), _MOST)


def _too_busy() -> ConcurrentUpdate:
    return ConcurrentUpdate(f"others changed what this depends on, {_ATTEMPTS} times in a row: read it again")
