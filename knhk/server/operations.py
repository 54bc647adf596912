"""The operations over HTTP: method, path, what goes in and comes out, and who may ask; one table, from which everything is made.

The routes, the rights, the checks of bodies and queries, the names in the record, in logs and metrics, and the description of the
API (`knhk.server.openapi`) are all read from here, so none of them can say something else than the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

import attrs

from knhk.server import shapes
from knhk.server.service import Service

Query = Mapping[str, str]


def _for_ever() -> float:
    return math.inf


@attrs.frozen(kw_only=True)
class Call:
    """
    A request, checked as its operation says.

    Args:
        service: what does it.
        caller: who asks.
        path: the parts of the address.
        query: the parts of the query.
        body: the body, as a shape; None where the operation has none.
        expected: the version that ``If-Match`` names.
        key: the ``Idempotency-Key``.
        limit, after: the page that is asked for.
        left: says how many seconds the caller still waits; 0 where he has gone.
    """

    service: Service
    caller: Any
    path: Mapping[str, str]
    query: Query
    body: Any
    expected: int | None
    key: str | None
    limit: int
    after: str
    left: Callable[[], float] = _for_ever

    def asked(self, name: str) -> str | None:
        """Return a part of the query, or None."""
        return self.query.get(name)


@attrs.frozen(kw_only=True)
class Reply:
    """
    What is answered.

    Args:
        body: a shape, or None for no body.
        status: the HTTP status.
        location: the address of what was made.
        version: of the case, for the ``ETag``.
    """

    body: Any
    status: int = 200
    location: str = ""
    version: int | None = None


@attrs.frozen(kw_only=True)
class Operation:
    """
    One thing that can be asked.

    Args:
        name: as in `knhk.server.rights`.
        method, path: the route below ``/api/v1``.
        summary: what it does, for the description.
        run: does it.
        takes: the shape of the body, or None; `Specification` bodies are read by `knhk.server.bodies`.
        gives: the shape of the answer, or None.
        status: of the usual answer.
        query: the parts of the query, each with its meaning.
        paged: whether it is a list.
        conditional: whether ``If-Match`` is honoured.
        keyed: whether ``Idempotency-Key`` is honoured.
        resource: the part of the address that says what it is about, for the record.
    """

    name: str
    method: str
    path: str
    summary: str
    run: Callable[[Call], Reply]
    takes: type[shapes.Body] | None = None
    gives: type[shapes.Answer] | None = None
    item: type[shapes.Answer] | None = None
    status: int = 200
    query: Mapping[str, str] = attrs.field(factory=dict)
    paged: bool = False
    conditional: bool = False
    keyed: bool = False
    specification: bool = False
    resource: str = ""

    @property
    def changes(self) -> Literal["", "case", "documents"]:
        """What it may change: with that its entry in the record is stored; "" for nothing."""
        kind, _, verb = self.name.partition(".")
        if self.method == "GET" or verb == "verify":
            return ""
        if kind in ("case", "item", "work", "letter"):
            return "case"
        return "documents" if kind in ("workflow", "webhook") else ""


def _case(body: shapes.Case, status: int = 200, location: str = "") -> Reply:
    return Reply(body=body, status=status, version=body.version, location=location)


# --- workflows ------------------------------------------------------------------------------------------------------------


def _register(call: Call) -> Reply:
    new, body = call.service.workflow_register(call.caller, call.body)
    return Reply(body=body, status=201 if new else 200, location=f"/api/v1/workflows/{body.spec_id}")


def _remove(call: Call) -> Reply:
    call.service.workflow_remove(call.caller, call.path["spec_id"], call.asked("version"))
    return Reply(body=None, status=204)


# --- cases ----------------------------------------------------------------------------------------------------------------


def _create(call: Call) -> Reply:
    body = call.service.case_create(call.caller, call.body, call.key)
    return _case(body, 201, f"/api/v1/cases/{body.case_id}")


def _event(call: Call) -> Reply:
    body = call.service.case_event(call.caller, call.path["case_id"], call.body, call.expected)
    return Reply(body=body, version=body.case.version)


def _execute(call: Call) -> Reply:
    return _case(call.service.case_execute(call.caller, call.path["case_id"], call.expected, call.left))


def _on_case(name: str) -> Callable[[Call], Reply]:
    def run(call: Call) -> Reply:
        return _case(getattr(call.service, f"case_{name}")(call.caller, call.path["case_id"], call.expected))

    return run


# --- work items -----------------------------------------------------------------------------------------------------------


def _item(call: Call) -> Reply:
    version, body = call.service.item_get(call.caller, call.path["item_id"])
    return Reply(body=body, version=version)


def _on_item(command: Callable[[Any, Call], object]) -> Callable[[Call], Reply]:
    def run(call: Call) -> Reply:
        version, body = call.service.item_do(
            call.caller, call.path["item_id"], call.expected, lambda item: command(item, call)
        )
        return Reply(body=body, version=version)

    return run


# --- work of workers elsewhere --------------------------------------------------------------------------------------------


def _complete_work(call: Call) -> Reply:
    call.service.work_complete(call.caller, call.path["work_id"], call.body)
    return Reply(body=None, status=204)


def _release_work(call: Call) -> Reply:
    call.service.work_release(call.caller, call.path["work_id"], call.body)
    return Reply(body=None, status=204)


def _on_letter(name: str) -> Callable[[Call], Reply]:
    def run(call: Call) -> Reply:
        getattr(call.service, f"letter_{name}")(call.caller, call.path["letter_id"], call.body)
        return Reply(body=None, status=204)

    return run


# --- webhooks -------------------------------------------------------------------------------------------------------------


def _subscribe(call: Call) -> Reply:
    body = call.service.webhook_create(call.caller, call.body)
    return Reply(body=body, status=201, location=f"/api/v1/webhooks/{body.id}")


def _unsubscribe(call: Call) -> Reply:
    call.service.webhook_remove(call.caller, call.path["webhook_id"])
    return Reply(body=None, status=204)


LETTER_FILTERS: Final = {
    "kind": "only work, or only messages: `work` or `message`",
    "spec_id": "only of this workflow",
    "handler": "only of this handler",
    "topic": "only of this topic",
    "error": "only of this error",
    "webhook": "only messages of this webhook",
}
"""What the list of dead letters is narrowed by, and to what."""

_VERSION: Final = {"version": "which version; the latest where none is named"}


def _operation(name: str, method: str, path: str, summary: str, run: Callable[[Call], Reply], **rest: Any) -> Operation:
    resource = next((part[1:-1] for part in path.split("/") if part.startswith("{")), "")
    return Operation(name=name, method=method, path=path, summary=summary, run=run, resource=resource, **rest)


OPERATIONS: Final[tuple[Operation, ...]] = (
    _operation(
        "workflow.register",
        "POST",
        "/workflows",
        "Register a workflow",
        _register,
        takes=shapes.RegisterWorkflow,
        gives=shapes.Registered,
        status=201,
        specification=True,
    ),
    _operation(
        "workflow.list",
        "GET",
        "/workflows",
        "List the registered workflows",
        lambda call: Reply(body=call.service.workflow_list(call.caller, limit=call.limit, after=call.after)),
        gives=shapes.Page,
        item=shapes.Workflow,
        paged=True,
    ),
    _operation(
        "workflow.verify",
        "POST",
        "/workflows/verify",
        "Judge a workflow without registering it",
        lambda call: Reply(body=call.service.workflow_verify(call.caller, call.body)),
        takes=shapes.RegisterWorkflow,
        gives=shapes.Soundness,
        specification=True,
    ),
    _operation(
        "workflow.get",
        "GET",
        "/workflows/{spec_id}",
        "Return a workflow",
        lambda call: Reply(body=call.service.workflow_get(call.caller, call.path["spec_id"], call.asked("version"))),
        gives=shapes.WholeWorkflow,
        query=_VERSION,
    ),
    _operation(
        "workflow.remove", "DELETE", "/workflows/{spec_id}", "Remove a workflow", _remove, status=204, query=_VERSION
    ),
    _operation(
        "case.create",
        "POST",
        "/cases",
        "Create a case",
        _create,
        takes=shapes.CreateCase,
        gives=shapes.Case,
        status=201,
        keyed=True,
    ),
    _operation(
        "case.list",
        "GET",
        "/cases",
        "List cases",
        lambda call: Reply(
            body=call.service.case_list(
                call.caller,
                spec_id=call.asked("spec_id"),
                state=call.asked("state"),
                limit=call.limit,
                after=call.after,
            )
        ),
        gives=shapes.Page,
        item=shapes.CaseLine,
        query={"spec_id": "only cases of this workflow", "state": "only cases in this state"},
        paged=True,
    ),
    _operation(
        "case.get",
        "GET",
        "/cases/{case_id}",
        "Return a case",
        lambda call: _case(call.service.case_get(call.caller, call.path["case_id"])),
        gives=shapes.Case,
    ),
    _operation(
        "case.history",
        "GET",
        "/cases/{case_id}/history",
        "Return what happened in a case",
        lambda call: Reply(
            body=call.service.case_history(call.caller, call.path["case_id"], limit=call.limit, after=call.after)
        ),
        gives=shapes.Page,
        item=shapes.Event,
        paged=True,
    ),
    *(
        _operation(
            f"case.{name}",
            "POST",
            f"/cases/{{case_id}}/{name}",
            summary,
            _execute if name == "execute" else _on_case(name),
            gives=shapes.Case,
            conditional=True,
        )
        for name, summary in (
            ("start", "Start a case"),
            ("execute", "Start a case if needed, and do its automatic work until it waits or ends"),
            ("cancel", "Cancel a case"),
            ("suspend", "Hold a case"),
            ("resume", "Go on with a case that was held"),
        )
    ),
    _operation(
        "case.event",
        "POST",
        "/cases/{case_id}/events",
        "Deliver an event to a case",
        _event,
        takes=shapes.SendEvent,
        gives=shapes.Delivered,
        conditional=True,
    ),
    _operation(
        "item.list",
        "GET",
        "/workitems",
        "List open work items",
        lambda call: Reply(
            body=call.service.item_list(
                call.caller,
                case_id=call.asked("case_id"),
                state=call.asked("state"),
                participant=call.asked("participant"),
                role=call.asked("role"),
                limit=call.limit,
                after=call.after,
            )
        ),
        gives=shapes.Page,
        item=shapes.Item,
        query={
            "case_id": "only items of this case",
            "state": "only items in this state",
            "participant": "only items of this participant",
            "role": "only items that are offered to this role",
        },
        paged=True,
    ),
    _operation(
        "item.get",
        "GET",
        "/workitems/{item_id}",
        "Return a work item",
        _item,
        gives=shapes.WholeItem,
    ),
    *(
        _operation(
            f"item.{name}",
            "POST",
            f"/workitems/{{item_id}}/{name}",
            summary,
            _on_item(command),
            takes=takes,
            gives=shapes.Item,
            conditional=True,
        )
        for name, summary, takes, command in (
            (
                "offer",
                "Give an allocated item back to all who may do it",
                None,
                lambda item, call: item.offer(by=call.caller.subject),
            ),
            (
                "allocate",
                "Give an item to a participant",
                shapes.Allocate,
                lambda item, call: item.allocate(
                    call.service.recipient(call.caller, call.body.to), by=call.caller.subject
                ),
            ),
            (
                "delegate",
                "Hand an allocated item on to another participant",
                shapes.Delegate,
                lambda item, call: item.delegate(call.body.to, by=call.caller.subject),
            ),
            ("start", "Take an item up", None, lambda item, call: item.start(by=call.caller.subject)),
            (
                "complete",
                "Complete an item",
                shapes.CompleteItem,
                lambda item, call: item.complete(call.body.data, by=call.caller.subject),
            ),
            (
                "fail",
                "Say that started work has failed",
                shapes.FailItem,
                lambda item, call: item.fail(call.body.reason, by=call.caller.subject),
            ),
            (
                "suspend",
                "Lay started work aside",
                None,
                lambda item, call: item.suspend(by=call.caller.subject),
            ),
            (
                "resume",
                "Take suspended work up again",
                None,
                lambda item, call: item.resume(by=call.caller.subject),
            ),
            (
                "skip",
                "Complete an item without its work being done",
                None,
                lambda item, call: item.skip(by=call.caller.subject),
            ),
        )
    ),
    _operation(
        "work.claim",
        "POST",
        "/work/claim",
        "Take external work under a lease, and wait for it where there is none",
        lambda call: Reply(body=call.service.work_claim(call.caller, call.body, call.left)),
        takes=shapes.ClaimWork,
        gives=shapes.Page,
        item=shapes.Claim,
    ),
    _operation(
        "work.complete",
        "POST",
        "/work/{work_id}/complete",
        "Complete claimed work",
        _complete_work,
        takes=shapes.CompleteWork,
        status=204,
    ),
    _operation(
        "work.fail",
        "POST",
        "/work/{work_id}/fail",
        "Say that claimed work has failed",
        lambda call: Reply(body=call.service.work_fail(call.caller, call.path["work_id"], call.body)),
        takes=shapes.FailWork,
        gives=shapes.Failed,
    ),
    _operation(
        "work.extend",
        "POST",
        "/work/{work_id}/extend",
        "Keep claimed work for longer",
        lambda call: Reply(body=call.service.work_extend(call.caller, call.path["work_id"], call.body)),
        takes=shapes.ExtendWork,
        gives=shapes.Extended,
    ),
    _operation(
        "work.release",
        "POST",
        "/work/{work_id}/release",
        "Give claimed work back, to be offered again at once",
        _release_work,
        takes=shapes.ReleaseWork,
        status=204,
    ),
    _operation(
        "letter.list",
        "GET",
        "/dead-letters",
        "List work that has failed for good, and messages that did not arrive",
        lambda call: Reply(
            body=call.service.letter_list(
                call.caller,
                {name: call.asked(name) for name in LETTER_FILTERS},
                limit=call.limit,
                after=call.after,
            )
        ),
        gives=shapes.Page,
        item=shapes.DeadLetter,
        query=LETTER_FILTERS,
        paged=True,
    ),
    _operation(
        "letter.get",
        "GET",
        "/dead-letters/{letter_id}",
        "Return failed work with what it was given, or a message with what it says",
        lambda call: Reply(body=call.service.letter_get(call.caller, call.path["letter_id"])),
        gives=shapes.WholeDeadLetter,
    ),
    _operation(
        "letter.replay",
        "POST",
        "/dead-letters/{letter_id}/replay",
        "Give failed work all its attempts anew, or send a message again",
        _on_letter("replay"),
        status=204,
    ),
    _operation(
        "letter.discard",
        "POST",
        "/dead-letters/{letter_id}/discard",
        "Give failed work up, or forget a message",
        _on_letter("discard"),
        takes=shapes.Discard,
        status=204,
    ),
    _operation(
        "webhook.create",
        "POST",
        "/webhooks",
        "Tell a URL of what happens",
        _subscribe,
        takes=shapes.Subscribe,
        gives=shapes.NewWebhook,
        status=201,
    ),
    _operation(
        "webhook.list",
        "GET",
        "/webhooks",
        "List who is told of what happens",
        lambda call: Reply(body=call.service.webhook_list(call.caller)),
        gives=shapes.Page,
        item=shapes.Webhook,
    ),
    _operation(
        "webhook.remove",
        "DELETE",
        "/webhooks/{webhook_id}",
        "Tell a URL no more",
        _unsubscribe,
        status=204,
    ),
    _operation(
        "pattern.list",
        "GET",
        "/patterns",
        "List the 43 workflow patterns",
        lambda call: Reply(body=call.service.pattern_list()),
        gives=shapes.Page,
        item=shapes.Pattern,
    ),
    _operation(
        "pattern.get",
        "GET",
        "/patterns/{number}",
        "Return a pattern with its net",
        lambda call: Reply(body=call.service.pattern_get(int(call.path["number"]))),
        gives=shapes.WholePattern,
    ),
    _operation(
        "pattern.execute",
        "POST",
        "/patterns/{number}/execute",
        "Run a real net of the pattern",
        lambda call: Reply(body=call.service.pattern_execute(int(call.path["number"]), call.body)),
        takes=shapes.ExecutePattern,
        gives=shapes.PatternRun,
    ),
    _operation(
        "instance.list",
        "GET",
        "/instances",
        "List the instances that share the store",
        lambda call: Reply(body=call.service.instance_list()),
        gives=shapes.Page,
        item=shapes.Instance,
    ),
    _operation(
        "audit.read",
        "GET",
        "/audit",
        "Read the record of calls",
        lambda call: Reply(
            body=call.service.audit_read(
                call.caller,
                subject=call.asked("subject"),
                operation=call.asked("operation"),
                since=call.asked("since"),
                limit=call.limit,
                after=call.after,
            )
        ),
        gives=shapes.Page,
        item=shapes.AuditEntry,
        query={
            "subject": "only calls of this subject",
            "operation": "only calls of this operation",
            "since": "only calls not before this time (RFC 3339)",
        },
        paged=True,
    ),
    _operation(
        "audit.verify",
        "GET",
        "/audit/verify",
        "Say whether the record is as it was written",
        lambda call: Reply(body=call.service.audit_verify(whole=call.asked("whole") == "true")),
        gives=shapes.AuditVerdict,
        query={"whole": "true: from the first link on, and not from where the last look ended"},
    ),
)
