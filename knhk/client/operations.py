"""
The operations of the service: for each what is sent and how its answer is read, for clients with and without await.

An `Operation` is written once, as a function that returns a `Call`.  Asked for on an area of `knhk.client.Client` it is a method
that returns the result, on one of `knhk.client.AsyncClient` a method that is to be awaited for it.
"""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Concatenate, Final, Generic, ParamSpec, TypeVar, overload

import attrs

from knhk.client.async_transport import AsyncTransport
from knhk.client.core import Request
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
from knhk.client.transport import Transport

P = ParamSpec("P")
T = TypeVar("T")

_WAIT_BESIDES: Final = 10.0
"""Seconds that a long poll may take besides the wait."""


@attrs.frozen
class Call(Generic[T]):
    """
    A call, and what its answer says.

    Args:
        request: what is sent.
        read: makes the result of the answer's body.
        timeout: seconds for all attempts; None: the client's.
    """

    request: Request
    read: Callable[[Any], T]
    timeout: float | None = None


class Area:
    """Part of a client that calls in the thread that asks."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport

    def do(self, call: Call[T]) -> T:
        """Make a call; returns its result."""
        return call.read(self.transport.call(call.request, call.timeout))


class AsyncArea:
    """Part of a client that is awaited."""

    def __init__(self, transport: AsyncTransport) -> None:
        self.transport = transport

    async def do(self, call: Call[T]) -> T:
        """Make a call; returns its result."""
        return call.read(await self.transport.call(call.request, call.timeout))


class Operation(Generic[P, T]):
    """A method of both kinds of client, told by the call that it makes."""

    def __init__(self, make: Callable[Concatenate[Any, P], Call[T]]) -> None:
        self._make = make

    @overload
    def __get__(self, area: Area, owner: type) -> Callable[P, T]: ...

    @overload
    def __get__(self, area: AsyncArea, owner: type) -> Callable[P, Coroutine[Any, Any, T]]: ...

    @overload
    def __get__(self, area: object, owner: type) -> Callable[..., Call[T]]: ...

    def __get__(self, area: Any, owner: type) -> Callable[..., Any]:
        make = self._make
        if not isinstance(area, (Area, AsyncArea)):
            return make

        @functools.wraps(make)
        def do(*args: P.args, **named: P.kwargs) -> Any:
            return area.do(make(area, *args, **named))

        return do


class ServiceOperations:
    """The service itself."""

    @Operation
    def health(self) -> Call[dict[str, Any]]:
        """Return how one instance is, component by component."""
        return Call(Request(method="GET", path="/health/components", root=True, safe=True), dict)


class WorkflowOperations:
    """The registered workflows."""

    @Operation
    def register(self, spec: Mapping[str, Any]) -> Call[Registered]:
        """
        Register a workflow; the same content again changes nothing.

        Raises:
            SpecificationError: it is ill-formed; every problem is in it.
            SpecificationConflict: this version is registered with other content.
        """
        return Call(_post("/workflows", {"spec": dict(spec)}, safe=True), _one(Registered))

    @Operation
    def verify(self, spec: Mapping[str, Any]) -> Call[Soundness]:
        """Judge a workflow without registering it."""
        return Call(_post("/workflows/verify", {"spec": dict(spec)}, safe=True), _one(Soundness))

    @Operation
    def get(self, spec_id: str, version: str | None = None) -> Call[Workflow]:
        """Return a workflow with its specification; raises UnknownSpecification."""
        return Call(_get(f"/workflows/{spec_id}", version=version), _one(Workflow))

    @Operation
    def list(self, *, limit: int = 100, cursor: str | None = None) -> Call[Page[Workflow]]:
        """Return a page of the registered workflows."""
        return Call(_get("/workflows", limit=limit, cursor=cursor), _many(Workflow))

    @Operation
    def remove(self, spec_id: str, version: str | None = None) -> Call[None]:
        """Remove a workflow; sent once."""
        return Call(Request(method="DELETE", path=f"/workflows/{spec_id}", query={"version": version}), _nothing)


class CaseOperations:
    """Cases; `expected` is the version at which a command is to be done: with it, it is sent again where no answer came."""

    @Operation
    def create(
        self,
        spec_id: str,
        data: Mapping[str, Any] | None = None,
        *,
        version: str | None = None,
        start: bool = False,
        key: str | None = None,
    ) -> Call[Case]:
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
        return Call(_post("/cases", body, key=key or uuid.uuid4().hex, safe=True), _one(Case))

    @Operation
    def get(self, case_id: str) -> Call[Case]:
        """Return a case; raises UnknownCase."""
        return Call(_get(f"/cases/{case_id}", case_id), _one(Case))

    @Operation
    def list(
        self, *, spec_id: str | None = None, state: str | None = None, limit: int = 100, cursor: str | None = None
    ) -> Call[Page[CaseLine]]:
        """Return a page of cases."""
        return Call(_get("/cases", spec_id=spec_id, state=state, limit=limit, cursor=cursor), _many(CaseLine))

    @Operation
    def history(self, case_id: str, *, limit: int = 100, cursor: str | None = None) -> Call[Page[Event]]:
        """Return a page of what happened in a case."""
        return Call(_get(f"/cases/{case_id}/history", case_id, limit=limit, cursor=cursor), _many(Event))

    @Operation
    def start(self, case_id: str, *, expected: int | None = None) -> Call[Case]:
        """Start a case; raises IllegalTransition, and ConcurrentUpdate where the version is another."""
        return _on_case(case_id, "start", expected)

    @Operation
    def execute(self, case_id: str, *, expected: int | None = None) -> Call[Case]:
        """Start a case if needed, and do its automatic work until it waits or ends."""
        return _on_case(case_id, "execute", expected)

    @Operation
    def cancel(self, case_id: str, *, expected: int | None = None) -> Call[Case]:
        """Cancel a case."""
        return _on_case(case_id, "cancel", expected)

    @Operation
    def suspend(self, case_id: str, *, expected: int | None = None) -> Call[Case]:
        """Hold a case."""
        return _on_case(case_id, "suspend", expected)

    @Operation
    def resume(self, case_id: str, *, expected: int | None = None) -> Call[Case]:
        """Go on with a case that was held."""
        return _on_case(case_id, "resume", expected)

    @Operation
    def send_event(
        self, case_id: str, name: str, data: Mapping[str, Any] | None = None, *, expected: int | None = None
    ) -> Call[Delivered]:
        """Deliver an event to a case."""
        body = {"name": name, "data": dict(data or {})}
        return Call(_command(f"/cases/{case_id}/events", case_id, body, expected), _one(Delivered))


class ItemOperations:
    """Work items; `expected` is the version of the case, as with cases."""

    @Operation
    def list(
        self,
        *,
        case_id: str | None = None,
        state: str | None = None,
        participant: str | None = None,
        role: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Call[Page[Item]]:
        """Return a page of the open items."""
        wanted = {"case_id": case_id, "state": state, "participant": participant, "role": role}
        return Call(_get("/workitems", case_id or "", limit=limit, cursor=cursor, **wanted), _many(Item))

    @Operation
    def get(self, item_id: str) -> Call[Item]:
        """Return an item with what its work is given; raises UnknownWorkItem."""
        return Call(_get(f"/workitems/{item_id}", _case_of(item_id)), _one(Item))

    @Operation
    def offer(self, item_id: str, *, expected: int | None = None) -> Call[Item]:
        """Give an allocated item back to all who may do it."""
        return _on_item(item_id, "offer", None, expected)

    @Operation
    def allocate(self, item_id: str, to: str | None = None, *, expected: int | None = None) -> Call[Item]:
        """Give an item to a participant; without a name, to the caller."""
        return _on_item(item_id, "allocate", {} if to is None else {"to": to}, expected)

    @Operation
    def delegate(self, item_id: str, to: str, *, expected: int | None = None) -> Call[Item]:
        """Hand an allocated item on to another participant."""
        return _on_item(item_id, "delegate", {"to": to}, expected)

    @Operation
    def start(self, item_id: str, *, expected: int | None = None) -> Call[Item]:
        """Take an item up."""
        return _on_item(item_id, "start", None, expected)

    @Operation
    def complete(
        self, item_id: str, data: Mapping[str, Any] | None = None, *, expected: int | None = None
    ) -> Call[Item]:
        """Complete an item with what its work gave."""
        return _on_item(item_id, "complete", {"data": dict(data or {})}, expected)

    @Operation
    def fail(self, item_id: str, reason: str = "", *, expected: int | None = None) -> Call[Item]:
        """Say that started work has failed."""
        return _on_item(item_id, "fail", {"reason": reason}, expected)

    @Operation
    def suspend(self, item_id: str, *, expected: int | None = None) -> Call[Item]:
        """Lay started work aside."""
        return _on_item(item_id, "suspend", None, expected)

    @Operation
    def resume(self, item_id: str, *, expected: int | None = None) -> Call[Item]:
        """Take suspended work up again."""
        return _on_item(item_id, "resume", None, expected)

    @Operation
    def skip(self, item_id: str, *, expected: int | None = None) -> Call[Item]:
        """Complete an item without its work being done."""
        return _on_item(item_id, "skip", None, expected)


class WorkOperations:
    """External work, under leases; a word about a claim may be sent again, for its token lets none be done twice."""

    @Operation
    def claim(
        self,
        *topics: str,
        worker: str | None = None,
        max: int = 1,  # noqa: A002 - the wire's word
        lease: float | None = None,
        wait: float = 0.0,
    ) -> Call[tuple[Claim, ...]]:
        """
        Take work of these topics.

        Args:
            topics: which work.
            worker: a name for the history; the caller's where none is given.
            max: how much of it.
            lease: seconds for which it is kept.
            wait: seconds, at most 20, to wait for some.
        """
        body: dict[str, Any] = {"topics": [*topics], "max": max, "wait": wait}
        body |= {name: value for name, value in (("worker", worker), ("lease", lease)) if value is not None}
        request = _post("/work/claim", body)
        return Call(request, lambda answer: read_page(Claim, answer).items, wait + _WAIT_BESIDES)

    @Operation
    def complete(self, claim: Claim, data: Mapping[str, Any] | None = None) -> Call[None]:
        """Complete claimed work; raises ClaimLost where the worker has it no more."""
        return Call(_about(claim, "complete", {"data": dict(data or {})}), _nothing)

    @Operation
    def fail(
        self,
        claim: Claim,
        reason: str = "",
        *,
        error: str = "",
        retryable: bool = True,
        retry_after: float | None = None,
    ) -> Call[bool]:
        """Say that claimed work has failed; returns whether that is taken care of, else it is a dead letter."""
        body: dict[str, Any] = {"reason": reason, "error": error, "retryable": retryable}
        if retry_after is not None:
            body["retry_after"] = retry_after
        return Call(_about(claim, "fail", body), lambda answer: bool(answer["handled"]))

    @Operation
    def extend(self, claim: Claim, lease: float | None = None, *, timeout: float | None = None) -> Call[Extended]:
        """Keep claimed work for so many seconds from now, within the call's own `timeout`; raises ClaimLost."""
        body = {} if lease is None else {"lease": lease}
        return Call(_about(claim, "extend", body), _one(Extended), timeout)

    @Operation
    def release(self, claim: Claim) -> Call[None]:
        """Give claimed work back, to be offered again at once; the attempt does not count; raises ClaimLost."""
        return Call(_about(claim, "release", {}), _nothing)


