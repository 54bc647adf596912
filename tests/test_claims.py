"""External work: claimed in batches under a lease, fenced, extended, completed, failed, by one winner each."""

from __future__ import annotations

import asyncio
import logging
import threading
from pathlib import Path
from typing import Any

import pytest

from knhk import AsyncEngine, ClaimLost, Claim, DataError, Engine, EventKind, IllegalTransition, Limits, Specification
from knhk.errors import ConcurrentUpdate
from knhk.ports import Commit
from knhk.stores import open_store
from knhk.stores.memory import MemoryStore
from knhk.testing.clock import ManualClock

LABEL: dict[str, Any] = {"id": "L", "external": {"topic": "labels"}}
POLICY = {"max_attempts": 2, "initial": "1s", "jitter": 0}


def line(*tasks: dict[str, Any], spec_id: str = "p") -> Specification:
    """Tasks one after the other."""
    ids = ["start", *(task["id"] for task in tasks), "end"]
    flows = [{"from": a, "to": b} for a, b in zip(ids, ids[1:], strict=False)]
    return Specification.from_dict({"id": spec_id, "tasks": list(tasks), "flows": flows})


def opened(
    clock: ManualClock, *tasks: dict[str, Any], cases: int = 1, limits: Limits | None = None
) -> tuple[Engine, list[Any]]:
    """An engine with running cases of a line of tasks, each with its number in `n`."""
    engine = Engine(clock=clock, limits=limits or Limits())
    engine.register(line(*tasks))
    return engine, [engine.create_case("p", {"n": n}).run() for n in range(cases)]


def test_a_claim_is_the_whole_piece_of_work() -> None:
    """A claim says what there is to do, for whom, until when; completing it moves the case on."""
    clock = ManualClock(1_000)
    engine, (case,) = opened(clock, LABEL)

    (claim,) = engine.claim("labels", worker="w1", lease="5s")

    assert (case.id, 1, "L", "labels", "w1", 1) == (
        claim.case_id,
        claim.number,
        claim.path,
        claim.topic,
        claim.worker,
        claim.attempt,
    )
    assert (f"{case.id}:1", f"{case.id}:1", 6_000) == (claim.id, claim.idempotency_key, claim.deadline)
    assert ({"n": 0}, None, None) == (claim.data, claim.item, claim.index)
    assert [("started", "w1")] == [(row.state, row.by) for row in engine.work_items()]
    assert [] == engine.claim("labels", worker="w2")
    claim.complete({"label": "L-1"})
    assert ("completed", {"n": 0, "label": "L-1"}) == (case.state, case.data)


def test_the_data_of_a_claim_are_a_copy() -> None:
    """What a worker does to the data of its claim does not reach the case; the input mapping makes them."""
    engine, (case,) = opened(ManualClock(), {**LABEL, "input": {"parcel": "data.n"}})

    (claim,) = engine.claim(["labels"], worker="w")
    claim.data["parcel"] = 7

    assert {"n": 0} == case.data
    assert {"parcel": 0} == case.work_item(claim.number).data


def test_the_oldest_cases_come_first_and_no_more_than_asked_for() -> None:
    """Claims come in the order in which their cases were created, all in one commit, `max` of them."""
    engine, cases = opened(ManualClock(), LABEL, cases=150)
    engine.evict()

    first = engine.claim("labels", worker="w", max=130)
    rest = engine.claim("labels", worker="w", max=130)

    assert [case.id for case in cases] == [claim.case_id for claim in first + rest]
    assert (130, 20) == (len(first), len(rest))


def test_no_topic_waits_for_another() -> None:
    """A batch takes of each topic in turn, and single claims begin with another topic each time."""
    engine = Engine(clock=ManualClock())
    for topic, count in (("a", 9), ("b", 2), ("c", 3)):
        engine.register(line({"id": "T", "external": topic}, spec_id=topic))
        for _ in range(count):
            engine.create_case(topic).run()

    batch = engine.claim(["a", "b", "c"], worker="w", max=6)
    singles = [engine.claim(["a", "b", "c"], worker="w")[0] for _ in range(2)]

    assert ["a", "b", "c", "a", "b", "c"] == [claim.topic for claim in batch]
    assert {"a", "c"} == {claim.topic for claim in singles}
    assert [] == engine.claim(["nobody's"], worker="w", max=3)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"topics": []}, "name the topics"),
        ({"topics": ["a", ""]}, "name the topics"),
        ({"worker": ""}, "which worker"),
        ({"max": 0}, "max is at least 1"),
        ({"lease": "soon"}, "a duration is"),
        ({"lease": 0}, "lease must be longer than nothing"),
        ({"lease": True}, "lease is a span of time"),
        ({"wait": "-1s"}, "a duration is"),
    ],
)
def test_what_is_no_claim_is_refused(arguments: dict[str, Any], match: str) -> None:
    """A claim without topics, worker, number or span of time is refused with the reason, and nothing is claimed."""
    engine, _ = opened(ManualClock(), LABEL)

    with pytest.raises(ValueError, match=match):
        engine.claim(**{"topics": "labels", "worker": "w", **arguments})

    assert 1 == len(engine.claim("labels", worker="w"))


