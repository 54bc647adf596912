"""Cases that nobody uses are packed, and nobody can tell but by the memory that they take."""

from __future__ import annotations

import random
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knhk import Engine, Limits, Specification, _arena, _hot
from knhk._arena import Arena, Rows
from knhk._cache import compile_specification
from knhk.case import Case
from knhk.errors import IllegalTransition, StoreUnavailable
from knhk.patterns import patterns
from knhk.ports import CaseHeader
from knhk.stores import MemoryStore
from knhk.testing.clock import ManualClock
from tests.test_engine import manual
from tests.test_express import LastingStore, Numbered, chain


def told(engine: Engine, number: int) -> tuple[Any, ...]:
    """All that can be told of a pattern's canonical run on an engine."""
    run = patterns[number].execute(engine=engine)
    case = engine.case(run.case_id)
    history = [(each.kind, each.path, dict(each.details)) for each in case.history()]
    items = [(each.number, each.path, each.state, each.by) for each in case.work_items()]
    return run.outcome, run.trace, case.data, case.marking, items, case.next_due, history


@pytest.mark.parametrize("number", range(1, 44))
def test_every_pattern_comes_out_the_same_with_packed_cases(number: int) -> None:
    """A case that is packed after each command, and unpacked before the next one, runs as one that stays as it is."""
    with Engine(clock=ManualClock(), hot=0) as packing, Engine(clock=ManualClock()) as keeping:
        assert told(keeping, number) == told(packing, number)
        assert 0 == len(packing._cache._residents)


def test_the_cases_used_last_stay_ready_and_the_others_become_rows() -> None:
    """Of six cases with two ready ones four are rows, which ones depends on their use, and all are as they were."""
    with Engine(hot=2) as engine:
        engine.register(manual("A", "B"))
        cases = [engine.create_case("manual", {"n": number}) for number in range(6)]
        for case in cases:
            case.start()
        assert 6 == len(engine._cache)
        assert [cases[4].id, cases[5].id] == list(engine._cache._residents)

        cases[0].complete_task("A", {"done": True})

        assert [cases[5].id, cases[0].id] == list(engine._cache._residents)
        assert ["B"] == cases[0].enabled
        assert [["A"]] * 5 == [case.enabled for case in cases[1:]]
        assert [{"n": 0, "done": True}, *({"n": n} for n in range(1, 6))] == [case.data for case in cases]


@pytest.mark.parametrize("hot", [0, 3, 100])
def test_rows_count_as_cases_in_memory(hot: int) -> None:
    """However many stay ready, the cache never holds more cases than it may, and those that went are loaded again."""
    with Engine(cache=70, hot=hot) as engine:
        engine.register(manual("A"))
        cases = []
        for number in range(300):
            cases.append(engine.create_case("manual", {"n": number}))
            cases[-1].start()
            assert len(engine._cache) <= 70
        assert len(engine._cache) >= 60
        assert [{"n": number} for number in range(300)] == [case.data for case in cases]


@pytest.mark.parametrize("end", ["complete", "cancel", "express"])
def test_a_case_that_is_over_is_no_row(end: str) -> None:
    """The room is for cases that go on: one that is over is forgotten when it is no longer hot, and the store tells of it."""
    with Engine(hot=1) as engine:
        engine.register(manual("A"))
        engine.register(chain(2))
        engine.handler("h")(lambda work: {work.task: 1})
        case = engine.create_case("chain" if end == "express" else "manual", {"n": 1})
        if end == "express":
            case.run()
        else:
            case.start()
            case.cancel() if end == "cancel" else case.complete_task("A", {"t0": 1, "t1": 1})
        before = (case.state, case.data, case.enabled, [each.kind for each in case.history()])
        other = engine.create_case("manual")

        assert [other.id] == list(engine._cache._residents)
        assert 0 == len(engine._cache._rows)
        assert before == (case.state, case.data, case.enabled, [each.kind for each in case.history()])


