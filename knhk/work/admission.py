"""Who may begin: limits on how many handlers run at once, and breakers that hold work back.

Whoever hands out work asks here first, and gives the `Permit` back when the attempt is over.
Nothing waits in here; whoever was told `Held` may leave a callback for when it is worth asking again.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from typing import Final

import attrs

from knhk.work.breaker import BreakerChange, Breakers, Pass

Key = tuple[str, ...]
"""What a limit is on: ``("handler", name)``, ``("task", specification, version, net, task)``; a breaker's is ``("breaker", name)``."""

CUT_OFF: Final[Key] = ("cut off",)
"""The limit on attempts that follow one that the end of a process cut off."""


@attrs.frozen
class Held:
    """
    Work may not begin now.

    Args:
        key: of the limit or breaker that holds it back.
        seen: how often that key had been freed when this was said.
        again_in: for a breaker, in how many milliseconds asking again may help; None: when the key is freed.
    """

    key: Key
    seen: int
    again_in: int | None = None

    @property
    def by_breaker(self) -> bool:
        """Whether a breaker holds it back, not a limit."""
        return self.key[0] == "breaker"


class Permit:
    """Leave to make one attempt; give it back once, however the attempt ends."""

    __slots__ = ("_admission", "_keys", "_pass")

    def __init__(self, admission: Admission, keys: Sequence[Key], of_breaker: Pass | None) -> None:
        self._admission = admission
        self._keys = list(keys)
        self._pass = of_breaker

    def end(self, answered: bool | None) -> None:
        """Give everything back: the dependency answered, it failed, or (None) the call was not made."""
        if self._pass is not None:
            self._pass.end(answered)
        keys, self._keys = self._keys, []
        self._admission._free(keys)

    def end_key(self, key: Key) -> None:
        """Give back one limit's place before the attempt is over."""
        if key in self._keys:
            self._keys.remove(key)
            self._admission._free([key])


class Admission:
    """
    The limits and breakers of one engine; any thread may ask.

    Args:
        now: tells the time in milliseconds, and never runs backwards.

    Attributes:
        breakers: by the name of their dependency.
    """

    def __init__(self, now: Callable[[], int]) -> None:
        self.breakers = Breakers(now, self._breaker_changed)
        self._lock = threading.Lock()
        self._running: dict[Key, int] = {}
        self._freed: dict[Key, int] = {}
        self._waiting: dict[Key, list[Callable[[], object]]] = {}

    def ask(self, limits: Sequence[tuple[Key, int]], breaker: str | None) -> Permit | Held:
        """
        Return leave to begin, or what holds it back.

        Args:
            limits: pairs of a key and how many may run under it at once.
            breaker: the name of the dependency that the work needs, or None.
        """
        with self._lock:
            for key, most in limits:
                if self._running.get(key, 0) >= most:
                    return Held(key, self._freed.get(key, 0))
            for key, _ in limits:
                self._running[key] = self._running.get(key, 0) + 1
            seen = 0 if breaker is None else self._freed.get(("breaker", breaker), 0)
        keys = [key for key, _ in limits]
        if breaker is None:
            return Permit(self, keys, None)
        asked = self.breakers.of(breaker)
        given = asked.ask()
        if given is not None:
            return Permit(self, keys, given)
        self._free(keys)
        opens_in = asked.opens_in
        return Held(("breaker", breaker), seen, opens_in or None)

    def wait(self, held: Held) -> None:
        """Return when it is worth asking again."""
        freed = threading.Event()
        self.when_freed(held, freed.set)
        freed.wait()

    def when_freed(self, held: Held, callback: Callable[[], object]) -> None:
        """Call this once, from any thread, when it is worth asking again; at once where that was so in between."""
        with self._lock:
            if self._freed.get(held.key, 0) == held.seen:
                self._waiting.setdefault(held.key, []).append(callback)
                return
        callback()

    def breakers_open_for(self) -> list[int]:
        """Return in how many milliseconds each open breaker lets probes through."""
        return [wait for breaker in self.breakers.values() if (wait := breaker.opens_in)]

    def room(self, key: Key) -> tuple[int, int | None]:
        """Return how often a key was freed so far, and for a breaker how many may be worth asking for (a limit: None)."""
        with self._lock:
            seen = self._freed.get(key, 0)
        if key[0] != "breaker":
            return seen, None
        breaker = self.breakers.of(key[1])
        state = breaker.state
        return seen, {"closed": sys.maxsize, "half-open": breaker.policy.probes}.get(state, 0)

    def _free(self, keys: Sequence[Key]) -> None:
        callbacks: list[Callable[[], object]] = []
        with self._lock:
            for key in keys:
                left = self._running.get(key, 0) - 1
                if left > 0:
                    self._running[key] = left
                else:
                    self._running.pop(key, None)
                callbacks += self._note_freed(key)
        for callback in callbacks:
            callback()

    def _note_freed(self, key: Key) -> list[Callable[[], object]]:
        self._freed[key] = self._freed.get(key, 0) + 1
        return self._waiting.pop(key, [])

    def _breaker_changed(self, change: BreakerChange) -> None:
        """Wake those that a breaker holds back, also when it opened again: they are told for how long."""
        with self._lock:
            callbacks = self._note_freed(("breaker", change.name))
        for callback in callbacks:
            callback()
