"""The messages of etcd: what is in an answer beside what is asked for, and what is none. That etcd understands them is shown elsewhere."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from knhk.stores._etcd_messages import GRANT, RANGE, TRANSACTION, VERSION, Found, Outcome, Pair

HEADER = b"\x0a\x02\x18\x07"
ANSWERS = [
    # A number, eight bytes, some bytes, four bytes, each in a field of a later version; then a key under a lease.
    (RANGE.decode, HEADER + b"\xf8\x01\x96\x01" + b"\xf9\x01" + b"\0" * 8 + b"\xfa\x01\x02??" + b"\xfd\x01" + b"\0" * 4
     + b"\x12\x0b\x0a\x01k\x18\x06\x2a\x01v\x30\xac\x02" + b"\x18\x01\x20\x02",
     Found(7, [Pair(b"k", b"v", 6, 300)], more=True)),
    (RANGE.decode, HEADER, Found(7, [], more=False)),
    (GRANT.decode, HEADER + b"\x10\xff\xff\xff\xff\xff\xff\xff\xff\x7f\x18\x0a", 2**63 - 1),
    (TRANSACTION.decode, HEADER + b"\x10\x01" + b"\x1a\x00", (7, True, 1)),
    (TRANSACTION.decode, HEADER + b"\x1a\x00\x1a\x00" + b"\x10\x01", (7, True, 2)),
    (TRANSACTION.decode, HEADER + b"\x1a\x00\x1a\x00", (7, False, 2)),
    (VERSION.decode, HEADER + b"\x12\x053.5.9", "3.5.9"),
]  # fmt: skip


@pytest.mark.parametrize(("decode", "data", "expected"), ANSWERS)
def test_what_an_answer_says(decode: Callable[[bytes], object], data: bytes, expected: object) -> None:
    """Of an answer only that is read which is known, whatever else a newer server puts into it."""
    answer = decode(data)

    assert expected == (
        (answer.revision, answer.succeeded, len(answer.answers)) if isinstance(answer, Outcome) else answer
    )


@pytest.mark.parametrize(
    "data", [b"", b"\x0a", HEADER + b"\x12\x09short", HEADER + b"\x13", HEADER + b"\xf8", b"\x18\x01"]
)
def test_what_is_no_answer(data: bytes) -> None:
    """What breaks off, or has no header, is not taken for an answer."""
    with pytest.raises((ValueError, LookupError)):
        TRANSACTION.decode(data)
