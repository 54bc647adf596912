"""The token game by itself: steps in C, steps called from Python, and the OR-join.

The steps in C are those of `knhk._hot.batch`, whose inner function, `fire_word`, is what a case's own marking fires plain
tasks with; every check is made at every step.
That nothing is left out is checked in the same run: the words at the end are those to which the reference kernel comes.
"""

from __future__ import annotations

import importlib
import random
import statistics
import time
from array import array
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from benchmarks.calibration import calibrate
from benchmarks.measure import Benchmark, Figure, Scale, absent, sample, spread
from benchmarks.nets import chains, ring
from knhk import Specification, _hot, _kernel
from knhk._compiled import compile_specification
from knhk._kernel import Marking
from knhk._tables import AND, XOR, Tables, TaskTable, build_tables

State = tuple[list[int], list[int], dict[int, int]]

NEEDS = "needs the compiled kernel"
STEPS = 100_000
MANY = 1_000_000


def _task(inputs: list[int], outputs: list[int], join: int = AND, split: int = AND) -> TaskTable:
    return TaskTable(
        join=join, split=split, inputs=tuple((each, 1) for each in inputs), outputs=tuple((each, 1) for each in outputs)
    )


def _ring(*tasks: TaskTable, conditions: int) -> Tables:
    """A net of these tasks; condition 0 is where a turn begins and ends, condition 1 (the output) is never marked."""
    names = tuple(f"t{number}" for number in range(len(tasks)))
    return build_tables(conditions=tuple(f"c{number}" for number in range(conditions)), tasks=names, table=tasks)


SEQUENCE = _ring(_task([0], [2]), _task([2], [0]), conditions=3)
SPLIT = _ring(_task([0], [2, 3]), _task([2, 3], [0]), conditions=4)
CHOICE = _ring(_task([0], [2, 3], split=XOR), _task([2, 3], [0], join=XOR), conditions=4)
FIVE = _ring(
    _task([0], [2]),
    _task([2], [3, 4]),
    _task([3, 4], [5]),
    _task([5], [6, 7], split=XOR),
    _task([6, 7], [0], join=XOR),
    conditions=8,
)
SHAPES = {
    "pattern 1": SEQUENCE,
    "patterns 2 and 3": SPLIT,
    "patterns 4 and 5": CHOICE,
    "patterns 1 to 5 in a cycle": FIVE,
}


def compiled() -> ModuleType | None:
    """Return the module of steps in C, or None where it was not built."""
    return importlib.import_module("knhk._hot.batch") if _hot.COMPILED else None


