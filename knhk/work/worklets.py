"""Driving worklets: what the documents of `knhk.work.calls` ask for is done, each once, wherever a process is killed.

Every document is removed in the transaction that does what it asks for: the commit that creates and starts the worklet's case,
the one that takes its result into the case of the work it replaced, the one that cancels it.
So of several engines one does it, and of two that try the other finds it done.
Where two cases are held at once, the one above is held first.
"""

from __future__ import annotations

import json
import logging
from collections.abc import MutableSequence, Sequence
from typing import Any, Final

import attrs

from knhk._attempts import Failure
from knhk._cache import CaseCache
from knhk._codes import Phase
from knhk._resident import Resident
from knhk.case import Case
from knhk.errors import (
    CommandError,
    ConcurrentUpdate,
    DataError,
    HandlerError,
    KnhkError,
    QuarantinedCase,
    UnknownCase,
    UnknownSpecification,
)
from knhk.journal import decode_batch
from knhk.ports import CaseHeader, Document
from knhk.work.calls import CANCEL, LAUNCH, WORKLETS, worklet_id
from knhk.work.failures import failure_of
from knhk.workitem import ItemState

_LOG = logging.getLogger("knhk.worklets")

PUT_OFF: Final = 3_600_000
"""Milliseconds after which a document is looked at again whose case is set aside."""

_PAGE: Final = 100


def settle(cache: CaseCache, failures: MutableSequence[KnhkError], *, at: int, of: str | None = None) -> int:
    """
    Do what is asked for of worklets.

    Args:
        cache: of the engine.
        failures: is told of work that has failed for good with its worklet, and of what could not be done.
        at: now, in milliseconds since the epoch.
        of: only the worklets of this case, and below; None: all.

    Returns:
        How much that was.
    """
    done = 0
    passed_over: set[str] = set()
    while page := [each for each in _page(cache, at, of, len(passed_over)) if each.key not in passed_over]:
        for document in page:
            # What is not removed by then is not looked at twice.
            passed_over.add(document.key)
            try:
                done += _follow(cache, document, failures)
            except QuarantinedCase as error:
                _LOG.warning("%s of worklet %s waits: %s", document.key.partition("/")[2], document.key, error)
                cache.store.write([attrs.evolve(document, due=at + PUT_OFF, version=document.version + 1)])
            except ConcurrentUpdate:
                # Another engine has done it, or moved one of the cases: then it is there the next time.
                continue
            except KnhkError as error:
                failures.append(error)
    return done


def _page(cache: CaseCache, at: int, of: str | None, passed_over: int) -> Sequence[Document]:
    limit = _PAGE + passed_over
    if of is None:
        return cache.store.documents(WORKLETS, due=at, limit=limit)
    return cache.store.documents(WORKLETS, prefix=f"{of}.", limit=limit)


def _follow(cache: CaseCache, document: Document, failures: MutableSequence[KnhkError]) -> int:
    child, _, _ = document.key.rpartition("/")
    told: dict[str, Any] = json.loads(document.value)
    if told["do"] == LAUNCH:
        _launch(cache, document, child, told, failures)
    elif told["do"] == CANCEL:
        _cancel(cache, document, child, compensate=told.get("compensate", True))
    else:
        _take(cache, document, child, told, failures)
    return 1


def _launch(
    cache: CaseCache, document: Document, child: str, told: dict[str, Any], failures: MutableSequence[KnhkError]
) -> None:
    try:
        stored = cache.store.specification(told["worklet"])
        header = CaseHeader(
            case_id=child, spec_id=stored.spec_id, spec_version=stored.version, state="created", version=1
        )
        data = _first_data(cache, header, told)
        above = (told["case"], told["item"], told["depth"])
        cache.launch(header, data, removed=(document,), above=above)
    except ConcurrentUpdate as error:
        if cache.store.document(WORKLETS, document.key) != document:
            raise
        # Nobody has launched it: a case has its id that somebody else gave.
        refused: KnhkError = CommandError(f"case {child} is there already: {error}")
    except (UnknownSpecification, DataError, CommandError) as error:
        refused = error
    else:
        return
    with cache.hold(told["case"]) as resident:
        if _waits_for(resident, told["item"], child):
            _fail(cache, resident, told["item"], failure_of(refused, draw=0), failures)
            cache.commit(resident, removed=(document,))
        else:
            cache.store.write([], removed=[document])


