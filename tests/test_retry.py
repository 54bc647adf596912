"""Failed attempts that are tried again by themselves, and claims on external work that end: durable, and in time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knhk import Engine, EventKind, Specification, Work
from knhk.errors import HandlerError, IllegalTransition, KnhkError
from knhk.spec import Retry
from knhk.testing.clock import ManualClock
from knhk.workitem import backoff

POLICY = {"max_attempts": 3, "initial": "1s", "coefficient": 4, "max": "3s", "jitter": 0}


def line(*tasks: dict[str, Any]) -> Specification:
    """Tasks one after the other."""
    ids = ["start", *(task["id"] for task in tasks), "end"]
    flows = [{"from": a, "to": b} for a, b in zip(ids, ids[1:], strict=False)]
    return Specification.from_dict({"id": "r", "tasks": list(tasks), "flows": flows})


def failing(engine: Engine, until: int, seen: list[Work] | None = None) -> None:
    """Register a handler that fails before a certain attempt."""
    log = [] if seen is None else seen

    @engine.handler("work")
    def work(item: Work) -> dict[str, Any]:
        log.append(item)
        if item.attempt < until:
            message = f"not at attempt {item.attempt}"
            raise OSError(message)
        return {"done": item.attempt}


def kinds(case: Any, *wanted: EventKind) -> list[dict[str, Any]]:
    """What the history tells of some kinds of event."""
    return [dict(event.details) for event in case.history() if event.kind in wanted]


def test_a_failed_attempt_is_made_again_when_its_wait_is_over() -> None:
    """`run` makes the first attempt and returns; the next ones are made when they are due, and not before."""
    clock = ManualClock(1_000_000)
    seen: list[Work] = []
    with Engine(clock=clock) as engine:
        engine.register(line({"id": "A", "handler": "work", "retry": POLICY}))
        failing(engine, 3, seen)
        case = engine.create_case("r").run()
        assert ("running", 1_001_000, 1) == (case.state, case.next_due, len(seen))
        clock.advance(999)
        assert ("running", 1) == (case.run().state, len(seen))
        clock.advance(1)
        assert ("running", 2, 1_004_000) == (case.run().state, len(seen), case.next_due)
        clock.advance(3_000)

        assert "completed" == case.run().state

        assert {"done": 3} == case.data
        assert [1, 2, 3] == [work.attempt for work in seen]
        assert 1 == len({work.idempotency_key for work in seen})
        assert [
            {"attempt": 1, "error": "OSError: not at attempt 1", "retry_at": 1_001_000},
            {"attempt": 2, "error": "OSError: not at attempt 2", "retry_at": 1_004_000},
        ] == kinds(case, EventKind.ATTEMPT_FAILED)
        assert [{"attempt": n} for n in (1, 2, 3)] == kinds(case, EventKind.ATTEMPT_BEGUN)


def test_after_the_last_attempt_the_item_has_failed() -> None:
    """The last attempt's error is raised as without a policy, and the case has failed; by hand it has all its attempts again."""
    clock = ManualClock()
    with Engine(clock=clock) as engine:
        engine.register(line({"id": "A", "handler": "work", "retry": POLICY}))
        failing(engine, 5)
        case = engine.create_case("r").run()
        clock.advance(1_000)
        case.run()
        clock.advance(3_000)

        with pytest.raises(HandlerError, match="not at attempt 3"):
            case.run()

        assert ("failed", None) == (case.state, case.next_due)
        assert [1, 2, 3] == [each["attempt"] for each in kinds(case, EventKind.ATTEMPT_FAILED)]
        assert "retry_at" not in kinds(case, EventKind.ATTEMPT_FAILED)[-1]
        assert 1 == case.retry_failed()
        assert ("running", clock.now() + 1_000) == (case.run().state, case.next_due)
        assert 1 == case.retry_failed()
        assert "completed" == case.run().state
        assert [{"attempts": 3}] == kinds(case, EventKind.ITEM_REPLAYED)


def test_one_attempt_is_no_retry() -> None:
    """A policy of one attempt fails the item at once."""
    with Engine() as engine:
        engine.register(line({"id": "A", "handler": "work", "retry": {"max_attempts": 1}}))
        failing(engine, 2)
        case = engine.create_case("r")

        with pytest.raises(HandlerError):
            case.run()

        assert "failed" == case.state


