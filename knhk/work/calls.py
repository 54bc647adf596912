"""What a commit says of worklets to whoever drives them: documents, written in the transaction of the step.

The case of a worklet has a name that follows from the work that it replaces, so it cannot come up twice.
There are three kinds of documents, all due at once, by the name of that case: that it is to be launched, that it is to be
cancelled, and that it is to be looked at, because it has ended or because the case of the work can take its result again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from knhk._codes import Phase
from knhk.case import Case
from knhk.ports import CaseHeader, Document
from knhk.workitem import ItemEntry, ItemState, worklet_suffix

WORKLETS: Final = "worklets"
"""The collection of these documents."""

LAUNCH: Final = "launch"
CANCEL: Final = "cancel"
LOOK: Final = "look"

_HELD: Final = frozenset({Phase.SUSPENDED.value, Phase.COMPENSATING.value})
_ENDED: Final = frozenset({Phase.COMPLETED, Phase.CANCELLED, Phase.FAILED, Phase.DEADLOCKED})


def worklet_id(case_id: str, item: ItemEntry) -> str:
    """Return the id of the case of the worklet in an item's place: the first, or a later one."""
    calls = 0 if item.deputy is None else item.deputy.calls
    return case_id + worklet_suffix(item.number, calls)


def open_worklets(case_id: str, case: Case) -> dict[int, str]:
    """Return the ids of the cases that run in the place of a case's work, by item."""
    items = case.state.items.values()
    return {item.number: worklet_id(case_id, item) for item in items if item.state is ItemState.REPLACED}


def calls_of(before: CaseHeader, case: Case, known: Mapping[int, str], version: int, now: int) -> list[Document]:
    """
    Return what a commit says of worklets.

    Args:
        before: the header of the case before it.
        case: after it.
        known: the worklets that were open before it.
        version: the case's version after it.
        now: milliseconds since the epoch.
    """
    state = case.state
    found = open_worklets(before.case_id, case)
    how = {} if case.compensates else {"compensate": False}
    documents = [_document(child, CANCEL, how, now) for number, child in known.items() if found.get(number) != child]
    for number, child in found.items():
        if known.get(number) != child:
            documents.append(_document(child, LAUNCH, _order(before.case_id, case, state.items[number]), now))
        elif state.phase is Phase.RUNNING and before.state in _HELD:
            told = {"case": before.case_id, "item": number}
            documents.append(_document(child, LOOK, told, now, suffix=f"-{before.case_id}-{version}"))
    principal = state.principal
    if principal is not None and state.phase in _ENDED and state.phase.value != before.state:
        told = {"case": principal.case_id, "item": principal.item}
        documents.append(_document(before.case_id, LOOK, told, now, suffix=f"-{version}"))
    return documents


def _order(case_id: str, case: Case, item: ItemEntry) -> dict[str, Any]:
    deputy, principal = item.deputy, case.state.principal
    if deputy is None:
        return {}
    return {
        "case": case_id,
        "item": item.number,
        "worklet": deputy.worklet,
        "depth": 1 + (0 if principal is None else principal.depth),
        "data": case.state.data if deputy.given is None else deputy.given,
        "error": deputy.error,
    }


def _document(child: str, order: str, told: Mapping[str, Any], now: int, *, suffix: str = "") -> Document:
    value = json.dumps({"do": order, **told}, ensure_ascii=False)
    return Document(collection=WORKLETS, key=f"{child}/{order}{suffix}", value=value, due=now)