def test_the_row_that_came_first_goes_first() -> None:
    """Where rows make room, those of the cases go that were used longest ago."""
    with Engine(cache=4, hot=1) as engine:
        engine.register(manual("A"))
        cases = [engine.create_case("manual") for _ in range(4)]
        assert "created" == cases[0].state
        cases.append(engine.create_case("manual"))
        held = [each for each in cases if each.id in engine._cache._residents or engine._cache._rows.take(each.id)]

    assert [cases[0], *cases[2:]] == held


def test_a_look_at_a_case_that_stands_still_waits_for_nobody() -> None:
    """Whoever looks at a case that was only created, or has come to its end by express, does so although another holds it."""
    with Engine() as engine:
        engine.register(chain(2))
        engine.handler("h")(lambda work: {work.task: 1})
        # For the first commit the engine looks for subscribers, which takes a case.
        engine.create_case("chain")
        created, ended = engine.create_case("chain", {"n": 1}), engine.create_case("chain").run()
        with engine._cache.hold(created.id), engine._cache.hold(ended.id):
            seen: list[Any] = []
            looks = threading.Thread(target=lambda: seen.extend((each.state, each.data) for each in (created, ended)))
            looks.start()
            looks.join(10)

    if _hot.express is not None:
        assert [("created", {"n": 1}), ("completed", {"t0": 1, "t1": 1})] == seen


def test_what_was_refused_is_undone_from_the_row() -> None:
    """A command that fails halfway leaves an unpacked case as its row said, for the next command to go on from."""
    tree = {
        "id": "refuses",
        "tasks": [{"id": "A", "manual": {}, "split": "xor"}, {"id": "B", "manual": {}}],
        "flows": [
            {"from": "start", "to": "A"},
            {"from": "A", "to": "B", "when": "data.x > 1"},
            {"from": "A", "to": "end", "default": True},
            {"from": "B", "to": "end"},
        ],
    }
    with Engine(hot=0) as engine:
        engine.register(Specification.from_dict(tree))
        case = engine.create_case("refuses")
        case.start()
        case.start_task("A", by="ann")
        before = (case.state, case.data, case.running, case.marking)
        with pytest.raises(ValueError, match="A"):
            case.complete_task("A", {"x": "no number"})

        assert before == (case.state, case.data, case.running, case.marking)
        case.complete_task("A", {"x": 2})
        assert ["B"] == case.enabled


@pytest.mark.parametrize("name", ["case1", "ab", "AB", "a b", "0", "01a2", "", "é", "ab/cd", "01A2"])
def test_a_row_is_found_by_any_id(name: str) -> None:
    """Whatever an id looks like, its row is found by it and by no other."""

    class Names:
        def __init__(self) -> None:
            self.left = [name, "01a3", "other"]

        def next_id(self) -> str:
            return self.left.pop(0)

    with Engine(ids=Names(), hot=0) as engine:
        engine.register(manual("A"))
        cases = [engine.create_case("manual", {"n": number}) for number in range(3)]

        assert 3 == len(engine._cache._rows)
        assert [{"n": 0}, {"n": 1}, {"n": 2}] == [case.data for case in cases]
        engine.evict(name)
        assert 2 == len(engine._cache._rows)


def test_cases_at_the_same_point_share_an_outline() -> None:
    """A hundred cases at two points have two outlines, which go with the last case that is there."""
    with Engine(hot=0) as engine:
        engine.register(manual("A", "B"))
        cases = [engine.create_case("manual", {"n": number}) for number in range(100)]
        for case in cases:
            case.start()
        cases[0].complete_task("A")
        arena = next(iter(engine._cache._arenas.values()))
        assert {arena.created.text, arena.completed.text} < set(arena._shared)
        assert 4 == len(arena._shared)

        engine.evict()

        assert 2 == len(arena._shared)
        assert 0 == len(engine._cache)
        assert [["B"], ["A"]] == [case.enabled for case in cases[:2]]


