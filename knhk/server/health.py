"""Whether the service works, component by component; asked often, by machines, without a name."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooLate
from typing import Any, Final

from knhk.errors import KnhkError
from knhk.ports import Store
from knhk.server.audit import AuditLog
from knhk.server.background import Background
from knhk.work.ownership import Ownership

NAME: Final = "knhk-workflow-engine"
FRESH: Final = 0.5
"""Seconds for which an answer of the store is believed."""

PATIENCE: Final = 1.0
"""Seconds that the store may take to answer."""

Answer = tuple[int, dict[str, Any]]


class Health:
    """
    Looks at what the service stands on.

    Args:
        store: is asked.
        audit: whether its thread could write; None where there is no record.
        background: whether automatic work goes on; None where there is none.
        version: of the package.
        switched_off: by component, why it is off on purpose.
        told: what else is said of this instance: its name, its region.
        seconds: a monotonic clock.
        ownership: which automatic work is this instance's; None: all.
        more: further components, each by what says how it is.
    """

    def __init__(
        self,
        store: Store,
        audit: AuditLog | None,
        background: Background | None = None,
        *,
        version: str,
        switched_off: Mapping[str, str],
        told: Mapping[str, str] | None = None,
        seconds: Callable[[], float],
        ownership: Ownership | None = None,
        more: Mapping[str, Callable[[], Mapping[str, Any]]] | None = None,
    ) -> None:
        self._ownership = ownership
        self._store = store
        self._audit = audit
        self._background = background
        self._version = version
        self._switched_off = dict(switched_off)
        self._told = dict(told or {})
        self._seconds = seconds
        self._more = dict(more or {})
        self._looker = ThreadPoolExecutor(1, thread_name_prefix="knhk-health")
        self._lock = threading.Lock()
        self._last: tuple[float, str] = (-1e9, "not asked yet")
        self._asking: Future[str] | None = None
        self.draining = False

    def whole(self) -> Answer:
        """Answer ``/health``."""
        status = "Healthy" if self._why_not_ready() == "" else "Unhealthy"
        return 200, {"status": status, "service": NAME, "version": self._version}

    def live(self) -> Answer:
        """Answer ``/health/live``: without a look at anything."""
        return 200, {"alive": True}

    def ready(self) -> Answer:
        """Answer ``/health/ready``."""
        reason = self._why_not_ready()
        return (200, {"ready": True}) if not reason else (503, {"ready": False, "reason": reason})

    def components(self) -> Answer:
        """Answer ``/health/components``: each with its status and a detail."""
        reason, age = self._store_answer()
        parts: dict[str, Any] = {
            "store": {"status": "down" if reason else "up", "age": round(age, 3), "detail": reason},
            "durability": {"status": "up", "detail": self._store.durability.value},
        }
        if self._audit is not None:
            failure = self._audit.failure
            parts["audit"] = {
                "status": "down" if failure else "up",
                "age": round(self._audit.age, 3),
                "detail": "its record cannot be written" if failure else f"{self._audit.waiting} entries wait",
            }
        if self._background is not None:
            failure = self._background.failure
            parts["automatic-work"] = {
                "status": "down" if failure else "up",
                "age": round(self._background.age, 3),
                "detail": f"{self._background.busy} handlers run, for {len(self._background.served)} tenants served now",
            }
        if self._ownership is not None:
            parts["ownership"] = {
                "status": "down" if self._ownership.failure else "up",
                "detail": f"{len(self._ownership.partitions)} partitions are this instance's",
            }
        parts |= {name: dict(status()) for name, status in self._more.items()}
        for name, why in self._switched_off.items():
            parts[name] = {"status": "off", "detail": why}
        bad = any(each["status"] == "down" for each in parts.values())
        status = "Unhealthy" if bad else "Healthy"
        return 200, {"status": status, **self._told, "draining": self.draining, "components": parts}

    def _why_not_ready(self) -> str:
        if self.draining:
            return "draining"
        return self._store_answer()[0]

    def _store_answer(self) -> tuple[str, float]:
        """Ask the store, unless it has just answered, and not for longer than the patience; returns (why not, age)."""
        with self._lock:
            at, reason = self._last
            age = self._seconds() - at
            if age < FRESH:
                return reason, age
            if self._asking is None or self._asking.done():
                self._asking = self._looker.submit(self._ask)
            asking = self._asking
        try:
            reason = asking.result(timeout=PATIENCE)
        except TooLate:
            reason = "the store does not answer"
        with self._lock:
            self._last = (self._seconds(), reason)
        return reason, 0.0

    def _ask(self) -> str:
        try:
            self._store.document("health", "probe")
        except KnhkError as error:
            return f"the store is out of reach: {type(error).__name__}"
        return ""

    def close(self) -> None:
        """Ask nobody any more."""
        self._looker.shutdown(wait=False)
