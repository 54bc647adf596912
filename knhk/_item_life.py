"""The life of a case's work items: started, handed on, laid aside, failed, tried again, completed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from knhk._attempts import Failure, is_retryable, next_attempt, why_no_further, why_no_further_claim
from knhk._codes import Code, End, Phase
from knhk._course import Undo
from knhk._decisions import choose, mapped
from knhk._lower import Kind, TaskPlan
from knhk._net_instance import NetInstance
from knhk._people_rules import check_separate, escalated
from knhk._questions import Due, given_back, next_due
from knhk._raising import Raising
from knhk.errors import IllegalTransition, InternalError
from knhk.spec import Retry
from knhk.workitem import TRANSITIONS, ItemEntry, ItemState, allowed

# Up to Python 3.11 a member of an enumeration costs as much to look up as a method to call.
_RUNNING: Final = Phase.RUNNING
_SUBNET: Final = Kind.SUBNET
_EXTERNAL: Final = Kind.EXTERNAL
_MANUAL: Final = Kind.MANUAL
_BEGUN: Final = Code.BEGUN
_FINISHED: Final = Code.FINISHED
_COMPLETES: Final = int(End.COMPLETES)
_UNOFFERED: Final = ItemState.UNOFFERED


class ItemLife(Raising):
    """The commands on work items, by their numbers; `knhk.case.Case` tells of the rest."""

    __slots__ = ()

    def advance(self, *, at: int) -> int:
        """
        Do what is due, in deadline order, each at its own time: timers run, failed work gets its next attempt, claims
        end, deadlines pass.

        Returns:
            How many of these there were.
        """
        ran = 0
        while self.state.phase in (Phase.RUNNING, Phase.COMPENSATING):
            due = self.next_due()
            if due is None or due.at > at:
                break
            with self._command(due.at, Phase.RUNNING, Phase.COMPENSATING):
                if due.deadline:
                    self._pass_deadline(self.state.nets[due.net], due.task)
                elif due.escalates:
                    self._escalate(self.state.items[due.item], due.at)
                elif due.item:
                    self._come_due(self.state.items[due.item])
                elif not due.stuck:
                    self._begin(self.state.nets[due.net], due.task, "")
                self._drive()
            ran += not due.stuck
        return ran

    def retry_due(self, *, at: int) -> int:
        """Give failed work whose wait is over its next attempt; returns how much there was."""
        with self._command(at, Phase.RUNNING, Phase.COMPENSATING):
            undoing = self.state.undoing
            waited = [
                item
                for due, item in sorted((due, number) for number, due in self.state.deadlines.items())
                if due <= at and self.state.items[item].state is ItemState.FAILED
                if undoing is None or item == undoing.item
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
                self._drive()
            else:
                self._start_offered(net, item.task, by or item.by)

    def complete_item(self, number: int, output: Mapping[str, Any] | None = None, *, at: int, by: str = "") -> None:
        """Complete a work item, by its number; an offered one is started first."""
        with self._on_item(number, at, Phase.RUNNING, Phase.FAILED):
            item = self.item(number)
            if item.undoes is not None:
                if (item.state, "complete") not in TRANSITIONS:
                    raise illegal(self.path(item), item, "complete")
                self._end_compensation(item, None if output is None else dict(output))
                return
            net = self.state.nets[item.net]
            self._complete(net, item.task, item.instance, None if output is None else dict(output), by)

    def _complete(self, net: NetInstance, task: int, k: int, output: dict[str, Any] | None, by: str) -> None:
        plan = net.plan.plans[task]
        if k == 0 and plan.task.multiple is None and net.is_offerable(task):
            if task not in net.offers:
                raise self._refusal(net.path(task), "complete", "it is not offered")
            offered = self.state.items[net.offers[task]]
            if offered.state is _UNOFFERED:
                raise illegal(net.path(task, k), offered, "complete")
            if task in net.plan.at_once and self._complete_at_once(net, offered, output, by):
                return
            if plan.separate:
                check_separate(self.state, offered, by or offered.by, "complete")
            self._start_offered(net, task, by or offered.by)
        # What followed from its start may have ended the case, and with it the item.
        activity = net.activities.get(task)
        number = -1 if activity is None or plan.kind is _SUBNET else activity.open.get(k, -1)
        item = self.state.items.get(number)
        if item is None:
            raise self._refusal(net.path(task, k), "complete", "it is not started")
        if (item.state, "complete") not in TRANSITIONS:
            raise illegal(net.path(task, k), item, "complete")
        if by and item.by not in ("", by) and plan.kind is _EXTERNAL:
            # The claim of whoever completes it has run out, and somebody else has it now.
            raise self._refusal(net.path(task, k), "complete", f"it belongs to {item.by!r} now, not to {by!r}")
        if plan.kind is _MANUAL:
            output = self._done_by(item, plan, output, by or item.by)
        if plan.output is not None:
            given = {**self._mapping_variables(net, task, k), "output": output or {}}
            output = mapped(plan.output, given, f"{net.path(task, k)}: output")
        self._finish(net, task, k, output)
        self._drive()

    def _complete_at_once(self, net: NetInstance, offered: ItemEntry, output: dict[str, Any] | None, by: str) -> bool:
        """Do for bare work what `_complete` does in several steps; False where the case has more to keep or to say of it."""
        state = self.state
        if state.memory.entries or state.phase is not _RUNNING or offered.number in state.people.posts:
            return False
        task, by = offered.task, by or offered.by
        chosen = choose(net, task, self._merged(output) if output else state.data)
        state.pass_through(net, offered, by, output, chosen)
        self._log.append((_BEGUN, net.number, task, 0, None, by, None))
        self._log.append((_FINISHED, net.number, task, 0, output, _COMPLETES, chosen))
        self._drive()
        return True

    def _done_by(
        self, item: ItemEntry, plan: TaskPlan, output: dict[str, Any] | None, who: str
    ) -> dict[str, Any] | None:
        """Note who completes work of people, where that matters; returns its output with what was saved of it."""
        if plan.separate:
            check_separate(self.state, item, who, "complete")
        matters = plan.people is not None or plan.remembered
        if who and matters and (item.state is not ItemState.STARTED or item.by != who):
            self._record(Code.ITEM, item.number, ItemState.STARTED.value, who, item.attempt)
        post = self.state.people.posts.get(item.number)
        return output if post is None or post.draft is None else {**post.draft, **(output or {})}

    def change_item(self, number: int, command: str, *, at: int, by: str | None = None) -> None:
        """
        Allocate, offer, suspend, resume, fail or retry a work item, as `knhk.workitem.TRANSITIONS` allows.

        A compensation may fail and be retried, and no more.
        """
        with self._on_item(number, at, Phase.RUNNING, Phase.FAILED):
            item = self.item(number)
            state = TRANSITIONS.get((item.state, command))
            laid_aside = item.undoes is not None and command not in ("fail", "retry")
            if state is None or laid_aside or command in ("start", "complete"):
                raise illegal(self.path(item), item, command)
            if command == "fail":
                self._fail(item, Failure(text=""))
            else:
                if item.undoes is None and state in (ItemState.ALLOCATED, ItemState.STARTED):
                    check_separate(self.state, item, by or item.by, command)
                # A handler's attempt is counted when its handler is about to run; external work is begun right here.
                again = command == "retry" and self.plan(item).kind is Kind.EXTERNAL
                if command == "retry" and number not in self.state.deadlines:
                    self._record(Code.REPLAYED, number, by or "")
                self._record(Code.ITEM, number, state.value, item.by if by is None else by, item.attempt + again)
                if item.undoes is None:
                    self._claim(self.state.nets[item.net], item.task)
                    self._call_again(item)
            if command == "retry" and self.state.phase is Phase.FAILED and item.undoes is None:
                self._record(Code.PHASE, Phase.RUNNING.value)
            self._drive()

    def fail_attempt(self, number: int, failure: Failure, *, at: int, by: str = "") -> bool:
        """
        Note that an attempt at started work failed.

        Args:
            number: the work item.
            failure: what it failed of.
            at: now; the wait for the next attempt counts from it.
            by: who says so; of external work, whoever has it, "" being anybody.

        Returns:
            Whether it is taken care of: the task's retry policy gives it another attempt, a worklet takes its place, or an error
            flow the error.
            Else the item has failed.
        """
        with self._on_item(number, at, Phase.RUNNING, Phase.FAILED):
            item = self.item(number)
            if (item.state, "fail") not in TRANSITIONS:
                raise illegal(self.path(item), item, "fail")
            if by and item.by not in ("", by) and self.plan(item).kind is Kind.EXTERNAL:
                raise self._refusal(self.path(item), "fail", f"it belongs to {item.by!r} now, not to {by!r}")
            self._fail(item, failure)
            self._drive()
            return number in self.state.deadlines or self._is_gone(number)

    def begin_attempt(self, number: int, *, at: int) -> int:
        """Note that the handler of a started item is about to run; returns which attempt this is, from 1."""
        with self._on_item(number, at, Phase.RUNNING):
            item = self.item(number)
            retry = self.retry(item)
            self._record(Code.ITEM, number, item.state.value, item.by, item.attempt + 1)
            if retry is not None and retry.deadline is not None and item.until is None:
                self._record(Code.ATTEMPTS_UNTIL, number, at + retry.deadline)
            return item.attempt

    def end_cut_off(self, number: int, *, at: int) -> str:
        """
        Fail an item whose last attempt was cut off and that may have no other.

        Returns:
            Why, where nobody takes the error; "" where it may have another, or is gone.
        """
        item = self.item(number)
        why = why_no_further(self.retry(item), item, self._limits)
        if why:
            with self._on_item(number, at, Phase.RUNNING):
                failure = Failure(text=why, kinds=("CutOff",))
                self._record(Code.ATTEMPT_FAILED, number, why, None, self._about(failure))
                caught = item.undoes is None and self._raise_failure(item, failure)
                self._drive()
            return "" if caught else why
        return ""

    def progress(self, number: int, said: Any, *, at: int) -> None:
        """Keep what the handler of a started item said of its progress, for the next attempt if there must be one."""
        with self._command(at, Phase.RUNNING, Phase.FAILED, Phase.SUSPENDED, Phase.COMPENSATING):
            item = self.item(number)
            if item.progress != said:
                self._record(Code.PROGRESSED, number, said)

    def hand_back(self, number: int, *, at: int) -> None:
        """Note that the attempt that was begun is not made after all: it does not count, and another may be begun."""
        with self._command(at, Phase.RUNNING, Phase.FAILED, Phase.SUSPENDED, Phase.COMPENSATING):
            item = self.item(number)
            if item.begun:
                self._record(Code.ATTEMPTS_SPARED, number, item.spared + 1)

    # --- looking ------------------------------------------------------------------------------------------------------

    def retry(self, item: ItemEntry) -> Retry | None:
        """Return the policy that holds for an item: its task's, else for handlers the one for all that state none."""
        plan = self.plan(item)
        return self._retry if plan.task.retry is None and plan.kind is Kind.HANDLER else plan.task.retry

    def is_retryable(self, item: ItemEntry, failure: Failure) -> bool:
        """Whether trying again may help against a failure of this item."""
        return is_retryable(self.retry(item), failure)

    def automatic_work(self) -> list[ItemEntry]:
        """Return the started items that wait for their handler, by number."""
        return [self.state.items[number] for number in self.state.work]

    def work_data(self, number: int) -> dict[str, Any]:
        """
        Return what an open item's work is given: what its task's input mapping makes of the case's data, else those themselves.

        Raises:
            DataError: the mapping fails on these data.
        """
        item = self.item(number)
        if item.undoes is not None:
            return self.state.data
        net = self.state.nets[item.net]
        mapping = net.plan.plans[item.task].input
        if mapping is None:
            return self.state.data
        return mapped(mapping, self._mapping_variables(net, item.task, item.instance), f"{self.path(item)}: input")

    def next_due(self) -> Due | None:
        """Return what comes due first: a timer whose task could run, a retry, or the end of a claim; None: nothing."""
        return next_due(self.state)

    def _on_item(self, number: int, at: int, *states: Phase) -> Undo:
        """Begin a command on a work item: on a compensation while those are under way, on another in these states."""
        item = self.state.items.get(number)
        if item is not None and item.undoes is not None:
            states = (Phase.COMPENSATING,)
        return self._command(at, *states)

    # --- inside -------------------------------------------------------------------------------------------------------

    def _mapping_variables(self, net: NetInstance, task: int, k: int) -> dict[str, Any]:
        if not k:
            return {"data": self.state.data}
        elements = net.activities[task].elements
        return {"data": self.state.data, "item": None if elements is None else elements[k - 1], "index": k - 1}

    def _is_gone(self, number: int) -> bool:
        """Whether an item is not there any more, or a worklet runs in its place."""
        item = self.state.items.get(number)
        return item is None or item.state is ItemState.REPLACED

    def _call_again(self, item: ItemEntry) -> None:
        """Begin work anew that a worklet does."""
        if self.plan(item).worklets:
            self._call_worklets(self.state.nets[item.net], item.task)

    def _fail(self, item: ItemEntry, failure: Failure) -> None:
        due, why_not = next_attempt(self.retry(item), item, failure, now=self._now)
        text = f"{failure.text} ({why_not})" if why_not else failure.text
        about = [] if due is not None else [self._about(failure)]
        self._record(Code.ATTEMPT_FAILED, item.number, text, due, *about)
        if due is None and item.undoes is None:
            self._raise_failure(item, failure)

    def _about(self, failure: Failure) -> list[Any]:
        """Return what is kept of a failure for good beside its text: when, the error's type, and where it came from."""
        return [self._now, failure.kinds[0] if failure.kinds else "Failed", failure.digest, failure.where]

    def _come_due(self, item: ItemEntry) -> None:
        """Try failed work again, or offer external work again whose claim has ended, unless its attempts are used up."""
        plan = self.plan(item)
        if item.state is not ItemState.FAILED:
            why = why_no_further_claim(plan.task.retry, item, self._limits, now=self._now)
            if why:
                failure = Failure(text=why, kinds=("TimeoutError",))
                last = (ItemState.FAILED.value, failure.text, self._about(failure))
                self._record(Code.CLAIM_EXPIRED, item.number, *last)
                self._raise_failure(item, failure)
            else:
                self._record(Code.CLAIM_EXPIRED, item.number, ItemState.OFFERED.value)
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
