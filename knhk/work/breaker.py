"""Circuit breakers: work that needs a dependency which fails too often waits until the dependency answers again.

A breaker is *closed* while calls go through and their outcomes are counted over a sliding window.
When the window holds enough calls and the part of them that failed reaches the rate, it is *open*: nothing goes through.
After a time it is *half-open*: at most k probes go through, whichever threads they come from, until their outcomes decide.
The model is Nygard's, "Release It!", 2nd edition, 2018, section 5.2.

A breaker lives in the memory of its engine: after a restart it is closed and learns again.
"""

from __future__ import annotations

import enum
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import attrs

from knhk.work.policy import read_span

_LOG = logging.getLogger("knhk.breaker")

SLICES: Final = 10
"""Parts of the window: the oldest part is forgotten as a whole, so the window slides in steps of a tenth."""


class BreakerState(enum.Enum):
    """Whether calls go through."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@attrs.frozen(kw_only=True)
class BreakerPolicy:
    """
    When a breaker opens and closes. Durations are in milliseconds.

    Args:
        window: how far back calls count.
        rate: the part of the calls, above 0 and up to 1, that must have failed for the breaker to open.
        minimum_calls: how many calls the window must hold before their rate says anything.
        open_for: how long nothing goes through.
        probes: how many calls go through while it is half-open.
    """

    window: int = attrs.field(default=60_000, validator=attrs.validators.ge(SLICES))
    rate: float = attrs.field(default=0.5, validator=[attrs.validators.gt(0), attrs.validators.le(1)])
    minimum_calls: int = attrs.field(default=10, validator=attrs.validators.ge(1))
    open_for: int = attrs.field(default=30_000, validator=attrs.validators.ge(1))
    probes: int = attrs.field(default=1, validator=attrs.validators.ge(1))


@attrs.frozen(kw_only=True)
class BreakerChange:
    """
    A breaker changed its state.

    Args:
        name: of the breaker.
        before, after: its states.
        calls, failures: what the window, or the probes, said.
    """

    name: str
    before: BreakerState
    after: BreakerState
    calls: int
    failures: int


Listener = Callable[[BreakerChange], object]


class Pass:
    """Leave to make one call: say what came of it, once."""

    __slots__ = ("_breaker", "_generation", "_open")

    def __init__(self, breaker: Breaker, generation: int) -> None:
        self._breaker = breaker
        self._generation = generation
        self._open = True

    def end(self, answered: bool | None) -> None:
        """Say that the dependency answered, that it failed, or (None) that the call was not made; only the first counts."""
        if self._open:
            self._open = False
            self._breaker._end(self._generation, answered)


class Breaker:
    """
    The circuit breaker of one dependency; any thread may use it.

    Args:
        name: of the dependency.
        policy: when it opens and closes.
        now: tells the time in milliseconds, and never runs backwards.
        listeners: are told of every change, outside the breaker's lock; what they raise is logged.
    """

    def __init__(
        self, name: str, policy: BreakerPolicy, *, now: Callable[[], int], listeners: tuple[Listener, ...] = ()
    ) -> None:
        self.name = name
        self.policy = policy
        self._now = now
        self._listeners = listeners
        self._lock = threading.Lock()
        self._state = BreakerState.CLOSED
        # Outcomes that belong to an earlier state than the present one say nothing of it.
        self._generation = 0
        self._window: deque[list[int]] = deque()
        self._reopens = 0
        self._out = self._answered = self._failed = 0

    def __repr__(self) -> str:
        return f"<breaker {self.name} {self.state}>"

    @property
    def state(self) -> str:
        """closed, open or half-open."""
        with self._lock:
            changes = self._look()
            state = self._state
        self._tell(changes)
        return state.value

    @property
    def opens_in(self) -> int:
        """In how many milliseconds probes may go through; 0 unless it is open."""
        with self._lock:
            return max(self._reopens - self._now(), 0) if self._state is BreakerState.OPEN else 0

    @property
    def calls(self) -> tuple[int, int]:
        """How many calls the window holds, and how many of them failed."""
        with self._lock:
            self._forget()
            return sum(each[1] for each in self._window), sum(each[2] for each in self._window)

    def ask(self) -> Pass | None:
        """Return leave to make a call, or None where it must wait."""
        with self._lock:
            changes = self._look()
            given = None
            if self._state is BreakerState.CLOSED:
                given = Pass(self, self._generation)
            elif (
                self._state is BreakerState.HALF_OPEN and self._out + self._answered + self._failed < self.policy.probes
            ):
                self._out += 1
                given = Pass(self, self._generation)
        self._tell(changes)
        return given

    # --- inside -------------------------------------------------------------------------------------------------------

    def _end(self, generation: int, answered: bool | None) -> None:
        with self._lock:
            changes = self._look()
            if generation == self._generation:
                if self._state is BreakerState.CLOSED and answered is not None:
                    changes += self._count(failed=not answered)
                elif self._state is BreakerState.HALF_OPEN:
                    changes += self._count_probe(answered)
        self._tell(changes)

    def _look(self) -> list[BreakerChange]:
        """Half-open where the time has come; the caller has the lock and tells of what this returns."""
        if self._state is BreakerState.OPEN and self._now() >= self._reopens:
            return [self._become(BreakerState.HALF_OPEN, 0, 0)]
        return []

    def _forget(self) -> int:
        """Drop what has left the window; returns the number of the present slice."""
        now = self._now() // -(-self.policy.window // SLICES)
        while self._window and self._window[0][0] <= now - SLICES:
            self._window.popleft()
        return now

    def _count(self, *, failed: bool) -> list[BreakerChange]:
        now = self._forget()
        if not self._window or self._window[-1][0] != now:
            self._window.append([now, 0, 0])
        self._window[-1][1] += 1
        self._window[-1][2] += failed
        calls = sum(each[1] for each in self._window)
        failures = sum(each[2] for each in self._window)
        if failed and calls >= self.policy.minimum_calls and failures >= self.policy.rate * calls:
            return [self._become(BreakerState.OPEN, calls, failures)]
        return []

    def _count_probe(self, answered: bool | None) -> list[BreakerChange]:
        self._out -= 1
        if answered is None:
            return [BreakerChange(name=self.name, before=self._state, after=self._state, calls=0, failures=0)]
        self._answered += answered
        self._failed += not answered
        probes, enough = self.policy.probes, self.policy.rate * self.policy.probes
        if self._failed >= enough:
            return [self._become(BreakerState.OPEN, self._answered + self._failed, self._failed)]
        if probes - self._answered < enough:
            return [self._become(BreakerState.CLOSED, self._answered + self._failed, self._failed)]
        return []

    def _become(self, state: BreakerState, calls: int, failures: int) -> BreakerChange:
        change = BreakerChange(name=self.name, before=self._state, after=state, calls=calls, failures=failures)
        self._state = state
        self._generation += 1
        self._window.clear()
        self._out = self._answered = self._failed = 0
        if state is BreakerState.OPEN:
            self._reopens = self._now() + self.policy.open_for
        return change

    def _tell(self, changes: list[BreakerChange]) -> None:
        for change in changes:
            if change.before is not change.after:
                level = logging.WARNING if change.after is BreakerState.OPEN else logging.INFO
                text = "breaker %s is %s: %d of %d calls failed"
                _LOG.log(level, text, self.name, change.after.value, change.failures, change.calls)
            for listener in self._listeners:
                try:
                    listener(change)
                except Exception:  # noqa: BLE001 - it is the user's, and work must go on
                    _LOG.exception("a listener of breaker %s failed", self.name)


class Breakers(Mapping[str, Breaker]):
    """
    The breakers of an engine by the name of their dependency; one that was never described has the default policy.

    Args:
        now: tells the time in milliseconds, and never runs backwards.
        on_change: is told of every change of every breaker, and of every probe that was not made after all.
    """

    def __init__(self, now: Callable[[], int], on_change: Listener) -> None:
        self._now = now
        self._on_change = on_change
        self._breakers: dict[str, Breaker] = {}
        self._lock = threading.Lock()

    def __getitem__(self, name: str) -> Breaker:
        return self._breakers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._breakers))

    def __len__(self) -> int:
        return len(self._breakers)

    def of(self, name: str) -> Breaker:
        """Return the breaker of a dependency, made when it is first asked for."""
        found = self._breakers.get(name)
        return found if found is not None else self.describe(name, BreakerPolicy(), None, renew=False)

    def describe(self, name: str, policy: BreakerPolicy, listener: Listener | None, *, renew: bool = True) -> Breaker:
        """Give a dependency a new breaker, closed, in place of the one it may have had."""
        own = () if listener is None else (_only_changes(listener),)
        fresh = Breaker(name, policy, now=self._now, listeners=(self._on_change, *own))
        with self._lock:
            if renew:
                self._breakers[name] = fresh
            return self._breakers.setdefault(name, fresh)


def read_policy(**settings: Any) -> BreakerPolicy:
    """Return a policy from what a user wrote: durations as text or timedelta; None stands for the default."""
    given = {name: value for name, value in settings.items() if value is not None}
    for name in ("window", "open_for"):
        if name in given:
            given[name] = read_span(given[name], name)
    return BreakerPolicy(**given)


def _only_changes(listener: Listener) -> Listener:
    """Leave out what is news for those that wait for a probe alone."""

    def told(change: BreakerChange) -> None:
        if change.before is not change.after:
            listener(change)

    return told
