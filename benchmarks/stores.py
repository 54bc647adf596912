"""What cases cost on a disk: acknowledged steps a second, syncs and bytes a case, and a restart with many open cases."""

from __future__ import annotations

import os
import sqlite3
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.measure import Benchmark, Figure, Scale, sample, spread
from benchmarks.nets import line, ring
from knhk import Engine
from knhk.ports import Document, Durability
from knhk.running import RunningCase
from knhk.stores._group import Caller
from knhk.stores.sqlite import SqliteStore

CALLERS = 64
TURN = 4
"""Operations that wait for the disk before it is another's turn: a disk has moods, and ratios are taken between neighbours."""


def durable(scale: Scale) -> Iterator[Figure]:
    """
    One thread; each manual step is acknowledged under durability full.

    In turns of four with it, in the same folder: a commit of one row of 64 bytes in SQLite (WAL, synchronous FULL), which is
    the raw rate that the goal names, and an append of 64 bytes with fsync.
    """
    with tempfile.TemporaryDirectory() as folder, Engine(str(Path(folder, "cases.db"))) as engine:
        works = {"append": _raw_append(folder), "commit": _raw_commit(folder), "step": _steps(engine)}
        costs = _in_turns(works, scale.seconds(9))
    best = {name: min(each) for name, each in costs.items()}
    middle = {name: statistics.median(each) for name, each in costs.items()}
    yield Figure("append of 64 B and fsync", 1 / best["append"], "/s", _rates(costs["append"]))
    yield Figure("raw commit of one row, WAL and FULL", 1 / best["commit"], "/s", _rates(costs["commit"]))
    yield Figure("durable manual steps, one thread", 1 / best["step"], "/s", _rates(costs["step"]))
    ratio = best["commit"] / best["step"]
    medians = f"of the medians {middle['commit'] / middle['step']:.2f}"
    yield Figure("durable steps against raw commits", ratio, "x", medians, ">= 0.80", ratio >= 0.8)


def group(scale: Scale) -> Iterator[Figure]:
    """64 threads with a case each against one thread, all steps acknowledged under durability full, on one engine in turns."""
    with tempfile.TemporaryDirectory() as folder, Engine(str(Path(folder, "cases.db"))) as engine:
        engine.register(ring(100))
        cases = [engine.create_case("ring100") for _ in range(CALLERS)]
        for case in cases:
            case.start()
        positions = dict.fromkeys(range(CALLERS), 0)

        def steps(caller: int) -> None:
            for _ in range(TURN):
                cases[caller].complete_task(f"t{positions[caller]}")
                positions[caller] = (positions[caller] + 1) % 100

        def alone() -> int:
            steps(0)
            return TURN

        with ThreadPoolExecutor(CALLERS) as pool:

            def together() -> int:
                list(pool.map(steps, range(CALLERS)))
                return TURN * CALLERS

            costs = _in_turns({"one": alone, "many": together}, scale.seconds(6))
    one, many = costs["one"], costs["many"]
    yield Figure("durable manual steps, one caller", 1 / min(one), "/s", _rates(one))
    yield Figure(f"durable manual steps, {CALLERS} callers", 1 / min(many), "/s", _rates(many))
    ratio = min(one) / min(many)
    medians = f"of the medians {statistics.median(one) / statistics.median(many):.2f}"
    yield Figure(f"{CALLERS} callers against one", ratio, "x", medians, ">= 20", ratio >= 20)


class CountingStore(SqliteStore):
    """The real store; counts the transactions it writes, each of which is one sync under durability full."""

    transactions = 0

    def _write(self, group: Sequence[Caller]) -> None:
        self.transactions += 1
        super()._write(group)

    def write(
        self, documents: Sequence[Document], removed: Sequence[Document] = (), held: Sequence[Document] = ()
    ) -> None:
        """Write documents, which is a transaction."""
        self.transactions += 1
        super().write(documents, removed, held)


