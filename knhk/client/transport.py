"""Calls over HTTP with threads; the only file here that knows urllib3."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from knhk.client.core import Answer, Core, Lost, Request, Send, Settings
from knhk.errors import MissingExtra

if TYPE_CHECKING:
    import urllib3


class Transport:
    """
    Makes calls in the thread that asks for them; any thread may.

    Args:
        urls: of the endpoints, without ``/api/v1``.
        settings: how calls are made.
        http: a pool of urllib3, for certificates of your own.
        sleep: waits.

    Raises:
        MissingExtra: urllib3 is not installed.
    """

    def __init__(
        self,
        urls: Sequence[str],
        settings: Settings,
        *,
        http: urllib3.PoolManager | None = None,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        try:
            import urllib3  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise MissingExtra("client", "the client") from error
        self.core = Core(urls, settings)
        self._http = http or urllib3.PoolManager(maxsize=16, retries=False)
        self._failed = (urllib3.exceptions.HTTPError, OSError)
        self._unsent = (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError)
        self._timeout_of = urllib3.Timeout
        self._sleep = sleep

    def close(self) -> None:
        """Close every connection."""
        self._http.clear()

    def call(self, request: Request, within: float | None = None) -> Any:
        """Make a call, as `Core.call`."""
        steps = self.core.call(request, within)
        said: Answer | Lost | None = None
        try:
            while True:
                step = steps.send(said)
                if isinstance(step, Send):
                    said = self._send(step)
                else:
                    self._sleep(step.seconds)
                    said = None
        except StopIteration as end:
            return end.value
        finally:
            steps.close()

    def _send(self, step: Send) -> Answer | Lost:
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
