"""Several engines on one store: each does its part, none does another's, and no paused one can commit."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import attrs
import pytest
from servers import place

from knhk import AsyncEngine, Engine, build
from knhk.errors import (
    CommandError,
    ConcurrentUpdate,
    DataError,
    HandlerError,
    IllegalTransition,
    OwnershipLost,
    StoreUnavailable,
)
from knhk.events import EventKind
from knhk.ports import CaseHeader, Commit, Store, StoredCase
from knhk.running import RunningCase
from knhk.spec import Retry, Specification
from knhk.stores import MemoryStore, open_store
from knhk.testing.clock import ManualClock
from knhk.work.case_work import Job
from knhk.work.outbound import Outbound
from knhk.work.ownership import Ownership
from knhk.work.shares import partition_of

BEAT = 1_000
LEASE = 6.0
RACES = 100
TOGETHER = 5
PATIENCE = 30
OUTCOMES = (EventKind.TASK_COMPLETED, EventKind.CASE_COMPLETED, EventKind.ATTEMPT_FAILED)


def line(*tasks: dict[str, Any], **more: Any) -> Specification:
    """Tasks one after the other."""
    ids = ["start", *(task["id"] for task in tasks), "end"]
    flows = [{"from": a, "to": b} for a, b in zip(ids, ids[1:], strict=False)]
    return Specification.from_dict({"id": "line", "tasks": list(tasks), "flows": flows, **more})


def fork(*, replayable: bool = False) -> Specification:
    """Automatic work beside that of a person."""
    net = build("fork")
    split, join = net.task("split", split="and"), net.task("join", join="and")
    net.start.to(split)
    net.sequence(split, net.task("auto", handler="work", replayable=replayable), join)
    net.sequence(split, net.task("hand", manual=True), join)
    net.sequence(join, net.end)
    return net.specification()


class Site:
    """Engines on one store, whose heartbeats come when they are told to."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.clock = ManualClock()
        self.calls: list[tuple[str, str, str]] = []

    def engines(self, *names: str) -> list[Engine]:
        """Return engines that have joined and have their parts."""
        made = [self.engine(each) for each in names]
        self.beat(*made, times=4)
        return made

    def engine(self, name: str, clock: ManualClock | None = None) -> Engine:
        """Return an engine that has not joined, with a handler that notes who called it."""
        ownership = Ownership(self.store, name, lease=LEASE, clock=clock or self.clock)
        outbound = Outbound(allow=["127.0.0.1:9"])
        engine = Engine(self.store, clock=clock or self.clock, instance=ownership, outbound=outbound)

        @engine.handler("work")
        def work(work: Any) -> dict[str, Any]:
            self.calls.append((name, work.case_id, work.task))
            return {"by": name}

        return engine

    def beat(self, *engines: Engine, times: int = 1) -> None:
        """Let time pass, and each engine send its heartbeats."""
        for _ in range(times):
            self.clock.advance(BEAT)
            for each in engines:
                instance(each).beat()


def instance(engine: Engine) -> Ownership:
    """Return what an engine shares by."""
    assert engine.ownership is not None
    return engine.ownership


def of(engine: Engine, creator: Engine, spec_id: str = "line") -> RunningCase:
    """Return a new case, created by one engine, whose work is that of another."""
    while True:
        case = creator.create_case(spec_id)
        if instance(engine).tenure(case.id) is not None:
            return creator.case(case.id)
        case.cancel()


def job_of(case: RunningCase) -> Job:
    """Hand out the automatic work of a case."""
    job = case.next_job([])
    assert job is not None
    return job


def kinds(case: RunningCase) -> Counter[EventKind]:
    """Count what happened in a case."""
    return Counter(each.kind for each in case.history())


@pytest.fixture
def site() -> Iterator[Site]:
    """Make a site in memory."""
    made = Site(MemoryStore())
    yield made
    made.store.close()


# --- who does what ----------------------------------------------------------------------------------------------------


