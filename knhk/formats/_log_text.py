"""What the readers of event logs share: traces, places in errors, bounds, times."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, NamedTuple

import attrs

from knhk.errors import ParseError, Problem

MAX_NAME: Final = 1_000
"""The longest name of a case, task or transition of the life cycle, in characters."""

MAX_DEPTH: Final = 64
"""How deep elements of an XES file may be nested."""

MAX_PENDING: Final = 4 * 1024 * 1024
"""The longest single piece of text (a start tag, a comment, a CSV record), in bytes or characters."""

_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - what has no zone is taken for UTC
_EPOCH_UTC: Final = datetime(1970, 1, 1, tzinfo=UTC)

CHUNK: Final = 256 * 1024
"""How much is read at once, in bytes."""


class LoggedEvent(NamedTuple):
    """
    One event of a log.

    Args:
        task: the name that the log gives it.
        lifecycle: the transition of the life cycle in lower case; ``complete`` where the log has none.
        time: microseconds since the epoch, UTC; None where the log has none.
    """

    task: str
    lifecycle: str = "complete"
    time: int | None = None


@attrs.frozen
class Trace:
    """The events of one case, in order."""

    case: str
    events: tuple[LoggedEvent, ...]


def refused(place: str, message: str) -> ParseError:
    """Return the error for one malformed place."""
    return ParseError([Problem(place, message)], subject="the event log")


# PERF: a place is a callable below, since making its text costs as much as reading an event, and is needed only for errors.


def bounded(text: str, what: str, place: Callable[[], str]) -> str:
    """Return the text; raises ParseError where it is too long for a name."""
    if len(text) > MAX_NAME:
        raise refused(place(), f"the {what} has {len(text)} characters; at most {MAX_NAME} are read")
    return text


def microseconds(text: str, place: Callable[[], str]) -> int:
    """Return a time in ISO 8601 as microseconds since the epoch; without a zone it is UTC."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        shown = text if len(text) <= 40 else text[:37] + "..."
        message = f"{shown!r} is no time in ISO 8601, such as 2026-03-01T09:30:00+01:00"
        raise refused(place(), message) from None
    since = moment - (_EPOCH if moment.tzinfo is None else _EPOCH_UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
