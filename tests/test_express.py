"""An express does what the driver does, one command at a time: the same state, data and history, whoever looks meanwhile."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from knhk import Engine, Specification, _hot
from knhk._codes import Code, End
from knhk._compiled import compile_specification
from knhk.case import Case
from knhk.limits import Limits
from knhk.errors import CommandError, DataError, HandlerError, KnhkError, SpecificationError
from knhk.journal import decode_batch, encode_snapshot
from knhk.stores.memory import MemoryStore
from knhk.testing.chance import FixedChance
from knhk.testing.clock import ManualClock

needs_express = pytest.mark.skipif(_hot.express is None, reason="the compiled kernel is not built")


class Numbered:
    """Ids that are the same in every engine."""

    def __init__(self) -> None:
        self._last = 0

    def next_id(self) -> str:
        """The next number."""
        self._last += 1
        return f"case{self._last:04}"


class LastingStore(MemoryStore):
    """As a store that outlives the process: every result is committed before the next handler begins."""

    forgetful = False


def random_net(rng: random.Random) -> dict[str, Any]:
    """A net of mostly handlers and routing tasks, with loops, choices, joins of all kinds, and now and then something else."""
    count = rng.randint(1, 8)
    names = ["start", *(f"p{n}" for n in range(rng.randint(1, 5)))]
    tasks, flows = [], []
    for number in range(count):
        task: dict[str, Any] = {"id": f"T{number}"}
        sources = rng.sample(names, rng.choice((1, 1, 1, min(2, len(names)))))
        if number == 0 and "start" not in sources:
            sources[0] = "start"
        targets = rng.sample([*names[1:], "end"], rng.choice((1, 1, min(2, len(names)))))
        if len(sources) > 1:
            task["join"] = rng.choice(("and", "xor", "xor", "or", {"partial": 1}))
        if len(targets) > 1:
            task["split"] = rng.choice(("and", "xor", "or"))
        kind = rng.choices(("handler", "routing", "manual", "timer", "multiple"), (60, 25, 8, 2, 5))[0]
        if kind in ("handler", "multiple"):
            task["handler"] = "work"
            task["replayable"] = rng.random() < 0.3
            if rng.random() < 0.1:
                task["retry"] = {"max_attempts": 2, "initial": "1s"}
        if kind == "multiple":
            task["multiple"] = {"count": 2}
        if kind == "manual":
            task["manual"] = {}
        if kind == "timer":
            task["timer"] = "1s"
        if rng.random() < 0.05:
            task["cancels"] = [rng.choice(names[1:])]
        flows += [{"from": each, "to": task["id"]} for each in sources]
        for position, each in enumerate(targets):
            flow: dict[str, Any] = {"from": task["id"], "to": each}
            if task.get("split") in ("xor", "or"):
                if position and rng.random() < 0.8:
                    flow["default"] = True
                else:
                    flow["when"] = f"data.x > {rng.randint(0, 3)}"
            flows.append(flow)
        tasks.append(task)
    tree = {"id": "random", "tasks": tasks, "conditions": names[1:], "flows": flows}
    return {**tree, "termination": rng.choice(("explicit", "implicit"))}


def random_specification(rng: random.Random) -> Specification:
    """The first well-formed one."""
    while True:
        tree = random_net(rng)
        try:
            return Specification.from_dict(tree)
        except SpecificationError:
            continue


def meddle(engine: Engine, work: Any, clock: ManualClock, dice: random.Random, seen: list[Any], lists: bool) -> Any:
    """A handler that now and then fails, answers nonsense, takes its time, or looks at and moves its own case."""
    number, case = dice.random(), engine.case(work.case_id)
    seen.append((work.task, work.attempt, work.idempotency_key))
    if number < 0.05:
        raise ValueError("no")
    if number < 0.08:
        return dice.choice(({"x": object()}, "text", {"x": float("nan")}, {"x": "a text is no number"}))
    if number < 0.20:
        clock.advance(dice.randint(1, 3))
    if number > 0.85:
        actions: tuple[Callable[[], Any], ...] = (
            lambda: (case.state, case.enabled, case.running, case.data, case.marking),
            lambda: [(each.case_id, each.state, each.runnable) for each in engine.cases() if lists],
            lambda: [(each.path, each.state) for each in engine.work_items() if lists],
            lambda: [event.kind for event in case.history()],
            lambda: case.run().state,
            case.suspend,
            lambda: case.complete_task(dice.choice(case.enabled or ["T0"])),
            lambda: case.cancel_task(work.task),
            case.cancel if dice.random() < 0.3 else case.resume,
            lambda: engine.evict(work.case_id),
        )
        try:
            seen.append(dice.choice(actions)())
        except (CommandError, DataError) as error:
            seen.append((type(error), str(error)))
    if number > 0.98:
        seen.append(work.data)
    return {"x": dice.randint(0, 4)} if dice.random() < 0.7 else None


def story(
    specification: Specification,
    seed: int,
    store: MemoryStore,
    kernel: Any,
    hot: int = 1_000,
    at_once: bool = False,
) -> tuple[Any, ...]:
    """All that can be told of a case that was created and run (one after the other or at once), meddled with, and run again."""
    clock, seen = ManualClock(), []
    # The results of replayable tasks reach the store's lists when they are committed, which the two do at different times.
    lists = not any(task.replayable for task in specification.root.tasks)
    with Engine(
        store, clock=clock, ids=Numbered(), chance=FixedChance(0.2), kernel=kernel, hot=hot, limits=Limits(steps=60)
    ) as engine:
        dice = random.Random(seed)
        calls = [0]

        @engine.handler("work")
        def work(work: Any) -> Any:
            calls[0] += 1
            if calls[0] > 40:
                raise RuntimeError("enough")
            return meddle(engine, work, clock, dice, seen, lists)

        engine.register(specification)
        if at_once:
            try:
                engine.run_case("random", {"x": 1})
            except KnhkError as error:
                seen.append((type(error), str(error)))
            if not list(engine.cases()):
                return seen, None, None
            case = engine.case("case0001")
        else:
            case = engine.create_case("random", {"x": 1})
        for _ in range(4):
            try:
                case.run()
            except KnhkError as error:
                seen.append((type(error), str(error)))
            seen.append((case.state, case.enabled, case.running, case.data, case.marking, case.problems))
            try:
                for path in case.enabled[:1]:
                    case.complete_task(path, {"x": dice.randint(0, 4)})
                clock.advance(1_000)
                engine.tick()
            except KnhkError as error:
                seen.append((type(error), str(error)))
        history = [(e.at if lists else None, e.kind, e.path, dict(e.details)) for e in case.history()]
        before = (case.state, case.data, case.marking, case.enabled, case.running)
        engine.evict()
        assert before == (case.state, case.data, case.marking, case.enabled, case.running)
    return seen, before, history


@needs_express
@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**32))
@example(0)
@example(1170)
def test_an_express_does_what_the_driver_does(seed: int) -> None:
    """Random nets whose handlers meddle come out the same by express, packed at every rest, by the driver, and on either kernel."""
    specification = random_specification(random.Random(seed))

    by_express = story(specification, seed, MemoryStore(), "auto")
    packed = story(specification, seed, MemoryStore(), "auto", hot=0)
    by_driver = story(specification, seed, LastingStore(), "auto")
    by_reference = story(specification, seed, LastingStore(), "reference")

    assert by_driver == by_express
    assert by_express == packed
    assert by_reference == by_driver


@needs_express
@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**32))
def test_a_case_that_is_created_and_run_at_once(seed: int) -> None:
    """Random nets whose handlers meddle come out the same by express and by the driver where creating and running is one call."""
    specification = random_specification(random.Random(seed))

    by_express = story(specification, seed, MemoryStore(), "auto", at_once=True)
    by_driver = story(specification, seed, LastingStore(), "auto", at_once=True)

    assert by_driver == by_express


def chain(count: int, **task: Any) -> Specification:
    """Handlers in a row."""
    tasks = [{"id": f"t{n}", "handler": "h", **task} for n in range(count)]
    ends = ["start", *(each["id"] for each in tasks), "end"]
    flows = [{"from": a, "to": b} for a, b in zip(ends, ends[1:], strict=False)]
    return Specification.from_dict({"id": "chain", "tasks": tasks, "flows": flows})


@needs_express
def test_record_codes_are_those_of_the_journal() -> None:
    """The numbers that an express writes mean what the journal says, as does its text."""
    from knhk._hot import express

    kernel = _hot.Net
    case = Engine()
    case.register(chain(1))
    case.handler("h")(lambda _: None)
    history = case.create_case("chain").run().history()

    assert (Code.FIRED, Code.BEGUN, Code.FINISHED, Code.ITEM, End.COMPLETES) == (3, 4, 5, 17, 1)
    assert "completed" == history[-1].kind.value.rpartition("_")[2]
    assert kernel is not None
    assert express is not None


def test_others_find_a_case_while_its_handler_runs() -> None:
    """Another thread sees a case in the middle of its run, may cancel it at once, and the late result changes nothing."""
    engine = Engine()
    engine.register(chain(3))
    inside, go_on = threading.Event(), threading.Event()

    @engine.handler("h")
    def h(work: Any) -> dict[str, Any]:
        if work.task == "t1":
            inside.set()
            assert go_on.wait(10)
        return {work.task: 1}

    case = engine.create_case("chain")
    runner = threading.Thread(target=case.run)
    runner.start()
    assert inside.wait(10)

    assert [("running", True)] == [(each.state, each.runnable) for each in engine.cases()]
    assert ["t1"] == case.running
    assert {"t0": 1} == case.data
    case.cancel()
    assert "cancelled" == case.state
    go_on.set()
    runner.join()
    assert {"t0": 1} == case.data


def test_two_threads_run_a_case_once() -> None:
    """While one thread runs a case's handler another finds nothing to do, and each task is done once."""
    engine = Engine()
    engine.register(chain(20))
    done: list[str] = []
    engine.handler("h")(lambda work: done.append(work.task))
    cases = [engine.create_case("chain") for _ in range(20)]
    threads = [threading.Thread(target=lambda: [case.run() for case in cases]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for case in cases:
        case.run()

    assert ["completed"] * 20 == [case.state for case in cases]
    assert 400 == len(done)


def test_work_keeps_the_data_with_which_it_began() -> None:
    """What a handler was given does not change when the case goes on, even if it only looks later."""
    engine = Engine()
    engine.register(chain(3))
    kept: list[Any] = []

    @engine.handler("h")
    def h(work: Any) -> dict[str, int]:
        kept.append(work)
        return {"n": len(kept)}

    engine.create_case("chain", {"n": 0}).run()

    assert [{"n": 0}, {"n": 1}, {"n": 2}] == [each.data for each in kept]


def test_an_interrupted_handler_stays_begun() -> None:
    """Ctrl-C in a handler leaves a case that goes on with the next attempt."""
    engine = Engine()
    engine.register(chain(2))
    attempts: list[int] = []

    @engine.handler("h")
    def h(work: Any) -> None:
        attempts.append(work.attempt)
        if len(attempts) == 2:
            raise KeyboardInterrupt

    case = engine.create_case("chain")
    with pytest.raises(KeyboardInterrupt):
        case.run()

    assert ["t1"] == case.running
    assert "completed" == case.run().state
    assert [1, 1, 2] == attempts


def test_a_long_run_is_committed_on_its_way() -> None:
    """A run of many tasks is committed in pieces, with snapshots that bound what a replay costs."""
    store = MemoryStore()
    engine = Engine(store)
    engine.register(chain(3_000))
    engine.handler("h")(lambda _: None)

    case = engine.create_case("chain").run()

    assert "completed" == case.state
    assert len(store.load(case.id).batches) <= len(store.history(case.id))
    assert store.load(case.id).snapshot is not None


@needs_express
@pytest.mark.parametrize("ticks", [0, 1])
@pytest.mark.parametrize("at_once", [False, True])
def test_a_long_case_that_nobody_needs_leaves_its_snapshot(ticks: int, at_once: bool) -> None:
    """A case that goes all its way by express, at one time or at several, has the snapshot that its history makes."""
    store, clock = MemoryStore(), ManualClock()
    with Engine(store, clock=clock) as engine:
        engine.register(chain(100))
        engine.handler("h")(lambda work: clock.advance(ticks) or {work.task: 1})
        # With the first commit an engine looks for subscriptions, and of a case that somebody might be told of it needs all.
        engine.run_case("chain")

        case = engine.run_case("chain", {"x": 0}) if at_once else engine.create_case("chain", {"x": 0}).run()

        stored, history = store.load(case.id), store.history(case.id)
        assert engine._cache._residents[case.id].untouched is not None
    compiled = compile_specification(chain(100))
    whole = Case(compiled.program, compiled.kernels)
    whole.replay(None, [record for batch in history for record in decode_batch(batch)[1]])
    assert encode_snapshot({"version": len(history), "state": whole.snapshot()}) == stored.snapshot
    assert () == stored.batches


def test_a_handler_that_fails_fails_as_it_does_elsewhere() -> None:
    """The failure names task and handler, the work before it is kept, and a retry goes on from there."""
    engine = Engine()
    engine.register(chain(3))
    broken = [True]

    @engine.handler("h")
    def h(work: Any) -> dict[str, int]:
        if work.task == "t1" and broken[0]:
            raise ValueError("no paper")
        return {work.task: work.attempt}

    case = engine.create_case("chain")
    with pytest.raises(HandlerError, match="t1: handler 'h' failed: no paper"):
        case.run()
    assert ("failed", {"t0": 1}) == (case.state, case.data)
    broken[0] = False
    case.retry_failed()

    assert {"t0": 1, "t1": 2, "t2": 1} == case.run().data
