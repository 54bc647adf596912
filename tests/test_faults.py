"""A store that fails once, at whichever call: no case is stuck or half moved, and every command can be repeated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from knhk import Engine, EventKind, Specification, Work
from knhk.errors import StoreUnavailable
from knhk.ports import Durability
from knhk.stores import MemoryStore
from knhk.stores.sqlite import SqliteStore
from knhk.testing.clock import ManualClock

CALLS = 60
ATTEMPTS = (EventKind.ATTEMPT_BEGUN, EventKind.ATTEMPT_FAILED, EventKind.ITEM_CHANGED)
SPECIFICATION = Specification.from_dict(
    {
        "id": "tour",
        "tasks": [
            {"id": "check", "handler": "check", "split": "xor", "retry": {"max_attempts": 5, "initial": "1s"}},
            {"id": "approve", "manual": {}},
            {"id": "expire", "timer": "3d"},
            {"id": "fan", "join": "xor", "split": "and"},
            {"id": "label", "external": {"topic": "labels", "timeout": "10m"}},
            {"id": "ship", "subnet": "shipping"},
            {"id": "paid", "trigger": "payment"},
            {"id": "close", "join": "and"},
            {"id": "notify", "handler": "notify", "multiple": {"for_each": "data.people", "threshold": 2}},
        ],
        "conditions": ["waiting"],
        "flows": [
            {"from": "start", "to": "check"},
            {"from": "check", "to": "waiting", "when": "data.amount > 100"},
            {"from": "check", "to": "fan", "default": True},
            {"from": "waiting", "to": "approve"},
            {"from": "waiting", "to": "expire"},
            {"from": "approve", "to": "fan"},
            {"from": "expire", "to": "end"},
            {"from": "fan", "to": "label"},
            {"from": "fan", "to": "ship"},
            {"from": "fan", "to": "paid"},
            {"from": "label", "to": "close"},
            {"from": "ship", "to": "close"},
            {"from": "paid", "to": "close"},
            {"from": "close", "to": "notify"},
            {"from": "notify", "to": "end"},
        ],
        "subnets": {
            "shipping": {
                "tasks": [{"id": "pick", "manual": {}}, {"id": "pack", "manual": {}}],
                "flows": [
                    {"from": "start", "to": "pick"},
                    {"from": "pick", "to": "pack"},
                    {"from": "pack", "to": "end"},
                ],
            }
        },
        "data": {"type": "object", "required": ["amount"]},
    }
)


class FaultyStore:
    """A real store of which one call fails before it does anything; the calls are counted."""

    def __init__(self, store: Any, failing: int) -> None:
        self.store = store
        self.failing = failing
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        function = getattr(self.store, name)
        if not callable(function):
            return function

        def call(*arguments: Any, **named: Any) -> Any:
            self.calls += 1
            if self.calls == self.failing:
                raise StoreUnavailable("out of reach")
            return function(*arguments, **named)

        return call


class Tour:
    """Two cases of one specification: one is approved and goes the whole way, the other one expires."""

    def __init__(self, store: FaultyStore, *, evict: bool) -> None:
        self.clock = ManualClock()
        self.works_from = self.clock.now() + 500
        self.engine = Engine(store, clock=self.clock)
        self.evict = evict
        self.effects: list[str] = []
        self.failures = 0
        self.engine.handler("check")(self.check)
        self.engine.handler("notify")(lambda work: self.effects.append(work.idempotency_key))

    def check(self, work: Work) -> dict[str, Any]:
        if self.clock.now() < self.works_from:
            raise OSError("not yet")
        self.effects.append(work.idempotency_key)
        return {"checked": True}

    def create(self, key: str) -> Any:
        data = {"amount": 500, "people": ["ann", "bob", "cyd"]}
        return self.engine.create_case("tour", data, idempotency_key=key)

    def attempt(self, command: Callable[[], Any]) -> None:
        """Give a command, once more if the store failed under it."""
        if self.evict:
            self.engine.evict()
        try:
            command()
        except StoreUnavailable:
            self.failures += 1
            command()

    def later(self, milliseconds: int) -> None:
        self.clock.advance(milliseconds)
        self.attempt(self.engine.tick)
        self.attempt(self.engine.run_pending)

    def play(self) -> None:
        self.attempt(lambda: self.engine.register(SPECIFICATION))
        for key in ("long", "short"):
            self.attempt(lambda key=key: self.create(key).run())
        self.later(1_000)
        self.later(1_000)
        attempt = self.attempt
        attempt(lambda: self.create("long").start_task("approve", by="ann"))
        attempt(lambda: self.create("long").complete_task("approve", {"ok": 1}, by="ann"))
        attempt(lambda: self.create("long").start_task("label", by="printer-1"))
        attempt(lambda: self.create("long").suspend())
        attempt(lambda: self.create("long").resume())
        self.later(600_000)
        attempt(lambda: self.create("long").start_task("label", by="printer-2"))
        attempt(lambda: self.create("long").complete_task("label", {"label": 2}, by="printer-2"))
        attempt(lambda: self.create("long").complete_task("ship/pick"))
        attempt(lambda: self.create("long").send_event("payment", {"paid": 3}))
        attempt(lambda: self.create("long").complete_task("ship/pack"))
        attempt(lambda: self.create("long").run())
        self.later(3 * 86_400_000)

    def outcome(self) -> Any:
        """What became of both cases, in memory and read again from the store."""
        seen = []
        for _ in ("memory", "store"):
            cases = [self.create(key) for key in ("long", "short")]
            seen.append([(each.state, each.data, each.enabled, each.running, each.next_due) for each in cases])
            # How often a handler was begun is the one thing that a failure may change.
            told = [[(event.kind, event.path) for event in each.history()] for each in cases]
            seen.append([[each for each in events if each[0] not in ATTEMPTS] for events in told])
            seen.append(list(self.engine.work_items()))
            self.engine.evict()
        assert seen[:3] == seen[3:]
        return seen[:3], len(set(self.effects))


@pytest.mark.parametrize("kind", ["memory", "memory-evicted", "sqlite-evicted"])
def test_any_call_of_the_store_may_fail(tmp_path: Path, kind: str) -> None:
    """Whichever of at least 60 calls fails, repeating the command that met it leads to the same end, memory and store agreeing."""

    def tour(failing: int) -> tuple[Tour, FaultyStore]:
        real = (
            SqliteStore(tmp_path / f"{failing}.db", durability=Durability.OFF)
            if kind.startswith("sqlite")
            else MemoryStore()
        )
        store = FaultyStore(real, failing)
        return Tour(store, evict=kind.endswith("evicted")), store

    undisturbed, store = tour(0)
    undisturbed.play()
    calls = store.calls
    expected = undisturbed.outcome()
    assert calls >= CALLS
    assert [("completed", 6), ("completed", 3)] == [(state, len(data)) for state, data, *_ in expected[0][0]]

    for failing in range(1, calls + 1):
        disturbed, store = tour(failing)

        disturbed.play()

        store.failing = 0
        assert expected == disturbed.outcome(), f"call {failing} failed"
        assert disturbed.failures == 1, f"call {failing} was not met"
        disturbed.engine.close()