def test_a_retry_by_hand_does_not_wait() -> None:
    """`retry_failed` makes the next attempt one for the next `run`, and the wait is gone."""
    with Engine(clock=ManualClock()) as engine:
        engine.register(line({"id": "A", "handler": "work", "retry": POLICY}))
        failing(engine, 2)
        case = engine.create_case("r").run()
        (item,) = case.work_items(state="failed")

        assert 1 == case.retry_failed()

        assert (None, ["A"]) == (case.next_due, case.running)
        assert "completed" == case.run().state
        assert item.number not in [each.number for each in case.work_items()]


def test_other_work_is_done_while_a_retry_waits() -> None:
    """A handler that failed holds nothing up: `run` does the rest of the case."""
    clock = ManualClock()
    net: dict[str, Any] = {
        "id": "r",
        "tasks": [
            {"id": "S", "split": "and"},
            {"id": "A", "handler": "work", "retry": POLICY},
            {"id": "B", "handler": "other"},
            {"id": "C", "handler": "other"},
            {"id": "E", "join": "and"},
        ],
        "flows": [
            {"from": "start", "to": "S"},
            {"from": "S", "to": "A"},
            {"from": "S", "to": "B"},
            {"from": "B", "to": "C"},
            {"from": "A", "to": "E"},
            {"from": "C", "to": "E"},
            {"from": "E", "to": "end"},
        ],
    }
    seen: list[str] = []
    with Engine(clock=clock) as engine:
        engine.register(Specification.from_dict(net))
        failing(engine, 2)
        engine.handler("other")(lambda work: seen.append(work.task))

        case = engine.create_case("r").run()

        assert (["B", "C"], "running") == (seen, case.state)
        clock.advance(1_000)
        assert "completed" == case.run().state


@pytest.mark.parametrize("kept", ["memory", "evicted", "restarted"])
def test_a_retry_survives_a_restart(tmp_path: Path, kept: str) -> None:
    """Attempts, wait and outcome are those of an engine that was never restarted, snapshot and store included."""
    path = str(tmp_path / "cases.db")
    clock = ManualClock()
    seen: list[Work] = []
    engine = Engine(path, clock=clock)
    engine.register(line({"id": "A", "handler": "work", "retry": POLICY}))
    failing(engine, 3, seen)
    case_id = engine.create_case("r").run().id
    for wait in (1_000, 3_000):
        if kept == "restarted":
            engine.close()
            engine = Engine(path, clock=clock)
            failing(engine, 3, seen)
        elif kept == "evicted":
            engine.evict()
        assert 0 == engine.tick() + engine.run_pending()
        clock.advance(wait)
        assert (1, 1) == (engine.tick(), engine.run_pending())

    assert ("completed", [1, 2, 3]) == (engine.case(case_id).state, [work.attempt for work in seen])
    assert 0 == engine.tick() + engine.run_pending()
    engine.close()


def test_a_snapshot_holds_what_waits() -> None:
    """A case rebuilt from its dump alone knows when the next attempt is due."""
    with Engine(clock=ManualClock(5)) as engine:
        engine.register(line({"id": "A", "handler": "work", "retry": POLICY}))
        failing(engine, 3)
        case = engine.create_case("r").run()
        with engine._cache.hold(case.id) as resident:
            live = resident.case
            other = type(live)(live._program, live._kernels)
            other.replay(live.state.dump(), [])
            old = {name: value for name, value in live.state.dump().items() if name != "deadlines"}
            other_old = type(live)(live._program, live._kernels)
            other_old.replay(old, [])

            assert (1_005, live.next_due()) == (other.next_due().at, other.next_due())
            # A snapshot of journal version 1 has no deadlines, and is read all the same.
            assert other_old.next_due() is None


@pytest.mark.parametrize(
    "command", [lambda case: case.cancel_task("A"), lambda case: case.cancel()], ids=["task", "case"]
)
def test_an_aborted_task_drops_its_retry(command: Callable[[Any], None]) -> None:
    """Cancelling the task or the case forgets the attempt that was to come."""
    clock = ManualClock()
    seen: list[Work] = []
    with Engine(clock=clock) as engine:
        engine.register(line({"id": "A", "handler": "work", "retry": POLICY}))
        failing(engine, 3, seen)
        case = engine.create_case("r").run()

        command(case)

        clock.advance(60_000)
        assert (None, 0, 0) == (case.next_due, engine.tick(), engine.run_pending())
        assert 1 == len(seen)
        with engine._cache.hold(case.id) as resident:
            assert {} == resident.case.state.deadlines


