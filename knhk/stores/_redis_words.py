"""
What the Redis store tells its script, and how texts, numbers and rows are kept there.

Every step tells of the same few heads and rows again and again, of which only case, version and number are new: so those are
made once and remembered.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterable, Sequence
from typing import Final

from knhk.ports import Commit, Document, ItemRow
from knhk.stores._ordered import number_key
from knhk.stores._rows import encode_row
from knhk.stores.memory import WORKING

VERSION_LENGTH: Final = 8
"""Bytes of a document's version."""

UNSET: Final = b"\0" + number_key(0)
"""When a document is due that never is."""

_REMEMBERED: Final = 4096
_form: Final = struct.Struct(">IBBBII").pack
# What a step has beside its documents.
_NOTHING, _CASE, _REGISTRATION = range(3)
_CASE_WORDS: Final = 6
# Texts of a head that a header has as well.
_TOLD: Final = 6
_SHORT, _MIDDLE, _LONG = 32, 256, 65536


def add_step(words: list[bytes], commit: Commit) -> None:
    """Add a step: its form, its documents, its case; see `knhk.stores._redis_commit`."""
    header, items, key = commit.header, commit.items, commit.idempotency
    papers: list[bytes] = []
    if commit.documents or commit.removed or commit.held:
        papers = _papers(commit.documents, commit.removed, commit.held)
    if header.due is None and not header.quarantined:
        head = _plain_head(header.spec_id, header.spec_version, header.state, header.runnable)
    else:
        head = _head(header.spec_id, header.spec_version, header.state, header.runnable, header.due, header.quarantined)
    snapshot, keyed = commit.snapshot is not None, key is not None
    length = _CASE_WORDS + len(papers) + snapshot + 2 * (keyed + len(items))
    words += (
        _form(length, _CASE, snapshot, keyed, len(papers) // 6, len(items)),
        *papers,
        header.case_id.encode(),
        b"%d" % header.version,
        head,
        b"".join(map(number_key, commit.closed_items)),
        commit.batch,
    )
    if commit.snapshot is not None:
        words.append(commit.snapshot)
    if key is not None:
        words += (key[0].encode(), pair(header.case_id, key[1]))
    for each in items:
        words += (number_key(each.number), _item(each))


def add_documents(
    words: list[bytes], documents: Iterable[Document], removed: Iterable[Document], held: Iterable[Document]
) -> None:
    """Add a step without a case."""
    _add_papers(words, _NOTHING, _papers(documents, removed, held))


def add_registration(words: list[bytes], name: bytes, spec_id: str, value: str, documents: Iterable[Document]) -> None:
    """Add a step that registers a specification under a name."""
    _add_papers(words, _REGISTRATION, _papers(documents, (), ()), name, spec_id.encode(), value.encode())


def pair(first: str, second: str) -> bytes:
    """Return two texts as one, of which no other two are made."""
    head = first.encode()
    return b"%d:%s%s" % (len(head), head, second.encode())


def read_pair(both: bytes) -> tuple[str, str]:
    """Return the two texts."""
    length, _, rest = both.partition(b":")
    return rest[: int(length)].decode(), rest[int(length) :].decode()


def read_head(head: bytes) -> list[bytes]:
    """Return why a case is set aside, its state, specification and version of that, when it is due, and whether it is runnable."""
    texts, at = [], 0
    for _ in range(_TOLD):
        end = at + 4 + int.from_bytes(head[at : at + 4], "big")
        texts.append(head[at + 4 : end])
        at = end
    return texts


def _add_papers(words: list[bytes], kind: int, papers: Sequence[bytes], *about: bytes) -> None:
    words += (_form(1 + len(papers) + len(about), kind, 0, 0, len(papers) // 6, 0), *papers, *about)


def _papers(documents: Iterable[Document], removed: Iterable[Document], held: Iterable[Document]) -> list[bytes]:
    papers: list[bytes] = []
    for each in held:
        papers += (b"h", each.collection.encode(), each.key.encode(), _version(each.version), b"", b"")
    for each in documents:
        when = b"" if each.due is None else number_key(each.due)
        value = _version(each.version) + (b"\1" + when if when else UNSET) + each.value.encode()
        papers += (b"w", each.collection.encode(), each.key.encode(), _version(each.version - 1), value, when)
    for each in removed:
        papers += (b"r", each.collection.encode(), each.key.encode(), _version(each.version), b"", b"")
    return papers


def _version(version: int) -> bytes:
    return version.to_bytes(VERSION_LENGTH, "big")


def _head(spec_id: str, spec_version: str, state: str, runnable: bool, due: int | None, quarantined: str) -> bytes:
    """Return what a case's hash has beside version and items: each text with its length before it (`_redis_scripts.HEAD`)."""
    aside = quarantined.encode()
    texts = (
        aside,
        state.encode(),
        spec_id.encode(),
        spec_version.encode(),
        b"" if due is None else number_key(due),
        b"1" if runnable else b"",
        b"1" if state in WORKING and not aside else b"",
    )
    return b"".join(len(each).to_bytes(4, "big") + each for each in texts)


@functools.lru_cache(maxsize=_REMEMBERED)
def _plain_head(spec_id: str, spec_version: str, state: str, runnable: bool) -> bytes:
    return _head(spec_id, spec_version, state, runnable, None, "")


def _item(item: ItemRow) -> bytes:
    """Return what is kept of an item: how long the names of its lists are, these as MessagePack has them, its row."""
    if item.details:
        return _lists(item.state, item.by, item.topic, item.audience) + encode_row(item)
    return _plain_item(item.path, item.state, item.by, item.roles, item.topic, item.audience)


@functools.lru_cache(maxsize=_REMEMBERED)
def _plain_item(path: str, state: str, by: str, roles: tuple[str, ...], topic: str, audience: tuple[str, ...]) -> bytes:
    item = ItemRow(
        case_id="", number=0, path=path, state=state, by=by, roles=roles, topic=topic, audience=audience, details={}
    )
    return _lists(state, by, topic, audience) + encode_row(item)


def _lists(state: str, by: str, topic: str, audience: Sequence[str]) -> bytes:
    names = [f"i:s:{state}"]
    if by:
        names.append(f"i:b:{by}")
    if topic:
        names.append(f"i:t:{topic}")
    names += [f"i:a:{word}" for word in dict.fromkeys(audience)]
    packed = _packed([each.encode() for each in names])
    return len(packed).to_bytes(4, "big") + packed


def _packed(names: Sequence[bytes]) -> bytes:
    """Return texts as a list of MessagePack, of the shapes that ``cmsgpack.pack`` makes as well."""
    count = len(names)
    head = bytes((0x90 + count,)) if count < 16 else b"\xdc" + count.to_bytes(2, "big")
    return head + b"".join(map(_raw, names))


def _raw(text: bytes) -> bytes:
    length = len(text)
    if length < _SHORT:
        head = bytes((0xA0 + length,))
    elif length < _MIDDLE:
        head = b"\xd9" + length.to_bytes(1, "big")
    elif length < _LONG:
        head = b"\xda" + length.to_bytes(2, "big")
    else:
        head = b"\xdb" + length.to_bytes(4, "big")
    return head + text
