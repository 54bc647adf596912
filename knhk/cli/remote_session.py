"""A service as a place where cases are: what `knhk.cli.port` asks for, by the client."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from knhk.cli.failures import USAGE, Failure
from knhk.cli.output import Slow
from knhk.cli.port import Place
from knhk.cli.remote_letters import RemoteLetters
from knhk.cli.remote_pages import LONGEST_PAGE, milliseconds, pages
from knhk.client import Case, CaseLine, Client, Item
from knhk.errors import IllegalTransition
from knhk.events import Event, EventKind
from knhk.ports import CaseHeader
from knhk.spec import Specification
from knhk.work.handlers import Work


class RemoteItem:
    """A work item of a service; whose command it is, the token says."""

    def __init__(self, client: Client, item: Item, changed: Callable[[], None]) -> None:
        self._client, self._changed = client, changed
        self.id, self.case_id, self.number, self.path = item.id, item.case_id, item.number, item.path
        self.state, self.by, self.topic = item.state, item.by, item.topic
        self.roles: Sequence[str] = item.roles
        self.audience: Sequence[str] = item.audience

    def start(self, *, by: str = "") -> None:
        """Take it up."""
        self._do(by, self._client.items.start)

    def complete(self, output: Mapping[str, Any] | None = None, *, by: str = "") -> None:
        """Complete it."""
        self._do(by, self._client.items.complete, output)

    def suspend(self, *, by: str = "") -> None:
        """Lay it aside."""
        self._do(by, self._client.items.suspend)

    def resume(self, *, by: str = "") -> None:
        """Take it up again."""
        self._do(by, self._client.items.resume)

    def fail(self, *, by: str = "") -> None:
        """Say that it has failed."""
        self._do(by, self._client.items.fail)

    def skip(self, *, by: str = "") -> None:
        """Complete it without its being done."""
        self._do(by, self._client.items.skip)

    def allocate(self, to: str, *, by: str = "") -> None:
        """Give it to somebody."""
        self._do(by, self._client.items.allocate, to)

    def offer(self, to: Sequence[str] | None = None, *, by: str = "") -> None:
        """Give it back to all who may do it."""
        if to:
            raise Failure("--to is for a store: a service offers an item to all who may do it", USAGE)
        self._do(by, self._client.items.offer)

    def delegate(self, to: str, *, by: str = "") -> None:
        """Hand it on."""
        self._do(by, self._client.items.delegate, to)

    def _do(self, by: str, command: Callable[..., object], *rest: Any) -> None:
        if by:
            raise Failure("--by is for a store: a service takes the name from the token", USAGE)
        command(self.id, *rest)
        self._changed()


class RemoteCase:
    """A case of a service, as it was when it was last heard of."""

    def __init__(self, client: Client, case: Case) -> None:
        self._client = client
        self._case: Case | None = case
        self.id = case.case_id

    @property
    def line(self) -> Case:
        """What the service says of it, asked anew after a command on one of its items."""
        if self._case is None:
            self._case = self._client.cases.get(self.id)
        return self._case

    @property
    def state(self) -> str:
        """Running, completed, ..."""
        return self.line.state

    @property
    def data(self) -> dict[str, Any]:
        """Its data."""
        return self.line.data

    @property
    def enabled(self) -> list[str]:
        """The paths of what is offered."""
        return self.line.enabled

    @property
    def running(self) -> list[str]:
        """The paths of what has started."""
        return self.line.running

    @property
    def marking(self) -> dict[str, dict[str, int]]:
        """The tokens of each running net."""
        return self.line.marking

    @property
    def problems(self) -> list[str]:
        """What needs a person's eye."""
        return self.line.problems

    @property
    def worklets(self) -> list[str]:
        """The cases in the place of its work."""
        return self.line.worklets

    @property
    def principal(self) -> tuple[str, int] | None:
        """The work in whose place it runs."""
        if self.line.stands_in_for is None:
            return None
        case, _, number = self.line.stands_in_for.rpartition(":")
        return case, int(number)

    def items(self) -> list[RemoteItem]:
        """Return its open work items, by number."""
        found = pages(lambda cursor: self._client.items.list(case_id=self.id, limit=LONGEST_PAGE, cursor=cursor))
        return [RemoteItem(self._client, each, self._forget) for each in found]

    def history(self) -> list[Event]:
        """Return what happened."""
        found = pages(lambda cursor: self._client.cases.history(self.id, limit=LONGEST_PAGE, cursor=cursor))
        return [
            Event(
                sequence=each.sequence,
                at=milliseconds(each.at) or 0,
                kind=EventKind(each.kind),
                path=each.path,
                details={name: milliseconds(value) if name == "due" else value for name, value in each.details.items()},
            )
            for each in found
        ]

    def start(self) -> None:
        """Start it."""
        self._case = self._client.cases.start(self.id)

    def cancel(self, *, compensate: bool = True) -> None:
        """End it."""
        if not compensate:
            raise Failure("--no-compensation is for a store: a service has no such command", USAGE)
        self._case = self._client.cases.cancel(self.id)

    def suspend(self) -> None:
        """Hold it."""
        self._case = self._client.cases.suspend(self.id)

    def resume(self) -> None:
        """Go on."""
        self._case = self._client.cases.resume(self.id)

    def retry_failed(self) -> int:
        """Give what has failed for good all its attempts anew; returns how much that was."""
        letters = [each.id for each in self.items() if each.state == "failed"] if self.state == "failed" else []
        for each in letters:
            self._client.dead_letters.replay(each)
        self._forget()
        return len(letters)

    def send_event(self, name: str, data: Mapping[str, Any] | None = None) -> int:
        """Deliver an event; returns how many running nets kept it."""
        delivered = self._client.cases.send_event(self.id, name, data)
        self._case = delivered.case
        return delivered.kept

    def _forget(self) -> None:
        self._case = None