def test_each_does_its_part(site: Site) -> None:
    """Of the work that waits each engine does its own, all together do all of it, and nothing is done twice."""
    engines = site.engines("a", "b", "c")
    engines[0].register(line({"id": "A", "handler": "work"}, {"id": "B", "handler": "work"}))
    cases = [engines[0].create_case("line") for _ in range(60)]
    for case in cases:
        case.start()
    driven = [each.run_pending() for each in engines]

    assert 60 == sum(driven) and min(driven) > 5
    assert {("completed", 2)} == {(case.state, len([c for c in site.calls if c[1] == case.id])) for case in cases}
    done = {case_id: name for name, case_id, _ in site.calls}
    assert all(instance(each).tenure(id_) for each in engines for id_, by in done.items() if by == instance(each).id)


def test_command_of_anybody_and_work_of_the_owner(site: Site) -> None:
    """A case is created, started and completed by an engine whose work it is not; its handler runs at the owner alone."""
    a, b = site.engines("a", "b")
    a.register(line({"id": "M", "manual": {}}, {"id": "A", "handler": "work"}))
    case = of(b, a)
    case.start()
    case.complete_task("M")
    assert 0 == a.run_pending()
    b.run_pending()

    assert "completed" == case.state
    assert [("b", case.id, "A")] == site.calls


def test_timers_fire_at_the_owner(site: Site) -> None:
    """A timer that is due is run by the owner of its case, once, also where more than a page of others' is due before it."""
    a, b = site.engines("a", "b")
    a.register(line({"id": "T", "timer": "1s"}))
    others = [of(b, a) for _ in range(120)]
    mine = of(a, b)
    for case in [*others, mine]:
        case.start()
    site.clock.advance(1_000)

    assert 1 == a.tick()
    assert 0 == mine.tick() == others[0].tick()
    assert "completed" == mine.state
    assert 120 == b.tick()
    assert {"completed"} == {case.state for case in others}


def test_schedules_launch_at_the_owner(site: Site) -> None:
    """An occurrence is launched by the owner of its schedule, and by nobody else."""
    a, b = site.engines("a", "b")
    for number in range(20):
        net = build(f"s{number}", schedule={"every": "1s"})
        net.sequence(net.start, net.task("work", manual=True), net.end)
        a.register(net.specification())
    site.clock.advance(1_000)
    launched = [a.tick(), b.tick()]

    assert 20 == sum(launched) and min(launched) > 2
    assert 20 == len(list(a.cases()))


def test_messages_are_sent_by_their_owner(site: Site) -> None:
    """A message waits for the owner of its stream, and nobody else begins to send it."""
    a, b = site.engines("a", "b")
    a.register(line({"id": "M", "manual": {}}))
    a.webhooks.subscribe("http://127.0.0.1:9/", events=["case_created"], retry=Retry(max_attempts=1))
    for _ in range(20):
        a.create_case("line")
    a.deliver()
    left = [each.key.rpartition("/")[0] + "/" for each in site.store.documents("webhook-outbox")]

    assert 0 < len(left) < 20
    assert all(map(instance(b).tenure, left))
    b.deliver()
    assert not site.store.documents("webhook-outbox")
    assert 20 == len(site.store.documents("webhook-dead"))


def test_key_of_a_request_holds_across_engines(site: Site) -> None:
    """The same request with the same key is the same case, whichever engine is asked."""
    a, b = site.engines("a", "b")
    a.register(line({"id": "M", "manual": {}}))
    case = a.create_case("line", {"x": 1}, idempotency_key="k")

    assert case.id == b.create_case("line", {"x": 1}, idempotency_key="k").id
    assert 1 == len(list(b.cases()))


# --- run --------------------------------------------------------------------------------------------------------------


def test_run_waits_for_the_owner(site: Site) -> None:
    """Running a case whose work is another's returns when the owner has done it."""
    a, b = site.engines("a", "b")
    a.register(line({"id": "A", "handler": "work"}, {"id": "B", "handler": "work"}))
    case = of(b, a)
    with b.serve(workers=2, interval=0.01):
        case.run()

    assert "completed" == case.state
    assert ["b", "b"] == [name for name, _, _ in site.calls]


