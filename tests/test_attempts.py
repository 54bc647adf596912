"""Policies in full: chance, deadlines, errors that rule out another attempt, and handlers that end their process."""

from __future__ import annotations

import logging
import random
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knhk import Engine, EventKind, HandlerError, Limits, Specification, SpecificationError, Work
from knhk._attempts import Failure, next_attempt
from knhk.spec import Retry
from knhk.testing.chance import FixedChance
from knhk.testing.clock import ManualClock
from knhk.work.failures import failure_of
from knhk.workitem import ItemEntry, ItemState, backoff


def line(*tasks: dict[str, Any]) -> Specification:
    """Tasks one after the other."""
    ids = ["start", *(task["id"] for task in tasks), "end"]
    flows = [{"from": a, "to": b} for a, b in zip(ids, ids[1:], strict=False)]
    return Specification.from_dict({"id": "a", "tasks": list(tasks), "flows": flows})


def errors(case: Any) -> list[str]:
    """What the history tells of failed attempts."""
    return [event.details["error"] for event in case.history() if event.kind is EventKind.ATTEMPT_FAILED]


def begun(case: Any) -> list[int]:
    """The numbers of the attempts that were begun."""
    return [event.details["attempt"] for event in case.history() if event.kind is EventKind.ATTEMPT_BEGUN]


# --- chance -----------------------------------------------------------------------------------------------------------

POLICIES = st.builds(
    Retry,
    max_attempts=st.integers(1, 20),
    initial=st.integers(0, 10_000),
    coefficient=st.floats(1, 10),
    max=st.integers(10_000, 100_000),
    jitter=st.floats(0, 1),
)


@given(POLICIES, st.integers(1, 50), st.floats(0, 1, exclude_max=True))
def test_a_wait_is_the_whole_one_less_what_chance_takes(retry: Retry, attempt: int, draw: float) -> None:
    """Chance takes at the most its part of a wait, more for a greater draw, and nothing for the draw 0."""
    whole = backoff(retry, attempt)

    assert whole * (1 - retry.jitter) - 1 <= backoff(retry, attempt, draw) <= whole
    assert whole == backoff(retry, attempt, 0.0)


def test_full_jitter_is_the_default_and_spreads_the_waits_evenly() -> None:
    """Ten thousand waits of the default policy are uniform between nothing and the whole wait (Kolmogorov-Smirnov)."""
    chance, retry = random.Random(4), Retry(max_attempts=9, initial=10_000)

    waits = sorted(backoff(retry, 1, chance.random()) / 10_000 for _ in range(10_000))

    distance = max(max(abs(n / 10_000 - wait), abs((n + 1) / 10_000 - wait)) for n, wait in enumerate(waits))
    # 1.63 / sqrt(n) is the bound at a probability of 0.01.
    assert distance < 1.63 / 100


def test_the_draw_is_in_the_journal_as_a_time() -> None:
    """What was drawn is kept as the time of the next attempt, which another engine on the store finds."""
    engine = Engine(clock=ManualClock(0), chance=FixedChance(0.75))
    with engine:
        engine.register(line({"id": "A", "handler": "h", "retry": {"max_attempts": 2, "initial": "1s"}}))
        engine.handler("h")(failing(1))
        case = engine.create_case("a").run()
        assert 250 == case.next_due
        engine.evict()

        assert 250 == case.next_due


def failing(times: int, error: Exception | None = None) -> Any:
    """A handler that fails so often and then returns nothing."""
    made = [0]

    def handler(_: Work) -> None:
        made[0] += 1
        if made[0] <= times:
            raise OSError("down") if error is None else error

    return handler


# --- no further attempt -----------------------------------------------------------------------------------------------


class Declined(ValueError):
    """A handler's own error."""


class Broke(Exception):
    """An error that rules out another attempt itself."""

    retryable = False


class Busy(Exception):
    """An error that knows when to come again."""

    def __init__(self, after: Any) -> None:
        super().__init__("busy")
        self.retry_after = after


class Unspeakable(Exception):
    """An error whose attributes cannot be read."""

    @property
    def retryable(self) -> bool:
        """Raise."""
        raise RuntimeError

    @property
    def retry_after(self) -> float:
        """Raise."""
        raise RuntimeError


