"""A running case as its user sees it: work items, history, marking, and handlers that leave the case free."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from knhk import Engine, EventKind, IllegalTransition, Specification, UnknownWorkItem
from knhk.testing.clock import ManualClock


def line(name: str, *tasks: dict[str, Any], **more: Any) -> Specification:
    """Tasks one after the other."""
    ids = ["start", *(task["id"] for task in tasks), "end"]
    flows = [{"from": a, "to": b} for a, b in zip(ids, ids[1:], strict=False)]
    return Specification.from_dict({"id": name, "tasks": list(tasks), "flows": flows, **more})


def test_a_work_item_lives_its_whole_life() -> None:
    """An item is offered, allocated, given back, started, suspended, resumed, failed, retried and completed."""
    with Engine() as engine:
        engine.register(line("w", {"id": "A", "manual": {"roles": ["clerk"]}}, {"id": "B", "external": "labels"}))
        case = engine.create_case("w").run()
        (item,) = case.work_items()
        assert ("A", "offered", ("clerk",)) == (item.path, item.state, item.roles)

        states = []
        for command in (
            lambda: item.allocate("ann"),
            item.offer,
            lambda: item.allocate("bob"),
            lambda: item.start(by="bob"),
            item.suspend,
            item.resume,
            item.fail,
            item.retry,
            lambda: item.complete({"x": 1}),
        ):
            command()
            states.append((item.state, item.by))

        assert [
            ("allocated", "ann"),
            ("offered", ""),
            ("allocated", "bob"),
            ("started", "bob"),
            ("suspended", "bob"),
            ("started", "bob"),
            ("failed", "bob"),
            ("started", "bob"),
            ("completed", "bob"),
        ] == states
        (following,) = case.work_items(state="offered")
        assert ("B", "labels") == (following.path, following.topic)
        assert "B" in repr(following)
        following.complete()
        assert "completed" == case.state


def test_an_item_that_does_not_take_the_command_says_what_it_takes() -> None:
    """A command that does not fit an item's state is refused with the commands that would."""
    with Engine() as engine:
        engine.register(line("w", {"id": "A", "manual": {}}, {"id": "B", "manual": {}}))
        case = engine.create_case("w").run()
        (item,) = case.work_items()

        with pytest.raises(
            IllegalTransition, match=r"cannot resume work item A: it is offered; allowed: allocate, start"
        ):
            item.resume()
        item.start()
        with pytest.raises(IllegalTransition, match="cannot start"):
            item.start()
        item.suspend()
        with pytest.raises(IllegalTransition, match="cannot complete"):
            item.complete()
        item.resume()
        item.complete()
        with pytest.raises(UnknownWorkItem):
            item.complete()
        with pytest.raises(UnknownWorkItem):
            case.work_item(99)


def test_starting_a_multiple_instance_item_makes_an_item_of_each_instance() -> None:
    """The offered item goes when its instances start, and each instance can be found by its number."""
    with Engine() as engine:
        engine.register(line("m", {"id": "M", "manual": {}, "multiple": {"for_each": "data.names"}}))
        case = engine.create_case("m", {"names": ["x", "y"]}).run()
        (item,) = case.work_items()

        item.start(by="ann")

        assert "started" == item.state
        first, second = case.work_items()
        assert ["M#1", "M#2"] == [first.path, second.path]
        assert "M#2" == case.work_item(second.number).path
        second.complete()
        first.complete()
        assert "completed" == case.state


def test_the_marking_names_nets_and_conditions() -> None:
    """Tokens are shown by the path of the net and the name of the condition."""
    with Engine() as engine:
        sub = {
            "s": {
                "tasks": [{"id": "P", "manual": {}}],
                "flows": [{"from": "start", "to": "P"}, {"from": "P", "to": "end"}],
            }
        }
        engine.register(line("c", {"id": "A", "manual": {}}, {"id": "S", "subnet": "s"}, subnets=sub))
        case = engine.create_case("c").run()
        assert {"": {"start": 1}} == case.marking

        case.complete_task("A")

        assert {"": {}, "S": {"start": 1}} == case.marking


