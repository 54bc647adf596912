"""A process that is killed while worklets are called, launched, run, cancelled and end loses none and doubles none."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from nursery import Nursery

from knhk import Engine, EventKind, RunningCase

KILLS = 30
WORKER = """
import sys
from knhk import Engine, build

path, number = sys.argv[1:]
repair = build("repair")
repair.sequence(repair.start, repair.task("fix", handler="fix"), repair.task("deep", worklet="deeper"), repair.end)
deeper = build("deeper")
deeper.sequence(deeper.start, deeper.task("dig", handler="fix"), deeper.end)
slow = build("slow")
slow.sequence(slow.start, slow.task("ask", manual=True), slow.end)
net = build("above")
check = net.task("check", handler="check", exlet=[{"when": "data.n == 1", "worklet": "slow"}, {"worklet": "repair"}])
work = net.task("work", worklet={"worklet": "deeper"}, multiple={"count": 2})
net.sequence(net.start, check, work, net.end)

with Engine(path, durability="normal") as engine:
    for each in (repair, deeper, slow, net):
        engine.register(each.specification())

    @engine.handler("check")
    def check(work):
        print("check", flush=True)
        raise ValueError("no")

    @engine.handler("fix")
    def fix(work):
        print("fix", flush=True)
        return {f"{work.task}-{work.case_id.count('.')}": work.idempotency_key}

    print("ready", flush=True)
    with engine.serve(workers=3, interval=0.01):
        for n in range(6):
            engine.create_case("above", {"n": n}, idempotency_key=f"{number}-{n}").start()
            print("made", flush=True)
            if n == 2:
                for header in engine.cases(spec_id="slow", state="running"):
                    above = engine.case(engine.case(header.case_id).principal[0])
                    if above.state == "running":
                        above.cancel()
        sys.stdin.read()
"""
LINES = 30
"""How many lines a worker writes at the least that nobody kills."""


def below(engine: Engine, case: RunningCase) -> list[str]:
    """The suffixes of the worklets that a case has called, in order."""
    called = [event for event in case.history() if event.kind is EventKind.WORKLET_CALLED]
    return [case.id + event.details["suffix"] for event in called]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_no_worklet_is_lost_or_doubled(tmp_path: Path) -> None:
    """After thirty kills each worklet that was called has one case, each result is in the case above once, nothing is left open."""
    path = str(tmp_path / "cases.db")
    chance = random.Random(36)
    with Nursery(WORKER) as nursery:
        for kill in range(KILLS):
            with nursery.start(path, str(kill)) as worker:
                worker.wait_ready()
                # So far into its work, however quick the machine is.
                for _ in range(chance.randint(0, LINES)):
                    assert worker.stdout.readline(), worker.stderr.read().decode()
                time.sleep(chance.uniform(0, 0.005))

    with Engine(path, durability="off") as engine:
        engine.handler("check")(_fail)
        engine.handler("fix")(lambda work: {f"{work.task}-{work.case_id.count('.')}": work.idempotency_key})
        while engine.tick() + engine.run_pending():
            pass
        for header in list(engine.cases(spec_id="slow", state="running")):
            engine.case((engine.case(header.case_id).principal or ("", 0))[0]).cancel()
        engine.tick()
        headers = {header.case_id: header for header in engine.cases()}
        assert {"completed", "cancelled", "created"} >= {header.state for header in headers.values()}
        called: list[str] = []
        for case_id, header in headers.items():
            case = engine.case(case_id)
            called += below(engine, case)
            finished = Counter(
                e.path for e in case.history() if e.kind in (EventKind.TASK_COMPLETED, EventKind.INSTANCE_COMPLETED)
            )
            assert set(finished.values()) <= {1}
            if header.spec_id == "above" and header.state == "completed":
                assert {"check": 1, "work#1": 1, "work#2": 1} == finished
                assert {"n", "fix-1", "dig-2", "dig-1"} == case.data.keys()
        assert len(called) == len(set(called))
        launched = {case_id for case_id, header in headers.items() if header.spec_id != "above"}
        # What was cancelled before it was launched never comes up; nothing else is missing, and nothing comes up by itself.
        assert launched <= set(called)
        missing = set(called) - launched
        assert all(headers[each.rpartition(".")[0]].state == "cancelled" for each in missing)
        done = Counter(headers[each].state for each in launched)
        assert done["completed"] > KILLS
        assert done["cancelled"] > 0


def _fail(_: object) -> None:
    raise ValueError("no")
