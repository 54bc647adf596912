"""From the names in a log to the tasks of a specification."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

import attrs

from knhk._lower import Program
from knhk.errors import DataError

Place = tuple[int, int]
"""A task: the number of its net, and its number there."""

Step = tuple[int, int]
"""A part of a path: a task's number in its net, and the instance (0: any)."""

_SHOWN: Final = 5


@attrs.frozen
class Label:
    """
    What an event of the log says.

    Args:
        net, task: which task of which net.
        above: the composite tasks above it, from the root; None: any instance of its net.
        instance: which instance of a multiple-instance task; 0: any.
        starts: whether the task started rather than completed.
    """

    net: int
    task: int
    above: tuple[Step, ...] | None
    instance: int
    starts: bool


class Names:
    """
    The tasks of a specification by the names that a log may use.

    A name is looked up, in this order, in the mapping, as a path from the root (``approve``, ``ship/pick``, ``notify#2``),
    as the id of a task that only one net has, and as the displayed name of exactly one task.

    Args:
        program: the specification.
        mapping: log names to paths; None leaves the events of a name out.

    Raises:
        DataError: the mapping names a task that is not there.
    """

    def __init__(self, program: Program, mapping: Mapping[str, str | None]) -> None:
        self._program = program
        self._mapping = mapping
        self._ids: dict[str, list[Place]] = {}
        self._shown: dict[str, list[Place]] = {}
        self._uses: list[list[Place]] = [[] for _ in program.nets]
        for plan in program.nets:
            for number, task in enumerate(plan.plans):
                if task.subnet >= 0:
                    self._uses[task.subnet].append((plan.number, number))
                self._ids.setdefault(task.task.id, []).append((plan.number, number))
                if task.task.name:
                    self._shown.setdefault(task.task.name, []).append((plan.number, number))
        for name, path in mapping.items():
            if path is not None and self._find(path) is None:
                message = f"the mapping of {name!r} names {path!r}, which is no task of {program.specification.id}"
                raise DataError(message, element=name, value=path)

    def left_out(self, name: str) -> bool:
        """Whether the mapping leaves the events of this name out."""
        return name in self._mapping and self._mapping[name] is None

    def find(self, name: str, *, starts: bool) -> Label | None:
        """
        Return the task that a log's name stands for; None: no task of the specification.

        Raises:
            DataError: several tasks could be meant.
        """
        found = self._find(self._mapping.get(name) or name)
        return None if found is None else attrs.evolve(found, starts=starts)

    def _find(self, name: str) -> Label | None:
        by_path = self._by_path(name)
        if by_path is not None:
            return by_path
        bare, instance = _instance(name)
        for table, wanted, k in ((self._ids, bare, instance), (self._shown, name, 0)):
            places = table.get(wanted, ())
            if len(places) > 1:
                raise self._ambiguous(name, places)
            if places:
                net, task = places[0]
                return Label(net, task, self._only_way(net), k, starts=False)
        return None

    def _by_path(self, path: str) -> Label | None:
        net = self._program.nets[0]
        above: list[Step] = []
        *parts, last = path.split("/")
        for part in parts:
            name, instance = _instance(part)
            task = net.index.get(name)
            if task is None or net.plans[task].subnet < 0:
                return None
            above.append((task, instance))
            net = self._program.nets[net.plans[task].subnet]
        name, instance = _instance(last)
        task = net.index.get(name)
        return None if task is None else Label(net.number, task, tuple(above), instance, starts=False)

    def _only_way(self, net: int) -> tuple[Step, ...] | None:
        """Return the composite tasks above a net, where there is one way to it; else None."""
        way: list[Step] = []
        while net:
            uses = self._uses[net]
            if len(uses) != 1 or len(way) == len(self._program.nets):
                return None
            net, task = uses[0]
            way.append((task, 0))
        return tuple(reversed(way))

    def _ambiguous(self, name: str, places: Collection[Place]) -> DataError:
        nets = [self._program.nets[net].name or "the root net" for net, _ in places]
        some = ", ".join(nets[:_SHOWN]) + (", ..." if len(nets) > _SHOWN else "")
        message = f"{name!r} is the name of {len(places)} tasks (in {some}): map it to a path, such as 'ship/pick'"
        return DataError(message, element=name, value=name)

    def path(self, label: Label) -> str:
        """Return what a report calls the task of a label: its path, or its id alone where several paths lead to it."""
        last = self._program.nets[label.net].tables.tasks[label.task]
        if label.above is None:
            return last
        parts: list[str] = []
        above = self._program.nets[0]
        for task, _ in label.above:
            parts.append(above.tables.tasks[task])
            above = self._program.nets[above.plans[task].subnet]
        return "/".join([*parts, last])


def _instance(part: str) -> tuple[str, int]:
    """Split ``notify#2`` into its name and its number; 0 where there is none."""
    name, separator, number = part.rpartition("#")
    if separator and number.isascii() and number.isdecimal() and 0 < len(number) <= 9 and int(number):
        return name, int(number)
    return part, 0
