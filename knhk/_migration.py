"""Moving a case to another version of its specification: its state, renamed, or every reason why that cannot be.

A state (`CaseState.dump`) names nets, conditions and tasks by number; a number means something only within one version.
So everything is moved by name: what has a place in the new version gets its number there, what was only on offer is
withdrawn where it has none, and anything else that has none is a problem: a token or started work is never dropped.

Nothing is decided about the future of the case here: it goes on from the moved marking by the rules of the new version.
The question is that of Rinderle, Reichert & Dadam, "Correctness criteria for dynamic changes in workflow systems" (2004);
the answer is the marking's, not the trace's: what a case did before it came here does not matter to where it may go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from knhk._lower import Kind, NetPlan, Program
from knhk._tables import PARTIAL
from knhk.errors import Problem


@attrs.frozen(kw_only=True)
class Renaming:
    """
    What is called otherwise in the new version; whatever is not named here keeps its name.

    Args:
        tasks, conditions: old name to new, in whichever net it is; an implicit condition is called ``A>B``, and follows its
            tasks where it is not named.
        nets: old name of a subnet to new.
    """

    tasks: Mapping[str, str] = attrs.field(factory=dict)
    conditions: Mapping[str, str] = attrs.field(factory=dict)
    nets: Mapping[str, str] = attrs.field(factory=dict)

    def condition(self, name: str) -> str:
        """Return the new name of a condition."""
        if name in self.conditions:
            return self.conditions[name]
        source, between, target = name.partition(">")
        return f"{self.task(source)}>{self.task(target)}" if between else name

    def task(self, name: str) -> str:
        """Return the new name of a task."""
        return self.tasks.get(name, name)


@attrs.frozen(kw_only=True)
class Moved:
    """
    What became of a state.

    Args:
        tree: the state in the new version's numbers; of no use where there are problems.
        problems: every reason why the case cannot move, with its place.
        withdrawn: the paths of the offers that have no place in the new version.
        dropped: their items' numbers.
    """

    tree: dict[str, Any]
    problems: tuple[Problem, ...]
    withdrawn: tuple[str, ...] = ()
    dropped: tuple[int, ...] = ()


def move(tree: Mapping[str, Any], old: Program, new: Program, renaming: Renaming) -> Moved:
    """Return the state of a case (as `CaseState.dump` gives it) in another version of its specification."""
    return _Move(tree, old, new, renaming).made()


class _Move:
    """One state on its way."""

    def __init__(self, tree: Mapping[str, Any], old: Program, new: Program, renaming: Renaming) -> None:
        self._tree = tree
        self._old = old
        self._new = new
        self._renaming = renaming
        self._problems: list[Problem] = []
        self._withdrawn: list[str] = []
        self._nets = {each["id"][0]: each for each in tree["nets"]}
        self._items = {item[0]: item for item in tree["items"]}
        self._plans: dict[int, tuple[NetPlan, NetPlan]] = {}
        self._version = new.specification.version

    def made(self) -> Moved:
        """Move everything, noting all problems on the way."""
        nets = [moved for each in self._tree["nets"] if (moved := self._net(each)) is not None]
        kept = {number for net in nets for _, number in net["offers"]}
        for number, (plan, _) in self._plans.items():
            for task, *_, opened in self._nets[number]["activities"]:
                if plan.plans[task].kind is not Kind.SUBNET:
                    kept.update(item for _, item in opened)
        items = [self._item(item) for number, item in self._items.items() if number in kept]
        dropped = tuple(number for number in self._items if number not in kept)
        deadlines = [each for each in self._tree.get("deadlines", ()) if each[0] in kept]
        attempts = [each for each in self._tree.get("attempts", ()) if each[0] in kept]
        deputies = [each for each in self._tree.get("deputies", ()) if each[0] in kept]
        failures = [each for each in self._tree.get("failures", ()) if each[0] in kept]
        if self._tree.get("undoing") is not None:
            self._refuse("", "it undoes what it did; migrate it when that is over")
        memory = [self._completion(*each) for each in self._tree.get("memory", ())]
        moved = {
            "memory": memory,
            "nets": nets,
            "items": items,
            "attempts": attempts,
            "failures": failures,
            "deputies": deputies,
            "deadlines": deadlines,
        }
        tree = {**self._tree, **moved, **self._people(kept)}
        return Moved(tree=tree, problems=tuple(self._problems), withdrawn=tuple(self._withdrawn), dropped=dropped)

    def _people(self, kept: set[int]) -> dict[str, Any]:
        """Keep what is known of the people's work that moves; an escalation goes on where the new version has that step."""
        if "people" not in self._tree:
            return {}
        posts, did, *rest = self._tree["people"]
        moved = []
        for number, audience, filtered, step, due, *more in posts:
            if number in kept:
                _, net, task, *_ = self._items[number]
                there = self._still(net, task)
                after = self._plans[net][1].plans[there].people if there >= 0 else None
                goes_on = due is not None and after is not None and step < len(after.escalate)
                moved.append([number, audience, filtered, step, due if goes_on else None, *more])
        return {"people": [moved, [[self._renaming.task(task), by] for task, by in did], *rest]}

    def _net(self, tree: Mapping[str, Any]) -> dict[str, Any] | None:
        number, kind, parent, task, k = tree["id"]
        plan = self._old.nets[kind]
        name = self._renaming.nets.get(plan.name, plan.name)
        found = next((each for each in self._new.nets if each.name == name), None)
        if found is None or (parent >= 0 and parent not in self._plans):
            if found is None:
                self._refuse(
                    self._place(number), f"net {plan.name!r} runs, and version {self._version} has no net {name!r}"
                )
            return None
        self._plans[number] = (plan, found)
        if parent >= 0:
            task = self._task(parent, task)
        return {
            "id": [number, found.number, parent, task, k],
            "tokens": self._tokens(number, tree["tokens"]),
            "status": [[self._task(number, each), status] for each, status in tree["status"]],
            "seen": [self._seen(number, each, seen) for each, seen in tree["seen"]],
            "offers": self._offers(number, tree["offers"]),
            "timers": self._timers(number, tree["timers"]),
            "deadlines": self._deadlines(number, tree.get("deadlines", ())),
            "overdue": self._deadlines(number, tree.get("overdue", ())),
            "triggers": self._triggers(number, tree["triggers"]),
            "activities": [self._activity(number, *each) for each in tree["activities"]],
        }

    def _tokens(self, net: int, tokens: Sequence[Sequence[int]]) -> list[list[int]]:
        old, new = self._plans[net]
        moved: dict[int, int] = {}
        for condition, count in tokens:
            name = old.tables.conditions[condition]
            target = self._renaming.condition(name)
            if target not in new.tables.conditions:
                near = ", ".join(_neighbours(target, new.tables.conditions)) or "none near it"
                message = f"it holds a token, and version {self._version} has no condition {target!r}; it has: {near}"
                self._refuse(self._place(net, name), message)
                continue
            number = new.tables.conditions.index(target)
            moved[number] = moved.get(number, 0) + count
        return [[condition, count] for condition, count in sorted(moved.items())]

    def _task(self, net: int, task: int) -> int:
        """Return the new number of a task that is running; -1, and a problem, where it has none."""
        old, new = self._plans[net]
        name = old.tables.tasks[task]
        target = self._renaming.task(name)
        number = new.index.get(target)
        if number is None:
            self._refuse(self._place(net, name), f"it is running, and version {self._version} has no task {target!r}")
            return -1
        before, after = old.plans[task], new.plans[number]
        if before.kind is not after.kind:
            message = f"it is running as {_work(before.kind)}, and in version {self._version} it is {_work(after.kind)}"
            self._refuse(self._place(net, name), message)
        elif (before.task.multiple is None) is not (after.task.multiple is None) or (
            old.tables.table[task].detached is not new.tables.table[number].detached
        ):
            message = f"it is running, and in version {self._version} its instances are of another sort"
            self._refuse(self._place(net, name), message)
        elif (before.for_each is None) is not (after.for_each is None):
            message = f"it is running, and in version {self._version} its instances have no elements, or first get them"
            self._refuse(self._place(net, name), message)
        return number

    def _seen(self, net: int, task: int, seen: int) -> list[int]:
        """Move what a partial join has seen of its round, input by input."""
        old, new = self._plans[net]
        name = old.tables.tasks[task]
        number = new.index.get(self._renaming.task(name), -1)
        if number < 0 or new.tables.table[number].join != PARTIAL:
            message = (
                f"its partial join is in the middle of a round, and version {self._version} has no such join there"
            )
            self._refuse(self._place(net, name), message)
            return [number, 0]
        inputs = [new.tables.conditions[condition] for condition, _ in new.tables.table[number].inputs]
        mask = 0
        for position, (condition, _) in enumerate(old.tables.table[task].inputs):
            if not seen >> position & 1:
                continue
            target = self._renaming.condition(old.tables.conditions[condition])
            if target in inputs:
                mask |= 1 << inputs.index(target)
            else:
                message = f"its round has seen {target!r}, which is no input of it in version {self._version}"
                self._refuse(self._place(net, name), message)
        return [number, mask]

    def _offers(self, net: int, offers: Sequence[Sequence[int]]) -> list[list[int]]:
        old, new = self._plans[net]
        kept = []
        for task, item in offers:
            name = old.tables.tasks[task]
            number = new.index.get(self._renaming.task(name))
            if number is None or old.plans[task].kind is not new.plans[number].kind or new.plans[number].automatic:
                self._withdrawn.append(self._place(net, name))
            else:
                kept.append([number, item])
        return kept

    def _timers(self, net: int, timers: Sequence[Sequence[int]]) -> list[list[int]]:
        """Keep the running clocks of the tasks that have a timer there too; the others' stop, as nothing waits for them."""
        moved = [[self._still(net, task), due] for task, due in timers]
        return [[task, due] for task, due in moved if task in self._plans[net][1].timed]

    def _deadlines(self, net: int, deadlines: Sequence[Sequence[int]]) -> list[list[int]]:
        """Keep the clocks of the tasks that have a deadline there too, as they run."""
        moved = [[self._still(net, task), due] for task, due in deadlines]
        return [[task, due] for task, due in moved if task in self._plans[net][1].deadlines]

    def _triggers(self, net: int, triggers: Sequence[Sequence[int]]) -> list[list[int]]:
        """Keep the events that were held for tasks that listen to the same there; the others nobody would ever take."""
        old, new = self._plans[net]
        kept = []
        for task, held in triggers:
            number = self._still(net, task)
            before = old.plans[task].task.trigger
            after = new.plans[number].task.trigger if number >= 0 else None
            if before is not None and after is not None and before.event == after.event:
                kept.append([number, held])
        return kept

    def _activity(
        self, net: int, task: int, created: int, completed: int, closed: bool, passed: bool, elements: Any, opened: Any
    ) -> list[Any]:
        # With nothing open it is only the count of a detached task, which a task of another sort does not need.
        number = self._task(net, task) if opened else self._still(net, task)
        return [max(number, 0), created, completed, closed, passed, elements, opened]

    def _item(self, item: Sequence[Any]) -> list[Any]:
        number, net, task, *rest = item
        return [number, net, self._still(net, task), *rest]

    def _completion(self, item: int, net: int, via: int, kind: int, task: int, path: str, output: Any) -> list[Any]:
        """Move what is remembered of completed work: it has to be undone there as well."""
        old = self._old.nets[kind]
        name = self._renaming.nets.get(old.name, old.name)
        new = next((each for each in self._new.nets if each.name == name), None)
        number = -1 if new is None else new.index.get(self._renaming.task(old.tables.tasks[task]), -1)
        if new is None or number < 0 or new.plans[number].compensation is None:
            self._refuse(path, f"it has completed, and version {self._version} has no compensation for it")
            return [item, net, via, kind, task, path, output]
        around = self._still(net, via) if via >= 0 and net in self._plans else via
        return [item, net, around, new.number, number, path, output]

    def _still(self, net: int, task: int) -> int:
        """Return the new number of a task, or -1."""
        old, new = self._plans[net]
        return new.index.get(self._renaming.task(old.tables.tasks[task]), -1)

    def _place(self, net: int, element: str = "") -> str:
        """Return the path of an element of a running net, in the old version's names."""
        parts = [element] if element else []
        tree = self._nets[net]
        while tree["id"][2] >= 0:
            _, _, parent, task, k = tree["id"]
            tree = self._nets[parent]
            name = self._old.nets[tree["id"][1]].tables.tasks[task]
            parts.append(f"{name}#{k}" if k else name)
        return "/".join(reversed(parts))

    def _refuse(self, place: str, message: str) -> None:
        problem = Problem(place, message)
        if problem not in self._problems:
            self._problems.append(problem)


def _neighbours(name: str, conditions: Sequence[str]) -> list[str]:
    """Return the implicit conditions that share a task with this one: where the token most likely belongs."""
    source, between, target = name.partition(">")
    if not between:
        return []
    return [each for each in conditions if each.startswith(f"{source}>") or each.endswith(f">{target}")]


def _work(kind: Kind) -> str:
    return {
        Kind.ROUTING: "a routing task",
        Kind.HANDLER: "a handler's work",
        Kind.MANUAL: "work for people",
        Kind.EXTERNAL: "external work",
        Kind.SUBNET: "a composite task",
        Kind.WORKLET: "a worklet",
    }[kind]
