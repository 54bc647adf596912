"""What can be seen from outside: figures for Prometheus, and one line of JSON for each call."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any, Final, TextIO

from prometheus_client import CollectorRegistry, Counter, Histogram, Info, generate_latest
from pythonjsonlogger.json import JsonFormatter

LOG: Final = logging.getLogger("knhk.server")
_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Figures:
    """
    The counters of one application; no label takes a value that a caller chooses.

    Args:
        instance: what is said of the instance itself.
    """

    def __init__(self, **instance: str) -> None:
        self.registry = CollectorRegistry()
        Info("knhk_instance", "Which instance this is.", registry=self.registry).info(instance)
        self.requests = Counter(
            "knhk_requests", "Requests by operation and status.", ["operation", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "knhk_request_seconds", "Time to answer.", ["operation"], buckets=_BUCKETS, registry=self.registry
        )
        self.patterns = Histogram(
            "knhk_pattern_seconds",
            "Time to run a pattern's net.",
            ["pattern"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.refused = Counter("knhk_refused", "Requests refused, by reason.", ["reason"], registry=self.registry)

    def text(self) -> bytes:
        """Return all figures in Prometheus's text format."""
        return generate_latest(self.registry)


class Stopwatch:
    """Time since it was made, in seconds."""

    def __init__(self) -> None:
        self._begun = time.perf_counter()

    def seconds(self) -> float:
        """Return it."""
        return time.perf_counter() - self._begun


def log_as_json(level: str, stream: TextIO | None = None, **instance: str) -> None:
    """Write the logs of KNHK as lines of JSON, from this level on, each with what is said of the instance."""
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(
        JsonFormatter(
            "%(asctime)s %(levelname)s %(name)s %(message)s",
            rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
            static_fields={name: value for name, value in instance.items() if value},
        )
    )
    root = logging.getLogger("knhk")
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    root.propagate = False


def log_call(*, operation: str, status: int, seconds: float, path: dict[str, str], trace: str, **more: Any) -> None:
    """Write the line of a call."""
    fields = {
        "operation": operation,
        "status": status,
        "duration_ms": round(seconds * 1000, 3),
        "workflow_id": path.get("spec_id"),
        "case_id": path.get("case_id") or (path.get("item_id") or "").rpartition(":")[0] or None,
        "pattern_id": int(path["number"]) if path.get("number", "").isdecimal() else None,
        "trace_id": trace,
        **more,
    }
    LOG.info("call", extra={name: value for name, value in fields.items() if value is not None})
