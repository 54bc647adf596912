"""The operations over HTTP, as a WSGI application (Falcon); `knhk.server.gate` says what a request goes through."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Final

import falcon
import msgspec

from knhk.server.gate import Gate
from knhk.server.health import Health
from knhk.server.identity import Caller
from knhk.server.observing import LOG
from knhk.server.openapi import PREFIX, description
from knhk.server.operations import OPERATIONS, Call, Operation, Reply
from knhk.server.problems import Problem
from knhk.server.rates import Standing
from knhk.server.reading import body_of, check_path, read_key, read_query
from knhk.spec import Specification
from knhk.spec.json_text import read_json
from knhk.spec.yaml_text import read_yaml
from knhk.work.spans import Attributes, Span, Tracer, spanned

MOST_BYTES: Final = 8 * 1024 * 1024
"""Bytes that a request's body has at the most."""

_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_PROBLEM: Final = "application/problem+json"
TRACE_HEADER: Final = "Trace-Id"
"""The header of an answer under which its request is found in traces, logs and the record."""

NOTHING_THERE: Final = Problem(kind="not-found")
"""What is answered at an address that there is not."""

_ETAG: Final = re.compile(r'"([0-9]{1,15})"')
_JSON: Final = frozenset({"application/json", "text/json"})
_YAML: Final = frozenset({"application/yaml", "application/x-yaml", "text/yaml"})


class HttpGate(Gate[falcon.Request, falcon.Response]):
    """What stands between a request over HTTP and the service."""

    def begun(self, tracer: Tracer, asked: falcon.Request, operation: Operation | None) -> AbstractContextManager[Span]:
        """Return the span of a request, in the trace that its caller has named."""
        about = {"http.request.method": asked.method, "url.scheme": asked.scheme}
        name = str(asked.method)
        if operation is not None:
            route = asked.uri_template or operation.path
            about |= {"http.route": route, "knhk.operation": operation.name}
            name = f"{name} {route}"
        carrier = {each: asked.get_header(each, default="") for each in ("traceparent", "tracestate")}
        return spanned(tracer, name, about, kind="server", parent=carrier)

    def ended(self, answer: falcon.Response) -> Attributes:
        """Return what the span says of the answer."""
        return {"http.response.status_code": falcon.http_status_to_code(answer.status)}

    def traceparent(self, asked: falcon.Request) -> str:
        """Return in which trace its caller says a request is."""
        return asked.get_header("traceparent", default="")

    def say_trace(self, answer: falcon.Response, trace: str) -> None:
        """Tell the caller under which id his request is found."""
        answer.set_header(TRACE_HEADER, trace)

    def caller(self, asked: falcon.Request) -> Caller:
        """Return who sends a request; raises Problem."""
        return self.identify(asked.get_header("Authorization"), asked.remote_addr or "")

    def call(self, asked: falcon.Request, operation: Operation, caller: Caller, path: Mapping[str, str]) -> Call:
        """Return what is asked for; raises Problem where it is not right."""
        check_path(path)
        query, limit, after = read_query(asked.params, operation)
        return Call(
            service=self.service,
            caller=caller,
            path=path,
            query=query,
            body=_body(asked, operation),
            expected=_expected(asked, operation),
            key=read_key(asked.get_header("Idempotency-Key"), operation),
            limit=limit,
            after=after,
        )

    def answer(
        self, asked: falcon.Request, answer: falcon.Response, reply: Reply, standing: Standing | None, caller: Caller
    ) -> None:
        """Write what was done."""
        del asked, caller
        _write(answer, reply, standing)

    def refuse(self, asked: falcon.Request, answer: falcon.Response, problem: Problem, caller: Caller | None) -> None:
        """Write why it was not."""
        del asked, caller
        _write_problem(answer, problem)


def application(gate: HttpGate, health: Health, *, version: str) -> falcon.App[falcon.Request, falcon.Response]:
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
    app.add_sink(lambda req, resp, **_: gate.handle(req, resp, None, {}, NOTHING_THERE), PREFIX)
    app.add_error_handler(falcon.HTTPError, _http_error)
    app.add_error_handler(Exception, _unexpected)
    return app


def resource_of(gate: Gate[falcon.Request, falcon.Response], operations: Mapping[str, Operation]) -> Any:
    """Return a resource that answers every method: those that the address has, and the others with what they are."""
    # HEAD is answered as GET is; Falcon leaves the body out.
    methods = {**operations, **({"HEAD": operations["GET"]} if "GET" in operations else {})}
    refused = Problem(kind="method-not-allowed", headers={"Allow": ", ".join(sorted(methods))})

    def responder(method: str) -> Callable[..., None]:
        def respond(_: Any, req: falcon.Request, resp: falcon.Response, **path: str) -> None:
            gate.handle(req, resp, methods.get(method), path, refused)

        return respond

    members = {f"on_{method.lower()}": responder(method) for method in _METHODS}
    return type("Resource", (), members)()


# --- what comes in --------------------------------------------------------------------------------------------------------


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
    return body_of(read_json(_text(raw)) if raw.strip() else {}, operation)


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


def _expected(req: falcon.Request, operation: Operation) -> int | None:
    written = req.get_header("If-Match")
    if not operation.conditional or written is None or written.strip() == "*":
        return None
    match = _ETAG.fullmatch(written.strip())
    if match is None:
        raise Problem(kind="precondition-failed", detail="If-Match names no version of a case")
    return int(match[1])


# --- what goes out --------------------------------------------------------------------------------------------------------


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
