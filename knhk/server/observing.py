"""The log: one line of JSON for each call and for whatever else is worth a word, in the trace that it belongs to, without secrets."""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final, TextIO

from pythonjsonlogger.json import JsonFormatter

LOG: Final = logging.getLogger("knhk.server")
MASK: Final = "********"

_CALL: Final = "members_of_a_call"
_TRACE: Final[ContextVar[str]] = ContextVar("trace", default="")
_SECRET_NAME: Final = re.compile(
    r"(^|[_.-])(authorization|cookie|password|passwd|secret|token|jwt|api[_-]?key|private[_-]?key|credentials?)$",
    re.IGNORECASE,
)
_SECRETS: Final = (
    # A signed token, a header that carries one, a password in a URL, and whatever is named as a secret.
    (re.compile(r"\beyJ[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*"), MASK),
    (re.compile(r"\b(bearer|basic) +[A-Za-z0-9._~+/=-]{6,}", re.IGNORECASE), rf"\1 {MASK}"),
    (re.compile(r"(://)[^/\s@\"']+@"), rf"\1{MASK}@"),
    (
        re.compile(
            r"\b((?:[a-z0-9]+[_-])*(?:password|passwd|secret|token|api[_-]?key)\b\\?[\"']?\s*[=:]\s*\\?[\"']?)[^\s\"'\\,;&{}]{4,}",
            re.IGNORECASE,
        ),
        rf"\1{MASK}",
    ),
)

_HINTS: Final = ("eyj", "bearer", "basic", "://", "passw", "secret", "token", "key")
"""Without one of these, in small letters, none of the patterns above can be in a text."""


class Stopwatch:
    """Time since it was made, in seconds."""

    def __init__(self) -> None:
        self._begun = time.perf_counter()

    def seconds(self) -> float:
        """Return it."""
        return time.perf_counter() - self._begun


@contextmanager
def in_trace(trace: str) -> Iterator[None]:
    """Let the lines that are written in here, in this thread or task, have this trace id."""
    token = _TRACE.set(trace)
    try:
        yield
    finally:
        _TRACE.reset(token)


def redacted(text: str, secrets: Sequence[str] = ()) -> str:
    """Return a text without what looks like a secret, and without these."""
    for each in secrets:
        text = text.replace(each, MASK)
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text


class Line(JsonFormatter):  # type: ignore[misc] # without the extra it is Any
    """
    Writes a record as a line of JSON: in UTC, with the trace that it belongs to, and without secrets.

    Args:
        secrets: texts that are never written, whatever they look like.
        instance: what is said of the instance.
    """

    def __init__(self, secrets: Sequence[str], instance: dict[str, str]) -> None:
        super().__init__(
            "%(asctime)s %(levelname)s %(name)s %(message)s",
            rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
            static_fields=instance,
        )
        self._secrets = tuple(each for each in secrets if each)
        self._escaped = tuple(json.dumps(each)[1:-1] for each in self._secrets)
        self.ids: Callable[[], tuple[str, str] | None] | None = None

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 - the library's name
        """Return when it was, as ISO 8601 has it, in UTC."""
        del datefmt
        return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; that of a call has members that are known, so it takes the short way where none can be a secret."""
        call = getattr(record, _CALL, None)
        if call is None:
            return str(super().format(record))
        members = {
            "time": self.formatTime(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.msg,
            **self.static_fields,
            **call,
        }
        ids = None if self.ids is None else self.ids()
        if ids is not None:
            members.setdefault("trace_id", ids[0])
            members["span_id"] = ids[1]
        line = json.dumps(members)
        low = line.lower()
        if any(hint in low for hint in _HINTS) or any(secret in line for secret in self._escaped):
            line = json.dumps(self.process_log_record(members))
        return line

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        """Say in which trace it is, and mask secrets."""
        ids = None if self.ids is None else self.ids()
        if ids is not None:
            log_data.setdefault("trace_id", ids[0])
            log_data.setdefault("span_id", ids[1])
        elif _TRACE.get():
            log_data.setdefault("trace_id", _TRACE.get())
        return {name: self._without(name, value) for name, value in log_data.items()}

    def _without(self, name: str, value: Any) -> Any:
        if _SECRET_NAME.search(name) and value:
            return MASK
        if isinstance(value, str):
            return redacted(value, self._secrets)
        if isinstance(value, dict):
            return {each: self._without(str(each), member) for each, member in value.items()}
        if isinstance(value, list | tuple):
            return [self._without("", each) for each in value]
        return value


def log_as_json(level: str, stream: TextIO | None = None, *, secrets: Sequence[str] = (), **instance: str) -> None:
    """Write the logs of KNHK as lines of JSON, from this level on, each with what is said of the instance."""
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(Line(secrets, {name: value for name, value in instance.items() if value}))
    root = logging.getLogger("knhk")
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    root.propagate = False


def log_traces(ids: Callable[[], tuple[str, str] | None]) -> None:
    """Let lines say in which trace and span they are, also those of work in the background."""
    for each in logging.getLogger("knhk").handlers:
        if isinstance(each.formatter, Line):
            each.formatter.ids = ids


def log_call(*, operation: str, status: int, seconds: float, path: dict[str, str], trace: str, **more: Any) -> None:
    """Write the line of a call."""
    item = path.get("item_id") or path.get("work_id") or path.get("letter_id") or ""
    fields = {
        "operation": operation,
        "status": status,
        "duration_ms": round(seconds * 1000, 3),
        "workflow_id": path.get("spec_id"),
        "case_id": path.get("case_id") or item.rpartition(":")[0].rpartition(":")[2] or None,
        "pattern_id": int(path["number"]) if path.get("number", "").isdecimal() else None,
        "trace_id": trace,
        **more,
    }
    if LOG.isEnabledFor(logging.INFO):
        # Who writes it is known, so nobody has to look through the stack for him.
        record = logging.LogRecord(LOG.name, logging.INFO, __file__, 0, "call", (), None)
        members = {name: value for name, value in fields.items() if value is not None}
        record.__dict__.update(members)
        setattr(record, _CALL, members)
        LOG.handle(record)
