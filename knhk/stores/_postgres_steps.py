"""
What the PostgreSQL store tells of plain steps, and which function it tells.

Nearly all that is committed are plain steps: one step of a case that is there, or the first of one, with no key, and no document
but one that is held.
They need none of what `knhk.stores._postgres_input` says of the rest.
What a step tells of its items has a place for one that may stand beside its case, see `knhk.stores._postgres_offers`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import attrs

from knhk.ports import Commit, ItemRow
from knhk.stores._changes import fold
from knhk.stores._offers import is_offer
from knhk.stores._postgres_input import Call, dump, items_of, share_out, tell
from knhk.stores._postgres_session import Request
from knhk.stores._postgres_text import inward
from knhk.stores.memory import refuse_malformed

SpecRow = Callable[[str, str], int]
_NOTHING: Final[frozenset[tuple[str, ...]]] = frozenset()


@attrs.define(eq=False)
class Step:
    """
    A caller's plain step.

    Args:
        commit: it.
        spec: the row of its specification.
        gone: the numbers of the items that are closed.
        offer: an item that may stand beside the case.
        items: the other items that are new or have changed, by ascending number.
        writes, reads: as `Call` has them.
        spec_row: gives the row of a registered specification.
    """

    commit: Commit
    spec: int
    gone: Sequence[int]
    offer: ItemRow | None
    items: Sequence[ItemRow]
    writes: frozenset[tuple[str, ...]]
    reads: frozenset[tuple[str, ...]]
    spec_row: SpecRow
    registration: Sequence[str] = ()

    def in_full(self) -> Call:
        """Return it as `store_1` is told of it."""
        return tell(fold([self.commit]), self.spec_row)

    @property
    def moves(self) -> bool:
        """Whether it is a move."""
        return not self.items and len(self.gone) < 2 and self.commit.snapshot is None

    def move(self) -> tuple[str | None, ...]:
        """Return what `store_step_3` is given of it, before its batch."""
        commit, offer = self.commit, self.offer
        header = commit.header
        return (
            inward(header.case_id),
            str(commit.expected),
            str(self.spec),
            inward(header.state),
            None if header.due is None else str(header.due),
            "t" if header.runnable else "f",
            str(self.gone[0]) if self.gone else None,
            None if offer is None else str(offer.number),
            None if offer is None else inward(offer.path),
        )

    def told(self) -> list[Any]:
        """Return its row of what `store_steps_3` is given."""
        commit, header = self.commit, self.commit.header
        numbers = [*self.gone, *(each.number for each in self.items)]
        if self.offer is not None:
            numbers.append(self.offer.number)
        numbers.sort()
        return [
            *items_of(inward(header.case_id), numbers, self.offer, self.items),
            commit.expected,
            self.spec,
            inward(header.state),
            header.due,
            bool(header.runnable),
            commit.snapshot is not None,
        ]


def plain_step(commits: Sequence[Commit], spec_row: SpecRow) -> Step | None:
    """
    Return a caller's commits as a plain step; None where they are not one.

    Args:
        commits: what it stores.
        spec_row: gives the row of a registered specification; raises UnknownSpecification.

    Raises:
        StoreError: a commit contradicts itself.
    """
    if len(commits) != 1:
        return None
    (commit,) = commits
    header = commit.header
    besides = commit.idempotency or commit.documents or commit.removed or header.quarantined
    held = commit.held
    if besides or (held and (len(held) > 1 or held[0].version < 1)):
        return None
    refuse_malformed(commit)
    offer: ItemRow | None = None
    gone: Sequence[int] = commit.closed_items
    items: Sequence[ItemRow] = commit.items
    if len(items) == 1 and items[0].number not in gone and is_offer(items[0]):
        offer, items = items[0], ()
    elif items:
        offer, items = share_out({each.number: each for each in items if each.number not in gone}.values())
    spec = spec_row(header.spec_id, header.spec_version)
    reads = frozenset(("document", each.collection, each.key) for each in held) if held else _NOTHING
    step = Step(commit, spec, gone, offer, items, frozenset({("case", header.case_id)}), reads, spec_row)
    return step if commit.expected or step.moves else None


def together(steps: Sequence[Step]) -> Request:
    """Return the request that stores these steps in one transaction."""
    moves = all(each.moves for each in steps)
    held = _held(steps)
    if moves and len(steps) == 1:
        return Request("store_step_3", steps[0].move(), steps[0].commit.batch, held)
    # Rows of cases are locked in the order of their names.
    ordered = sorted(steps, key=_name)
    blobs = [each.commit.batch for each in ordered]
    if moves:
        return Request("store_moves_3", _columns(each.move() for each in ordered), blobs, held)
    # The snapshots are behind the batches.
    blobs += [each.commit.snapshot for each in ordered if each.commit.snapshot is not None]
    return Request("store_steps_3", (dump([each.told() for each in ordered]),), blobs, held)


def _held(steps: Sequence[Step]) -> Sequence[str]:
    """Return what `hold_3` is given: each document that is held, in the order of their names."""
    held = {(each.collection, each.key, each.version) for step in steps for each in step.commit.held}
    if not held:
        return ()
    return _columns((inward(collection), inward(key), str(version)) for collection, key, version in sorted(held))


def _columns(rows: Iterable[Sequence[str | None]]) -> list[str]:
    """Return rows by columns, each an array as PostgreSQL reads it."""
    return [*map(_array, zip(*rows, strict=True))]


def _array(texts: Sequence[str | None]) -> str:
    """Return an array."""
    if None not in texts:
        listed = '","'.join(texts)  # type: ignore[arg-type]
        if "\\" not in listed and listed.count('"') == 2 * len(texts) - 2:
            return f'{{"{listed}"}}'
    return f"{{{','.join(map(_element, texts))}}}"


def _element(text: str | None) -> str:
    if text is None:
        return "NULL"
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _name(step: Step) -> str:
    return step.commit.header.case_id
