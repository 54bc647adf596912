"""Positions of a replay: the state of a case without data, and what can be said of it.

A position is a `CaseState` of which nothing counts but its nets: markings, and which instances of which tasks are open.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Final

from knhk._case_state import CaseState
from knhk._codes import End
from knhk._hot import Net
from knhk._kernel import IDLE
from knhk._lower import Kind, Program, TaskPlan
from knhk._net_instance import Activity, NetInstance
from knhk._tables import AND, OR, PARTIAL, XOR, Tables
from knhk.analysis._replay_names import Step
from knhk.spec import Creation, Remaining

MAX_CHOICES: Final = 1_023
"""How many sets of outputs an OR-split may choose: all those of ten predicates; of more, the smallest sets."""


def key(state: CaseState) -> tuple[Any, ...]:
    """Return what a position is, for telling whether two are the same: its nets, a composite task's after its own."""
    nets: list[tuple[Any, ...]] = []
    agenda = [root(state)]
    while agenda:
        net = agenda.pop()
        marking = net.marking
        activities = []
        for task, activity in sorted(net.activities.items()):
            opened = sorted(activity.open)
            if net.plan.plans[task].kind is Kind.SUBNET:
                agenda.extend(state.nets[activity.open[k]] for k in opened)
            completed = 0 if net.plan.tables.table[task].detached else activity.completed
            activities.append((task, activity.created, completed, activity.passed, tuple(opened)))
        seen = tuple(sorted(marking.seen.items()))
        nets.append((net.plan.number, tuple(marking.tokens), tuple(marking.status), seen, tuple(activities)))
    return tuple(nets)


def is_over(net: NetInstance) -> bool:
    """Whether a net has ended (rule 8)."""
    if net.plan.tables.implicit and any(activity.open for activity in net.activities.values()):
        return False
    return net.plan.empty or net.marking.has_ended()


def root(state: CaseState) -> NetInstance:
    """Return the net that the case runs."""
    return state.nets[0]


def tokens(state: CaseState) -> int:
    """Return how many tokens lie in all nets together."""
    return sum(sum(net.marking.tokens) for net in state.nets.values())


def unfinished(state: CaseState) -> list[tuple[NetInstance, int]]:
    """Return the tasks (as net and number) that have started and not completed, once for each open instance."""
    return [
        (net, task)
        for net in state.nets.values()
        for task, activity in net.activities.items()
        if net.plan.plans[task].kind is not Kind.SUBNET
        for _ in activity.open
    ]


def live(state: CaseState) -> Iterator[NetInstance]:
    """Yield the nets that have not ended, nor lie in one that has."""
    over: set[int] = set()
    for net in state.nets.values():
        if (net.parent is not None and net.parent.number in over) or is_over(net):
            over.add(net.number)
        else:
            yield net


def lies_under(net: NetInstance, above: tuple[Step, ...] | None) -> bool:
    if above is None:
        return True
    for task, k in reversed(above):
        if net.parent is None or net.task != task or (k and k != net.instance):
            return False
        net = net.parent
    return net.parent is None


def discards(state: CaseState, net: NetInstance) -> int:
    """Return the tokens that a net's end discards: all in it and below it, but for those that its end is."""
    count = 0
    below = {net.number}
    for each in state.nets.values():
        if each is net or (each.parent is not None and each.parent.number in below):
            below.add(each.number)
            count += sum(each.marking.tokens)
    return 0 if net.plan.tables.implicit or net.plan.empty else count - 1


def is_fresh(net: NetInstance) -> bool:
    marking = net.marking
    return marking.tokens[0] == 1 and sum(marking.tokens) == 1 and not net.activities


def copy_of(program: Program, kernels: Sequence[Net], state: CaseState) -> CaseState:
    twin = CaseState(program, kernels)
    twin.phase = state.phase
    twin.next_net = state.next_net
    twin.next_item = state.next_item
    for number, net in state.nets.items():
        old = net.marking
        marking = kernels[net.plan.number].marking()
        marking.restore(old.tokens, old.status, old.seen)
        parent = None if net.parent is None else twin.nets[net.parent.number]
        made = twin.nets[number] = NetInstance(number, net.plan, marking, parent, net.task, net.instance)
        for task, activity in net.activities.items():
            copied = made.activities[task] = Activity()
            copied.open = dict(activity.open)
            copied.created = activity.created
            copied.completed = activity.completed
            copied.passed = activity.passed
    return twin


def settle(state: CaseState) -> None:
    for number in state.touched:
        net = state.nets.get(number)
        if net is not None:
            net.marking.settle()
            net.marking.changes()
    state.touched.clear()
    state.moved.clear()
    state.items.clear()
    state.work.clear()


# --- what a task may do -----------------------------------------------------------------------------------------------


