"""What a service answers, as values; members that a newer service adds are left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import attrs

T = TypeVar("T")


@attrs.frozen(kw_only=True)
class Page(Generic[T]):
    """Part of a list, and the cursor of the next part; None: this is the last."""

    items: tuple[T, ...]
    next: str | None = None


@attrs.frozen(kw_only=True)
class Soundness:
    """Whether every case can complete, properly: sound, unsound or undecided."""

    verdict: str
    problems: list[dict[str, Any]] = attrs.field(factory=list)


@attrs.frozen(kw_only=True)
class Registered:
    """A workflow that was registered."""

    spec_id: str
    version: str
    soundness: Soundness


@attrs.frozen(kw_only=True)
class Workflow:
    """A registered workflow; `spec` and `soundness` are None in a list."""

    spec_id: str
    version: str
    name: str
    content_hash: str
    spec: dict[str, Any] | None = None
    soundness: Soundness | None = None


@attrs.frozen(kw_only=True)
class CaseLine:
    """
    A case, in a list; `version` is what ``expected`` compares with.

    `runnable` is whether automatic work waits in it, and `quarantined` why it is set aside, if it is.
    """

    case_id: str
    spec_id: str
    spec_version: str
    state: str
    version: int
    next_due: str | None = None
    runnable: bool = False
    quarantined: str = ""


@attrs.frozen(kw_only=True)
class Case(CaseLine):
    """
    A case: its data, the tokens of each running net by condition, what is enabled and what has started.

    `worklets` are the cases that run in the place of its work, and `stands_in_for` the work item in whose place it runs itself.
    """

    data: dict[str, Any]
    marking: dict[str, dict[str, int]]
    enabled: list[str]
    running: list[str]
    problems: list[str]
    worklets: list[str] = attrs.field(factory=list)
    stands_in_for: str | None = None


@attrs.frozen(kw_only=True)
class Event:
    """Something that happened in a case."""

    sequence: int
    at: str
    kind: str
    path: str
    details: dict[str, Any]


@attrs.frozen(kw_only=True)
class Delivered:
    """How many running nets kept an event, and the case."""

    kept: int
    case: Case


@attrs.frozen(kw_only=True)
class Item:
    """An open work item; `data` is None in a list."""

    id: str
    case_id: str
    number: int
    path: str
    state: str
    by: str
    roles: list[str]
    topic: str
    audience: list[str] = attrs.field(factory=list)
    data: dict[str, Any] | None = None


@attrs.frozen(kw_only=True)
class Claim:
    """External work that a worker has until the deadline, for `lease` seconds from when it was given, by its token."""

    id: str
    token: str
    case_id: str
    number: int
    path: str
    topic: str
    worker: str
    attempt: int
    deadline: str
    lease: float
    data: dict[str, Any]
    item: Any = None
    index: int | None = None


@attrs.frozen(kw_only=True)
class Extended:
    """When a lease ends, and in how many seconds that was when it was said."""

    deadline: str
    lease: float


@attrs.frozen(kw_only=True)
class DeadLetter:
    """
    Work that has failed for good, or a message of a webhook that did not arrive: its `kind` is ``work`` or ``message``.

    The members are those of `knhk.DeadLetter`; `data`, `item` and `index` are None in a list.
    """

    id: str
    kind: str
    webhook: str
    case_id: str
    number: int
    path: str
    spec_id: str
    spec_version: str
    handler: str
    topic: str
    reason: str
    error: str
    at: str | None
    attempts: int
    attempt: int = 0
    digest: str = ""
    where: str = ""
    data: dict[str, Any] | None = None
    item: Any = None
    index: int | None = None


_INNER = {"soundness": Soundness, "case": Case}


def read(shape: type[T], document: Mapping[str, Any]) -> T:
    """Return a document as a value; raises TypeError where a member is missing."""
    members: dict[str, Any] = {}
    for field in attrs.fields(shape):  # type: ignore[arg-type] # every shape here is one of attrs
        if field.name in document:
            value = document[field.name]
            inner: Any = _INNER.get(field.name)
            members[field.name] = read(inner, value) if inner is not None and isinstance(value, dict) else value
    return shape(**members)


def read_page(shape: type[T], document: Mapping[str, Any]) -> Page[T]:
    """Return a document as a page of values."""
    return Page(items=tuple(read(shape, each) for each in document["items"]), next=document.get("next"))
