"""What must be so at the end of every story, read from what the store has kept and from nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from knhk.checking import check_store
from knhk.engine import Engine
from knhk.events import Event, EventKind
from knhk.ports import CaseHeader
from knhk.testing.simulation.clients import Answer, Clients
from knhk.testing.simulation.world import World

_ENDS = (EventKind.TASK_COMPLETED, EventKind.INSTANCE_COMPLETED, EventKind.TASK_COMPENSATED)


def problems_of(world: World, clients: Clients) -> Iterator[str]:
    """Yield everything that is not as it must be."""
    yield from world.problems
    for finding in check_store(world.store):
        yield f"{finding.case_id}: {finding.reason}"
    headers = {header.case_id: header for header in world.store.cases(limit=10_000)}
    yield from _of_cases(headers, clients)
    with Engine(world.store) as fresh:
        histories = {case_id: fresh.case(case_id).history() for case_id in headers}
    yield from _of_tokens(histories, world, clients)
    yield from _of_attempts(histories, world)
    yield from _of_timers(histories)


def _of_cases(headers: dict[str, CaseHeader], clients: Clients) -> Iterator[str]:
    """Every case is over, there is one for each wish, and only what somebody cancelled is cancelled."""
    known: set[str] = set()
    for wish in clients.wishes:
        known |= wish.case_ids
        if len(wish.case_ids) != 1:
            yield f"wish {wish.key} was answered with {sorted(wish.case_ids) or 'nothing'}"
        for header in (headers[each] for each in wish.case_ids if each in headers):
            allowed = ("completed", "cancelled") if wish.cancelled else ("completed",)
            if header.state not in allowed:
                yield f"{header.case_id} of {wish.spec_id} is {header.state} at the end"
    for case_id in headers.keys() ^ known:
        yield f"{case_id} is {'nowhere in the store' if case_id in known else 'nobody asked for'}"


def _of_tokens(histories: dict[str, list[Event]], world: World, clients: Clients) -> Iterator[str]:
    """What was acknowledged happened once, what was refused never, and what nobody knows of at most once."""
    found: Counter[str] = Counter()
    for case_id, history in histories.items():
        for event in history:
            if event.kind not in _ENDS:
                continue
            for token in (event.details.get("data") or {}).values():
                found[token] += 1
                key = world.outputs.get(token)
                if key is None and token not in clients.answers:
                    yield f"{case_id} has {token}, which nobody sent"
                elif key is not None and key.partition(":")[0] != case_id:
                    yield f"{case_id} has {token}, the result of {key}"
    for token, answer in clients.answers.items():
        allowed = {Answer.DONE: (1,), Answer.REFUSED: (0,), Answer.UNKNOWN: (0, 1)}[answer]
        if found[token] not in allowed:
            yield f"{token} was {answer.value}, and is there {found[token]} times"
    yield from (f"the result {token} is there {found[token]} times" for token in world.outputs if found[token] > 1)
    results = Counter(key for token, key in world.outputs.items() if found[token])
    yield from (f"{key} has {count} results" for key, count in results.items() if count > 1)


def _of_attempts(histories: dict[str, list[Event]], world: World) -> Iterator[str]:
    """No handler is called twice with the same attempt, nor with one that is not on record."""
    begun = {
        case_id: sum(each.kind is EventKind.ATTEMPT_BEGUN for each in history) for case_id, history in histories.items()
    }
    called = Counter(key.partition(":")[0] for key, _ in world.calls)
    for (key, attempt), count in world.calls.items():
        if count > 1:
            yield f"attempt {attempt} at {key} was made {count} times"
    for case_id, count in called.items():
        if count > begun.get(case_id, 0):
            yield f"{case_id} has {begun.get(case_id, 0)} attempts on record, and {count} were made"


def _of_timers(histories: dict[str, list[Event]]) -> Iterator[str]:
    """No timer runs before its time, by the clock of the instance that runs it, or twice."""
    for case_id, history in histories.items():
        due: dict[str, int] = {}
        for event in history:
            if event.kind is EventKind.TIMER_SET:
                due[event.path] = event.details["due"]
            elif event.kind is EventKind.TASK_COMPLETED and event.path == "T":
                if event.path not in due:
                    yield f"{case_id}: the timer of {event.path} ran without being set"
                elif event.at < due.pop(event.path):
                    yield f"{case_id}: the timer of {event.path} ran at {event.at}, before its time"
