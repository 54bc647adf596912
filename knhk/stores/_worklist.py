"""Work items in SQLite: how they are asked for; steps write them, see `knhk.stores._steps`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from knhk._lower import ANYONE
from knhk.ports import ItemRow
from knhk.stores._offers import OFFERED, OPEN_TO_ANYONE

_SELECT: Final = "SELECT case_id, number, path, state, by, roles, topic, audience, details FROM worklist WHERE"
# What stands beside its case has no more to tell.
_OFFERS: Final = f"""
    SELECT case_id, offer_number AS number, offer_path AS path, '{OFFERED}' AS state, '' AS by, '' AS roles, '' AS topic,
        '{OPEN_TO_ANYONE}' AS audience, '' AS details FROM cases WHERE offering
"""  # noqa: S608 - constants
OF_CASE: Final = f"{_OFFERS} AND case_id = ?1 UNION ALL {_SELECT} case_id = ?1 ORDER BY number"
_BY_AUDIENCE: Final = (
    "SELECT * FROM (SELECT case_id, number, path, state, by, roles, topic, audience, details FROM"
    " (SELECT case_id AS c, number AS n FROM audiences WHERE audience = ? AND (case_id, number) > (?, ?)) CROSS JOIN worklist"
    " ON (case_id, number) = (c, n) WHERE "
)
_BY_INDEX: Final = " ORDER BY c, n LIMIT ?)"
_MOST_PARTS: Final = 200
"""How many words of an audience have a query each; of more the whole list is read."""
_IN_AUDIENCE: Final = "(case_id, number) IN (SELECT case_id, number FROM audiences WHERE audience IN"
_NOT_ASIDE: Final = "case_id NOT IN (SELECT cases.case_id FROM cases WHERE quarantined IS NOT NULL)"
_ORDER: Final = " ORDER BY case_id, number LIMIT ?"
_OFFERS_BEHIND: Final = f"{_OFFERS} AND quarantined IS NULL AND case_id >= ? AND (case_id, offer_number) > (?, ?)"


def find_items(
    *,
    case_id: str | None,
    state: str | None,
    by: str | None,
    topics: Sequence[str] | None,
    audience: Sequence[str] | None,
    after: tuple[str, int],
    limit: int,
) -> tuple[str, tuple[Any, ...]]:
    """Return the query for a page of the worklist, and its values; only what is asked for is in it, for the indexes' sake."""
    where, values = ["(case_id, number) > (?, ?)"], list[Any](after)
    if case_id is not None:
        where.append("case_id = ?")
        values.append(case_id)
    if state is not None:
        where.append("state = 'failed'" if state == "failed" else "state = ?")
        values += [] if state == "failed" else [state]
    if by is not None:
        where.append("by = ? AND by <> ''" if by else "by = ?")
        values.append(by)
    if topics is not None:
        where.append(f"topic <> '' AND topic IN ({_marks(topics)})")
        values += topics
    where.append(_NOT_ASIDE)
    offers, offer_values = _OFFERS_BEHIND, [after[0], *after]
    if case_id is not None:
        offers += " AND case_id = ?"
        offer_values.append(case_id)
    with_offers = state in {None, OFFERED} and not by and topics is None and (audience is None or ANYONE in audience)
    if audience is not None and 0 < len(audience) <= _MOST_PARTS:
        # Each word of the audience has its page by the index, so that what is beyond the page is not looked at.
        parts = [_BY_AUDIENCE + " AND ".join(where) + _BY_INDEX] * len(audience)
        each_values = [value for each in audience for value in (each, *after, *values, limit)]
        if with_offers:
            parts.append(f"SELECT * FROM ({offers} ORDER BY case_id LIMIT ?)")  # noqa: S608 - constants
            each_values += (*offer_values, limit)
        return " UNION ".join(parts) + _ORDER, (*each_values, limit)
    if audience is not None:
        where.append(f"{_IN_AUDIENCE} ({_marks(audience)}) AND (case_id, number) > (?, ?))")
        values += (*audience, *after)
    query = f"{_SELECT} {' AND '.join(where)}{_ORDER}"
    if with_offers:
        return f"{offers} UNION ALL {query}", (*offer_values, *values, limit)
    return query, (*values, limit)


def read_item(row: Sequence[Any]) -> ItemRow:
    """Return a row as a work item."""
    return ItemRow(
        case_id=row[0],
        number=row[1],
        path=row[2],
        state=row[3],
        by=row[4],
        roles=_texts(row[5]),
        topic=row[6],
        audience=_texts(row[7]),
        details=json.loads(row[8]) if row[8] else {},
    )


def _texts(text: str) -> tuple[str, ...]:
    return tuple(json.loads(text)) if text else ()


def _marks(values: Sequence[str]) -> str:
    return ", ".join("?" * len(values))
