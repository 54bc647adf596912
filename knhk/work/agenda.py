"""What a runner's workers do next: cases with work, one turn each, and those that wait for a limit or a breaker.

A case is in the line once at the most, and goes to its end again when its turn is over, so no case keeps others waiting.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from functools import partial

from knhk.work.admission import Admission, Held, Key


class Agenda:
    """
    The line of cases, and the cases that are held back; any thread may use it.

    Args:
        admission: tells when it is worth asking again for what is held back.
    """

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._lock = threading.Condition()
        self._line: OrderedDict[str, None] = OrderedDict()
        self._held: dict[Key, OrderedDict[str, None]] = {}
        # How often a key had been freed when its callback was left; a key with a callback is in here.
        self._listening: dict[Key, int] = {}
        self._closed = False

    def __len__(self) -> int:
        return len(self._line)

    def __contains__(self, case_id: object) -> bool:
        """Whether a case is in the line or held back."""
        with self._lock:
            return case_id in self._line or any(case_id in each for each in self._held.values())

    def offer(self, case_id: str) -> None:
        """Put a case at the end of the line, unless it is in it."""
        with self._lock:
            if case_id not in self._line:
                self._line[case_id] = None
                self._lock.notify()

    def take(self) -> str | None:
        """Wait for a case and take the first of the line; None: the agenda is closed."""
        with self._lock:
            while not self._closed and not self._line:
                self._lock.wait()
            return None if self._closed else self._line.popitem(last=False)[0]

    def close(self) -> None:
        """Give out nothing more."""
        with self._lock:
            self._closed = True
            self._lock.notify_all()

    def hold(self, case_id: str, held: Held) -> None:
        """Keep a case out of the line until it is worth asking again."""
        with self._lock:
            self._held.setdefault(held.key, OrderedDict())[case_id] = None
            if held.key in self._listening:
                return
            self._listening[held.key] = held.seen
        self._admission.when_freed(held, partial(self._freed, held.key))

    def holding(self) -> list[Key]:
        """Return the keys that hold cases back."""
        with self._lock:
            return list(self._held)

    def let_go(self, key: Key, count: int) -> None:
        """Put so many of the cases that a key holds back into the line again, those held longest first."""
        with self._lock:
            waiting = self._held.get(key)
            while waiting and count > 0:
                case_id, _ = waiting.popitem(last=False)
                self._line.setdefault(case_id)
                count -= 1
                self._lock.notify()
            if not waiting:
                self._held.pop(key, None)

    def _freed(self, key: Key) -> None:
        """A place came free, or a breaker changed: let as many go as may find room, and listen for the next time."""
        seen, room = self._admission.room(key)
        with self._lock:
            times = seen - self._listening.pop(key, seen)
        self.let_go(key, max(times, 1) if room is None else room)
        with self._lock:
            if key not in self._held or key in self._listening:
                return
            self._listening[key] = seen
        self._admission.when_freed(Held(key, seen), partial(self._freed, key))
