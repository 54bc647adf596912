"""The record of every call: who asked for what, about what, and what came of it; nobody can change it unseen.

The *entry* of a call that changes something is first a document of its own, written in the transaction of the change that it
tells of, so that there is no change without its entry and no entry of a change that was not.
Entries of calls that change nothing, refused ones too, wait in a bounded buffer.
Within a second the writer *seals* both: entries become links of its chain, each with the hash of the one before it, a batch of
them in one document, and every batch ends with a signed head.
There is one chain a writer, so that instances on one store never wait for each other; what a writer that ended left unsealed is
sealed by whoever comes next.

What can be found out afterwards, with nothing but the exported chain and the key (`knhk.server.chain`): any link that was edited,
removed, added or moved, and an end that was cut off behind a head which somebody kept.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

import attrs
import msgspec

from knhk.errors import ConcurrentUpdate, KnhkError
from knhk.ports import Commit, Document, Store, StoredSpecification
from knhk.server.chain import NOTHING, End, sign
from knhk.server.record import BATCH, HEADS, LINKS, LONGEST_RESOURCE, Entry, Record, index_document

ENTRIES: Final = "audit-entries"
SEAL_WITHIN: Final = 0.5
"""Seconds after which what was written is sealed."""

MOST_WAITING: Final = 10_000
"""Entries of reads and refusals that wait to be sealed; more make the caller wait."""

_canonical: Final = msgspec.json.Encoder(order="sorted").encode


class _When(msgspec.Struct):
    """What of an entry says where it is looked for."""

    at: int
    tenant: str


_when: Final = msgspec.json.Decoder(_When).decode


class Pending:
    """
    The entry of a call that may change something: it goes with the transaction of the change, or with none.

    Args:
        log: where it belongs.
        entry: as it is when the call succeeds.
        in_documents: whether the change is one of documents, or a registration; else it is a case's, in a commit.
    """

    def __init__(self, log: AuditLog, entry: Entry, *, in_documents: bool = False) -> None:
        self._log = log
        self._entry = entry
        self._lock = threading.Lock()
        self._taken = False
        self.in_documents = in_documents

    def left(self, entry: Entry) -> Entry | None:
        """Return what has still to be recorded of the call, which ended as `entry` says; None where a change has carried it."""
        if self._taken and self._entry.outcome == entry.outcome:
            return None
        return msgspec.structs.replace(entry, resource=entry.resource or self._entry.resource)

    def take(self, resource: str = "") -> Document | None:
        """Return the entry, about this where the call named nothing; None where it was taken before."""
        with self._lock:
            if self._taken:
                return None
            self._taken = True
        entry = self._entry
        if resource and not entry.resource:
            entry = msgspec.structs.replace(entry, resource=resource)
        return self._log.entry(entry)

    def expect(self, outcome: int, resource: str) -> None:
        """Say what will come of the call where it succeeds, and what it is about, before anything has been changed."""
        self._entry = msgspec.structs.replace(self._entry, outcome=outcome, resource=resource[:LONGEST_RESOURCE])

    def give_back(self) -> None:
        """Say that the transaction was not, or has changed nothing: another may take it."""
        with self._lock:
            self._taken = False


_CALL: Final[ContextVar[Pending | None]] = ContextVar("call", default=None)


@contextmanager
def announced(pending: Pending | None) -> Iterator[None]:
    """Let the next change of this context carry the entry; None: let none carry one."""
    before = _CALL.set(pending)
    try:
        yield
    finally:
        _CALL.reset(before)


@contextmanager
def unrecorded() -> Iterator[Pending | None]:
    """Let the changes in here carry no entry: they are none of the call's; gives what was announced."""
    pending = _CALL.get()
    with announced(None):
        yield pending


def expecting(outcome: int, resource: str) -> None:
    """Say what the call of this context answers where it succeeds, and what it is about."""
    pending = _CALL.get()
    if pending is not None:
        pending.expect(outcome, resource)


def documents_expected() -> None:
    """Say that the call of this context changes documents, and no case."""
    pending = _CALL.get()
    if pending is not None:
        pending.in_documents = True


@contextmanager
def _carried(resource: str, *, in_documents: bool) -> Iterator[tuple[Document, ...]]:
    """Give the entry that the transaction in here has to carry, if there is one, and take it back where that fails."""
    pending = _CALL.get()
    if pending is None or pending.in_documents is not in_documents:
        yield ()
        return
    document = pending.take(resource)
    try:
        yield () if document is None else (document,)
    except BaseException:
        if document is not None:
            pending.give_back()
        raise


def committing(store: Store, commits: Sequence[Commit], case_id: str) -> None:
    """Store commits in one transaction, with the entry of the call that makes them; `case_id` as its caller knows it."""
    if not commits:
        store.commit(commits)
        return
    with _carried(case_id, in_documents=False) as entry:
        if entry:
            first = attrs.evolve(commits[0], documents=(*commits[0].documents, *entry))
            commits = [first, *commits[1:]]
        store.commit(commits)


def writing(
    store: Store, documents: Sequence[Document], removed: Sequence[Document], held: Sequence[Document] = ()
) -> None:
    """Write and remove documents in one transaction, with the entry of the call that does."""
    with _carried("", in_documents=True) as entry:
        store.write([*documents, *entry], removed, held)


