"""Worklets: another registered specification runs in the place of work, from the start or when that has failed for good."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from knhk import (
    AsyncEngine,
    CommandError,
    Engine,
    EventKind,
    HandlerError,
    IllegalTransition,
    Limits,
    RunningCase,
    Specification,
    SpecificationError,
    Work,
    build,
)
from knhk.spec import SpecificationBuilder
from knhk.stores.memory import MemoryStore
from knhk.testing.clock import ManualClock
from knhk.work.calls import WORKLETS

HOUR = 3_600_000


class Log:
    """What the handlers of these tests did, in order, and what fails."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.seen: list[dict[str, Any]] = []
        self.failing: dict[str, type[Exception]] = {}

    def handle(self, work: Work) -> dict[str, Any]:
        """Do a task, or fail."""
        if work.task in self.failing:
            raise self.failing[work.task](f"no {work.task}")
        self.done.append(work.task)
        self.seen.append(dict(work.data))
        return {work.task: "done"}


@pytest.fixture
def log() -> Log:
    """Nothing done yet."""
    return Log()


@pytest.fixture
def clock() -> ManualClock:
    """A time that is told."""
    return ManualClock(1_000_000)


@pytest.fixture
def engine(log: Log, clock: ManualClock) -> Iterator[Engine]:
    """An engine with worklets registered: one that works by itself, one that waits for somebody, one that fails."""
    with Engine(clock=clock) as running:
        prepared(running, log)
        yield running


def line(name: str, *tasks: tuple[str, dict[str, Any]], version: str = "1", **more: Any) -> SpecificationBuilder:
    """Tasks in a row."""
    net = build(name, version=version, **more)
    net.sequence(net.start, *(net.task(task, **members) for task, members in tasks), net.end)
    return net


def prepared(engine: Engine, log: Log) -> None:
    """Register the worklets and the handler."""
    engine.handler("do")(log.handle)
    engine.register(line("quick", ("repair", {"handler": "do"})).specification())
    engine.register(line("slow", ("ask", {"manual": True}), ("file", {"handler": "do"})).specification())
    engine.register(
        line("careful", ("lend", {"handler": "do", "compensate": "do"}), ("wait", {"manual": True})).specification()
    )


def started(engine: Engine, *tasks: tuple[str, dict[str, Any]], data: Any = None, **more: Any) -> RunningCase:
    """A case of tasks in a row, run as far as it goes."""
    net = line("above", *tasks, **more)
    engine.register(net.specification())
    return engine.create_case("above", {"n": 1} if data is None else data).run()


def kinds(case: RunningCase) -> list[str]:
    """What happened in a case, by name."""
    return [event.kind.value for event in case.history()]


def caught(engine: Engine, on_error: str, **members: Any) -> RunningCase:
    """A case whose task has an error flow to a task for somebody."""
    net = build("above")
    work, after = net.task("work", **members), net.task("after", manual=True)
    net.sequence(net.start, work, net.end)
    work.to(after, on_error=on_error).to(net.end)
    engine.register(net.specification())
    return engine.create_case("above", {"n": 1})


# --- the work of a task ----------------------------------------------------------------------------------------------


def test_a_worklet_does_the_work_of_a_task(engine: Engine, log: Log) -> None:
    """Its case has a name that follows from the work, is given the data, and what it adds or changes is the work's result."""
    case = started(engine, ("work", {"worklet": "quick"}), ("then", {"handler": "do"}))

    assert ("completed", {"n": 1, "repair": "done", "then": "done"}) == (case.state, case.data)
    below = engine.case(f"{case.id}.1")
    assert ("completed", (case.id, 1), []) == (below.state, below.principal, case.worklets)
    called = next(event for event in case.history() if event.kind is EventKind.WORKLET_CALLED)
    assert ("work", {"worklet": "quick", "suffix": ".1"}) == (called.path, called.details)
    assert ["case_created", "case_stands_in", "case_started"] == kinds(below)[:3]
    assert [] == list(engine.store.documents(WORKLETS))


