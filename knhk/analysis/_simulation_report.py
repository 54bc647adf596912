"""What a simulation found: figures with confidence intervals, as a table, as JSON values, as a picture."""

from __future__ import annotations

import itertools
import math
import statistics
from array import array
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import attrs

from knhk.analysis._simulation_plan import Plan
from knhk.analysis._simulation_plot import draw
from knhk.analysis._simulation_state import COMPLETED, CUT_OFF, DEADLOCKED, FAILED, WAITING, Raw
from knhk.spec import Specification

PERCENTILES: Final = (5, 25, 50, 75, 90, 95, 99)
"""Which percentiles of the throughput time are reported."""

_OUTCOMES: Final[Mapping[str, int]] = {
    "completed": COMPLETED,
    "deadlocked": DEADLOCKED,
    "waiting": WAITING,
    "cut off": CUT_OFF,
    "failed": FAILED,
}

# Student's t, 97.5 %, by degrees of freedom from 1 to 29 (NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.6.7.2).
_STUDENT: Final = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045,
)  # fmt: skip


@attrs.frozen
class Interval:
    """
    A mean with its 95 % confidence interval, by batch means: up to 30 batches of successive cases, Student's t.

    Args:
        mean: over all that was measured.
        half_width: half the interval; None where there are too few batches to say.
    """

    mean: float
    half_width: float | None

    def __str__(self) -> str:
        return f"{self.mean:g}" if self.half_width is None else f"{self.mean:g} ± {self.half_width:.2g}"


@attrs.frozen(kw_only=True)
class Throughput:
    """
    The time from a case's start to its completion, of completed cases, in seconds; exact, as every time is kept.

    Args:
        mean: with its confidence interval.
        deviation: the standard deviation of the times.
        minimum, maximum: the shortest and the longest.
        percentiles: by percentage, interpolated between the two nearest times.
    """

    mean: Interval
    deviation: float
    minimum: float
    maximum: float
    percentiles: Mapping[int, float]


@attrs.frozen(kw_only=True)
class TaskFigures:
    """
    One task over all measured cases; times are means in seconds.

    Args:
        name: with its subnet, where it is in one: ``goods/approve``.
        executions: how often its work began, each instance and each attempt counted, for each case.
        failed: how many of these attempts failed, for each case.
        aborted: how much of that was cancelled, for each case.
        delay: from enabled until wanted: its timer, its event, or somebody who takes it up; of those that were wanted.
        waiting: for a unit of its resource; of those that began.
        service: its work, of those that ended; of a composite task, its subnet.
    """

    name: str
    executions: float
    failed: float
    aborted: float
    delay: float
    waiting: Interval
    service: float


@attrs.frozen(kw_only=True)
class ResourceFigures:
    """
    One resource, from the start of the first measured case until the last case ended.

    Args:
        name, capacity: as the model says.
        utilisation: the mean share of its units in use.
        queue_length: the mean number of pieces of work that wait for a unit.
        longest_queue: the most that ever waited, the warm-up included.
    """

    name: str
    capacity: int
    utilisation: Interval
    queue_length: Interval
    longest_queue: int


