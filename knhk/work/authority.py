"""Who may give which command on work of people, where a directory is there; a refusal says why, and who may.

What four-eyes forbids is refused by the case itself, with a directory or without (`knhk._people_rules`).
"""

from __future__ import annotations

from typing import Final

import attrs

from knhk._lower import Kind
from knhk.case import Case
from knhk.errors import Forbidden
from knhk.people import Participant, works_for
from knhk.spec import Privilege
from knhk.work.people import People, told
from knhk.workitem import ItemEntry, ItemState

_HELD: Final = (ItemState.ALLOCATED, ItemState.STARTED, ItemState.SUSPENDED, ItemState.FAILED)
_NEEDED: Final = {
    "offer": Privilege.DEALLOCATE,
    "suspend": Privilege.SUSPEND,
    "delegate": Privilege.DELEGATE,
    "reallocate": Privilege.REALLOCATE,
    "skip": Privilege.SKIP,
    "pile": Privilege.PILE,
    "chain": Privilege.CHAIN,
}
"""The privilege that a command on one's own work needs, where it needs any."""

_NAMING: Final = frozenset({"allocate", "delegate", "reallocate"})
"""The commands that name whom the work goes to."""


@attrs.frozen
class Request:
    """
    A command that somebody gives on an item.

    Args:
        command: which.
        by: who gives it; "" where nobody said.
        to: whom the work goes to; "" where it goes to nobody.
        audience: whom it is to be offered to, where that is said.
    """

    command: str
    by: str
    to: str = ""
    audience: tuple[str, ...] = ()


class Authority:
    """
    Judges the requests of participants.

    Args:
        people: who there is, and who may do what.
    """

    def __init__(self, people: People) -> None:
        self._people = people

    def check(self, case: Case, item: ItemEntry, request: Request) -> None:
        """
        Refuse a request that whoever makes it has no right to; work of programs is for anybody.

        Raises:
            Forbidden: says why, and who may.
        """
        if case.plan(item).kind is not Kind.MANUAL:
            return
        path = case.path(item)
        participant = self._known(request.by, request, path, missing="say who does it (by)")
        receiver = None
        if request.command in _NAMING:
            receiver = self._known(request.to, request, path, missing="say who gets it (to)")
        if request.audience and not self._people.anybody(request.audience):
            message = f"cannot offer {path}: nobody who is active is {told(request.audience)}"
            raise Forbidden(message, participant=request.by, command=request.command)
        if participant.administrator:
            return
        reason = self._reason(case, item, request, participant)
        if not reason and receiver is not None and receiver.id != participant.id:
            reason = self._hindrance_of(case, item, participant, receiver)
        if reason:
            message = f"{request.by!r} may not {request.command} {path}: {reason}"
            raise Forbidden(message, participant=request.by, command=request.command)

    def _known(self, name: str, request: Request, path: str, *, missing: str) -> Participant:
        found = self._people.directory.participant(name) if name else None
        if found is not None and found.active:
            return found
        reason = missing
        if name:
            reason = f"{name!r} is not active" if found is not None else f"the directory has no participant {name!r}"
        message = f"cannot {request.command} {path}: {reason}"
        raise Forbidden(message, participant=name, command=request.command)

    def _reason(self, case: Case, item: ItemEntry, request: Request, participant: Participant) -> str:
        """Say why a participant who is no administrator may not give a command; "" where he may."""
        if item.state is ItemState.UNOFFERED:
            return "it is offered to nobody; an administrator has to say whom it is for"
        if item.state in _HELD and item.by:
            if item.by != participant.id:
                verb = "allocated to" if item.state is ItemState.ALLOCATED else "done by"
                return f"it is {verb} {item.by!r}, who may, as may an administrator"
        else:
            hindrance = self._people.hindrance(case, item, participant)
            if hindrance:
                return hindrance
        return self._privilege(case, item, request, participant)

    def _privilege(self, case: Case, item: ItemEntry, request: Request, participant: Participant) -> str:
        if request.command == "allocate" and request.to != participant.id:
            return "only an administrator gives offered work to others"
        needed = _NEEDED.get(request.command)
        manual = case.plan(item).task.manual
        if needed is None or manual is None or needed in manual.privileges:
            return ""
        granted = ", ".join(sorted(each.value for each in manual.privileges)) or "none"
        return f"the task does not give its participants that privilege (it gives: {granted}); an administrator may"

    def _hindrance_of(self, case: Case, item: ItemEntry, giver: Participant, receiver: Participant) -> str:
        """Say why work cannot go from one participant to another: he must be allowed to do it, or work for the giver."""
        hindrance = self._people.hindrance(case, item, receiver)
        if not hindrance or works_for(self._people.directory, receiver, giver):
            return ""
        return f"{receiver.id!r} cannot have it, because {hindrance}, and does not report to {giver.id!r}"
