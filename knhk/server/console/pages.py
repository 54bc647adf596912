"""The pages: each an operation of the API, shown to people, with what else their rights let them see beside it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlencode

import attrs
import falcon
from markupsafe import Markup

from knhk.errors import MissingExtra
from knhk.patterns import patterns
from knhk.server.console.forms import fields_of, read_form
from knhk.server.console.gate import ConsoleGate, View, harden, later_of
from knhk.server.console.playback import play
from knhk.server.console.sessions import ROOT, SIGN, check_sign, forget_token, keep_token
from knhk.server.observing import Stopwatch
from knhk.server.operations import LETTER_FILTERS, OPERATIONS, Call, Operation, Reply
from knhk.server.problems import Problem
from knhk.server.rights import may
from knhk.spec import Specification

STATES: Final = ("created", "running", "suspended", "failed", "deadlocked", "completed", "cancelled")
_ITEM_STATES: Final = ("unoffered", "offered", "allocated", "started", "suspended", "failed")
_COMMANDS: Final[dict[str, tuple[str, ...]]] = {
    "created": ("start", "execute", "cancel"),
    "running": ("execute", "suspend", "cancel"),
    "suspended": ("resume", "cancel"),
    "failed": ("cancel",),
    "deadlocked": ("cancel",),
}
"""Which buttons a case in a state has; the engine decides what is right."""

_ITEM_COMMANDS: Final[dict[str, tuple[str, ...]]] = {
    "unoffered": ("offer", "allocate", "skip"),
    "offered": ("allocate", "start", "skip"),
    "allocated": ("start", "offer", "delegate", "skip"),
    "started": ("suspend", "fail", "skip"),
    "suspended": ("resume",),
}
_COMPLETED: Final = ("offered", "allocated", "started")
_BY_NAME: Final = {each.name: each for each in OPERATIONS}


def drawn(draw: Callable[[], str]) -> dict[str, Any]:
    """Return a picture as it stands in a page, or why there is none."""
    try:
        return {"svg": Markup(draw()), "why": ""}  # noqa: S704 - the drawing escapes every text in it
    except (MissingExtra, ValueError) as error:
        return {"svg": "", "why": str(error)}


def _further(call: Call, following: str | None) -> str:
    """Return the address of the next page, or ""."""
    return "" if following is None else "?" + urlencode({**call.query, "cursor": following})


def _cases(call: Call) -> View:
    page = call.service.case_list(
        call.caller, spec_id=call.asked("spec_id"), state=call.asked("state"), limit=call.limit, after=call.after
    )
    return View(
        template="cases.html",
        values={
            "cases": page.items,
            "further": _further(call, page.next),
            "later": bool(call.after),
            "spec_id": call.asked("spec_id") or "",
            "state": call.asked("state") or "",
            "states": STATES,
        },
    )


def _case(call: Call) -> View:
    case = call.service.case_get(call.caller, call.path["case_id"])
    history = call.service.case_history(call.caller, case.case_id, limit=call.limit, after=call.after)
    return View(
        template="case.html",
        values={
            "case": case,
            "picture": drawn(lambda: call.service.case_draw(call.caller, case.case_id)),
            "items": call.service.item_list(
                call.caller, case_id=case.case_id, state=None, participant=None, role=None, limit=50, after=""
            ).items,
            "events": history.items,
            "further": _further(call, history.next),
            "commands": _COMMANDS.get(case.state, ()),
        },
    )


def _worklist(call: Call) -> View:
    wanted = {name: call.asked(name) for name in ("case_id", "state", "participant", "role")}
    page = call.service.item_list(call.caller, **wanted, limit=call.limit, after=call.after)
    values = {name: value or "" for name, value in wanted.items()}
    return View(
        template="worklist.html",
        values={**values, "items": page.items, "further": _further(call, page.next), "states": _ITEM_STATES},
    )


def _item(call: Call) -> View:
    version, item = call.service.item_get(call.caller, call.path["item_id"])
    schema = call.service.item_schema(call.caller, item)
    return View(
        template="item.html",
        values={
            "item": item,
            "version": version,
            "fields": fields_of(schema, item.data),
            "commands": _ITEM_COMMANDS.get(item.state, ()),
            "completes": item.state in _COMPLETED,
        },
    )


def _letters(call: Call) -> View:
    wanted = {name: call.asked(name) for name in LETTER_FILTERS}
    page = call.service.letter_list(call.caller, wanted, limit=call.limit, after=call.after)
    values = {name: value or "" for name, value in wanted.items()}
    return View(template="letters.html", values={**values, "letters": page.items, "further": _further(call, page.next)})


def _workflows(call: Call) -> View:
    page = call.service.workflow_list(call.caller, limit=call.limit, after=call.after)
    return View(template="workflows.html", values={"workflows": page.items, "further": _further(call, page.next)})


def _workflow(call: Call) -> View:
    workflow = call.service.workflow_get(call.caller, call.path["spec_id"], call.asked("version"))
    specification = Specification.from_dict(workflow.spec)
    return View(
        template="workflow.html",
        values={
            "workflow": workflow,
            "picture": drawn(specification.draw),
            "fields": fields_of(specification.data, {}),
            "key": secrets.token_urlsafe(16),
        },
    )


def _patterns(call: Call) -> View:
    categories: dict[str, list[Any]] = {}
    for each in call.service.pattern_list().items:
        categories.setdefault(each.category, []).append(each)
    return View(template="patterns.html", values={"categories": categories})


def _pattern(call: Call) -> View:
    pattern = call.service.pattern_get(int(call.path["number"]))
    return _pattern_view(pattern, patterns[pattern.number].defaults, None, [])


def _play(call: Call) -> View:
    pattern = call.service.pattern_get(int(call.path["number"]))
    run, steps = play(pattern.number, call.body.variables)
    shown = [attrs.evolve(each, picture=Markup(each.picture)) for each in steps]  # noqa: S704 - as `drawn`
    return _pattern_view(pattern, call.body.variables, run, shown)


def _pattern_view(pattern: Any, variables: Mapping[str, Any], run: Any, steps: list[Any]) -> View:
    return View(
        template="pattern.html",
        values={
            "pattern": pattern,
            "story": patterns[pattern.number].story,
            "count": len(patterns),
            "variables": variables,
            "picture": drawn(patterns[pattern.number].specification.draw),
            "run": run,
            "steps": steps,
        },
    )


# --- which address is which operation -------------------------------------------------------------------------------------


def _page(name: str, run: Callable[[Call], View], **changes: Any) -> Operation:
    return attrs.evolve(_BY_NAME[name], run=lambda call: Reply(body=run(call)), **changes)


def _command(name: str, where: Callable[[Call, Reply], str]) -> Operation:
    """Return an operation of the API after which the browser is led to a page."""
    operation = _BY_NAME[name]

    def run(call: Call) -> Reply:
        return Reply(body=None, status=303, location=ROOT + where(call, operation.run(call)))

    return attrs.evolve(operation, run=run, status=303)


def _to_case(call: Call, _: Reply) -> str:
    return f"/cases/{call.path['case_id']}"


def _to_work(call: Call, reply: Reply) -> str:
    ended = reply.body.state in ("completed", "failed") or not reply.body.id
    return "/worklist" if ended else f"/worklist/{call.path['item_id']}"


ROUTES: Final[dict[str, dict[str, Operation]]] = {
    "/cases": {
        "GET": _page("case.list", _cases),
        "POST": _command("case.create", lambda _, reply: f"/cases/{reply.body.case_id}"),
    },
    "/cases/{case_id}": {"GET": _page("case.get", _case, paged=True)},
    **{
        f"/cases/{{case_id}}/{name}": {"POST": _command(f"case.{name}", _to_case)}
        for name in ("start", "execute", "suspend", "resume", "cancel")
    },
    "/cases/{case_id}/events": {"POST": _command("case.event", _to_case)},
    "/worklist": {"GET": _page("item.list", _worklist)},
    "/worklist/{item_id}": {"GET": _page("item.get", _item)},
    **{
        f"/worklist/{{item_id}}/{each.name.removeprefix('item.')}": {"POST": _command(each.name, _to_work)}
        for each in OPERATIONS
        if each.name.startswith("item.") and each.method == "POST"
    },
    "/dead-letters": {"GET": _page("letter.list", _letters)},
    **{
        f"/dead-letters/{{letter_id}}/{name}": {"POST": _command(f"letter.{name}", lambda _, __: "/dead-letters")}
        for name in ("replay", "discard")
    },
    "/workflows": {"GET": _page("workflow.list", _workflows)},
    "/workflows/{spec_id}": {"GET": _page("workflow.get", _workflow)},
    "/patterns": {"GET": _page("pattern.list", _patterns)},
    "/patterns/{number}": {"GET": _page("pattern.get", _pattern)},
    "/patterns/{number}/execute": {"POST": _page("pattern.execute", _play)},
}
"""By address below ``/console`` and method, the operation."""

_LOGIN: Final = attrs.evolve(_BY_NAME["case.list"], name="console.login")
"""Nobody's right and everybody's; here for its name in the record."""

_FIRST: Final = (("case.list", "/cases"), ("item.list", "/worklist"))


class Door:
    """Coming in and going out."""

    def __init__(self, gate: ConsoleGate) -> None:
        self._gate = gate

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Lead to the first page that the caller may see."""
        try:
            caller = self._gate.caller(req)
        except Problem as problem:
            self._gate.refuse(req, resp, problem, None)
            return
        first = next((page for name, page in _FIRST if may(caller.roles, name)), None)
        if first is None:
            self._gate.refuse(req, resp, Problem(kind="forbidden", detail="no page is for your roles"), caller)
        else:
            self._lead(resp, ROOT + first)

    def on_post_login(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Keep a token in the browser, if it counts; on record as the calls are."""
        gate, caller, later = self._gate, None, ROOT
        watch = Stopwatch()
        try:
            fields = read_form(req)
            check_sign(req, fields.get(SIGN, ""))
            later, given = later_of(fields.get("later", "")), fields.get("token", "").strip()
            caller = gate.identify(f"Bearer {given}", req.remote_addr or "")
            if gate.rates is not None:
                gate.rates.admit(caller.client)
            keep_token(req, resp, given)
            self._lead(resp, later)
        except Problem as problem:
            if problem.kind == "unauthenticated":
                gate.show(req, resp, View(template="login.html", values={"later": later, "refused": True}))
                resp.status = falcon.HTTP_401
            else:
                gate.refuse(req, resp, problem, None)
        status, trace = falcon.http_status_to_code(resp.status), secrets.token_hex(16)
        gate._note(_LOGIN, caller, {}, status, watch.seconds(), trace)
        if gate.audit is not None:
            gate.audit.add(gate._entry(_LOGIN, caller, {}, status, trace))

    def on_get_login(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Ask for a token."""
        self._gate.show(req, resp, View(template="login.html", values={"later": ROOT, "refused": False}))

    def on_post_logout(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Let the browser keep the token no more."""
        try:
            check_sign(req, read_form(req).get(SIGN, ""))
        except Problem as problem:
            self._gate.refuse(req, resp, problem, None)
            return
        forget_token(resp)
        self._lead(resp, f"{ROOT}/login")

    def _lead(self, resp: falcon.Response, where: str) -> None:
        resp.status = falcon.HTTP_303
        resp.set_header("Location", where)
        harden(resp)