def test_a_cancellation_region_drops_a_retry() -> None:
    """A task whose completion cancels the failing one forgets its next attempt."""
    net = {
        "id": "r",
        "tasks": [
            {"id": "S", "split": "and"},
            {"id": "A", "handler": "work", "retry": POLICY},
            {"id": "B", "manual": {}, "cancels": ["A"]},
            {"id": "C", "manual": {}},
        ],
        "flows": [
            {"from": "start", "to": "S"},
            {"from": "S", "to": "A"},
            {"from": "S", "to": "B"},
            {"from": "A", "to": "end"},
            {"from": "B", "to": "C"},
            {"from": "C", "to": "end"},
        ],
    }
    with Engine(clock=ManualClock()) as engine:
        engine.register(Specification.from_dict(net))
        failing(engine, 3)
        case = engine.create_case("r").run()
        assert case.next_due is not None

        case.complete_task("B")

        assert (None, ["C"]) == (case.next_due, case.enabled)


def test_a_suspended_case_waits_with_its_retries() -> None:
    """What comes due while a case is suspended is done when it was resumed."""
    clock = ManualClock()
    with Engine(clock=clock) as engine:
        engine.register(line({"id": "A", "handler": "work", "retry": POLICY}))
        failing(engine, 2)
        case = engine.create_case("r").run()
        case.suspend()
        clock.advance(60_000)
        assert (0, 0, "suspended", None) == (engine.tick(), engine.run_pending(), case.run().state, case.next_due)

        case.resume()

        assert (1, 1, "completed") == (engine.tick(), engine.run_pending(), case.state)


def test_every_instance_is_tried_again_by_itself() -> None:
    """The instances of a multiple-instance task fail and wait each for itself."""
    clock = ManualClock()
    with Engine(clock=clock) as engine:
        engine.register(
            line({"id": "M", "handler": "work", "retry": POLICY, "multiple": {"for_each": "data.list"}}),
        )

        @engine.handler("work")
        def work(item: Work) -> None:
            if item.attempt <= item.item:
                raise ValueError(item.item)

        case = engine.create_case("r", {"list": [0, 1, 2]}).run()
        assert [1, 2] == [
            event.path == "M#2" and 1 or 2 for event in case.history() if event.kind is EventKind.ATTEMPT_FAILED
        ]
        clock.advance(1_000)
        assert "running" == case.run().state
        clock.advance(3_000)

        assert "completed" == case.run().state


class Unspeakable(Exception):
    """An error whose text cannot be made."""

    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("\ud800"), "ValueError: ?"),
        (ValueError("x" * 5_000), "ValueError: " + "x" * 488 + "..."),
        (ValueError(), "ValueError"),
        (Unspeakable(), "Unspeakable: its text cannot be made"),
    ],
    ids=["surrogate", "long", "empty", "unspeakable"],
)
def test_any_error_can_be_told(error: Exception, told: str) -> None:
    """What a handler raises is told in the history in a form that can be stored, however odd it is."""
    with Engine(clock=ManualClock()) as engine:
        engine.register(line({"id": "A", "handler": "work", "retry": POLICY}))

        @engine.handler("work")
        def work(_: Work) -> None:
            raise error

        case = engine.create_case("r").run()

        assert [told] == [each["error"] for each in kinds(case, EventKind.ATTEMPT_FAILED)]


@given(
    st.builds(
        Retry,
        max_attempts=st.just(9),
        initial=st.integers(0, 10**6),
        coefficient=st.floats(1, 1e6),
        max=st.integers(10**6, 10**9),
    ),
    st.integers(1, 10_000),
)
def test_waits_grow_to_the_longest(retry: Retry, attempt: int) -> None:
    """The first wait is the initial one, none is shorter than the one before, and none longer than the longest."""
    assert retry.initial == backoff(retry, 1)
    assert backoff(retry, attempt) <= backoff(retry, attempt + 1) <= retry.max


# --- external work ----------------------------------------------------------------------------------------------------

LABEL = {"id": "L", "external": {"topic": "labels", "timeout": "10m"}}
TEN_MINUTES = 600_000


