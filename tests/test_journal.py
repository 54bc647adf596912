"""Records as bytes: what goes in comes out, damage is always found, and only JSON goes in."""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knhk._codes import Code
from knhk.errors import DataError, JournalError
from knhk._plain import plain_data
from knhk.journal import VERSION, decode_batch, decode_snapshot, encode_batch, encode_snapshot

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=10,
)
RECORDS = st.lists(st.tuples(st.sampled_from(list(Code)), JSON, JSON), max_size=5)
BATCH = encode_batch(7, [(Code.CREATED, {"name": "Zoë", "n": [1, 2.5, None]}), (Code.STARTED,)])


def sealed(body: bytes, version: int = VERSION) -> bytes:
    """An envelope whose checksum is right."""
    checksum = zlib.crc32(body) if version == 1 else zlib.crc32(body, zlib.crc32(bytes([version])))
    return struct.pack("<BI", version, checksum) + body


@given(st.integers(0, 2**53), RECORDS)
def test_a_batch_comes_back(at: int, records: list[tuple[Any, ...]]) -> None:
    """Time and records of a batch are the same after reading, with the codes as codes."""
    got_at, got = decode_batch(encode_batch(at, records))
    assert (got_at, got) == (at, records)
    assert all(isinstance(record[0], Code) for record in got)


@given(st.dictionaries(TEXT, JSON))
def test_a_snapshot_comes_back(tree: dict[str, Any]) -> None:
    """A snapshot's tree is the same after reading."""
    assert decode_snapshot(encode_snapshot(tree)) == tree


@pytest.mark.parametrize("decode", [decode_batch, decode_snapshot])
def test_damage_of_any_byte_is_found(decode: Any) -> None:
    """Every single byte, changed to every other value, makes the entry unreadable."""
    for position in range(len(BATCH)):
        for value in range(256):
            if value != BATCH[position]:
                with pytest.raises(JournalError):
                    decode(BATCH[:position] + bytes([value]) + BATCH[position + 1 :])


@pytest.mark.parametrize("length", range(len(BATCH)))
def test_a_cut_off_entry_is_found(length: int) -> None:
    """An entry that ends early at any byte is a JournalError."""
    with pytest.raises(JournalError):
        decode_batch(BATCH[:length])


def test_trailing_bytes_are_found() -> None:
    """An entry with something behind it is a JournalError."""
    with pytest.raises(JournalError, match="checksum"):
        decode_batch(BATCH + b" ")


def test_a_batch_of_version_1_is_read() -> None:
    """What the first version wrote, byte for byte, is read as it was meant."""
    old = bytes.fromhex("01d007a4cd5b372c5b5b312c7b7d5d2c5b325d5d5d")

    assert (7, [(Code.CREATED, {}), (Code.STARTED,)]) == decode_batch(old)


@pytest.mark.parametrize("version", [0, VERSION + 1, 255])
def test_another_version_is_refused(version: int) -> None:
    """An entry of a version that this code does not know is refused, and the message says which."""
    with pytest.raises(JournalError, match=f"version {version}"):
        decode_batch(sealed(b"[0,[]]", version))


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff", b"null", b"[]", b"[1]", b"[1,2]", b"[1,[2]]", b"[1,[[]]]", b"[1,[[99]]]", b'["x",[]]']
)
def test_a_batch_of_the_wrong_form_is_refused(body: bytes) -> None:
    """A body with a right checksum that is no batch is still a JournalError."""
    with pytest.raises(JournalError):
        decode_batch(sealed(body))


@pytest.mark.parametrize("body", [b"", b"[]", b"1", b'"x"', b"nul"])
def test_a_snapshot_of_the_wrong_form_is_refused(body: bytes) -> None:
    """A body with a right checksum that is no mapping is still a JournalError."""
    with pytest.raises(JournalError):
        decode_snapshot(sealed(body))


def test_an_entry_is_readable() -> None:
    """Behind the head of five bytes, an entry is plain JSON."""
    assert json.loads(BATCH[5:]) == [7, [[1, {"name": "Zoë", "n": [1, 2.5, None]}], [2]]]


@given(st.dictionaries(TEXT, JSON))
def test_plain_data_is_an_equal_copy(data: dict[str, Any]) -> None:
    """JSON data comes back equal, and nothing mutable in it is shared."""
    got = plain_data(data, "it")
    assert got == data
    assert got is not data
    assert all(got[key] is not value for key, value in data.items() if isinstance(value, (dict, list)))


def test_no_data_is_empty_data() -> None:
    """None stands for no data."""
    assert plain_data(None, "it") == {}


def deep() -> Any:
    """A list too deep for the JSON writer."""
    inner: Any = []
    for _ in range(100_000):
        inner = [inner]
    return inner


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), float("-inf"), "\ud800", {"\udc00": 1}, {1, 2}, b"bytes", object(), {(1, 2): 3}],
)
def test_what_is_no_json_is_refused(value: Any) -> None:
    """NaN, infinities, lone surrogates and foreign objects are a DataError that says what was looked at."""
    for data in ({"x": value}, {"x": [value]}, {"x": {"y": value}}):
        with pytest.raises(DataError, match="the output is not JSON"):
            plain_data(data, "the output")


def test_data_without_end_is_refused() -> None:
    """Data that contains itself, or is nested too deep to be written, is a DataError."""
    loop: dict[str, Any] = {}
    loop["loop"] = loop
    with pytest.raises(DataError):
        plain_data(loop, "it")
    with pytest.raises(DataError):
        plain_data({"x": deep()}, "it")


@pytest.mark.parametrize("data", [[], [1], "text", 1, 1.5, True])
def test_data_that_is_no_mapping_is_refused(data: Any) -> None:
    """What is no mapping is refused, and its type is named."""
    with pytest.raises(DataError, match=f"must be a mapping, not {type(data).__name__}"):
        plain_data(data, "it")