@attrs.frozen(kw_only=True)
class SimulationReport:
    """
    What a simulation found.

    Args:
        specification, version: which one.
        cases, warm_up, seed: as asked.
        outcomes: of the measured cases: completed, deadlocked, waiting (for an event that never comes), cut off, failed.
        throughput: None where no measured case completed.
        tasks: in the order of the text, the root net first; without routing tasks that take no time.
        resources: in the order of the model.
        bottleneck: the resource with the highest utilisation, the first of equal ones; None without resources.
        duration: when the last case ended, in seconds of simulated time.
        defaults: what the model did not say, and what was assumed.
        times: the throughput times of the completed measured cases, in the order of their starts.
        seconds: how long the simulator ran; not part of what makes two reports equal.
    """

    specification: str
    version: str
    cases: int
    warm_up: int
    seed: int
    outcomes: Mapping[str, int]
    throughput: Throughput | None
    tasks: tuple[TaskFigures, ...]
    resources: tuple[ResourceFigures, ...]
    bottleneck: str | None
    duration: float
    defaults: tuple[str, ...]
    times: Sequence[float] = attrs.field(repr=False)
    seconds: float = attrs.field(eq=False)

    @property
    def cases_per_second(self) -> float:
        """How many cases the simulator played a second of real time."""
        return self.cases / self.seconds if self.seconds else math.inf

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values; times in seconds; without the single times and without the simulator's speed."""
        hidden = attrs.filters.exclude("times", "seconds")
        tree: dict[str, Any] = attrs.asdict(self, filter=hidden, value_serializer=_listed)
        if self.throughput is not None:
            percentiles = self.throughput.percentiles
            tree["throughput"]["percentiles"] = {str(each): percentiles[each] for each in percentiles}
        return tree

    def tables(self) -> list[tuple[tuple[str, ...], list[tuple[str, ...]]]]:
        """The report as tables of text: for each, its headings and its rows."""
        return [each for each in (self._throughput_table(), self._task_table(), self._resource_table()) if each[1]]

    def table(self) -> str:
        """The report as text."""
        lines = [self.headline()]
        for headings, rows in self.tables():
            lines += ["", *_aligned([headings, *rows])]
        lines += ["", self.bottleneck_line()]
        if self.defaults:
            lines += ["", "assumed, as the model does not say:", *(f"  {each}" for each in self.defaults)]
        return "\n".join(lines)

    def headline(self) -> str:
        """Which specification, how many cases, and what became of them."""
        ends = ", ".join(f"{count:,} {outcome}" for outcome, count in self.outcomes.items() if count)
        warm_up = f" after a warm-up of {self.warm_up:,}" if self.warm_up else ""
        measured = self.cases - self.warm_up
        return f"{self.specification} {self.version}: {measured:,} cases{warm_up}, seed {self.seed}: {ends}"

    def bottleneck_line(self) -> str:
        """The bottleneck and its rule, in a sentence."""
        if self.bottleneck is None:
            return "bottleneck: none, as no resource is limited"
        return f"bottleneck: {self.bottleneck}, the resource with the highest utilisation"

    def plot(self, path: str | Path) -> None:
        """
        Draw the throughput times, the tasks' times and the resources into a file; its suffix says the format (PNG, SVG, PDF).

        Raises:
            MissingExtra: matplotlib is not installed (``pip install 'knhk[plot]'``).
            ValueError: matplotlib does not know the suffix.
            OSError: the file cannot be written.
        """
        draw(
            path,
            title=self.headline(),
            times=self.times,
            marks={} if self.throughput is None else {f"{p} %": self.throughput.percentiles[p] for p in (50, 95)},
            tasks={each.name: (each.waiting.mean, each.service) for each in self.tasks},
            resources={each.name: each.utilisation.mean for each in self.resources},
        )

    def _throughput_table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        headings = ("throughput time", "")
        if self.throughput is None:
            return headings, []
        found = self.throughput
        return headings, [
            ("mean", _time_interval(found.mean)),
            ("deviation", shown_time(found.deviation)),
            ("minimum", shown_time(found.minimum)),
            *((f"{percent} %", shown_time(value)) for percent, value in found.percentiles.items()),
            ("maximum", shown_time(found.maximum)),
        ]

    def _task_table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        headings = ("task", "a case", "failed", "aborted", "delay", "waiting", "service")
        return headings, [
            (
                each.name,
                f"{each.executions:.3g}",
                f"{each.failed:.3g}" if each.failed else "",
                f"{each.aborted:.3g}" if each.aborted else "",
                shown_time(each.delay) if each.delay else "",
                _time_interval(each.waiting) if each.waiting.mean else "",
                shown_time(each.service),
            )
            for each in self.tasks
        ]

    def _resource_table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        headings = ("resource", "units", "utilisation", "mean queue", "longest queue")
        return headings, [
            (
                each.name,
                f"{each.capacity:,}",
                f"{100 * each.utilisation.mean:.1f} %{_plus_minus(each.utilisation.half_width, 100)}",
                f"{each.queue_length.mean:.3g}{_plus_minus(each.queue_length.half_width, 1)}",
                f"{each.longest_queue:,}",
            )
            for each in self.resources
        ]


def shown_time(seconds: float) -> str:
    """A time with three digits and a unit that a person thinks in."""
    for unit, length in (("d", 86_400.0), ("h", 3_600.0), ("min", 60.0)):
        if seconds >= length:
            return f"{seconds / length:.3g} {unit}" if seconds < 1_000 * length else f"{seconds / length:,.0f} {unit}"
    return f"{seconds:.3g} s" if seconds >= 1 or not seconds else f"{1_000 * seconds:.3g} ms"


def _time_interval(interval: Interval) -> str:
    return shown_time(interval.mean) + ("" if interval.half_width is None else f" ± {shown_time(interval.half_width)}")


def _plus_minus(half_width: float | None, factor: float) -> str:
    return "" if half_width is None else f" ± {factor * half_width:.2g}"