def test_the_history_tells_everything_in_order() -> None:
    """Each kind of thing that can happen to a case is told with its path and what mattered."""
    clock = ManualClock(5_000)
    with Engine(clock=clock) as engine:
        sub = {
            "s": {
                "tasks": [{"id": "P", "manual": {}}],
                "flows": [{"from": "start", "to": "P"}, {"from": "P", "to": "end"}],
            }
        }
        tasks = [
            {"id": "A", "manual": {}, "split": "xor"},
            {"id": "Z"},
            {"id": "S", "subnet": "s"},
            {"id": "M", "manual": {}, "multiple": {"count": 1, "maximum": 3, "creation": "dynamic"}},
            {"id": "T", "trigger": "go"},
            {"id": "W", "timer": "1s", "split": "and"},
            {"id": "D", "manual": {}},
            {"id": "E", "manual": {}, "cancels": ["W>D"], "split": "and"},
            {"id": "F", "manual": {}},
            {"id": "G", "manual": {}},
            {"id": "H", "manual": {}, "multiple": {"count": 2}},
        ]
        flows = [("start", "A"), ("Z", "end"), ("S", "M"), ("M", "T"), ("T", "W"), ("W", "D"), ("W", "E"), ("D", "end")]
        flows += [("E", "F"), ("E", "G"), ("E", "H"), ("F", "end"), ("G", "end"), ("H", "end")]
        tree = {
            "id": "all",
            "tasks": tasks,
            "flows": [
                *({"from": a, "to": b} for a, b in flows),
                {"from": "A", "to": "Z", "when": "data.n == 0"},
                {"from": "A", "to": "S", "default": True},
            ],
            "subnets": sub,
        }
        engine.register(Specification.from_dict(tree))
        case = engine.create_case("all", {"n": 1}).run()
        case.complete_task("A", {"x": 2}, by="ann")
        case.suspend()
        case.resume()
        case.complete_task("S/P")
        case.start_task("M")
        case.add_instance("M")
        case.close_instances("M")
        case.complete_task("M#1")
        case.complete_task("M#2")
        case.send_event("go", {"sent": True})
        clock.advance(1_000)
        engine.tick()
        case.start_task("D")
        case.complete_task("E")
        case.cancel_task("D")
        case.cancel_task("F")
        case.start_task("H")
        case.complete_instances("H")

        events = case.history()

    told = [(event.kind.value, event.path, dict(event.details)) for event in events]
    assert list(range(1, len(events) + 1)) == [event.sequence for event in events]
    assert {5_000, 6_000} == {event.at for event in events}
    for expected in (
        ("case_created", "", {"data": {"n": 1}}),
        ("case_started", "", {}),
        ("item_offered", "A", {}),
        ("task_started", "A", {"by": "ann"}),
        ("task_completed", "A", {"data": {"x": 2}, "chosen": ["A>S"]}),
        ("task_started", "S", {}),
        ("case_suspended", "", {}),
        ("case_resumed", "", {}),
        ("task_completed", "S/P", {}),
        ("task_started", "M", {"instances": 1}),
        ("instance_added", "M", {}),
        ("instances_closed", "M", {}),
        ("instance_completed", "M#1", {}),
        ("instance_completed", "M#2", {"passed_control": True}),
        ("data_changed", "", {"data": {"sent": True}}),
        ("trigger_held", "T", {"held": 1}),
        ("timer_set", "W", {"due": 6_000}),
        ("task_fired", "W", {}),
        ("task_cancelled", "D", {}),
        ("task_withdrawn", "F", {}),
        ("task_forced", "H", {}),
        ("case_completed", "", {}),
    ):
        assert expected in told


def test_the_history_tells_changes_of_items_and_of_the_case() -> None:
    """Allocation, withdrawal, a cleared timer, failure, deadlock and cancellation are told too."""
    clock = ManualClock()
    with Engine(clock=clock) as engine:
        tree = {
            "id": "c",
            "tasks": [{"id": "A", "manual": {}}, {"id": "B", "manual": {}}, {"id": "T", "timer": "5s"}],
            "conditions": ["p"],
            "flows": [{"from": "start", "to": x} for x in "ABT"]
            + [
                {"from": "A", "to": "end"},
                {"from": "B", "to": "p"},
                {"from": "T", "to": "end"},
                {"from": "p", "to": "C"},
            ],
        }
        tree["tasks"].append({"id": "C", "manual": {}, "join": "and"})
        tree["conditions"].append("q")
        tree["tasks"].append({"id": "Q"})
        tree["flows"] += [{"from": "q", "to": "C"}, {"from": "start", "to": "Q"}]
        tree["flows"] += [{"from": "Q", "to": "q"}, {"from": "C", "to": "end"}]
        tree["tasks"][-1]["trigger"] = {"event": "never"}
        engine.register(Specification.from_dict(tree))
        case = engine.create_case("c").run()
        case.work_items()[1].allocate("ann")
        case.complete_task("B")
        assert "deadlocked" == case.state
        case.cancel()
        engine.register(line("h", {"id": "A", "handler": "none"}))
        failing = engine.create_case("h")
        with pytest.raises(Exception, match="no handler 'none' is registered"):
            failing.run()

        kinds = [event.kind for event in case.history()]
        failed = [event.kind for event in failing.history()]

    for kind in (EventKind.ITEM_CHANGED, EventKind.ITEM_WITHDRAWN, EventKind.TIMER_CLEARED):
        assert kind in kinds
    assert [EventKind.CASE_DEADLOCKED, EventKind.CASE_CANCELLED] == kinds[-2:]
    assert [EventKind.ATTEMPT_FAILED, EventKind.CASE_FAILED] == failed[-2:]


def test_a_case_is_free_while_its_handler_runs() -> None:
    """Another thread may look at the case, and cancel it, while a handler works; the late result changes nothing."""
    begun, go_on = threading.Event(), threading.Event()
    with Engine() as engine:
        engine.register(line("h", {"id": "A", "handler": "slow"}))

        @engine.handler("slow")
        def slow(work: Any) -> dict[str, Any]:
            begun.set()
            assert go_on.wait(10)
            return {"late": True}

        case = engine.create_case("h")
        runner = threading.Thread(target=case.run)
        runner.start()
        assert begun.wait(10)

        assert ["A"] == case.running
        assert "running" == case.run().state
        case.cancel()
        go_on.set()
        runner.join(10)

        assert ("cancelled", {}) == (case.state, case.data)


def test_an_asynchronous_handler_is_refused() -> None:
    """The synchronous engine says which engine an asynchronous handler needs."""
    with Engine() as engine:
        engine.register(line("h", {"id": "A", "handler": "later"}))

        @engine.handler("later")
        async def later(work: Any) -> None:
            """Never called."""

        with pytest.raises(Exception, match=r"handler 'later' is asynchronous: run its cases with knhk\.AsyncEngine"):
            engine.create_case("h").run()
