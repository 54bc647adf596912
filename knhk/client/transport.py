"""Calls in threads, and over HTTP; the only file here that knows urllib3."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Protocol

from knhk.client.core import Answer, Core, Lost, Next, Request, Send, Wait
from knhk.client.results import Event
from knhk.client.watching import Found, Steps, Watch
from knhk.errors import MissingExtra

if TYPE_CHECKING:
    import urllib3


Answers = Generator[Answer | Lost, None, None]


class Sends(Protocol):
    """Sends what a core asks for, and waits."""

    def send(self, step: Send) -> Answer | Lost:
        """Send, and return what came of it."""

    def close(self) -> None:
        """Close every connection."""


class Transport:
    """
    Makes calls in the thread that asks for them; any thread may.

    Args:
        core: says what is to be done.
        sends: does it.
        stream: sends what has many answers, and yields them; None where nothing has.
        sleep: waits.
    """

    def __init__(
        self,
        core: Core,
        sends: Sends,
        *,
        stream: Callable[[Send], Answers] | None = None,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.core = core
        self._sends = sends
        self._stream = stream
        self._sleep = sleep

    def close(self) -> None:
        """Close every connection."""
        self._sends.close()

    def call(self, request: Request, within: float | None = None) -> Any:
        """Make a call, as `Core.call`."""
        steps = self.core.call(request, within)
        said: Answer | Lost | None = None
        try:
            while True:
                step = steps.send(said)
                if isinstance(step, Send):
                    said = self._sends.send(step)
                else:
                    self._sleep(step.seconds)
                    said = None
        except StopIteration as end:
            return end.value
        finally:
            steps.close()

    def watch(self, case_id: str, *, after: int, every: float) -> Generator[Event, None, None]:
        """Yield a case's events, as `Watch`."""
        steps = Watch(self.core, case_id, after=after, every=every, streams=self._stream is not None).steps()
        return self._watched(steps)

    def _watched(self, steps: Steps) -> Generator[Event, None, None]:
        said: Answer | Lost | None = None
        answers: Answers | None = None
        try:
            while True:
                step = steps.send(said)
                said = None
                if isinstance(step, Found):
                    yield step.event
                elif isinstance(step, Wait):
                    self._sleep(step.seconds)
                elif isinstance(step, Next):
                    said = None if answers is None else next(answers, None)
                elif self._stream is not None and step.streams:
                    answers = self._stream(step)
                else:
                    said = self._sends.send(step)
        except StopIteration:
            return
        finally:
            steps.close()
            if answers is not None:
                answers.close()


class HttpSends:
    """
    Sends over HTTP.

    Args:
        http: a pool of urllib3, for certificates of your own.

    Raises:
        MissingExtra: urllib3 is not installed.
    """

    def __init__(self, http: urllib3.PoolManager | None = None) -> None:
        try:
            import urllib3  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise MissingExtra("client", "the client") from error
        self._http = http or urllib3.PoolManager(maxsize=16, retries=False)
        self._failed = (urllib3.exceptions.HTTPError, OSError)
        self._unsent = (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError)
        self._timeout_of = urllib3.Timeout

    def close(self) -> None:
        """Close every connection."""
        self._http.clear()

    def send(self, step: Send) -> Answer | Lost:
        """Send, and return what came of it."""
        try:
            answer = self._http.request(
                step.method,
                step.url,
                body=step.content,
                headers=step.headers,
                timeout=self._timeout_of(total=step.timeout),
                retries=False,
                redirect=False,
            )
        except self._failed as error:
            return Lost(error, sent=not isinstance(error, self._unsent))
        return Answer(answer.status, answer.headers, answer.data)
