"""The background runner, and the whole expression language."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest

from knhk import Engine, Specification, SpecificationError
from knhk.testing.clock import ManualClock


def split_on(predicate: str) -> Specification:
    """A timer, then a way out if the predicate holds."""
    return Specification.from_dict(
        {
            "id": "t",
            "tasks": [
                {"id": "T", "timer": "5s", "split": "xor"},
                {"id": "A", "handler": "work"},
                {"id": "B", "handler": "work"},
            ],
            "flows": [
                {"from": "start", "to": "T"},
                {"from": "T", "to": "A", "when": predicate},
                {"from": "T", "to": "B", "when": "data.n == 3"},
                {"from": "A", "to": "end"},
                {"from": "B", "to": "end"},
            ],
        },
        dialect="full",
    )


def test_the_runner_does_what_is_due_and_what_waits() -> None:
    """A timer that is due runs in the background, and the handler behind it."""
    clock = ManualClock()
    done = threading.Event()
    with Engine(clock=clock) as engine:
        engine.register(split_on("data.n == 1"))
        engine.handler("work")(lambda work: done.set())
        case = engine.create_case("t", {"n": 1})
        case.start()
        with engine.serve(interval=60) as runner:
            clock.advance(5_000)
            while not done.wait(0.01):
                runner.wake()

        assert "completed" == case.state
        assert 0 == runner.failures


def test_a_round_that_fails_is_logged_and_the_rest_is_done(caplog: pytest.LogCaptureFixture) -> None:
    """A case that cannot go on is in the log at every round, and the others' work is done all the same."""
    clock = ManualClock()
    seen: list[str] = []
    with Engine(clock=clock) as engine:
        engine.register(split_on("data.n == 1"))
        engine.handler("work")(lambda work: seen.append(work.case_id))
        bad, good = (engine.create_case("t", {"n": n}) for n in (2, 1))
        bad.start()
        good.start()
        clock.advance(5_000)
        runner = engine.serve()

        with caplog.at_level(logging.ERROR):
            assert 0 == runner.step()

        assert [good.id] == seen
        assert 1 == runner.failures
        assert "no predicate of the split holds" in caplog.text


def test_the_whole_expression_language_runs_where_it_is_asked_for() -> None:
    """An engine for all of CEL takes a macro; an engine for the subset says which extra brings it."""
    macro = "[1, 2].exists(x, x == data.n)"
    clock = ManualClock()
    with Engine(clock=clock, expressions="full") as engine:
        engine.register(split_on(macro))
        engine.handler("work")(lambda work: {"done": work.task})
        case = engine.create_case("t", {"n": 2})
        case.start()
        clock.advance(5_000)
        engine.tick()
        data: dict[str, Any] = case.run().data
        assert {"n": 2, "done": "A"} == data
    with Engine() as engine, pytest.raises(SpecificationError, match="cel"):
        engine.register(split_on(macro))
