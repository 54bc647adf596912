"""
How a PostgreSQL store writes: callers that change different things in one transaction, and no answer that is lost for good.

A caller who is refused takes nobody along.
Where the connection breaks before the answer, the server is asked what became of the transaction before the callers are
answered, and it is done again where it is not stored.
Only where the server stays away for longer than `timeout` a caller is told that it is not known.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, Final

from knhk.errors import ConcurrentUpdate, KnhkError, StoreFull, StoreUnavailable
from knhk.stores import _postgres_steps
from knhk.stores._group import Caller, another, settle
from knhk.stores._postgres_connections import Connections, Patience, broke, state_of
from knhk.stores._postgres_input import Call, together
from knhk.stores._postgres_queries import Queries
from knhk.stores._postgres_schema import OUTRUN, RACED, UNKNOWN_WRITER
from knhk.stores._postgres_session import Request
from knhk.stores._postgres_steps import Step

_ATTEMPTS: Final = 5
_AGAIN: Final = frozenset({RACED, UNKNOWN_WRITER, "40001", "40P01"})
_LOCKED: Final = "55P03"
_NOBODY: Final = b"[]"


class Writer:
    """
    Stores groups, one after the other, and has a row among the server's `writers`.

    Args:
        connections: whose it takes.
        queries: the statements.
    """

    def __init__(self, connections: Connections, queries: Queries) -> None:
        self._connections = connections
        self._queries = queries
        self._writer = 0
        self._transaction = 0
        self._in_doubt = False

    def write(self, group: Sequence[Caller]) -> None:
        """Store a group: callers that change different things share a transaction, the others follow in their order."""
        for callers in _apart(group):
            self._write_together(callers)
            settle(callers)

    def _write_together(self, callers: Sequence[Caller]) -> None:
        """Store callers in one transaction, or, where that fails for a reason of one of them, each by itself."""
        try:
            outcomes = self._transact([each.prepared for each in callers])
        except KnhkError as error:
            if len(callers) > 1 and _is_of_one(error):
                for each in callers:
                    self._write_together([each])
            else:
                for each in callers:
                    each.error = another(error)
        except BaseException:
            self._tell_interrupted(callers)
            raise
        else:
            for each, refusal in zip(callers, outcomes, strict=True):
                each.error = refusal

    def _tell_interrupted(self, callers: Sequence[Caller]) -> None:
        """Tell callers whose leader was interrupted what is stored, where that can be known."""
        if self._in_doubt:
            with suppress(StoreUnavailable):
                refused = self._settle(Patience(self._connections.address.timeout))
                if refused is not None:
                    for number in refused:
                        callers[number].error = StoreUnavailable("the commit was abandoned; nothing was written")
                    settle(callers)

    def _transact(self, calls: Sequence[Call | Step]) -> list[KnhkError | None]:
        """
        Store calls in one transaction; return for each None, or why it was left out.

        Raises:
            KnhkError: nothing is stored, or, where the message says so, it is not known.
        """
        steps = [each for each in calls if isinstance(each, Step)]
        # The first step of a case goes the short way alone.
        if len(steps) == len(calls) and (len(steps) == 1 or all(each.commit.expected for each in steps)):
            try:
                return self._repeat(_postgres_steps.together(steps), calls)
            except KnhkError as error:
                if state_of(error) != OUTRUN:
                    raise
        full = [each.in_full() for each in calls]
        return self._repeat(together(full), full)

    def _repeat(self, request: Request, calls: Sequence[Call | Step]) -> list[KnhkError | None]:
        """Send calls until it is known what became of them."""
        registration = calls[0].registration
        patience = Patience(self._connections.address.timeout)
        attempts = 0
        # What nobody could be told of an earlier one is no doubt of this one.
        self._in_doubt = False
        while True:
            try:
                refusals = self._send(request, registration)
            except KnhkError as error:
                attempts += 1
                state = state_of(error)
                if broke(error):
                    self._connections.suspect()
                    if self._in_doubt:
                        refused = self._settle(patience)
                        if refused is not None:
                            # Why these were refused got lost with the answer.
                            return [self._transact([each])[0] if n in refused else None for n, each in enumerate(calls)]
                    elif attempts > 1:
                        raise
                elif state not in _AGAIN:
                    raise
                elif state == UNKNOWN_WRITER:
                    self._writer = 0
                if attempts >= _ATTEMPTS:
                    raise ConcurrentUpdate(f"other sessions were faster {attempts} times: read it again") from error
            else:
                outcomes: list[KnhkError | None] = [None] * len(calls)
                for number, *refusal in refusals:
                    if outcomes[number] is None:
                        outcomes[number] = calls[number].in_full().refusal(*refusal)
                return outcomes

    def _send(self, request: Request, registration: Sequence[str]) -> Any:
        with self._connections.use() as connection:
            if not self._writer:
                self._writer = _first(connection.execute(self._queries.register))
                self._transaction = 0
            self._transaction += 1
            mine = (self._writer, self._transaction)
            self._in_doubt = True
            if registration:
                values = (*mine, *request.texts, request.last, *registration)
                answer = _first(connection.execute(self._queries.put_specification, values))
            else:
                said = connection.call(self._connections.address.schema, *mine, request)
                answer = () if said == _NOBODY else json.loads(said)
            self._in_doubt = False
            return answer

    def _settle(self, patience: Patience) -> Sequence[int] | None:
        """
        Find out what became of the last transaction, whose answer is lost.

        Returns:
            The callers that it refused; None where it is not stored, and never will be.

        Raises:
            StoreUnavailable: the server stays away.
        """
        mine = (self._writer, self._transaction)
        while True:
            try:
                with self._connections.use() as connection:
                    undone = connection.execute(self._queries.settle, (self._transaction, *mine)).rowcount
                    refused: Sequence[int] | None = None
                    if not undone:
                        refused = _first(connection.execute(self._queries.refused, mine))
            except StoreUnavailable as error:
                self._connections.suspect()
                if not patience.wait():
                    raise StoreUnavailable(
                        f"{self._connections.address.named} went away before it answered, and whether this was written is not known: "
                        "read it again when the server is back"
                    ) from error
            else:
                self._in_doubt = False
                return refused


def _apart(group: Sequence[Caller]) -> Iterator[list[Caller]]:
    """Share a group out into transactions in which nobody changes what another changes or holds; each caller in its order."""
    if len(group) == 1:
        yield list(group)
        return
    waiting = list(group)
    while waiting:
        now: list[Caller] = []
        later: list[Caller] = []
        changed: set[tuple[str, ...]] = set()
        held: set[tuple[str, ...]] = set()
        for each in waiting:
            call: Call | Step = each.prepared
            free = changed.isdisjoint(call.writes) and changed.isdisjoint(call.reads) and held.isdisjoint(call.writes)
            free = free and not (now and (call.registration or now[0].prepared.registration))
            (now if free else later).append(each)
            changed |= call.writes
            held |= call.reads
        yield now
        waiting = later


def _is_of_one(error: KnhkError) -> bool:
    """Whether a transaction of several may have failed for what one of them asked: a value, a lock, a race."""
    return not isinstance(error, StoreFull | StoreUnavailable) or state_of(error) == _LOCKED


def _first(cursor: Any) -> Any:
    """Return the first column of the first row."""
    return cursor.fetchone()[0]
