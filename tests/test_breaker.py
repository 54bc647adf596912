"""Circuit breakers: by rate over a window, with at most k probes over all threads, each dependency for itself."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from knhk import Engine, HandlerError, Specification, Work
from knhk.testing.clock import ManualClock
from knhk.work.breaker import SLICES, Breaker, BreakerChange, BreakerPolicy, BreakerState, Pass

POLICY = BreakerPolicy(window=1_000, rate=0.5, minimum_calls=4, open_for=500, probes=2)


def breaker(policy: BreakerPolicy = POLICY) -> tuple[Breaker, ManualClock, list[BreakerChange]]:
    """A breaker, its clock, and what its listener was told."""
    clock, told = ManualClock(0), list[BreakerChange]()
    return Breaker("b", policy, now=clock.now, listeners=(told.append,)), clock, told


def call(of: Breaker, answered: bool | None) -> bool:
    """Make a call if it may be made."""
    given = of.ask()
    if given is not None:
        given.end(answered)
    return given is not None


def opened(policy: BreakerPolicy = POLICY) -> tuple[Breaker, ManualClock, list[BreakerChange]]:
    """A breaker that has just opened."""
    made = breaker(policy)
    for _ in range(policy.minimum_calls):
        assert call(made[0], False)
    assert "open" == made[0].state
    return made


def test_it_opens_by_rate_and_not_by_count() -> None:
    """Many failures among more answers leave it closed; few are enough once they are the rate of enough calls."""
    of, _, _ = breaker()
    for _ in range(50):
        call(of, True)
        call(of, True)
        call(of, False)
    assert ("closed", (150, 50)) == (of.state, of.calls)
    few, _, _ = breaker()
    for _ in range(3):
        call(few, False)
    assert "closed" == few.state

    call(few, False)

    assert "open" == few.state


def test_what_has_left_the_window_does_not_count() -> None:
    """Failures that are older than the window say nothing of the rate."""
    of, clock, _ = breaker()
    for _ in range(3):
        call(of, False)
    clock.advance(1_100)

    call(of, False)

    assert ("closed", (1, 1)) == (of.state, of.calls)


def test_nothing_goes_through_while_it_is_open() -> None:
    """Until its time is over every call must wait, and how long is said."""
    of, clock, told = opened()

    assert (False, 500) == (call(of, True), of.opens_in)
    clock.advance(499)
    assert (False, 1, "open") == (call(of, True), of.opens_in, of.state)
    clock.advance(1)
    assert ("half-open", 0) == (of.state, of.opens_in)
    assert [("closed", "open", 4, 4), ("open", "half-open", 0, 0)] == [
        (each.before.value, each.after.value, each.calls, each.failures) for each in told
    ]


@pytest.mark.parametrize(
    ("outcomes", "state"),
    [
        ([True], "half-open"),
        ([True, True], "closed"),
        ([False], "open"),
        ([True, False], "open"),
        ([None, True, None, True], "closed"),
    ],
)
def test_the_probes_decide(outcomes: list[bool | None], state: str) -> None:
    """Probes close it, or open it again for the whole time as soon as they have failed at the rate; no call is no probe."""
    of, clock, _ = opened()
    clock.advance(500)

    for outcome in outcomes:
        assert call(of, outcome)

    assert (state, 500 if state == "open" else 0) == (of.state, of.opens_in)


def test_an_outcome_that_comes_late_says_nothing() -> None:
    """Calls that began before it opened do not count among the probes, nor do probes of one round in the next."""
    of, clock, _ = breaker()
    early = of.ask()
    for _ in range(4):
        call(of, False)
    clock.advance(500)
    probe = of.ask()
    assert early is not None
    assert probe is not None
    early.end(False)
    assert "half-open" == of.state
    call(of, False)
    assert "open" == of.state
    clock.advance(500)
    assert "half-open" == of.state

    probe.end(False)
    probe.end(False)

    assert "half-open" == of.state


def test_sixty_four_threads_never_get_more_than_k_probes() -> None:
    """Threads that ask together at half-open get k passes between them, round after round."""
    policy = BreakerPolicy(window=1_000, minimum_calls=1, open_for=1, probes=3)
    of, clock, _ = breaker(policy)
    call(of, False)
    given: list[Pass] = []
    rounds = 20

    def open_again() -> None:
        assert 3 == len(given)
        given[0].end(None)
        extra = of.ask()
        assert extra is not None
        assert of.ask() is None
        for each in (extra, *given):
            each.end(False)
        given.clear()
        assert "open" == of.state
        clock.advance(1)

    clock.advance(1)
    # The action of a barrier runs in one thread while the others wait.
    asked = threading.Barrier(64, action=open_again)

    def ask() -> None:
        for _ in range(rounds):
            mine = of.ask()
            if mine is not None:
                given.append(mine)
            asked.wait(30)

    threads = [threading.Thread(target=ask) for _ in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not asked.broken


class Model(RuleBasedStateMachine):
    """A breaker beside a list of all that happened to it, from which its state is worked out anew each time."""

    def __init__(self) -> None:
        super().__init__()
        self.of, self.clock, self.told = breaker(BreakerPolicy(window=100, minimum_calls=3, open_for=40, probes=2))
        self.state, self.since = "closed", 0
        self.calls: list[tuple[int, bool]] = []
        self.passes: list[tuple[int, Pass]] = []
        self.round = 0
        self.out = 0
        self.outcomes: list[bool] = []

    def become(self, state: str) -> None:
        """The model's transition."""
        self.state, self.since = state, self.clock.now()
        self.round += 1
        self.calls, self.outcomes, self.out = [], [], 0

    def look(self) -> None:
        """The model's clock."""
        if self.state == "open" and self.clock.now() >= self.since + 40:
            self.become("half-open")

    @rule(span=st.integers(0, 60))
    def time_passes(self, span: int) -> None:
        """Time goes on."""
        self.clock.advance(span)

    @rule()
    def ask(self) -> None:
        """A pass is given exactly when the model says so."""
        self.look()
        allowed = self.state == "closed" or (self.state == "half-open" and self.out + len(self.outcomes) < 2)

        given = self.of.ask()

        assert allowed == (given is not None)
        if given is not None:
            self.out += self.state == "half-open"
            self.passes.append((self.round, given))

    @precondition(lambda self: self.passes)
    @rule(number=st.integers(0, 9), answered=st.sampled_from([True, False, False, None]))
    def end(self, number: int, answered: bool | None) -> None:
        """An outcome of the present round counts, any other does not."""
        self.look()
        of_round, given = self.passes.pop(number % len(self.passes))
        given.end(answered)
        if of_round != self.round:
            return
        now = self.clock.now()
        if self.state == "half-open":
            self.out -= 1
            if answered is not None:
                self.outcomes.append(answered)
                if self.outcomes.count(False) >= 1:
                    self.become("open")
                elif self.outcomes.count(True) == 2:
                    self.become("closed")
        elif answered is not None:
            self.calls.append((now, answered))
            inside = [ok for at, ok in self.calls if at // 10 > now // 10 - SLICES]
            if not answered and len(inside) >= 3 and inside.count(False) * 2 >= len(inside):
                self.become("open")

    @invariant()
    def the_states_are_the_same(self) -> None:
        """Breaker and model agree, and so do the changes that were told."""
        self.look()
        assert self.state == self.of.state
        changes = [each for each in self.told if each.before is not each.after]
        assert self.round == len(changes)
        assert all(a.after is b.before for a, b in zip(changes, changes[1:], strict=False))


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=300, stateful_step_count=50, deadline=None)


