"""The commands on external work that is claimed under a lease, and on work that has failed for good.

A claim is known by the item's number and the number of the attempt that it began, which no later one has: that is the fence.
Whoever comes with another number, or after the lease has ended, is refused, whether or not somebody noticed that it ended.
"""

from __future__ import annotations

from typing import Final

from knhk._attempts import Failure
from knhk._codes import Code, End, Phase
from knhk._decisions import choose
from knhk._item_life import illegal
from knhk._lower import Kind
from knhk._people_life import PeopleLife
from knhk._questions import given_back
from knhk.errors import ClaimLost, IllegalTransition
from knhk.workitem import ItemEntry, ItemState, has_failed_for_good

LEASE: Final = 30_000
"""How long a claim is held in milliseconds where neither the worker nor the task says."""


class Claiming(PeopleLife):
    """Claims, replays and discards; `knhk.case.Case` tells of the rest."""

    __slots__ = ()

    # --- claims -------------------------------------------------------------------------------------------------------

    def claim_item(self, number: int, *, by: str, lease: int | None, most: int, at: int) -> list[int]:
        """
        Start offered external work under a lease.

        Of a multiple-instance task all instances start; those beyond `most` are offered, each for itself.

        Args:
            number: the item.
            by: the worker.
            lease: how long the claim is held, in milliseconds, but never longer than the task's `timeout`; None: so long.
            most: how many instances the worker takes.
            at: now.

        Returns:
            The numbers of the items that the worker has.

        Raises:
            IllegalTransition: it is not offered, or not for programs.
        """
        with self._command(at, Phase.RUNNING):
            item = self.item(number)
            external = item.undoes is None and self.plan(item).kind is Kind.EXTERNAL
            if not external or item.state is not ItemState.OFFERED:
                raise illegal(self.path(item), item, "claim")
            net = self.state.nets[item.net]
            mine = [number]
            if given_back(self.state, net, item.task, item.instance) is item:
                self._start_again(item, by)
            else:
                before = self.state.next_item
                self._begin(net, item.task, by)
                activity = net.activities.get(item.task)
                opened = [] if activity is None else list(activity.open.values())
                mine = [each for each in opened if each == number or each >= before]
                for surplus in mine[most:]:
                    self._record(Code.ITEM, surplus, ItemState.OFFERED.value, "", 0)
                del mine[most:]
            for each in mine:
                self._hold(self.state.items[each], lease)
            self._drive()
            return [each for each in mine if each in self.state.items]

    def extend_claim(self, number: int, attempt: int, lease: int | None, *, at: int) -> int:
        """Let a claim be held for so long from now on, as `claim_item`; returns when it ends."""
        with self._command(at, Phase.RUNNING, Phase.FAILED):
            self.check_claim(number, attempt, "extend", at=at)
            self._hold(self.item(number), lease)
            return self.state.deadlines[number]

    def release_claim(self, number: int, attempt: int, *, at: int) -> None:
        """Offer claimed work again before its lease ends: the attempt does not count."""
        with self._command(at, Phase.RUNNING, Phase.FAILED):
            item = self.check_claim(number, attempt, "release", at=at)
            self._record(Code.ATTEMPTS_SPARED, number, item.spared + 1)
            self._record(Code.ITEM, number, ItemState.OFFERED.value, "", item.attempt)

    def check_claim(self, number: int, attempt: int, command: str, *, at: int) -> ItemEntry:
        """
        Return the item of a claim.

        Raises:
            ClaimLost: whoever claimed it has it no more.
        """
        item = self.state.items.get(number)
        if item is None:
            message = f"cannot {command} work item {number}: it is gone, completed or withdrawn"
            raise ClaimLost(message, status=self.state.phase.value, command=command)
        reason = ""
        due = self.state.deadlines.get(number)
        if item.attempt != attempt:
            reason = f"attempt {attempt} is over, the last is {item.attempt}"
        elif item.state not in (ItemState.STARTED, ItemState.SUSPENDED):
            reason = f"attempt {attempt} is over, it is {item.state.value}"
        elif due is not None and at >= due:
            reason = f"the lease ended at {due}, now it is {at}"
        if reason:
            message = f"cannot {command} {self.path(item)}: {reason}"
            raise ClaimLost(message, status=item.state.value, command=command)
        return item

    def _hold(self, item: ItemEntry, lease: int | None) -> None:
        """Set when the claim on a started item ends, and with the first one when all attempts must be over."""
        task, retry = self.plan(item).task, self.retry(item)
        timeout = None if task.external is None else task.external.timeout
        spans = [each for each in (lease, timeout) if each is not None]
        if retry is not None and retry.deadline is not None and item.until is None:
            self._record(Code.ATTEMPTS_UNTIL, item.number, self._now + retry.deadline)
        end = self._now + min(spans, default=LEASE)
        self._record(Code.CLAIMED, [item.number], end if item.until is None else min(end, item.until))

    def fail_claimed(self, number: int, attempt: int, failure: Failure, *, at: int) -> bool:
        """Note that a claimed attempt failed, as `fail_attempt`; raises ClaimLost where it is not the worker's any more."""
        item = self.check_claim(number, attempt, "fail", at=at)
        return self.fail_attempt(number, failure, at=at, by=item.by)

    # --- what has failed for good -------------------------------------------------------------------------------------

    def replay_item(self, number: int, *, at: int, by: str = "") -> None:
        """Give work that has failed for good all its attempts anew: a handler's is for the next run, external is offered."""
        with self._on_item(number, at, Phase.RUNNING, Phase.FAILED):
            item = self._dead(number, "replay")
            self._record(Code.REPLAYED, number, by)
            external = self.plan(item).kind is Kind.EXTERNAL
            state = ItemState.OFFERED if external else ItemState.STARTED
            self._record(Code.ITEM, number, state.value, "" if external else item.by, item.attempt)
            self._call_again(item)
            if self.state.phase is Phase.FAILED:
                self._record(Code.PHASE, Phase.RUNNING.value)
            self._drive()

    def discard_item(self, number: int, *, by: str, reason: str, at: int) -> None:
        """
        Give up work that has failed for good.

        Its task's thread of control is gone, as by `cancel_task`.
        Of a multiple-instance task only this instance ends, without a result; where it was the last one, control passes.
        """
        with self._on_item(number, at, Phase.RUNNING, Phase.FAILED):
            item = self._dead(number, "discard")
            if item.undoes is not None:
                raise illegal(self.path(item), item, "discard")
            net = self.state.nets[item.net]
            activity, multiple = net.activities[item.task], net.plan.plans[item.task].task.multiple
            end, chosen = End.NOTHING, None
            if multiple is not None and multiple.detached:
                end = End.DETACHED
            elif multiple is not None and len(activity.open) == 1:
                end = End.RELEASES if activity.passed else End.COMPLETES
                chosen = None if activity.passed else choose(net, item.task, self.state.data)
            self._record(Code.DISCARDED, number, by, reason, int(end), chosen)
            self._drive()

    def _dead(self, number: int, command: str) -> ItemEntry:
        item = self.item(number)
        if number in self.state.deadlines and item.state is ItemState.FAILED:
            message = (
                f"cannot {command} {self.path(item)}: it is tried again by itself at {self.state.deadlines[number]}"
            )
            raise IllegalTransition(message, status=item.state.value, command=command, allowed=("retry",))
        if not has_failed_for_good(item, self.state.deadlines):
            raise illegal(self.path(item), item, command)
        return item
