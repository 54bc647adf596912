"""What an answer says about the next attempt."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

LONGEST_WAIT: Final = 86_400.0
"""Seconds that the other side may ask us to wait: a day."""


def retry_after(headers: Mapping[str, str], now: int) -> float | None:
    """
    Return the seconds that the header ``Retry-After`` asks for (RFC 9110, 10.2.3), at most a day; None: it is not there.

    Args:
        headers: by name in small letters.
        now: milliseconds since the epoch, for an answer that names a time.
    """
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdecimal():
        return min(float(text), LONGEST_WAIT)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return min(max(moment.timestamp() - now / 1000, 0.0), LONGEST_WAIT)
