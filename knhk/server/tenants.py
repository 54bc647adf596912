"""One store for several tenants: each is given a view of it in which there is nothing but what is his.

The tenant is part of every key: a case of tenant ``acme`` is stored as ``~acme~<id>``, and so are the names of his
specifications, his documents and his idempotency keys.
So every query carries the tenant, lists are ranges of keys that begin with him, and nothing has to be filtered afterwards for
safety's sake.
The default tenant's keys are bare, which makes an embedded store the default tenant's; ``~`` begins no id and sorts behind all
that do.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import attrs

from knhk.engine import Engine
from knhk.errors import ConcurrentUpdate, KnhkError, UnknownCase, UnknownSpecification
from knhk.limits import Limits
from knhk.ports import (
    CaseHeader,
    Clock,
    Commit,
    Document,
    Durability,
    ItemRow,
    Store,
    StoredCase,
    StoredSpecification,
    WholeCase,
)
from knhk.server.audit import committing, registering, writing
from knhk.server.identity import DEFAULT_TENANT
from knhk.stores.memory import one_by_one
from knhk.system import SystemClock
from knhk.work.instances import PARTITIONS, Instance, list_instances

_MARK: Final = "~"
TENANTS: Final = "tenants"
"""The collection of the names of all tenants that have called."""

LIMITS: Final = Limits(steps=100_000, instances=10_000, depth=64)
"""What one case may do: less than in a program of one's own, as here others wait for the same processor."""

_T = TypeVar("_T")


