"""Durations as a modeller writes them: ``250ms``, ``30s``, ``1.5h``, ``3d``; stored as whole milliseconds."""

from __future__ import annotations

import re
from datetime import timedelta
from fractions import Fraction

UNITS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
"""Milliseconds by unit, ascending."""

MAX_DURATION = 36_500 * UNITS["d"]
"""The longest duration: a hundred years of 365 days."""

_PATTERN = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,15})?)(ms|s|m|h|d)")


def parse_duration(text: str) -> int:
    """
    Read a duration.

    Args:
        text: a number, decimals allowed, and at once its unit: ``ms``, ``s``, ``m``, ``h`` or ``d``.

    Returns:
        Milliseconds.

    Raises:
        ValueError: it is not written so, is not a whole number of milliseconds, or is longer than `MAX_DURATION`.
    """
    match = _PATTERN.fullmatch(text)
    if match is None:
        raise ValueError('a duration is a number and a unit (ms, s, m, h or d), such as "250ms", "30s" or "3d"')
    milliseconds = Fraction(match[1]) * UNITS[match[2]]
    if milliseconds.denominator != 1:
        raise ValueError("a duration is a whole number of milliseconds")
    if milliseconds > MAX_DURATION:
        raise ValueError(f"a duration is at most {format_duration(MAX_DURATION)}")
    return int(milliseconds)


def format_duration(milliseconds: int) -> str:
    """Write milliseconds with the largest unit that leaves a whole number: ``"90m"``, ``"1500ms"``."""
    for unit, length in reversed(UNITS.items()):
        if milliseconds and milliseconds % length == 0:
            return f"{milliseconds // length}{unit}"
    return f"{milliseconds}ms"


def milliseconds(span: timedelta) -> int:
    """A timedelta in whole milliseconds; what is finer is a ValueError."""
    whole, rest = divmod(span, timedelta(milliseconds=1))
    if rest:
        raise ValueError(f"{span!r} is not a whole number of milliseconds")
    return whole
