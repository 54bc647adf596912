"""Durations as a modeller writes them: ``250ms``, ``30s``, ``1.5h``, ``3d``; stored as whole milliseconds."""

from __future__ import annotations

import re
from datetime import timedelta
from fractions import Fraction

UNITS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
"""Milliseconds by unit, ascending."""

MAX_DURATION = 36_500 * UNITS["d"]
"""The longest duration: a hundred years of 365 days."""

_ISO = re.compile(
    r"P(?!$)(?:([0-9]{1,6})Y)?(?:([0-9]{1,6})M)?(?:([0-9]{1,6})W)?(?:([0-9]{1,6})D)?"
    r"(?:T(?!$)(?:([0-9]{1,9})H)?(?:([0-9]{1,9})M)?(?:([0-9]{1,9}(?:[.,][0-9]{1,3})?)S)?)?"
)
_PATTERN = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,15})?)(ms|s|m|h|d)")


def parse_duration(text: str) -> int:
    """
    Read a duration.

    Args:
        text: a number, decimals allowed, and at once its unit: ``ms``, ``s``, ``m``, ``h`` or ``d``; or as ISO 8601 has it,
            without years and months, which have no one length: ``P3D``, ``PT1H30M``, ``P2W``.

    Returns:
        Milliseconds.

    Raises:
        ValueError: it is not written so, is not a whole number of milliseconds, or is longer than `MAX_DURATION`.
    """
    if text.startswith("P"):
        months, days, rest = parse_iso(text)
        if months:
            raise ValueError("years and months have no one length: say days")
        exact = Fraction(days * UNITS["d"] + rest)
        return _within(exact)
    match = _PATTERN.fullmatch(text)
    if match is None:
        raise ValueError('a duration is a number and a unit (ms, s, m, h or d), such as "250ms", "30s" or "3d"')
    milliseconds = Fraction(match[1]) * UNITS[match[2]]
    if milliseconds.denominator != 1:
        raise ValueError("a duration is a whole number of milliseconds")
    return _within(milliseconds)


def parse_iso(text: str) -> tuple[int, int, int]:
    """
    Read a duration as ISO 8601 has it: ``P1Y2M10DT2H30M``, ``P2W``.

    Returns:
        Months, days, and milliseconds beside them: in a calendar the three have no common unit.

    Raises:
        ValueError: it is not written so.
    """
    match = _ISO.fullmatch(text)
    if match is None:
        raise ValueError('a duration of ISO 8601 is written as "P3D", "PT1H30M", "P2W" or "P1M"')
    years, months, weeks, days, hours, minutes = (int(each or 0) for each in match.groups()[:-1])
    seconds = Fraction((match[7] or "0").replace(",", "."))
    rest = hours * UNITS["h"] + minutes * UNITS["m"] + int(seconds * UNITS["s"])
    return years * 12 + months, weeks * 7 + days, rest


def _within(milliseconds: Fraction) -> int:
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