class TenantStore:
    """
    A store in which there is nothing but one tenant's.

    Args:
        store: everybody's.
        tenant: whose.
    """

    def __init__(self, store: Store, tenant: str) -> None:
        self._store = store
        self._prefix = "" if tenant == DEFAULT_TENANT else f"{_MARK}{tenant}{_MARK}"
        self.forgetful = bool(getattr(store, "forgetful", False))

    @property
    def durability(self) -> Durability:
        """As the store says."""
        return self._store.durability

    def commit(self, commits: Sequence[Commit]) -> None:
        """Store all steps in one transaction, with the entry of the call that makes them, or none and raise."""
        case_id = commits[0].header.case_id if commits else ""
        committing(self._store, [self._inward(each) for each in commits], case_id)

    def commit_each(self, calls: Sequence[Sequence[Commit]]) -> list[KnhkError | None]:
        """Store each call whole, or refuse it: one after the other, as the entry of a call goes with the first that is stored."""
        return one_by_one(self.commit, calls)

    def load(self, case_id: str) -> StoredCase:
        """Read a case; raises UnknownCase, also for those of others."""
        stored = self._store.load(self._key(case_id))
        return attrs.evolve(stored, header=self._header(stored.header))

    def history(self, case_id: str) -> tuple[bytes, ...]:
        """Read all batches of a case."""
        return self._store.history(self._key(case_id))

    def header(self, case_id: str) -> CaseHeader:
        """Read a case's header; raises UnknownCase, also for those of others."""
        return self._header(self._store.header(self._key(case_id)))

    def whole(self, case_id: str) -> WholeCase:
        """Read everything that is stored of a case; raises UnknownCase, also for those of others."""
        found = self._store.whole(self._key(case_id))
        return attrs.evolve(found, header=self._header(found.header), items=self._rows(found.items))

    def cases(
        self, *, spec_id: str | None = None, state: str | None = None, after: str = "", limit: int = 100
    ) -> Sequence[CaseHeader]:
        """List headers by ascending case id, from behind `after`."""
        spec = None if spec_id is None else self._prefix + spec_id
        found = self._store.cases(spec_id=spec, state=state, after=self._prefix + after, limit=limit)
        return tuple(map(self._header, self._mine(found, lambda each: each.case_id)))

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
        found = self._store.items(
            case_id=None if case_id is None else self._key(case_id),
            state=state,
            by=by,
            topics=topics,
            audience=audience,
            limit=limit,
            after=(self._prefix + after[0], after[1]),
        )
        return self._rows(self._mine(found, lambda each: each.case_id))

    def due(self, now: int, limit: int = 100) -> Sequence[str]:
        """List running cases whose earliest timer is not after `now`, earliest first."""
        asked = limit
        while True:
            found = self._store.due(now, asked)
            mine = self._mine(found, str, all_of=True)
            if len(mine) >= limit or len(found) < asked:
                return tuple(each.removeprefix(self._prefix) for each in mine[:limit])
            asked *= 4

    def runnable(self, after: str = "", limit: int = 100) -> Sequence[str]:
        """List running cases with automatic work, by ascending id from behind `after`."""
        found = self._mine(self._store.runnable(self._prefix + after, limit), str)
        return tuple(each.removeprefix(self._prefix) for each in found)

    def find_idempotent(self, key: str) -> tuple[str, str] | None:
        """Return (case id, digest) stored with this key, or None."""
        found = self._store.find_idempotent(self._prefix + key)
        return None if found is None else (found[0].removeprefix(self._prefix), found[1])

    def idempotency_keys(self, after: str = "", limit: int = 100) -> Sequence[tuple[str, str, str]]:
        """List (key, case id, digest) by ascending key, from behind `after`."""
        found: list[tuple[str, str, str]] = []
        last, more = self._prefix + after, True
        while more and len(found) < limit:
            page = self._store.idempotency_keys(last, limit)
            found += self._mine(page, lambda each: each[0], all_of=True)
            # The default tenant's keys are before and behind those of all others.
            more = len(page) == limit and page[-1][0].startswith(self._prefix)
            last = page[-1][0] if page else last
        length = len(self._prefix)
        return tuple((key[length:], case_id[length:], digest) for key, case_id, digest in found[:limit])

    def write(
        self, documents: Sequence[Document], removed: Sequence[Document] = (), held: Sequence[Document] = ()
    ) -> None:
        """Write and remove documents in one transaction, with the entry of the call that does, or none and raise."""
        written, gone = ([self._document(each) for each in group] for group in (documents, removed))
        writing(self._store, written, gone, [self._held(each) for each in held])

    def document(self, collection: str, key: str) -> Document | None:
        """Read a document, or None where there is none."""
        found = self._store.document(self._prefix + collection, key)
        return None if found is None else attrs.evolve(found, collection=collection)

    def documents(
        self, collection: str, *, due: int | None = None, prefix: str = "", after: str = "", limit: int = 100
    ) -> Sequence[Document]:
        """List the documents of a collection."""
        found = self._store.documents(self._prefix + collection, due=due, prefix=prefix, after=after, limit=limit)
        return tuple(attrs.evolve(each, collection=collection) for each in found)

    def collections(self) -> Sequence[str]:
        """List the collections that hold a document, in ascending order."""
        found = self._mine(self._store.collections(), str, all_of=True)
        return tuple(each.removeprefix(self._prefix) for each in found)

    def quarantine(self, case_id: str, reason: str) -> None:
        """Set a damaged case aside."""
        self._store.quarantine(self._key(case_id), reason)

    def put_specification(self, specification: StoredSpecification, documents: Sequence[Document] = ()) -> bool:
        """Store a registration with documents and the entry of the call that makes it, or none and raise; whether it is new."""
        inward = attrs.evolve(specification, spec_id=self._prefix + specification.spec_id)
        return registering(self._store, inward, [self._document(each) for each in documents])

    def specification(self, spec_id: str, version: str | None = None) -> StoredSpecification:
        """Read one; raises UnknownSpecification, also for those of others."""
        if spec_id.startswith(_MARK):
            raise UnknownSpecification(f"specification {spec_id!r} is not registered")
        return self._specification(self._store.specification(self._prefix + spec_id, version))

    def specifications(self) -> Sequence[StoredSpecification]:
        """List all, in the order of registration."""
        found = self._mine(self._store.specifications(), lambda each: each.spec_id, all_of=True)
        return tuple(map(self._specification, found))

    def close(self) -> None:
        """Leave the store as it is: it is everybody's."""

    # --- inside -------------------------------------------------------------------------------------------------------

    def _key(self, case_id: str) -> str:
        if case_id.startswith(_MARK):
            raise UnknownCase(f"case {case_id!r} is not in the store")
        return self._prefix + case_id

    def _mine(self, found: Iterable[_T], key: Callable[[_T], str], *, all_of: bool = False) -> list[_T]:
        """Return those whose key is the tenant's: of a list in the order of keys all that come before the first other's."""
        mine = []
        for each in found:
            name = key(each)
            if name.startswith(self._prefix) and not name[len(self._prefix) :].startswith(_MARK):
                mine.append(each)
            elif not all_of:
                break
        return mine

    def _rows(self, rows: Iterable[ItemRow]) -> tuple[ItemRow, ...]:
        if not self._prefix:
            return tuple(rows)
        return tuple(attrs.evolve(each, case_id=each.case_id.removeprefix(self._prefix)) for each in rows)

    def _header(self, header: CaseHeader) -> CaseHeader:
        if not self._prefix:
            return header
        return attrs.evolve(
            header,
            case_id=header.case_id.removeprefix(self._prefix),
            spec_id=header.spec_id.removeprefix(self._prefix),
        )

    def _specification(self, stored: StoredSpecification) -> StoredSpecification:
        return attrs.evolve(stored, spec_id=stored.spec_id.removeprefix(self._prefix))

    def _document(self, document: Document) -> Document:
        if not self._prefix:
            return document
        return attrs.evolve(document, collection=self._prefix + document.collection)

    def _held(self, document: Document) -> Document:
        # Who does which work is settled among instances, for all tenants.
        return document if document.collection == PARTITIONS else self._document(document)

    def _inward(self, commit: Commit) -> Commit:
        if not self._prefix:
            return commit
        header = commit.header
        return attrs.evolve(
            commit,
            header=attrs.evolve(header, case_id=self._prefix + header.case_id, spec_id=self._prefix + header.spec_id),
            items=tuple(attrs.evolve(each, case_id=self._prefix + each.case_id) for each in commit.items),
            idempotency=None
            if commit.idempotency is None
            else (self._prefix + commit.idempotency[0], commit.idempotency[1]),
            documents=tuple(map(self._document, commit.documents)),
            removed=tuple(map(self._document, commit.removed)),
            held=tuple(map(self._held, commit.held)),
        )


