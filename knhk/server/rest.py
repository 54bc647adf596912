"""The operations over HTTP, as a WSGI application (Falcon).

What a request goes through, in this order, and no further than the first refusal: who sends it, and how often his address failed
to say so; how much he sends; whether his roles allow what the address asks for; only then what is in the address, the
query and the body, and at last whether the thing is there.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Final

import falcon
import msgspec

from knhk.errors import KnhkError
from knhk.errors import Problem as Finding
from knhk.server import shapes
from knhk.server.audit import AuditLog, Pending, announced
from knhk.server.figures import Figures
from knhk.server.health import Health
from knhk.server.identity import ANONYMOUS, DEFAULT_TENANT, Caller, Unauthenticated, Verifier
from knhk.server.observing import LOG, Stopwatch, in_trace, log_call
from knhk.server.openapi import PREFIX, description
from knhk.server.operations import OPERATIONS, Call, Operation, Reply
from knhk.server.problems import Problem, problem_of
from knhk.server.rates import Rates, Standing
from knhk.server.record import Entry
from knhk.server.rights import may
from knhk.server.service import LONGEST_PAGE, Service
from knhk.spec import Specification
from knhk.spec.json_text import read_json
from knhk.spec.yaml_text import read_yaml
from knhk.work.spans import Span, Tracer, spanned

MOST_BYTES: Final = 8 * 1024 * 1024
"""Bytes that a request's body has at the most."""