def test_what_others_changed_meanwhile_stays(engine: Engine) -> None:
    """Only what the worklet changed joins the data of the case above, whose other members are newer there."""
    net = build("above")
    fork, join = net.task("fork", split="and"), net.task("join", join="and")
    net.start.to(fork)
    for name, members in (("work", {"worklet": "slow"}), ("other", {"manual": True})):
        fork.to(net.task(name, **members)).to(join)  # type: ignore[arg-type]
    join.to(net.end)
    engine.register(net.specification())
    case = engine.create_case("above", {"n": 1, "m": 1}).run()
    case.complete_task("other", {"n": 2})

    engine.case(f"{case.id}.1").complete_task("ask", {"m": 5})
    engine.run_pending()

    assert ("completed", {"n": 2, "m": 5, "file": "done"}) == (case.state, case.data)


def test_the_first_rule_that_holds_chooses(engine: Engine) -> None:
    """Rules are looked at in their order, over the data, and over item and index in an instance."""
    rules = [
        {"when": "item > 1", "worklet": "slow"},
        {"when": "index == 1", "worklet": "careful"},
        {"worklet": "quick"},
    ]
    members = {"worklet": rules, "multiple": {"for_each": "data.list"}, "input": {"item": "item"}}

    case = started(engine, ("work", members), data={"list": [1, 0, 2]})

    found = [(event.path, event.details["worklet"]) for event in case.history() if "worklet" in event.details]
    assert [("work#1", "quick"), ("work#2", "careful"), ("work#3", "slow")] == found
    assert {"item": 2} == engine.case(f"{case.id}.3").data


def test_without_a_rule_that_holds_the_work_fails(engine: Engine) -> None:
    """Nothing is launched; an error flow may take the error, else the work waits for a person; the same where it has no value."""
    case = caught(engine, "NoWorklet", worklet={"worklet": "quick", "when": "data.n > 1"}).run()
    assert (["after"], 1) == (case.enabled, len(list(engine.cases())))

    for number, rule in enumerate(("data.m > 1", "data.n > 1"), 2):
        net = line("above", ("work", {"worklet": {"worklet": "quick", "when": rule}}), version=str(number))
        engine.register(net.specification())
        with pytest.raises(HandlerError, match="work: (DataError: .*no member|NoWorklet: none of its rules holds)"):
            engine.create_case("above", {"n": 1}).run()

    assert {"DataError", "NoWorklet"} == {letter.error for letter in engine.dead_letters.list()}
    assert {"failed": 2, "running": 1} == Counter(each.state for each in engine.cases())


def test_work_without_a_worklet_is_told_once(engine: Engine, log: Log) -> None:
    """Behind a handler, and among many cases, it is told like any other failure, and the next run tells nothing."""
    rule = {"worklet": "quick", "when": "data.n > 1"}
    net = line("above", ("first", {"handler": "do"}), ("work", {"worklet": rule}))
    engine.register(net.specification())
    cases = [engine.create_case("above", {"n": n}) for n in range(3)]

    with pytest.raises(HandlerError, match="work: NoWorklet") as raised:
        engine.run_many(cases)

    assert ["failed", "failed", "completed"] == [case.state for case in cases]
    assert 1 == len(raised.value.__notes__)
    assert "failed" == cases[0].run().state


