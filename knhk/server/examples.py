"""Examples of what goes over the wire, for the description of the API: one of each shape."""

from __future__ import annotations

from typing import Any, Final

from knhk.server import shapes
from knhk.server.operations import Operation

_SPEC: Final = {"id": "workflow-123", "name": "Example Workflow", "tasks": [], "conditions": []}
SPEC_AS_YAML: Final = "id: workflow-123\nname: Example Workflow\ntasks: {}\n"

_ID: Final = "01a217272e0e43fd5439c31e6ee3"
_AT: Final = "2026-07-01T08:00:00.000Z"
_SOUND: Final = {"verdict": "sound", "problems": []}
_WORKFLOW: Final = {"spec_id": "workflow-123", "version": "1", "name": "Example Workflow", "content_hash": "83ed7159"}
_LINE: Final = {
    "case_id": _ID,
    "spec_id": "workflow-123",
    "spec_version": "1",
    "state": "running",
    "version": 3,
    "next_due": None,
    "runnable": False,
    "quarantined": "",
}
_CASE: Final = {
    **_LINE,
    "data": {"input": "value"},
    "marking": {"": {"start": 1}},
    "enabled": ["approve"],
    "running": [],
    "problems": [],
    "worklets": [],
    "stands_in_for": None,
}
_ITEM: Final = {
    "id": f"{_ID}:1",
    "case_id": _ID,
    "number": 1,
    "path": "approve",
    "state": "offered",
    "by": "",
    "roles": ["clerk"],
    "topic": "",
    "audience": ["role:clerk"],
}
_LETTER: Final = {
    "id": f"{_ID}:2",
    "kind": "work",
    "webhook": "",
    "case_id": _ID,
    "number": 2,
    "path": "charge",
    "spec_id": "workflow-123",
    "spec_version": "1",
    "handler": "charge",
    "topic": "",
    "reason": "the bank does not answer",
    "error": "TimeoutError",
    "at": _AT,
    "attempts": 5,
    "attempt": 5,
    "digest": "9f86d081884c7d65",
    "where": "bank.py:41 charge",
}
_WEBHOOK: Final = {
    "id": "orders",
    "url": "https://hooks.example.com/knhk",
    "events": ["case_completed"],
    "spec_id": None,
    "with_data": True,
    "paused": False,
}
_PATTERN: Final = {
    "number": 1,
    "name": "Sequence",
    "category": "Basic control flow",
    "description": "A task starts when the one before it has completed.",
    "variables": {},
}

EXAMPLES: Final[dict[type, Any]] = {
    shapes.RegisterWorkflow: {"spec": _SPEC},
    shapes.CreateCase: {"spec_id": "workflow-123", "data": {"input": "value"}},
    shapes.SendEvent: {"name": "payment", "data": {"amount": 12}},
    shapes.Allocate: {"to": "ann"},
    shapes.CompleteItem: {"data": {"approved": True}},
    shapes.FailItem: {"reason": "the printer is out of paper"},
    shapes.Delegate: {"to": "bob"},
    shapes.ClaimWork: {"topics": ["labels"], "max": 10, "lease": 30},
    shapes.CompleteWork: {"token": "3", "data": {"label": "L-17"}},
    shapes.FailWork: {"token": "3", "reason": "no paper", "retry_after": 60},
    shapes.ExtendWork: {"token": "3", "lease": 30},
    shapes.ReleaseWork: {"token": "3"},
    shapes.Discard: {"reason": "the order was withdrawn"},
    shapes.Subscribe: {"url": "https://hooks.example.com/knhk", "events": ["case_completed"]},
    shapes.ExecutePattern: {"variables": {"test": "value"}},
    shapes.Soundness: _SOUND,
    shapes.Registered: {"spec_id": "workflow-123", "version": "1", "soundness": _SOUND},
    shapes.Workflow: _WORKFLOW,
    shapes.WholeWorkflow: {**_WORKFLOW, "spec": _SPEC, "soundness": _SOUND},
    shapes.CaseLine: _LINE,
    shapes.Case: _CASE,
    shapes.Event: {"sequence": 1, "at": _AT, "kind": "case_created", "path": "", "details": {}},
    shapes.Delivered: {"kept": 1, "case": _CASE},
    shapes.Item: _ITEM,
    shapes.WholeItem: {**_ITEM, "data": {"input": "value"}},
    shapes.Claim: {
        "id": f"{_ID}:2",
        "token": "3",
        "case_id": _ID,
        "number": 2,
        "path": "label",
        "topic": "labels",
        "worker": "printer-1",
        "attempt": 1,
        "deadline": _AT,
        "lease": 30.0,
        "data": {"input": "value"},
        "item": None,
        "index": None,
    },
    shapes.Failed: {"handled": True},
    shapes.Extended: {"deadline": _AT, "lease": 30.0},
    shapes.DeadLetter: _LETTER,
    shapes.WholeDeadLetter: {**_LETTER, "data": {"input": "value"}, "item": None, "index": None},
    shapes.Webhook: _WEBHOOK,
    shapes.NewWebhook: {**_WEBHOOK, "secret": "shown this once"},
    shapes.Pattern: _PATTERN,
    shapes.WholePattern: {**_PATTERN, "spec": {"id": "sequence", "tasks": {"write_claim": {"manual": True}}}},
    shapes.PatternRun: {
        "number": 1,
        "name": "Sequence",
        "outcome": "completed",
        "trace": ["write_claim", "check_receipts", "pay_claim"],
        "variables": {"test": "value"},
    },
    shapes.Instance: {
        "id": "workflow-engine-1",
        "address": "http://10.0.0.7:8080",
        "region": "us-east-1",
        "state": "working",
        "started": _AT,
        "until": _AT,
        "partitions": 64,
    },
    shapes.AuditEntry: {
        "writer": "workflow-engine-1",
        "sequence": 17,
        "hash": "9c56cc51b374c3ba189210d5b6d4bf57790d351c96c47c02190ecf1e430635ab",
        "at": _AT,
        "subject": "ann",
        "operation": "case.create",
        "resource": _ID,
        "outcome": 201,
        "trace": "4bf92f3577b34da6a3ce929d0e0e4736",
        "region": "us-east-1",
    },
    shapes.AuditVerdict: {
        "intact": True,
        "complete": True,
        "links": 17,
        "problems": [],
        "heads": {
            "workflow-engine-1": {"sequence": 17, "hash": "9c56cc51", "at": 1782892800000, "signature": "5f1d7a84"}
        },
    },
}
"""By shape, one that is right."""

AT_THE_ROOT: Final[dict[str, Any]] = {
    "/health": {"status": "Healthy", "service": "knhk-workflow-engine", "version": "1.0.0"},
    "/health/live": {"alive": True},
    "/health/ready": {"ready": True},
    "/health/components": {
        "status": "Healthy",
        "instance": "workflow-engine-1",
        "draining": False,
        "components": {"store": {"status": "up", "age": 0.1, "detail": ""}},
    },
    "/metrics": 'knhk_requests_total{operation="case.get",status="200"} 17.0\n',
}
"""By path, what is answered to anybody."""


def answer_example(operation: Operation) -> Any:
    """Return an example of an operation's usual answer; None where it has no body."""
    if operation.gives is None:
        return None
    if operation.gives is shapes.Page:
        items = [] if operation.item is None else [EXAMPLES[operation.item]]
        return {"items": items, "next": None}
    return EXAMPLES[operation.gives]
