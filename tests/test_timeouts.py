"""Attempts that take too long or fall silent are lost, and what they still return is refused; limits on how many run at once."""

from __future__ import annotations

import asyncio
import logging
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from knhk import AsyncEngine, Engine, EventKind, HandlerError, Specification, Work
from knhk.testing.chance import FixedChance
from knhk.testing.clock import ManualClock

RETRY = {"max_attempts": 2, "initial": "1s"}


def line(*tasks: dict[str, Any]) -> Specification:
    """Tasks one after the other."""
    ids = ["start", *(task["id"] for task in tasks), "end"]
    flows = [{"from": a, "to": b} for a, b in zip(ids, ids[1:], strict=False)]
    return Specification.from_dict({"id": "t", "tasks": list(tasks), "flows": flows})


def errors(case: Any) -> list[str]:
    """What the history tells of failed attempts."""
    return [event.details["error"] for event in case.history() if event.kind is EventKind.ATTEMPT_FAILED]


class Slow:
    """A handler whose first attempt lets the clock run, and comes back when it is let go."""

    def __init__(self, clock: ManualClock, milliseconds: int) -> None:
        self.clock, self.milliseconds = clock, milliseconds
        self.let_go, self.over = threading.Event(), threading.Event()
        self.cancelled: list[bool] = []

    def __call__(self, work: Work) -> dict[str, Any]:
        if work.attempt == 1:
            self.clock.advance(self.milliseconds)
            self.let_go.wait(30)
            self.cancelled.append(work.cancelled)
            self.over.set()
        return {"attempt": work.attempt}

    def come_back(self, engine: Engine) -> None:
        """Let the first attempt end, and wait until its thread has."""
        self.let_go.set()
        for thread in threading.enumerate():
            if thread.name.startswith("knhk-case"):
                thread.join(30)
        assert 0 == engine._handlers.watch.stuck


@pytest.mark.parametrize("kept", ["memory", "sqlite"])
def test_an_attempt_that_takes_too_long_has_failed(tmp_path: Path, kept: str, caplog: pytest.LogCaptureFixture) -> None:
    """At its timeout an attempt fails as any other does; its late result is refused, logged, and changes nothing."""
    clock = ManualClock(0)
    target = "memory:" if kept == "memory" else str(tmp_path / "t.db")
    with Engine(target, clock=clock, chance=FixedChance()) as engine:
        engine.register(line({"id": "A", "handler": "h", "timeout": "30s", "retry": RETRY}, {"id": "B", "manual": {}}))
        slow = Slow(clock, 30_000)
        engine.handler("h")(slow)

        case = engine.create_case("t").run()

        assert ("running", 31_000, ["TimeoutError: no result within 30s"]) == (case.state, case.next_due, errors(case))
        assert 1 == engine._handlers.watch.stuck
        clock.advance(1_000)
        case.run()
        assert (["B"], {"attempt": 2}) == (case.enabled, case.data)
        before = case.history()
        with caplog.at_level(logging.WARNING, "knhk.work"):
            slow.come_back(engine)
        assert before == case.history()
        assert [True] == slow.cancelled
        text = f"case {case.id} A attempt 1 came back after its attempt had failed (no result within 30s)"
        assert f"{text}: its result is refused" in caplog.text


def test_the_last_attempt_that_takes_too_long_is_raised() -> None:
    """Without a further attempt `run` raises, the cause is a TimeoutError, and the engine's default holds for tasks without one."""
    clock = ManualClock(0)
    with Engine(clock=clock, timeout=timedelta(seconds=5)) as engine:
        engine.register(line({"id": "A", "handler": "h"}))
        slow = Slow(clock, 5_000)
        engine.handler("h")(slow)
        case = engine.create_case("t")

        with pytest.raises(HandlerError, match="no result within 5s") as caught:
            case.run()

        assert isinstance(caught.value.__cause__, TimeoutError)
        slow.come_back(engine)
        assert "failed" == case.state


def test_what_is_in_time_is_kept_and_what_it_raises_is_raised() -> None:
    """A bounded attempt that ends in time is as any other, in a thread that sees the caller's context."""
    with Engine(timeout="1h") as engine:
        engine.register(line({"id": "A", "handler": "h"}, {"id": "B", "handler": "h", "timeout": "2h"}))

        @engine.handler("h")
        def handle(work: Work) -> dict[str, Any]:
            if work.task == "B":
                raise LookupError("b")
            return {"thread": threading.current_thread().name.startswith(f"knhk-case {work.case_id} A")}

        case = engine.create_case("t")
        with pytest.raises(HandlerError, match="b") as caught:
            case.run()

        assert {"thread": True} == case.data
        assert isinstance(caught.value.__cause__, LookupError)


