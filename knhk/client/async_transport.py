"""Calls over HTTP with asyncio; the only file here that knows httpx."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from knhk.client.core import Answer, Core, Lost, Request, Send, Settings, Wait
from knhk.client.results import Event
from knhk.client.watching import Found, Steps, Watch
from knhk.errors import MissingExtra

if TYPE_CHECKING:
    import httpx


class AsyncTransport:
    """
    Makes calls on the event loop; any task may.

    Args:
        urls: of the endpoints, without ``/api/v1``.
        settings: how calls are made.
        http: a client of httpx, for certificates of your own.
        sleep: waits.

    Raises:
        MissingExtra: httpx is not installed.
    """

    def __init__(
        self,
        urls: Sequence[str],
        settings: Settings,
        *,
        http: httpx.AsyncClient | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        try:
            import httpx  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise MissingExtra("client", "the client") from error
        self.core = Core(urls, settings)
        # No proxy by the environment: the other transport takes none either.
        self._http = http or httpx.AsyncClient(trust_env=False, follow_redirects=False)
        self._failed = (httpx.TransportError, TimeoutError, OSError)
        self._unsent = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
        self._sleep = sleep

    async def close(self) -> None:
        """Close every connection."""
        await self._http.aclose()

    async def call(self, request: Request, within: float | None = None) -> Any:
        """Make a call, as `Core.call`."""
        steps = self.core.call(request, within)
        said: Answer | Lost | None = None
        try:
            while True:
                step = steps.send(said)
                if isinstance(step, Send):
                    said = await self._send(step)
                else:
                    await self._sleep(step.seconds)
                    said = None
        except StopIteration as end:
            return end.value
        finally:
            steps.close()

    def watch(self, case_id: str, *, after: int, every: float) -> AsyncGenerator[Event, None]:
        """Yield a case's events, as `Watch`."""
        return self._watched(Watch(self.core, case_id, after=after, every=every, streams=False).steps())

    async def _watched(self, steps: Steps) -> AsyncGenerator[Event, None]:
        said: Answer | Lost | None = None
        try:
            while True:
                step = steps.send(said)
                said = None
                if isinstance(step, Found):
                    yield step.event
                elif isinstance(step, Send):
                    said = await self._send(step)
                else:
                    assert isinstance(step, Wait)
                    await self._sleep(step.seconds)
        except StopIteration:
            return
        finally:
            steps.close()

    async def _send(self, step: Send) -> Answer | Lost:
        try:
            # httpx bounds each part of a request, and not the whole.
            async with asyncio.timeout(step.timeout):
                answer = await self._http.request(
                    step.method, step.url, content=step.content, headers=dict(step.headers), timeout=step.timeout
                )
        except self._failed as error:
            return Lost(error, sent=not isinstance(error, self._unsent))
        return Answer(answer.status_code, answer.headers, answer.content)
