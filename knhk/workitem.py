"""Work items and the table of their legal transitions.

The life of an item is YAWL's: offered, allocated, started, suspended, and one of the ends.
Work for people may wait before that, unoffered, for somebody to say whom it is for.
Work in whose place a worklet runs is replaced: nobody can do anything with it until that worklet has ended.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, Final

import attrs

from knhk.spec import Retry


class ItemState(enum.Enum):
    """Where a work item is in its life."""

    UNOFFERED = "unoffered"
    OFFERED = "offered"
    ALLOCATED = "allocated"
    STARTED = "started"
    SUSPENDED = "suspended"
    REPLACED = "replaced"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    WITHDRAWN = "withdrawn"

    # There is one of each, so none has to be told by its name, which every look into a table would cost a call.
    __hash__ = object.__hash__


TRANSITIONS: Final[dict[tuple[ItemState, str], ItemState]] = {
    (ItemState.UNOFFERED, "offer"): ItemState.OFFERED,
    (ItemState.UNOFFERED, "allocate"): ItemState.ALLOCATED,
    (ItemState.UNOFFERED, "start"): ItemState.STARTED,
    (ItemState.OFFERED, "allocate"): ItemState.ALLOCATED,
    (ItemState.ALLOCATED, "allocate"): ItemState.ALLOCATED,
    (ItemState.ALLOCATED, "offer"): ItemState.OFFERED,
    (ItemState.OFFERED, "start"): ItemState.STARTED,
    (ItemState.ALLOCATED, "start"): ItemState.STARTED,
    (ItemState.STARTED, "suspend"): ItemState.SUSPENDED,
    (ItemState.SUSPENDED, "resume"): ItemState.STARTED,
    (ItemState.OFFERED, "complete"): ItemState.COMPLETED,
    (ItemState.ALLOCATED, "complete"): ItemState.COMPLETED,
    (ItemState.STARTED, "complete"): ItemState.COMPLETED,
    (ItemState.STARTED, "fail"): ItemState.FAILED,
    (ItemState.FAILED, "retry"): ItemState.STARTED,
}
"""What a command makes of an item in a state; a pair that is not here is refused."""


PEOPLE: Final[dict[str, tuple[ItemState, ...]]] = {
    "delegate": (ItemState.ALLOCATED,),
    "reallocate": (ItemState.STARTED, ItemState.SUSPENDED),
    "save": (ItemState.STARTED,),
    "skip": (ItemState.UNOFFERED, ItemState.OFFERED, ItemState.ALLOCATED, ItemState.STARTED),
}
"""The states in which work of people takes the commands that only it has."""


def allowed(state: ItemState) -> tuple[str, ...]:
    """Return the commands that an item in this state takes."""
    return tuple(command for source, command in TRANSITIONS if source is state)


@attrs.define
class Completion:
    """
    Work that has completed and can be undone.

    Args:
        item: the work item's number; 0 for a composite task.
        net: the running net that it belongs to, which fails with it.
        via: the task of that net of whose running activation it is part; -1 once that has passed control.
        kind, task: the number of the net that its task is in, and the task's.
        path: where it was.
        output: what it gave, or None.
    """

    item: int
    net: int
    via: int
    kind: int
    task: int
    path: str
    output: dict[str, Any] | None


@attrs.define
class Deputy:
    """
    The worklet in an item's place: another case, which runs while the item is replaced.

    Args:
        worklet: the id of its specification.
        calls: how many worklets were called in the item's place, this one included.
        given: its first data; None: the data of the item's case.
        error: of an exlet, what went wrong, as history and data have it; None: it is the item's own work.
        kinds: the names of that error.
    """

    worklet: str
    calls: int
    given: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    kinds: tuple[str, ...] = ()


@attrs.define
class ItemEntry:
    """
    One piece of work of a case.

    Args:
        number: unique in the case, never used again; with the case's id it is the idempotency key of the work.
        net: the number of the net instance.
        task: the task's number in that net.
        instance: which instance of a multiple-instance task, from 1; 0 where there is one.
        state: where it is in its life.
        by: the participant that it is allocated to or that started it; "" for nobody.
        attempt: how often its handler was begun, or its external work started, the current attempt included; 0 for work of
            people.
        spared: how many of these attempts count towards no maximum: they were handed back, or a fresh budget was given.
        begun: whether the current attempt was begun and nothing came of it yet.
        until: when all attempts must be over, in milliseconds since the epoch; None: no limit.
        failure: of what has failed for good: the reason, when, the type of the error, and digest and innermost place of its
            traceback; None of what has not, or did so when that was not kept yet.
        undoes: what it undoes, if it is a compensation; then it belongs to no net.
        progress: what the last heartbeat said that was kept, as JSON data.
        deputy: the worklet in its place, or the last one that was.
    """

    number: int
    net: int
    task: int
    instance: int
    state: ItemState
    by: str = ""
    attempt: int = 0
    spared: int = 0
    begun: bool = False
    until: int | None = None
    failure: tuple[str, int, str, str, str] | None = None
    progress: Any = None
    undoes: Completion | None = None
    deputy: Deputy | None = None

    @property
    def counted(self) -> int:
        """The attempts that count towards a maximum."""
        return self.attempt - self.spared


@attrs.define
class Post:
    """
    What is known of an item of people's beyond its state; an item of which there is nothing to know has none.

    Args:
        audience: whom it is offered to, as ``role:clerk`` or ``participant:ann``; None: as its task says.
        filtered: whether these must also have the capabilities and positions that its task asks for.
        step: which step of its escalation is next, from 0.
        due: when that is, in milliseconds since the epoch; None: never.
        priority: what an escalation has made of it; 0 at first.
        draft: what was saved of its output.
    """

    audience: tuple[str, ...] | None = None
    filtered: bool = True
    step: int = 0
    due: int | None = None
    priority: int = 0
    draft: dict[str, Any] | None = None


def worklet_suffix(number: int, calls: int) -> str:
    """Return what a worklet's case id has behind that of the case above it: the item's number, and of later calls theirs."""
    return f".{number}" if calls < 2 else f".{number}-{calls}"


def backoff(retry: Retry, attempt: int, draw: float = 0.0) -> int:
    """
    Return the wait after a failed attempt, in milliseconds: the initial one, multiplied after each further attempt.

    Where many clients of a service failed together, chance keeps them from coming back together: Brooker, "Exponential
    Backoff And Jitter", AWS Architecture Blog, 2015.

    Args:
        retry: the policy of the task.
        attempt: which attempt failed, from 1.
        draw: a number from 0 up to but not 1; 0 gives the longest wait.
    """
    try:
        wait = min(retry.initial * retry.coefficient ** (attempt - 1), retry.max)
    except OverflowError:
        wait = retry.max
    return round(wait * (1 - retry.jitter * draw))


def has_failed_for_good(item: ItemEntry, deadlines: Mapping[int, int]) -> bool:
    """Whether an item failed and waits for no further attempt, by the deadlines of its case's items."""
    return item.state is ItemState.FAILED and item.number not in deadlines