def test_a_case_at_a_point_of_its_own_has_its_outline_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """When there are too many outlines to share, a row has its own, and comes back as all others do."""
    monkeypatch.setattr(_arena, "MOST_OUTLINES", 3)
    clock = ManualClock()
    tree = {
        "id": "timed",
        "tasks": [{"id": "A", "timer": "1m"}, {"id": "B", "manual": {}}],
        "flows": [{"from": a, "to": b} for a, b in (("start", "A"), ("A", "B"), ("B", "end"))],
    }
    with Engine(clock=clock, hot=0) as engine:
        engine.register(Specification.from_dict(tree))
        cases = [engine.create_case("timed", {"n": number}) for number in range(4)]
        dues = []
        for case in cases:
            clock.advance(1)
            case.start()
            dues.append(clock.now() + 60_000)

        assert dues == [case.next_due for case in cases]
        assert ["running"] * 4 == [case.state for case in cases]
        engine.evict(cases[3].id)
        clock.advance(60_000)
        assert 4 == engine.tick()
        assert [(["B"], {"n": number}) for number in range(4)] == [(case.enabled, case.data) for case in cases]


def test_a_case_with_results_that_wait_for_a_commit_is_no_row() -> None:
    """What a commit still owes to the store stays where the commit will look for it."""
    with Engine(LastingStore(), hot=0) as engine:
        engine.register(chain(3, replayable=True))
        case = engine.create_case("chain")
        failures: list[Any] = []
        job = case.next_job(failures)
        assert job is not None
        assert case.id in engine._cache._residents
        case.finish(job, {"x": 1})

        assert case.id in engine._cache._residents
        assert {"x": 1} == case.data
        engine.handler("h")(lambda _: None)
        assert "completed" == case.run().state


def test_work_keeps_its_order() -> None:
    """Work that was tried again stays behind the other, packed or not."""
    tree = {
        "id": "two",
        "tasks": [
            {"id": "S", "split": "and"},
            {"id": "A", "handler": "a"},
            {"id": "B", "handler": "b"},
            {"id": "J", "join": "and"},
        ],
        "flows": [
            {"from": a, "to": b}
            for a, b in (("start", "S"), ("S", "A"), ("S", "B"), ("A", "J"), ("B", "J"), ("J", "end"))
        ],
    }
    order: dict[int, list[str]] = {}
    for hot in (0, 10):
        with Engine(LastingStore(), hot=hot) as engine:
            engine.register(Specification.from_dict(tree))
            case = engine.create_case("two")
            first = case.next_job([])
            assert first is not None
            case.fail(first, RuntimeError("no"))
            assert 1 == case.retry_failed()
            seen = order.setdefault(hot, [])
            engine.handler("a")(lambda _, seen=seen: seen.append("a"))
            engine.handler("b")(lambda _, seen=seen: seen.append("b"))
            assert "completed" == case.run().state

    assert {0: ["b", "a"], 10: ["b", "a"]} == order


def test_a_failed_commit_leaves_no_row() -> None:
    """A case whose commit failed is read from the store again, not from what was in memory."""

    class Failing(MemoryStore):
        fails = False

        def commit(self, commits: Any) -> None:
            if self.fails:
                raise StoreUnavailable("no")
            super().commit(commits)

    store = Failing()
    with Engine(store, hot=0) as engine:
        engine.register(manual("A", "B"))
        case = engine.create_case("manual")
        case.start()
        store.fails = True
        with pytest.raises(StoreUnavailable):
            case.complete_task("A", {"x": 1})
        store.fails = False

        assert 0 == len(engine._cache)
        assert (["A"], {}) == (case.enabled, case.data)


