"""Deadlines and constraints: they raise errors like work that fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from knhk import ConstraintViolation, Engine, EventKind, Specification, Work
from knhk.errors import HandlerError, SpecificationError
from knhk.testing.clock import ManualClock

HOUR = 3_600_000


def late(task: dict[str, Any], *errors: str) -> dict[str, Any]:
    """A task, and one for when it fails."""
    names = list(errors) or ["Deadline"]
    return {
        "id": "late",
        "tasks": [{"id": "A", **task}, {"id": "B", "manual": True}, {"id": "C", "manual": True}],
        "flows": [
            {"from": "start", "to": "A"},
            {"from": "A", "to": "B"},
            {"from": "A", "to": "C", "on_error": names},
            {"from": "B", "to": "end"},
            {"from": "C", "to": "end"},
        ],
    }


def engine_of(tree: dict[str, Any], target: str = "memory:", **handlers: Any) -> Engine:
    """An engine with a clock that stands at 0, this specification and these handlers."""
    engine = Engine(target, clock=ManualClock(0))
    engine.register(Specification.from_dict(tree))
    for name, function in handlers.items():
        engine.handler(name)(function)
    return engine


def advance(engine: Engine, span: int) -> int:
    """Let time go by, and do what is due; returns how much that was."""
    clock = engine.clock
    assert isinstance(clock, ManualClock)
    clock.advance(span)
    return engine.tick()


def kinds(case: Any) -> list[str]:
    """What the history tells of deadlines and errors."""
    wanted = ("deadline_set", "deadline_cleared", "deadline_passed", "error_caught")
    return [each.kind.value for each in case.history() if each.kind.value in wanted]


def test_an_offered_task_that_is_late_fails() -> None:
    """Nobody took it up in time: it is withdrawn, and its error flow is taken, not before the deadline."""
    with engine_of(late({"manual": True, "deadline": "2h"})) as engine:
        case = engine.create_case("late").run()
        assert (2 * HOUR, 0, ["A"]) == (case.next_due, advance(engine, 2 * HOUR - 1), case.enabled)

        assert 1 == advance(engine, 1)

        assert (["C"], "Deadline", "not complete after 2h") == (
            case.enabled,
            case.data["error"]["type"],
            case.data["error"]["message"],
        )
        assert ["deadline_set", "deadline_passed", "error_caught"] == kinds(case)
        assert 0 == advance(engine, HOUR)


def test_a_started_task_that_is_late_fails() -> None:
    """Its work is withdrawn, for people, external workers and composite tasks alike."""
    for task in ({"manual": True}, {"external": "t"}, {"subnet": "S"}):
        tree = late({**task, "deadline": {"after": "2h"}})
        tree["subnets"] = {"S": {"tasks": [{"id": "D", "manual": True}], "flows": []}}
        tree["subnets"]["S"]["flows"] = [{"from": "start", "to": "D"}, {"from": "D", "to": "end"}]
        with engine_of(tree) as engine:
            case = engine.create_case("late").run()
            case.start_task("A/D" if "subnet" in task else "A")

            assert 1 == advance(engine, 2 * HOUR)

            assert (["C"], []) == (case.enabled, case.running)


def test_a_handler_that_is_late_is_refused() -> None:
    """The deadline passes while the handler runs: what it returns later is refused."""
    engine: Engine

    def slow(work: Work) -> dict[str, Any]:
        advance(engine, 2 * HOUR)
        return {"done": work.cancelled}

    with engine_of(late({"handler": "slow", "deadline": "2h"}), slow=slow) as engine:
        case = engine.create_case("late").run()

        assert (["C"], False) == (case.enabled, "done" in case.data)


def test_a_task_that_is_complete_in_time_has_no_deadline_any_more() -> None:
    """Completion stops the clock; nothing is due, and nothing happens later."""
    with engine_of(late({"manual": True, "deadline": "2h"})) as engine:
        case = engine.create_case("late").run()
        case.complete_task("A")

        assert (None, 0, ["B"]) == (case.next_due, advance(engine, 3 * HOUR), case.enabled)


def test_a_deadline_may_count_from_the_start() -> None:
    """While the task is only offered no clock runs."""
    with engine_of(late({"manual": True, "deadline": {"after": "2h", "from": "start"}})) as engine:
        case = engine.create_case("late").run()
        assert (None, 0) == (case.next_due, advance(engine, 5 * HOUR))
        case.start_task("A")

        assert 7 * HOUR == case.next_due
        assert (0, 1) == (advance(engine, 2 * HOUR - 1), advance(engine, 1))
        assert ["C"] == case.enabled


def test_a_deadline_that_nobody_takes_is_a_visible_problem() -> None:
    """The task goes on; the history and `problems` tell, until it is complete."""
    with engine_of(late({"manual": True, "deadline": "2h"}, "Other")) as engine:
        case = engine.create_case("late").run()
        assert ([], 1) == (case.problems, advance(engine, 2 * HOUR))

        assert (["A"], "running", None) == (case.enabled, case.state, case.next_due)
        assert ["A: its deadline has passed, and no error flow takes that"] == case.problems
        assert ["deadline_set", "deadline_passed"] == kinds(case)
        engine.evict()
        assert 1 == len(engine.case(case.id).problems)
        case.complete_task("A")
        assert [] == case.problems


def test_a_lost_choice_stops_the_clock() -> None:
    """A task that ceases to be enabled because another one took its token is not late."""
    tree = late({"manual": True, "deadline": "2h"})
    tree["conditions"] = ["p"]
    tree["tasks"] += [{"id": "S"}, {"id": "X", "manual": True}]
    tree["flows"][0] = {"from": "start", "to": "S"}
    tree["flows"] += [
        {"from": "S", "to": "p"},
        {"from": "p", "to": "A"},
        {"from": "p", "to": "X"},
        {"from": "X", "to": "end"},
    ]
    with engine_of(tree) as engine:
        case = engine.create_case("late").run()
        case.start_task("X")

        assert (None, ["deadline_set", "deadline_cleared"]) == (case.next_due, kinds(case))


def test_an_event_that_does_not_come_is_late() -> None:
    """The deadline of a task that waits for an event counts from when it began to wait."""
    with engine_of(late({"trigger": "paid", "deadline": "2h"})) as engine:
        case = engine.create_case("late").run()

        assert (1, ["C"]) == (advance(engine, 2 * HOUR), case.enabled)
    with engine_of(late({"trigger": "paid", "deadline": "2h"})) as engine:
        case = engine.create_case("late").run()
        case.send_event("paid")

        assert (0, ["B"]) == (advance(engine, 2 * HOUR), case.enabled)


def test_a_loop_has_a_deadline_for_each_round() -> None:
    """Each activation has a clock of its own."""
    tree = late({"manual": True, "deadline": "2h", "join": "xor", "split": "xor"})
    tree["flows"][1] = {"from": "A", "to": "B", "default": True}
    tree["conditions"] = ["again"]
    tree["flows"] += [{"from": "A", "to": "again", "when": "has(data.again)"}, {"from": "again", "to": "A"}]
    with engine_of(tree) as engine:
        case = engine.create_case("late").run()
        advance(engine, HOUR)
        case.complete_task("A", {"again": True})

        assert (3 * HOUR, 0, 1) == (case.next_due, advance(engine, HOUR), advance(engine, HOUR))
        assert ["C"] == case.enabled


def test_the_deadline_of_several_instances_is_their_tasks() -> None:
    """All instances are withdrawn together, whether a threshold could still be reached or not."""
    task = {"manual": True, "deadline": "2h", "multiple": {"count": 3, "threshold": 2}}
    with engine_of(late(task)) as engine:
        case = engine.create_case("late").run()
        case.start_task("A")
        case.complete_task("A#1")
        advance(engine, 2 * HOUR)

        assert (["C"], []) == (case.enabled, case.running)


def test_a_deadline_leaves_a_subnet() -> None:
    """What its own task does not take, the composite task around it may take."""
    tree = late({"subnet": "S"})
    tree["subnets"] = {
        "S": {
            "tasks": [{"id": "D", "manual": True, "deadline": "1h"}],
            "flows": [{"from": "start", "to": "D"}, {"from": "D", "to": "end"}],
        }
    }
    with engine_of(tree) as engine:
        case = engine.create_case("late").run()
        advance(engine, HOUR)

        assert (["C"], "A/D") == (case.enabled, case.data["error"]["task"])


def test_a_case_whose_work_failed_waits_for_its_deadline() -> None:
    """While the deadline of a failed task runs, the case is running; when it passes the error flow is taken."""

    def bad(_: Work) -> None:
        raise OSError

    with engine_of(late({"handler": "bad", "deadline": "1h"}), bad=bad) as engine:
        case = engine.create_case("late")
        with pytest.raises(HandlerError):
            case.run()

        assert ("running", 1, ["C"]) == (case.state, advance(engine, HOUR), case.enabled)


def test_a_deadline_survives_a_restart(tmp_path: Path) -> None:
    """It passes at its time although nobody was there before."""
    path = str(tmp_path / "cases.db")
    tree = late({"manual": True, "deadline": "2h"})
    engine = engine_of(tree, path)
    case_id = engine.create_case("late").run().id
    engine.close()
    with Engine(path, clock=ManualClock(9 * HOUR)) as again:
        assert (1, ["C"]) == (again.tick(), again.case(case_id).enabled)
        passed = [each.at for each in again.case(case_id).history() if each.kind is EventKind.DEADLINE_PASSED]
        assert 1 == len(passed)


# --- constraints ------------------------------------------------------------------------------------------------------


def test_an_offered_task_whose_requirement_does_not_hold_is_not_offered() -> None:
    """`requires` is looked at when the task becomes enabled: its error flow is taken in place of an offer."""
    tree = late({"manual": True, "requires": "data.amount > 0"}, "ConstraintViolation")
    with engine_of(tree) as engine:
        assert ["A"] == engine.create_case("late", {"amount": 1}).run().enabled
        case = engine.create_case("late", {"amount": 0}).run()

        assert (["C"], "ConstraintViolation") == (case.enabled, case.data["error"]["type"])
        assert "what it requires does not hold" in case.data["error"]["message"]
        assert EventKind.ITEM_OFFERED in [each.kind for each in case.history() if each.path == "C"]
        assert [] == [each for each in case.history() if each.path == "A" and each.kind is EventKind.ITEM_OFFERED]


@pytest.mark.parametrize("work", [{"handler": "never"}, {"subnet": "S"}, {}, {"timer": "1s"}])
def test_a_task_that_starts_by_itself_looks_at_its_requirement_first(work: dict[str, Any]) -> None:
    """Its work is not begun."""
    tree = late({**work, "requires": "data.amount > 0"}, "DataError")
    tree["subnets"] = {
        "S": {
            "tasks": [{"id": "D", "manual": True}],
            "flows": [{"from": "start", "to": "D"}, {"from": "D", "to": "end"}],
        }
    }
    with engine_of(tree) as engine:
        case = engine.create_case("late", {"amount": 0}).run()
        advance(engine, 1_000)

        assert ["C"] == case.enabled


def test_a_requirement_that_nobody_takes_refuses_what_came_before() -> None:
    """The command that would make the task enabled is refused, and nothing has happened."""
    tree = late({"manual": True, "requires": "data.amount > 0"}, "Other")
    with engine_of(tree) as engine:
        case = engine.create_case("late", {"amount": 0})

        with pytest.raises(ConstraintViolation, match="A: what it requires does not hold in `data.amount > 0`"):
            case.run()

        assert "created" == case.state
    tree["tasks"][0] = {"id": "A", "requires": "data.amount > 0"}
    tree["flows"][2]["on_error"] = "Other"
    with engine_of(tree) as engine, pytest.raises(ConstraintViolation):
        engine.create_case("late", {"amount": 0}).run()


def test_a_persons_result_that_breaks_a_promise_is_refused() -> None:
    """He who brings it can bring another: the item stays started and the data as they are, with an error flow too."""
    tree = late({"manual": True, "ensures": "data.sum > 0"}, "ConstraintViolation")
    with engine_of(tree) as engine:
        case = engine.create_case("late").run()
        case.start_task("A")

        with pytest.raises(ConstraintViolation, match="what it ensures does not hold"):
            case.complete_task("A", {"sum": 0})

        assert (["A"], {}) == (case.running, case.data)
        case.complete_task("A", {"sum": 1})
        assert ["B"] == case.enabled


def test_a_handlers_result_that_breaks_a_promise_is_a_failed_attempt() -> None:
    """It is tried again as its policy says, then its error flow is taken; the result does not join the data."""
    policy = {"max_attempts": 2, "initial": "1s", "jitter": "none"}
    tree = late({"handler": "add", "ensures": "data.sum > 0", "retry": policy}, "ConstraintViolation")
    seen: list[int] = []

    def add(work: Work) -> dict[str, Any]:
        seen.append(work.attempt)
        return {"sum": 0}

    with engine_of(tree, add=add) as engine:
        case = engine.create_case("late").run()
        advance(engine, 1_000)
        engine.run_pending()

        assert ([1, 2], ["C"], ["error"]) == (seen, case.enabled, list(case.data))


def test_a_subnet_that_breaks_a_promise_fails_its_task() -> None:
    """There is nobody to tell: the composite task takes its error flow, or the last completion in it is refused."""
    tree = late({"subnet": "S", "ensures": "data.sum > 0"}, "ConstraintViolation")
    tree["subnets"] = {
        "S": {
            "tasks": [{"id": "D", "manual": True}],
            "flows": [{"from": "start", "to": "D"}, {"from": "D", "to": "end"}],
        }
    }
    with engine_of(tree) as engine:
        case = engine.create_case("late").run()
        case.complete_task("A/D", {"sum": 0})
        assert ["C"] == case.enabled
    tree["flows"][2]["on_error"] = "Other"
    with engine_of(tree) as engine:
        case = engine.create_case("late").run()

        with pytest.raises(ConstraintViolation):
            case.complete_task("A/D", {"sum": 0})

        assert ["A/D"] == case.enabled


def test_a_routing_task_ensures_what_it_lets_through() -> None:
    """A routing task with `ensures` guards what is behind it."""
    tree = late({"ensures": "data.sum > 0"}, "ConstraintViolation")
    with engine_of(tree) as engine:
        assert ["C"] == engine.create_case("late", {"sum": 0}).run().enabled
        assert ["B"] == engine.create_case("late", {"sum": 1}).run().enabled


FAULTS = [
    ({"manual": True, "deadline": "0s"}, "tasks.A.deadline.after", "must be longer than nothing"),
    ({"manual": True, "deadline": 3}, "tasks.A.deadline", "must be a map"),
    ({"manual": True, "deadline": {"from": "start"}}, "tasks.A.deadline", '"after" is missing'),
    ({"manual": True, "deadline": {"after": "1h", "from": "x"}}, "tasks.A.deadline.from", "enablement"),
    ({"deadline": "1h"}, "tasks.A.deadline", "without work and trigger"),
    ({"trigger": "e", "deadline": {"after": "1h", "from": "start"}}, "tasks.A.deadline.from", "does no work"),
    (
        {"manual": True, "deadline": "1h", "multiple": {"count": 2, "detached": True}},
        "tasks.A.deadline",
        "detached instances have no deadline",
    ),
    ({"manual": True, "requires": "data.", "ensures": "x"}, "tasks.A.requires", ""),
    ({"manual": True, "requires": "data.", "ensures": "x"}, "tasks.A.ensures", ""),
]


@pytest.mark.parametrize(("task", "place", "message"), FAULTS)
def test_wrong_deadlines_and_constraints_are_refused(task: dict[str, Any], place: str, message: str) -> None:
    """Every fault is reported at its place."""
    with pytest.raises(SpecificationError) as refused:
        Specification.from_dict(late(task))

    assert [each for each in refused.value.problems if each.place == place and message in each.message]
