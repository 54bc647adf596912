"""One running case: a command in, records out; no clock, no store, no ids of its own.

`Case` decides (which outputs a split chooses, how many instances start, which timer is due) and writes each decision down as
a record; `knhk._case_state` applies records and decides nothing, so a replay needs neither predicates nor user code.
After every command the case is driven until it waits: what follows by itself (routing, composite tasks, handlers' starts,
timers that are due) belongs to the command.

A command that is refused raises, and nothing has happened: what it had already written is undone by rebuilding the state
from its last snapshot and the records since.

The commands on the case and its tasks are here, those on work items in `knhk._item_life` and `knhk._people_life`, and what
follows by itself in `knhk._course`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from knhk._calling import Calling
from knhk._codes import Code, Phase
from knhk._course import LIVE, Undo
from knhk._decisions import choose
from knhk._migration import Moved
from knhk._net_instance import Activity, NetInstance
from knhk._people_rules import check_separate
from knhk._questions import given_back, keeps_event, locate
from knhk.errors import InternalError
from knhk.spec import Creation

_WITH_WORK: Final = (Phase.RUNNING, Phase.FAILED)
"""The phases in which work can be completed."""


class Case(Calling):
    """
    A case of one specification.

    Every command takes ``at``, the time in milliseconds since the epoch, which never comes from a clock in here.

    Args:
        program, kernels: the specification, compiled.
        limits: what the case may do.
        check: looks at case data as it would become, and raises DataError where that must not be; None allows all.
        retry: what follows when a handler raises whose task says nothing of it.

    Attributes:
        state: what the records have made of it; read it, never change it.
        compensates: what the last `cancel` said of undoing, for the worklets that it cancels.
        unchosen: what nobody was told yet: work that failed for good because no worklet could be called for it.
    """

    __slots__ = ()

    # --- commands on the case -----------------------------------------------------------------------------------------

    def create(self, data: Mapping[str, Any]) -> None:
        """Give the case its first data; the first command of all. Raises DataError where the schema refuses it."""
        if self._log or self._base is not None:
            raise InternalError("a case is created once")
        first = dict(data)
        if self._check is not None:
            self._check(first)
        self._record(Code.CREATED, first)

    def stand_in(self, case_id: str, item: int, depth: int, *, at: int) -> None:
        """Say in whose place the case runs as a worklet, and how deep that is: behind `create`."""
        with self._command(at, Phase.CREATED):
            self._record(Code.STANDS_IN, case_id, item, depth)

    def start(self, *, at: int) -> None:
        """Put the first token into the root net."""
        with self._command(at, Phase.CREATED):
            self._record(Code.STARTED)
            self._drive()

    def go_on(self, ready: Sequence[tuple[int, int]], *, at: int) -> None:
        """Let happen what happens by itself, beginning with these (net, task), after an express (`knhk._express`)."""
        with self._command(at, Phase.RUNNING):
            self._drive(ready)

    def migrate(self, moved: Moved, *, source: str, target: str, at: int) -> None:
        """
        Become a case of another version of the specification, whose program this new case has; its first command.

        Args:
            moved: the state, without problems.
            source, target: the versions that the case had and gets.
            at: now.

        Raises:
            DataError: the schema of the new version refuses the case's data.
        """
        if self._log or self._base is not None or moved.problems:
            raise InternalError("only a whole state moves, and into a case that has none")
        if self._check is not None:
            self._check(moved.tree["data"])
        with Undo(self):
            self._now, self._steps = at, 0
            self._record(Code.MIGRATED, source, target, moved.tree, list(moved.dropped))
            if self.state.phase in LIVE:
                self._drive(self._ready_by_itself())

    def cancel(self, *, at: int, compensate: bool = True) -> None:
        """
        Remove everything and end the case as cancelled (pattern 20); not possible once it has completed.

        Args:
            at: now.
            compensate: whether what has completed is undone first, where its task says how: until then the case is compensating.
        """
        anywhere = (Phase.CREATED, Phase.RUNNING, Phase.SUSPENDED, Phase.FAILED, Phase.DEADLOCKED, Phase.COMPENSATING)
        with self._command(at, *anywhere):
            self.compensates = compensate
            undoing = self.state.undoing
            if compensate and undoing is not None and undoing.then is None:
                return
            if compensate and (undoing is not None or self.state.memory.entries):
                self._record(Code.UNDOING, None)
                self._keep_undoing()
            else:
                self._record(Code.PHASE, Phase.CANCELLED.value)

    def suspend(self, *, at: int) -> None:
        """Refuse everything but `resume` and `cancel` until further notice; timers wait."""
        with self._command(at, Phase.RUNNING):
            self._record(Code.PHASE, Phase.SUSPENDED.value)

    def resume(self, *, at: int) -> None:
        """Go on after `suspend`."""
        with self._command(at, Phase.SUSPENDED):
            self._record(Code.PHASE, Phase.RUNNING.value)
            # Only a migration meanwhile can have made any ready.
            self._drive(self._ready_by_itself())

    def send_event(self, name: str, data: Mapping[str, Any] | None = None, *, at: int, correlated: bool = False) -> int:
        """
        Deliver an event to every running net that listens (rule 7).

        Args:
            name, data: the event.
            at: now.
            correlated: whether it is only for nets whose trigger's `correlate` holds.

        Returns:
            How many nets kept it: 0 for a transient one that nobody waits for.
        """
        with self._command(at, Phase.RUNNING, Phase.FAILED, Phase.DEADLOCKED):
            variables = {"data": self.state.data, "event": dict(data or {})} if correlated else None
            kept = [net for net in self.state.nets.values() if keeps_event(net, name, variables)]
            if kept and data:
                self._merged(dict(data))
                self._record(Code.DATA, dict(data))
            for net in kept:
                task = net.plan.listeners[name]
                self._record(Code.TRIGGER_HELD, net.number, task, net.triggers.get(task, 0) + 1)
            self._drive()
            return len(kept)

    # --- commands on tasks --------------------------------------------------------------------------------------------

    def start_task(self, path: str, *, at: int, by: str = "") -> None:
        """Start an offered task; a multiple-instance task starts all its instances (rules 1 and 6)."""
        with self._command(at, Phase.RUNNING):
            net, task, k = locate(self.state, path)
            again = given_back(self.state, net, task, k)
            if again is None:
                self._check_offered(net, task, k, "start")
                offered = self.state.items[net.offers[task]]
                check_separate(self.state, offered, by or offered.by, "start")
                self._start_offered(net, task, by or offered.by)
            else:
                check_separate(self.state, again, by or again.by, "start")
                self._start_again(again, by or again.by)
                self._drive()

    def complete_task(self, path: str, output: Mapping[str, Any] | None = None, *, at: int, by: str = "") -> None:
        """Complete a started task or instance; an offered one is started first. `output` joins the case's data."""
        with self._command(at, *_WITH_WORK):
            net, task, k = locate(self.state, path)
            self._complete(net, task, k, None if output is None else dict(output), by)

    def cancel_task(self, path: str, *, at: int) -> None:
        """Abort a running task, or withdraw an enabled or waiting one: its thread of control is gone (pattern 19)."""
        with self._command(at, Phase.RUNNING, Phase.FAILED):
            net, task, k = locate(self.state, path)
            activity = net.activities.get(task)
            if k:
                raise self._refusal(path, "cancel", "a single instance cannot be cancelled, only its task")
            if activity is not None and activity.open:
                self._record(Code.ABORTED, net.number, task)
            elif net.marking.is_ready(task):
                self._record(Code.WITHDRAWN, net.number, task)
            else:
                raise self._refusal(path, "cancel", "it is neither enabled nor running")
            self._drive()

    def add_instance(self, path: str, element: Any = None, *, at: int, by: str = "") -> None:
        """Start one more instance of a running dynamic multiple-instance task (pattern 15)."""
        with self._command(at, Phase.RUNNING):
            net, task, activity = self._multiple(path, "add an instance to")
            plan = net.plan.plans[task]
            multiple = plan.task.multiple
            if multiple is None or multiple.creation is not Creation.DYNAMIC or activity.closed:
                raise self._refusal(path, "add an instance to", "its creation is static or closed")
            if multiple.maximum is not None and activity.created >= multiple.maximum:
                raise self._refusal(path, "add an instance to", f"it has had its maximum of {multiple.maximum}")
            self._check_instances(activity.created + 1, path)
            wrapped = None if plan.for_each is None else [element]
            self._record(Code.INSTANCE_ADDED, net.number, task, wrapped, by)
            self._claim(net, task)
            if plan.shared_out:
                self._share_out(net, task)
            self._drive()

    def close_instances(self, path: str, *, at: int) -> None:
        """Allow no further instances of a running dynamic multiple-instance task."""
        with self._command(at, Phase.RUNNING):
            net, task, _ = self._multiple(path, "close")
            multiple = net.plan.plans[task].task.multiple
            if multiple is None or multiple.creation is not Creation.DYNAMIC:
                raise self._refusal(path, "close", "its creation is static")
            self._record(Code.INSTANCES_CLOSED, net.number, task)
            self._drive()

    def complete_instances(self, path: str, *, at: int) -> None:
        """Force a multiple-instance task to complete: open instances are withdrawn, control passes (pattern 27)."""
        with self._command(at, Phase.RUNNING, Phase.FAILED):
            net, task, _ = self._multiple(path, "force")
            chosen = choose(net, task, self.state.data)
            self._record(Code.FORCED, net.number, task, chosen)
            self._drive()

    # --- inside -------------------------------------------------------------------------------------------------------

    def _multiple(self, path: str, command: str) -> tuple[NetInstance, int, Activity]:
        net, task, k = locate(self.state, path)
        plan = net.plan.plans[task]
        activity = net.activities.get(task)
        if plan.task.multiple is None or plan.task.multiple.detached or k:
            raise self._refusal(path, command, "it is no synchronised multiple-instance task")
        if activity is None or activity.passed:
            raise self._refusal(path, command, "it is not running or has passed control")
        return net, task, activity
