"""Workers elsewhere, against an instance that is served in this process."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from knhk import errors
from knhk.client import Client, Worker
from knhk.client.claimed import ClaimedWork
from knhk.client.leases import Leases
from knhk.client.pacing import Pace, jittered
from tests.listening import Instance, instances
from tests.served import token

LABEL: dict[str, Any] = {
    "id": "label",
    "tasks": [{"id": "print", "external": {"topic": "labels"}, "retry": {"max_attempts": 2, "jitter": "none"}}],
    "flows": [{"from": "start", "to": "print"}, {"from": "print", "to": "end"}],
    "data": {"type": "object", "properties": {"label": {"type": "string"}}},
}


class Place:
    """An instance with cases whose work waits, a client, and a worker for it whose clock stands still and that waits for nothing."""

    def __init__(self, client: Client, instance: Instance) -> None:
        self.client, self.instance = client, instance
        self.now = 0.0
        client.workflows.register(LABEL)

    def cases(self, count: int) -> list[str]:
        """Cases whose work is offered."""
        made = [self.client.cases.create("label", {"n": n}) for n in range(count)]
        return [self.client.cases.execute(each.case_id).case_id for each in made]

    def worker(self, **more: Any) -> Worker:
        """A worker."""
        given = {"name": "w", "lease": 60.0, "seconds": lambda: self.now, "chance": lambda: 0.0, **more}
        return Worker(self.client, **given)

    def sent_once(self) -> None:
        """Let the client repeat nothing."""
        core = self.client.transport.core
        core.settings = attrs.evolve(core.settings, attempts=1)

    def states(self) -> list[str]:
        """The states of all cases."""
        return [each.state for each in self.client.cases.all()]

    def work(self, run: Callable[[ClaimedWork], Any], count: int = 1, **more: Any) -> Worker:
        """Let a function do so much work."""
        worker = self.worker(**more)
        left = [count]

        def counted(work: ClaimedWork) -> Any:
            left[0] -= 1
            if left[0] == 0:
                worker.stop()
            return run(work)

        worker.task("labels")(counted)
        worker.run()
        return worker


@pytest.fixture
def place() -> Iterator[Place]:
    """A place to work at."""
    with instances() as (client, (one,)):
        yield Place(client, one)


def test_work_is_done_by_so_many_hands(place: Place) -> None:
    """Two hands do five pieces of work, both at once, and claim no more than they are free for."""
    place.cases(5)
    both = threading.Barrier(2, timeout=30)
    offered: list[int] = []
    seen: list[Any] = []

    def label(work: ClaimedWork) -> dict[str, Any]:
        if work.data["n"] < 4:
            both.wait()
            offered.append(len(place.client.items.list(state="offered").items))
            both.wait()
        seen.append((work.task, work.topic, work.attempt, work.item, work.index, work.idempotency_key == work.id))
        return {"label": f"L-{work.data['n']}"}

    worker = place.work(label, 5, concurrency=2)

    assert ["completed"] * 5 == place.states()
    assert [3, 3, 1, 1] == offered
    assert [("print", "labels", 1, None, None, True)] * 5 == seen
    assert ((), ("labels",)) == (worker.running, worker.topics)


def test_an_exception_is_a_failed_attempt(place: Place) -> None:
    """Type, message and the least wait are passed on; an exception that is marked so, or says so, is not tried again."""
    place.cases(3)

    class Busy(Exception):
        retry_after = 3600

    class Hopeless(Exception):
        retryable = False

    worker = place.worker()

    @worker.task("labels", non_retryable=LookupError)
    def label(work: ClaimedWork) -> None:
        if work.data["n"] == 2:
            worker.stop()
        raise (Busy("no paper"), KeyError("address"), Hopeless("ink"))[work.data["n"]]

    worker.run()

    letters = place.client.dead_letters.list().items
    (waits,) = [each for each in place.client.cases.all() if each.state == "running"]
    assert {"KeyError", "Hopeless"} == {each.error for each in letters}
    assert all("no further attempt helps" in each.reason for each in letters)
    failed = [each for each in place.client.cases.history(waits.case_id).items if each.kind == "attempt_failed"]
    assert ["Busy: no paper"] == [each.details["error"] for each in failed]
    assert waits.next_due is not None
    # The time of the record is that of its commit, which may come a moment after the failure.
    assert 3590 < (datetime.fromisoformat(waits.next_due) - datetime.fromisoformat(failed[0].at)).total_seconds()


@pytest.mark.parametrize("returned", ["text", {"label": {1, 2}}, {"label": 7}])
def test_what_cannot_be_a_result_is_a_failed_attempt(place: Place, returned: Any) -> None:
    """What is no JSON object, or the case refuses, fails the attempt and leaves the worker at work."""
    (case,) = place.cases(1)

    place.work(lambda _: returned)

    kinds = [each.kind for each in place.client.cases.history(case).items]
    assert ("running", 1) == (place.states()[0], kinds.count("attempt_failed"))


def test_leases_are_extended_while_the_function_runs(place: Place) -> None:
    """When a third of the lease has passed it is extended, and the work is the worker's to the end."""
    place.cases(1)

    def label(work: ClaimedWork) -> dict[str, Any]:
        for _ in range(4):
            place.now += 21
            worker.keep()
        assert not work.cancelled
        return {"label": "late"}

    worker = place.worker(concurrency=1)
    worker.task("labels")(lambda work: (worker.stop(), label(work))[1])
    worker.run()

    assert ["completed"] == place.states()
    assert 4 <= len([each for each in place.instance.asked if each.endswith("/extend")])