_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_PROBLEM: Final = "application/problem+json"
TRACE_HEADER: Final = "Trace-Id"
"""The header of an answer under which its request is found in traces, logs and the record."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_PARTS: Final = {
    "number": re.compile(r"[1-9][0-9]?"),
    **dict.fromkeys(("item_id", "work_id", "letter_id"), re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}:[0-9]{1,12}")),
}
_ETAG: Final = re.compile(r'"([0-9]{1,15})"')
_KEY: Final = re.compile(r"[!-~]{1,200}")
_TRACE: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_QUERY_TEXT: Final = 256
_DEFAULT_PAGE: Final = 100
_JSON: Final = frozenset({"application/json", "text/json"})
_YAML: Final = frozenset({"application/yaml", "application/x-yaml", "text/yaml"})


class Gate:
    """
    What stands between a request and the service.

    Args:
        service: does it.
        verifier: says who asks; None where everybody may do everything.
        rates: how much; None for no limit.
        audit: where every call is recorded; None for nowhere.
        figures: where it is counted.
        now: milliseconds since the epoch.
        region: of this instance, for the record.
        tracer: is told of each request; None: nobody is.
    """

    def __init__(
        self,
        service: Service,
        verifier: Verifier | None,
        rates: Rates | None,
        audit: AuditLog | None,
        figures: Figures,
        now: Callable[[], int],
        *,
        region: str = "",
        tracer: Tracer | None = None,
    ) -> None:
        self.tracer = tracer
        self.region = region
        self.service = service
        self.verifier = verifier
        self.rates = rates
        self.audit = audit
        self.figures = figures
        self.now = now

    def handle(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        operation: Operation | None,
        path: Mapping[str, str],
        allowed: str,
    ) -> None:
        """
        Answer a request.

        Args:
            req, resp: Falcon's.
            operation: what the method and the address ask for; None: nothing that there is.
            path: the parts of the address.
            allowed: the methods that the address has; "" where there is no such address.
        """
        if self.tracer is None:
            self._traced(req, resp, operation, path, allowed, None)
            return
        with _span(self.tracer, req, operation) as span:
            self._traced(req, resp, operation, path, allowed, span)
            span.describe({"http.response.status_code": falcon.http_status_to_code(resp.status)})

    def _traced(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        operation: Operation | None,
        path: Mapping[str, str],
        allowed: str,
        span: Span | None,
    ) -> None:
        trace = _trace(req, self.tracer)
        resp.set_header(TRACE_HEADER, trace)
        with in_trace(trace):
            self._handle(req, resp, operation, path, allowed, trace, span)

    def _handle(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        operation: Operation | None,
        path: Mapping[str, str],
        allowed: str,
        trace: str,
        span: Span | None,
    ) -> None:
        watch = Stopwatch()
        names = dict(path)
        name = operation.name if operation is not None else "none"
        caller: Caller | None = None
        pending: Pending | None = None
        try:
            caller = self._caller(req)
            standing = self._admitted(caller)
            asked = self._permitted(operation, caller, allowed)
            call = self._call(req, asked, caller, path)
            if self.audit is not None and asked.changes:
                entry = self._entry(asked, caller, path, asked.status, trace)
                pending = Pending(self.audit, entry, in_documents=asked.changes == "documents")
            with announced(pending):
                reply = asked.run(call)
            names = {**_named(reply.body), **path}
            self.answer(req, resp, reply, standing, caller)
        except Exception as error:  # noqa: BLE001 - what nobody foresaw is counted and recorded like the rest
            problem = problem_of(error) if isinstance(error, KnhkError) else Problem(kind="internal")
            if problem.kind == "internal":
                LOG.error("a call failed", exc_info=error, extra={"operation": name})
                if span is not None:
                    span.fail(error)
            self.refuse(req, resp, problem, caller)
        seconds = watch.seconds()
        status = falcon.http_status_to_code(resp.status)
        self._note(operation, caller, names, status, seconds, trace)
        if self.audit is not None:
            self._record(self.audit, pending, self._entry(operation, caller, path, status, trace))

    def answer(
        self, req: falcon.Request, resp: falcon.Response, reply: Reply, standing: Standing | None, caller: Caller
    ) -> None:
        """Write what was done."""
        del req, caller
        _write(resp, reply, standing)

    def refuse(self, req: falcon.Request, resp: falcon.Response, problem: Problem, caller: Caller | None) -> None:
        """Write why it was not."""
        del req, caller
        _write_problem(resp, problem)

    def _record(self, audit: AuditLog, pending: Pending | None, entry: Entry) -> None:
        """Record a call, unless the transaction of its change has done so, and rightly."""
        if pending is None or not pending.taken or pending.outcome != entry.outcome:
            audit.add(entry)

    def _entry(
        self, operation: Operation | None, caller: Caller | None, path: Mapping[str, str], status: int, trace: str
    ) -> Entry:
        return Entry(
            at=self.now(),
            tenant=caller.tenant if caller is not None else DEFAULT_TENANT,
            subject=caller.subject if caller is not None else "",
            operation=operation.name if operation is not None else "none",
            resource=path.get(operation.resource, "")[:200] if operation is not None else "",
            outcome=status,
            trace=trace,
            region=self.region,
        )

    def _caller(self, req: falcon.Request) -> Caller:
        return self.identify(req.get_header("Authorization"), req.remote_addr or "")

    def identify(self, authorization: str | None, address: str) -> Caller:
        """Return who sends this ``Authorization`` from this address; raises Problem where it does not count."""
        if self.verifier is None:
            return ANONYMOUS
        try:
            return self.verifier.caller(authorization)
        except Unauthenticated as error:
            # Only those who fail are counted by their address: behind a proxy all others have the same.
            if self.rates is not None:
                self.rates.admit_stranger(address)
            self.figures.refused.labels("unauthenticated").inc()
            LOG.info("no valid token", extra={"reason": str(error)[:200]})
            raise Problem(kind="unauthenticated", headers={"WWW-Authenticate": "Bearer"}) from None

    def _admitted(self, caller: Caller) -> Standing | None:
        try:
            return None if self.rates is None else self.rates.admit(caller.client)
        except Problem:
            self.figures.refused.labels("rate-limited").inc()
            raise

    def _permitted(self, operation: Operation | None, caller: Caller, allowed: str) -> Operation:
        if operation is None:
            raise _nothing_there(allowed)
        if not may(caller.roles, operation.name):
            self.figures.refused.labels("forbidden").inc()
            raise Problem(kind="forbidden")
        return operation

    def _call(self, req: falcon.Request, operation: Operation, caller: Caller, path: Mapping[str, str]) -> Call:
        check_path(path)
        query, limit, after = read_query(req.params, operation)
        return Call(
            service=self.service,
            caller=caller,
            path=path,
            query=query,
            body=_body(req, operation),
            expected=_expected(req, operation),
            key=_key(req, operation),
            limit=limit,
            after=after,
        )

    def _note(
        self,
        operation: Operation | None,
        caller: Caller | None,
        path: Mapping[str, str],
        status: int,
        seconds: float,
        trace: str,
    ) -> None:
        name = operation.name if operation is not None else "none"
        self.figures.answered(name, status, seconds)
        if name == "pattern.execute" and status == 200:
            self.figures.patterns.labels(path["number"]).observe(seconds)
        subject = caller.subject if caller is not None else ""
        log_call(operation=name, status=status, seconds=seconds, path=dict(path), trace=trace, subject=subject or None)


def application(gate: Gate, health: Health, *, version: str) -> falcon.App[falcon.Request, falcon.Response]:
    """Return the whole application."""
    app = falcon.App(cors_enable=False)
    app.req_options.strip_url_path_trailing_slash = False
    app.req_options.auto_parse_form_urlencoded = False
    app.req_options.keep_blank_qs_values = True
    app.resp_options.default_media_type = "application/json"
    app.add_middleware(_Headers())
    by_path: dict[str, dict[str, Operation]] = {}
    for operation in OPERATIONS:
        by_path.setdefault(PREFIX + operation.path, {})[operation.method] = operation
    for path, operations in by_path.items():
        app.add_route(path, resource_of(gate, operations))
    for path, answer in {
        "/health": health.whole,
        "/health/live": health.live,
        "/health/ready": health.ready,
        "/health/components": health.components,
    }.items():
        app.add_route(path, _Plain(answer))
    app.add_route("/metrics", _Text("text/plain; version=0.0.4; charset=utf-8", gate.figures.text))
    document = json.dumps(description(version)).encode()
    app.add_route("/openapi.json", _Text("application/json", lambda: document))
    app.add_route("/swagger", _Swagger())
    app.add_sink(lambda req, resp, **_: gate.handle(req, resp, None, {}, ""), PREFIX)
    app.add_error_handler(falcon.HTTPError, _http_error)
    app.add_error_handler(Exception, _unexpected)
    return app


def resource_of(gate: Gate, operations: Mapping[str, Operation]) -> Any:
    """Return a resource that answers every method: those that the address has, and the others with what they are."""
    # HEAD is answered as GET is; Falcon leaves the body out.
    methods = {**operations, **({"HEAD": operations["GET"]} if "GET" in operations else {})}
    allowed = ", ".join(sorted(methods))

    def responder(method: str) -> Callable[..., None]:
        def respond(_: Any, req: falcon.Request, resp: falcon.Response, **path: str) -> None:
            gate.handle(req, resp, methods.get(method), path, allowed)

        return respond

    members = {f"on_{method.lower()}": responder(method) for method in _METHODS}
    return type("Resource", (), members)()


# --- what comes in --------------------------------------------------------------------------------------------------------


def check_path(path: Mapping[str, str]) -> None:
    """Raise Problem where a part of an address can be the name of nothing."""
    for name, value in path.items():
        if not _PARTS.get(name, _NAME).fullmatch(value):
            raise Problem(kind="not-found")


def read_query(params: Mapping[str, Any], operation: Operation) -> tuple[dict[str, str], int, str]:
    """Return the parts of a query, how long a page is wanted and after what; raises Problem."""
    paging = {"limit", "cursor"} if operation.paged else set()
    wrong: list[Finding] = []
    query: dict[str, str] = {}
    for name, value in params.items():
        if name not in operation.query and name not in paging:
            wrong.append(Finding(f"query.{name[:64]}", "is no part of this query"))
        elif not isinstance(value, str):
            wrong.append(Finding(f"query.{name}", "is there more than once"))
        elif not 0 < len(value) <= _QUERY_TEXT or not value.isprintable():
            wrong.append(Finding(f"query.{name}", f"must be text of 1 to {_QUERY_TEXT} characters"))
        else:
            query[name] = value
    limit = query.pop("limit", str(_DEFAULT_PAGE))
    if not re.fullmatch(r"[1-9][0-9]{0,3}", limit) or int(limit) > LONGEST_PAGE:
        wrong.append(Finding("query.limit", f"must be 1 to {LONGEST_PAGE}"))
    if wrong:
        raise Problem(kind="invalid", detail="the query is not right", findings=tuple(wrong))
    return query, int(limit), query.pop("cursor", "")


def _body(req: falcon.Request, operation: Operation) -> Any:
    raw = read_bytes(req)
    if operation.takes is None:
        if raw.strip() not in (b"", b"{}"):
            raise Problem(kind="invalid", detail="this takes no body")
        return None
    media = (req.content_type or "").partition(";")[0].strip().lower()
    if operation.specification and media in _YAML:
        return Specification.from_dict(read_yaml(_text(raw)))
    if raw.strip() and media not in _JSON:
        raise Problem(kind="unsupported-media", detail="the body must be application/json")
    tree = read_json(_text(raw)) if raw.strip() else {}
    shape = shape_of(tree, operation.takes)
    if operation.specification and isinstance(shape, shapes.RegisterWorkflow):
        return Specification.from_dict(shape.spec)
    return shape


def shape_of(tree: Any, shape: type[shapes.Body]) -> Any:
    """Return a tree as a shape; raises Problem where it is none."""
    try:
        return msgspec.convert(_plain(tree), type=shape, strict=True)
    except msgspec.ValidationError as error:
        message, _, place = str(error).partition(" - at ")
        finding = Finding(place.strip("`").removeprefix("$.").removeprefix("$"), message)
        raise Problem(kind="invalid", detail=str(error), findings=(finding,)) from None


def read_bytes(req: falcon.Request) -> bytes:
    """Return a body, if it is not too large; raises Problem."""
    if req.content_length is not None and req.content_length > MOST_BYTES:
        raise Problem(kind="too-large", detail=f"a body has at most {MOST_BYTES} bytes")
    if req.get_header("Content-Encoding", default="identity").lower() != "identity":
        raise Problem(kind="unsupported-media", detail="bodies are read as they are, not compressed")
    raw: bytes = req.bounded_stream.read(MOST_BYTES + 1)
    if len(raw) > MOST_BYTES:
        raise Problem(kind="too-large", detail=f"a body has at most {MOST_BYTES} bytes")
    return raw


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise Problem(kind="malformed", detail="the body is not UTF-8") from None


def _plain(value: Any) -> Any:
    """Return a tree in which numbers have forgotten their spelling."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return float(value) if isinstance(value, float) else value


