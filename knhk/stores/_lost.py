"""Answers that never come: what a store on a server does about them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

from knhk.errors import StoreUnavailable

_PAUSE: Final = 0.02

Answer = TypeVar("Answer")


class Lost(StoreUnavailable):
    """No answer came: the server may have done what it was asked, or may still do it."""


def until_answered(send: Callable[[], Answer], *, timeout: float) -> Answer:
    """
    Return the answer to what the server does only once however often it is sent.

    Sent again until an answer comes, because nobody knows what became of one that was lost.

    Args:
        send: sends it, once.
        timeout: seconds from the first answer that was lost until nobody waits any more.

    Raises:
        StoreUnavailable: no answer came in time: what was asked may have been done.
    """
    deadline = None
    while True:
        try:
            return send()
        except Lost as error:
            deadline = time.monotonic() + timeout if deadline is None else deadline
            if time.monotonic() >= deadline:
                raise StoreUnavailable(f"{error}; whether it was written is not known, read it again") from error
        except StoreUnavailable as error:
            # Known not to have been done now; of the time before that nothing is known.
            if deadline is None:
                raise
            if time.monotonic() >= deadline:
                raise StoreUnavailable(
                    f"{error}, and whether it was written before is not known, read it again"
                ) from error
        time.sleep(_PAUSE)