def test_silence_fails_an_attempt_and_heartbeats_keep_it() -> None:
    """As long as heartbeats come an attempt goes on; silence fails it, and the history has what the last one said."""
    clock = ManualClock(0)
    let_go = threading.Event()
    with Engine(clock=clock) as engine:
        engine.register(line({"id": "A", "handler": "h", "heartbeat": "10s"}))

        @engine.handler("h")
        def handle(work: Work) -> None:
            for page in range(4):
                clock.advance(9_000)
                work.heartbeat({"page": page})
                assert not work.cancelled
            clock.advance(10_000)
            assert work.cancelled
            let_go.wait(30)

        case = engine.create_case("t")
        with pytest.raises(HandlerError):
            case.run()

        let_go.set()
        assert ["TimeoutError: no heartbeat for 10s; the last said {'page': 3}"] == errors(case)


def test_the_deadline_bounds_the_attempt_that_runs() -> None:
    """An attempt is lost when the time for all attempts is over."""
    clock = ManualClock(0)
    with Engine(clock=clock) as engine:
        engine.register(line({"id": "A", "handler": "h", "retry": {"max_attempts": 5, "deadline": "7s"}}))
        slow = Slow(clock, 7_000)
        engine.handler("h")(slow)
        case = engine.create_case("t")

        with pytest.raises(HandlerError, match="no result within 7s"):
            case.run()

        slow.come_back(engine)
        assert "failed" == case.state


def test_too_many_stuck_threads_are_an_error_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """As many stuck threads as the engine finds too many are said to be; they are counted until they come back."""
    clock = ManualClock(0)
    with Engine(clock=clock) as engine:
        engine._handlers.watch.many = 2
        engine.register(line({"id": "A", "handler": "h", "timeout": "1s"}))
        slow = Slow(clock, 1_000)
        engine.handler("h")(slow)
        with caplog.at_level(logging.ERROR, "knhk.work"):
            for stuck in (1, 2):
                with pytest.raises(HandlerError):
                    engine.create_case("t").run()
                assert (stuck, stuck == 2) == (engine._handlers.watch.stuck, "2 threads are stuck" in caplog.text)

        slow.come_back(engine)


def test_a_bounded_task_by_asyncio_is_cancelled() -> None:
    """An asynchronous handler is cancelled at its timeout; one that does not care is left alone, and its result refused."""
    clock = ManualClock(0)
    seen: list[str] = []

    async def main() -> Any:
        async with AsyncEngine(clock=clock, chance=FixedChance()) as engine:
            await engine.register(line({"id": "A", "handler": "h", "timeout": "30s", "retry": {"max_attempts": 3}}))
            let_go, over = asyncio.Event(), asyncio.Event()

            @engine.handler("h")
            async def handle(work: Work) -> dict[str, int]:
                if work.attempt < 3:
                    clock.advance(30_000)
                    try:
                        await asyncio.Event().wait()
                    except asyncio.CancelledError:
                        seen.append(f"attempt {work.attempt} is cancelled: {work.cancelled}")
                        if work.attempt == 1:
                            raise
                    await let_go.wait()
                    over.set()
                return {"attempt": work.attempt}

            case = await engine.create_case("t")
            for _ in range(3):
                await case.run()
                clock.advance(1_000)
            let_go.set()
            await over.wait()
            return await case.state(), await case.data(), len(await case.history())

    assert ("completed", {"attempt": 3}) == asyncio.run(main())[:2]
    assert ["attempt 1 is cancelled: True", "attempt 2 is cancelled: True"] == seen


def test_a_bounded_coroutine_in_time_and_a_plain_one_too_late() -> None:
    """What a coroutine returns in time is kept; a plain handler that is too late is lost, as in the synchronous engine."""
    clock = ManualClock(0)

    async def main() -> Any:
        async with AsyncEngine(clock=clock, timeout="30s") as engine:
            await engine.register(line({"id": "A", "handler": "a"}, {"id": "B", "handler": "b"}))
            slow = Slow(clock, 30_000)
            engine.handler("b")(slow)

            @engine.handler("a")
            async def handle(_: Work) -> dict[str, int]:
                return {"a": 1}

            case = await engine.create_case("t")
            with pytest.raises(HandlerError, match="B: handler 'b' failed: no result within 30s"):
                await case.run()
            await asyncio.to_thread(slow.come_back, engine.engine)
            return await case.data()

    assert {"a": 1} == asyncio.run(main())


