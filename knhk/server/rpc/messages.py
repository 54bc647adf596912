"""Between messages and what operations take and give: by the names of their fields, which are the names in the REST API's bodies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from knhk.errors import MissingExtra
from knhk.errors import Problem as Finding
from knhk.server.problems import Problem

try:
    from google.protobuf.descriptor import FieldDescriptor  # noqa: TC002 - as the rest
    from google.protobuf.message import DecodeError, Message
    from google.protobuf.unknown_fields import UnknownFieldSet
except ImportError as error:
    raise MissingExtra("grpc", "serving gRPC") from error

JSON_FIELDS: Final = frozenset({"data", "variables", "spec", "details", "item", "more"})
"""Fields whose text is JSON, in whatever message they are."""


def parsed(raw: bytes, kind: type[Message]) -> Message:
    """
    Read a message.

    Raises:
        Problem: it is none of this kind, or says something that is not known here and would be passed over.
    """
    message = kind()
    try:
        message.ParseFromString(raw)
    except DecodeError:
        raise Problem(kind="malformed", detail=f"this is no {kind.DESCRIPTOR.name}") from None
    unknown = sorted({each.field_number for each in UnknownFieldSet(message)})
    if unknown:
        findings = tuple(Finding(f"field {number}", "is not known here") for number in unknown[:100])
        raise Problem(kind="invalid", detail="the message says what is not known here", findings=findings)
    return message


def tree_of(message: Message) -> dict[str, Any]:
    """Return what a request says, by name; what is not said is not there. JSON is still text."""
    return {field.name: list(value) if field.is_repeated else value for field, value in message.ListFields()}


def message_of(body: Any, kind: type[Message]) -> Message:
    """
    Return an answer as a message.

    Args:
        body: a shape or a dictionary with at least the message's fields; None where the message has none.
        kind: of the message.
    """
    message = kind()
    for field in kind.DESCRIPTOR.fields:
        value = body[field.name] if isinstance(body, Mapping) else getattr(body, field.name)
        if field.name in JSON_FIELDS:
            setattr(message, field.name, msgspec.json.encode(value).decode())
        elif value is not None:
            _set(message, field, value)
    return message


def _set(message: Message, field: FieldDescriptor, value: Any) -> None:
    member = getattr(message, field.name)
    if field.message_type is None:
        if field.is_repeated:
            member.extend(value)
        else:
            setattr(message, field.name, value)
    elif field.message_type.GetOptions().map_entry:
        # The one map that there is: tokens by net, then by condition.
        for net, tokens in value.items():
            member[net].tokens.update(tokens)
    elif field.is_repeated:
        member.extend(message_of(each, field.message_type._concrete_class) for each in value)
    else:
        member.CopyFrom(message_of(value, field.message_type._concrete_class))
