"""Several processes that answer on one port: each an instance on the store, and whoever of them dies is started again.

The parent opens the port, and serves nothing itself: its children accept from the same socket.
A child ends in order when the pipe from its parent is closed, so none outlives a parent that was killed.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Final

import attrs

from knhk.server.configuration import Configuration, ConfigurationError, variable
from knhk.server.leaving import grace_of, refuse_new
from knhk.server.serving import listening

LOG: Final = logging.getLogger("knhk.server")
READY: Final = b"ready\n"
"""What a child writes when it serves."""

_GRACE: Final = 5.0
_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 30.0
_STEADY: Final = 30.0


@attrs.define(eq=False)
class _Child:
    """
    A process that serves.

    Args:
        process: it.
        place: which of the workers it is, from 1.
        since: when it was started.
        ready: whether it has served.
    """

    process: subprocess.Popen[bytes]
    place: int
    since: float
    ready: threading.Event = attrs.field(factory=threading.Event)

    def listen(self, told: int) -> None:
        """Hear that it serves, or that it has ended without."""
        if os.read(told, len(READY)) == READY:
            self.ready.set()
        os.close(told)

    def let_go(self) -> None:
        """Give its pipe back, when it has ended."""
        if self.process.stdin is not None:
            self.process.stdin.close()


class Workers:
    """
    The parent of several serving processes.

    Args:
        settings: the configuration.
        count: how many processes serve.
        command: what starts one; its last arguments are the numbers of the socket, and of the file where it says `READY`.
        environment: of the processes, beside what is told each.

    Raises:
        ConfigurationError: the port cannot be opened.
    """

    def __init__(
        self, settings: Configuration, count: int, *, command: tuple[str, ...], environment: Mapping[str, str]
    ) -> None:
        self._settings = settings
        self._count = count
        self._command = command
        self._environment = dict(environment)
        self._listener = listening(settings)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._children: dict[int, _Child] = {}
        self._due: dict[int, float] = {}
        self._pauses: dict[int, float] = {}
        self._over = False

    def run(self, ready: Callable[[int], None]) -> int:
        """
        Serve until SIGTERM or SIGINT, then let all end in order.

        Args:
            ready: is told the port when all serve for the first time.

        Returns:
            0 where all ended as they should.
        """
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, self._end)
        for place in range(1, self._count + 1):
            self._start(place)
        told = False
        while not self._over:
            time.sleep(0.1)
            if not told and all(each.ready.is_set() for each in self._children.values()):
                told = True
                ready(self.port)
            if not self._look_after(told=told):
                break
        try:
            return self._stop()
        finally:
            self._listener.close()

    # --- inside -------------------------------------------------------------------------------------------------------

    def _end(self, _: int, __: FrameType | None) -> None:
        # Nothing with a lock, which who is interrupted here may have.
        self._over = True

    def _start(self, place: int) -> None:
        name = f"{self._settings.instance_id}-{place}-{secrets.token_hex(3)}"
        told = {variable("instance_id"): name, variable("shared"): "true"}
        file = self._listener.fileno()
        hears, says = os.pipe()
        process = subprocess.Popen(  # noqa: S603 - this program itself
            [*self._command, str(file), str(says)],
            env={**self._environment, **told},
            pass_fds=[file, says],
            stdin=subprocess.PIPE,
            # A terminal's Ctrl-C is for the parent, which tells its children.
            start_new_session=True,
        )
        os.close(says)
        child = self._children[place] = _Child(process, place, time.monotonic())
        threading.Thread(target=child.listen, args=(hears,), name=f"knhk-child-{place}", daemon=True).start()
        LOG.info("worker started", extra={"worker": place, "pid": process.pid, "named": name})

    def _look_after(self, *, told: bool) -> bool:
        """Start again what has died; False where it dies before all have served once: then it never will."""
        now = time.monotonic()
        for place, child in tuple(self._children.items()):
            status = child.process.poll()
            if status is None:
                continue
            del self._children[place]
            child.let_go()
            LOG.error("worker died", extra={"worker": place, "pid": child.process.pid, "status": status})
            if not told and not child.ready.is_set():
                return False
            steady = now - child.since >= _STEADY
            pause = self._pauses[place] = (
                _FIRST_PAUSE if steady else min(self._pauses.get(place, _FIRST_PAUSE / 2) * 2, _LONGEST_PAUSE)
            )
            self._due[place] = now + pause
        for place, due in tuple(self._due.items()):
            if now >= due:
                del self._due[place]
                self._start(place)
        return True

    def _stop(self) -> int:
        ended = self._over
        for child in self._children.values():
            child.process.terminate()
        end = time.monotonic() + self._settings.drain_timeout + _GRACE
        if ended:
            time.sleep(grace_of(self._settings.drain_timeout))
            refuse_new(self._listener)
        good = ended
        for child in self._children.values():
            try:
                status = child.process.wait(max(end - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                LOG.warning("worker killed", extra={"worker": child.place, "pid": child.process.pid})
                child.process.kill()
                status = child.process.wait()
            child.let_go()
            # Who has not served yet may not have learnt how to end in order.
            good = good and (status == 0 or (status == -signal.SIGTERM and not child.ready.is_set()))
        return 0 if good else 1


def inherited(file: int) -> socket.socket:
    """Return the socket that the parent has opened; raises ConfigurationError where there is none of that number."""
    try:
        return socket.socket(fileno=file)
    except OSError as error:
        raise ConfigurationError([f"--listener {file}: this is for the parent of several workers: {error}"]) from error


def follow_parent() -> None:
    """End this process in order when its parent has ended: then nobody holds the other end of its input."""

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="knhk-parent", daemon=True).start()


def tell_ready(file: int) -> None:
    """Tell the parent that this process serves."""
    os.write(file, READY)
    os.close(file)
