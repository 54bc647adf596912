"""What a case, its history or many cases put on the nets of their specification: one list of panels for each kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Final

import attrs

from knhk.events import Event
from knhk.formats._drawing.paths import Places, inside, parents, without_instance
from knhk.formats._drawing.scene import PLAIN, FigureMarks, LineMarks, Marks, Panel, compose, title_of
from knhk.formats._drawing.traffic import Figures, Traffic, figures_given, figures_told, name_of, told
from knhk.formats._drawing.words import shortened, times
from knhk.spec import ROOT, Flow

MOST: Final = 8
"""How many running instances of one subnet are drawn."""


@attrs.frozen(kw_only=True)
class Tokens:
    """
    Where a case is.

    Args:
        marking: the tokens by path of the net and by condition, as `RunningCase.marking`.
        enabled, running, failed: the paths of tasks and instances that are offered, started, and failed.
    """

    marking: Mapping[str, Mapping[str, int]] = attrs.field(factory=dict)
    enabled: tuple[str, ...] = ()
    running: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()


def bare(places: Places, wanted: Iterable[str]) -> list[Panel]:
    """Return the nets as they are."""
    return [compose(name, places.nets[name], heading=title_of(name)) for name in wanted]


# --- tokens -----------------------------------------------------------------------------------------------------------


def with_tokens(places: Places, wanted: Iterable[str], tokens: Tokens) -> list[Panel]:
    """Return the nets with a case's tokens: a panel for each running net, as far as there are not too many."""
    _check(places, tokens)
    running: dict[str, list[str]] = {name: [] for name in places.nets}
    for path in tokens.marking:
        running[places.net_at(path)].append(path)
    states = _states(tokens)
    panels = []
    for name in wanted:
        net, paths = places.nets[name], running[name]
        for position, path in enumerate(paths[:MOST], 1):
            left = len(paths) - MOST
            of_figure, of_line = _marking_marks(path, tokens.marking[path], states)
            panels.append(
                compose(
                    name,
                    net,
                    of_figure=of_figure,
                    of_line=of_line,
                    heading=_running_heading(name, path),
                    path=path,
                    remark=f"and {left} more of {title_of(name)}" if position == MOST and left > 0 else "",
                )
            )
        if not paths:
            heading = f"{title_of(name)} (does not run)" if name else ""
            panels.append(compose(name, net, heading=heading, idle=True))
    return panels


def _check(places: Places, tokens: Tokens) -> None:
    """Refuse tokens and work that are nowhere in the nets."""
    for path, held in tokens.marking.items():
        net = places.nets[places.net_at(path)]
        known = {"start", "end", *(each.id for each in net.conditions), *map(name_of, net.flows)}
        lost = next((each for each in held if each not in known), None)
        if lost is not None:
            raise ValueError(f"the marking has tokens in {inside(path, lost)!r}, which is no condition")
    for path in (*tokens.enabled, *tokens.running, *tokens.failed):
        places.task_at(path)


def _running_heading(name: str, path: str) -> str:
    return f"{title_of(name)}: {shortened(path, 100)}" if name != ROOT else ""


def _states(tokens: Tokens) -> dict[str, Counter[str]]:
    """Return, by state, how often each task is in it; a task with a running net or instance runs."""
    running = Counter(map(without_instance, tokens.running))
    running.update(without_instance(path) for path in tokens.marking if path)
    paths = (*tokens.enabled, *tokens.running, *tokens.failed, *tokens.marking)
    around = {each for path in paths for each in parents(path)}
    running.update(around - running.keys())
    return {
        "failed": Counter(map(without_instance, tokens.failed)),
        "running": running,
        "enabled": Counter(map(without_instance, tokens.enabled)),
    }


def _marking_marks(
    path: str, held: Mapping[str, int], states: Mapping[str, Counter[str]]
) -> tuple[FigureMarks, LineMarks]:
    def of_figure(name: str) -> Marks:
        if held.get(name):
            return Marks(tokens=held[name], told=(_tokens(held[name]),))
        full = inside(path, name)
        found = {state: counts[full] for state, counts in states.items() if counts[full]}
        several = max(found.values(), default=0)
        return Marks(
            states=tuple(found),
            count=several if several > 1 else None,
            told=tuple(f"{state}{f': {count}' if count > 1 else ''}" for state, count in found.items()),
        )

    def of_line(flow: Flow) -> Marks:
        count = held.get(name_of(flow), 0)
        return Marks(tokens=count, told=(_tokens(count),)) if count else PLAIN

    return of_figure, of_line


def _tokens(count: int) -> str:
    return "1 token" if count == 1 else f"{count} tokens"


# --- history and frequencies ------------------------------------------------------------------------------------------


