"""The commands of people on their work items; `knhk.WorkItem` has them."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from knhk.case import Case
from knhk.errors import DataError
from knhk.work.authority import Request

Command = Callable[[Case, int], None]


class PeopleItem(abc.ABC):
    """The part of a work item that people use; `by` says who gives the command."""

    number: int

    def allocate(self, to: str, *, by: str = "") -> None:
        """
        Give the item to a participant, whether it is offered or already allocated to another.

        Args:
            to: who gets it.
            by: who says so; "" is the one who gets it.
        """
        self._ask(Request("allocate", by or to, to), lambda case, at: _allocate(case, self.number, to, at))

    def offer(self, to: Sequence[str] | None = None, *, by: str = "") -> None:
        """
        Offer the item to all who may do it.

        Args:
            to: whom instead: roles and participants, each as ``role:clerk`` or ``participant:ann``.
            by: who says so: who has it allocated and may give it back, or an administrator.

        Raises:
            DataError: that is no role and no participant.
            Forbidden: he may not, or the directory has nobody of that kind.
        """
        if to is None:
            self._ask(Request("offer", by), lambda case, at: case.change_item(self.number, "offer", at=at, by=""))
            return
        audience = tuple(to)
        wrong = [each for each in audience if each.partition(":")[0] not in ("role", "participant")]
        if wrong or not audience:
            message = f"an item is offered to role:NAME or participant:NAME, not to {wrong[0] if wrong else 'nobody'!r}"
            raise DataError(message, element="to")
        self._ask(
            Request("offer", by, audience=audience),
            lambda case, at: case.route_item(self.number, audience, at=at, filtered=False),
        )

    def delegate(self, to: str, *, by: str = "") -> None:
        """Hand an allocated item to another participant, who may do it or works for whoever hands it on."""
        self._ask(Request("delegate", by, to), lambda case, at: case.delegate_item(self.number, to, at=at))

    def reallocate(self, to: str, *, by: str = "", keep: bool = True) -> None:
        """
        Hand a started or suspended item to another participant.

        Args:
            to: who goes on with it.
            by: who says so.
            keep: whether he goes on where it stands, with what was saved (stateful), or begins anew (stateless).
        """
        self._ask(
            Request("reallocate", by, to),
            lambda case, at: case.reallocate_item(self.number, to, at=at, keep=keep),
        )

    def save(self, draft: Mapping[str, Any], *, by: str = "") -> None:
        """Keep what there is of the output of started work; `complete` adds it to the output."""
        plain = self._plain(draft, "the draft")
        self._ask(Request("save", by), lambda case, at: case.save_item(self.number, plain, at=at))

    def skip(self, *, by: str = "") -> None:
        """Complete the item without its work being done."""
        self._ask(Request("skip", by), lambda case, at: case.skip_item(self.number, at=at, by=by), gone="completed")

    def pile(self, *, by: str, piled: bool = True) -> None:
        """
        Let a participant have all items of this task that come up in any case from now on, started at once.

        Args:
            by: who; whoever had them before has them no more.
            piled: False ends it.
        """
        self._ask(Request("pile", by), lambda _, __: None)
        self._pile(by, piled=piled)

    def chain(self, *, by: str, chained: bool = True) -> None:
        """
        Let a participant have all items that come up for him in this case from now on, started at once.

        Args:
            by: who.
            chained: False ends it.
        """
        self._ask(Request("chain", by), lambda case, at: case.chain(by, at=at, chained=chained))

    @abc.abstractmethod
    def _plain(self, data: Mapping[str, Any], what: str) -> dict[str, Any]:
        """Return data as JSON has them, within the limit of the engine; raises DataError."""

    @abc.abstractmethod
    def _pile(self, by: str, *, piled: bool) -> None:
        """Let a participant have all work of the item's task, or no longer."""

    @abc.abstractmethod
    def _ask(self, request: Request, command: Command, *, gone: str = "completed") -> None:
        """Do a command of a participant, if he may give it."""


def _allocate(case: Case, number: int, to: str, at: int) -> None:
    if case.plan(case.item(number)).task.manual is None:
        case.change_item(number, "allocate", at=at, by=to)
    else:
        case.allocate_item(number, to, at=at)
