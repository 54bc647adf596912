"""The token game by itself: its steps, called from Python, and the OR-join.

The figures of the resident kernel, a nanosecond or two a step, cannot be taken from Python, where a call alone costs ten times
that.
They come from an entry point of the compiled kernel, ``knhk._hot.kernel.bench(name, operations) -> checksum``, that makes the
steps in C; where it is not there, their lines say so.
"""

from __future__ import annotations

import importlib
import itertools
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence

from benchmarks.calibration import calibrate
from benchmarks.measure import Benchmark, Figure, Scale, absent, sample, spread
from benchmarks.nets import blocks, chains, ring
from knhk import Specification
from knhk._cache import compile_specification
from knhk._kernel import Marking
from knhk._tables import Tables

Entry = Callable[[str, int], int]
State = tuple[list[int], list[int], dict[int, int]]

NEEDS = "needs the compiled kernel's own entry point for benchmarks"
GOAL_NANOSECONDS = "<= 2"
GOAL_TICKS = "<= 8"
SHAPES = {
    "P1": "pattern 1",
    "P2+P3": "patterns 2 and 3",
    "P4+P5": "patterns 4 and 5",
    "P1-P5": "patterns 1 to 5 in a cycle",
    "stream": "patterns 1 to 5, a million cases in order",
}


def entry() -> Entry | None:
    """Return the compiled kernel's entry point for benchmarks, or None where it has none or was not built."""
    try:
        module = importlib.import_module("knhk._hot.kernel")
    except ImportError:
        return None
    return getattr(module, "bench", None)


def patterns(scale: Scale) -> Iterator[Figure]:
    """
    Steps of patterns 1 to 5, task given, all checks on.

    Resident: a chain of dependent steps made in C, whose checksum must be the same each time.
    From Python: one operation is a task's start and its completion, two calls of `Marking`, and clearing what they report.
    """
    ticks = calibrate(seconds=scale.seconds(0.3)).ticks
    bench = entry()
    for shape, name in SHAPES.items():
        if bench is None:
            yield absent(f"{name}, resident", f"{GOAL_NANOSECONDS} ns and {GOAL_TICKS} ticks", NEEDS)
            continue
        costs = sample(_resident(bench, shape), seconds=scale.seconds(1))
        best = min(costs) * 1e9
        yield Figure(f"{name}, resident", best, "ns", spread(costs, factor=1e9), GOAL_NANOSECONDS, best <= 2)
        if ticks is not None:
            spent = best * ticks
            yield Figure(f"{name}, resident", spent, "TSC ticks", "", GOAL_TICKS, spent <= 8)
    steps, operations = _cycle(blocks("blocks"))

    def work() -> int:
        for _ in range(100):
            steps()
        return 100 * operations

    costs = sample(work, seconds=scale.seconds(1))
    best = min(costs) * 1e9
    yield Figure(
        "patterns 1 to 5 in a cycle, start and complete called from Python", best, "ns", spread(costs, factor=1e9)
    )
    if ticks is not None:
        yield Figure("the same", best * ticks, "TSC ticks")


def batch(scale: Scale) -> Iterator[Figure]:
    """The same step over a batch of 4,096 cases that lie in the second cache, a call for all of them, made in C."""
    bench = entry()
    if bench is None:
        yield absent("one step of a case in a batch", "<= 0.4 ns", NEEDS)
        return
    costs = sample(_resident(bench, "batch"), seconds=scale.seconds(1))
    best = min(costs) * 1e9
    yield Figure("one step of a case in a batch", best, "ns", spread(costs, factor=1e9), "<= 0.4", best <= 0.4)


def call(scale: Scale) -> Iterator[Figure]:
    """One step called from Python: start and complete of one task of a ring of 100, two calls, the loop around them included."""
    marking = _marking(ring(100))
    marking.start(0)
    marking.complete(0, (0,))
    start, complete, chosen = marking.start, marking.complete, (0,)
    tasks = range(1, 101)

    def work() -> int:
        for task in tasks:
            start(task)
            complete(task, chosen)
        marking.flips.clear()
        return 100

    costs = sample(work, seconds=scale.seconds(1))
    best = min(costs) * 1e9
    yield Figure("one step, start and complete", best, "ns", spread(costs, factor=1e9), "<= 60", best <= 60)


