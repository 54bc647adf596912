"""What follows when an attempt at work fails or is cut off: another one, and when, or none; decided here, recorded elsewhere.

An attempt is *begun* when its number is on record and its handler is about to be called, and *cut off* when the process ended
before its outcome was recorded.
Nothing is drawn here: chance comes in as a number, and the time that was decided is what the journal keeps.
"""

from __future__ import annotations

import attrs

from knhk.limits import Limits
from knhk.spec import Retry
from knhk.spec.durations import format_duration
from knhk.workitem import ItemEntry, backoff


@attrs.frozen(kw_only=True)
class Failure:
    """
    How an attempt failed.

    Args:
        text: what people are told of it.
        kinds: the names of the error's type and of its base classes, which a policy may name as not retryable.
        retryable: whether the error itself allows another attempt.
        after: the least wait before the next attempt that the error asks for, in milliseconds.
        draw: a number from 0 up to but not 1, drawn by chance.
        digest: the same for failures that came the same way through the same code; "" where there is no traceback.
        where: the innermost place of the traceback, as ``bank.py:41 charge``.
    """

    text: str
    kinds: tuple[str, ...] = ()
    retryable: bool = True
    after: int = 0
    draw: float = 0.0
    digest: str = ""
    where: str = ""


def is_retryable(retry: Retry | None, failure: Failure) -> bool:
    """Whether neither the error nor the policy rules out that trying again helps."""
    named = retry is not None and any(kind in retry.non_retryable for kind in failure.kinds)
    return failure.retryable and not named


def next_attempt(retry: Retry | None, item: ItemEntry, failure: Failure, *, now: int) -> tuple[int | None, str]:
    """
    Decide when a failed item is tried again.

    Args:
        retry: the policy that holds for its task.
        item: as it is after the attempt that failed.
        failure: what the attempt failed of.
        now: milliseconds since the epoch.

    Returns:
        When, or None; and why not, where there is more to say than that the attempts are used up.
    """
    if retry is None or item.counted >= retry.max_attempts:
        return None, ""
    if not is_retryable(retry, failure):
        return None, "no further attempt helps"
    due = now + max(backoff(retry, max(item.counted, 1), failure.draw), failure.after)
    if item.until is not None and due >= item.until:
        return None, f"the next attempt would come after its deadline of {format_duration(retry.deadline or 0)}"
    return due, ""


def why_no_further_claim(retry: Retry | None, item: ItemEntry, limits: Limits, *, now: int) -> str:
    """
    Say why external work whose claim has ended without a result must not be offered again; "" where it may.

    Work that ends every worker that takes it up would else go round for ever.
    """
    ended = "its last claim ended without a result"
    if item.until is not None and now >= item.until:
        return ended
    if retry is not None:
        return ended if item.counted >= retry.max_attempts else ""
    return f"{ended} (limit leases={limits.leases})" if item.counted >= limits.leases else ""


def why_no_further(retry: Retry | None, item: ItemEntry, limits: Limits) -> str:
    """
    Say why an item whose last attempt was cut off must not be begun again; "" where it may.

    A handler that ends its process would else end every process that takes up its work.
    """
    if not item.begun:
        return ""
    most = limits.crashes if retry is None else retry.max_attempts
    if item.counted < most:
        return ""
    bound = f"limit crashes={most}" if retry is None else f"max_attempts={most}"
    return f"attempt {item.attempt} was cut off: the process ended while its handler ran; it was the last ({bound})"
