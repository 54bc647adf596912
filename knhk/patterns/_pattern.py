"""`Pattern`: one entry of the catalogue, with its net and the story that runs it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cached_property
from types import MappingProxyType
from typing import Any

import attrs

from knhk.engine import Engine
from knhk.errors import CommandError, DataError
from knhk.events import EventKind
from knhk.patterns._notation import Document
from knhk.patterns._scene import Outputs, Scene, StoryClock
from knhk.patterns._variables import Variable, settle
from knhk.running import RunningCase
from knhk.spec import Net, Specification, Task

_COMPLETIONS = frozenset({EventKind.TASK_FIRED, EventKind.TASK_COMPLETED, EventKind.INSTANCE_COMPLETED})


@attrs.frozen(kw_only=True)
class Run:
    """
    What one execution of a pattern gave.

    Args:
        outcome: ``completed``, ``cancelled``, ``deadlocked``, or ``running`` for a case that still waits.
        trace: the paths of the tasks and instances in the order in which they completed; composite tasks are not
            named, their contents are (``archive/open_folder``).
        variables: the case's data at the end.
        case_id: the case, for whoever gave an engine.
    """

    outcome: str
    trace: tuple[str, ...]
    variables: dict[str, Any]
    case_id: str


def _finish(scene: Scene) -> None:
    scene.finish()


@attrs.frozen(kw_only=True, eq=False)
class Pattern:
    """
    A workflow control-flow pattern.

    Attributes:
        number: 1 to 43, as the revised catalogue counts.
        name, other_names: what it is called, there and elsewhere.
        category: the part of the catalogue in which it stands.
        description: what it says.
        story: the example that its net tells.
    """

    number: int
    name: str
    category: str
    description: str = attrs.field(repr=False)
    story: str = attrs.field(repr=False)
    other_names: tuple[str, ...] = attrs.field(default=(), repr=False)
    _net: Document = attrs.field(alias="net", repr=False)
    _listens: Mapping[str, Variable] = attrs.field(alias="listens", factory=dict, repr=False)
    _counted: Mapping[str, Any] = attrs.field(alias="counted", factory=dict, repr=False)
    _outputs: Outputs = attrs.field(alias="outputs", factory=dict, repr=False)
    _script: Callable[[Scene], None] = attrs.field(alias="script", default=_finish, repr=False)

    @property
    def slug(self) -> str:
        """The name as it stands in addresses: ``exclusive-choice``."""
        return slug_of(self.name)

    @property
    def variables(self) -> Mapping[str, str]:
        """The variables that a run listens to, each with its meaning and default."""
        return MappingProxyType({name: each.text for name, each in self._listens.items()})

    @property
    def defaults(self) -> dict[str, Any]:
        """The values of the variables that nobody gives; a copy."""
        return settle(self._listens, {}, None)

    @cached_property
    def specification(self) -> Specification:
        """The canonical net as a specification that any engine can register; made when first asked for."""
        identity = {"id": f"knhk-pattern-{self.number:02}", "name": f"{self.name}: {self.story}"}
        return Specification.from_dict({**identity, **self._net})

    @property
    def net(self) -> Net:
        """The root net of the specification."""
        return self.specification.root

    def execute(self, variables: Mapping[str, Any] | None = None, *, engine: Engine | None = None) -> Run:
        """
        Run a case of the canonical net to where its story ends.

        Args:
            variables: the case's first data; `Pattern.variables` says which of them the run listens to.
            engine: where to run it; without one, in memory, and nothing remains.
                The specification is registered there, and the case stays there with its history.

        Returns:
            The outcome, the trace and the data at the end.

        Raises:
            DataError: the variables are not JSON, or a predicate or this run cannot use the value of one.
            StoreError, CommandError: as the engine that was given raises.
        """
        data = settle(self._listens, self._counted, variables)
        if engine is not None:
            return self._run(engine, StoryClock(engine.clock), data)
        clock = StoryClock()
        with Engine("memory:", clock=clock) as own:
            return self._run(own, clock, data)

    def _run(self, engine: Engine, clock: StoryClock, data: dict[str, Any]) -> Run:
        engine.register(self.specification)
        case = engine.create_case(self.specification.id, data, version=self.specification.version)
        try:
            case.start()
            self._script(Scene(case, clock, data, self._outputs))
        except (DataError, CommandError):
            # A story that cannot go on leaves no open work behind in an engine that others use.
            with suppress(CommandError):
                case.cancel()
            raise
        return Run(outcome=case.state, trace=self._trace(case), variables=case.data, case_id=case.id)

    def _trace(self, case: RunningCase) -> tuple[str, ...]:
        completed = (each for each in case.history() if each.kind in _COMPLETIONS)
        return tuple(each.path for each in completed if self._is_work(each.path))

    def _is_work(self, path: str) -> bool:
        """Whether a path names an atomic task or instance, not a composite task or a task without any instance."""
        nets = self.specification.nets()
        net = self.specification.root
        *above, last = path.split("/")
        for each in above:
            net = nets[_task(net, each).subnet or ""]
        task = _task(net, last)
        return task.subnet is None and (task.multiple is None or "#" in last)


def _task(net: Net, segment: str) -> Task:
    """Return the task that one segment of a path names."""
    name = segment.partition("#")[0]
    return next(task for task in net.tasks if task.id == name)


def slug_of(name: str) -> str:
    """Return a name in small letters, with hyphens between its words."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
