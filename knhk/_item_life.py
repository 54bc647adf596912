"""The life of a case's work items: started, handed on, laid aside, failed, tried again, completed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from knhk._case_state import Code, NetInstance, Phase
from knhk._course import Course
from knhk._lower import Kind
from knhk._people_rules import check_separate, escalated
from knhk._questions import Due, given_back, next_due
from knhk.errors import IllegalTransition, InternalError
from knhk.workitem import TRANSITIONS, ItemEntry, ItemState, allowed, backoff


class ItemLife(Course):
    """The commands on work items, by their numbers; `knhk.case.Case` tells of the rest."""

    __slots__ = ()

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
                if due.escalates:
                    self._escalate(self.state.items[due.item], due.at)
                elif due.item:
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

    # --- commands -----------------------------------------------------------------------------------------------------

    def start_item(self, number: int, *, at: int, by: str = "") -> None:
        """Start an offered or allocated work item, by its number."""
        with self._command(at, Phase.RUNNING):
            item = self.item(number)
            if (item.state, "start") not in TRANSITIONS:
                raise illegal(self.path(item), item, "start")
            check_separate(self.state, item, by or item.by, "start")
            net = self.state.nets[item.net]
            if given_back(self.state, net, item.task, item.instance) is item:
                self._start_again(item, by or item.by)
            else:
                self._begin(net, item.task, by or item.by)
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
            offered = self.state.items[net.offers[task]]
            if offered.state is ItemState.UNOFFERED:
                raise illegal(net.path(task, k), offered, "complete")
            check_separate(self.state, offered, by or offered.by, "complete")
            self._begin(net, task, by or offered.by)
            self._drive()
            activity = net.activities.get(task)
        if activity is None or k not in activity.open or net.plan.plans[task].kind is Kind.SUBNET:
            raise self._refusal(net.path(task, k), "complete", "it is not started")
        item = self.state.items[activity.open[k]]
        if (item.state, "complete") not in TRANSITIONS:
            raise illegal(net.path(task, k), item, "complete")
        if by and item.by not in ("", by) and net.plan.plans[task].kind is Kind.EXTERNAL:
            # The claim of whoever completes it has run out, and somebody else has it now.
            raise self._refusal(net.path(task, k), "complete", f"it belongs to {item.by!r} now, not to {by!r}")
        if net.plan.plans[task].kind is Kind.MANUAL:
            output = self._done_by(item, output, by or item.by)
        self._finish(net, task, k, output)
        self._drive()

    def _done_by(self, item: ItemEntry, output: dict[str, Any] | None, who: str) -> dict[str, Any] | None:
        """Note who completes work of people, where that matters; returns its output with what was saved of it."""
        plan = self.plan(item)
        check_separate(self.state, item, who, "complete")
        noted = (item.state, item.by) == (ItemState.STARTED, who)
        if who and not noted and (plan.people is not None or plan.remembered):
            self._record(Code.ITEM, item.number, ItemState.STARTED.value, who, item.attempt)
        post = self.state.people.posts.get(item.number)
        return output if post is None or post.draft is None else {**post.draft, **(output or {})}

    def change_item(self, number: int, command: str, *, at: int, by: str | None = None) -> None:
        """Allocate, offer, suspend, resume, fail or retry a work item, as `knhk.workitem.TRANSITIONS` allows."""
        with self._command(at, Phase.RUNNING, Phase.FAILED):
            item = self.item(number)
            state = TRANSITIONS.get((item.state, command))
            if state is None or command in ("start", "complete"):
                raise illegal(self.path(item), item, command)
            if command == "fail":
                self._fail(item, "")
            else:
                if state in (ItemState.ALLOCATED, ItemState.STARTED):
                    check_separate(self.state, item, by or item.by, command)
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
                raise illegal(self.path(item), item, "fail")
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

    def automatic_work(self) -> list[ItemEntry]:
        """Return the started items that wait for their handler, by number."""
        return [self.state.items[number] for number in self.state.work]

    def next_due(self) -> Due | None:
        """Return what comes due first: a timer whose task could run, a retry, or the end of a claim; None: nothing."""
        return next_due(self.state)

    # --- inside -------------------------------------------------------------------------------------------------------

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

    def _escalate(self, item: ItemEntry, due: int) -> None:
        """Take the next step of an item's escalation, or pass it over."""
        manual = self.plan(item).people
        if manual is None:
            raise InternalError(f"{self.path(item)} escalates, and nothing says how")
        self._record(*escalated(manual, item, self.state.people.posts[item.number].step, due))

    def _start_again(self, item: ItemEntry, by: str) -> None:
        """Start work that waits while its task is running: given back, or one of several instances that are shared out."""
        attempt = item.attempt + (self.plan(item).kind is Kind.EXTERNAL)
        self._record(Code.ITEM, item.number, ItemState.STARTED.value, by, attempt)
        self._claim(self.state.nets[item.net], item.task)


def illegal(name: str, item: ItemEntry, command: str) -> IllegalTransition:
    """Return the refusal of a command that does not fit the item's state."""
    options = allowed(item.state)
    message = f"cannot {command} work item {name}: it is {item.state.value}; allowed: {', '.join(options) or 'nothing'}"
    return IllegalTransition(message, status=item.state.value, command=command, allowed=options)
