"""The dead letter queue: what failed for good in any case is listed, looked into, tried again with all attempts, given up."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import attrs
import pytest

from knhk import Engine, EventKind, IllegalTransition, Specification, UnknownCase, UnknownWorkItem, Work
from knhk._case_state import CaseState
from knhk.errors import ConcurrentUpdate, DataError, HandlerError
from knhk.stores.memory import MemoryStore
from knhk.testing.clock import ManualClock

POLICY = {"max_attempts": 3, "initial": "1s", "jitter": 0}
CASES = 10_000


def line(*tasks: dict[str, Any], spec_id: str = "p", **more: Any) -> Specification:
    """Tasks one after the other."""
    ids = ["start", *(task["id"] for task in tasks), "end"]
    flows = [{"from": a, "to": b} for a, b in zip(ids, ids[1:], strict=False)]
    return Specification.from_dict({"id": spec_id, "tasks": list(tasks), "flows": flows, **more})


class Bank:
    """A handler that fails as long as it is broken, and notes who asked."""

    def __init__(self) -> None:
        self.broken = True
        self.asked: list[Work] = []

    def __call__(self, work: Work) -> dict[str, Any]:
        """Charge."""
        self.asked.append(work)
        if self.broken:
            raise ConnectionError("no answer")
        return {"charged": work.attempt}


def exhausted(engine: Engine, case: Any, clock: ManualClock) -> None:
    """Run a case until its attempts are used up."""
    with pytest.raises(HandlerError):
        while True:
            case.run()
            clock.advance(case.next_due - clock.now())


def dead(policy: dict[str, Any] = POLICY, **data: Any) -> tuple[Engine, Any, Bank, ManualClock]:
    """An engine with a case whose handler has failed for good."""
    clock, bank = ManualClock(0), Bank()
    engine = Engine(clock=clock)
    engine.register(line({"id": "charge", "handler": "charge", "retry": policy}))
    engine.handler("charge")(bank)
    case = engine.create_case("p", data)
    exhausted(engine, case, clock)
    return engine, case, bank, clock


def test_a_dead_letter_tells_what_failed_why_and_where() -> None:
    """A handler's last failure is listed with reason, type, place and attempts; `get` gives the data too."""
    engine, case, _, clock = dead(order=7)

    (letter,) = engine.dead_letters.list()

    assert (f"{case.id}:1", case.id, 1, "charge", "p", "1") == (
        letter.id,
        letter.case_id,
        letter.number,
        letter.path,
        letter.spec_id,
        letter.spec_version,
    )
    assert ("charge", "", "ConnectionError: no answer", "ConnectionError", clock.now(), 3, 3) == (
        letter.handler,
        letter.topic,
        letter.reason,
        letter.error,
        letter.at,
        letter.attempts,
        letter.attempt,
    )
    assert re.fullmatch("[0-9a-f]{16}", letter.digest)
    assert re.fullmatch(r"test_dead_letters\.py:\d+ __call__", letter.where)
    assert None is letter.data
    assert {"order": 7} == engine.dead_letters.get(letter.id).data
    assert [letter] == list(engine.dead_letters)
    assert [(1, "failed")] == [(row.number, row.state) for row in engine.work_items()]


def test_failures_of_one_cause_have_one_digest() -> None:
    """The digest is the same for the same way through the same code, and another for another."""
    engine = Engine()
    engine.register(line({"id": "a", "handler": "h"}))

    @engine.handler("h")
    def h(work: Work) -> None:
        if work.data["n"] < 2:
            raise ValueError(work.data["n"])
        raise ValueError("elsewhere")

    for n in range(3):
        with pytest.raises(HandlerError):
            engine.create_case("p", {"n": n}).run()

    one, same, other = (letter.digest for letter in engine.dead_letters.list())
    assert one == same != other


