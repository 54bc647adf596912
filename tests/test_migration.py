"""Open cases move to another version of their specification: what has a place goes on, everything else stays as it was."""

from __future__ import annotations

import copy as copies
import json
import random
import re
import time
from pathlib import Path
from typing import Any

import attrs
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from knhk import AsyncEngine, Engine, MigrationRefused, Specification
from knhk._migration import Renaming, move
from knhk.cli.app import knhk as commands
from knhk.errors import CommandError, KnhkError, SpecificationConflict, SpecificationError, UnknownSpecification
from knhk.journal import decode_batch, encode_batch
from knhk.testing.clock import ManualClock
from tests.nets import compiled, fresh, specifications
from tests.test_case import FIRST, REFUSALS, act, picking

HOUR = 3_600_000


def net(
    version: str, *flows: str, data: dict[str, Any] | None = None, subnets: dict[str, Any] | None = None, **tasks: Any
) -> Specification:
    """A specification "p" from ``"start > a"`` and ``a={...}``; a task that is not described is manual."""
    pairs = [tuple(each.split(" > ")) for each in flows]
    names = [name for name in dict.fromkeys(name for pair in pairs for name in pair) if name not in ("start", "end")]
    conditions = [name for name in names if name.startswith("c_")]
    tree: dict[str, Any] = {
        "id": "p",
        "version": version,
        "conditions": [{"id": name} for name in conditions],
        "tasks": [{"id": name, **tasks.get(name, {"manual": {}})} for name in names if name not in conditions],
        "flows": [{"from": source, "to": target} for source, target in pairs],
    }
    if data is not None:
        tree["data"] = data
    if subnets is not None:
        tree["subnets"] = subnets
    return Specification.from_json(json.dumps(tree))


ONE = net("1", "start > a", "a > b", "b > end")


