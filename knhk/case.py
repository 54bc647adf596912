"""One running case: a command in, records out; no clock, no store, no ids of its own.

`Case` decides (which outputs a split chooses, how many instances start, which timer is due) and writes each decision down as
a record; `knhk._case_state` applies records and decides nothing, so a replay needs neither predicates nor user code.
After every command the case is driven until it waits: what follows by itself (routing, composite tasks, handlers' starts,
timers that are due) belongs to the command.

A command that is refused raises, and nothing has happened: what it had already written is undone by rebuilding the state
from its last snapshot and the records since.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Final

from knhk._case_state import Activity, CaseState, Code, End, NetInstance, Phase, Record
from knhk._decisions import choose, count_instances, end_of_instance
from knhk._kernel import Net
from knhk._lower import Kind, Program, TaskPlan
from knhk._questions import Due, depth_below, ends_implicitly, given_back, keeps_event, locate, next_due, waits
from knhk._schema import Check
from knhk.errors import IllegalTransition, InternalError, JournalError, LimitExceeded, UnknownWorkItem
from knhk.limits import Limits
from knhk.spec import Creation, TriggerMode
from knhk.workitem import TRANSITIONS, ItemEntry, ItemState, allowed, backoff

_LIVE: Final = (Phase.RUNNING, Phase.FAILED, Phase.DEADLOCKED)
"""The phases in which things happen by themselves."""


class Case:
    """
    A case of one specification.

    Every command takes ``at``, the time in milliseconds since the epoch, which never comes from a clock in here.

    Args:
        program, kernels: the specification, compiled.
        limits: what the case may do.
        check: looks at case data as it would become, and raises DataError where that must not be; None allows all.

    Attributes:
        state: what the records have made of it; read it, never change it.
    """

    __slots__ = (
        "_base",
        "_check",
        "_kernels",
        "_limits",
        "_log",
        "_now",
        "_program",
        "_steps",
        "_taken",
        "_visited",
        "state",
    )

    def __init__(
        self, program: Program, kernels: Sequence[Net], *, limits: Limits | None = None, check: Check | None = None
    ) -> None:
        self._check = check
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

    def drop_records(self) -> None:
        """Keep no records of a case that is over: no command follows that could have to be undone."""
        self._log = []
        self._taken = 0

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
            net.marking.changes()
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
        """Give the case its first data; the first command of all. Raises DataError where the schema refuses it."""
        if self._log or self._base is not None:
            raise InternalError("a case is created once")
        first = dict(data)
        if self._check is not None:
            self._check(first)
        self._record(Code.CREATED, first)

    def start(self, *, at: int) -> None:
        """Put the first token into the root net."""
        with self._command(at, Phase.CREATED):
            self._record(Code.STARTED)
            self._drive()

    def go_on(self, ready: Sequence[tuple[int, int]], *, at: int) -> None:
        """Let happen what happens by itself, beginning with these (net, task), after an express (`knhk._express`)."""
        with self._command(at, Phase.RUNNING):
            self._drive(ready)

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
            kept = [net for net in self.state.nets.values() if keeps_event(net, name)]
            if kept and data:
                self._merged(dict(data))
                self._record(Code.DATA, dict(data))
            for net in kept:
                task = net.plan.listeners[name]
                self._record(Code.TRIGGER_HELD, net.number, task, net.triggers.get(task, 0) + 1)
            self._drive()
            return len(kept)

    def advance(self, *, at: int) -> int:
        """
        Do what is due, in deadline order, each at its own time: timers run, failed work gets its next attempt, claims end.

        Returns:
            How many of these there were.
        """
        ran = 0
        while self.state.phase is Phase.RUNNING:
            due = self.next_due()
            if due is None or due.at > at:
                break
            with self._command(due.at, Phase.RUNNING):
                if due.item:
                    self._come_due(self.state.items[due.item])
                else:
                    self._begin(self.state.nets[due.net], due.task, "")
                self._drive()
            ran += 1
        return ran

    def retry_due(self, *, at: int) -> int:
        """Give failed work whose wait is over its next attempt; returns how much there was."""
        with self._command(at, Phase.RUNNING):
            waited = [
                item
                for due, item in sorted((due, number) for number, due in self.state.deadlines.items())
                if due <= at and self.state.items[item].state is ItemState.FAILED
            ]
            for number in waited:
                self._come_due(self.state.items[number])
            if waited:
                self._drive()
            return len(waited)

    # --- commands on tasks --------------------------------------------------------------------------------------------

    def start_task(self, path: str, *, at: int, by: str = "") -> None:
        """Start an offered task; a multiple-instance task starts all its instances (rules 1 and 6)."""
        with self._command(at, Phase.RUNNING):
            net, task, k = locate(self.state, path)
            again = given_back(self.state, net, task, k)
            if again is None:
                self._check_offered(net, task, k, "start")
                self._begin(net, task, by)
            else:
                self._start_again(again, by)
            self._drive()

    def complete_task(self, path: str, output: Mapping[str, Any] | None = None, *, at: int, by: str = "") -> None:
        """Complete a started task or instance; an offered one is started first. `output` joins the case's data."""
        with self._command(at, Phase.RUNNING, Phase.FAILED):
            net, task, k = locate(self.state, path)
            self._complete(net, task, k, None if output is None else dict(output), by)

    def start_item(self, number: int, *, at: int, by: str = "") -> None:
        """Start an offered or allocated work item, by its number."""
        with self._command(at, Phase.RUNNING):
            item = self.item(number)
            if (item.state, "start") not in TRANSITIONS:
                raise _illegal(self.path(item), item, "start")
            net = self.state.nets[item.net]
            if given_back(self.state, net, item.task, item.instance) is item:
                self._start_again(item, by)
            else:
                self._begin(net, item.task, by)
            self._drive()

    def complete_item(self, number: int, output: Mapping[str, Any] | None = None, *, at: int, by: str = "") -> None:
        """Complete a work item, by its number; an offered one is started first."""
        with self._command(at, Phase.RUNNING, Phase.FAILED):
            item = self.item(number)
            net = self.state.nets[item.net]
            self._complete(net, item.task, item.instance, None if output is None else dict(output), by)

    def _complete(self, net: NetInstance, task: int, k: int, output: dict[str, Any] | None, by: str) -> None:
        activity = net.activities.get(task)
        if k == 0 and net.is_offerable(task) and net.plan.plans[task].task.multiple is None:
            self._check_offered(net, task, k, "complete")
            self._begin(net, task, by)
            self._drive()
            activity = net.activities.get(task)
        if activity is None or k not in activity.open or net.plan.plans[task].kind is Kind.SUBNET:
            raise self._refusal(net.path(task, k), "complete", "it is not started")
        item = self.state.items[activity.open[k]]
        if (item.state, "complete") not in TRANSITIONS:
            raise _illegal(net.path(task, k), item, "complete")
        if by and item.by not in ("", by) and net.plan.plans[task].kind is Kind.EXTERNAL:
            # The claim of whoever completes it has run out, and somebody else has it now.
            raise self._refusal(net.path(task, k), "complete", f"it belongs to {item.by!r} now, not to {by!r}")
        self._finish(net, task, k, output)
        self._drive()

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

    def change_item(self, number: int, command: str, *, at: int, by: str | None = None) -> None:
        """Allocate, offer, suspend, resume, fail or retry a work item, as `knhk.workitem.TRANSITIONS` allows."""
        with self._command(at, Phase.RUNNING, Phase.FAILED):
            item = self.item(number)
            state = TRANSITIONS.get((item.state, command))
            if state is None or command in ("start", "complete"):
                raise _illegal(self.path(item), item, command)
            if command == "fail":
                self._fail(item, "")
            else:
                # A handler's attempt is counted when its handler is about to run; external work is begun right here.
                again = command == "retry" and self.plan(item).kind is Kind.EXTERNAL
                self._record(Code.ITEM, number, state.value, item.by if by is None else by, item.attempt + again)
                self._claim(self.state.nets[item.net], item.task)
            if command == "retry" and self.state.phase is Phase.FAILED:
                self._record(Code.PHASE, Phase.RUNNING.value)
            self._drive()

    def fail_attempt(self, number: int, error: str, *, at: int) -> bool:
        """
        Note that an attempt at started work failed.

        Args:
            number: the work item.
            error: what people are told of it.
            at: now; the wait for the next attempt counts from it.

        Returns:
            Whether the task's retry policy gives it another attempt; without one the item has failed.
        """
        with self._command(at, Phase.RUNNING, Phase.FAILED):
            item = self.item(number)
            if (item.state, "fail") not in TRANSITIONS:
                raise _illegal(self.path(item), item, "fail")
            self._fail(item, error)
            self._drive()
            return number in self.state.deadlines

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

    def next_due(self) -> Due | None:
        """Return what comes due first: a timer whose task could run, a retry, or the end of a claim; None: nothing."""
        return next_due(self.state)

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
            count, elements = count_instances(net, task, plan, self.state.data)
            self._check_instances(count, net.path(task))
        detached = multiple is not None and multiple.detached
        if plan.kind is Kind.ROUTING or (multiple is not None and count == 0):
            self._record(Code.FIRED, net.number, task, choose(net, task, self.state.data))
            return
        if plan.kind is Kind.SUBNET:
            depth = depth_below(net)
            if depth > self._limits.depth:
                message = f"{net.plan.tables.tasks[task]}: composite tasks are {depth} deep"
                raise LimitExceeded(message, limit="depth", maximum=self._limits.depth)
        chosen = choose(net, task, self.state.data) if detached else None
        self._record(Code.BEGUN, net.number, task, count, elements, by, chosen)
        self._claim(net, task)

    def _merged(self, data: dict[str, Any]) -> dict[str, Any]:
        """Return the case's data with this in it; raises DataError where the schema refuses that."""
        merged = {**self.state.data, **data}
        if self._check is not None:
            self._check(merged)
        return merged

    def _claim(self, net: NetInstance, task: int) -> None:
        """Set when the claims on external work that was just started end, where the task says so."""
        external = net.plan.plans[task].task.external
        activity = net.activities.get(task)
        if external is None or external.timeout is None or activity is None:
            return
        state = self.state
        started = [
            number
            for number in activity.open.values()
            if number not in state.deadlines and state.items[number].state is ItemState.STARTED
        ]
        if started:
            self._record(Code.CLAIMED, started, self._now + external.timeout)

    def _fail(self, item: ItemEntry, error: str) -> None:
        retry = self.plan(item).task.retry
        again = retry is not None and item.attempt < retry.max_attempts
        due = self._now + backoff(retry, max(item.attempt, 1)) if retry is not None and again else None
        self._record(Code.ATTEMPT_FAILED, item.number, error, due)

    def _come_due(self, item: ItemEntry) -> None:
        """Try failed work again, or offer external work again whose claim has ended, unless its attempts are used up."""
        plan = self.plan(item)
        if item.state is not ItemState.FAILED:
            retry = plan.task.retry
            used_up = retry is not None and item.attempt >= retry.max_attempts
            after = ItemState.FAILED if used_up else ItemState.OFFERED
            self._record(Code.CLAIM_EXPIRED, item.number, after.value)
        elif plan.kind is Kind.HANDLER:
            self._record(Code.ITEM, item.number, ItemState.STARTED.value, item.by, item.attempt)
        else:
            self._record(Code.ITEM, item.number, ItemState.OFFERED.value, "", item.attempt)

    def _start_again(self, item: ItemEntry, by: str) -> None:
        """Start external work that was given back: its task is running all the time."""
        self._record(Code.ITEM, item.number, ItemState.STARTED.value, by, item.attempt + 1)
        self._claim(self.state.nets[item.net], item.task)

    def _finish(self, net: NetInstance, task: int, k: int, output: dict[str, Any] | None) -> None:
        """End one instance: decide whether the task passes control, and its split if so (rules 3 and 6)."""
        activity = net.activities[task]
        data = self._merged(output) if output else self.state.data
        end = end_of_instance(net, task, activity, data)
        chosen = choose(net, task, data) if end in (End.COMPLETES, End.PASSES_ON) else None
        self._record(Code.FINISHED, net.number, task, k, output, int(end), chosen)

    def _check_instances(self, count: int, path: str) -> None:
        if count > self._limits.instances:
            message = f"{path}: {count} instances are more than one task may have"
            raise LimitExceeded(message, limit="instances", maximum=self._limits.instances)

    # --- driving ------------------------------------------------------------------------------------------------------

    def _drive(self, ready: Sequence[tuple[int, int]] = ()) -> None:
        """Let everything happen that happens by itself, until the case waits or ends."""
        # Each task once, where it was first noticed, as on an express's agenda.
        agenda = OrderedDict.fromkeys(ready)
        state = self.state
        while state.phase in _LIVE:
            if state.touched:
                self._absorb(agenda)
            if agenda and self._start_next(agenda):
                continue
            if not self._settle():
                break
        self._reconcile()
        self._conclude()

    def _start_next(self, agenda: OrderedDict[tuple[int, int], None]) -> bool:
        while agenda:
            (number, task), _ = agenda.popitem(last=False)
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
                agenda[number, task] = None
            return True
        return False

    def _absorb(self, agenda: OrderedDict[tuple[int, int], None]) -> None:
        """Look at what the last record changed: timers, triggers, tasks that start by themselves, nets that ended."""
        touched = self.state.touched
        while touched:
            number = next(iter(touched))
            del touched[number]
            self._visited[number] = None
            net = self.state.nets[number]
            self._absorb_changes(net, agenda)
            if not net.plan.tables.implicit and (net.marking.has_ended() or net.plan.empty):
                self._end_net(net)

    def _absorb_changes(self, net: NetInstance, agenda: OrderedDict[tuple[int, int], None]) -> None:
        plans = net.plan.plans
        for task in net.marking.changes():
            if task < 0:
                if ~task in net.timers:
                    self._record(Code.TIMER_CLEARED, net.number, ~task)
            elif plans[task].automatic:
                agenda[net.number, task] = None
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
                agenda[net.number, task] = None

    def _keep_time(self, net: NetInstance, task: int, agenda: OrderedDict[tuple[int, int], None]) -> None:
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
            agenda[net.number, task] = None

    def _settle(self) -> bool:
        """Decide the OR-joins and the implicit ends of the nets that changed; returns whether anything came of it."""
        news = False
        for number in list(self._visited):
            net = self.state.nets.get(number)
            if net is None:
                continue
            if net.marking.settle():
                self.state.touched[number] = None
                news = True
            elif ends_implicitly(net):
                self._end_net(net)
                news = True
        return news

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
            offers = net.offers
            if offers:
                for task in [task for task in offers if not net.is_offerable(task)]:
                    self._record(Code.OFFER_WITHDRAWN, number, task)
            for task in net.marking.ready():
                plan = net.plan.plans[task]
                if plan.automatic or plan.task.timer is not None or task in offers or not net.is_offerable(task):
                    continue
                self._record(Code.OFFERED, number, task)
        self._visited.clear()

    def _conclude(self) -> None:
        """Say so when nothing can happen any more by itself or from outside (rule 9)."""
        state = self.state
        if state.phase not in _LIVE:
            return
        phase = Phase.RUNNING
        for item in state.items.values():
            if item.state is not ItemState.FAILED:
                break
        else:
            if not waits(state):
                phase = Phase.FAILED if state.items else Phase.DEADLOCKED
        if phase is not state.phase:
            self._record(Code.PHASE, phase.value)

    # --- finding ------------------------------------------------------------------------------------------------------

    def _multiple(self, path: str, command: str) -> tuple[NetInstance, int, Activity]:
        net, task, k = locate(self.state, path)
        plan = net.plan.plans[task]
        activity = net.activities.get(task)
        if plan.task.multiple is None or plan.task.multiple.detached or k:
            raise self._refusal(path, command, "it is no synchronised multiple-instance task")
        if activity is None or activity.passed:
            raise self._refusal(path, command, "it is not running or has passed control")
        return net, task, activity

    def _check_offered(self, net: NetInstance, task: int, k: int, command: str) -> None:
        if k or task not in net.offers:
            raise self._refusal(net.path(task, k), command, "it is not offered")

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
        self._moved = tuple(case.state.moved)

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        case = self._case
        if kind is not None and len(case._log) > self._length:
            del case._log[self._length :]
            case._rebuild()
            case.state.moved = dict.fromkeys(self._moved)


def _illegal(name: str, item: ItemEntry, command: str) -> IllegalTransition:
    options = allowed(item.state)
    message = f"cannot {command} work item {name}: it is {item.state.value}; allowed: {', '.join(options) or 'nothing'}"
    return IllegalTransition(message, status=item.state.value, command=command, allowed=options)
