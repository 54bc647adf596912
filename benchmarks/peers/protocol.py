"""
What a worker speaks, on its standard input and output: a JSON object a line, one answer a request.

It says first who it is: ``{"name", "version", "absent": {workload: reason}}``.
Then, for ``{"kind": "cases", "workload", "size", "repeat", "threads"}``, it runs that many cases of a workload and answers
``{"wall", "cpu"}``, seconds for all of them; for ``{"kind": "idle", "count"}`` it opens cases that wait, and answers
``{"bytes"}``, what each of the second half added to the process; for ``{"kind": "leave", "folder", "count"}`` it leaves
open cases in a folder, and for ``{"kind": "restart", "folder", "count"}``, in another process, it answers ``{"wall", "cpu"}``
until the first command on one of them is acknowledged.
Whatever fails is answered with ``{"error"}``, and the worker goes on.

A worker imports this file alone, in the environment of its engine, so there is nothing but the standard library in it.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

Run = Callable[[], object]
"""Creates one case, runs it to its end and raises where it did not get there."""


class Worker:
    """
    An engine that can be asked to work; a subclass a peer.

    Attributes:
        name, version: who it is.
        absent: the workloads it cannot do, with the reason.
    """

    name = ""
    version = ""
    absent: ClassVar[Mapping[str, str]] = {}

    def prepare(self, workload: str, size: int, folder: str) -> Run:
        """Return what runs one case of a workload (the method of that name does it); `folder` is empty and ours."""
        prepared: Run = getattr(self, workload)(size, folder)
        return prepared

    def idle(self, number: int) -> object:
        """Open one case that waits for a person, and return what keeps it alive."""
        raise NotImplementedError

    def leave(self, folder: str, count: int) -> None:
        """Leave open cases behind, each waiting for a person."""
        raise NotImplementedError

    def restart(self, folder: str, count: int) -> None:
        """Open what `leave` left, do the work that one of the cases waits for, and return when that is acknowledged."""
        raise NotImplementedError


def serve(worker: Worker) -> None:
    """Answer requests until the input ends."""
    # What an engine prints must not stand between the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(answer: Mapping[str, Any]) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    say({"name": worker.name, "version": worker.version, "absent": dict(worker.absent)})
    prepared: dict[tuple[str, int], Run] = {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        for line in sys.stdin:
            request = json.loads(line)
            try:
                say(_answer(worker, request, prepared, folder))
            except Exception as error:  # noqa: BLE001 - whatever an engine raises is what there is to report
                traceback.print_exc()
                say({"error": f"{type(error).__name__}: {error}"})
    # Engines leave threads behind that wait for nothing; nobody waits for them.
    answers.close()
    sys.stderr.flush()
    os._exit(0)


def _answer(
    worker: Worker, request: Mapping[str, Any], prepared: dict[tuple[str, int], Run], folder: str
) -> Mapping[str, Any]:
    kind = request["kind"]
    if kind == "cases":
        key = request["workload"], request["size"]
        if key not in prepared:
            own = Path(folder, f"{key[0]}-{key[1]}")
            own.mkdir()
            prepared[key] = worker.prepare(*key, str(own))
        return timed(prepared[key], request["repeat"], request["threads"])
    if kind == "idle":
        return {"bytes": _idle_bytes(worker, request["count"])}
    if kind == "leave":
        worker.leave(request["folder"], request["count"])
        return {}
    if kind == "restart":
        return timed(lambda: worker.restart(request["folder"], request["count"]), 1, 1)
    raise ValueError(f"there is no request {kind!r}")


def timed(run: Run, repeat: int, threads: int) -> Mapping[str, Any]:
    """Run cases, on several threads if asked; return the seconds that passed and those that the process worked."""

    def some(count: int) -> None:
        for _ in range(count):
            run()

    if threads == 1:
        wall, cpu = time.perf_counter(), time.process_time()
        some(repeat)
        return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    shares = [repeat // threads + (number < repeat % threads) for number in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        wall, cpu = time.perf_counter(), time.process_time()
        list(pool.map(some, shares))
        return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def _idle_bytes(worker: Worker, count: int) -> float:
    half = count // 2
    kept = [worker.idle(number) for number in range(half)]
    gc.collect()
    before = resident()
    kept += [worker.idle(half + number) for number in range(half)]
    gc.collect()
    return (resident() - before) / half


def resident() -> int:
    """Return the bytes of memory that this process has."""
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - a file of the kernel
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def expect(condition: object, what: str = "the case did not reach its end") -> None:
    """Raise unless it is so: a figure of work that was not done is worth nothing."""
    if not condition:
        raise RuntimeError(what)
