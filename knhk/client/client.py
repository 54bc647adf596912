"""The client for threads."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from knhk.client.balancing import Balancing
from knhk.client.core import Core, Settings
from knhk.client.grpc_sends import GrpcSends
from knhk.client.operations import (
    Area,
    CaseOperations,
    DeadLetterOperations,
    ItemOperations,
    ServiceOperations,
    WorkflowOperations,
    WorkOperations,
)
from knhk.client.results import CaseLine, Event
from knhk.client.transport import HttpSends, Transport

if TYPE_CHECKING:
    import grpc
    import urllib3


class Workflows(Area, WorkflowOperations):
    """`WorkflowOperations`, called."""


class Cases(Area, CaseOperations):
    """`CaseOperations`, called."""

    def all(self, *, spec_id: str | None = None, state: str | None = None, limit: int = 100) -> Iterator[CaseLine]:
        """Yield every case, page by page."""
        cursor: str | None = None
        while True:
            page = self.list(spec_id=spec_id, state=state, limit=limit, cursor=cursor)
            yield from page.items
            cursor = page.next
            if cursor is None:
                return

    def watch(self, case_id: str, *, after: int = 0, every: float = 1.0) -> Generator[Event, None, None]:
        """
        Yield what has happened in a case, and what happens, until it is completed or cancelled.

        Where the way to an instance breaks it goes on from the last event, with another one where there is one.
        Over gRPC events are told when they happen, over HTTP they are looked for.

        Args:
            case_id: of the case.
            after: the sequence number of the last event that is known.
            every: seconds between looks, over HTTP.

        Raises:
            UnknownCase: there is no such case.
            OutboundError, StoreUnavailable: no instance could answer for the client's `timeout`.
        """
        return self.transport.watch(case_id, after=after, every=every)


class Items(Area, ItemOperations):
    """`ItemOperations`, called."""


class Work(Area, WorkOperations):
    """`WorkOperations`, called."""


class DeadLetters(Area, DeadLetterOperations):
    """`DeadLetterOperations`, called."""


class Client(Area, ServiceOperations):
    """
    A service, or several instances of one; any thread may use it.

    Args:
        urls: one URL or several, as ``http://host:8080``; or all as ``grpc://host:9090`` or ``grpcs://``, for gRPC.
        token: the bearer token, or what returns a fresh one; None where the service asks for none.
        balancing: how calls are spread over several URLs.
        timeout: seconds that a call may take with all its attempts.
        attempts: how often a call is sent at the most, where it is safe to send it again.
        check_every: seconds between looks at the readiness of each of several endpoints; a call makes them when they are due.
        http: an ``urllib3.PoolManager``, for certificates of your own.
        credentials: a ``grpc.ChannelCredentials``, for certificates of your own with ``grpcs://``.

    Attributes:
        workflows, cases, items, work, dead_letters: the operations.

    Raises:
        MissingExtra: urllib3, or grpcio for gRPC, is not installed.
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
        http: urllib3.PoolManager | None = None,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        settings = Settings(
            token=token if callable(token) else lambda: token,
            balancing=Balancing(balancing),
            timeout=timeout,
            attempts=attempts,
            check_every=check_every,
        )
        several = [urls] if isinstance(urls, str) else [*urls]
        rpc = bool(several) and several[0].startswith(("grpc://", "grpcs://"))
        core = Core(several, settings, ("grpc", "grpcs") if rpc else ("http", "https"))
        if rpc:
            sends = GrpcSends(core.endpoints, credentials)
            super().__init__(Transport(core, sends, stream=sends.stream))
        else:
            super().__init__(Transport(core, HttpSends(http)))
        self.workflows = Workflows(self.transport)
        self.cases = Cases(self.transport)
        self.items = Items(self.transport)
        self.work = Work(self.transport)
        self.dead_letters = DeadLetters(self.transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection."""
        self.transport.close()