def claimed(clock: ManualClock, task: dict[str, Any] = LABEL) -> tuple[Engine, Any, Any]:
    """An engine, a case and its external item, started by w1."""
    engine = Engine(clock=clock)
    engine.register(line(task))
    case = engine.create_case("r").run()
    (item,) = case.work_items()
    item.start(by="w1")
    return engine, case, item


def test_a_claim_that_ends_gives_the_work_back() -> None:
    """External work that is not completed within its timeout is offered to all again, under the same number."""
    clock = ManualClock(0)
    engine, case, item = claimed(clock)
    assert (TEN_MINUTES, ["L"]) == (case.next_due, case.running)
    clock.advance(TEN_MINUTES - 1)
    assert 0 == engine.tick()
    clock.advance(1)

    assert 1 == engine.tick()

    (row,) = engine.work_items()
    assert (item.number, "offered", "", "labels") == (row.number, row.state, row.by, row.topic)
    assert (["L"], [], None, "running") == (case.enabled, case.running, case.next_due, case.state)
    case.work_item(item.number).start(by="w2")
    assert (2 * TEN_MINUTES, ["L"]) == (case.next_due, case.running)
    case.work_item(item.number).complete({"label": 7}, by="w2")
    assert ("completed", {"label": 7}) == (case.state, case.data)
    told = [EventKind.ITEM_CLAIMED, EventKind.CLAIM_EXPIRED, EventKind.ITEM_CHANGED]
    assert [
        {"until": TEN_MINUTES},
        {"state": "offered", "by": "w1", "attempt": 1},
        {"state": "started", "by": "w2"},
        {"until": 2 * TEN_MINUTES},
    ] == kinds(case, *told)


def test_work_that_was_given_back_can_be_started_by_path() -> None:
    """`start_task` and `complete_task` take up what was given back, as they did the first time."""
    clock = ManualClock()
    engine, case, _ = claimed(clock)
    clock.advance(TEN_MINUTES)
    engine.tick()

    case.start_task("L", by="w2")

    assert ["w2"] == [row.by for row in engine.work_items(state="started")]
    with pytest.raises(IllegalTransition, match="not offered"):
        case.start_task("L", by="w3")
    case.complete_task("L")
    assert "completed" == case.state


@pytest.mark.parametrize(
    ("meanwhile", "refused"),
    [(None, False), ("allocate", True), ("start", True), ("complete", True)],
)
def test_a_late_completion(meanwhile: str | None, refused: bool) -> None:
    """Work that was given back is taken from a late worker, unless somebody else has taken it up meanwhile."""
    clock = ManualClock()
    engine, case, late = claimed(clock)
    clock.advance(TEN_MINUTES)
    engine.tick()
    item = case.work_item(late.number)
    commands = {
        "allocate": lambda: item.allocate("w2"),
        "start": lambda: item.start(by="w2"),
        "complete": lambda: item.complete(by="w2"),
    }
    if meanwhile is not None:
        commands[meanwhile]()
    before = case.history()

    if refused:
        with pytest.raises(KnhkError, match="it belongs to 'w2' now|no open work item|the case is completed"):
            late.complete({"late": True}, by="w1")
        assert before == case.history()
    else:
        late.complete({"late": True}, by="w1")
        assert ("completed", {"late": True}) == (case.state, case.data)


def test_external_work_is_allocated_before_it_is_claimed() -> None:
    """Allocating offered work sets no deadline; its start does."""
    clock = ManualClock(0)
    with Engine(clock=clock) as engine:
        engine.register(line(LABEL))
        case = engine.create_case("r").run()
        (item,) = case.work_items()

        item.allocate("w1")

        assert ("allocated", None) == (item.state, case.next_due)
        item.start(by="w1")
        assert TEN_MINUTES == case.next_due


def test_a_claim_stands_still_while_its_work_is_suspended() -> None:
    """Suspended work is not taken away; resumed, it has its whole time again."""
    clock = ManualClock(0)
    engine, case, item = claimed(clock)
    item.suspend()
    clock.advance(TEN_MINUTES)
    assert (0, None) == (engine.tick(), case.next_due)

    item.resume()

    assert 2 * TEN_MINUTES == case.next_due