def test_run_with_await_waits_for_the_owner(site: Site) -> None:
    """As without."""
    a, b = site.engines("a", "b")
    b.register(line({"id": "A", "handler": "work"}))

    async def main() -> str:
        asking = AsyncEngine(site.store, clock=site.clock, instance=instance(a))
        while True:
            case = await asking.create_case("line")
            if instance(b).tenure(case.id) is not None:
                break
        with b.serve(workers=1, interval=0.01):
            await case.run()
        return await case.state()

    assert "completed" == asyncio.run(main())
    assert ["b"] == [name for name, _, _ in site.calls]


def test_run_goes_on_when_it_becomes_the_owner(site: Site) -> None:
    """Where the owner dies, whoever waits for it does the work as soon as it is its own."""
    a, b = site.engines("a", "b")
    a.register(line({"id": "A", "handler": "work"}))
    case = of(b, a)
    waiting = threading.Thread(target=case.run)
    waiting.start()
    site.beat(a, times=6)
    waiting.join(PATIENCE)

    assert "completed" == case.state
    assert ["a"] == [name for name, _, _ in site.calls]


def test_run_waits_no_longer_than_it_is_told(site: Site) -> None:
    """With a bound a run returns although the owner has not done the work; the case is started."""
    a, b = site.engines("a", "b")
    a.register(line({"id": "A", "handler": "work"}))
    case = of(b, a)
    case.run(wait=0.01)

    assert ("running", ["A"]) == (case.state, case.running)


def test_pending_work_that_is_taken_over_meanwhile(site: Site) -> None:
    """Doing what waits does not wait for another engine that has taken the work over while a handler ran."""
    a, b = site.engines("a", "b")

    @a.handler("late")
    def late(_: Any) -> None:
        instance(a).leave()

    a.register(line({"id": "A", "handler": "late"}))
    of(a, a).start()
    driving = threading.Thread(target=a.run_pending, daemon=True)
    driving.start()
    driving.join(PATIENCE)

    assert not driving.is_alive()
    assert b.ownership is not None


def test_run_where_nobody_is(site: Site) -> None:
    """Where no instance is on the store, running a case with automatic work says so instead of waiting for ever."""
    engine = site.engine("a")
    engine.register(line({"id": "A", "handler": "work"}))
    case = engine.create_case("line")

    with pytest.raises(CommandError, match="no instance on the store"):
        case.run()


def test_failure_at_the_owner_is_in_the_history(site: Site) -> None:
    """What fails where the owner does it raises there, not where somebody waits for it."""
    a, b = site.engines("a", "b")
    a.register(line({"id": "A", "handler": "nobody's"}))
    case = of(b, a)
    case.run(wait=0.001)
    with pytest.raises(HandlerError):
        b.run_pending()
    case.run()

    assert 1 == kinds(case)[EventKind.ATTEMPT_FAILED]


# --- several move one case --------------------------------------------------------------------------------------------


def test_what_is_in_memory_is_as_in_the_store(site: Site) -> None:
    """An engine that has a case in memory sees what another did to it, and its commands are given to what is so."""
    a, b = site.engines("a", "b")
    a.register(line({"id": "M", "manual": {}}, {"id": "N", "manual": {}}))
    mine = a.create_case("line")
    mine.start()
    yours = b.case(mine.id)
    assert ["M"] == yours.enabled
    mine.complete_task("M", {"x": 1})

    assert (["N"], {"x": 1}) == (yours.enabled, yours.data)
    yours.complete_task("N")
    assert "completed" == mine.state


def test_result_of_a_handler_whose_case_was_moved(site: Site) -> None:
    """A command that another engine serves while a handler runs costs nothing: the result is recorded, and nothing runs again."""
    a, b = site.engines("a", "b")
    a.register(fork())
    case = of(a, a, "fork")
    job = job_of(case)
    b.case(case.id).complete_task("hand", {"hand": 1})
    assert case.next_job([]) is None
    assert case.finish(job, {"auto": 2}) is None

    assert ("completed", {"hand": 1, "auto": 2}) == (case.state, case.data)
    assert 1 == kinds(case)[EventKind.ATTEMPT_BEGUN]
    assert not a._cache.at_work()