def test_input_and_output_are_mapped(engine: Engine, log: Log) -> None:
    """The worklet is given what the input mapping says, and the output mapping sees what it changed."""
    mappings = {"input": {"x": "data.n + 1"}, "output": {"result": "output.repair"}}

    case = started(engine, ("work", {"worklet": "quick", **mappings}))

    assert ([{"x": 2}], {"n": 1, "result": "done"}) == (log.seen, case.data)


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ({"worklet": "nobody"}, "UnknownSpecification"),
        ({"worklet": "strict"}, "DataError"),
        ({"worklet": "quick", "output": {"x": "output.nothing"}}, "DataError"),
        ({"worklet": "quick", "ensures": "data.n > 5"}, "ConstraintViolation"),
        ({"worklet": "quick", "input": {"x": "data.nothing"}}, "DataError"),
    ],
)
def test_what_cannot_be_launched_or_taken_is_a_failure_of_the_work(
    engine: Engine, members: dict[str, Any], text: str
) -> None:
    """No such specification, data that it refuses, a result that the case above refuses, a mapping that fails."""
    schema = {"type": "object", "required": ["needed"]}
    engine.register(line("strict", ("repair", {"handler": "do"}), data=schema).specification())
    engine.register(line("above", ("work", members)).specification())
    case = engine.create_case("above", {"n": 1})

    with pytest.raises(HandlerError, match=text):
        case.run()

    (letter,) = engine.dead_letters.list()
    assert ("failed", text, []) == (case.state, letter.error, list(engine.store.documents(WORKLETS)))


def test_a_worklet_whose_id_is_taken_fails_the_work(engine: Engine, clock: ManualClock) -> None:
    """A case that somebody else gave that id is left alone."""

    class Ids:
        def __init__(self) -> None:
            self.left = ["a.1", "a"]

        def next_id(self) -> str:
            return self.left.pop(0)

    other = Engine(engine.store, ids=Ids(), clock=clock)
    other.register(line("above", ("work", {"worklet": "slow"})).specification())
    other.create_case("slow")
    case = other.create_case("above")

    with pytest.raises(HandlerError, match="is there already"):
        case.run()

    assert ("failed", "created") == (case.state, other.case("a.1").state)


def test_a_worklet_that_waits_for_a_person_goes_on_later(engine: Engine) -> None:
    """The item is replaced meanwhile, says by whom, and takes no command; the end of the worklet is taken by the next tick."""
    case = started(engine, ("work", {"worklet": "slow"}), ("then", {"handler": "do"}))
    (item,) = case.work_items()
    assert ("running", "replaced", ["work"], [f"{case.id}.1"]) == (case.state, item.state, case.running, case.worklets)
    (row,) = engine.work_items(state="replaced")
    assert {"worklet": {"spec_id": "slow", "case_id": f"{case.id}.1"}} == row.details
    for command in (item.complete, item.fail, item.start, item.suspend, item.retry):
        with pytest.raises(IllegalTransition):
            command()
    with pytest.raises(IllegalTransition, match="it is replaced; allowed: nothing"):
        case.complete_task("work")

    below = engine.case(f"{case.id}.1")
    below.complete_task("ask", {"answer": 42})
    assert "running" == below.run().run().state or "completed" == below.state
    assert (1, 0) == (engine.tick(), engine.tick())
    case.run()

    assert ("completed", 42) == (case.state, case.data["answer"])


def test_worklets_inside_worklets(engine: Engine, log: Log) -> None:
    """One `run` of the case at the top does the work of all below it, and their results come up."""
    engine.register(line("middle", ("inner", {"worklet": "quick"}), ("more", {"handler": "do"})).specification())

    case = started(engine, ("work", {"worklet": "middle"}))

    assert ("completed", ["repair", "more"]) == (case.state, log.done)
    assert {"n": 1, "repair": "done", "more": "done"} == case.data
    assert 3 == len(list(engine.cases(state="completed")))


def test_depth_is_bounded(log: Log) -> None:
    """A worklet that calls itself ends at the limit, and fails all the way up."""
    with Engine(limits=Limits(worklets=3)) as engine:
        engine.register(line("loop", ("again", {"worklet": "loop"})).specification())
        case = engine.create_case("loop")

        with pytest.raises(HandlerError, match=r"worklets are 3 deep \(limit worklets=3\)"):
            case.run()

        assert ["cancelled", "cancelled", "cancelled", "failed"] == sorted(each.state for each in engine.cases())


