"""What went wrong once, and must not again: one broken case beside others, lost commits, stale memory."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from knhk import ConcurrentUpdate, DataError, Engine, HandlerError, IllegalTransition, QuarantinedCase, Specification
from knhk.case import Case
from knhk._recording import SNAPSHOT_EVERY
from knhk._compiled import compile_specification
from knhk.stores import MemoryStore
from knhk.testing.clock import ManualClock


def spec(name: str, tasks: list[dict[str, Any]], flows: list[dict[str, Any]], **more: Any) -> Specification:
    """A specification in few words."""
    return Specification.from_dict({"id": name, "tasks": tasks, "flows": flows, **more})


def line(name: str, *tasks: dict[str, Any]) -> Specification:
    """Tasks one after the other."""
    ids = ["start", *(task["id"] for task in tasks), "end"]
    return spec(name, list(tasks), [{"from": a, "to": b} for a, b in zip(ids, ids[1:], strict=False)])


def blocked(name: str) -> Specification:
    """A timer whose split has no way out unless `go` is set."""
    return spec(
        name,
        [{"id": "T", "timer": "10s", "split": "xor"}, {"id": "A"}, {"id": "B"}],
        [
            {"from": "start", "to": "T"},
            {"from": "T", "to": "A", "when": "has(data.go) && data.go == 1"},
            {"from": "T", "to": "B", "when": "has(data.go) && data.go == 2"},
            {"from": "A", "to": "end"},
            {"from": "B", "to": "end"},
        ],
    )


def test_a_refusal_after_a_snapshot_keeps_the_data() -> None:
    """What a refused command did to the data is undone also when a snapshot was taken before it."""
    compiled = compile_specification(
        spec(
            "s",
            [{"id": "first", "manual": {}}, {"id": "x", "split": "xor"}, {"id": "y"}, {"id": "z"}],
            [
                {"from": "start", "to": "first"},
                {"from": "first", "to": "x"},
                {"from": "x", "to": "y", "when": "data.n == 1"},
                {"from": "x", "to": "z", "when": "data.n == 2"},
                {"from": "y", "to": "end"},
                {"from": "z", "to": "end"},
            ],
        )
    )
    case = Case(compiled.program, compiled.kernels)
    case.create({"n": 1})
    case.start(at=0)
    case.take_records()
    case.snapshot()

    with pytest.raises(DataError):
        case.complete_task("first", {"n": 3, "m": 4}, at=0)

    assert {"n": 1} == case.state.data
    case.complete_task("first", at=0)
    assert "completed" == case.state.phase.value


def test_a_timer_that_cannot_run_stops_no_other() -> None:
    """The timers of all other cases run before the failure of one is raised, and it fails again until it is mended."""
    clock = ManualClock()
    with Engine(clock=clock) as engine:
        engine.register(blocked("blocked"))
        engine.register(line("fine", {"id": "T", "timer": "10s"}))
        bad = [engine.create_case("blocked") for _ in range(2)]
        good = [engine.create_case("fine") for _ in range(2)]
        for case in (*bad, *good):
            case.start()
        clock.advance(10_000)

        with pytest.raises(DataError) as caught:
            engine.tick()

        assert ["completed"] * 2 == [case.state for case in good]
        assert ["running"] * 2 == [case.state for case in bad]
        assert 1 == len(caught.value.__notes__)
        bad[0].cancel()
        with pytest.raises(DataError):
            engine.tick()


def test_timers_that_ran_before_one_that_cannot_are_kept() -> None:
    """Two timers of one case are due and the later cannot run: the earlier is committed."""
    clock = ManualClock()
    store = MemoryStore()
    with Engine(store, clock=clock) as engine:
        tree = blocked("two").to_dict()
        tree["tasks"] += [{"id": "fork", "split": "and"}, {"id": "early", "timer": "1s"}, {"id": "after", "manual": {}}]
        tree["flows"] = [
            {"from": "start", "to": "fork"},
            {"from": "fork", "to": "T"},
            {"from": "fork", "to": "early"},
            {"from": "early", "to": "after"},
            {"from": "after", "to": "end"},
            *tree["flows"][1:],
        ]
        engine.register(Specification.from_dict(tree))
        case = engine.create_case("two")
        case.start()
        clock.advance(20_000)

        with pytest.raises(DataError):
            engine.tick()
        engine.evict()

        assert ["after"] == case.enabled


def test_run_pending_drives_the_cases_behind_a_failing_one() -> None:
    """A handler's failure in one case is raised after the work of all others is done."""
    with Engine() as engine:
        engine.register(line("h", {"id": "A", "handler": "work"}))

        @engine.handler("work")
        def work(work: Any) -> None:
            if work.data["bad"]:
                raise ValueError("no")

        cases = [engine.create_case("h", {"bad": bad}) for bad in (True, True, False)]
        for case in cases:
            case.start()

        with pytest.raises(HandlerError) as caught:
            engine.run_pending()

        assert ["failed", "failed", "completed"] == [case.state for case in cases]
        assert 1 == len(caught.value.__notes__)


