"""Which benchmarks there are: a line a module, and each line of the goals with the benchmarks that measure it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module

import attrs

from benchmarks.measure import Benchmark, Figure, Scale, Verdict

MODULES = (
    "benchmarks.kernel",
    "benchmarks.engine",
    "benchmarks.stores",
)
"""Each has a table ``BENCHMARKS``: name -> function. One line here registers all of them."""


@attrs.frozen
class Goal:
    """
    A line of what KNHK promises.

    Args:
        what, goal: as it is promised.
        elsewhere: the best that was measured of others, for scale.
        benchmarks: the names of those that judge it; it is reached when all their goals are.
        lacking: why there is no such benchmark, where there is none.
    """

    what: str
    goal: str
    elsewhere: str
    benchmarks: tuple[str, ...]
    lacking: str = ""


GOALS = (
    Goal(
        "patterns 1-5, resident kernel, task given, hot or streamed in order",
        "<= 2 ns and <= 8 TSC ticks an operation",
        "nobody measures it",
        ("patterns",),
    ),
    Goal("the same step over a batch of cases", "<= 0.4 ns", "-", ("batch",)),
    Goal(
        "step cost, net of 10 to 10,000 tasks",
        "flat within 1.2x",
        "transitions 1.1x; pm4py 49x, SpiffWorkflow 24x at 1,000",
        ("step",),
    ),
    Goal("one step called from Python", "<= 60 ns", "-", ("call",)),
    Goal(
        "automatic case in memory, per task, with a Python handler",
        "<= 1 us",
        "sayiir 4.7 us, pm4py 9.5 us, YAWL 30 us, SpiffWorkflow 35-105 us",
        ("automatic",),
    ),
    Goal(
        "durable, one thread, each step acknowledged",
        ">= 80 % of the raw WAL-FULL commit rate of the same minute",
        "DBOS 770 steps/s",
        ("durable",),
    ),
    Goal("durable, 64 callers, group commit", ">= 20x one caller", "DBOS falls", ("group",)),
    Goal(
        "syncs of a durable case of 10 tasks: routing or replayable / handlers alone / handlers among 64 cases; bytes on disk",
        "<= 2 / <= 12 / <= 2; < 2 KB",
        "DBOS 12 to 48 syncs, 2.5 to 3.4 KB; LangGraph 23, 20 KB",
        ("disk",),
    ),
    Goal(
        "idle case: resident when hot, when evicted; 1,000,000 open cases",
        "< 200 B; 0; < 1 GB",
        "sayiir 1.6 KB",
        ("idle",),
    ),
    Goal("restart with 10,000 open cases", "ready < 1 s", "DBOS 59 s, SpiffWorkflow 10.7 s", ("open",)),
    Goal("OR-join, 64-way, with loops", "< 100 ns typical, < 10 us exact", "-", ("orjoin",)),
    Goal("soundness", ">= 3 M states/s", "pm4py 7 k/s", ("soundness",)),
    Goal(
        "REST: authenticated read / durable complete",
        ">= 80 % of the bare framework on the same server / of the store's group-commit rate",
        "-",
        ("rest",),
        "the service is not part of this version",
    ),
)


def benchmarks(modules: Iterable[str] = MODULES) -> dict[str, Benchmark]:
    """
    Return all benchmarks by name, in the order of the modules.

    Raises:
        ValueError: two modules give the same name.
    """
    found: dict[str, Benchmark] = {}
    owners: dict[str, str] = {}
    for module in modules:
        table: Mapping[str, Benchmark] = import_module(module).BENCHMARKS
        for name, benchmark in table.items():
            if name in found:
                message = f"{module} and {owners[name]} both have a benchmark {name!r}: rename one"
                raise ValueError(message)
            found[name] = benchmark
            owners[name] = module
    return found


def method(benchmark: Benchmark) -> str:
    """Return how a benchmark measures: its docstring on one line."""
    return " ".join((inspect.getdoc(benchmark) or "").split())


def measure(benchmark: Benchmark, scale: Scale) -> Iterator[Figure]:
    """Run a benchmark, whether or not it asks for the scale."""
    function: Callable[..., Iterator[Figure]] = benchmark
    return function(scale) if inspect.signature(function).parameters else function()


def judge(goal: Goal, figures: Mapping[str, Iterable[Figure]]) -> tuple[Verdict, str]:
    """
    Return the verdict on a line of the goals and, where it was not measured, the reason.

    One figure that misses its goal decides; else one that was not measured does.
    """
    judged = [
        figure
        for name in goal.benchmarks
        for figure in figures.get(name, ())
        if figure.verdict in {Verdict.REACHED, Verdict.MISSED, Verdict.NOT_MEASURED}
    ]
    missing = [name for name in goal.benchmarks if name not in figures]
    if any(figure.verdict is Verdict.MISSED for figure in judged):
        return Verdict.MISSED, ""
    if missing:
        return Verdict.NOT_MEASURED, goal.lacking or f"benchmark {', '.join(missing)} is not part of this run"
    for figure in judged:
        if figure.verdict is Verdict.NOT_MEASURED:
            return Verdict.NOT_MEASURED, f"{figure.name}: {figure.reason}"
    return (Verdict.REACHED, "") if judged else (Verdict.NOT_MEASURED, "no figure of it has a goal")
