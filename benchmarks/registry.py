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
    "benchmarks.durability",
    "benchmarks.servers",
    "benchmarks.postgresql",
    "benchmarks.instances",
    "benchmarks.rest",
    "benchmarks.analysis",
    "benchmarks.simulation",
    "benchmarks.replay",
    "benchmarks.balancing",
)
"""Each has a table ``BENCHMARKS``: name -> function. One line here registers all of them."""


@attrs.frozen
class Goal:
    """
    A line of what KNHK promises.

    Args:
        what, goal: as it is promised.
        benchmarks: the names of those that judge it; it is reached when all their goals are.
    """

    what: str
    goal: str
    benchmarks: tuple[str, ...]


GOALS = (
    Goal(
        "patterns 1-5, resident kernel, task given, hot or streamed in order",
        "<= 2 ns and <= 8 TSC ticks an operation",
        ("patterns",),
    ),
    Goal("the same step over a batch of cases", "<= 0.4 ns", ("batch",)),
    Goal("step cost, net of 10 to 10,000 tasks", "flat within 1.2x", ("step",)),
    Goal("one step called from Python", "<= 60 ns", ("call",)),
    Goal("automatic case in memory, per task, with a Python handler", "<= 1 us", ("automatic",)),
    Goal(
        "durable, one thread, each step acknowledged",
        ">= 80 % of the raw WAL-FULL commit rate of the same minute",
        ("durable",),
    ),
    Goal("durable, 64 callers, group commit", ">= 20x one caller", ("group",)),
    Goal(
        "durable case of 10 tasks, routing or replayable / handlers alone / handlers among 64 cases",
        "<= 2 / <= 12 / <= 2 syncs; < 2 KB on disk",
        ("disk",),
    ),
    Goal("idle case, resident when hot / when evicted / 1,000,000 open cases", "< 200 B / 0 B / < 1 GB", ("idle",)),
    Goal("restart with 10,000 open cases", "ready < 1 s", ("open",)),
    Goal("OR-join, 64-way, with loops", "< 100 ns typical, < 10 us exact", ("orjoin",)),
    Goal("soundness", ">= 3 M states/s", ("soundness",)),
    Goal(
        "REST: authenticated read / durable complete",
        ">= 80 % of the bare framework on the same server / of the store's group-commit rate",
        ("rest",),
    ),
    Goal(
        "1, 2 and 4 instances on one store, 1 to 64 clients with pipelines: durable steps",
        ">= 80 % of the store's own compare-and-swap",
        ("instances-sqlite", "instances-redis", "instances-etcd", "instances-postgresql"),
    ),
    Goal(
        "consistent hashing: the fullest of N instances / what moves when one joins",
        "<= 1.25 even shares / <= 1/N + 5 %",
        ("balancing",),
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


def judged_figures(goal: Goal, figures: Mapping[str, Iterable[Figure]]) -> list[Figure]:
    """Return the figures that a line of the goals is judged by: those of its benchmarks that have a goal."""
    return [
        figure for name in goal.benchmarks for figure in figures.get(name, ()) if figure.verdict is not Verdict.NONE
    ]


def judge(goal: Goal, figures: Mapping[str, Iterable[Figure]]) -> tuple[Verdict, str]:
    """
    Return the verdict on a line of the goals and, where it was not measured, the reason.

    One figure that misses its goal decides; else one that was not measured does.
    """
    judged = judged_figures(goal, figures)
    missing = [name for name in goal.benchmarks if name not in figures]
    if any(figure.verdict is Verdict.MISSED for figure in judged):
        return Verdict.MISSED, ""
    if missing:
        return Verdict.NOT_MEASURED, f"benchmark {', '.join(missing)} is not part of this run"
    for figure in judged:
        if figure.verdict is Verdict.NOT_MEASURED:
            return Verdict.NOT_MEASURED, f"{figure.name}: {figure.reason}"
    return (Verdict.REACHED, "") if judged else (Verdict.NOT_MEASURED, "no figure of it has a goal")
