"""Files of other worlds: what KNHK reads and writes beside its own specifications."""

from __future__ import annotations

from knhk.formats.event_log import Columns, LoggedEvent, Trace, read_event_log
from knhk.formats.picture import Tokens, draw, frequencies

__all__ = ("Columns", "LoggedEvent", "Tokens", "Trace", "draw", "frequencies", "read_event_log")
