"""What the etcd store has last seen of cases and documents, so that it need not ask before each step."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Final

from knhk.ports import Commit, Document
from knhk.stores._etcd_layout import Keys
from knhk.stores._etcd_plan import Documents, Plan, SeenCase

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
                self._cases[case_id] = SeenCase(revision, seen.kept, rows if few else {}, seen.complete and few)
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


class Wanted:
    """
    What has to be seen for steps.

    Args:
        keys: of the namespace.
        steps: what is to be stored.

    Attributes:
        specifications: keys of those that have to be registered.
        numbers: by case, of the items that it changes or closes.
        aside: cases that are set aside, of which all rows have to be seen.
        values: by key of a document or idempotency key, whether it is expected not to be there.
    """

    def __init__(self, keys: Keys, steps: Sequence[Commit | Documents]) -> None:
        self._keys = keys
        self._created: dict[str, bool] = {}
        self.specifications: dict[bytes, None] = {}
        self.numbers: dict[str, dict[int, None]] = {}
        self.aside: set[str] = set()
        self.values: dict[bytes, bool] = {}
        for each in steps:
            for document in each.held:
                self._look_at(document, absent=False)
            for document in each.documents:
                self._look_at(document, absent=document.version == 1)
            for document in each.removed:
                self._look_at(document, absent=False)
            if isinstance(each, Commit):
                self._look_at_case(each)

    def _look_at(self, document: Document, *, absent: bool) -> None:
        self.values.setdefault(self._keys.key("d", document.collection, document.key), absent)

    def _look_at_case(self, commit: Commit) -> None:
        header = commit.header
        self.specifications[self._keys.key("s", header.spec_id, header.spec_version)] = None
        self._created.setdefault(header.case_id, not commit.expected)
        numbers = self.numbers.setdefault(header.case_id, {})
        numbers |= dict.fromkeys((*(each.number for each in commit.items), *commit.closed_items))
        if header.quarantined:
            self.aside.add(header.case_id)
        if commit.idempotency is not None:
            self.values.setdefault(self._keys.key("k", commit.idempotency[0]), True)

    def remembered_cases(self, memory: Memory) -> dict[str, SeenCase]:
        """Return what is remembered well enough of these cases; one that is created is taken not to be there."""
        found: dict[str, SeenCase] = {}
        for case_id, numbers in self.numbers.items():
            seen = memory.case(case_id)
            if seen is None and self._created[case_id]:
                seen = SeenCase(0, None, {})
            if (
                seen is not None
                and seen.knows(numbers)
                and (case_id not in self.aside or seen.complete or seen.kept is None)
            ):
                found[case_id] = seen
        return found

    def remembered_values(self, memory: Memory) -> dict[bytes, tuple[int, bytes | None]]:
        """Return what is remembered of these values; one that is created is taken not to be there."""
        found: dict[bytes, tuple[int, bytes | None]] = {}
        for name, absent in self.values.items():
            value = memory.value(name)
            if value is not None or absent:
                found[name] = value or (0, None)
        return found
