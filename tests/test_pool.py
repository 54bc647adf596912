"""The runner's workers: bounded, side by side, fair, quick to hear, patient at the end, and undisturbed by what fails."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from knhk import AsyncEngine, Engine, EventKind, Specification, Work
from knhk.testing.clock import ManualClock
from knhk.work.attempt import wake
from knhk.work.runner import Runner

LONG = 60
"""Seconds of an interval in which nothing is found by looking: what happens was heard."""


def line(*tasks: dict[str, Any], name: str = "p") -> Specification:
    """Tasks one after the other."""
    ids = ["start", *(task["id"] for task in tasks), "end"]
    flows = [{"from": a, "to": b} for a, b in zip(ids, ids[1:], strict=False)]
    return Specification.from_dict({"id": name, "tasks": list(tasks), "flows": flows})


def fork(*tasks: dict[str, Any]) -> Specification:
    """Tasks side by side."""
    ids = [task["id"] for task in tasks]
    ends = [{"id": "S", "split": "and"}, {"id": "J", "join": "and"}]
    flows = [("start", "S"), *(("S", each) for each in ids), *((each, "J") for each in ids), ("J", "end")]
    return Specification.from_dict(
        {"id": "p", "tasks": [*tasks, *ends], "flows": [{"from": a, "to": b} for a, b in flows]}
    )


def started(engine: Engine, count: int) -> list[Any]:
    """Cases that were started, with work that waits."""
    cases = [engine.create_case("p") for _ in range(count)]
    for case in cases:
        case.start()
    return cases


def until(so: Callable[[], bool], seconds: float = 30) -> None:
    """Look until it is so."""
    end = time.monotonic() + seconds
    pause = threading.Event()
    while not so():
        assert time.monotonic() < end, "it did not come so"
        pause.wait(0.002)


def all_are(engine: Engine, state: str) -> Callable[[], bool]:
    """Whether all cases are in a state."""
    return lambda: all(header.state == state for header in engine.cases())


def test_handlers_of_different_cases_and_of_one_case_run_at_once() -> None:
    """Four handlers meet: two branches of each of two cases."""
    meet = threading.Barrier(4)
    with Engine() as engine:
        engine.register(fork({"id": "A", "handler": "h"}, {"id": "B", "handler": "h"}))
        engine.handler("h")(lambda _: {"met": meet.wait(30)})
        with engine.serve(workers=4, interval=LONG) as runner:
            started(engine, 2)
            until(all_are(engine, "completed"))

        assert (0, 0) == (runner.failures, runner.busy)


def test_no_more_handlers_run_than_there_are_workers() -> None:
    """Three workers never run four handlers, and all work is done, that of before the start too."""
    lock, inside, most = threading.Lock(), [0], [0]
    with Engine() as engine:
        engine.register(line({"id": "A", "handler": "h"}))

        @engine.handler("h")
        def handle(_: Work) -> None:
            with lock:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
            with lock:
                inside[0] -= 1

        started(engine, 300)
        with engine.serve(workers=3, interval=LONG):
            until(all_are(engine, "completed"))

        assert 1 <= most[0] <= 3
    with pytest.raises(ValueError, match="at least 1 worker"):
        Engine().serve(workers=0)


def test_limits_hold_in_the_background() -> None:
    """A task's concurrency holds over all cases; the workers do other work meanwhile."""
    held, let_go, others = threading.Event(), threading.Event(), threading.Semaphore(0)
    running = [0]
    with Engine() as engine:
        engine.register(
            fork({"id": "A", "handler": "slow", "concurrency": 1}, {"id": "B", "handler": "quick"}),
        )

        @engine.handler("slow")
        def slow(_: Work) -> None:
            running[0] += 1
            assert 1 == running[0]
            held.set()
            let_go.wait(30)
            running[0] -= 1

        engine.handler("quick")(lambda _: others.release())
        with engine.serve(workers=3, interval=LONG):
            started(engine, 20)
            assert held.wait(30)
            for _ in range(20):
                assert others.acquire(timeout=30)
            let_go.set()

            until(all_are(engine, "completed"))


