"""The asynchronous engine does what the synchronous one does, and runs asynchronous handlers on the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from knhk import AsyncEngine, DataError, HandlerError, Specification, build
from knhk.errors import StoreUnavailable
from knhk.stores import SqliteStore
from knhk.stores._group import Caller
from knhk.testing.clock import ManualClock


def line(name: str, *tasks: dict[str, Any]) -> Specification:
    """Tasks one after the other."""
    ids = ["start", *(task["id"] for task in tasks), "end"]
    flows = [{"from": a, "to": b} for a, b in zip(ids, ids[1:], strict=False)]
    return Specification.from_dict({"id": name, "tasks": list(tasks), "flows": flows})


def test_asynchronous_and_plain_handlers_run(tmp_path: Path) -> None:
    """A case runs through both kinds of handler, and what they return is in the file afterwards."""

    async def main() -> None:
        async with AsyncEngine(str(tmp_path / "cases.db")) as engine:
            await engine.register(line("h", {"id": "A", "handler": "soon"}, {"id": "B", "handler": "now"}))

            @engine.handler("soon")
            async def soon(work: Any) -> dict[str, Any]:
                await asyncio.sleep(0)
                return {"a": work.data["n"] + 1}

            engine.handler("now")(lambda work: {"b": work.data["a"] + 1})
            case = await (await engine.create_case("h", {"n": 1}, idempotency_key="k")).run()

            assert "completed" == await case.state()
            assert {"n": 1, "a": 2, "b": 3} == await case.data()
            assert case.id == (await engine.create_case("h", {"n": 1}, idempotency_key="k")).id
            assert case.id == (await engine.run_case("h", {"n": 1}, idempotency_key="k")).id
            assert "case_completed" == (await case.history())[-1].kind.value
            assert case.id in repr(case)

    asyncio.run(main())


class Counted(SqliteStore):
    """Counts its groups, each of which is one transaction."""

    transactions = 0

    def _write(self, group: Sequence[Caller]) -> None:
        self.transactions += 1
        super()._write(group)


def test_many_cases_share_commits(tmp_path: Path) -> None:
    """Sixty-four cases of ten handlers that run side by side need at most two transactions each, and all complete."""

    async def main() -> None:
        store = Counted(tmp_path / "cases.db")
        async with AsyncEngine(store) as engine:
            await engine.register(line("ten", *({"id": f"T{number}", "handler": "h"} for number in range(10))))

            @engine.handler("h")
            async def handle(work: Any) -> dict[str, Any]:
                return {"n": work.data.get("n", 0) + 1}

            store.transactions = 0

            async def one() -> dict[str, Any]:
                return await (await (await engine.create_case("ten")).run()).data()

            done = await asyncio.gather(*(one() for _ in range(64)))

            assert [{"n": 10}] * 64 == done
            assert store.transactions <= 128

    asyncio.run(main())


def test_closed_engine_refuses() -> None:
    """After close every call raises StoreUnavailable; closing again does nothing."""

    async def main() -> None:
        engine = AsyncEngine()
        await engine.close()
        await engine.close()
        with pytest.raises(StoreUnavailable, match="closed"):
            await engine.cases()

    asyncio.run(main())


def test_many_cases_run_at_the_same_time() -> None:
    """Handlers of different cases wait side by side: the last to begin lets the first go on."""

    async def main() -> None:
        async with AsyncEngine() as engine:
            await engine.register(line("h", {"id": "A", "handler": "meet"}))
            here = 0
            everybody = asyncio.Event()

            @engine.handler("meet")
            async def meet(work: Any) -> None:
                nonlocal here
                here += 1
                if here == 20:
                    everybody.set()
                await asyncio.wait_for(everybody.wait(), 20)

            cases = [await engine.create_case("h") for _ in range(20)]
            await asyncio.gather(*(case.run() for case in cases))

            assert 20 == len(await engine.cases(state="completed"))

    asyncio.run(main())


def test_failures_are_raised_as_in_the_synchronous_engine() -> None:
    """A handler's error fails its item and is raised; a result that is no data too; others are driven first."""

    async def main() -> None:
        async with AsyncEngine() as engine:
            await engine.register(line("h", {"id": "A", "handler": "work"}))

            @engine.handler("work")
            async def work(work: Any) -> Any:
                if work.data["bad"] == 1:
                    raise ValueError("no")
                return 7 if work.data["bad"] == 2 else None

            cases = [await engine.create_case("h", {"bad": n}) for n in (1, 2, 0)]
            for case in cases:
                await case.start()
            with pytest.raises(HandlerError, match="no") as caught:
                await engine.run_pending()

            assert isinstance(caught.value.__cause__, ValueError)
            assert 1 == len(caught.value.__notes__)
            assert ["failed", "failed", "completed"] == [await case.state() for case in cases]

    asyncio.run(main())


