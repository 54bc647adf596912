"""One case, as its user sees it: commands, its work items, and a look at its state and history."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any, Literal, TypeVar

import attrs

from knhk._attempts import Failure
from knhk._codes import Phase
from knhk._commits import item_row
from knhk._kernel import Net
from knhk._lower import Program
from knhk._migration import Renaming
from knhk._plain import whole_copy
from knhk._resident import Resident
from knhk._sharing import TRIES, elsewhere, pauses
from knhk.case import Case
from knhk.errors import CommandError, ConcurrentUpdate, HandlerError, KnhkError, MissingExtra
from knhk.events import Event
from knhk.history import narrate
from knhk.migration import migrate_case, refuse
from knhk.ports import CaseHeader, ItemRow
from knhk.spec.specification import PictureFormat
from knhk.work.authority import Request
from knhk.work.calls import open_worklets
from knhk.work.case_work import CaseWork
from knhk.work.failures import raise_first, shortened
from knhk.work.people_item import PeopleItem
from knhk.work.worklets import settle
from knhk.workitem import ItemState

_T = TypeVar("_T")


@attrs.frozen(kw_only=True)
class CaseView:
    """
    A case at one moment.

    Args:
        data: a copy of its data.
        marking: the tokens of each running net, as `RunningCase.marking`.
        enabled, running: the paths of what is offered and of what has started.
        problems: what needs a person's eye.
        worklets, principal: as `RunningCase.worklets` and `principal`.
    """

    data: dict[str, Any]
    marking: dict[str, dict[str, int]]
    enabled: list[str]
    running: list[str]
    problems: list[str]
    worklets: list[str]
    principal: tuple[str, int] | None


class RunningCase(CaseWork):
    """
    One case.

    It is a name, not the case itself: any number of them may stand for the same case, in any thread.

    Attributes:
        id: the case's id.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<case {self.id}>"

    # --- looking ------------------------------------------------------------------------------------------------------

    @property
    def state(self) -> str:
        """created, running, compensating, suspended, completed, cancelled, failed or deadlocked."""
        still = self._cache.glance(self.id)
        if still is not None:
            return still[0].state
        with self._cache.hold(self.id) as resident:
            return resident.state

    @property
    def data(self) -> dict[str, Any]:
        """A copy of the case's data."""
        still = self._cache.glance(self.id)
        if still is not None:
            return whole_copy(still[1])
        with self._cache.hold(self.id) as resident:
            return whole_copy(resident.data)

    @property
    def enabled(self) -> list[str]:
        """The paths of the tasks that are offered for starting."""
        return self._look(lambda case: case.enabled())

    @property
    def running(self) -> list[str]:
        """The paths of the started tasks and instances."""
        return self._look(lambda case: case.running())

    @property
    def marking(self) -> dict[str, dict[str, int]]:
        """The tokens: by path of the net (the root's is ``""``), by condition that holds any."""
        return self._look(lambda case: case.marking())

    @property
    def problems(self) -> list[str]:
        """What needs a person's eye, such as an OR-join that could not be decided within its budget."""
        return self._look(lambda case: case.problems())

    @property
    def next_due(self) -> int | None:
        """
        When something comes due, in milliseconds since the epoch; None: nothing.

        A timer, a retry, the end of a claim, or that an open breaker lets probes of work through which it holds back.
        """

        def earliest(case: Case) -> int | None:
            if case.state.phase is not Phase.RUNNING:
                return None
            due = case.next_due()
            times = [*self._breakers_due(case), *(() if due is None else (due.at,))]
            return min(times, default=None)

        return self._look(earliest)

    def view(self) -> CaseView:
        """Return the case as it is at one moment."""

        def look(case: Case) -> CaseView:
            return CaseView(
                data=whole_copy(case.state.data),
                marking=case.marking(),
                enabled=case.enabled(),
                running=case.running(),
                problems=case.problems(),
                worklets=[*open_worklets(self.id, case).values()],
                principal=_principal(case),
            )

        return self._look(look)

    @property
    def version(self) -> int:
        """The number of the case's commits; every change makes it larger."""
        return self.header.version

    @property
    def header(self) -> CaseHeader:
        """What the store lists of the case, after everything that waited to be stored."""
        with self._cache.hold(self.id) as resident:
            self._cache.commit(resident)
            return resident.header

    @contextlib.contextmanager
    def expecting(self, version: int | None) -> Iterator[None]:
        """
        Hold the case, at this version (None: at any), so that nobody comes between a look and the command that it led to.

        Raises:
            ConcurrentUpdate: the case has changed since.
        """
        with self._cache.hold(self.id) as resident:
            if version is not None:
                self._cache.commit(resident)
                if resident.header.version != version:
                    message = f"case {self.id} is at version {resident.header.version}, not {version}: read it again"
                    raise ConcurrentUpdate(message)
                resident.bound += 1
            try:
                yield
            finally:
                resident.bound -= version is not None

    @property
    def worklets(self) -> list[str]:
        """The ids of the cases that run as worklets in the place of its work, in the order of that work."""
        return self._look(lambda case: [*open_worklets(self.id, case).values()])

    @property
    def principal(self) -> tuple[str, int] | None:
        """The case id and number of the work in whose place it runs as a worklet; None: it is nobody's."""
        return self._look(_principal)

    def work_items(self, *, state: str | None = None) -> list[WorkItem]:
        """Return the open work items of people and external workers, and failed ones of handlers, by number."""

        def rows(case: Case) -> list[ItemRow]:
            return [item_row(self.id, case, number) for number in sorted(case.state.items)]

        return [WorkItem(self, row) for row in self._look(rows) if state in (None, row.state)]

    def work_item(self, number: int) -> WorkItem:
        """Return an open work item by its number; raises UnknownWorkItem."""
        return WorkItem(self, self._look(lambda case: item_row(self.id, case, case.item(number).number)))

    def history(self) -> list[Event]:
        """Return what happened, from the creation on, in order."""
        with self._cache.hold(self.id) as resident:
            # What waits for the commit of what follows has happened too.
            self._cache.commit(resident)
            header = resident.header
        compiled = self._cache.compiled(header.spec_id, header.spec_version)

        def version(name: str) -> tuple[Program, Sequence[Net]]:
            other = self._cache.compiled(header.spec_id, name)
            return other.program, other.kernels

        return narrate(compiled.program, compiled.kernels, self._cache.store.history(self.id), version)

    def draw(
        self,
        format: PictureFormat = "svg",  # noqa: A002 - the word that users know
        *,
        overlay: Literal["tokens", "history", "none"] = "tokens",
        net: str | None = None,
    ) -> str:
        """
        Return a picture of the case: where it is, or what happened in it; see `knhk.formats.draw`.

        Args:
            format: ``svg`` (needs the extra ``draw``), ``mermaid`` or ``dot``.
            overlay: what lies on the nets.
            net: only this net.

        Raises:
            ValueError: there is no such format, overlay or net, or a net is too large for SVG.
            MissingExtra: SVG is asked for, and pygraphviz is not installed.
        """
        overlays = ("tokens", "history", "none")
        if overlay not in overlays:
            raise ValueError(f"an overlay is {', '.join(overlays)}, not {overlay!r}")
        picture = import_module("knhk.formats.picture")
        # One look for both: a migration in between would part them.
        specification, tokens = self._look(lambda case: (case.state.program.specification, picture.tokens_of(case)))
        drawn: str = picture.draw(
            specification,
            format,
            net=net,
            tokens=tokens if overlay == "tokens" else None,
            history=self.history() if overlay == "history" else None,
        )
        return drawn

    def _repr_svg_(self) -> str | None:
        """Return what a notebook shows; None, which is the text, where SVG cannot be made."""
        try:
            return self.draw()
        except (MissingExtra, ValueError):
            return None

    # --- commands -----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Put the first token into the root net, and let everything happen that happens by itself."""
        self._do(lambda case, at: case.start(at=at), "start")

    def run(self, *, wait: float | None = None, until: Callable[[], bool] | None = None) -> RunningCase:
        """
        Start the case if needed, then do its automatic work until it waits or ends.

        A handler's attempt and the result of the one before it are committed before it starts; replayable tasks leave
        both to the commit of what follows.
        Work whose handler another thread runs at this moment is left to it.
        Where worklets run in the place of its work, theirs is done too, and their results are taken.
        A handler that raised and is tried again by itself raises nothing here: `history` tells of the attempt, the other work
        is done, and the case waits (`next_due`); this, or `Engine.tick`, makes the next attempt when its wait is over.
        Where several instances share the store and another has the case's work, that one does it, and this waits for it; what
        fails there is in the history, and raises nothing here.

        Args:
            wait: for so many seconds at most another instance is waited for; None: as long as it takes.
            until: is asked before each handler; once it is true, the rest of the work stays for the next `run`.

        Raises:
            HandlerError: a handler raised at its last attempt, or no worklet could be called; the item has failed, the other work
                was done first.
            CommandError: the work is for another instance, and there is none.
        """
        return self._run(self._cache.pin(self.id), wait, until)

    def _run(
        self, resident: Resident, wait: float | None = None, until: Callable[[], bool] | None = None
    ) -> RunningCase:
        """Run the case, which the caller has pinned, as `run`."""
        failures: list[KnhkError] = []
        sharing = self._cache.sharing
        if sharing is None:
            self._run_here(resident, failures, until)
        else:
            pinned: Resident | None = resident
            for pause in pauses(wait):
                with elsewhere():
                    self._run_here(pinned or self._cache.pin(self.id), failures, until)
                pinned = None
                if not sharing.waits_for_others(self.id):
                    break
                time.sleep(pause)
        if failures:
            raise_first(failures)
        return self

    def _run_here(self, resident: Resident, failures: list[KnhkError], until: Callable[[], bool] | None = None) -> None:
        """Start the case if needed, and do its automatic work as far as it is to be done here; the caller has pinned it."""
        try:
            self._do_work(resident, failures, until)
            if resident.worklets:
                self._do_worklets(resident, failures, until)
        finally:
            self._cache.unpin(resident)

    def _do_work(self, resident: Resident, failures: list[KnhkError], until: Callable[[], bool] | None = None) -> None:
        while True:
            if resident.express is not None and until is None:
                ended, failure = self._go_by_express(resident)
                if failure is not None:
                    failures.append(failure)
                if ended:
                    break
            if until is not None and until():
                break
            job = self.next_job(failures)
            if job is None:
                break
            try:
                output = self.call(job)
            except Exception as error:  # noqa: BLE001 - whatever user code raises is the failure of its item
                failure = self.fail(job, error)
            except KeyboardInterrupt:
                self.hand_back(job, "the run was interrupted")
                raise
            except BaseException:
                self.abandon(job)
                raise
            else:
                failure = self.finish(job, output)
            if failure is not None:
                failures.append(failure)

    def _do_worklets(
        self, resident: Resident, failures: list[KnhkError], until: Callable[[], bool] | None = None
    ) -> None:
        """Do the work of the worklets that run in the place of the case's, and what follows here from their ends."""
        told: dict[str, KnhkError] = {}
        news = True
        while news and not (until is not None and until()):
            found = self.settle(failures)
            for child in self.worklets:
                try:
                    self.sibling(child).run(until=until)
                except (CommandError, HandlerError) as error:
                    told[child] = error
            news = found + self.settle(failures) > 0
            self._do_work(resident, failures, until)
        # What ended a worklet is told by the failure of the work that it stood for.
        failures += [told[child] for child in self.worklets if child in told]

    def settle(self, failures: list[KnhkError]) -> int:
        """Launch the worklets of the case that are asked for, take the results of those that ended; returns how many."""
        return settle(self._cache, failures, at=self._cache.clock.now(), of=self.id)

    def sibling(self, case_id: str) -> RunningCase:
        """Return another case of the same engine."""
        return RunningCase(self._cache, self._handlers, case_id)

    def cancel(self, *, compensate: bool = True) -> None:
        """
        Remove everything and end the case as cancelled.

        Args:
            compensate: whether what has completed is undone first, where its task says how (`compensate`), and what completed
                in the worklets that run in the place of its work.
                Then the case is compensating until `run`, or a background runner, has done that work.
        """
        self._do(lambda case, at: case.cancel(at=at, compensate=compensate), "cancel")

    def suspend(self) -> None:
        """Hold the case until `resume`."""
        self._do(lambda case, at: case.suspend(at=at), "suspend")

    def resume(self) -> None:
        """Go on after `suspend`."""
        self._do(lambda case, at: case.resume(at=at), "resume")

    def migrate(
        self,
        version: str,
        *,
        tasks: Mapping[str, str] | None = None,
        conditions: Mapping[str, str] | None = None,
        nets: Mapping[str, str] | None = None,
    ) -> None:
        """
        Move the case to another registered version of its specification, as `Engine.migrate` does many.

        Raises:
            MigrationRefused: it has no place there, for all the reasons that it lists; it stays as it is.
            UnknownSpecification: there is no such version.
        """
        header = self._cache.store.header(self.id)
        target = self._cache.compiled(header.spec_id, version)
        renaming = Renaming(tasks=tasks or {}, conditions=conditions or {}, nets=nets or {})
        refuse(migrate_case(self._cache, header, target, renaming))

    def send_event(self, name: str, data: Mapping[str, Any] | None = None) -> int:
        """Deliver an event; returns how many running nets kept it."""
        plain = self._cache.plain(data, "the event's data")
        return self._do(lambda case, at: case.send_event(name, plain, at=at), "event")

    def tick(self, now: int | None = None) -> int:
        """
        Do what is due in this case, in deadline order, as `Engine.tick`; returns how much that was.

        Where several instances share the store and another has the case's work, that one does it, and this does nothing.

        Raises:
            DataError, LimitExceeded: a timer's task could not run; those that ran before it are kept.
        """
        tenure = self._cache.tenure(self.id)
        if tenure is None and self._cache.sharing is not None:
            return 0
        with self._cache.hold(self.id) as resident:
            resident.work_under(tenure)
            try:
                return resident.case.advance(at=self._cache.clock.now() if now is None else now)
            finally:
                self._cache.commit(resident)

    def start_task(self, path: str, *, by: str = "") -> None:
        """Start an offered task."""

        def start(case: Case, at: int) -> None:
            self._authorise_at(case, path, "start", by)
            case.start_task(path, at=at, by=by)

        self._do(start, "start task")

    def complete_task(self, path: str, output: Mapping[str, Any] | None = None, *, by: str = "") -> None:
        """Complete a started task or instance (an offered one is started first)."""
        plain = {} if output is None else self._cache.plain(output, "the output")

        def complete(case: Case, at: int) -> None:
            self._authorise_at(case, path, "complete", by)
            case.complete_task(path, plain, at=at, by=by)

        self._do(complete, "complete task")

    def cancel_task(self, path: str) -> None:
        """Abort a running task, or withdraw an enabled or waiting one."""
        self._do(lambda case, at: case.cancel_task(path, at=at), "cancel task")

    def add_instance(self, path: str, element: Any = None) -> None:
        """Start one more instance of a running dynamic multiple-instance task."""
        self._do(lambda case, at: case.add_instance(path, element, at=at), "add instance")

    def close_instances(self, path: str) -> None:
        """Allow no further instances of a running dynamic multiple-instance task."""
        self._do(lambda case, at: case.close_instances(path, at=at), "close instances")

    def complete_instances(self, path: str) -> None:
        """Force a multiple-instance task to complete."""
        self._do(lambda case, at: case.complete_instances(path, at=at), "complete instances")

    def retry_failed(self) -> int:
        """Give every failed item another attempt (made by the next `run`); returns how many there were."""

        def retry(case: Case, at: int) -> int:
            failed = [
                item.number
                for item in case.state.items.values()
                if item.state is ItemState.FAILED and (case.state.undoing is None or item.undoes is not None)
            ]
            for number in failed:
                case.change_item(number, "retry", at=at)
            return len(failed)

        return self._do(retry, "retry")

    # --- inside -------------------------------------------------------------------------------------------------------

    def _authorise(self, case: Case, number: int | None, request: Request) -> None:
        """Refuse a participant's request, where a directory is there to ask; the case itself refuses what is not open."""
        authority = self._cache.authority
        item = None if number is None else case.state.items.get(number)
        if authority is not None and item is not None:
            authority.check(case, item, request)
        elif authority is None and request.command in ("pile", "chain"):
            raise CommandError(f"cannot {request.command}: the engine has no directory (Engine(directory=...))")

    def _authorise_at(self, case: Case, path: str, command: str, by: str) -> None:
        if self._cache.authority is not None:
            self._authorise(case, case.item_at(path), Request(command, by))

    def _pile(self, number: int, by: str, *, piled: bool) -> None:
        people = self._cache.people
        task = self._look(lambda case: case.plan(case.item(number)).task.id)
        if people is not None:
            people.pile(f"{self._cache.store.header(self.id).spec_id}/{task}", by, piled=piled)

    def _look(self, question: Callable[[Case], _T]) -> _T:
        with self._cache.hold(self.id) as resident:
            return question(resident.case)

    def _do(self, command: Callable[[Case, int], _T], name: str = "command") -> _T:
        """Do a command; its name is for whoever traces it."""
        del name
        cache = self._cache
        # Alone nobody else is expected, and who comes second is told; among several it is the rule, and costs a try.
        alone = cache.sharing is None
        tries, bound = 2 if alone else TRIES, 0
        while True:
            tries -= 1
            try:
                with cache.hold_for_command(self.id) as resident:
                    bound = resident.bound
                    try:
                        answer = command(resident.case, cache.clock.now())
                    except CommandError:
                        # Where somebody else has moved the case in the store, what was refused may be right there.
                        if not alone or not tries or cache.is_current(resident):
                            raise
                        continue
                    cache.commit(resident)
                    return answer
            except ConcurrentUpdate:
                if alone or not tries or bound:
                    raise


