"""The schema of the case data: JSON Schema, checked by the library `jsonschema-rs` (extra ``schema``).

A specification's schema is compiled once, when it is registered or first loaded.
Case data is checked against it when a case is created and whenever data joins it, never when a journal is replayed.
Nothing is fetched: a reference leads to another part of the same schema, or the schema is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any, Final, NoReturn

from knhk.errors import DataError, MissingExtra, Problem

Check = Callable[[dict[str, Any]], None]
"""Looks at case data as it would become; raises DataError where that must not be."""

_DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"
_REFERENCES: Final = ("$ref", "$dynamicRef", "$recursiveRef")
_VALUES: Final = ("const", "default", "enum", "examples")
_SHOWN: Final = 5
_LONGEST: Final = 200
# The library goes down into the data on the machine's stack, which has an end that it does not look for.
_DEEPEST: Final = 1_000


def schema_problems(schema: Mapping[str, Any]) -> tuple[Problem, ...]:
    """
    Return what keeps a schema from being used, each finding with its place in the specification.

    Raises:
        MissingExtra: the library is not installed.
    """
    library = _library()
    found = [
        Problem(
            place,
            f"leads out of the schema to {target!r}, and nothing is fetched: put it under $defs and write #/$defs/...",
        )
        for place, target in _foreign(schema, "data")
    ]
    if found:
        return tuple(found)
    draft = schema.get("$schema", _DRAFT)
    try:
        rules = _validator(library, {"$schema": draft, "$ref": draft})
    except (library.ValidationError, TypeError):
        return (Problem("data.$schema", f"{draft!r} is no version of JSON Schema that is known here"),)
    found = [Problem(_place("data", error.instance_path), _short(error.message)) for error in rules.iter_errors(schema)]
    if not found:
        try:
            _validator(library, schema)
        except library.ValidationError as error:
            found = [Problem(_place("data", error.instance_path), _short(error.message))]
    return tuple(found)


def compile_schema(schema: Mapping[str, Any]) -> Check:
    """
    Compile a schema in which `schema_problems` found nothing.

    Raises:
        MissingExtra: the library is not installed.
    """
    validator = _validator(_library(), schema)

    def check(data: dict[str, Any]) -> None:
        if _is_deeper_than(_DEEPEST, data):
            message = f"is nested more than {_DEEPEST} deep, and cannot be held against its schema"
            raise DataError(message, element="data")
        if not validator.is_valid(data):
            _refuse(list(validator.iter_errors(data)))

    return check


def _is_deeper_than(depth: int, data: object) -> bool:
    level = [data]
    for _ in range(depth + 1):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer if isinstance(outer, list) else ())
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True


def _refuse(errors: Sequence[Any]) -> NoReturn:
    """Raise what is wrong with the data: each place with its rule, the first few of them."""
    places = [_place("data", error.instance_path) for error in errors[:_SHOWN]]
    told = [
        f"{place}: {_short(error.message)} (rule {_place('', error.schema_path)})"
        for place, error in zip(places, errors, strict=False)
    ]
    more = f"; and {len(errors) - _SHOWN} more" if len(errors) > _SHOWN else ""
    # The error itself writes the first place in front.
    message = "; ".join(told).removeprefix(f"{places[0]}: ") + more
    raise DataError(message, element=places[0], value=errors[0].instance)


def _foreign(tree: object, place: str) -> Iterator[tuple[str, str]]:
    """Yield the references to anything but a part of the schema itself; iteratively, as schemas may be deep."""
    waiting = [(tree, place)]
    while waiting:
        each, where = waiting.pop()
        if isinstance(each, Mapping):
            for name, value in each.items():
                if name in _REFERENCES and isinstance(value, str) and not value.startswith("#"):
                    yield f"{where}.{name}", value
                elif name not in _VALUES:
                    waiting.append((value, f"{where}.{name}"))
        elif isinstance(each, list | tuple):
            waiting.extend((value, f"{where}[{position}]") for position, value in enumerate(each))


def _validator(library: Any, schema: Mapping[str, Any]) -> Any:
    return library.validator_for(schema, retriever=_fetch_nothing)


def _fetch_nothing(address: str) -> NoReturn:
    message = f"{address} is outside the schema, and nothing is fetched"
    raise LookupError(message)


def _library() -> Any:
    try:
        return import_module("jsonschema_rs")
    except ImportError as error:
        raise MissingExtra("schema", "a specification with a schema for its data") from error


def _place(root: str, path: Sequence[str | int]) -> str:
    """Return a path as a person writes it: ``data.lines[2].amount``."""
    text = root
    for each in path:
        text += f"[{each}]" if isinstance(each, int) else f".{each}" if text else each
    return text


def _short(message: str) -> str:
    """Return a message without the end of a value that is too long to be read."""
    return message if len(message) <= _LONGEST else f"{message[:_LONGEST]}..."