def test_a_case_in_use_stays_in_memory() -> None:
    """Another case that is created while a replayable handler runs pushes nothing uncommitted out of memory."""
    with Engine(cache=1) as engine:
        engine.register(line("outer", {"id": "A", "handler": "spawn", "replayable": True}, {"id": "B", "handler": "b"}))
        engine.register(line("inner", {"id": "A", "manual": {}}))
        engine.handler("b")(lambda work: None)

        @engine.handler("spawn")
        def spawn(work: Any) -> dict[str, Any]:
            engine.create_case("inner").start()
            engine.evict()
            return {"done": True}

        case = engine.create_case("outer").run()

        assert "completed" == case.state
        assert {"done": True} == case.data


@pytest.mark.parametrize("cut", ["last", "middle", "snapshot"])
def test_a_history_that_misses_commits_is_set_aside(tmp_path: Path, cut: str) -> None:
    """A case whose last, or any other, commit is gone from the store does not go on as if nothing were."""
    path = tmp_path / "cases.db"
    with Engine(str(path)) as engine:
        engine.register(
            line("m", {"id": "M", "manual": {}, "multiple": {"count": "data.n"}}, {"id": "B", "manual": {}})
        )
        case = engine.create_case("m", {"n": SNAPSHOT_EVERY + 10})
        case.start()
        case.start_task("M")
        for k in range(1, SNAPSHOT_EVERY + 5):
            case.complete_task(f"M#{k}")
    connection = sqlite3.connect(path)
    with connection:
        if cut == "snapshot":
            connection.execute("DELETE FROM snapshots")
            connection.execute("DELETE FROM journal WHERE version = 5")
        else:
            order = "DESC" if cut == "last" else "ASC"
            (since,) = connection.execute("SELECT version FROM snapshots").fetchone()
            connection.execute(
                "DELETE FROM journal WHERE version = (SELECT version FROM journal WHERE version > ?"
                f" ORDER BY version {order} LIMIT 1)",
                (since,),
            )
    connection.close()

    with Engine(str(path)) as engine, pytest.raises(QuarantinedCase, match="commits"):
        print(engine.case(case.id).state)


def test_a_second_engine_learns_what_the_first_has_done(tmp_path: Path) -> None:
    """A command that is refused on stale memory is tried on what the store holds."""
    path = str(tmp_path / "cases.db")
    with Engine(path) as one, Engine(path) as two:
        one.register(line("ab", {"id": "A", "manual": {}}, {"id": "B", "manual": {}}))
        case = one.create_case("ab")
        case.start()
        same = two.case(case.id)
        assert ["A"] == same.enabled
        case.complete_task("A")

        same.complete_task("B")

        assert "completed" == same.state
        with pytest.raises(IllegalTransition):
            same.complete_task("B")
        with pytest.raises(ConcurrentUpdate):
            case.complete_task("B")
        with pytest.raises(IllegalTransition):
            case.complete_task("B")


def test_the_same_request_in_another_key_order_is_the_same() -> None:
    """The order of a mapping's keys does not make another request of it."""
    with Engine() as engine:
        engine.register(line("a", {"id": "A", "manual": {}}))

        one = engine.create_case("a", {"x": 1, "y": 2}, idempotency_key="k")

        assert one.id == engine.create_case("a", {"y": 2, "x": 1}, idempotency_key="k").id


@pytest.mark.parametrize("raises", [False, True])
def test_a_handler_may_cancel_its_own_case(raises: bool) -> None:
    """The result or failure of a handler whose work was cancelled meanwhile changes nothing."""
    with Engine() as engine:
        engine.register(line("a", {"id": "A", "handler": "stop"}))

        @engine.handler("stop")
        def stop(work: Any) -> dict[str, Any]:
            engine.case(work.case_id).cancel()
            if raises:
                raise ValueError("late")
            return {"x": 1}

        case = engine.create_case("a")
        if raises:
            with pytest.raises(HandlerError, match="late"):
                case.run()
        else:
            case.run()

        assert "cancelled" == case.state
        assert {} == case.data


def test_a_commit_that_fails_inside_a_handler_stops_the_run() -> None:
    """After a command on its own case failed in the store, the handler's result is not built on it."""

    class LateStore(MemoryStore):
        forgetful = False
        failing = False

        def commit(self, commits: Any) -> None:
            if self.failing:
                raise ConcurrentUpdate("somebody was faster")
            super().commit(commits)

    store = LateStore()
    with Engine(store) as engine:
        engine.register(line("a", {"id": "A", "handler": "meddle"}, {"id": "B", "manual": {}}))

        @engine.handler("meddle")
        def meddle(work: Any) -> dict[str, Any]:
            store.failing = True
            try:
                engine.case(work.case_id).suspend()
            except ConcurrentUpdate:
                store.failing = False
            return {"x": 1}

        case = engine.create_case("a")
        with pytest.raises(ConcurrentUpdate, match="while handler"):
            case.run()

        assert ["A"] == case.running
        engine.handler("meddle")(lambda work: {"x": 2})
        assert ["B"] == case.run().enabled
