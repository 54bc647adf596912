"""Durable steps: what one caller pays, what callers share, on both durable stores, beside what the disk itself allows."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks.engine import line, ring
from benchmarks.measure import Figure, slices
from knhk import AsyncEngine, Engine
from knhk.ports import Store
from knhk.stores._group import Caller
from knhk.stores.log import LogStore
from knhk.stores.sqlite import SqliteStore
from knhk.work.handlers import Work

SECONDS = 0.4


class CountedSqlite(SqliteStore):
    """The real store; counts its groups, each of which is one transaction and one sync."""

    groups = 0

    def _write(self, group: Sequence[Caller]) -> None:
        self.groups += 1
        super()._write(group)


class CountedLog(LogStore):
    """The real store; counts its groups, each of which is one frame and one sync."""

    groups = 0

    def _write(self, group: Sequence[Caller]) -> None:
        self.groups += 1
        super()._write(group)


Counted = CountedSqlite | CountedLog
STORES: dict[str, Callable[[Path], Counted]] = {"SQLite": CountedSqlite, "log": CountedLog}


class Raw:
    """What the disk allows, without an engine: a record of 64 bytes, durable, again and again."""

    def __init__(self, folder: Path) -> None:
        self._appended = os.open(folder / "appended", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        self._zeroed = os.open(folder / "zeroed", os.O_CREAT | os.O_RDWR)
        os.write(self._zeroed, bytes(8 * 1024 * 1024))
        os.fsync(self._zeroed)
        self._place = 0
        self._database = sqlite3.connect(folder / "raw.db", isolation_level=None)
        for statement in ("PRAGMA journal_mode = wal", "PRAGMA synchronous = full", "CREATE TABLE t (x)"):
            self._database.execute(statement).fetchall()

    def close(self) -> None:
        """Give the files back."""
        os.close(self._appended)
        os.close(self._zeroed)
        self._database.close()

    def append(self) -> int:
        """Append and fsync."""
        for _ in range(20):
            os.write(self._appended, b"x" * 64)
            os.fsync(self._appended)
        return 20

    def overwrite(self) -> int:
        """Overwrite zeros and sync the data, as the log store does."""
        for _ in range(20):
            os.pwrite(self._zeroed, b"x" * 64, self._place)
            self._place = (self._place + 64) % (8 * 1024 * 1024)
            os.fdatasync(self._zeroed)
        return 20

    def commit(self) -> int:
        """Commit one row in WAL mode with synchronous=FULL, as the SQLite store does."""
        for _ in range(20):
            self._database.execute("BEGIN IMMEDIATE")
            self._database.execute("INSERT INTO t VALUES (?)", (b"x" * 64,))
            self._database.execute("COMMIT")
        return 20


class Steps:
    """Manual steps on one store, by threads, each on a case of its own and each waiting until it is acknowledged."""

    def __init__(self, store: Counted, threads: int) -> None:
        self.store = store
        self._engine = Engine(store)
        self._engine.register(ring(100))
        self._cases = [self._engine.create_case("ring100") for _ in range(threads)]
        for case in self._cases:
            case.start()
        self._position = 0

    def run(self, count: int) -> int:
        """Make `count` steps on each case; returns how many that were."""
        first = self._position

        def steps(number: int) -> None:
            for position in range(first, first + count):
                self._cases[number].complete_task(f"t{position % 100}")

        if len(self._cases) == 1:
            steps(0)
        else:
            threads = [threading.Thread(target=steps, args=(number,)) for number in range(len(self._cases))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        self._position += count
        return count * len(self._cases)


def one_caller() -> Iterator[Figure]:
    """One thread, each step acknowledged under durability full, beside the raw rates of the same seconds, in turns."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        raw = Raw(folder)
        ways: dict[str, Callable[[], int]] = {
            "append of 64 B and fsync": raw.append,
            "overwrite of 64 B and fdatasync": raw.overwrite,
            "one row of 64 B in SQLite, WAL, FULL": raw.commit,
        }
        runs = {kind: Steps(make(folder / kind), 1) for kind, make in STORES.items()}
        for kind, run in runs.items():
            ways[f"durable manual steps, 1 thread, {kind}"] = lambda run=run: run.run(20)  # type: ignore[misc]
        best = dict.fromkeys(ways, float("inf"))
        for _ in range(4):
            for what, work in ways.items():
                best[what] = min(best[what], slices(work, seconds=SECONDS, at_least=2)[0])
        raw.close()
        for run in runs.values():
            run.store.close()
    for what, cost in best.items():
        yield Figure(what, 1 / cost, "/s")
    limits = {"SQLite": "one row of 64 B in SQLite, WAL, FULL", "log": "overwrite of 64 B and fdatasync"}
    for kind, limit in limits.items():
        ratio = best[limit] / best[f"durable manual steps, 1 thread, {kind}"]
        goal = ratio >= 0.8 if kind == "SQLite" else None
        yield Figure(f"1 thread, {kind}, against {limit}", ratio, "x", "", ">= 0.8" if kind == "SQLite" else "", goal)