def test_new_work_is_heard_at_once() -> None:
    """With an interval of a minute, work that this process makes is done without waiting for it."""
    with Engine() as engine:
        engine.register(line({"id": "M", "manual": {}}, {"id": "A", "handler": "h"}, {"id": "B", "handler": "h"}))
        engine.handler("h")(lambda _: None)
        with engine.serve(interval=LONG):
            (case,) = started(engine, 1)
            begun = time.monotonic()
            case.complete_task("M")
            until(all_are(engine, "completed"), 10)

        assert time.monotonic() - begun < 10


def test_timers_and_retries_of_this_process_fire_in_time(tmp_path: Path) -> None:
    """With an interval of a minute timers and retries are never early, and late by less than a second (the best of three)."""
    late: list[int] = []
    with Engine(str(tmp_path / "p.db")) as engine:
        retry = {"max_attempts": 2, "initial": "50ms", "jitter": 0}
        engine.register(line({"id": "T", "timer": "50ms"}, {"id": "A", "handler": "h", "retry": retry}))

        @engine.handler("h")
        def handle(work: Work) -> None:
            if work.attempt == 1:
                raise OSError

        with engine.serve(interval=LONG):
            for _ in range(3):
                (case,) = started(engine, 1)
                until(all_are(engine, "completed"))
                history = case.history()
                due = next(e.details["due"] for e in history if e.kind is EventKind.TIMER_SET)
                again = next(e.details["retry_at"] for e in history if e.kind is EventKind.ATTEMPT_FAILED)
                fired = next(e.at for e in history if e.kind is EventKind.TASK_FIRED)
                second = [e.at for e in history if e.kind is EventKind.ATTEMPT_BEGUN][1]
                assert fired >= due
                assert second >= again
                late.append(max(fired - due, second - again))

    assert min(late) < 1_000


def test_the_work_of_other_processes_is_found_at_the_next_look(tmp_path: Path) -> None:
    """A case that another engine on the same file started is done within the interval."""
    path = str(tmp_path / "p.db")
    with Engine(path) as engine, Engine(path) as other:
        engine.register(line({"id": "A", "handler": "h"}))
        engine.handler("h")(lambda _: {"done": True})
        with engine.serve(interval=0.01):
            (case,) = started(other, 1)
            until(all_are(engine, "completed"))

        assert {"done": True} == engine.case(case.id).data


def test_a_case_with_much_work_lets_others_have_their_turn() -> None:
    """One worker, and a case that would go round for ever: the others complete all the same."""
    with Engine() as engine:
        tree = {
            "id": "p",
            "tasks": [
                {"id": "begin"},
                {"id": "turn", "handler": "turn", "split": "xor"},
            ],
            "conditions": ["again"],
            "flows": [
                {"from": "start", "to": "begin"},
                {"from": "begin", "to": "again"},
                {"from": "again", "to": "turn"},
                {"from": "turn", "to": "again", "when": "data.again"},
                {"from": "turn", "to": "end", "default": True},
            ],
        }
        engine.register(Specification.from_dict(tree))
        stop = threading.Event()
        engine.handler("turn")(lambda work: {"again": work.data["busy"] and not stop.is_set()})
        busy = engine.create_case("p", {"busy": True})
        busy.start()
        with engine.serve(workers=1, interval=LONG):
            others = [engine.create_case("p", {"busy": False}) for _ in range(5)]
            for case in others:
                case.start()
            until(lambda: ["completed"] * 5 == [case.state for case in others])
            assert "running" == busy.state
            stop.set()
            until(lambda: busy.state == "completed")