def test_failure_of_a_handler_whose_case_was_moved(site: Site) -> None:
    """As with a result."""
    a, b = site.engines("a", "b")
    a.register(fork())
    case = of(a, a, "fork")
    job = job_of(case)
    b.case(case.id).complete_task("hand")

    assert isinstance(case.fail(job, ValueError("no")), HandlerError)
    assert 1 == kinds(case)[EventKind.ATTEMPT_FAILED]
    assert not a._cache.at_work()


def test_work_that_is_handed_back_although_its_case_was_moved(site: Site) -> None:
    """An attempt that is taken back does not count, whatever others did to its case."""
    a, b = site.engines("a", "b")
    a.register(fork())
    case = of(a, a, "fork")
    job = job_of(case)
    b.case(case.id).complete_task("hand")
    case.hand_back(job, "the runner stopped")

    assert "the runner stopped" == job.attempt.lost
    assert 1 == kinds(case)[EventKind.ATTEMPTS_SPARED]
    assert case.next_job([]) is not None


def test_case_that_was_cancelled_elsewhere_while_its_handler_runs(site: Site) -> None:
    """The result of a handler whose case another engine cancelled changes nothing."""
    a, b = site.engines("a", "b")
    a.register(fork())
    case = of(a, a, "fork")
    job = job_of(case)
    b.case(case.id).cancel()
    case.finish(job, {"auto": 2})

    assert ("cancelled", {}) == (case.state, case.data)
    assert not a._cache.at_work()


class Meddled(MemoryStore):
    """A store in which something else happens just before a commit."""

    def __init__(self) -> None:
        super().__init__()
        self.before: list[Callable[[], object]] = []

    def commit(self, commits: Sequence[Commit]) -> None:
        """Let it happen, then commit."""
        if self.before:
            self.before.pop()()
        super().commit(commits)


def meddled() -> tuple[Site, Meddled, RunningCase, RunningCase]:
    """Return a site whose store can be meddled with, and one case as two engines have it, the first its owner."""
    store = Meddled()
    site = Site(store)
    a, b = site.engines("a", "b")
    a.register(fork())
    case = of(a, a, "fork")
    case.start()
    return site, store, case, b.case(case.id)


def test_command_that_loses_is_tried_again() -> None:
    """A command between whose look and commit another engine moves the case is given again to what is so then."""
    _, store, mine, yours = meddled()
    store.before.append(lambda: yours.complete_task("hand", {"theirs": 1}))
    mine.suspend()

    assert ("suspended", {"theirs": 1}) == (mine.state, mine.data)


class Watched(MemoryStore):
    """A store that notes what it is asked about a case."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def header(self, case_id: str) -> CaseHeader:
        """Note it, then answer."""
        self.asked.append("header")
        return super().header(case_id)

    def load(self, case_id: str) -> StoredCase:
        """Note it, then answer."""
        self.asked.append("load")
        return super().load(case_id)

    def commit(self, commits: Sequence[Commit]) -> None:
        """Note it, then commit."""
        self.asked.append("commit")
        super().commit(commits)


def test_command_is_one_call_of_the_store() -> None:
    """A command on a case in memory asks the store for nothing before its commit, which tells whether the case was current."""
    store = Watched()
    (a,) = Site(store).engines("a")
    a.register(line({"id": "hand", "manual": True}))
    case = a.create_case("line", start=True)
    store.asked.clear()

    case.complete_task("hand")
    assert ["commit"] == store.asked


def test_automatic_task_is_two_calls_of_the_store() -> None:
    """A handler's attempt and its outcome are a commit each, and nobody asks the store for anything before them."""
    store = Watched()
    (a,) = Site(store).engines("a")
    a.register(line({"id": "one", "handler": "work"}, {"id": "two", "handler": "work"}))
    case = a.create_case("line")
    store.asked.clear()
    case.run()

    assert ["commit"] * 4 == store.asked[:4]
    assert "commit" not in store.asked[4:]