def many_threads() -> Iterator[Figure]:
    """1, 8 and 64 threads that wait for the same store, in turns: steps a second, and how many shared a sync."""
    with tempfile.TemporaryDirectory() as name:
        runs = {
            (kind, threads): Steps(make(Path(name, f"{kind}{threads}")), threads)
            for kind, make in STORES.items()
            for threads in (1, 8, 64)
        }
        best = dict.fromkeys(runs, float("inf"))
        for _ in range(3):
            for key, run in runs.items():
                count = max(2, 128 // key[1])
                best[key] = min(best[key], slices(lambda run=run, n=count: run.run(n), seconds=SECONDS, at_least=2)[0])  # type: ignore[misc]
        shared = {key: run._position * key[1] / run.store.groups for key, run in runs.items()}
        for run in runs.values():
            run.store.close()
    for (kind, threads), cost in best.items():
        spread = f"{shared[kind, threads]:.1f} steps a sync"
        yield Figure(f"durable manual steps, {threads} threads, {kind}", 1 / cost, "/s", spread)
    for kind in STORES:
        ratio = best[kind, 1] / best[kind, 64]
        yield Figure(f"64 threads against one, {kind}", ratio, "x", "", ">= 20", ratio >= 20)


def many_cases() -> Iterator[Figure]:
    """64 and 1,000 cases of ten asynchronous handlers at the same time on an AsyncEngine: tasks a second, syncs a case."""
    for kind, make in STORES.items():
        for count in (64, 1_000):
            with tempfile.TemporaryDirectory() as name:
                store = make(Path(name, "cases"))
                cost, syncs = asyncio.run(_run_cases(store, store, count))
            goal = syncs <= 2 if count == 64 else None
            yield Figure(f"durable tasks of {count:,} cases of 10 handlers, asyncio, {kind}", 10 / cost, "/s")
            what = f"syncs of a case of 10 handlers among {count:,}, {kind}"
            yield Figure(what, syncs, "", "", "<= 2" if count == 64 else "", goal)


async def _run_cases(store: Store, counted: Counted, count: int) -> tuple[float, float]:
    async with AsyncEngine(store) as engine:
        await engine.register(line("handlers", 10, handler="h"))

        async def handle(work: Work) -> dict[str, int]:
            return {"n": int(work.data.get("n", 0)) + 1}

        engine.handler("h")(handle)

        async def one() -> None:
            case = await engine.create_case("handlers", {"order": 17})
            await case.run()

        before = counted.groups
        begun = time.perf_counter()
        await asyncio.gather(*(one() for _ in range(count)))
        return (time.perf_counter() - begun) / count, (counted.groups - before) / count


BENCHMARKS = {"one_caller": one_caller, "threads": many_threads, "cases": many_cases}