def test_what_fails_is_logged_and_the_rest_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    """A handler that fails for good, one that exits, one that is missing: each is told with its cause, and others run."""
    with Engine() as engine:
        engine.register(line({"id": "A", "handler": "good"}))
        for name in ("bad", "exits", "missing", "soon"):
            engine.register(line({"id": "A", "handler": name}, name=name))
        engine.handler("good")(lambda _: None)
        engine.handler("exits")(lambda _: exec("raise SystemExit(3)"))

        @engine.handler("bad")
        def bad(_: Work) -> None:
            raise ValueError("bad")

        @engine.handler("soon")
        async def soon(_: Work) -> None: ...

        with caplog.at_level(logging.ERROR, "knhk.runner"), engine.serve(workers=2, interval=LONG) as runner:
            cases = [engine.create_case(name) for name in ("bad", "exits", "missing", "soon", "p")]
            for case in cases:
                case.start()
            until(lambda: runner.failures == 4 and cases[-1].state == "completed")

        assert ["failed"] * 4 == [case.state for case in cases[:-1]]
        for text in ("ValueError: bad", "SystemExit: 3", "no handler 'missing'", "'soon' is asynchronous"):
            assert text in caplog.text


def test_a_store_that_fails_does_not_end_the_runner(caplog: pytest.LogCaptureFixture) -> None:
    """A look into the store that fails is logged, and the next one finds the work."""
    from knhk.errors import StoreUnavailable
    from knhk.stores.memory import MemoryStore

    class Flaky(MemoryStore):
        down = False

        def runnable(self, after: str = "", limit: int = 100) -> Any:
            if self.down:
                raise StoreUnavailable("out of reach")
            return super().runnable(after, limit)

    store = Flaky()
    with Engine(store) as engine:
        engine.register(line({"id": "A", "handler": "h"}))
        engine.handler("h")(lambda _: None)
        started(engine, 1)
        store.down = True
        with engine.serve(interval=0.01) as runner:
            until(lambda: runner.failures > 1)
            store.down = False
            until(all_are(engine, "completed"))

        assert "out of reach" in caplog.text


def test_stopping_waits_for_handlers() -> None:
    """A handler that ends while the runner stops is recorded, and nothing is begun any more."""
    begun, let_go, seen = threading.Event(), threading.Event(), list[str]()
    with Engine() as engine:
        engine.register(line({"id": "A", "handler": "h"}, {"id": "B", "handler": "h"}))

        @engine.handler("h")
        def handle(work: Work) -> dict[str, bool]:
            seen.append(work.task)
            begun.set()
            let_go.wait(30)
            return {work.task: True}

        runner = engine.serve(workers=2, interval=LONG)
        runner.start()
        (case,) = started(engine, 1)
        assert begun.wait(30)
        stopping = threading.Thread(target=runner.stop)
        stopping.start()
        until(lambda: not runner._dispatcher.is_alive())
        let_go.set()
        stopping.join(30)

        assert (["A"], {"A": True}, ["B"]) == (seen, case.data, case.running)
        assert not stopping.is_alive()


def test_handlers_that_do_not_end_are_handed_back(caplog: pytest.LogCaptureFixture) -> None:
    """A handler that outlasts the stop sees it, does not count, and changes nothing when it returns after others did its work."""
    begun, let_go, over = threading.Event(), threading.Event(), threading.Event()
    seen: list[bool] = []
    with Engine() as engine:
        engine.register(line({"id": "A", "handler": "slow", "retry": {"max_attempts": 1}}))

        @engine.handler("slow")
        def slow(work: Work) -> dict[str, int]:
            if work.attempt == 1:
                begun.set()
                let_go.wait(30)
                seen.append(work.cancelled)
                over.set()
            return {"slow": work.attempt}

        runner = engine.serve(workers=2, interval=LONG)
        runner.start()
        (case,) = started(engine, 1)
        assert begun.wait(30)
        runner.stop(timeout=0.2)

        assert ({}, "running", 1) == (case.data, case.state, runner.busy)
        assert f"case {case.id} A attempt 1 did not end within 0.2 s: its work is handed back" in caplog.text
        # The same engine goes on with it while the first thread is still there.
        assert "completed" == case.run().state
        history = case.history()
        let_go.set()
        assert over.wait(30)
        until(lambda: runner.busy == 0)
        assert ([True], history, {"slow": 2}) == (seen, case.history(), case.data)


