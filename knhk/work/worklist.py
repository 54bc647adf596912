"""A participant's worklist: the work that he may take up, and the work that is his, over all cases.

The queues are YAWL's: offered, allocated, started, suspended.
Each is read a page at a time by the store's indexes, so that what is open elsewhere costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

import attrs

from knhk.errors import Forbidden
from knhk.people import Directory, Participant
from knhk.ports import ItemRow, Store
from knhk.work.people import audiences

Place = tuple[str, int]
"""Where a page ends: the case's id and the number of the item that it ends with."""

_START: Final[Place] = ("", 0)
_READ: Final = 100


@attrs.frozen(kw_only=True)
class Page:
    """
    Some items of a queue.

    Args:
        items: in the order of (case, number).
        next: give this as `after` for the next page; None: there is none.
    """

    items: tuple[ItemRow, ...]
    next: Place | None


class Worklist:
    """
    The work of one participant.

    Args:
        store: where it is.
        participant: whose.
        prepare: what to do before the store is asked.
    """

    def __init__(self, store: Store, participant: Participant, prepare: Callable[[], None]) -> None:
        self._store = store
        self._prepare = prepare
        self.participant = participant

    def __repr__(self) -> str:
        return f"<worklist of {self.participant.id}>"

    def offered(self) -> Iterator[ItemRow]:
        """Give what is offered to him, or to somebody with a role, position or capability of his; he may do each."""
        return self._all("offered")

    def allocated(self) -> Iterator[ItemRow]:
        """Give what is allocated to him and not started."""
        return self._all("allocated")

    def started(self) -> Iterator[ItemRow]:
        """Give what he has started."""
        return self._all("started")

    def suspended(self) -> Iterator[ItemRow]:
        """Give what he has laid aside."""
        return self._all("suspended")

    def page(self, queue: str, *, after: Place | None = None, limit: int = 100) -> Page:
        """
        Return a page of a queue.

        Args:
            queue: ``offered``, ``allocated``, ``started`` or ``suspended``; ``failed`` is what he failed at.
            after: what the page before gave as `next`; None: the first page.
            limit: how many items it has at the most.
        """
        self._prepare()
        found: list[ItemRow] = []
        place = after or _START
        while len(found) < limit:
            wanted = limit - len(found)
            rows = self._rows(queue, place, max(wanted, _READ))
            for row in rows:
                place = (row.case_id, row.number)
                if queue != "offered" or _may_do(row, self.participant):
                    found.append(row)
                    if len(found) == limit:
                        break
            else:
                if len(rows) < max(wanted, _READ):
                    return Page(items=tuple(found), next=None)
        return Page(items=tuple(found), next=place)

    def _all(self, queue: str) -> Iterator[ItemRow]:
        page = self.page(queue)
        yield from page.items
        while page.next is not None:
            page = self.page(queue, after=page.next)
            yield from page.items

    def _rows(self, queue: str, after: Place, limit: int) -> Sequence[ItemRow]:
        if queue == "offered":
            return self._store.items(audience=audiences(self.participant), after=after, limit=limit)
        return self._store.items(state=queue, by=self.participant.id, after=after, limit=limit)


def _may_do(row: ItemRow, participant: Participant) -> bool:
    """Whether a participant who is among those whom a row is for may do it: the rest of what `People.hindrance` says."""
    details = row.details
    return (
        participant.id not in details.get("kept_from", ())
        and participant.capabilities.issuperset(details.get("capabilities", ()))
        and not (details.get("positions") and participant.positions.isdisjoint(details["positions"]))
    )


def who_is(directory: Directory | None, participant_id: str, roles: Iterable[str] | None) -> Participant:
    """
    Return a participant as his worklist needs him.

    Args:
        directory: who there is; None: nobody says so.
        participant_id: who is asked for.
        roles: what he is, where no directory says so.

    Raises:
        Forbidden: the directory does not know him, or says what he is when somebody else does too.
    """
    if directory is None:
        return Participant(id=participant_id, roles=roles or ())
    found = directory.participant(participant_id)
    if found is None or not found.active:
        message = f"the directory has no active participant {participant_id!r}"
        raise Forbidden(message, participant=participant_id, command="list")
    if roles is not None and not found.roles.issuperset(roles):
        message = (
            f"{participant_id!r} has the roles that the directory says: {', '.join(sorted(found.roles)) or 'none'}"
        )
        raise Forbidden(message, participant=participant_id, command="list")
    return found
