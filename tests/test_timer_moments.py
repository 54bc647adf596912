"""Timers that end at a time, not after a length."""

from __future__ import annotations

from typing import Any

import pytest

from knhk import DataError, Engine, Specification, SpecificationError, build
from knhk.analysis.simulation import simulate
from knhk.spec import Moment
from knhk.testing.clock import ManualClock

DUE = 1_767_258_000_000  # 2026-01-01T09:00:00Z


def timed(timer: Any) -> Specification:
    """A timer, then work of people."""
    net = build("t")
    net.sequence(net.start, net.task("wait", timer=timer), net.task("work", manual=True), net.end)
    return net.specification()


@pytest.mark.parametrize(
    ("timer", "data"),
    [
        ("2026-01-01T09:00:00Z", {}),
        ("2026-01-01T10:00:00+01:00", {}),
        ({"at": "2026-01-01T09:00:00.000+00:00"}, {}),
        (Moment(at="data.due"), {"due": "2026-01-01T09:00:00Z"}),
        ({"at": "data.due"}, {"due": DUE}),
        ({"at": "data.day + 'T09:00:00Z'"}, {"day": "2026-01-01"}),
        ({"at": "data.due - 1000"}, {"due": DUE + 1_000}),
    ],
)
def test_a_timer_ends_at_its_time(timer: Any, data: dict[str, Any]) -> None:
    """Not a millisecond before, also after a restart from the journal; a change of the data later moves nothing."""
    clock = ManualClock(DUE - 3_600_000)
    with Engine(clock=clock) as engine:
        engine.register(timed(timer))
        case = engine.create_case("t", data).run()
        assert DUE == case.next_due
        engine.evict()
        clock.advance(3_599_999)
        assert 0 == engine.tick()
        clock.advance(1)

        assert (1, ["work"]) == (engine.tick(), case.enabled)


def test_a_time_that_has_passed_is_due_at_once() -> None:
    """The next look runs it."""
    with Engine(clock=ManualClock(DUE + 5)) as engine:
        engine.register(timed("2026-01-01T09:00:00Z"))
        case = engine.create_case("t").run()

        assert (1, ["work"]) == (engine.tick(), case.enabled)


@pytest.mark.parametrize("due", ["tomorrow", "2026-01-01", "2026-01-01T09:00:00", True, 1.5, None, -1, 10**15, [1]])
def test_data_that_are_no_time_are_refused(due: Any) -> None:
    """The case does not start, and is as it was."""
    with Engine() as engine:
        engine.register(timed({"at": "data.due"}))
        case = engine.create_case("t", {"due": due})

        with pytest.raises(DataError, match="is no time"):
            case.start()

        assert "created" == case.state


@pytest.mark.parametrize(
    ("timer", "place", "why"),
    [
        ("2026-01-01T09:00:00", "timer.at", "needs its offset"),
        ("2026-01-01", "timer.at", "a date and a time of day"),
        ("2026-13-01T00:00:00Z", "timer.at", "month"),
        ({"at": "item.due"}, "timer.at", "item"),
        ({"at": 5}, "timer.at", "must be text"),
        ({}, "timer", '"at" is missing'),
        ("soon", "timer", "is not a duration"),
    ],
)
def test_a_time_that_makes_no_sense_is_refused(timer: Any, place: str, why: str) -> None:
    """With its place, when the specification is read."""
    with pytest.raises(SpecificationError) as raised:
        timed(timer)

    assert [f"tasks.wait.{place}"] == [each.place for each in raised.value.problems]
    assert why in raised.value.problems[0].message


def test_a_simulation_says_that_it_knows_no_calendar() -> None:
    """The wait is taken as none, and is listed among what was assumed."""
    result = simulate(timed("2026-01-01T09:00:00Z"))

    assert "tasks.wait.timer: 0, its time is one of the calendar" in result.defaults
