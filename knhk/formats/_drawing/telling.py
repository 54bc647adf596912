"""What a task, a condition or a flow is, in words: the lines of a title that a pointer or a screen reader finds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from knhk.formats._drawing.words import shortened
from knhk.spec import ANY_ERROR, Condition, Flow, Moment, PartialJoin, Task, WorkletRule, format_duration


def told_of_task(task: Task) -> list[str]:
    """Return what a task is, line by line."""
    name = f": {shortened(task.name, 200)}" if task.name else ""
    return [f"task {shortened(task.id, 200)}{name}", *_routing(task), *_work(task), *_failing(task)]


def told_of_condition(condition: Condition) -> list[str]:
    """Return what a condition is."""
    name = f": {shortened(condition.name, 200)}" if condition.name else ""
    return [f"condition {shortened(condition.id, 200)}{name}"]


def told_of_flow(flow: Flow) -> list[str]:
    """Return what a flow is, line by line."""
    told = [f"flow {shortened(flow.label, 300)}"]
    if flow.when is not None:
        told.append(f"when {shortened(flow.when)}")
    if flow.default:
        told.append("default")
    if flow.on_error:
        told.append(f"taken {_errors(flow.on_error)}")
    if flow.weight != 1:
        told.append(f"{flow.weight} tokens")
    return told


def label(flow: Flow) -> str:
    """Return what stands beside a flow: its weight, and what chooses it."""
    weight = f"{flow.weight}\u00d7" if flow.weight != 1 else ""
    chosen = shortened(flow.when) if flow.when is not None else ""
    if flow.on_error:
        chosen = _errors(flow.on_error)
    return " ".join(each for each in (weight, *chosen.split()) if each)


def enumerated(names: Sequence[str], last: str = "or") -> str:
    """Return the first few names as a person says them."""
    shown = [shortened(each, 40) for each in names[:3]]
    if len(names) > 3:
        shown.append(f"{len(names) - 3} more")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} {last} {shown[-1]}"


def _errors(names: Sequence[str]) -> str:
    return "on any error" if ANY_ERROR in names else f"on {enumerated(names)}"


def _routing(task: Task) -> Iterator[str]:
    """Say when the task begins and where its tokens go."""
    if isinstance(task.join, PartialJoin):
        yield f"partial join: {task.join.required} of its inputs"
    elif task.join is not None:
        yield f"{task.join.value.upper()}-join"
    if task.split is not None:
        yield f"{task.split.value.upper()}-split"
    if task.cancels:
        yield f"cancels {enumerated(task.cancels, 'and')}"


def _work(task: Task) -> Iterator[str]:
    """Say what is done, what it waits for, and how often."""
    if task.subnet is not None:
        yield f"runs the subnet {shortened(task.subnet, 200)}"
    if task.handler is not None:
        yield f"handler {shortened(task.handler, 200)}"
    if task.http is not None:
        yield f"request {shortened(task.http.method, 20)} {shortened(task.http.url, 200)}"
    if task.manual is not None:
        roles = ", ".join(shortened(each, 60) for each in task.manual.roles)
        yield f"manual work{f' of {roles}' if roles else ''}"
    if task.external is not None:
        yield f"external work, topic {shortened(task.external.topic, 200)}"
    if task.worklet:
        yield f"worklet {_worklets(task.worklet)}"
    if isinstance(task.timer, Moment):
        yield f"timer at {shortened(task.timer.at, 200)}"
    elif task.timer is not None:
        yield f"timer {format_duration(task.timer)}"
    if task.trigger is not None:
        yield f"{task.trigger.mode.value} trigger {shortened(task.trigger.event, 200)}"
    if task.multiple is not None:
        yield _instances(task)


def _failing(task: Task) -> Iterator[str]:
    """Say what bounds the work, what follows when it fails, and what undoes it."""
    if task.retry is not None:
        yield f"{task.retry.max_attempts} attempts at most"
    if task.deadline is not None:
        yield f"complete within {format_duration(task.deadline.after)} of its {task.deadline.since.value}"
    if task.requires is not None:
        yield f"requires {shortened(task.requires, 300)}"
    if task.ensures is not None:
        yield f"ensures {shortened(task.ensures, 300)}"
    if task.exlet:
        yield f"when it has failed, worklet {_worklets(task.exlet)}"
    if task.compensate is not None:
        yield f"undone by handler {shortened(task.compensate.handler, 200)}"


def _worklets(rules: Sequence[WorkletRule]) -> str:
    return enumerated([rule.worklet for rule in rules])


def _instances(task: Task) -> str:
    multiple = task.multiple
    assert multiple is not None
    how_many = f"for each of {multiple.for_each}" if multiple.for_each is not None else f"{multiple.count}"
    enough = [f"{multiple.threshold} are enough"] if multiple.threshold is not None else []
    enough += [f"enough when {multiple.until}"] if multiple.until is not None else []
    enough += ["detached"] if multiple.detached else []
    return shortened(", ".join([f"multiple instances: {how_many}", *enough]), 300)
