"""The client for asyncio: the same operations, awaited."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from knhk.client.async_transport import AsyncTransport
from knhk.client.balancing import Balancing
from knhk.client.core import Settings
from knhk.client.operations import (
    AsyncArea,
    CaseOperations,
    DeadLetterOperations,
    ItemOperations,
    ServiceOperations,
    WorkflowOperations,
    WorkOperations,
)
from knhk.client.results import CaseLine, Event

if TYPE_CHECKING:
    import httpx


class AsyncWorkflows(AsyncArea, WorkflowOperations):
    """`WorkflowOperations`, awaited."""


class AsyncCases(AsyncArea, CaseOperations):
    """`CaseOperations`, awaited."""

    async def all(
        self, *, spec_id: str | None = None, state: str | None = None, limit: int = 100
    ) -> AsyncIterator[CaseLine]:
        """Yield every case, page by page."""
        cursor: str | None = None
        while True:
            page = await self.list(spec_id=spec_id, state=state, limit=limit, cursor=cursor)
            for each in page.items:
                yield each
            cursor = page.next
            if cursor is None:
                return

    def watch(self, case_id: str, *, after: int = 0, every: float = 1.0) -> AsyncGenerator[Event, None]:
        """Yield what has happened in a case, and what happens, until it has ended; as that of `knhk.client.Client`."""
        return self.transport.watch(case_id, after=after, every=every)


class AsyncItems(AsyncArea, ItemOperations):
    """`ItemOperations`, awaited."""


class AsyncWork(AsyncArea, WorkOperations):
    """`WorkOperations`, awaited."""


class AsyncDeadLetters(AsyncArea, DeadLetterOperations):
    """`DeadLetterOperations`, awaited."""


class AsyncClient(AsyncArea, ServiceOperations):
    """
    A service, or several instances of one, for the tasks of one event loop.

    Args:
        urls, token, balancing, timeout, attempts, check_every: as those of `knhk.client.Client`.
        http: an ``httpx.AsyncClient``, for certificates of your own.

    Attributes:
        workflows, cases, items, work, dead_letters: the operations.

    Raises:
        MissingExtra: httpx is not installed.
        ValueError: a URL is none.
    """

    def __init__(
        self,
        urls: str | Sequence[str],
        *,
        token: str | Callable[[], str | None] | None = None,
        balancing: Balancing | str = Balancing.ROUND_ROBIN,
        timeout: float = 30.0,
        attempts: int = 4,
        check_every: float = 0.5,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        settings = Settings(
            token=token if callable(token) else lambda: token,
            balancing=Balancing(balancing),
            timeout=timeout,
            attempts=attempts,
            check_every=check_every,
        )
        super().__init__(AsyncTransport([urls] if isinstance(urls, str) else urls, settings, http=http))
        self.workflows = AsyncWorkflows(self.transport)
        self.cases = AsyncCases(self.transport)
        self.items = AsyncItems(self.transport)
        self.work = AsyncWork(self.transport)
        self.dead_letters = AsyncDeadLetters(self.transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection."""
        await self.transport.close()