@pytest.mark.parametrize("replayable", [False, True])
def test_handler_of_a_case_that_was_moved_is_not_called(*, replayable: bool) -> None:
    """No handler is called for work that another engine has taken out of the case since it was loaded."""
    site = Site(MemoryStore())
    a, b = site.engines("a", "b")
    a.register(line({"id": "one", "handler": "work", "replayable": replayable}))
    case = of(a, a)
    case.start()
    b.case(case.id).cancel()

    assert case.hand_out([]) is None
    assert [] == [*a._cache.at_work(), *site.calls]


@pytest.mark.parametrize("replayable", [False, True])
def test_handler_of_a_case_that_was_moved_beside_it(*, replayable: bool) -> None:
    """Where another engine has moved the case, work that is still there is handed out, on the case as it is."""
    site = Site(MemoryStore())
    a, b = site.engines("a", "b")
    a.register(fork(replayable=replayable))
    case = of(a, a, "fork")
    case.start()
    b.case(case.id).complete_task("hand", {"theirs": 1})
    job = job_of(case)

    assert ("auto", {"theirs": 1}) == (job.path, dict(job.work.data))


def test_command_on_a_case_that_was_moved() -> None:
    """A command on a case that another engine has moved is done on the case as it is, and nothing of the other's is lost."""
    _, _, mine, yours = meddled()
    assert "running" == mine.state
    yours.complete_task("hand", {"theirs": 1})
    mine.suspend()

    assert ("suspended", {"theirs": 1}) == (mine.state, mine.data)


def test_command_that_writes_nothing_is_answered_as_the_case_is() -> None:
    """A command that writes nothing, and so compares nothing, is done again where another engine has moved the case."""
    site = Site(MemoryStore())
    a, b = site.engines("a", "b")
    a.register(line({"id": "work", "external": "topic"}))
    case = a.create_case("line", start=True)
    assert not case.retry_failed()
    item = b.case(case.id).work_item(1)
    item.start(by="worker")
    item.fail("broken")

    assert 1 == case.retry_failed()


def test_command_that_loses_to_one_that_forbids_it() -> None:
    """Where what is so then does not allow it, the command is refused as it would have been without the race."""
    _, store, mine, yours = meddled()
    store.before.append(yours.suspend)

    with pytest.raises(IllegalTransition, match="the case is suspended"):
        mine.complete_task("hand", {"mine": 1})
    assert {} == mine.data


def test_command_that_loses_against_an_expected_version() -> None:
    """Who expects a version is told that the case has changed; his command is not given to what he has not seen."""
    _, store, mine, yours = meddled()
    version = mine.version
    with mine.expecting(version):
        store.before.append(lambda: yours.complete_task("hand", {"theirs": 1}))
        with pytest.raises(ConcurrentUpdate):
            mine.cancel()

    assert ("running", {"theirs": 1}) == (mine.state, mine.data)
    with pytest.raises(ConcurrentUpdate), mine.expecting(version):
        mine.cancel()


def test_refused_command_that_expects_a_version() -> None:
    """Also where what he has seen allows less than what is so."""
    _, _, mine, yours = meddled()
    with mine.expecting(mine.version):
        yours.complete_task("hand")
        with pytest.raises(ConcurrentUpdate):
            mine.start_task("nothing")


def test_result_that_loses_is_recorded_again() -> None:
    """As a command: the handler is not called again."""
    _, store, mine, yours = meddled()
    job = job_of(mine)
    store.before.append(lambda: yours.complete_task("hand"))
    mine.finish(job, {"auto": 1})

    assert "completed" == mine.state
    assert 1 == kinds(mine)[EventKind.ATTEMPT_BEGUN]


def test_begin_that_loses_is_tried_again() -> None:
    """Work is handed out once, although somebody moved its case at that moment."""
    _, store, mine, yours = meddled()
    store.before.append(lambda: yours.complete_task("hand"))
    job = job_of(mine)
    mine.finish(job, {"auto": 1})

    assert "completed" == mine.state
    assert 1 == kinds(mine)[EventKind.ATTEMPT_BEGUN]


