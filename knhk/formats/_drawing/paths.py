"""Paths of a case (``ship/pick``, ``notify#2``) as elements of nets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import attrs

from knhk.spec import ROOT, Net, SpecificationData, Task


def without_instance(segment: str) -> str:
    """Return a path, or a segment of one, without the number of the instance at its end."""
    head, mark, number = segment.rpartition("#")
    return head if mark and number.isdecimal() else segment


def inside(path: str, name: str) -> str:
    """Return the path of an element of the net at `path`."""
    return f"{path}/{name}" if path else name


def parents(path: str) -> Iterator[str]:
    """Yield the paths of the tasks that a path lies in, without the instance at their ends."""
    at = path.rfind("/")
    while at > 0:
        yield without_instance(path[:at])
        at = path.rfind("/", 0, at)


@attrs.frozen(eq=False)
class Places:
    """The nets of a specification by the paths of a case; `tasks` are the tasks of each net by id."""

    specification: SpecificationData
    nets: Mapping[str, Net]
    tasks: Mapping[str, Mapping[str, Task]]

    @classmethod
    def of(cls, specification: SpecificationData) -> Places:
        """Return those of a specification."""
        nets = specification.nets()
        return cls(specification, nets, {name: {each.id: each for each in net.tasks} for name, net in nets.items()})

    def net_at(self, path: str) -> str:
        """Return the name of the net that runs at a path; raises ValueError."""
        name = ROOT
        for segment in path.split("/") if path else ():
            task = self.tasks[name].get(without_instance(segment))
            if task is None or task.subnet is None or task.subnet not in self.nets:
                raise ValueError(f"{path!r} is no net of the specification {self.specification.id!r}")
            name = task.subnet
        return name

    def element_at(self, path: str) -> tuple[str, str]:
        """Return the net, and the rest of a path in it (a task, a condition or a flow); raises ValueError."""
        # A flow may name a condition with a slash in it in no well-formed specification, so the last slash parts.
        net, _, element = path.rpartition("/")
        return self.net_at(net), without_instance(element)

    def task_at(self, path: str) -> tuple[str, Task]:
        """Return the net and the task of a path; raises ValueError."""
        net, name = self.element_at(path)
        task = self.tasks[net].get(name)
        if task is None:
            raise ValueError(f"{path!r} is no task of the specification {self.specification.id!r}")
        return net, task
