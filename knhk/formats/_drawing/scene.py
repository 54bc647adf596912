"""What is to be seen, whatever it is written in: panels with figures (tasks and conditions), lines (flows and read arcs)
and cancellation regions, with the marks that a case or its history puts on them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs

from knhk.errors import Problem, SpecificationError
from knhk.formats._drawing.telling import enumerated, label, told_of_condition, told_of_flow, told_of_task
from knhk.formats._drawing.traffic import name_of
from knhk.formats._drawing.words import shortened
from knhk.spec import (
    END,
    ROOT,
    START,
    Flow,
    Net,
    PartialJoin,
    SpecificationData,
    Task,
)


@attrs.frozen(kw_only=True)
class Marks:
    """
    What lies on a figure or a line.

    Args:
        states: ``enabled``, ``running``, ``failed``, ``visited`` or ``perhaps``.
        tokens: how many it holds.
        count: how often it happened; None: not known.
        share: that count as a part of the highest of its kind, 0 to 1.
        order: its place among the tasks of a case, by first start; 0: none.
        when: about when it began.
        told: the same in full.
    """

    states: tuple[str, ...] = ()
    tokens: int = 0
    count: int | None = None
    share: float = 0.0
    order: int = 0
    when: str = ""
    told: tuple[str, ...] = ()


PLAIN = Marks()


@attrs.frozen(kw_only=True)
class Figure:
    """
    A task, a condition, or an implicit condition that is drawn.

    Args:
        kind: ``task``, ``condition``, ``implicit``, ``input`` or ``output``.
        id: its name in the net.
        name: what people read.
        told: what it is, in full.
        task: what the modeller wrote, for a task.
    """

    kind: str
    id: str
    name: str
    told: tuple[str, ...]
    task: Task | None = None
    marks: Marks = PLAIN


@attrs.frozen(kw_only=True)
class Line:
    """
    A flow, a part of one (to or from an implicit condition that is drawn), or a read arc.

    Args:
        source, target: positions of the figures that it joins.
        flow: the name of its flow, ``source>target``.
        label: its predicate and weight.
        told: what it is, in full.
        read: whether it is a read arc.
        default: whether it is its split's default.
        error: whether an error chooses it.
    """

    source: int
    target: int
    flow: str
    label: str = ""
    told: tuple[str, ...] = ()
    read: bool = False
    default: bool = False
    error: bool = False
    marks: Marks = PLAIN


@attrs.frozen(kw_only=True)
class Region:
    """
    What one or more tasks cancel.

    Args:
        letter: its sign in the picture.
        told: who cancels it, and when.
        figures: positions of what is cancelled.
    """

    letter: str
    told: str
    figures: tuple[int, ...]


@attrs.frozen(kw_only=True)
class Panel:
    """
    One net, or one that runs.

    Args:
        net: its name; the root net's is ``""``.
        heading: what stands above it.
        path: where it runs, as a case's path; None where no case is drawn, or it does not run.
        idle: whether a case is drawn and this net does not run in it.
        remark: what is left out behind this panel.
    """

    net: str
    heading: str
    figures: tuple[Figure, ...]
    lines: tuple[Line, ...]
    regions: tuple[Region, ...]
    path: str | None = None
    idle: bool = False
    remark: str = ""


@attrs.frozen(kw_only=True)
class Scene:
    """A picture: its title, a description for those who do not see it, its panels, and what its marks mean."""

    title: str
    description: str
    panels: tuple[Panel, ...]


FigureMarks = Callable[[str], Marks]
"""What lies on a task or a condition, by its id."""

LineMarks = Callable[[Flow], Marks]
"""What lies on a flow."""


def check(specification: SpecificationData) -> None:
    """Raise SpecificationError where a flow, a cancellation set or a read arc names what is not there."""
    problems = []
    for name, net in specification.nets().items():
        where = f"subnets.{shortened(name, 60)}." if name else ""
        known = {START, END, *(each.id for each in net.tasks), *(each.id for each in net.conditions)}
        for flow in net.flows:
            problems += [
                Problem(
                    f"{where}flows",
                    f"the flow {shortened(flow.label, 120)} names {shortened(end, 60)!r}, which is not there",
                )
                for end in (flow.source, flow.target)
                if end not in known
            ]
        known |= {name_of(flow) for flow in net.flows}
        problems += [
            Problem(f"{where}tasks.{shortened(task.id, 60)}", f"names {shortened(each, 60)!r}, which is not there")
            for task in net.tasks
            for each in (*task.cancels, *task.reads, *_emptied(task))
            if each not in known
        ]
    if problems:
        raise SpecificationError(problems)


def _emptied(task: Task) -> tuple[str, ...]:
    """What a partial join's task cancels when it starts."""
    return (task.join.cancels or ()) if isinstance(task.join, PartialJoin) else ()