def test_asynchronous_runs_do_worklets_too() -> None:
    """`AsyncCase.run` does the work of the worklets as `RunningCase.run`, and tells of what failed for good."""

    async def main() -> list[Any]:
        async with AsyncEngine() as engine:

            @engine.handler("do")
            async def do(work: Work) -> dict[str, Any]:
                if work.data.get("bad"):
                    raise ValueError("bad")
                return {"done": work.case_id.count(".")}

            await engine.register(line("quick", ("repair", {"handler": "do"})).specification())
            tasks = [("work", {"worklet": "quick"}), ("more", {"worklet": "quick", "output": {"two": "output"}})]
            await engine.register(line("above", *tasks).specification())
            case = await (await engine.create_case("above")).run()
            bad = await engine.create_case("above", {"bad": True})
            with pytest.raises(HandlerError, match="worklet 'quick'"):
                await bad.run()
            return [await case.state(), await case.data(), await bad.state()]

    assert ["completed", {"done": 1, "two": {}}, "failed"] == asyncio.run(main())


def test_a_runner_does_worklets_at_once(engine: Engine, clock: ManualClock) -> None:
    """In the background nothing waits for the interval: a commit that asks for something of worklets wakes the runner."""
    engine.register(line("above", ("work", {"worklet": "quick"})).specification())
    with engine.serve(workers=2, interval=3600) as runner:
        case = engine.create_case("above")
        case.start()
        end = time.monotonic() + 60
        while case.state != "completed":
            assert time.monotonic() < end
        assert 0 == runner.failures
    assert [] == engine._cache.wakers


# --- when work has failed for good -----------------------------------------------------------------------------------


def test_an_exlet_takes_the_place_of_failed_work(engine: Engine, log: Log) -> None:
    """It is told the error, and its result is the work's; nothing is raised, and nothing is a dead letter."""
    log.failing["work"] = KeyError
    exlet = [{"worklet": "slow", "on_error": "ValueError"}, {"worklet": "quick", "when": "error.attempts == 2"}]
    members = {"handler": "do", "exlet": exlet, "retry": {"max_attempts": 2, "initial": "1s", "jitter": "none"}}
    case = started(engine, ("work", members), ("then", {"handler": "do"}))
    assert "running" == case.state

    engine.tick(HOUR * 1_000)
    case.run()

    assert ("completed", ["repair", "then"]) == (case.state, log.done)
    assert {"type": "KeyError", "message": "'no work'", "task": "work", "attempts": 2} == log.seen[0]["error"]
    assert {"n": 1, "repair": "done", "then": "done"} == case.data
    assert [] == engine.dead_letters.list()


def test_a_failed_exlet_lets_the_error_go_on(engine: Engine, log: Log) -> None:
    """The error flow that names the first error takes it; the worklet's case is cancelled, what it had done is undone."""
    log.failing = {"work": KeyError, "repair": ValueError}
    case = caught(engine, "LookupError", handler="do", exlet="quick")

    case.run()

    assert (["after"], "KeyError") == (case.enabled, case.data["error"]["type"])
    assert "WorkletFailed: worklet 'quick'" in case.data["error"]["message"]
    assert "repair: ValueError: no repair" in case.data["error"]["message"]
    assert "cancelled" == engine.case(f"{case.id}.1").state


def test_work_that_fails_with_its_exlet_is_a_dead_letter(engine: Engine, log: Log) -> None:
    """Replayed, it has its attempts and its exlet anew: another case, with a name of its own."""
    log.failing = {"work": KeyError, "repair": ValueError}
    engine.register(line("above", ("work", {"handler": "do", "exlet": "quick"})).specification())
    case = engine.create_case("above")
    with pytest.raises(HandlerError, match="no work.; WorkletFailed"):
        case.run()
    (letter,) = engine.dead_letters.list()
    assert ("failed", "KeyError") == (case.state, letter.error)
    del log.failing["repair"]

    engine.dead_letters.replay(letter.id)
    case.run()

    assert ("completed", ["repair"]) == (case.state, log.done)
    assert ["cancelled", "completed"] == [engine.case(f"{case.id}.1{each}").state for each in ("", "-2")]