@pytest.mark.parametrize(
    "wrong",
    [
        {"rate": 0.0},
        {"rate": 1.1},
        {"minimum_calls": 0},
        {"probes": 0},
        {"window": "0s"},
        {"window": "1ms"},
        {"open_for": "0s"},
        {"open_for": "soon"},
    ],
)
def test_a_policy_out_of_its_bounds_is_refused(wrong: dict[str, Any]) -> None:
    """A figure that makes no sense raises a ValueError and describes no breaker."""
    with Engine() as engine:
        with pytest.raises(ValueError, match=r"."):
            engine.breaker("b", **wrong)

        assert {} == dict(engine.breakers)


def test_listeners_that_raise_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """What a listener raises stops neither the breaker nor the other listeners; changes are in the log."""
    told: list[BreakerChange] = []

    def bad(_: BreakerChange) -> None:
        raise RuntimeError("listener")

    of = Breaker("b", BreakerPolicy(minimum_calls=1), now=ManualClock().now, listeners=(bad, told.append))

    with caplog.at_level(logging.INFO, "knhk.breaker"):
        call(of, False)

    assert [BreakerState.OPEN] == [each.after for each in told]
    assert ["breaker b is open: 1 of 1 calls failed", "a listener of breaker b failed"] == [
        each.getMessage() for each in caplog.records
    ]
    assert "<breaker b open>" == repr(of)


