"""Files of other worlds: what KNHK reads and writes beside its own specifications."""

from __future__ import annotations

from knhk.formats.event_log import Columns, LoggedEvent, Trace, read_event_log

__all__ = ("Columns", "LoggedEvent", "Trace", "read_event_log")
