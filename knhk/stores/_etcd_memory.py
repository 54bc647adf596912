"""What the etcd store has last seen of cases and documents, so that it need not ask before each step."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

import attrs

from knhk.stores._etcd_plan import Plan, SeenCase

MOST: Final = 20_000
"""Cases, and documents, that are remembered."""

_MOST_ROWS: Final = 1_000
_LONGEST: Final = 64 * 1024


class Memory:
    """
    Remembers; whoever forgets too much asks again, and what is out of date is found out by the guards of a plan.

    Any thread may call it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cases: OrderedDict[str, SeenCase] = OrderedDict()
        self._values: OrderedDict[bytes, tuple[int, bytes | None]] = OrderedDict()
        self._registered: set[bytes] = set()

    def case(self, case_id: str) -> SeenCase | None:
        """Return what is remembered of a case."""
        with self._lock:
            return self._cases.get(case_id)

    def value(self, name: bytes) -> tuple[int, bytes | None] | None:
        """Return revision and value of a document or an idempotency key, where they are remembered."""
        with self._lock:
            return self._values.get(name)

    def registered(self, name: bytes) -> bool:
        """Whether this specification was seen; none ever goes."""
        return name in self._registered

    def register(self, names: Iterable[bytes]) -> None:
        """Remember specifications."""
        with self._lock:
            self._registered.update(names)

    def learn(self, plan: Plan) -> None:
        """Remember what a plan has made, which was stored at its revision."""
        revision = plan.revision or 0
        with self._lock:
            for case_id, seen in plan.cases.items():
                rows = {number: row for number, row in seen.rows.items() if row is not None or not seen.complete}
                few = len(rows) <= _MOST_ROWS
                self._cases[case_id] = attrs.evolve(
                    seen, revision=revision, rows=rows if few else {}, complete=seen.complete and few
                )
                self._cases.move_to_end(case_id)
            for name, value in plan.values.items():
                if value is None or len(value) > _LONGEST:
                    self._values.pop(name, None)
                else:
                    self._values[name] = (revision, value)
                    self._values.move_to_end(name)
            for kept in (self._cases, self._values):
                while len(kept) > MOST:
                    kept.popitem(last=False)

    def forget(self, plan: Plan) -> None:
        """Forget what a plan was made of."""
        with self._lock:
            for case_id in plan.cases:
                self._cases.pop(case_id, None)
            for name in plan.guards:
                self._values.pop(name, None)