def test_an_extension_that_meets_the_report_is_no_loss(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """Where the lease is extended while the report of the work is on its way, nothing is said to be lost."""
    place.cases(1)
    complete = place.client.work.complete

    def slow(claim: Any, data: Any) -> None:
        complete(claim, data)
        place.now += 21
        worker.keep()

    place.client.work.complete = slow  # type: ignore[method-assign]
    worker = place.worker()
    worker.task("labels")(lambda _: worker.stop())
    with caplog.at_level(logging.WARNING, "knhk.worker"):
        worker.run()

    assert (["completed"], "") == (place.states(), caplog.text)
    assert any(each.endswith("/extend") for each in place.instance.asked)


@pytest.mark.parametrize("how", ["elsewhere", "lease", "silent", "late", "out of reach"])
def test_the_result_of_lost_work_is_dropped(place: Place, how: str, caplog: pytest.LogCaptureFixture) -> None:
    """Work that was withdrawn, or whose lease was not extended, is lost: its function can know, its result is not sent, the log says so."""
    (case,) = place.cases(1)
    asked: list[bool] = []

    def label(work: ClaimedWork) -> dict[str, Any]:
        work.heartbeat()
        if how in ("elsewhere", "late"):
            place.client.cases.cancel(case)
        if how == "out of reach":
            place.sent_once()
            place.instance.faults = [("502 Bad Gateway", "", {})]
        if how != "late":
            place.now += 100 if how == "lease" else 21
            worker.keep()
        if how in ("silent", "out of reach"):
            place.now += 80
            worker.keep()
        asked.append(work.cancelled)
        return {"label": "L"}

    worker = place.worker()
    worker.task("labels", heartbeat=20 if how == "silent" else None)(lambda work: (worker.stop(), label(work))[1])
    with caplog.at_level(logging.WARNING, "knhk.worker"):
        worker.run()

    assert [how != "late"] == asked
    assert "its result is dropped" in caplog.text
    assert ["cancelled" if how in ("elsewhere", "late") else "running"] == place.states()
    assert (how == "late") == any(each.endswith("/complete") for each in place.instance.asked)


def test_a_stop_lets_work_end_and_gives_the_rest_back(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """Work that does not end in time is offered again at once without counting; its late result is refused."""
    (case,) = place.cases(1)
    over, ended = threading.Event(), threading.Event()

    def label(work: ClaimedWork) -> dict[str, Any]:
        worker.stop()
        over.wait(30)
        ended.set()
        return {"label": "late"}

    worker = place.worker(drain=0.01)
    worker.task("labels")(label)
    worker.run()
    (again,) = place.client.work.claim("labels", worker="other")
    over.set()
    ended.wait(30)
    place.client.work.complete(again, {"label": "other's"})

    assert ("completed", "other's") == (place.states()[0], place.client.cases.get(case).data["label"])
    assert 1 == [each.kind for each in place.client.cases.history(case).items].count("attempts_spared")


def test_what_cannot_be_given_back_is_said(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """Where the service is away when the worker stops, its work waits for the end of the lease."""
    place.cases(1)
    place.sent_once()
    over = threading.Event()

    def label(work: ClaimedWork) -> None:
        place.instance.faults = [("502 Bad Gateway", "", {})]
        worker.stop()
        over.wait(30)

    worker = place.worker(drain=0.01)
    worker.task("labels")(label)
    with caplog.at_level(logging.WARNING, "knhk.worker"):
        worker.run()
    over.set()

    assert "is offered again when its lease ends" in caplog.text


def test_what_a_stopped_worker_still_gets_is_given_back(place: Place) -> None:
    """Work that a claim brings while the worker stops is given back before any function sees it."""
    place.cases(2)
    worker = place.worker()
    claim = place.client.work.claim

    def late(*topics: str, **how: Any) -> Any:
        found = claim(*topics, **how)
        worker.stop()
        return found

    place.client.work.claim = late  # type: ignore[method-assign]
    worker.task("labels")(lambda _: pytest.fail("it was called"))
    worker.run()

    assert 2 == len(place.client.items.list(state="offered").items)


def test_a_service_that_fails_is_asked_again(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """Claims and reports go on when the service is back; a report whose answer was lost is not done twice."""
    (case,) = place.cases(1)
    place.sent_once()
    place.instance.faults = [("503 Service Unavailable", "store-unavailable", {})] * 3

    def label(_: ClaimedWork) -> dict[str, Any]:
        place.instance.faults = [("502 Bad Gateway", "", {}), ("502 Bad Gateway", "lost", {})]
        return {"label": "L"}

    with caplog.at_level(logging.WARNING, "knhk.worker"):
        place.work(label)

    assert ("completed", {"n": 0, "label": "L"}) == (place.states()[0], place.client.cases.get(case).data)
    assert (3, 2) == (caplog.text.count("no work can be claimed"), caplog.text.count("cannot be reported, again"))


def test_what_cannot_be_reported_is_left_to_its_lease(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """A report that is refused for good is said in the log, and the worker goes on."""
    place.cases(2)
    place.sent_once()
    worker = place.worker(concurrency=1)
    done: list[str] = []

    @worker.task("labels")
    def label(work: ClaimedWork) -> dict[str, Any]:
        done.append(work.id)
        if len(done) == 1:
            place.instance.faults = [("403 Forbidden", "forbidden", {})] * 2
        else:
            worker.stop()
        return {"label": "L"}

    with caplog.at_level(logging.WARNING, "knhk.worker"):
        worker.run()

    assert 2 == len(done) and ["completed", "running"] == sorted(place.states())
    assert "cannot be reported" in caplog.text


def test_claims_that_are_answered_at_once_are_paced(place: Place) -> None:
    """Where the service lets no more calls wait, the worker does."""
    place.instance.made.service.polls.end()
    draws: list[None] = []

    def chance() -> float:
        draws.append(None)
        if len(draws) == 3:
            worker.stop()
        return 0.0

    worker = place.worker(chance=chance)
    worker.task("labels")(lambda _: None)
    worker.run()

    assert 3 == place.instance.asked.count("POST /api/v1/work/claim")


def test_a_worker_that_may_not_work_ends(place: Place) -> None:
    """Where the first claim is refused for good, run raises why."""
    for roles, error in ((("viewer",), errors.Forbidden), (None, errors.ResponseRefused)):
        with Client(place.instance.url, token=roles and token("bob", *roles)) as client:
            worker = Worker(client)
            worker.task("labels")(lambda _: None)
            with pytest.raises(error):
                worker.run()


def test_what_is_no_worker_is_refused(place: Place) -> None:
    """A worker has a hand, spans of time and functions, one for each topic."""
    for wrong in ({"concurrency": 0}, {"lease": 0}, {"wait": -1}, {"drain": float("nan")}):
        with pytest.raises(ValueError):
            place.worker(**wrong)
    worker = place.worker()
    with pytest.raises(ValueError, match="no function"):
        worker.run()
    worker.task("a")(lambda _: None)
    for topics in ((), ("",), ("b", "a")):
        with pytest.raises(ValueError, match="topic"):
            worker.task(*topics)


# --- waits and leases -----------------------------------------------------------------------------------------------------


@given(st.integers(1, 500), st.floats(0, 1, exclude_max=True))
def test_waits_grow_within_their_bounds(attempt: int, chance: float) -> None:
    """A wait is anything up to a bound that doubles with each attempt, and is never above the longest."""
    assert 0 <= jittered(attempt, 0.1, 5.0, chance) <= min(0.1 * 2 ** (attempt - 1), 5.0)


def test_a_pace_begins_anew_after_a_success() -> None:
    """Waits grow with failures in a row, and begin with what is asked for."""
    pace = Pace(1.0, 3.0, lambda: 0.5)
    waits = [pace.failed(), pace.failed(), pace.failed(), pace.failed(2.0)]
    pace.worked()

    assert [0.5, 1.0, 1.5, 3.5, 0.5] == [*waits, pace.failed()]


def test_leases_are_due_at_a_third() -> None:
    """A lease is due when a third has passed, soon again when that failed, and never when it is left."""
    leases = Leases()
    leases.hold("a:1", 30.0, 0.0)
    leases.hold("b:1", 12.0, 0.0)

    assert ([], 4.0) == (leases.due(3.9), leases.next_in(0.0))
    assert ["b:1", "a:1"] == leases.due(10.0)
    leases.again("b:1", 10.0)
    leases.leave("a:1")
    leases.again("none", 10.0)
    leases.leave("none")
    assert ([], ["b:1"], 1.0) == (leases.due(10.5), leases.due(11.0), leases.next_in(10.0))
    assert ([], ["b:1"]) == (leases.due(12.0), leases.ended(12.0))
    leases.drop("b:1")
    leases.drop("b:1")
    assert (["a:1"], False) == (leases.ended(30.0), "b:1" in leases)
    leases.drop("a:1")
    assert leases.next_in(0.0) is None