class Tenants:
    """
    An engine for each tenant, on one store, with the same handlers.

    Args:
        store: everybody's.
        handlers: modules to import, each with a function ``register(engine)``.
        clock: for tests.
        options: further arguments of every engine.
    """

    def __init__(
        self, store: Store, handlers: Sequence[str] = (), *, clock: Clock | None = None, **options: Any
    ) -> None:
        self._store = store
        self._modules = [importlib.import_module(each) for each in handlers]
        self._clock = clock if clock is not None else SystemClock()
        self._options = {"limits": LIMITS, **options}
        self._engines: dict[str, Engine] = {}
        self._lock = threading.Lock()

    def engine(self, tenant: str) -> Engine:
        """Return a tenant's engine; a tenant is known once he has called."""
        found = self._engines.get(tenant)
        if found is None:
            with self._lock:
                found = self._engines.get(tenant)
                if found is None:
                    found = Engine(TenantStore(self._store, tenant), clock=self._clock, **self._options)
                    for module in self._modules:
                        module.register(found)
                    self._remember(tenant)
                    self._engines[tenant] = found
        return found

    def instances(self) -> list[Instance]:
        """Return the instances that share the store."""
        return list_instances(self._store, self._clock.now())

    def engines(self) -> list[Engine]:
        """Return the engines that were asked for so far."""
        return list(self._engines.values())

    def known(self) -> list[str]:
        """Return every tenant that has ever called, the default one included."""
        stored = [each.key for each in self._store.documents(TENANTS, limit=100_000)]
        return [DEFAULT_TENANT, *(each for each in stored if each != DEFAULT_TENANT)]

    def _remember(self, tenant: str) -> None:
        if self._store.document(TENANTS, tenant) is None:
            with another_was_faster():
                self._store.write([Document(collection=TENANTS, key=tenant, value="{}")])


@contextmanager
def another_was_faster() -> Iterator[None]:
    """Leave it at what somebody else wrote at the same moment."""
    try:
        yield
    except ConcurrentUpdate:
        return
