"""Retries where it matters: ten thousand cases with poison among them, a service that was down, and a process that is killed."""

from __future__ import annotations

import heapq
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from nursery import Nursery

from knhk import Engine, EventKind, HandlerError, Specification, Work
from knhk.testing.clock import ManualClock

CASES = 10_000
OUTAGE = (10_000, 40_000)
"""When the service is down, in milliseconds."""


def line(*tasks: dict[str, Any]) -> Specification:
    """Tasks one after the other."""
    ids = ["start", *(task["id"] for task in tasks), "end"]
    flows = [{"from": a, "to": b} for a, b in zip(ids, ids[1:], strict=False)]
    return Specification.from_dict({"id": "r", "tasks": list(tasks), "flows": flows})


def count(engine: Engine, state: str) -> int:
    """How many cases are in a state."""
    return sum(1 for _ in engine.cases(state=state))


@pytest.mark.parametrize("driven", ["inline", "by a runner"])
def test_poison_fails_only_itself(driven: str) -> None:
    """Of 10,000 cases with 1 % poison 9,900 complete and 100 fail after exactly 3 attempts; after the repair all complete, once."""
    clock = ManualClock()
    broken = [True]
    # With a wait that chance makes nothing, an attempt would follow at once.
    with Engine(clock=clock, cache=CASES, chance=random.Random(4)) as engine:
        policy = {"max_attempts": 3, "initial": "1s"}
        engine.register(line({"id": "A", "handler": "a", "retry": policy}, {"id": "B", "handler": "b"}))

        @engine.handler("a")
        def a(work: Work) -> None:
            if broken[0] and work.data["n"] % 100 == 0:
                raise OSError("poison")

        engine.handler("b")(lambda _: {"b": True})
        cases = engine.create_many("r", ({"n": n} for n in range(CASES)))
        if driven == "inline":
            engine.run_many(cases)
            for _ in range(2):
                clock.advance(2_000)
                assert 100 == engine.tick()
                try:
                    engine.run_pending()
                except HandlerError as error:
                    assert 99 == len(error.__notes__)
        else:
            for case in cases:
                case.start()
            with engine.serve(workers=4, interval=0.01) as runner:
                end = time.monotonic() + 120
                while runner.failures < 100 or count(engine, "completed") < CASES - 100:
                    clock.advance(2_000)
                    runner.wake()
                    # The workers need the processor more than whoever waits for them.
                    time.sleep(0.02)
                    assert time.monotonic() < end
            assert 100 == runner.failures

        assert (CASES - 100, 100) == (count(engine, "completed"), count(engine, "failed"))
        poison = [case for case in cases if case.state == "failed"]
        assert [n for n in range(0, CASES, 100)] == [case.data["n"] for case in poison]
        for case in poison:
            kinds = Counter(event.kind for event in case.history())
            assert (3, 3) == (kinds[EventKind.ATTEMPT_BEGUN], kinds[EventKind.ATTEMPT_FAILED])

        broken[0] = False
        assert 100 == sum(case.retry_failed() for case in poison)
        engine.run_pending()

        assert CASES == count(engine, "completed")
        for case in cases:
            done = [event.path for event in case.history() if event.kind is EventKind.TASK_COMPLETED]
            assert ["A", "B"] == done


def test_a_thousand_clients_come_back_spread() -> None:
    """After a service was down for 30 s, its clients' retries and calls never make more than twice the steady rate."""
    clients, every = 1_000, 10_000
    clock, calls = ManualClock(0), list[int]()
    with Engine(clock=clock, chance=random.Random(4)) as engine:
        engine.register(line({"id": "A", "handler": "call", "retry": {"max_attempts": 1_000}}))

        @engine.handler("call")
        def call(_: Work) -> None:
            calls.append(clock.now())
            if OUTAGE[0] <= clock.now() < OUTAGE[1]:
                raise ConnectionError("down")

        chance = random.Random(5)
        agenda: list[tuple[int, int, Any]] = [(chance.randrange(every), client, None) for client in range(clients)]
        heapq.heapify(agenda)
        while agenda[0][0] < OUTAGE[1] + 60_000:
            at, client, case = heapq.heappop(agenda)
            clock.advance(at - clock.now())
            case = engine.create_case("r") if case is None else case
            case.run()
            due = case.next_due
            heapq.heappush(agenda, (at + every, client, None) if due is None else (due, client, case))

    def peak(since: int, until: int) -> int:
        """The most calls in any second of a span."""
        inside = [at for at in calls if since <= at < until]
        return max(sum(1 for at in inside if second <= at < second + 1_000) for second in range(since, until, 100))

    steady = clients * 1_000 / every
    assert peak(0, OUTAGE[0]) <= 1.5 * steady
    assert peak(OUTAGE[1], OUTAGE[1] + 60_000) <= 2 * steady
    # And they do come back: a minute after the return everything is as before.
    assert 0.8 * steady <= sum(1 for at in calls if at >= OUTAGE[1] + 50_000) / 10


