"""What leads where in a net, as seen from an OR-join: the parts of `_orjoin` that look at arcs only, and at no state."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from knhk._orjoin_search import swallows
from knhk._tables import AND, PARTIAL, Arc, Tables, TaskTable

Producers = Sequence[Sequence[tuple[int, int]]]
"""By condition, the tasks that put tokens there, and how many."""


def bits_of(conditions: set[int], tasks: set[int], shift: int) -> int:
    """Return the bits of the conditions, and above them, from `shift` on, those of the tasks."""
    return sum(1 << c for c in conditions) | sum(1 << shift + t for t in tasks)


def upstream(tables: Tables, producers: Producers, join: int, condition: int) -> int:
    """Return the bits of what a path leads from to this condition, not through the join (step 1)."""
    conditions: set[int] = set()
    tasks: set[int] = set()
    todo = [condition]
    while todo:
        for t, _ in producers[todo.pop()]:
            if t in tasks:
                continue
            tasks.add(t)
            if t != join:
                todo += [c for c, _ in tables.table[t].inputs if c not in conditions]
                conditions.update(c for c, _ in tables.table[t].inputs)
    return bits_of(conditions, tasks, len(tables.conditions))


def escorts(tables: Tables, producers: Producers, join: int, arc: Arc) -> int:
    """Return the bits of that from where a single token can walk to this input of the join by itself (step 2)."""
    inputs = {condition for condition, _ in tables.table[join].inputs}
    conditions: set[int] = set()
    tasks: set[int] = set()
    todo = [] if any(tables.swallowers[condition] for condition in inputs) else [arc]
    while todo:
        condition, needed = todo.pop()
        for t, given in producers[condition]:
            task = tables.table[t]
            if given < needed or not inputs.isdisjoint(task.cancels_conditions):
                continue
            tasks.add(t)
            if t == join or not inputs.isdisjoint(task.join_cancels_conditions):
                continue
            for c in _single_tokens(task):
                if c not in conditions and c not in inputs and not tables.swallowers[c]:
                    conditions.add(c)
                    todo.append((c, 1))
    return bits_of(conditions, tasks, len(tables.conditions))


def _single_tokens(task: TaskTable) -> Iterator[int]:
    """Yield the conditions one token of which is all that the task needs to start."""
    alone = (
        len(task.inputs) == 1
        if task.join == AND
        else task.join != PARTIAL or (task.join_cancels and task.required == 1)
    )
    if alone and not task.reads:
        for condition, weight in task.inputs:
            if weight == 1:
                yield condition


def relevant(tables: Tables, producers: Producers, join: int) -> tuple[set[int], set[int]]:
    """Close the inputs of the join under all that can help to mark them (R)."""
    conditions = {condition for condition, _ in tables.table[join].inputs}
    tasks: set[int] = set()
    todo = list(conditions)
    while todo:
        condition = todo.pop()
        fresh = [t for t, _ in (*producers[condition], *tables.swallowers[condition]) if t not in tasks]
        while fresh:
            number = fresh.pop()
            task = tables.table[number]
            if number in tasks:
                continue
            tasks.add(number)
            if number == join:
                continue
            near = {*(c for c, _ in task.inputs), *task.reads} - conditions
            conditions |= near
            todo += sorted(near)
            if swallows(task) or task.join_cancels_tasks:
                fresh += [
                    t
                    for t, other in enumerate(tables.table)
                    if number in other.cancels_tasks + other.join_cancels_tasks
                ]
    return conditions, tasks


def influenced(tables: Tables, join: int, conditions: set[int], tasks: set[int]) -> tuple[set[int], set[int]]:
    """Close what is relevant under all that changes it: what is left out neither changes what is in nor is asked for."""
    conditions, tasks = set(conditions), set(tasks)
    grown = True
    while grown:
        grown = False
        for number, task in enumerate(tables.table):
            needed = set() if number == join else {*(c for c, _ in task.inputs), *task.reads}
            changed = {*(c for c, _ in task.inputs + task.outputs), *emptied(task)}
            if number not in tasks and not (changed.isdisjoint(conditions) and tasks.isdisjoint(aborted(task))):
                tasks.add(number)
                conditions |= needed
                grown = True
    return conditions, tasks


def emptied(task: TaskTable) -> tuple[int, ...]:
    """List the conditions that the task empties, at its start or its completion."""
    return task.cancels_conditions + task.join_cancels_conditions


def aborted(task: TaskTable) -> tuple[int, ...]:
    """List the tasks that the task ends, at its start or its completion."""
    return task.cancels_tasks + task.join_cancels_tasks
