"""One net as integer arrays and name tables: the only form that the kernels read.

Conditions and tasks are numbered in the order of the text.
Condition 0 is the input condition, condition 1 the output condition; the implicit conditions of task-to-task flows follow the
written ones.
Everything a step needs is looked up, never computed: which conditions a task takes from and puts to, what it cancels, and
which tasks must be looked at again when a condition changes.
"""

from __future__ import annotations

from typing import Final

import attrs

INPUT: Final = 0
"""The number of the input condition."""

OUTPUT: Final = 1
"""The number of the output condition."""

AND: Final = 0
XOR: Final = 1
OR: Final = 2
PARTIAL: Final = 3

Arc = tuple[int, int]
"""A condition and how many tokens move (at least 1)."""


@attrs.frozen(kw_only=True)
class TaskTable:
    """
    One task in numbers.

    Args:
        join: `AND`, `XOR`, `OR` or `PARTIAL`.
        split: `AND`, `XOR` or `OR`.
        required: for `PARTIAL`, how many inputs must be marked; else 0.
        inputs, outputs: arcs in flow order; positions in `outputs` are what a completion chooses from.
        reads: conditions that must be marked, without being consumed.
        cancels_conditions, cancels_tasks: the cancellation set, effective at completion before the outputs (rule 5).
        join_cancels: whether this is a cancelling partial join, which empties all its inputs at start and resets at once.
        join_cancels_conditions, join_cancels_tasks: what else a cancelling partial join removes when it starts (rule 4);
            its own inputs are listed among the conditions.
        detached: starting passes control at once and leaves the task idle (rule 6, ``sync: false``).
        continues: a multiple-instance task that may stay busy after it has passed control (rule 6, ``continue``).
    """

    join: int
    split: int
    inputs: tuple[Arc, ...]
    outputs: tuple[Arc, ...]
    required: int = 0
    reads: tuple[int, ...] = ()
    cancels_conditions: tuple[int, ...] = ()
    cancels_tasks: tuple[int, ...] = ()
    join_cancels: bool = False
    join_cancels_conditions: tuple[int, ...] = ()
    join_cancels_tasks: tuple[int, ...] = ()
    detached: bool = False
    continues: bool = False


@attrs.frozen(kw_only=True, eq=False)
class Tables:
    """
    One net in numbers.

    Args:
        conditions, tasks: the names by number.
        table: the tasks by number.
        implicit: whether the net ends when no work is left, rather than at the first token in `OUTPUT`.
        consumers: by condition, the tasks that take from it or read it, ascending: those whose enablement a change may touch.
        sinks: by condition, whether it feeds no task (reading is not feeding).
        swallowers: by condition, the non-cancelling partial joins that it feeds, as (task, position in `inputs`).
        or_joins: the tasks with an OR-join, ascending.
    """

    conditions: tuple[str, ...]
    tasks: tuple[str, ...]
    table: tuple[TaskTable, ...]
    implicit: bool
    consumers: tuple[tuple[int, ...], ...]
    sinks: tuple[bool, ...]
    swallowers: tuple[tuple[Arc, ...], ...]
    or_joins: tuple[int, ...]


def build_tables(
    *, conditions: tuple[str, ...], tasks: tuple[str, ...], table: tuple[TaskTable, ...], implicit: bool = False
) -> Tables:
    """Derive what follows from the arcs (consumers, sinks, swallowers) and return the finished tables."""
    consumers: list[set[int]] = [set() for _ in conditions]
    feeds = [False] * len(conditions)
    swallowers: list[list[Arc]] = [[] for _ in conditions]
    for number, task in enumerate(table):
        for position, (condition, _) in enumerate(task.inputs):
            consumers[condition].add(number)
            feeds[condition] = True
            if task.join == PARTIAL and not task.join_cancels:
                swallowers[condition].append((number, position))
        for condition in task.reads:
            consumers[condition].add(number)
    return Tables(
        conditions=conditions,
        tasks=tasks,
        table=table,
        implicit=implicit,
        consumers=tuple(tuple(sorted(each)) for each in consumers),
        sinks=tuple(not each for each in feeds),
        swallowers=tuple(map(tuple, swallowers)),
        or_joins=tuple(number for number, task in enumerate(table) if task.join == OR),
    )
