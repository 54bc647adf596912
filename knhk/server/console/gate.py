"""What stands between a browser and the service: the gate of the API, with cookies, forms and pages."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, Final

import attrs
import falcon

from knhk.errors import MissingExtra
from knhk.formats.picture import STYLE
from knhk.server.console.forms import body_of, read_form
from knhk.server.console.sessions import ROOT, SIGN, check_sign, sign, token_of
from knhk.server.identity import Caller
from knhk.server.operations import Call, Operation, Reply
from knhk.server.problems import TITLES, Problem
from knhk.server.rates import Standing
from knhk.server.reading import check_path, read_query, shape_of
from knhk.server.rest import HttpGate
from knhk.server.rights import may
from knhk.server.shapes import CreateCase

try:
    import jinja2
except ImportError as error:
    raise MissingExtra("server", "the console") from error

_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
POLICY: Final = (
    f"default-src 'none'; style-src 'self' 'sha256-{_STYLE_HASH}'; script-src 'self'; img-src 'self';"
    " form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
"""Nothing from elsewhere, and nothing inline but the one style that pictures carry."""

_LATER: Final = re.compile(r"/console(/[A-Za-z0-9._:-]+)*")
_KEY: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


@attrs.frozen(kw_only=True)
class View:
    """
    A page that is to be shown.

    Args:
        template: its file.
        values: what is in it.
    """

    template: str
    values: Mapping[str, Any]


class ConsoleGate(HttpGate):
    """As the API's gate, for people: the same verifier, rates, record and figures."""

    def __init__(self, *shared: Any, **more: Any) -> None:
        super().__init__(*shared, **more)
        self._templates = jinja2.Environment(
            loader=jinja2.PackageLoader("knhk.server.console"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters["pretty"] = _pretty
        self._templates.filters["words"] = _words

    def caller(self, asked: falcon.Request) -> Caller:
        """Return whose token the cookie has; raises Problem."""
        return self.identify(f"Bearer {token_of(asked)}", asked.remote_addr or "")

    def call(self, asked: falcon.Request, operation: Operation, caller: Caller, path: Mapping[str, str]) -> Call:
        """Return what a page or a form asks for; raises Problem where it is not right."""
        fields: dict[str, str] = {}
        if asked.method == "POST":
            fields = read_form(asked)
            check_sign(asked, fields.get(SIGN, ""))
        check_path(path)
        # A search form sends the fields that were left empty too.
        filled = {name: value for name, value in asked.params.items() if value != ""}
        query, limit, after = read_query(filled, operation)
        version = fields.get("version_read", "")
        key = fields.get("key", "")
        return Call(
            service=self.service,
            caller=caller,
            path=path,
            query=query,
            body=None if operation.takes is None else shape_of(body_of(fields, operation.takes), operation.takes),
            expected=int(version) if operation.conditional and re.fullmatch("[0-9]{1,15}", version) else None,
            key=key if operation.takes is CreateCase and _KEY.fullmatch(key) else None,
            limit=min(limit, 50) if "limit" not in filled else limit,
            after=after,
        )

    def answer(
        self, asked: falcon.Request, answer: falcon.Response, reply: Reply, standing: Standing | None, caller: Caller
    ) -> None:
        """Show a page, or lead to where what was done can be seen."""
        if standing is not None:
            answer.set_headers(standing.headers())
        if isinstance(reply.body, View):
            self.show(asked, answer, reply.body, caller)
        else:
            answer.set_header("Location", reply.location)
        answer.status = falcon.code_to_http_status(reply.status)

    def refuse(self, asked: falcon.Request, answer: falcon.Response, problem: Problem, caller: Caller | None) -> None:
        """Show why something was not done; who is not known is asked for his token."""
        if problem.kind == "unauthenticated":
            later = later_of(asked.path if asked.method == "GET" else "")
            self.show(
                asked, answer, View(template="login.html", values={"later": later, "refused": bool(token_of(asked))})
            )
        else:
            values = {"problem": problem, "title": TITLES[problem.kind], "back": ROOT}
            self.show(asked, answer, View(template="problem.html", values=values), caller)
            answer.set_headers({name: each for name, each in problem.headers.items() if name != "WWW-Authenticate"})
        answer.status = falcon.code_to_http_status(problem.status)

    def show(self, req: falcon.Request, resp: falcon.Response, view: View, caller: Caller | None = None) -> None:
        """Write a page."""
        roles = frozenset[str]() if caller is None else caller.roles
        resp.text = self._templates.get_template(view.template).render(
            **view.values,
            caller=caller,
            may=lambda operation: may(roles, operation),
            form_token=sign(req, resp),
            here=req.path,
            signed_in=self.verifier is not None,
        )
        resp.content_type = "text/html; charset=utf-8"
        harden(resp)


def later_of(address: str) -> str:
    """Return a page of ours to which a login may lead, or the first one."""
    return address if _LATER.fullmatch(address) else ROOT


def harden(resp: falcon.Response) -> None:
    """Say what a browser must not do with an answer."""
    resp.set_header("Content-Security-Policy", POLICY)
    resp.set_header("X-Frame-Options", "DENY")
    resp.set_header("Referrer-Policy", "no-referrer")
    resp.set_header("Cross-Origin-Opener-Policy", "same-origin")


def _pretty(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2, default=str)


def _words(name: str) -> str:
    return name.replace("_", " ")