@pytest.mark.parametrize("hot", [0, 2])
def test_threads_find_their_cases_while_others_are_packed(hot: int) -> None:
    """Four threads that work on the same twelve cases, all packed and unpacked meanwhile, lose nothing."""
    with Engine(cache=8, hot=hot) as engine:
        engine.register(manual("A", spec_id="once"))
        engine.register(chain(3))
        engine.handler("h")(lambda work: {work.task: work.data.get(work.task, 0) + 1})
        cases = [engine.create_case("chain") for _ in range(12)]
        waiting = [engine.create_case("once", {"n": number}) for number in range(12)]
        refused: list[int] = []

        def work(seed: int) -> None:
            dice = random.Random(seed)
            for case in dice.sample(cases, len(cases)):
                case.run()
                other = dice.choice(waiting)
                assert {"n": waiting.index(other)} == other.data
            for case in dice.sample(waiting, len(waiting)):
                try:
                    case.start()
                except IllegalTransition:
                    refused.append(seed)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert [{"t0": 1, "t1": 1, "t2": 1}] * 12 == [case.data for case in cases]
        assert [["A"]] * 12 == [case.enabled for case in waiting]
        assert 36 == len(refused)


def test_a_row_of_one_engine_does_not_hide_what_another_did(tmp_path: Path) -> None:
    """A command that is refused on a row is tried once more on what the store has, as for any case in memory."""
    path = str(tmp_path / "cases.db")
    with Engine(path, hot=0) as one, Engine(path, hot=0) as other:
        one.register(manual("A", "B", "C"))
        case = one.create_case("manual")
        case.start()
        other.case(case.id).complete_task("A")
        other.case(case.id).complete_task("B")

        case.complete_task("C")

        assert "completed" == case.state


def arena_of(specification: Specification) -> Arena:
    """An arena without an engine."""
    compiled = compile_specification(specification)
    limits = Limits()

    def make() -> Case:
        return Case(compiled.program, compiled.kernels, limits=limits)

    return Arena(make, spec_id=specification.id, version="", express=None, check=None)


@given(st.integers(0, 2**20), st.integers(1, 2**31), st.dictionaries(st.text(), st.integers() | st.text() | st.none()))
def test_a_row_says_all_of_a_case(seed: int, version: int, data: dict[str, Any]) -> None:
    """What comes out of a row is what went in: where the case is, its data, and its numbers."""
    dice = random.Random(seed)
    arena = arena_of(patterns[dice.randint(1, 43)].specification)
    case = arena.make()
    case.create(data)
    if dice.random() < 0.9:
        try:
            case.start(at=1)
            for _ in range(dice.randint(0, 3)):
                case.complete_task(dice.choice(case.enabled()), at=2)
        except (ValueError, LookupError, IllegalTransition):
            pass
    case.take_records()
    header = CaseHeader(case_id="01", spec_id=arena.spec_id, spec_version="", state="", version=version)
    rows = Rows()
    rows.add((arena.outline(case.state), case.state.data, header, seed))
    assert 1 == len(rows)

    still = rows.take("01")

    assert still is not None
    outline, kept, known, since_snapshot = still
    assert (version, seed, case.state.phase) == (known.version, since_snapshot, outline.phase)
    assert case.state.dump() == outline.case(kept).state.dump()
    assert list(case.state.data) == list(kept)
    assert rows.take("01") is None


def test_a_row_is_small() -> None:
    """A case that waits takes less than 200 bytes beside its id and its data's text, the tables included."""
    arena = arena_of(manual("A", "B", "C"))
    ids = Numbered()
    case = arena.make()
    case.create({})
    case.start(at=1)
    outline = arena.outline(case.state)
    rows = Rows()

    def fill(count: int) -> None:
        for number in range(count):
            case_id = f"{int(ids.next_id()[4:]):028x}"
            header = CaseHeader(case_id=case_id, spec_id="manual", spec_version="", state="running", version=2)
            rows.add((outline, {"order": number}, header, 3))

    fill(3_000)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        fill(5_000)
        each = (tracemalloc.get_traced_memory()[0] - before) / 5_000
    finally:
        tracemalloc.stop()

    assert each < 200
