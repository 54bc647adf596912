"""Schedules: cases that are launched by themselves, each occurrence once.

The next time of a schedule is a document.
The commit that creates and starts the case of an occurrence also writes the document with the time after it, by
compare-and-swap: so of several engines one launches it, and a process that is killed has either done both or nothing.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, MutableSequence, Sequence
from typing import Any, Final

import attrs

from knhk._cache import CaseCache
from knhk.errors import CommandError, ConcurrentUpdate, DataError, IdempotencyConflict, KnhkError, OwnershipLost
from knhk.ports import CaseHeader, Clock, Document, StoredSpecification
from knhk.spec import CatchUp, Schedule
from knhk.work.outbox import all_documents
from knhk.work.times import NextTime, first_data, last_before, times_of

_LOG = logging.getLogger("knhk.schedules")

SCHEDULES: Final = "schedules"
"""The collection of the schedules, by the ids of their specifications."""

GRACE: Final = 60_000
"""Milliseconds that an occurrence may be late and is launched all the same where nothing is caught up with."""


@attrs.frozen(kw_only=True)
class ScheduleState:
    """
    Where a schedule is.

    Args:
        spec_id, version: the specification whose cases it launches.
        next: the time of the next occurrence, in milliseconds since the epoch; None: it is paused, or has ended.
        paused: whether it is held.
        launched: how many cases it has launched.
        last: the time of the last occurrence that was launched, or None.
        failed: how many occurrences could not be launched.
        error: why the last of them could not.
    """

    spec_id: str
    version: str
    next: int | None
    paused: bool
    launched: int
    last: int | None
    failed: int
    error: str


@attrs.frozen(kw_only=True)
class _Kept:
    """What the document of a schedule holds."""

    version: str
    anchor: int
    paused: bool = False
    launched: int = 0
    last: int | None = None
    failed: int = 0
    error: str = ""


class Schedules:
    """The schedules of the registered specifications; `Engine.schedules`."""

    def __init__(self, cache: CaseCache, clock: Clock, new_header: Callable[[StoredSpecification], CaseHeader]) -> None:
        self._cache = cache
        self._store = cache.store
        self._clock = clock
        self._new_header = new_header

    def list(self) -> list[ScheduleState]:
        """Return all schedules, by the ids of their specifications."""
        return [_state(each) for each in all_documents(self._store, SCHEDULES)]

    def get(self, spec_id: str) -> ScheduleState:
        """Return the schedule of a specification; raises CommandError where it has none."""
        return _state(self._document(spec_id))

    def times(self, spec_id: str, count: int = 5, *, after: int | None = None) -> Sequence[int]:
        """
        Return the next times of a schedule, in milliseconds since the epoch, whether it is paused or not.

        Args:
            spec_id: the specification.
            count: how many.
            after: from when on; None: from now on.

        Raises:
            CommandError: it has no schedule.
        """
        _, times = self._times(self._document(spec_id))
        found: list[int] = []
        at: int | None = self._clock.now() if after is None else after
        while len(found) < count and at is not None:
            at = times(at)
            if at is not None:
                found.append(at)
        return found

    def pause(self, spec_id: str) -> None:
        """Launch nothing until `resume`; raises CommandError where there is no schedule."""
        self._change(spec_id, lambda kept, _: (attrs.evolve(kept, paused=True), None))

    def resume(self, spec_id: str) -> None:
        """Launch again, from the next time on: what was passed while it was paused is not caught up with."""
        self._change(spec_id, lambda kept, times: (attrs.evolve(kept, paused=False), times(self._clock.now())))

    # --- for the engine -----------------------------------------------------------------------------------------------

    def keep(self, spec_id: str) -> None:
        """Let the version of a specification that was registered last say when its cases are launched."""
        latest = self._store.specification(spec_id)
        schedule = self._schedule(spec_id, latest.version)
        document = self._store.document(SCHEDULES, spec_id)
        if document is not None and _read(document).version == latest.version:
            return
        try:
            if schedule is not None:
                kept = _Kept(version=latest.version, anchor=self._clock.now())
                version = 1 if document is None else document.version + 1
                due = times_of(schedule, kept.anchor)(kept.anchor)
                self._store.write([_written(spec_id, kept, due, version)])
            elif document is not None:
                self._store.write([], removed=[document])
        except ConcurrentUpdate:
            # Another engine registers it at the same time; whoever comes last sees the latest version.
            self.keep(spec_id)

    def launch(self, now: int, failures: MutableSequence[KnhkError]) -> int:
        """Launch what is due; what cannot be launched is counted, told to the log and to `failures`, and passed over."""
        launched = 0
        others: set[str] = set()
        while page := self._ours(now, others):
            for document in page:
                try:
                    launched += self._occur(document, now)
                except OwnershipLost:
                    others.add(document.key)
                except ConcurrentUpdate:
                    # Another engine has launched it.
                    continue
                except (DataError, CommandError) as error:
                    failures.append(error)
        return launched

    # --- inside -------------------------------------------------------------------------------------------------------

    def _ours(self, now: int, others: set[str]) -> Sequence[Document]:
        """Return schedules that are due and to be launched here, none where there are none; `others` collects the rest."""
        while True:
            limit = 100 + len(others)
            page = self._store.documents(SCHEDULES, due=now, limit=limit)
            ours = [each for each in page if each.key not in others and self._cache.is_ours(each.key)]
            others.update({each.key for each in page} - {each.key for each in ours})
            if ours or len(page) < limit:
                return ours

    def _held(self, spec_id: str) -> tuple[Document, ...]:
        """Return what has to be so still when an occurrence is written."""
        tenure = self._cache.tenure(spec_id)
        return () if tenure is None else (tenure,)

    def _move(self, document: Document) -> None:
        held = self._held(document.key)
        if held:
            self._store.write([document], held=held)
        else:
            self._store.write([document])

    def _occur(self, document: Document, now: int) -> int:
        """Launch one occurrence and move the schedule on, in one transaction; return how many cases that made."""
        kept = _read(document)
        schedule, times = self._times(document)
        first = now if document.due is None else document.due
        at: int | None = first if schedule.catch_up is CatchUp.ALL else last_before(times, first, now)
        following = times(now if at is None or schedule.catch_up is not CatchUp.ALL else at)
        if at is None or (schedule.catch_up is CatchUp.NONE and now - at > GRACE):
            self._move(_written(document.key, kept, following, document.version + 1))
            return 0
        after = attrs.evolve(kept, launched=kept.launched + 1, last=at)
        header = self._new_header(self._store.specification(document.key, kept.version))
        moved = _written(document.key, after, following, document.version + 1)
        key = f"schedule:{document.key}:{at}"
        try:
            held = self._held(document.key)
            self._cache.launch(header, first_data(schedule, at), idempotency=(key, ""), documents=(moved,), held=held)
        except IdempotencyConflict:
            # It was launched, before the schedule was made anew.
            self._move(_written(document.key, kept, following, document.version + 1))
            return 0
        except ConcurrentUpdate:
            raise
        except (DataError, CommandError) as error:
            _LOG.warning("the case of %s that was due at %d could not be launched: %s", document.key, at, error)
            broken = attrs.evolve(kept, failed=kept.failed + 1, error=str(error))
            self._move(_written(document.key, broken, following, document.version + 1))
            raise
        return 1

    def _document(self, spec_id: str) -> Document:
        document = self._store.document(SCHEDULES, spec_id)
        if document is None:
            raise CommandError(f"the specification {spec_id!r} has no schedule")
        return document

    def _schedule(self, spec_id: str, version: str) -> Schedule | None:
        return self._cache.compiled(spec_id, version).program.specification.schedule

    def _times(self, document: Document) -> tuple[Schedule, NextTime]:
        kept = _read(document)
        schedule = self._schedule(document.key, kept.version) or Schedule()
        return schedule, times_of(schedule, kept.anchor)

    def _change(self, spec_id: str, change: Callable[[_Kept, NextTime], tuple[_Kept, int | None]]) -> None:
        while True:
            document = self._document(spec_id)
            _, times = self._times(document)
            kept, due = change(_read(document), times)
            try:
                self._store.write([_written(spec_id, kept, due, document.version + 1)])
            except ConcurrentUpdate:
                # Somebody else moved it at the same time: the change is made to what is so now.
                continue
            return


def _read(document: Document) -> _Kept:
    tree: dict[str, Any] = json.loads(document.value)
    return _Kept(**tree)


def _written(spec_id: str, kept: _Kept, due: int | None, version: int) -> Document:
    return Document(collection=SCHEDULES, key=spec_id, value=json.dumps(attrs.asdict(kept)), due=due, version=version)


def _state(document: Document) -> ScheduleState:
    kept = _read(document)
    return ScheduleState(
        spec_id=document.key,
        version=kept.version,
        next=document.due,
        paused=kept.paused,
        launched=kept.launched,
        last=kept.last,
        failed=kept.failed,
        error=kept.error,
    )
