"""The transactional outbox: what subscribers are told of a step is stored in the commit of that step.

So there is no event without its message, and no message without its event, wherever the process is killed.
Each event becomes one message for each subscription that wants it; `knhk.work.delivery` sends them.

What an engine knows of the subscriptions is a cached copy: those that it made itself it knows at once, those of other engines
on the same store within `LOOK_EVERY`.
While there are none, a commit costs one comparison of numbers more.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

import attrs

from knhk._case_state import CaseState
from knhk._codes import Record
from knhk._kernel import Net
from knhk._lower import Program
from knhk.case import Case
from knhk.events import EventKind
from knhk.history import OF_CASE, tell, tell_of_case
from knhk.ports import CaseHeader, Document, Store
from knhk.spec import Retry

SUBSCRIPTIONS: Final = "webhooks"
"""The collection of the subscriptions, by their ids."""

OUTBOX: Final = "webhook-outbox"
"""The collection of the messages that wait, by subscription, case, and place in the case's history."""

DEAD_LETTER: Final = "dead_letter"
"""The type of the message that says that work failed, and neither a further attempt nor whoever takes its error follows."""

TYPES: Final = (*(kind.value for kind in EventKind), DEAD_LETTER)
"""What a subscription may ask for."""

LOOK_EVERY: Final = 5_000
"""Milliseconds after which an engine looks for subscriptions that others made."""

_Told = tuple[int, EventKind, str, Mapping[str, Any]]
"""An event: when, what, where, and the rest."""

_DATA: Final = ("data", "element", "elements")
_WHOLE_CASE: Final = {kind.value for kind in OF_CASE}


@attrs.frozen(kw_only=True)
class Subscription:
    """
    Who is told of what.

    Args:
        id: its name.
        url: where messages go.
        events: the types of messages, from `TYPES`.
        retry: what follows when a message did not arrive.
        spec_id: the specification whose cases are meant; None: all.
        secret: signs the messages; shown when the subscription is made, and never again.
        with_data: whether messages hold the data of cases that came with their events.
        paused: whether messages wait.
        timeout: seconds that one attempt at a message may take.
    """

    id: str
    url: str
    events: tuple[str, ...]
    retry: Retry
    spec_id: str | None = None
    secret: str = attrs.field(default="", repr=False)
    with_data: bool = True
    paused: bool = False
    timeout: float = 10.0


def read_subscription(document: Document) -> Subscription:
    """Return a subscription from its document."""
    tree = json.loads(document.value)
    tree["events"] = tuple(tree["events"])
    tree["retry"] = Retry(**tree["retry"])
    return Subscription(id=document.key, **tree)


def write_subscription(subscription: Subscription, *, version: int = 1) -> Document:
    """Return the document of a subscription."""
    tree = attrs.asdict(subscription)
    del tree["id"]
    return Document(collection=SUBSCRIPTIONS, key=subscription.id, value=json.dumps(tree), version=version)


def all_documents(store: Store, collection: str, *, prefix: str = "", after: str = "") -> Iterable[Document]:
    """List the documents of a collection, a page at a time, from behind a key."""
    while page := store.documents(collection, prefix=prefix, after=after):
        yield from page
        after = page[-1].key


@attrs.define
class Told:
    """A case as subscribers know it: its state at a version, from which the next commits are told."""

    version: int
    state: CaseState


