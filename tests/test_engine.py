"""The driver: commands on cases, handlers, restarts, and what happens when the store or a handler fails."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from knhk import Engine, Limits, Work, build
from knhk._recording import SNAPSHOT_EVERY
from knhk.system import SystemClock, TimeOrderedIds
from knhk.errors import (
    ConcurrentUpdate,
    DataError,
    HandlerError,
    IdempotencyConflict,
    IllegalTransition,
    LimitExceeded,
    QuarantinedCase,
    SpecificationConflict,
    SpecificationError,
    StoreUnavailable,
    UnknownCase,
    UnknownSpecification,
)
from knhk.journal import decode_batch
from knhk.spec import Specification
from knhk.stores import MemoryStore
from knhk.testing.clock import ManualClock


def order() -> Specification:
    """Two handlers, a choice on what the first one says, and a person's task on one of the ways."""
    net = build("order")
    check = net.task("check", handler="check", split="xor")
    approve = net.task("approve", manual="boss")
    ship = net.task("ship", handler="ship", join="xor")
    net.start.to(check)
    check.to(approve, when="data.amount > 100")
    check.to(ship, default=True)
    approve.to(ship)
    net.sequence(ship, net.end)
    return net.specification()


def manual(*names: str, spec_id: str = "manual") -> Specification:
    """A sequence of tasks for people."""
    net = build(spec_id)
    tasks = [net.task(name, manual=True) for name in names]
    net.sequence(net.start, *tasks, net.end)
    return net.specification()


def with_handlers(engine: Engine, log: list[Work] | None = None) -> Engine:
    """Register the order and handlers that note their work."""
    seen = [] if log is None else log
    engine.register(order())

    @engine.handler("check")
    def check(work: Work) -> dict[str, Any]:
        seen.append(work)
        return {"amount": work.data.get("amount", 0), "checked": True}

    @engine.handler("ship")
    def ship(work: Work) -> None:
        seen.append(work)

    return engine


