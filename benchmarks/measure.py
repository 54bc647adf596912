"""How everything here is measured: short slices, many of them, the best quoted and the middle beside it.

A busy machine adds to a slice and never takes away, so the minimum is nearest to the code's own cost; the median tells how
much the machine disturbed.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import attrs


@attrs.frozen
class Figure:
    """One line of a benchmark: what, its figure and unit, the spread, and the goal with the verdict if there is one."""

    name: str
    value: float
    unit: str
    spread: str = ""
    goal: str = ""
    reached: bool | None = None

    def line(self) -> str:
        """The figure as people read it."""
        verdict = "" if self.reached is None else ("  reached" if self.reached else "  MISSED")
        goal = f"  goal {self.goal}" if self.goal else ""
        spread = f"  ({self.spread})" if self.spread else ""
        return f"{self.name:<62} {self.value:>12,.2f} {self.unit}{spread}{goal}{verdict}"


def slices(work: Callable[[], int], *, seconds: float = 1.0, at_least: int = 5) -> tuple[float, float]:
    """Repeat `work`, which returns how many operations it did; return (best, median) seconds per operation."""
    costs: list[float] = []
    end = time.perf_counter() + seconds
    while len(costs) < at_least or time.perf_counter() < end:
        begun = time.perf_counter()
        count = work()
        costs.append((time.perf_counter() - begun) / count)
    return min(costs), statistics.median(costs)


def loop_nanoseconds() -> float:
    """The calibration: one turn of an empty Python loop in nanoseconds, to compare machines and moments by."""

    def work() -> int:
        for _ in range(100_000):
            pass
        return 100_000

    return slices(work, seconds=0.3)[0] * 1e9
