"""The client: the operations of the service as methods with typed results, over one endpoint or several."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from knhk.client.balancing import Balancing
from knhk.client.results import (
    Case,
    CaseLine,
    Claim,
    DeadLetter,
    Delivered,
    Event,
    Extended,
    Item,
    Page,
    Registered,
    Soundness,
    Workflow,
    read,
    read_page,
)
from knhk.client.transport import Request, Transport

if TYPE_CHECKING:
    import urllib3

T = TypeVar("T")

_WAIT_BESIDES: Final = 10.0
"""Seconds that a long poll may take besides the wait."""


class Client:
    """
    A service, or several instances of one.

    Args:
        urls: one URL or several, as ``http://host:8080``.
        token: the bearer token, or what returns a fresh one; None where the service asks for none.
        balancing: how calls are spread over several URLs.
        timeout: seconds that a call may take with all its attempts.
        attempts: how often a call is sent at the most, where it is safe to send it again.
        check_every: seconds between looks at the readiness of each of several endpoints; a call makes them when they are due.
        http: an ``urllib3.PoolManager``, for certificates of your own.

    Raises:
        MissingExtra: urllib3 is not installed.
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
    ) -> None:
        self.transport = Transport(
            [urls] if isinstance(urls, str) else urls,
            token=token if callable(token) else lambda: token,
            balancing=Balancing(balancing),
            timeout=timeout,
            attempts=attempts,
            check_every=check_every,
            http=http,
        )
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

    def health(self) -> dict[str, Any]:
        """Return how one instance is, component by component."""
        answer = self.transport.call(Request(method="GET", path="/health/components", root=True, safe=True))
        return dict(answer)


class _Area:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def _get(self, path: str, affinity: str = "", /, **query: Any) -> Any:
        return self._transport.call(Request(method="GET", path=path, query=query, affinity=affinity, safe=True))

    def _post(self, path: str, body: Any = None, **rest: Any) -> Any:
        return self._transport.call(Request(method="POST", path=path, body=body, **rest))

    def _list(self, shape: type[T], path: str, affinity: str = "", /, **query: Any) -> Page[T]:
        return read_page(shape, self._get(path, affinity, **query))


class Workflows(_Area):
    """The registered workflows."""

    def register(self, spec: Mapping[str, Any]) -> Registered:
        """
        Register a workflow; the same content again changes nothing.

        Raises:
            SpecificationError: it is ill-formed; every problem is in it.
            SpecificationConflict: this version is registered with other content.
        """
        return read(Registered, self._post("/workflows", {"spec": dict(spec)}, safe=True))

    def verify(self, spec: Mapping[str, Any]) -> Soundness:
        """Judge a workflow without registering it."""
        return read(Soundness, self._post("/workflows/verify", {"spec": dict(spec)}, safe=True))

    def get(self, spec_id: str, version: str | None = None) -> Workflow:
        """Return a workflow with its specification; raises UnknownSpecification."""
        return read(Workflow, self._get(f"/workflows/{spec_id}", version=version))

    def list(self, *, limit: int = 100, cursor: str | None = None) -> Page[Workflow]:
        """Return a page of the registered workflows."""
        return self._list(Workflow, "/workflows", limit=limit, cursor=cursor)

    def remove(self, spec_id: str, version: str | None = None) -> None:
        """Remove a workflow; sent once."""
        self._transport.call(Request(method="DELETE", path=f"/workflows/{spec_id}", query={"version": version}))


