"""Durations as text and as milliseconds."""

from __future__ import annotations

from datetime import timedelta

import pytest

from knhk.spec import format_duration, parse_duration
from knhk.spec.durations import MAX_DURATION, milliseconds


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("250ms", 250),
        ("30s", 30_000),
        ("15m", 900_000),
        ("2h", 7_200_000),
        ("3d", 259_200_000),
        ("1.5h", 5_400_000),
        ("0.001s", 1),
        ("0d", 0),
        ("007s", 7_000),
        ("36500d", MAX_DURATION),
    ],
)
def test_durations_are_read(text: str, expected: int) -> None:
    """A number and a unit are so many milliseconds."""
    assert parse_duration(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "s",
        "30",
        "30 s",
        " 30s",
        "30s\n",
        "-1s",
        "+1s",
        "1e3s",
        "1.s",
        ".5s",
        "1h30m",
        "1D",
        "1S",
        "0.0001s",
        "٣s",
        "36501d",
    ]
    + ["9" * 5_000 + "s"],
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    """Anything else is refused."""
    with pytest.raises(ValueError, match="a duration is"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("length", "text"),
    [
        (0, "0ms"),
        (1, "1ms"),
        (1_500, "1500ms"),
        (60_000, "1m"),
        (90_000, "90s"),
        (86_400_000, "1d"),
        (90_000_000, "25h"),
    ],
)
def test_durations_are_written_with_the_largest_exact_unit(length: int, text: str) -> None:
    """The unit is the largest that leaves a whole number."""
    assert format_duration(length) == text


def test_timedeltas_are_whole_milliseconds() -> None:
    """A timedelta is converted exactly."""
    assert milliseconds(timedelta(days=1, milliseconds=1)) == 86_400_001
    with pytest.raises(ValueError, match="milliseconds"):
        milliseconds(timedelta(microseconds=999))


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("PT30S", 30_000),
        ("PT0.25S", 250),
        ("PT1,5S", 1_500),
        ("PT1H30M", 5_400_000),
        ("P3D", 259_200_000),
        ("P2W", 1_209_600_000),
        ("P1W2DT3H", 788_400_000),
        ("P36500D", MAX_DURATION),
    ],
)
def test_iso_durations_are_read(text: str, milliseconds: int) -> None:
    """A duration of ISO 8601 of one length is as good as our own, which is how it is written again."""
    assert milliseconds == parse_duration(text)
    assert milliseconds == parse_duration(format_duration(milliseconds))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("P", "is written as"),
        ("PT", "is written as"),
        ("P1DT", "is written as"),
        ("P1H", "is written as"),
        ("PT1D", "is written as"),
        ("P-1D", "is written as"),
        ("P1M", "no one length"),
        ("P1Y", "no one length"),
        ("P36501D", "at most"),
        ("PT0.0001S", "is written as"),
    ],
)
def test_iso_durations_without_one_length_are_refused(text: str, why: str) -> None:
    """Months and years are of no one length, and half-written durations are none."""
    with pytest.raises(ValueError, match=why):
        parse_duration(text)