def _expected(req: falcon.Request, operation: Operation) -> int | None:
    written = req.get_header("If-Match")
    if not operation.conditional or written is None or written.strip() == "*":
        return None
    match = _ETAG.fullmatch(written.strip())
    if match is None:
        raise Problem(kind="precondition-failed", detail="If-Match names no version of a case")
    return int(match[1])


def _key(req: falcon.Request, operation: Operation) -> str | None:
    written = req.get_header("Idempotency-Key")
    if not operation.keyed or written is None:
        return None
    if not _KEY.fullmatch(written):
        raise Problem(kind="invalid", detail="an Idempotency-Key has 1 to 200 visible ASCII characters")
    return written


def _span(tracer: Tracer, req: falcon.Request, operation: Operation | None) -> AbstractContextManager[Span]:
    """Return the span of a request, in the trace that its caller has named."""
    about = {"http.request.method": req.method, "url.scheme": req.scheme}
    name = str(req.method)
    if operation is not None:
        route = req.uri_template or operation.path
        about |= {"http.route": route, "knhk.operation": operation.name}
        name = f"{name} {route}"
    carrier = {each: req.get_header(each, default="") for each in ("traceparent", "tracestate")}
    return spanned(tracer, name, about, kind="server", parent=carrier)


def _named(body: Any) -> dict[str, str]:
    """Return of which workflow and case an answer speaks, where its request has not said it."""
    found = {name: getattr(body, name, None) for name in ("spec_id", "case_id")}
    return {name: value for name, value in found.items() if isinstance(value, str)}


