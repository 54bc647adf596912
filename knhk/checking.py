"""Whether what a store holds of its cases is whole and agrees with itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import attrs

from knhk._cache import CaseCache
from knhk._codes import Phase
from knhk._commits import worklist_of
from knhk.case import Case
from knhk.errors import KnhkError
from knhk.journal import decode_batch, decode_snapshot
from knhk.limits import Limits
from knhk.ports import ItemRow, Store, WholeCase
from knhk.system import SystemClock


@attrs.frozen
class Finding:
    """
    What is wrong with a case.

    Args:
        case_id: which.
        reason: what does not fit.
        aside: whether it was set aside before.
    """

    case_id: str
    reason: str
    aside: bool


def check_store(store: Store, tell: Callable[[int], object] = lambda _: None) -> Iterator[Finding]:
    """
    Read every case, and yield what is wrong.

    Every batch and the snapshot have to have their checksums, the batches to be as many as the version says, and the replay
    to give the state, the timer, the automatic work and the worklist rows that the store tells of the case.
    Nothing is written: a damaged case is set aside when an engine loads it.

    Args:
        store: is read only.
        tell: is told of the number of cases so far.
    """
    cache = CaseCache(store, SystemClock(), functions={}, limits=Limits(), size=0)
    after, done = "", 0
    while page := store.cases(after=after, limit=500):
        for header in page:
            whole = store.whole(header.case_id)
            reason = _reason(cache, whole)
            aside = whole.header.quarantined
            if reason or aside:
                yield Finding(header.case_id, reason or aside, bool(aside))
            done += 1
            tell(done)
        after = page[-1].case_id


def _reason(cache: CaseCache, whole: WholeCase) -> str:
    """Return what does not fit of a case; "" where all does."""
    header = whole.header
    try:
        batches = [decode_batch(each)[1] for each in whole.batches]
        if len(batches) != header.version:
            return f"the history has {len(batches)} commits, the header says {header.version}"
        state, since = None, 0
        if whole.snapshot is not None:
            snapshot = decode_snapshot(whole.snapshot[0])
            state, since = snapshot["state"], whole.snapshot[1]
            if snapshot.get("version") != since or since > header.version:
                return f"the snapshot is of version {snapshot.get('version')}, and is stored as that of version {since}"
        case = cache.fresh(cache.compiled(header.spec_id, header.spec_version))
        case.replay(state, [record for batch in batches[since:] for record in batch])
    except KnhkError as error:
        return str(error)
    return _difference(whole, case)


def _difference(whole: WholeCase, case: Case) -> str:
    header, phase = whole.header, case.state.phase
    works = phase in (Phase.RUNNING, Phase.COMPENSATING)
    due = case.next_due() if works else None
    case.state.moved.update(dict.fromkeys(case.state.items))
    rows, _ = worklist_of(header.case_id, case)
    compared: dict[str, tuple[Any, Any]] = {
        "state": (header.state, phase.value),
        "earliest timer": (header.due, None if due is None else due.at),
        "automatic work": (header.runnable, works and bool(case.state.work)),
        "work items": ([_told(each) for each in whole.items], [_told(each) for each in rows]),
    }
    return "; ".join(
        f"{name}: the store says {stored!r}, the history {replayed!r}"
        for name, (stored, replayed) in compared.items()
        if stored != replayed
    )


def _told(row: ItemRow) -> tuple[int, str, str, str, str]:
    return row.number, row.path, row.state, row.by, row.topic
