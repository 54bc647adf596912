"""An instance of a simulation: an engine that is told when to do what, dies, and comes back with nothing but its name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from knhk.engine import Engine
from knhk.errors import KnhkError
from knhk.ports import Commit, Document
from knhk.spec import Specification
from knhk.testing.simulation.link import Crash, Link
from knhk.testing.simulation.world import NumberedIds, SkewedClock, World
from knhk.work.case_work import Job
from knhk.work.handlers import Work
from knhk.work.instances import PARTITIONS, read_partition
from knhk.work.ownership import Ownership

LEASE: Final = 6.0
"""Seconds."""

_TURN: Final = 3
"""Attempts that one turn makes at the work of one case."""


class Instance:
    """
    One of the engines on the store.

    Args:
        world: where it lives.
        name: its name.
        specifications: what it registers when it starts.
        ids: where cases get their names, everybody's.
        shares: whether there are others; if not it does all automatic work without asking whose it is.

    Attributes:
        name: as above.
        clock: its clock.
        dead: whether it does not run.
        still: whether it is in the middle of something, and the others go on.
    """

    def __init__(
        self, world: World, name: str, specifications: list[Specification], ids: NumberedIds, *, shares: bool
    ) -> None:
        self.name = name
        self.clock = SkewedClock(world, world.random.choice((0, 0, 700, -1_500)))
        self.dead = True
        self.still = False
        self._world = world
        self._specifications = specifications
        self._ids = ids
        self._shares = shares
        self._ownership: Ownership | None = None
        self._engine: Engine | None = None
        self._next_beat = 0
        self._fenced: dict[str, bool] = {}

    @property
    def engine(self) -> Engine:
        """Its engine, while it runs."""
        assert self._engine is not None
        return self._engine

    def die(self) -> Crash:
        """Be dead from now on; return what ends whatever it does."""
        self.dead = True
        return Crash(self.name)

    def start(self) -> None:
        """Begin, as a process does: from the store alone; where that is away, it ends."""
        world = self._world
        world.count("start", self.name)
        link: Any = Link(world, self, self._check)
        self.dead = False
        self._ownership = Ownership(link, self.name, lease=LEASE, clock=self.clock) if self._shares else None
        cache = world.random.choice((1, 2, 50))
        self._engine = Engine(
            link, clock=self.clock, ids=self._ids, chance=world.random, instance=self._ownership, cache=cache
        )
        self._engine.handler("work")(self._work)
        self._engine.handler("undo")(self._work)
        try:
            registered = {each.spec_id for each in link.specifications()}
            for each in self._specifications:
                if each.id not in registered:
                    self._engine.register(each)
        except KnhkError:
            self.dead = True
            raise
        self._next_beat = world.time

    # --- what it is told to do ----------------------------------------------------------------------------------------

    def beat(self) -> None:
        """Send a heartbeat if it is time for one."""
        if self._ownership is not None and self._world.time >= self._next_beat:
            self._ownership.beat()
            self._next_beat = self._world.time + int(1000 * self._ownership.interval)

    def tick(self) -> None:
        """Do what is due."""
        self.engine.tick()

    def work(self) -> None:
        """Make some attempts at automatic work, as a runner does."""
        if not self._shares and self._world.random.random() < 0.5:
            self.engine.run_pending()
            return
        for case_id in self.engine.pending():
            self._turn(case_id)

    def _turn(self, case_id: str) -> None:
        case = self.engine.case(case_id)
        with case.kept():
            for _ in range(_TURN):
                failures: list[KnhkError] = []
                job = case.hand_out(failures, apart=True)
                if not isinstance(job, Job):
                    return
                try:
                    output = case.call(job)
                except Exception as error:  # noqa: BLE001 - as a runner does: whatever it raises is the failure of its item
                    case.fail(job, error)
                else:
                    case.finish(job, output)
            case.flush()

    def _work(self, work: Work) -> dict[str, Any]:
        """Do what all handlers do: note who asked, perhaps fail, perhaps take long, perhaps die, and return a token."""
        world = self._world
        attempt = (work.idempotency_key, work.attempt)
        world.calls[attempt] += 1
        if self._shares and not self._fenced[work.case_id]:
            world.problems.append(f"{self.name} began attempt {work.attempt} at {work.idempotency_key} without a fence")
        world.count("handler", self.name, *attempt)
        if world.happens(10 * world.faults.pause):
            world.count("pause", self.name, "in a handler")
            world.meanwhile(self.name, world.random.choice((300, 9_000)))
        if world.happens(10 * world.faults.crash):
            world.count("crash", self.name, "in a handler")
            raise self.die()
        if world.happens(world.faults.handler):
            raise ConnectionError("no answer")
        token = world.token()
        world.outputs[token] = work.idempotency_key
        return {f"by_{work.idempotency_key.partition(':')[2]}": token}

    def _check(self, commits: Sequence[Commit], held: Sequence[Document]) -> None:
        """Remember which steps were fenced; note where something was stored under what is somebody else's."""
        # All steps of one call are one transaction: it is enough if one of a case's holds.
        self._fenced.update((commit.header.case_id, False) for commit in commits)
        self._fenced.update((commit.header.case_id, True) for commit in commits if commit.held)
        for document in (*held, *(each for commit in commits for each in commit.held)):
            owner = self._owner(document) if document.collection == PARTITIONS else self.name
            if owner != self.name:
                what = f"work under partition {document.key}"
                self._world.problems.append(f"{self.name} stored {what}, which is {owner or 'nobody'}'s")

    def _owner(self, document: Document) -> str:
        found = self._world.store.document(document.collection, document.key)
        return "" if found is None else str(read_partition(found)["owner"])