class Cases(_Area):
    """Cases; `expected` is the version at which a command is to be done: with it, it is sent again where no answer came."""

    def create(
        self,
        spec_id: str,
        data: Mapping[str, Any] | None = None,
        *,
        version: str | None = None,
        start: bool = False,
        key: str | None = None,
    ) -> Case:
        """
        Create a case, once however often it has to be sent.

        Args:
            spec_id, version: of which workflow; the latest version where none is named.
            data: its first data.
            start: whether it is started, too.
            key: the idempotency key; one is made where none is given.

        Raises:
            UnknownSpecification: there is no such workflow.
            IdempotencyConflict: the key was used with another request.
        """
        body: dict[str, Any] = {"spec_id": spec_id, "data": dict(data or {}), "start": start}
        if version is not None:
            body["version"] = version
        return read(Case, self._post("/cases", body, key=key or uuid.uuid4().hex, safe=True))

    def get(self, case_id: str) -> Case:
        """Return a case; raises UnknownCase."""
        return read(Case, self._get(f"/cases/{case_id}", case_id))

    def list(
        self, *, spec_id: str | None = None, state: str | None = None, limit: int = 100, cursor: str | None = None
    ) -> Page[CaseLine]:
        """Return a page of cases."""
        return self._list(CaseLine, "/cases", spec_id=spec_id, state=state, limit=limit, cursor=cursor)

    def all(self, *, spec_id: str | None = None, state: str | None = None, limit: int = 100) -> Iterator[CaseLine]:
        """Yield every case, page by page."""
        cursor: str | None = None
        while True:
            page = self.list(spec_id=spec_id, state=state, limit=limit, cursor=cursor)
            yield from page.items
            cursor = page.next
            if cursor is None:
                return

    def history(self, case_id: str, *, limit: int = 100, cursor: str | None = None) -> Page[Event]:
        """Return a page of what happened in a case."""
        return self._list(Event, f"/cases/{case_id}/history", case_id, limit=limit, cursor=cursor)

    def start(self, case_id: str, *, expected: int | None = None) -> Case:
        """Start a case; raises IllegalTransition, and ConcurrentUpdate where the version is another."""
        return self._command(case_id, "start", expected)

    def execute(self, case_id: str, *, expected: int | None = None) -> Case:
        """Start a case if needed, and do its automatic work until it waits or ends."""
        return self._command(case_id, "execute", expected)

    def cancel(self, case_id: str, *, expected: int | None = None) -> Case:
        """Cancel a case."""
        return self._command(case_id, "cancel", expected)

    def suspend(self, case_id: str, *, expected: int | None = None) -> Case:
        """Hold a case."""
        return self._command(case_id, "suspend", expected)

    def resume(self, case_id: str, *, expected: int | None = None) -> Case:
        """Go on with a case that was held."""
        return self._command(case_id, "resume", expected)

    def send_event(
        self, case_id: str, name: str, data: Mapping[str, Any] | None = None, *, expected: int | None = None
    ) -> Delivered:
        """Deliver an event to a case."""
        body = {"name": name, "data": dict(data or {})}
        answer = self._post(
            f"/cases/{case_id}/events", body, expected=expected, safe=expected is not None, affinity=case_id
        )
        return read(Delivered, answer)

    def _command(self, case_id: str, name: str, expected: int | None) -> Case:
        answer = self._post(f"/cases/{case_id}/{name}", expected=expected, safe=expected is not None, affinity=case_id)
        return read(Case, answer)