def test_a_cancelled_run_hands_its_work_back() -> None:
    """Cancelling whoever awaits a run cancels the handler; the attempt does not count, and the next run makes another."""
    seen: list[int] = []

    async def main() -> Any:
        async with AsyncEngine(timeout="1h") as engine:
            await engine.register(line({"id": "A", "handler": "h", "retry": {"max_attempts": 1}}))
            begun = asyncio.Event()

            @engine.handler("h")
            async def handle(work: Work) -> None:
                seen.append(work.attempt)
                begun.set()
                if work.attempt == 1:
                    await asyncio.Event().wait()

            case = await engine.create_case("t")
            run = asyncio.create_task(case.run())
            await begun.wait()
            run.cancel()
            with pytest.raises(asyncio.CancelledError):
                await run
            return await (await case.run()).state()

    assert ("completed", [1, 2]) == (asyncio.run(main()), seen)


# --- how many at once -------------------------------------------------------------------------------------------------


class Peak:
    """Counts how many are inside at once."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.inside = self.most = 0

    def __enter__(self) -> None:
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.inside -= 1


@pytest.mark.parametrize("limited", ["task", "handler"])
def test_no_more_handlers_run_at_once_than_the_limit(limited: str) -> None:
    """Eight threads over eight cases run two handlers at a time, and two at a time they do run."""
    peak, both = Peak(), threading.Barrier(2)
    with Engine() as engine:
        engine.register(line({"id": "A", "handler": "h", **({"concurrency": 2} if limited == "task" else {})}))

        @engine.handler("h", concurrency=2 if limited == "handler" else None)
        def handle(_: Work) -> None:
            with peak:
                both.wait(30)

        assert 8 == engine.run_many([engine.create_case("t") for _ in range(8)], threads=8)

        assert (2, 8) == (peak.most, len([*engine.cases(state="completed")]))
        with pytest.raises(ValueError, match="must be at least 1"):
            engine.handler("h", concurrency=0)


def test_a_limit_holds_no_thread_of_the_asynchronous_engine() -> None:
    """A hundred cases, more than the engine has threads, go through a limit of three."""
    peak = Peak()

    async def main() -> int:
        async with AsyncEngine() as engine:
            await engine.register(line({"id": "A", "handler": "h", "concurrency": 3}))

            @engine.handler("h")
            async def handle(_: Work) -> None:
                with peak:
                    await asyncio.sleep(0)

            cases = [await engine.create_case("t") for _ in range(100)]
            await asyncio.gather(*(case.run() for case in cases))
            return len(await engine.cases(state="completed"))

    assert 100 == asyncio.run(main())
    assert 1 <= peak.most <= 3


def test_a_breaker_lets_asynchronous_work_wait() -> None:
    """While its breaker is open, `run` returns and the case is due when probes may go."""

    async def main() -> Any:
        async with AsyncEngine(clock=ManualClock(0)) as engine:
            engine.breaker("b", minimum_calls=1, open_for="9s")
            await engine.register(line({"id": "A", "handler": "h", "breaker": "b"}))

            @engine.handler("h")
            async def handle(_: Work) -> None:
                raise OSError("down")

            with pytest.raises(HandlerError):
                await (await engine.create_case("t")).run()
            return engine.breakers["b"].state, await (await (await engine.create_case("t")).run()).next_due()

    assert ("open", 9_000) == asyncio.run(main())


def test_other_work_of_a_case_goes_on_beside_a_held_one() -> None:
    """A task whose limit is used up holds up neither its case's other tasks nor a later run."""
    order: list[str] = []
    held, let_go = threading.Event(), threading.Event()
    tasks = [
        {"id": "S", "split": "and"},
        {"id": "A", "handler": "slow", "concurrency": 1},
        {"id": "B", "handler": "quick"},
        {"id": "J", "join": "and"},
    ]
    flows = [("start", "S"), ("S", "A"), ("S", "B"), ("A", "J"), ("B", "J"), ("J", "end")]
    with Engine() as engine:
        engine.register(
            Specification.from_dict({"id": "t", "tasks": tasks, "flows": [{"from": a, "to": b} for a, b in flows]})
        )

        @engine.handler("slow")
        def slow(work: Work) -> None:
            order.append("slow")
            held.set()
            let_go.wait(30)

        @engine.handler("quick")
        def quick(work: Work) -> None:
            order.append("quick")
            if order == ["slow", "quick"]:
                let_go.set()

        first, second = engine.create_case("t"), engine.create_case("t")
        thread = threading.Thread(target=first.run)
        thread.start()
        assert held.wait(30)

        second.run()

        thread.join(30)
        assert ["slow", "quick", "slow", "quick"] == order or ["slow", "quick", "quick", "slow"] == order
        assert ["completed", "completed"] == [first.state, second.state]
