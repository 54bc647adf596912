"""What happens by itself, for every tenant: timers, tries again, waiting handlers, messages; with a bounded number of threads.

A tenant who has something to do gets one of a few *places*: a runner of his engine, with workers of its own.
A runner that had nothing to do for a while gives its place back, and where others wait for one, so does the runner that has had
its place for longest.
So any number of tenants are served by the threads of the places and the one that looks.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Final

import attrs

from knhk.engine import Engine
from knhk.errors import KnhkError
from knhk.ports import Clock
from knhk.server.tenants import Tenants
from knhk.work.delivery import stream_of
from knhk.work.outbox import OUTBOX
from knhk.work.runner import Runner
from knhk.work.schedules import SCHEDULES

_LOG = logging.getLogger("knhk.server")

PLACES: Final = 8
"""Tenants whose automatic work is done at once."""

WORKERS: Final = 4
"""Handlers that run at once for one tenant."""

QUIET: Final = 30.0
"""Seconds without work after which a tenant gives his place back."""

TURN: Final = 5.0
"""Seconds that a tenant keeps his place at least while others wait for one."""


_PAGE: Final = 100


@attrs.define(eq=False)
class _Place:
    """A tenant's runner, since when it runs, and when it had something to do for the last time."""

    runner: Runner
    since: float
    busy_at: float


class Background:
    """
    Does the automatic work of all tenants.

    Args:
        tenants: the engines.
        clock: says what is due.
        places: for so many tenants at once.
        workers: so many handlers at once for each of them.
        interval: seconds between looks for tenants with something to do.

    Attributes:
        failure: why the last look failed; None where it did not.
    """

    def __init__(
        self, tenants: Tenants, clock: Clock, *, places: int = PLACES, workers: int = WORKERS, interval: float = 0.25
    ) -> None:
        self._tenants = tenants
        self._clock = clock
        self._most = places
        self._workers = workers
        self._interval = interval
        self._places: dict[str, _Place] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._repeat, name="knhk-background", daemon=True)
        self._looked_at = time.monotonic()
        self.failure: KnhkError | None = None

    @property
    def age(self) -> float:
        """Seconds since the last look that did not fail; before the first, since this was made."""
        return time.monotonic() - self._looked_at

    @property
    def served(self) -> list[str]:
        """The tenants who have a place now."""
        return sorted(self._places)

    @property
    def busy(self) -> int:
        """How many handlers run now."""
        return sum(each.runner.busy for each in list(self._places.values()))

    @property
    def waiting(self) -> int:
        """How many cases wait for a worker."""
        return sum(each.runner.waiting for each in list(self._places.values()))

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, patience: float) -> None:
        """Begin nothing more, wait so many seconds for what runs, and hand back what has not ended then."""
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join()
        end = time.monotonic() + patience
        leaving = [
            threading.Thread(target=each.runner.stop, args=(max(end - time.monotonic(), 0.0),), daemon=True)
            for each in self._places.values()
        ]
        for each in leaving:
            each.start()
        for each in leaving:
            each.join()
        self._places.clear()

    def look(self) -> None:
        """Give places to tenants who have something to do, and take those back that are not needed."""
        waiting = []
        for tenant in self._tenants.known():
            engine = self._tenants.engine(tenant)
            place = self._places.get(tenant)
            if not self._has_work(engine):
                if place is not None and not place.runner.busy and time.monotonic() - place.busy_at >= QUIET:
                    self._leave(tenant)
            elif place is not None:
                place.busy_at = time.monotonic()
            else:
                waiting.append((tenant, engine))
        for tenant, engine in waiting:
            if len(self._places) >= self._most and not self._make_room():
                return
            runner = engine.serve(workers=self._workers)
            runner.start()
            now = time.monotonic()
            self._places[tenant] = _Place(runner, now, now)

    def _make_room(self) -> bool:
        """Take the place back of whoever has had it for longest; False where that is not long enough."""
        tenant, place = min(self._places.items(), key=lambda each: each[1].since)
        if time.monotonic() - place.since < TURN:
            return False
        self._leave(tenant)
        return True

    def _leave(self, tenant: str) -> None:
        # Handlers that run may end; a runner that waits for them must not keep the others waiting.
        place = self._places.pop(tenant)
        threading.Thread(target=place.runner.stop, name="knhk-leaving", daemon=True).start()

    def _has_work(self, engine: Engine) -> bool:
        """Whether an engine has work; where it is shared, a page of nothing but others' counts as some, which it looks behind."""
        store, now = engine.store, self._clock.now()
        most = 1 if engine.ownership is None else _PAGE
        for page in (
            store.due(now, most),
            store.runnable(limit=most),
            [stream_of(each) for each in store.documents(OUTBOX, due=now, limit=most)],
            [each.key for each in store.documents(SCHEDULES, due=now, limit=most)],
        ):
            if engine.ownership is None and page:
                return True
            if engine.ownership is not None and (len(page) == most or any(map(engine.ownership.tenure, page))):
                return True
        return False

    def _repeat(self) -> None:
        while not self._over.wait(self._interval):
            try:
                self.look()
            except KnhkError as error:
                _LOG.warning("the look for automatic work failed; the next one tries again", exc_info=error)
                self.failure = error
            else:
                self._looked_at = time.monotonic()
                self.failure = None
