"""
Soundness by brute force, to judge `knhk.analysis`: every state that the reference kernel reaches, start and completion apart.

Written from the rules alone; it shares nothing with the verifier but the kernel's `Marking` and the tables.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from itertools import chain, combinations
from typing import Any, NamedTuple

from orjoin_oracle import random_tables

from knhk._kernel import BUSY, DRAINING, Marking, Net
from knhk._tables import AND, OR, PARTIAL, XOR, Tables, TaskTable, build_tables

Frozen = tuple[tuple[int, ...], tuple[int, ...], tuple[tuple[int, int], ...]]


class Truth(NamedTuple):
    """What is so of a net, by looking at all its states; distances are the shortest in moves, None where there is none."""

    states: int
    stuck: int | None
    doomed: int | None
    improper: int | None
    dead: frozenset[int]
    bound: int


def frozen(marking: Marking) -> Frozen:
    return tuple(marking.tokens), tuple(marking.status), tuple(sorted(marking.seen.items()))


def thawed(net: Net, state: Frozen) -> Marking:
    marking = net.marking()
    marking.restore(state[0], state[1], dict(state[2]))
    return marking


def puts(task: TaskTable) -> list[tuple[int, ...]]:
    """Everything that a completion may choose."""
    places = tuple(range(len(task.outputs)))
    if task.split == XOR and places:
        return [(place,) for place in places]
    if task.split == OR and places:
        return [part for n in range(1, len(places) + 1) for part in combinations(places, n)]
    return [places]


Urgent = tuple[frozenset[int], frozenset[int]]


def successors(
    net: Net, state: Frozen, urgent: Urgent = (frozenset(), frozenset())
) -> tuple[list[tuple[Frozen, int | None]], bool]:
    """What one move leads to, each with the task that it started, and whether an OR-join could not be decided."""
    table = net.tables.table
    marking = thawed(net, state)
    if marking.has_ended():
        return [], False
    found: list[tuple[bool, Frozen, int | None]] = []

    def add(hurried: bool, started: int | None, *calls: tuple[Any, ...]) -> None:
        after = thawed(net, state)
        for name, *arguments in calls:
            getattr(after, name)(*arguments)
        found.append((hurried, frozen(after), started))

    for number, task in enumerate(table):
        if marking.is_ready(number):
            if task.detached:
                for chosen in puts(task):
                    add(number in urgent[0], number, ("start", number), ("pass_on", number, chosen))
            else:
                add(number in urgent[0], number, ("start", number))
        if state[1][number] == BUSY:
            at_once = number in urgent[1]
            for chosen in puts(task):
                add(at_once, None, ("complete", number, chosen))
                # A task that cancels itself ends its instances when it passes control.
                if task.continues and number not in task.cancels_tasks and not at_once:
                    add(False, None, ("pass_on", number, chosen))
        if state[1][number] == DRAINING:
            add(False, None, ("release", number))
    if any(hurried for hurried, _, _ in found):
        found = [each for each in found if each[0]]
    return [(later, started) for _, later, started in found], bool(marking.undecided)


def truth(net: Net, *, most: int = 1_500, tokens: int = 5, urgent: Urgent = (frozenset(), frozenset())) -> Truth | None:
    """Look at every state; None if there are too many, too many tokens in one, or an undecided OR-join."""
    first = frozen(net.marking())
    distance = {first: 0}
    before: dict[Frozen, list[Frozen]] = {first: []}
    started: set[int] = set()
    queue = [first]
    dead_ends = []
    for state in queue:
        following, undecided = successors(net, state, urgent)
        if not following and not thawed(net, state).has_ended():
            dead_ends.append(state)
        if undecided or len(queue) > most or max(state[0]) > tokens:
            return None
        for later, task in following:
            started |= set() if task is None else {task}
            if later not in distance:
                distance[later] = distance[state] + 1
                before[later] = []
                queue.append(later)
            before[later].append(state)
    ended = [state for state in queue if thawed(net, state).has_ended()]
    able, todo = set(ended), list(ended)
    while todo:
        new = [each for each in before[todo.pop()] if each not in able]
        able.update(new)
        todo.extend(new)
    wrong = [each for each in ended if not net.tables.implicit and (sum(each[0]) > 1 or BUSY in each[1])]
    return Truth(
        states=len(queue),
        stuck=_nearest(distance, dead_ends),
        doomed=_nearest(distance, (each for each in queue if each not in able)),
        improper=_nearest(distance, wrong),
        dead=frozenset(range(len(net.tables.table))) - started,
        bound=max(chain.from_iterable(state[0] for state in queue)),
    )


def _nearest(distance: dict[Frozen, int], states: Iterable[Frozen]) -> int | None:
    return min((distance[each] for each in states), default=None)


def random_net(rng: random.Random) -> Tables:
    """Draw a small net: half of them wild, half grown from a line, so that many are nearly sound."""
    if rng.random() < 0.4:
        tables, _ = random_tables(rng, features=rng.choice((0.0, 0.2, 0.4)), partial=rng.choice((0.0, 0.1, 0.4)))
        return build_tables(
            conditions=tables.conditions, tasks=tables.tasks, table=tables.table, implicit=rng.random() < 0.3
        )
    return grown_net(rng)


def plain_net(rng: random.Random) -> Tables:
    """Draw a small net of AND- and XOR-joins and -splits alone."""
    conditions = rng.randint(2, 5)

    def arcs(most: int, first: int) -> tuple[tuple[int, int], ...]:
        places = range(first, conditions)
        return tuple((c, 1) for c in rng.sample(places, min(len(places), rng.choice((1, 1, 1, 2))))[:most])

    table = []
    for number in range(rng.randint(1, 4)):
        inputs = ((0, 1),) if number == 0 else tuple(arc for arc in arcs(2, 0) if arc[0] != 1) or ((0, 1),)
        table.append(
            TaskTable(join=rng.choice((AND, XOR)), split=rng.choice((AND, XOR)), inputs=inputs, outputs=arcs(2, 1))
        )
    return build_tables(
        conditions=tuple(f"c{n}" for n in range(conditions)),
        tasks=tuple(f"t{n}" for n in range(len(table))),
        table=tuple(table),
    )


def grown_net(rng: random.Random) -> Tables:
    """Grow a net by splitting conditions into blocks, then spoil it a little: other joins, cancellation, reads, weights."""
    tasks: list[dict[str, Any]] = [{"inputs": [0], "outputs": [1]}]
    conditions = 2
    for _ in range(rng.randint(1, 3)):
        task = rng.randrange(len(tasks))
        kind = rng.choice(("sequence", "parallel", "choice", "inclusive", "loop"))
        old = tasks[task]
        if kind == "sequence":
            tasks.append({**old, "inputs": [conditions], "outputs": old["outputs"], "join": AND})
            old.update(outputs=[conditions], split=AND)
            conditions += 1
            continue
        if kind == "loop":
            tasks.append({"inputs": [conditions], "outputs": [conditions + 1]})
            tasks.append({"inputs": [conditions + 1], "outputs": [*old["outputs"]], "split": old.get("split", AND)})
            if len(old["outputs"]) == 1:
                tasks[-1] = {"inputs": [conditions + 1], "outputs": [*old["outputs"], conditions], "split": XOR}
            old.update(outputs=[conditions], split=AND)
            conditions += 2
            continue
        sort = {"parallel": AND, "choice": XOR, "inclusive": OR}[kind]
        first, second = [conditions, conditions + 1], [conditions + 2, conditions + 3]
        conditions += 4
        tasks += [{"inputs": [a], "outputs": [b]} for a, b in zip(first, second, strict=True)]
        tasks.append({"inputs": second, "outputs": old["outputs"], "join": sort, "split": old.get("split", AND)})
        old.update(outputs=first, split=sort)
    return _spoiled(rng, tasks, conditions)


def _spoiled(rng: random.Random, tasks: list[dict[str, Any]], conditions: int) -> Tables:
    spoil = rng.choice((0.0, 0.1, 0.25))
    table = []
    for task in tasks:
        rare = lambda: rng.random() < spoil  # noqa: E731
        join, split = task.get("join", AND), task.get("split", AND)
        if len(task["inputs"]) > 1 and rare():
            join = rng.choice((AND, XOR, OR, PARTIAL))
        if len(task["outputs"]) > 1 and rare():
            split = rng.choice((AND, XOR, OR))
        cancelling = join == PARTIAL and rng.random() < 0.4
        some = lambda: tuple(sorted(rng.sample(range(2, conditions), 1))) if conditions > 2 else ()  # noqa: E731
        other = lambda: (rng.randrange(len(tasks)),)  # noqa: E731
        weight = 2 if spoil and rng.random() < 0.05 else 1
        table.append(
            TaskTable(
                join=join,
                split=split,
                inputs=tuple((c, weight) for c in task["inputs"]),
                outputs=tuple((c, 2 if spoil and rng.random() < 0.05 else 1) for c in task["outputs"]),
                required=rng.randint(1, len(task["inputs"])) if join == PARTIAL else 0,
                reads=some() if rare() and rare() else (),
                cancels_conditions=some() if rare() else (),
                cancels_tasks=other() if rare() else (),
                join_cancels=cancelling,
                join_cancels_conditions=tuple(task["inputs"]) if cancelling else (),
                join_cancels_tasks=other() if cancelling and rare() else (),
                detached=rare() and rare(),
                continues=rare() and rare(),
            )
        )
    return build_tables(
        conditions=tuple(f"c{n}" for n in range(conditions)),
        tasks=tuple(f"t{n}" for n in range(len(table))),
        table=tuple(table),
        implicit=rng.random() < 0.2,
    )