@pytest.mark.parametrize(
    ("task", "lease", "end"),
    [
        ({}, "5s", 5_000),
        ({}, 250, 250),
        ({}, None, 30_000),
        ({"timeout": "1m"}, "5s", 5_000),
        ({"timeout": "1m"}, "5m", 60_000),
        ({"timeout": "1m"}, None, 60_000),
        ({"retry": {"max_attempts": 9, "deadline": "3s"}}, "5s", 3_000),
    ],
)
def test_a_lease_ends_with_the_timeout_and_the_deadline_of_its_task(task: dict[str, Any], lease: Any, end: int) -> None:
    """A lease is what the worker asks for, the task's `timeout` at the most, and never beyond the policy's deadline."""
    retry = {"retry": task["retry"]} if "retry" in task else {}
    timeout = {"timeout": task["timeout"]} if "timeout" in task else {}
    engine, (case,) = opened(ManualClock(0), {**LABEL, "external": {"topic": "labels", **timeout}, **retry})

    (claim,) = engine.claim("labels", worker="w", lease=lease)

    assert (end, end) == (claim.deadline, case.next_due)
    assert end == claim.extend(lease)


def test_a_late_worker_is_refused_after_its_lease_passed_to_another() -> None:
    """Whatever a worker wants after its lease passed on is refused, and nothing happens; the new one completes."""
    clock = ManualClock(0)
    engine, (case,) = opened(clock, LABEL)
    (late,) = engine.claim("labels", worker="w1", lease="10s")
    clock.advance(10_000)
    assert 1 == engine.tick()
    (new,) = engine.claim("labels", worker="w1", lease="10s")
    before = case.history()

    for command in (lambda: late.complete({"late": True}), lambda: late.fail("late"), lambda: late.extend("1h")):
        with pytest.raises(ClaimLost, match="L: attempt 1 is over, the last is 2") as refused:
            command()
        assert "started" == refused.value.status

    assert before == case.history()
    assert (late.id, late.deadline, 2) == (new.id, 10_000, new.attempt)
    new.complete({"late": False})
    assert {"n": 0, "late": False} == case.data


@pytest.mark.parametrize("ticked", [False, True])
def test_a_lease_that_has_ended_is_no_claim_whether_or_not_that_was_noticed(ticked: bool) -> None:
    """After its lease a worker is refused although nobody else has the work; it is offered again under the same name."""
    clock = ManualClock(0)
    engine, (case,) = opened(clock, LABEL)
    (claim,) = engine.claim("labels", worker="w1", lease="10s")
    clock.advance(9_999)
    assert 0 == engine.tick()
    clock.advance(1)
    if ticked:
        engine.tick()

    with pytest.raises(ClaimLost, match="it is offered" if ticked else "the lease ended at 10000, now it is 10000"):
        claim.complete()

    engine.tick()
    (again,) = engine.claim("labels", worker="w2")
    assert (claim.id, 2) == (again.id, again.attempt)
    assert [{"state": "offered", "by": "w1", "attempt": 1}] == [
        dict(event.details) for event in case.history() if event.kind is EventKind.CLAIM_EXPIRED
    ]


def test_an_extended_lease_holds() -> None:
    """A worker that extends in time keeps its work as long as it likes."""
    clock = ManualClock(0)
    engine, (case,) = opened(clock, LABEL)
    (claim,) = engine.claim("labels", worker="w", lease="10s")
    for _ in range(20):
        clock.advance(9_000)
        assert clock.now() + 10_000 == claim.extend("10s") == claim.deadline
        engine.tick()
        assert [] == engine.claim("labels", worker="other")

    claim.complete()

    assert "completed" == case.state


