"""How everything here is measured: short slices, many of them, the best quoted and the middle beside it.

A busy machine adds to a slice and never takes away, so the minimum is nearest to the code's own cost; the median tells how
much the machine disturbed.
"""

from __future__ import annotations

import enum
import statistics
import time
from collections.abc import Callable, Iterator, Sequence

import attrs


class Verdict(enum.Enum):
    """What a figure says of its goal."""

    REACHED = "reached"
    MISSED = "MISSED"
    NOT_MEASURED = "not measured here"
    NONE = ""


@attrs.frozen
class Scale:
    """
    How long to measure.

    Args:
        quick: about a second a benchmark: enough to see that it works and of which order its figures are.
        cases: how many cases `idle` really opens; None: it works out what a million would take.
    """

    quick: bool = False
    cases: int | None = None

    def seconds(self, full: float) -> float:
        """Return the time to spend on a measurement that takes `full` seconds at leisure."""
        return min(full, 0.1) if self.quick else full

    def count(self, full: int, quick: int) -> int:
        """Return how many of something to use."""
        return quick if self.quick else full


@attrs.frozen
class Figure:
    """
    One line of a benchmark.

    Args:
        name: what was measured.
        value: the figure, None if it could not be measured here.
        unit: of the figure.
        spread: what lies beside it, in words: ``median 3.1, n 40``.
        goal: the figure to reach, as people read it; "" for none.
        reached: whether it was.
        reason: why there is no figure.
    """

    name: str
    value: float | None
    unit: str
    spread: str = ""
    goal: str = ""
    reached: bool | None = None
    reason: str = ""

    @property
    def verdict(self) -> Verdict:
        """What the figure says of its goal; none without a goal."""
        if self.value is None:
            return Verdict.NOT_MEASURED
        if self.reached is None:
            return Verdict.NONE
        return Verdict.REACHED if self.reached else Verdict.MISSED

    def line(self) -> str:
        """The figure as people read it."""
        goal = f"  goal {self.goal}" if self.goal else ""
        if self.value is None:
            return f"{self.name:<62} {'-':>12}{goal}  {self.verdict.value}: {self.reason}"
        spread = f"  ({self.spread})" if self.spread else ""
        verdict = f"  {self.verdict.value}" if self.verdict.value else ""
        unit = f" {self.unit}" if self.unit else ""
        return f"{self.name:<62} {number(self.value):>12}{unit}{spread}{goal}{verdict}"


def absent(name: str, goal: str, reason: str) -> Figure:
    """Return the line of a figure that cannot be measured here, with the reason."""
    return Figure(name, None, "", goal=goal, reason=reason)


def number(value: float) -> str:
    """Return a figure with three or four digits that mean something: ``0.0042``, ``3.14``, ``1,234``."""
    if value == 0:
        return "0"
    if abs(value) >= 1_000:
        return f"{value:,.0f}"
    if abs(value) >= 100:
        return f"{value:.0f}"
    if abs(value) >= 0.1:
        return f"{value:.2f}"
    return f"{value:.3g}"


def spread(costs: Sequence[float], *, factor: float = 1.0) -> str:
    """Return how the slices lie: their median, in the figure's unit (`factor` times theirs), and how many there were."""
    return f"median {number(statistics.median(costs) * factor)}, n {len(costs)}"


def sample(work: Callable[[], int], *, seconds: float = 1.0, at_least: int = 5) -> list[float]:
    """Repeat `work`, which returns how many operations it did; return the seconds per operation of each slice."""
    costs: list[float] = []
    end = time.perf_counter() + seconds
    while len(costs) < at_least or time.perf_counter() < end:
        begun = time.perf_counter()
        count = work()
        costs.append((time.perf_counter() - begun) / count)
    return costs


def slices(work: Callable[[], int], *, seconds: float = 1.0, at_least: int = 5) -> tuple[float, float]:
    """Repeat `work`, which returns how many operations it did; return (best, median) seconds per operation."""
    costs = sample(work, seconds=seconds, at_least=at_least)
    return min(costs), statistics.median(costs)


def loop_nanoseconds(seconds: float = 0.3) -> float:
    """The calibration: one turn of an empty Python loop in nanoseconds, to compare machines and moments by."""

    def work() -> int:
        for _ in range(20_000):
            pass
        return 20_000

    return slices(work, seconds=seconds)[0] * 1e9


Measured = Iterator[Figure]
Benchmark = Callable[[Scale], Measured] | Callable[[], Measured]
"""A function that yields figures; its docstring is the method in a sentence. It takes the `Scale`, or nothing."""
