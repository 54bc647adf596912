"""The course of a case: its journal, what is decided on the way, and what happens by itself.

`Course` is the ground under `knhk.case.Case`: everything that a command needs and no user calls.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Sequence
from itertools import compress
from typing import Any, Final

from knhk._case_state import CaseState
from knhk._codes import Code, End, Phase, Record
from knhk._decisions import choose, count_instances, end_of_instance, end_of_timer, hold
from knhk._kernel import Net
from knhk._lower import Kind, Program, TaskPlan
from knhk._net_instance import NetInstance
from knhk._people_rules import first_offer
from knhk._questions import depth_below, ends_implicitly, locate, waits
from knhk._schema import Check
from knhk.errors import IllegalTransition, InternalError, JournalError, LimitExceeded, UnknownWorkItem
from knhk.limits import Limits
from knhk.spec import DeadlineFrom, Retry, TriggerMode
from knhk.workitem import ItemEntry, ItemState

# Up to Python 3.11 a member of an enumeration costs as much to look up as a method to call.
_RUNNING: Final = Phase.RUNNING
_ROUTING: Final = Kind.ROUTING
_SUBNET: Final = Kind.SUBNET
_BEGUN: Final = Code.BEGUN
_FINISHED: Final = Code.FINISHED
_OFFERED: Final = Code.OFFERED
_COMPLETES: Final = End.COMPLETES
_PASSING: Final = (End.COMPLETES, End.PASSES_ON)
_FAILED: Final = ItemState.FAILED

LIVE: Final = (_RUNNING, Phase.FAILED, Phase.DEADLOCKED)
"""The phases in which things happen by themselves."""


_AT_WORK: Final = (ItemState.STARTED, ItemState.SUSPENDED, ItemState.REPLACED)
_WAITING: Final = (ItemState.UNOFFERED, ItemState.OFFERED, ItemState.ALLOCATED)


class Course:
    """A case without commands; `knhk.case.Case` tells of the arguments."""

    __slots__ = (
        "_base",
        "_check",
        "_kernels",
        "_limits",
        "_log",
        "_now",
        "_program",
        "_retry",
        "_steps",
        "_taken",
        "_visited",
        "compensates",
        "state",
        "unchosen",
    )

    def __init__(
        self,
        program: Program,
        kernels: Sequence[Net],
        *,
        limits: Limits | None = None,
        check: Check | None = None,
        retry: Retry | None = None,
    ) -> None:
        self._check = check
        self._program = program
        self._retry = retry
        self._kernels = kernels
        self._limits = limits if limits is not None else Limits()
        self.state = CaseState(program, kernels)
        self._base: dict[str, Any] | None = None
        self._log: list[Record] = []
        self._taken = 0
        self._now = 0
        self._steps = 0
        self._visited: dict[int, None] = {}
        self.compensates = True
        self.unchosen: tuple[str, ...] = ()

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

    @property
    def owes(self) -> bool:
        """Whether there are records that nobody has taken yet."""
        return self._taken < len(self._log)

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

    def _command(self, at: int, *states: Phase) -> Undo:
        phase = self.state.phase if self.state.undoing is None else Phase.COMPENSATING
        if phase not in states:
            names = " or ".join(state.value for state in states)
            message = f"the case is {phase.value}; this needs it to be {names}"
            raise IllegalTransition(message, status=phase.value, command="", allowed=())
        self._now = at
        self._steps = 0
        return Undo(self)

    # --- looking ------------------------------------------------------------------------------------------------------

    def enabled(self) -> list[str]:
        """Return the paths of the tasks that are offered for starting, sorted."""
        items = self.state.items.values()
        return sorted(self.path(i) for i in items if i.state in _WAITING)

    def running(self) -> list[str]:
        """Return the paths of the started atomic tasks and instances, sorted."""
        items = self.state.items.values()
        return sorted(self.path(i) for i in items if i.state in _AT_WORK)

    def item(self, number: int) -> ItemEntry:
        """Return an open work item; raises UnknownWorkItem."""
        item = self.state.items.get(number)
        if item is None:
            message = f"the case has no open work item {number}"
            raise UnknownWorkItem(message)
        return item

    def item_at(self, path: str) -> int | None:
        """Return the number of the open item of a task or instance; None: it has none."""
        try:
            net, task, k = locate(self.state, path)
        except UnknownWorkItem:
            return None
        if k == 0 and task in net.offers:
            return net.offers[task]
        activity = net.activities.get(task) if net.plan.plans[task].kind is not Kind.SUBNET else None
        return None if activity is None else activity.open.get(k)

    def marking(self) -> dict[str, dict[str, int]]:
        """Return the tokens of each running net: by path of the net (the root's is ``""``), by condition that holds any."""
        return {
            "" if net.parent is None else net.parent.path(net.task, net.instance): _held(net)
            for net in self.state.nets.values()
        }

    def path(self, item: ItemEntry) -> str:
        """Return the item's path from the root net; that of a compensation is that of what it undoes."""
        if item.undoes is not None:
            return item.undoes.path
        return self.state.nets[item.net].path(item.task, item.instance)

    def plan(self, item: ItemEntry) -> TaskPlan:
        """Return the plan of the item's task; that of a compensation is what its task says of it."""
        if item.undoes is not None:
            plan = self._program.nets[item.undoes.kind].plans[item.undoes.task].compensation
            if plan is None:
                raise InternalError(f"{item.undoes.path} has no compensation")
            return plan
        return self.state.nets[item.net].plan.plans[item.task]

    def problems(self) -> list[str]:
        """Return what needs a person's eye: OR-joins whose search met its budget and which wait; deadlines that passed."""
        nets = self.state.nets.values()
        waiting = [
            f"{net.path(task)}: the OR-join cannot be decided within its budget; it waits"
            for net in nets
            for task in sorted(net.marking.undecided)
        ]
        return waiting + [
            f"{net.path(task)}: its deadline has passed, and no error flow takes that"
            for net in nets
            for task in sorted(net.overdue)
        ]

    # --- deciding -----------------------------------------------------------------------------------------------------

    def _begin(self, net: NetInstance, task: int, by: str) -> None:
        """Start a ready task: decide its instances, and its split where control passes at once."""
        plan = net.plan.plans[task]
        if plan.guarded and self._stands_in_the_way(net, task, plan):
            return
        multiple = plan.task.multiple
        count, elements, chosen = 0, None, None
        if multiple is not None:
            count, elements = count_instances(net, task, plan, self.state.data)
            self._check_instances(count, net.path(task))
        if plan.kind is _ROUTING or (multiple is not None and count == 0):
            self._record(Code.FIRED, net.number, task, choose(net, task, self.state.data))
            return
        if plan.kind is _SUBNET:
            depth = depth_below(net)
            if depth > self._limits.depth:
                message = f"{net.plan.tables.tasks[task]}: composite tasks are {depth} deep"
                raise LimitExceeded(message, limit="depth", maximum=self._limits.depth)
        if multiple is not None and multiple.detached:
            chosen = choose(net, task, self.state.data)
        self._record(_BEGUN, net.number, task, count, elements, by, chosen)
        if plan.task.external is not None:
            self._claim(net, task)
        if plan.shared_out:
            self._share_out(net, task)
        elif plan.worklets:
            self._call_worklets(net, task)

    def _start_offered(self, net: NetInstance, task: int, by: str) -> None:
        """Start offered work, and let happen what follows from that; of most work nothing does."""
        self._begin(net, task, by)
        if task not in net.plan.alone or self.state.phase is not _RUNNING:
            self._drive()

    def _share_out(self, net: NetInstance, task: int) -> None:
        """Say of the instances that have just come up whom each is offered to."""
        for number in net.activities[task].open.values():
            if self.state.items[number].state is ItemState.OFFERED and number not in self.state.people.posts:
                for record in first_offer(self.state, net, task, number, self._now):
                    self._record(*record)

    @abstractmethod
    def _call_worklets(self, net: NetInstance, task: int) -> None:
        """Say of the instances that have just come up which worklet does the work of each; `knhk._calling` tells."""

    @abstractmethod
    def _stands_in_the_way(self, net: NetInstance, task: int, plan: TaskPlan) -> bool:
        """Whether a constraint keeps a task from starting and its error is caught; `knhk._raising` tells."""

    @abstractmethod
    def _guard_offers(self) -> bool:
        """Whether a constraint keeps a task from being offered and its error is caught; `knhk._raising` tells."""

    @abstractmethod
    def _keep_undoing(self) -> None:
        """Say how the compensations under way stand, and what follows them; `knhk._raising` tells."""

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

    def _finish(self, net: NetInstance, task: int, k: int, output: dict[str, Any] | None) -> None:
        """End one instance: decide whether the task passes control, and its split if so (rules 3 and 6)."""
        activity = net.activities[task]
        data = self._merged(output) if output else self.state.data
        plan = net.plan.plans[task]
        if plan.ensures is not None:
            hold(plan.ensures, "ensures", data, net.path(task, k))
        end = _COMPLETES if plan.task.multiple is None else end_of_instance(net, task, activity, data)
        chosen = choose(net, task, data) if end in _PASSING else None
        self._record(_FINISHED, net.number, task, k, output, int(end), chosen)

    def _check_instances(self, count: int, path: str) -> None:
        if count > self._limits.instances:
            message = f"{path}: {count} instances are more than one task may have"
            raise LimitExceeded(message, limit="instances", maximum=self._limits.instances)

    # --- driving ------------------------------------------------------------------------------------------------------

    def _drive(self, ready: Sequence[tuple[int, int]] = ()) -> None:
        """Let everything happen that happens by itself, until the case waits or ends."""
        # Each task once, where it was first noticed, as on an express's agenda.
        state, program = self.state, self._program
        if state.undoing is not None:
            self._keep_undoing()
            if state.phase not in LIVE or state.undoing is not None:
                return
            ready = self._ready_by_itself()
        agenda = OrderedDict.fromkeys(ready)
        while state.phase in LIVE:
            if state.touched:
                self._absorb(agenda)
            if agenda and self._start_next(agenda):
                continue
            if program.settles and self._settle():
                continue
            if not (program.conditional and self._guard_offers()):
                break
        self._reconcile()
        self._conclude()

    def _ready_by_itself(self) -> list[tuple[int, int]]:
        """Return every ready task that starts by itself, where no change tells of it: (net, task)."""
        return [
            (net.number, task)
            for net in self.state.nets.values()
            for task in net.marking.ready()
            if net.plan.plans[task].automatic
        ]

    def _start_next(self, agenda: OrderedDict[tuple[int, int], None]) -> bool:
        while agenda:
            (number, task), _ = agenda.popitem(last=False)
            net = self.state.nets.get(number)
            if net is not None and net.plan.tables.or_joins and net.marking.settle_before(task):
                # First what that has changed is looked at, then this one again.
                self.state.touched[number] = None
                agenda[number, task] = None
                agenda.move_to_end((number, task), last=False)
                return True
            if net is None or not net.is_offerable(task):
                continue
            self._count_step(net, task)
            self._begin(net, task, "")
            if net.plan.tables.table[task].detached:
                # It stays ready without a flip that would bring it back here, as long as it has tokens.
                agenda[number, task] = None
            return True
        return False

    def _count_step(self, net: NetInstance, task: int) -> None:
        """Refuse a command after which more happens by itself than may; whatever could go round for ever counts."""
        self._steps += 1
        if self._steps > self._limits.steps:
            message = f"{net.path(task)}: the case goes on by itself for too many steps"
            raise LimitExceeded(message, limit="steps", maximum=self._limits.steps)

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
                if self.state.undoing is not None:
                    return

    def _absorb_changes(self, net: NetInstance, agenda: OrderedDict[tuple[int, int], None]) -> None:
        plans = net.plan.plans
        for task in net.marking.changes():
            if task < 0:
                if ~task in net.timers:
                    self._record(Code.TIMER_CLEARED, net.number, ~task)
            elif plans[task].automatic:
                agenda[net.number, task] = None
        if not net.plan.watched:
            return
        for task in net.plan.timed:
            self._keep_time(net, task, agenda)
        for task in net.plan.deadlines:
            self._keep_deadline(net, task)
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
            self._record(Code.TIMER_SET, net.number, task, end_of_timer(net, task, self.state.data, self._now))
        elif due is not None and due <= self._now and net.marking.is_ready(task):
            agenda[net.number, task] = None

    def _keep_deadline(self, net: NetInstance, task: int) -> None:
        """Let the clock of a deadline run from where it counts until the task is complete; `CaseState` stops it there."""
        deadline = net.plan.plans[task].task.deadline
        if deadline is None:
            return
        counts = net.is_at_work(task) or (deadline.since is DeadlineFrom.ENABLEMENT and net.marking.is_ready(task))
        known = task in net.deadlines or task in net.overdue
        if counts and not known:
            self._record(Code.DEADLINE_SET, net.number, task, self._now + deadline.after)
        elif known and not counts:
            self._record(Code.DEADLINE_CLEARED, net.number, task)

    def _settle(self) -> bool:
        """Decide the OR-joins and the implicit ends of the nets that changed; returns whether anything came of it."""
        news = False
        for number in list(self._visited):
            net = self.state.nets.get(number)
            if net is None or not net.plan.settles:
                continue
            if net.marking.settle():
                self.state.touched[number] = None
                news = True
            elif ends_implicitly(net):
                self._end_net(net)
                news = True
                if self.state.undoing is not None:
                    break
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
            offers, ready = net.offers, net.marking.ready()
            if offers and (net.plan.watched or not offers.keys() <= set(ready)):
                for task in [task for task in offers if not net.is_offerable(task)]:
                    self._record(Code.OFFER_WITHDRAWN, number, task)
            for task in ready:
                plan = net.plan.plans[task]
                if plan.automatic or task in offers or plan.task.timer is not None:
                    continue
                if plan.task.trigger is not None and not net.is_offerable(task):
                    continue
                self._record(_OFFERED, number, task)
                if plan.people is not None:
                    for record in first_offer(self.state, net, task, offers[task], self._now):
                        self._record(*record)
        self._visited.clear()

    def _conclude(self) -> None:
        """Say so when nothing can happen any more by itself or from outside (rule 9)."""
        state = self.state
        if state.phase not in LIVE:
            return
        phase = _RUNNING
        for item in state.items.values():
            if item.state is not _FAILED:
                break
        else:
            if not waits(state):
                phase = Phase.FAILED if state.items else Phase.DEADLOCKED
        if phase is not state.phase:
            self._record(Code.PHASE, phase.value)

    # --- refusing -----------------------------------------------------------------------------------------------------

    def _check_offered(self, net: NetInstance, task: int, k: int, command: str) -> None:
        if k or task not in net.offers:
            raise self._refusal(net.path(task, k), command, "it is not offered")

    def _refusal(self, path: str, command: str, why: str) -> IllegalTransition:
        now = ", ".join(self.enabled()) or "none"
        message = f"cannot {command} {path}: {why}; offered now: {now}"
        return IllegalTransition(message, status=self.state.phase.value, command=command, allowed=())


class Undo:
    """What makes a command all or nothing: when it raises, the case is rebuilt as it was before."""

    __slots__ = ("_case", "_length", "_moved")

    def __init__(self, case: Course) -> None:
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


def _held(net: NetInstance) -> dict[str, int]:
    """Return the conditions that hold a token, and how many; most hold none, also in large nets."""
    tokens = net.marking.tokens
    return dict(zip(compress(net.plan.tables.conditions, tokens), filter(None, tokens), strict=True))
