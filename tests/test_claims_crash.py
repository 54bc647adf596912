"""Workers that are killed while they claim, extend and complete lose nothing and do nothing twice."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from nursery import Nursery

from knhk import Engine, EventKind, Limits, Specification, build

ROUNDS = 25
OPEN = 300
WORKER = """
import os, sys
from knhk import ClaimLost, Engine, Limits

log = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
# Kills may end one lease of the same work after the other.
with Engine(sys.argv[1], cache=20, limits=Limits(leases=1_000)) as engine:
    print("ready", flush=True)
    while True:
        engine.tick()
        for claim in engine.claim("labels", worker=str(os.getpid()), max=5, lease="100ms"):
            try:
                claim.extend("200ms")
                claim.complete({"by": claim.token})
            except ClaimLost:
                continue
            os.write(log, f"{claim.id} {claim.token}\\n".encode())
            os.fsync(log)
"""


def top_up(path: str, specification: Specification) -> int:
    """Leave so much work that the kill falls into it, however quick the machine is; returns how many cases are new."""
    with Engine(path) as engine:
        engine.register(specification)
        missing = OPEN - sum(1 for _ in engine.cases(state="running"))
        for case in engine.create_many("parcel", [{} for _ in range(missing)]):
            case.start()
        return missing


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_killed_workers_lose_and_double_nothing(tmp_path: Path) -> None:
    """After fifty kills at random instants, two workers at a time, each acknowledged result is in its case, each case once done."""
    path, log = str(tmp_path / "cases"), tmp_path / "acknowledged"
    net = build("parcel")
    net.sequence(net.start, net.task("label", external="labels"), net.end)
    chance = random.Random(4)
    log.touch()
    made = 0
    with Nursery(WORKER) as nursery:
        for _ in range(ROUNDS):
            made += top_up(path, net.specification())
            with nursery.start(path, str(log)) as first, nursery.start(path, str(log)) as second:
                for worker in (first, second):
                    worker.wait_ready()
                time.sleep(chance.uniform(0, 0.1))
                for worker in (first, second):
                    assert worker.poll() is None, worker.stderr.read().decode()
                first.kill()
                second.kill()
                assert [-signal.SIGKILL] * 2 == [first.wait(), second.wait()]

    with Engine(path, limits=Limits(leases=1_000)) as engine:
        end = time.monotonic() + 60
        while len(list(engine.cases(state="completed"))) < made:
            assert time.monotonic() < end
            engine.tick()
            for claim in engine.claim("labels", worker="last", max=50, wait="50ms"):
                claim.complete({"by": claim.token})
        acknowledged = dict(text.split() for text in log.read_text(encoding="ascii").splitlines())
        assert acknowledged
        assert len(acknowledged) == len(log.read_text(encoding="ascii").splitlines())
        results = {f"{header.case_id}:1": engine.case(header.case_id).data["by"] for header in engine.cases()}
        assert acknowledged.items() <= results.items()
        assert made == len(results)
        for header in engine.cases():
            kinds = Counter(event.kind for event in engine.case(header.case_id).history())
            assert (1, 1) == (kinds[EventKind.TASK_COMPLETED], kinds[EventKind.CASE_COMPLETED])
        assert [] == list(engine.work_items()) == engine.dead_letters.list()