def or_join(scale: Scale) -> Iterator[Figure]:
    """
    An OR-join of 64 chains with loops, asked through `OrJoinAnalysis.decide` from Python, over 64 random markings.

    Typical: the markings again and again, as a case does that waits; exact: markings never seen before, of a net in which
    each chain takes back what the next one gave the join, so that the plain answers do not suffice.
    """
    draw = random.Random(64)  # noqa: S311 - markings, not secrets
    plain = _marking(chains("chains", 64))
    decide, join = plain.net.analysis.decide, plain.net.tables.tasks.index("join")
    states = [_scatter(plain.net.tables, 64, draw) for _ in range(64)]

    def work() -> int:
        for tokens, status, seen in states:
            decide(join, tokens, status, seen)
        return len(states)

    costs = sample(work, seconds=scale.seconds(1))
    best = min(costs) * 1e9
    yield Figure("64-way, asked again", best, "ns", spread(costs, factor=1e9), "< 100", best < 100)
    hard = _marking(chains("cancelling", 64, cancelling=True))
    decide = hard.net.analysis.decide
    costs = []
    for _ in range(scale.count(200, 20)):
        tokens, status, seen = _scatter(hard.net.tables, 64, draw)
        begun = time.perf_counter()
        decide(join, tokens, status, seen)
        costs.append(time.perf_counter() - begun)
    middle = statistics.median(costs) * 1e6
    worst = f"median of them, longest {max(costs) * 1e6:,.0f}, n {len(costs)}"
    yield Figure("64-way with cancellation, never seen before", middle, "us", worst, "< 10", middle < 10)


def _resident(bench: Entry, shape: str) -> Callable[[], int]:
    """Return a slice of steps in C; it raises where two slices of the same steps come to different ends."""
    operations = 100_000
    expected = bench(shape, operations)

    def work() -> int:
        if bench(shape, operations) != expected:
            raise AssertionError(f"{shape}: the same steps gave another checksum")
        return operations

    return work


def _marking(specification: Specification) -> Marking:
    return compile_specification(specification).kernels[0].marking()


def _cycle(specification: Specification) -> tuple[Callable[[], None], int]:
    """Return one turn round the ring of patterns 1 to 5, its choices taken in turn, and how many operations it is."""
    marking = _marking(specification)
    number = {name: task for task, name in enumerate(marking.net.tables.tasks)}
    start, complete, flips = marking.start, marking.complete, marking.flips
    turns: list[list[tuple[int, Sequence[int]]]] = []
    for position, branch in enumerate(("one", "other")):
        names = ["enter", "split", "left", "right", "meet", "choose", branch, "merge"]
        choices: dict[str, Sequence[int]] = {"split": (0, 1), "choose": (position,), "merge": (0,)}
        turns.append([(number[name], choices.get(name, (0,))) for name in names])
    rounds = itertools.cycle(turns)

    def turn() -> None:
        for task, chosen in next(rounds):
            start(task)
            complete(task, chosen)
        flips.clear()

    return turn, len(turns[0])


def _scatter(tables: Tables, branches: int, draw: random.Random) -> State:
    """Return a random state of a net of chains: half of the chains run, each anywhere, and one has arrived."""
    tokens = [0] * len(tables.conditions)
    for branch in range(branches):
        first, last = (tables.table[tables.tasks.index(f"{name}{branch}")] for name in "az")
        arrived = last.outputs[-1][0]
        if branch == 0:
            tokens[arrived] = 1
        elif draw.random() < 0.5:
            tokens[draw.choice((first.inputs[0][0], last.inputs[0][0], arrived))] = 1
    return tokens, [0] * len(tables.tasks), {}


BENCHMARKS: dict[str, Benchmark] = {"patterns": patterns, "batch": batch, "call": call, "orjoin": or_join}