@pytest.fixture(params=["memory:", "sqlite"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    """An engine, in memory and on a file."""
    target = "memory:" if request.param == "memory:" else str(tmp_path / "cases.db")
    return Engine(target, clock=ManualClock(), durability="off" if target == "memory:" else "normal")


def running(engine: Engine, *versions: Specification, data: dict[str, Any] | None = None) -> Any:
    """A started case of the first of these versions."""
    for each in versions:
        engine.register(each)
    case = engine.create_case("p", data, version=versions[0].version)
    case.start()
    return case


def problems(case: Any, target: str = "2", **renamed: Any) -> list[str]:
    """Why the case cannot move, and that it has not."""
    before = (case.marking, case.enabled, case.running, case.data, case.state, len(case.history()))
    with pytest.raises(MigrationRefused) as refused:
        case.migrate(target, **renamed)
    assert before == (case.marking, case.enabled, case.running, case.data, case.state, len(case.history()))
    return [str(each) for each in refused.value.problems]


# --- one case -------------------------------------------------------------------------------------------------------------


def test_a_case_goes_on_by_the_new_version(engine: Engine) -> None:
    """What is offered stays on offer with its number, and what follows is the new version's."""
    case = running(engine, ONE, net("2", "start > a", "a > check", "check > b", "b > end"))
    item = case.work_items()[0]
    case.migrate("2")

    assert ["a"] == case.enabled
    item.complete()
    assert ["check"] == case.enabled
    assert "2" == engine._store.header(case.id).spec_version


def test_started_work_keeps_its_owner(engine: Engine) -> None:
    """A started item is the same item afterwards: same number, same person, same attempt."""
    case = running(engine, ONE, net("2", "start > x", "x > a", "a > end", x={}))
    case.work_items()[0].start(by="ann")
    before = case.work_items()[0]
    case.migrate("2")
    after = case.work_items()[0]

    assert (before.number, before.path, before.state, before.by) == (after.number, after.path, after.state, after.by)
    after.complete(by="ann")
    assert "completed" == case.state


def test_a_token_without_a_place_is_refused(engine: Engine) -> None:
    """A token in a flow that is gone keeps the case where it is, and the places near it are named."""
    case = running(engine, ONE, net("2", "start > a", "a > check", "check > b", "b > end"))
    case.complete_task("a")

    (problem,) = problems(case)
    assert problem.startswith("a>b: it holds a token, and version 2 has no condition 'a>b'")
    assert "a>check, check>b" in problem
    assert ["b"] == case.enabled


@pytest.mark.parametrize(("place", "enabled"), [("a>check", "check"), ("check>b", "b")])
def test_a_condition_that_is_called_otherwise(engine: Engine, place: str, enabled: str) -> None:
    """The modeller says where the token belongs."""
    case = running(engine, ONE, net("2", "start > a", "a > check", "check > b", "b > end"))
    case.complete_task("a")
    case.migrate("2", conditions={"a>b": place})

    assert [enabled] == case.enabled
    assert {"": {place: 1}} == case.marking


def test_a_task_that_is_called_otherwise(engine: Engine) -> None:
    """A renamed task takes its work, and the implicit conditions follow it."""
    case = running(engine, ONE, net("2", "start > first", "first > second", "second > end"))
    case.complete_task("a")
    case.work_items()[0].start(by="ann")
    case.migrate("2", tasks={"a": "first", "b": "second"})

    assert ["second"] == case.running
    case.complete_task("second")
    assert "completed" == case.state


def test_running_work_without_a_task_is_refused(engine: Engine) -> None:
    """Started work is never dropped: where its task is gone the case stays."""
    case = running(engine, ONE, net("2", "start > b", "b > end"))
    case.start_task("a")

    assert ["a: it is running, and version 2 has no task 'a'"] == problems(case)


def test_running_work_of_another_kind_is_refused(engine: Engine) -> None:
    """A person's started work cannot become a handler's."""
    case = running(engine, ONE, net("2", "start > a", "a > b", "b > end", a={"handler": "h"}))
    case.start_task("a")

    assert ["a: it is running as work for people, and in version 2 it is a handler's work"] == problems(case)


def test_an_offer_of_another_kind_is_withdrawn(engine: Engine) -> None:
    """What nobody has begun may change its kind: the offer goes, and the new version does it its way."""
    engine.handler("h")(lambda work: {"done": True})
    case = running(engine, ONE, net("2", "start > a", "a > b", "b > end", a={"handler": "h"}))
    report = engine.migrate("p", to="2")

    assert ("a",) == report.cases[0].withdrawn
    case.run()
    assert {"done": True} == case.data
    assert [("b", "offered")] == [(each.path, each.state) for each in case.work_items()]
    assert ["b"] == [each.path for each in engine.work_items()]


def test_an_offer_without_a_task_is_withdrawn(engine: Engine) -> None:
    """An offer whose task is gone goes, and its token is where another task waits for it."""
    case = running(
        engine,
        net("1", "start > a", "a > end"),
        net("2", "start > b", "b > end"),
    )
    case.migrate("2")

    assert ["b"] == case.enabled
    assert ["b"] == [each.path for each in engine.work_items()]
    told = [each for each in case.history() if each.kind.value == "case_migrated"]
    assert [{"source": "1", "target": "2", "withdrawn": ["a"]}] == [each.details for each in told]


def test_automatic_tasks_of_the_new_version_start(engine: Engine) -> None:
    """Routing tasks that the moved marking enables fire with the migration."""
    case = running(engine, net("1", "start > a", "a > end"), net("2", "start > r", "r > b", "b > end", r={}))
    case.migrate("2")

    assert ["b"] == case.enabled


SHIPPING = {
    "shipping": {
        "tasks": [{"id": "pick", "manual": {}}, {"id": "pack", "manual": {}}],
        "flows": [{"from": "start", "to": "pick"}, {"from": "pick", "to": "pack"}, {"from": "pack", "to": "end"}],
    }
}


def test_subnets_move_with_their_parent(engine: Engine) -> None:
    """The work inside a composite task goes on, under the new names of task and net."""
    old = net("1", "start > ship", "ship > end", ship={"subnet": "shipping"}, subnets=SHIPPING)
    new = net("2", "start > send", "send > end", send={"subnet": "sending"}, subnets={"sending": SHIPPING["shipping"]})
    case = running(engine, old, new)
    case.complete_task("ship/pick")
    case.start_task("ship/pack")
    case.migrate("2", tasks={"ship": "send"}, nets={"shipping": "sending"})

    assert ["send/pack"] == case.running
    case.complete_task("send/pack")
    assert "completed" == case.state


def test_every_problem_is_listed_with_its_place(engine: Engine) -> None:
    """All reasons are told at once, each with the path of what it is about."""
    old = net("1", "start > ship", "ship > end", ship={"subnet": "shipping"}, subnets=SHIPPING)
    other = {
        "shipping": {
            "tasks": [{"id": "wrap", "manual": {}}],
            "flows": [{"from": "start", "to": "wrap"}, {"from": "wrap", "to": "end"}],
        }
    }
    new = net("2", "start > ship", "ship > end", ship={"subnet": "shipping"}, subnets=other)
    case = running(engine, old, new)
    case.complete_task("ship/pick")

    assert ["ship/pick>pack"] == [each.partition(":")[0] for each in problems(case)]
    case.start_task("ship/pack")
    assert ["ship/pack"] == [each.partition(":")[0] for each in problems(case)]


def test_a_running_net_that_is_gone_is_refused(engine: Engine) -> None:
    """A subnet that runs keeps the case where it is when the new version has none of that name."""
    old = net("1", "start > ship", "ship > end", ship={"subnet": "shipping"}, subnets=SHIPPING)
    new = net("2", "start > ship", "ship > end")
    case = running(engine, old, new)

    found = problems(case)
    assert any("net 'shipping' runs, and version 2 has no net 'shipping'" in each for each in found)
    assert any("running as a composite task, and in version 2 it is work for people" in each for each in found)


def test_timers_keep_their_time(engine: Engine) -> None:
    """A running clock goes on where the task still has one, stops where it has none, and starts where it is new."""
    old = net(
        "1",
        "start > in",
        "in > c_w",
        "c_w > pay",
        "c_w > late",
        "pay > end",
        "late > end",
        late={"timer": "2h"},
        **{"in": {}},
    )
    new = net(
        "2",
        "start > in",
        "in > c_w",
        "c_w > pay",
        "c_w > late",
        "pay > end",
        "late > end",
        late={"timer": "9h"},
        **{"in": {}},
    )
    none = net("3", "start > in", "in > c_w", "c_w > pay", "c_w > late", "pay > end", "late > end", **{"in": {}})
    case = running(engine, old, new, none)
    due = case.next_due
    engine.clock.advance(HOUR)
    case.migrate("2")
    assert due == case.next_due
    case.migrate("3")
    assert case.next_due is None
    case.migrate("2")

    assert engine.clock.now() + 9 * HOUR == case.next_due


def test_deadlines_keep_their_time(engine: Engine) -> None:
    """A deadline runs on, or has passed, where the task has one there too; else its clock is gone."""
    old = net(
        "1",
        "start > s",
        "s > a",
        "s > b",
        "a > end",
        "b > end",
        s={"split": "and"},
        a={"manual": {}, "deadline": "2h"},
        b={"manual": {}, "deadline": "1h"},
    )
    new = net(
        "2",
        "start > s",
        "s > a",
        "s > c",
        "a > end",
        "c > end",
        s={"split": "and"},
        a={"manual": {}, "deadline": "9h"},
        c={"manual": {}, "deadline": "9h"},
    )
    without = net("3", "start > s", "s > a", "s > c", "a > end", "c > end", s={"split": "and"})
    case = running(engine, old, new, without)
    first = case.next_due
    case.tick(first)
    overdue = case.problems

    case.migrate("2", tasks={"b": "c"})

    assert first + 3_600_000 == case.next_due
    assert [each.replace("b:", "c:") for each in overdue] == case.problems != []
    case.migrate("3")
    assert (None, []) == (case.next_due, case.problems)


def _tasks(tree: dict[str, Any]) -> list[Any]:
    return (
        tree["tasks"]
        if isinstance(tree["tasks"], list)
        else [{"id": name, **each} for name, each in tree["tasks"].items()]
    )


def test_held_events_are_kept(engine: Engine) -> None:
    """A persistent event that came early waits in the new version for the task that listens to it."""
    old = net("1", "start > a", "a > pay", "pay > end", pay={"trigger": "paid"})
    new = net("2", "start > a", "a > pay", "pay > end", pay={"trigger": "paid", "handler": "h"})
    other = net("3", "start > a", "a > pay", "pay > end", pay={"trigger": "received"})
    case = running(engine, old, new, other)
    case.send_event("paid")
    case.migrate("2")
    engine.handler("h")(lambda work: None)
    case.complete_task("a")
    case.run()
    assert "completed" == case.state

    case = engine.create_case("p", version="1")
    case.start()
    case.send_event("paid")
    case.migrate("3")
    case.complete_task("a")
    assert "running" == case.state


JOIN = ("start > s", "s > a", "s > b", "s > c", "a > j", "b > j", "c > j", "j > end")


def test_a_partial_join_keeps_its_round(engine: Engine) -> None:
    """What a partial join has seen of its round counts in the new version, whatever the order of its inputs there."""
    old = net("1", *JOIN, s={"split": "and"}, j={"join": {"partial": 2}, "manual": {}})
    new = net(
        "2", *JOIN[:4], *reversed(JOIN[4:7]), JOIN[7], s={"split": "and"}, j={"join": {"partial": 2}, "manual": {}}
    )
    case = running(engine, old, new)
    case.complete_task("a")
    case.complete_task("b")
    case.start_task("j")
    case.migrate("2")
    case.complete_task("c")
    engine.evict(case.id)

    # The third arrival belongs to the round that is over: it is swallowed, and the join does not fire again.
    assert ["j"] == case.running
    case.complete_task("j")
    assert "completed" == case.state


def test_a_round_without_a_join_is_refused(engine: Engine) -> None:
    """A round that has begun needs a partial join to be finished in, with the inputs that it has seen."""
    old = net("1", *JOIN, s={"split": "and"}, j={"join": {"partial": 2}, "manual": {}})
    no_join = net("2", *JOIN, s={"split": "and"}, j={"join": "or", "manual": {}})
    fewer = net(
        "3",
        "start > s",
        "s > a",
        "s > b",
        "s > c",
        "a > k",
        "k > j",
        "b > j",
        "c > j",
        "j > end",
        s={"split": "and"},
        j={"join": {"partial": 2}, "manual": {}},
    )
    case = running(engine, old, no_join, fewer)
    case.complete_task("a")
    case.complete_task("b")
    case.start_task("j")

    assert ["j: its partial join is in the middle of a round, and version 2 has no such join there"] == problems(case)
    assert ["j: its round has seen 'a>j', which is no input of it in version 3"] == problems(case, "3")


def test_instances_go_on(engine: Engine) -> None:
    """A multiple-instance task keeps its instances, their elements and how many have completed."""
    multiple = {"manual": {}, "multiple": {"for_each": "data.who", "creation": "dynamic", "threshold": 3}}
    old = net("1", "start > ask", "ask > end", ask=multiple)
    new = net("2", "start > ask", "ask > after", "after > end", ask=multiple)
    case = running(engine, old, new, data={"who": ["x", "y", "z"]})
    case.start_task("ask")
    case.complete_task("ask#1")
    case.migrate("2")
    case.add_instance("ask", "w")

    assert ["ask#2", "ask#3", "ask#4"] == case.running
    case.complete_task("ask#2")
    case.complete_task("ask#4")
    assert ["after"] == case.enabled


def test_instances_of_another_sort_are_refused(engine: Engine) -> None:
    """A running multiple-instance task needs one of its sort in the new version."""
    old = net("1", "start > ask", "ask > end", ask={"manual": {}, "multiple": {"count": 2}})
    single = net("2", "start > ask", "ask > end")
    each = net("3", "start > ask", "ask > end", ask={"manual": {}, "multiple": {"for_each": "data.who"}})
    case = running(engine, old, single, each)
    case.start_task("ask")

    assert ["ask: it is running, and in version 2 its instances are of another sort"] == problems(case)
    assert ["ask: it is running, and in version 3 its instances have no elements, or first get them"] == problems(
        case, "3"
    )


def test_external_work_keeps_its_claim(engine: Engine) -> None:
    """The deadline of a claim goes with its item."""
    old = net("1", "start > print", "print > end", print={"external": {"topic": "t", "timeout": "1h"}})
    new = net("2", "start > print", "print > b", "b > end", print={"external": {"topic": "u", "timeout": "5h"}})
    case = running(engine, old, new)
    case.start_task("print", by="worker")
    case.migrate("2")

    assert engine.clock.now() + HOUR == case.next_due
    assert ["u"] == [each.topic for each in engine.work_items()]
    engine.tick(engine.clock.now() + HOUR)
    assert ["print"] == case.enabled


def test_data_that_the_new_schema_refuses(engine: Engine) -> None:
    """A case whose data the new version's schema refuses stays as it is."""
    schema = {"type": "object", "required": ["amount"]}
    case = running(engine, ONE, net("2", "start > a", "a > b", "b > end", data=schema), data={"sum": 1})

    (problem,) = problems(case)
    assert "amount" in problem


# --- states and refusals ---------------------------------------------------------------------------------------------------


def test_a_case_that_was_not_started(engine: Engine) -> None:
    """A created case starts in the new version."""
    engine.register(ONE)
    engine.register(net("2", "start > b", "b > end"))
    case = engine.create_case("p", version="1")
    case.migrate("2")
    case.start()

    assert ["b"] == case.enabled


def test_a_suspended_case_stays_suspended(engine: Engine) -> None:
    """What the moved marking enables starts when the case is resumed."""
    case = running(engine, net("1", "start > a", "a > end"), net("2", "start > r", "r > b", "b > end", r={}))
    case.suspend()
    case.migrate("2")

    assert "suspended" == case.state
    case.resume()
    assert ["b"] == case.enabled


def test_a_deadlocked_case_is_freed(engine: Engine) -> None:
    """A version that has a way on from where the case is stuck sets it going."""
    tree: dict[str, Any] = {
        "id": "p",
        "version": "1",
        "tasks": [{"id": "s", "split": "xor"}, {"id": "j", "join": "and", "manual": {}}],
        "flows": [
            {"from": "start", "to": "s"},
            {"from": "s", "to": "j", "default": True},
            {"from": "s", "to": "c"},
            {"from": "c", "to": "j"},
            {"from": "j", "to": "end"},
        ],
        "conditions": [{"id": "c"}],
    }
    tree["flows"][2]["when"] = "false"
    freed = copies.deepcopy(tree)
    freed["version"] = "2"
    freed["tasks"][1]["join"] = "xor"
    case = running(engine, Specification.from_json(json.dumps(tree)), Specification.from_json(json.dumps(freed)))
    assert "deadlocked" == case.state
    case.migrate("2")

    assert ("running", ["j"]) == (case.state, case.enabled)


def test_a_failed_case_moves_with_its_failed_work(engine: Engine) -> None:
    """Failed work can be retried in the new version."""
    engine.handler("h")(lambda work: 1 / 0)
    old = net("1", "start > a", "a > end", a={"handler": "h"})
    case = running(engine, old, net("2", "start > a", "a > b", "b > end", a={"handler": "h"}))
    with pytest.raises(KnhkError):
        case.run()
    assert "failed" == case.state
    case.migrate("2")
    engine.handler("h")(lambda work: None)
    case.retry_failed()
    case.run()

    assert ["b"] == case.enabled


def test_what_is_over_does_not_move(engine: Engine) -> None:
    """Completed and cancelled cases are left alone, as are those that have the version already."""
    over = running(engine, net("1", "start > end2", "end2 > end", end2={}), ONE_AS_TWO)
    there = engine.create_case("p", version="2")
    report = engine.migrate("p", to="2")

    assert ("completed", ()) == (over.state, report.cases)
    assert "created" == there.state


ONE_AS_TWO = net("2", "start > a", "a > b", "b > end")


def test_a_version_that_is_not_registered(engine: Engine) -> None:
    """An unknown version is refused before any case is looked at."""
    case = running(engine, ONE)

    with pytest.raises(UnknownSpecification):
        engine.migrate("p", to="9")
    with pytest.raises(UnknownSpecification):
        case.migrate("9")


def test_a_case_of_another_specification(engine: Engine) -> None:
    """Cases of another specification are refused, and none of those named with them moves."""
    case = running(engine, ONE, ONE_AS_TWO)
    other = Specification.from_json(json.dumps({"id": "q", "tasks": [], "conditions": []}))
    engine.register(other)
    stranger = engine.create_case("q")

    with pytest.raises(CommandError, match=f"{stranger.id}.*'q'"):
        engine.migrate("p", to="2", cases=[case.id, stranger.id])
    assert "1" == engine._store.header(case.id).spec_version


def test_a_handler_at_work_keeps_its_case(engine: Engine) -> None:
    """A case is not moved away from under a handler that runs."""
    found: list[str] = []

    @engine.handler("h")
    def handle(work: Any) -> None:
        report = engine.migrate("p", to="2")
        found.extend(str(problem) for each in report.cases for problem in each.problems)

    engine.register(net("1", "start > a", "a > end", a={"handler": "h"}))
    engine.register(net("2", "start > a", "a > b", "b > end", a={"handler": "h"}))
    case = engine.create_case("p", version="1")
    case.run()

    assert "completed" == case.state
    assert ["a handler is at work in it now; try again when it has ended"] == found


# --- history and stores ----------------------------------------------------------------------------------------------------


def test_the_history_is_told_across_versions(engine: Engine) -> None:
    """Each event is told in the names of the version in which it happened, also after a restart."""
    case = running(engine, ONE, net("2", "start > x", "x > first", "first > y", "y > end", x={}))
    case.complete_task("a")
    case.migrate("2", tasks={"a": "x", "b": "first"}, conditions={"a>b": "x>first"})
    case.complete_task("first")
    engine.evict()
    told = [(each.kind.value, each.path) for each in case.history()]

    assert ("task_completed", "a") in told
    assert (
        told.index(("task_completed", "a"))
        < told.index(("case_migrated", ""))
        < told.index(("task_completed", "first"))
    )
    assert ["y"] == case.enabled


def test_a_reloaded_case_is_the_one_that_moved(engine: Engine) -> None:
    """What was moved is on the store with the commands that followed."""
    case = running(engine, ONE, net("2", "start > a", "a > check", "check > b", "b > end"), data={"n": 1})
    case.migrate("2")
    case.complete_task("a", {"n": 2})
    before = (case.marking, case.enabled, case.data, case.state)
    engine.evict()

    assert before == (case.marking, case.enabled, case.data, case.state)


def test_there_and_back(engine: Engine) -> None:
    """A case moved to a version and back is where it was."""
    case = running(engine, ONE, ONE_AS_TWO)
    case.complete_task("a")
    before = (case.marking, case.enabled, [each.number for each in case.work_items()])
    case.migrate("2")
    case.migrate("1")

    assert before == (case.marking, case.enabled, [each.number for each in case.work_items()])


def test_two_engines_on_one_file(tmp_path: Path) -> None:
    """An engine that had the case in memory goes on with it in its new version."""
    with Engine(str(tmp_path / "c.db")) as first, Engine(str(tmp_path / "c.db")) as second:
        case = running(first, ONE, net("2", "start > a", "a > check", "check > b", "b > end"))
        same = second.case(case.id)
        assert ["a"] == same.enabled
        case.migrate("2")
        with pytest.raises(KnhkError):
            same.complete_task("a")
        same.complete_task("a")

        assert ["check"] == same.enabled


async def _asynchronously(path: str) -> list[str]:
    async with AsyncEngine(path) as engine:
        await engine.register(ONE)
        await engine.register(net("2", "start > a", "a > check", "check > b", "b > end"))
        case = await engine.create_case("p", version="1")
        await case.start()
        report = await engine.migrate("p", to="2", dry_run=True)
        assert report.dry_run
        await case.migrate("2")
        await case.complete_task("a")
        return await case.enabled()


def test_asynchronously() -> None:
    """AsyncEngine and its cases migrate as Engine does."""
    import asyncio

    assert ["check"] == asyncio.run(_asynchronously("memory:"))


# --- many ------------------------------------------------------------------------------------------------------------------


def test_a_dry_run_changes_nothing(engine: Engine) -> None:
    """A dry run tells of each case what would become of it, and every case is as before."""
    good = running(engine, ONE, net("2", "start > a", "a > check", "check > b", "b > end"))
    bad = engine.create_case("p", version="1")
    bad.start()
    bad.complete_task("a")
    before = [(each.version, each.spec_version) for each in engine.cases()]
    report = engine.migrate("p", to="2", dry_run=True)

    assert before == [(each.version, each.spec_version) for each in engine.cases()]
    assert ([good.id], [bad.id]) == ([each.case_id for each in report.moved], [each.case_id for each in report.refused])
    assert str(report).startswith("1 of 2 cases of p would move to version 2\n1 x a>b: it holds a token")


def test_ten_thousand_cases(tmp_path: Path) -> None:
    """A dry run and then the run over 10,000 open cases move all that have a place, tell of the others, and lose nothing."""
    path = str(tmp_path / "c.db")
    with Engine(path, durability="off", cache=20_000) as engine:
        engine.register(ONE)
        engine.register(net("2", "start > a", "a > check", "check > b", "b > end"))
        cases = engine.create_many("p", [{"n": n} for n in range(10_000)], version="1")
        for number, case in enumerate(cases):
            case.start()
            if number % 100 == 0:
                case.complete_task("a")
        told: list[str] = []
        begun = time.perf_counter()
        dry = engine.migrate("p", to="2", dry_run=True, progress=lambda fate: told.append(fate.case_id))
        seconds = time.perf_counter() - begun

    done = knhk("p", "--to", "2", "--db", path)
    print(f"the dry run took {seconds:.1f} s\n{done.stdout}")

    assert (1, 10_000) == (done.exit_code, len(told))
    assert re.match(
        r"9900 of 10000 cases of p moved to version 2 in [\d.]+ s \([\d,]+ cases/s\)\n  100 x a>b: it holds a token",
        done.stdout,
    )
    refused = {each.case_id for each in dry.refused}
    assert {case.id for number, case in enumerate(cases) if number % 100 == 0} == refused
    with Engine(path) as engine:
        assert {each.case_id: "1" if each.case_id in refused else "2" for each in dry.cases} == {
            each.case_id: each.spec_version for each in engine.cases()
        }
        for each in random.Random(1).sample(cases, 50):
            assert (["b"] if each.id in refused else ["a"]) == engine.case(each.id).enabled
        assert not engine.migrate("p", to="2").moved


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data(), specifications(), st.integers(0, 2**32))
def test_the_same_net_written_in_another_order(data: st.DataObject, specification: Specification, seed: int) -> None:
    """A case moved to the same specification in another order of tasks and conditions does the same from there on."""
    tree = json.loads(specification.to_json())
    shuffled = copies.deepcopy(tree)
    chance = random.Random(seed)
    for each in (shuffled, *shuffled.get("subnets", {}).values()):
        for member in ("tasks", "conditions"):
            if isinstance(each.get(member), list):
                chance.shuffle(each[member])
    shuffled["version"] = "moved"
    program, nets = compiled(specification)
    other_program, other_nets = compiled(Specification.from_json(json.dumps(shuffled)))
    case = fresh(program, nets)
    case.create(FIRST)
    try:
        case.start(at=0)
        for at in range(1, data.draw(st.integers(1, 10))):
            act(picking(data), case, at * 700)
    except REFUSALS:
        pass
    moved = move(case.state.dump(), program, other_program, Renaming())
    assert () == moved.problems == moved.withdrawn
    other = fresh(other_program, other_nets)
    # At a time at which no timer is due, or it would run.
    other.migrate(moved, source="1", target="moved", at=0)
    back = move(other.state.dump(), other_program, program, Renaming())

    assert _set(case) == _set(other)
    assert sorted(map(str, case.state.dump()["items"])) == sorted(map(str, back.tree["items"]))
    again = fresh(other_program, other_nets)
    again.replay(None, decode_batch(encode_batch(0, other.take_records()))[1])
    assert other.state.dump() == again.state.dump()


def _set(case: Any) -> tuple[Any, ...]:
    marking = {path: dict(sorted(tokens.items())) for path, tokens in case.marking().items()}
    return case.state.phase, marking, case.enabled(), case.running(), case.state.data, sorted(case.state.work)


def test_the_state_has_no_part_that_is_not_moved() -> None:
    """Whoever adds a part to a case's state has to say here, and in `knhk._migration`, how it moves."""
    program, nets = compiled(ONE)
    case = fresh(program, nets)
    case.create({})
    case.start(at=0)
    tree = case.state.dump()

    assert {"phase", "data", "next", "items", "attempts", "failures", "deadlines", "memory", "undoing", "nets"} == set(
        tree
    )
    parts = {"id", "tokens", "status", "seen", "offers", "timers", "deadlines", "overdue", "triggers", "activities"}
    assert parts == set(tree["nets"][0])


# --- a new version that is not registered yet, and the command line ---------------------------------------------------------


def test_a_dry_run_registers_nothing(engine: Engine) -> None:
    """A specification that is given is registered by the run, and not by a dry run."""
    case = running(engine, ONE)
    new = net("2", "start > a", "a > check", "check > end")

    assert 1 == len(engine.migrate("p", to=new, dry_run=True).moved)
    assert ["1"] == [each.version for each in engine._store.specifications()]
    assert 1 == len(engine.migrate("p", to=new).moved)
    case.complete_task("a")
    assert ["check"] == case.enabled


def test_a_new_version_that_cannot_be(engine: Engine) -> None:
    """Another specification, other content under a registered version, and an ill-formed one are refused, dry or not."""
    running(engine, ONE, ONE_AS_TWO)
    stranger = Specification.from_json(json.dumps({"id": "q", "tasks": [], "conditions": []}))
    other = net("2", "start > z", "z > end")

    for dry_run in (True, False):
        with pytest.raises(CommandError, match="'q', not 'p'"):
            engine.migrate("p", to=stranger, dry_run=dry_run)
        with pytest.raises(SpecificationConflict):
            engine.migrate("p", to=other, dry_run=dry_run)
        with pytest.raises(SpecificationError):
            engine.migrate("p", to=attrs.evolve(ONE, version="3", data={"type": 7}), dry_run=dry_run)
    assert not any(each.spec_version != "1" for each in engine.cases())


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with two versions and a store in which one case has a place in the second, and one has none."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KNHK_DB", raising=False)
    Path("p2.json").write_text(net("2", "start > a", "a > check", "check > b", "b > end").to_json())
    with Engine("c.db") as engine:
        engine.register(ONE)
        for stays in (False, True):
            case = engine.create_case("p")
            case.start()
            if stays:
                case.complete_task("a")
    return tmp_path