def test_what_waits_for_its_next_attempt_is_no_dead_letter() -> None:
    """Failed work that is tried again by itself is not in the queue, and cannot be replayed or discarded."""
    clock = ManualClock(0)
    engine = Engine(clock=clock)
    engine.register(line({"id": "L", "external": "labels", "retry": POLICY}))
    case = engine.create_case("p").run()
    (claim,) = engine.claim("labels", worker="w")
    claim.fail("no paper")
    letter = f"{case.id}:1"

    assert ["failed"] == [row.state for row in engine.work_items()]
    assert [] == engine.dead_letters.list()
    with pytest.raises(UnknownWorkItem, match="has not failed for good"):
        engine.dead_letters.get(letter)
    with pytest.raises(IllegalTransition, match="it is tried again by itself at 1000"):
        engine.dead_letters.replay(letter)
    with pytest.raises(IllegalTransition, match="it is tried again by itself at 1000"):
        engine.dead_letters.discard(letter, by="ann", reason="spam")


def test_a_replay_gives_all_attempts_anew_under_the_same_key() -> None:
    """Replayed work has its maximum of attempts again, goes on counting, keeps its key, and the history says who."""
    engine, case, bank, clock = dead()
    (letter,) = engine.dead_letters.list()

    engine.dead_letters.replay(letter.id, by="ann")

    assert ("running", []) == (case.state, engine.dead_letters.list())
    assert [] == list(engine.work_items())
    exhausted(engine, case, clock)
    assert [1, 2, 3, 4, 5, 6] == [work.attempt for work in bank.asked]
    (letter,) = engine.dead_letters.list()
    assert (3, 6) == (letter.attempts, letter.attempt)
    engine.dead_letters.replay(letter.id)
    bank.broken = False
    assert {"charged": 7} == case.run().data
    assert {letter.id} == {work.idempotency_key for work in bank.asked}
    assert [{"by": "ann", "attempts": 3}, {"attempts": 6}] == [
        dict(event.details) for event in case.history() if event.kind is EventKind.ITEM_REPLAYED
    ]


@pytest.mark.parametrize("how", ["retry_failed", "retry", "replay"])
def test_every_way_to_try_again_gives_the_same(how: str) -> None:
    """`retry_failed`, `WorkItem.retry` and `replay` all give a fresh budget, and a fresh deadline."""
    engine, case, bank, clock = dead({**POLICY, "deadline": "10s"})
    clock.advance(60_000)
    if how == "retry_failed":
        assert 1 == case.retry_failed()
    elif how == "retry":
        case.work_item(1).retry()
    else:
        engine.dead_letters.replay(f"{case.id}:1")

    exhausted(engine, case, clock)

    assert 6 == len(bank.asked)


def test_replayed_external_work_is_offered_to_all() -> None:
    """External work that is replayed can be claimed by any worker, under its old name."""
    engine = Engine(clock=ManualClock(0))
    engine.register(line({"id": "L", "external": "labels"}))
    case = engine.create_case("p").run()
    (claim,) = engine.claim("labels", worker="w1")
    assert not claim.fail("no paper")

    engine.dead_letters.replay(claim.id, by="ann")

    (again,) = engine.claim("labels", worker="w2")
    assert (claim.id, 2) == (again.id, again.attempt)
    again.complete()
    assert "completed" == case.state


def test_work_of_people_that_failed_is_in_the_queue() -> None:
    """A person's failed work is listed, and goes back to that person when it is replayed."""
    engine = Engine(clock=ManualClock(0))
    engine.register(line({"id": "M", "manual": {"roles": ["clerk"]}}))
    case = engine.create_case("p").run()
    (item,) = case.work_items()
    item.start(by="ben")
    item.fail("file lost")
    (letter,) = engine.dead_letters.list()
    assert ("", "", "file lost", "Failed", "") == (
        letter.handler,
        letter.topic,
        letter.reason,
        letter.error,
        letter.digest,
    )

    engine.dead_letters.replay(letter.id)

    assert [("started", "ben")] == [(row.state, row.by) for row in engine.work_items()]
    case.work_item(1).complete(by="ben")
    assert ("completed", []) == (case.state, engine.dead_letters.list())