def choices_of(net: NetInstance, task: int) -> list[tuple[int, ...]]:
    """Return the sets of outputs that some data choose (rule 3)."""
    plan = net.plan.plans[task]
    failed: list[tuple[int, ...]] = [(error.position,) for error in plan.errors]
    if not plan.branches:
        return [plan.every_output, *failed]
    if net.plan.tables.table[task].split == XOR:
        return [*((branch.position,) for branch in plan.branches), *failed]
    free = [branch.position for branch in plan.branches if branch.predicate is not None]
    subsets = (each for size in range(1, len(free) + 1) for each in itertools.combinations(free, size))
    return [*itertools.islice(subsets, MAX_CHOICES)] + [
        (branch.position,) for branch in plan.branches if branch.predicate is None
    ]


def weight_of(net: NetInstance, task: int, chosen: Sequence[int]) -> int:
    outputs = net.plan.tables.table[task].outputs
    return sum(outputs[position][1] for position in chosen)


def ends_of(plan: TaskPlan, activity: Activity) -> list[End]:
    """Return what the end of an instance may do to its task (rule 6); ``until`` may say either."""
    multiple = plan.task.multiple
    if multiple is None:
        return [End.COMPLETES]
    if multiple.detached:
        return [End.DETACHED]
    remaining = len(activity.open) - 1
    if activity.passed:
        return [End.NOTHING if remaining else End.RELEASES]
    if not remaining:
        return [End.COMPLETES]
    passes = End.PASSES_ON if multiple.remaining is Remaining.CONTINUE else End.COMPLETES
    if multiple.threshold is not None and activity.completed + 1 >= multiple.threshold:
        return [passes]
    return [End.NOTHING] if plan.until is None else [End.NOTHING, passes]


def may_be_none(plan: TaskPlan) -> bool:
    if isinstance(plan.count, int):
        return plan.count == 0
    return plan.task.multiple is None or not plan.task.multiple.minimum


def first_count(plan: TaskPlan) -> int:
    """Return how many instances start: as many as are stated, or as few as are allowed."""
    if plan.task.multiple is None:
        return 0
    return plan.count if isinstance(plan.count, int) else max(1, plan.task.multiple.minimum or 0)


def has_room(plan: TaskPlan, activity: Activity, more: int = 1) -> bool:
    """Whether so many instances may exist beyond those that were created."""
    multiple = plan.task.multiple
    if multiple is None or (isinstance(plan.count, int) and multiple.creation is not Creation.DYNAMIC):
        return False
    return multiple.maximum is None or activity.created + more <= multiple.maximum


def is_plain(tables: Tables) -> bool:
    """Whether it makes no difference in this net when a task starts, as long as it completes when it does."""
    for number, entry in enumerate(tables.table):
        if entry.join in (OR, PARTIAL) or entry.cancels_conditions or entry.cancels_tasks:
            return False
        alone = all(tables.consumers[condition] == (number,) for condition, _ in entry.inputs)
        if entry.join == XOR and len(entry.inputs) > 1 and not alone:
            return False
    return True


# --- putting what is missing ------------------------------------------------------------------------------------------


def supply(net: NetInstance, task: int) -> tuple[list[int], int] | None:
    """
    Put the tokens that the task lacks to start.

    Returns:
        The conditions that were lent a token only to be read, and how many tokens were put in all; None: the task is busy.
    """
    entry = net.plan.tables.table[task]
    marking = net.marking
    if marking.status[task] != IDLE:
        return None
    held, status, seen = list(marking.tokens), list(marking.status), dict(marking.seen)
    seen.pop(task, None)
    lacks = [max(0, weight - held[condition]) for condition, weight in entry.inputs]
    needed = {AND: len(lacks), PARTIAL: entry.required}.get(entry.join, 1)
    put = 0
    for position in sorted(range(len(lacks)), key=lacks.__getitem__)[:needed]:
        held[entry.inputs[position][0]] += lacks[position]
        put += lacks[position]
    lent = [condition for condition in entry.reads if not held[condition]]
    for condition in lent:
        held[condition] += 1
    marking.restore(held, status, seen)
    return lent, put + len(lent)


def put_token(net: NetInstance, condition: int) -> None:
    marking = net.marking
    held = list(marking.tokens)
    held[condition] += 1
    marking.restore(held, list(marking.status), dict(marking.seen))


def take_back(net: NetInstance, lent: Sequence[int]) -> int:
    """Remove the tokens that were lent and return how many; one that is gone was consumed or cancelled meanwhile."""
    if not lent:
        return 0
    marking = net.marking
    held = list(marking.tokens)
    there = [condition for condition in lent if held[condition]]
    for condition in there:
        held[condition] -= 1
    marking.restore(held, list(marking.status), dict(marking.seen))
    return len(there)