# --- in an engine -----------------------------------------------------------------------------------------------------

RETRY = {"max_attempts": 9, "initial": "1s", "max": "1s", "jitter": 0, "non_retryable": ["LookupError"]}


def two_ways(clock: ManualClock, outcome: Callable[[Work], Any]) -> Engine:
    """An engine with a case in which payments are asked for beside other work."""
    engine = Engine(clock=clock)
    engine.breaker("payments", window=timedelta(minutes=1), rate=0.5, minimum_calls=2, open_for="10s", probes=1)
    tasks = [
        {"id": "S", "split": "and"},
        {"id": "pay", "handler": "pay", "breaker": "payments", "retry": RETRY},
        {"id": "mail", "handler": "mail", "breaker": "mail"},
        {"id": "J", "join": "and"},
    ]
    flows = [("start", "S"), ("S", "pay"), ("S", "mail"), ("pay", "J"), ("mail", "J"), ("J", "end")]
    engine.register(
        Specification.from_dict(
            {"id": "t", "tasks": tasks, "flows": [{"from": a, "to": b} for a, b in flows]},
        )
    )
    engine.handler("pay")(outcome)
    engine.handler("mail")(lambda _: {"mailed": True})
    return engine


def test_work_waits_while_its_breaker_is_open() -> None:
    """Work of an open dependency is neither begun nor failed; it is due when probes may go; other work goes on; it closes."""
    clock, down, told = ManualClock(0), [True], list[str]()

    def pay(_: Work) -> None:
        if down[0]:
            raise OSError("no answer")

    with two_ways(clock, pay) as engine:
        engine.breaker(
            "payments", minimum_calls=2, open_for="10s", on_change=lambda change: told.append(change.after.value)
        )
        cases = [engine.create_case("t").run() for _ in range(4)]

        assert ("open", "closed") == (engine.breakers["payments"].state, engine.breakers["mail"].state)
        assert [{"mailed": True}] * 4 == [case.data for case in cases]
        # Two were tried and wait for their next attempt, two were held back.
        assert [1_000, 1_000, 10_000, 10_000] == [case.next_due for case in cases]
        assert [1, 1, 0, 0] == [
            sum(e.kind.value == "attempt_begun" for e in c.history() if e.path == "pay") for c in cases
        ]
        clock.advance(5_000)
        engine.tick()
        engine.run_pending()
        assert [10_000] * 4 == [case.next_due for case in cases]
        down[0] = False
        clock.advance(5_000)

        assert 4 == engine.run_pending()

        assert ["completed"] * 4 == [case.state for case in cases]
        assert (["open", "half-open", "closed"], "closed") == (told, engine.breakers["payments"].state)


def test_an_error_that_is_not_the_dependency_s_is_an_answer() -> None:
    """Errors after which no attempt helps, and results that the case refuses, do not open the breaker."""
    outcomes: list[Any] = [LookupError("no such account"), {"x": object()}]

    def pay(work: Work) -> Any:
        outcome = outcomes[0]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    with two_ways(ManualClock(), pay) as engine:
        for _ in range(3):
            with pytest.raises(HandlerError):
                engine.create_case("t").run()
        outcomes.pop(0)
        for _ in range(3):
            engine.create_case("t").run()

        assert ("closed", (6, 0)) == (engine.breakers["payments"].state, engine.breakers["payments"].calls)


def test_a_breaker_that_nobody_described_has_the_defaults() -> None:
    """A task may name a breaker without a word to the engine; it is made when it is first needed."""
    with two_ways(ManualClock(), lambda _: None) as engine:
        engine.create_case("t").run()

        assert ["payments", "mail"] == list(engine.breakers)
        assert 2 == len(engine.breakers)
        assert BreakerPolicy() == engine.breakers["mail"].policy


@given(st.integers(1, 20), st.sampled_from([0.25, 0.5, 1.0]))
def test_as_many_answers_as_it_takes_close_it(probes: int, rate: float) -> None:
    """It never takes more outcomes than there are probes to decide, and answers alone always close it."""
    of, clock, _ = opened(BreakerPolicy(minimum_calls=1, rate=rate, probes=probes, open_for=1))
    clock.advance(1)
    made = 0
    while of.state == "half-open":
        assert call(of, True)
        made += 1

    assert "closed" == of.state
    assert made <= probes
