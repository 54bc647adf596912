"""How an instance stops taking connections without losing one: an order of steps, each a moment long.

The kernel takes connections for a server that has not asked for them yet, and resets those when the server closes its port.
So the port is closed last.
First, for a grace, everything goes on and only readiness says no, until balancers have noticed.
Then the kernel is told to take no new connection (a filter on the listening socket, Linux): whoever comes now is not answered,
tries again, and finds the port closed or another instance behind it.
What had been taken before is accepted and answered; when for a moment nothing more has come, nothing can come any more.
"""

from __future__ import annotations

import ctypes
import select
import socket
import struct
import sys
import time
from collections.abc import Callable, Sequence
from typing import Final

GRACE: Final = 1.0
"""Seconds for which an instance that ends takes connections as before; at most a quarter of the time that it has."""

SETTLES: Final = 0.2
"""Seconds without a new connection after which there is none on its way."""

_ATTACH_FILTER: Final = 26
_DETACH_FILTER: Final = 27
_GET_FILTER: Final = 26
# Classic BPF on what begins with the TCP header: load the flags, keep SYN and ACK, drop where they are SYN alone.
_NO_NEW_CONNECTIONS: Final = (
    (0x30, 0, 0, 13),
    (0x54, 0, 0, 0x12),
    (0x15, 0, 1, 0x02),
    (0x06, 0, 0, 0),
    (0x06, 0, 0, 0xFFFFFFFF),
)


def grace_of(patience: float) -> float:
    """Return the seconds for which an instance that has this many to end takes connections as before."""
    return min(GRACE, patience / 4)


def refuse_new(listener: socket.socket) -> bool:
    """Let the kernel take no new connection; returns whether it can be told so."""
    if sys.platform != "linux":
        return False
    program = b"".join(struct.pack("HBBI", *each) for each in _NO_NEW_CONNECTIONS)
    kept = ctypes.create_string_buffer(program, len(program))
    told = struct.pack("HP", len(_NO_NEW_CONNECTIONS), ctypes.addressof(kept))
    try:
        listener.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, told)
    except OSError:
        # A kernel without filters: then those who come in the last moment are reset.
        return False
    return True


def take_new(listener: socket.socket) -> None:
    """Let the kernel take new connections again."""
    if refuses_new(listener):
        listener.setsockopt(socket.SOL_SOCKET, _DETACH_FILTER, 0)


def refuses_new(listener: socket.socket) -> bool:
    """Whether somebody has told the kernel so."""
    if sys.platform != "linux":
        return False
    try:
        return bool(listener.getsockopt(socket.SOL_SOCKET, _GET_FILTER, 8 * len(_NO_NEW_CONNECTIONS)))
    except OSError:
        return False


class Leaving:
    """
    The end of an instance, as far as new connections go; it is looked at again and again.

    Args:
        listeners: where connections come from; whoever accepts from them goes on until this is over.
        patience: seconds within which it is over, whatever comes.
        alone: whether nobody else accepts from the same sockets.
            Else whoever opened them tells the kernel to take no new connection, when all end; where only this process ends, the
            others answer what comes.
        seconds: a monotonic clock.
    """

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        patience: float,
        *,
        alone: bool,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._listeners = listeners
        self._alone = alone
        self._seconds = seconds
        begun = seconds()
        self._stops = begun + grace_of(patience)
        self._end = begun + patience
        self._quiet = 0.0
        self.stopped = False

    def over(self) -> bool:
        """Whether every connection that was taken has been accepted, or the time is over."""
        now = self._seconds()
        if now < self._stops:
            return False
        if not self.stopped:
            self.stopped = True
            self._quiet = now
            if self._alone:
                for each in self._listeners:
                    refuse_new(each)
        if self._waits() or (not self._alone and not all(map(refuses_new, self._listeners)) and now < self._told_by()):
            self._quiet = now
        return now - self._quiet >= SETTLES or now >= self._end

    def _told_by(self) -> float:
        """Return until when whoever opened the sockets may tell the kernel."""
        return min(self._stops + GRACE, self._end)

    def _waits(self) -> bool:
        """Whether a connection waits to be accepted."""
        asked = select.poll()
        for each in self._listeners:
            asked.register(each, select.POLLIN)
        return bool(asked.poll(0))
