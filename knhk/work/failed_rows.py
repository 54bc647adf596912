"""Work that has failed for good as a row of the worklist: the dead letter queue is the list of these rows, and nothing else."""

from __future__ import annotations

from typing import Any, Final

from knhk.case import Case
from knhk.workitem import ItemEntry, has_failed_for_good

DEAD: Final = "dead"
"""The member of a row's details that says that its item has failed for good, and why."""


def is_dead(case: Case, item: ItemEntry) -> bool:
    """Whether an item has failed for good."""
    return has_failed_for_good(item, case.state.deadlines)


def failed_details(case: Case, item: ItemEntry) -> dict[str, Any]:
    """Return what the list of dead letters says of an item that has failed for good."""
    specification = case.state.program.specification
    # What failed in an older history has no reason there.
    reason, at, kind, digest, where = item.failure or ("", None, "", "", "")
    return {
        DEAD: {
            "spec_id": specification.id,
            "spec_version": specification.version,
            "handler": case.plan(item).task.handler or "",
            "reason": reason,
            "error": kind,
            "at": at,
            "attempts": item.counted,
            "attempt": item.attempt,
            "digest": digest,
            "where": where,
        }
    }


def may_have_row(item: ItemEntry) -> bool:
    """Whether a handler's item that has not failed for good may have a row from when it had: it was given fresh attempts."""
    return item.attempt > 0 and item.counted == 0
