"""What a case has to undo: the completions that it remembers, and a compensation that is under way.

A *scope* is a running net, or the running activation of a task in it.
What completes in a net belongs to that net; when the net ends, to the activation of the composite task it stood for; when that
passes control, to the net around it.  So the completions of a scope are those of its nets, in the order in which they came.

Sagas: Garcia-Molina & Salem, "Sagas" (SIGMOD 1987); the nesting is that of BPMN 2.0, 13.4.4: a composite task with a compensation
of its own, once complete, is undone by that alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from knhk._lower import Kind
from knhk._net_instance import NetInstance
from knhk.workitem import Completion


@attrs.define
class Undoing:
    """
    Compensations under way, one after the other.

    Args:
        pending: what is still to be undone, in that order, without the one that is undone now.
        then: what follows: the rest of a record that an error was caught; None: the case is cancelled.
        item: the work item of the compensation that is made now; 0: all are done.
    """

    pending: list[Completion]
    then: list[Any] | None
    item: int = 0


class Memory:
    """
    The completions that can be undone, in order.

    Attributes:
        entries: them.
    """

    __slots__ = ("entries",)

    def __init__(self) -> None:
        self.entries: list[Completion] = []

    def keep(self, entry: Completion) -> None:
        """Remember one more."""
        self.entries.append(entry)

    def settle(self, net: int, task: int) -> None:
        """The activation of a task has passed control, or is gone: what it completed belongs to its net."""
        for entry in self.entries:
            if entry.net == net and entry.via == task:
                entry.via = -1

    def move(self, nets: Iterable[int], net: int, via: int) -> None:
        """These nets are gone: what they completed belongs to another."""
        gone = set(nets)
        for entry in self.entries:
            if entry.net in gone:
                entry.net, entry.via = net, via

    def forget(self, nets: Iterable[int]) -> None:
        """What these nets completed is undone otherwise."""
        gone = set(nets)
        self.entries = [entry for entry in self.entries if entry.net not in gone]

    def holds(self, nets: Iterable[int], net: int, task: int) -> bool:
        """Whether a scope has anything to undo: these nets, and the activation of a task."""
        return any(self._within(entry, set(nets), net, task) for entry in self.entries)

    def take(self, nets: Iterable[int], net: int, task: int) -> list[Completion]:
        """Return, last first, what a scope has to undo, and forget it."""
        inner = set(nets)
        taken = [entry for entry in self.entries if self._within(entry, inner, net, task)]
        self.entries = [entry for entry in self.entries if not self._within(entry, inner, net, task)]
        return taken[::-1]

    def take_all(self) -> list[Completion]:
        """Return everything, last first, and forget it."""
        taken, self.entries = self.entries[::-1], []
        return taken

    @staticmethod
    def _within(entry: Completion, nets: set[int], net: int, task: int) -> bool:
        return entry.net in nets or (entry.net == net and entry.via == task)


class UndoingRecords:
    """The part of `knhk._case_state.CaseState` that keeps what can be undone."""

    __slots__ = ()

    nets: dict[int, NetInstance]
    memory: Memory

    def _keep_completion(
        self, net: NetInstance, task: int, k: int, reference: int, output: dict[str, Any] | None
    ) -> None:
        """Remember a completion that can be undone, and let what a net completed belong to what is around it."""
        plan, activity = net.plan.plans[task], net.activities[task]
        free = activity.passed or net.plan.tables.table[task].detached
        via = -1 if free else task
        if plan.kind is Kind.SUBNET:
            inside = self.nets_inside(net, task, reference)
            if plan.compensation is not None:
                self.memory.forget(inside)
            self.memory.move(inside, net.number, via)
        if plan.compensation is not None:
            item = 0 if plan.kind is Kind.SUBNET else reference
            kept = None if output is None else dict(output)
            path = net.path(task, k)
            self.memory.keep(Completion(item, net.number, via, net.plan.number, task, path, kept))

    def nets_inside(self, net: NetInstance, task: int, root: int = -1) -> set[int]:
        """Return the numbers of the nets inside a task: all of them, or those of the one instance whose net is the root."""
        found: set[int] = set()
        for number, each in self.nets.items():
            # A net is opened after the one around it.
            above = each.parent
            if above is not None and (
                above.number in found or (above is net and each.task == task and root in (-1, number))
            ):
                found.add(number)
        return found


def dump_completions(entries: Iterable[Completion]) -> list[list[Any]]:
    """Return them as a JSON tree."""
    return [list(attrs.astuple(entry, recurse=False)) for entry in entries]


def load_completions(trees: Sequence[Sequence[Any]]) -> list[Completion]:
    """Read what `dump_completions` returned."""
    return [Completion(*tree) for tree in trees]


def dump_undoing(undoing: Undoing | None, current: Completion | None) -> Mapping[str, Any] | None:
    """Return a compensation under way as a JSON tree; `current` is what is undone now."""
    if undoing is None:
        return None
    now = [] if current is None else [current]
    return {
        "pending": dump_completions([*now, *undoing.pending]),
        "then": undoing.then,
        "item": undoing.item,
    }


def load_undoing(tree: Mapping[str, Any] | None) -> tuple[Undoing | None, Completion | None]:
    """Read what `dump_undoing` returned: the compensation under way, and what is undone now."""
    if tree is None:
        return None, None
    pending = load_completions(tree["pending"])
    current = pending.pop(0) if tree["item"] else None
    return Undoing(pending, tree["then"], tree["item"]), current
