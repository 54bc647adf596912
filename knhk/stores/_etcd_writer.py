"""
How plans are written to etcd: those of callers that wait at the same time in one request, and each whole or not at all.

A request is a transaction whose guard is the key of this writer, which each of its requests changes.
So one whose answer was lost may be sent again: either it is made now, or the writer's key says that it was made, and of several
plans each has left its mark; and a request from before the last is made no more, whatever still travels to the server.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Sequence
from typing import Final

from knhk.errors import KnhkError, StoreError, StoreFull
from knhk.stores import _etcd_messages as messages
from knhk.stores._etcd_layout import Keys, behind
from knhk.stores._etcd_link import LeaseForgotten, Link
from knhk.stores._etcd_messages import GRANT, TRANSACTION, api
from knhk.stores._etcd_plan import Plan
from knhk.stores._group import Caller, settle
from knhk.stores._lost import until_answered

KEPT: Final = 24 * 60 * 60
"""Seconds for which a writer's last request is known."""

MOST_BYTES: Final = 1_200_000
"""Bytes of a request; etcd takes 1.5 MiB unless its ``--max-request-bytes`` says otherwise."""

_SHARED_BYTES: Final = 600_000


class Overtaken(StoreError):
    """A guard of a plan does not hold any more: it has to be made again."""