def test_work_that_is_given_back_is_offered_at_once() -> None:
    """Work that a worker gives back has another attempt, which counts as the same; the worker has it no more."""
    engine, (case,) = opened(ManualClock(0), {**LABEL, "retry": {"max_attempts": 1}})
    (claim,) = engine.claim("labels", worker="w", lease="10s")
    assert 10.0 == engine.external.left(claim.deadline)

    claim.release()
    with pytest.raises(ClaimLost):
        claim.release()
    (other,) = engine.claim("labels", worker="other")

    assert (claim.id, 2) == (other.id, other.attempt)
    assert other.fail("no paper") is False
    again = [event.details for event in case.history() if event.kind is EventKind.ATTEMPTS_SPARED]
    assert [{"spared": 1}] == again


@pytest.mark.parametrize("token", ["", "1", "1.2", "2.1", "1.x", "x.1", "1.1.1"])
def test_a_foreign_token_is_refused(token: str) -> None:
    """Only the token that the claim was given opens it."""
    engine, (case,) = opened(ManualClock(0), LABEL)
    (claim,) = engine.claim("labels", worker="w")

    with pytest.raises(ClaimLost):
        engine.external.complete(claim.id, token)

    engine.external.complete(claim.id, claim.token, {"done": 1})
    assert {"n": 0, "done": 1} == case.data


def test_work_that_is_gone_is_lost() -> None:
    """Completed twice, of a cancelled case, of no case: each is refused as lost."""
    engine, (case, other) = opened(ManualClock(0), LABEL, cases=2)
    one, two = engine.claim("labels", worker="w", max=2)
    one.complete()
    with pytest.raises(ClaimLost, match="it is gone, completed or withdrawn"):
        one.complete()
    other.cancel()
    with pytest.raises(IllegalTransition):
        two.complete()
    for name in ("none:1", "none", f"{case.id}:x", ":1"):
        with pytest.raises(ClaimLost):
            engine.external.complete(name, "1.1")


def test_a_refused_output_leaves_the_claim() -> None:
    """Output that the schema refuses changes nothing, and the worker still has the work."""
    pytest.importorskip("jsonschema_rs")
    tree = {**line(LABEL).to_dict(), "data": {"properties": {"label": {"type": "string"}}}}
    engine = Engine(clock=ManualClock(0))
    engine.register(Specification.from_dict(tree))
    case = engine.create_case("p").run()
    (claim,) = engine.claim("labels", worker="w")

    with pytest.raises(DataError):
        claim.complete({"label": 7})
    with pytest.raises(DataError):
        claim.complete({"label": float("nan")})

    claim.complete({"label": "7"})
    assert {"label": "7"} == case.data


def test_failed_attempts_follow_the_policy_and_end_as_dead_letter() -> None:
    """A failure waits as the policy says, with `retry_after` at the least; the last attempt is the last."""
    clock = ManualClock(0)
    engine, (case,) = opened(clock, {**LABEL, "retry": POLICY})
    (claim,) = engine.claim("labels", worker="w")

    assert claim.fail("no paper", retry_after="7s")

    assert ("running", 7_000) == (case.state, case.next_due)
    assert [] == engine.claim("labels", worker="w")
    clock.advance(7_000)
    engine.tick()
    (claim,) = engine.claim("labels", worker="w")
    assert not claim.fail("no ink", error="Dry")
    assert ("failed", []) == (case.state, engine.claim("labels", worker="w"))
    (letter,) = engine.dead_letters.list()
    assert ("no ink", "Dry", 2, "labels", 7_000) == (
        letter.reason,
        letter.error,
        letter.attempts,
        letter.topic,
        letter.at,
    )


def test_a_failure_that_is_not_retryable_is_final() -> None:
    """A worker may say that no further attempt helps, whatever the policy has left."""
    engine, (case,) = opened(ManualClock(0), {**LABEL, "retry": POLICY})
    (claim,) = engine.claim("labels", worker="w")

    assert not claim.fail("no such address", retryable=False)

    assert ("failed", "no such address (no further attempt helps)") == (
        case.state,
        engine.dead_letters.list()[0].reason,
    )


