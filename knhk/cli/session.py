"""One command's engine on a store."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from knhk.cli.failures import NOT_FOUND, Failure
from knhk.cli.handlers import HandlerEngine, Handlers, require
from knhk.cli.options import organisation
from knhk.cli.output import Slow
from knhk.cli.port import QUEUES, Place
from knhk.ports import CaseHeader, ItemRow, Store
from knhk.running import RunningCase, WorkItem
from knhk.spec import Specification
from knhk.stores import open_store, without_password
from knhk.work.handlers import Work

MEMORY: Final = "memory:"

_MADE_HERE: Final = re.compile(r"[0-9a-f]{28}")
_SHORT: Final = 8


class Session(Place[RunningCase, WorkItem]):
    """
    An engine, its store, and what was typed to get there; the rest is as `Place` has it.

    Attributes:
        store, engine: those.
    """

    automatic = False

    def __init__(self, store: Store, target: str, handlers: Sequence[str], progress: Slow) -> None:
        self.store = store
        self.target = without_password(target)
        self.option = f"--db {shlex.quote(self.target)}"
        self.keeps = target != MEMORY
        self.progress = progress
        self.handlers = tuple(handlers)
        self.engine = HandlerEngine(store, organisation())
        self.letters = self.engine.dead_letters
        self._specifications: dict[tuple[str, str], Specification] = {}

    def cases(self, *, spec_id: str | None = None, state: str | None = None) -> Iterable[CaseHeader]:
        """List the cases, oldest first."""
        return self.engine.cases(spec_id=spec_id, state=state)

    def rows(self, *, state: str | None = None, by: str | None = None) -> Iterable[ItemRow]:
        """List the open work items."""
        return self.engine.work_items(state=state, by=by)

    def queues(self, participant: str, roles: Sequence[str], state: str | None) -> Iterator[ItemRow]:
        """List a participant's work, queue by queue."""
        worklist = self.engine.worklist(participant, roles=roles or None)
        for queue in QUEUES:
            if state in (None, queue):
                page = worklist.page(queue)
                yield from page.items
                while page.next is not None:
                    page = worklist.page(queue, after=page.next)
                    yield from page.items

    def header(self, case: RunningCase) -> CaseHeader:
        """Return what the store knows of a case without loading it."""
        return self.store.header(case.id)

    def specification(self, header: CaseHeader) -> Specification:
        """Return the specification that a case runs."""
        key = (header.spec_id, header.spec_version)
        if key not in self._specifications:
            self._specifications[key] = Specification.from_json(self.store.specification(*key).text)
        return self._specifications[key]

    def known(self, case_id: str) -> RunningCase:
        """Return a case by its whole id; raises UnknownCase."""
        return self.engine.case(case_id)

    def items(self, case: RunningCase) -> list[WorkItem]:
        """Return the open work items of a case, by number."""
        return case.work_items()

    def run_work(self, case: RunningCase, announce: Callable[[Work], None]) -> None:
        """Do the automatic work of a case until it waits or ends."""
        self.engine.announce = announce
        case.run()

    def require_handlers(self, case: RunningCase) -> None:
        """Refuse a case for which a handler is missing; nothing has happened."""
        require(self.specification(self.header(case)), self.engine.names)


@contextmanager
def opened(target: str, *, as_json: bool, handlers: Handlers | None = None, create: bool = False) -> Iterator[Session]:
    """Open a store for one command; one that is not there is made only where `create` says so."""
    given = Handlers() if handlers is None else handlers
    if not create:
        check_there(target)
    store = open_store(target, create=create)
    try:
        with Slow("reading the store", aside=as_json) as progress:
            session = Session(store, target, given.names, progress)
            given.give(session.engine)
            yield session
    finally:
        store.close()


def check_there(target: str) -> None:
    """Refuse a file that is not there, or is empty: opening it would make a store of it."""
    if "://" in target and not target.startswith("sqlite:///"):
        # No file: that it is refused, and why, is the store's to say.
        return
    path = Path(target.removeprefix("sqlite:///").removeprefix("log:"))
    if target == MEMORY:
        raise Failure("a store in memory has no cases that another command made: give --db PATH", NOT_FOUND)
    if not path.exists():
        raise Failure(f"there is no store {target}; `knhk run FILE --db {target}` makes one", NOT_FOUND)
    if path.is_file() and not path.stat().st_size:
        raise Failure(f"{target} is an empty file, not a store", NOT_FOUND)


def short(case_id: str) -> str:
    """Return the part of a case's id that people type: the end of the ids that KNHK makes, which ascend with time."""
    return case_id[-_SHORT:] if _MADE_HERE.fullmatch(case_id) else case_id
