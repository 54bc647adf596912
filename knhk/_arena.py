"""Cases that are in memory and that nobody uses, packed: a few bytes each.

Most cases wait, and where one waits many do.
So what a case is, but for its name, its data and its numbers, is an `Outline`, which all cases that are at the same point
share, and the rest is a row of bytes: which outline, two numbers, and the data as JSON.
An outline is the tree of a snapshot (`CaseState.dump`) without the data, so what a snapshot keeps, a row keeps.

There is an `Arena` for each specification version, which knows the outlines of its cases; `Rows` are the rows of all.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from itertools import islice
from typing import Any, Final

from knhk._case_state import CaseState
from knhk._codes import Code, Phase
from knhk._schema import Check
from knhk.case import Case
from knhk.journal import json_bytes
from knhk.ports import CaseHeader

MOST_OUTLINES: Final = 4_096
"""Outlines of one specification version that are shared; where a case is at yet another point, its row has the outline too."""

_HEAD: Final = struct.Struct("<III")
# The number of the outline, the case's version, and its records since the last snapshot.
_LENGTH: Final = struct.Struct("<I")


class Outline:
    """
    All that a case is but its name, its data and its numbers.

    Attributes:
        arena: of the specification version.
        phase, state: where the case is in its life, and the same by name.
        text: the tree as JSON; "" stands for outlines that the rows have themselves.
        number: its place in the table of `Rows`, while `rows` are there that have it; else -1.
    """

    __slots__ = ("arena", "number", "phase", "rows", "state", "text")

    def __init__(self, arena: Arena, phase: Phase, text: bytes) -> None:
        self.arena = arena
        self.phase = phase
        self.state: str = phase.value
        self.text = text
        self.number = -1
        self.rows = 0

    def case(self, data: dict[str, Any]) -> Case:
        """Return a case that is here with these data, which it will not change."""
        case = self.arena.make()
        if self is self.arena.created:
            case.replay(None, ((Code.CREATED, data),))
        else:
            case.replay({**json.loads(self.text), "data": data}, ())
        return case


class Arena:
    """
    The outlines of a specification version's cases.

    Args:
        make: returns an empty case of it.
        spec_id, version: which one it is.
        express: what an express needs to know of its net, or None.
        check: of the data, where it has a schema.

    Attributes:
        created, completed: where every case begins, and where most end.
    """

    __slots__ = ("_ended", "_shared", "check", "completed", "created", "express", "loose", "make", "spec_id", "version")

    def __init__(
        self, make: Callable[[], Case], *, spec_id: str, version: str, express: Any, check: Check | None
    ) -> None:
        self.make = make
        self.check = check
        self.spec_id = spec_id
        self.version = version
        self.express = express
        self.loose = Outline(self, Phase.RUNNING, b"")
        state = make().state
        self.created = Outline(self, Phase.CREATED, _outline_text(state))
        state.phase = Phase.COMPLETED
        self.completed = Outline(self, Phase.COMPLETED, _outline_text(state))
        self._ended = state.dump()
        self._shared = {each.text: each for each in (self.created, self.completed)}

    def end(self, data: dict[str, Any], next_item: int) -> dict[str, Any]:
        """
        Return the snapshot of a case that has completed and of which nothing is left, as `Case.snapshot` gives it.

        Args:
            data: its data.
            next_item: the number that its next work item would have had.
        """
        return {**self._ended, "data": data, "next": [1, next_item]}

    def outline(self, state: CaseState) -> Outline:
        """Return where a case is."""
        return Outline(self, state.phase, _outline_text(state))

    def share(self, outline: Outline) -> Outline | None:
        """Return the outline that rows refer to for this one; None where they have to have it themselves."""
        shared = self._shared.get(outline.text)
        if shared is None and len(self._shared) < MOST_OUTLINES:
            shared = self._shared[outline.text] = outline
        return shared

    def drop(self, outline: Outline) -> None:
        """Forget a shared outline that no row has any more."""
        if outline is not self.created and outline is not self.completed:
            self._shared.pop(outline.text, None)


Still = tuple[Outline, dict[str, Any], CaseHeader, int]
"""
A case that stands still, as a row has it: where it is, its data, its header, and its records since the last snapshot.

The header is its last one, but for what is due and whether work waits, which a row does not say.
(A plain tuple: every new case is one, and one with names costs six times as much to make.)
"""


class Rows:
    """
    The rows of all packed cases; its owner has the lock.

    Attributes:
        table: the rows by what stands for the case id, the one that was used longest ago first.
    """

    __slots__ = ("_free", "_outlines", "table")

    def __init__(self) -> None:
        self.table: dict[str | bytes, bytes] = {}
        self._outlines: list[Outline | None] = []
        self._free: list[int] = []

    def __len__(self) -> int:
        return len(self.table)

    def add(self, still: Still) -> None:
        """Keep a case that is not here yet."""
        own, data, header, since_snapshot = still
        content = json_bytes(data)
        outline = own.arena.share(own)
        if outline is None:
            content = b"".join((_LENGTH.pack(len(own.text)), own.text, content))
            outline = own.arena.loose
        if outline.number < 0:
            if not self._free:
                self._free.append(len(self._outlines))
                self._outlines.append(None)
            outline.number = self._free.pop()
            self._outlines[outline.number] = outline
        row = _HEAD.pack(outline.number, header.version, since_snapshot) + content
        outline.rows += 1
        self.table[_key(header.case_id)] = row

    def take(self, case_id: str) -> Still | None:
        """Give a case out, which is no row any more; None where it is none."""
        row = self.table.pop(_key(case_id), None)
        if row is None:
            return None
        number, version, since_snapshot = _HEAD.unpack_from(row)
        outline = self._release(number)
        arena = outline.arena
        begin = _HEAD.size
        if outline is arena.loose:
            begin += _LENGTH.size
            end = begin + _LENGTH.unpack_from(row, _HEAD.size)[0]
            text = row[begin:end]
            outline = Outline(arena, Phase(json.loads(text)["phase"]), text)
            begin = end
        header = CaseHeader(
            case_id=case_id,
            spec_id=arena.spec_id,
            spec_version=arena.version,
            state=outline.state,
            version=version,
        )
        return outline, json.loads(row[begin:]), header, since_snapshot

    def drop(self, case_id: str) -> None:
        """Forget a case."""
        row = self.table.pop(_key(case_id), None)
        if row is not None:
            self._release(_HEAD.unpack_from(row)[0])

    def drop_oldest(self, count: int) -> None:
        """Forget the cases that came first."""
        for key in tuple(islice(self.table, count)):
            self._release(_HEAD.unpack_from(self.table.pop(key))[0])

    def _release(self, number: int) -> Outline:
        outline = self._outlines[number]
        if outline is None:
            raise LookupError(number)
        outline.rows -= 1
        if not outline.rows:
            self._outlines[number] = None
            self._free.append(number)
            outline.number = -1
            outline.arena.drop(outline)
        return outline


def _key(case_id: str) -> str | bytes:
    """Return what stands for an id in the table: half its size where it is hexadecimal, as an engine's own ids are."""
    try:
        key = bytes.fromhex(case_id)
    except ValueError:
        return case_id
    return key if key.hex() == case_id else case_id


def _outline_text(state: CaseState) -> bytes:
    tree = state.dump()
    del tree["data"]
    return json_bytes(tree)
