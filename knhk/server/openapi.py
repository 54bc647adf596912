"""The description of the API (OpenAPI 3.1), made from the table of operations that serves it."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any, Final

import msgspec

from knhk.server import shapes
from knhk.server.examples import AT_THE_ROOT, EXAMPLES, SPEC_AS_YAML, answer_example
from knhk.server.operations import OPERATIONS, Operation
from knhk.server.problems import TITLES, URN, Problem
from knhk.server.rights import RIGHTS

PREFIX: Final = "/api/v1"
_REF: Final = "#/components/schemas/{name}"
_ALWAYS: Final = ("unauthenticated", "forbidden", "rate-limited", "store-unavailable")


def description(version: str) -> dict[str, Any]:
    """Return the whole document."""
    used = {each for operation in OPERATIONS for each in (operation.takes, operation.gives, operation.item) if each}
    _, components = msgspec.json.schema_components([*used, shapes.ProblemBody], ref_template=_REF)
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(PREFIX + operation.path, {})[operation.method.lower()] = _operation(operation)
    paths |= _at_the_root()
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "KNHK workflow engine",
            "version": version,
            "description": "Cases of YAWL workflows: created, run, worked on and looked at.",
        },
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
            "responses": {kind: _problem(kind) for kind in TITLES},
        },
    }


def _operation(operation: Operation) -> dict[str, Any]:
    told: dict[str, Any] = {
        "operationId": operation.name.replace(".", "_"),
        "summary": operation.summary,
        "description": f"Roles: {', '.join(sorted(RIGHTS[operation.name]))}.",
        "tags": [operation.name.partition(".")[0]],
        "parameters": _parameters(operation),
        "responses": _responses(operation),
    }
    if operation.takes is not None:
        required = any(each.required for each in msgspec.structs.fields(operation.takes))
        media: dict[str, Any] = {"schema": {"$ref": _REF.format(name=operation.takes.__name__)}}
        media["example"] = EXAMPLES[operation.takes]
        content: dict[str, Any] = {"application/json": media}
        if operation.specification:
            content["application/yaml"] = {"schema": {"type": "string"}, "example": SPEC_AS_YAML}
        told["requestBody"] = {"required": required, "content": content}
    return told


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    case = "[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
    open_work = {"type": "string", "pattern": f"^{case}:[0-9]{{1,12}}$"}
    letter = {"type": "string", "pattern": f"^{case}:([0-9]{{1,12}}|{case}:[0-9]{{12}}\\.[0-9]{{6}})$"}
    schemas = {
        "number": {"type": "integer", "minimum": 1, "maximum": 43},
        "item_id": open_work,
        "work_id": open_work,
        "letter_id": letter,
    }
    named = {"type": "string", "pattern": f"^{case}$"}
    told = [
        {"name": name, "in": "path", "required": True, "schema": schemas.get(name, named)}
        for name in re.findall(r"\{(\w+)\}", operation.path)
    ]
    text = {"type": "string", "minLength": 1, "maxLength": 256}
    told += [
        {"name": name, "in": "query", "description": meaning, "schema": text}
        for name, meaning in operation.query.items()
    ]
    if operation.paged:
        limit = {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}
        told.append({"name": "limit", "in": "query", "schema": limit})
        told.append({"name": "cursor", "in": "query", "description": "`next` of the page before", "schema": text})
    if operation.conditional:
        told.append(
            {
                "name": "If-Match",
                "in": "header",
                "description": "the ETag of the case: refused with 412 when it has changed since",
                "schema": {"type": "string", "pattern": '^"[0-9]{1,15}"$'},
            }
        )
    if operation.keyed:
        told.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "description": "the same request with the same key is the same case",
                "schema": {"type": "string", "pattern": "^[!-~]{1,200}$"},
            }
        )
    return told


def _responses(operation: Operation) -> dict[str, Any]:
    usual: dict[str, Any] = {"description": HTTPStatus(operation.status).phrase}
    if operation.gives is not None:
        schema: dict[str, Any] = {"$ref": _REF.format(name=operation.gives.__name__)}
        if operation.item is not None:
            items = {"type": "array", "items": {"$ref": _REF.format(name=operation.item.__name__)}}
            schema = {"allOf": [schema, {"properties": {"items": items}}]}
        usual["content"] = {"application/json": {"schema": schema, "example": answer_example(operation)}}
    told = {str(operation.status): usual}
    if operation.name == "workflow.register":
        told["200"] = {**usual, "description": "The same content was registered already"}
    kinds = [
        *_ALWAYS,
        "not-found",
        "conflict",
        "invalid",
        "malformed",
        "method-not-allowed",
        "storage-full",
        "internal",
    ]
    if operation.takes is not None:
        kinds += ["too-large", "unsupported-media"]
    if operation.conditional:
        kinds.append("precondition-failed")
    for kind in kinds:
        told[str(Problem(kind=kind).status)] = {"$ref": f"#/components/responses/{kind}"}
    return told


def _problem(kind: str) -> dict[str, Any]:
    return {
        "description": TITLES[kind],
        "content": {
            "application/problem+json": {
                "schema": {"$ref": _REF.format(name=shapes.ProblemBody.__name__)},
                "example": {"type": URN + kind, "title": TITLES[kind], "status": Problem(kind=kind).status},
            }
        },
    }


def _at_the_root() -> dict[str, Any]:
    def route(
        path: str, name: str, summary: str, body: dict[str, Any], *others: str, media: str = "application/json"
    ) -> dict[str, Any]:
        content = {"schema": body, **({"example": AT_THE_ROOT[path]} if path in AT_THE_ROOT else {})}
        responses: dict[str, Any] = {"200": {"description": "OK", "content": {media: content}}}
        for status in others:
            responses[status] = {"description": HTTPStatus(int(status)).phrase}
        return {
            "get": {
                "operationId": name,
                "summary": summary,
                "tags": ["service"],
                "security": [],
                "responses": responses,
            }
        }

    flag = {"type": "object"}
    text = {"type": "string"}
    told: dict[str, tuple[Any, ...]] = {
        "/health": ("health", "Whether the service works", flag),
        "/health/live": ("health_live", "Whether the process answers", flag),
        "/health/ready": ("health_ready", "Whether requests should be sent here", flag, "503"),
        "/health/components": ("health_components", "Each component with its state", flag),
        "/openapi.json": ("openapi", "This document", flag),
    }
    return {
        **{path: route(path, *rest) for path, rest in told.items()},
        "/metrics": route("/metrics", "metrics", "Figures for Prometheus", text, media="text/plain"),
        "/swagger": route("/swagger", "swagger", "This document, for people", text, media="text/html"),
    }
