"""
What commands need of the place where cases are: a store with an engine on it (`knhk.cli.session`), or a service
(`knhk.cli.remote_session`).

`RunningCase` and `WorkItem` are cases and items as they stand here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Generic, Protocol, TypeVar

from knhk.cli.failures import USAGE, Failure
from knhk.cli.output import Slow, clean
from knhk.errors import UnknownCase, UnknownWorkItem
from knhk.events import Event
from knhk.ports import CaseHeader
from knhk.spec import Specification
from knhk.work.dead_letter import DeadLetter
from knhk.work.handlers import Work
from knhk.workitem import ItemState

QUEUES: Final = tuple(
    each.value for each in (ItemState.OFFERED, ItemState.ALLOCATED, ItemState.STARTED, ItemState.SUSPENDED)
)
"""A participant's queues, by the state of what is in them."""

_SHOWN: Final = 5


class ItemRowLike(Protocol):
    """A work item, in a list."""

    @property
    def case_id(self) -> str:
        """Whose it is."""

    @property
    def number(self) -> int:
        """Which of the case's."""

    @property
    def path(self) -> str:
        """Where it stands."""

    @property
    def state(self) -> str:
        """Offered, allocated, started, ..."""

    @property
    def by(self) -> str:
        """Who has it."""

    @property
    def roles(self) -> Sequence[str]:
        """Whose work it is."""

    @property
    def topic(self) -> str:
        """Of external work."""

    @property
    def audience(self) -> Sequence[str]:
        """Whom it is offered to."""


class ItemLike(ItemRowLike, Protocol):
    """A work item that is given commands."""

    def start(self, *, by: str = "") -> object:
        """Take it up."""

    def complete(self, output: Mapping[str, Any] | None = None, *, by: str = "") -> object:
        """Complete it."""

    def suspend(self, *, by: str = "") -> object:
        """Lay it aside."""

    def resume(self, *, by: str = "") -> object:
        """Take it up again."""

    def fail(self, *, by: str = "") -> object:
        """Say that it has failed."""

    def skip(self, *, by: str = "") -> object:
        """Complete it without its being done."""

    def allocate(self, to: str, *, by: str = "") -> object:
        """Give it to somebody."""

    def offer(self, to: Sequence[str] | None = None, *, by: str = "") -> object:
        """Give it back, or offer it to others."""

    def delegate(self, to: str, *, by: str = "") -> object:
        """Hand it on."""


class CaseLike(Protocol):
    """A case."""

    @property
    def id(self) -> str:
        """Its name."""

    @property
    def state(self) -> str:
        """Running, completed, ..."""

    @property
    def data(self) -> dict[str, Any]:
        """Its data."""

    @property
    def enabled(self) -> list[str]:
        """The paths of what is offered."""

    @property
    def running(self) -> list[str]:
        """The paths of what has started."""

    @property
    def marking(self) -> dict[str, dict[str, int]]:
        """The tokens of each running net."""

    @property
    def problems(self) -> list[str]:
        """What needs a person's eye."""

    @property
    def worklets(self) -> list[str]:
        """The cases in the place of its work."""

    @property
    def principal(self) -> tuple[str, int] | None:
        """The work in whose place it runs."""

    def history(self) -> Sequence[Event]:
        """Return what happened."""

    def start(self) -> object:
        """Start it."""

    def cancel(self, *, compensate: bool = True) -> object:
        """End it."""

    def suspend(self) -> object:
        """Hold it."""

    def resume(self) -> object:
        """Go on."""

    def retry_failed(self) -> int:
        """Give what has failed another attempt; returns how much that was."""

    def send_event(self, name: str, data: Mapping[str, Any] | None = None) -> int:
        """Deliver an event; returns how many running nets kept it."""


