"""The dead letter queue: what has failed for good, listed, looked into, tried again, given up.

Dead work is the failed item of its case, and nothing beside it: what replays or discards it is a command on the case.
A message of a webhook that did not arrive is a document of the store; in lists these stand behind all work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import chain, islice
from typing import TypeVar

import attrs

from knhk._cache import CaseCache
from knhk._commits import item_row
from knhk.case import Case
from knhk.errors import CommandError, ConcurrentUpdate, DataError, QuarantinedCase, UnknownWorkItem
from knhk.ports import ItemRow
from knhk.running import RunningCase
from knhk.work.dead_letter import MESSAGE, WORK, DeadLetter
from knhk.work.dead_messages import DeadMessages, is_message
from knhk.work.failed_rows import DEAD, is_dead
from knhk.work.handlers import Handlers
from knhk.work.webhooks import Webhooks
from knhk.workitem import ItemState

__all__ = ("DeadLetter", "DeadLetters")

_T = TypeVar("_T")


class DeadLetters:
    """
    The dead letters of all cases; an engine has them as `dead_letters`.

    Args:
        cache, handlers, webhooks: of the engine.
    """

    def __init__(self, cache: CaseCache, handlers: Handlers, webhooks: Webhooks) -> None:
        self._cache = cache
        self._handlers = handlers
        self._messages = DeadMessages(webhooks)

    def list(
        self,
        *,
        kind: str | None = None,
        spec_id: str | None = None,
        handler: str | None = None,
        topic: str | None = None,
        error: str | None = None,
        webhook: str | None = None,
        after: str = "",
        limit: int = 100,
    ) -> list[DeadLetter]:
        """
        Return a page of the dead letters: work by case and number, then messages by subscription, case and place.

        Args:
            kind, spec_id, handler, topic, error, webhook: that have exactly this.
            after: the id of the last one of the page before.
            limit: how many at the most.
        """
        found = self.all(after, kind=kind, spec_id=spec_id, handler=handler, topic=topic, error=error, webhook=webhook)
        return [*islice(found, max(limit, 0))]

    def all(
        self,
        after: str = "",
        *,
        kind: str | None = None,
        spec_id: str | None = None,
        handler: str | None = None,
        topic: str | None = None,
        error: str | None = None,
        webhook: str | None = None,
    ) -> Iterator[DeadLetter]:
        """Go through all that have exactly this, in the order of `list`, from behind the id `after`."""
        wanted = {"spec_id": spec_id, "handler": handler, "topic": topic, "error": error}
        behind = is_message(after)
        found: Iterator[DeadLetter] = iter(())
        if kind in (None, WORK) and not webhook and not behind:
            found = self._work(after)
        if kind in (None, MESSAGE) and not handler and not topic:
            found = chain(found, self._messages.all(after if behind else "", webhook=webhook))
        return (letter for letter in found if _is(letter, wanted))

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

        if is_message(letter):
            return self._messages.get(letter)
        case_id, number = _read(letter)
        with self._cache.hold(case_id) as resident:
            return look(resident.case, case_id, number)

    def replay(self, letter: str, *, by: str = "") -> None:
        """
        Give work all its attempts anew, under the same idempotency key, or a message, under the same id.

        The work of a handler is done by the next run, external work is offered to all workers of its topic.
        A message is sent by the next `Engine.deliver`, and may come behind what happened after it.

        Raises:
            UnknownWorkItem: there is no such item, or message.
            IllegalTransition: it has not failed for good.
        """
        if is_message(letter):
            self._messages.replay(letter, by=by)
            return
        _, number = _read(letter)
        self._do(letter, lambda case, at: case.replay_item(number, at=at, by=by))

    def replay_all(
        self,
        *,
        kind: str | None = None,
        spec_id: str | None = None,
        handler: str | None = None,
        topic: str | None = None,
        error: str | None = None,
        webhook: str | None = None,
        by: str = "",
    ) -> int:
        """Replay all that have exactly this, each in its own commit; returns how many there were."""
        replayed = 0
        found = self.all(kind=kind, spec_id=spec_id, handler=handler, topic=topic, error=error, webhook=webhook)
        for letter in found:
            try:
                self.replay(letter.id, by=by)
            except (CommandError, QuarantinedCase):
                # Somebody else replayed or discarded it, or holds its case: it is no dead letter, or stays one.
                continue
            replayed += 1
        return replayed

    def discard(self, letter: str, *, by: str, reason: str) -> None:
        """
        Give work up: its task's thread of control is gone, as by `RunningCase.cancel_task`; or forget a message.

        Of a multiple-instance task only this instance ends, without a result; where it was the last one, control passes.

        Args:
            letter: the id.
            by: who decides it.
            reason: why, for the history; of a message for the log.

        Raises:
            ValueError: `by` or `reason` is empty.
            UnknownWorkItem: there is no such item, or message.
            IllegalTransition: it has not failed for good.
            DataError: control would pass, and no predicate of the split holds.
        """
        if not by or not reason:
            raise ValueError("say who discards it (by) and why (reason)")
        if is_message(letter):
            self._messages.discard(letter, by=by, reason=reason)
            return
        _, number = _read(letter)
        self._do(letter, lambda case, at: case.discard_item(number, by=by, reason=reason, at=at))

    def __iter__(self) -> Iterator[DeadLetter]:
        return self.all()

    # --- inside -------------------------------------------------------------------------------------------------------

    def _work(self, after: str) -> Iterator[DeadLetter]:
        self._cache.land()
        place = _read(after) if after else ("", 0)
        while page := self._cache.store.items(state=ItemState.FAILED.value, after=place):
            # What waits for its next attempt has failed too, and is no dead letter.
            yield from (_letter(row) for row in page if DEAD in row.details)
            place = (page[-1].case_id, page[-1].number)

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
        raise UnknownWorkItem(f"{letter!r} names no dead letter: one is named case:number, or subscription:case:place")
    return case_id, int(number)
