"""
What the etcd store keeps under which key.

All keys of a namespace begin with ``/knhk/namespace/``; behind that stand one or two letters, ``/``, and texts and numbers in the
order of bytes (`knhk.stores._ordered`), so that a range of keys is a list in order:

======  ===================================  ==========================================================================
letter  behind it                            value
======  ===================================  ==========================================================================
``f``                                        the number of this layout
``c``   case                                 `Kept`, as JSON
``j``   case, version                        the batch
``x``   case                                 the last snapshot
``p``   specification, case                  nothing; likewise ``t`` state, case; ``b`` specification, state, case
``u``   due time, case                       nothing
``r``   case                                 nothing: it is runnable
``k``   idempotency key                      case and digest
``i``   case, number                         the row of an open item; likewise ``is`` state, ``ib`` by, ``it`` topic,
                                             ``ia`` audience, each before case and number
``q``   case, number                         the row of an open item of a case set aside
``d``   collection, key                      version, due time, value
``e``   collection, due time, key            nothing
``s``   specification, version               the registration
``o``   number                               id and version, in the order of registration
``l``   specification                        id and version of the last registration
``w``   writer, or writer and place          the number of its last group, and of the last group in which this place was stored
``y``   token, number                        a piece of a large value
======  ===================================  ==========================================================================
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final

import attrs

from knhk.ports import CaseHeader, Document, StoredSpecification
from knhk.stores._ordered import NUMBER_LENGTH, number_key, read_number, read_text, text_key
from knhk.stores.memory import WORKING

FORMAT: Final = 1
"""The number of the layout."""

_LETTERS: Final = (*"fcjxptburkiqdesolwy", "is", "ib", "it", "ia")
_ROWS: Final = 1_000
"""Rows of which it is remembered in which lists they are: most are of the same few tasks and people."""

_VERSION_LENGTH: Final = 8
_UNSET: Final = b"\0" + number_key(0)
_VALUE_AT: Final = _VERSION_LENGTH + len(_UNSET)
_WHOLE: Final = b"\0"
_PIECES: Final = b"\1"


@attrs.frozen
class Kept:
    """
    What is stored of a case under its own key.

    Args:
        header: the case.
        snapshot_at: the version that its last snapshot was made at; 0: it has none.
        highest: the highest number that an item of it ever had.
        pieces: where the last snapshot is, if it is in pieces.
    """

    header: CaseHeader
    snapshot_at: int = 0
    highest: int = 0
    pieces: tuple[str, int] | None = None

    def encode(self) -> bytes:
        """Return it as bytes."""
        of = self.header
        head = [of.version, of.spec_id, of.spec_version, of.state, of.due, of.runnable, of.quarantined]
        return json.dumps([*head, self.snapshot_at, self.highest, self.pieces], separators=(",", ":")).encode()

    @classmethod
    def decode(cls, case_id: str, value: bytes) -> Kept:
        """Return what `encode` made bytes of."""
        version, spec_id, spec_version, state, due, runnable, aside, at, highest, pieces = json.loads(value)
        header = CaseHeader(
            case_id=case_id,
            spec_id=spec_id,
            spec_version=spec_version,
            state=state,
            due=due,
            runnable=runnable,
            version=version,
            quarantined=aside,
        )
        return cls(header, at, highest, None if pieces is None else (pieces[0], pieces[1]))


class Keys:
    """The keys of a namespace."""

    def __init__(self, namespace: str) -> None:
        self._root = f"/knhk/{namespace}/".encode()
        self._begins = {letters: self._root + letters.encode() + b"/" for letters in _LETTERS}
        self._placed = lru_cache(_ROWS)(_placed)

    def key(self, letters: str, *texts: str, tail: bytes = b"") -> bytes:
        """Return the key of these letters and texts, and bytes behind them."""
        return b"".join((self._begins[letters], *map(text_key, texts), tail))

    def case_of(self, key: bytes, texts: int = 0, *, numbers: int = 0) -> str:
        """Return the last text of a key that has so many texts, and before them so many numbers."""
        rest = key[key.index(b"/", len(self._root)) + 1 + numbers * NUMBER_LENGTH :]
        for _ in range(texts):
            rest = read_text(rest)[1]
        return read_text(rest)[0]

    def lists(self, kept: Kept) -> set[bytes]:
        """Return the keys of the lists that a case is in."""
        of = kept.header
        found = {
            self.key("p", of.spec_id, of.case_id),
            self.key("t", of.state, of.case_id),
            self.key("b", of.spec_id, of.state, of.case_id),
        }
        if of.state in WORKING and not of.quarantined:
            if of.due is not None:
                found.add(self.key("u", tail=number_key(of.due) + text_key(of.case_id)))
            if of.runnable:
                found.add(self.key("r", of.case_id))
        return found

    def row_lists(self, case_id: str, number: int, row: bytes) -> set[bytes]:
        """Return the keys under which a row is, but for that of its case and number."""
        tail = text_key(case_id) + number_key(number)
        return {self._begins[letters] + text + tail for letters, text in self._placed(row)}

    def due(self, collection: str, key: str, value: bytes) -> bytes | None:
        """Return the key of a stored document's due time; None where it has none."""
        when = value[_VERSION_LENGTH:_VALUE_AT]
        return None if when == _UNSET else self.key("e", collection, tail=when[1:] + text_key(key))