@pytest.mark.parametrize("name", ["Declined", "ValueError", f"{__name__}.Declined", "builtins.ValueError"])
def test_named_errors_have_no_further_attempt(name: str) -> None:
    """An error of a type that the policy names, or of one below it, fails the work at once, and the history says why."""
    with Engine(clock=ManualClock()) as engine:
        policy = {"max_attempts": 5, "non_retryable": ["KeyError", name]}
        engine.register(line({"id": "A", "handler": "h", "retry": policy}))
        engine.handler("h")(failing(9, Declined("no funds")))
        case = engine.create_case("a")

        with pytest.raises(HandlerError, match="no funds"):
            case.run()

        assert ("failed", ["Declined: no funds (no further attempt helps)"]) == (case.state, errors(case))


def test_an_error_may_rule_out_another_attempt_itself() -> None:
    """`retryable = False` on the error is as if its type were named; attributes that raise are as if they were not there."""
    with Engine(clock=ManualClock()) as engine:
        engine.register(line({"id": "A", "handler": "h", "retry": {"max_attempts": 5}}))
        engine.handler("h")(failing(9, Broke()))
        case = engine.create_case("a")
        with pytest.raises(HandlerError):
            case.run()
        engine.handler("h")(failing(9, Unspeakable()))

        other = engine.create_case("a").run()

        assert ("failed", "running") == (case.state, other.state)


@pytest.mark.parametrize(
    ("after", "due"),
    [(90, 90_000), (0.5, 1_000), (timedelta(minutes=2), 120_000), (-1, 1_000), (float("nan"), 1_000), ("9", 1_000)]
    + [(True, 1_000), (float("inf"), 1_000), (1e300, 36_500 * 86_400_000)],
)
def test_the_error_says_when_to_come_again(after: Any, due: int) -> None:
    """`retry_after`, seconds or a timedelta, is the least wait, also beyond the policy's longest; nonsense is as if not there."""
    with Engine(clock=ManualClock(0), chance=FixedChance()) as engine:
        engine.register(line({"id": "A", "handler": "h", "retry": {"max_attempts": 5, "initial": "1s"}}))
        engine.handler("h")(failing(9, Busy(after)))

        assert due == engine.create_case("a").run().next_due


def test_the_deadline_counts_from_the_first_attempt() -> None:
    """Attempts are made as long as the next would begin before the deadline, and it survives a restart."""
    clock = ManualClock(0)
    with Engine(clock=clock, chance=FixedChance()) as engine:
        policy = {"max_attempts": 99, "initial": "10s", "coefficient": 1, "deadline": "35s"}
        engine.register(line({"id": "A", "handler": "h", "retry": policy}))
        engine.handler("h")(failing(99))
        case = engine.create_case("a").run()
        while (due := case.next_due) is not None:
            clock.advance(due - clock.now())
            engine.evict()
            try:
                case.run()
            except HandlerError:
                break

        assert [1, 2, 3, 4] == begun(case)
        last = "OSError: down (the next attempt would come after its deadline of 35s)"
        assert ["OSError: down"] * 3 + [last] == errors(case)
        assert ["attempts_bounded"] == [e.kind.value for e in case.history() if "until" in e.details]


def test_a_retry_by_hand_after_the_deadline_is_one_attempt_more() -> None:
    """What failed for good by its deadline gets one attempt when somebody asks for it, however late."""
    clock = ManualClock(0)
    with Engine(clock=clock) as engine:
        engine.register(line({"id": "A", "handler": "h", "retry": {"max_attempts": 9, "deadline": "1ms"}}))
        engine.handler("h")(failing(1, Busy(5)))
        case = engine.create_case("a")
        with pytest.raises(HandlerError):
            case.run()
        clock.advance(60_000)
        case.retry_failed()

        assert "completed" == case.run().state


def test_the_engine_has_a_policy_for_tasks_that_state_none() -> None:
    """`Engine(retry=...)` holds for handlers without a policy; a task's own is its own; external work has none by it."""
    with Engine(clock=ManualClock(0), chance=FixedChance(), retry={"max_attempts": 2, "initial": "7s"}) as engine:
        engine.register(
            line({"id": "A", "handler": "h"}, {"id": "B", "handler": "h", "retry": {}}, {"id": "C", "external": "t"})
        )
        engine.handler("h")(lambda work: (_ for _ in ()).throw(OSError(work.task)) if work.attempt == 1 else None)
        case = engine.create_case("a").run()
        assert 7_000 == case.next_due
        engine.clock.advance(7_000)  # type: ignore[attr-defined]

        with pytest.raises(HandlerError, match="B: "):
            case.run()

        case.retry_failed()
        (item,) = [each for each in case.run().work_items()]
        item.start(by="w")
        item.fail("no")
        assert ("failed", None) == (item.state, case.next_due)


