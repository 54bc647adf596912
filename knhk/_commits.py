"""What a step of a case is for a store: its records as batches, and these as commits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from knhk._case_state import Record
from knhk.errors import JournalError
from knhk.journal import encode_batch
from knhk.ports import CaseHeader, Commit, Document, ItemRow, StoredCase


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
    header = CaseHeader(
        case_id=before.case_id,
        spec_id=before.spec_id,
        spec_version=before.spec_version,
        state=state,
        due=due,
        runnable=runnable,
        version=before.version + len(batches),
    )
    last = Commit(
        header=header,
        expected=header.version - 1,
        batch=batches[-1],
        snapshot=snapshot,
        items=items,
        closed_items=closed,
        documents=documents,
        removed=removed,
    )
    if len(batches) == 1:
        return [last]
    earlier = [
        Commit(header=attrs.evolve(header, version=version + 1), expected=version, batch=batch)
        for version, batch in enumerate(batches[:-1], before.version)
    ]
    return [*earlier, last]


def check_whole(stored: StoredCase, snapshot: Mapping[str, Any] | None) -> None:
    """Refuse a history that misses commits: a case that went back in time must not go on."""
    since = 0 if snapshot is None else snapshot.get("version")
    if not isinstance(since, int) or since + len(stored.batches) != stored.header.version:
        message = (
            f"the history has {len(stored.batches)} commits behind {since}, its header says {stored.header.version}"
        )
        raise JournalError(message)
