"""The engine: what a step costs as nets grow, what a case costs on disk, how fast many open cases are there again."""

from __future__ import annotations

import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.measure import Figure, slices
from knhk import Engine, Specification
from knhk._cache import compile_specification
from knhk.case import Case
from knhk.ports import Durability
from knhk.stores.sqlite import SqliteStore


def line(name: str, count: int, **task: Any) -> Specification:
    """Tasks one after the other."""
    ids = [f"t{number}" for number in range(count)]
    ends = ["start", *ids, "end"]
    return Specification.from_dict(
        {
            "id": name,
            "tasks": [{"id": each, **task} for each in ids],
            "flows": [{"from": a, "to": b} for a, b in itertools.pairwise(ends)],
        }
    )


def ring(count: int) -> Specification:
    """A net of `count` manual tasks in a ring, so that steps can be made for ever and the net's size is all that differs."""
    ids = [f"t{number}" for number in range(count)]
    flows = [{"from": "start", "to": "enter"}, {"from": "enter", "to": ids[0]}]
    flows += [{"from": a, "to": b} for a, b in itertools.pairwise(ids)]
    flows += [
        {"from": ids[-1], "to": ids[0], "default": True},
        {"from": ids[-1], "to": "end", "when": "has(data.stop)"},
    ]
    tasks: list[dict[str, Any]] = [{"id": each, "manual": {}} for each in ids]
    tasks[0]["join"] = "xor"
    tasks[-1]["split"] = "xor"
    return Specification.from_dict({"id": f"ring{count}", "tasks": [{"id": "enter"}, *tasks], "flows": flows})


def step_cost() -> Iterator[Figure]:
    """Complete one manual task of a case in memory, without a store: nets of 10 to 10,000 tasks, taking turns."""
    cases: dict[int, Case] = {}
    for size in (10, 100, 1_000, 10_000):
        compiled = compile_specification(ring(size))
        case = cases[size] = Case(compiled.program, compiled.kernels)
        case.create({})
        case.start(at=0)
    positions = dict.fromkeys(cases, 0)
    costs: dict[int, list[float]] = {size: [] for size in cases}
    for _ in range(100):
        # Turns of a few milliseconds: whatever disturbs the machine meets all sizes alike.
        for size, case in cases.items():
            position = positions[size]
            begun = time.perf_counter()
            for _ in range(100):
                case.complete_task(f"t{position}", at=0)
                position = (position + 1) % size
            costs[size].append((time.perf_counter() - begun) / 100)
            positions[size] = position
            case.take_records()
            case.snapshot()
    for size, each in costs.items():
        name = f"one manual step through Case, net of {size:,} tasks"
        yield Figure(name, min(each) * 1e6, "us", f"median {statistics.median(each) * 1e6:.1f}")
    ratio = min(costs[10_000]) / min(costs[10])
    yield Figure("step cost, 10,000 tasks against 10", ratio, "x", "", "<= 1.2", ratio <= 1.2)


class CountingStore(SqliteStore):
    """The real store; counts its commits, each of which is one transaction and, under durability full, one sync."""

    commits = 0

    def commit(self, commits: Any) -> None:
        """Count, then store."""
        self.commits += 1
        super().commit(commits)


def disk_cost() -> Iterator[Figure]:
    """Commits a case, and bytes of the file a case after a checkpoint, 1,000 cases of 10 tasks."""
    kinds = {
        "10 routing tasks": (line("routing", 10), 2),
        "10 replayable tasks": (line("replayable", 10, handler="h", replayable=True), 2),
        "10 handlers": (line("handlers", 10, handler="h"), 12),
    }
    for name, (specification, goal) in kinds.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "cases.db")
            store = CountingStore(path, durability=Durability.OFF)
            with Engine(store) as engine:
                engine.handler("h")(lambda work: {"n": work.data.get("n", 0) + 1})
                engine.register(specification)
                for _ in range(1_000):
                    engine.create_case(specification.id, {"order": 17, "amount": 120}).run()
                commits = store.commits / 1_000
            size = path.stat().st_size / 1_000
        yield Figure(f"commits of a case of {name}", commits, "", "", f"<= {goal}", commits <= goal)
        yield Figure(f"bytes on disk of a case of {name}", size, "B", "", "<= 2,048", size <= 2_048)


def open_cases() -> Iterator[Figure]:
    """10,000 open cases: reopen the file, and drive all to their end."""
    count = 10_000
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "cases.db"))
        with Engine(path, durability="off") as engine:
            engine.register(line("open", 3, manual={}))
            for number in range(count):
                engine.create_case("open", {"order": number}).start()
        begun = time.perf_counter()
        engine = Engine(path, durability="off")
        first = next(iter(engine.work_items(state="offered")))
        ready = time.perf_counter() - begun
        yield Figure("reopen 10,000 open cases until the worklist answers", ready, "s", "", "< 1", ready < 1)
        begun = time.perf_counter()
        engine.case(first.case_id).complete_task(first.path)
        yield Figure("first command on a case after that", (time.perf_counter() - begun) * 1e3, "ms")
        begun = time.perf_counter()
        while rows := list(engine.work_items(state="offered")):
            for row in rows:
                engine.case(row.case_id).complete_task(row.path)
        spent = time.perf_counter() - begun
        done = sum(1 for _ in engine.cases(state="completed"))
        yield Figure("completed of 10,000", done, "cases", "", "= 10,000", done == count)
        yield Figure("manual steps a second on SQLite, durability off", 3 * count / spent, "/s")
        engine.close()


def durable() -> Iterator[Figure]:
    """One thread, each step acknowledged under durability full, beside the raw rate of the store and of fsync."""
    with tempfile.TemporaryDirectory() as folder:
        file = os.open(str(Path(folder, "raw")), os.O_CREAT | os.O_WRONLY | os.O_APPEND)

        def raw() -> int:
            for _ in range(50):
                os.write(file, b"x" * 64)
                os.fsync(file)
            return 50

        with Engine(str(Path(folder, "cases.db"))) as engine:
            engine.register(ring(100))
            case = engine.create_case("ring100")
            case.start()
            position = [0]

            def steps() -> int:
                for _ in range(20):
                    case.complete_task(f"t{position[0]}")
                    position[0] = (position[0] + 1) % 100
                return 20

            sync = step = float("inf")
            for _ in range(4):
                sync = min(sync, slices(raw, seconds=0.5)[0])
                step = min(step, slices(steps, seconds=0.5, at_least=2)[0])
        os.close(file)
    yield Figure("append of 64 B and fsync", 1 / sync, "/s")
    yield Figure("durable manual steps, one thread", 1 / step, "/s")
    yield Figure("durable steps against append and fsync", sync / step, "x")


BENCHMARKS = {"step": step_cost, "disk": disk_cost, "open": open_cases, "durable": durable}
