"""The service over gRPC in this process, for tests: a port of the loopback interface, and a stub to call it by."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import grpc
from google.protobuf.message import Message
from google.rpc.status_pb2 import Status

from knhk.rpc import SERVICE, workflow_engine_pb2 as messages
from knhk.rpc.workflow_engine_pb2_grpc import WorkflowEngineServiceStub
from tests.served import ORDER, Served, served, token

JSON = {"data", "variables", "spec", "details", "item"}
METHODS = messages.DESCRIPTOR.services_by_name[SERVICE.rpartition(".")[2]].methods_by_name


class Refused(NamedTuple):
    """What a refused call was told."""

    code: grpc.StatusCode
    text: str
    problem: messages.Problem | None
    metadata: dict[str, Any]

    @property
    def kind(self) -> str:
        """The last part of the problem's type; "" where the library refused."""
        return "" if self.problem is None else self.problem.type.rpartition(":")[2]


def refusal(error: grpc.RpcError) -> Refused:
    """What is in an error of the library."""
    metadata = dict(error.trailing_metadata() or ())
    problem = None
    if "grpc-status-details-bin" in metadata:
        status = Status.FromString(metadata["grpc-status-details-bin"])
        assert (error.code().value[0], error.details()) == (status.code, status.message)
        problem = messages.Problem()
        assert status.details[0].Unpack(problem)
    return Refused(error.code(), error.details(), problem, metadata)


def plain(message: Message) -> dict[str, Any]:
    """A message as the REST API's bodies are: what is JSON is read, what is not said is not there."""
    found: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if field.has_presence and not message.HasField(field.name):
            continue
        if field.name in JSON:
            value = json.loads(value)
        elif field.message_type is not None and field.message_type.GetOptions().map_entry:
            value = {net: dict(marking.tokens) for net, marking in value.items()}
        elif field.message_type is not None:
            value = [plain(each) for each in value] if field.is_repeated else plain(value)
        elif field.is_repeated:
            value = list(value)
        found[field.name] = value
    return found


class Called:
    """A service, and how it is called."""

    def __init__(self, service: Served) -> None:
        self.service = service
        self.made = service.made
        self.made.rpc.listen()
        self.made.rpc.start()
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.made.rpc.port}")
        self.stub = WorkflowEngineServiceStub(self.channel)

    def metadata(self, *roles: str, sub: str = "ann", tenant: str = "default", **more: str) -> list[tuple[str, str]]:
        """Who calls."""
        given = {"authorization": f"Bearer {token(sub, *roles, tenant=tenant)}", **more}
        return [(name.replace("_", "-"), value) for name, value in given.items()]

    def message(self, method: str, said: Mapping[str, Any]) -> Message:
        """What a method takes; what is JSON may be given as a tree."""
        text = {
            name: json.dumps(each) if name in JSON and not isinstance(each, str) else each
            for name, each in said.items()
        }
        return METHODS[method].input_type._concrete_class(**text)

    def call(
        self,
        method: str,
        *roles: str,
        metadata: Any = None,
        timeout: float = 20,
        sub: str = "ann",
        tenant: str = "default",
        **said: Any,
    ) -> Any:
        """Call as somebody with these roles (none: an admin); raises the library's error."""
        sent = self.metadata(*roles, sub=sub, tenant=tenant) if metadata is None else metadata
        return getattr(self.stub, method)(self.message(method, said), metadata=sent, timeout=timeout)

    def refused(self, method: str, *roles: str, **more: Any) -> Refused:
        """Call, and be refused."""
        try:
            self.call(method, *roles, **more)
        except grpc.RpcError as error:
            return refusal(error)
        raise AssertionError(f"{method} was done")

    def refused_raw(self, path: str, message: bytes, metadata: Any = None, *, streams: bool = False) -> Refused:
        """Send these bytes, wherever, and be refused."""
        call = self.channel.unary_stream(path) if streams else self.channel.unary_unary(path)
        try:
            answer = call(message, metadata=self.metadata() if metadata is None else metadata, timeout=20)
            if streams:
                list(answer)
        except grpc.RpcError as error:
            return refusal(error)
        raise AssertionError(f"{path} was done")


@contextmanager
def called(**settings: Any) -> Iterator[Called]:
    """Make a service with a port, and end it afterwards."""
    with served(grpc_port=0, **settings) as service:
        made = Called(service)
        try:
            yield made
        finally:
            made.channel.close()


def registered(made: Called, spec: Mapping[str, Any] = ORDER) -> None:
    """Register a workflow."""
    made.call("RegisterWorkflow", spec=spec)


def until(so: Callable[[], bool]) -> None:
    """Wait until something is so."""
    turn = threading.Event()
    for _ in range(2_000):
        if so():
            return
        turn.wait(0.01)
    raise AssertionError("it is not so")