def test_outcome_that_the_store_does_not_take() -> None:
    """Where the store fails as a result is recorded, the attempt is over, and its work is done again."""
    site, store, mine, _ = meddled()

    def fail() -> None:
        raise StoreUnavailable("away")

    for record in (lambda job: mine.finish(job, {}), lambda job: mine.fail(job, DataError("no"))):
        job = job_of(mine)
        store.before.append(fail)
        with pytest.raises(StoreUnavailable):
            record(job)
    assert 3 == job_of(mine).work.attempt
    assert not site.calls


def test_claim_of_what_is_not_there(site: Site) -> None:
    """A claim that comes to nothing commits nothing, also in a case whose work was looked for under a tenure."""
    (a,) = site.engines("a")
    a.register(line({"id": "E", "external": {"topic": "t"}}))
    case = of(a, a)
    case.start()
    assert case.next_job([]) is None
    (row,) = site.store.items(topics=["t"])

    assert [] == a.external._take([attrs.evolve(row, number=99)], "w", 1, None)


def test_work_in_memory_that_is_lost(site: Site) -> None:
    """An attempt whose case is not in memory, and whose work another has by now, is told so when it is looked at."""
    a, b = site.engines("a", "b")
    a.register(fork())
    case = of(a, a, "fork")
    job = job_of(case)
    a._cache.forget(job.resident)
    assert [case.id] == a._cache.at_work()
    site.beat(b, times=6)

    assert [] == a._cache.at_work()
    assert a._cache.sharing is not None and a._cache.sharing.lost(job.attempt)
    assert "another instance has taken its work over" == job.attempt.lost


def test_command_that_always_loses() -> None:
    """A command that loses one race after the other is given up at last, and nothing of it is stored."""
    _, store, mine, yours = meddled()

    def meddle() -> None:
        store.before.clear()
        yours.suspend()
        yours.resume()
        store.before.append(meddle)

    store.before.append(meddle)
    with pytest.raises(ConcurrentUpdate):
        mine.complete_task("hand", {"mine": 1})

    store.before.clear()
    assert {} == mine.data


# --- an owner that was paused -----------------------------------------------------------------------------------------


def test_paused_owner_begins_nothing(site: Site) -> None:
    """An owner that wakes up after its work was taken over begins no handler, and nothing is in the store of it."""
    own = ManualClock()
    a, b = site.engine("a", own), site.engine("b")
    instance(a).beat()
    a.register(line({"id": "A", "handler": "work"}))
    case = of(a, a)
    case.start()
    site.beat(b, times=6)
    assert instance(a).tenure(case.id) is not None
    before = site.store.header(case.id)

    with pytest.raises(OwnershipLost):
        case.next_job([])
    assert before == site.store.header(case.id)
    a.run_pending()
    assert 0 == a.tick()
    assert before == site.store.header(case.id)
    assert not site.calls


def test_paused_owner_launches_nothing(site: Site) -> None:
    """Nor does it launch the cases of schedules."""
    own = ManualClock()
    a, b = site.engine("a", own), site.engine("b")
    instance(a).beat()
    net = build("s", schedule={"every": "1s"})
    net.sequence(net.start, net.task("work", manual=True), net.end)
    a.register(net.specification())
    site.beat(b, times=6)
    own.advance(1_000)

    assert 0 == a.tick()
    assert not list(a.cases())
    assert 1 == b.tick()


def test_handler_of_a_paused_owner_is_told(site: Site) -> None:
    """The runner of an owner that was taken over tells the handlers at work that nobody wants their result."""
    own = ManualClock()
    a, b = site.engine("a", own), site.engine("b")
    instance(a).beat()
    told = threading.Event()

    @a.handler("long")
    def long(work: Any) -> None:
        while not work.cancelled:
            told.wait(0.001)
        told.set()

    a.register(line({"id": "A", "handler": "long"}))
    case = of(a, a)
    with a.serve(workers=1, interval=0.01):
        case.start()
        while not a._cache.at_work():
            told.wait(0.001)
        site.beat(b, times=6)
        instance(a).beat()
        assert told.wait(PATIENCE)

    assert 0 == kinds(case)[EventKind.TASK_COMPLETED]