def test_what_is_handed_back_is_refused_when_it_returns(caplog: pytest.LogCaptureFixture) -> None:
    """The result of an attempt that was handed back is dropped although its work is still open, and the log says so."""
    begun, let_go = threading.Event(), threading.Event()
    with Engine() as engine:
        engine.register(line({"id": "A", "handler": "h"}))

        @engine.handler("h")
        def handle(work: Work) -> dict[str, int]:
            begun.set()
            let_go.wait(30)
            return {"attempt": work.attempt}

        runner = engine.serve(workers=1, interval=LONG)
        runner.start()
        (case,) = started(engine, 1)
        assert begun.wait(30)
        runner.stop(timeout=0)
        let_go.set()
        until(lambda: runner.busy == 0)

        assert ({}, ["A"]) == (case.data, case.running)
        assert "A attempt 1: its outcome is refused: the runner stopped" in caplog.text
        assert {"attempt": 2} == case.run().data


def test_progress_is_put_on_record_while_a_handler_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A runner records what a handler that still runs has said, and no more often than it is said."""
    monkeypatch.setattr("knhk.work.runner.KEEP", 0.0)
    said, let_go = threading.Event(), threading.Event()
    with Engine(str(tmp_path / "p.db")) as engine:
        engine.register(line({"id": "A", "handler": "h"}))

        @engine.handler("h")
        def handle(work: Work) -> None:
            work.heartbeat({"page": 1})
            said.set()
            let_go.wait(30)

        def kept() -> list[Any]:
            return [event.details["progress"] for event in case.history() if event.kind is EventKind.ITEM_PROGRESSED]

        with engine.serve(workers=1, interval=0.01):
            (case,) = started(engine, 1)
            assert said.wait(30)
            until(lambda: kept() == [{"page": 1}])
            let_go.set()
            until(all_are(engine, "completed"))

        assert [{"page": 1}] == kept()


def test_a_runner_that_was_not_started_may_be_stopped() -> None:
    """Stopping before starting ends nothing and waits for nothing."""
    with Engine() as engine:
        engine.serve().stop()


def test_a_worker_is_free_again_when_its_handler_runs_out_of_time() -> None:
    """With one worker, a handler that is stuck holds up nobody for longer than its timeout, and is counted as stuck."""
    clock, let_go = ManualClock(0), threading.Event()
    with Engine(clock=clock) as engine:
        engine.register(line({"id": "A", "handler": "h", "timeout": "30s", "retry": {"max_attempts": 1}}))

        @engine.handler("h")
        def handle(work: Work) -> None:
            if work.data.get("stuck"):
                clock.advance(30_000)
                let_go.wait(30)

        with engine.serve(workers=1, interval=0.05) as runner:
            stuck = [engine.create_case("p", {"stuck": True}) for _ in range(2)]
            good = engine.create_case("p")
            for case in (*stuck, good):
                case.start()
            until(lambda: good.state == "completed" and runner.failures == 2)
            assert 2 == runner.stuck
            let_go.set()
            until(lambda: runner.stuck == 0)

        assert ["failed", "failed"] == [case.state for case in stuck]


def test_work_of_an_open_breaker_waits_in_the_background() -> None:
    """While it is open no attempt is made; when its time is over a probe is made, and then all that were held back."""
    clock, down = ManualClock(0), [True]
    attempts = [0]
    with Engine(clock=clock) as engine:
        engine.breaker("b", minimum_calls=3, open_for="10s")
        retry = {"max_attempts": 9, "initial": "1s", "max": "1s", "jitter": 0}
        engine.register(line({"id": "A", "handler": "h", "breaker": "b", "retry": retry}))

        @engine.handler("h")
        def handle(_: Work) -> None:
            attempts[0] += 1
            if down[0]:
                raise OSError("down")

        with engine.serve(workers=1, interval=0.01) as runner:
            started(engine, 50)
            until(lambda: engine.breakers["b"].state == "open" and len(runner._agenda) == 0)
            assert 3 == attempts[0]
            clock.advance(9_999)
            runner.wake()
            until(lambda: len(runner._agenda) == 0)
            assert 3 == attempts[0]
            down[0] = False
            clock.advance(1)
            until(all_are(engine, "completed"))

        assert (53, "closed") == (attempts[0], engine.breakers["b"].state)


def test_work_whose_case_is_cancelled_elsewhere_is_let_go(tmp_path: Path) -> None:
    """A handler sees that another engine cancelled its case, and its result is dropped."""
    path, begun, seen = str(tmp_path / "p.db"), threading.Event(), threading.Event()
    with Engine(path) as engine, Engine(path) as other:
        engine.register(line({"id": "A", "handler": "h"}))

        @engine.handler("h")
        def handle(work: Work) -> None:
            begun.set()
            until(lambda: work.cancelled)
            seen.set()

        with engine.serve(interval=0.01):
            (case,) = started(engine, 1)
            assert begun.wait(30)
            other.case(case.id).cancel()
            assert seen.wait(30)

        engine.evict()
        assert "cancelled" == case.state


def test_what_was_cut_off_is_begun_one_at_a_time() -> None:
    """Attempts that follow one that was cut off never run side by side, until they have stood their time."""
    running, lock, most = [0], threading.Lock(), [0]
    with Engine() as engine:
        engine.register(line({"id": "A", "handler": "h"}))

        @engine.handler("h")
        def handle(work: Work) -> None:
            assert 2 == work.attempt
            with lock:
                running[0] += 1
                most[0] = max(running[0], most[0])
            threading.Event().wait(0.001)
            with lock:
                running[0] -= 1

        for case in started(engine, 30):
            with engine._cache.hold(case.id) as resident:
                resident.case.begin_attempt(1, at=0)
                engine._cache.commit(resident)
        with engine.serve(workers=8, interval=LONG):
            until(all_are(engine, "completed"))

        assert 1 == most[0]


def test_suspects_that_stood_their_time_run_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt that has run for the probation holds back no other suspect."""
    monkeypatch.setattr("knhk.work.runner.PROBATION", 0.0)
    meet = threading.Barrier(3)
    with Engine() as engine:
        engine.register(line({"id": "A", "handler": "h"}))
        engine.handler("h")(lambda _: {"met": meet.wait(30)})
        for case in started(engine, 3):
            with engine._cache.hold(case.id) as resident:
                resident.case.begin_attempt(1, at=0)
                engine._cache.commit(resident)
        with engine.serve(workers=3, interval=0.01):
            until(all_are(engine, "completed"))


