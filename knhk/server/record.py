"""The record as it is kept: read a page at a time, exported, and verified a part at a time.

A document has a batch of links; for each tenant who is in a batch there is a row of an index, by the time of his last entry in it.
So a page costs what is on it, however long the record is.
What is read here may have been changed by somebody who can write the store: nothing of it is taken to be well-formed.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import attrs

from knhk.errors import MissingExtra
from knhk.ports import Document, Store
from knhk.server.chain import NOTHING, Checker, End, read_end

try:
    import msgspec
except ImportError as error:
    raise MissingExtra("server", "the service") from error

LINKS: Final = "audit"
HEADS: Final = "audit-heads"
BASES: Final = "audit-bases"
INDEX: Final = "audit-of/"
BATCH: Final = 500
"""Links in one document at the most, of each of the two kinds of entries."""

MOST_BATCHES: Final = 50
"""Batches that are looked through for one page; what follows is for the next one."""

LONGEST_RESOURCE: Final = 200
"""Characters of what an entry is about that are kept."""

_LAST: Final = "~"
_CURSOR: Final = re.compile(r"([0-9]{15}/[^/~]+/[0-9]{16})~([0-9]{1,4})")

Link = dict[str, Any]


class Entry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
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


class _Read(msgspec.Struct):
    """A link whose entry is one."""

    entry: Entry
    hash: str


def index_document(tenant: str, at: int, writer: str, first: int) -> Document:
    """Return the row that says: in the batch with this first link is something of the tenant's, the last of it from then."""
    return Document(collection=INDEX + tenant, key=f"{at:015d}/{writer}/{first:016d}", value="")


@attrs.frozen
class Found:
    """A call that was looked for, and its link."""

    writer: str
    sequence: int
    hash: str
    entry: Entry


@attrs.frozen(kw_only=True)
class Wanted:
    """
    Which calls are looked for.

    Args:
        tenant: of this tenant's callers.
        subject, operation: of this caller, of this kind; None for any.
        since: not before, in milliseconds since the epoch.
    """

    tenant: str
    subject: str | None = None
    operation: str | None = None
    since: int = 0

    def has(self, entry: Entry) -> bool:
        """Whether an entry is one of them."""
        return (
            entry.tenant == self.tenant
            and self.subject in (None, entry.subject)
            and self.operation in (None, entry.operation)
            and self.since <= entry.at
        )


class Record:
    """
    Reads what was written.

    Args:
        store: where it is kept.
        key: with which heads and bases are signed; nobody needs it to export.
    """

    def __init__(self, store: Store, key: bytes) -> None:
        self.store = store
        self.key = key

    def batches(self, writer: str, after: int = 0) -> Iterator[tuple[int, list[Link], Document]]:
        """Return a writer's batches that begin behind a link: the number of the first link, the links, the document."""
        key = f"{writer}/{after:016d}"
        while page := self.store.documents(LINKS, prefix=f"{writer}/", after=key, limit=10):
            for each in page:
                number = each.key.rpartition("/")[2]
                links = _tree(each.value)
                whole = isinstance(links, list) and all(isinstance(link, dict) for link in links)
                yield int(number) if number.isdecimal() else 0, links if whole else [{}], each
            key = page[-1].key

    def links(self) -> Iterator[tuple[str, int, Link]]:
        """Return all links with their writer and number, in this order."""
        for writer in self.writers():
            for first, links, _ in self.batches(writer):
                for sequence, link in enumerate(links, first):
                    yield writer, sequence, link

    def writers(self) -> list[str]:
        """Return whoever has a chain, with or without a head."""
        found = set(self._keys(HEADS))
        key = ""
        while page := self.store.documents(LINKS, after=key, limit=1):
            writer = page[0].key.rpartition("/")[0]
            found.add(writer)
            key = f"{writer}/{_LAST}"
        return sorted(found)

    def _keys(self, collection: str) -> Iterator[str]:
        key = ""
        while page := self.store.documents(collection, after=key, limit=1_000):
            yield from (each.key for each in page)
            key = page[-1].key

    def head(self, writer: str) -> Any:
        """Return the signed head of a chain, or None."""
        return self._document(HEADS, writer)

    def base(self, writer: str) -> End | None:
        """Return behind which link a chain goes on, (0, NOTHING) for its beginning; None: who says so has not the key."""
        found = self.store.document(BASES, writer)
        return (0, NOTHING) if found is None else read_end(_tree(found.value), self.key, writer, base=True)

    def _document(self, collection: str, writer: str) -> Any:
        found = self.store.document(collection, writer)
        return None if found is None else _tree(found.value)

    def export(self) -> Iterator[str]:
        """Return the record as lines of JSON: of each chain its base, its links and its head, as it is now."""
        for writer in self.writers():
            # The head first: what is sealed while this reads is not of this export.
            head, base = self.head(writer), self.store.document(BASES, writer)
            if base is not None:
                yield line(writer, base=_tree(base.value))
            for first, links, _ in self.batches(writer):
                if first > _number(head, first):
                    break
                for sequence, link in enumerate(links, first):
                    yield line(writer, sequence=sequence, entry=link.get("entry"), hash=link.get("hash"))
            if head is not None:
                yield line(writer, head=head)

    def page(self, wanted: Wanted, *, limit: int, after: str) -> tuple[list[Found], str | None]:
        """
        Return the calls that are wanted, in the order of their batches, and where the next page begins.

        Where little of much is wanted, a page may have less than its limit, or nothing, and yet be followed by another.
        Behind what no page has named there is nothing.
        """
        found: list[Found] = []
        place = _CURSOR.fullmatch(after)
        if after and place is None:
            return found, None
        begun = [] if place is None else [(place[1], int(place[2]))]
        begin = f"{wanted.since:015d}" if place is None else place[1]
        further = self.store.documents(INDEX + wanted.tenant, after=begin, limit=MOST_BATCHES)
        for row, first_place in [*begun, *((each.key, 0) for each in further)]:
            _, writer, number = row.split("/")
            for position, link in enumerate(self._batch(writer, number)[first_place:], first_place):
                if link is None or not wanted.has(link.entry):
                    continue
                if len(found) == limit:
                    return found, f"{row}~{position}"
                found.append(Found(writer, int(number) + position, link.hash, link.entry))
        return found, f"{further[-1].key}~{2 * BATCH}" if len(further) == MOST_BATCHES else None

    def _batch(self, writer: str, first: str) -> list[_Read | None]:
        """Return the links of a batch, None in the place of each that is none."""
        tree = self._document(LINKS, f"{writer}/{first}")
        return [_link(each) for each in tree] if isinstance(tree, list) else []