class Outbox:
    """
    Makes the messages of a commit.

    Args:
        store: where subscriptions are.

    Attributes:
        look_at: before this time, in milliseconds since the epoch, commits need not ask for messages.
        carrier: tells in whose trace a commit is made (`knhk.work.spans.Tracer.carrier`); None: in nobody's.
    """

    def __init__(self, store: Store) -> None:
        self.look_at = 0
        self.carrier: Callable[[], Mapping[str, str]] | None = None
        self._store = store
        self._refresh_at = 0
        self._subscriptions: tuple[Subscription, ...] = ()

    def refresh(self, now: int) -> None:
        """Look at what subscriptions there are."""
        found = tuple(map(read_subscription, all_documents(self._store, SUBSCRIPTIONS)))
        self._subscriptions = found
        self._refresh_at = now + LOOK_EVERY
        self.look_at = 0 if found else self._refresh_at

    def messages(
        self,
        program: Program,
        kernels: Sequence[Net],
        case: Case,
        *,
        before: CaseHeader,
        told: Told | None,
        fresh: int,
        batches: Sequence[bytes],
        now: int,
    ) -> tuple[tuple[Document, ...], Told | None]:
        """
        Return the messages of a commit.

        Args:
            program, kernels: the case's specification, compiled.
            case: after the step.
            before: its header before it.
            told: what was returned for its last commit, or None.
            fresh: how many of the case's records are new.
            batches: what the step adds to the journal.
            now: milliseconds since the epoch.

        Returns:
            The documents, and what to give for the next commit.
        """
        if now >= self._refresh_at:
            self.refresh(now)
        wanted = [each for each in self._subscriptions if each.spec_id in (None, before.spec_id)]
        if not wanted:
            return (), None
        if all(_WHOLE_CASE.issuperset(each.events) for each in wanted):
            events = [list(tell_of_case(batch)) for batch in batches]
            told = None
        else:
            if told is None or told.version != before.version:
                told = Told(before.version, state_before(program, kernels, case, fresh))
            events = [list(tell(told.state, batch)) for batch in batches]
            told.version = before.version + len(batches)
        trace = {} if self.carrier is None else self.carrier()
        documents: list[Document] = []
        for version, each in enumerate(events, before.version + 1):
            documents += _documents(wanted, before, version, each, now, trace)
        return tuple(documents), told


def state_before(program: Program, kernels: Sequence[Net], case: Case, fresh: int) -> CaseState:
    """Rebuild the case as it was before its fresh records."""
    state = CaseState(program, kernels)
    if case._base is not None:
        state.load(case._base)
    records: Sequence[Record] = case._log
    for record in records[: len(records) - fresh]:
        state.apply(record)
    return state


def _documents(
    wanted: Sequence[Subscription],
    header: CaseHeader,
    version: int,
    events: Sequence[_Told],
    now: int,
    trace: Mapping[str, str],
) -> Iterable[Document]:
    number = 0
    carried = {"trace": trace} if trace else {}
    for place, (at, kind, path, details) in enumerate(events, 1):
        following = events[place] if place < len(events) else None
        for name in _types(kind, path, details, following):
            number += 1
            message = {
                "id": f"{header.case_id}.{version}.{number}",
                "type": name,
                "at": at,
                "case_id": header.case_id,
                "spec_id": header.spec_id,
                "spec_version": header.spec_version,
                "path": path,
                "details": details,
            }
            for each in wanted:
                if name not in each.events:
                    continue
                shown = message
                if not each.with_data:
                    shown = {**message, "details": {key: v for key, v in details.items() if key not in _DATA}}
                yield Document(
                    collection=OUTBOX,
                    key=f"{stream_of(each.id, header.case_id)}{version:012d}.{number:06d}",
                    value=json.dumps({"attempts": 0, "error": "", **carried, "message": shown}, ensure_ascii=False),
                    due=now,
                )


def _types(kind: EventKind, path: str, details: Mapping[str, Any], following: _Told | None) -> tuple[str, ...]:
    """The types of messages that an event makes; whoever takes an error does so in the record behind the failure."""
    final = kind is EventKind.ATTEMPT_FAILED and "retry_at" not in details
    final |= kind is EventKind.CLAIM_EXPIRED and details.get("state") == "failed"
    return (kind.value, DEAD_LETTER) if final and not _is_taken(path, following) else (kind.value,)


def _is_taken(path: str, following: _Told | None) -> bool:
    """Whether what follows takes the error of the work that failed at a path: an error flow, at once or undoing first, or an exlet."""
    if following is None:
        return False
    _, kind, at, details = following
    if kind is EventKind.WORKLET_CALLED:
        return at == path and "error" in details
    return kind in (EventKind.ERROR_CAUGHT, EventKind.CASE_COMPENSATING) and details.get("task") == path


def stream_of(subscription: str, case_id: str) -> str:
    """Return what the keys of one case's messages for one subscription begin with; among these, order is kept."""
    return f"{subscription}/{quote(case_id, safe='')}/"