class _Composing:
    """One net on its way to a panel."""

    def __init__(self, net: Net, of_figure: FigureMarks, of_line: LineMarks) -> None:
        self.net = net
        self.of_figure = of_figure
        self.of_line = of_line
        self.figures: list[Figure] = []
        self.at: dict[str, int] = {}
        named = {each for task in net.tasks for each in (*task.cancels, *task.reads, *_emptied(task))}
        tasks = {each.id for each in net.tasks}
        self.drawn = {
            name_of(flow)
            for flow in net.flows
            if flow.source in tasks and flow.target in tasks and name_of(flow) in named
        }

    def figure(self, kind: str, name: str, shown: str, told: Sequence[str], task: Task | None = None) -> None:
        """Add one."""
        self.at[name] = len(self.figures)
        marks = self.of_figure(name)
        lines = (*told, *marks.told)
        self.figures.append(Figure(kind=kind, id=name, name=shown, told=lines, task=task, marks=marks))

    def all_figures(self) -> None:
        """Add the conditions and tasks in the order of the text, and the implicit conditions that something names."""
        self.figure("input", START, "", ["input condition"])
        for task in self.net.tasks:
            self.figure("task", task.id, shortened(task.name or task.id), told_of_task(task), task)
        for each in self.net.conditions:
            self.figure("condition", each.id, shortened(each.name or each.id), told_of_condition(each))
        for name in sorted(self.drawn):
            self.figure("implicit", name, "", [f"implicit condition {shortened(name, 200)}"])
        self.figure("output", END, "", ["output condition"])

    def lines(self) -> list[Line]:
        """Return the flows in the order of the text, then the read arcs."""
        lines: list[Line] = []
        for flow in self.net.flows:
            name, marks = name_of(flow), self.of_line(flow)
            told = (*told_of_flow(flow), *marks.told)
            line = Line(
                source=self.at[flow.source],
                target=self.at[flow.target],
                flow=name,
                label=label(flow),
                error=bool(flow.on_error),
                told=told,
                default=flow.default,
                marks=marks,
            )
            if name in self.drawn:
                # The condition in between holds the tokens.
                marks = attrs.evolve(marks, tokens=0)
                first = attrs.evolve(line, target=self.at[name], marks=marks)
                second = attrs.evolve(line, source=self.at[name], label="", default=False, error=False, marks=marks)
                lines += [first, second]
            else:
                lines.append(line)
        lines += [
            Line(
                source=self.at[each],
                target=self.at[task.id],
                flow=f"{each}>{task.id}",
                told=(f"{shortened(task.id, 200)} reads {shortened(each, 200)} and does not consume",),
                read=True,
            )
            for task in self.net.tasks
            for each in task.reads
        ]
        return lines

    def regions(self) -> list[Region]:
        """Return what is cancelled, one region for the same things and the same moment."""
        found: dict[tuple[str, frozenset[str]], list[str]] = {}
        for task in self.net.tasks:
            if task.cancels:
                found.setdefault(("completes", frozenset(task.cancels)), []).append(task.id)
            if _emptied(task):
                found.setdefault(("starts", frozenset(_emptied(task))), []).append(task.id)
        return [
            Region(
                letter=_letter(number),
                told=f"cancelled when {enumerated(names)} {moment}",
                figures=tuple(sorted(self.at[each] for each in cancelled)),
            )
            for number, ((moment, cancelled), names) in enumerate(found.items())
        ]


def compose(
    name: str,
    net: Net,
    *,
    of_figure: FigureMarks = lambda _: PLAIN,
    of_line: LineMarks = lambda _: PLAIN,
    heading: str = "",
    path: str | None = None,
    idle: bool = False,
    remark: str = "",
) -> Panel:
    """Return the panel of a net with what lies on it."""
    composing = _Composing(net, of_figure, of_line)
    composing.all_figures()
    return Panel(
        net=name,
        heading=heading,
        figures=tuple(composing.figures),
        lines=tuple(composing.lines()),
        regions=tuple(composing.regions()),
        path=path,
        idle=idle,
        remark=remark,
    )


def _letter(number: int) -> str:
    """A, B, ... Z, A1, B1 and so on."""
    return chr(ord("A") + number % 26) + (str(number // 26) if number >= 26 else "")


def describe(specification: SpecificationData, panels: Sequence[Panel]) -> str:
    """Return a picture in a sentence."""
    tasks = sum(each.kind == "task" for panel in panels for each in panel.figures)
    parts = [f"{len(panels)} {'net' if len(panels) == 1 else 'nets'}", f"{tasks} {'task' if tasks == 1 else 'tasks'}"]
    return (
        f"Specification {shortened(specification.id, 128)} {shortened(specification.version, 64)}: {', '.join(parts)}."
    )


def title_of(net: str) -> str:
    """Return the heading of a net."""
    return "" if net == ROOT else shortened(net, 100)