class Writer:
    """
    Writes plans, one request at a time.

    Args:
        connection: to the cluster.
        keys: of the namespace.
    """

    def __init__(self, connection: Link, keys: Keys) -> None:
        self._link = connection
        self._keys = keys
        self._name = secrets.token_hex(8)
        self._key = keys.key("w", self._name)
        self._number = 0
        self._revision = 0
        self._lease = 0
        self._leased = 0.0
        most = connection.address.operations
        # So many plans beside the writer's own mark leave each of them two thirds of the operations.
        self._together = max(1, most // 3 - 1)
        self._small = most - self._together - 1

    def write(self, group: Sequence[Caller]) -> None:
        """Write the plans of a group; who is overtaken has it as his error."""
        waiting = list(group)
        while waiting:
            first, waiting = self._take(waiting)
            self._write(first)

    def _take(self, waiting: Sequence[Caller]) -> tuple[list[Caller], list[Caller]]:
        """Return callers whose plans have nothing to do with each other and fit in one request, and the others."""
        taken: list[Caller] = []
        left: list[Caller] = []
        seen: set[bytes] = set()
        changed: set[bytes] = set()
        size = 0
        for caller in waiting:
            plan: Plan = caller.prepared
            small = max(len(plan.guards) + len(plan.loose), len(plan.changes) + len(plan.loose) + 1) <= self._small
            apart = (
                changed.isdisjoint(plan.guards) and changed.isdisjoint(plan.changes) and seen.isdisjoint(plan.changes)
            )
            fits = small and apart and len(taken) < self._together and size + plan.body.ByteSize() < _SHARED_BYTES
            if fits or not taken:
                taken.append(caller)
                seen |= plan.guards.keys()
                changed |= plan.changes.keys()
                # Whoever is too large for company is alone.
                size += plan.body.ByteSize() if small else _SHARED_BYTES
            else:
                left.append(caller)
        return taken, left

    def _write(self, callers: Sequence[Caller]) -> None:
        plans: list[Plan] = [each.prepared for each in callers]
        self._number += 1
        try:
            stored = until_answered(lambda: self._send(plans), timeout=self._link.timeout)
        except KnhkError:
            raise
        except BaseException:
            # Interrupted: what became of it has to be known all the same.
            self._tell(callers, until_answered(lambda: self._send(plans), timeout=self._link.timeout))
            raise
        self._tell(callers, stored)

    def _tell(self, callers: Sequence[Caller], stored: Sequence[bool]) -> None:
        for caller, done in zip(callers, stored, strict=True):
            if not done:
                caller.error = Overtaken("what a step depends on has changed meanwhile")
            else:
                caller.prepared.revision = self._revision
        settle(callers)

    def _send(self, plans: Sequence[Plan]) -> list[bool]:
        """Send a request until it was made or refused; returns of each plan whether it was made."""
        while True:
            self._renew()
            try:
                answer = self._link.tell(TRANSACTION, self._alone(plans[0]) if len(plans) == 1 else self._shared(plans))
            except LeaseForgotten:
                self._lease = 0
                continue
            except StoreFull:
                # The request with which etcd becomes full is made, and refused in words only.
                marks = messages.read(self._key, behind(self._key))
                seen = self._link.ask(TRANSACTION, messages.transaction((), [marks]))
                made = self._made(plans, seen.responses[0].response_range.kvs)
                if made is None:
                    raise
                return made
            if answer.succeeded:
                self._revision = answer.header.revision
                if len(plans) == 1:
                    return [True]
                return [each.response_txn.succeeded for each in answer.responses[1:]]
            found = answer.responses[0].response_range.kvs
            made = self._made(plans, found)
            if made is not None:
                return made
            actual = next((pair.mod_revision for pair in found if pair.key == self._key), 0)
            if actual == self._revision:
                return [False] * len(plans)
            # One before this was made after all, or the key is gone with its lease.
            self._revision = actual

    def _made(self, plans: Sequence[Plan], marks: Iterable[api.KeyValue]) -> list[bool] | None:
        """Return of each plan whether it was made, where this request was and its answer did not say so; None: it was not."""
        revisions = {pair.key: pair.mod_revision for pair in marks if pair.value == self._mark}
        if self._key not in revisions:
            return None
        self._revision = revisions[self._key]
        return [len(plans) == 1 or self._place(number) in revisions for number in range(len(plans))]

    @property
    def _mark(self) -> bytes:
        return b"%d" % self._number

    def _place(self, number: int) -> bytes:
        return self._keys.key("w", self._name, str(number))

    def _alone(self, plan: Plan) -> api.TxnRequest:
        """Return the request of one plan, however many operations it has."""
        size = plan.body.ByteSize()
        if size > MOST_BYTES:
            raise StoreError(
                f"a step of {size:,} bytes beside its large values is too large for "
                f"{self._link.address.shown}, which takes {MOST_BYTES:,} at a time: commit fewer cases together"
            )
        most = self._link.address.operations
        own, mark = messages.unchanged(self._key, self._revision), messages.put(self._key, self._mark, self._lease)
        marks = messages.read(self._key)
        changes, guards = len(plan.changes) + len(plan.loose), len(plan.guards) + len(plan.loose)
        if changes < most and guards < most:
            made = messages.transaction([own], [mark], [marks])
            made.MergeFrom(plan.body)
            return made
        flat = changes < most
        conditions = [own, *self._conditions(plan, most - 1 if flat else most // 2 - 1)]
        if flat:
            return messages.transaction(conditions, [mark, *plan.operations], [marks])
        wide = max(len(conditions), most // 2)
        operations = [mark, *messages.folded(plan.operations, wide - 1, most - wide)]
        return messages.transaction(conditions, operations, [marks])

    def _conditions(self, plan: Plan, most: int) -> list[api.Compare]:
        """Return the conditions of a plan; where there are more than fit, each stands for a range of keys."""
        keys = sorted(plan.guards)
        most -= len(plan.loose)
        if len(keys) <= most or plan.revision is None or most < 1:
            return plan.conditions
        size = -(-len(keys) // most)
        runs = (keys[at : at + size] for at in range(0, len(keys), size))
        loose = (messages.unchanged(key, revision) for key, revision in plan.loose.items())
        return [*loose, *(messages.unchanged_since(run[0], run[-1] + b"\0", plan.revision) for run in runs)]

    def _shared(self, plans: Sequence[Plan]) -> api.TxnRequest:
        operations = [messages.put(self._key, self._mark, self._lease)]
        for number, plan in enumerate(plans):
            made = messages.nested(plan.body)
            made.request_txn.success.append(messages.put(self._place(number), self._mark, self._lease))
            operations.append(made)
        marks = messages.read(self._key, behind(self._key))
        return messages.transaction([messages.unchanged(self._key, self._revision)], operations, [marks])

    def _renew(self) -> None:
        """Have a lease that lasts, so that what this process leaves behind goes when it is gone for long."""
        now = time.monotonic()
        if not self._lease or now - self._leased > KEPT / 2:
            self._lease = self._link.ask(GRANT, api.LeaseGrantRequest(ttl=KEPT)).id
            self._leased = now
