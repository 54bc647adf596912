"""Well-formedness of what happens when work fails: error flows, the tasks that have them, and what raises errors."""

from __future__ import annotations

from collections.abc import Iterator

from knhk.spec.durations import format_duration
from knhk.spec.model import DeadlineFrom, Flow, Retry, Split, Task
from knhk.spec.places import shown


def error_flow_faults(flow: Flow, task: Task | None, *, marked: bool) -> Iterator[str]:
    """
    Say what is wrong with one error flow.

    Args:
        flow: it.
        task: where it comes from; None for a condition.
        marked: whether it has a predicate or is a default.
    """
    if marked:
        yield "the error chooses this flow: it has neither predicate nor default"
    if task is None:
        yield f"{shown(flow.source)} is a condition, which does not fail: error flows lead out of tasks"
    elif task.multiple is not None and task.multiple.detached:
        yield f"{shown(task.id)} has passed control when its detached instances fail: it has no error flow"
    elif not can_fail(task):
        yield f"{shown(task.id)} does no work, so it cannot fail"


def error_split_faults(task: Task, outputs: int) -> Iterator[tuple[str, str]]:
    """Say what is wrong with the split of a task with error flows and this many other outputs."""
    if not outputs:
        yield "", "has error flows alone, and needs an output for when nothing fails"
    elif outputs > 1 and task.split in (Split.AND, Split.OR):
        kind = task.split.name
        remedy = f"let the task have one output, and put a routing task with the {kind}-split behind it"
        clash = f"an {kind}-split of {outputs} outputs cannot stand beside error flows, of which one alone is taken"
        yield "split", f"{clash}: {remedy}"


def deadline_faults(task: Task) -> Iterator[tuple[str, str]]:
    """Say what is wrong with the deadline of a task."""
    if task.deadline is None:
        return
    if task.deadline.after <= 0:
        yield "deadline.after", "must be longer than nothing"
    if task.multiple is not None and task.multiple.detached:
        yield "deadline", "has passed control as soon as it started: detached instances have no deadline"
    elif not _works(task) and task.trigger is None:
        yield "deadline", "a task without work and trigger is complete as soon as it is enabled, or its timer runs"
    elif not _works(task) and task.deadline.since is DeadlineFrom.START:
        yield "deadline.from", "does no work that starts: count from enablement"


def compensation_faults(task: Task) -> Iterator[tuple[str, str]]:
    """Say what is wrong with the compensation of a task."""
    if task.compensate is None:
        return
    if not _works(task):
        yield "compensate", "it does no work that could be undone"
    if task.compensate.timeout is not None and task.compensate.timeout <= 0:
        yield "compensate.timeout", "must be longer than nothing"
    if task.compensate.retry is not None:
        yield from ((f"compensate.{member}", message) for member, message in retry_faults(task.compensate.retry))


def retry_faults(retry: Retry) -> Iterator[tuple[str, str]]:
    """Say what is wrong with a retry policy."""
    if retry.max < retry.initial:
        longest, initial = format_duration(retry.max), format_duration(retry.initial)
        yield "retry.max", f"the longest wait, {longest}, is shorter than the initial one, {initial}"
    if retry.deadline is not None and retry.deadline <= 0:
        yield "retry.deadline", "must be longer than nothing"


def can_fail(task: Task) -> bool:
    """Whether there is anything about a task that fails: work, a net, a deadline or a constraint."""
    return _works(task) or any(each is not None for each in (task.deadline, task.requires, task.ensures))


def _works(task: Task) -> bool:
    return bool(task.worklet) or any(
        each is not None for each in (task.handler, task.manual, task.external, task.http, task.subnet)
    )