class DeadLetterOperations:
    """Work that has failed for good, and messages of webhooks that did not arrive."""

    @Operation
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
    ) -> Call[Page[DeadLetter]]:
        """Return a page of those that have exactly this."""
        wanted = {"kind": kind, "spec_id": spec_id, "handler": handler, "topic": topic, "error": error}
        wanted["webhook"] = webhook
        return Call(_get("/dead-letters", limit=limit, cursor=cursor, **wanted), _many(DeadLetter))

    @Operation
    def get(self, letter_id: str) -> Call[DeadLetter]:
        """Return one with what its work was given, or what the message says; raises UnknownWorkItem."""
        return Call(_get(f"/dead-letters/{letter_id}", _case_of(letter_id)), _one(DeadLetter))

    @Operation
    def replay(self, letter_id: str) -> Call[None]:
        """Give failed work all its attempts anew, or send a message again."""
        return Call(_post(f"/dead-letters/{letter_id}/replay", affinity=_case_of(letter_id)), _nothing)

    @Operation
    def discard(self, letter_id: str, reason: str) -> Call[None]:
        """Give failed work up, or forget a message."""
        body = {"reason": reason}
        return Call(_post(f"/dead-letters/{letter_id}/discard", body, affinity=_case_of(letter_id)), _nothing)