def _trace(req: falcon.Request, tracer: Tracer | None) -> str:
    ids = None if tracer is None else tracer.ids()
    if ids is not None:
        return ids[0]
    match = _TRACE.fullmatch(req.get_header("traceparent", default=""))
    return match[1] if match is not None and set(match[1]) != {"0"} else secrets.token_hex(16)


# --- what goes out --------------------------------------------------------------------------------------------------------


def _nothing_there(allowed: str) -> Problem:
    if allowed:
        return Problem(kind="method-not-allowed", headers={"Allow": allowed})
    return Problem(kind="not-found")


def _write(resp: falcon.Response, reply: Reply, standing: Standing | None) -> None:
    resp.status = reply.status
    if reply.body is not None:
        resp.data = msgspec.json.encode(reply.body)
        resp.content_type = "application/json"
    if reply.location:
        resp.set_header("Location", reply.location)
    if reply.version is not None:
        resp.set_header("ETag", f'"{reply.version}"')
    if standing is not None:
        resp.set_headers(standing.headers())


def _write_problem(resp: falcon.Response, problem: Problem) -> None:
    resp.status = problem.status
    resp.data = json.dumps(problem.document(), ensure_ascii=False, default=str).encode("utf-8", "replace")
    resp.content_type = _PROBLEM
    resp.set_headers(dict(problem.headers))