class RemoteSession(Place[RemoteCase, RemoteItem]):
    """
    A service and its client.

    Args:
        client: asks it.
        servers, token_file: as they were typed.
        progress: what is shown where it takes long.
    """

    automatic = True
    keeps = True
    handlers = ()

    def __init__(self, client: Client, servers: Sequence[str], token_file: str | None, progress: Slow) -> None:
        self._client = client
        self.target = servers[0]
        typed = [f"--server {shlex.quote(each)}" for each in servers]
        self.option = " ".join(typed + ([f"--token-file {shlex.quote(token_file)}"] if token_file else []))
        self.progress = progress
        self.letters = RemoteLetters(client)
        self._specifications: dict[tuple[str, str], Specification] = {}

    def cases(self, *, spec_id: str | None = None, state: str | None = None) -> Iterator[CaseHeader]:
        """List the cases, oldest first."""
        return map(_header, self._client.cases.all(spec_id=spec_id, state=state, limit=LONGEST_PAGE))

    def rows(self, *, state: str | None = None, by: str | None = None) -> Iterator[Item]:
        """List the open work items."""
        items = self._client.items
        return pages(lambda cursor: items.list(state=state, participant=by, limit=LONGEST_PAGE, cursor=cursor))

    def queues(self, participant: str, roles: Sequence[str], state: str | None) -> Iterator[Item]:  # noqa: ARG002 - the port's
        """Refuse: a participant asks for work by a token of his own."""
        raise Failure(
            f"--participant is for a store: a service lists what {participant} may do to a token of {participant}'s",
            USAGE,
        )

    def header(self, case: RemoteCase) -> CaseHeader:
        """Return what is listed of a case."""
        return _header(case.line)

    def specification(self, header: CaseHeader) -> Specification:
        """Return the specification that a case runs."""
        key = (header.spec_id, header.spec_version)
        if key not in self._specifications:
            self._specifications[key] = Specification.from_dict(self._client.workflows.get(*key).spec or {})
        return self._specifications[key]

    def known(self, case_id: str) -> RemoteCase:
        """Return a case by its whole id; raises UnknownCase."""
        return RemoteCase(self._client, self._client.cases.get(case_id))

    def items(self, case: RemoteCase) -> list[RemoteItem]:
        """Return the open work items of a case, by number."""
        return case.items()

    def require_handlers(self, case: RemoteCase) -> None:
        """Accept: the service has the handlers."""

    def run_work(self, case: RemoteCase, announce: Callable[[Work], None]) -> None:  # noqa: ARG002 - the port's
        """Refuse: the service does it by itself."""
        raise IllegalTransition("automatic work of a service is done there", status=case.state, command="run")


def _header(line: CaseLine) -> CaseHeader:
    return CaseHeader(
        case_id=line.case_id,
        spec_id=line.spec_id,
        spec_version=line.spec_version,
        state=line.state,
        due=milliseconds(line.next_due),
        runnable=line.runnable,
        version=line.version,
        quarantined=line.quarantined,
    )
