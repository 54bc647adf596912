"""A process that is killed at any instant loses nothing that it had acknowledged, and does nothing twice."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from nursery import Nursery

from knhk import Engine
from knhk._codes import Code
from knhk.journal import decode_batch

KILLS = 50
STORES = ("knhk.stores.sqlite", "knhk.stores.log", "knhk.stores.redis", "knhk.stores.etcd", "knhk.stores.postgres")
"""What workers import before they are forked."""

WORKER = """
import os, sys, threading
from knhk import Engine, build

net = build("turns")
again = net.condition("again")
net.start.to(net.task("open")).to(again)
turn = net.task("turn", manual=True, split="xor")
again.to(turn)
turn.to(again, default=True)
turn.to(net.end, when="has(data.stop)")
log = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def acknowledge(text):
    os.write(log, (text + "\\n").encode())
    os.fsync(log)

def work(n):
    while True:
        case = engine.create_case("turns", {"n": 0}, idempotency_key=f"case-{n}")
        turn = case.data["n"] + 1
        case.complete_task("turn", {"n": turn})
        acknowledge(f"{case.id} {turn}")

with Engine(sys.argv[1], cache=2) as engine:
    engine.register(net.specification())
    for n in range(3):
        case = engine.create_case("turns", {"n": 0}, idempotency_key=f"case-{n}")
        if case.state == "created":
            case.start()
    print("ready", flush=True)
    threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""


def turns(engine: Engine, case_id: str) -> Iterator[int]:
    """The numbers of the turns that a case's history holds, in order."""
    for batch in engine._store.history(case_id):
        for record in decode_batch(batch)[1]:
            if record[0] is Code.FINISHED:
                yield record[4]["n"]


def count_lines(log: Path) -> int:
    """How many turns were acknowledged so far."""
    return log.read_bytes().count(b"\n")


def kill_workers(path: str, log: Path, *, kills: int) -> None:
    """Let workers take turns on a store's cases, one after the other, and kill each at a random instant, many amid their turns."""
    chance = random.Random(20)
    log.touch()
    with Nursery(WORKER, *STORES) as nursery:
        for _ in range(kills):
            lines = count_lines(log)
            with nursery.start(path, str(log)) as worker:
                if chance.random() < 0.8:
                    worker.wait_ready()
                    # A machine that is busy may get nowhere in a moment: then nothing would have been at stake.
                    amid = chance.random() < 0.5
                    while amid and count_lines(log) < lines + 6 and worker.poll() is None:
                        time.sleep(0.002)
                time.sleep(chance.uniform(0, 0.15))
                assert worker.poll() is None, worker.stderr.read().decode()
                worker.kill()
                assert -signal.SIGKILL == worker.wait()


def check_turns(path: str, log: Path, *, kills: int) -> None:
    """Every turn that a worker acknowledged is in the history, once and in order."""
    lines = log.read_text(encoding="ascii").splitlines()
    acknowledged = [(case_id, int(number)) for case_id, number in map(str.split, lines)]
    assert len(acknowledged) > kills
    with Engine(path) as engine:
        headers = list(engine.cases())
        assert len(headers) == 3
        assert {case_id for case_id, _ in acknowledged} == {header.case_id for header in headers}
        for header in headers:
            assert not header.quarantined
            done = list(turns(engine, header.case_id))
            assert done == list(range(1, len(done) + 1))
            told = [number for case_id, number in acknowledged if case_id == header.case_id]
            assert len(told) == len(set(told))
            assert told == sorted(told)
            assert set(told) <= set(done)
            # A kill between the commit and the log's line leaves a turn that nobody was told of.
            assert len(done) - len(told) <= kills
            case = engine.case(header.case_id)
            assert case.data == {"n": len(done)}
            assert case.enabled == ["turn"]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.parametrize("scheme", ["", "log:"], ids=["sqlite", "log"])
def test_nothing_acknowledged_is_lost_or_doubled(tmp_path: Path, scheme: str) -> None:
    """After fifty kills at random instants every turn that three threads acknowledged is in the history, once and in order."""
    path, log = f"{scheme}{tmp_path / 'cases'}", tmp_path / "acknowledged"
    kill_workers(path, log, kills=KILLS)

    check_turns(path, log, kills=KILLS)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.parametrize(
    ("kind", "option"), [("redis", "namespace=crash-"), ("etcd", "namespace=crash-"), ("postgresql", "schema=crash_")]
)
def test_nothing_acknowledged_is_lost_on_a_server(
    tmp_path: Path, kind: str, option: str, request: pytest.FixtureRequest
) -> None:
    """The same with twelve kills on a server."""
    path, log = f"{request.getfixturevalue(kind)}?{option}{os.getpid()}", tmp_path / "acknowledged"
    kill_workers(path, log, kills=12)

    check_turns(path, log, kills=12)
