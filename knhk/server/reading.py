"""What a call says, checked: names, queries and bodies, the same for every protocol."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from knhk.errors import Problem as Finding
from knhk.server import shapes
from knhk.server.operations import Operation
from knhk.server.problems import Problem
from knhk.server.service import LONGEST_PAGE
from knhk.spec import Specification

_CASE_ID: Final = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
_NAME: Final = re.compile(_CASE_ID)
_PARTS: Final = {
    "number": re.compile(r"[1-9][0-9]?"),
    **dict.fromkeys(("item_id", "work_id"), re.compile(rf"{_CASE_ID}:[0-9]{{1,12}}")),
    # Of work, or of a message.
    "letter_id": re.compile(rf"{_CASE_ID}:(?:[0-9]{{1,12}}|{_CASE_ID}:[0-9]{{12}}\.[0-9]{{6}})"),
}
_KEY: Final = re.compile(r"[!-~]{1,200}")
_QUERY_TEXT: Final = 256
_DEFAULT_PAGE: Final = 100


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


def body_of(tree: Any, operation: Operation) -> Any:
    """Return a tree as the body that an operation takes: a shape, or a specification; raises Problem where it is none."""
    assert operation.takes is not None
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


def _plain(value: Any) -> Any:
    """Return a tree in which numbers have forgotten their spelling."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return float(value) if isinstance(value, float) else value


def read_key(written: str | None, operation: Operation) -> str | None:
    """Return the key under which a call is done once, where the operation honours it; raises Problem."""
    if not operation.keyed or written is None:
        return None
    if not _KEY.fullmatch(written):
        raise Problem(kind="invalid", detail="an Idempotency-Key has 1 to 200 visible ASCII characters")
    return written