def registering(store: Store, specification: StoredSpecification, documents: Sequence[Document]) -> bool:
    """Store a registration in one transaction with the entry of the call that makes it; whether it is new."""
    with _carried("", in_documents=True) as entry:
        new = store.put_specification(specification, [*documents, *entry])
    pending = _CALL.get()
    if pending is not None and entry and not new:
        pending.give_back()
    return new


class AuditLog:
    """
    Writes the record.

    Args:
        store: where it is kept; everybody's, not a tenant's.
        writer: the name of this instance's chain.
        key: signs heads.
        now: milliseconds since the epoch.
        most_waiting: bound of the buffer.

    Attributes:
        record: what has been written.
        failure: why the last sealing failed; None where it did not.
    """

    def __init__(
        self, store: Store, writer: str, key: bytes, *, now: Callable[[], int], most_waiting: int = MOST_WAITING
    ) -> None:
        self._store = store
        self._writer = writer
        self._key = key
        self._now = now
        self._most_waiting = most_waiting
        self._room = threading.Condition()
        self._waiting: list[tuple[int, Entry]] = []
        self._count = 0
        self._run = f"{time.time_ns():020d}"
        self._sealing = threading.Lock()
        self._wanted = threading.Event()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self.record = Record(store, key)
        self._sealed_at = time.monotonic()
        self.failure: KnhkError | None = None

    @property
    def age(self) -> float:
        """Seconds since everything was sealed that there was; before the first time, since this was made."""
        return time.monotonic() - self._sealed_at

    def entry(self, entry: Entry) -> Document:
        """Return an entry as the document that the transaction of a change carries."""
        with self._room:
            self._count += 1
            count = self._count
        return Document(collection=ENTRIES, key=self._key_of(count), value=_canonical(entry).decode())

    def add(self, entry: Entry) -> None:
        """Record a call that changed nothing; waits while the buffer is full."""
        with self._room:
            while len(self._waiting) >= self._most_waiting and not self._stopped.is_set():
                self._wanted.set()
                self._room.wait(SEAL_WITHIN)
            self._count += 1
            self._waiting.append((self._count, entry))

    def _key_of(self, count: int) -> str:
        return f"{self._run}-{self._writer}-{count:012d}"

    @property
    def waiting(self) -> int:
        """How many entries wait to be written."""
        return len(self._waiting)

    # --- sealing ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Seal in the background from now on."""
        self._thread = threading.Thread(target=self._repeat, name="knhk-audit", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Write and seal what there is, and end."""
        self._stopped.set()
        self._wanted.set()
        if self._thread is not None:
            self._thread.join()
        self.seal()

    def seal(self) -> int:
        """Make links of all entries; returns how many."""
        sealed = 0
        with self._sealing:
            while True:
                with self._room:
                    waiting = self._waiting[:BATCH]
                entries = self._store.documents(ENTRIES, limit=BATCH)
                if not waiting and not entries:
                    return sealed
                sealed += self._link(waiting, entries)

    def _link(self, waiting: Sequence[tuple[int, Entry]], entries: Sequence[Document]) -> int:
        """Make a batch of links, in one transaction; of entries another writer may have been faster."""
        ordered = sorted(
            [(self._key_of(count), _canonical(entry)) for count, entry in waiting]
            + [(each.key, each.value.encode()) for each in entries]
        )
        found = self._store.document(HEADS, self._writer)
        head: End = (0, NOTHING) if found is None else _end(found.value)
        first, previous = head[0] + 1, head[1]
        latest: dict[str, int] = {}
        links = []
        for sequence, (_, entry) in enumerate(ordered, first):
            # As `link_text` says it, without reading and writing the entry again.
            previous = hashlib.sha256(b'["%b",%d,%b]' % (previous.encode(), sequence, entry)).hexdigest()
            links.append(b'{"entry":%b,"hash":"%b"}' % (entry, previous.encode()))
            when = _when(entry)
            latest[when.tenant] = max(when.at, latest.get(when.tenant, 0))
        last = head[0] + len(links)
        signature = sign(self._key, self._writer, last, previous)
        value = {"sequence": last, "hash": previous, "at": self._now(), "signature": signature}
        written = [
            Document(collection=LINKS, key=f"{self._writer}/{first:016d}", value=(b"[%b]" % b",".join(links)).decode()),
            *(index_document(tenant, at, self._writer, first) for tenant, at in latest.items()),
            Document(
                collection=HEADS,
                key=self._writer,
                value=msgspec.json.encode(value).decode(),
                version=1 if found is None else found.version + 1,
            ),
        ]
        try:
            self._store.write(written, entries)
        except ConcurrentUpdate:
            # Another instance sealed some of the entries in its chain; the rest is there at the next look.
            return 0
        with self._room:
            del self._waiting[: len(waiting)]
            self._room.notify_all()
        return len(links)

    def _repeat(self) -> None:
        while not self._stopped.is_set():
            self._wanted.wait(SEAL_WITHIN)
            self._wanted.clear()
            try:
                self.seal()
            except KnhkError as error:
                self.failure = error
                self._stopped.wait(SEAL_WITHIN)
            else:
                self._sealed_at = time.monotonic()
                self.failure = None


def _end(text: str) -> End:
    """Return what a head names; its own writer has written it."""
    tree = msgspec.json.decode(text)
    return tree["sequence"], tree["hash"]