def test_a_failed_worklet_is_replayed_as_another(engine: Engine, log: Log) -> None:
    """Retried or replayed, work of a worklet chooses again and begins again; a worklet may have an exlet itself."""
    log.failing = {"repair": ValueError}
    engine.register(line("above", ("work", {"worklet": "quick"})).specification())
    case = engine.create_case("above")
    with pytest.raises(HandlerError):
        case.run()
    with pytest.raises(HandlerError):
        case.work_items()[0].retry() or case.run()
    del log.failing["repair"]

    engine.dead_letters.replay_all()
    case.run()
    log.failing = {"repair": ValueError}
    other = started(engine, ("work", {"worklet": "quick", "exlet": {"worklet": "slow"}}), version="2")

    assert ("completed", [f"{other.id}.1-2"]) == (case.state, other.worklets)
    states = [engine.case(f"{case.id}.1{each}").state for each in ("", "-2", "-3")]
    assert ["cancelled", "cancelled", "completed"] == states


@pytest.mark.parametrize("working", [False, True], ids=["offered", "started"])
def test_an_exlet_takes_a_deadline(engine: Engine, clock: ManualClock, *, working: bool) -> None:
    """Work of people that is late, offered or started, is withdrawn, and the worklet runs in its place."""
    case = started(engine, ("work", {"manual": True, "deadline": "1h", "exlet": "quick"}))
    if working:
        case.start_task("work", by="ann")
    clock.advance(HOUR)

    engine.tick()
    case.run()

    assert ("completed", "Deadline") == (case.state, engine.case(f"{case.id}.1").data["error"]["type"])


def test_a_deadline_that_passes_while_the_exlet_runs_goes_on(engine: Engine, clock: ManualClock, log: Log) -> None:
    """There is no exlet of an exlet: the error flow takes it, and the worklet is cancelled."""
    log.failing["work"] = KeyError
    case = caught(engine, "Deadline", handler="do", exlet="slow", deadline="1h").run()
    assert [f"{case.id}.1"] == case.worklets
    clock.advance(HOUR)

    engine.tick()

    assert (["after"], "cancelled") == (case.enabled, engine.case(f"{case.id}.1").state)


def test_a_deadline_replaces_a_worklet_by_the_exlet(engine: Engine, clock: ManualClock) -> None:
    """The one that was late is cancelled, the exlet runs as the second call."""
    case = started(engine, ("work", {"worklet": "slow", "deadline": "1h", "exlet": "quick"}))
    clock.advance(HOUR)

    engine.tick()
    case.run()

    states = [engine.case(f"{case.id}.1{each}").state for each in ("", "-2")]
    assert ("completed", ["cancelled", "completed"]) == (case.state, states)


@pytest.mark.parametrize("work", [{"manual": True}, {"handler": "do"}], ids=["manual", "handler"])
def test_an_exlet_takes_a_constraint_that_does_not_hold(engine: Engine, work: dict[str, Any]) -> None:
    """Work that must not begin is replaced before it does."""
    case = started(engine, ("work", {**work, "requires": "data.n > 5", "exlet": "quick"}))

    error = engine.case(f"{case.id}.1").data["error"]
    assert ("completed", "ConstraintViolation") == (case.state, error["type"])


