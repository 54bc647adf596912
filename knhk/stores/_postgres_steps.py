"""
What `store_2` of the PostgreSQL store is given: one plain step of each caller, a row of JSON for each.

Nearly all that is committed are plain steps: one step of a case that is there, and no key and no document with it.
They need none of what `knhk.stores._postgres_input` says of the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs

from knhk.ports import Commit
from knhk.stores._changes import fold
from knhk.stores._postgres_input import Call, dump, item_row, tell
from knhk.stores._postgres_text import inward
from knhk.stores.memory import refuse_malformed

SpecRow = Callable[[str, str], int]


@attrs.define(eq=False)
class Step:
    """
    A caller's plain step.

    Args:
        commit: it.
        told: its row, a JSON text.
        writes, reads: as `Call` has them.
        spec_row: gives the row of a registered specification.
    """

    commit: Commit
    told: str
    writes: frozenset[tuple[str, ...]]
    spec_row: SpecRow
    reads: frozenset[tuple[str, ...]] = frozenset()
    registration: Sequence[str] = ()

    def in_full(self) -> Call:
        """Return it as `store_1` is told of it."""
        return tell(fold([self.commit]), self.spec_row)


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
    besides = commit.idempotency or commit.documents or commit.removed or commit.held or header.quarantined
    if besides or not commit.expected:
        return None
    refuse_malformed(commit)
    rows = {each.number: item_row(each) for each in commit.items}
    rows.update((number, [number]) for number in commit.closed_items)
    spec = spec_row(header.spec_id, header.spec_version)
    snapshot = commit.snapshot is not None
    told = dump(
        [
            inward(header.case_id),
            commit.expected,
            spec,
            inward(header.state),
            header.due,
            bool(header.runnable),
            snapshot,
            list(rows.values()),
        ]
    )
    return Step(commit, told, frozenset({("case", header.case_id)}), spec_row)


def together(steps: Sequence[Step]) -> tuple[str, list[bytes]]:
    """Return the input of one transaction for these steps: their rows, and their batches with the snapshots behind them."""
    # Rows of cases are locked in the order of their names.
    ordered = sorted(steps, key=_name) if len(steps) > 1 else steps
    blobs = [each.commit.batch for each in ordered]
    blobs += [each.commit.snapshot for each in ordered if each.commit.snapshot is not None]
    return f"[{','.join([each.told for each in ordered])}]", blobs


def _name(step: Step) -> str:
    return step.commit.header.case_id
