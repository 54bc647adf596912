"""
KNHK: a workflow engine with YAWL's semantics, durable on one SQLite file.

The map, from below: `spec` what the modeller wrote; `expr` predicates; `_lower` compiles a specification to `_tables`;
`_orjoin` and `_kernel` are the token game; `case` one running case, `journal` its history as bytes; `ports` what a driver
needs; `engine` the driver, `stores` where cases are kept; `testing` what tests may use.
"""

from __future__ import annotations

from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from knhk._pipeline import Outcome
    from knhk.aio import AsyncCase, AsyncEngine
    from knhk.engine import Engine
    from knhk.errors import (
        ClaimLost,
        CommandError,
        ConcurrentUpdate,
        ConstraintViolation,
        DataError,
        DirectoryError,
        Forbidden,
        HandlerError,
        IdempotencyConflict,
        IllegalTransition,
        InternalError,
        InvalidSignature,
        JournalError,
        KnhkError,
        LimitExceeded,
        MigrationRefused,
        MissingExtra,
        ModelError,
        OutboundError,
        OutboundFailed,
        OutboundRefused,
        OwnershipLost,
        ParseError,
        Problem,
        QuarantinedCase,
        ResponseRefused,
        SpecificationConflict,
        SpecificationError,
        StoreError,
        StoreFull,
        StoreUnavailable,
        UnknownCase,
        UnknownSpecification,
        UnknownWorkItem,
        VerificationError,
    )
    from knhk.events import Event, EventKind
    from knhk.limits import Limits
    from knhk.migration import CaseMigration, MigrationReport
    from knhk.patterns import patterns
    from knhk.people import Directory, Participant
    from knhk.registration import Registration
    from knhk.running import RunningCase, WorkItem
    from knhk.spec import Specification, build
    from knhk.work.claims import Claim
    from knhk.work.dead_letter import DeadLetter
    from knhk.work.handlers import Work
    from knhk.work.organisation import Organisation
    from knhk.work.outbound import Outbound
    from knhk.work.signature import verify_signature
    from knhk.work.worklist import Worklist

_HOME = {
    "knhk.aio": ("AsyncCase", "AsyncEngine"),
    "knhk.limits": ("Limits",),
    "knhk._pipeline": ("Outcome",),
    "knhk.engine": ("Engine",),
    "knhk.events": ("Event", "EventKind"),
    "knhk.migration": ("CaseMigration", "MigrationReport"),
    "knhk.patterns": ("patterns",),
    "knhk.people": ("Directory", "Participant"),
    "knhk.registration": ("Registration",),
    "knhk.running": ("RunningCase", "WorkItem"),
    "knhk.work.claims": ("Claim",),
    "knhk.work.dead_letter": ("DeadLetter",),
    "knhk.work.handlers": ("Work",),
    "knhk.work.organisation": ("Organisation",),
    "knhk.work.worklist": ("Worklist",),
    "knhk.work.outbound": ("Outbound",),
    "knhk.work.signature": ("verify_signature",),
    "knhk.errors": (
        "ClaimLost",
        "CommandError",
        "ConcurrentUpdate",
        "ConstraintViolation",
        "DataError",
        "DirectoryError",
        "Forbidden",
        "HandlerError",
        "IdempotencyConflict",
        "IllegalTransition",
        "InternalError",
        "InvalidSignature",
        "JournalError",
        "KnhkError",
        "LimitExceeded",
        "MigrationRefused",
        "MissingExtra",
        "ModelError",
        "OutboundError",
        "OutboundFailed",
        "OutboundRefused",
        "OwnershipLost",
        "ParseError",
        "Problem",
        "QuarantinedCase",
        "ResponseRefused",
        "SpecificationConflict",
        "SpecificationError",
        "StoreError",
        "StoreFull",
        "StoreUnavailable",
        "UnknownCase",
        "UnknownSpecification",
        "UnknownWorkItem",
        "VerificationError",
    ),
    "knhk.spec": ("Specification", "build"),
}
_MODULE = {name: module for module, names in _HOME.items() for name in names}

__all__ = (
    "AsyncCase",
    "AsyncEngine",
    "CaseMigration",
    "Claim",
    "ClaimLost",
    "CommandError",
    "ConcurrentUpdate",
    "ConstraintViolation",
    "DataError",
    "DeadLetter",
    "Directory",
    "DirectoryError",
    "Engine",
    "Event",
    "EventKind",
    "Forbidden",
    "HandlerError",
    "IdempotencyConflict",
    "IllegalTransition",
    "InternalError",
    "InvalidSignature",
    "JournalError",
    "KnhkError",
    "LimitExceeded",
    "Limits",
    "MigrationRefused",
    "MigrationReport",
    "MissingExtra",
    "ModelError",
    "Organisation",
    "Outbound",
    "OutboundError",
    "OutboundFailed",
    "OutboundRefused",
    "Outcome",
    "OwnershipLost",
    "ParseError",
    "Participant",
    "Problem",
    "QuarantinedCase",
    "Registration",
    "ResponseRefused",
    "RunningCase",
    "Specification",
    "SpecificationConflict",
    "SpecificationError",
    "StoreError",
    "StoreFull",
    "StoreUnavailable",
    "UnknownCase",
    "UnknownSpecification",
    "UnknownWorkItem",
    "VerificationError",
    "Work",
    "WorkItem",
    "Worklist",
    "build",
    "patterns",
    "verify_signature",
)


def __getattr__(name: str) -> Any:
    """Load a public name when it is first asked for, which keeps ``import knhk`` quick."""
    if name == "__version__":
        return metadata.version("knhk")
    module = _MODULE.get(name)
    if module is None:
        message = f"module 'knhk' has no attribute {name!r}"
        raise AttributeError(message)
    value = getattr(import_module(module), name)
    globals()[name] = value
    return value
