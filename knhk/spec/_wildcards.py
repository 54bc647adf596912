"""Short forms in a cancellation set: ``pick>*`` and ``*>pack`` for all implicit conditions behind, or in front of, a task.

They are read as if all were listed, in the order of the flows; nothing behind the reader knows of them.
One that stands for nothing is left as it is, and so is found to name what is not there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import attrs

from knhk.spec.model import Flow, PartialJoin, Task

_ANY: Final = "*"


def expanded(net: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of a net with its cancellation sets written out."""
    tasks: Sequence[Task] = net.get("tasks", ())
    if not any(_ANY in each for task in tasks for each in (*task.cancels, *_of_join(task))):
        return dict(net)
    names = {task.id for task in tasks}
    flows: Sequence[Flow] = net.get("flows", ())
    implicit = [(each.source, each.target) for each in flows if {each.source, each.target} <= names]
    return {**net, "tasks": tuple(_expanded(task, implicit) for task in tasks)}


def _expanded(task: Task, implicit: Sequence[tuple[str, str]]) -> Task:
    join = task.join
    if isinstance(join, PartialJoin) and join.cancels is not None:
        join = attrs.evolve(join, cancels=_all(join.cancels, implicit))
    return attrs.evolve(task, join=join, cancels=_all(task.cancels, implicit))


def _of_join(task: Task) -> tuple[str, ...]:
    return (task.join.cancels or ()) if isinstance(task.join, PartialJoin) else ()


def _all(references: Iterable[str], implicit: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """Return what a set names, each once."""
    found: dict[str, None] = {}
    for each in references:
        source, mark, target = each.partition(">")
        meant: list[str] = []
        if mark and _ANY in (source, target) and source != target:
            meant = [f"{a}>{b}" for a, b in implicit if source in (a, _ANY) and target in (b, _ANY)]
        found |= dict.fromkeys(meant or [each])
    return tuple(found)
