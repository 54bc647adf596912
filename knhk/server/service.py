"""The operations of the service, the same for every protocol: rights first, then the engine, and every call on record.

No workflow logic is here: each operation says in a few lines what it asks the engine.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, suppress
from contextvars import copy_context
from functools import partial
from http import HTTPStatus
from itertools import islice
from typing import Any, Final

from knhk._lower import ANYONE
from knhk.analysis.soundness import AT_REGISTRATION
from knhk.engine import Engine
from knhk.errors import (
    CommandError,
    ConcurrentUpdate,
    HandlerError,
    OutboundRefused,
    UnknownCase,
    UnknownSpecification,
    UnknownWorkItem,
)
from knhk.patterns import patterns
from knhk.ports import Document, ItemRow, Store, StoredSpecification
from knhk.running import RunningCase, WorkItem
from knhk.server import shapes, shaping
from knhk.server.audit import AuditLog, announced, documents_expected, expecting, unrecorded
from knhk.server.identity import Caller
from knhk.server.problems import Problem
from knhk.server.record import Verification, Wanted
from knhk.server.rights import ADMIN, DESIGNER, OPERATOR, VIEWER
from knhk.server.tenants import Tenants, another_was_faster
from knhk.server.working import (
    MOST_JUDGED,
    MOST_RUNS,
    Places,
    Polls,
    claim_work,
    extend_work,
    fail_work,
    list_letters,
    show_letter,
)
from knhk.spec import Specification
from knhk.spec.verdict import Budget
from knhk.work.dead_messages import is_message

CASE_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
LONGEST_PAGE: Final = 1_000
RETIRED: Final = "retired"
VERIFIED_WITHIN: Final = Budget(seconds=5.0)
"""What the verification of a workflow that is not registered may spend."""

_MOST_VERDICTS: Final = 1_024
_OPEN: Final = ("created", "running", "suspended", "failed", "deadlocked")
_ENDED: Final = ("completed", "cancelled")


@contextmanager
def _expecting(case: RunningCase, version: int | None) -> Iterator[None]:
    """Hold a case at the version that its caller has read; raises Problem where it has changed since."""
    try:
        with ExitStack() as held:
            # What waited to be committed before this call is not of this call.
            with unrecorded() as pending:
                held.enter_context(case.expecting(version))
            with announced(pending):
                yield
    except ConcurrentUpdate as error:
        if version is None:
            raise
        raise Problem(kind="precondition-failed", detail=str(error)) from error


class Service:
    """
    What can be asked of the service; each operation takes the caller first.

    Args:
        tenants: the engines.
        audit: the record, for those who may read it.
        deadline: seconds that a call takes at most, about.

    Attributes:
        deadline: as it was given.
        polls: the calls that wait for work.
    """

    def __init__(self, tenants: Tenants, audit: AuditLog | None = None, *, deadline: float = 25.0) -> None:
        self._tenants = tenants
        self._audit = audit
        self._verification = None if audit is None else Verification(audit.record)
        self._soundness: dict[str, shapes.Soundness] = {}
        self._judging = Places(MOST_JUDGED)
        self._runs = Places(MOST_RUNS)
        self.deadline = deadline
        self.polls = Polls()
        self._leaving = False
        self._runners = ThreadPoolExecutor(MOST_RUNS, thread_name_prefix="knhk-execute")

    def leave(self) -> None:
        """Begin nothing any more that takes long; all else is still done."""
        self.polls.end()
        self._leaving = True

    def close(self) -> None:
        """Let what runs end, and nobody wait for work."""
        self.polls.end()
        self._runners.shutdown(wait=True, cancel_futures=True)

    def _engine(self, caller: Caller) -> Engine:
        return self._tenants.engine(caller.tenant)

    # --- workflows ----------------------------------------------------------------------------------------------------

    def workflow_register(self, caller: Caller, specification: Specification) -> tuple[bool, shapes.Registered]:
        """Register a specification; returns whether it is new, and its verdict."""
        engine = self._engine(caller)
        store = engine.store
        key = (specification.id, specification.version)
        retired = store.document(RETIRED, _retired_key(*key))
        known = retired is None and _is_registered(store, *key)
        expecting(HTTPStatus.OK if known else HTTPStatus.CREATED, specification.id)
        done = engine.register(specification)
        new = done.new or retired is not None
        if retired is not None:
            with another_was_faster():
                store.write([], [retired])
        soundness = shaping.soundness(done.soundness)
        self._remember(done.content_hash, soundness)
        return new, shapes.Registered(spec_id=done.spec_id, version=done.version, soundness=soundness)

    def workflow_verify(self, caller: Caller, specification: Specification) -> shapes.Soundness:  # noqa: ARG002
        """Judge a specification; nothing is registered."""
        with self._judging.one():
            return shaping.soundness(specification.verify(budget=VERIFIED_WITHIN))

    def workflow_list(self, caller: Caller, *, limit: int, after: str) -> shapes.Page:
        """List the registered workflows."""
        found = [each for each in self._engine(caller).store.specifications() if not self._retired(caller, each)]
        start = int(after) if after.isdecimal() else 0
        page = found[start : start + limit]
        items = [
            shapes.Workflow(
                spec_id=each.spec_id,
                version=each.version,
                name=str(json.loads(each.text).get("name", "")),
                content_hash=each.content_hash,
            )
            for each in page
        ]
        return shapes.Page(items=items, next=str(start + limit) if len(found) > start + limit else None)

    def workflow_get(self, caller: Caller, spec_id: str, version: str | None) -> shapes.WholeWorkflow:
        """Return one workflow, the latest version where none is named."""
        stored = self._stored(caller, spec_id, version)
        spec = json.loads(stored.text)
        return shapes.WholeWorkflow(
            spec_id=stored.spec_id,
            version=stored.version,
            name=str(spec.get("name", "")),
            content_hash=stored.content_hash,
            spec=spec,
            soundness=self._judged(stored),
        )

    def _judged(self, stored: StoredSpecification) -> shapes.Soundness:
        """Return what was found when a workflow was registered, or find it again; it is the same for the same content."""
        found = self._soundness.get(stored.content_hash)
        if found is None:
            found = shaping.soundness(Specification.from_json(stored.text).verify(budget=AT_REGISTRATION))
            self._remember(stored.content_hash, found)
        return found

    def _remember(self, content_hash: str, found: shapes.Soundness) -> None:
        while len(self._soundness) >= _MOST_VERDICTS:
            self._soundness.pop(next(iter(self._soundness)), None)
        self._soundness[content_hash] = found

    def workflow_remove(self, caller: Caller, spec_id: str, version: str | None) -> None:
        """Let nobody create cases of a workflow any more; refused while cases are open."""
        engine = self._engine(caller)
        stored = self._stored(caller, spec_id, version)
        for state in _OPEN:
            for header in engine.cases(spec_id=spec_id, state=state):
                if header.spec_version == stored.version:
                    raise Problem(kind="conflict", detail=f"case {header.case_id} of this version is {header.state}")
        with another_was_faster():
            key = _retired_key(stored.spec_id, stored.version)
            engine.store.write([Document(collection=RETIRED, key=key, value="{}")])

    def _stored(self, caller: Caller, spec_id: str, version: str | None) -> Any:
        store = self._engine(caller).store
        if version is None:
            all_of = [each for each in store.specifications() if each.spec_id == spec_id]
            found = next((each for each in reversed(all_of) if not self._retired(caller, each)), None)
        else:
            found = store.specification(spec_id, version)
            found = None if self._retired(caller, found) else found
        if found is None:
            raise UnknownSpecification(f"specification {spec_id!r} is not registered")
        return found

    def _retired(self, caller: Caller, stored: Any) -> bool:
        key = _retired_key(stored.spec_id, stored.version)
        return self._engine(caller).store.document(RETIRED, key) is not None

    # --- cases --------------------------------------------------------------------------------------------------------

    def case_create(self, caller: Caller, body: shapes.CreateCase, key: str | None) -> shapes.Case:
        """Create a case, and start it where that is asked for; the same request with the same key is the same case."""
        engine = self._engine(caller)
        stored = self._stored(caller, body.spec_id, body.version)
        case = engine.create_case(
            body.spec_id,
            body.data,
            version=stored.version,
            idempotency_key=None if key is None else f"{caller.subject}\n{key}",
            start=body.start,
        )
        if body.start and case.state == "created":
            case.start()
        return self._case(case)

    def case_list(
        self, caller: Caller, *, spec_id: str | None, state: str | None, limit: int, after: str
    ) -> shapes.Page:
        """List cases by id."""
        engine = self._engine(caller)
        found = list(islice(engine.cases(spec_id=spec_id, state=state, after=after), limit + 1))
        following = found[limit - 1].case_id if len(found) > limit else None
        return shapes.Page(items=[shaping.line(each) for each in found[:limit]], next=following)

    def case_get(self, caller: Caller, case_id: str) -> shapes.Case:
        """Return a case."""
        engine = self._engine(caller)
        return self._case(self._find(engine, case_id))

    def case_history(self, caller: Caller, case_id: str, *, limit: int, after: str) -> shapes.Page:
        """Return what happened in a case, in order."""
        events = self._find(self._engine(caller), case_id).history()
        start = int(after) if after.isdecimal() else 0
        items = [
            shapes.Event(
                sequence=each.sequence,
                at=shaping.time_text(each.at) or "",
                kind=each.kind.value,
                path=each.path,
                details=shaping.details(each.kind, dict(each.details)),
            )
            for each in events[start : start + limit]
        ]
        return shapes.Page(items=items, next=str(start + limit) if len(events) > start + limit else None)

    def case_standing(self, caller: Caller, case_id: str) -> tuple[int, bool]:
        """Return the version of a case, and whether it has ended."""
        header = self._find(self._engine(caller), case_id).header
        return header.version, header.state in _ENDED

    def case_start(self, caller: Caller, case_id: str, expected: int | None) -> shapes.Case:
        """Start a case."""
        return self._do(caller, case_id, expected, lambda case: case.start())

    def case_cancel(self, caller: Caller, case_id: str, expected: int | None) -> shapes.Case:
        """Cancel a case."""
        return self._do(caller, case_id, expected, lambda case: case.cancel())

    def case_suspend(self, caller: Caller, case_id: str, expected: int | None) -> shapes.Case:
        """Hold a case."""
        return self._do(caller, case_id, expected, lambda case: case.suspend())

    def case_resume(self, caller: Caller, case_id: str, expected: int | None) -> shapes.Case:
        """Go on with a case that was held."""
        return self._do(caller, case_id, expected, lambda case: case.resume())

    def case_execute(
        self, caller: Caller, case_id: str, expected: int | None, left: Callable[[], float]
    ) -> shapes.Case:
        """Start a case if needed and do its automatic work until it waits or ends, or the deadline comes or the caller's."""
        if self._leaving:
            raise Problem(kind="draining", headers={"Retry-After": "1"})
        engine = self._engine(caller)
        case = self._find(engine, case_id)
        with _expecting(case, expected):
            if case.state not in ("created", "running"):
                raise Problem(kind="conflict", detail=f"the case is {case.state}", more={"state": case.state})
            if case.state == "created":
                case.start()
        within = min(self.deadline, left())
        end = time.monotonic() + within
        if self._runs.take():
            # In the context of the call, whose entry goes with the first commit; what is left then, the background does.
            work = partial(case.run, wait=self.deadline, until=lambda: time.monotonic() > end)
            run = self._runners.submit(copy_context().run, work)
            run.add_done_callback(lambda _: self._runs.give())
            done, _ = wait([run], timeout=within)
            if done:
                # What a handler failed of is in the case's state and history, which is what was asked for.
                with suppress(HandlerError):
                    run.result()
        return self._case(case)

    def case_event(
        self, caller: Caller, case_id: str, body: shapes.SendEvent, expected: int | None
    ) -> shapes.Delivered:
        """Deliver an event to a case."""
        engine = self._engine(caller)
        case = self._find(engine, case_id)
        with _expecting(case, expected):
            kept = case.send_event(body.name, body.data)
        return shapes.Delivered(kept=kept, case=self._case(case))

    def _find(self, engine: Engine, case_id: str) -> RunningCase:
        if not CASE_ID.fullmatch(case_id):
            raise UnknownCase(f"case {case_id!r} is not in the store")
        return engine.case(case_id)

    def _do(
        self, caller: Caller, case_id: str, expected: int | None, command: Callable[[RunningCase], object]
    ) -> shapes.Case:
        engine = self._engine(caller)
        case = self._find(engine, case_id)
        with _expecting(case, expected):
            command(case)
        return self._case(case)

    def _case(self, case: RunningCase) -> shapes.Case:
        with case.expecting(None):
            view, header = case.view(), case.header
        return shapes.Case(
            **shaping.line_members(header),
            data=view.data,
            marking=view.marking,
            enabled=view.enabled,
            running=view.running,
            problems=view.problems,
            worklets=view.worklets,
            stands_in_for=None if view.principal is None else "{}:{}".format(*view.principal),
        )

    def case_draw(self, caller: Caller, case_id: str) -> str:
        """Return a picture (SVG) of a case with its tokens; raises as `RunningCase.draw`."""
        return self._find(self._engine(caller), case_id).draw()

    # --- work items ---------------------------------------------------------------------------------------------------

    def item_list(
        self,
        caller: Caller,
        *,
        case_id: str | None,
        state: str | None,
        participant: str | None,
        role: str | None,
        limit: int,
        after: str,
    ) -> shapes.Page:
        """List open work items, by case and number; a participant hears of those that are for him."""
        case, _, number = after.rpartition(":")
        start = (case, int(number)) if number.isdecimal() else ("", 0)
        wanted = {
            "case_id": case_id,
            "state": state,
            "by": participant,
            "audience": None if role is None else (f"role:{role}",),
        }
        rows = self._rows(self._engine(caller).store, wanted, start)
        mine = rows if _sees_all(caller) else filter(partial(_is_for, caller), rows)
        items = [shaping.item(each) for each in islice(mine, limit + 1)]
        return shapes.Page(items=items[:limit], next=items[limit - 1].id if len(items) > limit else None)

    def _rows(self, store: Store, wanted: Mapping[str, Any], after: tuple[str, int]) -> Iterator[ItemRow]:
        while page := store.items(**wanted, limit=LONGEST_PAGE, after=after):
            yield from page
            after = (page[-1].case_id, page[-1].number)

    def item_get(self, caller: Caller, item_id: str) -> tuple[int, shapes.WholeItem]:
        """Return the version of a work item's case, and the item with what its work is given."""
        item = self._item(caller, item_id)
        if not _sees_all(caller) and not _is_for(caller, item):
            raise UnknownWorkItem(f"there is no work item {item_id!r}")
        with item.case.expecting(None):
            return item.case.version, shaping.whole_item(item)

    def item_schema(self, caller: Caller, item: shapes.Item) -> Mapping[str, Any] | None:
        """Return the JSON Schema of the data that the result of an item joins; None where there is none that says it."""
        store = self._engine(caller).store
        header = store.header(item.case_id)
        stored = store.specification(header.spec_id, header.spec_version)
        if stored is None:
            return None
        specification = Specification.from_json(stored.text)
        nets, net = specification.nets(), specification.root
        *above, last = [part.partition("#")[0] for part in item.path.split("/")]
        for part in above:
            net = nets[next(task for task in net.tasks if task.id == part).subnet or ""]
        task = next(task for task in net.tasks if task.id == last)
        # With a mapping of its own, what a task gives is not in the words of the case's data.
        return specification.data if task.output is None and task.multiple is None else None

    def item_do(
        self, caller: Caller, item_id: str, expected: int | None, command: Callable[[WorkItem], object]
    ) -> tuple[int, shapes.Item]:
        """Give a work item a command, and return the version of its case and what became of it."""
        known = self._item(caller, item_id)
        case, number = known.case, known.number
        with _expecting(case, expected):
            # As it is now that nobody else can change it.
            item = case.work_item(number)
            if not _runs_all(caller) and not _is_for(caller, item):
                raise Problem(kind="forbidden", detail="this item is not for you")
            command(item)
            return item.case.version, shaping.item(item)

    def recipient(self, caller: Caller, name: str | None) -> str:
        """Return to whom an item is given: to the caller, or by whoever runs cases, to anybody."""
        if name is not None and name != caller.subject and not _runs_all(caller):
            raise Problem(kind="forbidden", detail="give an item to yourself, or delegate it")
        return name or caller.subject

    def _item(self, caller: Caller, item_id: str) -> WorkItem:
        case_id, _, number = item_id.rpartition(":")
        if not number.isdecimal() or len(number) > 12:
            raise UnknownWorkItem(f"there is no work item {item_id!r}")
        return self._find(self._engine(caller), case_id).work_item(int(number))

    # --- work of workers elsewhere ------------------------------------------------------------------------------------

    def work_claim(self, caller: Caller, body: shapes.ClaimWork, left: Callable[[], float]) -> shapes.Page:
        """Take external work under a lease, and wait for it where there is none, as long as the caller does."""
        return claim_work(self._engine(caller), self.polls, body, body.worker or caller.subject, left)

    def work_complete(self, caller: Caller, work_id: str, body: shapes.CompleteWork) -> None:
        """Complete claimed work."""
        self._engine(caller).external.complete(work_id, body.token, body.data)

    def work_fail(self, caller: Caller, work_id: str, body: shapes.FailWork) -> shapes.Failed:
        """Say that claimed work has failed."""
        return fail_work(self._engine(caller), work_id, body)

    def work_extend(self, caller: Caller, work_id: str, body: shapes.ExtendWork) -> shapes.Extended:
        """Keep claimed work for longer."""
        return extend_work(self._engine(caller), work_id, body)

    def work_release(self, caller: Caller, work_id: str, body: shapes.ReleaseWork) -> None:
        """Give claimed work back."""
        self._engine(caller).external.release(work_id, body.token)

    def letter_list(self, caller: Caller, wanted: Mapping[str, str | None], *, limit: int, after: str) -> shapes.Page:
        """List work that has failed for good, by case and number."""
        return list_letters(self._engine(caller), wanted, limit=limit, after=after)

    def letter_get(self, caller: Caller, letter_id: str) -> shapes.WholeDeadLetter:
        """Return one with what its work was given, or what the message says."""
        return show_letter(self._engine(caller), letter_id)

    def letter_replay(self, caller: Caller, letter_id: str, _: None) -> None:
        """Give failed work all its attempts anew, or send a message again."""
        _announce_letter(letter_id)
        self._engine(caller).dead_letters.replay(letter_id, by=caller.subject)

    def letter_discard(self, caller: Caller, letter_id: str, body: shapes.Discard) -> None:
        """Give failed work up, or forget a message."""
        _announce_letter(letter_id)
        self._engine(caller).dead_letters.discard(letter_id, by=caller.subject, reason=body.reason)

    # --- webhooks -----------------------------------------------------------------------------------------------------

    def webhook_create(self, caller: Caller, body: shapes.Subscribe) -> shapes.NewWebhook:
        """Tell a URL of events from now on; the secret that signs the messages is shown this once."""
        try:
            made = self._engine(caller).webhooks.subscribe(
                body.url, events=body.events, spec_id=body.spec_id, with_data=body.with_data
            )
        except (OutboundRefused, CommandError, ValueError) as error:
            raise Problem(kind="invalid", detail=str(error)) from error
        return shapes.NewWebhook(**shaping.webhook_members(made), secret=made.secret)

    def webhook_list(self, caller: Caller) -> shapes.Page:
        """List the subscriptions."""
        items = [shapes.Webhook(**shaping.webhook_members(each)) for each in self._engine(caller).webhooks.list()]
        return shapes.Page(items=items, next=None)

    def webhook_remove(self, caller: Caller, webhook_id: str) -> None:
        """End a subscription, with all its messages."""
        webhooks = self._engine(caller).webhooks
        if webhook_id not in {each.id for each in webhooks.list()}:
            raise Problem(kind="not-found")
        webhooks.remove(webhook_id)

    # --- patterns -----------------------------------------------------------------------------------------------------

    def pattern_list(self) -> shapes.Page:
        """List the 43 patterns."""
        return shapes.Page(items=[shaping.pattern(number) for number in patterns], next=None)

    def pattern_get(self, number: int) -> shapes.WholePattern:
        """Return a pattern with its net."""
        self._check_pattern(number)
        members = {name: getattr(shaping.pattern(number), name) for name in shapes.Pattern.__struct_fields__}
        return shapes.WholePattern(**members, spec=json.loads(patterns[number].specification.to_json()))

    def pattern_execute(self, number: int, body: shapes.ExecutePattern) -> shapes.PatternRun:
        """Run a case of a pattern's net, in memory, to where its story ends."""
        self._check_pattern(number)
        run = patterns[number].execute(body.variables)
        return shapes.PatternRun(
            number=number,
            name=patterns[number].name,
            outcome=run.outcome,
            trace=list(run.trace),
            variables=dict(run.variables),
        )

    def _check_pattern(self, number: int) -> None:
        if number not in patterns:
            raise Problem(
                kind="not-found", detail=f"there is no pattern {number}; they are numbered 1 to {len(patterns)}"
            )

    # --- instances ----------------------------------------------------------------------------------------------------

    def instance_list(self) -> shapes.Page:
        """List the instances that share the store; none where nothing is shared."""
        items = [
            shapes.Instance(
                id=each.id,
                address=each.address,
                region=each.region,
                state=each.state,
                started=shaping.time_text(each.started) or "",
                until=shaping.time_text(each.until) or "",
                partitions=each.partitions,
            )
            for each in self._tenants.instances()
        ]
        return shapes.Page(items=items, next=None)

    # --- the record ---------------------------------------------------------------------------------------------------

    def audit_read(
        self,
        caller: Caller,
        *,
        subject: str | None,
        operation: str | None,
        since: str | None,
        limit: int,
        after: str,
    ) -> shapes.Page:
        """Return the tenant's part of the record, about as it went on in time; the last half second may be missing."""
        wanted = Wanted(tenant=caller.tenant, subject=subject, operation=operation, since=shaping.milliseconds(since))
        found, following = self._record().record.page(wanted, limit=limit, after=after)
        items = [
            shapes.AuditEntry(
                writer=each.writer,
                sequence=each.sequence,
                hash=each.hash,
                at=shaping.time_text(each.entry.at) or "",
                subject=each.entry.subject,
                operation=each.entry.operation,
                resource=each.entry.resource,
                outcome=each.entry.outcome,
                trace=each.entry.trace,
                region=each.entry.region,
            )
            for each in found
        ]
        return shapes.Page(items=items, next=following)

    def audit_verify(self, *, whole: bool) -> shapes.AuditVerdict:
        """Say whether the record is as it was written: what has come since the last look, or all of it, for a while."""
        self._record().seal()
        assert self._verification is not None
        with self._judging.one():
            found = self._verification.go_on(within=self.deadline / 2, whole=whole)
        return shapes.AuditVerdict(
            intact=found.intact,
            complete=found.complete,
            links=found.links,
            problems=found.problems[:100],
            heads=found.heads,
        )

    def _record(self) -> AuditLog:
        if self._audit is None:
            raise Problem(kind="conflict", detail="this service keeps no record: WORKFLOW_AUDIT_ENABLED is false")
        return self._audit