def test_an_error_that_is_caught_is_no_dead_letter() -> None:
    """What an error flow takes has failed and is taken care of: it is not in the queue."""
    engine = Engine()
    tree = {
        "id": "p",
        "tasks": [{"id": "a", "handler": "a"}, {"id": "b", "join": "xor"}],
        "conditions": ["bad"],
        "flows": [
            {"from": "start", "to": "a"},
            {"from": "a", "to": "b"},
            {"from": "a", "to": "bad", "on_error": "*"},
            {"from": "bad", "to": "b"},
            {"from": "b", "to": "end"},
        ],
    }
    engine.register(Specification.from_dict(tree))
    engine.handler("a")(lambda _: 1 / 0)

    assert ("completed", []) == (engine.create_case("p").run().state, engine.dead_letters.list())


def test_discarded_work_is_given_up_as_if_its_task_were_cancelled() -> None:
    """The task of a discarded item is withdrawn; other branches go on; the history says who and why."""
    engine = Engine(clock=ManualClock(0))
    tree = {
        "id": "p",
        "tasks": [
            {"id": "split", "split": "and"},
            {"id": "bad", "handler": "bad"},
            {"id": "good", "manual": {}},
            {"id": "join", "join": "or"},
        ],
        "flows": [
            {"from": "start", "to": "split"},
            {"from": "split", "to": "bad"},
            {"from": "split", "to": "good"},
            {"from": "bad", "to": "join"},
            {"from": "good", "to": "join"},
            {"from": "join", "to": "end"},
        ],
    }
    engine.register(Specification.from_dict(tree))
    engine.handler("bad")(lambda _: 1 / 0)
    case = engine.create_case("p")
    with pytest.raises(HandlerError):
        case.run()
    (letter,) = engine.dead_letters.list()

    engine.dead_letters.discard(letter.id, by="ann", reason="the customer left")

    assert [] == engine.dead_letters.list()
    assert ["good"] == case.enabled
    case.complete_task("good")
    assert "completed" == case.state
    assert [{"by": "ann", "reason": "the customer left"}] == [
        dict(event.details) for event in case.history() if event.kind is EventKind.ITEM_DISCARDED
    ]


@pytest.mark.parametrize(
    "multiple", [{}, {"threshold": 2}, {"threshold": 1, "remaining": "continue"}, {"detached": True}]
)
def test_only_the_discarded_instance_ends(multiple: dict[str, Any]) -> None:
    """Of several instances a discarded one ends without a result, and the others go on."""
    engine = Engine(clock=ManualClock(0))
    tasks = {"id": "L", "external": "labels", "multiple": {"count": 3, **multiple}}, {"id": "M", "manual": {}}
    engine.register(line(*tasks))
    case = engine.create_case("p").run()
    one, two, three = engine.claim("labels", worker="w", max=3)
    for claim in (one, two):
        claim.fail("no paper")
    for letter in engine.dead_letters.list():
        engine.dead_letters.discard(letter.id, by="ann", reason="spam")
    assert ["L#3"] == case.running

    three.complete()

    assert (["M"], []) == (case.enabled, case.running)
    case.complete_task("M")
    assert "completed" == case.state
    assert [] == engine.dead_letters.list() == list(engine.work_items())


@pytest.mark.parametrize("passed", [False, True])
def test_when_the_last_instance_is_discarded_control_passes(passed: bool) -> None:
    """A task all of whose instances are given up completes; one that has passed control before is free again."""
    engine = Engine(clock=ManualClock(0))
    multiple = {"count": 2, "threshold": 1, "remaining": "continue"} if passed else {"count": 2}
    engine.register(
        line({"id": "L", "external": "labels", "multiple": multiple}, {"id": "M", "manual": {}, "join": "xor"})
    )
    case = engine.create_case("p").run()
    one, two = engine.claim("labels", worker="w", max=2)
    one.complete() if passed else one.fail("no paper")
    two.fail("no paper")

    for letter in engine.dead_letters.list():
        engine.dead_letters.discard(letter.id, by="ann", reason="spam")

    assert (["M"], []) == (case.enabled, case.running)
    case.complete_task("M")
    assert "completed" == case.state