def test_every_instance_has_its_own_claim() -> None:
    """The instances of external multiple-instance work are given back one by one, those that are done are not."""
    clock = ManualClock(0)
    task = {**LABEL, "multiple": {"count": 3, "creation": "dynamic"}}
    engine, case, _ = claimed(clock, task)
    case.complete_task("L#2")
    clock.advance(1)
    case.add_instance("L")
    clock.advance(TEN_MINUTES - 1)

    assert 2 == engine.tick()

    assert (["L#1", "L#3"], ["L#4"]) == (case.enabled, case.running)
    case.start_task("L#3", by="w2")
    assert (["L#1"], ["L#3", "L#4"]) == (case.enabled, case.running)
    clock.advance(1)
    assert 1 == engine.tick()
    assert (["L#1", "L#4"], ["L#3"]) == (case.enabled, case.running)
    for path in ("L#1", "L#3", "L#4"):
        case.complete_task(path)
    assert "completed" == case.state


def test_failed_external_work_is_offered_again_after_its_wait() -> None:
    """A worker that says it failed starts the wait of the policy; then the work is anybody's, until the attempts are used up."""
    clock = ManualClock(0)
    policy = {"max_attempts": 2, "initial": "1s", "jitter": "none"}
    engine, case, item = claimed(clock, {**LABEL, "retry": policy})
    item.fail("no paper")
    assert ("failed", "running", 1_000) == (item.state, case.state, case.next_due)
    clock.advance(1_000)
    assert 1 == engine.tick()
    assert ["offered"] == [row.state for row in engine.work_items()]
    case.work_item(item.number).start(by="w2")

    clock.advance(TEN_MINUTES)
    assert 1 == engine.tick()

    assert ("failed", ["failed"]) == (case.state, [row.state for row in engine.work_items()])
    assert [{"attempt": 1, "error": "no paper", "retry_at": 1_000}] == kinds(case, EventKind.ATTEMPT_FAILED)
    assert 1 == case.retry_failed()
    assert ("running", ["L"]) == (case.state, case.running)
    case.work_item(item.number).fail("no ink")
    due = clock.now() + 1_000
    assert {"attempt": 3, "error": "no ink", "retry_at": due} == kinds(case, EventKind.ATTEMPT_FAILED)[-1]
    assert 1 == case.retry_failed()
    case.complete_task("L")
    assert "completed" == case.state


def test_a_running_composite_task_is_not_started_again() -> None:
    """Starting a composite task by its path is refused while it runs, whatever numbers its work items have."""
    inner = {"tasks": [LABEL], "flows": [{"from": "start", "to": "L"}, {"from": "L", "to": "end"}]}
    with Engine(clock=ManualClock()) as engine:
        engine.register(
            Specification.from_dict(
                {
                    "id": "r",
                    "tasks": [{"id": "S", "subnet": "inner"}],
                    "flows": [{"from": "start", "to": "S"}, {"from": "S", "to": "end"}],
                    "subnets": {"inner": inner},
                }
            )
        )
        case = engine.create_case("r").run()

        with pytest.raises(IllegalTransition, match="cannot start S: it is not offered"):
            case.start_task("S")

        assert ["S/L"] == case.enabled


def test_claims_survive_a_restart(tmp_path: Path) -> None:
    """A claim that was taken before a restart ends in its time after it."""
    path = str(tmp_path / "cases.db")
    clock = ManualClock()
    with Engine(path, clock=clock) as engine:
        engine.register(line(LABEL))
        case_id = engine.create_case("r").run().id
        engine.case(case_id).start_task("L", by="w1")
    clock.advance(TEN_MINUTES)
    with Engine(path, clock=clock) as engine:
        assert 1 == engine.tick()

        assert ["offered"] == [row.state for row in engine.work_items(state="offered")]


@pytest.mark.parametrize("raises", [True, False])
def test_a_case_that_was_suspended_under_its_handler_runs_it_again(raises: bool) -> None:
    """What a handler does after its case was suspended is not recorded; its work is done once more after `resume`."""
    attempts: list[int] = []
    with Engine(clock=ManualClock()) as engine:
        engine.register(line({"id": "A", "handler": "work", "retry": POLICY}))

        @engine.handler("work")
        def work(item: Work) -> None:
            attempts.append(item.attempt)
            if item.attempt == 1:
                engine.case(item.case_id).suspend()
                if raises:
                    raise ValueError("late")

        case = engine.create_case("r")
        with pytest.raises(HandlerError, match="late" if raises else "the case is suspended"):
            case.run()
        assert ("suspended", []) == (case.state, kinds(case, EventKind.ATTEMPT_FAILED))

        case.resume()

        assert ("completed", [1, 2]) == (case.run().state, attempts)