def knhk(*arguments: str) -> Any:
    return CliRunner().invoke(commands, ["migrate", *arguments])


def test_command_for_people(files: Path) -> None:
    """The command tells how many moved and why others stay, and its exit code says whether all could."""
    dry = knhk("p2.json", "--db", "c.db", "--dry-run")
    assert 1 == dry.exit_code
    assert re.match(
        r"1 of 2 cases of p would move to version 2 in \d+\.\d s( \([\d,]+ cases/s\))?\n  1 x a>b: it holds a token, ",
        dry.stdout,
    )
    assert 1 == knhk("p2.json", "--db", "c.db").exit_code
    done = knhk("p", "--to", "2", "--db", "c.db", "--condition", "a>b=check>b")

    assert 0 == done.exit_code
    assert done.stdout.startswith("1 of 1 cases of p moved to version 2")
    with Engine("c.db") as engine:
        assert {"2"} == {each.spec_version for each in engine.cases()}


def test_command_for_programs(files: Path) -> None:
    """With --json there is a document a case."""
    done = knhk("p2.json", "--db", "c.db", "--json", "--task", "b=b")
    fates = [json.loads(line) for line in done.stdout.splitlines()]

    assert [True, False] == [each["moves"] for each in fates]
    assert ["a>b"] == [each["place"] for each in fates[1]["problems"]]
    assert [("1", "2", False, [])] * 2 == [(e["from"], e["to"], e["dry_run"], e["withdrawn"]) for e in fates]


