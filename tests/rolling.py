"""
Three instances on one store, restarted one after the other by SIGTERM while clients work: no request may fail.

    python -m tests.rolling restarts=20 threads=4

Every client knows all three instances.  Commands name the version of their case, and a case is created under a key, so that
whatever no answer came to is sent again.  A worker does the external work that the cases bring.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import attrs

from knhk.client import AsyncClient, Client, Worker
from tests.listening import Awaited
from tests.served import ORDER, token
from tests.servers import free_port
from tests.test_server_serving import Process

INSTANCES = 3
PAUSE = 0.05
"""Seconds that a client rests between cases, so that the instances have time to start beside it."""

LEASE = 3.0
"""Seconds after which work is offered again whose claim was not answered."""

LABEL: dict[str, Any] = {
    "id": "label",
    "tasks": [{"id": "print", "external": {"topic": "labels"}}],
    "flows": [{"from": "start", "to": "print"}, {"from": "print", "to": "end"}],
}


@attrs.define
class Report:
    """
    What came of it.

    Attributes:
        seconds: of each call that was answered.
        failed: what was raised.
        cases, labels: the cases of people and of the worker that were acknowledged.
        exits: the status of each instance that was ended.
    """

    seconds: list[float] = attrs.field(factory=list)
    failed: list[str] = attrs.field(factory=list)
    cases: list[str] = attrs.field(factory=list)
    labels: list[str] = attrs.field(factory=list)
    exits: list[int] = attrs.field(factory=list)

    def __str__(self) -> str:
        calls = sorted(self.seconds)
        return (
            f"{len(self.exits)} restarts, {len(calls)} calls, {len(self.failed)} failed; "
            f"median {calls[len(calls) // 2] * 1000:.1f} ms, slowest {calls[-1] * 1000:.0f} ms"
        )


class Load:
    """A client that takes cases from their beginning to their end until it is stopped."""

    def __init__(self, client: Any, report: Report) -> None:
        self._client = client
        self._report = report
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._work)
        self.thread.start()

    def _work(self) -> None:
        while not self.over.wait(PAUSE):
            try:
                self._case()
            except Exception as error:
                self._report.failed.append(repr(error))

    def _case(self) -> None:
        cases, items = self._client.cases, self._client.items
        case = self._call(cases.create, "order", {"n": 1}, start=True)
        self._report.cases.append(case.case_id)
        (item,) = self._call(items.list, case_id=case.case_id).items
        self._call(items.start, item.id, expected=case.version)
        case = self._call(cases.get, case.case_id)
        self._call(items.complete, item.id, {"ok": True}, expected=case.version)
        case = self._call(cases.get, case.case_id)
        self._call(cases.cancel, case.case_id, expected=case.version)
        self._report.labels.append(self._call(cases.create, "label", start=True).case_id)

    def _call(self, operation: Any, *args: Any, **named: Any) -> Any:
        begun = time.perf_counter()
        answer = operation(*args, **named)
        self._report.seconds.append(time.perf_counter() - begun)
        return answer


@contextmanager
def loaded(urls: list[str], threads: int, report: Report) -> Iterator[None]:
    """Let clients of both kinds work: one for asyncio, and one that so many threads share."""
    with ExitStack() as stack:
        shared = stack.enter_context(Client(urls, token=token()))
        runner = stack.enter_context(asyncio.Runner())
        awaited = AsyncClient(urls, token=token())
        loads = [Load(each, report) for each in (Awaited(awaited, runner), *[shared] * threads)]
        try:
            yield
        finally:
            for each in loads:
                each.over.set()
            for each in loads:
                each.thread.join()
            runner.run(awaited.close())


@contextmanager
def worked(client: Client) -> Iterator[None]:
    """Let a worker do the external work, until all of it is done."""
    worker = Worker(client, name="w", concurrency=2, lease=LEASE, wait=1.0)
    worker.task("labels")(lambda work: {"label": work.id})
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        yield
        end = time.monotonic() + 60
        while client.cases.list(spec_id="label", state="running").items and time.monotonic() < end:
            thread.join(0.1)
    finally:
        worker.stop()
        thread.join()


def instance(directory: Path, number: int, port: int) -> Process:
    """Start an instance and wait until it serves."""
    named = {
        "STATE_PATH": str(directory / "shared"),
        "SHARED": "true",
        "INSTANCE_ID": f"i{number}",
        "API_PORT": str(port),
    }
    return Process(directory / f"i{number}", DRAIN_TIMEOUT="4", **named)


def roll(directory: Path, *, restarts: int, threads: int) -> Report:
    """Restart so many instances, one after the other, under load; returns what came of it once all cases were looked at."""
    report = Report()
    ports = [free_port() for _ in range(INSTANCES)]
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    running = [instance(directory, number, port) for number, port in enumerate(ports)]
    try:
        with Client(urls, token=token()) as client:
            client.workflows.register(ORDER)
            client.workflows.register(LABEL)
            with worked(client), loaded(urls, threads, report):
                for turn in range(restarts):
                    number = turn % INSTANCES
                    report.exits.append(running[number].end())
                    running[number] = instance(directory, number, ports[number])
            states = {each.case_id: each.state for each in client.cases.all(limit=1000)}
    finally:
        for each in running:
            each.end()
    lost = [each for each in report.cases if states.pop(each, None) != "cancelled"]
    lost += [each for each in report.labels if states.pop(each, None) != "completed"]
    report.failed += [f"case {each} was lost" for each in lost] + [f"case {each} is a second one" for each in states]
    return report


def main(arguments: list[str]) -> int:
    """Roll as the arguments say; 1 where anything failed."""
    plan = {
        "restarts": 20,
        "threads": 4,
        **{name: int(value) for name, value in (each.split("=") for each in arguments)},
    }
    with tempfile.TemporaryDirectory() as directory:
        report = roll(Path(directory), **plan)
    print(report)
    for each in report.failed[:20]:
        print(each)
    return 1 if report.failed or any(report.exits) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