@pytest.fixture(params=["memory", "sqlite", "log", "redis", "etcd", "postgresql"])
def shared_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Make a store of each kind."""
    files = {"memory": "memory:", "sqlite": str(tmp_path / "cases.db"), "log": f"log:{tmp_path / 'log'}"}
    target = files.get(request.param) or place(request.getfixturevalue(request.param), "races")
    store = open_store(target, durability="off")
    yield store
    store.close()


def ends_in_vain(case: RunningCase, job: Job) -> bool:
    """Do the automatic work of a case to its end, as an owner would; returns whether it was another's meanwhile."""
    try:
        case.finish(job, {"by": "owner"})
        while (following := case.next_job([])) is not None:
            case.finish(following, {"by": "owner"})
    except OwnershipLost:
        return True
    return False


def test_paused_owner_races_its_heir(shared_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Of a hundred who wake up as owners of what was taken over none commits afterwards, and each piece of work has one outcome.

    Half of them wake up as they are taken over, and half when that is done and nobody has touched the case.
    """
    # Each race moves all of them twice.
    monkeypatch.setattr("knhk.work.ownership.PARTITION_COUNT", 2)
    site = Site(shared_store)
    heir = site.engine("heir")
    heir.register(line({"id": "A", "handler": "work"}, {"id": "B", "handler": "work"}))
    late = 0
    for number in range(RACES // TOGETHER):
        owner = site.engine(f"owner{number}", ManualClock())
        instance(owner).beat()
        cases = [owner.create_case("line") for _ in range(TOGETHER)]
        jobs = [job_of(case) for case in cases]
        site.beat(*() if number else (heir,))
        for _ in range(4):
            # It looks at the owner, who is silent, and waits with the last look for the start of the race.
            site.clock.advance(BEAT)
            instance(heir).beat()
        site.clock.advance(BEAT)
        with ThreadPoolExecutor(TOGETHER) as racers:
            if number % 2:
                instance(heir).beat()
            racing = [racers.submit(ends_in_vain, *each) for each in zip(cases, jobs, strict=True)]
            instance(heir).beat()
            assert [0, 1] == instance(heir).partitions
            versions = [site.store.header(case.id).version for case in cases]
            late += sum(each.result() for each in racing)

        assert versions == [site.store.header(case.id).version for case in cases]
        heir.run_pending()
        for case in cases:
            done = kinds(heir.case(case.id))
            assert (2, 1, 0) == tuple(done[each] for each in OUTCOMES)
        instance(heir).leave()
    assert RACES // 2 <= late


# --- engines that join by themselves ----------------------------------------------------------------------------------


def test_engine_with_a_name_is_an_instance_while_it_serves(tmp_path: Path) -> None:
    """An engine that was given a name joins when its runner starts, and has left when that has stopped."""
    path = str(tmp_path / "cases.db")
    with Engine(path, durability="off", instance="one") as one, Engine(path, durability="off") as looking:
        one.handler("work")(lambda _: {"done": True})
        one.register(line({"id": "A", "handler": "work"}))
        with one.serve(workers=1, interval=0.01):
            assert ["one"] == [each.id for each in instance(one).instances()]
            case = one.create_case("line").run()
            assert "completed" == case.state
        assert not instance(one).instances()
        assert "completed" == looking.case(case.id).state


def test_name_of_an_instance_that_serves_is_taken(site: Site) -> None:
    """A runner whose engine has the name of a live instance does not start."""
    (a,) = site.engines("a")
    other = Engine(site.store, clock=site.clock, instance="a")
    assert not instance(other).beat()
    site.beat(a)

    with pytest.raises(CommandError, match="'a' is live"):
        other.serve().start()


def test_partition_of_work_is_that_of_its_case() -> None:
    """What an engine asks for by the id of a case is the partition that its id hashes to."""
    site = Site(MemoryStore())
    (a,) = site.engines("a")
    tenure = instance(a).tenure("some case")

    assert tenure is not None
    assert partition_of("some case", 64) == int(tenure.key)
