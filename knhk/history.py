"""The history of a case, told: journal batches to events.

Records name nets and tasks by number; what the numbers stand for depends on what happened before.
So the records are replayed, and each is told just before it is applied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from knhk._case_state import CaseState
from knhk._codes import Code, End, Phase, Record
from knhk._kernel import Net
from knhk._lower import Program
from knhk.errors import JournalError
from knhk.events import Event, EventKind
from knhk.journal import decode_batch
from knhk.workitem import worklet_suffix

Told = tuple[EventKind, str, dict[str, Any]]

_PHASES = {
    Phase.SUSPENDED: EventKind.CASE_SUSPENDED,
    Phase.COMPLETED: EventKind.CASE_COMPLETED,
    Phase.CANCELLED: EventKind.CASE_CANCELLED,
    Phase.FAILED: EventKind.CASE_FAILED,
    Phase.DEADLOCKED: EventKind.CASE_DEADLOCKED,
    Phase.RUNNING: EventKind.CASE_RESUMED,
    Phase.COMPENSATING: EventKind.CASE_COMPENSATING,
}


Versions = Callable[[str], tuple[Program, Sequence[Net]]]
"""What a version of the case's specification is; a case that was migrated has had several."""


def narrate(
    program: Program, kernels: Sequence[Net], batches: Iterable[bytes], versions: Versions | None = None
) -> list[Event]:
    """
    Return the events of a whole history.

    Args:
        program, kernels: the version that the case has now.
        batches: all that it ever wrote.
        versions: for cases that may have been migrated.

    Raises:
        JournalError: the history cannot be read.
    """
    read = [decode_batch(batch) for batch in batches]
    state = CaseState(
        *_first_version(program, kernels, [record for _, records in read for record in records], versions)
    )
    events: list[Event] = []
    for at, records in read:
        for record in records:
            kind, path, details = _TELL[record[0]](state, record)
            events.append(Event(sequence=len(events) + 1, at=at, kind=kind, path=path, details=details))
            if record[0] == Code.MIGRATED and versions is not None:
                state = CaseState(*versions(record[2]))
            state.apply(record)
    return events


def tell(state: CaseState, batch: bytes) -> Iterator[tuple[int, EventKind, str, dict[str, Any]]]:
    """Tell of each record of a batch (time, kind, path, details) and apply it; `state` is the case before the batch."""
    at, records = decode_batch(batch)
    for record in records:
        # A migration begins with a state of its own: what it withdrew is not in there any more.
        whole = _OF_CASE.get(record[0])
        yield at, *(_TELL[record[0]](state, record) if whole is None else whole(record))
        state.apply(record)


def tell_of_case(batch: bytes) -> Iterator[tuple[int, EventKind, str, dict[str, Any]]]:
    """Tell of those records alone that concern the case as a whole: what was before the batch need not be known for that."""
    at, records = decode_batch(batch)
    for record in records:
        teller = _OF_CASE.get(record[0])
        if teller is not None:
            yield at, *teller(record)


OF_CASE: Final = frozenset(
    {
        EventKind.CASE_CREATED,
        EventKind.CASE_STARTED,
        EventKind.CASE_STANDS_IN,
        EventKind.CASE_MIGRATED,
        *_PHASES.values(),
    }
)
"""The kinds of event that `tell_of_case` tells of."""


def _first_version(
    program: Program, kernels: Sequence[Net], records: Sequence[Record], versions: Versions | None
) -> tuple[Program, Sequence[Net]]:
    first = next((record for record in records if record[0] == Code.MIGRATED), None)
    if first is None:
        return program, kernels
    if versions is None:
        raise JournalError("the case was migrated: its history needs the versions that it had")
    return versions(first[1])


def _without_none(**details: Any) -> dict[str, Any]:
    return {name: value for name, value in details.items() if value not in (None, "", [], {})}


def _path(state: CaseState, record: Record, instance: int = 0) -> str:
    return state.nets[record[1]].path(record[2], instance)


def _targets(state: CaseState, record: Record, chosen: Sequence[int] | None) -> list[str] | None:
    """Name the conditions that got a token, where the task had a choice."""
    tables = state.nets[record[1]].plan.tables
    outputs = tables.table[record[2]].outputs
    if chosen is None or len(chosen) == len(outputs):
        return None
    return [tables.conditions[outputs[position][0]] for position in chosen]


def _created(record: Record) -> Told:
    return EventKind.CASE_CREATED, "", _without_none(data=record[1])


def _started(_: Record) -> Told:
    return EventKind.CASE_STARTED, "", {}


def _fired(state: CaseState, record: Record) -> Told:
    return EventKind.TASK_FIRED, _path(state, record), _without_none(chosen=_targets(state, record, record[3]))


def _begun(state: CaseState, record: Record) -> Told:
    _, _, _, count, elements, by, chosen = record
    details = _without_none(instances=count or None, elements=elements, by=by, chosen=_targets(state, record, chosen))
    return EventKind.TASK_STARTED, _path(state, record), details


