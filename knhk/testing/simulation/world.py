"""The world of a simulation: one seed, one time, one store that loses nothing, and what goes wrong around it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Final

import attrs

from knhk.stores import MemoryStore

BEGINNING: Final = 1_000_000_000_000


@attrs.frozen(kw_only=True)
class Faults:
    """
    How often things go wrong.

    Args:
        crash: probability that an instance dies, before a call of the store and after it, and in a handler.
        pause: the same of an instance that stops for a while, in which the others go on; often for longer than its lease.
        unreachable: probability that a call does not arrive at the store.
        lost: probability that a write is stored and its reply lost.
        slow: probability that a call takes up to 3 seconds.
        outage: probability, at each step of the world, that the store is away for up to 8 seconds.
        jump: the same, that the clock of an instance jumps by up to a minute, forward or back.
        handler: probability that a handler raises.
    """

    crash: float = 0.005
    pause: float = 0.02
    unreachable: float = 0.01
    lost: float = 0.01
    slow: float = 0.01
    outage: float = 0.004
    jump: float = 0.01
    handler: float = 0.1


class World:
    """
    What all instances and clients of one simulation have in common.

    Whatever is left to chance is drawn from one source, and whatever happens is noted in one order, so that a seed tells the
    same story each time, to the last call.

    Args:
        seed: which story.
        faults: how often things go wrong in it.
        told: is given each line of the story; None: nobody listens.

    Attributes:
        random: what is left to chance is drawn from it.
        faults: as above.
        store: the store behind all links; it loses nothing.
        time: the true time in milliseconds since the epoch.
        calm: whether nothing goes wrong any more.
        counts: how often what happened.
        calls: how often a handler was called with the same work, by its key, and the same attempt.
        outputs: by token, the key of the work whose handler returned it.
        problems: what must not have happened, and was seen as it did.
        meanwhile: lets the others go on for so many milliseconds while one that is named stands still.
    """

    def __init__(self, seed: int, faults: Faults, told: Callable[[str], object] | None = None) -> None:
        self.random = Random(seed)  # noqa: S311 - a story, no secret
        self.faults = faults
        self.store = MemoryStore()
        self.time = BEGINNING
        self.calm = False
        self.counts: Counter[str] = Counter()
        self.calls: Counter[tuple[str, int]] = Counter()
        self.outputs: dict[str, str] = {}
        self.problems: list[str] = []
        self.meanwhile: Callable[[str, int], None] = lambda _, span: self.advance(span)
        self._told = told
        self._away_until = 0
        self._digest = hashlib.sha256()
        self._tokens = 0

    @property
    def digest(self) -> str:
        """What tells two stories apart."""
        return self._digest.hexdigest()

    @property
    def store_is_away(self) -> bool:
        """Whether nobody can reach the store."""
        return self.time < self._away_until

    def note(self, *words: object) -> None:
        """Note what happens, and when; who listens is told."""
        line = f"{self.time - BEGINNING} {' '.join(map(str, words))}"
        self._digest.update(line.encode())
        if self._told is not None:
            self._told(line)

    def count(self, what: str, *words: object) -> None:
        """Note that something of a kind happens, and count it."""
        self.counts[what] += 1
        self.note(what, *words)

    def happens(self, probability: float) -> bool:
        """Draw whether something goes wrong; nothing does while all is calm."""
        return not self.calm and self.random.random() < probability

    def advance(self, milliseconds: int) -> None:
        """Let time pass."""
        self.time += milliseconds

    def take_store_away(self) -> None:
        """Let nobody reach the store for some time."""
        span = self.random.randrange(100, 8_000)
        self._away_until = self.time + span
        self.count("outage", span)

    def calm_down(self) -> None:
        """Let nothing go wrong from now on."""
        self.calm = True
        self._away_until = 0

    def token(self) -> str:
        """Return a text that nobody else is given, to be found again in a history."""
        self._tokens += 1
        return f"token-{self._tokens}"


class SkewedClock:
    """
    The clock of one instance: its wall clock may be wrong, and jump; spans of time it measures right.

    Args:
        world: has the true time.
        skew: milliseconds by which the wall clock is wrong.
    """

    def __init__(self, world: World, skew: int = 0) -> None:
        self._world = world
        self.skew = skew

    def now(self) -> int:
        """Return milliseconds since the epoch, as far as this clock knows."""
        return self._world.time + self.skew

    def monotonic(self) -> int:
        """Return milliseconds since some time, never fewer than before."""
        return self._world.time


class NumberedIds:
    """Ids by number, the same in each run."""

    def __init__(self) -> None:
        self._last = 0

    def next_id(self) -> str:
        """Return the next id."""
        self._last += 1
        return f"case-{self._last:04d}"
