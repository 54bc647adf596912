"""Times and repeating intervals as ISO 8601 writes them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

import attrs

from knhk.spec.durations import parse_iso

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MOMENT: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_REPEAT: Final = re.compile(r"R(-1|[0-9]{0,9})/([^/]+)/([^/]+)")


@attrs.frozen(kw_only=True)
class Repeat:
    """
    A repeating interval: times at equal distances.

    Args:
        count: how many times there are; None: without end.
        start: the first of them; without an offset it is in the zone of whoever asks.
        months, days, rest: the distance; the rest is in milliseconds.
    """

    count: int | None
    start: datetime
    months: int
    days: int
    rest: int


def parse_repeat(text: str) -> Repeat:
    """
    Read a repeating interval: ``R5/2026-01-31T08:00:00Z/P1M`` is five times, the first of them the start.

    Raises:
        ValueError: it is not written so, or its distance is nothing.
    """
    match = _REPEAT.fullmatch(text)
    if match is None:
        raise ValueError('it is written as "R/2026-01-31T08:00:00Z/P1M", with a number behind R where there is an end')
    count = None if match[1] in ("", "-1") else int(match[1])
    start = parse_moment(match[2])
    months, days, rest = parse_iso(match[3])
    if not months and not days and rest < 1_000:
        raise ValueError("its times are at least a second apart")
    return Repeat(count=count, start=start, months=months, days=days, rest=rest)


def is_moment(text: str) -> bool:
    """Whether a text begins as a time of ISO 8601 does, and as no expression can."""
    return _MOMENT.match(text) is not None


def milliseconds_of(text: str) -> int:
    """
    Read a time of ISO 8601 with an offset as milliseconds since the epoch.

    Raises:
        ValueError: it is not written so.
    """
    moment = parse_moment(text)
    if moment.tzinfo is None:
        raise ValueError('a time needs its offset, "Z" or "+01:00", to be one')
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def parse_moment(text: str) -> datetime:
    """
    Read a time of ISO 8601, with date and time of day.

    Raises:
        ValueError: it is not written so.
    """
    if "T" not in text:
        raise ValueError('a time has a date and a time of day, such as "2026-01-31T08:00:00Z"')
    return datetime.fromisoformat(text)
