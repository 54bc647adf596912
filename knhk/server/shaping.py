"""What the engine has, as the service tells it: each thing in the shape of its answer."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from knhk.errors import Problem as Finding
from knhk.events import EventKind
from knhk.patterns import patterns
from knhk.ports import CaseHeader, ItemRow
from knhk.running import WorkItem
from knhk.server import shapes
from knhk.server.problems import Problem
from knhk.spec import ROOT
from knhk.spec.verdict import Verdict
from knhk.work.outbox import Subscription


def webhook_members(subscription: Subscription) -> dict[str, Any]:
    """Return what is told of a subscription."""
    return {
        "id": subscription.id,
        "url": subscription.url,
        "events": list(subscription.events),
        "spec_id": subscription.spec_id,
        "with_data": subscription.with_data,
        "paused": subscription.paused,
    }


def soundness(verdict: Verdict) -> shapes.Soundness:
    """Return a verdict."""
    found: list[dict[str, Any]] = []
    for net in verdict.nets:
        for problem in net.problems:
            name = "" if net.net == ROOT else net.net
            found.append({"net": name, "kind": problem.kind.value, "message": str(problem.message)})
    return shapes.Soundness(verdict=verdict.verdict, problems=found)


def time_text(at: int | None) -> str | None:
    """Return a time as text, in UTC; None where there is none."""
    if at is None:
        return None
    return datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def milliseconds(written: str | None) -> int:
    """Return a time of a query in milliseconds since the epoch; raises Problem."""
    if written is None:
        return 0
    try:
        at = datetime.fromisoformat(written)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None or at.timestamp() < 0:
        finding = Finding("query.since", "must be a time with its offset, as 2026-07-01T08:00:00Z")
        raise Problem(kind="invalid", detail="the query is not right", findings=(finding,))
    return int(at.timestamp() * 1000)


def details(kind: EventKind, details: dict[str, Any]) -> dict[str, Any]:
    """Return what an event says beside its kind, with its times as text."""
    if kind in (EventKind.TIMER_SET, EventKind.DEADLINE_SET):
        details["due"] = time_text(details["due"])
    return details


def line_members(header: CaseHeader) -> dict[str, Any]:
    """Return what is told of a case wherever one is."""
    return {
        "case_id": header.case_id,
        "spec_id": header.spec_id,
        "spec_version": header.spec_version,
        "state": "quarantined" if header.quarantined else header.state,
        "version": header.version,
        "next_due": time_text(header.due),
        "runnable": header.runnable,
        "quarantined": header.quarantined,
    }


def line(header: CaseHeader) -> shapes.CaseLine:
    """Return a case as a list has it."""
    return shapes.CaseLine(**line_members(header))


def item(row: ItemRow | WorkItem) -> shapes.Item:
    """Return a work item as a list has it."""
    return shapes.Item(
        id=f"{row.case_id}:{row.number}",
        case_id=row.case_id,
        number=row.number,
        path=row.path,
        state=row.state,
        by=row.by,
        roles=list(row.roles),
        topic=row.topic,
        audience=list(row.audience),
    )


def whole_item(found: WorkItem) -> shapes.WholeItem:
    """Return a work item with its data; raises DataError."""
    plain = item(found)
    return shapes.WholeItem(**{name: getattr(plain, name) for name in plain.__struct_fields__}, data=found.data)


def pattern(number: int) -> shapes.Pattern:
    """Return a pattern of the catalogue."""
    each = patterns[number]
    return shapes.Pattern(
        number=number,
        name=each.name,
        category=each.category,
        description=each.description,
        variables=dict(each.variables),
    )