def _finished(state: CaseState, record: Record) -> Told:
    _, _, _, k, output, end, chosen = record
    kind = EventKind.TASK_COMPLETED if k == 0 else EventKind.INSTANCE_COMPLETED
    passed = end in (End.COMPLETES, End.PASSES_ON) and k > 0
    details = _without_none(data=output, chosen=_targets(state, record, chosen), passed_control=passed or None)
    return kind, _path(state, record, k), details


def _forced(state: CaseState, record: Record) -> Told:
    return EventKind.TASK_FORCED, _path(state, record), _without_none(chosen=_targets(state, record, record[3]))


def _simple(kind: EventKind) -> Callable[[CaseState, Record], Told]:
    """Return a teller for records that say nothing beyond their task."""

    def tell(state: CaseState, record: Record) -> Told:
        return kind, _path(state, record), {}

    return tell


def _timer_set(state: CaseState, record: Record) -> Told:
    return EventKind.TIMER_SET, _path(state, record), {"due": record[3]}


def _deadline_set(state: CaseState, record: Record) -> Told:
    return EventKind.DEADLINE_SET, _path(state, record), {"due": record[3]}


def _trigger_held(state: CaseState, record: Record) -> Told:
    return EventKind.TRIGGER_HELD, _path(state, record), {"held": record[3]}


def _instance_added(state: CaseState, record: Record) -> Told:
    return EventKind.INSTANCE_ADDED, _path(state, record), _without_none(element=record[3], by=record[4])


def _data(_: CaseState, record: Record) -> Told:
    return EventKind.DATA_CHANGED, "", {"data": record[1]}


def _item(state: CaseState, record: Record) -> Told:
    _, number, after, by, attempt = record
    item = state.items[number]
    path = _item_path(state, number)
    if attempt > item.attempt and after == item.state.value:
        return EventKind.ATTEMPT_BEGUN, path, {"attempt": attempt}
    return EventKind.ITEM_CHANGED, path, _without_none(state=after, by=by)


def _item_path(state: CaseState, number: int) -> str:
    item = state.items[number]
    if item.undoes is not None:
        return item.undoes.path
    return state.nets[item.net].path(item.task, item.instance)


def _attempt_failed(state: CaseState, record: Record) -> Told:
    _, number, error, due, *_ = record
    details = _without_none(attempt=state.items[number].attempt, error=error, retry_at=due)
    return EventKind.ATTEMPT_FAILED, _item_path(state, number), details


def _claimed(state: CaseState, record: Record) -> Told:
    _, numbers, due = record
    item = state.items[numbers[0]]
    path = state.nets[item.net].path(item.task, item.instance if len(numbers) == 1 else 0)
    return EventKind.ITEM_CLAIMED, path, {"until": due}


def _claim_expired(state: CaseState, record: Record) -> Told:
    _, number, after, *_ = record
    item = state.items[number]
    details = _without_none(state=after, by=item.by, attempt=item.attempt)
    return EventKind.CLAIM_EXPIRED, _item_path(state, number), details


def _routed(state: CaseState, record: Record) -> Told:
    _, number, after, audience, _ = record
    return EventKind.ITEM_ROUTED, _item_path(state, number), _without_none(state=after, audience=audience)


def _saved(state: CaseState, record: Record) -> Told:
    return EventKind.ITEM_SAVED, _item_path(state, record[1]), _without_none(draft=record[2])


def _skipped(state: CaseState, record: Record) -> Told:
    return EventKind.ITEM_SKIPPED, _item_path(state, record[1]), _without_none(by=record[2])


def _escalation_set(state: CaseState, record: Record) -> Told:
    _, number, step, due = record
    return EventKind.ESCALATION_SET, _item_path(state, number), _without_none(step=step + 1, due=due)


def _escalated(state: CaseState, record: Record) -> Told:
    _, number, step, audience, priority, due = record
    item = state.items[number]
    manual = state.nets[item.net].plan.plans[item.task].people
    notify = None if manual is None else manual.escalate[step].notify
    details = _without_none(step=step + 1, audience=audience, priority=priority, notify=notify, by=item.by, next=due)
    return EventKind.ITEM_ESCALATED, _item_path(state, number), details


def _chained(_: CaseState, record: Record) -> Told:
    return EventKind.PARTICIPANT_CHAINED, "", {"by": record[1], "chained": record[2]}


def _attempts_until(state: CaseState, record: Record) -> Told:
    return EventKind.ATTEMPTS_BOUNDED, _item_path(state, record[1]), {"until": record[2]}


def _progressed(state: CaseState, record: Record) -> Told:
    return EventKind.ITEM_PROGRESSED, _item_path(state, record[1]), {"progress": record[2]}


def _attempts_spared(state: CaseState, record: Record) -> Told:
    _, number, spared = record
    return EventKind.ATTEMPTS_SPARED, _item_path(state, number), {"spared": spared}


