"""What a case decides with predicates and counts: which outputs a split chooses, how many instances start, when they are enough.

Nothing is changed here: `knhk.case` writes the decisions down.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from knhk._case_state import End
from knhk._lower import TaskPlan
from knhk._net_instance import Activity, NetInstance
from knhk._plain import plain_data
from knhk._tables import XOR
from knhk.errors import ConstraintViolation, DataError
from knhk.expr import Expression
from knhk.spec import Remaining
from knhk.spec.repeats import milliseconds_of

_LATEST = 253_402_300_799_999
"""The last millisecond of the year 9999."""


def end_of_instance(net: NetInstance, task: int, activity: Activity, data: dict[str, Any]) -> End:
    """Decide what the end of one instance does to its task (rule 6)."""
    plan = net.plan.plans[task]
    multiple = plan.task.multiple
    if multiple is None:
        return End.COMPLETES
    if multiple.detached:
        return End.DETACHED
    remaining = len(activity.open) - 1
    if activity.passed:
        return End.NOTHING if remaining else End.RELEASES
    completed = activity.completed + 1
    enough = multiple.threshold is not None and completed >= multiple.threshold
    if remaining and plan.until is not None and not enough:
        variables = {"data": data, "completed": completed, "created": activity.created}
        enough = plan.until.test(variables, element=net.path(task))
    if remaining and not enough:
        return End.NOTHING
    continues = remaining and multiple.remaining is Remaining.CONTINUE
    return End.PASSES_ON if continues else End.COMPLETES


def hold(constraint: Expression, word: str, data: dict[str, Any], element: str) -> None:
    """Raise ConstraintViolation where what a task requires or ensures does not hold of these data."""
    if not constraint.test({"data": data}, element=element):
        raise ConstraintViolation(f"what it {word} does not hold", expression=constraint.text, element=element)


def choose(net: NetInstance, task: int, data: dict[str, Any]) -> tuple[int, ...]:
    """Decide which outputs get a token: predicates in flow order, the default if none holds (rule 3)."""
    plan = net.plan.plans[task]
    if not plan.branches:
        return plan.every_output
    only_first = net.plan.tables.table[task].split == XOR
    chosen: list[int] = []
    for branch in plan.branches:
        if branch.predicate is None:
            if not chosen:
                chosen.append(branch.position)
        elif branch.predicate.test({"data": data}, element=branch.label):
            chosen.append(branch.position)
        if chosen and only_first:
            break
    if not chosen:
        message = "no predicate of the split holds and it has no default: nothing has happened"
        raise DataError(message, element=net.path(task), value=None)
    return tuple(chosen)


def end_of_timer(net: NetInstance, task: int, data: dict[str, Any], now: int) -> int:
    """Decide when a timer that begins now ends, in milliseconds since the epoch; a time that has passed is due at once."""
    plan = net.plan.plans[task]
    if isinstance(plan.task.timer, int):
        return now + plan.task.timer
    if not isinstance(plan.moment, Expression):
        return plan.moment or now
    path = net.path(task)
    value = plan.moment.evaluate({"data": data}, path)
    if isinstance(value, str):
        try:
            value = milliseconds_of(value)
        except (ValueError, OverflowError) as error:
            raise DataError(f"is no time: {error}", expression=plan.moment.text, element=path, value=value) from error
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _LATEST:
        text = "is no time: ISO 8601 text with an offset, or milliseconds since the epoch"
        raise DataError(text, expression=plan.moment.text, element=path, value=value)
    return value


def count_instances(net: NetInstance, task: int, plan: TaskPlan, data: dict[str, Any]) -> tuple[int, list[Any] | None]:
    """Decide how many instances start, and their elements; refused outside the stated bounds (rule 6)."""
    path = net.path(task)
    elements: list[Any] | None = None
    value: object = plan.count
    source: Expression | None = plan.count if isinstance(plan.count, Expression) else plan.for_each
    if source is not None:
        value = source.evaluate({"data": data}, path)
    if plan.for_each is not None:
        if not isinstance(value, list):
            raise DataError("is no list", expression=plan.for_each.text, element=path, value=value)
        elements = value
        value = len(value)
    text = "" if source is None else source.text
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise DataError("is no number of instances", expression=text, element=path, value=value)
    multiple = plan.task.multiple
    low = 0 if multiple is None or multiple.minimum is None else multiple.minimum
    high = None if multiple is None else multiple.maximum
    if value < low or (high is not None and value > high):
        bounds = f"{low} to {'any' if high is None else high}"
        raise DataError(f"gives {value} instances; allowed are {bounds}", expression=text, element=path, value=value)
    return value, elements


def mapped(mapping: Mapping[str, Expression], variables: dict[str, Any], element: str) -> dict[str, Any]:
    """Return what a mapping makes of these variables, as data that nothing else has a part in."""
    values = {name: each.evaluate(variables, f"{element}.{name}") for name, each in mapping.items()}
    return plain_data(values, element)
