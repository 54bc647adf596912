"""Errors that leave a task: who catches them, and what follows.

The work of a task has *failed for good* when no further attempt is made.
Its error is then matched against the error flows of its task, then of the composite task that its net stands for, and so on
outwards; the first that names it takes it: the task completes along that flow alone, and what it was about is withdrawn.
What nobody catches is what it was: a failed item that waits for a person.
Before all of them comes an exlet: a worklet that runs in the place of the work that failed (`knhk._calling`).

An error flow is an ordinary output of an XOR-split that no predicate ever chooses (`knhk._lower`), so the token game knows
nothing of failure.  The words are those of BPMN's interrupting error boundary events, and of Russell, van der Aalst & ter
Hofstede, "Workflow Exception Patterns" (CAiSE 2006).
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import attrs

from knhk._attempts import Failure
from knhk._case_state import CaseState
from knhk._codes import Code, Phase
from knhk._course import Course
from knhk._decisions import hold
from knhk._lower import Kind, TaskPlan
from knhk._net_instance import NetInstance
from knhk.errors import ConstraintViolation, DataError
from knhk.spec import ANY_ERROR
from knhk.spec.durations import format_duration
from knhk.workitem import ItemEntry, ItemState


@attrs.frozen(kw_only=True)
class Fault:
    """
    What went wrong for good.

    Args:
        kinds: the names that error flows may have for it, the most exact one first.
        message: what people are told of it.
        task: the path of the task or instance that it happened to.
        attempts: how many there were.
    """

    kinds: tuple[str, ...]
    message: str
    task: str
    attempts: int = 0

    def told(self) -> dict[str, Any]:
        """Return it as the case's data and history have it."""
        return {"type": self.kinds[0], "message": self.message, "task": self.task, "attempts": self.attempts}


@attrs.frozen
class Catch:
    """Who catches an error: a task in a net, the instance that it came through (0: none), and the output that it takes."""

    net: NetInstance
    task: int
    instance: int
    position: int


def catcher(state: CaseState, net: NetInstance, task: int, k: int, kinds: tuple[str, ...]) -> Catch | None:
    """
    Find who catches an error.

    Args:
        state: the case.
        net, task, k: where it happened; k 0 is the task as a whole.
        kinds: the error's names.
    """
    while not _goes_on_without(state, net, task, k):
        for error in net.plan.plans[task].errors:
            if ANY_ERROR in error.names or not error.names.isdisjoint(kinds):
                return Catch(net, task, k, error.position)
        if net.parent is None:
            return None
        net, task, k = net.parent, net.task, net.instance
    return None


def _goes_on_without(state: CaseState, net: NetInstance, task: int, k: int) -> bool:
    """Whether the end of an instance is no end of its task: control has passed, or its threshold can still be reached."""
    multiple = net.plan.plans[task].task.multiple
    activity = net.activities.get(task)
    if multiple is None or activity is None or k == 0:
        return False
    if multiple.detached or activity.passed:
        return True
    if multiple.threshold is None:
        return False
    lost = _lost(state)
    subnet = net.plan.plans[task].kind is Kind.SUBNET
    hopeful = sum(1 for other, number in activity.open.items() if other != k and (number, subnet) not in lost)
    return activity.completed + hopeful >= min(multiple.threshold, activity.created)


def _lost(state: CaseState) -> set[tuple[int, bool]]:
    """Return what has failed for good and nobody caught: (item, False), and (net, True) for all nets around it."""
    lost: set[tuple[int, bool]] = set()
    for item in state.items.values():
        if item.state is ItemState.FAILED and item.number not in state.deadlines and item.undoes is None:
            lost.add((item.number, False))
            net: NetInstance | None = state.nets[item.net]
            while net is not None:
                lost.add((net.number, True))
                net = net.parent
    return lost