def _runs_all(caller: Caller) -> bool:
    """Whether a caller may work on every item."""
    return not caller.roles.isdisjoint({OPERATOR, ADMIN})


def _sees_all(caller: Caller) -> bool:
    """Whether a caller may look at every item."""
    return not caller.roles.isdisjoint({VIEWER, OPERATOR, DESIGNER, ADMIN})


def _is_for(caller: Caller, item: ItemRow | WorkItem) -> bool:
    """Whether an item is a participant's: allocated to him, or offered to all, to him, or to one of his groups."""
    if item.by or item.topic:
        return item.by == caller.subject
    audience = {*item.audience, *(f"role:{each}" for each in item.roles)}
    mine = {ANYONE, f"participant:{caller.subject}", *(f"role:{each}" for each in caller.groups)}
    return not audience or not audience.isdisjoint(mine)


def _announce_letter(letter_id: str) -> None:
    """Say what the entry of a call about a dead letter goes with: a message is a document, work is its case's."""
    if is_message(letter_id):
        documents_expected()


def _retired_key(spec_id: str, version: str) -> str:
    return f"{spec_id}@{version}"


def _is_registered(store: Store, spec_id: str, version: str) -> bool:
    try:
        store.specification(spec_id, version)
    except UnknownSpecification:
        return False
    else:
        return True