def test_an_exlet_that_fits_nothing_changes_nothing(log: Log) -> None:
    """Not its errors, a rule that does not hold or has no value, too deep, or a task of several instances as a whole."""
    log.failing["work"] = KeyError
    with Engine(clock=ManualClock(0), limits=Limits(worklets=0)) as deep, Engine(clock=ManualClock(0)) as engine:
        for each in (deep, engine):
            prepared(each, log)
        for on, exlet in (
            (deep, {"worklet": "quick"}),
            (engine, {"worklet": "quick", "on_error": ["ValueError"]}),
            (engine, {"worklet": "quick", "when": "data.n > 5"}),
            (engine, {"worklet": "quick", "when": "data.nothing > 5"}),
        ):
            name = f"v{len(list(engine.store.specifications()))}"
            on.register(line("above", ("work", {"handler": "do", "exlet": exlet}), version=name).specification())
            with pytest.raises(HandlerError, match="no work"):
                on.create_case("above", {"n": 1}, version=name).run()
        whole = {"manual": True, "multiple": {"count": 2}, "deadline": "1s", "exlet": "quick"}
        case = started(engine, ("work", whole), version="whole")
        case.start_task("work")
        engine.tick(2_000)

        assert (["work#1", "work#2"], []) == (case.running, case.worklets)


def test_an_exlet_sees_the_data_where_the_input_mapping_fails(engine: Engine, log: Log) -> None:
    """What the work is given may be what went wrong: then the worklet is given the data of the case; its schema may have no error."""
    schema = {"type": "object", "additionalProperties": False, "properties": {"n": {}, "repair": {}}}
    engine.register(line("shy", ("repair", {"handler": "do"}), data=schema).specification())

    case = started(engine, ("work", {"handler": "do", "input": {"x": "data.nothing"}, "exlet": "shy"}))

    assert ("completed", [{"n": 1}]) == (case.state, log.seen)


# --- the case above --------------------------------------------------------------------------------------------------


def test_cancelling_a_case_cancels_its_worklets(engine: Engine, log: Log) -> None:
    """Those below them too, and what they had done is undone."""
    engine.register(line("middle", ("inner", {"worklet": "careful"})).specification())
    case = started(engine, ("work", {"worklet": "middle"}))
    below = [engine.case(f"{case.id}.1{each}") for each in ("", ".1")]

    case.cancel()
    engine.tick()
    engine.run_pending()

    assert ["cancelled", "cancelled", "cancelled"] == [each.state for each in (case, *below)]
    assert ["lend", "lend"] == log.done
    assert [] == list(engine.store.documents(WORKLETS))


def test_a_cancel_without_compensation_undoes_nothing_below(engine: Engine, log: Log) -> None:
    """The worklets of a case that is cancelled so undo nothing either, those below them included, nor go on with it."""
    engine.register(line("middle", ("inner", {"worklet": "careful"})).specification())
    case = started(engine, ("work", {"worklet": "middle"}))
    below = [engine.case(f"{case.id}.1{each}") for each in ("", ".1")]

    case.cancel(compensate=False)
    engine.tick()
    engine.run_pending()

    assert ["cancelled", "cancelled", "cancelled"] == [each.state for each in (case, *below)]
    assert ["lend"] == log.done


def test_a_worklet_that_was_not_launched_yet_never_is(engine: Engine) -> None:
    """Its case is cancelled before anybody looked: nothing comes up."""
    engine.register(line("above", ("work", {"worklet": "slow"})).specification())
    case = engine.create_case("above")
    case.start()
    case.cancel()

    assert (1, 0) == (engine.tick(), engine.tick())

    assert ([case.id], []) == ([each.case_id for each in engine.cases()], list(engine.store.documents(WORKLETS)))


def test_the_end_of_a_worklet_nobody_waits_for_is_left(engine: Engine) -> None:
    """It ended, and its work was withdrawn before the result was taken: the result is dropped, the case above goes on."""
    case = started(engine, ("work", {"worklet": "slow"}), ("then", {"manual": True}))
    below = engine.case(f"{case.id}.1")
    below.complete_task("ask")
    below.run()
    case.cancel_task("work")

    engine.tick()

    assert ("completed", "deadlocked", {"n": 1}) == (below.state, case.state, case.data)
    assert [] == list(engine.store.documents(WORKLETS))