def test_command_on_one_case(files: Path) -> None:
    """Only the named cases move."""
    with Engine("c.db") as engine:
        first = next(iter(engine.cases())).case_id

    assert 0 == knhk("p2.json", "--db", "c.db", "--case", first).exit_code
    with Engine("c.db") as engine:
        assert ["2", "1"] == [each.spec_version for each in engine.cases()]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["p2.json", "--to", "2"], 2, "--to names a registered version"),
        (["p"], 2, "name it: --to VERSION"),
        (["p", "--to", "9"], 3, "'p' version '9' is not registered"),
        (["p2.json", "--task", "ab"], 2, "'ab' is not OLD=NEW"),
        (["p2.json", "--task", "=b"], 2, "'=b' is not OLD=NEW"),
    ],
)
def test_command_that_cannot_be(files: Path, arguments: list[str], code: int, message: str) -> None:
    """What is asked wrongly is told, and nothing moves."""
    done = knhk(*arguments, "--db", "c.db")

    assert code == done.exit_code
    assert message in done.stderr


def test_many_offers_and_many_problems(files: Path) -> None:
    """Offers that are withdrawn are counted; of very many problems the first are shown."""
    wide = ["start > s", *(f"s > t{n}" for n in range(25)), *(f"t{n} > end" for n in range(25))]
    with Engine("w.db") as engine:
        engine.register(net("1", *wide, s={"split": "and"}))
        engine.create_case("p").start()
    Path("none.json").write_text(net("2", "start > end2", "end2 > end").to_json())
    Path("less.json").write_text(net("3", "start > x", "x > y", "y > end").to_json())

    shown = knhk("none.json", "--db", "w.db").stdout
    assert "  and 5 other problems; --json tells of each case\n" in shown
    assert "1 offer was withdrawn" not in shown
    less = knhk("less.json", "--db", "c.db", "--dry-run", "--condition", "a>b=x>y")
    assert "2 offers would be withdrawn, as the new version has no such task" in less.stderr
