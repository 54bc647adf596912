"""How a problem is told over gRPC: a status code, and the whole of it in ``grpc-status-details-bin``, as `google.rpc.Status` has it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from knhk.errors import MissingExtra
from knhk.server.problems import Problem

try:
    import grpc
    from google.protobuf.duration_pb2 import Duration
    from google.rpc.error_details_pb2 import RetryInfo
    from google.rpc.status_pb2 import Status

    from knhk.rpc.workflow_engine_pb2 import Problem as Told
except ImportError as error:
    raise MissingExtra("grpc", "serving gRPC") from error

Metadata = list[tuple[str, str | bytes]]

DETAILS: Final = "grpc-status-details-bin"
_MOST_BYTES: Final = 3_072
"""Of the details: clients take 8 KiB of metadata, in which bytes are a third longer."""

_LONGEST: Final = 500
_CODE: Final = {
    "malformed": grpc.StatusCode.INVALID_ARGUMENT,
    "invalid": grpc.StatusCode.INVALID_ARGUMENT,
    "unsupported-media": grpc.StatusCode.INVALID_ARGUMENT,
    "unauthenticated": grpc.StatusCode.UNAUTHENTICATED,
    "forbidden": grpc.StatusCode.PERMISSION_DENIED,
    "not-found": grpc.StatusCode.NOT_FOUND,
    "method-not-allowed": grpc.StatusCode.UNIMPLEMENTED,
    "conflict": grpc.StatusCode.FAILED_PRECONDITION,
    "precondition-failed": grpc.StatusCode.ABORTED,
    "too-large": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "rate-limited": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "storage-full": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "store-unavailable": grpc.StatusCode.UNAVAILABLE,
    "draining": grpc.StatusCode.UNAVAILABLE,
    "deadline": grpc.StatusCode.DEADLINE_EXCEEDED,
    "internal": grpc.StatusCode.INTERNAL,
}


def code_of(problem: Problem) -> grpc.StatusCode:
    """Return the status code of a problem; a conflict that was lost to somebody else may be tried again: ABORTED."""
    return grpc.StatusCode.ABORTED if problem.kind == "conflict" and problem.raced else _CODE[problem.kind]


def text_of(problem: Problem) -> str:
    """Return the message of the status."""
    document = problem.document()
    return _valid(str(document.get("detail") or document["title"]))[:_LONGEST]


def metadata_of(problem: Problem) -> Metadata:
    """Return the trailing metadata that tell a problem."""
    code: int = code_of(problem).value[0]
    status = Status(code=code, message=text_of(problem))
    status.details.add().Pack(_told(problem))
    delay = problem.headers.get("Retry-After", "")
    if delay.isdecimal():
        status.details.add().Pack(RetryInfo(retry_delay=Duration(seconds=int(delay))))
    return [(DETAILS, status.SerializeToString()), *headers_of(problem.headers)]


def headers_of(headers: Mapping[str, str]) -> Metadata:
    """Return what a protocol with headers says besides."""
    return [(name.lower(), value) for name, value in headers.items() if name not in ("Allow", "WWW-Authenticate")]


def _told(problem: Problem) -> Told:
    """Return a problem as a message, with as many of its findings as there is room for."""
    document = problem.document()
    more = json.dumps(problem.more, default=str) if problem.more else ""
    told = Told(
        type=document["type"],
        title=document["title"],
        status=document["status"],
        detail=_valid(str(document.get("detail", "")))[:_LONGEST],
        more=more if len(more) <= _LONGEST else "",
    )
    for each in problem.findings:
        told.problems.add(place=_valid(each.place)[:_LONGEST], message=_valid(each.message)[:_LONGEST])
        if told.ByteSize() > _MOST_BYTES:
            del told.problems[-1]
            break
    return told


def _valid(text: str) -> str:
    """Return a text without halves of surrogate pairs, which UTF-8 cannot say."""
    return text.encode("utf-8", "replace").decode()