def test_asynchronous_handlers_run_on_the_loop_that_serves() -> None:
    """Coroutines and plain handlers of many cases run at once, bounded by the workers; the loop stays free."""
    most = [0, 0]

    async def main() -> int:
        async with AsyncEngine() as engine:
            await engine.register(line({"id": "A", "handler": "soon"}, {"id": "B", "handler": "now", "timeout": "1m"}))
            loop = asyncio.get_running_loop()

            @engine.handler("soon")
            async def soon(_: Work) -> None:
                assert loop is asyncio.get_running_loop()
                most[0] += 1
                most[1] = max(most)
                await asyncio.sleep(0.001)
                most[0] -= 1

            engine.handler("now")(lambda work: {"b": work.attempt})
            async with engine.serve(workers=5, interval=LONG) as runner:
                cases = [await engine.create_case("p") for _ in range(40)]
                for case in cases:
                    await case.start()
                while len(await engine.cases(state="completed")) < 40:
                    await asyncio.sleep(0.005)
            assert 0 == runner.failures
            return len(await engine.cases(state="completed"))

    assert 40 == asyncio.run(main())
    assert 2 <= most[1] <= 5


def test_a_loop_that_is_gone_is_not_woken() -> None:
    """Waking whoever waits on a loop that was closed does nothing, and raises nothing in the thread that does it."""
    loop, event = asyncio.new_event_loop(), asyncio.Event()
    loop.close()

    wake(loop, event)

    assert not event.is_set()


