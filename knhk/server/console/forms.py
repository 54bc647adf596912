"""Forms: fields made from a JSON schema, and the data that comes back from them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

import attrs
import falcon  # noqa: TC002 - as the rest
import msgspec

from knhk.errors import Problem as Finding
from knhk.server.problems import Problem
from knhk.server.rest import read_bytes
from knhk.spec.json_text import read_json

PREFIX: Final = "field."
_MOST_FIELDS: Final = 500
_TYPES: Final = ("string", "integer", "number", "boolean")
_FORM: Final = "application/x-www-form-urlencoded"


@attrs.frozen(kw_only=True)
class Field:
    """
    A field for one member of the data.

    Args:
        name: of the input; it says the type too.
        label, help: for people.
        type: string, integer, number, boolean, or json for everything else.
        choices: the values that are allowed, as texts; none: any.
        value: what is in it, as text.
        required: whether the schema wants it.
    """

    name: str
    label: str
    help: str
    type: str
    choices: tuple[str, ...]
    value: str
    required: bool


def fields_of(schema: Mapping[str, Any] | None, data: Mapping[str, Any]) -> list[Field]:
    """Return a field for each property of a schema, filled with what is so."""
    properties = (schema or {}).get("properties", {})
    required = (schema or {}).get("required", [])
    return [
        _field(name, each if isinstance(each, Mapping) else {}, data, name in required)
        for name, each in properties.items()
    ]


def _field(name: str, schema: Mapping[str, Any], data: Mapping[str, Any], required: bool) -> Field:
    choices = schema.get("enum", ())
    kind = schema.get("type")
    texts = all(isinstance(each, str) for each in choices)
    named = kind if isinstance(kind, str) and kind in _TYPES else "string" if choices and texts else "json"
    value = data.get(name)
    plain = named == "string" and (value is None or isinstance(value, str))
    return Field(
        name=f"{PREFIX}{named if plain or named != 'string' else 'json'}.{name}",
        label=str(schema.get("title", name)),
        help=str(schema.get("description", "")),
        type=named if plain or named != "string" else "json",
        choices=tuple(each if texts else json.dumps(each, ensure_ascii=False) for each in choices),
        value="" if name not in data else str(value) if plain else json.dumps(value, ensure_ascii=False),
        required=required,
    )


def read_form(req: falcon.Request) -> dict[str, str]:
    """Return the fields of a form; raises Problem where it is none, or has a field twice."""
    raw = read_bytes(req)
    if (req.content_type or "").partition(";")[0].strip().lower() != _FORM:
        raise Problem(kind="unsupported-media", detail="a form must be sent as a form")
    try:
        pairs = parse_qsl(
            raw.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=True,
            errors="strict",
            max_num_fields=_MOST_FIELDS,
        )
    except ValueError:
        raise Problem(kind="malformed", detail="the form cannot be read") from None
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise Problem(kind="malformed", detail="a field is there twice")
    return fields


def body_of(fields: Mapping[str, str], shape: type[msgspec.Struct]) -> dict[str, Any]:
    """
    Return the body that a form stands for.

    The data is the JSON of the text area, and over it the fields of the schema that are not empty; what else the shape has is text
    or a tick.

    Raises:
        Problem: data is no object.
        ParseError: a text is no JSON.
    """
    body: dict[str, Any] = {}
    for member in msgspec.structs.fields(shape):
        name = member.name
        if name in ("data", "variables"):
            body[name] = _data(fields, name)
        elif member.type is bool:
            body[name] = fields.get(name) == "on"
        elif fields.get(name):
            body[name] = fields[name]
    return body


def _data(fields: Mapping[str, str], name: str) -> dict[str, Any]:
    written = fields.get(name, "").strip()
    data = read_json(written) if written else {}
    if not isinstance(data, dict):
        raise Problem(kind="invalid", detail="data is an object", findings=(Finding(name, "must be a JSON object"),))
    for field, text in fields.items():
        if field.startswith(PREFIX) and text.strip():
            kind, _, member = field.removeprefix(PREFIX).partition(".")
            data[member] = text if kind == "string" else read_json(text)
    return data