def test_a_discard_that_could_not_pass_control_is_refused() -> None:
    """Where control would pass and no predicate of the split holds, the discard is refused and nothing has happened."""
    tree = {
        "id": "p",
        "tasks": [{"id": "L", "external": "labels", "multiple": {"count": 1}, "split": "xor"}],
        "conditions": ["a", "b"],
        "flows": [
            {"from": "start", "to": "L"},
            {"from": "L", "to": "a", "when": "data.ok"},
            {"from": "L", "to": "b", "when": "!data.ok"},
            {"from": "a", "to": "E"},
            {"from": "b", "to": "E"},
            {"from": "E", "to": "end"},
        ],
    }
    tree["tasks"].append({"id": "E", "join": "xor"})  # type: ignore[attr-defined]
    engine = Engine(clock=ManualClock(0))
    engine.register(Specification.from_dict(tree))
    case = engine.create_case("p").run()
    (claim,) = engine.claim("labels", worker="w")
    claim.fail("no paper")

    with pytest.raises(DataError):
        engine.dead_letters.discard(claim.id, by="ann", reason="spam")

    assert (1, "failed") == (len(engine.dead_letters.list()), case.state)


def test_the_queue_is_paged_and_filtered() -> None:
    """A page begins behind the last one; specification, handler, topic and error narrow it, and a replay of all."""
    clock = ManualClock(0)
    engine = Engine(clock=clock)
    for spec_id in ("p", "q"):
        engine.register(line({"id": "h", "handler": spec_id}, {"id": "x", "external": spec_id}, spec_id=spec_id))

        @engine.handler(spec_id)
        def h(work: Work) -> None:
            if work.data["n"] % 2:
                raise KeyError(work.data["n"])

    for n in range(8):
        case = engine.create_case("pq"[n // 4], {"n": n})
        if n % 2:
            with pytest.raises(HandlerError):
                case.run()
        else:
            case.run()
            (claim,) = engine.claim(["p", "q"], worker="w")
            claim.fail("no", error="Nope")
    letters = engine.dead_letters

    first = letters.list(limit=3)
    rest = letters.list(after=first[-1].id)

    assert list(letters) == first + rest
    assert (3, 5) == (len(first), len(rest))
    assert (4, 2, 2, 4, 0, 0) == (
        len(letters.list(spec_id="p")),
        len(letters.list(handler="q")),
        len(letters.list(topic="q")),
        len(letters.list(error="KeyError")),
        len(letters.list(error="KeyError", topic="q")),
        len(letters.list(limit=0)),
    )
    assert 2 == letters.replay_all(spec_id="q", error="Nope", by="ann")
    assert 6 == len(letters.list())
    assert 2 == len(engine.claim(["p", "q"], worker="w", max=9))


def test_what_is_no_dead_letter_is_refused() -> None:
    """An unknown name, an item that has not failed, and a discard without a name or reason are refused."""
    engine, case, bank, _ = dead()
    letters, letter = engine.dead_letters, f"{case.id}:1"
    for name in ("x", "x:y", ":1"):
        with pytest.raises(UnknownWorkItem, match="names no dead letter"):
            letters.get(name)
    with pytest.raises(UnknownCase):
        letters.replay("nobody:1")
    with pytest.raises(UnknownWorkItem):
        letters.discard(f"{case.id}:9", by="ann", reason="spam")
    for missing in ({"by": "", "reason": "spam"}, {"by": "ann", "reason": ""}):
        with pytest.raises(ValueError, match="say who discards it"):
            letters.discard(letter, **missing)
    letters.replay(letter)
    with pytest.raises(IllegalTransition, match="cannot replay work item charge: it is started"):
        letters.replay(letter)
    with pytest.raises(UnknownWorkItem, match="has not failed for good"):
        letters.get(letter)
    bank.broken = False
    assert "completed" == case.run().state


def test_an_input_mapping_that_fails_shows_the_data_of_the_case() -> None:
    """Where the mapping is what failed, the payload is the case's data."""
    engine = Engine(clock=ManualClock(0))
    engine.register(line({"id": "a", "handler": "a", "input": {"x": "data.missing"}}))
    engine.handler("a")(lambda _: None)
    case = engine.create_case("p", {"n": 1})
    with pytest.raises(HandlerError):
        case.run()

    assert {"n": 1} == engine.dead_letters.get(f"{case.id}:1").data


def test_an_instance_shows_its_element() -> None:
    """The dead letter of an instance has its element and position."""
    engine = Engine(clock=ManualClock(0))
    engine.register(line({"id": "a", "handler": "a", "multiple": {"for_each": "data.lines"}}))

    @engine.handler("a")
    def a(work: Work) -> None:
        if work.index == 1:
            raise ValueError

    case = engine.create_case("p", {"lines": ["x", "y"]})
    with pytest.raises(HandlerError):
        case.run()

    (letter,) = engine.dead_letters.list()
    shown = engine.dead_letters.get(letter.id)
    assert ("a#2", "y", 1) == (shown.path, shown.item, shown.index)
    assert "ValueError" == letter.reason


@pytest.mark.parametrize("scheme", ["", "log:"], ids=["sqlite", "log"])
@pytest.mark.parametrize("snapshot", [False, True])
def test_dead_letters_survive_a_restart(
    tmp_path: Path, scheme: str, snapshot: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a restart, from journal or snapshot, the queue is as it was, and a replay has all attempts."""
    monkeypatch.setattr("knhk._recording.SNAPSHOT_EVERY", 1 if snapshot else 256)
    path, clock, bank = f"{scheme}{tmp_path / 'cases'}", ManualClock(0), Bank()
    with Engine(path, clock=clock) as engine:
        engine.register(line({"id": "charge", "handler": "charge", "retry": POLICY}))
        engine.handler("charge")(bank)
        exhausted(engine, engine.create_case("p"), clock)
        before = engine.dead_letters.list()

    with Engine(path, clock=clock) as engine:
        engine.handler("charge")(bank)
        assert before == engine.dead_letters.list()
        assert before == [attrs.evolve(engine.dead_letters.get(before[0].id), data=None)]
        engine.dead_letters.replay(before[0].id)
        engine.evict()
        exhausted(engine, engine.case(before[0].case_id), clock)
        assert 6 == len(bank.asked)
        (letter,) = engine.dead_letters.list()
        assert 3 == letter.attempts


def test_work_that_failed_in_an_older_history_appears_with_the_next_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failed work of which the store has no row, and the history no reason, is listed once its case is committed again."""
    store, clock = MemoryStore(), ManualClock(0)
    with monkeypatch.context() as older:
        for place in ("knhk._cache.is_dead", "knhk._commits.is_dead"):
            older.setattr(place, lambda *_: False)
        older.setattr(CaseState, "_keep_failure", lambda *_: None)
        engine = Engine(store, clock=clock)
        tasks = [{"id": "a", "handler": "a"}, {"id": "b", "manual": {}}]
        tree = {
            "id": "p",
            "tasks": [{"id": "s", "split": "and"}, *tasks, {"id": "j", "join": "and"}],
            "flows": [
                {"from": "start", "to": "s"},
                {"from": "s", "to": "a"},
                {"from": "s", "to": "b"},
                {"from": "a", "to": "j"},
                {"from": "b", "to": "j"},
                {"from": "j", "to": "end"},
            ],
        }
        engine.register(Specification.from_dict(tree))
        engine.handler("a")(lambda _: 1 / 0)
        case = engine.create_case("p")
        with pytest.raises(HandlerError):
            case.run()
        assert [] == engine.dead_letters.list()
    engine.evict()
    monkeypatch.setattr(CaseState, "_keep_failure", lambda *_: None)
    assert [] == engine.dead_letters.list()

    case.start_task("b", by="ann")

    (letter,) = engine.dead_letters.list()
    assert ("a", "", "", None, 1) == (letter.path, letter.reason, letter.error, letter.at, letter.attempts)


def test_a_replay_that_loses_a_race_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """When another engine moves the case at the same moment, the replay is made on what the store has then."""
    engine, case, _, _ = dead()
    losses, whole = [1], engine._store.commit

    def commit(commits: Any) -> None:
        if losses[0]:
            losses[0] -= 1
            raise ConcurrentUpdate("somebody was faster")
        whole(commits)

    monkeypatch.setattr(engine._store, "commit", commit)

    engine.dead_letters.replay(f"{case.id}:1", by="ann")

    assert ("running", []) == (case.state, engine.dead_letters.list())


def test_a_suspended_case_keeps_its_dead_letters() -> None:
    """What cannot be replayed now is passed over by a replay of all, and stays."""
    engine = Engine(clock=ManualClock(0))
    tree = {
        "id": "p",
        "tasks": [{"id": "s", "split": "and"}, {"id": "a", "handler": "a"}, {"id": "b", "manual": {}}],
        "flows": [
            {"from": "start", "to": "s"},
            {"from": "s", "to": "a"},
            {"from": "s", "to": "b"},
            {"from": "a", "to": "j"},
            {"from": "b", "to": "j"},
            {"from": "j", "to": "end"},
        ],
    }
    tree["tasks"].append({"id": "j", "join": "and"})  # type: ignore[attr-defined]
    engine.register(Specification.from_dict(tree))
    engine.handler("a")(lambda _: 1 / 0)
    case = engine.create_case("p")
    with pytest.raises(HandlerError):
        case.run()
    case.suspend()

    assert 0 == engine.dead_letters.replay_all(by="ann")

    assert 1 == len(engine.dead_letters.list())
    case.resume()
    assert 1 == engine.dead_letters.replay_all(by="ann")


@pytest.mark.parametrize("kind", ["handler", "external"])
def test_poison_among_ten_thousand_fails_only_itself(kind: str) -> None:
    """Of 10,000 cases with 1 % poison 9,900 complete and 100 are dead after exactly all attempts; a replay completes them."""
    clock, broken = ManualClock(0), [True]
    runs: Counter[str] = Counter()
    engine = Engine(clock=clock, cache=500, hot=100)
    work = {"handler": "h"} if kind == "handler" else {"external": "t"}
    engine.register(line({"id": "A", **work, "retry": POLICY}))

    def poisoned(n: int) -> bool:
        return broken[0] and n % 100 == 0

    @engine.handler("h")
    def h(work: Work) -> dict[str, Any]:
        runs[work.idempotency_key] += 1
        if poisoned(work.data["n"]):
            raise OSError("poison")
        return {"by": work.attempt}

    def all_work() -> None:
        for _ in range(3):
            if kind == "handler":
                try:
                    engine.run_pending()
                except HandlerError as error:
                    assert 99 == len(getattr(error, "__notes__", ()))
            while claims := engine.claim("t", worker="w", max=100):
                for claim in claims:
                    runs[claim.id] += 1
                    if poisoned(claim.data["n"]):
                        claim.fail("poison")
                    else:
                        claim.complete({"by": claim.attempt})
            clock.advance(5_000)
            engine.tick()

    cases = engine.create_many("p", ({"n": n} for n in range(CASES)))
    for case in cases:
        case.start()
    all_work()

    counts = Counter(header.state for header in engine.cases())
    assert {"completed": CASES - 100, "failed": 100} == counts
    letters = list(engine.dead_letters)
    assert 100 == len(letters)
    assert {3} == {letter.attempts for letter in letters} == {runs[letter.id] for letter in letters}
    assert {1} == {count for name, count in runs.items() if name not in {letter.id for letter in letters}}

    broken[0] = False
    assert 100 == engine.dead_letters.replay_all(by="ann")
    all_work()

    assert {"completed": CASES} == Counter(header.state for header in engine.cases())
    assert [] == engine.dead_letters.list() == list(engine.work_items())
    assert {1: CASES - 100, 4: 100} == Counter(runs.values())
    for case in cases[::50]:
        assert ["A"] == [event.path for event in case.history() if event.kind is EventKind.TASK_COMPLETED]


def test_a_dead_letter_moves_with_its_migrated_case() -> None:
    """After a migration the letter has its reason and attempts, and the new version."""
    engine, case, _, _ = dead()
    engine.register(line({"id": "charge", "handler": "charge", "retry": POLICY}, {"id": "B"}, version="2"))
    (before,) = engine.dead_letters.list()

    case.migrate("2")

    assert [attrs.evolve(before, spec_version="2")] == engine.dead_letters.list()
