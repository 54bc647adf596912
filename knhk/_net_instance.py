"""One running net of a case, and what its started tasks do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from knhk._kernel import IDLE, Marking, Net
from knhk._lower import NetPlan, Program


class Activity:
    """
    What a started task does: its instances.

    Attributes:
        open: by instance number (0 where there is one), the work item's or net instance's number.
        created, completed: instances so far.
        closed: no instance may be added any more.
        passed: control has passed on; the open instances run on without effect.
        elements: what `for_each` gave, by instance.
    """

    __slots__ = ("closed", "completed", "created", "elements", "open", "passed")

    def __init__(self) -> None:
        self.open: dict[int, int] = {}
        self.created = 0
        self.completed = 0
        self.closed = False
        self.passed = False
        self.elements: list[Any] | None = None


class NetInstance:
    """One running net: its marking, and what the case knows beside it."""

    __slots__ = (
        "activities",
        "deadlines",
        "instance",
        "marking",
        "number",
        "offers",
        "overdue",
        "parent",
        "plan",
        "task",
        "timers",
        "triggers",
    )

    def __init__(
        self, number: int, plan: NetPlan, marking: Marking, parent: NetInstance | None, task: int, instance: int
    ) -> None:
        self.number = number
        self.plan = plan
        self.marking = marking
        self.parent = parent
        self.task = task
        self.instance = instance
        self.activities: dict[int, Activity] = {}
        self.offers: dict[int, int] = {}
        self.timers: dict[int, int] = {}
        self.deadlines: dict[int, int] = {}
        self.overdue: dict[int, int] = {}
        self.triggers: dict[int, int] = {}

    def is_offerable(self, task: int) -> bool:
        """Whether the task is ready and, if it waits for a trigger, holds one."""
        if not self.marking.is_ready(task):
            return False
        return self.plan.plans[task].task.trigger is None or self.triggers.get(task, 0) > 0

    def is_at_work(self, task: int) -> bool:
        """Whether the task has started and not yet passed control."""
        activity = self.activities.get(task)
        return activity is not None and bool(activity.open) and not activity.passed

    def stop_clock(self, task: int) -> None:
        """The activation is over whose deadline ran or had passed."""
        self.deadlines.pop(task, None)
        self.overdue.pop(task, None)

    def path(self, task: int, instance: int = 0) -> str:
        """Return the path of a task or instance from the root net: ``S#2/B``."""
        if self.parent is None and not instance:
            return self.plan.tables.tasks[task]
        parts = []
        net: NetInstance | None = self
        while net is not None:
            name = net.plan.tables.tasks[task]
            parts.append(f"{name}#{instance}" if instance else name)
            task, instance, net = net.task, net.instance, net.parent
        return "/".join(reversed(parts))


def dump_net(net: NetInstance) -> dict[str, Any]:
    """Return a running net as a JSON tree."""
    marking = net.marking
    parent = -1 if net.parent is None else net.parent.number
    return {
        "id": [net.number, net.plan.number, parent, net.task, net.instance],
        "tokens": [[c, n] for c, n in enumerate(marking.tokens) if n],
        "status": [[t, s] for t, s in enumerate(marking.status) if s],
        "seen": sorted(map(list, marking.seen.items())),
        "offers": list(map(list, net.offers.items())),
        "timers": list(map(list, net.timers.items())),
        "deadlines": list(map(list, net.deadlines.items())),
        "overdue": list(map(list, net.overdue.items())),
        "triggers": sorted([t, n] for t, n in net.triggers.items() if n),
        "activities": [
            [t, a.created, a.completed, a.closed, a.passed, a.elements, list(map(list, a.open.items()))]
            for t, a in net.activities.items()
        ],
    }


def load_net(
    program: Program, kernels: Sequence[Net], nets: Mapping[int, NetInstance], tree: dict[str, Any]
) -> NetInstance:
    """Read what `dump_net` returned; `nets` are those above it."""
    number, kind, parent, task, k = tree["id"]
    marking = kernels[kind].marking()
    tokens = [0] * len(marking.tokens)
    status = [IDLE] * len(marking.status)
    for condition, count in tree["tokens"]:
        tokens[condition] = count
    for each, value in tree["status"]:
        status[each] = value
    marking.restore(tokens, status, dict(tree["seen"]))
    net = NetInstance(number, program.nets[kind], marking, None if parent < 0 else nets[parent], task, k)
    net.offers = dict(tree["offers"])
    net.timers = dict(tree["timers"])
    net.deadlines = dict(tree.get("deadlines", ()))
    net.overdue = dict(tree.get("overdue", ()))
    net.triggers = dict(tree["triggers"])
    for each, created, completed, closed, passed, elements, opened in tree["activities"]:
        activity = net.activities[each] = Activity()
        activity.created, activity.completed, activity.closed, activity.passed = created, completed, closed, passed
        activity.elements = elements
        activity.open = dict(opened)
    return net
