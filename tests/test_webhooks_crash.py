"""A process that is killed while it works and sends loses no message; each arrives, in the order of its case."""

from __future__ import annotations

import json
import random
import signal
import time
from pathlib import Path

import pytest
from nursery import Nursery
from receiver import Answer, Got, Receiver

from knhk import Engine, Outbound
from knhk.testing.clock import ManualClock
from knhk.work.signature import verify_signature

KILLS = 50
SECRET = "a secret of thirty-two characters"
WORKER = """
import sys, threading
from knhk import Engine, Outbound, build
from knhk.work import delivery

delivery.CLAIM_MARGIN = 50
url, secret = sys.argv[2:]
net = build("turns")
again = net.condition("again")
net.start.to(net.task("open")).to(again)
turn = net.task("turn", manual=True, split="xor")
again.to(turn)
turn.to(again, default=True)
turn.to(net.end, when="data.n % 20 == 0")

def work(name):
    n = 0
    while True:
        n += 1
        case = engine.create_case("turns", {"n": 1}, idempotency_key=f"{name}-{n}")
        if case.state == "created":
            case.start()
        while case.state == "running":
            case.complete_task("turn", {"n": case.data["n"] + 1})

with Engine(sys.argv[1], outbound=Outbound(allow=["127.0.0.1:" + url.split(":")[2].split("/")[0]])) as engine:
    engine.register(net.specification())
    if not engine.webhooks.list():
        engine.webhooks.subscribe(url, events=["task_*", "case_*", "item_*"], secret=secret, timeout=0.2)
    print("ready", flush=True)
    threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    with engine.serve(interval=0.005):
        for thread in threads:
            thread.join()
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_no_message_is_lost_and_none_overtakes_another(tmp_path: Path) -> None:
    """After fifty kills at random instants, with a receiver that fails now and then, every event of every case has arrived, signed,
    and the first arrivals of each case are in the order of its history."""
    path = str(tmp_path / "cases.db")
    chance = random.Random(21)

    def answer(got: Got) -> Answer:
        return Answer(503 if chance.random() < 0.02 else 200)

    with Receiver(answer) as receiver, Nursery(WORKER) as nursery:
        for _ in range(KILLS):
            with nursery.start(path, receiver.url("/hook"), SECRET) as worker:
                worker.wait_ready()
                time.sleep(chance.uniform(0, 0.25))
                assert worker.poll() is None, worker.stderr.read().decode()
                worker.kill()
                assert worker.wait() == -signal.SIGKILL
        before = len(receiver.got)
        clock = ManualClock(time.time_ns() // 1_000_000 + 86_400_000)
        with Engine(path, clock=clock, outbound=Outbound(allow=[f"127.0.0.1:{receiver.port}"])) as engine:
            for _ in range(20):
                engine.deliver()
                clock.advance(3_600_001)
            assert [] == list(engine.webhooks.dead()) + list(engine.webhooks.pending())
            histories = {
                header.case_id: [
                    (event.kind.value, event.path)
                    for event in engine.case(header.case_id).history()
                    if event.kind.value.startswith(("task_", "case_", "item_"))
                ]
                for header in engine.cases()
            }
        assert before > KILLS
        told: dict[str, dict[str, tuple[str, str]]] = {}
        for got in receiver.got:
            at = int(got.headers["knhk-signature"].partition(",")[0].removeprefix("t="))
            verify_signature(got.headers["knhk-signature"], got.body, SECRET, now=at)
            message = json.loads(got.body)
            told.setdefault(message["case_id"], {}).setdefault(message["id"], (message["type"], message["path"]))

    assert histories == {case: list(messages.values()) for case, messages in told.items()}