def line(writer: str, **more: Any) -> str:
    """Return a line of an export."""
    return json.dumps({"writer": writer, **more}, ensure_ascii=False)


def _tree(text: str) -> Any:
    """Return what a document holds, or None where it was made unreadable."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return None


def _link(tree: Any) -> _Read | None:
    try:
        return msgspec.convert(tree, _Read)
    except msgspec.ValidationError:
        return None


def _number(head: Any, otherwise: int) -> int:
    """Return the number that a head names."""
    number = head.get("sequence") if isinstance(head, dict) else None
    return number if isinstance(number, int) else otherwise


@attrs.frozen(kw_only=True)
class Verdict:
    """
    What a verification has come to.

    Args:
        intact: whether nothing wrong was found so far.
        complete: whether it has come to every head; else the next look goes on.
        links: how many were verified so far, from the beginning on.
        problems: what is wrong.
        heads: by writer, the end of his chain.
    """

    intact: bool
    complete: bool
    links: int
    problems: list[str]
    heads: dict[str, Any]


class Verification:
    """
    Verifies a record bit by bit: each look goes on where the last one ended.

    How far it has come is known to this process alone, so that nobody who can write the store can say that something was verified.

    Args:
        record: which.
        seconds: a monotonic clock.
    """

    def __init__(self, record: Record, *, seconds: Callable[[], float] = time.monotonic) -> None:
        self._record = record
        self._seconds = seconds
        self._lock = threading.Lock()
        self._checker = Checker(record.key)

    def go_on(self, *, within: float, whole: bool = False) -> Verdict:
        """
        Verify what follows.

        Args:
            within: seconds after which it is enough for now.
            whole: begin anew, at the first link.
        """
        end = self._seconds() + within
        with self._lock:
            if whole:
                self._checker = Checker(self._record.key)
            checker = self._checker
            heads: dict[str, Any] = {}
            complete = True
            for writer in sorted({*self._record.writers(), *checker.ends}):
                # The head first: what is sealed while this reads is for the next look.
                heads[writer] = self._record.head(writer)
                complete = complete and self._follow(checker, writer, heads[writer], end)
            return Verdict(
                intact=not checker.wrong,
                complete=complete,
                links=checker.links,
                problems=list(checker.wrong),
                heads={writer: head for writer, head in heads.items() if isinstance(head, dict)},
            )

    def _follow(self, checker: Checker, writer: str, head: Any, end: float) -> bool:
        """Follow a chain to its head; False where the time is over before."""
        if writer not in checker.ends:
            self._begin(checker, writer)
        for first, links, _ in self._record.batches(writer, checker.ends[writer][0]):
            if first > _number(head, first):
                break
            if first != checker.ends[writer][0] + 1:
                # What lies between may have been archived since the last look.
                self._begin(checker, writer)
            for sequence, link in enumerate(links, first):
                checker.link(writer, sequence, link.get("entry"), link.get("hash"))
            if self._seconds() > end:
                return False
        if head is None:
            checker.note(f"{writer}: the chain has no head")
        else:
            checker.compare(writer, head, checker.ends[writer])
        return True

    def _begin(self, checker: Checker, writer: str) -> None:
        """Go on behind the base of a chain, where that is further than what was verified."""
        base = self._record.base(writer)
        known = checker.ends.setdefault(writer, (0, NOTHING))
        if base is None:
            checker.note(f"{writer}: the base is not signed with this key")
        elif base[0] > known[0]:
            checker.ends[writer] = base
