"""A worklist row as one value, for stores that have its case and number in its key."""

from __future__ import annotations

import json

from knhk.ports import ItemRow
from knhk.stores._ordered import read_number, read_text


def encode_row(item: ItemRow) -> bytes:
    """Return a row as bytes, without its case and number."""
    row = [item.path, item.state, item.by, item.roles, item.topic, item.audience, dict(item.details)]
    return json.dumps(row, separators=(",", ":")).encode()


def decode_row(case_and_number: bytes, value: bytes) -> ItemRow:
    """Return the row whose key ends so: `text_key` of the case, `number_key` of the number (`knhk.stores._ordered`)."""
    case_id, number = read_text(case_and_number)
    path, state, by, roles, topic, audience, details = json.loads(value)
    return ItemRow(
        case_id=case_id,
        number=read_number(number),
        path=path,
        state=state,
        by=by,
        roles=tuple(roles),
        topic=topic,
        audience=tuple(audience),
        details=details,
    )
