"""Ten thousand timers, a process that is killed while they fire, and clocks that jump: each fires once, and never early."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest
from nursery import Nursery

from knhk import Engine, EventKind, build
from knhk.testing.clock import ManualClock

CASES = 10_000
KILLS = 50
START = 1_000_000_000_000
HOUR = 3_600_000
WORKER = """
import sys
from knhk import Engine
from knhk.testing.clock import ManualClock

clock = ManualClock(int(sys.argv[2]))
with Engine(sys.argv[1], clock=clock, durability="normal") as engine:
    print("ready", flush=True)
    while True:
        engine.tick()
        # Hours at a time, as after a pause of the machine.
        clock.advance(600_000)
        print(clock.now(), flush=True)
"""


def made(path: Path) -> dict[str, int]:
    """Make the cases, each with one timer at a time of its own; returns when each is due."""
    due = {}
    chance = random.Random(5)
    with Engine(str(path), clock=ManualClock(START), durability="off") as engine:
        for hours in range(1, 101):
            net = build(f"timer-{hours}")
            net.start.to(net.task("wait", timer=f"{hours * 6}m")).to(net.end)
            engine.register(net.specification())
        for number in range(CASES):
            hours = chance.randint(1, 100)
            case = engine.create_case(f"timer-{hours}", {"n": number})
            case.start()
            due[case.id] = START + hours * 6 * 60_000
    return due


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_every_timer_fires_once(tmp_path: Path) -> None:
    """Over kills at random instants, with a clock that starts again behind where it was, each of 10,000 timers fires once."""
    path = tmp_path / "timers.db"
    due = made(path)
    chance = random.Random(11)
    now = START
    with Nursery(WORKER) as nursery:
        for kill in range(KILLS):
            with nursery.start(str(path), str(now)) as worker:
                worker.wait_ready()
                time.sleep(chance.uniform(0, 0.12))
                worker.kill()
                reached = [int(line) for line in worker.stdout.read().split()]
                assert -signal.SIGKILL == worker.wait()
            # Clocks jump: the next process believes that it is an hour earlier, or an hour later, than this one did.
            jump = chance.choice([-HOUR, 0, HOUR if kill % 5 == 4 else 0])
            now = max(START, (reached[-1] if reached else now) + jump)

    with Engine(str(path), clock=ManualClock(START + 1_000 * HOUR), durability="off") as engine:
        engine.tick()
        assert ["completed"] * CASES == [header.state for header in engine.cases()]
        for case_id, at in due.items():
            fired = [event.at for event in engine.case(case_id).history() if event.kind is EventKind.TASK_FIRED]
            assert 1 == len(fired)
            assert at <= fired[0]