def _replayed(state: CaseState, record: Record) -> Told:
    _, number, by = record
    return (
        EventKind.ITEM_REPLAYED,
        _item_path(state, number),
        _without_none(by=by, attempts=state.items[number].attempt),
    )


def _discarded(state: CaseState, record: Record) -> Told:
    _, number, by, reason, _, chosen = record
    item = state.items[number]
    targets = None if chosen is None else _targets(state, (record[0], item.net, item.task), chosen)
    return EventKind.ITEM_DISCARDED, _item_path(state, number), _without_none(by=by, reason=reason, chosen=targets)


def _raised(state: CaseState, record: Record) -> Told:
    _, _, _, k, position, error, _ = record
    details = _without_none(**error, chosen=_targets(state, record, (position,)))
    return EventKind.ERROR_CAUGHT, _path(state, record, k), details


def _called(state: CaseState, record: Record) -> Told:
    _, number, worklet, given, error, _ = record
    deputy = state.items[number].deputy
    suffix = worklet_suffix(number, 1 if deputy is None else deputy.calls + 1)
    details = _without_none(worklet=worklet, suffix=suffix, data=given, error=error)
    return EventKind.WORKLET_CALLED, _item_path(state, number), details


def _undoing(state: CaseState, record: Record) -> Told:
    then = record[1]
    if then is None:
        return EventKind.CASE_COMPENSATING, "", {}
    net, task, k, _, error, _ = then
    return EventKind.CASE_COMPENSATING, state.nets[net].path(task, k), _without_none(**error)


def _undone(state: CaseState, record: Record) -> Told:
    return EventKind.TASK_COMPENSATED, _item_path(state, record[1]), _without_none(data=record[2])


def _migrated(state: CaseState, record: Record) -> Told:
    _, source, target, _, dropped = record
    withdrawn = [_item_path(state, number) for number in dropped]
    return EventKind.CASE_MIGRATED, "", _without_none(source=source, target=target, withdrawn=withdrawn)


def _phase(record: Record) -> Told:
    return _PHASES[Phase(record[1])], "", {}


def _stands_in(record: Record) -> Told:
    _, case_id, item, depth = record
    return EventKind.CASE_STANDS_IN, "", {"case": case_id, "item": item, "depth": depth}


def _moved(record: Record) -> Told:
    return EventKind.CASE_MIGRATED, "", {"source": record[1], "target": record[2]}


_OF_CASE: dict[int, Callable[[Record], Told]] = {
    Code.CREATED: _created,
    Code.STARTED: _started,
    Code.PHASE: _phase,
    Code.MIGRATED: _moved,
    Code.STANDS_IN: _stands_in,
}


def _whole(teller: Callable[[Record], Told]) -> Callable[[CaseState, Record], Told]:
    """Return a teller that does not look at the state as one that could."""
    return lambda _, record: teller(record)


_TELL: dict[int, Callable[[CaseState, Record], Told]] = {
    **{code: _whole(teller) for code, teller in _OF_CASE.items()},
    Code.FIRED: _fired,
    Code.BEGUN: _begun,
    Code.FINISHED: _finished,
    Code.FORCED: _forced,
    Code.INSTANCE_ADDED: _instance_added,
    Code.INSTANCES_CLOSED: _simple(EventKind.INSTANCES_CLOSED),
    Code.ABORTED: _simple(EventKind.TASK_CANCELLED),
    Code.WITHDRAWN: _simple(EventKind.TASK_WITHDRAWN),
    Code.OFFERED: _simple(EventKind.ITEM_OFFERED),
    Code.OFFER_WITHDRAWN: _simple(EventKind.ITEM_WITHDRAWN),
    Code.TIMER_SET: _timer_set,
    Code.TIMER_CLEARED: _simple(EventKind.TIMER_CLEARED),
    Code.TRIGGER_HELD: _trigger_held,
    Code.DATA: _data,
    Code.ITEM: _item,
    Code.ATTEMPT_FAILED: _attempt_failed,
    Code.CLAIMED: _claimed,
    Code.CLAIM_EXPIRED: _claim_expired,
    Code.ATTEMPTS_UNTIL: _attempts_until,
    Code.ATTEMPTS_SPARED: _attempts_spared,
    Code.PROGRESSED: _progressed,
    Code.REPLAYED: _replayed,
    Code.DISCARDED: _discarded,
    Code.RAISED: _raised,
    Code.UNDOING: _undoing,
    Code.UNDONE: _undone,
    Code.DEADLINE_SET: _deadline_set,
    Code.DEADLINE_CLEARED: _simple(EventKind.DEADLINE_CLEARED),
    Code.DEADLINE_PASSED: _simple(EventKind.DEADLINE_PASSED),
    Code.ROUTED: _routed,
    Code.SAVED: _saved,
    Code.ESCALATION_SET: _escalation_set,
    Code.ESCALATED: _escalated,
    Code.CHAINED: _chained,
    Code.SKIPPED: _skipped,
    Code.MIGRATED: _migrated,
    Code.WORKLET_CALLED: _called,
}
