"""What went over a net: how often its tasks completed and its flows were taken, by what the events of cases tell.

Which flows brought a task's tokens is told nowhere where its join takes some of several; then what can be inferred is
inferred, and the rest is *perhaps*.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import attrs

from knhk.events import Event, EventKind
from knhk.formats._drawing.paths import Places, inside, without_instance
from knhk.spec import START, Flow, Join, Net, Split, Task

_STARTED = frozenset({EventKind.TASK_FIRED, EventKind.TASK_STARTED})
_COMPLETED = frozenset({EventKind.TASK_FIRED, EventKind.TASK_COMPLETED, EventKind.TASK_FORCED, EventKind.ERROR_CAUGHT})


@attrs.define(eq=False)
class Traffic:
    """
    What happened in one net, over all its runs.

    Attributes:
        started, completed: how often, by task.
        produced: how often a task gave tokens to a flow, by flow (``source>target``).
        times: by task, when it started first and when it was last heard of, in milliseconds since the epoch.
        order: by task, its place among all tasks of the case, by first start, from 1.
        begun: how often the net itself was started.
    """

    started: Counter[str] = attrs.field(factory=Counter)
    completed: Counter[str] = attrs.field(factory=Counter)
    produced: Counter[str] = attrs.field(factory=Counter)
    times: dict[str, tuple[int, int]] = attrs.field(factory=dict)
    order: dict[str, int] = attrs.field(factory=dict)
    begun: int = 0


def name_of(flow: Flow) -> str:
    """Return the name of a flow; between tasks it is the name of the implicit condition too."""
    return f"{flow.source}>{flow.target}"


def told(places: Places, events: Iterable[Event]) -> tuple[dict[str, Traffic], int]:
    """
    Return what one case's events tell, by name of the net, and how many of them have no place there.

    A case that was migrated has events of another version of its specification.
    """
    traffic = {name: Traffic() for name in places.nets}
    seen = lost = 0
    for event in events:
        if event.kind is EventKind.CASE_STARTED:
            traffic[""].begun += 1
        if event.kind not in _STARTED | _COMPLETED | {EventKind.INSTANCE_COMPLETED}:
            continue
        try:
            net, task = places.task_at(event.path)
        except ValueError:
            lost += 1
            continue
        here, name = traffic[net], task.id
        if event.kind in _STARTED:
            here.started[name] += 1
            if name not in here.order:
                seen += 1
                here.order[name] = seen
            if task.subnet in traffic:
                traffic[task.subnet].begun += event.details.get("instances") or 1
        here.times[name] = (here.times.get(name, (event.at, 0))[0], event.at)
        if _passes_on(task, event):
            here.completed[name] += 1
            here.produced.update(_outputs(places.nets[net], task, event))
    return traffic, lost


def _passes_on(task: Task, event: Event) -> bool:
    """Whether this is where the task gives its tokens away."""
    if task.multiple is not None and task.multiple.detached:
        return event.kind in _STARTED
    return event.kind in _COMPLETED or bool(event.details.get("passed_control"))


def _outputs(net: Net, task: Task, event: Event) -> Iterator[str]:
    chosen = event.details.get("chosen")
    for flow in net.flows:
        if flow.source == task.id:
            name = name_of(flow)
            # An error flow is taken when the event says so, and never with the others.
            taken = not flow.on_error if chosen is None else name in chosen or flow.target in chosen
            if taken:
                yield name


def together(places: Places, histories: Iterable[Iterable[Event]]) -> Counter[str]:
    """Return how often tasks completed and flows out of tasks were taken over many cases, by path without instances."""
    counts: Counter[str] = Counter()
    for events in histories:
        for event in events:
            if event.kind in _COMPLETED | _STARTED | {EventKind.INSTANCE_COMPLETED}:
                parent, _, _ = event.path.rpartition("/")
                net, task = places.task_at(event.path)
                if _passes_on(task, event):
                    parent = "/".join(map(without_instance, parent.split("/")))
                    counts[inside(parent, task.id)] += 1
                    counts.update(inside(parent, flow) for flow in _outputs(places.nets[net], task, event))
    return counts


# --- figures for a picture --------------------------------------------------------------------------------------------


@attrs.frozen(eq=False)
class Figures:
    """
    The figures of one net: what is not in a map is not known.

    Args:
        tasks, conditions: how often a task completed, and a token came into a condition.
        flows: how often a flow was taken.
        perhaps: flows that may have been taken.
    """

    tasks: Mapping[str, int]
    conditions: Mapping[str, int]
    flows: Mapping[str, int]
    perhaps: frozenset[str] = frozenset()


def figures_told(net: Net, traffic: Traffic) -> Figures:
    """Return the figures of what events tell."""
    flows = {name_of(flow): traffic.produced[name_of(flow)] for flow in net.flows if flow.source in traffic.started}
    conditions = _received(net, traffic.produced, traffic.begun)
    taken, perhaps = _consumed(net, traffic.started, conditions)
    return Figures({**traffic.completed}, conditions, {**flows, **taken}, perhaps)


def figures_given(net: Net, counts: Mapping[str, int]) -> Figures:
    """Return the figures of counts by task, and by flow where there are any; what follows from the tasks is filled in."""
    names = {each.id for each in net.tasks}
    tasks = {name: count for name, count in counts.items() if name in names}
    inputs, outputs = Counter(each.target for each in net.flows), Counter(each.source for each in net.flows)
    flows = {}
    for flow in net.flows:
        name = name_of(flow)
        if name in counts:
            flows[name] = counts[name]
        elif flow.source in tasks and (outputs[flow.source] == 1 or _task(net, flow.source).split is Split.AND):
            flows[name] = tasks[flow.source]
        elif flow.target in tasks and (inputs[flow.target] == 1 or _task(net, flow.target).join is Join.AND):
            flows[name] = tasks[flow.target]
    return Figures(tasks, {}, flows)


def _task(net: Net, name: str) -> Task:
    return next(each for each in net.tasks if each.id == name)


def _received(net: Net, produced: Mapping[str, int], begun: int) -> dict[str, int]:
    received: Counter[str] = Counter({START: begun})
    for flow in net.flows:
        received[flow.target] += produced.get(name_of(flow), 0)
    tasks = {each.id for each in net.tasks}
    return {name: count for name, count in received.items() if count and name not in tasks}


def _consumed(
    net: Net, started: Mapping[str, int], conditions: Mapping[str, int]
) -> tuple[dict[str, int], frozenset[str]]:
    """Return how often each flow from a condition was taken, where that is known, and which may have been."""
    taken: dict[str, int] = {}
    perhaps = set()
    for task in net.tasks:
        inputs = [each for each in net.flows if each.target == task.id]
        starts = started.get(task.id, 0)
        if task.join in (None, Join.AND):
            could = inputs
        else:
            names = {each.id for each in net.tasks}
            could = [each for each in inputs if each.source in names or conditions.get(each.source)]
        for flow in inputs:
            if flow.source in conditions and starts and flow in could:
                if len(could) == 1 or task.join in (None, Join.AND):
                    taken[name_of(flow)] = starts
                else:
                    perhaps.add(name_of(flow))
    return taken, frozenset(perhaps)