def _http_error(req: falcon.Request, resp: falcon.Response, error: falcon.HTTPError, _: Any) -> None:
    """Say what Falcon refused in our words."""
    del req
    kinds = {
        404: "not-found",
        405: "method-not-allowed",
        413: "too-large",
        415: "unsupported-media",
    }
    problem = Problem(kind=kinds.get(error.status_code, "malformed"), headers=dict(error.headers or {}))
    _write_problem(resp, problem)


def _unexpected(req: falcon.Request, resp: falcon.Response, error: Exception, _: Any) -> None:
    """Say nothing of what went wrong to the caller, and everything to the log."""
    LOG.error("a request met a bug", exc_info=error, extra={"path": req.path[:200]})
    _write_problem(resp, Problem(kind="internal"))


class _Headers:
    """What every answer says."""

    def process_response(self, req: falcon.Request, resp: falcon.Response, resource: object, succeeded: bool) -> None:
        """Add them."""
        del req, resource, succeeded
        resp.set_header("X-Content-Type-Options", "nosniff")
        resp.set_header("Cache-Control", "no-store")


class _Plain:
    """A route that answers without asking who asks."""

    def __init__(self, answer: Callable[[], tuple[int, dict[str, Any]]]) -> None:
        self._answer = answer

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Answer."""
        del req
        resp.status, body = self._answer()
        resp.data = json.dumps(body).encode()

    def on_head(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Answer without a body."""
        self.on_get(req, resp)


class _Text:
    """A route that answers with a text."""

    def __init__(self, media: str, text: Callable[[], bytes]) -> None:
        self._media = media
        self._text = text

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Answer."""
        del req
        resp.data, resp.content_type = self._text(), self._media


class _Swagger:
    """The description for people: one page with everything in it, which asks no other address for anything."""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Answer."""
        from offapi import OpenAPITemplate  # noqa: PLC0415 - 2 MB that few ask for

        del req
        resp.text = OpenAPITemplate.SWAGGER.value.format(spec_url="/openapi.json", spec_path="/swagger")
        resp.content_type = "text/html; charset=utf-8"
        resp.set_header(
            "Content-Security-Policy",
            "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src 'self' data:;"
            " connect-src 'self'; frame-ancestors 'none'; base-uri 'none'",
        )