def test_the_engine_s_policy_may_have_a_deadline() -> None:
    """The deadline of the engine's policy holds for tasks that state none, those that could go by express too."""
    clock = ManualClock(0)
    with Engine(
        clock=clock, chance=FixedChance(), retry={"max_attempts": 9, "initial": "5s", "deadline": "7s"}
    ) as engine:
        engine.register(line({"id": "A", "handler": "h"}))
        engine.handler("h")(failing(9))
        case = engine.create_case("a").run()
        clock.advance(5_000)

        with pytest.raises(HandlerError):
            case.run()

        assert ["OSError: down", "OSError: down (the next attempt would come after its deadline of 7s)"] == errors(case)


def test_a_policy_that_is_none_is_refused() -> None:
    """What is wrong with a default policy is said as of a specification's; a timeout must be a span of time."""
    with pytest.raises(
        SpecificationError, match="the retry policy has a problem:\n  - tasks.retry.retry.max_attempt: "
    ):
        Engine(retry={"max_attempt": 2})
    for wrong in ("soon", "0s", timedelta(0)):
        with pytest.raises(ValueError, match=r"a duration is a number|longer than nothing"):
            Engine(timeout=wrong)
    Engine(retry=Retry(max_attempts=2)).close()


@given(
    POLICIES,
    st.integers(0, 30),
    st.integers(0, 30),
    st.none() | st.integers(0, 10**6),
    st.builds(Failure, text=st.just("x"), retryable=st.booleans(), after=st.integers(0, 10**6), draw=st.just(0.5)),
)
def test_the_attempts_never_exceed_the_policy(
    retry: Retry, attempt: int, spared: int, until: int | None, failure: Failure
) -> None:
    """Another attempt has a place among those that count, begins before the deadline and not before it was asked to."""
    item = ItemEntry(1, 0, 0, 0, ItemState.STARTED, "", attempt, min(spared, attempt), False, until)

    due, why_not = next_attempt(retry, item, failure, now=1_000)

    if due is None:
        assert why_not or item.counted >= retry.max_attempts
    else:
        assert item.counted < retry.max_attempts
        assert failure.retryable
        assert due >= 1_000 + failure.after
        assert until is None or due < until


def test_the_names_of_an_error_are_its_types() -> None:
    """Its type and those above it, with and without their modules, up to Exception."""
    kinds = failure_of(Declined(), draw=0.0).kinds

    assert ("Declined", f"{__name__}.Declined", "ValueError", "builtins.ValueError") == kinds[:4]
    assert "Exception" in kinds
    assert "object" not in kinds


# --- handlers that end their process ----------------------------------------------------------------------------------

POISON = """
import os, sys
from knhk import Engine, build
from knhk.testing.clock import ManualClock

net = build("p")
split, join = net.task("S", split="and"), net.task("J", join="and")
for name in ("A", "B"):
    task = net.task(name, handler=name, {options})
    net.sequence(split, task, join)
net.start.to(split)
join.to(net.end)
with Engine(sys.argv[1], clock=ManualClock(0)) as engine:
    engine.register(net.specification())

    @engine.handler("A")
    def a(work):
        os._exit(7)

    @engine.handler("B")
    def b(work):
        return {{"b": True}}

    case = engine.create_case("p", idempotency_key="one")
    if case.state == "created":
        case.start()
    try:
        engine.run_pending()
    except Exception as error:
        print(error)
"""


