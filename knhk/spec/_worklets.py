"""Worklets: which registered specification runs in a task's place, read, and what is wrong with that beyond its form.

The rules stand in an order, and the first that holds is taken: the simple case of the ripple-down rules of Adams, ter Hofstede,
Edmond & van der Aalst, "Worklets: A Service-Oriented Implementation of Dynamic Flexibility in Workflows" (CoopIS 2006).
An *exlet* is what runs when the task's work has failed for good: Adams et al., "Dynamic, Extensible and Context-Aware Exception
Handling for Workflows" (CoopIS 2007).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from knhk.spec._manual import make
from knhk.spec.model import ANY_ERROR, Task, WorkletRule
from knhk.spec.values import BAD, SPECIFICATION_ID, Member, Members, Read, Reading, described, name, names, text

MAX_RULES = 1_000
"""How many rules a task may have for its worklets, or for its exlets."""


def _named_errors(reading: Reading, value: object, place: str) -> Any:
    return names(name())(reading, [value] if isinstance(value, str) else value, place)


_WORKLET: Members = {
    "worklet": Member("worklet", name(pattern=SPECIFICATION_ID)),
    "when": Member("when", text()),
}
_EXLET: Members = {**_WORKLET, "on_error": Member("on_error", _named_errors)}


def _reader(table: Members) -> Read:
    def read(reading: Reading, value: object, place: str) -> Any:
        trees: object = [value] if isinstance(value, str | Mapping) else value
        if not isinstance(trees, list | tuple):
            expected = "the id of a specification, a rule, or a list of rules"
            return reading.refuse(place, f"must be {expected}, not {described(value)}")
        if not trees or len(trees) > MAX_RULES:
            return reading.refuse(place, f"{len(trees):,} rules; 1 to {MAX_RULES:,} are allowed")
        rules = []
        for position, tree in enumerate(trees):
            whole = {"worklet": tree} if isinstance(tree, str) else tree
            here = f"{place}[{position}]" if trees is value else place
            rules.append(make(WorkletRule, reading, whole, here, table, "worklet"))
        return BAD if BAD in rules else tuple(rules)

    return read


worklet: Read = _reader(_WORKLET)
"""Read what runs as a task's work."""

exlet: Read = _reader(_EXLET)
"""Read what runs when a task's work has failed for good."""


def worklet_faults(task: Task, faults: Callable[[str, tuple[str, ...]], Iterable[str]]) -> Iterator[tuple[str, str]]:
    """
    Say what is wrong with the rules of a task, each with its place in it.

    Args:
        task: it.
        faults: says what is wrong with an expression over these names.
    """
    instance = () if task.multiple is None else ("item", "index")
    for member, rules, variables in (("worklet", task.worklet, ("data",)), ("exlet", task.exlet, ("data", "error"))):
        for position, rule in enumerate(rules):
            here = f"{member}[{position}]"
            for fault in () if rule.when is None else faults(rule.when, (*variables, *instance)):
                yield f"{here}.when", fault
            narrow = rule.when is not None or (rule.on_error and ANY_ERROR not in rule.on_error)
            if not narrow and position < len(rules) - 1:
                yield here, "always holds, so no rule behind it is ever looked at: give it a predicate, or put it last"
