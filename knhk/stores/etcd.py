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

import secrets
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Final

from knhk.errors import KnhkError, StoreError, UnknownSpecification
from knhk.ports import CaseHeader, Commit, Document, Durability, ItemRow, StoredCase, StoredSpecification, WholeCase
from knhk.stores import _etcd_layout as layout
from knhk.stores import _etcd_messages as messages
from knhk.stores._etcd_layout import Kept, Keys, behind
from knhk.stores._etcd_link import Link, read_address
from knhk.stores._etcd_memory import Memory, Wanted
from knhk.stores._etcd_messages import GRANT, RANGE, TRANSACTION, api
from knhk.stores._etcd_plan import Documents, Plan, Planner, SeenCase, View
from knhk.stores._etcd_reader import ATTEMPTS, Reader, too_busy
from knhk.stores._etcd_writer import Overtaken, Writer
from knhk.stores._group import GroupCommit
from knhk.stores._ordered import NUMBER_LENGTH, number_key, read_number, storable, text_key
from knhk.stores.memory import one_by_one, refuse_malformed, refuse_other_content

_MOST: Final = 2**31
_WHOLE_UP_TO: Final = 32 * 1024
_PIECE: Final = 512 * 1024
_LOOSE_FOR: Final = 600
"""Seconds for which the pieces of a large value wait for their step."""


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
        self._reader = Reader(self._link, self._keys)
        self._memory = Memory()
        self._planner = Planner(self._keys, self._spill)
        self._writer = Writer(self._link, self._keys)
        self._groups = GroupCommit(self._writer.write)
        try:
            self._check(durability)
        except BaseException:
            self._link.close()
            raise

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

    def commit_each(self, calls: Sequence[Sequence[Commit]]) -> list[KnhkError | None]:
        """Store each call whole, or refuse it; they share a transaction."""
        plans: dict[int, Plan] = {}

        def prepare(commits: Sequence[Commit]) -> Plan:
            self._link.refuse_closed()
            for commit in commits:
                refuse_malformed(commit)
            with storable():
                plan = self._planned(commits, fresh=False) or self._planned(commits, fresh=True)
            if plan is None:
                raise too_busy()
            # Put together here, where nobody else waits for it.
            plan.body  # noqa: B018
            plans[id(commits)] = plan
            return plan

        outcomes = self._groups.commit_each(calls, prepare)
        for place, (commits, error) in enumerate(zip(calls, outcomes, strict=True)):
            plan = plans.get(id(commits))
            if plan is None:
                continue
            if error is None:
                self._memory.learn(plan)
                continue
            self._memory.forget(plan)
            if isinstance(error, Overtaken):
                (outcomes[place],) = one_by_one(self.commit, [commits])
        return outcomes

    def load(self, case_id: str) -> StoredCase:
        """Read a case; raises UnknownCase, or QuarantinedCase with the reason."""
        with storable():
            return self._reader.consistent(partial(self._reader.load, case_id))

    def history(self, case_id: str) -> tuple[bytes, ...]:
        """Read all batches of a case from its creation on."""
        with storable():
            return self._reader.consistent(partial(self._reader.history, case_id))

    def header(self, case_id: str) -> CaseHeader:
        """Read a case's header; raises UnknownCase."""
        with storable():
            return self._reader.kept(case_id)[0].header

    def whole(self, case_id: str) -> WholeCase:
        """Read everything that is stored of a case; raises UnknownCase."""
        with storable():
            return self._reader.consistent(partial(self._reader.whole, case_id))

    def cases(
        self, *, spec_id: str | None = None, state: str | None = None, after: str = "", limit: int = 100
    ) -> Sequence[CaseHeader]:
        """List headers by ascending case id, from behind `after`."""
        self._link.refuse_closed()
        with storable():
            return self._reader.consistent(partial(self._reader.cases, spec_id, state, after, _limit(limit)))

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
            return self._reader.consistent(partial(self._reader.items, lists, own, first, wanted, _limit(limit)))

    def due(self, now: int, limit: int = 100) -> Sequence[str]:
        """List running cases whose earliest timer is not after `now`, earliest first."""
        with storable():
            first = self._keys.key("u")
            found = self._reader.consistent(
                partial(self._reader.pairs, first, first + number_key(now + 1), _limit(limit))
            )
        return tuple(self._keys.case_of(each.key, numbers=1) for each in found)

    def runnable(self, after: str = "", limit: int = 100) -> Sequence[str]:
        """List running cases with automatic work, by ascending id from behind `after`."""
        with storable():
            first, end = self._keys.key("r", after) + b"\0", behind(self._keys.key("r"))
            found = self._reader.consistent(partial(self._reader.pairs, first, end, _limit(limit)))
        return tuple(self._keys.case_of(each.key) for each in found)

    def find_idempotent(self, key: str) -> tuple[str, str] | None:
        """Return (case id, digest) stored with this key, or None."""
        with storable():
            value = self._reader.get(self._keys.key("k", key))
        if value is None:
            return None
        case_id, digest = layout.decode_texts(value)
        return case_id, digest

    def idempotency_keys(self, after: str = "", limit: int = 100) -> Sequence[tuple[str, str, str]]:
        """List (key, case id, digest) by ascending key, from behind `after`."""
        with storable():
            first, end = self._keys.key("k", after) + b"\0", behind(self._keys.key("k"))
            found = self._reader.consistent(partial(self._reader.pairs, first, end, _limit(limit)))
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
            return self._reader.consistent(partial(self._reader.document, collection, key))

    def documents(
        self, collection: str, *, due: int | None = None, prefix: str = "", after: str = "", limit: int = 100
    ) -> Sequence[Document]:
        """List a collection by ascending key, or what of it is due, earliest first."""
        with storable():
            most = _limit(limit)
            if due is not None:
                first = self._keys.key("e", collection)
                return self._reader.consistent(
                    partial(self._reader.due_documents, collection, first + number_key(due + 1), most)
                )
            start, begin = self._keys.key("d", collection, after) + b"\0", self._keys.key("d", collection)
            # A prefix is the beginning of a key without its end.
            begin += text_key(prefix)[:-2]
            return self._reader.consistent(
                partial(self._reader.documents, collection, max(start, begin), behind(begin), most)
            )

    def collections(self) -> Sequence[str]:
        """List the collections that hold a document, in ascending order."""
        return self._reader.consistent(self._reader.collections)

    def quarantine(self, case_id: str, reason: str) -> None:
        """Set a damaged case aside; the first reason stays."""
        why = reason or "no reason was given"
        with storable():
            for _ in range(ATTEMPTS):
                seen = self._reader.consistent(partial(self._seen_whole, case_id))
                plan = self._planner.aside(case_id, seen, why)
                if not plan.changes or self._write(plan):
                    return
        raise too_busy()

    def put_specification(self, specification: StoredSpecification, documents: Sequence[Document] = ()) -> bool:
        """Store a registration with documents, or neither; the same again does nothing: False."""
        beside = [Documents(documents, (), ())] if documents else []
        fresh = False
        with storable():
            name = self._keys.key("s", specification.spec_id, specification.version)
            for _ in range(ATTEMPTS):
                stored = self._reader.read(name)
                if stored is not None:
                    refuse_other_content(specification, layout.decode_specification(stored).content_hash)
                    return False
                plan = self._planned(beside, fresh=fresh)
                fresh = True
                # The guards of many documents say only that nothing has changed since these were looked at.
                if plan is not None and (not documents or self._reader.get(name) is None):
                    self._add_registration(plan, name, specification)
                    if self._write(plan):
                        return True
        raise too_busy()

    def specification(self, spec_id: str, version: str | None = None) -> StoredSpecification:
        """Read one (the latest registered without a version); raises UnknownSpecification."""
        with storable():
            if version is None:
                latest, named = self._reader.get(self._keys.key("l", spec_id)), ""
                stored = (
                    None if latest is None else self._reader.read(self._keys.key("s", *layout.decode_texts(latest)))
                )
            else:
                stored, named = self._reader.read(self._keys.key("s", spec_id, version)), f" version {version!r}"
        if stored is None:
            raise UnknownSpecification(f"specification {spec_id!r}{named} is not registered")
        return layout.decode_specification(stored)

    def specifications(self) -> Sequence[StoredSpecification]:
        """List all, in the order of registration."""
        return self._reader.consistent(self._reader.specifications)

    def close(self) -> None:
        """Close the connections; a closed store refuses further calls."""
        self._link.close()

    def _check(self, durability: Durability) -> None:
        """Refuse a cluster that does not give what is asked for, and a layout that is newer than this version."""
        address = self._link.address
        self._link.check(durability, lambda: self._groups.commit((), Plan()))
        written = self._reader.get(self._keys.key("f"))
        if written is not None and int(written) > layout.FORMAT:
            raise StoreError(
                f"{address.shown} namespace {address.namespace} has layout {int(written)}, this version of KNHK reads up to "
                f"{layout.FORMAT}: it was written by a newer KNHK; upgrade this one"
            )

    # --- writing ------------------------------------------------------------------------------------------------------

    def _store(self, commits: Sequence[Commit], steps: Sequence[Commit | Documents]) -> None:
        """Store steps together, thought out anew as long as others change what they depend on."""
        self._link.refuse_closed()
        if not steps:
            return
        fresh = False
        for _ in range(ATTEMPTS):
            plan = self._planned(steps, fresh=fresh)
            if plan is not None and self._write(plan, commits):
                return
            fresh = True
        raise too_busy()

    def _planned(self, steps: Sequence[Commit | Documents], *, fresh: bool) -> Plan | None:
        """Return the plan of steps; None where what is remembered does not do for it, so that all has to be seen anew."""
        view = self._reader.consistent(partial(self._view, steps, fresh=fresh))
        try:
            plan = self._planner.plan(view, steps)
        except KnhkError:
            if view.revision is not None:
                raise
            return None
        # So many guards are ranges of keys, which need one revision at which all was seen.
        if view.revision is None and len(plan.guards) > self._link.address.operations // 3:
            return None
        return plan

    def _write(self, plan: Plan, commits: Sequence[Commit] = ()) -> bool:
        """Write a plan; False where what it depends on has changed."""
        # Put together here, where nobody else waits for it.
        plan.body  # noqa: B018
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
        lease = self._link.ask(GRANT, api.LeaseGrantRequest(ttl=_LOOSE_FOR)).id
        for key, piece in zip(layout.piece_keys(self._keys, (token, len(pieces))), pieces, strict=True):
            # Nobody else has this key, so that it may be written again where an answer was lost.
            written = messages.transaction((), [messages.put(key, piece, lease)])
            plan.loose[key] = self._link.ask(TRANSACTION, written).header.revision
        return layout.in_pieces(token, len(pieces))

    def _view(self, steps: Sequence[Commit | Documents], *, fresh: bool) -> View:
        """Return what steps depend on: remembered or assumed where that may be, else as it is at one revision."""
        wanted = Wanted(self._keys, steps)
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
        found, revision = self._reader.fetch(names) if names else ({}, 0)
        self._memory.register(name for name in wanted.specifications if name in found)
        for name in names:
            if name in wanted.values:
                pair = found.get(name)
                values[name] = (0, None) if pair is None else (pair.mod_revision, pair.value)
        for case_id in unseen:
            cases[case_id] = self._seen(case_id, found, wanted.numbers[case_id], revision, case_id in wanted.aside)
        registered = frozenset(filter(self._memory.registered, wanted.specifications))
        return View(cases, values, registered, revision if fresh else None)

    def _seen(
        self, case_id: str, found: dict[bytes, api.KeyValue], numbers: Iterable[int], revision: int, complete: bool
    ) -> SeenCase:
        pair = found.get(self._keys.key("c", case_id))
        if pair is None:
            return SeenCase(0, None, {})
        if complete:
            rows: dict[int, bytes | None] = dict(self._reader.rows("i", case_id, revision))
        else:
            named = {number: found.get(self._keys.key("i", case_id, tail=number_key(number))) for number in numbers}
            rows = {number: None if row is None else row.value for number, row in named.items()}
        return SeenCase(pair.mod_revision, Kept.decode(case_id, pair.value), rows, complete)

    def _seen_whole(self, case_id: str) -> SeenCase:
        found, revision = self._reader.fetch([self._keys.key("c", case_id)])
        return self._seen(case_id, found, (), revision, complete=True)

    def _add_registration(self, plan: Plan, name: bytes, specification: StoredSpecification) -> None:
        """Let a plan store a registration as well, which is not there and comes behind all that are."""
        keys = self._keys
        last = messages.keys_from(keys.key("o"), behind(keys.key("o")), limit=1, backwards=True)
        placed = self._link.ask(RANGE, last).kvs
        number = read_number(placed[0].key[-NUMBER_LENGTH:]) + 1 if placed else 1
        place = keys.key("o", tail=number_key(number))
        texts = layout.encode_texts(specification.spec_id, specification.version)
        plan.guards |= {name: 0, place: 0}
        plan.changes |= {
            name: self._spill(plan, layout.encode_specification(specification)),
            place: texts,
            keys.key("l", specification.spec_id): texts,
            keys.key("f"): b"%d" % layout.FORMAT,
        }


def _limit(limit: int) -> int:
    return min(max(limit, 0), _MOST)
