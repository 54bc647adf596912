"""What a case looks like: to programs as a document, to people as lines with what to type next."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from knhk.cli.output import clean, counted, json_text, local_time, say, say_fields, say_table, utc_time
from knhk.cli.port import C, I, ItemRowLike, Place
from knhk.cli.session import short
from knhk.events import Event, EventKind
from knhk.ports import CaseHeader
from knhk.spec import ROOT, Specification, Task

ENDED = frozenset({"completed", "cancelled"})
BAD = frozenset({"failed", "deadlocked"})

_COMPLETIONS = {
    EventKind.TASK_FIRED: "",
    EventKind.TASK_COMPLETED: "",
    EventKind.INSTANCE_COMPLETED: "",
    EventKind.TASK_FORCED: "forced to complete",
    EventKind.TASK_CANCELLED: "cancelled",
    EventKind.TASK_WITHDRAWN: "withdrawn",
    EventKind.ERROR_CAUGHT: "failed",
    EventKind.TASK_COMPENSATED: "undone",
}
_CLOCKS = (EventKind.TIMER_SET, EventKind.DEADLINE_SET)
_LINE = 88
_ITEM_COLUMNS = ("item", "task", "state", "by", "who")


# --- events ---------------------------------------------------------------------------------------------------------------


def trace_entry(event: Event) -> dict[str, Any] | None:
    """Return the end of a task or instance as the trace has it, or None for other events."""
    if event.kind not in _COMPLETIONS:
        return None
    entry: dict[str, Any] = {"task": event.path, "event": event.kind.value, "at": utc_time(event.at)}
    chosen = event.details.get("chosen")
    if chosen is not None:
        entry["chosen"] = chosen
    return entry


def trace_line(entry: Mapping[str, Any]) -> str:
    """Return an entry of the trace for people: ``band -> approve``."""
    how = _COMPLETIONS[EventKind(entry["event"])]
    chosen = ", ".join(each.rpartition(">")[2] for each in entry.get("chosen", ()))
    return clean(f"  {entry['task']}{f' -> {chosen}' if chosen else ''}{f' ({how})' if how else ''}")


def event_document(event: Event) -> dict[str, Any]:
    """Return an event for programs; times are UTC."""
    details = dict(event.details)
    if event.kind in _CLOCKS:
        details["due"] = utc_time(details["due"])
    return {
        "sequence": event.sequence,
        "at": utc_time(event.at),
        "kind": event.kind.value,
        "path": event.path,
        "details": details,
    }


def say_history(events: Sequence[Event]) -> None:
    """Print events as a table."""
    rows = []
    for event in events:
        details = dict(event.details)
        if event.kind in _CLOCKS:
            details["due"] = local_time(details["due"])
        told = "  ".join(f"{name}={_plain(value)}" for name, value in details.items())
        rows.append((event.sequence, local_time(event.at), event.kind.value, event.path, told))
    say_table(("#", "time", "event", "task", "details"), rows, whole=("#", "event"))


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json_text(value)


# --- work items -----------------------------------------------------------------------------------------------------------


def item_document(item: ItemRowLike) -> dict[str, Any]:
    """Return a work item for programs."""
    return {
        "case": item.case_id,
        "item": item.number,
        "task": item.path,
        "state": item.state,
        "by": item.by,
        "roles": list(item.roles),
        "topic": item.topic,
        "audience": list(item.audience),
    }


def who(item: ItemRowLike) -> str:
    """Say who may do a piece of work: whom it is offered to, the roles of people, or the topic of an external worker."""
    if item.topic:
        return f"topic {item.topic}"
    offered = (each.partition(":") for each in item.audience)
    return ", ".join(name if kind == "role" else f"{kind} {name}".strip() for kind, _, name in offered) or ", ".join(
        item.roles
    )


def task_of(specification: Specification, path: str) -> Task:
    """Return the task that a path such as ``ship#1/pick`` ends at."""
    nets = specification.nets()
    net = specification.root
    *above, last = (segment.partition("#")[0] for segment in path.split("/"))
    for name in above:
        composite = next(task for task in net.tasks if task.id == name)
        net = nets[composite.subnet or ""]
    return next(task for task in net.tasks if task.id == last)


# --- a case ---------------------------------------------------------------------------------------------------------------


def items_with_handlers(session: Place[C, I], header: CaseHeader, items: Sequence[I]) -> list[tuple[I, str]]:
    """Return work items, each with the handler that does it or "" for work of others."""
    specification = session.specification(header)
    return [(item, task_of(specification, item.path).handler or "") for item in items]


def data_text(data: Mapping[str, Any]) -> str:
    """Return a case's data for people: on one line, or a line for each member."""
    line = json_text(data)
    if len(line) <= _LINE:
        return line
    return "\n".join(clean(f"{name}: {json_text(value)}") for name, value in data.items())


def case_document(session: Place[C, I], case: C) -> dict[str, Any]:
    """Return a case for programs."""
    header = session.header(case)
    items = items_with_handlers(session, header, session.items(case))
    return {
        **header_document(header),
        "data": case.data,
        "enabled": case.enabled,
        "running": case.running,
        "work_items": [{**item_document(item), "handler": handler} for item, handler in items],
        "problems": case.problems,
        "worklets": case.worklets,
        "stands_in_for": None if case.principal is None else dict(zip(("case", "item"), case.principal, strict=True)),
    }


