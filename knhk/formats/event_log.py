"""Event logs as a stream of traces: XES (IEEE 1849) and CSV, plain or compressed with gzip.

A trace is given only when it was read as a whole; a malformed place raises, and nothing half read is a result.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from knhk.errors import ParseError, Problem
from knhk.formats._csv_log import Columns, Order, read_csv
from knhk.formats._log_text import LoggedEvent, Trace, refused
from knhk.formats._xes import read_xes

__all__ = ("Columns", "LoggedEvent", "Order", "Trace", "read_event_log")


def read_event_log(path: str | Path, *, columns: Columns | None = None, order: Order = "time") -> Iterator[Trace]:
    """
    Yield the traces of an event log.

    XES is read as a stream: memory holds one trace at a time.
    In CSV the rows of a case may stand anywhere, so memory grows with the number of events (16 bytes each) and cases.
    XES gives a trace's order; it is kept.

    Args:
        path: a file that ends in ``.xes``, ``.csv``, ``.xes.gz`` or ``.csv.gz``; CSV is UTF-8.
        columns: which column of a CSV file has what; without, columns are recognised by their names.
        order: of the events of a case in CSV: by ``time``, stably, where there is a column of times, or as in the ``file``.

    Raises:
        OSError: the file cannot be read; it is opened when the first trace is asked for.
        ParseError: a place is malformed; it is named by file, line and column.
    """
    file = Path(path)
    suffixes = [each.lower() for each in file.suffixes]
    zipped = suffixes[-1:] == [".gz"]
    kind = "".join(suffixes[-2:-1] if zipped else suffixes[-1:])
    if kind not in (".xes", ".csv"):
        raise refused(file.name, "the suffix must be .xes, .csv, .xes.gz or .csv.gz")
    return _traces(file, kind, Columns() if columns is None else columns, order, zipped=zipped)


def _traces(file: Path, kind: str, columns: Columns, order: Order, *, zipped: bool) -> Iterator[Trace]:
    name = file.name
    try:
        with cast("BinaryIO", gzip.open(file, "rb") if zipped else file.open("rb")) as stream:
            if kind == ".xes":
                yield from read_xes(stream)
            else:
                text = io.TextIOWrapper(stream, encoding="utf-8", newline="")
                yield from read_csv(text, columns=columns, order=order)
    except ParseError as error:
        found = [Problem(f"{name}, {each.place}", each.message) for each in error.problems]
        raise ParseError(found, subject="the event log") from None
    except UnicodeDecodeError as error:
        raise refused(name, f"is not UTF-8: {error.reason}") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise refused(name, f"is no whole gzip file: {error}") from None