def test_a_suspended_case_takes_the_result_when_it_goes_on(engine: Engine) -> None:
    """What ended meanwhile is looked at again in the commit that resumes it."""
    case = started(engine, ("work", {"worklet": "slow"}))
    case.suspend()
    below = engine.case(f"{case.id}.1")
    below.complete_task("ask")
    below.run()
    engine.tick()
    assert ("suspended", "completed") == (case.state, below.state)
    assert [] == list(engine.store.documents(WORKLETS))

    case.resume()
    engine.tick()

    assert ("completed", "done") == (case.state, case.data["file"])


def test_a_worklet_that_is_repaired_before_anybody_looked_goes_on(engine: Engine, log: Log) -> None:
    """It had failed, and somebody gave it another attempt: its end is what counts."""
    log.failing["file"] = ValueError
    case = started(engine, ("work", {"worklet": "slow"}))
    below = engine.case(f"{case.id}.1")
    below.complete_task("ask")
    with pytest.raises(HandlerError):
        below.run()
    assert "failed" == below.state
    below.retry_failed()

    engine.tick()
    assert ("running", "running") == (below.state, case.state)
    del log.failing["file"]
    engine.run_pending()

    assert ("completed", "completed") == (below.state, case.state)


def test_a_cancelled_or_deadlocked_worklet_has_failed(engine: Engine) -> None:
    """Whoever cancels it, the work above fails, and says of which worklet."""
    case = caught(engine, "WorkletFailed", worklet="slow").run()
    engine.case(f"{case.id}.1").cancel()
    engine.tick()
    assert f"worklet 'slow' (case {case.id}.1) is cancelled" == case.data["error"]["message"]

    other = engine.create_case("above").run()
    engine.case(f"{other.id}.1").cancel_task("ask")
    engine.tick()

    assert "is deadlocked" in other.data["error"]["message"]
    assert "cancelled" == engine.case(f"{other.id}.1").state


def test_a_migration_that_drops_the_work_cancels_its_worklet(engine: Engine) -> None:
    """A worklet whose work moves keeps running for it; one whose work has no place in the new version is cancelled."""
    case = started(engine, ("work", {"worklet": "slow"}))
    two = [("work", {"worklet": "quick"}), ("then", {"manual": True})]
    case.migrate(engine.register(line("above", *two, version="2").specification()).version)
    below = engine.case(f"{case.id}.1")
    below.complete_task("ask")
    below.run()
    engine.tick()

    assert (["then"], "done") == (case.enabled, case.data["file"])


@pytest.mark.parametrize("evicting", [False, True], ids=["kept", "evicted"])
def test_two_engines_on_one_store(tmp_path: Path, log: Log, *, evicting: bool) -> None:
    """Whichever of them does the parts, each is done once; what one has in memory is caught up with."""
    path = str(tmp_path / "cases.db")
    with Engine(path) as one, Engine(path) as two:
        for each in (one, two):
            prepared(each, log)
        case = started(one, ("work", {"worklet": "slow"}), ("more", {"worklet": "quick"}))
        below = two.case(f"{case.id}.1")
        assert ["ask"] == below.enabled == one.case(below.id).enabled
        assert "running" == two.case(case.id).state

        below.complete_task("ask")
        for turn in range(4):
            for each in (one, two):
                if evicting:
                    each.evict()
                (each if turn % 2 else one).run_pending()
                each.tick()

        assert ("completed", ["file", "repair"]) == (one.store.header(case.id).state, log.done)
        assert 3 == len(list(one.cases(state="completed")))


