"""Records <-> bytes: versioned, checksummed, readable.

A batch is what one command wrote: a version byte, a CRC-32 of version and rest, then compact JSON ``[at, [record, ...]]``.
A snapshot is the same envelope around the tree of `CaseState.dump`.
Damage anywhere in either is found by the checksum, never skipped.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

from knhk._codes import Code, Record
from knhk._hot import dump_tree
from knhk.errors import JournalError

VERSION: Final = 2
"""The version that this code writes; it reads all versions up to it. Version 2 added the records 19 to 21, and its
checksum covers the version byte too."""

_HEAD: Final = struct.Struct("<BI")
_SEED: Final = zlib.crc32(bytes([VERSION]))
"""The checksum of the version byte, with which the body's goes on."""


def encode_batch(at: int, records: Sequence[Record]) -> bytes:
    """Return the bytes of what one command wrote at this time."""
    body = json_bytes((at, records))
    return _HEAD.pack(VERSION, zlib.crc32(body, _SEED)) + body


def encode_text(at: int, records: bytes) -> bytes:
    """Return what `encode_batch` does, of records that are JSON already, without the brackets around them."""
    return _sealed(b"[%d,[%b]]" % (at, records))


def decode_batch(data: bytes) -> tuple[int, list[Record]]:
    """Read a batch; raises JournalError for anything else."""
    tree = _open(data)
    try:
        at, records = tree
        return int(at), [(Code(record[0]), *record[1:]) for record in records]
    except (TypeError, ValueError, IndexError) as error:
        message = f"the journal batch has the wrong form: {error}"
        raise JournalError(message) from error


def read_records(data: bytes) -> list[list[Any]]:
    """Return the records of a batch as they are written, their codes as plain numbers: for whoever only counts them."""
    records: list[list[Any]] = _open(data)[1]
    return records


def encode_snapshot(tree: Mapping[str, Any]) -> bytes:
    """Return the bytes of a snapshot."""
    return _sealed(json_bytes(tree))


def decode_snapshot(data: bytes) -> dict[str, Any]:
    """Read a snapshot; raises JournalError for anything else."""
    tree = _open(data)
    if not isinstance(tree, dict):
        message = "the snapshot has the wrong form"
        raise JournalError(message)
    return tree


def json_bytes(tree: object) -> bytes:
    """Return a JSON tree as compact UTF-8."""
    body = dump_tree(tree)
    if body is None:
        body = json.dumps(tree, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()
    return body


def _sealed(body: bytes) -> bytes:
    return _HEAD.pack(VERSION, zlib.crc32(body, _SEED)) + body


def _checksum(version: int, body: bytes) -> int:
    return zlib.crc32(body) if version == 1 else zlib.crc32(body, zlib.crc32(bytes([version])))


def _open(data: bytes) -> Any:
    if len(data) < _HEAD.size:
        message = f"the journal entry ends after {len(data)} bytes"
        raise JournalError(message)
    version, checksum = _HEAD.unpack_from(data)
    if not 1 <= version <= VERSION:
        message = f"the journal entry has version {version}; this KNHK reads versions 1 to {VERSION}"
        raise JournalError(message)
    body = data[_HEAD.size :]
    if _checksum(version, body) != checksum:
        message = "the journal entry is damaged: its checksum does not fit"
        raise JournalError(message)
    try:
        return json.loads(body)
    except ValueError as error:
        message = f"the journal entry is no JSON: {error}"
        raise JournalError(message) from error
