"""What the log store writes: each commit, registration, quarantine and write of documents as one record; a frame's payload is records in a row."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import attrs

from knhk.ports import CaseHeader, Commit, Document, ItemRow, StoredSpecification

_COMMIT: Final = 1
_SPECIFICATION: Final = 2
_QUARANTINE: Final = 3
_DOCUMENTS: Final = 4
# The kind, and the lengths of the description, of the batch and of the snapshot (-1: none).
_HEAD: Final = struct.Struct("<BIIi")
_PLACE: Final = struct.Struct("<IQII")


@attrs.frozen
class Quarantine:
    """A case that was set aside, and why."""

    case_id: str
    reason: str


@attrs.frozen
class Documents:
    """What one `Store.write` wrote and removed."""

    documents: tuple[Document, ...]
    removed: tuple[Document, ...]


Record = Commit | StoredSpecification | Quarantine | Documents


@attrs.frozen
class Place:
    """Where bytes are in the log, and their CRC-32; as bytes it takes their place in the index."""

    segment: int
    offset: int
    length: int
    checksum: int

    def encode(self) -> bytes:
        """Return it as the index keeps it."""
        return _PLACE.pack(self.segment, self.offset, self.length, self.checksum)

    @classmethod
    def decode(cls, data: bytes) -> Place:
        """Read what `encode` wrote."""
        return cls(*_PLACE.unpack(data))


def encode(record: Record) -> bytes:
    """Return a record as bytes."""
    batch, snapshot = b"", None
    tree: list[Any]
    if isinstance(record, Commit):
        kind, batch, snapshot = _COMMIT, record.batch, record.snapshot
        header = record.header
        tree = [
            header.case_id,
            header.spec_id,
            header.spec_version,
            header.state,
            header.due,
            int(header.runnable),
            header.version,
            header.quarantined,
            [_item_tree(each) for each in record.items],
            record.closed_items,
            record.idempotency,
        ]
        if record.documents or record.removed:
            tree += [_document_trees(record.documents), _document_trees(record.removed)]
    elif isinstance(record, StoredSpecification):
        kind, tree = _SPECIFICATION, [record.spec_id, record.version, record.content_hash, record.text]
    elif isinstance(record, Documents):
        kind, tree = _DOCUMENTS, [_document_trees(record.documents), _document_trees(record.removed)]
    else:
        kind, tree = _QUARANTINE, [record.case_id, record.reason]
    meta = json.dumps(tree, separators=(",", ":")).encode()
    head = _HEAD.pack(kind, len(meta), len(batch), -1 if snapshot is None else len(snapshot))
    return b"".join((head, meta, batch, snapshot or b""))


def decode(payload: bytes) -> Iterator[tuple[int, Record]]:
    """Yield the records of a payload, each with the offset at which it begins."""
    begin = 0
    while begin < len(payload):
        kind, meta_length, batch_length, snapshot_length = _HEAD.unpack_from(payload, begin)
        place = begin + _HEAD.size
        tree = json.loads(payload[place : place + meta_length])
        place += meta_length
        batch = payload[place : place + batch_length]
        place += batch_length
        snapshot = None if snapshot_length < 0 else payload[place : place + snapshot_length]
        if kind == _COMMIT:
            yield begin, _commit(tree, batch, snapshot)
        elif kind == _SPECIFICATION:
            yield begin, StoredSpecification(spec_id=tree[0], version=tree[1], content_hash=tree[2], text=tree[3])
        elif kind == _DOCUMENTS:
            yield begin, Documents(*map(_read_documents, tree))
        else:
            yield begin, Quarantine(*tree)
        begin = place + max(snapshot_length, 0)


def placed(commit: Commit, segment: int, end: int) -> Commit:
    """Return the commit as the index keeps it: places instead of bytes; its record ends at this offset."""
    snapshot = commit.snapshot
    if snapshot is not None:
        end -= len(snapshot)
    batch = Place(segment, end - len(commit.batch), len(commit.batch), zlib.crc32(commit.batch))
    return Commit(
        header=commit.header,
        expected=commit.expected,
        batch=batch.encode(),
        snapshot=None if snapshot is None else Place(segment, end, len(snapshot), zlib.crc32(snapshot)).encode(),
        items=commit.items,
        closed_items=commit.closed_items,
        idempotency=commit.idempotency,
        documents=commit.documents,
        removed=commit.removed,
        held=commit.held,
    )


def _commit(tree: list[Any], batch: bytes, snapshot: bytes | None) -> Commit:
    # A record is as long as what it has to say, so what was written before there were documents reads as ever.
    case_id, spec_id, spec_version, state, due, runnable, version, quarantined, items, closed, key, *beside = tree
    return Commit(
        header=CaseHeader(
            case_id=case_id,
            spec_id=spec_id,
            spec_version=spec_version,
            state=state,
            due=due,
            runnable=bool(runnable),
            version=version,
            quarantined=quarantined,
        ),
        expected=version - 1,
        batch=batch,
        snapshot=snapshot,
        items=tuple(_read_item(case_id, *each) for each in items),
        closed_items=tuple(closed),
        idempotency=None if key is None else (key[0], key[1]),
        documents=_read_documents(beside[0]) if beside else (),
        removed=_read_documents(beside[1]) if beside else (),
    )


def _item_tree(item: ItemRow) -> list[Any]:
    tree = [item.number, item.path, item.state, item.by, item.roles, item.topic]
    return [*tree, item.audience, dict(item.details)] if item.audience or item.details else tree


def _read_item(
    case_id: str,
    number: int,
    path: str,
    state: str,
    by: str,
    roles: Sequence[str],
    topic: str,
    audience: Sequence[str] = (),
    details: Mapping[str, Any] | None = None,
) -> ItemRow:
    return ItemRow(
        case_id=case_id,
        number=number,
        path=path,
        state=state,
        by=by,
        roles=tuple(roles),
        topic=topic,
        audience=tuple(audience),
        details=details or {},
    )


def _document_trees(documents: Sequence[Document]) -> list[Any]:
    return [[each.collection, each.key, each.value, each.due, each.version] for each in documents]


def _read_documents(trees: Sequence[Sequence[Any]]) -> tuple[Document, ...]:
    return tuple(
        Document(collection=collection, key=key, value=value, due=due, version=version)
        for collection, key, value, due, version in trees
    )
