"""
The messages of etcd's API that the store needs, as Protocol Buffers have them (``rpc.proto`` of etcd 3.4).

What is sent is put together as bytes here, and of an answer only that is read which somebody asks for: a step has ten operations
and their answers say nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Final, Generic, TypeVar

import attrs

from knhk.errors import StoreError

_NARROWEST: Final = 2
_NUMBER, _LONG, _BYTES, _SHORT = 0, 1, 2, 5
_MORE: Final = 0x80
_SMALL: Final = tuple(bytes([each]) for each in range(_MORE))
_Answer = TypeVar("_Answer")


# --- what is sent -----------------------------------------------------------------------------------------------------


def _varint(number: int) -> bytes:
    if number < _MORE:
        return _SMALL[number]
    found = bytearray()
    while number >= _MORE:
        found.append(number & 0x7F | _MORE)
        number >>= 7
    found.append(number)
    return bytes(found)


def _number(field: int, number: int) -> bytes:
    return _varint(field << 3) + _varint(number)


def _field(field: int, value: bytes) -> bytes:
    return _SMALL[field << 3 | _BYTES] + _varint(len(value)) + value


def put(key: bytes, value: bytes, lease: int = 0) -> bytes:
    """Return an operation that writes a key."""
    body = b"\x0a%b%b\x12%b%b" % (_varint(len(key)), key, _varint(len(value)), value)
    return _field(2, body + _number(3, lease) if lease else body)


def keep(key: bytes) -> bytes:
    """Return an operation that takes a key from its lease: it stays, as it is."""
    return _field(2, _field(1, key) + _number(5, 1))


def delete(key: bytes) -> bytes:
    """Return an operation that removes a key."""
    return _field(3, _field(1, key))


def read(key: bytes, end: bytes = b"", *, limit: int = 0, revision: int = 0) -> bytes:
    """Return an operation that reads what `keys_from` asks for."""
    return _field(1, keys_from(key, end, limit=limit, revision=revision))


def keys_from(key: bytes, end: bytes = b"", *, limit: int = 0, revision: int = 0, backwards: bool = False) -> bytes:
    """Return the question for a key, or those from it up to but not `end`, at a revision or as they are."""
    parts = [_field(1, key)]
    if end:
        parts.append(_field(2, end))
    if limit:
        parts.append(_number(3, limit))
    if revision:
        parts.append(_number(4, revision))
    if backwards:
        # Descending, by key.
        parts += [_number(5, 2), _number(6, 0)]
    return b"".join(parts)


def unchanged(key: bytes, revision: int) -> bytes:
    """Return a condition: the key was last written at this revision; 0: it is not there."""
    return b"\x08\x00\x10\x02" + _field(3, key) + _number(6, revision)


def unchanged_since(key: bytes, end: bytes, revision: int) -> bytes:
    """Return a condition: none of the keys from here to before `end` was written after this revision."""
    place = _varint(64 << 3 | _BYTES) + _varint(len(end)) + end
    return b"\x08\x02\x10\x02" + _field(3, key) + _number(6, revision + 1) + place


def transaction(compare: Iterable[bytes], success: Iterable[bytes], failure: Iterable[bytes] = ()) -> bytes:
    """
    Return a transaction: what is done where all conditions hold, and where they do not.

    One behind another is one: with the conditions and operations of both.
    """
    parts = [_field(1, each) for each in compare]
    parts += [_field(2, each) for each in success]
    parts += [_field(3, each) for each in failure]
    return b"".join(parts)


def nested(body: bytes) -> bytes:
    """Return a transaction as an operation of another."""
    return _field(4, body)


def folded(operations: Sequence[bytes], wide: int, most: int) -> list[bytes]:
    """
    Return operations as so many transactions within a transaction, of which etcd counts each by itself.

    Args:
        operations: what is to be done.
        wide: how many transactions.
        most: how many operations each may have, counting those of the transactions within it.
    """
    size = -(-len(operations) // wide)
    parts = [operations[at : at + size] for at in range(0, len(operations), size)]
    if size > most < _NARROWEST:
        raise StoreError(
            "a step has more operations than etcd takes: give it a higher --max-txn-ops and say so in the URL"
        )
    inner = most // 2
    return [nested(transaction((), each if len(each) <= most else folded(each, inner, most - inner))) for each in parts]


def login(name: str, password: str) -> bytes:
    """Return the question for a token."""
    return _field(1, name.encode()) + _field(2, password.encode())


def lease_for(seconds: int) -> bytes:
    """Return the question for a lease."""
    return _number(1, seconds)


# --- what is answered -------------------------------------------------------------------------------------------------


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    found, shift = 0, 0
    while True:
        byte = data[at]
        at += 1
        found |= (byte & 0x7F) << shift
        if byte < _MORE:
            return found, at
        shift += 7


def _fields(data: bytes) -> tuple[dict[int, int], list[tuple[int, bytes]]]:
    """Return the numbers of a message by their field, and what else is in it, in order; raises ValueError, LookupError."""
    numbers: dict[int, int] = {}
    others: list[tuple[int, bytes]] = []
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        kind = key & 7
        if kind == _NUMBER:
            numbers[key >> 3], at = _read_varint(data, at)
            continue
        if kind == _BYTES:
            length, at = _read_varint(data, at)
        elif kind in (_LONG, _SHORT):
            length = 8 if kind == _LONG else 4
        else:
            raise ValueError(f"a field of kind {kind}")
        others.append((key >> 3, data[at : at + length]))
        at += length
    if at != len(data):
        raise ValueError("a message that breaks off")
    return numbers, others


@attrs.frozen
class Pair:
    """A key that was read, its value, the revision of its last write, and the lease that it ends with, or 0."""

    key: bytes
    value: bytes
    revision: int
    lease: int

    @classmethod
    def decode(cls, data: bytes) -> Pair:
        """Return what a message holds."""
        numbers, others = _fields(data)
        named = dict(others)
        return cls(named[1], named.get(5, b""), numbers.get(3, 0), numbers.get(6, 0))


@attrs.frozen
class Found:
    """
    The answer to a question for keys.

    Args:
        revision: at which it was answered.
        pairs: what was found, in order.
        more: whether there are more than were asked for.
    """

    revision: int
    pairs: list[Pair]
    more: bool

    @classmethod
    def decode(cls, data: bytes) -> Found:
        """Return what a message holds."""
        numbers, others = _fields(data)
        pairs = [Pair.decode(value) for field, value in others if field == 2]
        return cls(_revision(dict(others)[1]), pairs, bool(numbers.get(3)))


@attrs.frozen
class Outcome:
    """
    The answer to a transaction.

    Args:
        revision: that it made, or at which it read.
        succeeded: whether its conditions held.
        message: what says so.
    """

    revision: int
    succeeded: bool
    message: bytes = attrs.field(repr=False)

    @classmethod
    def decode(cls, data: bytes) -> Outcome:
        """Return what a message holds."""
        if data[:1] == b"\x0a":
            # As etcd writes it: the header, that it succeeded, and the answers, which most never look at.
            length, at = _read_varint(data, 1)
            if data[at + length : at + length + 2] == b"\x10\x01":
                return cls(_revision(data[at : at + length]), True, data)
        numbers, others = _fields(data)
        return cls(_revision(dict(others)[1]), bool(numbers.get(2)), data)

    @cached_property
    def answers(self) -> list[bytes]:
        """The answers of the operations, in order."""
        return [value for field, value in _fields(self.message)[1] if field == 3]

    def found(self, at: int) -> Found:
        """Return what an operation has read."""
        return Found.decode(self._of(at, 1))

    def nested(self, at: int) -> Outcome:
        """Return the outcome of a transaction that was an operation."""
        return Outcome.decode(self._of(at, 4))

    def _of(self, at: int, kind: int) -> bytes:
        return dict(_fields(self.answers[at])[1])[kind]


def _revision(header: bytes) -> int:
    """Return the revision that the header of an answer tells."""
    return _fields(header)[0].get(3, 0)


def _lease(data: bytes) -> int:
    return _fields(data)[0][2]


def _second(data: bytes) -> str:
    return dict(_fields(data)[1])[2].decode()


@attrs.frozen
class Method(Generic[_Answer]):
    """
    What can be asked of a cluster.

    Args:
        name: service and method.
        decode: what an answer means; raises ValueError or LookupError where it is none.
    """

    name: str
    decode: Callable[[bytes], _Answer]


RANGE: Final = Method("KV/Range", Found.decode)
TRANSACTION: Final = Method("KV/Txn", Outcome.decode)
GRANT: Final = Method("Lease/LeaseGrant", _lease)
LOGIN: Final = Method("Auth/Authenticate", _second)
VERSION: Final = Method("Maintenance/Status", _second)