class Items(_Area):
    """Work items; `expected` is the version of the case, as with `Cases`."""

    def list(
        self,
        *,
        case_id: str | None = None,
        state: str | None = None,
        participant: str | None = None,
        role: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[Item]:
        """Return a page of the open items."""
        wanted = {"case_id": case_id, "state": state, "participant": participant, "role": role}
        return self._list(Item, "/workitems", case_id or "", limit=limit, cursor=cursor, **wanted)

    def get(self, item_id: str) -> Item:
        """Return an item with what its work is given; raises UnknownWorkItem."""
        return read(Item, self._get(f"/workitems/{item_id}", _case_of(item_id)))

    def offer(self, item_id: str, *, expected: int | None = None) -> Item:
        """Give an allocated item back to all who may do it."""
        return self._command(item_id, "offer", None, expected)

    def allocate(self, item_id: str, to: str | None = None, *, expected: int | None = None) -> Item:
        """Give an item to a participant; without a name, to the caller."""
        return self._command(item_id, "allocate", {} if to is None else {"to": to}, expected)

    def delegate(self, item_id: str, to: str, *, expected: int | None = None) -> Item:
        """Hand an allocated item on to another participant."""
        return self._command(item_id, "delegate", {"to": to}, expected)

    def start(self, item_id: str, *, expected: int | None = None) -> Item:
        """Take an item up."""
        return self._command(item_id, "start", None, expected)

    def complete(self, item_id: str, data: Mapping[str, Any] | None = None, *, expected: int | None = None) -> Item:
        """Complete an item with what its work gave."""
        return self._command(item_id, "complete", {"data": dict(data or {})}, expected)

    def fail(self, item_id: str, reason: str = "", *, expected: int | None = None) -> Item:
        """Say that started work has failed."""
        return self._command(item_id, "fail", {"reason": reason}, expected)

    def suspend(self, item_id: str, *, expected: int | None = None) -> Item:
        """Lay started work aside."""
        return self._command(item_id, "suspend", None, expected)

    def resume(self, item_id: str, *, expected: int | None = None) -> Item:
        """Take suspended work up again."""
        return self._command(item_id, "resume", None, expected)

    def skip(self, item_id: str, *, expected: int | None = None) -> Item:
        """Complete an item without its work being done."""
        return self._command(item_id, "skip", None, expected)

    def _command(self, item_id: str, name: str, body: Any, expected: int | None) -> Item:
        path, case_id = f"/workitems/{item_id}/{name}", _case_of(item_id)
        answer = self._post(path, body, expected=expected, safe=expected is not None, affinity=case_id)
        return read(Item, answer)


class Work(_Area):
    """External work, under leases; a word about a claim may be sent again, for its token lets none be done twice."""

    def claim(
        self,
        *topics: str,
        worker: str | None = None,
        max: int = 1,  # noqa: A002 - the wire's word
        lease: float | None = None,
        wait: float = 0.0,
    ) -> tuple[Claim, ...]:
        """
        Take work of these topics.

        Args:
            topics: which work.
            worker: a name for the history; the caller's where none is given.
            max: how much of it.
            lease: seconds for which it is kept.
            wait: seconds, at most 20, to wait for some.
        """
        body: dict[str, Any] = {"topics": list(topics), "max": max, "wait": wait}
        body |= {name: value for name, value in (("worker", worker), ("lease", lease)) if value is not None}
        request = Request(method="POST", path="/work/claim", body=body)
        answer = self._transport.call(request, timeout=wait + min(self._transport.timeout, _WAIT_BESIDES))
        return read_page(Claim, answer).items

    def complete(self, claim: Claim, data: Mapping[str, Any] | None = None) -> None:
        """Complete claimed work; raises ClaimLost where the worker has it no more."""
        self._say(claim, "complete", {"data": dict(data or {})})

    def fail(
        self,
        claim: Claim,
        reason: str = "",
        *,
        error: str = "",
        retryable: bool = True,
        retry_after: float | None = None,
    ) -> bool:
        """Say that claimed work has failed; returns whether that is taken care of, else it is a dead letter."""
        body: dict[str, Any] = {"reason": reason, "error": error, "retryable": retryable}
        if retry_after is not None:
            body["retry_after"] = retry_after
        return bool(self._say(claim, "fail", body)["handled"])

    def extend(self, claim: Claim, lease: float | None = None, *, timeout: float | None = None) -> Extended:
        """Keep claimed work for so many seconds from now, within the call's own `timeout`; raises ClaimLost."""
        return read(Extended, self._say(claim, "extend", {} if lease is None else {"lease": lease}, timeout))

    def release(self, claim: Claim) -> None:
        """Give claimed work back, to be offered again at once; the attempt does not count; raises ClaimLost."""
        self._say(claim, "release", {})

    def _say(self, claim: Claim, word: str, body: Mapping[str, Any], timeout: float | None = None) -> Any:
        request = Request(
            method="POST",
            path=f"/work/{claim.id}/{word}",
            body={"token": claim.token, **body},
            affinity=claim.case_id,
            safe=True,
        )
        return self._transport.call(request, timeout=timeout)


class DeadLetters(_Area):
    """Work that has failed for good, and messages of webhooks that did not arrive."""

    def list(
        self,
        *,
        kind: str | None = None,
        spec_id: str | None = None,
        handler: str | None = None,
        topic: str | None = None,
        error: str | None = None,
        webhook: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[DeadLetter]:
        """Return a page of those that have exactly this."""
        wanted: dict[str, Any] = {"kind": kind, "spec_id": spec_id, "handler": handler, "topic": topic, "error": error}
        wanted["webhook"] = webhook
        return self._list(DeadLetter, "/dead-letters", "", limit=limit, cursor=cursor, **wanted)

    def replay(self, letter_id: str) -> None:
        """Give failed work all its attempts anew, or send a message again."""
        self._post(f"/dead-letters/{letter_id}/replay", affinity=_case_of(letter_id))

    def discard(self, letter_id: str, reason: str) -> None:
        """Give failed work up, or forget a message."""
        self._post(f"/dead-letters/{letter_id}/discard", {"reason": reason}, affinity=_case_of(letter_id))


def _case_of(item_id: str) -> str:
    """Return the case in the id of a work item, or of a message: ``case:number``, ``webhook:case:place``."""
    return item_id.rpartition(":")[0].rpartition(":")[2]