def test_instances_looks_and_retries() -> None:
    """Instances are added, closed and forced, the marking is shown, failed work is tried again, all with await."""

    async def main() -> None:
        async with AsyncEngine() as engine:
            multiple = {"count": 1, "maximum": 3, "creation": "dynamic"}
            await engine.register(
                line("m", {"id": "M", "manual": {}, "multiple": multiple}, {"id": "H", "handler": "h"})
            )
            outcomes = iter([ValueError("once"), None])

            @engine.handler("h")
            async def h(work: Any) -> None:
                outcome = next(outcomes)
                if outcome is not None:
                    raise outcome
                assert 2 == work.attempt

            case = await engine.create_case("m")
            await case.start()
            assert {"": {"start": 1}} == await case.marking()
            await case.start_task("M")
            await case.add_instance("M")
            await case.close_instances("M")
            assert ["M#1", "M#2"] == await case.running()
            await case.complete_instances("M")
            assert [] == await case.problems()
            assert 0 == await case.tick()
            with pytest.raises(HandlerError):
                await case.run()
            assert 1 == await case.retry_failed()
            assert "completed" == await (await case.run()).state()

    asyncio.run(main())


def test_commands_and_lists() -> None:
    """Everything a user does with a case is there with await."""

    async def main() -> None:
        clock = ManualClock()
        async with AsyncEngine(clock=clock) as engine:
            registration = await engine.register(
                line(
                    "w",
                    {"id": "A", "manual": {}},
                    {"id": "E", "trigger": "go"},
                    {"id": "T", "timer": "5s"},
                    {"id": "B", "manual": {}},
                )
            )
            assert registration.new
            case = await engine.create_case("w")
            await case.start()
            assert ["A"] == await case.enabled()
            assert ["A"] == [item.path for item in await case.work_items(state="offered")]
            assert ["A"] == [row.path for row in await engine.work_items()]
            await case.suspend()
            await case.resume()
            await case.start_task("A", by="ann")
            await (await engine.case(case.id)).complete_task("A", {"x": 1})
            assert 1 == await case.send_event("go", {"y": 2})
            clock.advance(5_000)
            assert 1 == await engine.tick()
            await case.cancel_task("B")
            assert "deadlocked" == await case.state()
            await case.cancel()
            assert "cancelled" == await case.state()
            with pytest.raises(DataError):
                await engine.create_case("w", {"x": float("nan")})

    asyncio.run(main())


def test_an_asynchronous_handler_is_tried_again_by_itself() -> None:
    """A failed attempt raises nothing where the policy gives another, and `next_due` says when that is."""
    clock = ManualClock(0)
    net = build("retry")
    net.sequence(
        net.start, net.task("A", handler="work", retry={"max_attempts": 2, "initial": "1s", "jitter": 0}), net.end
    )

    async def main() -> tuple[Any, ...]:
        async with AsyncEngine(clock=clock) as engine:
            await engine.register(net.specification())

            @engine.handler("work")
            async def work(item: Any) -> dict[str, int]:
                if item.attempt == 1:
                    raise OSError("not yet")
                return {"attempt": item.attempt}

            case = await (await engine.create_case("retry")).run()
            due = await case.next_due()
            clock.advance(1_000)
            ticked = await engine.tick(), await engine.run_pending()
            return due, ticked, await case.state(), await case.data()

    assert (1_000, (1, 1), "completed", {"attempt": 2}) == asyncio.run(main())


def test_cancelled_work_is_done_by_the_next_run() -> None:
    """A run that is cancelled while its handler waits leaves the item begun, and the next run makes the next attempt."""

    async def main() -> None:
        async with AsyncEngine() as engine:
            await engine.register(line("c", {"id": "H", "handler": "h"}))
            inside, attempts = asyncio.Event(), []

            @engine.handler("h")
            async def h(work: Any) -> None:
                attempts.append(work.attempt)
                inside.set()
                if work.attempt == 1:
                    await asyncio.Event().wait()

            case = await engine.create_case("c")
            first = asyncio.create_task(case.run())
            await inside.wait()
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first

            assert "completed" == await (await case.run()).state()
            assert [1, 2] == attempts

    asyncio.run(main())
