"""The words of a case's journal: what a record says happened, where a case is in its life, what the end of an instance does."""

from __future__ import annotations

import enum
from typing import Any

Record = tuple[Any, ...]


class Code(enum.IntEnum):
    """What a journal record says happened; the numbers are on disk and never change their meaning."""

    CREATED = 1
    STARTED = 2
    FIRED = 3
    BEGUN = 4
    FINISHED = 5
    FORCED = 6
    INSTANCE_ADDED = 7
    INSTANCES_CLOSED = 8
    ABORTED = 9
    WITHDRAWN = 10
    OFFERED = 11
    OFFER_WITHDRAWN = 12
    TIMER_SET = 13
    TIMER_CLEARED = 14
    TRIGGER_HELD = 15
    DATA = 16
    ITEM = 17
    PHASE = 18
    ATTEMPT_FAILED = 19
    CLAIMED = 20
    CLAIM_EXPIRED = 21
    ATTEMPTS_UNTIL = 22
    ATTEMPTS_SPARED = 23
    PROGRESSED = 24
    STANDS_IN = 25
    REPLAYED = 26
    DISCARDED = 27
    RAISED = 30
    DEADLINE_SET = 31
    DEADLINE_CLEARED = 32
    DEADLINE_PASSED = 33
    UNDOING = 34
    UNDONE = 35
    WORKLET_CALLED = 36
    ROUTED = 37
    SAVED = 38
    ESCALATION_SET = 39
    ESCALATED = 40
    CHAINED = 41
    SKIPPED = 42
    MIGRATED = 47


class Phase(enum.Enum):
    """Where a case is in its life."""

    CREATED = "created"
    RUNNING = "running"
    COMPENSATING = "compensating"
    SUSPENDED = "suspended"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"
    DEADLOCKED = "deadlocked"


class End(enum.IntEnum):
    """What the end of an instance does to its task."""

    NOTHING = 0
    COMPLETES = 1
    PASSES_ON = 2
    RELEASES = 3
    DETACHED = 4