class LettersLike(Protocol):
    """What has failed for good; a filter that is None leaves all."""

    def all(
        self,
        *,
        kind: str | None = None,
        spec_id: str | None = None,
        handler: str | None = None,
        topic: str | None = None,
        error: str | None = None,
        webhook: str | None = None,
    ) -> Iterable[DeadLetter]:
        """Go through all that have exactly this."""

    def get(self, letter: str) -> DeadLetter:
        """Return one with its data; raises UnknownWorkItem."""

    def replay(self, letter: str, *, by: str = "") -> object:
        """Give it all its attempts anew."""

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
        """Replay all that have exactly this; returns how many there were."""

    def discard(self, letter: str, *, by: str, reason: str) -> object:
        """Give it up."""


C = TypeVar("C", bound=CaseLike)
I = TypeVar("I", bound=ItemLike)  # noqa: E741 - beside C


class Place(ABC, Generic[C, I]):
    """
    Where the cases of one command are.

    Attributes:
        target: its address, as typed, but for a password.
        option: what is typed to get there: ``--db cases.db``.
        keeps: whether what is done there is kept.
        automatic: whether automatic work is done there without any command.
        handlers: what was given with ``--handlers``.
        letters: what has failed for good.
        progress: what is shown where the command takes long.
    """

    target: str
    option: str
    keeps: bool
    automatic: bool
    handlers: tuple[str, ...]
    letters: LettersLike
    progress: Slow

    @property
    def drives(self) -> bool:
        """Whether this command does automatic work."""
        return bool(self.handlers)

    @abstractmethod
    def cases(self, *, spec_id: str | None = None, state: str | None = None) -> Iterable[CaseHeader]:
        """List the cases, oldest first."""

    @abstractmethod
    def rows(self, *, state: str | None = None, by: str | None = None) -> Iterable[ItemRowLike]:
        """List the open work items."""

    @abstractmethod
    def queues(self, participant: str, roles: Sequence[str], state: str | None) -> Iterable[ItemRowLike]:
        """List a participant's work, queue by queue."""

    @abstractmethod
    def header(self, case: C) -> CaseHeader:
        """Return what is listed of a case."""

    @abstractmethod
    def specification(self, header: CaseHeader) -> Specification:
        """Return the specification that a case runs."""

    @abstractmethod
    def known(self, case_id: str) -> C:
        """Return a case by its whole id; raises UnknownCase."""

    @abstractmethod
    def items(self, case: C) -> Sequence[I]:
        """Return the open work items of a case, by number."""

    @abstractmethod
    def require_handlers(self, case: C) -> None:
        """Refuse a case for which a handler is missing; nothing has happened."""

    @abstractmethod
    def run_work(self, case: C, announce: Callable[[Work], None]) -> None:
        """Do the automatic work of a case until it waits or ends."""

    def case(self, part: str) -> C:
        """
        Find a case by its id, a beginning or an end of it that no other has, or any part that no other has.

        Raises:
            UnknownCase: there is none.
            Failure: there are several.
        """
        if not part:
            raise Failure("an empty case id names no case", USAGE)
        try:
            return self.known(part)
        except UnknownCase:
            found = [each for each in self.progress.count(self.cases(), "cases seen") if part in each.case_id]
        if not found:
            raise UnknownCase(f"no case in {self.target} has {part!r} in its id")
        ends = [each for each in found if each.case_id.startswith(part) or each.case_id.endswith(part)]
        found = ends or found
        if len(found) > 1:
            shown = [f"  {each.case_id}  {each.spec_id}  {each.state}" for each in found[:_SHOWN]]
            more = [f"  and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
            raise Failure("\n".join([f"{part!r} is part of the ids of {len(found)} cases:", *shown, *more]), USAGE)
        return self.known(found[0].case_id)

    def item(self, case: C, name: str) -> I:
        """Find an open work item of a case by its number or its task; raises UnknownWorkItem."""
        items = self.items(case)
        found = next((each for each in items if name in (str(each.number), each.path)), None)
        if found is None:
            now = ", ".join(f"{each.number} {clean(each.path)}" for each in items) or "none"
            raise UnknownWorkItem(f"case {case.id} has no open work item {name!r}; open now: {now}")
        return found