@pytest.mark.parametrize(
    ("options", "crashes", "counted", "limit"),
    [
        ("retry={'max_attempts': 3}", 3, 3, "max_attempts=3"),
        ("retry={'max_attempts': 1}", 1, 1, "max_attempts=1"),
        # The first attempt at a replayable task waits for no commit, and so is on no record.
        ("replayable=True", 6, 5, "limit crashes=5"),
        ("replayable=False", 5, 5, "limit crashes=5"),
    ],
)
def test_a_handler_that_ends_its_process_is_stopped(
    tmp_path: Path, options: str, crashes: int, counted: int, limit: str
) -> None:
    """A poison handler ends as many processes as it may have attempts, then fails with a text; the case's other work is done."""
    path = str(tmp_path / "p.db")
    codes = []
    for _ in range(crashes + 1):
        done = subprocess.run(
            [sys.executable, "-c", POISON.format(options=options), path], capture_output=True, text=True, check=False
        )
        codes.append(done.returncode)

    assert [7] * crashes + [0] == codes, done.stderr
    text = f"A: attempt {counted} was cut off: the process ended while its handler ran; it was the last ({limit})"
    assert text in done.stdout
    with Engine(path) as engine:
        (header,) = engine.cases()
        case = engine.case(header.case_id)
        assert ("failed", {"b": True}) == (case.state, case.data)
        engine.handler("A")(lambda _: None)
        assert 1 == case.retry_failed()
        assert "completed" == case.run().state


def test_an_interrupted_run_does_not_count(caplog: pytest.LogCaptureFixture) -> None:
    """Ctrl-C in a handler, by express or not, leaves the work to the next run however often, and says so in the history."""
    for task in ({"id": "A", "handler": "h"}, {"id": "A", "handler": "h", "timeout": "1h"}):
        with Engine(limits=Limits(crashes=1)) as engine:
            engine.register(line(task))

            @engine.handler("h")
            def interrupt(work: Work) -> None:
                if work.attempt < 4:
                    raise KeyboardInterrupt

            case = engine.create_case("a")
            for _ in range(3):
                with pytest.raises(KeyboardInterrupt):
                    case.run()

            assert "completed" == case.run().state
            told = [e.details["spared"] for e in case.history() if e.kind is EventKind.ATTEMPTS_SPARED]
            assert ([1, 2, 3], [1, 2, 3, 4]) == (told, begun(case))


def test_a_handler_that_exits_counts(tmp_path: Path) -> None:
    """SystemExit from a handler leaves the attempt begun: with the attempts used up the next run fails the item."""
    with Engine(str(tmp_path / "a.db"), limits=Limits(crashes=2)) as engine:
        engine.register(line({"id": "A", "handler": "h"}))
        engine.handler("h")(lambda _: sys.exit(3))
        case = engine.create_case("a")
        for _ in range(2):
            with pytest.raises(SystemExit):
                case.run()

        with pytest.raises(HandlerError, match="attempt 2 was cut off"):
            case.run()

        assert ("failed", [1, 2]) == (case.state, begun(case))


def test_what_is_known_of_attempts_is_in_a_snapshot() -> None:
    """A case rebuilt from its dump knows which attempts count, which was begun, and when all must be over."""
    with Engine(clock=ManualClock(5)) as engine:
        engine.register(line({"id": "A", "handler": "h", "retry": {"max_attempts": 3, "deadline": "1m"}}))
        case = engine.create_case("a")
        case.start()
        with engine._cache.hold(case.id) as resident:
            live = resident.case
            live.begin_attempt(1, at=5)
            live.hand_back(1, at=6)
            live.begin_attempt(1, at=7)
            live.progress(1, {"n": 1}, at=8)
            other = type(live)(live._program, live._kernels)
            other.replay(live.state.dump(), [])

            assert ItemEntry(1, 0, 0, 0, ItemState.STARTED, "", 2, 1, True, 60_005, progress={"n": 1}) == other.item(1)
            assert live.item(1) == other.item(1)


