"""XES (IEEE 1849-2016), read as a stream: one trace at a time, whatever the size of the file.

Only what replay needs is looked at: ``concept:name`` of traces and events, ``lifecycle:transition`` and
``time:timestamp`` of events, each as an attribute directly below its trace or event.
Extensions, globals, classifiers and nested attributes are passed over.

The file comes from anywhere, so a document type is refused before it can declare an entity, and nesting, names and single
tags have bounds: memory does not grow with the file, only with its longest trace.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, Final
from xml.parsers import expat

from knhk.errors import ParseError
from knhk.formats._log_text import (
    CHUNK,
    MAX_DEPTH,
    MAX_PENDING,
    LoggedEvent,
    Trace,
    bounded,
    microseconds,
    refused,
)

_LOG: Final = 0
_TRACE: Final = 1
_EVENT: Final = 2
_ATTRIBUTES: Final = frozenset({"string", "date", "int", "float", "boolean", "id", "list", "container"})


def read_xes(stream: BinaryIO) -> Iterator[Trace]:
    """
    Yield the traces of an XES document in the order of the text; events keep theirs.

    Raises:
        ParseError: the text is no XES document, with the line and column where it ceases to be one.
    """
    reader = _Reader()
    fed = 0
    while chunk := stream.read(CHUNK):
        reader.feed(chunk, last=False)
        fed += len(chunk)
        # Where expat has come to is what it has told of; the rest of what it was fed it holds.
        if fed - reader.position() > MAX_PENDING:
            raise refused(reader.place(), f"a single tag is longer than {MAX_PENDING} bytes")
        yield from reader.take()
    reader.feed(b"", last=True)
    yield from reader.take()


class _Reader:
    """What expat tells, put together to traces."""

    def __init__(self) -> None:
        self._parser = expat.ParserCreate()
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.StartDoctypeDeclHandler = self._doctype
        self._traces: list[Trace] = []
        self._count = 0
        self._depth = 0
        # The depth at which what is read now began, and what it is; everything below is looked at only one level deep.
        self._inside = -1
        self._case: str | None = None
        self._events: list[LoggedEvent] = []
        self._task: str | None = None
        self._lifecycle = "complete"
        self._time: int | None = None

    def feed(self, chunk: bytes, *, last: bool) -> None:
        """Read on."""
        try:
            self._parser.Parse(chunk, last)
        except expat.ExpatError as error:
            # expat counts columns from 0, people from 1.
            place = f"line {error.lineno}, column {error.offset + 1}"
            raise refused(place, f"is no XML: {expat.ErrorString(error.code)}") from None
        except ParseError:
            raise
        except (ValueError, LookupError) as error:
            # How expat's Python side refuses encodings that it does not know or cannot decode.
            raise refused(self.place(), f"the text is in no encoding that can be read: {error}") from None

    def take(self) -> list[Trace]:
        """Return the traces that were completed since the last call."""
        traces, self._traces = self._traces, []
        return traces

    def position(self) -> int:
        """Return how many bytes have been told of."""
        return self._parser.CurrentByteIndex

    def place(self) -> str:
        """Return where the reader is."""
        return f"line {self._parser.CurrentLineNumber}, column {self._parser.CurrentColumnNumber + 1}"

    def _doctype(self, *_: object) -> None:
        raise refused(self.place(), "a document type is not read, as it may declare entities; remove it")

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._depth = depth = self._depth + 1
        inside = self._inside
        if depth == inside + 2:
            # PERF: attributes of events are nine elements of ten; they are asked for first.
            if inside == _EVENT:
                self._attribute_of_event(attributes)
            elif inside == _TRACE:
                self._below_trace(tag, attributes)
            else:
                self._outside(tag)
        elif depth > MAX_DEPTH:
            raise refused(self.place(), f"elements are nested deeper than {MAX_DEPTH}")

    def _outside(self, tag: str) -> None:
        """Look at an element that may be the log, a trace, or what is passed over."""
        name = tag.rpartition(":")[2]
        if self._inside < _LOG:
            if name != "log":
                raise refused(self.place(), f"the document is a <{_short(tag)}>; XES begins with <log>")
            self._inside = _LOG
        elif name == "trace":
            self._inside = _TRACE
            self._case = None
            self._events = []
        elif name == "event":
            raise refused(self.place(), "an event outside of every trace belongs to no case")

    def _below_trace(self, tag: str, attributes: dict[str, str]) -> None:
        name = tag.rpartition(":")[2]
        if name == "event":
            self._inside = _EVENT
            self._task = None
            self._lifecycle = "complete"
            self._time = None
        elif name == "trace":
            raise refused(self.place(), "a trace inside a trace")
        elif name in _ATTRIBUTES and attributes.get("key") == "concept:name":
            self._case = bounded(self._value(attributes), "name of the case", self.place)

    def _attribute_of_event(self, attributes: dict[str, str]) -> None:
        key = attributes.get("key")
        if key == "concept:name":
            self._task = bounded(self._value(attributes), "name of the task", self.place)
        elif key == "time:timestamp":
            self._time = microseconds(self._value(attributes), self.place)
        elif key == "lifecycle:transition":
            transition = bounded(self._value(attributes), "transition of the life cycle", self.place)
            self._lifecycle = transition.strip().lower() or "complete"
        elif key is None:
            raise refused(self.place(), "an attribute has no key")

    def _value(self, attributes: dict[str, str]) -> str:
        value = attributes.get("value")
        if value is None:
            raise refused(self.place(), f"the attribute {attributes['key']} has no value")
        return value

    def _end(self, _: str) -> None:
        depth = self._depth
        self._depth = depth - 1
        if depth != self._inside + 1:
            return
        if self._inside == _EVENT:
            if not self._task:
                raise refused(self.place(), "an event names no task: it has no concept:name")
            self._events.append(LoggedEvent(self._task, self._lifecycle, self._time))
        elif self._inside == _TRACE:
            self._count += 1
            case = f"trace {self._count}" if self._case is None else self._case
            self._traces.append(Trace(case, tuple(self._events)))
        self._inside -= 1


def _short(tag: str) -> str:
    return tag if len(tag) <= 40 else tag[:37] + "..."
