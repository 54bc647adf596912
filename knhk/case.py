"""One running case: a command in, records out; no clock, no store, no ids of its own.

`Case` decides (which outputs a split chooses, how many instances start, which timer is due) and writes each decision down as
a record; `knhk._case_state` applies records and decides nothing, so a replay needs neither predicates nor user code.
After every command the case is driven until it waits: what follows by itself (routing, composite tasks, handlers' starts,
timers that are due) belongs to the command.

A command that is refused raises, and nothing has happened: what it had already written is undone by rebuilding the state
from its last snapshot and the records since.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from knhk._case_state import Activity, CaseState, Code, End, NetInstance, Phase, Record
from knhk._kernel import Net
from knhk._lower import Kind, Program, TaskPlan
from knhk._tables import XOR
from knhk.errors import DataError, IllegalTransition, InternalError, JournalError, LimitExceeded, UnknownWorkItem
from knhk.expr import Expression
from knhk.spec import Creation, Remaining, TriggerMode
from knhk.workitem import TRANSITIONS, ItemEntry, ItemState, allowed

Check = Callable[[dict[str, Any]], None]


@attrs.frozen(kw_only=True)
class Limits:
    """
    What one case may do; beyond it a command is refused with `LimitExceeded` and nothing has happened.

    Args:
        steps: tasks that start by themselves within one command.
        instances: instances of one activation of a multiple-instance task.
        depth: composite tasks inside one another.
        or_join_budget: work units of an OR-join's exact search; beyond it the join waits and the case shows a problem.
            None: the kernel's own (`knhk._orjoin.DEFAULT_BUDGET`).
    """

    steps: int = 1_000_000
    instances: int = 100_000
    depth: int = 1_000
    or_join_budget: int | None = None


class Case:
    """
    A case of one specification.

    Every command takes ``at``, the time in milliseconds since the epoch, which never comes from a clock in here.

    Attributes:
        state: what the records have made of it; read it, never change it.
    """

    def __init__(self, program: Program, kernels: Sequence[Net], *, limits: Limits | None = None) -> None:
        self._program = program
        self._kernels = kernels
        self._limits = limits if limits is not None else Limits()
        self.state = CaseState(program, kernels)
        self._base: dict[str, Any] | None = None
        self._log: list[Record] = []
        self._taken = 0
        self._now = 0
        self._steps = 0
        self._visited: dict[int, None] = {}

    # --- journal ------------------------------------------------------------------------------------------------------

    def take_records(self) -> list[Record]:
        """Return the records written since the last call: the caller persists them before it acknowledges anything."""
        fresh = self._log[self._taken :]
        self._taken = len(self._log)
        return fresh

    def snapshot(self) -> dict[str, Any]:
        """Return the state as a JSON tree; from here on a rebuild starts at it."""
        tree = self.state.dump()
        if self._taken == len(self._log):
            self._base = tree
            self._log.clear()
            self._taken = 0
        return tree

    def replay(self, snapshot: dict[str, Any] | None, records: Sequence[Record]) -> None:
        """Become the case that this history made; raises JournalError where the history contradicts itself."""
        self._base = snapshot
        self._log = list(records)
        self._taken = len(self._log)
        self._rebuild()

    def _rebuild(self) -> None:
        self.state = CaseState(self._program, self._kernels)
        if self._base is not None:
            self.state.load(self._base)
        try:
            for record in self._log:
                self.state.apply(record)
        except InternalError as error:
            message = f"the history contradicts itself: {error}"
            raise JournalError(message) from error
        for net in self.state.nets.values():
            net.marking.settle()
            net.marking.flips.clear()
        self.state.touched.clear()
        self.state.moved.clear()
        self._visited.clear()

    def _record(self, *record: Any) -> None:
        self.state.apply(record)
        self._log.append(record)

    def _command(self, at: int, *states: Phase) -> _Undo:
        if self.state.phase not in states:
            names = " or ".join(state.value for state in states)
            message = f"the case is {self.state.phase.value}; this needs it to be {names}"
            raise IllegalTransition(message, status=self.state.phase.value, command="", allowed=())
        self._now = at
        self._steps = 0
        return _Undo(self)

    # --- commands on the case -----------------------------------------------------------------------------------------

    def create(self, data: Mapping[str, Any]) -> None:
        """Give the case its first data; the first command of all."""
        if self._log or self._base is not None:
            raise InternalError("a case is created once")
        self._record(Code.CREATED, dict(data))

    def start(self, *, at: int) -> None:
        """Put the first token into the root net."""
        with self._command(at, Phase.CREATED):
            self._record(Code.STARTED)
            self._drive()

    def cancel(self, *, at: int) -> None:
        """Remove everything and end the case as cancelled (pattern 20); not possible once it has completed."""
        with self._command(at, Phase.CREATED, Phase.RUNNING, Phase.SUSPENDED, Phase.FAILED, Phase.DEADLOCKED):
            self._record(Code.PHASE, Phase.CANCELLED.value)

    def suspend(self, *, at: int) -> None:
        """Refuse everything but `resume` and `cancel` until further notice; timers wait."""
        with self._command(at, Phase.RUNNING):
            self._record(Code.PHASE, Phase.SUSPENDED.value)

    def resume(self, *, at: int) -> None:
        """Go on after `suspend`."""
        with self._command(at, Phase.SUSPENDED):
            self._record(Code.PHASE, Phase.RUNNING.value)
            self._drive()

    def send_event(self, name: str, data: Mapping[str, Any] | None = None, *, at: int) -> int:
        """
        Deliver an event to every running net that listens (rule 7).

        Returns:
            How many nets kept it: 0 for a transient one that nobody waits for.
        """
        with self._command(at, Phase.RUNNING, Phase.FAILED, Phase.DEADLOCKED):
            kept = [net for net in self.state.nets.values() if self._keeps(net, name)]
            if kept and data:
                self._record(Code.DATA, dict(data))
            for net in kept:
                task = net.plan.listeners[name]
                self._record(Code.TRIGGER_HELD, net.number, task, net.triggers.get(task, 0) + 1)
            self._drive()
            return len(kept)

    def advance(self, *, at: int) -> int:
        """
        Run the tasks whose timer is due, in deadline order, each at its own time.

        Returns:
            How many timers ran.
        """
        ran = 0
        while self.state.phase is Phase.RUNNING:
            due = self.next_due()
            if due is None or due[0] > at:
                break
            with self._command(due[0], Phase.RUNNING):
                self._begin(self.state.nets[due[1]], due[2], "")
                self._drive()
            ran += 1
        return ran

    # --- commands on tasks --------------------------------------------------------------------------------------------

    def start_task(self, path: str, *, at: int, by: str = "") -> None:
        """Start an offered task; a multiple-instance task starts all its instances (rules 1 and 6)."""
        with self._command(at, Phase.RUNNING):
            net, task, k = self._locate(path)
            self._check_offered(net, task, k, path, "start")
            self._begin(net, task, by)
            self._drive()

    def complete_task(self, path: str, output: Mapping[str, Any] | None = None, *, at: int, by: str = "") -> None:
        """Complete a started task or instance; an offered one is started first. `output` joins the case's data."""
        with self._command(at, Phase.RUNNING, Phase.FAILED):
            net, task, k = self._locate(path)
            self._complete(net, task, k, None if output is None else dict(output), by)

    def start_item(self, number: int, *, at: int, by: str = "") -> None:
        """Start an offered or allocated work item, by its number."""
        with self._command(at, Phase.RUNNING):
            item = self.item(number)
            if (item.state, "start") not in TRANSITIONS:
                raise _illegal(self.path(item), item, "start")
            self._begin(self.state.nets[item.net], item.task, by)
            self._drive()

    def complete_item(self, number: int, output: Mapping[str, Any] | None = None, *, at: int, by: str = "") -> None:
        """Complete a work item, by its number; an offered one is started first."""
        with self._command(at, Phase.RUNNING, Phase.FAILED):
            item = self.item(number)
            net = self.state.nets[item.net]
            self._complete(net, item.task, item.instance, None if output is None else dict(output), by)

    def _complete(self, net: NetInstance, task: int, k: int, output: dict[str, Any] | None, by: str) -> None:
        path = net.path(task, k)
        activity = net.activities.get(task)
        if k == 0 and net.is_offerable(task) and net.plan.plans[task].task.multiple is None:
            self._check_offered(net, task, k, path, "complete")
            self._begin(net, task, by)
            self._drive()
            activity = net.activities.get(task)
        if activity is None or k not in activity.open or net.plan.plans[task].kind is Kind.SUBNET:
            raise self._refusal(path, "complete", "it is not started")
        item = self.state.items[activity.open[k]]
        if (item.state, "complete") not in TRANSITIONS:
            raise _illegal(path, item, "complete")
        self._finish(net, task, k, output)
        self._drive()

    def cancel_task(self, path: str, *, at: int) -> None:
        """Abort a running task, or withdraw an enabled or waiting one: its thread of control is gone (pattern 19)."""
        with self._command(at, Phase.RUNNING, Phase.FAILED):
            net, task, k = self._locate(path)
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
            self._within(activity.created + 1, path)
            wrapped = None if plan.for_each is None else [element]
            self._record(Code.INSTANCE_ADDED, net.number, task, wrapped, by)
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
            chosen = self._choose(net, task, self.state.data)
            self._record(Code.FORCED, net.number, task, chosen)
            self._drive()

    def change_item(self, number: int, command: str, *, at: int, by: str | None = None) -> None:
        """Allocate, offer, suspend, resume, fail or retry a work item, as `knhk.workitem.TRANSITIONS` allows."""
        with self._command(at, Phase.RUNNING, Phase.FAILED):
            item = self.item(number)
            state = TRANSITIONS.get((item.state, command))
            if state is None or command in ("start", "complete"):
                raise _illegal(self.path(item), item, command)
            self._record(Code.ITEM, number, state.value, item.by if by is None else by, item.attempt)
            if command == "retry" and self.state.phase is Phase.FAILED:
                self._record(Code.PHASE, Phase.RUNNING.value)
            self._drive()

    def begin_attempt(self, number: int, *, at: int) -> int:
        """Note that the handler of a started item is about to run; returns which attempt this is, from 1."""
        with self._command(at, Phase.RUNNING):
            item = self.item(number)
            self._record(Code.ITEM, number, item.state.value, item.by, item.attempt + 1)
            return item.attempt

    # --- looking ------------------------------------------------------------------------------------------------------

    def enabled(self) -> list[str]:
        """Return the paths of the tasks that are offered for starting, sorted."""
        items = self.state.items.values()
        return sorted(self.path(i) for i in items if i.state in (ItemState.OFFERED, ItemState.ALLOCATED))

    def running(self) -> list[str]:
        """Return the paths of the started atomic tasks and instances, sorted."""
        items = self.state.items.values()
        return sorted(self.path(i) for i in items if i.state in (ItemState.STARTED, ItemState.SUSPENDED))

    def item(self, number: int) -> ItemEntry:
        """Return an open work item; raises UnknownWorkItem."""
        item = self.state.items.get(number)
        if item is None:
            message = f"the case has no open work item {number}"
            raise UnknownWorkItem(message)
        return item

    def marking(self) -> dict[str, dict[str, int]]:
        """Return the tokens of each running net: by path of the net (the root's is ``""``), by condition that holds any."""
        return {
            "" if net.parent is None else net.parent.path(net.task, net.instance): {
                name: count for name, count in zip(net.plan.tables.conditions, net.marking.tokens, strict=True) if count
            }
            for net in self.state.nets.values()
        }

    def path(self, item: ItemEntry) -> str:
        """Return the item's path from the root net."""
        return self.state.nets[item.net].path(item.task, item.instance)

    def plan(self, item: ItemEntry) -> TaskPlan:
        """Return the plan of the item's task."""
        return self.state.nets[item.net].plan.plans[item.task]

    def automatic_work(self) -> list[ItemEntry]:
        """Return the started items that wait for their handler, by number."""
        return [self.state.items[number] for number in self.state.work]

    def next_due(self) -> tuple[int, int, int] | None:
        """Return the earliest timer whose task could run as (time, net, task), or None."""
        due = [
            (at, net.number, task)
            for net in self.state.nets.values()
            for task, at in net.timers.items()
            if net.marking.is_ready(task)
        ]
        return min(due, default=None)

    def problems(self) -> list[str]:
        """Return what needs a person's eye: OR-joins whose search met its budget and which therefore wait."""
        return [
            f"{net.path(task)}: the OR-join cannot be decided within its budget; it waits"
            for net in self.state.nets.values()
            for task in sorted(net.marking.undecided)
        ]

    # --- deciding -----------------------------------------------------------------------------------------------------

    def _begin(self, net: NetInstance, task: int, by: str) -> None:
        """Start a ready task: decide its instances, and its split where control passes at once."""
        plan = net.plan.plans[task]
        multiple = plan.task.multiple
        count, elements = 0, None
        if multiple is not None:
            count, elements = self._count(net, task, plan)
        detached = multiple is not None and multiple.detached
        if plan.kind is Kind.ROUTING or (multiple is not None and count == 0):
            self._record(Code.FIRED, net.number, task, self._choose(net, task, self.state.data))
            return
        if plan.kind is Kind.SUBNET:
            self._check_depth(net, task)
        chosen = self._choose(net, task, self.state.data) if detached else None
        self._record(Code.BEGUN, net.number, task, count, elements, by, chosen)

    def _finish(self, net: NetInstance, task: int, k: int, output: dict[str, Any] | None) -> None:
        """End one instance: decide whether the task passes control, and its split if so (rules 3 and 6)."""
        activity = net.activities[task]
        data = {**self.state.data, **output} if output else self.state.data
        end = self._end(net, task, activity, data)
        chosen = self._choose(net, task, data) if end in (End.COMPLETES, End.PASSES_ON) else None
        self._record(Code.FINISHED, net.number, task, k, output, int(end), chosen)

    def _end(self, net: NetInstance, task: int, activity: Activity, data: dict[str, Any]) -> End:
        plan = net.plan.plans[task]
        multiple = plan.task.multiple
        if multiple is None:
            return End.COMPLETES
        if multiple.detached:
            return End.DETACHED
        remaining = len(activity.open) - 1
        if activity.passed:
            return End.NOTHING if remaining else End.RELEASES
        completed = activity.completed + 1
        enough = multiple.threshold is not None and completed >= multiple.threshold
        if remaining and plan.until is not None and not enough:
            variables = {"data": data, "completed": completed, "created": activity.created}
            enough = plan.until.test(variables, element=net.path(task))
        if remaining and not enough:
            return End.NOTHING
        continues = remaining and multiple.remaining is Remaining.CONTINUE
        return End.PASSES_ON if continues else End.COMPLETES

    def _choose(self, net: NetInstance, task: int, data: dict[str, Any]) -> tuple[int, ...]:
        """Decide which outputs get a token: predicates in flow order, the default if none holds (rule 3)."""
        plan = net.plan.plans[task]
        if not plan.branches:
            return plan.every_output
        only_first = net.plan.tables.table[task].split == XOR
        chosen: list[int] = []
        for branch in plan.branches:
            if branch.predicate is None:
                if not chosen:
                    chosen.append(branch.position)
            elif branch.predicate.test({"data": data}, element=branch.label):
                chosen.append(branch.position)
            if chosen and only_first:
                break
        if not chosen:
            message = "no predicate of the split holds and it has no default: nothing has happened"
            raise DataError(message, element=net.path(task), value=None)
        return tuple(chosen)

    def _count(self, net: NetInstance, task: int, plan: TaskPlan) -> tuple[int, list[Any] | None]:
        """Decide how many instances start, and their elements; refused outside the stated bounds (rule 6)."""
        path = net.path(task)
        elements: list[Any] | None = None
        value: object = plan.count
        source: Expression | None = plan.count if isinstance(plan.count, Expression) else plan.for_each
        if source is not None:
            value = source.evaluate({"data": self.state.data}, path)
        if plan.for_each is not None:
            if not isinstance(value, list):
                raise DataError("is no list", expression=plan.for_each.text, element=path, value=value)
            elements = value
            value = len(value)
        text = "" if source is None else source.text
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise DataError("is no number of instances", expression=text, element=path, value=value)
        multiple = plan.task.multiple
        low = 0 if multiple is None or multiple.minimum is None else multiple.minimum
        high = None if multiple is None else multiple.maximum
        if value < low or (high is not None and value > high):
            bounds = f"{low} to {'any' if high is None else high}"
            raise DataError(
                f"gives {value} instances; allowed are {bounds}", expression=text, element=path, value=value
            )
        self._within(value, path)
        return value, elements

    def _within(self, count: int, path: str) -> None:
        if count > self._limits.instances:
            message = f"{path}: {count} instances are more than one task may have"
            raise LimitExceeded(message, limit="instances", maximum=self._limits.instances)

    def _check_depth(self, net: NetInstance, task: int) -> None:
        depth = 1
        above = net.parent
        while above is not None:
            depth += 1
            above = above.parent
        if depth > self._limits.depth:
            message = f"{net.plan.tables.tasks[task]}: composite tasks are {depth} deep"
            raise LimitExceeded(message, limit="depth", maximum=self._limits.depth)

    def _keeps(self, net: NetInstance, name: str) -> bool:
        task = net.plan.listeners.get(name)
        if task is None:
            return False
        trigger = net.plan.plans[task].task.trigger
        if trigger is None or trigger.mode is TriggerMode.PERSISTENT:
            return True
        return net.marking.threads(task) > net.triggers.get(task, 0)

    # --- driving ------------------------------------------------------------------------------------------------------

    def _drive(self) -> None:
        """Let everything happen that happens by itself, until the case waits or ends."""
        agenda: deque[tuple[int, int]] = deque()
        while self.state.phase is Phase.RUNNING or self.state.phase in (Phase.FAILED, Phase.DEADLOCKED):
            self._absorb(agenda)
            if self._start_next(agenda):
                continue
            if not self._settle():
                break
        self._reconcile()
        self._conclude()

    def _start_next(self, agenda: deque[tuple[int, int]]) -> bool:
        while agenda:
            number, task = agenda.popleft()
            net = self.state.nets.get(number)
            if net is None or not net.is_offerable(task):
                continue
            self._steps += 1
            if self._steps > self._limits.steps:
                message = f"{net.path(task)}: the case goes on by itself for too many steps"
                raise LimitExceeded(message, limit="steps", maximum=self._limits.steps)
            self._begin(net, task, "")
            if net.plan.tables.table[task].detached:
                # It stays ready without a flip that would bring it back here, as long as it has tokens.
                agenda.append((number, task))
            return True
        return False

    def _absorb(self, agenda: deque[tuple[int, int]]) -> None:
        """Look at what the last record changed: timers, triggers, tasks that start by themselves, nets that ended."""
        touched = self.state.touched
        while touched:
            number = next(iter(touched))
            del touched[number]
            self._visited[number] = None
            net = self.state.nets[number]
            self._absorb_flips(net, agenda)
            if not net.plan.tables.implicit and (net.marking.has_ended() or net.plan.empty):
                self._end_net(net)

    def _absorb_flips(self, net: NetInstance, agenda: deque[tuple[int, int]]) -> None:
        plans = net.plan.plans
        for flip in net.marking.flips:
            task = flip if flip >= 0 else ~flip
            plan = plans[task]
            if flip < 0:
                if task in net.timers:
                    self._record(Code.TIMER_CLEARED, net.number, task)
            elif plan.automatic:
                agenda.append((net.number, task))
        net.marking.flips.clear()
        for task in net.plan.timed:
            self._keep_time(net, task, agenda)
        for task in net.plan.triggered:
            held = net.triggers.get(task, 0)
            trigger = plans[task].task.trigger
            if held and trigger is not None and trigger.mode is TriggerMode.TRANSIENT:
                threads = net.marking.threads(task)
                if held > threads:
                    self._record(Code.TRIGGER_HELD, net.number, task, threads)
            if plans[task].automatic and net.is_offerable(task):
                agenda.append((net.number, task))

    def _keep_time(self, net: NetInstance, task: int, agenda: deque[tuple[int, int]]) -> None:
        """
        Set a timer when the task's join is satisfied, clear it when that ceases to be so.

        The clock of the next thread runs while the task is busy with the one before; if it is due when that one is through,
        the task starts at once.
        """
        waits = net.marking.threads(task) > 0
        due = net.timers.get(task)
        if not waits and due is not None:
            self._record(Code.TIMER_CLEARED, net.number, task)
        elif waits and due is None:
            self._record(Code.TIMER_SET, net.number, task, self._now + (net.plan.plans[task].task.timer or 0))
        elif due is not None and due <= self._now and net.marking.is_ready(task):
            agenda.append((net.number, task))

    def _settle(self) -> bool:
        """Decide the OR-joins and the implicit ends of the nets that changed; returns whether anything came of it."""
        news = False
        for number in list(self._visited):
            net = self.state.nets.get(number)
            if net is None:
                continue
            net.marking.settle()
            if net.marking.flips:
                self.state.touched[number] = None
                news = True
            elif self._ends_implicitly(net):
                self._end_net(net)
                news = True
        return news

    def _ends_implicitly(self, net: NetInstance) -> bool:
        """Whether no work is left in a net with implicit termination, detached instances included."""
        if not net.plan.tables.implicit or any(activity.open for activity in net.activities.values()):
            return False
        return net.plan.empty or net.marking.has_ended()

    def _end_net(self, net: NetInstance) -> None:
        """The net has ended: the case completes, or the composite task (instance) it stands for (rule 8)."""
        if net.parent is None:
            self._record(Code.PHASE, Phase.COMPLETED.value)
        else:
            self._finish(net.parent, net.task, net.instance, None)

    def _reconcile(self) -> None:
        """Make the worklist what the nets that changed offer now."""
        for number in self._visited:
            net = self.state.nets.get(number)
            if net is None:
                continue
            for task in [task for task in net.offers if not net.is_offerable(task)]:
                self._record(Code.OFFER_WITHDRAWN, number, task)
            for task in net.marking.ready():
                plan = net.plan.plans[task]
                if plan.automatic or plan.task.timer is not None or task in net.offers or not net.is_offerable(task):
                    continue
                self._record(Code.OFFERED, number, task)
        self._visited.clear()

    def _conclude(self) -> None:
        """Say so when nothing can happen any more by itself or from outside (rule 9)."""
        state = self.state
        if state.phase not in (Phase.RUNNING, Phase.FAILED, Phase.DEADLOCKED):
            return
        phase = Phase.RUNNING
        if all(item.state is ItemState.FAILED for item in state.items.values()) and not self._waits():
            phase = Phase.FAILED if state.items else Phase.DEADLOCKED
        if phase is not state.phase:
            self._record(Code.PHASE, phase.value)

    def _waits(self) -> bool:
        for net in self.state.nets.values():
            if net.timers or net.marking.undecided:
                return True
            if any(net.marking.is_ready(task) for task in net.plan.triggered):
                return True
        return False

    # --- finding ------------------------------------------------------------------------------------------------------

    def _locate(self, path: str) -> tuple[NetInstance, int, int]:
        """Find the net, the task and the instance (0: none named) that a path names."""
        net: NetInstance | None = next(iter(self.state.nets.values()), None)
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
            net = self.state.nets.get(activity.open.get(k, -1))
        message = f"the case has no task {path!r} now"
        raise UnknownWorkItem(message)

    def _multiple(self, path: str, command: str) -> tuple[NetInstance, int, Activity]:
        net, task, k = self._locate(path)
        plan = net.plan.plans[task]
        activity = net.activities.get(task)
        if plan.task.multiple is None or plan.task.multiple.detached or k:
            raise self._refusal(path, command, "it is no synchronised multiple-instance task")
        if activity is None or activity.passed:
            raise self._refusal(path, command, "it is not running or has passed control")
        return net, task, activity

    def _check_offered(self, net: NetInstance, task: int, k: int, path: str, command: str) -> None:
        if k or task not in net.offers:
            raise self._refusal(path, command, "it is not offered")

    def _refusal(self, path: str, command: str, why: str) -> IllegalTransition:
        now = ", ".join(self.enabled()) or "none"
        message = f"cannot {command} {path}: {why}; offered now: {now}"
        return IllegalTransition(message, status=self.state.phase.value, command=command, allowed=())


class _Undo:
    """What makes a command all or nothing: when it raises, the case is rebuilt as it was before."""

    __slots__ = ("_case", "_length", "_moved")

    def __init__(self, case: Case) -> None:
        self._case = case
        self._length = len(case._log)
        self._moved = set(case.state.moved)

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        case = self._case
        if kind is not None and len(case._log) > self._length:
            del case._log[self._length :]
            case._rebuild()
            case.state.moved = self._moved


def _illegal(name: str, item: ItemEntry, command: str) -> IllegalTransition:
    options = allowed(item.state)
    message = f"cannot {command} work item {name}: it is {item.state.value}; allowed: {', '.join(options) or 'nothing'}"
    return IllegalTransition(message, status=item.state.value, command=command, allowed=options)
