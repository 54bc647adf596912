"""What a service's problem is in KNHK's own tree of errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from knhk.errors import (
    ClaimLost,
    CommandError,
    ConcurrentUpdate,
    DataError,
    Forbidden,
    IdempotencyConflict,
    IllegalTransition,
    KnhkError,
    Problem,
    ResponseRefused,
    SpecificationConflict,
    SpecificationError,
    StoreFull,
    StoreUnavailable,
    UnknownCase,
    UnknownSpecification,
    UnknownWorkItem,
)

URN: Final = "urn:knhk:problem:"
_UNKNOWN: Final[Mapping[str, type[CommandError]]] = {"workflows": UnknownSpecification, "cases": UnknownCase}


def kind_of(body: Any) -> str:
    """Return the last part of a problem's type, or "" where this is none of a service's problems."""
    kind = body.get("type") if isinstance(body, dict) else None
    return kind.removeprefix(URN) if isinstance(kind, str) and kind.startswith(URN) else ""


def error_of(path: str, status: int, body: Any, *, keyed: bool = False, retry_after: float | None = None) -> KnhkError:
    """
    Return what a refused call is to raise.

    Args:
        path: what was asked, below ``/api/v1``.
        status: of the answer.
        body: of the answer: a problem, or whatever came.
        keyed: whether the call had an ``Idempotency-Key``.
        retry_after: the wait in seconds that the answer asks for.
    """
    kind = kind_of(body)
    if not kind:
        return _refused(f"{path} was answered with status {status} and no problem of KNHK's", status, retry_after)
    message = str(body.get("detail") or body.get("title") or kind)
    area, command = path.split("/")[1], path.rpartition("/")[2]
    if kind == "conflict":
        return _conflict(area, command, message, body)
    if kind == "invalid":
        return _invalid(area, message, body, keyed=keyed)
    if kind == "not-found":
        return _UNKNOWN.get(area, UnknownWorkItem)(f"{path}: {message}")
    if kind == "forbidden":
        return Forbidden(message, participant="", command=command)
    simple = {
        "precondition-failed": ConcurrentUpdate,
        "store-unavailable": StoreUnavailable,
        "storage-full": StoreFull,
    }.get(kind)
    return simple(message) if simple is not None else _refused(f"{path}: {message} ({kind})", status, retry_after)


def _refused(message: str, status: int, retry_after: float | None) -> ResponseRefused:
    return ResponseRefused(message, status=status, retry_after=retry_after, retryable=status == 429 or status >= 500)


def _conflict(area: str, command: str, message: str, body: Mapping[str, Any]) -> CommandError:
    if "state" in body:
        shape = ClaimLost if area == "work" else IllegalTransition
        allowed = [str(each) for each in body.get("allowed", [])]
        return shape(message, status=str(body["state"]), command=command, allowed=allowed)
    return SpecificationConflict(message) if area == "workflows" else CommandError(message)


def _invalid(area: str, message: str, body: Mapping[str, Any], *, keyed: bool) -> KnhkError:
    found = [Problem(str(each.get("place", "")), str(each.get("message", ""))) for each in body.get("problems", [])]
    if area == "workflows":
        return SpecificationError(found or [Problem("", message)])
    if keyed and "key" in message and not found:
        return IdempotencyConflict(message)
    places = "; ".join(map(str, found))
    return DataError(f"{message}: {places}" if places else message, element=found[0].place if found else "")
