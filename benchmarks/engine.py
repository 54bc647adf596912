"""The engine in memory: what a step costs as nets grow, an automatic task with its handler, and an idle case."""

from __future__ import annotations

import gc
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import Benchmark, Figure, Scale, loop_nanoseconds, spread
from benchmarks.nets import line, ring
from knhk import Engine, Specification
from knhk._compiled import compile_specification
from knhk.case import Case

ROOT = Path(__file__).resolve().parent.parent
SIZES = (10, 100, 1_000, 10_000)


def step_cost(scale: Scale) -> Iterator[Figure]:
    """Complete one manual task of a case, without a store: nets of 10 to 10,000 tasks in turns of 100 steps."""
    cases: dict[int, Case] = {}
    for size in SIZES:
        compiled = compile_specification(ring(size))
        case = cases[size] = Case(compiled.program, compiled.kernels)
        case.create({})
        case.start(at=0)
    positions = dict.fromkeys(cases, 0)
    costs: dict[int, list[float]] = {size: [] for size in cases}
    for _ in range(scale.count(100, 10)):
        # Turns of a few milliseconds: whatever disturbs the machine meets all sizes alike.
        for size, case in cases.items():
            position = positions[size]
            begun = time.perf_counter()
            for _ in range(100):
                case.complete_task(f"t{position}", at=0)
                position = (position + 1) % size
            costs[size].append((time.perf_counter() - begun) / 100)
            positions[size] = position
            # What whoever commits takes from a case; else each command has more to keep for its undoing.
            case.take_records()
            case.state.moved.clear()
            case.snapshot()
    for size, each in costs.items():
        name = f"one manual step through Case, net of {size:,} tasks"
        yield Figure(name, min(each) * 1e6, "us", spread(each, factor=1e6))
    ratio = min(costs[10_000]) / min(costs[10])
    yield Figure("step cost, 10,000 tasks against 10", ratio, "x", "", "<= 1.2", ratio <= 1.2)


def automatic(scale: Scale) -> Iterator[Figure]:
    """Case.run() of 100 tasks one after the other in memory, per task; a handler is a Python function that returns None."""
    kinds: dict[str, tuple[Specification, bool]] = {
        "with a Python handler": (line("handlers", 100, handler="nothing"), True),
        "with a replayable Python handler": (line("replayable", 100, handler="nothing", replayable=True), False),
        "routing": (line("routing", 100), False),
    }
    for name, (specification, judged) in kinds.items():
        with Engine("memory:") as engine:
            engine.handler("nothing")(lambda _work: None)
            engine.register(specification)
            costs = _task_costs(engine, specification.id, scale.seconds(2))
        best = min(costs) * 1e6
        goal, reached = ("<= 1", best <= 1) if judged else ("", None)
        yield Figure(f"one automatic task {name}", best, "us", spread(costs, factor=1e6), goal, reached)
        turns = best * 1e3 / loop_nanoseconds(scale.seconds(0.3))
        yield Figure(f"the same, {name}", turns, "empty loop turns")


def _task_costs(engine: Engine, spec_id: str, seconds: float) -> list[float]:
    """Run cases of a hundred tasks; return the seconds a task of each, without the case's creation."""
    costs: list[float] = []
    end = time.perf_counter() + seconds
    while len(costs) < 5 or time.perf_counter() < end:
        case = engine.create_case(spec_id)
        begun = time.perf_counter()
        case.run()
        costs.append((time.perf_counter() - begun) / 100)
        if case.state != "completed":
            raise AssertionError(f"the case is {case.state}")
    return costs


def idle(scale: Scale) -> Iterator[Figure]:
    """
    Resident memory (VmRSS) of a case that waits for a person, in a process of its own, on SQLite without syncs.

    What a case adds to the process: its row, its id, its place in the tables, all included.
    Hot: all cases stay in the cache while nobody uses them, all but the last 1,000 packed; evicted: growth of the process with a
    cache of 100.
    A million: the process that opened the cases of the second figure, a full cache of 10,000 hot ones, and the growth for a
    million, added up; with ``--cases N`` the whole process after N were opened, with all of them in the cache and with 10,000.
    """
    count = scale.count(20_000, 6_000)
    _, hot = _alone(count, count)
    base, evicted = _alone(count, 100)
    yield Figure("idle case, hot", hot, "B", f"of {count:,} cases", "< 200", hot < 200)
    yield Figure("the same, not packed", _alone(count, count, count)[1], "B", f"of {count:,} cases")
    gone = max(evicted, 0.0)
    # A page of the allocator more or less is not the case's: what is below 4 bytes a case is nothing.
    yield Figure("idle case, evicted", gone, "B", f"of {count:,} cases", "0", gone < 4)
    if scale.cases is None:
        total = (base + 10_000 * hot + 1_000_000 * gone) / 1e9
        yield Figure("1,000,000 open cases, cache of 10,000", total, "GB", "added up", "< 1", total < 1)
        return
    for cache, what in ((scale.cases, "all in the cache"), (10_000, "cache of 10,000")):
        before, each = _alone(scale.cases, cache)
        total = (before + each * (scale.cases // 2)) / 1e9
        told = f"the whole process, {each:.1f} B a case of the second half"
        yield Figure(f"{scale.cases:,} open cases, {what}", total, "GB", told, "< 1", total < 1)


def resident_bytes(count: int, cache: int, hot: int = 1_000) -> tuple[float, float]:
    """Return the bytes of this process before the last half of `count` cases is opened, and the bytes that each of it added."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Engine(str(Path(folder, "cases.db")), durability="off", cache=cache, hot=hot) as engine,
    ):
        engine.register(line("idle", 3, manual={}))
        half = count // 2
        for number in range(half):
            engine.create_case("idle", {"order": number}).start()
        gc.collect()
        before = _resident()
        for number in range(half):
            engine.create_case("idle", {"order": number}).start()
        gc.collect()
        return before, (_resident() - before) / half


def _alone(count: int, cache: int, hot: int = 1_000) -> tuple[float, float]:
    """Run `resident_bytes` in a process of its own."""
    program = f"from benchmarks.engine import resident_bytes; print(*resident_bytes({count}, {cache}, {hot}))"
    answer = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    before, each = map(float, answer.split())
    return before, each


def _resident() -> int:
    for each in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if each.startswith("VmRSS:"):
            return int(each.split()[1]) * 1024
    raise AssertionError("/proc/self/status has no VmRSS")


BENCHMARKS: dict[str, Benchmark] = {"step": step_cost, "automatic": automatic, "idle": idle}
