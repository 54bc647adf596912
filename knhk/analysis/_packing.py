"""One bit a condition: a net's relation as masks, for the explorer on words.

Possible while no weight is above 1 and no partial join remembers a round; whether the net is 1-safe shows in the search.
Bits: the conditions, then one for each task that can run, then one for each that can drain.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import attrs

from knhk._tables import AND, OR, OUTPUT, PARTIAL, XOR
from knhk.analysis._relation import Relation

PLAIN: Final = 0
"""Enabled by its masks alone."""

GATED: Final = 1
"""An OR-join: some bit of `any_of`, and the analysis says so."""

COUNTED: Final = 2
"""A cancelling partial join: at least `required` bits of `any_of`."""


@attrs.frozen(kw_only=True)
class MaskedMove:
    """
    One move on words: ``state & need == need``, ``state & forbid == 0``; then ``state & ~clear | put``.

    Args:
        task: whose move it is.
        begins: whether it starts the task.
        urgent: whether it comes before those that are not.
        kind: `PLAIN`, `GATED` or `COUNTED`.
        need, forbid, clear, put, any_of: masks.
        required: for `COUNTED`.
    """

    task: int
    begins: bool
    urgent: bool
    kind: int
    need: int
    forbid: int
    clear: int
    put: int
    any_of: int = 0
    required: int = 0


@attrs.frozen(kw_only=True)
class Packing:
    """
    A relation on words.

    Args:
        bits: how many bits a state has.
        busy, draining: by task, its bit, or -1.
        moves: in the order of the reference explorer.
        ended_by: a state that has one of these bits has ended; 0 with implicit termination.
        lives_by: with implicit termination, a state that has none of these bits has ended.
        leftover: bits that must not be there in a state that has ended.
    """

    bits: int
    busy: tuple[int, ...]
    draining: tuple[int, ...]
    moves: tuple[MaskedMove, ...]
    ended_by: int
    lives_by: int
    leftover: int


def pack(relation: Relation) -> Packing | None:
    """Return the relation on words, or None where one bit a condition is not enough."""
    tables = relation.tables
    for entry in tables.table:
        arcs = (*entry.inputs, *entry.outputs)
        if any(weight > 1 for _, weight in arcs) or (entry.join == PARTIAL and not entry.join_cancels):
            return None
        if len(set(entry.outputs)) < len(entry.outputs) or len(set(entry.inputs)) < len(entry.inputs):
            return None
    return _Packer(relation).packing()


def _mask(bits: Iterable[int]) -> int:
    return sum(1 << bit for bit in set(bits) if bit >= 0)


class _Packer:
    """Lays out the bits and writes the masks."""

    def __init__(self, relation: Relation) -> None:
        self.relation = relation
        self.tables = relation.tables
        self.bits = len(self.tables.conditions)
        entries = enumerate(self.tables.table)
        self.busy = tuple(-1 if t in relation.fused or entry.detached else self._bit() for t, entry in entries)
        self.draining = tuple(self._bit() if t in relation.draining else -1 for t in range(len(self.tables.table)))

    def _bit(self) -> int:
        self.bits += 1
        return self.bits - 1

    def packing(self) -> Packing:
        """Return all of it."""
        conditions = range(len(self.tables.conditions))
        running = _mask((*self.busy, *self.draining))
        live = _mask(c for c in conditions if not self.tables.sinks[c]) | running
        implicit = self.tables.implicit
        return Packing(
            bits=self.bits,
            busy=self.busy,
            draining=self.draining,
            moves=tuple(move for task in range(len(self.tables.table)) for move in self._moves(task)),
            ended_by=0 if implicit else 1 << OUTPUT,
            lives_by=live if implicit else 0,
            leftover=0 if implicit else _mask(c for c in conditions if c != OUTPUT) | _mask(self.busy),
        )

    def _moves(self, task: int) -> Iterator[MaskedMove]:
        yield from self._starts(task)
        if self.busy[task] < 0:
            return
        running = 1 << self.busy[task]
        cancelled = self._cancelled(task)
        urgent = task in self.relation.urgent_completions
        for leaves in (0, 1 << self.draining[task]) if self.draining[task] >= 0 else (0,):
            for put in self._puts(task):
                yield MaskedMove(
                    task=task,
                    begins=False,
                    urgent=urgent,
                    kind=PLAIN,
                    need=running,
                    forbid=0,
                    clear=running | cancelled,
                    put=put | leaves,
                )
        if self.draining[task] >= 0:
            drain = 1 << self.draining[task]
            yield MaskedMove(
                task=task, begins=False, urgent=False, kind=PLAIN, need=drain, forbid=0, clear=drain, put=0
            )

    def _starts(self, task: int) -> Iterator[MaskedMove]:
        entry = self.tables.table[task]
        inputs = [1 << condition for condition, _ in entry.inputs]
        every = sum(inputs)
        reads = _mask(entry.reads)
        urgent = task in self.relation.urgent_starts
        at_once = self.busy[task] < 0
        clear = self._cancelled(task) if at_once else 0
        if entry.join_cancels:
            clear |= _mask(entry.join_cancels_conditions) | self._running(task, entry.join_cancels_tasks)
        idle = _mask((self.busy[task], self.draining[task]))
        for put in self._puts(task) if at_once else (1 << self.busy[task],):
            if entry.join == XOR:
                for position, bit in enumerate(inputs):
                    yield MaskedMove(
                        task=task,
                        begins=True,
                        urgent=urgent,
                        kind=PLAIN,
                        need=bit | reads,
                        forbid=idle | sum(inputs[:position]),
                        clear=bit | clear,
                        put=put,
                    )
                continue
            yield MaskedMove(
                task=task,
                begins=True,
                urgent=urgent,
                kind={AND: PLAIN, OR: GATED, PARTIAL: COUNTED}[entry.join],
                need=reads | (every if entry.join == AND else 0),
                forbid=idle,
                clear=every | clear,
                put=put,
                any_of=0 if entry.join == AND else every,
                required=entry.required,
            )

    def _puts(self, task: int) -> Iterator[int]:
        outputs = self.tables.table[task].outputs
        for chosen in self.relation.choices[task]:
            yield _mask(outputs[position][0] for position in chosen)

    def _cancelled(self, task: int) -> int:
        entry = self.tables.table[task]
        return _mask(entry.cancels_conditions) | self._running(task, entry.cancels_tasks)

    def _running(self, keep: int, tasks: Iterable[int]) -> int:
        return _mask(bit for task in tasks if task != keep for bit in (self.busy[task], self.draining[task]))
