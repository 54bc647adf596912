"""What a case's records say of worklets: which runs in the place of its work, and whose work it runs in the place of itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import attrs

from knhk.workitem import Deputy, ItemEntry, ItemState


@attrs.frozen
class Principal:
    """
    The work in whose place a case runs.

    Args:
        case_id, item: the work item.
        depth: how many cases are above one another so, that of the work being the first.
    """

    case_id: str
    item: int
    depth: int


class DeputyRecords:
    """The part of `knhk._case_state.CaseState` that knows worklets."""

    __slots__ = ()

    items: dict[int, ItemEntry]
    deadlines: dict[int, int]

    def _worklet_called(
        self,
        number: int,
        worklet: str,
        given: dict[str, Any] | None,
        error: dict[str, Any] | None,
        kinds: Sequence[str],
    ) -> None:
        item = self.items[number]
        calls = 1 if item.deputy is None else item.deputy.calls + 1
        item.deputy = Deputy(worklet, calls, given, error, tuple(kinds))
        item.state, item.begun, item.failure = ItemState.REPLACED, False, None
        self.deadlines.pop(number, None)


def dump_deputies(principal: Principal | None, items: Iterable[ItemEntry]) -> dict[str, Any]:
    """Return what is known of worklets as members of a JSON tree; nothing where there are none."""
    deputies = [[i.number, *attrs.astuple(i.deputy, recurse=False)] for i in items if i.deputy is not None]
    tree: dict[str, Any] = {}
    if deputies:
        tree["deputies"] = deputies
    if principal is not None:
        tree["principal"] = list(attrs.astuple(principal))
    return tree


def load_deputies(tree: dict[str, Any], items: dict[int, ItemEntry]) -> Principal | None:
    """Read what `dump_deputies` returned: give the items theirs, and return whose work the case stands in for."""
    for number, worklet, calls, given, error, kinds in tree.get("deputies", ()):
        items[number].deputy = Deputy(worklet, calls, given, error, tuple(kinds))
    return Principal(*tree["principal"]) if "principal" in tree else None
