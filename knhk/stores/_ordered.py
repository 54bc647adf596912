"""Texts and numbers as bytes whose order is theirs, for stores that keep their lists in the order of bytes."""

from __future__ import annotations

from typing import Final

from knhk.errors import StoreError

NUMBER_LENGTH: Final = 8
"""Bytes of a number."""

_OFFSET: Final = 2**63


def number_key(number: int) -> bytes:
    """Return a number of 64 bits as bytes that are ordered as numbers are; raises OverflowError beyond."""
    return (number + _OFFSET).to_bytes(NUMBER_LENGTH, "big")


def read_number(key: bytes) -> int:
    """Return the number that `number_key` made these bytes of."""
    return int.from_bytes(key, "big") - _OFFSET


def text_key(text: str) -> bytes:
    """
    Return a text as bytes that are ordered by code points, and of which none is the beginning of another's.

    As FoundationDB's tuple layer has it: a zero byte becomes 00 FF, and the end is below everything that may follow.
    """
    return text.encode().replace(b"\0", b"\0\xff") + b"\0\x01"


def read_text(key: bytes) -> tuple[str, bytes]:
    """Return the text at the beginning of such bytes, and what is behind it."""
    end = key.index(b"\0\x01")
    return key[:end].replace(b"\0\xff", b"\0").decode(), key[end + 2 :]


class storable:  # noqa: N801 - a context, as of contextlib
    """Raises StoreError for a text or a number that has no place in a store; a class, as every step goes through it."""

    __slots__ = ()

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Say of an error of encoding that it is the store's."""
        if isinstance(error, UnicodeEncodeError | OverflowError):
            raise StoreError(f"a value cannot be stored: {error}") from error
