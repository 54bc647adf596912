"""What a replay reports."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

import attrs


class DeviationKind(enum.Enum):
    """How a trace deviates at a task."""

    NOT_ENABLED = "not_enabled"
    """An event of the task came when it was not enabled."""

    UNKNOWN_TASK = "unknown_task"
    """The specification has no task of this name."""

    NOT_COMPLETED = "not_completed"
    """The task has started and never completed."""

    LEFT_OVER = "left_over"
    """A token was left over in front of the task, which did not take it."""

    NOT_ENDED = "not_ended"
    """The case has not ended, and nothing is left in it that could go on."""


@attrs.frozen
class Deviation:
    """
    One place where a trace is no run of the specification.

    Args:
        task: the task's path, or the log's name for an unknown one; "" where no task is to be named.
        kind: in which way.
        position: which event of the trace, from 1, skipped ones not counted; 0: its end.
        condition: where a token was left over, else "".
    """

    task: str
    kind: DeviationKind
    position: int
    condition: str = ""


@attrs.frozen(kw_only=True)
class TraceReplay:
    """
    One replayed trace.

    Args:
        case: its id.
        fitness: 0 to 1; 1 exactly for a run of the specification.
        produced, consumed, missing, remaining: tokens.
        deviations: in the order of the trace.
        decided: whether no budget was met; else the trace may fit better than was found.
    """

    case: str
    fitness: float
    produced: int
    consumed: int
    missing: int
    remaining: int
    deviations: tuple[Deviation, ...]
    decided: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        tree = attrs.asdict(self, recurse=False)
        tree["deviations"] = [{**attrs.asdict(each), "kind": each.kind.value} for each in self.deviations]
        return tree


@attrs.frozen(kw_only=True)
class Variant:
    """
    Traces with the same events in the same order.

    Args:
        events: the log's names; a start is marked by a ``+`` behind its name.
        count: how many traces.
        cases: the ids of the first few.
        fitness: of each of them.
    """

    events: tuple[str, ...]
    count: int
    cases: tuple[str, ...]
    fitness: float


@attrs.frozen(kw_only=True)
class TaskDeviations:
    """
    The deviations of one kind at one task.

    Args:
        task, kind: as in `Deviation`.
        count: how often, over all traces.
        traces: in how many traces.
        cases: the ids of the first few.
    """

    task: str
    kind: DeviationKind
    count: int
    traces: int
    cases: tuple[str, ...]


@attrs.frozen(kw_only=True)
class ReplayReport:
    """
    How well a log fits a specification.

    Args:
        specification, version: which.
        traces, events: how many were replayed.
        fitting: traces with fitness 1.
        fitness: the mean over the traces; 1 for an empty log.
        token_fitness: the formula over the tokens of all traces.
        produced, consumed, missing, remaining: those tokens.
        undecided: traces that do not fit and whose search met a budget.
        variant_count: how many variants there are.
        variants: the most frequent.
        worst: the traces that fit least.
        deviations: by task and kind, the most frequent first.
        skipped: events that were not replayed, by reason.
        silent: the tasks with work to do that the log never names, and which were therefore taken to happen silently.
    """

    specification: str
    version: str
    traces: int
    events: int
    fitting: int
    fitness: float
    token_fitness: float
    produced: int
    consumed: int
    missing: int
    remaining: int
    undecided: int
    variant_count: int
    variants: tuple[Variant, ...]
    worst: tuple[TraceReplay, ...]
    deviations: tuple[TaskDeviations, ...]
    skipped: Mapping[str, int]
    silent: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        tree = attrs.asdict(self, recurse=False)
        tree["variants"] = [attrs.asdict(each) for each in self.variants]
        tree["worst"] = [each.to_dict() for each in self.worst]
        tree["deviations"] = [{**attrs.asdict(each), "kind": each.kind.value} for each in self.deviations]
        tree["skipped"] = dict(self.skipped)
        return tree
