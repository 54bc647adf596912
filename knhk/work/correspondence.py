"""Events for whom they may concern: which running cases an event is meant for, and that each keeps it once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote, unquote

import attrs

from knhk._cache import CaseCache
from knhk._codes import Phase
from knhk._lower import Program, TaskPlan
from knhk._questions import keeps_event
from knhk.case import Case
from knhk.errors import ConcurrentUpdate, DataError, IdempotencyConflict, IllegalTransition, KnhkError, QuarantinedCase
from knhk.ports import CaseHeader, Document
from knhk.work.correlation import KEYS, key_of, under
from knhk.work.outbox import all_documents

EVENTS: Final = "events"
"""The collection of the events with an idempotency key, and of the cases that kept them."""

REMEMBERED: Final = 7 * 86_400_000
"""Milliseconds for which an idempotency key is known."""

_LISTENING: Final = (Phase.RUNNING, Phase.FAILED, Phase.DEADLOCKED, Phase.SUSPENDED)
_ATTEMPTS: Final = 5


@attrs.frozen
class Message:
    """An event for whom it may concern; the arguments are those of `Engine.send_event`."""

    name: str
    data: Mapping[str, Any]
    correlate: Mapping[str, Any]
    spec_id: str | None


@attrs.frozen(kw_only=True)
class Delivered:
    """
    What became of an event.

    Args:
        cases: the ids of the cases that kept it, now or when it came before.
        refused: why others could not be asked, by id.
    """

    cases: tuple[str, ...]
    refused: Mapping[str, str]


class Correspondence:
    """Delivers events to running cases."""

    def __init__(self, cache: CaseCache) -> None:
        self._cache = cache
        self._store = cache.store

    def deliver(self, message: Message, key: str | None) -> Delivered:
        """Deliver an event; see `Engine.send_event`."""
        now = self._cache.clock.now()
        self._forget_keys(now)
        known = None if key is None else self._open(message, key, now)
        if known is not None:
            tree = json.loads(known.value)
            if tree["done"]:
                return Delivered(cases=tuple(tree["cases"]), refused={})
        cases: list[str] = []
        refused: dict[str, str] = {}
        for case_id in dict.fromkeys(self._meant(message)):
            try:
                if self._to_case(case_id, message, key, now):
                    cases.append(case_id)
            except (QuarantinedCase, IllegalTransition, ConcurrentUpdate, DataError) as error:
                refused[case_id] = str(error)
        if known is not None and not refused:
            self._close(known, cases)
        return Delivered(cases=tuple(cases), refused=refused)

    # --- who ----------------------------------------------------------------------------------------------------------

    def _meant(self, message: Message) -> Iterator[str]:
        """List the cases that may be meant, some of them perhaps twice."""
        looked_up: set[str] = set()
        for stored in self._store.specifications():
            if message.spec_id not in (None, stored.spec_id):
                continue
            plans = _listeners(self._cache.compiled(stored.spec_id, stored.version).program, message.name)
            if any(each.key is None for each in plans):
                yield from self._running(stored.spec_id, stored.version)
                continue
            for plan in plans:
                prefix = _asked(plan, message)
                if prefix is not None and prefix not in looked_up:
                    looked_up.add(prefix)
                    for document in all_documents(self._store, KEYS, prefix=prefix):
                        yield _case_of(document, prefix)

    def _running(self, spec_id: str, version: str) -> Iterator[str]:
        for phase in _LISTENING:
            after = ""
            while page := self._store.cases(spec_id=spec_id, state=phase.value, after=after):
                yield from (each.case_id for each in page if each.spec_version == version)
                after = page[-1].case_id

    # --- to whom ------------------------------------------------------------------------------------------------------

    def _to_case(self, case_id: str, message: Message, key: str | None, now: int) -> bool:
        """Deliver the event to one case; whether it kept it, now or before."""
        for _ in range(_ATTEMPTS):
            receipt = None if key is None else self._receipt(case_id, key, now)
            if receipt is not None and self._store.document(EVENTS, receipt.key) is not None:
                return True
            with self._cache.hold(case_id) as resident:
                if message.spec_id not in (None, resident.header.spec_id):
                    return False
                try:
                    kept = _kept(resident.case, message, now)
                    self._cache.commit(resident, documents=() if receipt is None or not kept else (receipt,))
                except ConcurrentUpdate:
                    # Somebody else moved the case: what is so now is another case.
                    continue
                except KnhkError:
                    if self._is_so(resident.header):
                        raise
                else:
                    if kept or self._is_so(resident.header):
                        return kept > 0
                self._cache.forget(resident)
        raise ConcurrentUpdate(f"case {case_id} was moved by others {_ATTEMPTS} times; send the event again")

    def _is_so(self, header: CaseHeader) -> bool:
        return self._store.header(header.case_id).version == header.version

    # --- once ---------------------------------------------------------------------------------------------------------

    def _open(self, message: Message, key: str, now: int) -> Document:
        """Return the record of an event with a key, made where there is none."""
        digest = hashlib.sha256(json.dumps(attrs.astuple(message), sort_keys=True).encode()).hexdigest()
        name = quote(key, safe="")
        found = self._store.document(EVENTS, name)
        if found is None:
            value = json.dumps({"digest": digest, "done": False, "cases": []})
            found = Document(collection=EVENTS, key=name, value=value, due=now + REMEMBERED)
            try:
                self._store.write([found])
            except ConcurrentUpdate:
                return self._open(message, key, now)
        if json.loads(found.value)["digest"] != digest:
            raise IdempotencyConflict(f"idempotency key {key!r} was used with another event")
        return found

    def _close(self, known: Document, cases: list[str]) -> None:
        tree = {**json.loads(known.value), "done": True, "cases": cases}
        try:
            self._store.write([attrs.evolve(known, value=json.dumps(tree), version=known.version + 1)])
        except ConcurrentUpdate:
            # The same event was delivered twice at the same time, and the other was faster.
            return

    def _receipt(self, case_id: str, key: str, now: int) -> Document:
        name = f"{quote(key, safe='')}/{quote(case_id, safe='')}"
        return Document(collection=EVENTS, key=name, value="", due=now + REMEMBERED)

    def _forget_keys(self, now: int) -> None:
        old = self._store.documents(EVENTS, due=now)
        if old:
            try:
                self._store.write([], removed=old)
            except ConcurrentUpdate:
                # Another engine forgets them at the same time.
                return


def _listeners(program: Program, name: str) -> list[TaskPlan]:
    return [net.plans[task] for net in program.nets if (task := net.listeners.get(name)) is not None]


def _asked(plan: TaskPlan, message: Message) -> str | None:
    """Return where the cases are that a keyed trigger has an event meant for; None: the event has no such key."""
    if plan.key is None:
        return None
    try:
        key = key_of(plan.key[1].evaluate({"event": message.data}))
    except DataError:
        return None
    return None if key is None else under(message.name, key)


def _case_of(document: Document, prefix: str) -> str:
    return unquote(document.key.removeprefix(prefix))


def _kept(case: Case, message: Message, now: int) -> int:
    data = case.state.data
    if any(name not in data or data[name] != value for name, value in message.correlate.items()):
        return 0
    if case.state.phase is Phase.SUSPENDED:
        # Whoever sends it hears that it did not arrive, unless it is meant for others.
        variables = {"data": data, "event": message.data}
        if not any(keeps_event(net, message.name, variables) for net in case.state.nets.values()):
            return 0
    return case.send_event(message.name, message.data, at=now, correlated=True)
