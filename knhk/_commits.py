"""What a step of a case is for a store: its records as batches, these as commits, and what the worklist shows of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

from knhk._codes import Record
from knhk._lower import Kind, TaskPlan
from knhk._people_rules import audience_of, details_of
from knhk.case import Case
from knhk.errors import JournalError
from knhk.journal import encode_batch
from knhk.ports import CaseHeader, Commit, Document, ItemRow, StoredCase
from knhk.work.calls import worklet_id
from knhk.work.failed_rows import failed_details, is_dead, may_have_row
from knhk.workitem import ItemEntry, ItemState

_NOBODY: Final[tuple[str, ...]] = ()

# Up to Python 3.11 a member of an enumeration costs as much to look up as a method to call.
_HANDLER: Final = Kind.HANDLER
_OFFERED: Final = ItemState.OFFERED
_FAILED: Final = ItemState.FAILED


def batches_of(records: Sequence[Record], taken: int, cuts: Sequence[tuple[int, int]], now: int) -> list[bytes]:
    """Return the bytes of fresh records, a batch for each time at which any were written; `taken` were taken before."""
    if not cuts:
        return [encode_batch(now, records)]
    batches = []
    done = 0
    for length, at in cuts:
        if done < length - taken <= len(records):
            batches.append(encode_batch(at, records[done : length - taken]))
            done = length - taken
    if done < len(records):
        batches.append(encode_batch(now, records[done:]))
    return batches


def commits_of(
    before: CaseHeader,
    batches: Sequence[bytes],
    state: str,
    *,
    due: int | None = None,
    runnable: bool = False,
    snapshot: bytes | None = None,
    items: tuple[ItemRow, ...] = (),
    closed: tuple[int, ...] = (),
    documents: tuple[Document, ...] = (),
    removed: tuple[Document, ...] = (),
) -> list[Commit]:
    """Return a commit for each batch; the last has all that there is besides."""
    version = before.version + len(batches)
    header = CaseHeader(before.case_id, before.spec_id, before.spec_version, state, due, runnable, version)
    last = Commit(header, version - 1, batches[-1], snapshot, items, closed, None, documents, removed)
    if len(batches) == 1:
        return [last]
    earlier = [
        Commit(attrs.evolve(header, version=expected + 1), expected, batch)
        for expected, batch in enumerate(batches[:-1], before.version)
    ]
    return [*earlier, last]


def end_of(before: CaseHeader, batch: bytes, state: str, snapshot: bytes | None) -> Commit:
    """Return the commit with which a case ends that leaves nothing behind, as `commits_of` does one."""
    version = before.version
    header = CaseHeader(before.case_id, before.spec_id, before.spec_version, state, None, False, version + 1)
    return Commit(header, version, batch, snapshot)


def check_whole(stored: StoredCase, snapshot: Mapping[str, Any] | None) -> None:
    """Refuse a history that misses commits: a case that went back in time must not go on."""
    since = 0 if snapshot is None else snapshot.get("version")
    if not isinstance(since, int) or since + len(stored.batches) != stored.header.version:
        message = (
            f"the history has {len(stored.batches)} commits behind {since}, its header says {stored.header.version}"
        )
        raise JournalError(message)


def worklist_of(case_id: str, case: Case) -> tuple[tuple[ItemRow, ...], tuple[int, ...]]:
    """Return the worklist rows that the case's last records changed, and the numbers of those that went."""
    rows: list[ItemRow] = []
    closed: list[int] = []
    state = case.state
    for number in sorted(state.moved):
        item = state.items.get(number)
        if item is None:
            closed.append(number)
            continue
        plan = case.plan(item)
        if plan.kind is not _HANDLER or item.state is ItemState.REPLACED or is_dead(case, item):
            rows.append(_row(case_id, case, item, plan))
        elif may_have_row(item):
            closed.append(number)
    state.moved.clear()
    return tuple(rows), tuple(closed)


def item_row(case_id: str, case: Case, number: int) -> ItemRow:
    """Return an open item as the worklist shows it."""
    item = case.state.items[number]
    return _row(case_id, case, item, case.plan(item))


def _row(case_id: str, case: Case, item: ItemEntry, plan: TaskPlan) -> ItemRow:
    task, state = plan.task, item.state
    details: dict[str, Any] = {}
    roles = audience = _NOBODY
    if task.manual is not None:
        roles = task.manual.roles
        special = plan.people is not None or plan.separate or item.number in case.state.people.posts
        if special:
            details = details_of(case.state, item)
        if state is _OFFERED:
            audience = audience_of(case.state, item) if special else plan.audience
    if item.deputy is not None and state is ItemState.REPLACED:
        details["worklet"] = {"spec_id": item.deputy.worklet, "case_id": worklet_id(case_id, item)}
    elif state is _FAILED and is_dead(case, item):
        details |= failed_details(case, item)
    topic = "" if task.external is None else task.external.topic
    return ItemRow(case_id, item.number, case.path(item), state._value_, item.by, roles, topic, audience, details)
