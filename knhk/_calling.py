"""Worklets: which specification runs in the place of work, and what its end does to the task.

A *worklet* is the task's work from the start, an *exlet* takes the place of work that has failed for good.
Either way the work item is replaced: the driver (`knhk.work.worklets`) creates a case of that specification, and tells here how
it ended.  A worklet that failed is an error like any other, and one that ran as an exlet lets the error that it was called for go
on, to the error flows; there is no exlet of an exlet.

Adams, ter Hofstede, Edmond & van der Aalst, "Worklets: A Service-Oriented Implementation of Dynamic Flexibility in Workflows"
(CoopIS 2006).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from knhk._attempts import Failure
from knhk._claiming import Claiming
from knhk._codes import Code, Phase
from knhk._decisions import mapped
from knhk._lower import Rule
from knhk._net_instance import NetInstance
from knhk._raising import Fault
from knhk.errors import DataError, IllegalTransition
from knhk.workitem import Deputy, ItemEntry, ItemState


class Calling(Claiming):
    """What a case does with worklets; `knhk.case.Case` tells of the rest."""

    __slots__ = ()

    # --- what the driver tells ----------------------------------------------------------------------------------------

    def complete_worklet(self, number: int, output: Mapping[str, Any], *, at: int) -> None:
        """
        Complete the work in whose place a worklet ran.

        Args:
            number: the work item.
            output: what the worklet's case added to the data that it was given, or changed in them.
            at: now.

        Raises:
            IllegalTransition: no worklet runs in its place.
            DataError: the task's output mapping fails on this, or the schema, or what the task ensures, refuses it.
        """
        with self._command(at, Phase.RUNNING, Phase.FAILED):
            item = self.item(number)
            self._deputy(item, "complete")
            net = self.state.nets[item.net]
            given = dict(output)
            mapping = net.plan.plans[item.task].output
            if mapping is not None:
                variables = {**self._mapping_variables(net, item.task, item.instance), "output": given}
                given = mapped(mapping, variables, f"{self.path(item)}: output")
            self._finish(net, item.task, item.instance, given or None)
            self._drive()

    def fail_worklet(self, number: int, failure: Failure, *, at: int) -> bool:
        """
        Fail the work in whose place a worklet ran.

        Args:
            number: the work item.
            failure: of the worklet; where it was an exlet, the error that it was called for is what goes on.
            at: now.

        Returns:
            Whether anybody takes the error; else the item has failed for good.
        """
        with self._command(at, Phase.RUNNING, Phase.FAILED):
            item = self.item(number)
            deputy = self._deputy(item, "fail")
            if deputy.error is not None:
                first = f"{deputy.error['type']}: {deputy.error['message']}"
                failure = Failure(text=f"{first}; {failure.text}", kinds=(*deputy.kinds, *failure.kinds))
            caught = self._fail_call(item, failure)
            self._drive()
            return caught

    def take_unchosen(self) -> tuple[str, ...]:
        """Return, once, what there is to tell of work for which no worklet could be called and whose error nobody took."""
        taken, self.unchosen = self.unchosen, ()
        return taken

    # --- inside -------------------------------------------------------------------------------------------------------

    def _call_worklets(self, net: NetInstance, task: int) -> None:
        activity = net.activities.get(task)
        for number in [] if activity is None else list(activity.open.values()):
            item = self.state.items.get(number)
            # What failed before it may have ended the task.
            if item is not None and item.state is ItemState.STARTED:
                self._call_worklet(item)

    def _call_worklet(self, item: ItemEntry) -> None:
        plan = self.plan(item)
        net = self.state.nets[item.net]
        try:
            rule = self._first(plan.worklets, self._mapping_variables(net, item.task, item.instance), self.path(item))
            given = None if plan.input is None else self.work_data(item.number)
        except DataError as error:
            self._fail_choice(item, Failure(text=f"DataError: {error}", kinds=("DataError",)))
            return
        if rule is None:
            text = "NoWorklet: none of its rules holds"
            self._fail_choice(item, Failure(text=text, kinds=("NoWorklet", "WorkletFailed")))
        elif self._too_deep:
            text = f"LimitExceeded: worklets are {self._limits.worklets} deep (limit worklets={self._limits.worklets})"
            self._fail_choice(item, Failure(text=text, kinds=("LimitExceeded", "WorkletFailed")))
        else:
            self._record(Code.WORKLET_CALLED, item.number, rule.worklet, given, None, [])

    def _call_exlet(self, net: NetInstance, task: int, k: int, fault: Fault) -> bool:
        plan, activity = net.plan.plans[task], net.activities.get(task)
        item = None if activity is None else self.state.items.get(activity.open.get(k, -1))
        if item is None and (k or plan.task.multiple is not None or not net.marking.is_ready(task)):
            # A task of several instances has no exlet as a whole, only each of them.
            return False
        if item is not None and item.deputy is not None and item.deputy.error is not None:
            return False
        if self._too_deep:
            return False
        error = fault.told()
        variables = {**({"data": self.state.data} if item is None else self._mapping_variables(net, task, k))}
        fitting = tuple(rule for rule in plan.exlets if not rule.errors or not rule.errors.isdisjoint(fault.kinds))
        try:
            rule = self._first(fitting, {**variables, "error": error}, fault.task)
        except DataError:
            # A rule that cannot be judged does not hold; the error that there is goes on, and is told.
            rule = None
        if rule is None:
            return False
        if item is None:
            self._record(Code.BEGUN, net.number, task, 0, None, "", None)
            item = self.state.items[net.activities[task].open[0]]
        try:
            given = None if plan.input is None else self.work_data(item.number)
        except DataError:
            # That may be what went wrong; the worklet sees all that the case has.
            given = None
        self._record(Code.WORKLET_CALLED, item.number, rule.worklet, given, error, list(fault.kinds))
        return True

    def _first(self, rules: tuple[Rule, ...], variables: dict[str, Any], place: str) -> Rule | None:
        """Return the first rule that holds."""
        return next((each for each in rules if each.predicate is None or each.predicate.test(variables, place)), None)

    @property
    def _too_deep(self) -> bool:
        principal = self.state.principal
        return (0 if principal is None else principal.depth) >= self._limits.worklets

    def _fail_choice(self, item: ItemEntry, failure: Failure) -> None:
        path = self.path(item)
        if not self._fail_call(item, failure):
            self.unchosen += (f"{path}: {failure.text}",)

    def _fail_call(self, item: ItemEntry, failure: Failure) -> bool:
        self._record(Code.ATTEMPT_FAILED, item.number, failure.text, None, self._about(failure))
        return self._raise_failure(item, failure)

    def _deputy(self, item: ItemEntry, command: str) -> Deputy:
        if item.state is not ItemState.REPLACED or item.deputy is None:
            message = f"cannot {command} {self.path(item)}: no worklet runs in its place, it is {item.state.value}"
            raise IllegalTransition(message, status=item.state.value, command=command, allowed=())
        return item.deputy
