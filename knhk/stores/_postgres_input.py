"""What `store_1` of the PostgreSQL store is given: the changes of several callers as one JSON text, and the bytes beside it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import attrs

from knhk.errors import KnhkError, QuarantinedCase, UnknownCase
from knhk.ports import ItemRow
from knhk.stores._changes import Changes, DocumentChange, key_used, outrun
from knhk.stores._offers import is_offer
from knhk.stores._postgres_session import Request
from knhk.stores._postgres_text import inward, outward
from knhk.stores.memory import overtaken, taken_over

dump: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode
"""Say a value as a JSON text."""

_Sections = dict[str, list[dict[str, Any]]]


@attrs.define(eq=False)
class Call:
    """
    One caller's changes, and how they are told.

    Args:
        changes: what it wants.
        sections: the same as rows of each section; those that may be refused have their place in it, by which they are named.
        blobs: the bytes that rows point at.
        writes, reads: the names that it changes, and those that it holds; whoever has one in common with another's `writes`
            does not share its transaction.
        registration: id, version, content hash and text of a specification that it stores; such a caller has a transaction of
            its own.
    """

    changes: Changes
    sections: _Sections
    blobs: list[bytes]
    writes: frozenset[tuple[str, ...]]
    reads: frozenset[tuple[str, ...]]
    registration: Sequence[str] = ()

    def in_full(self) -> Call:
        """Return itself."""
        return self

    def refusal(self, section: str, place: int, version: int | None = None, reason: str | None = None) -> KnhkError:
        """Return what a caller is told whom `store_1` refused for a row of his."""
        if section == "keys":
            return key_used(list(self.changes.keys)[place])
        if section == "held":
            return taken_over(list(self.changes.held.values())[place])
        if section == "documents":
            change = list(self.changes.documents.values())[place]
            return overtaken(change.first, change.expected)
        case_id, case = list(self.changes.cases.items())[place]
        if reason is not None:
            return QuarantinedCase(f"case {case_id!r} is set aside: {outward(reason)}")
        if version is None:
            return UnknownCase(f"case {case_id!r} is not in the store")
        return outrun(case_id, version, case.expected)


def tell(changes: Changes, spec_row: Callable[[str, str], int]) -> Call:
    """
    Return a caller's changes as rows.

    Args:
        changes: what it wants.
        spec_row: gives the row of a registered specification; raises UnknownSpecification.
    """
    sections: _Sections = {}
    blobs: list[bytes] = []
    writes: list[tuple[str, ...]] = [("case", each) for each in changes.cases]
    _tell_cases(changes, spec_row, sections, blobs)
    if changes.keys:
        sections["keys"] = [
            {"place": place, "key": inward(key), "digest": inward(digest), "case_id": inward(case_id)}
            for place, (key, (case_id, digest)) in enumerate(changes.keys.items())
        ]
        writes += [("key", each) for each in changes.keys]
    if changes.documents:
        sections["documents"] = [_document(place, *each) for place, each in enumerate(changes.documents.items())]
        writes += [("document", *each) for each in changes.documents]
    if changes.held:
        sections["held"] = [
            {"place": place, "collection": inward(each[0]), "key": inward(each[1]), "version": document.version}
            for place, (each, document) in enumerate(changes.held.items())
        ]
    return Call(changes, sections, blobs, frozenset(writes), frozenset(("document", *each) for each in changes.held))


def together(calls: Sequence[Call]) -> Request:
    """Return the request that stores these callers in one transaction; their numbers are their places here."""
    blobs: list[bytes] = []
    merged: _Sections = {}
    for number, call in enumerate(calls):
        for name, rows in call.sections.items():
            into = merged.setdefault(name, [])
            for row in rows:
                moved = {"caller": number, **row}
                if "blob" in row:
                    moved["blob"] += len(blobs)
                into.append(moved)
        blobs += call.blobs
    return Request("store_1", (dump(merged),), blobs)


def _tell_cases(changes: Changes, spec_row: Callable[[str, str], int], sections: _Sections, blobs: list[bytes]) -> None:
    for place, (name, change) in enumerate(changes.cases.items()):
        header, case_id = change.header, inward(name)
        row = {
            "place": place,
            "case_id": case_id,
            "expected": change.expected,
            "spec": spec_row(header.spec_id, header.spec_version),
            "state": inward(header.state),
            "version": header.version,
            "due": header.due,
            "runnable": bool(header.runnable),
            "aside": inward(header.quarantined) or None,
            # Arrays begin at 1: the batch of the i-th step is at blob + i.
            "blob": len(blobs),
        }
        sections.setdefault("cases", []).append(row)
        blobs += change.batches
        if change.snapshot is not None:
            state, version = change.snapshot
            blobs.append(state)
            snapshot = {"case_id": case_id, "version": version, "blob": len(blobs)}
            sections.setdefault("snapshots", []).append(snapshot)
        if change.items:
            offer, items = share_out([each for each in change.items.values() if each is not None])
            sections.setdefault("worklist", []).append({"told": items_of(case_id, sorted(change.items), offer, items)})


def share_out(items: Iterable[ItemRow]) -> tuple[ItemRow | None, list[ItemRow]]:
    """Return which of a case's items may stand beside it, and the others by ascending number."""
    ordered = sorted(items, key=_number)
    offer = next(filter(is_offer, ordered), None)
    return offer, [each for each in ordered if each is not offer]


def items_of(case_id: str, numbers: Sequence[int], offer: ItemRow | None, items: Sequence[ItemRow]) -> list[Any]:
    """
    Return what is told of a case's items.

    Args:
        case_id: as it is stored.
        numbers: of all items that are told of, in ascending order.
        offer: the one that may stand beside the case.
        items: the others that are new or have changed.
    """
    place = (None, None) if offer is None else (offer.number, inward(offer.path))
    return [case_id, numbers, *place, [_row(each) for each in items]]


def _row(item: ItemRow) -> list[Any]:
    return [
        item.number,
        inward(item.path),
        inward(item.state),
        inward(item.by),
        json.dumps(item.roles) if item.roles else "",
        inward(item.topic),
        json.dumps(item.audience) if item.audience else "",
        json.dumps(dict(item.details), separators=(",", ":")) if item.details else "",
        [inward(each) for each in dict.fromkeys(item.audience)],
    ]


def _number(item: ItemRow) -> int:
    return item.number


def _document(place: int, name: tuple[str, str], change: DocumentChange) -> dict[str, Any]:
    row: dict[str, Any] = {
        "place": place,
        "collection": inward(name[0]),
        "key": inward(name[1]),
        "expected": change.expected,
    }
    if change.after is not None:
        row |= {"value": inward(change.after.value), "due": change.after.due, "version": change.after.version}
    return row