class Raising(Course):
    """What a case does when work has failed for good."""

    __slots__ = ()

    def _raise_failure(self, item: ItemEntry, failure: Failure) -> bool:
        """Let whoever catches it have the error of an item that has failed for good; False where nobody does."""
        kinds = failure.kinds or ("Failed",)
        _, mark, rest = failure.text.partition(": ")
        message = rest if mark and failure.text.startswith(kinds[0]) else failure.text
        fault = Fault(kinds=kinds, message=message, task=self.path(item), attempts=item.attempt)
        return self._raise(self.state.nets[item.net], item.task, item.instance, fault)

    @abstractmethod
    def _call_exlet(self, net: NetInstance, task: int, k: int, fault: Fault) -> bool:
        """Whether a worklet runs now in the place of what has failed; `knhk._calling` tells."""

    def _raise(self, net: NetInstance, task: int, k: int, fault: Fault) -> bool:
        if net.plan.plans[task].exlets and self._call_exlet(net, task, k, fault):
            return True
        catch = catcher(self.state, net, task, k, fault.kinds)
        if catch is None:
            return False
        error = fault.told()
        net, task = catch.net, catch.task
        caught = [net.number, task, catch.instance, catch.position, error, self._takes(error)]
        if self.state.memory.holds(self.state.nets_inside(net, task), net.number, task):
            self._record(Code.UNDOING, caught)
        else:
            self._record(Code.RAISED, *caught)
        return True

    def _pass_deadline(self, net: NetInstance, task: int) -> None:
        """Fail a task, offered or started, that is not complete in time; where nobody takes that it goes on, and shows."""
        self._record(Code.DEADLINE_PASSED, net.number, task)
        deadline = net.plan.plans[task].task.deadline
        span = format_duration(0 if deadline is None else deadline.after)
        activity = net.activities.get(task)
        items = [] if activity is None or net.plan.plans[task].kind is Kind.SUBNET else activity.open.values()
        attempts = max((self.state.items[number].attempt for number in items), default=0)
        fault = Fault(kinds=("Deadline",), message=f"not complete after {span}", task=net.path(task), attempts=attempts)
        self._raise(net, task, 0, fault)

    def _stands_in_the_way(self, net: NetInstance, task: int, plan: TaskPlan) -> bool:
        try:
            if plan.requires is not None:
                hold(plan.requires, "requires", self.state.data, net.path(task))
            if plan.ensures is not None and plan.kind is Kind.ROUTING:
                hold(plan.ensures, "ensures", self.state.data, net.path(task))
        except ConstraintViolation as error:
            if not self._raise_violation(net, task, 0, error):
                raise
            return True
        return False

    def _guard_offers(self) -> bool:
        for net in [self.state.nets[number] for number in self._visited if number in self.state.nets]:
            for task in net.plan.conditional:
                requires = net.plan.plans[task].requires
                if requires is None or task in net.offers or not net.is_offerable(task):
                    continue
                try:
                    hold(requires, "requires", self.state.data, net.path(task))
                except ConstraintViolation as error:
                    if not self._raise_violation(net, task, 0, error):
                        raise
                    return True
        return False

    def _end_net(self, net: NetInstance) -> None:
        try:
            super()._end_net(net)
        except ConstraintViolation as error:
            # There is nobody who could bring another result.
            if net.parent is None or not self._raise_violation(net.parent, net.task, net.instance, error):
                raise

    def _raise_violation(self, net: NetInstance, task: int, k: int, error: ConstraintViolation) -> bool:
        self._count_step(net, task)
        kinds = ("ConstraintViolation", "DataError")
        return self._raise(net, task, k, Fault(kinds=kinds, message=str(error), task=net.path(task, k)))

    def _end_compensation(self, item: ItemEntry, output: dict[str, Any] | None) -> None:
        if output:
            self._merged(output)
        self._record(Code.UNDONE, item.number, output)
        self._drive()

    def _keep_undoing(self) -> None:
        state, undoing = self.state, self.state.undoing
        if undoing is None:
            return
        if not undoing.item:
            if undoing.then is None:
                self._record(Code.PHASE, Phase.CANCELLED.value)
            else:
                self._record(Code.RAISED, *undoing.then)
            return
        failed = state.items[undoing.item].state is ItemState.FAILED and undoing.item not in state.deadlines
        phase = Phase.FAILED if failed else Phase.COMPENSATING
        if phase is not state.phase:
            self._record(Code.PHASE, phase.value)

    def _takes(self, error: dict[str, Any]) -> bool:
        """Whether the schema of the data has a place for an error; where it has none, only the history tells of it."""
        try:
            self._merged({"error": error})
        except DataError:
            return False
        return True
