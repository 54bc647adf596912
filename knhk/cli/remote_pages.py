"""How the answers of a service are read: whole lists of their pages, and times."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, Final, TypeVar

from knhk.client import Page

T = TypeVar("T")

LONGEST_PAGE: Final = 1000


def pages(page: Callable[[str | None], Page[T]]) -> Iterator[T]:
    """Yield what is on all pages."""
    cursor: str | None = None
    while True:
        found = page(cursor)
        yield from found.items
        cursor = found.next
        if cursor is None:
            return


def milliseconds(written: Any) -> int | None:
    """Return a time of the service's in milliseconds since the epoch."""
    return None if written is None else round(datetime.fromisoformat(written).timestamp() * 1000)
