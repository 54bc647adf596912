"""The dead letter queue: work that has failed for good in any case, listed, looked into, tried again, given up.

A dead letter is the failed item of its case, and nothing beside it: what replays or discards it is a command on the case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, TypeVar

import attrs

from knhk._cache import CaseCache
from knhk._commits import item_row
from knhk.case import Case
from knhk.errors import CommandError, ConcurrentUpdate, DataError, QuarantinedCase, UnknownWorkItem
from knhk.ports import ItemRow
from knhk.running import RunningCase
from knhk.work.failed_rows import DEAD, is_dead
from knhk.work.handlers import Handlers
from knhk.workitem import ItemState

_T = TypeVar("_T")


@attrs.frozen(kw_only=True)
class DeadLetter:
    """
    Work that has failed for good.

    Args:
        id: names the work, ``case:number``; its idempotency key.
        case_id, number, path: the work item, and where it stands.
        spec_id, spec_version: the specification of its case.
        handler, topic: what would do it; both "" for work of people.
        reason: what the last attempt failed of.
        error: the type of that error by name.
        at: when, in milliseconds since the epoch; None where an older history does not say.
        attempts: how many were made since it was last replayed.
        attempt: the number of the last one, all counted.
        digest: the same for failures that came the same way through the same code; "" without a traceback.
        where: the innermost place of the traceback, as ``bank.py:41 charge``.
        data: what the work is given, or the case's data where the input mapping is what fails; None in lists.
        item, index: the element and position of a multiple instance, else None.
    """

    id: str
    case_id: str
    number: int
    path: str
    spec_id: str
    spec_version: str
    handler: str
    topic: str
    reason: str
    error: str
    at: int | None
    attempts: int
    attempt: int
    digest: str
    where: str
    data: dict[str, Any] | None = None
    item: Any = None
    index: int | None = None


class DeadLetters:
    """
    The dead letters of all cases; an engine has them as `dead_letters`.

    Args:
        cache, handlers: of the engine.
    """

    def __init__(self, cache: CaseCache, handlers: Handlers) -> None:
        self._cache = cache
        self._handlers = handlers

    def list(
        self,
        *,
        spec_id: str | None = None,
        handler: str | None = None,
        topic: str | None = None,
        error: str | None = None,
        after: str = "",
        limit: int = 100,
    ) -> list[DeadLetter]:
        """
        Return a page of the dead letters, by case and number.

        Args:
            spec_id, handler, topic, error: that have exactly this.
            after: the id of the last one of the page before.
            limit: how many at the most.
        """
        found = self.all(after, spec_id=spec_id, handler=handler, topic=topic, error=error)
        return [*islice(found, max(limit, 0))]

    def all(
        self,
        after: str = "",
        *,
        spec_id: str | None = None,
        handler: str | None = None,
        topic: str | None = None,
        error: str | None = None,
    ) -> Iterator[DeadLetter]:
        """Go through all that have exactly this, by case and number, from behind the id `after`."""
        wanted = {"spec_id": spec_id, "handler": handler, "topic": topic, "error": error}
        self._cache.land()
        place = _read(after) if after else ("", 0)
        while page := self._cache.store.items(state=ItemState.FAILED.value, after=place):
            for row in page:
                # What waits for its next attempt has failed too, and is no dead letter.
                letter = _letter(row) if DEAD in row.details else None
                if letter is not None and _is(letter, wanted):
                    yield letter
            place = (page[-1].case_id, page[-1].number)

    def get(self, letter: str) -> DeadLetter:
        """Return a dead letter with its data, by its id; raises UnknownWorkItem where there is none."""

        def look(case: Case, case_id: str, number: int) -> DeadLetter:
            item = case.item(number)
            if not is_dead(case, item):
                raise UnknownWorkItem(f"work item {letter!r} has not failed for good: it is {item.state.value}")
            try:
                data = case.work_data(number)
            except DataError:
                data = case.state.data
            return attrs.evolve(
                _letter(item_row(case_id, case, number)),
                data=self._cache.plain(data, "the case data"),
                item=case.state.element(item),
                index=item.instance - 1 if item.instance else None,
            )

        case_id, number = _read(letter)
        with self._cache.hold(case_id) as resident:
            return look(resident.case, case_id, number)

    def replay(self, letter: str, *, by: str = "") -> None:
        """
        Give the work all its attempts anew, under the same idempotency key.

        That of a handler is made by the next run, external work is offered to all workers of its topic.

        Raises:
            UnknownWorkItem: there is no such item.
            IllegalTransition: it has not failed for good.
        """
        _, number = _read(letter)
        self._do(letter, lambda case, at: case.replay_item(number, at=at, by=by))

    def replay_all(
        self,
        *,
        spec_id: str | None = None,
        handler: str | None = None,
        topic: str | None = None,
        error: str | None = None,
        by: str = "",
    ) -> int:
        """Replay all that have exactly this, each in its own commit; returns how many there were."""
        replayed = 0
        for letter in self.all(spec_id=spec_id, handler=handler, topic=topic, error=error):
            try:
                self.replay(letter.id, by=by)
            except (CommandError, QuarantinedCase):
                # Somebody else replayed or discarded it, or holds its case: it is no dead letter, or stays one.
                continue
            replayed += 1
        return replayed

    def discard(self, letter: str, *, by: str, reason: str) -> None:
        """
        Give the work up: its task's thread of control is gone, as by `RunningCase.cancel_task`.

        Of a multiple-instance task only this instance ends, without a result; where it was the last one, control passes.

        Args:
            letter: the id.
            by: who decides it.
            reason: why, for the history.

        Raises:
            ValueError: `by` or `reason` is empty.
            UnknownWorkItem: there is no such item.
            IllegalTransition: it has not failed for good.
            DataError: control would pass, and no predicate of the split holds.
        """
        if not by or not reason:
            raise ValueError("say who discards it (by) and why (reason)")
        _, number = _read(letter)
        self._do(letter, lambda case, at: case.discard_item(number, by=by, reason=reason, at=at))

    def __iter__(self) -> Iterator[DeadLetter]:
        return self.all()

    # --- inside -------------------------------------------------------------------------------------------------------

    def _do(self, letter: str, command: Callable[[Case, int], _T]) -> _T:
        case = RunningCase(self._cache, self._handlers, _read(letter)[0])
        try:
            return case._do(command)
        except ConcurrentUpdate:
            # The case is loaded again, and the command is right or refused there.
            return case._do(command)


def _is(letter: DeadLetter, wanted: Mapping[str, str | None]) -> bool:
    return all(value is None or getattr(letter, name) == value for name, value in wanted.items())


def _letter(row: ItemRow) -> DeadLetter:
    return DeadLetter(
        id=f"{row.case_id}:{row.number}",
        case_id=row.case_id,
        number=row.number,
        path=row.path,
        topic=row.topic,
        **row.details[DEAD],
    )


def _read(letter: str) -> tuple[str, int]:
    case_id, _, number = letter.rpartition(":")
    if not case_id or not number.isdecimal():
        raise UnknownWorkItem(f"{letter!r} names no dead letter: one is named case:number")
    return case_id, int(number)
