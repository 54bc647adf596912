"""The times of a schedule: when the next is, and which was the last that has passed."""

from __future__ import annotations

import calendar
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from importlib import import_module
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from knhk._schema import compile_schema
from knhk.errors import DataError, MissingExtra, Problem
from knhk.spec import Schedule, Specification
from knhk.spec.repeats import Repeat, parse_repeat

NextTime = Callable[[int], int | None]
"""The next time of a schedule after a time, both in milliseconds since the epoch; None: there is none."""

_SPANS: Final = tuple(minutes * 60_000 for minutes in (1, 60, 1_440, 44_640, 527_040))
"""How far back a time that has passed is looked for: a minute, an hour, a day, a month, a year."""


def schedule_problems(specification: Specification) -> tuple[Problem, ...]:
    """
    Return what keeps a well-formed schedule from being kept: an unknown zone, a wrong cron expression, data that do not fit.

    Raises:
        MissingExtra: it has a cron expression, and the library for that is not installed.
    """
    schedule = specification.schedule
    if schedule is None:
        return ()
    found = []
    zone = _zone(schedule.zone)
    if zone is None:
        found.append(Problem("schedule.zone", f"there is no time zone {schedule.zone!r}"))
    if schedule.cron is not None:
        library = _library()
        try:
            next(library.CronSim(schedule.cron, datetime(2024, 1, 1, tzinfo=UTC)))
        except library.CronSimError as error:
            found.append(Problem("schedule.cron", f"{schedule.cron!r} is no cron expression: {error}"))
        except StopIteration:
            found.append(Problem("schedule.cron", f"{schedule.cron!r} never comes"))
    if specification.data is not None:
        try:
            compile_schema(specification.data)(first_data(schedule, 0))
        except DataError as error:
            found.append(Problem("schedule.data", str(error)))
    return tuple(found)


def first_data(schedule: Schedule, at: int) -> dict[str, Any]:
    """Return the first data of the case of an occurrence."""
    data = dict(schedule.data or {})
    if schedule.time is not None:
        data[schedule.time] = iso_text(at)
    return data


def iso_text(at: int) -> str:
    """Return a time as ISO 8601 text: ``2026-01-31T08:00:00Z``, with milliseconds where there are any."""
    moment = _moment(at, UTC) + timedelta(milliseconds=at % 1000)
    return f"{moment.replace(tzinfo=None).isoformat(timespec='milliseconds' if at % 1000 else 'seconds')}Z"


def times_of(schedule: Schedule, anchor: int) -> NextTime:
    """
    Return what tells the times of a schedule.

    Args:
        schedule: without problems.
        anchor: when it was registered, in milliseconds since the epoch.
    """
    if schedule.every is not None:
        every = schedule.every
        return lambda after: anchor + (max(after - anchor, 0) // every + 1) * every
    zone = _zone(schedule.zone) or UTC
    if schedule.repeat is not None:
        return _repeated(parse_repeat(schedule.repeat), zone)
    return _cron(schedule.cron or "", zone)


def last_before(times: NextTime, first: int, now: int) -> int:
    """Return the last time that is not after now; `first` is one of those."""
    begin = next((now - span for span in _SPANS if now - span > first and (times(now - span) or now + 1) <= now), first)
    last = first if begin == first else times(begin) or first
    while (following := times(last)) is not None and following <= now:
        last = following
    return last


def _cron(expression: str, zone: tzinfo) -> NextTime:
    library = _library()

    def following(after: int) -> int | None:
        found: datetime
        for found in library.CronSim(expression, _moment(after, zone)):
            at = _milliseconds(found)
            # On a day with an hour that comes twice the library may step back by it.
            if at > after:
                return at
        return None

    return following


def _repeated(repeat: Repeat, zone: tzinfo) -> NextTime:
    start = repeat.start if repeat.start.tzinfo is not None else repeat.start.replace(tzinfo=zone)

    def at(number: int) -> int | None:
        """The time of this number, from 0; its date is reckoned in the zone, so it keeps its time of day."""
        if repeat.count is not None and number >= repeat.count:
            return None
        months = start.month - 1 + number * repeat.months
        year, month = start.year + months // 12, months % 12 + 1
        try:
            day = min(start.day, calendar.monthrange(year, month)[1])
            moved = start.replace(year=year, month=month, day=day, fold=0) + timedelta(days=number * repeat.days)
            return _milliseconds(moved) + number * repeat.rest
        except (ValueError, OverflowError):
            # Beyond the last year of the calendar.
            return None

    def following(after: int) -> int | None:
        low, high = 0, 1
        while (found := at(high)) is not None and found <= after:
            low, high = high, high * 2
        while low < high:
            middle = (low + high) // 2
            found = at(middle)
            if found is not None and found <= after:
                low = middle + 1
            else:
                high = middle
        return at(low)

    return following


def _zone(name: str) -> tzinfo | None:
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def _moment(at: int, zone: tzinfo) -> datetime:
    return datetime.fromtimestamp(at // 1000, zone)


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _library() -> Any:
    try:
        return import_module("cronsim")
    except ImportError as error:
        raise MissingExtra("schedule", "a cron expression") from error