def header_document(header: CaseHeader) -> dict[str, Any]:
    """Return for programs what is known of a case without loading it."""
    return {
        "case": header.case_id,
        "specification": header.spec_id,
        "version": header.spec_version,
        "state": header.state,
        "due": utc_time(header.due),
        "runnable": header.runnable,
        "quarantined": header.quarantined,
    }


def say_case_line(session: Place[C, I], case: C) -> None:
    """Print which case it is."""
    header = session.header(case)
    memory = "" if session.keeps else "; in memory, nothing is kept"
    say(clean(f"{'case':<11}{case.id}  ({header.spec_id} {header.spec_version}{memory})"))


def say_standing(session: Place[C, I], case: C, *, data: bool = True, more: Sequence[tuple[str, str]] = ()) -> None:
    """Print where a case stands, and how to go on."""
    header = session.header(case)
    state = header.state
    if header.due is not None:
        state += f"; the next timer is due {local_time(header.due)}"
    say_fields([("state", state), ("data", data_text(case.data) if data else ""), *more])
    say_fields([("problem", clean(each)) for each in case.problems])
    items = items_with_handlers(session, header, session.items(case))
    if items:
        rows = [(i.number, i.path, i.state, i.by, f"handler {handler}" if handler else who(i)) for i, handler in items]
        say()
        say_table(_ITEM_COLUMNS, rows, whole=("item",))
    hints = _hints(session, case, header, items)
    if hints:
        say()
        say("go on with")
        for hint in hints:
            say(f"  {hint}")


def _hints(session: Place[C, I], case: C, header: CaseHeader, items: Sequence[tuple[I, str]]) -> list[str]:
    """Return the commands that fit where the case stands."""
    if header.state in ENDED:
        return []
    if not session.keeps:
        return ["knhk run ... --db PATH   (which keeps the case; this one is gone)"]
    name = shlex.quote(short(case.id))
    db = session.option
    given = "".join(f" --handlers {shlex.quote(each)}" for each in session.handlers)
    specification = session.specification(header)
    handlers = given or (" --handlers FILE.py" if not session.automatic and _has_handlers(specification) else "")
    hints = []
    if header.state == "suspended":
        return [f"knhk resume {name} {db}{given}"]
    if header.state == "created" or (header.runnable and not session.automatic):
        hints.append(f"knhk resume {name} {db}{handlers}")
    elif any(item.state == "failed" for item, _ in items):
        hints.append(f"knhk resume {name} {db}{handlers}   (another attempt at what failed)")
    workable = [item for item, handler in items if not handler and item.state != "replaced"]
    hints += [f"{_item_command(item)} {name}/{item.number} {db}{handlers}" for item in workable][:3]
    hints += [f"knhk show {shlex.quote(each)} {db}   (the worklet)" for each in case.worklets][:3]
    if header.due is not None and not session.automatic:
        hints.append(f"knhk tick {db}{handlers}   (when the timer is due)")
    events = sorted(_awaited(specification, case.marking))
    if events:
        hints.append(f"knhk event {name} NAME {db}{handlers}   (it waits for {clean(' or '.join(events))})")
    if header.state == "deadlocked":
        hints.append(f"knhk cancel {name} {db}")
    return hints


def _item_command(item: ItemRowLike) -> str:
    return (
        f"knhk work { ({'suspended': 'resume', 'failed': 'retry', 'unoffered': 'offer'}.get(item.state, 'complete')) }"
    )


def _awaited(specification: Specification, marking: Mapping[str, Mapping[str, int]]) -> set[str]:
    """Return the events for which a task waits that has a token before it."""
    found = set()
    for path, marked in marking.items():
        subnet = task_of(specification, path).subnet if path else None
        net = specification.nets()[subnet or ROOT]
        for task in net.tasks:
            sources = {flow.source for flow in net.flows if flow.target == task.id}
            if task.trigger and marked.keys() & (sources | {f"{source}>{task.id}" for source in sources}):
                found.add(task.trigger.event)
    return found


def _has_handlers(specification: Specification) -> bool:
    return any(task.handler or task.http for net in specification.nets().values() for task in net.tasks)


def say_whole(session: Place[C, I], case: C, events: Sequence[Event], *, left_out: int) -> None:
    """Print everything about a case."""
    say_case_line(session, case)
    tokens = []
    for net, marked in case.marking.items():
        names = ", ".join(name if count == 1 else f"{count} x {name}" for name, count in marked.items())
        if names:
            tokens.append(clean(f"{net}: {names}" if net else names))
    enabled, running = clean(", ".join(case.enabled)), clean(", ".join(case.running))
    above = "" if case.principal is None else "work item {1} of case {0}".format(*case.principal)
    fields = [("enabled", enabled), ("running", running), ("tokens", "\n".join(tokens))]
    more = [*fields, ("worklets", "\n".join(map(clean, case.worklets))), ("stands for", clean(above))]
    say_standing(session, case, more=more)
    say()
    if left_out:
        say(f"{counted(left_out, 'earlier event')} left out")
    say_history(events)