def test_leases_that_end_count_as_attempts() -> None:
    """A worker that dies each time uses up the attempts: the work is a dead letter then, of the type TimeoutError."""
    clock = ManualClock(0)
    engine, (case,) = opened(clock, {**LABEL, "retry": POLICY})
    for attempt in (1, 2):
        (claim,) = engine.claim("labels", worker="w", lease="10s")
        assert attempt == claim.attempt
        clock.advance(10_000)
        assert 1 == engine.tick()

    assert ("failed", []) == (case.state, engine.claim("labels", worker="w"))
    (letter,) = engine.dead_letters.list()
    assert ("its last claim ended without a result", "TimeoutError", 2, 20_000) == (
        letter.reason,
        letter.error,
        letter.attempts,
        letter.at,
    )


def test_without_a_policy_leases_that_end_are_bounded() -> None:
    """Work that ends every worker is a dead letter after so many leases; what was given back does not count."""
    clock = ManualClock(0)
    engine, (case,) = opened(clock, LABEL, limits=Limits(leases=3))
    engine.claim("labels", worker="w")[0].release()
    for _ in range(3):
        assert "running" == case.state
        engine.claim("labels", worker="w", lease="10s")
        clock.advance(10_000)
        assert 1 == engine.tick()

    (letter,) = engine.dead_letters.list()
    assert ("failed", "its last claim ended without a result (limit leases=3)", "TimeoutError", 3) == (
        case.state,
        letter.reason,
        letter.error,
        letter.attempts,
    )
    engine.dead_letters.replay(letter.id)
    engine.claim("labels", worker="w")[0].complete()
    assert "completed" == case.state


def test_the_deadline_of_the_policy_ends_the_last_lease() -> None:
    """When all attempts must be over the lease ends, and so does the work, however many attempts are left."""
    clock = ManualClock(0)
    engine, (case,) = opened(clock, {**LABEL, "retry": {"max_attempts": 9, "deadline": "15s"}})
    engine.claim("labels", worker="w", lease="10s")
    clock.advance(10_000)
    engine.tick()
    (claim,) = engine.claim("labels", worker="w", lease="10s")
    assert 15_000 == claim.deadline
    clock.advance(5_000)

    engine.tick()

    assert ("failed", 1) == (case.state, len(engine.dead_letters.list()))


def test_each_instance_is_a_claim_of_its_own() -> None:
    """Of a task with instances the worker has those that it asked for; the others are offered, and have had no attempt."""
    multiple = {"multiple": {"for_each": "data.lines"}}
    engine = Engine(clock=ManualClock(0))
    engine.register(line({**LABEL, **multiple}))
    case = engine.create_case("p", {"lines": ["a", "b", "c"]}).run()

    two = engine.claim("labels", worker="w1", max=2)
    (third,) = engine.claim("labels", worker="w2", max=2)

    assert [("L#1", "a", 0, 1), ("L#2", "b", 1, 1)] == [(c.path, c.item, c.index, c.attempt) for c in two]
    assert ("L#3", "c", 2, 1) == (third.path, third.item, third.index, third.attempt)
    for claim in (third, *two):
        claim.complete({claim.item: claim.worker})
    assert {"a": "w1", "b": "w1", "c": "w2"} == {name: case.data[name] for name in "abc"}


def test_a_task_without_instances_is_passed_over() -> None:
    """A claim on a task that has nothing to do lets its case go on, and takes the next case's work."""
    engine = Engine(clock=ManualClock(0))
    engine.register(line({**LABEL, "multiple": {"for_each": "data.lines"}}))
    none, some = (engine.create_case("p", {"lines": lines}).run() for lines in ([], [1]))

    (claim,) = engine.claim("labels", worker="w")

    assert ("completed", some.id) == (none.state, claim.case_id)


def test_work_that_cannot_start_holds_nothing_up(caplog: pytest.LogCaptureFixture) -> None:
    """What cannot be started for its data stays offered, is told to the log, and the next is taken."""
    engine = Engine(clock=ManualClock(0))
    engine.register(line({**LABEL, "multiple": {"for_each": "data.lines"}}))
    bad, good = (engine.create_case("p", {"lines": lines}).run() for lines in (7, [1]))
    with caplog.at_level(logging.WARNING, "knhk.work"):
        (claim,) = engine.claim("labels", worker="w")

    assert (good.id, ["L"]) == (claim.case_id, bad.enabled)
    assert "is no list" in caplog.text


def test_an_input_mapping_that_fails_is_a_failed_attempt() -> None:
    """Work that cannot be given its data fails as a handler's would; no worker gets it."""
    engine, (case,) = opened(ManualClock(0), {**LABEL, "input": {"x": "data.missing"}})

    assert [] == engine.claim("labels", worker="w")

    assert ("failed", "DataError") == (case.state, engine.dead_letters.list()[0].error)


