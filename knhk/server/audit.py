"""The record of every call: who asked for what, about what, and what came of it; nobody can change it unseen.

A record is first an *entry*: a document of its own, written in the transaction of the change that it tells of, so that there is
no change without its entry and no entry of a change that was not.
Entries of calls that change nothing, refused ones too, wait in a bounded buffer and are written in batches.
Within a second the writer *seals* what was written: entries become links of its chain, each with the hash of the one before
it, and every batch ends with a signed head.
There is one chain a writer, so that instances on one store never wait for each other; what a writer that ended left unsealed is
sealed by whoever comes next.

What can be found out afterwards, with nothing but the exported chain and the key: any link that was edited, removed, added or
moved, and an end that was cut off behind a head which somebody kept.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

import attrs

from knhk.errors import ConcurrentUpdate, KnhkError
from knhk.ports import Commit, Document, Store

LINKS: Final = "audit"
ENTRIES: Final = "audit-entries"
HEADS: Final = "audit-heads"
SEAL_WITHIN: Final = 0.5
"""Seconds after which what was written is sealed."""

MOST_WAITING: Final = 10_000
"""Entries of reads and refusals that wait to be written; more make the caller wait."""

_BATCH: Final = 500
_NOTHING: Final = "0" * 64


@attrs.frozen(kw_only=True)
class Entry:
    """
    One call.

    Args:
        at: milliseconds since the epoch.
        tenant, subject: who called; "" for nobody who could be known.
        operation: what was asked for; as in `knhk.server.rights`.
        resource: about what: the id of a case, a work item, a workflow; "" for a list.
        outcome: the HTTP status.
        trace: the id under which the call is found in traces and logs.
        region: where it was answered; "" where no region is configured.
    """

    at: int
    tenant: str
    subject: str
    operation: str
    resource: str
    outcome: int
    trace: str = ""
    region: str = ""

    def document(self) -> dict[str, Any]:
        """Return it as it is kept."""
        return attrs.asdict(self)


def link_text(previous: str, sequence: int, entry: Mapping[str, Any]) -> str:
    """Return what is hashed of a link: canonical JSON of the hash before it, its number and its entry."""
    return json.dumps([previous, sequence, entry], sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest(text: str) -> str:
    """Return the hash of a link."""
    return hashlib.sha256(text.encode()).hexdigest()


def sign(key: bytes, writer: str, sequence: int, head: str) -> str:
    """Return the signature of a head."""
    return hmac.new(key, f"{writer}\n{sequence}\n{head}".encode(), hashlib.sha256).hexdigest()


class Pending:
    """
    The entry of a call that may change a case: it goes with the first commit that the call makes, or with none.

    Args:
        log: where it belongs.
        entry: as it is when the call succeeds.
    """

    def __init__(self, log: AuditLog, entry: Entry) -> None:
        self._log = log
        self._entry = entry
        self._lock = threading.Lock()
        self._taken = False

    @property
    def outcome(self) -> int:
        """What the entry says came of the call."""
        return self._entry.outcome

    def take(self, case_id: str = "") -> Document | None:
        """Return the entry, about this case where the call named none; None where it was taken before."""
        with self._lock:
            if self._taken:
                return None
            self._taken = True
        return self._log.entry(attrs.evolve(self._entry, resource=self._entry.resource or case_id))

    def give_back(self) -> None:
        """Say that the commit was not: another may take it."""
        with self._lock:
            self._taken = False


_CALL: Final[ContextVar[Pending | None]] = ContextVar("call", default=None)


@contextmanager
def announced(pending: Pending | None) -> Iterator[None]:
    """Let the next commit of this context carry the entry; None: let none carry one."""
    before = _CALL.set(pending)
    try:
        yield
    finally:
        _CALL.reset(before)


@contextmanager
def unrecorded() -> Iterator[Pending | None]:
    """Let the commits in here carry no entry: they are none of the call's; gives what was announced."""
    pending = _CALL.get()
    with announced(None):
        yield pending


def committing(store: Store, commits: Sequence[Commit], case_id: str) -> None:
    """Store commits in one transaction, with the entry of the call that makes them; `case_id` as its caller knows it."""
    pending = _CALL.get()
    document = None if pending is None or not commits else pending.take(case_id)
    if pending is None or document is None:
        store.commit(commits)
        return
    first = attrs.evolve(commits[0], documents=(*commits[0].documents, document))
    try:
        store.commit([first, *commits[1:]])
    except BaseException:
        pending.give_back()
        raise


