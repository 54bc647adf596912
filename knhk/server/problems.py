"""What is answered when a call cannot be done: problems (RFC 9457), the same for every protocol, without a word of the inside."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import attrs

from knhk.errors import (
    CommandError,
    ConcurrentUpdate,
    DataError,
    Forbidden,
    HandlerError,
    IdempotencyConflict,
    IllegalTransition,
    KnhkError,
    LimitExceeded,
    MigrationRefused,
    MissingExtra,
    ParseError,
    QuarantinedCase,
    SpecificationConflict,
    SpecificationError,
    StoreFull,
    StoreUnavailable,
    UnknownCase,
    UnknownSpecification,
    UnknownWorkItem,
)
from knhk.errors import Problem as Finding

URN: Final = "urn:knhk:problem:"

_STATUS: Final = {
    "malformed": HTTPStatus.BAD_REQUEST,
    "unauthenticated": HTTPStatus.UNAUTHORIZED,
    "forbidden": HTTPStatus.FORBIDDEN,
    "not-found": HTTPStatus.NOT_FOUND,
    "method-not-allowed": HTTPStatus.METHOD_NOT_ALLOWED,
    "conflict": HTTPStatus.CONFLICT,
    "precondition-failed": HTTPStatus.PRECONDITION_FAILED,
    "too-large": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "unsupported-media": HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    "invalid": HTTPStatus.UNPROCESSABLE_ENTITY,
    "rate-limited": HTTPStatus.TOO_MANY_REQUESTS,
    "internal": HTTPStatus.INTERNAL_SERVER_ERROR,
    "deadline": HTTPStatus.GATEWAY_TIMEOUT,
    "store-unavailable": HTTPStatus.SERVICE_UNAVAILABLE,
    "draining": HTTPStatus.SERVICE_UNAVAILABLE,
    "storage-full": HTTPStatus.INSUFFICIENT_STORAGE,
}
TITLES: Final = {
    "malformed": "The request cannot be read",
    "unauthenticated": "A valid token is needed",
    "forbidden": "Your roles do not allow this",
    "not-found": "There is no such thing",
    "method-not-allowed": "This cannot be done to it",
    "conflict": "It is not in a state for this",
    "precondition-failed": "It has changed since you read it",
    "too-large": "The request is too large",
    "unsupported-media": "This type of content is not read here",
    "invalid": "The content is not right",
    "rate-limited": "Too many requests",
    "internal": "Something went wrong here",
    "deadline": "The deadline has passed",
    "store-unavailable": "The store is out of reach",
    "draining": "This instance is ending",
    "storage-full": "No space is left in the store",
}


@attrs.frozen(kw_only=True)
class Problem(KnhkError):
    """
    Why a call was not done.

    Args:
        kind: which sort; the last part of its type.
        detail: what it is about.
        findings: every single thing that is wrong, with its place.
        headers: what a protocol with headers says besides.
        more: members of the answer besides.
        raced: whether it is a conflict because somebody else was faster, so that the same call may succeed now.
    """

    kind: str
    detail: str = ""
    findings: tuple[Finding, ...] = ()
    headers: Mapping[str, str] = attrs.field(factory=dict)
    more: Mapping[str, Any] = attrs.field(factory=dict)
    raced: bool = False

    @property
    def status(self) -> int:
        """The HTTP status."""
        return int(_STATUS[self.kind])

    def document(self) -> dict[str, Any]:
        """Return the body of the answer."""
        body: dict[str, Any] = {"type": URN + self.kind, "title": TITLES[self.kind], "status": self.status}
        if self.detail:
            body["detail"] = self.detail
        if self.findings:
            body["problems"] = [{"place": each.place, "message": each.message} for each in self.findings]
        return {**body, **self.more}


def problem_of(error: KnhkError) -> Problem:
    """Return what is answered to somebody whose call met this error."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, ParseError):
        return Problem(kind="malformed", detail="the text cannot be read", findings=error.problems)
    if isinstance(error, SpecificationError | MigrationRefused):
        return Problem(kind="invalid", detail=str(error).partition("\n")[0], findings=tuple(error.problems))
    if isinstance(error, DataError):
        findings = (Finding(error.element, str(error)),) if error.element else ()
        return Problem(kind="invalid", detail=str(error), findings=findings)
    if isinstance(error, IllegalTransition):
        more = {"state": error.status, "allowed": list(error.allowed)}
        return Problem(kind="conflict", detail=str(error), more=more)
    for classes, kind in _KINDS:
        if isinstance(error, classes):
            headers = {"Retry-After": "1"} if kind == "store-unavailable" else {}
            return Problem(kind=kind, detail=str(error), headers=headers, raced=isinstance(error, ConcurrentUpdate))
    return Problem(kind="internal")


_KINDS: Final[tuple[tuple[tuple[type[KnhkError], ...], str], ...]] = (
    ((UnknownCase, UnknownSpecification, UnknownWorkItem), "not-found"),
    ((Forbidden,), "forbidden"),
    ((IdempotencyConflict,), "invalid"),
    ((LimitExceeded,), "invalid"),
    # The specification asks for what this installation lacks; the message says how to install it.
    ((MissingExtra,), "invalid"),
    ((SpecificationConflict, ConcurrentUpdate, HandlerError, QuarantinedCase), "conflict"),
    ((StoreFull,), "storage-full"),
    ((StoreUnavailable,), "store-unavailable"),
    ((CommandError,), "conflict"),
)
