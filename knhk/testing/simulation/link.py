"""An instance's way to the store, on which calls and replies are lost, late, or the last thing that it does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, Protocol

from knhk.errors import KnhkError, StoreUnavailable
from knhk.ports import Commit, Document, Durability, Store
from knhk.stores.memory import one_by_one
from knhk.testing.simulation.world import World

_WRITES: Final = frozenset({"commit", "write", "put_specification", "quarantine"})
_METHODS: Final = frozenset(name for name in vars(Store) if not name.startswith("_"))

Stored = Callable[[Sequence[Commit], Sequence[Document]], None]


class Crash(BaseException):
    """The end of an instance, at the instruction that raises it; nobody in it may go on."""


class Mortal(Protocol):
    """What a link needs to know of its instance."""

    name: str
    dead: bool

    def die(self) -> Crash:
        """Be dead from now on; return what ends whatever it does."""


class Link:
    """
    One instance's way to the store: as a `knhk.ports.Store`, with the faults of the world.

    Args:
        world: whose store it leads to.
        instance: who calls.
        stored: is told of each write that was stored: its steps of cases, and what it held beside theirs.
    """

    durability: Final = Durability.FULL

    def __init__(self, world: World, instance: Mortal, stored: Stored) -> None:
        self._world = world
        self._instance = instance
        self._stored = stored

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in _METHODS:
            raise AttributeError(name)
        return partial(self._call, name, getattr(self._world.store, name))

    def commit_each(self, calls: Sequence[Sequence[Commit]]) -> list[KnhkError | None]:
        """Let each of the calls meet what a call may meet."""
        return one_by_one(self.commit, calls)

    def close(self) -> None:
        """Leave the store as it is: the others use it."""

    def _call(self, name: str, method: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        world, instance, faults = self._world, self._instance, self._world.faults
        if instance.dead:
            raise instance.die()
        world.note(instance.name, name)
        self._interrupt(f"before {name}")
        if world.store_is_away or world.happens(faults.unreachable):
            world.count("unreachable", instance.name, name)
            raise StoreUnavailable("the call does not arrive")
        if world.happens(faults.slow):
            world.count("slow", instance.name, name)
            world.advance(world.random.randrange(3_000))
        try:
            result = method(*arguments, **named)
        except KnhkError as error:
            world.note(instance.name, name, type(error).__name__)
            raise
        if name in _WRITES:
            self._stored(arguments[0] if name == "commit" else (), named.get("held", ()))
            if world.happens(faults.lost):
                world.count("reply lost", instance.name, name)
                raise StoreUnavailable("the reply does not arrive")
        self._interrupt(f"after {name}")
        return result

    def _interrupt(self, where: str) -> None:
        """Let the instance die here, or stand still for a while."""
        world = self._world
        if world.happens(world.faults.crash):
            world.count("crash", self._instance.name, where)
            raise self._instance.die()
        if world.happens(world.faults.pause):
            world.count("pause", self._instance.name, where)
            world.meanwhile(self._instance.name, world.random.choice((300, 2_000, 9_000)))
