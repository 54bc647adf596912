"""
Calls over gRPC; the only file here that knows grpcio.

A request of the REST API is said as the message of the method that does the same, and its answer is told as that API would; so
what is read, repeated and balanced is the same code for both.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from knhk.client.core import Answer, Lost, Request, Send
from knhk.client.problems import URN
from knhk.errors import MissingExtra, OutboundRefused
from knhk.rpc import SERVICE

if TYPE_CHECKING:
    import grpc
    from google.protobuf.message import Message

METHODS: Final = {
    "POST /workflows": "RegisterWorkflow",
    "GET /workflows": "ListWorkflows",
    "POST /workflows/verify": "VerifyWorkflow",
    "GET /workflows/{spec_id}": "GetWorkflow",
    "DELETE /workflows/{spec_id}": "RemoveWorkflow",
    "POST /cases": "CreateCase",
    "GET /cases": "ListCases",
    "GET /cases/{case_id}": "GetCase",
    "GET /cases/{case_id}/history": "GetCaseHistory",
    "POST /cases/{case_id}/start": "StartCase",
    "POST /cases/{case_id}/execute": "ExecuteCase",
    "POST /cases/{case_id}/cancel": "CancelCase",
    "POST /cases/{case_id}/suspend": "SuspendCase",
    "POST /cases/{case_id}/resume": "ResumeCase",
    "POST /cases/{case_id}/events": "SendEvent",
    "GET /workitems": "ListWorkItems",
    "GET /workitems/{item_id}": "GetWorkItem",
    "POST /workitems/{item_id}/offer": "OfferWorkItem",
    "POST /workitems/{item_id}/allocate": "AllocateWorkItem",
    "POST /workitems/{item_id}/delegate": "DelegateWorkItem",
    "POST /workitems/{item_id}/start": "StartWorkItem",
    "POST /workitems/{item_id}/complete": "CompleteWorkItem",
    "POST /workitems/{item_id}/fail": "FailWorkItem",
    "POST /workitems/{item_id}/suspend": "SuspendWorkItem",
    "POST /workitems/{item_id}/resume": "ResumeWorkItem",
    "POST /workitems/{item_id}/skip": "SkipWorkItem",
    "POST /work/claim": "ClaimWork",
    "POST /work/{work_id}/complete": "CompleteWork",
    "POST /work/{work_id}/fail": "FailWork",
    "POST /work/{work_id}/extend": "ExtendWork",
    "POST /work/{work_id}/release": "ReleaseWork",
    "GET /dead-letters": "ListDeadLetters",
    "GET /dead-letters/{letter_id}": "GetDeadLetter",
    "POST /dead-letters/{letter_id}/replay": "ReplayDeadLetter",
    "POST /dead-letters/{letter_id}/discard": "DiscardDeadLetter",
}
"""The method that does what a request of the REST API asks for."""

STREAMS: Final = {"GetCaseHistory": "WatchCase"}
"""The method that goes on telling what another tells once."""

JSON_FIELDS: Final = frozenset({"data", "variables", "spec", "details", "item", "more"})
"""Fields whose text is JSON, in whatever message they are."""

_ROUTES: Final = tuple(
    (re.compile(re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", route)), method) for route, method in METHODS.items()
)
_HEALTH: Final = "/grpc.health.v1.Health/Check"
_DETAILS: Final = "grpc-status-details-bin"
_OVER: Final = Answer(
    504, {}, json.dumps({"type": f"{URN}deadline", "detail": "the time for the stream is over"}).encode()
)
_HEADERS: Final[tuple[str, ...]] = ("authorization", "idempotency-key")
_OPTIONS: Final = (
    # Whether and where a call is repeated is said elsewhere.
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)


class GrpcSends:
    """
    Sends over gRPC, by one channel for each endpoint.

    Args:
        urls: of the endpoints, as ``grpc://host:port``, or ``grpcs://`` with TLS.
        credentials: for TLS; None: what the library takes, which trusts public authorities.

    Raises:
        MissingExtra: grpcio is not installed.
    """

    def __init__(self, urls: Iterable[str], credentials: grpc.ChannelCredentials | None = None) -> None:
        try:
            self._grpc: Any = import_module("grpc")
            self._messages: Any = import_module("knhk.rpc.workflow_engine_pb2")
            self._status: Any = import_module("google.rpc.status_pb2")
            self._health: Any = import_module("grpc_health.v1.health_pb2")
        except ImportError as error:
            raise MissingExtra("grpc", "the client over gRPC") from error
        described = self._messages.DESCRIPTOR.services_by_name[SERVICE.rpartition(".")[2]]
        self._methods = described.methods_by_name
        self._channels = {url: self._channel(url, credentials) for url in urls}

    def _channel(self, url: str, credentials: grpc.ChannelCredentials | None) -> Any:
        scheme, _, target = url.partition("://")
        if scheme == "grpc":
            return self._grpc.insecure_channel(target, _OPTIONS)
        return self._grpc.secure_channel(target, credentials or self._grpc.ssl_channel_credentials(), _OPTIONS)

    def close(self) -> None:
        """Close every connection."""
        for each in self._channels.values():
            each.close()

    def send(self, step: Send) -> Answer | Lost:
        """Send, and return what came of it; raises OutboundRefused where no method does what is asked."""
        if step.request is None:
            return self._look(step)
        call, message, metadata = self._call(step, step.request)
        try:
            answer = call(message, timeout=step.timeout, metadata=metadata)
        except self._grpc.RpcError as error:
            return self._refusal(error)
        return Answer(200, {}, json.dumps(_told(answer)).encode())

    def stream(self, step: Send) -> Generator[Answer | Lost, None, None]:
        """
        Send what has many answers, and yield them: at first, with nothing in it, that there will be some, at last why no more.

        Raises:
            OutboundRefused: the client is closed.
        """
        assert step.request is not None
        call, message, metadata = self._call(step, step.request)
        try:
            answers = call(message, timeout=step.timeout, metadata=metadata)
        except ValueError as error:
            raise OutboundRefused(f"{step.endpoint}: the client is closed") from error
        accepted = False
        try:
            answers.initial_metadata()
            accepted = answers.is_active()
            if accepted:
                yield Answer(200, {}, b"")
            for each in answers:
                yield Answer(200, {}, json.dumps(_told(each)).encode())
        except self._grpc.RpcError as error:
            over = accepted and error.code() is self._grpc.StatusCode.DEADLINE_EXCEEDED
            yield _OVER if over else self._refusal(error)
        finally:
            answers.cancel()

    def _call(self, step: Send, request: Request) -> tuple[Any, Message, list[tuple[str, str]]]:
        """Return the library's call for a request, and with what message and metadata it is made."""
        asked, named = method_of(request)
        path = STREAMS[asked] if step.streams else asked
        method = self._methods[path]
        message = _said(method.input_type._concrete_class(), {**named, **request.query, **(request.body or {})})
        if request.expected is not None:
            message.if_version = request.expected
        headers = {name.lower(): value for name, value in step.headers.items()}
        metadata = [(name, headers[name]) for name in _HEADERS if name in headers]
        channel = self._channels[step.endpoint]
        call = (channel.unary_stream if step.streams else channel.unary_unary)(
            f"/{SERVICE}/{path}",
            request_serializer=type(message).SerializeToString,
            response_deserializer=method.output_type._concrete_class.FromString,
        )
        return call, message, metadata

    def _look(self, step: Send) -> Answer | Lost:
        """Ask the health service whether an endpoint serves."""
        call = self._channels[step.endpoint].unary_unary(
            _HEALTH,
            request_serializer=self._health.HealthCheckRequest.SerializeToString,
            response_deserializer=self._health.HealthCheckResponse.FromString,
        )
        try:
            answer = call(self._health.HealthCheckRequest(service=SERVICE), timeout=step.timeout)
        except self._grpc.RpcError as error:
            return self._lost(error)
        return Answer(200 if answer.status == self._health.HealthCheckResponse.SERVING else 503, {}, b"")

    def _refusal(self, error: Any) -> Answer | Lost:
        """Return a refusal as the REST API tells it; what is none of the service's is a call that was not answered."""
        metadata = {each.key: each.value for each in error.trailing_metadata() or ()}
        problem = self._messages.Problem()
        if not any(
            each.Unpack(problem) for each in self._status.Status.FromString(metadata.get(_DETAILS, b"")).details
        ):
            return self._lost(error)
        body = {
            **json.loads(problem.more or "{}"),
            "type": problem.type,
            "title": problem.title,
            "detail": problem.detail,
        }
        body["problems"] = [{"place": each.place, "message": each.message} for each in problem.problems]
        headers = {"Retry-After": metadata["retry-after"]} if "retry-after" in metadata else {}
        return Answer(problem.status, headers, json.dumps(body).encode())

    def _lost(self, error: Any) -> Lost:
        # The library does not say otherwise whether anything was sent.
        unsent = error.code() is self._grpc.StatusCode.UNAVAILABLE and "failed to connect" in (error.details() or "")
        return Lost(ConnectionError(f"{error.code().name}: {error.details()}"), sent=not unsent)


