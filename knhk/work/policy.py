"""Policies that an engine is given for all tasks that state none: read as a specification's are, and refused with the same words."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from knhk.errors import SpecificationError
from knhk.spec import Retry, build
from knhk.spec.durations import milliseconds, parse_duration


def read_retry(policy: Retry | Mapping[str, Any]) -> Retry:
    """
    Return a retry policy.

    Args:
        policy: a policy, or the members that a specification has for one.

    Raises:
        SpecificationError: it is none; says what is wrong with which member.
    """
    net = build("default")
    net.sequence(net.start, net.task("retry", handler="any", retry=policy), net.end)  # type: ignore[arg-type]
    try:
        read = net.specification().root.tasks[0].retry
    except SpecificationError as error:
        raise SpecificationError(error.problems, subject="the retry policy") from None
    return read or Retry()


def read_span(span: str | timedelta, what: str) -> int:
    """
    Return a span of time in whole milliseconds.

    Raises:
        ValueError: it is none, or not longer than nothing.
    """
    length = milliseconds(span) if isinstance(span, timedelta) else parse_duration(span)
    if length <= 0:
        message = f"{what} must be longer than nothing, not {span}"
        raise ValueError(message)
    return length