class FaultyStore:
    """A real store whose n-th call fails before it does anything."""

    def __init__(self, store: MemoryStore, failing: int) -> None:
        self.store = store
        self.left = failing

    def __getattr__(self, name: str) -> Any:
        function = getattr(self.store, name)

        def call(*arguments: Any, **named: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                raise StoreUnavailable("out of reach")
            return function(*arguments, **named)

        return call


# --- handlers ---------------------------------------------------------------------------------------------------------


def test_a_case_runs_through_its_handlers() -> None:
    """`run` starts the case and its handlers in turn, hands them data, and keeps what they return."""
    log: list[Work] = []
    with with_handlers(Engine(), log) as engine:
        case = engine.create_case("order", {"amount": 7})
        assert case.state == "created"
        assert case.run().state == "completed"
        assert case.data == {"amount": 7, "checked": True}
        assert [(work.task, work.attempt, work.case_id) for work in log] == [
            ("check", 1, case.id),
            ("ship", 1, case.id),
        ]
        assert len({work.idempotency_key for work in log}) == 2
        assert case.id in repr(case)


def test_a_case_waits_for_people_and_goes_on() -> None:
    """A case with a person's task waits there, shows it in the worklist, and runs on once it is done."""
    with with_handlers(Engine()) as engine:
        case = engine.create_case("order", {"amount": 700}).run()
        assert (case.state, case.enabled, case.running) == ("running", ["approve"], [])
        (row,) = engine.work_items(state="offered")
        assert (row.case_id, row.path, row.roles) == (case.id, "approve", ("boss",))
        case.start_task("approve", by="ann")
        assert [row.path for row in engine.work_items(by="ann", state="started")] == ["approve"]
        case.complete_task("approve", {"ok": True}, by="ann")
        assert list(engine.work_items()) == []
        assert case.run().state == "completed"
        assert case.data["ok"] is True


def test_a_failing_handler_fails_its_item_and_can_be_tried_again() -> None:
    """What a handler raises is the cause of a HandlerError; after `retry_failed` the same work is attempt 2."""
    attempts: list[tuple[int, str]] = []
    with with_handlers(Engine()) as engine:

        @engine.handler("ship")
        def ship(work: Work) -> None:
            attempts.append((work.attempt, work.idempotency_key))
            if work.attempt < 3:
                raise OSError("no lorry")

        case = engine.create_case("order")
        with pytest.raises(HandlerError, match="ship.*no lorry") as caught:
            case.run()
        assert isinstance(caught.value.__cause__, OSError)
        assert case.state == "failed"
        assert case.run().state == "failed"
        assert case.retry_failed() == 1
        with pytest.raises(HandlerError):
            case.run()
        assert case.retry_failed() == 1
        assert case.run().state == "completed"
        assert [attempt for attempt, _ in attempts] == [1, 2, 3]
        assert len({key for _, key in attempts}) == 1


@pytest.mark.parametrize("result", [{"x": float("nan")}, {"x": {1, 2}}, ["no mapping"], {"x": "\ud800"}])
def test_a_result_that_is_no_data_fails_the_item(result: Any) -> None:
    """A handler's result that is no JSON mapping fails its item and leaves the data as it was."""
    with with_handlers(Engine()) as engine:
        engine.handler("check")(lambda _: result)
        case = engine.create_case("order", {"amount": 1})
        with pytest.raises(HandlerError) as caught:
            case.run()
        assert isinstance(caught.value.__cause__, DataError)
        assert (case.state, case.data) == ("failed", {"amount": 1})


def test_a_missing_handler_fails_the_item() -> None:
    """A task whose handler nobody registered fails, and can be tried again once it is there."""
    with Engine() as engine:
        engine.register(order())
        case = engine.create_case("order")
        with pytest.raises(HandlerError, match="no handler 'check'"):
            case.run()
        with_handlers(engine)
        case.retry_failed()
        assert case.run().state == "completed"


def test_other_work_is_done_before_a_handlers_failure_is_raised() -> None:
    """With two branches, the failure of one does not keep the other from being done."""
    net = build("both")
    split = net.task("split", split="and")
    one, two = net.task("one", handler="bad"), net.task("two", handler="good")
    join = net.task("join", join="and")
    net.start.to(split)
    split.to(one)
    split.to(two)
    one.to(join)
    two.to(join)
    join.to(net.end)
    done: list[str] = []
    with Engine() as engine:
        engine.register(net.specification())
        engine.handler("good")(lambda work: done.append(work.task))
        case = engine.create_case("both")
        with pytest.raises(HandlerError):
            case.run()
        assert done == ["two"]
        engine.handler("bad")(lambda _: None)
        case.retry_failed()
        assert case.run().state == "completed"


def test_a_handlers_data_is_its_own_copy() -> None:
    """What a handler does to the data that it was given does not reach the case."""
    with with_handlers(Engine()) as engine:

        @engine.handler("check")
        def check(work: Work) -> None:
            work.data["list"].append(1)
            work.data["amount"] = 1_000

        case = engine.create_case("order", {"list": [], "amount": 1}).run()
        assert case.data == {"list": [], "amount": 1}
        case.data["list"].append(2)
        assert case.data["list"] == []


def test_multiple_instances_get_their_element_and_position() -> None:
    """Each instance of a `for_each` task gets its element and its index, and an ordinary task gets neither."""
    net = build("mail")
    net.sequence(net.start, net.task("send", handler="send", multiple={"for_each": "data.to"}), net.end)
    got: list[tuple[Any, int | None, str]] = []
    with Engine() as engine:
        engine.register(net.specification())
        engine.handler("send")(lambda work: got.append((work.item, work.index, work.task)))
        assert engine.create_case("mail", {"to": ["ann", {"n": 1}]}).run().state == "completed"
    assert got == [("ann", 0, "send#1"), ({"n": 1}, 1, "send#2")]


def test_results_of_replayable_tasks_share_commits() -> None:
    """A chain of replayable tasks takes fewer commits than the same chain of ordinary ones."""
    counts = {}
    for replayable in (True, False):
        net = build("chain")
        tasks = [net.task(f"t{n}", handler="noop", replayable=replayable) for n in range(10)]
        net.sequence(net.start, *tasks, net.end)
        store = MemoryStore()
        store.forgetful = False
        with Engine(store) as engine:
            engine.register(net.specification())
            engine.handler("noop")(lambda _: None)
            case = engine.create_case("chain").run()
            assert case.state == "completed"
            counts[replayable] = len(store.history(case.id))
            engine.evict()
            assert case.state == "completed"
    assert counts[True] < counts[False] / 3


@pytest.mark.parametrize(("replayable", "commits"), [(False, 12), (True, 2)])
def test_a_case_of_ten_handlers_takes_no_more_commits_than_promised(replayable: bool, commits: int) -> None:
    """On a store that lasts: one commit for the creation, one before each handler, and one for the last result."""

    class Lasting(MemoryStore):
        forgetful = False

    store = Lasting()
    net = build("ten")
    tasks = [net.task(f"t{n}", handler="noop", replayable=replayable) for n in range(10)]
    net.sequence(net.start, *tasks, net.end)
    # A batch has one time, so a clock that ticks in between would make two of one commit.
    with Engine(store, clock=ManualClock()) as engine:
        engine.register(net.specification())
        engine.handler("noop")(lambda _: None)

        case = engine.create_case("ten").run()

        assert ("completed", commits) == (case.state, len(store.history(case.id)))


def test_a_handler_may_use_other_cases() -> None:
    """A handler that creates and runs another case of the same engine does not stand in its own way."""
    with with_handlers(Engine()) as engine:
        net = build("outer")
        net.sequence(net.start, net.task("call", handler="call"), net.end)
        engine.register(net.specification())
        engine.handler("call")(lambda _: {"inner": engine.create_case("order").run().state})
        assert engine.create_case("outer").run().data == {"inner": "completed"}


# --- cases and specifications -----------------------------------------------------------------------------------------


def test_the_same_idempotency_key_gives_the_same_case() -> None:
    """The same request with the same key is one case; another request with that key is refused."""
    with with_handlers(Engine()) as engine:
        first = engine.create_case("order", {"amount": 1}, idempotency_key="k")
        assert engine.create_case("order", {"amount": 1}, idempotency_key="k").id == first.id
        with pytest.raises(IdempotencyConflict):
            engine.create_case("order", {"amount": 2}, idempotency_key="k")
        assert engine.create_case("order", {"amount": 2}, idempotency_key="l").id != first.id
        assert len(list(engine.cases())) == 2


def test_an_idempotency_key_holds_across_engines(tmp_path: Path) -> None:
    """A key that one engine used is known to an engine that opens the file later."""
    ids = []
    for _ in range(2):
        with with_handlers(Engine(str(tmp_path / "cases.db"), durability="off")) as engine:
            ids.append(engine.create_case("order", {"amount": 1}, idempotency_key="k").id)
    assert ids[0] == ids[1]


class LateStore(MemoryStore):
    """A store in which the key appears only between the question for it and the commit."""

    blind = 0

    def find_idempotent(self, key: str) -> tuple[str, str] | None:
        """Answer as if the key were not there, as often as asked for."""
        self.blind -= 1
        return None if self.blind >= 0 else super().find_idempotent(key)


def test_two_creations_with_one_key_at_the_same_time_are_one_case() -> None:
    """Who loses the race for a key gets the winner's case, or a refusal if the request was another."""
    store = LateStore()
    with with_handlers(Engine(store)) as engine:
        first = engine.create_case("order", {"amount": 1}, idempotency_key="k")
        store.blind = 1
        assert engine.create_case("order", {"amount": 1}, idempotency_key="k").id == first.id
        store.blind = 1
        with pytest.raises(IdempotencyConflict):
            engine.create_case("order", {"amount": 2}, idempotency_key="k")
        store.blind = 2
        with pytest.raises(IdempotencyConflict):
            engine.create_case("order", {"amount": 1}, idempotency_key="k")
        assert len(list(engine.cases())) == 1


@pytest.mark.parametrize("data", [{"x": float("inf")}, {"x": object()}, {"x": "\udfff"}, [1], "text", {"x": {1}}])
def test_a_case_with_data_that_is_no_json_is_refused(data: Any) -> None:
    """Case data that is no JSON mapping is refused and no case appears."""
    with with_handlers(Engine()) as engine:
        with pytest.raises(DataError):
            engine.create_case("order", data)
        assert list(engine.cases()) == []


def test_unknown_names_are_refused() -> None:
    """A specification or case that is not there is named in the refusal."""
    with with_handlers(Engine()) as engine:
        with pytest.raises(UnknownSpecification, match="nothing"):
            engine.create_case("nothing")
        with pytest.raises(UnknownSpecification):
            engine.create_case("order", version="9")
        with pytest.raises(UnknownCase):
            engine.case("nowhere")


def test_registering_again_and_otherwise() -> None:
    """The same content is the same registration; other content under the same version is refused."""
    with Engine() as engine:
        first = engine.register(manual("A"))
        again = engine.register(manual("A"))
        assert (first.new, again.new) == (True, False)
        assert (first.spec_id, first.version, first.content_hash) == ("manual", "1", again.content_hash)
        with pytest.raises(SpecificationConflict):
            engine.register(manual("B"))


def test_a_refused_specification_names_every_place() -> None:
    """A schema that is none is refused at registration, every place named, and nothing is registered."""
    net = build("bad", data={"type": "objekt", "required": 3})
    net.sequence(net.start, net.task("work", handler="h"), net.end)
    with Engine() as engine:
        with pytest.raises(SpecificationError) as caught:
            engine.register(net.specification())
        places = [problem.place for problem in caught.value.problems]
        assert sorted(places) == ["data.required", "data.type"]
        with pytest.raises(UnknownSpecification):
            engine.create_case("bad")


def test_cases_and_work_items_are_listed_over_pages() -> None:
    """More cases and items than a page holds are all listed, in order and without doubles, by state and specification."""
    with Engine(durability="off") as engine:
        engine.register(manual("A"))
        engine.register(manual("B", spec_id="other"))
        ids = [engine.create_case("manual").id for _ in range(230)]
        other = engine.create_case("other").id
        for case_id in ids:
            engine.case(case_id).start()
        assert sorted([*ids, other]) == [header.case_id for header in engine.cases()]
        assert [header.case_id for header in engine.cases(state="created")] == [other]
        assert len(list(engine.cases(spec_id="manual", state="running"))) == 230
        rows = list(engine.work_items())
        assert [row.case_id for row in rows] == sorted(ids)
        assert list(engine.work_items(by="nobody")) == []


def test_suspend_resume_and_cancel() -> None:
    """A suspended case refuses work until it is resumed; a cancelled one has nothing left."""
    with Engine() as engine:
        engine.register(manual("A", "B"))
        case = engine.create_case("manual")
        case.start()
        case.suspend()
        assert case.state == "suspended"
        with pytest.raises(IllegalTransition):
            case.complete_task("A")
        case.resume()
        case.complete_task("A")
        case.cancel_task("B")
        assert case.state == "deadlocked"
        case.cancel()
        assert (case.state, case.enabled, list(engine.work_items())) == ("cancelled", [], [])
        with pytest.raises(IllegalTransition):
            case.cancel()


def test_a_refused_command_leaves_the_case_and_the_store_alone() -> None:
    """A completion whose split has no way is refused; neither data nor state nor history change."""
    net = build("choice")
    choose = net.task("choose", manual=True, split="xor")
    one, two = net.task("one", manual=True), net.task("two", manual=True)
    net.start.to(choose)
    choose.to(one, when="data.x == 1")
    choose.to(two, when="data.x == 2")
    net.flow(one, "both_end")
    net.flow(two, "both_end")
    net.condition("both_end")
    net.sequence("both_end", net.task("last"), net.end)
    store = MemoryStore()
    with Engine(store) as engine:
        engine.register(net.specification())
        case = engine.create_case("choice")
        case.start()
        before = (case.enabled, case.running, case.data, store.history(case.id))
        with pytest.raises(DataError):
            case.complete_task("choose", {"x": 3})
        assert (case.enabled, case.running, case.data, store.history(case.id)) == before
        case.complete_task("choose", {"x": 2})
        assert case.enabled == ["two"]


def test_dynamic_instances_through_the_engine() -> None:
    """Instances can be added, closed and forced to complete."""
    net = build("mi")
    net.sequence(
        net.start,
        net.task("work", manual=True, multiple={"count": 2, "maximum": 4, "creation": "dynamic"}),
        net.task("after", manual=True),
        net.end,
    )
    with Engine() as engine:
        engine.register(net.specification())
        case = engine.create_case("mi")
        case.start()
        case.start_task("work")
        case.add_instance("work")
        assert case.running == ["work#1", "work#2", "work#3"]
        case.close_instances("work")
        with pytest.raises(IllegalTransition):
            case.add_instance("work")
        case.complete_task("work#2")
        case.complete_instances("work")
        assert (case.running, case.enabled) == ([], ["after"])


# --- events and timers ------------------------------------------------------------------------------------------------


def waiting(mode: str) -> Specification:
    """Two tasks for people, the second one waiting for an event."""
    net = build(f"waiting-{mode}")
    first = net.task("first", manual=True)
    second = net.task("second", manual=True, trigger={"event": "go", "mode": mode})
    net.sequence(net.start, first, second, net.end)
    return net.specification()


@pytest.mark.parametrize(("mode", "kept"), [("transient", 0), ("persistent", 1)])
def test_an_event_before_its_time(mode: str, kept: int) -> None:
    """A transient event that nobody waits for is lost, a persistent one is kept, with its data if it was kept."""
    with Engine() as engine:
        engine.register(waiting(mode))
        case = engine.create_case(f"waiting-{mode}")
        case.start()
        assert case.send_event("go", {"n": 1}) == kept
        assert case.send_event("unheard") == 0
        assert case.data == ({"n": 1} if kept else {})
        case.complete_task("first")
        assert case.enabled == (["second"] if kept else [])
        if not kept:
            assert case.state == "running"
            assert case.send_event("go") == 1
        engine.evict()
        case.complete_task("second")
        assert case.state == "completed"


def timed() -> Specification:
    """A person's task that is overtaken by a timer."""
    net = build("timed")
    wait = net.condition("wait")
    answer = net.task("answer", manual=True)
    expire = net.task("expire", timer="10s")
    net.start.to(net.task("open")).to(wait)
    wait.to(answer).to(net.end)
    wait.to(expire).to(net.end)
    return net.specification()


def test_timers_run_when_they_are_due() -> None:
    """A timer runs at `tick` once its time has come, not before, and not twice."""
    clock = ManualClock()
    with Engine(clock=clock) as engine:
        engine.register(timed())
        case = engine.create_case("timed")
        case.start()
        clock.advance(9_999)
        assert engine.tick() == 0
        clock.advance(1)
        assert engine.tick() == 1
        assert case.state == "completed"
        assert engine.tick() == 0


def test_a_timer_that_is_no_longer_wanted_does_not_run() -> None:
    """A timer whose token is gone is cleared; a clock that jumps back runs nothing early; `tick` takes a time."""
    clock = ManualClock()
    with Engine(clock=clock) as engine:
        engine.register(timed())
        answered, other = engine.create_case("timed"), engine.create_case("timed")
        answered.start()
        other.start()
        answered.complete_task("answer")
        clock.advance(-5_000)
        assert engine.tick() == 0
        assert engine.tick(clock.now() + 15_000) == 1
        assert (answered.state, other.state) == ("completed", "completed")


def test_timers_survive_a_restart(tmp_path: Path) -> None:
    """A timer set before the restart runs after it, over more cases than one page."""
    clock = ManualClock()
    path = str(tmp_path / "cases.db")
    with Engine(path, durability="off", clock=clock) as engine:
        engine.register(timed())
        for _ in range(120):
            engine.create_case("timed").start()
    clock.advance(10_000)
    with Engine(path, durability="off", clock=clock) as engine:
        assert engine.tick() == 120
        assert {header.state for header in engine.cases()} == {"completed"}


def test_a_suspended_cases_timer_waits() -> None:
    """A due timer of a suspended case runs only after it was resumed."""
    clock = ManualClock()
    with Engine(clock=clock) as engine:
        engine.register(timed())
        case = engine.create_case("timed")
        case.start()
        case.suspend()
        clock.advance(20_000)
        assert engine.tick() == 0
        case.resume()
        assert engine.tick() == 1
        assert case.state == "completed"


# --- restart, cache, concurrency --------------------------------------------------------------------------------------


def test_a_case_goes_on_after_a_restart(tmp_path: Path) -> None:
    """Closing the file in the middle of a case and opening it again changes nothing about the case."""
    path = str(tmp_path / "cases.db")
    with with_handlers(Engine(path)) as engine:
        case = engine.create_case("order", {"amount": 500}).run()
        case.start_task("approve", by="ann")
        before = (case.state, case.enabled, case.running, case.data)
        rows = list(engine.work_items())
    with with_handlers(Engine(f"sqlite:///{path}")) as engine:
        case = engine.case(case.id)
        assert (case.state, case.enabled, case.running, case.data) == before
        assert list(engine.work_items()) == rows
        case.complete_task("approve")
        assert engine.run_pending() == 1
        assert case.state == "completed"
        assert engine.run_pending() == 0


class Cut(BaseException):
    """What ends a handler as the end of the process would."""


def test_a_handler_that_was_cut_off_is_attempted_again(tmp_path: Path) -> None:
    """After a restart in the middle of a handler, the same work is done again as a later attempt with the same key."""
    path = str(tmp_path / "cases.db")
    log: list[Work] = []
    with with_handlers(Engine(path), log) as engine:

        @engine.handler("check")
        def check(work: Work) -> None:
            log.append(work)
            raise Cut

        case = engine.create_case("order")
        with pytest.raises(Cut):
            case.run()
    with with_handlers(Engine(path), log) as engine:
        assert engine.run_pending() == 1
        assert engine.case(case.id).state == "completed"
    assert [(work.task, work.attempt) for work in log] == [("check", 1), ("check", 2), ("ship", 1)]
    assert log[0].idempotency_key == log[1].idempotency_key


def test_run_pending_goes_over_pages() -> None:
    """All cases with waiting work are driven, also when they are more than a page."""
    with with_handlers(Engine()) as engine:
        for _ in range(150):
            engine.create_case("order").start()
        assert engine.run_pending() == 150
        assert {header.state for header in engine.cases()} == {"completed"}


def test_few_cases_in_memory_are_enough() -> None:
    """With a cache of two, five cases worked on in turn come to the same end as with room for all."""
    with Engine(cache=2) as engine:
        engine.register(manual("A", "B", "C"))
        cases = [engine.create_case("manual") for _ in range(5)]
        for case in cases:
            case.start()
        for task in "ABC":
            for case in cases:
                assert case.enabled == [task]
                case.start_task(task)
                assert len(engine._cache) <= 2
            for case in reversed(cases):
                case.complete_task(task, {task: 1})
        assert {case.state for case in cases} == {"completed"}
        assert all(case.data == {"A": 1, "B": 1, "C": 1} for case in cases)
        engine.evict(cases[0].id)
        engine.evict("not there")


def test_a_case_in_use_stays_where_others_make_room() -> None:
    """Beyond the cache's size the cases go that nobody uses, the longest unused first, past one that is kept."""
    with Engine(cache=2) as engine:
        engine.register(manual("A"))
        cases = [engine.create_case("manual") for _ in range(2)]
        with cases[0].kept():
            cases += [engine.create_case("manual") for _ in range(3)]
            held = list(engine._cache._residents)

    assert [cases[0].id, cases[4].id] == held


@pytest.mark.parametrize("end", ["complete", "cancel"])
def test_a_case_that_is_over_keeps_no_records(end: str) -> None:
    """What could be undone of a case goes with its last command; its history is the store's, and refusals change nothing."""
    with Engine() as engine:
        engine.register(manual("A"))
        case = engine.create_case("manual", {"n": 1})
        case.start()
        if end == "complete":
            case.complete_task("A", {"a": 1})
        else:
            case.cancel()
        before = (case.state, case.data, case.history())
        with pytest.raises(IllegalTransition):
            case.suspend()

        assert [] == engine._cache._residents[case.id].case._log
        assert before == (case.state, case.data, case.history())
        engine.evict()
        assert before == (case.state, case.data, case.history())


def test_a_long_case_is_loaded_from_its_snapshot(tmp_path: Path) -> None:
    """A case with more records than a snapshot's distance is the same after a reload, from few batches."""
    net = build("loop")
    again = net.condition("again")
    work = net.task("work", manual=True, split="xor")
    net.start.to(net.task("open")).to(again)
    again.to(work)
    work.to(again, default=True)
    work.to(net.end, when="has(data.stop)")
    path = str(tmp_path / "cases.db")
    with Engine(path, durability="off") as engine:
        engine.register(net.specification())
        case = engine.create_case("loop")
        case.start()
        for n in range(SNAPSHOT_EVERY):
            case.complete_task("work", {"n": n})
        stored = engine._store.load(case.id)
        assert stored.snapshot is not None
        assert len(stored.batches) < SNAPSHOT_EVERY
        assert len(engine._store.history(case.id)) == SNAPSHOT_EVERY + 2
        before = (case.state, case.enabled, case.data)
        engine.evict()
        assert (case.state, case.enabled, case.data) == before
        case.complete_task("work", {"stop": True})
        assert case.state == "completed"


def test_two_engines_on_one_file_do_not_overwrite_each_other(tmp_path: Path) -> None:
    """Who comes second is told ConcurrentUpdate and nothing happened; the same command again then works."""
    path = str(tmp_path / "cases.db")
    net = build("two")
    split, join = net.task("split", split="and"), net.task("join", join="and")
    net.start.to(split)
    for name in ("a", "b"):
        net.sequence(split, net.task(name, manual=True), join)
    net.sequence(join, net.end)
    with Engine(path, durability="off") as one, Engine(path, durability="off") as two:
        one.register(net.specification())
        mine = one.create_case("two")
        mine.start()
        yours = two.case(mine.id)
        assert yours.enabled == ["a", "b"]
        mine.complete_task("a", {"a": 1})
        with pytest.raises(ConcurrentUpdate):
            yours.complete_task("b", {"b": 1})
        assert (yours.enabled, yours.data) == (["b"], {"a": 1})
        yours.complete_task("b", {"b": 1})
        assert (yours.state, yours.data) == ("completed", {"a": 1, "b": 1})
        with pytest.raises(ConcurrentUpdate):
            mine.cancel()
        assert mine.state == "completed"


# --- failures of the store --------------------------------------------------------------------------------------------


def test_a_damaged_case_is_set_aside(tmp_path: Path) -> None:
    """A case with a damaged batch is quarantined with its reason, and the other cases go on."""
    path = tmp_path / "cases.db"
    clock = ManualClock()
    with Engine(str(path), clock=clock) as engine:
        engine.register(timed())
        bad, good = engine.create_case("timed"), engine.create_case("timed")
        bad.start()
        good.start()
    connection = sqlite3.connect(path)
    with connection:
        row, version, batch = connection.execute(
            "SELECT case_row, version, batch FROM journal WHERE version = 2 ORDER BY case_row LIMIT 1"
        ).fetchone()
        damaged = batch[:-1] + bytes([batch[-1] ^ 1])
        connection.execute("UPDATE journal SET batch = ? WHERE case_row = ? AND version = ?", (damaged, row, version))
    connection.close()
    clock.advance(10_000)
    with Engine(str(path), clock=clock) as engine:
        assert engine.tick() == 1
        assert engine.case(good.id).state == "completed"
        with pytest.raises(QuarantinedCase, match="set aside.*damaged"):
            print(engine.case(bad.id).state)
        with pytest.raises(QuarantinedCase):
            engine.case(bad.id).complete_task("answer")
        header = next(each for each in engine.cases() if each.case_id == bad.id)
        assert "checksum" in header.quarantined
        assert engine.tick() == 0
        assert engine.run_pending() == 0


def test_a_case_without_its_specification_is_set_aside() -> None:
    """A case whose specification is gone from the store is quarantined, not lost."""
    store = MemoryStore()
    with Engine(store) as engine:
        engine.register(manual("A"))
        case = engine.create_case("manual")
        store._specifications.clear()
        with Engine(store) as other, pytest.raises(QuarantinedCase, match="is set aside"):
            other.case(case.id).start()


def test_a_limit_refuses_the_command() -> None:
    """A case that goes on by itself for too long is refused its start, and stays as it was."""
    net = build("endless")
    p = net.condition("p")
    turn = net.task("turn", split="xor")
    net.start.to(net.task("open")).to(p)
    p.to(turn)
    turn.to(p, default=True)
    turn.to(net.end, when="has(data.stop)")
    with Engine(limits=Limits(steps=50)) as engine:
        engine.register(net.specification())
        case = engine.create_case("endless")
        with pytest.raises(LimitExceeded, match="limit steps=50"):
            case.start()
        assert case.state == "created"
        assert case.problems == []


def scripted(engine: Engine, tell: Callable[[str], None]) -> list[Callable[[], Any]]:
    """A scenario of commands; each can be repeated until it succeeds."""
    ids: list[str] = []

    def case() -> Any:
        return engine.case(ids[0])

    def create() -> None:
        ids.append(engine.create_case("order", {"amount": 500}, idempotency_key="one").id)

    with_handlers(engine)
    engine.handler("ship")(lambda work: tell(work.idempotency_key))
    return [
        create,
        lambda: case().run(),
        lambda: case().start_task("approve", by="ann"),
        lambda: case().complete_task("approve", {"ok": 1}, by="ann"),
        lambda: case().run(),
    ]


@pytest.mark.parametrize("cache", [1, 10])
def test_any_call_of_the_store_may_fail_once(cache: int) -> None:
    """Whichever call fails, the command that met it can be repeated, and the case reaches the same end."""
    ends = set()
    for failing in range(200):
        store = FaultyStore(MemoryStore(), 0)
        engine = Engine(store, cache=cache)
        told: list[str] = []
        script = scripted(engine, told.append)
        store.left = failing
        failures = 0
        for command in script:
            if cache == 1:
                engine.evict()
            try:
                command()
            except StoreUnavailable:
                failures += 1
                command()
        store.left = 0
        (header,) = engine.cases()
        case = engine.case(header.case_id)
        in_memory = (case.state, case.enabled, case.running, sorted(case.data.items()))
        engine.evict()
        assert (case.state, case.enabled, case.running, sorted(case.data.items())) == in_memory
        assert list(engine.work_items()) == []
        assert len(set(told)) == 1
        ends.add((case.state, tuple(sorted(case.data))))
        history = store.store.history(case.id)
        assert history
        assert all(decode_batch(batch)[1] for batch in history)
        if failing and not failures:
            break
    else:
        raise AssertionError("the script never ran without meeting the failure")
    assert ends == {("completed", ("amount", "checked", "ok"))}
    assert failing > 5


def test_a_commit_that_fails_leaves_the_case_as_the_store_has_it() -> None:
    """Between the failure and the repetition, the case shows what is stored, never half a step."""
    store = FaultyStore(MemoryStore(), 0)
    with Engine(store) as engine:
        engine.register(manual("A", "B"))
        case = engine.create_case("manual")
        case.start()
        store.left = 1
        with pytest.raises(StoreUnavailable):
            case.complete_task("A", {"a": 1})
        assert (case.enabled, case.data) == (["A"], {})
        case.complete_task("A", {"a": 2})
        assert (case.enabled, case.data) == (["B"], {"a": 2})


def test_a_closed_engine_refuses() -> None:
    """After `close` commands are refused with StoreUnavailable."""
    engine = Engine()
    engine.register(manual("A"))
    engine.close()
    with pytest.raises(StoreUnavailable):
        engine.create_case("manual")


def test_the_clock_and_the_ids_ascend() -> None:
    """The real clock is in milliseconds and does not stand still at zero; ids ascend over time and never repeat."""
    assert SystemClock().now() > 1_600_000_000_000
    source = TimeOrderedIds()
    ids = [source.next_id() for _ in range(5_000)]
    assert sorted(set(ids)) == ids
    assert {28} == set(map(len, ids))


# --- many at a time ---------------------------------------------------------------------------------------------------


def one(**work: Any) -> Specification:
    """One task."""
    net = build("one")
    net.sequence(net.start, net.task("only", **work), net.end)
    return net.specification()


STORES = pytest.mark.parametrize("target", ["memory:", "cases.db"])


def opened(target: str, folder: Path) -> Engine:
    """An engine in memory, or on a file; its time stands still, since what happens at two times is two commits."""
    return Engine(target if target == "memory:" else str(folder / target), clock=ManualClock())


@STORES
def test_a_case_is_created_and_run_at_once(target: str, tmp_path: Path) -> None:
    """Creating and running in one call tells the same story in one commit fewer."""
    with with_handlers(opened(target, tmp_path)) as engine:
        both = engine.create_case("order", {"amount": 10}).run()
        once = engine.run_case("order", {"amount": 10})

        assert [(each.kind, each.path) for each in both.history()] == [
            (each.kind, each.path) for each in once.history()
        ]
        assert (both.state, both.data, both.version - 1) == (once.state, once.data, once.version)


@STORES
@pytest.mark.parametrize("ask", ["run", "start"])
def test_a_case_that_cannot_start_is_not_created(target: str, ask: str, tmp_path: Path) -> None:
    """Where what happens by itself at the start fails, nothing is left of the case."""
    net = build("choice")
    fork = net.task("fork", split="xor")
    net.start.to(fork)
    fork.to(net.task("a", handler="check"), when="data.missing > 1").to(net.end)
    fork.to(net.task("b", handler="check"), default=True).to(net.end)
    with with_handlers(opened(target, tmp_path)) as engine:
        engine.register(net.specification())

        with pytest.raises(DataError, match="missing"):
            engine.run_case("choice") if ask == "run" else engine.create_case("choice", start=True)
        assert [] == list(engine.cases())


@STORES
def test_a_case_is_created_and_started_in_one_commit(target: str, tmp_path: Path) -> None:
    """A case that is created started is there with its first work, at its first version."""
    with opened(target, tmp_path) as engine:
        engine.register(manual("a", "b"))
        case = engine.create_case("manual", start=True)

        assert ("running", ["a"], 1) == (case.state, case.enabled, case.version)
        assert [case.id] == [row.case_id for row in engine.work_items()]


@STORES
def test_a_handler_sees_the_case_that_is_created_and_run_at_once(target: str, tmp_path: Path) -> None:
    """A handler finds its own case in the store's lists although the call that creates it has not returned."""
    with opened(target, tmp_path) as engine:
        engine.register(order())
        seen: list[Any] = []
        engine.handler("check")(lambda work: seen.append((engine.case(work.case_id).state, len(list(engine.cases())))))
        engine.handler("ship")(lambda work: None)

        case = engine.run_case("order", {"amount": 1})

    assert [("running", 1)] == seen
    assert "completed" == case.state


@STORES
def test_a_case_that_fails_at_once_is_there(target: str, tmp_path: Path) -> None:
    """A handler's failure is raised by the call that creates and runs, and its case can be found and tried again."""
    with opened(target, tmp_path) as engine:
        engine.register(order())
        engine.handler("check")(lambda work: 1 / 0)

        with pytest.raises(HandlerError, match="division"):
            engine.run_case("order", {"amount": 1})
        (header,) = engine.cases()
        assert ["failed"] == [item.state for item in engine.case(header.case_id).work_items()]


@STORES
def test_the_same_key_runs_the_same_case(target: str, tmp_path: Path) -> None:
    """With an idempotency key the second call goes on with the first one's case, and its work is done once."""
    log: list[Work] = []
    with with_handlers(opened(target, tmp_path), log) as engine:
        first = engine.run_case("order", {"amount": 1}, idempotency_key="k")
        again = engine.run_case("order", {"amount": 1}, idempotency_key="k")

        assert (first.id, 2) == (again.id, len(log))
        with pytest.raises(IdempotencyConflict):
            engine.run_case("order", {"amount": 2}, idempotency_key="k")


def test_many_cases_are_created_in_few_commits() -> None:
    """A case for each row, in order, hundreds of them in one commit."""

    class Counting(MemoryStore):
        commits = 0

        def commit(self, commits: Any) -> None:
            self.commits += 1
            super().commit(commits)

    store = Counting()
    with with_handlers(Engine(store)) as engine:
        engine.register(one(handler="noop"))

        cases = engine.create_many("one", ({"n": n} for n in range(1_250)))

        assert 3 == store.commits
        assert list(range(1_250)) == [case.data["n"] for case in cases]
        assert {"created"} == {each.state for each in engine.cases()}


def test_a_row_that_is_refused_leaves_its_commit_undone() -> None:
    """The commits before the refused row are there, of its own nothing is."""
    with Engine() as engine:
        engine.register(one(manual={}))

        with pytest.raises(DataError):
            engine.create_many("one", [{"n": 1}, {"n": 2}, {"n": object()}], together=2)

        assert [1, 2] == [engine.case(each.case_id).data["n"] for each in engine.cases()]


@pytest.mark.parametrize("target", ["memory:", "sqlite"])
def test_many_cases_are_run_and_one_that_fails_stops_no_other(target: str, tmp_path: Path) -> None:
    """All are run, on threads that share commits where commits take time, and the first failure is raised afterwards."""
    with Engine(target if target == "memory:" else str(tmp_path / "many.db")) as engine:
        engine.register(one(handler="odd"))

        @engine.handler("odd")
        def odd(work: Any) -> None:
            if work.data["n"] == 3:
                raise ValueError("three")

        cases = engine.create_many("one", [{"n": n} for n in range(8)])
        with pytest.raises(HandlerError, match="three"):
            engine.run_many(cases)

        states = [case.state for case in cases]
        assert "failed" == states.pop(3)
        assert ["completed"] * 7 == states
        assert 7 == engine.run_many(case for case in cases if case.state == "completed")


def test_cases_that_are_created_and_started_together_can_be_packed() -> None:
    """More cases than stay ready for use, each created and started in one commit, are packed and go on."""
    engine = Engine(hot=1)
    net = build("steps")
    net.sequence(net.start, net.task("sign", manual=True), net.end)
    engine.register(net.specification())
    cases = [engine.create_case("steps", start=True) for _ in range(12)]
    for case in cases:
        case.complete_task("sign")

    assert {"completed"} == {case.state for case in cases}