def test_a_result_is_never_lost_to_a_stale_memory(clock: ManualClock, log: Log) -> None:
    """An engine that has the case above as it was before the worklet was called does not drop its result."""
    store = MemoryStore()
    one, two = Engine(store, clock=clock), Engine(store, clock=clock)
    for each in (one, two):
        prepared(each, log)
    one.register(line("above", ("first", {"manual": True}), ("work", {"worklet": "quick"})).specification())
    case = one.create_case("above").run()
    assert ["first"] == two.case(case.id).enabled

    case.complete_task("first")
    one.tick()
    one.case(f"{case.id}.2").run()
    two.tick()

    assert "completed" == store.header(case.id).state


def test_what_was_set_aside_is_looked_at_later(engine: Engine, clock: ManualClock) -> None:
    """A damaged case keeps its worklet's result waiting, and holds up nobody else's."""
    case = started(engine, ("work", {"worklet": "slow"}))
    below = engine.case(f"{case.id}.1")
    below.complete_task("ask")
    below.run()
    engine.evict()
    engine.store.quarantine(case.id, "for a test")

    engine.tick()

    (document,) = engine.store.documents(WORKLETS)
    assert clock.now() + HOUR == document.due


# --- the specification -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "place", "text"),
    [
        (
            {"worklet": 3},
            "tasks.work.worklet",
            "the id of a specification, a rule, or a list of rules, not the number 3",
        ),
        ({"worklet": {"when": "true"}}, "tasks.work.worklet", 'the member "worklet" is missing'),
        ({"worklet": {"worklet": "a", "on_error": "*"}}, "tasks.work.worklet.on_error", "unknown"),
        ({"worklet": ["a b"]}, "tasks.work.worklet[0].worklet", "does not match"),
        ({"worklet": ["a", "b"]}, "tasks.work.worklet[0]", "always holds"),
        ({"worklet": {"worklet": "a", "when": "error.n"}}, "tasks.work.worklet[0].when", "error"),
        ({"worklet": "a", "handler": "b"}, "tasks.work", "has 2 kinds of work (handler, worklet), and may have one"),
        ({"exlet": "a"}, "tasks.work.exlet", "only a task with"),
        ({"exlet": "a", "subnet": "s"}, "tasks.work.exlet", "only a task with"),
        ({"worklet": "a", "retry": {}}, "tasks.work.retry", "only a task with a handler"),
    ],
)
def test_ill_formed_rules_are_refused(members: dict[str, Any], place: str, text: str) -> None:
    """Each with its place."""
    net = line("above", ("work", members))
    inner = net.subnet("s")
    inner.sequence(inner.start, inner.task("t"), inner.end)

    with pytest.raises(SpecificationError) as raised:
        net.specification()

    found = {(each.place, each.message) for each in raised.value.problems}
    assert any(each == place and text in message for each, message in found), found


def test_a_list_of_rules_has_one() -> None:
    """An empty list says nothing that could be meant."""
    tree = line("above", ("work", {"worklet": "a"})).to_dict()
    tree["tasks"][0]["worklet"] = []

    with pytest.raises(SpecificationError, match="0 rules; 1 to 1,000 are allowed"):
        Specification.from_dict(tree)


def test_the_short_forms_are_rules() -> None:
    """An id alone, one rule, and a list say the same, and are written as a list."""
    forms: list[Any] = ["a", {"worklet": "a"}, [{"worklet": "a"}]]

    documents = [line("above", ("work", {"worklet": each, "exlet": each})).specification().to_dict() for each in forms]

    assert documents[0] == documents[1] == documents[2]
    assert [{"worklet": "a"}] == documents[0]["tasks"][0]["worklet"] == documents[0]["tasks"][0]["exlet"]


def test_no_worklet_is_told_an_end_twice(engine: Engine) -> None:
    """The core refuses a result where no worklet runs."""
    case = started(engine, ("work", {"manual": True}))
    with (
        engine._cache.hold(case.id) as resident,
        pytest.raises(IllegalTransition, match="no worklet runs in its place"),
    ):
        resident.case.complete_worklet(1, {}, at=0)
    with pytest.raises(CommandError):
        case.complete_task("nothing")