class WorkItem(PeopleItem):
    """
    An open piece of work of a case, as it was when somebody looked.

    Attributes:
        number: unique in its case.
        path: where it stands: ``ship/pick``, ``notify#2``.
        state: offered, allocated, started, suspended or failed.
        by: the participant it is allocated to or was started by; "" for nobody.
        roles, topic: who may do it.
        audience: whom it is offered to, each as ``role:clerk`` or ``participant:ann``.
        priority: what its escalation has made of it; 0 at first.
    """

    def __init__(self, case: RunningCase, row: ItemRow) -> None:
        self._case = case
        self.case_id = row.case_id
        self.number = row.number
        self.path = row.path
        self.state = row.state
        self.by = row.by
        self.roles: Sequence[str] = row.roles
        self.topic = row.topic
        self.audience: Sequence[str] = row.audience
        self.priority = int(row.details.get("priority", 0))

    @property
    def draft(self) -> dict[str, Any]:
        """What was saved of its output."""

        def saved(case: Case) -> dict[str, Any]:
            post = case.state.people.posts.get(self.number)
            return {} if post is None or post.draft is None else self._plain(post.draft, "the draft")

        return self._case._look(saved)

    @property
    def case(self) -> RunningCase:
        """The case that it belongs to."""
        return self._case

    def __repr__(self) -> str:
        return f"<work item {self.number} {self.path} {self.state}>"

    @property
    def data(self) -> dict[str, Any]:
        """What the work is given now: the case's data, or what the task's input mapping makes of them; raises DataError."""
        return self._case._look(lambda case: whole_copy(case.work_data(self.number)))

    def start(self, *, by: str = "") -> None:
        """Take the work up; a multiple-instance task starts all its instances, each an item of its own."""
        self._ask(Request("start", by), lambda case, at: case.start_item(self.number, at=at, by=by), gone="started")

    def complete(self, output: Mapping[str, Any] | None = None, *, by: str = "") -> None:
        """Complete the work (an offered item is started first); `output` joins the case's data."""
        plain = self._case._cache.plain(output, "the output")
        self._ask(Request("complete", by), lambda case, at: case.complete_item(self.number, plain, at=at, by=by))

    def suspend(self, *, by: str = "") -> None:
        """Lay started work aside."""
        self._ask(Request("suspend", by), lambda case, at: case.change_item(self.number, "suspend", at=at))

    def resume(self, *, by: str = "") -> None:
        """Take suspended work up again."""
        self._ask(Request("resume", by), lambda case, at: case.change_item(self.number, "resume", at=at))

    def fail(self, reason: str = "", *, error: str = "", by: str = "") -> None:
        """
        Say that started work has failed.

        Where its task has a retry policy and attempts remain, it is tried again by itself after the wait: external work is
        offered again.
        Else its error takes the error flow that names it, or the item stays open until it is retried or its case cancelled.

        Args:
            reason: what people are told of it.
            error: the name that error flows may have for it; "" is ``Failed``.
            by: who says so; external work that another has now is not failed by it.
        """

        def failed(case: Case, at: int) -> None:
            kinds = (error,) if error else ()
            failure = Failure(text=shortened(reason), kinds=kinds, draw=self._case._handlers.chance.random())
            case.fail_attempt(self.number, failure, at=at, by=by)

        self._ask(Request("fail", by), failed)

    def retry(self, *, by: str = "") -> None:
        """Start failed work once more."""
        self._ask(Request("retry", by), lambda case, at: case.change_item(self.number, "retry", at=at))

    def _plain(self, data: Mapping[str, Any], what: str) -> dict[str, Any]:
        return self._case._cache.plain(data, what)

    def _pile(self, by: str, *, piled: bool) -> None:
        self._case._pile(self.number, by, piled=piled)

    def _ask(self, request: Request, command: Callable[[Case, int], None], *, gone: str = "completed") -> None:
        """Do a command of a participant, if he may give it."""

        def permitted(case: Case, at: int) -> None:
            self._case._authorise(case, self.number, request)
            command(case, at)

        self._do(permitted, gone=gone, name=f"{request.command} item")

    def _do(self, command: Callable[[Case, int], None], *, gone: str, name: str) -> None:
        def then_look(case: Case, at: int) -> ItemRow | None:
            command(case, at)
            return item_row(self.case_id, case, self.number) if self.number in case.state.items else None

        row = self._case._do(then_look, name)
        if row is not None:
            self.state, self.by = row.state, row.by
        else:
            self.state = gone


def _principal(case: Case) -> tuple[str, int] | None:
    found = case.state.principal
    return None if found is None else (found.case_id, found.item)
