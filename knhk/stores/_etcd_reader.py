"""How the etcd store reads: ranges of keys page by page, values that are in pieces, and all of an answer at one revision."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Final, TypeVar

from knhk.errors import ConcurrentUpdate, QuarantinedCase, StoreError
from knhk.ports import CaseHeader, Document, ItemRow, StoredCase, StoredSpecification, WholeCase
from knhk.stores import _etcd_layout as layout
from knhk.stores import _etcd_messages as messages
from knhk.stores._etcd_layout import Kept, Keys, behind
from knhk.stores._etcd_link import Compacted, Link
from knhk.stores._etcd_messages import RANGE, TRANSACTION, api
from knhk.stores._etcd_plan import unknown
from knhk.stores._ordered import NUMBER_LENGTH, number_key, read_number, text_key
from knhk.stores._rows import decode_row

ATTEMPTS: Final = 100
"""How often something is tried again that others have come before."""

_PAGE: Final = 500
_ROWS: Final = 100
_Found = TypeVar("_Found")


class Reader:
    """
    Reads a namespace; several requests that make one answer read at the revision of the first.

    Args:
        connection: to the cluster.
        keys: of the namespace.
    """

    def __init__(self, connection: Link, keys: Keys) -> None:
        self._link = connection
        self._keys = keys

    def consistent(self, ask: Callable[[], _Found]) -> _Found:
        """Return what several requests find at one revision; asked again where that was compacted away meanwhile."""
        for _ in range(ATTEMPTS):
            try:
                return ask()
            except Compacted:
                continue
        raise too_busy()

    def fetch(self, names: Sequence[bytes], revision: int = 0) -> tuple[dict[bytes, api.KeyValue], int]:
        """Return what is under these keys at one revision, and that."""
        found: dict[bytes, api.KeyValue] = {}
        most = self._link.address.operations
        for at in range(0, len(names), most):
            reads = [messages.read(each, revision=revision) for each in names[at : at + most]]
            answer = self._link.ask(TRANSACTION, messages.transaction((), reads))
            revision = revision or answer.header.revision
            found |= {pair.key: pair for each in answer.responses for pair in each.response_range.kvs}
        return found, revision

    def scan(self, first: bytes, end: bytes, revision: int = 0, *, page: int = _PAGE) -> Iterator[api.KeyValue]:
        """Return the keys from here up to but not `end`, at one revision, page by page."""
        more = first < end
        while more:
            asked = messages.keys_from(first, end, limit=min(page, _PAGE), revision=revision)
            found = self._link.ask(RANGE, asked)
            revision = revision or found.header.revision
            yield from found.kvs
            more = found.more and bool(found.kvs)
            first = found.kvs[-1].key + b"\0" if found.kvs else first

    def pairs(self, first: bytes, end: bytes, most: int, revision: int = 0) -> tuple[api.KeyValue, ...]:
        """Return so many of them."""
        self._link.refuse_closed()
        return tuple(islice(self.scan(first, end, revision, page=most), most)) if most else ()

    def get(self, name: bytes) -> bytes | None:
        pair = self.fetch([name])[0].get(name)
        return None if pair is None else pair.value

    def read(self, name: bytes) -> bytes | None:
        """Return a value that may be in pieces, or None where there is none."""
        return self.consistent(partial(self._read_at, name, 0))

    def _read_at(self, name: bytes, revision: int) -> bytes | None:
        found, revision = self.fetch([name], revision)
        return self._gathered(found[name].value, revision) if name in found else None

    def _gathered(self, stored: bytes, revision: int) -> bytes:
        pieces = layout.pieces_of(stored)
        if pieces is None:
            return stored[1:]
        first = self._keys.key("y", pieces[0])
        found: list[bytes] = []
        for name in layout.piece_keys(self._keys, pieces):
            got, _ = self.fetch([name], revision)
            if name not in got:
                raise StoreError(
                    f"{self._link.address.shown} is damaged: a piece of a value is missing under {first!r}"
                )
            found.append(got[name].value)
        return b"".join(found)

    def kept(self, case_id: str) -> tuple[Kept, int]:
        name = self._keys.key("c", case_id)
        found, revision = self.fetch([name])
        if name not in found:
            raise unknown(case_id)
        return Kept.decode(case_id, found[name].value), revision

    def load(self, case_id: str) -> StoredCase:
        name, first = self._keys.key("c", case_id), self._keys.key("j", case_id)
        # Most cases are short and have no snapshot: then one request is enough.
        reads = [messages.read(name), messages.read(first, behind(first), limit=_ROWS)]
        answer = self._link.ask(TRANSACTION, messages.transaction((), reads))
        found, batches = answer.responses[0].response_range.kvs, answer.responses[1].response_range
        revision = answer.header.revision
        if not found:
            raise unknown(case_id)
        kept = Kept.decode(case_id, found[0].value)
        if kept.header.quarantined:
            raise QuarantinedCase(f"case {case_id!r} is set aside: {kept.header.quarantined}")
        if not kept.snapshot_at and not batches.more:
            own = tuple(self._gathered(each.value, revision) for each in batches.kvs)
            return StoredCase(header=kept.header, snapshot=None, batches=own)
        snapshot = self._read_at(self._keys.key("x", case_id), revision) if kept.snapshot_at else None
        return StoredCase(
            header=kept.header, snapshot=snapshot, batches=self._batches(kept, kept.snapshot_at, revision)
        )

    def history(self, case_id: str) -> tuple[bytes, ...]:
        kept, revision = self.kept(case_id)
        return self._batches(kept, 0, revision)

    def whole(self, case_id: str) -> WholeCase:
        kept, revision = self.kept(case_id)
        snapshot = self._read_at(self._keys.key("x", case_id), revision) if kept.snapshot_at else None
        letters = "q" if kept.header.quarantined else "i"
        rows = ((text_key(case_id) + number_key(number), row) for number, row in self.rows(letters, case_id, revision))
        return WholeCase(
            header=kept.header,
            batches=self._batches(kept, 0, revision),
            snapshot=None if snapshot is None else (snapshot, kept.snapshot_at),
            items=tuple(decode_row(name, row) for name, row in rows),
        )

    def _batches(self, kept: Kept, behind_version: int, revision: int) -> tuple[bytes, ...]:
        case_id = kept.header.case_id
        first = self._keys.key("j", case_id, tail=number_key(behind_version + 1))
        end = behind(self._keys.key("j", case_id))
        return tuple(self._gathered(each.value, revision) for each in self.scan(first, end, revision))

    def rows(self, letters: str, case_id: str, revision: int) -> Iterator[tuple[int, bytes]]:
        first = self._keys.key(letters, case_id)
        for each in self.scan(first, behind(first), revision):
            yield read_number(each.key[-NUMBER_LENGTH:]), each.value

    def cases(self, spec_id: str | None, state: str | None, after: str, most: int) -> tuple[CaseHeader, ...]:
        if spec_id is None and state is None:
            first, end = self._keys.key("c", after) + b"\0", behind(self._keys.key("c"))
            found = self.pairs(first, end, most)
            return tuple(Kept.decode(self._keys.case_of(each.key), each.value).header for each in found)
        texts = [each for each in (spec_id, state) if each is not None]
        letters = "b" if len(texts) > 1 else "t" if spec_id is None else "p"
        first, end = self._keys.key(letters, *texts, after) + b"\0", behind(self._keys.key(letters, *texts))
        ids: list[str] = []
        revision = 0
        if most:
            _, revision = self.fetch([self._keys.key("f")])
            ids = [self._keys.case_of(each.key, len(texts)) for each in self.pairs(first, end, most, revision)]
        pairs, _ = self.fetch([self._keys.key("c", each) for each in ids], revision)
        return tuple(Kept.decode(each, pairs[self._keys.key("c", each)].value).header for each in ids)

    def items(
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
        _, revision = self.fetch([self._keys.key("f")])
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
        for each in self.scan(first, end, revision, page=_ROWS):
            row = decode_row(each.key[length:], each.value)
            if wanted(row):
                yield each.key[length:], row

    def document(self, collection: str, key: str) -> Document | None:
        name = self._keys.key("d", collection, key)
        found, revision = self.fetch([name])
        return self._told(collection, key, found[name].value, revision) if name in found else None

    def _told(self, collection: str, key: str, value: bytes, revision: int) -> Document:
        return layout.decode_document(collection, key, value, self._gathered(layout.content_of(value), revision))

    def documents(self, collection: str, first: bytes, end: bytes, most: int) -> tuple[Document, ...]:
        _, revision = self.fetch([self._keys.key("f")])
        found = self.pairs(first, end, most, revision)
        return tuple(self._told(collection, self._keys.case_of(each.key, 1), each.value, revision) for each in found)

    def due_documents(self, collection: str, end: bytes, most: int) -> tuple[Document, ...]:
        first = self._keys.key("e", collection)
        _, revision = self.fetch([self._keys.key("f")])
        texts = [each.key[len(first) + NUMBER_LENGTH :] for each in self.pairs(first, end, most, revision)]
        names = [self._keys.key("d", collection, tail=each) for each in texts]
        found, _ = self.fetch(names, revision)
        return tuple(self._told(collection, self._keys.case_of(each, 1), found[each].value, revision) for each in names)

    def collections(self) -> tuple[str, ...]:
        self._link.refuse_closed()
        _, revision = self.fetch([self._keys.key("f")])
        first, end = self._keys.key("d"), behind(self._keys.key("d"))
        names: list[str] = []
        # The first key of each collection, then what is behind all of them.
        while found := self.pairs(first, end, 1, revision):
            names.append(self._keys.case_of(found[0].key))
            first = behind(self._keys.key("d", names[-1]))
        return tuple(names)

    def specifications(self) -> tuple[StoredSpecification, ...]:
        first = self._keys.key("o")
        names = [self._keys.key("s", *layout.decode_texts(each.value)) for each in self.scan(first, behind(first))]
        found, revision = self.fetch(names)
        return tuple(layout.decode_specification(self._gathered(found[each].value, revision)) for each in names)


def too_busy() -> ConcurrentUpdate:
    """Say that others were always faster."""
    return ConcurrentUpdate(f"others changed what this depends on, {ATTEMPTS} times in a row: read it again")