def disk_cost(scale: Scale) -> Iterator[Figure]:
    """
    Transactions a case, and bytes of the file a case after a checkpoint, of cases of 10 tasks.

    Under durability full a transaction is a sync.
    Among 64: as many threads run cases at the same time, and the store may commit what they wrote together.
    """
    kinds: dict[str, tuple[dict[str, Any], int, int]] = {
        "10 routing tasks": ({}, 1, 2),
        "10 replayable tasks": ({"handler": "h", "replayable": True}, 1, 2),
        "10 handlers alone": ({"handler": "h"}, 1, 12),
        f"10 handlers among {CALLERS}": ({"handler": "h"}, CALLERS, 2),
    }
    for name, (task, callers, goal) in kinds.items():
        count = scale.count(1_000, 64)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "cases.db")
            # The syncs themselves are left out where one caller waits; among many they are what brings the callers together.
            store = CountingStore(path, durability=Durability.OFF if callers == 1 else Durability.FULL)
            with Engine(store) as engine:
                engine.handler("h")(lambda work: {"n": work.data.get("n", 0) + 1})
                engine.register(line("cases", 10, **task))
                begun = store.transactions
                _run_cases(engine, count, callers)
                transactions = (store.transactions - begun) / count
            size = path.stat().st_size / count
        yield Figure(f"syncs of a case of {name}", transactions, "", "", f"<= {goal}", transactions <= goal)
        yield Figure(f"bytes on disk of a case of {name}", size, "B", f"of {count:,} cases", "< 2,048", size < 2_048)


def open_cases(scale: Scale) -> Iterator[Figure]:
    """10,000 open cases of three manual tasks on SQLite: open the file again, then drive all of them to their end."""
    count = scale.count(10_000, 500)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "cases.db"))
        with Engine(path, durability="off") as engine:
            engine.register(line("open", 3, manual={}))
            for number in range(count):
                engine.create_case("open", {"order": number}).start()
        begun = time.perf_counter()
        with Engine(path, durability="off") as engine:
            first = next(iter(engine.work_items(state="offered")))
            ready = time.perf_counter() - begun
            yield Figure(f"reopen {count:,} open cases until the worklist answers", ready, "s", "n 1", "< 1", ready < 1)
            begun = time.perf_counter()
            engine.case(first.case_id).complete_task(first.path)
            yield Figure("first command on a case after that", (time.perf_counter() - begun) * 1e3, "ms", "n 1")
            begun = time.perf_counter()
            while rows := list(engine.work_items(state="offered")):
                for row in rows:
                    engine.case(row.case_id).complete_task(row.path)
            spent = time.perf_counter() - begun
            done = sum(1 for _ in engine.cases(state="completed"))
    yield Figure(f"completed of {count:,}", done, "cases", "", f"= {count:,}", done == count)
    yield Figure("manual steps a second on SQLite, durability off", (3 * count - 1) / spent, "/s", "n 1")


def _in_turns(works: Mapping[str, Callable[[], int]], seconds: float) -> dict[str, list[float]]:
    """Run slices of several works in turns; return the seconds an operation of each slice."""
    costs: dict[str, list[float]] = {name: [] for name in works}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for name, work in works.items():
            costs[name] += sample(work, seconds=0, at_least=1)
    return costs


def _rates(costs: Sequence[float]) -> str:
    """Return how the rates lie that belong to these costs."""
    return spread([1 / each for each in costs])


def _steps(engine: Engine) -> Callable[[], int]:
    """Return a slice of acknowledged manual steps of one case."""
    engine.register(ring(100))
    case = engine.create_case("ring100")
    case.start()
    position = [0]

    def steps() -> int:
        for _ in range(TURN):
            case.complete_task(f"t{position[0]}")
            position[0] = (position[0] + 1) % 100
        return TURN

    return steps


def _raw_append(folder: str) -> Callable[[], int]:
    """Return a slice of appends of 64 bytes, each with fsync."""
    path = Path(folder, "raw")

    def append() -> int:
        file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        try:
            for _ in range(TURN):
                os.write(file, b"x" * 64)
                os.fsync(file)
        finally:
            os.close(file)
        return TURN

    return append


def _raw_commit(folder: str) -> Callable[[], int]:
    """Return a slice of commits of one row of 64 bytes."""
    connection = sqlite3.connect(Path(folder, "raw.db"), isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE raw (id INTEGER PRIMARY KEY, record BLOB NOT NULL)")

    def commit() -> int:
        for _ in range(TURN):
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO raw (record) VALUES (?)", (b"x" * 64,))
            connection.execute("COMMIT")
        return TURN

    return commit


def _run_cases(engine: Engine, count: int, callers: int) -> None:
    """Create and run cases, by one thread or by many at the same time."""
    together = threading.Barrier(callers)

    def run(numbers: range) -> None:
        together.wait()
        for _ in numbers:
            case: RunningCase = engine.create_case("cases", {"order": 17, "amount": 120})
            case.run()

    if callers == 1:
        run(range(count))
        return
    with ThreadPoolExecutor(callers) as pool:
        list(pool.map(run, (range(caller, count, callers) for caller in range(callers))))


BENCHMARKS: dict[str, Benchmark] = {"durable": durable, "group": group, "disk": disk_cost, "open": open_cases}