WAITS = """
import sys
from knhk import Engine, build
from knhk.testing.chance import FixedChance
from knhk.testing.clock import ManualClock

net = build("r")
policy = {"max_attempts": 4, "initial": "10s", "coefficient": 3, "max": "1h", "deadline": "1d"}
net.sequence(net.start, net.task("A", handler="a", retry=policy), net.end)
clock = ManualClock(0)
with Engine(sys.argv[1], clock=clock, chance=FixedChance()) as engine:
    engine.register(net.specification())

    @engine.handler("a")
    def a(work):
        raise OSError(f"attempt {work.attempt}")

    case = engine.create_case("r").run()
    clock.advance(10_000)
    case.run()
    print(case.next_due, flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.parametrize("scheme", ["", "log:"], ids=["sqlite", "log"])
def test_a_wait_that_is_killed_goes_on_where_it_was(tmp_path: Path, scheme: str) -> None:
    """Killed between its second and third attempt, work is due as before, has two attempts left, and its deadline stands."""
    path = f"{scheme}{tmp_path / 'r'}"
    child = subprocess.Popen(
        [sys.executable, "-c", WAITS, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stderr is not None
    with child.stdin, child.stdout, child.stderr:
        assert b"40000\n" == child.stdout.readline(), child.stderr.read()
        child.kill()
        assert -signal.SIGKILL == child.wait()

    clock, attempts = ManualClock(39_999), list[int]()
    with Engine(path, clock=clock) as engine:

        @engine.handler("a")
        def a(work: Work) -> None:
            attempts.append(work.attempt)
            raise OSError

        (header,) = engine.cases()
        case = engine.case(header.case_id)
        assert (40_000, []) == (case.run().next_due, attempts)
        clock.advance(1)
        engine.tick()
        engine.run_pending()
        with engine._cache.hold(case.id) as resident:
            assert 86_400_000 == resident.case.item(1).until
        clock.advance(90_000)

        with pytest.raises(HandlerError):
            case.run()

        assert ([3, 4], "failed") == (attempts, case.state)


KILLS = 50
WORKER = """
import os, sys, time
from knhk import Engine, build

net = build("r")
policy = {"max_attempts": 1000, "initial": "2ms", "max": "8ms"}
for name in "AB":
    net.task(name, handler="work", retry=policy)
net.sequence(net.start, "A", "B", net.end)
log = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

with Engine(sys.argv[1], cache=5) as engine:
    engine.register(net.specification())

    @engine.handler("work")
    def work(work):
        os.write(log, f"{work.idempotency_key} {work.attempt}\\n".encode())
        os.fsync(log)
        if work.attempt < 4:
            raise OSError("not yet")
        return {work.task: work.attempt}

    for number in range(5):
        engine.create_case("r", {}, idempotency_key=f"{sys.argv[3]}-{number}").start()
    print("ready", flush=True)
    with engine.serve(workers=3, interval=0.01):
        sys.stdin.read()
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_retries_that_are_killed_at_any_instant_lose_and_double_nothing(tmp_path: Path) -> None:
    """After fifty kills every attempt was made under a number of its own, in order, and every case completes with each task once."""
    path, log = str(tmp_path / "r.db"), tmp_path / "attempts"
    chance = random.Random(22)
    with Nursery(WORKER) as nursery:
        for number in range(KILLS):
            with nursery.start(path, str(log), str(number)) as worker:
                worker.wait_ready()
                time.sleep(chance.uniform(0, 0.1))
                worker.kill()
                assert worker.wait() == -signal.SIGKILL
    made: dict[str, list[int]] = {}
    for key, attempt in map(str.split, log.read_text(encoding="ascii").splitlines()):
        made.setdefault(key, []).append(int(attempt))
    assert all(attempts == sorted(set(attempts)) for attempts in made.values())
    with Engine(path) as engine:
        engine.handler("work")(lambda work: {work.task: work.attempt})
        while count(engine, "running"):
            engine.tick()
            engine.run_pending()
        cut_off = 0
        for header in engine.cases():
            case = engine.case(header.case_id)
            history = case.history()
            assert "completed" == case.state
            assert ["A", "B"] == [event.path for event in history if event.kind is EventKind.TASK_COMPLETED]
            for item, path_ in enumerate("AB", 1):
                begun = [e.details["attempt"] for e in history if e.path == path_ and e.kind is EventKind.ATTEMPT_BEGUN]
                failed = sum(e.path == path_ and e.kind is EventKind.ATTEMPT_FAILED for e in history)
                assert list(range(1, len(begun) + 1)) == begun
                assert set(made.get(f"{case.id}:{item}", ())) <= set(begun)
                cut_off += len(begun) - failed - 1
        # Each kill cuts off as many attempts as there are workers, at the most.
        assert cut_off <= 3 * KILLS
        assert any(len(attempts) > 1 for attempts in made.values())
