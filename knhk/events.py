"""What happened, in the past tense: a case's history as people and programs read it."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

import attrs


class EventKind(enum.Enum):
    """What an event says."""

    CASE_CREATED = "case_created"
    CASE_STARTED = "case_started"
    CASE_SUSPENDED = "case_suspended"
    CASE_RESUMED = "case_resumed"
    CASE_COMPLETED = "case_completed"
    CASE_CANCELLED = "case_cancelled"
    CASE_FAILED = "case_failed"
    CASE_DEADLOCKED = "case_deadlocked"
    CASE_MIGRATED = "case_migrated"
    CASE_COMPENSATING = "case_compensating"
    CASE_STANDS_IN = "case_stands_in"
    TASK_FIRED = "task_fired"
    TASK_STARTED = "task_started"
    TASK_COMPLETED = "task_completed"
    TASK_FORCED = "task_forced"
    TASK_CANCELLED = "task_cancelled"
    TASK_WITHDRAWN = "task_withdrawn"
    INSTANCE_COMPLETED = "instance_completed"
    INSTANCE_ADDED = "instance_added"
    INSTANCES_CLOSED = "instances_closed"
    ITEM_OFFERED = "item_offered"
    ITEM_ROUTED = "item_routed"
    ITEM_SAVED = "item_saved"
    ITEM_SKIPPED = "item_skipped"
    ITEM_ESCALATED = "item_escalated"
    ESCALATION_SET = "escalation_set"
    PARTICIPANT_CHAINED = "participant_chained"
    ITEM_WITHDRAWN = "item_withdrawn"
    ITEM_CHANGED = "item_changed"
    ATTEMPT_BEGUN = "attempt_begun"
    ATTEMPT_FAILED = "attempt_failed"
    ATTEMPTS_BOUNDED = "attempts_bounded"
    ATTEMPTS_SPARED = "attempts_spared"
    ITEM_PROGRESSED = "item_progressed"
    ITEM_CLAIMED = "item_claimed"
    CLAIM_EXPIRED = "claim_expired"
    ITEM_REPLAYED = "item_replayed"
    ITEM_DISCARDED = "item_discarded"
    WORKLET_CALLED = "worklet_called"
    ERROR_CAUGHT = "error_caught"
    TASK_COMPENSATED = "task_compensated"
    DEADLINE_SET = "deadline_set"
    DEADLINE_CLEARED = "deadline_cleared"
    DEADLINE_PASSED = "deadline_passed"
    TIMER_SET = "timer_set"
    TIMER_CLEARED = "timer_cleared"
    TRIGGER_HELD = "trigger_held"
    DATA_CHANGED = "data_changed"


@attrs.frozen(kw_only=True)
class Event:
    """
    One thing that happened.

    Args:
        sequence: its place in the case's history, from 1.
        at: when, in milliseconds since the epoch, UTC; events of one command share it.
        kind: what.
        path: the task or instance that it happened to, or "".
        details: the rest, by name: the data that came, the flows that a split chose, who did it.
    """

    sequence: int
    at: int
    kind: EventKind
    path: str = ""
    details: Mapping[str, Any] = attrs.field(factory=dict)
