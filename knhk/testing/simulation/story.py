"""A story: one seed's instances, clients and faults, told step by step to its end."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Final

import attrs

from knhk.errors import KnhkError
from knhk.ports import Document
from knhk.testing.simulation.clients import Clients, Wish
from knhk.testing.simulation.instance import LEASE, Instance
from knhk.testing.simulation.invariants import problems_of
from knhk.testing.simulation.link import Crash
from knhk.testing.simulation.specifications import specifications
from knhk.testing.simulation.world import Faults, NumberedIds, World
from knhk.work.ownership import AGREED, TERMS

_STEPS: Final = 80
_DEEPEST: Final = 2
"""How many instances stand still within each other's calls."""

_ROUNDS: Final = 400
"""Rounds without faults after which every case must be over."""


@attrs.frozen(kw_only=True)
class Story:
    """
    How a simulation came out.

    Args:
        seed: which.
        problems: what is not as it must be; none where all is well.
        digest: the same for the same story, to the last call of the store.
        counts: what happened how often: crash, pause, outage, reply lost, handler and so on.
    """

    seed: int
    problems: tuple[str, ...]
    digest: str
    counts: Counter[str]


def simulate(
    seed: int, *, faults: Faults | None = None, steps: int = _STEPS, tell: Callable[[str], object] | None = None
) -> Story:
    """
    Tell one story, and check its end.

    One to three instances on one store serve clients, do automatic work, and fail in every way that `faults` has; then nothing
    fails any more, and all cases must come to their end.

    Args:
        seed: which story; the same seed is the same story.
        faults: how often things go wrong.
        steps: how many things happen before the calm.
        tell: is given each line of it.
    """
    world = World(seed, faults if faults is not None else Faults(), tell)
    teller = _Teller(world)
    try:
        teller.tell(steps)
        found = tuple(problems_of(world, teller.clients))
    except Exception as error:
        error.add_note(f"in the simulation of seed {seed}")
        raise
    return Story(seed=seed, problems=found, digest=world.digest, counts=world.counts)


class _Teller:
    def __init__(self, world: World) -> None:
        random, self._world = world.random, world
        chosen = random.sample(specifications(), 3)
        count, ids = random.choice((1, 2, 3, 3)), NumberedIds()
        shares = count > 1 or random.random() < 0.3
        self._instances = [
            Instance(world, f"instance-{number}", chosen, ids, shares=shares) for number in range(1, count + 1)
        ]
        self.clients = Clients(
            world,
            [
                Wish(
                    key=f"key-{number}",
                    spec_id=random.choice(chosen).id,
                    data={"choice": random.randrange(4)},
                    start=random.random() < 0.6,
                )
                for number in range(random.randrange(2, 6))
            ],
        )
        self._depth = 0
        # Few partitions, so that each changes hands often.
        terms = {"partitions": 6, "lease": round(LEASE * 1000)}
        world.store.write([Document(collection=AGREED, key=TERMS, value=json.dumps(terms))])
        world.meanwhile = self._meanwhile

    def tell(self, steps: int) -> None:
        """Tell the story to its end."""
        for _ in range(steps):
            self._step()
        self._world.calm_down()
        for _ in range(_ROUNDS):
            self._world.advance(1_000)
            for each in self._instances:
                if each.dead:
                    self._do(each, each.start)
                for part in (each.beat, each.tick, each.work):
                    self._do(each, part)
                self.clients.insist(each)
            if self._over():
                return

    def _over(self) -> bool:
        ended = ("completed", "cancelled")
        wanted = all(wish.case_ids for wish in self.clients.wishes)
        return wanted and all(each.state in ended for each in self._world.store.cases(limit=10_000))

    # --- inside -------------------------------------------------------------------------------------------------------

    def _step(self) -> None:
        """Let one thing happen."""
        world, random = self._world, self._world.random
        world.advance(random.choice((0, 0, 20, 200, 1_000)))
        if world.happens(world.faults.outage):
            world.take_store_away()
        free = [each for each in self._instances if not each.still]
        for each in free:
            if not each.dead:
                self._do(each, each.beat)
        if not free:
            return
        chosen = random.choice(free)
        if chosen.dead:
            if random.random() < 0.3:
                self._do(chosen, chosen.start)
            return
        if world.happens(world.faults.jump):
            chosen.clock.skew += random.randrange(-60_000, 60_000)
            world.count("jump", chosen.name, chosen.clock.skew)
        what = random.randrange(10)
        if what < 5:
            self.clients.act(chosen)
        else:
            self._do(chosen, chosen.work if what < 8 else chosen.tick)

    def _do(self, instance: Instance, part: Callable[[], object]) -> None:
        """Let an instance do something; what fails is told to its log, and it goes on, unless it died."""
        if instance.dead and part != instance.start:
            return
        try:
            part()
        except Crash:
            instance.dead = True
        except KnhkError as error:
            self._world.note(instance.name, "failed", type(error).__name__)

    def _meanwhile(self, name: str, span: int) -> None:
        """Let the others go on for some time, while one stands still in the middle of what it does."""
        world = self._world
        instance = next(each for each in self._instances if each.name == name)
        end = world.time + span
        instance.still = True
        self._depth += 1
        try:
            while world.time < end and self._depth <= _DEEPEST and len(self._instances) > 1:
                world.advance(100)
                self._step()
        finally:
            self._depth -= 1
            instance.still = False
        world.time = max(world.time, end)
