"""Messages that do not come: whoever calls and then says nothing must not keep a thread for ever.

The library gives a call a thread before its message has arrived.
So the handlers here take calls whose messages are still to come, ask first who calls, and wait for the message only so long;
on the wire that is the same.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from knhk.errors import MissingExtra
from knhk.server.problems import Problem

try:
    import grpc
except ImportError as error:
    raise MissingExtra("grpc", "serving gRPC") from error

ARRIVES_WITHIN: Final = 10.0
"""Seconds from the beginning of a call to its message."""

LOOK: Final = 0.5
"""Seconds between looks at who has not sent one."""


class Arrivals:
    """Waits for messages, and cuts off whoever does not send his in time."""

    def __init__(self) -> None:
        # By time. Whose message has come, and who was cut off, is no longer in his place.
        self._waiting: deque[tuple[float, list[grpc.ServicerContext]]] = deque()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._repeat, name="knhk-grpc-arrivals", daemon=True)

    def start(self) -> None:
        """Cut off, from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Cut off nobody any more."""
        self._over.set()

    def message(self, messages: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        """Return the message of a call; raises Problem where none comes."""
        place = [context]
        self._waiting.append((time.monotonic() + ARRIVES_WITHIN, place))
        try:
            return next(messages)
        except (StopIteration, grpc.RpcError) as error:
            # The library may tell of one who was cut off as of one who has nothing to say.
            if place and isinstance(error, StopIteration):
                raise Problem(kind="malformed", detail="the call has no message") from None
            raise Problem(kind="deadline", detail="the message of the call did not come") from None
        finally:
            place.clear()

    def _repeat(self) -> None:
        while not self._over.wait(LOOK):
            now = time.monotonic()
            while self._waiting and self._waiting[0][0] <= now:
                place = self._waiting.popleft()[1]
                with suppress(IndexError):
                    place.pop().cancel()