def patterns(scale: Scale) -> Iterator[Figure]:
    """
    Steps of patterns 1 to 5 in C, task given, all checks on, choices by a random bit.

    A chain is one case that goes through 100,000 tasks, each step depending on the one before. A stream is a million cases,
    8 MB, one step each, in order. Beside them, without a goal: a million cases in random order and phase, one step each.
    """
    batch = compiled()
    goal = "<= 2 ns and <= 8 ticks"
    if batch is None:
        yield absent("patterns 1 to 5", goal, NEEDS)
        return
    ticks = calibrate(seconds=scale.seconds(0.3)).ticks
    draw = random.Random(5)  # noqa: S311 - choices, not secrets
    for name, tables in SHAPES.items():
        yield from _judged(f"{name}, a chain", _chain(batch, tables, draw), ticks, seconds=scale.seconds(1))
    count = scale.count(MANY, MANY // 10)
    yield from _judged(
        f"patterns 1 to 5, a stream of {count:,} cases", _stream(batch, count, draw), ticks, seconds=scale.seconds(2)
    )
    costs = sample(_mixed(batch, count, draw), seconds=scale.seconds(2))
    yield Figure(f"{count:,} cases in random order and phase", min(costs) * 1e9, "ns", spread(costs, factor=1e9))


def _judged(name: str, work: Callable[[], int], ticks: float | None, *, seconds: float) -> Iterator[Figure]:
    costs = sample(work, seconds=seconds)
    best = min(costs) * 1e9
    yield Figure(name, best, "ns", spread(costs, factor=1e9), "<= 2", best <= 2)
    if ticks is not None:
        yield Figure(name, best * ticks, "TSC ticks", "", "<= 8", best * ticks <= 8)


def _facts(count: int, tables: Tables, draw: random.Random) -> array[int]:
    """Return random choices: one of the outputs of the net's choice, where it has one."""
    choices = [1 << condition for task in tables.table if task.split == XOR for condition, _ in task.outputs] or [0]
    return array("Q", draw.choices(choices, k=count))


def _chain(batch: ModuleType, tables: Tables, draw: random.Random) -> Callable[[], int]:
    turns = STEPS // len(tables.table)
    count = turns * len(tables.table)
    tasks = array("B", [*range(len(tables.table))] * turns)
    facts = _facts(count, tables, draw)
    words = batch.Words(_hot.Net(tables), 1)
    _agree(batch, tables, tasks[:2_000], facts[:2_000])

    def work() -> int:
        if words.fire_in_turn(0, tasks, facts) != count or words[0] != 1:
            raise AssertionError("a legal step was refused, or the turns do not end where they began")
        return count

    return work


def _agree(batch: ModuleType, tables: Tables, tasks: array[int], facts: array[int]) -> None:
    """Raise unless the reference kernel comes to the same word after every step."""
    words, marking = batch.Words(_hot.Net(tables), 1), _kernel.Net(tables).marking()
    for number, fact in zip(tasks, facts, strict=True):
        task = tables.table[number]
        chosen = [p for p, (c, _) in enumerate(task.outputs) if task.split == AND or fact >> c & 1]
        marking.fire(number, chosen)
        legal = words.step(0, number, fact)
        if not legal or words[0] != sum(tokens << c for c, tokens in enumerate(marking.tokens)):
            raise AssertionError(f"the kernels disagree on task {number}")


def _stream(batch: ModuleType, count: int, draw: random.Random) -> Callable[[], int]:
    words = batch.Words(_hot.Net(FIVE), count)
    facts = _facts(count, FIVE, draw)
    rounds = [array("B", [number]) * count for number in range(len(FIVE.table))]

    def work() -> int:
        refused = sum(words.fire_each(each, facts) for each in rounds)
        if refused or words[0] != 1 or words[count - 1] != 1:
            raise AssertionError("a legal step was refused, or the turns do not end where they began")
        return count * len(rounds)

    return work


def _mixed(batch: ModuleType, count: int, draw: random.Random) -> Callable[[], int]:
    """Return a slice: one step of each case, which are in random order and each somewhere in its turn."""
    words = batch.Words(_hot.Net(FIVE), count)
    facts = _facts(count, FIVE, draw)
    size = len(FIVE.table)
    phases = [draw.randrange(size) for _ in range(count)]
    for number in range(size):
        cases = array("I", [case for case, phase in enumerate(phases) if phase > number])
        words.fire_mixed(cases, array("B", [number]) * len(cases), facts)
    order = array("I", draw.sample(range(count), count))
    rounds = [array("B", [(phases[case] + turn) % size for case in order]) for turn in range(size)]
    mine = array("Q", [facts[case] for case in order])

    def work() -> int:
        if sum(words.fire_mixed(order, each, mine) for each in rounds):
            raise AssertionError("a legal step was refused")
        return count * size

    return work


def same_step(scale: Scale) -> Iterator[Figure]:
    """
    The same step of all cases of a batch in one call, patterns 1 to 5 in turn, on each instruction set of this processor.

    10,000 cases are 80 KB, within the second cache; the goal is for AVX2 and up.
    """
    batch = compiled()
    if batch is None:
        yield absent("one step of a case in a batch", "<= 0.4 ns", NEEDS)
        return
    count = 10_000
    facts = _facts(count, FIVE, random.Random(6))  # noqa: S311 - choices, not secrets
    levels = batch.LEVELS[: batch.LEVELS.index(batch.BEST) + 1]
    for level in levels:
        words = batch.Words(_hot.Net(FIVE), count, level=level)

        def work(words: Any = words) -> int:
            if sum(words.fire_same(number, facts) for number in range(len(FIVE.table))) or words[0] != 1:
                raise AssertionError("a legal step was refused")
            return count * len(FIVE.table)

        costs = sample(work, seconds=scale.seconds(1))
        best = min(costs) * 1e9
        judged = level != batch.LEVELS[0]
        yield Figure(
            f"one step of a case in a batch, {level}",
            best,
            "ns",
            spread(costs, factor=1e9),
            "<= 0.4" if judged else "",
            best <= 0.4 if judged else None,
        )
    if len(levels) == 1:
        yield absent("one step of a case in a batch, AVX2 and up", "<= 0.4 ns", "this processor has no AVX2")


def call(scale: Scale) -> Iterator[Figure]:
    """
    One step called from Python: `Marking.fire`, start and completion of a task, the loop around it included.

    The nets: patterns 1 to 5 on one word, a ring of 100 tasks on counters, and the same as two calls, start and complete.
    """
    if not _hot.COMPILED:
        yield absent("one step called from Python", "<= 60 ns", NEEDS)
        return
    word = _hot.Net(FIVE).marking()
    fire = word.fire

    def five() -> int:
        for _ in range(100):
            fire(0, (0,))
            fire(1, (0, 1))
            fire(2, (0,))
            fire(3, (1,))
            fire(4, (0,))
        return 500

    yield _one_call("patterns 1 to 5, on one word", five, scale)
    marking = _marking(ring(100))
    marking.fire(0, (0,))
    tasks, chosen = range(1, 101), (0,)

    def counters() -> int:
        for task in tasks:
            marking.fire(task, chosen)
        return 100

    def two_calls() -> int:
        for task in tasks:
            marking.start(task)
            marking.complete(task, chosen)
        return 100

    yield _one_call("a ring of 100 tasks, on counters", counters, scale)
    costs = sample(two_calls, seconds=scale.seconds(1))
    yield Figure("the same as start and complete", min(costs) * 1e9, "ns", spread(costs, factor=1e9))


def _one_call(name: str, work: Callable[[], int], scale: Scale) -> Figure:
    costs = sample(work, seconds=scale.seconds(1))
    best = min(costs) * 1e9
    return Figure(name, best, "ns", spread(costs, factor=1e9), "<= 60", best <= 60)


def or_join(scale: Scale) -> Iterator[Figure]:
    """
    An OR-join of 64 chains with loops.

    Typical: 64 random markings in turn, the kernel's decision alone: a step elsewhere in the net with `Marking.settle` behind
    it, less the same step without. Exact: `OrJoinAnalysis.decide` on markings never seen before, of a net in which each chain
    takes back what the next one gave the join, so that the plain answers do not suffice.
    """
    draw = random.Random(64)  # noqa: S311 - markings, not secrets
    tables = _beside(_marking(chains("chains", 64)).net.tables)
    net = _hot.Net(tables)
    beside, chosen, markings = len(tables.tasks) - 1, (0,), []
    for _ in range(64):
        tokens, status, seen = _scatter(tables, 64, draw)
        tokens[-1] = 1
        markings.append(net.marking())
        markings[-1].restore(tokens, status, seen)

    def step() -> int:
        for marking in markings:
            marking.fire(beside, chosen)
        return len(markings)

    def decision() -> int:
        for marking in markings:
            marking.fire(beside, chosen)
            marking.settle()
        return len(markings)

    steps = sample(step, seconds=scale.seconds(0.5))
    decisions = sample(decision, seconds=scale.seconds(0.5))
    typical = (min(decisions) - min(steps)) * 1e9
    beside_it = f"median {(statistics.median(decisions) - statistics.median(steps)) * 1e9:.0f}, n {len(decisions)}"
    yield Figure("64-way, typical", typical, "ns", beside_it, "< 100", typical < 100)
    hard = _marking(chains("cancelling", 64, cancelling=True))
    decide, join = hard.net.analysis.decide, hard.net.tables.tasks.index("join")
    costs = []
    for _ in range(scale.count(200, 20)):
        tokens, status, seen = _scatter(hard.net.tables, 64, draw)
        begun = time.perf_counter()
        decide(join, tokens, status, seen)
        costs.append(time.perf_counter() - begun)
    middle = statistics.median(costs) * 1e6
    worst = f"median of them, longest {max(costs) * 1e6:,.0f}, n {len(costs)}"
    yield Figure("64-way with cancellation, never seen before", middle, "us", worst, "< 10", middle < 10)


def _beside(tables: Tables) -> Tables:
    """Return the net with a task beside it that goes round by itself, on a condition of its own."""
    place = len(tables.conditions)
    return build_tables(
        conditions=(*tables.conditions, "beside"),
        tasks=(*tables.tasks, "beside"),
        table=(*tables.table, _task([place], [place])),
    )


def _marking(specification: Specification) -> Marking:
    return compile_specification(specification).kernels[0].marking()


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


BENCHMARKS: dict[str, Benchmark] = {"patterns": patterns, "batch": same_step, "call": call, "orjoin": or_join}
