"""A runner whose cases are moved by others, whose handlers misbehave and whose store hiccups leaves nothing behind."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from knhk import Engine, EventKind, KnhkError, Specification, Work
from knhk.errors import StoreUnavailable
from knhk.stores.memory import MemoryStore
from knhk.stores import open_store
from knhk.testing.clock import ManualClock

RETRY = {"max_attempts": 4, "initial": "10ms"}
NET = {
    "id": "c",
    "tasks": [
        {"id": "S", "split": "and"},
        {"id": "A", "handler": "any", "retry": RETRY, "breaker": "b"},
        {"id": "B", "handler": "any", "retry": RETRY, "concurrency": 2},
        {"id": "C", "handler": "any", "retry": RETRY, "timeout": "1h", "replayable": True},
        {"id": "M", "handler": "any", "retry": RETRY, "multiple": {"count": 3, "threshold": 2}},
        {"id": "J", "join": {"partial": 3}, "cancels": ["A", "B", "C"]},
        {"id": "D", "handler": "any", "retry": RETRY},
    ],
    "flows": [
        {"from": "start", "to": "S"},
        *({"from": "S", "to": each} for each in "ABCM"),
        *({"from": each, "to": "J"} for each in "ABCM"),
        {"from": "J", "to": "D"},
        {"from": "D", "to": "end"},
    ],
}


class Hiccups:
    """A store some of whose commits fail."""

    def __init__(self, store: Any, dice: random.Random) -> None:
        self._store, self._dice = store, dice
        self.on = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def commit(self, commits: Any) -> None:
        """Commit, or not, or commit and say that it failed."""
        number = self._dice.random() if self.on else 1.0
        if number < 0.01:
            raise StoreUnavailable("before")
        self._store.commit(commits)
        if number < 0.02:
            raise StoreUnavailable("after")


def meddle(engine: Engine, cases: list[Any], clock: ManualClock, stop: threading.Event, seed: int) -> None:
    """Move cases at random until told to stop."""
    dice = random.Random(seed)
    while not stop.is_set():
        case = dice.choice(cases)
        actions = [
            case.suspend,
            case.resume,
            case.resume,
            lambda case=case: case.run(),
            lambda case=case: case.cancel_task(dice.choice("ABCM")),
            case.retry_failed,
            lambda case=case: engine.evict(case.id),
            lambda: clock.advance(dice.choice([1, 5, 20])),
            lambda case=case: case.cancel() if dice.random() < 0.02 else None,
        ]
        try:
            dice.choice(actions)()
        except (KnhkError, SystemExit):
            continue


@pytest.mark.parametrize("seed", range(4))
def test_nothing_is_lost_doubled_or_left_behind(seed: int, tmp_path: Path) -> None:
    """Whatever happened meanwhile, in the end every case is over, its history is its state, and every place is free."""
    dice, clock = random.Random(seed), ManualClock()
    kept = MemoryStore() if seed % 2 else open_store(str(tmp_path / "c.db"), durability="off")
    store = Hiccups(kept, dice)
    lock, inside = threading.Lock(), [0]
    with Engine(store, clock=clock, cache=20) as engine:
        engine.breaker("b", minimum_calls=5, rate=0.6, open_for="50ms", probes=2)
        engine.register(Specification.from_dict(NET))
        calm = threading.Event()

        @engine.handler("any")
        def handle(work: Work) -> dict[str, Any]:
            if work.task == "B":
                with lock:
                    inside[0] += 1
                    assert inside[0] <= 2
            try:
                number = 1.0 if calm.is_set() else dice.random()
                if number < 0.2:
                    raise OSError("now and then")
                if number < 0.25:
                    raise SystemExit(1)
                return {work.task.partition("#")[0]: work.attempt}
            finally:
                if work.task == "B":
                    with lock:
                        inside[0] -= 1

        cases = [engine.create_case("c") for _ in range(40)]
        for case in cases:
            case.start()
        stop = threading.Event()
        others = [
            threading.Thread(target=meddle, args=(engine, cases, clock, stop, 10 * seed + number))
            for number in range(2)
        ]
        runner = engine.serve(workers=6, interval=0.01)
        runner.start()
        store.on = True
        for thread in others:
            thread.start()
        stop.wait(1.0)
        store.on = False
        stop.set()
        calm.set()
        for thread in others:
            thread.join(30)
            assert not thread.is_alive()
        end = time.monotonic() + 60
        while any(header.state not in ("completed", "cancelled") for header in engine.cases()):
            assert time.monotonic() < end, [(case.state, case.running, case.enabled) for case in cases]
            clock.advance(100)
            for case in cases:
                try:
                    case.resume() if case.state == "suspended" else case.retry_failed()
                    if not case.running and case.state == "deadlocked":
                        # A task that was cancelled by hand has left its join without what it waits for.
                        case.cancel()
                except KnhkError:
                    continue
            threading.Event().wait(0.01)
        runner.stop()

        assert {} == engine._handlers.admission._running
        assert (0, 0) == (runner.busy, runner.stuck)
        assert not any(resident.in_flight for resident in engine._cache._residents.values())
        for case in cases:
            live = (case.state, case.data)
            history = case.history()
            done = [e.path for e in history if e.kind in (EventKind.TASK_COMPLETED, EventKind.INSTANCE_COMPLETED)]
            assert len(done) == len(set(done))
            begun = [(e.path, e.details["attempt"]) for e in history if e.kind is EventKind.ATTEMPT_BEGUN]
            assert len(begun) == len(set(begun))
            engine.evict(case.id)
            assert live == (case.state, case.data)