def with_history(places: Places, wanted: Iterable[str], events: Iterable[Event]) -> list[Panel]:
    """Return the nets with what happened in one case: the order of its tasks, when they began, how often they completed."""
    events = list(events)
    traffic, lost = told(places, events)
    began = events[0].at if events else 0
    panels = []
    for name in wanted:
        net = places.nets[name]
        figures = figures_told(net, traffic[name])
        of_figure, of_line = _history_marks(traffic[name], figures, began)
        panels.append(compose(name, net, of_figure=of_figure, of_line=of_line, heading=title_of(name)))
    if lost and panels:
        panels[-1] = attrs.evolve(
            panels[-1], remark=f"left out: {lost} events of tasks that this version does not have"
        )
    return panels


def _history_marks(traffic: Traffic, figures: Figures, began: int) -> tuple[FigureMarks, LineMarks]:
    def of_figure(name: str) -> Marks:
        if name in traffic.order:
            first, last = traffic.times[name]
            count = traffic.completed[name]
            return Marks(
                states=("visited",),
                count=count if count > 1 else None,
                order=traffic.order[name],
                when=f"+{span(first - began)}",
                told=(
                    f"number {traffic.order[name]} of the case's tasks",
                    f"started {times(traffic.started[name])}, completed {times(count)}",
                    f"from {utc(first)} to {utc(last)}",
                ),
            )
        count = figures.conditions.get(name, 0)
        return Marks(states=("visited",), told=(f"{_tokens(count)} came here",)) if count else PLAIN

    def of_line(flow: Flow) -> Marks:
        return _line_marks(figures, name_of(flow), share=0.0, least=2)

    return of_figure, of_line


def with_frequencies(places: Places, wanted: Iterable[str], counts: Mapping[str, int]) -> list[Panel]:
    """Return the nets with how often their tasks completed and their flows were taken."""
    by_net: dict[str, dict[str, int]] = {name: {} for name in places.nets}
    for path, count in counts.items():
        net_name, name = _element(places, path)
        if count < 0:
            raise ValueError(f"{path!r} cannot have happened {count} times")
        by_net[net_name][name] = by_net[net_name].get(name, 0) + count
    figures = {name: figures_given(net, by_net[name]) for name, net in places.nets.items()}
    most_tasks = max((each for one in figures.values() for each in one.tasks.values()), default=0) or 1
    most_flows = max((each for one in figures.values() for each in one.flows.values()), default=0) or 1
    panels = []
    for name in wanted:
        of_figure, of_line = _frequency_marks(figures[name], most_tasks, most_flows)
        net = places.nets[name]
        panels.append(compose(name, net, of_figure=of_figure, of_line=of_line, heading=title_of(name)))
    return panels


def _element(places: Places, path: str) -> tuple[str, str]:
    net_name, name = places.element_at(path)
    if name not in places.tasks[net_name] and name not in map(name_of, places.nets[net_name].flows):
        raise ValueError(f"{path!r} is no task and no flow of the specification {places.specification.id!r}")
    return net_name, name


def _frequency_marks(figures: Figures, most_tasks: int, most_flows: int) -> tuple[FigureMarks, LineMarks]:
    def of_figure(name: str) -> Marks:
        count = figures.tasks.get(name)
        if count is None:
            return PLAIN
        states = ("visited",) if count else ()
        return Marks(states=states, count=count, share=count / most_tasks, told=(f"completed {times(count)}",))

    def of_line(flow: Flow) -> Marks:
        name = name_of(flow)
        return _line_marks(figures, name, share=figures.flows.get(name, 0) / most_flows, least=0)

    return of_figure, of_line


def _line_marks(figures: Figures, name: str, *, share: float, least: int) -> Marks:
    if name in figures.perhaps:
        return Marks(states=("perhaps",), told=("perhaps taken",))
    count = figures.flows.get(name)
    if count is None:
        return PLAIN
    states = ("visited",) if count else ()
    shown = count if count >= least else None
    return Marks(states=states, count=shown, share=share, told=(f"taken {times(count)}",))


def span(milliseconds: int) -> str:
    """Return a length of time in its two largest units: ``3d 4h``, ``250ms``."""
    units = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000))
    for position, (unit, length) in enumerate(units):
        if milliseconds >= length:
            whole, rest = divmod(milliseconds, length)
            finer, finer_length = units[position + 1] if position + 1 < len(units) else ("ms", 1)
            more = rest // finer_length
            return f"{whole}{unit}" + (f" {more}{finer}" if more else "")
    return f"{milliseconds}ms"


def utc(at: int) -> str:
    """Return milliseconds since the epoch as a time."""
    return datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