def _aligned(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _listed(_: type | None, __: attrs.Attribute[Any] | None, value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


# --- figures ----------------------------------------------------------------------------------------------------------


def make_report(
    specification: Specification, plan: Plan, raw: Raw, *, cases: int, warm_up: int, seed: int, spent: float
) -> SimulationReport:
    """Make the figures out of what a run measured."""
    measured = raw.throughput[warm_up:]
    outcomes = raw.outcomes[warm_up:]
    times = array("d", (each for each in measured if each == each))  # noqa: PLR0124 - not a number where none completed
    resources = _resources(plan, raw)
    busiest = max(resources, key=lambda each: each.utilisation.mean, default=None)
    return SimulationReport(
        specification=specification.id,
        version=specification.version,
        cases=cases,
        warm_up=warm_up,
        seed=seed,
        outcomes={name: outcomes.count(code) for name, code in _OUTCOMES.items()},
        throughput=_throughput(times) if times else None,
        tasks=tuple(_tasks(plan, raw, cases - warm_up)),
        resources=resources,
        bottleneck=None if busiest is None else busiest.name,
        duration=raw.marks[-1][0],
        defaults=plan.defaults,
        times=times,
        seconds=spent,
    )


def interval(mean: float, batches: Sequence[float]) -> Interval:
    """A mean with the interval that the means of its batches give."""
    count = len(batches)
    if count < 2:
        return Interval(mean, None)
    spread = statistics.stdev(batches) if len(set(batches)) > 1 else 0.0
    return Interval(mean, _STUDENT[min(count - 1, len(_STUDENT)) - 1] * spread / math.sqrt(count))


def _throughput(times: array[float]) -> Throughput:
    count = len(times)
    mean = math.fsum(times) / count
    batches = min(len(_STUDENT) + 1, count)
    bounds = [count * each // batches for each in range(batches + 1)]
    means = [math.fsum(times[a:b]) / (b - a) for a, b in itertools.pairwise(bounds)]
    ordered = sorted(times)
    square = math.fsum((each - mean) ** 2 for each in ordered)
    return Throughput(
        mean=interval(mean, means),
        deviation=math.sqrt(square / (count - 1)) if count > 1 else 0.0,
        minimum=ordered[0],
        maximum=ordered[-1],
        percentiles={each: _percentile(ordered, each / 100) for each in PERCENTILES},
    )


def _percentile(ordered: Sequence[float], share: float) -> float:
    at = share * (len(ordered) - 1)
    below = math.floor(at)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (at - below) * (ordered[above] - ordered[below])


def _tasks(plan: Plan, raw: Raw, measured: int) -> Iterable[TaskFigures]:
    batches = len(raw.waiting_sums) // len(plan.tasks) if plan.tasks else 0
    for number, (name, task) in enumerate(zip(plan.names, plan.tasks, strict=True)):
        if task.fires and not task.timer and not raw.delay[number]:
            continue
        begun = raw.executions[number]
        span = slice(number * batches, (number + 1) * batches)
        pairs = zip(raw.waiting_sums[span], raw.waiting_counts[span], strict=True)
        waiting = raw.waiting[number] / begun if begun else 0.0
        yield TaskFigures(
            name=name,
            executions=begun / measured,
            failed=raw.failed[number] / measured,
            aborted=raw.aborted[number] / measured,
            delay=raw.delay[number] / begun if begun else 0.0,
            waiting=interval(waiting, [total / count for total, count in pairs if count]),
            service=raw.service[number] / raw.finished[number] if raw.finished[number] else 0.0,
        )


def _resources(plan: Plan, raw: Raw) -> tuple[ResourceFigures, ...]:
    marks = raw.marks
    figures = []
    for pool, (name, capacity) in enumerate(zip(plan.pool_names, plan.capacities, strict=True)):
        found = []
        for curve in ([(at, busy[pool]) for at, busy, _ in marks], [(at, queue[pool]) for at, _, queue in marks]):
            means = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in itertools.pairwise(curve) if b[0] > a[0]]
            span = curve[-1][0] - curve[0][0]
            found.append((((curve[-1][1] - curve[0][1]) / span if span else 0.0), means))
        (used, used_means), (queued, queued_means) = found
        figures.append(
            ResourceFigures(
                name=name,
                capacity=capacity,
                utilisation=interval(used / capacity, [each / capacity for each in used_means]),
                queue_length=interval(queued, queued_means),
                longest_queue=raw.most_queued[pool],
            )
        )
    return tuple(figures)