def test_a_suspended_case_gives_no_work_and_takes_no_result() -> None:
    """While a case is held its work is not claimed, and a result is refused until it is resumed."""
    clock = ManualClock(0)
    engine, (one, two) = opened(clock, LABEL, cases=2)
    (claim,) = engine.claim("labels", worker="w", lease="10s")
    one.suspend()
    two.suspend()

    assert [] == engine.claim("labels", worker="w", max=5)
    with pytest.raises(IllegalTransition, match="suspended"):
        claim.complete()

    one.resume()
    claim.complete()
    assert "completed" == one.state


def test_work_that_was_laid_aside_is_still_claimed() -> None:
    """Suspended by somebody, claimed work is neither completed nor lost; resumed, it is completed."""
    engine, (case,) = opened(ManualClock(0), LABEL)
    (claim,) = engine.claim("labels", worker="w")
    item = case.work_item(claim.number)
    item.suspend()

    with pytest.raises(IllegalTransition, match="suspended") as refused:
        claim.complete()

    assert not isinstance(refused.value, ClaimLost)
    item.resume()
    claim.complete()
    assert "completed" == case.state


def test_external_work_is_failed_by_whoever_has_it() -> None:
    """`WorkItem.fail` with another's name is refused for external work; without a name anybody's word counts."""
    engine, (case,) = opened(ManualClock(0), LABEL)
    (claim,) = engine.claim("labels", worker="w1")
    item = case.work_item(claim.number)

    with pytest.raises(IllegalTransition, match="it belongs to 'w1' now, not to 'w2'"):
        item.fail("late", by="w2")

    item.fail("no paper", by="w1")
    assert "failed" == case.state


@pytest.mark.parametrize("evict", [False, True])
def test_threads_share_the_work_without_a_doublet(evict: bool) -> None:
    """Eight workers that claim at the same time have each piece of work once, whatever leaves memory meanwhile."""
    engine, cases = opened(ManualClock(0), LABEL, cases=200)
    claims: list[Claim] = []

    def work(number: int) -> None:
        while found := engine.claim("labels", worker=f"w{number}", max=7):
            if evict:
                engine.evict()
            for claim in found:
                claim.complete({"by": claim.worker})
            claims.extend(found)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(case.id for case in cases) == sorted(claim.case_id for claim in claims)
    assert all("completed" == case.state for case in cases)
    assert all(1 == claim.attempt for claim in claims)


def test_two_engines_on_one_file_have_one_winner(tmp_path: Path) -> None:
    """Of two engines with the same cases in memory one gets each claim, and both find what the other left."""
    path, clock = str(tmp_path / "cases"), ManualClock(0)
    with Engine(path, clock=clock) as one, Engine(path, clock=clock) as two:
        one.register(line({**LABEL, "external": {"topic": "labels", "timeout": "10s"}}))
        cases = [one.create_case("p", {"n": n}).run() for n in range(6)]
        assert all(["L"] == two.case(case.id).enabled for case in cases)

        first = one.claim("labels", worker="w1", max=3)
        second = two.claim("labels", worker="w2", max=6)

        assert [case.id for case in cases] == [claim.case_id for claim in first + second]
        clock.advance(10_000)
        assert 6 == two.tick()
        again = one.claim("labels", worker="w1", max=4) + two.claim("labels", worker="w2", max=4)
        assert 6 == len({claim.case_id for claim in again}) == len(again)
        for claim in first:
            with pytest.raises(ClaimLost):
                claim.complete()
        for claim in again:
            # The other engine's memory of the case is older than the claim.
            two.external.complete(claim.id, claim.token)
        assert 6 == len(list(one.cases(state="completed")))


class Racing(MemoryStore):
    """A store in which others are faster for some commits."""

    def __init__(self) -> None:
        super().__init__()
        self.losses = 0

    def commit(self, commits: Any) -> None:
        """Refuse as often as `losses` says."""
        commits = list[Commit](commits)
        if self.losses and any(commit.expected for commit in commits):
            self.losses -= 1
            raise ConcurrentUpdate("somebody was faster")
        super().commit(commits)


@pytest.mark.parametrize(("losses", "got"), [(1, 3), (2, 2), (4, 0)])
def test_what_others_move_is_claimed_one_by_one(losses: int, got: int) -> None:
    """Where the batch's commit loses a race each piece is tried for itself, and those that lose again are left."""
    store = Racing()
    engine = Engine(store, clock=ManualClock(0))
    engine.register(line(LABEL))
    for _ in range(3):
        engine.create_case("p").run()
    store.losses = losses

    claims = engine.claim("labels", worker="w", max=3)

    assert got == len(claims)
    for claim in claims:
        claim.complete()
    assert 3 - got == len(engine.claim("labels", worker="w", max=3))


