"""One command's engine on a store, and cases and work items by the names that people give them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from knhk.cli.failures import NOT_FOUND, USAGE, Failure
from knhk.cli.handlers import HandlerEngine, Handlers, require
from knhk.cli.options import organisation
from knhk.cli.output import Slow, clean
from knhk.errors import UnknownCase, UnknownWorkItem
from knhk.ports import CaseHeader, Store
from knhk.running import RunningCase, WorkItem
from knhk.spec import Specification
from knhk.stores import open_store, without_password

MEMORY: Final = "memory:"

_MADE_HERE: Final = re.compile(r"[0-9a-f]{28}")
_SHORT: Final = 8
_SHOWN: Final = 5


class Session:
    """
    An engine, its store, and what was typed to get there.

    Attributes:
        target: the store's address, as typed, but for a password.
        handlers: what was given with ``--handlers``.
        progress: what is shown where the command takes long.
    """

    def __init__(self, store: Store, target: str, handlers: Sequence[str], progress: Slow) -> None:
        self.store = store
        self.target = without_password(target)
        self.progress = progress
        self.handlers = tuple(handlers)
        self.engine = HandlerEngine(store, organisation())
        self._specifications: dict[tuple[str, str], Specification] = {}

    @property
    def drives(self) -> bool:
        """Whether automatic work can be done."""
        return bool(self.handlers)

    def header(self, case: RunningCase) -> CaseHeader:
        """Return what the store knows of a case without loading it."""
        return self.store.header(case.id)

    def specification(self, header: CaseHeader) -> Specification:
        """Return the specification that a case runs."""
        key = (header.spec_id, header.spec_version)
        if key not in self._specifications:
            self._specifications[key] = Specification.from_json(self.store.specification(*key).text)
        return self._specifications[key]

    def case(self, part: str) -> RunningCase:
        """
        Find a case by its id, a beginning or an end of it that no other has, or any part that no other has.

        Raises:
            UnknownCase: there is none.
            Failure: there are several.
        """
        if not part:
            raise Failure("an empty case id names no case", USAGE)
        try:
            return self.engine.case(part)
        except UnknownCase:
            found = self._cases_with(part)
        if not found:
            raise UnknownCase(f"no case in {self.target} has {part!r} in its id")
        ends = [each for each in found if each.case_id.startswith(part) or each.case_id.endswith(part)]
        found = ends or found
        if len(found) > 1:
            shown = [f"  {each.case_id}  {each.spec_id}  {each.state}" for each in found[:_SHOWN]]
            more = [f"  and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
            raise Failure("\n".join([f"{part!r} is part of the ids of {len(found)} cases:", *shown, *more]), USAGE)
        return self.engine.case(found[0].case_id)

    def _cases_with(self, part: str) -> list[CaseHeader]:
        return [each for each in self.progress.count(self.engine.cases(), "cases seen") if part in each.case_id]

    def item(self, case: RunningCase, name: str) -> WorkItem:
        """Find an open work item of a case by its number or its task; raises UnknownWorkItem."""
        if name.isdecimal():
            return case.work_item(int(name))
        items = case.work_items()
        found = next((each for each in items if each.path == name), None)
        if found is None:
            now = ", ".join(f"{each.number} {clean(each.path)}" for each in items) or "none"
            raise UnknownWorkItem(f"case {case.id} has no open work item {name!r}; open now: {now}")
        return found

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