def _first_data(cache: CaseCache, header: CaseHeader, told: dict[str, Any]) -> dict[str, Any]:
    """Return what the worklet's case is created with: the error of an exlet too, where its schema has a place for it."""
    data: dict[str, Any] = told["data"]
    if told["error"] is None:
        return data
    whole = {**data, "error": told["error"]}
    check = cache.compiled(header.spec_id, header.spec_version).check
    if check is not None:
        try:
            check(whole)
        except DataError:
            return data
    return whole


def _cancel(cache: CaseCache, document: Document, child: str, *, compensate: bool) -> None:
    launch = cache.store.document(WORKLETS, f"{child}/{LAUNCH}")
    if launch is not None:
        cache.store.write([], removed=[document, launch])
        return
    try:
        cache.catch_up(child)
        with cache.hold(child) as resident:
            case = resident.case
            if case.state.phase not in (Phase.COMPLETED, Phase.CANCELLED):
                case.cancel(at=cache.clock.now(), compensate=compensate)
            if case.owes:
                cache.commit(resident, removed=(document,))
                return
    except UnknownCase:
        _LOG.info("worklet %s was never launched", child)
    cache.store.write([], removed=[document])


def _take(
    cache: CaseCache, document: Document, child: str, told: dict[str, Any], failures: MutableSequence[KnhkError]
) -> None:
    """Take the result of a worklet that has ended; what has not, or is not waited for any more, is left as it is."""
    number = told["item"]
    cache.catch_up(told["case"])
    with cache.hold(told["case"]) as resident:
        live = resident.case.state.phase in (Phase.RUNNING, Phase.FAILED)
        # A case that is held asks again when it goes on.
        if live and resident.case.state.undoing is None and _waits_for(resident, number, child):
            cache.catch_up(child)
            with cache.hold(child) as below:
                if _end(cache, resident, number, below, failures):
                    cache.commit_all([resident, below], removed=(document,))
                    return
        cache.store.write([], removed=[document])


def _end(
    cache: CaseCache, resident: Resident, number: int, below: Resident, failures: MutableSequence[KnhkError]
) -> bool:
    """End the work in whose place a worklet ran, as that has ended; False: it still runs."""
    child, phase = below.case, below.case.state.phase
    name = f"worklet {below.header.spec_id!r} (case {below.header.case_id})"
    if phase is Phase.COMPLETED:
        try:
            resident.case.complete_worklet(number, _changes(cache, below), at=cache.clock.now())
        except (DataError, CommandError) as error:
            _fail(cache, resident, number, failure_of(error, draw=0), failures)
        else:
            resident.worklets.pop(number, None)
    elif phase in (Phase.CANCELLED, Phase.FAILED, Phase.DEADLOCKED):
        text = f"WorkletFailed: {name} {_why(child)}"
        _fail(cache, resident, number, Failure(text=text, kinds=("WorkletFailed",)), failures)
        if phase is not Phase.CANCELLED:
            child.cancel(at=cache.clock.now())
    else:
        return False
    return True


def _why(case: Case) -> str:
    if case.state.phase is not Phase.FAILED:
        return f"is {case.state.phase.value}"
    failed = [item for item in case.state.items.values() if item.failure is not None]
    reasons = [f"{case.path(item)}: {item.failure[0]}" for item in failed if item.failure is not None]
    return f"failed: {'; '.join(reasons)}"


def _fail(
    cache: CaseCache, resident: Resident, number: int, failure: Failure, failures: MutableSequence[KnhkError]
) -> None:
    path = resident.case.path(resident.case.item(number))
    resident.worklets.pop(number, None)
    if not resident.case.fail_worklet(number, failure, at=cache.clock.now()):
        item = resident.case.item(number)
        reason = failure.text if item.failure is None else item.failure[0]
        failures.append(HandlerError(f"case {resident.header.case_id} {path}: {reason}"))


def _changes(cache: CaseCache, below: Resident) -> dict[str, Any]:
    """Return what a worklet's case added to its first data, or changed in them; its own error is no result."""
    _, (created, *_) = decode_batch(cache.store.history(below.header.case_id)[0])
    given: dict[str, Any] = created[1]
    return {name: value for name, value in below.case.state.data.items() if name not in given or given[name] != value}


def _waits_for(resident: Resident, number: int, child: str) -> bool:
    item = resident.case.state.items.get(number)
    replaced = item is not None and item.state is ItemState.REPLACED
    return replaced and item is not None and worklet_id(resident.header.case_id, item) == child