class AuditLog:
    """
    Writes and reads the record.

    Args:
        store: where it is kept; everybody's, not a tenant's.
        writer: the name of this instance's chain.
        key: signs heads.
        now: milliseconds since the epoch.
        most_waiting: bound of the buffer.
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
        self._waiting: list[Document] = []
        self._count = 0
        self._run = f"{time.time_ns():020d}"
        self._sealing = threading.Lock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self.failure: KnhkError | None = None

    def entry(self, entry: Entry) -> Document:
        """Return an entry as the document that the transaction of a change carries."""
        with self._room:
            self._count += 1
            count = self._count
        text = json.dumps(entry.document(), separators=(",", ":"), ensure_ascii=False)
        return Document(collection=ENTRIES, key=f"{self._run}-{self._writer}-{count:012d}", value=text)

    def add(self, entry: Entry) -> None:
        """Record a call that changed nothing; waits while the buffer is full."""
        self.put(self.entry(entry))

    def put(self, document: Document) -> None:
        """Record an entry that no commit carried; waits while the buffer is full."""
        with self._room:
            while len(self._waiting) >= self._most_waiting and not self._stopped.is_set():
                self._room.wait(SEAL_WITHIN)
            self._waiting.append(document)

    # --- sealing ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Seal in the background from now on."""
        self._thread = threading.Thread(target=self._repeat, name="knhk-audit", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Write and seal what there is, and end."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()
        self.seal()

    def seal(self) -> int:
        """Write what waits, then make links of all entries; returns how many."""
        with self._sealing:
            self._flush()
            sealed = 0
            while entries := self._store.documents(ENTRIES, limit=_BATCH):
                sealed += self._link(entries)
            return sealed

    def _flush(self) -> None:
        with self._room:
            waiting = self._waiting[:]
        if waiting:
            self._store.write(waiting)
            with self._room:
                del self._waiting[: len(waiting)]
                self._room.notify_all()

    def _link(self, entries: Iterable[Document]) -> int:
        """Move a batch of entries into the chain, in one transaction; another writer may have been faster."""
        found = self._store.document(HEADS, self._writer)
        head: dict[str, Any] = json.loads(found.value) if found is not None else {"sequence": 0, "hash": _NOTHING}
        sequence: int = head["sequence"]
        previous: str = head["hash"]
        links, taken = [], []
        for each in entries:
            entry = json.loads(each.value)
            sequence += 1
            text = link_text(previous, sequence, entry)
            previous = digest(text)
            value = json.dumps({"entry": entry, "hash": previous}, separators=(",", ":"), ensure_ascii=False)
            links.append(Document(collection=LINKS, key=f"{self._writer}/{sequence:016d}", value=value))
            taken.append(each)
        signature = sign(self._key, self._writer, sequence, previous)
        value = json.dumps({"sequence": sequence, "hash": previous, "at": self._now(), "signature": signature})
        version = 1 if found is None else found.version + 1
        try:
            self._store.write(
                [*links, Document(collection=HEADS, key=self._writer, value=value, version=version)], taken
            )
        except ConcurrentUpdate:
            # Another instance sealed some of them in its chain; the rest is there at the next look.
            return 0
        return len(links)

    def _repeat(self) -> None:
        while not self._stopped.wait(SEAL_WITHIN):
            try:
                self.seal()
            except KnhkError as error:
                self.failure = error
            else:
                self.failure = None

    # --- reading ------------------------------------------------------------------------------------------------------

    def links(self, *, after: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
        """Return all links with their keys, by writer and number."""
        while page := self._store.documents(LINKS, after=after, limit=_BATCH):
            for each in page:
                yield each.key, json.loads(each.value)
            after = page[-1].key

    def heads(self) -> dict[str, dict[str, Any]]:
        """Return the signed head of each writer's chain."""
        return {each.key: json.loads(each.value) for each in self._store.documents(HEADS, limit=1_000_000)}

    def export(self) -> Iterator[str]:
        """
        Return the record as lines of JSON: every link, then every head.

        Others may write meanwhile: of each chain it is what its head says now.
        """
        heads = self.heads()
        for key, link in self.links():
            writer, _, number = key.rpartition("/")
            sequence = int(number)
            if writer not in heads and self._store.document(HEADS, writer) is not None:
                # Begun since; a chain without any head is told as it is.
                continue
            if writer not in heads or sequence <= heads[writer]["sequence"]:
                yield json.dumps({"writer": writer, "sequence": sequence, **link}, ensure_ascii=False)
        for writer, head in heads.items():
            yield json.dumps({"writer": writer, "head": head}, ensure_ascii=False)


def verify(lines: Iterable[str], key: bytes, *, kept: Mapping[str, tuple[int, str]] | None = None) -> list[str]:
    """
    Look for what was changed in an exported record.

    Args:
        lines: the export.
        key: with which heads are signed.
        kept: by writer, number and hash of a head that was kept elsewhere: what was cut off behind it is found.

    Returns:
        What is wrong; nothing where all is as it was written.
    """
    chains: dict[str, tuple[int, str]] = {}
    heads: dict[str, dict[str, Any]] = {}
    seen: dict[str, dict[int, str]] = {}
    wrong: list[str] = []
    for number, line in enumerate(lines, 1):
        try:
            tree = json.loads(line)
            writer = tree["writer"]
            if "head" in tree:
                heads[writer] = dict(tree["head"])
                continue
            sequence, entry, said = tree["sequence"], tree["entry"], tree["hash"]
        except (ValueError, KeyError, TypeError) as error:
            wrong.append(f"line {number} cannot be read: {error!r}")
            continue
        before, previous = chains.get(writer, (0, _NOTHING))
        if sequence != before + 1:
            wrong.append(f"{writer}: behind link {before} comes {sequence}")
        if digest(link_text(previous, sequence, entry)) != said:
            wrong.append(f"{writer}: link {sequence} is not what was written behind {before}")
        chains[writer] = (sequence, said)
        seen.setdefault(writer, {})[sequence] = said
    for writer in sorted(chains.keys() | heads.keys()):
        wrong += _wrong_with_head(writer, chains.get(writer, (0, _NOTHING)), heads.get(writer), key)
    for writer, (sequence, hash_) in (kept or {}).items():
        if seen.get(writer, {}).get(sequence) != hash_:
            wrong.append(f"{writer}: the head {sequence} that was kept is not in the chain")
    return wrong


def _wrong_with_head(writer: str, end: tuple[int, str], head: Mapping[str, Any] | None, key: bytes) -> list[str]:
    if head is None:
        return [f"{writer}: the chain has no head"]
    sequence, hash_ = head.get("sequence"), head.get("hash")
    wrong = []
    signature = sign(key, writer, sequence if isinstance(sequence, int) else -1, str(hash_))
    if not hmac.compare_digest(signature, str(head.get("signature"))):
        wrong.append(f"{writer}: the head is not signed with this key")
    if (sequence, hash_) != end:
        wrong.append(f"{writer}: the head says {sequence} links, the chain ends with {end[0]}")
    return wrong