def _placed(row: bytes) -> tuple[tuple[str, bytes], ...]:
    """Return letters and text of the lists that a row is in."""
    _, state, by, _, topic, audience, _ = json.loads(row)
    found = [("is", state), *([("ib", by)] if by else []), *([("it", topic)] if topic else [])]
    return tuple((letters, text_key(text)) for letters, text in (*found, *(("ia", each) for each in audience)))


def behind(key: bytes) -> bytes:
    """Return a key that is behind all that begin with this one."""
    return key + b"\xff" * (NUMBER_LENGTH + 1)


def encode_document(document: Document, content: bytes) -> bytes:
    """Return a document as bytes, with its value as `whole` or `in_pieces` has it."""
    when = _UNSET if document.due is None else b"\1" + number_key(document.due)
    return document.version.to_bytes(_VERSION_LENGTH, "big") + when + content


def version_of(value: bytes | None) -> int:
    """Return the version of a stored document; 0 where there is none."""
    return 0 if value is None else int.from_bytes(value[:_VERSION_LENGTH], "big")


def content_of(value: bytes) -> bytes:
    """Return what is stored of a document's value."""
    return value[_VALUE_AT:]


def decode_document(collection: str, key: str, value: bytes, content: bytes) -> Document:
    """Return a document."""
    when = value[_VERSION_LENGTH:_VALUE_AT]
    return Document(
        collection=collection,
        key=key,
        value=content.decode(),
        due=None if when == _UNSET else read_number(when[1:]),
        version=version_of(value),
    )


def encode_specification(specification: StoredSpecification) -> bytes:
    """Return a registration as bytes."""
    of = specification
    return json.dumps([of.spec_id, of.version, of.content_hash, of.text]).encode()


def decode_specification(value: bytes) -> StoredSpecification:
    """Return a registration."""
    spec_id, version, content_hash, text = json.loads(value)
    return StoredSpecification(spec_id=spec_id, version=version, content_hash=content_hash, text=text)


def whole(value: bytes) -> bytes:
    """Return a value as it is stored whole."""
    return _WHOLE + value


def in_pieces(token: str, count: int) -> bytes:
    """Return what is stored in place of a value that is in so many pieces."""
    return _PIECES + json.dumps([token, count]).encode()


def pieces_of(stored: bytes) -> tuple[str, int] | None:
    """Return where a stored value is, if it is in pieces."""
    if stored[:1] == _WHOLE:
        return None
    token, count = json.loads(stored[1:])
    return token, count


def piece_keys(keys: Keys, pieces: tuple[str, int] | None) -> Iterator[bytes]:
    """Return the keys of a value's pieces."""
    if pieces is not None:
        for number in range(pieces[1]):
            yield keys.key("y", pieces[0], tail=number_key(number))


def encode_texts(*texts: str) -> bytes:
    """Return texts as bytes."""
    return json.dumps(texts).encode()


def decode_texts(value: bytes) -> Sequence[str]:
    """Return the texts that `encode_texts` made bytes of."""
    found: Sequence[str] = json.loads(value)
    return found
