"""How many there are: cases by state, open work, messages; counted in the background, a page at a time.

No store is asked for a count: it is walked, so many rows a second and no more, however much there is.
What is shown is what the last whole walk found, and how old that is.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

import attrs

from knhk.errors import KnhkError
from knhk.ports import Store
from knhk.work.delivery import DEAD
from knhk.work.outbox import OUTBOX

_LOG: Final = logging.getLogger("knhk.server")

PAGE: Final = 500
"""Rows that are looked at at once."""

REST: Final = 0.1
"""Seconds between two pages: 5,000 rows a second."""

LATE: Final = 10_000
"""Milliseconds after its time from which on a timer that has not fired is late."""

EVERY: Final = 5.0
"""Seconds between the end of a walk and the next."""


@attrs.frozen(kw_only=True)
class Count:
    """
    What a walk found.

    Args:
        cases: by state; those that are set aside are ``quarantined``.
        items: open work items by state: of people, of external workers, and failed ones.
        external: work that is offered to external workers.
        dead_letters: work that has failed for good.
        outbox, dead_messages: messages of webhooks that wait, and that did not arrive.
        late: running cases whose timer is late.
        at: when it ended, by the clock.
    """

    cases: Counter[str]
    items: Counter[str]
    external: int
    dead_letters: int
    outbox: int
    dead_messages: int
    late: int
    at: float


class Census:
    """
    Counts what is in a store.

    Args:
        store: everybody's.
        tenants: the views of it that have documents of their own, one for each tenant.
        seconds: a monotonic clock.
        now: milliseconds since the epoch.

    Attributes:
        last: what the last whole walk found; None before the first.
        failure: why the last walk failed; None where it did not.
    """

    def __init__(
        self, store: Store, tenants: Callable[[], list[Store]], seconds: Callable[[], float], now: Callable[[], int]
    ) -> None:
        self._store = store
        self._now = now
        self._tenants = tenants
        self._seconds = seconds
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self.last: Count | None = None
        self.failure: KnhkError | None = None

    @property
    def age(self) -> float | None:
        """Seconds since the last walk ended."""
        return None if self.last is None else self._seconds() - self.last.at

    def start(self) -> None:
        """Walk again and again from now on."""
        self._thread = threading.Thread(target=self._repeat, name="knhk-census", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Walk no more."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def walk(self, pause: Callable[[], bool] = lambda: False) -> None:
        """
        Count everything.

        Args:
            pause: is called after each page; true: give up.

        Raises:
            StoreError: the store cannot be read.
        """
        cases: Counter[str] = Counter()
        items: Counter[str] = Counter()
        external = letters = late = 0
        after, before = "", self._now() - LATE
        while page := self._store.cases(after=after, limit=PAGE):
            cases.update("quarantined" if each.quarantined else each.state for each in page)
            late += sum(each.state == "running" and each.due is not None and each.due < before for each in page)
            after = page[-1].case_id
            if pause():
                return
        place = ("", 0)
        while rows := self._store.items(after=place, limit=PAGE):
            items.update(each.state for each in rows)
            external += sum(bool(each.topic) and each.state == "offered" for each in rows)
            letters += sum("dead" in each.details for each in rows)
            place = rows[-1].case_id, rows[-1].number
            if pause():
                return
        messages = {OUTBOX: 0, DEAD: 0}
        for collection, count in self._documents(messages):
            messages[collection] += count
            if pause():
                return
        self.last = Count(
            cases=cases,
            items=items,
            external=external,
            dead_letters=letters,
            outbox=messages[OUTBOX],
            dead_messages=messages[DEAD],
            late=late,
            at=self._seconds(),
        )

    def _documents(self, collections: dict[str, int]) -> Iterator[tuple[str, int]]:
        for store in self._tenants():
            for collection in collections:
                after = ""
                while page := store.documents(collection, after=after, limit=PAGE):
                    yield collection, len(page)
                    after = page[-1].key

    def _repeat(self) -> None:
        while not self._over.is_set():
            try:
                self.walk(lambda: self._over.wait(REST))
            except KnhkError as error:
                if self.failure is None:
                    _LOG.warning("cases cannot be counted; the next walk tries again", exc_info=error)
                self.failure = error
            else:
                self.failure = None
            self._over.wait(EVERY)