# --- what a handler is given ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bounds", [{}, {"timeout": "1h", "heartbeat": "1m"}], ids=["plain", "bounded"])
def test_work_has_a_log_and_a_heartbeat(bounds: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    """Log lines say which case, task and attempt they are of; a heartbeat may be sent from any handler."""
    with Engine() as engine:
        engine.register(line({"id": "A", "handler": "h", **bounds}))

        @engine.handler("h")
        def handle(work: Work) -> None:
            work.heartbeat({"done": 1})
            work.log.warning("half of %s", "it", extra={"more": 7})
            assert not work.cancelled

        with caplog.at_level(logging.WARNING, "knhk.work"):
            case = engine.create_case("a").run()

        (record,) = caplog.records
        assert f"case {case.id} A attempt 1: half of it" == record.getMessage()
        about = record.__dict__
        assert (case.id, "A", 1, 7) == (about["case_id"], about["task"], about["attempt"], about["more"])


@pytest.mark.parametrize("bounds", [{}, {"timeout": "1h"}], ids=["plain", "bounded"])
@pytest.mark.parametrize("command", ["case", "task"])
def test_a_handler_sees_that_its_work_is_cancelled(bounds: dict[str, str], command: str) -> None:
    """`work.cancelled` is true once the case or the task was cancelled by another thread of the process."""
    seen: list[bool] = []
    with Engine() as engine:
        engine.register(line({"id": "A", "handler": "h", **bounds}))

        @engine.handler("h")
        def handle(work: Work) -> None:
            seen.append(work.cancelled)
            case = engine.case(work.case_id)
            cancel = case.cancel if command == "case" else lambda: case.cancel_task("A")
            thread = threading.Thread(target=cancel)
            thread.start()
            thread.join()
            seen.append(work.cancelled)

        engine.create_case("a").run()

        assert [False, True] == seen


@pytest.mark.parametrize("bounds", [{}, {"heartbeat": "1m"}], ids=["plain", "bounded"])
def test_progress_is_for_the_next_attempt(tmp_path: Path, bounds: dict[str, str]) -> None:
    """What the last heartbeat with details said is the next attempt's progress, after a restart too, and in the history once."""
    clock, seen = ManualClock(), list[Any]()
    path = str(tmp_path / "a.db")

    def handle(work: Work) -> None:
        seen.append(work.progress)
        if work.attempt < 3:
            work.heartbeat({"page": work.attempt})
            work.heartbeat()
            raise OSError("again")

    for target in ("memory:", path):
        seen.clear()
        engine = Engine(target, clock=clock)
        engine.register(line({"id": "A", "handler": "h", "retry": {"max_attempts": 3}, **bounds}))
        engine.handler("h")(handle)
        case = engine.create_case("a").run()
        clock.advance(1_000)
        case.run()
        clock.advance(1_000)
        if target == path:
            engine.close()
            engine = Engine(target, clock=clock)
            engine.handler("h")(handle)
            case = engine.case(case.id)

        assert "completed" == case.run().state

        assert [None, {"page": 1}, {"page": 2}] == seen
        told = [event.details["progress"] for event in case.history() if event.kind is EventKind.ITEM_PROGRESSED]
        assert [{"page": 1}, {"page": 2}] == told
        engine.close()


def test_what_a_heartbeat_says_must_be_data() -> None:
    """Details that are no JSON data are refused where they are said; none said keeps what was said before."""
    with Engine() as engine:
        engine.register(line({"id": "A", "handler": "h"}))

        @engine.handler("h")
        def handle(work: Work) -> None:
            work.heartbeat(object())

        with pytest.raises(HandlerError, match="what a heartbeat says is not JSON data"):
            engine.create_case("a").run()


def test_progress_beyond_the_limit_is_not_kept(caplog: pytest.LogCaptureFixture) -> None:
    """Progress that is larger than data may be is told to the log and dropped; the attempt fails of what it failed of."""
    with Engine(clock=ManualClock(), limits=Limits(payload=1_000)) as engine:
        engine.register(line({"id": "A", "handler": "h", "retry": {"max_attempts": 2}}))

        @engine.handler("h")
        def handle(work: Work) -> None:
            work.heartbeat("x" * 2_000)
            raise OSError("down")

        case = engine.create_case("a").run()

        assert ["OSError: down"] == errors(case)
        assert "A attempt 1: its progress is not kept" in caplog.text


def test_an_interrupted_handler_leaves_its_progress() -> None:
    """After Ctrl-C the next run's handler knows how far the interrupted one had come, by express or not."""
    for task in ({"id": "A", "handler": "h"}, {"id": "A", "handler": "h", "timeout": "1h"}):
        seen: list[Any] = []
        with Engine() as engine:
            engine.register(line(task))

            @engine.handler("h")
            def handle(work: Work, seen: list[Any] = seen) -> None:
                seen.append(work.progress)
                work.heartbeat([work.attempt])
                if work.attempt == 1:
                    raise KeyboardInterrupt

            case = engine.create_case("a")
            with pytest.raises(KeyboardInterrupt):
                case.run()
            case.run()

            assert [None, [1]] == seen