INNOCENTS = """
import os, sys, threading
from knhk import Engine, Limits, build

net = build("p")
net.sequence(net.start, net.task("A", handler="a"), net.end)
with Engine(sys.argv[1], limits=Limits(crashes=4)) as engine:
    engine.register(net.specification())
    together = threading.Semaphore(0)

    @engine.handler("a")
    def a(work):
        together.release()
        if work.data["n"] == 3:
            for _ in range(4 if work.attempt == 1 else 1):
                together.acquire(timeout=5)
            os._exit(7)
        threading.Event().wait(0.02)

    for number in range(20):
        case = engine.create_case("p", {"n": number}, idempotency_key=str(number))
        if case.state == "created":
            case.start()
    with engine.serve(workers=4, interval=0.05):
        while any(header.state == "running" for header in engine.cases()):
            threading.Event().wait(0.01)
"""


def test_a_poison_handler_takes_no_innocent_work_with_it(tmp_path: Path) -> None:
    """Work that ran beside a handler which ends the process again and again completes, cut off twice at the most."""
    path = str(tmp_path / "p.db")
    codes = []
    while not codes or (codes[-1] == 7 and len(codes) < 10):
        codes.append(subprocess.run([sys.executable, "-c", INNOCENTS, path], check=False, timeout=60).returncode)

    assert [7, 7, 7, 7, 0] == codes
    with Engine(path) as engine:
        cases = {case.data["n"]: case for case in (engine.case(header.case_id) for header in engine.cases())}
        assert {"failed"} == {cases[3].state}
        innocent = [case for n, case in cases.items() if n != 3]
        assert {"completed"} == {case.state for case in innocent}
        begun = [sum(e.kind is EventKind.ATTEMPT_BEGUN for e in case.history()) for case in innocent]
        assert 2 <= max(begun) <= 3


@pytest.mark.parametrize("how", ["timeout", "cancel", "stop"])
def test_a_coroutine_is_cancelled_when_nobody_wants_it(how: str) -> None:
    """At its timeout, when its case is cancelled, and when the runner stops, a coroutine of the background is cancelled."""
    clock = ManualClock(0)

    async def main() -> tuple[bool, list[str]]:
        async with AsyncEngine(clock=clock) as engine:
            await engine.register(line({"id": "A", "handler": "h", **({"timeout": "1s"} if how == "timeout" else {})}))
            begun, cancelled = asyncio.Event(), asyncio.Event()

            @engine.handler("h")
            async def handle(work: Work) -> None:
                begun.set()
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    assert work.cancelled
                    cancelled.set()
                    raise

            serving = engine.serve(workers=2, interval=0.01)
            async with serving:
                case = await engine.create_case("p")
                await case.start()
                await begun.wait()
                if how == "timeout":
                    clock.advance(1_000)
                elif how == "cancel":
                    await case.cancel()
                else:
                    await serving.stop(timeout=0)
                await asyncio.wait_for(cancelled.wait(), 30)
            return cancelled.is_set(), [event.kind.value for event in await case.history()][-1:]

    last = {"timeout": "case_failed", "cancel": "case_cancelled", "stop": "attempts_spared"}
    assert (True, [last[how]]) == asyncio.run(main())


def test_a_runner_knows_its_workers() -> None:
    """The number of workers can be read, and a round by hand needs none of them."""
    with Engine() as engine:
        engine.register(line({"id": "A", "handler": "h"}))
        engine.handler("h")(lambda _: None)
        started(engine, 3)
        runner = engine.serve(workers=5)

        assert (5, 3, 0) == (runner.workers, runner.step(), runner.step())
        assert isinstance(runner, Runner)
