"""The documentation page of a run: the same run gives the same text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import attrs

from benchmarks.measure import Figure, Verdict, number
from benchmarks.registry import GOALS, Goal, judge, judged_figures

INTRODUCTION = """\
# Performance

This page is written by `python -m benchmarks --page docs/reference/performance.md` from one run on one machine.
On yours, `python -m benchmarks` prints the same figures, with `--quick` in about a second each, with `--json` for programs.
A figure is the best of many short slices, since a busy machine adds to a slice and never takes away.
The median beside it tells how much it added.
What other engines need for the same work: {doc}`peers`."""


@attrs.frozen
class Result:
    """
    One benchmark of a run.

    Args:
        name: as it is named on the command line.
        method: how it measures.
        figures: what it found.
        loop: the calibration in nanoseconds, before and after it.
    """

    name: str
    method: str
    figures: tuple[Figure, ...]
    loop: tuple[float, float]


@attrs.frozen
class Run:
    """A run: where, how the machine was, and the results in order."""

    machine: Mapping[str, str]
    calibration: Mapping[str, str]
    results: tuple[Result, ...]


def figures_page(run: Run, goals: Iterable[Goal] = GOALS) -> str:
    """Return the page of a run, in MyST."""
    lines = [
        *INTRODUCTION.splitlines(),
        "",
        "## The run",
        "",
        *table(("", ""), run.machine.items()),
        "",
        "Calibration, by which machines and moments can be compared:",
        "",
        *table(("", ""), run.calibration.items()),
        "",
        "## Goals",
        "",
        *table(("what", "goal", "figures", "verdict"), _goal_rows(run, goals)),
        "",
        "## Figures",
        *_sections(run),
    ]
    return "\n".join(lines) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    lines = [_row(head), _row(["---"] * len(head))]
    return [*lines, *map(_row, rows)]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(escape(each) for each in cells) + " |"


def escape(text: str) -> str:
    """Return text as a table cell shows it, whatever it holds."""
    for each in "\\|<>*_`[]":
        text = text.replace(each, "\\" + each)
    return " ".join(text.split())


def _goal_rows(run: Run, goals: Iterable[Goal]) -> Iterator[Sequence[str]]:
    found = {result.name: result.figures for result in run.results}
    for goal in goals:
        verdict, reason = judge(goal, found)
        said = f"{verdict.value}: {reason}" if reason else verdict.value
        shown = [_shown(figure) for figure in judged_figures(goal, found) if figure.value is not None]
        yield goal.what, goal.goal, "; ".join(shown) or "-", said


def _sections(run: Run) -> Iterator[str]:
    for result in run.results:
        before, after = result.loop
        yield from (
            "",
            f"### {result.name}",
            "",
            result.method,
            f"An empty loop turn took {number(before)} ns before and {number(after)} ns after.",
            "",
            *table(("what", "figure", "spread", "goal", "verdict"), map(_figure_row, result.figures)),
        )


def _shown(figure: Figure) -> str:
    return "-" if figure.value is None else f"{number(figure.value)} {figure.unit}".strip()


def _figure_row(figure: Figure) -> Sequence[str]:
    if figure.value is None:
        return figure.name, "-", "", figure.goal, f"{Verdict.NOT_MEASURED.value}: {figure.reason}"
    return figure.name, _shown(figure), figure.spread, figure.goal, figure.verdict.value
