"""What follows when work of people gets old."""

from __future__ import annotations

from typing import Any

import pytest

import knhk
from knhk.testing.clock import ManualClock
from tests.people import HOUR, begun, office, queues, work_of

STEPS: list[dict[str, Any]] = [
    {"after": "1h", "unless": "started", "priority": 2},
    {"after": "2h", "to": {"roles": ["auditor"], "participants": ["root"]}, "notify": "late"},
    {"after": "3h", "priority": 9, "notify": "very late"},
]


def steps(case: knhk.RunningCase) -> list[dict[str, Any]]:
    """What the history tells of the escalation."""
    return [dict(each.details) for each in case.history() if each.kind is knhk.EventKind.ITEM_ESCALATED]


def test_each_step_is_taken_in_its_time() -> None:
    """An item that nobody takes up becomes more urgent, is offered to others, and is told of, each at its time."""
    engine, case = begun({"a": {"roles": ["clerk"], "escalate": STEPS}})
    assert case.next_due == HOUR
    assert engine.tick(HOUR - 1) == 0
    assert engine.tick(HOUR) == 1
    assert [(item.priority, item.audience) for item in case.work_items()] == [(2, ("role:clerk",))]
    assert queues(engine, "ann") == {"offered": ["a"]}

    engine.evict()
    assert engine.tick(2 * HOUR) == 1

    assert queues(engine, "ann") == {}
    assert queues(engine, "dora") == queues(engine, "root") == {"offered": ["a"]}
    with pytest.raises(knhk.Forbidden, match="it is for role auditor or participant root"):
        case.start_task("a", by="ann")
    assert engine.tick(3 * HOUR) == 1
    assert engine.tick(30 * HOUR) == 0
    assert case.next_due is None
    assert case.work_items()[0].priority == 9
    assert steps(case) == [
        {"step": 1, "priority": 2, "next": 2 * HOUR},
        {"step": 2, "audience": ["role:auditor", "participant:root"], "notify": "late", "next": 3 * HOUR},
        {"step": 3, "priority": 9, "notify": "very late"},
    ]
    case.complete_task("a", by="dora")


def test_a_step_for_what_is_not_started_is_passed_over() -> None:
    """A step that is taken unless the item is started is passed over when it is, and the later ones are taken."""
    engine, case = begun({"a": {"roles": ["clerk"], "escalate": STEPS}})
    case.start_task("a", by="ann")

    assert engine.tick(HOUR) == 1
    assert (steps(case), case.work_items()[0].priority) == ([], 0)
    assert case.next_due == 2 * HOUR


def test_started_work_is_taken_from_whoever_is_late() -> None:
    """Work that is offered to others is no longer his who had started it, and keeps what he had saved."""
    engine, case = begun({"a": {"roles": ["clerk"], "escalate": STEPS}})
    item = case.work_items()[0]
    item.start(by="ann")
    item.save({"x": 1}, by="ann")
    engine.tick(2 * HOUR)

    assert queues(engine, "ann") == {}
    assert steps(case)[0]["by"] == "ann"
    with pytest.raises(knhk.Forbidden, match="'ann' may not complete a: it is for role auditor"):
        item.complete(by="ann")
    case.start_task("a", by="dora")
    assert queues(engine, "dora") == {"started": ["a"]}
    case.complete_task("a", {"y": 2}, by="dora")
    assert (case.state, case.data) == ("completed", {"x": 1, "y": 2})


def test_after_a_standstill_all_steps_come_in_order() -> None:
    """Whatever came due while nothing ran is done at the first tick, in order, each once."""
    engine, case = begun({"a": {"roles": ["clerk"], "escalate": STEPS}})

    assert engine.tick(100 * HOUR) == 3
    assert [each["step"] for each in steps(case)] == [1, 2, 3]
    assert engine.tick(100 * HOUR) == 0


def test_finished_work_does_not_escalate() -> None:
    """Nothing comes due for work that is completed, withdrawn, skipped or whose case is cancelled."""
    for end in (
        lambda case: case.complete_task("a", by="ann"),
        lambda case: case.cancel_task("a"),
        lambda case: case.work_items()[0].skip(by="root"),
        lambda case: case.cancel(),
    ):
        engine, case = begun({"a": {"roles": ["clerk"], "escalate": STEPS}, "b": True})
        end(case)

        assert case.next_due is None
        assert engine.tick(100 * HOUR) == 0


def test_failed_work_waits_with_its_escalation() -> None:
    """While work has failed its clock does nothing; tried again, it goes on."""
    engine, case = begun({"a": {"roles": ["clerk"], "escalate": STEPS}, "b": True}, parallel=True)
    item = case.work_items()[0]
    item.start(by="ann")
    item.fail("no", by="ann")

    assert engine.tick(2 * HOUR) == 0
    item.retry(by="ann")
    assert engine.tick(2 * HOUR) == 2


def test_a_suspended_case_escalates_when_it_goes_on() -> None:
    """What comes due while a case is suspended is done once it is resumed."""
    engine, case = begun({"a": {"roles": ["clerk"], "escalate": STEPS}})
    case.suspend()
    assert engine.tick(2 * HOUR) == 0
    case.resume()

    assert engine.tick(2 * HOUR) == 2


def test_what_nobody_may_do_escalates_too() -> None:
    """An item that is offered to nobody is offered to those whom its escalation names."""
    engine, case = begun({"a": {"participants": ["gone"], "escalate": STEPS}})
    assert case.work_items()[0].state == "unoffered"
    engine.tick(2 * HOUR)

    assert queues(engine, "dora") == {"offered": ["a"]}


def test_escalation_needs_no_directory() -> None:
    """Without a directory the steps are taken all the same."""
    engine = knhk.Engine(clock=ManualClock(0))
    engine.register(work_of({"a": {"roles": ["clerk"], "escalate": STEPS}}))
    case = engine.create_case("work").run()
    engine.tick(2 * HOUR)

    assert [row.path for row in engine.worklist("x", roles=["auditor"]).offered()] == ["a"]
    case.complete_task("a")


def test_a_migrated_case_keeps_its_clock() -> None:
    """Who did what and which step is next move with the case; a step that the new version has not is never taken."""
    steps = [{"after": f"{hour}h", "priority": hour} for hour in (1, 2, 3)]
    for kept in (steps, steps[:1]):
        engine = knhk.Engine(directory=office(), clock=ManualClock(0))
        engine.register(work_of({"a": {"roles": ["clerk"]}, "b": {"separate_from": ["a"], "escalate": steps}}))
        case = engine.create_case("work").run()
        case.complete_task("a", by="ann")
        engine.tick(HOUR)
        new = work_of({"a": {"roles": ["clerk"]}, "b": {"separate_from": ["a"], "escalate": kept}}).to_dict()
        engine.register(knhk.Specification.from_dict({**new, "version": "2"}))
        engine.migrate("work", to="2")

        assert engine.tick(5 * HOUR) == (2 if kept is steps else 0)
        assert case.work_items()[0].priority == (3 if kept is steps else 1)
        with pytest.raises(knhk.Forbidden, match="'ann' did a"):
            case.complete_task("b", by="ann")
