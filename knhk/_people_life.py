"""The commands that only work of people takes: whom it is offered to, handed on, saved, skipped, and who goes on with what.

The core checks what it can judge from the case: the state, and who did what (four-eyes).
Who may give which command is for the driver, which has the directory (`knhk.work.people`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from knhk._codes import Code, Phase
from knhk._item_life import ItemLife, illegal
from knhk._lower import Kind
from knhk._people_rules import check_separate
from knhk._questions import given_back
from knhk.errors import IllegalTransition
from knhk.spec import Initiator
from knhk.workitem import PEOPLE, TRANSITIONS, ItemEntry, ItemState


class PeopleLife(ItemLife):
    """The commands on work of people, by the numbers of its items; `knhk.case.Case` tells of the rest."""

    __slots__ = ()

    def route_item(self, number: int, audience: Sequence[str] | None, *, at: int, filtered: bool = True) -> None:
        """
        Say whom an item is offered to.

        Args:
            number: the item: offered, unoffered or allocated.
            audience: each as ``role:clerk`` or ``participant:ann``. None: nobody; it waits, unoffered.
            at: now.
            filtered: whether these must also have the capabilities and positions that the task asks for.
        """
        with self._command(at, Phase.RUNNING, Phase.FAILED):
            item = self._of_people(number, "offer")
            if item.state not in (ItemState.UNOFFERED, ItemState.OFFERED, ItemState.ALLOCATED):
                raise illegal(self.path(item), item, "offer")
            state = ItemState.UNOFFERED if audience is None else ItemState.OFFERED
            self._record(Code.ROUTED, number, state.value, None if audience is None else list(audience), filtered)

    def allocate_item(self, number: int, to: str, *, at: int, start: bool = False) -> None:
        """
        Give an item to a participant, whoever had it; it is started at once where its task or `start` says so.

        Raises:
            Forbidden: he did a task that this one is separate from.
        """
        with self._command(at, Phase.RUNNING, Phase.FAILED):
            item = self._of_people(number, "allocate")
            if (item.state, "allocate") not in TRANSITIONS:
                raise illegal(self.path(item), item, "allocate")
            self._allocate(item, to, "allocate", start=start)

    def delegate_item(self, number: int, to: str, *, at: int) -> None:
        """Hand an allocated item to another participant; raises Forbidden as `allocate_item`."""
        with self._command(at, Phase.RUNNING):
            item = self._in_state(number, "delegate")
            self._allocate(item, to, "delegate", start=False)

    def reallocate_item(self, number: int, to: str, *, at: int, keep: bool) -> None:
        """
        Hand a started or suspended item to another participant, in the state in which it is; raises Forbidden.

        Args:
            number: the item.
            to: who goes on with it.
            at: now.
            keep: whether what was saved of its output goes with it (stateful), or is dropped (stateless).
        """
        with self._command(at, Phase.RUNNING):
            item = self._in_state(number, "reallocate")
            check_separate(self.state, item, to, "reallocate")
            self._record(Code.ITEM, number, item.state.value, to, item.attempt)
            post = self.state.people.posts.get(number)
            if not keep and post is not None and post.draft is not None:
                self._record(Code.SAVED, number, None)

    def save_item(self, number: int, draft: Mapping[str, Any], *, at: int) -> None:
        """Keep what there is of the output of started work; it joins the output when the work is completed."""
        with self._command(at, Phase.RUNNING):
            item = self._in_state(number, "save")
            post = self.state.people.posts.get(item.number)
            before = {} if post is None or post.draft is None else post.draft
            self._record(Code.SAVED, number, {**before, **draft})

    def skip_item(self, number: int, *, at: int, by: str = "") -> None:
        """Complete an item without its work being done; raises Forbidden."""
        with self._command(at, Phase.RUNNING):
            item = self._in_state(number, "skip")
            net = self.state.nets[item.net]
            plan = net.plan.plans[item.task]
            who = by or item.by
            check_separate(self.state, item, who, "skip")
            if given_back(self.state, net, item.task, item.instance) is item:
                self._start_again(item, who)
            elif item.state is not ItemState.STARTED:
                if plan.task.multiple is not None:
                    raise self._refusal(self.path(item), "skip", "it has several instances; start it first")
                self._begin(net, item.task, who)
            self._record(Code.SKIPPED, number, who)
            self._finish(net, item.task, item.instance, None)
            self._drive()

    def chain(self, by: str, *, at: int, chained: bool = True) -> None:
        """Note that a participant takes up at once what comes up for him in this case, or that he no longer does."""
        with self._command(at, Phase.RUNNING, Phase.FAILED):
            if chained is not (by in self.state.people.chains):
                self._record(Code.CHAINED, by, chained)

    # --- inside -------------------------------------------------------------------------------------------------------

    def _of_people(self, number: int, command: str) -> ItemEntry:
        item = self.item(number)
        if self.plan(item).kind is not Kind.MANUAL:
            raise self._refusal(self.path(item), command, "it is not work of people")
        return item

    def _in_state(self, number: int, command: str) -> ItemEntry:
        item = self._of_people(number, command)
        states = [each.value for each in PEOPLE[command]]
        if item.state.value not in states:
            message = (
                f"cannot {command} work item {self.path(item)}: it is {item.state.value}, and has to be "
                f"{' or '.join(states)}"
            )
            raise IllegalTransition(message, status=item.state.value, command=command, allowed=())
        return item

    def _allocate(self, item: ItemEntry, to: str, command: str, *, start: bool) -> None:
        check_separate(self.state, item, to, command)
        net = self.state.nets[item.net]
        self._record(Code.ITEM, item.number, ItemState.ALLOCATED.value, to, item.attempt)
        manual = net.plan.plans[item.task].people
        if start or (manual is not None and manual.start is Initiator.SYSTEM):
            if given_back(self.state, net, item.task, item.instance) is item:
                self._start_again(item, to)
            else:
                self._begin(net, item.task, to)
        self._drive()
