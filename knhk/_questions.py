"""Questions about the state of a case, answered from the state alone; nothing is changed or decided here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from knhk._case_state import CaseState
from knhk._lower import Kind
from knhk._net_instance import NetInstance
from knhk.errors import UnknownWorkItem
from knhk.spec import TriggerMode
from knhk.workitem import ItemEntry, ItemState


class Due(NamedTuple):
    """
    What comes due at a time.

    Args:
        at: when.
        net, task: whose timer or deadline it is.
        item: the item that is tried again, whose claim ends, or that is escalated; 0: none.
        deadline: whether it is the task's deadline.
        escalates: whether it is an escalation.
        stuck: whether it is a timer whose task will not be free then: nothing comes of it but that nothing waits any more.
    """

    at: int
    net: int
    task: int
    item: int = 0
    deadline: bool = False
    escalates: bool = False
    stuck: bool = False


def locate(state: CaseState, path: str) -> tuple[NetInstance, int, int]:
    """Find the net, the task and the instance (0: none named) that a path names."""
    net: NetInstance | None = next(iter(state.nets.values()), None)
    if net is not None and path in net.plan.index:
        # No name has the marks of a path in it.
        return net, net.plan.index[path], 0
    segments = path.split("/")
    for position, segment in enumerate(segments):
        name, _, suffix = segment.partition("#")
        task = None if net is None else net.plan.index.get(name)
        if net is None or task is None or (suffix and not suffix.isdecimal()):
            break
        k = int(suffix) if suffix else 0
        if position == len(segments) - 1:
            return net, task, k
        activity = net.activities.get(task)
        if activity is None or net.plan.plans[task].kind is not Kind.SUBNET:
            break
        net = state.nets.get(activity.open.get(k, -1))
    message = f"the case has no task {path!r} now"
    raise UnknownWorkItem(message)


def given_back(state: CaseState, net: NetInstance, task: int, k: int) -> ItemEntry | None:
    """Return the item of running work, of people or elsewhere, that waits to be started (again), or None."""
    activity = net.activities.get(task) if net.plan.plans[task].kind in (Kind.EXTERNAL, Kind.MANUAL) else None
    item = None if activity is None else state.items.get(activity.open.get(k, 0))
    return item if item is not None and item.state in (ItemState.OFFERED, ItemState.ALLOCATED) else None


def next_due(state: CaseState) -> Due | None:
    """Return what comes due first: a timer whose task could run, a retry, or the end of a claim; None: nothing."""
    undoing = state.undoing
    if undoing is not None:
        at = state.deadlines.get(undoing.item)
        return None if at is None else Due(at, -1, -1, undoing.item)
    due: list[Due] = []
    timed = False
    for net in state.nets.values():
        if net.timers:
            timed = True
            due += [Due(at, net.number, task) for task, at in net.timers.items() if net.marking.is_ready(task)]
        if net.deadlines:
            due += [Due(at, net.number, task, deadline=True) for task, at in net.deadlines.items()]
    for number, at in state.deadlines.items():
        item = state.items[number]
        due.append(Due(at, item.net, item.task, number))
    for number, post in state.people.posts.items():
        item = state.items[number]
        if post.due is not None and item.state is not ItemState.FAILED:
            due.append(Due(post.due, item.net, item.task, number, escalates=True))
    if due:
        return min(due)
    return _end_of_waiting(state) if timed else None


def _end_of_waiting(state: CaseState) -> Due | None:
    """Return when the last timer has run out for nothing, where nothing else goes on: its task is busy, and stays so; or None."""
    if _waits_for_more(state) or any(item.state is not ItemState.FAILED for item in state.items.values()):
        return None
    return max(Due(at, net.number, task, stuck=True) for net in state.nets.values() for task, at in net.timers.items())


def keeps_event(net: NetInstance, name: str, variables: Mapping[str, Any] | None = None) -> bool:
    """
    Whether a running net listens to an event now (rule 7).

    Args:
        net: the net.
        name: the event's.
        variables: the data and the event, for an event that is meant for whom it correlates with; None: it is addressed.

    Raises:
        DataError: whether it is meant cannot be said for these data.
    """
    task = net.plan.listeners.get(name)
    if task is None:
        return False
    meant = net.plan.plans[task].correlate
    if variables is not None and meant is not None and not meant.test(variables, net.path(task)):
        return False
    trigger = net.plan.plans[task].task.trigger
    if trigger is None or trigger.mode is TriggerMode.PERSISTENT:
        return True
    return net.marking.threads(task) > net.triggers.get(task, 0)


def waits(state: CaseState, now: int) -> bool:
    """Whether something may still come by itself or from outside, although no work is open (rule 9)."""
    if _waits_for_more(state):
        return True
    # Of a task that is busy for ever a timer that has run out is nothing to wait for.
    return any(at > now or net.marking.is_ready(task) for net in state.nets.values() for task, at in net.timers.items())


def _waits_for_more(state: CaseState) -> bool:
    """Whether something may still come that is no timer."""
    if state.deadlines:
        return True
    for net in state.nets.values():
        if net.deadlines or net.marking.undecided:
            return True
        if any(net.marking.is_ready(task) for task in net.plan.triggered):
            return True
    return False


def ends_implicitly(net: NetInstance) -> bool:
    """Whether no work is left in a net with implicit termination, detached instances included."""
    if not net.plan.tables.implicit or any(activity.open for activity in net.activities.values()):
        return False
    return net.plan.empty or net.marking.has_ended()


def depth_below(net: NetInstance) -> int:
    """Return how many composite tasks inside one another the subnet of a task in this net would make."""
    depth = 1
    above = net.parent
    while above is not None:
        depth += 1
        above = above.parent
    return depth
