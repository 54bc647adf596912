"""A connection over plain HTTP, and how it ends when its instance does (waitress)."""

from __future__ import annotations

import socket
import time
from typing import Any, Final

import attrs
from waitress.channel import HTTPChannel
from waitress.task import WSGITask

from knhk.server.framing import Parser

FIRST_WITHIN: Final = 1.0
"""Seconds that a connection, taken when its instance was ending already, has for its first request."""


@attrs.define
class Ending:
    """
    How far the end of an instance has come.

    Args:
        leaving: whether an answer is its connection's last.
        closing: whether connections without a request are closed.
    """

    leaving: bool = False
    closing: bool = False


class Task(WSGITask):
    """A request and its answer."""

    channel: Channel

    def build_response_header(self) -> bytes:
        """Return status line and headers; the last answer of a connection says that it is."""
        if self.channel.ending.leaving:
            self.set_close_on_finish()
        header: bytes = super().build_response_header()
        return header


class Channel(HTTPChannel):
    """
    A connection.

    Args:
        ending: how far the end of the instance has come.
        arguments, named: as waitress makes it.
    """

    parser_class = Parser
    task_class = Task

    def __init__(self, ending: Ending, *arguments: Any, **named: Any) -> None:
        self.ending = ending
        super().__init__(*arguments, **named)

    def writable(self) -> bool:
        """Whether the loop has to look after it: there is something to send, or it is to be closed."""
        return bool(super().writable()) or self._is_done()

    def handle_write(self) -> None:
        """Send what there is, or close it."""
        if self._is_done() and not self._has_come():
            self.will_close = True
        super().handle_write()

    def _is_done(self) -> bool:
        """Whether it is to be closed, and no request is under way on it."""
        if not self.ending.closing or self.requests or self.request is not None or self.total_outbufs_len:
            return False
        # One that was taken in the last moment has its request on the way.
        return self.last_activity > self.creation_time or time.time() - self.creation_time >= FIRST_WITHIN

    def _has_come(self) -> bool:
        """Whether a request has come that the loop has not read yet."""
        try:
            return self.socket is not None and bool(self.socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except OSError:
            return False
