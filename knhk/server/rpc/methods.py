"""Which method is which operation: the names of their fields say the rest."""

from __future__ import annotations

import re
from typing import Final

import attrs

from knhk.errors import MissingExtra
from knhk.rpc import SERVICE
from knhk.server.operations import OPERATIONS, Operation

try:
    from google.protobuf.message import Message  # noqa: TC002 - as the rest

    from knhk.rpc import workflow_engine_pb2 as messages
except ImportError as error:
    raise MissingExtra("grpc", "serving gRPC") from error


@attrs.frozen(kw_only=True)
class Method:
    """
    A method of the service.

    Args:
        name: as the description has it.
        operation: what it asks for.
        takes, gives: its messages.
        streams: whether it answers with a stream.
    """

    name: str
    operation: Operation
    takes: type[Message]
    gives: type[Message]
    streams: bool = False

    @property
    def path(self) -> str:
        """The address of the method."""
        return f"/{SERVICE}/{self.name}"

    @property
    def names(self) -> tuple[str, ...]:
        """The fields that say what it is about: in the REST API they are in the address."""
        return tuple(re.findall(r"{(\w+)}", self.operation.path))


_OPERATION_OF: Final = {
    "RegisterWorkflow": "workflow.register",
    "VerifyWorkflow": "workflow.verify",
    "GetWorkflow": "workflow.get",
    "ListWorkflows": "workflow.list",
    "RemoveWorkflow": "workflow.remove",
    "CreateCase": "case.create",
    "GetCase": "case.get",
    "ListCases": "case.list",
    "GetCaseHistory": "case.history",
    "WatchCase": "case.history",
    "StartCase": "case.start",
    "ExecuteCase": "case.execute",
    "CancelCase": "case.cancel",
    "SuspendCase": "case.suspend",
    "ResumeCase": "case.resume",
    "SendEvent": "case.event",
    "ListWorkItems": "item.list",
    "GetWorkItem": "item.get",
    "OfferWorkItem": "item.offer",
    "AllocateWorkItem": "item.allocate",
    "DelegateWorkItem": "item.delegate",
    "StartWorkItem": "item.start",
    "CompleteWorkItem": "item.complete",
    "FailWorkItem": "item.fail",
    "SuspendWorkItem": "item.suspend",
    "ResumeWorkItem": "item.resume",
    "SkipWorkItem": "item.skip",
    "ClaimWork": "work.claim",
    "CompleteWork": "work.complete",
    "FailWork": "work.fail",
    "ExtendWork": "work.extend",
    "ReleaseWork": "work.release",
    "ListDeadLetters": "letter.list",
    "GetDeadLetter": "letter.get",
    "ReplayDeadLetter": "letter.replay",
    "DiscardDeadLetter": "letter.discard",
    "ExecutePattern": "pattern.execute",
}
_OPERATIONS: Final = {each.name: each for each in OPERATIONS}


def _methods() -> dict[str, Method]:
    described = messages.DESCRIPTOR.services_by_name[SERVICE.rpartition(".")[2]]
    return {
        each.name: Method(
            name=each.name,
            operation=_OPERATIONS[_OPERATION_OF[each.name]],
            takes=each.input_type._concrete_class,
            gives=each.output_type._concrete_class,
            streams=each.server_streaming,
        )
        for each in described.methods
    }


METHODS: Final = _methods()
"""By name."""