def method_of(request: Request) -> tuple[str, dict[str, str]]:
    """Return the method that does what a request asks for, and the names in its address; raises OutboundRefused."""
    asked = f"{request.method} {request.path}"
    for route, method in _ROUTES:
        found = route.fullmatch(asked)
        if found is not None and not request.root:
            return method, found.groupdict()
    raise OutboundRefused(f"{asked}: gRPC has no method for it; ask over HTTP")


def _said(message: Message, tree: Mapping[str, Any]) -> Message:
    """Fill a message with what a request says; what is None is left out."""
    for name, value in tree.items():
        if value is None:
            continue
        if name in JSON_FIELDS:
            setattr(message, name, json.dumps(value, allow_nan=False))
        elif isinstance(value, list):
            getattr(message, name).extend(value)
        else:
            setattr(message, name, value)
    return message


def _told(message: Message) -> dict[str, Any]:
    """Return a message as the REST API's bodies are; what is absent is None."""
    return {field.name: _value(message, field) for field in message.DESCRIPTOR.fields}


def _value(message: Message, field: Any) -> Any:
    value = getattr(message, field.name)
    if field.has_presence and not message.HasField(field.name):
        return None
    if field.name in JSON_FIELDS:
        return json.loads(value)
    if field.message_type is None:
        return list(value) if field.is_repeated else value
    if field.message_type.GetOptions().map_entry:
        # The one map that there is: tokens by net, then by condition.
        return {net: dict(marking.tokens) for net, marking in value.items()}
    return [_told(each) for each in value] if field.is_repeated else _told(value)