@pytest.mark.parametrize(("losses", "wins"), [(4, True), (5, False)])
def test_a_result_is_tried_again_where_others_move_its_case(losses: int, wins: bool) -> None:
    """A completion that loses a race is made on the case as it is then; after five times whoever asks decides."""
    store = Racing()
    engine = Engine(store, clock=ManualClock(0))
    engine.register(line(LABEL))
    case = engine.create_case("p").run()
    (claim,) = engine.claim("labels", worker="w")
    store.losses = losses

    if wins:
        claim.complete()
    else:
        with pytest.raises(ConcurrentUpdate):
            claim.complete()

    assert ("completed" if wins else "running") == case.state


def test_a_store_that_fails_leaves_nothing_claimed(tmp_path: Path) -> None:
    """When the commit of claims fails for another reason it is raised, and the work is offered as before."""
    store = open_store(str(tmp_path / "cases"))
    engine = Engine(store, clock=ManualClock(0))
    engine.register(line(LABEL))
    case = engine.create_case("p").run()

    class Broken(Exception):
        pass

    def refuse(_: object) -> None:
        raise Broken

    whole, store.commit = store.commit, refuse  # type: ignore[method-assign]
    with pytest.raises(Broken):
        engine.claim("labels", worker="w")
    store.commit = whole  # type: ignore[method-assign]

    assert ["L"] == case.enabled
    assert 1 == len(engine.claim("labels", worker="w"))
    engine.close()


def test_a_worker_waits_for_work_of_this_process() -> None:
    """A claim that waits returns as soon as another thread offers work, and with nothing when its time is up."""
    engine = Engine()
    engine.register(line(LABEL))
    found: list[Claim] = []
    waiter = threading.Thread(target=lambda: found.extend(engine.claim("labels", worker="w", wait="1h")))
    waiter.start()

    engine.create_case("p").run()
    waiter.join(30)

    assert 1 == len(found)
    assert [] == engine.claim("labels", worker="w", wait=1)


def test_an_asynchronous_engine_claims_alike() -> None:
    """`AsyncEngine` claims, waits, extends, fails and completes, by the claim or by its name."""

    async def play() -> None:
        engine = AsyncEngine(clock=ManualClock(0))
        await engine.register(line({**LABEL, "retry": {"max_attempts": 1}}))
        waiting = asyncio.ensure_future(engine.claim("labels", worker="w", wait="1h"))
        await asyncio.sleep(0)
        case = await (await engine.create_case("p")).run()
        (claim,) = await waiting
        assert "knhk" not in repr(claim)
        assert 60_000 == await claim.extend("1m")
        assert not await claim.fail("no paper")
        (letter,) = await engine.dead_letters.list(topic="labels")
        assert {} == (await engine.dead_letters.get(letter.id)).data
        await engine.dead_letters.replay(letter.id, by="ann")
        (again,) = await engine.external.claim(["labels"], worker="w", wait=1)
        assert 30_000 == await engine.external.extend(again.claim.id, again.claim.token)
        assert not await engine.external.fail(again.claim.id, again.claim.token, "no ink")
        assert 1 == await engine.dead_letters.replay_all(by="ann")
        (last,) = await engine.claim("labels", worker="w")
        await last.complete({"ok": 1})
        assert ("completed", {"ok": 1}) == (await case.state(), await case.data())
        other = await (await engine.create_case("p")).run()
        (claim,) = await engine.claim("labels", worker="w")
        await claim.fail("no")
        await engine.dead_letters.discard(f"{other.id}:1", by="ann", reason="spam")
        assert "deadlocked" == await other.state()
        third = await (await engine.create_case("p")).run()
        (claim,) = await engine.claim("labels", worker="w")
        await claim.release()
        (claim,) = await engine.claim("labels", worker="w")
        await engine.external.release(claim.claim.id, claim.claim.token)
        (claim,) = await engine.claim("labels", worker="w")
        await engine.external.complete(claim.claim.id, claim.claim.token)
        assert "completed" == await third.state()
        assert [] == await engine.claim("labels", worker="w", wait=1)
        await engine.close()

    asyncio.run(play())
