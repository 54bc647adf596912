"""Work items and the table of their legal transitions.

The life of an item is YAWL's, without its resource side: offered, allocated, started, suspended, and one of the ends.
"""

from __future__ import annotations

import enum
from typing import Final

import attrs

from knhk.spec import Retry


class ItemState(enum.Enum):
    """Where a work item is in its life."""

    OFFERED = "offered"
    ALLOCATED = "allocated"
    STARTED = "started"
    SUSPENDED = "suspended"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    WITHDRAWN = "withdrawn"


TRANSITIONS: Final[dict[tuple[ItemState, str], ItemState]] = {
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


def allowed(state: ItemState) -> tuple[str, ...]:
    """Return the commands that an item in this state takes."""
    return tuple(command for source, command in TRANSITIONS if source is state)


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
    """

    number: int
    net: int
    task: int
    instance: int
    state: ItemState
    by: str = ""
    attempt: int = 0


def backoff(retry: Retry, attempt: int) -> int:
    """
    Return the wait after a failed attempt, in milliseconds: the initial one, multiplied after each further attempt.

    Args:
        retry: the policy of the task.
        attempt: which attempt failed, from 1.
    """
    try:
        wait = retry.initial * retry.coefficient ** (attempt - 1)
    except OverflowError:
        return retry.max
    return round(min(wait, retry.max))
