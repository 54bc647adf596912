"""Finding cases by what an event says: an index of the keys under which they listen.

A trigger whose `correlate` is an equation of the case's data alone with the event's alone (``data.order_id == event.order_id``)
has a key in each case that listens: the value of its side over the data.
The keys of a case are documents, written and removed in the commits that change them, so the index is always what is so.
A commit of a case of such a specification costs one more read of the store, and a write where keys change.
"""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any, Final
from urllib.parse import quote

from knhk._case_state import CaseState
from knhk.errors import DataError
from knhk.ports import Document, Store

KEYS: Final = "event-cases"
"""The collection of the index: by event, key and case."""

KEYS_OF_CASES: Final = "event-keys-of-cases"
"""The collection that knows which keys each case has, for their removal."""


def key_of(value: object) -> str | None:
    """Return a short text that is the same for values that CEL calls equal; None for one that equals nothing."""
    try:
        text = json.dumps(_canonical(value), sort_keys=True, allow_nan=False, separators=(",", ":"))
    except ValueError:
        return None
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def under(event: str, key: str) -> str:
    """Return what the documents of the cases that listen to an event under a key begin with."""
    return f"{quote(event, safe='')}/{key}/"


def reindex(store: Store, case_id: str, state: CaseState) -> tuple[tuple[Document, ...], tuple[Document, ...]]:
    """Return what has to be written and removed, so that a case is found under the keys that it has now."""
    known = store.document(KEYS_OF_CASES, case_id)
    before: list[str] = [] if known is None else json.loads(known.value)
    after = sorted(_keys(state))
    if before == after:
        return (), ()
    name = quote(case_id, safe="")
    written = [_entry(each, name) for each in after if each not in before]
    removed = [_entry(each, name) for each in before if each not in after]
    if known is not None and not after:
        removed.append(known)
    else:
        version = 1 if known is None else known.version + 1
        written.append(Document(collection=KEYS_OF_CASES, key=case_id, value=json.dumps(after), version=version))
    return tuple(written), tuple(removed)


def _entry(prefix: str, name: str) -> Document:
    return Document(collection=KEYS, key=prefix + name, value="")


def _keys(state: CaseState) -> set[str]:
    found = set()
    for net in state.nets.values():
        for event, task in net.plan.listeners.items():
            sides = net.plan.plans[task].key
            if sides is None:
                continue
            try:
                key = key_of(sides[0].evaluate({"data": state.data}))
            except DataError:
                # As long as the data lack it, no event is meant for the case.
                continue
            if key is not None:
                found.add(under(event, key))
    return found


def _canonical(value: object) -> Any:
    """A number that is whole is an int, whether it is written with a point or not."""
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: _canonical(each) for name, each in value.items()}
    return [_canonical(each) for each in value] if isinstance(value, list) else value
