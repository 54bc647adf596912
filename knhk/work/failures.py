"""What a handler's error says: its text for the history, its type's names, whether and when another attempt may help."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from datetime import timedelta
from pathlib import PurePath
from typing import Any, Final

from knhk._attempts import Failure
from knhk.errors import KnhkError
from knhk.spec.durations import MAX_DURATION

LONGEST_REASON: Final = 500
"""Characters of an error's text that the history keeps."""


def failure_of(error: BaseException, *, draw: float) -> Failure:
    """
    Read an error that a handler raised.

    An attribute ``retryable`` that is False rules out another attempt; ``retry_after`` (seconds, or a timedelta) is the least
    wait before it.  What these attributes hold otherwise, or raise, is as if they were not there.

    Args:
        error: the error.
        draw: a number from 0 up to but not 1, drawn by chance.
    """
    digest, where = trace_of(error)
    return Failure(
        text=told(error),
        kinds=_kinds(type(error)),
        retryable=_asked(error, "retryable") is not False,
        after=_milliseconds(_asked(error, "retry_after")),
        draw=draw,
        digest=digest,
        where=where,
    )


def told(error: BaseException) -> str:
    """Say what an attempt failed of, in a form that the journal holds; whatever the error's own text does."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - the text of an error is user code too
        text = "its text cannot be made"
    return shortened(f"{type(error).__name__}: {text}" if text else type(error).__name__)


def shortened(text: str) -> str:
    """Return a text that the journal holds: of bounded length, and without halves of surrogate pairs."""
    whole = text.encode("utf-8", "replace").decode()
    return whole if len(whole) <= LONGEST_REASON else f"{whole[:LONGEST_REASON]}..."


def trace_of(error: BaseException) -> tuple[str, str]:
    """
    Return a digest of an error's traceback and its innermost place, as ``bank.py:41 charge``; "" where there is none.

    Errors of one type that came the same way through the same code have the same digest.
    """
    places = []
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        places.append(f"{PurePath(code.co_filename).name}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    if not places:
        return "", ""
    whole = "\n".join([type(error).__qualname__, *places])
    return hashlib.sha256(whole.encode("utf-8", "replace")).hexdigest()[:16], shortened(places[-1])


def raise_first(failures: Sequence[KnhkError]) -> None:
    """Raise the first failure, saying of the others what they were."""
    if not failures:
        return
    for other in failures[1:]:
        failures[0].add_note(f"and also: {other}")
    raise failures[0]


def _kinds(kind: type) -> tuple[str, ...]:
    """The names of a type and its bases, with and without their modules, up to what all errors have in common."""
    own = [each for each in kind.__mro__ if each not in (object, BaseException)]
    return tuple(name for each in own for name in (each.__name__, f"{each.__module__}.{each.__qualname__}"))


def _asked(error: BaseException, name: str) -> Any:
    try:
        return getattr(error, name, None)
    except Exception:  # noqa: BLE001 - a property of an error is user code too
        return None


def _milliseconds(span: object) -> int:
    if isinstance(span, timedelta):
        span = span.total_seconds()
    if isinstance(span, bool) or not isinstance(span, int | float) or not math.isfinite(span) or span <= 0:
        return 0
    return math.ceil(min(span * 1000, MAX_DURATION))
