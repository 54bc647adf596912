"""The state of one case, and how each journal record changes it.

A record is a tuple: a `Code`, then plain values.
`CaseState.apply` is the only thing that changes a case, whether it runs (`knhk.case` decides, then applies) or is replayed
(the decisions come from the journal); it decides nothing itself, so both end in the same state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from knhk._codes import Code, End, Phase, Record
from knhk._deputies import DeputyRecords, Principal, dump_deputies, load_deputies
from knhk._kernel import IDLE, Net
from knhk._lower import Kind, Program
from knhk._net_instance import Activity, NetInstance, dump_net, load_net
from knhk._people_state import PeopleRecords, PeopleState
from knhk._undoing import (
    Memory,
    Undoing,
    UndoingRecords,
    dump_completions,
    dump_undoing,
    load_completions,
    load_undoing,
)
from knhk.errors import JournalError
from knhk.workitem import ItemEntry, ItemState

# Up to Python 3.11 a member of an enumeration costs as much to look up as a method to call.
_SUBNET: Final = Kind.SUBNET
_EXTERNAL: Final = Kind.EXTERNAL
_MANUAL: Final = Kind.MANUAL
_HANDLER: Final = Kind.HANDLER
_OFFERED: Final = ItemState.OFFERED
_STARTED: Final = ItemState.STARTED
_SUSPENDED: Final = ItemState.SUSPENDED
_COMPLETES: Final = End.COMPLETES
_PHASES: Final = {each.value: each for each in Phase}
_ITEM_STATES: Final = {each.value: each for each in ItemState}


class CaseState(PeopleRecords, UndoingRecords, DeputyRecords):
    """
    Everything that a case is, between two records.

    Attributes:
        nets, items: what is running, by number.
        touched: net instances that changed since the driver last looked.
        moved: items that appeared, changed or went since the driver last took them, for the worklist.
        work: started items that wait for their handler, in order.
        people: who did what, and what is known of their work.
        deadlines: by item, in milliseconds since the epoch: when a failed one is tried again, or a started one's claim ends.
        memory: what has completed and can be undone.
        undoing: the compensations under way; nothing else happens meanwhile.
        principal: the work in whose place the case runs, as a worklet; None: it is nobody's.
    """

    __slots__ = (
        "data",
        "deadlines",
        "items",
        "kernels",
        "memory",
        "moved",
        "nets",
        "next_item",
        "next_net",
        "people",
        "phase",
        "principal",
        "program",
        "touched",
        "undoing",
        "work",
    )

    def __init__(self, program: Program, kernels: Sequence[Net]) -> None:
        self.program = program
        self.kernels = kernels
        self.phase = Phase.CREATED
        self.data: dict[str, Any] = {}
        self.nets: dict[int, NetInstance] = {}
        self.items: dict[int, ItemEntry] = {}
        self.next_net = 0
        self.next_item = 1
        self.touched: dict[int, None] = {}
        self.moved: dict[int, None] = {}
        self.work: dict[int, None] = {}
        self.deadlines: dict[int, int] = {}
        self.people = PeopleState()
        self.memory = Memory()
        self.undoing: Undoing | None = None
        self.principal: Principal | None = None

    def apply(self, record: Record) -> None:
        """Change the state as the record says; raises JournalError where it cannot have happened."""
        try:
            _APPLY[record[0]](self, *record[1:])
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            message = f"record {record!r} does not fit the case: {error!r}"
            raise JournalError(message) from error

    def catch_up(self, net: NetInstance, next_item: int, begun: Sequence[tuple[int, int, int]]) -> None:
        """
        Become what the records say that an express wrote: it has moved the marking and the data, and this is the rest.

        Args:
            net: the root net, whose plain handlers' items are the express's.
            next_item: the number of the next work item.
            begun: (task, item number, attempts) of the handlers that are begun and not finished, in order.
        """
        self.next_item = next_item
        if self.work:
            left = {number for _, number, _ in begun}
            for number in [each for each in self.work if each not in left]:
                del net.activities[self.items[number].task]
                self._drop_item(number)
        for task, number, attempts in begun:
            item = self.items.get(number)
            if item is None:
                item = self.items[number] = ItemEntry(number, net.number, task, 0, ItemState.STARTED, "")
                net.activities[task] = Activity()
                net.activities[task].open[0] = number
                self._note(item)
            if attempts > item.attempt:
                item.attempt, item.begun = attempts, True
        self.touched[net.number] = None

    # --- looking ------------------------------------------------------------------------------------------------------

    def element(self, item: ItemEntry) -> Any:
        """Return what `for_each` gave for this instance, or None."""
        if item.undoes is not None:
            return None
        elements = self.nets[item.net].activities[item.task].elements
        return None if elements is None else elements[item.instance - 1]

    @property
    def in_order(self) -> bool:
        """Whether the items that wait for their handler would, after a snapshot, be handed out in the order of now."""
        work = self.work
        return len(work) < 2 or list(work) == [number for number in self.items if number in work]

    # --- records ------------------------------------------------------------------------------------------------------

    def _created(self, data: dict[str, Any]) -> None:
        self.data = dict(data)

    def _started(self) -> None:
        self.phase = Phase.RUNNING
        self._open_net(0, None, -1, 0)

    def _fired(self, net: int, task: int, chosen: Sequence[int]) -> None:
        instance = self._touch(net)
        self._before_start(instance, task)
        instance.stop_clock(task)
        instance.marking.start(task)
        self._after_start(instance, task)
        if instance.plan.tables.table[task].detached:
            self._drop_region(instance, task)
            instance.marking.pass_on(task, chosen)
        else:
            self._drop_region(instance, task)
            instance.marking.complete(task, chosen)

    def _begun(
        self, net: int, task: int, count: int, elements: list[Any] | None, by: str, chosen: Sequence[int] | None
    ) -> None:
        """`count` 0 is a single activation; a detached task gives what it `chose` with its start."""
        instance = self._touch(net)
        plan = instance.plan.plans[task]
        offered = self._before_start(instance, task)
        instance.marking.start(task)
        table = instance.plan.tables.table[task]
        if table.join_cancels_tasks:
            self._after_start(instance, task)
        activity = instance.activities.get(task)
        if activity is None:
            activity = instance.activities[task] = Activity()
        if chosen is not None and task in table.cancels_tasks:
            # A detached task that names itself stops the instances that it left behind, not those that it starts now.
            self._drop_activity(instance, task)
        if elements is not None:
            activity.elements = [*(activity.elements or ()), *elements]
        if plan.task.multiple is None:
            self._open_instance(instance, task, activity, 0, by, offered)
        for _ in range(count):
            activity.created += 1
            self._open_instance(instance, task, activity, activity.created, by, None)
        if chosen is not None:
            self._drop_region(instance, task)
            instance.marking.pass_on(task, chosen)

    def _finished(
        self, net: int, task: int, k: int, output: dict[str, Any] | None, end: int, chosen: Sequence[int] | None
    ) -> None:
        instance = self._touch(net)
        activity = instance.activities[task]
        reference = activity.open.pop(k)
        plan = instance.plan.plans[task]
        if self.memory.entries or plan.compensation is not None:
            self._keep_completion(instance, task, k, reference, output)
        if plan.kind is _MANUAL:
            # The replay of event logs keeps no items.
            item = self.items.get(reference)
            self.people.last_by = (item.by if item is not None else "") or self.people.last_by
        if plan.kind is _SUBNET:
            self._close(instance, task, reference)
        else:
            self._drop_item(reference)
        activity.completed += 1
        if output:
            self.data.update(output)
        table = instance.plan.tables.table[task]
        if end == _COMPLETES:
            self._drop_activity(instance, task)
            if table.cancels_tasks:
                self._drop_region(instance, task)
            instance.marking.complete(task, chosen or ())
        elif end == End.PASSES_ON:
            activity.passed = True
            instance.stop_clock(task)
            self.memory.settle(net, task)
            aborts_itself = task in table.cancels_tasks
            self._drop_region(instance, task)
            instance.marking.pass_on(task, chosen or ())
            if aborts_itself:
                self._drop_activity(instance, task)
                instance.marking.release(task)
        elif end == End.RELEASES:
            self._drop_activity(instance, task)
            instance.marking.release(task)
        # A detached task's activity stays while its net lives: its count of instances keeps their paths unique.

    def _forced(self, net: int, task: int, chosen: Sequence[int]) -> None:
        instance = self._touch(net)
        self._drop_activity(instance, task)
        self._drop_region(instance, task)
        instance.marking.complete(task, chosen)

    def _raised(self, net: int, task: int, _: int, position: int, error: dict[str, Any], kept: bool) -> None:
        """The task completes along an error flow, whether it had started or was only enabled."""
        instance = self._touch(net)
        if self.undoing is not None:
            self.undoing, self.phase = None, Phase.RUNNING
            # What had been noticed and not yet followed when the error came is looked at again.
            self.touched.update(dict.fromkeys(self.nets))
        if kept:
            self.data["error"] = dict(error)
        if instance.marking.status[task] == IDLE:
            offered = self._before_start(instance, task)
            if offered is not None:
                self._drop_item(offered)
            instance.marking.start(task)
            self._after_start(instance, task)
        instance.stop_clock(task)
        self._drop_activity(instance, task)
        self._drop_region(instance, task)
        instance.marking.complete(task, (position,))

    def _undoing(self, then: list[Any] | None) -> None:
        """Withdraw a scope, and begin to undo what it completed, last first."""
        before = self.undoing
        self.phase = Phase.COMPENSATING
        if then is None:
            pending = [] if before is None else before.pending
            self.undoing = Undoing([*pending, *self.memory.take_all()], None, 0 if before is None else before.item)
            for number in [number for number in self.items if number != self.undoing.item]:
                self._drop_item(number)
            self.nets.clear()
            self.touched.clear()
        else:
            instance = self.nets[then[0]]
            task = then[1]
            pending = self.memory.take(self.nets_inside(instance, task), instance.number, task)
            self._drop_activity(instance, task)
            self.undoing = Undoing(pending, then)
        if self.undoing.item == 0:
            self._undo_next(self.undoing)

    def _undone(self, number: int, output: dict[str, Any] | None) -> None:
        if output:
            self.data.update(output)
        self._drop_item(number)
        if self.undoing is None:
            raise ValueError("nothing is being undone")
        self._undo_next(self.undoing)

    def _undo_next(self, undoing: Undoing) -> None:
        """Take up the next compensation: each is a work item of its own, whose number is its idempotency key."""
        undoing.item = 0
        if undoing.pending:
            entry = undoing.pending.pop(0)
            number = undoing.item = self.next_item
            self.next_item += 1
            item = self.items[number] = ItemEntry(number, -1, entry.task, 0, ItemState.STARTED, undoes=entry)
            self._note(item)

    def _instance_added(self, net: int, task: int, element: list[Any] | None, by: str) -> None:
        instance = self._touch(net)
        activity = instance.activities[task]
        activity.created += 1
        if element is not None:
            activity.elements = [*(activity.elements or ()), *element]
        self._open_instance(instance, task, activity, activity.created, by, None)

    def _instances_closed(self, net: int, task: int) -> None:
        self._touch(net).activities[task].closed = True

    def _aborted(self, net: int, task: int) -> None:
        instance = self._touch(net)
        self._drop_activity(instance, task)
        marking = instance.marking
        # Whose instances run on by themselves is idle meanwhile, and may be a partial join in the middle of a round.
        if marking.status[task] != IDLE or marking.seen.get(task):
            marking.release(task)

    def _withdrawn(self, net: int, task: int) -> None:
        instance = self._touch(net)
        self._before_start(instance, task, persistent=False)
        instance.stop_clock(task)
        instance.marking.withdraw(task)

    def _offered(self, net: int, task: int) -> None:
        instance = self.nets[net]
        instance.offers[task] = self._open_item(instance, task, 0, "", _OFFERED)

    def _offer_withdrawn(self, net: int, task: int) -> None:
        self._drop_item(self.nets[net].offers.pop(task))

    def _timer_set(self, net: int, task: int, due: int) -> None:
        self.nets[net].timers[task] = due

    def _timer_cleared(self, net: int, task: int) -> None:
        del self.nets[net].timers[task]

    def _deadline_set(self, net: int, task: int, due: int) -> None:
        self.nets[net].deadlines[task] = due

    def _deadline_cleared(self, net: int, task: int) -> None:
        self.nets[net].stop_clock(task)

    def _deadline_passed(self, net: int, task: int) -> None:
        instance = self.nets[net]
        instance.overdue[task] = instance.deadlines.pop(task)

    def _trigger_held(self, net: int, task: int, held: int) -> None:
        self._touch(net).triggers[task] = held

    def _data(self, output: dict[str, Any]) -> None:
        self.data.update(output)

    def _item(self, number: int, state: str, by: str, attempt: int) -> None:
        item = self.items[number]
        # Only the number of a handler's attempt grows while its item is started: that is what begins it.
        item.begun = attempt > item.attempt and state == item.state.value
        item.state, item.by, item.attempt = _ITEM_STATES[state], by, attempt
        self.deadlines.pop(number, None)
        self._note(item)

    def _attempt_failed(self, number: int, reason: str, due: int | None, about: Sequence[Any] | None = None) -> None:
        """With a time the item is tried again then; without one it has failed for good."""
        item = self.items[number]
        item.state, item.begun = ItemState.FAILED, False
        if due is None:
            self.deadlines.pop(number, None)
            self._keep_failure(item, reason, about)
        else:
            self.deadlines[number] = due
        self._note(item)

    def _claimed(self, numbers: Sequence[int], due: int) -> None:
        for number in numbers:
            self.deadlines[self.items[number].number] = due

    def _claim_expired(self, number: int, state: str, reason: str = "", about: Sequence[Any] | None = None) -> None:
        item = self.items[number]
        item.state, item.by = _ITEM_STATES[state], ""
        del self.deadlines[number]
        self._keep_failure(item, reason, about)
        self._note(item)

    def _keep_failure(self, item: ItemEntry, reason: str, about: Sequence[Any] | None) -> None:
        if about is not None:
            at, kind, digest, where = about
            item.failure = (reason, at, kind, digest, where)

    def _replayed(self, number: int, _: str) -> None:
        """The attempts that were made count no more, and the time for all begins anew with the next one."""
        item = self.items[number]
        item.spared, item.begun, item.until, item.failure = item.attempt, False, None, None
        if item.deputy is not None:
            item.deputy.error = None
        # The list of what failed has it, even a handler's.
        self.moved[number] = None

    def _discarded(self, number: int, _: str, __: str, end: int, chosen: Sequence[int] | None) -> None:
        """The item is given up: its task is aborted, or of several instances this one ends without a result."""
        item = self.items[number]
        instance, task = self._touch(item.net), item.task
        if instance.plan.plans[task].task.multiple is None:
            self._aborted(item.net, task)
            return
        self._close(instance, task, instance.activities[task].open.pop(item.instance))
        if end == End.COMPLETES:
            self._drop_activity(instance, task)
            self._drop_region(instance, task)
            instance.marking.complete(task, chosen or ())
        elif end == End.RELEASES:
            self._drop_activity(instance, task)
            instance.marking.release(task)

    def _attempts_until(self, number: int, until: int) -> None:
        self.items[number].until = until

    def _attempts_spared(self, number: int, spared: int) -> None:
        item = self.items[number]
        item.spared, item.begun = spared, False

    def _stands_in(self, case_id: str, item: int, depth: int) -> None:
        self.principal = Principal(case_id, item, depth)

    def _called(self, number: int, *call: Any) -> None:
        self._worklet_called(number, *call)
        self.people.posts.pop(number, None)
        self._note(self.items[number])

    def _progressed(self, number: int, progress: Any) -> None:
        self.items[number].progress = progress

    def _migrated(self, _: str, __: str, tree: dict[str, Any], dropped: Sequence[int]) -> None:
        """Become the state that the other version has; this one's program is that version's already."""
        self.load(tree)
        self.touched.update(dict.fromkeys(self.nets))
        self.moved.update(dict.fromkeys([*self.items, *dropped]))

    def _phase(self, phase: str) -> None:
        self.phase = _PHASES[phase]
        if self.phase in (Phase.COMPLETED, Phase.CANCELLED):
            self.memory.take_all()
            self.undoing = None
            self.moved.update(dict.fromkeys(self.items))
            self.nets.clear()
            self.items.clear()
            self.work.clear()
            self.deadlines.clear()
            self.people.posts.clear()
            self.touched.clear()

    # --- inside -------------------------------------------------------------------------------------------------------

    def _touch(self, net: int) -> NetInstance:
        self.touched[net] = None
        return self.nets[net]

    def _open_net(self, kind: int, parent: NetInstance | None, task: int, k: int) -> int:
        number = self.next_net
        self.next_net += 1
        self.nets[number] = NetInstance(number, self.program.nets[kind], self.kernels[kind].marking(), parent, task, k)
        self.touched[number] = None
        return number

    def _open_item(self, net: NetInstance, task: int, k: int, by: str, state: ItemState) -> int:
        number = self.next_item
        self.next_item += 1
        item = self.items[number] = ItemEntry(number, net.number, task, k, state, by)
        self._note(item)
        return number

    def _note(self, item: ItemEntry) -> None:
        started = item.state is _STARTED
        if started and item.undoes is not None:
            self.work[item.number] = None
            return
        if item.undoes is None and (started or item.state is _SUSPENDED):
            plan = self.nets[item.net].plan.plans[item.task]
            if started and plan.kind is _HANDLER:
                # No list has it, so none has to be told of it.
                self.work[item.number] = None
                return
            if plan.remembered and item.by:
                self._remember(plan.task.id, item)
        self.moved[item.number] = None
        self.work.pop(item.number, None)

    def _remember(self, task: str, item: ItemEntry) -> None:
        """Somebody has his hands on work that others are kept from, or familiar with, for it."""
        self.people.remember(task, item.by, item.number)
        for other in self.items.values():
            if other.undoes is None and task in self.nets[other.net].plan.plans[other.task].separate:
                self.moved[other.number] = None

    def _drop_item(self, number: int) -> None:
        if self.items.pop(number, None) is not None:
            if number in self.work:
                del self.work[number]
            else:
                self.moved[number] = None
            self.deadlines.pop(number, None)
            self.people.posts.pop(number, None)

    def _open_instance(
        self, net: NetInstance, task: int, activity: Activity, k: int, by: str, offered: int | None
    ) -> None:
        plan = net.plan.plans[task]
        if plan.kind is _SUBNET:
            activity.open[k] = self._open_net(plan.subnet, net, task, k)
        elif offered is not None and k == 0:
            item = self.items[offered]
            item.state, item.by = _STARTED, by
            self._note(item)
            activity.open[k] = offered
        else:
            # The instances of work that is shared out among people are offered, each for itself.
            state = _OFFERED if plan.shared_out else _STARTED
            activity.open[k] = self._open_item(net, task, k, "" if plan.shared_out else by, state)
        if plan.kind is _EXTERNAL:
            self.items[activity.open[k]].attempt += 1

    def _before_start(self, net: NetInstance, task: int, *, persistent: bool = True) -> int | None:
        """Use up the trigger, and take the offer off the worklist: return its item, which a single activation keeps."""
        trigger = net.plan.plans[task].task.trigger
        if trigger is not None and net.triggers.get(task, 0) > 0 and (persistent or trigger.mode.value == "transient"):
            net.triggers[task] -= 1
        net.timers.pop(task, None)
        offered = net.offers.pop(task, None)
        if offered is not None and (not persistent or net.plan.plans[task].task.multiple is not None):
            self._drop_item(offered)
            return None
        return offered

    def _after_start(self, net: NetInstance, task: int) -> None:
        """A cancelling partial join aborts its region when its task starts (rule 4)."""
        for other in net.plan.tables.table[task].join_cancels_tasks:
            if other != task:
                self._drop_activity(net, other)

    def _drop_region(self, net: NetInstance, task: int) -> None:
        """Abort what the cancellation set of a completing task names (rule 5); the kernel empties the conditions."""
        for other in net.plan.tables.table[task].cancels_tasks:
            if other != task:
                self._drop_activity(net, other)

    def _drop_activity(self, net: NetInstance, task: int) -> None:
        activity = net.activities.get(task)
        if activity is None:
            return
        net.stop_clock(task)
        if self.memory.entries:
            self.memory.settle(net.number, task)
        for reference in activity.open.values():
            self._close(net, task, reference)
        activity.open.clear()
        # A detached task keeps counting its instances while its net lives: a path that was used is never used again.
        if not net.plan.tables.table[task].detached:
            del net.activities[task]

    def _close(self, net: NetInstance, task: int, reference: int) -> None:
        """Remove an instance: its item, or its net with all below it (iteratively: recursion may be deep)."""
        if net.plan.plans[task].kind is not _SUBNET:
            self._drop_item(reference)
            return
        if self.memory.entries:
            # What was done was done, although what was around it is gone.
            self.memory.move(self.nets_inside(net, task, reference), net.number, -1)
        doomed = [reference]
        while doomed:
            child = self.nets.pop(doomed.pop())
            self.touched.pop(child.number, None)
            for number in child.offers.values():
                self._drop_item(number)
            for other, activity in child.activities.items():
                if child.plan.plans[other].kind is _SUBNET:
                    doomed.extend(activity.open.values())
                else:
                    for number in activity.open.values():
                        self._drop_item(number)

    # --- snapshots ----------------------------------------------------------------------------------------------------

    def dump(self) -> dict[str, Any]:
        """Return the state as a JSON tree (`load` reads it)."""
        return {
            "phase": self.phase.value,
            "data": dict(self.data),
            "next": [self.next_net, self.next_item],
            "items": [
                [i.number, i.net, i.task, i.instance, i.state.value, i.by, i.attempt] for i in self.items.values()
            ],
            "attempts": [
                [i.number, i.spared, i.begun, i.until, i.progress]
                for i in self.items.values()
                if i.spared or i.begun or i.until is not None or i.progress is not None
            ],
            "failures": [[i.number, *i.failure] for i in self.items.values() if i.failure is not None],
            "deadlines": sorted(map(list, self.deadlines.items())),
            "memory": dump_completions(self.memory.entries),
            "undoing": dump_undoing(
                self.undoing,
                None if self.undoing is None or not self.undoing.item else self.items[self.undoing.item].undoes,
            ),
            **self.people.dump(),
            **dump_deputies(self.principal, self.items.values()),
            "nets": [dump_net(net) for net in self.nets.values()],
        }

    def load(self, tree: dict[str, Any]) -> None:
        """Become the state that `dump` returned; raises JournalError for anything else."""
        try:
            self._load(tree)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            message = f"the snapshot does not fit the specification: {error!r}"
            raise JournalError(message) from error

    def _load(self, tree: dict[str, Any]) -> None:
        self.phase = Phase(tree["phase"])
        self.data = dict(tree["data"])
        self.next_net, self.next_item = tree["next"]
        self.items = {
            number: ItemEntry(number, net, task, k, ItemState(state), by, attempt)
            for number, net, task, k, state, by, attempt in tree["items"]
        }
        self.memory.entries = load_completions(tree.get("memory", ()))
        self.undoing, current = load_undoing(tree.get("undoing"))
        if self.undoing is not None and current is not None:
            self.items[self.undoing.item].undoes = current
        # Older snapshots know no deadlines of items, or less of their attempts.
        for number, spared, begun, until, progress in tree.get("attempts", ()):
            item = self.items[number]
            item.spared, item.begun, item.until, item.progress = spared, begun, until, progress
        for number, *failure in tree.get("failures", ()):
            reason, at, kind, digest, where = failure
            self.items[number].failure = (reason, at, kind, digest, where)
        self.deadlines = dict(tree.get("deadlines", ()))
        self.principal = load_deputies(tree, self.items)
        self.nets = {}
        for each in tree["nets"]:
            net = load_net(self.program, self.kernels, self.nets, each)
            self.nets[net.number] = net
        for item in self.items.values():
            self._note(item)
        self.people.load(tree)
        self.touched = {}
        self.moved.clear()


_APPLY: dict[int, Callable[..., None]] = {
    Code.CREATED: CaseState._created,
    Code.STARTED: CaseState._started,
    Code.FIRED: CaseState._fired,
    Code.BEGUN: CaseState._begun,
    Code.FINISHED: CaseState._finished,
    Code.FORCED: CaseState._forced,
    Code.INSTANCE_ADDED: CaseState._instance_added,
    Code.INSTANCES_CLOSED: CaseState._instances_closed,
    Code.ABORTED: CaseState._aborted,
    Code.WITHDRAWN: CaseState._withdrawn,
    Code.OFFERED: CaseState._offered,
    Code.OFFER_WITHDRAWN: CaseState._offer_withdrawn,
    Code.TIMER_SET: CaseState._timer_set,
    Code.TIMER_CLEARED: CaseState._timer_cleared,
    Code.TRIGGER_HELD: CaseState._trigger_held,
    Code.DATA: CaseState._data,
    Code.ITEM: CaseState._item,
    Code.PHASE: CaseState._phase,
    Code.ATTEMPT_FAILED: CaseState._attempt_failed,
    Code.CLAIMED: CaseState._claimed,
    Code.CLAIM_EXPIRED: CaseState._claim_expired,
    Code.ATTEMPTS_UNTIL: CaseState._attempts_until,
    Code.ATTEMPTS_SPARED: CaseState._attempts_spared,
    Code.PROGRESSED: CaseState._progressed,
    Code.REPLAYED: CaseState._replayed,
    Code.DISCARDED: CaseState._discarded,
    Code.RAISED: CaseState._raised,
    Code.DEADLINE_SET: CaseState._deadline_set,
    Code.DEADLINE_CLEARED: CaseState._deadline_cleared,
    Code.DEADLINE_PASSED: CaseState._deadline_passed,
    Code.UNDOING: CaseState._undoing,
    Code.UNDONE: CaseState._undone,
    Code.ROUTED: CaseState._routed,
    Code.SAVED: CaseState._saved,
    Code.ESCALATION_SET: CaseState._escalation_set,
    Code.ESCALATED: CaseState._escalated,
    Code.CHAINED: CaseState._chained,
    Code.SKIPPED: CaseState._skipped,
    Code.MIGRATED: CaseState._migrated,
    Code.STANDS_IN: CaseState._stands_in,
    Code.WORKLET_CALLED: CaseState._called,
}
