"""One dead letter: what has failed for good, as it is listed and looked into."""

from __future__ import annotations

from typing import Any, Final

import attrs

WORK: Final = "work"
MESSAGE: Final = "message"


@attrs.frozen(kw_only=True)
class DeadLetter:
    """
    Work that has failed for good, or a message of a webhook that did not arrive.

    Args:
        id: of work ``case:number``, its idempotency key; of a message ``subscription:case:place``.
        kind: ``work`` or ``message``.
        case_id, path: whose work it is, or of what the message tells.
        number: of the work item; 0 for a message.
        spec_id, spec_version: the specification of its case.
        handler, topic: what would do the work; both "" for work of people, and for a message.
        webhook: the subscription whose message it is; "" for work.
        reason: what the last attempt failed of.
        error: the type of that error by name.
        at: when, in milliseconds since the epoch; None where an older history does not say.
        attempts: how many were made since it was last replayed.
        attempt: the number of the last one, all counted.
        digest: the same for failures that came the same way through the same code; "" without a traceback.
        where: the innermost place of the traceback, as ``bank.py:41 charge``.
        data: what the work is given, or the case's data where the input mapping is what fails; of a message what it says.
            None in lists.
        item, index: the element and position of a multiple instance, else None.
    """

    id: str
    case_id: str
    number: int
    path: str
    spec_id: str
    spec_version: str
    handler: str
    topic: str
    reason: str
    error: str
    at: int | None
    attempts: int
    attempt: int
    digest: str
    where: str
    kind: str = WORK
    webhook: str = ""
    data: dict[str, Any] | None = None
    item: Any = None
    index: int | None = None