# --- what is sent and read ------------------------------------------------------------------------------------------------


def _get(path: str, affinity: str = "", /, **query: Any) -> Request:
    return Request(method="GET", path=path, query=query, affinity=affinity, safe=True)


def _post(path: str, body: Any = None, **rest: Any) -> Request:
    return Request(method="POST", path=path, body=body, **rest)


def _command(path: str, case_id: str, body: Any, expected: int | None) -> Request:
    return _post(path, body, expected=expected, safe=expected is not None, affinity=case_id)


def _on_case(case_id: str, name: str, expected: int | None) -> Call[Case]:
    return Call(_command(f"/cases/{case_id}/{name}", case_id, None, expected), _one(Case))


def _on_item(item_id: str, name: str, body: Any, expected: int | None) -> Call[Item]:
    return Call(_command(f"/workitems/{item_id}/{name}", _case_of(item_id), body, expected), _one(Item))


def _about(claim: Claim, word: str, body: Mapping[str, Any]) -> Request:
    said = {"token": claim.token, **body}
    return _post(f"/work/{claim.id}/{word}", said, affinity=claim.case_id, safe=True)


def _case_of(item_id: str) -> str:
    """Return the case in the id of a work item, or of a message: ``case:number``, ``webhook:case:place``."""
    return item_id.rpartition(":")[0].rpartition(":")[2]


def _one(shape: type[T]) -> Callable[[Any], T]:
    return functools.partial(read, shape)


def _many(shape: type[T]) -> Callable[[Any], Page[T]]:
    return functools.partial(read_page, shape)


def _nothing(_: Any) -> None:
    return None
