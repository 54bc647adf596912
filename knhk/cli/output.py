"""What commands print: text and tables for people, JSON for programs, progress on stderr."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, Self, TypeVar

from rich import box
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

_T = TypeVar("_T")

_DRAWN: Final = 1000
"""Rows that a table may have to be fitted into the terminal, which costs time for each."""

_STYLES: Final = {
    "completed": "green",
    "failed": "red",
    "deadlocked": "red",
    "cancelled": "dim",
    "suspended": "yellow",
}
_CONTROL: Final = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}


def clean(text: str) -> str:
    """Make control characters visible: what somebody called a task must not steer a terminal."""
    return text.translate(_CONTROL)


def say(line: str = "") -> None:
    """Print a line of text for people."""
    # Not through click: a progress bar on the same terminal takes the place of sys.stdout to keep out of the way.
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def note(line: str) -> None:
    """Print a remark that is not part of the answer, on stderr."""
    sys.stderr.write(line + "\n")


def say_json(document: object) -> None:
    """Print one JSON document on a line; ASCII, so that every terminal and pipe carries it."""
    say(json.dumps(document, separators=(", ", ": ")))


def json_text(value: object) -> str:
    """Return JSON for people, on one line."""
    return clean(json.dumps(value, ensure_ascii=False))


def say_fields(fields: Iterable[tuple[str, str]]) -> None:
    """Print names and values; what has no value is left out."""
    for name, value in fields:
        if value:
            first, *rest = value.split("\n")
            say(f"{name:<11}{first}".rstrip())
            for line in rest:
                say(f"{'':<11}{line}".rstrip())


def say_table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, whole: Sequence[str] = ()) -> None:
    """
    Print a table; nothing at all without rows.

    Args:
        columns: the headings.
        rows: the cells; None is an empty one.
        whole: columns that are never folded, such as ids.
    """
    cells = [["" if value is None else clean(str(value)) for value in row] for row in rows]
    if sys.stdout.isatty() and len(cells) <= _DRAWN:
        _draw(columns, cells, whole)
    elif cells:
        _align([list(columns), *cells])


def _draw(columns: Sequence[str], cells: Sequence[Sequence[str]], whole: Sequence[str]) -> None:
    """Fit a table into the terminal."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", show_edge=False)
    for name in columns:
        table.add_column(name, no_wrap=name in whole, overflow="fold")
    for row in cells:
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    console = Console()
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        say(line.rstrip())


def _align(rows: Sequence[Sequence[str]]) -> None:
    """Print columns under one another, neither folded nor cut, for pipes and for what is long."""
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        say("  ".join(set_cell_size(cell, width) for cell, width in zip(row, widths, strict=True)).rstrip())


def local_time(at: int | None) -> str:
    """Return milliseconds since the epoch as a time where the reader is; "" for None."""
    if at is None:
        return ""
    return datetime.fromtimestamp(at / 1000, UTC).astimezone().isoformat(sep=" ", timespec="milliseconds")


def utc_time(at: int | None) -> str | None:
    """Return milliseconds since the epoch as programs read it."""
    if at is None:
        return None
    return datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def counted(count: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun."""
    return f"{count} {noun if count == 1 else plural or noun + 's'}"


class Slow:
    """
    A sign of progress on stderr for work that may take long: it shows itself after a second, and only on a terminal.

    Args:
        description: what is done.
        aside: whether lines that are printed meanwhile are none of the answer, and go their own way.
        console: for tests.
        delay: seconds before it shows itself.
    """

    def __init__(
        self, description: str, *, aside: bool = False, console: Console | None = None, delay: float = 1.0
    ) -> None:
        shows = sys.stderr.isatty() if console is None else console.is_terminal
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            TimeElapsedColumn(),
            console=Console(stderr=True) if console is None else console,
            transient=True,
            # Lines of the answer appear above the bar on the same terminal; elsewhere they go their own way.
            redirect_stdout=sys.stdout.isatty() and not aside,
            redirect_stderr=False,
        )
        self._task = self._progress.add_task(clean(description), total=None)
        self._timer = threading.Timer(delay, self._progress.start) if shows else None

    def __enter__(self) -> Self:
        if self._timer is not None:
            self._timer.daemon = True
            self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Get out of the way, for good: the answer comes."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
            timer.join()
            self._progress.stop()

    def describe(self, description: str) -> None:
        """Say what is being done now."""
        self._progress.update(self._task, description=clean(description))

    def count(self, things: Iterable[_T], noun: str) -> Iterator[_T]:
        """Hand things on, and show how many there were."""
        for number, thing in enumerate(things, 1):
            if number % 100 == 0:
                self.describe(f"{number} {noun}")
            yield thing
