"""Event logs as CSV: one event a row, the first row names the columns.

Rows of one case need not stand together, so the whole file is read before the first trace is given: what is kept of a row is
a number for its name and transition, and its time.
"""

from __future__ import annotations

import csv
from array import array
from collections.abc import Callable, Iterator
from typing import Final, Literal, TextIO

import attrs

from knhk.formats._log_text import MAX_NAME, MAX_PENDING, LoggedEvent, Trace, bounded, microseconds, refused

Order = Literal["time", "file"]

_NONE: Final = -(1 << 63)
"""Stands for no time among times; an ISO 8601 time is never that old."""

_KNOWN: Final = {
    "case": ("case", "case_id", "case:concept:name"),
    "task": ("task", "activity", "concept:name"),
    "time": ("time", "timestamp", "time:timestamp"),
    "lifecycle": ("lifecycle", "lifecycle:transition", "transition"),
}
"""The names by which columns are recognised, whatever their case."""


@attrs.frozen(kw_only=True)
class Columns:
    """
    Which column of a CSV file has what; None: recognised by its name.

    Args:
        case: the case's id; recognised: ``case``, ``case_id``, ``case:concept:name``.
        task: recognised: ``task``, ``activity``, ``concept:name``.
        time: recognised: ``time``, ``timestamp``, ``time:timestamp``; a log may have none.
        lifecycle: recognised: ``lifecycle``, ``lifecycle:transition``, ``transition``; a log may have none.
        separator: what stands between values; None: comma, semicolon or tab, whichever the first row has most of.
    """

    case: str | None = None
    task: str | None = None
    time: str | None = None
    lifecycle: str | None = None
    separator: str | None = None


def read_csv(stream: TextIO, *, columns: Columns, order: Order) -> Iterator[Trace]:
    """
    Yield the traces of a CSV log, cases in the order of their first rows.

    Args:
        stream: the text, opened with ``newline=""``.
        columns: which column has what.
        order: ``time`` sorts the events of a case by time, those of one time in the order of the file; ``file`` keeps the
            order of the file.  Without a column of times it is always ``file``.

    Raises:
        ParseError: a malformed row, with its line and the column.
    """
    rows = _Rows(stream, columns)
    names: dict[tuple[str, str], int] = {}
    cases: dict[str, tuple[array[int], array[int]]] = {}
    for case, task, lifecycle, time in rows.read():
        number = names.setdefault((task, lifecycle), len(names))
        kept = cases.get(case)
        if kept is None:
            kept = cases[case] = (array("l"), array("q"))
        kept[0].append(number)
        kept[1].append(time)
    spelt = list(names)
    for case, (numbers, times) in cases.items():
        sequence = range(len(numbers))
        ordered = sorted(sequence, key=times.__getitem__) if order == "time" else sequence
        yield Trace(
            case,
            tuple(
                LoggedEvent(*spelt[numbers[each]], None if times[each] == _NONE else times[each]) for each in ordered
            ),
        )


class _Rows:
    """The rows of the file as (case, task, lifecycle, time)."""

    def __init__(self, stream: TextIO, columns: Columns) -> None:
        self._stream = stream
        self._columns = columns
        self._pending = 0

    def read(self) -> Iterator[tuple[str, str, str, int]]:
        """Yield what each row says."""
        first = self._stream.readline(MAX_PENDING)
        if not first.strip():
            raise refused("line 1", "the log is empty; its first row names the columns")
        reader = csv.reader(self._lines(first), delimiter=self._separator(first), strict=True)
        try:
            yield from self._values(reader)
        except csv.Error as error:
            raise refused(f"line {max(1, reader.line_num)}", f"is no CSV: {error}") from None

    def _lines(self, first: str) -> Iterator[str]:
        yield first.removeprefix("\ufeff")
        number = 1
        while line := self._stream.readline(MAX_PENDING):
            number += 1
            self._pending += len(line)
            if self._pending >= MAX_PENDING:
                raise refused(f"line {number}", f"a single record is longer than {MAX_PENDING} characters")
            yield line

    def _separator(self, first: str) -> str:
        given = self._columns.separator
        if given is not None:
            if len(given) != 1 or given in '"\r\n ':
                raise refused("separator", f"{given!r} cannot separate values; one character can, such as ; or a tab")
            return given
        return max(",;\t", key=first.count)

    def _values(self, reader: Iterator[list[str]]) -> Iterator[tuple[str, str, str, int]]:
        heading = [each.strip() for each in next(reader)]
        width = len(heading)
        case_at = _find(heading, "case", self._columns.case)
        task_at = _find(heading, "task", self._columns.task)
        time_at = _find(heading, "time", self._columns.time)
        life_at = _find(heading, "lifecycle", self._columns.lifecycle)
        assert case_at is not None
        assert task_at is not None
        line = reader.line_num  # type: ignore[attr-defined]

        def place(at: int | None) -> Callable[[], str]:
            return lambda: f"line {begun}" if at is None else f"line {begun}, column {heading[at]}"

        case_place, task_place, life_place, time_place = map(place, (case_at, task_at, life_at, time_at))
        for row in reader:
            self._pending = 0
            # A record may span lines: it is named by the one on which it begins.
            begun, line = line + 1, reader.line_num  # type: ignore[attr-defined]
            if len(row) != width:
                if not row:
                    continue
                raise refused(f"line {begun}", f"the row has {len(row)} values; the first row names {width} columns")
            case, task = row[case_at], row[task_at]
            if not case or not task:
                missing = heading[task_at if case else case_at]
                raise refused(f"line {begun}, column {missing}", "is empty; every event has a case and a task")
            lifecycle = "complete" if life_at is None else row[life_at].strip().lower() or "complete"
            if len(case) + len(task) + len(lifecycle) > MAX_NAME:
                bounded(case, "name of the case", case_place)
                bounded(task, "name of the task", task_place)
                bounded(lifecycle, "transition of the life cycle", life_place)
            time = _NONE if time_at is None else microseconds(row[time_at], time_place)
            yield case, task, lifecycle, time


def _find(heading: list[str], what: str, given: str | None) -> int | None:
    """Return where a column is; None where it may be absent and is."""
    if given is not None:
        if heading.count(given) != 1:
            found = "no" if given not in heading else "more than one"
            raise refused("line 1", f"{found} column is called {given!r}; there are {_listed(heading)}")
        return heading.index(given)
    lowered = [each.lower() for each in heading]
    for name in _KNOWN[what]:
        if lowered.count(name) > 1:
            raise refused("line 1", f"more than one column is called {name!r}")
        if name in lowered:
            return lowered.index(name)
    if what in ("case", "task"):
        known = ", ".join(_KNOWN[what])
        raise refused(
            "line 1", f"no column for the {what}: name it, or call it one of {known}; there are {_listed(heading)}"
        )
    return None


def _listed(heading: list[str]) -> str:
    text = ", ".join(map(repr, heading[:20]))
    return text if len(text) <= 400 else text[:397] + "..."
